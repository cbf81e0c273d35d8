//! What an outside that fails may not do: bring a Node down that is up, or have VMs ordered faster than agreed.

use super::super::plan::tests::{annotate, droplets, rack};
use super::*;
use crate::api::condition::{self, READY};
use crate::runtime::backoff;

/// All but a refusal, which is an answer.
fn failures() -> impl Iterator<Item = OutsideError> {
    OutsideError::each("").into_iter().filter(|error| !matches!(error, OutsideError::Refused { .. }))
}

/// The `n`-th of a thousand Nodes. Every fifth has a host that exists already, every seventh a name that not all
/// resolvers have; of the VMs, every eleventh should be larger than it is, and every thirteenth was lost.
fn nth(n: usize) -> World {
    let mut world = World::new(if n.is_multiple_of(5) { rack() } else { droplets(vec![]) });
    world.made = n % 200;
    if n.is_multiple_of(7) {
        world.outside.resolvers = Confirmation::Differs("nothing".into());
    }
    let node = Arc::make_mut(&mut world.seen.node);
    node.spec.ttl = (!n.is_multiple_of(3)).then(|| 60 + i64::try_from(n).unwrap());
    node.spec.replace_lost = n.is_multiple_of(2);
    world.settle().later(125).settle();
    if n.is_multiple_of(11) {
        world.respec(|node| node.spec.size = Some("larger".into()));
    }
    if n.is_multiple_of(13) {
        world.vms.clear();
    }
    world.settle().later(125).settle().later(125).settle();
    world
}

/// Whether the `n`-th Node is one that should be ready.
fn stands(n: usize) -> bool {
    let is_lost = n.is_multiple_of(13) && !n.is_multiple_of(2);
    n.is_multiple_of(5) || !(n.is_multiple_of(11) || is_lost)
}

fn is_ready(world: &World) -> bool {
    condition::is_true(&world.seen.status.conditions, READY)
}

#[test]
fn a_listing_that_fails_changes_none_of_a_thousand_nodes_that_are_ready_and_makes_no_other_ready() {
    let outages: [fn(&mut Outside, OutsideError); 3] = [
        |outside, error| outside.listing = Err(error),
        |outside, error| outside.declared = Declared::Blocked(error),
        |outside, error| (outside.listing, outside.provider) = (Err(error.clone()), Err(error)),
    ];
    for n in 0..1000 {
        let mut world = nth(n);
        assert_eq!(is_ready(&world), stands(n), "Node {n}: {:?}", world.seen.status);
        let (before, published, made) = (world.seen.status.clone(), world.published.clone(), world.made);
        let usual = world.outside.clone();
        for (outage, error) in outages.iter().flat_map(|outage| failures().map(move |error| (outage, error))) {
            world.outside = usual.clone();
            outage(&mut world.outside, error.clone());
            for later in [1, 400] {
                world.later(later).pass();
                assert_eq!(is_ready(&world), stands(n), "Node {n}, {error:?}: {:?}", world.seen.status);
                assert!(!stands(n) || world.seen.status == before, "Node {n}, {error:?}: {:?}", world.seen.status);
                assert_eq!(world.published, published, "Node {n}, {error:?}");
            }
        }
        world.outside = usual;
        world.later(400).settle();
        assert_eq!((is_ready(&world), world.made, world.published), (stands(n), made, published), "Node {n}");
    }
}

/// When the Node is looked at.
#[derive(Debug, Clone, Copy)]
enum Looks {
    /// Only when the queue says so.
    Due,
    /// Every second, because somebody keeps writing its labels.
    Often,
    /// The same, and in the middle the operator starts anew.
    OftenAndAnew,
}

/// The seconds at which a VM is ordered within ten minutes in which each order ends in `error`.
fn orders(error: &OutsideError, settle: u64, jitter: f64, looks: Looks) -> Vec<i64> {
    let mut world = World::new(droplets(vec![]));
    (world.outside.create, world.jitter, world.seen.settle) = (Err(error.clone()), jitter, Duration::from_secs(settle));
    let (mut ordered, mut due) = (Vec::new(), world.now);
    for second in 0..600 {
        if matches!(looks, Looks::Due) && world.now < due {
            world.later(1);
            continue;
        }
        if matches!(looks, Looks::OftenAndAnew) && second == 300 {
            world = restarted(world);
        }
        if !matches!(looks, Looks::Due) {
            annotate(&mut world.seen, "look", &second.to_string());
        }
        world.done.clear();
        due = world.now
            + match world.pass() {
                Passed::Silent(after) | Passed::Reported { after, .. } => after,
                Passed::Gone => panic!("nobody deleted it"),
            };
        ordered.extend(world.done.iter().filter(|done| *done == "CreateVm").map(|_| second));
        world.later(1);
    }
    assert_eq!(world.vms, [], "none was made");
    world.outside = fair();
    world.later(600).settle();
    assert_eq!((world.made, is_ready(&world), world.seen.status.journal.as_ref()), (1, true, None));
    ordered
}

/// All that outlives the process: what the API server and the outside have.
fn restarted(world: World) -> World {
    let node: Node = serde_json::from_value(serde_json::to_value(world.object()).unwrap()).unwrap();
    let mut anew = World::new(droplets(vec![]));
    (anew.seen.name, anew.seen.settle) = (world.seen.name, world.seen.settle);
    anew.seen.status = node.status.clone().unwrap();
    anew.seen.node = Arc::new(node);
    World { outside: world.outside, now: world.now, jitter: world.jitter, vms: world.vms, made: world.made, ..anew }
}

#[test]
fn an_order_that_fails_for_ten_minutes_is_repeated_at_the_stored_times_and_no_faster() {
    let doubling = vec![0, 2, 6, 14, 30, 62, 126, 254, 510];
    let full = OutsideError::Refused { code: crate::cloud::code::DROPLET_LIMIT.into(), message: "25 of 25".into() };
    for error in [OutsideError::Unknown("500".into()), OutsideError::Unavailable("refused".into()), full] {
        for looks in [Looks::Due, Looks::Often, Looks::OftenAndAnew] {
            assert_eq!(orders(&error, 1, 0.0, looks), doubling, "{error:?}, {looks:?}");
        }
    }
    // Whether the order before went through must be known first, which takes as long as a listing lags.
    let unknown = OutsideError::Unknown("500".into());
    for looks in [Looks::Often, Looks::OftenAndAnew] {
        assert_eq!(orders(&unknown, 90, 0.0, looks), [0, 90, 180, 270, 360, 450, 540], "{looks:?}");
    }
}

#[test]
fn jitter_makes_an_order_come_later_and_never_earlier() {
    let unknown = OutsideError::Unknown("500".into());
    for jitter in [0.01, 0.3, 0.99] {
        let mut expected = vec![0];
        for attempts in 1.. {
            let pause = backoff::after(attempts, jitter).as_secs_f64().ceil();
            #[expect(clippy::cast_possible_truncation, reason = "a few hundred seconds")]
            let next = expected.last().unwrap() + pause as i64;
            if next >= 600 {
                break;
            }
            expected.push(next);
        }
        assert_eq!(orders(&unknown, 1, jitter, Looks::OftenAndAnew), expected, "{jitter}");
    }
}

#[test]
fn a_former_address_is_remembered_until_its_claim_was_given_back() {
    let mut world = World::new(rack());
    world.settle();
    let former = world.seen.status.addresses.clone();
    world.respec(|node| node.spec.address = Some("203.0.113.8".into()));
    world.seen.address = Some(Standing::Ours);
    world.outside.claim = Err(Fault::transient("KubernetesAPI", "no answer"));
    world.done.clear();
    world.settle();
    assert!(world.done.contains(&"Release".to_owned()) && world.answers_with("203.0.113.8".parse().unwrap()));
    assert_eq!(world.seen.status.addresses, former);
    world.outside.claim = Ok(Standing::Ours);
    world.done.clear();
    world.later(400).settle();
    assert!(world.done.contains(&"Release".to_owned()), "{:?}", world.done);
    let address = world.seen.status.addresses.clone().and_then(|addresses| addresses.public4);
    assert_eq!(address.as_deref(), Some("203.0.113.8"));
}
