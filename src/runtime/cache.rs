//! Caches: one watch a kind, kept in memory, that also tells controllers what changed.
//!
//! An object that does not decode is left out and logged; its siblings are served. It is not forgotten, though: it
//! exists, so nothing of it may be taken for that of an object that is gone.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

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

/// All objects of a kind as last seen. Cheap to clone.
#[derive(Clone)]
pub struct Cache<K> {
    objects: Arc<RwLock<HashMap<Key, Arc<K>>>>,
    unreadable: Arc<RwLock<HashMap<Key, ObjectMeta>>>,
    ready: watch::Receiver<bool>,
}

impl<K: Cached> Cache<K> {
    /// Starts the watch. `changed` is called, quickly and often, with each object that appeared, changed or went, and
    /// with what was there before it.
    pub fn start(api: Api<DeserializeGuard<K>>, changed: impl Fn(&K, Option<&K>) + Send + Sync + 'static) -> Self {
        let (told, ready) = watch::channel(false);
        let cache = Self { objects: Arc::default(), unreadable: Arc::default(), ready };
        tokio::spawn(follow(api, cache.clone(), told, changed));
        cache
    }

    /// A cache without a watch, that holds what a test puts into it.
    #[cfg(test)]
    pub(crate) fn of(objects: impl IntoIterator<Item = K>) -> Self {
        let objects = objects.into_iter().map(|object| (Key::of(&object), Arc::new(object))).collect();
        let (_, ready) = watch::channel(true);
        Self { objects: Arc::new(RwLock::new(objects)), unreadable: Arc::default(), ready }
    }

    /// Puts an object into the cache, as the watch would.
    #[cfg(test)]
    pub(crate) fn put(&self, object: K) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(Key::of(&object), Arc::new(object));
    }

    /// Waits for the first complete listing.
    pub async fn filled(&self) {
        // An error means the watch task is gone, which only happens when the process ends.
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
    }

    /// The object with this key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Whether there is an object with this key, be it one that cannot be read.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.get(key).is_some() || self.unreadable.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// The metadata of every object that is there and cannot be read, in no order.
    #[must_use]
    pub fn unreadable(&self) -> Vec<ObjectMeta> {
        self.unreadable.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Every object, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

async fn follow<K: Cached>(
    api: Api<DeserializeGuard<K>>,
    cache: Cache<K>,
    told: watch::Sender<bool>,
    changed: impl Fn(&K, Option<&K>) + Send + Sync + 'static,
) {
    let mut events = watcher(api, watcher::Config::default()).default_backoff().modify(lean).boxed();
    let (objects, unreadable) = (&cache.objects, &cache.unreadable);
    let mut relisting: (HashMap<Key, Arc<K>>, HashMap<Key, ObjectMeta>) = Default::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => relisting = Default::default(),
            Ok(watcher::Event::InitApply(guarded)) => {
                let key = Key::of(&guarded);
                match decoded(guarded) {
                    Ok(object) => drop(relisting.0.insert(key, object)),
                    Err(metadata) => drop(relisting.1.insert(key, metadata)),
                }
            }
            Ok(watcher::Event::InitDone) => {
                let (list, broken) = std::mem::take(&mut relisting);
                *write(unreadable) = broken;
                let before = std::mem::replace(&mut *write(objects), list.clone());
                for (key, object) in &list {
                    changed(object, before.get(key).map(|o| &**o));
                }
                for (_, gone) in before.iter().filter(|(key, _)| !list.contains_key(key)) {
                    changed(gone, Some(gone));
                }
                told.send_replace(true);
            }
            Ok(watcher::Event::Apply(guarded)) => {
                let key = Key::of(&guarded);
                match decoded(guarded) {
                    Ok(object) => {
                        write(unreadable).remove(&key);
                        let before = write(objects).insert(key, object.clone());
                        changed(&object, before.as_deref());
                    }
                    // What was read of it before is the best there is.
                    Err(metadata) => drop(write(unreadable).insert(key, metadata)),
                }
            }
            Ok(watcher::Event::Delete(guarded)) => {
                let key = Key::of(&guarded);
                write(unreadable).remove(&key);
                let before = write(objects).remove(&key);
                if let Some(gone) = before {
                    changed(&gone, Some(&gone));
                }
            }
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted"),
        }
    }
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// The object, or the metadata of one that cannot be read.
fn decoded<K: Cached>(guarded: DeserializeGuard<K>) -> Result<Arc<K>, ObjectMeta> {
    let object = Key::of(&guarded);
    guarded.0.map(Arc::new).map_err(|invalid| {
        tracing::error!(kind = %K::kind(&()), %object, error = %invalid.error, "object cannot be read; left alone");
        invalid.metadata
    })
}
