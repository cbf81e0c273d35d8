//! What the state of a managed host means for its Node.
//!
//! The work on a host takes minutes and goes on beside the reconcile loop; here is decided when it is begun, and what its
//! end means. It begins once the name resolves, because Caddy gets its certificate through that name.

use std::time::Duration;

use super::super::observe::Observed;
use super::{Action, NodeStep, stop, wait};
use crate::api::condition;
use crate::api::node::CaddyTarget;
use crate::runtime::driver::Step;

/// The condition, and that it holds.
pub(in super::super) const BOOTSTRAPPED: &str = "Bootstrapped";
/// The reason while the host is worked on for the first time, or in a new form.
const BOOTSTRAPPING: &str = "Bootstrapping";
/// How long to wait for the end of work, which wakes the Node.
const WORKING: Duration = Duration::from_secs(60);

/// A managed host, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct HostView {
    /// Why this operator can manage none at all.
    pub unset: Option<String>,
    /// What the last work there came to; none for another machine, or another life of this process.
    pub verdict: Option<Verdict>,
    /// Whether that is of what is wanted now, and recent enough.
    pub fresh: bool,
    /// For how long it still is.
    pub again: Duration,
    /// What is being done there.
    pub work: Option<String>,
    /// Where an app of the host takes the Node's own name.
    pub target: Option<CaddyTarget>,
}

/// What work on a host came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Caddy serves, and takes routes.
    Serves {
        /// Whether it has a certificate for the Node's name; why not.
        certificate: Result<(), String>,
    },
    /// A person has to act.
    Refused {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
    /// Something there does not work, though nothing is known to be in the way: tried again.
    Broken {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
    /// It could not be looked at.
    Unseen {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
}

/// What is to be done about the host of a Node whose name is published; `None` if nothing is left to do.
pub(super) fn host(seen: &Observed) -> Option<NodeStep> {
    let host = seen.host.as_ref()?;
    if let Some(message) = &host.unset {
        return Some(stop("HostImagesMissing", message.clone()));
    }
    if host.work.is_none() && !(host.fresh && host.verdict.is_some()) {
        return Some(Step::Do(Action::WorkOnHost));
    }
    let after = if host.work.is_some() { WORKING } else { host.again };
    match (&host.verdict, &host.work) {
        (Some(Verdict::Serves { certificate: Ok(()) }), _) => None,
        (Some(Verdict::Serves { certificate: Err(message) }), _) => {
            Some(wait("CertificatePending", message.clone(), after, true))
        }
        (Some(Verdict::Refused { reason, message }), _) => Some(stop(reason, message.clone())),
        (Some(Verdict::Broken { reason, message }), _) => Some(wait(reason, message.clone(), after, false)),
        (Some(Verdict::Unseen { reason, message }), _) => Some(wait(reason, message.clone(), after, true)),
        // Nothing speaks against what was so when the last process looked.
        (None, _) if was_bootstrapped(seen) => None,
        (None, work) => {
            let work = work.as_deref().unwrap_or("waiting for its turn");
            Some(wait(BOOTSTRAPPING, format!("bootstrapping the host: {work}"), WORKING, false))
        }
    }
}

/// Whether everything was in place when the host was last looked at, as the spec has it now.
fn was_bootstrapped(seen: &Observed) -> bool {
    let is_current = condition::get(&seen.status.conditions, BOOTSTRAPPED)
        .is_some_and(|c| c.status == "True" && c.observed_generation == seen.node.metadata.generation);
    is_current && (!seen.node.spec.proxied || is_proxied(seen))
}

/// Whether Cloudflare stands before the host now.
fn is_proxied(seen: &Observed) -> bool {
    seen.status.record.as_ref().is_some_and(|record| record.ttl == 1)
}

/// Whether Cloudflare may stand before the host: not before Caddy has its certificate, which it gets through the name.
/// What is so already stays so.
pub(super) fn may_be_proxied(seen: &Observed) -> bool {
    let Some(host) = &seen.host else { return true };
    matches!(host.verdict, Some(Verdict::Serves { certificate: Ok(()) })) || is_proxied(seen)
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
