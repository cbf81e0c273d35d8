//! From an app that is to nothing: its names first, then what they led to. Named volumes stay.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::super::names::former_zones;
use super::super::observe::{HostView, Observed};
use super::super::report;
use super::host::{deploying, translate, view};
use super::{Action, AppStep, Facts, SOON, WATCHED, blocked, publish, wait};
use crate::api::app_deployment::AppDeploymentStatus;
use crate::api::condition::whole_seconds;
use crate::api::names::Fqdn;
use crate::controllers::zone_blocked;
use crate::dns::Declared;
use crate::dns::propagation::Confirmation;
use crate::host::deploy::plan::{Step as HostStep, plan as deploy};
use crate::runtime::driver::Step;

/// How long a host may be out of reach before the app, which is gone then, waits for it no longer.
const OUT_OF_REACH: Duration = Duration::from_secs(600);

/// Whether the app's time is over.
#[must_use]
pub fn expired(seen: &Observed, now: Timestamp) -> bool {
    seen.expires_at().is_some_and(|end| end <= now)
}

pub(super) fn plan(seen: &Observed, facts: &Facts, now: Timestamp) -> AppStep {
    if let Some(step) = withdraw(seen, facts, now) {
        return step;
    }
    if let Some(name) = seen.hosts.keys().find(|name| seen.status.nodes.iter().any(|state| state.name == **name)) {
        return remove(seen, facts, name, now);
    }
    let until = publish::cached_until(seen, now);
    for name in seen.names() {
        let published = seen.status.domains.iter().any(|d| d.name == name.as_str() && !d.addresses.is_empty());
        if let Some(step) = publish::release(seen, facts, &name, published.then_some(until)) {
            return step;
        }
    }
    if seen.deleting() {
        return if facts.forgotten { Step::Gone } else { Step::Do(Action::Forget) };
    }
    if is_empty(&seen.status) { Step::Done } else { Step::Record(Box::new(report::emptied(seen))) }
}

/// Whether nothing is left of an app whose time is over.
#[must_use]
pub fn is_empty(status: &AppDeploymentStatus) -> bool {
    status.nodes.is_empty() && status.domains.is_empty()
}

/// Withdraws the records, proves it at the zones' servers, and waits until no cache can hold them.
fn withdraw(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<AppStep> {
    if seen.abandons("dns") {
        return (!facts.said.contains("dns")).then_some(Step::Do(Action::SayAbandoned("dns")));
    }
    let zones = former_zones(seen);
    if zones.is_empty() {
        return None;
    }
    for zone in zones.keys() {
        let running = seen.zones.iter().any(|view| view.name == *zone && view.running);
        if !running {
            let message = format!(
                "the records cannot be withdrawn, because Zone {zone} is not connected: bring it back, or give the \
                 records up with the annotation roadstead.dev/abandon=dns"
            );
            return Some(wait("ZoneNotReady", message, WATCHED, false));
        }
        match facts.declared.get(zone).filter(|(declared, _)| declared.is_empty()) {
            None => return Some(Step::Do(Action::Declare(zone.clone(), Vec::new()))),
            Some((_, Declared::Applied(_))) => {}
            Some((_, Declared::Pending)) => {
                return Some(wait("Withdrawing", format!("withdrawing the records in Zone {zone}"), WATCHED, false));
            }
            Some((_, Declared::Blocked(error))) => return Some(zone_blocked(error, seen.read_only, seen.resync)),
            Some((_, Declared::Refused(refusal))) => {
                let message = format!(
                    "the records cannot be withdrawn: {refusal}; give them up with the annotation \
                     roadstead.dev/abandon=dns"
                );
                return Some(wait("WithdrawalRefused", message, WATCHED, false));
            }
        }
    }
    let withdrawn = seen.status.journal.as_ref().and_then(|journal| journal.withdrawn_at.as_ref());
    let Some(withdrawn) = withdrawn else {
        return Some(forgotten(seen, facts).unwrap_or_else(|| {
            let mut status = seen.status.clone();
            status.journal.get_or_insert_default().withdrawn_at = Some(whole_seconds(now));
            Step::Record(Box::new(status))
        }));
    };
    let waited = Duration::try_from(now.duration_since(withdrawn.0)).unwrap_or_default();
    let left = publish::ttl(seen).checked_sub(waited).filter(|left| !left.is_zero())?;
    let message = "the names are withdrawn; the app serves until no cache holds them";
    Some(wait("WaitingForTTL", message, left + Duration::from_millis(100), false))
}

/// Whether a zone's servers still answer with what was withdrawn. Those that say nothing hold nobody up.
fn forgotten(seen: &Observed, facts: &Facts) -> Option<AppStep> {
    let published = seen.status.domains.iter().filter(|domain| !domain.addresses.is_empty());
    published.filter_map(|domain| Some((Fqdn::parse(&domain.name).ok()?, &domain.addresses))).find_map(
        |(name, addresses)| {
            let zone = seen.zone_of(&name)?;
            if zone.authority.is_empty() {
                return None;
            }
            match facts.authority.get(&name) {
                None => {
                    let addresses: Vec<IpAddr> = addresses.iter().filter_map(|a| a.parse().ok()).collect();
                    Some(Step::Do(Action::AskForgotten(name, addresses)))
                }
                Some(Confirmation::Differs(_)) => {
                    let message = format!("waiting until the zone's own servers forget {name}");
                    Some(wait("Withdrawing", message, SOON, false))
                }
                Some(Confirmation::Confirmed | Confirmation::Unreachable(_)) => None,
            }
        },
    )
}

/// Takes the app away from a host.
pub(super) fn remove(seen: &Observed, facts: &Facts, name: &str, now: Timestamp) -> AppStep {
    let Some(host) = seen.hosts.get(name) else { return Step::Record(Box::new(report::without(seen, name))) };
    // With the host goes what is on it.
    if host.lost() || facts.given_up.contains(name) {
        return Step::Record(Box::new(report::without(seen, name)));
    }
    if seen.abandons("host") {
        return if facts.said.contains("host") {
            Step::Record(Box::new(report::without(seen, name)))
        } else {
            Step::Do(Action::SayAbandoned("host"))
        };
    }
    if host.busy {
        return wait("Removing", deploying(name, host), WATCHED, false);
    }
    if host.blocked.is_some() {
        return out_of_reach(seen, name, &blocked(seen, name).1, now);
    }
    if let Some(why) = facts.unreached.get(name) {
        return out_of_reach(seen, name, why, now);
    }
    let Some(view) = view(seen, facts, name, now) else { return Step::Do(Action::Look(name.to_owned())) };
    match deploy(&view, now) {
        HostStep::Gone => Step::Record(Box::new(report::without(seen, name))),
        step => removing(translate(seen, facts, name, host, step, now), name, host),
    }
}

fn removing(step: Option<AppStep>, name: &str, host: &HostView) -> AppStep {
    let drain = format!("Node {name}: the app ends what it has begun");
    match step {
        Some(Step::Wait(wait)) if host.journal.leaving.is_some() => {
            Step::Wait(crate::runtime::driver::Wait { reason: "Removing", message: drain, ..wait })
        }
        Some(step) => step,
        None => wait("Removing", drain, SOON, false),
    }
}

fn out_of_reach(seen: &Observed, name: &str, why: &str, now: Timestamp) -> AppStep {
    if is_late(seen, now) {
        return Step::Do(Action::Leave(name.to_owned()));
    }
    let message = format!(
        "the app cannot be taken away from Node {name}, because {why}: bring the Node back, delete it, or leave the \
         app there with the annotation roadstead.dev/abandon=host"
    );
    wait("HostUnreachable", message, SOON * 15, false)
}

/// Whether the app has been waiting for its hosts for so long that one of them is taken for dead: it must not keep the
/// object for ever.
fn is_late(seen: &Observed, now: Timestamp) -> bool {
    let deleted = seen.app.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let moved = seen.status.journal.as_ref().and_then(|journal| journal.moved_at.as_ref()).map(|time| time.0);
    let since = deleted.or(seen.expires_at()).or(moved);
    since.is_some_and(|since| Duration::try_from(now.duration_since(since)).is_ok_and(|late| late > OUT_OF_REACH))
}

/// What nobody can take away is said, and not waited for.
pub(super) fn leave(seen: &Observed, facts: &Facts, leftovers: &BTreeSet<String>) -> AppStep {
    let first = leftovers.first().map(String::as_str).unwrap_or_default();
    let lost = seen.hosts.get(first).is_none_or(HostView::lost);
    if lost || facts.given_up.contains(first) {
        return Step::Record(Box::new(report::without(seen, first)));
    }
    Step::Do(Action::Leave(first.to_owned()))
}
