//! The label by which the gateway's Service finds the pod that leads. A readiness gate on leadership would deadlock every
//! rollout; a label does not.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::runtime::bounded;

/// The label.
pub const LABEL: &str = "roadstead.dev/leader";
/// How soon a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often the label is seen to. One that is there already costs no write.
const SEEN_TO: Duration = Duration::from_secs(60);

/// Our own pod; outside a cluster there is none, and nothing is done.
#[derive(Clone)]
pub struct OwnPod(Option<(Api<Pod>, String)>);

impl OwnPod {
    /// The pod `name` in `namespace`.
    pub fn new(client: &Client, namespace: &str, name: Option<String>) -> Self {
        Self(name.map(|name| (Api::namespaced(client.clone(), namespace), name)))
    }

    /// Takes the label off, once: a container that starts again may find the one it had before, and another pod leading.
    pub async fn unlabel(&self) {
        self.write(None).await;
    }

    /// Keeps the label on until `end`, and then takes it off.
    pub async fn lead(&self, end: impl Future<Output = ()>) {
        let labelling = async {
            loop {
                let wait = if self.write(Some("true")).await { SEEN_TO } else { AGAIN };
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            () = labelling => {}
            () = end => self.unlabel().await,
        }
    }

    async fn write(&self, value: Option<&str>) -> bool {
        let Some((api, name)) = &self.0 else { return true };
        let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: value}}}));
        match bounded(api.patch_metadata(name, &PatchParams::default(), &patch)).await {
            Ok(_) => true,
            Err(fault) => {
                tracing::warn!(pod = name, %fault, "the label {LABEL} is not written: the gateway's Service needs it");
                false
            }
        }
    }
}
