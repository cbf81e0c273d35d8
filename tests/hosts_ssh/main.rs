//! Nodes that log in at their hosts, the operator against a real OpenSSH server on loopback. That server runs no command
//! that it is asked to: what bootstrapping does to a host is tested on container VMs (`make test-hosts`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

#[allow(dead_code)]
#[path = "../ssh/rig.rs"]
mod rig;
#[path = "../world/mod.rs"]
mod world;

use std::fs;
use std::time::Duration;

use kube::api::DynamicObject;
use rig::Sshd;
use roadstead::host::ssh::KeyPair;
use serde_json::json;
use support::{OperatorOptions, condition, eventually};
use world::{DEADLINE, NODE, World, field};

const OPERATOR: &str = "roadstead-system";

/// As a host answers whose user may not become root.
const NO_SUDO: &str = "ForceCommand echo 'sudo: a password is required' >&2; exit 1";

/// The provider of the machine that this runs on.
const LOOPBACK: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: Provider
metadata: {name: loopback}
spec:
  static: {allowedCIDRs: [127.0.0.0/8]}
  allowedNamespaces: {from: All}
";

async fn world_with_images() -> World {
    let image = |name: &str| format!("{name}@sha256:{}", "a".repeat(64));
    let arguments = ["--caddy-image".to_owned(), image("caddy"), "--router-image".to_owned(), image("roadstead")];
    let resync = Duration::from_secs(2);
    World::with(|options| OperatorOptions { resync, arguments: arguments.into(), ..options }).await
}

fn fingerprint(key: &KeyPair) -> String {
    key.fingerprint()
}

fn bootstrapped(node: &DynamicObject) -> (String, String) {
    let condition = condition(node, "Bootstrapped").cloned().unwrap_or_default();
    let word = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (word("status"), word("reason"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_host_is_believed_only_as_it_was_told_and_what_keeps_us_out_is_said() {
    let mut sshd = Sshd::with(NO_SUDO).await;
    fs::write(sshd.path("authorized_keys"), "").unwrap();
    let world = world_with_images().await;
    world.cluster.apply(LOOPBACK).await;
    let shop = world.cluster.namespace("shop").await;
    let (user, port) = (rig::user(), sshd.port);
    let spec = format!(
        "providerRef: {{name: loopback}}, address: 127.0.0.1, host: {{manage: Caddy}}, ssh: {{user: {user}, port: {port}}}"
    );
    world.apply_node(&shop, "rack-1", &spec).await;

    let message = world.refused(&shop, "rack-1", "HostKeyUnknown").await;
    assert!(message.contains("spec.ssh.hostKeys") && message.contains("trustOnFirstUse"), "{message}");
    let node = world.node(&shop, "rack-1").await;
    assert_eq!(bootstrapped(&node), ("False".to_owned(), "HostKeyUnknown".to_owned()));
    let public = field(&node, "/status/sshPublicKey").as_str().unwrap().to_owned();
    assert!(public.starts_with("ssh-ed25519 "), "{public}");
    assert!(!sshd.log().contains("Connection from"), "nobody came: {}", sshd.log());
    // Published it is: the name comes before the host.
    assert_eq!(condition(&node, "Resolvable").unwrap()["status"], "True");

    let trust = json!({"spec": {"ssh": {"trustOnFirstUse": true}}});
    world.cluster.patch(NODE, Some(&shop), "rack-1", &trust).await;
    let message = world.refused(&shop, "rack-1", "SSHKeyRefused").await;
    assert!(message.contains(&public) && message.contains("authorized_keys"), "{message}");

    fs::write(sshd.path("authorized_keys"), format!("{public}\n")).unwrap();
    let message = world.refused(&shop, "rack-1", "NoSudo").await;
    assert!(message.contains("NOPASSWD"), "{message}");
    let secret = format!("roadstead-ssh-{shop}");
    let pin = format!("/data/host-key.{}", node.metadata.uid.as_deref().unwrap());
    let kept = world.cluster.get("v1/Secret", Some(OPERATOR), &secret).await.unwrap();
    assert!(field(&kept, &pin).is_string(), "the key of the first contact is pinned");

    // Somebody else at the address.
    let first = std::mem::replace(&mut sshd.host_key, KeyPair::generate("other").unwrap());
    sshd.restart().await;
    let message = world.refused(&shop, "rack-1", "HostKeyChanged").await;
    for part in [fingerprint(&first), fingerprint(&sshd.host_key), "spec.ssh.hostKeys".to_owned()] {
        assert!(message.contains(&part), "{message} says nothing of {part}");
    }
    assert!(!sshd.log().contains("Accepted publickey"), "nothing was sent: {}", sshd.log());

    // A status that is wiped takes no pin along.
    world.cluster.patch_status(NODE, Some(&shop), "rack-1", &json!({"status": null})).await;
    world.refused(&shop, "rack-1", "HostKeyChanged").await;

    sshd.host_key = first;
    sshd.restart().await;
    world.refused(&shop, "rack-1", "NoSudo").await;

    world.cluster.delete_object(NODE, Some(&shop), "rack-1").await;
    world.gone(&shop, "rack-1").await;
    let kept = world.cluster.get("v1/Secret", Some(OPERATOR), &secret).await.unwrap();
    assert!(field(&kept, &pin).is_null(), "and is forgotten with the Node");
    eventually(DEADLINE, "the host that stays to be told", async || {
        let events = world.cluster.events(NODE, Some(&shop), "rack-1").await;
        let told = events.iter().find(|event| event["reason"] == "HostLeft");
        told.map(|_| ()).ok_or(format!("{events:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_answers_for_is_tried_again() {
    let mut sshd = Sshd::with(NO_SUDO).await;
    let world = world_with_images().await;
    world.cluster.apply(LOOPBACK).await;
    let shop = world.cluster.namespace("shop").await;
    sshd.stop().await;
    let (user, port, key) = (rig::user(), sshd.port, sshd.host_key.public_line());
    let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let spec = format!(
        "providerRef: {{name: loopback}}, address: 127.0.0.1, host: {{manage: Caddy}}, \
         ssh: {{user: {user}, port: {port}, hostKeys: ['{key}']}}"
    );
    world.apply_node(&shop, "rack-1", &spec).await;
    let message = world.refused(&shop, "rack-1", "HostUnreachable").await;
    assert!(message.contains(&format!("127.0.0.1:{port}")), "{message}");
    let ready = condition(&world.node(&shop, "rack-1").await, "Reconciling").cloned();
    assert!(ready.is_some_and(|reconciling| reconciling["status"] == "True"), "nobody has to do anything");
    let public = field(&world.node(&shop, "rack-1").await, "/status/sshPublicKey").as_str().unwrap().to_owned();
    fs::write(sshd.path("authorized_keys"), format!("{public}\n")).unwrap();
    sshd.restart().await;
    world.refused(&shop, "rack-1", "NoSudo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vms_get_the_key_of_their_namespace_where_we_log_in_and_an_operator_without_images_says_so() {
    let world = World::start().await;
    let (shop, blog) = (world.cluster.namespace("shop").await, world.cluster.namespace("blog").await);
    let managed = "providerRef: {name: do}, host: {manage: Caddy}";
    for (namespace, name, spec) in [
        (&shop, "a", managed),
        (&shop, "b", "providerRef: {name: do}, ssh: {user: deploy}"),
        (&blog, "c", managed),
        (&shop, "d", "providerRef: {name: do}"),
    ] {
        world.apply_node(namespace, name, spec).await;
    }
    let message = world.refused(&shop, "a", "HostImagesMissing").await;
    assert!(message.contains("hosts.caddyImage") && message.contains("hosts.routerImage"), "{message}");
    world.refused(&blog, "c", "HostImagesMissing").await;
    world.ready(&shop, "b").await;
    let plain = world.ready(&shop, "d").await;
    assert!(field(&plain, "/status/sshPublicKey").is_null());
    assert!(condition(&plain, "Bootstrapped").is_none());

    let public = async |namespace: &str, name: &str| {
        let node = world.node(namespace, name).await;
        field(&node, "/status/sshPublicKey").as_str().unwrap().to_owned()
    };
    let (a, b, c) = (public(&shop, "a").await, public(&shop, "b").await, public(&blog, "c").await);
    assert_eq!(a, b);
    assert_ne!(a, c);
    let data = |name: &str| {
        let droplets = world.droplets();
        let droplet = droplets.into_iter().find(|droplet| droplet.name.starts_with(&format!("{name}-"))).unwrap();
        droplet.user_data.unwrap_or_default()
    };
    assert!(data("a").contains(&a) && data("b").contains(&a) && data("c").contains(&c));
    assert_eq!(data("d"), "");
}
