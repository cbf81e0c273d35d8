//! Names that were published: given back when they are asked for no more, or when the group goes.

use super::tests::{LIST, World, at, list, member, waits};
use super::*;
use crate::api::server_group::{AddressName, AddressesStatus, MemberHealth};

#[test]
fn a_name_that_is_no_longer_asked_for_is_given_back_and_stays_reserved_for_its_ttl() {
    let a = |hostname: &str| Some(AddressName { hostname: hostname.into() });
    let mut world = World::with(&[member("10.0.0.1", MemberHealth::Healthy)]).spec(|spec| spec.dns.a = a("www"));
    assert_eq!(world.pass(), Step::Done);
    let addresses = vec!["10.0.0.1".to_owned()];
    let published = AddressesStatus { hostname: "www.example.com".into(), addresses, ttl: 60 };
    assert_eq!(world.seen.status.a, Some(published));
    world = world.spec(|spec| spec.dns.a = a("shop"));
    assert_eq!(world.again(), Step::Done);
    let expected = [
        "claim shop.example.com".to_owned(),
        "enroll".to_owned(),
        format!("declare {LIST}=10.0.0.1 shop.example.com=10.0.0.1"),
        "release www.example.com for 60".to_owned(),
    ];
    assert_eq!(world.done, expected);
    assert_eq!(world.seen.status.a.as_ref().unwrap().hostname, "shop.example.com");
    world = world.spec(|spec| (spec.dns.a, spec.dns.ttl) = (None, 900));
    assert_eq!(world.again(), Step::Done);
    let declared = format!("declare {LIST}=10.0.0.1");
    assert_eq!(world.done, ["enroll", declared.as_str(), "release shop.example.com for 60"]);
    // As long as it was published for, whatever the spec says by then.
    world = world.spec(|spec| (spec.dns.ttl, spec.dns.txt) = (60, false));
    assert_eq!(world.again(), Step::Done);
    assert_eq!(world.done, ["enroll", "declare ", "release rs--u-wrap.web.example.com for 900"]);
    assert_eq!((&world.seen.status.txt, &world.seen.status.a), (&None, &None));
    assert_eq!(world.ready().1, "NotPublished");
}

#[test]
fn a_name_stays_named_until_its_claim_was_given_back() {
    let a = |hostname: &str| Some(AddressName { hostname: hostname.into() });
    let mut world = World::with(&[member("10.0.0.1", MemberHealth::Healthy)]).spec(|spec| spec.dns.a = a("www"));
    world.pass();
    world = world.spec(|spec| (spec.dns.a, spec.dns.txt) = (a("shop"), false));
    world.again();
    // As if the API server had not answered to the first release.
    world.seen.status = {
        let before = ServerGroupStatus { txt: Some(list("10.0.0.1")), ..world.seen.status.clone() };
        let before = Observed { status: before, ..world.seen.clone() };
        let facts = Facts { released: Vec::new(), ..std::mem::take(&mut world.facts) };
        let failed = Outcome::Failed { reason: "KubernetesAPI", message: "no answer".into() };
        report::status(&before, &facts, &failed, at(10))
    };
    assert_eq!(world.seen.status.txt, Some(list("10.0.0.1")));
    assert_eq!(world.again(), Step::Done);
    assert!(world.done.contains(&"release rs--u-wrap.web.example.com for 60".to_owned()), "{:?}", world.done);
    assert_eq!(world.seen.status.txt, None);
}

#[test]
fn deletion_withdraws_everything_and_then_gives_the_claims_back() {
    let a = Some(AddressName { hostname: "www".into() });
    let mut world = World::with(&[member("10.0.0.1", MemberHealth::Healthy)]).spec(|spec| spec.dns.a = a);
    world.pass();
    world = world.deleted();
    world.answer = Declared::Pending;
    assert_eq!(waits(&world.again()), "Withdrawing");
    world.answer = Declared::Applied(Vec::new());
    assert_eq!(world.again(), Step::Gone);
    let expected = [
        "dismiss",
        "declare ",
        "release rs--slug.web",
        "release rs--u-wrap.web.example.com for 60",
        "release www.example.com for 60",
    ];
    assert_eq!(world.done, expected);
}

#[test]
fn a_group_whose_zone_is_gone_waits_until_its_records_are_given_up() {
    let mut world = World::with(&[]);
    world.pass();
    world = world.deleted();
    world.seen.zone = None;
    assert_eq!(waits(&world.again()), "ZoneNotReady");
    assert!(world.ready().2.contains("roadstead.dev/abandon=dns"), "{}", world.ready().2);
    world = world.annotated("abandon", "dns");
    assert_eq!(world.again(), Step::Gone);
    assert!(world.done.contains(&"say dns abandoned".to_owned()), "{:?}", world.done);

    let mut never = World::with(&[]).deleted();
    never.seen.zone = None;
    assert_eq!(never.again(), Step::Gone, "what was never published has nothing to wait for");
}
