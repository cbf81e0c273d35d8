use std::sync::Arc;
use std::time::Duration;

use super::report::WORKER_READY;
use super::target::{address, label};
use super::*;
use crate::api::condition;
use crate::api::server_group::{MemberHealth, ServerGroupSpec};
use crate::api::slb::{SlbStatus, WorkerMode};
use crate::controllers::credential::tests::text;
use crate::controllers::server_group::plan::tests::{World, at, member, stopped, waits};
use crate::dns::{Declared, Refusal};
use crate::runtime::claims::Standing;
use crate::runtime::driver::Step;
use crate::slb::wire::Binding;

const ADDRESS: &str = "203.0.113.7";
const NAME: &str = "203-0-113-7.web.example.com";

fn terms() -> Terms {
    Terms {
        allowed: true,
        account: Some("a1".into()),
        zone_id: Some("z1".into()),
        prefix: None,
        secret: "workers".into(),
        credential: Credential::Ok { version: "1".into(), token: text("token") },
    }
}

fn slb(fields: serde_json::Value) -> Slb {
    let serde_json::Value::Object(mut fields) = fields else { panic!("{fields}") };
    fields.insert("workerName".to_owned(), "lb".into());
    serde_json::from_value(fields.into()).unwrap()
}

/// The group `shop/web` over these servers, with a Worker `lb`.
fn world(members: &[(&str, MemberHealth)], fields: serde_json::Value) -> World {
    let members: Vec<_> = members.iter().map(|(address, health)| member(address, *health)).collect();
    let mut world = World::with(&members).spec(|spec| spec.slb = Some(slb(fields)));
    world.seen.zone.as_mut().unwrap().workers = Some(terms());
    world
}

fn healthy(fields: serde_json::Value) -> World {
    world(&[("a.example.net", MemberHealth::Healthy), ("b.example.net", MemberHealth::Healthy)], fields)
}

fn change(world: World, change: impl FnOnce(&mut ServerGroupSpec)) -> World {
    let mut world = world.spec(change);
    let group = Arc::make_mut(&mut world.seen.group);
    group.metadata.generation = group.metadata.generation.map(|generation| generation + 1);
    world
}

fn sickens(world: &mut World, index: usize) {
    world.seen.status.members[index].health = MemberHealth::Unhealthy;
}

fn origins(world: &World) -> Option<&str> {
    world.cloud.scripts.get("lb")?.text("ORIGINS")
}

/// What was done for the Worker.
fn of_worker(world: &World) -> Vec<&str> {
    world.done.iter().filter_map(|done| done.strip_prefix("worker lb ")).collect()
}

fn said(world: &World) -> (String, String) {
    let said = condition::get(&world.seen.status.conditions, WORKER_READY).unwrap();
    (said.status.clone(), said.reason.clone())
}

fn yes(reason: &str) -> (String, String) {
    ("True".to_owned(), reason.to_owned())
}

fn no(reason: &str) -> (String, String) {
    ("False".to_owned(), reason.to_owned())
}

#[test]
fn a_worker_is_noted_and_claimed_before_it_is_made_and_its_place_comes_last() {
    let mut world = healthy(serde_json::json!({"route": "shop.example.com/*"}));
    assert_eq!(world.pass(), Step::Done);
    let position = |what: &str| world.done.iter().position(|done| done == what).unwrap_or_else(|| panic!("{what}"));
    let records = world.done.iter().position(|done| done.starts_with("declare")).unwrap();
    assert!(records < position("claim rs--worker.a1.lb"), "the list comes first: {:?}", world.done);
    assert_eq!(world.done[position("claim rs--worker.a1.lb") - 1], "record");
    assert_eq!(of_worker(&world), ["look", "upload", "look", "look around", "place", "look around"]);
    assert_eq!(origins(&world), Some("https://a.example.net,https://b.example.net"));
    assert_eq!(world.cloud.places.routes[0].1.pattern, "shop.example.com/*");
    assert_eq!((said(&world), world.ready().1.as_str()), (yes("Published"), "Ready"));
    let held = world.seen.status.slb.clone().unwrap();
    assert_eq!((held.worker_name.as_str(), held.account_id.as_str(), held.mode), ("lb", "a1", WorkerMode::Managed));
    assert_eq!(held.origins, ["https://a.example.net", "https://b.example.net"]);
    assert_eq!(world.again(), Step::Done);
    assert_eq!(of_worker(&world), [""; 0], "what is in place costs no call");
}

#[test]
fn a_transition_is_one_read_and_one_patch_and_the_resync_reads_everything_again() {
    let mut world = healthy(serde_json::json!({"route": "shop.example.com/*"}));
    world.pass();
    world.second = 60;
    sickens(&mut world, 0);
    assert_eq!(world.again(), Step::Done);
    assert_eq!((of_worker(&world), origins(&world)), (vec!["look", "patch"], Some("https://b.example.net")));
    world.second = 62;
    sickens(&mut world, 1);
    assert_eq!(world.again(), Step::Done);
    assert_eq!(of_worker(&world), [""; 0], "it keeps what it had last");
    assert_eq!((said(&world), origins(&world)), (yes("KeepsLast"), Some("https://b.example.net")));
    world = change(world, |spec| {
        spec.slb = Some(slb(serde_json::json!({"route": "shop.example.com/*", "whenAllDown": "Publish"})));
    });
    assert_eq!(world.again(), Step::Done);
    assert_eq!((of_worker(&world), origins(&world)), (vec!["patch"], Some("")), "it was read a moment ago");
    assert_eq!(said(&world), yes("NoHealthyServers"));

    world.second = 10_000;
    world.cloud.places.routes.clear();
    let Some(settings) = world.cloud.scripts.get_mut("lb") else { panic!() };
    settings.bindings.retain(|binding| binding.name != "ORIGINS");
    assert_eq!(world.again(), Step::Done);
    assert_eq!(of_worker(&world), ["look", "patch", "look around", "place", "look around"]);
}

#[test]
fn a_server_with_an_address_gets_a_claimed_name_that_goes_after_the_worker_has_left_it() {
    let mut world = world(&[(ADDRESS, MemberHealth::Healthy)], serde_json::json!({}));
    assert_eq!(world.pass(), Step::Done);
    assert_eq!(origins(&world), Some(format!("https://{NAME}").as_str()));
    assert!(world.done.contains(&format!("claim {NAME}")), "{:?}", world.done);
    let declared = |world: &World| world.facts.declared.clone().unwrap().0.iter().any(|r| r.name.as_str() == NAME);
    assert!(declared(&world));
    assert_eq!(world.seen.status.a, None, "it is no address of the group's own");

    let (listed, known) = member("b.example.net", MemberHealth::Healthy);
    world = change(world, |spec| spec.members = vec![listed]);
    world.seen.status.members = vec![known];
    assert_eq!(world.again(), Step::Done);
    assert_eq!(origins(&world), Some("https://b.example.net"));
    assert!(declared(&world), "its name stays until no Worker has it");
    assert_eq!(world.again(), Step::Done);
    assert!(!declared(&world) && world.done.contains(&format!("release {NAME} for 60")), "{:?}", world.done);
    assert_eq!(world.seen.status.slb.as_ref().unwrap().hostnames, [""; 0]);
}

#[test]
fn a_name_that_is_not_published_is_no_origin_and_holds_up_neither_the_list_nor_the_others() {
    let servers = [(ADDRESS, MemberHealth::Healthy), ("b.example.net", MemberHealth::Healthy)];
    let mut world = world(&servers, serde_json::json!({}));
    world.answer = Declared::Pending;
    assert_eq!(waits(&world.pass()), "Publishing");
    assert_eq!(of_worker(&world), [""; 0]);
    let fqdn = crate::api::names::Fqdn::parse(NAME).unwrap();
    let foreign =
        Refusal::Foreign { name: fqdn, kind: "A".into(), content: "198.51.100.7".into(), record_id: "1".into() };
    world.answer = Declared::Refused(foreign);
    assert_eq!(stopped(&world.again()).0, "ForeignRecord");
    assert_eq!((said(&world), origins(&world)), (no("ForeignRecord"), Some("https://b.example.net")));
    assert!(world.seen.status.txt.is_some(), "the list is in place");
    world.answer = Declared::Applied(Vec::new());
    assert_eq!(world.again(), Step::Done);
    assert_eq!(origins(&world), Some(format!("https://{NAME},https://b.example.net").as_str()));
}

#[test]
fn somebody_elses_claim_or_script_stops_the_worker_and_not_the_list() {
    let holder = crate::api::claim::Holder { kind: "ServerGroup".into(), name: "other".into(), uid: "2".into() };
    let taken = Standing::Taken { namespace: "blog".into(), holder };
    let mut second = healthy(serde_json::json!({})).claims("rs--worker.a1.lb", taken.clone());
    let (reason, message) = stopped(&second.pass());
    assert_eq!((reason, said(&second)), ("WorkerTaken", no("WorkerTaken")));
    assert!(message.contains("ServerGroup blog/other"), "{message}");
    assert!(second.seen.status.txt.is_some() && of_worker(&second).is_empty());
    assert_eq!(second.deleted().again(), Step::Gone);

    let mut foreign = healthy(serde_json::json!({}));
    foreign.cloud.scripts.insert("lb".into(), Settings { bindings: vec![Binding::text("ORIGINS", "x")] });
    assert_eq!(stopped(&foreign.pass()).0, "ForeignWorker");
    assert!(foreign.seen.status.txt.is_some());
    foreign = foreign.deleted();
    assert_eq!(foreign.again(), Step::Gone);
    assert_eq!((of_worker(&foreign), origins(&foreign)), (vec![""; 0], Some("x")));

    // The host of a route stays its namespace's.
    let mut elsewhere = healthy(serde_json::json!({"route": "shop.example.com/*"})).claims("shop.example.com", taken);
    assert_eq!(stopped(&elsewhere.pass()).0, "HostnameTaken");
    assert!(elsewhere.cloud.places.routes.is_empty() && origins(&elsewhere).is_some());
}

type Breaks = fn(&mut World);

#[test]
fn what_the_zone_does_not_allow_is_said_and_asks_cloudflare_nothing() {
    let cases: [(&str, Breaks); 6] = [
        ("WorkersNotConfigured", |world| world.seen.zone.as_mut().unwrap().workers = None),
        ("WorkersNotAllowed", |world| terms_of(world).allowed = false),
        ("InvalidWorkerName", |world| terms_of(world).prefix = Some("shop-".into())),
        ("InvalidHostname", |world| set(world, serde_json::json!({"route": "shop.example.org/*"}))),
        ("InvalidHostname", |world| set(world, serde_json::json!({"customDomain": "rs--x.example.com"}))),
        ("ApexNotAllowed", |world| set(world, serde_json::json!({"customDomain": "example.com"}))),
    ];
    for (reason, breaks) in cases {
        let mut world = healthy(serde_json::json!({}));
        breaks(&mut world);
        assert_eq!(stopped(&world.pass()).0, reason);
        assert_eq!((said(&world), of_worker(&world)), (no(reason), vec![""; 0]));
        assert!(world.seen.status.txt.is_some(), "{reason}: the list is in place");
    }
    let mut keyless = healthy(serde_json::json!({}));
    terms_of(&mut keyless).credential =
        Credential::Unusable { reason: "SecretMissing", message: "Secret s/workers does not exist".into() };
    assert_eq!(waits(&keyless.pass()), "SecretMissing");
    assert_eq!(keyless.ready().1, "SecretMissing", "it was never in place");
}

fn terms_of(world: &mut World) -> &mut Terms {
    world.seen.zone.as_mut().unwrap().workers.as_mut().unwrap()
}

fn set(world: &mut World, fields: serde_json::Value) {
    Arc::make_mut(&mut world.seen.group).spec.slb = Some(slb(fields));
}

#[test]
fn a_worker_that_fails_is_left_alone_for_a_while_that_is_stored_and_the_list_goes_on() {
    let mut world = healthy(serde_json::json!({}));
    world.pass();
    world.second = 60;
    world.cloud.fails = Some(OutsideError::Unavailable("it is down".into()));
    sickens(&mut world, 0);
    assert_eq!(waits(&world.again()), "Unavailable");
    assert_eq!(of_worker(&world), ["look"]);
    assert_eq!((said(&world), world.ready().0.as_str()), (("Unknown".into(), "Unavailable".into()), "True"));
    assert_eq!(world.seen.status.txt.as_ref().unwrap().content, "b.example.net");
    let held = world.seen.status.slb.clone().unwrap();
    assert_eq!((held.attempts, held.not_before.as_ref().map(|time| time.0)), (Some(1), Some(at(62))));
    let before = world.seen.status.clone();
    assert_eq!(waits(&world.again()), "Unavailable");
    assert_eq!((of_worker(&world), &world.seen.status), (vec![""; 0], &before), "nothing changes meanwhile");

    // A restart honours it, too.
    let sight = world.seen.worker.take();
    world.second = 61;
    assert_eq!(waits(&world.again()), "Unavailable");
    assert_eq!((of_worker(&world), &world.seen.status), (vec![""; 0], &before));
    world.seen.worker = sight;
    world.second = 63;
    assert_eq!(waits(&world.again()), "Unavailable");
    assert_eq!(world.seen.status.slb.as_ref().unwrap().attempts, Some(2));
    world.cloud.fails = None;
    let mut changed = change(world, |spec| spec.display_name = Some("new".into()));
    assert_eq!(changed.again(), Step::Done, "a new generation is tried at once");
    let held = changed.seen.status.slb.clone().unwrap();
    assert_eq!((said(&changed), held.attempts, held.not_before), (yes("Published"), None, None));
}

#[test]
fn a_change_that_is_taken_and_does_not_show_is_not_sent_again_and_again() {
    let mut world = healthy(serde_json::json!({}));
    world.cloud.forgets = true;
    assert_eq!(waits(&world.pass()), "OutcomeUnknown");
    assert_eq!(of_worker(&world), ["look", "upload", "look"]);
}

#[test]
fn a_group_that_is_frozen_by_read_only_or_paused_writes_no_worker() {
    let mut frozen = healthy(serde_json::json!({}));
    frozen.seen.read_only = true;
    assert_eq!(waits(&frozen.pass()), "ReadOnly");
    assert_eq!((of_worker(&frozen), origins(&frozen)), (vec!["look"], None));
    let mut paused = healthy(serde_json::json!({})).annotated("paused", "true");
    assert_eq!(waits(&paused.pass()), "Paused");
    assert!(paused.done.is_empty());
}

#[test]
fn deletion_takes_place_and_script_away_before_the_claims_are_given_back() {
    let mut world = healthy(serde_json::json!({"customDomain": "shop.example.com"}));
    assert_eq!(world.pass(), Step::Done);
    assert_eq!(world.seen.status.slb.as_ref().unwrap().hostnames, ["shop.example.com"]);
    world = world.deleted();
    world.cloud.fails = Some(OutsideError::Unavailable("it is down".into()));
    world.second = 60;
    assert_eq!(waits(&world.again()), "Unavailable");
    assert!(world.done.contains(&"declare ".to_owned()), "the records do not wait: {:?}", world.done);
    assert!(!world.done.iter().any(|done| done.starts_with("release")), "{:?}", world.done);
    world.cloud.fails = None;
    world.second = 100;
    assert_eq!(world.again(), Step::Gone);
    assert_eq!(of_worker(&world), ["look", "look around", "remove place", "look around", "delete"]);
    let last = world.done.iter().position(|done| done == "worker lb delete").unwrap();
    let first = world.done.iter().position(|done| done.starts_with("release")).unwrap();
    assert!(last < first, "{:?}", world.done);
    for claim in ["rs--worker.a1.lb", "shop.example.com for 60", "rs--slug.web"] {
        assert!(world.done.contains(&format!("release {claim}")), "{claim}: {:?}", world.done);
    }
}

#[test]
fn a_worker_that_cannot_be_taken_away_can_be_given_up() {
    let mut world = healthy(serde_json::json!({}));
    world.pass();
    world = world.deleted();
    world.seen.zone.as_mut().unwrap().workers = None;
    assert_eq!(waits(&world.again()), "WorkersNotConfigured");
    assert!(world.ready().2.contains("roadstead.dev/abandon=worker"), "{}", world.ready().2);
    world = world.annotated("abandon", "worker");
    assert_eq!(world.again(), Step::Gone);
    assert!(world.done.contains(&"say worker abandoned".to_owned()) && origins(&world).is_some());
}

#[test]
fn a_deletion_that_lacks_the_token_says_what_restores_it_and_how_the_worker_is_given_up() {
    let way_out = "; or give the Worker up with the annotation roadstead.dev/abandon=worker";
    let mut keyless = healthy(serde_json::json!({}));
    keyless.pass();
    keyless = keyless.deleted();
    terms_of(&mut keyless).credential =
        Credential::Unusable { reason: "SecretMissing", message: "Secret s/workers does not exist: create it".into() };
    keyless.second = 60;
    assert_eq!(waits(&keyless.again()), "SecretMissing");
    let expected = format!("Worker lb cannot be taken away: Secret s/workers does not exist: create it{way_out}");
    assert_eq!(keyless.ready(), ("False".into(), "SecretMissing".into(), expected.clone()));
    let said = condition::get(&keyless.seen.status.conditions, WORKER_READY).unwrap();
    assert_eq!((said.status.as_str(), &said.message), ("Unknown", &expected));
    assert!(keyless.done.contains(&"declare ".to_owned()), "the records do not wait: {:?}", keyless.done);
    let abandoned = &mut keyless.annotated("abandon", "worker");
    assert_eq!(abandoned.again(), Step::Gone);

    // What Cloudflare refuses is for a person, too; that it is down is not.
    for (error, reason, is_said) in [
        (OutsideError::Unauthorized("revoked: put a valid one there".into()), "CredentialRefused", true),
        (OutsideError::Forbidden("the token may not".into()), "PermissionMissing", true),
        (OutsideError::Unavailable("it is down".into()), "Unavailable", false),
    ] {
        let mut refused = healthy(serde_json::json!({}));
        refused.pass();
        refused = refused.deleted();
        refused.cloud.fails = Some(error);
        refused.second = 60;
        assert_eq!(waits(&refused.again()), reason);
        let message = refused.ready().2;
        assert_eq!(message.ends_with(way_out), is_said, "{message}");
        // Another process goes by what the status says.
        refused.seen.worker = None;
        refused.second = 61;
        assert_eq!(waits(&refused.again()), reason);
        assert_eq!((refused.ready().2, of_worker(&refused)), (message, vec![""; 0]));
        refused.cloud.fails = None;
        refused.second = 10_000;
        assert_eq!(refused.again(), Step::Gone);
    }
    // Nothing is to be given up as long as the group stays.
    let mut stays = healthy(serde_json::json!({}));
    terms_of(&mut stays).credential =
        Credential::Unusable { reason: "SecretMissing", message: "Secret s/workers does not exist".into() };
    stays.pass();
    assert_eq!(stays.ready().2, "Secret s/workers does not exist");
}

#[test]
fn another_name_and_no_worker_at_all_take_the_old_one_away_first() {
    let mut world = world(&[(ADDRESS, MemberHealth::Healthy)], serde_json::json!({}));
    world.pass();
    world.second = 60;
    world = change(world, |spec| spec.slb.as_mut().unwrap().worker_name = "other".into());
    assert_eq!(world.again(), Step::Done);
    let names: Vec<_> = world.cloud.scripts.keys().collect();
    assert_eq!(names, ["other"]);
    let position = |what: &str| world.done.iter().position(|done| done == what).unwrap_or_else(|| panic!("{what}"));
    assert!(position("worker lb delete") < position("release rs--worker.a1.lb"));
    assert!(position("release rs--worker.a1.lb") < position("claim rs--worker.a1.other"));

    world = change(world, |spec| spec.slb = None);
    world.second = 120;
    assert_eq!(world.again(), Step::Done);
    assert!(world.cloud.scripts.is_empty());
    for claim in [format!("{NAME} for 60"), "rs--worker.a1.other".to_owned()] {
        assert!(world.done.contains(&format!("release {claim}")), "{claim}: {:?}", world.done);
    }
    assert_eq!(world.seen.status.slb, None);
    assert!(condition::get(&world.seen.status.conditions, WORKER_READY).is_none());
}

#[test]
fn a_status_that_was_lost_empties_no_worker() {
    let mut world = healthy(serde_json::json!({"whenAllDown": "Publish"}));
    world.pass();
    let members = world.seen.status.members.clone();
    (world.seen.status, world.seen.worker) = Default::default();
    assert_eq!(waits(&world.again()), "Probing");
    assert_eq!(origins(&world), Some("https://a.example.net,https://b.example.net"));
    world.seen.status.members = members;
    assert_eq!(world.again(), Step::Done);
    assert_eq!(of_worker(&world), ["look"], "nothing was to be changed");
}

#[test]
fn with_origins_only_the_script_stays_when_the_group_goes() {
    let mut world = healthy(serde_json::json!({"mode": "OriginsOnly"}));
    assert_eq!(stopped(&world.pass()).0, "WorkerMissing");
    let theirs = vec![Binding::text("ORIGINS", ""), Binding::text("ROADSTEAD_ALLOW", "shop/web")];
    world.cloud.scripts.insert("lb".into(), Settings { bindings: theirs });
    world.second = 60;
    assert_eq!(world.again(), Step::Done);
    assert_eq!(of_worker(&world), ["look", "patch"]);
    world = world.deleted();
    assert_eq!(world.again(), Step::Gone);
    assert_eq!(origins(&world), Some("https://a.example.net,https://b.example.net"));
}

#[test]
fn an_address_as_a_label_is_read_back_as_that_address() {
    for (ip, name) in [
        ("203.0.113.7", "203-0-113-7"),
        ("2001:db8::7", "2001-0db8-0000-0000-0000-0000-0000-0007"),
        ("fd00::", "fd00-0000-0000-0000-0000-0000-0000-0000"),
    ] {
        let ip = ip.parse().unwrap();
        assert_eq!((label(ip).as_str(), address(&format!("{name}.web.example.com"))), (name, Some(ip)));
    }
    assert_eq!(address("shop.example.com"), None);
}

#[test]
fn what_was_seen_of_a_script_is_forgotten_when_a_call_fails() {
    let script = Script { account: "a1".into(), name: "lb".into() };
    let mut sight = Sight::of(script);
    sight.answered(&Call::Look, Answer::Settings(None), at(0));
    assert!(sight.seen.is_some());
    let error = OutsideError::Unknown("cut".into());
    sight.failed(Failure { error, at: at(1), generation: None, version: None, jitter: 0.0 });
    assert!(sight.seen.is_none() && !sight.in_hand);
    let held = SlbStatus::default();
    let failure = sight.failure.unwrap();
    assert_eq!(super::plan::until(Some(&held), &failure, Duration::from_secs(300)), at(3));
}

#[test]
fn a_worker_that_would_ask_an_app_by_names_it_does_not_answer_is_refused() {
    let mut world = healthy(serde_json::json!({}));
    world.seen.group = Arc::new({
        let mut group = (*world.seen.group).clone();
        group.spec.app_ref = Some(crate::api::app_deployment::LocalRef { name: "shop".into() });
        group.spec.members.clear();
        group
    });
    let node = serde_json::json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Node",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"providerRef": {"name": "do"}, "zoneRef": {"name": "example-com"}},
        "status": {"fqdn": "a.example.net"}});
    world.nodes = vec![serde_json::from_value(node).unwrap()];
    let serving = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let place =
            crate::controllers::app_deployment::serving::Place { node: "a".into(), names, ..Default::default() };
        Some(crate::controllers::app_deployment::serving::Serving { places: vec![place], ends: false, settled: true })
    };
    world.seen.serving = serving(&["shop.example.com"]);
    let (reason, message) = stopped(&world.again());
    assert_eq!(reason, "OriginNotServed");
    assert!(message.contains("AppDeployment shop does not answer a.example.net"), "{message}");
    assert_eq!((said(&world), origins(&world)), (no("OriginNotServed"), None));
    world.seen.serving = serving(&["shop.example.com", "a.example.net"]);
    assert_eq!(world.again(), Step::Done);
    assert_eq!(origins(&world), Some("https://a.example.net"));
    // Where the Worker is a person's own, it may know how.
    world.seen.serving = serving(&["shop.example.com"]);
    world = change(world, |spec| spec.slb = Some(slb(serde_json::json!({"mode": "OriginsOnly"}))));
    world.again();
    assert_ne!(said(&world).1, "OriginNotServed");
}
