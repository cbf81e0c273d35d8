//! Groups whose servers are an app's Nodes (`spec.appRef`). They send visitors to the app as its own records do: it leaves no
//! Node that one of them still has, and no cache may hold what one of them published.

use std::collections::BTreeSet;

use kube::{Resource, ResourceExt};

use crate::api::app_deployment::AppDeployment;
use crate::api::server_group::{Origin, ServerGroup};
use crate::runtime::cache::Cache;

/// A group that follows an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Its name.
    pub group: String,
    /// The Nodes that it has by the app.
    pub nodes: BTreeSet<String>,
    /// Seconds for which a cache may hold what it publishes.
    pub ttl: u32,
}

impl Follower {
    /// Those of `app`.
    #[must_use]
    pub fn all(app: &AppDeployment, groups: &Cache<ServerGroup>) -> Vec<Self> {
        let refers = |group: &ServerGroup| {
            let by_name = group.spec.app_ref.as_ref().is_some_and(|reference| reference.name == app.name_any());
            by_name && group.namespace() == app.namespace() && group.meta().deletion_timestamp.is_none()
        };
        groups.all().iter().filter(|group| refers(group)).map(|group| Self::of(group)).collect()
    }

    fn of(group: &ServerGroup) -> Self {
        let status = group.status.clone().unwrap_or_default();
        let of_app = status.members.into_iter().filter(|member| member.origin == Origin::App);
        let ttl = status.txt.map(|txt| txt.ttl).max(status.a.map(|a| a.ttl)).unwrap_or(0);
        Self {
            group: group.name_any(),
            nodes: of_app.filter_map(|member| member.node).collect(),
            // The schema keeps TTLs within 60..=86400.
            ttl: u32::try_from(ttl).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_groups_that_refer_to_an_app_have_its_nodes_and_the_longer_of_their_ttls() {
        let group = |namespace: &str, app: &str, deleted: bool| {
            let member = |node: &str, origin: &str| json!({"id": node, "node": node, "origin": origin, "reason": "R", "since": "2026-01-01T00:00:00Z"});
            let object = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "ServerGroup",
                "metadata": {"name": format!("of-{app}{deleted}"), "namespace": namespace,
                    "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "spec": {"zoneRef": {"name": "z"}, "appRef": {"name": app}},
                "status": {"members": [member("web-1", "App"), member("web-2", "Listed")],
                    "txt": {"name": "_wrap.x", "content": "", "ttl": 60},
                    "a": {"hostname": "x", "addresses": [], "ttl": 120}}});
            serde_json::from_value::<ServerGroup>(object).unwrap()
        };
        let groups =
            [("shop", "shop", false), ("blog", "shop", false), ("shop", "news", false), ("shop", "shop", true)];
        let groups = Cache::of(groups.map(|(namespace, app, deleted)| group(namespace, app, deleted)));
        let mut app = AppDeployment::new("shop", crate::api::app_deployment::AppDeploymentSpec::default());
        app.metadata.namespace = Some("shop".into());
        let expected = Follower { group: "of-shopfalse".into(), nodes: ["web-1".into()].into(), ttl: 120 };
        assert_eq!(Follower::all(&app, &groups), [expected]);
    }
}
