//! The two request limits of a token, both sliding: each request counts until its own hour (or minute) is over.

use std::collections::VecDeque;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::settings::{Settings, after};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;

/// The requests a token made within the last hour, oldest first.
#[derive(Debug, Default)]
pub(super) struct Requests(VecDeque<Timestamp>);

/// What the rate-limit headers of one response say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    limit: usize,
    remaining: usize,
    /// Unix seconds at which the oldest counted request expires.
    reset: i64,
    /// Seconds; only where the per-minute limit refused the request.
    retry_after: Option<i64>,
}

impl Requests {
    /// Counts a request at `now`, or refuses it (uncounted) with the quota to report.
    pub(super) fn admit(&mut self, now: Timestamp, settings: &Settings) -> Result<Quota, Quota> {
        while self.0.front().is_some_and(|first| after(*first, HOUR_MS) <= now) {
            self.0.pop_front();
        }
        let recent = self.0.partition_point(|at| after(*at, MINUTE_MS) <= now);
        let in_minute = self.0.len() - recent;
        if self.0.len() >= settings.requests_per_hour {
            return Err(self.quota(now, settings, None));
        }
        if in_minute >= settings.requests_per_minute {
            let free_at = self.0.get(recent).map_or(now, |at| after(*at, MINUTE_MS));
            // Rounded up, so that a client that waits exactly this long is admitted.
            let wait = (free_at.as_millisecond() - now.as_millisecond() + 999) / 1_000;
            return Err(self.quota(now, settings, Some(wait)));
        }
        self.0.push_back(now);
        Ok(self.quota(now, settings, None))
    }

    fn quota(&self, now: Timestamp, settings: &Settings, retry_after: Option<i64>) -> Quota {
        let used = self.0.len();
        let remaining = if retry_after.is_some() { 0 } else { settings.requests_per_hour.saturating_sub(used) };
        let oldest = self.0.front().copied().unwrap_or(now);
        Quota { limit: settings.requests_per_hour, remaining, reset: after(oldest, HOUR_MS).as_second(), retry_after }
    }
}

impl Quota {
    /// Adds `RateLimit-*`, and `Retry-After` where it applies.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("ratelimit-limit"), HeaderValue::from(self.limit));
        headers.insert(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(self.remaining));
        headers.insert(HeaderName::from_static("ratelimit-reset"), HeaderValue::from(self.reset));
        if let Some(seconds) = self.retry_after {
            headers.insert(HeaderName::from_static("retry-after"), HeaderValue::from(seconds));
        }
    }
}
