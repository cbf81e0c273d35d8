//! The next step for a group's Worker: pure. The step at Cloudflare itself is decided by [`mod@crate::slb::plan`]; here is when that
//! is asked, what has to be claimed before it, and what is given back after it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::report::WORKER_READY;
use super::target::{Target, host_of, may_serve, target, terms, worker};
use super::{Call, End, Failure, Script, Sight};
use crate::api::condition;
use crate::api::names::Fqdn;
use crate::api::slb::SlbStatus;
use crate::controllers::credential::Credential;
use crate::controllers::server_group::observe::Observed;
use crate::controllers::server_group::plan::{Action, Facts, GroupStep, all_judged, cached_until};
use crate::controllers::{blocked, frozen, not_ours};
use crate::dns::{Declared, Refusal};
use crate::outside::OutsideError;
use crate::runtime::backoff;
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step, Wait};
use crate::slb::{self, origins};

/// Something that a watch, or an answer, announces.
const WATCHED: Duration = Duration::from_secs(60);
/// How old a reading of the script may be where something is written by it, or concluded that a person has to mend.
const FRESH: SignedDuration = SignedDuration::from_secs(10);
/// How soon the same thing is not written again.
const ONCE: SignedDuration = SignedDuration::from_secs(30);
/// How many claims one pass takes or gives back.
const AT_ONCE: usize = 8;

/// What comes next for the Worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// This.
    Do(Action),
    /// To write this down, before anything else.
    Record(Option<SlbStatus>),
    /// Nothing in this pass.
    End(End),
}

/// How a script stands.
enum Settled {
    Done(String),
    Refused(slb::Refusal),
    Gone,
}

/// Decides the next step.
#[must_use]
pub fn next(seen: &Observed, facts: &Facts, now: Timestamp) -> Next {
    let target = target(seen);
    let held = seen.status.slb.as_ref();
    if seen.deleting() {
        let held = held.cloned().or_else(|| target.ok().flatten().map(|target| intent(&SlbStatus::default(), &target)));
        let withdrawn = held.and_then(|held| withdraw(seen, facts, &held, now));
        return withdrawn.unwrap_or_else(|| end(Outcome::Done));
    }
    let target = match target {
        Ok(target) => target,
        Err(outcome) => return end(outcome),
    };
    if let Some(former) = held.filter(|held| target.as_ref().is_none_or(|target| !target.is(held))) {
        return retire(seen, facts, former, target.as_ref(), now);
    }
    target.map_or_else(|| end(Outcome::Done), |target| publish(seen, facts, &target, now))
}

fn end(outcome: Outcome) -> Next {
    Next::End(End { origins: None, outcome })
}

fn waiting(reason: &'static str, message: impl Into<String>, after: Duration) -> Next {
    end(Outcome::Waiting(Wait { reason, message: message.into(), after, keep_ready: true }))
}

/// The end that a step which waits or stops makes.
fn ended(step: GroupStep) -> Outcome {
    match step {
        Step::Wait(wait) => Outcome::Waiting(wait),
        Step::Stop { reason, message } => Outcome::Stopped { reason, message },
        _ => Outcome::Done,
    }
}

/// What is written down before anything is written outside: the script, and every name that is claimed for it.
fn intent(held: &SlbStatus, target: &Target) -> SlbStatus {
    let mut hostnames = held.hostnames.clone();
    hostnames.extend(target.hostnames());
    hostnames.sort();
    hostnames.dedup();
    SlbStatus {
        worker_name: target.script.name.clone(),
        account_id: target.script.account.clone(),
        mode: target.mode,
        hostnames,
        ..held.clone()
    }
}

fn standing<'a>(seen: &'a Observed, facts: &'a Facts, reservation: &Reservation) -> &'a Standing {
    let known = facts.claimed.get(&reservation.name).or(seen.standings.get(&reservation.name));
    known.unwrap_or(&Standing::Free)
}

/// Takes a claim; `Ok` where it is ours, or where somebody else's is in the way and what follows from that.
fn claim(
    seen: &Observed,
    facts: &Facts,
    reservation: Reservation,
    (field, taken): (&str, &'static str),
    now: Timestamp,
) -> Result<Option<Outcome>, Box<Next>> {
    match standing(seen, facts, &reservation) {
        Standing::Free if facts.claimed.len() >= AT_ONCE => Err(Box::new(go_on())),
        Standing::Free => Err(Box::new(Next::Do(Action::Claim(reservation)))),
        held => Ok(not_ours(&reservation, held, field, taken, now).map(ended)),
    }
}

/// One pass does not do everything.
fn go_on() -> Next {
    waiting("Publishing", "claiming the names of the origins", Duration::from_millis(100))
}

/// Brings the Worker to what is wanted.
fn publish(seen: &Observed, facts: &Facts, target: &Target, now: Timestamp) -> Next {
    let held = seen.status.slb.clone().unwrap_or_default();
    let intent = intent(&held, target);
    if seen.status.slb.as_ref() != Some(&intent) {
        return Next::Record(Some(intent));
    }
    let name = Reservation::of_worker(&target.script.account, &target.script.name);
    match claim(seen, facts, name, ("spec.slb.workerName", "WorkerTaken"), now) {
        Err(next) => return *next,
        Ok(Some(taken)) => return end(taken),
        Ok(None) => {}
    }
    let mut lack = None;
    let names = target.names();
    let members = names.iter().map(|name| (name, ("spec.members", "HostnameTaken")));
    let domain = target.domain().map(|name| (name, ("spec.slb.customDomain", "HostnameTaken")));
    for (name, words) in members.chain(domain) {
        match claim(seen, facts, Reservation::of_name(name), words, now) {
            Err(next) => return *next,
            Ok(taken) => lack = lack.or(taken),
        }
    }
    let is_ours = |name: &Fqdn| *standing(seen, facts, &Reservation::of_name(name)) == Standing::Ours;
    let host = target.host.as_ref().filter(|_| target.domain().is_none()).map(Reservation::of_name);
    let foreign = host.filter(|host| !may_serve(seen, seen.standings.get(&host.name)));
    if let Some(host) = &foreign {
        let standing = standing(seen, facts, host);
        lack = lack.or_else(|| not_ours(host, standing, "spec.slb.route", "HostnameTaken", now).map(ended));
    }
    let place = target.place.clone().filter(|_| foreign.is_none() && target.domain().is_none_or(is_ours));

    let is_published = |name: &Fqdn| is_published(facts, &held, name);
    let missing = names.iter().any(|name| is_ours(name) && !is_published(name));
    if missing && matches!(&facts.declared, Some((_, Declared::Pending))) {
        return waiting("Publishing", "publishing the names of the origins", WATCHED);
    }
    if let Some((_, Declared::Refused(refusal))) = &facts.declared
        && names.iter().any(|name| is_about(refusal, name))
    {
        let reason = if matches!(refusal, Refusal::Foreign { .. }) { "ForeignRecord" } else { "RecordRefused" };
        lack = lack.or_else(|| Some(Outcome::Stopped { reason, message: refusal.to_string() }));
    }
    if held.origins.is_empty() && !all_judged(seen) {
        return waiting("Probing", "the Worker waits until every server has been probed", WATCHED);
    }
    let reachable = target.origins.iter().filter(|origin| origin.name.as_ref().is_none_or(is_published));
    let reachable = reachable.map(|origin| origin.origin.clone()).collect();
    let worker = worker(seen, &target.script, target.mode, reachable, place);
    match drive(seen, &target.script, now, |observed| slb::plan(&worker, observed)) {
        Err(next) => *next,
        Ok(Settled::Done(text)) => release(seen, facts, &held, &target.hostnames(), now).unwrap_or_else(|| {
            let origins = Some(origins::urls(&text).into_iter().collect());
            Next::End(End { origins, outcome: lack.unwrap_or(Outcome::Done) })
        }),
        Ok(Settled::Refused(refusal)) => {
            end(Outcome::Stopped { reason: refusal.reason(), message: refusal.to_string() })
        }
        Ok(Settled::Gone) => end(Outcome::Done),
    }
}

/// Whether a name leads to its server: the writer says so, or the Worker has it already.
fn is_published(facts: &Facts, held: &SlbStatus, name: &Fqdn) -> bool {
    let applied = match &facts.declared {
        Some((records, Declared::Applied(_))) => records.iter().any(|record| record.name == *name),
        Some((records, Declared::Refused(refusal))) => {
            !is_about(refusal, name) && records.iter().any(|record| record.name == *name)
        }
        _ => false,
    };
    applied || held.origins.iter().any(|url| host_of(url) == name.as_str())
}

/// Whether a refusal is about the record at this name.
#[must_use]
pub fn is_about(refusal: &Refusal, name: &Fqdn) -> bool {
    match refusal {
        Refusal::Foreign { name: at, .. } => at == name,
        Refusal::Rejected { name: at, .. } => at == name.as_str(),
        Refusal::Quota { .. } | Refusal::AdoptionRequired { .. } => false,
    }
}

/// Takes away a Worker that is not wanted any more, and then what was claimed for it.
fn retire(seen: &Observed, facts: &Facts, former: &SlbStatus, target: Option<&Target>, now: Timestamp) -> Next {
    if let Some(next) = withdraw(seen, facts, former, now) {
        return next;
    }
    let empty = SlbStatus { origins: Vec::new(), attempts: None, not_before: None, ..former.clone() };
    if target.is_none() {
        // Without a Worker that has them, the names of its origins are withdrawn.
        if !former.origins.is_empty() {
            return Next::Record(Some(empty));
        }
        if let Some(next) = release(seen, facts, former, &[], now) {
            return next;
        }
        if former.hostnames.iter().any(|name| !is_released(facts, name)) {
            return waiting("Withdrawing", "withdrawing the names of the origins", WATCHED);
        }
    }
    let claim = Reservation::of_worker(&former.account_id, &former.worker_name);
    let moves = target.is_none_or(|target| Script::held(former) != target.script);
    if moves && !facts.released.contains(&claim.name) {
        return Next::Do(Action::Release(claim, None));
    }
    Next::Record(target.map(|target| intent(&empty, target)))
}

fn is_released(facts: &Facts, hostname: &str) -> bool {
    Fqdn::parse(hostname).is_ok_and(|name| facts.released.contains(&Reservation::of_name(&name).name))
}

/// Gives back the next name that is neither wanted nor published any more.
fn release(seen: &Observed, facts: &Facts, held: &SlbStatus, wanted: &[String], now: Timestamp) -> Option<Next> {
    let (records, answer) = facts.declared.as_ref()?;
    if !matches!(answer, Declared::Applied(_)) {
        return None;
    }
    let in_use = |name: &String| {
        let published = records.iter().any(|record| record.name.as_str() == name);
        published
            || held.origins.iter().any(|url| host_of(url) == name)
            || seen.address_name().is_some_and(|address| address.as_str() == name)
    };
    let mut former = held.hostnames.iter().filter(|name| !wanted.contains(name) && !in_use(name));
    let name = former.find(|name| !is_released(facts, name))?;
    if facts.released.len() >= AT_ONCE {
        return Some(go_on());
    }
    let reservation = Reservation::of_name(&Fqdn::parse(name).ok()?);
    Some(Next::Do(Action::Release(reservation, Some(cached_until(seen, now)))))
}

/// The next step until nothing of a Worker is left; `None` then.
fn withdraw(seen: &Observed, facts: &Facts, held: &SlbStatus, now: Timestamp) -> Option<Next> {
    if seen.abandons("worker") {
        return (!facts.said.contains("worker")).then_some(Next::Do(Action::SayAbandoned("worker")));
    }
    let name = &held.worker_name;
    if let Err(outcome) = terms(seen) {
        let Outcome::Stopped { reason, .. } = outcome else { return Some(end(outcome)) };
        let message = format!(
            "Worker {name} cannot be taken away, because Zone {} is missing or has no spec.cloudflare.workers: bring that \
             back, {GIVE_UP}",
            seen.group.spec.zone_ref.name
        );
        return Some(end(Outcome::Waiting(Wait { reason, message, after: WATCHED, keep_ready: false })));
    }
    let script = Script::held(held);
    let former = worker(seen, &script, held.mode, Vec::new(), None);
    match drive(seen, &script, now, |observed| slb::plan::unplan(&former, observed)) {
        Err(next) => Some(with_way_out(seen, name, *next)),
        Ok(Settled::Refused(refusal)) => {
            let message = format!("{refusal}; {GIVE_UP}");
            Some(end(Outcome::Stopped { reason: refusal.reason(), message }))
        }
        Ok(Settled::Gone | Settled::Done(_)) => None,
    }
}

/// What a person does who cannot mend what keeps a Worker.
const GIVE_UP: &str = "or give the Worker up with the annotation roadstead.dev/abandon=worker";

/// Adds to what only a person can mend that the Worker may be given up instead.
fn with_way_out(seen: &Observed, name: &str, next: Next) -> Next {
    let lacks = |reason| match terms(seen).map(|terms| &terms.credential) {
        Ok(Credential::Unusable { reason: why, .. }) => *why == reason,
        _ => false,
    };
    // A message of an earlier process has it already.
    let said = |message: &str| message.contains(GIVE_UP);
    let add = |message: String| format!("Worker {name} cannot be taken away: {message}; {GIVE_UP}");
    match next {
        Next::End(End { origins, outcome: Outcome::Waiting(wait) })
            if (lacks(wait.reason) || REFUSALS.contains(&wait.reason)) && !said(&wait.message) =>
        {
            let wait = Wait { message: add(wait.message), ..wait };
            Next::End(End { origins, outcome: Outcome::Waiting(wait) })
        }
        Next::End(End { origins, outcome: Outcome::Stopped { reason, message } }) if !said(&message) => {
            Next::End(End { origins, outcome: Outcome::Stopped { reason, message: add(message) } })
        }
        next => next,
    }
}

/// How a script stands, or what comes before that is known.
fn drive(
    seen: &Observed,
    script: &Script,
    now: Timestamp,
    decide: impl Fn(&slb::plan::Observed) -> slb::Step,
) -> Result<Settled, Box<Next>> {
    let sight = seen.worker.as_ref().filter(|sight| sight.script == *script);
    if sight.is_some_and(|sight| sight.in_hand) {
        return Err(Box::new(waiting("Publishing", format!("writing Worker {}", script.name), WATCHED)));
    }
    if let Some(outcome) = rest(seen, sight, now) {
        return Err(Box::new(end(outcome)));
    }
    let call = |call| {
        Err(Box::new(match terms(seen).map(|terms| &terms.credential) {
            Ok(Credential::Ok { .. }) => Next::Do(Action::Worker(script.clone(), call)),
            Ok(Credential::Unusable { reason, message }) => waiting(reason, message.clone(), WATCHED),
            Err(outcome) => end(outcome),
        }))
    };
    let Some(known) = sight.and_then(|sight| sight.seen.as_ref()) else { return call(Call::Look) };
    // Sooner than the resync, which would else find it not quite old enough.
    let lasting = SignedDuration::try_from(seen.resync.mul_f64(0.8)).unwrap_or(SignedDuration::ZERO);
    let age = |at: Timestamp| now.duration_since(at);
    if age(known.at) > lasting {
        return call(Call::Look);
    }
    let mut observed = known.observed.clone();
    observed.places.take_if(|_| known.places_at.is_none_or(|at| age(at) > lasting));
    let step = decide(&observed);
    match step {
        slb::Step::Done(text) => Ok(Settled::Done(text)),
        slb::Step::Look { zones, hosts } => call(Call::LookAround { zones, hosts }),
        _ if age(known.at) > FRESH => call(Call::Look),
        slb::Step::Refuse(refusal) => Ok(Settled::Refused(refusal)),
        slb::Step::Gone => Ok(Settled::Gone),
        _ if seen.read_only => Err(Box::new(end(ended(frozen(seen.resync))))),
        write if sight.and_then(|sight| sight.wrote.as_ref()).is_some_and(|(w, at)| *w == write && age(*at) < ONCE) => {
            let message = format!("Cloudflare took a change of Worker {}, but does not show it", script.name);
            Err(Box::new(waiting("OutcomeUnknown", message, Duration::from_secs(30))))
        }
        write => call(Call::Write(write)),
    }
}

/// Until when Cloudflare is left alone after a failure, which is stored with the status.
#[must_use]
pub fn until(held: Option<&SlbStatus>, failure: &Failure, resync: Duration) -> Timestamp {
    let stored = held.and_then(|held| held.not_before.as_ref()).map(|time| time.0);
    if let Some(stored) = stored.filter(|stored| *stored > failure.at) {
        return stored;
    }
    let attempts = held.and_then(|held| held.attempts).unwrap_or(0) + 1;
    let pause = match ended(blocked("Cloudflare", &failure.error)) {
        Outcome::Waiting(_) if is_transient(&failure.error) => backoff::after(attempts, failure.jitter),
        Outcome::Waiting(wait) => wait.after,
        _ => resync,
    };
    failure.at.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// Whether nobody has to do anything about it.
#[must_use]
pub fn is_transient(error: &OutsideError) -> bool {
    matches!(error, OutsideError::Unavailable(_) | OutsideError::Unknown(_))
}

/// What is left of the time in which Cloudflare is left alone. A new generation or a new token ends it.
fn rest(seen: &Observed, sight: Option<&Sight>, now: Timestamp) -> Option<Outcome> {
    let held = seen.status.slb.as_ref();
    let generation = seen.group.metadata.generation;
    let left = |until: Timestamp| Duration::try_from(until.duration_since(now)).ok().filter(|left| !left.is_zero());
    let Some(sight) = sight else {
        // Of an earlier process.
        let left = left(held?.not_before.as_ref()?.0).filter(|_| seen.status.observed_generation == generation)?;
        let said = condition::get(&seen.status.conditions, WORKER_READY)?;
        let reason = REASONS.iter().find(|reason| **reason == said.reason)?;
        let wait = Wait { reason, message: said.message.clone(), after: left, keep_ready: true };
        return Some(Outcome::Waiting(wait));
    };
    let failure = sight.failure.as_ref()?;
    let version = terms(seen).ok().and_then(super::Terms::version);
    if failure.generation != generation || failure.version.as_deref() != version {
        return None;
    }
    let left = left(until(held, failure, seen.resync))?;
    Some(match ended(blocked("Cloudflare", &failure.error)) {
        Outcome::Waiting(wait) => Outcome::Waiting(Wait { after: left, ..wait }),
        other => other,
    })
}

/// The reasons of calls that a person has to make possible.
const REFUSALS: [&str; 2] = ["CredentialRefused", "PermissionMissing"];

/// The reasons of calls that failed.
const REASONS: [&str; 6] =
    ["CredentialRefused", "OutcomeUnknown", "PermissionMissing", "RateLimited", "Refused", "Unavailable"];
