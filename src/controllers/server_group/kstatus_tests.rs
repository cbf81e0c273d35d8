//! What Flux and `kubectl wait` rely on holds through every life of a ServerGroup.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::observe::ZoneView;
use super::plan::names;
use super::plan::tests::{World, at, member};
use super::publish::records;
use super::report;
use super::worker::report::WORKER_READY;
use super::worker::{Script, Sight, Terms};
use crate::api::claim::Holder;
use crate::api::condition;
use crate::api::kstatus::{Verdict, follows, mostly, obeys_the_rules, stands_still, verdict_on};
use crate::api::names::{ClusterId, Fqdn, Mark};
use crate::api::server_group::{AddressName, MemberHealth, ServerGroup, ServerGroupStatus};
use crate::api::slb::WorkerMode;
use crate::controllers::credential::Credential;
use crate::controllers::credential::tests::text;
use crate::dns::{Checked, Declared, Refusal};
use crate::outside::OutsideError;
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step};
use crate::slb::plan::{ALLOW, ORIGINS, OWNER};
use crate::slb::wire::{Binding, Settings};

/// What somebody does to the group.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Address(Option<&'static str>),
    List(bool),
    Pause(bool),
    Adopt,
    Abandon(&'static str),
    /// The Worker, as JSON beside its name, or none.
    Worker(Option<(&'static str, &'static str)>),
    WipeStatus,
    Delete,
}

/// What becomes of Workers before a pass, or stands in their way in it.
#[derive(Debug, Clone)]
enum Edge {
    Usual,
    /// Somebody else changes the script `lb`.
    Edited(Edit),
    /// Every call fails.
    Fails(OutsideError),
    /// What is written does not show.
    Forgets,
    /// A call is under way.
    InHand,
    /// The operator is another process.
    Restarted,
    /// The Zone has no terms, or these are not the usual ones.
    Unconfigured,
    NotAllowed,
    Prefixed,
    Keyless,
    NotConnected,
}

/// What somebody else does to the script.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Remove,
    /// It is another's now.
    Replace,
    /// It is that of an earlier group of this name.
    Restore,
    /// It lets this group write its origins.
    Allow,
    /// It has other origins.
    Origins,
    /// The route is gone.
    Route,
}

/// A deed, and the circumstances of the pass that follows.
#[derive(Debug, Clone)]
struct Turn {
    deed: Deed,
    zone: &'static str,
    /// How what is not the group's stands with the claims.
    others: Option<Standing>,
    there: Checked,
    answer: Declared,
    health: [MemberHealth; 2],
    isolated: bool,
    read_only: bool,
    edge: Edge,
    /// How many seconds after the one before.
    later: i64,
}

fn refusals() -> Vec<Refusal> {
    let (name, record_id, content) = ("_wrap.web.example.com".to_owned(), "r1".to_owned(), "mine".to_owned());
    let (owner, cluster, kind) = ("aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), "c0".to_owned(), "TXT".to_owned());
    vec![
        Refusal::Foreign {
            name: Fqdn::parse(&name).unwrap(),
            kind,
            content: content.clone(),
            record_id: record_id.clone(),
        },
        Refusal::AdoptionRequired { name: name.clone(), owner, cluster, record_id, content },
        Refusal::Quota { used: 200, quota: 200 },
        Refusal::Rejected { name, code: "9999".into(), message: "no".into() },
    ]
}

fn turns() -> impl Strategy<Value = Turn> {
    let deeds = vec![
        Deed::Address(Some("www")),
        Deed::Address(Some("@")),
        Deed::Address(None),
        Deed::List(false),
        Deed::List(true),
        Deed::Pause(true),
        Deed::Pause(false),
        Deed::Adopt,
        Deed::Abandon("dns"),
        Deed::Abandon("worker"),
        Deed::Abandon("dns, worker"),
        Deed::Worker(Some(("lb", "{}"))),
        Deed::Worker(Some(("lb", r#"{"route": "shop.example.com/*"}"#))),
        Deed::Worker(Some(("lb", r#"{"customDomain": "shop.example.com"}"#))),
        Deed::Worker(Some(("lb", r#"{"mode": "OriginsOnly"}"#))),
        Deed::Worker(Some(("other", r#"{"whenAllDown": "Publish"}"#))),
        Deed::Worker(None),
        Deed::WipeStatus,
        Deed::Delete,
    ];
    let edits = [Edit::Remove, Edit::Replace, Edit::Restore, Edit::Allow, Edit::Origins, Edit::Route];
    let edges = [Edge::Forgets, Edge::InHand, Edge::Restarted, Edge::Unconfigured, Edge::NotAllowed];
    let edges = edges.into_iter().chain([Edge::Prefixed, Edge::Keyless, Edge::NotConnected]);
    let edges = edges.chain(edits.map(Edge::Edited)).chain(OutsideError::each("9999").map(Edge::Fails)).collect();
    let zones = vec!["missing", "not allowed", "unusable", "not running", "no domain"];
    let holder = Holder { kind: "ServerGroup".into(), name: "other".into(), uid: "u".into() };
    let others = vec![
        Some(Standing::Taken { namespace: "blog".into(), holder }),
        Some(Standing::Reserved { namespace: "blog".into(), until: at(20) }),
    ];
    let errors = || OutsideError::each("9999").into_iter();
    let there = [Checked::Pending, Checked::Own(Vec::new())].into_iter();
    let there = there.chain(refusals().into_iter().map(Checked::Taken)).chain(errors().map(Checked::Blocked)).collect();
    let answers = std::iter::once(Declared::Pending);
    let answers = answers.chain(refusals().into_iter().map(Declared::Refused)).chain(errors().map(Declared::Blocked));
    let health = || mostly(MemberHealth::Healthy, vec![MemberHealth::Unhealthy, MemberHealth::Pending]);
    (
        (mostly(Deed::Nothing, deeds), mostly("running", zones), mostly(None, others)),
        (mostly(Checked::Free, there), mostly(Declared::Applied(Vec::new()), answers.collect())),
        ([health(), health()], mostly(false, vec![true]), mostly(false, vec![true])),
        (mostly(Edge::Usual, edges), prop::sample::select(vec![0, 1, 20, 61, 400])),
    )
        .prop_map(|((deed, zone, others), (there, answer), (health, isolated, read_only), (edge, later))| Turn {
            deed,
            zone,
            others,
            there,
            answer,
            health,
            isolated,
            read_only,
            edge,
            later,
        })
}

fn begin(with_worker: bool) -> World {
    let mut world =
        World::with(&[member("10.0.0.1", MemberHealth::Pending), member("10.0.0.2", MemberHealth::Pending)]);
    if with_worker {
        world = world.spec(|spec| spec.slb = Some(slb("lb", r#"{"route": "shop.example.com/*"}"#)));
        world.seen.zone.as_mut().unwrap().workers = terms(&Edge::Usual);
    }
    world.seen.status = ServerGroupStatus { observed_generation: Some(-1), ..ServerGroupStatus::default() };
    world
}

fn object(world: &World) -> ServerGroup {
    ServerGroup { status: Some(world.seen.status.clone()), ..(*world.seen.group).clone() }
}

fn slb(name: &str, fields: &str) -> crate::api::slb::Slb {
    let mut slb: serde_json::Value = serde_json::from_str(fields).unwrap();
    slb["workerName"] = name.into();
    serde_json::from_value(slb).unwrap()
}

/// What the Zone says of Workers.
fn terms(edge: &Edge) -> Option<Terms> {
    let credential = match edge {
        Edge::Unconfigured => return None,
        Edge::Keyless => Credential::Unusable { reason: "SecretMissing", message: "create it".into() },
        _ => Credential::Ok { version: "1".into(), token: text("token") },
    };
    let known = |id: &str| (!matches!(edge, Edge::NotConnected)).then(|| id.to_owned());
    Some(Terms {
        allowed: !matches!(edge, Edge::NotAllowed),
        account: known("a1"),
        zone_id: known("z1"),
        prefix: matches!(edge, Edge::Prefixed).then(|| "shop-".to_owned()),
        secret: "workers".into(),
        credential,
    })
}

fn edit(world: &mut World, edit: Edit) {
    let former = "00000000-5a55-4e7e-9b0a-0c5d1f3a2b4c";
    let former = Mark::new(ClusterId::parse("c1").unwrap(), "ServerGroup", "shop", "web", former).unwrap();
    let mut put = |bindings| drop(world.cloud.scripts.insert("lb".to_owned(), Settings { bindings }));
    match edit {
        Edit::Remove => drop(world.cloud.scripts.remove("lb")),
        Edit::Replace => put(vec![Binding::text(ORIGINS, "https://theirs.example")]),
        Edit::Restore => put(vec![Binding::text(OWNER, former.comment())]),
        Edit::Allow => put(vec![Binding::text(ORIGINS, ""), Binding::text(ALLOW, "shop/web")]),
        Edit::Origins => {
            let bindings = world.cloud.scripts.get_mut("lb").into_iter().flat_map(|script| &mut script.bindings);
            for binding in bindings.filter(|binding| binding.name == ORIGINS) {
                binding.text = Some("https://elsewhere.example".to_owned());
            }
        }
        Edit::Route => world.cloud.places.routes.clear(),
    }
}

/// What becomes of Workers before the pass. What others do is seen when the script is read the next time, so that is due.
fn arrange_worker(world: &mut World, turn: &Turn) {
    world.second += turn.later;
    (world.cloud.fails, world.cloud.forgets) = (None, matches!(turn.edge, Edge::Forgets));
    // Whoever waits for an answer gets none: it is another process now.
    world.seen.worker.take_if(|sight| sight.in_hand);
    match &turn.edge {
        Edge::Edited(what) => {
            world.second += 300;
            edit(world, *what);
        }
        Edge::Fails(error) => world.cloud.fails = Some(error.clone()),
        Edge::Restarted => world.seen.worker = None,
        Edge::InHand => {
            let script = Script { account: "a1".into(), name: "lb".into() };
            world.seen.worker.get_or_insert_with(|| Sight::of(script)).in_hand = true;
        }
        _ => {}
    }
}

fn arrange(world: &mut World, turn: &Turn) {
    arrange_worker(world, turn);
    let group = Arc::make_mut(&mut world.seen.group);
    let mut annotate = |name: &str, value: &str| {
        group.annotations_mut().insert(format!("roadstead.dev/{name}"), value.to_owned());
    };
    match turn.deed {
        Deed::Nothing => {}
        Deed::Pause(paused) => annotate("paused", if paused { "true" } else { "false" }),
        Deed::Adopt => annotate("adopt", "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        Deed::Abandon(halves) => annotate("abandon", halves),
        Deed::WipeStatus => world.seen.status = ServerGroupStatus::default(),
        Deed::Delete if group.metadata.deletion_timestamp.is_some() => {}
        Deed::Address(_) | Deed::List(_) | Deed::Worker(_) | Deed::Delete => {
            *group.metadata.generation.as_mut().unwrap() += 1;
            match turn.deed {
                Deed::Address(hostname) => {
                    group.spec.dns.a = hostname.map(|hostname| AddressName { hostname: hostname.into() });
                }
                Deed::List(listed) => group.spec.dns.txt = listed,
                Deed::Worker(worker) => group.spec.slb = worker.map(|(name, fields)| slb(name, fields)),
                _ => group.metadata.deletion_timestamp = Some(Time(at(0))),
            }
        }
    }
    let domain = (turn.zone != "no domain").then(|| Fqdn::parse("example.com").unwrap());
    let (allowed, running) = (turn.zone != "not allowed", turn.zone != "not running");
    let unusable = (turn.zone == "unusable").then(|| "Zone example-com: TokenRejected".to_owned());
    let has_worker = group.spec.slb.is_some() || world.seen.status.slb.is_some();
    let workers = terms(&turn.edge).filter(|_| has_worker);
    let zone = ZoneView { domain, allowed, allow_apex: false, running, unusable, workers };
    world.seen.zone = (turn.zone != "missing").then_some(zone);
    for reservation in world.seen.reservations() {
        let standing = world.seen.standings.entry(reservation.name).or_insert(Standing::Free);
        match (&turn.others, &standing) {
            (_, Standing::Ours) | (None, Standing::Free) => {}
            (others, _) => *standing = others.clone().unwrap_or(Standing::Free),
        }
    }
    (world.there, world.answer) = (turn.there.clone(), turn.answer.clone());
    let members = ["10.0.0.1", "10.0.0.2"].into_iter().zip(turn.health);
    world.seen.status.members = members.map(|(address, health)| member(address, health).1).collect();
    (world.seen.isolated, world.seen.read_only) = (turn.isolated, turn.read_only);
}

/// Whether every name is the group's, and the zone has what follows from the servers' health.
fn is_in_place(world: &World) -> bool {
    let Ok(names) = names(&world.seen) else { return false };
    let hosts = [&names.txt, &names.a].into_iter().flatten().map(Reservation::of_name);
    let ours = |reservation: Reservation| world.seen.standings.get(&reservation.name) == Some(&Standing::Ours);
    let wanted = records(&names, world.seen.group.spec.strategy, &world.seen.selection);
    // Those of the Worker's origins come last.
    let applied =
        matches!(&world.facts.declared, Some((declared, Declared::Applied(_))) if declared.starts_with(&wanted));
    std::iter::once(Reservation::of_slug(&names.slug)).chain(hosts).all(ours) && applied && is_worker_in_place(world)
}

/// Whether the Worker, if one is asked for, is the group's and has the healthy servers, and its place leads to it.
fn is_worker_in_place(world: &World) -> bool {
    let Some(slb) = &world.seen.group.spec.slb else { return true };
    let Some(script) = world.cloud.scripts.get(&slb.worker_name) else { return false };
    let is_ours = match slb.mode {
        WorkerMode::Managed => script.text(OWNER) == Some(&world.seen.mark.comment()),
        WorkerMode::OriginsOnly => script.text(ALLOW) == Some("shop/web"),
    };
    let healthy = world.seen.status.members.iter().filter(|member| member.health == MemberHealth::Healthy);
    let healthy: Vec<_> =
        healthy.map(|member| format!("https://{}.web.example.com", member.id.replace('.', "-"))).collect();
    let origins = script.text(ORIGINS).unwrap_or_default();
    // Without any healthy one it may keep those it had.
    let spreads = healthy.is_empty() || origins == healthy.join(",");
    let leads = |script: &str| script == slb.worker_name;
    let places = &world.cloud.places;
    let is_route = |route: &String| {
        places.routes.iter().any(|(_, at)| at.pattern == *route && at.script.as_deref().is_some_and(leads))
    };
    let is_domain = |name: &String| places.domains.iter().any(|at| at.hostname == *name && leads(&at.service));
    let claim = Reservation::of_worker("a1", &slb.worker_name).name;
    let is_claimed = world.seen.standings.get(&claim) == Some(&Standing::Ours);
    let is_placed = slb.route.as_ref().is_none_or(is_route) && slb.custom_domain.as_ref().is_none_or(is_domain);
    is_ours && spreads && is_placed && is_claimed
}

/// Whether a script has the group's own mark.
fn has_script(world: &World) -> bool {
    world.cloud.scripts.values().any(|script| script.text(OWNER) == Some(&world.seen.mark.comment()))
}

fn check(before: &ServerGroup, world: &World, outcome: &Outcome) -> TestCaseResult {
    let after = object(world);
    let status = |group: &ServerGroup| group.status.clone().unwrap_or_default();
    if world.seen.annotation("paused") == Some("true") {
        stands_still(before, &after)?;
        return obeys_the_rules(&after);
    }
    follows(before, &after, outcome.is_a_failed_look(), is_in_place(world))?;
    if world.seen.deleting() {
        prop_assert_eq!(&status(&after).phase.unwrap_or_default(), "Deleting");
    }
    let said = condition::get(&status(&after).conditions, WORKER_READY).cloned();
    if *outcome == Outcome::Done {
        let wanted = world.seen.group.spec.slb.as_ref().map(|_| "True");
        prop_assert_eq!(said.as_ref().map(|said| said.status.as_str()), wanted);
    }
    // In an hour nothing is known of a script that was seen now.
    let known = SignedDuration::from_secs(if world.seen.worker.is_some() { 1 } else { 3600 });
    let later: Timestamp = at(world.second) + known;
    prop_assert_eq!(&report::status(&world.seen, &world.facts, outcome, later), &world.seen.status);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_report_of_every_life_obeys_the_rules(
        with_worker in any::<bool>(),
        turns in prop::collection::vec(turns(), 1..12),
    ) {
        let mut world = begin(with_worker);
        let mut is_forgotten = false;
        for turn in turns {
            is_forgotten |= matches!(turn.deed, Deed::WipeStatus);
            arrange(&mut world, &turn);
            let before = object(&world);
            let step = world.again();
            if step == Step::Gone {
                prop_assert!(world.seen.deleting());
                prop_assert!(world.seen.abandons("worker") || is_forgotten || !has_script(&world), "a Worker is left");
                return Ok(());
            }
            let Some(outcome) = step.outcome() else { continue };
            check(&before, &world, &outcome)?;
        }
    }
}

#[test]
fn a_group_that_was_never_looked_at_because_it_is_paused_is_on_its_way() {
    for observed_generation in [None, Some(-1)] {
        let mut world = begin(false);
        world.seen.status = ServerGroupStatus { observed_generation, ..ServerGroupStatus::default() };
        let group = Arc::make_mut(&mut world.seen.group);
        group.annotations_mut().insert("roadstead.dev/paused".to_owned(), "true".to_owned());
        world.again();
        assert_eq!(verdict_on(&object(&world)), Verdict::InProgress, "{:?}", world.seen.status);
    }
}

#[test]
fn every_life_that_is_left_alone_becomes_current() {
    for with_worker in [false, true] {
        let mut world = begin(with_worker);
        assert_eq!(verdict_on(&object(&world)), Verdict::InProgress);
        let members = ["10.0.0.1", "10.0.0.2"].map(|address| member(address, MemberHealth::Healthy).1);
        world.seen.status.members = members.into();
        assert_eq!(world.again(), Step::Done);
        assert_eq!(verdict_on(&object(&world)), Verdict::Current, "{:?}", world.done);
        assert!(is_in_place(&world) && has_script(&world) == with_worker);
    }
}
