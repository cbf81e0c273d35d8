//! `Environment`: a slug, a VM and a name as one thing, with a lifetime.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::refs::{ClusterRef, DURATION, Host, USER_DATA};

/// Kubernetes' `date-time` admits any number of digits after the seconds, and a comma before them; what can be read has
/// nine, after a dot.
const FRACTION: &str = "^[^.,]*([.][0-9]{1,9}([^0-9.,].*)?)?$";

/// No later time can be read.
const LAST: (&str, &str) =
    ("self < timestamp('9999-12-30T00:00:00Z')", "no time later than 9999-12-29 is known: leave it out for no end");

/// What the Environment should be.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "Environment",
    plural = "environments",
    shortname = "renv",
    category = "roadstead",
    namespaced,
    status = "EnvironmentStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A name like `brave-tiger.example.com` with a VM behind it, as one thing that can end by itself.",
    validation = ("self.metadata.name.size() <= 48", "metadata.name may have at most 48 characters, because the VM's name is made of it"),
    validation = ("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')", "metadata.name must be a DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"),
    validation = ("!self.metadata.name.startsWith('rs--')", "names starting with `rs--` are reserved: choose another"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.ipAddress"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = ("has(self.slug) == has(oldSelf.slug) && (!has(self.slug) || self.slug == oldSelf.slug)",
        "an Environment's slug cannot be added, changed or removed: create another Environment"),
    validation = ("!(has(self.lifetime) && has(self.expiresAt))", "set `lifetime` or `expiresAt`, not both")
)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSpec {
    /// The label before the zone's domain, e.g. `brave-tiger`; derived from namespace, name and zone without it. It
    /// cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(
        validation = ("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
            "a slug is one DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"),
        validation = ("!self.startsWith('rs--')", "slugs starting with `rs--` are reserved: choose another")
    )]
    pub slug: Option<String>,
    /// The VM behind it.
    pub node: EnvironmentNode,
    /// How long it lives from its creation, e.g. `72h`; for ever without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub lifetime: Option<String>,
    /// When it ends, as a date and time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = FRACTION))]
    #[x_kube(validation = LAST)]
    pub expires_at: Option<Time>,
    /// What remains at the end: `Keep` leaves this object with phase `Expired` (what a GitOps repository needs: it
    /// would create a deleted object, and buy its VM, again), `Delete` removes it.
    #[serde(default)]
    pub on_expiry: OnExpiry,
    /// Whose it is; free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
}

/// The VM of an Environment. Fields are those of a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("has(self.region) == has(oldSelf.region) && (!has(self.region) || self.region == oldSelf.region)",
        "an Environment's region cannot be added, changed or removed: create another Environment"),
    validation = USER_DATA
)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentNode {
    /// The Provider the VM comes from. It cannot be changed.
    #[x_kube(validation = ("self == oldSelf", "an Environment's providerRef cannot change: create another Environment"))]
    pub provider_ref: ClusterRef,
    /// The Zone the name is published in. It cannot be changed.
    #[x_kube(validation = ("self == oldSelf", "an Environment's zoneRef cannot change: create another Environment"))]
    pub zone_ref: ClusterRef,
    /// Region slug; the Provider's without it. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// Size slug; the Provider's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub size: Option<String>,
    /// Image slug; the Provider's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub image: Option<String>,
    /// A cloud-init document or a script, run after Roadstead's own on a new VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub user_data: Option<String>,
    /// Seconds a resolver may cache the record; the Zone's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86400))]
    pub ttl: Option<i64>,
    /// Path of the health check.
    #[serde(default = "slash")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = ("self.startsWith('/')", "a path starts with `/`"))]
    pub health_path: String,
    /// Who runs on the host.
    #[serde(default)]
    pub host: Host,
}

fn slash() -> String {
    "/".to_owned()
}

/// What remains of an Environment that has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnExpiry {
    /// The object, with phase `Expired`.
    #[default]
    Keep,
    /// Nothing.
    Delete,
}

/// What is known of the Environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Provisioning`, `Active`, `Deleting`, `Error` or `Expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// The slug in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub slug: Option<String>,
    /// The full name, e.g. `brave-tiger.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub domain: Option<String>,
    /// Where to open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub url: Option<String>,
    /// The VM's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub ip_address: Option<String>,
    /// The provider's id of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub vm_id: Option<String>,
    /// Cloudflare's id of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub dns_record_id: Option<String>,
    /// The child Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ref: Option<ClusterRef>,
    /// When the Environment was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When this status last changed in substance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Intents, and the collision counter of a derived slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<super::status::Journal>,
    /// `Ready`, `Provisioned`, `Published`, `Resolvable`, `Paused`, and `Reconciling` or `Stalled` while they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
