//! The writer against a zone in memory, under a paused clock: what it calls, when, and what it never does.

use std::net::Ipv4Addr;

use super::*;
use crate::api::names::ClusterId;
use crate::dns::fake::{Fake, Fault};
use crate::dns::record::{Content, Kind, Value};

struct Rig {
    fake: Fake,
    zone: Zone,
    wakes: mpsc::UnboundedReceiver<String>,
}

fn config(wakes: mpsc::UnboundedSender<String>) -> ZoneConfig {
    ZoneConfig {
        domain: Fqdn::parse("example.com").unwrap(),
        batch_limit: 3_500,
        resync: Duration::from_mins(5),
        read_only: false,
        metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
        wakes,
        health_wake: Some("zone".to_owned()),
    }
}

fn rig_with(fake: Fake, change: impl FnOnce(&mut ZoneConfig)) -> Rig {
    let (sender, wakes) = mpsc::unbounded_channel();
    let mut config = config(sender);
    change(&mut config);
    let zone = Zone::start(config, Arc::new(fake.clone()));
    Rig { fake, zone, wakes }
}

fn rig() -> Rig {
    rig_with(Fake::new(), |_| {})
}

fn uid(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

fn owner_with(label: &str, n: usize) -> Owner {
    let cluster = ClusterId::parse("0a1b2c3d").unwrap();
    Owner { mark: Mark::new(cluster, "Node", "shop", label, &uid(n)).unwrap(), wake: label.to_owned() }
}

fn owner(n: usize) -> Owner {
    owner_with(&format!("web-{n}"), n)
}

fn name(n: usize) -> Fqdn {
    Fqdn::parse(&format!("web-{n}.example.com")).unwrap()
}

fn address(n: usize) -> Content {
    Content::A(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + u32::try_from(n).unwrap()))
}

fn at(n: usize, content: Content) -> Vec<Desired> {
    vec![Desired { name: name(n), content, ttl: 300, proxied: false }]
}

fn foreign_address() -> Value {
    Value::Known(Content::A(Ipv4Addr::new(192, 0, 2, 1)))
}

impl Rig {
    /// Lets time pass until the answer is final, for at most `limit` of it.
    async fn until(
        &self,
        n: usize,
        records: &[Desired],
        limit: Duration,
        done: impl Fn(&Declared) -> bool,
    ) -> Declared {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.zone.declare(&owner(n), records.to_vec());
            if done(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "still {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn applied(&self, n: usize, records: &[Desired]) -> Vec<Published> {
        match self.until(n, records, Duration::from_secs(10), |answer| matches!(answer, Declared::Applied(_))).await {
            Declared::Applied(published) => published,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next wake.
    async fn woken(&mut self) -> String {
        tokio::time::timeout(Duration::from_mins(10), self.wakes.recv()).await.expect("a wake").unwrap()
    }

    /// Waits for the first listing to be over.
    async fn listed(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.zone.health().listed_ago.is_none() {
            assert!(Instant::now() < deadline, "the zone is never listed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.fake.calls();
    }
}

fn unavailable() -> OutsideError {
    OutsideError::Unavailable("500".into())
}

fn unknown() -> OutsideError {
    OutsideError::Unknown("the connection was cut".into())
}

#[tokio::test(start_paused = true)]
async fn one_record_costs_two_reads_and_one_write_and_its_owner_is_woken() {
    let mut rig = rig();
    rig.listed().await;
    assert_eq!(rig.zone.declare(&owner(1), at(1, address(1))), Declared::Pending);
    let started = Instant::now();
    assert_eq!(rig.woken().await, "web-1");
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    let published = rig.applied(1, &at(1, address(1))).await;
    assert_eq!((published[0].content.kind(), published[0].ttl), (Kind::A, 300));
    assert_eq!(rig.fake.calls(), ["at web-1.example.com", "usage", "batch 0-0-1", "at web-1.example.com"]);

    // A changed address is one patch that keeps the id.
    let moved = rig.applied(1, &at(1, address(7))).await;
    assert_eq!(moved[0].id, published[0].id);
    assert_eq!(rig.fake.calls(), ["at web-1.example.com", "batch 0-1-0", "at web-1.example.com"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_declarations_cost_one_listing_before_one_batch_and_one_listing_after() {
    let rig = rig();
    rig.listed().await;
    for n in 0..1_000 {
        assert_eq!(rig.zone.declare(&owner(n), at(n, address(n))), Declared::Pending);
    }
    rig.applied(999, &at(999, address(999))).await;
    assert_eq!(rig.fake.calls(), ["list", "usage", "batch 0-0-1000", "list"]);
    for n in 0..1_000 {
        assert!(matches!(rig.zone.declare(&owner(n), at(n, address(n))), Declared::Applied(_)), "{n}");
    }

    // Withdrawing them all is as cheap.
    for n in 0..1_000 {
        assert_eq!(rig.zone.declare(&owner(n), vec![]), Declared::Pending);
    }
    assert_eq!(rig.applied(500, &[]).await, []);
    assert_eq!(rig.fake.calls(), ["list", "batch 1000-0-0", "list"]);
    assert_eq!(rig.fake.shown(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_declarations_over_three_seconds_cost_few_batches_within_the_limit_of_a_free_plan() {
    let fake = Fake::new();
    {
        let mut inner = fake.inner();
        (inner.batch_limit, inner.quota, inner.latency) = (200, Some(1_000), Duration::from_millis(50));
    }
    let rig = rig_with(fake, |config| config.batch_limit = 200);
    rig.listed().await;
    let started = Instant::now();
    for n in 0..1_000 {
        let _ = rig.zone.declare(&owner(n), at(n, address(n)));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for n in 0..1_000 {
        rig.applied(n, &at(n, address(n))).await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let batches = rig.fake.inner().batch_sizes.clone();
    assert!(batches.len() <= 13, "{batches:?}");
    assert_eq!(batches.iter().sum::<usize>(), 1_000, "each record is sent once");
}

#[tokio::test(start_paused = true)]
async fn an_idle_zone_is_listed_once_a_resync_and_never_written() {
    let rig = rig();
    for n in 0..50 {
        let _ = rig.zone.declare(&owner(n), at(n, address(n)));
    }
    rig.applied(49, &at(49, address(49))).await;
    rig.fake.calls();
    tokio::time::sleep(Duration::from_hours(1)).await;
    let calls = rig.fake.calls();
    assert!((12..=14).contains(&calls.len()) && calls.iter().all(|call| call == "list"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_place_at_the_start_is_answered_at_once_and_not_written() {
    let rig = rig();
    rig.fake.put("web-1.example.com", Value::Known(address(1)), Some(&owner(1).mark));
    rig.listed().await;
    assert!(matches!(rig.zone.declare(&owner(1), at(1, address(1))), Declared::Applied(_)));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(rig.fake.calls(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_record_is_seen_before_anything_is_written_and_heals_when_it_goes() {
    let mut rig = rig();
    rig.listed().await;
    let id = rig.fake.put("web-1.example.com", foreign_address(), None);
    assert_eq!(rig.zone.declare(&owner(1), at(1, address(1))), Declared::Pending);
    rig.woken().await;
    let answer = rig.zone.declare(&owner(1), at(1, address(1)));
    assert!(matches!(&answer, Declared::Refused(Refusal::Foreign { record_id, .. }) if *record_id == id), "{answer:?}");
    assert_eq!(rig.fake.calls(), ["at web-1.example.com"], "nothing is written");

    rig.fake.inner().records.remove(&id);
    assert_eq!(rig.woken().await, "web-1");
    rig.applied(1, &at(1, address(1))).await;
    assert_eq!(rig.fake.shown(), ["web-1.example.com 198.18.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn one_refused_record_delays_none_of_the_others_and_costs_about_two_calls_per_halving() {
    let rig = rig();
    rig.fake.inner().poison.push(address(617));
    rig.listed().await;
    for n in 0..1_000 {
        let _ = rig.zone.declare(&owner(n), at(n, address(n)));
    }
    for n in (0..1_000).filter(|n| *n != 617) {
        rig.applied(n, &at(n, address(n))).await;
    }
    let answer = rig.zone.declare(&owner(617), at(617, address(617)));
    assert!(matches!(&answer, Declared::Refused(Refusal::Rejected { code, .. }) if code == "9005"), "{answer:?}");
    let calls = rig.fake.calls();
    let batches = calls.iter().filter(|call| call.starts_with("batch")).count();
    assert!(batches <= 21, "{batches} batches");
    assert_eq!(calls.len() - batches, 3, "{calls:?}");

    // It is not sent again by itself before the next listing, and then alone.
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(rig.fake.calls(), Vec::<String>::new());
    tokio::time::sleep(Duration::from_secs(100)).await;
    let retried = rig.fake.calls();
    assert_eq!(retried.iter().filter(|call| *call == "batch 0-0-1").count(), 1, "{retried:?}");

    // A corrected record goes through at once.
    rig.applied(617, &at(617, address(2_000))).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_looked_up_and_never_repeated_blindly() {
    for committed in [true, false] {
        let rig = rig();
        rig.listed().await;
        let fault = if committed { Fault::FailAfter(unknown()) } else { Fault::Fail(unknown()) };
        rig.fake.inner().write_faults.push_back(fault);
        for n in 0..30 {
            let _ = rig.zone.declare(&owner(n), at(n, address(n)));
        }
        for n in 0..30 {
            rig.applied(n, &at(n, address(n))).await;
        }
        let calls = rig.fake.calls();
        let second = if committed { vec![] } else { vec!["batch 0-0-30", "list"] };
        assert_eq!(calls, [vec!["list", "usage", "batch 0-0-30", "list"], second].concat(), "committed: {committed}");
        assert_eq!(rig.fake.shown().len(), 30);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_takes_effect_late_leaves_no_second_record() {
    let rig = rig();
    rig.listed().await;
    rig.fake.inner().write_faults.push_back(Fault::Late(Duration::from_secs(20), unknown()));
    let _ = rig.zone.declare(&owner(1), at(1, address(1)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The address changed meanwhile, so the late record is not even identical.
    rig.applied(1, &at(1, address(2))).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(rig.fake.shown(), ["web-1.example.com 198.18.0.2"]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_during_an_unknown_write_is_not_answered_from_memory() {
    let rig = rig();
    rig.listed().await;
    rig.fake.inner().write_faults.push_back(Fault::FailAfter(unknown()));
    let _ = rig.zone.declare(&owner(1), at(1, address(1)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!matches!(rig.zone.declare(&owner(1), vec![]), Declared::Applied(_)));
    assert_eq!(rig.applied(1, &[]).await, []);
    assert_eq!(rig.fake.shown(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_owner_forgotten_while_its_record_is_being_written_is_not_told_from_memory_that_it_has_none() {
    let fake = Fake::new();
    fake.inner().latency = Duration::from_millis(100);
    let rig = rig_with(fake, |_| {});
    rig.listed().await;
    let _ = rig.zone.declare(&owner(1), at(1, address(1)));
    while rig.fake.inner().batch_sizes.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rig.zone.forget(&owner(1).mark);
    assert_eq!(rig.zone.declare(&owner(1), vec![]), Declared::Pending);
    assert_eq!(rig.applied(1, &[]).await, []);
    assert_eq!(rig.fake.shown(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn while_the_zone_cannot_be_read_nothing_is_written_and_nothing_declared_is_lost() {
    let fake = Fake::new();
    fake.put("web-1.example.com", Value::Known(address(1)), Some(&owner(1).mark));
    let mut rig = rig_with(fake, |_| {});
    rig.listed().await;
    assert!(matches!(rig.zone.declare(&owner(1), at(1, address(1))), Declared::Applied(_)));
    rig.fake.inner().read_faults.extend(vec![Fault::Fail(unavailable()); 8]);
    rig.zone.refresh();
    assert_eq!(rig.woken().await, "zone");
    assert_eq!(rig.zone.health().blocked, Some(unavailable()));
    // What is in place keeps its answer; what is new waits.
    assert!(matches!(rig.zone.declare(&owner(1), at(1, address(1))), Declared::Applied(_)));
    assert_eq!(rig.zone.declare(&owner(2), at(2, address(2))), Declared::Blocked(unavailable()));
    assert!(rig.fake.calls().iter().all(|call| call == "list"));
    let done = |answer: &Declared| matches!(answer, Declared::Applied(_));
    rig.until(2, &at(2, address(2)), Duration::from_mins(5), done).await;
    assert_eq!(rig.zone.health().blocked, None);
}

#[tokio::test(start_paused = true)]
async fn failures_are_repeated_ever_more_slowly() {
    let fake = Fake::new();
    fake.inner().read_faults.extend(vec![Fault::Fail(unavailable()); 1_000]);
    let rig = rig_with(fake, |_| {});
    let _ = rig.zone.declare(&owner(1), at(1, address(1)));
    tokio::time::sleep(Duration::from_mins(10)).await;
    let calls = rig.fake.calls().len();
    assert!((10..=20).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_new_token_takes_effect_at_once() {
    let fake = Fake::new();
    fake.inner().wants_token = Some(Token::new("new"));
    let rig = rig_with(fake, |_| {});
    let _ = rig.zone.declare(&owner(1), at(1, address(1)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let answer = rig.zone.declare(&owner(1), at(1, address(1)));
    assert!(matches!(answer, Declared::Blocked(OutsideError::Unauthorized(_))), "{answer:?}");
    assert_eq!(rig.fake.calls(), ["list"], "a refused token is not tried again and again");
    rig.zone.set_token("2", Token::new("new\n"));
    let started = Instant::now();
    rig.applied(1, &at(1, address(1))).await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(rig.zone.health().token_version.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn records_edited_or_deleted_by_a_person_are_repaired_on_refresh_and_those_without_mark_left_alone() {
    let rig = rig();
    for n in 1..=3 {
        rig.applied(n, &at(n, address(n))).await;
    }
    {
        let mut inner = rig.fake.inner();
        let ids: Vec<_> = inner.records.keys().cloned().collect();
        inner.records.get_mut(&ids[0]).unwrap().value = foreign_address();
        inner.records.remove(&ids[1]);
        let taken = inner.records.get_mut(&ids[2]).unwrap();
        (taken.value, taken.mark) = (foreign_address(), None);
    }
    rig.fake.calls();
    rig.zone.refresh();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        rig.fake.shown(),
        ["web-1.example.com 198.18.0.1", "web-2.example.com 198.18.0.2", "web-3.example.com 192.0.2.1"]
    );
    let answer = rig.zone.declare(&owner(3), at(3, address(3)));
    assert!(matches!(answer, Declared::Refused(Refusal::Foreign { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn many_checks_are_one_listing_and_are_answered_by_a_wake() {
    let mut rig = rig();
    rig.fake.put("web-7.example.com", foreign_address(), None);
    rig.listed().await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    for n in 0..500 {
        assert_eq!(rig.zone.check(&owner(n), &name(n)), Checked::Pending);
    }
    for _ in 0..500 {
        rig.woken().await;
    }
    assert_eq!(rig.fake.calls(), ["list"]);
    assert!(matches!(rig.zone.check(&owner(7), &name(7)), Checked::Taken(Refusal::Foreign { .. })));
    assert_eq!(rig.zone.check(&owner(8), &name(8)), Checked::Free);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_answered_says_so_and_heals() {
    let fake = Fake::new();
    fake.inner().read_faults.extend(vec![Fault::Fail(unavailable()); 3]);
    let mut rig = rig_with(fake, |_| {});
    assert_eq!(rig.zone.check(&owner(1), &name(1)), Checked::Pending);
    let mut answers = Vec::new();
    while answers.last() != Some(&Checked::Free) {
        if rig.woken().await == "web-1" {
            answers.push(rig.zone.check(&owner(1), &name(1)));
        }
    }
    assert_eq!(answers, [Checked::Blocked(unavailable()), Checked::Free]);
}

#[tokio::test(start_paused = true)]
async fn a_namesakes_record_waits_for_adoption_and_keeps_its_id() {
    let rig = rig();
    let before = owner_with("web-1", 9);
    let id = rig.fake.put("web-1.example.com", Value::Known(address(1)), Some(&before.mark));
    rig.listed().await;
    let refused = |answer: &Declared| matches!(answer, Declared::Refused(Refusal::AdoptionRequired { .. }));
    rig.until(1, &at(1, address(1)), Duration::from_secs(5), refused).await;
    assert!(matches!(rig.zone.check(&owner(1), &name(1)), Checked::Taken(Refusal::AdoptionRequired { .. })));
    rig.zone.adopt(&owner(1), &before.mark.owner);
    assert_eq!(rig.applied(1, &at(1, address(1))).await[0].id, id);
    assert_eq!(rig.fake.inner().records[&id].mark, Some(owner(1).mark));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_by_name_of_the_quota_and_published_when_room_appears() {
    let rig = rig();
    rig.fake.inner().quota = Some(3);
    rig.listed().await;
    for n in 0..5 {
        let _ = rig.zone.declare(&owner(n), at(n, address(n)));
    }
    for n in 0..3 {
        rig.applied(n, &at(n, address(n))).await;
    }
    for n in 3..5 {
        assert_eq!(
            rig.zone.declare(&owner(n), at(n, address(n))),
            Declared::Refused(Refusal::Quota { used: 3, quota: 3 })
        );
    }
    rig.fake.calls();
    tokio::time::sleep(Duration::from_secs(250)).await;
    let calls = rig.fake.calls();
    assert!(calls.len() <= 5 && calls.iter().all(|call| call == "usage"), "{calls:?}");
    // Room of our own making is used at once, in the order of declaration; room made outside within a minute.
    rig.applied(0, &[]).await;
    rig.applied(3, &at(3, address(3))).await;
    rig.fake.inner().quota = Some(10);
    let done = |answer: &Declared| matches!(answer, Declared::Applied(_));
    rig.until(4, &at(4, address(4)), Duration::from_secs(70), done).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_blocks_writing_but_not_looking() {
    let rig = rig();
    rig.listed().await;
    let forbidden = OutsideError::Forbidden("it needs Zone > DNS > Edit".into());
    rig.fake.inner().write_faults.extend(vec![Fault::Fail(forbidden.clone()); 2]);
    tokio::time::sleep(Duration::from_mins(2)).await;
    let _ = rig.zone.declare(&owner(1), at(1, address(1)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.zone.declare(&owner(1), at(1, address(1))), Declared::Blocked(forbidden));
    assert_eq!(rig.zone.check(&owner(2), &name(2)), Checked::Pending);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.zone.check(&owner(2), &name(2)), Checked::Free);
    let done = |answer: &Declared| matches!(answer, Declared::Applied(_));
    rig.until(1, &at(1, address(1)), Duration::from_mins(3), done).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_only_operator_reads_answers_and_writes_nothing() {
    let fake = Fake::new();
    fake.put("web-1.example.com", Value::Known(address(1)), Some(&owner(1).mark));
    let rig = rig_with(fake, |config| config.read_only = true);
    rig.listed().await;
    assert!(matches!(rig.zone.declare(&owner(1), at(1, address(1))), Declared::Applied(_)));
    let _ = rig.zone.declare(&owner(2), at(2, address(2)));
    let blocked = |answer: &Declared| matches!(answer, Declared::Blocked(OutsideError::Forbidden(_)));
    rig.until(2, &at(2, address(2)), Duration::from_secs(5), blocked).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    let calls = rig.fake.calls();
    assert!(calls.iter().all(|call| !call.starts_with("batch")), "{calls:?}");
    assert!(calls.len() <= 30, "{}", calls.len());
}

#[tokio::test(start_paused = true)]
async fn withdrawing_goes_on_while_the_budget_for_other_work_is_used_up() {
    let rig = rig();
    rig.applied(1, &at(1, address(1))).await;
    let after = Duration::from_mins(4);
    rig.fake.inner().write_faults.push_back(Fault::Fail(OutsideError::RateLimited { after }));
    let _ = rig.zone.declare(&owner(2), at(2, address(2)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let blocked = rig.zone.declare(&owner(2), at(2, address(2)));
    assert!(matches!(blocked, Declared::Blocked(OutsideError::RateLimited { .. })), "{blocked:?}");
    assert_eq!(rig.applied(1, &[]).await, []);
    rig.fake.calls();
    tokio::time::sleep(Duration::from_mins(3)).await;
    assert_eq!(rig.fake.calls(), Vec::<String>::new(), "the wait is honoured in full");
    let done = |answer: &Declared| matches!(answer, Declared::Applied(_));
    rig.until(2, &at(2, address(2)), Duration::from_mins(2), done).await;
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_of_an_owner_nothing_is_known_of_needs_a_fresh_listing() {
    let rig = rig();
    rig.listed().await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    rig.fake.put("web-1.example.com", Value::Known(address(1)), Some(&owner(1).mark));
    assert_eq!(rig.zone.declare(&owner(1), vec![]), Declared::Pending);
    assert_eq!(rig.applied(1, &[]).await, []);
    assert_eq!(rig.fake.shown(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn forgetting_an_owner_touches_no_record_and_the_orphan_report_still_shows_it() {
    let rig = rig();
    rig.applied(1, &at(1, address(1))).await;
    rig.zone.forget(&owner(1).mark);
    rig.zone.refresh();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.fake.shown(), ["web-1.example.com 198.18.0.1"]);
    let owned = rig.zone.owned_records().unwrap();
    assert_eq!(owned.records.iter().map(|(mark, _)| mark.clone()).collect::<Vec<_>>(), [owner(1).mark]);
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_the_call_in_flight_end_and_starts_no_other() {
    let fake = Fake::new();
    fake.inner().latency = Duration::from_millis(100);
    let rig = rig_with(fake, |_| {});
    rig.listed().await;
    let _ = rig.zone.declare(&owner(1), at(1, address(1)));
    tokio::time::sleep(Duration::from_millis(300)).await; // the batch is under way
    assert_eq!(rig.fake.calls().last().map(String::as_str), Some("batch 0-0-1"));
    rig.zone.stop().await;
    assert_eq!(rig.fake.shown().len(), 1);
    let _ = rig.zone.declare(&owner(2), at(2, address(2)));
    rig.fake.calls();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(rig.fake.calls(), Vec::<String>::new());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever fails on the way: in the end the zone shows what was declared last and foreign records are untouched;
    /// "applied" was true whenever it was said; and whoever was told to wait was woken.
    #[test]
    fn any_faults_end_in_exactly_what_was_declared(
        steps in proptest::collection::vec((0..6usize, 0..3usize, 0..3_000u64), 1..25),
        faults in proptest::collection::vec((0..4u8, proptest::prelude::any::<bool>()), 0..8),
        latency in 0..400u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(any_faults(steps, faults, latency));
    }
}

async fn any_faults(steps: Vec<(usize, usize, u64)>, faults: Vec<(u8, bool)>, latency: u64) {
    let mut rig = rig();
    rig.fake.put("elsewhere.example.com", foreign_address(), None);
    let late = faults.iter().any(|(kind, write)| *kind == 2 && *write);
    {
        let mut inner = rig.fake.inner();
        inner.latency = Duration::from_millis(latency);
        for (kind, write) in faults {
            let fault = match kind {
                0 => Fault::Fail(if write { unknown() } else { unavailable() }),
                1 => Fault::FailAfter(if write { unknown() } else { unavailable() }),
                2 if write => Fault::Late(Duration::from_secs(15), unknown()),
                _ => Fault::Fail(OutsideError::RateLimited { after: Duration::from_secs(30) }),
            };
            if write { inner.write_faults.push_back(fault) } else { inner.read_faults.push_back(fault) }
        }
    }
    let held = |rig: &Rig, n: usize| -> Vec<String> {
        let prefix = format!("{} ", name(n));
        rig.fake.shown().into_iter().filter(|line| line.starts_with(&prefix)).collect()
    };
    let shown = |records: &[Desired]| -> Vec<String> {
        records.iter().map(|record| format!("{} {}", record.name, record.content)).collect()
    };
    let mut wanted = std::collections::BTreeMap::new();
    let mut waiting = std::collections::BTreeSet::new();
    for (n, content, wait) in steps {
        while let Ok(wake) = rig.wakes.try_recv() {
            waiting.remove(&wake);
        }
        let records = if content == 0 { vec![] } else { at(n, address(100 * n + content)) };
        match rig.zone.declare(&owner(n), records.clone()) {
            // A write that takes effect after everybody stopped expecting it cannot be foreseen, only repaired.
            Declared::Applied(_) => {
                assert!(late || held(&rig, n) == shown(&records));
                waiting.remove(&owner(n).wake);
            }
            Declared::Pending | Declared::Blocked(_) => drop(waiting.insert(owner(n).wake)),
            Declared::Refused(refusal) => panic!("{refusal}"),
        }
        wanted.insert(n, records);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    tokio::time::sleep(Duration::from_mins(20)).await;
    while let Ok(wake) = rig.wakes.try_recv() {
        waiting.remove(&wake);
    }
    assert!(waiting.is_empty(), "never woken: {waiting:?}");
    let mut expected: Vec<_> = wanted.values().flat_map(|records| shown(records)).collect();
    expected.push("elsewhere.example.com 192.0.2.1".to_owned());
    expected.sort();
    assert_eq!(rig.fake.shown(), expected);
    for (n, records) in wanted {
        assert!(matches!(rig.zone.declare(&owner(n), records), Declared::Applied(_)));
    }
}
