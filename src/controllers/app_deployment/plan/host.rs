//! One host: what [`deploy`](crate::host::deploy) says comes next, in terms of the app's plan.

use std::time::Duration;

use jiff::Timestamp;

use super::super::names::{domains, names, proven, serves};
use super::super::observe::{HostView, Observed};
use super::super::report;
use super::{Action, AppStep, Facts, WATCHED, blocked, expired, handover, publish, stop, wait};
use crate::api::names::Fqdn;
use crate::host::deploy::failure::{Failure, Fallback, Phase};
use crate::host::deploy::journal::Stage;
use crate::host::deploy::plan::{Await, Step as HostStep, plan};
use crate::host::deploy::{self, Journal};
use crate::host::table::Route;
use crate::runtime::driver::Step;

/// How long a revision has to answer from outside; and where a certificate has to come first.
const ANSWERS: Duration = Duration::from_secs(30);
const CERTIFIES: Duration = Duration::from_secs(120);

/// The next step on a host; `None` if what is wanted runs there, whole.
pub(super) fn work(seen: &Observed, facts: &Facts, name: &str, now: Timestamp) -> Option<AppStep> {
    let host = seen.hosts.get(name)?;
    if host.busy {
        return Some(wait("Deploying", deploying(name, host), WATCHED, false));
    }
    if host.blocked.is_some() {
        let (reason, message) = blocked(seen, name);
        return Some(wait(reason, message, WATCHED, host.journal.live.is_some()));
    }
    if let Some((reason, message)) = facts.refused.get(name) {
        return Some(stop(reason, message.clone()));
    }
    let Some(prepared) = facts.prepared.get(name) else { return Some(Step::Do(Action::Prepare(name.to_owned()))) };
    let names = match names(seen, prepared.entry.domain.as_ref(), now) {
        Ok(names) => names,
        Err(step) => return Some(*step),
    };
    if let Some(step) = handover::unlisted(seen, &names, now) {
        return Some(step);
    }
    if let Some(step) = publish::publish(seen, facts, names, now) {
        return Some(step);
    }
    let Some(view) = view(seen, facts, name, now) else {
        return Some(Step::Do(Action::Look(name.to_owned())));
    };
    translate(seen, facts, name, host, plan(&view, now), now)
}

/// What is wanted on a host; `None` if the app is to leave it, or the revision was not prepared there.
#[must_use]
pub fn wanted(seen: &Observed, facts: &Facts, name: &str, now: Timestamp) -> Option<deploy::Wanted> {
    if seen.deleting() || expired(seen, now) || !seen.hosts.get(name)?.target {
        return None;
    }
    let prepared = facts.prepared.get(name)?;
    let names = proven(seen, names(seen, prepared.entry.domain.as_ref(), now).ok()?);
    Some(deploy::Wanted { domains: domains(seen, facts, &names, name, now), ..prepared.wanted.clone() })
}

/// How long a revision has to answer from outside: the first answer of a name waits for its certificate.
#[must_use]
pub fn patience(seen: &Observed) -> Duration {
    let mut names = seen.app.spec.domains.iter().map(|domain| Fqdn::parse(&domain.name));
    let known = names.all(|name| name.is_ok_and(|name| serves(seen, &name))) && !seen.status.domains.is_empty();
    if known { ANSWERS } else { CERTIFIES }
}

/// What is known of a host to the deploy's plan; `None` if it was not looked at.
pub fn view(seen: &Observed, facts: &Facts, name: &str, now: Timestamp) -> Option<deploy::Observed> {
    let answers = facts.answers.get(name).cloned().unwrap_or_default();
    let (view, wanted) = (seen.hosts.get(name)?, wanted(seen, facts, name, now));
    let mut host = facts.looked.get(name)?.clone();
    // At its own name the Node has its placeholder wherever no app has the name: that is no route of this one's.
    if let Some(own) = view.fqdn.as_ref().map(Fqdn::as_str)
        && host.routes.get(own) == Some(&Route::Placeholder)
        && wanted.as_ref().is_none_or(|wanted| !wanted.domains.contains_key(own))
    {
        host.routes.remove(own);
    }
    Some(deploy::Observed {
        app: seen.mark.key.clone(),
        wanted,
        journal: view.journal.clone(),
        host,
        internal: answers.internal,
        external: answers.external,
    })
}

/// A step of the deploy as one of the app; `None` if nothing is to be done.
pub(super) fn translate(
    seen: &Observed,
    facts: &Facts,
    name: &str,
    host: &HostView,
    step: HostStep,
    now: Timestamp,
) -> Option<AppStep> {
    let until = |then: Timestamp| Duration::try_from(then.duration_since(now)).unwrap_or_default();
    Some(match step {
        HostStep::Do(action) => Step::Do(Action::Act(name.to_owned(), action)),
        HostStep::Record(journal) => Step::Record(Box::new(report::noted(seen, name, &journal))),
        HostStep::Wait(what @ (Await::Internal { .. } | Await::External(_)), _) if !facts.asked.contains(name) => {
            Step::Do(Action::Ask(name.to_owned(), what))
        }
        HostStep::Wait(Await::Resumed, then) => {
            wait("Suspended", "suspended by spec.suspend: nothing new is begun", until(then), true)
        }
        HostStep::Wait(what, then) => wait("Deploying", awaiting(name, host, &what), until(then), false),
        HostStep::Hold(back_off) => {
            let reason = known(&back_off.reason);
            let message = format!("Node {name}: {}", back_off.message);
            // What serves is not touched by it.
            let keep = host.journal.coming.is_none();
            wait(reason, message, until(back_off.not_before).max(Duration::from_millis(100)), keep)
        }
        HostStep::Stop(failure) => stop(known(&failure.reason), failed(name, &failure)),
        HostStep::Foreign(ids) => {
            let ids = ids.iter().map(|id| id.chars().take(12).collect::<String>()).collect::<Vec<_>>().join(", ");
            let message = format!(
                "Node {name}: containers of the Compose project {} are not Roadstead's ({ids}): remove them, or name \
                 this object otherwise",
                seen.place(Vec::new()).project
            );
            stop("ForeignContainers", message)
        }
        HostStep::Done | HostStep::Gone => return None,
    })
}

/// What a deploy does now, for people; the same as long as it does that.
#[must_use]
pub fn deploying(name: &str, host: &HostView) -> String {
    format!("Node {name}: {}", doing(&host.journal))
}

fn doing(journal: &Journal) -> String {
    let Some(coming) = &journal.coming else {
        return match &journal.draining {
            Some(_) => "the revision before ends what it has begun".to_owned(),
            None => "putting the rest in place".to_owned(),
        };
    };
    let revision = &coming.target.revision;
    if coming.undo.is_some() {
        return format!("revision {revision} goes back");
    }
    match coming.stage {
        Stage::Preparing if !coming.pulled => format!("getting the images of revision {revision}"),
        Stage::Preparing => format!("preparing revision {revision}"),
        Stage::Starting => format!("starting revision {revision}"),
        Stage::Proving => format!("waiting for revision {revision} to answer inside"),
        Stage::Swapping => format!("leading the names to revision {revision}"),
        Stage::Verifying => format!("waiting for revision {revision} to answer from outside"),
    }
}

fn awaiting(name: &str, host: &HostView, what: &Await) -> String {
    match what {
        Await::Network(network) => format!("Node {name}: waiting for the network {network}, which bootstrapping makes"),
        Await::Service(service) => format!("Node {name}: waiting for service `{service}`"),
        Await::PreDeploy => format!("Node {name}: waiting for preDeploy to end"),
        Await::Internal { .. } | Await::External(_) | Await::Drain | Await::Resumed => deploying(name, host),
    }
}

/// Why a revision is not live, or not whole, and what serves instead.
fn failed(name: &str, failure: &Failure) -> String {
    let step = match failure.phase {
        Phase::Pull => "getting the images",
        Phase::Networks => "making the networks",
        Phase::BeforeSwap => "updating services before the swap",
        Phase::PreDeploy => "preDeploy",
        Phase::Start => "starting it",
        Phase::InternalHealth => "its health check inside",
        Phase::Swap => "leading the names to it",
        Phase::ExternalHealth => "its health check from outside",
        Phase::AfterSwap => "updating services after the swap",
    };
    let serves = match failure.fallback {
        Fallback::Previous => "the revision before serves on",
        Fallback::PreviousSilent => "the revision before was started again and does not answer",
        Fallback::Placeholder => "the placeholder serves, as there was no revision before",
        Fallback::New => "it serves all the same",
    };
    let undone = match failure.phase {
        Phase::InternalHealth | Phase::Swap | Phase::ExternalHealth | Phase::Start | Phase::PreDeploy
            if failure.fallback != Fallback::New =>
        {
            "; what preDeploy and services beside the entry changed is not undone"
        }
        _ => "",
    };
    let mut text = format!(
        "Node {name}: revision {} failed at {step}: {}; {serves}{undone}. It is tried again when the spec, \
         or a Secret or ConfigMap that it names, changes",
        failure.revision, failure.message
    );
    let logs = failure.logs.as_deref().unwrap_or_default();
    if !logs.is_empty() {
        text.push_str("; its last lines: ");
        // A condition has room for a thousand characters; all lines are in status.nodes.
        let room = 950_usize.saturating_sub(text.chars().count());
        let mut shown: Vec<&str> = Vec::new();
        let mut length = 0;
        for line in logs.iter().rev() {
            length += line.chars().count() + 3;
            if length > room {
                break;
            }
            shown.insert(0, line);
        }
        text.push_str(&shown.join(" | "));
    }
    text
}

/// The reasons that a deploy may give. They come back from the journal as text.
const REASONS: [&str; 26] = [
    "ConnectionLost",
    "ContainerExited",
    "ContainerMissing",
    "CrashLooping",
    "DependencyFailed",
    "DependencyNotReady",
    "DiskFull",
    "DockerUnavailable",
    "ExternalHealthFailed",
    "ImageNotFound",
    "NetworkFailed",
    "OOMKilled",
    "PortInUse",
    "PreDeployFailed",
    "PreDeployTimedOut",
    "PullDenied",
    "PullFailed",
    "RegistryBusy",
    "RegistryUnavailable",
    "RoutingTableMissing",
    "ServiceFailed",
    "StartFailed",
    "SubnetTaken",
    "SwapRefused",
    "Unhealthy",
    "WrongArchitecture",
];

/// One of [`REASONS`]; a word of another version of the operator is none of them.
pub(super) fn known(reason: &str) -> &'static str {
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("DeployFailed")
}
