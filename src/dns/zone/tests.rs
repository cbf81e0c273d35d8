//! The writer against a zone in memory, under a paused clock: what it calls, when, and what it never does.

mod any_faults;
mod handed;
mod trouble;

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
