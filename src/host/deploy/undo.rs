//! A revision on its way back. The names lead to the old one again before this begins.

use jiff::Timestamp;

use super::coming::answers;
use super::failure::{Failure, Fallback, Phase};
use super::journal::{Coming, Journal, Stage, Target, Undo, after};
use super::plan::{Action, Step, ask_inside, bring_up, record, take_away};
use super::seen::{Container, Health, Observed, State, ids};

/// The next step back: the new revision's last lines, its containers, and the old ones if they had to be stopped.
pub(super) fn plan(seen: &Observed, coming: &Coming, back: &Undo, now: Timestamp) -> Step {
    let mut theirs = seen.of(&coming.target);
    theirs.extend(seen.one_off(&coming.target.revision));
    if let Some(failure) = back.failure.as_ref().filter(|failure| failure.logs.is_none()) {
        let talkers = talkers(seen, failure, &theirs);
        if !talkers.is_empty() {
            return Step::Do(Action::Logs(talkers));
        }
    }
    if let Some(journal) = interrupted(seen) {
        return record(journal);
    }
    if let Some(action) = take_away(&theirs) {
        return Step::Do(action);
    }
    let Some(live) = &seen.journal.live else { return record(over(seen, back, Fallback::Placeholder)) };
    if now < after(back.since, live.limit())
        && let Some(step) = restore(seen, live, coming, back, now)
    {
        return step;
    }
    let serves = if stops_the_old(coming) {
        answers(seen, live, back.since)
    } else {
        seen.of(live).into_iter().any(Container::is_up)
    };
    record(over(seen, back, if serves { Fallback::Previous } else { Fallback::PreviousSilent }))
}

/// What is to be written down of a `preDeploy` before its container goes: how it ended, or that it never began. One that
/// was stopped counts as failed, for it did part of what it does.
pub(super) fn interrupted(seen: &Observed) -> Option<Journal> {
    let open = |c: &&Container| c.one_off && !c.is_up();
    seen.host.containers.iter().filter(open).find_map(|container| {
        let ran = seen.journal.ran(container.revision.as_deref()?).filter(|ran| ran.ok.is_none())?;
        Some(match container.state {
            State::Created => seen.journal.without_ran(&ran.revision),
            _ => seen.journal.with_ran(&ran.revision, ran.at, Some(container.exit_code == 0)),
        })
    })
}

/// Whose lines tell why it failed.
fn talkers(seen: &Observed, failure: &Failure, theirs: &[&Container]) -> Vec<String> {
    if failure.phase != Phase::BeforeSwap {
        return ids(theirs.iter().copied());
    }
    let ill = |c: &&Container| {
        let beside = !c.one_off && c.revision.is_none();
        beside && ((c.state == State::Exited && c.exit_code != 0) || c.health == Some(Health::Unhealthy))
    };
    ids(seen.host.containers.iter().filter(ill))
}

fn stops_the_old(coming: &Coming) -> bool {
    coming.target.recreate && coming.stage >= Stage::Starting
}

/// The old revision runs and answers again.
fn restore(seen: &Observed, live: &Target, coming: &Coming, back: &Undo, now: Timestamp) -> Option<Step> {
    if let Some(action) = bring_up(seen, live) {
        return Some(Step::Do(action));
    }
    let mut stopped = seen.of(live);
    if stops_the_old(coming) {
        // What the new entry's service was before: it was stopped with the old revision.
        stopped.extend(seen.others(&coming.target).into_iter().filter(|c| c.revision.is_none()));
    }
    stopped.retain(|c| c.state == State::Exited);
    if !stopped.is_empty() && !back.revived {
        return Some(Step::Do(Action::Start(ids(stopped))));
    }
    (stops_the_old(coming) && !answers(seen, live, back.since)).then(|| ask_inside(seen, live, now))
}

fn over(seen: &Observed, back: &Undo, fallback: Fallback) -> Journal {
    let failed = back.failure.clone().map(|failure| Failure { fallback, ..failure });
    Journal { coming: None, failed, ..seen.journal.clone() }
}
