//! One write to the API server per action, and what it taught.

use std::sync::Arc;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::observe::{Facts, Observed};
use super::plan::Action;
use super::{EnvironmentReconciler, child_name};
use crate::api::environment::Environment;
use crate::api::node::Node;
use crate::runtime::REQUEST_TIMEOUT;
use crate::runtime::fault::Fault;

impl EnvironmentReconciler {
    pub(super) async fn act(&self, observed: &Observed, facts: &mut Facts, action: Action) -> Result<(), Fault> {
        let environment = &*observed.environment;
        let namespace = environment.namespace().unwrap_or_default();
        let name = child_name(&environment.name_any());
        let nodes: Api<Node> = Api::namespaced(self.deps.client.clone(), &namespace);
        match action {
            Action::CreateNode(node) => match bounded(nodes.create(&PostParams::default(), &node)).await {
                Ok(node) => facts.node = Some(Arc::new(node)),
                // Ours, if the answer to an earlier create was lost; the next look at its owner's UID tells.
                Err(Refused::Kubernetes(status)) if status.reason == "AlreadyExists" => {
                    facts.node = Some(Arc::new(crate::runtime::bounded(nodes.get(&name)).await?));
                }
                Err(refused) => return Err(refused.fault(&name)),
            },
            Action::PatchNode { uid, mut patch } => {
                // Another object of the same name must not get this one's changes.
                patch["metadata"]["uid"] = json!(uid);
                match bounded(nodes.patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await {
                    Ok(node) => facts.node = Some(Arc::new(node)),
                    Err(Refused::Kubernetes(status)) if status.code == 404 => return Err(Fault::Conflict),
                    Err(refused) => return Err(refused.fault(&name)),
                }
            }
            Action::DeleteNode { uid } => {
                let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                match bounded(nodes.delete(&name, &params)).await {
                    Ok(answer) => match answer.left() {
                        Some(node) => facts.node = Some(Arc::new(node)),
                        None => facts.gone = Some(uid),
                    },
                    Err(Refused::Kubernetes(status)) if status.code == 404 => facts.gone = Some(uid),
                    Err(refused) => return Err(refused.fault(&name)),
                }
            }
            Action::DeleteSelf => {
                let environments: Api<Environment> = Api::namespaced(self.deps.client.clone(), &namespace);
                let name = environment.name_any();
                // Exactly the version that had ended: a person may have extended its life meanwhile.
                let preconditions =
                    Preconditions { uid: environment.uid(), resource_version: environment.resource_version() };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                match bounded(environments.delete(&name, &params)).await {
                    // The object has changed under this pass: it goes on as the deletion of the new version.
                    Ok(_) => return Err(Fault::Conflict),
                    Err(Refused::Kubernetes(status)) if status.code == 404 => return Err(Fault::Conflict),
                    Err(refused) => return Err(refused.fault(&name)),
                }
            }
        }
        Ok(())
    }
}

/// Why a write gave no result.
enum Refused {
    /// The API server looked at it and answered so.
    Kubernetes(Box<Status>),
    /// Anything else.
    Fault(Fault),
}

impl Refused {
    fn fault(self, name: &str) -> Fault {
        match self {
            // Its rules refuse what the Environment asks for: only another spec helps.
            Self::Kubernetes(status) if status.code == 422 => {
                let words = status.message.trim_end_matches('.');
                let remedy = "correct spec.node, or the policy that refuses it; it is tried again by itself";
                Fault::terminal("NodeRefused", format!("the API server refuses the Node {name} ({words}): {remedy}"))
            }
            Self::Kubernetes(status) => kube::Error::Api(status).into(),
            Self::Fault(fault) => fault,
        }
    }
}

async fn bounded<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Refused> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Refused::Kubernetes(status)),
        Ok(Err(error)) => Err(Refused::Fault(error.into())),
        Err(_) => Err(Refused::Fault(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time"))),
    }
}
