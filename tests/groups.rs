//! The life of a ServerGroup: servers that come, go and come back, and what the zone's own server says of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod world;

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use cloudsim::cloudflare::Draft;
use roadstead::api::names::Fqdn;
use roadstead::dns::propagation::{self, Answer};
use roadstead::dns::{Content, Kind};
use serde_json::{Value, json};
use support::{condition, eventually};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use world::{CLAIM, DEADLINE, NODE, World, field};

const GROUP: &str = "roadstead.dev/v1alpha1/ServerGroup";
const APP: &str = "roadstead.dev/v1alpha1/AppDeployment";
const NOBODY: &str = "no-healthy-servers";
/// Fast enough for a test: one failure is enough to go, one success to come back.
const PROBE: &str = "probe: {scheme: http, path: /healthz, interval: 1s, timeout: 1s, fall: 1, rise: 1}";

/// A server on loopback that answers `/healthz`.
struct Origin {
    at: SocketAddr,
    /// The host it is asked for, if it answers no other.
    host: Option<&'static str>,
    serving: Option<JoinHandle<()>>,
}

impl Origin {
    async fn at(address: &str) -> Self {
        let ip: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let mut origin = Self { at: listener.local_addr().unwrap(), host: None, serving: None };
        origin.serve(listener);
        origin
    }

    /// One that answers `shop.example.com` alone, as the host of an app would.
    async fn of_app(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let mut origin = Self { at: listener.local_addr().unwrap(), host: Some("shop.example.com"), serving: None };
        origin.serve(listener);
        origin
    }

    fn serve(&mut self, listener: TcpListener) {
        let expected = self.host;
        let answer = async move |headers: HeaderMap| {
            let host = headers.get("host").and_then(|host| host.to_str().ok()?.split(':').next().map(str::to_owned));
            let is_known = expected.is_none_or(|expected| host.as_deref() == Some(expected));
            if is_known { StatusCode::OK } else { StatusCode::NOT_FOUND }
        };
        let routes = Router::new().route("/healthz", axum::routing::get(answer));
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

    /// As a listed server.
    fn member(&self) -> Value {
        json!({"address": self.at.ip(), "port": self.at.port()})
    }

    /// As it is published.
    fn id(&self) -> String {
        self.at.to_string()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A world whose operator may probe loopback.
async fn world() -> World {
    World::with(|mut options| {
        options.arguments = vec!["--probe-allow-cidr".to_owned(), "127.0.0.0/8".to_owned()];
        options.resync = std::time::Duration::from_secs(5);
        options
    })
    .await
}

/// Applies the group `name` with the slug `slug`.
async fn apply(world: &World, namespace: &str, name: &str, slug: &str, spec: &str) {
    let yaml = format!(
        "apiVersion: roadstead.dev/v1alpha1\nkind: ServerGroup\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{zoneRef: {{name: example-com}}, slug: {slug}, {spec}}}"
    );
    world.cluster.apply(&yaml).await;
}

fn members(origins: &[&Origin]) -> String {
    format!("members: {}", Value::from(origins.iter().map(|origin| origin.member()).collect::<Vec<_>>()))
}

/// What the zone's own server says of the slug; empty if it knows of none.
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

async fn addresses(world: &World, name: &str) -> Vec<String> {
    match propagation::ask(world.sim.dns(), &Fqdn::parse(name).unwrap(), Kind::A).await {
        Answer::Records(records) => records.iter().map(Content::to_string).collect(),
        Answer::Negative => Vec::new(),
        Answer::Unreachable(why) => panic!("{why}"),
    }
}

async fn holds(world: &World, namespace: &str, name: &str, type_: &str, expected: bool) -> Value {
    let what = format!("{namespace}/{name} to have {type_}: {expected}");
    eventually(DEADLINE, &what, async || {
        let group = world.cluster.get(GROUP, Some(namespace), name).await.ok_or("no such group".to_owned())?;
        let found = condition(&group, type_).cloned().unwrap_or_default();
        if (found["status"] == "True") == expected { Ok(found) } else { Err(group.data["status"].to_string()) }
    })
    .await
}

async fn refused(world: &World, namespace: &str, name: &str, reason: &str) -> String {
    eventually(DEADLINE, &format!("{name} not Ready because of {reason}"), async || {
        let group = world.cluster.get(GROUP, Some(namespace), name).await.ok_or("no such group".to_owned())?;
        let ready = condition(&group, "Ready").cloned().unwrap_or_default();
        let refused = ready["status"] == "False" && ready["reason"] == reason;
        if refused { Ok(ready["message"].as_str().unwrap_or_default().to_owned()) } else { Err(ready.to_string()) }
    })
    .await
}

fn sorted(origins: &[&Origin]) -> String {
    let mut at: Vec<_> = origins.iter().map(|origin| origin.at).collect();
    at.sort();
    at.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn servers_are_listed_while_they_are_well_and_frozen_when_all_die_at_once() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let (mut a, mut b) = (Origin::at("127.0.0.1").await, Origin::at("127.0.0.1").await);
    apply(&world, &shop, "web", "web", &format!("{}, {PROBE}", members(&[&a, &b]))).await;
    lists(&world, "web", &sorted(&[&a, &b])).await;
    let group = world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    assert_eq!(field(&group, "/status/slug"), "web");
    eventually(DEADLINE, "the counts", async || {
        let group = world.cluster.get(GROUP, Some(&shop), "web").await.unwrap();
        let healthy = field(&group, "/status/healthy").clone();
        if healthy == "2/2" { Ok(()) } else { Err(healthy.to_string()) }
    })
    .await;

    a.die().await;
    lists(&world, "web", &b.id()).await;
    let group = world.cluster.get(GROUP, Some(&shop), "web").await.unwrap();
    let dead = group.data["status"]["members"].as_array().unwrap().iter().find(|m| m["id"] == a.id()).unwrap().clone();
    assert_eq!((&dead["health"], &dead["reason"]), (&json!("Unhealthy"), &json!("ConnectionRefused")), "{dead}");
    a.revive().await;
    lists(&world, "web", &sorted(&[&a, &b])).await;

    a.die().await;
    b.die().await;
    let frozen = holds(&world, &shop, "web", "Frozen", true).await;
    assert_eq!(frozen["reason"], "AllProbesFailed");
    lists(&world, "web", &sorted(&[&a, &b])).await;
    world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    b.revive().await;
    lists(&world, "web", &b.id()).await;
    holds(&world, &shop, "web", "Frozen", false).await;
}

#[tokio::test]
async fn the_spec_decides_who_is_published_in_which_order_and_at_which_name() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let (one, two) = (Origin::at("127.0.0.2").await, Origin::at("127.0.0.3").await);
    let spec = format!("{}, {PROBE}, dns: {{a: {{hostname: www}}}}", members(&[&one, &two]));
    apply(&world, &shop, "web", "web", &spec).await;
    lists(&world, "web", &sorted(&[&one, &two])).await;
    let a = async |expected: &[&str]| {
        eventually(DEADLINE, &format!("www to be {expected:?}"), async || {
            let said = addresses(&world, "www.example.com").await;
            if said == expected { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    };
    a(&["127.0.0.2", "127.0.0.3"]).await;
    let claim = world.cluster.get(CLAIM, None, "www.example.com").await.unwrap();
    assert_eq!(field(&claim, "/spec/holders/dns/kind"), "ServerGroup");

    let patch = async |spec: Value| {
        world.cluster.patch(GROUP, Some(&shop), "web", &json!({ "spec": spec })).await;
    };
    let (mut first, mut second) = (one.member(), two.member());
    (first["priority"], second["priority"]) = (json!(20), json!(10));
    patch(json!({"strategy": "Failover", "members": [first, second]})).await;
    lists(&world, "web", &format!("{},{}", two.id(), one.id())).await;
    a(&["127.0.0.3"]).await;

    second["disabled"] = json!(true);
    patch(json!({"members": [first, second]})).await;
    lists(&world, "web", &one.id()).await;
    a(&["127.0.0.2"]).await;

    patch(json!({"dns": {"a": null}})).await;
    a(&[]).await;
    eventually(DEADLINE, "the name is given back", async || {
        let claim = world.cluster.get(CLAIM, None, "www.example.com").await.ok_or("no claim")?;
        if field(&claim, "/status/state") == "Tombstone" { Ok(()) } else { Err("held") }
    })
    .await;
    assert_eq!(listed(&world, "web").await, one.id());
}

#[tokio::test]
async fn selected_nodes_are_published_by_name_and_say_whether_they_are_healthy() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    world
        .cluster
        .apply("apiVersion: roadstead.dev/v1alpha1\nkind: Provider\nmetadata: {name: local}\nspec: {static: {allowedCIDRs: [127.0.0.0/8]}, allowedNamespaces: {from: All}}")
        .await;
    let mut origin = Origin::at("127.0.0.4").await;
    let node = |name: &str, address: &str| {
        format!(
            "apiVersion: roadstead.dev/v1alpha1\nkind: Node\nmetadata: {{name: {name}, namespace: {shop}, labels: {{tier: web}}}}\nspec: {{providerRef: {{name: local}}, zoneRef: {{name: example-com}}, address: {address}}}"
        )
    };
    world.cluster.apply(&node("web-1", "127.0.0.4")).await;
    world.ready(&shop, "web-1").await;
    let probe = PROBE.replace("scheme: http", &format!("scheme: http, port: {}", origin.at.port()));
    apply(&world, &shop, "web", "web", &format!("nodeSelector: {{matchLabels: {{tier: web}}}}, {probe}")).await;
    lists(&world, "web", "web-1.example.com").await;
    world.cluster.wait_condition(NODE, Some(&shop), "web-1", "Healthy", "True", DEADLINE).await;

    world.cluster.apply(&node("web-2", "127.0.0.5")).await;
    world.ready(&shop, "web-2").await;
    world.cluster.wait_condition(NODE, Some(&shop), "web-2", "Healthy", "False", DEADLINE).await;
    assert_eq!(listed(&world, "web").await, "web-1.example.com", "nobody listens at 127.0.0.5");
    origin.die().await;
    let node = world.cluster.wait_condition(NODE, Some(&shop), "web-1", "Healthy", "False", DEADLINE).await;
    assert_eq!(condition(&node, "Ready").unwrap()["status"], "True", "Healthy never feeds Ready");
    origin.revive().await;
    world.cluster.wait_condition(NODE, Some(&shop), "web-1", "Healthy", "True", DEADLINE).await;

    let unlabelled = json!({"metadata": {"labels": {"tier": null}}});
    world.cluster.patch(NODE, Some(&shop), "web-1", &unlabelled).await;
    lists(&world, "web", NOBODY).await;
    eventually(DEADLINE, "a Node that nobody selects says nothing of its health", async || {
        let node = world.node(&shop, "web-1").await;
        condition(&node, "Healthy").is_none()
    })
    .await;
}

/// Somebody else's notes on the app `shop`: the operator, told to leave it alone, takes them as its own.
async fn serves(world: &World, namespace: &str, nodes: &[(&str, &str)]) {
    let state = |(name, phase): &(&str, &str)| {
        let live = json!({"revision": "r1", "service": "web", "port": 8080, "replicas": 1, "recreate": false,
            "alone": false, "healthPath": "/healthz", "startPeriod": 1, "healthTimeout": 1, "drain": 1});
        json!({"name": name, "revision": "r1", "phase": phase, "journal": {"live": live, "names": ["shop.example.com"]}})
    };
    let nodes: Vec<_> = nodes.iter().map(state).collect();
    world.cluster.patch_status(APP, Some(namespace), "shop", &json!({"status": {"nodes": nodes}})).await;
}

#[tokio::test]
async fn the_nodes_of_an_app_are_asked_for_its_name_and_follow_where_it_serves() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    world
        .cluster
        .apply("apiVersion: roadstead.dev/v1alpha1\nkind: Provider\nmetadata: {name: local}\nspec: {static: {allowedCIDRs: [127.0.0.0/8]}, allowedNamespaces: {from: All}}")
        .await;
    let mut one = Origin::of_app("127.0.0.6:0".parse().unwrap()).await;
    // One probe for both, and so one port.
    let _two = Origin::of_app(SocketAddr::new("127.0.0.7".parse().unwrap(), one.at.port())).await;
    for (name, address) in [("web-1", "127.0.0.6"), ("web-2", "127.0.0.7")] {
        world.apply_node(&shop, name, &format!("providerRef: {{name: local}}, address: {address}")).await;
        world.ready(&shop, name).await;
    }
    let probe =
        format!("probe: {{scheme: http, port: {}, interval: 1s, timeout: 1s, fall: 1, rise: 1}}", one.at.port());
    apply(&world, &shop, "web", "web", &format!("appRef: {{name: shop}}, dns: {{a: {{hostname: shop}}}}, {probe}"))
        .await;
    let message = refused(&world, &shop, "web", "AppNotFound").await;
    assert!(message.contains(&format!("no AppDeployment shop in namespace {shop}")), "{message}");
    lists(&world, "web", NOBODY).await;

    let app = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment",
        "metadata": {"name": "shop", "namespace": shop, "annotations": {"roadstead.dev/paused": "true"}},
        "spec": {"target": {"nodeSelector": {}}, "compose": {"inline": "services: {web: {image: nginx, expose: [80]}}"},
            "domains": [{"name": "shop.example.com", "publish": "Group"}]}});
    world.cluster.apply(&app.to_string()).await;
    serves(&world, &shop, &[("web-1", "Active")]).await;
    lists(&world, "web", "web-1.example.com").await;
    world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    assert_eq!(addresses(&world, "shop.example.com").await, ["127.0.0.6"]);
    let group = world.cluster.get(GROUP, Some(&shop), "web").await.unwrap();
    let member = &group.data["status"]["members"][0];
    assert_eq!((&member["origin"], &member["node"]), (&json!("App"), &json!("web-1")), "{member}");
    assert_eq!(member["asked"], json!({"host": "shop.example.com", "path": "/healthz"}));
    serves(&world, &shop, &[("web-1", "Active"), ("web-2", "Active")]).await;
    lists(&world, "web", "web-1.example.com,web-2.example.com").await;

    // A slip of the pen takes nobody off the list, but who dies still goes.
    let refer = async |name: &str| {
        let change = json!({"spec": {"appRef": {"name": name}}});
        world.cluster.patch(GROUP, Some(&shop), "web", &change).await;
    };
    refer("shpo").await;
    refused(&world, &shop, "web", "AppNotFound").await;
    assert_eq!(listed(&world, "web").await, "web-1.example.com,web-2.example.com");
    one.die().await;
    lists(&world, "web", "web-2.example.com").await;
    one.revive().await;
    refer("shop").await;
    lists(&world, "web", "web-1.example.com,web-2.example.com").await;
    world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;

    serves(&world, &shop, &[("web-1", "Removing"), ("web-2", "Active")]).await;
    lists(&world, "web", "web-2.example.com").await;
    serves(&world, &shop, &[]).await;
    lists(&world, "web", NOBODY).await;
}

#[tokio::test]
async fn a_slug_has_one_group_and_a_foreign_list_is_left_alone() {
    let world = world().await;
    let (shop, blog) = (world.cluster.namespace("shop").await, world.cluster.namespace("blog").await);
    apply(&world, &shop, "web", "web", "probe: {type: None}").await;
    lists(&world, "web", NOBODY).await;
    apply(&world, &blog, "web", "web", "probe: {type: None}, members: [{address: 127.0.0.9}]").await;
    let message = refused(&world, &blog, "web", "SlugTaken").await;
    assert!(message.contains(&format!("ServerGroup {shop}/web")), "{message}");
    assert_eq!(listed(&world, "web").await, NOBODY);
    world.cluster.delete_object(GROUP, Some(&shop), "web").await;
    world.cluster.wait_gone(GROUP, Some(&shop), "web", DEADLINE).await;
    // Caches may hold the list of the one that went for a TTL, and until then nobody else's clients are to find it.
    let message = refused(&world, &blog, "web", "HostnameReserved").await;
    assert!(message.contains("_wrap.web.example.com") && message.contains(&shop), "{message}");
    assert_eq!(listed(&world, "web").await, "");
    let over = json!({"status": {"freeAt": "2020-01-01T00:00:00Z"}});
    world.cluster.patch_status(CLAIM, None, "rs--u-wrap.web.example.com", &over).await;
    lists(&world, "web", "127.0.0.9").await;

    let draft = Draft {
        name: Some("_wrap.theirs".into()),
        kind: Some("TXT".into()),
        content: Some("\"handmade\"".into()),
        ..Draft::default()
    };
    let id = world.sim.cloudflare.add_record("example.com", &draft).unwrap();
    apply(&world, &shop, "theirs", "theirs", "probe: {type: None}, members: [{address: 127.0.0.8}]").await;
    let message = refused(&world, &shop, "theirs", "ForeignRecord").await;
    assert!(message.contains("handmade"), "{message}");
    assert_eq!(listed(&world, "theirs").await, "handmade");
    assert!(world.sim.cloudflare.remove_record(&id));
    lists(&world, "theirs", "127.0.0.8").await;

    for (namespace, name) in [(&blog, "web"), (&shop, "theirs")] {
        world.cluster.delete_object(GROUP, Some(namespace), name).await;
        world.cluster.wait_gone(GROUP, Some(namespace), name, DEADLINE).await;
    }
    assert_eq!(world.records(), []);
    let claims = world.cluster.list(CLAIM, None).await;
    let held = claims.iter().filter(|claim| field(claim, "/status/state") != "Tombstone");
    let left: Vec<_> = held.map(|claim| claim.metadata.name.clone().unwrap()).collect();
    assert_eq!(left, ["rs--zone.example.com"]);
}

#[tokio::test]
async fn a_restart_keeps_every_verdict_and_writes_no_record() {
    let mut world = world().await;
    let shop = world.cluster.namespace("shop").await;
    let (a, mut b) = (Origin::at("127.0.0.1").await, Origin::at("127.0.0.1").await);
    apply(&world, &shop, "web", "web", &format!("{}, {PROBE}", members(&[&a, &b]))).await;
    lists(&world, "web", &sorted(&[&a, &b])).await;
    world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    world.operator.terminate().await;
    let before = world.cluster.get(GROUP, Some(&shop), "web").await.unwrap();
    let since = world.sim.gate.journal.last();
    world.operator.restart().await;
    // Another group's whole beginning shows that the zone is read and its writer at work again.
    apply(&world, &shop, "other", "other", "probe: {type: None}").await;
    lists(&world, "other", NOBODY).await;
    let record = world.sim.cloudflare.records("example.com");
    assert_eq!(record.len(), 2);
    let writes = world.writes_since(since);
    assert_eq!(writes.len(), 1, "the other group's record and nothing else: {writes:?}");
    let after = world.cluster.get(GROUP, Some(&shop), "web").await.unwrap();
    assert_eq!(after.data["status"]["members"], before.data["status"]["members"]);
    assert_eq!(listed(&world, "web").await, sorted(&[&a, &b]));
    // An operator that looks at nothing would pass the above.
    b.die().await;
    lists(&world, "web", &a.id()).await;
}
