//! The life of an Environment: a slug, a droplet and a record as one thing that can end by itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod world;

use std::time::Duration;

use cloudsim::cloudflare::Draft;
use cloudsim::digitalocean::Settings;
use cloudsim::faults::{Action, Fault};
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{OperatorOptions, condition, eventually};
use world::{CLAIM, DEADLINE, NODE, World, field};

const ENVIRONMENT: &str = "roadstead.dev/v1alpha1/Environment";

/// A world whose operator looks again soon.
async fn world() -> World {
    World::with(|options| OperatorOptions { resync: Duration::from_secs(3), ..options }).await
}

async fn apply(world: &World, namespace: &str, name: &str, spec: &str) {
    world
        .cluster
        .apply(&format!(
            "apiVersion: roadstead.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{node: {{providerRef: {{name: do}}, zoneRef: {{name: example-com}}}}, {spec}}}"
        ))
        .await;
}

async fn get(world: &World, namespace: &str, name: &str) -> DynamicObject {
    world.cluster.get(ENVIRONMENT, Some(namespace), name).await.unwrap()
}

async fn ready(world: &World, namespace: &str, name: &str) -> DynamicObject {
    world.cluster.wait_condition(ENVIRONMENT, Some(namespace), name, "Ready", "True", DEADLINE).await
}

/// Waits until `seen` likes the Environment.
async fn until(
    world: &World,
    namespace: &str,
    name: &str,
    what: &str,
    seen: impl Fn(&DynamicObject) -> bool,
) -> DynamicObject {
    eventually(DEADLINE, what, async || {
        let environment = get(world, namespace, name).await;
        if seen(&environment) { Ok(environment) } else { Err(environment.data["status"].to_string()) }
    })
    .await
}

async fn change(world: &World, namespace: &str, name: &str, spec: Value) {
    world.cluster.patch(ENVIRONMENT, Some(namespace), name, &json!({ "spec": spec })).await;
}

async fn gone(world: &World, namespace: &str, name: &str) {
    world.cluster.wait_gone(ENVIRONMENT, Some(namespace), name, DEADLINE).await;
}

async fn reasons(world: &World, namespace: &str, name: &str) -> Vec<String> {
    let events = world.cluster.events(ENVIRONMENT, Some(namespace), name).await;
    events.iter().map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

fn phase(environment: &DynamicObject) -> &str {
    field(environment, "/status/phase").as_str().unwrap_or_default()
}

fn says(environment: &DynamicObject, type_: &str, status: &str, reason: &str) -> bool {
    condition(environment, type_).is_some_and(|c| c["status"] == status && c["reason"] == reason)
}

fn soon(seconds: i64) -> Value {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    json!(Timestamp::from_second(at.as_second()).unwrap().to_string())
}

/// Lets enough time pass in the outside world for resolvers to forget a name that was withdrawn.
fn forget_names(world: &World) {
    world.sim.clock.advance(SignedDuration::from_secs(301));
}

/// Where in `writes` the first call with this text is.
fn at(writes: &[String], what: &str) -> usize {
    writes.iter().position(|write| write.contains(what)).unwrap_or_else(|| panic!("{what}: {writes:?}"))
}

#[tokio::test]
async fn an_environment_is_a_slug_a_droplet_and_a_record_and_all_three_go_with_it() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    apply(&world, &shop, "review-42", "owner: team-shop").await;
    let environment = ready(&world, &shop, "review-42").await;
    let status =
        |pointer: &str| field(&environment, &format!("/status/{pointer}")).as_str().unwrap_or_default().to_owned();
    let slug = status("slug");
    assert!(slug.split('-').count() == 2, "{slug}");
    assert_eq!(status("phase"), "Active");
    assert_eq!(status("domain"), format!("{slug}.example.com"));
    assert_eq!(status("url"), format!("https://{slug}.example.com"));
    let droplet = world.droplets().pop().unwrap();
    let record = world.record(&status("domain")).unwrap();
    assert_eq!((record.content.as_str(), record.ttl, record.proxied), (status("ipAddress").as_str(), 300, false));
    assert_eq!(droplet.public4.unwrap().to_string(), status("ipAddress"));
    assert_eq!((status("vmId"), status("dnsRecordId")), (droplet.id.to_string(), record.id.clone()));
    assert_eq!(status("createdAt"), environment.metadata.creation_timestamp.clone().unwrap().0.to_string());
    for type_ in ["Provisioned", "Published", "Resolvable"] {
        assert_eq!(condition(&environment, type_).unwrap()["status"], "True", "{type_}");
    }
    let node = world.node(&shop, "review-42-vm").await;
    let owner = &node.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("Environment", Some(true)));
    assert_eq!(Some(&owner.uid), environment.metadata.uid.as_ref());
    assert_eq!(reasons(&world, &shop, "review-42").await, ["Ready"]);

    // Left alone it writes nothing, neither here nor outside, however often it is looked at.
    let (version, seq) =
        (get(&world, &shop, "review-42").await.metadata.resource_version, world.sim.gate.journal.last());
    apply(&world, &shop, "other", "").await;
    ready(&world, &shop, "other").await;
    world.cluster.delete_object(ENVIRONMENT, Some(&shop), "other").await;
    gone(&world, &shop, "other").await;
    assert_eq!(get(&world, &shop, "review-42").await.metadata.resource_version, version);
    let ours = droplet.id.to_string();
    assert!(!world.writes_since(seq).iter().any(|write| write.contains(&ours)));

    // A lost status is found again, and a Node that a person deleted comes back under the same name.
    world.cluster.patch_status(ENVIRONMENT, Some(&shop), "review-42", &json!({"status": null})).await;
    let again = until(&world, &shop, "review-42", "the status is back", |e| phase(e) == "Active").await;
    assert_eq!((field(&again, "/status/slug"), world.droplets().len()), (&json!(slug), 1));
    world.cluster.delete_object(NODE, Some(&shop), "review-42-vm").await;
    eventually(DEADLINE, "another droplet", async || {
        world.droplets().first().is_some_and(|droplet| droplet.id.to_string() != ours)
    })
    .await;
    forget_names(&world);
    until(&world, &shop, "review-42", "the other droplet in use", |e| {
        phase(e) == "Active" && field(e, "/status/vmId").as_str().is_some_and(|id| id != ours)
    })
    .await;
    assert_eq!((world.droplets().len(), world.record(&format!("{slug}.example.com")).is_some()), (1, true));

    let droplet = world.droplets().pop().unwrap();
    let before = world.sim.gate.journal.last();
    world.cluster.delete_object(ENVIRONMENT, Some(&shop), "review-42").await;
    gone(&world, &shop, "review-42").await;
    assert!(world.cluster.get(NODE, Some(&shop), "review-42-vm").await.is_none());
    assert_eq!((world.records().len(), world.droplets().len()), (0, 0));
    let writes = world.writes_since(before);
    let deleted = at(&writes, &format!("DELETE /v2/droplets/{}", droplet.id));
    assert!(at(&writes, "/dns_records") < deleted, "the name goes before its VM: {writes:?}");
}

#[tokio::test]
async fn a_name_that_cannot_be_published_costs_the_droplet_and_heals_when_it_is_free() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    world.sim.digitalocean.set_settings(Settings { address_after_ms: 4_000, ..Settings::immediate() });
    apply(&world, &shop, "preview", "slug: brave-tiger").await;
    eventually(DEADLINE, "a droplet that has no address yet", async || !world.droplets().is_empty()).await;
    let draft = Draft {
        name: Some("brave-tiger".into()),
        kind: Some("AAAA".into()),
        content: Some("2001:db8::9".into()),
        ..Draft::default()
    };
    let foreign = world.sim.cloudflare.add_record("example.com", &draft).unwrap();
    let refused =
        until(&world, &shop, "preview", "the foreign record is met", |e| says(e, "Stalled", "True", "ForeignRecord"))
            .await;
    assert!(phase(&refused) == "Error" && says(&refused, "Ready", "False", "ForeignRecord"));
    let message = condition(&refused, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("2001:db8::9"), "{message}");
    eventually(DEADLINE, "the droplet is rolled back", async || world.droplets().is_empty()).await;
    assert!(reasons(&world, &shop, "preview").await.contains(&"RolledBack".to_owned()));

    // The next Node meets the record before it buys anything, however often it looks.
    let stalled = until(&world, &shop, "preview", "another Node refused without a VM", |e| {
        field(e, "/status/nodeRef/name").is_string()
            && field(e, "/status/vmId").is_null()
            && says(e, "Stalled", "True", "ForeignRecord")
    })
    .await;
    assert_eq!(phase(&stalled), "Error");
    let bought = |world: &World| world.writes_since(0).iter().filter(|w| w.as_str() == "POST /v2/droplets").count();
    assert_eq!(bought(&world), 1);
    world.sim.digitalocean.set_settings(Settings::immediate());
    assert!(world.sim.cloudflare.remove_record(&foreign));
    ready(&world, &shop, "preview").await;
    assert_eq!((bought(&world), world.droplets().len()), (2, 1));
}

#[tokio::test]
async fn at_its_end_vm_and_record_go_and_a_longer_life_brings_both_back() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    apply(&world, &shop, "kept", "lifetime: 72h").await;
    apply(&world, &shop, "deleted", "onExpiry: Delete").await;
    let first = ready(&world, &shop, "kept").await;
    ready(&world, &shop, "deleted").await;
    let slug = field(&first, "/status/slug").clone();
    let born = first.metadata.creation_timestamp.as_ref().unwrap().0;
    let end = born + SignedDuration::from_hours(72);
    assert_eq!(field(&first, "/status/expiresAt"), end.to_string().as_str());

    let before = world.sim.gate.journal.last();
    change(&world, &shop, "kept", json!({"lifetime": null, "expiresAt": soon(20)})).await;
    change(&world, &shop, "deleted", json!({"expiresAt": soon(20)})).await;
    let expired = until(&world, &shop, "kept", "its end", |e| phase(e) == "Expired").await;
    assert!(says(&expired, "Ready", "True", "Expired"));
    assert_eq!((field(&expired, "/status/slug"), field(&expired, "/status/vmId")), (&slug, &Value::Null));
    gone(&world, &shop, "deleted").await;
    eventually(DEADLINE, "nothing is left outside", async || world.droplets().is_empty() && world.records().is_empty())
        .await;
    let writes = world.writes_since(before);
    assert!(at(&writes, "/dns_records") < at(&writes, "DELETE /v2/droplets/"), "{writes:?}");

    forget_names(&world);
    change(&world, &shop, "kept", json!({"expiresAt": null, "lifetime": "72h"})).await;
    let revived = until(&world, &shop, "kept", "its return", |e| phase(e) == "Active").await;
    assert_eq!(field(&revived, "/status/slug"), &slug);
    assert_eq!(world.droplets().len(), 1);
    let events = world.cluster.events(ENVIRONMENT, Some(&shop), "kept").await;
    let warnings: Vec<_> = events.iter().filter(|e| e["type"] == "Warning" && e["reason"] != "ExpiringSoon").collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    let reasons = reasons(&world, &shop, "kept").await;
    for reason in ["ExpiringSoon", "Expired", "Revived"] {
        assert_eq!(reasons.iter().filter(|r| *r == reason).count(), 1, "{reason}: {reasons:?}");
    }
}

#[tokio::test]
async fn a_given_slug_that_is_taken_names_its_holder_and_a_derived_one_gives_way() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.7, hostname: brave-tiger").await;
    world.ready(&shop, "rack-1").await;
    apply(&world, &shop, "given", "slug: brave-tiger").await;
    let refused = until(&world, &shop, "given", "the refusal", |e| says(e, "Stalled", "True", "HostnameTaken")).await;
    let message = condition(&refused, "Stalled").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("Node {shop}/rack-1")) && message.contains("brave-tiger"), "{message}");
    assert!(world.cluster.get(NODE, Some(&shop), "given-vm").await.is_none());
    world.cluster.delete_object(NODE, Some(&shop), "rack-1").await;
    world.gone(&shop, "rack-1").await;
    forget_names(&world);
    ready(&world, &shop, "given").await;

    apply(&world, &shop, "derived", "").await;
    let first = ready(&world, &shop, "derived").await;
    let slug = field(&first, "/status/slug").as_str().unwrap().to_owned();
    world.cluster.delete_object(ENVIRONMENT, Some(&shop), "derived").await;
    gone(&world, &shop, "derived").await;
    forget_names(&world);
    let node = format!("providerRef: {{name: racks}}, address: 203.0.113.8, hostname: {slug}");
    world.apply_node(&shop, "rack-2", &node).await;
    world.ready(&shop, "rack-2").await;
    apply(&world, &shop, "derived", "").await;
    let second = ready(&world, &shop, "derived").await;
    let other = field(&second, "/status/slug").as_str().unwrap().to_owned();
    assert_ne!(other, slug);
    let claim = world.cluster.get(CLAIM, None, &format!("{other}.example.com")).await.unwrap();
    assert_eq!(field(&claim, "/spec/holders/dns/name"), "derived-vm");
}

#[tokio::test]
async fn a_deletion_that_does_not_get_on_shows_where_it_is_and_the_annotation_leaves_that_half_behind() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    apply(&world, &shop, "preview", "slug: brave-tiger").await;
    ready(&world, &shop, "preview").await;
    world.sim.gate.faults.add(Fault {
        cloud: Some("digitalocean".into()),
        method: Some("DELETE".into()),
        path: Some("/v2/droplets/*".into()),
        from: 1,
        count: None,
        action: Action::Status { status: 503, body: None, retry_after: None },
    });
    world.cluster.delete_object(ENVIRONMENT, Some(&shop), "preview").await;
    let stuck = until(&world, &shop, "preview", "the half that fails", |e| {
        let message = condition(e, "Ready").map(|c| c["message"].to_string()).unwrap_or_default();
        phase(e) == "Deleting" && message.contains("DigitalOcean")
    })
    .await;
    assert_eq!(condition(&stuck, "Ready").unwrap()["status"], "False");
    assert!(world.records().is_empty() && world.droplets().len() == 1, "the name is gone, the VM is not");
    world.annotate(ENVIRONMENT, Some(&shop), "preview", "abandon", "vm").await;
    gone(&world, &shop, "preview").await;
    assert_eq!(world.droplets().len(), 1, "given up means left alone");
}

#[tokio::test]
async fn a_paused_environment_does_nothing_until_it_is_let_go_on() {
    let world = world().await;
    let shop = world.cluster.namespace("shop").await;
    apply(&world, &shop, "preview", "").await;
    ready(&world, &shop, "preview").await;
    world.annotate(ENVIRONMENT, Some(&shop), "preview", "paused", "true").await;
    world.cluster.wait_condition(NODE, Some(&shop), "preview-vm", "Paused", "True", DEADLINE).await;
    let paused = until(&world, &shop, "preview", "the pause", |e| says(e, "Paused", "True", "Paused")).await;
    assert_eq!((phase(&paused), condition(&paused, "Ready").unwrap()["status"].as_str()), ("Active", Some("True")));
    world.cluster.delete_object(ENVIRONMENT, Some(&shop), "preview").await;
    // Another one's whole life shows that passes went by meanwhile.
    apply(&world, &shop, "other", "").await;
    ready(&world, &shop, "other").await;
    assert!(world.node(&shop, "preview-vm").await.metadata.deletion_timestamp.is_none());
    assert_eq!(world.droplets().len(), 2);
    let annotations = json!({"metadata": {"annotations": {"roadstead.dev/paused": null}}});
    world.cluster.patch(ENVIRONMENT, Some(&shop), "preview", &annotations).await;
    gone(&world, &shop, "preview").await;
    assert_eq!(world.droplets().len(), 1);
}
