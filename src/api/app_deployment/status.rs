//! What is known of an app: its revisions, its names, and how it stands on each Node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::Image;
use crate::api::status::Journal;

/// What is known of the app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppDeploymentStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Provisioning`, `Active`, `Deleting`, `Error` or `Expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// The revision that is wanted and, once `Ready`, serves on every Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<Revision>,
    /// The revision before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<Revision>,
    /// Every revision that is kept, newest first: what `roadstead.dev/rollback` may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub revisions: Vec<String>,
    /// The SHA-256 of the Compose file's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub compose_hash: Option<String>,
    /// The service that traffic enters by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub entry_service: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_port: Option<i64>,
    /// The first of its names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub domain: Option<String>,
    /// `active`, `deploying` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub status: Option<String>,
    /// When the revision that serves went live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
    /// Its names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub domains: Vec<DomainStatus>,
    /// How it stands on each Node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub nodes: Vec<NodeState>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Intents and stored back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// `Ready`, `Available`, `Paused`, and `Reconciling` or `Stalled` while they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// A revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its name, by which its containers and its `ControllerRevision` are found.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The SHA-256 of its Compose file's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub compose_hash: Option<String>,
    /// The digest of each service's image, once it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub images: Vec<Image>,
}

/// How a name of the app stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainStatus {
    /// The name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// `Pending`, `Published`, `Serving` or `HandedOver`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What it waits for or suffers from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The Zone it is published in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub zone: Option<String>,
    /// The addresses its records point at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 45)))]
    pub addresses: Vec<String>,
    /// Whether Cloudflare is to proxy it.
    #[serde(default)]
    pub proxied: bool,
    /// Where visitors are sent instead of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub redirect_to: Option<String>,
    /// For a name in no Zone: the TXT record that proves it is yours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Since when the spec does not ask for it any more. It is given back a moment later, or handed to the app that takes
    /// it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted_at: Option<Time>,
    /// That another app took it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed: Option<Handed>,
}

/// A name that another app took over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handed {
    /// That app.
    #[schemars(length(max = 253))]
    pub to: String,
    /// Since when the name leads there, and only caches lead here. This app answers those until the TTL is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// What the spec said in `takeFrom` then: the name is taken back once it says something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub take_from: Option<String>,
}

/// The TXT record that proves a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Verification {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its content.
    #[schemars(length(max = 255))]
    pub content: String,
    /// Whether it was seen.
    #[serde(default)]
    pub seen: bool,
}

/// How the app stands on a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// The Node.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The Node's UID: another Node of the same name is another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// The revision that serves there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// What is in hand there: `Pulling`, `Starting`, `Verifying`, `Active`, `Failed`, `Removing`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What it waits for or failed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// How far the deploy has come: the operator's own notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Notes>,
}

/// Notes of the operator, kept as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Notes(pub serde_json::Map<String, serde_json::Value>);

/// Without `additionalProperties`, of which the API server would keep the first level alone.
impl schemars::JsonSchema for Notes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Notes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Notes of the operator, kept as they are.",
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}
