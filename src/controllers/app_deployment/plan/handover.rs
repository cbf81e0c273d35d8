//! Names that go from one app to another of its namespace, by `takeFrom`.
//!
//! Who gets a name is healthy inside, and answers the name on its hosts, before the claim changes hands; the claim says
//! from then on whose the name is. The record follows by one change, and who gave the name serves on until no cache
//! leads to it. So neither a failure of the one nor a crash between any two steps leaves visitors without an answer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::super::names::{Name, names, proven};
use super::super::observe::{HostView, Observed};
use super::super::peers::KIND;
use super::super::report;
use super::{Action, AppStep, Facts, WATCHED, stop, wait};
use crate::api::app_deployment::{AppDeploymentStatus, Domain, DomainStatus, Handed};
use crate::api::claim::Holder;
use crate::api::condition::whole_seconds;
use crate::api::names::{Fqdn, Mark};
use crate::dns::Desired;
use crate::dns::propagation::Confirmation;
use crate::host::deploy::Journal;
use crate::host::deploy::plan::Await;
use crate::host::deploy::seen::{Container, ids};
use crate::runtime::claims::{Reservation, Role, Standing};
use crate::runtime::driver::Step;

/// How long a name that is asked for no more is kept, so that an app that takes it over in the same commit is seen.
const GRACE: Duration = Duration::from_secs(10);
/// How long a name of no Zone is served on by who gave it: nobody here knows for how long caches hold it.
const ELSEWHERE: Duration = Duration::from_secs(300);
/// How soon to ask an app again that does not answer inside.
const AGAIN: Duration = Duration::from_secs(5);
/// How old an answer may be on whose word a name is taken.
const FRESH: Duration = Duration::from_secs(30);

/// Whether a host answers a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// It does not, or another app there does.
    No,
    /// It does, and the name is the app's.
    Ours,
    /// It does, though the name is not the app's yet, or not any more.
    Anyhow,
}

/// How a role of a name stands, by the last word there is.
fn standing<'a>(seen: &'a Observed, facts: &'a Facts, name: &Fqdn, role: Role) -> &'a Standing {
    let key = (Reservation::of_name(name).name, role);
    facts.claimed.get(&key).or(seen.standings.get(&key)).unwrap_or(&Standing::Free)
}

/// The app of this namespace that holds a role in place of this one.
fn app_of<'a>(seen: &Observed, standing: &'a Standing) -> Option<&'a Holder> {
    match standing {
        Standing::Taken { namespace, holder } if *namespace == seen.claimant.namespace && holder.kind == KIND => {
            Some(holder)
        }
        _ => None,
    }
}

fn known<'a>(seen: &'a Observed, name: &str) -> Option<&'a DomainStatus> {
    seen.status.domains.iter().find(|known| known.name == name)
}

/// Whether the app ever had the name: one that it only asks for was never written down, or as nothing but pending.
fn had(known: &DomainStatus) -> bool {
    known.handed.is_some() || !known.addresses.is_empty() || known.phase.as_deref() != Some(report::PENDING)
}

/// Whom a name is to be taken from: the app that the spec names has it, whole as far as this one needs it.
fn awaited<'a>(seen: &'a Observed, facts: &'a Facts, name: &Name) -> Option<&'a Holder> {
    let from = name.take_from.as_ref()?;
    if known(seen, name.name.as_str()).is_some_and(|known| had(known) && !is_asked_back(known, Some(from))) {
        return None;
    }
    let mut holder = None;
    for (_, role) in name.reservations() {
        match standing(seen, facts, &name.name, role) {
            Standing::Ours | Standing::Free => {}
            taken => holder = Some(app_of(seen, taken).filter(|holder| holder.name == *from)?),
        }
    }
    holder
}

/// Whether a name that was given is asked for again: by a `takeFrom` that the spec did not have when it was given. Else
/// two apps that name each other would take it from each other for ever.
fn is_asked_back(known: &DomainStatus, from: Option<&String>) -> bool {
    from.is_some() && known.handed.as_ref().is_some_and(|handed| handed.take_from.as_ref() != from)
}

/// The app that took a name over from this one.
fn taker<'a>(seen: &'a Observed, facts: &'a Facts, known: &DomainStatus) -> Option<&'a Holder> {
    let name = Fqdn::parse(&known.name).ok()?;
    let holder = app_of(seen, standing(seen, facts, &name, Role::Http)).filter(|_| had(known))?;
    let from = takes_from(seen, &known.name);
    let back = from.as_ref() == Some(&holder.name) && is_asked_back(known, from.as_ref());
    (!back).then_some(holder)
}

/// What the spec says in `takeFrom` of a name.
fn takes_from(seen: &Observed, name: &str) -> Option<String> {
    let asked = seen.app.spec.domains.iter().find(|domain| domain.name == name)?;
    asked.take_from.as_ref().map(|app| app.name.clone())
}

/// What the app has to do with a name: whether it is its own, another's whom it is taken from, or another's whom it was
/// given to.
#[derive(Debug, PartialEq, Eq)]
enum Tenure<'a> {
    Own,
    Awaited(&'a Holder),
    Given(&'a Holder),
}

fn tenure<'a>(seen: &'a Observed, facts: &'a Facts, name: &Name) -> Tenure<'a> {
    let given = || known(seen, name.name.as_str()).and_then(|known| taker(seen, facts, known));
    match awaited(seen, facts, name) {
        Some(holder) => Tenure::Awaited(holder),
        None => given().map_or(Tenure::Own, Tenure::Given),
    }
}

/// Whether a name is the app's own, as far as anybody else's claim says.
#[must_use]
pub fn is_own(seen: &Observed, facts: &Facts, name: &Name) -> bool {
    tenure(seen, facts, name) == Tenure::Own
}

/// Whether the app publishes a name: its own; and one it gave, until who took it does.
#[must_use]
pub fn publishes(seen: &Observed, facts: &Facts, name: &Name) -> bool {
    match tenure(seen, facts, name) {
        Tenure::Own => true,
        Tenure::Awaited(_) => false,
        Tenure::Given(to) => leads(seen, to, name.name.as_str()).is_none(),
    }
}

/// Whether an app is on a host too.
fn is_on(seen: &Observed, app: &Holder, host: &str) -> bool {
    seen.peers.get(&app.name).is_some_and(|peer| peer.nodes.contains(host))
}

/// The addresses at which an app serves a name; `None` if it does not yet.
fn leads<'a>(seen: &'a Observed, app: &Holder, name: &str) -> Option<&'a BTreeSet<IpAddr>> {
    seen.peers.get(&app.name)?.serves.get(name)
}

/// Whether a host answers a name. Where both apps are, the one whose claim it is does: its table has one entry.
#[must_use]
pub fn answers(seen: &Observed, facts: &Facts, name: &Name, host: &str, now: Timestamp) -> Serving {
    let anyhow = |yes: bool| if yes { Serving::Anyhow } else { Serving::No };
    match tenure(seen, facts, name) {
        Tenure::Own => Serving::Ours,
        Tenure::Awaited(from) => {
            let live = seen.hosts.get(host).is_some_and(|host| host.journal.live.is_some());
            anyhow(live && !is_on(seen, from, host))
        }
        Tenure::Given(to) => {
            let over = known(seen, name.name.as_str()).is_some_and(|known| is_over(seen, known, now));
            anyhow(!over && !is_on(seen, to, host))
        }
    }
}

/// Whether a name that nothing asks for any more is kept: until it was seen whether another app takes it over, until that
/// one has it, and until no cache leads here.
#[must_use]
pub fn keeps(seen: &Observed, known: &DomainStatus, now: Timestamp) -> bool {
    let Ok(name) = Fqdn::parse(&known.name) else { return false };
    let standing = seen.standings.get(&(Reservation::of_name(&name).name, Role::Http));
    if standing.is_some_and(|standing| app_of(seen, standing).is_some()) {
        return had(known) && !is_over(seen, known, now);
    }
    standing == Some(&Standing::Ours) && had(known) && (is_asked_for(seen, &known.name) || grace(known, now).is_some())
}

/// Whether another app asks for a name, to take it over from this one.
fn is_asked_for(seen: &Observed, name: &str) -> bool {
    seen.peers.values().any(|peer| peer.asks.contains(name))
}

/// What is left of the time in which a name that nothing asks for may be taken over.
fn grace(known: &DomainStatus, now: Timestamp) -> Option<Duration> {
    known.unlisted_at.as_ref().map_or(Some(GRACE), |since| left(since.0, GRACE, now))
}

fn left(since: Timestamp, time: Duration, now: Timestamp) -> Option<Duration> {
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    time.checked_sub(waited).filter(|left| !left.is_zero())
}

/// For how long caches may lead to a host that a name led to.
fn ttl(seen: &Observed, name: &str) -> Duration {
    let zone = Fqdn::parse(name).ok().and_then(|name| Some(seen.zone_of(&name)?.ttl));
    let ttl = zone.map_or(ELSEWHERE, |ttl| Duration::from_secs(ttl.into()));
    seen.ttl_cap.map_or(ttl, |cap| ttl.min(cap))
}

/// What is left of the time in which this app answers a name that it gave; nothing where the other one is wherever this
/// one was.
fn remaining(seen: &Observed, known: &DomainStatus, now: Timestamp) -> Option<Duration> {
    let Some(at) = known.handed.as_ref().and_then(|handed| handed.at.as_ref()) else { return Some(WATCHED) };
    let answered = seen.hosts.values().any(|host| host.journal.names.contains(&known.name));
    // It is written down in whole seconds.
    left(at.0, ttl(seen, &known.name) + Duration::from_secs(1), now).filter(|_| answered)
}

fn is_over(seen: &Observed, known: &DomainStatus, now: Timestamp) -> bool {
    remaining(seen, known, now).is_none()
}

/// Everything about names between apps by which a host may have to be looked at again.
#[must_use]
pub(super) fn fingerprint(seen: &Observed, facts: &Facts, now: Timestamp) -> String {
    let shared = |app: &Holder| seen.hosts.keys().filter(|host| is_on(seen, app, host)).cloned().collect::<Vec<_>>();
    let of = |name: &Name| match tenure(seen, facts, name) {
        Tenure::Own => format!("{} {}", name.name, name.kept),
        Tenure::Awaited(from) => format!("{} < {} {:?}", name.name, from.name, shared(from)),
        Tenure::Given(to) => {
            let over = known(seen, name.name.as_str()).is_some_and(|known| is_over(seen, known, now));
            format!("{} > {} {:?} {over} {}", name.name, to.name, shared(to), publishes(seen, facts, name))
        }
    };
    // The label of the entry service is part of the revision.
    names(seen, None, now).map(|names| names.iter().map(of).collect::<Vec<_>>().join(",")).unwrap_or_default()
}

/// Writes down what became of names that other apps took over, before anything else is done about them.
pub(super) fn noted(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<AppStep> {
    given_away(seen, facts, now).or_else(|| dropped(seen, facts))
}

/// Where the app that has a name is too, the entry of the table is that one's, and not touched any more.
fn dropped(seen: &Observed, facts: &Facts) -> Option<AppStep> {
    let is_theirs = |host: &str, name: &str| {
        let name = Fqdn::parse(name).ok();
        let holder = name.and_then(|name| app_of(seen, standing(seen, facts, &name, Role::Http)));
        holder.is_some_and(|holder| is_on(seen, holder, host))
    };
    seen.hosts.iter().find_map(|(host, view)| {
        let name = view.journal.names.iter().find(|name| is_theirs(host, name))?;
        let mut journal: Journal = view.journal.clone();
        journal.names.remove(name);
        Some(Step::Record(Box::new(report::noted(seen, host, &journal))))
    })
}

fn given_away(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<AppStep> {
    seen.status.domains.iter().find_map(|known| {
        let to = taker(seen, facts, known)?;
        let handed = known.handed.clone().filter(|handed| handed.to == to.name);
        let Some(handed) = handed else {
            let reservation = Reservation::of_name(&Fqdn::parse(&known.name).ok()?);
            // A cache may lag behind what this app has just taken itself.
            if !facts.claimed.contains_key(&(reservation.name.clone(), Role::Http)) {
                return Some(Step::Do(Action::Claim(reservation, Role::Http)));
            }
            let handed = Handed { to: to.name.clone(), at: None, take_from: takes_from(seen, &known.name) };
            return Some(record(seen, &known.name, |known| given(known, handed)));
        };
        if handed.take_from.is_some() && takes_from(seen, &known.name).is_none() {
            let handed = Handed { take_from: None, ..handed };
            return Some(record(seen, &known.name, |known| known.handed = Some(handed)));
        }
        let leads = leads(seen, to, &known.name).filter(|_| handed.at.is_none())?;
        led_elsewhere(seen, facts, known, leads).unwrap_or_else(|| {
            let handed = Handed { at: Some(whole_seconds(now)), ..handed };
            Some(record(seen, &known.name, |known| known.handed = Some(handed)))
        })
    })
}

/// `None` once the zone's own servers lead nobody here any more; inside, how to find out, or nothing while they do.
#[expect(clippy::option_option, reason = "a step, none for now, or none any more")]
fn led_elsewhere(
    seen: &Observed,
    facts: &Facts,
    known: &DomainStatus,
    leads: &BTreeSet<IpAddr>,
) -> Option<Option<AppStep>> {
    let name = Fqdn::parse(&known.name).ok()?;
    let published: BTreeSet<IpAddr> = known.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let stale: Vec<IpAddr> = published.difference(leads).copied().collect();
    if stale.is_empty() || seen.zone_of(&name).is_none_or(|zone| zone.authority.is_empty()) {
        return None;
    }
    match facts.authority.get(&name) {
        None => Some(Some(Step::Do(Action::AskForgotten(name, stale)))),
        Some(Confirmation::Differs(_)) => Some(None),
        Some(Confirmation::Confirmed | Confirmation::Unreachable(_)) => None,
    }
}

fn given(known: &mut DomainStatus, handed: Handed) {
    let message = format!("AppDeployment {} took it over", handed.to);
    known.phase = Some(report::HANDED_OVER.to_owned());
    known.message = Some(message);
    known.handed = Some(handed);
}

fn record(seen: &Observed, name: &str, change: impl FnOnce(&mut DomainStatus)) -> AppStep {
    let mut status: AppDeploymentStatus = seen.status.clone();
    if let Some(known) = status.domains.iter_mut().find(|known| known.name == name) {
        change(known);
    }
    Step::Record(Box::new(status))
}

/// Writes down since when names are asked for no more, or that they are again.
pub(super) fn unlisted(seen: &Observed, names: &[Name], now: Timestamp) -> Option<AppStep> {
    seen.status.domains.iter().find_map(|known| {
        let listed = names.iter().any(|name| !name.kept && name.name.as_str() == known.name);
        if listed != known.unlisted_at.is_some() {
            return None;
        }
        let since = (!listed).then(|| whole_seconds(now));
        Some(record(seen, &known.name, |known| known.unlisted_at = since))
    })
}

/// Takes over the names that other apps have, now that this one runs wherever it should.
pub(super) fn take(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<AppStep> {
    let names = proven(seen, names(seen, None, now).ok()?);
    let (name, from) = names.iter().find_map(|name| Some((name, awaited(seen, facts, name)?)))?;
    let targets = seen.hosts.iter().filter(|(_, host)| host.target);
    for (host, view) in targets {
        if let Some(step) = proved(seen, facts, (host, view), name, now) {
            return Some(step);
        }
    }
    let (reservations, roles): (Vec<_>, Vec<_>) = name.reservations().unzip();
    let reservation = reservations.into_iter().next()?;
    Some(Step::Do(Action::TakeOver(reservation, roles, from.uid.clone())))
}

/// Has a host's app asked inside; `None` once it has answered just now.
fn proved(
    seen: &Observed,
    facts: &Facts,
    (host, view): (&String, &HostView),
    name: &Name,
    now: Timestamp,
) -> Option<AppStep> {
    let hold = |why: String, after| {
        let message = format!("{}: {} is not taken over before {why}", name.field, name.name);
        Some(wait("TakingOver", message, after, true))
    };
    if view.blocked.is_some() {
        return hold(super::blocked(seen, host).1, WATCHED);
    }
    let Some(live) = &view.journal.live else { return hold(format!("the app runs on Node {host}"), AGAIN) };
    if let Some(why) = facts.unreached.get(host) {
        return hold(format!("Node {host} can be looked at: {why}"), AGAIN);
    }
    let Some(looked) = facts.looked.get(host) else { return Some(Step::Do(Action::Look(host.clone()))) };
    let mine = |container: &&Container| {
        !container.one_off && container.is_up() && container.revision.as_ref() == Some(&live.revision)
    };
    let containers = ids(looked.containers.iter().filter(mine));
    if !facts.asked.contains(host) && !containers.is_empty() {
        let (port, path) = (live.port, live.health_path.clone());
        return Some(Step::Do(Action::Ask(host.clone(), Await::Internal { ids: containers, port, path })));
    }
    let since = now.checked_sub(FRESH).unwrap_or(now);
    let answers = facts.answers.get(host).map(|answers| &answers.internal);
    let well = |id: &String| answers.and_then(|all| all.get(id)).is_some_and(|answer| answer.well_since(since));
    let is_well = !containers.is_empty() && containers.iter().all(well);
    if is_well { None } else { hold(format!("the app answers inside on Node {host}"), AGAIN) }
}

/// The names of these records that were taken from other apps, and the `k` of those.
#[must_use]
pub fn taken(seen: &Observed, facts: &Facts, records: &[Desired]) -> Vec<(Fqdn, String)> {
    let of = |domain: &Domain| {
        let from = &domain.take_from.as_ref()?.name;
        let name = Fqdn::parse(&domain.name).ok()?;
        let ours = *standing(seen, facts, &name, Role::Dns) == Standing::Ours;
        let declared = records.iter().any(|record| record.name == name);
        (ours && declared).then(|| (name, Mark::key_of(KIND, &seen.claimant.namespace, from)))
    };
    seen.app.spec.domains.iter().filter_map(of).collect()
}

/// What is still to be said or awaited of names between apps, once everything else is in place.
pub(super) fn rest(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<AppStep> {
    let given = || seen.status.domains.iter().filter(|known| taker(seen, facts, known).is_some());
    for known in given() {
        let gone = seen.hosts.values().all(|host| !host.journal.names.contains(&known.name));
        match remaining(seen, known, now) {
            Some(after) => return Some(serving_on(known, after)),
            // Nothing leads here any more, and nothing of it is this app's.
            None if gone && (!known.addresses.is_empty() || known.zone.is_some()) => {
                return Some(record(seen, &known.name, |known| {
                    known.addresses.clear();
                    known.zone = None;
                }));
            }
            None => {}
        }
    }
    let listed = |known: &&DomainStatus| seen.app.spec.domains.iter().any(|domain| domain.name == known.name);
    if let Some(known) = given().find(listed) {
        let to = known.handed.as_ref().map(|handed| handed.to.as_str()).unwrap_or_default();
        let message = format!(
            "spec.domains: {} was handed to AppDeployment {to}, which asked for it by takeFrom: take the name out of \
             this spec; or set its takeFrom to {to}, if this app is to have it back",
            known.name
        );
        return Some(stop("HandedOver", message));
    }
    let kept = seen.status.domains.iter().filter(|known| known.unlisted_at.is_some() && known.handed.is_none());
    let kept = kept.filter(|known| keeps(seen, known, now) && !is_asked_for(seen, &known.name));
    let (known, after) = kept.filter_map(|known| Some((known, grace(known, now)?))).min_by_key(|(_, left)| *left)?;
    let message = format!(
        "{} is asked for no more: it is given back in a moment, unless another app takes it over by takeFrom",
        known.name
    );
    Some(wait("Releasing", message, after + Duration::from_millis(100), true))
}

fn serving_on(known: &DomainStatus, after: Duration) -> AppStep {
    let to = known.handed.as_ref().map(|handed| handed.to.as_str()).unwrap_or_default();
    let message = format!(
        "{} was handed to AppDeployment {to}; this app serves it on until no cache leads here any more",
        known.name
    );
    wait("HandingOver", message, after + Duration::from_millis(100), true)
}

/// What an app that is to go, or to leave a host, has to wait for: that another app has what it asks for, and that no
/// cache leads here.
pub(super) fn before_it_goes(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<AppStep> {
    seen.status.domains.iter().find_map(|known| {
        if taker(seen, facts, known).is_some() {
            return remaining(seen, known, now).map(|after| serving_on(known, after));
        }
        let name = Fqdn::parse(&known.name).ok()?;
        let ours = *standing(seen, facts, &name, Role::Http) == Standing::Ours;
        let (to, _) = seen.peers.iter().find(|(_, peer)| ours && peer.asks.contains(&known.name))?;
        let message = format!(
            "AppDeployment {to} takes {} over, which is served here until then: see why it does not yet; or take \
             takeFrom out of its spec, and the name is given up",
            known.name
        );
        Some(wait("HandingOver", message, WATCHED, false))
    })
}
