//! Reports that change nothing, and lookups: how many the REST API takes, with a hundred thousand servers known to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use reqwest::{Client, RequestBuilder, StatusCode};
use roadstead::api::server_group::{MemberHealth, MemberStatus, Origin, Source, SourceStatus};
use roadstead::controllers::server_group::members::merge::count;
use serde_json::{Value, json};
use support::{OperatorOptions, eventually, free_port};

use super::table::{memory, processor, row, title};
use super::world::{DEADLINE, World};
use super::{create, groups, idle, milliseconds, percentile, published, slug};

const GROUPS: usize = 200;
/// As many as a group may have.
const SERVERS: usize = 500;
const ALL: usize = GROUPS * SERVERS;
/// Servers of one group more, for lookups alone.
const FEW: usize = 10;
/// Statuses that are written at once: each takes the API server half a second of a core.
const AT_ONCE: usize = 2;
/// Connections the requests come by.
const CLIENTS: usize = 32;
const SECONDS: u64 = 15;

/// A REST API, and one of its users.
pub struct Gateway {
    pub world: World,
    url: String,
    http: Client,
    key: String,
    /// The user's id, as `spec.reporting.users` names it.
    pub user: String,
}

impl Gateway {
    /// With rates that do not limit the measurement.
    pub async fn start(history: &Path) -> Self {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let world = World::with(|options| options_at(options, at, history)).await;
        let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: roadstead-groups}}";
        world.cluster.apply(namespace).await;
        let http = Client::builder().no_proxy().build().unwrap();
        let mut gateway = Self { world, url: format!("http://{at}"), http, key: String::new(), user: String::new() };
        gateway.leads().await;
        let user = gateway.post("/api/users/create", &json!({"email": "bench@example.com"})).send().await.unwrap();
        let user: Value = user.json().await.unwrap();
        gateway.key = user["user"]["apiKey"].as_str().unwrap().to_owned();
        let group = gateway.post("/api/groups", &json!({"name": "mine"})).send().await.unwrap();
        assert_eq!(group.status(), StatusCode::CREATED);
        let group: Value = group.json().await.unwrap();
        let (kind, slug) = ("roadstead.dev/v1alpha1/ServerGroup", group["groupSlug"].as_str().unwrap());
        let object = gateway.world.cluster.get(kind, Some("roadstead-groups"), slug).await.unwrap();
        gateway.user.clone_from(&object.metadata.labels.unwrap()["roadstead.dev/api-user"]);
        gateway
    }

    /// Waits until the process leads.
    pub async fn leads(&self) {
        eventually(DEADLINE, "the gateway to serve", async || {
            let response = self.http.get(format!("{}/dns/nobody", self.url)).send().await.map_err(|e| e.to_string())?;
            if response.status() == StatusCode::NOT_FOUND { Ok(()) } else { Err(response.status().to_string()) }
        })
        .await;
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.key).body(body.to_string())
    }

    pub fn report(&self, slug: &str, address: &str, healthy: bool) -> RequestBuilder {
        let status = if healthy { "healthy" } else { "unhealthy" };
        self.post("/api/report", &json!({"groupSlug": slug, "address": address, "status": status}))
    }

    fn lookup(&self, slug: &str) -> RequestBuilder {
        self.http.get(format!("{}/dns/{slug}", self.url))
    }
}

fn options_at(mut options: OperatorOptions, at: SocketAddr, history: &Path) -> OperatorOptions {
    for (flag, value) in [
        ("--gateway-addr", at.to_string()),
        ("--gateway-zone", "example-com".to_owned()),
        ("--signup", "open".to_owned()),
        ("--gateway-rate-per-address", "1000000".to_owned()),
        ("--gateway-rate-per-key", "1000000".to_owned()),
        ("--history-file", history.to_str().unwrap().to_owned()),
    ] {
        options.arguments.extend([flag.to_owned(), value]);
    }
    options.resync = Duration::from_mins(5);
    options.environment = vec![("RUST_LOG".to_owned(), "warn".to_owned())];
    options
}

fn address(server: usize) -> String {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + u32::try_from(server).unwrap()).to_string()
}

fn report(gateway: &Gateway, n: usize) -> RequestBuilder {
    gateway.report(&slug(n % ALL / SERVERS), &address(n % ALL), true)
}

pub async fn measure() {
    println!("\n{GROUPS} groups of {SERVERS} servers that report, without probes.");
    let directory = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&directory.path().join("history.sqlite")).await;
    let spec = json!({
        "probe": {"type": "None"},
        "reporting": {"enabled": true, "heartbeatTTL": "12h", "forgetAfter": "24h", "users": [gateway.user]},
    });
    create(&gateway.world.cluster, (0..=GROUPS).map(|_| spec.clone())).await;
    // One is the API's own.
    published(&gateway.world, GROUPS + 2, |_| true).await;
    populate(&gateway).await;
    published(&gateway.world, GROUPS + 1, |list| list != "no-healthy-servers").await;
    idle(&gateway.world).await;
    let gateway = Arc::new(gateway);
    // From now on every server was heard of.
    drop(load(&gateway, ALL, None, report).await);

    let reports = load(&gateway, usize::MAX, Some(Duration::from_secs(SECONDS)), report).await;
    reports.show("reports that change nothing", "20000");
    let lookup = |gateway: &Gateway, n: usize| gateway.lookup(&slug(n % GROUPS));
    let lookups = load(&gateway, usize::MAX, Some(Duration::from_secs(SECONDS)), lookup).await;
    lookups.show("GET /dns/{slug} of 500 servers", "");
    let lookup = |gateway: &Gateway, _: usize| gateway.lookup(&slug(GROUPS));
    let lookups = load(&gateway, usize::MAX, Some(Duration::from_secs(SECONDS)), lookup).await;
    lookups.show("GET /dns/{slug} of 10 servers", "");
    let (now, peak) = memory(gateway.world.operator.pid());
    row("resident memory, now / peak", format!("{now} / {peak} MiB"), "");
}

/// Writes the servers into the statuses, as their reports would have, but for 100,000 that come one by one.
async fn populate(gateway: &Gateway) {
    let (api, now) = (groups(&gateway.world.cluster), Time(jiff::Timestamp::now()));
    let member = |id: String| MemberStatus {
        id,
        origin: Origin::Reported,
        node: None,
        asked: None,
        health: MemberHealth::Healthy,
        source: Some(Source::Report),
        reason: "ReportedHealthy".to_owned(),
        message: None,
        added: Some(now.clone()),
        since: now.clone(),
        healthy_until: None,
        probe: None,
        report: Some(SourceStatus { healthy: true, reason: "ReportedHealthy".to_owned(), since: now.clone() }),
    };
    let patches = (0..=GROUPS).map(|group| {
        let servers = if group < GROUPS { SERVERS } else { FEW };
        let members: Vec<_> = (0..servers).map(|n| member(address(group * SERVERS + n))).collect();
        let (counts, healthy) = count(&members);
        (slug(group), json!({"status": {"members": members, "counts": counts, "healthy": healthy}}))
    });
    let written = stream::iter(patches).map(|(name, status)| {
        let api = &api;
        async move { api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await }
    });
    written.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await.unwrap();
}

/// What a load came to.
struct Load {
    took: Duration,
    processor: Duration,
    times: Vec<Duration>,
}

impl Load {
    fn show(mut self, what: &str, goal: &str) {
        let requests = self.times.len() as f64;
        title(what);
        row(
            "a second of processor time of the operator",
            format!("{:.0}", requests / self.processor.as_secs_f64()),
            goal,
        );
        row("a second, with the client on the same cores", format!("{:.0}", requests / self.took.as_secs_f64()), "");
        row("p50", milliseconds(percentile(&mut self.times, 50)), "");
        row("p99", milliseconds(percentile(&mut self.times, 99)), "");
    }
}

/// Sends the first `most` requests, or as many as can be sent in so much time. Each must be answered with 200.
async fn load(
    gateway: &Arc<Gateway>,
    most: usize,
    time: Option<Duration>,
    request: fn(&Gateway, usize) -> RequestBuilder,
) -> Load {
    let (began, before) = (Instant::now(), processor(gateway.world.operator.pid()));
    let next = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (gateway, next) = (gateway.clone(), next.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= most || time.is_some_and(|time| began.elapsed() >= time) {
                        return times;
                    }
                    let sent = Instant::now();
                    let response = request(&gateway, n).send().await.unwrap();
                    let status = response.status();
                    let body = response.text().await.unwrap();
                    assert_eq!(status, StatusCode::OK, "{body}");
                    times.push(sent.elapsed());
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.unwrap());
    }
    let processor = processor(gateway.world.operator.pid()).saturating_sub(before);
    Load { took: began.elapsed(), processor, times }
}
