//! Who looks again when something changed: caches and zone writers on one side, a stream of keys per controller on the
//! other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::{mpsc, watch};

use crate::api::app_deployment::AppDeployment;
use crate::api::claim::HostnameClaim;
use crate::api::condition;
use crate::api::environment::Environment;
use crate::api::names::Fqdn;
use crate::api::node::Node;
use crate::api::provider::Provider;
use crate::api::server_group::{MemberHealth, ServerGroup};
use crate::api::zone::Zone;
use crate::controllers::orphans::Kind;
use crate::controllers::server_group::members::merge::label;
use crate::controllers::server_group::node_health;
use crate::controllers::server_group::worker::target::address;
use crate::controllers::{app_deployment, environment, node, provider, server_group, zone};
use crate::metrics::Metrics;
use crate::runtime::cache::{Cache, Key};
use crate::runtime::claims::{Claims, Reservation};

/// All objects as last seen.
#[derive(Clone)]
pub struct Caches {
    /// All Nodes.
    pub nodes: Cache<Node>,
    /// All Environments.
    pub environments: Cache<Environment>,
    /// All ServerGroups.
    pub groups: Cache<ServerGroup>,
    /// All Zones.
    pub zones: Cache<Zone>,
    /// All Providers.
    pub providers: Cache<Provider>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// All claims.
    pub claims: Cache<HostnameClaim>,
    /// All apps.
    pub apps: Cache<AppDeployment>,
}

/// Where keys are put in.
#[derive(Clone)]
pub struct Wakes {
    zones: mpsc::UnboundedSender<Key>,
    providers: mpsc::UnboundedSender<Key>,
    nodes: mpsc::UnboundedSender<Key>,
    environments: mpsc::UnboundedSender<Key>,
    groups: mpsc::UnboundedSender<Key>,
    apps: mpsc::UnboundedSender<Key>,
    healths: mpsc::UnboundedSender<Key>,
}

/// Where they come out.
pub struct Streams {
    /// For the Zone controller.
    pub zones: BoxStream<'static, Key>,
    /// For the Provider controller.
    pub providers: BoxStream<'static, Key>,
    /// For the Node controller.
    pub nodes: BoxStream<'static, Key>,
    /// For the Environment controller.
    pub environments: BoxStream<'static, Key>,
    /// For the ServerGroup controller.
    pub groups: BoxStream<'static, Key>,
    /// For the AppDeployment controller.
    pub apps: BoxStream<'static, Key>,
    /// Nodes whose condition `Healthy` is to be looked at, and where those are put in that have to be looked at again.
    pub healths: (mpsc::UnboundedSender<Key>, mpsc::UnboundedReceiver<Key>),
}

fn channel() -> (mpsc::UnboundedSender<Key>, BoxStream<'static, Key>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, stream(receiver).boxed())
}

fn stream<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> + Send + 'static {
    futures::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) })
}

fn put(sender: &mpsc::UnboundedSender<Key>, keys: impl IntoIterator<Item = Key>) {
    for key in keys {
        // A receiver that is gone belongs to a controller that ended, and so does the process.
        let _ = sender.send(key);
    }
}

impl Wakes {
    /// One channel a controller.
    pub fn new() -> (Self, Streams) {
        let ((zones, to_zones), (providers, to_providers)) = (channel(), channel());
        let ((nodes, to_nodes), (environments, to_environments)) = (channel(), channel());
        let ((groups, to_groups), (apps, to_apps)) = (channel(), channel());
        let (healths, healths_out) = mpsc::unbounded_channel();
        let again = (healths.clone(), healths_out);
        (
            Self { zones, providers, nodes, environments, groups, apps, healths },
            Streams {
                zones: to_zones,
                providers: to_providers,
                nodes: to_nodes,
                environments: to_environments,
                groups: to_groups,
                apps: to_apps,
                healths: again,
            },
        )
    }

    /// The channel on which zone writers name whom they have news for: `Node/<namespace>/<name>`,
    /// `ServerGroup/<namespace>/<name>`, `AppDeployment/<namespace>/<name>` or `Zone/<name>`.
    pub fn for_writers(&self) -> mpsc::UnboundedSender<String> {
        let (sender, mut receiver) = mpsc::unbounded_channel::<String>();
        let wakes = self.clone();
        tokio::spawn(async move {
            while let Some(wake) = receiver.recv().await {
                match wake.split('/').collect::<Vec<_>>()[..] {
                    ["Node", namespace, name] => put(&wakes.nodes, [Key::namespaced(namespace, name)]),
                    ["ServerGroup", namespace, name] => put(&wakes.groups, [Key::namespaced(namespace, name)]),
                    ["AppDeployment", namespace, name] => put(&wakes.apps, [Key::namespaced(namespace, name)]),
                    ["Zone", name] => put(&wakes.zones, [Key::cluster(name)]),
                    _ => tracing::error!(wake, "a zone writer named nobody we know"),
                }
            }
        });
        sender
    }

    /// What the orphan sweep calls with a Zone or Provider whose report changed.
    pub fn of_reports(&self) -> Box<dyn Fn(Kind, Key) + Send + Sync> {
        let wakes = self.clone();
        Box::new(move |kind, key| match kind {
            Kind::Record | Kind::Worker => put(&wakes.zones, [key]),
            Kind::Vm => put(&wakes.providers, [key]),
        })
    }

    /// What a Node calls with the name of a Provider that refused its token.
    pub fn of_doubts(&self) -> Box<dyn Fn(&str) + Send + Sync> {
        let providers = self.providers.clone();
        Box::new(move |name| put(&providers, [Key::cluster(name)]))
    }

    /// What is called with an app about which there is something new.
    pub fn of_apps(&self) -> Arc<dyn Fn(&Key) + Send + Sync> {
        let apps = self.apps.clone();
        Arc::new(move |key| put(&apps, [key.clone()]))
    }

    /// Has every group looked at when the prober loses, or gets back, its network. Until the prober is gone.
    pub fn follow_isolation(&self, mut isolated: watch::Receiver<bool>, groups: Cache<ServerGroup>) {
        let to = self.groups.clone();
        tokio::spawn(async move {
            while isolated.changed().await.is_ok() {
                put(&to, groups.all().iter().map(|group| Key::of(&**group)));
            }
        });
    }

    /// What work beside the loop calls with a Node about which there is something new.
    pub fn of_nodes(&self) -> Arc<dyn Fn(&Key) + Send + Sync> {
        let nodes = self.nodes.clone();
        Arc::new(move |key| put(&nodes, [key.clone()]))
    }

    /// What a Zone that has just connected calls with its name.
    pub fn users_of_zones(&self, caches: &Caches) -> Box<dyn Fn(&str) + Send + Sync> {
        let (wakes, nodes, groups) = (self.clone(), caches.nodes.clone(), caches.groups.clone());
        let (zones, apps) = (caches.zones.clone(), caches.apps.clone());
        Box::new(move |name| {
            put(&wakes.nodes, zone::nodes_of(name, &nodes));
            put(&wakes.groups, server_group::groups_of(name, &groups));
            let zone = zones.get(&Key::cluster(name));
            put(&wakes.apps, zone.iter().flat_map(|zone| app_deployment::of_zone(zone, &apps)));
        })
    }

    /// What a Provider that has just connected calls with its name.
    pub fn users_of_providers(&self, caches: &Caches) -> Box<dyn Fn(&str) + Send + Sync> {
        let (nodes, cache) = (self.nodes.clone(), caches.nodes.clone());
        Box::new(move |name| put(&nodes, provider::nodes_of(name, &cache)))
    }
}

impl Caches {
    /// Starts all watches.
    pub fn start(client: &Client, wakes: &Wakes) -> Self {
        let to = wakes.clone();
        let groups = Cache::start(Api::all(client.clone()), move |group: &ServerGroup, before| {
            put(&to.groups, first_sight(group, before));
            put(&to.zones, server_group::zone_of(group, before));
            put(&to.healths, node_health::of_group(group, before));
        });
        let to = wakes.clone();
        let apps = Cache::start(Api::all(client.clone()), move |app: &AppDeployment, before| {
            put(&to.apps, first_sight(app, before));
            put(&to.nodes, node::of_app(app, before));
            put(&to.zones, app_deployment::left(app, before));
        });
        let (to, users, deployed) = (wakes.clone(), groups.clone(), apps.clone());
        let nodes = Cache::start(Api::all(client.clone()), move |node: &Node, before| {
            put(&to.nodes, first_sight(node, before));
            put(&to.groups, server_group::of_node(node, before, &users));
            put(&to.apps, app_deployment::of_node(node, before, &deployed));
            put(&to.healths, node_health::of_node(node, before));
            put(&to.environments, environment::wakes(node));
            put(&to.zones, zone::of_node(node, before));
            put(&to.providers, provider::of_node(node, before));
        });
        let to = wakes.clone();
        let environments = Cache::start(Api::all(client.clone()), move |environment: &Environment, before| {
            put(&to.zones, zone::of_environment(environment, before));
            put(&to.providers, provider::of_environment(environment, before));
        });
        let (to, users, more, deployed) = (wakes.clone(), nodes.clone(), groups.clone(), apps.clone());
        let zones = Cache::start(Api::all(client.clone()), move |zone: &Zone, before| {
            put(&to.zones, first_sight(zone, before));
            if zone::concerns_users(zone, before) {
                put(&to.nodes, zone::nodes_of(&zone.name_any(), &users));
                put(&to.groups, server_group::groups_of(&zone.name_any(), &more));
                put(&to.apps, app_deployment::of_zone(zone, &deployed));
            }
        });
        let (to, users) = (wakes.clone(), nodes.clone());
        let providers = Cache::start(Api::all(client.clone()), move |provider: &Provider, before| {
            if provider::concerns_users(provider, before) {
                put(&to.nodes, provider::nodes_of(&provider.name_any(), &users));
            }
        });
        let (to, users, more, deployed) = (wakes.clone(), nodes.clone(), groups.clone(), apps.clone());
        let namespaces = Cache::start(Api::all(client.clone()), move |namespace: &Namespace, before| {
            // Its labels decide which Zones and Providers its objects may use.
            if before.is_some_and(|before| before.metadata.labels != namespace.metadata.labels) {
                let inside = |node: &Node| node.namespace() == namespace.metadata.name;
                put(&to.nodes, users.all().iter().filter(|node| inside(node)).map(|node| Key::of(&**node)));
                put(&to.groups, server_group::inside(&namespace.name_any(), &more));
                put(&to.apps, app_deployment::inside(&namespace.name_any(), &deployed));
            }
        });
        let (to, users, more, domains) = (wakes.clone(), nodes.clone(), groups.clone(), zones.clone());
        let deployed = apps.clone();
        let claims = Cache::start(Api::all(client.clone()), move |claim: &HostnameClaim, before| {
            put(&to.zones, zone::of_claim(claim, &domains));
            // A claim that was just made or that only says more concerns nobody else.
            if before.is_some_and(|before| std::ptr::eq(before, claim) || before.spec != claim.spec) {
                put(&to.nodes, waiting_for(claim, &users));
                put(&to.groups, server_group::waiting_for(claim, &more));
                put(&to.apps, app_deployment::waiting_for(&claim.spec.fqdn, &deployed));
            }
        });
        Self { nodes, environments, groups, zones, providers, namespaces, claims, apps }
    }

    /// Waits until each has seen everything once.
    pub async fn filled(&self) {
        tokio::join!(
            self.nodes.filled(),
            self.environments.filled(),
            self.groups.filled(),
            self.zones.filled(),
            self.providers.filled(),
            self.namespaces.filled(),
            self.claims.filled(),
            self.apps.filled(),
        );
    }
}

/// An object seen for the first time looks again: its controller has a watch of its own and may have looked already, and
/// what changed since then, a Zone that became ready say, did not find this one among those to wake.
fn first_sight<K: Resource<DynamicType = ()>>(object: &K, before: Option<&K>) -> Option<Key> {
    before.is_none().then(|| Key::of(object))
}

/// Nodes that want what a claim holds, or held, and do not have it.
fn waiting_for(claim: &HostnameClaim, nodes: &Cache<Node>) -> Vec<Key> {
    let wants = |node: &Node| {
        let status = node.status.as_ref();
        let fqdn = status.and_then(|s| s.fqdn.as_deref()) == Some(claim.spec.fqdn.as_str());
        let address = node.spec.address.as_deref() == Some(claim.spec.fqdn.as_str());
        let ready = status.is_some_and(|s| condition::is_true(&s.conditions, condition::READY));
        (fqdn || address) && !ready
    };
    nodes.all().iter().filter(|node| wants(node)).map(|node| Key::of(&**node)).collect()
}

/// Keeps what is told about objects as a whole: their number by phase every 15 s, and every 30 s, in the status of
/// its claim, what is published at each name. Until `end`.
pub async fn keep_books(
    caches: Caches,
    claims: Claims,
    metrics: Metrics,
    resync: Duration,
    end: impl Future<Output = ()>,
) {
    let mut end = std::pin::pin!(end);
    let mut count = tokio::time::interval(Duration::from_secs(15));
    let often = resync.min(Duration::from_secs(30));
    let mut show = tokio::time::interval_at(tokio::time::Instant::now() + often, often);
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = count.tick() => count_phases(&caches, &metrics),
            _ = show.tick() => show_records(&caches, &claims).await,
        }
    }
}

/// Phases there are; a label of anything else would not be bounded.
const PHASES: [&str; 5] = ["Provisioning", "Active", "Deleting", "Error", "Expired"];

fn count_phases(caches: &Caches, metrics: &Metrics) {
    let nodes = caches.nodes.all();
    let environments = caches.environments.all();
    let of_nodes = nodes.iter().map(|n| ("Node", n.status.as_ref().and_then(|s| s.phase.clone())));
    let of_environments = environments.iter().map(|e| ("Environment", e.status.as_ref().and_then(|s| s.phase.clone())));
    let groups = caches.groups.all();
    let of_groups = groups.iter().map(|g| ("ServerGroup", g.status.as_ref().and_then(|s| s.phase.clone())));
    let apps = caches.apps.all();
    let of_apps = apps.iter().map(|app| ("AppDeployment", app.status.as_ref().and_then(|s| s.phase.clone())));
    let kinds = ["Node", "Environment", "ServerGroup", "AppDeployment"];
    let mut counts: BTreeMap<_, usize> =
        PHASES.iter().flat_map(|phase| kinds.map(|kind| ((kind, *phase), 0))).collect();
    for (kind, phase) in of_nodes.chain(of_environments).chain(of_groups).chain(of_apps) {
        let phase = phase.unwrap_or_else(|| "Provisioning".to_owned());
        if let Some(known) = PHASES.iter().find(|known| **known == phase) {
            *counts.entry((kind, known)).or_default() += 1;
        }
    }
    for ((kind, phase), count) in counts {
        metrics.objects(kind, phase, count);
    }
    let members = || groups.iter().filter_map(|g| g.status.as_ref()).flat_map(|s| &s.members);
    for health in [MemberHealth::Healthy, MemberHealth::Unhealthy, MemberHealth::Pending] {
        metrics.group_members(label(health), members().filter(|member| member.health == health).count());
    }
}

async fn show_records(caches: &Caches, claims: &Claims) {
    for node in caches.nodes.all() {
        let status = node.status.as_ref();
        let name = status.and_then(|s| Fqdn::parse(s.fqdn.as_deref()?).ok());
        let record = status.and_then(|s| s.record.as_ref());
        let (Some(name), Some(record)) = (name, record) else { continue };
        show(claims, &name, &record.content).await;
    }
    for app in caches.apps.all() {
        for domain in app.status.iter().flat_map(|status| &status.domains).filter(|domain| domain.zone.is_some()) {
            if let Ok(name) = Fqdn::parse(&domain.name) {
                show(claims, &name, &domain.addresses.join(",")).await;
            }
        }
    }
    for group in caches.groups.all() {
        let status = group.status.clone().unwrap_or_default();
        let list = status.txt.map(|txt| (txt.name, txt.content));
        let addresses = status.a.map(|a| (a.hostname, a.addresses.join(",")));
        let hostnames = status.slb.into_iter().flat_map(|slb| slb.hostnames);
        let origins = hostnames.filter_map(|name| address(&name).map(|ip| (name, ip.to_string())));
        for (name, record) in list.into_iter().chain(addresses).chain(origins) {
            if let Ok(name) = Fqdn::parse(&name) {
                show(claims, &name, &record).await;
            }
        }
    }
}

/// A claim's status has room for so much.
const LONGEST_RECORD: usize = 512;

async fn show(claims: &Claims, name: &Fqdn, record: &str) {
    let record = &record[..record.floor_char_boundary(LONGEST_RECORD)];
    if let Err(fault) = claims.set_record(&Reservation::of_name(name), record).await {
        tracing::debug!(%fault, %name, "what is published is not shown in its claim yet");
    }
}
