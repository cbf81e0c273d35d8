//! Two leaders: one that was paused while another took over wakes up and still believes that it leads. A lease is no
//! fence, so whatever the first one had in hand must come to nothing, or be found and taken away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

#[path = "crash/world.rs"]
#[allow(dead_code, reason = "shared with the crash sweep, which needs more of it")]
mod world;

use std::time::Duration;

use cloudsim::faults::{Action, Fault, Held, Release};
use jiff::SignedDuration;
use support::{Operator, OperatorOptions, eventually};
use world::{CONVERGED, DOMAIN, NAMESPACE, NODE, Weather, World, addresses, node};

const AT: Option<&str> = Some(NAMESPACE);
/// Longer than two resyncs.
const A_WHILE: Duration = Duration::from_secs(3);

/// A second operator, which waits for the lease.
async fn second(world: &World, weather: &Weather) -> Operator {
    let mut options = OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead"));
    options.resync = world::RESYNC;
    options.orphan_interval = Duration::from_secs(2);
    options.settle_time = weather.settle;
    options.kubeconfig = Some(world.proxy.kubeconfig());
    options.arguments = vec!["--identity".to_owned(), "second".to_owned()];
    let mut second = Operator::start_unready(&world.control_plane, &addresses(&world.sim), options);
    second.wait_ready().await;
    second
}

async fn takes_over(world: &World) {
    eventually(CONVERGED, "the second one to lead", async || {
        let leases = world.cluster.list("coordination.k8s.io/v1/Lease", Some("roadstead-system")).await;
        let holder = leases.first().map(|lease| lease.data["spec"]["holderIdentity"].clone()).unwrap_or_default();
        if holder == "second" { Ok(()) } else { Err(holder.to_string()) }
    })
    .await;
}

/// Holds the next request of this kind, and waits until there is one.
async fn held(world: &World, cloud: &str, method: &str, path: &str) -> Held {
    let before: Vec<u64> = world.sim.gate.faults.held().iter().map(|held| held.id).collect();
    world.sim.gate.faults.add(Fault {
        cloud: Some(cloud.to_owned()),
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        from: 1,
        count: Some(1),
        action: Action::Hold,
    });
    eventually(CONVERGED, &format!("{method} {path} to be held"), async || {
        world.sim.gate.faults.held().into_iter().find(|held| !before.contains(&held.id))
    })
    .await
}

/// Every VM and record of these Nodes is there once, and they belong together.
async fn one_of_each(world: &World, names: &[&str]) {
    for name in names {
        let node = world.ready(NODE, name).await.unwrap();
        let droplets = world.droplets_of(name);
        assert_eq!(droplets.len(), 1, "{name}: {droplets:?}");
        assert_eq!(node.data["status"]["vmID"], droplets[0].id.to_string(), "{name}");
        let contents: Vec<_> = world.records_at(&format!("{name}.{DOMAIN}")).into_iter().map(|r| r.content).collect();
        assert_eq!(contents, [droplets[0].public4.unwrap().to_string()], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_wakes_up_after_another_took_over_ends_by_itself_and_nothing_of_its_own_is_left() {
    let weather = Weather::default();
    let mut world = World::start(&weather).await;
    let mut second = second(&world, &weather).await;
    for name in ["kept", "doomed"] {
        world.cluster.apply(&node(name)).await;
        world.ready(NODE, name).await.unwrap();
    }
    // It is paused with an order on its way, and about to read that a record of its own is missing.
    let manifest = node("web");
    let order = held(&world, "digitalocean", "POST", "/v2/droplets");
    let (order, _) = tokio::join!(order, world.cluster.apply(&manifest));
    let listing = held(&world, "cloudflare", "GET", "/zones/*/dns_records?*").await;
    world.operator.signal("STOP");
    let record = world.records_at(&format!("doomed.{DOMAIN}")).remove(0);
    assert!(world.sim.cloudflare.remove_record(&record.id));
    world.sim.gate.faults.settle(listing.id, Release::Commit).await.unwrap();

    takes_over(&world).await;
    world.cluster.delete_object(NODE, AT, "doomed").await;
    world.cluster.apply(&node("later")).await;
    world.gone(NODE, "doomed").await.unwrap();
    // Nobody knows what became of the order, so the second one looks for its VM, and makes another.
    one_of_each(&world, &["kept", "web", "later"]).await;

    // The order arrives after all. A surplus VM is taken away only when it is old: this one is born an hour ago.
    world.sim.clock.advance(SignedDuration::from_hours(-1));
    let ordered = world.sim.gate.faults.settle(order.id, Release::Commit).await.unwrap();
    world.sim.clock.advance(SignedDuration::from_hours(1));
    assert!(ordered.committed, "{ordered:?}");
    let surplus = world.droplets_of("web").len();
    world.operator.signal("CONT");
    let status = world.operator.wait_ended(CONVERGED).await;
    assert!(!status.success() && world.operator.log().contains("lost the lease"), "{status:?}");

    eventually(CONVERGED, "the surplus VM to be taken away", async || world.droplets_of("web").len() == 1).await;
    assert!(surplus == 2, "there was nothing to take away");
    world.quiet(A_WHILE).await.unwrap();
    one_of_each(&world, &["kept", "web", "later"]).await;
    assert!(world.droplets_of("doomed").is_empty() && world.records_at(&format!("doomed.{DOMAIN}")).is_empty());
    assert_eq!((world.touched(), world.dangled()), (None, None));
    // The one that is left has not merely stopped: it goes on working.
    world.cluster.delete_object(NODE, AT, "web").await;
    world.gone(NODE, "web").await.unwrap();
    assert!(world.droplets_of("web").is_empty() && world.records_at(&format!("web.{DOMAIN}")).is_empty());
    second.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_wakes_up_with_its_intent_written_orders_nothing() {
    let weather = Weather::default();
    let mut world = World::start(&weather).await;
    let mut second = second(&world, &weather).await;
    world.calm().await.unwrap();
    // It is paused between the intent and the order: the answer to its write is the next thing it sees.
    world.proxy.reset();
    let mut number = 1;
    let mut write = world.proxy.hold(number);
    world.cluster.apply(&node("web")).await;
    loop {
        let body = String::from_utf8_lossy(&write.arrived(CONVERGED).await.body).into_owned();
        if body.contains("CreateVM") {
            break;
        }
        number += 1;
        let next = world.proxy.hold(number);
        write.release(support::Release::Forward).await;
        write = next;
    }
    world.operator.signal("STOP");
    write.release(support::Release::Forward).await;
    takes_over(&world).await;
    one_of_each(&world, &["web"]).await;

    let before = world.sim.gate.journal.last();
    world.operator.signal("CONT");
    let status = world.operator.wait_ended(CONVERGED).await;
    assert!(!status.success() && world.operator.log().contains("lost the lease"), "{status:?}");
    world.quiet(A_WHILE).await.unwrap();
    assert_eq!(world.cloud_writes(before), Vec::<String>::new());
    one_of_each(&world, &["web"]).await;
    second.terminate().await;
}
