//! One folder a kind. Each reads as observe, plan, apply, report; what they share is here.

pub mod access;
pub mod app_deployment;
pub mod credential;
pub mod environment;
pub mod hosts;
pub mod node;
pub mod orphans;
pub mod provider;
pub mod registry;
pub mod server_group;
pub mod users;
pub mod zone;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::{Selector, SelectorExt};
use sha2::{Digest, Sha256};

use crate::api::condition::{self, Desired, READY, RECONCILING, STALLED};
use crate::api::refs::{AllowedNamespaces, NamespacesFrom};
use crate::dns::Refusal;
use crate::outside::OutsideError;
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step, Wait};
use crate::runtime::fault::Fault;

/// The step that follows from an outside that gave no result, or that asks to wait: `Ready` keeps its value, since
/// nothing is known.
#[must_use]
pub fn blocked<A, S>(api: &str, error: &OutsideError) -> Step<A, S> {
    let wait = |reason, message, after| Step::Wait(Wait { reason, message, after, keep_ready: true });
    match Fault::outside(api, error) {
        Fault::RateLimited(after) => wait("RateLimited", format!("{api}: waiting for the rate limit"), after),
        Fault::Waiting { reason, message, after } => wait(reason, message, after),
        Fault::Terminal { reason, message } => Step::Stop { reason, message },
        Fault::Transient { reason, message } => wait(reason, message, Duration::from_secs(15)),
        Fault::Conflict | Fault::Gone => {
            wait("Conflict", "the object changed meanwhile".to_owned(), Duration::from_millis(100))
        }
    }
}

/// The wait of everything that would write outside, while the operator runs with `--read-only`.
#[must_use]
pub fn frozen<A, S>(resync: Duration) -> Step<A, S> {
    let message = "the operator runs with --read-only and writes nothing outside: it goes on when that is taken away";
    Step::Wait(Wait { reason: "ReadOnly", message: message.to_owned(), after: resync, keep_ready: true })
}

/// The step that follows from a zone's writer that cannot read or write now.
#[must_use]
pub fn zone_blocked<A, S>(error: &OutsideError, read_only: bool, resync: Duration) -> Step<A, S> {
    match error {
        // The writer keeps the freeze by itself, and says so in the only words it has.
        OutsideError::Forbidden(_) if read_only => frozen(resync),
        error => blocked("Cloudflare", error),
    }
}

/// What a refusal of the zone's writer means. Records of an earlier object of the name are taken over by the action that
/// `take` makes of their owner, once the annotation `adopt` names it; everything else needs a person.
#[must_use]
pub fn refused<A, S>(
    refusal: &Refusal,
    zone: &str,
    adopt: Option<&str>,
    adopted: bool,
    take: impl FnOnce(String) -> A,
) -> Step<A, S> {
    let (reason, message) = match refusal {
        Refusal::Foreign { .. } => ("ForeignRecord", refusal.to_string()),
        Refusal::Quota { .. } => ("QuotaExceeded", format!("Zone {zone}: {refusal}")),
        Refusal::Rejected { .. } => {
            ("RecordRefused", format!("{refusal}: correct what it names; it is tried again by itself"))
        }
        Refusal::AdoptionRequired { .. } if adopted => {
            let message = "taking over the records".to_owned();
            let after = Duration::from_secs(60);
            return Step::Wait(Wait { reason: "Adopting", message, after, keep_ready: false });
        }
        Refusal::AdoptionRequired { owner, .. } if adopt == Some(owner) => return Step::Do(take(owner.clone())),
        Refusal::AdoptionRequired { .. } => ("AdoptionRequired", refusal.to_string()),
    };
    Step::Stop { reason, message }
}

/// What a slug is derived from: bytes that follow from these alone, evenly spread, and others after each slug that was
/// taken.
#[must_use]
pub fn seed(namespace: &str, name: &str, zone: &str, collisions: u32) -> [u8; 32] {
    // None of the three can contain a slash, so no two inputs share a text.
    let text = match collisions {
        0 => format!("{namespace}/{name}/{zone}"),
        n => format!("{namespace}/{name}/{zone}/{n}"),
    };
    Sha256::digest(text).into()
}

/// Adds to `conditions` that a paused object is left alone. It keeps everything it said; one that was never looked at
/// says so, or it would pass for current.
pub fn set_paused(conditions: &mut Vec<Condition>, message: &str, generation: Option<i64>, now: Timestamp) {
    if condition::get(conditions, READY).is_none() {
        let unknown = Desired { type_: READY, status: None, reason: "Paused", message: message.to_owned() };
        condition::set(conditions, unknown, generation, now);
    }
    condition::set(conditions, Desired::yes("Paused", "Paused", message), generation, now);
}

/// What a pass that ended so means for `Ready`: `done` if all is in place. While it is false, `Reconciling` or `Stalled`
/// says the same. An object that `was_ready` stays so over what says nothing against it.
pub fn set_ready(
    conditions: &mut Vec<Condition>,
    outcome: &Outcome,
    was_ready: bool,
    done: impl FnOnce() -> Desired,
    generation: Option<i64>,
    now: Timestamp,
) {
    let (ready, companion) = match outcome {
        Outcome::Done => (done(), None),
        Outcome::Waiting(wait) if wait.keep_ready && was_ready => return,
        Outcome::Failed { .. } if was_ready => return,
        Outcome::Waiting(wait) => (Desired::no(READY, wait.reason, wait.message.clone()), Some(RECONCILING)),
        Outcome::Failed { reason, message } => (Desired::no(READY, reason, message.clone()), Some(RECONCILING)),
        Outcome::Stopped { reason, message } => (Desired::no(READY, reason, message.clone()), Some(STALLED)),
    };
    for type_ in [RECONCILING, STALLED] {
        if companion == Some(type_) {
            let same = Desired { type_, status: Some(true), ..ready.clone() };
            condition::set(conditions, same, generation, now);
        } else {
            condition::remove(conditions, type_);
        }
    }
    condition::set(conditions, ready, generation, now);
}

/// The phase that follows from the conditions.
#[must_use]
pub fn phase(deleting: bool, conditions: &[Condition]) -> &'static str {
    let is = |type_| condition::is_true(conditions, type_);
    match (deleting, is(READY), is(STALLED)) {
        (true, _, _) => "Deleting",
        (_, true, _) => "Active",
        (_, _, true) => "Error",
        _ => "Provisioning",
    }
}

/// The step that follows from what somebody else holds: `field` says who asked for it, `reason` that it is taken.
/// Nothing follows from what is free or ours.
#[must_use]
pub fn not_ours<A, S>(
    reservation: &Reservation,
    standing: &Standing,
    field: &str,
    reason: &'static str,
    now: Timestamp,
) -> Option<Step<A, S>> {
    let (name, fqdn) = (&reservation.name, &reservation.fqdn);
    match standing {
        Standing::Ours | Standing::Free => None,
        Standing::Taken { namespace, holder } => {
            let message = format!(
                "{field}: {fqdn} is held by {} {namespace}/{}: choose another, or delete that one; `kubectl get \
                 hostnameclaim {name}` shows the claim",
                holder.kind, holder.name
            );
            Some(Step::Stop { reason, message })
        }
        Standing::Reserved { namespace, until } => {
            let message = format!(
                "{fqdn} was released by namespace {namespace} and stays reserved until its record has left every cache: \
                 this goes on by itself then"
            );
            let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            let after = left + Duration::from_secs(1);
            Some(Step::Wait(Wait { reason: "HostnameReserved", message, after, keep_ready: false }))
        }
    }
}

/// Whether objects of `namespace` may use what `allowed` guards.
#[must_use]
pub fn is_allowed(allowed: &AllowedNamespaces, namespace: Option<&Namespace>) -> bool {
    match allowed.from {
        NamespacesFrom::All => true,
        NamespacesFrom::None | NamespacesFrom::Unknown => false,
        NamespacesFrom::Selector => {
            let labels = namespace.and_then(|n| n.metadata.labels.clone()).unwrap_or_default();
            let selector = allowed.selector.clone().map(Selector::try_from);
            // A selector that cannot be read allows nobody.
            matches!(selector, Some(Ok(selector)) if selector.matches(&labels))
        }
    }
}
