//! The simulated edge: an uploaded Worker answers at its route, through real workerd, with the bindings it has now.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cloudsim::Options;
use cloudsim::cloudflare::{ScriptInfo, WorkersOptions};
use futures::{SinkExt, StreamExt};
use roadstead::slb::plan::Step;
use roadstead::slb::{Mode, Worker};
use serde_json::{Value, json};
use support::{eventually, free_port, workerd};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::origin::{self, Origin};
use crate::publishing::{ACCOUNT, Cloud, DOMAIN, NAME, origin as member, worker};

async fn edge() -> (Cloud, SocketAddr) {
    let binary = tokio::task::spawn_blocking(workerd).await.unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let workers = Some(WorkersOptions { listen, workerd: binary, authorities: None });
    let cloud = Cloud::start(Options { workers, ..Options::default() }).await;
    let address = cloud.sim.workers().unwrap();
    (cloud, address)
}

fn record(cloud: &Cloud, label: &str) {
    let record = json!({"type": "A", "name": format!("{label}.{DOMAIN}"), "content": "127.0.0.1", "ttl": 60});
    cloud.sim.cloudflare.add_record(DOMAIN, &serde_json::from_value(record).unwrap()).unwrap();
}

async fn get(address: SocketAddr, host: &str) -> (u16, String) {
    let request = reqwest::Client::new().get(format!("http://{address}/path?x=1")).header("host", host);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Uploads a script that asks for `url` and says what it got, at `host`.
fn asking(cloud: &Cloud, url: &str) {
    let text = "export default { async fetch(request, env) {
        const response = await fetch(env.URL);
        return new Response(`${response.status} ${await response.text()}`);
    } }";
    let bindings = vec![
        json!({"type": "plain_text", "name": "URL", "text": url}),
        json!({"type": "plain_text", "name": "ORIGINS", "text": ""}),
        json!({"type": "plain_text", "name": "ROADSTEAD_ALLOW", "text": "shop/web"}),
    ];
    let info = ScriptInfo { text: text.to_owned(), bindings, versions: 0 };
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &info).unwrap();
}

#[tokio::test]
async fn traffic_goes_through_the_published_worker_and_moves_with_its_origins() {
    let (cloud, address) = edge().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    for label in ["a", "b"] {
        record(&cloud, label);
    }
    let at = |label: &str, origin: &Origin| member(&format!("http://{label}.{DOMAIN}:{}", origin.port()));
    let mut wanted = worker(&[at("a", &a), at("b", &b)]);
    wanted.place = Some(cloud.route("shop.example.com/*"));
    assert_eq!(get(address, "shop.example.com").await, (530, "error code: 1016".to_owned()));
    cloud.settle(&wanted).await.unwrap();
    assert_eq!(get(address, "shop.example.com").await, (200, "a".to_owned()));
    let seen = &a.seen()[0];
    assert_eq!(
        (seen.target.as_str(), &seen.headers["x-forwarded-host"]),
        ("/path?x=1", &"shop.example.com".parse().unwrap())
    );
    assert_eq!(seen.headers["host"], format!("a.{DOMAIN}:{}", a.port()));
    assert_eq!(seen.headers["cf-connecting-ip"], "127.0.0.1");

    wanted.origins[0].healthy = false;
    cloud.settle(&wanted).await.unwrap();
    assert_eq!(get(address, "shop.example.com").await, (200, "b".to_owned()));
    assert_eq!(a.all().len(), 1);

    // Without a published change the Worker itself goes on to the one that answers.
    wanted.origins[0].healthy = true;
    cloud.settle(&wanted).await.unwrap();
    drop(a);
    assert_eq!(get(address, "shop.example.com").await, (200, "b".to_owned()));
    cloud.withdraw(&wanted).await.unwrap();
    assert_eq!(get(address, "shop.example.com").await, (530, "error code: 1016".to_owned()));
}

#[tokio::test]
async fn a_websocket_goes_through_edge_worker_and_egress() {
    let (cloud, address) = edge().await;
    let (port, _tasks) = origin::echo().await;
    record(&cloud, "chat");
    let mut wanted = worker(&[member(&format!("http://chat.{DOMAIN}:{port}"))]);
    wanted.place = Some(cloud.route("*.example.com/*"));
    cloud.settle(&wanted).await.unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://www.example.com/chat", stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn a_script_is_answered_as_cloudflare_answers_it() {
    let (cloud, address) = edge().await;
    record(&cloud, "here");
    let closed = free_port();
    asking(&cloud, "http://203.0.113.7/");
    let place = Step::Place(cloud.route("ask.example.com/*"));
    cloud.workers.apply(NAME, &place, roadstead::outside::budget::Priority::Normal).await.unwrap();
    for (url, expected) in [
        ("http://127.0.0.1/".to_owned(), "403 error code: 1003"),
        (format!("http://nowhere.{DOMAIN}/"), "530 error code: 1016"),
        ("http://origin.example.net/".to_owned(), "530 error code: 1016"),
        (format!("http://here.{DOMAIN}:{closed}/"), "521 error code: 521"),
    ] {
        asking(&cloud, &url);
        assert_eq!(get(address, "ask.example.com").await, (200, expected.to_owned()), "{url}");
    }
    let origin = Origin::start("o").await;
    cloud.sim.cloudflare.set_host("origin.example.net", Some(Ipv4Addr::LOCALHOST.into()));
    asking(&cloud, &format!("http://origin.example.net:{}/", origin.port()));
    assert_eq!(get(address, "ask.example.com").await, (200, "200 o".to_owned()));
    // Plain HTTP where TLS is spoken to.
    asking(&cloud, &format!("https://origin.example.net:{}/", origin.port()));
    assert_eq!(get(address, "ask.example.com").await, (200, "525 error code: 525".to_owned()));
}

#[tokio::test]
async fn a_script_that_does_not_compile_is_refused_in_workerds_words() {
    let (cloud, _) = edge().await;
    let client = reqwest::Client::new();
    let account = cloud.sim.cloudflare.add_account(ACCOUNT);
    let form = roadstead::slb::wire::upload("export default { fetch( }", "2025-09-01", &[]);
    let url = format!("{}/accounts/{account}/workers/scripts/broken", cloud.sim.cloudflare_api());
    let request =
        client.put(url).bearer_auth("workers-canary").header("content-type", form.content_type).body(form.bytes);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 400);
    let error = response.json::<Value>().await.unwrap()["errors"][0].take();
    assert_eq!(error["code"], 10_021);
    assert!(error["message"].as_str().unwrap().contains("SyntaxError"), "{error}");
}

#[tokio::test]
async fn replaced_versions_end_their_workerd() {
    let (cloud, address) = edge().await;
    let origin = Origin::start("o").await;
    let url = |n: usize| format!("http://localhost:{}/{n}", origin.port());
    asking(&cloud, &url(0));
    let place = Step::Place(cloud.route("ask.example.com/*"));
    cloud.workers.apply(NAME, &place, roadstead::outside::budget::Priority::Normal).await.unwrap();
    for n in 0..3 {
        asking(&cloud, &url(n));
        assert_eq!(get(address, "ask.example.com").await, (200, "200 o".to_owned()));
    }
    let targets: Vec<_> = origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/0", "/1", "/2"]);
    eventually(Duration::from_secs(20), "one workerd to be left", async || {
        let running = cloud.sim.workers_running();
        (running == 1).then_some(()).ok_or(running)
    })
    .await;
    let only = Worker { mode: Mode::OriginsOnly, ..worker(&[member("https://a.example.com")]) };
    assert_eq!(cloud.settle(&only).await, Ok(Step::Done("https://a.example.com".to_owned())));
    assert_eq!(get(address, "ask.example.com").await, (200, "200 o".to_owned()), "the other bindings are there");
}
