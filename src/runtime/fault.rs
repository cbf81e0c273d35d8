//! The four classes of error, which alone decide condition, event and retry.

use std::time::Duration;

use crate::outside::OutsideError;

/// Why a step was not done. Reasons are words for machines, messages sentences for people; both are stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// May work next time: retried with exponential, jittered, stored back-off.
    #[error("{message}")]
    Transient {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
    /// Asked to wait: nothing changes but the time of the next try.
    #[error("rate limited")]
    RateLimited(Duration),
    /// Something has to come first.
    #[error("{message}")]
    Waiting {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
        /// When to look again, should no watch wake us before.
        after: Duration,
    },
    /// A person has to act.
    #[error("{message}")]
    Terminal {
        /// Reason of the condition.
        reason: &'static str,
        /// Message of the condition.
        message: String,
    },
    /// The object is gone: nothing is left to do for it.
    #[error("the object is gone")]
    Gone,
    /// Somebody else wrote the object meanwhile: observe again at once.
    #[error("the object changed meanwhile")]
    Conflict,
}

impl Fault {
    /// A fault that may be gone next time.
    pub fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Transient { reason, message: message.into() }
    }

    /// A fault a person has to mend.
    pub fn terminal(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Terminal { reason, message: message.into() }
    }

    /// The fault an external call ended in, where nothing more is known of it. `api` names the outside for the user,
    /// e.g. `Cloudflare`.
    #[must_use]
    pub fn outside(api: &str, error: &OutsideError) -> Self {
        match error {
            OutsideError::RateLimited { after } => Self::RateLimited(*after),
            OutsideError::Unauthorized(message) => Self::Waiting {
                reason: "CredentialRefused",
                message: format!("{api}: {message}"),
                after: Duration::from_secs(60),
            },
            OutsideError::Forbidden(message) => Self::Waiting {
                reason: "PermissionMissing",
                message: format!("{api}: {message}"),
                after: Duration::from_secs(60),
            },
            OutsideError::Refused { code, message } => {
                Self::terminal("Refused", format!("{api} refused the request ({code}): {message}"))
            }
            OutsideError::Unavailable(message) => Self::transient("Unavailable", format!("{api}: {message}")),
            OutsideError::Unknown(message) => Self::transient("OutcomeUnknown", format!("{api}: {message}")),
        }
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 && status.reason != "AlreadyExists" => Self::Conflict,
            kube::Error::Api(status) if status.code == 404 => Self::Gone,
            kube::Error::Api(status) if status.code == 429 => Self::RateLimited(Duration::from_secs(
                status.details.map_or(1, |d| u64::from(d.retry_after_seconds).max(1)),
            )),
            kube::Error::Api(status) if status.code == 403 => {
                Self::transient("KubernetesForbidden", format!("the Kubernetes API refused: {}", status.message))
            }
            kube::Error::Api(status) => Self::transient(
                "KubernetesAPI",
                format!("the Kubernetes API answered {}: {}", status.code, status.reason),
            ),
            // The text of a transport error varies from run to run; the log has it.
            other => {
                tracing::debug!(error = %other, "request to the Kubernetes API failed");
                Self::transient("KubernetesAPI", "the Kubernetes API could not be reached")
            }
        }
    }
}
