//! What a test may turn: how slow, how inconsistent and how strict the simulated API is.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Delays, consistency and limits of the simulated API. Durations are milliseconds of the simulator's clock and
/// apply to droplets and actions begun after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// From the create call until the droplet's status is `active` and its create action is completed.
    pub active_after_ms: u64,
    /// From `active` until the droplet shows its addresses.
    pub address_after_ms: u64,
    /// How long power, rename and other actions run.
    pub action_takes_ms: u64,
    /// From the delete call until the droplet answers 404 and its address is free for another.
    pub delete_takes_ms: u64,
    /// From the create call until listings contain the droplet; by id it is found at once.
    pub listing_lag_ms: u64,
    /// From the moment a deleted droplet answers 404 until listings drop it.
    pub linger_ms: u64,
    /// From the create call until the droplet carries its tags (and is found by them).
    pub tag_lag_ms: u64,
    /// Refuse to delete a droplet with 422 while one of its actions is running.
    pub pending_event_blocks_delete: bool,
    /// Requests per token in any sliding hour.
    pub requests_per_hour: usize,
    /// Requests per token in any sliding minute.
    pub requests_per_minute: usize,
}

impl Default for Settings {
    /// Short but visible delays, full consistency, and `DigitalOcean`'s own request limits.
    fn default() -> Self {
        Self {
            active_after_ms: 1_000,
            address_after_ms: 500,
            action_takes_ms: 500,
            delete_takes_ms: 500,
            listing_lag_ms: 0,
            linger_ms: 0,
            tag_lag_ms: 0,
            pending_event_blocks_delete: false,
            requests_per_hour: 5_000,
            requests_per_minute: 250,
        }
    }
}

impl Settings {
    /// Everything happens at once; for tests that are not about delays.
    #[must_use]
    pub fn immediate() -> Self {
        Self { active_after_ms: 0, address_after_ms: 0, action_takes_ms: 0, delete_takes_ms: 0, ..Self::default() }
    }
}

/// `start` plus `milliseconds`, at most the end of representable time.
pub(super) fn after(start: Timestamp, milliseconds: u64) -> Timestamp {
    let delay = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    start.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// A time as the API writes it: UTC, whole seconds.
pub(super) fn api_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
