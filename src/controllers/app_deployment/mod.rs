//! Apps: Compose projects behind Caddy, on one host or on several. A pass reads as observe, plan, apply, report; every
//! decision is in [`plan`], and what is done on a host in [`deploy`](crate::host::deploy).

pub mod apply;
pub mod available;
pub mod followers;
#[cfg(test)]
mod kstatus_tests;
pub mod material;
pub mod memory;
pub mod names;
pub mod observe;
pub mod peers;
pub mod plan;
mod report;
pub mod serving;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};

use self::apply::Finished;
use self::available::Availability;
use self::memory::Memory;
use self::observe::Observed;
use self::plan::{Action, Facts};
use crate::api::app_deployment::{AppDeployment, AppDeploymentStatus};
use crate::api::condition;
use crate::api::names::{ClusterId, Fqdn};
use crate::api::node::Node;
use crate::api::provider::Provider;
use crate::api::server_group::ServerGroup;
use crate::api::zone::Zone;
use crate::controllers::hosts::Hosts;
use crate::controllers::registry::Registry;
use crate::probe::site::Asker;
use crate::runtime::cache::{Cache, Key, is_gone};
use crate::runtime::claims::Claims;
use crate::runtime::driver::{Outcome, Reconciler, Step};
use crate::runtime::events::{Events, Note};
use crate::runtime::fault::Fault;
use crate::runtime::jobs::Jobs;

/// What apps need. All caches must be filled before the first pass.
pub struct AppDeploymentDeps {
    /// Our cluster's id.
    pub cluster: ClusterId,
    /// The operator's own namespace, whose Secrets are no app's.
    pub namespace: String,
    /// The API server, for the Secrets and `ConfigMaps` of apps, and their revisions.
    pub client: Client,
    /// Running Zones.
    pub registry: Arc<Registry>,
    /// All Zones.
    pub zones: Cache<Zone>,
    /// All Providers.
    pub providers: Cache<Provider>,
    /// All Nodes.
    pub nodes: Cache<Node>,
    /// All apps.
    pub apps: Cache<AppDeployment>,
    /// All ServerGroups.
    pub groups: Cache<ServerGroup>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// Claims.
    pub claims: Claims,
    /// Events.
    pub events: Events,
    /// Connections to hosts.
    pub hosts: Arc<Hosts>,
    /// Who asks names from outside.
    pub asker: Arc<Asker>,
    /// The probes of names that are live.
    pub available: Arc<Availability>,
    /// Resolvers that are asked for the proof of names that lie in no Zone.
    pub resolvers: Vec<SocketAddr>,
    /// Where apps' networks get their addresses from.
    pub pool: Ipv4Net,
    /// How often everything is looked at.
    pub resync: Duration,
    /// The longest TTL that is waited out, in tests.
    pub ttl_cap: Option<Duration>,
    /// Whether nothing may be written outside.
    pub read_only: bool,
}

/// Reconciles apps.
pub struct AppDeploymentReconciler {
    deps: AppDeploymentDeps,
    memory: Memory,
    jobs: Jobs<Finished>,
}

/// How many apps may do what takes long at once.
const JOBS: usize = 32;
/// How often what the object refers to is read again: Secrets are not watched.
const READ: Duration = Duration::from_secs(60);

impl AppDeploymentReconciler {
    /// A reconciler over these; `wake` has an app looked at.
    #[must_use]
    pub fn new(deps: AppDeploymentDeps, wake: impl Fn(&Key) + Send + Sync + 'static) -> Self {
        Self { deps, memory: Memory::default(), jobs: Jobs::new(JOBS, wake) }
    }

    /// Ends what takes long; the next leader looks what became of it.
    pub async fn close(&self) {
        self.jobs.close().await;
    }
}

/// Apps that a change of a Node concerns: those that are on it, and those that might be.
#[must_use]
pub fn of_node(node: &Node, before: Option<&Node>, apps: &Cache<AppDeployment>) -> Vec<Key> {
    let seen = |node: &Node| {
        let status = node.status.clone().unwrap_or_default();
        let bootstrapped =
            condition::get(&status.conditions, "Bootstrapped").map(|c| (c.status.clone(), c.message.clone()));
        let resolvable = condition::is_true(&status.conditions, "Resolvable");
        (
            node.metadata.labels.clone(),
            node.metadata.deletion_timestamp.is_some(),
            status.addresses,
            status.fqdn,
            bootstrapped,
            resolvable,
            node.spec.health_path.clone(),
            node.spec.host.clone(),
        )
    };
    let changed = before.is_none_or(|before| std::ptr::eq(before, node) || seen(before) != seen(node));
    if changed { keys(apps, |app| app.namespace() == node.namespace()) } else { Vec::new() }
}

/// Apps that have, or may get, a name in the domain of a Zone.
#[must_use]
pub fn of_zone(zone: &Zone, apps: &Cache<AppDeployment>) -> Vec<Key> {
    let Ok(domain) = Fqdn::parse(&zone.spec.domain) else { return Vec::new() };
    keys(apps, |app| {
        let spec = app.spec.domains.iter().map(|domain| domain.name.as_str());
        let known = app.status.iter().flat_map(|status| &status.domains).map(|domain| domain.name.as_str());
        let mut names = spec.chain(known).filter_map(|name| Fqdn::parse(name).ok());
        names.any(|name| name.is_within(&domain)) || app.spec.domains.is_empty()
    })
}

/// The Zones that an app has records in.
#[must_use]
pub fn zones_of(app: &AppDeployment) -> BTreeSet<&str> {
    let known = app.status.iter().flat_map(|status| &status.domains);
    known.filter_map(|domain| domain.zone.as_deref()).collect()
}

/// The Zones that an app just left.
#[must_use]
pub fn left(app: &AppDeployment, before: Option<&AppDeployment>) -> Vec<Key> {
    let now = if is_gone(app, before) { BTreeSet::new() } else { zones_of(app) };
    let before = before.map(zones_of).unwrap_or_default();
    before.difference(&now).map(|zone| Key::cluster(*zone)).collect()
}

/// Apps that want a name that somebody held, or had it.
#[must_use]
pub fn waiting_for(fqdn: &str, apps: &Cache<AppDeployment>) -> Vec<Key> {
    keys(apps, |app| {
        let ready = app.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, condition::READY));
        let wants = app.spec.domains.iter().any(|domain| domain.name == fqdn);
        let has = app.status.iter().flat_map(|status| &status.domains).any(|domain| domain.name == fqdn);
        has || (!ready && (wants || app.spec.domains.is_empty()))
    })
}

/// The apps of a namespace.
#[must_use]
pub fn inside(namespace: &str, apps: &Cache<AppDeployment>) -> Vec<Key> {
    keys(apps, |app| app.namespace().as_deref() == Some(namespace))
}

fn keys(apps: &Cache<AppDeployment>, chosen: impl Fn(&AppDeployment) -> bool) -> Vec<Key> {
    apps.all().iter().filter(|app| chosen(app)).map(|app| Key::of(&**app)).collect()
}

#[async_trait]
impl Reconciler for AppDeploymentReconciler {
    type Object = AppDeployment;
    type Status = AppDeploymentStatus;
    type Observed = Observed;
    type Facts = Facts;
    type Action = Action;

    const NAME: &'static str = "appdeployment";
    const FINALIZER: &'static str = "roadstead.dev/appdeployment";
    /// A deploy is some thirty steps, each with a look before it and a note after it.
    const MOST_STEPS: usize = 256;

    fn api(client: Client, namespace: &str) -> Api<AppDeployment> {
        Api::namespaced(client, namespace)
    }

    fn status(app: &AppDeployment) -> AppDeploymentStatus {
        app.status.clone().unwrap_or_default()
    }

    async fn observe(&self, app: &Arc<AppDeployment>) -> Result<Observed, Fault> {
        self.look(app)
    }

    fn plan(&self, seen: &Observed, facts: &Facts, now: Timestamp) -> Step<Action, AppDeploymentStatus> {
        plan::plan(seen, facts, now)
    }

    async fn apply(
        &self,
        seen: &Observed,
        facts: &mut Facts,
        action: Action,
    ) -> Result<Option<AppDeploymentStatus>, Fault> {
        self.act(seen, facts, action).await
    }

    fn report(&self, seen: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> AppDeploymentStatus {
        report::status(seen, facts, outcome, now)
    }

    fn notes(&self, old: &AppDeploymentStatus, new: &AppDeploymentStatus) -> Vec<Note> {
        report::notes(old, new)
    }

    fn recheck(&self) -> Option<Duration> {
        Some(READ)
    }
}
