//! The group's plan: every decision, none of the I/O.
//!
//! Forwards: choose a slug, claim it and the names, enroll the servers with the prober and the writer of their health,
//! publish those the status calls healthy, give back names that are no longer wanted, done. Backwards: dismiss the
//! servers, withdraw the records and the Worker, release the claims, gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::observe::{COLLISIONS, Observed};
use super::publish::{Names, records};
use super::report;
use super::roster::{Entry, Probing};
use super::worker::plan::{Next, is_about, next};
use super::worker::{self, Call, Script};
use crate::api::names::Fqdn;
use crate::api::server_group::ServerGroupStatus;
use crate::controllers::{self, not_ours, zone_blocked};
use crate::dns::{Checked, Declared, Desired, Refusal};
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step, Wait};

/// What may be done for a group.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Take a slug or a name.
    Claim(Reservation),
    /// Give one back; with a time, other namespaces stay out until then.
    Release(Reservation, Option<Timestamp>),
    /// Say who belongs to the group: they are probed, and their health is written down.
    Enroll,
    /// End that.
    Dismiss,
    /// Ask the zone's writer what is at a name.
    CheckName(Fqdn),
    /// Tell the zone's writer what should be published: everything, or nothing.
    Declare(Vec<Desired>),
    /// Take over the records with this owner in their mark.
    AdoptRecords(String),
    /// Say in an event what an `abandon` annotation leaves behind: the half it names.
    SayAbandoned(&'static str),
    /// Begin a call for a Worker; its answer wakes the group.
    Worker(Script, Call),
}

/// What was learned in this pass and need not survive it.
#[derive(Debug, Default)]
pub struct Facts {
    /// How the claims stand, by claim name, as the API server just said.
    pub claimed: BTreeMap<String, Standing>,
    /// The servers are enrolled, or dismissed.
    pub enrolled: bool,
    /// What the zone's writer says of a name of ours.
    pub checked: Option<Checked>,
    /// What was declared, and the writer's answer.
    pub declared: Option<(Vec<Desired>, Declared)>,
    /// Claims given back.
    pub released: Vec<String>,
    /// An adoption was ordered.
    pub adopted: bool,
    /// The halves whose abandonment was said.
    pub said: BTreeSet<&'static str>,
}

/// A step of the group's plan.
pub type GroupStep = Step<Action, ServerGroupStatus>;

/// Something that a watch, or the zone's writer, announces.
const WATCHED: Duration = Duration::from_secs(60);
/// How many claims one pass gives back.
const AT_ONCE: usize = 16;
/// How often a Zone that is starting is looked at.
const STARTING: Duration = Duration::from_secs(5);

/// Decides the next step.
#[must_use]
pub fn plan(seen: &Observed, facts: &Facts, now: Timestamp) -> GroupStep {
    if seen.annotation("paused") == Some("true") {
        return wait("Paused", report::PAUSED, seen.resync, true);
    }
    if let Some(left) = back_off(seen, now) {
        return Step::Hold(left);
    }
    if seen.deleting() { backwards(seen, facts, now) } else { forwards(seen, facts, now) }
}

/// What is left of a stored back-off. A new generation, which a deletion is too, ends it.
fn back_off(seen: &Observed, now: Timestamp) -> Option<Duration> {
    let not_before = seen.status.journal.as_ref()?.not_before.as_ref()?.0;
    if seen.status.observed_generation != seen.group.metadata.generation {
        return None;
    }
    Duration::try_from(not_before.duration_since(now)).ok().filter(|left| !left.is_zero())
}

fn wait(reason: &'static str, message: impl Into<String>, after: Duration, keep_ready: bool) -> GroupStep {
    Step::Wait(Wait { reason, message: message.into(), after, keep_ready })
}

fn stop(reason: &'static str, message: impl Into<String>) -> GroupStep {
    Step::Stop { reason, message: message.into() }
}

fn forwards(seen: &Observed, facts: &Facts, now: Timestamp) -> GroupStep {
    let names = match names(seen) {
        Ok(names) => names,
        Err(step) => return *step,
    };
    if let Some(step) = claim(seen, facts, &names, now) {
        return step;
    }
    if !facts.enrolled {
        return Step::Do(Action::Enroll);
    }
    beside(seen, facts, now, records_in_place(seen, facts, &names, now))
}

/// The step for the records, or what comes of both where they end: a Worker that fails holds up no record, and records
/// that fail no Worker.
fn beside(seen: &Observed, facts: &Facts, now: Timestamp, records: GroupStep) -> GroupStep {
    if matches!(records, Step::Do(_) | Step::Record(_)) {
        return records;
    }
    let worker = match next(seen, facts, now) {
        Next::Do(action) => return Step::Do(action),
        Next::Record(slb) => return Step::Record(Box::new(ServerGroupStatus { slb, ..seen.status.clone() })),
        Next::End(end) => end.outcome,
    };
    match (records, worker) {
        (Step::Wait(first), Outcome::Waiting(other)) => {
            let after = first.after.min(other.after);
            let graver = if first.keep_ready { other } else { first };
            Step::Wait(Wait { after, ..graver })
        }
        (Step::Stop { reason, message }, Outcome::Waiting(wait))
        | (Step::Wait(wait), Outcome::Stopped { reason, message }) => {
            Step::Wait(Wait { reason, message, after: wait.after, keep_ready: false })
        }
        (Step::Done, Outcome::Waiting(wait)) => Step::Wait(wait),
        (Step::Done, Outcome::Stopped { reason, message }) => Step::Stop { reason, message },
        (records, _) => records,
    }
}

fn records_in_place(seen: &Observed, facts: &Facts, names: &Names, now: Timestamp) -> GroupStep {
    let Some(zone) = &seen.zone else { return wait("ZoneNotFound", "waiting for the Zone", WATCHED, true) };
    if let Some(message) = &zone.unusable {
        return wait("ZoneNotReady", message.clone(), WATCHED, true);
    }
    if !zone.running {
        return wait("Starting", "waiting for the Zone to be read", STARTING, true);
    }
    publish(seen, facts, names, now)
}

/// The names a valid group asks for.
///
/// # Errors
/// The step to end with: a wait for what has to come first, or a stop that names the field and the remedy.
pub fn names(seen: &Observed) -> Result<Names, Box<GroupStep>> {
    let spec = &seen.group.spec;
    let zone_name = &spec.zone_ref.name;
    let err = |step| Err(Box::new(step));
    let Some(zone) = &seen.zone else {
        let message = format!("spec.zoneRef: there is no Zone {zone_name}; this group goes on when it is created");
        return err(wait("ZoneNotFound", message, WATCHED, false));
    };
    if !zone.allowed {
        let namespace = &seen.claimant.namespace;
        let message = format!(
            "namespace {namespace} may not use Zone {zone_name}: its spec.allowedNamespaces does not include it"
        );
        return err(stop("NamespaceNotAllowed", message));
    }
    let Some(domain) = &zone.domain else {
        return err(wait("ZoneNotReady", format!("Zone {zone_name} has no valid domain"), WATCHED, false));
    };
    let slug = seen.slug();
    let Some(list) = seen.list_name(&slug) else {
        let message = format!(
            "spec.slug: _wrap.{slug}.{domain} is no DNS name: use a slug that makes a name of at most 253 characters \
             and does not start with `rs--`"
        );
        return err(stop("InvalidSlug", message));
    };
    let a = match (&spec.dns.a, seen.address_name()) {
        (Some(_), Some(name)) if name == *domain && !zone.allow_apex => {
            let message = format!(
                "spec.dns.a.hostname: `@` is {domain} itself, which Zone {zone_name} does not allow: set its \
                 spec.allowApex, or name a host"
            );
            return err(stop("ApexNotAllowed", message));
        }
        (Some(a), None) => {
            let message = format!(
                "spec.dns.a.hostname: `{}` does not make a DNS name under {domain}: use labels of at most 63 of a-z, \
                 0-9 and `-` that do not start with `rs--`, 253 characters in all",
                a.hostname
            );
            return err(stop("InvalidHostname", message));
        }
        (_, name) => name,
    };
    // The schema keeps TTLs within 60..=86400.
    let ttl = u32::try_from(spec.dns.ttl).unwrap_or(60);
    Ok(Names { slug, txt: spec.dns.txt.then_some(list), a, ttl })
}

/// The slug, and each name, must be ours before anything is published there.
fn claim(seen: &Observed, facts: &Facts, names: &Names, now: Timestamp) -> Option<GroupStep> {
    let slug = (Reservation::of_slug(&names.slug), "spec.slug", "SlugTaken");
    let host = |name: &Fqdn, field| (Reservation::of_name(name), field, "HostnameTaken");
    let list = names.txt.iter().map(|name| host(name, "spec.slug"));
    let address = names.a.iter().map(|name| host(name, "spec.dns.a.hostname"));
    for (index, (reservation, field, taken)) in std::iter::once(slug).chain(list).chain(address).enumerate() {
        let standing = facts.claimed.get(&reservation.name).or(seen.standings.get(&reservation.name));
        match standing.unwrap_or(&Standing::Free) {
            Standing::Ours => {}
            Standing::Free => return Some(Step::Do(Action::Claim(reservation))),
            _ if index == 0 && seen.group.spec.slug.is_none() => return Some(collide(seen, facts, now)),
            held => return not_ours(&reservation, held, field, taken, now),
        }
    }
    None
}

/// Goes on to the next derived slug.
fn collide(seen: &Observed, facts: &Facts, now: Timestamp) -> GroupStep {
    let collisions = seen.collisions() + 1;
    let mut status = noted(seen, facts, "another group has the derived slug; taking the next", now);
    status.slug = Some(seen.derived(collisions));
    let journal = status.journal.get_or_insert_default();
    journal.other.insert(COLLISIONS.to_owned(), collisions.into());
    Step::Record(Box::new(status))
}

fn noted(seen: &Observed, facts: &Facts, message: &str, now: Timestamp) -> ServerGroupStatus {
    let waiting = Wait { reason: "Publishing", message: message.to_owned(), after: WATCHED, keep_ready: false };
    report::status(seen, facts, &Outcome::Waiting(waiting), now)
}

/// Publishes the servers the status calls healthy.
fn publish(seen: &Observed, facts: &Facts, names: &Names, now: Timestamp) -> GroupStep {
    let is_ours = |name: &Fqdn| {
        let claim = Reservation::of_name(name).name;
        facts.claimed.get(&claim).or(seen.standings.get(&claim)) == Some(&Standing::Ours)
    };
    let mut wanted = records(names, seen.group.spec.strategy, &seen.selection);
    // Last, so that a refusal of theirs hides none of the others.
    wanted.extend(worker::target::records(seen, is_ours));
    let message = "publishing the healthy servers";
    if let Some(step) = recollect(seen, facts, names) {
        return step;
    }
    match facts.declared.as_ref().filter(|(declared, _)| *declared == wanted) {
        None => {
            let fresh = seen.status.slug.is_none() || seen.status.observed_generation != seen.group.metadata.generation;
            if fresh {
                return Step::Record(Box::new(noted(seen, facts, message, now)));
            }
            return Step::Do(Action::Declare(wanted));
        }
        Some((_, Declared::Pending)) => return wait("Publishing", message, WATCHED, true),
        Some((_, Declared::Refused(refusal))) if !is_of_worker(refusal, &wanted, names) => {
            return refused(seen, facts, refusal);
        }
        Some((_, Declared::Blocked(error))) => return zone_blocked(error, seen.read_only, seen.resync),
        Some((_, Declared::Applied(_) | Declared::Refused(_))) => {}
    }
    former(seen, names, now)
        .into_iter()
        .find(|(reservation, _)| !facts.released.contains(&reservation.name))
        .map_or_else(
            || app_missing(seen).unwrap_or(Step::Done),
            |(reservation, until)| Step::Do(Action::Release(reservation, until)),
        )
}

/// The wait for an app that is not there. It holds up nothing: what is known of its servers is published meanwhile.
fn app_missing(seen: &Observed) -> Option<GroupStep> {
    let name = &seen.group.spec.app_ref.as_ref().filter(|_| seen.serving.is_none())?.name;
    let message = format!(
        "spec.appRef: there is no AppDeployment {name} in namespace {}: create it, or correct the name. The group keeps the \
         servers it had by its appRef until then",
        seen.claimant.namespace
    );
    Some(wait("AppNotFound", message, WATCHED, false))
}

/// Whether a refusal is about a declared name that only the Worker needs.
#[must_use]
pub fn is_of_worker(refusal: &Refusal, declared: &[Desired], names: &Names) -> bool {
    let own = |name: &Fqdn| [&names.txt, &names.a].into_iter().flatten().any(|own| own == name);
    declared.iter().any(|record| !own(&record.name) && is_about(refusal, &record.name))
}

/// Whether every server that is probed has been, and it is known which these are.
#[must_use]
pub fn all_judged(seen: &Observed) -> bool {
    let serves = seen.roster.members.iter().any(|entry| entry.app.is_some());
    let known = seen.serving.as_ref().is_some_and(|app| app.settled || app.ends);
    if seen.group.spec.app_ref.is_some() && !serves && !known {
        return false;
    }
    let judged = |id: &str| seen.status.members.iter().any(|member| member.id == id && member.probe.is_some());
    let probed = |entry: &&Entry| !entry.disabled && matches!(entry.probing, Probing::Check(_));
    seen.roster.members.iter().filter(probed).all(|entry| judged(&entry.address.to_string()))
}

/// A status that was lost knows of no healthy server, while the zone still names some: they stay until each server has
/// been probed once.
fn recollect(seen: &Observed, facts: &Facts, names: &Names) -> Option<GroupStep> {
    let unknown = seen.status.txt.is_none() && seen.status.a.is_none();
    if !unknown || all_judged(seen) {
        return None;
    }
    let name = names.txt.as_ref().or(names.a.as_ref())?;
    match &facts.checked {
        None => Some(Step::Do(Action::CheckName(name.clone()))),
        Some(Checked::Pending) => Some(wait("CheckingName", "looking for records at the name", WATCHED, true)),
        Some(Checked::Blocked(error)) => Some(zone_blocked(error, seen.read_only, seen.resync)),
        Some(Checked::Own(_)) => {
            let message = format!("{name} stays as it is until every server has been probed");
            Some(app_missing(seen).unwrap_or_else(|| wait("Probing", message, STARTING, true)))
        }
        Some(Checked::Free | Checked::Taken(_)) => None,
    }
}

/// What the status still names and the spec no longer asks for, and how long each stays reserved.
fn former(seen: &Observed, names: &Names, now: Timestamp) -> Vec<(Reservation, Option<Timestamp>)> {
    let list = published_list_name(seen).filter(|name| names.txt.as_ref() != Some(name));
    let address = seen.published_address_name().filter(|name| names.a.as_ref() != Some(name));
    let until = cached_until(seen, now);
    list.into_iter().chain(address).map(|name| (Reservation::of_name(&name), Some(until))).collect()
}

/// The name the list is published at now.
fn published_list_name(seen: &Observed) -> Option<Fqdn> {
    Fqdn::parse(&seen.status.txt.as_ref()?.name).ok()
}

/// Until when a cache may hold a record that is withdrawn now.
#[must_use]
pub fn cached_until(seen: &Observed, now: Timestamp) -> Timestamp {
    let (list, addresses) = (seen.status.txt.as_ref().map(|txt| txt.ttl), seen.status.a.as_ref().map(|a| a.ttl));
    let ttl = list.max(addresses).unwrap_or(seen.group.spec.dns.ttl);
    now.checked_add(SignedDuration::from_secs(ttl)).unwrap_or(now)
}

/// What a refusal of the zone's writer means for the group.
fn refused(seen: &Observed, facts: &Facts, refusal: &Refusal) -> GroupStep {
    let (zone, adopt) = (&seen.group.spec.zone_ref.name, seen.annotation("adopt"));
    controllers::refused(refusal, zone, adopt, facts.adopted, Action::AdoptRecords)
}

/// From a group that is to nothing. The servers are not ours, so no TTL has to be waited out for them: the names
/// stay reserved against other namespaces as long as a cache may hold their records.
fn backwards(seen: &Observed, facts: &Facts, now: Timestamp) -> GroupStep {
    if !facts.enrolled {
        return Step::Do(Action::Dismiss);
    }
    let worker = next(seen, facts, now);
    if let Next::Do(action) = worker {
        return Step::Do(action);
    }
    match beside(seen, facts, now, withdraw(seen, facts).unwrap_or(Step::Done)) {
        Step::Done => {}
        step => return step,
    }
    let lists = seen.status.txt.iter().flat_map(|_| [seen.list_name(&seen.slug()), published_list_name(seen)]);
    let addresses = seen.status.a.iter().flat_map(|_| [seen.address_name(), seen.published_address_name()]);
    let hostnames = seen.status.slb.iter().flat_map(|slb| &slb.hostnames).map(|name| Fqdn::parse(name).ok());
    let cached = lists.chain(addresses).chain(hostnames).flatten();
    let reserved: Vec<_> = cached.map(|name| Reservation::of_name(&name).name).collect();
    for reservation in seen.reservations() {
        let standing = seen.standings.get(&reservation.name);
        let released = facts.released.contains(&reservation.name);
        if released || matches!(standing, None | Some(Standing::Taken { .. } | Standing::Reserved { .. })) {
            continue;
        }
        if facts.released.len() >= AT_ONCE {
            return wait("Withdrawing", "giving back the names", Duration::from_millis(100), false);
        }
        let until = reserved.contains(&reservation.name).then(|| cached_until(seen, now));
        return Step::Do(Action::Release(reservation, until));
    }
    Step::Gone
}

fn withdraw(seen: &Observed, facts: &Facts) -> Option<GroupStep> {
    if seen.abandons("dns") {
        return (!facts.said.contains("dns")).then_some(Step::Do(Action::SayAbandoned("dns")));
    }
    // What never had a slug never published anything.
    let slug = seen.status.slug.as_ref()?;
    let zone_name = &seen.group.spec.zone_ref.name;
    if seen.zone.as_ref().is_none_or(|zone| !zone.running) {
        let message = format!(
            "the records of {slug} cannot be withdrawn, because Zone {zone_name} is missing or not connected: bring it \
             back, or give the records up with the annotation roadstead.dev/abandon=dns"
        );
        return Some(wait("ZoneNotReady", message, WATCHED, false));
    }
    match facts.declared.as_ref().filter(|(declared, _)| declared.is_empty()) {
        None => Some(Step::Do(Action::Declare(Vec::new()))),
        Some((_, Declared::Applied(_))) => None,
        Some((_, Declared::Pending)) => {
            Some(wait("Withdrawing", format!("withdrawing the records of {slug}"), WATCHED, false))
        }
        Some((_, Declared::Blocked(error))) => Some(zone_blocked(error, seen.read_only, seen.resync)),
        Some((_, Declared::Refused(refusal))) => {
            let message = format!(
                "the records of {slug} cannot be withdrawn: {refusal}; give them up with the annotation \
                 roadstead.dev/abandon=dns"
            );
            Some(wait("WithdrawalRefused", message, WATCHED, false))
        }
    }
}

#[cfg(test)]
#[path = "plan_names_tests.rs"]
mod names_tests;
#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
