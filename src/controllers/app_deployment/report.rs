//! The status that follows from what was seen, and what people are told about its changes (pure).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::available::{AVAILABLE, View, available, dns_mismatch};
use super::names::{Name, lead};
use super::observe::Observed;
use super::plan::{Facts, Rollback, deploying, expired};
use crate::api::app_deployment::{AppDeploymentStatus, DomainStatus, NodeState, Notes, Verification};
use crate::api::condition::{self, Desired, READY, STALLED, whole_seconds};
use crate::api::names::Fqdn;
use crate::controllers::{phase, set_paused, set_ready};
use crate::dns;
use crate::host::deploy::Journal;
use crate::probe::Failure;
use crate::runtime::driver::Outcome;
use crate::runtime::events::Note;

/// The phase of a name that is being published.
pub const PENDING: &str = "Pending";
/// The phase of a name that is published.
const PUBLISHED: &str = "Published";
/// The phase of a name that the app answers.
const SERVING: &str = "Serving";

/// How many revisions a status has room for.
const SHOWN: usize = 64;

/// The message of the condition `Paused`.
pub const PAUSED: &str = "paused by the annotation roadstead.dev/paused: what runs stays as it is";

/// The app's status after a pass that ended so.
#[must_use]
pub fn status(seen: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> AppDeploymentStatus {
    let mut status = seen.status.clone();
    let generation = seen.app.metadata.generation;
    let was_current = status.observed_generation == generation;
    if matches!(outcome, Outcome::Waiting(w) if w.reason == "Paused") {
        // A paused app keeps everything it said, its generation included: nobody looked at the new spec.
        set_paused(&mut status.conditions, PAUSED, generation, now);
        return status;
    }
    condition::remove(&mut status.conditions, "Paused");
    status.observed_generation = generation;
    status.expires_at = seen.expires_at().map(whole_seconds);
    revisions(seen, facts, &mut status, now);
    domains(seen, facts, &mut status);
    hosts(seen, &mut status);
    if let Some(journal) = status.journal.as_mut()
        && (matches!(outcome, Outcome::Done) || !was_current)
    {
        (journal.attempts, journal.not_before) = (None, None);
    }
    status.journal.take_if(|journal| *journal == crate::api::status::Journal::default());
    let causes = seen.hosts.iter().filter_map(|(name, host)| Some((name.as_str(), host.ill.clone()?))).collect();
    let mismatches = mismatches(seen, facts, now);
    let view = View {
        reading: &seen.available,
        maintenance: seen.app.spec.maintenance,
        mismatches: mismatches.as_deref(),
        causes: &causes,
        before: condition::get(&seen.status.conditions, AVAILABLE),
    };
    if let Some(serves) = available(&view) {
        condition::set(&mut status.conditions, serves, generation, now);
    }
    let was_ready = was_current && !seen.deleting() && condition::is_true(&seen.status.conditions, READY);
    set_ready(&mut status.conditions, outcome, was_ready, || in_place(seen, now), generation, now);
    status.phase = Some(match phase(seen.deleting(), &status.conditions) {
        "Active" if expired(seen, now) => "Expired".to_owned(),
        phase => phase.to_owned(),
    });
    status
}

/// Names that the zones' own servers were asked for in this pass, and answer wrongly; `None` if none was asked for.
fn mismatches(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<Vec<Failure>> {
    if seen.deleting() || expired(seen, now) {
        return None;
    }
    let serving = seen.status.domains.iter().filter(|domain| domain.phase.as_deref() == Some(SERVING));
    let names = serving.filter_map(|domain| Fqdn::parse(&domain.name).ok());
    let answers: Vec<_> = names.filter_map(|name| Some((facts.authority.get(&name)?, name))).collect();
    let wrong = answers.iter().filter_map(|(answer, name)| dns_mismatch(name.as_str(), answer)).collect();
    (!answers.is_empty()).then_some(wrong)
}

/// Which revision is wanted, which one was before, and what the seed's fields say of them.
fn revisions(seen: &Observed, facts: &Facts, status: &mut AppDeploymentStatus, now: Timestamp) {
    if let (Some(reading), Some(stored)) = (&facts.reading, &facts.stored) {
        let before = status.current_revision.replace(stored.status());
        if before.as_ref().is_some_and(|before| before.name != stored.name) {
            status.previous_revision = before;
        }
        status.compose_hash = Some(reading.compose_hash.clone());
        status.revisions = facts.known.iter().take(SHOWN).map(|known| known.name.clone()).collect();
    }
    if let Some(prepared) = facts.prepared.values().next() {
        status.entry_service = Some(prepared.entry.service.clone());
        status.entry_port = Some(prepared.entry.port.into());
    }
    let wanted = status.current_revision.as_ref().map(|revision| revision.name.as_str());
    let targets = || seen.hosts.values().filter(|host| host.target);
    let is_live = |journal: &Journal| journal.live.as_ref().map(|live| live.revision.as_str()) == wanted;
    let live = targets().next().is_some() && targets().all(|host| is_live(&host.journal));
    let failed = targets().any(|host| host.journal.failed.is_some());
    let word = match (live, failed) {
        (true, _) => "active",
        (false, true) => "failed",
        (false, false) => "deploying",
    };
    if live && status.status.as_deref() != Some(word) {
        status.updated_at = Some(whole_seconds(now));
    }
    status.status = Some(word.to_owned());
}

/// How the names stand.
fn domains(seen: &Observed, facts: &Facts, status: &mut AppDeploymentStatus) {
    let led = lead(seen);
    let answered = |name: &str| {
        let answers =
            |host: &&super::observe::HostView| host.journal.live.is_some() && host.journal.names.contains(name);
        !led.is_empty() && led.iter().all(answers)
    };
    for domain in &mut status.domains {
        let is_published = facts.declared.values().any(|(wanted, answer)| {
            matches!(answer, dns::Declared::Applied(_)) && wanted.iter().any(|d| d.name.as_str() == domain.name)
        });
        let phase = if answered(&domain.name) {
            SERVING
        } else if is_published || domain.phase.as_deref() == Some(PUBLISHED) {
            PUBLISHED
        } else {
            PENDING
        };
        domain.phase = Some(phase.to_owned());
    }
    status.domain = status.domains.first().map(|domain| domain.name.clone());
}

/// How the app stands on each host.
fn hosts(seen: &Observed, status: &mut AppDeploymentStatus) {
    for state in &mut status.nodes {
        let Some(host) = seen.hosts.get(&state.name) else { continue };
        let journal = &host.journal;
        state.revision = journal.live.as_ref().map(|live| live.revision.clone());
        let (phase, message) = match (&journal.coming, &journal.failed) {
            _ if !host.target => ("Removing", None),
            (Some(_), _) => ("Deploying", Some(deploying(&state.name, host))),
            (None, Some(failed)) => {
                let lines = failed.logs.as_deref().unwrap_or_default();
                let text = std::iter::once(failed.message.as_str()).chain(lines.iter().map(String::as_str));
                ("Failed", Some(text.collect::<Vec<_>>().join("\n")))
            }
            (None, None) if journal.live.is_some() => ("Active", None),
            (None, None) => ("Pending", None),
        };
        state.phase = Some(phase.to_owned());
        state.message = message.map(|text| text.chars().take(4000).collect());
    }
}

/// The status with what was recorded of a host: what has to be stored before anything else is done.
#[must_use]
pub fn noted(seen: &Observed, name: &str, journal: &Journal) -> AppDeploymentStatus {
    let mut status = seen.status.clone();
    // A plain value: there is nothing in it that could not be written.
    let notes = match serde_json::to_value(journal) {
        Ok(serde_json::Value::Object(notes)) => notes,
        _ => serde_json::Map::new(),
    };
    let uid = seen.hosts.get(name).map(super::observe::HostView::uid).filter(|uid| !uid.is_empty());
    let index = status.nodes.iter().position(|state| state.name == name).unwrap_or_else(|| {
        status.nodes.push(NodeState { name: name.to_owned(), ..NodeState::default() });
        status.nodes.len() - 1
    });
    let state = &mut status.nodes[index];
    state.journal = Some(Notes(notes));
    state.uid = uid.or(state.uid.take());
    state.revision = journal.live.as_ref().map(|live| live.revision.clone());
    status
}

/// The status with the names that are about to be published, if that says anything new.
#[must_use]
pub fn named(
    seen: &Observed,
    names: &[Name],
    records: &BTreeMap<String, Vec<dns::Desired>>,
) -> Option<AppDeploymentStatus> {
    let mut status = seen.status.clone();
    let of = |name: &Name| {
        let known = seen.status.domains.iter().find(|known| known.name == name.name.as_str());
        let of_name = records.values().flatten().filter(|record| record.name == name.name);
        let addresses: Vec<String> = of_name.map(|record| record.content.to_string()).collect();
        let same = known.is_some_and(|known| known.addresses == addresses);
        DomainStatus {
            name: name.name.to_string(),
            // A name that leads elsewhere has to be found there anew.
            phase: known.filter(|_| same).and_then(|known| known.phase.clone()).or(Some(PENDING.to_owned())),
            message: None,
            zone: name.zone.clone().filter(|_| !addresses.is_empty()),
            addresses,
            verification: known.and_then(|known| known.verification.clone()),
        }
    };
    let former = seen.status.domains.iter().filter(|known| names.iter().all(|name| name.name.as_str() != known.name));
    status.domains = names.iter().map(of).chain(former.cloned()).collect();
    (status.domains != seen.status.domains).then_some(status)
}

/// The status with how the proof of a name stands.
#[must_use]
pub fn proving(seen: &Observed, name: &Fqdn, proof: Verification) -> AppDeploymentStatus {
    let mut status = seen.status.clone();
    match status.domains.iter_mut().find(|domain| domain.name == name.as_str()) {
        Some(domain) => domain.verification = Some(proof),
        None => status.domains.push(DomainStatus {
            name: name.to_string(),
            phase: Some(PENDING.to_owned()),
            verification: Some(proof),
            ..DomainStatus::default()
        }),
    }
    status
}

/// The status without a name that was given back.
#[must_use]
pub fn unnamed(seen: &Observed, name: &Fqdn) -> AppDeploymentStatus {
    let mut status = seen.status.clone();
    status.domains.retain(|domain| domain.name != name.as_str());
    status
}

/// The status without a host that the app has left.
#[must_use]
pub fn without(seen: &Observed, name: &str) -> AppDeploymentStatus {
    let mut status = seen.status.clone();
    status.nodes.retain(|state| state.name != name);
    status
}

/// The status of an app whose time is over and of which nothing is left.
#[must_use]
pub fn emptied(seen: &Observed) -> AppDeploymentStatus {
    AppDeploymentStatus { nodes: Vec::new(), domains: Vec::new(), journal: None, ..seen.status.clone() }
}

/// What Ready says of an app that is in place.
fn in_place(seen: &Observed, now: Timestamp) -> Desired {
    if expired(seen, now) {
        return Desired::yes(READY, "Expired", "its lifetime is over, and it was taken away from its hosts");
    }
    match Rollback::of(seen) {
        Some(back) => {
            let message = format!(
                "revision {} serves, as the annotation roadstead.dev/rollback asks until the spec changes",
                back.revision
            );
            Desired::yes(READY, "RolledBack", message)
        }
        None => Desired::yes(READY, "Deployed", "the revision that the spec asks for serves on every Node"),
    }
}

/// What to tell people about the way from the `old` status to the `new` one.
#[must_use]
pub fn notes(old: &AppDeploymentStatus, new: &AppDeploymentStatus) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for state in &new.nodes {
        let before = old.nodes.iter().find(|before| before.name == state.name);
        let was = before.and_then(|before| before.revision.as_ref());
        if let Some(revision) = state.revision.as_ref().filter(|revision| was != Some(revision)) {
            notes.push(Note::normal("RevisionLive", format!("revision {revision} serves on Node {}", state.name)));
        }
    }
    let is = |status: &AppDeploymentStatus, type_: &str, when: &str| {
        condition::get(&status.conditions, type_).filter(|c| c.status == when).cloned()
    };
    for (type_, when, warning) in
        [(READY, "True", false), (STALLED, "True", true), (AVAILABLE, "True", false), (AVAILABLE, "False", true)]
    {
        let (before, Some(now)) = (is(old, type_, when), is(new, type_, when)) else { continue };
        // That nothing serves yet is no news.
        let first = type_ == AVAILABLE && condition::get(&old.conditions, type_).is_none();
        if before.is_none_or(|before| before.reason != now.reason) && !first {
            notes.push(Note { warning, reason: now.reason, message: now.message });
        }
    }
    notes
}
