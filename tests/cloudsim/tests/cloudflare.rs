//! The rules of the simulated Cloudflare that its official client does not show: limits, roll-back, whose token.

#![allow(clippy::unwrap_used, reason = "helpers of tests may say bluntly what they expect")]

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use cloudsim::clock::Clock;
use cloudsim::cloudflare::{Limits, Plan, State, TokenSpec, ZoneSpec, router};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tower::ServiceExt;

const DOMAIN: &str = "example.com";

struct Bench {
    clock: Clock,
    state: Arc<State>,
    app: Router,
    zone: String,
}

fn token(value: &str) -> TokenSpec {
    serde_json::from_value(json!({"value": value})).unwrap()
}

fn a(name: &str, content: &str) -> Value {
    json!({"type": "A", "name": format!("{name}.{DOMAIN}"), "content": content, "ttl": 300})
}

impl Bench {
    fn new(plan: Plan) -> Self {
        let clock = Clock::fixed(Timestamp::from_second(1_800_000_000).unwrap());
        let state = Arc::new(State::new(clock.clone()));
        state.put_token(token("good"));
        let zone =
            ZoneSpec { name: DOMAIN.to_owned(), plan, account: "main".to_owned(), quota: None, refused: Vec::new() };
        let zone = state.add_zone(zone);
        let app = router(state.clone());
        Self { clock, state, app, zone }
    }

    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, HeaderMap, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })
            .unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, headers, serde_json::from_slice(&bytes).unwrap())
    }

    async fn post(&self, below: &str, body: Value) -> (u16, Value) {
        let (status, _, body) = self.send("good", "POST", &format!("/zones/{}{below}", self.zone), body).await;
        (status, body)
    }

    async fn get(&self, token: &str) -> (u16, HeaderMap) {
        let (status, headers, _) = self.send(token, "GET", "/zones", Value::Null).await;
        (status, headers)
    }

    fn names(&self) -> Vec<String> {
        let records = self.state.records(DOMAIN);
        records.iter().map(|record| record.name.trim_end_matches(DOMAIN).trim_end_matches('.').to_owned()).collect()
    }
}

#[tokio::test]
async fn one_call_too_many_blocks_every_token_of_the_user_for_the_whole_window() {
    let bench = Bench::new(Plan::Pro);
    bench.state.put_token(token("second"));
    bench.state.put_token(TokenSpec { user: Some("another".to_owned()), ..token("other-user") });
    bench.state.set_limits(Limits { requests: 2, window_s: 300 });
    assert_eq!(bench.get("good").await.1["ratelimit"], "\"default\";r=1;t=300");
    bench.clock.advance(SignedDuration::from_secs(200));
    let (status, headers) = bench.get("second").await;
    assert_eq!((status, &headers["ratelimit"]), (200, &"\"default\";r=0;t=100".parse().unwrap()));
    assert!(!headers.contains_key("retry-after"));

    let (status, headers) = bench.get("good").await;
    assert_eq!((status, &headers["retry-after"]), (429, &"300".parse().unwrap()));
    assert_eq!(bench.get("other-user").await.0, 200);
    bench.clock.advance(SignedDuration::from_secs(299));
    assert_eq!(bench.get("second").await.0, 429);
    bench.clock.advance(SignedDuration::from_secs(1));
    assert_eq!(bench.get("good").await.0, 200);
}

#[tokio::test]
async fn a_batch_that_fails_at_its_last_operation_changes_nothing() {
    let bench = Bench::new(Plan::Pro);
    for name in ["gone", "kept"] {
        assert_eq!(bench.post("/dns_records", a(name, "203.0.113.1")).await.0, 200);
    }
    let before = bench.state.records(DOMAIN);
    let id = |name: &str| before.iter().find(|record| record.name.starts_with(name)).unwrap().id.clone();
    let batch = json!({
        "deletes": [{"id": id("gone")}],
        "patches": [{"id": id("kept"), "content": "203.0.113.2"}],
        "posts": [a("new", "203.0.113.3"), a("new", "203.0.113.3")],
    });
    let (status, refused) = bench.post("/dns_records/batch", batch.clone()).await;
    assert_eq!((status, &refused["errors"][0]["code"]), (400, &json!(81_058)));
    assert_eq!(bench.state.records(DOMAIN), before);

    // Deletes come first: what is deleted is not in the way of what is posted.
    let moved = json!({"deletes": [{"id": id("gone")}], "posts": [a("gone", "203.0.113.1")]});
    assert_eq!(bench.post("/dns_records/batch", moved).await.0, 200);
    assert_eq!(bench.names(), ["gone", "kept"]);
}

#[tokio::test]
async fn a_batch_may_not_end_above_the_quota_nor_above_the_plan_s_operations() {
    let bench = Bench::new(Plan::Free);
    bench.state.set_quota(DOMAIN, Some(2));
    let posts = |count: u8| (0..count).map(|n| a(&format!("n{n}"), "203.0.113.1")).collect::<Vec<_>>();
    let (status, refused) = bench.post("/dns_records/batch", json!({"posts": posts(3)})).await;
    assert_eq!((status, &refused["errors"][0]["code"]), (400, &json!(81_045)));
    assert_eq!(bench.post("/dns_records/batch", json!({"posts": posts(2)})).await.0, 200);
    let (status, _) = bench.post("/dns_records/batch", json!({"posts": posts(201)})).await;
    assert_eq!(status, 400);
    assert_eq!(bench.names(), ["n0", "n1"]);
}

#[tokio::test]
async fn a_refusal_with_a_general_code_carries_its_cause_in_the_chain() {
    let bench = Bench::new(Plan::Free);
    let mut record = a("web", "203.0.113.1");
    record["comment"] = json!("x".repeat(101));
    let (status, refused) = bench.post("/dns_records", record.clone()).await;
    assert_eq!((status, &refused["errors"][0]["code"]), (400, &json!(1004)));
    assert_eq!(refused["errors"][0]["error_chain"][0]["code"], 9301);
    record["comment"] = json!("x".repeat(100));
    record["tags"] = json!(["owner:me"]);
    let (_, refused) = bench.post("/dns_records", record.clone()).await;
    assert_eq!(refused["errors"][0]["error_chain"][0]["code"], 9300);
    record["tags"] = json!([]);
    assert_eq!(bench.post("/dns_records", record).await.0, 200);
}

#[tokio::test]
async fn a_token_is_refused_once_revoked_expired_or_disabled_and_sees_only_its_account() {
    let bench = Bench::new(Plan::Pro);
    let expires_on = Some(bench.clock.now() + SignedDuration::from_secs(60));
    bench.state.put_token(TokenSpec { expires_on, ..token("short") });
    bench.state.put_token(TokenSpec { status: "disabled".to_owned(), ..token("disabled") });
    bench.state.put_token(TokenSpec { account: "elsewhere".to_owned(), ..token("stranger") });
    assert_eq!(bench.get("short").await.0, 200);
    bench.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(bench.get("short").await.0, 401);
    assert_eq!(bench.get("disabled").await.0, 401);
    let (_, _, verified) = bench.send("disabled", "GET", "/user/tokens/verify", Value::Null).await;
    assert_eq!(verified["result"]["status"], "disabled");

    let (status, _, zones) = bench.send("stranger", "GET", "/zones", Value::Null).await;
    assert_eq!((status, &zones["result"]), (200, &json!([])));
    let path = format!("/zones/{}/dns_records", bench.zone);
    let (status, _, refused) = bench.send("stranger", "GET", &path, Value::Null).await;
    assert_eq!((status, &refused["errors"][0]["code"]), (403, &json!(10_000)));

    bench.state.revoke_token("good");
    assert_eq!(bench.get("good").await.0, 401);
}
