//! Sending writes: batches up to the zone's limit and quota, and finding the one record that spoils a batch.
//!
//! A batch is applied as a whole or not at all, and names only its first culprit. So a refused batch is halved until
//! the culprit is alone: about two calls per halving, and every other record goes through at once.

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::Shared;
use crate::dns::api::{Usage, Write};
use crate::dns::plan::{Op, Refusal};
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

/// Calls one pass may spend on refused batches. What is left over waits for the next pass, so that a zone that
/// refuses everything does not eat the request budget.
const SEARCH_CALLS: usize = 64;

/// Cloudflare's code for a full zone.
const FULL: &str = "81045";

/// Calls a pass may still spend on refused batches.
struct Search {
    calls: usize,
    /// The zone said it is full: no further record is created in this pass.
    full: bool,
}

impl Shared {
    /// Sends all writes, those that were refused before in batches of their own. What is refused by itself is noted
    /// with its owner.
    ///
    /// # Errors
    /// Anything that concerns the zone as a whole; what went through before stays so.
    pub(super) async fn send(
        &self,
        fresh: Vec<Write>,
        again: Vec<Write>,
        priority: Priority,
    ) -> Result<(), OutsideError> {
        let mut search = Search { calls: SEARCH_CALLS, full: false };
        for writes in [fresh, again] {
            let writes = self.fit(writes).await;
            for batch in writes.chunks(self.config.batch_limit.max(1)) {
                self.isolate(batch, false, priority, &mut search).await?;
            }
        }
        Ok(())
    }

    /// Sends a batch and, if it is refused, its halves. `spoilt` says that the whole is known to be refused. Returns
    /// whether anything in it was.
    fn isolate<'a>(
        &'a self,
        writes: &'a [Write],
        spoilt: bool,
        priority: Priority,
        search: &'a mut Search,
    ) -> BoxFuture<'a, Result<bool, OutsideError>> {
        Box::pin(async move {
            if search.full && writes.iter().any(|write| matches!(write.op, Op::Post(_))) {
                return Ok(true);
            }
            if !spoilt || writes.len() == 1 {
                match self.batch(writes, priority).await {
                    Ok(()) => return Ok(false),
                    Err(OutsideError::Refused { code, .. }) if code == FULL => {
                        self.note_full(writes);
                        search.full = true;
                        return Ok(true);
                    }
                    Err(OutsideError::Refused { code, message }) if writes.len() == 1 => {
                        let refusal = Refusal::Rejected { name: writes[0].op.name().to_owned(), code, message };
                        self.state().reject(&writes[0], refusal, Instant::now());
                        search.calls = search.calls.saturating_sub(1);
                        return Ok(true);
                    }
                    Err(OutsideError::Refused { .. }) => search.calls = search.calls.saturating_sub(1),
                    Err(error) => return Err(error),
                }
            }
            if search.calls == 0 {
                return Ok(true);
            }
            let (left, right) = writes.split_at(writes.len() / 2);
            let in_left = self.isolate(left, false, priority, search).await?;
            // If the left half was fine, the culprit is in the right one: no need to ask.
            let in_right = self.isolate(right, !in_left, priority, search).await?;
            Ok(in_left || in_right)
        })
    }

    async fn batch(&self, writes: &[Write], priority: Priority) -> Result<(), OutsideError> {
        if self.stop.is_cancelled() {
            return Err(OutsideError::Unavailable("the writer of the zone is being stopped".to_owned()));
        }
        let started = Instant::now();
        self.config.metrics.dns_batch(writes.len());
        let done = self.api.batch(writes, priority).await;
        let result = match &done {
            Ok(_) => "ok",
            Err(OutsideError::Refused { .. }) => "refused",
            Err(_) => "failed",
        };
        for write in writes {
            let kind = match write.op {
                Op::Delete(_) => "delete",
                Op::Patch { .. } => "update",
                Op::Post(_) => "create",
            };
            self.config.metrics.dns_operation(kind, result, started.elapsed());
        }
        let changed = done?;
        self.state().wrote(writes, changed);
        Ok(())
    }

    /// Keeps what fits into the zone, in the order of declaration; notes the rest as refused for want of room.
    async fn fit(&self, mut writes: Vec<Write>) -> Vec<Write> {
        let creates = |write: &Write| matches!(write.op, Op::Post(_));
        if !writes.iter().any(creates) {
            return writes;
        }
        let known = self.state().quota(Instant::now());
        let usage = match known {
            Some(usage) => usage,
            None => match self.look_at_quota().await {
                Some(usage) => usage,
                None => return writes, // the batch itself will be refused if there is no room
            },
        };
        let Some(quota) = usage.quota else { return writes };
        let deletes = writes.iter().filter(|write| matches!(write.op, Op::Delete(_))).count() as u64;
        let mut room = (quota + deletes).saturating_sub(usage.used);
        let mut state = self.state();
        let now = Instant::now();
        writes.retain(|write| {
            if !creates(write) {
                return true;
            }
            if room == 0 {
                // What was accepted before it has filled the zone.
                state.reject(write, Refusal::Quota { used: usage.used.max(quota), quota }, now);
                return false;
            }
            room -= 1;
            true
        });
        writes
    }

    /// Asks how full the zone is. `None` if it does not say, which is no reason not to write.
    pub(super) async fn look_at_quota(&self) -> Option<Usage> {
        match self.api.usage().await {
            Ok(usage) => {
                self.state().set_quota(usage, Instant::now());
                Some(usage)
            }
            Err(error) => {
                tracing::debug!(zone = %self.config.domain, %error, "the zone does not say how full it is");
                None
            }
        }
    }

    /// The zone is full although its usage did not say so: what was to be created waits for room.
    fn note_full(&self, writes: &[Write]) {
        let now = Instant::now();
        let mut state = self.state();
        let used = state.quota(now).map_or(0, |usage| usage.used);
        for write in writes.iter().filter(|write| matches!(write.op, Op::Post(_))) {
            state.reject(write, Refusal::Quota { used, quota: used }, now);
        }
        state.set_quota(Usage { used, quota: Some(used) }, now);
    }
}
