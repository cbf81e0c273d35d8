//! The status that follows from what was seen (pure).

use jiff::Timestamp;

use super::observe::expiry;
use super::plan::{self, Observed};
use crate::api::zone::ZoneStatus;
use crate::controllers::access;
use crate::runtime::driver::Outcome;

/// The Zone's status after a pass that ended so.
#[must_use]
pub fn status(seen: &Observed, outcome: &Outcome, now: Timestamp) -> ZoneStatus {
    let mut status = seen.status.clone();
    if let (Some(attempt), Some(found)) = (plan::current(seen), plan::proven(seen)) {
        status.plan = Some(found.plan.clone()).filter(|plan| !plan.is_empty());
        status.name_servers.clone_from(&found.name_servers);
        status.name_servers.sort();
        let installed = seen.writer.as_ref().is_some_and(|w| w.token_version.as_ref() == Some(&attempt.version));
        if installed {
            let expires = expiry(found.token_expires.as_deref());
            status.credential = Some(access::in_use(status.credential.as_ref(), &attempt.version, expires, now));
        }
    }
    if let Some(records) = seen.writer.as_ref().and_then(|writer| writer.records) {
        status.records = i64::try_from(records.ours).ok();
    }
    if let Some(orphans) = &seen.orphans {
        status.orphans.clone_from(orphans);
    }
    if let Some(orphans) = &seen.orphan_workers {
        status.orphan_workers.clone_from(orphans);
    }
    let obstacle = plan::obstacle(seen);
    let asked = plan::proven(seen).is_some();
    let in_place = format!("names may be published in {}", seen.zone.spec.domain);
    access::report(&mut status, obstacle.as_ref(), asked, outcome, in_place, seen.zone.metadata.generation, now);
    status
}
