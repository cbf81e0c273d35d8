//! Which origin a request goes to.

use std::collections::BTreeMap;

use serde_json::json;

use crate::bench::{Bench, answer, from};
use crate::origin::Origin;

fn shares(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test]
async fn round_robin_gives_every_origin_its_turn_as_often_as_it_weighs() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let equal = Bench::over(&[&a, &b], &[("STRATEGY", "round-robin")]).await;
    assert_eq!(equal.shares(20).await, shares(&[("a", 10), ("b", 10)]));
    let weighted = format!("{};weight=3,{}", a.url(), b.url());
    let weighted = Bench::start(&[("ORIGINS", &weighted), ("STRATEGY", "round-robin")]).await;
    assert_eq!(weighted.shares(20).await, shares(&[("a", 15), ("b", 5)]));
}

#[tokio::test]
async fn random_uses_every_origin_and_prefers_the_heavier() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let origins = json!([{"url": a.url(), "weight": 9}, b.url()]).to_string();
    let bench = Bench::start(&[("ORIGINS", &origins), ("STRATEGY", "random")]).await;
    let shares = bench.shares(200).await;
    // 180 and 20 are expected; beyond these bounds lies less than one in a million.
    assert!((150..=198).contains(&shares["a"]) && shares["b"] >= 2, "{shares:?}");
}

#[tokio::test]
async fn failover_keeps_to_the_first_priority_while_it_answers() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let origins = format!("{};priority=2 , {};priority=1", a.url(), b.url());
    let bench = Bench::start(&[("ORIGINS", &origins), ("STRATEGY", "failover")]).await;
    assert_eq!(bench.shares(10).await, shares(&[("b", 10)]));
    drop(b);
    assert_eq!(bench.shares(10).await, shares(&[("a", 10)]));
}

#[tokio::test]
async fn an_entry_that_is_no_url_takes_no_other_with_it() {
    let a = Origin::start("a").await;
    let origins = format!("nonsense,,{},http://", a.url());
    let bench = Bench::start(&[("ORIGINS", &origins)]).await;
    assert_eq!(bench.shares(4).await, shares(&[("a", 4)]));
}

#[tokio::test]
async fn path_query_and_headers_pass_and_the_client_cannot_forge_where_it_came_from() {
    let a = Origin::start("a").await;
    let bench = Bench::over(&[&a], &[]).await;
    let request = bench.get("/deep/path?x=1&y=%20z").header("x-mine", "kept").header("host", "shop.example.com");
    let request = request.header("x-forwarded-host", "evil.example").header("x-forwarded-proto", "gopher");
    assert_eq!(answer(request).await, from("a"));
    let seen = &a.seen()[0];
    assert_eq!(seen.target, "/deep/path?x=1&y=%20z");
    assert_eq!(seen.headers["x-mine"], "kept");
    assert_eq!(seen.headers["x-forwarded-host"], "shop.example.com");
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
}

#[tokio::test]
async fn its_health_path_names_no_origin_and_never_reaches_one() {
    let a = Origin::start("a").await;
    let bench = Bench::over(&[&a], &[("HEALTH_PATH", "/ok")]).await;
    let (status, body) = answer(bench.get("/ok")).await;
    assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(answer(bench.get("/__lb/health")).await, from("a"));
    assert_eq!(a.all().len(), 1);

    let empty = Bench::start(&[("ORIGINS", "")]).await;
    assert_eq!(answer(empty.get("/__lb/health")).await.0, 503);
}
