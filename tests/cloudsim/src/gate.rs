//! What every request to a cloud passes: journal, faults, holds and latency; and the server that can cut a connection.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::clock::Clock;
use crate::faults::{Action, Faults, Release};
use crate::journal::{Entry, Journal};

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
        });
        let latency = self.latency_ms.load(Ordering::Relaxed);
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        let take_up = {
            let (gate, body) = (self.clone(), body);
            move || async move {
                let request = Request::from_parts(parts, Body::from(body));
                let response = match router.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                gate.journal.end(seq, response.status().as_u16(), true);
                response
            }
        };
        match self.faults.strike(cloud, &method, &path) {
            None => take_up().await,
            Some(Action::Latency { ms }) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                take_up().await
            }
            Some(Action::Status { status, body, retry_after }) => {
                self.journal.end(seq, status, false);
                refusal(cloud, status, body, retry_after)
            }
            Some(Action::CutBefore) => cut(),
            Some(Action::CutAfter) => {
                take_up().await;
                cut()
            }
            Some(Action::CommitLate { ms }) => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    take_up().await;
                });
                cut()
            }
            Some(Action::Partial { keep }) => partial(take_up().await, keep).await,
            Some(Action::Hang) => std::future::pending().await,
            Some(Action::Hold) => match self.faults.hold(cloud, &method, &path).await {
                Ok(Release::Commit) => take_up().await,
                Ok(Release::CommitAndCut) => {
                    take_up().await;
                    cut()
                }
                Ok(Release::CommitLate(ms)) => {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        take_up().await;
                    });
                    cut()
                }
                Ok(Release::Drop) | Err(_) => cut(),
            },
        }
    }
}

/// A label for the credential of a request: a digest, so that journals can be shown.
fn credential(headers: &HeaderMap) -> String {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return "none".to_owned() };
    let mut hasher = DefaultHasher::new();
    value.as_bytes().hash(&mut hasher);
    format!("{:08x}", hasher.finish() & 0xffff_ffff)
}

/// A scripted refusal in the cloud's own envelope.
fn refusal(cloud: &str, status: u16, body: Option<Value>, retry_after: Option<u64>) -> Response {
    let message = "scripted fault";
    let body = body.unwrap_or_else(|| match cloud {
        "cloudflare" => json!({
            "success": false, "errors": [{"code": 10001, "message": message}], "messages": [], "result": null,
        }),
        _ => json!({"id": "server_error", "message": message, "request_id": "00000000-0000-0000-0000-000000000000"}),
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
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
