//! A world for one test: a control plane, simulated clouds, and the operator between them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "shared by test binaries that each use a part of it")]

use std::time::Duration;

use cloudsim::Sim;
use cloudsim::cloudflare::{RecordInfo, TokenSpec as CloudflareToken, ZoneSpec};
use cloudsim::digitalocean::{DropletInfo, Settings, TokenSpec as DigitalOceanToken};
use kube::api::DynamicObject;
use serde_json::Value;
use support::{Cluster, ControlPlane, Operator, OperatorOptions, SimAddresses, eventually, repository};

/// How long anything may take on a busy machine of two cores.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const NODE: &str = "roadstead.dev/v1alpha1/Node";
pub const ZONE: &str = "roadstead.dev/v1alpha1/Zone";
pub const PROVIDER: &str = "roadstead.dev/v1alpha1/Provider";
pub const CLAIM: &str = "roadstead.dev/v1alpha1/HostnameClaim";

/// A Zone `example-com`, a Provider `do` of droplets and one `racks` of existing hosts, for all namespaces.
const GROUND: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: Zone
metadata: {name: example-com}
spec:
  domain: example.com
  cloudflare: {tokenSecretRef: {name: cloudflare}}
  allowedNamespaces: {from: All}
---
apiVersion: roadstead.dev/v1alpha1
kind: Provider
metadata: {name: do}
spec:
  digitalocean: {tokenSecretRef: {name: digitalocean}, region: fra1, size: s-1vcpu-1gb, image: debian-12-x64}
  allowedNamespaces: {from: All}
---
apiVersion: roadstead.dev/v1alpha1
kind: Provider
metadata: {name: racks}
spec:
  static: {allowedCIDRs: [203.0.113.0/24]}
  allowedNamespaces: {from: All}
";

pub struct World {
    /// First, so that it goes first: its log lies in the control plane's directory.
    pub operator: Operator,
    pub control_plane: ControlPlane,
    pub cluster: Cluster,
    pub sim: Sim,
}

impl World {
    /// Everything started, `GROUND` applied, droplets without delays.
    pub async fn start() -> Self {
        Self::with(|options| options).await
    }

    /// As [`World::start`], with other settings of the operator.
    pub async fn with(change: impl FnOnce(OperatorOptions) -> OperatorOptions) -> Self {
        Self::in_zone(serde_json::json!({"name": "example.com"}), change).await
    }

    /// As [`World::with`], with another zone `example.com`.
    pub async fn in_zone(zone: Value, change: impl FnOnce(OperatorOptions) -> OperatorOptions) -> Self {
        Self::over(cloudsim::Options::default(), zone, change).await
    }

    /// As [`World::in_zone`], with other settings of the simulator.
    pub async fn over(
        clouds: cloudsim::Options,
        zone: Value,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Self {
        let control_plane = ControlPlane::start().await;
        let cluster = control_plane.cluster().await;
        cluster.apply_directory(&repository().join("crds")).await;
        let sim = Sim::start(clouds).await.unwrap();
        sim.cloudflare.add_zone(serde_json::from_value::<ZoneSpec>(zone).unwrap());
        sim.cloudflare.put_token(
            serde_json::from_value::<CloudflareToken>(serde_json::json!({"value": "cloudflare-token"})).unwrap(),
        );
        sim.digitalocean.put_token(DigitalOceanToken::new("digitalocean-token"));
        sim.digitalocean.set_settings(Settings::immediate());
        cluster.credential("cloudflare", "cloudflare", "cloudflare-token").await;
        cluster.credential("digitalocean", "digitalocean", "digitalocean-token").await;
        let options = change(OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead")));
        let operator = Operator::start(&control_plane, &addresses(&sim), options).await;
        cluster.apply(GROUND).await;
        Self { operator, control_plane, cluster, sim }
    }

    pub async fn apply_node(&self, namespace: &str, name: &str, spec: &str) {
        self.cluster
            .apply(&format!(
                "apiVersion: roadstead.dev/v1alpha1\nkind: Node\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{zoneRef: {{name: example-com}}, {spec}}}"
            ))
            .await;
    }

    pub async fn node(&self, namespace: &str, name: &str) -> DynamicObject {
        self.cluster.get(NODE, Some(namespace), name).await.unwrap()
    }

    pub async fn ready(&self, namespace: &str, name: &str) -> DynamicObject {
        self.cluster.wait_condition(NODE, Some(namespace), name, "Ready", "True", DEADLINE).await;
        self.node(namespace, name).await
    }

    /// Waits until Ready is False for this reason, and gives its message.
    pub async fn refused(&self, namespace: &str, name: &str, reason: &str) -> String {
        let what = format!("{namespace}/{name} not Ready because of {reason}");
        eventually(DEADLINE, &what, async || {
            let node = self.cluster.get(NODE, Some(namespace), name).await.ok_or("no such Node".to_owned())?;
            let ready = support::condition(&node, "Ready").cloned().unwrap_or_default();
            if ready["status"] == "False" && ready["reason"] == reason {
                Ok(ready["message"].as_str().unwrap_or_default().to_owned())
            } else {
                Err(format!("{} {}: {}", ready["status"], ready["reason"], ready["message"]))
            }
        })
        .await
    }

    pub async fn gone(&self, namespace: &str, name: &str) {
        self.cluster.wait_gone(NODE, Some(namespace), name, DEADLINE).await;
    }

    pub async fn annotate(&self, kind: &str, namespace: Option<&str>, name: &str, key: &str, value: &str) {
        let change = serde_json::json!({"metadata": {"annotations": {format!("roadstead.dev/{key}"): value}}});
        self.cluster.patch(kind, namespace, name, &change).await;
    }

    pub fn records(&self) -> Vec<RecordInfo> {
        self.sim.cloudflare.records("example.com")
    }

    pub fn record(&self, name: &str) -> Option<RecordInfo> {
        self.records().into_iter().find(|record| record.name == name)
    }

    pub fn droplets(&self) -> Vec<DropletInfo> {
        self.sim.digitalocean.droplets()
    }

    /// Calls that changed something outside, as `METHOD /path`, since `seq`.
    pub fn writes_since(&self, seq: u64) -> Vec<String> {
        let all = self.sim.gate.journal.since(seq).into_iter();
        all.filter(|entry| entry.method != "GET").map(|entry| format!("{} {}", entry.method, entry.path)).collect()
    }
}

pub fn addresses(sim: &Sim) -> SimAddresses {
    SimAddresses {
        cloudflare: sim.cloudflare_api(),
        digitalocean: sim.digitalocean_api(),
        resolver: sim.resolver(),
        authority: Some(sim.dns()),
    }
}

/// A field of an object by JSON pointer.
pub fn field<'a>(object: &'a DynamicObject, pointer: &str) -> &'a Value {
    object.data.pointer(pointer).unwrap_or(&Value::Null)
}
