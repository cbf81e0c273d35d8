//! From a Node that is to nothing: its name first, then what the name pointed at.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::super::observe::{Hosts, Observed, fqdn, static_address};
use super::super::report;
use super::target::newer;
use super::{Action, Facts, NodeStep, elapsed, stop, wait};
use crate::api::condition::whole_seconds;
use crate::api::names::Fqdn;
use crate::api::refs::{DeletionPolicy, HostManagement};
use crate::controllers::{hosts, zone_blocked};
use crate::dns::propagation::Confirmation;
use crate::dns::{Content, Declared, Desired};
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step, Wait};

const SOON: Duration = Duration::from_secs(2);
const WRITER: Duration = Duration::from_secs(60);
/// How long a delete may take before it is sent again.
const RESEND: Duration = Duration::from_secs(10);
/// How long the zone's servers may stay silent before a fresh listing counts in their place, and how much longer is
/// waited then.
const SILENCE: Duration = Duration::from_secs(60);
const INSTEAD: Duration = Duration::from_secs(300);

pub(super) fn plan(seen: &Observed, facts: &Facts, now: Timestamp) -> NodeStep {
    let begun = seen.status.journal.as_ref().is_some_and(|j| j.withdrawn_at.is_some());
    if let (Some(held), false) = (&seen.held, begun) {
        return wait(held.reason, held.message.clone(), WRITER, false);
    }
    unpublish(seen, facts, now)
        .or_else(|| remove(seen, facts, now))
        .or_else(|| release(seen, facts))
        .or_else(|| leave(seen, facts))
        .unwrap_or(Step::Gone)
}

/// Withdraws the record, proves it at the zone's servers, and waits until no cache can hold it.
fn unpublish(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<NodeStep> {
    if abandoned(seen, "dns") {
        return say(facts, "dns");
    }
    let name = published_name(seen)?;
    let zone_name = &seen.node.spec.zone_ref.name;
    let Some(zone) = seen.zone.as_ref().filter(|zone| zone.running) else {
        let message = format!(
            "{name} cannot be withdrawn, because Zone {zone_name} is missing or not connected: bring it back, or give \
             the record up with the annotation roadstead.dev/abandon=dns"
        );
        return Some(wait("ZoneNotReady", message, WRITER, false));
    };
    let withdrawing = |after| wait("Withdrawing", format!("withdrawing {name}"), after, false);
    match &facts.declared {
        Some((declared, answer)) if declared.is_empty() => match answer {
            Declared::Applied(_) => {}
            Declared::Pending => return Some(withdrawing(WRITER)),
            Declared::Blocked(error) => return Some(zone_blocked(error, seen.read_only, seen.resync)),
            Declared::Refused(refusal) => {
                let message = format!(
                    "{name} cannot be withdrawn: {refusal}; give the record up with the annotation \
                     roadstead.dev/abandon=dns"
                );
                return Some(wait("WithdrawalRefused", message, WRITER, false));
            }
        },
        _ => return Some(Step::Do(Action::Declare(Vec::new()))),
    }
    let journal = seen.status.journal.clone().unwrap_or_default();
    if let Some(withdrawn) = journal.withdrawn_at.as_ref() {
        // Nobody else gets an existing host's address because its name went.
        let ttl = if is_static(seen) { Duration::ZERO } else { ttl(seen) };
        let waited = elapsed(withdrawn.0, now);
        let message = format!("{name} is withdrawn; waiting until no cache holds it before its VM goes");
        let left = ttl.saturating_sub(waited) + Duration::from_millis(100);
        return (waited < ttl).then(|| wait("WaitingForTTL", message, left, false));
    }
    // Only the API knows a proxied record; the public answer is the proxy's.
    let proxied = seen.status.record.as_ref().is_some_and(|r| r.ttl == 1);
    let silent = || elapsed(journal.propagating_since.as_ref().map_or(now, |t| t.0), now) >= SILENCE + INSTEAD;
    let proven = proxied
        || match &facts.authority {
            Some(Confirmation::Confirmed) => true,
            Some(Confirmation::Unreachable(_)) => silent(),
            Some(Confirmation::Differs(_)) => false,
            None if zone.authority.is_empty() => silent(),
            None => return Some(Step::Do(Action::AskAuthority(absence(seen, &name)))),
        };
    if !proven {
        return Some(wait("Withdrawing", format!("waiting until the zone's own servers forget {name}"), SOON, false));
    }
    let waiting = Wait { reason: "Withdrawn", message: format!("{name} is withdrawn"), after: SOON, keep_ready: false };
    let mut status = report::status(seen, facts, &Outcome::Waiting(waiting), now);
    status.journal.get_or_insert_default().withdrawn_at = Some(whole_seconds(now));
    Some(Step::Record(Box::new(status)))
}

/// How long a cache may hold the Node's record.
pub(super) fn ttl(seen: &Observed) -> Duration {
    // A record with automatic TTL is served with 300 s.
    let seconds = seen.status.record.as_ref().map_or(0, |r| if r.ttl == 1 { 300 } else { r.ttl });
    let ttl = Duration::from_secs(u64::try_from(seconds).unwrap_or(300));
    seen.ttl_cap.map_or(ttl, |cap| ttl.min(cap))
}

/// The name that may be published: what the status says, else what the spec asks for; `None` if nothing ever was.
fn published_name(seen: &Observed) -> Option<Fqdn> {
    let said = seen.status.fqdn.as_deref().and_then(|name| Fqdn::parse(name).ok());
    said.or_else(|| fqdn(&seen.node, seen.zone.as_ref()?.domain.as_ref()?))
        .filter(|_| seen.status.fqdn.is_some() || matches!(seen.name, Some(Standing::Ours)))
}

fn is_static(seen: &Observed) -> bool {
    static_address(&seen.node).is_some()
}

/// What must not be answered any more: the name with the address it had, or would have had.
fn absence(seen: &Observed, name: &Fqdn) -> Vec<Desired> {
    let published = seen.status.record.as_ref().and_then(|r| r.content.parse::<IpAddr>().ok());
    let address = published.or_else(|| seen.status.addresses.as_ref()?.publishable());
    let content = match address {
        Some(IpAddr::V6(v6)) => Content::Aaaa(v6),
        Some(IpAddr::V4(v4)) => Content::A(v4),
        None => Content::A(std::net::Ipv4Addr::UNSPECIFIED),
    };
    vec![Desired { name: name.clone(), content, ttl: 60, proxied: false }]
}

/// Deletes every VM of this Node and proves that none is left.
fn remove(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<NodeStep> {
    if abandoned(seen, "vm") {
        return say(facts, "vm");
    }
    if is_static(seen) {
        return None;
    }
    if seen.node.spec.deletion_policy == DeletionPolicy::Unknown {
        return Some(stop("UnknownValue", newer("spec.deletionPolicy")));
    }
    let journal = seen.status.journal.clone().unwrap_or_default();
    let never = seen.status.vm_id.is_none() && journal.intent.is_none() && journal.retired.is_empty();
    let provider_name = &seen.node.spec.provider_ref.name;
    let runs = matches!(seen.provider.as_ref().map(|p| &p.hosts), Some(Hosts::Vms { .. }));
    if !runs {
        let message = format!(
            "the VM cannot be deleted, because Provider {provider_name} is missing or not connected: bring it back, or \
             give the VM up with the annotation roadstead.dev/abandon=vm"
        );
        return (!never).then(|| wait("ProviderNotReady", message, WRITER, false));
    }
    let Some(looked) = &facts.looked else { return Some(Step::Do(Action::LookByMark)) };
    if !looked.whole {
        return Some(wait("DeletingVM", "the provider's listing was not complete; looking again", SOON, false));
    }
    // A create whose outcome nobody knows may still surface in a listing.
    let started = journal.started_at.as_ref().map_or(now, |t| t.0);
    let creating = journal.intent.as_deref() == Some("CreateVM");
    if creating && elapsed(started, now) < seen.settle && looked.vms.is_empty() {
        let left = seen.settle.saturating_sub(elapsed(started, now)) + Duration::from_millis(100);
        let message = "whether a VM was created is not known; looking again before this object goes";
        return Some(wait("OutcomeUnknown", message, left, false));
    }
    let sent = journal.intent.as_deref() == Some("DeleteVM");
    let known = seen.status.vm_id.iter().chain(&journal.retired);
    let ids: BTreeSet<&String> = known.chain(looked.vms.iter().map(|vm| &vm.id)).collect();
    for id in &ids {
        let keep = seen.node.spec.deletion_policy == DeletionPolicy::Orphan && !journal.retired.contains(id);
        if keep {
            if !facts.unmarked.contains(id) {
                return Some(Step::Do(Action::UnmarkVm((*id).clone())));
            }
            continue;
        }
        match facts.got.get(*id) {
            None => return Some(Step::Do(Action::GetVm((*id).clone()))),
            Some(None) => {}
            Some(Some(_)) if facts.intended && !facts.deleted.contains(id) => {
                return Some(Step::Do(Action::DeleteVm((*id).clone())));
            }
            Some(Some(_)) if !facts.intended && (!sent || elapsed(started, now) >= RESEND) => {
                return Some(Step::Do(Action::IntendDelete));
            }
            // Sent a moment ago: the provider takes its time.
            Some(Some(_)) => return Some(wait("DeletingVM", format!("deleting VM {id}"), SOON, false)),
        }
    }
    let had_any = !never || !ids.is_empty();
    (had_any && !facts.untagged).then_some(Step::Do(Action::DropOwnerTag))
}

/// Gives the claims back. The name stays reserved against other namespaces while a cache may hold its record.
fn release(seen: &Observed, facts: &Facts) -> Option<NodeStep> {
    let name = seen.status.fqdn.as_deref().and_then(|name| Fqdn::parse(name).ok());
    let name = name.or_else(|| fqdn(&seen.node, seen.zone.as_ref()?.domain.as_ref()?));
    // A record that was given up may stay for ever, but nobody can wait for that.
    let seconds = seen.status.record.is_some().then(|| i64::try_from(ttl(seen).as_secs()).unwrap_or(i64::MAX));
    let name = name.map(|name| (Reservation::of_name(&name), &seen.name, seconds));
    let address = static_address(&seen.node).map(|address| (Reservation::of_address(address), &seen.address, None));
    let published = seen.status.addresses.as_ref().and_then(crate::api::node::Addresses::publishable);
    let former = published
        .filter(|former| is_static(seen) && static_address(&seen.node) != Some(*former))
        .map(|former| (Reservation::of_address(former), &seen.address, None));
    name.into_iter()
        .chain(address)
        .chain(former)
        .find(|(reservation, standing, _)| {
            **standing != Some(Standing::Free) && !facts.released.contains(&reservation.name)
        })
        .map(|(reservation, _, seconds)| Step::Do(Action::Release(reservation, seconds)))
}

/// Takes leave of the host. A VM is gone by now; an existing host stays as it is.
fn leave(seen: &Observed, facts: &Facts) -> Option<NodeStep> {
    if !hosts::is_ours(&seen.node) || facts.forgot_host {
        return None;
    }
    let managed = seen.node.spec.host.manage == HostManagement::Caddy;
    // Whoever gave it up knows.
    let is_told = facts.said.contains(&"host") || abandoned(seen, "host");
    if managed && is_static(seen) && !is_told {
        return Some(Step::Do(Action::SayLeft));
    }
    Some(Step::Do(Action::ForgetHost))
}

/// Whether a person gave this half up.
fn abandoned(seen: &Observed, half: &str) -> bool {
    seen.annotation("abandon").is_some_and(|halves| halves.split(',').any(|h| h.trim() == half))
}

fn say(facts: &Facts, half: &'static str) -> Option<NodeStep> {
    (!facts.said.contains(&half)).then_some(Step::Do(Action::SayAbandoned(half)))
}
