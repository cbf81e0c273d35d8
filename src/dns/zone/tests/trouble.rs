//! What a zone that refuses, fails or answers late may not make the writer do.

use super::*;

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
