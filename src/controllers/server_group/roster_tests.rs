use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};

use super::*;
use crate::api::node::{NodeSpec, NodeStatus, RecordStatus};
use crate::api::probe::ProbeTls;
use crate::api::server_group::ServerGroupSpec;

fn member(address: &str) -> Member {
    let scheme = Scheme::Https;
    Member { address: address.to_owned(), port: None, scheme, priority: 100, weight: 1, disabled: false }
}

fn group(members: Vec<Member>) -> ServerGroup {
    let mut group = ServerGroup::new("web", ServerGroupSpec { members, ..ServerGroupSpec::default() });
    group.metadata.namespace = Some("shop".into());
    group
}

fn labels(tier: &str) -> BTreeMap<String, String> {
    [("tier".to_owned(), tier.to_owned())].into()
}

fn node(name: &str, tier: &str) -> Node {
    let mut node = Node::new(name, NodeSpec { health_path: "/healthz".into(), ..NodeSpec::default() });
    (node.metadata.namespace, node.metadata.labels) = (Some("shop".into()), Some(labels(tier)));
    let address = Addresses { public4: Some("203.0.113.7".into()), ..Addresses::default() };
    node.status = Some(NodeStatus {
        fqdn: Some(format!("{name}.example.com")),
        addresses: Some(address),
        record: Some(RecordStatus { id: "1".into(), content: "203.0.113.7".into(), ttl: 60 }),
        ..NodeStatus::default()
    });
    node
}

fn selecting(tier: &str) -> ServerGroup {
    let mut group = group(Vec::new());
    let selector = LabelSelector { match_labels: Some(labels(tier)), match_expressions: None };
    group.spec.node_selector = Some(selector);
    group
}

fn ids(roster: &Roster) -> Vec<String> {
    roster.members.iter().map(|entry| entry.address.to_string()).collect()
}

fn http(roster: &Roster, index: usize) -> HttpCheck {
    match &roster.members[index].probing {
        Probing::Check(Check::Http(check)) => check.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listed_server_is_asked_at_its_own_address_scheme_and_port() {
    let plain = Member { port: Some(8080), scheme: Scheme::Http, ..member("10.0.0.1") };
    let roster = Roster::of(&group(vec![member("origin.example.net"), plain]), [], None);
    assert_eq!(ids(&roster), ["origin.example.net", "10.0.0.1:8080"]);
    let check = http(&roster, 0);
    assert_eq!((check.address.as_str(), check.port, check.path.as_str()), ("origin.example.net", 443, "/"));
    assert_eq!((check.host, check.server_name), (None, None), "asked for by its own address");
    assert_eq!((check.scheme, check.expected), (probe::Scheme::Https, 200..=399));
    let check = http(&roster, 1);
    assert_eq!((check.scheme, check.port), (probe::Scheme::Http, 8080));
}

#[test]
fn a_node_is_asked_by_its_name_at_its_address_and_health_path() {
    let roster = Roster::of(&selecting("web"), [&node("web-1", "web"), &node("db-1", "db")], None);
    assert_eq!(ids(&roster), ["web-1.example.com"]);
    let check = http(&roster, 0);
    assert_eq!((check.scheme, check.address.as_str(), check.port), (probe::Scheme::Https, "203.0.113.7", 443));
    assert_eq!((check.host.as_deref(), check.path.as_str()), (Some("web-1.example.com"), "/healthz"));
    assert_eq!(roster.members[0].node.as_deref(), Some("web-1"));
    assert_eq!(roster.members[0].ip, Some([203, 0, 113, 7].into()));
}

#[test]
fn what_the_groups_probe_says_goes_before_what_the_server_says() {
    let mut group = selecting("web");
    group.spec.probe = Probe {
        scheme: Some(Scheme::Http),
        port: Some(8081),
        path: Some("/up".into()),
        method: Method::Head,
        host: Some("shop.example.com".into()),
        expected_status: "204".into(),
        tls: Some(ProbeTls { server_name: Some("tls.example.com".into()) }),
        ..Probe::default()
    };
    let check = http(&Roster::of(&group, [&node("web-1", "web")], None), 0);
    let expected = HttpCheck {
        scheme: probe::Scheme::Http,
        address: "203.0.113.7".into(),
        port: 8081,
        method: http::Method::HEAD,
        path: "/up".into(),
        host: Some("shop.example.com".into()),
        server_name: Some("tls.example.com".into()),
        expected: 204..=204,
    };
    assert_eq!(check, expected);
    group.spec.probe.type_ = ProbeType::Tcp;
    let roster = Roster::of(&group, [&node("web-1", "web")], None);
    let tcp = Check::Tcp { address: "203.0.113.7".into(), port: 8081 };
    assert_eq!(roster.members[0].probing, Probing::Check(tcp));
    group.spec.probe.type_ = ProbeType::None;
    assert_eq!(Roster::of(&group, [&node("web-1", "web")], None).members[0].probing, Probing::Off);
}

#[test]
fn a_node_that_is_not_published_yet_waits_and_one_that_goes_is_out_at_once() {
    let (mut new, mut going, mut elsewhere) = (node("new", "web"), node("going", "web"), node("far", "web"));
    new.status.as_mut().unwrap().record = None;
    going.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(1).unwrap()));
    elsewhere.metadata.namespace = Some("blog".into());
    let roster = Roster::of(&selecting("web"), [&new, &going, &elsewhere], None);
    assert_eq!(ids(&roster), ["new.example.com"]);
    assert_eq!((&roster.members[0].probing, roster.members[0].ip), (&Probing::NotYet, None));
    assert_eq!(Roster::of(&group(Vec::new()), [&new], None).members, [], "without a selector nobody is selected");
}

#[test]
fn a_server_that_is_listed_twice_or_also_selected_counts_once_as_first_written() {
    let first = Member { priority: 1, ..member("web-1.example.com") };
    let mut group = selecting("web");
    group.spec.members = vec![first, member("web-1.example.com"), member("WEB-1.example.com")];
    let roster = Roster::of(&group, [&node("web-1", "web")], None);
    assert_eq!(ids(&roster), ["web-1.example.com"]);
    assert_eq!((roster.members[0].priority, roster.members[0].origin), (1, Origin::Listed));
}

#[test]
fn five_hundred_servers_are_taken_and_more_are_said() {
    let many = |n: usize| (0..n).map(|n| member(&format!("10.0.{}.{}", n / 250, n % 250))).collect();
    assert!(!Roster::of(&group(many(500)), [], None).cut);
    let mut more = selecting("web");
    more.spec.members = many(500);
    let roster = Roster::of(&more, [&node("web-1", "web")], None);
    assert!(roster.cut && roster.members.len() == 500);
}

#[test]
fn targets_are_keyed_by_group_and_server_and_leave_disabled_ones_out() {
    let mut group = group(vec![Member { disabled: true, ..member("10.0.0.1") }, member("2001:db8::7")]);
    group.spec.probe = Probe { interval: "5s".into(), timeout: "1s".into(), fall: 4, rise: 1, ..Probe::default() };
    let targets = Roster::of(&group, [], None).targets(&group);
    assert_eq!(targets.len(), 1);
    assert_eq!(&*targets[0].key, "group/shop/web/2001:db8::7");
    assert_eq!((targets[0].interval, targets[0].timeout), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!((targets[0].fall, targets[0].rise), (4, 1));
}
