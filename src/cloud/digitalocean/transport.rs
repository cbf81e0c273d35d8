//! One call to the API: budget before, metrics after, and its outcome as one of ours.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Settings;
use super::refusal;
use crate::cloud::code;
use crate::metrics::Metrics;
use crate::outside::OutsideError;
use crate::outside::budget::{Api, Budget, Budgets, Priority};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A token in use.
pub(super) struct Credential {
    authorization: HeaderValue,
    budget: Budget,
    /// Whose it is; a token never changes its account.
    pub(super) account: OnceCell<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("account", &self.account).finish_non_exhaustive()
    }
}

/// The way to the API for one Provider.
#[derive(Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    base: String,
    credential: String,
    budgets: Budgets,
    metrics: Metrics,
    current: Mutex<Arc<Credential>>,
    pinned: Mutex<Option<String>>,
}

impl Transport {
    pub(super) fn new(
        settings: Settings,
        token: &str,
        budgets: Budgets,
        metrics: Metrics,
    ) -> Result<Self, OutsideError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A redirect or a retry would be a second call that nobody counts.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("roadstead/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| OutsideError::Unavailable("the TLS client cannot be set up".to_owned()))?;
        let current = Mutex::new(credential(token, &budgets)?);
        let base = settings.base.trim_end_matches('/').to_owned();
        let pinned = Mutex::new(settings.account);
        Ok(Self { http, base, credential: settings.credential, budgets, metrics, current, pinned })
    }

    pub(super) fn set_token(&self, token: &str) -> Result<(), OutsideError> {
        let next = credential(token, &self.budgets)?;
        let mut current = lock(&self.current);
        // The same token again: what is known of it stays known.
        if current.authorization != next.authorization {
            *current = next;
        }
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Credential> {
        Arc::clone(&lock(&self.current))
    }

    pub(super) fn pinned(&self) -> Option<String> {
        lock(&self.pinned).clone()
    }

    /// Pins the first account, and refuses any other.
    pub(super) fn check_account(&self, id: &str) -> Result<(), OutsideError> {
        let mut pinned = lock(&self.pinned);
        if pinned.get_or_insert_with(|| id.to_owned()) == id {
            return Ok(());
        }
        Err(OutsideError::Refused {
            code: code::ACCOUNT_CHANGED.to_owned(),
            message: format!(
                "the token belongs to the DigitalOcean account {id}, not to {} as before: use a token of that one",
                pinned.as_deref().unwrap_or_default()
            ),
        })
    }

    /// Sends a call that changes nothing; `None` for a 404.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        credential: &Credential,
        call: &Call,
    ) -> Result<Option<T>, OutsideError> {
        let body = self.send(credential, call, None).await?;
        body.map(|body| call.decode(&body)).transpose()
    }

    /// Sends a call that changes something; `None` for a 404.
    pub(super) async fn write(
        &self,
        credential: &Credential,
        call: &Call,
        body: &impl Serialize,
    ) -> Result<Option<Vec<u8>>, OutsideError> {
        let body = serde_json::to_vec(body).map_err(|_| call.broken("could not be written as JSON"))?;
        // `()` is written as `null`: a call without a body.
        let body = (body != b"null").then_some(body);
        self.send(credential, call, body).await
    }

    async fn send(
        &self,
        credential: &Credential,
        call: &Call,
        body: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, OutsideError> {
        credential.budget.admit(call.priority)?;
        let began = Instant::now();
        let result = self.exchange(credential, call, body).await;
        let outcome = match &result {
            Ok(Some(_)) => "ok",
            Ok(None) => "not_found",
            Err(OutsideError::RateLimited { .. }) => "rate_limited",
            Err(OutsideError::Unauthorized(_)) => "unauthorized",
            Err(OutsideError::Forbidden(_)) => "forbidden",
            Err(OutsideError::Refused { .. }) => "refused",
            Err(OutsideError::Unavailable(_)) => "unavailable",
            Err(OutsideError::Unknown(_)) => "unknown",
        };
        let api = Api::DigitalOcean.name();
        self.metrics.api_call(api, &self.credential, outcome, began.elapsed());
        if let Some(remaining) = credential.budget.remaining() {
            self.metrics.api_remaining(api, &self.credential, remaining.into());
        }
        result
    }

    async fn exchange(
        &self,
        credential: &Credential,
        call: &Call,
        body: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, OutsideError> {
        let mut request = self
            .http
            .request(call.method.clone(), format!("{}{}", self.base, call.path))
            .query(&call.query)
            .header(AUTHORIZATION, credential.authorization.clone());
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| call.unanswered(&error))?;
        let status = response.status();
        let blocked = credential.budget.observe(status.as_u16(), response.headers());
        let body = response.bytes().await.map_err(|error| call.unanswered(&error));
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(OutsideError::RateLimited { after: blocked.unwrap_or(TIMEOUT) });
        }
        if status.is_success() {
            return body.map(|body| Some(body.to_vec()));
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        // The status alone says what happened; the text of a refusal is only its wording.
        let body = body.unwrap_or_default();
        Err(refusal::of_status(call, status, &body))
    }
}

fn credential(token: &str, budgets: &Budgets) -> Result<Arc<Credential>, OutsideError> {
    let mut authorization = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        OutsideError::Unauthorized("the token contains characters that no DigitalOcean token has".to_owned())
    })?;
    authorization.set_sensitive(true);
    let budget = budgets.for_token(Api::DigitalOcean, token);
    Ok(Arc::new(Credential { authorization, budget, account: OnceCell::new() }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call, with all that its errors name. Displayed as method and route, without ids: messages must be stable.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    route: &'static str,
    /// What a token must be allowed to make this call.
    pub(super) scopes: &'static str,
    path: String,
    query: Vec<(&'static str, String)>,
    priority: Priority,
}

impl Call {
    /// A `GET`.
    pub(super) fn read(route: &'static str, scopes: &'static str) -> Self {
        Self::write(Method::GET, route, scopes)
    }

    pub(super) fn write(method: Method, route: &'static str, scopes: &'static str) -> Self {
        Self { method, route, scopes, path: route.to_owned(), query: Vec::new(), priority: Priority::Normal }
    }

    /// Fills the placeholder of the route. `value` needs no escaping: it is a number or one of our tags.
    pub(super) fn at(mut self, value: impl fmt::Display) -> Self {
        if let (Some(open), Some(close)) = (self.route.find('{'), self.route.find('}')) {
            self.path = format!("{}{value}{}", &self.route[..open], &self.route[close + 1..]);
        }
        self
    }

    pub(super) fn with(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    pub(super) fn query(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Reads the body of a success. A write that was answered with something else may have happened all the same.
    pub(super) fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, OutsideError> {
        serde_json::from_slice(body).map_err(|_| self.broken("was answered with something that cannot be read"))
    }

    /// The outcome of a call that was sent and came to no end.
    pub(super) fn broken(&self, how: &str) -> OutsideError {
        let text = format!("DigitalOcean: {self} {how}");
        if self.method == Method::GET { OutsideError::Unavailable(text) } else { OutsideError::Unknown(text) }
    }

    /// A 404 where the thing must exist.
    pub(super) fn not_found(&self) -> OutsideError {
        OutsideError::Refused {
            code: code::NOT_FOUND.to_owned(),
            message: format!("DigitalOcean: what {self} works on does not exist"),
        }
    }

    fn unanswered(&self, error: &reqwest::Error) -> OutsideError {
        if error.is_connect() {
            // Nothing was sent, whatever the call.
            return OutsideError::Unavailable("DigitalOcean cannot be reached".to_owned());
        }
        self.broken(if error.is_timeout() { "was not answered within 10 s" } else { "was cut off" })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.route)
    }
}
