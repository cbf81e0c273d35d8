//! What an app has to know of others of its namespace: whom it takes names from, and who takes names over from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use kube::ResourceExt;

use super::observe::Observed;
use super::report::SERVING;
use crate::api::app_deployment::AppDeployment;
use crate::runtime::cache::{Cache, Key, is_gone};
use crate::runtime::claims::Standing;

/// The kind that names go from and to.
pub const KIND: &str = "AppDeployment";

/// Another app of the namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The names that it asks for, to be taken over from the app that looks at it; none once its end has come.
    pub asks: BTreeSet<String>,
    /// The Nodes it is on.
    pub nodes: BTreeSet<String>,
    /// The names it serves, with the addresses that it publishes for each.
    pub serves: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Peer {
    /// An app as the one named `us` sees it.
    #[must_use]
    pub fn of(app: &AppDeployment, us: &str, now: Timestamp) -> Self {
        let status = app.status.clone().unwrap_or_default();
        let is_over = status.expires_at.is_some_and(|end| end.0 <= now);
        let ends = app.metadata.deletion_timestamp.is_some() || is_over;
        let serving = status.domains.iter().filter(|domain| domain.phase.as_deref() == Some(SERVING));
        let addresses = |of: &[String]| of.iter().filter_map(|address| address.parse().ok()).collect();
        Self {
            asks: if ends { BTreeSet::new() } else { asked(app, us).map(str::to_owned).collect() },
            nodes: status.nodes.iter().map(|state| state.name.clone()).collect(),
            serves: serving.map(|domain| (domain.name.clone(), addresses(&domain.addresses))).collect(),
        }
    }
}

/// The names that an app asks for, to be taken over from the app `from`.
fn asked<'a>(app: &'a AppDeployment, from: &str) -> impl Iterator<Item = &'a str> {
    let of = move |domain: &&crate::api::app_deployment::Domain| {
        domain.take_from.as_ref().is_some_and(|named| named.name == from)
    };
    app.spec.domains.iter().filter(of).map(|domain| domain.name.as_str())
}

/// The others that matter to what is seen of an app, by name.
#[must_use]
pub fn peers(seen: &Observed, apps: &Cache<AppDeployment>, now: Timestamp) -> BTreeMap<String, Peer> {
    let (namespace, us) = (&seen.claimant.namespace, &seen.claimant.holder.name);
    let holders = seen.standings.values().filter_map(|standing| match standing {
        Standing::Taken { namespace: theirs, holder } if theirs == namespace && holder.kind == KIND => {
            Some(&holder.name)
        }
        _ => None,
    });
    let takers = seen.status.domains.iter().filter_map(|domain| domain.handed.as_ref().map(|handed| &handed.to));
    let named = holders.chain(takers).filter(|name| *name != us).filter_map(|name| {
        let app = apps.get(&Key::namespaced(namespace, name))?;
        Some((name.clone(), Peer::of(&app, us, now)))
    });
    let mut peers: BTreeMap<String, Peer> = named.collect();
    // Only of a name that is about to be given back it matters who asks for it.
    let listed = |name: &str| seen.app.spec.domains.iter().any(|domain| domain.name == name);
    let leaves = seen.deleting() || seen.expires_at().is_some_and(|end| end <= now);
    if leaves || seen.status.domains.iter().any(|domain| !listed(&domain.name)) {
        let inside = |app: &AppDeployment| app.namespace().as_ref() == Some(namespace);
        let all = apps.all();
        let asking = all.iter().filter(|app| inside(app) && asked(app, us).next().is_some());
        peers.extend(asking.map(|app| (app.name_any(), Peer::of(app, us, now))));
    }
    peers
}

/// The apps whose names an app takes over, or stopped to: its progress is theirs to know.
#[must_use]
pub fn of_app(app: &AppDeployment, before: Option<&AppDeployment>) -> Vec<Key> {
    let gone = is_gone(app, before);
    let seen = |app: &AppDeployment| {
        let domains = app.status.as_ref().map(|status| status.domains.clone());
        (app.metadata.deletion_timestamp.is_some(), app.spec.domains.clone(), domains)
    };
    if !gone && before.is_some_and(|before| seen(before) == seen(app)) {
        return Vec::new();
    }
    let domains = before.into_iter().chain([app]).flat_map(|app| &app.spec.domains);
    let named: BTreeSet<&String> = domains.filter_map(|domain| Some(&domain.take_from.as_ref()?.name)).collect();
    let namespace = app.namespace().unwrap_or_default();
    named.into_iter().map(|name| Key::namespaced(&namespace, name)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(name: &str, domains: &serde_json::Value, status: &serde_json::Value) -> AppDeployment {
        let spec = json!({"target": {}, "compose": {"inline": "services: {}"}, "domains": domains});
        let metadata = json!({"name": name, "namespace": "shop"});
        let app = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": KIND, "metadata": metadata, "spec": spec,
            "status": status});
        serde_json::from_value(app).unwrap()
    }

    #[test]
    fn a_peer_asks_for_what_it_takes_from_us_until_its_end_has_come() {
        let domains = json!([{"name": "a.example.com", "takeFrom": {"name": "us"}},
            {"name": "b.example.com", "takeFrom": {"name": "other"}}, {"name": "c.example.com"}]);
        let status = json!({"domains": [{"name": "a.example.com", "phase": "Serving", "addresses": ["203.0.113.1"]},
            {"name": "c.example.com", "phase": "Published"}], "nodes": [{"name": "web-1"}]});
        let mut peer = app("peer", &domains, &status);
        let seen = Peer::of(&peer, "us", Timestamp::UNIX_EPOCH);
        assert_eq!(seen.asks, ["a.example.com".to_owned()].into());
        assert_eq!(seen.serves, [("a.example.com".to_owned(), ["203.0.113.1".parse().unwrap()].into())].into());
        assert_eq!(seen.nodes, ["web-1".to_owned()].into());
        peer.metadata.deletion_timestamp = Some(crate::api::condition::whole_seconds(Timestamp::UNIX_EPOCH));
        assert_eq!(Peer::of(&peer, "us", Timestamp::UNIX_EPOCH).asks, BTreeSet::new());
    }

    #[test]
    fn who_is_taken_from_is_woken_by_every_step_of_who_takes_and_by_its_end() {
        let taking = json!([{"name": "a.example.com", "takeFrom": {"name": "us"}}]);
        let woken = |app: &AppDeployment, before: Option<&AppDeployment>| {
            of_app(app, before).into_iter().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        let plain = app("peer", &json!([{"name": "a.example.com"}]), &json!({}));
        let asks = app("peer", &taking, &json!({}));
        let serves = app("peer", &taking, &json!({"domains": [{"name": "a.example.com", "phase": "Serving"}]}));
        assert_eq!(woken(&plain, None), Vec::<String>::new());
        assert_eq!(woken(&asks, None), ["shop/us"]);
        assert_eq!(woken(&asks, Some(&plain)), ["shop/us"]);
        assert_eq!(woken(&serves, Some(&asks)), ["shop/us"]);
        assert_eq!(woken(&serves, Some(&serves.clone())), Vec::<String>::new());
        assert_eq!(woken(&plain, Some(&asks)), ["shop/us"]);
        // What is deleted is told as itself before itself.
        assert_eq!(woken(&asks, Some(&asks)), ["shop/us"]);
    }
}
