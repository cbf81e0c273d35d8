//! What Flux and `kubectl wait` rely on holds through every life of a ServerGroup.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::observe::ZoneView;
use super::plan::tests::{World, at, member};
use super::plan::{GroupStep, names};
use super::publish::records;
use super::report;
use crate::api::claim::Holder;
use crate::api::condition::{self, READY};
use crate::api::kstatus::{Verdict, follows, mostly, obeys_the_rules, verdict_on};
use crate::api::names::Fqdn;
use crate::api::server_group::{AddressName, MemberHealth, ServerGroup, ServerGroupStatus};
use crate::dns::{Checked, Declared, Refusal};
use crate::outside::OutsideError;
use crate::runtime::claims::{Reservation, Standing};
use crate::runtime::driver::{Outcome, Step};

/// What somebody does to the group.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Address(Option<&'static str>),
    List(bool),
    Pause(bool),
    Adopt,
    Abandon,
    WipeStatus,
    Delete,
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
        Deed::Abandon,
        Deed::WipeStatus,
        Deed::Delete,
    ];
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
    )
        .prop_map(|((deed, zone, others), (there, answer), (health, isolated, read_only))| Turn {
            deed,
            zone,
            others,
            there,
            answer,
            health,
            isolated,
            read_only,
        })
}

fn begin() -> World {
    let mut world =
        World::with(&[member("10.0.0.1", MemberHealth::Pending), member("10.0.0.2", MemberHealth::Pending)]);
    world.seen.status = ServerGroupStatus { observed_generation: Some(-1), ..ServerGroupStatus::default() };
    world
}

fn object(world: &World) -> ServerGroup {
    ServerGroup { status: Some(world.seen.status.clone()), ..(*world.seen.group).clone() }
}

fn arrange(world: &mut World, turn: &Turn) {
    let group = Arc::make_mut(&mut world.seen.group);
    let mut annotate = |name: &str, value: &str| {
        group.annotations_mut().insert(format!("roadstead.dev/{name}"), value.to_owned());
    };
    match turn.deed {
        Deed::Nothing => {}
        Deed::Pause(paused) => annotate("paused", if paused { "true" } else { "false" }),
        Deed::Adopt => annotate("adopt", "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        Deed::Abandon => annotate("abandon", "dns"),
        Deed::WipeStatus => world.seen.status = ServerGroupStatus::default(),
        Deed::Delete if group.metadata.deletion_timestamp.is_some() => {}
        Deed::Address(_) | Deed::List(_) | Deed::Delete => {
            *group.metadata.generation.as_mut().unwrap() += 1;
            match turn.deed {
                Deed::Address(hostname) => {
                    group.spec.dns.a = hostname.map(|hostname| AddressName { hostname: hostname.into() });
                }
                Deed::List(listed) => group.spec.dns.txt = listed,
                _ => group.metadata.deletion_timestamp = Some(Time(at(0))),
            }
        }
    }
    let domain = (turn.zone != "no domain").then(|| Fqdn::parse("example.com").unwrap());
    let (allowed, running) = (turn.zone != "not allowed", turn.zone != "not running");
    let unusable = (turn.zone == "unusable").then(|| "Zone example-com: TokenRejected".to_owned());
    let zone = ZoneView { domain, allowed, allow_apex: false, running, unusable, workers: None };
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

/// How a pass ended, if with a report.
fn outcome(step: GroupStep) -> Option<Outcome> {
    match step {
        Step::Done => Some(Outcome::Done),
        Step::Wait(wait) => Some(Outcome::Waiting(wait)),
        Step::Stop { reason, message } => Some(Outcome::Stopped { reason, message }),
        _ => None,
    }
}

/// Whether every name is the group's, and the zone has what follows from the servers' health.
fn is_in_place(world: &World) -> bool {
    let Ok(names) = names(&world.seen) else { return false };
    let hosts = [&names.txt, &names.a].into_iter().flatten().map(Reservation::of_name);
    let ours = |reservation: Reservation| world.seen.standings.get(&reservation.name) == Some(&Standing::Ours);
    let wanted = records(&names, world.seen.group.spec.strategy, &world.seen.selection);
    let applied = matches!(&world.facts.declared, Some((declared, Declared::Applied(_))) if *declared == wanted);
    std::iter::once(Reservation::of_slug(&names.slug)).chain(hosts).all(ours) && applied
}

fn check(before: &ServerGroup, world: &World, outcome: &Outcome) -> TestCaseResult {
    let after = object(world);
    let status = |group: &ServerGroup| group.status.clone().unwrap_or_default();
    if world.seen.annotation("paused") == Some("true") {
        let ready = |group: &ServerGroup| condition::get(&status(group).conditions, READY).cloned();
        prop_assert_eq!(status(&after).observed_generation, status(before).observed_generation);
        prop_assert!(ready(before).is_none() || ready(before) == ready(&after));
        let was_current = verdict_on(before) == Verdict::Current;
        prop_assert!(was_current || verdict_on(&after) != Verdict::Current, "a pause makes nothing current");
        return obeys_the_rules(&after);
    }
    follows(before, &after, outcome.is_a_failed_look(), is_in_place(world))?;
    if world.seen.deleting() {
        prop_assert_eq!(&status(&after).phase.unwrap_or_default(), "Deleting");
    }
    let later: Timestamp = at(10) + SignedDuration::from_hours(1);
    prop_assert_eq!(&report::status(&world.seen, &world.facts, outcome, later), &world.seen.status);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_report_of_every_life_obeys_the_rules(turns in prop::collection::vec(turns(), 1..12)) {
        let mut world = begin();
        for turn in turns {
            arrange(&mut world, &turn);
            let before = object(&world);
            let step = world.again();
            if step == Step::Gone {
                prop_assert!(world.seen.deleting());
                return Ok(());
            }
            let Some(outcome) = outcome(step) else { continue };
            check(&before, &world, &outcome)?;
        }
    }
}

#[test]
fn a_group_that_was_never_looked_at_because_it_is_paused_is_on_its_way() {
    for observed_generation in [None, Some(-1)] {
        let mut world = begin();
        world.seen.status = ServerGroupStatus { observed_generation, ..ServerGroupStatus::default() };
        let group = Arc::make_mut(&mut world.seen.group);
        group.annotations_mut().insert("roadstead.dev/paused".to_owned(), "true".to_owned());
        world.again();
        assert_eq!(verdict_on(&object(&world)), Verdict::InProgress, "{:?}", world.seen.status);
    }
}

#[test]
fn every_life_that_is_left_alone_becomes_current() {
    let mut world = begin();
    assert_eq!(verdict_on(&object(&world)), Verdict::InProgress);
    assert_eq!(world.again(), Step::Done);
    assert_eq!(verdict_on(&object(&world)), Verdict::Current, "{:?}", world.done);
    assert!(is_in_place(&world));
}
