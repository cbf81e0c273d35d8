//! The life of a Node: an existing host's name, and a droplet with its name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod world;

use std::time::Duration;

use cloudsim::cloudflare::{Draft, RecordEdit};
use cloudsim::dns::Weather;
use support::{condition, eventually};
use world::{CLAIM, DEADLINE, NODE, World, field};

#[tokio::test]
async fn a_static_host_gets_its_name_and_gives_it_back() {
    let world = World::start().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.7").await;
    let node = world.ready(&shop, "rack-1").await;
    let record = world.record("rack-1.example.com").unwrap();
    assert_eq!(
        (record.kind.as_str(), record.content.as_str(), record.ttl, record.proxied),
        ("A", "203.0.113.7", 300, false)
    );
    assert!(record.comment.unwrap().starts_with("roadstead/1 c=test1 o="));
    assert_eq!(field(&node, "/status/fqdn"), "rack-1.example.com");
    assert_eq!(field(&node, "/status/record/id"), record.id.as_str());
    assert_eq!(field(&node, "/status/phase"), "Active");
    let claim = world.cluster.get(CLAIM, None, "rack-1.example.com").await.unwrap();
    assert_eq!(field(&claim, "/spec/holders/dns/name"), "rack-1");

    world.cluster.delete_object(NODE, Some(&shop), "rack-1").await;
    world.gone(&shop, "rack-1").await;
    assert_eq!(world.records(), []);
    let claim = world.cluster.get(CLAIM, None, "rack-1.example.com").await.unwrap();
    assert_eq!(field(&claim, "/status/state"), "Tombstone");
    assert!(world.cluster.get(CLAIM, None, "rs--ip.203.0.113.7").await.is_none());
}

#[tokio::test]
async fn a_droplet_is_bought_named_and_deleted_only_after_its_name_is_gone() {
    let world = World::start().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}, ttl: 60, userData: '#!/bin/sh -e'").await;
    let node = world.ready(&shop, "web-1").await;
    let droplets = world.droplets();
    assert_eq!(droplets.len(), 1);
    let droplet = &droplets[0];
    let uid = node.metadata.uid.clone().unwrap();
    assert_eq!(droplet.name, format!("web-1-{}-1", &uid[..8]));
    assert_eq!((droplet.size.as_str(), droplet.region.as_str()), ("s-1vcpu-1gb", "fra1"));
    assert_eq!(droplet.tags.iter().filter(|tag| tag.starts_with("roadstead:")).count(), 3, "{:?}", droplet.tags);
    assert!(droplet.user_data.as_ref().unwrap().contains("#!/bin/sh -e"));
    assert_eq!(field(&node, "/status/vmID"), droplet.id.to_string().as_str());
    let address = droplet.public4.unwrap().to_string();
    assert_eq!(world.record("web-1.example.com").unwrap().content, address);

    let before = world.sim.gate.journal.last();
    world.cluster.delete_object(NODE, Some(&shop), "web-1").await;
    world.gone(&shop, "web-1").await;
    assert_eq!((world.records().len(), world.droplets().len()), (0, 0));
    let writes = world.writes_since(before);
    assert_eq!(writes.len(), 3, "{writes:?}");
    assert!(writes[0].ends_with("/dns_records/batch"), "{writes:?}");
    assert_eq!(writes[1], format!("DELETE /v2/droplets/{}", droplet.id));
    assert!(writes[2].starts_with("DELETE /v2/tags/roadstead"), "{writes:?}");
}

#[tokio::test]
async fn a_foreign_record_at_the_name_is_met_before_a_vm_is_bought_and_its_removal_heals() {
    let world = World::with(|options| support::OperatorOptions { resync: Duration::from_secs(3), ..options }).await;
    let shop = world.cluster.namespace("shop").await;
    let draft = Draft {
        name: Some("web-1".into()),
        kind: Some("CNAME".into()),
        content: Some("elsewhere.example.net".into()),
        ..Draft::default()
    };
    let id = world.sim.cloudflare.add_record("example.com", &draft).unwrap();
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    let message = world.refused(&shop, "web-1", "ForeignRecord").await;
    assert!(message.contains("CNAME") && message.contains("elsewhere.example.net"), "{message}");
    assert_eq!(world.droplets().len(), 0);
    assert!(world.sim.cloudflare.remove_record(&id));
    world.ready(&shop, "web-1").await;
    assert_eq!(world.droplets().len(), 1);
}

#[tokio::test]
async fn a_name_has_one_owner_and_the_loser_is_told_who() {
    let world = World::start().await;
    let (shop, blog) = (world.cluster.namespace("shop").await, world.cluster.namespace("blog").await);
    world.apply_node(&shop, "a", "providerRef: {name: racks}, address: 203.0.113.1, hostname: www").await;
    world.ready(&shop, "a").await;
    world.apply_node(&blog, "b", "providerRef: {name: racks}, address: 203.0.113.2, hostname: www").await;
    let message = world.refused(&blog, "b", "HostnameTaken").await;
    assert!(message.contains(&format!("Node {shop}/a")), "{message}");
    world.apply_node(&blog, "c", "providerRef: {name: racks}, address: 203.0.113.1").await;
    let message = world.refused(&blog, "c", "AddressTaken").await;
    assert!(message.contains(&format!("Node {shop}/a")), "{message}");
    world.cluster.delete_object(NODE, Some(&shop), "a").await;
    world.gone(&shop, "a").await;
    // The address is free at once, the name stays reserved against other namespaces until its TTL is over.
    world.ready(&blog, "c").await;
    let message = world.refused(&blog, "b", "HostnameReserved").await;
    assert!(message.contains(&shop), "{message}");
}

#[tokio::test]
async fn what_a_person_does_to_the_record_is_repaired_or_stated() {
    let world = World::with(|options| support::OperatorOptions { resync: Duration::from_secs(2), ..options }).await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.7").await;
    world.ready(&shop, "rack-1").await;
    let content = || world.record("rack-1.example.com").map(|record| record.content);
    let id = world.record("rack-1.example.com").unwrap().id;
    let edit = RecordEdit { content: Some("198.51.100.9".into()), ..RecordEdit::default() };
    assert!(world.sim.cloudflare.edit_record(&id, &edit));
    eventually(DEADLINE, "the edited record is repaired", async || content().as_deref() == Some("203.0.113.7")).await;
    assert_eq!(world.record("rack-1.example.com").unwrap().id, id);
    assert!(world.sim.cloudflare.remove_record(&id));
    eventually(DEADLINE, "the deleted record is back", async || content().is_some()).await;
    let id = world.record("rack-1.example.com").unwrap().id;
    let edit = RecordEdit { comment: Some("mine now".into()), ..RecordEdit::default() };
    assert!(world.sim.cloudflare.edit_record(&id, &edit));
    let message = world.refused(&shop, "rack-1", "ForeignRecord").await;
    assert!(message.contains("203.0.113.7"), "{message}");
    assert_eq!(world.record("rack-1.example.com").unwrap().comment.as_deref(), Some("mine now"));
}

#[tokio::test]
async fn a_vm_that_vanished_loses_its_name_and_comes_back_only_where_asked() {
    let world = World::with(|options| support::OperatorOptions { resync: Duration::from_secs(2), ..options }).await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "kept", "providerRef: {name: do}").await;
    world.apply_node(&shop, "again", "providerRef: {name: do}, replaceLost: true").await;
    world.ready(&shop, "kept").await;
    let first = world.ready(&shop, "again").await;
    for droplet in world.droplets() {
        assert!(world.sim.digitalocean.remove_droplet(droplet.id));
    }
    let message = world.refused(&shop, "kept", "VMLost").await;
    assert!(message.contains("replaceLost"), "{message}");
    assert_eq!(world.record("kept.example.com"), None);
    eventually(DEADLINE, "the new VM has the name", async || {
        world.droplets().len() == 1 && world.record("again.example.com").is_some()
    })
    .await;
    // The resolver would hold the former address, or that there was none, for a while.
    world.sim.dns.flush();
    eventually(DEADLINE, "the lost VM is replaced", async || {
        let node = world.node(&shop, "again").await;
        let replaced =
            field(&node, "/status/vmID").is_string() && field(&node, "/status/vmID") != field(&first, "/status/vmID");
        replaced && condition(&node, "Ready").is_some_and(|ready| ready["status"] == "True")
    })
    .await;
    assert_eq!(world.droplets().len(), 1);
    assert_eq!(field(&world.node(&shop, "again").await, "/status/incarnation"), 2);
}

#[tokio::test]
async fn a_replacement_moves_the_name_before_the_old_vm_goes() {
    let world = World::start().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}, ttl: 60").await;
    let first = world.ready(&shop, "web-1").await;
    let old = world.droplets()[0].clone();
    world.cluster.patch(NODE, Some(&shop), "web-1", &serde_json::json!({"spec": {"size": "s-2vcpu-2gb"}})).await;
    let message = world.refused(&shop, "web-1", "ReplacementRequired").await;
    assert!(message.contains("s-2vcpu-2gb") && message.contains("roadstead.dev/replace"), "{message}");
    assert_eq!(world.droplets().len(), 1);
    let before = world.sim.gate.journal.last();
    world.annotate(NODE, Some(&shop), "web-1", "replace", "now").await;
    eventually(DEADLINE, "the name moved", async || {
        let record = world.record("web-1.example.com");
        record.is_some_and(|record| Some(record.content) != old.public4.map(|ip| ip.to_string()))
    })
    .await;
    // The resolver would hold the former address for its TTL.
    world.sim.dns.flush();
    eventually(DEADLINE, "the new VM alone is left", async || {
        let droplets = world.droplets();
        droplets.len() == 1 && droplets[0].id != old.id
    })
    .await;
    let node = world.ready(&shop, "web-1").await;
    let new = world.droplets()[0].clone();
    assert_eq!(new.size, "s-2vcpu-2gb");
    assert!(new.name.ends_with("-2"), "{}", new.name);
    let record = world.record("web-1.example.com").unwrap();
    assert_eq!(record.content, new.public4.unwrap().to_string());
    assert_eq!(field(&first, "/status/record/id"), record.id.as_str(), "the record moved, it was not made anew");
    assert_eq!(field(&node, "/status/incarnation"), 2);
    let writes = world.writes_since(before);
    let at = |what: &str| {
        writes.iter().position(|write| write.contains(what)).unwrap_or_else(|| panic!("{what}: {writes:?}"))
    };
    assert!(at("POST /v2/droplets") < at("batch") && at("batch") < at("DELETE /v2/droplets"), "{writes:?}");
}

#[tokio::test]
async fn an_orphaned_vm_stays_without_our_mark_and_an_abandoned_record_stays_with_an_event() {
    let world = World::start().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "kept", "providerRef: {name: do}, deletionPolicy: Orphan").await;
    world.ready(&shop, "kept").await;
    world.cluster.delete_object(NODE, Some(&shop), "kept").await;
    world.gone(&shop, "kept").await;
    let droplets = world.droplets();
    assert_eq!(droplets.len(), 1);
    assert!(!droplets[0].tags.iter().any(|tag| tag.starts_with("roadstead:")), "{:?}", droplets[0].tags);
    assert_eq!(world.record("kept.example.com"), None);

    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.7").await;
    world.ready(&shop, "rack-1").await;
    world.sim.cloudflare.revoke_token("cloudflare-token");
    world.cluster.delete_object(NODE, Some(&shop), "rack-1").await;
    eventually(DEADLINE, "the way out is told", async || {
        let node = world.node(&shop, "rack-1").await;
        let ready = condition(&node, "Ready").cloned().unwrap_or_default();
        if ready["status"] == "False" { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
    world.annotate(NODE, Some(&shop), "rack-1", "abandon", "dns").await;
    world.gone(&shop, "rack-1").await;
    assert!(world.record("rack-1.example.com").is_some(), "given up means left alone");
    let events = world.cluster.events(NODE, Some(&shop), "rack-1").await;
    assert!(events.iter().any(|event| event["reason"] == "Abandoned"), "{events:?}");
}

#[tokio::test]
async fn a_paused_node_is_left_alone_and_keeps_ready() {
    let world = World::with(|options| support::OperatorOptions { resync: Duration::from_secs(2), ..options }).await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.7").await;
    world.ready(&shop, "rack-1").await;
    world.annotate(NODE, Some(&shop), "rack-1", "paused", "true").await;
    world.cluster.wait_condition(NODE, Some(&shop), "rack-1", "Paused", "True", DEADLINE).await;
    world.cluster.patch(NODE, Some(&shop), "rack-1", &serde_json::json!({"spec": {"address": "203.0.113.8"}})).await;
    // Another Node's whole life shows that passes went by meanwhile.
    world.apply_node(&shop, "rack-2", "providerRef: {name: racks}, address: 203.0.113.9").await;
    world.ready(&shop, "rack-2").await;
    assert_eq!(world.record("rack-1.example.com").unwrap().content, "203.0.113.7");
    let node = world.node(&shop, "rack-1").await;
    assert_eq!(condition(&node, "Ready").unwrap()["status"], "True");
    // The resolver would hold the former address for its TTL.
    world.sim.dns.flush();
    world.annotate(NODE, Some(&shop), "rack-1", "paused", "false").await;
    eventually(DEADLINE, "the change is caught up with", async || {
        world.record("rack-1.example.com").is_some_and(|record| record.content == "203.0.113.8")
    })
    .await;
    world.ready(&shop, "rack-1").await;
    assert!(world.cluster.get(CLAIM, None, "rs--ip.203.0.113.7").await.is_none(), "the former address is given back");
}

#[tokio::test]
async fn an_account_that_is_full_heals_when_its_limit_rises_and_an_unknown_size_when_the_spec_does() {
    let world = World::start().await;
    let shop = world.cluster.namespace("shop").await;
    world.sim.digitalocean.set_droplet_limit("main", 0);
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    world.refused(&shop, "web-1", "DropletLimit").await;
    world.sim.digitalocean.set_droplet_limit("main", 5);
    world.ready(&shop, "web-1").await;

    world.apply_node(&shop, "web-2", "providerRef: {name: do}, size: s-gigantic").await;
    let message = world.refused(&shop, "web-2", "UnknownSize").await;
    assert!(message.contains("s-gigantic") && message.contains("spec.size"), "{message}");
    world.cluster.patch(NODE, Some(&shop), "web-2", &serde_json::json!({"spec": {"size": "s-1vcpu-1gb"}})).await;
    world.ready(&shop, "web-2").await;
}

#[tokio::test]
async fn a_resolver_that_lags_delays_resolvable_but_is_no_failure() {
    let world = World::start().await;
    let shop = world.cluster.namespace("shop").await;
    world.sim.dns.set_weather(Weather { resolver_silent: true, ..Weather::default() });
    let change = serde_json::json!({"spec": {"propagation": {"timeout": "3s"}}});
    world.cluster.patch(world::ZONE, None, "example-com", &change).await;
    world.apply_node(&shop, "rack-1", "providerRef: {name: racks}, address: 203.0.113.7").await;
    let node = world.ready(&shop, "rack-1").await;
    let resolvable = condition(&node, "Resolvable").unwrap();
    assert_eq!((&resolvable["status"], &resolvable["reason"]), (&"False".into(), &"PropagationTimeout".into()));
    world.sim.dns.set_weather(Weather::default());
    world.cluster.wait_condition(NODE, Some(&shop), "rack-1", "Resolvable", "True", DEADLINE).await;
}
