//! What the status says of a group's Worker (pure).

use jiff::Timestamp;

use super::End;
use super::plan::{Next, is_transient, next, until};
use crate::api::condition::{self, Desired, whole_seconds};
use crate::api::names::Fqdn;
use crate::api::server_group::{MemberHealth, ServerGroupStatus};
use crate::api::slb::WhenAllDown;
use crate::controllers::server_group::observe::Observed;
use crate::controllers::server_group::plan::Facts;
use crate::runtime::claims::Reservation;
use crate::runtime::driver::Outcome;

/// Whether the Worker is as the group wants it.
pub const WORKER_READY: &str = "WorkerReady";

/// Reasons of what is under way.
const PASSING: [&str; 4] = ["Probing", "Publishing", "ReadOnly", "Withdrawing"];

/// Writes down how the pass ended for the Worker.
pub fn status(seen: &Observed, facts: &Facts, status: &mut ServerGroupStatus, now: Timestamp) {
    forget_released(facts, status);
    let Next::End(end) = next(seen, facts, now) else { return };
    tries(seen, &end, status);
    if seen.group.spec.slb.is_none() && status.slb.is_none() {
        condition::remove(&mut status.conditions, WORKER_READY);
        return;
    }
    let generation = status.observed_generation;
    let said = condition::get(&status.conditions, WORKER_READY).is_some();
    let desired = match &end.outcome {
        // The end of a deletion is the object's own.
        Outcome::Done if seen.deleting() => return,
        Outcome::Done => in_place(seen, &end),
        Outcome::Stopped { reason, message } => Desired::no(WORKER_READY, reason, message),
        Outcome::Waiting(wait) if !wait.keep_ready => Desired::no(WORKER_READY, wait.reason, &wait.message),
        // What is under way says nothing against what is in place.
        Outcome::Waiting(wait) if said && PASSING.contains(&wait.reason) => return,
        Outcome::Waiting(wait) => Desired { status: None, ..Desired::no(WORKER_READY, wait.reason, &wait.message) },
        Outcome::Failed { .. } => return,
    };
    condition::set(&mut status.conditions, desired, generation, now);
    if let (Some(slb), Some(origins)) = (&mut status.slb, end.origins) {
        slb.origins = origins;
    }
}

/// Names that were given back are not claimed any more.
fn forget_released(facts: &Facts, status: &mut ServerGroupStatus) {
    let Some(slb) = &mut status.slb else { return };
    let claim = |name: &String| Fqdn::parse(name).map(|name| Reservation::of_name(&name).name);
    slb.hostnames.retain(|name| claim(name).is_ok_and(|claim| !facts.released.contains(&claim)));
}

/// Counts failures, and stores until when Cloudflare is left alone: a back-off that is not stored is none.
fn tries(seen: &Observed, end: &End, status: &mut ServerGroupStatus) {
    let Some(slb) = &mut status.slb else { return };
    match seen.worker.as_ref().and_then(|sight| sight.failure.as_ref()) {
        Some(failure) => {
            let counted = slb.not_before.as_ref().is_some_and(|time| time.0 > failure.at);
            if !counted {
                // Rounded up: a time without fractions must not come early.
                let until = until(Some(slb), failure, seen.resync) + jiff::SignedDuration::from_millis(999);
                slb.not_before = Some(whole_seconds(until));
                slb.attempts = is_transient(&failure.error).then(|| slb.attempts.unwrap_or(0) + 1);
            }
        }
        None if matches!(end.outcome, Outcome::Done | Outcome::Stopped { .. }) => {
            (slb.attempts, slb.not_before) = (None, None);
        }
        None => {}
    }
}

/// What is said of a Worker that is as the group wants it.
fn in_place(seen: &Observed, end: &End) -> Desired {
    let Some(slb) = &seen.group.spec.slb else { return Desired::yes(WORKER_READY, "Published", "there is none") };
    let name = &slb.worker_name;
    if end.origins.as_ref().is_none_or(Vec::is_empty) {
        return Desired::yes(
            WORKER_READY,
            "NoHealthyServers",
            format!("no server is healthy: Worker {name} answers 503"),
        );
    }
    let healthy = seen.status.members.iter().filter(|member| member.health == MemberHealth::Healthy).count();
    let few = usize::try_from(slb.min_healthy).is_ok_and(|least| healthy < least);
    if few && slb.when_all_down == WhenAllDown::KeepLast {
        let message = format!(
            "fewer than minHealthy servers are healthy, so Worker {name} keeps the origins it had, and those that are"
        );
        return Desired::yes(WORKER_READY, "KeepsLast", message);
    }
    Desired::yes(WORKER_READY, "Published", format!("Worker {name} spreads requests over the healthy servers"))
}
