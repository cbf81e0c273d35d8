//! Everything that is refused: with which status and code, and always in one form.

use std::time::Duration;

use reqwest::Method;
use roadstead::gateway::ports::{CreateError, DeleteError, ReportError, Unavailable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Answer, World};

/// Checks the form every refusal has, and gives status and code.
fn refusal(answer: &Answer) -> (u16, String) {
    let body = answer.body.as_object().unwrap_or_else(|| panic!("not JSON: {answer:?}"));
    let mut names: Vec<&String> = body.keys().collect();
    names.sort();
    assert_eq!(names, ["code", "message", "requestId"], "{answer:?}");
    assert_eq!(body["requestId"].as_str().unwrap(), answer.headers["x-request-id"]);
    assert_eq!(answer.headers["content-type"], "application/json");
    let message = body["message"].as_str().unwrap();
    assert!((10..500).contains(&message.len()) && !message.contains(char::is_control), "{message}");
    (answer.status, body["code"].as_str().unwrap().to_owned())
}

fn expect(answer: &Answer, status: u16, code: &str) {
    assert_eq!(refusal(answer), (status, code.to_owned()), "{answer:?}");
}

#[tokio::test]
async fn without_a_key_that_opens_nothing_is_done_and_the_message_says_what_is_wrong_with_it() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    let cut = &key[..key.len() - 1];
    let mistyped = key.replacen("rsk_", "rsk_a", 1).replace("_a", "_b");
    // Well formed, and nobody's.
    let other = World::new().await.key("user@example.com").await;
    for (method, path) in [
        (Method::GET, "/api/groups".to_owned()),
        (Method::POST, "/api/groups".to_owned()),
        (Method::DELETE, format!("/api/groups/{slug}")),
        (Method::DELETE, format!("/api/groups/{slug}/servers/10.0.0.1")),
        (Method::GET, format!("/api/groups/{slug}/history")),
        (Method::POST, "/api/report".to_owned()),
        (Method::POST, "/api/keys/rotate".to_owned()),
    ] {
        for (token, code) in [
            (None, "Unauthenticated"),
            (Some(""), "Unauthenticated"),
            (Some("secret"), "MalformedKey"),
            (Some(cut), "MalformedKey"),
            (Some(mistyped.as_str()), "MalformedKey"),
            (Some(other.as_str()), "UnknownKey"),
        ] {
            let answer = world.send(method.clone(), &path, token, "{}").await;
            expect(&answer, 401, code);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
        let request = world.client.request(method, format!("{}{path}", world.url)).basic_auth("user", Some(&key));
        expect(&World::answer(request).await, 401, "Unauthenticated");
    }
    assert_eq!(world.get("/api/groups", Some(&key)).await.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_not_what_it_has_to_be_is_refused_with_the_field_that_is_wrong() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    let report = |change: Value| {
        let mut body = json!({"groupSlug": slug, "address": "10.0.0.1", "status": "healthy"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body.to_string()
    };
    let text = |body: Value| body.to_string();
    for (path, body, code, names) in [
        ("/api/users/create", String::new(), "InvalidBody", "empty"),
        ("/api/users/create", "{".to_owned(), "InvalidBody", "line 1"),
        ("/api/users/create", "\u{0}".to_owned(), "InvalidBody", "line 1"),
        ("/api/users/create", "[]".to_owned(), "InvalidBody", "invalid"),
        ("/api/users/create", text(json!({})), "InvalidBody", "email"),
        ("/api/users/create", text(json!({"email": 7})), "InvalidBody", "invalid type"),
        ("/api/users/create", text(json!({"email": null})), "InvalidBody", "invalid type"),
        ("/api/users/create", text(json!({"email": "user@example.com", "admin": true})), "InvalidBody", "admin"),
        ("/api/users/create", r#"{"email":"a@b.c","email":"b@b.c"}"#.to_owned(), "InvalidBody", "duplicate"),
        ("/api/users/create", text(json!({"email": "user"})), "InvalidEmail", "email"),
        ("/api/users/create", text(json!({"email": "a b@example.com"})), "InvalidEmail", "email"),
        ("/api/groups", text(json!({})), "InvalidBody", "name"),
        ("/api/groups", text(json!({"name": ""})), "InvalidName", "name"),
        ("/api/groups", text(json!({"name": "  "})), "InvalidName", "name"),
        ("/api/groups", text(json!({"name": "a\u{1b}[31m"})), "InvalidName", "control"),
        ("/api/groups", text(json!({"name": "x".repeat(101)})), "InvalidName", "100"),
        ("/api/groups", text(json!({"name": ["a"]})), "InvalidBody", "invalid type"),
        ("/api/groups", text(json!({"name": "a", "strategy": "RoundRobin"})), "InvalidBody", "RoundRobin"),
        ("/api/groups", text(json!({"name": "a", "slug": "b"})), "InvalidBody", "slug"),
        ("/api/report", report(json!({"status": "pending"})), "InvalidBody", "pending"),
        ("/api/report", report(json!({"status": true})), "InvalidBody", "line 1"),
        ("/api/report", report(json!({"address": 7})), "InvalidBody", "invalid type"),
        ("/api/report", report(json!({"extra": 1})), "InvalidBody", "extra"),
        ("/api/report", report(json!({"details": "x".repeat(1025)})), "InvalidDetails", "1024"),
        ("/api/report", report(json!({"details": "a\nb"})), "InvalidDetails", "control"),
        ("/api/report", report(json!({"details": {}})), "InvalidBody", "invalid type"),
        ("/api/report", text(json!({"groupSlug": slug, "status": "healthy"})), "InvalidBody", "address"),
        ("/api/keys/rotate", text(json!({"overlapSeconds": 604_801})), "InvalidOverlap", "604800"),
        ("/api/keys/rotate", text(json!({"overlapSeconds": -1})), "InvalidBody", "invalid value"),
        ("/api/keys/rotate", text(json!({"overlap": 1})), "InvalidBody", "overlap"),
    ] {
        let answer = world.send(Method::POST, path, Some(&key), body.clone()).await;
        expect(&answer, 400, code);
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(names), "{path} {body}: {message}");
    }
    assert_eq!(world.users.users.lock().unwrap().len(), 1);
    assert_eq!(world.get(&format!("/dns/{slug}"), None).await.body["servers"], json!([]));
}

#[tokio::test]
async fn no_address_that_could_forge_a_list_gets_in() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    for address in [
        "",
        " ",
        "10.0.0.1,10.0.0.2",
        "10.0.0.1 10.0.0.2",
        "\"10.0.0.1\"",
        "a\"b",
        "a\\b",
        "a\u{0}b",
        "a\r\nb",
        "10.0.0.1\t",
        "no-healthy-servers",
        "NO-HEALTHY-SERVERS",
        "10.0.0.1:80",
        "http://a",
        "256.1.1.1",
        "0.0.0.0",
        "ä.example.com",
        &"a".repeat(64),
    ] {
        expect(&world.report(&key, &slug, address, "healthy").await, 400, "InvalidAddress");
    }
    assert_eq!(world.get(&format!("/dns/{slug}"), None).await.body["servers"], json!([]));
    let path = format!("/api/groups/{slug}/servers/a%2Cb");
    expect(&world.delete(&path, &key).await, 400, "InvalidAddress");
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused_whether_or_not_it_says_so_before() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let body = json!({"name": "x".repeat(64 * 1024)}).to_string();
    expect(&world.send(Method::POST, "/api/groups", Some(&key), body.clone()).await, 413, "BodyTooLarge");
    let chunks = futures::stream::iter(
        body.into_bytes().chunks(1000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let streamed = reqwest::Body::wrap_stream(chunks);
    expect(&world.send(Method::POST, "/api/groups", Some(&key), streamed).await, 413, "BodyTooLarge");
    // Just as much as fits is read, and refused for what it says.
    let name = "x".repeat(64 * 1024 - r#"{"name":""}"#.len());
    let fits = json!({"name": name}).to_string();
    assert_eq!(fits.len(), 64 * 1024);
    expect(&world.send(Method::POST, "/api/groups", Some(&key), fits).await, 400, "InvalidName");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_gives_its_place_back() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let mut slow = tokio::net::TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /api/groups HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 12\r\n\r\n{{\"name\""
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), slow.read_to_end(&mut said)).await;
    let said = String::from_utf8(said).unwrap();
    assert!(ended.is_ok() && said.starts_with("HTTP/1.1 408") && said.contains("BodyTooSlow"), "{ended:?} {said}");
}

#[tokio::test]
async fn what_the_groups_refuse_reaches_the_caller_with_a_status_and_a_remedy() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    let away = || Unavailable { message: "the cluster is away".to_owned(), retry_after: Duration::from_millis(2500) };
    for (error, status, code, retry) in [
        (ReportError::UnknownGroup, 404, "GroupNotFound", None),
        (ReportError::NotAllowed, 403, "NotAllowed", None),
        (ReportError::ReportingDisabled, 403, "ReportingDisabled", None),
        (ReportError::Full, 409, "GroupFull", None),
        (ReportError::Busy(Duration::from_secs(7)), 429, "TooManyRequests", Some("7")),
        (ReportError::Unavailable(away()), 503, "Unavailable", Some("3")),
    ] {
        *world.groups.refuse_report.lock().unwrap() = Some(error);
        let answer = world.report(&key, &slug, "10.0.0.1", "healthy").await;
        expect(&answer, status, code);
        assert_eq!(answer.headers.get("retry-after").map(|value| value.to_str().unwrap()), retry);
    }
    for (error, status, code) in [
        (CreateError::TooMany(100), 409, "TooManyGroups"),
        (CreateError::Refused("the Zone does not allow the namespace".to_owned()), 403, "GroupRefused"),
        (CreateError::Unavailable(away()), 503, "Unavailable"),
    ] {
        *world.groups.refuse_create.lock().unwrap() = Some(error);
        expect(&world.post("/api/groups", Some(&key), &json!({"name": "a"})).await, status, code);
    }
    for (error, status, code) in [
        (DeleteError::UnknownGroup, 404, "GroupNotFound"),
        (DeleteError::UnknownServer, 404, "ServerNotFound"),
        (DeleteError::Declared, 409, "Declared"),
        (DeleteError::Busy(Duration::from_secs(1)), 429, "TooManyRequests"),
        (DeleteError::Unavailable(away()), 503, "Unavailable"),
    ] {
        *world.groups.refuse_delete.lock().unwrap() = Some(error);
        expect(&world.delete(&format!("/api/groups/{slug}/servers/10.0.0.1"), &key).await, status, code);
    }
    // What was refused is not in the history.
    let history = world.get(&format!("/api/groups/{slug}/history"), Some(&key)).await;
    assert_eq!(history.body["entries"], json!([]));
}

#[tokio::test]
async fn unknown_paths_methods_and_pages_are_refused_in_the_same_form() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    for path in ["/", "/api", "/api/users", "/dns", "/dns/", "/dns/a/b", "/api/groups/", "/metrics", "/healthz"] {
        expect(&world.get(path, Some(&key)).await, 404, "NotFound");
    }
    let answer = world.send(Method::PUT, "/api/groups", Some(&key), "{}").await;
    expect(&answer, 405, "MethodNotAllowed");
    assert_eq!(answer.headers["allow"], "POST,GET,HEAD");
    expect(&world.get("/dns/%ff", None).await, 400, "InvalidPath");
    for query in ["limit=0", "limit=1001", "limit=x", "limit=-1", "before=0", "before=x", "page=2", "limit=1&limit=2"] {
        expect(&world.get(&format!("/api/groups/{slug}/history?{query}"), Some(&key)).await, 400, "InvalidQuery");
    }
    let without = roadstead::gateway::ports::Ports { history: None, ..world.ports.clone() };
    world.leading.send_replace(Some(without));
    expect(&world.get(&format!("/api/groups/{slug}/history"), Some(&key)).await, 404, "NoHistory");
}
