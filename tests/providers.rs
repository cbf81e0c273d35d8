//! Providers: their credential, their networks, and the brake that keeps a moved directory from destroying a fleet.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod world;

use std::time::Duration;

use cloudsim::digitalocean::{NewDroplet, TokenSpec};
use support::{OperatorOptions, condition, eventually};
use world::{DEADLINE, NODE, PROVIDER, World, field};

async fn lively() -> World {
    World::with(|options| OperatorOptions { resync: Duration::from_secs(2), ..options }).await
}

/// Waits until a condition of a Provider has this status and reason, and gives its message.
async fn says(world: &World, name: &str, type_: &str, status: &str, reason: &str) -> String {
    eventually(DEADLINE, &format!("Provider {name} to say {type_}={status} {reason}"), async || {
        let object = world.cluster.get(PROVIDER, None, name).await.ok_or("no such Provider".to_owned())?;
        let found = condition(&object, type_).cloned().unwrap_or_default();
        if found["status"] == status && found["reason"] == reason {
            Ok(found["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(object.data["status"].to_string())
        }
    })
    .await
}

/// The hold in the Provider's status, once it is about so many Nodes.
async fn hold(world: &World, name: &str, reason: &str, nodes: i64) -> String {
    eventually(DEADLINE, &format!("Provider {name} to hold {nodes} Nodes"), async || {
        let object = world.cluster.get(PROVIDER, None, name).await.ok_or("no such Provider".to_owned())?;
        let hold = field(&object, "/status/hold");
        if hold["reason"] == reason && hold["nodes"] == nodes {
            Ok(hold["id"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(hold.to_string())
        }
    })
    .await
}

#[tokio::test]
async fn a_token_of_another_team_does_nothing_and_the_right_one_heals() {
    let world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    world.ready(&shop, "web-1").await;
    let pinned = world.cluster.get(PROVIDER, None, "do").await.unwrap();
    let account = field(&pinned, "/status/accountID").as_str().unwrap().to_owned();

    world.sim.digitalocean.put_account(cloudsim::digitalocean::AccountSpec::new("other"));
    world.sim.digitalocean.put_token(TokenSpec::new("other-token").of_account("other"));
    let before = world.sim.gate.journal.last();
    world.cluster.credential("digitalocean", "digitalocean", "other-token").await;
    says(&world, "do", "CredentialReady", "False", "AccountChanged").await;
    says(&world, "do", "Stalled", "True", "AccountChanged").await;
    world.apply_node(&shop, "web-2", "providerRef: {name: do}").await;
    world.refused(&shop, "web-2", "ProviderNotReady").await;
    let web = world.node(&shop, "web-1").await;
    assert_eq!(condition(&web, "Ready").unwrap()["status"], "True", "no absence is concluded from another account");
    assert_eq!(world.writes_since(before), Vec::<String>::new());

    world.sim.digitalocean.put_token(TokenSpec::new("new-token"));
    world.cluster.credential("digitalocean", "digitalocean", "new-token").await;
    world.ready(&shop, "web-2").await;
    let provider = world.cluster.wait_condition(PROVIDER, None, "do", "Ready", "True", DEADLINE).await;
    assert_eq!(field(&provider, "/status/accountID"), account.as_str());
    assert!(!world.operator.log().contains("new-token"));
}

#[tokio::test]
async fn a_revoked_token_is_said_at_once_and_costs_no_node_anything() {
    let world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    world.ready(&shop, "web-1").await;
    assert!(world.sim.digitalocean.revoke_token("digitalocean-token"));
    says(&world, "do", "CredentialReady", "False", "CredentialRefused").await;
    says(&world, "do", "Ready", "True", "Ready").await;
    assert_eq!(condition(&world.node(&shop, "web-1").await, "Ready").unwrap()["status"], "True");
    assert_eq!((world.records().len(), world.droplets().len()), (1, 1));
}

#[tokio::test]
async fn a_network_that_is_none_is_named_and_nothing_may_use_it() {
    let world = lively().await;
    let change = serde_json::json!({"spec": {"static": {"allowedCIDRs": ["203.0.113.0/24", "203.0.114.7/24"]}}});
    world.cluster.patch(PROVIDER, None, "racks", &change).await;
    let message = says(&world, "racks", "Ready", "False", "InvalidCIDR").await;
    assert!(message.contains("spec.static.allowedCIDRs[1] `203.0.114.7/24`"), "{message}");
    let change = serde_json::json!({"spec": {"static": {"allowedCIDRs": ["203.0.113.0/24"]}}});
    world.cluster.patch(PROVIDER, None, "racks", &change).await;
    world.cluster.wait_condition(PROVIDER, None, "racks", "Ready", "True", DEADLINE).await;
}

#[tokio::test]
async fn a_mass_deletion_waits_for_a_person_and_then_proceeds_wholly() {
    let mut world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    for n in 1..=9 {
        world
            .apply_node(&shop, &format!("rack-{n}"), &format!("providerRef: {{name: racks}}, address: 203.0.113.{n}"))
            .await;
    }
    for n in 1..=9 {
        world.ready(&shop, &format!("rack-{n}")).await;
    }
    // One deletion is nothing special.
    world.cluster.delete_object(NODE, Some(&shop), "rack-9").await;
    world.gone(&shop, "rack-9").await;

    // The operator meets all the others at once, as after a directory was moved while it was down.
    world.operator.kill9().await;
    let before = world.sim.gate.journal.last();
    for n in 1..=8 {
        world.cluster.delete_object(NODE, Some(&shop), &format!("rack-{n}")).await;
    }
    world.operator.restart().await;
    let id = hold(&world, "racks", "DeletionHeld", 8).await;
    for n in 1..=8 {
        let message = world.refused(&shop, &format!("rack-{n}"), "DeletionHeld").await;
        assert!(message.contains("Provider racks"), "{message}");
    }
    let message = says(&world, "racks", "Ready", "False", "DeletionHeld").await;
    assert!(message.contains(&format!("roadstead.dev/approve-deletions={id}")), "{message}");
    eventually(DEADLINE, "the event", async || {
        let events = world.cluster.events(PROVIDER, None, "racks").await;
        events.iter().filter(|event| event["reason"] == "DeletionHeld").count() == 1
    })
    .await;
    assert_eq!(world.writes_since(before), Vec::<String>::new());
    assert_eq!(world.records().len(), 8);

    world.annotate(PROVIDER, None, "racks", "approve-deletions", "deletion-00000000").await;
    says(&world, "racks", "Ready", "False", "DeletionHeld").await;
    assert_eq!(world.records().len(), 8, "another hold's id approves nothing");
    world.annotate(PROVIDER, None, "racks", "approve-deletions", &id).await;
    for n in 1..=8 {
        world.gone(&shop, &format!("rack-{n}")).await;
    }
    assert_eq!(world.records(), []);
    world.cluster.wait_condition(PROVIDER, None, "racks", "Ready", "True", DEADLINE).await;
}

#[tokio::test]
async fn a_fleet_that_vanishes_at_once_keeps_its_names_until_a_person_says_so() {
    let world = lively().await;
    let shop = world.cluster.namespace("shop").await;
    for n in 1..=7 {
        world.apply_node(&shop, &format!("web-{n}"), "providerRef: {name: do}").await;
    }
    for n in 1..=7 {
        world.ready(&shop, &format!("web-{n}")).await;
    }
    let before = world.sim.gate.journal.last();
    for droplet in world.droplets() {
        assert!(world.sim.digitalocean.remove_droplet(droplet.id));
    }
    let id = hold(&world, "do", "MassAbsence", 7).await;
    for n in 1..=7 {
        world.refused(&shop, &format!("web-{n}"), "MassAbsence").await;
    }
    assert_eq!(world.records().len(), 7);
    assert_eq!(world.writes_since(before), Vec::<String>::new());
    world.annotate(PROVIDER, None, "do", "approve-deletions", &id).await;
    for n in 1..=7 {
        world.refused(&shop, &format!("web-{n}"), "VMLost").await;
    }
    assert_eq!(world.records(), []);
}

#[tokio::test]
async fn a_second_vm_of_a_live_node_goes_by_itself_and_one_of_nobody_is_only_reported() {
    let world = World::with(|options| OperatorOptions {
        resync: Duration::from_secs(2),
        orphan_interval: Duration::from_secs(2),
        ..options
    })
    .await;
    let shop = world.cluster.namespace("shop").await;
    world.apply_node(&shop, "web-1", "providerRef: {name: do}").await;
    world.ready(&shop, "web-1").await;
    let own = world.droplets()[0].clone();
    let droplet = |name: &str, tags: Vec<String>| NewDroplet {
        account: own.account.clone(),
        name: name.into(),
        region: own.region.clone(),
        size: own.size.clone(),
        image: own.image.clone(),
        tags,
    };
    let lost = ["c:test1", "o:aaaaaaaaaaaaaaaaaaaaaaaaaa", "k:0123456789abcdef"].map(|tag| format!("roadstead:{tag}"));
    // Both are old enough for anything to be said of them.
    world.sim.clock.advance(jiff::SignedDuration::from_hours(-1));
    let twin = world.sim.digitalocean.add_droplet(&droplet(&own.name, own.tags.clone())).unwrap().id;
    let orphan = world.sim.digitalocean.add_droplet(&droplet("lost-1", lost.to_vec())).unwrap().id;
    world.sim.clock.advance(jiff::SignedDuration::from_hours(1));

    eventually(DEADLINE, "the twin alone is deleted", async || {
        let ids: Vec<u64> = world.droplets().iter().map(|droplet| droplet.id).collect();
        (ids.contains(&own.id) && ids.contains(&orphan) && !ids.contains(&twin)).then_some(()).ok_or(format!("{ids:?}"))
    })
    .await;
    eventually(DEADLINE, "the orphan in status", async || {
        let provider = world.cluster.get(PROVIDER, None, "do").await.unwrap();
        let orphans = field(&provider, "/status/orphans").clone();
        let text = orphans[0].as_str().unwrap_or_default();
        let alone = orphans.as_array().is_some_and(|all| all.len() == 1);
        (alone && text.starts_with(&format!("VM {orphan} lost-1"))).then_some(()).ok_or(orphans)
    })
    .await;
    assert_eq!(condition(&world.node(&shop, "web-1").await, "Ready").unwrap()["status"], "True");
    assert!(world.droplets().iter().any(|droplet| droplet.id == orphan));
}
