//! The error bodies of the simulated API: `{id, message, request_id}` with the status that goes with each id.

use axum::http::StatusCode;

/// A refusal as `DigitalOcean` words it. The request id is added where the response is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) id: &'static str,
    pub(super) message: String,
}

impl ApiError {
    /// 401: no token, an unknown one, a revoked or an expired one.
    pub(super) fn unauthorized() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, id: "Unauthorized", message: "Unable to authenticate you".to_owned() }
    }

    /// 403: a valid token that lacks a scope. The API does not say which.
    pub(super) fn forbidden() -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            id: "Forbidden",
            message: "You are not authorized to perform this operation".to_owned(),
        }
    }

    /// 404: no such object in the token's account.
    pub(super) fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            id: "not_found",
            message: "The resource you were accessing could not be found.".to_owned(),
        }
    }

    /// 422: understood and refused.
    pub(super) fn unprocessable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, id: "unprocessable_entity", message: message.into() }
    }

    /// 422: another action of the droplet is still running.
    pub(super) fn pending_event() -> Self {
        Self::unprocessable("Droplet already has a pending event.")
    }

    /// 429: one of the token's two request limits is used up.
    pub(super) fn too_many_requests() -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            id: "too_many_requests",
            message: "API Rate limit exceeded.".to_owned(),
        }
    }

    /// A body that is no JSON is 400; JSON of the wrong shape is 422.
    pub(super) fn body(error: &serde_json::Error) -> Self {
        if error.is_data() {
            return Self::unprocessable(format!("invalid request body: {error}"));
        }
        Self {
            status: StatusCode::BAD_REQUEST,
            id: "bad_request",
            message: format!("request body is not valid JSON: {error}"),
        }
    }
}
