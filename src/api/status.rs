//! Parts of status that several kinds share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Which version of a Secret is in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The Secret's resourceVersion whose token is in use.
    #[schemars(length(max = 64))]
    pub secret_version: String,
    /// Since when that version is in use.
    pub since: Time,
    /// When the token expires, if the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// What is in hand: intents written before the external call they announce, and stored back-off.
///
/// A crash leaves either nothing or an entry here that says where to look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Journal {
    /// The step that is being tried, e.g. `CreateVM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub intent: Option<String>,
    /// When the step was last about to be tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// How often the step has failed in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
    /// Not before this time is the step tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// When the record was found withdrawn everywhere, from which its TTL is waited out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<Time>,
    /// Since when the name points at the newest VM, from which the TTL of the one it replaced is waited out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Time>,
    /// When something that should be there was first found missing in a complete listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Time>,
    /// Since when the name is waited for at the zone's servers and resolvers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagating_since: Option<Time>,
    /// The value of the annotation `roadstead.dev/replace` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub replaced: Option<String>,
    /// VMs of earlier incarnations that are still to be deleted, by provider id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 128)))]
    pub retired: Vec<String>,
    /// Entries of other versions of the operator, preserved and left alone.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, serde_json::Value>,
}
