//! Server groups: servers, their health, and where the healthy ones are published. A pass reads as observe, plan, apply,
//! report; every decision is in [`plan`], [`publish`], [`worker`] and [`members::merge`].
//!
//! Health comes from the prober and from the servers' own reports. A change of it becomes a change of `status.members`
//! by the one writer of that list ([`members`]), and the watch on that status wakes the controller, which publishes what
//! the status says: nothing that matters lives only in memory.

pub mod api;
pub mod app_nodes;
mod apply;
#[cfg(test)]
mod kstatus_tests;
pub mod members;
pub mod node_health;
mod observe;
pub mod plan;
pub mod publish;
pub mod reach;
mod report;
pub mod roster;
mod slug;
pub mod txt;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;

use self::members::Members;
use self::observe::Observed;
use self::plan::{Action, Facts};
use crate::api::app_deployment::AppDeployment;
use crate::api::claim::HostnameClaim;
use crate::api::condition;
use crate::api::names::ClusterId;
use crate::api::node::Node;
use crate::api::server_group::{ServerGroup, ServerGroupStatus};
use crate::api::zone::Zone;
use crate::controllers::app_deployment::serving::Serving;
use crate::controllers::registry::Registry;
use crate::runtime::cache::{Cache, Key, is_gone};
use crate::runtime::claims::{Claims, Reservation};
use crate::runtime::driver::{Outcome, Reconciler, Step};
use crate::runtime::events::{Events, Note};
use crate::runtime::fault::Fault;

/// What groups need. All caches must be filled before the first pass.
pub struct ServerGroupDeps {
    /// Our cluster's id.
    pub cluster: ClusterId,
    /// Running Zones.
    pub registry: Arc<Registry>,
    /// All Zones.
    pub zones: Cache<Zone>,
    /// All Nodes.
    pub nodes: Cache<Node>,
    /// All apps.
    pub apps: Cache<AppDeployment>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// Claims.
    pub claims: Claims,
    /// Events.
    pub events: Events,
    /// The writer of the servers' health.
    pub members: Members,
    /// The calls for Workers.
    pub workers: worker::Desk,
    /// Whether the prober cannot reach anything.
    pub isolated: watch::Receiver<bool>,
    /// Whether the operator runs with `--read-only`.
    pub read_only: bool,
    /// How often everything is looked at.
    pub resync: Duration,
}

/// Reconciles groups.
pub struct ServerGroupReconciler {
    deps: ServerGroupDeps,
}

impl ServerGroupReconciler {
    /// A reconciler over these.
    #[must_use]
    pub fn new(deps: ServerGroupDeps) -> Self {
        Self { deps }
    }
}

/// The groups in a Zone.
#[must_use]
pub fn groups_of(zone: &str, groups: &Cache<ServerGroup>) -> Vec<Key> {
    keys(groups, |group| group.spec.zone_ref.name == zone)
}

/// The Zone to look at when a group changed: once it is gone, since the Zone may wait for that.
#[must_use]
pub fn zone_of(group: &ServerGroup, before: Option<&ServerGroup>) -> Option<Key> {
    is_gone(group, before).then(|| Key::cluster(&group.spec.zone_ref.name))
}

/// The groups to look at because a Node appeared, changed or went: those that select it now, and those that have it among
/// their servers. What a group does not use of a Node wakes nobody.
#[must_use]
pub fn of_node(node: &Node, before: Option<&Node>, groups: &Cache<ServerGroup>) -> Vec<Key> {
    let parts = |node: &Node| {
        let status = node.status.clone().unwrap_or_default();
        let leaving = node.meta().deletion_timestamp.is_some();
        let published = status.record.is_some();
        (node.metadata.labels.clone(), leaving, status.fqdn, status.addresses, published, node.spec.health_path.clone())
    };
    if before.is_some_and(|before| !is_gone(node, Some(before)) && parts(before) == parts(node)) {
        return Vec::new();
    }
    let (name, namespace) = (node.name_any(), node.namespace());
    let has = |group: &ServerGroup| {
        let members = group.status.as_ref().map(|s| s.members.as_slice()).unwrap_or_default();
        group.namespace() == namespace && members.iter().any(|member| member.node.as_ref() == Some(&name))
    };
    keys(groups, |group| roster::selects(group, node) || has(group))
}

/// The groups to look at because an app appeared, changed or went: those that refer to it. What a group does not use of an
/// app wakes nobody.
#[must_use]
pub fn of_app(app: &AppDeployment, before: Option<&AppDeployment>, groups: &Cache<ServerGroup>) -> Vec<Key> {
    let parts = |app: &AppDeployment| {
        let end = app.status.as_ref().and_then(|status| status.expires_at.clone());
        (Serving::of(app, Timestamp::MIN), end)
    };
    if before.is_some_and(|before| !is_gone(app, Some(before)) && parts(before) == parts(app)) {
        return Vec::new();
    }
    let (name, namespace) = (app.name_any(), app.namespace());
    keys(groups, |group| {
        group.namespace() == namespace && group.spec.app_ref.as_ref().is_some_and(|app| app.name == name)
    })
}

/// The groups that want what a claim holds, or held, and do not have it.
#[must_use]
pub fn waiting_for(claim: &HostnameClaim, groups: &Cache<ServerGroup>) -> Vec<Key> {
    let name = claim.name_any();
    keys(groups, |group| {
        let slug = group.spec.slug.as_deref().or(group.status.as_ref().and_then(|s| s.slug.as_deref()));
        let ready = group.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, condition::READY));
        let slug = slug.is_some_and(|slug| Reservation::of_slug(slug).name == name);
        let host = group.spec.dns.a.as_ref().is_some_and(|a| {
            a.hostname == "@" || name.strip_prefix(a.hostname.as_str()).is_some_and(|rest| rest.starts_with('.'))
        });
        let worker = group.spec.slb.as_ref().is_some_and(|slb| worker::wants(slb, &name));
        let origin =
            group.status.as_ref().and_then(|s| s.slb.as_ref()).is_some_and(|slb| slb.hostnames.contains(&name));
        !ready && (slug || host || worker || origin)
    })
}

/// The groups of a namespace.
#[must_use]
pub fn inside(namespace: &str, groups: &Cache<ServerGroup>) -> Vec<Key> {
    keys(groups, |group| group.namespace().as_deref() == Some(namespace))
}

fn keys(groups: &Cache<ServerGroup>, chosen: impl Fn(&ServerGroup) -> bool) -> Vec<Key> {
    groups.all().iter().filter(|group| chosen(group)).map(|group| Key::of(&**group)).collect()
}

#[async_trait]
impl Reconciler for ServerGroupReconciler {
    type Object = ServerGroup;
    type Status = ServerGroupStatus;
    type Observed = Observed;
    type Facts = Facts;
    type Action = Action;

    const NAME: &'static str = "servergroup";
    const FINALIZER: &'static str = "roadstead.dev/servergroup";

    fn api(client: Client, namespace: &str) -> Api<ServerGroup> {
        Api::namespaced(client, namespace)
    }

    fn status(group: &ServerGroup) -> ServerGroupStatus {
        group.status.clone().unwrap_or_default()
    }

    async fn observe(&self, group: &Arc<ServerGroup>) -> Result<Observed, Fault> {
        self.look(group).await
    }

    fn plan(&self, seen: &Observed, facts: &Facts, now: Timestamp) -> Step<Action, ServerGroupStatus> {
        plan::plan(seen, facts, now)
    }

    async fn apply(
        &self,
        seen: &Observed,
        facts: &mut Facts,
        action: Action,
    ) -> Result<Option<ServerGroupStatus>, Fault> {
        self.act(seen, facts, action).await.map(|()| None)
    }

    fn report(&self, seen: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> ServerGroupStatus {
        report::status(seen, facts, outcome, now)
    }

    fn notes(&self, old: &ServerGroupStatus, new: &ServerGroupStatus) -> Vec<Note> {
        report::notes(old, new)
    }
}
