//! The status that follows from what was seen (pure).

use jiff::Timestamp;

use super::plan::{self, Observed, Source};
use crate::api::provider::ProviderStatus;
use crate::controllers::access;
use crate::runtime::driver::Outcome;
use crate::runtime::events::Note;

/// The Provider's status after a pass that ended so.
#[must_use]
pub fn status(seen: &Observed, outcome: &Outcome, now: Timestamp) -> ProviderStatus {
    let mut status = seen.status.clone();
    if let Source::Vms { running, vms, .. } = &seen.source {
        if let Some(attempt) = plan::current(seen).filter(|attempt| running.as_ref() == Some(&attempt.version)) {
            status.credential = Some(access::in_use(status.credential.as_ref(), &attempt.version, None, now));
        }
        if let Some(Ok(vms)) = vms {
            status.vms = i64::try_from(*vms).ok();
        }
    }
    status.hold.clone_from(&seen.brakes.hold);
    if let Some(orphans) = &seen.orphans {
        status.orphans.clone_from(orphans);
    }
    let (asked, in_place) = match &seen.source {
        Source::Vms { .. } => (plan::proven(seen).is_some(), "VMs can be created"),
        _ => (false, "the hosts of these networks may be used"),
    };
    let generation = seen.provider.metadata.generation;
    let obstacle = plan::obstacle(seen);
    access::report(&mut status, obstacle.as_ref(), asked, outcome, in_place.to_owned(), generation, now);
    status
}

/// What to tell people: as for any credential, and each new hold once.
#[must_use]
pub fn notes(old: &ProviderStatus, new: &ProviderStatus) -> Vec<Note> {
    let mut notes = access::notes(&super::seen(old), &super::seen(new));
    let id = |status: &ProviderStatus| status.hold.as_ref().map(|hold| hold.id.clone());
    if let Some(hold) = new.hold.as_ref().filter(|_| id(old) != id(new)) {
        let ready = crate::api::condition::get(&new.conditions, crate::api::condition::READY);
        let message = match ready.filter(|ready| ready.reason == hold.reason) {
            Some(ready) => ready.message.clone(),
            None => {
                format!("the brake holds {} Nodes: approve with {}={}", hold.nodes, super::brakes::APPROVE, hold.id)
            }
        };
        notes.push(Note::warning(hold.reason.clone(), message));
    }
    notes
}
