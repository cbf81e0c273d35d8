//! The history of reports and probe verdicts, in an embedded database that may fail without anybody waiting for it.
//!
//! One thread writes, many entries to a transaction; the queue before it is bounded, and what does not fit is dropped and
//! counted. Nothing that was acknowledged to anybody, and no key, lives here: losing the file loses the past only.

mod database;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

/// Entries that may wait for the disk: a second or two of the heaviest load, some 10 MB.
const QUEUE: usize = 65_536;

/// How long a reading waits for the entries before it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How much is kept. What is older, or too much, goes from the oldest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How old an entry may get.
    pub age: Duration,
    /// How large the database file may get, in bytes. The log beside it takes up to 16 MiB more.
    pub bytes: u64,
}

/// Who found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A probe of ours.
    Probe,
    /// The server's own report.
    Report,
    /// The absence of reports.
    Silence,
}

impl Source {
    /// The word for it, as stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Report => "report",
            Self::Silence => "silence",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Probe, Self::Report, Self::Silence].into_iter().find(|source| source.as_str() == word)
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The server is well.
    Healthy,
    /// It is not.
    Unhealthy,
    /// Nothing is known any more.
    Pending,
}

impl Health {
    /// The word for it, as stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Pending => "pending",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Healthy, Self::Unhealthy, Self::Pending].into_iter().find(|health| health.as_str() == word)
    }
}

/// One thing that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// UID of the `ServerGroup`.
    pub group_uid: String,
    /// The server's address.
    pub member: String,
    /// Who found out.
    pub source: Source,
    /// What was found.
    pub health: Health,
    /// More about it.
    pub details: Option<String>,
    /// When; kept to the millisecond.
    pub at: Timestamp,
}

/// An entry as read, with its place in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Grows with every entry; where the next page begins.
    pub id: i64,
    /// The entry.
    pub entry: Entry,
}

/// The history could not be read. The log has the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the history cannot be read now")]
pub struct Unreadable;

enum Message {
    Entry(Entry),
    /// Everything before it is to be written, and then this answered.
    Flush(oneshot::Sender<()>),
}

struct Shared {
    path: PathBuf,
    dropped: AtomicU64,
    trouble: watch::Sender<Option<String>>,
}

impl Shared {
    fn drop_entries(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A handle on the history. Cheap to clone; once the last is gone, what is queued is written and the thread ends.
#[derive(Clone)]
pub struct Store {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl Store {
    /// Starts the writer over the database at `path`, which is made if there is none. A file that is damaged, or not
    /// ours, is moved to `<path>.corrupt` and a new one begun. A disk that does not work is [`Store::trouble`], not an
    /// error.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn open(path: &Path, limits: Limits) -> std::io::Result<Self> {
        Self::with_queue(path, limits, QUEUE)
    }

    fn with_queue(path: &Path, limits: Limits, queue: usize) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let (trouble, _) = watch::channel(None);
        let shared = Arc::new(Shared { path: path.to_owned(), dropped: AtomicU64::new(0), trouble });
        let writer = writer::Writer::new(shared.clone(), limits);
        std::thread::Builder::new().name("history".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { queue: sender, shared })
    }

    /// Queues an entry. Never waits: what a slow or broken disk leaves no room for is dropped and counted.
    pub fn append(&self, entry: Entry) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(Message::Entry(entry)) {
            self.shared.drop_entries(1);
        }
    }

    /// Waits, at most a second, until what was appended before is written or dropped; says whether that was done.
    pub async fn flush(&self) -> bool {
        let (done, written) = oneshot::channel();
        let queued = self.queue.try_send(Message::Flush(done)).is_ok();
        queued && matches!(tokio::time::timeout(FLUSH_TIMEOUT, written).await, Ok(Ok(())))
    }

    /// The newest `limit` entries of a group before the entry `before`, newest first, those just appended among them.
    ///
    /// # Errors
    /// [`Unreadable`] while the disk does not work.
    pub async fn recent(&self, group_uid: &str, limit: u32, before: Option<i64>) -> Result<Vec<Recorded>, Unreadable> {
        self.flush().await;
        let (path, group) = (self.shared.path.clone(), group_uid.to_owned());
        let read = tokio::task::spawn_blocking(move || database::recent(&path, &group, limit, before));
        match read.await {
            Ok(Ok(entries)) => Ok(entries),
            Ok(Err(error)) => {
                tracing::warn!(path = %self.shared.path.display(), %error, "the history cannot be read");
                Err(Unreadable)
            }
            Err(_) => Err(Unreadable),
        }
    }

    /// What keeps entries from being written, in words that stay the same while it lasts; `None` while nothing does.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.subscribe()
    }

    /// How many entries were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_never_waits_and_counts_what_finds_no_room() {
        let directory = tempfile::tempdir().unwrap();
        // Nobody takes anything out of this queue.
        let (queue, _receiver) = sync_channel(8);
        let path = directory.path().join("history.sqlite");
        let shared = Arc::new(Shared { path, dropped: AtomicU64::new(0), trouble: watch::channel(None).0 });
        let store = Store { queue, shared };
        for _ in 0..20 {
            store.append(Entry {
                group_uid: "g".into(),
                member: "a".into(),
                source: Source::Report,
                health: Health::Healthy,
                details: None,
                at: Timestamp::UNIX_EPOCH,
            });
        }
        assert_eq!(store.dropped(), 12);
    }
}
