//! The state by itself, with time moved by hand: who is due when, and what results lead to.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::state::{Launch, State};
use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

pub(super) fn target(key: &str) -> Target {
    Target {
        key: key.into(),
        check: Check::Tcp { address: "203.0.113.7".to_owned(), port: 443 },
        interval: INTERVAL,
        timeout: Duration::from_secs(2),
        fall: 3,
        rise: 2,
    }
}

pub(super) fn down() -> Outcome {
    Outcome::Failure(Failure { reason: reason::CONNECTION_REFUSED, message: "nobody listens".to_owned() })
}

pub(super) fn verdict(health: Health) -> Verdict {
    Verdict { health, reason: "Restored", message: String::new(), since: Timestamp::UNIX_EPOCH }
}

fn targets(owner: &str, count: usize) -> Vec<Target> {
    (0..count).map(|n| target(&format!("{owner}/{n}"))).collect()
}

/// A state, the time, and what happened.
struct World {
    state: State,
    start: Instant,
    now: Instant,
    probes: BTreeMap<String, Vec<Duration>>,
    turns: Vec<(Duration, String, Health)>,
    self_checks: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        let state = State::new(start, fastrand::Rng::with_seed(seed));
        Self { state, start, now: start, probes: BTreeMap::new(), turns: Vec::new(), self_checks: 0 }
    }

    fn declare(&mut self, owner: &str, targets: Vec<Target>) {
        self.state.declare(owner, targets, self.now);
    }

    fn note(&mut self, turned: impl IntoIterator<Item = Transition>) {
        let at = self.now - self.start;
        self.turns.extend(turned.into_iter().map(|turn| (at, turn.key.to_string(), turn.verdict.health)));
    }

    /// Lets time pass. Every probe ends at once with what `outcome` says of key and time, every self-check with what
    /// `network` says of the time.
    fn run(&mut self, for_: Duration, outcome: impl Fn(&str, Duration) -> Outcome, network: impl Fn(Duration) -> bool) {
        let end = self.now + for_;
        while let Some(due) = self.state.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let at = self.now - self.start;
            let launch = self.state.take_due(self.now).unwrap();
            let key = launch.target.key.to_string();
            let turned = self.state.finish(&launch, outcome(&key, at), self.now, Timestamp::UNIX_EPOCH);
            self.probes.entry(key).or_default().push(at);
            self.note(turned);
            if self.state.wants_self_check() {
                self.self_checks += 1;
                self.state.begin_self_check();
                let turned = self.state.end_self_check(network(at), Timestamp::UNIX_EPOCH);
                self.note(turned);
            }
        }
        self.now = end;
    }

    fn health(&self, key: &str) -> Option<Health> {
        self.state.verdict(key).map(|verdict| verdict.health)
    }

    fn launch(&mut self) -> Launch {
        self.state.take_due(self.now).unwrap()
    }

    fn finish(&mut self, launch: &Launch, outcome: Outcome) -> Option<Health> {
        let turned = self.state.finish(launch, outcome, self.now, Timestamp::UNIX_EPOCH);
        turned.map(|turn| turn.verdict.health)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_new_target_is_probed_at_once_and_then_every_interval_give_or_take_a_tenth() {
    let mut world = World::new(1);
    world.run(seconds(3), |_, _| Outcome::Success, |_| true);
    world.declare("node/shop/web", vec![target("node/shop/web")]);
    world.run(seconds(1000), |_, _| Outcome::Success, |_| true);
    let probes = &world.probes["node/shop/web"];
    assert_eq!(probes[0], seconds(3));
    let gaps: Vec<_> = probes.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    assert!(gaps.iter().all(|gap| (seconds(9)..=seconds(11)).contains(gap)), "{gaps:?}");
    let (shortest, longest) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*shortest < Duration::from_millis(9_300) && *longest > Duration::from_millis(10_700), "{gaps:?}");
}

#[test]
fn a_start_with_thousands_is_spread_over_the_interval_and_stays_so() {
    let mut world = World::new(2);
    for owner in 0..1_000 {
        let owner = format!("group/shop/{owner}");
        world.declare(&owner, targets(&owner, 10));
    }
    world.run(seconds(120), |_, _| Outcome::Success, |_| true);
    assert_eq!(world.probes.len(), 10_000);
    assert!(world.probes.values().all(|probes| probes[0] <= INTERVAL));
    let mut by_second = vec![0; 120];
    for at in world.probes.values().flatten() {
        by_second[usize::try_from(at.as_secs()).unwrap().min(119)] += 1;
    }
    assert!(by_second.iter().all(|count| (700..1_300).contains(count)), "{by_second:?}");
}

#[test]
fn known_verdicts_wait_for_their_turn_and_do_not_use_up_the_places_of_new_targets() {
    let mut world = World::new(3);
    for n in 0..500 {
        world.state.restore(&format!("group/shop/web/{n}"), verdict(Health::Healthy));
    }
    world.declare("group/shop/web", targets("group/shop/web", 500));
    world.declare("group/shop/new", targets("group/shop/new", 1));
    let at_once = std::iter::from_fn(|| world.state.take_due(world.now)).map(|launch| launch.target.key.to_string());
    assert_eq!(at_once.collect::<Vec<_>>(), ["group/shop/new/0"]);
}

#[test]
fn a_declaration_keeps_what_is_unchanged_ends_what_is_missing_and_begins_what_is_new() {
    let mut world = World::new(4);
    let owner = "group/shop/web";
    world.declare(owner, targets(owner, 4));
    world.declare("group/shop/other", targets("group/shop/other", 1));
    world.run(seconds(100), |_, _| Outcome::Success, |_| true);
    let before = world.probes.clone();

    let mut elsewhere = target("group/shop/web/1");
    elsewhere.check = Check::Tcp { address: "203.0.113.8".to_owned(), port: 443 };
    let mut stricter = target("group/shop/web/2");
    stricter.fall = 1;
    world.declare(owner, vec![target("group/shop/web/0"), elsewhere, stricter, target("group/shop/web/9")]);
    let known = ["0", "1", "2", "3", "9"].map(|n| world.health(&format!("{owner}/{n}")));
    let healthy = Some(Health::Healthy);
    assert_eq!(known, [healthy, None, healthy, None, None]);
    assert_eq!(world.health("group/shop/other/0"), healthy);
    assert_eq!(world.state.len(), 5);

    world.run(seconds(100), |_, _| Outcome::Success, |_| true);
    let next = |n: usize| world.probes[&format!("{owner}/{n}")][before[&format!("{owner}/{n}")].len()];
    let last = |n: usize| *before[&format!("{owner}/{n}")].last().unwrap();
    assert!((seconds(9)..=seconds(11)).contains(&next(0).saturating_sub(last(0))), "an unchanged schedule");
    assert_eq!(next(1), seconds(100), "another place is looked at at once");
    assert_eq!(world.probes["group/shop/web/3"].len(), before["group/shop/web/3"].len(), "ended");

    world.declare(owner, Vec::new());
    world.declare("group/shop/other", Vec::new());
    assert_eq!((world.state.len(), world.state.next_due()), (0, None));
}

#[test]
fn a_changed_pace_keeps_the_verdict_and_counts_anew() {
    let mut world = World::new(5);
    world.declare("a", vec![target("a"), target("a/b"), target("a/c"), target("a/d")]);
    world.run(seconds(50), |_, _| Outcome::Success, |_| true);
    let falling = |key: &str, _| if key == "a" { down() } else { Outcome::Success };
    world.run(seconds(18), falling, |_| true);
    let mut faster = target("a");
    faster.interval = seconds(1);
    world.declare("a", vec![faster, target("a/b"), target("a/c"), target("a/d")]);
    assert_eq!(world.health("a"), Some(Health::Healthy));
    let before = world.probes["a"].len();
    world.run(seconds(30), falling, |_| true);
    let turned = world.turns.last().unwrap();
    assert_eq!((turned.1.as_str(), turned.2), ("a", Health::Unhealthy));
    assert_eq!(turned.0, world.probes["a"][before + 2], "three failures of the new row");
    assert!(world.probes["a"][before] <= seconds(69 + 1), "the first no later than the new interval");
}

#[test]
fn a_restored_verdict_is_known_at_once_and_must_be_earned_away() {
    let mut world = World::new(6);
    world.state.restore("g/down", verdict(Health::Unhealthy));
    assert_eq!(world.health("g/down"), Some(Health::Unhealthy));
    world.declare("g", vec![target("g/down"), target("g/up"), target("g/fresh")]);
    world.state.restore("g/up", verdict(Health::Healthy));
    assert_eq!(world.health("g/up"), Some(Health::Healthy), "after the declaration, too");
    world.run(seconds(60), |key, _| if key == "g/up" { down() } else { Outcome::Success }, |_| true);
    let turn = |key: &str| world.turns.iter().filter(|turn| turn.1 == key).collect::<Vec<_>>();
    assert_eq!(*turn("g/down")[0], (world.probes["g/down"][1], "g/down".to_owned(), Health::Healthy));
    assert_eq!(*turn("g/up")[0], (world.probes["g/up"][2], "g/up".to_owned(), Health::Unhealthy));
    assert_eq!(*turn("g/fresh")[0], (world.probes["g/fresh"][0], "g/fresh".to_owned(), Health::Healthy));

    world.state.restore("g/down", verdict(Health::Unhealthy));
    assert_eq!(world.health("g/down"), Some(Health::Healthy), "what was seen is believed, not what was stored");
}

#[test]
fn a_restored_verdict_that_nobody_takes_up_is_no_legacy_for_a_later_target() {
    let mut world = World::new(7);
    for key in ["g", "g/gone", "g/kept", "gg/gone", "other/gone"] {
        world.state.restore(key, verdict(Health::Healthy));
    }
    world.declare("g", vec![target("g/kept")]);
    world.declare("g", vec![target("g/kept"), target("g/gone"), target("g")]);
    let known = ["g", "g/gone", "g/kept", "gg/gone", "other/gone"].map(|key| world.health(key).is_some());
    assert_eq!(known, [false, false, true, true, true]);
}

#[test]
fn the_result_of_a_target_that_was_replaced_or_ended_is_void() {
    let mut world = World::new(8);
    world.declare("a", vec![target("a")]);
    let old = world.launch();
    let mut moved = target("a");
    moved.check = Check::Tcp { address: "203.0.113.9".to_owned(), port: 443 };
    world.declare("a", vec![moved]);
    assert_eq!(world.finish(&old, Outcome::Success), None);
    assert_eq!(world.health("a"), None);
    let new = world.launch();
    assert_eq!(new.target.check, Check::Tcp { address: "203.0.113.9".to_owned(), port: 443 });
    assert_eq!(world.finish(&new, Outcome::Success), Some(Health::Healthy));

    world.now += seconds(11);
    let last = world.launch();
    world.declare("a", Vec::new());
    assert_eq!(world.finish(&last, down()), None);
    assert_eq!((world.state.next_due(), world.health("a")), (None, None));
}

#[test]
fn a_probe_that_could_not_be_made_counts_for_nothing() {
    let mut world = World::new(9);
    world.declare("a", vec![target("a")]);
    let ours = |_: &str, at: Duration| match at.as_secs() {
        0..30 => Outcome::Success,
        _ => Outcome::Inconclusive("too many open files".to_owned()),
    };
    world.run(seconds(600), ours, |_| true);
    assert_eq!((world.turns.len(), world.health("a"), world.self_checks), (1, Some(Health::Healthy), 0));
}

#[test]
fn a_target_that_outlasts_its_interval_is_probed_again_at_once_and_never_twice_at_a_time() {
    let mut world = World::new(10);
    world.declare("a", vec![target("a")]);
    let slow = world.launch();
    assert_eq!(world.state.next_due(), None, "it is being probed");
    world.now += seconds(25);
    world.finish(&slow, Outcome::Success);
    assert_eq!(world.state.next_due(), Some(world.now));
}

#[test]
fn one_dead_target_among_many_falls_without_a_self_check_after_its_first_failures() {
    let mut world = World::new(11);
    world.declare("g", targets("g", 100));
    world.run(seconds(60), |_, _| Outcome::Success, |_| true);
    world.turns.clear();
    let dead = |key: &str, _| if key == "g/7" { down() } else { Outcome::Success };
    world.run(seconds(60), dead, |_| panic!("nobody doubts the network for one of a hundred"));
    let turns: Vec<_> = world.turns.iter().map(|turn| (turn.1.as_str(), turn.2)).collect();
    assert_eq!(turns, [("g/7", Health::Unhealthy)]);
    let failures: Vec<_> = world.probes["g/7"].iter().filter(|at| **at > seconds(60)).collect();
    assert_eq!(world.turns[0].0, *failures[2]);
}

#[test]
fn when_all_fail_and_the_network_is_fine_all_fall() {
    let mut world = World::new(12);
    world.declare("g", targets("g", 50));
    world.run(seconds(60), |_, _| Outcome::Success, |_| true);
    world.turns.clear();
    world.run(seconds(40), |_, _| down(), |_| true);
    assert_eq!(world.turns.len(), 50);
    assert!(world.turns.iter().all(|turn| turn.2 == Health::Unhealthy));
    assert!(world.self_checks > 0);
}

#[test]
fn a_fall_in_doubt_waits_for_a_self_check_that_began_after_it() {
    let mut world = World::new(13);
    world.declare("a", vec![target("a")]);
    for outcome in [Outcome::Success, down(), down()] {
        let launch = world.launch();
        world.finish(&launch, outcome);
        world.now += seconds(11);
    }
    world.state.begin_self_check();
    let launch = world.launch();
    assert_eq!(world.finish(&launch, down()), None, "the third failure in a row, in doubt");
    assert!(world.state.end_self_check(true, Timestamp::UNIX_EPOCH).is_empty(), "it began too early");
    assert!(world.state.wants_self_check());
    world.state.begin_self_check();
    let turned = world.state.end_self_check(true, Timestamp::UNIX_EPOCH);
    assert_eq!(turned.len(), 1);
    assert!(!world.state.wants_self_check());
}

#[test]
fn a_success_while_the_self_check_runs_takes_the_fall_back() {
    let mut world = World::new(14);
    world.declare("a", vec![target("a")]);
    for outcome in [Outcome::Success, down(), down(), down()] {
        let launch = world.launch();
        world.finish(&launch, outcome);
        world.now += seconds(11);
    }
    world.state.begin_self_check();
    let launch = world.launch();
    world.finish(&launch, Outcome::Success);
    assert!(world.state.end_self_check(true, Timestamp::UNIX_EPOCH).is_empty());
    assert_eq!(world.health("a"), Some(Health::Healthy));
}

#[test]
fn what_began_before_the_network_came_back_counts_for_nothing() {
    let mut world = World::new(15);
    let mut nervous = target("a");
    nervous.fall = 1;
    world.state.restore("a", verdict(Health::Healthy));
    world.declare("a", vec![nervous]);
    world.now += seconds(11);
    let during = world.launch();
    for passed in [false, true] {
        world.state.begin_self_check();
        assert!(world.state.end_self_check(passed, Timestamp::UNIX_EPOCH).is_empty());
        assert_eq!(world.state.is_isolated(), !passed);
    }
    assert_eq!(world.finish(&during, down()), None);
    assert!(!world.state.wants_self_check());
    assert_eq!(world.health("a"), Some(Health::Healthy));
}

#[test]
fn failures_from_before_an_outage_was_noticed_are_discarded() {
    let mut world = World::new(16);
    world.state.restore("a", verdict(Health::Healthy));
    world.declare("a", vec![target("a")]);
    let check = |world: &mut World, passed| {
        world.state.begin_self_check();
        world.state.end_self_check(passed, Timestamp::UNIX_EPOCH).len()
    };
    for (failure, fallen) in [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1)] {
        world.now += seconds(11);
        let launch = world.launch();
        world.finish(&launch, down());
        if failure == 2 {
            assert_eq!(check(&mut world, false), 0);
        }
        assert_eq!(check(&mut world, true), fallen, "after {failure} failures");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Fleets of fast and slow targets, an outage of our own of any length at any time, and one target that really
    /// dies at some time.
    #[test]
    fn an_outage_of_our_own_turns_nothing_and_the_one_dead_target_falls_after_it(
        seed in any::<u64>(),
        fleet in proptest::collection::vec((1..60u64, 1..5u32), 4..60),
        from in 100_000..400_000u64,
        length in 1..300_000u64,
        death in 0..900_000u64,
    ) {
        let (mut world, death) = (World::new(seed), Duration::from_millis(death));
        let fleet = fleet.into_iter().enumerate().map(|(n, (interval, fall))| Target {
            interval: seconds(interval),
            fall,
            ..target(&format!("g/{n}"))
        });
        let fleet: Vec<_> = fleet.collect();
        for member in &fleet {
            world.state.restore(&member.key, verdict(Health::Healthy));
        }
        world.declare("g", fleet.clone());
        let outage = Duration::from_millis(from)..Duration::from_millis(from + length);
        let network = |at: Duration| !outage.contains(&at);
        let outcome = |key: &str, at: Duration| {
            if !network(at) || (key == "g/0" && at >= death) { down() } else { Outcome::Success }
        };
        world.run(seconds(1_800), outcome, network);
        let turns: Vec<_> = world.turns.iter().map(|turn| (turn.1.as_str(), turn.2)).collect();
        prop_assert_eq!(turns, [("g/0", Health::Unhealthy)]);
        prop_assert!(world.turns[0].0 >= death);
        prop_assert!(!world.state.is_isolated());
    }
}
