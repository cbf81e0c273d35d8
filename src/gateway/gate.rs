//! The door every request comes through: it gets an id, a place, a time limit, and its refusal in one form.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, ErrorBody};
use super::{Gateway, limits};

/// How long a request may take from its first byte to its answer.
const TIMEOUT: Duration = Duration::from_secs(30);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whose request it is, for those who count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) IpAddr);

/// Lets a request through to the routes, and dresses what comes back.
pub(super) async fn pass(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let id = format!("{:016x}", fastrand::u64(..));
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let client = client(&gateway, peer, request.headers());
    request.extensions_mut().insert(Client(client));

    let mut response = match admit(&gateway, client) {
        Ok(_place) => {
            // The place is held until the answer is ready.
            match tokio::time::timeout(TIMEOUT, next.run(request)).await {
                Ok(response) => response,
                Err(_) => ApiError::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Timeout",
                    "the request took too long and may have been done or not: repeat it",
                )
                .into_response(),
            }
        }
        Err(refused) => refused.into_response(),
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        response = told(&response, &method, &uri, &id);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("")));
    // Answers hold keys, and states that change by the second.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn client(gateway: &Gateway, peer: Option<IpAddr>, headers: &HeaderMap) -> IpAddr {
    let peer = peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let forwarded: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    limits::client(peer, forwarded.into_iter(), &gateway.settings.trusted_proxies)
}

/// A place among those served at once, if the client has not asked too often.
fn admit(gateway: &Gateway, client: IpAddr) -> Result<tokio::sync::SemaphorePermit<'_>, ApiError> {
    gateway.limits.address(client)?;
    gateway.places.try_acquire().map_err(|_| {
        ApiError::unavailable(
            "Overloaded",
            "more requests are in hand than can be served: repeat this one later",
            Duration::from_secs(1),
        )
    })
}

/// A refusal, ours or the router's, in the form every refusal has.
fn told(response: &Response, method: &Method, uri: &Uri, id: &str) -> Response {
    let status = response.status();
    let error = response.extensions().get::<ApiError>().cloned().unwrap_or_else(|| of_the_router(status));
    // A refusal that asks to come again is no fault, and must cost least when there are many of them.
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(%method, path = uri.path(), %status, request = id, code = error.code, "{}", error.message);
    } else {
        tracing::debug!(%method, path = uri.path(), %status, request = id, code = error.code, "{}", error.message);
    }
    let body = ErrorBody { code: error.code.to_owned(), message: error.message, request_id: id.to_owned() };
    let mut told = (status, Json(body)).into_response();
    for (name, value) in response.headers() {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            told.headers_mut().insert(name.clone(), value.clone());
        }
    }
    told
}

/// What the router refused before any route was reached.
fn of_the_router(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::new(status, "NotFound", "there is no such path: see /openapi.json"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(status, "MethodNotAllowed", "this path has no such method: see the header `allow`")
        }
        _ => ApiError::new(status, "InvalidRequest", "the path or the query cannot be read: see /openapi.json"),
    }
}
