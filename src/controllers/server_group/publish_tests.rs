use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::server_group::{Member, Origin, Reporting, ServerGroup, SourceStatus};

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(1_800_000_000 + second).unwrap())
}

/// A group with these listed servers and priorities, which takes reports.
fn group(members: &[(&str, i32)]) -> (ServerGroupSpec, Roster) {
    let member = |(address, priority): &(&str, i32)| Member {
        address: (*address).to_owned(),
        port: None,
        scheme: crate::api::probe::Scheme::Https,
        priority: *priority,
        weight: 1,
        disabled: false,
    };
    let spec = ServerGroupSpec {
        members: members.iter().map(member).collect(),
        reporting: Reporting { enabled: true, ..Reporting::default() },
        ..ServerGroupSpec::default()
    };
    let roster = Roster::of(&ServerGroup::new("g", spec.clone()), [], None);
    (spec, roster)
}

fn said(healthy: bool) -> SourceStatus {
    SourceStatus { healthy, reason: "R".into(), since: at(0) }
}

fn entry(id: &str, health: MemberHealth, until: Option<i64>) -> MemberStatus {
    let healthy = health == MemberHealth::Healthy;
    MemberStatus {
        id: id.to_owned(),
        origin: Origin::Listed,
        node: None,
        asked: None,
        health,
        source: None,
        reason: "R".into(),
        message: None,
        added: None,
        since: at(0),
        healthy_until: until.map(at),
        probe: (health != MemberHealth::Pending).then(|| said(healthy)),
        report: None,
    }
}

fn up(id: &str) -> MemberStatus {
    entry(id, MemberHealth::Healthy, None)
}

fn down(id: &str, until: Option<i64>) -> MemberStatus {
    entry(id, MemberHealth::Unhealthy, until)
}

fn chosen((spec, roster): &(ServerGroupSpec, Roster), members: &[MemberStatus]) -> (Vec<String>, bool) {
    let selection = select(spec, roster, members);
    (selection.servers.iter().map(|server| server.address.to_string()).collect(), selection.frozen)
}

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const C: &str = "10.0.0.3";

#[test]
fn the_healthy_are_published_and_nobody_else() {
    let group = group(&[(A, 100), (B, 100), (C, 100)]);
    let members = [up(A), down(B, Some(1)), entry(C, MemberHealth::Pending, None)];
    assert_eq!(chosen(&group, &members), (vec![A.into()], false));
    assert_eq!(chosen(&group, &[]), (vec![], false), "at first nobody is known to be healthy");
    assert_eq!(chosen(&group, &[down(A, None)]), (vec![], false), "who never was healthy is no last good server");
}

#[test]
fn when_all_probes_fail_at_once_the_last_good_servers_stay() {
    let group = group(&[(A, 100), (B, 100), (C, 100)]);
    // Probes of every 10 s find a common end within some 25 s of each other.
    let members = [down(A, Some(100)), down(B, Some(115)), down(C, Some(50))];
    assert_eq!(chosen(&group, &members), (vec![A.into(), B.into()], true), "the one that died long before stays out");
    let one_back = [down(A, Some(100)), up(B), down(C, Some(50))];
    assert_eq!(chosen(&group, &one_back), (vec![B.into()], false));
}

#[test]
fn servers_that_report_to_be_unhealthy_are_taken_out_down_to_the_last() {
    let group = group(&[(A, 100), (B, 100)]);
    let reported = |id: &str, probe: Option<bool>| MemberStatus {
        probe: probe.map(said),
        report: Some(said(false)),
        ..down(id, Some(100))
    };
    assert_eq!(chosen(&group, &[reported(A, None), reported(B, Some(false))]), (vec![], false));
    assert_eq!(chosen(&group, &[reported(A, None), down(B, Some(100))]), (vec![B.into()], true));
    let well = MemberStatus { report: Some(said(true)), ..down(A, Some(100)) };
    assert_eq!(chosen(&group, &[well]), (vec![A.into()], true), "a report that it is well does not speak against it");
}

#[test]
fn what_left_the_spec_or_is_disabled_is_not_published_whatever_the_status_says() {
    let mut group = group(&[(A, 100), (B, 100)]);
    group.1.members[1].disabled = true;
    assert_eq!(chosen(&group, &[up(A), up(B), up(C)]), (vec![A.into()], false));
    assert_eq!(chosen(&group, &[down(B, Some(1)), down(C, Some(1))]), (vec![], false), "nor by a freeze");
    let reporter = MemberStatus { origin: Origin::Reported, probe: None, report: Some(said(true)), ..up(C) };
    assert_eq!(chosen(&group, std::slice::from_ref(&reporter)), (vec![C.into()], false));
    group.0.reporting.enabled = false;
    assert_eq!(chosen(&group, &[reporter]), (vec![], false));
}

#[test]
fn with_failover_the_list_is_by_priority_and_the_addresses_are_the_best_ones() {
    let group = group(&[(A, 200), (B, 10), (C, 10), ("a.example.net", 1)]);
    let all = [up(A), up(B), up(C), up("a.example.net")];
    let selection = select(&group.0, &group.1, &all);
    assert_eq!(selection.list(Strategy::Failover).content, format!("a.example.net,{B},{C},{A}"));
    assert_eq!(selection.list(Strategy::Random).content, format!("{A},{B},{C},a.example.net"));
    let texts = |strategy| selection.addresses(strategy).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(Strategy::Failover), [B, C], "a server without an address takes no part");
    assert_eq!(texts(Strategy::RoundRobin), [A, B, C]);
}

#[test]
fn records_are_one_list_and_an_address_record_for_each_address() {
    let group = group(&[(A, 100), ("2001:db8::7", 100), ("a.example.net", 100)]);
    let names = Names {
        slug: "g".into(),
        txt: Some(Fqdn::parse("_wrap.g.example.com").unwrap()),
        a: Some(Fqdn::parse("www.example.com").unwrap()),
        ttl: 60,
    };
    let of = |members: &[MemberStatus]| -> Vec<String> {
        let selection = select(&group.0, &group.1, members);
        let records = records(&names, Strategy::RoundRobin, &selection);
        records.iter().map(|r| format!("{} {} {} {}", r.name, r.ttl, r.content.kind(), r.content)).collect()
    };
    let all = [up(A), up("2001:db8::7"), up("a.example.net")];
    let expected = [
        "_wrap.g.example.com 60 TXT 10.0.0.1,2001:db8::7,a.example.net",
        "www.example.com 60 A 10.0.0.1",
        "www.example.com 60 AAAA 2001:db8::7",
    ];
    assert_eq!(of(&all), expected);
    assert_eq!(of(&[]), ["_wrap.g.example.com 60 TXT no-healthy-servers"]);
}
