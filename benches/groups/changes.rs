//! Reports that each change something, more than may be written: every one is kept or refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::api::ListParams;
use reqwest::StatusCode;
use roadstead::api::server_group::MemberHealth;
use serde_json::json;
use tokio::task::JoinSet;

use super::api::Gateway;
use super::table::{row, seconds, title};
use super::{create, groups, idle, milliseconds, percentile, published, slug};

const GROUPS: usize = 1_000;
const SECONDS: usize = 30;
const SERVER: &str = "10.0.0.1";

/// What became of the reports.
#[derive(Default)]
struct Outcome {
    kept: Vec<Duration>,
    refused: usize,
    others: BTreeMap<u16, usize>,
    /// The last state of each group's server that was acknowledged.
    last: BTreeMap<String, bool>,
}

pub async fn measure() {
    println!("\n{GROUPS} groups with a server each that changes its mind every second, for {SECONDS} s.");
    let directory = tempfile::tempdir().unwrap();
    let gateway = Arc::new(Gateway::start(&directory.path().join("history.sqlite")).await);
    let reporting = json!({"enabled": true, "heartbeatTTL": "12h", "forgetAfter": "24h", "users": [gateway.user]});
    let spec = json!({"probe": {"type": "None"}, "reporting": reporting});
    create(&gateway.world.cluster, (0..GROUPS).map(|_| spec.clone())).await;
    // One is the API's own.
    published(&gateway.world, GROUPS + 1, |_| true).await;
    idle(&gateway.world).await;

    let writes = gateway.world.cluster.count_writes("roadstead.dev/v1alpha1/ServerGroup").await;
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let began = Instant::now();
    let mut servers = JoinSet::new();
    for group in 0..GROUPS {
        servers.spawn(change(gateway.clone(), outcome.clone(), group, began));
    }
    servers.join_all().await;
    let took = began.elapsed();
    // What was acknowledged is in the statuses; that it is published too may take a while.
    idle(&gateway.world).await;

    let mut outcome = std::mem::take(&mut *outcome.lock().unwrap());
    let listed = groups(&gateway.world.cluster).list(&ListParams::default()).await.unwrap();
    let lost = listed.items.iter().filter(|group| {
        let slug = group.spec.slug.clone().unwrap_or_default();
        let members = group.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
        let is = members.iter().find(|member| member.id == SERVER).map(|member| member.health == MemberHealth::Healthy);
        outcome.last.get(&slug).is_some_and(|said| Some(*said) != is)
    });
    let written: usize = writes.counts().await.values().map(|count| count.writes).sum();
    title("reports that change a state");
    row("sent", outcome.kept.len() + outcome.refused + outcome.others.values().sum::<usize>(), "");
    row("acknowledged", outcome.kept.len(), "");
    row("refused with 429", outcome.refused, "");
    row("answered otherwise", format!("{:?}", outcome.others), "{}");
    row("acknowledged and lost", lost.count(), "0");
    row("p50 of the acknowledged", milliseconds(percentile(&mut outcome.kept, 50)), "");
    row("p99 of the acknowledged", milliseconds(percentile(&mut outcome.kept, 99)), "");
    row("took", seconds(took), "");
    let most = 2 * (1_000 + 50 * took.as_secs());
    row(
        "writes to groups: of health, and what is published",
        written,
        &format!("{most} (1,000 and 50 a second, each)"),
    );
}

/// One server's reports: one a second, each the opposite of what was acknowledged last.
async fn change(gateway: Arc<Gateway>, outcome: Arc<Mutex<Outcome>>, group: usize, began: Instant) {
    let slug = slug(group);
    let mut healthy = true;
    for second in 0..SECONDS {
        let due = Duration::from_secs(second as u64) + Duration::from_millis(group as u64);
        // Who waited for an answer until after its next change was due leaves that change out.
        if began.elapsed() > due + Duration::from_secs(1) {
            continue;
        }
        tokio::time::sleep_until((began + due).into()).await;
        let sent = Instant::now();
        let response = gateway.report(&slug, SERVER, healthy).send().await.unwrap();
        let mut outcome = outcome.lock().unwrap();
        match response.status() {
            StatusCode::OK => {
                outcome.kept.push(sent.elapsed());
                outcome.last.insert(slug.clone(), healthy);
                healthy = !healthy;
            }
            StatusCode::TOO_MANY_REQUESTS => outcome.refused += 1,
            other => {
                *outcome.others.entry(other.as_u16()).or_default() += 1;
                // Whether it was written is not known.
                outcome.last.remove(&slug);
            }
        }
    }
}
