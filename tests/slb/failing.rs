//! What the Worker does when an origin does not.

use std::time::Duration;

use support::{eventually, free_port};

use crate::bench::{Bench, answer, from};
use crate::origin::{Mood, Origin, url};

const FAILOVER: (&str, &str) = ("STRATEGY", "failover");

/// The methods and targets an origin saw, questions included.
fn lines(origin: &Origin) -> Vec<String> {
    origin.all().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
}

#[tokio::test]
async fn a_get_goes_on_to_the_next_origin_after_a_refused_connection() {
    let b = Origin::start("b").await;
    let origins = format!("{},{}", url(free_port()), b.url());
    let bench = Bench::start(&[("ORIGINS", &origins), FAILOVER]).await;
    assert_eq!(answer(bench.get("/x")).await, from("b"));
    assert_eq!(lines(&b), ["GET /x"]);
}

#[tokio::test]
async fn a_get_goes_on_after_a_time_out_and_the_silent_origin_is_then_tried_last() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    a.set_mood(Mood::Silent);
    let bench = Bench::over(&[&a, &b], &[FAILOVER, ("ORIGIN_TIMEOUT_MS", "300")]).await;
    for n in 0..3 {
        assert_eq!(answer(bench.get(&format!("/{n}"))).await, from("b"));
    }
    assert_eq!(
        (lines(&a), lines(&b)),
        (vec!["GET /0".to_owned()], ["GET /0", "GET /1", "GET /2"].map(str::to_owned).to_vec())
    );
}

#[tokio::test]
async fn a_get_goes_on_after_a_fail_status_and_any_other_status_is_the_answer() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let bench = Bench::over(&[&a, &b], &[FAILOVER, ("FAIL_STATUSES", "418, 500-501")]).await;
    for status in [418, 500, 501] {
        a.set_mood(Mood::Status(status));
        assert_eq!(answer(bench.get("/")).await, from("b"), "{status}");
    }
    for status in [404, 302, 599] {
        a.set_mood(Mood::Status(status));
        assert_eq!(answer(bench.get("/")).await, (status, "a".to_owned()));
    }
    assert_eq!(b.all().len(), 3);
}

#[tokio::test]
async fn when_every_origin_gives_a_fail_status_the_last_one_s_answer_is_passed_on() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    a.set_mood(Mood::Status(500));
    b.set_mood(Mood::Status(503));
    let bench = Bench::over(&[&a, &b], &[FAILOVER]).await;
    assert_eq!(answer(bench.get("/")).await, (503, "b".to_owned()));
}

#[tokio::test]
async fn no_more_origins_are_tried_than_the_retries_allow() {
    let c = Origin::start("c").await;
    let origins = format!("{},{},{}", url(free_port()), url(free_port()), c.url());
    let bench = |retries: &'static str| {
        let origins = origins.clone();
        async move { Bench::start(&[("ORIGINS", &origins), FAILOVER, ("RETRIES", retries)]).await }
    };
    assert_eq!(answer(bench("1").await.get("/")).await.0, 503);
    assert_eq!(answer(bench("2").await.get("/")).await, from("c"));
}

#[tokio::test]
async fn a_post_with_a_dead_first_origin_is_delivered_exactly_once() {
    let b = Origin::start("b").await;
    let origins = format!("{},{}", url(free_port()), b.url());
    let bench = Bench::start(&[("ORIGINS", &origins), FAILOVER]).await;
    assert_eq!(answer(bench.post("/orders").body("one")).await, from("b"));
    assert_eq!(lines(&b), ["HEAD /", "POST /orders"]);
    assert_eq!(b.seen()[0].length, 3);
    // It has just answered: no further question.
    assert_eq!(answer(bench.post("/orders").body("two")).await, from("b"));
    assert_eq!(lines(&b), ["HEAD /", "POST /orders", "POST /orders"]);
}

#[tokio::test]
async fn a_post_is_not_repeated_after_a_broken_connection_a_time_out_or_a_fail_status() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    // Only the silent one is to run out of time: on a busy machine every answer may be late.
    for (mood, expected, timeout) in [
        (Mood::Breaks, 502, "60000"),
        (Mood::Status(500), 500, "60000"),
        (Mood::Status(503), 503, "60000"),
        (Mood::Silent, 504, "2000"),
    ] {
        let bench = Bench::over(&[&a, &b], &[FAILOVER, ("ORIGIN_TIMEOUT_MS", timeout), ("RETRIES", "5")]).await;
        // It answers when asked, and turns when the request comes.
        a.set_mood(Mood::Well);
        assert_eq!(answer(bench.get("/before")).await, from("a"));
        a.set_mood(mood);
        let (before, others) = (a.seen().len(), b.all().len());
        let (status, body) = answer(bench.post("/orders").body("one")).await;
        assert_eq!(status, expected, "{mood:?}: {body}");
        assert_eq!((a.seen().len(), b.all().len()), (before + 1, others), "{mood:?}");
        assert!(!body.contains("localhost"), "{body}");
    }
}

#[tokio::test]
async fn a_post_that_carries_an_idempotency_key_is_repeated() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    a.set_mood(Mood::Breaks);
    let bench = Bench::over(&[&a, &b], &[FAILOVER]).await;
    assert_eq!(answer(bench.post("/orders").header("idempotency-key", "k-1").body("one")).await, from("b"));
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
    assert_eq!((a.seen()[0].length, b.seen()[0].length), (3, 3));
}

#[tokio::test]
async fn a_put_is_repeated_with_its_whole_body() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    a.set_mood(Mood::Status(502));
    let bench = Bench::over(&[&a, &b], &[FAILOVER]).await;
    assert_eq!(answer(bench.put("/file").body("x".repeat(100_000))).await, from("b"));
    assert_eq!((a.seen()[0].length, b.seen()[0].length), (100_000, 100_000));
}

#[tokio::test]
async fn without_any_origin_that_answers_it_says_when_to_come_back_and_names_none() {
    let origins = format!("{},{}", url(free_port()), url(free_port()));
    let dead = Bench::start(&[("ORIGINS", &origins)]).await;
    let empty = Bench::start(&[("ORIGINS", "[]")]).await;
    for bench in [&dead, &empty] {
        for request in [bench.get("/"), bench.post("/").body("one")] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "5");
            let body = response.text().await.unwrap();
            assert!(body.starts_with(r#"{"error":"no origin"#), "{body}");
        }
    }
}

#[tokio::test]
async fn an_origin_that_has_come_back_is_used_again_after_a_while() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    a.set_mood(Mood::Status(503));
    let bench = Bench::over(&[&a, &b], &[FAILOVER]).await;
    assert_eq!(answer(bench.get("/")).await, from("b"));
    a.set_mood(Mood::Well);
    assert_eq!(answer(bench.get("/")).await, from("b"), "it is remembered");
    eventually(Duration::from_secs(30), "the first origin to be used again", async || {
        let (_, name) = answer(bench.get("/")).await;
        (name == "a").then_some(()).ok_or(name)
    })
    .await;
}
