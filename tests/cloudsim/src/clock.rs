//! The simulator's clock: real time plus an offset that tests move forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// Shared by everything in one simulator; clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
    /// Time stands still at this moment, plus the offset.
    fixed: Option<Timestamp>,
}

impl Clock {
    /// A clock that stands still until it is advanced.
    #[must_use]
    pub fn fixed(at: Timestamp) -> Self {
        Self { offset_ms: Arc::default(), fixed: Some(at) }
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.offset_ms.load(Ordering::Relaxed));
        let base = self.fixed.unwrap_or_else(Timestamp::now);
        base.checked_add(offset).unwrap_or(base)
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: SignedDuration) {
        self.offset_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}
