//! The Environment's status, and what people are told about its changes (pure).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::memory::Memory;
use super::observe::{Child, Facts, Observed, View};
use super::plan::SETTLED;
use super::verdict::{PAUSED, State, Verdict, verdict};
use crate::api::condition::{self, Desired, READY, RECONCILING, STALLED, whole_seconds};
use crate::api::environment::EnvironmentStatus;
use crate::api::refs::ClusterRef;
use crate::api::status::Journal;
use crate::runtime::driver::Outcome;
use crate::runtime::events::Note;

/// The child's conditions that the Environment shows as its own.
const MIRRORED: [&str; 5] = ["Provisioned", "Published", "Resolvable", "Bootstrapped", "ReplacementRequired"];

/// The status after a pass that ended so.
#[must_use]
pub fn report(observed: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> EnvironmentStatus {
    let view = View::new(observed, facts, now);
    // A request that failed does not change where it stands; but what still has to be done is neither in place nor over,
    // and what was refused is not on its way.
    let phase = |failed| match (verdict(&view).phase, failed) {
        ("Deleting", _) => "Deleting",
        (_, false) => "Error",
        ("Active" | "Expired", true) => "Provisioning",
        (phase, true) => phase,
    };
    let verdict = match outcome {
        Outcome::Done => verdict(&view),
        Outcome::Waiting(wait) if wait.reason == SETTLED => verdict(&view),
        Outcome::Stopped { reason, .. } if *reason == SETTLED => verdict(&view),
        _ if view.paused() => Verdict::kept(),
        Outcome::Waiting(_) => Verdict::kept(),
        Outcome::Stopped { reason, message } => Verdict::stalled(phase(false), reason, message.clone()),
        Outcome::Failed { reason, message } => Verdict::progressing(phase(true), reason, message.clone()),
    };
    compose(&view, &verdict)
}

/// The status of what `view` shows, with this verdict.
#[must_use]
pub(super) fn compose(view: &View, verdict: &Verdict) -> EnvironmentStatus {
    let old = view.environment.status.clone().unwrap_or_default();
    let mut status = view.status.clone();
    identity(view, &mut status);
    mirror(view, verdict, &mut status);
    conditions(view, verdict, &mut status);
    remember(view, verdict, &mut status);
    if status.updated_at.is_none() || substance(&old) != substance(&status) {
        status.updated_at = Some(whole_seconds(view.now));
    }
    status
}

/// Its names and its times.
fn identity(view: &View, status: &mut EnvironmentStatus) {
    // A slug is settled with the intent to create; an Environment that never got that far has none.
    if status.slug.is_some() || view.own().is_some() {
        status.slug = Some(view.slug());
    }
    if let (Some(_), Some(name)) = (&status.slug, view.fqdn()) {
        status.url = Some(format!("https://{name}"));
        status.domain = Some(name.to_string());
    }
    status.created_at = view.environment.creation_timestamp();
    status.expires_at = view.life().ok().flatten().map(|life| whole_seconds(life.end));
}

/// What the child is and has.
fn mirror(view: &View, verdict: &Verdict, status: &mut EnvironmentStatus) {
    let node = view.own();
    let said = node.and_then(|node| node.status.as_ref());
    status.node_ref = node.map(|node| ClusterRef { name: node.name_any() });
    let address = said.and_then(|s| s.addresses.as_ref()?.publishable());
    status.ip_address = address.map(|ip| ip.to_string());
    status.vm_id = said.and_then(|s| s.vm_id.clone());
    status.dns_record_id = said.and_then(|s| Some(s.record.as_ref()?.id.clone()));
    let generation = observed(view, verdict);
    for type_ in MIRRORED {
        let theirs = said.and_then(|s| condition::get(&s.conditions, type_)).cloned();
        let theirs = theirs.map(|theirs| Condition { observed_generation: generation, ..theirs });
        match (theirs, status.conditions.iter_mut().find(|c| c.type_ == type_)) {
            (Some(theirs), Some(ours)) => *ours = theirs,
            (Some(theirs), None) => status.conditions.push(theirs),
            (None, _) => condition::remove(&mut status.conditions, type_),
        }
    }
}

/// The generation that is reported on. A kept state is about the one before; none was seen before the first.
fn observed(view: &View, verdict: &Verdict) -> Option<i64> {
    match verdict.state {
        State::Kept => view.status.observed_generation.filter(|generation| *generation >= 0),
        _ => view.environment.metadata.generation,
    }
}

fn conditions(view: &View, verdict: &Verdict, status: &mut EnvironmentStatus) {
    let generation = observed(view, verdict);
    let mut set = |type_: &'static str, holds: Option<bool>| {
        let desired = Desired { type_, status: holds, reason: "", message: verdict.message.clone() };
        condition::set(&mut status.conditions, desired, generation, view.now);
        // The reason may be one of the child's, which are not known here.
        for condition in status.conditions.iter_mut().filter(|c| c.type_ == type_) {
            condition.reason.clone_from(&verdict.reason);
        }
    };
    let (ready, reconciling, stalled) = match verdict.state {
        State::Ready => (true, false, false),
        State::Progressing => (false, true, false),
        State::Stalled => (false, false, true),
        State::Kept => {
            if condition::get(&view.status.conditions, READY).is_none() {
                set(READY, None);
            }
            paused(view, status);
            return;
        }
    };
    set(READY, Some(ready));
    for (type_, holds) in [(RECONCILING, reconciling), (STALLED, stalled)] {
        if holds {
            set(type_, Some(true));
        }
    }
    if !reconciling {
        condition::remove(&mut status.conditions, RECONCILING);
    }
    if !stalled {
        condition::remove(&mut status.conditions, STALLED);
    }
    status.observed_generation = generation;
    status.phase = Some(verdict.phase.to_owned());
    paused(view, status);
}

fn paused(view: &View, status: &mut EnvironmentStatus) {
    if view.paused() {
        let generation = view.status.observed_generation.filter(|generation| *generation >= 0);
        condition::set(&mut status.conditions, Desired::yes("Paused", "Paused", PAUSED), generation, view.now);
    } else {
        condition::remove(&mut status.conditions, "Paused");
    }
}

/// Intent, back-off and memory.
fn remember(view: &View, verdict: &Verdict, status: &mut EnvironmentStatus) {
    let creating = matches!(view.child, Child::Absent) && matches!(verdict.state, State::Progressing | State::Kept);
    if let Some(journal) = status.journal.as_mut() {
        if !creating || view.ended() || view.deleting() {
            (journal.intent, journal.started_at) = (None, None);
        }
        if verdict.state == State::Ready {
            (journal.attempts, journal.not_before) = (None, None);
        }
        if *journal == Journal::default() {
            status.journal = None;
        }
    }
    let mut memory = view.memory.clone();
    if let Some(node) = view.own() {
        let published = node.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, "Published"));
        if published {
            memory.established = node.uid();
            if node.metadata.deletion_timestamp.is_none() {
                memory.rollback = None;
            }
        }
    }
    if let Ok(Some(life)) = view.life() {
        let due = life.warning <= view.now && view.now < life.end && !view.deleting() && !view.paused();
        if due {
            memory.warned = Some(whole_seconds(life.end));
        }
    }
    memory.store(status);
}

/// What of a status is worth a new `updatedAt`: all but times, messages and the journal.
fn substance(status: &EnvironmentStatus) -> EnvironmentStatus {
    let mut conditions = status.conditions.clone();
    for condition in &mut conditions {
        condition.message.clear();
        condition.observed_generation = None;
        condition.last_transition_time = whole_seconds(Timestamp::UNIX_EPOCH);
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    EnvironmentStatus { conditions, updated_at: None, journal: None, observed_generation: None, ..status.clone() }
}

/// What to tell people about the way from the `old` status to the `new` one.
#[must_use]
pub fn notes(old: &EnvironmentStatus, new: &EnvironmentStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let (before, after) = (Memory::of(old), Memory::of(new));
    let was = |type_: &str| condition::get(&old.conditions, type_).filter(|c| c.status == "True");
    let is = |type_: &str| condition::get(&new.conditions, type_).filter(|c| c.status == "True");
    let expired = |status: &EnvironmentStatus| status.phase.as_deref() == Some("Expired");
    let url = new.url.as_deref().unwrap_or("the Environment");
    if let (Some(from), Some(to)) = (&old.slug, &new.slug)
        && from != to
    {
        notes.push(Note::normal("SlugChanged", format!("`{from}` is taken by another object; this is now `{to}`")));
    }
    if let Some(warned) = after.warned.as_ref().filter(|warned| before.warned.as_ref() != Some(*warned)) {
        let message = format!(
            "{url} ends at {}: its VM and record will be removed; extend spec.lifetime or spec.expiresAt to keep it",
            warned.0
        );
        notes.push(Note::warning("ExpiringSoon", message));
    }
    if expired(new) && !expired(old) {
        notes.push(Note::normal("Expired", "its time is over; its VM and record are gone"));
    } else if expired(old) && !expired(new) && new.phase.as_deref() != Some("Deleting") {
        notes.push(Note::normal("Revived", format!("its life was extended; bringing back {url}")));
    }
    if let Some(ready) = is(READY).filter(|_| was(READY).is_none() && !expired(new)) {
        notes.push(Note::normal("Ready", format!("{url}: {}", ready.message)));
    }
    let count = |memory: &Memory| memory.rollback.as_ref().map(|r| (r.node.clone(), r.attempts));
    let rolled_back = after.rollback.as_ref().filter(|_| count(&before) != count(&after));
    let attempts = |status: &EnvironmentStatus| status.journal.as_ref().and_then(|j| j.attempts).unwrap_or(0);
    let failed = attempts(new) > attempts(old);
    if let Some(rollback) = rolled_back {
        notes.push(Note::warning("RolledBack", format!("the VM is being removed: {}", rollback.message)));
    } else if let Some(stalled) = is(STALLED).filter(|c| was(STALLED).is_none_or(|w| w.reason != c.reason)) {
        notes.push(Note::warning(stalled.reason.clone(), stalled.message.clone()));
    } else if let (true, Some(failing)) = (failed, is(RECONCILING)) {
        notes.push(Note::warning(failing.reason.clone(), failing.message.clone()));
    }
    notes
}
