//! The objects users write: types only, one file a kind, and the generated definitions.
//!
//! Types accept what the schema admits (addresses, durations and times are strings), and what a newer one may admit
//! (other words, other entries of a journal): nothing can be said about an object that does not decode. Plans parse them.

pub mod address;
#[cfg(test)]
mod admitted_tests;
pub mod app_deployment;
pub mod claim;
pub mod condition;
pub mod environment;
#[cfg(test)]
pub(crate) mod kstatus;
pub mod names;
pub mod node;
pub mod probe;
pub mod provider;
pub mod refs;
#[cfg(test)]
pub(crate) mod schema;
pub mod server_group;
pub mod slb;
pub mod status;
pub mod zone;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

/// Every definition, as `crds/` holds them.
///
/// The status of a new object is `{observedGeneration: -1}`, because Flux takes an object without it for ready. A claim
/// is complete when it is created, so its status says so from the start and costs no second write.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let unseen = serde_json::json!({"observedGeneration": -1});
    let held = serde_json::json!({"observedGeneration": 1, "state": "Held"});
    vec![
        with_status_default(zone::Zone::crd(), &unseen),
        with_status_default(provider::Provider::crd(), &unseen),
        with_status_default(node::Node::crd(), &unseen),
        with_status_default(environment::Environment::crd(), &unseen),
        with_status_default(server_group::ServerGroup::crd(), &unseen),
        with_status_default(app_deployment::AppDeployment::crd(), &unseen),
        with_status_default(claim::HostnameClaim::crd(), &held),
    ]
}

fn with_status_default(mut crd: CustomResourceDefinition, default: &serde_json::Value) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let status = root.and_then(|root| root.properties.as_mut()).and_then(|all| all.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(JSON(default.clone()));
        }
    }
    crd
}
