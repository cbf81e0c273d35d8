//! The proxy's wire side: one task per connection, requests forwarded as they are, connections closed on demand.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::record::{Fate, Journal, Place, Plan, Release, is_write};

/// Why a connection is closed without an answer: for hyper, an error of the service is exactly that.
type Closed = std::io::Error;

pub(super) async fn accept(listener: TcpListener, upstream: kube::Client, journal: Arc<Journal>) {
    // Owned by this task, so that connections end when the proxy is dropped.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Without this, a reply of two small packets waits 40 ms for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let (upstream, journal) = (upstream.clone(), journal.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| handle(request, upstream.clone(), journal.clone()));
            // An error is a connection closed by either side, which is what this proxy is for.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(
    request: Request<Incoming>,
    upstream: kube::Client,
    journal: Arc<Journal>,
) -> Result<Response<Body>, Closed> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(Closed::other)?.to_bytes();
    let write = is_write(&parts.method, &parts.uri);
    let mut request = Request::builder().method(parts.method.clone()).uri(parts.uri.clone());
    *request.headers_mut().ok_or_else(|| Closed::other("invalid request"))? = end_to_end(parts.headers);
    let request = request.body(Body::from(body.clone())).map_err(Closed::other)?;
    if write { journaled(request, body, upstream, journal).await } else { forward(&upstream, request).await }
}

/// Enters the write in the journal and does with it what was planned.
async fn journaled(
    request: Request<Body>,
    body: Bytes,
    upstream: kube::Client,
    journal: Arc<Journal>,
) -> Result<Response<Body>, Closed> {
    let (place, plan) = journal.enter(request.method().clone(), request.uri(), body);
    // A task of its own: a killed client closes the connection, which drops this future, and the write must go on.
    let (answer, answered) = oneshot::channel();
    tokio::spawn(carry_out(plan, place, request, upstream, journal, answer));
    answered.await.map_err(|_| Closed::other("closed on purpose"))
}

/// Sends the answer if there is to be one; dropping the sender closes the connection.
async fn carry_out(
    plan: Option<Plan>,
    place: Place,
    request: Request<Body>,
    upstream: kube::Client,
    journal: Arc<Journal>,
    answer: oneshot::Sender<Response<Body>>,
) {
    let release = match plan {
        None => Release::Forward,
        Some(Plan::At(release)) => release,
        Some(Plan::Hold { arrived, released }) => {
            let _ = arrived.send(());
            released.await.unwrap_or(Release::Drop)
        }
    };
    match release {
        Release::Drop => return journal.settle(place, Fate::Dropped),
        Release::CommitLate(delay) => {
            drop(answer);
            tokio::time::sleep(delay).await;
            let fate = forward(&upstream, request).await.map(|reply| Fate::ReplyLost(reply.status()));
            return journal.settle(place, fate.unwrap_or(Fate::Unreachable));
        }
        Release::Forward | Release::Commit => {}
    }
    match forward(&upstream, request).await {
        Ok(reply) if release == Release::Forward => {
            journal.settle(place, Fate::Answered(reply.status()));
            let _ = answer.send(reply);
        }
        Ok(reply) => journal.settle(place, Fate::ReplyLost(reply.status())),
        Err(_) => journal.settle(place, Fate::Unreachable),
    }
}

async fn forward(upstream: &kube::Client, request: Request<Body>) -> Result<Response<Body>, Closed> {
    let mut response = upstream.send(request).await.map_err(Closed::other)?;
    let headers = std::mem::take(response.headers_mut());
    *response.headers_mut() = end_to_end(headers);
    Ok(response)
}

/// Headers that concern one connection only must not be passed on.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE] {
        headers.remove(name);
    }
    headers
}
