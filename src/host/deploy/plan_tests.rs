use std::collections::BTreeSet;

use jiff::Timestamp;

use super::app::{Domain, Wanted};
use super::failure::{Failure, Fallback, Phase};
use super::journal::{Journal, Stage};
use super::model::{APP, Behaviour, NAME, World, wanted};
use super::plan::{Action, Await, Step, plan};
use super::seen::{Answer, Container, Host, Network, Observed, State};
use crate::host::compose::overlay::{Ingress, alias};
use crate::host::table::Route;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn container(id: &str, revision: Option<&str>, state: State) -> Container {
    let hash = revision.unwrap_or("r2");
    Container {
        id: id.into(),
        service: "web".into(),
        app: Some(APP.into()),
        revision: revision.map(str::to_owned),
        one_off: false,
        hash: Some(hash.into()),
        image: format!("sha256:{hash}"),
        state,
        health: None,
        exit_code: 0,
        oom_killed: false,
        restarts: 0,
    }
}

/// A revision without services beside it and without `preDeploy`.
fn plain(revision: &str) -> Wanted {
    let mut wanted = wanted(revision);
    wanted.project.services.retain(|name, _| name == "web");
    wanted.project.services.get_mut("web").unwrap().depends_on.clear();
    wanted.pre_deploy = None;
    wanted.domains = [(NAME.to_owned(), Domain::Serve { verify: true, peer: None })].into();
    wanted
}

fn leads_to(revision: &str) -> Route {
    Route::Upstream { alias: alias(APP, revision).into(), port: 8080, peer: None }
}

/// `r1` serves, `r2` is wanted and has come to `stage`, and these containers are there.
fn at(stage: Stage, containers: Vec<Container>) -> Observed {
    let (old, new) = (plain("r1"), plain("r2"));
    let live = Journal { live: Some(old.target()), names: [NAME.to_owned()].into(), ..Journal::default() };
    let journal = live.begin(&new, now()).reached(stage, now()).with_coming(|coming| coming.pulled = true);
    let routed = journal.serving().unwrap().revision.clone();
    let host = Host {
        containers,
        networks: [("rs-shop".to_owned(), Network { ours: true, proxied: true })].into(),
        routes: [(NAME.to_owned(), leads_to(&routed))].into(),
        directory: true,
        ..Host::default()
    };
    let (internal, external) = Default::default();
    Observed { app: APP.into(), wanted: Some(new), journal, host, internal, external }
}

fn both() -> Vec<Container> {
    vec![container("old", Some("r1"), State::Running), container("new", Some("r2"), State::Running)]
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).unwrap()
}

fn failed(step: &Step) -> Failure {
    let Step::Record(journal) = step else { panic!("{step:?}") };
    let undo = journal.coming.as_ref().and_then(|coming| coming.undo.clone()).unwrap_or_else(|| panic!("{journal:?}"));
    undo.failure.unwrap()
}

#[test]
fn the_new_revision_is_made_beside_the_old_one_by_an_explicit_number() {
    let seen = at(Stage::Starting, vec![container("old", Some("r1"), State::Running)]);
    let up = Action::Up { revision: "r2".into(), service: "web".into(), scale: 2, start: true };
    assert_eq!(plan(&seen, now()), Step::Do(up));
}

#[test]
fn replicas_are_counted_beside_those_of_the_old_revision() {
    let mut seen = at(Stage::Starting, vec![container("old", Some("r1"), State::Running)]);
    seen.wanted.as_mut().unwrap().project.services.get_mut("web").unwrap().scale = Some(3);
    let target = seen.wanted.as_ref().unwrap().target();
    seen.journal = seen.journal.with_coming(|coming| coming.target = target);
    seen.host.containers.push(container("new-1", Some("r2"), State::Running));
    let up = Action::Up { revision: "r2".into(), service: "web".into(), scale: 4, start: true };
    assert_eq!(plan(&seen, now()), Step::Do(up));
}

#[test]
fn an_old_one_that_was_stopped_is_not_started_with_the_new_one() {
    let mut seen = at(Stage::Starting, vec![container("old", Some("r1"), State::Exited)]);
    seen.journal = seen.journal.with_coming(|coming| coming.target.recreate = true);
    let up = Action::Up { revision: "r2".into(), service: "web".into(), scale: 2, start: false };
    assert_eq!(plan(&seen, now()), Step::Do(up));
    seen.host.containers.push(container("new", Some("r2"), State::Created));
    assert_eq!(plan(&seen, now()), Step::Do(Action::Start(vec!["new".into()])));
    // With a name that only one can have it goes.
    seen.journal = seen.journal.with_coming(|coming| coming.target.alone = true);
    assert_eq!(plan(&seen, now()), Step::Do(Action::Remove(vec!["old".into()])));
}

#[test]
fn the_route_is_swapped_only_once_every_new_container_has_answered_since_it_was_started() {
    let mut seen = at(Stage::Proving, both());
    let asks = |step: &Step| matches!(step, Step::Wait(Await::Internal { ids, .. }, _) if ids == &["new"]);
    assert!(asks(&plan(&seen, now())));
    let well = |at| Answer { at, verdict: Ok(()) };
    seen.internal.insert("old".into(), well(later(1)));
    seen.internal.insert("new".into(), well(later(-1)));
    assert!(asks(&plan(&seen, later(2))));
    seen.internal.insert("new".into(), well(later(1)));
    let Step::Record(journal) = plan(&seen, later(2)) else { panic!() };
    assert_eq!(journal.coming.as_ref().unwrap().stage, Stage::Swapping);
    seen.journal = *journal;
    assert_eq!(plan(&seen, later(2)), Step::Do(Action::Route([(NAME.to_owned(), leads_to("r2"))].into())));
}

#[test]
fn a_revision_has_its_start_period_and_its_time_and_is_asked_once_more_at_the_end() {
    let mut seen = at(Stage::Proving, both());
    let ill = |at| Answer { at, verdict: Err("it answered 500".to_owned()) };
    seen.internal.insert("new".into(), ill(later(29)));
    assert!(matches!(plan(&seen, later(29)), Step::Wait(Await::Internal { .. }, _)));
    // An hour without a connection is no answer.
    assert!(matches!(plan(&seen, later(3600)), Step::Wait(Await::Internal { .. }, _)));
    seen.internal.insert("new".into(), ill(later(3601)));
    let failure = failed(&plan(&seen, later(3601)));
    assert_eq!((failure.phase, failure.reason.as_str()), (Phase::InternalHealth, "Unhealthy"));
    assert_eq!(failure.message, "service `web`, port 8080, path /healthz: it answered 500");
}

#[test]
fn a_container_that_ended_is_not_waited_for_and_why_it_ended_is_said() {
    for (change, reason) in [
        (
            Box::new(|c: &mut Container| (c.state, c.exit_code) = (State::Exited, 3)) as Box<dyn Fn(&mut Container)>,
            "ContainerExited",
        ),
        (Box::new(|c: &mut Container| (c.state, c.oom_killed) = (State::Exited, true)), "OOMKilled"),
        (Box::new(|c: &mut Container| (c.state, c.restarts) = (State::Restarting, 3)), "CrashLooping"),
    ] {
        for (stage, phase) in [(Stage::Proving, Phase::InternalHealth), (Stage::Verifying, Phase::ExternalHealth)] {
            let mut containers = both();
            change(&mut containers[1]);
            let failure = failed(&plan(&at(stage, containers), later(11)));
            assert_eq!((failure.phase, failure.reason.as_str()), (phase, reason));
        }
    }
    // Until its start period is over it may crash.
    let mut containers = both();
    (containers[1].state, containers[1].restarts) = (State::Restarting, 3);
    assert!(matches!(plan(&at(Stage::Proving, containers), later(9)), Step::Wait(..)));
}

#[test]
fn going_back_is_the_route_first_then_the_lines_then_the_containers_by_id() {
    let mut seen = at(Stage::Verifying, both());
    let ill = Answer { at: later(20), verdict: Err("certificate expired".into()) };
    seen.external.insert(NAME.into(), ill);
    let step = plan(&seen, later(20));
    assert_eq!(failed(&step).message, format!("https://{NAME}/healthz: certificate expired"));
    let Step::Record(journal) = step else { unreachable!() };
    seen.journal = *journal;
    assert_eq!(plan(&seen, later(20)), Step::Do(Action::Route([(NAME.to_owned(), leads_to("r1"))].into())));
    seen.host.routes = [(NAME.to_owned(), leads_to("r1"))].into();
    assert_eq!(plan(&seen, later(20)), Step::Do(Action::Logs(vec!["new".into()])));
    let lines = super::conclude::Outcome::Lines(vec!["it fell".into()]);
    seen.journal = super::conclude::conclude(&seen, &Action::Logs(vec!["new".into()]), &lines, later(20));
    assert_eq!(plan(&seen, later(20)), Step::Do(Action::Stop { ids: vec!["new".into()], grace: 10 }));
    seen.host.containers[1].state = State::Exited;
    assert_eq!(plan(&seen, later(20)), Step::Do(Action::Remove(vec!["new".into()])));
    seen.host.containers.pop();
    let Step::Record(journal) = plan(&seen, later(20)) else { panic!() };
    let failure = journal.failed.clone().unwrap();
    assert_eq!((failure.fallback, failure.logs), (Fallback::Previous, Some(vec!["it fell".into()])));
    seen.journal = *journal;
    assert!(matches!(plan(&seen, later(20)), Step::Stop(_)));
    // Another cause is another try.
    seen.wanted.as_mut().unwrap().cause = "2".into();
    assert!(matches!(plan(&seen, later(20)), Step::Record(_)));
}

#[test]
fn without_anything_before_the_names_go_back_to_the_placeholder() {
    let mut world = World::new();
    world.want("r1", Behaviour::ExternalFails);
    let Step::Stop(failure) = world.run() else { panic!("{:#?}", world.trace) };
    assert_eq!((failure.phase, failure.fallback), (Phase::ExternalHealth, Fallback::Placeholder));
    assert_eq!(world.routes.get(NAME), Some(&Route::Placeholder));
}

#[test]
fn what_was_replaced_drains_before_it_is_stopped_and_goes_by_its_id() {
    let mut seen = at(Stage::Verifying, both());
    seen.external.insert(NAME.into(), Answer { at: later(1), verdict: Ok(()) });
    let Step::Record(journal) = plan(&seen, later(1)) else { panic!() };
    assert_eq!((journal.live.as_ref().unwrap().revision.as_str(), &journal.coming), ("r2", &None));
    seen.journal = *journal;
    assert_eq!(plan(&seen, later(30)), Step::Wait(Await::Drain, later(31)));
    assert_eq!(plan(&seen, later(31)), Step::Do(Action::Stop { ids: vec!["old".into()], grace: 10 }));
    seen.host.containers[0].state = State::Exited;
    assert_eq!(plan(&seen, later(31)), Step::Do(Action::Remove(vec!["old".into()])));
}

#[test]
fn nothing_is_done_while_a_back_off_runs() {
    let mut seen = at(Stage::Preparing, vec![container("old", Some("r1"), State::Running)]);
    seen.journal = seen.journal.with_coming(|coming| coming.pulled = false);
    let pull = Action::Pull("r2".into());
    assert_eq!(plan(&seen, now()), Step::Do(pull.clone()));
    let lost = super::conclude::Outcome::Unknown("cut".into());
    seen.journal = super::conclude::conclude(&seen, &pull, &lost, now());
    assert!(matches!(plan(&seen, later(1)), Step::Hold(back_off) if back_off.attempts == 1));
    assert_eq!(plan(&seen, later(3)), Step::Do(pull.clone()));
    // Success forgets it.
    seen.journal = super::conclude::conclude(&seen, &pull, &super::conclude::Outcome::Done, later(3));
    assert_eq!(seen.journal.back_off, None);
}

#[test]
fn containers_of_another_app_in_the_project_are_not_touched() {
    let mut containers = both();
    containers[0].app = None;
    assert_eq!(plan(&at(Stage::Starting, containers), now()), Step::Foreign(vec!["old".into()]));
}

#[test]
fn the_network_edge_is_the_hosts_and_is_waited_for() {
    let mut seen = at(Stage::Preparing, vec![container("old", Some("r1"), State::Running)]);
    seen.wanted.as_mut().unwrap().ingress = Ingress::Edge;
    assert!(matches!(plan(&seen, now()), Step::Wait(Await::Network(name), _) if name == "edge"));
}

#[test]
fn a_service_that_was_the_entry_serves_until_the_swap_and_is_then_made_anew() {
    let mut world = World::with_live(false, false);
    world.want("r2", Behaviour::Well);
    // The worker of r1 becomes the entry of r2, and its web a service beside it.
    let wanted = world.wanted.as_mut().unwrap();
    wanted.service = "worker".into();
    wanted.updates.clear();
    wanted.pre_deploy = None;
    let wanted = world.wanted.clone().unwrap();
    let mut seen = world.look();
    seen.journal = seen.journal.begin(&wanted, world.now).with_coming(|coming| coming.pulled = true);
    // Of what goes before the swap, the old entry is nothing.
    let Step::Do(Action::Service { service, .. }) = plan(&seen, world.now) else { panic!() };
    assert_eq!(service, "db");
    seen.journal = seen.journal.reached(Stage::Starting, world.now);
    let up = Action::Up { revision: "r2".into(), service: "worker".into(), scale: 2, start: true };
    assert_eq!(plan(&seen, world.now), Step::Do(up));
}

#[test]
fn images_beyond_the_history_go_and_those_in_use_stay() {
    let mut world = World::new();
    for revision in ["r1", "r2", "r3", "r4"] {
        world.want(revision, Behaviour::Well);
        assert_eq!(world.run(), Step::Done, "{:#?}", world.trace);
    }
    let kept: Vec<&str> = world.journal.kept.iter().map(|kept| kept.revision.as_str()).collect();
    assert_eq!(kept, ["r4", "r3"]);
    let images: BTreeSet<String> = ["sha256:db", "sha256:r3", "sha256:r4"].map(str::to_owned).into();
    assert_eq!(world.images, images);
}

#[test]
fn a_live_container_that_somebody_stopped_is_started_once_in_a_while() {
    let mut world = World::with_live(false, false);
    for container in &mut world.containers {
        container.state = State::Exited;
    }
    let mut seen = world.look();
    let Step::Do(Action::Start(ids)) = plan(&seen, world.now) else { panic!() };
    assert_eq!(ids, world.of("r1").iter().map(|c| c.id.clone()).collect::<Vec<_>>());
    seen.journal = super::conclude::conclude(&seen, &Action::Start(ids), &super::conclude::Outcome::Done, world.now);
    assert_eq!(plan(&seen, world.now), Step::Done);
}

#[test]
fn a_name_that_is_not_wanted_any_more_leaves_the_table() {
    let mut world = World::with_live(false, false);
    world.wanted.as_mut().unwrap().domains.remove("www.example.com");
    assert_eq!(world.run(), Step::Done);
    assert_eq!(world.routes.keys().collect::<Vec<_>>(), [NAME]);
    assert_eq!(world.journal.names, [NAME.to_owned()].into());
}

#[test]
fn a_failed_pre_deploy_is_not_run_again_and_one_that_did_not_begin_is() {
    let mut world = World::with_live(false, false);
    world.want("r2", Behaviour::PreDeployFails);
    let Step::Stop(failure) = world.run() else { panic!() };
    assert_eq!((failure.phase, failure.logs), (Phase::PreDeploy, Some(vec!["it fell".into()])));
    world.behaviours.insert("r2".into(), Behaviour::Well);
    world.wanted.as_mut().unwrap().cause = "2".into();
    let Step::Stop(again) = world.run() else { panic!() };
    assert!(again.message.contains("only once"), "{}", again.message);
    // Refused before it began.
    let mut seen = at(Stage::Preparing, vec![container("old", Some("r1"), State::Running)]);
    seen.wanted.as_mut().unwrap().pre_deploy = wanted("r2").pre_deploy;
    seen.journal = seen.journal.with_ran("r2", now(), None);
    let Step::Do(run) = plan(&seen, now()) else { panic!() };
    let refused =
        super::conclude::Outcome::Failed(super::failure::Fault::terminal("PreDeployFailed", "no such service"));
    assert!(super::conclude::conclude(&seen, &run, &refused, now()).ran("r2").is_none());
}
