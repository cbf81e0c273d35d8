//! The Environment's plan: every decision, none of the I/O.
//!
//! Alive: choose a slug and record it, create the child Node, keep it as the spec says, and mirror what it says. Where
//! its name cannot be published, the child and its VM are rolled back. At the end of its life the child goes and the
//! Environment stays, or goes too. Deleted: the child goes first; it withdraws the name before its VM.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

use super::memory::Rollback;
use super::observe::{Child, Facts, Observed, View, has_vm};
use super::verdict::{State, Verdict, verdict};
use super::{annotation, annotation_key, child_name, report};
use crate::api::condition::{self, STALLED, whole_seconds};
use crate::api::environment::{EnvironmentStatus, OnExpiry};
use crate::api::node::{Node, NodeSpec, NodeStatus};
use crate::api::refs::DeletionPolicy;
use crate::runtime::claims::Standing;
use crate::runtime::driver::{Step, Wait};
use crate::runtime::status::difference;

/// What may be done for an Environment.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the child.
    CreateNode(Box<Node>),
    /// Change the child with this UID by a merge patch.
    PatchNode {
        /// The child's UID.
        uid: String,
        /// The merge patch, without the UID.
        patch: Value,
    },
    /// Delete the child with this UID.
    DeleteNode {
        /// The child's UID.
        uid: String,
    },
    /// Delete the Environment itself, which has ended.
    DeleteSelf,
}

/// A step of the Environment's plan.
pub type EnvironmentStep = Step<Action, EnvironmentStatus>;

/// The intent recorded before the child is created.
pub(super) const CREATE_NODE: &str = "CreateNode";
/// Ends a step whose reason the verdict knows: the child's reasons are words of its own.
pub(super) const SETTLED: &str = "Settled";
/// Why a child may be stalled and unpublished without its name being at fault: each asks a person for a decision that
/// removing the VM would take away.
const NOT_THE_NAME: [&str; 4] = ["AdoptionRequired", "AccountChanged", "VMLost", "ReplacementRequired"];
/// The longest back-off between two rollbacks.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// Timers and the wall clock differ a little: a deadline is looked at just after it.
const AFTER_DEADLINE: Duration = Duration::from_millis(50);

/// Decides the next step.
#[must_use]
pub fn plan(observed: &Observed, facts: &Facts, now: Timestamp) -> EnvironmentStep {
    let view = View::new(observed, facts, now);
    if let Some(left) = back_off(&view) {
        return Step::Hold(left);
    }
    next(&view).unwrap_or_else(|| settle(&view))
}

/// What is left of a stored back-off. A new generation, which a deletion is too, ends it.
fn back_off(view: &View) -> Option<Duration> {
    let not_before = view.status.journal.as_ref()?.not_before.as_ref()?.0;
    if view.status.observed_generation != view.environment.metadata.generation {
        return None;
    }
    Duration::try_from(not_before.duration_since(view.now)).ok().filter(|left| !left.is_zero())
}

/// What there is to do; `None` if there is nothing but to wait.
fn next(view: &View) -> Option<EnvironmentStep> {
    if view.paused() {
        return view.own().and_then(|node| keep(view, node));
    }
    if view.deleting() {
        return match &view.child {
            _ if view.orphaning() => None,
            Child::Own(node) => retire(view, node),
            Child::Absent | Child::Earlier | Child::Foreign => Some(Step::Gone),
        };
    }
    match view.life() {
        Err(_) => None,
        Ok(Some(life)) if life.end <= view.now => end(view),
        Ok(_) => alive(view),
    }
}

/// At the end of its life.
fn end(view: &View) -> Option<EnvironmentStep> {
    match (view.environment.spec.on_expiry, view.own()) {
        (OnExpiry::Unknown, _) => None,
        (OnExpiry::Keep, child) => child.and_then(|node| retire(view, node)),
        // The child is marked as expired before its owner goes.
        (OnExpiry::Delete, child) => child.and_then(|node| keep(view, node)).or(Some(Step::Do(Action::DeleteSelf))),
    }
}

fn alive(view: &View) -> Option<EnvironmentStep> {
    let node = match &view.child {
        Child::Absent => return create(view),
        Child::Earlier | Child::Foreign => return None,
        Child::Own(node) => node,
    };
    if node.meta().deletion_timestamp.is_some() {
        return keep(view, node);
    }
    let condemned = view.memory.rollback.as_ref().is_some_and(|r| Some(&r.node) == node.uid().as_ref());
    if (condemned && !is_established(view, node)) || node.spec.hostname.as_ref() != Some(&view.slug()) {
        return Some(delete(node));
    }
    if is_taken(node) && view.environment.spec.slug.is_none() && !has_vm(node) {
        return Some(collide(view));
    }
    if let Some(rollback) = rollback(view, node) {
        let mut after = view.clone();
        after.memory.rollback = Some(rollback);
        return Some(record(&after));
    }
    keep(view, node)
}

/// The way to a child: a slug nobody holds, the intent, the create.
fn create(view: &View) -> Option<EnvironmentStep> {
    let generation = view.environment.metadata.generation;
    if view.memory.rollback.as_ref().is_some_and(|r| !r.is_over(generation, view.now)) {
        return None;
    }
    let given = view.environment.spec.slug.is_some();
    match &view.standing {
        Standing::Free | Standing::Ours => {}
        Standing::Taken { .. } | Standing::Reserved { .. } if given => return None,
        Standing::Taken { .. } | Standing::Reserved { .. } => return Some(collide(view)),
    }
    let slug = view.slug();
    let intended = view.status.journal.as_ref().is_some_and(|j| j.intent.as_deref() == Some(CREATE_NODE));
    if !intended || view.status.slug.as_ref() != Some(&slug) {
        let mut after = view.clone();
        after.status.slug = Some(slug);
        let journal = after.status.journal.get_or_insert_default();
        journal.intent = Some(CREATE_NODE.to_owned());
        journal.started_at = Some(whole_seconds(view.now));
        return Some(record(&after));
    }
    Some(Step::Do(Action::CreateNode(Box::new(child(view)))))
}

/// Goes on to the next derived slug.
fn collide(view: &View) -> EnvironmentStep {
    let mut after = view.clone();
    after.status.slug = Some(view.next_slug());
    after.memory.collisions += 1;
    record(&after)
}

fn record(view: &View) -> EnvironmentStep {
    Step::Record(Box::new(report::compose(view, &verdict(view))))
}

/// Whether the child found its name held by another object.
fn is_taken(node: &Node) -> bool {
    let conditions = node.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    is_current(node)
        && condition::get(conditions, STALLED).is_some_and(|c| c.status == "True" && c.reason == "HostnameTaken")
}

/// Whether the child's status is about its present spec.
pub(super) fn is_current(node: &Node) -> bool {
    node.status.as_ref().is_some_and(|s| s.observed_generation == node.metadata.generation)
}

/// The rollback that is due: there is a VM, a person would have to act before its name can be published, and it never
/// was. A VM whose name was published once may hold what people made there, and is left alone.
fn rollback(view: &View, node: &Node) -> Option<Rollback> {
    let status = node.status.as_ref()?;
    let uid = node.uid()?;
    let stalled = condition::get(&status.conditions, STALLED).filter(|c| c.status == "True")?;
    let excused = is_established(view, node) || NOT_THE_NAME.contains(&stalled.reason.as_str());
    if !is_current(node) || !has_vm(node) || excused {
        return None;
    }
    let generation = view.environment.metadata.generation.unwrap_or_default();
    let before = view.memory.rollback.as_ref().filter(|r| r.generation == generation).map_or(0, |r| r.attempts);
    let attempts = before.saturating_add(1);
    let pause = SignedDuration::try_from(view.resync).unwrap_or(LONGEST);
    // A VM is paid for by the hour: the same failure buys one less and less often.
    let pause = pause.saturating_mul(2_i32.saturating_pow(before)).min(LONGEST.max(pause));
    Some(Rollback {
        node: uid,
        reason: stalled.reason.clone(),
        message: stalled.message.clone(),
        generation,
        attempts,
        not_before: whole_seconds(view.now.checked_add(pause).unwrap_or(Timestamp::MAX)),
    })
}

/// Whether the child's name is, or once was, published.
pub(super) fn is_established(view: &View, node: &Node) -> bool {
    let published = |s: &NodeStatus| s.record.is_some() || condition::is_true(&s.conditions, "Published");
    node.status.as_ref().is_some_and(published)
        || (view.memory.established.is_some() && view.memory.established == node.uid())
}

/// Deletes the child, once it knows what it has to know about its end.
fn retire(view: &View, node: &Node) -> Option<EnvironmentStep> {
    let deleting = node.meta().deletion_timestamp.is_some();
    keep(view, node).or_else(|| (!deleting).then(|| delete(node)))
}

fn delete(node: &Node) -> EnvironmentStep {
    Step::Do(Action::DeleteNode { uid: node.uid().unwrap_or_default() })
}

/// Makes the child what it should be: its spec while both live, and the annotations that are passed down.
fn keep(view: &View, node: &Node) -> Option<EnvironmentStep> {
    let mut patch = Map::new();
    let annotations = annotations(view, node);
    if !annotations.is_empty() {
        patch.insert("metadata".to_owned(), json!({"annotations": annotations}));
    }
    let leaving = view.deleting() || view.ended() || node.meta().deletion_timestamp.is_some();
    if !leaving && !view.paused() {
        let spec = |spec: &NodeSpec| serde_json::to_value(spec).unwrap_or_default();
        if let Some(change) = difference(&spec(&node.spec), &spec(&child_spec(view))) {
            patch.insert("spec".to_owned(), change);
        }
    }
    (!patch.is_empty())
        .then(|| Step::Do(Action::PatchNode { uid: node.uid().unwrap_or_default(), patch: Value::Object(patch) }))
}

/// Annotations of the child to set, or with `null` to remove.
fn annotations(view: &View, node: &Node) -> Map<String, Value> {
    let mut change = Map::new();
    let mut set = |name: &str, value: Option<&str>| {
        if annotation(node, name) != value {
            change.insert(annotation_key(name), value.map_or(Value::Null, Value::from));
        }
    };
    let environment = &*view.environment;
    let leaving = view.deleting() || view.ended() || node.meta().deletion_timestamp.is_some();
    // A child that a person paused by itself stays paused: only our own pause is taken back.
    if view.paused() {
        set("paused", Some("true"));
        return change;
    }
    if condition::is_true(&view.status.conditions, "Paused") {
        set("paused", None);
    }
    for name in ["adopt", "replace"] {
        if let Some(value) = annotation(environment, name) {
            set(name, Some(value));
        }
    }
    if let Some(value) = annotation(environment, "abandon").filter(|_| leaving) {
        set("abandon", Some(value));
    }
    if view.ended() {
        set("expired", Some("true"));
    }
    change
}

/// The child as it is created.
fn child(view: &View) -> Node {
    let environment = &*view.environment;
    let name = environment.name_any();
    let mut node = Node::new(&child_name(&name), child_spec(view));
    node.metadata.namespace = environment.namespace();
    node.metadata.labels = Some([(annotation_key("environment"), name)].into());
    let annotations = annotations(view, &node);
    if !annotations.is_empty() {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        node.metadata.annotations = Some(annotations.iter().filter_map(|(k, v)| Some((k.clone(), text(v)?))).collect());
    }
    node.metadata.owner_references = environment.controller_owner_ref(&()).map(|mut owner| {
        // `kubectl delete --cascade=foreground` then waits for the VM, too.
        owner.block_owner_deletion = Some(true);
        vec![owner]
    });
    node
}

/// What the child should be.
fn child_spec(view: &View) -> NodeSpec {
    let node = view.environment.spec.node.clone();
    NodeSpec {
        provider_ref: node.provider_ref,
        zone_ref: node.zone_ref,
        hostname: Some(view.slug()),
        region: node.region,
        size: node.size,
        image: node.image,
        address: None,
        user_data: node.user_data,
        ttl: node.ttl,
        proxied: false,
        health_path: node.health_path,
        host: node.host,
        ssh: None,
        // Data on a lost VM is lost: a person decides whether an empty one takes its place.
        replace_lost: false,
        deletion_policy: DeletionPolicy::Delete,
    }
}

/// How a pass with nothing left to do ends: the next look is at the next deadline, or at the resync.
fn settle(view: &View) -> EnvironmentStep {
    let Verdict { state, message, .. } = verdict(view);
    let deadline = deadline(view).filter(|left| *left < view.resync);
    match (state, deadline) {
        (State::Ready, None) => Step::Done,
        (State::Stalled, None) => Step::Stop { reason: SETTLED, message },
        (_, left) => {
            let after = left.unwrap_or(view.resync);
            Step::Wait(Wait { reason: SETTLED, message, after, keep_ready: true })
        }
    }
}

/// How long until something has to be done without anybody waking us.
fn deadline(view: &View) -> Option<Duration> {
    let life = view.life().ok().flatten();
    let retry = view.memory.rollback.as_ref().map(|r| r.not_before.0);
    let free = match &view.standing {
        Standing::Reserved { until, .. } => Some(*until),
        _ => None,
    };
    let times = [life.map(|l| l.warning), life.map(|l| l.end), retry, free];
    let ahead = times.into_iter().flatten().filter(|t| *t > view.now).min()?;
    Some(Duration::try_from(ahead.duration_since(view.now)).unwrap_or_default() + AFTER_DEADLINE)
}
