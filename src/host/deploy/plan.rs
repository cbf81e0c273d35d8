//! The next step, from what was seen. Each is exactly one write, or one wait.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::app::Wanted;
use super::failure::{Failure, Phase};
use super::journal::{BackOff, Journal, Target, after, seconds};
use super::seen::{Container, Observed, State, ids};
use super::{coming, removal, route, settled, undo};
use crate::host::compose::overlay::alias;
use crate::host::table::Route;

/// How soon to look again while something is waited for.
const SOON: std::time::Duration = std::time::Duration::from_secs(1);
/// The seconds a container has to end by itself before it is killed.
pub(super) const GRACE: u32 = 10;

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// One write to the host.
    Do(Action),
    /// Store this journal before anything else.
    Record(Box<Journal>),
    /// Nothing but to look, or to probe, again then.
    Wait(Await, Timestamp),
    /// A stored back-off runs until then.
    Hold(BackOff),
    /// What is wanted cannot be had. Nothing is tried until something else is wanted.
    Stop(Box<Failure>),
    /// The project holds containers that are not the app's: nothing is touched.
    Foreign(Vec<String>),
    /// What is wanted runs, whole, and nothing else of the app does.
    Done,
    /// Nothing of the app is left but its named volumes.
    Gone,
}

/// One write to the host. Every one may be repeated, whatever a lost one left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Get the images of a revision.
    Pull(String),
    /// Make the app's network.
    CreateNetwork(String),
    /// Put Caddy on it.
    ConnectProxy(String),
    /// Take Caddy off it.
    DisconnectProxy(String),
    /// Remove a network.
    RemoveNetwork(String),
    /// Make or update a service beside the entry, of this revision.
    Service {
        /// The revision.
        revision: String,
        /// The service.
        service: String,
    },
    /// Run `preDeploy` in a container of this name, which stays when it has ended.
    PreDeploy {
        /// The revision.
        revision: String,
        /// The container's name: no second one can have it.
        name: String,
    },
    /// Make the entry service's containers of a revision until there are `scale` of the service, leaving those that are
    /// there as they are.
    Up {
        /// The revision.
        revision: String,
        /// The service.
        service: String,
        /// How many containers of the service, whatever their revision.
        scale: usize,
        /// Whether they are started: not where stopped ones would be started with them.
        start: bool,
    },
    /// Start containers.
    Start(Vec<String>),
    /// Stop containers, and keep them.
    Stop {
        /// Their ids.
        ids: Vec<String>,
        /// How many seconds they have.
        grace: u32,
    },
    /// Remove containers and what only they could use.
    Remove(Vec<String>),
    /// Replace the app's entries of the routing table.
    Route(BTreeMap<String, Route>),
    /// Read the last lines of containers.
    Logs(Vec<String>),
    /// Remove images of ours, by id, and the files of revisions.
    Prune {
        /// The images' ids.
        images: BTreeSet<String>,
        /// The revisions.
        revisions: BTreeSet<String>,
    },
    /// Remove the app's directory.
    RemoveDirectory,
}

/// What is waited for. A runner probes what it names before it asks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Await {
    /// The network `edge`, which the host's bootstrap makes.
    Network(String),
    /// A service that another needs, to be healthy or to have ended well.
    Service(String),
    /// The end of `preDeploy`.
    PreDeploy,
    /// An answer of these containers of the entry service: a GET of this path at this port.
    Internal {
        /// The containers' ids.
        ids: Vec<String>,
        /// The port.
        port: u16,
        /// The path.
        path: String,
    },
    /// An answer of these names from outside.
    External(BTreeSet<String>),
    /// That what was replaced ends what it has begun.
    Drain,
    /// That somebody ends the suspension.
    Resumed,
}

/// Chooses the next step.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> Step {
    let foreign = |c: &&Container| c.app.as_ref() != Some(&seen.app);
    let foreign = ids(seen.host.containers.iter().filter(foreign));
    if !foreign.is_empty() {
        return Step::Foreign(foreign);
    }
    if let Some(back_off) = seen.journal.back_off.as_ref().filter(|back_off| now < back_off.not_before) {
        return Step::Hold(back_off.clone());
    }
    let Some(wanted) = &seen.wanted else { return removal::plan(seen, now) };
    if seen.journal.leaving.is_some() {
        return record(Journal { leaving: None, ..seen.journal.clone() });
    }
    adopt(seen, wanted)
        .or_else(|| coming::turn_back(seen, wanted, now))
        .or_else(|| routed(seen, wanted))
        .unwrap_or_else(|| match &seen.journal.coming {
            Some(coming) => match &coming.undo {
                Some(back) => undo::plan(seen, coming, back, now),
                None => coming::plan(seen, wanted, coming, now),
            },
            None => settled::plan(seen, wanted, now),
        })
}

/// The journal was lost, but a name leads to a revision that is there: that one is live.
fn adopt(seen: &Observed, wanted: &Wanted) -> Option<Step> {
    if seen.journal.live.is_some() || seen.journal.coming.is_some() {
        return None;
    }
    let to = |container: &Container, revision: &str| {
        seen.host.routes.values().find_map(|route| match route {
            Route::Upstream { alias: at, port, .. } if **at == *alias(&seen.app, revision) => {
                Some((container.service.clone(), revision.to_owned(), *port))
            }
            _ => None,
        })
    };
    let mut routed = seen.host.containers.iter().filter(|c| !c.one_off);
    let (service, revision, port) = routed.find_map(|c| to(c, c.revision.as_deref()?))?;
    let mut live = Target { revision, service, port, ..wanted.target() };
    live.replicas = u32::try_from(seen.of(&live).len()).unwrap_or(1);
    Some(record(Journal { live: Some(live), ..seen.journal.clone() }))
}

/// The names lead where the journal says, and are written down before they lead anywhere.
fn routed(seen: &Observed, wanted: &Wanted) -> Option<Step> {
    #[cfg(test)]
    if super::seeded::is(super::seeded::Seeded::RouteLast)
        && seen
            .journal
            .coming
            .as_ref()
            .is_some_and(|coming| coming.undo.is_some() && !seen.of(&coming.target).is_empty())
    {
        return None;
    }
    let routes = route::routes(&seen.app, wanted, &seen.journal);
    let names: BTreeSet<String> = routes.keys().cloned().collect();
    if !names.is_subset(&seen.journal.names) {
        let names = seen.journal.names.union(&names).cloned().collect();
        return Some(record(Journal { names, ..seen.journal.clone() }));
    }
    if seen.host.routes != routes {
        return Some(Step::Do(Action::Route(routes)));
    }
    (seen.journal.names != names).then(|| record(Journal { names, ..seen.journal.clone() }))
}

/// Brings up what is missing of a revision's entry service: what was never made, and what was made and never started.
pub(super) fn bring_up(seen: &Observed, target: &Target) -> Option<Action> {
    let (mine, others) = (seen.of(target), seen.others(target));
    let created = || mine.iter().copied().filter(|c| c.state == State::Created);
    let missing = mine.len() < target.replicas as usize;
    if !missing && created().next().is_none() {
        return None;
    }
    let aside = ids(others.iter().copied().filter(|c| !c.is_up()));
    #[cfg(test)]
    let aside = if super::seeded::is(super::seeded::Seeded::StartStopped) { Vec::new() } else { aside };
    if target.alone && !aside.is_empty() {
        return Some(Action::Remove(aside));
    }
    if missing || aside.is_empty() {
        return Some(Action::Up {
            revision: target.revision.clone(),
            service: target.service.clone(),
            scale: others.len() + mine.len().max(target.replicas as usize),
            start: aside.is_empty(),
        });
    }
    Some(Action::Start(ids(created())))
}

/// The ids of those that run.
pub(super) fn up<'a>(containers: impl IntoIterator<Item = &'a Container>) -> Vec<String> {
    ids(containers.into_iter().filter(|c| c.is_up()))
}

/// Takes containers away: those that run are stopped first, so that what they have begun can end.
pub(super) fn take_away(containers: &[&Container]) -> Option<Action> {
    let running = up(containers.iter().copied());
    if !running.is_empty() {
        return Some(Action::Stop { ids: running, grace: GRACE });
    }
    (!containers.is_empty()).then(|| Action::Remove(ids(containers.iter().copied())))
}

pub(super) fn record(journal: Journal) -> Step {
    Step::Record(Box::new(journal))
}

pub(super) fn wait(what: Await, now: Timestamp) -> Step {
    Step::Wait(what, after(now, SOON))
}

/// Waits for the containers of a revision to answer inside.
pub(super) fn ask_inside(seen: &Observed, target: &Target, now: Timestamp) -> Step {
    let ids = ids(seen.of(target));
    wait(Await::Internal { ids, port: target.port, path: target.health_path.clone() }, now)
}

/// Whether what was replaced has had its time.
pub(super) fn drained(since: Timestamp, drain: u32, now: Timestamp) -> Option<Step> {
    let end = after(since, seconds(drain));
    (now < end).then_some(Step::Wait(Await::Drain, end))
}

/// A failure of what is on its way.
pub(super) fn failure(wanted: (&str, &str), phase: Phase, reason: &str, message: String) -> Failure {
    let (revision, cause) = (wanted.0.to_owned(), wanted.1.to_owned());
    let reason = reason.to_owned();
    Failure { revision, cause, phase, reason, message, logs: None, fallback: super::failure::Fallback::default() }
}
