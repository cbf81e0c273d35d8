//! What the proxy remembers: the writes in order, and what is to happen to those yet to come.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use tokio::sync::oneshot;

/// One write request.
#[derive(Debug, Clone)]
pub struct Write {
    /// Its number in the order of arrival, from 1.
    pub number: usize,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The body as sent.
    pub body: Bytes,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// On its way, or held.
    Pending,
    /// The API server answered, and so did the proxy (if the client was still there).
    Answered(StatusCode),
    /// The API server answered; the client was told nothing.
    ReplyLost(StatusCode),
    /// The API server never saw it.
    Dropped,
    /// The API server could not be reached.
    Unreachable,
}

/// How a held write goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// As if nothing had happened.
    Forward,
    /// Never forwarded; the connection is closed without an answer.
    Drop,
    /// Forwarded; the connection is closed without an answer.
    Commit,
    /// The connection is closed without an answer at once, and the write forwarded after that time.
    CommitLate(Duration),
}

impl fmt::Display for Write {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {} ({:?})", self.number, self.method, self.path, self.fate)
    }
}

/// What is to happen to a write that has not arrived.
pub(super) enum Plan {
    Hold { arrived: oneshot::Sender<()>, released: oneshot::Receiver<Release> },
    At(Release),
}

/// A write's place in the journal. `run` tells apart the writes before and after a reset.
#[derive(Clone, Copy)]
pub(super) struct Place {
    run: usize,
    number: usize,
}

#[derive(Default)]
pub(super) struct Journal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    run: usize,
    writes: Vec<Write>,
    plans: HashMap<usize, Plan>,
}

impl Journal {
    pub(super) fn plan(&self, number: usize, plan: Plan) {
        assert!(number > 0, "the first write has number 1");
        let mut state = self.state.lock().expect("not poisoned");
        assert!(state.writes.len() < number, "write {number} has already happened");
        let earlier = state.plans.insert(number, plan);
        assert!(earlier.is_none(), "write {number} already has a plan");
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        self.state.lock().expect("not poisoned").writes.clone()
    }

    pub(super) fn reset(&self) {
        let mut state = self.state.lock().expect("not poisoned");
        *state = State { run: state.run + 1, ..State::default() };
    }

    /// Enters a write, and takes out what was planned for it.
    pub(super) fn enter(&self, method: Method, uri: &Uri, body: Bytes) -> (Place, Option<Plan>) {
        let mut state = self.state.lock().expect("not poisoned");
        let number = state.writes.len() + 1;
        state.writes.push(Write { number, method, path: uri.to_string(), body, fate: Fate::Pending });
        let plan = state.plans.remove(&number);
        (Place { run: state.run, number }, plan)
    }

    pub(super) fn settle(&self, place: Place, fate: Fate) {
        let mut state = self.state.lock().expect("not poisoned");
        if state.run == place.run {
            state.writes[place.number - 1].fate = fate;
        }
    }
}

/// Whether the request changes something that a crash could leave half done.
pub(super) fn is_write(method: &Method, uri: &Uri) -> bool {
    let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let path = uri.path();
    let exempt = path.starts_with("/apis/coordination.k8s.io/")
        || path.starts_with("/apis/events.k8s.io/")
        || path.starts_with("/apis/authentication.k8s.io/")
        || path.starts_with("/apis/authorization.k8s.io/")
        || path.ends_with("/token")
        || is_core_event(path)
        || uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("dryRun=")));
    changes && !exempt
}

/// `/api/v1/events…` or `/api/v1/namespaces/<namespace>/events…`, but not an object that is called `events`.
fn is_core_event(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/api/v1/") else { return false };
    let mut parts = rest.split('/');
    match parts.next() {
        Some("events") => true,
        Some("namespaces") => parts.nth(1) == Some("events"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_change_something_count_as_writes() {
        let node = "/apis/roadstead.dev/v1alpha1/namespaces/shop/nodes/web-1";
        for (method, path, expected) in [
            ("PATCH", format!("{node}/status"), true),
            ("DELETE", node.to_owned(), true),
            ("POST", "/api/v1/namespaces/events/secrets".to_owned(), true),
            ("PUT", "/api/v1/namespaces/shop/secrets/events".to_owned(), true),
            ("GET", node.to_owned(), false),
            ("PATCH", format!("{node}?dryRun=All"), false),
            ("POST", "/api/v1/namespaces/shop/events".to_owned(), false),
            ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events".to_owned(), false),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/roadstead-system/leases/roadstead".to_owned(), false),
            ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(), false),
            ("POST", "/api/v1/namespaces/shop/serviceaccounts/app/token".to_owned(), false),
        ] {
            let counted = is_write(&method.parse().unwrap(), &path.parse().unwrap());
            assert_eq!(counted, expected, "{method} {path}");
        }
    }
}
