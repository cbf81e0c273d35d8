//! The operator as the chart installs it: with the rights of its service account, and with tokens that may do no more
//! than the README asks for.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use cloudsim::{Options, Sim};
use serde_json::json;
use support::{Cluster, ControlPlane, Operator, OperatorOptions, SimAddresses, eventually};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NAMESPACE: &str = "roadstead-system";
const NODE: &str = "roadstead.dev/v1alpha1/Node";
const ENVIRONMENT: &str = "roadstead.dev/v1alpha1/Environment";
const LONG: Duration = Duration::from_mins(2);

/// The scopes that the README's table names.
const DIGITALOCEAN_SCOPES: [&str; 11] = [
    "droplet:create",
    "droplet:read",
    "droplet:update",
    "droplet:delete",
    "tag:create",
    "tag:read",
    "tag:delete",
    "account:read",
    "regions:read",
    "sizes:read",
    "image:read",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_live_and_die_with_the_charts_rights_and_the_least_tokens() {
    let control_plane = ControlPlane::start().await;
    let cluster = control_plane.cluster().await;
    let sim = Sim::start(Options::default()).await.unwrap();
    sim.cloudflare.add_zone(serde_json::from_value(json!({"name": "example.com"})).unwrap());
    let token = json!({"value": "cf-least", "permissions": ["zone:read", "dns:write"]});
    sim.cloudflare.put_token(serde_json::from_value(token).unwrap());
    let token = json!({"value": "do-least", "scopes": DIGITALOCEAN_SCOPES});
    sim.digitalocean.put_token(serde_json::from_value(token).unwrap());

    cluster.credential("cloudflare", "cloudflare", "cf-least").await;
    cluster.credential("digitalocean", "digitalocean", "do-least").await;
    let chart = format!("{ROOT}/charts/roadstead");
    cluster.helm(&["install", "roadstead", &chart, "--namespace", NAMESPACE]).await.unwrap();

    let mut options = OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead"));
    options.kubeconfig = Some(control_plane.service_account_kubeconfig(NAMESPACE, "roadstead").await);
    let addresses = SimAddresses {
        cloudflare: sim.cloudflare_api(),
        digitalocean: sim.digitalocean_api(),
        resolver: sim.resolver(),
        authority: Some(sim.dns()),
    };
    let mut operator = Operator::start(&control_plane, &addresses, options).await;

    let examples = format!("{ROOT}/deploy/examples");
    cluster.apply_directory(Path::new(&examples)).await;
    for (kind, name) in [(NODE, "rack-1"), (NODE, "web-1"), (ENVIRONMENT, "review-42")] {
        cluster.wait_condition(kind, Some("shop"), name, "Ready", "True", LONG).await;
    }
    assert_eq!(sim.cloudflare.records("example.com").len(), 3);
    assert_eq!(sim.digitalocean.droplets().len(), 2);
    assert!(!cluster.events(NODE, Some("shop"), "web-1").await.is_empty(), "no event was written");

    // Its end deletes the Environment itself, which no other step does.
    cluster.apply(BRIEF).await;
    cluster.wait_gone(ENVIRONMENT, Some("shop"), "brief", LONG).await;

    delete_in_one_go(&cluster, &examples).await;
    // What is left of a claim keeps other namespaces out until no cache can hold its record, and goes by itself.
    eventually(LONG, "every claim to be given back", async || {
        let claims = cluster.list("roadstead.dev/v1alpha1/HostnameClaim", None).await;
        let held = claims.iter().filter(|claim| claim.data["status"]["state"] == "Held").count();
        if held == 0 { Ok(()) } else { Err(format!("{held} are held")) }
    })
    .await;
    assert_eq!(sim.cloudflare.records("example.com").len(), 0);
    assert_eq!(sim.digitalocean.droplets().len(), 0);

    let status = operator.terminate().await;
    assert!(status.success(), "{status}");
    let log = operator.log();
    for sign in ["forbidden", "Forbidden", "PermissionMissing", "event not written"] {
        assert!(!log.contains(sign), "the operator met `{sign}`:\n{log}");
    }
}

/// Manifests deleted in the order of a person in a hurry: all at once, namespace included.
async fn delete_in_one_go(cluster: &Cluster, examples: &str) {
    cluster.kubectl(&["delete", "--wait=false", "-f", examples]).await.unwrap();
    for (kind, namespace, name) in [
        (NODE, Some("shop"), "rack-1"),
        (NODE, Some("shop"), "web-1"),
        (ENVIRONMENT, Some("shop"), "review-42"),
        ("roadstead.dev/v1alpha1/Zone", None, "example-com"),
        ("roadstead.dev/v1alpha1/Provider", None, "do"),
        ("roadstead.dev/v1alpha1/Provider", None, "racks"),
        ("v1/Namespace", None, "shop"),
    ] {
        cluster.wait_gone(kind, namespace, name, LONG).await;
    }
}

const BRIEF: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: Environment
metadata: {name: brief, namespace: shop}
spec:
  lifetime: 5s
  onExpiry: Delete
  node: {providerRef: {name: do}, zoneRef: {name: example-com}}
";
