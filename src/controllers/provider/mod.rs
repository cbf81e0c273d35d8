//! Providers: a source of VMs with its credential, or a list of networks whose hosts exist already. A pass reads as
//! observe, plan, apply, report; every decision is in [`plan`].
//!
//! A Provider of VMs asks the API who its token is, pins the account in status, and only then puts its [`Fleet`] into
//! the [`Registry`]. A token is installed into a running one only after the API said that it belongs to the pinned
//! account. Who may use it, and how it goes, is as for Zones ([`super::zone`]). The brake is in [`brakes`].
//!
//! [`Fleet`]: crate::cloud::fleet::Fleet

mod apply;
pub mod brakes;
#[cfg(test)]
mod kstatus_tests;
mod observe;
pub mod plan;
mod report;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt};

pub use self::brakes::{Brakes, Held};
use self::plan::{Action, Observed};
use super::access::{Attempt, Seen};
use super::credential::Credentials;
use super::orphans::Reports;
use super::registry::Registry;
use super::users;
use crate::api::environment::Environment;
use crate::api::names::ClusterId;
use crate::api::node::Node;
use crate::api::provider::{Provider, ProviderStatus};
use crate::cloud::Account;
use crate::cloud::digitalocean::DigitalOcean;
use crate::metrics::Metrics;
use crate::outside::budget::Budgets;
use crate::runtime::cache::{Cache, Key, is_gone};
use crate::runtime::driver::{Outcome, Reconciler, Step};
use crate::runtime::events::Note;
use crate::runtime::fault::Fault;

/// What Providers need.
pub struct ProviderDeps {
    /// Our cluster's id.
    pub cluster: ClusterId,
    /// Base URL of `DigitalOcean`'s API.
    pub digitalocean_api: String,
    /// Reads Secrets.
    pub credentials: Arc<Credentials>,
    /// The request budgets of the process.
    pub budgets: Budgets,
    /// All Nodes.
    pub nodes: Cache<Node>,
    /// All Environments.
    pub environments: Cache<Environment>,
    /// Where running Providers are found.
    pub registry: Arc<Registry>,
    /// The brakes, shared with the Nodes' controller.
    pub brakes: Arc<Brakes>,
    /// What the last sweep found.
    pub orphans: Reports,
    /// Metrics.
    pub metrics: Metrics,
    /// Called with a Provider's name when it has started: those who wait for it are to be woken.
    pub started: Box<dyn Fn(&str) + Send + Sync>,
    /// How long a listing may run behind a write.
    pub settle: Duration,
    /// How often everything is compared with the outside.
    pub resync: Duration,
}

/// What is known of a Provider between its passes. Lost with the process, and then learned again.
struct Memory {
    uid: String,
    attempt: Option<Attempt<Account>>,
    /// The client of the running fleet, and the version of the Secret whose token it uses.
    client: Option<(Arc<DigitalOcean>, String)>,
}

/// Reconciles Providers.
pub struct ProviderReconciler {
    deps: ProviderDeps,
    /// By name.
    memory: Mutex<HashMap<String, Memory>>,
}

impl ProviderReconciler {
    /// A reconciler over these.
    #[must_use]
    pub fn new(deps: ProviderDeps) -> Self {
        Self { deps, memory: Mutex::default() }
    }
}

/// The Provider to look at when a Node changed: one whose brake counts it, or that may wait for it to be gone.
#[must_use]
pub fn of_node(node: &Node, before: Option<&Node>) -> Option<Key> {
    let missing = |node: &Node| {
        let journal = node.status.as_ref().and_then(|status| status.journal.as_ref());
        journal.is_some_and(|journal| journal.missing_since.is_some())
    };
    let deleting = |node: &Node| node.metadata.deletion_timestamp.is_some();
    let changed = deleting(node) != before.is_some_and(deleting) || missing(node) != before.is_some_and(missing);
    (changed || is_gone(node, before)).then(|| Key::cluster(&node.spec.provider_ref.name))
}

/// The Provider to look at when an Environment changed: once it is gone, since the Provider may wait for that.
#[must_use]
pub fn of_environment(environment: &Environment, before: Option<&Environment>) -> Option<Key> {
    is_gone(environment, before).then(|| Key::cluster(&environment.spec.node.provider_ref.name))
}

/// The Nodes of a Provider, to be looked at when [`concerns_users`] or when it has started.
#[must_use]
pub fn nodes_of(provider: &str, nodes: &Cache<Node>) -> Vec<Key> {
    let of = |node: &Arc<Node>| node.spec.provider_ref.name == provider;
    nodes.all().iter().filter(|node| of(node)).map(|node| Key::of(&**node)).collect()
}

/// Whether a change of a Provider matters to its Nodes: its spec, whether it may be used, its hold or the approval of
/// it. Counts in its status do not.
#[must_use]
pub fn concerns_users(new: &Provider, old: Option<&Provider>) -> bool {
    let parts = |provider: &Provider| {
        let status = provider.status.clone().unwrap_or_default();
        let approval = provider.annotations().get(brakes::APPROVE).cloned();
        let hold = status.hold.map(|hold| hold.id);
        (provider.spec.clone(), provider.metadata.uid.clone(), approval, hold, users::gates(&status.conditions))
    };
    is_gone(new, old) || old.is_none_or(|old| parts(old) != parts(new))
}

#[async_trait]
impl Reconciler for ProviderReconciler {
    type Object = Provider;
    type Status = ProviderStatus;
    type Observed = Observed;
    /// Each step sees what the one before it did.
    type Facts = ();
    type Action = Action;

    const NAME: &'static str = "provider";
    const FINALIZER: &'static str = "roadstead.dev/in-use";

    fn api(client: Client, _: &str) -> Api<Provider> {
        Api::all(client)
    }

    fn status(provider: &Provider) -> ProviderStatus {
        provider.status.clone().unwrap_or_default()
    }

    async fn observe(&self, provider: &Arc<Provider>) -> Result<Observed, Fault> {
        self.look(provider).await
    }

    fn plan(&self, seen: &Observed, (): &(), now: Timestamp) -> Step<Action, ProviderStatus> {
        plan::plan(seen, now)
    }

    async fn apply(&self, seen: &Observed, (): &mut (), action: Action) -> Result<Option<ProviderStatus>, Fault> {
        self.act(seen, action).await
    }

    fn report(&self, seen: &Observed, (): &(), outcome: &Outcome, now: Timestamp) -> ProviderStatus {
        report::status(seen, outcome, now)
    }

    fn notes(&self, old: &ProviderStatus, new: &ProviderStatus) -> Vec<Note> {
        report::notes(old, new)
    }

    fn recheck(&self) -> Option<Duration> {
        Some(self.deps.credentials.max_age())
    }
}

fn seen(status: &ProviderStatus) -> Seen<'_> {
    Seen { conditions: &status.conditions, credential: status.credential.as_ref(), orphans: [&status.orphans, &[]] }
}
