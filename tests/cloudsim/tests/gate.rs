//! What the gate in front of the clouds does: journal, faults, holds, cut connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may say bluntly what they expect"
)]

use std::time::Duration;

use cloudsim::digitalocean::{Settings, TokenSpec};
use cloudsim::faults::{Action, Fault, Release};
use cloudsim::{Options, Sim};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "dop_v1_gate";

async fn start() -> Sim {
    let sim = Sim::start(Options::default()).await.unwrap();
    sim.digitalocean.put_token(TokenSpec::new(TOKEN));
    sim.digitalocean.set_settings(Settings::immediate());
    sim
}

/// Sends a request and gives the connection, so that a test may cut it.
async fn send(sim: &Sim, method: &str, path: &str, body: Option<&Value>) -> TcpStream {
    let body = body.map(ToString::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(sim.http()).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        sim.http(),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The status and the JSON of the answer; `None` if the connection was cut without one.
async fn answer(mut stream: TcpStream) -> Option<(u16, Value)> {
    let mut text = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await;
    if read.expect("no answer within 10 s").is_err() || text.is_empty() {
        return None;
    }
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}

async fn create(sim: &Sim, name: &str) -> TcpStream {
    let order = json!({"name": name, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"});
    send(sim, "POST", "/digitalocean/v2/droplets", Some(&order)).await
}

fn fault(action: Action) -> Fault {
    Fault {
        cloud: Some("digitalocean".into()),
        method: Some("WRITE".into()),
        path: None,
        from: 1,
        count: Some(1),
        action,
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap_or_else(|_| panic!("not within 10 s: {what}"));
}

#[tokio::test]
async fn a_held_write_outlives_its_client_and_is_then_committed_or_dropped() {
    let sim = start().await;
    for (release, droplets) in [(Release::Drop, 0), (Release::Commit, 1), (Release::CommitLate(1), 2)] {
        sim.gate.faults.add(fault(Action::Hold));
        let client = create(&sim, "web-1").await;
        until("the write is held", || sim.gate.faults.held().len() == 1).await;
        let held = sim.gate.faults.held().remove(0);
        assert_eq!((held.method.as_str(), held.path.as_str()), ("POST", "/v2/droplets"));
        drop(client);
        // A request that comes later is not in the way of the one that is held.
        assert_eq!(answer(send(&sim, "GET", "/digitalocean/v2/account", None).await).await.unwrap().0, 200);
        assert!(sim.gate.faults.release(held.id, release), "{release:?}");
        assert!(!sim.gate.faults.release(held.id, release));
        until("the write is done with", || sim.digitalocean.droplets().len() == droplets).await;
        let after = sim.gate.journal.since(0).into_iter().rfind(|entry| entry.method == "POST").unwrap();
        assert_eq!(after.committed, release != Release::Drop);
        sim.gate.faults.clear();
    }
}

#[tokio::test]
async fn a_held_write_that_is_released_is_answered_or_cut() {
    let sim = start().await;
    for (release, status) in [(Release::Commit, Some(202)), (Release::CommitAndCut, None), (Release::Drop, None)] {
        sim.gate.faults.add(fault(Action::Hold));
        let client = create(&sim, "web-1").await;
        until("the write is held", || sim.gate.faults.held().len() == 1).await;
        let id = sim.gate.faults.held()[0].id;
        assert!(sim.gate.faults.release(id, release));
        assert_eq!(answer(client).await.map(|(status, _)| status), status, "{release:?}");
        sim.gate.faults.clear();
    }
    assert_eq!(sim.digitalocean.droplets().len(), 2);
}

#[tokio::test]
async fn a_connection_is_cut_before_or_after_the_write() {
    let sim = start().await;
    sim.gate.faults.add(fault(Action::CutBefore));
    assert_eq!(answer(create(&sim, "web-1").await).await, None);
    assert!(sim.digitalocean.droplets().is_empty());
    sim.gate.faults.clear();
    sim.gate.faults.add(fault(Action::CutAfter));
    assert_eq!(answer(create(&sim, "web-1").await).await, None);
    assert_eq!(sim.digitalocean.droplets().len(), 1);
    let committed: Vec<_> = sim.gate.journal.since(0).iter().map(|entry| (entry.status, entry.committed)).collect();
    assert_eq!(committed, [(0, false), (202, true)]);
}

#[tokio::test]
async fn a_status_is_answered_in_the_cloud_s_envelope_for_the_matches_asked_for() {
    let sim = start().await;
    let action = Action::Status { status: 503, body: None, retry_after: Some(7) };
    sim.gate.faults.add(Fault { from: 2, ..fault(action) });
    let mut statuses = Vec::new();
    for name in ["a", "b", "c"] {
        let (status, body) = answer(create(&sim, name).await).await.unwrap();
        if status == 503 {
            assert_eq!(body["id"], "server_error");
        }
        statuses.push(status);
    }
    assert_eq!(statuses, [202, 503, 202]);
    assert_eq!(sim.digitalocean.droplets().len(), 2);
}

#[tokio::test]
async fn a_partial_page_keeps_its_total() {
    let sim = start().await;
    for name in ["a", "b", "c"] {
        answer(create(&sim, name).await).await.unwrap();
    }
    sim.gate.faults.add(Fault {
        method: None,
        path: Some("/v2/droplets*".into()),
        ..fault(Action::Partial { keep: 2 })
    });
    let list = || send(&sim, "GET", "/digitalocean/v2/droplets?per_page=200", None);
    let (_, short) = answer(list().await).await.unwrap();
    assert_eq!((short["droplets"].as_array().unwrap().len(), &short["meta"]["total"]), (2, &json!(3)));
    let (_, whole) = answer(list().await).await.unwrap();
    assert_eq!(whole["droplets"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_journal_has_every_request_and_never_a_token() {
    let sim = start().await;
    answer(create(&sim, "web-1").await).await.unwrap();
    answer(send(&sim, "GET", "/digitalocean/v2/droplets?page=1", None).await).await.unwrap();
    let entries = sim.gate.journal.since(0);
    let seen: Vec<_> = entries.iter().map(|entry| (entry.method.as_str(), entry.path.as_str(), entry.status)).collect();
    assert_eq!(seen, [("POST", "/v2/droplets", 202), ("GET", "/v2/droplets?page=1", 200)]);
    assert_eq!(entries[0].body.as_ref().unwrap()["name"], "web-1");
    assert!(!serde_json::to_string(&entries).unwrap().contains(TOKEN));
    assert_eq!(sim.gate.journal.since(1).len(), 1);
    let (_, told) = answer(send(&sim, "GET", "/sim/journal?since=1", None).await).await.unwrap();
    assert_eq!(told.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn open_connections_end_with_the_simulator() {
    let sim = start().await;
    let mut idle = TcpStream::connect(sim.http()).await.unwrap();
    answer(send(&sim, "GET", "/digitalocean/v2/account", None).await).await.unwrap();
    drop(sim);
    let read = tokio::time::timeout(Duration::from_secs(10), idle.read(&mut [0; 1])).await;
    assert!(read.expect("the connection is still open").map_or(true, |bytes| bytes == 0));
}
