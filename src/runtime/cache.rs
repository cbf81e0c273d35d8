//! Caches: one watch a kind, kept in memory, that also tells controllers what changed.
//!
//! An object that does not decode is left out and logged; its siblings are served. It is not forgotten, though: it
//! exists, so nothing of it may be taken for that of an object that is gone.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::StreamExt;
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// What a cache holds: objects that live in a cluster.
pub trait Cached: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Cached for K {}

/// Namespace (empty for cluster-wide objects) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace, empty for cluster-wide objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of `object`.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// The key of a cluster-wide object.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self { namespace: String::new(), name: name.into() }
    }

    /// The key of a namespaced object.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// Whether a cache tells of an object that is gone: it is then what was there before.
#[must_use]
pub fn is_gone<K>(object: &K, before: Option<&K>) -> bool {
    before.is_some_and(|before| std::ptr::eq(before, object))
}

/// Drops what nobody here reads: the record of who manages which field takes more memory than the rest of an object.
pub(super) fn lean<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
}

/// The resourceVersion of `object` as a number, 0 without one: they compare as numbers (guaranteed since Kubernetes 1.35,
/// true of every version before).
pub fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// All objects of a kind as last seen. Cheap to clone.
#[derive(Clone)]
pub struct Cache<K> {
    seen: Arc<RwLock<Seen<K>>>,
    ready: watch::Receiver<bool>,
}

struct Seen<K> {
    objects: HashMap<Key, Arc<K>>,
    /// Objects that do not decode.
    unreadable: HashMap<Key, Arc<ObjectMeta>>,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), unreadable: HashMap::new() }
    }
}

impl<K: Cached> Cache<K> {
    /// Starts the watch. `changed` is called, quickly and often, with each object that appeared, changed or went, and
    /// with what was there before it.
    pub fn start(api: Api<DeserializeGuard<K>>, changed: impl Fn(&K, Option<&K>) + Send + Sync + 'static) -> Self {
        let seen = Arc::<RwLock<Seen<K>>>::default();
        let (told, ready) = watch::channel(false);
        tokio::spawn(follow(api, seen.clone(), told, changed));
        Self { seen, ready }
    }

    /// A cache without a watch, that holds what a test puts into it.
    #[cfg(test)]
    pub(crate) fn of(objects: impl IntoIterator<Item = K>) -> Self {
        let objects = objects.into_iter().map(|object| (Key::of(&object), Arc::new(object))).collect();
        let (_, ready) = watch::channel(true);
        Self { seen: Arc::new(RwLock::new(Seen { objects, ..Seen::default() })), ready }
    }

    /// Puts an object into the cache, as the watch would.
    #[cfg(test)]
    pub(crate) fn put(&self, object: K) {
        write(&self.seen).objects.insert(Key::of(&object), Arc::new(object));
    }

    /// Waits for the first complete listing.
    pub async fn filled(&self) {
        // An error means the watch task is gone, which only happens when the process ends.
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
    }

    /// The object with this key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// Whether there is an object of this key, though it may be one that cannot be read.
    #[must_use]
    pub fn exists(&self, key: &Key) -> bool {
        let seen = self.read();
        seen.objects.contains_key(key) || seen.unreadable.contains_key(key)
    }

    /// The metadata of every object that is there and cannot be read, in no order.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Arc<ObjectMeta>> {
        self.read().unreadable.values().cloned().collect()
    }

    /// Every object, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Seen<K>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write<K>(seen: &RwLock<Seen<K>>) -> RwLockWriteGuard<'_, Seen<K>> {
    seen.write().unwrap_or_else(PoisonError::into_inner)
}

async fn follow<K: Cached>(
    api: Api<DeserializeGuard<K>>,
    seen: Arc<RwLock<Seen<K>>>,
    told: watch::Sender<bool>,
    changed: impl Fn(&K, Option<&K>) + Send + Sync + 'static,
) {
    let mut events = watcher(api, watcher::Config::default()).default_backoff().modify(lean).boxed();
    let mut relisting = Seen::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => relisting = Seen::default(),
            Ok(watcher::Event::InitApply(guarded)) => drop(relisting.put(guarded)),
            Ok(watcher::Event::InitDone) => {
                let list = relisting.objects.clone();
                let before = std::mem::replace(&mut *write(&seen), std::mem::take(&mut relisting)).objects;
                for (key, object) in &list {
                    changed(object, before.get(key).map(|o| &**o));
                }
                for (_, gone) in before.iter().filter(|(key, _)| !list.contains_key(key)) {
                    changed(gone, Some(gone));
                }
                told.send_replace(true);
            }
            Ok(watcher::Event::Apply(guarded)) => {
                let put = write(&seen).put(guarded);
                if let Some((object, before)) = put {
                    changed(&object, before.as_deref());
                }
            }
            Ok(watcher::Event::Delete(guarded)) => {
                let gone = write(&seen).remove(&Key::of(&guarded));
                if let Some(gone) = gone {
                    changed(&gone, Some(&gone));
                }
            }
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted"),
        }
    }
}

impl<K: Cached> Seen<K> {
    /// Puts an object that was read, and returns it with what was there before it. One that cannot be read leaves what
    /// was there.
    fn put(&mut self, guarded: DeserializeGuard<K>) -> Option<(Arc<K>, Option<Arc<K>>)> {
        let key = Key::of(&guarded);
        match guarded.0 {
            Ok(object) => {
                let object = Arc::new(object);
                self.unreadable.remove(&key);
                Some((object.clone(), self.objects.insert(key, object)))
            }
            Err(invalid) => {
                tracing::error!(kind = %K::kind(&()), %key, error = %invalid.error, "object cannot be read; left alone");
                self.unreadable.insert(key, Arc::new(invalid.metadata));
                None
            }
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        self.unreadable.remove(key);
        self.objects.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fake_api::FakeApi;
    use super::*;
    use crate::api::node::{Node, NodeSpec};

    #[tokio::test]
    async fn an_object_that_cannot_be_read_is_left_out_but_known_to_exist() {
        let api = FakeApi::default();
        for name in ["a", "broken", "z"] {
            let mut node = serde_json::to_value(Node::new(name, NodeSpec::default())).unwrap();
            node["metadata"]["namespace"] = json!("shop");
            node["spec"]["ttl"] = if name == "broken" { json!("an hour") } else { json!(300) };
            api.put(&format!("namespaces/shop/nodes/{name}"), &node);
        }
        let cache: Cache<Node> = Cache::start(Api::all(api.client()), |_, _| {});
        cache.filled().await;
        let mut names: Vec<_> = cache.all().iter().map(|node| node.name_any()).collect();
        names.sort();
        assert_eq!(names, ["a", "z"]);
        let exists = |name| cache.exists(&Key::namespaced("shop", name));
        assert!(exists("a") && exists("broken") && !exists("nobody"));
        assert!(cache.get(&Key::namespaced("shop", "broken")).is_none());
    }

    #[test]
    fn what_was_read_last_stands_until_the_object_is_read_again_or_gone() {
        let (mut seen, key) = (Seen::<Node>::default(), Key::cluster("a"));
        let guarded = |ttl| {
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"ttl": ttl,
            "providerRef": {"name": "p"}, "zoneRef": {"name": "z"}}}))
            .unwrap()
        };
        assert!(seen.put(guarded(json!(300))).is_some_and(|(_, before)| before.is_none()));
        assert!(seen.put(guarded(json!("an hour"))).is_none());
        assert_eq!((seen.objects[&key].spec.ttl, seen.unreadable.contains_key(&key)), (Some(300), true));
        assert!(seen.put(guarded(json!(600))).is_some_and(|(_, before)| before.is_some()));
        assert!(!seen.unreadable.contains_key(&key));
        assert!(seen.put(guarded(json!("an hour"))).is_none() && seen.remove(&key).is_some());
        assert!(seen.objects.is_empty() && seen.unreadable.is_empty());
    }
}
