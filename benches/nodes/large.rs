//! Five thousand VMs in two zones: what one resync of an operator that has nothing to do costs.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cloudsim::cloudflare::ZoneSpec;
use cloudsim::digitalocean::NewDroplet;
use roadstead::api::names::{ClusterId, Mark, vm_name};
use serde_json::json;

use super::fleet::{Fleet, NAMESPACE, is_ready};
use super::table::{memory, row, seconds, title};
use super::world::{self, NODE, World};
use super::{CALL, Calls};

const NODES: usize = 5_000;
const RESYNC: Duration = Duration::from_mins(2);

const SECOND_ZONE: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: Zone
metadata: {name: example-net}
spec:
  domain: example.net
  cloudflare: {tokenSecretRef: {name: cloudflare}}
  allowedNamespaces: {from: All}
";

pub async fn measure() {
    println!("{NODES} droplets in two zones, {} ms a call, a resync every {} s.", CALL.as_millis(), RESYNC.as_secs());
    let mut world = World::with(|options| support::OperatorOptions {
        resync: RESYNC,
        environment: vec![("RUST_LOG".to_owned(), "info".to_owned())],
        ..options
    })
    .await;
    world.sim.cloudflare.add_zone(serde_json::from_value::<ZoneSpec>(json!({"name": "example.net"})).unwrap());
    world.cluster.apply(SECOND_ZONE).await;
    for (kind, name) in [(world::ZONE, "example-com"), (world::ZONE, "example-net"), (world::PROVIDER, "do")] {
        world.cluster.wait_condition(kind, None, name, "Ready", "True", world::DEADLINE).await;
    }
    world.operator.terminate().await;
    populate(&world).await;

    world.sim.gate.latency_ms.store(u64::try_from(CALL.as_millis()).unwrap(), Ordering::Relaxed);
    let fleet = Fleet::new(&world.cluster).await;
    let before = world.sim.gate.journal.last();
    let began = Instant::now();
    world.operator.restart().await;
    fleet.until(is_ready, |_, ready| ready == NODES).await;
    title("taken over by an operator that has lost every status");
    row("to all Nodes Ready", seconds(began.elapsed()), "");
    calls(&world, before, "");
    assert_eq!(world.droplets().len(), NODES, "no droplet was made or deleted");

    // The first resync after the start still belongs to it.
    println!("\nwaiting for two resyncs of {} s …", RESYNC.as_secs());
    tokio::time::sleep(RESYNC + Duration::from_secs(10)).await;
    let nodes = world.cluster.count_writes(NODE).await;
    let since = world.sim.gate.journal.last();
    tokio::time::sleep(RESYNC).await;
    title("one resync");
    calls(&world, since, "30");
    let writes = world.sim.gate.journal.since(since).iter().filter(|entry| entry.method != "GET").count();
    row("writes outside", writes, "0");
    row("Nodes written to", nodes.counts().await.len(), "0");
    let (now, peak) = memory(world.operator.pid());
    row("resident memory, now / peak", format!("{now} / {peak} MiB"), "");
}

fn calls(world: &World, since: u64, goal: &str) {
    let entries = world.sim.gate.journal.since(since);
    for cloud in ["digitalocean", "cloudflare"] {
        let calls = Calls::count(entries.iter().filter(|entry| entry.cloud == cloud));
        row(&format!("calls to {cloud}"), calls.all(), goal);
    }
}

/// Nodes without a status, and their VMs: what an operator leaves that ran here before. Creating five thousand through
/// the API would take two hours at `DigitalOcean`'s request limit.
async fn populate(world: &World) {
    println!("making {NODES} Nodes and their droplets …");
    world.cluster.patch(world::PROVIDER, None, "do", &json!({"spec": {"brake": {"minimum": NODES * 2}}})).await;
    world.sim.digitalocean.set_droplet_limit("main", NODES * 2);
    let fleet = Fleet::new(&world.cluster).await;
    let spec = |index: usize| {
        let zone = if index.is_multiple_of(2) { "example-com" } else { "example-net" };
        json!({"providerRef": {"name": "do"}, "zoneRef": {"name": zone}})
    };
    fleet.create((0..NODES).map(|index| (format!("vm-{index:04}"), spec(index)))).await;
    let cluster = ClusterId::parse("test1").unwrap();
    for node in fleet.list().await {
        let (name, uid) = (node.metadata.name.unwrap(), node.metadata.uid.unwrap());
        let mark = Mark::new(cluster.clone(), "Node", NAMESPACE, &name, &uid).unwrap();
        let droplet = json!({
            "name": vm_name(&name, &uid, 1), "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "tags": mark.tags(),
        });
        world.sim.digitalocean.add_droplet(&serde_json::from_value::<NewDroplet>(droplet).unwrap()).unwrap();
    }
}
