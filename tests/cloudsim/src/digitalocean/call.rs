//! What every request has in common: the token, the URL it was sent to, and the shape of the answer.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, OriginalUri, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::account::uuid_from;
use super::error::ApiError;
use super::limits::Quota;
use super::page::{Page, Target};
use super::state::{State, World};
use super::tenant::Tenant;

/// The parts of a request that do not depend on its route.
#[derive(Debug)]
pub(super) struct Call {
    token: Option<String>,
    query: HashMap<String, String>,
    pub(super) target: Target,
}

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(|token| token.trim().to_owned());
        let query = Query::try_from_uri(&uri).map(|Query(query)| query).unwrap_or_default();
        let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("localhost");
        let mount = uri.path().find("/v2").map_or("", |at| &uri.path()[..at]);
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let target = Target {
            base: format!("http://{host}{mount}"),
            url: format!("http://{host}{}", uri.path()),
            raw_query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        Ok(Self { token, query, target })
    }
}

impl Call {
    /// A parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The part of a listing the query asks for.
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        Page::wanted(self.parameter("page"), self.parameter("per_page"))
    }
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    body: Option<Vec<u8>>,
}

impl Reply {
    /// 204 without a body.
    pub(super) fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }

    /// A JSON body.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(body).map_err(|error| ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            id: "server_error",
            message: error.to_string(),
        })?;
        Ok(Self { status, body: Some(body) })
    }
}

/// Parses a request body.
pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::body(&error))
}

/// Authenticates and counts the request, lets `act` answer it, and adds the headers every answer has.
pub(super) fn answer(
    sim: &State,
    call: &Call,
    act: impl FnOnce(&mut Tenant<'_>) -> Result<Reply, ApiError>,
) -> Response {
    let (mut world, now) = sim.world();
    world.requests += 1;
    let request_id = uuid_from(&format!("request/{}", world.requests));
    let (result, quota) = match admit(&mut world, call, now) {
        Err((error, quota)) => (Err(error), quota),
        Ok((token, quota)) => {
            let tenant = world.tenant(token, now);
            (tenant.map_or_else(|| Err(ApiError::unauthorized()), |mut tenant| act(&mut tenant)), Some(quota))
        }
    };
    drop(world);
    let mut response = match result {
        Ok(reply) => respond(reply.status, reply.body),
        Err(error) => {
            let body = json!({"id": error.id, "message": error.message, "request_id": request_id});
            respond(error.status, Some(body.to_string().into_bytes()))
        }
    };
    let headers = response.headers_mut();
    if let Some(quota) = quota {
        quota.write(headers);
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("x-request-id", value);
    }
    response
}

type Refusal = (ApiError, Option<Quota>);

fn admit<'c>(world: &mut World, call: &'c Call, now: jiff::Timestamp) -> Result<(&'c str, Quota), Refusal> {
    let value = call.token.as_deref().unwrap_or_default();
    let settings = &world.settings;
    let token = world.tokens.get_mut(value).filter(|token| token.spec.is_valid(now));
    let token = token.ok_or_else(|| (ApiError::unauthorized(), None))?;
    match token.requests.admit(now, settings) {
        Ok(quota) => Ok((value, quota)),
        Err(quota) => Err((ApiError::too_many_requests(), Some(quota))),
    }
}

fn respond(status: StatusCode, body: Option<Vec<u8>>) -> Response {
    match body {
        Some(body) => (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response(),
        None => status.into_response(),
    }
}
