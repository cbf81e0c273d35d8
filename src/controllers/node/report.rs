//! The status that follows from what was seen (pure).

use jiff::Timestamp;

use super::observe::{Hosts, Observed, fqdn, static_address};
use super::plan::{BOOTING, BOOTSTRAPPED, Facts, LATE_REASON, Machine, Verdict};
use crate::api::condition::{self, Desired, READY, RECONCILING, STALLED, whole_seconds};
use crate::api::node::{Addresses, CaddyStatus, CaddyTarget, NodeStatus, RecordStatus};
use crate::api::refs::HostManagement;
use crate::api::status::Journal;
use crate::cloud::Vm;
use crate::controllers::{hosts, phase, set_paused};
use crate::dns::propagation::Confirmation;
use crate::dns::{Declared, Published};
use crate::runtime::claims::Reservation;
use crate::runtime::driver::{Outcome, Wait};

/// The Node's status after a pass that ended so.
#[must_use]
pub fn status(seen: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> NodeStatus {
    let mut status = seen.status.clone();
    let generation = seen.node.metadata.generation;
    let was_current = status.observed_generation == generation;
    if let Outcome::Waiting(Wait { reason: "Paused", message, .. }) = outcome {
        // A paused Node keeps everything it said, its generation included: nobody looked at the new spec.
        set_paused(&mut status.conditions, message, generation, now);
        return status;
    }
    condition::remove(&mut status.conditions, "Paused");
    status.observed_generation = generation;
    if let Some(name) = seen.zone.as_ref().and_then(|z| fqdn(&seen.node, z.domain.as_ref()?)) {
        status.fqdn = Some(name.to_string());
    }
    let record_before = status.record.clone();
    machine(seen, facts, &mut status);
    record(facts, &mut status);
    let missing = status.journal.as_ref().is_some_and(|journal| journal.missing_since.is_some());
    let withdrawn = is_withdrawn(facts, &status);
    let mut set = |desired| condition::set(&mut status.conditions, desired, generation, now);
    let moved = status.record != record_before;

    let has_address = status.addresses.as_ref().is_some_and(|a| a.publishable().is_some());
    set(match (static_address(&seen.node), has_address) {
        (Some(_), _) => Desired::yes("Provisioned", "StaticHost", "the host exists already"),
        (None, true) if missing => Desired::no("Provisioned", "VMMissing", "the provider does not show the VM"),
        (None, true) => Desired::yes("Provisioned", "VMReady", "the VM runs and has an address"),
        (None, false) => Desired::no("Provisioned", reason(outcome), message(outcome)),
    });
    set(match &status.record {
        Some(_) if withdrawn => Desired::no("Published", WITHDRAWN, "the record is withdrawn"),
        Some(record) => {
            Desired::yes("Published", "RecordPublished", format!("the record points at {}", record.content))
        }
        None => Desired::no("Published", reason(outcome), message(outcome)),
    });
    let late = matches!(outcome, Outcome::Waiting(w) if w.reason == LATE_REASON);
    if status.record.is_none() {
        set(Desired::no("Resolvable", "NotPublished", "there is no record to resolve"));
    } else if matches!(outcome, Outcome::Done) || facts.resolvers == Some(Confirmation::Confirmed) {
        set(Desired::yes(
            "Resolvable",
            "Resolvable",
            "the zone's own servers and the resolvers answer with the record",
        ));
    } else if moved || condition::get(&status.conditions, "Resolvable").is_none() || late {
        let (reason, message) = if late {
            (reason(outcome), message(outcome))
        } else {
            ("Propagating", "waiting for the zone's servers and the resolvers".to_owned())
        };
        condition::set(&mut status.conditions, Desired::no("Resolvable", reason, message), generation, now);
    }
    host(seen, outcome, &mut status, now);
    times(seen, facts, outcome, &mut status, now);
    ready(seen, outcome, late, was_current, &mut status, now);
    status
}

/// The host: what is known of it, and of our way there.
fn host(seen: &Observed, outcome: &Outcome, status: &mut NodeStatus, now: Timestamp) {
    let generation = status.observed_generation;
    if hosts::is_ours(&seen.node) {
        status.ssh_public_key = seen.public_key.clone().or(status.ssh_public_key.take());
    } else {
        status.ssh_public_key = None;
    }
    if seen.node.spec.host.manage != HostManagement::Caddy {
        condition::remove(&mut status.conditions, BOOTSTRAPPED);
        status.caddy = None;
        return;
    }
    if seen.deleting() {
        return;
    }
    let is_there = status.vm_id.is_some() || static_address(&seen.node).is_some();
    let no = |reason, message| Some(Desired::no(BOOTSTRAPPED, reason, message));
    let unset = seen.host.as_ref().is_some_and(|host| host.unset.is_some());
    let desired = match seen.host.as_ref().and_then(|host| host.verdict.as_ref()) {
        _ if !is_there => no("NoHost", "there is no host yet".to_owned()),
        _ if unset => no(reason(outcome), message(outcome)),
        Some(Verdict::Serves { .. }) => {
            Some(Desired::yes(BOOTSTRAPPED, "Serving", "Caddy serves on the host and takes routes"))
        }
        // What was so stays so until something speaks against it.
        Some(Verdict::Unseen { .. }) | None if condition::is_true(&status.conditions, BOOTSTRAPPED) => None,
        Some(
            Verdict::Refused { reason, message }
            | Verdict::Broken { reason, message }
            | Verdict::Unseen { reason, message },
        ) => no(reason, message.clone()),
        None => no(reason(outcome), message(outcome)),
    };
    if let Some(desired) = desired {
        condition::set(&mut status.conditions, desired, generation, now);
    }
    let target = seen.host.as_ref().and_then(|host| host.target.clone());
    let target = target.unwrap_or_else(|| CaddyTarget { service: "placeholder".to_owned(), port: 8080 });
    let serves = condition::is_true(&status.conditions, BOOTSTRAPPED);
    status.caddy = status.fqdn.clone().filter(|_| serves).map(|domain| CaddyStatus { domain, target });
}

fn reason(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "Ready",
        Outcome::Waiting(wait) => wait.reason,
        Outcome::Stopped { reason, .. } | Outcome::Failed { reason, .. } => reason,
    }
}

fn message(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => String::new(),
        Outcome::Waiting(wait) => wait.message.clone(),
        Outcome::Stopped { message, .. } | Outcome::Failed { message, .. } => message.clone(),
    }
}

/// What the newest look says of the VM, or the existing host.
fn machine(seen: &Observed, facts: &Facts, status: &mut NodeStatus) {
    if let Some(address) = static_address(&seen.node) {
        // The former address stays until the name has moved and its claim was given back: nothing else knows of it.
        let former = status.addresses.as_ref().and_then(Addresses::publishable).filter(|former| *former != address);
        let is_held = former.is_some_and(|former| !facts.released.contains(&Reservation::of_address(former).name));
        let moved = published(facts).is_some_and(|record| record.content == address.to_string());
        if status.addresses.is_none() || (moved && !is_held) {
            let (v4, v6) = if address.is_ipv4() { (Some(address), None) } else { (None, Some(address)) };
            let text = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string());
            status.addresses = Some(Addresses { public4: text(v4), public6: text(v6), private4: None });
        }
        return;
    }
    let Some(id) = status.vm_id.clone() else { return };
    let listed = match seen.provider.as_ref().map(|p| &p.hosts) {
        Some(Hosts::Vms { snapshot: Ok(snapshot), .. }) => snapshot.vm(&id),
        _ => None,
    };
    let asked = facts.got.get(&id).cloned().flatten().map(std::sync::Arc::new);
    if let Some(vm) = asked.or(listed) {
        let incarnation = status.incarnation.unwrap_or(1);
        settle_vm(status, &vm, incarnation);
        if let Some(journal) = status.journal.as_mut() {
            journal.missing_since = None;
        }
    }
}

/// The status that announces a create.
#[must_use]
pub fn creating(seen: &Observed, facts: &Facts, machine: &Machine, now: Timestamp) -> NodeStatus {
    let waiting = Wait {
        reason: "CreatingVM",
        message: format!("creating VM {}", machine.name),
        after: BOOTING,
        keep_ready: false,
    };
    let mut status = status(seen, facts, &Outcome::Waiting(waiting), now);
    status.incarnation = Some(machine.incarnation);
    status.region = Some(machine.region.clone());
    status.size = Some(machine.size.clone());
    status.image = Some(machine.image.clone());
    intend(&mut status, "CreateVM", now);
    status
}

/// The status once there is a VM of ours: it came back with the create call, or a look found it.
#[must_use]
pub fn starting(seen: &Observed, facts: &Facts, vm: &Vm, incarnation: i64, now: Timestamp) -> NodeStatus {
    let waiting = Wait {
        reason: "WaitingForAddress",
        message: format!("VM {} ({}) is starting and has no address yet", vm.id, vm.name),
        after: BOOTING,
        keep_ready: false,
    };
    let mut status = status(seen, facts, &Outcome::Waiting(waiting), now);
    settle_vm(&mut status, vm, incarnation);
    status
}

/// The status that announces a delete.
#[must_use]
pub fn deleting(seen: &Observed, now: Timestamp) -> NodeStatus {
    let mut status = seen.status.clone();
    intend(&mut status, "DeleteVM", now);
    status
}

fn intend(status: &mut NodeStatus, intent: &str, now: Timestamp) {
    let journal = status.journal.get_or_insert_default();
    (journal.intent, journal.started_at) = (Some(intent.to_owned()), Some(whole_seconds(now)));
}

/// Takes a VM of ours into the status: the intent that announced it is fulfilled.
fn settle_vm(status: &mut NodeStatus, vm: &Vm, incarnation: i64) {
    status.vm_id = Some(vm.id.clone());
    status.incarnation = Some(incarnation);
    status.region.get_or_insert_with(|| vm.region.clone());
    status.size.get_or_insert_with(|| vm.size.clone());
    status.image.get_or_insert_with(|| vm.image.clone());
    let text = |ip: Option<String>| ip;
    let addresses = Addresses {
        public4: text(vm.public4.map(|ip| ip.to_string())),
        public6: text(vm.public6.map(|ip| ip.to_string())),
        private4: text(vm.private4.map(|ip| ip.to_string())),
    };
    // A new incarnation without an address yet leaves the old one's in place, which the name still points at.
    if addresses.publishable().is_some() {
        status.addresses = Some(addresses);
    }
    if let Some(journal) = status.journal.as_mut()
        && journal.intent.as_deref() == Some("CreateVM")
    {
        (journal.intent, journal.started_at, journal.attempts, journal.not_before) = (None, None, None, None);
    }
    status.journal.take_if(|journal| *journal == Journal::default());
}

/// The record the zone's writer says is in place.
#[must_use]
pub fn published(facts: &Facts) -> Option<RecordStatus> {
    match facts.declared.as_ref() {
        Some((_, Declared::Applied(records))) => records.first().map(of),
        _ => None,
    }
}

fn of(record: &Published) -> RecordStatus {
    RecordStatus { id: record.id.clone(), content: record.content.to_string(), ttl: i64::from(record.ttl) }
}

/// A withdrawn record stays in the status of a Node that is being deleted: its TTL is still to be waited out.
fn record(facts: &Facts, status: &mut NodeStatus) {
    match facts.declared.as_ref() {
        Some((wanted, Declared::Applied(_))) if !wanted.is_empty() => status.record = published(facts),
        Some((wanted, Declared::Refused(_))) if !wanted.is_empty() => status.record = None,
        _ => {}
    }
}

/// The condition, and reason, of a Node whose VM is not what its spec asks for.
const REPLACE: &str = "ReplacementRequired";
/// The reason of `Published` once the record is gone while its TTL is still of interest.
const WITHDRAWN: &str = "Withdrawn";

/// Whether the record in the status is there no more. Stays so until another one is in place.
fn is_withdrawn(facts: &Facts, status: &NodeStatus) -> bool {
    match &facts.declared {
        Some((wanted, Declared::Applied(_))) => wanted.is_empty(),
        _ => condition::get(&status.conditions, "Published").is_some_and(|c| c.reason == WITHDRAWN),
    }
}

/// The journal's times: since when the name is waited for, and back-off that has served its purpose.
fn times(seen: &Observed, facts: &Facts, outcome: &Outcome, status: &mut NodeStatus, now: Timestamp) {
    let mut journal = status.journal.take().unwrap_or_default();
    let waits = ["Propagating", LATE_REASON, "Withdrawing"].contains(&reason(outcome));
    // What comes after the wait for the name does not begin it anew while the name is late.
    let after = reason(outcome) == REPLACE || seen.host.is_some();
    let late = after && !condition::is_true(&status.conditions, "Resolvable");
    if !waits && !late && !outcome.is_a_failed_look() {
        journal.propagating_since = None;
    } else if waits && journal.propagating_since.is_none() {
        journal.propagating_since = Some(whole_seconds(now));
    }
    if facts.create_refused {
        (journal.intent, journal.started_at) = (None, None);
    }
    if matches!(outcome, Outcome::Done) || seen.status.observed_generation != seen.node.metadata.generation {
        (journal.attempts, journal.not_before) = (None, None);
    }
    status.journal = (journal != Journal::default()).then_some(journal);
}

/// Ready, Reconciling, Stalled and the phase.
fn ready(seen: &Observed, outcome: &Outcome, late: bool, was_current: bool, status: &mut NodeStatus, now: Timestamp) {
    let generation = status.observed_generation;
    let deleting = seen.deleting();
    let was_ready = was_current && !deleting && condition::is_true(&seen.status.conditions, READY);
    let keeps = was_ready && outcome.is_a_failed_look();
    let fqdn = status.fqdn.clone().unwrap_or_default();
    let (ready, companion) = match outcome {
        Outcome::Done => {
            let content = status.record.as_ref().map(|r| r.content.clone()).unwrap_or_default();
            (Desired::yes(READY, "Ready", format!("{fqdn} points at {content}")), None)
        }
        Outcome::Waiting(w) if late => (Desired::yes(READY, "PropagationTimeout", w.message.clone()), None),
        Outcome::Stopped { reason, message } => (Desired::no(READY, reason, message.clone()), Some(STALLED)),
        Outcome::Waiting(Wait { reason, message, .. }) | Outcome::Failed { reason, message } => {
            (Desired::no(READY, reason, message.clone()), Some(RECONCILING))
        }
    };
    if !keeps {
        condition::set(&mut status.conditions, ready, generation, now);
    }
    for type_ in [RECONCILING, STALLED] {
        if companion.filter(|_| !keeps) == Some(type_) {
            let why = Desired::yes(type_, reason(outcome), message(outcome));
            condition::set(&mut status.conditions, why, generation, now);
        } else {
            condition::remove(&mut status.conditions, type_);
        }
    }
    match &outcome {
        Outcome::Stopped { reason, message } if *reason == REPLACE => {
            let required = Desired::yes(REPLACE, reason, message.clone());
            condition::set(&mut status.conditions, required, generation, now);
        }
        Outcome::Done => condition::remove(&mut status.conditions, REPLACE),
        _ => {}
    }
    status.phase = Some(phase(deleting, &status.conditions).to_owned());
}
