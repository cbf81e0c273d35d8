//! A world of its own for one worker: a control plane, simulated clouds, a proxy before the API server and the operator
//! as a process; and in it what belongs to others and must never change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudsim::cloudflare::{Draft, Limits, RecordInfo, ScriptInfo};
use cloudsim::digitalocean::{DropletInfo, NewDroplet, Settings};
use cloudsim::{Options, Sim, cloudflare, digitalocean};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{ApiProxy, Cluster, ControlPlane, Operator, OperatorOptions, SimAddresses, repository, within};
use tokio::task::JoinHandle;

/// The zone of every world.
pub const DOMAIN: &str = "example.com";
/// The account of every world at Cloudflare.
pub const ACCOUNT: &str = "main";
/// The namespace of every object under test.
pub const NAMESPACE: &str = "shop";
/// How often the operator compares everything with the outside.
pub const RESYNC: Duration = Duration::from_secs(1);
/// How long a case may take to converge. A healthy one needs some seconds; the rest is for a busy machine.
pub const CONVERGED: Duration = Duration::from_secs(60);

pub const NODE: &str = "roadstead.dev/v1alpha1/Node";
pub const ENVIRONMENT: &str = "roadstead.dev/v1alpha1/Environment";
pub const CLAIM: &str = "roadstead.dev/v1alpha1/HostnameClaim";

/// What a world is like.
#[derive(Debug, Clone)]
pub struct Weather {
    /// The operator's settle time.
    pub settle: Duration,
    /// How long listings and tags run behind a create.
    pub lag: Duration,
    /// Which deliberate bug the operator has, if any.
    pub seeded: Option<&'static str>,
}

impl Default for Weather {
    fn default() -> Self {
        Self { settle: Duration::from_secs(1), lag: Duration::ZERO, seeded: None }
    }
}

/// Workers of others by name, and the routes that lead to them.
struct Edge {
    scripts: Vec<(String, Option<ScriptInfo>)>,
    routes: Vec<(String, Option<String>)>,
}

/// See the module.
pub struct World {
    /// First, so that it goes first: its log lies in the control plane's directory.
    pub operator: Operator,
    pub control_plane: ControlPlane,
    pub cluster: Cluster,
    pub sim: Arc<Sim>,
    pub proxy: ApiProxy,
    others: (Vec<RecordInfo>, Vec<DropletInfo>),
    edge: Edge,
    dangling: Dangling,
}

impl World {
    /// Starts everything and waits until an existing host is published, which shows that the operator works.
    pub async fn start(weather: &Weather) -> Self {
        let control_plane = ControlPlane::start().await;
        let sim = Arc::new(Sim::start(Options::default()).await.unwrap());
        let others = furnish(&sim, weather);
        let edge = furnish_edge(&sim);
        let cluster = control_plane.cluster().await;
        cluster.apply_directory(&repository().join("crds")).await;
        cluster.credential("cloudflare", "cloudflare", "cf-token").await;
        cluster.credential("digitalocean", "digitalocean", "do-token").await;
        cluster.credential("workers", "cloudflare", "workers-token").await;
        cluster.apply(&manifests()).await;
        let proxy = ApiProxy::start(&control_plane).await;
        let operator = operator(&control_plane, &sim, &proxy, weather).await;
        let dangling = Dangling::watch(sim.clone());
        let world = Self { operator, control_plane, cluster, sim, proxy, others, edge, dangling };
        world.ready(NODE, "keeper").await.unwrap();
        world
    }

    /// Waits until the object is Ready for its present generation.
    pub async fn ready(&self, kind: &str, name: &str) -> Result<DynamicObject, String> {
        within(CONVERGED, &format!("{name} to be Ready"), async || {
            let object = self.cluster.get(kind, Some(NAMESPACE), name).await.ok_or("no such object")?;
            let current = object.data["status"]["observedGeneration"].as_i64() == object.metadata.generation;
            let ready = support::condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True");
            if ready && current { Ok(object) } else { Err(object.data["status"].to_string()) }
        })
        .await
    }

    /// Waits until the object is gone.
    pub async fn gone(&self, kind: &str, name: &str) -> Result<(), String> {
        within(CONVERGED, &format!("{name} to be gone"), async || {
            match self.cluster.get(kind, Some(NAMESPACE), name).await {
                None => Ok(()),
                Some(object) => Err(format!("{:?} {}", object.metadata.finalizers, object.data["status"])),
            }
        })
        .await
    }

    /// Every droplet made for an object of that name, whether or not listings show it.
    pub fn droplets_of(&self, name: &str) -> Vec<DropletInfo> {
        let prefix = format!("{name}-");
        self.sim.digitalocean.droplets().into_iter().filter(|droplet| droplet.name.starts_with(&prefix)).collect()
    }

    /// Every record at that name.
    pub fn records_at(&self, fqdn: &str) -> Vec<RecordInfo> {
        self.sim.cloudflare.records(DOMAIN).into_iter().filter(|record| record.name == fqdn).collect()
    }

    /// What of other people's is no longer as it was.
    pub fn touched(&self) -> Option<String> {
        let records = self.sim.cloudflare.records(DOMAIN);
        let missing = self.others.0.iter().find(|record| !records.contains(record));
        let droplets = self.sim.digitalocean.droplets();
        let changed = self.others.1.iter().find(|droplet| !droplets.contains(droplet));
        let Edge { scripts, routes } = &self.edge;
        let edited = scripts.iter().find(|(name, script)| self.sim.cloudflare.script(ACCOUNT, name) != *script);
        let now = self.sim.cloudflare.worker_routes(DOMAIN);
        let moved = routes.iter().find(|route| !now.contains(route));
        match (missing, changed, edited, moved) {
            (None, None, None, None) => None,
            touched => Some(format!("something foreign was touched: {touched:?}")),
        }
    }

    /// A record of ours that pointed at a VM which was going or gone, seen at any time so far.
    pub fn dangled(&self) -> Option<String> {
        self.dangling.seen()
    }

    /// The writes to the clouds since journal entry `since`, as `cloud method path`.
    pub fn cloud_writes(&self, since: u64) -> Vec<String> {
        let entries = self.sim.gate.journal.since(since);
        let writes = entries.iter().filter(|entry| entry.method != "GET");
        writes.map(|entry| format!("{} {} {}", entry.cloud, entry.method, entry.path)).collect()
    }

    /// Waits until nothing has been written anywhere for a moment, so that the next write belongs to what comes next.
    pub async fn calm(&self) -> Result<(), String> {
        self.quiet(Duration::from_millis(300)).await
    }

    /// Waits until nothing has been written anywhere for so long. An operator that always finds something to write
    /// never gets there.
    pub async fn quiet(&self, duration: Duration) -> Result<(), String> {
        let journal = self.sim.gate.journal.last();
        let writes = || {
            let inside = self.proxy.writes().into_iter().map(|write| write.to_string());
            // Names given back by earlier cases are swept when their time is over.
            let inside = inside.filter(|write| !write.contains("DELETE /apis/roadstead.dev/v1alpha1/hostnameclaims/"));
            self.cloud_writes(journal).into_iter().chain(inside).collect::<Vec<_>>()
        };
        support::quiet(duration, writes).await
    }
}

/// The operator of a world. Its identity to the lease is fixed, so that after a crash it leads again at once.
pub async fn operator(control_plane: &ControlPlane, sim: &Sim, proxy: &ApiProxy, weather: &Weather) -> Operator {
    let mut options = OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead"));
    options.resync = RESYNC;
    options.orphan_interval = Duration::from_secs(2);
    options.settle_time = weather.settle;
    options.kubeconfig = Some(proxy.kubeconfig());
    options.arguments = ["--identity", "crash", "--probe-allow-cidr", "127.0.0.0/8"].map(str::to_owned).to_vec();
    let seeded = weather.seeded.map(|fault| ("ROADSTEAD_SEEDED_FAULT".to_owned(), fault.to_owned()));
    options.environment.extend(seeded);
    Operator::start(control_plane, &addresses(sim), options).await
}

/// Where the simulator listens.
pub fn addresses(sim: &Sim) -> SimAddresses {
    SimAddresses {
        cloudflare: sim.cloudflare_api(),
        digitalocean: sim.digitalocean_api(),
        resolver: sim.resolver(),
        authority: Some(sim.dns()),
    }
}

/// The outside before the operator comes: accounts, tokens, and what belongs to others.
fn furnish(sim: &Sim, weather: &Weather) -> (Vec<RecordInfo>, Vec<DropletInfo>) {
    let spec = |value: Value| serde_json::from_value(value).unwrap();
    sim.cloudflare.add_zone(serde_json::from_value::<cloudflare::ZoneSpec>(json!({"name": DOMAIN})).unwrap());
    sim.cloudflare.put_token(serde_json::from_value(json!({"value": "cf-token"})).unwrap());
    sim.cloudflare.set_limits(Limits { requests: 1_000_000, window_s: 300 });
    sim.digitalocean.put_token(digitalocean::TokenSpec::new("do-token"));
    let lag = u64::try_from(weather.lag.as_millis()).unwrap();
    sim.digitalocean.set_settings(Settings {
        active_after_ms: 100,
        address_after_ms: 100,
        delete_takes_ms: 300,
        listing_lag_ms: lag,
        tag_lag_ms: lag,
        requests_per_hour: 1_000_000,
        requests_per_minute: 1_000_000,
        ..Settings::default()
    });
    let another = [("c", "other"), ("o", "aaaaaaaaaaaaaaaaaaaaaaaaaa"), ("k", "0123456789abcdef")];
    let mark: Vec<String> = another.iter().map(|(key, value)| format!("roadstead:{key}:{value}")).collect();
    for (name, tags) in [("somebodys", Vec::new()), ("other-aaaaaaaa-1", mark)] {
        let new: NewDroplet = spec_of(json!({
            "name": name, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "tags": tags,
        }));
        sim.digitalocean.add_droplet(&new).unwrap();
    }
    let comment: Vec<String> = another.iter().map(|(key, value)| format!("{key}={value}")).collect();
    for (name, comment) in [("somebodys", String::new()), ("other", format!("roadstead/1 {}", comment.join(" ")))] {
        let draft: Draft = spec(json!({
            "name": format!("{name}.{DOMAIN}"), "type": "A", "content": "192.0.2.1", "ttl": 300, "comment": comment,
        }));
        sim.cloudflare.add_record(DOMAIN, &draft).unwrap();
    }
    (sim.cloudflare.records(DOMAIN), sim.digitalocean.droplets())
}

/// Workers of nobody we know and of another cluster, each with a route.
fn furnish_edge(sim: &Sim) -> Edge {
    let permissions = ["workers:write", "workers_routes:write"];
    let token = json!({"value": "workers-token", "account": ACCOUNT, "permissions": permissions});
    sim.cloudflare.put_token(serde_json::from_value(token).unwrap());
    let another = "roadstead/1 c=other o=aaaaaaaaaaaaaaaaaaaaaaaaaa k=0123456789abcdef";
    let names = [("somebodys-lb", "SOMETHING"), ("other-lb", "ROADSTEAD_OWNER")].map(|(name, binding)| {
        let bindings = vec![json!({"type": "plain_text", "name": binding, "text": another})];
        let script = ScriptInfo { text: "export default {}".to_owned(), bindings, versions: 1 };
        sim.cloudflare.put_script(ACCOUNT, name, &script).unwrap();
        sim.cloudflare.add_worker_route(DOMAIN, &format!("{name}.{DOMAIN}/*"), name).unwrap();
        name.to_owned()
    });
    let scripts = names.into_iter().map(|name| (name.clone(), sim.cloudflare.script(ACCOUNT, &name))).collect();
    Edge { scripts, routes: sim.cloudflare.worker_routes(DOMAIN) }
}

fn spec_of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn manifests() -> String {
    let all = json!({"from": "All"});
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let brake = json!({"minimum": 100_000, "percent": 100, "window": "1m"});
    let mut keeper = object(
        "Node",
        "keeper",
        json!({
            "providerRef": {"name": "hosts"}, "zoneRef": {"name": "zone"}, "address": "192.0.2.7",
        }),
    );
    keeper["metadata"]["namespace"] = NAMESPACE.into();
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        object(
            "Zone",
            "zone",
            json!({
                "domain": DOMAIN, "allowedNamespaces": all,
                "cloudflare": {
                    "tokenSecretRef": {"name": "cloudflare"},
                    "workers": {"tokenSecretRef": {"name": "workers"}, "allowedNamespaces": all},
                },
            }),
        ),
        object(
            "Provider",
            "do",
            json!({
                "digitalocean": {
                    "tokenSecretRef": {"name": "digitalocean"}, "region": "fra1", "size": "s-1vcpu-1gb",
                    "image": "debian-12-x64",
                },
                "allowedNamespaces": all, "brake": brake,
            }),
        ),
        object("Provider", "hosts", json!({"static": {"allowedCIDRs": ["192.0.2.0/24"]}, "allowedNamespaces": all})),
        keeper,
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}

/// A Node with a VM of its own.
pub fn node(name: &str) -> String {
    json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "Node", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"providerRef": {"name": "do"}, "zoneRef": {"name": "zone"}, "ttl": 60},
    })
    .to_string()
}

/// An Environment whose slug is its name.
pub fn environment(name: &str) -> String {
    json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "Environment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"slug": name, "node": {"providerRef": {"name": "do"}, "zoneRef": {"name": "zone"}, "ttl": 60}},
    })
    .to_string()
}

/// Watches for records that point at a VM on its way out. A droplet takes 300 ms to go, so looking every 25 ms sees it.
struct Dangling {
    seen: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Dangling {
    fn watch(sim: Arc<Sim>) -> Self {
        let seen: Arc<Mutex<Option<String>>> = Arc::default();
        let found = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                // Records first: a record that is there now, and a VM that is going a moment later, is the fault.
                let records = sim.cloudflare.records(DOMAIN);
                let droplets = sim.digitalocean.droplets();
                for record in records {
                    let address = record.content.parse().ok();
                    let going = droplets.iter().find(|droplet| droplet.deleting && droplet.public4 == address);
                    if let (Some(going), Some(_)) = (going, address) {
                        let what = format!("{} pointed at VM {} while that was being deleted", record.name, going.name);
                        found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
                    }
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        Self { seen, task }
    }

    fn seen(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Dangling {
    fn drop(&mut self) {
        self.task.abort();
    }
}
