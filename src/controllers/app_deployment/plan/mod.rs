//! The app's plan: every decision, none of the I/O.
//!
//! Forwards: find the hosts, read what the object refers to, store the revision, and on one host after the other prepare it,
//! claim and publish its names, and do what [`deploy`] says comes next. Backwards: withdraw the names,
//! wait out the TTL, take the app away from each host, release the claims, gone.

mod backward;
mod host;
mod publish;
mod rollback;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::apply::Reading;
use super::material::Material;
use super::material::revisions::Stored;
use super::memory::{Answers, Settled};
use super::names::lead;
use super::observe::{HostView, Observed};
use super::report;
use crate::api::app_deployment::{AppDeploymentStatus, Network, StrategyType, Update};
use crate::api::condition::whole_seconds;
use crate::api::names::Fqdn;
use crate::controllers::frozen;
use crate::dns::propagation::Confirmation;
use crate::dns::{Declared, Desired};
use crate::host::app::Prepared;
use crate::host::deploy;
use crate::host::deploy::plan::Await;
use crate::host::deploy::rollout::{self, Around, Standing, Turn, rollout};
use crate::runtime::claims::{self, Reservation, Role};
use crate::runtime::driver::{Outcome, Step, Wait};

pub(super) use backward::expired;
pub(super) use host::{deploying, patience, view, wanted};
pub use rollback::Rollback;

/// What may be done for an app.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read what the object refers to.
    Read,
    /// Store the revision.
    Store,
    /// Take a name.
    Claim(Reservation, Role),
    /// Give one back; with a time, other namespaces stay out until then.
    Release(Reservation, Role, Option<Timestamp>),
    /// Tell a zone's writer what should be published there: everything, or nothing.
    Declare(String, Vec<Desired>),
    /// Take over the records of a Zone with this owner in their mark.
    AdoptRecords(String, String),
    /// Ask a zone's own servers for a name.
    AskAuthority(Fqdn, Vec<Desired>),
    /// Ask resolvers for the TXT record that proves a name.
    AskProof(Fqdn),
    /// Ask a zone's own servers whether they forgot a name.
    AskForgotten(Fqdn, Vec<IpAddr>),
    /// Bring the revision's files to a host and have them judged.
    Prepare(String),
    /// Look at a host.
    Look(String),
    /// Do one thing there.
    Act(String, deploy::Action),
    /// Ask what is waited for there.
    Ask(String, Await),
    /// Write down what became of work that outlived a pass.
    Collect(String),
    /// Ask which volumes the app has there.
    Volumes(String),
    /// Remember that the app is whole there.
    Settle(String, String),
    /// Leave the app on a host that is out of reach, and say so.
    Leave(String),
    /// End its probes, and forget what is remembered of it.
    Forget,
    /// Say in an event what an `abandon` annotation leaves behind: the half it names.
    SayAbandoned(&'static str),
}

impl Action {
    /// Whether it changes anything outside the cluster. The zone's writer keeps its own freeze.
    fn writes_outside(&self) -> bool {
        matches!(self, Self::Prepare(_) | Self::Act(..) | Self::AdoptRecords(..))
    }
}

/// What was learned in this pass and need not survive it.
#[derive(Default)]
pub struct Facts {
    /// What the object refers to, as far as anything is decided by it.
    pub reading: Option<Reading>,
    /// All of it, as it is stored.
    pub material: Option<Material>,
    /// The revisions that are kept, newest first.
    pub known: Vec<Stored>,
    /// The one that is wanted, stored.
    pub stored: Option<Stored>,
    /// How the claims stand, as the API server just said.
    pub claimed: BTreeMap<(String, Role), claims::Standing>,
    /// Claims given back.
    pub released: BTreeSet<(String, Role)>,
    /// What was prepared, by host.
    pub prepared: BTreeMap<String, Arc<Prepared>>,
    /// Why nothing can be, by host: reason and message.
    pub refused: BTreeMap<String, (&'static str, String)>,
    /// Why a host that the app leaves cannot be looked at, by host.
    pub unreached: BTreeMap<String, String>,
    /// What was seen, by host.
    pub looked: BTreeMap<String, deploy::seen::Host>,
    /// What was answered, by host.
    pub answers: BTreeMap<String, Answers>,
    /// The hosts on which was asked since they were looked at.
    pub asked: BTreeSet<String>,
    /// What was declared in each Zone, and the writer's answer.
    pub declared: BTreeMap<String, (Vec<Desired>, Declared)>,
    /// What the zones' servers answer.
    pub authority: BTreeMap<Fqdn, Confirmation>,
    /// Whether the TXT records that prove names were seen.
    pub proofs: BTreeMap<Fqdn, bool>,
    /// The Zones in which an adoption was ordered.
    pub adopted: BTreeSet<String>,
    /// The volumes of the app, by host.
    pub volumes: BTreeMap<String, BTreeSet<String>>,
    /// The hosts that are out of reach for so long that the app is left there.
    pub given_up: BTreeSet<String>,
    /// Nothing is remembered of it any more.
    pub forgotten: bool,
    /// The halves whose abandonment was said.
    pub said: BTreeSet<&'static str>,
}

/// A step of the app's plan.
pub type AppStep = Step<Action, AppDeploymentStatus>;

/// Something that a watch announces.
const WATCHED: Duration = Duration::from_secs(60);
/// For how long what a host said of an app counts while visitors there are failed.
const ILL: Duration = Duration::from_secs(30);
/// How soon to look again at what is on its way.
const SOON: Duration = Duration::from_secs(2);

/// Decides the next step.
#[must_use]
pub fn plan(seen: &Observed, facts: &Facts, now: Timestamp) -> AppStep {
    if seen.annotation("paused") == Some("true") {
        return wait("Paused", report::PAUSED, seen.resync, true);
    }
    if let Some(name) = seen.hosts.iter().find_map(|(name, host)| host.finished.then_some(name)) {
        return Step::Do(Action::Collect(name.clone()));
    }
    if let Some(left) = back_off(seen, now) {
        return Step::Hold(left);
    }
    let step = if seen.deleting() || expired(seen, now) {
        backward::plan(seen, facts, now)
    } else {
        forwards(seen, facts, now)
    };
    match step {
        Step::Do(action) if seen.read_only && action.writes_outside() => frozen(seen.resync),
        // It ends by itself, and somebody has to look then.
        Step::Wait(wait) => Step::Wait(Wait { after: until_end(seen, wait.after, now), ..wait }),
        other => other,
    }
}

fn until_end(seen: &Observed, after: Duration, now: Timestamp) -> Duration {
    let left = seen.expires_at().and_then(|end| Duration::try_from(end.duration_since(now)).ok());
    left.filter(|left| !left.is_zero()).map_or(after, |left| after.min(left + Duration::from_millis(100)))
}

/// What is left of a stored back-off. A new generation, which a deletion is too, ends it.
fn back_off(seen: &Observed, now: Timestamp) -> Option<Duration> {
    let not_before = seen.status.journal.as_ref()?.not_before.as_ref()?.0;
    if seen.status.observed_generation != seen.app.metadata.generation {
        return None;
    }
    Duration::try_from(not_before.duration_since(now)).ok().filter(|left| !left.is_zero())
}

pub(super) fn wait(reason: &'static str, message: impl Into<String>, after: Duration, keep_ready: bool) -> AppStep {
    Step::Wait(Wait { reason, message: message.into(), after, keep_ready })
}

pub(super) fn stop(reason: &'static str, message: impl Into<String>) -> AppStep {
    Step::Stop { reason, message: message.into() }
}

fn forwards(seen: &Observed, facts: &Facts, now: Timestamp) -> AppStep {
    if let Some(field) = unknown(seen) {
        let message = format!(
            "{field}: this version of the operator does not know its value: upgrade the operator, or correct the spec"
        );
        return stop("UnknownValue", message);
    }
    if let Some(status) = rollback::noted(seen) {
        return Step::Record(Box::new(status));
    }
    // Without a target nothing is taken away: a typing error in a label is no order to end an app.
    if let Some((reason, message)) = &seen.no_target {
        return wait(reason, message.clone(), WATCHED, false);
    }
    let Some(reading) = &facts.reading else { return Step::Do(Action::Read) };
    if facts.stored.is_none() {
        return Step::Do(Action::Store);
    }
    if let Some(name) = unmeasured(seen, facts) {
        return Step::Do(Action::Volumes(name));
    }
    let turn = rollout(&standings(seen, facts, reading), &around(seen), now);
    match &turn {
        Turn::Deploy(name) | Turn::Stopped { host: name, .. } => {
            host::work(seen, facts, name, now).unwrap_or_else(|| after_hosts(seen, facts, &turn, now))
        }
        Turn::Unreachable(name) => {
            let (reason, message) = blocked(seen, name);
            wait(reason, message, WATCHED, true)
        }
        Turn::VolumesStayBehind { host, volumes } => {
            let volumes = volumes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!(
                "spec.target: the app leaves Node {host}, where its volumes ({volumes}) would stay behind: copy what \
                 you need, then set spec.acceptDataLoss to {host}; or change the target back"
            );
            stop("VolumesStayBehind", message)
        }
        Turn::NoTarget => wait("NoTarget", "no Node is a target; nothing is taken away for that", WATCHED, false),
        Turn::Repoint | Turn::WaitOut(_) | Turn::Remove(_) | Turn::Done { .. } => {
            let what = fingerprint(seen, reading);
            let whole = |name: &str, host: &HostView| {
                host.settled.as_ref().is_some_and(|settled| is_fresh(seen, name, settled, &what, now))
            };
            let due =
                seen.hosts.iter().find(|(name, host)| host.target && !whole(name, host) && host.blocked.is_none());
            match due {
                Some((name, _)) => host::work(seen, facts, name, now)
                    .or_else(|| publish::compare(seen, facts))
                    .unwrap_or_else(|| Step::Do(Action::Settle(name.clone(), what.clone()))),
                None => after_hosts(seen, facts, &turn, now),
            }
        }
    }
}

/// As what a host was last seen to be whole, and whether that was lately enough.
fn is_fresh(seen: &Observed, name: &str, settled: &Settled, what: &str, now: Timestamp) -> bool {
    // Before the next resync, so that each of those looks.
    let fresh = if seen.available.fails_at(name) { ILL } else { seen.resync.mul_f64(0.8) };
    settled.what == what && Duration::try_from(now.duration_since(settled.at)).is_ok_and(|age| age < fresh)
}

/// Everything by which an app that is in place may have to be looked at again.
fn fingerprint(seen: &Observed, reading: &Reading) -> String {
    let leads: Vec<_> = lead(seen).iter().filter_map(|host| host.address).collect();
    let hosts: Vec<_> = seen.hosts.iter().filter(|(_, h)| h.target).map(|(n, h)| (n, h.uid(), h.restored)).collect();
    let live: Vec<_> = seen.hosts.values().map(|h| h.journal.live.as_ref().map(|live| &live.revision)).collect();
    let proven = seen.status.domains.iter().filter(|domain| domain.verification.as_ref().is_some_and(|v| v.seen));
    let proven: Vec<_> = proven.map(|domain| &domain.name).collect();
    let ill: Vec<_> = seen.hosts.keys().filter(|name| seen.available.fails_at(name)).collect();
    let generation = seen.app.metadata.generation;
    format!("{generation:?} {} {} {leads:?} {hosts:?} {live:?} {proven:?} {ill:?}", reading.revision, reading.cause)
}

/// What remains once every target is as it should be.
fn after_hosts(seen: &Observed, facts: &Facts, turn: &Turn, now: Timestamp) -> AppStep {
    match turn {
        Turn::Repoint => {
            let waiting = Wait {
                reason: "Moving",
                message: "the names lead to the new Nodes; waiting until no cache leads to the old".to_owned(),
                after: SOON,
                keep_ready: false,
            };
            let mut status = report::status(seen, facts, &Outcome::Waiting(waiting), now);
            status.journal.get_or_insert_default().moved_at = Some(whole_seconds(now));
            Step::Record(Box::new(status))
        }
        Turn::WaitOut(until) => {
            let left = Duration::try_from(until.duration_since(now)).unwrap_or_default() + Duration::from_millis(100);
            wait("Moving", "the app serves on its old Nodes until no cache leads there any more", left, false)
        }
        Turn::Remove(name) => backward::remove(seen, facts, name, now),
        Turn::Done { leftovers } if !leftovers.is_empty() => backward::leave(seen, facts, leftovers),
        Turn::Done { .. } => match moved(seen) {
            Some(status) => Step::Record(Box::new(status)),
            None => publish::former(seen, facts, now)
                .or_else(|| publish::prove(seen, facts))
                .unwrap_or_else(|| in_place(seen)),
        },
        // One host after the other, and this one has just come to its end.
        Turn::Deploy(_) => wait("Deploying", "going on to the next Node", Duration::from_millis(100), false),
        _ => Step::Done,
    }
}

/// A target that was left out because nothing can be done there keeps the app from being whole.
fn in_place(seen: &Observed) -> AppStep {
    let blocked = seen.hosts.values().find_map(|host| host.blocked.clone().filter(|_| host.target));
    blocked.map_or(Step::Done, |(reason, message)| wait(reason, message, WATCHED, true))
}

/// Ends the notes of a move that is over.
fn moved(seen: &Observed) -> Option<AppDeploymentStatus> {
    seen.status.journal.as_ref()?.moved_at.as_ref()?;
    let mut status = seen.status.clone();
    if let Some(journal) = &mut status.journal {
        journal.moved_at = None;
    }
    status.journal.take_if(|journal| *journal == crate::api::status::Journal::default());
    Some(status)
}

fn blocked(seen: &Observed, name: &str) -> (&'static str, String) {
    let blocked = seen.hosts.get(name).and_then(|host| host.blocked.clone());
    blocked.unwrap_or_else(|| ("NodeNotReady", format!("Node {name} is not ready for apps")))
}

/// A host that is left, and whose volumes have not been asked for.
fn unmeasured(seen: &Observed, facts: &Facts) -> Option<String> {
    let leaving = |host: &HostView| !host.target && !host.lost() && host.blocked.is_none();
    let open = |(name, host): &(&String, &HostView)| {
        leaving(host) && seen.app.spec.accept_data_loss.as_ref() != Some(*name) && !facts.volumes.contains_key(*name)
    };
    seen.hosts.iter().find(open).map(|(name, _)| name.clone())
}

/// How the app stands on each host.
fn standings(seen: &Observed, facts: &Facts, reading: &Reading) -> Vec<rollout::Host> {
    let of = |(name, host): (&String, &HostView)| rollout::Host {
        name: name.clone(),
        target: host.target,
        standing: standing(host, reading, facts.refused.get(name)),
        reachable: host.blocked.is_none() && !host.lost(),
        lost: host.lost(),
        volumes: facts.volumes.get(name).cloned().unwrap_or_default(),
    };
    seen.hosts.iter().map(of).collect()
}

fn standing(host: &HostView, reading: &Reading, refused: Option<&(&'static str, String)>) -> Standing {
    let journal = &host.journal;
    if journal.coming.is_some() {
        return Standing::OnItsWay;
    }
    if let Some((reason, _)) = refused {
        return Standing::Failed((*reason).to_owned());
    }
    let (revision, cause) = (&reading.revision, &reading.cause);
    let failed = journal.failed.as_ref().filter(|f| f.revision == *revision && f.cause == *cause);
    match (&journal.live, failed) {
        (_, Some(failed)) => Standing::Failed(failed.reason.clone()),
        (Some(live), None) if live.revision == *revision => Standing::Current,
        (Some(_), None) => Standing::Behind,
        (None, None) if !host.target && !journal.kept.is_empty() => Standing::Behind,
        (None, None) if !host.target && (!journal.names.is_empty() || journal.leaving.is_some()) => Standing::Behind,
        (None, None) => Standing::Absent,
    }
}

fn around(seen: &Observed) -> Around {
    let repointed = seen.status.journal.as_ref().and_then(|journal| journal.moved_at.as_ref());
    Around {
        repointed: repointed.map(|time| time.0),
        ttl: publish::ttl(seen),
        accept_data_loss: seen.app.spec.accept_data_loss.clone(),
    }
}

/// The field with a value that this version does not know, if there is one.
fn unknown(seen: &Observed) -> Option<&'static str> {
    let spec = &seen.app.spec;
    if spec.strategy.type_ == StrategyType::Unknown {
        return Some("spec.strategy.type");
    }
    if spec.network == Network::Unknown {
        return Some("spec.network");
    }
    spec.services.iter().any(|service| service.update == Update::Unknown).then_some("spec.services")
}
