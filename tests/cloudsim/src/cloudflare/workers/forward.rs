//! HTTP passed on, with what it is upgraded to.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Serves HTTP/1.1 until the task is dropped.
pub(super) async fn serve<F>(listener: TcpListener, answer: impl Fn(Request<Body>) -> F + Clone + Send + 'static)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Kept here, so that open connections end with the simulator.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                let answer = answer(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that went: nothing to do about it.
            let _ = connection.with_upgrades().await;
        });
    }
}

/// Sends a request over a new connection, and gives the answer. A WebSocket goes on by itself.
pub(super) async fn send(
    mut request: Request<Body>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Response<Body>, hyper::Error> {
    let client = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let mut response = sender.send_request(request).await?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client)) = (response.status(), client) {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (Ok(client), Ok(server)) = tokio::join!(client, server) else { return };
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
        });
    }
    Ok(response.map(Body::new))
}

/// Cloudflare's plain page for an error of its own.
pub(super) fn error(status: u16, code: u16) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("error code: {code}")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
