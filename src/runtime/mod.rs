//! Our thin glue over kube: the reconcile driver with its finalizer, error classes, the one status writer, claims,
//! caches and events. What kube gets wrong for us is put right here, once.

pub mod backoff;
pub mod cache;
pub mod claims;
pub mod driver;
pub mod events;
#[cfg(test)]
pub(crate) mod fake_api;
pub mod fault;
pub mod jobs;
pub mod outcome;
pub mod seeded;
pub mod status;

use std::future::Future;
use std::time::Duration;

use fault::Fault;

/// How long one request to the API server may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds one request to the API server. The client itself cannot do this: its time-out covers watches too.
///
/// # Errors
/// The request's own fault, or a transient one when it takes too long.
pub async fn bounded<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(result) => result.map_err(Fault::from),
        Err(_) => Err(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time")),
    }
}
