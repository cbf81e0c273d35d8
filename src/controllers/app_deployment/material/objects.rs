//! The Secrets and ConfigMaps an app refers to: each is read once, with `get`, in the app's own namespace and nowhere
//! else. What is in them is handed on and never printed.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt};

use crate::runtime::REQUEST_TIMEOUT;
use crate::runtime::fault::Fault;

/// When to look again for what is missing: no watch tells of it.
const AGAIN: Duration = Duration::from_secs(30);
/// How many are read at once.
const AT_ONCE: usize = 8;

/// What an app can refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        })
    }
}

/// A Secret or ConfigMap, and the field that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// For people, e.g. `spec.env[PASSWORD].secretKeyRef`.
    pub field: String,
}

/// A Secret or ConfigMap, as read. No `Debug`: it holds values.
pub(super) struct Object {
    /// Its resourceVersion.
    pub version: String,
    /// `type` of a Secret.
    pub type_: Option<String>,
    pub data: BTreeMap<String, Bytes>,
}

/// What was read.
pub(super) struct Objects {
    namespace: String,
    all: BTreeMap<(Kind, String), Object>,
}

impl Objects {
    /// Reads each object that `references` name, once, in `namespace`. `own` is the operator's namespace, whose Secrets
    /// it may always read and no app may have.
    ///
    /// # Errors
    /// The fault of the first reference, in their order, whose object cannot be had.
    pub async fn read(
        client: &Client,
        own: &str,
        namespace: &str,
        references: Vec<Reference<'_>>,
    ) -> Result<Self, Fault> {
        if namespace == own && !references.is_empty() {
            let message = format!(
                "an app in the operator's own namespace {own} may refer to no Secret and no ConfigMap, because those there \
                 are the operator's: create it in another namespace"
            );
            return Err(Fault::terminal("OperatorNamespace", message));
        }
        let mut once: Vec<Reference<'_>> = Vec::new();
        for reference in references {
            if !once.iter().any(|seen| (seen.kind, seen.name) == (reference.kind, reference.name)) {
                once.push(reference);
            }
        }
        // Boxed: the compiler cannot tell that a future over borrowed references may go to another thread.
        let reading: Vec<BoxFuture<'_, Result<_, Fault>>> = once
            .into_iter()
            .map(|reference| {
                async move {
                    let object = get(client, namespace, &reference).await?;
                    Ok(((reference.kind, reference.name.to_owned()), object))
                }
                .boxed()
            })
            .collect();
        let all = stream::iter(reading).buffered(AT_ONCE).try_collect().await?;
        Ok(Self { namespace: namespace.to_owned(), all })
    }

    /// The object a reference names.
    ///
    /// # Errors
    /// If it was not read.
    pub fn object(&self, reference: &Reference<'_>) -> Result<&Object, Fault> {
        let found = self.all.get(&(reference.kind, reference.name.to_owned()));
        found.ok_or_else(|| missing(&self.namespace, reference))
    }

    /// A key of an object.
    ///
    /// # Errors
    /// That it is waited for.
    pub fn key(&self, reference: &Reference<'_>, key: &str) -> Result<&Bytes, Fault> {
        let object = self.object(reference)?;
        object.data.get(key).ok_or_else(|| {
            let Reference { kind, name, field } = reference;
            let message =
                format!("{field}: {kind} {}/{name} has no key `{key}`: add it, or name another", self.namespace);
            let reason = match kind {
                Kind::Secret => "SecretKeyMissing",
                Kind::ConfigMap => "ConfigMapKeyMissing",
            };
            Fault::Waiting { reason, message, after: AGAIN }
        })
    }

    /// The namespace they are of.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The resourceVersion of each, by kind and name, e.g. `Secret/db`.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let versions = self.all.iter().map(|((kind, name), object)| (format!("{kind}/{name}"), object.version.clone()));
        versions.collect()
    }
}

#[cfg(test)]
impl Objects {
    /// As if they had been read.
    pub fn of(namespace: &str, all: impl IntoIterator<Item = (Kind, &'static str, Object)>) -> Self {
        let all = all.into_iter().map(|(kind, name, object)| ((kind, name.to_owned()), object)).collect();
        Self { namespace: namespace.to_owned(), all }
    }
}

async fn get(client: &Client, namespace: &str, reference: &Reference<'_>) -> Result<Object, Fault> {
    let Reference { kind, name, field } = reference;
    if !is_name(name) {
        // The name is a part of the request's path.
        let message = format!("{field}: `{name}` is no name of a {kind}: write one of this namespace");
        return Err(Fault::terminal("InvalidName", message));
    }
    let asked = tokio::time::timeout(REQUEST_TIMEOUT, async {
        match kind {
            Kind::Secret => Ok(Api::namespaced(client.clone(), namespace).get_opt(name).await?.map(of_secret)),
            Kind::ConfigMap => Ok(Api::namespaced(client.clone(), namespace).get_opt(name).await?.map(of_config_map)),
        }
    });
    match asked.await {
        Ok(Ok(Some(object))) => Ok(object),
        Ok(Ok(None)) => Err(missing(namespace, reference)),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            let message = format!(
                "{field}: the operator may not read {kind} {namespace}/{name}: add `{namespace}` to the chart's value \
                 `appNamespaces`, which makes the RoleBinding for it"
            );
            Err(Fault::terminal("NamespaceNotReadable", message))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time")),
    }
}

/// Letters of a path that leads to an object of this namespace and to nothing else.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(letter))
        && name.bytes().all(|byte| letter(byte) || matches!(byte, b'-' | b'.'))
}

fn missing(namespace: &str, reference: &Reference<'_>) -> Fault {
    let Reference { kind, name, field } = reference;
    let reason = match kind {
        Kind::Secret => "SecretMissing",
        Kind::ConfigMap => "ConfigMapMissing",
    };
    let message = format!("{field}: {kind} {namespace}/{name} does not exist: create it, or name another");
    Fault::Waiting { reason, message, after: AGAIN }
}

fn of_secret(secret: Secret) -> Object {
    let version = secret.resource_version().unwrap_or_default();
    Object { version, type_: secret.type_, data: bytes(secret.data.unwrap_or_default()).collect() }
}

fn of_config_map(map: ConfigMap) -> Object {
    let version = map.resource_version().unwrap_or_default();
    let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, Bytes::from(text)));
    // The API server admits no key in both.
    let data = text.chain(bytes(map.binary_data.unwrap_or_default())).collect();
    Object { version, type_: None, data }
}

fn bytes(data: BTreeMap<String, ByteString>) -> impl Iterator<Item = (String, Bytes)> {
    data.into_iter().map(|(key, ByteString(value))| (key, Bytes::from(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_stays_in_its_place_in_a_path_is_one() {
        for name in ["a", "db-1", "a.b", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "a/b", "a%2fb", "A", "-a", "a.", "a?b", "ä"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_waited_for_and_named() {
        let reference =
            |name| Reference { kind: Kind::Secret, name, field: "spec.env[PASSWORD].secretKeyRef".to_owned() };
        let data = BTreeMap::from([("user".to_owned(), Bytes::from("hunter2"))]);
        let objects = Objects::of("shop", [(Kind::Secret, "db", Object { version: "7".into(), type_: None, data })]);
        assert_eq!(objects.key(&reference("db"), "user").unwrap(), "hunter2");
        for (name, key, reason, message) in [
            (
                "db",
                "password",
                "SecretKeyMissing",
                "spec.env[PASSWORD].secretKeyRef: Secret shop/db has no key `password`: add it, or name another",
            ),
            (
                "other",
                "password",
                "SecretMissing",
                "spec.env[PASSWORD].secretKeyRef: Secret shop/other does not exist: create it, or name another",
            ),
        ] {
            let expected = Fault::Waiting { reason, message: message.into(), after: AGAIN };
            assert_eq!(objects.key(&reference(name), key).unwrap_err(), expected);
        }
    }
}
