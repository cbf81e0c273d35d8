//! What an Environment has to remember from one pass to the next, kept as entries of its `status.journal`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::environment::EnvironmentStatus;
use crate::api::status::Journal;

/// Entries of the journal that only Environments have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// How many derived slugs turned out to be taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub collisions: u32,
    /// UID of the child that was once published: its VM is never rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<String>,
    /// The end that people were warned of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warned: Option<Time>,
    /// The last rollback, until a child is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
}

/// Why a VM was removed, and when the next one may be tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// UID of the child that is, or was, removed.
    pub node: String,
    /// Why its name could not be published, as a reason.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// The generation of the Environment that failed: a new one is tried at once.
    pub generation: i64,
    /// How many children in a row were removed for this generation.
    pub attempts: u32,
    /// Not before this time is the same generation tried again.
    pub not_before: Time,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Memory {
    /// What `status` remembers. An entry that cannot be read, because a person edited it, is as if it were not there.
    #[must_use]
    pub fn of(status: &EnvironmentStatus) -> Self {
        let Some(journal) = &status.journal else { return Self::default() };
        let entry = |name: &str| journal.other.get(name).cloned().unwrap_or_default();
        Self {
            collisions: serde_json::from_value(entry("collisions")).unwrap_or_default(),
            established: serde_json::from_value(entry("established")).unwrap_or_default(),
            warned: serde_json::from_value(entry("warned")).unwrap_or_default(),
            rollback: Rollback::of(status),
        }
    }

    /// Writes these entries into `status`; others stay as they are.
    pub fn store(&self, status: &mut EnvironmentStatus) {
        // Plain fields without a map whose keys could fail.
        let Ok(Value::Object(entries)) = serde_json::to_value(self) else { return };
        let mut journal = status.journal.take().unwrap_or_default();
        for name in ["collisions", "established", "warned", "rollback"] {
            journal.other.remove(name);
        }
        journal.other.extend(Map::into_iter(entries));
        status.journal = (journal != Journal::default()).then_some(journal);
    }
}

impl Rollback {
    /// The rollback `status` remembers; none if a person broke its entry.
    #[must_use]
    pub fn of(status: &EnvironmentStatus) -> Option<Self> {
        let entry = status.journal.as_ref()?.other.get("rollback")?;
        serde_json::from_value(entry.clone()).ok()
    }

    /// Whether the Environment, now of `generation`, may be tried again.
    #[must_use]
    pub fn is_over(&self, generation: Option<i64>, now: Timestamp) -> bool {
        generation != Some(self.generation) || self.not_before.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let at = Time(Timestamp::from_second(1_800_000_000).unwrap());
        let rollback = Rollback {
            node: "u".into(),
            reason: "ForeignRecord".into(),
            message: "m".into(),
            generation: 2,
            attempts: 3,
            not_before: at.clone(),
        };
        Memory { collisions: 2, established: Some("v".into()), warned: Some(at), rollback: Some(rollback) }
    }

    #[test]
    fn memory_reads_back_and_leaves_other_entries_alone() {
        let mut status = EnvironmentStatus::default();
        let other = ("later".to_owned(), Value::from(7));
        status.journal =
            Some(Journal { intent: Some("CreateNode".into()), other: [other.clone()].into(), ..Journal::default() });
        memory().store(&mut status);
        assert_eq!(Memory::of(&status), memory());
        Memory::default().store(&mut status);
        let journal = status.journal.unwrap();
        assert_eq!((journal.intent.as_deref(), journal.other), (Some("CreateNode"), [other].into()));
    }

    #[test]
    fn memory_survives_the_api_servers_json() {
        let mut status = EnvironmentStatus::default();
        memory().store(&mut status);
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(Memory::of(&serde_json::from_str(&text).unwrap()), memory());
    }

    #[test]
    fn an_entry_that_a_person_broke_is_as_if_it_were_not_there() {
        let mut status = EnvironmentStatus::default();
        memory().store(&mut status);
        status.journal.as_mut().unwrap().other.insert("rollback".into(), Value::from("soon"));
        assert_eq!(Memory::of(&status), Memory { rollback: None, ..memory() });
    }

    #[test]
    fn nothing_to_remember_leaves_no_journal() {
        let mut status = EnvironmentStatus::default();
        Memory::default().store(&mut status);
        assert_eq!(status.journal, None);
    }
}
