//! A revision on its way in, up to the moment it is seen to serve.

use jiff::Timestamp;

use super::app::{Domain, PreDeploy, Wanted};
use super::failure::{Failure, Phase};
use super::journal::{Coming, Journal, Stage, Target, after, seconds};
use super::plan::{Action, Await, Step, ask_inside, bring_up, failure, record, take_away, up, wait};
use super::seen::{Container, Health, Observed, State};
use crate::host::compose::changes::{self, Change, Changes, Known};
use crate::host::compose::overlay::Ingress;
use crate::host::compose::project::Project;

/// Started again so often, a container will not stay up by being started once more.
const CRASHES: u32 = 3;

/// Whether the coming revision goes back before anything else: because something else is wanted, or because it fell
/// while the names lead to it.
pub(super) fn turn_back(seen: &Observed, wanted: &Wanted, now: Timestamp) -> Option<Step> {
    let coming = seen.journal.coming.as_ref().filter(|coming| coming.undo.is_none())?;
    if coming.target.revision != wanted.revision || coming.cause != wanted.cause {
        return Some(record(seen.journal.undoing(None, now)));
    }
    if coming.stage < Stage::Swapping {
        return None;
    }
    let phase = if coming.stage == Stage::Swapping { Phase::Swap } else { Phase::ExternalHealth };
    let fallen = fallen(seen, coming, true).map(|(reason, message)| fail(coming, phase, reason, message));
    let fewer = || {
        let missing = seen.of(&coming.target).len() < coming.target.replicas as usize;
        missing.then(|| fail(coming, phase, "ContainerMissing", "a container of the new revision is gone".into()))
    };
    Some(record(seen.journal.undoing(Some(fallen.or_else(fewer)?), now)))
}

/// The next step of a revision on its way.
pub(super) fn plan(seen: &Observed, wanted: &Wanted, coming: &Coming, now: Timestamp) -> Step {
    match coming.stage {
        Stage::Preparing => prepare(seen, wanted, coming, now),
        Stage::Starting => start(seen, coming, now),
        Stage::Proving => prove(seen, coming, now),
        // The route is written: `routed` comes before this.
        Stage::Swapping => record(seen.journal.reached(Stage::Verifying, now)),
        Stage::Verifying => verify(seen, wanted, coming, now),
    }
}

fn prepare(seen: &Observed, wanted: &Wanted, coming: &Coming, now: Timestamp) -> Step {
    if !coming.pulled {
        return Step::Do(Action::Pull(coming.target.revision.clone()));
    }
    if let Some(step) = networks(seen, wanted, now) {
        return step;
    }
    let keep: Vec<&Target> = seen.journal.live.iter().chain([&coming.target]).collect();
    if let Some(action) = take_away(&seen.surplus(&keep)) {
        return Step::Do(action);
    }
    let next = changes(seen, wanted).before.into_iter().find(|step| is_due(seen, wanted, step));
    let needing = next.as_ref().map_or(&coming.target.service, |(service, _)| service);
    if let Some(step) = needs(seen, wanted, coming, needing, now) {
        return step;
    }
    if let Some((service, _)) = next {
        return Step::Do(Action::Service { revision: wanted.revision.clone(), service });
    }
    let pre_deploy = wanted.pre_deploy.as_ref().and_then(|pre_deploy| run_once(seen, coming, pre_deploy, now));
    pre_deploy.unwrap_or_else(|| record(seen.journal.reached(Stage::Starting, now)))
}

/// The network by which Caddy reaches the entry. Compose makes the others.
pub(super) fn networks(seen: &Observed, wanted: &Wanted, now: Timestamp) -> Option<Step> {
    let name = wanted.ingress.network().to_owned();
    match (seen.host.networks.get(&name), &wanted.ingress) {
        (Some(network), _) if network.proxied => None,
        (Some(_), Ingress::App(_)) => Some(Step::Do(Action::ConnectProxy(name))),
        (None, Ingress::App(_)) => Some(Step::Do(Action::CreateNetwork(name))),
        (_, Ingress::Edge) => Some(wait(Await::Network(name), now)),
    }
}

/// What happens to the services beside the entry.
pub(super) fn changes(seen: &Observed, wanted: &Wanted) -> Changes {
    let known = Known {
        entry: &wanted.service,
        previous_entry: seen.journal.live.as_ref().map(|live| live.service.as_str()),
        wanted: wanted.hashes.clone(),
        running: seen.running(),
        updates: wanted.updates.clone(),
    };
    changes::plan(&wanted.project, &known)
}

/// Whether a change is still to be made: what Compose made of this configuration is not made anew for another hash.
pub(super) fn is_due(seen: &Observed, wanted: &Wanted, (service, change): &changes::Step) -> bool {
    let made = seen.journal.updated.get(service);
    *change == Change::New || made.is_none() || made != wanted.hashes.get(service)
}

/// What keeps a service from being started: one it needs is not healthy, or has not ended well.
fn needs(seen: &Observed, wanted: &Wanted, coming: &Coming, service: &str, now: Timestamp) -> Option<Step> {
    match unmet(seen, &wanted.project, service)? {
        Err(message) => Some(fails(seen, coming, (Phase::BeforeSwap, "DependencyFailed", message), now)),
        Ok(other) => {
            let Some(since) = coming.needs_since else {
                return Some(record(seen.journal.with_coming(|coming| coming.needs_since = Some(now))));
            };
            if now < after(since, coming.target.limit()) {
                return Some(wait(Await::Service(other), now));
            }
            let message = format!("service `{other}`, which `{service}` needs, was not ready in time");
            Some(fails(seen, coming, (Phase::BeforeSwap, "DependencyNotReady", message), now))
        }
    }
}

/// The first service that `service` needs and does not have yet; an error if it never will.
fn unmet(seen: &Observed, project: &Project, service: &str) -> Option<Result<String, String>> {
    let needed = &project.services.get(service)?.depends_on;
    needed.iter().find_map(|(other, dependency)| {
        let containers = || seen.host.containers.iter().filter(|c| !c.one_off && c.service == *other);
        let waits = match dependency.condition.as_str() {
            "service_healthy" => containers().any(|c| !(c.state == State::Running && is_well(c))),
            "service_completed_successfully" => {
                if let Some(failed) = containers().find(|c| c.state == State::Exited && c.exit_code != 0) {
                    let code = failed.exit_code;
                    return Some(Err(format!("service `{other}`, which `{service}` needs, ended with status {code}")));
                }
                containers().any(|c| c.state != State::Exited)
            }
            _ => false,
        };
        waits.then(|| Ok(other.clone()))
    })
}

/// `preDeploy`, at most once. What is about to run is written down first, and its container keeps how it ended until
/// that is written down too: so where there is no container, it did not begin.
fn run_once(seen: &Observed, coming: &Coming, pre_deploy: &PreDeploy, now: Timestamp) -> Option<Step> {
    let revision = &coming.target.revision;
    let container = seen.one_off(revision);
    let run = || Step::Do(Action::PreDeploy { revision: revision.clone(), name: one_off_name(&seen.app, revision) });
    let Some(ran) = seen.journal.ran(revision) else {
        return Some(record(seen.journal.with_ran(revision, now, None)));
    };
    let over = |journal: &Journal, ok| journal.with_ran(revision, ran.at, Some(ok));
    let fails = |reason, message| {
        let why = fail(coming, Phase::PreDeploy, reason, message);
        Some(record(over(&seen.journal, false).undoing(Some(why), now)))
    };
    match (ran.ok, container) {
        (Some(true), Some(container)) => take_away(&[container]).map(Step::Do),
        (Some(true), None) => None,
        (Some(false), _) => fails("PreDeployFailed", "it failed before, and runs only once in a revision".to_owned()),
        (None, None) => Some(run()),
        (None, Some(container)) => match container.state {
            State::Created => Some(Step::Do(Action::Start(vec![container.id.clone()]))),
            State::Exited if container.exit_code == 0 => Some(record(over(&seen.journal, true))),
            State::Exited => fails("PreDeployFailed", format!("it ended with status {}", container.exit_code)),
            _ if now < after(ran.at, seconds(pre_deploy.timeout)) => Some(wait(Await::PreDeploy, now)),
            _ => fails("PreDeployTimedOut", format!("it did not end within {} s", pre_deploy.timeout)),
        },
    }
}

/// The name of the container that runs a revision's `preDeploy`.
#[must_use]
pub fn one_off_name(app: &str, revision: &str) -> String {
    format!("{}-pre", crate::host::compose::overlay::alias(app, revision))
}

fn start(seen: &Observed, coming: &Coming, now: Timestamp) -> Step {
    let target = &coming.target;
    let old = seen.surplus(&[target]);
    #[cfg(test)]
    if super::seeded::is(super::seeded::Seeded::RemoveFirst) && !old.is_empty() {
        return Step::Do(Action::Remove(super::seen::ids(old)));
    }
    if target.recreate {
        // What is not the app's entry any more may hold the port or the volume as well.
        let running = up(old.into_iter().chain(seen.others(target)));
        let running: std::collections::BTreeSet<String> = running.into_iter().collect();
        if !running.is_empty() {
            let grace = seen.journal.live.as_ref().map_or(super::plan::GRACE, |live| live.drain.max(1));
            return Step::Do(Action::Stop { ids: running.into_iter().collect(), grace });
        }
    }
    bring_up(seen, target).map_or_else(
        || record(seen.journal.keeping(&target.revision, images_of(seen, target)).reached(Stage::Proving, now)),
        Step::Do,
    )
}

fn images_of(seen: &Observed, target: &Target) -> std::collections::BTreeSet<String> {
    seen.of(target).into_iter().map(|c| c.image.clone()).collect()
}

fn prove(seen: &Observed, coming: &Coming, now: Timestamp) -> Step {
    let target = &coming.target;
    if let Some(action) = bring_up(seen, target) {
        return Step::Do(action);
    }
    #[cfg(test)]
    if super::seeded::is(super::seeded::Seeded::SwapUnproved) {
        return record(seen.journal.reached(Stage::Swapping, now));
    }
    if answers(seen, target, coming.since) {
        return record(seen.journal.reached(Stage::Swapping, now));
    }
    let started = now >= after(coming.since, seconds(target.start_period));
    if let Some((reason, message)) = fallen(seen, coming, started) {
        return fails(seen, coming, (Phase::InternalHealth, reason, message), now);
    }
    let limit = after(coming.since, target.limit());
    match (now >= limit).then(|| silent(seen, target, limit)).flatten() {
        Some(message) => fails(seen, coming, (Phase::InternalHealth, "Unhealthy", message), now),
        None => ask_inside(seen, target, now),
    }
}

/// Whether all of a revision's containers run, are well by their own check, and answered since then.
pub(super) fn answers(seen: &Observed, target: &Target, since: Timestamp) -> bool {
    let answers = |c: &Container| seen.internal.get(&c.id).is_some_and(|answer| answer.well_since(since));
    let mine = seen.of(target);
    mine.len() >= target.replicas as usize && mine.iter().all(|c| c.state == State::Running && is_well(c) && answers(c))
}

fn is_well(container: &Container) -> bool {
    container.health.is_none_or(|health| health == Health::Healthy)
}

/// Why a container of the coming revision cannot be waited for any more. One that crashes may do so until it has
/// `started`, which is how many apps wait for their database.
fn fallen(seen: &Observed, coming: &Coming, started: bool) -> Option<(&'static str, String)> {
    let fallen = |c: &&Container| match c.state {
        State::Exited => true,
        State::Running | State::Restarting => started && c.restarts >= CRASHES,
        State::Created => false,
    };
    let mine = seen.of(&coming.target);
    let container = mine.into_iter().find(fallen)?;
    let service = &container.service;
    Some(if container.oom_killed {
        ("OOMKilled", format!("service `{service}` took more memory than it may and was killed"))
    } else if container.restarts >= CRASHES {
        // Of one that was just started again Docker has no status any more.
        let status = (container.state != State::Running).then(|| format!(", with status {}", container.exit_code));
        ("CrashLooping", format!("service `{service}` ends again and again{}", status.unwrap_or_default()))
    } else {
        ("ContainerExited", format!("service `{service}` ended with status {}", container.exit_code))
    })
}

/// What a revision whose time is over says. Nothing is concluded from not having asked: the answer is newer than the
/// limit.
fn silent(seen: &Observed, target: &Target, limit: Timestamp) -> Option<String> {
    seen.of(target).into_iter().find_map(|container| {
        let service = &container.service;
        match (container.state, container.health, seen.internal.get(&container.id)) {
            (State::Restarting, ..) => {
                Some(format!("service `{service}` does not stay up: it ended with status {}", container.exit_code))
            }
            (_, Some(Health::Unhealthy), _) => Some(format!("the health check of service `{service}` fails")),
            (_, Some(Health::Starting), _) => {
                Some(format!("the health check of service `{service}` has not passed yet"))
            }
            (_, _, Some(answer)) if answer.at >= limit => {
                let why = answer.verdict.as_ref().err()?;
                Some(format!("service `{service}`, port {}, path {}: {why}", target.port, target.health_path))
            }
            _ => None,
        }
    })
}

fn verify(seen: &Observed, wanted: &Wanted, coming: &Coming, now: Timestamp) -> Step {
    // Behind the maintenance page nobody can see it: what it answers inside has to do.
    let probed = wanted.domains.iter().filter(|(_, domain)| matches!(domain, Domain::Serve { verify: true, .. }));
    let names: Vec<&String> = if wanted.maintenance { Vec::new() } else { probed.map(|(name, _)| name).collect() };
    let well = |name: &str| seen.external.get(name).is_some_and(|answer| answer.well_since(coming.since));
    let limit = after(coming.since, seconds(wanted.external_timeout));
    let open: Vec<&String> = names.into_iter().filter(|name| !well(name)).collect();
    if open.is_empty() {
        return record(arrived(seen, coming, now));
    }
    let refused = open.iter().find_map(|name| {
        let answer = seen.external.get(*name).filter(|answer| now >= limit && answer.at >= limit)?;
        Some(format!("https://{name}{}: {}", coming.target.health_path, answer.verdict.as_ref().err()?))
    });
    match refused {
        Some(message) => fails(seen, coming, (Phase::ExternalHealth, "ExternalHealthFailed", message), now),
        None => wait(Await::External(open.into_iter().cloned().collect()), now),
    }
}

/// It serves: from now on nothing leads back.
fn arrived(seen: &Observed, coming: &Coming, now: Timestamp) -> Journal {
    let replaces = seen.journal.live.is_some() && !coming.target.recreate;
    Journal {
        live: Some(coming.target.clone()),
        coming: None,
        draining: replaces.then_some(now),
        failed: None,
        revived: None,
        ..seen.journal.clone()
    }
}

fn fail(coming: &Coming, phase: Phase, reason: &str, message: String) -> Failure {
    failure((&coming.target.revision, &coming.cause), phase, reason, message)
}

fn fails(seen: &Observed, coming: &Coming, (phase, reason, message): (Phase, &str, String), now: Timestamp) -> Step {
    record(seen.journal.undoing(Some(fail(coming, phase, reason, message)), now))
}
