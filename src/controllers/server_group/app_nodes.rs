//! The Nodes of the app that `appRef` names, and what each is asked for (pure).
//!
//! A group is never emptied by its app's doings: a Node that the app leaves stays until one that it goes to is healthy, and
//! without the app, which may be a slip of the pen, all stay that the status knows. They are probed as before, so that one
//! that is really dead is found out. An app that is deleted, or whose time is over, takes its Nodes with it.

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::api::app_deployment::AppDeployment;
use crate::api::node::Node;
use crate::api::server_group::{Asked, MemberHealth, MemberStatus, Origin, ServerGroup};
use crate::controllers::app_deployment::serving::{Place, Serving};
use crate::runtime::cache::{Cache, Key};

/// Where the app that `group` refers to serves; `None` if there is none, or no reference.
pub(super) fn serving(group: &ServerGroup, apps: &Cache<AppDeployment>, now: Timestamp) -> Option<Serving> {
    let app = group.spec.app_ref.as_ref()?;
    let key = Key::namespaced(group.namespace().unwrap_or_default(), &app.name);
    apps.get(&key).map(|app| Serving::of(&app, now))
}

/// What a Node answers of the app.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is asked for.
    pub asked: Asked,
    /// Whether it answers the Node's own name as well, as far as is known.
    pub answers_own_name: bool,
    /// Whether the app is about to leave it.
    pub leaving: bool,
}

/// Those of `nodes`, which are the group's namespace's, that belong to the group by its app.
pub(super) fn chosen<'a>(group: &ServerGroup, nodes: &[&'a Node], app: Option<&Serving>) -> Vec<(&'a Node, Part)> {
    if group.spec.app_ref.is_none() {
        return Vec::new();
    }
    let members = group.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
    let Some(app) = app else { return kept(nodes, members) };
    if app.ends {
        return Vec::new();
    }
    let of = |place: &Place| {
        let same = |node: &&&Node| {
            let uid = node.meta().uid.as_ref();
            node.name_any() == place.node && place.uid.as_ref().is_none_or(|known| Some(known) == uid)
        };
        let node = *nodes.iter().find(same)?;
        let own = fqdn(node)?;
        let host = place.names.first().cloned().unwrap_or_else(|| own.to_owned());
        let answers_own_name = host == own || place.names.iter().any(|name| name == own);
        let asked = Asked { host, path: place.health_path.clone() };
        Some((node, Part { asked, answers_own_name, leaving: place.leaving }))
    };
    let is_healthy = |place: &&Place| {
        let of_place = |member: &&MemberStatus| member.node.as_ref() == Some(&place.node);
        members.iter().filter(of_place).any(|member| member.health == MemberHealth::Healthy)
    };
    let arrived = app.places.iter().filter(|place| !place.leaving).any(|place| is_healthy(&place));
    app.places.iter().filter(|place| !place.leaving || !arrived).filter_map(of).collect()
}

/// The Nodes that belonged to the group by an app that is not there, as they were.
fn kept<'a>(nodes: &[&'a Node], members: &[MemberStatus]) -> Vec<(&'a Node, Part)> {
    let of = |member: &MemberStatus| {
        let node = *nodes.iter().find(|node| Some(node.name_any()) == member.node)?;
        Some((node, Part { asked: member.asked.clone()?, answers_own_name: true, leaving: false }))
    };
    members.iter().filter(|member| member.origin == Origin::App).filter_map(of).collect()
}

fn fqdn(node: &Node) -> Option<&str> {
    node.status.as_ref()?.fqdn.as_deref()
}

#[cfg(test)]
#[path = "app_nodes_tests.rs"]
mod tests;
