//! `Node`: a VM, or an existing host, with a name in a zone.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::refs::{ClusterRef, DeletionPolicy, Host, USER_DATA};
use super::status::Journal;

/// What the Node should be.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "Node",
    plural = "nodes",
    shortname = "rnode",
    category = "roadstead",
    namespaced,
    status = "NodeStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A VM with a name in a zone, or with a `static` Provider an existing host. Say `rnode` or `nodes.roadstead.dev` to kubectl: plain `node` means Kubernetes' own.",
    validation = ("self.metadata.name.size() <= (self.metadata.name.endsWith('-vm') ? 51 : 48)", "metadata.name may have at most 48 characters (51 for an Environment's `-vm`), because the VM's name is made of it"),
    validation = ("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')", "metadata.name must be a DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"),
    validation = ("!self.metadata.name.startsWith('rs--')", "names starting with `rs--` are reserved: choose another"),
    printcolumn(name = "FQDN", type_ = "string", json_path = ".status.fqdn"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses.public4"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "VM", type_ = "string", priority = 1, json_path = ".status.vmID"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = ("has(self.hostname) == has(oldSelf.hostname) && (!has(self.hostname) || self.hostname == oldSelf.hostname)",
        "a Node's hostname cannot be added, changed or removed: create another Node"),
    validation = ("has(self.region) == has(oldSelf.region) && (!has(self.region) || self.region == oldSelf.region)",
        "a Node's region cannot be added, changed or removed: create another Node"),
    validation = ("!has(self.address) || (!has(self.region) && !has(self.size) && !has(self.image) && !has(self.userData))",
        "`address` names an existing host: leave out region, size, image and userData, which describe a new VM"),
    validation = USER_DATA
)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// The Provider the VM comes from. It cannot be changed.
    #[x_kube(validation = ("self == oldSelf", "a Node's providerRef cannot change: create another Node"))]
    pub provider_ref: ClusterRef,
    /// The Zone the name is published in. It cannot be changed.
    #[x_kube(validation = ("self == oldSelf", "a Node's zoneRef cannot change: create another Node"))]
    pub zone_ref: ClusterRef,
    /// One or more DNS labels before the zone's domain; `metadata.name` without it. `@` is the domain itself, where the
    /// Zone allows its apex. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 190))]
    #[x_kube(
        validation = ("!self.contains('*')", "wildcards are not published: name one host"),
        validation = ("self.contains('*') || self.matches('^(@|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*)$')",
            "write what stands before the zone's domain: DNS labels of a-z, 0-9 and `-` joined by dots, without a dot at the end, or `@` for the domain itself"),
        validation = ("!self.split('.').exists(label, label.startsWith('rs--'))",
            "labels starting with `rs--` are reserved: choose another")
    )]
    pub hostname: Option<String>,
    /// Region slug; the Provider's without it. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// Size slug; the Provider's without it. A change needs a new VM and waits for the annotation
    /// `roadstead.dev/replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub size: Option<String>,
    /// Image slug; the Provider's without it. A change needs a new VM and waits for the annotation
    /// `roadstead.dev/replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub image: Option<String>,
    /// IP address of an existing host; only, and always, with a `static` Provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    #[x_kube(validation = ("isIP(self)", "write an IP address, e.g. `203.0.113.7`"))]
    pub address: Option<String>,
    /// A cloud-init document or a script, run after Roadstead's own on a new VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub user_data: Option<String>,
    /// Seconds a resolver may cache the record; the Zone's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86400))]
    pub ttl: Option<i64>,
    /// Whether Cloudflare proxies the name. Resolvers then see Cloudflare's addresses, and Cloudflare chooses the TTL.
    #[serde(default)]
    pub proxied: bool,
    /// Path of the health check, at `https://<the Node's name>`. It is probed once a ServerGroup selects the Node; the
    /// result is shown as the condition `Healthy` and never decides whether the Node is Ready.
    #[serde(default = "slash")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = ("self.startsWith('/')", "a path starts with `/`"))]
    pub health_path: String,
    /// Who runs on the host.
    #[serde(default)]
    pub host: Host,
    /// How Roadstead logs in at the host, which it does with `host.manage: Caddy`, or where this is given. Without it: as
    /// root at port 22, with the key of the namespace (`status.sshPublicKey`), believing the key that a new VM shows first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
    /// Whether a VM that vanished is created again. Its record is withdrawn at once either way.
    #[serde(default)]
    pub replace_lost: bool,
    /// What happens to the VM when this object is deleted: `Delete` deletes it, after its record is withdrawn and the TTL
    /// has passed; `Orphan` leaves it and removes Roadstead's mark.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// How Roadstead logs in at a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("!self.trustOnFirstUse || !has(self.hostKeys) || size(self.hostKeys) == 0",
    "give `hostKeys` or set `trustOnFirstUse`, not both"))]
#[serde(rename_all = "camelCase")]
pub struct Ssh {
    /// The user, root or one who may use `sudo` without a password; `root` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = ("self.matches('^[a-z_][a-z0-9_-]*[$]?$')", "write the name of a Linux user, e.g. `deploy`"))]
    pub user: Option<String>,
    /// sshd's port.
    #[serde(default = "port_of_ssh")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i64,
    /// The private key to log in with; the one made for the namespace without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SshKeyRef>,
    /// The host's public keys, one line each as in `/etc/ssh/ssh_host_ed25519_key.pub` (Ed25519 or ECDSA). A host that
    /// shows another is not talked to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = ("self.all(key, key.matches('^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)) '))",
        "write each key as a line of its .pub file: `ssh-ed25519 AAAA…` or `ecdsa-sha2-nistp256 AAAA…`"))]
    pub host_keys: Vec<String>,
    /// Believes the key that an existing host (one with `address`) shows at the first contact, and no other from then on.
    /// A new VM is believed like this without being asked to.
    #[serde(default)]
    pub trust_on_first_use: bool,
}

fn port_of_ssh() -> i64 {
    22
}

impl Default for Ssh {
    fn default() -> Self {
        Self { user: None, port: port_of_ssh(), key_secret_ref: None, host_keys: Vec::new(), trust_on_first_use: false }
    }
}

/// A private SSH key in a Secret of the operator's own namespace.
///
/// The Secret must carry the label `roadstead.dev/credential: ssh`. With the annotation `roadstead.dev/namespace` only
/// Nodes of that namespace may name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SshKeyRef {
    /// Name of the Secret, in the namespace the operator runs in.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret that holds the private key, in OpenSSH's format and without a passphrase.
    #[serde(default = "private_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn private_key() -> String {
    "ssh-privatekey".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

/// What is known of the Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Provisioning`, `Active`, `Deleting` or `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// The full name, e.g. `web-1.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub fqdn: Option<String>,
    /// The host's addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Addresses>,
    /// The region the VM was created in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// The size the VM was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub size: Option<String>,
    /// The image the VM was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub image: Option<String>,
    /// The provider's id of the VM.
    #[serde(default, rename = "vmID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub vm_id: Option<String>,
    /// Which VM this is, counted from 1; a replacement adds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<i64>,
    /// The published record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordStatus>,
    /// The public key with which Roadstead logs in: a new VM has it, an existing host needs it in `authorized_keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub ssh_public_key: Option<String>,
    /// What Caddy on the host does with the Node's own name; only with `host.manage: Caddy`, once it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caddy: Option<CaddyStatus>,
    /// Apps that left something on the host that could not be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["app".to_owned()]))]
    pub leftovers: Vec<Leftover>,
    /// Intents and stored back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// `Ready`, `Provisioned`, `Published`, `Resolvable`, `Bootstrapped`, `Healthy`, `Paused`, `ReplacementRequired`,
    /// and `Reconciling` or `Stalled` while they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// What Caddy does with the Node's own name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct CaddyStatus {
    /// The name.
    #[schemars(length(max = 253))]
    pub domain: String,
    /// Where its requests go.
    pub target: CaddyTarget,
}

/// Where requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct CaddyTarget {
    /// The entry service of the AppDeployment that has the name; `placeholder` if none has.
    #[schemars(length(max = 128))]
    pub service: String,
    /// Its port.
    pub port: i64,
}

/// Something that an AppDeployment left on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Leftover {
    /// The AppDeployment's name.
    #[schemars(length(max = 253))]
    pub app: String,
    /// What is left, and why.
    #[schemars(length(max = 1024))]
    pub reason: String,
}

/// A host's addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Addresses {
    /// Public IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub public4: Option<String>,
    /// Public IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub public6: Option<String>,
    /// Private IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub private4: Option<String>,
}

impl Addresses {
    /// The address a name should point at: public IPv4, else public IPv6.
    #[must_use]
    pub fn publishable(&self) -> Option<IpAddr> {
        let parse = |s: &Option<String>| s.as_deref().and_then(|s| s.parse().ok());
        parse(&self.public4).or_else(|| parse(&self.public6))
    }
}

/// A published record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct RecordStatus {
    /// Cloudflare's id of the record.
    #[schemars(length(max = 64))]
    pub id: String,
    /// The address it points at.
    #[schemars(length(max = 512))]
    pub content: String,
    /// Its TTL in seconds; 1 where Cloudflare chooses it.
    pub ttl: i64,
}
