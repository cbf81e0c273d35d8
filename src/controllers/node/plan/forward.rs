//! From a Node that should be to one that is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::observe::{Hosts, Observed, ProviderView};
use super::super::report;
use super::target::{Target, machine, target};
use super::{Action, BOOTING, Facts, NodeStep, elapsed, stop, wait};
use crate::api::condition::whole_seconds;
use crate::api::names::{Kinship, vm_name};
use crate::api::status::Journal;
use crate::cloud::fleet::{Sight, Snapshot};
use crate::cloud::{Vm, VmStatus};
use crate::controllers::{self, blocked, hosts, not_ours, zone_blocked};
use crate::dns::{Checked, Declared, Refusal};
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step, Wait};
use crate::runtime::seeded::{self, Seeded};

/// The writer wakes us; this is for the case that it cannot.
pub(super) const WRITER: Duration = Duration::from_secs(60);

pub(super) fn plan(seen: &Observed, facts: &Facts, now: Timestamp) -> NodeStep {
    let target = match target(seen) {
        Ok(target) => target,
        Err(step) => return *step,
    };
    let (Some(zone), Some(provider)) = (&seen.zone, &seen.provider) else {
        return wait("Waiting", "waiting for Zone and Provider", WRITER, false);
    };
    // A lost VM's record is withdrawn even where nothing new may be published.
    if let Some(step) = lost(seen, facts, provider, now) {
        return step;
    }
    if let Some(message) = provider.unusable.as_ref() {
        return wait("ProviderNotReady", message.clone(), WRITER, true);
    }
    if let Some(message) = zone.unusable.as_ref() {
        return wait("ZoneNotReady", message.clone(), WRITER, true);
    }
    if !zone.running || matches!(provider.hosts, Hosts::Unknown { .. }) {
        return wait("Starting", "waiting for Zone and Provider to be read", BOOTING, true);
    }
    if let Some(step) = claim(seen, facts, &target, now) {
        return step;
    }
    // Before there is a VM, which is to have the key, and before a person puts it on a host.
    if hosts::is_ours(&seen.node) && seen.public_key.is_none() {
        return Step::Do(Action::EnsureKey);
    }
    let address = match target.address {
        Some(address) => address,
        None => match vm(seen, facts, &target, provider, now) {
            Ok(address) => address,
            Err(step) => return *step,
        },
    };
    super::publish::publish(seen, facts, zone, &target, address, now)
}

/// The name, and for an existing host its address, must be ours before anything is published or paid for.
fn claim(seen: &Observed, facts: &Facts, target: &Target, now: Timestamp) -> Option<NodeStep> {
    let name = (Reservation::of_name(&target.fqdn), &seen.name);
    let address = target.address.map(|address| (Reservation::of_address(address), &seen.address));
    for (reservation, cached) in std::iter::once(name).chain(address) {
        let standing = facts.claimed.get(&reservation.name).or(cached.as_ref()).unwrap_or(&Standing::Free);
        match standing {
            Standing::Ours => {}
            Standing::Free => return Some(Step::Do(Action::Claim(reservation))),
            held => {
                let (field, reason) = match &seen.node.spec.hostname {
                    _ if reservation.name.starts_with("rs--ip.") => ("spec.address", "AddressTaken"),
                    Some(_) => ("spec.hostname", "HostnameTaken"),
                    None => ("metadata.name", "HostnameTaken"),
                };
                return not_ours(&reservation, held, field, reason, now);
            }
        }
    }
    None
}

/// The VM's address, or the step that leads to one.
fn vm(
    seen: &Observed,
    facts: &Facts,
    target: &Target,
    provider: &ProviderView,
    now: Timestamp,
) -> Result<IpAddr, Box<NodeStep>> {
    let Hosts::Vms { defaults, snapshot } = &provider.hosts else {
        return Err(Box::new(wait("Starting", "waiting for the Provider to be read", BOOTING, true)));
    };
    let journal = seen.status.journal.as_ref();
    // A VM that was once missing is there again only when it is seen: its address may be another's by now.
    let in_doubt = journal.is_some_and(|journal| journal.missing_since.is_some());
    let settled = seen.status.addresses.as_ref().and_then(crate::api::node::Addresses::publishable);
    let settled = settled.filter(|_| !in_doubt);
    let snapshot = match snapshot {
        Ok(snapshot) => snapshot,
        // A listing that fails says nothing about a VM that is there.
        Err(error) => {
            return match settled.filter(|_| seen.status.vm_id.is_some()) {
                Some(address) => Ok(address),
                None => Err(Box::new(blocked("the provider", error))),
            };
        }
    };
    if let Some(step) = replacement(seen, facts, target, defaults, now) {
        return Err(Box::new(step));
    }
    let Some(id) = &seen.status.vm_id else {
        return Err(Box::new(create(seen, facts, target, defaults, snapshot, now)));
    };
    let vm = facts.got.get(id).cloned().flatten().map(Arc::new).or_else(|| snapshot.vm(id));
    match &vm {
        Some(vm) => address(vm).filter(|_| vm.status != VmStatus::New).ok_or_else(|| {
            let message = format!("VM {id} ({}) is starting and has no address yet", vm.name);
            Box::new(wait("WaitingForAddress", message, BOOTING, false))
        }),
        // `lost` looks into it; until it is sure, the name stays where it is.
        None => match settled {
            Some(address) => Ok(address),
            None => Err(Box::new(wait("WaitingForAddress", format!("VM {id} is not listed yet"), BOOTING, false))),
        },
    }
}

fn address(vm: &Vm) -> Option<IpAddr> {
    vm.public4.map(IpAddr::V4).or(vm.public6.map(IpAddr::V6))
}

/// From no VM to an ordered one. Crash-safe: the intent is stored before the call, the mark travels in it, and an intent
/// found by a later pass means an unknown outcome: look first, and again when listings cannot lag any more.
fn create(
    seen: &Observed,
    facts: &Facts,
    target: &Target,
    defaults: &[String; 3],
    snapshot: &Snapshot,
    now: Timestamp,
) -> NodeStep {
    let incarnation = seen.status.incarnation.unwrap_or(1);
    let wanted = machine(seen, defaults, incarnation, false);
    // A look in this pass is newer than the listing.
    let found = facts
        .looked
        .as_ref()
        .map_or_else(|| snapshot.by_owner(&seen.mark), |l| l.vms.iter().cloned().map(Arc::new).collect());
    let retired = seen.status.journal.as_ref().map(|j| j.retired.clone()).unwrap_or_default();
    let newest = found.into_iter().filter(|vm| !retired.contains(&vm.id)).max_by_key(|vm| incarnation_of(seen, vm));
    if let Some(vm) = newest {
        // It came back with the create call, or a crash or a wiped status hid it.
        let incarnation = incarnation_of(seen, &vm).unwrap_or(1);
        return Step::Record(Box::new(report::starting(seen, facts, &vm, incarnation, now)));
    }
    if let Some(step) = namesake(seen, facts, snapshot) {
        return step;
    }
    if let Some(step) = foreign(seen, facts) {
        return step;
    }
    let journal = seen.status.journal.clone().unwrap_or_default();
    if facts.intended || seeded::is(Seeded::NoIntent) {
        return Step::Do(Action::CreateVm(wanted));
    }
    let Some(started) = journal.started_at.filter(|_| journal.intent.as_deref() == Some("CreateVM")) else {
        return Step::Do(Action::IntendCreate(wanted));
    };
    if seeded::is(Seeded::NoSecondLook) {
        return Step::Do(Action::IntendCreate(wanted));
    }
    let settled = elapsed(started.0, now) >= seen.settle;
    match &facts.looked {
        None => Step::Do(Action::LookByMark),
        Some(listing) if !listing.whole => {
            wait("OutcomeUnknown", "the provider's listing was not complete; looking again", BOOTING, false)
        }
        Some(_) if settled => Step::Do(Action::IntendCreate(wanted)),
        Some(_) => {
            let message = format!(
                "whether the VM for {} was created is not known; looking again before another is ordered",
                target.fqdn
            );
            let left = seen.settle.saturating_sub(elapsed(started.0, now));
            wait("OutcomeUnknown", message, left + Duration::from_millis(100), false)
        }
    }
}

/// Which incarnation of this Node a VM is, by its name.
pub(super) fn incarnation_of(seen: &Observed, vm: &Vm) -> Option<i64> {
    let holder = &seen.claimant.holder;
    let number: i64 = vm.name.rsplit('-').next()?.parse().ok()?;
    (vm_name(&holder.name, &holder.uid, number) == vm.name).then_some(number)
}

/// A VM of an earlier life of this object: never a reason to create a second one.
fn namesake(seen: &Observed, facts: &Facts, snapshot: &Snapshot) -> Option<NodeStep> {
    // What this process has just deleted may still be listed: the VM of an earlier life that has ended properly.
    let is_namesake = |vm: &Vm| {
        let related = vm.mark.as_ref().is_some_and(|mark| seen.mark.kinship(mark) == Kinship::Namesake);
        related && !snapshot.is_leaving(&vm.id)
    };
    let listed = snapshot.by_key(&seen.mark).into_iter().find(|vm| is_namesake(vm));
    let vm = match listed {
        Some(vm) => vm,
        // The listing is of this cluster; a VM of an earlier cluster has to be asked for.
        None => match &facts.namesakes {
            None => return Some(Step::Do(Action::LookByKey)),
            Some(listing) => Arc::new(listing.vms.iter().find(|vm| is_namesake(vm))?.clone()),
        },
    };
    let owner = &vm.mark.as_ref()?.owner;
    if seen.annotation("adopt") == Some(owner) && !facts.adopted {
        return Some(Step::Do(Action::AdoptVm(vm.id.clone())));
    }
    let message = format!(
        "VM {} ({}) was made for an earlier object of this name: take it over with the annotation \
         roadstead.dev/adopt={owner}, or remove it at the provider",
        vm.id, vm.name
    );
    Some(stop("AdoptionRequired", message))
}

/// A record that somebody else keeps at the name, looked for before a VM is paid for.
fn foreign(seen: &Observed, facts: &Facts) -> Option<NodeStep> {
    match &facts.checked {
        None => Some(Step::Do(Action::CheckName)),
        Some(Checked::Free | Checked::Own(_)) => None,
        Some(Checked::Pending) => Some(wait("CheckingName", "looking for records at the name", WRITER, false)),
        Some(Checked::Taken(refusal)) => Some(refused(seen, facts, refusal)),
        Some(Checked::Blocked(error)) => Some(zone_blocked(error, seen.read_only, seen.resync)),
    }
}

/// What a refusal of the zone's writer means for the Node.
pub(super) fn refused(seen: &Observed, facts: &Facts, refusal: &Refusal) -> NodeStep {
    let (zone, adopt) = (&seen.node.spec.zone_ref.name, seen.annotation("adopt"));
    controllers::refused(refusal, zone, adopt, facts.adopted, Action::AdoptRecords)
}

/// A replacement asked for by annotation, and the end of the VM it replaced.
fn replacement(
    seen: &Observed,
    facts: &Facts,
    target: &Target,
    defaults: &[String; 3],
    now: Timestamp,
) -> Option<NodeStep> {
    // The journal keeps what was acted on, and has room for so much.
    let token: String = seen.annotation("replace")?.chars().take(253).collect();
    let journal = seen.status.journal.clone().unwrap_or_default();
    let id = seen.status.vm_id.clone()?;
    if journal.replaced.as_deref() == Some(token.as_str()) || !journal.retired.is_empty() {
        return None;
    }
    let next = seen.status.incarnation.unwrap_or(1) + 1;
    let machine = machine(seen, defaults, next, true);
    let waiting = Wait {
        reason: "Replacing",
        message: format!("a new VM takes over {}", target.fqdn),
        after: BOOTING,
        keep_ready: false,
    };
    let mut status = report::status(seen, facts, &Outcome::Waiting(waiting), now);
    status.vm_id = None;
    status.incarnation = Some(next);
    (status.size, status.image) = (Some(machine.size), Some(machine.image));
    status.journal = Some(Journal {
        replaced: Some(token),
        retired: vec![id],
        intent: None,
        started_at: None,
        moved_at: None,
        ..journal
    });
    Some(Step::Record(Box::new(status)))
}

/// A VM that a complete listing no longer shows: asked for by id, twice, a settle time apart. Once it is sure, its
/// record is withdrawn, and it is made again only where `replaceLost` asks for it.
fn lost(seen: &Observed, facts: &Facts, provider: &ProviderView, now: Timestamp) -> Option<NodeStep> {
    let Hosts::Vms { snapshot: Ok(snapshot), .. } = &provider.hosts else { return None };
    let id = seen.status.vm_id.as_ref()?;
    if snapshot.sight(id) != Sight::Missing {
        return None;
    }
    let journal = seen.status.journal.clone().unwrap_or_default();
    match facts.got.get(id) {
        None => return Some(Step::Do(Action::GetVm(id.clone()))),
        Some(Some(_)) => return None,
        Some(None) => {}
    }
    let gone = format!("VM {id} is gone: nobody asked Roadstead to delete it");
    let Some(since) = journal.missing_since.as_ref() else {
        let waiting = Wait { reason: "VMMissing", message: gone, after: seen.settle, keep_ready: false };
        let mut status = report::status(seen, facts, &Outcome::Waiting(waiting), now);
        status.journal = Some(Journal { missing_since: Some(whole_seconds(now)), ..journal });
        return Some(Step::Record(Box::new(status)));
    };
    let waited = elapsed(since.0, now);
    if waited < seen.settle {
        return Some(wait("VMMissing", gone, seen.settle.saturating_sub(waited) + Duration::from_millis(100), false));
    }
    if let Some(held) = &seen.held {
        return Some(wait(held.reason, held.message.clone(), WRITER, false));
    }
    match &facts.declared {
        None => Some(Step::Do(Action::Declare(Vec::new()))),
        Some((_, Declared::Applied(_))) if seen.node.spec.replace_lost => {
            let waiting = Wait {
                reason: "VMLost",
                message: format!("{gone}; another one takes its place"),
                after: BOOTING,
                keep_ready: false,
            };
            let mut status = report::status(seen, facts, &Outcome::Waiting(waiting), now);
            status.vm_id = None;
            (status.addresses, status.record) = (None, None);
            status.incarnation = Some(seen.status.incarnation.unwrap_or(1) + 1);
            status.journal = Some(Journal { missing_since: None, intent: None, started_at: None, ..journal });
            Some(Step::Record(Box::new(status)))
        }
        Some((_, Declared::Applied(_))) => {
            let message =
                format!("{gone}; its record is withdrawn. Set spec.replaceLost for a new VM, or delete this Node");
            Some(stop("VMLost", message))
        }
        Some((_, Declared::Pending)) => Some(wait("Withdrawing", gone, WRITER, false)),
        Some((_, Declared::Refused(refusal))) => Some(refused(seen, facts, refusal)),
        Some((_, Declared::Blocked(error))) => Some(zone_blocked(error, seen.read_only, seen.resync)),
    }
}
