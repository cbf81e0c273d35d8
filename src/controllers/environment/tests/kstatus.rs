//! What Flux and `kubectl wait` rely on holds in every state, reachable or not.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::super::observe::View;
use super::*;
use crate::api::environment::OnExpiry;
use crate::api::kstatus::{Verdict, follows, obeys_the_rules, verdict_on};

#[derive(Debug, Clone)]
struct Case {
    world: Seed,
    outcome: Outcome,
}

/// What a world is made of; kept small so that failures shrink to something readable.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that may be so or not")]
struct Seed {
    generation: i64,
    observed: Option<i64>,
    given: bool,
    lifetime: Option<String>,
    on_expiry: OnExpiry,
    paused: bool,
    deleting: bool,
    taken: bool,
    now: i64,
    ready_before: Option<bool>,
    node: Option<NodeSeed>,
    rolled_back: bool,
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that may be so or not")]
struct NodeSeed {
    owned: bool,
    deleting: bool,
    vm: bool,
    stale: bool,
    ready: Option<bool>,
    stalled: bool,
    reconciling: bool,
    published: bool,
    reason: &'static str,
}

fn nodes() -> impl Strategy<Value = NodeSeed> {
    let reasons = prop::sample::select(vec!["ForeignRecord", "HostnameTaken", "AdoptionRequired", "WaitingForAddress"]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, prop::option::of(any::<bool>()), prop::bool::weighted(0.9), reasons).prop_map(
        |((deleting, vm, stale, stalled, reconciling, published), ready, owned, reason)| NodeSeed {
            owned,
            deleting,
            vm,
            stale,
            ready,
            stalled,
            reconciling,
            published,
            reason,
        },
    )
}

fn seeds() -> impl Strategy<Value = Seed> {
    let lifetime = prop::option::of(prop::sample::select(vec!["1h", "2h", "999999999999999999999h"]));
    let flags = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.3), any::<bool>(), any::<bool>());
    let observed = prop::option::of(prop::sample::select(vec![-1, 1, 2, 3]));
    let times = prop::sample::select(vec![1_i64, 3300, 3600, 7000, 9999]);
    let numbers = (1_i64..4, observed, times, prop::option::of(any::<bool>()), any::<bool>());
    (flags, numbers, lifetime, prop::option::of(nodes())).prop_map(
        |(
            (given, paused, deleting, taken, delete),
            (generation, observed, now, ready_before, rolled_back),
            lifetime,
            node,
        )| {
            Seed {
                generation,
                observed,
                given,
                lifetime: lifetime.map(str::to_owned),
                on_expiry: if delete { OnExpiry::Delete } else { OnExpiry::Keep },
                paused,
                deleting,
                taken,
                now,
                ready_before,
                node,
                rolled_back,
            }
        },
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let outcomes = prop::sample::select(vec![
        None,
        Some(Outcome::Failed { reason: "KubernetesAPI", message: "no".into() }),
        Some(Outcome::Stopped { reason: "NodeRefused", message: "no".into() }),
        Some(Outcome::Waiting(crate::runtime::driver::Wait {
            reason: "RateLimited",
            message: "later".into(),
            after: RESYNC,
            keep_ready: true,
        })),
    ]);
    (seeds(), outcomes).prop_map(|(world, outcome)| Case { world, outcome: outcome.unwrap_or(Outcome::Done) })
}

fn build(seed: &Seed) -> World {
    let mut environment = environment();
    environment.metadata.generation = Some(seed.generation);
    environment.spec.lifetime.clone_from(&seed.lifetime);
    environment.spec.on_expiry = seed.on_expiry;
    if !seed.given {
        environment.spec.slug = None;
    }
    if seed.paused {
        annotate(&mut environment, "paused", "true");
    }
    let mut world = World::new(environment);
    world.now = at(seed.now);
    if let Some(seed) = &seed.node {
        let mut made = World::new(super::environment());
        made.pass();
        let mut node = made.node.unwrap();
        if !seed.owned {
            node.metadata.owner_references = None;
        }
        if seed.deleting {
            node.metadata.deletion_timestamp = Some(time(2));
        }
        if seed.vm {
            with_vm(&mut node);
        }
        let mut said = vec![("Provisioned", seed.vm, seed.reason), ("Published", seed.published, seed.reason)];
        said.extend(seed.ready.map(|ready| ("Ready", ready, seed.reason)));
        said.extend(seed.stalled.then_some(("Stalled", true, seed.reason)));
        said.extend(seed.reconciling.then_some(("Reconciling", true, seed.reason)));
        say(&mut node, &said);
        if seed.stale {
            *node.metadata.generation.as_mut().unwrap() += 1;
        }
        world.node = Some(node);
    }
    if seed.taken {
        world.taken.push(view(&world).slug());
    }
    let mut status = EnvironmentStatus { observed_generation: seed.observed, ..EnvironmentStatus::default() };
    status.phase = seed.ready_before.map(|ready| if ready { "Active" } else { "Error" }.to_owned());
    if let Some(ready) = seed.ready_before {
        let observed = seed.observed.filter(|g| *g > 0);
        let desired = Desired { type_: "Ready", status: Some(ready), reason: "Before", message: "before".into() };
        condition::set(&mut status.conditions, desired, observed, at(0));
        if !ready {
            condition::set(&mut status.conditions, Desired::yes("Stalled", "Before", "before"), observed, at(0));
        }
    }
    if seed.rolled_back {
        let rollback = super::super::memory::Rollback {
            node: "node-1".into(),
            reason: "ForeignRecord".into(),
            message: "m".into(),
            generation: 1,
            attempts: 1,
            not_before: time(5000),
        };
        Memory { rollback: Some(rollback), ..Memory::default() }.store(&mut status);
    }
    world.environment().status = Some(status);
    if seed.deleting {
        world.environment().metadata.deletion_timestamp = Some(time(0));
    }
    world
}

fn view(world: &World) -> View {
    View::new(&world.observed(), &Facts::default(), world.now)
}

/// The rules, for the `status` that a pass which started from `before` ended in.
fn check(before: &EnvironmentStatus, view: &View, kept: bool, status: &EnvironmentStatus) -> TestCaseResult {
    let shown =
        |status: &EnvironmentStatus| Environment { status: Some(status.clone()), ..(*view.environment).clone() };
    let (before, after) = (&shown(before), &shown(status));
    obeys_the_rules(after)?;
    if kept {
        let ready = |of: &Environment| condition::get(&of.status.as_ref().unwrap().conditions, "Ready").cloned();
        let before_status = before.status.as_ref().unwrap();
        prop_assert_eq!(status.observed_generation, before_status.observed_generation, "unseen stays unseen");
        prop_assert_eq!(&status.phase, &before_status.phase);
        prop_assert!(ready(before).is_none() || ready(before) == ready(after));
        let was = verdict_on(before) == Verdict::Current;
        prop_assert!(was || verdict_on(after) != Verdict::Current, "what was not looked at becomes nothing");
        return Ok(());
    }
    let phase = status.phase.as_deref().unwrap_or_default();
    let ready = condition::is_true(&status.conditions, "Ready");
    prop_assert_eq!(ready, ["Active", "Expired"].contains(&phase), "{}", phase);
    // In place: its child is ready for its own spec, or it has expired and has none.
    let child = view.own().and_then(|node| Some((node, node.status.as_ref()?))).is_some_and(|(node, status)| {
        status.observed_generation == node.metadata.generation && condition::is_true(&status.conditions, "Ready")
    });
    let is_in_place = !view.deleting() && if view.ended() { view.own().is_none() } else { child };
    prop_assert!(!ready || is_in_place, "{:?}", status);
    follows(before, after, false, is_in_place)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_report_obeys_the_rules(case in cases()) {
        let world = build(&case.world);
        let view = view(&world);
        let status = report::report(&world.observed(), &Facts::default(), &case.outcome, world.now);
        let kept = view.paused() || matches!(case.outcome, Outcome::Waiting(_));
        check(&world.status(), &view, kept, &status)?;
    }

    #[test]
    fn every_state_comes_to_rest_in_one_pass_and_writes_nothing_in_the_next(seed in seeds()) {
        let mut world = build(&seed);
        let before = world.status();
        world.pass();
        if world.gone {
            return Ok(());
        }
        check(&before, &view(&world), seed.paused, &world.status())?;
        world.writes.clear();
        world.pass();
        prop_assert!(world.writes.is_empty(), "{:?}", world.writes);
    }

    #[test]
    fn a_foreign_node_is_never_written(seed in seeds()) {
        let mut world = build(&seed);
        if let Some(node) = &mut world.node {
            node.metadata.owner_references = None;
        }
        let before = world.node.clone();
        if before.is_some() {
            world.pass();
            prop_assert_eq!(world.node, before);
        }
    }

    #[test]
    fn a_vm_goes_only_for_one_of_the_four_reasons(seed in seeds()) {
        let mut world = build(&seed);
        let going = |world: &World| world.node.as_ref().is_some_and(|n| n.metadata.deletion_timestamp.is_some());
        let before = going(&world);
        let view = view(&world);
        let had_vm = view.own().is_some_and(|node| super::super::observe::has_vm(node));
        world.pass();
        if !before && had_vm && going(&world) {
            let node = view.own().unwrap();
            let said = |type_: &str| condition::is_true(&node.status.as_ref().unwrap().conditions, type_);
            let unpublishable = said("Stalled") && !said("Published");
            let another_slug = node.spec.hostname.as_deref() != Some(&view.slug());
            let condemned = seed.rolled_back;
            prop_assert!(view.deleting() || view.ended() || unpublishable || another_slug || condemned);
            prop_assert!(!seed.paused);
        }
    }
}
