//! Environments: a slug, a VM and a name as one thing that can end by itself. A pass reads as observe, plan, apply,
//! report; every decision is in [`plan`].
//!
//! An Environment owns one Node, `<environment>-vm`, and speaks to nothing else: names, records and VMs are the Node's
//! business. A Provider's deletion brake does not count the Node's end where it is the Environment's doing: because that
//! goes or is over, or because it [`replaces`] the Node. One whose Environment has expired carries the annotation
//! `roadstead.dev/expired: "true"` besides.

mod apply;
mod memory;
mod observe;
pub mod plan;
mod report;
mod slug;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::{Api, Client, Resource, ResourceExt};

use self::memory::Rollback;
use self::observe::{Facts, Observed};
use self::plan::Action;
use crate::api::environment::{Environment, EnvironmentStatus};
use crate::api::node::Node;
use crate::api::zone::Zone;
use crate::runtime::cache::{Cache, Key};
use crate::runtime::claims::Claims;
use crate::runtime::driver::{Outcome, Reconciler, Step};
use crate::runtime::events::Note;
use crate::runtime::fault::Fault;

/// What Environments need. All caches must be filled before the first pass.
pub struct EnvironmentDeps {
    /// The API server.
    pub client: Client,
    /// All Nodes. A change of any wakes the Environments that [`wakes`] names.
    pub nodes: Cache<Node>,
    /// Claims, to see a taken slug before a Node is made for it. They wake nobody: a Node tells when it meets one.
    pub claims: Claims,
    /// All Zones, for their domains. They wake nobody: a Node tells when its Zone appears.
    pub zones: Cache<Zone>,
    /// How often everything is looked at.
    pub resync: Duration,
}

/// Reconciles Environments.
pub struct EnvironmentReconciler {
    deps: EnvironmentDeps,
}

impl EnvironmentReconciler {
    /// A reconciler over these.
    #[must_use]
    pub fn new(deps: EnvironmentDeps) -> Self {
        Self { deps }
    }
}

/// The Environments to look at because `node` appeared, changed or went: the one that controls it, and the one whose
/// child's name it has, which may be waiting for that name.
#[must_use]
pub fn wakes(node: &Node) -> Vec<Key> {
    let namespace = node.namespace().unwrap_or_default();
    let owner = observe::controller(node).filter(|owner| owner.kind == Environment::kind(&())).map(|o| o.name.clone());
    let namesake = node.name_any().strip_suffix(CHILD_SUFFIX).map(str::to_owned);
    let mut names: Vec<_> = [owner, namesake].into_iter().flatten().collect();
    names.dedup();
    names.into_iter().map(|name| Key::namespaced(&namespace, name)).collect()
}

/// Whether `environment`, which lives on, takes its child `node` away by itself: its name cannot be published, so its VM
/// is rolled back, or it never had a VM and its slug was given up for another.
#[must_use]
pub fn replaces(environment: &Environment, node: &Node) -> bool {
    let Some(status) = &environment.status else { return false };
    let rolled_back = Rollback::of(status).is_some_and(|rollback| node.metadata.uid.as_ref() == Some(&rollback.node));
    let outdated = status.slug.is_some() && status.slug != node.spec.hostname && !observe::has_vm(node);
    rolled_back || outdated
}

const CHILD_SUFFIX: &str = "-vm";

/// The name of the Node that belongs to the Environment `name`.
#[must_use]
pub fn child_name(name: &str) -> String {
    format!("{name}{CHILD_SUFFIX}")
}

/// The key of our annotation or label `name`.
fn annotation_key(name: &str) -> String {
    format!("roadstead.dev/{name}")
}

/// The value of our annotation `name` on `object`.
fn annotation<'a, K: Resource>(object: &'a K, name: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(&annotation_key(name)).map(String::as_str)
}

#[async_trait]
impl Reconciler for EnvironmentReconciler {
    type Object = Environment;
    type Status = EnvironmentStatus;
    type Observed = Observed;
    type Facts = Facts;
    type Action = Action;

    const NAME: &'static str = "environment";
    const FINALIZER: &'static str = "roadstead.dev/environment";

    fn api(client: Client, namespace: &str) -> Api<Environment> {
        Api::namespaced(client, namespace)
    }

    fn status(environment: &Environment) -> EnvironmentStatus {
        environment.status.clone().unwrap_or_default()
    }

    async fn observe(&self, environment: &Arc<Environment>) -> Result<Observed, Fault> {
        self.look(environment).await
    }

    fn plan(&self, observed: &Observed, facts: &Facts, now: Timestamp) -> Step<Action, EnvironmentStatus> {
        plan::plan(observed, facts, now)
    }

    async fn apply(
        &self,
        observed: &Observed,
        facts: &mut Facts,
        action: Action,
    ) -> Result<Option<EnvironmentStatus>, Fault> {
        // What a write taught is in the child itself; the report that ends the pass tells of it.
        self.act(observed, facts, action).await.map(|()| None)
    }

    fn report(&self, observed: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> EnvironmentStatus {
        report::report(observed, facts, outcome, now)
    }

    fn notes(&self, old: &EnvironmentStatus, new: &EnvironmentStatus) -> Vec<Note> {
        report::notes(old, new)
    }
}
