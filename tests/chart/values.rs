//! What the values admit, and that a schema describes each of them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::rig::{chart, helm, rendered};

#[test]
fn the_chart_passes_helms_own_checks() {
    helm(&["lint", "--strict", &chart()]).unwrap();
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    let pinned = format!("hosts.caddyImage=caddy@sha256:{}", "a".repeat(64));
    for (setting, field) in [
        ("replica=2", "'replica' not allowed"),
        ("replicas=two", "/replicas"),
        ("settings.clusterId=My-Cluster", "/settings/clusterId"),
        ("settings.clusterId=abcdefghijklmnopq", "/settings/clusterId"),
        ("settings.resync=5", "/settings/resync"),
        ("settings.resyncInterval=5m", "'resyncInterval' not allowed"),
        ("settings.concurrency=0", "/settings/concurrency"),
        ("settings.resolvers={dns.example.com}", "/settings/resolvers/0"),
        ("settings.cloudflareApi=api.cloudflare.com", "/settings/cloudflareApi"),
        ("settings.probeAllowCidrs={10.0.0.1}", "/settings/probeAllowCidrs/0"),
        ("settings.readOnly=maybe", "/settings/readOnly"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.digest=latest", "/image/digest"),
        ("gateway.signup.mode=everybody", "/gateway/signup/mode"),
        ("hosts.caddyImage=caddy:2", "/hosts/caddyImage"),
        ("hosts.edgeSubnet=10.0.0.1", "/hosts/edgeSubnet"),
        ("hosts.jobs=0", "/hosts/jobs"),
        ("hosts.acme.directory=http://ca.example.com", "/hosts/acme/directory"),
        (pinned.as_str(), "hosts.routerImage is needed"),
        ("appNamespaces={My_Apps}", "/appNamespaces/0"),
        ("appNamespaces={roadstead-system}", "an app there could read the operator's credentials"),
        ("gateway.namespace=My_Groups", "/gateway/namespace"),
        ("gateway.history.size=256M", "/gateway/history/size"),
        ("gateway.trustedProxies={10.0.0.1}", "/gateway/trustedProxies/0"),
        ("gateway.enabled=true", "gateway.signup.tokenSecret is needed"),
        ("terminationGracePeriodSeconds=5", "/terminationGracePeriodSeconds"),
        ("podDisruptionBudget.enabled=true", "needs replicas of 2 or more"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
    ] {
        let refusal = rendered(&[setting]).expect_err(setting);
        assert!(refusal.contains(field), "{setting}: {refusal}");
    }
}

#[test]
fn every_value_has_a_schema_and_every_schema_a_value() {
    let read = |file: &str| std::fs::read_to_string(format!("{}/{file}", chart())).unwrap();
    let values: Value = serde_yaml::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    compare(&values, &schema, "values");
}

fn compare(values: &Value, schema: &Value, path: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} admits unknown fields");
    let keys = |object: &Value| -> BTreeSet<String> { object.as_object().unwrap().keys().cloned().collect() };
    // Helm hands `global` to every chart; `claims` is a rare part of resources.
    let known: BTreeSet<String> =
        properties.keys().filter(|key| !["global", "claims"].contains(&key.as_str())).cloned().collect();
    assert_eq!(keys(values), known, "{path}");
    for key in known {
        if values[&key].is_object() {
            compare(&values[&key], &properties[&key], &format!("{path}.{key}"));
        }
    }
}
