//! When our own network is to be doubted: a pure rule over the results of the last minute.
//!
//! **A fall is doubted if at least half of all results since its row of failures began are failures too.** Every
//! success counts; a failure counts only of a target that is not known to be down, so that lasting failures never
//! raise doubt, and sudden ones do. From the moment on that everything fails, every row that begins is doubted, be its
//! target probed every second or every minute: its results are all failures, and so are everybody's since.
//!
//! **The network is doubted already at a failure that is no fall yet** if the same share holds for the last 5 s. So an
//! outage is mostly noticed long before the first fall would be due.
//!
//! Doubt costs one self-check. A single target that fails alone is doubted, and so is one of a pair: asking is cheap.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How far back results are remembered.
const MEMORY: Duration = Duration::from_mins(1);
/// A failure that is no fall yet is weighed against the results of this time.
const RECENT: Duration = Duration::from_secs(5);

/// The results of the last minute: at 1,000 a second, 1.5 MB.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Oldest first: when, and how many failures there were until then, this one included.
    results: VecDeque<(Instant, u64)>,
    /// All failures ever, and those among them that are no longer remembered.
    failures: u64,
    forgotten: u64,
}

impl Pulse {
    pub fn success(&mut self, now: Instant) {
        self.record(now);
    }

    pub fn failure(&mut self, now: Instant) {
        self.failures += 1;
        self.record(now);
    }

    /// Whether a row of failures that began at `since` may be our own network's.
    pub fn doubts_row(&self, since: Instant) -> bool {
        let first = self.results.partition_point(|(at, _)| *at < since);
        let before = first.checked_sub(1).map_or(self.forgotten, |last| self.results[last].1);
        let total = self.results.len() - first;
        let failures = usize::try_from(self.failures - before).unwrap_or(usize::MAX);
        failures > 0 && failures.saturating_mul(2) >= total
    }

    /// Whether the failures of these seconds may be our own network's.
    pub fn doubts_now(&self, now: Instant) -> bool {
        now.checked_sub(RECENT).is_some_and(|since| self.doubts_row(since))
    }

    fn record(&mut self, now: Instant) {
        while self.results.front().is_some_and(|(at, _)| now.duration_since(*at) > MEMORY) {
            if let Some((_, failures)) = self.results.pop_front() {
                self.forgotten = failures;
            }
        }
        self.results.push_back((now, self.failures));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is thought after results given as `(tenth of a second, success)`: of a row that began at the tenth
    /// `since`, and of the last seconds at the tenth `now`.
    fn doubts(results: impl IntoIterator<Item = (u64, bool)>, since: u64, now: u64) -> (bool, bool) {
        // Far enough from the beginning of the clock to look back.
        let start = Instant::now() + Duration::from_hours(1);
        let at = |tenths: u64| start + Duration::from_millis(tenths * 100);
        let mut pulse = Pulse::default();
        for (tenths, success) in results {
            if success {
                pulse.success(at(tenths));
            } else {
                pulse.failure(at(tenths));
            }
        }
        (pulse.doubts_row(at(since)), pulse.doubts_now(at(now)))
    }

    #[test]
    fn a_lone_failure_is_doubted_and_one_among_many_is_not() {
        assert_eq!(doubts([(5, false)], 5, 5), (true, true));
        assert_eq!(doubts([(5, true), (6, false)], 5, 6), (true, true), "one of a pair");
        assert_eq!(doubts((0..100).map(|tenths| (tenths, tenths != 99)), 50, 99), (false, false));
        let third = (0..210).map(|tenths| (tenths, tenths % 3 != 0));
        assert_eq!(doubts(third, 0, 209), (false, false), "a third of the fleet really fails");
        assert_eq!(doubts([(5, true)], 5, 5), (false, false), "nothing failed");
        assert_eq!(doubts([], 5, 5), (false, false));
    }

    #[test]
    fn a_row_since_the_outage_is_doubted_however_short_and_an_older_one_is_not() {
        let results = (0..121).map(|tenths| (tenths, tenths < 100));
        assert!(doubts(results.clone(), 100, 120).0, "2 s into it, with 8 s of successes before");
        assert!(!doubts(results, 20, 120).0, "who failed long before the outage is really down");
    }

    #[test]
    fn an_outage_is_noticed_within_seconds_before_any_row_is_complete() {
        let noticed = (100..200).find(|now| doubts((0..*now).map(|tenths| (tenths, tenths < 100)), 0, *now - 1).1);
        assert_eq!(noticed, Some(126), "half of five seconds");
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let old = (0..600).map(|tenths| (tenths, tenths % 2 == 0));
        assert_eq!(doubts(old.chain([(1_300, false)]), 0, 1_300), (true, true));
        let old = (0..600).map(|tenths| (tenths, false));
        assert_eq!(doubts(old.chain([(1_300, true)]), 0, 1_300), (false, false));
    }

    proptest! {
        #[test]
        fn a_row_is_doubted_by_the_share_of_failures_since_it_began(
            results in proptest::collection::vec((0..600u64, any::<bool>()), 0..200), since in 0..600u64,
        ) {
            let mut results = results;
            results.sort_unstable();
            let counted: Vec<_> = results.iter().filter(|(at, _)| *at >= since).collect();
            let failures = counted.iter().filter(|(_, success)| !success).count();
            let expected = failures > 0 && failures * 2 >= counted.len();
            prop_assert_eq!(doubts(results, since, 600).0, expected);
        }
    }
}
