//! `HostnameClaim`: who holds a name. Its own name is the FQDN, so the API server makes the reservation atomic.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Who holds the name.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "HostnameClaim",
    plural = "hostnameclaims",
    shortname = "rclaim",
    category = "roadstead",
    status = "HostnameClaimStatus",
    derive = "PartialEq",
    doc = "Who holds a name. Written by the operator only; `kubectl get hostnameclaim shop.example.com` tells who publishes that host, and who serves it.",
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.holders.dns.name"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.holders.dns.kind"),
    printcolumn(name = "ServedBy", type_ = "string", json_path = ".spec.holders.http.name"),
    printcolumn(name = "Record", type_ = "string", json_path = ".status.record"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Since", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HostnameClaimSpec {
    /// The name that is held.
    #[schemars(length(min = 1, max = 253))]
    pub fqdn: String,
    /// The namespace the claim belongs to; empty for a claim of a cluster-wide object.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Who holds it, at most one object a role.
    #[serde(default)]
    pub holders: Holders,
}

/// One object a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Holders {
    /// Who publishes the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Holder>,
    /// Who serves the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Holder>,
}

/// An object that holds a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Holder {
    /// Its kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// What is known of the claim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameClaimStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Held`, or `Tombstone` while other namespaces are kept out until `freeAt`.
    #[serde(default)]
    pub state: ClaimState,
    /// What is published at the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub record: Option<String>,
    /// When a tombstone ends, or, while the name is still served, until when it will be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_at: Option<Time>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// Whether a name is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ClaimState {
    /// Somebody holds it.
    #[default]
    Held,
    /// It was released; other namespaces wait until the record's TTL has passed.
    Tombstone,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
