//! `Zone`: a Cloudflare zone Roadstead may publish in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::refs::{AllowedNamespaces, DURATION, SecretKeyRef};
use super::status::CredentialStatus;

/// What a Zone is and who may use it.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "Zone",
    plural = "zones",
    shortname = "rzone",
    category = "roadstead",
    status = "ZoneStatus",
    derive = "PartialEq",
    doc = "A Cloudflare zone that Roadstead publishes names in. One domain has one Zone.",
    printcolumn(name = "Domain", type_ = "string", json_path = ".spec.domain"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Records", type_ = "integer", json_path = ".status.records"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ZoneSpec {
    /// The zone's domain as Cloudflare shows it: lower case, without a trailing dot. It cannot be changed.
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(
        validation = ("self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')",
            "write the domain like `example.com`: labels of a-z, 0-9 and `-` joined by dots, in lower case, without a dot at the end"),
        validation = ("self == oldSelf", "a Zone's domain cannot change: create another Zone and move the objects")
    )]
    pub domain: String,
    /// How to reach the zone at Cloudflare.
    pub cloudflare: Cloudflare,
    /// Which namespaces may publish names in this zone. There is no default: say it.
    pub allowed_namespaces: AllowedNamespaces,
    /// Seconds a resolver may cache a record, where an object does not say otherwise.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 60, max = 86400))]
    pub ttl: i64,
    /// How a published name is confirmed before its object counts as resolvable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// Whether the domain itself, without a label before it, may be published.
    #[serde(default)]
    pub allow_apex: bool,
}

fn default_ttl() -> i64 {
    300
}

/// Credentials for Cloudflare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cloudflare {
    /// The Secret that holds an API token with the permissions Zone Read and DNS Write for this zone, in the namespace
    /// the operator runs in, labelled `roadstead.dev/credential: cloudflare`.
    pub token_secret_ref: SecretKeyRef,
    /// Which ServerGroups may have a Cloudflare Worker (`slb`), and with which token. Without it, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
}

/// Workers for the ServerGroups of this Zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// The Secret that holds an API token with the permissions Workers Scripts Write for the account and Workers Routes
    /// Write for this zone, in the namespace the operator runs in, labelled `roadstead.dev/credential: cloudflare`. It may
    /// be the token of the zone itself.
    pub token_secret_ref: SecretKeyRef,
    /// Cloudflare's id of the account the Workers are in; the account of the zone without it.
    #[serde(default, rename = "accountID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = ("self.matches('^[0-9a-f]+$')",
        "write the account's id as Cloudflare's dashboard shows it: 0-9 and a-f"))]
    pub account_id: Option<String>,
    /// Which namespaces may have Workers: code of ours that runs in your account. There is no default: say it.
    pub allowed_namespaces: AllowedNamespaces,
    /// What every Worker's name has to begin with, e.g. `lb-`, so that no other Worker of the account is ever meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = ("self.matches('^[a-z0-9][a-z0-9-]*$')",
        "a prefix is made of a-z, 0-9 and `-`, not starting with `-`"))]
    pub name_prefix: Option<String>,
}

/// How a published name is confirmed before its object counts as resolvable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Propagation {
    /// Public resolvers to ask once the zone's own servers answer, as `IP` or `IP:port`. Without it: the operator's
    /// setting `--resolvers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), inner(length(min = 2, max = 64)))]
    #[x_kube(validation = ("self.all(r, isIP(r) || r.matches('^[0-9.]+:[0-9]{1,5}$') && isIP(r.split(':')[0]) || r.matches('^[[][0-9a-f:]+[]]:[0-9]{1,5}$') && isIP(r.substring(1, r.lastIndexOf(']'))))",
        "write each resolver as an IP address or IP:port, e.g. `1.1.1.1`, `127.0.0.1:5353` or `[2606:4700:4700::1111]:53`"))]
    pub resolvers: Option<Vec<String>>,
    /// How long to wait before saying that a name has not propagated, e.g. `120s`. It heals by itself later.
    #[serde(default = "default_timeout")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub timeout: String,
}

fn default_timeout() -> String {
    "120s".to_owned()
}

/// What is known of the zone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Cloudflare's id of the zone, pinned at first use.
    #[serde(default, rename = "zoneID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub zone_id: Option<String>,
    /// Cloudflare's id of the account the zone is in, pinned at first use: a token of another account is refused.
    #[serde(default, rename = "accountID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub account_id: Option<String>,
    /// Cloudflare's plan of the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan: Option<String>,
    /// The zone's authoritative name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub name_servers: Vec<String>,
    /// How many records in the zone carry this cluster's mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<i64>,
    /// Records with this cluster's mark and no live owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 512)))]
    pub orphans: Vec<String>,
    /// Workers of the account with this cluster's mark and no live owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 512)))]
    pub orphan_workers: Vec<String>,
    /// The credential in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// `Ready`, `CredentialReady`, `Reachable`, and `Reconciling` or `Stalled` while they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
