//! The one task behind the engine: it starts probes as they fall due, takes in their results, asks the self-check and
//! hands out transitions. It never waits for any of these.
//!
//! Between probes a target is an entry in a queue; only a probe in flight has a task.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, pending};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::state::Launch;
use super::{Check, Meter, Outcome, Probed, Prober, Scheme, SelfCheck, Shared, Transition};

/// A self-check that takes longer has failed.
const SELF_CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// From one self-check to the next while there is doubt.
const SELF_CHECK_GAP: Duration = Duration::from_millis(250);
/// The same while our own network is known to be down.
const ISOLATED_GAP: Duration = Duration::from_secs(1);
/// Probes that could not be made are logged at most this often.
const COMPLAINT_GAP: Duration = Duration::from_mins(1);

/// Runs until the engine is stopped. Probes in flight end with it.
pub(super) async fn run(shared: Arc<Shared>, transitions: mpsc::Sender<Transition>) {
    let now = Instant::now();
    let mut scheduler = Scheduler {
        probes: JoinSet::new(),
        outbox: VecDeque::new(),
        checking: None,
        next_check: now,
        next_complaint: now,
        shared,
    };
    let stop = scheduler.shared.stop.clone();
    loop {
        let wake = scheduler.start_what_is_due();
        let Scheduler { probes, outbox, checking, shared, .. } = &mut scheduler;
        tokio::select! {
            () = stop.cancelled() => return,
            Some(done) = probes.join_next() => match done {
                Ok((launch, outcome)) => scheduler.finish(&launch, outcome),
                // Only a runtime that shuts down cancels a probe, and none of them panics outside its guard.
                Err(error) => tracing::error!(%error, "a probe was lost"),
            },
            passed = settled(checking) => scheduler.checked(passed),
            () = until(wake) => {}
            () = shared.changed.notified() => {}
            permit = transitions.reserve(), if !outbox.is_empty() => match (permit, outbox.pop_front()) {
                (Ok(permit), Some(transition)) => permit.send(transition),
                // Nobody listens any more; verdicts can still be asked for.
                _ => outbox.clear(),
            },
        }
    }
}

struct Scheduler {
    shared: Arc<Shared>,
    probes: JoinSet<(Launch, Outcome)>,
    outbox: VecDeque<Transition>,
    /// The self-check under way.
    checking: Option<BoxFuture<'static, bool>>,
    next_check: Instant,
    next_complaint: Instant,
}

impl Scheduler {
    /// Starts every probe that is due, as far as there is room, and the self-check. When to look again.
    fn start_what_is_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.shared.state();
        while self.probes.len() < self.shared.concurrency {
            let Some(launch) = state.take_due(now) else { break };
            let (prober, meter) = (Arc::clone(&self.shared.prober), Arc::clone(&self.shared.meter));
            self.probes.spawn(probe(launch, prober, meter));
        }
        let mut wake = state.next_due().filter(|_| self.probes.len() < self.shared.concurrency);
        if state.wants_self_check() && self.checking.is_none() {
            if self.next_check <= now {
                state.begin_self_check();
                self.checking = Some(reachable(Arc::clone(&self.shared.self_check)).boxed());
            } else {
                wake = Some(wake.map_or(self.next_check, |wake| wake.min(self.next_check)));
            }
        }
        wake
    }

    fn finish(&mut self, launch: &Launch, outcome: Outcome) {
        let now = Instant::now();
        if let Outcome::Inconclusive(why) = &outcome
            && self.next_complaint <= now
        {
            tracing::warn!(why, "probes cannot be made; verdicts stay as they are");
            self.next_complaint = now + COMPLAINT_GAP;
        }
        let turned = self.shared.state().finish(launch, outcome, now, Timestamp::now());
        self.outbox.extend(turned);
    }

    fn checked(&mut self, passed: bool) {
        self.checking = None;
        let now = Instant::now();
        let (turned, isolated) = {
            let mut state = self.shared.state();
            (state.end_self_check(passed, Timestamp::now()), state.is_isolated())
        };
        self.outbox.extend(turned);
        self.next_check = now + if isolated { ISOLATED_GAP } else { SELF_CHECK_GAP };
        let changed = self.shared.isolated.send_if_modified(|before| std::mem::replace(before, isolated) != isolated);
        if changed {
            self.shared.meter.isolated(isolated);
            if isolated {
                tracing::warn!(
                    "most probes fail and nothing else can be reached: our own network is down, verdicts freeze"
                );
            } else {
                tracing::info!("our own network is back: results count anew");
            }
        }
    }
}

/// One probe, from its first breath: how late it is says how busy the machine is, too.
async fn probe(launch: Launch, prober: Arc<dyn Prober>, meter: Arc<dyn Meter>) -> (Launch, Outcome) {
    let begun = Instant::now();
    let guarded = AssertUnwindSafe(prober.probe(&launch.target)).catch_unwind();
    let outcome = guarded.await.unwrap_or_else(|_| Outcome::Inconclusive("the prober panicked".to_owned()));
    let check = match &launch.target.check {
        Check::Http(check) if check.scheme == Scheme::Https => "https",
        Check::Http(_) => "http",
        Check::Tcp { .. } => "tcp",
        Check::Site(_) => "site",
    };
    let result = match &outcome {
        Outcome::Success => "Success",
        Outcome::Failure(failure) => failure.reason,
        Outcome::Inconclusive(_) => "Inconclusive",
    };
    meter.probed(&Probed { check, result, late: begun - launch.due, took: begun.elapsed() });
    (launch, outcome)
}

async fn reachable(check: Arc<dyn SelfCheck>) -> bool {
    timeout(SELF_CHECK_TIMEOUT, check.reachable()).await.unwrap_or(false)
}

async fn settled(checking: &mut Option<BoxFuture<'static, bool>>) -> bool {
    match checking {
        Some(check) => check.await,
        None => pending().await,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => pending().await,
    }
}
