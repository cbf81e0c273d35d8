//! The Node's plan: every decision, none of the I/O.
//!
//! Forwards: claim names, look for foreign records at the name, record the intent, create the VM, wait for its address,
//! publish, wait for propagation, bootstrap the host, done. Backwards: unpublish, wait out the TTL, delete the VM, confirm that it is gone,
//! release the claims, gone.

mod backward;
mod forward;
mod host;
mod publish;
mod target;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::observe::Observed;
use super::report;
use crate::api::node::NodeStatus;
use crate::cloud::{Listing, Vm};
use crate::controllers::frozen;
use crate::dns::propagation::Confirmation;
use crate::dns::{Checked, Declared, Desired};
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step, Wait};

pub(super) use host::BOOTSTRAPPED;
pub use host::{HostView, Verdict};
pub(super) use publish::LATE_REASON;
pub use target::{Machine, Target, target};

/// How often a VM without an address is looked at.
pub(super) const BOOTING: Duration = Duration::from_secs(5);

/// What may be done for a Node.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Take a name.
    Claim(Reservation),
    /// Give a name back; with a number, other namespaces stay out for that many seconds from the withdrawal.
    Release(Reservation, Option<i64>),
    /// Ask the zone's writer whether the name is free.
    CheckName,
    /// Write down that a VM is about to be created, and as what.
    IntendCreate(Machine),
    /// Create the VM.
    CreateVm(Machine),
    /// Ask the provider for every VM with our mark.
    LookByMark,
    /// Ask the provider for every VM of an object of this name.
    LookByKey,
    /// Ask the provider for one VM.
    GetVm(String),
    /// Write down that VMs are about to be deleted.
    IntendDelete,
    /// Delete one VM.
    DeleteVm(String),
    /// Take our mark off a VM that stays.
    UnmarkVm(String),
    /// Delete the owner's tag.
    DropOwnerTag,
    /// Take over a VM that carries an earlier life's mark.
    AdoptVm(String),
    /// Take over the records with this owner in their mark.
    AdoptRecords(String),
    /// Tell the zone's writer what should be published: everything, or nothing.
    Declare(Vec<Desired>),
    /// Ask the zone's own servers for the name.
    AskAuthority(Vec<Desired>),
    /// Ask public resolvers for the name.
    AskResolvers(Vec<Desired>),
    /// Say in an event what an `abandon` annotation leaves behind.
    SayAbandoned(&'static str),
    /// Read the key with which we log in at the host; make one if there is none.
    EnsureKey,
    /// Look at the host, and bring about what is missing there: begun, not awaited.
    WorkOnHost,
    /// Say in an event what is left on an existing host.
    SayLeft,
    /// Forget the host, its pinned key too.
    ForgetHost,
}

impl Action {
    /// Whether it changes anything outside the cluster. The zone's writer keeps its own freeze.
    fn writes_outside(&self) -> bool {
        matches!(
            self,
            Self::CreateVm(_)
                | Self::IntendCreate(_)
                | Self::IntendDelete
                | Self::DeleteVm(_)
                | Self::UnmarkVm(_)
                | Self::DropOwnerTag
                | Self::AdoptVm(_)
                | Self::AdoptRecords(_)
                | Self::WorkOnHost
        )
    }
}

/// What was learned in this pass and need not survive it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether one thing was done in this pass")]
pub struct Facts {
    /// How the claims stand, by claim name, as the API server just said.
    pub claimed: BTreeMap<String, Standing>,
    /// What the zone's writer says of the name.
    pub checked: Option<Checked>,
    /// The intent to create was written in this pass, so no create was sent since.
    pub intended: bool,
    /// A create was refused for certain: nothing was made.
    pub create_refused: bool,
    /// VMs with our mark, just asked for.
    pub looked: Option<Listing>,
    /// VMs of an object of this name, just asked for.
    pub namesakes: Option<Listing>,
    /// VMs just asked for by id; `None` where the provider says there is none.
    pub got: BTreeMap<String, Option<Vm>>,
    /// Deletes just sent.
    pub deleted: Vec<String>,
    /// VMs that just lost our mark.
    pub unmarked: Vec<String>,
    /// The owner's tag was just deleted.
    pub untagged: bool,
    /// What was declared, and the writer's answer.
    pub declared: Option<(Vec<Desired>, Declared)>,
    /// What the zone's servers answer.
    pub authority: Option<Confirmation>,
    /// What public resolvers answer.
    pub resolvers: Option<Confirmation>,
    /// Claims given back.
    pub released: Vec<String>,
    /// Halves whose abandonment was said.
    pub said: Vec<&'static str>,
    /// An adoption was ordered.
    pub adopted: bool,
    /// The host was forgotten.
    pub forgot_host: bool,
}

/// A step of the Node's plan.
pub type NodeStep = Step<Action, NodeStatus>;

/// Decides the next step.
#[must_use]
pub fn plan(seen: &Observed, facts: &Facts, now: Timestamp) -> NodeStep {
    if seen.annotation("paused") == Some("true") {
        return wait("Paused", "paused by the annotation roadstead.dev/paused", seen.resync, true);
    }
    if let Some(left) = back_off(seen, facts, now) {
        return Step::Hold(left);
    }
    let step = if seen.deleting() { backward::plan(seen, facts, now) } else { forward::plan(seen, facts, now) };
    match step {
        Step::Do(action) if seen.read_only && action.writes_outside() => frozen(seen.resync),
        other => other,
    }
}

/// What is left of a stored back-off. A new generation, which a deletion is too, and work done in this pass end it.
fn back_off(seen: &Observed, facts: &Facts, now: Timestamp) -> Option<Duration> {
    let journal = seen.status.journal.as_ref()?;
    let not_before = journal.not_before.as_ref()?.0;
    let current = seen.status.observed_generation == seen.node.metadata.generation;
    if !current || facts.intended {
        return None;
    }
    Duration::try_from(not_before.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// A wait, with Ready kept where `keep_ready` says so.
fn wait(reason: &'static str, message: impl Into<String>, after: Duration, keep_ready: bool) -> NodeStep {
    Step::Wait(Wait { reason, message: message.into(), after, keep_ready })
}

fn stop(reason: &'static str, message: impl Into<String>) -> NodeStep {
    Step::Stop { reason, message: message.into() }
}

/// Writes down where things stand before the step `next`, unless that is written already.
fn noted(seen: &Observed, facts: &Facts, waiting: Wait, now: Timestamp, next: Action) -> NodeStep {
    let status = report::status(seen, facts, &Outcome::Waiting(waiting), now);
    let fresh = seen.status.fqdn.is_none() || seen.status.observed_generation != status.observed_generation;
    if fresh { Step::Record(Box::new(status)) } else { Step::Do(next) }
}

/// The time since `since`, zero if it lies ahead.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
