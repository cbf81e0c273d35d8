//! What a zone's names held earlier, for DNS servers that run behind.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::state::RecordInfo;

/// Changes older than this are forgotten: no server runs further behind.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// The records of each name after each of its changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(HashMap<String, Vec<(Timestamp, Vec<RecordInfo>)>>);

impl History {
    /// Notes what a name holds from `now` on.
    pub(super) fn note(&mut self, name: &str, now: Timestamp, records: Vec<RecordInfo>) {
        let changes = self.0.entry(name.to_owned()).or_default();
        // The newest change before the limit still says what held at the limit.
        let forgotten = changes.partition_point(|(at, _)| now.duration_since(*at) > KEPT).saturating_sub(1);
        changes.drain(..forgotten);
        // Changes of one moment are one: only the last counts.
        changes.retain(|(at, _)| *at < now);
        changes.push((now, records));
    }

    /// What a name held at `moment`.
    pub(super) fn at(&self, name: &str, moment: Timestamp) -> Vec<RecordInfo> {
        let Some(changes) = self.0.get(name) else { return Vec::new() };
        let seen = changes.partition_point(|(at, _)| *at <= moment);
        seen.checked_sub(1).map(|newest| changes[newest].1.clone()).unwrap_or_default()
    }
}
