//! When results become verdicts: hysteresis, and nothing else. Pure.
//!
//! * Where nothing is known, the first success makes a target Healthy at once, because a server that is waited for
//!   should serve as soon as it can; `fall` failures in a row make it Unhealthy.
//! * A Healthy target falls after `fall` failures in a row, an Unhealthy one rises after `rise` successes in a row.
//! * The reason of an Unhealthy verdict follows what `fall` failures in a row agree on. That is no transition.
//!
//! A fall is only offered here ([`Standing::may_fall`]): the caller takes it ([`Standing::fall`]) once our own network
//! is beyond doubt.

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Failure, Health, Verdict, reason};

/// What is known of one target, and the results in a row that may change it.
#[derive(Debug, Default)]
pub(super) struct Standing {
    verdict: Option<Verdict>,
    row: Row,
}

/// Results in a row that went the same way.
#[derive(Debug, Default)]
enum Row {
    #[default]
    Empty,
    Successes(u32),
    Failures(Failures),
}

#[derive(Debug)]
struct Failures {
    count: u32,
    began: Instant,
    last: Failure,
    /// How many at the end of the row are like the last.
    alike: u32,
}

impl Standing {
    /// Begins with a verdict that must be earned away.
    pub fn known(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), row: Row::Empty }
    }

    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    pub fn is_unhealthy(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.health == Health::Unhealthy)
    }

    /// When the failures began that the last result belongs to.
    pub fn failing_since(&self) -> Option<Instant> {
        match &self.row {
            Row::Failures(row) => Some(row.began),
            Row::Empty | Row::Successes(_) => None,
        }
    }

    /// Counts a success. The new verdict, if this turned it.
    pub fn succeeded(&mut self, rise: u32, now: Timestamp) -> Option<&Verdict> {
        let count = match self.row {
            Row::Successes(count) => count.saturating_add(1),
            Row::Empty | Row::Failures(_) => 1,
        };
        self.row = Row::Successes(count);
        let rises = match &self.verdict {
            None => true,
            Some(verdict) => verdict.health == Health::Unhealthy && count >= rise,
        };
        rises.then(|| {
            let message = "the target answers as it should".to_owned();
            &*self.verdict.insert(Verdict { health: Health::Healthy, reason: reason::SUCCEEDED, message, since: now })
        })
    }

    /// Counts a failure. It never turns the verdict by itself.
    pub fn failed(&mut self, failure: Failure, fall: u32, at: Instant) {
        let row = match std::mem::take(&mut self.row) {
            Row::Failures(row) => {
                let alike = if row.last == failure { row.alike.saturating_add(1) } else { 1 };
                Failures { count: row.count.saturating_add(1), began: row.began, last: failure, alike }
            }
            Row::Empty | Row::Successes(_) => Failures { count: 1, began: at, last: failure, alike: 1 },
        };
        let unhealthy = self.verdict.as_mut().filter(|verdict| verdict.health == Health::Unhealthy);
        if let Some(verdict) = unhealthy.filter(|_| row.alike >= fall) {
            verdict.reason = row.last.reason;
            verdict.message.clone_from(&row.last.message);
        }
        self.row = Row::Failures(row);
    }

    /// Whether a fall is earned.
    pub fn may_fall(&self, fall: u32) -> bool {
        !self.is_unhealthy() && matches!(&self.row, Row::Failures(row) if row.count >= fall)
    }

    /// Falls, for the reason of the last failure. The new verdict, unless there is nothing to fall for.
    pub fn fall(&mut self, now: Timestamp) -> Option<&Verdict> {
        let Row::Failures(row) = &self.row else { return None };
        let Failure { reason, message } = row.last.clone();
        Some(self.verdict.insert(Verdict { health: Health::Unhealthy, reason, message, since: now }))
    }

    /// Keeps the verdict and counts anew.
    pub fn forget_results(&mut self) {
        self.row = Row::Empty;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn failure(reason: &'static str) -> Failure {
        Failure { reason, message: format!("it is {reason}") }
    }

    /// Feeds one result as the engine does when nothing is in doubt: `+` is a success, a letter a failure with its own
    /// reason. The health it turned to, if it did.
    fn feed(standing: &mut Standing, result: char, fall: u32, rise: u32) -> Option<Health> {
        let reason = match result {
            '+' => return standing.succeeded(rise, NOW).map(|verdict| verdict.health),
            'r' => reason::CONNECTION_REFUSED,
            't' => reason::TIMEOUT,
            _ => reason::UNEXPECTED_STATUS,
        };
        standing.failed(failure(reason), fall, Instant::now());
        if standing.may_fall(fall) { standing.fall(NOW).map(|verdict| verdict.health) } else { None }
    }

    fn known(health: Health) -> Standing {
        Standing::known(Verdict { health, reason: "Restored", message: String::new(), since: NOW })
    }

    #[test]
    fn verdicts_turn_where_fall_and_rise_are_reached_and_nowhere_else() {
        // Upper case letters in `turns`: H, U, or `.` for nothing, one a result.
        for (start, results, turns) in [
            (None, "+++", "H.."),
            (None, "rr+", "..H"),
            (None, "rrrr", "..U."),
            (None, "rtx", "..U"),
            (None, "+rr+rr+rr", "H........"),
            (None, "+rrr+r++", "H..U...H"),
            (Some(Health::Healthy), "+rrr", "...U"),
            (Some(Health::Healthy), "rr+rrr", ".....U"),
            (Some(Health::Unhealthy), "+", "."),
            (Some(Health::Unhealthy), "++", ".H"),
            (Some(Health::Unhealthy), "+r+r+r", "......"),
            (Some(Health::Unhealthy), "rrrrr++rrr", "......H..U"),
        ] {
            let mut standing = start.map_or_else(Standing::default, known);
            let letter = |turned| match turned {
                None => '.',
                Some(Health::Healthy) => 'H',
                Some(Health::Unhealthy) => 'U',
            };
            let seen: String = results.chars().map(|result| letter(feed(&mut standing, result, 3, 2))).collect();
            assert_eq!(seen, turns, "{start:?} {results}");
        }
    }

    #[test]
    fn the_reason_of_a_lasting_failure_follows_what_fall_results_agree_on() {
        let mut standing = Standing::default();
        let mut reasons = Vec::new();
        for result in "rrrttrtttt".chars() {
            feed(&mut standing, result, 3, 2);
            reasons.push(standing.verdict().map_or("-", |verdict| verdict.reason));
        }
        let refused = reason::CONNECTION_REFUSED;
        assert_eq!(reasons[..2], ["-", "-"]);
        assert_eq!(reasons[2..8], [refused; 6], "two time-outs in a row are not enough");
        assert_eq!(reasons[8..], [reason::TIMEOUT; 2]);
        assert_eq!(standing.verdict().unwrap().message, "it is Timeout");
    }

    #[test]
    fn a_fall_that_was_not_taken_is_offered_again_until_a_success() {
        let mut standing = known(Health::Healthy);
        for _ in 0..4 {
            standing.failed(failure(reason::TIMEOUT), 3, Instant::now());
        }
        assert!(standing.may_fall(3));
        assert_eq!(standing.succeeded(2, NOW), None);
        assert!(!standing.may_fall(3));
        assert_eq!(standing.fall(NOW), None, "a row of successes is nothing to fall for");
    }

    proptest! {
        #[test]
        fn every_turn_was_earned_by_the_results_just_before_it(
            results in "[+rtx]{0,200}", fall in 1..6u32, rise in 1..6u32, start in 0..3u8,
        ) {
            let start = [None, Some(Health::Healthy), Some(Health::Unhealthy)][usize::from(start)];
            let mut standing = start.map_or_else(Standing::default, known);
            let mut health = start;
            let mut turns = 0;
            let seen: Vec<char> = results.chars().collect();
            for (index, result) in seen.iter().enumerate() {
                let Some(turned) = feed(&mut standing, *result, fall, rise) else { continue };
                prop_assert_ne!(Some(turned), health);
                let wanted = if turned == Health::Unhealthy { fall } else if health.is_none() { 1 } else { rise };
                let row = seen[..=index].iter().rev();
                let row = row.take_while(|one| (**one == '+') == (turned == Health::Healthy)).count();
                prop_assert!(row >= usize::try_from(wanted).unwrap(), "{} after {} of {}", index, row, wanted);
                health = Some(turned);
                turns += 1;
            }
            prop_assert_eq!(standing.verdict().map(|verdict| verdict.health), health);
            // Each pair of turns costs at least `fall` and `rise` results.
            let most = 2 + 2 * seen.len() / usize::try_from(fall + rise).unwrap();
            prop_assert!(turns <= most, "{} turns in {} results", turns, seen.len());
        }
    }
}
