//! Kubernetes' own word: whom a token belongs to (`TokenReview`), and what its account may do (`SubjectAccessReview`).

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::ports::{Account, GroupRef, Reviews, Unavailable};
use crate::api::refs::GROUP;
use crate::runtime::bounded;
use crate::runtime::fault::Fault;

/// Asks the API server. Needs `create` on `tokenreviews` and `subjectaccessreviews`.
pub struct KubeReviews {
    client: Client,
}

impl KubeReviews {
    /// Over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Reviews for KubeReviews {
    async fn account(&self, token: &str) -> Result<Option<Account>, Unavailable> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed =
            bounded(api.create(&PostParams::default(), &review)).await.map_err(|fault| unavailable(&fault))?;
        let status = reviewed.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.and_then(|user| {
            let name = user.username.filter(|name| !name.is_empty())?;
            Some(Account { name, uid: user.uid.unwrap_or_default(), groups: user.groups.unwrap_or_default() })
        }))
    }

    async fn may_report(&self, account: &Account, group: &GroupRef) -> Result<bool, Unavailable> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(account.name.clone()),
                uid: Some(account.uid.clone()),
                groups: Some(account.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some("servergroups".to_owned()),
                    verb: Some("report".to_owned()),
                    namespace: Some(group.namespace.clone()),
                    name: Some(group.name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let reviewed =
            bounded(api.create(&PostParams::default(), &review)).await.map_err(|fault| unavailable(&fault))?;
        let status = reviewed.status.unwrap_or_default();
        Ok(status.allowed && status.denied != Some(true))
    }
}

/// A fault of the API server, for a caller who is not to learn of the cluster's inside. The log has it.
pub(super) fn unavailable(fault: &Fault) -> Unavailable {
    tracing::warn!(%fault, "the gateway cannot ask the Kubernetes API");
    let passing = Unavailable::shortly("the cluster cannot be asked now: repeat the request");
    match fault {
        Fault::RateLimited(after) => Unavailable { retry_after: *after, ..passing },
        _ => passing,
    }
}
