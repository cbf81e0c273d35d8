//! Two hundred Nodes whose hosts are managed: brought up, left alone for longer than a resync, one of them put out of
//! order meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use roadstead::api::node::Node;
use serde_json::{Value, json};
use support::{ApiProxy, Operator, OperatorOptions, condition};

use super::model::Host;
use super::nodes::{Fleet, NAMESPACE, is_ready, most_writes};
use super::server::Hosts;
use super::table::{memory, processor, row, seconds, title};
use super::world::{self, DEADLINE, NODE, World};

const HOSTS: usize = 200;
/// How often hosts are looked at, as shipped.
const RESYNC: Duration = Duration::from_mins(5);
/// Longer than every host takes to be looked at again.
const IDLE: Duration = Duration::from_secs(390);
/// The host that is put out of order.
const BROKEN: usize = HOSTS / 2;

/// The provider of the machine that this runs on.
const LOOPBACK: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: Provider
metadata: {name: loopback}
spec:
  static: {allowedCIDRs: [127.0.0.0/8]}
  allowedNamespaces: {from: All}
";

pub async fn measure() {
    let hosts = Hosts::start(HOSTS, "example.com").await;
    println!("{HOSTS} static Nodes with host.manage: Caddy, their hosts on loopback, no setting tuned.");
    let mut world = World::with(options).await;
    // From here on through a proxy that counts what it writes.
    world.operator.terminate().await;
    let proxy = ApiProxy::start(&world.control_plane).await;
    let settings = OperatorOptions { kubeconfig: Some(proxy.kubeconfig()), ..options(operator()) };
    world.operator = Operator::start(&world.control_plane, &world::addresses(&world.sim), settings).await;
    world.cluster.apply(LOOPBACK).await;
    for (kind, name) in [(world::ZONE, "example-com"), (world::PROVIDER, "loopback")] {
        world.cluster.wait_condition(kind, None, name, "Ready", "True", DEADLINE).await;
    }
    let alone = memory(world.operator.pid()).0;
    bring_up(&world, &hosts).await;
    settle(&hosts, &proxy).await;
    leave_alone(&world, &hosts, &proxy, alone).await;
    let unknown: BTreeSet<String> = hosts.all.iter().flat_map(|host| host.unknown()).collect();
    assert!(unknown.is_empty(), "the hosts here are too simple: they were asked for {unknown:?}");
}

fn operator() -> OperatorOptions {
    OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead"))
}

/// Settings as shipped but for the addresses: what the tests shorten is set back.
fn options(options: OperatorOptions) -> OperatorOptions {
    let image = |name: &str| format!("registry.example.com/{name}@sha256:{}", "a".repeat(64));
    let arguments = ["--caddy-image".to_owned(), image("caddy"), "--router-image".to_owned(), image("roadstead")];
    OperatorOptions {
        resync: RESYNC,
        orphan_interval: Duration::from_mins(15),
        settle_time: Duration::from_secs(90),
        arguments: arguments.into(),
        environment: vec![("RUST_LOG".to_owned(), "info".to_owned())],
        ..options
    }
}

fn spec(host: &Host, port: u16) -> Value {
    json!({
        "providerRef": {"name": "loopback"}, "zoneRef": {"name": "example-com"}, "address": host.address,
        "host": {"manage": "Caddy"}, "ssh": {"port": port, "trustOnFirstUse": true},
    })
}

fn count(of: &AtomicUsize) -> usize {
    of.load(Ordering::Relaxed)
}

/// Whether the Node is Ready and its host serves.
fn serves(node: &Node) -> bool {
    let conditions = node.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
    is_ready(node) && conditions.iter().any(|c| c.type_ == "Bootstrapped" && c.status == "True")
}

async fn bring_up(world: &World, hosts: &Hosts) {
    let fleet = Fleet::new(&world.cluster).await;
    let nodes = world.cluster.count_writes(NODE).await;
    let cpu = processor(world.operator.pid());
    let began = Instant::now();
    let specs = hosts.all.iter().enumerate();
    fleet.create(specs.map(|(n, host)| (format!("host-{n:03}"), spec(host, hosts.port)))).await;
    fleet.until(serves, |_, serving| serving == HOSTS).await;
    let took = began.elapsed();
    title("brought up from a system with Docker and nothing else, which answers at once");
    row("first create to last host serving", seconds(took), "");
    row("processor time of the operator", seconds(processor(world.operator.pid()).saturating_sub(cpu)), "");
    row("SSH connections", hosts.sum(|host| count(&host.connections)), &HOSTS.to_string());
    row("SSH round trips, of a host", format!("{:.1}", hosts.sum(|host| count(&host.trips)) as f64 / HOSTS as f64), "");
    row("writes to a Node by the operator, at most", most_writes(&nodes.counts().await) - 1, "");
}

/// Waits until nothing was written anywhere for a while.
async fn settle(hosts: &Hosts, proxy: &ApiProxy) {
    let end = Instant::now() + Duration::from_mins(3);
    let written = || (hosts.sum(|host| count(&host.writes)), proxy.writes().len());
    let (mut before, mut since) = (written(), Instant::now());
    while since.elapsed() < Duration::from_secs(15) {
        assert!(Instant::now() < end, "it does not come to rest: {:?}", proxy.writes().last());
        tokio::time::sleep(Duration::from_millis(500)).await;
        if written() != before {
            (before, since) = (written(), Instant::now());
        }
    }
}

async fn leave_alone(world: &World, hosts: &Hosts, proxy: &ApiProxy, alone: u64) {
    println!("\nleaving them alone for {} s, but for one whose Caddy is taken away …", IDLE.as_secs());
    let broken = &hosts.all[BROKEN];
    let others = || hosts.sum(|host| count(&host.writes)) - count(&broken.writes);
    let trips = hosts.sum(|host| count(&host.trips));
    let (written, connections) = (others(), hosts.sum(|host| count(&host.connections)));
    let open = hosts.sum(|host| count(&host.open));
    let sent = world.sim.gate.journal.last();
    proxy.reset();
    let cpu = processor(world.operator.pid());
    broken.lose_caddy();
    let began = Instant::now();
    let (mut repaired, mut most, mut fewest) = (None, open, open);
    while began.elapsed() < IDLE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = hosts.sum(|host| count(&host.open));
        (most, fewest) = (most.max(now), fewest.min(now));
        repaired = repaired.or_else(|| broken.serves().then(|| began.elapsed()));
    }
    let used = processor(world.operator.pid()).saturating_sub(cpu);
    let writes = proxy.writes();
    let looks = (hosts.sum(|host| count(&host.trips)) - trips) as f64 / HOSTS as f64;
    let (now, peak) = memory(world.operator.pid());
    title("left alone");
    row("SSH connections open, at least / at most", format!("{fewest} / {most}"), &format!("{HOSTS} / {HOSTS}"));
    row("  made meanwhile", hosts.sum(|host| count(&host.connections)) - connections, "0");
    let minutes = IDLE.as_secs_f64() / 60.0;
    row("SSH round trips, of a host in a minute", format!("{:.2}", looks / minutes), "");
    row(
        "processor of the operator, % of a core",
        format!("{:.2}", 100.0 * used.as_secs_f64() / IDLE.as_secs_f64()),
        "",
    );
    row("  for a host looked at, ms", format!("{:.2}", 1_000.0 * used.as_secs_f64() / HOSTS as f64), "");
    row("resident memory, now / peak", format!("{now} / {peak} MiB"), "");
    row("  for a host, KiB", (now.saturating_sub(alone)) * 1024 / HOSTS as u64, "");
    row("writes to the API server", writes.len(), "0");
    let outside = world.sim.gate.journal.since(sent).iter().filter(|entry| entry.method != "GET").count();
    row("writes to the clouds", outside, "0");
    row("writes to the other hosts", others() - written, "0");
    let repaired = repaired.map_or_else(|| "never".to_owned(), seconds);
    row("the one without Caddy had it again after", repaired, &format!("{} s", RESYNC.as_secs()));
    for write in writes.iter().take(5) {
        println!("    {write}");
    }
    let name = format!("host-{BROKEN:03}");
    let node = world.node(NAMESPACE, &name).await;
    let status = condition(&node, "Bootstrapped").cloned().unwrap_or_default();
    assert_eq!(status["status"], "True", "{name}: {status}");
}
