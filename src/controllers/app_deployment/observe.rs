//! What an app's plan looks at, read from caches and memory: no call per object.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::memory::Settled;
use super::{AppDeploymentReconciler, available};
use crate::api::app_deployment::{AppDeployment, AppDeploymentStatus, Publish};
use crate::api::claim::Holder;
use crate::api::condition;
use crate::api::names::{Fqdn, Mark};
use crate::api::node::Node;
use crate::api::refs::HostManagement;
use crate::api::zone::Zone;
use crate::controllers::node::observe::unusable;
use crate::controllers::{environment, is_allowed};
use crate::host::deploy::Journal;
use crate::host::deploy::commands::Place;
use crate::probe::Failure;
use crate::probe::site::Site;
use crate::runtime::cache::Key;
use crate::runtime::claims::{Claimant, Reservation, Role, Standing};
use crate::runtime::driver::Reconciler;
use crate::runtime::fault::Fault;

/// What is known of an app and of all it depends on.
pub struct Observed {
    /// The object.
    pub app: Arc<AppDeployment>,
    /// Its status, or an empty one.
    pub status: AppDeploymentStatus,
    /// The mark of its records.
    pub mark: Mark,
    /// Who it is to the claims.
    pub claimant: Claimant,
    /// Why there is no host to go to, if there is none.
    pub no_target: Option<(&'static str, String)>,
    /// The Nodes it should be on, and those it is on, by name.
    pub hosts: BTreeMap<String, HostView>,
    /// All Zones.
    pub zones: Vec<ZoneView>,
    /// How names stand that it has or asks for, by claim and role.
    pub standings: BTreeMap<(String, Role), Standing>,
    /// What the probes of its names say.
    pub available: super::available::Reading,
    /// The networks that apps get theirs from.
    pub pool: Ipv4Net,
    /// How often everything is looked at.
    pub resync: Duration,
    /// The longest TTL that is waited out, in tests.
    pub ttl_cap: Option<Duration>,
    /// Whether nothing may be written outside.
    pub read_only: bool,
}

/// A Node as an app sees it.
#[derive(Debug, Clone)]
pub struct HostView {
    /// The object; `None` if there is none of this name, or only another one than the app went to.
    pub node: Option<Arc<Node>>,
    /// Whether the app should be there.
    pub target: bool,
    /// Why nothing can be done there now, as reason and message.
    pub blocked: Option<(&'static str, String)>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its name.
    pub fqdn: Option<Fqdn>,
    /// How often its Node had to put the host in order again, in this process: the app may have lost something there.
    pub restored: u64,
    /// What was recorded of the app there.
    pub journal: Journal,
    /// Whether something is being done there that outlives a pass.
    pub busy: bool,
    /// Whether the result of such work waits to be written down.
    pub finished: bool,
    /// As what the app was last seen to be whole there.
    pub settled: Option<Settled>,
    /// What the host said, when it was looked at, is the matter with the app there.
    pub ill: Option<Failure>,
}

/// The Nodes an app should be on, or why there is none, as reason and message.
type Targets = (Vec<Arc<Node>>, Option<(&'static str, String)>);

/// A Zone as an app sees it.
#[derive(Debug, Clone)]
pub struct ZoneView {
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: Fqdn,
    /// Whether the app's namespace may publish in it.
    pub allowed: bool,
    /// Whether the domain itself may be published.
    pub allow_apex: bool,
    /// TTL of records.
    pub ttl: u32,
    /// Whether its writer runs.
    pub running: bool,
    /// Why nothing new may be published, if so.
    pub unusable: Option<String>,
    /// Authoritative servers; empty if none is known.
    pub authority: Vec<SocketAddr>,
}

impl AppDeploymentReconciler {
    pub(super) fn look(&self, app: &Arc<AppDeployment>) -> Result<Observed, Fault> {
        let deps = &self.deps;
        let status = <Self as Reconciler>::status(app);
        let (namespace, name) = (app.namespace().unwrap_or_default(), app.name_any());
        let uid = app.uid().unwrap_or_default();
        let mark = Mark::new(deps.cluster.clone(), "AppDeployment", &namespace, &name, &uid)
            .map_err(|e| Fault::terminal("Internal", e.to_string()))?;
        let holder = Holder { kind: "AppDeployment".to_owned(), name, uid };
        let claimant = Claimant { namespace: namespace.clone(), holder };
        let home = deps.namespaces.get(&Key::cluster(&namespace));
        let zones = deps.zones.all().iter().filter_map(|zone| self.zone_view(zone, home.as_deref())).collect();
        let (targets, no_target) = targets(app, &namespace, &deps.nodes.all());
        let hosts = self.hosts(app, &status, &targets);
        deps.available.declare(app, self.live(app, &status, &hosts));
        let mut seen = Observed {
            available: deps.available.reading(app),
            app: app.clone(),
            status,
            mark,
            claimant,
            no_target,
            hosts,
            zones,
            standings: BTreeMap::new(),
            pool: deps.pool,
            resync: deps.resync,
            ttl_cap: deps.ttl_cap,
            read_only: deps.read_only,
        };
        for name in seen.names() {
            let reservation = Reservation::of_name(&name);
            for role in [Role::Dns, Role::Http] {
                let standing = deps.claims.look(&reservation, role, &seen.claimant);
                seen.standings.insert((reservation.name.clone(), role), standing);
            }
        }
        Ok(seen)
    }

    fn hosts(
        &self,
        app: &AppDeployment,
        status: &AppDeploymentStatus,
        targets: &[Arc<Node>],
    ) -> BTreeMap<String, HostView> {
        let namespace = app.namespace().unwrap_or_default();
        let key = Key::of(app);
        let names: BTreeSet<String> =
            targets.iter().map(|node| node.name_any()).chain(status.nodes.iter().map(|n| n.name.clone())).collect();
        let view = |name: String| {
            let state = status.nodes.iter().find(|state| state.name == name);
            let node = self.deps.nodes.get(&Key::namespaced(&namespace, &name));
            // Another Node of the same name is another host, on which nothing was done yet.
            let same =
                |node: &Node| state.and_then(|s| s.uid.as_ref()).is_none_or(|uid| node.uid().as_ref() == Some(uid));
            let target = targets.iter().any(|node| node.name_any() == name);
            let went = node.as_deref().is_none_or(same);
            let journal = state.filter(|_| went || !target).and_then(|state| journal(state.journal.as_ref()?));
            let node = node.filter(|_| went || target);
            let uid = node.as_ref().and_then(|node| node.uid()).unwrap_or_default();
            let memory = self.memory.of(app, &uid);
            let busy = self.jobs.poll(&key, &name);
            let finished = memory.finish(busy);
            let host = HostView {
                target,
                blocked: node.as_deref().and_then(|node| blocked(node)),
                address: node.as_deref().and_then(address),
                fqdn: node.as_ref().and_then(|n| Fqdn::parse(n.status.as_ref()?.fqdn.as_deref()?).ok()),
                restored: self.deps.hosts.restored(&uid),
                journal: journal.unwrap_or_default(),
                busy: memory.busy(),
                finished,
                settled: memory.settled(),
                ill: memory.ill(),
                node,
            };
            (name, host)
        };
        names.into_iter().map(view).collect()
    }

    /// What is to be probed for ever: each name at each host that serves it.
    fn live(
        &self,
        app: &AppDeployment,
        status: &AppDeploymentStatus,
        hosts: &BTreeMap<String, HostView>,
    ) -> Vec<available::Live> {
        if app.metadata.deletion_timestamp.is_some() || app.spec.maintenance {
            return Vec::new();
        }
        let asked = |name: &str| app.spec.domains.iter().find(|domain| domain.name == name);
        let answers = |name: &str| asked(name).is_none_or(|domain| domain.redirect_to.is_none());
        let ours = |name: &str| asked(name).is_none_or(|domain| domain.publish == Publish::Node);
        let served = status.domains.iter().map(|domain| domain.name.as_str()).filter(|name| answers(name));
        let (of_ours, others): (Vec<&str>, Vec<&str>) = served.partition(|name| ours(name));
        // Where somebody else publishes a name, its certificate need not be here; but something has to be asked.
        let names = if of_ours.is_empty() { others } else { of_ours };
        let at = |(node, host): (&String, &HostView)| {
            let live = host.journal.live.as_ref()?;
            let (address, object) = (host.address?, host.node.as_ref()?);
            let nonce = self.deps.hosts.nonce(object);
            let here = names.iter().filter(|name| host.journal.names.contains(**name));
            let site = |name: &&str| Site {
                name: (*name).to_owned(),
                address,
                port: 443,
                path: live.health_path.clone(),
                nonce: nonce.clone(),
            };
            Some(here.map(|name| available::Live { node: node.clone(), site: site(name) }).collect::<Vec<_>>())
        };
        hosts.iter().filter(|(_, host)| host.target).filter_map(at).flatten().collect()
    }

    fn zone_view(&self, zone: &Zone, home: Option<&Namespace>) -> Option<ZoneView> {
        let live = self.deps.registry.zone(&zone.name_any());
        Some(ZoneView {
            name: zone.name_any(),
            domain: Fqdn::parse(&zone.spec.domain).ok()?,
            allowed: is_allowed(&zone.spec.allowed_namespaces, home),
            allow_apex: zone.spec.allow_apex,
            // The schema keeps TTLs within 60..=86400.
            ttl: u32::try_from(zone.spec.ttl).unwrap_or(300),
            running: live.is_some(),
            unusable: unusable("Zone", &zone.name_any(), zone.status.as_ref().map(|s| &s.conditions[..])),
            authority: live.map(|live| live.authority).unwrap_or_default(),
        })
    }
}

/// The Nodes of a namespace that the app should be on, or why none.
fn targets(app: &AppDeployment, namespace: &str, nodes: &[Arc<Node>]) -> Targets {
    let target = &app.spec.target;
    let inside = |node: &&Arc<Node>| {
        node.namespace().as_deref() == Some(namespace) && node.metadata.deletion_timestamp.is_none()
    };
    let named = |name: &str| nodes.iter().filter(inside).find(|node| node.name_any() == name).cloned();
    let missing = |reason, message: String| (Vec::new(), Some((reason, message)));
    if let Some(node) = &target.node_ref {
        return named(&node.name).map_or_else(
            || {
                let message = format!(
                    "spec.target.nodeRef: there is no Node {} in namespace {namespace}: create it, and this goes on by \
                     itself",
                    node.name
                );
                missing("NodeNotFound", message)
            },
            |node| (vec![node], None),
        );
    }
    if let Some(environment) = &target.environment_ref {
        // The child's name follows from the Environment's.
        let child = environment::child_name(&environment.name);
        return named(&child).map_or_else(
            || {
                let message = format!(
                    "spec.target.environmentRef: namespace {namespace} has no Environment {} with its Node {child}: \
                     create or revive it, and this goes on by itself",
                    environment.name
                );
                missing("EnvironmentNotFound", message)
            },
            |node| (vec![node], None),
        );
    }
    let selector = target.node_selector.clone().map(Selector::try_from);
    let Some(Ok(selector)) = selector else {
        let message = "spec.target.nodeSelector: it cannot be read: correct its operators and values";
        return missing("InvalidSelector", message.to_owned());
    };
    let chosen = |node: &&Arc<Node>| selector.matches(&node.metadata.labels.clone().unwrap_or_default());
    let nodes: Vec<_> = nodes.iter().filter(inside).filter(chosen).cloned().collect();
    if nodes.is_empty() {
        let message = "spec.target.nodeSelector: no Node of this namespace has these labels: label one, or correct the \
                       selector";
        return missing("NoNodeSelected", message.to_owned());
    }
    (nodes, None)
}

/// What was recorded, if it can be read.
fn journal(notes: &crate::api::app_deployment::Notes) -> Option<Journal> {
    match serde_json::from_value(notes.0.clone().into()) {
        Ok(journal) => Some(journal),
        Err(error) => {
            // What runs there is found again by its route and its labels.
            tracing::warn!(%error, "the notes of a deploy cannot be read; looking at the host instead");
            None
        }
    }
}

fn holds(node: &Node, type_: &str) -> bool {
    node.status.as_ref().is_some_and(|status| condition::is_true(&status.conditions, type_))
}

fn address(node: &Node) -> Option<IpAddr> {
    let known = node.status.as_ref().and_then(|status| status.addresses.as_ref()?.publishable());
    known.or_else(|| crate::controllers::node::observe::static_address(node))
}

/// Why nothing can be done on a Node's host.
fn blocked(node: &Node) -> Option<(&'static str, String)> {
    let name = node.name_any();
    if node.spec.host.manage != HostManagement::Caddy {
        let message =
            format!("Node {name} leaves its host alone: set its spec.host.manage to Caddy, and this goes on by itself");
        return Some(("HostNotManaged", message));
    }
    if address(node).is_none() {
        return Some(("NodeNotReady", format!("Node {name} has no address yet")));
    }
    if holds(node, "Bootstrapped") {
        return None;
    }
    let why = node.status.as_ref().and_then(|s| condition::get(&s.conditions, "Bootstrapped"));
    let why = why.map_or_else(|| "it has not been bootstrapped yet".to_owned(), |c| c.message.clone());
    Some(("NodeNotReady", format!("Node {name} is not ready for apps: {why}")))
}

impl HostView {
    /// The Node's UID.
    #[must_use]
    pub fn uid(&self) -> String {
        self.node.as_ref().and_then(|node| node.uid()).unwrap_or_default()
    }

    /// Whether there is no host any more that anything could be taken away from.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.node.as_ref().is_none_or(|node| node.metadata.deletion_timestamp.is_some())
    }
}

impl Observed {
    /// Whether the object is being deleted.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.app.metadata.deletion_timestamp.is_some()
    }

    /// An annotation of ours, e.g. `paused` for `roadstead.dev/paused`; `None` when empty.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.app.annotations().get(&format!("roadstead.dev/{name}"));
        value.map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Whether the annotation `abandon` gives this half up.
    #[must_use]
    pub fn abandons(&self, half: &str) -> bool {
        self.annotation("abandon").is_some_and(|halves| halves.split(',').any(|named| named.trim() == half))
    }

    /// Every name it has or asks for, as far as is known without its Compose file.
    #[must_use]
    pub fn names(&self) -> BTreeSet<Fqdn> {
        let spec = self.app.spec.domains.iter().map(|domain| domain.name.as_str());
        let known = self.status.domains.iter().map(|domain| domain.name.as_str());
        let hosts = self.hosts.values().filter_map(|host| host.fqdn.clone());
        spec.chain(known).filter_map(|name| Fqdn::parse(name).ok()).chain(hosts).collect()
    }

    /// The Zone that governs a name: of several, the one of the longest domain.
    #[must_use]
    pub fn zone_of(&self, name: &Fqdn) -> Option<&ZoneView> {
        let within = self.zones.iter().filter(|zone| name.is_within(&zone.domain));
        within.max_by_key(|zone| zone.domain.as_str().len())
    }

    /// Where the app lies on a host. Its name there follows from the object's, so that one that is made again under
    /// another UID finds what it left.
    #[must_use]
    pub fn place(&self, registries: Vec<crate::host::deploy::commands::Registry>) -> Place {
        let key: String = self.mark.key.chars().take(8).collect();
        let project = format!("{}-{key}", self.claimant.holder.name);
        Place {
            app: self.mark.key.clone(),
            directory: format!("/opt/roadstead/apps/{project}"),
            project,
            proxy: "roadstead-caddy-caddy-1".to_owned(),
            registries,
        }
    }

    /// When the app ends, if it does.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        let lifetime = crate::cli::duration(self.app.spec.lifetime.as_deref()?).ok()?;
        let created = self.app.metadata.creation_timestamp.as_ref()?.0;
        created.checked_add(lifetime).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(target: &serde_json::Value) -> Result<Vec<String>, &'static str> {
        let spec = json!({"target": target, "compose": {"inline": "services: {}"}});
        let app = AppDeployment::new("shop", serde_json::from_value(spec).unwrap());
        let node = |namespace: &str, name: &str| {
            let metadata = json!({"name": name, "namespace": namespace, "labels": {"tier": name}});
            let spec = json!({"providerRef": {"name": "do"}, "zoneRef": {"name": "z"}});
            let node =
                json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Node", "metadata": metadata, "spec": spec});
            Arc::new(serde_json::from_value::<Node>(node).unwrap())
        };
        let nodes = [node("shop", "web-1"), node("shop", "preview-vm"), node("blog", "web-2")];
        let (nodes, missing) = targets(&app, "shop", &nodes);
        missing.map_or_else(|| Ok(nodes.iter().map(|node| node.name_any()).collect()), |(reason, _)| Err(reason))
    }

    #[test]
    fn a_target_is_a_node_an_environments_node_or_all_with_its_labels_in_its_own_namespace() {
        let selector = |tier: &str| json!({"nodeSelector": {"matchLabels": {"tier": tier}}});
        assert_eq!(reason(&json!({"nodeRef": {"name": "web-1"}})), Ok(vec!["web-1".to_owned()]));
        assert_eq!(reason(&json!({"environmentRef": {"name": "preview"}})), Ok(vec!["preview-vm".to_owned()]));
        assert_eq!(reason(&selector("web-1")), Ok(vec!["web-1".to_owned()]));
        assert_eq!(reason(&json!({"nodeRef": {"name": "web-2"}})), Err("NodeNotFound"));
        assert_eq!(reason(&json!({"environmentRef": {"name": "web-1"}})), Err("EnvironmentNotFound"));
        assert_eq!(reason(&selector("web-2")), Err("NoNodeSelected"));
        let broken = json!({"nodeSelector": {"matchExpressions": [{"key": "tier", "operator": "Like"}]}});
        assert_eq!(reason(&broken), Err("InvalidSelector"));
    }

    #[test]
    fn a_host_that_is_left_alone_or_not_ready_is_said_to_be() {
        let node = |manage: &str, status: serde_json::Value| {
            let spec = json!({"providerRef": {"name": "do"}, "zoneRef": {"name": "z"}, "host": {"manage": manage}});
            let node = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Node", "metadata": {"name": "web-1"},
                "spec": spec, "status": status});
            serde_json::from_value::<Node>(node).unwrap()
        };
        let status = |bootstrapped: &str| {
            json!({"addresses": {"public4": "203.0.113.1"}, "conditions": [{"type": "Bootstrapped", "reason": "PortInUse",
                "status": bootstrapped, "message": "port 80 is taken", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let of = |node: &Node| blocked(node).map(|(reason, _)| reason);
        assert_eq!(of(&node("None", status("True"))), Some("HostNotManaged"));
        assert_eq!(of(&node("Caddy", json!({}))), Some("NodeNotReady"));
        assert!(blocked(&node("Caddy", status("False"))).unwrap().1.contains("port 80 is taken"));
        assert_eq!(of(&node("Caddy", status("True"))), None);
    }
}
