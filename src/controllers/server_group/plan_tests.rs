use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::super::observe::ZoneView;
use super::super::publish::select;
use super::super::roster::Roster;
use super::super::txt::NOBODY;
use super::super::worker::fake::Cloud;
use super::super::worker::{Failure, Sight};
use super::*;
use crate::api::claim::Holder;
use crate::api::condition::{self, READY, STALLED};
use crate::api::names::{ClusterId, Mark};
use crate::api::node::Node;
use crate::api::refs::ClusterRef;
use crate::api::server_group::{
    AddressName, Member, MemberHealth, MemberStatus, Origin, ServerGroup, ServerGroupSpec, SourceStatus, TxtStatus,
};
use crate::dns::Content;
use crate::outside::OutsideError;
use crate::runtime::claims::Claimant;

const UID: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
pub const LIST: &str = "_wrap.web.example.com";

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub fn member(address: &str, health: MemberHealth) -> (Member, MemberStatus) {
    let scheme = crate::api::probe::Scheme::Https;
    let listed = Member { address: address.into(), port: None, scheme, priority: 100, weight: 1, disabled: false };
    let healthy = health == MemberHealth::Healthy;
    let status = MemberStatus {
        id: address.into(),
        origin: Origin::Listed,
        node: None,
        asked: None,
        health,
        source: None,
        reason: "R".into(),
        message: None,
        added: None,
        since: Time(at(0)),
        healthy_until: (!healthy).then(|| Time(at(0))),
        probe: Some(SourceStatus { healthy, reason: "R".into(), since: Time(at(0)) }),
        report: None,
    };
    (listed, status)
}

/// The published list.
pub fn list(content: &str) -> TxtStatus {
    TxtStatus { name: LIST.into(), content: content.into(), ttl: 60 }
}

/// A small world in which the plan is carried out as the driver would.
pub struct World {
    pub seen: Observed,
    pub facts: Facts,
    /// The Nodes there are.
    pub nodes: Vec<Node>,
    /// The second it is.
    pub second: i64,
    /// What is at Cloudflare beside records.
    pub cloud: Cloud,
    /// What the zone's writer says of the name.
    pub there: Checked,
    /// What it answers to a declaration.
    pub answer: Declared,
    pub done: Vec<String>,
}

impl World {
    /// The group `shop/web` with the given slug `web` and these servers, in a Zone that runs.
    pub fn with(members: &[(Member, MemberStatus)]) -> Self {
        let spec = ServerGroupSpec {
            zone_ref: ClusterRef { name: "example-com".into() },
            slug: Some("web".into()),
            members: members.iter().map(|(member, _)| member.clone()).collect(),
            ..ServerGroupSpec::default()
        };
        let mut group = ServerGroup::new("web", spec);
        (group.metadata.namespace, group.metadata.uid) = (Some("shop".into()), Some(UID.into()));
        group.metadata.generation = Some(1);
        let status = ServerGroupStatus {
            members: members.iter().map(|(_, status)| status.clone()).collect(),
            ..Default::default()
        };
        let holder = Holder { kind: "ServerGroup".into(), name: "web".into(), uid: UID.into() };
        let zone = ZoneView {
            domain: Fqdn::parse("example.com").ok(),
            allowed: true,
            allow_apex: false,
            running: true,
            unusable: None,
            workers: None,
        };
        let seen = Observed {
            mark: Mark::new(ClusterId::parse("c1").unwrap(), "ServerGroup", "shop", "web", UID).unwrap(),
            claimant: Claimant { namespace: "shop".into(), holder },
            zone: Some(zone),
            serving: None,
            roster: Roster::default(),
            selection: super::super::publish::Selection::default(),
            standings: BTreeMap::new(),
            worker: None,
            isolated: false,
            read_only: false,
            resync: Duration::from_secs(300),
            group: Arc::new(group),
            status,
        };
        let (there, answer) = (Checked::Free, Declared::Applied(Vec::new()));
        Self {
            seen,
            facts: Facts::default(),
            nodes: Vec::new(),
            second: 10,
            cloud: Cloud::default(),
            there,
            answer,
            done: Vec::new(),
        }
    }

    pub fn spec(mut self, change: impl FnOnce(&mut ServerGroupSpec)) -> Self {
        change(&mut Arc::make_mut(&mut self.seen.group).spec);
        self
    }

    pub fn annotated(mut self, name: &str, value: &str) -> Self {
        let group = Arc::make_mut(&mut self.seen.group);
        group.annotations_mut().insert(format!("roadstead.dev/{name}"), value.into());
        self
    }

    pub fn deleted(mut self) -> Self {
        Arc::make_mut(&mut self.seen.group).metadata.deletion_timestamp = Some(Time(at(0)));
        self
    }

    pub fn claims(mut self, name: &str, standing: Standing) -> Self {
        self.seen.standings.insert(name.into(), standing);
        self
    }

    /// One pass; how it ended.
    pub fn pass(&mut self) -> GroupStep {
        for _ in 0..32 {
            let group = ServerGroup { status: Some(self.seen.status.clone()), ..(*self.seen.group).clone() };
            self.seen.roster = Roster::of(&group, &self.nodes, self.seen.serving.as_ref());
            self.seen.selection = select(&self.seen.group.spec, &self.seen.roster, &self.seen.status.members);
            match plan(&self.seen, &self.facts, at(self.second)) {
                Step::Do(action) => self.act(action),
                Step::Record(status) => {
                    self.done.push("record".into());
                    self.seen.status = *status;
                }
                end => {
                    let Some(outcome) = end.clone().outcome() else { return end };
                    self.seen.status = report::status(&self.seen, &self.facts, &outcome, at(self.second));
                    return end;
                }
            }
        }
        panic!("the plan did not come to an end: {:?}", self.done);
    }

    pub fn again(&mut self) -> GroupStep {
        (self.facts, self.done) = (Facts::default(), Vec::new());
        self.pass()
    }

    fn act(&mut self, action: Action) {
        let said = match action {
            Action::Claim(reservation) => {
                let standing = self.seen.standings.entry(reservation.name.clone()).or_insert(Standing::Ours);
                if *standing == Standing::Free {
                    *standing = Standing::Ours;
                }
                self.facts.claimed.insert(reservation.name.clone(), standing.clone());
                format!("claim {}", reservation.name)
            }
            Action::Release(reservation, until) => {
                self.facts.released.push(reservation.name.clone());
                self.seen.standings.remove(&reservation.name);
                let until = until.map(|until| format!(" for {}", until.duration_since(at(self.second)).as_secs()));
                format!("release {}{}", reservation.name, until.unwrap_or_default())
            }
            Action::Enroll => {
                self.facts.enrolled = true;
                "enroll".into()
            }
            Action::Dismiss => {
                self.facts.enrolled = true;
                "dismiss".into()
            }
            Action::CheckName(name) => {
                self.facts.checked = Some(self.there.clone());
                format!("check {name}")
            }
            Action::Declare(records) => {
                let text: Vec<_> = records.iter().map(|r| format!("{}={}", r.name, r.content)).collect();
                self.facts.declared = Some((records, self.answer.clone()));
                format!("declare {}", text.join(" "))
            }
            Action::AdoptRecords(owner) => {
                (self.facts.adopted, self.facts.declared) = (true, None);
                format!("adopt {owner}")
            }
            Action::SayAbandoned(half) => {
                self.facts.said.insert(half);
                format!("say {half} abandoned")
            }
            Action::Worker(script, call) => {
                let said = format!("worker {} {}", script.name, Cloud::word(&call));
                let known = self.seen.worker.take().filter(|sight| sight.script == script);
                let mut sight = known.unwrap_or_else(|| Sight::of(script.clone()));
                let now = at(self.second);
                match self.cloud.call(&script, &call) {
                    Ok(answer) => sight.answered(&call, answer, now),
                    Err(error) => {
                        let generation = self.seen.group.metadata.generation;
                        let version = Some("1".to_owned());
                        sight.failed(Failure { error, at: now, generation, version, jitter: 0.0 });
                    }
                }
                self.seen.worker = Some(sight);
                said
            }
        };
        self.done.push(said);
    }

    pub fn ready(&self) -> (String, String, String) {
        let ready = condition::get(&self.seen.status.conditions, READY).unwrap();
        (ready.status.clone(), ready.reason.clone(), ready.message.clone())
    }

    pub fn holds(&self, type_: &str) -> bool {
        condition::is_true(&self.seen.status.conditions, type_)
    }
}

pub fn stopped(step: &GroupStep) -> (&'static str, String) {
    match step {
        Step::Stop { reason, message } => (reason, message.clone()),
        other => panic!("{other:?}"),
    }
}

pub fn waits(step: &GroupStep) -> &'static str {
    match step {
        Step::Wait(wait) => wait.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_group_claims_its_names_enrolls_its_servers_and_says_that_nobody_is_healthy() {
    let (listed, _) = member("10.0.0.1", MemberHealth::Pending);
    let mut world = World::with(&[]).spec(|spec| spec.members.push(listed));
    assert_eq!(world.pass(), Step::Done);
    let expected = [
        "claim rs--slug.web".to_owned(),
        "claim rs--u-wrap.web.example.com".to_owned(),
        "enroll".to_owned(),
        format!("check {LIST}"),
        "record".to_owned(),
        format!("declare {LIST}={NOBODY}"),
    ];
    assert_eq!(world.done, expected);
    assert_eq!(world.ready().1, "NoHealthyServers");
    assert_eq!(world.seen.status.slug.as_deref(), Some("web"));
    assert_eq!(world.seen.status.txt, Some(list(NOBODY)));
    let before = world.seen.status.clone();
    assert_eq!(world.again(), Step::Done);
    assert_eq!(world.seen.status, before, "an unchanged state costs no write");
}

#[test]
fn what_the_status_calls_healthy_is_published_and_an_outage_of_all_freezes_it() {
    let mut world =
        World::with(&[member("10.0.0.1", MemberHealth::Healthy), member("10.0.0.2", MemberHealth::Unhealthy)]);
    assert_eq!(world.pass(), Step::Done);
    assert_eq!(world.ready(), ("True".into(), "Ready".into(), format!("{LIST} names the healthy servers")));
    assert_eq!(world.seen.status.txt.as_ref().unwrap().content, "10.0.0.1");
    world.seen.status.members = [member("10.0.0.1", MemberHealth::Unhealthy).1].into();
    assert_eq!(world.again(), Step::Done);
    assert_eq!(world.seen.status.txt.as_ref().unwrap().content, "10.0.0.1");
    assert!(world.holds(report::FROZEN) && world.ready().1 == "Frozen");
    world.seen.status.members = [member("10.0.0.1", MemberHealth::Healthy).1].into();
    world.again();
    assert!(!world.holds(report::FROZEN));
}

#[test]
fn a_status_that_was_lost_takes_nobody_off_the_list_before_each_server_was_probed() {
    let (a, b) = (member("10.0.0.1", MemberHealth::Healthy), member("10.0.0.2", MemberHealth::Healthy));
    let mut world = World::with(&[a.clone(), b.clone()]);
    world.there = Checked::Own(Vec::new());
    for known in [vec![], vec![a.1.clone()]] {
        world.seen.status.members = known;
        assert_eq!(waits(&world.again()), "Probing");
        assert!(!world.done.iter().any(|done| done.starts_with("declare")), "{:?}", world.done);
    }
    world.seen.status.members = vec![a.1, b.1];
    assert_eq!(world.again(), Step::Done);
    assert!(world.done.contains(&format!("declare {LIST}=10.0.0.1,10.0.0.2")), "{:?}", world.done);
}

#[test]
fn a_taken_slug_that_was_given_stalls_and_a_derived_one_gives_way() {
    let taken = || {
        let holder = Holder { kind: "ServerGroup".into(), name: "other".into(), uid: "u".into() };
        Standing::Taken { namespace: "blog".into(), holder }
    };
    let mut given = World::with(&[]).claims("rs--slug.web", taken());
    let (reason, message) = stopped(&given.pass());
    assert_eq!(reason, "SlugTaken");
    assert!(message.contains("ServerGroup blog/other") && message.contains("rs--slug.web"), "{message}");
    assert!(given.holds(STALLED));

    let mut derived = World::with(&[]).spec(|spec| spec.slug = None);
    let (first, second) = (derived.seen.derived(0), derived.seen.derived(1));
    derived = derived.claims(&format!("rs--slug.{first}"), taken());
    assert_eq!(derived.pass(), Step::Done);
    assert_eq!(derived.seen.status.slug, Some(second.clone()));
    assert_eq!(derived.seen.collisions(), 1);
    assert!(derived.done.contains(&format!("claim rs--slug.{second}")), "{:?}", derived.done);
}

#[test]
fn what_cannot_be_published_says_why_and_names_the_field() {
    let zone = |change: fn(&mut ZoneView)| {
        let mut world = World::with(&[]);
        change(world.seen.zone.as_mut().unwrap());
        world
    };
    assert_eq!(stopped(&zone(|zone| zone.allowed = false).pass()).0, "NamespaceNotAllowed");
    assert_eq!(waits(&zone(|zone| zone.running = false).pass()), "Starting");
    assert_eq!(waits(&zone(|zone| zone.unusable = Some("no".into())).pass()), "ZoneNotReady");
    let mut none = World::with(&[]);
    none.seen.zone = None;
    assert_eq!(waits(&none.pass()), "ZoneNotFound");
    let named = |hostname: &str| {
        let a = Some(AddressName { hostname: hostname.into() });
        World::with(&[]).spec(|spec| spec.dns.a = a).pass()
    };
    let (reason, message) = stopped(&named("@"));
    assert!(reason == "ApexNotAllowed" && message.contains("spec.dns.a.hostname"), "{message}");
    let (reason, message) = stopped(&named(&"a".repeat(64)));
    assert!(reason == "InvalidHostname" && message.contains("spec.dns.a.hostname"), "{message}");
    let long = ["a".repeat(62), "b".repeat(62), "c".repeat(62), "d".repeat(62)].join(".");
    let mut world = World::with(&[]);
    world.seen.zone.as_mut().unwrap().domain = Fqdn::parse(&long).ok();
    let (reason, message) = stopped(&world.pass());
    assert!(reason == "InvalidSlug" && message.starts_with("spec.slug: _wrap.web.aaa"), "{message}");
}

#[test]
fn servers_are_probed_even_while_the_zone_cannot_be_written() {
    let mut world = World::with(&[member("10.0.0.1", MemberHealth::Healthy)]);
    world.seen.zone.as_mut().unwrap().running = false;
    world.pass();
    assert!(world.done.contains(&"enroll".to_owned()), "{:?}", world.done);
}

#[test]
fn a_foreign_record_stalls_and_an_api_that_is_down_keeps_ready() {
    let mut world = World::with(&[member("10.0.0.1", MemberHealth::Healthy)]);
    world.pass();
    world.answer = Declared::Blocked(OutsideError::Unavailable("down".into()));
    assert_eq!(waits(&world.again()), "Unavailable");
    assert_eq!(world.ready().1, "Ready");
    world.answer = Declared::Blocked(OutsideError::Forbidden("not now".into()));
    assert_eq!(waits(&world.again()), "PermissionMissing");
    world.seen.read_only = true;
    assert_eq!(waits(&world.again()), "ReadOnly");
    let name = Fqdn::parse(LIST).unwrap();
    let (kind, content) = ("TXT".to_owned(), "mine".to_owned());
    world.answer = Declared::Refused(Refusal::Foreign { name, kind, content, record_id: "r1".into() });
    let (reason, message) = stopped(&world.again());
    assert!(reason == "ForeignRecord" && message.contains("mine"), "{message}");
    assert_eq!((world.ready().0.as_str(), &world.seen.status.txt), ("False", &None));
}

#[test]
fn an_earlier_objects_records_are_taken_over_by_annotation_only() {
    let refusal = Refusal::AdoptionRequired {
        name: LIST.into(),
        owner: "abc".into(),
        cluster: "c1".into(),
        record_id: "r1".into(),
        content: "x".into(),
    };
    let mut world = World::with(&[]);
    world.answer = Declared::Refused(refusal);
    assert_eq!(stopped(&world.pass()).0, "AdoptionRequired");
    world = world.annotated("adopt", "abc");
    assert_eq!(waits(&world.again()), "Adopting");
    assert!(world.done.contains(&"adopt abc".to_owned()), "{:?}", world.done);
}

#[test]
fn a_paused_group_is_left_alone_and_a_back_off_is_honoured() {
    let mut world = World::with(&[]);
    world.pass();
    world = world.annotated("paused", "true");
    assert_eq!(waits(&world.again()), "Paused");
    assert_eq!((world.done.len(), world.ready().0.as_str()), (0, "True"));
    assert!(world.holds("Paused"));

    let mut failing = World::with(&[]);
    failing.pass();
    let journal = failing.seen.status.journal.get_or_insert_default();
    journal.not_before = Some(Time(at(40)));
    assert_eq!(failing.again(), Step::Hold(Duration::from_secs(30)));
    Arc::make_mut(&mut failing.seen.group).metadata.generation = Some(2);
    assert_eq!(failing.again(), Step::Done, "a new generation ends it");
}

#[test]
fn isolation_and_a_list_that_is_too_long_are_said_as_long_as_they_last() {
    let many: Vec<_> = (0..250).map(|n| member(&format!("10.100.100.{n}"), MemberHealth::Healthy)).collect();
    let mut world = World::with(&many);
    world.seen.isolated = true;
    assert_eq!(world.pass(), Step::Done);
    assert!(world.holds(report::TRUNCATED) && world.holds(report::ISOLATED));
    let content = world.seen.status.txt.clone().unwrap().content;
    assert!(content.len() <= crate::dns::record::TXT_MAX, "{}", content.len());
    let declared = &world.facts.declared.as_ref().unwrap().0;
    assert!(matches!(&declared[0].content, Content::Txt(text) if *text == content));
    world.seen.isolated = false;
    world.seen.status.members.truncate(3);
    world.again();
    assert!(!world.holds(report::TRUNCATED) && !world.holds(report::ISOLATED));
}
