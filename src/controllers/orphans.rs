//! Orphans: records, VMs and Workers with our cluster's mark whose owner is gone, and claims nobody holds any more.
//!
//! What is found outside is reported in the status of its Zone or Provider, in an event and in a metric; a person
//! decides. By itself the sweep deletes only what [`crate::cloud::orphans`] proves to be a second, never published VM
//! of a live owner. Claims are our own: those without a holder go, seen twice.

mod workers;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::registry::Registry;
use super::server_group::worker::Desk;
use crate::api::app_deployment::AppDeployment;
use crate::api::claim::Holder;
use crate::api::environment::Environment;
use crate::api::names::{ClusterId, Mark};
use crate::api::node::Node;
use crate::api::provider::Provider;
use crate::api::server_group::ServerGroup;
use crate::api::zone::Zone;
use crate::cloud::Source;
use crate::cloud::orphans::{self, Live, Orphan, Reason};
use crate::dns::Record;
use crate::metrics::Metrics;
use crate::outside::OutsideError;
use crate::runtime::cache::{Cache, Key};
use crate::runtime::claims::Claims;
use crate::runtime::events::{Events, Note};

use workers::Marks;

/// How many orphans a status names.
const SHOWN: usize = 50;
/// How long an entry may be.
const LONGEST: usize = 512;

/// What an orphan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A DNS record, in a Zone.
    Record,
    /// A VM, of a Provider.
    Vm,
    /// A Worker, of a Zone's account.
    Worker,
}

/// What the last sweep found, by Zone or Provider. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<Found>>);

type Found = HashMap<(Kind, String), Vec<String>>;

impl Reports {
    /// The orphans of the Zone or Provider `name`; `None` before it was first swept.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(kind, name.to_owned())).cloned()
    }

    /// Stores what was found; whether it is another list than before.
    fn set(&self, kind: Kind, name: &str, found: Vec<String>) -> bool {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let report = reports.entry((kind, name.to_owned())).or_default();
        let changed = *report != found;
        *report = found;
        changed
    }
}

/// What the sweep needs.
pub struct SweepDeps {
    /// Our cluster's id.
    pub cluster: ClusterId,
    /// Running Zones and Providers.
    pub registry: Arc<Registry>,
    /// All Zones.
    pub zones: Cache<Zone>,
    /// All Providers.
    pub providers: Cache<Provider>,
    /// All Nodes.
    pub nodes: Cache<Node>,
    /// All Environments.
    pub environments: Cache<Environment>,
    /// All ServerGroups.
    pub groups: Cache<ServerGroup>,
    /// All apps.
    pub apps: Cache<AppDeployment>,
    /// Reaches the Workers of Zones.
    pub desk: Desk,
    /// Claims.
    pub claims: Claims,
    /// Where the reconcilers read what was found.
    pub reports: Reports,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Metrics,
    /// Called with each Zone or Provider whose report changed: it is to be looked at.
    pub changed: Box<dyn Fn(Kind, Key) + Send + Sync>,
    /// How often.
    pub interval: Duration,
    /// How old a listing may be.
    pub resync: Duration,
    /// How old a VM must be before anything is said of it: longer than any listing lags and any create takes.
    pub min_age: Duration,
    /// Whether nothing may be deleted outside.
    pub read_only: bool,
}

/// The sweep.
pub struct Sweep {
    deps: SweepDeps,
    /// UIDs of holders that were not found the last time.
    suspects: HashSet<String>,
    /// Whose each Worker is.
    marks: Marks,
}

impl Sweep {
    /// A sweep over these. The caches must be filled, or everything would look dead.
    #[must_use]
    pub fn new(deps: SweepDeps) -> Self {
        Self { deps, suspects: HashSet::new(), marks: Marks::default() }
    }

    /// Sweeps every interval until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        // At first Zones and Providers have to connect.
        let first = Instant::now() + self.deps.interval.min(Duration::from_mins(1));
        let mut ticks = tokio::time::interval_at(first, self.deps.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                _ = ticks.tick() => self.once().await,
            }
            // These are many reads, and nothing but reads.
            tokio::select! {
                () = &mut shutdown => return,
                () = self.workers() => {}
            }
        }
    }

    /// One sweep of everything but Workers.
    async fn once(&mut self) {
        self.records();
        self.vms().await;
        self.claims().await;
    }

    fn records(&self) {
        let mut total = 0;
        for zone in self.deps.zones.all() {
            let name = zone.name_any();
            let Some(live) = self.deps.registry.zone(&name) else { continue };
            let Some(owned) = live.writer.owned_records() else { continue };
            // Who lives is asked after the listing, or an owner made meanwhile would look dead.
            let alive = self.alive();
            let found = orphaned_records(&owned.records, &self.deps.cluster, &alive);
            total += found.len();
            self.report(Kind::Record, &name, found);
        }
        self.deps.metrics.orphans("record", total);
    }

    async fn vms(&self) {
        let mut total = 0;
        for provider in self.deps.providers.all() {
            let name = provider.name_any();
            let Some(Source::Vms(fleet)) = self.deps.registry.provider(&name) else { continue };
            // Without a listing nothing is said; what was found before stays.
            let Ok(snapshot) = fleet.snapshot(self.deps.resync).await else { continue };
            let alive = self.alive();
            let (vms, now) = (snapshot.vms(), Timestamp::now());
            let mut found = orphans::sweep(&vms, &self.deps.cluster, &alive, now, self.deps.min_age);
            if !self.deps.read_only {
                let mut kept = Vec::new();
                for orphan in found {
                    if !(orphan.deletable && self.delete(&provider, &fleet, &orphan).await) {
                        kept.push(orphan);
                    }
                }
                found = kept;
            }
            total += found.len();
            self.report(Kind::Vm, &name, found.iter().map(describe).collect());
        }
        self.deps.metrics.orphans("vm", total);
    }

    async fn workers(&mut self) {
        let mut total = HashSet::new();
        for zone in self.deps.zones.all() {
            let name = zone.name_any();
            let secret = zone.spec.cloudflare.workers.as_ref().map(|workers| &workers.token_secret_ref.name);
            let Some(secret) = secret else {
                self.report(Kind::Worker, &name, Vec::new());
                continue;
            };
            let Ok(Some((workers, version))) = self.deps.desk.workers(&zone).await else { continue };
            let scripts = match self.marks.read(&workers).await {
                Ok(scripts) => scripts,
                // Unless all were read nothing is said; what was found before stays.
                Err(error) => {
                    tracing::debug!(zone = name, %error, "Workers not listed");
                    if matches!(error, OutsideError::Unauthorized(_)) {
                        self.deps.desk.credentials().refused(secret, &version);
                    }
                    continue;
                }
            };
            let alive = self.alive();
            let orphaned = |mark: &Mark| is_orphaned(mark, &self.deps.cluster, &alive);
            let found: Vec<_> =
                scripts.into_iter().filter(|(_, mark)| orphaned(mark)).map(|(script, _)| script).collect();
            let account = workers.account();
            // Several Zones may have the same account.
            total.extend(found.iter().map(|script| (account.to_owned(), script.clone())));
            let describe = |script| format!("Worker {script} of account {account}: no object has its owner");
            self.report(Kind::Worker, &name, found.iter().map(describe).collect());
        }
        self.deps.metrics.orphans("worker", total.len());
    }

    /// Deletes a surplus VM that was never published; whether it is gone.
    async fn delete(&self, provider: &Provider, fleet: &crate::cloud::fleet::Fleet, orphan: &Orphan) -> bool {
        let vm = &orphan.vm;
        match fleet.provider().delete(&vm.id).await {
            Ok(()) => {
                fleet.deleted(&vm.id);
                let message = format!("VM {} {}: a second one of a live owner, never published", vm.id, vm.name);
                tracing::info!(vm = %vm.id, name = %vm.name, "surplus VM deleted");
                self.deps.events.publish(provider.object_ref(&()), Note::normal("SurplusVMDeleted", message));
                true
            }
            Err(error) => {
                tracing::warn!(vm = %vm.id, %error, "surplus VM not deleted; tried again with the next sweep");
                false
            }
        }
    }

    async fn claims(&mut self) {
        let missing = Mutex::new(HashSet::new());
        let suspects = std::mem::take(&mut self.suspects);
        let swept = self.deps.claims.sweep(|namespace, holder| {
            if self.lives(namespace, holder) {
                return true;
            }
            // The claim may be newer than our cache of its holder's kind: only a second look convicts.
            missing.lock().unwrap_or_else(PoisonError::into_inner).insert(holder.uid.clone());
            !suspects.contains(&holder.uid)
        });
        match swept.await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "claims without a holder removed"),
            Err(fault) => tracing::warn!(%fault, "claims not swept"),
        }
        self.suspects = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// Whether the holder exists. An object made again under its name inherits the claim.
    fn lives(&self, namespace: &str, holder: &Holder) -> bool {
        let key = Key { namespace: namespace.to_owned(), name: holder.name.clone() };
        match holder.kind.as_str() {
            "Node" => self.deps.nodes.exists(&key),
            "ServerGroup" => self.deps.groups.exists(&key),
            "AppDeployment" => self.deps.apps.exists(&key),
            "Environment" => self.deps.environments.exists(&key),
            "Zone" => self.deps.zones.exists(&key),
            // Another version's: not ours to judge.
            _ => true,
        }
    }

    fn alive(&self) -> Live {
        let mut alive = alive(&self.deps.cluster, &self.deps.nodes.all(), &self.deps.environments.all());
        // Of one that cannot be read only its name is known: enough to leave alone what was made for it.
        for (kind, unreadable) in [
            ("Node", self.deps.nodes.unreadable()),
            ("Environment", self.deps.environments.unreadable()),
            ("ServerGroup", self.deps.groups.unreadable()),
            ("AppDeployment", self.deps.apps.unreadable()),
        ] {
            let marks = unreadable.iter().filter_map(|metadata| mark_of(&self.deps.cluster, metadata, kind));
            alive.keys.extend(marks.map(|mark| mark.key));
        }
        let (groups, apps) = (self.deps.groups.all(), self.deps.apps.all());
        let groups = groups.iter().filter_map(|group| mark_of(&self.deps.cluster, &group.metadata, "ServerGroup"));
        let apps = apps.iter().filter_map(|app| mark_of(&self.deps.cluster, &app.metadata, "AppDeployment"));
        for mark in groups.chain(apps) {
            alive.owners.entry(mark.owner).or_default();
            alive.keys.insert(mark.key);
        }
        for zone in self.deps.registry.writers() {
            let records = zone.owned_records().map(|owned| owned.records).unwrap_or_default();
            alive.published.extend(records.iter().filter_map(|(_, record)| address(record)));
        }
        alive
    }

    fn report(&self, kind: Kind, name: &str, found: Vec<String>) {
        if self.deps.reports.set(kind, name, shown(found)) {
            (self.deps.changed)(kind, Key::cluster(name));
        }
    }
}

/// What is alive in the cluster, by the marks it would leave outside.
fn alive(cluster: &ClusterId, nodes: &[Arc<Node>], environments: &[Arc<Environment>]) -> Live {
    let mut alive = Live::default();
    for node in nodes {
        let status = node.status.clone().unwrap_or_default();
        let retired = status.journal.map(|journal| journal.retired).unwrap_or_default();
        let ids = status.vm_id.into_iter().chain(retired).collect();
        if let Some(mark) = mark_of(cluster, &node.metadata, "Node") {
            alive.owners.insert(mark.owner, ids);
            alive.keys.insert(mark.key);
        }
        let record = status.record.and_then(|record| record.content.parse::<IpAddr>().ok());
        let addresses = status.addresses.and_then(|addresses| addresses.publishable());
        alive.published.extend(record.into_iter().chain(addresses));
    }
    for environment in environments {
        if let Some(mark) = mark_of(cluster, &environment.metadata, "Environment") {
            alive.owners.entry(mark.owner).or_default();
            alive.keys.insert(mark.key);
        }
    }
    alive
}

fn mark_of(cluster: &ClusterId, metadata: &ObjectMeta, kind: &str) -> Option<Mark> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Mark::new(cluster.clone(), kind, namespace, metadata.name.as_deref()?, metadata.uid.as_deref()?).ok()
}

/// Whether something with this mark is of our cluster, and no live object owns it, or would adopt it.
fn is_orphaned(mark: &Mark, cluster: &ClusterId, alive: &Live) -> bool {
    mark.cluster == *cluster && !alive.owners.contains_key(&mark.owner) && !alive.keys.contains(&mark.key)
}

/// The records of our cluster that no live object owns, or would adopt.
fn orphaned_records(records: &[(Mark, Record)], cluster: &ClusterId, alive: &Live) -> Vec<String> {
    records
        .iter()
        .filter(|(mark, _)| is_orphaned(mark, cluster, alive))
        .map(|(_, record)| {
            let (kind, content) = (record.value.kind(), record.value.text());
            format!("{} {kind} {content} (record {}): no object has its owner", record.name, record.id)
        })
        .collect()
}

fn address(record: &Record) -> Option<IpAddr> {
    record.value.text().parse().ok()
}

fn describe(orphan: &Orphan) -> String {
    let Orphan { vm, reason, .. } = orphan;
    let why = match reason {
        Reason::OwnerGone => "no object has its owner",
        Reason::MarkBroken => "its tags name no owner",
        Reason::Surplus => "its owner has another VM",
    };
    let address = vm.public4.map(|address| format!(" {address}")).unwrap_or_default();
    format!("VM {} {}{address}: {why}", vm.id, vm.name)
}

/// The list as a status holds it: sorted, so that the same orphans make the same text, and bounded.
fn shown(mut found: Vec<String>) -> Vec<String> {
    found.sort();
    let more = found.len().saturating_sub(SHOWN);
    if more > 0 {
        found.truncate(SHOWN - 1);
        found.push(format!("and {} more", more + 1));
    }
    for entry in &mut found {
        entry.truncate(entry.floor_char_boundary(LONGEST));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::node::{NodeSpec, NodeStatus};
    use crate::api::status::Journal;

    const UID: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";

    fn cluster() -> ClusterId {
        ClusterId::parse("c1").unwrap()
    }

    fn node(name: &str) -> Arc<Node> {
        let mut node = Node::new(name, NodeSpec::default());
        (node.metadata.namespace, node.metadata.uid) = (Some("shop".into()), Some(UID.into()));
        node.status = Some(NodeStatus {
            vm_id: Some("2".into()),
            journal: Some(Journal { retired: vec!["1".into()], ..Journal::default() }),
            ..NodeStatus::default()
        });
        Arc::new(node)
    }

    #[test]
    fn a_node_vouches_for_its_vm_for_those_it_retires_and_for_its_name() {
        let alive = alive(&cluster(), &[node("web-1")], &[]);
        let mark = Mark::new(cluster(), "Node", "shop", "web-1", UID).unwrap();
        let ids: HashSet<String> = ["1", "2"].map(String::from).into();
        assert_eq!(alive.owners.get(&mark.owner), Some(&ids));
        assert!(alive.keys.contains(&mark.key));
    }

    #[test]
    fn the_list_is_sorted_and_says_how_many_it_leaves_out() {
        assert_eq!(shown(vec!["b".into(), "a".into()]), ["a", "b"]);
        let list = shown((0..120).map(|n| format!("{n:03}")).collect());
        assert_eq!((list.len(), list[0].as_str(), list[49].as_str()), (50, "000", "and 71 more"));
        assert_eq!(shown(vec!["ä".repeat(400)])[0].len(), LONGEST);
        let fifty: Vec<String> = (0..50).map(|n| format!("{n:03}")).collect();
        assert_eq!(shown(fifty.clone()), fifty);
    }

    #[test]
    fn only_another_list_counts_as_a_change() {
        let reports = Reports::default();
        assert_eq!(reports.get(Kind::Record, "z"), None);
        assert!(!reports.set(Kind::Record, "z", Vec::new()), "none found at first is no change");
        assert!(reports.set(Kind::Record, "z", vec!["a".into()]));
        assert!(!reports.set(Kind::Record, "z", vec!["a".into()]));
        assert!(reports.set(Kind::Record, "z", Vec::new()));
        assert_eq!(reports.get(Kind::Record, "z"), Some(Vec::new()));
        assert_eq!(reports.get(Kind::Vm, "z"), None);
    }
}
