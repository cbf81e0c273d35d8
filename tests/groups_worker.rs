//! A ServerGroup behind a Cloudflare Worker: real workerd runs what the operator uploaded, in front of servers that come,
//! go and come back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloudsim::cloudflare::{Draft, ScriptInfo, TokenSpec, WorkersOptions};
use cloudsim::faults::{Action, Fault};
use roadstead::api::names::Fqdn;
use roadstead::dns::Kind;
use roadstead::dns::propagation::{self, Answer};
use serde_json::{Value, json};
use support::{condition, eventually, workerd};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use world::{CLAIM, DEADLINE, NODE, World, ZONE, field};

const GROUP: &str = "roadstead.dev/v1alpha1/ServerGroup";
const ACCOUNT: &str = "main";
const NAME: &str = "shop-lb";
const HOST: &str = "shop.example.com";
const SLUG: &str = "web";
/// Fast enough for a test: one failure is enough to go, one success to come back.
const PROBE: &str = "probe: {path: /healthz, interval: 1s, timeout: 1s, fall: 1, rise: 1}";

/// A server on loopback that answers `/healthz`, and everything else with its name.
struct Origin {
    name: &'static str,
    at: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Origin {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut origin = Self { name, at: listener.local_addr().unwrap(), serving: None };
        origin.serve(listener);
        origin
    }

    fn serve(&mut self, listener: TcpListener) {
        let name = self.name;
        let routes = Router::new().route("/healthz", get(|| async { "well" })).fallback(move || async move { name });
        self.serving = Some(tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }));
    }

    /// Whoever connects is refused from now on.
    async fn die(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        // The listener is closed when the task has ended.
        assert!(serving.await.unwrap_err().is_cancelled());
    }

    async fn revive(&mut self) {
        let listener = TcpListener::bind(self.at).await.unwrap();
        self.serve(listener);
    }

    /// As the Worker has it: by the name that its address has under the slug.
    fn url(&self) -> String {
        format!("http://127-0-0-1.{SLUG}.example.com:{}", self.at.port())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A world whose operator may probe loopback, and whose Zone allows Workers to every namespace.
async fn world() -> World {
    let binary = tokio::task::spawn_blocking(workerd).await.unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let workers = Some(WorkersOptions { listen, workerd: binary, authorities: None });
    let clouds = cloudsim::Options { workers, ..cloudsim::Options::default() };
    let world = World::over(clouds, json!({"name": "example.com"}), |mut options| {
        options.arguments = vec!["--probe-allow-cidr".to_owned(), "127.0.0.0/8".to_owned()];
        options.resync = Duration::from_secs(5);
        options
    })
    .await;
    permit(&world, "workers-token");
    world.cluster.credential("workers", "cloudflare", "workers-token").await;
    allow(&world, json!({"tokenSecretRef": {"name": "workers"}, "allowedNamespaces": {"from": "All"}})).await;
    world
}

fn permit(world: &World, token: &str) {
    let permissions = ["workers:write", "workers_routes:write"];
    let token = json!({"value": token, "account": ACCOUNT, "permissions": permissions});
    world.sim.cloudflare.put_token(serde_json::from_value::<TokenSpec>(token).unwrap());
}

/// What the Zone says of Workers.
async fn allow(world: &World, workers: Value) {
    let change = json!({"spec": {"cloudflare": {"workers": workers}}});
    world.cluster.patch(ZONE, None, "example-com", &change).await;
}

async fn apply(world: &World, namespace: &str, name: &str, slug: &str, origins: &[&Origin], slb: &str) {
    let member = |origin: &&Origin| json!({"address": origin.at.ip(), "port": origin.at.port(), "scheme": "http"});
    let members = Value::from(origins.iter().map(member).collect::<Vec<_>>());
    let yaml = format!(
        "apiVersion: roadstead.dev/v1alpha1\nkind: ServerGroup\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{zoneRef: {{name: example-com}}, slug: {slug}, members: {members}, {PROBE}, slb: {{{slb}}}}}"
    );
    world.cluster.apply(&yaml).await;
}

async fn delete(world: &World, namespace: &str, name: &str) {
    world.cluster.delete_object(GROUP, Some(namespace), name).await;
    world.cluster.wait_gone(GROUP, Some(namespace), name, DEADLINE).await;
}

fn script(world: &World, name: &str) -> Option<ScriptInfo> {
    world.sim.cloudflare.script(ACCOUNT, name)
}

/// Waits until the Worker has exactly these origins.
async fn has(world: &World, origins: &[&Origin]) {
    let mut urls: Vec<_> = origins.iter().map(|origin| origin.url()).collect();
    urls.sort();
    has_text(world, &urls.join(",")).await;
}

async fn has_text(world: &World, expected: &str) {
    eventually(DEADLINE, &format!("the Worker to have {expected:?}"), async || {
        let text = script(world, NAME).and_then(|script| script.text_of("ORIGINS").map(str::to_owned));
        if text.as_deref() == Some(expected) { Ok(()) } else { Err(format!("{text:?}")) }
    })
    .await;
}

/// What a client of the Worker gets.
async fn ask(world: &World, host: &str) -> (u16, String) {
    let url = format!("http://{}/path", world.sim.workers().unwrap());
    let response = reqwest::Client::new().get(url).header("host", host).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn answers(world: &World, host: &str, expected: (u16, &str)) {
    eventually(DEADLINE, &format!("{host} to answer {expected:?}"), async || {
        let (status, body) = ask(world, host).await;
        if (status, body.as_str()) == expected { Ok(()) } else { Err(format!("{status} {body}")) }
    })
    .await;
}

async fn listed(world: &World, slug: &str) -> String {
    let name = Fqdn::parse(&format!("_wrap.{slug}.example.com")).unwrap();
    match propagation::ask(world.sim.dns(), &name, Kind::Txt).await {
        Answer::Records(records) => records.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"),
        Answer::Negative => String::new(),
        Answer::Unreachable(why) => panic!("{why}"),
    }
}

async fn lists(world: &World, slug: &str, expected: &str) {
    eventually(DEADLINE, &format!("{slug} to list {expected}"), async || {
        let said = listed(world, slug).await;
        if said == expected { Ok(()) } else { Err(said) }
    })
    .await;
}

/// Waits for a condition with this status and reason; its message.
async fn says(world: &World, namespace: &str, name: &str, type_: &str, status: &str, reason: &str) -> String {
    eventually(DEADLINE, &format!("{name} to have {type_} {status} {reason}"), async || {
        let group = world.cluster.get(GROUP, Some(namespace), name).await.ok_or("no such group".to_owned())?;
        let found = condition(&group, type_).cloned().unwrap_or_default();
        if found["status"] == status && found["reason"] == reason {
            Ok(found["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(group.data["status"]["conditions"].to_string())
        }
    })
    .await
}

/// Calls about Workers since `seq`, reads too, as `METHOD /path` from `/workers` on.
fn calls_since(world: &World, seq: u64) -> Vec<String> {
    let all = world.sim.gate.journal.since(seq).into_iter();
    let of_workers = |path: &str| path.find("/workers/").map(|at| path[at..].to_owned());
    all.filter_map(|entry| Some(format!("{} {}", entry.method, of_workers(&entry.path)?))).collect()
}

fn fault(path: &str, action: Action) -> Fault {
    let fault = json!({"cloud": "cloudflare", "path": path, "action": "hang"});
    Fault { action, ..serde_json::from_value(fault).unwrap() }
}

fn theirs(bindings: &[(&str, &str)]) -> ScriptInfo {
    let text = |(name, text): &(&str, &str)| json!({"type": "plain_text", "name": name, "text": text});
    ScriptInfo { text: "export default {}".to_owned(), bindings: bindings.iter().map(text).collect(), versions: 1 }
}

#[tokio::test]
async fn traffic_moves_when_a_server_dies_and_each_policy_says_what_happens_when_all_do() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let (mut a, mut b) = (Origin::start("a").await, Origin::start("b").await);
    let slb = format!("workerName: {NAME}, route: '{HOST}/*'");
    apply(&world, &shop, "web", SLUG, &[&a, &b], &slb).await;
    has(&world, &[&a, &b]).await;
    says(&world, &shop, "web", "WorkerReady", "True", "Published").await;
    let group = world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    assert_eq!(field(&group, "/status/slb/workerName"), NAME);
    assert_eq!(field(&group, "/status/slb/origins").as_array().unwrap().len(), 2);
    let (status, body) = ask(&world, HOST).await;
    assert!(status == 200 && (body == "a" || body == "b"), "{status} {body}");
    for claim in [format!("127-0-0-1.{SLUG}.example.com"), format!("rs--worker.{}.{NAME}", account(&world))] {
        let claim = world.cluster.get(CLAIM, None, &claim).await.unwrap();
        assert_eq!(field(&claim, "/spec/holders/dns/kind"), "ServerGroup");
    }

    a.die().await;
    has(&world, &[&b]).await;
    assert_eq!(ask(&world, HOST).await, (200, "b".to_owned()));
    a.revive().await;
    has(&world, &[&a, &b]).await;

    a.die().await;
    has(&world, &[&b]).await;
    b.die().await;
    says(&world, &shop, "web", "WorkerReady", "True", "KeepsLast").await;
    has(&world, &[&b]).await;
    let publish = json!({"spec": {"slb": {"whenAllDown": "Publish"}}});
    world.cluster.patch(GROUP, Some(&shop), "web", &publish).await;
    has(&world, &[]).await;
    says(&world, &shop, "web", "WorkerReady", "True", "NoHealthyServers").await;
    assert_eq!(ask(&world, HOST).await.0, 503);
    a.revive().await;
    has(&world, &[&a]).await;
    answers(&world, HOST, (200, "a")).await;
    delete(&world, &shop, "web").await;
    gone(&world).await;
}

fn account(world: &World) -> String {
    world.sim.cloudflare.add_account(ACCOUNT)
}

/// Neither script nor place, record or claim is left.
async fn gone(world: &World) {
    assert_eq!(script(world, NAME), None);
    assert_eq!(world.records(), []);
    let claims = world.cluster.list(CLAIM, None).await;
    let held = claims.iter().filter(|claim| *field(claim, "/spec/holders") != json!({}));
    let held: Vec<_> = held.map(|claim| claim.metadata.name.clone().unwrap()).collect();
    assert_eq!(held, ["rs--zone.example.com"]);
    assert_eq!(ask(world, HOST).await, (530, "error code: 1016".to_owned()), "nothing answers there");
}

#[tokio::test]
async fn a_transition_costs_one_patch_and_outside_edits_are_repaired() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let (mut a, b) = (Origin::start("a").await, Origin::start("b").await);
    let slb = format!("workerName: {NAME}, customDomain: {HOST}");
    apply(&world, &shop, "web", SLUG, &[&a, &b], &slb).await;
    world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    has(&world, &[&a, &b]).await;
    let since = world.sim.gate.journal.last();
    a.die().await;
    has(&world, &[&b]).await;
    let calls = calls_since(&world, since);
    let settings = format!("/workers/scripts/{NAME}/settings");
    let patches = calls.iter().filter(|call| **call == format!("PATCH {settings}")).count();
    assert_eq!(patches, 1, "{calls:?}");
    assert!(calls.iter().all(|call| call.starts_with("GET") || call.starts_with("PATCH")), "{calls:?}");

    let mut edited = script(&world, NAME).unwrap();
    for binding in &mut edited.bindings {
        if binding["name"] == "ORIGINS" {
            binding["text"] = json!("https://elsewhere.example");
        }
    }
    edited.bindings.push(json!({"type": "secret_text", "name": "API_KEY", "text": "s3cret"}));
    world.sim.cloudflare.put_script(ACCOUNT, NAME, &edited).unwrap();
    has(&world, &[&b]).await;
    assert_eq!(script(&world, NAME).unwrap().text_of("API_KEY"), Some("s3cret"), "what is not ours stays");
    assert!(world.sim.cloudflare.remove_script(ACCOUNT, NAME));
    has(&world, &[&b]).await;
    answers(&world, HOST, (200, "b")).await;

    // The place moves, and then the name.
    let moved = json!({"spec": {"slb": {"customDomain": "www.example.com"}}});
    world.cluster.patch(GROUP, Some(&shop), "web", &moved).await;
    answers(&world, "www.example.com", (200, "b")).await;
    answers(&world, HOST, (530, "error code: 1016")).await;
    world.cluster.patch(GROUP, Some(&shop), "web", &json!({"spec": {"slb": {"workerName": "other-lb"}}})).await;
    eventually(DEADLINE, "the Worker to have its other name", async || {
        let (old, new) = (script(&world, NAME).is_some(), script(&world, "other-lb").is_some());
        if new && !old { Ok(()) } else { Err(format!("{old} {new}")) }
    })
    .await;
    answers(&world, "www.example.com", (200, "b")).await;
    // Without a Worker nothing of it is left, and the list stays.
    world.cluster.patch(GROUP, Some(&shop), "web", &json!({"spec": {"slb": null}})).await;
    eventually(DEADLINE, "everything of the Worker to be gone", async || {
        let group = world.cluster.get(GROUP, Some(&shop), "web").await.unwrap();
        let left = (script(&world, "other-lb"), field(&group, "/status/slb").clone(), world.records().len());
        if left == (None, Value::Null, 1) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(listed(&world, SLUG).await, b.at.to_string());
    delete(&world, &shop, "web").await;
    gone(&world).await;
}

#[tokio::test]
async fn one_worker_has_one_group_and_somebody_elses_is_left_alone() {
    let world = world().await;
    let (shop, blog) = (world.cluster.namespace("shop").await, world.cluster.namespace("blog").await);
    let a = Origin::start("a").await;
    let foreign = theirs(&[("ORIGINS", "https://theirs.example")]);
    world.sim.cloudflare.put_script(ACCOUNT, NAME, &foreign).unwrap();
    apply(&world, &shop, "web", SLUG, &[&a], &format!("workerName: {NAME}")).await;
    let message = says(&world, &shop, "web", "WorkerReady", "False", "ForeignWorker").await;
    assert!(message.contains(NAME) && message.contains("ROADSTEAD_OWNER"), "{message}");
    says(&world, &shop, "web", "Ready", "False", "ForeignWorker").await;
    lists(&world, SLUG, &a.at.to_string()).await;
    assert_eq!(script(&world, NAME), Some(foreign));

    apply(&world, &blog, "web", "blog", &[&a], &format!("workerName: {NAME}")).await;
    let message = says(&world, &blog, "web", "WorkerReady", "False", "WorkerTaken").await;
    assert!(message.contains(&format!("ServerGroup {shop}/web")), "{message}");
    lists(&world, "blog", &a.at.to_string()).await;

    assert!(world.sim.cloudflare.remove_script(ACCOUNT, NAME));
    has(&world, &[&a]).await;
    says(&world, &shop, "web", "WorkerReady", "True", "Published").await;
    delete(&world, &shop, "web").await;
    let theirs = format!("http://127-0-0-1.blog.example.com:{}", a.at.port());
    has_text(&world, &theirs).await;
    says(&world, &blog, "web", "Ready", "True", "Ready").await;
    delete(&world, &blog, "web").await;
    gone(&world).await;
}

#[tokio::test]
async fn with_origins_only_a_worker_that_allows_it_gets_its_origins_and_nothing_else() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let (mut a, b) = (Origin::start("a").await, Origin::start("b").await);
    apply(&world, &shop, "web", SLUG, &[&a, &b], &format!("workerName: {NAME}, mode: OriginsOnly")).await;
    says(&world, &shop, "web", "WorkerReady", "False", "WorkerMissing").await;
    world.sim.cloudflare.put_script(ACCOUNT, NAME, &theirs(&[("ORIGINS", ""), ("RETRIES", "4")])).unwrap();
    let message = says(&world, &shop, "web", "WorkerReady", "False", "NotAllowed").await;
    assert!(message.contains(&format!("add {shop}/web")), "{message}");
    let allowing = theirs(&[("ORIGINS", ""), ("RETRIES", "4"), ("ROADSTEAD_ALLOW", &format!("{shop}/web"))]);
    world.sim.cloudflare.put_script(ACCOUNT, NAME, &allowing).unwrap();
    has(&world, &[&a, &b]).await;
    a.die().await;
    has(&world, &[&b]).await;
    says(&world, &shop, "web", "Ready", "True", "Ready").await;
    delete(&world, &shop, "web").await;
    let left = script(&world, NAME).unwrap();
    assert_eq!((left.text, left.bindings.len()), (allowing.text, 3), "it is not ours to delete");
}

#[tokio::test]
async fn a_zone_says_who_may_have_workers_and_the_list_does_not_wait_for_it() {
    let world = world().await;
    let (shop, blog) = (world.cluster.namespace("shop").await, world.cluster.namespace("blog").await);
    let a = Origin::start("a").await;
    allow(&world, Value::Null).await;
    let slb = format!("workerName: {NAME}, route: '{HOST}/*'");
    apply(&world, &shop, "web", SLUG, &[&a], &slb).await;
    lists(&world, SLUG, &a.at.to_string()).await;
    says(&world, &shop, "web", "WorkerReady", "False", "WorkersNotConfigured").await;
    let message = says(&world, &shop, "web", "Ready", "False", "WorkersNotConfigured").await;
    assert!(message.contains("spec.cloudflare.workers"), "{message}");
    let terms = |from: Value, prefix: &str| json!({"tokenSecretRef": {"name": "workers"}, "allowedNamespaces": from, "namePrefix": prefix});
    allow(&world, terms(json!({"from": "None"}), "shop-")).await;
    says(&world, &shop, "web", "Ready", "False", "WorkersNotAllowed").await;
    allow(&world, terms(json!({"from": "All"}), "lb-")).await;
    let message = says(&world, &shop, "web", "Ready", "False", "InvalidWorkerName").await;
    assert!(message.contains("`lb-`"), "{message}");

    // The host of a route belongs to its namespace.
    let node = format!(
        "apiVersion: roadstead.dev/v1alpha1\nkind: Node\nmetadata: {{name: shop, namespace: {blog}}}\nspec: {{providerRef: {{name: racks}}, zoneRef: {{name: example-com}}, address: 203.0.113.7}}"
    );
    world.cluster.apply(&node).await;
    world.ready(&blog, "shop").await;
    allow(&world, terms(json!({"from": "All"}), "shop-")).await;
    let message = says(&world, &shop, "web", "WorkerReady", "False", "HostnameTaken").await;
    assert!(message.contains(&format!("Node {blog}/shop")), "{message}");
    has(&world, &[&a]).await;
    assert_eq!(ask(&world, HOST).await.0, 530, "no route leads to it");
    world.cluster.delete_object(NODE, Some(&blog), "shop").await;
    world.cluster.wait_gone(NODE, Some(&blog), "shop", DEADLINE).await;
    answers(&world, HOST, (200, "a")).await;

    // A wrong token is said, and a new one is used without a restart.
    world.sim.cloudflare.revoke_token("workers-token");
    says(&world, &shop, "web", "WorkerReady", "Unknown", "CredentialRefused").await;
    permit(&world, "workers-token-2");
    world.cluster.credential("workers", "cloudflare", "workers-token-2").await;
    says(&world, &shop, "web", "WorkerReady", "True", "Published").await;
}

#[tokio::test]
async fn a_worker_that_cannot_be_written_holds_up_no_record_and_a_record_no_worker() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let (mut a, mut b) = (Origin::start("a").await, Origin::start("b").await);
    apply(&world, &shop, "web", SLUG, &[&a, &b], &format!("workerName: {NAME}")).await;
    says(&world, &shop, "web", "Ready", "True", "Ready").await;
    // Longer than the wait for a call: the list has to move while one is under way.
    world.sim.gate.faults.add(fault("/accounts/*/workers/*", Action::Hang));
    a.die().await;
    lists(&world, SLUG, &b.at.to_string()).await;
    a.revive().await;
    let mut both = [a.at, b.at];
    both.sort();
    lists(&world, SLUG, &both.map(|at| at.to_string()).join(",")).await;
    says(&world, &shop, "web", "WorkerReady", "Unknown", "Unavailable").await;
    let ready = world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    assert!(field(&ready, "/status/slb/notBefore").is_string(), "the back-off is stored");
    b.die().await;
    lists(&world, SLUG, &a.at.to_string()).await;
    world.sim.gate.faults.clear();
    has(&world, &[&a]).await;
    says(&world, &shop, "web", "WorkerReady", "True", "Published").await;

    world.sim.gate.faults.add(fault("/zones/*/dns_records*", Action::CutBefore));
    b.revive().await;
    has(&world, &[&a, &b]).await;
    assert_eq!(listed(&world, SLUG).await, a.at.to_string());
    world.sim.gate.faults.clear();
    lists(&world, SLUG, &both.map(|at| at.to_string()).join(",")).await;
}

#[tokio::test]
async fn a_foreign_record_at_a_servers_name_leaves_that_server_out_and_nothing_else() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let a = Origin::start("a").await;
    let name = format!("127-0-0-1.{SLUG}.example.com");
    let draft = Draft {
        name: Some(name.clone()),
        kind: Some("A".into()),
        content: Some("198.51.100.7".into()),
        ..Draft::default()
    };
    let id = world.sim.cloudflare.add_record("example.com", &draft).unwrap();
    apply(&world, &shop, "web", SLUG, &[&a], &format!("workerName: {NAME}")).await;
    let message = says(&world, &shop, "web", "WorkerReady", "False", "ForeignRecord").await;
    assert!(message.contains(&name), "{message}");
    lists(&world, SLUG, &a.at.to_string()).await;
    has(&world, &[]).await;
    assert!(world.sim.cloudflare.remove_record(&id));
    has(&world, &[&a]).await;
    says(&world, &shop, "web", "Ready", "True", "Ready").await;
}

#[tokio::test]
async fn nodes_are_origins_by_their_name_and_a_worker_can_be_given_up() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let node = format!(
        "apiVersion: roadstead.dev/v1alpha1\nkind: Node\nmetadata: {{name: web-1, namespace: {shop}, labels: {{tier: web}}}}\nspec: {{providerRef: {{name: racks}}, zoneRef: {{name: example-com}}, address: 203.0.113.7}}"
    );
    world.cluster.apply(&node).await;
    world.ready(&shop, "web-1").await;
    let group = format!(
        "apiVersion: roadstead.dev/v1alpha1\nkind: ServerGroup\nmetadata: {{name: web, namespace: {shop}}}\n\
         spec: {{zoneRef: {{name: example-com}}, slug: {SLUG}, nodeSelector: {{matchLabels: {{tier: web}}}}, probe: {{type: None}}, slb: {{workerName: {NAME}}}}}"
    );
    world.cluster.apply(&group).await;
    has_text(&world, "https://web-1.example.com").await;
    says(&world, &shop, "web", "Ready", "True", "Ready").await;

    // The Zone's word for Workers goes while one is there.
    allow(&world, Value::Null).await;
    world.cluster.delete_object(GROUP, Some(&shop), "web").await;
    let message = says(&world, &shop, "web", "Ready", "False", "WorkersNotConfigured").await;
    assert!(message.contains("roadstead.dev/abandon=worker"), "{message}");
    // The list does not wait.
    lists(&world, SLUG, "").await;
    world.annotate(GROUP, Some(&shop), "web", "abandon", "worker").await;
    world.cluster.wait_gone(GROUP, Some(&shop), "web", DEADLINE).await;
    assert!(script(&world, NAME).is_some());
}
