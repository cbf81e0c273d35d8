//! Zones: whatever may be wrong with a credential, a domain held twice, and the ways to go.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::maybe_infinite_iter,
    reason = "tests may say bluntly what they expect"
)]

mod world;

use std::time::Duration;

use cloudsim::cloudflare::{ScriptInfo, TokenSpec, ZoneSpec};
use roadstead::api::names::{ClusterId, Mark};
use serde_json::{Value, json};
use support::{OperatorOptions, condition, eventually};
use world::{CLAIM, DEADLINE, NODE, PROVIDER, World, ZONE, field};

const SECRET: &str = "v1/Secret";
const SYSTEM: &str = "roadstead-system";
const GROUP: &str = "roadstead.dev/v1alpha1/ServerGroup";

/// A world that looks at its Secrets every two seconds.
async fn lively() -> World {
    World::with(|options| OperatorOptions { resync: Duration::from_secs(2), ..options }).await
}

fn zone_at(account: &str, name: &str) -> ZoneSpec {
    serde_json::from_value(json!({"name": name, "account": account})).unwrap()
}

fn token(spec: Value) -> TokenSpec {
    serde_json::from_value(spec).unwrap()
}

fn zone(name: &str, domain: &str, secret: &str) -> String {
    format!(
        "{{apiVersion: roadstead.dev/v1alpha1, kind: Zone, metadata: {{name: {name}}}, spec: {{domain: {domain}, \
         cloudflare: {{tokenSecretRef: {{name: {secret}}}}}, allowedNamespaces: {{from: All}}}}}}"
    )
}

fn secret(name: &str, labels: &Value, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SYSTEM, "labels": labels},
        "stringData": data})
    .to_string()
}

/// An account whose `example.com` comes before the zone `id`: the simulated DNS serves the last of a name.
fn account_before(id: &str) -> String {
    let scratch = cloudsim::cloudflare::State::new(cloudsim::clock::Clock::default());
    let before = |account: &String| *scratch.add_zone(zone_at(account, "example.com")) < *id;
    (0..100).map(|n| format!("other-{n}")).find(before).unwrap()
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

async fn told(world: &World, kind: &str, name: &str, reason: &str) -> usize {
    world.cluster.events(kind, None, name).await.iter().filter(|event| event["reason"] == reason).count()
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_is_said_with_its_remedy_and_heals() {
    let world = lively().await;
    let labels = json!({"roadstead.dev/credential": "cloudflare"});
    let cloudflare = &world.sim.cloudflare;
    cloudflare.put_token(token(json!({"value": "expired", "expires_on": "2020-01-01T00:00:00Z"})));
    cloudflare.put_token(token(json!({"value": "weak", "permissions": ["dns:write"]})));
    cloudflare.put_token(token(json!({"value": "foreign", "account": "other"})));
    // What the Secret holds (nothing: there is none), the reason, and what the message has to tell.
    let cases = [
        ("missing", None, "SecretMissing", "create it with the label roadstead.dev/credential=cloudflare"),
        (
            "unlabelled",
            Some((json!({}), json!({"token": "cloudflare-token"}))),
            "SecretUnlabelled",
            "kubectl -n roadstead-system label secret unlabelled",
        ),
        (
            "other-use",
            Some((json!({"roadstead.dev/credential": "digitalocean"}), json!({"token": "cloudflare-token"}))),
            "SecretUnlabelled",
            "roadstead.dev/credential=cloudflare",
        ),
        ("other-key", Some((labels.clone(), json!({"tokn": "cloudflare-token"}))), "SecretKeyMissing", "`token`"),
        ("empty", Some((labels.clone(), json!({"token": ""}))), "SecretEmpty", "put the token there"),
        (
            "wrong",
            Some((labels.clone(), json!({"token": "wrong"}))),
            "CredentialRefused",
            "put a valid one into its Secret",
        ),
        (
            "expired",
            Some((labels.clone(), json!({"token": "expired"}))),
            "CredentialRefused",
            "put a new one into its Secret",
        ),
        ("weak", Some((labels.clone(), json!({"token": "weak"}))), "PermissionMissing", "Zone > Zone > Read"),
        (
            "foreign",
            Some((labels.clone(), json!({"token": "foreign"}))),
            "ZoneNotFound",
            "add the domain to its Cloudflare account",
        ),
    ];
    for (name, held, _, _) in &cases {
        cloudflare.add_zone(zone_at("main", &format!("{name}.example.net")));
        if let Some((labels, data)) = held {
            world.cluster.apply(&secret(name, labels, data)).await;
        }
        world.cluster.apply(&zone(name, &format!("{name}.example.net"), name)).await;
    }
    for (name, _, reason, remedy) in &cases {
        let message = says(&world, ZONE, name, "CredentialReady", "False", reason).await;
        assert!(message.contains(remedy), "{name}: {message}");
        assert!(!message.contains("cloudflare-token"), "{message}");
        says(&world, ZONE, name, "Ready", "False", reason).await;
        eventually(DEADLINE, "an event", async || told(&world, ZONE, name, reason).await == 1).await;
    }
    // With a good token, and a newline that an editor left at its end, each of them comes right.
    for (name, ..) in &cases {
        world.cluster.delete_object(SECRET, Some(SYSTEM), name).await;
        world.cluster.apply(&secret(name, &labels, &json!({"token": "cloudflare-token\n"}))).await;
    }
    for (name, ..) in &cases {
        let zone = world.cluster.wait_condition(ZONE, None, name, "Ready", "True", DEADLINE).await;
        assert_eq!(condition(&zone, "CredentialReady").unwrap()["status"], "True", "{name}");
        let secret = world.cluster.get(SECRET, Some(SYSTEM), name).await.unwrap();
        let version = secret.metadata.resource_version.unwrap();
        assert_eq!(field(&zone, "/status/credential/secretVersion"), version.as_str(), "{name}");
        assert!(condition(&zone, "Stalled").is_none() && condition(&zone, "Reconciling").is_none(), "{name}");
    }
    assert_eq!(world.writes_since(0), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_of_another_account_writes_nothing_and_the_last_good_one_still_withdraws() {
    let mut world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "kept", "providerRef: {name: racks}, address: 203.0.113.1").await;
    world.apply_node(&shop, "going", "providerRef: {name: racks}, address: 203.0.113.2").await;
    world.ready(&shop, "kept").await;
    world.ready(&shop, "going").await;
    let pinned = world.cluster.get(ZONE, None, "example-com").await.unwrap();
    let ours = field(&pinned, "/status/zoneID").as_str().unwrap().to_owned();
    // The same domain in another account: the token is valid, and sees a zone of this name.
    let other = account_before(&ours);
    world.sim.cloudflare.add_zone(zone_at(&other, "example.com"));
    world.sim.cloudflare.put_token(token(json!({"value": "other-token", "account": other})));

    let before = world.sim.gate.journal.last();
    world.cluster.credential("cloudflare", "cloudflare", "other-token").await;
    let message = says(&world, ZONE, "example-com", "CredentialReady", "False", "AccountChanged").await;
    assert!(message.contains(field(&pinned, "/status/accountID").as_str().unwrap()), "{message}");
    says(&world, ZONE, "example-com", "Stalled", "True", "AccountChanged").await;
    world.apply_node(&shop, "new", "providerRef: {name: racks}, address: 203.0.113.3").await;
    let message = world.refused(&shop, "new", "ZoneNotReady").await;
    assert!(message.contains("example-com"), "{message}");
    let kept = world.node(&shop, "kept").await;
    assert_eq!(condition(&kept, "Ready").unwrap()["status"], "True");
    assert_eq!(world.writes_since(before), Vec::<String>::new());
    // A restart makes no difference: nothing is written with the wrong token, and nothing concluded from it.
    world.operator.kill9().await;
    let killed = world.sim.gate.journal.last();
    world.operator.restart().await;
    eventually(DEADLINE, "the token is asked about again", async || {
        world.sim.gate.journal.since(killed).iter().filter(|entry| entry.path.starts_with("/zones?name=")).count() > 2
    })
    .await;
    assert_eq!(world.writes_since(before), Vec::<String>::new());
    assert_eq!(condition(&world.node(&shop, "kept").await, "Ready").unwrap()["status"], "True");

    // Back to the right one; then the wrong one again, while the writer has the good one in hand.
    world.cluster.credential("cloudflare", "cloudflare", "cloudflare-token").await;
    world.ready(&shop, "new").await;
    world.cluster.credential("cloudflare", "cloudflare", "other-token").await;
    says(&world, ZONE, "example-com", "CredentialReady", "False", "AccountChanged").await;
    world.cluster.delete_object(NODE, Some(&shop), "going").await;
    world.gone(&shop, "going").await;
    let writes = world.writes_since(before);
    assert!(writes.len() >= 2 && writes.iter().all(|write| write.contains(&ours)), "{writes:?}");
    let last = world.sim.gate.journal.since(before).into_iter().rfind(|entry| entry.method != "GET").unwrap();
    let deletes = last.body.as_ref().and_then(|body| body["deletes"].as_array()).map(Vec::len);
    assert!(last.committed && deletes == Some(1), "{last:?}");
}

#[tokio::test]
async fn a_domain_has_one_zone_and_the_next_in_line_takes_it_when_the_first_goes() {
    let world = lively().await;
    world.cluster.wait_condition(ZONE, None, "example-com", "Ready", "True", DEADLINE).await;
    world.cluster.apply(&zone("second", "example.com", "cloudflare")).await;
    let message = says(&world, ZONE, "second", "Ready", "False", "DomainTaken").await;
    assert!(message.contains("Zone example-com"), "{message}");
    says(&world, ZONE, "second", "Stalled", "True", "DomainTaken").await;
    let claim = world.cluster.get(CLAIM, None, "rs--zone.example.com").await.unwrap();
    assert_eq!(field(&claim, "/spec/holders/dns/name"), "example-com");
    world.cluster.delete_object(ZONE, None, "example-com").await;
    world.cluster.wait_condition(ZONE, None, "second", "Ready", "True", DEADLINE).await;
    let claim = world.cluster.get(CLAIM, None, "rs--zone.example.com").await.unwrap();
    assert_eq!(field(&claim, "/spec/holders/dns/name"), "second");
    world.cluster.delete_object(ZONE, None, "second").await;
    world.cluster.wait_gone(ZONE, None, "second", DEADLINE).await;
    assert!(world.cluster.get(CLAIM, None, "rs--zone.example.com").await.is_none());
}

#[tokio::test]
async fn a_revoked_token_deletes_nothing_and_a_new_one_works_without_a_restart() {
    let world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.1").await;
    world.ready(&shop, "rack-1").await;
    let pid = world.operator.pid();
    world.sim.cloudflare.revoke_token("cloudflare-token");
    says(&world, ZONE, "example-com", "CredentialReady", "False", "CredentialRefused").await;
    // Looking fails, which says nothing about what is in place.
    says(&world, ZONE, "example-com", "Ready", "True", "Ready").await;
    assert_eq!(condition(&world.node(&shop, "rack-1").await, "Ready").unwrap()["status"], "True");
    assert_eq!(world.records().len(), 1);
    world.apply_node(&shop, "rack-2", "providerRef: {name: racks}, address: 203.0.113.2").await;
    world.refused(&shop, "rack-2", "ZoneNotReady").await;

    world.sim.cloudflare.put_token(token(json!({"value": "new-token", "expires_on": "2126-01-01T00:00:00Z"})));
    world.cluster.credential("cloudflare", "cloudflare", "new-token").await;
    world.ready(&shop, "rack-2").await;
    let zone = world.cluster.wait_condition(ZONE, None, "example-com", "CredentialReady", "True", DEADLINE).await;
    assert_eq!(field(&zone, "/status/credential/expiresAt"), "2126-01-01T00:00:00Z");
    assert_eq!(world.operator.pid(), pid);
    eventually(DEADLINE, "the event", async || told(&world, ZONE, "example-com", "TokenInstalled").await == 1).await;
    assert!(!world.operator.log().contains("new-token"));
}

#[tokio::test]
async fn everything_may_be_deleted_in_the_wrong_order_secrets_first() {
    let world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.1").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    world.ready(&shop, "rack-1").await;
    world.ready(&shop, "web-1").await;

    for name in ["cloudflare", "digitalocean"] {
        world.cluster.delete_object(SECRET, Some(SYSTEM), name).await;
    }
    says(&world, ZONE, "example-com", "CredentialReady", "False", "SecretMissing").await;
    says(&world, PROVIDER, "do", "CredentialReady", "False", "SecretMissing").await;
    world.cluster.delete_object(ZONE, None, "example-com").await;
    world.cluster.delete_object(PROVIDER, None, "do").await;
    world.cluster.delete_object(PROVIDER, None, "racks").await;
    let message = says(&world, ZONE, "example-com", "Ready", "False", "InUse").await;
    assert!(message.contains("2 objects") && message.contains(&format!("Node {shop}/rack-1")), "{message}");
    let message = says(&world, PROVIDER, "do", "Ready", "False", "InUse").await;
    assert!(message.contains(&format!("Node {shop}/web-1")), "{message}");
    assert_eq!((world.records().len(), world.droplets().len()), (2, 1), "nothing is taken away before its Node");

    world.cluster.delete_object("v1/Namespace", None, &shop).await;
    for (kind, name) in [(ZONE, "example-com"), (PROVIDER, "do"), (PROVIDER, "racks")] {
        world.cluster.wait_gone(kind, None, name, DEADLINE).await;
    }
    world.cluster.wait_gone("v1/Namespace", None, &shop, DEADLINE).await;
    assert_eq!((world.records(), world.droplets()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_zone_in_use_serves_the_deletion_of_its_nodes_after_a_restart() {
    let mut world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.1").await;
    world.ready(&shop, "rack-1").await;
    world.cluster.delete_object(ZONE, None, "example-com").await;
    says(&world, ZONE, "example-com", "Ready", "False", "InUse").await;
    world.operator.kill9().await;
    world.cluster.delete_object(NODE, Some(&shop), "rack-1").await;
    world.operator.restart().await;
    world.gone(&shop, "rack-1").await;
    world.cluster.wait_gone(ZONE, None, "example-com", DEADLINE).await;
    assert_eq!(world.records(), []);
}

#[tokio::test]
async fn a_record_without_an_owner_is_reported_once_and_never_deleted() {
    let world = World::with(|options| OperatorOptions {
        resync: Duration::from_secs(2),
        orphan_interval: Duration::from_secs(2),
        ..options
    })
    .await;
    let comment = "roadstead/1 c=test1 o=aaaaaaaaaaaaaaaaaaaaaaaaaa k=0123456789abcdef";
    let draft = json!({"name": "lost", "type": "A", "content": "203.0.113.9", "ttl": 300, "comment": comment});
    let id = world.sim.cloudflare.add_record("example.com", &serde_json::from_value(draft).unwrap()).unwrap();
    let before = world.sim.gate.journal.last();
    eventually(DEADLINE, "the orphan in status", async || {
        let zone = world.cluster.get(ZONE, None, "example-com").await.unwrap();
        let orphans = field(&zone, "/status/orphans").clone();
        let text = orphans[0].as_str().unwrap_or_default();
        (text.starts_with("lost.example.com A 203.0.113.9") && text.contains(&id)).then_some(()).ok_or(orphans)
    })
    .await;
    eventually(DEADLINE, "the event", async || told(&world, ZONE, "example-com", "OrphansFound").await == 1).await;
    let metrics = world.operator.metrics().await;
    assert!(metrics.contains("roadstead_orphans{kind=\"record\"} 1"), "{metrics}");
    assert!(world.sim.cloudflare.remove_record(&id));
    eventually(DEADLINE, "the report is empty again", async || {
        field(&world.cluster.get(ZONE, None, "example-com").await.unwrap(), "/status/orphans").is_null()
    })
    .await;
    assert_eq!(told(&world, ZONE, "example-com", "OrphansFound").await, 1);
    assert_eq!(world.writes_since(before), Vec::<String>::new());
}

#[tokio::test]
async fn a_worker_without_an_owner_is_reported_once_and_never_deleted() {
    const FORMER: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
    let world = World::with(|options| OperatorOptions {
        resync: Duration::from_secs(2),
        orphan_interval: Duration::from_secs(2),
        ..options
    })
    .await;
    let cloudflare = &world.sim.cloudflare;
    let (account, shop) = (cloudflare.add_account("main"), world.cluster.namespace("shop").await);
    let group = format!(
        "{{apiVersion: roadstead.dev/v1alpha1, kind: ServerGroup, metadata: {{name: web, namespace: {shop}}}, spec: \
         {{zoneRef: {{name: example-com}}}}}}"
    );
    world.cluster.apply(&group).await;
    world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    let mark = |cluster: &str, name: &str| {
        let cluster = ClusterId::parse(cluster).unwrap();
        Mark::new(cluster, "ServerGroup", &shop, name, FORMER).unwrap().comment()
    };
    let put = |script: &str, bindings: &[(&str, String)]| {
        let text = |(name, text): &(&str, String)| json!({"type": "plain_text", "name": name, "text": text});
        let bindings = bindings.iter().map(text).collect();
        let info = ScriptInfo { text: "export default {}".to_owned(), bindings, versions: 1 };
        world.sim.cloudflare.put_script("main", script, &info).unwrap();
    };
    put("lost-lb", &[("ROADSTEAD_OWNER", mark("test1", "lost"))]);
    // Another cluster's, an earlier group's whose namesake lives and may adopt it, and two that bear no mark.
    put("other-lb", &[("ROADSTEAD_OWNER", mark("other", "lost"))]);
    put("web-lb", &[("ROADSTEAD_OWNER", mark("test1", "web"))]);
    put("allowing", &[("ROADSTEAD_ALLOW", mark("test1", "lost"))]);
    put("somebodys", &[]);
    cloudflare.put_token(token(json!({"value": "workers-token", "permissions": ["workers:read"]})));
    world.cluster.credential("workers", "cloudflare", "workers-token").await;
    let before = world.sim.gate.journal.last();
    let workers = json!({"tokenSecretRef": {"name": "workers"}, "allowedNamespaces": {"from": "None"}});
    let change = json!({"spec": {"cloudflare": {"workers": workers}}});
    world.cluster.patch(ZONE, None, "example-com", &change).await;
    let reported = async || {
        let zone = world.cluster.get(ZONE, None, "example-com").await.unwrap();
        field(&zone, "/status/orphanWorkers").clone()
    };
    let expected = json!([format!("Worker lost-lb of account {account}: no object has its owner")]);
    eventually(DEADLINE, "the orphan in status", async || {
        let found = reported().await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
    eventually(DEADLINE, "the event", async || told(&world, ZONE, "example-com", "OrphansFound").await == 1).await;
    let metrics = world.operator.metrics().await;
    assert!(metrics.contains("roadstead_orphans{kind=\"worker\"} 1"), "{metrics}");

    // From now on a sweep is one listing, and of one that fails nothing follows.
    let calls = |since: u64, end: &str| {
        let entries = world.sim.gate.journal.since(since);
        entries.into_iter().filter(|entry| entry.path.contains("/workers/scripts") && entry.path.ends_with(end)).count()
    };
    let swept = async |times: usize| {
        let since = world.sim.gate.journal.last();
        eventually(DEADLINE, "sweeps", async || calls(since, "/workers/scripts") >= times).await;
    };
    let since = world.sim.gate.journal.last();
    swept(2).await;
    assert_eq!(calls(since, "/settings"), 0, "what has not changed is not read again");
    world.sim.gate.faults.add(
        serde_json::from_value(json!({
            "cloud": "cloudflare", "path": "/accounts/*/workers/scripts", "action": {"status": {"status": 500}},
        }))
        .unwrap(),
    );
    assert!(world.sim.cloudflare.remove_script("main", "lost-lb"));
    swept(3).await;
    assert_eq!(reported().await, expected);
    world.sim.gate.faults.clear();
    eventually(DEADLINE, "the report is empty again", async || reported().await.is_null()).await;
    assert_eq!(told(&world, ZONE, "example-com", "OrphansFound").await, 1);
    assert_eq!(world.writes_since(before), Vec::<String>::new());
    assert_eq!(world.sim.cloudflare.scripts("main"), ["allowing", "other-lb", "somebodys", "web-lb"]);
}
