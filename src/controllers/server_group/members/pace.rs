//! How often statuses may be written (pure): a burst for a disaster, and a steady rate that the API server bears.

use std::time::Duration;

use tokio::time::Instant;

/// Between two writes to one group.
pub const BETWEEN: Duration = Duration::from_secs(1);
/// How many writes to all groups may come at once.
const BURST: f64 = 1000.0;
/// How many a second may follow.
const RATE: f64 = 50.0;

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
