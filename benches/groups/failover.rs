//! From a server's death to a list without it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::origins::Origins;
use super::table::{memory, processor, row, seconds, title};
use super::world::World;
use super::{create, percentile, slug};

/// Servers of a group.
const MEMBERS: usize = 10;
/// As the default `probe.fall`.
const FALL: usize = 3;
const PATIENCE: Duration = Duration::from_mins(5);

pub async fn measure(groups: usize, failing: usize) {
    println!("\n{groups} groups of {MEMBERS} servers, probed every 10 s, 3 failures to go: as shipped.");
    let origins = Origins::start();
    let world = World::with(|options| support::OperatorOptions {
        resync: Duration::from_mins(5),
        arguments: vec!["--probe-allow-cidr".to_owned(), "127.0.0.0/8".to_owned()],
        environment: vec![("RUST_LOG".to_owned(), "info".to_owned())],
        ..options
    })
    .await;
    world.sim.gate.latency_ms.store(50, Ordering::Relaxed);
    let began = Instant::now();
    create(&world.cluster, (0..groups).map(|group| spec(group, origins.port))).await;
    until(&world, |lists| lists.values().filter(|list| list.matches(',').count() == MEMBERS - 1).count() == groups)
        .await;
    let listed = began.elapsed();

    let since = world.sim.gate.journal.last();
    let died: HashMap<String, String> = (0..failing)
        .map(|group| {
            let server = Origins::address(group * MEMBERS);
            origins.fail(server);
            (format!("_wrap.{}.example.com", slug(group)), format!("{server}:{}", origins.port))
        })
        .collect();
    let (death, used) = (Instant::now(), processor(world.operator.pid()));
    let mut left: HashMap<String, Instant> = HashMap::new();
    until(&world, |lists| {
        for (name, server) in &died {
            let listed: HashSet<&str> = lists[name].trim_matches('"').split(',').collect();
            if !listed.contains(server.as_str()) {
                left.entry(name.clone()).or_insert_with(Instant::now);
            }
        }
        left.len() == failing
    })
    .await;
    let used = processor(world.operator.pid()).saturating_sub(used);
    let took = death.elapsed();
    let decided = |name: &str| {
        let (address, _) = died[name].rsplit_once(':').unwrap();
        origins.failed(address.parse().unwrap(), FALL).expect("a list changes after the deciding probe")
    };
    let mut after: Vec<_> = left.iter().map(|(name, at)| at.saturating_duration_since(decided(name))).collect();
    let entries = world.sim.gate.journal.since(since);
    let count = |method: &str| entries.iter().filter(|entry| entry.method == method).count();

    title(&format!("{failing} of {groups} groups lose a server at once"));
    row("first group created to all servers listed", seconds(listed), "");
    row("first death to the last list without the dead", seconds(took), "32 s, and what follows");
    let goal = if failing == 1 { "1 s" } else { "3 s" };
    row("  of this after the deciding probe, p50", seconds(percentile(&mut after, 50)), "");
    row("  of this after the deciding probe, at most", seconds(percentile(&mut after, 100)), goal);
    row("writes to Cloudflare", count("POST") + count("PATCH") + count("PUT") + count("DELETE"), "");
    row("reads of Cloudflare", count("GET"), "");
    row("share of one core meanwhile", format!("{:.1} %", 100.0 * used.as_secs_f64() / took.as_secs_f64()), "");
    let (now, peak) = memory(world.operator.pid());
    row("resident memory, now / peak", format!("{now} / {peak} MiB"), "");
}

fn spec(group: usize, port: u16) -> Value {
    let member = |n| json!({"address": Origins::address(group * MEMBERS + n), "port": port, "scheme": "http"});
    json!({"members": (0..MEMBERS).map(member).collect::<Vec<_>>(), "probe": {"path": "/healthz"}})
}

/// Waits until the lists, by name, are so.
async fn until(world: &World, mut enough: impl FnMut(&HashMap<String, String>) -> bool) {
    let look = async {
        loop {
            let records = world.records().into_iter().filter(|record| record.kind == "TXT");
            if enough(&records.map(|record| (record.name, record.content)).collect()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the lists get there before the deadline");
}
