//! How often statuses may be written (pure): a burst for a disaster, and a steady rate that the API server bears. And how
//! many writes may be promised: no more than the API server is seen to get through in time.

use std::time::Duration;

use tokio::time::Instant;

/// Between two writes to one group.
pub const BETWEEN: Duration = Duration::from_secs(1);
/// How many writes to all groups may come at once.
const BURST: f64 = 1000.0;
/// How many a second may follow.
const RATE: f64 = 50.0;

/// What one write is taken to need until some have been seen.
const AT_FIRST: Duration = Duration::from_millis(100);
/// How long a promised write may have to wait for its turn.
pub const TURN: Duration = Duration::from_secs(5);

/// How fast writes are, of late.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// How many are in flight at once.
    at_once: u32,
    /// Between the end of one and the end of the next.
    apart: Duration,
}

impl Speed {
    /// Of a writer that has so many in flight at once, and has not written yet.
    #[must_use]
    pub fn unknown(at_once: u16) -> Self {
        let at_once = u32::from(at_once.max(1));
        Self { at_once, apart: AT_FIRST / at_once }
    }

    /// Learns from a write that took so long while others were in flight. One that failed tells how slow the API server
    /// is, and not how quick: a refusal comes at once.
    pub fn took(&mut self, took: Duration, written: bool) {
        let apart = took / self.at_once;
        if written || apart > self.apart {
            self.apart = (self.apart * 7 + apart) / 8;
        }
    }

    /// How long until so many writes may wait for their turn; nothing if they may now.
    #[must_use]
    pub fn wait(&self, writes: usize) -> Duration {
        let ahead = self.apart.saturating_mul(u32::try_from(writes).unwrap_or(u32::MAX));
        ahead.saturating_sub(TURN)
    }
}

/// A bucket of permissions to write.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn full(now: Instant) -> Self {
        Self { level: BURST, at: now }
    }

    /// Uses one permission up. Whoever does so has asked [`Bucket::wait`] first.
    pub fn take(&mut self) {
        self.level -= 1.0;
    }

    /// How long it takes until there are so many permissions; nothing if there are.
    pub fn wait(&mut self, permissions: usize, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * RATE).min(BURST);
        self.at = self.at.max(now);
        let missing = f64::from(u32::try_from(permissions).unwrap_or(u32::MAX)) - self.level;
        Duration::from_secs_f64((missing / RATE).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_writes_are_promised_as_come_to_their_turn_in_time() {
        let mut speed = Speed::unknown(8);
        assert_eq!(speed.wait(400), Duration::ZERO, "80 a second for 5 s");
        assert_eq!(speed.wait(480), Duration::from_secs(1));
        (0..100).for_each(|_| speed.took(Duration::from_millis(8), true));
        assert_eq!(speed.wait(1_000), Duration::ZERO, "a quick API server takes the whole burst");
        (0..100).for_each(|_| speed.took(Duration::from_secs(4), false));
        assert_eq!(speed.wait(10), Duration::ZERO);
        assert!(speed.wait(12) > Duration::from_millis(500), "a slow one does not");
        (0..100).for_each(|_| speed.took(Duration::from_millis(1), false));
        assert!(speed.wait(12) > Duration::from_millis(500), "nor does one that refuses at once");
    }

    #[test]
    fn a_burst_of_a_thousand_passes_and_then_fifty_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let passed = |bucket: &mut Bucket, now| {
            let mut taken = 0;
            while bucket.wait(1, now).is_zero() {
                bucket.take();
                taken += 1;
            }
            taken
        };
        assert_eq!(passed(&mut bucket, start), 1000);
        assert_eq!(bucket.wait(1, start), Duration::from_millis(20));
        assert_eq!(bucket.wait(3, start), Duration::from_millis(60));
        assert_eq!(passed(&mut bucket, start + Duration::from_secs(1)), 50);
        assert_eq!(passed(&mut bucket, start + Duration::from_secs(3600)), 1000, "it never holds more than a burst");
    }
}
