//! What two apps share: claims, a zone with its writer, and the routing tables of hosts. It is watched by whoever visits
//! the name, also by an address that was right a while ago.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::*;
use crate::api::claim::Holder;
use crate::api::names::{ClusterId, Mark};
use crate::controllers::app_deployment::peers::KIND;
use crate::dns::Record;
use crate::dns::plan::{Claimant, HandOver, HandOvers, Op, plan as write};
use crate::dns::record::Value;
use crate::dns::snapshot::Snapshot;
use crate::host::compose::overlay::alias;
use crate::host::deploy::model::{APP, NAME};
use crate::host::table::Route;
use crate::runtime::claims::Standing;

pub type Shared = Rc<RefCell<Commons>>;

/// How long caches hold a record.
pub const TTL: Duration = Duration::from_secs(300);

#[derive(Default)]
pub struct Commons {
    pub claims: BTreeMap<(String, Role), Holder>,
    records: Vec<Record>,
    handed: HandOvers,
    declared: BTreeMap<String, (Mark, Vec<Desired>)>,
    /// What was written to the zone.
    pub writes: Vec<String>,
    tables: BTreeMap<String, BTreeMap<String, Route>>,
    /// Which revisions run, by host and app.
    up: BTreeMap<(String, String), BTreeSet<String>>,
    /// The hosts' addresses.
    pub addresses: BTreeMap<String, IpAddr>,
    /// Where caches may lead, and until when once that is over.
    cached: BTreeMap<IpAddr, Option<Timestamp>>,
    pub now: Timestamp,
    /// What visitors were not given.
    pub failed: Vec<String>,
    made: usize,
}

impl Commons {
    pub fn standing(&self, name: &str, role: Role, us: &Holder) -> Standing {
        match self.claims.get(&(name.to_owned(), role)) {
            None => Standing::Free,
            Some(holder) if holder.uid == us.uid => Standing::Ours,
            Some(holder) => Standing::Taken { namespace: "shop".into(), holder: holder.clone() },
        }
    }

    pub fn claim(&mut self, name: &str, role: Role, us: &Holder) -> Standing {
        self.claims.entry((name.to_owned(), role)).or_insert_with(|| us.clone());
        self.standing(name, role, us)
    }

    pub fn take_over(&mut self, name: &str, role: Role, from: &str, to: &Holder) {
        let before = self.claims.insert((name.to_owned(), role), to.clone()).unwrap();
        assert!(before.uid == from || before.uid == to.uid, "{before:?}");
    }

    pub fn release(&mut self, name: &str, role: Role, us: &Holder) {
        let claim = self.claims.remove(&(name.to_owned(), role));
        assert_eq!(claim.as_ref(), Some(us), "only what is one's own is given back");
    }

    /// As the writer of the zone does it: one owner after the other, until nothing changes.
    pub fn declare(&mut self, us: &Holder, records: &[Desired], taken: Vec<(Fqdn, String)>) -> Declared {
        let cluster = ClusterId::parse("c1").unwrap();
        let mark = Mark { cluster, owner: us.uid.clone(), key: Mark::key_of(KIND, "shop", &us.name) };
        for (name, from) in taken {
            self.handed.insert(name.as_str().into(), HandOver { from, to: mark.clone() });
        }
        let declared = |name: &str| records.iter().any(|record| record.name.as_str() == name);
        self.handed.retain(|name, handed| handed.to != mark || declared(name));
        self.declared.insert(us.uid.clone(), (mark.clone(), records.to_vec()));
        let owners: Vec<_> = self.declared.values().cloned().collect();
        for (mark, desired) in owners {
            for op in self.plan(&mark, &desired).ops {
                self.write(&mark, &op);
            }
        }
        self.visit();
        let plan = self.plan(&mark, records);
        assert_eq!(plan.ops, []);
        plan.refusals.into_iter().next().map_or(Declared::Applied(plan.settled), Declared::Refused)
    }

    fn plan(&self, mark: &Mark, desired: &[Desired]) -> crate::dns::plan::OwnerPlan {
        let claimant = Claimant { mark, adopt: None, handed: &self.handed };
        let domain = Fqdn::parse("example.com").unwrap();
        write(claimant, &domain, desired, &Snapshot::of(self.records.clone()))
    }

    fn write(&mut self, mark: &Mark, op: &Op) {
        self.made += 1;
        let id = format!("r{}", self.made);
        let of = |id: &str, to: &Desired| Record {
            id: id.into(),
            name: to.name.as_str().into(),
            value: Value::Known(to.content.clone()),
            ttl: to.effective_ttl(),
            proxied: to.is_proxied(),
            mark: Some(mark.clone()),
        };
        let said = match op {
            Op::Delete(record) => {
                self.records.retain(|other| other.id != record.id);
                format!("delete {}", record.name)
            }
            Op::Patch { from, to } => {
                self.records.retain(|other| other.id != from.id);
                self.records.push(of(&from.id, to));
                format!("patch {} {}", to.name, to.content)
            }
            Op::Post(to) => {
                self.records.push(of(&id, to));
                format!("post {} {}", to.name, to.content)
            }
        };
        self.writes.push(said);
    }

    pub fn forgotten(&self, name: &str, addresses: &[IpAddr]) -> Confirmation {
        let leads = self.led(name);
        let known = addresses.iter().find(|address| leads.contains(*address));
        known.map_or(Confirmation::Confirmed, |address| Confirmation::Differs(address.to_string()))
    }

    /// Where the zone leads visitors of a name.
    pub fn led(&self, name: &str) -> BTreeSet<IpAddr> {
        let here = self.records.iter().filter(|record| *record.name == *name);
        here.filter_map(|record| record.value.text().parse().ok()).collect()
    }

    pub fn routes(&self, host: &str, names: &BTreeSet<String>) -> BTreeMap<String, Route> {
        let table = self.tables.get(host).into_iter().flatten();
        table.filter(|(name, _)| names.contains(*name)).map(|(name, route)| (name.clone(), route.clone())).collect()
    }

    pub fn route(&mut self, host: &str, names: &BTreeSet<String>, routes: &BTreeMap<String, Route>) {
        let table = self.tables.entry(host.to_owned()).or_default();
        table.retain(|name, _| !names.contains(name));
        table.extend(routes.clone());
        self.visit();
    }

    pub fn runs(&mut self, host: &str, app: &str, up: BTreeSet<String>) {
        self.up.insert((host.to_owned(), app.to_owned()), up);
        self.visit();
    }

    /// Which revision a host answers a name with.
    pub fn answer(&self, host: &str, name: &str) -> Option<String> {
        let Route::Upstream { alias: at, .. } = self.tables.get(host)?.get(name)? else { return None };
        let of_host = self.up.iter().filter(|((there, _), _)| there == host).flat_map(|(_, up)| up);
        of_host.into_iter().find(|revision| **at == *alias(APP, revision)).cloned()
    }

    pub fn later(&mut self, now: Timestamp) {
        self.visit();
        self.now = now;
        self.visit();
    }

    /// Somebody visits the name by each address that it has, or had within the TTL.
    fn visit(&mut self) {
        let (led, now) = (self.led(NAME), self.now);
        let end = now.checked_add(TTL).unwrap();
        for (address, until) in &mut self.cached {
            *until = if led.contains(address) { None } else { until.or(Some(end)) };
        }
        self.cached.extend(led.into_iter().map(|address| (address, None)));
        self.cached.retain(|_, until| until.is_none_or(|until| until > now));
        let hosts = self.addresses.iter().filter(|(_, address)| self.cached.contains_key(*address));
        let silent = hosts.filter(|(host, _)| self.answer(host, NAME).is_none());
        let silent: Vec<String> = silent.map(|(host, _)| format!("{host} has no answer")).collect();
        self.failed.extend(silent);
    }
}
