//! How a pass ends: what its status is made of, and when the next one comes (pure).

use std::time::Duration;

use jiff::Timestamp;

use super::backoff;
use super::fault::Fault;
use crate::api::condition::whole_seconds;
use crate::api::status::Journal;

/// Why nothing can be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: String,
    /// When to look again.
    pub after: Duration,
    /// Whether Ready keeps its value: true where merely looking failed.
    pub keep_ready: bool,
}

/// How a pass ended; what `report` makes a status of.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// [`Step::Done`](super::driver::Step::Done).
    Done,
    /// [`Step::Wait`](super::driver::Step::Wait).
    Waiting(Wait),
    /// [`Step::Stop`](super::driver::Step::Stop), or a terminal fault.
    Stopped {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
    /// A transient fault; the back-off is stored with the status.
    Failed {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
}

impl Outcome {
    /// Whether it says nothing of the object: a look failed, or a try that is repeated.
    #[must_use]
    pub fn is_a_failed_look(&self) -> bool {
        match self {
            Self::Waiting(wait) => wait.keep_ready,
            Self::Failed { .. } => true,
            Self::Done | Self::Stopped { .. } => false,
        }
    }

    /// A word for metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting(_) => "waiting",
            Self::Stopped { .. } => "stopped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// How a pass ended, and what the queue is told.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// What the status is made of.
    pub outcome: Outcome,
    /// When to look again.
    pub after: Duration,
    /// Whether it counts as a failed attempt, whose back-off is stored.
    pub failed: bool,
}

impl Ended {
    /// An end that is no failed attempt.
    pub fn plain(outcome: Outcome, after: Duration) -> Self {
        Self { outcome, after, failed: false }
    }

    /// The end that a fault of a step makes. What only a person can mend is looked at again after `resync`.
    ///
    /// # Errors
    /// The fault itself where there is nothing to report: the object is gone, or another than the one that was seen.
    pub fn of(fault: Fault, resync: Duration) -> Result<Self, Fault> {
        Ok(match fault {
            Fault::Transient { reason, message } => {
                Self { outcome: Outcome::Failed { reason, message }, after: Duration::ZERO, failed: true }
            }
            Fault::Terminal { reason, message } => {
                Self { outcome: Outcome::Stopped { reason, message }, after: resync, failed: true }
            }
            Fault::Waiting { reason, message, after } => {
                let wait = Wait { reason, message, after, keep_ready: true };
                Self::plain(Outcome::Waiting(wait), after)
            }
            Fault::RateLimited(after) => {
                let message = "waiting for the API's rate limit".to_owned();
                Self::plain(Outcome::Waiting(Wait { reason: "RateLimited", message, after, keep_ready: true }), after)
            }
            Fault::Conflict | Fault::Gone => return Err(fault),
        })
    }

    /// Stores the back-off of a failed attempt in the journal, and returns when to look again. `jitter` is in
    /// `0.0..1.0`.
    pub fn store(&self, journal: Option<&mut Option<Journal>>, jitter: f64, now: Timestamp) -> Duration {
        let Some(journal) = journal else {
            // Kinds without a journal keep their own back-off; this only keeps a fault they do not know from spinning.
            return if self.failed { self.after.max(backoff::after(1, jitter)) } else { self.after };
        };
        let mut after = self.after;
        if self.failed {
            let journal = journal.get_or_insert_with(Journal::default);
            let attempts = journal.attempts.unwrap_or(0).saturating_add(1);
            // Rounded up: a time without fractions must not come early.
            let not_before = whole_seconds(now + after.max(backoff::after(attempts, jitter)) + ALMOST_A_SECOND);
            after = Duration::try_from(not_before.0.duration_since(now)).unwrap_or(after);
            journal.attempts = Some(attempts);
            journal.not_before = Some(not_before);
        }
        journal.take_if(|journal| *journal == Journal::default());
        after
    }
}

const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);
