//! The driver: observe, validate, plan, apply, report, around kube's `Controller`.
//!
//! It owns the finalizer. A pass that merely succeeded never drops it; only [`Step::Gone`] does.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;
use tracing::Instrument;

use super::backoff;
use super::cache::{Cached, Key, lean, version};
use super::events::{Events, Note};
use super::fault::Fault;
use super::outcome::Ended;
use super::seeded::{self, Seeded};
use super::status::{self, Status};
use crate::metrics::Metrics;

pub use super::outcome::{Outcome, Wait};

/// What a plan says comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<A, S> {
    /// One external write, or one look outside.
    Do(A),
    /// Write this status, typically an intent, before anything else.
    Record(Box<S>),
    /// Nothing to do until then; `after` is when to look again should nothing wake us before.
    Wait(Wait),
    /// A stored back-off runs: nothing is done and the status stays as it is.
    Hold(Duration),
    /// A person has to act; looked at again at the resync.
    Stop {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
    /// What the spec asks for is in place.
    Done,
    /// Nothing is left outside: the finalizer may go.
    Gone,
}

#[cfg(test)]
impl<A, S> Step<A, S> {
    /// How a pass ends with this step; `None` for one that goes on, or that reports nothing.
    pub(crate) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Done => Some(Outcome::Done),
            Self::Wait(wait) => Some(Outcome::Waiting(wait)),
            Self::Stop { reason, message } => Some(Outcome::Stopped { reason, message }),
            Self::Do(_) | Self::Record(_) | Self::Hold(_) | Self::Gone => None,
        }
    }
}

/// One kind's behaviour. Decisions are in `plan`, which is pure; I/O is in `observe` and `apply`.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Object: Cached + Serialize;
    /// Its status.
    type Status: Status;
    /// What is known at the start of a step.
    type Observed: Send + Sync;
    /// What was learned during this pass and need not survive it.
    type Facts: Default + Send + Sync;
    /// What may be done.
    type Action: Debug + Send + Sync;

    /// The controller's name in logs and metrics.
    const NAME: &'static str;
    /// The finalizer this controller owns.
    const FINALIZER: &'static str;
    /// A plan that needs more steps than this in one pass goes round in circles.
    const MOST_STEPS: usize = 32;

    /// The API of the kind: of `namespace`, or of the cluster for a cluster-wide kind.
    fn api(client: Client, namespace: &str) -> Api<Self::Object>;
    /// The object's status, or an empty one.
    fn status(object: &Self::Object) -> Self::Status;
    /// Reads what the plan needs: caches and snapshots, no call per object.
    async fn observe(&self, object: &Arc<Self::Object>) -> Result<Self::Observed, Fault>;
    /// Decides the next step.
    fn plan(&self, observed: &Self::Observed, facts: &Self::Facts, now: Timestamp) -> Step<Self::Action, Self::Status>;
    /// Does one thing and says what was learned: a status to write now, or facts for the rest of this pass.
    async fn apply(
        &self,
        observed: &Self::Observed,
        facts: &mut Self::Facts,
        action: Self::Action,
    ) -> Result<Option<Self::Status>, Fault>;
    /// The status that follows from what was seen and how the pass ended.
    fn report(&self, observed: &Self::Observed, facts: &Self::Facts, outcome: &Outcome, now: Timestamp)
    -> Self::Status;
    /// What to tell people about the way from the `old` status to the `new` one.
    fn notes(&self, old: &Self::Status, new: &Self::Status) -> Vec<Note>;
    /// How soon to look again at an object that is in place or stopped, where that is sooner than the resync: for what
    /// is not watched.
    fn recheck(&self) -> Option<Duration> {
        None
    }
}

/// What every driver needs.
#[derive(Clone)]
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// Where events go.
    pub events: Events,
    /// Where durations and outcomes go.
    pub metrics: Metrics,
    /// How often every object is looked at again.
    pub resync: Duration,
    /// How many objects of the kind are in hand at once.
    pub concurrency: u16,
}

struct Driver<R: Reconciler> {
    reconciler: Arc<R>,
    parts: Parts,
    /// What we wrote last, until the watch has caught up with it: a pass never starts from before its own writes.
    written: Mutex<HashMap<String, Arc<R::Object>>>,
    /// Failures in a row that could not be stored, because the API server itself failed.
    failures: Mutex<HashMap<String, i64>>,
    /// Objects released a moment ago, by UID: the watch may show them for a while yet, and a pass over such a ghost
    /// would write outside for an object that is no more.
    released: Mutex<HashMap<String, Instant>>,
}

/// How long the watch is given to notice that an object is gone.
const GHOST: Duration = Duration::from_secs(600);

/// Runs the controller until `shutdown`; reconciles in hand are finished first.
///
/// `wakes` are objects to look at because something about them changed elsewhere.
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    parts: Parts,
    wakes: impl Stream<Item = Key> + Send + 'static,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let api: Api<DeserializeGuard<R::Object>> = Api::all(parts.client.clone());
    let concurrency = parts.concurrency.max(1);
    let driver = Arc::new(Driver::new(reconciler, parts));
    let (objects, writer) = reflector::store();
    let changes = watcher(api, watcher::Config::default()).modify(lean).reflect(writer).applied_objects();
    Controller::for_stream(changes, objects)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(wakes.map(|key| {
            let object = ObjectRef::new(&key.name);
            if key.namespace.is_empty() { object } else { object.within(&key.namespace) }
        }))
        .graceful_shutdown_on(shutdown)
        .run(
            |object, driver: Arc<Driver<R>>| async move {
                Ok::<_, std::convert::Infallible>(driver.reconcile(object).await)
            },
            |_, _, _| Action::requeue(Duration::from_secs(60)),
            driver,
        )
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(controller = R::NAME, %error, "queue");
            }
        })
        .await;
}

impl<R: Reconciler> Driver<R> {
    fn new(reconciler: Arc<R>, parts: Parts) -> Self {
        let (written, failures, released) = Default::default();
        Self { reconciler, parts, written, failures, released }
    }

    async fn reconcile(&self, guarded: Arc<DeserializeGuard<R::Object>>) -> Action {
        let key = Key::of(&*guarded);
        let object = match &guarded.0 {
            Ok(object) => Arc::new(object.clone()),
            Err(invalid) => {
                tracing::error!(controller = R::NAME, object = %key, error = %invalid.error, "object cannot be read");
                let note = Note::warning("Undecodable", format!("this object cannot be read: {}", invalid.error));
                self.parts.events.publish(guarded.object_ref(&()), note);
                return Action::await_change();
            }
        };
        let trace = format!("{:08x}", fastrand::u32(..));
        let span = tracing::info_span!("reconcile", controller = R::NAME, object = %key, trace);
        let started = Instant::now();
        let (outcome, action) = self.passes(self.freshest(object)).instrument(span).await;
        self.parts.metrics.reconciled(R::NAME, outcome, started.elapsed());
        action
    }

    /// The object as the watch has it, or as we wrote it last if that is newer.
    fn freshest(&self, object: Arc<R::Object>) -> Arc<R::Object> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = object.uid().unwrap_or_default();
        match written.get(&uid) {
            Some(ours) if version(&**ours) > version(&*object) => ours.clone(),
            _ => {
                written.remove(&uid);
                object
            }
        }
    }

    fn wrote(&self, mut object: R::Object) -> Arc<R::Object> {
        lean(&mut object);
        let object = Arc::new(object);
        let uid = object.uid().unwrap_or_default();
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, object.clone());
        object
    }

    fn forget(&self, uid: &str) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn release(&self, uid: String) {
        self.forget(&uid);
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.retain(|_, at| at.elapsed() < GHOST);
        released.insert(uid, Instant::now());
    }

    /// One pass, and its end in terms of metrics and the queue.
    async fn passes(&self, object: Arc<R::Object>) -> (&'static str, Action) {
        let uid = object.uid().unwrap_or_default();
        let deleting = object.meta().deletion_timestamp.is_some();
        let held = object.finalizers().iter().any(|f| f == R::FINALIZER);
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&uid);
        if deleting && (!held || released) {
            self.forget(&uid);
            return ("ignored", Action::await_change());
        }
        let held = if held { Ok(object) } else { self.set_finalizer(&object, true).await };
        let result = match held {
            Ok(object) => self.pass(object).await,
            Err(fault) => Err(fault),
        };
        let fault = match result {
            Ok(end) => {
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
                return end;
            }
            Err(fault) => fault,
        };
        match fault {
            Fault::Gone => {
                self.forget(&uid);
                ("gone", Action::await_change())
            }
            Fault::Conflict => ("conflict", Action::requeue(Duration::from_millis(100))),
            Fault::RateLimited(after) | Fault::Waiting { after, .. } => ("waiting", Action::requeue(after)),
            Fault::Transient { message, .. } | Fault::Terminal { message, .. } => {
                let attempts = {
                    let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                    let attempts = failures.entry(uid).or_default();
                    *attempts += 1;
                    *attempts
                };
                let after = backoff::after(attempts, fastrand::f64());
                tracing::warn!(%message, ?after, "pass failed");
                ("error", Action::requeue(after))
            }
        }
    }

    /// Observe, plan and apply until the plan ends; then report. An error is one of the API server's, or of looking.
    async fn pass(&self, mut object: Arc<R::Object>) -> Result<(&'static str, Action), Fault> {
        let mut facts = R::Facts::default();
        for _ in 0..R::MOST_STEPS {
            let observed = self.reconciler.observe(&object).await?;
            let now = Timestamp::now();
            let outcome = match self.reconciler.plan(&observed, &facts, now) {
                Step::Gone => {
                    self.set_finalizer(&object, false).await?;
                    self.release(object.uid().unwrap_or_default());
                    tracing::info!("nothing is left outside; released");
                    return Ok(("gone", Action::await_change()));
                }
                Step::Record(status) => {
                    object = self.write(&object, &status).await?;
                    continue;
                }
                Step::Do(action) => {
                    tracing::debug!(?action, "step");
                    match self.reconciler.apply(&observed, &mut facts, action).await {
                        // The count of failures stays: a look that succeeds is no success of the step it prepares, and
                        // would reset the back-off before each try. The kind ends it where the step has succeeded.
                        Ok(Some(status)) => {
                            object = self.write(&object, &status).await?;
                            continue;
                        }
                        Ok(None) => continue,
                        Err(fault) => Ended::of(fault, self.resync())?,
                    }
                }
                Step::Hold(after) => return Ok(("held", Action::requeue(after))),
                Step::Done => Ended::plain(Outcome::Done, self.recheck()),
                Step::Wait(wait) => {
                    let after = wait.after.min(self.resync());
                    Ended::plain(Outcome::Waiting(wait), after)
                }
                Step::Stop { reason, message } => Ended::plain(Outcome::Stopped { reason, message }, self.recheck()),
            };
            let deleting = object.meta().deletion_timestamp.is_some();
            if deleting && !outcome.failed && seeded::is(Seeded::FinalizerOnSuccess) {
                self.set_finalizer(&object, false).await?;
            }
            return self.report(&object, &observed, &facts, outcome, Timestamp::now()).await;
        }
        Err(Fault::terminal("Internal", "the plan did not come to an end"))
    }

    async fn report(
        &self,
        object: &Arc<R::Object>,
        observed: &R::Observed,
        facts: &R::Facts,
        ended: Ended,
        now: Timestamp,
    ) -> Result<(&'static str, Action), Fault> {
        let mut new = self.reconciler.report(observed, facts, &ended.outcome, now);
        let after = ended.store(new.journal(), fastrand::f64(), now);
        match self.write(object, &new).await {
            Err(Fault::Conflict) if ended.failed => self.insist(object, &new).await?,
            written => drop(written?),
        }
        Ok((ended.outcome.name(), Action::requeue(after)))
    }

    /// The resync interval, with a tenth of jitter so that objects do not come all at once.
    fn resync(&self) -> Duration {
        self.parts.resync.mul_f64(0.9 + fastrand::f64() * 0.2)
    }

    fn recheck(&self) -> Duration {
        let resync = self.resync();
        self.reconciler.recheck().map_or(resync, |recheck| recheck.min(resync))
    }

    /// Writes the status if it changed, then tells people.
    async fn write(&self, object: &Arc<R::Object>, new: &R::Status) -> Result<Arc<R::Object>, Fault> {
        let old = R::status(object);
        let api = self.api(object);
        match status::write(&api, &**object, &old, new).await {
            Ok(Some(written)) => {
                for note in self.reconciler.notes(&old, new) {
                    self.parts.events.publish(object.object_ref(&()), note);
                }
                Ok(self.wrote(written))
            }
            Ok(None) => Ok(object.clone()),
            Err(Fault::Conflict) => {
                self.forget(&object.uid().unwrap_or_default());
                Err(Fault::Conflict)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Writes the status of a failed attempt over changes of spec and metadata: a back-off that a busy writer elsewhere
    /// could keep from being stored would be none. A changed status is another matter, and observed again.
    async fn insist(&self, object: &Arc<R::Object>, new: &R::Status) -> Result<(), Fault> {
        let api = self.api(object);
        for _ in 0..8 {
            let fresh = Arc::new(super::bounded(api.get(&object.name_any())).await?);
            if fresh.uid() != object.uid() || R::status(&fresh) != R::status(object) {
                break;
            }
            match self.write(&fresh, new).await {
                Err(Fault::Conflict) => {}
                written => return written.map(drop),
            }
        }
        Err(Fault::Conflict)
    }

    async fn set_finalizer(&self, object: &Arc<R::Object>, held: bool) -> Result<Arc<R::Object>, Fault> {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.retain(|f| f != R::FINALIZER);
        if held {
            finalizers.push(R::FINALIZER.to_owned());
        }
        let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
        let api = self.api(object);
        let name = object.name_any();
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        Ok(self.wrote(super::bounded(api.patch(&name, &params, &patch)).await?))
    }

    fn api(&self, object: &R::Object) -> Api<R::Object> {
        R::api(self.parts.client.clone(), &object.namespace().unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
