//! One valid sample of each kind, and how a test changes it.

#![expect(clippy::needless_pass_by_value, reason = "callers hand over literals")]

use serde_json::{Value, json};

pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    let mut object =
        json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    if matches!(kind, "Node" | "Environment" | "ServerGroup" | "AppDeployment") {
        object["metadata"]["namespace"] = json!("default");
    }
    object
}

pub fn zone() -> Value {
    let spec = json!({
        "domain": "example.com",
        "cloudflare": {"tokenSecretRef": {"name": "cloudflare"}},
        "allowedNamespaces": {"from": "All"},
    });
    object("Zone", "x", spec)
}

pub fn droplets() -> Value {
    let token = json!({"name": "digitalocean"});
    let spec = json!({
        "digitalocean": {"tokenSecretRef": token, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"},
        "allowedNamespaces": {"from": "All"},
    });
    object("Provider", "x", spec)
}

pub fn hosts() -> Value {
    let spec = json!({"static": {"allowedCIDRs": ["203.0.113.0/24"]}, "allowedNamespaces": {"from": "All"}});
    object("Provider", "x", spec)
}

pub fn node() -> Value {
    object("Node", "x", json!({"providerRef": {"name": "do"}, "zoneRef": {"name": "example-com"}}))
}

pub fn environment() -> Value {
    let node = json!({"providerRef": {"name": "do"}, "zoneRef": {"name": "example-com"}});
    object("Environment", "x", json!({"node": node}))
}

pub fn group() -> Value {
    object("ServerGroup", "x", json!({"zoneRef": {"name": "example-com"}}))
}

pub fn app() -> Value {
    let compose = json!({"inline": "services: {web: {image: nginx, expose: [80]}}"});
    object("AppDeployment", "x", json!({"target": {"nodeRef": {"name": "web-1"}}, "compose": compose}))
}

pub fn claim() -> Value {
    object("HostnameClaim", "web-1.example.com", json!({"fqdn": "web-1.example.com", "namespace": "shop"}))
}

/// `base` changed by the merge patch `patch` (RFC 7396).
pub fn with(mut base: Value, patch: &Value) -> Value {
    merge(&mut base, patch);
    base
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], change);
        }
    }
}

pub fn spec(fields: Value) -> Value {
    json!({ "spec": fields })
}
