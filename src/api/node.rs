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
    /// Whether a VM that vanished is created again. Its record is withdrawn at once either way.
    #[serde(default)]
    pub replace_lost: bool,
    /// What happens to the VM when this object is deleted: `Delete` deletes it, after its record is withdrawn and the TTL
    /// has passed; `Orphan` leaves it and removes Roadstead's mark.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
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
    /// The SSH public key on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub ssh_public_key: Option<String>,
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
