//! The main job against the real clouds, for those who have a throwaway Cloudflare zone: `make test-live`.
//!
//! An existing host is published, changed and withdrawn; with a `DigitalOcean` token a droplet is bought (a small one,
//! for some minutes), published and deleted as well. Nothing but what carries this run's own mark is touched.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use support::{ControlPlane, Operator, OperatorOptions, SimAddresses, condition, unique};

const NODE: &str = "roadstead.dev/v1alpha1/Node";
const ZONE: &str = "roadstead.dev/v1alpha1/Zone";
const NAMESPACE: &str = "live";
/// Droplets boot for a minute; resolvers may remember for one; deletion waits out a TTL.
const DEADLINE: Duration = Duration::from_mins(10);

/// A setting of this test: required ones are named together in the Makefile's target.
fn setting(name: &str, default: Option<&str>) -> String {
    let value = std::env::var(format!("ROADSTEAD_LIVE_{name}")).ok().filter(|value| !value.is_empty());
    value.or(default.map(str::to_owned)).unwrap_or_else(|| panic!("set ROADSTEAD_LIVE_{name}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs accounts at the real clouds: make test-live"]
async fn a_name_and_a_vm_come_and_go_at_the_real_clouds() {
    let domain = setting("ZONE", None);
    let droplets = std::env::var("ROADSTEAD_LIVE_DIGITALOCEAN_TOKEN").is_ok_and(|token| !token.is_empty());
    let outside = SimAddresses {
        // The bases can be pointed at a simulator, to try this test itself.
        cloudflare: setting("CLOUDFLARE_API", Some("https://api.cloudflare.com/client/v4")),
        digitalocean: setting("DIGITALOCEAN_API", Some("https://api.digitalocean.com")),
        resolver: setting("RESOLVER", Some("1.1.1.1:53")).parse().unwrap(),
        authority: std::env::var("ROADSTEAD_LIVE_AUTHORITY").ok().map(|a| a.parse::<SocketAddr>().unwrap()),
    };
    let control_plane = ControlPlane::start().await;
    let cluster = control_plane.cluster().await;
    cluster.apply_directory(&support::repository().join("crds")).await;
    cluster.credential("cloudflare", "cloudflare", &setting("CLOUDFLARE_TOKEN", None)).await;
    if droplets {
        cluster.credential("digitalocean", "digitalocean", &setting("DIGITALOCEAN_TOKEN", None)).await;
    }
    // An id of this run alone: two runs at once, or one that was killed, cannot touch each other's records.
    let id: String = unique("").chars().filter(char::is_ascii_lowercase).collect();
    let options = OperatorOptions {
        cluster_id: format!("t{id}"),
        settle_time: Duration::from_secs(90),
        ttl_wait_cap: Duration::from_secs(60),
        ..OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead"))
    };
    let operator = Operator::start(&control_plane, &outside, options).await;

    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}")).await;
    let ground = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "Zone", "metadata": {"name": "zone"},
        "spec": {
            "domain": domain, "ttl": 60, "allowedNamespaces": {"from": "All"},
            "cloudflare": {"tokenSecretRef": {"name": "cloudflare"}},
        },
    });
    cluster.apply(&ground.to_string()).await;
    cluster.wait_condition(ZONE, None, "zone", "Ready", "True", DEADLINE).await;
    let racks = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "racks"},
        "spec": {"static": {"allowedCIDRs": ["203.0.113.0/24"]}, "allowedNamespaces": {"from": "All"}},
    });
    cluster.apply(&racks.to_string()).await;
    let label = format!("roadstead-{id}");
    let node = |name: &str, spec: serde_json::Value| {
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Node", "metadata": metadata, "spec": spec}).to_string()
    };
    let host = |address: &str| {
        let (zone, provider) = (json!({"name": "zone"}), json!({"name": "racks"}));
        node("host", json!({"zoneRef": zone, "providerRef": provider, "hostname": label, "address": address}))
    };
    let life = async {
        for address in ["203.0.113.7", "203.0.113.8"] {
            cluster.apply(&host(address)).await;
            let seen = cluster.wait_condition(NODE, Some(NAMESPACE), "host", "Ready", "True", DEADLINE).await;
            assert_eq!(condition(&seen, "Resolvable").unwrap()["status"], "True", "{}", seen.data["status"]);
            assert_eq!(seen.data["status"]["record"]["content"], address);
        }
        if droplets {
            let bought = json!({
                "apiVersion": "roadstead.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "do"},
                "spec": {
                    "allowedNamespaces": {"from": "All"},
                    "digitalocean": {
                        "tokenSecretRef": {"name": "digitalocean"},
                        "region": setting("REGION", Some("fra1")), "size": "s-1vcpu-1gb", "image": "debian-12-x64",
                    },
                },
            });
            cluster.apply(&bought.to_string()).await;
            let spec =
                json!({"zoneRef": {"name": "zone"}, "providerRef": {"name": "do"}, "hostname": format!("{label}-vm")});
            cluster.apply(&node("vm", spec)).await;
            cluster.wait_condition(NODE, Some(NAMESPACE), "vm", "Ready", "True", DEADLINE).await;
        }
    };
    let lived = AssertUnwindSafe(life).catch_unwind().await;
    // Whatever went wrong: nothing may stay at accounts that cost money.
    for name in ["host", "vm"] {
        cluster.delete_object(NODE, Some(NAMESPACE), name).await;
    }
    for name in ["host", "vm"] {
        cluster.wait_gone(NODE, Some(NAMESPACE), name, DEADLINE).await;
    }
    if let Err(panic) = lived {
        operator.dump_log();
        resume_unwind(panic);
    }
}
