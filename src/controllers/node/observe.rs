//! Everything a Node's plan looks at, read from caches and snapshots: no call per object.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::NodeReconciler;
use super::bootstrap::Wish;
use super::plan::HostView;
use crate::api::claim::Holder;
use crate::api::condition;
use crate::api::names::{Fqdn, Mark};
use crate::api::node::{Node, NodeStatus};
use crate::api::provider::Provider;
use crate::api::refs::HostManagement;
use crate::api::zone::Zone;
use crate::cli;
use crate::cloud::Source;
use crate::cloud::fleet::Snapshot;
use crate::controllers::{hosts, is_allowed, provider};
use crate::outside::OutsideError;
use crate::runtime::cache::Key;
use crate::runtime::claims::{Claimant, Reservation, Role, Standing};
use crate::runtime::driver::Reconciler;
use crate::runtime::fault::Fault;

/// What is known of a Node and of all it depends on.
pub struct Observed {
    /// The object.
    pub node: Arc<Node>,
    /// Its status, or an empty one.
    pub status: NodeStatus,
    /// The mark of everything made for it.
    pub mark: Mark,
    /// Who it is to the claims.
    pub claimant: Claimant,
    /// Its Zone.
    pub zone: Option<ZoneView>,
    /// Its Provider.
    pub provider: Option<ProviderView>,
    /// How its name stands.
    pub name: Option<Standing>,
    /// How its static address stands.
    pub address: Option<Standing>,
    /// Whether the brake holds its deletion, or the handling of its lost VM: what to say of it.
    pub held: Option<provider::Held>,
    /// How long a listing may lag behind a create.
    pub settle: Duration,
    /// How often everything is looked at.
    pub resync: Duration,
    /// The longest TTL that is waited out, in tests.
    pub ttl_cap: Option<Duration>,
    /// Whether nothing may be written outside.
    pub read_only: bool,
    /// The line of `authorized_keys` for our key, if we log in at the host and have read it.
    pub public_key: Option<String>,
    /// Its host, if that is managed.
    pub host: Option<HostView>,
}

/// A Zone as a Node sees it.
pub struct ZoneView {
    /// Its domain; `None` if it is no DNS name.
    pub domain: Option<Fqdn>,
    /// Whether the Node's namespace may publish in it.
    pub allowed: bool,
    /// Whether the domain itself may be published.
    pub allow_apex: bool,
    /// TTL of records that say nothing else.
    pub ttl: i64,
    /// Public resolvers.
    pub resolvers: Vec<SocketAddr>,
    /// Authoritative servers; empty if none is known.
    pub authority: Vec<SocketAddr>,
    /// How long propagation may take before it is said.
    pub timeout: Duration,
    /// Whether its writer runs.
    pub running: bool,
    /// Why nothing new may be published, if so.
    pub unusable: Option<String>,
}

/// A Provider as a Node sees it.
pub struct ProviderView {
    /// Whether the Node's namespace may use it.
    pub allowed: bool,
    /// Why no VM may be created, if so.
    pub unusable: Option<String>,
    /// Where hosts come from.
    pub hosts: Hosts,
}

/// Where hosts come from.
pub enum Hosts {
    /// They exist already; says whether the Node's address may be used.
    Static(Result<(), String>),
    /// VMs are made.
    Vms {
        /// What a Node gets that says nothing else: region, size, image.
        defaults: [String; 3],
        /// The newest complete listing, or why there is none.
        snapshot: Result<Snapshot, OutsideError>,
    },
    /// The Provider does not run yet.
    Unknown {
        /// Whether it is a static one.
        is_static: bool,
    },
}

/// The name a Node asks for.
#[must_use]
pub fn fqdn(node: &Node, domain: &Fqdn) -> Option<Fqdn> {
    match node.spec.hostname.as_deref() {
        Some("@") => Some(domain.clone()),
        Some(labels) => Fqdn::under(labels, domain).ok(),
        None => Fqdn::under(&node.name_any(), domain).ok(),
    }
}

/// How old a listing may be while something is under way.
const LIVELY: Duration = Duration::from_secs(3);

impl NodeReconciler {
    pub(super) async fn look(&self, node: &Arc<Node>) -> Result<Observed, Fault> {
        let deps = &self.deps;
        let status = <Self as Reconciler>::status(node);
        let (namespace, name) = (node.namespace().unwrap_or_default(), node.name_any());
        let uid = node.uid().unwrap_or_default();
        let mark = Mark::new(deps.cluster.clone(), "Node", &namespace, &name, &uid)
            .map_err(|e| Fault::terminal("Internal", e.to_string()))?;
        let claimant = Claimant { namespace: namespace.clone(), holder: Holder { kind: "Node".to_owned(), name, uid } };
        let home = deps.namespaces.get(&Key::cluster(&namespace));
        let home = home.as_deref();

        let zone = deps.zones.get(&Key::cluster(&node.spec.zone_ref.name)).map(|zone| self.zone_view(&zone, home));
        let provider = deps.providers.get(&Key::cluster(&node.spec.provider_ref.name));
        let held = match provider.as_deref() {
            Some(provider) => deps.brakes.held(provider, node, Timestamp::now()).await,
            None => None,
        };
        let provider = match provider {
            Some(provider) => Some(self.provider_view(&provider, node, &status, home).await),
            None => None,
        };
        let name = zone
            .as_ref()
            .and_then(|zone| fqdn(node, zone.domain.as_ref()?))
            .map(|fqdn| deps.claims.look(&Reservation::of_name(&fqdn), Role::Dns, &claimant));
        let address = static_address(node)
            .map(|address| deps.claims.look(&Reservation::of_address(address), Role::Dns, &claimant));
        let public_key = if hosts::is_ours(node) { deps.hosts.known_public_key(node) } else { None };
        let mut seen = Observed {
            node: node.clone(),
            status,
            mark,
            claimant,
            zone,
            provider,
            name,
            address,
            held,
            settle: deps.settle,
            resync: deps.resync,
            ttl_cap: deps.ttl_cap,
            read_only: deps.read_only,
            public_key,
            host: None,
        };
        seen.host = seen.wish().filter(|_| !seen.deleting()).map(|wish| self.bootstraps.view(&wish));
        Ok(seen)
    }

    /// A Provider that refused its token is asked about it anew, or its own condition would say so only after the next
    /// resync.
    pub(super) fn doubt(&self, provider: &str) {
        self.deps.registry.doubt_provider(provider);
        (self.deps.doubted)(provider);
    }

    fn zone_view(&self, zone: &Zone, home: Option<&k8s_openapi::api::core::v1::Namespace>) -> ZoneView {
        let live = self.deps.registry.zone(&zone.name_any());
        let propagation = zone.spec.propagation.as_ref();
        let named = propagation.and_then(|p| p.resolvers.as_ref());
        ZoneView {
            domain: Fqdn::parse(&zone.spec.domain).ok(),
            allowed: is_allowed(&zone.spec.allowed_namespaces, home),
            allow_apex: zone.spec.allow_apex,
            ttl: zone.spec.ttl,
            // What does not parse was refused when the Zone was validated.
            resolvers: named.map_or_else(
                || self.deps.resolvers.clone(),
                |named| named.iter().filter_map(|r| cli::server(r).ok()).collect(),
            ),
            authority: live.as_ref().map(|l| l.authority.clone()).unwrap_or_default(),
            timeout: propagation.and_then(|p| cli::duration(&p.timeout).ok()).unwrap_or(Duration::from_secs(120)),
            running: live.is_some(),
            unusable: unusable("Zone", &zone.name_any(), zone.status.as_ref().map(|s| &s.conditions[..])),
        }
    }

    async fn provider_view(
        &self,
        provider: &Provider,
        node: &Node,
        status: &NodeStatus,
        home: Option<&k8s_openapi::api::core::v1::Namespace>,
    ) -> ProviderView {
        let hosts = match self.deps.registry.provider(&provider.name_any()) {
            None => Hosts::Unknown { is_static: provider.spec.static_.is_some() },
            Some(Source::Static(cidrs)) => Hosts::Static(match static_address(node) {
                Some(address) => cidrs.check(&address.to_string()).map(drop).map_err(|e| e.to_string()),
                None => Ok(()),
            }),
            Some(Source::Vms(fleet)) => {
                let settled = condition::is_true(&status.conditions, condition::READY)
                    && node.metadata.deletion_timestamp.is_none();
                let max_age = if settled { self.deps.resync } else { LIVELY };
                let defaults = provider
                    .spec
                    .digitalocean
                    .as_ref()
                    .map_or_else(Default::default, |d| [d.region.clone(), d.size.clone(), d.image.clone()]);
                Hosts::Vms { defaults, snapshot: fleet.snapshot(max_age).await }
            }
        };
        let name = provider.name_any();
        let unusable = unusable("Provider", &name, provider.status.as_ref().map(|s| &s.conditions[..]));
        if let (Hosts::Vms { snapshot: Err(OutsideError::Unauthorized(_)), .. }, None) = (&hosts, &unusable) {
            self.doubt(&name);
        }
        ProviderView { allowed: is_allowed(&provider.spec.allowed_namespaces, home), unusable, hosts }
    }
}

/// Why a Zone or Provider must not be used for anything new: its credential is not known to be good, or it is stalled.
/// What merely cannot be reached now is found out by the call itself.
pub(in crate::controllers) fn unusable(
    kind: &str,
    name: &str,
    conditions: Option<&[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]>,
) -> Option<String> {
    let conditions = conditions.unwrap_or_default();
    let stalled = condition::get(conditions, condition::STALLED).filter(|c| c.status == "True");
    let credential = condition::get(conditions, "CredentialReady").filter(|c| c.status == "False");
    match stalled.or(credential) {
        Some(c) => Some(format!("{kind} {name} is not ready: {}", c.message)),
        None if condition::get(conditions, condition::READY).is_none() => {
            Some(format!("{kind} {name} is not ready yet"))
        }
        None => None,
    }
}

/// The address of an existing host, if the Node names one that parses.
#[must_use]
pub fn static_address(node: &Node) -> Option<IpAddr> {
    node.spec.address.as_deref().and_then(|a| a.parse().ok())
}

impl Observed {
    /// What it wants of its host, if that is managed.
    #[must_use]
    pub fn wish(&self) -> Option<Wish<'_>> {
        let managed = self.node.spec.host.manage == HostManagement::Caddy;
        let fqdn = fqdn(&self.node, self.zone.as_ref()?.domain.as_ref()?).filter(|_| managed)?;
        Some(Wish { node: &self.node, fqdn: fqdn.to_string(), mark: &self.mark, adopt: self.annotation("adopt") })
    }

    /// Whether the object is being deleted.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.node.metadata.deletion_timestamp.is_some()
    }

    /// An annotation of ours, e.g. `paused` for `roadstead.dev/paused`; `None` when empty.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.node.annotations().get(&format!("roadstead.dev/{name}"));
        value.map(String::as_str).filter(|v| !v.is_empty())
    }
}
