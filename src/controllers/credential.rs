//! Credentials: reading a token from a Secret in the operator's own namespace, and saying what is wrong with it.
//!
//! Secrets are read one by one with `get`, never listed or watched, and only where a label says that they are meant
//! for us: otherwise whoever may write a Zone could send any Secret's content to an API. What is read never reaches a
//! log, an event, a status or an error.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::api::refs::SecretKeyRef;
use crate::runtime::fault::Fault;

/// The label a Secret must carry; its value names the API the credential is for.
pub const LABEL: &str = "roadstead.dev/credential";

/// How old a reading of a Secret may be.
pub const MAX_AGE: Duration = Duration::from_mins(1);

/// The API a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `roadstead.dev/credential: cloudflare`.
    Cloudflare,
    /// `roadstead.dev/credential: digitalocean`.
    DigitalOcean,
}

impl Purpose {
    /// The value of the label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cloudflare => "cloudflare",
            Self::DigitalOcean => "digitalocean",
        }
    }
}

/// A token as read. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The token itself, for the client that sends it and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// What reading a Secret gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token, and the resourceVersion it was read at.
    Ok {
        /// The Secret's resourceVersion.
        version: String,
        /// The token, without the white space around it.
        token: SecretText,
    },
    /// None that could be used.
    Unusable {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition: what is wrong and how to mend it.
        message: String,
    },
}

/// A Secret, reduced to what is looked at. Has no `Debug`: it holds values.
struct Found {
    version: String,
    label: Option<String>,
    data: BTreeMap<String, ByteString>,
}

enum Looked {
    Found(Found),
    Missing,
    Forbidden,
}

struct Reading {
    at: Instant,
    looked: Arc<Looked>,
}

#[derive(Default)]
struct Readings {
    last: HashMap<String, Reading>,
    /// The version an API refused last, by Secret: one refusal brings one early look.
    refused: HashMap<String, String>,
}

/// Reads credentials, each Secret at most once in `max_age`.
pub struct Credentials {
    api: Api<Secret>,
    namespace: String,
    max_age: Duration,
    readings: Mutex<Readings>,
}

impl Credentials {
    /// Over the Secrets of the operator's own `namespace`. `max_age` is how old a reading may be, [`MAX_AGE`] outside
    /// tests.
    #[must_use]
    pub fn new(client: Client, namespace: &str, max_age: Duration) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            max_age,
            readings: Mutex::default(),
        }
    }

    /// How often a Secret is looked at.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// The credential `reference` names, if it is labelled for `purpose`.
    ///
    /// # Errors
    /// When the API server cannot be asked; says nothing about the credential.
    pub async fn read(&self, reference: &SecretKeyRef, purpose: Purpose) -> Result<Credential, Fault> {
        let fresh = {
            let readings = self.lock();
            let reading = readings.last.get(&reference.name);
            reading.filter(|reading| reading.at.elapsed() < self.max_age).map(|reading| reading.looked.clone())
        };
        let looked = if let Some(looked) = fresh {
            looked
        } else {
            let at = Instant::now();
            let looked = Arc::new(self.look(&reference.name).await?);
            self.lock().last.insert(reference.name.clone(), Reading { at, looked: looked.clone() });
            looked
        };
        Ok(judge(&looked, &self.namespace, reference, purpose))
    }

    /// An API refused the token of this `version`: the Secret is looked at again at once, in case it has another by
    /// now. A second refusal of the same version changes nothing.
    pub fn refused(&self, secret: &str, version: &str) {
        let mut readings = self.lock();
        if readings.refused.get(secret).map(String::as_str) != Some(version) {
            readings.refused.insert(secret.to_owned(), version.to_owned());
            readings.last.remove(secret);
        }
    }

    async fn look(&self, name: &str) -> Result<Looked, Fault> {
        let asked = tokio::time::timeout(crate::runtime::REQUEST_TIMEOUT, self.api.get_opt(name)).await;
        match asked {
            Ok(Ok(Some(secret))) => Ok(Looked::Found(Found {
                version: secret.resource_version().unwrap_or_default(),
                label: secret.labels().get(LABEL).cloned(),
                data: secret.data.unwrap_or_default(),
            })),
            Ok(Ok(None)) => Ok(Looked::Missing),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(Looked::Forbidden),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a Secret is worth (pure).
fn judge(looked: &Looked, namespace: &str, reference: &SecretKeyRef, purpose: Purpose) -> Credential {
    let SecretKeyRef { name, key } = reference;
    let label = format!("{LABEL}={}", purpose.label());
    let unusable = |reason, message| Credential::Unusable { reason, message };
    let found = match looked {
        Looked::Found(found) => found,
        Looked::Missing => {
            let message = format!(
                "Secret {namespace}/{name} does not exist: create it with the label {label} and the key `{key}`"
            );
            return unusable("SecretMissing", message);
        }
        Looked::Forbidden => {
            let message = format!(
                "the operator may not read Secret {namespace}/{name}: its Role in {namespace} must allow `get` on secrets"
            );
            return unusable("SecretForbidden", message);
        }
    };
    if found.label.as_deref() != Some(purpose.label()) {
        let message = format!(
            "Secret {namespace}/{name} is not labelled for this use: \
             kubectl -n {namespace} label secret {name} {label} --overwrite"
        );
        return unusable("SecretUnlabelled", message);
    }
    let Some(ByteString(value)) = found.data.get(key) else {
        let message = format!("Secret {namespace}/{name} has no key `{key}`: put the token there, or name its key");
        return unusable("SecretKeyMissing", message);
    };
    let token = match std::str::from_utf8(value).map(str::trim) {
        Ok("") => {
            let message = format!("key `{key}` of Secret {namespace}/{name} is empty: put the token there");
            return unusable("SecretEmpty", message);
        }
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => token,
        _ => {
            let message = format!(
                "key `{key}` of Secret {namespace}/{name} is not a token: it may hold only printable characters \
                 without spaces"
            );
            return unusable("SecretMalformed", message);
        }
    };
    Credential::Ok { version: found.version.clone(), token: SecretText(token.to_owned()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token for tests.
    pub(crate) fn text(token: &str) -> SecretText {
        SecretText(token.to_owned())
    }

    fn reference() -> SecretKeyRef {
        SecretKeyRef { name: "cloudflare".into(), key: "token".into() }
    }

    fn found(label: Option<&str>, key: &str, value: &[u8]) -> Looked {
        Looked::Found(Found {
            version: "7".into(),
            label: label.map(String::from),
            data: BTreeMap::from([(key.to_owned(), ByteString(value.to_vec()))]),
        })
    }

    fn judged(looked: &Looked) -> Credential {
        judge(looked, "roadstead-system", &reference(), Purpose::Cloudflare)
    }

    #[test]
    fn a_token_loses_the_white_space_around_it_and_keeps_the_version_it_was_read_at() {
        for value in ["abc", "abc\n", "  abc\r\n"] {
            let expected = Credential::Ok { version: "7".into(), token: SecretText("abc".into()) };
            assert_eq!(judged(&found(Some("cloudflare"), "token", value.as_bytes())), expected, "{value:?}");
        }
    }

    #[test]
    fn every_unusable_secret_has_its_own_reason_and_names_object_and_remedy() {
        for (looked, reason, remedy) in [
            (Looked::Missing, "SecretMissing", "create it with the label roadstead.dev/credential=cloudflare"),
            (Looked::Forbidden, "SecretForbidden", "must allow `get` on secrets"),
            (found(None, "token", b"abc"), "SecretUnlabelled", "roadstead.dev/credential=cloudflare"),
            (found(Some("digitalocean"), "token", b"abc"), "SecretUnlabelled", "kubectl -n roadstead-system label"),
            (found(Some("cloudflare"), "tokn", b"abc"), "SecretKeyMissing", "has no key `token`"),
            (found(Some("cloudflare"), "token", b""), "SecretEmpty", "put the token there"),
            (found(Some("cloudflare"), "token", b" \n"), "SecretEmpty", "put the token there"),
            (found(Some("cloudflare"), "token", b"a b"), "SecretMalformed", "without spaces"),
            (found(Some("cloudflare"), "token", b"\xff\xfe"), "SecretMalformed", "is not a token"),
        ] {
            let Credential::Unusable { reason: got, message } = judged(&looked) else { panic!("{reason}: usable") };
            assert_eq!(got, reason);
            assert!(message.contains("roadstead-system/cloudflare"), "{message}");
            assert!(message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn a_value_is_never_printed() {
        let read = judged(&found(Some("cloudflare"), "token", b"hunter2"));
        assert!(!format!("{read:?}").contains("hunter2"));
        let Credential::Unusable { message, .. } = judged(&found(Some("cloudflare"), "token", b"hunter two")) else {
            panic!("a token with a space was accepted")
        };
        assert!(!message.contains("hunter"));
    }
}
