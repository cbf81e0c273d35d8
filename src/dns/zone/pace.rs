//! When the writer of a zone goes to work: how long it collects changes, how long it waits after a failure, and
//! whether reading single names is still cheaper than listing the zone.

use std::time::Duration;

use tokio::time::Instant;

use crate::dns::cloudflare::PER_PAGE;
use crate::outside::OutsideError;

/// How long nothing may have changed before a batch goes out, and the gap after a batch that followed a quiet time.
const WINDOW: Duration = Duration::from_millis(50);
/// The longest a change waits for others, and the gap between batches while changes keep arriving.
const WINDOW_MAX: Duration = Duration::from_secs(1);
/// A gap this long between two batches means that it is quiet again.
const QUIET: Duration = Duration::from_secs(2);
/// Failures are repeated after this, doubling …
const RETRY: Duration = Duration::from_secs(1);
/// … up to this, which is also the wait where only a person can help.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// Up to so many names are read one by one …
const BY_NAME: usize = 20;
/// … as long as no more than so many were in the last minute: a steady stream of changes costs less by listing.
const BY_NAME_A_MINUTE: usize = 60;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The first and the last change since the last pass began.
    changes: Option<(Instant, Instant)>,
    gap: Duration,
    ended: Option<Instant>,
    failures: u32,
    /// After passes that got through and yet left something to write: when to try again.
    hold: Option<Instant>,
    stale_passes: u32,
    by_name: Option<(Instant, usize)>,
}

impl Pace {
    /// Something was asked for.
    pub fn change(&mut self, now: Instant) {
        let first = self.changes.map_or(now, |(first, _)| first);
        self.changes = Some((first, now));
    }

    /// When what waits is taken up.
    pub fn flush_at(&self, now: Instant) -> Instant {
        let Some((first, last)) = self.changes else { return self.hold.unwrap_or(now) };
        let collected = (last + WINDOW).min(first + WINDOW_MAX);
        self.ended.map_or(collected, |ended| collected.max(ended + self.gap))
    }

    /// A pass takes up what waits.
    pub fn began(&mut self, now: Instant) {
        let busy = self.ended.is_some_and(|ended| now.duration_since(ended) < QUIET);
        self.gap = if busy { (self.gap * 2).clamp(WINDOW, WINDOW_MAX) } else { WINDOW };
        self.changes = None;
    }

    /// A pass ended, and left something to write or not.
    pub fn ended(&mut self, open: bool, now: Instant) {
        self.ended = Some(now);
        self.stale_passes = if open { self.stale_passes + 1 } else { 0 };
        self.hold = open.then(|| now + doubling(self.stale_passes));
    }

    /// How long to wait after this failure.
    pub fn failed(&mut self, error: &OutsideError) -> Duration {
        self.failures += 1;
        match error {
            OutsideError::RateLimited { after } => (*after).max(WINDOW),
            OutsideError::Unavailable(_) | OutsideError::Unknown(_) => {
                doubling(self.failures).mul_f64(0.75 + fastrand::f64() * 0.25)
            }
            OutsideError::Unauthorized(_) | OutsideError::Forbidden(_) | OutsideError::Refused { .. } => RETRY_MAX,
        }
    }

    /// The zone can be read and written.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether `names` are read one by one in a zone of `zone` records. Each is read twice, before and after.
    pub fn by_name(&mut self, names: usize, zone: usize, now: Instant) -> bool {
        if names <= zone.div_ceil(PER_PAGE).max(1) {
            return true;
        }
        let (since, read) =
            self.by_name.filter(|(since, _)| now.duration_since(*since) < Duration::from_mins(1)).unwrap_or((now, 0));
        let admitted = names <= BY_NAME && read + names <= BY_NAME_A_MINUTE;
        self.by_name = Some((since, if admitted { read + names } else { read }));
        admitted
    }
}

/// 1 s, 2 s, 4 s … 60 s.
fn doubling(attempt: u32) -> Duration {
    RETRY.saturating_mul(1 << attempt.saturating_sub(1).min(6)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lone_change_waits_fifty_milliseconds_and_a_stream_at_most_a_second() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.change(start);
        assert_eq!(pace.flush_at(start), start + WINDOW);
        for tenth in 1..40 {
            pace.change(start + Duration::from_millis(tenth * 40));
        }
        assert_eq!(pace.flush_at(start), start + WINDOW_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_gap_between_batches_grows_to_a_second_while_changes_arrive_and_shrinks_when_it_is_quiet() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        let mut gaps = Vec::new();
        for _ in 0..8 {
            pace.change(now);
            now = pace.flush_at(now);
            pace.began(now);
            pace.ended(false, now);
            gaps.push(pace.gap.as_millis());
        }
        assert_eq!(gaps, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        pace.began(now + QUIET);
        assert_eq!(pace.gap, WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn few_names_are_read_singly_until_a_stream_of_them_makes_listing_cheaper() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert!(!pace.by_name(21, 1_000, now));
        assert!((0..3).all(|_| pace.by_name(20, 1_000, now)));
        assert!(!pace.by_name(20, 1_000, now));
        assert!(pace.by_name(1, 1_000, now), "one name never costs more than a listing");
        assert!(pace.by_name(20, 1_000, now + Duration::from_mins(1)));
    }

    #[test]
    fn waits_follow_the_kind_of_failure() {
        let mut pace = Pace::default();
        let after = Duration::from_mins(4);
        assert_eq!(pace.failed(&OutsideError::RateLimited { after }), after);
        assert_eq!(pace.failed(&OutsideError::Forbidden(String::new())), RETRY_MAX);
        pace.succeeded();
        let waits: Vec<_> = (0..9).map(|_| pace.failed(&OutsideError::Unavailable(String::new()))).collect();
        assert!(waits[0] <= RETRY && waits[0] >= RETRY / 2, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= RETRY_MAX) && waits[8] >= RETRY_MAX / 2, "{waits:?}");
    }
}
