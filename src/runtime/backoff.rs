//! Back-off: how long after the n-th failure in a row the next try comes (pure).

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// The wait after `attempts` failures in a row (1 for the first): 2 s doubling to 5 min, with up to a quarter added by
/// `jitter` in `0.0..1.0`, so that objects that failed together do not try together.
#[must_use]
pub fn after(attempts: i64, jitter: f64) -> Duration {
    let doublings = u32::try_from((attempts - 1).clamp(0, 16)).unwrap_or(0);
    let base = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST);
    base + base.mul_f64(jitter.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_two_seconds_to_five_minutes() {
        let waits: Vec<_> = (1..=10).map(|n| after(n, 0.0).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn jitter_adds_at_most_a_quarter() {
        assert_eq!(after(1, 1.0), Duration::from_millis(2500));
        assert_eq!(after(1000, 0.0), LONGEST);
    }
}
