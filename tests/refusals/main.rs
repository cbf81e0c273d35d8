//! What is asked for and cannot be: the line of `kubectl get` and the message, in the exact words a person reads.
//!
//! What the schema itself refuses is in `tests/crds`. The table here is complete: see [`words`].
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod ground;
mod nodes;
mod rows;
mod words;
#[path = "../world/mod.rs"]
mod world;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kube::api::DynamicObject;
use support::{OperatorOptions, condition, eventually};

use rows::{GROUPS, KINDS, Kind, Row, rows};
use world::{DEADLINE, NODE, World};

/// A name that was given back stays reserved longer than the test takes.
async fn world() -> World {
    World::with(|options| OperatorOptions { ttl_wait_cap: Duration::from_secs(300), ..options }).await
}

/// What a person sees of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    line: String,
    message: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_shows_its_reason_in_kubectl_get_and_its_remedy_in_the_message() {
    let world = world().await;
    let ids = ground::prepare(&world).await;
    let rows = rows();
    for row in &rows {
        world.cluster.apply(&row.manifest()).await;
    }
    // A change that needs a new VM: the old one has to be there first.
    world.ready("shop", "resized").await;
    let larger = serde_json::json!({"spec": {"size": "s-2vcpu-2gb"}});
    world.cluster.patch(NODE, Some("shop"), "resized", &larger).await;
    // A deletion that cannot go on: what it waits for has to be missed first.
    world.cluster.wait_condition(GROUPS.full, Some("shop"), "keyless-worker", "WorkerReady", "Unknown", DEADLINE).await;
    world.cluster.delete_object(GROUPS.full, Some("shop"), "keyless-worker").await;

    let mut pending: Vec<&Row> = rows.iter().collect();
    eventually(DEADLINE * 2, "every row to show what it says", async || {
        let mut shown = HashMap::new();
        for kind in KINDS {
            shown.extend(shown_of(&world, kind, &ids).await);
        }
        let mut wrong = Vec::new();
        pending.retain(|row| {
            let expected = Shown { line: row.line(), message: row.message.clone() };
            let seen = shown.get(&(row.kind.short, row.name.to_owned()));
            let is_so = seen == Some(&expected);
            if !is_so {
                wrong.push(format!("{} {}\n  expected {expected:#?}\n  got      {seen:#?}", row.kind.short, row.name));
            }
            !is_so
        });
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    })
    .await;

    // One event each at most: who waits is not told again and again.
    for row in rows.iter().filter(|row| row.kind.short == "rnode") {
        let events = world.cluster.events(NODE, Some("shop"), row.name).await;
        let warnings = events.iter().filter(|event| event["type"] == "Warning" && event["reason"] == row.reason);
        assert!(warnings.count() <= 1, "{}: {events:?}", row.name);
    }
    assert!(!world.operator.log().contains("cloudflare-token"));
}

/// What every object of a kind shows, by name.
async fn shown_of(world: &World, kind: Kind, ids: &BTreeMap<String, String>) -> HashMap<(&'static str, String), Shown> {
    let table = world.cluster.kubectl(&["get", kind.short, "-n", "shop", "--no-headers"]).await.unwrap();
    let addresses: Vec<String> = world.droplets().iter().filter_map(|vm| Some(vm.public4?.to_string())).collect();
    let line = |line: &str| {
        let mut columns: Vec<&str> = line.split_whitespace().collect();
        // The age.
        columns.pop();
        for column in columns.iter_mut().filter(|column| addresses.iter().any(|address| address == *column)) {
            *column = "<address>";
        }
        (columns.first().copied().unwrap_or_default().to_owned(), columns.join(" "))
    };
    let mut lines: HashMap<String, String> = table.lines().map(line).collect();
    let shown = |object: DynamicObject| {
        let name = object.metadata.name.clone().unwrap_or_default();
        let ready = condition(&object, "Ready").cloned().unwrap_or_default();
        let message = plain(ready["message"].as_str().unwrap_or_default(), ids);
        let line = lines.remove(&name).unwrap_or_default();
        ((kind.short, name), Shown { line, message })
    };
    let objects = world.cluster.list(kind.full, kind.namespaced.then_some("shop")).await;
    objects.into_iter().map(shown).collect()
}

/// The text with what differs from run to run replaced by what it is.
fn plain(text: &str, names: &BTreeMap<String, String>) -> String {
    names.iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, name))
}

#[tokio::test]
async fn a_node_waits_for_its_zone_and_its_provider_in_either_order_and_goes_on_by_itself() {
    let world = World::start().await;
    let shop = world.cluster.namespace("shop").await;
    let node = |name: &str, number: u8| {
        format!(
            "{{apiVersion: roadstead.dev/v1alpha1, kind: Node, metadata: {{name: {name}, namespace: {shop}}}, spec: \
             {{providerRef: {{name: later}}, zoneRef: {{name: later}}, address: 203.0.113.{number}}}}}"
        )
    };
    let zone = ground::zone("later", "later.example.net", "cloudflare", "All");
    let provider = "{apiVersion: roadstead.dev/v1alpha1, kind: Provider, metadata: {name: later}, spec: {static: {allowedCIDRs: [203.0.113.0/24]}, allowedNamespaces: {from: All}}}";
    ground::add_zone(&world, "later.example.net");
    world.cluster.apply(&node("rack-1", 1)).await;
    world.refused(&shop, "rack-1", "ZoneNotFound").await;
    world.cluster.apply(&zone).await;
    world.refused(&shop, "rack-1", "ProviderNotFound").await;
    world.cluster.apply(provider).await;
    world.ready(&shop, "rack-1").await;

    // And the other way round, with objects that were there before.
    world.cluster.delete_object(NODE, Some(&shop), "rack-1").await;
    world.gone(&shop, "rack-1").await;
    world.cluster.delete(&zone).await;
    world.cluster.wait_gone(world::ZONE, None, "later", DEADLINE).await;
    world.sim.dns.flush();
    world.cluster.apply(&node("rack-2", 2)).await;
    world.refused(&shop, "rack-2", "ZoneNotFound").await;
    world.cluster.apply(&zone).await;
    world.ready(&shop, "rack-2").await;
}
