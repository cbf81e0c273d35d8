//! Swaps under load.

use std::time::Instant;

use crate::chat::{Chat, Talk};
use crate::load::{Hit, Load, Site};
use crate::rig::{App, Host, table, upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_lose_no_request_and_close_no_connection() {
    let (apps, chats) =
        ([App::start("v1").await, App::start("v2").await], [Chat::start("old").await, Chat::start("new").await]);
    let version = |n: usize| table([("app.test", upstream(apps[n].port)), ("chat.test", upstream(chats[n].port))]);
    let host = Host::start(&version(0)).await;
    let mut before = Talk::open(&host, "chat.test").await;
    let site = Site { address: host.https, name: "app.test", trust: host.trust() };
    let load = Load::start(&site, 4, 4);
    load.served(50).await;
    let mut settled = Vec::new();
    for n in 1..=10 {
        host.set(&version(n % 2)).await;
        let start = Instant::now();
        load.served(40).await;
        settled.push((start..Instant::now(), ["v1", "v2"][n % 2]));
        assert_eq!(before.ask().await.unwrap(), "old", "after swap {n}");
        if n == 1 {
            assert_eq!(Talk::open(&host, "chat.test").await.ask().await.unwrap(), "new");
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
