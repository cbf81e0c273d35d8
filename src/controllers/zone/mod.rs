//! Zones: a domain, its credential, and the one task that writes its records. A pass reads as observe, plan, apply,
//! report; every decision is in [`plan`].
//!
//! A Zone claims its domain, asks Cloudflare who its token is, pins zone and account in status, and only then starts
//! the writer and puts it into the [`Registry`]. A token is installed into a running writer only after Cloudflare said
//! that it belongs to the pinned account: with any other, or without a Secret, the writer keeps the last good one.
//!
//! **Who may publish.** Nothing new is published in a Zone that is not in the Registry, that is Stalled, or whose
//! `CredentialReady` is False; its Nodes wait. Withdrawing needs only the Registry. `Reachable` stops nobody: a call
//! that fails says so itself.
//!
//! A Zone that is being deleted goes on working until no Node, Environment or ServerGroup names it.

mod apply;
#[cfg(test)]
mod kstatus_tests;
mod observe;
pub mod plan;
mod report;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::plan::{Action, Facts, Observed};
use super::access::{self, Attempt, Seen};
use super::credential::Credentials;
use super::orphans::Reports;
use super::registry::Registry;
use super::users;
use crate::api::app_deployment::AppDeployment;
use crate::api::claim::HostnameClaim;
use crate::api::environment::Environment;
use crate::api::names::ClusterId;
use crate::api::node::Node;
use crate::api::server_group::ServerGroup;
use crate::api::zone::{Zone, ZoneStatus};
use crate::dns::ZoneFacts;
use crate::metrics::Metrics;
use crate::outside::budget::Budgets;
use crate::runtime::cache::{Cache, Key, is_gone};
use crate::runtime::claims::Claims;
use crate::runtime::driver::{Outcome, Reconciler, Step};
use crate::runtime::events::Note;
use crate::runtime::fault::Fault;

/// What Zones need.
pub struct ZoneDeps {
    /// Our cluster's id.
    pub cluster: ClusterId,
    /// Base URL of Cloudflare's API.
    pub api: String,
    /// Reads Secrets.
    pub credentials: Arc<Credentials>,
    /// The request budgets of the process.
    pub budgets: Budgets,
    /// Claims.
    pub claims: Claims,
    /// All Nodes.
    pub nodes: Cache<Node>,
    /// All Environments.
    pub environments: Cache<Environment>,
    /// All ServerGroups.
    pub groups: Cache<ServerGroup>,
    /// All apps.
    pub apps: Cache<AppDeployment>,
    /// Where running Zones are found.
    pub registry: Arc<Registry>,
    /// What the last sweep found.
    pub orphans: Reports,
    /// Metrics.
    pub metrics: Metrics,
    /// Where writers send wakes: `Node/<namespace>/<name>`, `ServerGroup/…`, or [`wake`] of their Zone.
    pub wakes: mpsc::UnboundedSender<String>,
    /// Called with a Zone's name when its writer has started: those who wait for it are to be woken.
    pub started: Box<dyn Fn(&str) + Send + Sync>,
    /// The one server to ask in place of a zone's own, in tests.
    pub authority: Option<SocketAddr>,
    /// Resolvers for Zones that name none.
    pub resolvers: Vec<SocketAddr>,
    /// How often everything is compared with the outside.
    pub resync: Duration,
    /// Whether nothing may be written outside.
    pub read_only: bool,
}

/// What is known of a Zone between its passes. Lost with the process, and then learned again.
struct Memory {
    uid: String,
    attempt: Option<Attempt<ZoneFacts>>,
    /// How many records are ours, and when that was counted: once a recheck, or each change of the zone would be a
    /// change of the status.
    counted: Option<(Instant, usize)>,
}

/// Reconciles Zones.
pub struct ZoneReconciler {
    deps: ZoneDeps,
    /// By name.
    memory: Mutex<HashMap<String, Memory>>,
}

impl ZoneReconciler {
    /// A reconciler over these.
    #[must_use]
    pub fn new(deps: ZoneDeps) -> Self {
        Self { deps, memory: Mutex::default() }
    }
}

/// What the writer of the Zone `name` sends on its `wakes` when its health changes.
#[must_use]
pub fn wake(name: &str) -> String {
    format!("Zone/{name}")
}

/// The Zone to look at when a Node changed: once it is gone, since the Zone may wait for that.
#[must_use]
pub fn of_node(node: &Node, before: Option<&Node>) -> Option<Key> {
    is_gone(node, before).then(|| Key::cluster(&node.spec.zone_ref.name))
}

/// The Zone to look at when an Environment changed: once it is gone, since the Zone may wait for that.
#[must_use]
pub fn of_environment(environment: &Environment, before: Option<&Environment>) -> Option<Key> {
    is_gone(environment, before).then(|| Key::cluster(&environment.spec.node.zone_ref.name))
}

/// The Zones to look at when a claim changed or went: those of its domain, one of which may wait for it.
#[must_use]
pub fn of_claim(claim: &HostnameClaim, zones: &Cache<Zone>) -> Vec<Key> {
    let is_zones = claim.metadata.name.as_deref().is_some_and(|name| name.starts_with("rs--zone."));
    let zones = if is_zones { zones.all() } else { Vec::new() };
    zones.iter().filter(|zone| zone.spec.domain == claim.spec.fqdn).map(|zone| Key::of(&**zone)).collect()
}

/// The Nodes in a Zone, to be looked at when [`concerns_users`] or when its writer has started.
#[must_use]
pub fn nodes_of(zone: &str, nodes: &Cache<Node>) -> Vec<Key> {
    let of = |node: &Arc<Node>| node.spec.zone_ref.name == zone;
    nodes.all().iter().filter(|node| of(node)).map(|node| Key::of(&**node)).collect()
}

/// The Environments in a Zone, to be looked at when [`concerns_users`].
#[must_use]
pub fn environments_of(zone: &str, environments: &Cache<Environment>) -> Vec<Key> {
    let of = |environment: &Arc<Environment>| environment.spec.node.zone_ref.name == zone;
    environments.all().iter().filter(|environment| of(environment)).map(|e| Key::of(&**e)).collect()
}

/// Whether a change of a Zone matters to those in it. Counts and lists in its status do not: they change with every
/// record.
#[must_use]
pub fn concerns_users(new: &Zone, old: Option<&Zone>) -> bool {
    let parts = |zone: &Zone| {
        let status = zone.status.clone().unwrap_or_default();
        (zone.spec.clone(), zone.metadata.uid.clone(), users::gates(&status.conditions))
    };
    is_gone(new, old) || old.is_none_or(|old| parts(old) != parts(new))
}

#[async_trait]
impl Reconciler for ZoneReconciler {
    type Object = Zone;
    type Status = ZoneStatus;
    type Observed = Observed;
    type Facts = Facts;
    type Action = Action;

    const NAME: &'static str = "zone";
    const FINALIZER: &'static str = "roadstead.dev/in-use";

    fn api(client: Client, _: &str) -> Api<Zone> {
        Api::all(client)
    }

    fn status(zone: &Zone) -> ZoneStatus {
        zone.status.clone().unwrap_or_default()
    }

    async fn observe(&self, zone: &Arc<Zone>) -> Result<Observed, Fault> {
        self.look(zone).await
    }

    fn plan(&self, seen: &Observed, facts: &Facts, now: Timestamp) -> Step<Action, ZoneStatus> {
        plan::plan(seen, facts, now)
    }

    async fn apply(&self, seen: &Observed, facts: &mut Facts, action: Action) -> Result<Option<ZoneStatus>, Fault> {
        self.act(seen, facts, action).await
    }

    fn report(&self, seen: &Observed, _: &Facts, outcome: &Outcome, now: Timestamp) -> ZoneStatus {
        report::status(seen, outcome, now)
    }

    fn notes(&self, old: &ZoneStatus, new: &ZoneStatus) -> Vec<Note> {
        access::notes(&seen(old), &seen(new))
    }

    fn recheck(&self) -> Option<Duration> {
        Some(self.deps.credentials.max_age())
    }
}

fn seen(status: &ZoneStatus) -> Seen<'_> {
    Seen {
        conditions: &status.conditions,
        credential: status.credential.as_ref(),
        orphans: [&status.orphans, &status.orphan_workers],
    }
}
