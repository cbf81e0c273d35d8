//! Answers that scripted faults make up, each in the error envelope of its cloud.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A scripted refusal; what is left out is chosen by the status.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: Option<Value>,
    pub(crate) message: Option<String>,
    pub(crate) body: Option<Value>,
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn answer(self, cloud: &str) -> Response {
        let message = self.message.unwrap_or_else(|| "scripted fault".to_owned());
        let body = self.body.unwrap_or_else(|| match cloud {
            "cloudflare" => {
                let error = json!({"code": self.code.unwrap_or_else(|| code(self.status)), "message": message});
                json!({"success": false, "errors": [error], "messages": [], "result": null})
            }
            _ => json!({
                "id": self.code.unwrap_or_else(|| id(self.status)), "message": message,
                "request_id": "00000000-0000-0000-0000-000000000000",
            }),
        });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Cloudflare's usual code of a status.
fn code(status: u16) -> Value {
    json!(match status {
        401 | 403 => 10_000,
        429 => 10_429,
        400..=499 => 1_004,
        _ => 10_001,
    })
}

/// `DigitalOcean`'s id of a status.
fn id(status: u16) -> Value {
    json!(match status {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        422 => "unprocessable_entity",
        429 => "too_many_requests",
        400..=499 => "bad_request",
        _ => "server_error",
    })
}

/// What the cloud answers to a token that has been revoked.
pub(crate) fn revoked(cloud: &str) -> Refusal {
    match cloud {
        "cloudflare" => refusal(401, 1000.into(), "Invalid API Token"),
        _ => refusal(401, "Unauthorized".into(), "Unable to authenticate you"),
    }
}

/// What the cloud answers when nothing more may be made.
pub(crate) fn quota(cloud: &str) -> Refusal {
    match cloud {
        "cloudflare" => refusal(400, 81_045.into(), "Record quota exceeded."),
        _ => {
            refusal(422, "unprocessable_entity".into(), "creating this/these droplet(s) will exceed your droplet limit")
        }
    }
}

fn refusal(status: u16, code: Value, message: &str) -> Refusal {
    Refusal { code: Some(code), message: Some(message.to_owned()), ..Refusal::of(status) }
}
