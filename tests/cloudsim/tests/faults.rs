//! Faults, holds and the control routes as another process uses them: over HTTP, against the simulated Cloudflare.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may say bluntly what they expect")]

use std::net::SocketAddr;
use std::time::Duration;

use cloudsim::{Options, Sim};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "cf-fault-token";

struct Rig {
    sim: Sim,
    zone: String,
}

async fn request(address: SocketAddr, authorization: &str, method: &str, path: &str, body: &Value) -> TcpStream {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Status, head and JSON body; `None` if the connection was closed without an answer.
async fn read(mut stream: TcpStream) -> Option<(u16, String, Value)> {
    let mut text = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await;
    if read.expect("no answer within 10 s").is_err() || text.is_empty() {
        return None;
    }
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default()))
}

impl Rig {
    /// A simulator set up through its control routes alone.
    async fn start() -> Self {
        let sim = Sim::start(Options::default()).await.unwrap();
        let mut rig = Self { sim, zone: String::new() };
        let zone = rig.control("POST", "/cloudflare/zones", json!({"name": "example.com", "plan": "pro"})).await;
        rig.zone = zone["id"].as_str().unwrap().to_owned();
        rig.control("POST", "/cloudflare/tokens", json!({"value": TOKEN})).await;
        rig
    }

    async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let stream = request(self.sim.http(), "none", method, &format!("/sim{path}"), &body).await;
        let (status, _, body) = read(stream).await.unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    async fn call(&self, method: &str, below: &str, body: Value) -> Option<(u16, String, Value)> {
        read(self.begin(method, below, body).await).await
    }

    async fn begin(&self, method: &str, below: &str, body: Value) -> TcpStream {
        let path = format!("/cloudflare/client/v4/zones/{}{below}", self.zone);
        request(self.sim.http(), &format!("Bearer {TOKEN}"), method, &path, &body).await
    }

    async fn create(&self, label: &str) -> Option<(u16, String, Value)> {
        self.call("POST", "/dns_records", a(label)).await
    }

    async fn names(&self) -> Vec<String> {
        let (status, _, body) = self.call("GET", "/dns_records?order=name", Value::Null).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let names = body["result"].as_array().unwrap().iter().map(|record| record["name"].as_str().unwrap());
        names.map(|name| name.trim_end_matches(".example.com").to_owned()).collect()
    }

    async fn fault(&self, fault: Value) {
        self.control("POST", "/faults", fault).await;
    }

    async fn held(&self) -> u64 {
        self.sim.gate.faults.holding(1).await;
        self.control("GET", "/holds", Value::Null).await[0]["id"].as_u64().unwrap()
    }
}

fn a(label: &str) -> Value {
    json!({"type": "A", "name": format!("{label}.example.com"), "content": "203.0.113.7", "ttl": 300})
}

#[tokio::test]
async fn a_connection_cut_before_the_commit_leaves_nothing_and_after_it_the_record() {
    let rig = Rig::start().await;
    rig.fault(json!({"cloud": "cloudflare", "method": "POST", "count": 1, "action": "cut_before"})).await;
    rig.fault(json!({"cloud": "cloudflare", "method": "POST", "from": 2, "count": 1, "action": "cut_after"})).await;
    assert!(rig.create("before").await.is_none());
    assert!(rig.create("after").await.is_none());
    assert_eq!(rig.create("plain").await.unwrap().0, 200);
    assert_eq!(rig.names().await, ["after", "plain"]);
    let journal = rig.control("GET", "/journal", Value::Null).await;
    let writes: Vec<_> = journal.as_array().unwrap().iter().filter(|entry| entry["method"] == "POST").collect();
    let committed: Vec<_> = writes.iter().map(|entry| (&entry["committed"], &entry["commit_order"])).collect();
    assert_eq!(committed, [(&json!(false), &json!(null)), (&json!(true), &json!(1)), (&json!(true), &json!(2))]);
}

#[tokio::test]
async fn the_answer_to_a_release_comes_when_the_held_write_is_in_place_though_its_client_is_gone() {
    let rig = Rig::start().await;
    rig.fault(json!({"method": "WRITE", "from": 1, "action": "hold"})).await;
    let client = rig.begin("POST", "/dns_records", a("held")).await;
    let id = rig.held().await;
    drop(client);
    assert!(rig.names().await.is_empty(), "a read passes, and sees nothing of the held write");
    let released = rig.control("POST", &format!("/holds/{id}/release"), json!({"outcome": "commit"})).await;
    assert_eq!(released, json!({"committed": true, "status": 200}));
    assert_eq!(rig.names().await, ["held"]);

    let client = rig.begin("POST", "/dns_records", a("held")).await;
    let id = rig.held().await;
    let refused = rig.control("POST", &format!("/holds/{id}/release"), json!({"outcome": "commit"})).await;
    assert_eq!(refused, json!({"committed": false, "status": 400}), "the same record once more");
    assert_eq!(read(client).await.unwrap().0, 400);
    let refused = rig.sim.gate.journal.since(0).into_iter().rfind(|entry| entry.method == "POST").unwrap();
    assert_eq!((refused.status, refused.committed, refused.commit_order), (400, false, None));

    let client = rig.begin("POST", "/dns_records", a("dropped")).await;
    let id = rig.held().await;
    let released = rig.control("POST", &format!("/holds/{id}/release"), json!({"outcome": "drop"})).await;
    assert_eq!(released, json!({"committed": false, "status": null}));
    assert!(read(client).await.is_none());
    assert_eq!(rig.names().await, ["held"]);
}

#[tokio::test]
async fn the_nth_write_over_both_clouds_is_the_one_that_is_met() {
    let rig = Rig::start().await;
    rig.fault(
        json!({"method": "WRITE", "from": 3, "count": 1, "action": {"status": {"status": 503, "retry_after": 7}}}),
    )
    .await;
    assert_eq!(rig.create("one").await.unwrap().0, 200);
    let elsewhere = request(rig.sim.http(), "Bearer x", "POST", "/digitalocean/v2/droplets", &json!({})).await;
    assert_eq!(read(elsewhere).await.unwrap().0, 401);
    let (status, head, body) = rig.create("two").await.unwrap();
    assert_eq!((status, &body["success"], &body["result"]), (503, &json!(false), &Value::Null));
    assert!(head.contains("retry-after: 7"), "{head}");
    assert_eq!(rig.create("two").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_listing_that_lags_leaves_out_new_records_until_they_are_old_enough() {
    let rig = Rig::start().await;
    rig.create("old").await.unwrap();
    rig.control("POST", "/clock/advance", json!({"seconds": 60})).await;
    rig.create("new").await.unwrap();
    rig.fault(json!({"path": "/zones/*/dns_records?*", "action": {"listing_lag": {"ms": 30_000}}})).await;
    assert_eq!(rig.names().await, ["old"]);
    rig.control("POST", "/clock/advance", json!({"seconds": 31})).await;
    assert_eq!(rig.names().await, ["new", "old"]);
}

#[tokio::test]
async fn one_page_of_a_listing_fails_and_the_others_do_not() {
    let rig = Rig::start().await;
    for label in ["a", "b", "c"] {
        rig.create(label).await.unwrap();
    }
    rig.fault(json!({"method": "GET", "action": {"partial_page": {"page": 2}}})).await;
    let page = async |number: u8| {
        let path = format!("/dns_records?per_page=2&page={number}");
        rig.call("GET", &path, Value::Null).await.unwrap().0
    };
    assert_eq!([page(1).await, page(2).await, page(2).await, page(3).await], [200, 500, 500, 200]);
    rig.control("DELETE", "/faults", Value::Null).await;
    assert_eq!(page(2).await, 200);
}

#[tokio::test]
async fn refusals_are_those_of_the_cloud_and_commit_nothing() {
    let rig = Rig::start().await;
    for (action, status, code) in [
        (json!("token_revoked"), 401, 1000),
        (json!("quota"), 400, 81_045),
        (json!({"refusal": {"status": 409, "code": 81_057, "message": "exists"}}), 409, 81_057),
    ] {
        rig.fault(json!({"method": "POST", "count": 1, "action": action})).await;
        let (answered, _, body) = rig.create("web").await.unwrap();
        assert_eq!((answered, &body["errors"][0]["code"]), (status, &json!(code)), "{body}");
    }
    assert!(rig.names().await.is_empty());
    rig.control("DELETE", "/faults", Value::Null).await;
    rig.fault(json!({"method": "POST", "count": 1, "action": {"status_after": {"status": 502}}})).await;
    assert_eq!(rig.create("web").await.unwrap().0, 502);
    assert_eq!(rig.names().await, ["web"]);
}

#[tokio::test]
async fn latency_is_taken_by_every_call() {
    let rig = Rig::start().await;
    rig.control("PUT", "/latency", json!({"ms": 40})).await;
    let started = std::time::Instant::now();
    rig.names().await;
    rig.names().await;
    assert!(started.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_person_edits_records_without_a_trace_in_the_journal() {
    let rig = Rig::start().await;
    let made = rig.control("POST", "/cloudflare/zones/example.com/records", a("byhand")).await;
    let path = format!("/cloudflare/records/{}", made["id"].as_str().unwrap());
    rig.control("PATCH", &path, json!({"content": "203.0.113.9"})).await;
    let records = rig.control("GET", "/cloudflare/zones/example.com/records", Value::Null).await;
    assert_eq!(records[0]["content"], "203.0.113.9");
    rig.control("DELETE", &path, Value::Null).await;
    assert_eq!(rig.control("GET", "/cloudflare/zones/example.com/records", Value::Null).await, json!([]));
    assert_eq!(rig.control("GET", "/journal", Value::Null).await, json!([]));
}

#[tokio::test]
async fn an_authorization_header_without_a_bearer_token_is_a_malformed_request() {
    let rig = Rig::start().await;
    let path = "/cloudflare/client/v4/zones";
    let (status, _, body) = read(request(rig.sim.http(), "Basic xyz", "GET", path, &Value::Null).await).await.unwrap();
    assert_eq!((status, &body["errors"][0]["code"]), (400, &json!(6003)));
    assert_eq!(body["errors"][0]["error_chain"][0]["code"], 6111);
}
