//! Reading what was sent: JSON of exactly the fields that are known, and no more of it than fits.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Gateway;
use super::error::ApiError;

/// The largest body, in bytes.
pub(super) const MOST: usize = 64 * 1024;

/// How long a client may take to send a body. Short, because it holds a place meanwhile.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A JSON body. The content type is not looked at, because `curl -d` names the wrong one.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Gateway> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        parse(&read(request, gateway).await?).map(Self)
    }
}

/// A JSON body, or the defaults if there is none.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Gateway> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        let bytes = read(request, gateway).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

/// The parameters in a path.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Gateway> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let Path(parameters) = Path::from_request_parts(parts, gateway)
            .await
            .map_err(|_| ApiError::bad_request("InvalidPath", "the path is not UTF-8: see /openapi.json"))?;
        Ok(Self(parameters))
    }
}

/// The parameters after the question mark.
pub(super) struct InQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Gateway> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let Query(parameters) = Query::from_request_parts(parts, gateway)
            .await
            .map_err(|error| ApiError::bad_request("InvalidQuery", plain(&error.body_text())))?;
        Ok(Self(parameters))
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::bad_request("InvalidBody", "the body is empty: send JSON, see /openapi.json"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(
            "InvalidBody",
            format!("the body is not what it has to be: {}", plain(&error.to_string())),
        )
    })
}

async fn read(request: Request, gateway: &Gateway) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(TIMEOUT, Bytes::from_request(request, gateway)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is too large: send at most {MOST} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", message))
        }
        Ok(Err(_)) => Err(ApiError::bad_request("InvalidBody", "the body ended too early: repeat the request")),
        Err(_) => {
            let message = "the body took too long to arrive: repeat the request";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "BodyTooSlow", message))
        }
    }
}

/// A text that may quote what was sent, cut to what a person reads.
fn plain(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
