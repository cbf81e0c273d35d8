//! A restart in the middle of ten thousand servers: nobody is taken for silent or dead who is not, and nothing is written
//! but what really happened meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use roadstead::api::server_group::ServerGroup;
use serde_json::{Value, json};
use support::eventually;

use crate::ground::{GROUP, NOBODY, Origin, apply, lists, probing, record};
use crate::world::World;

/// The group with a server that dies while nobody looks.
const VICTIM: &str = "g-0";
/// How many servers of each group report, beside the one that is probed.
const REPORTERS: usize = 9;
const GROUPS: usize = 1_000;
/// For what takes minutes on two cores.
const PATIENCE: Duration = Duration::from_mins(20);

/// The group `g-<index>`: servers that report, of which the spec knows nothing, and `probed` ones.
fn group(index: usize, probed: &[&Origin]) -> ServerGroup {
    let members: Vec<_> = probed.iter().map(|at| json!({"address": at.at.ip(), "port": at.at.port()})).collect();
    // Soon where it counts; as seldom as people do it elsewhere.
    let interval = if probed.len() > 1 { "1s" } else { "10s" };
    serde_json::from_value(json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "ServerGroup", "metadata": {"name": format!("g-{index}")},
        "spec": {
            "zoneRef": {"name": "example-com"}, "slug": format!("g-{index}"), "members": members,
            "probe": {"type": "TCP", "interval": interval, "timeout": "1s"},
            // Longer than the first life of the operator here, in which nobody reports.
            "reporting": {"enabled": true, "heartbeatTTL": "30m"},
        },
    }))
    .unwrap()
}

/// Its status, as a process left it in which these servers had reported all is well. That was longer ago than their
/// reports count: what a successor must not hold against them.
fn reported(index: usize) -> Value {
    let since = Timestamp::now().checked_sub(SignedDuration::from_hours(2)).unwrap();
    let since = Timestamp::from_second(since.as_second()).unwrap();
    let members: Vec<_> = (0..REPORTERS)
        .map(|server| {
            let report = json!({"healthy": true, "reason": "ReportedHealthy", "since": since});
            json!({
                "id": reporter(index, server), "origin": "Reported", "health": "Healthy", "source": "Report",
                "reason": "ReportedHealthy", "since": since, "added": since, "report": report,
            })
        })
        .collect();
    json!({"status": {"members": members}})
}

fn reporter(index: usize, server: usize) -> String {
    format!("10.{}.{}.{server}", index / 250, index % 250)
}

/// Every group by name: its version and its status.
async fn all(world: &World) -> BTreeMap<String, (String, Value)> {
    let groups = world.cluster.list(GROUP, None).await.into_iter();
    let parts = |group: kube::api::DynamicObject| {
        let name = group.metadata.name.unwrap_or_default();
        (name, (group.metadata.resource_version.unwrap_or_default(), group.data["status"].clone()))
    };
    groups.map(parts).collect()
}

#[tokio::test]
#[ignore = "ten thousand servers want the machine to themselves: make test runs this after the others"]
async fn a_restart_in_the_middle_of_ten_thousand_servers_expires_nobody_and_writes_what_happened() {
    let began = Instant::now();
    let mut world = World::with(probing).await;
    let shop = world.cluster.namespace("shop").await;
    world.operator.kill9().await;
    let (shared, mut mortal) = (Origin::start().await, Origin::start().await);
    let api: Api<ServerGroup> = Api::namespaced(world.cluster.client(), &shop);
    futures::stream::iter(0..GROUPS)
        .map(async |index| {
            let probed: &[&Origin] = if index == 0 { &[&shared, &mortal] } else { &[&shared] };
            let made = api.create(&PostParams::default(), &group(index, probed)).await?;
            let name = made.metadata.name.unwrap_or_default();
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(reported(index))).await
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    println!("{GROUPS} groups are there after {:?}", began.elapsed());

    world.operator.restart().await;
    eventually(PATIENCE, "every list to be published", async || {
        let complete = |content: &str| content.split(',').count() > REPORTERS;
        let count = world.records().iter().filter(|record| complete(&record.content)).count();
        if count == GROUPS { Ok(()) } else { Err(format!("{count} of {GROUPS}")) }
    })
    .await;
    eventually(PATIENCE, "every group to say so", async || {
        let says = |(_, status): &(String, Value)| {
            let content = status["txt"]["content"].as_str().unwrap_or_default();
            let ready = status["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            ready && content.split(',').count() > REPORTERS
        };
        let count = all(&world).await.values().filter(|group| says(group)).count();
        if count == GROUPS { Ok(()) } else { Err(format!("{count} of {GROUPS}")) }
    })
    .await;
    println!("{} servers are published after {:?}", GROUPS * (REPORTERS + 1) + 1, began.elapsed());

    world.operator.kill9().await;
    mortal.die().await;
    let (before, records) = (all(&world).await, world.records());
    let since = world.sim.gate.journal.last();
    let restarted = Instant::now();
    world.operator.restart().await;
    let dead = mortal.at.to_string();
    let expected: Vec<_> = record(&world, VICTIM).split(',').filter(|id| *id != dead).map(str::to_owned).collect();
    assert_eq!(expected.len(), REPORTERS + 1);
    lists(&world, VICTIM, &expected.join(",")).await;
    println!("the dead one of {GROUPS} groups is withdrawn {:?} after the restart", restarted.elapsed());
    eventually(PATIENCE, "every group to be enrolled", async || {
        let metrics = world.operator.metrics().await;
        let targets = metrics.lines().find(|line| line.starts_with("roadstead_probe_targets ")).unwrap_or_default();
        if targets.ends_with(&format!(" {}", GROUPS + 1)) { Ok(()) } else { Err(targets.to_owned()) }
    })
    .await;
    // Whoever was enrolled before this one has been looked at before it.
    apply(&world, &shop, "last", "probe: {type: None}").await;
    lists(&world, "last", NOBODY).await;

    let changed: Vec<_> = world.records().into_iter().filter(|record| !records.contains(record)).collect();
    let mut names: Vec<_> = changed.iter().map(|record| record.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [format!("_wrap.{VICTIM}.example.com"), "_wrap.last.example.com".to_owned()]);
    let writes = world.writes_since(since);
    assert_eq!(writes.len(), 2, "of the dead server and of the last group: {writes:?}");
    let after = all(&world).await;
    for (name, (version, status)) in &before {
        if name == VICTIM {
            let health = |members: &Value, id: &str| {
                let member = members.as_array().unwrap().iter().find(|member| member["id"] == id);
                member.unwrap()["health"].clone()
            };
            for id in expected.iter().map(String::as_str) {
                assert_eq!(health(&after[name].1["members"], id), "Healthy");
            }
            assert_eq!(health(&after[name].1["members"], &dead), "Unhealthy");
        } else {
            assert_eq!((version, status), (&after[name].0, &after[name].1), "{name} was written");
        }
    }
}
