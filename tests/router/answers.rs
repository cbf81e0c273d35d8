//! What visitors are answered, word by word.

use http::Request;
use roadstead::host::table::{IDENTITY_PATH, Node, Route, Table};
use support::free_port;

use crate::client::Connection;
use crate::rig::{App, HEALTH, Host, NONCE, Router, table, upstream};

#[tokio::test]
async fn a_host_nobody_has_is_not_found_over_http_and_on_a_known_connection() {
    let app = App::start("v1").await;
    let host = Host::start(&table([("app.test", upstream(app.port))])).await;
    assert_eq!(host.plain("other.test", "/").await.said(), (404, "Service Not Found"));
    let mut known = host.visit("app.test").await;
    assert_eq!(known.get("/").await.unwrap().said(), (200, "v1"));
    let other = Request::get("/").header("host", "other.test").body(String::new()).unwrap();
    assert_eq!(known.send(other).await.unwrap().said(), (404, "Service Not Found"));
    assert_eq!(known.get("/").await.unwrap().said(), (200, "v1"), "the connection is as good as before");
}

#[tokio::test]
async fn a_withdrawn_app_is_503_one_that_refuses_connections_502_and_an_app_s_own_errors_are_its_own() {
    let app = App::start("v1").await;
    let routes =
        [("gone.test", Route::Unavailable), ("dead.test", upstream(free_port())), ("app.test", upstream(app.port))];
    let host = Host::start(&table(routes)).await;
    assert_eq!(host.get("app.test", "/own").await.said(), (503, "busy"));
    for _ in 0..2 {
        assert_eq!(host.get("gone.test", "/").await.said(), (503, "Service Unavailable - VM not responding"));
        assert_eq!(host.get("dead.test", "/").await.said(), (502, "Bad Gateway"));
    }
}

#[tokio::test]
async fn redirects_keep_path_and_query_and_plain_http_leads_to_https() {
    let app = App::start("v1").await;
    let old = Route::Redirect { to: "app.test".into(), code: Route::PERMANENT, peer: None };
    let moved = Route::Redirect { to: "app.test".into(), code: 302, peer: None };
    let host = Host::start(&table([("app.test", upstream(app.port)), ("old.test", old), ("moved.test", moved)])).await;
    for (answer, status, location) in [
        (host.get("old.test", "/a%20b?c=d&e").await, 308, "https://app.test/a%20b?c=d&e"),
        (host.get("moved.test", "/").await, 302, "https://app.test/"),
        (host.plain("old.test", "/a?b").await, 308, "https://app.test/a?b"),
        (host.plain("app.test", "/a?b").await, 308, "https://app.test/a?b"),
    ] {
        assert_eq!((answer.status, answer.header("location")), (status, location));
    }
    let forged = Request::get("/a").header("x-forwarded-uri", "/evil").body(String::new()).unwrap();
    let answer = host.visit("old.test").await.send(forged).await.unwrap();
    assert_eq!(answer.header("location"), "https://app.test/a", "a visitor cannot say what was asked for");
}

#[tokio::test]
async fn an_app_under_maintenance_has_a_page_that_says_when_to_come_back() {
    let host = Host::start(&table([("app.test", Route::Maintenance)])).await;
    let answer = host.get("app.test", "/any/path").await;
    assert_eq!((answer.status, answer.header("content-type")), (503, "text/html; charset=utf-8"));
    assert!(answer.body.contains("<h1>Down for maintenance</h1>"), "{}", answer.body);
    assert_eq!((answer.header("retry-after"), answer.header("cache-control")), ("60", "no-store"));
}

#[tokio::test]
async fn every_site_says_whose_host_it_is_and_so_does_a_health_check() {
    let app = App::start("v1").await;
    let routes =
        [("app.test", upstream(app.port)), ("gone.test", Route::Unavailable), ("new.test", Route::Placeholder)];
    let host = Host::start(&table(routes)).await;
    for name in ["app.test", "gone.test", "new.test"] {
        let answer = host.get(name, IDENTITY_PATH).await;
        assert_eq!((answer.said(), answer.header("x-roadstead-identity")), ((200, NONCE), NONCE), "{name}");
        // Also before there is a certificate.
        assert_eq!(host.plain(name, IDENTITY_PATH).await.said(), (200, NONCE), "{name}");
    }
    assert_eq!(host.plain("other.test", IDENTITY_PATH).await.status, 404);
    let check = host.get("app.test", HEALTH).await;
    assert_eq!((check.said(), check.header("x-roadstead-identity")), ((200, "v1"), NONCE), "it is the app's answer");
    let page = host.get("app.test", "/").await;
    assert_eq!((page.said(), page.headers.get("x-roadstead-identity")), ((200, "v1"), None));
}

#[tokio::test]
async fn the_placeholder_passes_a_health_check_but_is_marked() {
    let host = Host::start(&table([("new.test", Route::Placeholder)])).await;
    let check = host.get("new.test", HEALTH).await;
    assert_eq!(check.said(), (200, "No application deployed yet\n"));
    assert_eq!((check.header("x-roadstead-placeholder"), check.header("x-roadstead-identity")), ("true", NONCE));
    let page = host.get("new.test", "/").await;
    assert_eq!((page.status, page.header("x-roadstead-placeholder")), (503, "true"));
}

#[tokio::test]
async fn the_app_gets_the_request_as_it_was_sent_and_answers_alone() {
    let app = App::start("v1").await;
    let host = Host::start(&table([("app.test", upstream(app.port))])).await;
    let mut visit = host.visit("app.test").await;
    let request = Request::put("/seen?x=1")
        .header("cookie", "a=b")
        .header("authorization", "Bearer t")
        .header("x-upstream", "evil.test:80")
        .body("body".to_owned())
        .unwrap();
    let seen = visit.send(request).await.unwrap().body;
    assert!(seen.starts_with("PUT /seen?x=1\n"), "{seen}");
    for header in [r#""host": "app.test""#, r#""cookie": "a=b""#, r#""authorization": "Bearer t""#, "x-forwarded-for"] {
        assert!(seen.contains(header), "{header} in {seen}");
    }
    assert!(!seen.contains("x-forwarded-uri"), "{seen}");
    let large = "x".repeat(2_000_000);
    let answer = visit.post("/", &large).await.unwrap();
    assert!(answer.status == 200 && answer.body == format!("v1{large}"), "{}", answer.body.len());
    assert_eq!(answer.headers.get("x-upstream"), None);
}

#[tokio::test]
async fn only_names_of_the_table_get_a_certificate() {
    let app = App::start("v1").await;
    let mut routes = vec![("app.test", upstream(app.port))];
    let host = Host::start(&table(routes.clone())).await;
    assert_eq!(host.get("app.test", "/").await.status, 200);
    let refused = Connection::tls(host.https, "late.test", &host.trust()).await.err();
    assert!(refused.as_ref().is_some_and(|error| error.starts_with("TLS: ")), "{refused:?}");
    assert!(host.routers[0].series("roadstead_router_asks_total{answer=\"denied\"}").await > 0);
    assert!(host.routers[0].series("roadstead_router_asks_total{answer=\"allowed\"}").await > 0);
    routes.push(("late.test", upstream(app.port)));
    host.set(&table(routes)).await;
    assert_eq!(host.get("late.test", "/").await.said(), (200, "v1"));
}

#[tokio::test]
async fn what_an_authority_asks_reaches_whichever_host_of_the_name_knows_and_goes_round_once() {
    const TOKEN: &str = "/.well-known/acme-challenge/token";
    let (app, solver) = (App::start("app").await, App::start("proof").await);
    let shared = |port, peer| Route::Upstream { alias: "127.0.0.1".into(), port, peer: Some(peer) };
    let host = Host::start(&table([])).await;
    host.set(&table([("shared.test", shared(app.port, ([127, 0, 0, 1], solver.port).into()))])).await;
    assert_eq!(host.plain("shared.test", TOKEN).await.said(), (200, "proof"));
    assert_eq!(host.plain("shared.test", "/").await.status, 308);
    assert_eq!(host.get("shared.test", TOKEN).await.said(), (200, "app"), "an app may prove names of its own");
    assert_eq!(host.plain("other.test", TOKEN).await.status, 404);
    // Two that do not know: the second asks nobody who was asked.
    let second = Host::start(&table([])).await;
    let other = Node { nonce: "nonce-of-the-other-node".into(), health_path: "/".into() };
    let back = Table::new(other, [("shared.test", shared(app.port, host.http))]).unwrap();
    second.set(&back).await;
    host.set(&table([("shared.test", shared(app.port, second.http))])).await;
    let asked = async |router: &Router| router.series("roadstead_router_lookups_total{answer=\"peer\"}").await;
    for host in [&host, &second] {
        assert_eq!(host.plain("shared.test", TOKEN).await.status, 308);
    }
    assert_eq!((asked(&host.routers[0]).await, asked(&second.routers[0]).await), (1 + 2, 2));
}
