//! Users in Kubernetes: one Secret each, in the operator's own namespace, found by its name alone.
//!
//! The name is made of the e-mail address, so the API server lets one of two sign-ups through; the id is random and
//! kept inside, so a user who was deleted and signs up again is another user and inherits nothing. Secrets are read one by
//! one with `get`, never listed or watched.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::keys::StoredKey;
use super::ports::{ChangeError, SignupError, Unavailable, User, UserId, Users};
use super::reviews::unavailable;
use crate::runtime::bounded;
use crate::runtime::fault::Fault;

/// The label that says what a Secret is for, as on credentials: none of them can pass for the other.
const LABEL: &str = "roadstead.dev/credential";
const PURPOSE: &str = "api-user";
/// Type of the Secret, which nobody can change afterwards.
const TYPE: &str = "roadstead.dev/api-user";

/// Users as Secrets.
pub struct SecretUsers {
    api: Api<Secret>,
}

impl SecretUsers {
    /// Over the Secrets of the operator's own `namespace`, where it needs `get`, `create` and `patch`.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }
}

fn name(handle: &str) -> String {
    format!("roadstead-user-{handle}")
}

/// The Secret of a new user.
fn secret(user: &User) -> Result<Secret, Unavailable> {
    let entry = |key: &str, value: Vec<u8>| (key.to_owned(), ByteString(value));
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name(&user.handle)),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), PURPOSE.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::from([
            entry("id", user.id.as_str().into()),
            entry("email", user.email.clone().into_bytes()),
            entry("createdAt", user.created_at.to_string().into_bytes()),
            entry("keys", written(&user.keys)?),
        ])),
        ..Secret::default()
    })
}

fn written(keys: &[StoredKey]) -> Result<Vec<u8>, Unavailable> {
    serde_json::to_vec(keys).map_err(|_| Unavailable::shortly("the keys cannot be written"))
}

/// The user a Secret holds; `None` if it holds none.
fn user(handle: &str, secret: &Secret) -> Option<User> {
    if secret.labels().get(LABEL).map(String::as_str) != Some(PURPOSE) || secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let text = |key: &str| std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok();
    Some(User {
        handle: handle.to_owned(),
        id: UserId::parse(text("id")?)?,
        email: text("email")?.to_owned(),
        created_at: text("createdAt")?.parse::<Timestamp>().ok()?,
        keys: serde_json::from_str(text("keys")?).ok()?,
        version: secret.resource_version()?,
    })
}

#[async_trait]
impl Users for SecretUsers {
    async fn create(&self, user: &User) -> Result<(), SignupError> {
        let secret = secret(user)?;
        let params = PostParams::default();
        let request = self.api.create(&params, &secret);
        let fault = match tokio::time::timeout(crate::runtime::REQUEST_TIMEOUT, request).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => None,
            Ok(Err(error)) => Some(Fault::from(error)),
            Err(_) => Some(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time")),
        };
        // Either somebody has the name, or nobody knows: only the Secret itself says whose it is. Without a look a user
        // could be left whose key nobody was shown.
        match (self.find(&user.handle).await?, fault) {
            (Some(found), _) if found.id == user.id => Ok(()),
            (None, Some(fault)) => Err(unavailable(&fault).into()),
            _ => Err(SignupError::Taken),
        }
    }

    async fn find(&self, handle: &str) -> Result<Option<User>, Unavailable> {
        let found = bounded(self.api.get_opt(&name(handle))).await.map_err(|fault| unavailable(&fault))?;
        let user = found.as_ref().and_then(|secret| user(handle, secret));
        if found.is_some() && user.is_none() {
            tracing::warn!(secret = name(handle), "the Secret has the name of an API user and does not hold one");
        }
        Ok(user)
    }

    async fn change_keys(&self, user: &User) -> Result<(), ChangeError> {
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": user.version},
            "data": {"keys": ByteString(written(&user.keys)?)},
        }));
        match bounded(self.api.patch(&name(&user.handle), &PatchParams::default(), &patch)).await {
            Ok(_) => Ok(()),
            Err(Fault::Conflict) => Err(ChangeError::Conflict),
            Err(Fault::Gone) => Err(ChangeError::Gone),
            Err(fault) => Err(unavailable(&fault).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::keys::{ApiKey, handle_of};

    fn stored() -> User {
        let handle = handle_of("user@example.com");
        let key = ApiKey::new(&handle, &[7; 32]);
        User {
            handle,
            id: UserId::parse("00000000-0000-4000-8000-000000000000").unwrap(),
            email: "user@example.com".into(),
            created_at: Timestamp::from_second(1_800_000_000).unwrap(),
            keys: vec![StoredKey { sha256: key.hash(), created_at: Timestamp::UNIX_EPOCH, expires_at: None }],
            version: "7".into(),
        }
    }

    fn kept() -> Secret {
        let mut secret = secret(&stored()).unwrap();
        secret.metadata.resource_version = Some("7".into());
        secret
    }

    #[test]
    fn a_user_reads_back_from_a_secret_that_does_not_hold_the_key() {
        let user_read = user(&stored().handle, &kept());
        assert_eq!(user_read, Some(stored()));
        let key = ApiKey::new(&stored().handle, &[7; 32]);
        let secret_part = key.expose().split('_').nth(2).unwrap().to_owned();
        for (field, ByteString(value)) in kept().data.unwrap() {
            assert!(!String::from_utf8(value).unwrap().contains(&secret_part), "{field} holds the key");
        }
        assert!(name(&stored().handle).len() <= 63);
    }

    #[test]
    fn a_secret_that_is_not_an_api_user_s_is_nobody() {
        let handle = stored().handle;
        let mut unlabelled = kept();
        unlabelled.metadata.labels = None;
        let mut another_type = kept();
        another_type.type_ = Some("Opaque".into());
        let mut another_purpose = kept();
        another_purpose.labels_mut().insert(LABEL.into(), "cloudflare".into());
        let mut damaged = kept();
        damaged.data.as_mut().unwrap().insert("keys".into(), ByteString(b"[".to_vec()));
        let mut without_id = kept();
        without_id.data.as_mut().unwrap().remove("id");
        for secret in [unlabelled, another_type, another_purpose, damaged, without_id] {
            assert_eq!(user(&handle, &secret), None);
        }
    }
}
