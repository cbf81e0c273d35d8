//! Where an app serves, and what may be asked of it there, as its status says (pure): for whoever sends visitors to it.
//!
//! While a new revision goes from Node to Node, those it has not come to yet, or that it was refused on, serve the one
//! before, whole: they count all the same. Otherwise the first Node would get the traffic of all.

use jiff::Timestamp;

use super::observe::journal;
use crate::api::app_deployment::{AppDeployment, NodeState, Publish};
use crate::api::condition::{self, READY, STALLED};

/// Where an app serves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Serving {
    /// The Nodes, by name.
    pub places: Vec<Place>,
    /// Whether the app is being taken away from all of them.
    pub ends: bool,
    /// Whether what the app says of its Nodes is more than a beginning: it is as the spec asks, or failed for good.
    pub settled: bool,
}

/// A Node that an app serves on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Place {
    /// The Node.
    pub node: String,
    /// Its UID: another Node of the same name is another host.
    pub uid: Option<String>,
    /// Whether the app is about to leave it.
    pub leaving: bool,
    /// The names that the app answers there, those first that are to be asked for: one that a group publishes, then as
    /// the spec lists them.
    pub names: Vec<String>,
    /// Where its health is asked for.
    pub health_path: String,
}

impl Serving {
    /// Where `app` serves at the time `now`.
    #[must_use]
    pub fn of(app: &AppDeployment, now: Timestamp) -> Self {
        let status = app.status.clone().unwrap_or_default();
        let is = |type_| condition::is_true(&status.conditions, type_);
        let over = status.expires_at.as_ref().is_some_and(|end| end.0 <= now);
        let mut places: Vec<_> = status.nodes.iter().filter_map(|state| place(app, state)).collect();
        places.sort_by(|one, other| one.node.cmp(&other.node));
        Self { places, ends: over || app.metadata.deletion_timestamp.is_some(), settled: is(READY) || is(STALLED) }
    }
}

fn place(app: &AppDeployment, state: &NodeState) -> Option<Place> {
    let journal = journal(state.journal.as_ref()?)?;
    journal.live.as_ref()?;
    let redirects = |name: &str| app.spec.domains.iter().any(|d| d.name == name && d.redirect_to.is_some());
    let by_group = app.spec.domains.iter().filter(|domain| domain.publish == Publish::Group);
    let asked = by_group.chain(&app.spec.domains).map(|domain| &domain.name);
    let known = app.status.iter().flat_map(|status| &status.domains).map(|domain| &domain.name);
    let mut names: Vec<String> = Vec::new();
    for name in asked.chain(known).filter(|name| journal.names.contains(*name) && !redirects(name)) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Some(Place {
        node: state.name.clone(),
        uid: state.uid.clone(),
        leaving: state.phase.as_deref() == Some("Removing"),
        names,
        health_path: journal.serving().map_or_else(|| "/".to_owned(), |target| target.health_path.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn live(revision: &str) -> Value {
        json!({"revision": revision, "service": "web", "port": 8080, "replicas": 1, "recreate": false, "alone": false,
            "healthPath": format!("/{revision}"), "startPeriod": 1, "healthTimeout": 1, "drain": 1})
    }

    fn node(name: &str, revision: Option<&str>, names: &[&str]) -> Value {
        let journal = json!({"live": revision.map(live), "names": names});
        json!({"name": name, "uid": format!("uid-{name}"), "revision": revision, "phase": "Active", "journal": journal})
    }

    /// An app with these domains and Nodes, of which `r2` is the current revision.
    fn app(domains: &Value, nodes: &Value) -> AppDeployment {
        let known: Vec<_> = ["shop.example.com", "www.example.com", "a.example.com", "b.example.com"].to_vec();
        let known: Vec<_> = known.into_iter().map(|name| json!({"name": name})).collect();
        let object = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment",
            "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"target": {"nodeSelector": {}}, "compose": {"inline": "services: {}"}, "domains": domains},
            "status": {"nodes": nodes, "domains": known, "currentRevision": {"name": "r2"}}});
        serde_json::from_value(object).unwrap()
    }

    fn places(app: &AppDeployment) -> Vec<(String, Vec<String>, String)> {
        let places = Serving::of(app, Timestamp::UNIX_EPOCH).places.into_iter();
        places.map(|place| (place.node, place.names, place.health_path)).collect()
    }

    fn place(node: &str, names: &[&str], path: &str) -> (String, Vec<String>, String) {
        (node.to_owned(), names.iter().map(|name| (*name).to_owned()).collect(), path.to_owned())
    }

    #[test]
    fn every_node_that_has_a_live_revision_serves_also_one_that_the_roll_has_not_come_to() {
        let name = ["shop.example.com"];
        let domains = json!([{"name": "shop.example.com"}]);
        let nodes = json!([node("b", Some("r1"), &name), node("a", Some("r2"), &name), node("c", None, &name)]);
        let expected = [place("a", &name, "/r2"), place("b", &name, "/r1")];
        assert_eq!(places(&app(&domains, &nodes)), expected, "and none where nothing is live yet");
        assert_eq!(places(&app(&domains, &json!([{"name": "a"}]))), [], "nothing was noted of it");
    }

    #[test]
    fn a_revision_that_gets_the_requests_already_is_asked_at_its_own_path() {
        let mut rolled = node("a", Some("r1"), &["shop.example.com"]);
        let coming =
            |stage| json!({"target": live("r2"), "cause": "1", "stage": stage, "since": "2026-01-01T00:00:00Z"});
        for (stage, path) in [("Proving", "/r1"), ("Verifying", "/r2")] {
            rolled["journal"]["coming"] = coming(stage);
            let app = app(&json!([{"name": "shop.example.com"}]), &json!([rolled]));
            assert_eq!(places(&app), [place("a", &["shop.example.com"], path)]);
        }
    }

    #[test]
    fn a_name_that_a_group_publishes_comes_first_and_redirects_and_names_that_are_not_there_do_not_come_at_all() {
        let names = ["shop.example.com", "www.example.com", "a.example.com"];
        let domains = json!([{"name": "www.example.com", "redirectTo": "shop.example.com"},
            {"name": "a.example.com"}, {"name": "b.example.com"}, {"name": "shop.example.com", "publish": "Group"}]);
        let expected = place("a", &["shop.example.com", "a.example.com"], "/r2");
        assert_eq!(places(&app(&domains, &json!([node("a", Some("r2"), &names)]))), [expected]);
        // Of an app without domains each Node answers its own name.
        let nodes = json!([node("a", Some("r2"), &["a.example.com"]), node("b", Some("r2"), &["b.example.com"])]);
        let expected = [place("a", &["a.example.com"], "/r2"), place("b", &["b.example.com"], "/r2")];
        assert_eq!(places(&app(&json!([]), &nodes)), expected);
    }

    #[test]
    fn an_app_that_is_deleted_or_over_ends_and_one_in_place_or_failed_is_settled() {
        let mut app = app(&json!([]), &json!([]));
        let at = |second| Timestamp::from_second(second).unwrap();
        let of = |app: &AppDeployment, second| {
            let Serving { ends, settled, .. } = Serving::of(app, at(second));
            (ends, settled)
        };
        assert_eq!(of(&app, 0), (false, false));
        let status = app.status.as_mut().unwrap();
        status.expires_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(100)));
        condition::set(&mut status.conditions, condition::Desired::yes(READY, "Deployed", "it serves"), None, at(0));
        assert_eq!((of(&app, 99), of(&app, 100)), ((false, true), (true, true)));
        app.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
        assert_eq!(of(&app, 0), (true, true));
    }
}
