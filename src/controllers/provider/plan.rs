//! What happens to a Provider next. Pure: every decision is here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::brakes::State;
use crate::api::provider::{Provider, ProviderStatus};
use crate::cli;
use crate::cloud::static_hosts::StaticError;
use crate::cloud::{Account, AllowedCidrs};
use crate::controllers::access::{self, Attempt, Obstacle};
use crate::controllers::credential::Credential;
use crate::controllers::users::Users;
use crate::outside::OutsideError;
use crate::runtime::driver::{Step, Wait};

/// What is known at the start of a step.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The object.
    pub provider: Arc<Provider>,
    /// Its status, or an empty one.
    pub status: ProviderStatus,
    /// Where its VMs come from.
    pub source: Source,
    /// How its brakes stand.
    pub brakes: State,
    /// Whether what runs under its name is of an earlier object.
    pub stale: bool,
    /// Who uses it; only known while it is being deleted.
    pub users: Users,
    /// What the last sweep found; `None` before the first.
    pub orphans: Option<Vec<String>>,
    /// How often the Secret is looked at.
    pub recheck: Duration,
    /// How often the API is asked.
    pub resync: Duration,
}

/// Where a Provider's VMs come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Existing hosts.
    Static {
        /// `spec.static.allowedCIDRs`, read.
        wanted: Result<AllowedCidrs, StaticError>,
        /// The list in use.
        running: Option<AllowedCidrs>,
    },
    /// An API.
    Vms {
        /// What the Secret holds.
        credential: Credential,
        /// The last time the API was asked about it.
        attempt: Option<Attempt<Account>>,
        /// Version of the Secret whose token the running fleet uses; `None` if none runs.
        running: Option<String>,
        /// How many VMs the newest listing shows, or why there is none; `None` before a fleet runs.
        vms: Option<Result<usize, OutsideError>>,
    },
    /// Nothing this version knows.
    Unknown,
}

/// What may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Let others use this list of networks.
    StartStatic(AllowedCidrs),
    /// Ask the API who the token is.
    Connect,
    /// Start the fleet and let others find it.
    StartFleet,
    /// Give the fleet the new token.
    InstallToken,
    /// Take what runs out of the registry.
    Stop,
}

/// The plan's answer.
pub type ProviderStep = Step<Action, ProviderStatus>;

/// Decides the next step.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> ProviderStep {
    let deleting = seen.provider.metadata.deletion_timestamp.is_some();
    let in_use = seen.users.message();
    if seen.stale {
        return Step::Do(Action::Stop);
    }
    if deleting && in_use.is_none() {
        return if is_running(seen) { Step::Do(Action::Stop) } else { Step::Gone };
    }
    let step = forwards(seen, now);
    match (step, in_use) {
        // Those who still use it need it working: what can be done is done, and only then waited.
        (Step::Do(action), _) => Step::Do(action),
        (Step::Record(status), _) => Step::Record(status),
        // A hold keeps them from going, so it is what a person has to see.
        (step @ Step::Wait(_), _) if seen.brakes.held.is_some() => step,
        (_, Some(message)) => Step::Wait(Wait { reason: "InUse", message, after: seen.recheck, keep_ready: false }),
        (step, None) => step,
    }
}

fn is_running(seen: &Observed) -> bool {
    match &seen.source {
        Source::Static { running, .. } => running.is_some(),
        Source::Vms { running, .. } => running.is_some(),
        Source::Unknown => false,
    }
}

fn forwards(seen: &Observed, now: Timestamp) -> ProviderStep {
    let step = match &seen.source {
        Source::Static { wanted: Err(error), .. } => {
            return Step::Stop { reason: "InvalidCIDR", message: error.to_string() };
        }
        Source::Static { wanted: Ok(wanted), running } => {
            (running.as_ref() != Some(wanted)).then(|| Step::Do(Action::StartStatic(wanted.clone())))
        }
        Source::Vms { credential, attempt, running, .. } => {
            vms(seen, credential, attempt.as_ref(), running.as_ref(), now)
        }
        Source::Unknown => {
            let message = "spec has none of the providers this version knows: set exactly one of `digitalocean` and \
                           `static`";
            return Step::Stop { reason: "UnknownProvider", message: message.to_owned() };
        }
    };
    if let Some(step @ (Step::Do(_) | Step::Record(_))) = step {
        return step;
    }
    if let Err(error) = cli::duration(&seen.provider.spec.brake.window) {
        return Step::Stop { reason: "InvalidBrake", message: format!("spec.brake.window: {error}") };
    }
    match (step, &seen.brakes.held) {
        (Some(step @ Step::Stop { .. }), _) | (Some(step), None) => step,
        (_, Some(held)) => Step::Wait(Wait {
            reason: held.reason,
            message: held.message.clone(),
            after: seen.recheck,
            keep_ready: false,
        }),
        (None, None) => Step::Done,
    }
}

/// The next step towards a fleet that runs with the present token; `None` if it does.
fn vms(
    seen: &Observed,
    credential: &Credential,
    attempt: Option<&Attempt<Account>>,
    running: Option<&String>,
    now: Timestamp,
) -> Option<ProviderStep> {
    let Credential::Ok { version, .. } = credential else { return obstructed(seen) };
    if access::is_due(attempt, version, seen.provider.metadata.generation, now, seen.resync) {
        return Some(Step::Do(Action::Connect));
    }
    // Only a token that was just proven to be of the pinned account gets any further.
    let Some(account) = proven(seen) else { return obstructed(seen) };
    if seen.status.account_id.is_none() {
        let status = ProviderStatus { account_id: Some(account.id.clone()), ..seen.status.clone() };
        return Some(Step::Record(Box::new(status)));
    }
    match running {
        None => Some(Step::Do(Action::StartFleet)),
        Some(installed) if installed != version => Some(Step::Do(Action::InstallToken)),
        Some(_) => obstructed(seen),
    }
}

/// The wait or stop that the obstacle makes, if there is one.
fn obstructed(seen: &Observed) -> Option<ProviderStep> {
    Some(match obstacle(seen)? {
        Obstacle { reason, message, terminal: true, .. } => Step::Stop { reason, message },
        obstacle => Step::Wait(obstacle.wait(pause(seen))),
    })
}

/// How long to wait before looking again.
fn pause(seen: &Observed) -> Duration {
    let Source::Vms { attempt: Some(attempt), .. } = &seen.source else { return seen.recheck };
    let left = attempt.due(seen.resync).duration_since(attempt.at);
    let left = attempt.result.is_err().then(|| Duration::try_from(left).unwrap_or(Duration::ZERO));
    left.map_or(seen.recheck, |left| left.min(seen.recheck).max(Duration::from_secs(1)))
}

/// What stands in the way: the Secret, what the API said of its token, or what the last listing met.
#[must_use]
pub fn obstacle(seen: &Observed) -> Option<Obstacle> {
    let Source::Vms { credential, running, vms, .. } = &seen.source else { return None };
    if let Some(obstacle) = Obstacle::of_credential(credential) {
        return Some(obstacle);
    }
    let attempt = current(seen)?;
    match &attempt.result {
        Err(error) => Some(Obstacle::of_call(error)),
        Ok(account) => changed(seen, account).or_else(|| {
            // What an older token met says nothing about this one.
            let listed = vms.as_ref().filter(|_| running.as_ref() == Some(&attempt.version))?;
            listed.as_ref().err().map(Obstacle::of_call)
        }),
    }
}

/// The last attempt, if it was made with the present token.
#[must_use]
pub fn current(seen: &Observed) -> Option<&Attempt<Account>> {
    let Source::Vms { credential: Credential::Ok { version, .. }, attempt, .. } = &seen.source else { return None };
    attempt.as_ref().filter(|attempt| attempt.version == *version)
}

/// The account, if the present token belongs to the pinned one.
#[must_use]
pub fn proven(seen: &Observed) -> Option<&Account> {
    let account = current(seen)?.result.as_ref().ok()?;
    changed(seen, account).is_none().then_some(account)
}

fn changed(seen: &Observed, account: &Account) -> Option<Obstacle> {
    let pin = seen.status.account_id.as_deref().filter(|pin| *pin != account.id)?;
    let message = format!(
        "the token belongs to account {}, but this Provider has used account {pin}: nothing is done with it; put a \
         token of account {pin} into the Secret, or create another Provider",
        account.id
    );
    Some(Obstacle::changed("AccountChanged", message))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
