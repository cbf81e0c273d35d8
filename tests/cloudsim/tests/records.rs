//! What the simulated Cloudflare accepts as a record and refuses, rule by rule, and how fast it is when a zone is full.

#![allow(clippy::unwrap_used, reason = "helpers of tests may say bluntly what they expect")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use cloudsim::clock::Clock;
use cloudsim::cloudflare::{State, ZoneSpec, router};
use serde_json::{Value, json};
use tower::ServiceExt;

struct Bench {
    state: Arc<State>,
    app: Router,
    zone: String,
}

impl Bench {
    fn new(zone: Value) -> Self {
        let state = Arc::new(State::new(Clock::default()));
        state.put_token(serde_json::from_value(json!({"value": "good"})).unwrap());
        let zone = state.add_zone(serde_json::from_value::<ZoneSpec>(zone).unwrap());
        let app = router(state.clone());
        Self { state, app, zone }
    }

    fn pro() -> Self {
        Self::new(json!({"name": "example.com", "plan": "pro"}))
    }

    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })
            .unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn call(&self, method: &str, below: &str, body: Value) -> (u16, Value) {
        self.send("good", method, &format!("/zones/{}/dns_records{below}", self.zone), body).await
    }

    async fn create(&self, record: Value) -> Value {
        let (status, body) = self.call("POST", "", record).await;
        assert_eq!(status, 200, "{body}");
        body["result"].clone()
    }

    /// The code of a refusal, and the one below it.
    async fn refused(&self, record: &Value) -> (u64, Option<u64>) {
        let (status, body) = self.call("POST", "", record.clone()).await;
        assert_eq!((status, &body["success"], &body["result"]), (400, &json!(false), &Value::Null), "{record}: {body}");
        let error = &body["errors"][0];
        (error["code"].as_u64().unwrap(), error["error_chain"][0]["code"].as_u64())
    }

    async fn names(&self, query: &str) -> Vec<String> {
        let (status, body) = self.call("GET", &format!("?order=name&{query}"), Value::Null).await;
        assert_eq!(status, 200, "{body}");
        let names = body["result"].as_array().unwrap().iter().map(|record| record["name"].as_str().unwrap().to_owned());
        names.collect()
    }
}

fn a(name: &str, more: Value) -> Value {
    let mut record = json!({"type": "A", "name": name, "content": "203.0.113.7", "ttl": 300});
    if let (Value::Object(record), Value::Object(more)) = (&mut record, more) {
        record.extend(more);
    }
    record
}

#[tokio::test]
async fn names_become_full_lower_case_and_punycode_and_are_found_in_any_of_these_forms() {
    let bench = Bench::pro();
    for (given, stored) in [
        ("web", "web.example.com"),
        ("WEB2.Example.com.", "web2.example.com"),
        ("bücher.example.com", "xn--bcher-kva.example.com"),
        ("@", "example.com"),
        ("_wrap.a", "_wrap.a.example.com"),
        ("elsewhere.net", "elsewhere.net.example.com"),
    ] {
        assert_eq!(bench.create(a(given, json!({}))).await["name"], stored, "{given}");
    }
    assert_eq!(bench.names("name.exact=WEB.example.com").await, ["web.example.com"]);
    assert_eq!(bench.names("name.exact=b%C3%BCcher.example.com").await, ["xn--bcher-kva.example.com"]);
    assert_eq!(bench.refused(&a("a..b", json!({}))).await, (1004, Some(9000)));
    assert_eq!(bench.refused(&a(&"x".repeat(64), json!({}))).await, (1004, Some(9000)));
}

#[tokio::test]
async fn each_rule_of_a_record_is_refused_with_its_own_code() {
    let bench = Bench::pro();
    bench.create(a("web", json!({}))).await;
    bench.create(json!({"type": "CNAME", "name": "www", "content": "origin.example.net"})).await;
    let free = Bench::new(json!({"name": "example.com", "plan": "free"}));
    for (bench, record, code) in [
        (&bench, a("b", json!({"ttl": 59})), (1004, Some(9021))),
        (&bench, a("b", json!({"ttl": 86_401})), (1004, Some(9021))),
        (&bench, a("b", json!({"ttl": 2})), (1004, Some(9021))),
        (&bench, a("b", json!({"content": "203.0.113.256"})), (9005, None)),
        (&bench, a("b", json!({"type": "AAAA"})), (9006, None)),
        (&bench, a("b", json!({"type": "TXT", "proxied": true})), (9004, None)),
        (&bench, a("b", json!({"type": "TXT", "content": "x".repeat(2_049)})), (1004, Some(9207))),
        (&bench, a("web", json!({})), (81_058, None)),
        (&bench, a("www", json!({})), (81_053, None)),
        (&bench, a("web", json!({"type": "CNAME", "content": "o.example.net"})), (81_053, None)),
        (&bench, a("b", json!({"comment": "x".repeat(501)})), (1004, Some(9301))),
        (&bench, a("b", json!({"comment": "two\nlines"})), (1004, Some(9302))),
        (&free, a("b", json!({"comment": "x".repeat(101)})), (1004, Some(9301))),
        (&free, a("b", json!({"tags": ["team:web"]})), (1004, Some(9300))),
    ] {
        assert_eq!(bench.refused(&record).await, code, "{record}");
    }
    assert_eq!(bench.create(a("c", json!({"comment": "x".repeat(500), "ttl": 86_400}))).await["ttl"], 86_400);
    assert_eq!(free.create(a("c", json!({"comment": "x".repeat(100), "ttl": 60}))).await["ttl"], 60);
    assert_eq!(bench.create(a("web", json!({"content": "203.0.113.8"}))).await["ttl"], 300, "a second address");
    assert_eq!(bench.create(a("d", json!({"proxied": true}))).await["ttl"], 1, "proxied records are automatic");
}

#[tokio::test]
async fn a_patch_keeps_and_a_put_resets_what_it_does_not_name() {
    let bench = Bench::pro();
    let made = bench.create(a("web", json!({"comment": "mark", "proxied": true}))).await;
    let path = format!("/{}", made["id"].as_str().unwrap());
    let (_, patched) = bench.call("PATCH", &path, json!({"content": "203.0.113.8"})).await;
    let seen = |body: &Value| {
        let record = &body["result"];
        (record["content"].clone(), record["comment"].clone(), record["proxied"].clone())
    };
    assert_eq!(seen(&patched), (json!("203.0.113.8"), json!("mark"), json!(true)));
    let (_, put) = bench.call("PUT", &path, a("web", json!({"content": "203.0.113.9"}))).await;
    assert_eq!(seen(&put), (json!("203.0.113.9"), Value::Null, json!(false)));
    assert_eq!(put["result"]["created_on"], made["created_on"]);
    for method in ["GET", "PATCH", "DELETE"] {
        let (status, body) = bench.call(method, "/00000000000000000000000000000000", json!({})).await;
        assert_eq!((status, &body["errors"][0]["code"]), (404, &json!(81_044)), "{method}");
    }
}

#[tokio::test]
async fn listings_filter_by_name_content_and_comment_all_together_or_any() {
    let bench = Bench::pro();
    bench.create(a("one", json!({"comment": "roadstead/1 c=a o=X"}))).await;
    bench.create(a("two", json!({"comment": "roadstead/1 c=b", "content": "198.51.100.1"}))).await;
    bench.create(json!({"type": "TXT", "name": "three", "content": "hello"})).await;
    let (one, two, three) = ("one.example.com", "two.example.com", "three.example.com");
    for (query, expected) in [
        ("comment.startswith=ROADSTEAD/1%20C%3DA", vec![one]),
        ("comment.contains=o%3Dx", vec![one]),
        ("comment.exact=roadstead/1%20c%3Db", vec![two]),
        ("comment.absent=", vec![three]),
        ("content.exact=198.51.100.1", vec![two]),
        ("content.contains=113", vec![one]),
        ("type=TXT", vec![three]),
        ("type=A&content=203.0.113.7", vec![one]),
        ("match=any&type=TXT&content=203.0.113.7", vec![one, three]),
        ("name.endswith=e.example.com", vec![one, three]),
    ] {
        assert_eq!(bench.names(query).await, expected, "{query}");
    }
    let (_, page) = bench.call("GET", "?per_page=2&page=2&order=name", Value::Null).await;
    assert_eq!(page["result_info"], json!({"page": 2, "per_page": 2, "count": 1, "total_count": 3, "total_pages": 2}));
}

#[tokio::test]
async fn a_batch_deletes_before_it_creates_so_a_name_can_change_its_type() {
    let bench = Bench::pro();
    let old = bench.create(a("web", json!({}))).await;
    let post = json!({"type": "CNAME", "name": "web", "content": "origin.example.net"});
    let (status, body) = bench.call("POST", "/batch", json!({"posts": [post], "deletes": [{"id": old["id"]}]})).await;
    assert_eq!((status, &body["result"]["posts"][0]["type"]), (200, &json!("CNAME")), "{body}");
    assert_eq!(bench.names("").await, ["web.example.com"]);
}

#[tokio::test]
async fn a_confined_token_sees_its_zones_only_and_an_account_s_token_has_its_own_limit() {
    let bench = Bench::pro();
    bench.state.add_zone(serde_json::from_value(json!({"name": "other.com"})).unwrap());
    bench.state.put_token(serde_json::from_value(json!({"value": "narrow"})).unwrap());
    bench.state.confine_token("narrow", Some(vec!["other.com".to_owned()]));
    let (_, seen) = bench.send("narrow", "GET", "/zones", Value::Null).await;
    let names: Vec<_> = seen["result"].as_array().unwrap().iter().map(|zone| zone["name"].clone()).collect();
    assert_eq!(names, ["other.com"]);
    let foreign = format!("/zones/{}/dns_records", bench.zone);
    let (status, body) = bench.send("narrow", "GET", &foreign, Value::Null).await;
    assert_eq!((status, &body["errors"][0]["code"]), (403, &json!(10_000)));

    bench.state.put_token(serde_json::from_value(json!({"value": "owned", "account_owned": true})).unwrap());
    bench.state.set_limits(serde_json::from_value(json!({"requests": 1})).unwrap());
    let mut statuses = Vec::new();
    for token in ["good", "narrow", "owned", "owned"] {
        statuses.push(bench.send(token, "GET", "/zones", Value::Null).await.0);
    }
    assert_eq!(statuses, [200, 429, 200, 429]);
}

#[tokio::test]
async fn five_thousand_records_in_batches_of_a_thousand_take_seconds() {
    let bench = Bench::new(json!({"name": "example.com", "plan": "pro", "quota": 5_000}));
    let started = Instant::now();
    for thousand in 0..5 {
        let posts: Vec<_> = (0..1_000).map(|n| a(&format!("n{}", thousand * 1_000 + n), json!({}))).collect();
        let (status, body) = bench.call("POST", "/batch", json!({"posts": posts})).await;
        assert_eq!(status, 200, "{}", body["errors"]);
    }
    let (_, body) = bench.call("GET", "?per_page=5000", Value::Null).await;
    let records = body["result"].as_array().unwrap();
    assert_eq!(records.len(), 5_000);
    assert_eq!(bench.names("name.exact=n4999.example.com").await, ["n4999.example.com"]);
    let patches: Vec<_> =
        records.iter().take(1_000).map(|record| json!({"id": record["id"], "content": "203.0.113.9"})).collect();
    assert_eq!(bench.call("POST", "/batch", json!({"patches": patches})).await.0, 200);
    assert_eq!(bench.refused(&a("one-more", json!({}))).await, (81_045, None));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(30), "took {took:?}");
}
