//! What a cluster may lose without anything outside being lost or bought twice: every status, every object's identity,
//! the leader, a reply; and what an outside that refuses may not make the operator do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

#[path = "crash/world.rs"]
#[allow(dead_code, reason = "shared with the crash sweep, which needs more of it")]
mod world;

use std::time::{Duration, Instant};

use cloudsim::faults::{Action, Fault, Release};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{Operator, OperatorOptions, condition, eventually};

use world::{CLAIM, CONVERGED, DOMAIN, ENVIRONMENT, NAMESPACE, NODE, Weather, World, addresses, environment, node};

const AT: Option<&str> = Some(NAMESPACE);
const ZONE: &str = "roadstead.dev/v1alpha1/Zone";
const PROVIDER: &str = "roadstead.dev/v1alpha1/Provider";
/// Longer than two resyncs.
const A_WHILE: Duration = Duration::from_secs(3);

/// Every VM and record there is, by id.
fn outside(world: &World) -> (Vec<u64>, Vec<(String, String, String)>) {
    let mut records: Vec<_> = world.sim.cloudflare.records(DOMAIN);
    records.sort_by(|a, b| a.id.cmp(&b.id));
    let droplets = world.sim.digitalocean.droplets().into_iter().map(|droplet| droplet.id).collect();
    (droplets, records.into_iter().map(|record| (record.id, record.name, record.content)).collect())
}

/// A world with a Node and an Environment, both Ready. The existing host `keeper` is there as well.
async fn inhabited(weather: &Weather) -> World {
    let world = World::start(weather).await;
    world.cluster.apply(&node("web")).await;
    world.cluster.apply(&environment("review")).await;
    all_ready(&world).await;
    world.calm().await.unwrap();
    world
}

async fn all_ready(world: &World) {
    for (kind, name) in [(NODE, "keeper"), (NODE, "web"), (ENVIRONMENT, "review"), (NODE, "review-vm")] {
        world.ready(kind, name).await.unwrap();
    }
}

/// Fails the matching requests until the faults are cleared.
fn refuse(world: &World, cloud: &str, method: Option<&str>, path: Option<&str>, count: Option<u64>, action: Action) {
    world.sim.gate.faults.add(Fault {
        cloud: Some(cloud.to_owned()),
        method: method.map(str::to_owned),
        path: path.map(str::to_owned),
        from: 1,
        count,
        action,
    });
}

fn answer(status: u16) -> Action {
    Action::Status { status, body: None, retry_after: (status == 429).then_some(1) }
}

/// How many orders of a VM were sent.
fn orders(world: &World) -> usize {
    world.cloud_writes(0).iter().filter(|write| *write == "digitalocean POST /v2/droplets").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_status_is_wiped_nothing_is_made_or_deleted_and_all_becomes_ready_again() {
    let mut world = inhabited(&Weather::default()).await;
    let before = outside(&world);
    world.operator.terminate().await;
    let since = world.sim.gate.journal.last();
    for kind in [ZONE, PROVIDER, NODE, ENVIRONMENT, CLAIM] {
        for object in world.cluster.list(kind, None).await {
            let name = object.metadata.name.clone().unwrap();
            let wiped = json!({"status": null});
            let left = world.cluster.patch_status(kind, object.metadata.namespace.as_deref(), &name, &wiped).await;
            assert!(condition(&left, "Ready").is_none(), "{kind} {name}: {}", left.data["status"]);
        }
    }
    world.operator.restart().await;
    all_ready(&world).await;
    world.cluster.wait_condition(ZONE, None, "zone", "Ready", "True", CONVERGED).await;
    world.cluster.wait_condition(PROVIDER, None, "do", "Ready", "True", CONVERGED).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(outside(&world), before);
    assert_eq!(world.cloud_writes(since), Vec::<String>::new());
    let vm = world.cluster.get(NODE, AT, "web").await.unwrap().data["status"]["vmID"].clone();
    assert_eq!(vm, Value::from(world.droplets_of("web")[0].id.to_string()));
    // An operator that looks at nothing would pass the above.
    world.cluster.delete_object(NODE, AT, "web").await;
    world.gone(NODE, "web").await.unwrap();
    assert!(world.droplets_of("web").is_empty() && world.records_at("web.example.com").is_empty());
}

/// What is left of an object if it is applied again from where it was first applied from.
fn reborn(object: &DynamicObject) -> String {
    let metadata = json!({"name": object.metadata.name, "namespace": object.metadata.namespace});
    let types = object.types.clone().unwrap();
    json!({"apiVersion": types.api_version, "kind": types.kind, "metadata": metadata, "spec": object.data["spec"]})
        .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_come_back_with_new_uids_make_and_delete_nothing_until_a_person_has_them_adopt_what_is_theirs() {
    let mut world = inhabited(&Weather::default()).await;
    let before = outside(&world);
    world.operator.terminate().await;
    let since = world.sim.gate.journal.last();
    let mut manifests = Vec::new();
    // Children are not in anybody's repository: their parents make them again.
    for kind in [ENVIRONMENT, NODE, CLAIM, PROVIDER, ZONE] {
        for mut object in world.cluster.list(kind, None).await {
            object.types.get_or_insert_with(|| kube::core::TypeMeta {
                api_version: "roadstead.dev/v1alpha1".to_owned(),
                kind: kind.rsplit('/').next().unwrap_or_default().to_owned(),
            });
            let (name, namespace) = (object.metadata.name.clone().unwrap(), object.metadata.namespace.clone());
            let bare = json!({"metadata": {"finalizers": null}});
            world.cluster.patch(kind, namespace.as_deref(), &name, &bare).await;
            world.cluster.delete_object(kind, namespace.as_deref(), &name).await;
            eventually(CONVERGED, &format!("{name} to be gone"), async || {
                world.cluster.get(kind, namespace.as_deref(), &name).await.is_none()
            })
            .await;
            if kind != CLAIM && name != "review-vm" {
                manifests.push(reborn(&object));
            }
        }
    }
    for manifest in manifests {
        world.cluster.apply(&manifest).await;
    }
    world.operator.restart().await;

    let mut orders = Vec::new();
    for (kind, name) in [(NODE, "keeper"), (NODE, "web"), (ENVIRONMENT, "review")] {
        let annotation = eventually(CONVERGED, &format!("{name} to ask for adoption"), async || {
            let object = world.cluster.get(kind, AT, name).await.ok_or("no such object")?;
            let ready = condition(&object, "Ready").cloned().unwrap_or_default();
            let message = ready["message"].as_str().unwrap_or_default();
            let order = message
                .split_once("roadstead.dev/adopt")
                .map(|(_, rest)| rest.trim_start_matches([':', '=', ' ']).chars().take(26).collect::<String>());
            order.filter(|_| ready["reason"] == "AdoptionRequired").ok_or(ready.to_string())
        })
        .await;
        orders.push((kind, name, annotation));
    }
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(outside(&world), before);
    assert_eq!(world.cloud_writes(since), Vec::<String>::new(), "before anybody ordered an adoption");

    for (kind, name, order) in orders {
        world
            .cluster
            .patch(kind, AT, name, &json!({"metadata": {"annotations": {"roadstead.dev/adopt": order}}}))
            .await;
    }
    all_ready(&world).await;
    assert_eq!(outside(&world), before, "adopted, not made again");
    assert!(!world.cloud_writes(since).iter().any(|write| write.contains("/v2/droplets") && !write.contains("tags")));
    // What was adopted is theirs: it goes with them.
    for (kind, name) in [(NODE, "web"), (ENVIRONMENT, "review")] {
        world.cluster.delete_object(kind, AT, name).await;
        world.gone(kind, name).await.unwrap();
        assert!(world.droplets_of(name).is_empty(), "{name}");
        assert!(world.records_at(&format!("{name}.{DOMAIN}")).is_empty(), "{name}");
    }
    assert_eq!(world.touched(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_operators_one_leads_and_when_it_dies_the_other_goes_on_without_a_second_vm() {
    let weather = Weather { settle: Duration::from_secs(2), ..Weather::default() };
    let mut world = World::start(&weather).await;
    let mut options = OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead"));
    options.settle_time = weather.settle;
    options.resync = world::RESYNC;
    options.arguments = vec!["--identity".to_owned(), "second".to_owned()];
    let mut second = Operator::start_unready(&world.control_plane, &addresses(&world.sim), options);
    second.wait_ready().await;
    let leader = async || {
        let lease = world.cluster.list("coordination.k8s.io/v1/Lease", Some("roadstead-system")).await;
        lease.first().map(|lease| lease.data["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(leader().await.as_deref(), Some("crash"));

    refuse(&world, "digitalocean", Some("POST"), Some("/v2/droplets"), Some(1), Action::Hold);
    world.cluster.apply(&node("web")).await;
    let order = eventually(CONVERGED, "a VM to be ordered", async || world.sim.gate.faults.held().pop()).await;
    assert_eq!(leader().await.as_deref(), Some("crash"), "while both are there the first one leads");
    world.operator.kill9().await;
    world.sim.gate.faults.release(order.id, Release::CommitAndCut);
    eventually(CONVERGED, "the second one to lead", async || {
        let lease = world.cluster.list("coordination.k8s.io/v1/Lease", Some("roadstead-system")).await;
        lease.first().is_some_and(|lease| lease.data["spec"]["holderIdentity"] == "second")
    })
    .await;
    world.ready(NODE, "web").await.unwrap();
    assert_eq!((world.droplets_of("web").len(), orders(&world)), (1, 1));
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_reply_is_lost_makes_one_vm_though_listings_run_behind() {
    let weather = Weather { settle: Duration::from_secs(4), lag: Duration::from_secs(2), ..Weather::default() };
    let world = World::start(&weather).await;
    refuse(&world, "digitalocean", Some("POST"), Some("/v2/droplets"), Some(1), Action::CutAfter);
    world.cluster.apply(&node("web")).await;
    world.ready(NODE, "web").await.unwrap();
    assert_eq!((world.droplets_of("web").len(), orders(&world)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_fails_is_repeated_at_the_stored_times_and_no_faster_however_often_the_node_is_looked_at() {
    let world = World::start(&Weather::default()).await;
    refuse(&world, "digitalocean", Some("POST"), Some("/v2/droplets"), Some(4), answer(500));
    world.cluster.apply(&node("web")).await;
    let mut looks = 0;
    let mut stored = Vec::new();
    let ready = Instant::now();
    while orders(&world) < 5 {
        assert!(ready.elapsed() < CONVERGED, "{} orders, back-off {stored:?}", orders(&world));
        looks += 1;
        let wake = json!({"metadata": {"labels": {"look": looks.to_string()}}});
        let object = world.cluster.patch(NODE, AT, "web", &wake).await;
        let journal = &object.data["status"]["journal"];
        if let (Some(attempts), Some(time)) = (journal["attempts"].as_i64(), journal["notBefore"].as_str()) {
            let entry = (attempts, time.parse::<jiff::Timestamp>().unwrap());
            if stored.last() != Some(&entry) {
                stored.push(entry);
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.ready(NODE, "web").await.unwrap();
    let sent: Vec<jiff::Timestamp> = world
        .sim
        .gate
        .journal
        .since(0)
        .into_iter()
        .filter(|entry| entry.method == "POST" && entry.path == "/v2/droplets")
        .map(|entry| entry.at)
        .collect();
    assert_eq!(stored.iter().map(|(attempts, _)| *attempts).collect::<Vec<_>>(), [1, 2, 3, 4], "{stored:?}");
    for ((attempts, not_before), (earlier, later)) in stored.iter().zip(sent.iter().zip(&sent[1..])) {
        assert!(later >= not_before, "order after attempt {attempts} came at {later}, before {not_before}");
        // Stored times have no fractions.
        let shortest = f64::from(1 << attempts) - 1.0;
        let gap = later.duration_since(*earlier).as_secs_f64();
        assert!(gap >= shortest, "attempt {attempts} was followed by another after {gap} s");
    }
    assert_eq!((world.droplets_of("web").len(), orders(&world)), (1, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_outside_answers_during_a_deletion_the_finalizer_stays_until_nothing_is_left() {
    let world = World::start(&Weather::default()).await;
    world.cluster.apply(&node("web")).await;
    world.ready(NODE, "web").await.unwrap();
    let held = async |what: &str| {
        let end = Instant::now() + A_WHILE;
        while Instant::now() < end {
            let object = world.cluster.get(NODE, AT, "web").await;
            let finalizers = object.and_then(|object| object.metadata.finalizers).unwrap_or_default();
            assert!(finalizers.contains(&"roadstead.dev/node".to_owned()), "{what}: the finalizer went");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(world.droplets_of("web").len(), 1, "{what}");
    };
    refuse(&world, "cloudflare", None, None, None, answer(429));
    world.cluster.delete_object(NODE, AT, "web").await;
    held("Cloudflare limits").await;
    for status in [401, 500] {
        world.sim.gate.faults.clear();
        refuse(&world, "cloudflare", None, None, None, answer(status));
        held(&format!("Cloudflare answers {status}")).await;
    }
    assert_eq!(world.records_at("web.example.com").len(), 1, "nothing was withdrawn meanwhile");
    world.sim.gate.faults.clear();
    refuse(&world, "digitalocean", None, None, None, answer(429));
    for status in [429, 401, 500] {
        world.sim.gate.faults.clear();
        refuse(&world, "digitalocean", None, None, None, answer(status));
        held(&format!("DigitalOcean answers {status}")).await;
    }
    eventually(CONVERGED, "the record to go though the VM cannot", async || {
        world.records_at("web.example.com").is_empty()
    })
    .await;
    world.sim.gate.faults.clear();
    world.gone(NODE, "web").await.unwrap();
    assert!(world.droplets_of("web").is_empty(), "{:?}", world.droplets_of("web"));
    assert_eq!(world.touched(), None);
}
