//! Tokens, scopes, accounts and request limits.

use axum::http::Method;
use cloudsim::digitalocean::{AccountSpec, Settings, TokenSpec};
use jiff::SignedDuration;

use crate::bench::{Bench, TOKEN, order};

#[tokio::test]
async fn an_unknown_a_revoked_and_an_expired_token_are_401() {
    let bench = Bench::immediate();
    let expires_at = Some(bench.clock.now() + SignedDuration::from_secs(60));
    bench.state.put_token(TokenSpec { expires_at, ..TokenSpec::new("short") });
    let as_token = |token: &'static str| bench.send(token, Method::GET, "/digitalocean/v2/account", None);
    let message = "Unable to authenticate you";
    as_token("").await.refused(401, "Unauthorized", message);
    as_token("wrong").await.refused(401, "Unauthorized", message);
    assert_eq!(as_token("short").await.status, 200);
    bench.advance(60_000);
    as_token("short").await.refused(401, "Unauthorized", message);
    assert_eq!(as_token(TOKEN).await.status, 200);
    assert!(bench.state.revoke_token(TOKEN));
    as_token(TOKEN).await.refused(401, "Unauthorized", message);
}

#[tokio::test]
async fn a_token_without_the_scope_is_403_and_single_scopes_suffice() {
    let bench = Bench::immediate();
    bench.state.put_token(TokenSpec::new("reader").with_scopes(&["read"]));
    let body = || Some(order("web-1", &["web"]));
    let create = |token: &'static str| bench.send(token, Method::POST, "/digitalocean/v2/droplets", body());
    let message = "You are not authorized to perform this operation";
    create("reader").await.refused(403, "Forbidden", message);
    assert_eq!(bench.send("reader", Method::GET, "/digitalocean/v2/droplets", None).await.status, 200);

    bench.state.put_token(TokenSpec::new("maker").with_scopes(&["droplet:create", "image:read"]));
    create("maker").await.refused(403, "Forbidden", message);
    bench.state.put_token(TokenSpec::new("maker").with_scopes(&["droplet:create", "image:read", "tag:create"]));
    assert_eq!(create("maker").await.status, 202);
    assert_eq!(bench.send("maker", Method::GET, "/digitalocean/v2/droplets", None).await.status, 403);
}

#[tokio::test]
async fn a_token_sees_only_the_droplets_of_its_own_account() {
    let bench = Bench::immediate();
    bench.state.put_account(AccountSpec::new("other"));
    bench.state.put_token(TokenSpec::new("stranger").of_account("other"));
    let id = bench.create("web-1", &["web"]).await;
    let listing = bench.send("stranger", Method::GET, "/digitalocean/v2/droplets", None).await;
    assert_eq!(listing.body["meta"]["total"], 0);
    let path = format!("/digitalocean/v2/droplets/{id}");
    assert_eq!(bench.send("stranger", Method::GET, &path, None).await.status, 404);
    assert_eq!(bench.send("stranger", Method::DELETE, &path, None).await.status, 404);
    assert_eq!(bench.send("stranger", Method::GET, "/digitalocean/v2/tags/web", None).await.status, 404);
    let account = bench.send("stranger", Method::GET, "/digitalocean/v2/account", None).await.body;
    assert_ne!(account["account"]["team"]["uuid"], bench.get("/v2/account").await.body["account"]["team"]["uuid"]);
}

#[tokio::test]
async fn every_answer_tells_the_hourly_quota_and_each_request_expires_by_itself() {
    let bench = Bench::new(Settings { requests_per_hour: 3, ..Settings::immediate() });
    let start = bench.clock.now().as_second();
    let first = bench.get("/v2/account").await;
    assert_eq!((first.header("ratelimit-limit"), first.header("ratelimit-remaining")), (3, 2));
    assert_eq!(first.header("ratelimit-reset"), start + 3_600);
    bench.advance(10_000);
    assert_eq!(bench.get("/v2/droplets/1").await.header("ratelimit-remaining"), 1);
    assert_eq!(bench.get("/v2/account").await.header("ratelimit-remaining"), 0);
    let refused = bench.get("/v2/account").await;
    refused.refused(429, "too_many_requests", "API Rate limit exceeded.");
    assert_eq!(refused.header("ratelimit-reset"), start + 3_600);
    assert!(!refused.headers.contains_key("retry-after"));
    bench.advance(3_590_000);
    assert_eq!(bench.get("/v2/account").await.status, 200);
    assert_eq!(bench.get("/v2/account").await.status, 429);
}

#[tokio::test]
async fn the_limit_per_minute_says_when_to_come_back_and_is_counted_per_token() {
    let bench = Bench::new(Settings { requests_per_minute: 2, ..Settings::immediate() });
    bench.state.put_token(TokenSpec::new("second"));
    bench.get("/v2/account").await;
    bench.advance(20_000);
    bench.get("/v2/account").await;
    let refused = bench.get("/v2/account").await;
    assert_eq!(refused.status, 429);
    assert_eq!((refused.header("ratelimit-remaining"), refused.header("retry-after")), (0, 40));
    assert_eq!(bench.send("second", Method::GET, "/digitalocean/v2/account", None).await.status, 200);
    bench.advance(39_000);
    assert_eq!(bench.get("/v2/account").await.status, 429);
    bench.advance(1_000);
    assert_eq!(bench.get("/v2/account").await.status, 200);
}
