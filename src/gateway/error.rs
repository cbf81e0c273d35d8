//! Errors as the API tells them: JSON with a code for machines, a sentence that says what to do, and a request id.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::ports::{ChangeError, CreateError, DeleteError, ReportError, SignupError, Unavailable};
use crate::api::address::AddressError;
use crate::gateway::keys::KeyError;
use crate::store::Unreadable;

/// What every refusal looks like.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// A word for machines, e.g. `InvalidAddress`. It does not change between releases.
    #[schema(example = "InvalidAddress")]
    pub code: String,
    /// A sentence for people: what was wrong, and what would be right.
    pub message: String,
    /// Names this request in the server's log.
    pub request_id: String,
}

/// A refusal on its way out. The request id is put in at the door ([`super::gate`]), which alone knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unauthenticated(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(super) fn too_many(message: impl Into<String>, retry_after: Duration) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        Self { retry_after: Some(retry_after), ..error }
    }

    pub(super) fn unavailable(code: &'static str, message: impl Into<String>, retry_after: Duration) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { retry_after: Some(retry_after), ..error }
    }

    /// No group of this slug, for whoever asks.
    pub(super) fn unknown_group() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "GroupNotFound",
            "there is no group of this slug: see GET /api/groups for those of your key",
        )
    }

    fn busy(after: Duration) -> Self {
        Self::too_many("more changes arrive than can be stored now: repeat the request later", after)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Seconds for `Retry-After`: at least one, and never too few.
fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        Self::unavailable("Unavailable", error.message, error.retry_after)
    }
}

impl From<Unreadable> for ApiError {
    fn from(error: Unreadable) -> Self {
        Self::unavailable("HistoryUnavailable", error.to_string(), Duration::from_secs(10))
    }
}

impl From<AddressError> for ApiError {
    fn from(error: AddressError) -> Self {
        Self::bad_request("InvalidAddress", error.to_string())
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        Self::unauthenticated("MalformedKey", error.to_string())
    }
}

impl From<SignupError> for ApiError {
    fn from(error: SignupError) -> Self {
        match error {
            SignupError::Taken => Self::new(
                StatusCode::CONFLICT,
                "EmailTaken",
                "a user with this e-mail address exists: use the API key shown when it was created, or ask the \
                 administrator to delete the user",
            ),
            SignupError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Conflict => Self::unavailable(
                "Unavailable",
                "the keys were changed by another request meanwhile: repeat this one",
                Duration::from_secs(1),
            ),
            ChangeError::Gone => unknown_key(),
            ChangeError::Unavailable(error) => error.into(),
        }
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::TooMany(_) => {
                Self::new(StatusCode::CONFLICT, "TooManyGroups", format!("{error}: delete one first"))
            }
            CreateError::Refused(why) => Self::forbidden("GroupRefused", why),
            CreateError::Unavailable(error) => error.into(),
        }
    }
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::UnknownGroup => Self::unknown_group(),
            DeleteError::UnknownServer => Self::new(
                StatusCode::NOT_FOUND,
                "ServerNotFound",
                "the group has no server of this address: see GET /api/groups for those it has",
            ),
            DeleteError::Declared => Self::new(
                StatusCode::CONFLICT,
                "Declared",
                "the server is declared in the ServerGroup object: remove it there",
            ),
            DeleteError::Busy(after) => Self::busy(after),
            DeleteError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::UnknownGroup => Self::unknown_group(),
            ReportError::NotAllowed => Self::forbidden(
                "NotAllowed",
                "the group does not let you report: see `spec.reporting` of its ServerGroup",
            ),
            ReportError::ReportingDisabled => Self::forbidden(
                "ReportingDisabled",
                "the group takes no reports: set `spec.reporting.enabled` of its ServerGroup to true",
            ),
            ReportError::Full => Self::new(
                StatusCode::CONFLICT,
                "GroupFull",
                "the group has as many servers as a group may have: remove one that is gone, or make another group",
            ),
            ReportError::Busy(after) => Self::busy(after),
            ReportError::Unavailable(error) => error.into(),
        }
    }
}

/// A key that is well formed and opens nothing.
pub(super) fn unknown_key() -> ApiError {
    ApiError::unauthenticated(
        "UnknownKey",
        "this API key opens nothing (any more): it was exchanged for another, or its user was deleted",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_come_back_too_early_or_at_once() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
