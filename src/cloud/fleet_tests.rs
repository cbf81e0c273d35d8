//! The fleet against a scripted provider, on a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::cloud::{Account, Catalogue, CreateVm, Listing, VmStatus};
use crate::outside::budget::Priority;

const SETTLE: Duration = Duration::from_mins(1);
const LISTING_TAKES: Duration = Duration::from_secs(1);

/// Lists what it is told to, each listing taking a second, and counts.
struct Scripted {
    listings: AtomicUsize,
    answer: Mutex<Result<Listing, OutsideError>>,
}

#[async_trait]
impl VmProvider for Scripted {
    async fn list_owned(&self, _: &ClusterId) -> Result<Listing, OutsideError> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        // A listing shows the world as it was when it began.
        let answer = self.answer.lock().unwrap().clone();
        tokio::time::sleep(LISTING_TAKES).await;
        answer
    }

    async fn account(&self) -> Result<Account, OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn create(&self, _: &CreateVm) -> Result<Vm, OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn get(&self, _: &str, _: Priority) -> Result<Option<Vm>, OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn find_by_owner(&self, _: &Mark, _: Priority) -> Result<Listing, OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn find_by_key(&self, _: &Mark) -> Result<Listing, OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn delete(&self, _: &str) -> Result<(), OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn mark(&self, _: &str, _: Option<&Mark>, _: &Mark) -> Result<(), OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn unmark(&self, _: &str, _: &Mark) -> Result<(), OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn delete_owner_tags(&self, _: &Mark) -> Result<(), OutsideError> {
        unimplemented!("a fleet only lists")
    }
    async fn catalogue(&self) -> Result<Catalogue, OutsideError> {
        unimplemented!("a fleet only lists")
    }
}

fn cluster() -> ClusterId {
    ClusterId::parse("c1").unwrap()
}

fn mark(name: &str) -> Mark {
    Mark::new(cluster(), "Node", "shop", name, "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c").unwrap()
}

fn vm(id: &str) -> Vm {
    Vm {
        id: id.to_owned(),
        name: format!("{id}-x-1"),
        status: VmStatus::Active,
        public4: None,
        public6: None,
        private4: None,
        region: "fra1".to_owned(),
        size: "s-1vcpu-1gb".to_owned(),
        image: "debian-12-x64".to_owned(),
        mark: Some(mark(id)),
        tags: Vec::new(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "an answer of the script")]
fn whole(ids: &[&str]) -> Result<Listing, OutsideError> {
    Ok(Listing { vms: ids.iter().map(|id| vm(id)).collect(), whole: true })
}

fn fleet(answer: Result<Listing, OutsideError>) -> (Fleet, Arc<Scripted>) {
    let scripted = Arc::new(Scripted { listings: AtomicUsize::new(0), answer: Mutex::new(answer) });
    (Fleet::new(Arc::clone(&scripted) as Arc<dyn VmProvider>, cluster(), SETTLE), scripted)
}

impl Scripted {
    fn answers(&self, answer: Result<Listing, OutsideError>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn count(&self) -> usize {
        self.listings.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_listing_and_a_late_one_who_wants_it_fresh_gets_another() {
    let (fleet, scripted) = fleet(whole(&["1", "2"]));
    let all = futures::future::join_all((0..1_000).map(|_| fleet.snapshot(Duration::ZERO))).await;
    assert!(all.into_iter().all(|snapshot| snapshot.unwrap().vms().len() == 2));
    assert_eq!(scripted.count(), 1);
    tokio::time::advance(Duration::from_secs(10)).await;
    fleet.snapshot(Duration::from_mins(1)).await.unwrap();
    assert_eq!(scripted.count(), 1, "young enough");
    let snapshot = fleet.snapshot(Duration::ZERO).await.unwrap();
    assert_eq!((scripted.count(), snapshot.age()), (2, LISTING_TAKES));
}

#[tokio::test(start_paused = true)]
async fn callers_who_arrive_during_a_listing_and_want_a_newer_one_share_the_next() {
    let (fleet, scripted) = fleet(whole(&[]));
    let first = tokio::spawn({
        let fleet = fleet.clone();
        async move { fleet.snapshot(Duration::ZERO).await }
    });
    tokio::time::sleep(LISTING_TAKES / 2).await;
    scripted.answers(whole(&["new"]));
    let late = futures::future::join_all((0..100).map(|_| fleet.snapshot(Duration::ZERO))).await;
    assert!(first.await.unwrap().unwrap().vms().is_empty());
    assert!(late.into_iter().all(|snapshot| snapshot.unwrap().vm("new").is_some()));
    assert_eq!(scripted.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_listing_fails_all_who_wait_once_and_is_tried_again_soon() {
    let (fleet, scripted) = fleet(Err(OutsideError::Unavailable("down".to_owned())));
    let all = futures::future::join_all((0..1_000).map(|_| fleet.snapshot(Duration::from_mins(5)))).await;
    assert!(all.into_iter().all(|snapshot| snapshot.is_err()));
    assert!(fleet.snapshot(Duration::from_mins(5)).await.is_err());
    assert_eq!(scripted.count(), 1);
    scripted.answers(whole(&["1"]));
    tokio::time::advance(ERROR_AGE).await;
    assert!(fleet.snapshot(Duration::from_mins(5)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_stop_the_others() {
    let (fleet, _) = fleet(whole(&["1"]));
    let given_up = tokio::time::timeout(LISTING_TAKES / 2, fleet.snapshot(Duration::ZERO)).await;
    assert!(given_up.is_err());
    assert_eq!(fleet.snapshot(Duration::ZERO).await.unwrap().sight("1"), Sight::Present);
}

#[tokio::test(start_paused = true)]
async fn a_vm_we_created_is_present_until_a_listing_after_the_settle_time_lacks_it() {
    let (fleet, _) = fleet(whole(&["1"]));
    let before = fleet.snapshot(Duration::ZERO).await.unwrap();
    fleet.created(&vm("2"));
    assert_eq!(before.sight("2"), Sight::Missing, "a snapshot in hand does not change");
    let cached = fleet.snapshot(Duration::from_mins(5)).await.unwrap();
    assert_eq!(cached.sight("2"), Sight::Present);
    assert_eq!(cached.by_owner(&mark("2")).len(), 2, "both have this owner");
    assert_eq!(cached.by_key(&mark("2")).len(), 1);
    assert_eq!(cached.vms().len(), 2);
    tokio::time::advance(SETTLE / 2).await;
    assert_eq!(fleet.snapshot(Duration::ZERO).await.unwrap().sight("2"), Sight::Present);
    tokio::time::advance(SETTLE).await;
    let after = fleet.snapshot(Duration::ZERO).await.unwrap();
    assert_eq!((after.sight("2"), after.vms().len()), (Sight::Missing, 1));
}

#[tokio::test(start_paused = true)]
async fn a_vm_we_deleted_is_still_present_while_listed_but_no_candidate_for_a_sweep() {
    let (fleet, scripted) = fleet(whole(&["1"]));
    fleet.snapshot(Duration::ZERO).await.unwrap();
    fleet.deleted("1");
    let listed = fleet.snapshot(Duration::from_mins(5)).await.unwrap();
    assert_eq!((listed.sight("1"), listed.is_leaving("1")), (Sight::Present, true));
    assert!(listed.vms().is_empty());
    scripted.answers(whole(&[]));
    assert_eq!(fleet.snapshot(Duration::ZERO).await.unwrap().sight("1"), Sight::Missing);
}

#[tokio::test(start_paused = true)]
async fn a_listing_from_before_our_delete_never_says_that_the_vm_is_gone() {
    let (fleet, _) = fleet(whole(&[]));
    fleet.snapshot(Duration::ZERO).await.unwrap();
    fleet.created(&vm("1"));
    fleet.deleted("1");
    assert_eq!(fleet.snapshot(Duration::from_mins(5)).await.unwrap().sight("1"), Sight::Unknown);
    assert_eq!(fleet.snapshot(Duration::ZERO).await.unwrap().sight("1"), Sight::Missing);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_is_not_whole_says_nothing_about_what_it_lacks() {
    let (fleet, _) = fleet(Ok(Listing { vms: vec![vm("1")], whole: false }));
    fleet.created(&vm("2"));
    tokio::time::advance(SETTLE * 2).await;
    let snapshot = fleet.snapshot(Duration::ZERO).await.unwrap();
    assert_eq!(snapshot.sight("1"), Sight::Present);
    assert_eq!(snapshot.sight("2"), Sight::Present, "not forgotten because of half a listing");
    assert_eq!(snapshot.sight("3"), Sight::Unknown);
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

#[test]
fn absence_is_confirmed_by_a_second_look_a_settle_time_later_and_by_nothing_sooner() {
    let Absence::Suspected { since, confirm_at } = absence(None, Sight::Missing, at(0), SETTLE) else { panic!() };
    assert_eq!((since, confirm_at), (at(0), at(60)));
    assert_eq!(absence(Some(since), Sight::Missing, at(59), SETTLE), Absence::Suspected { since, confirm_at });
    assert_eq!(absence(Some(since), Sight::Missing, at(60), SETTLE), Absence::Confirmed { since });
    assert_eq!(absence(Some(since), Sight::Unknown, at(90), SETTLE), Absence::DontKnow);
    assert_eq!(absence(Some(since), Sight::Present, at(90), SETTLE), Absence::Present);
    assert!(matches!(absence(None, Sight::Missing, at(90), Duration::ZERO), Absence::Suspected { .. }));
}

proptest! {
    #[test]
    fn absence_is_never_concluded_from_looks_that_span_less_than_the_settle_time(
        looks in proptest::collection::vec((0_i64..120, 0_u8..3), 1..40),
    ) {
        let mut since = None;
        let mut missing: Vec<Timestamp> = Vec::new();
        for (second, sight) in looks {
            let sight = [Sight::Present, Sight::Missing, Sight::Unknown][usize::from(sight)];
            match sight {
                Sight::Present => missing.clear(),
                Sight::Missing => missing.push(at(second)),
                Sight::Unknown => {}
            }
            match absence(since, sight, at(second), SETTLE) {
                Absence::Present => since = None,
                Absence::DontKnow => {}
                Absence::Suspected { since: s, .. } => since = Some(s),
                Absence::Confirmed { .. } => {
                    let (first, last) = (missing.iter().min().unwrap(), missing.iter().max().unwrap());
                    prop_assert!(last.duration_since(*first) >= SignedDuration::from_secs(60));
                }
            }
        }
    }
}
