//! The annotation `roadstead.dev/rollback`: it names a revision that is wanted in place of the spec's, and is void at the
//! next change of the spec. A field would be set back by whatever applies the object from a repository.

use serde::{Deserialize, Serialize};

use super::super::observe::Observed;
use crate::api::app_deployment::AppDeploymentStatus;

/// The entry of the journal.
const ENTRY: &str = "rollback";

/// A rollback that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// To this revision.
    pub revision: String,
    /// When the spec had this generation.
    pub generation: i64,
}

impl Rollback {
    /// The one that is in force.
    #[must_use]
    pub fn of(seen: &Observed) -> Option<Self> {
        let known = known(seen)?;
        let asked = seen.annotation(ENTRY) == Some(known.revision.as_str());
        (asked && Some(known.generation) == seen.app.metadata.generation).then_some(known)
    }
}

fn known(seen: &Observed) -> Option<Rollback> {
    let entry = seen.status.journal.as_ref()?.other.get(ENTRY)?;
    serde_json::from_value(entry.clone()).ok()
}

/// The status that notes what was asked for, unless it is noted.
pub(super) fn noted(seen: &Observed) -> Option<AppDeploymentStatus> {
    let (asked, known) = (seen.annotation(ENTRY), known(seen));
    if asked == known.as_ref().map(|known| known.revision.as_str()) {
        return None;
    }
    let mut status = seen.status.clone();
    let journal = status.journal.get_or_insert_default();
    match asked {
        Some(revision) => {
            let generation = seen.app.metadata.generation.unwrap_or_default();
            let entry = serde_json::json!({"revision": revision, "generation": generation});
            journal.other.insert(ENTRY.to_owned(), entry);
        }
        None => drop(journal.other.remove(ENTRY)),
    }
    Some(status)
}
