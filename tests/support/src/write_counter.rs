//! Counting the writes that changed objects, by watching them: the API server reports every revision of an object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{ResourceExt, core::ObjectMeta};
use tokio::task::JoinHandle;

use crate::eventually;

/// What happened to one object while it was watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteCount {
    /// Every write that changed it: creation, changes of spec, metadata or status, and its removal.
    pub writes: usize,
    /// Those after which its generation was another: changes of the spec.
    pub spec_changes: usize,
    /// Whether it is gone.
    pub deleted: bool,
    generation: Option<i64>,
    revision: Option<String>,
}

/// Counts writes to the objects of one kind, by namespace (empty for cluster-scoped objects) and name. A write that
/// changed nothing makes no revision and is not seen here; [`crate::ApiProxy`] records those too.
pub struct WriteCounter {
    api: Api<DynamicObject>,
    counts: Arc<Mutex<Counts>>,
    watcher: JoinHandle<()>,
}

type Counts = BTreeMap<(String, String), WriteCount>;

impl WriteCounter {
    pub(crate) async fn start(api: Api<DynamicObject>) -> Self {
        let list = api.list(&ListParams::default()).await.expect("the kind can be listed");
        let counts: Counts =
            list.items.iter().map(|object| (key(object), seen(&WriteCount::default(), object))).collect();
        let counts = Arc::new(Mutex::new(counts));
        let from = list.metadata.resource_version.unwrap_or_default();
        let watcher = tokio::spawn(watch(api.clone(), from, counts.clone()));
        Self { api, counts, watcher }
    }

    /// The counts up to this moment: waits (at most 10 s) until the watch has seen the objects as they are now. Objects
    /// that nobody wrote to are left out.
    ///
    /// # Panics
    /// If the watch broke off, since its counts would be too small.
    pub async fn counts(&self) -> BTreeMap<(String, String), WriteCount> {
        eventually(Duration::from_secs(10), "the watch to catch up", async || {
            assert!(!self.watcher.is_finished(), "the watch broke off");
            let now = self.api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let now: BTreeMap<_, _> =
                now.items.iter().map(|object| (key(object), revision(&object.metadata))).collect();
            let counts = self.counts.lock().expect("not poisoned").clone();
            let live: BTreeMap<_, _> = counts
                .iter()
                .filter(|(_, count)| !count.deleted)
                .map(|(key, count)| (key.clone(), count.revision.clone()))
                .collect();
            if live != now {
                return Err(format!("seen {live:?}, there is {now:?}"));
            }
            Ok(counts.into_iter().filter(|(_, count)| count.writes > 0).collect())
        })
        .await
    }

    /// The count of one object, zero if nobody wrote to it.
    pub async fn count(&self, namespace: &str, name: &str) -> WriteCount {
        self.counts().await.remove(&(namespace.to_owned(), name.to_owned())).unwrap_or_default()
    }
}

impl Drop for WriteCounter {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn watch(api: Api<DynamicObject>, mut from: String, counts: Arc<Mutex<Counts>>) {
    // The API server ends a watch after a while; it is resumed from the last revision, so no write is lost.
    while let Ok(stream) = api.watch(&WatchParams::default(), &from).await {
        let mut stream = stream.boxed();
        loop {
            let (object, deleted) = match stream.try_next().await {
                Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (object, false),
                Ok(Some(WatchEvent::Deleted(object))) => (object, true),
                Ok(Some(WatchEvent::Bookmark(bookmark))) => {
                    from = bookmark.metadata.resource_version;
                    continue;
                }
                // Too old a revision: writes were missed, and `counts` must say so.
                Ok(Some(WatchEvent::Error(_))) => return,
                Ok(None) | Err(_) => break,
            };
            from = object.resource_version().unwrap_or(from);
            let mut counts = counts.lock().expect("not poisoned");
            let count = counts.entry(key(&object)).or_default();
            let respecified = count.generation.is_some() && count.generation != object.metadata.generation;
            *count = seen(
                &WriteCount {
                    writes: count.writes + 1,
                    // Deletion raises the generation too, but changes no spec.
                    spec_changes: count.spec_changes
                        + usize::from(respecified && object.metadata.deletion_timestamp.is_none()),
                    deleted,
                    ..WriteCount::default()
                },
                &object,
            );
        }
    }
}

fn seen(count: &WriteCount, object: &DynamicObject) -> WriteCount {
    WriteCount { generation: object.metadata.generation, revision: revision(&object.metadata), ..count.clone() }
}

fn revision(metadata: &ObjectMeta) -> Option<String> {
    metadata.resource_version.clone()
}

fn key(object: &DynamicObject) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}
