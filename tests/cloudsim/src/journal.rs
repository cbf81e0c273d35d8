//! The journal: every request to a cloud, in the order it was taken up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::faults::is_write;

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Counted from 1 over both clouds.
    pub seq: u64,
    /// Simulated time.
    pub at: Timestamp,
    /// `cloudflare` or `digitalocean`.
    pub cloud: &'static str,
    /// HTTP method.
    pub method: String,
    /// Path below the cloud's base, with the query.
    pub path: String,
    /// Which credential was used, as a digest: never the token.
    pub credential: String,
    /// The JSON that was sent.
    pub body: Option<Value>,
    /// The status that was, or would have been, answered; 0 while the request is in hand or if it was cut before.
    pub status: u16,
    /// Whether the cloud took the request up, and it succeeded there.
    pub committed: bool,
    /// For a write that was committed: its place among them, from 1. Requests that overlap may be committed in another
    /// order than they came.
    pub commit_order: Option<u64>,
}

/// All requests so far.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    last: u64,
    commits: u64,
    entries: Vec<Entry>,
}

impl Journal {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, mut entry: Entry) -> u64 {
        let mut book = self.book();
        book.last += 1;
        entry.seq = book.last;
        book.entries.push(entry);
        book.last
    }

    pub(crate) fn end(&self, seq: u64, status: u16, committed: bool) {
        let mut book = self.book();
        let order = book.commits + 1;
        // Entries are ordered by number; after a `clear` this one may be gone.
        let Ok(index) = book.entries.binary_search_by_key(&seq, |entry| entry.seq) else { return };
        let entry = &mut book.entries[index];
        (entry.status, entry.committed) = (status, committed);
        if committed && is_write(&entry.method) {
            entry.commit_order = Some(order);
            book.commits = order;
        }
    }

    /// The requests after `seq`.
    #[must_use]
    pub fn since(&self, seq: u64) -> Vec<Entry> {
        let book = self.book();
        let first = book.entries.partition_point(|entry| entry.seq <= seq);
        book.entries[first..].to_vec()
    }

    /// The number of the newest request.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.book().last
    }

    /// Forgets all entries; numbers go on.
    pub fn clear(&self) {
        self.book().entries.clear();
    }
}
