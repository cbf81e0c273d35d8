//! API tokens: whose account they open, what they may do, and how many requests they made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::limits::Requests;

/// A token to add, or the new state of an existing one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// What the client sends as `Bearer`.
    pub value: String,
    /// Name of the account the token belongs to.
    #[serde(default = "default_account")]
    pub account: String,
    /// `read` (every `…:read`), `write` (everything else), or single ones such as `droplet:create`.
    #[serde(default = "full_access")]
    pub scopes: Vec<String>,
    /// From this time on the token is refused.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Refused from now on.
    #[serde(default)]
    pub revoked: bool,
}

impl TokenSpec {
    /// A token of the default account that may do everything and never expires.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            account: default_account(),
            scopes: full_access(),
            expires_at: None,
            revoked: false,
        }
    }

    /// The same token with exactly these scopes.
    #[must_use]
    pub fn with_scopes(mut self, scopes: &[&str]) -> Self {
        self.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self
    }

    /// The same token in another account.
    #[must_use]
    pub fn of_account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires_at.is_none_or(|end| now < end)
    }
}

fn default_account() -> String {
    super::DEFAULT_ACCOUNT.to_owned()
}

fn full_access() -> Vec<String> {
    vec!["read".to_owned(), "write".to_owned()]
}

/// A token and the requests made with it.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) spec: TokenSpec,
    pub(super) requests: Requests,
}

/// The scopes of the token that makes a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scopes<'a>(pub(super) &'a [String]);

impl Scopes<'_> {
    /// Whether the token may do what `scope` (`<resource>:<verb>`) stands for.
    pub(super) fn allow(self, scope: &str) -> bool {
        let broad = if scope.ends_with(":read") { "read" } else { "write" };
        self.0.iter().any(|held| held == scope || held == broad)
    }

    /// 403 unless the token holds the scope.
    pub(super) fn require(self, scope: &str) -> Result<(), ApiError> {
        if self.allow(scope) { Ok(()) } else { Err(ApiError::forbidden()) }
    }
}
