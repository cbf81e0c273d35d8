//! What the apps on a Node's host mean for the host: whose names are in its routing table, and who has the
//! Node's own name. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::Value;

use crate::api::app_deployment::{AppDeployment, NodeState};
use crate::api::node::{CaddyTarget, Node};
use crate::host::table::{self, Route, Table, TableError};
use crate::runtime::cache::Key;

/// What an app has noted of itself on this Node.
fn notes<'a>(app: &'a AppDeployment, node: &Node) -> Option<&'a NodeState> {
    let uid = node.uid();
    let same_place = app.namespace() == node.namespace();
    let states = app.status.as_ref().filter(|_| same_place)?.nodes.iter();
    // Another Node of the same name is another host.
    let is_here = |state: &&NodeState| match &state.uid {
        Some(noted) => Some(noted) == uid.as_ref(),
        None => state.name == node.name_any(),
    };
    states.into_iter().find(is_here)
}

/// Whether an app has noted anything of itself on this Node.
#[must_use]
pub fn is_on(app: &AppDeployment, node: &Node) -> bool {
    notes(app, node).is_some()
}

fn names(state: &NodeState) -> impl Iterator<Item = &str> {
    let noted = state.journal.as_ref().and_then(|journal| journal.0.get("names")).and_then(Value::as_array);
    noted.into_iter().flatten().filter_map(Value::as_str)
}

/// The Nodes that say another thing because an app has changed: those on which it is, or was.
#[must_use]
pub fn of_app(app: &AppDeployment, before: Option<&AppDeployment>) -> Vec<Key> {
    let states = |app: &AppDeployment| app.status.as_ref().map(|status| status.nodes.clone()).unwrap_or_default();
    let (is, was) = (states(app), before.map(states).unwrap_or_default());
    let gone = before.is_some_and(|before| std::ptr::eq(before, app));
    // Only what a Node shows of it: names, and where they lead.
    let shown = |state: &NodeState| {
        let journal = state.journal.clone().unwrap_or_default().0;
        let live = journal.get("live").cloned().unwrap_or_default();
        (
            state.name.clone(),
            state.uid.clone(),
            journal.get("names").cloned(),
            live["service"].clone(),
            live["port"].clone(),
        )
    };
    let changed =
        |state: &&NodeState, others: &[NodeState]| gone || !others.iter().any(|other| shown(other) == shown(state));
    let concerned =
        is.iter().filter(|state| changed(state, &was)).chain(was.iter().filter(|state| changed(state, &is)));
    let names: BTreeSet<&String> = concerned.map(|state| &state.name).collect();
    let namespace = app.namespace().unwrap_or_default();
    names.into_iter().map(|name| Key::namespaced(namespace.clone(), name)).collect()
}

/// Every name that an app may have in the routing table of the Node's host.
pub fn names_on<'a>(node: &Node, apps: impl IntoIterator<Item = &'a AppDeployment>) -> BTreeSet<String> {
    let states = apps.into_iter().filter_map(|app| notes(app, node));
    states.flat_map(names).map(str::to_owned).collect()
}

/// Where an app of the Node's host takes requests for the Node's own name, if one does.
pub fn target_of<'a>(
    fqdn: &str,
    node: &Node,
    apps: impl IntoIterator<Item = &'a AppDeployment>,
) -> Option<CaddyTarget> {
    apps.into_iter().filter_map(|app| notes(app, node)).find_map(|state| {
        let live = state.journal.as_ref()?.0.get("live")?;
        let target = CaddyTarget { service: live["service"].as_str()?.to_owned(), port: live["port"].as_i64()? };
        names(state).any(|name| name == fqdn).then_some(target)
    })
}

/// Whether a host's table leads names somewhere that no app has noted.
#[must_use]
pub fn has_strays(table: &Table, known: &BTreeSet<String>, fqdn: &str) -> bool {
    table.iter().any(|(name, route)| !(known.contains(name) || name == fqdn && *route == Route::Placeholder))
}

/// What the host's table should be: what it is, without names that no app has noted, and with the Node's own.
///
/// # Errors
/// If the Node has no health path, or no name, that a table can hold.
pub fn table(is: Option<&Table>, known: &BTreeSet<String>, fqdn: &str, node: table::Node) -> Result<Table, TableError> {
    let kept = is.into_iter().flat_map(Table::iter).filter(|(name, _)| known.contains(*name));
    let mut routes: Vec<(String, Route)> = kept.map(|(name, route)| (name.to_owned(), route.clone())).collect();
    if !routes.iter().any(|(name, _)| name == fqdn) {
        routes.push((fqdn.to_owned(), Route::Placeholder));
    }
    Table::new(node, routes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::node::NodeSpec;

    fn node() -> Node {
        let mut node = Node::new("web-1", NodeSpec::default());
        (node.metadata.namespace, node.metadata.uid) = (Some("shop".to_owned()), Some("u1".to_owned()));
        node
    }

    fn app(namespace: &str, uid: Option<&str>, journal: &Value) -> AppDeployment {
        let object = json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment",
            "metadata": {"name": "shop", "namespace": namespace},
            "spec": {"target": {"nodeRef": {"name": "web-1"}}, "compose": {"inline": "services: {}"}},
            "status": {"nodes": [{"name": "web-1", "uid": uid, "journal": journal}]},
        });
        serde_json::from_value(object).unwrap()
    }

    fn whose() -> table::Node {
        table::Node { nonce: "0123456789abcdef".into(), health_path: "/".into() }
    }

    fn upstream(alias: &str) -> Route {
        Route::Upstream { alias: alias.into(), port: 8080, peer: None }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_what_is_noted_for_this_very_node_counts() {
        let journal = json!({"names": ["a.example.com", "b.example.com"]});
        let of = |app: AppDeployment| names_on(&node(), [&app]);
        assert_eq!(of(app("shop", Some("u1"), &journal)), set(&["a.example.com", "b.example.com"]));
        assert_eq!(of(app("shop", None, &journal)), set(&["a.example.com", "b.example.com"]));
        assert_eq!(of(app("shop", Some("u0"), &journal)), set(&[]), "an earlier Node of this name");
        assert_eq!(of(app("blog", Some("u1"), &journal)), set(&[]), "another namespace");
        assert_eq!(of(app("shop", Some("u1"), &Value::Null)), set(&[]));
    }

    #[test]
    fn the_node_s_name_is_served_by_the_app_that_noted_it_and_is_live() {
        let live = json!({"names": ["web-1.example.com"], "live": {"service": "web", "port": 3000, "revision": "r1"}});
        let target = |journal: &Value| target_of("web-1.example.com", &node(), [&app("shop", Some("u1"), journal)]);
        assert_eq!(target(&live), Some(CaddyTarget { service: "web".to_owned(), port: 3000 }));
        assert_eq!(target(&json!({"names": ["web-1.example.com"], "live": null})), None);
        assert_eq!(target(&json!({"names": ["a.example.com"], "live": live["live"]})), None);
    }

    #[test]
    fn a_table_keeps_what_apps_have_noted_loses_the_rest_and_always_has_the_node_s_name() {
        let fqdn = "web-1.example.com";
        let is = Table::new(whose(), [("a.example.com", upstream("a")), ("old.example.com", upstream("o"))]).unwrap();
        let known = set(&["a.example.com", "coming.example.com"]);
        assert!(has_strays(&is, &known, fqdn));
        let table = table(Some(&is), &known, fqdn, whose()).unwrap();
        let expected = [("a.example.com", upstream("a")), (fqdn, Route::Placeholder)];
        assert_eq!(table, Table::new(whose(), expected).unwrap());
        assert!(!has_strays(&table, &known, fqdn));
        assert_eq!(super::table(None, &known, fqdn, whose()).unwrap().len(), 1);
    }

    #[test]
    fn an_app_that_has_the_node_s_name_keeps_it_and_gives_it_back_when_it_goes() {
        let fqdn = "web-1.example.com";
        let is = Table::new(whose(), [(fqdn, upstream("a"))]).unwrap();
        assert_eq!(table(Some(&is), &set(&[fqdn]), fqdn, whose()).unwrap(), is);
        let free = table(Some(&is), &set(&[]), fqdn, whose()).unwrap();
        assert_eq!(free.lookup(fqdn), Some(&Route::Placeholder));
        assert!(has_strays(&is, &set(&[]), fqdn) && !has_strays(&free, &set(&[]), fqdn));
    }
}
