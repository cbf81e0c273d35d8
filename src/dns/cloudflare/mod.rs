//! The Cloudflare API, as far as DNS needs it: who the token is, which zone a domain is, and the zone's records.
//!
//! Every call is one request: nothing is repeated here, and every outcome becomes an [`OutsideError`] whose variant
//! says what may be concluded. Facts: `developers.cloudflare.com/api`, and what the official clients do.

mod outcome;
mod records;
mod wire;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderValue, Method};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::api::names::Fqdn;
use crate::metrics::Metrics;
use crate::outside::OutsideError;
use crate::outside::budget::{Api, Budget, Budgets, Priority};

pub(crate) use records::PER_PAGE;
pub use records::ZoneRecords;

pub(crate) use outcome::{Body, Call};

use wire::{Envelope, ResultInfo, TokenStatus, WireZone};

/// How long one request may take before its outcome counts as unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Operations per batch on the Free plan and on paid ones.
const BATCH_FREE: usize = 200;
const BATCH_PAID: usize = 3_500;

/// An API token. Never printed: neither by `Debug` nor in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as it was read, without the white space an editor leaves at its end.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(token.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is known of a zone before anything is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFacts {
    /// The zone's id.
    pub zone_id: String,
    /// The account it belongs to.
    pub account_id: String,
    /// The plan's name, e.g. `free`.
    pub plan: String,
    /// Operations one batch may hold.
    pub batch_limit: usize,
    /// Host names of the zone's authoritative servers.
    pub name_servers: Vec<String>,
    /// `active`, `pending`, `initializing` or `moved`: only an active zone answers in public DNS.
    pub status: String,
    /// When the token expires, as Cloudflare writes it (RFC 3339); `None` if it does not, or may not be asked.
    pub token_expires: Option<String>,
}

/// A client for one credential. Clones share token, budget and connections.
#[derive(Clone)]
pub struct Cloudflare {
    http: reqwest::Client,
    base: Arc<str>,
    /// The token, and the budget all users of that token share.
    token: Arc<RwLock<(Token, Budget)>>,
    budgets: Budgets,
    credential: Arc<str>,
    metrics: Metrics,
}

impl Cloudflare {
    /// A client for the API at `base`, e.g. `https://api.cloudflare.com/client/v4`. `credential` is the label of its
    /// metrics, e.g. `zone/example-com`.
    ///
    /// # Errors
    /// [`OutsideError::Unavailable`] if no TLS can be set up in this process.
    pub fn new(
        base: &str,
        token: Token,
        credential: &str,
        budgets: Budgets,
        metrics: Metrics,
    ) -> Result<Self, OutsideError> {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("roadstead/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| OutsideError::Unavailable(format!("no HTTP client could be made: {error}")))?;
        let budget = budgets.for_token(Api::Cloudflare, &token.0);
        Ok(Self {
            http,
            base: base.trim_end_matches('/').into(),
            token: Arc::new(RwLock::new((token, budget))),
            budgets,
            credential: credential.into(),
            metrics,
        })
    }

    /// Uses `token` for every later call, of every clone.
    pub fn set_token(&self, token: Token) {
        let budget = self.budgets.for_token(Api::Cloudflare, &token.0);
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = (token, budget);
    }

    /// The records of the zone `zone_id`.
    #[must_use]
    pub fn records(&self, zone_id: &str) -> ZoneRecords {
        ZoneRecords::new(self.clone(), zone_id)
    }

    /// Verifies the token and looks up the zone of `domain`: two calls, three for a token owned by an account.
    ///
    /// The caller compares zone and account with what it saw first, and writes nothing when they differ.
    ///
    /// # Errors
    /// [`OutsideError::Unauthorized`] for a wrong, disabled or expired token; [`OutsideError::Refused`] with code
    /// `zone-not-found` when the token sees no such zone; otherwise as any read.
    pub async fn connect(&self, domain: &Fqdn) -> Result<ZoneFacts, OutsideError> {
        // A token owned by an account is unknown to the user endpoint, and says so as if it were wrong.
        let verified = self.verify("/user/tokens/verify").await;
        let token_expires = match &verified {
            Ok(status) => status.check()?,
            Err(OutsideError::Unauthorized(_)) => None,
            Err(error) => return Err(error.clone()),
        };
        let zone = match (self.zone(domain).await, verified) {
            (Ok(zone), Ok(_)) => return Ok(facts(zone, token_expires)),
            (Ok(zone), Err(_)) => zone,
            (Err(OutsideError::Unauthorized(_) | OutsideError::Forbidden(_)), Err(wrong)) => return Err(wrong),
            (Err(error), _) => return Err(error),
        };
        let path = format!("/accounts/{}/tokens/verify", zone.account.id);
        let token_expires = match self.verify(&path).await {
            Ok(status) => status.check()?,
            // It has just found the zone, so it is good; it may only not be asked about itself.
            Err(OutsideError::Unauthorized(_) | OutsideError::Forbidden(_) | OutsideError::Refused { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(facts(zone, token_expires))
    }

    async fn verify(&self, path: &str) -> Result<TokenStatus, OutsideError> {
        Ok(self.send(Call::read(path, "")).await?.0)
    }

    async fn zone(&self, domain: &Fqdn) -> Result<WireZone, OutsideError> {
        let call = Call::read("/zones", "Zone > Zone > Read").query("name", domain.as_str());
        let (zones, _): (Vec<WireZone>, _) = self.send(call).await?;
        let mut zones = zones.into_iter().filter(|zone| zone.name.eq_ignore_ascii_case(domain.as_str()));
        let refuse = |code: &str, message: String| OutsideError::Refused { code: code.to_owned(), message };
        let Some(zone) = zones.next() else {
            return Err(refuse(
                "zone-not-found",
                format!(
                    "the token sees no zone {domain}: add the domain to its Cloudflare account, or give the token \
                     Zone > Zone > Read for it"
                ),
            ));
        };
        if zones.next().is_some() {
            let message = format!("the token sees {domain} in more than one account: restrict it to one");
            return Err(refuse("zone-ambiguous", message));
        }
        Ok(zone)
    }

    /// Sends one request of another part of the API, and gives its result.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, OutsideError> {
        Ok(self.send(call).await?.0)
    }

    /// Sends one request and judges its outcome.
    async fn send<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<(T, Option<ResultInfo>), OutsideError> {
        let (token, budget) = self.token.read().unwrap_or_else(PoisonError::into_inner).clone();
        budget.admit(call.priority)?;
        let started = Instant::now();
        let outcome = self.exchange(&call, &token, &budget).await;
        self.metrics.api_call(
            "cloudflare",
            &self.credential,
            outcome::label(outcome.as_ref().err()),
            started.elapsed(),
        );
        if let Some(remaining) = budget.remaining() {
            self.metrics.api_remaining("cloudflare", &self.credential, i64::from(remaining));
        }
        outcome
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        token: &Token,
        budget: &Budget,
    ) -> Result<(T, Option<ResultInfo>), OutsideError> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.0)).map_err(|_| {
            OutsideError::Unauthorized("the Cloudflare token contains characters no token has: copy it again".into())
        })?;
        authorization.set_sensitive(true);
        let mut request = self
            .http
            .request(call.method.clone(), format!("{}{}", self.base, call.path))
            .query(&call.query)
            .header(http::header::AUTHORIZATION, authorization);
        if let Some(body) = &call.body {
            request = match body {
                Body::Json(json) => request.json(json),
                Body::Form { content_type, bytes } => {
                    request.header(http::header::CONTENT_TYPE, content_type).body(bytes.clone())
                }
            };
        }
        let response = request.send().await.map_err(|error| call.broken(&error))?;
        let status = response.status();
        let blocked = budget.observe(status.as_u16(), response.headers());
        let body = response.bytes().await.map_err(|error| call.broken(&error))?;
        if status.is_success()
            && let Ok(Envelope { success: true, result, result_info, .. }) = serde_json::from_slice(&body)
            // Deletions answer null, or leave the result out.
            && let Some(result) = result.or_else(|| serde_json::from_value(Json::Null).ok())
        {
            return Ok((result, result_info));
        }
        // What accompanies a failure as `result` may have any shape.
        let errors = serde_json::from_slice::<Envelope<IgnoredAny>>(&body).map(|failure| failure.errors);
        Err(call.judge(status, blocked, &errors.unwrap_or_default(), token))
    }
}

fn facts(zone: WireZone, token_expires: Option<String>) -> ZoneFacts {
    let plan = zone.plan.and_then(|plan| plan.legacy_id.or(plan.name)).unwrap_or_default().to_lowercase();
    // An unknown plan gets the limit that every plan admits.
    let free = plan.is_empty() || plan.starts_with("free");
    ZoneFacts {
        zone_id: zone.id,
        account_id: zone.account.id,
        batch_limit: if free { BATCH_FREE } else { BATCH_PAID },
        plan,
        name_servers: zone.name_servers.unwrap_or_default(),
        status: zone.status,
        token_expires,
    }
}

impl<'a> Call<'a> {
    pub(crate) fn read(path: &'a str, permission: &'static str) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None, priority: Priority::Normal, permission }
    }
}

#[cfg(test)]
mod tests;
