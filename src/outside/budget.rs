//! One request budget per credential: how many calls an API still admits, and when to ask again.
//!
//! Two sources are believed at once and the stricter wins: our own log of admitted calls against the documented
//! limits, and what the API said in its last answers. A tenth of every limit is kept for deleting and unpublishing,
//! because running out just then would leave names pointing at addresses that are no longer ours.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::OutsideError;

/// The share of every limit that only [`Priority::Cleanup`] may use.
const RESERVE_PERCENT: u32 = 10;

/// The shortest wait we ask for, so that nobody spins on a window that is about to open.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// An API whose calls are budgeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// Cloudflare, API version 4.
    Cloudflare,
    /// `DigitalOcean`, API version 2.
    DigitalOcean,
}

impl Api {
    /// The name used in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloudflare => "cloudflare",
            Self::DigitalOcean => "digitalocean",
        }
    }

    /// The documented limits of this API.
    #[must_use]
    pub fn limits(self) -> Limits {
        match self {
            Self::Cloudflare => Limits::cloudflare(),
            Self::DigitalOcean => Limits::digitalocean(),
        }
    }
}

/// What an API documents about its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// At most so many calls in any period of this length.
    windows: Vec<(u32, Duration)>,
    /// How long everything is blocked after a 429 that does not say.
    block: Duration,
}

impl Limits {
    /// 1,200 calls in five minutes; exceeding them blocks every call for five minutes.
    /// Source: `developers.cloudflare.com/fundamentals/api/reference/limits`.
    #[must_use]
    pub fn cloudflare() -> Self {
        let five_minutes = Duration::from_mins(5);
        Self { windows: vec![(1_200, five_minutes)], block: five_minutes }
    }

    /// 5,000 calls an hour and 250 a minute, both sliding. Source: `docs.digitalocean.com/reference/api`.
    #[must_use]
    pub fn digitalocean() -> Self {
        let minute = Duration::from_mins(1);
        Self { windows: vec![(5_000, Duration::from_hours(1)), (250, minute)], block: minute }
    }

    fn longest(&self) -> Duration {
        self.windows.iter().map(|(_, period)| *period).max().unwrap_or(self.block)
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Everything that may wait without harm.
    Normal,
    /// Unpublishing and deleting, with the reads they depend on: may use the reserve.
    Cleanup,
}

/// The budget of one credential. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When calls were admitted, oldest first, as far back as the longest window reaches.
    admitted: VecDeque<Instant>,
    /// The windows the API told us of, by its name for them.
    told: HashMap<String, Told>,
    blocked_until: Option<Instant>,
}

/// One window as the API described it, less what we admitted since.
#[derive(Debug)]
struct Told {
    remaining: u32,
    reserve: u32,
    until: Instant,
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// Admits one call now, or says how long to wait. Never waits itself.
    ///
    /// # Errors
    /// [`OutsideError::RateLimited`] and nothing else.
    pub fn admit(&self, priority: Priority) -> Result<(), OutsideError> {
        let now = Instant::now();
        let mut state = self.lock();
        state.forget_before(now, self.0.limits.longest());
        let told = state.told.values().filter_map(|told| told.opens(priority));
        let own = self.0.limits.windows.iter().filter_map(|window| state.window_opens(*window, priority, now));
        let opens = told.chain(own).chain(state.blocked_until).max();
        if let Some(opens) = opens {
            return Err(OutsideError::RateLimited { after: (opens - now).max(SHORTEST_WAIT) });
        }
        state.admitted.push_back(now);
        for told in state.told.values_mut() {
            told.remaining = told.remaining.saturating_sub(1);
        }
        Ok(())
    }

    /// Learns from an answer: Cloudflare's `Ratelimit` and `Ratelimit-Policy`, `DigitalOcean`'s `RateLimit-*`, and
    /// `Retry-After` (seconds or a date), which is honoured in full. A 429 that does not say how long blocks for the
    /// documented time.
    ///
    /// Returns how long this answer blocks every further call, if it does.
    ///
    /// Calls in flight while an answer was written are not counted in it: the error is at most the number of
    /// concurrent calls, which the reserve absorbs.
    pub fn observe(&self, status: u16, headers: &HeaderMap) -> Option<Duration> {
        let now = Instant::now();
        // The API's own clock, where it sends one: an epoch of theirs compared with a wrong clock of ours would block
        // for hours or not at all.
        let wall = text(headers, "date").and_then(http_date).unwrap_or_else(jiff::Timestamp::now);
        let mut state = self.lock();
        state.forget_before(now, self.0.limits.longest());
        let retry_after = text(headers, "retry-after").and_then(|value| retry_after(value, wall));
        // Beside a `Retry-After` the windows may belong to another limit: DigitalOcean answers the limit per minute
        // with nothing remaining and the reset of the hour.
        let windows = if retry_after.is_some() { Vec::new() } else { windows_told(headers, wall) };
        for (name, remaining, quota, reset) in windows {
            let reserve = quota.map_or(0, reserve);
            let until = now + reset.min(self.0.limits.longest());
            state.told.insert(name, Told { remaining, reserve, until });
        }
        let block = match (status, retry_after) {
            (429 | 503, Some(after)) => Some(after),
            (429, None) => Some(self.0.limits.block),
            _ => None,
        };
        if let Some(block) = block {
            state.blocked_until = state.blocked_until.max(Some(now + block));
        }
        block
    }

    /// What the API last said remains of its tightest window, less what was admitted since; `None` before it said
    /// anything, and once that window is over.
    #[must_use]
    pub fn remaining(&self) -> Option<u32> {
        let now = Instant::now();
        self.lock().told.values().filter(|told| told.until > now).map(|told| told.remaining).min()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update leaves the state whole, so a panic elsewhere says nothing against it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody else holds this budget and it restricts nothing any more.
    fn is_spent(&self) -> bool {
        let mut state = self.lock();
        state.forget_before(Instant::now(), self.0.limits.longest());
        Arc::strong_count(&self.0) == 1 && state.admitted.is_empty() && state.blocked_until.is_none()
    }
}

impl State {
    fn forget_before(&mut self, now: Instant, longest: Duration) {
        while self.admitted.front().is_some_and(|at| *at + longest <= now) {
            self.admitted.pop_front();
        }
        self.told.retain(|_, told| told.until > now);
        self.blocked_until = self.blocked_until.filter(|until| *until > now);
    }

    /// When a sliding window of ours admits the next call; `None` if it does now.
    fn window_opens(&self, (limit, period): (u32, Duration), priority: Priority, now: Instant) -> Option<Instant> {
        let usable = match priority {
            Priority::Normal => limit - reserve(limit),
            Priority::Cleanup => limit,
        };
        let before = self.admitted.partition_point(|at| *at + period <= now);
        let used = self.admitted.len() - before;
        let surplus = (used + 1).checked_sub(usize::try_from(usable).unwrap_or(usize::MAX)).filter(|n| *n > 0)?;
        self.admitted.get(before + surplus - 1).map(|at| *at + period)
    }
}

impl Told {
    fn opens(&self, priority: Priority) -> Option<Instant> {
        let kept = match priority {
            Priority::Normal => self.reserve,
            Priority::Cleanup => 0,
        };
        (self.remaining <= kept).then_some(self.until)
    }
}

fn reserve(limit: u32) -> u32 {
    (limit * RESERVE_PERCENT / 100).max(1)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The windows an answer describes: name, remaining calls, quota if known, time until it resets.
fn windows_told(headers: &HeaderMap, wall: jiff::Timestamp) -> Vec<(String, u32, Option<u32>, Duration)> {
    let number = |name: &str| text(headers, name).and_then(|value| value.trim().parse::<i64>().ok());
    let mut told = Vec::new();
    if let Some(header) = text(headers, "ratelimit") {
        let policies: Vec<_> = text(headers, "ratelimit-policy").map(items).unwrap_or_default();
        for (name, parameters) in items(header) {
            let (Some(r), Some(t)) = (parameter(&parameters, "r"), parameter(&parameters, "t")) else { continue };
            // The documented example names its window differently in the two headers; a lone policy is meant anyway.
            let policy = policies.iter().find(|(policy, _)| *policy == name).or(match policies.as_slice() {
                [only] => Some(only),
                _ => None,
            });
            let quota = policy.and_then(|(_, parameters)| parameter(parameters, "q"));
            told.push((name.to_owned(), r, quota, Duration::from_secs(u64::from(t))));
        }
    }
    if let (Some(remaining), Some(reset)) = (number("ratelimit-remaining"), number("ratelimit-reset")) {
        let quota = number("ratelimit-limit").and_then(|limit| u32::try_from(limit).ok());
        let reset = Duration::from_secs(u64::try_from(reset - wall.as_second()).unwrap_or(0));
        told.push(("ratelimit".to_owned(), u32::try_from(remaining).unwrap_or(0), quota, reset));
    }
    told
}

/// The items of a structured-field list (RFC 9651) of strings with parameters: `"default";r=50;t=30`.
fn items(header: &str) -> Vec<(&str, Vec<&str>)> {
    header
        .split(',')
        .filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            Some((parts.next()?.trim_matches('"'), parts.collect()))
        })
        .collect()
}

fn parameter(parameters: &[&str], name: &str) -> Option<u32> {
    parameters.iter().find_map(|p| p.split_once('=').filter(|(key, _)| *key == name)?.1.parse().ok())
}

fn retry_after(value: &str, wall: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = http_date(value)?.as_second() - wall.as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn http_date(value: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()
}

/// The budgets of a process: one per API and token, so that two objects which use the same token share it. Clones
/// share the registry. Tokens are kept only as SHA-256.
#[derive(Debug, Clone, Default)]
pub struct Budgets(Arc<Mutex<HashMap<Credential, Budget>>>);

/// An API and the SHA-256 of a token for it.
type Credential = (Api, [u8; 32]);

impl Budgets {
    /// The budget of `token`, made on first use.
    #[must_use]
    pub fn for_token(&self, api: Api, token: &str) -> Budget {
        let key = (api, Sha256::digest(token).into());
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A rotated token's budget goes once it restricts nothing; not sooner, since the token may come back.
        budgets.retain(|other, budget| *other == key || !budget.is_spent());
        budgets.entry(key).or_insert_with(|| Budget::new(api.limits())).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn wait(budget: &Budget, priority: Priority) -> Option<Duration> {
        match budget.admit(priority) {
            Ok(()) => None,
            Err(OutsideError::RateLimited { after }) => Some(after),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sliding_window_never_admits_more_than_its_limit_in_any_period() {
        let budget = Budget::new(Limits::digitalocean());
        let mut admitted: Vec<Instant> = Vec::new();
        let end = Instant::now() + Duration::from_hours(2);
        while Instant::now() < end {
            match wait(&budget, Priority::Cleanup) {
                None => admitted.push(Instant::now()),
                Some(after) => tokio::time::advance(after).await,
            }
        }
        for (limit, period) in [(250, Duration::from_mins(1)), (5_000, Duration::from_hours(1))] {
            for pair in admitted.windows(limit + 1) {
                assert!(pair[limit] - pair[0] >= period, "{limit} calls in {:?}", pair[limit] - pair[0]);
            }
        }
        assert!(admitted.len() >= 10_000, "the limits are also used up: {}", admitted.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_the_limit_is_kept_for_cleanup() {
        let budget = Budget::new(Limits::cloudflare());
        let normal = (0..1_200).filter(|_| wait(&budget, Priority::Normal).is_none()).count();
        let cleanup = (0..1_200).filter(|_| wait(&budget, Priority::Cleanup).is_none()).count();
        assert_eq!((normal, cleanup), (1_080, 120));
        assert_eq!(wait(&budget, Priority::Cleanup), Some(Duration::from_mins(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn cloudflares_header_stops_normal_calls_at_the_reserve_and_cleanup_at_zero() {
        let budget = Budget::new(Limits::cloudflare());
        let policy = ("ratelimit-policy", r#""default";q=1200;w=300"#);
        budget.observe(200, &headers(&[("ratelimit", r#""default";r=121;t=30"#), policy]));
        assert_eq!(budget.remaining(), Some(121));
        assert_eq!(wait(&budget, Priority::Normal), None);
        assert_eq!(wait(&budget, Priority::Normal), Some(Duration::from_secs(30)));
        assert_eq!(wait(&budget, Priority::Cleanup), None);
        budget.observe(200, &headers(&[("ratelimit", r#""default";r=0;t=7"#), policy]));
        assert_eq!(wait(&budget, Priority::Cleanup), Some(Duration::from_secs(7)));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!((wait(&budget, Priority::Normal), budget.remaining()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn the_documented_example_with_differently_named_windows_is_understood() {
        let budget = Budget::new(Limits::cloudflare());
        let example = [("ratelimit", r#""default";r=50;t=30"#), ("ratelimit-policy", r#""burst";q=100;w=60"#)];
        budget.observe(200, &headers(&example));
        let admitted = (0..100).filter(|_| wait(&budget, Priority::Normal).is_none()).count();
        assert_eq!(admitted, 40, "50 left, of which a tenth of 100 is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn digitaloceans_reset_is_read_against_the_clock_of_the_answer() {
        let budget = Budget::new(Limits::digitalocean());
        budget.observe(
            200,
            &headers(&[
                ("ratelimit-limit", "5000"),
                ("ratelimit-remaining", "500"),
                ("ratelimit-reset", "784111787"),
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ]),
        );
        assert_eq!(budget.remaining(), Some(500));
        assert_eq!(wait(&budget, Priority::Normal), Some(Duration::from_secs(10)));
        assert_eq!(wait(&budget, Priority::Cleanup), None);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_in_full_by_every_priority() {
        let budget = Budget::new(Limits::cloudflare());
        budget.observe(429, &headers(&[("retry-after", "900")]));
        assert_eq!(wait(&budget, Priority::Normal), Some(Duration::from_mins(15)));
        // A later, shorter word does not shorten the longer one.
        budget.observe(429, &headers(&[("retry-after", "5")]));
        tokio::time::advance(Duration::from_secs(899)).await;
        assert_eq!(wait(&budget, Priority::Cleanup), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(wait(&budget, Priority::Normal), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_per_minute_does_not_block_for_the_hour_whose_reset_it_mentions() {
        let budget = Budget::new(Limits::digitalocean());
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let reset = [("ratelimit-limit", "5000"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "784114000")];
        budget.observe(429, &headers(&[&reset[..], &[("date", date), ("retry-after", "20")]].concat()));
        assert_eq!(wait(&budget, Priority::Normal), Some(Duration::from_secs(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_may_be_a_date() {
        let budget = Budget::new(Limits::digitalocean());
        let date = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:51:07 GMT")];
        budget.observe(503, &headers(&date));
        assert_eq!(wait(&budget, Priority::Cleanup), Some(Duration::from_secs(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_without_a_word_blocks_for_the_documented_time() {
        for (limits, block) in [(Limits::cloudflare(), 300), (Limits::digitalocean(), 60)] {
            let budget = Budget::new(limits);
            budget.observe(429, &HeaderMap::new());
            assert_eq!(wait(&budget, Priority::Cleanup), Some(Duration::from_secs(block)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_error_or_nonsense_in_a_header_restricts_nothing() {
        let budget = Budget::new(Limits::cloudflare());
        budget.observe(500, &headers(&[("ratelimit", "r=;;t=x,"), ("ratelimit-remaining", "many")]));
        assert_eq!((wait(&budget, Priority::Normal), budget.remaining()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_has_one_budget_and_outlives_its_users_while_it_restricts() {
        let budgets = Budgets::default();
        budgets.for_token(Api::Cloudflare, "a").observe(429, &HeaderMap::new());
        assert!(wait(&budgets.for_token(Api::Cloudflare, "a"), Priority::Normal).is_some());
        assert!(wait(&budgets.for_token(Api::Cloudflare, "b"), Priority::Normal).is_none());
        assert!(wait(&budgets.for_token(Api::DigitalOcean, "a"), Priority::Normal).is_none());
        tokio::time::advance(Duration::from_hours(2)).await;
        drop(budgets.for_token(Api::Cloudflare, "c"));
        assert_eq!(budgets.0.lock().unwrap().len(), 1, "spent budgets are forgotten");
    }
}
