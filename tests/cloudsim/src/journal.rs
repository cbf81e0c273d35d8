//! The journal: every request to a cloud, in the order it was taken up.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

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
    /// Whether the cloud took the request up at all.
    pub committed: bool,
}

/// All requests so far.
#[derive(Debug, Default)]
pub struct Journal(Mutex<(u64, Vec<Entry>)>);

impl Journal {
    pub(crate) fn begin(&self, mut entry: Entry) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 += 1;
        entry.seq = inner.0;
        inner.1.push(entry);
        inner.0
    }

    pub(crate) fn end(&self, seq: u64, status: u16, committed: bool) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = inner.1.iter_mut().rev().find(|entry| entry.seq == seq) {
            (entry.status, entry.committed) = (status, committed);
        }
    }

    /// The requests after `seq`.
    #[must_use]
    pub fn since(&self, seq: u64) -> Vec<Entry> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1.iter().filter(|entry| entry.seq > seq).cloned().collect()
    }

    /// The number of the newest request.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Forgets all entries; numbers go on.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clear();
    }
}
