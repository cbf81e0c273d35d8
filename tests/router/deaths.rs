//! A router that dies, hangs, or is given a table it cannot read, while visitors come.

use support::eventually;

use crate::load::{Load, Site};
use crate::rig::{App, Host, Router, SOON, replace, table, upstream};

async fn under_load() -> (App, Host, Load) {
    let app = App::start("v1").await;
    let host = Host::start(&table([("app.test", upstream(app.port))])).await;
    let site = Site { address: host.https, name: "app.test", trust: host.trust() };
    let load = Load::start(&site, 4, 2);
    load.served(50).await;
    (app, host, load)
}

async fn nothing_was_lost(load: Load) {
    let tally = load.end().await;
    assert_eq!((tally.failed, tally.closed), (Vec::<String>::new(), 0), "of {}", tally.hits.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_or_restarting_either_router_loses_nothing() {
    let (_app, mut host, load) = under_load().await;
    for (n, name, signal, status) in [(0, "one", "KILL", 128 + 9), (0, "one", "TERM", 0), (1, "two", "KILL", 128 + 9)] {
        assert_eq!(host.routers[n].program.end(signal).await, Some(status));
        load.served(100).await;
        assert!(host.routers[n].socket.exists(), "it left its socket behind");
        host.routers[n] = Router::start(host.directory.path(), name, &[]).await;
        load.served(100).await;
    }
    nothing_was_lost(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_hangs_loses_nothing() {
    let (_app, mut host, load) = under_load().await;
    host.routers[0].program.signal("STOP");
    load.served(200).await;
    host.routers[0].program.signal("CONT");
    load.served(100).await;
    nothing_was_lost(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_table_leaves_the_last_good_one_and_says_so() {
    let (app, host, load) = under_load().await;
    let refused = async |value: u64| {
        for router in &host.routers {
            eventually(SOON, "the series to follow", async || {
                let now = router.series("roadstead_router_table_refused").await;
                (now == value).then_some(()).ok_or(now)
            })
            .await;
        }
    };
    refused(0).await;
    let bad = r#"{"version":1,"node":{"nonce":"nonce-of-this-node","healthPath":"/"},"hosts":{"app.test":{"upstream":{"alias":"web","port":0}}}}"#;
    for (text, words) in [(bad, "host \"app.test\", field upstream.port: 0 is no port"), ("{", "the table is no JSON")]
    {
        replace(&host.table_file(), text);
        refused(1).await;
        eventually(SOON, "the reason to be told", async || {
            let said = host.routers[0].health().await["refused"].to_string().replace('\\', "");
            if said.contains(words) { Ok(()) } else { Err(said) }
        })
        .await;
        assert!(host.routers[0].program.log().replace('\\', "").contains(words), "the log says it too");
        load.served(50).await;
    }
    assert_eq!(host.routers[0].series("roadstead_router_tables_total{result=\"refused\"}").await, 2);
    host.set(&table([("app.test", upstream(app.port)), ("more.test", upstream(app.port))])).await;
    refused(0).await;
    assert_eq!(host.routers[0].series("roadstead_router_hosts").await, 2);
    nothing_was_lost(load).await;
}
