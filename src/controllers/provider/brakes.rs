//! The brake as Nodes meet it: who is counted, who was let through, and what a held Node says.
//!
//! A Node asks in its own pass, and the answer follows from all Nodes and the hold in the Provider's status. Those let
//! through are remembered here in the same moment, because the cache of Nodes runs behind the passes: however many ask
//! at once, no more get through than the limits allow. After a restart the memory is gone, but for what the Nodes'
//! journals say.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::environment::Environment;
use crate::api::node::Node;
use crate::api::provider::{self, Provider};
use crate::api::refs::DeletionPolicy;
use crate::cli;
use crate::cloud::Source;
use crate::cloud::brake::{Affected, Brake, Hold, Kind, Limits, Verdict};
use crate::cloud::fleet::{Sight, Snapshot};
use crate::controllers::environment;
use crate::controllers::registry::Registry;
use crate::runtime::cache::{Cache, Key};

/// Any listing that was not superseded will do: those who act on a VM have just asked for a new one.
const NEWEST: Duration = Duration::from_hours(1);

/// The annotation that approves a hold.
pub const APPROVE: &str = "roadstead.dev/approve-deletions";

/// Why a Node waits for the brake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Reason of the condition: `DeletionHeld` or `MassAbsence`.
    pub reason: &'static str,
    /// Message of the condition. Names no number, or a hundred Nodes would be written anew with each that joins them.
    pub message: String,
}

/// When a Node was let through.
#[derive(Debug, Clone, Copy, Default)]
struct Passed {
    deletion: Option<Timestamp>,
    absence: Option<Timestamp>,
}

impl Passed {
    fn slot(&mut self, kind: Kind) -> &mut Option<Timestamp> {
        match kind {
            Kind::MassDeletion => &mut self.deletion,
            Kind::MassAbsence => &mut self.absence,
        }
    }
}

/// The Nodes of one Provider that were let through, by UID.
type Released = HashMap<String, Passed>;

/// The brakes of all Providers.
pub struct Brakes {
    nodes: Cache<Node>,
    environments: Cache<Environment>,
    registry: Arc<Registry>,
    settle: Duration,
    /// By Provider.
    released: Mutex<HashMap<String, Released>>,
}

impl Brakes {
    /// Over all Nodes and Environments, and the listings of the Providers in `registry`. `settle` is how long a VM must
    /// be missing before its Node may act on it.
    #[must_use]
    pub fn new(
        nodes: Cache<Node>,
        environments: Cache<Environment>,
        registry: Arc<Registry>,
        settle: Duration,
    ) -> Self {
        Self { nodes, environments, registry, settle, released: Mutex::default() }
    }

    /// Asks whether `node` may be taken apart (it is being deleted) or its record withdrawn (its VM is missing);
    /// `None` if so, and for every Node that asks for neither. To be asked right before acting: the answer counts.
    pub async fn held(&self, provider: &Provider, node: &Node, now: Timestamp) -> Option<Held> {
        let kind = if is_deleting(node) {
            Kind::MassDeletion
        } else if missing_since(node).is_some() {
            Kind::MassAbsence
        } else {
            return None;
        };
        if !counts(kind, node) || self.ends_with_its_environment(node, now) {
            return None;
        }
        let name = provider.name_any();
        let listing = self.listing(&name).await;
        // Locked until the decision is remembered: two Nodes must not get the same last place.
        let mut released = self.released();
        let released = released.entry(name.clone()).or_default();
        let uid = node.uid().unwrap_or_default();
        if acted_at(kind, node, released.get(&uid).copied().unwrap_or_default()).is_some() {
            return None;
        }
        let is_approved =
            stored(provider).is_some_and(|hold| hold.kind == kind && approved(provider) == Some(&hold.id));
        let go = is_approved || {
            let mut nodes = self.nodes.all();
            // Our own watch may be ahead of the cache.
            nodes.retain(|other| other.metadata.uid != node.metadata.uid);
            nodes.push(Arc::new(node.clone()));
            self.count(&nodes, &name, listing.as_ref(), released, now).decide(kind, provider, now).go
        };
        if go {
            let sure = SignedDuration::try_from(self.settle).unwrap_or(SignedDuration::MAX);
            if kind == Kind::MassDeletion || missing_since(node).is_some_and(|at| now.duration_since(at) >= sure) {
                *released.entry(uid).or_default().slot(kind) = Some(now);
            }
            return None;
        }
        Some(held(kind, &name))
    }

    /// How both brakes of `provider` stand.
    #[must_use]
    pub async fn state(&self, provider: &Provider, now: Timestamp) -> State {
        let window = SignedDuration::try_from(limits(provider).window).unwrap_or(SignedDuration::MAX);
        let nodes = self.nodes.all();
        let name = provider.name_any();
        let listing = self.listing(&name).await;
        let mut released = self.released();
        let released = released.entry(name.clone()).or_default();
        let there: HashSet<&str> = nodes.iter().filter_map(|node| node.metadata.uid.as_deref()).collect();
        // What is gone and left the window counts no more; what is still there keeps its place to the end.
        released.retain(|uid, passed| {
            let lately = |at: Timestamp| now.duration_since(at) < window;
            there.contains(uid.as_str()) || [passed.deletion, passed.absence].into_iter().flatten().any(lately)
        });
        State::of(&self.count(&nodes, &name, listing.as_ref(), released, now), provider, now)
    }

    /// The newest listing of the Provider's VMs; `None` where there is none to speak of.
    async fn listing(&self, provider: &str) -> Option<Snapshot> {
        match self.registry.provider(provider) {
            Some(Source::Vms(fleet)) => fleet.snapshot(NEWEST).await.ok(),
            Some(Source::Static(_)) | None => None,
        }
    }

    fn count(
        &self,
        nodes: &[Arc<Node>],
        provider: &str,
        listing: Option<&Snapshot>,
        released: &Released,
        now: Timestamp,
    ) -> Counted {
        // The others may not have looked yet: what the listing lacks counts before their journals say so.
        let unlisted = |node: &Node| {
            let id = node.status.as_ref().and_then(|status| status.vm_id.as_deref());
            listing.zip(id).is_some_and(|(listing, id)| listing.sight(id) == Sight::Missing)
        };
        count(nodes, provider, unlisted, |n| self.ends_with_its_environment(n, now), released)
    }

    /// Whether the Node is the child of an Environment that is gone, going or over, or that replaces it: ending those is
    /// not a matter for the brake.
    fn ends_with_its_environment(&self, node: &Node, now: Timestamp) -> bool {
        let Some(owner) = node.owner_references().iter().find(|owner| owner.kind == "Environment") else {
            return false;
        };
        let key = Key::namespaced(node.namespace().unwrap_or_default(), &owner.name);
        let Some(environment) = self.environments.get(&key) else { return true };
        let is_another = environment.metadata.uid.as_deref() != Some(&owner.uid);
        is_another || has_ended(&environment, now) || environment::replaces(&environment, node)
    }

    fn released(&self) -> MutexGuard<'_, HashMap<String, Released>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_ended(environment: &Environment, now: Timestamp) -> bool {
    let status = environment.status.as_ref();
    environment.metadata.deletion_timestamp.is_some()
        || status.is_some_and(|s| s.phase.as_deref() == Some("Expired"))
        || status.and_then(|s| s.expires_at.as_ref()).is_some_and(|at| at.0 <= now)
}

fn is_deleting(node: &Node) -> bool {
    node.metadata.deletion_timestamp.is_some()
}

fn missing_since(node: &Node) -> Option<Timestamp> {
    let journal = node.status.as_ref()?.journal.as_ref()?;
    journal.missing_since.as_ref().map(|at| at.0)
}

/// Whether the Node is a matter for this brake at all.
fn counts(kind: Kind, node: &Node) -> bool {
    kind == Kind::MassAbsence || node.spec.deletion_policy == DeletionPolicy::Delete
}

/// When the Node was let through, as remembered here or, since a restart, as its status shows; `None` while it waits.
fn acted_at(kind: Kind, node: &Node, mut passed: Passed) -> Option<Timestamp> {
    let remembered = *passed.slot(kind);
    remembered.or_else(|| match kind {
        Kind::MassDeletion => node.status.as_ref()?.journal.as_ref()?.withdrawn_at.as_ref().map(|at| at.0),
        // Without a record there is nothing left to withdraw.
        Kind::MassAbsence => missing_since(node).filter(|_| node.status.as_ref().is_none_or(|s| s.record.is_none())),
    })
}

/// What the brake of one Provider looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Its Nodes, those that went lately included.
    total: usize,
    deleting: Vec<Affected>,
    missing: Vec<Affected>,
}

/// Counts the Nodes of `provider` among `nodes`, and those let through that are gone.
fn count(
    nodes: &[Arc<Node>],
    provider: &str,
    unlisted: impl Fn(&Node) -> bool,
    ended: impl Fn(&Node) -> bool,
    released: &Released,
) -> Counted {
    let mut counted = Counted::default();
    let mut present = HashSet::new();
    for node in nodes.iter().filter(|node| node.spec.provider_ref.name == provider) {
        counted.total += 1;
        let uid = node.metadata.uid.as_deref().unwrap_or_default();
        present.insert(uid);
        let passed = released.get(uid).copied().unwrap_or_default();
        let affected = |kind| Affected { acted_at: acted_at(kind, node, passed) };
        // The cache may not know yet that a Node which was let through is being deleted.
        if is_deleting(node) || passed.deletion.is_some() {
            if counts(Kind::MassDeletion, node) && !ended(node) {
                counted.deleting.push(affected(Kind::MassDeletion));
            }
        } else if missing_since(node).is_some() || unlisted(node) {
            if !ended(node) {
                counted.missing.push(affected(Kind::MassAbsence));
            }
        } else if passed.absence.is_some() {
            // It has another VM by now.
            counted.missing.push(Affected { acted_at: passed.absence });
        }
    }
    for passed in released.iter().filter_map(|(uid, passed)| (!present.contains(uid.as_str())).then_some(passed)) {
        counted.total += 1;
        let gone = |acted_at: Option<Timestamp>| acted_at.map(|at| Affected { acted_at: Some(at) });
        counted.deleting.extend(gone(passed.deletion));
        counted.missing.extend(gone(passed.absence));
    }
    counted
}

impl Counted {
    fn of(&self, kind: Kind) -> &[Affected] {
        match kind {
            Kind::MassDeletion => &self.deleting,
            Kind::MassAbsence => &self.missing,
        }
    }

    fn decide(&self, kind: Kind, provider: &Provider, now: Timestamp) -> Verdict {
        let scope = provider.uid().unwrap_or_default();
        let hold = stored(provider).filter(|hold| hold.kind == kind);
        let affected = self.of(kind);
        let (hold, approved) = (hold.as_ref(), approved(provider));
        Brake { kind, scope: &scope, limits: limits(provider), hold, approved }.decide(self.total, affected, now)
    }
}

/// How the brakes of a Provider stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The hold to be shown in status, if there is one.
    pub hold: Option<provider::Hold>,
    /// What is held and why, unless it is approved.
    pub held: Option<Held>,
}

impl State {
    /// From what was counted (pure). A status shows one hold: the one it has, unless nobody waits for that any more
    /// and somebody waits for the other.
    fn of(counted: &Counted, provider: &Provider, now: Timestamp) -> Self {
        let verdict = |kind| (kind, counted.decide(kind, provider, now));
        let waits = |kind| counted.of(kind).iter().any(|node| node.acted_at.is_none());
        let shown = stored(provider).map(|hold| hold.kind);
        let mut verdicts = [verdict(Kind::MassDeletion), verdict(Kind::MassAbsence)];
        // First those that wait, among them the one shown already.
        verdicts.sort_by_key(|(kind, _)| (!waits(*kind), shown != Some(*kind)));
        // A hold begins with somebody who waits; one that is shown stays until few enough are affected.
        let holds = verdicts.into_iter().filter(|(kind, _)| waits(*kind) || shown == Some(*kind));
        let mut holds = holds.filter_map(|(kind, verdict)| verdict.hold.clone().map(|hold| (kind, verdict, hold)));
        let Some((kind, verdict, hold)) = holds.next() else { return Self::default() };
        let shown = provider::Hold {
            id: hold.id.clone(),
            reason: reason(kind).to_owned(),
            nodes: i64::try_from(verdict.affected).unwrap_or(i64::MAX),
        };
        let stop = (!verdict.go && waits(kind)).then(|| {
            let name = provider.name_any();
            let window = &provider.spec.brake.window;
            let (happened, meant) = match kind {
                Kind::MassDeletion => ("are to be deleted", "if that is meant"),
                Kind::MassAbsence => ("lost their VMs", "to have their records withdrawn"),
            };
            let message = format!(
                "{} Nodes {happened} within {window}, more than the {} that spec.brake lets through: {meant}, \
                 kubectl annotate rprovider {name} {APPROVE}={} --overwrite",
                verdict.affected, verdict.allowed, hold.id
            );
            Held { reason: reason(kind), message }
        });
        Self { hold: Some(shown), held: stop }
    }
}

fn held(kind: Kind, provider: &str) -> Held {
    let what = match kind {
        Kind::MassDeletion => "deleted",
        Kind::MassAbsence => "without their VMs",
    };
    let message = format!(
        "too many Nodes of Provider {provider} are {what} at once, so nothing is taken away until a person approves \
         it: kubectl describe rprovider {provider}"
    );
    Held { reason: reason(kind), message }
}

fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::MassDeletion => "DeletionHeld",
        Kind::MassAbsence => "MassAbsence",
    }
}

/// The hold in the Provider's status. Its beginning is not stored: only a new hold's id depends on it.
fn stored(provider: &Provider) -> Option<Hold> {
    let hold = provider.status.as_ref()?.hold.as_ref()?;
    let kind = [Kind::MassDeletion, Kind::MassAbsence].into_iter().find(|kind| reason(*kind) == hold.reason)?;
    Some(Hold { id: hold.id.clone(), kind, since: Timestamp::UNIX_EPOCH })
}

fn approved(provider: &Provider) -> Option<&str> {
    provider.annotations().get(APPROVE).map(String::as_str)
}

fn limits(provider: &Provider) -> Limits {
    let brake = &provider.spec.brake;
    let of = |n: i64| u32::try_from(n.max(0)).unwrap_or(u32::MAX);
    // A window that does not parse was refused when the Provider was validated; until it is mended the default holds.
    let window = cli::duration(&brake.window).unwrap_or(Duration::from_mins(10));
    Limits { minimum: of(brake.minimum), percent: of(brake.percent), window }
}

#[cfg(test)]
#[path = "brakes_tests.rs"]
mod tests;
