//! What happens to a Zone next. Pure: every decision is here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::names::{Fqdn, NameError};
use crate::api::zone::{Zone, ZoneStatus};
use crate::cli;
use crate::controllers::access::{self, Attempt, Obstacle};
use crate::controllers::credential::Credential;
use crate::controllers::users::Users;
use crate::dns::ZoneFacts;
use crate::outside::OutsideError;
use crate::runtime::claims::Standing;
use crate::runtime::driver::{Step, Wait};

/// What is known at the start of a step.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The object.
    pub zone: Arc<Zone>,
    /// Its status, or an empty one.
    pub status: ZoneStatus,
    /// Its domain.
    pub domain: Result<Fqdn, NameError>,
    /// How the claim of its domain stands.
    pub claim: Standing,
    /// What its Secret holds.
    pub credential: Credential,
    /// The last time Cloudflare was asked about it.
    pub attempt: Option<Attempt<ZoneFacts>>,
    /// Its writer, if one runs.
    pub writer: Option<Writer>,
    /// Whether that writer is of an earlier object of this name.
    pub stale: bool,
    /// Who uses it; only known while it is being deleted.
    pub users: Users,
    /// What the last sweep found; `None` before the first.
    pub orphans: Option<Vec<String>>,
    /// What the last sweep found of Workers; `None` before the first.
    pub orphan_workers: Option<Vec<String>>,
    /// How often the Secret is looked at.
    pub recheck: Duration,
    /// How often Cloudflare is asked.
    pub resync: Duration,
}

/// A running writer.
#[derive(Debug, Clone, PartialEq)]
pub struct Writer {
    /// Version of the Secret whose token it uses.
    pub token_version: Option<String>,
    /// Whether it has listed the zone.
    pub listed: bool,
    /// Why it gets nowhere.
    pub blocked: Option<OutsideError>,
    /// What it saw in its last listing.
    pub records: Option<Records>,
    /// Whether the zone's own servers are known.
    pub has_authority: bool,
}

/// Records in the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records {
    /// Those with this cluster's mark.
    pub ours: usize,
}

/// What was learned in this pass.
#[derive(Debug, Default)]
pub struct Facts {
    /// How the claim stands since it was asked for: the cache does not know yet.
    pub claim: Option<Standing>,
    /// The claim was given back.
    pub released: bool,
}

/// What may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Reserve the domain.
    TakeClaim,
    /// Ask Cloudflare who the token is and which zone the domain is.
    Connect,
    /// Start the writer and let others find it.
    StartWriter,
    /// Give the writer the new token.
    InstallToken,
    /// Stop the writer.
    StopWriter,
    /// Give the domain back.
    ReleaseClaim,
}

/// The plan's answer.
pub type ZoneStep = Step<Action, ZoneStatus>;

/// How often a new writer is asked whether it has read the zone.
const READING: Duration = Duration::from_secs(1);

/// Decides the next step.
#[must_use]
pub fn plan(seen: &Observed, facts: &Facts, now: Timestamp) -> ZoneStep {
    let deleting = seen.zone.metadata.deletion_timestamp.is_some();
    let in_use = seen.users.message();
    if seen.stale {
        return Step::Do(Action::StopWriter);
    }
    if deleting && in_use.is_none() {
        return backwards(seen, facts);
    }
    let step = forwards(seen, facts, now);
    match (step, in_use) {
        // Those who still use it need it working: what can be done is done, and only then waited.
        (Step::Do(action), _) => Step::Do(action),
        (Step::Record(status), _) => Step::Record(status),
        (_, Some(message)) => Step::Wait(Wait { reason: "InUse", message, after: seen.recheck, keep_ready: false }),
        (step, None) => step,
    }
}

fn forwards(seen: &Observed, facts: &Facts, now: Timestamp) -> ZoneStep {
    if let Err(error) = &seen.domain {
        return Step::Stop { reason: "InvalidDomain", message: format!("spec.domain: {error}") };
    }
    if let Some(step) = claim(seen, facts) {
        return step;
    }
    let Credential::Ok { version, .. } = &seen.credential else { return obstructed(seen) };
    if access::is_due(seen.attempt.as_ref(), version, seen.zone.metadata.generation, now, seen.resync) {
        return Step::Do(Action::Connect);
    }
    // Only a token that was just proven to be of the pinned account gets any further.
    let Some(found) = proven(seen) else { return obstructed(seen) };
    if let Some(status) = pinned(&seen.status, found) {
        return Step::Record(Box::new(status));
    }
    let Some(writer) = &seen.writer else { return Step::Do(Action::StartWriter) };
    if writer.token_version.as_ref() != Some(version) {
        return Step::Do(Action::InstallToken);
    }
    if obstacle(seen).is_some() {
        return obstructed(seen);
    }
    if let Err(message) = valid(&seen.zone) {
        return Step::Stop { reason: "InvalidPropagation", message };
    }
    if !writer.listed {
        let message = format!("reading the records of {}", seen.zone.spec.domain);
        return Step::Wait(Wait { reason: "ReadingZone", message, after: READING, keep_ready: true });
    }
    if found.status != "active" {
        return Step::Wait(inactive(seen, found));
    }
    Step::Done
}

/// Takes the domain; whoever has it meanwhile keeps the writer to itself.
fn claim(seen: &Observed, facts: &Facts) -> Option<ZoneStep> {
    let domain = &seen.zone.spec.domain;
    match facts.claim.as_ref().unwrap_or(&seen.claim) {
        Standing::Ours => None,
        Standing::Free => Some(Step::Do(Action::TakeClaim)),
        Standing::Taken { .. } | Standing::Reserved { .. } if seen.writer.is_some() => {
            Some(Step::Do(Action::StopWriter))
        }
        Standing::Taken { holder, .. } => Some(Step::Stop {
            reason: "DomainTaken",
            message: format!(
                "spec.domain {domain} belongs to {} {}: one domain has one Zone, so use that one, or delete it",
                holder.kind, holder.name
            ),
        }),
        Standing::Reserved { .. } => Some(Step::Wait(Wait {
            reason: "DomainReserved",
            message: format!("spec.domain {domain} was given back a moment ago"),
            after: seen.recheck,
            keep_ready: false,
        })),
    }
}

fn backwards(seen: &Observed, facts: &Facts) -> ZoneStep {
    if seen.writer.is_some() {
        Step::Do(Action::StopWriter)
    } else if !facts.released {
        Step::Do(Action::ReleaseClaim)
    } else {
        Step::Gone
    }
}

/// The wait or stop that the obstacle makes.
fn obstructed(seen: &Observed) -> ZoneStep {
    match obstacle(seen) {
        Some(Obstacle { reason, message, terminal: true, .. }) => Step::Stop { reason, message },
        Some(obstacle) => Step::Wait(obstacle.wait(pause(seen))),
        None => Step::Done,
    }
}

/// How long to wait before looking again.
fn pause(seen: &Observed) -> Duration {
    let due = |attempt: &Attempt<ZoneFacts>| {
        let failed = attempt.result.is_err();
        let left = attempt.due(seen.resync).duration_since(attempt.at);
        failed.then(|| Duration::try_from(left).unwrap_or(Duration::ZERO))
    };
    seen.attempt.as_ref().and_then(due).map_or(seen.recheck, |left| left.min(seen.recheck).max(Duration::from_secs(1)))
}

/// What stands in the way: the Secret, what Cloudflare said of its token, or what the writer met.
#[must_use]
pub fn obstacle(seen: &Observed) -> Option<Obstacle> {
    if let Some(obstacle) = Obstacle::of_credential(&seen.credential) {
        return Some(obstacle);
    }
    let attempt = current(seen)?;
    match &attempt.result {
        Err(error) => Some(Obstacle::of_call(error)),
        Ok(found) => changed(&seen.zone.spec.domain, &seen.status, found).or_else(|| {
            // What an older token met says nothing about this one.
            let writer = seen.writer.as_ref().filter(|w| w.token_version.as_ref() == Some(&attempt.version))?;
            writer.blocked.as_ref().map(Obstacle::of_call)
        }),
    }
}

/// The last attempt, if it was made with the present token.
#[must_use]
pub fn current(seen: &Observed) -> Option<&Attempt<ZoneFacts>> {
    let Credential::Ok { version, .. } = &seen.credential else { return None };
    seen.attempt.as_ref().filter(|attempt| attempt.version == *version)
}

/// What Cloudflare said, if the present token belongs to the pinned zone and account.
#[must_use]
pub fn proven(seen: &Observed) -> Option<&ZoneFacts> {
    let found = current(seen)?.result.as_ref().ok()?;
    changed(&seen.zone.spec.domain, &seen.status, found).is_none().then_some(found)
}

/// Whether the zone found is another than the pinned one.
fn changed(domain: &str, status: &ZoneStatus, found: &ZoneFacts) -> Option<Obstacle> {
    let differs = |pin: &Option<String>, found: &str| pin.as_deref().filter(|pin| *pin != found).map(String::from);
    if let Some(pin) = differs(&status.account_id, &found.account_id) {
        let message = format!(
            "the token finds {domain} in account {}, but this Zone has used account {pin}: nothing is written with it; \
             put a token of account {pin} into the Secret, or create another Zone after deleting this one",
            found.account_id
        );
        return Some(Obstacle::changed("AccountChanged", message));
    }
    let pin = differs(&status.zone_id, &found.zone_id)?;
    let message = format!(
        "Cloudflare's id of {domain} is {}, but this Zone has used {pin}: the domain was removed and added again; \
         nothing is written to it; delete and create the Zone and its Nodes to start anew",
        found.zone_id
    );
    Some(Obstacle::changed("ZoneChanged", message))
}

/// The status with zone and account pinned; `None` if they are already.
fn pinned(status: &ZoneStatus, found: &ZoneFacts) -> Option<ZoneStatus> {
    if status.zone_id.is_some() && status.account_id.is_some() {
        return None;
    }
    let (zone_id, account_id) = (Some(found.zone_id.clone()), Some(found.account_id.clone()));
    Some(ZoneStatus { zone_id, account_id, ..status.clone() })
}

fn inactive(seen: &Observed, found: &ZoneFacts) -> Wait {
    let domain = &seen.zone.spec.domain;
    let servers = found.name_servers.join(" and ");
    Wait {
        reason: "ZoneNotActive",
        message: format!(
            "Cloudflare calls {domain} `{}`: nobody sees its records until the registrar names {servers} as its servers",
            found.status
        ),
        after: seen.recheck,
        keep_ready: false,
    }
}

/// Whether `spec.propagation` can be used.
///
/// # Errors
/// A sentence that names field, value and remedy.
pub fn valid(zone: &Zone) -> Result<(), String> {
    let Some(propagation) = &zone.spec.propagation else { return Ok(()) };
    for (index, resolver) in propagation.resolvers.iter().flatten().enumerate() {
        cli::server(resolver).map_err(|error| format!("spec.propagation.resolvers[{index}]: {error}"))?;
    }
    cli::duration(&propagation.timeout).map_err(|error| format!("spec.propagation.timeout: {error}"))?;
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
