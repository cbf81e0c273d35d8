//! A small world in which a Node's plan is carried out as the driver would.

mod kstatus;
mod outages;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::apply;
use super::observe::{Hosts, Observed, fqdn};
use super::plan::tests::{now, vm};
use super::plan::{Action, Facts, plan};
use super::report;
use crate::api::node::{Node, NodeStatus};
use crate::cloud::fleet::Snapshot;
use crate::cloud::{Listing, Vm};
use crate::dns::propagation::Confirmation;
use crate::dns::{Checked, Declared, Desired, Published};
use crate::outside::OutsideError;
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step};
use crate::runtime::fault::Fault;
use crate::runtime::outcome::Ended;

/// How everything outside answers.
#[derive(Debug, Clone)]
struct Outside {
    /// Listings of the fleet.
    listing: Result<(), OutsideError>,
    /// Looks at single VMs and by mark, and their deletion.
    provider: Result<(), OutsideError>,
    /// Orders of VMs.
    create: Result<(), OutsideError>,
    /// Whether listings are complete.
    whole: bool,
    /// Whether VMs have addresses.
    booted: bool,
    /// Claims of names and addresses.
    claim: Result<Standing, Fault>,
    /// What is at the name.
    checked: Checked,
    /// Declared records; `Applied` whatever they are.
    declared: Declared,
    /// The zone's own servers.
    authority: Confirmation,
    /// Public resolvers.
    resolvers: Confirmation,
}

/// An outside in which everything works.
fn fair() -> Outside {
    Outside {
        listing: Ok(()),
        provider: Ok(()),
        create: Ok(()),
        whole: true,
        booted: true,
        claim: Ok(Standing::Ours),
        checked: Checked::Free,
        declared: Declared::Applied(Vec::new()),
        authority: Confirmation::Confirmed,
        resolvers: Confirmation::Confirmed,
    }
}

/// One Node, all it depends on, and what is there outside.
struct World {
    seen: Observed,
    outside: Outside,
    now: Timestamp,
    /// Of the back-off.
    jitter: f64,
    vms: Vec<Vm>,
    /// How many VMs were ever made.
    made: usize,
    /// What the zone's writer was last told and has done.
    published: Vec<Desired>,
    /// What was done in order, in words: each action, and `status` for a write.
    done: Vec<String>,
    /// Every status that was written.
    told: Vec<NodeStatus>,
}

/// How a pass went.
enum Passed {
    /// The finalizer may go.
    Gone,
    /// It ended without a report, and the queue looks again after a while: a stored back-off runs, or the object is not
    /// the one that was seen any more.
    Silent(Duration),
    /// It ended with a report; the queue looks again after a while.
    Reported { outcome: Outcome, facts: Box<Facts>, after: Duration },
}

impl World {
    fn new(mut seen: Observed) -> Self {
        (seen.name, seen.address) = (Some(Standing::Free), Some(Standing::Free));
        // As the API server fills it in.
        Arc::make_mut(&mut seen.node).spec.health_path = "/".to_owned();
        let (now, outside) = (now(), fair());
        Self { seen, outside, now, jitter: 0.0, vms: vec![], made: 0, published: vec![], done: vec![], told: vec![] }
    }

    /// The Node as the API server has it.
    fn object(&self) -> Node {
        Node { status: Some(self.seen.status.clone()), ..(*self.seen.node).clone() }
    }

    fn later(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    /// The spec was changed.
    fn respec(&mut self, change: impl FnOnce(&mut Node)) {
        let node = Arc::make_mut(&mut self.seen.node);
        change(node);
        *node.metadata.generation.as_mut().unwrap() += 1;
    }

    /// One pass, as the driver makes it.
    fn pass(&mut self) -> Passed {
        let (mut facts, resync) = (Facts::default(), self.seen.resync);
        for _ in 0..32 {
            self.observe();
            let step = plan(&self.seen, &facts, self.now);
            let ended = match step.clone() {
                Step::Gone => return Passed::Gone,
                Step::Hold(left) => return Passed::Silent(left),
                Step::Record(status) => {
                    self.write(*status);
                    continue;
                }
                Step::Do(action) => match self.act(&mut facts, action) {
                    Ok(status) => {
                        if let Some(status) = status {
                            self.write(status);
                        }
                        continue;
                    }
                    Err(fault) => match Ended::of(fault, resync) {
                        Ok(ended) => ended,
                        Err(_) => return Passed::Silent(Duration::from_millis(100)),
                    },
                },
                Step::Wait(wait) => {
                    let after = wait.after.min(resync);
                    Ended::plain(Outcome::Waiting(wait), after)
                }
                Step::Stop { reason, message } => Ended::plain(Outcome::Stopped { reason, message }, resync),
                Step::Done => Ended::plain(Outcome::Done, resync),
            };
            // What is said does not change with the time at which it is said.
            if let (Step::Wait(now), Step::Wait(then)) =
                (step, plan(&self.seen, &facts, self.now + SignedDuration::from_secs(1)))
            {
                assert!(now.reason != then.reason || now.message == then.message, "{now:?} {then:?}");
            }
            let mut status = report::status(&self.seen, &facts, &ended.outcome, self.now);
            let after = ended.store(Some(&mut status.journal), self.jitter, self.now);
            self.write(status);
            return Passed::Reported { outcome: ended.outcome, facts: Box::new(facts), after };
        }
        panic!("the plan did not come to an end: {:?}", self.done);
    }

    /// Passes, a second apart, until one does nothing but look.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..64 {
            let written = self.writes();
            self.pass();
            if self.writes() == written {
                return self;
            }
            self.later(1);
        }
        panic!("the Node does not come to rest: {:?}", self.done);
    }

    fn writes(&self) -> usize {
        self.done.iter().filter(|done| *done == "status").count()
    }

    /// Stores a status as the API server would.
    fn write(&mut self, status: NodeStatus) {
        if status == self.seen.status {
            return;
        }
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(
            serde_json::from_value::<NodeStatus>(json).unwrap(),
            status,
            "what is read back is what was written"
        );
        self.told.push(status.clone());
        self.seen.status = status;
        self.done.push("status".to_owned());
    }

    fn observe(&mut self) {
        if self.outside.booted {
            for vm in &mut self.vms {
                vm.public4 = Some([203, 0, 113, vm.id.parse().unwrap()].into());
            }
        }
        if let Some(Hosts::Vms { snapshot, .. }) = self.seen.provider.as_mut().map(|provider| &mut provider.hosts) {
            let listing = Listing { vms: self.vms.clone(), whole: self.outside.whole };
            *snapshot = self.outside.listing.clone().map(|()| Snapshot::from(listing));
        }
    }

    fn provider(&self) -> Result<(), Fault> {
        self.outside.provider.clone().map_err(|error| Fault::outside("the provider", &error))
    }

    fn look(&self) -> Result<Option<Listing>, Fault> {
        self.provider().map(|()| Some(Listing { vms: self.vms.clone(), whole: self.outside.whole }))
    }

    /// As `apply` does, with this world's answers.
    fn act(&mut self, facts: &mut Facts, action: Action) -> Result<Option<NodeStatus>, Fault> {
        self.done.push(format!("{action:?}").split(['(', ' ']).next().unwrap_or_default().to_owned());
        match action {
            Action::Claim(reservation) => {
                let standing = self.outside.claim.clone()?;
                *self.claim(&reservation) = Some(standing.clone());
                facts.claimed.insert(reservation.name, standing);
            }
            Action::Release(reservation, _) => {
                self.outside.claim.clone()?;
                *self.claim(&reservation) = Some(Standing::Free);
                facts.released.push(reservation.name);
            }
            Action::CheckName => facts.checked = Some(self.outside.checked.clone()),
            Action::IntendCreate(machine) => {
                facts.intended = true;
                return Ok(Some(report::creating(&self.seen, facts, &machine, self.now)));
            }
            Action::CreateVm(machine) => {
                if let Err(error) = &self.outside.create {
                    facts.create_refused = !matches!(error, OutsideError::Unknown(_));
                    return Err(apply::creating(&self.seen, error));
                }
                self.made += 1;
                let vm = Vm { public4: None, ..vm(&self.made.to_string(), machine.incarnation) };
                self.vms.push(vm.clone());
                return Ok(Some(report::starting(&self.seen, facts, &vm, machine.incarnation, self.now)));
            }
            Action::LookByMark => facts.looked = self.look()?,
            Action::LookByKey => facts.namesakes = self.look()?,
            Action::GetVm(id) => {
                self.provider()?;
                let vm = self.vms.iter().find(|vm| vm.id == id).cloned();
                facts.got.insert(id, vm);
            }
            Action::IntendDelete => {
                facts.intended = true;
                return Ok(Some(report::deleting(&self.seen, self.now)));
            }
            Action::DeleteVm(id) => {
                self.outside.provider.clone().map_err(|error| apply::deleting(&id, &error))?;
                self.vms.retain(|vm| vm.id != id);
                facts.got.remove(&id);
                facts.deleted.push(id);
            }
            Action::UnmarkVm(id) => {
                self.provider()?;
                facts.unmarked.push(id);
            }
            Action::DropOwnerTag => {
                self.provider()?;
                facts.untagged = true;
            }
            Action::AdoptVm(_) | Action::AdoptRecords(_) => {
                facts.adopted = true;
                (facts.declared, facts.checked) = (None, None);
            }
            Action::Declare(records) => {
                let answer = match &self.outside.declared {
                    Declared::Applied(_) => {
                        self.published.clone_from(&records);
                        Declared::Applied(records.iter().map(published).collect())
                    }
                    other => other.clone(),
                };
                facts.declared = Some((records, answer));
            }
            Action::AskAuthority(_) => facts.authority = Some(self.outside.authority.clone()),
            Action::AskResolvers(_) => facts.resolvers = Some(self.outside.resolvers.clone()),
            Action::SayAbandoned(half) => facts.said.push(half),
            Action::EnsureKey => self.seen.public_key = Some("ssh-ed25519 AAAA shop".to_owned()),
            Action::WorkOnHost => {
                if let Some(host) = &mut self.seen.host {
                    host.work = Some("looking at it".to_owned());
                }
            }
            Action::SayLeft => facts.said.push("host"),
            Action::ForgetHost => facts.forgot_host = true,
        }
        Ok(None)
    }

    fn claim(&mut self, reservation: &Reservation) -> &mut Option<Standing> {
        if reservation.name.starts_with("rs--ip.") { &mut self.seen.address } else { &mut self.seen.name }
    }

    /// Whether the zone answers for the Node's name with `address`, as the spec has it.
    fn answers_with(&self, address: std::net::IpAddr) -> bool {
        let spec = &self.seen.node.spec;
        let zone = self.seen.zone.as_ref();
        let name = zone.and_then(|zone| fqdn(&self.seen.node, zone.domain.as_ref()?));
        let ttl = spec.ttl.or(zone.map(|zone| zone.ttl));
        let right = |record: &Desired| {
            Some(&record.name) == name.as_ref()
                && record.content.to_string() == address.to_string()
                && Some(i64::from(record.ttl)) == ttl
                && record.proxied == spec.proxied
        };
        self.published.len() == 1 && self.published.iter().all(right)
    }
}

fn published(record: &Desired) -> Published {
    let Desired { name, content, proxied, .. } = record.clone();
    Published { id: "r".to_owned(), name, content, ttl: record.effective_ttl(), proxied }
}
