//! The task of a zone: it waits until there is something to do, and does it, one pass at a time.
//!
//! A pass reads what it is going to touch, plans, writes, and reads again. So a foreign record is seen before anything
//! is created beside it, a write of unknown outcome is looked up before it could be repeated, and a surplus record of
//! our own is found and removed.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::Shared;
use super::work::{Scope, Stage, Work};
use crate::outside::OutsideError;

/// Single names that are read at the same time.
const PARALLEL_READS: usize = 8;

/// Runs until the zone is stopped.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let next = shared.state().next(Instant::now());
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
            // What changed may move the next step: compute it anew.
            () = shared.changed.notified() => continue,
        }
        let now = Instant::now();
        if shared.state().wants_quota(now) {
            shared.look_at_quota().await;
        }
        let work = shared.state().begin(now);
        if let Some(work) = work {
            shared.pass(work).await;
        }
    }
}

impl Shared {
    async fn pass(&self, mut work: Work) {
        let scope = work.scope.clone();
        let done = self.read_and_write(&scope, &mut work).await;
        let now = Instant::now();
        let mut state = self.state();
        match done {
            Ok(()) => state.settle(&work, now),
            Err((failed, error)) => {
                tracing::warn!(zone = %self.config.domain, %error, "the zone cannot be brought up to date now");
                state.fail(error, failed, &work, now);
            }
        }
    }

    async fn read_and_write(&self, scope: &Scope, work: &mut Work) -> Result<(), (Stage, OutsideError)> {
        self.read(scope, work).await.map_err(|error| (Stage::Read, error))?;
        let (fresh, again) = self.state().writes(work);
        if fresh.is_empty() && again.is_empty() {
            return Ok(());
        }
        if self.config.read_only {
            let text = format!("the operator runs read-only: nothing is written to the zone {}", self.config.domain);
            return Err((Stage::Write, OutsideError::Forbidden(text)));
        }
        let touched = fresh.iter().chain(&again).map(|write| Box::from(write.op.name())).collect();
        self.send(fresh, again, work.priority).await.map_err(|error| (Stage::Write, error))?;
        let after = self.state().scope(touched, Instant::now());
        self.read(&after, work).await.map_err(|error| (Stage::Read, error))
    }

    /// Reads the names, or the zone, into the snapshot. Nothing is taken over from a reading that failed.
    async fn read(&self, scope: &Scope, work: &mut Work) -> Result<(), OutsideError> {
        match scope {
            Scope::Listing => {
                let records = self.api.list(work.priority).await?;
                self.state().listed(records, work, Instant::now());
            }
            Scope::Names(names) => {
                let (api, priority) = (&*self.api, work.priority);
                let read_one = move |name: Box<str>| async move {
                    let records = api.at(&name, priority).await?;
                    Ok::<_, OutsideError>((name, records))
                };
                let reads = stream::iter(names.clone()).map(read_one).buffer_unordered(PARALLEL_READS);
                let read: Vec<_> = reads.try_collect().await?;
                let mut state = self.state();
                let now = Instant::now();
                for (name, records) in read {
                    state.read(&name, records, now);
                }
            }
        }
        Ok(())
    }
}
