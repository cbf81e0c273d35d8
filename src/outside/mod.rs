//! What every external API has in common: three outcomes of a call, and a request budget per credential.

pub mod budget;

use std::time::Duration;

/// Why an external call gave no result. The variant alone decides what may be concluded and what happens next.
///
/// Texts are stable: no request ids, times or attempt counts, and never a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// The API, or our own budget for its credential, asks to wait. Nothing was changed.
    #[error("the request budget is used up")]
    RateLimited {
        /// How long to wait.
        after: Duration,
    },
    /// The credential is missing, wrong, expired or revoked (401 and its relatives). Says nothing about any object.
    #[error("{0}")]
    Unauthorized(String),
    /// The credential is good but may not do this. Names the call and the permission it needs.
    #[error("{0}")]
    Forbidden(String),
    /// The API looked at the request and refused it: nothing was changed, and repeating it unchanged is useless.
    #[error("{message}")]
    Refused {
        /// The API's own code, e.g. `81053` or `unprocessable_entity`.
        code: String,
        /// The API's text, with its chain of causes.
        message: String,
    },
    /// The call failed and changed nothing: a read that broke, or a connection that was never made.
    #[error("{0}")]
    Unavailable(String),
    /// A write whose outcome is not known: time-out, cut connection, 5xx. Look again before anything else.
    #[error("{0}")]
    Unknown(String),
}

#[cfg(test)]
impl OutsideError {
    /// One of each, and a refusal with this code.
    pub(crate) fn each(code: &str) -> [Self; 6] {
        let text = || "no".to_owned();
        [
            Self::RateLimited { after: Duration::from_secs(7) },
            Self::Unauthorized(text()),
            Self::Forbidden(text()),
            Self::Refused { code: code.to_owned(), message: text() },
            Self::Unavailable(text()),
            Self::Unknown(text()),
        ]
    }
}
