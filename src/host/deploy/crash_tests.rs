//! Whatever a crash leaves: the new revision whole, or the old one serving, and nothing else.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::failure::Fallback;
use super::model::{BEHAVIOURS, Behaviour, CRASHES, Crash, NAME, World};
use super::plan::{Await, Step};
use super::seeded::{self, Seeded};
use crate::host::table::Route;

/// What kind of app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    BlueGreen,
    Recreate,
    /// Recreate, and with a name that only one container can have.
    Named,
}

const KINDS: [Kind; 3] = [Kind::BlueGreen, Kind::Recreate, Kind::Named];

fn world(kind: Kind, live: bool) -> World {
    let (exclusive, named) = (kind != Kind::BlueGreen, kind == Kind::Named);
    if live {
        return World::with_live(exclusive, named);
    }
    let mut world = World::new();
    (world.exclusive, world.named) = (exclusive, named);
    world
}

/// How a run ended, and whether everything is as it must be then. `arrives` is what the last wanted revision does,
/// `before` the revision that was live when it was wanted.
fn judge(world: &mut World, arrives: bool, before: Option<&str>) -> Result<(), String> {
    let Some(end) = world.steps(600) else { return Err("it does not come to an end".into()) };
    let new = world.wanted.as_ref().map(|wanted| wanted.revision.clone());
    let live = world.journal.live.as_ref().map(|live| live.revision.clone());
    let serving = match (&end, &new) {
        (Step::Done, Some(_)) if arrives => new.as_deref(),
        (Step::Stop(failure), Some(_)) if failure.fallback == Fallback::New => new.as_deref(),
        (Step::Stop(failure), Some(_)) if !arrives && Some(&failure.revision) == new.as_ref() => before,
        (Step::Gone, None) => None,
        _ => return Err(format!("it ends in {end:?}")),
    };
    if live.as_deref() != serving && new.is_some() {
        return Err(format!("{live:?} is live, and {serving:?} should be"));
    }
    if let Some(serving) = serving {
        let mine = world.of(serving);
        if world.routed().as_deref() != Some(serving) || mine.len() != 1 || !mine[0].is_up() {
            return Err(format!("{serving} should serve: {:?}, {mine:?}", world.routes));
        }
    } else if new.is_some() && world.routes.get(NAME) != Some(&Route::Placeholder) {
        return Err(format!("there should be the placeholder: {:?}", world.routes));
    }
    let strange = |c: &&super::seen::Container| c.one_off || (c.revision.is_some() && c.revision.as_deref() != serving);
    if let Some(left) = world.containers.iter().find(strange) {
        return Err(format!("left behind: {left:?}"));
    }
    if new.is_none() && !(world.containers.is_empty() && world.networks.is_empty() && world.routes.is_empty()) {
        return Err(format!("left behind: {:?} {:?} {:?}", world.containers, world.networks, world.routes));
    }
    // Another run, which remembers nothing, has nothing to do.
    let writes = world.writes;
    let again = world.clone().steps(600);
    let mut fresh = world.clone();
    fresh.crashes.clear();
    if again.as_ref() != Some(&end) || fresh.steps(5).as_ref() != Some(&end) || fresh.writes != writes {
        return Err(format!("another run does something: {again:?}"));
    }
    match world.broken.first() {
        Some(broken) => Err(broken.clone()),
        None => Ok(()),
    }
}

fn told(world: &World, what: &str, why: &str) -> String {
    format!("{what}: {why}\n{}", world.trace.join("\n"))
}

/// Every behaviour of a second revision, of every kind of app, with and without one before it.
fn cases() -> impl Iterator<Item = (Kind, bool, Behaviour)> {
    let all = KINDS.into_iter().flat_map(|kind| [(kind, true), (kind, false)]);
    all.flat_map(|(kind, live)| BEHAVIOURS.into_iter().map(move |behaviour| (kind, live, behaviour)))
}

/// Wants a second revision of this world's app, which does this, with crashes at these writes. How many writes it took.
fn attempt(base: &World, behaviour: Behaviour, crashes: &[(usize, Crash)]) -> Result<usize, String> {
    let before = base.journal.live.as_ref().map(|live| live.revision.as_str());
    let run = |loud| {
        let mut world = base.clone();
        world.loud = loud;
        world.want("r2", behaviour);
        world.crashes = crashes.iter().copied().collect();
        let judged = judge(&mut world, behaviour.arrives(), before);
        (world, judged)
    };
    match run(false) {
        (world, Ok(())) => Ok(world.writes),
        (_, Err(why)) => Err(told(&run(true).0, &format!("{before:?}, {behaviour:?}, {crashes:?}"), &why)),
    }
}

/// Runs each case once for each crash at each of its writes, and counts the runs.
fn sweep(cases: impl Iterator<Item = (Kind, bool, Behaviour)>) -> Result<usize, String> {
    let mut runs = 0;
    for (kind, live, behaviour) in cases {
        let base = world(kind, live);
        let writes = attempt(&base, behaviour, &[])?;
        for at in 0..writes {
            for crash in CRASHES {
                attempt(&base, behaviour, &[(at, crash)])?;
                runs += 1;
            }
        }
    }
    Ok(runs)
}

#[test]
fn every_deploy_ends_in_the_new_revision_whole_or_the_old_one_serving() {
    for (kind, live, behaviour) in cases() {
        attempt(&world(kind, live), behaviour, &[]).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn a_crash_at_any_write_changes_nothing_of_how_a_deploy_ends() {
    // A first deploy has no old revision for which the strategy could matter.
    let cases = cases().filter(|(kind, live, _)| *live || *kind == Kind::BlueGreen);
    let runs = sweep(cases).unwrap_or_else(|why| panic!("{why}"));
    assert!(runs > 3000, "only {runs} runs");
}

#[test]
fn two_crashes_at_any_two_writes_change_nothing_either() {
    for (kind, behaviour) in [(Kind::BlueGreen, Behaviour::Well), (Kind::Named, Behaviour::ExternalFails)] {
        let base = world(kind, true);
        let writes = attempt(&base, behaviour, &[]).unwrap();
        for first in 0..writes {
            for second in first + 1..writes + 4 {
                let crashes = [(first, Crash::Lost), (second, Crash::Committed)];
                attempt(&base, behaviour, &crashes).unwrap_or_else(|why| panic!("{why}"));
            }
        }
    }
}

#[test]
fn the_properties_notice_a_plan_with_a_bug() {
    for (bug, kind) in [
        (Seeded::RemoveFirst, Kind::BlueGreen),
        (Seeded::SwapUnproved, Kind::BlueGreen),
        (Seeded::RouteLast, Kind::BlueGreen),
        (Seeded::StartStopped, Kind::Recreate),
    ] {
        let noticed = seeded::with(bug, || sweep(cases().filter(|(of, live, _)| *of == kind && *live)));
        assert!(noticed.is_err(), "{bug:?} went unnoticed");
    }
    assert!(!seeded::is(Seeded::RemoveFirst));
}

/// Something a person does while a deploy runs.
#[derive(Debug, Clone)]
enum Deed {
    Want(Behaviour),
    Back,
    Maintain(bool),
    Suspend(bool),
    Retry,
    Remove,
    LoseContainers,
}

fn deeds() -> impl Strategy<Value = Vec<(Deed, usize)>> {
    // A table that is refused once a page is taken down is refused for ever: the sweep has that.
    let behaviours: Vec<_> = BEHAVIOURS.into_iter().filter(|behaviour| *behaviour != Behaviour::SwapRefused).collect();
    let deed = prop_oneof![
        6 => proptest::sample::select(behaviours).prop_map(Deed::Want),
        1 => Just(Deed::Back),
        1 => any::<bool>().prop_map(Deed::Maintain),
        1 => any::<bool>().prop_map(Deed::Suspend),
        1 => Just(Deed::Retry),
        1 => Just(Deed::Remove),
        1 => Just(Deed::LoseContainers),
    ];
    proptest::collection::vec((deed, 0_usize..60), 1..6)
}

/// Does these deeds, each after so many steps, with crashes; then wants a revision that is well, or nothing.
fn live_through(base: &World, deeds: &[(Deed, usize)], crashes: &[(usize, Crash)], remove: bool) -> Result<(), String> {
    let mut world = base.clone();
    world.loud = true;
    world.crashes = crashes.iter().copied().collect();
    let mut lost = false;
    for (number, (deed, steps)) in deeds.iter().enumerate() {
        world.trace.push(format!("{deed:?}"));
        let maintenance = world.wanted.as_ref().is_some_and(|wanted| wanted.maintenance);
        match deed {
            Deed::Want(behaviour) => world.want(&format!("r{}", number + 2), *behaviour),
            Deed::Back => world.want("r1", Behaviour::Well),
            Deed::Remove => world.wanted = None,
            Deed::LoseContainers => {
                world.containers.clear();
                lost = true;
            }
            _ => {}
        }
        if let Some(wanted) = &mut world.wanted {
            wanted.maintenance = maintenance;
            match deed {
                Deed::Maintain(on) => wanted.maintenance = *on,
                Deed::Suspend(on) => wanted.suspend = *on,
                Deed::Retry => wanted.cause = format!("again-{number}"),
                _ => {}
            }
        }
        if lost {
            // What somebody removed by hand is not ours to answer for; that it comes back is.
            world.broken.clear();
        }
        world.steps(*steps);
        if lost {
            world.broken.clear();
        }
    }
    if remove {
        world.wanted = None;
    } else {
        world.want("last", Behaviour::Well);
    }
    let judged =
        judge(&mut world, true, None).or_else(|why| if lost && !world.broken.is_empty() { Ok(()) } else { Err(why) });
    judged.map_err(|why| told(&world, "", &why))
}

#[test]
fn whatever_people_do_meanwhile_the_last_thing_wanted_is_what_there_is_in_the_end() {
    let crash = (0_usize..120, proptest::sample::select(CRASHES.to_vec()));
    let crashes = proptest::collection::vec(crash, 0..5);
    let base = proptest::sample::select(KINDS.map(|kind| world(kind, true)).to_vec());
    // The same lives in every run: a new one that fails belongs to whoever looks for it.
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let ran = runner.run(&(base, deeds(), crashes, any::<bool>()), |(base, deeds, crashes, remove)| {
        live_through(&base, &deeds, &crashes, remove).map_err(TestCaseError::fail)
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_app_is_taken_away_whole_wherever_a_crash_falls() {
    for kind in KINDS {
        let mut writes = 1;
        let mut at = 0;
        while at < writes {
            for crash in CRASHES {
                let mut world = world(kind, true);
                world.wanted = None;
                world.crashes = [(at, crash)].into();
                judge(&mut world, true, None).unwrap_or_else(|why| panic!("{}", told(&world, "", &why)));
                assert!(!world.directory);
                writes = writes.max(world.writes);
            }
            at += 1;
        }
        assert!(writes > 8);
    }
}

#[test]
fn a_journal_that_was_lost_costs_no_revision_that_serves() {
    for kind in KINDS {
        for steps in 0..60 {
            let mut world = world(kind, true);
            world.want("r2", Behaviour::Well);
            world.steps(steps);
            world.journal = super::journal::Journal::default();
            // What ran before `preDeploy` was forgotten may run again: nobody knows of it.
            world.behaviours.insert("r2".into(), Behaviour::Well);
            let wanted = world.wanted.as_mut().unwrap();
            wanted.pre_deploy = None;
            judge(&mut world, true, None).unwrap_or_else(|why| panic!("{steps}: {}", told(&world, "", &why)));
        }
    }
}

#[test]
fn a_suspended_app_ends_what_it_has_begun_and_begins_nothing() {
    let mut world = world(Kind::BlueGreen, true);
    world.want("r2", Behaviour::Well);
    world.steps(12);
    assert!(world.journal.coming.is_some());
    world.wanted.as_mut().unwrap().suspend = true;
    assert!(matches!(world.run(), Step::Wait(Await::Resumed, _)));
    assert_eq!(world.routed().as_deref(), Some("r2"));
    assert!(world.of("r1").is_empty());
    world.want("r3", Behaviour::Well);
    world.wanted.as_mut().unwrap().suspend = true;
    let writes = world.writes;
    assert!(matches!(world.run(), Step::Wait(Await::Resumed, _)));
    assert_eq!((world.writes, world.routed().as_deref()), (writes, Some("r2")));
}

#[test]
fn behind_the_maintenance_page_a_revision_is_replaced_all_the_same() {
    let mut world = world(Kind::BlueGreen, true);
    world.want("r2", Behaviour::ExternalFails);
    world.wanted.as_mut().unwrap().maintenance = true;
    assert_eq!(world.run(), Step::Done);
    assert_eq!(world.routes.get(NAME), Some(&Route::Maintenance));
    world.wanted.as_mut().unwrap().maintenance = false;
    assert_eq!(world.run(), Step::Done);
    assert_eq!(world.routed().as_deref(), Some("r2"));
}
