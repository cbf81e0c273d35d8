//! How an Environment stands, in the words of its `Ready` condition and its phase (pure).

use kube::{Resource, ResourceExt};

use super::child_name;
use super::observe::{Child, View};
use super::plan::{is_current, is_established};
use crate::api::condition::{self, READY, RECONCILING, STALLED};
use crate::api::environment::OnExpiry;
use crate::api::node::Node;
use crate::runtime::claims::Standing;

/// Which of the three conditions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Ready.
    Ready,
    /// Not Ready, and Reconciling.
    Progressing,
    /// Not Ready, and Stalled.
    Stalled,
    /// All three, and the phase, stay as they are.
    Kept,
}

/// How an Environment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which conditions hold.
    pub state: State,
    /// The phase; not used where the state is kept.
    pub phase: &'static str,
    /// A word for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// After this many failures in a row a child that is being deleted is called stuck.
const STUCK: i64 = 5;

impl Verdict {
    pub(super) fn kept() -> Self {
        Self { state: State::Kept, phase: "", reason: "Paused".to_owned(), message: PAUSED.to_owned() }
    }

    pub(super) fn progressing(phase: &'static str, reason: &str, message: String) -> Self {
        Self { state: State::Progressing, phase, reason: reason.to_owned(), message }
    }

    pub(super) fn stalled(phase: &'static str, reason: &str, message: String) -> Self {
        Self { state: State::Stalled, phase, reason: reason.to_owned(), message }
    }
}

/// The message of the condition `Paused`.
pub(super) const PAUSED: &str = "nothing is done, not even at the end of its life or when it is deleted, until the annotation roadstead.dev/paused \
     is removed";

/// How the Environment stands.
#[must_use]
pub fn verdict(view: &View) -> Verdict {
    if view.paused() {
        return Verdict::kept();
    }
    if view.deleting() {
        return match &view.child {
            Child::Own(node) if !view.orphaning() => leaving(view, node, "Deleting"),
            _ => Verdict::progressing(
                "Deleting",
                "Deleting",
                "waiting for Kubernetes to release what it owns".to_owned(),
            ),
        };
    }
    match view.life() {
        Err(message) => Verdict::stalled("Error", "InvalidLifetime", message),
        Ok(Some(life)) if life.end <= view.now => expired(view),
        Ok(_) => alive(view),
    }
}

fn expired(view: &View) -> Verdict {
    match (&view.child, view.environment.spec.on_expiry) {
        (Child::Own(node), _) => leaving(view, node, "Expiring"),
        (_, OnExpiry::Delete) => Verdict::progressing(
            "Deleting",
            "Expiring",
            "its time is over; this Environment is being deleted".to_owned(),
        ),
        (_, OnExpiry::Keep) => Verdict {
            state: State::Ready,
            phase: "Expired",
            reason: "Expired".to_owned(),
            message: "its time is over and its VM and record are gone; extend spec.lifetime or spec.expiresAt to \
                      bring it back under the same name"
                .to_owned(),
        },
    }
}

fn alive(view: &View) -> Verdict {
    let name = child_name(&view.environment.name_any());
    if let (Some(rollback), false) = (&view.memory.rollback, matches!(view.child, Child::Foreign)) {
        let condemned = view.own().is_some_and(|node| {
            let ours = node.uid().as_ref() == Some(&rollback.node);
            ours && (node.meta().deletion_timestamp.is_some() || !is_established(view, node))
        });
        let waiting =
            matches!(view.child, Child::Absent) && !rollback.is_over(view.environment.metadata.generation, view.now);
        if condemned || waiting {
            let mut message =
                format!("the name could not be published, so the VM was rolled back: {}", rollback.message);
            if let Some(progress) = view.own().and_then(|node| progress(view, node)) {
                message = format!("{message}. Removing the VM: {}", progress.message);
            }
            return Verdict::stalled("Error", &rollback.reason, message);
        }
    }
    match &view.child {
        Child::Foreign => Verdict::stalled(
            "Error",
            "NodeNameTaken",
            format!(
                "the Node {name} exists and is not this Environment's: delete it (`kubectl delete rnode {name}`), or \
                 create the Environment under another name"
            ),
        ),
        Child::Earlier => Verdict::progressing(
            "Provisioning",
            "WaitingForEarlierNode",
            format!("waiting until the Node {name} of an earlier Environment of this name is gone"),
        ),
        Child::Absent => absent(view, &name),
        Child::Own(node) if node.meta().deletion_timestamp.is_some() => Verdict::progressing(
            "Provisioning",
            "NodeDeleted",
            format!("the Node {name} is being deleted; it is created again once its record and VM are gone"),
        ),
        Child::Own(node) if node.spec.hostname.as_ref() != Some(&view.slug()) => Verdict::progressing(
            "Provisioning",
            "ChangingSlug",
            format!("the Node {name} is made again under the slug `{}`", view.slug()),
        ),
        Child::Own(node) => mirrored(node),
    }
}

fn absent(view: &View, name: &str) -> Verdict {
    let slug = view.slug();
    let given = view.environment.spec.slug.is_some();
    let fqdn = view.fqdn().map_or_else(|| slug.clone(), |name| name.to_string());
    match &view.standing {
        Standing::Taken { namespace, holder } if given => Verdict::stalled(
            "Error",
            "HostnameTaken",
            format!(
                "spec.slug: `{slug}` is taken: {fqdn} is held by {} {namespace}/{}; create the Environment with \
                 another slug, or without one",
                holder.kind, holder.name
            ),
        ),
        Standing::Reserved { namespace, .. } if given => Verdict::progressing(
            "Provisioning",
            "HostnameReserved",
            format!(
                "{fqdn} was released by namespace {namespace} and stays reserved until its record has left every \
                 cache: this goes on by itself then"
            ),
        ),
        _ => Verdict::progressing("Provisioning", "CreatingNode", format!("creating the Node {name} for {fqdn}")),
    }
}

/// What the child says, as the Environment's own.
fn mirrored(node: &Node) -> Verdict {
    let conditions = node.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let (reason, message) = said(node);
    let ready = condition::get(conditions, READY).filter(|c| c.status == "True");
    if !is_current(node) {
        let message = format!("waiting for the Node {} to take up its spec", node.name_any());
        return Verdict::progressing("Provisioning", "WaitingForNode", message);
    }
    if ready.is_some_and(|c| c.observed_generation == node.metadata.generation) {
        return Verdict { state: State::Ready, phase: "Active", reason, message };
    }
    if condition::is_true(conditions, STALLED) {
        return Verdict::stalled("Error", &reason, message);
    }
    Verdict::progressing("Provisioning", &reason, message)
}

/// The child's reason and message: of what keeps it from being ready, else of its readiness.
fn said(node: &Node) -> (String, String) {
    let conditions = node.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let holds = |type_: &str| condition::get(conditions, type_).filter(|c| c.status == "True");
    let telling = holds(READY).or_else(|| holds(STALLED)).or_else(|| holds(RECONCILING));
    match telling.or_else(|| condition::get(conditions, READY)) {
        Some(condition) => (condition.reason.clone(), condition.message.clone()),
        None => ("WaitingForNode".to_owned(), format!("waiting for the Node {}", node.name_any())),
    }
}

/// A child on its way out, as the Environment's own end.
fn leaving(view: &View, node: &Node, reason: &'static str) -> Verdict {
    progress(view, node).unwrap_or_else(|| {
        let message = format!("waiting for the Node {} to withdraw its record and delete its VM", node.name_any());
        Verdict::progressing("Deleting", reason, message)
    })
}

/// How far the end of a child has got, in its own words, with the way out where it needs one; `None` until it begins.
fn progress(view: &View, node: &Node) -> Option<Verdict> {
    if !is_current(node) || node.meta().deletion_timestamp.is_none() {
        return None;
    }
    let (reason, mut message) = said(node);
    if is_stuck(node) {
        message = format!("{message}. {}", way_out(view));
    }
    let stalled = node.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, STALLED));
    let state = if stalled { Verdict::stalled } else { Verdict::progressing };
    Some(state("Deleting", &reason, message))
}

/// Whether a child that is being deleted needs a person.
fn is_stuck(node: &Node) -> bool {
    node.status.as_ref().is_some_and(|s| {
        let failures = s.journal.as_ref().and_then(|j| j.attempts).unwrap_or(0);
        is_current(node) && (condition::is_true(&s.conditions, STALLED) || failures >= STUCK)
    })
}

fn way_out(view: &View) -> String {
    format!(
        "To give up what cannot be removed: `kubectl annotate environment {} roadstead.dev/abandon=dns` (the record) or \
         `=vm` (the VM)",
        view.environment.name_any()
    )
}
