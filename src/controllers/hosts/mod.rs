//! Nodes' hosts: the one way from a Node to a connection with its host.
//!
//! * [`keys`]: the key pair of a namespace and the pinned host keys of its Nodes, in a Secret of the operator's namespace;
//! * [`Hosts`]: connections, made with them to where the Node says its host is; and who may change a host's routing table.

pub mod keys;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use self::keys::{Keys, Pinned};
use crate::api::condition;
use crate::api::names::ClusterId;
use crate::api::node::{Node, Ssh};
use crate::api::refs::HostManagement;
use crate::host::ssh::{Error, Host, HostKeys, Pool, PoolOptions, Session, Target};
use crate::runtime::fault::Fault;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);
/// The reasons of hosts with which there is no connection.
pub mod reason {
    /// Nobody answers, or nobody who speaks SSH.
    pub const UNREACHABLE: &str = "HostUnreachable";
    /// The host shows another key than the pinned one.
    pub const KEY_CHANGED: &str = "HostKeyChanged";
    /// No key of the host is known, and it may not be taken at first contact.
    pub const KEY_UNKNOWN: &str = "HostKeyUnknown";
    /// The host does not let our key in.
    pub const REFUSED: &str = "SSHKeyRefused";
    /// `spec.ssh` cannot be used.
    pub const INVALID: &str = "InvalidSSH";
    /// The Node has no address yet.
    pub const NO_ADDRESS: &str = "WaitingForAddress";
}

/// Whether we log in at a Node's host at all.
#[must_use]
pub fn is_ours(node: &Node) -> bool {
    node.spec.host.manage == HostManagement::Caddy || node.spec.ssh.is_some()
}

/// Connections to Nodes' hosts.
pub struct Hosts {
    cluster: ClusterId,
    keys: Keys,
    pool: Pool,
    /// Who changes a host holds its lock, by Node UID.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// How often each was put in order again, by Node UID.
    restored: Mutex<HashMap<String, u64>>,
}

impl Hosts {
    /// Without connections. Every host is looked at each `resync`, and its connection is kept until then.
    #[must_use]
    pub fn new(cluster: ClusterId, keys: Keys, resync: Duration) -> Self {
        let defaults = PoolOptions::default();
        // A look may come late.
        let idle = defaults.idle.max(resync * 2);
        let pool = Pool::new(PoolOptions { idle, ..defaults });
        Self { cluster, keys, pool, locks: Mutex::default(), restored: Mutex::default() }
    }

    /// The connection to a Node's host: its key, its pins, its address from the Node's spec and status. At the first
    /// contact, where that is allowed, the host's key is pinned before anything is done there.
    ///
    /// # Errors
    /// [`Fault::Terminal`] where a person has to act, among them [`reason::KEY_CHANGED`]; [`Fault::Transient`] with
    /// [`reason::UNREACHABLE`] where nobody answers; [`Fault::Waiting`] before there is an address.
    pub async fn session(&self, node: &Node) -> Result<Arc<Session>, Fault> {
        let (host, first) = self.host(node).await?;
        if first.is_some() {
            // What another machine at this address once showed says nothing of this one.
            self.pool.forget(&host.id);
        }
        let session = match self.pool.session(&host, CONNECT).await {
            Ok(session) => session,
            Err(error) => return Err(self.refused(node, &host, error)),
        };
        if let Some(machine) = first {
            let pin = Pinned { machine, key: session.host_key().line() };
            if let Err(fault) = self.keys.pin(node, &pin).await {
                self.pool.forget(&host.id);
                return Err(fault);
            }
        }
        Ok(session)
    }

    /// Who changes a host's routing table or Caddy holds this. One per Node UID.
    pub async fn exclusive(&self, uid: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(uid.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    /// How often the Node's host was put in order again since this process began: what apps had there may be lost.
    #[must_use]
    pub fn restored(&self, uid: &str) -> u64 {
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        restored.get(uid).copied().unwrap_or_default()
    }

    /// Counts that once more.
    pub fn count_restored(&self, uid: &str) {
        *self.restored.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.to_owned()).or_default() += 1;
    }

    /// What every site of the Node answers at [`IDENTITY_PATH`](crate::host::table::IDENTITY_PATH): derived from the
    /// Node's mark (cluster id and UID), 32 hex digits of a SHA-256.
    #[must_use]
    pub fn nonce(&self, node: &Node) -> String {
        let (cluster, uid) = (self.cluster.as_str(), node.uid().unwrap_or_default());
        HEXLOWER.encode(&Sha256::digest(format!("roadstead identity/{cluster}/{uid}"))[..16])
    }

    /// The line for `authorized_keys` of the Node's host, from a key that is made if there is none.
    ///
    /// # Errors
    /// If the key cannot be had.
    pub async fn public_key(&self, node: &Node) -> Result<String, Fault> {
        Ok(self.keys.pair(node).await?.public_line())
    }

    /// That line as it was last read; `None` before that.
    #[must_use]
    pub fn known_public_key(&self, node: &Node) -> Option<String> {
        self.keys.known(node)
    }

    /// A Node is gone, or leaves its host: nothing of it is kept, its host's pinned key neither.
    ///
    /// # Errors
    /// If the pin cannot be removed.
    pub async fn forget(&self, node: &Node) -> Result<(), Fault> {
        let uid = node.uid().unwrap_or_default();
        self.keys.unpin(node).await?;
        self.pool.forget(&uid);
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        Ok(())
    }

    /// Where the host is and whom we believe there; and which machine it is, if this is the first contact with it.
    async fn host(&self, node: &Node) -> Result<(Host, Option<String>), Fault> {
        let ssh = node.spec.ssh.clone().unwrap_or_default();
        let target = target(node, &ssh)?;
        let (host_keys, first) = if ssh.host_keys.is_empty() {
            match self.keys.pinned(node, false).await? {
                Some(pin) if pin.machine == machine(node) => (believed(&pin)?, None),
                // What another process has pinned meanwhile counts.
                _ => match self.keys.pinned(node, true).await? {
                    Some(pin) if pin.machine == machine(node) => (believed(&pin)?, None),
                    _ => {
                        may_trust(node, &ssh)?;
                        (HostKeys::TrustOnFirstUse, Some(machine(node)))
                    }
                },
            }
        } else {
            let keys = HostKeys::pinned(ssh.host_keys.iter().map(String::as_str));
            (keys.map_err(|error| Fault::terminal(reason::INVALID, format!("spec.ssh.hostKeys: {error}")))?, None)
        };
        let key = self.keys.pair(node).await?;
        Ok((Host { id: node.uid().unwrap_or_default(), target, key, host_keys }, first))
    }

    fn refused(&self, node: &Node, host: &Host, error: Error) -> Fault {
        match error {
            Error::HostKeyRefused { server, offered, pinned } => {
                let message = format!(
                    "{server} shows the host key {offered}, and pinned is {pinned}; nothing was sent. If the host was \
                     installed anew on purpose, {}; else somebody else answers at its address",
                    remedy(node)
                );
                Fault::terminal(reason::KEY_CHANGED, message)
            }
            Error::KeyRefused { server, user, why, .. } => {
                // What was read a while ago may have been changed since.
                self.keys.doubt(node);
                let message = format!(
                    "{server} does not let the user `{user}` in ({why}): add the key `{}` to the user's \
                     ~/.ssh/authorized_keys, or correct spec.ssh",
                    host.key.public_line()
                );
                Fault::terminal(reason::REFUSED, message)
            }
            Error::Invalid(message) => Fault::terminal(reason::INVALID, message),
            error => Fault::transient(reason::UNREACHABLE, error.to_string()),
        }
    }
}

/// What to do about a host key that has changed.
fn remedy(node: &Node) -> &'static str {
    match (&node.spec.ssh, &node.spec.address) {
        (Some(ssh), _) if !ssh.host_keys.is_empty() => "put its new key into spec.ssh.hostKeys",
        (_, Some(_)) => "put its new key into spec.ssh.hostKeys in place of trustOnFirstUse",
        (_, None) => "put its new key into spec.ssh.hostKeys, or order a new VM (annotation roadstead.dev/replace)",
    }
}

/// Where a Node's host listens, and as whom we come.
fn target(node: &Node, ssh: &Ssh) -> Result<Target, Fault> {
    let address = node.spec.address.clone().or_else(|| {
        let addresses = node.status.as_ref()?.addresses.as_ref()?;
        addresses.publishable().map(|address| address.to_string())
    });
    let waiting = || Fault::Waiting {
        reason: reason::NO_ADDRESS,
        message: "the host has no address yet".to_owned(),
        after: Duration::from_secs(15),
    };
    let port = u16::try_from(ssh.port).map_err(|_| {
        Fault::terminal(reason::INVALID, format!("spec.ssh.port: {} is no port: use 1 to 65535", ssh.port))
    })?;
    let user = ssh.user.clone().unwrap_or_else(|| "root".to_owned());
    Ok(Target { address: address.ok_or_else(waiting)?, port, user })
}

/// Which machine a Node's host is: another VM of the same Node has another host key.
fn machine(node: &Node) -> String {
    match (&node.spec.address, node.status.as_ref().and_then(|status| status.vm_id.as_ref())) {
        (Some(_), _) | (None, None) => "host".to_owned(),
        (None, Some(id)) => format!("vm/{id}"),
    }
}

/// Whether the key of a host of which none is known may be taken at first contact.
fn may_trust(node: &Node, ssh: &Ssh) -> Result<(), Fault> {
    let conditions = node.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
    if node.spec.address.is_some() {
        let message = "no key of the host is known: put the lines of its /etc/ssh/ssh_host_*_key.pub into \
                       spec.ssh.hostKeys, or have its first key believed with spec.ssh.trustOnFirstUse";
        return if ssh.trust_on_first_use { Ok(()) } else { Err(Fault::terminal(reason::KEY_UNKNOWN, message)) };
    }
    // The window ends with the first contact. Whoever lost the pin after that has to say which key it was.
    if condition::is_true(conditions, "Bootstrapped") && !ssh.trust_on_first_use {
        let message = "the host was in use before, and its pinned key is gone from the Secret with the namespace's key: \
                       put the lines of its /etc/ssh/ssh_host_*_key.pub into spec.ssh.hostKeys, or order a new VM \
                       (annotation roadstead.dev/replace)";
        return Err(Fault::terminal(reason::KEY_UNKNOWN, message));
    }
    Ok(())
}

fn believed(pin: &Pinned) -> Result<HostKeys, Fault> {
    HostKeys::pinned([pin.key.as_str()])
        .map_err(|error| Fault::terminal(reason::KEY_UNKNOWN, format!("the pinned host key cannot be read: {error}")))
}

#[cfg(test)]
mod tests;
