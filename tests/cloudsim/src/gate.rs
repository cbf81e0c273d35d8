//! What every request to a cloud passes: journal, faults, holds and latency; and the server that can cut a connection.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::SignedDuration;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::clock::Clock;
use crate::faults::{Action, Faults, ListingLag, Release, Released};
use crate::journal::{Entry, Journal};
use crate::refusal::{self, Refusal};

/// The largest body a cloud reads.
const LARGEST_BODY: usize = 16 << 20;

/// The gate in front of both clouds.
#[derive(Debug)]
pub struct Gate {
    /// Every request.
    pub journal: Journal,
    /// What goes wrong.
    pub faults: Faults,
    /// Added to every answer, in milliseconds.
    pub latency_ms: AtomicU64,
    clock: Clock,
}

/// Marks a response that must not be sent: the connection is cut in its place.
#[derive(Clone, Copy)]
struct Cut;

fn cut() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Cut);
    response
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { journal: Journal::default(), faults: Faults::default(), latency_ms: AtomicU64::new(0), clock }
    }

    /// Lets one request through to `cloud`, whose routes are `router`.
    pub(crate) async fn pass(self: Arc<Self>, cloud: &'static str, router: Router, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        };
        let method = parts.method.to_string();
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let seq = self.journal.begin(Entry {
            seq: 0,
            at: self.clock.now(),
            cloud,
            method: method.clone(),
            path: path.clone(),
            credential: credential(&parts.headers),
            body: serde_json::from_slice(&body).ok(),
            status: 0,
            committed: false,
            commit_order: None,
        });
        let latency = self.latency_ms.load(Ordering::Relaxed);
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        let action = self.faults.strike(cloud, &method, &path);
        Visit { gate: self, router, cloud, method, path, seq, parts, body }.run(action).await
    }
}

/// One request on its way through the gate.
struct Visit {
    gate: Arc<Gate>,
    router: Router,
    cloud: &'static str,
    method: String,
    path: String,
    seq: u64,
    parts: Parts,
    body: Bytes,
}

impl Visit {
    async fn run(mut self, action: Option<Action>) -> Response {
        let cloud = self.cloud;
        match action {
            None => self.take_up().await,
            Some(Action::Latency { ms }) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.take_up().await
            }
            Some(Action::ListingLag { ms }) => {
                let lag = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
                self.parts.extensions.insert(ListingLag(lag));
                self.take_up().await
            }
            Some(Action::Status { status, body, retry_after }) => {
                self.refuse(Refusal { body, retry_after, ..Refusal::of(status) })
            }
            Some(Action::Refusal { status, code, message }) => {
                self.refuse(Refusal { code: Some(code), message: Some(message), ..Refusal::of(status) })
            }
            Some(Action::StatusAfter { status }) => {
                self.take_up().await;
                Refusal::of(status).answer(cloud)
            }
            Some(Action::PartialPage { .. }) => self.refuse(Refusal::of(500)),
            Some(Action::TokenRevoked) => self.refuse(refusal::revoked(cloud)),
            Some(Action::Quota) => self.refuse(refusal::quota(cloud)),
            Some(Action::CutBefore) => cut(),
            Some(Action::CutAfter) => {
                self.take_up().await;
                cut()
            }
            Some(Action::CommitLate { ms }) => self.take_up_later(ms),
            Some(Action::Partial { keep }) => partial(self.take_up().await, keep).await,
            Some(Action::Hang) => std::future::pending().await,
            Some(Action::Hold) => self.hold().await,
        }
    }

    async fn hold(self) -> Response {
        let decided = self.gate.faults.hold(self.seq, self.cloud, &self.method, &self.path);
        let Ok((release, report)) = decided.await else { return cut() };
        let (response, released) = match release {
            Release::Commit | Release::CommitAndCut => {
                let response = self.take_up().await;
                let status = response.status();
                let released = Released { committed: status.is_success(), status: Some(status.as_u16()) };
                (if release == Release::Commit { response } else { cut() }, released)
            }
            Release::CommitLate(ms) => (self.take_up_later(ms), Released::default()),
            Release::Drop => (cut(), Released::default()),
        };
        // Whoever released it may not wait for this.
        let _ = report.send(released);
        response
    }

    /// Lets the cloud handle the request, and journals what it did.
    async fn take_up(self) -> Response {
        let request = Request::from_parts(self.parts, Body::from(self.body));
        let response = match self.router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        self.gate.journal.end(self.seq, status.as_u16(), status.is_success());
        response
    }

    fn take_up_later(self, ms: u64) -> Response {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            self.take_up().await
        });
        cut()
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.gate.journal.end(self.seq, refusal.status, false);
        refusal.answer(self.cloud)
    }
}

/// A label for the credential of a request: a digest, so that journals can be shown.
fn credential(headers: &HeaderMap) -> String {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return "none".to_owned() };
    let mut hasher = DefaultHasher::new();
    value.as_bytes().hash(&mut hasher);
    format!("{:08x}", hasher.finish() & 0xffff_ffff)
}

/// The answer with its list cut short: `result` at Cloudflare, elsewhere the one array there is.
async fn partial(response: Response, keep: usize) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, LARGEST_BODY).await.unwrap_or_default();
    let mut answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if let Some(fields) = answer.as_object_mut() {
        for (name, value) in fields {
            if let (true, Some(list)) = (name != "errors" && name != "messages", value.as_array_mut()) {
                list.truncate(keep);
            }
        }
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(answer.to_string()))
}

/// Serves `router` until the task is dropped, cutting the connection where a response says so.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    // Kept here, so that open connections end with the simulator.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let router = router.clone();
                async move {
                    let response = match router.oneshot(request.map(Body::new)).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    };
                    if response.extensions().get::<Cut>().is_some() {
                        return Err(std::io::Error::other("cut"));
                    }
                    Ok(response)
                }
            });
            // A cut, or a client that went: nothing to do about either.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
