//! The one writer of a zone: owners declare what they want, it reads, batches, answers and wakes them.
//!
//! [`Zone`] is a cheap handle; its methods never wait. The task behind it (`writer`) does the calls; what is known
//! and wanted, and every answer, is in `state`, a plain value that no lock holds across a call.

mod pace;
mod send;
mod state;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::names::{Fqdn, Mark};
use crate::dns::api::RecordsApi;
use crate::dns::cloudflare::Token;
use crate::dns::plan::Refusal;
use crate::dns::record::{Desired, Published, Record};
use crate::metrics::Metrics;
use crate::outside::OutsideError;

use state::State;

/// How a zone is written.
#[derive(Debug, Clone)]
pub struct ZoneConfig {
    /// The zone's domain.
    pub domain: Fqdn,
    /// Operations one batch may hold.
    pub batch_limit: usize,
    /// How often the zone is listed to find and repair edits from outside.
    pub resync: Duration,
    /// Whether nothing may be written: what would need a write is answered [`Declared::Blocked`].
    pub read_only: bool,
    /// Where batches, operations and suppressed no-ops are counted.
    pub metrics: Metrics,
    /// Receives the `wake` of every owner whose answer changed.
    pub wakes: mpsc::UnboundedSender<String>,
    /// Sent on the same channel when what [`Zone::health`] says is blocked changes.
    pub health_wake: Option<String>,
}

/// Somebody who wants records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The mark its records carry.
    pub mark: Mark,
    /// What is sent when its answer changes.
    pub wake: String,
}

/// The answer to a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// Not there yet; a wake follows.
    Pending,
    /// In place, and nothing more of this owner is in the zone. Stays the answer while the zone cannot be read.
    Applied(Vec<Published>),
    /// Cannot be published as declared. Looked at again with every listing.
    Refused(Refusal),
    /// The zone cannot be read or written now. The declaration stays and is retried.
    Blocked(OutsideError),
}

/// What is at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Not looked yet; a wake follows.
    Pending,
    /// Nothing that would be in the way of an address.
    Free,
    /// Records of the asking owner.
    Own(Vec<Published>),
    /// Something in the way: [`Refusal::Foreign`] or [`Refusal::AdoptionRequired`].
    Taken(Refusal),
    /// The zone cannot be read now; a wake follows when it can.
    Blocked(OutsideError),
}

/// Every record with a mark, of this cluster or another.
#[derive(Debug, Clone)]
pub struct OwnedRecords {
    /// How long ago the zone was last listed in full.
    pub listed_ago: Duration,
    /// The records.
    pub records: Vec<(Mark, Record)>,
}

/// How the zone is doing.
#[derive(Debug, Clone)]
pub struct ZoneHealth {
    /// The version given with the last token; `None` while it is the one the zone was started with.
    pub token_version: Option<String>,
    /// How long ago the zone was last listed in full; `None` before the first time.
    pub listed_ago: Option<Duration>,
    /// Records in the zone, ours or not.
    pub records: usize,
    /// Why the last attempt to read or write failed; `None` after a success.
    pub blocked: Option<OutsideError>,
}

/// What handle and task share.
struct Shared {
    config: ZoneConfig,
    api: Arc<dyn RecordsApi>,
    state: Mutex<State>,
    changed: Notify,
    stop: CancellationToken,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to the writer of one zone. Its task ends with the last handle.
#[derive(Clone)]
pub struct Zone {
    shared: Arc<Shared>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    _guard: Arc<DropGuard>,
}

impl Zone {
    /// Starts the writer of one zone. It lists the zone at once.
    #[must_use]
    pub fn start(config: ZoneConfig, api: Arc<dyn RecordsApi>) -> Self {
        let stop = CancellationToken::new();
        let state = Mutex::new(State::new(&config));
        let shared = Arc::new(Shared { config, api, state, changed: Notify::new(), stop: stop.clone() });
        let task = tokio::spawn(writer::run(Arc::clone(&shared)));
        Self { shared, task: Arc::new(Mutex::new(Some(task))), _guard: Arc::new(stop.drop_guard()) }
    }

    /// Declares everything `owner` wants in this zone; nothing withdraws all. Answers at once, and again whenever
    /// the same declaration is repeated, which costs no call.
    ///
    /// [`Declared::Applied`] with nothing in it means that a reading newer than the withdrawal, or a complete listing
    /// at most a minute old, shows none of the owner's records.
    #[must_use]
    pub fn declare(&self, owner: &Owner, records: Vec<Desired>) -> Declared {
        let answer = self.shared.state().declare(owner, records, Instant::now());
        self.shared.changed.notify_one();
        answer
    }

    /// Looks at `name` before anything is paid for, from a reading at most a minute old. Any number of names asked
    /// about at once costs one listing.
    #[must_use]
    pub fn check(&self, owner: &Owner, name: &Fqdn) -> Checked {
        let answer = self.shared.state().check(owner, name, Instant::now());
        self.shared.changed.notify_one();
        answer
    }

    /// Allows `owner` to take over the records of exactly the namesake whose mark has the owner part `from`.
    pub fn adopt(&self, owner: &Owner, from: &str) {
        self.shared.state().adopt(&owner.mark, from, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Lets `owner` take a name over from the owner with this `k` in its mark: what that one published there becomes, in
    /// one change, what the next declaration of `owner` says, and stays out of reach of the other, whatever that declares,
    /// for as long as `owner` declares the name.
    pub fn hand_over(&self, owner: &Owner, name: &Fqdn, from: &str) {
        self.shared.state().hand_over(name, from, &owner.mark, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Drops the declaration of an owner that is gone. Touches no record.
    pub fn forget(&self, mark: &Mark) {
        self.shared.state().forget(mark);
    }

    /// The marked records as last listed, for the orphan report; `None` before the first listing.
    #[must_use]
    pub fn owned_records(&self) -> Option<OwnedRecords> {
        self.shared.state().owned_records(Instant::now())
    }

    /// Lists the zone now, repairs what was edited from outside and answers anew.
    pub fn refresh(&self) {
        self.shared.state().refresh();
        self.shared.changed.notify_one();
    }

    /// Installs a token if its version differs from the last one given. Whatever was blocked is tried at once.
    pub fn set_token(&self, version: &str, token: Token) {
        let mut state = self.shared.state();
        if state.new_token(version) {
            self.shared.api.set_token(token);
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// How the zone is doing.
    #[must_use]
    pub fn health(&self) -> ZoneHealth {
        self.shared.state().health(Instant::now())
    }

    /// Lets the call in flight end, starts no other, and ends the task.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await; // it can only have been cancelled with its runtime
        }
    }
}
