//! What Flux and `kubectl wait` rely on holds through every life of a Node: whatever people do to it, whatever the
//! outside answers, and wherever a pass ends.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::super::observe::{Hosts, static_address};
use super::super::plan::tests::{ago, annotate, droplets, rack, zone};
use super::*;
use crate::api::claim::Holder;
use crate::api::condition::{self, READY, RECONCILING, STALLED};
use crate::api::kstatus::{Verdict, follows, mostly, on_the_way, stands_still, verdict_on};
use crate::api::names::Fqdn;
use crate::api::node::Addresses;
use crate::api::refs::HostManagement;
use crate::controllers::node::plan::{self, HostView};
use crate::controllers::provider::Held;
use crate::dns::Refusal;

/// What somebody does to the Node, or to its VM.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Resize(&'static str),
    ChangeTtl(i64),
    Pause(bool),
    Annotate(&'static str, &'static str),
    LoseVm,
    WipeStatus,
    Delete,
}

/// A deed, and the circumstances of the pass that follows.
#[derive(Debug, Clone)]
struct Turn {
    deed: Deed,
    later: i64,
    outside: Outside,
    zone: &'static str,
    provider: &'static str,
    held: bool,
    read_only: bool,
    host: HostView,
}

/// How a life begins.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of it")]
struct Birth {
    rack: bool,
    /// Whether it manages its host, and is proxied.
    managed: bool,
    proxied: bool,
    replace_lost: bool,
    /// The conditions some other version left behind, by type and value.
    left: Vec<(&'static str, bool)>,
    observed: Option<i64>,
}

fn results() -> impl Strategy<Value = Result<(), OutsideError>> {
    mostly(Ok(()), OutsideError::each("unprocessable_entity").into_iter().map(Err).collect())
}

fn refusals() -> Vec<Refusal> {
    let name = "web-1.example.com".to_owned();
    let (id, content) = ("f".to_owned(), "192.0.2.1".to_owned());
    vec![
        Refusal::Foreign {
            name: Fqdn::parse(&name).unwrap(),
            kind: "A".into(),
            content: content.clone(),
            record_id: id.clone(),
        },
        Refusal::AdoptionRequired {
            name: name.clone(),
            owner: "a".repeat(26),
            cluster: "c".into(),
            record_id: id,
            content,
        },
        Refusal::Quota { used: 200, quota: 200 },
        Refusal::Rejected { name, code: "9999".into(), message: "no".into() },
    ]
}

fn outsides() -> impl Strategy<Value = Outside> {
    let blocked = || OutsideError::each("unprocessable_entity").into_iter().map(Declared::Blocked);
    let declared = std::iter::once(Declared::Pending).chain(refusals().into_iter().map(Declared::Refused));
    let taken = refusals().into_iter().take(2).map(Checked::Taken);
    let checked = taken
        .chain(OutsideError::each("unprocessable_entity").into_iter().map(Checked::Blocked))
        .chain([Checked::Pending]);
    let holder = Holder { kind: "Node".into(), name: "other".into(), uid: "2".into() };
    let claims = vec![
        Ok(Standing::Taken { namespace: "blog".into(), holder }),
        Ok(Standing::Reserved { namespace: "blog".into(), until: now() + SignedDuration::from_secs(400) }),
        Err(Fault::Conflict),
        Err(Fault::transient("KubernetesAPI", "no")),
        Err(Fault::RateLimited(Duration::from_secs(1))),
        Err(Fault::Waiting { reason: "Later", message: "no".into(), after: Duration::from_secs(1) }),
        Err(Fault::terminal("Internal", "no")),
    ];
    let answers = || {
        mostly(Confirmation::Confirmed, vec![Confirmation::Differs("x".into()), Confirmation::Unreachable("x".into())])
    };
    (
        (results(), results(), results(), mostly(true, vec![false]), mostly(true, vec![false])),
        mostly(Ok(Standing::Ours), claims),
        mostly(Checked::Free, checked.collect()),
        mostly(Declared::Applied(Vec::new()), declared.chain(blocked()).collect()),
        (answers(), answers()),
    )
        .prop_map(
            |((listing, provider, create, whole, booted), claim, checked, declared, (authority, resolvers))| Outside {
                listing,
                provider,
                create,
                whole,
                booted,
                claim,
                checked,
                declared,
                authority,
                resolvers,
            },
        )
}

fn turns() -> impl Strategy<Value = Turn> {
    let deeds = vec![
        Deed::Resize("large"),
        Deed::Resize("small"),
        Deed::ChangeTtl(600),
        Deed::Pause(true),
        Deed::Pause(false),
        Deed::Annotate("replace", "1"),
        Deed::Annotate("replace", "2"),
        Deed::Annotate("adopt", "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        Deed::Annotate("abandon", "dns,vm"),
        Deed::LoseVm,
        Deed::WipeStatus,
        Deed::Delete,
    ];
    let zones = vec!["missing", "not allowed", "unusable", "not running", "unknown servers", "no domain"];
    let providers = vec!["missing", "not allowed", "unusable", "not running"];
    let later = prop::sample::select(vec![0, 1, 5, 61, 91, 125, 301, 400]);
    (
        mostly(Deed::Nothing, deeds),
        (prop_oneof![Just(fair()), outsides()], later),
        (mostly("fine", zones), mostly("fine", providers)),
        (mostly(false, vec![true]), mostly(false, vec![true])),
        hosts(),
    )
        .prop_map(|(deed, (outside, later), (zone, provider), (held, read_only), host)| Turn {
            deed,
            later,
            outside,
            zone,
            provider,
            held,
            read_only,
            host,
        })
}

/// What may be known of a managed host.
fn hosts() -> impl Strategy<Value = HostView> {
    let message = || "what to do".to_owned();
    let verdicts = vec![
        None,
        Some(plan::Verdict::Serves { certificate: Err(message()) }),
        Some(plan::Verdict::Refused { reason: "PortInUse", message: message() }),
        Some(plan::Verdict::Broken { reason: "BootstrapFailed", message: message() }),
        Some(plan::Verdict::Unseen { reason: "HostUnreachable", message: message() }),
    ];
    let work = mostly(None, vec![Some("looking at it".to_owned()), Some("pulling images".to_owned())]);
    let unset = mostly(None, vec![Some("set hosts.caddyImage".to_owned())]);
    let verdict = mostly(Some(plan::Verdict::Serves { certificate: Ok(()) }), verdicts);
    (unset, verdict, mostly(true, vec![false]), work).prop_map(|(unset, verdict, fresh, work)| HostView {
        unset,
        verdict,
        fresh,
        again: Duration::from_secs(100),
        work,
        target: None,
    })
}

fn births() -> impl Strategy<Value = Birth> {
    let left = prop::collection::vec((prop::sample::select(vec![READY, RECONCILING, STALLED]), any::<bool>()), 0..4);
    let observed = prop::sample::select(vec![None, Some(-1), Some(-1), Some(-1), Some(1)]);
    let host = (any::<bool>(), mostly(false, vec![true]));
    (any::<bool>(), host, any::<bool>(), mostly(true, vec![false]), left, observed).prop_map(
        |(rack, (managed, proxied), replace_lost, new, left, observed)| {
            let left = if new { Vec::new() } else { left };
            Birth { rack, managed, proxied, replace_lost, left, observed }
        },
    )
}

fn begin(birth: &Birth) -> World {
    let mut world = World::new(if birth.rack { rack() } else { droplets(vec![]) });
    let spec = &mut Arc::make_mut(&mut world.seen.node).spec;
    (spec.replace_lost, spec.proxied) = (birth.replace_lost, birth.proxied);
    if birth.managed {
        spec.host.manage = HostManagement::Caddy;
    }
    let mut status = NodeStatus { observed_generation: birth.observed, ..NodeStatus::default() };
    for (type_, holds) in &birth.left {
        let left = condition::Desired { type_, status: Some(*holds), reason: "Before", message: "before".into() };
        condition::set(&mut status.conditions, left, Some(1), now());
    }
    world.seen.status = status;
    world
}

fn arrange(world: &mut World, turn: &Turn) {
    let good = if static_address(&world.seen.node).is_some() { rack() } else { droplets(vec![]) };
    (world.seen.zone, world.seen.provider) = (good.zone, good.provider);
    if let Some(zone) = &mut world.seen.zone {
        match turn.zone {
            "not allowed" => zone.allowed = false,
            "unusable" => zone.unusable = Some("Zone example-com is not ready: no".into()),
            "not running" => zone.running = false,
            "unknown servers" => zone.authority.clear(),
            "no domain" => zone.domain = None,
            _ => {}
        }
    }
    if let Some(provider) = &mut world.seen.provider {
        match turn.provider {
            "not allowed" => provider.allowed = false,
            "unusable" => provider.unusable = Some("Provider do is not ready: no".into()),
            "not running" => provider.hosts = Hosts::Unknown { is_static: matches!(provider.hosts, Hosts::Static(_)) },
            _ => {}
        }
    }
    world.seen.zone.take_if(|_| turn.zone == "missing");
    world.seen.provider.take_if(|_| turn.provider == "missing");
    world.seen.held = turn.held.then(|| Held { reason: "DeletionHeld", message: "too many".into() });
    world.seen.read_only = turn.read_only;
    let managed = world.seen.node.spec.host.manage == HostManagement::Caddy;
    let is_known = managed && !world.seen.deleting() && world.seen.zone.as_ref().is_some_and(|z| z.domain.is_some());
    world.seen.host = is_known.then(|| turn.host.clone());
    world.outside = turn.outside.clone();
    world.later(turn.later);
    match turn.deed {
        Deed::Nothing => {}
        Deed::Resize(size) => world.respec(|node| node.spec.size = Some(size.into())),
        Deed::ChangeTtl(ttl) => world.respec(|node| node.spec.ttl = Some(ttl)),
        Deed::Pause(paused) => annotate(&mut world.seen, "paused", if paused { "true" } else { "false" }),
        Deed::Annotate(name, value) => annotate(&mut world.seen, name, value),
        Deed::LoseVm => world.vms.clear(),
        Deed::WipeStatus => world.seen.status = NodeStatus::default(),
        Deed::Delete if world.seen.deleting() => {}
        Deed::Delete => world.respec(|node| node.metadata.deletion_timestamp = ago(0)),
    }
}

/// Whether nothing is known to be other than the spec asks for: the name is the Node's and answers with the address of
/// its host, which was there when it was last seen.
fn is_in_place(world: &World) -> bool {
    let (seen, status) = (&world.seen, &world.seen.status);
    let vm = world.vms.iter().find(|vm| Some(&vm.id) == status.vm_id.as_ref());
    let readable = world.outside.listing.is_ok() && world.outside.whole;
    let address = match (static_address(&seen.node), vm) {
        (Some(address), _) => (seen.address == Some(Standing::Ours)).then_some(address),
        (None, Some(vm)) => vm.public4.map(IpAddr::V4),
        (None, None) if readable => None,
        (None, None) => status.addresses.as_ref().and_then(Addresses::publishable),
    };
    let doubted = status.journal.as_ref().is_some_and(|journal| journal.missing_since.is_some());
    let sized =
        seen.node.spec.size.is_none() || static_address(&seen.node).is_some() || seen.node.spec.size == status.size;
    let named = seen.name == Some(Standing::Ours) && address.is_some_and(|address| world.answers_with(address));
    named && sized && !doubted && serves(seen)
}

/// Whether Caddy serves on the host, if it is to, as far as anybody can know.
fn serves(seen: &Observed) -> bool {
    let Some(host) = &seen.host else { return true };
    let generation = seen.node.metadata.generation;
    let said = condition::get(&seen.status.conditions, "Bootstrapped");
    match &host.verdict {
        _ if host.unset.is_some() => false,
        Some(verdict) => *verdict == plan::Verdict::Serves { certificate: Ok(()) },
        None => said.is_some_and(|said| said.status == "True" && said.observed_generation == generation),
    }
}

/// The rules for what a pass from `before` ended in.
fn check(before: &Node, world: &mut World, passed: &Passed) -> TestCaseResult {
    let after = world.object();
    let status = |node: &Node| node.status.clone().unwrap_or_default();
    let told = std::mem::take(&mut world.told);
    let steps = told.iter().filter(|status| **status != world.seen.status);
    on_the_way(before, steps.map(|status| Node { status: Some(status.clone()), ..after.clone() }))?;
    let Passed::Reported { outcome, facts, .. } = passed else { return Ok(()) };
    if world.seen.annotation("paused") == Some("true") {
        return stands_still(before, &after);
    }
    // What steps on the way have said stands as well.
    let steps = told.iter().rev().skip(usize::from(told.last() == Some(&world.seen.status)));
    let stood = Node { status: steps.chain(&before.status).next().cloned(), ..after.clone() };
    follows(&stood, &after, outcome.is_a_failed_look(), is_in_place(world))?;
    if *outcome == Outcome::Done {
        prop_assert!(condition::is_true(&status(&after).conditions, "Resolvable"));
    }
    if world.seen.deleting() {
        prop_assert_eq!(&status(&after).phase.unwrap_or_default(), "Deleting");
    }

    // The same again, later and after more failures, changes nothing.
    let again = report::status(&world.seen, facts, outcome, world.now + SignedDuration::from_hours(1));
    prop_assert_eq!(&again, &world.seen.status);
    let conditions = again.conditions;
    world.seen.status.journal.get_or_insert_default().attempts = Some(41);
    let again = report::status(&world.seen, facts, outcome, world.now);
    prop_assert_eq!(again.conditions, conditions);
    world.seen.status = status(&after);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_report_of_every_life_obeys_the_rules(birth in births(), turns in prop::collection::vec(turns(), 1..12)) {
        let mut world = begin(&birth);
        for turn in turns {
            arrange(&mut world, &turn);
            let before = world.object();
            let passed = world.pass();
            check(&before, &mut world, &passed)?;
            if matches!(passed, Passed::Gone) {
                prop_assert!(world.seen.deleting());
                return Ok(());
            }
        }
    }
}

#[test]
fn a_node_that_was_never_looked_at_because_it_is_paused_is_on_its_way() {
    for observed_generation in [None, Some(-1)] {
        let mut world = World::new(rack());
        world.seen.status = NodeStatus { observed_generation, ..NodeStatus::default() };
        annotate(&mut world.seen, "paused", "true");
        world.pass();
        assert_eq!(verdict_on(&world.object()), Verdict::InProgress, "{:?}", world.seen.status);
    }
}

#[test]
fn every_life_that_is_left_alone_becomes_current() {
    for mut world in [World::new(rack()), World::new(droplets(vec![]))] {
        world.seen.status = NodeStatus { observed_generation: Some(-1), ..NodeStatus::default() };
        assert_eq!(verdict_on(&world.object()), Verdict::InProgress);
        world.settle();
        assert_eq!(verdict_on(&world.object()), Verdict::Current, "{:?}", world.done);
        assert!(is_in_place(&world) && zone().authority.len() == 1);
    }
}
