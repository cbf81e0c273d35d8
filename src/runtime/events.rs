//! Events in `events.k8s.io`: what `kubectl describe` shows beneath an object.
//!
//! They are written by a task of their own, so that one that cannot be written never fails or delays a pass.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a problem.
    pub warning: bool,
    /// A word for machines, the same as the condition's reason.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Note {
    /// Something worth knowing.
    pub fn normal(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), message: message.into() }
    }

    /// Something to act on.
    pub fn warning(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), message: message.into() }
    }
}

/// How many notes may wait to be written before new ones are dropped.
const WAITING: usize = 8192;
/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1024;

/// For how long a recorder counts repetitions.
const COUNTED: Duration = Duration::from_secs(6 * 60);

/// Where notes are handed in. Cheap to clone.
#[derive(Clone)]
pub struct Events(mpsc::Sender<(ObjectReference, Note)>);

impl Events {
    /// Starts the task that writes them as `roadstead.dev/operator`, in the order they come.
    #[must_use]
    pub fn start(client: Client, instance: String) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(ObjectReference, Note)>(WAITING);
        let reporter = Reporter { controller: "roadstead.dev/operator".into(), instance: Some(instance) };
        // One for each message: it counts all that it is given for an object and a reason as repetitions of the first
        // message, and what is new would not be said.
        let mut recorders: HashMap<String, (Recorder, Instant)> = HashMap::new();
        tokio::spawn(async move {
            while let Some((object, note)) = receiver.recv().await {
                if !recorders.contains_key(&note.message) {
                    recorders.retain(|_, (_, used)| used.elapsed() < COUNTED);
                }
                let (recorder, used) = recorders
                    .entry(note.message.clone())
                    .or_insert_with(|| (Recorder::new(client.clone(), reporter.clone()), Instant::now()));
                *used = Instant::now();
                if let Err(fault) = super::bounded(recorder.publish(&event(note), &object)).await {
                    tracing::warn!(error = %fault, object = ?object.name, "event not written");
                }
            }
        });
        Self(sender)
    }

    /// Hands in a note about `object`. Never waits: when thousands are waiting already, it is only logged.
    pub fn publish(&self, object: ObjectReference, note: Note) {
        if let Err(error) = self.0.try_send((object, note)) {
            tracing::warn!(%error, "event dropped");
        }
    }
}

fn event(mut note: Note) -> Event {
    if note.message.len() > LONGEST_NOTE {
        note.message.truncate(note.message.floor_char_boundary(LONGEST_NOTE));
    }
    Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason,
        note: Some(note.message),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}
