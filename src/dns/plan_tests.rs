use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::api::names::ClusterId;

const UID: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
const OTHER_UID: &str = "7f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";

fn mark(name: &str, uid: &str) -> Mark {
    Mark::new(ClusterId::parse("0a1b2c3d").unwrap(), "Node", "shop", name, uid).unwrap()
}

fn own() -> Mark {
    mark("web-1", UID)
}

/// The same object under another UID.
fn namesake() -> Mark {
    mark("web-1", OTHER_UID)
}

fn stranger() -> Mark {
    mark("web-2", "8f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c")
}

fn name(label: &str) -> Fqdn {
    Fqdn::parse(&format!("{label}.example.com")).unwrap()
}

fn a(last: u8) -> Content {
    Content::A(Ipv4Addr::new(203, 0, 113, last))
}

fn want(label: &str, content: Content) -> Desired {
    Desired { name: name(label), content, ttl: 300, proxied: false }
}

fn record(id: &str, label: &str, value: Value, mark: Option<Mark>) -> Record {
    Record { id: id.into(), name: format!("{label}.example.com").into(), value, ttl: 300, proxied: false, mark }
}

fn address(id: &str, label: &str, last: u8, mark: Option<Mark>) -> Record {
    record(id, label, Value::Known(a(last)), mark)
}

fn other(id: &str, label: &str, kind: &str, content: &str) -> Record {
    record(id, label, Value::from_wire(kind, content), None)
}

fn run(desired: &[Desired], records: Vec<Record>, adopt: Option<&str>) -> OwnerPlan {
    let domain = Fqdn::parse("example.com").unwrap();
    plan(Claimant { mark: &own(), adopt, handed: &HandOvers::new() }, &domain, desired, &Snapshot::of(records))
}

/// What both come to while the stranger hands the name `web` to us: our plan, and its own.
fn handing(ours: &[Desired], theirs: &[Desired], records: &[Record]) -> (OwnerPlan, OwnerPlan) {
    let domain = Fqdn::parse("example.com").unwrap();
    let (own, stranger) = (own(), stranger());
    let handed = [("web.example.com".into(), HandOver { from: stranger.key.clone(), to: own.clone() })].into();
    let run = |mark, desired| {
        plan(Claimant { mark, adopt: None, handed: &handed }, &domain, desired, &Snapshot::of(records.to_vec()))
    };
    (run(&own, ours), run(&stranger, theirs))
}

#[test]
fn a_name_that_is_handed_over_is_one_patch_of_the_record_that_is_there() {
    let there = [address("r1", "web", 1, Some(stranger())), address("r2", "www", 1, Some(stranger()))];
    for wanted in [a(2), a(1)] {
        let text = format!("patch r1 -> {wanted}");
        let ours = [want("web", wanted)];
        // Whether the other one still asks for the name or not.
        for theirs in [vec![want("web", a(1)), want("www", a(1))], vec![want("www", a(1))]] {
            let (get, give) = handing(&ours, &theirs, &there);
            assert_eq!((ops(&get), get.refusals), (vec![text.clone()], vec![]));
            assert_eq!((ops(&give), give.refusals), (vec![], vec![]), "{theirs:?}");
        }
    }
    // Where it has nothing left, its other records go, and this one stays.
    let (_, give) = handing(&[want("web", a(2))], &[], &there);
    assert_eq!(ops(&give), ["delete r2"]);
    // Once it is ours nothing is left to do, for either.
    let after = [address("r1", "web", 2, Some(own())), address("r2", "www", 1, Some(stranger()))];
    let (get, give) = handing(&[want("web", a(2))], &[want("web", a(1)), want("www", a(1))], &after);
    assert_eq!((ops(&get), ops(&give)), (vec![], vec![]));
    assert_eq!((get.settled.len(), give.settled.len(), give.refusals), (1, 1, vec![]));
}

#[test]
fn of_a_name_that_is_handed_over_nobody_elses_record_is_touched() {
    let third = mark("web-3", "9f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c");
    let elsewhere = Mark { cluster: ClusterId::parse("ffffffff").unwrap(), ..stranger() };
    for other in [None, Some(third), Some(elsewhere)] {
        let (get, give) = handing(&[want("web", a(2))], &[], &[address("r1", "web", 1, other.clone())]);
        assert_eq!((ops(&get), ops(&give)), (vec![], vec![]), "{other:?}");
        assert!(matches!(&get.refusals[..], [Refusal::Foreign { .. }]), "{other:?}");
    }
    // Another record of the one who hands it over is its own.
    let (get, _) = handing(&[want("web", a(2))], &[], &[address("r1", "www", 1, Some(stranger()))]);
    assert_eq!(ops(&get), ["post web.example.com 203.0.113.2"]);
}

#[test]
fn of_two_records_that_are_handed_over_to_one_address_one_is_patched_and_one_goes() {
    let there = [address("r1", "web", 1, Some(stranger())), address("r2", "web", 2, Some(stranger()))];
    let (get, give) = handing(&[want("web", a(3))], &[], &there);
    assert_eq!((ops(&get), ops(&give)), (vec!["patch r1 -> 203.0.113.3".into(), "delete r2".into()], vec![]));
}

/// The operations in short: `delete id`, `patch id -> content`, `post name content`.
fn ops(plan: &OwnerPlan) -> Vec<String> {
    let short = |op: &Op| match op {
        Op::Delete(record) => format!("delete {}", record.id),
        Op::Patch { from, to } => format!("patch {} -> {}", from.id, to.content),
        Op::Post(to) => format!("post {} {}", to.name, to.content),
    };
    plan.ops.iter().map(short).collect()
}

/// What it is, what is wanted, what is there, and the operations in short.
type Case = (&'static str, Vec<Desired>, Vec<Record>, &'static [&'static str]);

#[test]
fn each_situation_gets_exactly_its_operations() {
    let web = || want("web", a(1));
    let cases: Vec<Case> = vec![
        ("nothing there", vec![web()], vec![], &["post web.example.com 203.0.113.1"]),
        ("already there", vec![web()], vec![address("r1", "web", 1, Some(own()))], &[]),
        ("other address", vec![web()], vec![address("r1", "web", 9, Some(own()))], &["patch r1 -> 203.0.113.1"]),
        (
            "the right one is kept and the surplus goes",
            vec![web()],
            vec![address("r1", "web", 9, Some(own())), address("r2", "web", 1, Some(own()))],
            &["delete r1"],
        ),
        ("withdrawn", vec![], vec![address("r1", "web", 1, Some(own()))], &["delete r1"]),
        (
            "moved to another name",
            vec![want("www", a(1))],
            vec![address("r1", "web", 1, Some(own()))],
            &["post www.example.com 203.0.113.1", "delete r1"],
        ),
        ("a person removed the mark", vec![web()], vec![address("r1", "web", 9, None)], &[]),
        ("another owner's address", vec![web()], vec![address("r1", "web", 1, Some(stranger()))], &[]),
        ("a foreign CNAME", vec![web()], vec![other("r1", "web", "CNAME", "x.example.net")], &[]),
        ("a foreign AAAA", vec![web()], vec![other("r1", "web", "AAAA", "2001:db8::1")], &[]),
        ("a delegation", vec![web()], vec![other("r1", "web", "NS", "ns.example.net")], &[]),
        (
            "foreign text beside an address",
            vec![web()],
            vec![other("r1", "web", "TXT", "\"v=spf1\"")],
            &["post web.example.com 203.0.113.1"],
        ),
        (
            "our address keeps following the VM even beside a foreign AAAA",
            vec![web()],
            vec![address("r1", "web", 9, Some(own())), other("r2", "web", "AAAA", "2001:db8::1")],
            &["patch r1 -> 203.0.113.1"],
        ),
        ("a namesake elsewhere", vec![web()], vec![address("r1", "old", 1, Some(namesake()))], &[]),
        ("withdrawing leaves a namesake alone", vec![], vec![address("r1", "web", 1, Some(namesake()))], &[]),
        (
            "text is compared unquoted and joined",
            vec![want("t", Content::Txt("ab".into()))],
            vec![record("r1", "t", Value::from_wire("TXT", r#""a" "b""#), Some(own()))],
            &[],
        ),
    ];
    for (case, desired, records, expected) in cases {
        assert_eq!(ops(&run(&desired, records, None)), expected, "{case}");
    }
}

#[test]
fn ttl_proxy_and_mark_are_restored_by_a_patch_that_keeps_the_id() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 3] = [
        ("ttl", |record| record.ttl = 60),
        ("proxied", |record| record.proxied = true),
        ("key of the mark", |record| record.mark.as_mut().unwrap().key = "0".repeat(16)),
    ];
    for (what, change) in changes {
        let mut held = address("r1", "web", 1, Some(own()));
        change(&mut held);
        assert_eq!(ops(&run(&[want("web", a(1))], vec![held], None)), ["patch r1 -> 203.0.113.1"], "{what}");
    }
}

#[test]
fn a_proxied_record_is_compared_with_ttl_one() {
    let desired = Desired { proxied: true, ..want("web", a(1)) };
    let held = Record { ttl: 1, proxied: true, ..address("r1", "web", 1, Some(own())) };
    assert_eq!(run(&[desired], vec![held], None).ops, []);
}

#[test]
fn refusals_name_what_is_in_the_way_and_what_to_do() {
    for (records, text) in [
        (
            vec![other("r1", "web", "CNAME", "x.example.net")],
            "web.example.com already has the CNAME record `x.example.net` (id r1), which Roadstead did not make: \
             delete it or choose another name",
        ),
        (
            vec![address("r1", "web", 9, None)],
            "web.example.com already has the A record `203.0.113.9` (id r1), which Roadstead did not make: delete it \
             or choose another name",
        ),
        (
            vec![address("r1", "web", 1, Some(namesake()))],
            "web.example.com has the record `203.0.113.1` (id r1) of an earlier object of this name (cluster \
             0a1b2c3d): annotate this one with `roadstead.dev/adopt: p4pyuhs2kvhh5gykbror6orljq` to take it over",
        ),
    ] {
        let plan = run(&[want("web", a(1))], records, None);
        assert_eq!(plan.refusals.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    }
}

#[test]
fn a_name_outside_the_zone_and_a_text_too_long_are_refused_without_a_call() {
    let outside = Desired { name: Fqdn::parse("web.example.org").unwrap(), ..want("web", a(1)) };
    let long = want("t", Content::Txt("x".repeat(TXT_MAX + 1)));
    let plan = run(&[outside, long, want("ok", a(1))], vec![], None);
    assert_eq!(ops(&plan), ["post ok.example.com 203.0.113.1"]);
    let codes: Vec<_> = plan
        .refusals
        .iter()
        .map(|refusal| match refusal {
            Refusal::Rejected { code, .. } => code.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, ["not-in-zone", "txt-too-long"]);
}

#[test]
fn adoption_takes_over_exactly_the_records_of_that_namesake() {
    let o = namesake().owner;
    let records = || vec![address("r1", "web", 1, Some(namesake())), address("r2", "web2", 2, Some(stranger()))];
    let plan = run(&[want("web", a(1))], records(), Some(&o));
    assert_eq!((ops(&plan), plan.refusals), (vec!["patch r1 -> 203.0.113.1".to_owned()], vec![]));

    let wrong = run(&[want("web", a(1))], records(), Some(&stranger().owner));
    assert_eq!(ops(&wrong), Vec::<String>::new());
    assert!(matches!(wrong.refusals[..], [Refusal::AdoptionRequired { .. }]));
}

#[test]
fn a_check_tells_free_own_and_taken_apart() {
    let at = |records: Vec<Record>| {
        let claimant = Claimant { mark: &own(), adopt: None, handed: &HandOvers::new() };
        standing(claimant, &name("web"), &Snapshot::of(records))
    };
    assert_eq!(at(vec![]), Standing::Free);
    assert_eq!(at(vec![other("r1", "web", "TXT", "x")]), Standing::Free);
    assert!(matches!(at(vec![address("r1", "web", 1, Some(own()))]), Standing::Own(records) if records[0].id == "r1"));
    assert!(matches!(at(vec![address("r1", "web", 1, None)]), Standing::Taken(Refusal::Foreign { .. })));
    assert!(matches!(
        at(vec![address("r1", "else", 1, Some(namesake()))]),
        Standing::Taken(Refusal::AdoptionRequired { .. })
    ));
}

/// Any mixture of owners, types and names, small enough to collide often.
fn any_record() -> impl Strategy<Value = (u8, u8, u8, u8)> {
    (0..4u8, 0..4u8, 0..4u8, 0..3u8)
}

fn build(index: usize, (who, kind, content, label): (u8, u8, u8, u8)) -> Record {
    let value = match kind {
        0 => Value::Known(a(content)),
        1 => Value::Known(Content::Aaaa(u128::from(content).into())),
        2 => Value::Known(Content::Txt(content.to_string())),
        _ => Value::from_wire("CNAME", "x.example.net"),
    };
    let mark = match who {
        0 => Some(own()),
        1 => Some(namesake()),
        2 => Some(stranger()),
        _ => None,
    };
    record(&format!("r{index:02}"), ["web", "www", "t"][usize::from(label)], value, mark)
}

fn build_desired((_, kind, content, label): (u8, u8, u8, u8)) -> Desired {
    let content = match kind % 3 {
        0 => a(content),
        1 => Content::Aaaa(u128::from(content).into()),
        _ => Content::Txt(content.to_string()),
    };
    want(["web", "www", "t"][usize::from(label)], content)
}

/// What the zone holds once the operations went through.
fn apply(records: &[Record], ops: &[Op]) -> Vec<Record> {
    let mut after: Vec<_> = records.to_vec();
    for (n, op) in ops.iter().enumerate() {
        let made = |id: &str, to: &Desired| Record {
            id: id.into(),
            name: to.name.as_str().into(),
            value: Value::Known(to.content.clone()),
            ttl: to.effective_ttl(),
            proxied: to.is_proxied(),
            mark: Some(own()),
        };
        match op {
            Op::Delete(record) => after.retain(|other| other.id != record.id),
            Op::Patch { from, to } => {
                after.retain(|other| other.id != from.id);
                after.push(made(&from.id, to));
            }
            Op::Post(to) => after.push(made(&format!("new{n}"), to)),
        }
    }
    after
}

proptest! {
    #[test]
    fn nothing_but_own_records_is_touched_and_a_second_plan_is_empty(
        there in prop::collection::vec(any_record(), 0..12),
        wanted in prop::collection::vec(any_record(), 0..6),
        adopting in any::<bool>(),
    ) {
        let records: Vec<_> = there.into_iter().enumerate().map(|(n, seed)| build(n, seed)).collect();
        let desired: Vec<_> = wanted.into_iter().map(build_desired).collect();
        let o = namesake().owner;
        let adopt = adopting.then_some(o.as_str());
        let plan = run(&desired, records.clone(), adopt);

        for op in &plan.ops {
            if let Op::Delete(record) | Op::Patch { from: record, .. } = op {
                let owner = record.mark.as_ref();
                prop_assert!(owner == Some(&own()) || (adopting && owner == Some(&namesake())), "{op:?}");
            }
        }
        let after = apply(&records, &plan.ops);
        let again = run(&desired, after.clone(), adopt);
        prop_assert_eq!(&again.ops, &vec![], "{:?}", after);
        prop_assert_eq!(again.refusals.is_empty(), plan.refusals.is_empty());
        // Either everything wanted is there, or there is a reason why not.
        let distinct: std::collections::HashSet<_> = desired.iter().collect();
        prop_assert!(again.settled.len() == distinct.len() || !again.refusals.is_empty());
    }
}
