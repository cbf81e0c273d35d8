//! What the client concludes from each answer, and what it sends.

use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::{Value as Json, json};
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::api::names::{ClusterId, Mark};
use crate::dns::api::{RecordsApi, Write};
use crate::dns::plan::Op;
use crate::dns::record::{Content, Desired, Record, Value};

const TOKEN: &str = "s3cr3t-t0k3n-value";

fn client(server: &MockServer) -> Cloudflare {
    // Whoever came first has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = Metrics::register(&mut Registry::default());
    Cloudflare::new(&server.uri(), Token::new(&format!("{TOKEN}\n")), "zone/test", Budgets::default(), metrics).unwrap()
}

fn records(server: &MockServer) -> ZoneRecords {
    client(server).records("z1")
}

#[expect(clippy::needless_pass_by_value, reason = "every caller makes its value in place")]
fn ok(result: Json) -> Json {
    json!({"success": true, "errors": [], "messages": [], "result": result})
}

fn page(result: Json, page: usize, total_pages: usize, total_count: usize) -> Json {
    let mut body = ok(result);
    body["result_info"] =
        json!({"page": page, "per_page": 5000, "total_pages": total_pages, "total_count": total_count});
    body
}

fn failure(code: u64, message: &str) -> Json {
    json!({"success": false, "errors": [{"code": code, "message": message}], "messages": [], "result": {}})
}

fn wire(id: &str, name: &str, comment: &str) -> Json {
    json!({"id": id, "name": name, "type": "A", "content": "203.0.113.1", "ttl": 300, "proxied": false,
           "comment": comment, "settings": {}, "tags": []})
}

async fn answer(server: &MockServer, verb: &str, at: &str, response: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(response).mount(server).await;
}

fn domain() -> Fqdn {
    Fqdn::parse("example.com").unwrap()
}

fn mark() -> Mark {
    let cluster = ClusterId::parse("0a1b2c3d").unwrap();
    Mark::new(cluster, "Node", "shop", "web-1", "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c").unwrap()
}

fn post() -> Write {
    let name = Fqdn::parse("web.example.com").unwrap();
    let to = Desired { name, content: Content::Txt("a\"b".into()), ttl: 300, proxied: true };
    Write { mark: mark(), op: Op::Post(to) }
}

#[tokio::test]
async fn every_answer_to_a_write_becomes_the_outcome_that_says_what_may_be_concluded() {
    let too_many = ResponseTemplate::new(429).insert_header("retry-after", "77").set_body_json(failure(971, "slow"));
    let cases: Vec<(&str, ResponseTemplate, OutsideError)> = vec![
        (
            "refused, with its chain",
            ResponseTemplate::new(400).set_body_json(json!({"success": false, "errors": [{"code": 1004, "message":
                "DNS Validation Error", "error_chain": [{"code": 9005, "message": "bad content"}]}], "result": null})),
            OutsideError::Refused {
                code: "1004".into(),
                message: "1004 DNS Validation Error: 9005 bad content".into(),
            },
        ),
        (
            "missing permission",
            ResponseTemplate::new(403).set_body_json(failure(10_000, "Authentication error")),
            OutsideError::Forbidden(
                "the Cloudflare token may not POST /zones/z1/dns_records/batch: it needs Zone > DNS > Edit (10000 \
                 Authentication error)"
                    .into(),
            ),
        ),
        (
            "unknown token, and an answer that echoes it",
            ResponseTemplate::new(403).set_body_json(failure(9109, &format!("Invalid access token {TOKEN}"))),
            OutsideError::Unauthorized(
                "Cloudflare does not accept the token (9109 Invalid access token …): put a valid one into its Secret"
                    .into(),
            ),
        ),
        ("rate limit", too_many, OutsideError::RateLimited { after: Duration::from_secs(77) }),
        (
            "server error",
            ResponseTemplate::new(502).set_body_string("<html>bad gateway</html>"),
            OutsideError::Unknown("Cloudflare answered 502 to POST /zones/z1/dns_records/batch".into()),
        ),
        (
            "a success nobody can read",
            ResponseTemplate::new(200).set_body_string("{\"success\":"),
            OutsideError::Unknown("Cloudflare answered 200 to POST /zones/z1/dns_records/batch".into()),
        ),
    ];
    for (case, response, expected) in cases {
        let server = MockServer::start().await;
        answer(&server, "POST", "/zones/z1/dns_records/batch", response).await;
        let error = records(&server).batch(&[post()], Priority::Normal).await.unwrap_err();
        assert_eq!(error, expected, "{case}");
        assert!(!format!("{error:?} {error}").contains(TOKEN), "{case}");
    }
}

#[tokio::test]
async fn a_cut_connection_leaves_a_write_unknown_and_a_refused_one_proves_nothing_happened() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let base = format!("http://{address}");
    let metrics = Metrics::register(&mut Registry::default());
    let client = Cloudflare::new(&base, Token::new(TOKEN), "zone/test", Budgets::default(), metrics).unwrap();
    let cutting = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 64];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await;
        }
    });
    let records = client.records("z1");
    let write = records.batch(&[post()], Priority::Normal).await.unwrap_err();
    assert!(matches!(write, OutsideError::Unknown(_)), "{write:?}");
    let read = records.list(Priority::Normal).await.unwrap_err();
    assert!(matches!(read, OutsideError::Unavailable(_)), "{read:?}");
    cutting.await.unwrap(); // and with it the listener is gone
    let refused = records.batch(&[post()], Priority::Normal).await.unwrap_err();
    assert!(matches!(refused, OutsideError::Unavailable(_)), "{refused:?}");
}

#[tokio::test]
async fn a_listing_is_complete_or_an_error() {
    let at = "/zones/z1/dns_records";
    let pages = async |second: ResponseTemplate| {
        let server = MockServer::start().await;
        let first = page(json!([wire("r1", "WEB.example.com", &mark().comment())]), 1, 2, 2);
        let first = ResponseTemplate::new(200).set_body_json(first);
        Mock::given(method("GET")).and(path(at)).and(query_param("page", "1")).respond_with(first).mount(&server).await;
        Mock::given(method("GET"))
            .and(path(at))
            .and(query_param("page", "2"))
            .respond_with(second)
            .mount(&server)
            .await;
        records(&server).list(Priority::Normal).await
    };
    let second = |body: Json| ResponseTemplate::new(200).set_body_json(body);
    let whole = pages(second(page(json!([wire("r2", "b.example.com", "mine")]), 2, 2, 2))).await.unwrap();
    assert_eq!(whole.iter().map(|record| &*record.name).collect::<Vec<_>>(), ["web.example.com", "b.example.com"]);
    assert_eq!(whole.iter().map(|record| record.mark.is_some()).collect::<Vec<_>>(), [true, false]);

    for (case, body) in [
        ("the total moved", second(page(json!([wire("r2", "b.example.com", "")]), 2, 2, 3))),
        ("the same record twice", second(page(json!([wire("r1", "web.example.com", "")]), 2, 2, 2))),
        ("an empty page", second(page(json!([]), 2, 2, 2))),
        ("no totals", second(ok(json!([wire("r2", "b.example.com", "")])))),
        ("a record of another shape", second(page(json!([{"id": "r2"}]), 2, 2, 2))),
        ("a failing page", ResponseTemplate::new(500)),
    ] {
        let error = pages(body).await.unwrap_err();
        assert!(matches!(error, OutsideError::Unavailable(_)), "{case}: {error:?}");
    }
}

#[tokio::test]
async fn a_batch_sends_exactly_the_fields_we_manage() {
    let server = MockServer::start().await;
    let result = json!({"deletes": [], "patches": [wire("r2", "web.example.com", &mark().comment())], "posts": null});
    Mock::given(method("POST"))
        .and(path("/zones/z1/dns_records/batch"))
        .and(header("authorization", format!("Bearer {TOKEN}").as_str()))
        .respond_with(ResponseTemplate::new(200).set_body_json(ok(result)))
        .mount(&server)
        .await;
    let old = |id: &str| {
        let value = Value::from_wire("A", "203.0.113.9");
        Arc::new(Record {
            id: id.into(),
            name: "web.example.com".into(),
            value,
            ttl: 60,
            proxied: false,
            mark: Some(mark()),
        })
    };
    let name = Fqdn::parse("web.example.com").unwrap();
    let to = Desired { name, content: Content::A([203, 0, 113, 1].into()), ttl: 300, proxied: true };
    let writes = [
        Write { mark: mark(), op: Op::Delete(old("r1")) },
        Write { mark: mark(), op: Op::Patch { from: old("r2"), to } },
        post(),
    ];
    let changed = records(&server).batch(&writes, Priority::Normal).await.unwrap();
    assert_eq!(changed.iter().map(|record| &*record.id).collect::<Vec<_>>(), ["r2"]);
    let sent: Json = server.received_requests().await.unwrap()[0].body_json().unwrap();
    let comment = mark().comment();
    assert_eq!(
        sent,
        json!({
            "deletes": [{"id": "r1"}],
            "patches": [{"id": "r2", "type": "A", "name": "web.example.com", "content": "203.0.113.1", "ttl": 1,
                         "proxied": true, "comment": comment}],
            "posts": [{"type": "TXT", "name": "web.example.com", "content": "\"a\\\"b\"", "ttl": 300,
                       "comment": comment}],
        })
    );
}

fn zone(name: &str, account: &str, plan: &str) -> Json {
    json!({"id": format!("z-{account}"), "name": name, "status": "active", "account": {"id": account, "name": "A"},
           "plan": {"legacy_id": plan}, "name_servers": ["ada.ns.example.net"]})
}

async fn connect(
    verify: ResponseTemplate,
    zones: Json,
    account_verify: ResponseTemplate,
) -> Result<ZoneFacts, OutsideError> {
    let server = MockServer::start().await;
    answer(&server, "GET", "/user/tokens/verify", verify).await;
    answer(&server, "GET", "/accounts/acc/tokens/verify", account_verify).await;
    answer(&server, "GET", "/zones", ResponseTemplate::new(200).set_body_json(ok(zones))).await;
    client(&server).connect(&domain()).await
}

fn status(status: &str) -> ResponseTemplate {
    let result = json!({"id": "t", "status": status, "expires_on": "2027-01-01T00:00:00Z"});
    ResponseTemplate::new(200).set_body_json(ok(result))
}

fn wrong() -> ResponseTemplate {
    ResponseTemplate::new(401).set_body_json(failure(1000, "Invalid API Token"))
}

#[tokio::test]
async fn connecting_tells_zone_account_plan_and_expiry_for_tokens_of_users_and_of_accounts() {
    for (case, verify, account_verify) in [("user", status("active"), wrong()), ("account", wrong(), status("active"))]
    {
        let facts = connect(verify, json!([zone("example.com", "acc", "free")]), account_verify).await.unwrap();
        assert_eq!(facts.zone_id, "z-acc", "{case}");
        assert_eq!((facts.account_id.as_str(), facts.batch_limit), ("acc", 200), "{case}");
        assert_eq!(facts.token_expires.as_deref(), Some("2027-01-01T00:00:00Z"), "{case}");
        assert_eq!((facts.status.as_str(), facts.name_servers.len()), ("active", 1), "{case}");
    }
    let paid = connect(status("active"), json!([zone("example.com", "acc", "pro")]), wrong()).await.unwrap();
    assert_eq!(paid.batch_limit, 3_500);
}

#[tokio::test]
async fn a_token_or_a_domain_that_will_not_do_is_said_with_the_remedy() {
    let here = || json!([zone("example.com", "acc", "free")]);
    let expired = connect(status("expired"), here(), wrong()).await.unwrap_err();
    assert_eq!(
        expired.to_string(),
        "the Cloudflare token expired on 2027-01-01T00:00:00Z: put a new one into its Secret"
    );
    let disabled = connect(wrong(), here(), status("disabled")).await.unwrap_err();
    assert_eq!(disabled.to_string(), "the Cloudflare token is disabled: put a valid one into its Secret");
    let elsewhere = connect(status("active"), json!([]), wrong()).await.unwrap_err();
    assert!(matches!(&elsewhere, OutsideError::Refused { code, .. } if code == "zone-not-found"), "{elsewhere:?}");
    let twice = json!([zone("example.com", "acc", "free"), zone("example.com", "other", "free")]);
    let twice = connect(status("active"), twice, wrong()).await.unwrap_err();
    assert!(matches!(&twice, OutsideError::Refused { code, .. } if code == "zone-ambiguous"), "{twice:?}");
}

#[tokio::test]
async fn a_token_nobody_knows_is_unauthorized_and_not_a_missing_permission() {
    let server = MockServer::start().await;
    answer(&server, "GET", "/user/tokens/verify", wrong()).await;
    let refused = ResponseTemplate::new(403).set_body_json(failure(10_000, "Authentication error"));
    answer(&server, "GET", "/zones", refused).await;
    let error = client(&server).connect(&domain()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Cloudflare does not accept the token (1000 Invalid API Token): put a valid one into its Secret"
    );
}

#[test]
fn a_token_is_never_printed() {
    assert_eq!(format!("{:?}", Token::new(TOKEN)), "Token(…)");
}
