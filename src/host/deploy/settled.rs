//! Nothing is on its way: what was replaced is taken away, what drifted is repaired, and something new may begin.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::app::Wanted;
use super::coming::{changes, is_due, networks};
use super::journal::{Journal, Kept, Target, after};
use super::plan::{Action, Await, Step, bring_up, drained, record, take_away};
use super::seen::{Container, Observed, State, ids};
use crate::host::compose::overlay::network;

/// How long after a start containers that ended again are left alone: Docker starts those again that want it.
const REVIVAL: Duration = Duration::from_secs(300);
/// How soon to look again at an app that is suspended. Its spec wakes it before.
const SUSPENDED: Duration = Duration::from_secs(300);

/// The next step of an app on whose host nothing is on its way.
pub(super) fn plan(seen: &Observed, wanted: &Wanted, now: Timestamp) -> Step {
    let journal = &seen.journal;
    let live = journal.live.as_ref();
    if let Some(step) = leftovers(seen, now) {
        return step;
    }
    let is_live = live.is_some_and(|live| live.revision == wanted.revision);
    let same =
        |failure: &&super::failure::Failure| failure.revision == wanted.revision && failure.cause == wanted.cause;
    let failed = journal.failed.as_ref().filter(same);
    if wanted.suspend {
        return Step::Wait(Await::Resumed, after(now, SUSPENDED));
    }
    if !is_live && failed.is_none() {
        return record(journal.begin(wanted, now));
    }
    if is_live && let Some(step) = networks(seen, wanted, now) {
        return step;
    }
    if let Some(action) = live.and_then(|live| repair(seen, live, now)) {
        return Step::Do(action);
    }
    if is_live && let Some(step) = finish(seen, wanted, failed.is_none()) {
        return step;
    }
    match failed {
        Some(failure) => Step::Stop(Box::new(failure.clone())),
        None if journal.failed.is_some() => record(Journal { failed: None, ..journal.clone() }),
        None => Step::Done,
    }
}

/// What is of no revision that is wanted or live: after its time to drain it is stopped, then removed, by its ids.
fn leftovers(seen: &Observed, now: Timestamp) -> Option<Step> {
    let live = seen.journal.live.as_ref();
    let mut surplus = seen.surplus(&live.into_iter().collect::<Vec<_>>());
    // What had no revision when it was no entry.
    let plain = |live: &Target| seen.others(live).into_iter().filter(|c| c.revision.is_none()).collect::<Vec<_>>();
    surplus.extend(live.map(plain).unwrap_or_default());
    if let Some(since) = seen.journal.draining {
        if surplus.is_empty() {
            return Some(record(Journal { draining: None, ..seen.journal.clone() }));
        }
        if let Some(wait) = drained(since, live.map_or(0, |live| live.drain), now) {
            return Some(wait);
        }
    }
    surplus.extend(seen.host.containers.iter().filter(|c| c.one_off));
    take_away(&surplus).map(Step::Do)
}

/// The live revision as it should be: what is missing is made, what was stopped is started, once in a while.
fn repair(seen: &Observed, live: &Target, now: Timestamp) -> Option<Action> {
    let ended = || ids(seen.of(live).into_iter().filter(|c| c.state == State::Exited));
    let again = seen.journal.revived.is_none_or(|revived| now >= after(revived, REVIVAL));
    bring_up(seen, live).or_else(|| (again && !ended().is_empty()).then(|| Action::Start(ended())))
}

/// What comes after the swap: services, those that are gone, images.
fn finish(seen: &Observed, wanted: &Wanted, services: bool) -> Option<Step> {
    let changes = changes(seen, wanted);
    let mut due = changes.before.iter().chain(&changes.after).filter(|step| is_due(seen, wanted, step));
    if services && let Some((service, _)) = due.next() {
        let (revision, service) = (wanted.revision.clone(), service.clone());
        return Some(Step::Do(Action::Service { revision, service }));
    }
    let gone = |c: &&Container| !c.one_off && changes.removed.contains(&c.service);
    if let Some(action) = take_away(&seen.host.containers.iter().filter(gone).collect::<Vec<_>>()) {
        return Some(Step::Do(action));
    }
    if let Some(action) = former_network(seen, wanted) {
        return Some(Step::Do(action));
    }
    let images = seen.images();
    if !seen.journal.kept.iter().any(|kept| kept.revision == wanted.revision && kept.images == images) {
        return Some(record(seen.journal.keeping(&wanted.revision, images)));
    }
    prune(seen, &wanted.revision, wanted.history).map(Step::Do)
}

/// The app's own network, once Caddy reaches the app by another: it would keep its subnet for ever.
fn former_network(seen: &Observed, wanted: &Wanted) -> Option<Action> {
    let own = network(&seen.app);
    let former = seen.host.networks.get(&own).filter(|of| of.ours && wanted.ingress.network() != own)?;
    Some(if former.proxied { Action::DisconnectProxy(own) } else { Action::RemoveNetwork(own) })
}

/// The revisions beyond the history, and of their images those that no other revision and no container has.
fn prune(seen: &Observed, live: &str, history: usize) -> Option<Action> {
    let others = || seen.journal.kept.iter().filter(|kept| kept.revision != live);
    let revisions: BTreeSet<String> = others().skip(history).map(|kept| kept.revision.clone()).collect();
    if revisions.is_empty() {
        return None;
    }
    let (forgotten, kept): (Vec<&Kept>, Vec<&Kept>) =
        seen.journal.kept.iter().partition(|kept| revisions.contains(&kept.revision));
    let images = |of: Vec<&Kept>| of.into_iter().flat_map(|kept| kept.images.clone()).collect::<BTreeSet<_>>();
    let free = |image: &String| seen.host.images.get(image) == Some(&false);
    let images = images(forgotten).difference(&images(kept)).filter(|image| free(image)).cloned().collect();
    Some(Action::Prune { images, revisions })
}
