//! Every kind reads what its definition admits, and what a newer definition may admit: an object that does not decode is
//! one nobody can say anything about.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::app_deployment::AppDeployment;
use super::claim::HostnameClaim;
use super::environment::Environment;
use super::node::Node;
use super::provider::Provider;
use super::schema;
use super::zone::Zone;

/// Reads `object`, and finds everything in it again when it is written.
fn reads<K: DeserializeOwned + Serialize>(object: &Value) -> TestCaseResult {
    let read: K = serde_json::from_value(object.clone()).map_err(|e| TestCaseError::fail(format!("{e}: {object}")))?;
    let written = serde_json::to_value(&read).unwrap();
    for part in ["spec", "status"] {
        is_kept(&object[part], &written[part], part)?;
    }
    Ok(())
}

fn second(time: &str) -> Option<i64> {
    time.parse().ok().map(jiff::Timestamp::as_second)
}

/// Whether `written` says all that `read` says. Times may be written in another way; nothing is the same as `null`.
fn is_kept(read: &Value, written: &Value, path: &str) -> TestCaseResult {
    match (read, written) {
        (Value::Object(read), _) => {
            read.iter().try_for_each(|(name, read)| is_kept(read, &written[name], &format!("{path}.{name}")))
        }
        (Value::Array(items), written) => {
            items.iter().enumerate().try_for_each(|(n, item)| is_kept(item, &written[n], &format!("{path}[{n}]")))
        }
        (Value::String(a), Value::String(b)) if second(a).is_some() && second(a) == second(b) => Ok(()),
        _ => {
            prop_assert_eq!(read, written, "{}", path);
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_the_definition_of_a_kind_admits_is_read_and_nothing_of_it_is_lost(
        zone in schema::objects("Zone"),
        provider in schema::objects("Provider"),
        node in schema::objects("Node"),
        environment in schema::objects("Environment"),
        claim in schema::objects("HostnameClaim"),
        app in schema::objects("AppDeployment"),
    ) {
        reads::<Zone>(&zone)?;
        reads::<Provider>(&provider)?;
        reads::<Node>(&node)?;
        reads::<Environment>(&environment)?;
        reads::<HostnameClaim>(&claim)?;
        reads::<AppDeployment>(&app)?;
    }
}

/// Reads the smallest object of a kind with each of these values at its place.
fn reads_with<K: DeserializeOwned>(spec: &Value, table: &[(&str, Value)]) {
    for (path, value) in table {
        let mut object = json!({"metadata": {"name": "x"}, "spec": spec});
        *path.split('.').fold(&mut object, |at, name| &mut at[name]) = value.clone();
        if let Err(error) = serde_json::from_value::<K>(object.clone()) {
            panic!("{error}: {object}");
        }
    }
}

#[test]
fn words_and_texts_of_newer_definitions_and_of_people_who_went_around_them_are_read() {
    let refs = json!({"providerRef": {"name": "p"}, "zoneRef": {"name": "z"}});
    let allowed = json!({"from": "All"});
    reads_with::<Zone>(
        &json!({"domain": "a.b", "cloudflare": {"tokenSecretRef": {"name": "t"}}, "allowedNamespaces": allowed}),
        &[
            ("spec.allowedNamespaces.from", json!("Listed")),
            ("spec.propagation", json!({"timeout": "soon", "resolvers": ["dns.example.com"]})),
            ("spec.domain", json!("not a domain")),
            ("spec.later", json!({"a": 1})),
            ("status", json!(null)),
        ],
    );
    reads_with::<Provider>(
        &json!({"static": {"allowedCIDRs": []}, "allowedNamespaces": allowed}),
        &[
            ("spec.static", json!(null)),
            ("spec.static.allowedCIDRs", json!(["everywhere"])),
            ("spec.brake", json!({"window": "a while"})),
            ("spec.hetzner", json!({"location": "fsn1"})),
        ],
    );
    reads_with::<Node>(
        &refs,
        &[
            ("spec.address", json!("999.0.0.1")),
            ("spec.deletionPolicy", json!("Retain")),
            ("spec.host", json!({"manage": "Podman"})),
            ("status", json!({"phase": "Sleeping", "addresses": {"public4": "none"}})),
            ("status", json!({"record": {"id": "r", "content": "any text", "ttl": -1}})),
        ],
    );
    reads_with::<Environment>(
        &json!({ "node": refs }),
        &[
            ("spec.lifetime", json!("for ever")),
            ("spec.expiresAt", json!("9999-12-31T23:59:59Z")),
            ("spec.onExpiry", json!("Sleep")),
            ("status", json!({"journal": {"collisions": "many", "rollback": 7}})),
        ],
    );
    reads_with::<AppDeployment>(
        &json!({"target": {"nodeRef": {"name": "n"}}, "compose": {"inline": "services: {}"}}),
        &[
            ("spec.target", json!({"clusterRef": {"name": "c"}})),
            ("spec.compose", json!({"git": {"url": "u"}})),
            ("spec.network", json!("Host")),
            ("spec.strategy", json!({"type": "Canary", "drainTimeout": "a while"})),
            ("spec.domains", json!([{"name": "Ä", "publish": "Everybody"}])),
            ("spec.services", json!([{"name": "db", "update": "AtNight"}])),
            ("spec.entry", json!({"port": -1})),
            ("status", json!({"nodes": [{"name": "n", "journal": {"later": [1]}}], "phase": "Sleeping"})),
        ],
    );
    reads_with::<HostnameClaim>(
        &json!({"fqdn": "a.example.com", "namespace": "shop"}),
        &[
            ("status", json!({"state": "Parked"})),
            ("spec.holders", json!({"mail": {"kind": "Mail", "name": "m", "uid": "u"}})),
        ],
    );
}
