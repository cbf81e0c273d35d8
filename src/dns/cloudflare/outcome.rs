//! One call to the Cloudflare API, and what its outcome means.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value as Json;

use super::Token;
use super::wire::WireError;
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

/// What exceeding the limit costs when a 429 does not say how long it lasts.
const BLOCK: Duration = Duration::from_mins(5);

/// What a request carries.
pub(crate) enum Body {
    /// JSON.
    Json(Json),
    /// A form that is ready to be sent.
    Form {
        /// Its type, with the boundary.
        content_type: String,
        bytes: Vec<u8>,
    },
}

/// One request.
pub(crate) struct Call<'a> {
    pub method: Method,
    /// Below the base, with a leading slash.
    pub path: &'a str,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Body>,
    pub priority: Priority,
    /// What the token needs, as the dashboard writes it; empty for calls any token may make.
    pub permission: &'static str,
}

impl Call<'_> {
    pub fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    fn writes(&self) -> bool {
        self.method != Method::GET
    }

    fn endpoint(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// A request that got no whole answer.
    pub(super) fn broken(&self, error: &reqwest::Error) -> OutsideError {
        // Only a connection that was never made proves that nothing was received.
        if error.is_connect() || error.is_builder() {
            return OutsideError::Unavailable(format!("no connection to Cloudflare for {}", self.endpoint()));
        }
        let how = if error.is_timeout() { "did not answer in time" } else { "cut the connection" };
        self.unclear(&format!("Cloudflare {how}: {}", self.endpoint()))
    }

    fn unclear(&self, text: &str) -> OutsideError {
        if self.writes() { OutsideError::Unknown(text.to_owned()) } else { OutsideError::Unavailable(text.to_owned()) }
    }

    /// An answer that is no success. `blocked` is what it said of the request budget.
    pub(super) fn judge(
        &self,
        status: StatusCode,
        blocked: Option<Duration>,
        errors: &[WireError],
        token: &Token,
    ) -> OutsideError {
        let endpoint = self.endpoint();
        let text = explain(errors, token);
        let code = errors.first().map_or(0, |error| error.code);
        match status.as_u16() {
            429 => OutsideError::RateLimited { after: blocked.unwrap_or(BLOCK) },
            401 => unauthorized(&text),
            400 | 403 if is_bad_token(errors) => unauthorized(&text),
            403 => {
                let needs = if self.permission.is_empty() { "more permissions" } else { self.permission };
                OutsideError::Forbidden(format!("the Cloudflare token may not {endpoint}: it needs {needs} ({text})"))
            }
            408 => self.unclear(&format!("Cloudflare did not answer in time: {endpoint}")),
            400..=499 if code == 0 => OutsideError::Refused {
                code: status.as_u16().to_string(),
                message: format!("Cloudflare answered {} to {endpoint}", status.as_u16()),
            },
            400..=499 => OutsideError::Refused { code: code.to_string(), message: text },
            // A success that says `success: false` names its reason; without one nobody knows what it did.
            200..=299 if code != 0 => OutsideError::Refused { code: code.to_string(), message: text },
            other => self.unclear(&format!("Cloudflare answered {other} to {endpoint}")),
        }
    }
}

fn unauthorized(text: &str) -> OutsideError {
    OutsideError::Unauthorized(format!(
        "Cloudflare does not accept the token ({text}): put a valid one into its Secret"
    ))
}

/// 400 and 403 mean many things; these codes mean the token itself (6003 with 6111: malformed; 9109: unknown).
fn is_bad_token(errors: &[WireError]) -> bool {
    errors.iter().any(|error| {
        matches!(error.code, 1000 | 6111)
            || (error.code == 9109 && error.message.contains("access token"))
            || is_bad_token(&error.error_chain)
    })
}

/// `code message (code message)`, without the token should an API ever echo it.
fn explain(errors: &[WireError], token: &Token) -> String {
    let one = |error: &WireError| {
        let mut text = format!("{} {}", error.code, error.message);
        if !error.error_chain.is_empty() {
            let chain: Vec<_> = error.error_chain.iter().map(|e| format!("{} {}", e.code, e.message)).collect();
            text.push_str(": ");
            text.push_str(&chain.join(", "));
        }
        text
    };
    let text = errors.iter().map(one).collect::<Vec<_>>().join("; ");
    let text = if text.is_empty() { "no reason given".to_owned() } else { text };
    if token.0.is_empty() { text } else { text.replace(&token.0, "…") }
}

/// The outcome as metrics name it.
pub(super) fn label(error: Option<&OutsideError>) -> &'static str {
    match error {
        None => "ok",
        Some(OutsideError::RateLimited { .. }) => "rate-limited",
        Some(OutsideError::Unauthorized(_)) => "unauthorized",
        Some(OutsideError::Forbidden(_)) => "forbidden",
        Some(OutsideError::Refused { .. }) => "refused",
        Some(OutsideError::Unavailable(_)) => "unavailable",
        Some(OutsideError::Unknown(_)) => "unknown",
    }
}
