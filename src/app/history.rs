//! The history's disk, as people hear of it: a metric, and an event in the operator's namespace. Nothing else depends on it.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;

use super::LEASE;
use crate::metrics::Metrics;
use crate::runtime::events::{Events, Note};
use crate::store::Store;

/// How often what was dropped is counted.
const COUNT: Duration = Duration::from_secs(15);

/// Reports on the disk of `history` until `end`. Its events are about the lease in `namespace`, because that is always
/// there.
pub async fn watch(history: Store, metrics: Metrics, events: Events, namespace: String, end: impl Future<Output = ()>) {
    let lease = ObjectReference {
        api_version: Some("coordination.k8s.io/v1".to_owned()),
        kind: Some("Lease".to_owned()),
        name: Some(LEASE.to_owned()),
        namespace: Some(namespace),
        ..ObjectReference::default()
    };
    let mut trouble = history.trouble();
    let mut count = tokio::time::interval(COUNT);
    let mut end = std::pin::pin!(end);
    let mut was_broken = false;
    loop {
        let said = trouble.borrow_and_update().clone();
        metrics.history(said.is_some(), history.dropped());
        match (&said, was_broken) {
            (Some(words), false) => events.publish(lease.clone(), Note::warning("HistoryBroken", words.clone())),
            (None, true) => {
                events.publish(lease.clone(), Note::normal("HistoryRestored", "the history is written again"));
            }
            _ => {}
        }
        was_broken = said.is_some();
        tokio::select! {
            () = &mut end => return,
            _ = count.tick() => {}
            changed = trouble.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
