//! The operator is killed again and again while servers report and die. Whatever was acknowledged stays, and what is
//! published in the end is the truth.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{OperatorOptions, eventually, free_port};
use tokio::task::JoinHandle;

use crate::ground::{GROUP, NOBODY, Origin, PROBE, apply, lists, members, probing, sorted, statuses};
use crate::world::{DEADLINE, World};

/// Where the API's groups are made.
const GROUPS: &str = "roadstead-groups";
const KILLS: usize = 20;
const PROBED: &str = "probed";
/// How long a server waits before it repeats a report that nobody took.
const AGAIN: Duration = Duration::from_millis(50);

/// What a server was told of its reports.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    /// The last that was acknowledged.
    acknowledged: Option<bool>,
    /// One that is not acknowledged yet, though it may have been taken.
    under_way: Option<bool>,
}

/// By slug and address.
type Ledger = Arc<Mutex<BTreeMap<(String, String), Said>>>;

/// The servers that report: each changes its mind, and repeats it until somebody acknowledges that.
struct Reporters {
    ledger: Ledger,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    going: Vec<JoinHandle<()>>,
}

impl Reporters {
    fn start(url: &str, key: &str, slugs: &[String], of_each: usize) -> Self {
        let (ledger, acknowledged, stop): (Ledger, Arc<AtomicUsize>, Arc<AtomicBool>) = Default::default();
        let servers = slugs.iter().flat_map(|slug| (0..of_each).map(move |n| (slug.clone(), format!("10.0.0.{n}"))));
        let going = servers.map(|server| {
            let (ledger, acknowledged, stop) = (ledger.clone(), acknowledged.clone(), stop.clone());
            let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
            let (url, key) = (format!("{url}/api/report"), key.to_owned());
            tokio::spawn(async move {
                let mut healthy = true;
                while !stop.load(Ordering::SeqCst) {
                    ledger.lock().unwrap().entry(server.clone()).or_default().under_way = Some(healthy);
                    let status = if healthy { "healthy" } else { "unhealthy" };
                    let body = json!({"groupSlug": server.0, "address": server.1, "status": status}).to_string();
                    loop {
                        let sent = http.post(&url).bearer_auth(&key).body(body.clone()).send().await;
                        if sent.is_ok_and(|answer| answer.status().as_u16() == 200) {
                            break;
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                    let said = Said { acknowledged: Some(healthy), under_way: None };
                    ledger.lock().unwrap().insert(server.clone(), said);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    // Two in three of the time well, so that lists of every length occur.
                    healthy = fastrand::u8(0..3) > 0;
                }
            })
        });
        let going = going.collect();
        Self { ledger, acknowledged, stop, going }
    }

    /// Waits for so many more acknowledgements.
    async fn go_on(&self, more: usize) {
        let before = self.acknowledged.load(Ordering::SeqCst);
        eventually(DEADLINE, "reports to be acknowledged", async || {
            let count = self.acknowledged.load(Ordering::SeqCst) - before;
            if count >= more { Ok(()) } else { Err(format!("{count} of {more}")) }
        })
        .await;
    }

    /// What is not as it was acknowledged: the status of each server must be what it was last told, or what it is just
    /// about to be told.
    async fn lost(&self, world: &World, slugs: &[String]) -> Vec<String> {
        let ledger = self.ledger.lock().unwrap().clone();
        let mut lost = Vec::new();
        for slug in slugs {
            let stored = statuses(world, GROUPS, slug).await;
            for ((_, address), said) in ledger.iter().filter(|((of, _), _)| of == slug) {
                let member = stored.iter().find(|member| member["id"] == address.as_str());
                let report = member.and_then(|member| member["report"]["healthy"].as_bool());
                let right = report == said.acknowledged || (said.under_way.is_some() && report == said.under_way);
                if !right {
                    lost.push(format!("{slug} {address}: {said:?}, and the status says {report:?}"));
                }
            }
        }
        lost
    }

    /// Lets each end with an acknowledgement.
    async fn end(self) -> BTreeMap<(String, String), bool> {
        self.stop.store(true, Ordering::SeqCst);
        for reporter in self.going {
            reporter.await.unwrap();
        }
        let ledger = self.ledger.lock().unwrap();
        ledger.iter().map(|(server, said)| (server.clone(), said.acknowledged.unwrap())).collect()
    }
}

fn serving(options: OperatorOptions, at: SocketAddr, history: &Path) -> OperatorOptions {
    let mut options = probing(options);
    for (flag, value) in [
        ("--gateway-addr", at.to_string()),
        ("--gateway-namespace", GROUPS.to_owned()),
        ("--gateway-zone", "example-com".to_owned()),
        ("--gateway-rate-per-address", "100000".to_owned()),
        ("--signup", "open".to_owned()),
        ("--history-file", history.to_str().unwrap().to_owned()),
    ] {
        options.arguments.extend([flag.to_owned(), value]);
    }
    options
}

/// Asks the gateway for something that it has to make.
async fn make(url: &str, key: Option<&str>, path: &str, body: &Value) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually(DEADLINE, &format!("POST {path} to be carried out"), async || {
        let request = http.post(format!("{url}{path}")).body(body.to_string());
        let request = key.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
        if status == 201 { Ok(serde_json::from_str(&text).unwrap()) } else { Err(format!("{status} {text}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_killed_twenty_times_loses_no_acknowledged_report_and_publishes_the_truth() {
    let began = Instant::now();
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::with(|options| serving(options, at, &directory.path().join("history.sqlite"))).await;
    world.cluster.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {GROUPS}}}")).await;
    world.cluster.wait_condition(crate::world::ZONE, None, "example-com", "Ready", "True", DEADLINE).await;
    let url = format!("http://{at}");
    let user = make(&url, None, "/api/users/create", &json!({"email": "user@example.com"})).await;
    let key = user["user"]["apiKey"].as_str().unwrap().to_owned();
    let mut slugs = Vec::new();
    for n in 0..3 {
        let group = make(&url, Some(&key), "/api/groups", &json!({"name": format!("storm {n}")})).await;
        slugs.push(group["groupSlug"].as_str().unwrap().to_owned());
    }
    let shop = world.cluster.namespace("shop").await;
    let mut origins = [Origin::start().await, Origin::start().await];
    apply(&world, &shop, PROBED, &format!("{}, {PROBE}", members(&origins))).await;
    lists(&world, PROBED, &sorted(&origins)).await;

    let reporters = Reporters::start(&url, &key, &slugs, 4);
    let mut dead: Option<usize> = None;
    for kill in 0..KILLS {
        reporters.go_on(12).await;
        // One that dies, or comes back, in the last moment of one process and is noticed by the next.
        if let Some(index) = dead.take() {
            origins[index].revive().await;
        } else {
            let index = kill / 2 % origins.len();
            origins[index].die().await;
            dead = Some(index);
        }
        world.operator.kill9().await;
        let lost = reporters.lost(&world, &slugs).await;
        assert!(lost.is_empty(), "kill {}: {lost:#?}", kill + 1);
        world.operator.restart().await;
    }
    reporters.go_on(12).await;
    let acknowledged = reporters.acknowledged.load(Ordering::SeqCst);
    let truth = reporters.end().await;
    println!("{KILLS} kills and {acknowledged} acknowledged reports in {:?}", began.elapsed());
    for slug in &slugs {
        let healthy: Vec<_> =
            truth.iter().filter(|((of, _), healthy)| of == slug && **healthy).map(|((_, id), _)| id.as_str()).collect();
        let expected = if healthy.is_empty() { NOBODY.to_owned() } else { healthy.join(",") };
        lists(&world, slug, &expected).await;
    }
    let alive = origins.iter().enumerate().filter(|(index, _)| Some(*index) != dead).map(|(_, origin)| origin);
    lists(&world, PROBED, &sorted(alive)).await;
    world.cluster.wait_condition(GROUP, Some(&shop), PROBED, "Ready", "True", DEADLINE).await;
}
