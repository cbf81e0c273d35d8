//! `Provider`: a source of VMs, or a range of hosts that exist already.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::refs::{AllowedNamespaces, DURATION, SecretKeyRef};
use super::status::CredentialStatus;

/// Where VMs come from and who may use it.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "Provider",
    plural = "providers",
    shortname = "rprovider",
    category = "roadstead",
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "A source of VMs (`digitalocean`), or a range of hosts that exist already (`static`).",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "VMs", type_ = "integer", json_path = ".status.vms"),
    printcolumn(name = "Hold", type_ = "string", json_path = ".status.hold.id"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = ("(has(self.digitalocean) ? 1 : 0) + (has(self.static) ? 1 : 0) == 1",
        "set exactly one of `digitalocean` and `static`"),
    validation = ("has(self.digitalocean) == has(oldSelf.digitalocean)",
        "a Provider cannot change between `digitalocean` and `static`: create another Provider")
)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// Droplets of DigitalOcean: the credential, and what a Node gets that does not say otherwise. Changes apply to new
    /// droplets only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digitalocean: Option<DigitalOcean>,
    /// Hosts that exist already. A Node names one by `address`.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub static_: Option<StaticHosts>,
    /// Which namespaces may create Nodes with this Provider. There is no default: say it.
    pub allowed_namespaces: AllowedNamespaces,
    /// When deletions stop and wait for a person: as soon as more than the greater of `minimum` and `percent` of the
    /// Provider's Nodes vanish, or are to be deleted, within `window`. A moved Git directory must not destroy a fleet.
    #[serde(default)]
    pub brake: Brake,
    /// Whether an AppDeployment with `hostAccess: true` may have the Docker socket, the disk, the devices and the
    /// namespaces of this Provider's hosts. Whoever may write such an app is root on the host, and with that in every other
    /// app there.
    #[serde(default)]
    pub allow_host_access: bool,
    /// People's SSH public keys, put on every new VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 16, max = 1024)))]
    #[x_kube(validation = ("self.all(key, key.matches('^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?$'))",
        "each key is one line of a public key file, e.g. `ssh-ed25519 AAAA… you@example.com`"))]
    pub ssh_authorized_keys: Vec<String>,
}

/// DigitalOcean: the credential, and what a Node gets that does not say otherwise. Changes apply to new VMs only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DigitalOcean {
    /// The Secret that holds an API token with read and write scope, in the namespace the operator runs in, labelled
    /// `roadstead.dev/credential: digitalocean`.
    pub token_secret_ref: SecretKeyRef,
    /// Region slug, e.g. `fra1`.
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// Size slug, e.g. `s-1vcpu-1gb`.
    #[schemars(length(min = 1, max = 64))]
    pub size: String,
    /// Image slug, e.g. `debian-12-x64`.
    #[schemars(length(min = 1, max = 64))]
    pub image: String,
    /// UUID of the VPC for new droplets; the region's default VPC without it.
    #[serde(default, rename = "vpcUUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')", "write the VPC's UUID, e.g. `5a4981aa-9653-4bd1-bef5-d6bff52042e4`"))]
    pub vpc_uuid: Option<String>,
    /// Tags of your own for new droplets: letters, digits, `:`, `-` and `_`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 255)))]
    #[x_kube(
        validation = ("self.all(tag, tag.matches('^[a-zA-Z0-9:_-]+$'))",
            "a tag has letters, digits, `:`, `-` and `_` only"),
        validation = ("!self.exists(tag, tag.lowerAscii().startsWith('roadstead:'))",
            "tags starting with `roadstead:` are reserved: choose another")
    )]
    pub tags: Vec<String>,
}

/// Hosts that exist already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticHosts {
    /// The address ranges Nodes may name, e.g. `203.0.113.0/24`.
    #[serde(rename = "allowedCIDRs")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 3, max = 64)))]
    #[x_kube(validation = ("self.all(range, isCIDR(range))", "write each range as a CIDR, e.g. `203.0.113.0/24`"))]
    pub allowed_cidrs: Vec<String>,
}

/// When more than `max(minimum, percent)` of a Provider's Nodes vanish, or are to be deleted, within `window`, deletion
/// stops until a person approves it: a moved Git directory must not destroy a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Brake {
    /// How many deletions within `window` are always let through.
    #[serde(default = "brake_minimum")]
    #[schemars(range(min = 0, max = 100_000))]
    pub minimum: i64,
    /// Which share of the Provider's Nodes is let through, in percent.
    #[serde(default = "brake_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: i64,
    /// The time over which deletions are counted, e.g. `10m`.
    #[serde(default = "brake_window")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub window: String,
}

fn brake_minimum() -> i64 {
    5
}

fn brake_percent() -> i64 {
    10
}

fn brake_window() -> String {
    "10m".to_owned()
}

impl Default for Brake {
    fn default() -> Self {
        Self { minimum: brake_minimum(), percent: brake_percent(), window: brake_window() }
    }
}

/// What is known of the Provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The provider's id of the account or team, pinned at first use: a token of another account is refused.
    #[serde(default, rename = "accountID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub account_id: Option<String>,
    /// How many VMs carry this cluster's mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<i64>,
    /// VMs with this cluster's mark and no live owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 512)))]
    pub orphans: Vec<String>,
    /// A hold on deletions, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The credential in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// `Ready`, `CredentialReady`, `Reachable`, and `Reconciling` or `Stalled` while they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// A hold: what the brake stopped, and the id that approves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Hold {
    /// The value for the annotation `roadstead.dev/approve-deletions` that lets this hold's deletions through.
    #[schemars(length(max = 64))]
    pub id: String,
    /// `MassAbsence` or `DeletionHeld`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// How many Nodes it is about.
    pub nodes: i64,
}
