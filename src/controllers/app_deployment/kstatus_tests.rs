//! What Flux and `kubectl wait` rely on holds through every life of an AppDeployment.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::followers::Follower;
use super::plan::tests::cloud::{Cloud, host, zone};
use super::report;
use crate::api::app_deployment::{AppDeployment, AppDeploymentStatus, Domain, Publish};
use crate::api::claim::Holder;
use crate::api::condition::{self, READY};
use crate::api::kstatus::{Verdict, follows, mostly, obeys_the_rules, on_the_way, stands_still, verdict_on};
use crate::api::names::Fqdn;
use crate::dns::propagation::Confirmation;
use crate::dns::{Declared, Refusal};
use crate::host::deploy::model::{BEHAVIOURS, Behaviour, NAME, World};
use crate::outside::OutsideError;
use crate::runtime::claims::{Reservation, Role, Standing};
use crate::runtime::driver::{Outcome, Step};

/// The Nodes there are. The app begins on the first two.
const NODES: [&str; 3] = ["a", "b", "c"];

/// What somebody does to the app.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    /// The spec comes to another revision, which does this.
    Deploy(Behaviour),
    /// As that, because of a Secret: the spec is as it was.
    Roll(Behaviour),
    /// It should be on these Nodes alone.
    Move(&'static [&'static str]),
    /// It has one more name: who publishes it, and whether it redirects.
    Name(Option<(&'static str, Publish, bool)>),
    Suspend(bool),
    Maintenance(bool),
    Pause(bool),
    Rollback,
    Adopt,
    Abandon(&'static str),
    /// Its time is over.
    End,
    WipeStatus,
    Delete,
}

/// What stands in its way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    None,
    /// Nobody can tell where it should be.
    NoTarget,
    /// Its Compose file may not run.
    Refused,
    /// The first Node of its target is not ready for apps.
    Blocked,
    /// No Node answers.
    Unreachable,
    /// The Nodes that it leaves are gone.
    Lost,
    /// It has volumes.
    Volumes,
    /// A group still sends visitors to every Node.
    Follower,
    /// What it refers to, or the API server, cannot be read.
    Unreadable,
}

/// A deed, and the circumstances of the pass that follows.
#[derive(Debug, Clone)]
struct Turn {
    deed: Deed,
    trouble: Trouble,
    zone: &'static str,
    /// How names stand that are not the app's.
    others: Option<Standing>,
    answer: Declared,
    authority: Confirmation,
    read_only: bool,
    /// How many seconds after the one before.
    later: u64,
}

fn refusals() -> Vec<Refusal> {
    let (name, record_id, content) = (NAME.to_owned(), "r1".to_owned(), "192.0.2.1".to_owned());
    let (owner, cluster, kind) = ("aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), "c0".to_owned(), "A".to_owned());
    let fqdn = Fqdn::parse(NAME).unwrap();
    vec![
        Refusal::Foreign { name: fqdn, kind, content: content.clone(), record_id: record_id.clone() },
        Refusal::AdoptionRequired { name: name.clone(), owner, cluster, record_id, content },
        Refusal::Quota { used: 200, quota: 200 },
        Refusal::Rejected { name, code: "9999".into(), message: "no".into() },
    ]
}

fn deeds() -> impl Strategy<Value = Deed> {
    let names = vec![
        None,
        Some(("www.example.com", Publish::Node, false)),
        Some(("www.example.com", Publish::Node, true)),
        Some(("www.example.com", Publish::Group, false)),
        Some(("a.example.com", Publish::Node, false)),
        Some(("example.com", Publish::Node, false)),
        Some(("shop.example.net", Publish::Node, false)),
        Some(("shop.example.net", Publish::None, false)),
    ];
    let targets: Vec<&'static [&'static str]> = vec![&["a", "b"], &["b"], &["c"], &["a", "b", "c"]];
    prop_oneof![
        12 => Just(Deed::Nothing),
        3 => prop::sample::select(BEHAVIOURS.to_vec()).prop_map(Deed::Deploy),
        1 => prop::sample::select(BEHAVIOURS.to_vec()).prop_map(Deed::Roll),
        2 => prop::sample::select(targets).prop_map(Deed::Move),
        2 => prop::sample::select(names).prop_map(Deed::Name),
        1 => any::<bool>().prop_map(Deed::Suspend),
        1 => any::<bool>().prop_map(Deed::Maintenance),
        1 => any::<bool>().prop_map(Deed::Pause),
        1 => Just(Deed::Rollback),
        1 => Just(Deed::Adopt),
        1 => prop::sample::select(vec!["dns", "host", "dns, host"]).prop_map(Deed::Abandon),
        1 => Just(Deed::End),
        1 => Just(Deed::WipeStatus),
        1 => Just(Deed::Delete),
    ]
}

fn turns() -> impl Strategy<Value = Turn> {
    use Trouble::{Blocked, Follower, Lost, NoTarget, Refused, Unreachable, Unreadable, Volumes};
    let troubles = vec![NoTarget, Refused, Blocked, Unreachable, Lost, Volumes, Follower, Unreadable];
    let zones = vec!["not allowed", "unusable", "not running", "unknown servers"];
    let holder = Holder { kind: "AppDeployment".into(), name: "other".into(), uid: "u".into() };
    let until = World::new().now + SignedDuration::from_secs(20);
    let others = vec![
        Some(Standing::Taken { namespace: "blog".into(), holder }),
        Some(Standing::Reserved { namespace: "blog".into(), until }),
    ];
    let answers = std::iter::once(Declared::Pending).chain(refusals().into_iter().map(Declared::Refused));
    let answers = answers.chain(OutsideError::each("9999").map(Declared::Blocked)).collect();
    let differs = vec![Confirmation::Differs("192.0.2.1".into()), Confirmation::Unreachable("timed out".into())];
    (
        (deeds(), mostly(Trouble::None, troubles), mostly("running", zones), mostly(None, others)),
        (mostly(Declared::Applied(Vec::new()), answers), mostly(Confirmation::Confirmed, differs)),
        (mostly(false, vec![true]), prop::sample::select(vec![1, 3, 20, 61, 400])),
    )
        .prop_map(|((deed, trouble, zone, others), (answer, authority), (read_only, later))| Turn {
            deed,
            trouble,
            zone,
            others,
            answer,
            authority,
            read_only,
            later,
        })
}

fn begin() -> Cloud {
    let mut cloud = Cloud::of(&NODES);
    cloud.seen.hosts.remove("c");
    cloud.seen.status.observed_generation = Some(-1);
    // Somebody edits the status, and the deploy's own rules are none for that.
    cloud.strict = false;
    cloud
}

fn object(cloud: &Cloud) -> AppDeployment {
    AppDeployment { status: Some(cloud.seen.status.clone()), ..(*cloud.seen.app).clone() }
}

fn respec(cloud: &mut Cloud, change: impl FnOnce(&mut crate::api::app_deployment::AppDeploymentSpec)) {
    let app = cloud.app();
    change(&mut app.spec);
    app.metadata.generation = app.metadata.generation.map(|generation| generation + 1);
}

fn act(cloud: &mut Cloud, deed: Deed) {
    let now = cloud.now;
    let next = || format!("r{}", 2 + cloud.worlds["a"].behaviours.len());
    match deed {
        Deed::Nothing => {}
        Deed::Deploy(behaviour) => {
            let next = next();
            cloud.want(&next, behaviour);
        }
        Deed::Roll(behaviour) => {
            let next = next();
            let generation = cloud.seen.app.metadata.generation;
            cloud.want(&next, behaviour);
            cloud.app().metadata.generation = generation;
        }
        Deed::Move(targets) => {
            for (number, name) in (1..).zip(NODES) {
                if targets.contains(&name) {
                    cloud.seen.hosts.entry(name.to_owned()).or_insert_with(|| host(name, number)).target = true;
                } else if let Some(host) = cloud.seen.hosts.get_mut(name) {
                    host.target = false;
                }
            }
            respec(cloud, |_| {});
            cloud.sync();
        }
        Deed::Name(more) => respec(cloud, |spec| {
            spec.domains.truncate(1);
            spec.domains.extend(more.map(|(name, publish, redirects)| Domain {
                name: name.into(),
                publish,
                redirect_to: redirects.then(|| NAME.to_owned()),
                ..Domain::default()
            }));
        }),
        Deed::Suspend(suspend) => respec(cloud, |spec| spec.suspend = suspend),
        Deed::Maintenance(maintenance) => respec(cloud, |spec| spec.maintenance = maintenance),
        Deed::Pause(paused) => cloud.annotate("paused", if paused { "true" } else { "false" }),
        Deed::Rollback => cloud.annotate("rollback", "r1"),
        Deed::Adopt => cloud.annotate("adopt", "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        Deed::Abandon(halves) => cloud.annotate("abandon", halves),
        Deed::End => {
            cloud.app().metadata.creation_timestamp = Some(Time(now - SignedDuration::from_hours(2)));
            respec(cloud, |spec| spec.lifetime = Some("1h".into()));
        }
        Deed::WipeStatus => {
            cloud.seen.status = AppDeploymentStatus::default();
            cloud.sync();
        }
        Deed::Delete if cloud.seen.deleting() => {}
        Deed::Delete => {
            respec(cloud, |_| {});
            cloud.app().metadata.deletion_timestamp = Some(condition::whole_seconds(now));
        }
    }
}

fn arrange(cloud: &mut Cloud, turn: &Turn) {
    cloud.later(Duration::from_secs(turn.later));
    act(cloud, turn.deed);
    let mut zone = zone();
    (zone.allowed, zone.running) = (turn.zone != "not allowed", turn.zone != "not running");
    zone.unusable = (turn.zone == "unusable").then(|| "Zone example-com: TokenRejected".to_owned());
    if turn.zone == "unknown servers" {
        zone.authority.clear();
    }
    cloud.seen.zones = vec![zone];
    for name in cloud.seen.names() {
        for role in [Role::Dns, Role::Http] {
            let standing =
                cloud.seen.standings.entry((Reservation::of_name(&name).name, role)).or_insert(Standing::Free);
            if *standing != Standing::Ours {
                *standing = turn.others.clone().unwrap_or(Standing::Free);
            }
        }
    }
    (cloud.answer, cloud.authority) = (turn.answer.clone(), turn.authority.clone());
    cloud.seen.read_only = turn.read_only;
    let is = |trouble| turn.trouble == trouble;
    cloud.seen.no_target = is(Trouble::NoTarget).then(|| ("NodeNotFound", "there is no such Node".to_owned()));
    cloud.refused = is(Trouble::Refused).then(|| ("ComposeRefused", "service web: no port".to_owned()));
    cloud.unreachable = is(Trouble::Unreachable).then(|| "connection timed out".to_owned());
    cloud.volumes = if is(Trouble::Volumes) { ["data".to_owned()].into() } else { BTreeSet::new() };
    let nodes = NODES.map(str::to_owned).into();
    let follower = Follower { group: "web".into(), nodes, ttl: 60 };
    cloud.seen.followers = is(Trouble::Follower).then_some(follower).into_iter().collect();
    for (number, name) in (1..).zip(NODES) {
        let Some(known) = cloud.seen.hosts.get_mut(name) else { continue };
        let usual = host(name, number);
        (known.node, known.blocked, known.address) = (usual.node, None, usual.address);
    }
    if let Some(first) = cloud.seen.hosts.values_mut().find(|host| host.target) {
        first.blocked = is(Trouble::Blocked).then(|| ("NodeNotReady", "Node a is not ready for apps".to_owned()));
    }
    let ends = cloud.seen.deleting();
    for host in cloud.seen.hosts.values_mut().filter(|host| is(Trouble::Lost) && (ends || !host.target)) {
        (host.node, host.address) = (None, None);
    }
}

/// One pass, or what comes of one that sees nothing; how it ended, if with a report.
fn pass(cloud: &mut Cloud, turn: &Turn) -> Option<Outcome> {
    cloud.told.clear();
    if turn.trouble != Trouble::Unreadable || cloud.seen.annotation("paused") == Some("true") {
        cloud.pass();
        return cloud.ended.clone();
    }
    let outcome = Outcome::Failed { reason: "KubernetesAPI", message: "no answer".into() };
    cloud.facts = super::plan::Facts::default();
    cloud.end(outcome);
    cloud.ended.clone()
}

/// Whether the wanted revision is live on every target and on nothing else, and every name is the app's and leads there, as
/// far as anybody can know.
fn is_in_place(cloud: &Cloud) -> bool {
    let seen = &cloud.seen;
    if super::plan::expired(seen, cloud.now) {
        return seen.status.nodes.is_empty() && seen.status.domains.is_empty();
    }
    let wanted = seen.status.current_revision.as_ref().map(|revision| revision.name.as_str());
    let is_live = |host: &super::observe::HostView| {
        host.journal.coming.is_none() && host.journal.live.as_ref().map(|live| live.revision.as_str()) == wanted
    };
    let mut hosts = seen.hosts.values();
    let addresses: BTreeSet<_> = seen.hosts.values().filter_map(|host| Some(host.address?.to_string())).collect();
    let leads = |domain: &Domain| {
        let claim = |role| (Reservation::of_name(&Fqdn::parse(&domain.name).unwrap()).name, role);
        let ours = |role| seen.standings.get(&claim(role)) == Some(&Standing::Ours);
        let known = seen.status.domains.iter().find(|known| known.name == domain.name);
        let published = known.is_some_and(|known| known.zone.is_some());
        let right = known.is_some_and(|known| known.addresses.iter().all(|address| addresses.contains(address)));
        known.is_some() && ours(Role::Http) && (!published || ours(Role::Dns)) && right
    };
    let all_targets = seen.hosts.values().any(|host| host.target) && hosts.all(|host| host.target && is_live(host));
    wanted.is_some() && all_targets && seen.app.spec.domains.iter().all(leads)
}

fn check(before: &AppDeployment, cloud: &Cloud, outcome: &Outcome) -> TestCaseResult {
    let after = object(cloud);
    let status = |app: &AppDeployment| app.status.clone().unwrap_or_default();
    let told = cloud.told.iter();
    on_the_way(before, told.map(|status| AppDeployment { status: Some(status.clone()), ..after.clone() }))?;
    if cloud.seen.annotation("paused") == Some("true") {
        stands_still(before, &after)?;
        return obeys_the_rules(&after);
    }
    // What steps on the way have said stands as well.
    let stood = AppDeployment { status: cloud.told.last().cloned().or(before.status.clone()), ..after.clone() };
    follows(&stood, &after, outcome.is_a_failed_look(), is_in_place(cloud))?;
    let phase = status(&after).phase.unwrap_or_default();
    if cloud.seen.deleting() {
        prop_assert_eq!(&phase, "Deleting");
    }
    let is_over = super::plan::expired(&cloud.seen, cloud.now);
    prop_assert!(phase != "Expired" || is_over, "it is not over");
    if *outcome == Outcome::Done {
        prop_assert_eq!(phase.as_str(), if is_over { "Expired" } else { "Active" });
    }
    let later = cloud.now + SignedDuration::from_secs(1);
    prop_assert_eq!(&report::status(&cloud.seen, &cloud.facts, outcome, later), &cloud.seen.status);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_report_of_every_life_obeys_the_rules(turns in prop::collection::vec(turns(), 1..12)) {
        let mut cloud = begin();
        for turn in turns {
            arrange(&mut cloud, &turn);
            let before = object(&cloud);
            match pass(&mut cloud, &turn) {
                Some(outcome) => check(&before, &cloud, &outcome)?,
                None if cloud.gone => {
                    prop_assert!(cloud.seen.deleting());
                    return Ok(());
                }
                None => {}
            }
        }
    }
}

#[test]
fn an_app_that_was_never_looked_at_because_it_is_paused_is_on_its_way() {
    for observed_generation in [None, Some(-1)] {
        let mut cloud = begin();
        cloud.seen.status = AppDeploymentStatus { observed_generation, ..AppDeploymentStatus::default() };
        cloud.annotate("paused", "true");
        cloud.pass();
        assert_eq!(verdict_on(&object(&cloud)), Verdict::InProgress, "{:?}", cloud.seen.status);
    }
}

#[test]
fn every_life_that_is_left_alone_becomes_current_and_a_refused_revision_fails_it() {
    let mut cloud = begin();
    assert_eq!(verdict_on(&object(&cloud)), Verdict::InProgress);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(verdict_on(&object(&cloud)), Verdict::Current, "{:?}", cloud.seen.status);
    assert!(is_in_place(&cloud));
    cloud.want("r2", Behaviour::CrashLoops);
    assert_eq!(verdict_on(&object(&cloud)), Verdict::InProgress, "a new spec is never taken for done");
    assert!(matches!(cloud.run(), Step::Stop { .. }));
    assert_eq!(verdict_on(&object(&cloud)), Verdict::Failed);
    assert!(!is_in_place(&cloud) && !condition::is_true(&cloud.seen.status.conditions, READY));
    cloud.want("r3", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(verdict_on(&object(&cloud)), Verdict::Current);
}
