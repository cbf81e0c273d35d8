//! The keys of SSH: one pair a namespace, and the pinned keys of its Nodes' hosts, together in a Secret of the operator's
//! own namespace. Nothing of it is in an object's status alone, which may be wiped.
//!
//! Secrets are read and written one by one, never listed or watched.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::api::node::Node;
use crate::controllers::credential::LABEL;
use crate::host::ssh::KeyPair;
use crate::runtime::bounded;
use crate::runtime::fault::Fault;

/// The label's value: the Secret is for SSH.
const PURPOSE: &str = "ssh";
/// The annotation with the namespace whose Nodes a key is for; one without it is for all.
const NAMESPACE: &str = "roadstead.dev/namespace";
/// The keys within a Secret that we make.
const PRIVATE: &str = "ssh-privatekey";
const PUBLIC: &str = "ssh-publickey";
/// What the pin of a Node begins with, before the Node's UID.
const PIN: &str = "host-key.";
/// How often a pin is tried to be written, each time over what is there by then.
const ATTEMPTS: usize = 5;
/// The reason of every Secret that cannot be used.
const UNUSABLE: &str = "SSHKeyUnusable";

/// The key that a host showed at the first contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Which machine that was.
    pub machine: String,
    /// The key: a line as in a `.pub` file.
    pub key: String,
}

impl Pinned {
    fn text(&self) -> String {
        format!("# {}\n{}\n", self.machine, self.key)
    }

    fn parse(text: &str) -> Option<Self> {
        let (machine, key) = text.strip_prefix("# ")?.split_once('\n')?;
        Some(Self { machine: machine.to_owned(), key: key.trim().to_owned() })
    }
}

/// Keys and pins, each Secret read at most once in a while.
pub struct Keys {
    api: Api<Secret>,
    namespace: String,
    max_age: Duration,
    readings: Mutex<HashMap<String, Reading>>,
    /// Held by whoever pins: all of a namespace's Nodes write to one Secret.
    pinning: tokio::sync::Mutex<()>,
}

struct Reading {
    at: Option<Instant>,
    found: Arc<Found>,
}

/// A Secret, reduced to what is looked at. Has no `Debug`: it holds a private key.
struct Found {
    version: Option<String>,
    label: Option<String>,
    namespace: Option<String>,
    data: BTreeMap<String, ByteString>,
}

impl From<Secret> for Found {
    fn from(secret: Secret) -> Self {
        Self {
            version: secret.resource_version(),
            label: secret.labels().get(LABEL).cloned(),
            namespace: secret.annotations().get(NAMESPACE).cloned(),
            data: secret.data.unwrap_or_default(),
        }
    }
}

impl Keys {
    /// Over the Secrets of the operator's own `namespace`. `max_age` is how old a reading may be.
    #[must_use]
    pub fn new(client: Client, namespace: &str, max_age: Duration) -> Self {
        let (api, namespace) = (Api::namespaced(client, namespace), namespace.to_owned());
        Self { api, namespace, max_age, readings: Mutex::default(), pinning: tokio::sync::Mutex::default() }
    }

    /// The pair with which we log in at a Node's host: that of `spec.ssh.keySecretRef`, else that of the Node's
    /// namespace, which is made if there is none.
    ///
    /// # Errors
    /// [`Fault::Terminal`] where there is a Secret that cannot be used, or none that a Node names.
    pub async fn pair(&self, node: &Node) -> Result<KeyPair, Fault> {
        let (name, key) = place(node);
        let found = match named(node) {
            None => self.own(node).await?,
            Some(_) => self.found(&name, false).await?.ok_or_else(|| {
                let message = format!(
                    "spec.ssh.keySecretRef: Secret {}/{name} does not exist: create it with the label {LABEL}={PURPOSE} \
                     and the key `{key}`",
                    self.namespace
                );
                Fault::terminal(UNUSABLE, message)
            })?,
        };
        self.usable(&found, &name, &home(node))?;
        self.pair_in(&found, &name, &key)
    }

    /// The public line of the pair that [`Keys::pair`] gave last, without asking anybody.
    #[must_use]
    pub fn known(&self, node: &Node) -> Option<String> {
        let (name, key) = place(node);
        let found = Arc::clone(&self.lock().get(&name)?.found);
        self.usable(&found, &name, &home(node)).ok()?;
        self.pair_in(&found, &name, &key).ok().map(|pair| pair.public_line())
    }

    /// What was read of a Node's key is read anew before it is used again.
    pub fn doubt(&self, node: &Node) {
        if let Some(reading) = self.lock().get_mut(&place(node).0) {
            reading.at = None;
        }
    }

    /// The pinned key of a Node's host, `fresh` from the API server if asked for.
    ///
    /// # Errors
    /// If it cannot be read: nothing is known of a pin then.
    pub async fn pinned(&self, node: &Node, fresh: bool) -> Result<Option<Pinned>, Fault> {
        let name = own_name(&home(node));
        let Some(found) = self.found(&name, fresh).await? else { return Ok(None) };
        self.usable(&found, &name, &home(node))?;
        Ok(pin_in(&found, node))
    }

    /// Pins the key of a Node's host, unless one of the same machine was pinned meanwhile: that one has to be the same.
    ///
    /// # Errors
    /// If it is not pinned.
    pub async fn pin(&self, node: &Node, pin: &Pinned) -> Result<(), Fault> {
        let _alone = self.pinning.lock().await;
        for _ in 1..ATTEMPTS {
            match self.pin_over(node, pin).await {
                // What was read before is not what is there: it is read anew.
                Err(Fault::Conflict) => {}
                other => return other,
            }
        }
        self.pin_over(node, pin).await
    }

    /// Pins a key over what was read.
    async fn pin_over(&self, node: &Node, pin: &Pinned) -> Result<(), Fault> {
        let name = own_name(&home(node));
        let found = self.own(node).await?;
        self.usable(&found, &name, &home(node))?;
        match pin_in(&found, node) {
            Some(before) if before == *pin => return Ok(()),
            Some(before) if before.machine == pin.machine => {
                return Err(Fault::transient("HostKeyChanged", "another key of the host was pinned meanwhile"));
            }
            _ => {}
        }
        let data = BTreeMap::from([(pin_key(node), Some(ByteString(pin.text().into_bytes())))]);
        self.patch(&name, found.version.as_deref(), &data).await
    }

    /// Removes the pin of a Node's host, if there is one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub async fn unpin(&self, node: &Node) -> Result<(), Fault> {
        let name = own_name(&home(node));
        let Some(found) = self.found(&name, true).await? else { return Ok(()) };
        if self.usable(&found, &name, &home(node)).is_err() || !found.data.contains_key(&pin_key(node)) {
            return Ok(());
        }
        self.patch(&name, None, &BTreeMap::from([(pin_key(node), None)])).await
    }

    /// The Secret of the Node's namespace, made if there is none.
    async fn own(&self, node: &Node) -> Result<Arc<Found>, Fault> {
        let namespace = home(node);
        let name = own_name(&namespace);
        if let Some(found) = self.found(&name, false).await? {
            return Ok(found);
        }
        let invalid = |error: crate::host::ssh::Error| Fault::terminal(UNUSABLE, error.to_string());
        let pair = KeyPair::generate(&format!("roadstead {namespace}")).map_err(invalid)?;
        let data = [(PRIVATE, pair.to_openssh().map_err(invalid)?), (PUBLIC, format!("{}\n", pair.public_line()))];
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([(LABEL.to_owned(), PURPOSE.to_owned())])),
                annotations: Some(BTreeMap::from([(NAMESPACE.to_owned(), namespace)])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/ssh-auth".to_owned()),
            data: Some(data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect()),
            ..Secret::default()
        };
        let params = PostParams::default();
        let created = bounded(async {
            match self.api.create(&params, &secret).await {
                // Somebody was faster: that one counts.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                other => other.map(Some),
            }
        });
        match created.await? {
            Some(secret) => Ok(self.keep(&name, secret)),
            None => self.found(&name, true).await?.ok_or(Fault::Conflict),
        }
    }

    async fn found(&self, name: &str, fresh: bool) -> Result<Option<Arc<Found>>, Fault> {
        let recent = self.lock().get(name).and_then(|reading| {
            let recent = reading.at.is_some_and(|at| at.elapsed() < self.max_age);
            (recent && !fresh).then(|| Arc::clone(&reading.found))
        });
        if recent.is_some() {
            return Ok(recent);
        }
        let found = bounded(self.api.get_opt(name)).await?;
        if found.is_none() {
            self.lock().remove(name);
        }
        Ok(found.map(|secret| self.keep(name, secret)))
    }

    async fn patch(
        &self,
        name: &str,
        version: Option<&str>,
        data: &BTreeMap<String, Option<ByteString>>,
    ) -> Result<(), Fault> {
        let patch = json!({"metadata": {"resourceVersion": version}, "data": data});
        // Whatever becomes of it, what was read is not it any more.
        self.lock().remove(name);
        let params = PatchParams::default();
        let secret = bounded(self.api.patch(name, &params, &Patch::Merge(patch))).await?;
        self.keep(name, secret);
        Ok(())
    }

    fn keep(&self, name: &str, secret: Secret) -> Arc<Found> {
        let found = Arc::new(Found::from(secret));
        self.lock().insert(name.to_owned(), Reading { at: Some(Instant::now()), found: Arc::clone(&found) });
        found
    }

    /// Whether a Secret is meant for this, and for Nodes of this namespace.
    fn usable(&self, found: &Found, name: &str, home: &str) -> Result<(), Fault> {
        let namespace = &self.namespace;
        if found.label.as_deref() != Some(PURPOSE) {
            let message = format!(
                "Secret {namespace}/{name} is not labelled for SSH: \
                 kubectl -n {namespace} label secret {name} {LABEL}={PURPOSE} --overwrite"
            );
            return Err(Fault::terminal(UNUSABLE, message));
        }
        match found.namespace.as_deref() {
            Some(other) if other != home => {
                let message = format!(
                    "Secret {namespace}/{name} is for Nodes of the namespace {other} (annotation {NAMESPACE}): name \
                     another, or none"
                );
                Err(Fault::terminal(UNUSABLE, message))
            }
            None if name == own_name(home) => {
                let message = format!(
                    "Secret {namespace}/{name} was not made by Roadstead, which keeps the key of the namespace {home} \
                     under this name: rename it"
                );
                Err(Fault::terminal(UNUSABLE, message))
            }
            _ => Ok(()),
        }
    }

    fn pair_in(&self, found: &Found, name: &str, key: &str) -> Result<KeyPair, Fault> {
        let namespace = &self.namespace;
        let Some(ByteString(bytes)) = found.data.get(key) else {
            let message = format!("Secret {namespace}/{name} has no key `{key}`: put the private key there");
            return Err(Fault::terminal(UNUSABLE, message));
        };
        KeyPair::from_openssh(&String::from_utf8_lossy(bytes)).map_err(|error| {
            Fault::terminal(UNUSABLE, format!("key `{key}` of Secret {namespace}/{name} cannot be used: {error}"))
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Reading>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Node's namespace.
fn home(node: &Node) -> String {
    node.namespace().unwrap_or_default()
}

/// The Secret with the key of a namespace.
fn own_name(namespace: &str) -> String {
    format!("roadstead-ssh-{namespace}")
}

/// The Secret that the Node names, and the key in it.
fn named(node: &Node) -> Option<(String, String)> {
    let named = node.spec.ssh.as_ref()?.key_secret_ref.as_ref()?;
    Some((named.name.clone(), named.key.clone()))
}

/// Where the Node's key is: Secret, and key in it.
fn place(node: &Node) -> (String, String) {
    named(node).unwrap_or_else(|| (own_name(&home(node)), PRIVATE.to_owned()))
}

fn pin_key(node: &Node) -> String {
    format!("{PIN}{}", node.uid().unwrap_or_default())
}

fn pin_in(found: &Found, node: &Node) -> Option<Pinned> {
    let ByteString(bytes) = found.data.get(&pin_key(node))?;
    Pinned::parse(std::str::from_utf8(bytes).ok()?)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
