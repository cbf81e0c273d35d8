//! A thousand existing hosts: published, one changed, left alone, one refused among them, deleted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cloudsim::journal::Entry;
use serde_json::{Value, json};

use super::fleet::{self, Fleet, is_ready, most_events, most_writes};
use super::table::{memory, processor, row, seconds, title};
use super::world::{self, CLAIM, NODE, World};
use super::{CALL, Calls};

const NODES: usize = 1_000;
/// As long as a resync of the default setting takes.
const IDLE: Duration = Duration::from_mins(5);

pub async fn measure() {
    println!("{NODES} static Nodes, {} ms a call to the clouds, no setting tuned.", CALL.as_millis());
    println!(
        "external-dns v0.22 on the same machine and clouds: 1,000 records in 9.1 s with every knob tuned, 215 s with"
    );
    println!(
        "its defaults; a change 7.7 s and 7 calls; idle 3 calls a minute; 163 MiB; with one refused record 210 s."
    );
    let pro = start(json!({"name": "example.com"})).await;
    Fleet::new(&pro.cluster).await;
    let alone = Fleet::baseline(&pro.cluster, NODES).await;
    title("the API server by itself");
    row("first to last create of as many ConfigMaps", seconds(alone), "");
    publish(&pro, "published, zone on plan Pro (batches of 3,500)", None).await;
    idle(&pro).await;
    change(&pro).await;
    delete(&pro).await;
    drop(pro);

    let free = start(json!({"name": "example.com", "plan": "free_old"})).await;
    publish(&free, "published, older Free zone (batches of 200, quota 1,000)", None).await;
    drop(free);

    backlog(start(json!({"name": "example.com"})).await).await;

    let refusing = start(json!({"name": "example.com", "refused": [format!("{}.example.com", name(NODES / 2))]})).await;
    publish(&refusing, "published, one record of them refused", Some(name(NODES / 2))).await;
}

async fn start(zone: Value) -> World {
    // Settings as shipped but for the addresses: what the tests shorten is set back.
    let world = World::in_zone(zone, |options| support::OperatorOptions {
        resync: Duration::from_mins(5),
        orphan_interval: Duration::from_mins(15),
        settle_time: Duration::from_secs(90),
        environment: vec![("RUST_LOG".to_owned(), "info".to_owned())],
        ..options
    })
    .await;
    for (kind, object) in [(world::ZONE, "example-com"), (world::PROVIDER, "racks")] {
        world.cluster.wait_condition(kind, None, object, "Ready", "True", world::DEADLINE).await;
    }
    world.sim.gate.latency_ms.store(u64::try_from(CALL.as_millis()).unwrap(), Ordering::Relaxed);
    world
}

fn name(index: usize) -> String {
    format!("host-{index:04}")
}

/// Addresses of TEST-NET-3 do not suffice: the benchmark's network is 198.18.0.0/15 (RFC 2544).
fn address(index: usize) -> String {
    format!("198.18.{}.{}", index / 250, index % 250 + 1)
}

fn spec(index: usize) -> Value {
    json!({"providerRef": {"name": "racks"}, "zoneRef": {"name": "example-com"}, "address": address(index)})
}

/// Lets Nodes have addresses of the benchmark's network.
async fn fleet(world: &World) -> Fleet {
    let networks = json!({"spec": {"static": {"allowedCIDRs": ["198.18.0.0/15"]}, "brake": {"minimum": NODES * 2}}});
    world.cluster.patch(world::PROVIDER, None, "racks", &networks).await;
    world.cluster.wait_condition(world::PROVIDER, None, "racks", "Ready", "True", world::DEADLINE).await;
    Fleet::new(&world.cluster).await
}

/// Nodes that were there before the operator: what is left is its own speed, and what the API server takes of it.
async fn backlog(mut world: World) {
    let fleet = fleet(&world).await;
    world.operator.terminate().await;
    fleet.create((0..NODES).map(|i| (name(i), spec(i)))).await;
    let began = Instant::now();
    world.operator.restart().await;
    let leading = began.elapsed();
    let published = async {
        while world.records().len() < NODES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    };
    let ready = async {
        fleet.until(is_ready, |_, ready| ready >= NODES).await;
        began.elapsed()
    };
    let (published, ready) = tokio::join!(published, ready);
    title("operator started over as many Nodes that are new to it");
    row("start to ready", seconds(leading), "");
    row("start to last record at the API", seconds(published), "5 s");
    row("start to last Node Ready", seconds(ready), "");
    row("processor time of the operator", seconds(processor(world.operator.pid())), "");
}

async fn publish(world: &World, what: &str, refused: Option<String>) {
    let fleet = fleet(world).await;
    let (nodes, claims) = (world.cluster.count_writes(NODE).await, world.cluster.count_writes(CLAIM).await);
    let since = world.sim.gate.journal.last();
    let good = NODES - usize::from(refused.is_some());

    let began = Instant::now();
    let (arrival, (published, ready)) = tokio::join!(fleet.create((0..NODES).map(|i| (name(i), spec(i)))), async {
        let published = async {
            while world.records().len() < good {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            began.elapsed()
        };
        let ready = async {
            fleet.until(is_ready, |_, ready| ready >= good).await;
            began.elapsed()
        };
        tokio::join!(published, ready)
    });
    if let Some(refused) = refused {
        let says_so = |node: &roadstead::api::node::Node| {
            node.metadata.name.as_deref() == Some(&refused)
                && node.status.as_ref().is_some_and(|s| s.conditions.iter().any(|c| c.type_ == "Stalled"))
        };
        fleet.until(says_so, |_, stalled| stalled == 1).await;
    }
    fleet::quiet().await;

    let calls = cloudflare(world, since);
    title(what);
    row("first create to last create", seconds(arrival), "");
    row("first create to last record at the API", seconds(published), "5 s");
    row("first create to last Node Ready", seconds(ready), "");
    row("last create to last record at the API", seconds(published.saturating_sub(arrival)), "");
    let most_batches = arrival.as_secs() + 1 + 10;
    row("batches", calls.batches, &format!("{most_batches} (seconds of arrival + 10)"));
    row("record operations", calls.operations, &NODES.to_string());
    row("other calls", calls.other_writes + calls.reads, "");
    let writes = nodes.counts().await;
    row("writes to a Node by the operator, at most", most_writes(&writes) - 1, "4");
    row("writes to a claim, at most", most_writes(&claims.counts().await), "1, and its record in status");
    row("events of a Node, at most", most_events(&world.cluster).await, "2");
    let (now, peak) = memory(world.operator.pid());
    row("resident memory, now / peak", format!("{now} / {peak} MiB"), "64 MiB");
}

async fn change(world: &World) {
    let fleet = Fleet::new(&world.cluster).await;
    let nodes = world.cluster.count_writes(NODE).await;
    let since = world.sim.gate.journal.last();
    let (index, new) = (NODES / 3, address(NODES + 7));
    let began = Instant::now();
    fleet.patch(&name(index), json!({"address": new})).await;
    let at_the_api = async {
        while !world.records().iter().any(|record| record.content == new) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    };
    let ready = async {
        let changed = |node: &roadstead::api::node::Node| node.spec.address.as_ref() == Some(&new) && is_ready(node);
        fleet.until(changed, |_, changed| changed == 1).await;
        began.elapsed()
    };
    let (at_the_api, ready) = tokio::join!(at_the_api, ready);
    fleet::quiet().await;
    let calls = cloudflare(world, since);
    title("one target changed among them");
    row("to the record at the API", seconds(at_the_api), "1 s");
    row("to the Node Ready: resolvers keep the former", seconds(ready), "");
    row("writes to the API", calls.batches + calls.other_writes, "1");
    row("reads of the API", calls.reads, "2");
    row("writes to the Node by the operator", most_writes(&nodes.counts().await) - 1, "");
}

async fn idle(world: &World) {
    println!("\nleaving it alone for {} minutes …", IDLE.as_secs() / 60);
    let nodes = world.cluster.count_writes(NODE).await;
    let since = world.sim.gate.journal.last();
    let cpu = processor(world.operator.pid());
    tokio::time::sleep(IDLE).await;
    let calls = cloudflare(world, since);
    title("left alone");
    row("calls a minute", format!("{:.2}", calls.all() as f64 / (IDLE.as_secs_f64() / 60.0)), "1");
    row("writes to the API", calls.batches + calls.other_writes, "0");
    row("writes to Nodes", nodes.counts().await.len(), "0");
    let used = processor(world.operator.pid()).saturating_sub(cpu);
    row("share of one core", format!("{:.2} %", 100.0 * used.as_secs_f64() / IDLE.as_secs_f64()), "");
    row("resident memory", format!("{} MiB", memory(world.operator.pid()).0), "64 MiB");
}

async fn delete(world: &World) {
    let fleet = Fleet::new(&world.cluster).await;
    let since = world.sim.gate.journal.last();
    let began = Instant::now();
    let asked = async {
        fleet.delete_all().await;
        began.elapsed()
    };
    let gone = async {
        fleet.until(|_| true, |all, _| all == 0).await;
        began.elapsed()
    };
    let (asked, gone) = tokio::join!(asked, gone);
    let calls = cloudflare(world, since);
    title("all deleted");
    row("first delete to last delete asked for", seconds(asked), "");
    row("first delete to last Node gone", seconds(gone), "");
    row("records left", world.records().len(), "0");
    row("batches", calls.batches, "");
    row("record operations", calls.operations, &NODES.to_string());
    row("reads of the API", calls.reads, "");
}

fn cloudflare(world: &World, since: u64) -> Calls {
    let entries: Vec<Entry> = world.sim.gate.journal.since(since);
    Calls::count(entries.iter().filter(|entry| entry.cloud == "cloudflare"))
}
