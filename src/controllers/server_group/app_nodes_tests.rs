use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::super::plan::tests::{LIST, World, at, member, waits};
use super::super::roster::{Entry, Probing, Roster};
use super::super::txt::NOBODY;
use super::super::{of_app, publish::select};
use super::*;
use crate::api::app_deployment::LocalRef;
use crate::api::server_group::{AddressName, SourceStatus};
use crate::dns::Checked;
use crate::probe::{self, Check, HttpCheck};
use crate::runtime::driver::Step;

const NAME: &str = "shop.example.com";

/// The Node `web-<number>`, published.
fn node(number: u8) -> Node {
    let (name, address) = (format!("web-{number}"), format!("203.0.113.{number}"));
    let object = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Node",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{number}")},
        "spec": {"providerRef": {"name": "do"}, "zoneRef": {"name": "example-com"}, "healthPath": "/node"},
        "status": {"fqdn": format!("{name}.example.com"), "addresses": {"public4": address},
            "record": {"id": "1", "content": address, "ttl": 60}}});
    serde_json::from_value(object).unwrap()
}

/// The app on the Node of this number.
fn place(number: u8) -> Place {
    let (node, uid) = (format!("web-{number}"), Some(format!("uid-{number}")));
    Place { node, uid, leaving: false, names: vec![NAME.to_owned()], health_path: "/healthz".to_owned() }
}

fn serving(places: &[Place]) -> Serving {
    Serving { places: places.to_vec(), ends: false, settled: true }
}

/// What the status says of the Node of this number.
fn said(number: u8, health: MemberHealth) -> MemberStatus {
    let id = format!("web-{number}.example.com");
    let asked = Some(Asked { host: NAME.to_owned(), path: "/healthz".to_owned() });
    let healthy_until = None;
    MemberStatus {
        origin: Origin::App,
        node: Some(format!("web-{number}")),
        asked,
        healthy_until,
        ..member(&id, health).1
    }
}

/// A group that refers to an app on the first two of three Nodes, and publishes its name.
fn world() -> World {
    let mut world = World::with(&[]).spec(|spec| {
        spec.app_ref = Some(LocalRef { name: "shop".to_owned() });
        spec.dns.a = Some(AddressName { hostname: "shop".to_owned() });
    });
    world.nodes = [1, 2, 3].map(node).to_vec();
    world.seen.serving = Some(serving(&[place(1), place(2)]));
    world
}

fn ids(world: &World) -> Vec<String> {
    let group = ServerGroup { status: Some(world.seen.status.clone()), ..(*world.seen.group).clone() };
    let roster = Roster::of(&group, &world.nodes, world.seen.serving.as_ref());
    roster.members.iter().map(|entry| entry.address.to_string()).collect()
}

fn published(world: &World) -> (String, Vec<String>) {
    let status = &world.seen.status;
    (status.txt.clone().map(|txt| txt.content).unwrap_or_default(), status.a.clone().unwrap().addresses)
}

#[test]
fn a_node_of_an_app_is_asked_for_the_app_s_name_and_path_at_the_node_s_address() {
    let mut world = world();
    world.pass();
    let entry = &world.seen.roster.members[0];
    assert_eq!((entry.address.to_string().as_str(), entry.origin), ("web-1.example.com", Origin::App));
    assert_eq!((entry.node.as_deref(), entry.ip), (Some("web-1"), Some([203, 0, 113, 1].into())));
    let check = |host: &str| {
        Probing::Check(Check::Http(HttpCheck {
            scheme: probe::Scheme::Https,
            address: "203.0.113.1".to_owned(),
            port: 443,
            method: http::Method::GET,
            path: "/healthz".to_owned(),
            host: Some(host.to_owned()),
            // That of the host is expected.
            server_name: None,
            expected: 200..=399,
        }))
    };
    assert_eq!(entry.probing, check(NAME));
    let own = "web-1.example.com".to_owned();
    for names in [vec![own.clone()], vec![]] {
        world.seen.serving = Some(serving(&[Place { names, ..place(1) }]));
        world.again();
        let entry = &world.seen.roster.members[0];
        assert!(
            entry.probing == check(&own) && entry.app.as_ref().unwrap().answers_own_name,
            "of an app without a name of its own"
        );
    }
}

#[test]
fn nodes_that_are_gone_going_or_others_of_the_same_name_do_not_belong() {
    let mut world = world();
    world.nodes[0].metadata.deletion_timestamp = Some(Time(at(0)));
    world.nodes[1].metadata.uid = Some("another".to_owned());
    world.seen.serving = Some(serving(&[place(1), place(2), place(3), place(4)]));
    assert_eq!(ids(&world), ["web-3.example.com"]);
    world.nodes[2].metadata.namespace = Some("blog".to_owned());
    assert_eq!(ids(&world), [] as [&str; 0]);
    let world = self::world().spec(|spec| spec.app_ref = None);
    assert_eq!(ids(&world), [] as [&str; 0], "nobody asks for the app");
}

#[test]
fn the_name_of_an_app_leads_to_where_it_is_live_until_a_first_server_is_healthy() {
    let mut world = world();
    let both = ["203.0.113.1".to_owned(), "203.0.113.2".to_owned()];
    // A host has a certificate for the name only once the name leads there.
    for members in [vec![], vec![said(1, MemberHealth::Pending), said(2, MemberHealth::Unhealthy)]] {
        world.seen.status.members = members;
        assert_eq!(world.again(), Step::Done);
        assert_eq!(published(&world), (NOBODY.to_owned(), both.to_vec()));
        let (ready, reason, message) = world.ready();
        assert_eq!((ready.as_str(), reason.as_str()), ("True", "NoHealthyServers"));
        assert!(message.contains("shop.example.com leads to where the app is live"), "{message}");
    }
    world.seen.status.members = vec![said(1, MemberHealth::Healthy), said(2, MemberHealth::Unhealthy)];
    assert_eq!(world.again(), Step::Done);
    assert_eq!(published(&world), ("web-1.example.com".to_owned(), both[..1].to_vec()));
    // One that was healthy freezes as any other.
    let until = Some(Time(at(5)));
    world.seen.status.members = vec![
        MemberStatus { healthy_until: until, ..said(1, MemberHealth::Unhealthy) },
        said(2, MemberHealth::Unhealthy),
    ];
    assert_eq!(world.again(), Step::Done);
    assert_eq!(published(&world), ("web-1.example.com".to_owned(), both[..1].to_vec()));
    assert!(world.holds("Frozen"));

    let elsewhere = Some(AddressName { hostname: "www".to_owned() });
    let mut world = self::world().spec(|spec| spec.dns.a = elsewhere);
    world.again();
    assert_eq!(published(&world), (NOBODY.to_owned(), vec![]), "a name that the app does not answer");
    let mut world = self::world();
    let report = SourceStatus { healthy: false, reason: "ReportedUnhealthy".to_owned(), since: Time(at(0)) };
    world.seen.status.members = vec![MemberStatus { report: Some(report), ..said(1, MemberHealth::Unhealthy) }];
    world.again();
    assert_eq!(published(&world).1, both[1..], "one that says itself that it is ill");
}

#[test]
fn a_node_that_the_app_leaves_stays_until_one_that_it_goes_to_is_healthy() {
    let mut world = world();
    let leaving = |number| Place { leaving: true, ..place(number) };
    world.seen.serving = Some(serving(&[leaving(1), leaving(2), place(3)]));
    world.seen.status.members = vec![said(1, MemberHealth::Healthy), said(3, MemberHealth::Pending)];
    assert_eq!(ids(&world), ["web-1.example.com", "web-2.example.com", "web-3.example.com"]);
    world.again();
    // As with names that the app publishes itself: a host gets its certificate once they lead there.
    assert_eq!(published(&world), ("web-1.example.com".to_owned(), vec!["203.0.113.3".to_owned()]));
    assert_eq!(world.ready().1, "Ready");
    let before = MemberStatus { healthy_until: Some(Time(at(5))), ..said(3, MemberHealth::Unhealthy) };
    world.seen.status.members[1] = before;
    world.again();
    let expected = ("web-1.example.com".to_owned(), vec!["203.0.113.3".to_owned()]);
    assert_eq!(published(&world), expected, "by another name it was healthy without a certificate for this one");
    world.seen.status.members[1] = said(3, MemberHealth::Healthy);
    assert_eq!(ids(&world), ["web-3.example.com"]);
    world.again();
    assert_eq!(published(&world), ("web-3.example.com".to_owned(), vec!["203.0.113.3".to_owned()]));
}

#[test]
fn without_the_app_the_group_keeps_the_servers_it_had_says_so_and_goes_on_when_it_is_there() {
    let mut world = world();
    world.seen.status.members = [1, 2].map(|number| said(number, MemberHealth::Healthy)).to_vec();
    world.again();
    let list = "web-1.example.com,web-2.example.com";
    assert_eq!(published(&world).0, list);
    world.seen.serving = None;
    world = world.spec(|spec| spec.app_ref = Some(LocalRef { name: "shpo".to_owned() }));
    assert_eq!(waits(&world.again()), "AppNotFound");
    let (ready, _, message) = world.ready();
    assert_eq!(ready, "False");
    assert!(message.contains("no AppDeployment shpo in namespace shop") && message.contains("keeps"), "{message}");
    assert!(world.holds("Reconciling") && published(&world).0 == list);
    let asked = Some(Asked { host: NAME.to_owned(), path: "/healthz".to_owned() });
    let asks = |entry: &Entry| entry.app.as_ref().map(|part| part.asked.clone());
    assert!(world.seen.roster.members.iter().all(|entry| asks(entry) == asked), "they are probed as before");
    // Nor does it keep one in that dies, or whose Node goes.
    world.seen.status.members[0] = said(1, MemberHealth::Unhealthy);
    assert_eq!(waits(&world.again()), "AppNotFound");
    assert_eq!(published(&world).0, "web-2.example.com");
    world.nodes.remove(0);
    assert_eq!(ids(&world), ["web-2.example.com"]);

    world.seen.serving = Some(serving(&[place(2), place(3)]));
    assert_eq!(world.again(), Step::Done);
    assert_eq!(ids(&world), ["web-2.example.com", "web-3.example.com"]);
    assert!(!world.holds("Reconciling"));
    // What nobody refers to keeps nobody.
    world.seen.serving = None;
    world = world.spec(|spec| spec.app_ref = None);
    assert_eq!(ids(&world), [] as [&str; 0]);
}

#[test]
fn an_app_that_goes_takes_its_nodes_with_it() {
    let mut world = world();
    world.seen.status.members = [1, 2].map(|number| said(number, MemberHealth::Healthy)).to_vec();
    world.seen.serving.as_mut().unwrap().ends = true;
    assert_eq!(world.again(), Step::Done);
    assert_eq!(published(&world), (NOBODY.to_owned(), vec![]));
}

#[test]
fn a_status_that_was_lost_takes_nobody_off_the_list_before_the_app_is_there_and_has_said_where() {
    let mut world = world();
    world.there = Checked::Own(Vec::new());
    let unknown = Serving { settled: false, ..Serving::default() };
    for (app, reason) in [(None, "AppNotFound"), (Some(unknown), "Probing"), (Some(serving(&[place(1)])), "Probing")] {
        world.seen.serving = app;
        assert_eq!(waits(&world.again()), reason);
        assert!(!world.done.iter().any(|done| done.starts_with("declare")), "{:?}", world.done);
    }
    world.seen.status.members = vec![said(1, MemberHealth::Healthy)];
    assert_eq!(world.again(), Step::Done);
    assert!(world.done.contains(&format!("declare {LIST}=web-1.example.com {NAME}=203.0.113.1")), "{:?}", world.done);
    // One that is settled and serves nowhere has said so.
    let mut world = self::world();
    (world.there, world.seen.serving) = (Checked::Own(Vec::new()), Some(serving(&[])));
    assert_eq!(world.again(), Step::Done);
}

#[test]
fn a_listed_server_stands_beside_the_app_s_and_a_node_that_is_both_is_as_listed() {
    let (listed, status) = member("web-1.example.com", MemberHealth::Healthy);
    let mut world = world().spec(|spec| spec.members = vec![listed]);
    assert_eq!(ids(&world), ["web-1.example.com", "web-2.example.com"]);
    world.pass();
    assert_eq!(world.seen.roster.members[0].origin, Origin::Listed);
    let selection = select(&world.seen.group.spec, &world.seen.roster, &[status]);
    assert!(selection.servers.len() == 1 && selection.opening.is_empty(), "somebody is healthy");
}

#[test]
fn an_app_wakes_the_groups_that_refer_to_it_when_where_it_serves_changes() {
    let group = |namespace: &str, app: &str| {
        let object = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "ServerGroup",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"zoneRef": {"name": "z"}, "appRef": {"name": app}}});
        serde_json::from_value::<ServerGroup>(object).unwrap()
    };
    let app = |change: &dyn Fn(&mut serde_json::Value)| {
        let live = json!({"revision": "r1", "service": "web", "port": 80, "replicas": 1, "recreate": false,
            "alone": false, "healthPath": "/", "startPeriod": 1, "healthTimeout": 1, "drain": 1});
        let mut object = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment",
            "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"target": {"nodeRef": {"name": "web-1"}}, "compose": {"inline": "services: {}"}},
            "status": {"nodes": [{"name": "web-1", "journal": {"live": live}}]}});
        change(&mut object);
        serde_json::from_value::<AppDeployment>(object).unwrap()
    };
    let groups = Cache::of([group("shop", "shop"), group("blog", "shop"), group("news", "other")]);
    let woken = |now: &AppDeployment, before: Option<&AppDeployment>| {
        of_app(now, before, &groups).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let before = app(&|_| {});
    assert_eq!(woken(&before, None), ["shop/web"], "it appeared");
    assert_eq!(woken(&before, Some(&before)), ["shop/web"], "it went");
    let changes: [&dyn Fn(&mut serde_json::Value); 6] = [
        &|app| app["status"]["nodes"][0]["phase"] = "Removing".into(),
        &|app| app["status"]["nodes"][0]["journal"]["live"] = serde_json::Value::Null,
        &|app| app["status"]["nodes"][0]["journal"]["live"]["healthPath"] = "/other".into(),
        &|app| app["status"]["expiresAt"] = "2026-01-01T00:00:00Z".into(),
        &|app| app["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
        &|app| {
            let ready = json!({"type": "Ready", "status": "True", "reason": "R", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            app["status"]["conditions"] = json!([ready]);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_eq!(woken(&app(change), Some(&before)), ["shop/web"], "change {number}");
    }
    let unused = app(&|app| app["status"]["nodes"][0]["journal"]["draining"] = "2026-01-01T00:00:00Z".into());
    assert_eq!(woken(&unused, Some(&before)), [] as [&str; 0]);
}
