//! The names: claimed, published, seen by the zone's servers; and given back once they are not asked for any more.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::names::{Name, is_proven, names, proof, proven, records};
use super::super::observe::{Observed, ZoneView};
use super::super::report;
use super::{Action, AppStep, Facts, SOON, WATCHED, wait};
use crate::api::app_deployment::Verification;
use crate::api::names::Fqdn;
use crate::controllers::{not_ours, refused, zone_blocked};
use crate::dns::propagation::Confirmation;
use crate::dns::{Declared, Desired};
use crate::runtime::claims::{Reservation, Role, Standing};
use crate::runtime::driver::Step;

/// How often a Zone that is starting is looked at.
const STARTING: Duration = Duration::from_secs(5);

/// How often the proof of a name is looked for.
const PROOF: Duration = Duration::from_secs(30);

/// Brings the names in place; `None` once they are.
pub(super) fn publish(seen: &Observed, facts: &Facts, names: Vec<Name>, now: Timestamp) -> Option<AppStep> {
    let names = &proven(seen, names)[..];
    if let Some(step) = claim(seen, facts, names, now) {
        return Some(step);
    }
    let records = records(seen, names);
    // What is about to be published is written down first, so that it is withdrawn whatever happens.
    if let Some(status) = report::named(seen, names, &records) {
        return Some(Step::Record(Box::new(status)));
    }
    for (zone, wanted) in records {
        let Some(zone) = seen.zones.iter().find(|view| view.name == zone) else { continue };
        if let Some(step) = declared(seen, facts, zone, wanted) {
            return Some(step);
        }
    }
    names.iter().find_map(|name| propagated(seen, facts, name))
}

fn claim(seen: &Observed, facts: &Facts, names: &[Name], now: Timestamp) -> Option<AppStep> {
    for name in names {
        for (reservation, role) in name.reservations() {
            let key = (reservation.name.clone(), role);
            match facts.claimed.get(&key).or(seen.standings.get(&key)).unwrap_or(&Standing::Free) {
                Standing::Ours => {}
                Standing::Free => return Some(Step::Do(Action::Claim(reservation, role))),
                held => return not_ours(&reservation, held, &name.field, "HostnameTaken", now),
            }
        }
    }
    None
}

fn declared(seen: &Observed, facts: &Facts, zone: &ZoneView, wanted: Vec<Desired>) -> Option<AppStep> {
    if let Some(message) = &zone.unusable {
        return Some(wait("ZoneNotReady", message.clone(), WATCHED, true));
    }
    if !zone.running {
        return Some(wait("Starting", format!("waiting for Zone {} to be read", zone.name), STARTING, true));
    }
    match facts.declared.get(&zone.name).filter(|(declared, _)| *declared == wanted) {
        None => Some(Step::Do(Action::Declare(zone.name.clone(), wanted))),
        Some((_, Declared::Applied(_))) => None,
        Some((_, Declared::Pending)) => {
            Some(wait("Publishing", format!("publishing the names in Zone {}", zone.name), WATCHED, true))
        }
        Some((_, Declared::Blocked(error))) => Some(zone_blocked(error, seen.read_only, seen.resync)),
        Some((_, Declared::Refused(refusal))) => {
            let adopted = facts.adopted.contains(&zone.name);
            let take = |owner| Action::AdoptRecords(zone.name.clone(), owner);
            Some(refused(refusal, &zone.name, seen.annotation("adopt"), adopted, take))
        }
    }
}

/// Whether the zone's own servers know the name: nobody would find the certificate's challenge before.
fn propagated(seen: &Observed, facts: &Facts, name: &Name) -> Option<AppStep> {
    name.zone.as_ref()?;
    let known = seen.status.domains.iter().find(|domain| domain.name == name.name.as_str());
    if known.and_then(|known| known.phase.as_deref()) != Some(report::PENDING) {
        return None;
    }
    match facts.authority.get(&name.name) {
        None => question(seen, facts, &name.name),
        Some(Confirmation::Differs(_)) => {
            let message = format!("{} is published; waiting until the zone's own servers answer with it", name.name);
            Some(wait("Propagating", message, SOON, false))
        }
        Some(Confirmation::Confirmed | Confirmation::Unreachable(_)) => None,
    }
}

/// Has the zones' own servers asked where they send visitors: what somebody else writes there is seen nowhere else.
pub(super) fn compare(seen: &Observed, facts: &Facts) -> Option<AppStep> {
    let names = facts.declared.values().flat_map(|(records, _)| records).map(|record| &record.name);
    names.filter(|name| !facts.authority.contains_key(name)).find_map(|name| question(seen, facts, name))
}

/// To ask a zone's own servers for a name; `None` where none are known, or nothing is published.
fn question(seen: &Observed, facts: &Facts, name: &Fqdn) -> Option<AppStep> {
    let zone = seen.zone_of(name).filter(|zone| !zone.authority.is_empty())?;
    let (declared, _) = facts.declared.get(&zone.name)?;
    let records: Vec<_> = declared.iter().filter(|record| record.name == *name).cloned().collect();
    (!records.is_empty()).then(|| Step::Do(Action::AskAuthority(name.clone(), records)))
}

/// For how long a cache may hold a record of the app.
#[must_use]
pub(super) fn ttl(seen: &Observed) -> Duration {
    let published = seen.status.domains.iter().filter(|domain| !domain.addresses.is_empty());
    let names = published.filter_map(|domain| Fqdn::parse(&domain.name).ok());
    let ttl = names.filter_map(|name| seen.zone_of(&name)).map(|zone| zone.ttl).max().unwrap_or(0);
    let ttl = Duration::from_secs(ttl.into());
    seen.ttl_cap.map_or(ttl, |cap| ttl.min(cap))
}

/// Until when a cache may hold a record that is withdrawn now.
pub(super) fn cached_until(seen: &Observed, now: Timestamp) -> Timestamp {
    let ttl = SignedDuration::try_from(ttl(seen)).unwrap_or_default();
    now.checked_add(ttl).unwrap_or(now)
}

/// Looks for the proofs of names that lie in no Zone. They hold nothing else up: the app is served by its other names.
pub(super) fn prove(seen: &Observed, facts: &Facts) -> Option<AppStep> {
    let prepared = facts.prepared.values().next();
    let names = names(seen, prepared.and_then(|prepared| prepared.entry.domain.as_ref())).ok()?;
    let open = names.into_iter().filter(|name| name.foreign && !is_proven(seen, &name.name)).collect::<Vec<_>>();
    for Name { name, .. } in &open {
        let proof = proof(seen, name);
        let known = seen.status.domains.iter().find(|domain| domain.name == name.as_str());
        if known.and_then(|known| known.verification.as_ref()) != Some(&proof) {
            return Some(Step::Record(Box::new(report::proving(seen, name, proof))));
        }
        match facts.proofs.get(name) {
            None => return Some(Step::Do(Action::AskProof(name.clone()))),
            Some(true) => {
                let proof = Verification { seen: true, ..proof };
                return Some(Step::Record(Box::new(report::proving(seen, name, proof))));
            }
            Some(false) => {}
        }
    }
    let Name { name, field, .. } = open.first()?;
    let proof = proof(seen, name);
    let message = format!(
        "{field}: {name} lies in no Zone: prove that it is yours by a TXT record at {} with the content `{}`, and point \
         the name at the Node; or set its publish to None",
        proof.name, proof.content
    );
    Some(wait("DomainNotVerified", message, PROOF, false))
}

/// Gives back the names that are not asked for any more: no record, and no host's table, has them by now.
pub(super) fn former(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<AppStep> {
    // Known only to a pass that had to look at a host.
    let prepared = facts.prepared.values().next()?;
    let names = names(seen, prepared.entry.domain.as_ref()).ok()?;
    let gone = seen.status.domains.iter().filter(|known| names.iter().all(|name| name.name.as_str() != known.name));
    let gone: Vec<Fqdn> = gone.filter_map(|known| Fqdn::parse(&known.name).ok()).collect();
    let until = cached_until(seen, now);
    for name in &gone {
        if let Some(step) = release(seen, facts, name, Some(until)) {
            return Some(step);
        }
    }
    let first = gone.first()?;
    Some(Step::Record(Box::new(report::unnamed(seen, first))))
}

/// Gives back what is held of a name.
pub(super) fn release(seen: &Observed, facts: &Facts, name: &Fqdn, until: Option<Timestamp>) -> Option<AppStep> {
    let reservation = Reservation::of_name(name);
    [Role::Http, Role::Dns].into_iter().find_map(|role| {
        let key = (reservation.name.clone(), role);
        let ours = facts.claimed.get(&key).or(seen.standings.get(&key)) == Some(&Standing::Ours);
        let until = until.filter(|_| role == Role::Dns);
        let open = ours && !facts.released.contains(&key);
        open.then(|| Step::Do(Action::Release(reservation.clone(), role, until)))
    })
}
