//! From an address to a name that resolves everywhere, and what waits for that: a replaced VM's end.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::super::observe::{Observed, ZoneView};
use super::super::report;
use super::forward::{WRITER, refused};
use super::target::Target;
use super::{Action, BOOTING, Facts, NodeStep, elapsed, noted, stop, wait};
use crate::api::condition::{self, whole_seconds};
use crate::controllers::zone_blocked;
use crate::dns::propagation::Confirmation;
use crate::dns::{Declared, Desired};
use crate::runtime::claims::Reservation;
use crate::runtime::driver::{Outcome, Step, Wait};

/// How often a name that has not propagated is asked for, at first and after its time-out.
const PROPAGATING: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(30);
/// The reason once it has timed out.
pub(in super::super) const LATE_REASON: &str = "PropagationTimeout";

/// Publishes the address, confirms it at the zone's servers and then at the resolvers.
pub(super) fn publish(
    seen: &Observed,
    facts: &Facts,
    zone: &ZoneView,
    target: &Target,
    address: IpAddr,
    now: Timestamp,
) -> NodeStep {
    let proxied = target.proxied && super::host::may_be_proxied(seen);
    let wanted = vec![Target { proxied, ..target.clone() }.record(address)];
    let (fqdn, publishing) = (&target.fqdn, "Publishing");
    let message = format!("publishing {fqdn} as {address}");
    match facts.declared.as_ref().filter(|(declared, _)| *declared == wanted) {
        None => {
            let waiting = Wait { reason: publishing, message, after: WRITER, keep_ready: false };
            return noted(seen, facts, waiting, now, Action::Declare(wanted));
        }
        // A writer that has just started, or that repairs an edit, says nothing against what is known to be there.
        Some((_, Declared::Pending)) => return wait(publishing, message, WRITER, was_published(seen, &wanted)),
        Some((_, Declared::Refused(refusal))) => return refused(seen, facts, refusal),
        Some((_, Declared::Blocked(error))) => return zone_blocked(error, seen.read_only, seen.resync),
        Some((_, Declared::Applied(_))) => {}
    }
    if let Some(step) = former_address(seen, facts, target) {
        return step;
    }
    if !is_confirmed(seen, facts)
        && let Some(step) = confirm(seen, facts, zone, wanted, now)
    {
        // Resolvers may lag as long as they like: who still points at a replaced VM does so for one TTL.
        let moved = facts.authority == Some(Confirmation::Confirmed);
        let retired = retire(seen, facts, now).filter(|_| moved && matches!(step, Step::Wait(_)));
        let late = matches!(&step, Step::Wait(wait) if wait.reason == LATE_REASON);
        // Those who have the name already are to find something there.
        if let Some(host) = super::host::host(seen).filter(|_| late && retired.is_none()) {
            return host;
        }
        return match (retired, step) {
            // A name that is late counts as in place, and then the rest has to be as well.
            (None, step) if late => replacement_required(seen).unwrap_or(step),
            (Some(Step::Wait(retiring)), Step::Wait(late)) if retiring.after < late.after => {
                Step::Wait(Wait { after: retiring.after, ..late })
            }
            (Some(Step::Wait(_)) | None, step) => step,
            (Some(retired), _) => retired,
        };
    }
    if let Some(step) = retire(seen, facts, now) {
        return step;
    }
    if let Some(step) = super::host::host(seen) {
        return step;
    }
    replacement_required(seen).unwrap_or(Step::Done)
}

/// Whether exactly these records were in place when they were last looked at.
fn was_published(seen: &Observed, wanted: &[Desired]) -> bool {
    let known = seen.status.record.as_ref();
    let is_same = |wanted: &Desired| {
        known.is_some_and(|known| {
            known.content == wanted.content.to_string() && known.ttl == i64::from(wanted.effective_ttl())
        })
    };
    wanted.iter().all(is_same)
}

/// Whether the published record was seen everywhere before and is the same still.
fn is_confirmed(seen: &Observed, facts: &Facts) -> bool {
    let same = report::published(facts).is_some_and(|record| seen.status.record.as_ref() == Some(&record));
    same && condition::is_true(&seen.status.conditions, "Resolvable")
}

fn confirm(seen: &Observed, facts: &Facts, zone: &ZoneView, records: Vec<Desired>, now: Timestamp) -> Option<NodeStep> {
    let since = seen.status.journal.as_ref().and_then(|j| j.propagating_since.as_ref()).map_or(now, |t| t.0);
    let waited = elapsed(since, now);
    let name = records.first().map(|d| d.name.to_string()).unwrap_or_default();
    let late = |who: &str, saw: &str| {
        if waited < zone.timeout {
            wait("Propagating", format!("{name} is published; waiting until {who} answer with it"), PROPAGATING, false)
        } else {
            wait(LATE_REASON, format!("{name} is published, but {who} {saw}; it is asked for again"), LATE, false)
        }
    };
    let silent = elapsed(since, now) >= Duration::from_secs(60);
    match &facts.authority {
        // Nobody to ask: the API's word must do.
        None if zone.authority.is_empty() => {}
        None => return Some(Step::Do(Action::AskAuthority(records))),
        Some(Confirmation::Differs(_)) => return Some(late("the zone's own servers", "do not answer with it")),
        // Asking a resolver before the authority has the name would make it remember that there is none.
        Some(Confirmation::Unreachable(_)) if !silent => {
            return Some(late("the zone's own servers", "do not answer"));
        }
        Some(Confirmation::Confirmed | Confirmation::Unreachable(_)) => {}
    }
    match &facts.resolvers {
        None => Some(Step::Do(Action::AskResolvers(records))),
        Some(Confirmation::Confirmed) => None,
        Some(Confirmation::Differs(_)) => Some(late("the resolvers", "do not answer with it")),
        Some(Confirmation::Unreachable(_)) => Some(late("the resolvers", "do not answer")),
    }
}

/// A static host that moved gives its former address back once the name points at the new one.
fn former_address(seen: &Observed, facts: &Facts, target: &Target) -> Option<NodeStep> {
    let current = target.address?;
    let former = seen.status.addresses.as_ref()?.publishable().filter(|former| *former != current)?;
    let reservation = Reservation::of_address(former);
    if facts.released.contains(&reservation.name) {
        return None;
    }
    Some(Step::Do(Action::Release(reservation, None)))
}

/// The VM that was replaced goes once the name has pointed elsewhere for a whole TTL.
fn retire(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<NodeStep> {
    let journal = seen.status.journal.as_ref()?;
    let id = journal.retired.first()?;
    let Some(moved) = journal.moved_at.as_ref() else {
        let waiting = Wait {
            reason: "Replacing",
            message: format!("waiting until no cache points at VM {id} any more"),
            after: BOOTING,
            keep_ready: false,
        };
        let mut status = report::status(seen, facts, &Outcome::Waiting(waiting), now);
        let journal = status.journal.get_or_insert_default();
        journal.moved_at = Some(whole_seconds(now));
        return Some(Step::Record(Box::new(status)));
    };
    let ttl = super::backward::ttl(seen);
    let waited = elapsed(moved.0, now);
    if waited < ttl {
        let message = format!("waiting until no cache points at VM {id} any more");
        return Some(wait("Replacing", message, ttl.saturating_sub(waited) + Duration::from_millis(100), false));
    }
    match facts.got.get(id) {
        None => Some(Step::Do(Action::GetVm(id.clone()))),
        Some(Some(_)) if !facts.deleted.contains(id) => Some(Step::Do(Action::DeleteVm(id.clone()))),
        Some(Some(_)) => Some(wait("Replacing", format!("deleting VM {id}, which was replaced"), BOOTING, false)),
        Some(None) => {
            let mut status = seen.status.clone();
            if let Some(journal) = status.journal.as_mut() {
                journal.retired.retain(|other| other != id);
                journal.moved_at = None;
            }
            Some(Step::Record(Box::new(status)))
        }
    }
}

/// A changed size or image needs a new VM, which only a person may order.
fn replacement_required(seen: &Observed) -> Option<NodeStep> {
    let (spec, status) = (&seen.node.spec, &seen.status);
    let changed = [("size", &spec.size, &status.size), ("image", &spec.image, &status.image)]
        .into_iter()
        .filter(|(_, asked, is)| asked.is_some() && is.is_some() && asked != is)
        .map(|(field, asked, is)| {
            format!("{field} {} instead of {}", asked.as_deref().unwrap_or_default(), is.as_deref().unwrap_or_default())
        })
        .collect::<Vec<_>>();
    if changed.is_empty() {
        return None;
    }
    let message = format!(
        "the spec asks for {}, which needs a new VM: order it with the annotation roadstead.dev/replace=<any new \
         value>, or change the spec back",
        changed.join(" and ")
    );
    Some(stop("ReplacementRequired", message))
}
