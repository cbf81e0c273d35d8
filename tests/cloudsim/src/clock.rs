//! The simulator's clock: real time that can be moved forward, or a time that moves only when told to.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// A clock shared by all its clones.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Where a clock that stands still stands; real time if there is none.
    standing: Option<Timestamp>,
    advanced: Arc<Mutex<SignedDuration>>,
}

impl Clock {
    /// Real time, plus what it is advanced by.
    #[must_use]
    pub fn real() -> Self {
        Self {
            standing: None,
            advanced: Arc::default(),
        }
    }

    /// Stands at `start` and moves only by [`Clock::advance`].
    #[must_use]
    pub fn fixed(start: Timestamp) -> Self {
        Self {
            standing: Some(start),
            advanced: Arc::default(),
        }
    }

    /// The present time, at most the end of representable time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let advanced = self.advanced.lock().unwrap_or_else(PoisonError::into_inner);
        let base = self.standing.unwrap_or_else(Timestamp::now);
        base.checked_add(*advanced).unwrap_or(Timestamp::MAX)
    }

    /// Moves the clock of all clones forward.
    pub fn advance(&self, by: SignedDuration) {
        let mut advanced = self.advanced.lock().unwrap_or_else(PoisonError::into_inner);
        *advanced = advanced.saturating_add(by);
    }
}
