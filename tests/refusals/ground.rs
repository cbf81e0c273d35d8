//! What has to be there before anything can be refused because of it.

use std::collections::BTreeMap;

use cloudsim::cloudflare::{Draft, TokenSpec, ZoneSpec};
use cloudsim::digitalocean::{AccountSpec, NewDroplet, Size, TokenSpec as DigitalOceanToken};
use cloudsim::faults::{Action, Fault};
use kube::Api;
use kube::api::PostParams;
use roadstead::api::names::{ClusterId, Mark};
use roadstead::api::node::{Node, NodeSpec};
use roadstead::api::refs::ClusterRef;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{DEADLINE, NODE, World};

/// The UID of objects that were lost.
const FORMER: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";

/// A Zone as a manifest; `from` says which namespaces it allows.
pub fn zone(name: &str, domain: &str, secret: &str, from: &str) -> String {
    format!(
        "{{apiVersion: roadstead.dev/v1alpha1, kind: Zone, metadata: {{name: {name}}}, spec: {{domain: {domain}, \
         cloudflare: {{tokenSecretRef: {{name: {secret}}}}}, allowedNamespaces: {{from: {from}}}}}}}"
    )
}

/// Adds a zone to Cloudflare; its id.
pub fn add_zone(world: &World, domain: &str) -> String {
    world.sim.cloudflare.add_zone(serde_json::from_value::<ZoneSpec>(json!({"name": domain})).unwrap())
}

/// Furnishes both clouds and the cluster; what will be shown of ids nobody can know before, by id.
pub async fn prepare(world: &World) -> BTreeMap<String, String> {
    for namespace in ["shop", "blog"] {
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        world.cluster.apply(&manifest.to_string()).await;
    }
    let mut ids = BTreeMap::new();
    cloudflare(world, &mut ids);
    digitalocean(world, &mut ids);
    secrets(world).await;
    policy(world).await;
    sound(world).await;
    others(world).await;
    ids
}

fn record(world: &World, zone: &str, name: &str, kind: &str, content: &str, comment: Option<String>) -> String {
    let text = |text: &str| Some(text.to_owned());
    let draft = Draft { name: text(name), kind: text(kind), content: text(content), comment, ..Draft::default() };
    world.sim.cloudflare.add_record(zone, &draft).unwrap()
}

fn former(name: &str) -> Mark {
    Mark::new(ClusterId::parse("test1").unwrap(), "Node", "shop", name, FORMER).unwrap()
}

fn cloudflare(world: &World, ids: &mut BTreeMap<String, String>) {
    let sim = &world.sim.cloudflare;
    let token = |spec: Value| sim.put_token(serde_json::from_value::<TokenSpec>(spec).unwrap());
    token(json!({"value": "weak", "permissions": ["dns:write"]}));
    // What Cloudflare says of these two is scripted: its own dashboard makes such zones, the simulator does not.
    let found = |domain: &str, statuses: &[&str]| {
        let id = add_zone(world, domain);
        let zone = |status: &&str| {
            json!({
                "id": id, "name": domain, "status": status, "account": {"id": sim.add_account("main")},
                "plan": {"legacy_id": "pro"}, "name_servers": ["ada.ns.example", "bob.ns.example"],
            })
        };
        let zones: Vec<Value> = statuses.iter().map(zone).collect();
        let body = json!({"success": true, "errors": [], "messages": [], "result": zones});
        let action = Action::Status { status: 200, body: Some(body), retry_after: None };
        fault(world, "cloudflare", "GET", &format!("/zones?name={domain}"), action);
    };
    found("pending.example.net", &["pending"]);
    found("ambiguous.example.net", &["active", "active"]);

    for domain in ["port.example.net", "full.example.net", "edge.example.net"] {
        add_zone(world, domain);
    }
    sim.set_quota("full.example.net", Some(1));
    record(world, "full.example.net", "somebodys", "A", "198.51.100.9", None);
    let refusing = add_zone(world, "refusing.example.net");
    let refusal = Action::Refusal { status: 400, code: json!(9999), message: "Not this one.".to_owned() };
    fault(world, "cloudflare", "POST", &format!("/zones/{refusing}/dns_records/batch"), refusal);

    let zone = "example.com";
    for (name, kind, content) in [
        ("foreign-a", "A", "198.51.100.9"),
        ("foreign-aaaa", "AAAA", "2001:db8::9"),
        ("foreign-cname", "CNAME", "elsewhere.example.net"),
        ("foreign-slug", "A", "198.51.100.10"),
    ] {
        ids.insert(record(world, zone, name, kind, content, None), "<id>".to_owned());
    }
    let mark = former("restored");
    ids.insert(record(world, zone, "restored", "A", "203.0.113.21", Some(mark.comment())), "<id>".to_owned());
    ids.insert(mark.owner, "<owner>".to_owned());
}

fn digitalocean(world: &World, ids: &mut BTreeMap<String, String>) {
    let sim = &world.sim.digitalocean;
    sim.put_account(AccountSpec { droplet_limit: 0, ..AccountSpec::new("full") });
    sim.put_token(DigitalOceanToken::new("full-token").of_account("full"));
    sim.put_token(DigitalOceanToken::new("narrow-token").with_scopes(&["droplet:read"]));
    let elsewhere: Size = serde_json::from_value(json!({
        "slug": "gpu-1", "memory": 1024, "vcpus": 1, "disk": 25, "transfer": 1.0, "price_monthly": 6.0,
        "price_hourly": 0.01, "regions": ["nyc1"], "description": "GPU",
    }))
    .unwrap();
    sim.put_size(elsewhere);
    let vm = NewDroplet {
        account: "main".into(),
        name: "restored-vm-1".into(),
        region: "fra1".into(),
        size: "s-1vcpu-1gb".into(),
        image: "debian-12-x64".into(),
        tags: former("restored-vm").tags().into(),
    };
    ids.insert(sim.add_droplet(&vm).unwrap().id.to_string(), "<vm>".to_owned());
}

fn fault(world: &World, cloud: &str, method: &str, path: &str, action: Action) {
    let text = |text: &str| Some(text.to_owned());
    let (cloud, method, path) = (text(cloud), text(method), text(path));
    world.sim.gate.faults.add(Fault { cloud, method, path, from: 1, count: None, action });
}

async fn secrets(world: &World) {
    let cluster = &world.cluster;
    cluster.credential("wrong", "cloudflare", "wrong").await;
    cluster.credential("weak", "cloudflare", "weak").await;
    cluster.credential("empty", "cloudflare", "").await;
    cluster.credential("two-words", "cloudflare", "two words").await;
    cluster.credential("wrong-vms", "digitalocean", "wrong").await;
    cluster.credential("narrow-vms", "digitalocean", "narrow-token").await;
    cluster.credential("full-vms", "digitalocean", "full-token").await;
    for (name, labels, key) in
        [("unlabelled", json!({}), "token"), ("other-key", json!({"roadstead.dev/credential": "cloudflare"}), "tokn")]
    {
        let metadata = json!({"name": name, "namespace": "roadstead-system", "labels": labels});
        let data = json!({ key: "cloudflare-token" });
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        cluster.apply(&secret.to_string()).await;
    }
}

/// A rule of the cluster's own that refuses some Nodes, in force.
async fn policy(world: &World) {
    world
        .cluster
        .apply(
            "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: names}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [roadstead.dev], apiVersions: [v1alpha1], operations: [CREATE], resources: [nodes]}]
  validations: [{expression: \"!object.metadata.name.startsWith('policed')\", message: this team names nothing policed}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: names}
spec: {policyName: names, validationActions: [Deny]}",
        )
        .await;
    let nodes: Api<Node> = Api::namespaced(world.cluster.client(), "blog");
    let to = |name: &str| ClusterRef { name: name.to_owned() };
    let spec = NodeSpec { provider_ref: to("do"), zone_ref: to("example-com"), ..NodeSpec::default() };
    let probe = Node::new("policed-probe", NodeSpec { health_path: "/".to_owned(), ..spec });
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually(DEADLINE, "the policy to be in force", async || {
        let refused = nodes.create(&dry, &probe).await.err().map(|error| error.to_string());
        refused.filter(|error| error.contains("names nothing policed"))
    })
    .await;
}

/// A Provider of VMs as a manifest, with another setting in the place of a good one, or beside it.
fn vms(name: &str, secret: &str, setting: (&str, Value), spec: &Value) -> String {
    let mut digitalocean = json!({
        "tokenSecretRef": {"name": secret}, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
    });
    digitalocean[setting.0] = setting.1;
    let mut provider = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "Provider", "metadata": {"name": name},
        "spec": {"digitalocean": digitalocean, "allowedNamespaces": {"from": "All"}},
    });
    for (key, value) in spec.as_object().unwrap() {
        provider["spec"][key] = value.clone();
    }
    provider.to_string()
}

/// Zones and Providers that are themselves as they should be.
async fn sound(world: &World) {
    let region = ("region", json!("fra1"));
    for manifest in [
        zone("full", "full.example.net", "cloudflare", "All"),
        zone("refusing", "refusing.example.net", "cloudflare", "All"),
        json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "Zone", "metadata": {"name": "edge"},
            "spec": {
                "domain": "edge.example.net", "allowedNamespaces": {"from": "All"},
                "cloudflare": {
                    "tokenSecretRef": {"name": "cloudflare"},
                    "workers": {"tokenSecretRef": {"name": "absent"}, "allowedNamespaces": {"from": "All"}},
                },
            },
        })
        .to_string(),
        vms("full-account", "full-vms", region.clone(), &json!({})),
        vms("odd-size", "digitalocean", ("size", json!("s-gigantic")), &json!({})),
        vms("odd-vpc", "digitalocean", ("vpcUUID", json!("5a4981aa-9653-4bd1-bef5-d6bff52042e4")), &json!({})),
        vms("odd-key", "digitalocean", region, &json!({"sshAuthorizedKeys": ["ssh-ed25519 AAAAB"]})),
        json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "closed"},
            "spec": {"static": {"allowedCIDRs": ["203.0.113.0/24"]}, "allowedNamespaces": {"from": "None"}},
        })
        .to_string(),
    ] {
        world.cluster.apply(&manifest).await;
    }
}

/// Nodes of another namespace that hold a name and an address, and one that has just given its name back.
async fn others(world: &World) {
    for (name, number) in [("www", 80), ("old", 81)] {
        world.apply_node("blog", name, &format!("providerRef: {{name: racks}}, address: 203.0.113.{number}")).await;
        world.ready("blog", name).await;
    }
    world.cluster.delete_object(NODE, Some("blog"), "old").await;
    world.gone("blog", "old").await;
    // In the way of an Environment's own.
    world.apply_node("shop", "occupied-vm", "providerRef: {name: racks}, address: 203.0.113.82").await;
    world.ready("shop", "occupied-vm").await;
}
