//! What server groups cost: how long a dead server stays published, and how many reports and lookups the REST API takes.
//! Everything is real but the clouds, which take 50 ms a call. `make bench` prints all tables; `failover`, `api` or
//! `changes` named on the command line chooses one.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that fails has nothing to return to"
)]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

mod api;
mod changes;
mod failover;
mod origins;

#[path = "../table/mod.rs"]
mod table;
#[path = "../../tests/world/mod.rs"]
#[allow(dead_code, reason = "shared with the tests, which need more of it")]
mod world;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::PostParams;
use roadstead::api::server_group::ServerGroup;
use serde_json::{Value, json};
use support::Cluster;
use table::processor;
use world::World;

/// The namespace of all groups.
const NAMESPACE: &str = "fleet";
/// How many requests to the API server are under way at once.
const AT_ONCE: usize = 16;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // cargo passes `--bench`; what is named besides chooses what is measured.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let all = chosen.is_empty();
    let is = |what: &str| all || chosen.iter().any(|chosen| chosen == what);
    if is("failover") {
        failover::measure(1, 1).await;
        failover::measure(1_000, 100).await;
    }
    if is("api") {
        api::measure().await;
    }
    if is("changes") {
        changes::measure().await;
    }
}

fn groups(cluster: &Cluster) -> Api<ServerGroup> {
    Api::namespaced(cluster.client(), NAMESPACE)
}

fn slug(index: usize) -> String {
    format!("s-{index:04}")
}

/// Creates the groups `s-0000` and so on, with their names as slugs.
async fn create(cluster: &Cluster, specs: impl IntoIterator<Item = Value>) {
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}")).await;
    let api = groups(cluster);
    let made = stream::iter(specs.into_iter().enumerate()).map(|(index, mut spec)| {
        let api = &api;
        async move {
            (spec["zoneRef"], spec["slug"]) = (json!({"name": "example-com"}), slug(index).into());
            let (version, metadata) = ("roadstead.dev/v1alpha1", json!({"name": slug(index)}));
            let group = json!({"apiVersion": version, "kind": "ServerGroup", "metadata": metadata, "spec": spec});
            api.create(&PostParams::default(), &serde_json::from_value(group).unwrap()).await
        }
    });
    made.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await.unwrap();
}

/// Waits until so many lists at Cloudflare are so.
async fn published(world: &World, lists: usize, so: impl Fn(&str) -> bool) {
    let look = async {
        while world.records().iter().filter(|record| so(&record.content)).count() < lists {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(5), look).await.expect("every group is published");
}

/// Waits until the operator has hardly anything to do.
async fn idle(world: &World) {
    let look = async {
        loop {
            let before = processor(world.operator.pid());
            tokio::time::sleep(Duration::from_secs(1)).await;
            if processor(world.operator.pid()).saturating_sub(before) <= Duration::from_millis(50) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(5), look).await.expect("the operator comes to rest");
}

/// The value that so much of them do not exceed.
fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}
