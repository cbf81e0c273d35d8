//! Many Nodes at once: making, watching, changing and deleting them as fast as the API server takes it.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use roadstead::api::node::Node;
use serde_json::{Value, json};
use support::Cluster;

/// How many requests to the API server are under way at once.
const AT_ONCE: usize = 16;
/// How long anything may take before the measurement is given up.
const DEADLINE: Duration = Duration::from_mins(10);
/// The namespace of all Nodes.
pub const NAMESPACE: &str = "fleet";

/// The Nodes of one world.
pub struct Fleet {
    api: Api<Node>,
}

impl Fleet {
    pub async fn new(cluster: &Cluster) -> Self {
        cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}")).await;
        Self { api: Api::namespaced(cluster.client(), NAMESPACE) }
    }

    /// Creates a Node of each name and spec, and answers how long that took.
    pub async fn create(&self, nodes: impl IntoIterator<Item = (String, Value)>) -> Duration {
        let began = Instant::now();
        let made = stream::iter(nodes).map(|(name, spec)| async move {
            let node = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Node", "metadata": {"name": name}, "spec": spec});
            self.api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await
        });
        made.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await.unwrap();
        began.elapsed()
    }

    /// How long the API server takes for as many objects that no operator cares about: what it takes by itself.
    pub async fn baseline(cluster: &Cluster, objects: usize) -> Duration {
        let api: Api<ConfigMap> = Api::namespaced(cluster.client(), NAMESPACE);
        let began = Instant::now();
        let made = stream::iter(0..objects).map(|index| {
            let api = &api;
            async move {
                let map = json!({"metadata": {"name": format!("map-{index}")}, "data": {"address": "198.18.0.1"}});
                api.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await
            }
        });
        made.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await.unwrap();
        began.elapsed()
    }

    pub async fn patch(&self, name: &str, spec: Value) {
        let change = json!({"spec": spec});
        self.api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    pub async fn delete_all(&self) {
        let names: Vec<String> = self.list().await.into_iter().filter_map(|node| node.metadata.name).collect();
        let params = DeleteParams::default();
        let deleted = stream::iter(&names).map(|name| self.api.delete(name, &params));
        deleted.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await.unwrap();
    }

    pub async fn list(&self) -> Vec<Node> {
        self.api.list(&ListParams::default()).await.unwrap().items
    }

    /// Follows the Nodes from now on until `enough` of (all that exist, those that meet `what`).
    pub async fn until(&self, what: impl Fn(&Node) -> bool, enough: impl Fn(usize, usize) -> bool) {
        let follow = async {
            let list = self.api.list(&ListParams::default()).await.unwrap();
            let mut all: HashSet<String> = HashSet::new();
            let mut meet: HashSet<String> = HashSet::new();
            for node in list.items {
                note(&mut all, &mut meet, &node, &what);
            }
            let mut from = list.metadata.resource_version.unwrap();
            while !enough(all.len(), meet.len()) {
                let mut events = self.api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
                while let Ok(Some(event)) = events.try_next().await {
                    match event {
                        WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                            from = node.metadata.resource_version.clone().unwrap();
                            note(&mut all, &mut meet, &node, &what);
                        }
                        WatchEvent::Deleted(node) => {
                            from = node.metadata.resource_version.clone().unwrap();
                            let name = node.metadata.name.unwrap();
                            all.remove(&name);
                            meet.remove(&name);
                        }
                        _ => {}
                    }
                    if enough(all.len(), meet.len()) {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, follow).await.expect("the Nodes get there before the deadline");
    }
}

fn note(all: &mut HashSet<String>, meet: &mut HashSet<String>, node: &Node, what: &impl Fn(&Node) -> bool) {
    let name = node.metadata.name.clone().unwrap();
    if what(node) {
        meet.insert(name.clone());
    } else {
        meet.remove(&name);
    }
    all.insert(name);
}

/// Whether a Node is Ready for the spec it has now.
pub fn is_ready(node: &Node) -> bool {
    let Some(status) = &node.status else { return false };
    status.observed_generation == node.metadata.generation
        && status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The most events that any one Node has.
pub async fn most_events(cluster: &Cluster) -> usize {
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    for event in cluster.list("events.k8s.io/v1/Event", Some(NAMESPACE)).await {
        *by_name.entry(event.data["regarding"]["name"].to_string()).or_default() += 1;
    }
    by_name.into_values().max().unwrap_or_default()
}

/// The most writes to any one object that had any.
pub fn most_writes(counts: &BTreeMap<(String, String), support::WriteCount>) -> usize {
    counts.values().map(|count| count.writes).max().unwrap_or_default()
}

/// Leaves time for what follows a write unseen (events, a claim's record), so that measurements do not overlap.
pub async fn quiet() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}
