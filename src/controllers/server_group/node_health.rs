//! The condition `Healthy` of Nodes: what the probes of the groups that select a Node say of it. Nodes that no group
//! selects are not probed and do not have it. It never decides whether a Node is Ready.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;

use crate::api::condition::{self, Desired};
use crate::api::node::Node;
use crate::api::server_group::{ServerGroup, Source};
use crate::runtime::cache::{Cache, Key};
use crate::runtime::fault::Fault;
use crate::runtime::{bounded, status};

/// The condition.
pub const HEALTHY: &str = "Healthy";
/// When a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often a Node that is written by others meanwhile is tried in a row.
const TRIES: usize = 5;

/// The Nodes whose condition may follow from a group that appeared, changed or went.
#[must_use]
pub fn of_group(group: &ServerGroup, before: Option<&ServerGroup>) -> Vec<Key> {
    let said = |group: &ServerGroup| -> Vec<_> {
        let members = group.status.as_ref().map(|s| s.members.as_slice()).unwrap_or_default();
        members.iter().filter_map(|m| Some((m.node.clone()?, m.probe.as_ref().map(|probe| probe.healthy)))).collect()
    };
    let (now, before) = (said(group), before.map(said).unwrap_or_default());
    let namespace = group.namespace().unwrap_or_default();
    let changed = now.iter().filter(|entry| !before.contains(entry)).chain(before.iter().filter(|e| !now.contains(e)));
    let gone = now.iter().filter(|_| group.meta().deletion_timestamp.is_some());
    let mut keys: Vec<_> = changed.chain(gone).map(|(node, _)| Key::namespaced(&namespace, node)).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// The Node itself, when it appeared or its condition was changed by somebody.
#[must_use]
pub fn of_node(node: &Node, before: Option<&Node>) -> Option<Key> {
    let is = |node: &Node| node.status.as_ref().and_then(|s| condition::get(&s.conditions, HEALTHY).cloned());
    before.is_none_or(|before| is(before) != is(node)).then(|| Key::of(node))
}

/// Writes the condition of the Nodes that come in by `nodes_to_look_at`, one after the other, until `shutdown`.
pub async fn keep(
    client: Client,
    nodes: Cache<Node>,
    groups: Cache<ServerGroup>,
    (again, mut nodes_to_look_at): (mpsc::UnboundedSender<Key>, mpsc::UnboundedReceiver<Key>),
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let key = tokio::select! {
            () = &mut shutdown => return,
            key = nodes_to_look_at.recv() => match key {
                Some(key) => key,
                None => return,
            },
        };
        let Some(node) = nodes.get(&key) else { continue };
        match write(&client, node, &groups).await {
            Ok(()) | Err(Fault::Gone) => {}
            Err(fault) => {
                tracing::warn!(node = %key, %fault, "the condition Healthy is not written yet");
                let again = again.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(AGAIN).await;
                    let _ = again.send(key);
                });
            }
        }
    }
}

async fn write(client: &Client, mut node: Arc<Node>, groups: &Cache<ServerGroup>) -> Result<(), Fault> {
    let api: Api<Node> = Api::namespaced(client.clone(), &node.namespace().unwrap_or_default());
    for _ in 0..TRIES {
        let old = node.status.clone().unwrap_or_default();
        let mut new = old.clone();
        match (verdict(&node, &groups.all()), condition::get(&old.conditions, HEALTHY)) {
            (None, _) => condition::remove(&mut new.conditions, HEALTHY),
            (Some(wanted), Some(is)) if is_said(is, &wanted) => {}
            (Some(wanted), _) => {
                condition::set(&mut new.conditions, wanted, node.metadata.generation, Timestamp::now());
            }
        }
        match status::write(&api, &*node, &old, &new).await {
            Err(Fault::Conflict) => node = Arc::new(bounded(api.get(&node.name_any())).await?),
            result => return result.map(drop),
        }
    }
    Err(Fault::Conflict)
}

/// Whether a condition says this already: it keeps the generation it was said for.
fn is_said(is: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition, wanted: &Desired) -> bool {
    let status = if wanted.status == Some(true) { "True" } else { "False" };
    is.status == status && is.reason == wanted.reason && is.message == wanted.message
}

/// What the probes of all groups say of `node`; `None` if nobody probes it.
fn verdict(node: &Node, groups: &[Arc<ServerGroup>]) -> Option<Desired> {
    let name = node.name_any();
    let mut said: Vec<(String, bool, String)> = Vec::new();
    for group in groups.iter().filter(|group| group.namespace() == node.namespace()) {
        if group.meta().deletion_timestamp.is_some() {
            continue;
        }
        let members = group.status.as_ref().map(|s| s.members.as_slice()).unwrap_or_default();
        let member = members.iter().find(|member| member.node.as_ref() == Some(&name));
        let Some((member, probe)) = member.and_then(|member| Some((member, member.probe.as_ref()?))) else { continue };
        let sentence = member.message.clone().filter(|_| member.source == Some(Source::Probe));
        said.push((group.name_any(), probe.healthy, sentence.unwrap_or_else(|| probe.reason.clone())));
    }
    said.sort();
    match said.iter().find(|(_, healthy, _)| !healthy) {
        Some((group, _, why)) => {
            Some(Desired::no(HEALTHY, "ProbeFailed", format!("the probe of ServerGroup {group} fails: {why}")))
        }
        None if said.is_empty() => None,
        None => {
            Some(Desired::yes(HEALTHY, "ProbeSucceeded", "the probes of every ServerGroup that selects it succeed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::node::NodeSpec;
    use crate::api::server_group::{
        MemberHealth, MemberStatus, Origin, ServerGroupSpec, ServerGroupStatus, SourceStatus,
    };

    fn node(name: &str) -> Node {
        let mut node = Node::new(name, NodeSpec::default());
        node.metadata.namespace = Some("shop".into());
        node
    }

    fn group(name: &str, namespace: &str, says: &[(&str, Option<bool>)]) -> Arc<ServerGroup> {
        let at = Time(Timestamp::from_second(1_800_000_000).unwrap());
        let member = |(node, healthy): &(&str, Option<bool>)| MemberStatus {
            id: format!("{node}.example.com"),
            origin: Origin::Node,
            node: Some((*node).to_owned()),
            asked: None,
            health: MemberHealth::Pending,
            source: Some(Source::Probe),
            reason: "Timeout".into(),
            message: (*healthy == Some(false)).then(|| "no answer within 2s".into()),
            added: None,
            since: at.clone(),
            healthy_until: None,
            probe: healthy.map(|healthy| SourceStatus { healthy, reason: "Timeout".into(), since: at.clone() }),
            report: None,
        };
        let mut group = ServerGroup::new(name, ServerGroupSpec::default());
        group.metadata.namespace = Some(namespace.into());
        group.status = Some(ServerGroupStatus { members: says.iter().map(member).collect(), ..Default::default() });
        Arc::new(group)
    }

    #[test]
    fn a_node_is_healthy_if_every_group_that_probes_it_says_so() {
        let node = node("web-1");
        assert_eq!(verdict(&node, &[]), None);
        let elsewhere = group("a", "blog", &[("web-1", Some(false))]);
        let silent = group("b", "shop", &[("web-1", None), ("web-2", Some(false))]);
        assert_eq!(verdict(&node, &[elsewhere.clone(), silent.clone()]), None);
        let good = group("c", "shop", &[("web-1", Some(true))]);
        let said = verdict(&node, &[elsewhere, silent, good.clone()]).unwrap();
        assert_eq!((said.status, said.reason), (Some(true), "ProbeSucceeded"));
        let bad = group("d", "shop", &[("web-1", Some(false))]);
        let said = verdict(&node, &[bad, good]).unwrap();
        assert_eq!((said.status, said.reason), (Some(false), "ProbeFailed"));
        assert_eq!(said.message, "the probe of ServerGroup d fails: no answer within 2s");
    }

    #[test]
    fn a_group_wakes_the_nodes_of_which_it_says_something_new() {
        let keys = |now: &ServerGroup, before: Option<&ServerGroup>| -> Vec<String> {
            of_group(now, before).iter().map(ToString::to_string).collect()
        };
        let before = group("g", "shop", &[("web-1", Some(true)), ("web-2", Some(true)), ("web-3", Some(true))]);
        let after = group("g", "shop", &[("web-1", Some(true)), ("web-2", Some(false))]);
        assert_eq!(keys(&before, None), ["shop/web-1", "shop/web-2", "shop/web-3"]);
        assert_eq!(keys(&after, Some(&before)), ["shop/web-2", "shop/web-3"]);
        assert_eq!(keys(&after, Some(&after.as_ref().clone())), [] as [&str; 0]);
    }
}
