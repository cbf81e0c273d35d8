//! What a lookup for each request costs, and what visitors notice of swaps: `cargo bench --bench router`. Two routers and
//! a Caddy as on a host, with 10,000 names; beside them a Caddy whose route to the same app is fixed in its configuration.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement says bluntly what it expects")]
#![allow(dead_code, reason = "the tests' rig can do more than is measured")]

#[path = "../tests/router/client.rs"]
mod client;
#[path = "../tests/router/load.rs"]
mod load;
#[path = "../tests/router/rig.rs"]
mod rig;
#[path = "table/mod.rs"]
mod table;

use std::time::{Duration, Instant};

use http::Request;
use roadstead::host::table::{Route, Table};
use serde_json::{Value, json};

use crate::client::Connection;
use crate::load::{Hit, Load, Site};
use crate::rig::{App, Host, replace, upstream};
use crate::table::{memory, processor, row, title};

/// Names in the table besides the one that is visited.
const NAMES: usize = 10_000;
/// Requests one after the other, for the price of one.
const REQUESTS: u32 = 4_000;
/// How long many visitors come at once.
const RUSH: Duration = Duration::from_secs(8);
const SWAPS: usize = 20;

#[tokio::main]
async fn main() {
    let (old, new) = (App::start("v1").await, App::start("v2").await);
    let host = Host::start(&names(old.port)).await;
    title(&format!("one lookup for each request, {NAMES} names"));
    size(&host, [&old, &new]).await;
    let fixed = fixed(&old).await;
    price("fixed route", &fixed, &[fixed.caddy.pid]).await;
    drop(fixed);
    let [one, two] = [0, 1].map(|n| host.routers[n].program.pid);
    price("lookup", &host, &[host.caddy.pid, one, two]).await;
    swaps(&host, [&old, &new]).await;
}

/// The large table, in which `app.test` is at this port.
fn names(port: u16) -> Table {
    let many: Vec<String> = (0..NAMES).map(|n| format!("site-{n}.tenants.example.com")).collect();
    let many = many
        .iter()
        .map(|name| (name.as_str(), Route::Upstream { alias: name.replace('.', "-").into(), port, peer: None }));
    rig::table(many.chain([("app.test", upstream(port))]))
}

/// A Caddy that knows the app's port.
async fn fixed(app: &App) -> Host {
    let host = Host::start(&rig::table([("app.test", upstream(app.port))])).await;
    let mut config: Value = serde_json::from_str(&host.config().json()).unwrap();
    config["apps"]["http"]["servers"]["https"]["routes"] = json!([{
        "match": [{"host": ["app.test"]}],
        "handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": format!("127.0.0.1:{}", app.port)}]}],
    }]);
    let request = Request::post("/load").header("content-type", "application/json").body(config.to_string()).unwrap();
    assert_eq!(host.admin(request).await.status, 200);
    host
}

fn site(host: &Host) -> Site {
    Site { address: host.https, name: "app.test", trust: host.trust() }
}

async fn size(host: &Host, apps: [&App; 2]) {
    let mut applied = Vec::new();
    for n in 0..SWAPS {
        let table = names(apps[(n + 1) % 2].port);
        let (json, expected) = (table.json(), format!("127.0.0.1:{}", apps[(n + 1) % 2].port));
        let mut asked = Connection::unix(&host.routers[0].socket, "app.test").await.unwrap();
        let started = Instant::now();
        replace(&host.table_file(), &json);
        while asked.get("/lookup").await.unwrap().header("x-upstream") != expected {}
        applied.push(started.elapsed());
        host.set(&table).await;
    }
    row("table written to first answer from it, ms, p50", at(&applied, 50), "");
    row("  at most", at(&applied, 100), "");
    let pid = host.routers[0].program.pid;
    let (now, peak) = memory(pid);
    row("memory of a router, MiB", now, "under 20");
    row("  at its peak", peak, "under 20");
    let before = processor(pid);
    let idle = Duration::from_secs(10);
    tokio::time::sleep(idle).await;
    let used = processor(pid).saturating_sub(before).as_secs_f64() / idle.as_secs_f64();
    row("processor of an idle router, % of a core", format!("{:.2}", used * 100.0), "");
}

async fn price(what: &str, host: &Host, pids: &[u32]) {
    let used = || pids.iter().map(|pid| processor(*pid)).sum::<Duration>();
    let mut visit = host.visit("app.test").await;
    for _ in 0..REQUESTS / 10 {
        visit.get("/").await.unwrap();
    }
    let (before, mut took) = (used(), Vec::new());
    for _ in 0..REQUESTS {
        let started = Instant::now();
        assert_eq!(visit.get("/").await.unwrap().status, 200);
        took.push(started.elapsed());
    }
    let each = used().saturating_sub(before) / REQUESTS;
    row(&format!("{what}: a request, ms, p50"), at(&took, 50), "");
    row("  p99", at(&took, 99), "");
    row("  processor, of Caddy and routers, ms", milliseconds(each), "");
    let mut visitors = tokio::task::JoinSet::new();
    let end = Instant::now() + RUSH;
    for _ in 0..16 {
        let mut visit = host.visit("app.test").await;
        visitors.spawn(async move {
            let mut count = 0_u32;
            while Instant::now() < end {
                assert_eq!(visit.get("/").await.unwrap().status, 200);
                count += 1;
            }
            count
        });
    }
    let count: u32 = visitors.join_all().await.into_iter().sum();
    row("  requests a second of 16 visitors", format!("{:.0}", f64::from(count) / RUSH.as_secs_f64()), "");
}

async fn swaps(host: &Host, apps: [&App; 2]) {
    title(&format!("{SWAPS} swaps, 8 kept connections and 8 that are made anew"));
    host.set(&names(apps[0].port)).await;
    let calm = Load::start(&site(host), 8, 8);
    calm.served(3_000).await;
    let calm = calm.end().await;
    let load = Load::start(&site(host), 8, 8);
    load.served(300).await;
    let mut written = Vec::new();
    for n in 1..=SWAPS {
        let table = names(apps[n % 2].port).json();
        written.push((Instant::now(), if n % 2 == 0 { "v1" } else { "v2" }));
        replace(&host.table_file(), &table);
        load.served(300).await;
    }
    let tally = load.end().await;
    row("requests", tally.hits.len(), "");
    row("failed", tally.failed.len() + calm.failed.len(), "0");
    row("kept connections that were closed", tally.closed + calm.closed, "0");
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (n, (time, new)) in written.iter().enumerate() {
        let until = written.get(n + 1).map_or_else(Instant::now, |(next, _)| *next);
        let during = || tally.hits.iter().filter(|hit| hit.answered > *time && hit.answered <= until);
        let is_new = |hit: &&Hit| hit.body.starts_with(new);
        first.extend(during().filter(is_new).map(|hit| hit.answered - *time).min());
        last.extend(during().filter(|hit| !is_new(hit)).map(|hit| hit.answered - *time).max());
    }
    for (what, times) in [("table written to first new answer", first), ("table written to last old answer", last)] {
        row(&format!("{what}, ms, p50"), at(&times, 50), "");
        row("  at most", at(&times, 100), "");
    }
    let took = |hits: &[Hit]| hits.iter().map(|hit| hit.answered - hit.sent).collect::<Vec<_>>();
    row("a request without swaps, ms, p99", at(&took(&calm.hits), 99), "");
    row("a request during swaps, ms, p99", at(&took(&tally.hits), 99), "");
    for failure in calm.failed.iter().chain(&tally.failed).take(5) {
        println!("    {failure}");
    }
}

/// A percentile, in milliseconds.
fn at(times: &[Duration], percent: usize) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or_else(|| "none".to_owned(), |time| milliseconds(*time))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1_000.0)
}
