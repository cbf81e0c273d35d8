//! A name that goes from one owner to another: one change of the record that is there, in whatever order they speak.

use super::*;

fn here(content: Content) -> Vec<Desired> {
    at(1, content)
}

/// The one record of the name: its id, what it says, and whose it is.
fn record(rig: &Rig) -> (String, Value, Option<Mark>) {
    let inner = rig.fake.inner();
    let all: Vec<_> = inner.records.values().collect();
    assert_eq!(all.len(), 1, "{all:?}");
    (all[0].id.to_string(), all[0].value.clone(), all[0].mark.clone())
}

/// Two owners, of whom the first has published the name.
async fn published() -> (Rig, Owner, Owner, String) {
    let rig = rig();
    rig.applied(1, &here(address(1))).await;
    rig.fake.calls();
    let (id, _, mark) = record(&rig);
    assert_eq!(mark, Some(owner(1).mark));
    (rig, owner(1), owner(2), id)
}

fn batches(rig: &Rig) -> Vec<String> {
    rig.fake.calls().into_iter().filter(|call| call.starts_with("batch")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_name_is_handed_over_by_one_patch_whatever_its_former_owner_says_meanwhile() {
    // What the former owner says before the other one does, and after it.
    for (before, after) in [(None, None), (None, Some(vec![])), (Some(here(address(1))), Some(here(address(7))))] {
        let (rig, old, new, id) = published().await;
        if let Some(records) = before {
            let _ = rig.zone.declare(&old, records);
        }
        rig.zone.hand_over(&new, &name(1), &old.mark.key);
        let _ = rig.zone.declare(&new, here(address(2)));
        if let Some(records) = &after {
            let _ = rig.zone.declare(&old, records.clone());
        }
        assert_eq!(rig.applied(2, &here(address(2))).await[0].id, id);
        assert_eq!(record(&rig), (id.clone(), Value::Known(address(2)), Some(new.mark.clone())));
        assert_eq!(batches(&rig), ["batch 0-1-0"], "{after:?}");

        // Nor do they quarrel about it afterwards.
        let _ = rig.zone.declare(&old, vec![]);
        rig.zone.refresh();
        tokio::time::sleep(Duration::from_mins(20)).await;
        assert_eq!(record(&rig), (id, Value::Known(address(2)), Some(new.mark)));
        assert_eq!(batches(&rig), Vec::<String>::new());
        assert!(matches!(rig.zone.declare(&old, vec![]), Declared::Applied(none) if none.is_empty()));
    }
}

#[tokio::test(start_paused = true)]
async fn on_the_same_address_only_the_mark_changes() {
    let (rig, old, new, id) = published().await;
    rig.zone.hand_over(&new, &name(1), &old.mark.key);
    assert_eq!(rig.applied(2, &here(address(1))).await[0].id, id);
    assert_eq!(record(&rig), (id, Value::Known(address(1)), Some(new.mark)));
    assert_eq!(batches(&rig), ["batch 0-1-0"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_without_the_hand_over_is_done_with_it() {
    let (rig, old, new, id) = published().await;
    let refused = |answer: &Declared| matches!(answer, Declared::Refused(Refusal::Foreign { .. }));
    rig.until(2, &here(address(2)), Duration::from_secs(5), refused).await;
    rig.zone.hand_over(&new, &name(1), &old.mark.key);
    assert_eq!(rig.applied(2, &here(address(2))).await[0].id, id);
    assert_eq!(batches(&rig), ["batch 0-1-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_its_new_owner_gives_up_is_gone_and_its_former_owner_may_have_it_again() {
    let (rig, old, new, _) = published().await;
    rig.zone.hand_over(&new, &name(1), &old.mark.key);
    rig.applied(2, &here(address(2))).await;
    let _ = rig.zone.declare(&old, vec![]);
    assert_eq!(rig.applied(2, &[]).await, []);
    assert_eq!(rig.fake.shown(), Vec::<String>::new());
    rig.applied(1, &here(address(1))).await;
    assert_eq!(record(&rig).2, Some(old.mark));
}

#[tokio::test(start_paused = true)]
async fn a_name_goes_back_to_its_former_owner_by_one_patch_too() {
    let (rig, old, new, id) = published().await;
    rig.zone.hand_over(&new, &name(1), &old.mark.key);
    rig.applied(2, &here(address(2))).await;
    rig.zone.hand_over(&old, &name(1), &new.mark.key);
    let answer = rig.zone.declare(&old, here(address(3)));
    assert!(!matches!(answer, Declared::Applied(_)), "{answer:?}");
    assert_eq!(rig.applied(1, &here(address(3))).await[0].id, id);
    assert_eq!(record(&rig), (id, Value::Known(address(3)), Some(old.mark)));
    assert_eq!(batches(&rig), ["batch 0-1-0", "batch 0-1-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_comes_later_takes_up_a_hand_over_where_the_one_before_left_it() {
    for is_done in [false, true] {
        let fake = Fake::new();
        let (old, new) = (owner(1), owner(2));
        let (last, mark) = if is_done { (2, &new.mark) } else { (1, &old.mark) };
        let id = fake.put("web-1.example.com", Value::Known(address(last)), Some(mark));
        let rig = rig_with(fake, |_| {});
        // The former owner still says what it said, until it knows that the other one has published the name.
        let _ = rig.zone.declare(&old, here(address(1)));
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.zone.hand_over(&new, &name(1), &old.mark.key);
        assert_eq!(rig.applied(2, &here(address(2))).await[0].id, id);
        let _ = rig.zone.declare(&old, vec![]);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(record(&rig), (id, Value::Known(address(2)), Some(new.mark)));
        let expected: &[&str] = if is_done { &[] } else { &["batch 0-1-0"] };
        assert_eq!(batches(&rig), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_whose_write_fails_in_any_way_ends_in_one_record() {
    let faults = [
        Fault::Fail(unavailable()),
        Fault::Fail(unknown()),
        Fault::FailAfter(unknown()),
        Fault::Late(Duration::from_secs(5), unknown()),
    ];
    for fault in faults {
        let (rig, old, new, id) = published().await;
        rig.fake.inner().write_faults.push_back(fault);
        rig.zone.hand_over(&new, &name(1), &old.mark.key);
        let applied = |answer: &Declared| matches!(answer, Declared::Applied(_));
        rig.until(2, &here(address(2)), Duration::from_mins(5), applied).await;
        let _ = rig.zone.declare(&old, vec![]);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(record(&rig), (id, Value::Known(address(2)), Some(new.mark)));
        assert!(batches(&rig).iter().all(|batch| batch == "batch 0-1-0"), "never removed nor made anew");
    }
}
