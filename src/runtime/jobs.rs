//! Long work beside the reconcile loop: what takes minutes must hold neither a place among the reconciles nor a pass.
//!
//! A pass begins it and ends; its object is woken when it is over, and a later pass takes what became of it. Nothing of it
//! is stored: what was cut, by shutdown or a crash, is looked at again by the next leader.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};

use super::cache::Key;

/// Work by key that outlives a pass: started once, polled by later passes, whose object is woken at its end. At most
/// `limit` at once; what is begun beyond that waits for its turn.
pub struct Jobs<T> {
    shared: Arc<Shared<T>>,
    turns: Arc<Semaphore>,
}

struct Shared<T> {
    works: Mutex<Works<T>>,
    wake: Box<dyn Fn(&Key) + Send + Sync>,
}

struct Works<T> {
    /// By object and name.
    by_key: HashMap<(Key, String), Work<T>>,
    /// Tells one run of a work from an earlier one of the same name.
    begun: u64,
    /// The tasks that still run, those of forgotten work too.
    tasks: Vec<JoinHandle<()>>,
    closed: bool,
}

enum Work<T> {
    Runs { run: u64, task: Option<AbortHandle> },
    Ended(T),
}

impl<T: Send + 'static> Jobs<T> {
    /// Without work. `wake` is called, quickly, with the object whose work is over: by its result, or because it
    /// panicked.
    ///
    /// `limit` is at least one.
    pub fn new(limit: usize, wake: impl Fn(&Key) + Send + Sync + 'static) -> Self {
        let works = Works { by_key: HashMap::new(), begun: 0, tasks: Vec::new(), closed: false };
        let shared = Shared { works: Mutex::new(works), wake: Box::new(wake) };
        Self { shared: Arc::new(shared), turns: Arc::new(Semaphore::new(limit.max(1))) }
    }

    /// What became of the work `name` of object `key`: `None` if none was begun, if its result was taken, or if it
    /// panicked. `Ready` takes the result out.
    #[must_use]
    pub fn poll(&self, key: &Key, name: &str) -> Option<Poll<T>> {
        let mut works = self.shared.lock();
        let id = (key.clone(), name.to_owned());
        match works.by_key.remove(&id)? {
            Work::Ended(result) => Some(Poll::Ready(result)),
            runs @ Work::Runs { .. } => {
                works.by_key.insert(id, runs);
                Some(Poll::Pending)
            }
        }
    }

    /// Begins the work `name` of object `key`, unless it runs or its result waits to be taken: `work` is dropped then,
    /// and after [`Jobs::close`].
    pub fn start(&self, key: Key, name: &str, work: impl Future<Output = T> + Send + 'static) {
        let mut works = self.shared.lock();
        let id = (key, name.to_owned());
        if works.closed || works.by_key.contains_key(&id) {
            return;
        }
        works.begun += 1;
        let run = works.begun;
        works.by_key.insert(id.clone(), Work::Runs { run, task: None });
        let end = End { shared: Arc::clone(&self.shared), id: id.clone(), run, result: None };
        let turns = Arc::clone(&self.turns);
        let task = tokio::spawn(async move {
            // Whole, or its end would be noted before it began.
            let mut end = end;
            // Never closed.
            let _turn = turns.acquire_owned().await;
            end.result = Some(work.await);
        });
        if let Some(Work::Runs { task: handle, .. }) = works.by_key.get_mut(&id) {
            *handle = Some(task.abort_handle());
        }
        works.tasks.retain(|task| !task.is_finished());
        works.tasks.push(task);
    }

    /// Ends all work of an object and forgets its results: nobody will ask for them any more.
    pub fn forget(&self, key: &Key) {
        let mut works = self.shared.lock();
        works.by_key.retain(|(owner, _), work| {
            if owner != key {
                return true;
            }
            if let Work::Runs { task: Some(task), .. } = work {
                task.abort();
            }
            false
        });
    }

    /// Ends what runs (its future is dropped) at shutdown, and begins nothing any more: what was cut is looked at again
    /// by the next leader.
    pub async fn close(&self) {
        let tasks = {
            let mut works = self.shared.lock();
            works.closed = true;
            works.by_key.clear();
            std::mem::take(&mut works.tasks)
        };
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            // An error says that it was ended, which it was to be.
            let _ = task.await;
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Works<T>> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the end of a work, however it ends.
struct End<T> {
    shared: Arc<Shared<T>>,
    id: (Key, String),
    run: u64,
    result: Option<T>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        {
            let mut works = self.shared.lock();
            // Forgotten meanwhile, and perhaps begun anew.
            if !matches!(works.by_key.get(&self.id), Some(Work::Runs { run, .. }) if *run == self.run) {
                return;
            }
            match self.result.take() {
                Some(result) => works.by_key.insert(self.id.clone(), Work::Ended(result)),
                None => works.by_key.remove(&self.id),
            };
        }
        (self.shared.wake)(&self.id.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn jobs(limit: usize) -> (Jobs<u32>, mpsc::UnboundedReceiver<Key>) {
        let (sender, woken) = mpsc::unbounded_channel();
        let wake = move |key: &Key| sender.send(key.clone()).unwrap();
        (Jobs::new(limit, wake), woken)
    }

    fn key(name: &str) -> Key {
        Key::namespaced("shop", name)
    }

    async fn woken(keys: &mut mpsc::UnboundedReceiver<Key>) -> Key {
        timeout(LONG, keys.recv()).await.expect("nobody was woken").unwrap()
    }

    #[tokio::test]
    async fn work_outlives_the_pass_that_begins_it_and_its_result_is_taken_once() {
        let (jobs, mut keys) = jobs(1);
        assert_eq!(jobs.poll(&key("a"), "bootstrap"), None);
        let (go, wait) = oneshot::channel();
        jobs.start(key("a"), "bootstrap", async { wait.await.unwrap() });
        assert_eq!(jobs.poll(&key("a"), "bootstrap"), Some(Poll::Pending));
        assert_eq!(jobs.poll(&key("a"), "another"), None);
        assert_eq!(jobs.poll(&key("b"), "bootstrap"), None);
        go.send(7).unwrap();
        assert_eq!(woken(&mut keys).await, key("a"));
        assert_eq!(jobs.poll(&key("a"), "bootstrap"), Some(Poll::Ready(7)));
        assert_eq!(jobs.poll(&key("a"), "bootstrap"), None);
    }

    #[tokio::test]
    async fn work_that_runs_or_whose_result_waits_is_not_begun_again() {
        let (jobs, mut keys) = jobs(4);
        let begun = Arc::new(AtomicUsize::new(0));
        let (go, wait) = oneshot::channel();
        let count = begun.clone();
        jobs.start(key("a"), "x", async move {
            count.fetch_add(1, Ordering::Relaxed);
            wait.await.unwrap()
        });
        let again = || {
            let count = begun.clone();
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                2
            }
        };
        jobs.start(key("a"), "x", again());
        go.send(1).unwrap();
        woken(&mut keys).await;
        jobs.start(key("a"), "x", again());
        assert_eq!(jobs.poll(&key("a"), "x"), Some(Poll::Ready(1)));
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        jobs.start(key("a"), "x", again());
        woken(&mut keys).await;
        assert_eq!(jobs.poll(&key("a"), "x"), Some(Poll::Ready(2)));
    }

    #[tokio::test]
    async fn no_more_than_the_limit_runs_at_once_and_the_rest_waits_its_turn() {
        let (jobs, mut keys) = jobs(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for number in 0..8 {
            let (running, most) = (running.clone(), most.clone());
            jobs.start(key(&number.to_string()), "x", async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..16 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                number
            });
        }
        for _ in 0..8 {
            woken(&mut keys).await;
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
        for number in 0..8 {
            assert_eq!(jobs.poll(&key(&number.to_string()), "x"), Some(Poll::Ready(number)));
        }
    }

    #[tokio::test]
    async fn work_that_panics_wakes_its_object_and_can_be_begun_again() {
        let (jobs, mut keys) = jobs(1);
        jobs.start(key("a"), "x", async { panic!("as asked") });
        assert_eq!(woken(&mut keys).await, key("a"));
        assert_eq!(jobs.poll(&key("a"), "x"), None);
        jobs.start(key("a"), "x", async { 1 });
        woken(&mut keys).await;
        assert_eq!(jobs.poll(&key("a"), "x"), Some(Poll::Ready(1)));
    }

    /// Tells when it is dropped.
    struct Dropped(Option<oneshot::Sender<()>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }

    #[tokio::test]
    async fn forgotten_work_is_dropped_without_waking_and_disturbs_no_later_one() {
        let (jobs, mut keys) = jobs(2);
        let (gone, dropped) = oneshot::channel();
        let guard = Dropped(Some(gone));
        jobs.start(key("a"), "x", async move {
            let _guard = guard;
            std::future::pending().await
        });
        jobs.forget(&key("a"));
        jobs.start(key("a"), "x", async { 3 });
        timeout(LONG, dropped).await.expect("it runs on").unwrap();
        assert_eq!(woken(&mut keys).await, key("a"));
        assert_eq!(jobs.poll(&key("a"), "x"), Some(Poll::Ready(3)));
        assert!(keys.try_recv().is_err());
    }

    #[tokio::test]
    async fn closing_ends_what_runs_before_it_returns_and_begins_nothing_more() {
        let (jobs, mut keys) = jobs(1);
        let (gone, mut dropped) = oneshot::channel();
        let guard = Dropped(Some(gone));
        jobs.start(key("a"), "x", async move {
            let _guard = guard;
            std::future::pending().await
        });
        jobs.start(key("b"), "x", async { 1 });
        jobs.close().await;
        assert!(dropped.try_recv().is_ok(), "it runs on");
        jobs.start(key("c"), "x", async { 1 });
        for name in ["a", "b", "c"] {
            assert_eq!(jobs.poll(&key(name), "x"), None);
        }
        assert!(keys.try_recv().is_err());
    }
}
