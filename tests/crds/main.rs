//! The definitions against a real API server: what it admits, what it refuses and in which words, what it fills in, and
//! what `kubectl explain` and `kubectl get` make of them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use kube::CustomResourceExt;
use roadstead::api::app_deployment::{AppDeployment, LocalRef};
use roadstead::api::environment::Environment;
use roadstead::api::node::Node;
use roadstead::api::provider::Provider;
use roadstead::api::server_group::ServerGroup;
use roadstead::api::zone::Zone;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::ControlPlane;

mod app_refusals;
mod group_refusals;
#[path = "../kubectl/mod.rs"]
mod kubectl;
mod refusals;
mod samples;

use kubectl::Kubectl;
use samples::{app, claim, droplets, environment, group, hosts, node, spec, with, zone};

#[test]
fn the_definitions_in_the_repository_are_the_generated_ones() {
    for crd in roadstead::api::definitions() {
        let path = format!("{}/crds/{}.yaml", env!("CARGO_MANIFEST_DIR"), crd.spec.names.plural);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let checked_in: Value = serde_yaml::from_str(&text).unwrap_or_default();
        let generated = serde_json::to_value(&crd).unwrap();
        assert!(checked_in == generated, "{path} is not what `cargo run -- crd --dir crds` writes: run it");
    }
    let files = std::fs::read_dir(format!("{}/crds", env!("CARGO_MANIFEST_DIR"))).unwrap().count();
    assert_eq!(files, roadstead::api::definitions().len(), "crds/ holds files of no kind");
}

#[test]
fn every_field_has_a_text_and_every_list_and_string_a_bound() {
    let mut faults = Vec::new();
    let mut fields = 0;
    for crd in roadstead::api::definitions() {
        let crd = serde_json::to_value(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        walk(schema, crd["spec"]["names"]["kind"].as_str().unwrap(), &mut |path, schema| {
            fields += 1;
            if schema["description"].as_str().is_none_or(|text| text.len() < 6) && !path.ends_with("[]") {
                faults.push(format!("{path}: no text for kubectl explain"));
            }
            // Kubernetes' own types bound themselves.
            if path.contains(".conditions[]") || path.contains(".selector.") || path.contains(".nodeSelector.") {
                return;
            }
            if schema["type"] == "array" && schema["maxItems"].is_null() {
                faults.push(format!("{path}: a list without maxItems"));
            }
            let bounded = ["maxLength", "enum", "format"].iter().any(|bound| !schema[bound].is_null());
            if schema["type"] == "string" && !bounded {
                faults.push(format!("{path}: a string without maxLength"));
            }
        });
    }
    assert_eq!(faults, Vec::<String>::new());
    assert!(fields > 150, "the walk saw {fields} fields only");
}

fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
}

#[tokio::test]
async fn the_api_server_admits_and_refuses_what_the_definitions_say() {
    let control_plane = ControlPlane::start().await;
    let kubectl = Kubectl::of(&control_plane);
    kubectl.run(&["apply", "-f", &format!("{}/crds", env!("CARGO_MANIFEST_DIR"))]).unwrap();
    kubectl.await_definitions();
    refusals::refusals_say_what_would_be_right(&kubectl);
    refusals::valid_samples_are_admitted(&kubectl);
    app_refusals::the_largest_app_is_admitted(&kubectl);
    refusals::what_cannot_change_is_refused_when_changed_added_and_removed(&kubectl);
    defaults_are_filled_in_and_a_new_status_says_that_nobody_looked_yet(&kubectl);
    the_examples_apply_in_one_go_and_decode(&kubectl);
    the_readmes_manifests_are_admitted(&kubectl);
    kubectl_knows_short_names_the_category_and_the_columns(&kubectl);
}

fn defaults_are_filled_in_and_a_new_status_says_that_nobody_looked_yet(kubectl: &Kubectl) {
    let created = |sample: Value| -> Value {
        let text = kubectl.feed(&["create", "-o", "json", "-f", "-"], &sample.to_string()).unwrap();
        kubectl.feed(&["delete", "-f", "-"], &sample.to_string()).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let filled = |sample: Value, defaults: Value| {
        let object = created(sample.clone());
        assert_eq!(object["spec"], with(sample, &spec(defaults))["spec"]);
        assert_eq!(object["status"], json!({"observedGeneration": -1}));
    };
    let key = json!({"tokenSecretRef": {"key": "token"}});
    filled(zone(), json!({"ttl": 300, "allowApex": false, "cloudflare": key}));
    filled(
        with(zone(), &spec(json!({"propagation": {}}))),
        json!({"ttl": 300, "allowApex": false, "cloudflare": key, "propagation": {"timeout": "120s"}}),
    );
    let brake = json!({"minimum": 5, "percent": 10, "window": "10m"});
    filled(droplets(), json!({"brake": brake, "digitalocean": key, "allowHostAccess": false}));
    filled(
        with(hosts(), &spec(json!({"brake": {"minimum": 1}}))),
        json!({"brake": {"percent": 10, "window": "10m"}, "allowHostAccess": false}),
    );
    let node_defaults = json!({
        "proxied": false, "healthPath": "/", "host": {"manage": "None"}, "replaceLost": false,
        "deletionPolicy": "Delete",
    });
    filled(node(), node_defaults);
    filled(environment(), json!({"onExpiry": "Keep", "node": {"healthPath": "/", "host": {"manage": "None"}}}));

    let probe = json!({
        "type": "HTTP", "method": "GET", "interval": "10s", "timeout": "2s", "fall": 3, "rise": 2,
        "expectedStatus": "200-399",
    });
    let reporting = json!({"enabled": false, "heartbeatTTL": "90s", "forgetAfter": "24h"});
    let dns = json!({"txt": true, "ttl": 60});
    filled(group(), json!({"strategy": "RoundRobin", "probe": probe, "reporting": reporting, "dns": dns}));
    let listed = with(group(), &spec(json!({"members": [{"address": "a.example.net"}], "probe": {"port": 8080}})));
    let member =
        json!({"address": "a.example.net", "scheme": "https", "priority": 100, "weight": 1, "disabled": false});
    assert_eq!(created(listed.clone())["spec"]["members"], json!([member]));
    assert_eq!(created(listed)["spec"]["probe"], with(probe, &json!({"port": 8080})));

    let strategy = json!({"type": "BlueGreen", "drainTimeout": "30s", "sharedVolumes": false});
    let app_defaults = json!({
        "rollOnSecretChange": true, "entry": {}, "healthTimeout": "60s", "startPeriod": "10s", "strategy": strategy,
        "revisionHistoryLimit": 5, "suspend": false, "maintenance": false, "network": "App", "hostAccess": false,
    });
    filled(app(), app_defaults);
    let more = json!({
        "strategy": {"type": "Recreate"}, "domains": [{"name": "a.example.com"}], "services": [{"name": "db"}],
        "preDeploy": {"command": ["true"]},
    });
    let app = created(with(app(), &spec(more)));
    assert_eq!(app["spec"]["strategy"], with(strategy, &json!({"type": "Recreate"})));
    assert_eq!(app["spec"]["domains"], json!([{"name": "a.example.com", "publish": "Node", "proxied": false}]));
    assert_eq!(app["spec"]["services"], json!([{"name": "db", "update": "BeforeSwap"}]));
    assert_eq!(app["spec"]["preDeploy"]["timeout"], "5m");

    let claim = created(claim());
    assert_eq!(claim["spec"]["holders"], json!({}));
    assert_eq!(claim["status"], json!({"observedGeneration": 1, "state": "Held"}));
}

fn the_examples_apply_in_one_go_and_decode(kubectl: &Kubectl) {
    let examples = format!("{}/deploy/examples/", env!("CARGO_MANIFEST_DIR"));
    let secrets = format!("{examples}secrets/");
    kubectl.run(&["create", "namespace", "roadstead-system"]).unwrap();
    kubectl.run(&["apply", "-f", &examples]).unwrap();
    kubectl.run(&["apply", "-f", &secrets]).unwrap();

    let labels = kubectl.run(&["get", "secrets", "-n", "roadstead-system", "-o", "json"]).unwrap();
    let labels: Value = serde_json::from_str(&labels).unwrap();
    let labels: BTreeMap<&str, &str> = labels["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|secret| {
            Some((
                secret["metadata"]["name"].as_str()?,
                secret["metadata"]["labels"]["roadstead.dev/credential"].as_str()?,
            ))
        })
        .collect();
    assert_eq!(labels, BTreeMap::from([("cloudflare", "cloudflare"), ("digitalocean", "digitalocean")]));

    let zones: Vec<Zone> = decoded(kubectl);
    let providers: Vec<Provider> = decoded(kubectl);
    let nodes: Vec<Node> = decoded(kubectl);
    let environments: Vec<Environment> = decoded(kubectl);
    let groups: Vec<ServerGroup> = decoded(kubectl);
    // They are for a host to log in to, and for a namespace that the chart's `appNamespaces` names.
    kubectl.run(&["apply", "-f", &format!("{examples}apps/")]).unwrap();
    let apps: Vec<AppDeployment> = decoded(kubectl);
    assert_eq!(apps.len(), 2);
    for app in apps {
        let target = app.spec.target;
        let named = |name: Option<&String>, r: Option<LocalRef>| r.is_none_or(|r| Some(&r.name) == name);
        assert!(nodes.iter().any(|node| named(node.metadata.name.as_ref(), target.node_ref.clone())));
        assert!(environments.iter().any(|e| named(e.metadata.name.as_ref(), target.environment_ref.clone())));
    }
    assert_eq!(groups.len(), 1);
    assert_eq!(Some(&groups[0].spec.zone_ref.name), zones[0].metadata.name.as_ref());
    assert_eq!((zones.len(), providers.len(), nodes.len(), environments.len()), (1, 2, 2, 1));
    for provider in providers.iter().map(|provider| provider.metadata.name.as_deref()) {
        let used = nodes.iter().any(|node| Some(node.spec.provider_ref.name.as_str()) == provider);
        assert!(used, "no example Node uses the Provider {provider:?}");
    }
    for zone in nodes
        .iter()
        .map(|node| &node.spec.zone_ref)
        .chain(environments.iter().map(|environment| &environment.spec.node.zone_ref))
    {
        assert_eq!(Some(&zone.name), zones[0].metadata.name.as_ref());
    }
    // Whoever holds the operator's Secrets finds them under the names the examples refer to.
    assert_eq!(zones[0].spec.cloudflare.token_secret_ref.name, "cloudflare");
}

/// After the examples, which bring the namespace.
fn the_readmes_manifests_are_admitted(kubectl: &Kubectl) {
    let readme = std::fs::read_to_string(format!("{}/README.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let blocks: Vec<&str> = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(
        blocks.len(),
        6,
        "one block of manifests for each kind that people write, and one for the load balancer"
    );
    for block in blocks {
        kubectl.feed(&["create", "--dry-run=server", "-f", "-"], &renamed(block)).unwrap();
    }
}

/// Under names that the examples do not have.
fn renamed(manifests: &str) -> String {
    manifests.replace("metadata: {name: ", "metadata: {name: readme-")
}

/// Every object of the kind, as the operator would read it.
fn decoded<K: CustomResourceExt + DeserializeOwned>(kubectl: &Kubectl) -> Vec<K> {
    let list = kubectl.run(&["get", K::crd_name(), "-A", "-o", "json"]).unwrap();
    let mut list: Value = serde_json::from_str(&list).unwrap();
    let items = list["items"].as_array_mut().unwrap();
    items.drain(..).map(|item| serde_json::from_value(item).unwrap()).collect()
}

fn kubectl_knows_short_names_the_category_and_the_columns(kubectl: &Kubectl) {
    kubectl.feed(&["create", "-f", "-"], &claim().to_string()).unwrap();
    let claim = r#"{"status": {"record": "A 203.0.113.7"}}"#;
    let patch = ["patch", "rclaim", "web-1.example.com", "--subresource=status", "--type=merge", "-p", claim];
    kubectl.run(&patch).unwrap();
    let columns = [
        ("rzone", "NAME DOMAIN READY REASON RECORDS AGE"),
        ("rprovider", "NAME READY REASON VMS HOLD AGE"),
        ("rnode", "NAMESPACE NAME FQDN ADDRESS PHASE READY REASON AGE"),
        ("renv", "NAMESPACE NAME URL ADDRESS PHASE READY REASON EXPIRES AGE"),
        ("rgroup", "NAMESPACE NAME SLUG STRATEGY HEALTHY READY REASON AGE"),
        ("rapp", "NAMESPACE NAME DOMAIN REVISION PHASE AVAILABLE READY REASON AGE"),
        ("rclaim", "NAME NAMESPACE OWNER KIND SERVEDBY RECORD STATE SINCE"),
    ];
    for (short, header) in columns {
        let table = kubectl.run(&["get", short, "-A"]).unwrap();
        let first = table.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(first, header, "{short}");
    }
    let all = kubectl.run(&["get", "roadstead", "-A", "-o", "name"]).unwrap();
    for kind in ["zone", "provider", "node", "environment", "servergroup", "appdeployment", "hostnameclaim"] {
        assert!(all.contains(&format!("{kind}.roadstead.dev/")), "{kind} is not in the category: {all}");
    }
    // The warning in the README is true: plain `node` is Kubernetes' own.
    assert_eq!(kubectl.run(&["get", "node", "-o", "name"]).unwrap(), "");

    for (field, text) in [
        ("rnode", "Say `rnode` or `nodes.roadstead.dev` to kubectl"),
        ("rnode.spec.hostname", "One or more DNS labels before the zone's domain"),
        ("renv.spec.onExpiry", "`Keep` leaves this object with phase `Expired`"),
        ("rzone.spec.allowedNamespaces", "There is no default: say it."),
        ("rprovider.spec.brake", "A moved Git directory must not destroy a fleet"),
        ("rgroup.spec.members.disabled", "it is neither probed nor published, nor counted"),
        ("rgroup.spec.reporting.heartbeatTTL", "a server that is silent for longer is unhealthy"),
        ("rprovider.spec.allowHostAccess", "Whoever may write such an app is root on the host"),
        ("rapp", "whatever fails leaves the old one serving"),
        ("rapp.spec.compose.inline", "`${NAME}` in it is a variable of `env` or `envFrom`"),
        ("rapp.spec.compose.files.path", "which the file mounts as `./nginx/site.conf`"),
        ("rapp.spec.env.value", "Passwords belong into a Secret"),
        ("rapp.spec.env.secretKeyRef", "which the chart value `appNamespaces` has to name"),
        ("rapp.spec.domains.publish", "served once a TXT record proves that it is yours"),
        ("rapp.spec.strategy.type", "`Recreate` is chosen, and said, where"),
        ("rapp.spec.preDeploy.command", "If it fails, the old revision serves on"),
        ("rapp.status.revisions", "what `roadstead.dev/rollback` may name"),
        ("rclaim.status.freeAt", "When a tombstone ends"),
    ] {
        let page = kubectl.run(&["explain", field]).unwrap();
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(text), "{field}: {page}");
    }
}
