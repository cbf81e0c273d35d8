//! What a group's plan looks at, read from caches: no call per object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;

use super::publish::{Selection, select};
use super::roster::Roster;
use super::worker::target::{Target, target};
use super::worker::{Sight, Terms};
use super::{ServerGroupReconciler, app_nodes, slug};
use crate::api::claim::Holder;
use crate::api::names::{Fqdn, Mark};
use crate::api::server_group::{ServerGroup, ServerGroupStatus};
use crate::api::zone::Zone;
use crate::controllers::app_deployment::serving::Serving;
use crate::controllers::credential::Purpose;
use crate::controllers::is_allowed;
use crate::controllers::node::observe::unusable;
use crate::runtime::cache::Key;
use crate::runtime::claims::{Claimant, Reservation, Role, Standing};
use crate::runtime::driver::Reconciler;
use crate::runtime::fault::Fault;

/// What is known of a group and of all it depends on.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The object.
    pub group: Arc<ServerGroup>,
    /// Its status, or an empty one.
    pub status: ServerGroupStatus,
    /// The mark of its records.
    pub mark: Mark,
    /// Who it is to the claims.
    pub claimant: Claimant,
    /// Its Zone.
    pub zone: Option<ZoneView>,
    /// Where the app serves that it refers to; `None` if there is none, or no reference.
    pub serving: Option<Serving>,
    /// Who belongs to it now.
    pub roster: Roster,
    /// Which of them are to be published.
    pub selection: Selection,
    /// How the names it has or wants stand, by claim name.
    pub standings: BTreeMap<String, Standing>,
    /// What is known of its Worker.
    pub worker: Option<Sight>,
    /// Whether the prober cannot reach anything, so that its verdicts stand still.
    pub isolated: bool,
    /// Whether the operator runs with `--read-only`.
    pub read_only: bool,
    /// How often everything is looked at.
    pub resync: Duration,
}

/// A Zone as a group sees it.
#[derive(Debug, Clone)]
pub struct ZoneView {
    /// Its domain; `None` if it is no DNS name.
    pub domain: Option<Fqdn>,
    /// Whether the group's namespace may publish in it.
    pub allowed: bool,
    /// Whether the domain itself may be published.
    pub allow_apex: bool,
    /// Whether its writer runs.
    pub running: bool,
    /// Why nothing new may be published, if so.
    pub unusable: Option<String>,
    /// What it says of Workers; only known to a group that has or wants one.
    pub workers: Option<Terms>,
}

impl ServerGroupReconciler {
    pub(super) async fn look(&self, group: &Arc<ServerGroup>) -> Result<Observed, Fault> {
        let deps = &self.deps;
        let (namespace, name) = (group.namespace().unwrap_or_default(), group.name_any());
        let uid = group.uid().unwrap_or_default();
        let mark = Mark::new(deps.cluster.clone(), "ServerGroup", &namespace, &name, &uid)
            .map_err(|e| Fault::terminal("Internal", e.to_string()))?;
        let holder = Holder { kind: "ServerGroup".to_owned(), name, uid };
        let claimant = Claimant { namespace: namespace.clone(), holder };
        let home = deps.namespaces.get(&Key::cluster(&namespace));
        let zone = deps.zones.get(&Key::cluster(&group.spec.zone_ref.name));
        let status = <Self as Reconciler>::status(group);
        let mut view = zone.as_ref().map(|zone| self.zone_view(zone, home.as_deref()));
        if let (Some(view), Some(zone)) = (&mut view, &zone)
            && (group.spec.slb.is_some() || status.slb.is_some())
        {
            view.workers = self.terms(zone, home.as_deref()).await?;
        }
        // Only those of its own namespace, and only where it asks for any: the cache holds every Node of the cluster.
        let nodes: Vec<_> = match (&group.spec.node_selector, &group.spec.app_ref) {
            (None, None) => Vec::new(),
            _ => deps.nodes.all().into_iter().filter(|node| node.namespace() == group.namespace()).collect(),
        };
        let serving = app_nodes::serving(group, &deps.apps, Timestamp::now());
        let roster = Roster::of(group, nodes.iter().map(|node| &**node), serving.as_ref());
        let mut seen = Observed {
            selection: select(&group.spec, &roster, &status.members),
            group: group.clone(),
            status,
            mark,
            claimant,
            zone: view,
            serving,
            roster,
            standings: BTreeMap::new(),
            worker: deps.workers.sight(&group.uid().unwrap_or_default()),
            isolated: *deps.isolated.borrow(),
            read_only: deps.read_only,
            resync: deps.resync,
        };
        let look = |reservation: Reservation| {
            let standing = deps.claims.look(&reservation, Role::Dns, &seen.claimant);
            (reservation.name, standing)
        };
        let host = target(&seen).ok().flatten().and_then(|target| target.host).map(|host| Reservation::of_name(&host));
        let standings = seen.reservations().into_iter().chain(host).map(look).collect();
        seen.standings = standings;
        Ok(seen)
    }

    fn zone_view(&self, zone: &Zone, home: Option<&Namespace>) -> ZoneView {
        ZoneView {
            domain: Fqdn::parse(&zone.spec.domain).ok(),
            allowed: is_allowed(&zone.spec.allowed_namespaces, home),
            allow_apex: zone.spec.allow_apex,
            running: self.deps.registry.zone(&zone.name_any()).is_some(),
            unusable: unusable("Zone", &zone.name_any(), zone.status.as_ref().map(|s| &s.conditions[..])),
            workers: None,
        }
    }

    async fn terms(&self, zone: &Zone, home: Option<&Namespace>) -> Result<Option<Terms>, Fault> {
        let Some(workers) = &zone.spec.cloudflare.workers else { return Ok(None) };
        let status = zone.status.as_ref();
        let reference = &workers.token_secret_ref;
        Ok(Some(Terms {
            allowed: is_allowed(&workers.allowed_namespaces, home),
            account: workers.account_id.clone().or_else(|| status?.account_id.clone()),
            zone_id: status.and_then(|status| status.zone_id.clone()),
            prefix: workers.name_prefix.clone(),
            secret: reference.name.clone(),
            credential: self.deps.workers.credentials().read(reference, Purpose::Cloudflare).await?,
        }))
    }
}

impl Observed {
    /// Whether the object is being deleted.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.group.metadata.deletion_timestamp.is_some()
    }

    /// An annotation of ours, e.g. `paused` for `roadstead.dev/paused`; `None` when empty.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.group.annotations().get(&format!("roadstead.dev/{name}"));
        value.map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Whether the annotation `abandon` gives this half up.
    #[must_use]
    pub fn abandons(&self, half: &str) -> bool {
        self.annotation("abandon").is_some_and(|halves| halves.split(',').any(|named| named.trim() == half))
    }

    /// How many derived slugs turned out to be taken.
    #[must_use]
    pub fn collisions(&self) -> u32 {
        let journal = self.status.journal.as_ref();
        let count = journal.and_then(|journal| journal.other.get(COLLISIONS)?.as_u64());
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// The slug: the given one, the recorded one, else the derived one.
    #[must_use]
    pub fn slug(&self) -> String {
        let given = self.group.spec.slug.clone().or_else(|| self.status.slug.clone());
        given.unwrap_or_else(|| self.derived(self.collisions()))
    }

    /// The slug that is derived after so many collisions.
    #[must_use]
    pub fn derived(&self, collisions: u32) -> String {
        slug::derive(&self.claimant.namespace, &self.claimant.holder.name, &self.group.spec.zone_ref.name, collisions)
    }

    /// The name of the list under `slug`.
    #[must_use]
    pub fn list_name(&self, slug: &str) -> Option<Fqdn> {
        Fqdn::under(&format!("_wrap.{slug}"), self.zone.as_ref()?.domain.as_ref()?).ok()
    }

    /// The name the spec asks addresses to be published at.
    #[must_use]
    pub fn address_name(&self) -> Option<Fqdn> {
        let domain = self.zone.as_ref()?.domain.as_ref()?;
        match self.group.spec.dns.a.as_ref()?.hostname.as_str() {
            "@" => Some(domain.clone()),
            labels => Fqdn::under(labels, domain).ok(),
        }
    }

    /// The name addresses are published at now.
    #[must_use]
    pub fn published_address_name(&self) -> Option<Fqdn> {
        Fqdn::parse(&self.status.a.as_ref()?.hostname).ok()
    }

    /// Everything the group has or wants to reserve.
    #[must_use]
    pub fn reservations(&self) -> Vec<Reservation> {
        let slug = self.slug();
        let published = self.status.txt.as_ref().and_then(|txt| Fqdn::parse(&txt.name).ok());
        let names = [self.list_name(&slug), published, self.address_name(), self.published_address_name()];
        let mut all = vec![Reservation::of_slug(&slug)];
        let target = target(self).ok().flatten();
        let held = self.status.slb.as_ref();
        let of_target = target.iter().map(|target| (&target.script.account, &target.script.name));
        let of_held = held.map(|held| (&held.account_id, &held.worker_name));
        let scripts = of_target.chain(of_held).map(|(account, name)| Reservation::of_worker(account, name));
        let wanted = target.iter().flat_map(Target::hostnames);
        let hostnames = wanted.chain(held.into_iter().flat_map(|held| held.hostnames.clone()));
        let hosts = hostnames.filter_map(|name| Fqdn::parse(&name).ok());
        let names = names.into_iter().flatten().chain(hosts).map(|name| Reservation::of_name(&name));
        for reservation in names.chain(scripts) {
            if !all.contains(&reservation) {
                all.push(reservation);
            }
        }
        all
    }
}

/// The journal's entry that counts taken slugs.
pub(super) const COLLISIONS: &str = "collisions";
