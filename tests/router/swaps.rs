//! Swaps under load.

use std::time::Instant;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::load::{Hit, Load, Site};
use crate::rig::{App, Host, table, upstream};

/// An app that speaks WebSocket, and answers each message with its name.
async fn chat(name: &'static str) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(Message::Text(_))) = socket.next().await {
                    socket.send(Message::text(name)).await.unwrap();
                }
            });
        }
    });
    (port, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_lose_no_request_and_close_no_connection() {
    let (apps, chats) = ([App::start("v1").await, App::start("v2").await], [chat("old").await, chat("new").await]);
    let version = |n: usize| table([("app.test", upstream(apps[n].port)), ("chat.test", upstream(chats[n].0))]);
    let host = Host::start(&version(0)).await;
    let talk = async || {
        let stream = host.trust().connect(host.https, "chat.test").await.unwrap();
        tokio_tungstenite::client_async("ws://chat.test/", stream).await.unwrap().0
    };
    let mut before = talk().await;
    let site = Site { address: host.https, name: "app.test", trust: host.trust() };
    let load = Load::start(&site, 4, 4);
    load.served(50).await;
    let mut settled = Vec::new();
    for n in 1..=10 {
        host.set(&version(n % 2)).await;
        let start = Instant::now();
        load.served(40).await;
        settled.push((start..Instant::now(), ["v1", "v2"][n % 2]));
        before.send(Message::text("still there?")).await.unwrap();
        assert_eq!(before.next().await.unwrap().unwrap(), Message::text("old"), "after swap {n}");
        if n == 1 {
            let mut after = talk().await;
            after.send(Message::text("who?")).await.unwrap();
            assert_eq!(after.next().await.unwrap().unwrap(), Message::text("new"));
        }
    }
    let tally = load.end().await;
    assert_eq!((tally.failed, tally.closed), (Vec::<String>::new(), 0), "of {}", tally.hits.len());
    for (time, version) in settled {
        let within = |hit: &&Hit| time.contains(&hit.sent) && time.contains(&hit.answered);
        let (right, wrong): (Vec<_>, Vec<_>) =
            tally.hits.iter().filter(within).partition(|hit| hit.body.starts_with(version));
        assert!(right.len() > 20 && wrong.is_empty(), "{} of {version}, {wrong:?} besides", right.len());
    }
}
