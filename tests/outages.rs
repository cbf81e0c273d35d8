//! What goes wrong around the operator, and what it may not change: an API that asks to wait, a freeze, a token that may
//! not write, an object that cannot be read, a listing that fails. Each heals without a restart, but for the freeze.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::maybe_infinite_iter,
    reason = "tests may say bluntly what they expect"
)]

mod world;

use std::time::Duration;

use cloudsim::cloudflare::{RecordEdit, TokenSpec, ZoneSpec};
use cloudsim::digitalocean::NewDroplet;
use cloudsim::faults::{Action, Fault, Release};
use cloudsim::journal::Entry;
use jiff::SignedDuration;
use serde_json::{Value, json};
use support::{Operator, OperatorOptions, condition, eventually};
use world::{CLAIM, DEADLINE, NODE, PROVIDER, World, ZONE, addresses, field};

const RESYNC: Duration = Duration::from_secs(2);

fn lively(options: OperatorOptions) -> OperatorOptions {
    OperatorOptions { resync: RESYNC, orphan_interval: RESYNC, ..options }
}

fn fault(cloud: &str, method: Option<&str>, path: Option<&str>, count: Option<u64>, action: Action) -> Fault {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Fault { cloud: Some(cloud.to_owned()), method: text(method), path: text(path), from: 1, count, action }
}

fn status(status: u16, retry_after: Option<u64>) -> Action {
    Action::Status { status, body: None, retry_after }
}

async fn rack(world: &World, namespace: &str, name: &str, number: u8) {
    world.apply_node(namespace, name, &format!("providerRef: {{name: racks}}, address: 203.0.113.{number}")).await;
}

/// The Node's Ready, with its time.
async fn readiness(world: &World, namespace: &str, name: &str) -> Value {
    condition(&world.node(namespace, name).await, "Ready").cloned().unwrap_or_default()
}

/// Points the record of `name` elsewhere, as a person would.
fn edit(world: &World, name: &str) {
    let id = world.record(name).unwrap().id;
    let elsewhere = RecordEdit { content: Some("198.51.100.9".into()), ..RecordEdit::default() };
    assert!(world.sim.cloudflare.edit_record(&id, &elsewhere));
}

async fn repaired(world: &World, name: &str, content: &str) {
    eventually(DEADLINE, &format!("{name} to point at {content}"), async || {
        let record = world.record(name).map(|record| record.content);
        if record.as_deref() == Some(content) { Ok(()) } else { Err(format!("{record:?}")) }
    })
    .await;
}

/// Waits until both clouds were listed that often from now on.
async fn listed(world: &World, times: usize) {
    let since = world.sim.gate.journal.last();
    eventually(DEADLINE, &format!("{times} listings of each cloud"), async || {
        let entries = world.sim.gate.journal.since(since);
        let listings = |path: &str| entries.iter().filter(|entry| entry.path.contains(path)).count();
        let seen = (listings("/dns_records?"), listings("/v2/droplets?"));
        if seen.0 >= times && seen.1 >= times { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// Waits until a condition of a cluster-wide object has this status and reason, and gives its message.
async fn says(world: &World, kind: &str, name: &str, type_: &str, status: &str, reason: &str) -> String {
    eventually(DEADLINE, &format!("{kind} {name} to say {type_}={status} {reason}"), async || {
        let object = world.cluster.get(kind, None, name).await.ok_or("no such object".to_owned())?;
        let found = condition(&object, type_).cloned().unwrap_or_default();
        if found["status"] == status && found["reason"] == reason {
            Ok(found["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(object.data["status"].to_string())
        }
    })
    .await
}

#[tokio::test]
async fn an_operator_that_starts_anew_finds_all_in_place_and_says_nothing_of_it() {
    let mut world = World::with(lively).await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    rack(&world, &shop, "kept", 1).await;
    for name in ["web-1", "kept"] {
        world.ready(&shop, name).await;
    }
    world.operator.terminate().await;
    let counter = world.cluster.count_writes(NODE).await;
    let since = world.sim.gate.journal.last();
    // It takes a while to be told anything.
    for path in ["/zones?*", "*/dns_records?*", "/v2/droplets?*"] {
        let cloud = if path.starts_with("/v2") { "digitalocean" } else { "cloudflare" };
        world.sim.gate.faults.add(fault(cloud, Some("GET"), Some(path), Some(1), Action::Latency { ms: 1_500 }));
    }
    world.operator.restart().await;
    listed(&world, 3).await;
    assert_eq!(counter.counts().await, std::collections::BTreeMap::new(), "no Node was written");
    assert_eq!(world.writes_since(since), [] as [String; 0]);
    // It does look: what is edited now is repaired.
    edit(&world, "kept.example.com");
    repaired(&world, "kept.example.com", "203.0.113.1").await;
}

#[tokio::test]
async fn what_cloudflare_asks_to_wait_is_waited_on_every_route_of_the_token() {
    const ASKED: u64 = 10;
    let world = World::with(lively).await;
    let shop = world.cluster.namespace("shop").await;
    world.sim.cloudflare.add_zone(serde_json::from_value::<ZoneSpec>(json!({"name": "example.org"})).unwrap());
    world
        .cluster
        .apply("{apiVersion: roadstead.dev/v1alpha1, kind: Zone, metadata: {name: example-org}, spec: {domain: example.org, cloudflare: {tokenSecretRef: {name: cloudflare}}, allowedNamespaces: {from: All}}}")
        .await;
    world.cluster.wait_condition(ZONE, None, "example-org", "Ready", "True", DEADLINE).await;
    for (name, number) in [("kept", 1), ("going", 2)] {
        rack(&world, &shop, name, number).await;
        world.ready(&shop, name).await;
    }
    let before = readiness(&world, &shop, "kept").await;
    let cloudflare = |since: u64| -> Vec<Entry> {
        world.sim.gate.journal.since(since).into_iter().filter(|entry| entry.cloud == "cloudflare").collect()
    };

    let since = world.sim.gate.journal.last();
    world.sim.gate.faults.add(fault("cloudflare", None, None, Some(1), status(429, Some(ASKED))));
    let refused = eventually(DEADLINE, "a call to be refused", async || {
        cloudflare(since).into_iter().find(|entry| entry.status == 429)
    })
    .await;
    // There is reason enough to ask: both Zones at each resync, and every kind of change.
    edit(&world, "kept.example.com");
    rack(&world, &shop, "new", 3).await;
    world.cluster.delete_object(NODE, Some(&shop), "going").await;
    let message = world.refused(&shop, "new", "RateLimited").await;
    assert!(message.contains("Cloudflare"), "{message}");
    assert_eq!(readiness(&world, &shop, "kept").await, before);

    let over = refused.at + SignedDuration::from_secs(i64::try_from(ASKED).unwrap());
    eventually(DEADLINE, "a call after the wait", async || cloudflare(refused.seq).iter().any(|e| e.at >= over)).await;
    // What was sent before the answer came is no answer to it.
    let known = refused.at + SignedDuration::from_millis(500);
    let early: Vec<_> = cloudflare(refused.seq).into_iter().filter(|e| e.at > known && e.at < over).collect();
    assert!(early.is_empty(), "{early:?}");

    repaired(&world, "kept.example.com", "203.0.113.1").await;
    world.ready(&shop, "new").await;
    world.gone(&shop, "going").await;
    assert_eq!(readiness(&world, &shop, "kept").await, before);
    for zone in ["example-com", "example-org"] {
        says(&world, ZONE, zone, "Ready", "True", "Ready").await;
    }
}

#[tokio::test]
async fn a_frozen_operator_writes_nothing_outside_and_says_so_and_thawed_it_catches_up() {
    let mut world = World::with(lively).await;
    let shop = world.cluster.namespace("shop").await;
    for name in ["web-1", "web-2"] {
        world.apply_node(&shop, name, "providerRef: {name: do}").await;
    }
    rack(&world, &shop, "kept", 1).await;
    rack(&world, &shop, "going", 2).await;
    for name in ["web-1", "web-2", "kept", "going"] {
        world.ready(&shop, name).await;
    }
    world.operator.terminate().await;
    let start = async |read_only: bool| {
        let options = OperatorOptions { read_only, ..lively(OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead"))) };
        Operator::start(&world.control_plane, &addresses(&world.sim), options).await
    };
    let since = world.sim.gate.journal.last();
    let before = readiness(&world, &shop, "web-1").await;
    let mut frozen = start(true).await;
    // Whatever there may be to do: create, publish, repair, withdraw, delete.
    world.apply_node(&shop, "new-vm", "providerRef: {name: do}").await;
    rack(&world, &shop, "new-name", 3).await;
    edit(&world, "kept.example.com");
    for name in ["going", "web-2"] {
        world.cluster.delete_object(NODE, Some(&shop), name).await;
    }
    for name in ["new-vm", "new-name", "going", "web-2"] {
        let message = world.refused(&shop, name, "ReadOnly").await;
        assert!(message.contains("--read-only"), "{name}: {message}");
    }
    listed(&world, 2).await;
    assert_eq!(world.writes_since(since), [] as [String; 0]);
    assert_eq!((world.droplets().len(), world.records().len()), (2, 4));
    assert_eq!(readiness(&world, &shop, "web-1").await, before, "what is in place stays so");
    // Nobody is told that a token is at fault.
    for (kind, name) in [(ZONE, "example-com"), (PROVIDER, "do")] {
        says(&world, kind, name, "CredentialReady", "True", "Accepted").await;
    }

    frozen.terminate().await;
    let thawed = start(false).await;
    for name in ["new-vm", "new-name"] {
        world.ready(&shop, name).await;
    }
    for name in ["going", "web-2"] {
        world.gone(&shop, name).await;
    }
    repaired(&world, "kept.example.com", "203.0.113.1").await;
    assert_eq!((world.droplets().len(), world.records().len()), (2, 4));
    drop(thawed);
}

#[tokio::test]
async fn a_token_that_may_not_edit_dns_is_named_with_what_it_lacks_and_a_better_one_heals_all() {
    let world = World::with(lively).await;
    let shop = world.cluster.namespace("shop").await;
    for (name, number) in [("kept", 1), ("going", 2)] {
        rack(&world, &shop, name, number).await;
        world.ready(&shop, name).await;
    }
    let pid = world.operator.pid();
    let token = |spec: Value| serde_json::from_value::<TokenSpec>(spec).unwrap();
    world.sim.cloudflare.put_token(token(json!({"value": "reader", "permissions": ["zone:read", "dns:read"]})));
    let since = world.sim.gate.journal.last();
    world.cluster.credential("cloudflare", "cloudflare", "reader").await;
    let secret = world.cluster.get("v1/Secret", Some("roadstead-system"), "cloudflare").await.unwrap();
    let version = secret.metadata.resource_version.unwrap();
    eventually(DEADLINE, "the reader's token to be in use", async || {
        let zone = world.cluster.get(ZONE, None, "example-com").await.unwrap();
        field(&zone, "/status/credential/secretVersion") == version.as_str()
    })
    .await;

    edit(&world, "kept.example.com");
    let message = says(&world, ZONE, "example-com", "CredentialReady", "False", "PermissionMissing").await;
    let id = field(&world.cluster.get(ZONE, None, "example-com").await.unwrap(), "/status/zoneID").clone();
    let endpoint = format!("POST /zones/{}/dns_records/batch", id.as_str().unwrap());
    assert!(message.contains(&endpoint) && message.contains("Zone > DNS > Edit"), "{message}");
    rack(&world, &shop, "new", 3).await;
    world.cluster.delete_object(NODE, Some(&shop), "going").await;
    let message = world.refused(&shop, "new", "ZoneNotReady").await;
    assert!(message.contains("Zone example-com") && message.contains("Zone > DNS > Edit"), "{message}");
    let message = world.refused(&shop, "going", "PermissionMissing").await;
    assert!(message.contains("Zone > DNS > Edit"), "{message}");
    assert_eq!(readiness(&world, &shop, "kept").await["status"], "True");
    assert_eq!(world.records().len(), 2);
    assert!(world.sim.gate.journal.since(since).iter().all(|entry| entry.method == "GET" || !entry.committed));

    world.sim.cloudflare.put_token(token(json!({"value": "editor"})));
    world.cluster.credential("cloudflare", "cloudflare", "editor").await;
    world.ready(&shop, "new").await;
    world.gone(&shop, "going").await;
    repaired(&world, "kept.example.com", "203.0.113.1").await;
    says(&world, ZONE, "example-com", "CredentialReady", "True", "Accepted").await;
    assert_eq!(world.operator.pid(), pid);
}

#[tokio::test]
async fn a_node_whose_order_meets_a_revoked_token_has_its_provider_say_so_at_once() {
    // Sooner than the Provider would look at anything by itself, which is a minute after it last did.
    const AT_ONCE: Duration = Duration::from_secs(20);
    let hour = Duration::from_hours(1);
    let world = World::with(|options| OperatorOptions { resync: hour, orphan_interval: hour, ..options }).await;
    let shop = world.cluster.namespace("shop").await;
    world.cluster.wait_condition(PROVIDER, None, "do", "Ready", "True", DEADLINE).await;
    world.sim.gate.faults.add(fault("digitalocean", Some("POST"), Some("/v2/droplets"), Some(1), Action::Hold));
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    let order = eventually(DEADLINE, "an order", async || world.sim.gate.faults.held().pop()).await;
    assert!(world.sim.digitalocean.revoke_token("digitalocean-token"));
    let answered = world.sim.gate.faults.settle(order.id, Release::Commit).await.unwrap();
    assert_eq!(answered.status, Some(401));
    let said = eventually(AT_ONCE, "the Provider to say that its token is refused", async || {
        let provider = world.cluster.get(PROVIDER, None, "do").await.unwrap();
        let said = condition(&provider, "CredentialReady").cloned().unwrap_or_default();
        if said["reason"] == "CredentialRefused" { Ok(said) } else { Err(said.to_string()) }
    })
    .await;
    assert!(said["message"].as_str().unwrap().contains("put a valid one into the Secret"), "{said}");
    let message = world.refused(&shop, "web-1", "ProviderNotReady").await;
    assert!(message.contains("Provider do"), "{message}");
    assert_eq!(world.droplets().len(), 0);
}

#[tokio::test]
async fn a_token_that_may_not_make_vms_is_named_with_what_it_lacks_and_not_asked_again_and_again() {
    let world = World::with(lively).await;
    let shop = world.cluster.namespace("shop").await;
    let token = cloudsim::digitalocean::TokenSpec::new("digitalocean-token");
    world.sim.digitalocean.put_token(token.clone().with_scopes(&["read"]));
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    let message = world.refused(&shop, "web-1", "PermissionMissing").await;
    assert!(message.contains("POST /v2/droplets") && message.contains("droplet:create"), "{message}");
    let counter = world.cluster.count_writes(NODE).await;
    let since = world.sim.gate.journal.last();
    eventually(DEADLINE, "two more listings", async || {
        let entries = world.sim.gate.journal.since(since);
        entries.iter().filter(|entry| entry.path.contains("tag_name=roadstead%3Ac%3A")).count() >= 2
    })
    .await;
    // Back-off: after 2 s, then 4 s, then 8 s; each order is an intent written, and its end.
    let (orders, writes) = (world.writes_since(since).len(), counter.count(&shop, "web-1").await.writes);
    assert!(orders <= 3 && writes <= 6, "{orders} orders, {writes} writes");
    world.sim.digitalocean.put_token(token.clone());
    world.ready(&shop, "web-1").await;
    assert_eq!(world.droplets().len(), 1);

    world.sim.digitalocean.put_token(token.clone().with_scopes(&["read", "droplet:create", "tag:create"]));
    world.cluster.delete_object(NODE, Some(&shop), "web-1").await;
    let message = world.refused(&shop, "web-1", "PermissionMissing").await;
    assert!(message.contains("DELETE /v2/droplets") && message.contains("droplet:delete"), "{message}");
    world.sim.digitalocean.put_token(token);
    world.gone(&shop, "web-1").await;
    assert_eq!(world.droplets().len(), 0);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_named_and_keeps_what_it_has_while_its_siblings_go_on() {
    const CRD: &str = "apiextensions.k8s.io/v1/CustomResourceDefinition";
    const OLDER: &str = "older";
    let mut world = World::with(lively).await;
    let shop = world.cluster.namespace("shop").await;
    rack(&world, &shop, OLDER, 1).await;
    world.ready(&shop, OLDER).await;
    // As if both were stored before the field became a number.
    let strict = world.cluster.get(CRD, None, "nodes.roadstead.dev").await.unwrap().data["spec"]["versions"].clone();
    let mut loose = strict.clone();
    let any = json!({"x-kubernetes-preserve-unknown-fields": true, "description": "anything"});
    loose[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["ttl"] = any;
    let define = async |versions: &Value| {
        let change = json!({"spec": {"versions": versions}});
        world.cluster.patch(CRD, None, "nodes.roadstead.dev", &change).await;
    };
    define(&loose).await;
    let unreadable = json!({"spec": {"ttl": "soon"}});
    eventually(DEADLINE, "the loose definition to be served", async || {
        let dry = ["patch", "rnode", OLDER, "-n", &shop, "--type=merge", "--dry-run=server", "-p"];
        let patch = unreadable.to_string();
        world.cluster.kubectl(&[&dry[..], &[patch.as_str()]].concat()).await
    })
    .await;
    world.cluster.patch(NODE, Some(&shop), OLDER, &unreadable).await;
    world.apply_node(&shop, "odd", "providerRef: {name: racks}, address: 203.0.113.2, ttl: soon").await;
    define(&strict).await;

    rack(&world, &shop, "sibling", 3).await;
    world.ready(&shop, "sibling").await;
    eventually(DEADLINE, "an event about each", async || {
        let mut found = Vec::new();
        for name in [OLDER, "odd"] {
            found.extend(world.cluster.events(NODE, Some(&shop), name).await);
        }
        let about: Vec<_> = found.iter().filter(|event| event["reason"] == "Undecodable").collect();
        let wrong = |event: &&Value| event["type"] == "Warning" && event["note"].to_string().contains("soon");
        if about.len() >= 2 && about.iter().all(wrong) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    // An operator that never saw them whole knows no more than that they exist.
    world.operator.restart().await;
    rack(&world, &shop, "younger", 4).await;
    world.ready(&shop, "younger").await;
    assert!(world.operator.log().contains(&format!("{shop}/odd")), "the log names it");
    let orphan = NewDroplet {
        account: "main".into(),
        name: "lost-1".into(),
        region: "fra1".into(),
        size: "s-1vcpu-1gb".into(),
        image: "debian-12-x64".into(),
        tags: ["c:test1", "o:aaaaaaaaaaaaaaaaaaaaaaaaaa", "k:0123456789abcdef"]
            .map(|t| format!("roadstead:{t}"))
            .into(),
    };
    world.sim.clock.advance(SignedDuration::from_hours(-1));
    world.sim.digitalocean.add_droplet(&orphan).unwrap();
    world.sim.clock.advance(SignedDuration::from_hours(1));
    let claim = "{apiVersion: roadstead.dev/v1alpha1, kind: HostnameClaim, metadata: {name: nobodys.example.com}, spec: {fqdn: nobodys.example.com, namespace: shop, holders: {dns: {kind: Node, name: nobody, uid: none}}}}";
    world.cluster.apply(claim).await;
    // Claims and orphans were swept with it in sight.
    world.cluster.wait_gone(CLAIM, None, "nobodys.example.com", DEADLINE).await;
    eventually(DEADLINE, "the orphan in status", async || {
        let provider = world.cluster.get(PROVIDER, None, "do").await.unwrap();
        field(&provider, "/status/orphans/0").as_str().is_some_and(|orphan| orphan.contains("lost-1"))
    })
    .await;
    let zone = world.cluster.get(ZONE, None, "example-com").await.unwrap();
    assert_eq!(field(&zone, "/status/orphans"), &Value::Null);
    for claim in ["older.example.com", "rs--ip.203.0.113.1"] {
        let claim = world.cluster.get(CLAIM, None, claim).await.unwrap();
        assert_eq!(field(&claim, "/spec/holders/dns/name"), OLDER);
    }
    assert_eq!(world.record("older.example.com").unwrap().content, "203.0.113.1");

    for name in [OLDER, "odd"] {
        world.cluster.patch(NODE, Some(&shop), name, &json!({"spec": {"ttl": 60}})).await;
        world.ready(&shop, name).await;
        assert_eq!(world.record(&format!("{name}.example.com")).unwrap().ttl, 60, "{name}");
    }
}

#[tokio::test]
async fn listings_that_fail_for_long_change_and_write_nothing_and_what_happened_meanwhile_is_repaired() {
    let world = World::with(lively).await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    rack(&world, &shop, "kept", 1).await;
    let web = world.ready(&shop, "web-1").await;
    world.ready(&shop, "kept").await;
    let counter = world.cluster.count_writes(NODE).await;
    let since = world.sim.gate.journal.last();
    world.sim.gate.faults.add(fault("digitalocean", Some("GET"), Some("/v2/droplets?*"), None, status(500, None)));
    world.sim.gate.faults.add(fault("cloudflare", Some("GET"), Some("*/dns_records?*"), None, status(500, None)));
    edit(&world, "kept.example.com");
    edit(&world, "web-1.example.com");
    eventually(DEADLINE, "each listing to fail four times", async || {
        let failed: Vec<u64> = world.sim.gate.faults.list().into_iter().map(|(_, matched)| matched).collect();
        if failed.iter().all(|matched| *matched >= 4) { Ok(()) } else { Err(format!("{failed:?}")) }
    })
    .await;
    says(&world, ZONE, "example-com", "Reachable", "False", "Unavailable").await;
    says(&world, PROVIDER, "do", "Reachable", "False", "Unavailable").await;
    assert_eq!(world.writes_since(since), [] as [String; 0]);
    assert_eq!(counter.counts().await, std::collections::BTreeMap::new(), "no Node was written");

    world.sim.gate.faults.clear();
    repaired(&world, "kept.example.com", "203.0.113.1").await;
    repaired(&world, "web-1.example.com", field(&web, "/status/addresses/public4").as_str().unwrap()).await;
    for (kind, name) in [(ZONE, "example-com"), (PROVIDER, "do")] {
        says(&world, kind, name, "Reachable", "True", "Reachable").await;
    }
    assert_eq!(world.droplets().len(), 1);
}
