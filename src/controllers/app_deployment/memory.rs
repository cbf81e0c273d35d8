//! What is remembered of an app on a host between two passes, and may be lost: the revision that was prepared there, what
//! was answered to probes, and work that outlives a pass.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use jiff::Timestamp;
use kube::ResourceExt;

use super::apply::Finished;
use crate::api::app_deployment::AppDeployment;
use crate::host::app::Prepared;
use crate::host::deploy::seen::Answer;
use crate::probe::Failure;

/// As what an app was last seen to be whole on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// When.
    pub at: Timestamp,
    /// What was wanted of it.
    pub what: String,
}

/// What each container answered inside, and each name outside.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// By the container's id.
    pub internal: BTreeMap<String, Answer>,
    /// By name.
    pub external: BTreeMap<String, Answer>,
}

/// Of all apps.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<(String, String), Arc<Place>>>);

/// Of one app on one host.
#[derive(Default)]
pub struct Place(Mutex<State>);

#[derive(Default)]
struct State {
    prepared: Option<(String, Arc<Prepared>)>,
    answers: Answers,
    running: bool,
    finished: Option<Finished>,
    settled: Option<Settled>,
    ill: Option<Failure>,
}

impl Memory {
    /// Of an app on the host of a Node.
    pub fn of(&self, app: &AppDeployment, node: &str) -> Arc<Place> {
        let key = (app.uid().unwrap_or_default(), node.to_owned());
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// Forgets an app.
    pub fn forget(&self, app: &AppDeployment) {
        let uid = app.uid().unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(app, _), _| *app != uid);
    }
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in how the work there stands; says whether it has ended.
    pub fn finish(&self, work: Option<Poll<Finished>>) -> bool {
        let mut state = self.state();
        state.running = matches!(work, Some(Poll::Pending));
        if let Some(Poll::Ready(finished)) = work {
            state.finished = Some(finished);
        }
        state.finished.is_some()
    }

    /// Whether work runs there.
    pub fn busy(&self) -> bool {
        self.state().running
    }

    /// What came of the work, once.
    pub fn take(&self) -> Option<Finished> {
        self.state().finished.take()
    }

    /// The revision that was prepared there for exactly `word`.
    pub fn prepared(&self, word: &str) -> Option<Arc<Prepared>> {
        let state = self.state();
        state.prepared.as_ref().filter(|(of, _)| of == word).map(|(_, prepared)| Arc::clone(prepared))
    }

    /// Remembers it.
    pub fn set_prepared(&self, word: String, prepared: Arc<Prepared>) {
        self.state().prepared = Some((word, prepared));
    }

    /// What was answered there last.
    pub fn answers(&self) -> Answers {
        self.state().answers.clone()
    }

    /// Remembers answers of containers that are asked now; others are over.
    pub fn answered_inside(&self, answers: BTreeMap<String, Answer>) {
        self.state().answers.internal = answers;
    }

    /// Remembers answers of names.
    pub fn answered_outside(&self, answers: BTreeMap<String, Answer>) {
        self.state().answers.external.extend(answers);
    }

    /// As what the app was last seen to be whole.
    pub fn settled(&self) -> Option<Settled> {
        self.state().settled.clone()
    }

    /// Remembers that.
    pub fn set_settled(&self, settled: Settled) {
        self.state().settled = Some(settled);
    }

    /// What the host said last is the matter with the app there.
    pub fn ill(&self) -> Option<Failure> {
        self.state().ill.clone()
    }

    /// Remembers that, or that nothing is.
    pub fn set_ill(&self, ill: Option<Failure>) {
        self.state().ill = ill;
    }
}
