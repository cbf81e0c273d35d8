//! What was read from the cluster a moment ago, so that a thousand requests of one caller cost one look-up.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::ports::Unavailable;

/// How old a reading may be: what is revoked in the cluster ends here within this time.
pub(super) const MAX_AGE: Duration = Duration::from_secs(60);

/// How long the last reading serves while the cluster cannot be asked: servers must be able to report through an
/// outage.
const OUTAGE: Duration = Duration::from_mins(10);

/// How long a failed look-up is not repeated.
const RETRY: Duration = Duration::from_secs(1);

struct Outcome<V> {
    result: Result<V, Unavailable>,
    /// When `result`'s value was read.
    at: Instant,
    /// When to look again.
    until: Instant,
}

struct Cell<V> {
    /// The value before, and when it was read.
    last: Option<(V, Instant)>,
    outcome: OnceCell<Outcome<V>>,
}

/// Readings by key. Those who ask for the same key at once wait for one look-up.
pub(super) struct Readings<K, V> {
    most: usize,
    cells: Mutex<HashMap<K, Arc<Cell<V>>>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Readings<K, V> {
    /// Keeps at most `most` readings.
    pub(super) fn new(most: usize) -> Self {
        Self { most, cells: Mutex::default() }
    }

    /// The reading of `key`, made by `read` if there is none or it is too old.
    pub(super) async fn get(
        &self,
        key: &K,
        read: impl Future<Output = Result<V, Unavailable>>,
    ) -> Result<V, Unavailable> {
        let cell = self.cell(key);
        let outcome = cell.outcome.get_or_init(|| async {
            let result = read.await;
            let now = Instant::now();
            match (result, &cell.last) {
                (Ok(value), _) => Outcome { result: Ok(value), at: now, until: now + MAX_AGE },
                (Err(_), Some((value, at))) if at.elapsed() < OUTAGE => {
                    Outcome { result: Ok(value.clone()), at: *at, until: now + RETRY }
                }
                (Err(error), _) => Outcome { result: Err(error), at: now, until: now + RETRY },
            }
        });
        outcome.await.result.clone()
    }

    /// The next one to ask for `key` looks it up.
    pub(super) fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    fn cell(&self, key: &K) -> Arc<Cell<V>> {
        let mut cells = self.lock();
        let known = cells.get(key);
        if let Some(cell) = known.filter(|cell| is_current(cell)) {
            return cell.clone();
        }
        let last = known.and_then(|cell| cell.outcome.get()).and_then(|outcome| {
            let value = outcome.result.as_ref().ok()?;
            Some((value.clone(), outcome.at))
        });
        if cells.len() >= self.most {
            cells.retain(|_, cell| is_current(cell));
        }
        if cells.len() >= self.most {
            cells.clear();
        }
        let cell = Arc::new(Cell { last, outcome: OnceCell::new() });
        cells.insert(key.clone(), cell.clone());
        cell
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Cell<V>>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the look-up is under way, or not to be repeated yet.
fn is_current<V>(cell: &Cell<V>) -> bool {
    cell.outcome.get().is_none_or(|outcome| Instant::now() < outcome.until)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Cluster {
        asked: AtomicU32,
        down: std::sync::atomic::AtomicBool,
    }

    impl Cluster {
        async fn read(&self) -> Result<u32, Unavailable> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::task::yield_now().await;
            if self.down.load(Ordering::Relaxed) { Err(Unavailable::shortly("down")) } else { Ok(asked) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_cost_one_look_up_until_it_is_too_old() {
        let (cluster, readings) = (Cluster::default(), Readings::new(10));
        let all = futures::future::join_all((0..50).map(|_| readings.get(&"key", cluster.read()))).await;
        assert!(all.iter().all(|read| *read == Ok(1)));
        tokio::time::advance(MAX_AGE.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(readings.get(&"key", cluster.read()).await, Ok(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(readings.get(&"key", cluster.read()).await, Ok(2));
        readings.forget(&"key");
        assert_eq!(readings.get(&"key", cluster.read()).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_reading_serves_through_an_outage_but_not_for_ever() {
        let (cluster, readings) = (Cluster::default(), Readings::new(10));
        assert_eq!(readings.get(&"key", cluster.read()).await, Ok(1));
        cluster.down.store(true, Ordering::Relaxed);
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(readings.get(&"key", cluster.read()).await, Ok(1));
        assert_eq!(readings.get(&"key", cluster.read()).await, Ok(1));
        assert_eq!(cluster.asked.load(Ordering::Relaxed), 2);
        tokio::time::advance(OUTAGE).await;
        assert!(readings.get(&"key", cluster.read()).await.is_err());
        // Who was never heard of cannot come in during an outage, and is looked up again right after it.
        assert!(readings.get(&"new", cluster.read()).await.is_err());
        cluster.down.store(false, Ordering::Relaxed);
        tokio::time::advance(RETRY).await;
        assert!(readings.get(&"key", cluster.read()).await.is_ok());
        assert!(readings.get(&"new", cluster.read()).await.is_ok());
    }

    #[tokio::test]
    async fn no_more_is_kept_than_there_is_room_for() {
        let (cluster, readings) = (Cluster::default(), Readings::new(10));
        for key in 0..1000 {
            readings.get(&key, cluster.read()).await.unwrap();
            assert!(readings.lock().len() <= 10);
        }
    }
}
