//! The request limit of a user: so many calls in five minutes over all tokens; one too many blocks every call for five
//! minutes.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How many calls a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Calls in one window.
    pub requests: u64,
    /// The window, and the block, in seconds.
    pub window_s: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 1_200, window_s: 300 }
    }
}

/// What a user has used.
#[derive(Debug, Default)]
pub(super) struct Used {
    since: Option<Timestamp>,
    count: u64,
    blocked_until: Option<Timestamp>,
}

/// What the headers of one answer say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    limits: Limits,
    remaining: u64,
    reset_s: i64,
    pub(super) blocked: bool,
}

impl Used {
    pub(super) fn count(&mut self, limits: Limits, now: Timestamp) -> Quota {
        let window = SignedDuration::from_secs(limits.window_s);
        if let Some(until) = self.blocked_until {
            if now < until {
                return Quota { limits, remaining: 0, reset_s: seconds(now, until), blocked: true };
            }
            *self = Self::default();
        }
        let over = self.since.is_none_or(|since| now.duration_since(since) >= window);
        if over {
            (self.since, self.count) = (Some(now), 0);
        }
        let ends = self.since.unwrap_or(now) + window;
        if self.count >= limits.requests {
            let until = now + window;
            self.blocked_until = Some(until);
            return Quota { limits, remaining: 0, reset_s: limits.window_s, blocked: true };
        }
        self.count += 1;
        Quota { limits, remaining: limits.requests - self.count, reset_s: seconds(now, ends), blocked: false }
    }
}

/// Rounded up, so that a client that waits exactly this long is let in.
fn seconds(now: Timestamp, until: Timestamp) -> i64 {
    let left = until.duration_since(now);
    left.as_secs() + i64::from(left.subsec_nanos() > 0)
}

impl Quota {
    /// Adds `Ratelimit` and `Ratelimit-Policy`, and `Retry-After` on a refusal.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        let (limits, name) = (self.limits, HeaderName::from_static);
        let mut put = |key, text: String| {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name(key), value);
            }
        };
        put("ratelimit", format!("\"default\";r={};t={}", self.remaining, self.reset_s));
        put("ratelimit-policy", format!("\"default\";q={};w={}", limits.requests, limits.window_s));
        if self.blocked {
            put("retry-after", self.reset_s.to_string());
        }
    }
}
