//! Who is asking: a user by API key, or an account of Kubernetes by its token.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Gateway;
use super::error::{ApiError, unknown_key};
use super::keys::{ApiKey, PREFIX, opens};
use super::ports::{Account, Caller, GroupRef, Ports, User, UserId};

/// The ports, while this process leads.
pub(super) struct Leading(pub(super) Ports);

/// A request with a user's API key.
pub(super) struct ByUser {
    pub(super) ports: Ports,
    pub(super) user: UserId,
    pub(super) key: ApiKey,
}

/// A request of somebody who may report.
pub(super) struct ByReporter {
    pub(super) ports: Ports,
    who: Who,
}

enum Who {
    User(UserId),
    Account(Arc<Account>),
}

impl FromRequestParts<Gateway> for Leading {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        gateway.ports().map(Self)
    }
}

impl FromRequestParts<Gateway> for ByUser {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let token = bearer(&head.headers)?;
        if looks_like_a_token_of_kubernetes(token) {
            return Err(ApiError::forbidden(
                "NotAUser",
                "an account of Kubernetes may only report: use kubectl for everything else, or an API key",
            ));
        }
        let ports = gateway.ports()?;
        let (user, key) = user(gateway, &ports, token).await?;
        Ok(Self { ports, user, key })
    }
}

impl FromRequestParts<Gateway> for ByReporter {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let token = bearer(&head.headers)?;
        let ports = gateway.ports()?;
        let who = if looks_like_a_token_of_kubernetes(token) {
            Who::Account(account(gateway, &ports, token).await?)
        } else {
            Who::User(user(gateway, &ports, token).await?.0)
        };
        Ok(Self { ports, who })
    }
}

impl ByReporter {
    /// The group of this slug and who reports to it, if they may.
    pub(super) async fn to_group(&self, gateway: &Gateway, slug: &str) -> Result<(GroupRef, Caller), ApiError> {
        match &self.who {
            Who::User(user) => {
                let group = self.ports.groups.reports_to(user, slug).ok_or_else(ApiError::unknown_group)?;
                Ok((group, Caller::User(user.clone())))
            }
            Who::Account(account) => {
                let group = self.ports.groups.object(slug).ok_or_else(ApiError::unknown_group)?;
                let asked = (account.clone(), group.clone());
                let review = self.ports.reviews.may_report(account, &group);
                if gateway.rights.get(&asked, review).await? {
                    Ok((group, Caller::ServiceAccount(Account::clone(account))))
                } else {
                    Err(ApiError::forbidden(
                        "NotAllowed",
                        "this account may not report to the group: give it the verb `report` on its \
                         `servergroups.roadstead.dev` with a Role and a RoleBinding",
                    ))
                }
            }
        }
    }
}

/// The token of the header `Authorization: Bearer …`.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        ApiError::unauthenticated("Unauthenticated", "send the header `Authorization: Bearer <API key>`")
    })?;
    let value = value.to_str().ok().and_then(|value| value.split_once(' '));
    match value {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(ApiError::unauthenticated(
            "Unauthenticated",
            "the header `Authorization` has another form: send `Authorization: Bearer <API key>`",
        )),
    }
}

/// Tokens of Kubernetes are JSON Web Tokens: three parts between dots.
fn looks_like_a_token_of_kubernetes(token: &str) -> bool {
    !token.starts_with(PREFIX) && token.split('.').count() == 3
}

async fn user(gateway: &Gateway, ports: &Ports, token: &str) -> Result<(UserId, ApiKey), ApiError> {
    let key = ApiKey::parse(token)?;
    let handle = key.handle().to_owned();
    let reading = gateway.users.get(&handle, async {
        let found = ports.users.find(&handle).await?;
        Ok(found.map(Arc::new))
    });
    let user: Option<Arc<User>> = reading.await?;
    let keys = user.as_ref().map_or(&[][..], |user| &user.keys);
    if !opens(keys, &key.hash(), Timestamp::now()) {
        return Err(unknown_key());
    }
    let user = user.ok_or_else(unknown_key)?;
    // Only a key that opens is counted, so that nobody uses up another's allowance.
    gateway.limits.key(&handle)?;
    Ok((user.id.clone(), key))
}

async fn account(gateway: &Gateway, ports: &Ports, token: &str) -> Result<Arc<Account>, ApiError> {
    // The token itself is not kept.
    let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let reading = gateway.accounts.get(&hash, async {
        let found = ports.reviews.account(token).await?;
        Ok(found.map(Arc::new))
    });
    let account = reading.await?.ok_or_else(|| {
        ApiError::unauthenticated(
            "UnknownToken",
            "Kubernetes does not accept this token: it may have expired; `kubectl create token` makes a new one",
        )
    })?;
    gateway.limits.key(&account.name)?;
    Ok(account)
}

impl Gateway {
    /// The ports, while this process leads.
    pub(super) fn ports(&self) -> Result<Ports, ApiError> {
        self.leading.borrow().clone().ok_or_else(|| {
            let error = ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "NotLeader",
                "this replica does not lead: repeat the request, and it may reach the one that does",
            );
            ApiError { retry_after: Some(Duration::from_secs(2)), ..error }
        })
    }
}
