//! Nodes: a VM, or an existing host, and its name. A pass reads as observe, plan, apply, report; every decision is in
//! [`plan`].

mod apply;
mod apps;
pub mod bootstrap;
pub(super) mod observe;
pub mod plan;
mod report;
#[cfg(test)]
mod tests;

pub use apps::of_app;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use self::bootstrap::Bootstraps;
use self::observe::Observed;
use self::plan::{Action, Facts};
use crate::api::condition::{self, READY, STALLED};
use crate::api::names::ClusterId;
use crate::api::node::{Node, NodeStatus};
use crate::api::provider::Provider;
use crate::api::zone::Zone;
use crate::controllers::hosts::Hosts;
use crate::controllers::provider::Brakes;
use crate::controllers::registry::Registry;
use crate::runtime::cache::Cache;
use crate::runtime::claims::Claims;
use crate::runtime::driver::{Outcome, Reconciler, Step};
use crate::runtime::events::{Events, Note};
use crate::runtime::fault::Fault;

/// What Nodes need.
pub struct NodeDeps {
    /// Our cluster's id.
    pub cluster: ClusterId,
    /// Running Zones and Providers.
    pub registry: Arc<Registry>,
    /// Called with the name of a Provider that refused its token: it is to be looked at.
    pub doubted: Box<dyn Fn(&str) + Send + Sync>,
    /// All Zones.
    pub zones: Cache<Zone>,
    /// All Providers.
    pub providers: Cache<Provider>,
    /// What stops mass deletions.
    pub brakes: Arc<Brakes>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// Claims.
    pub claims: Claims,
    /// Events.
    pub events: Events,
    /// Resolvers for Zones that name none.
    pub resolvers: Vec<SocketAddr>,
    /// How long a listing may lag.
    pub settle: Duration,
    /// How often everything is looked at.
    pub resync: Duration,
    /// The longest TTL that is waited out, in tests.
    pub ttl_cap: Option<Duration>,
    /// Whether nothing may be written outside.
    pub read_only: bool,
    /// Connections to hosts.
    pub hosts: Arc<Hosts>,
}

/// Reconciles Nodes.
pub struct NodeReconciler {
    deps: NodeDeps,
    bootstraps: Arc<Bootstraps>,
}

impl NodeReconciler {
    /// A reconciler over these.
    #[must_use]
    pub fn new(deps: NodeDeps, bootstraps: Arc<Bootstraps>) -> Self {
        Self { deps, bootstraps }
    }
}

#[async_trait]
impl Reconciler for NodeReconciler {
    type Object = Node;
    type Status = NodeStatus;
    type Observed = Observed;
    type Facts = Facts;
    type Action = Action;

    const NAME: &'static str = "node";
    const FINALIZER: &'static str = "roadstead.dev/node";

    fn api(client: Client, namespace: &str) -> Api<Node> {
        Api::namespaced(client, namespace)
    }

    fn status(node: &Node) -> NodeStatus {
        node.status.clone().unwrap_or_default()
    }

    async fn observe(&self, node: &Arc<Node>) -> Result<Observed, Fault> {
        self.look(node).await
    }

    fn plan(&self, seen: &Observed, facts: &Facts, now: Timestamp) -> Step<Action, NodeStatus> {
        plan::plan(seen, facts, now)
    }

    async fn apply(&self, seen: &Observed, facts: &mut Facts, action: Action) -> Result<Option<NodeStatus>, Fault> {
        self.act(seen, facts, action).await
    }

    fn report(&self, seen: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> NodeStatus {
        report::status(seen, facts, outcome, now)
    }

    fn notes(&self, old: &NodeStatus, new: &NodeStatus) -> Vec<Note> {
        let mut notes = Vec::new();
        if let Some(id) = new.vm_id.as_ref().filter(|id| old.vm_id.as_ref() != Some(id)) {
            notes.push(Note::normal("VMCreated", format!("VM {id} is this Node's")));
        }
        for (type_, warning, when) in [(READY, false, "True"), (STALLED, true, "True")] {
            let Some(now) = condition::get(&new.conditions, type_).filter(|c| c.status == when) else { continue };
            let before = condition::get(&old.conditions, type_);
            let same = before.is_some_and(|b| b.status == now.status && b.reason == now.reason);
            if !same {
                notes.push(Note { warning, reason: now.reason.clone(), message: now.message.clone() });
            }
        }
        notes
    }
}
