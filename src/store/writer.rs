//! The thread that writes: collects what arrives within a moment into one transaction, and lives with a disk that fails.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::database::{self, Database};
use super::{Entry, Limits, Message, Shared};

/// How long entries are collected for one transaction.
const WINDOW: Duration = Duration::from_millis(100);
/// Most entries of one transaction, so that the log beside the file stays small.
const BATCH: usize = 1024;
/// Most of the file's size that one transaction may take, in hundredths: less than what is kept free for it.
const BATCH_SHARE: u64 = 4;
/// How often a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often entries that are too old are looked for.
const FORGET: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    shared: Arc<Shared>,
    limits: Limits,
    database: Option<Database>,
    tried: Option<Instant>,
    forgot: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, limits: Limits) -> Self {
        Self { shared, limits, database: None, tried: None, forgot: None }
    }

    /// Writes until the last handle is gone and the queue is empty.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        self.open();
        loop {
            let wait = if self.database.is_some() { FORGET } else { RETRY };
            let (entries, flushes, over) = collect(queue, wait, self.limits.bytes * BATCH_SHARE / 100);
            if self.database.is_none() {
                self.open();
            }
            self.write(&entries);
            self.keep_limits();
            for flush in flushes {
                // Whoever waited may be gone.
                let _ = flush.send(());
            }
            if over {
                return;
            }
        }
    }

    /// Opens the file, unless that failed a moment ago. One that is lost is moved aside, and a new one begun.
    fn open(&mut self) {
        if self.tried.is_some_and(|tried| tried.elapsed() < RETRY) {
            return;
        }
        self.tried = Some(Instant::now());
        let path = &self.shared.path;
        let mut opened = Database::open(path, self.limits);
        if let Err(error) = &opened
            && database::is_lost(error)
        {
            match database::move_aside(path) {
                Ok(aside) => {
                    let (path, aside) = (path.display(), aside.display());
                    tracing::error!(%path, %aside, %error, "the history is damaged: moved it aside, beginning anew");
                    opened = Database::open(&self.shared.path, self.limits);
                }
                Err(moving) => tracing::error!(path = %path.display(), %error, %moving, "the history is damaged"),
            }
        }
        match opened {
            Ok(database) => {
                self.database = Some(database);
                self.well();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        let Some(database) = &mut self.database else { return self.shared.drop_entries(entries.len()) };
        match database.write(entries) {
            Ok(()) => self.well(),
            Err(error) => {
                self.shared.drop_entries(entries.len());
                self.failed(&error);
            }
        }
    }

    fn keep_limits(&mut self) {
        let Some(database) = &mut self.database else { return };
        let mut kept = database.make_room();
        if kept.is_ok() && self.forgot.is_none_or(|forgot| forgot.elapsed() >= FORGET) {
            self.forgot = Some(Instant::now());
            kept = database.forget(Timestamp::now());
        }
        if let Err(error) = kept {
            self.failed(&error);
        }
    }

    fn well(&self) {
        if self.shared.trouble.send_if_modified(|trouble| trouble.take().is_some()) {
            tracing::info!(path = %self.shared.path.display(), "the history is written again");
        }
    }

    /// Says what is wrong, and gives the file up for a while unless it is merely full.
    fn failed(&mut self, error: &rusqlite::Error) {
        let path = self.shared.path.display();
        let full = database::is_full(error);
        let words = if full {
            format!("no room for the history at {path}: free some on its disk, or raise --history-size")
        } else {
            format!("the history cannot be written at {path}: see that the directory exists, is writable and works")
        };
        let said = Some(words.clone());
        if self.shared.trouble.send_if_modified(|trouble| std::mem::replace(trouble, said.clone()) != said) {
            tracing::error!(%error, "{words}");
        }
        if !full {
            self.database = None;
        }
    }
}

/// What arrives within [`WINDOW`] of the first message, until it takes about `bytes`; nothing if none comes in `wait`. A
/// flush ends the window. The last part says whether no more will come.
fn collect(queue: &Receiver<Message>, wait: Duration, bytes: u64) -> (Vec<Entry>, Vec<oneshot::Sender<()>>, bool) {
    let (mut entries, mut flushes) = (Vec::new(), Vec::new());
    let mut taken = 0;
    let mut end = Instant::now() + wait;
    let mut first = true;
    while entries.len() < BATCH && taken <= bytes {
        match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Message::Entry(entry)) => {
                taken += weight(&entry);
                entries.push(entry);
            }
            Ok(Message::Flush(done)) => {
                flushes.push(done);
                break;
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return (entries, flushes, true),
        }
        if first {
            end = Instant::now() + WINDOW;
            first = false;
        }
    }
    (entries, flushes, false)
}

/// About what an entry takes in the file: its group stands in the table and in the index.
fn weight(entry: &Entry) -> u64 {
    let details = entry.details.as_ref().map_or(0, String::len);
    (2 * entry.group_uid.len() + entry.member.len() + details + 64) as u64
}
