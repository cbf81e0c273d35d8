//! What is recorded after an action: what it did, what it could not do, or that nobody knows.

use jiff::Timestamp;

use super::failure::{Failure, Fallback, Fault, Phase, back_off};
use super::journal::{Journal, Stage};
use super::plan::Action;
use super::seen::Observed;

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was done, and these are the lines, masked and cut by [`super::log::tail`].
    Lines(Vec<String>),
    /// It was not done, or not wholly.
    Failed(Fault),
    /// The connection was lost, or the time was over: it may have been done.
    Unknown(String),
}

/// The journal after an action. Where it is the one there was, nothing is written.
#[must_use]
pub fn conclude(seen: &Observed, action: &Action, outcome: &Outcome, now: Timestamp) -> Journal {
    let journal = &seen.journal;
    let later = |fault: &Fault| {
        let back_off = back_off(journal.back_off.as_ref(), &seen.app, fault, now);
        Journal { back_off: Some(back_off), ..journal.clone() }
    };
    match outcome {
        Outcome::Done => Journal { back_off: None, ..done(seen, action, Vec::new(), now) },
        Outcome::Lines(lines) => Journal { back_off: None, ..done(seen, action, lines.clone(), now) },
        // The host is looked at before anything is repeated.
        Outcome::Unknown(message) => later(&Fault::transient("ConnectionLost", message)),
        Outcome::Failed(fault) if fault.transient => later(fault),
        Outcome::Failed(fault) => {
            let failed = failed(seen, action, fault, now);
            failed.map_or_else(|| later(fault), |journal| Journal { back_off: None, ..journal })
        }
    }
}

fn done(seen: &Observed, action: &Action, lines: Vec<String>, now: Timestamp) -> Journal {
    let mut journal = seen.journal.clone();
    match action {
        Action::Pull(_) => return journal.with_coming(|coming| coming.pulled = true),
        Action::Service { service, .. } => {
            let hash = seen.wanted.as_ref().and_then(|wanted| wanted.hashes.get(service));
            journal.updated.extend(hash.map(|hash| (service.clone(), hash.clone())));
            return journal.with_coming(|coming| coming.needs_since = None);
        }
        Action::Start(_) => match &mut journal.coming {
            Some(coming) => {
                if let Some(undo) = &mut coming.undo {
                    undo.revived = true;
                }
            }
            None => journal.revived = Some(now),
        },
        Action::Logs(_) => logged(&mut journal, lines),
        Action::Prune { revisions, .. } => journal.kept.retain(|kept| !revisions.contains(&kept.revision)),
        _ => {}
    }
    journal
}

fn logged(journal: &mut Journal, lines: Vec<String>) {
    let undo = journal.coming.as_mut().and_then(|coming| coming.undo.as_mut());
    if let Some(failure) = undo.and_then(|undo| undo.failure.as_mut()) {
        failure.logs = Some(lines);
    }
}

/// What follows from a failure that time does not heal; `None` if it has to be tried again all the same, because what
/// it would take to go on is that this succeeds.
fn failed(seen: &Observed, action: &Action, fault: &Fault, now: Timestamp) -> Option<Journal> {
    let journal = &seen.journal;
    match action {
        // A deploy does not fail for want of its lines, nor for an image that somebody else holds.
        Action::Logs(_) | Action::Prune { .. } => return Some(done(seen, action, Vec::new(), now)),
        _ => {}
    }
    let Some(coming) = &journal.coming else { return after_swap(seen, action, fault) };
    if coming.undo.is_some() {
        return None;
    }
    let preparing = coming.stage == Stage::Preparing;
    let phase = match action {
        Action::Pull(_) => Phase::Pull,
        Action::CreateNetwork(_) | Action::ConnectProxy(_) => Phase::Networks,
        Action::Service { .. } => Phase::BeforeSwap,
        Action::PreDeploy { .. } => Phase::PreDeploy,
        Action::Start(_) if preparing => Phase::PreDeploy,
        Action::Up { .. } | Action::Start(_) => Phase::Start,
        Action::Route(_) if coming.stage == Stage::Swapping => Phase::Swap,
        _ => return None,
    };
    let why = failure(&coming.target.revision, &coming.cause, phase, fault, Fallback::default());
    // What did not begin may be begun another time.
    let before = if phase == Phase::PreDeploy { journal.without_ran(&coming.target.revision) } else { journal.clone() };
    Some(before.undoing(Some(why), now))
}

/// A service that goes after the swap: the new revision stays, and is said not to be whole.
fn after_swap(seen: &Observed, action: &Action, fault: &Fault) -> Option<Journal> {
    let (Action::Service { .. }, Some(wanted)) = (action, &seen.wanted) else { return None };
    let why = failure(&wanted.revision, &wanted.cause, Phase::AfterSwap, fault, Fallback::New);
    Some(Journal { failed: Some(why), ..seen.journal.clone() })
}

fn failure(revision: &str, cause: &str, phase: Phase, fault: &Fault, fallback: Fallback) -> Failure {
    Failure {
        revision: revision.to_owned(),
        cause: cause.to_owned(),
        phase,
        reason: fault.reason.to_owned(),
        message: fault.message.clone(),
        logs: None,
        fallback,
    }
}
