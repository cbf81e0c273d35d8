//! The JSON of the Cloudflare API. What is absent or of another shape than documented is an error, not a default,
//! wherever a wrong guess could make something look absent.

use serde::Deserialize;

use crate::api::names::Mark;
use crate::dns::record::{Record, Value, canonical_name};
use crate::outside::OutsideError;

/// What surrounds every answer.
#[derive(Deserialize)]
pub(super) struct Envelope<T> {
    pub success: bool,
    #[serde(default = "Vec::new")]
    pub errors: Vec<WireError>,
    #[serde(default = "none")]
    pub result: Option<T>,
    #[serde(default)]
    pub result_info: Option<ResultInfo>,
}

fn none<T>() -> Option<T> {
    None
}

#[derive(Deserialize)]
pub(super) struct WireError {
    pub code: u64,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub error_chain: Vec<WireError>,
}

#[derive(Deserialize)]
pub(super) struct ResultInfo {
    pub total_count: usize,
    pub total_pages: usize,
}

#[derive(Deserialize)]
pub(super) struct TokenStatus {
    pub status: String,
    pub expires_on: Option<String>,
}

impl TokenStatus {
    /// The expiry of an active token.
    pub fn check(&self) -> Result<Option<String>, OutsideError> {
        match (self.status.as_str(), &self.expires_on) {
            ("active", _) => Ok(self.expires_on.clone()),
            ("expired", Some(when)) => Err(OutsideError::Unauthorized(format!(
                "the Cloudflare token expired on {when}: put a new one into its Secret"
            ))),
            (status, _) => Err(OutsideError::Unauthorized(format!(
                "the Cloudflare token is {status}: put a valid one into its Secret"
            ))),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireZone {
    pub id: String,
    pub name: String,
    pub status: String,
    pub account: WireAccount,
    pub plan: Option<WirePlan>,
    pub name_servers: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct WireAccount {
    pub id: String,
}

#[derive(Deserialize)]
pub(super) struct WirePlan {
    pub legacy_id: Option<String>,
    pub name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireRecord {
    id: String,
    name: String,
    r#type: String,
    // Some types (SRV, CAA, …) have `data` instead.
    content: Option<String>,
    // A TTL may be written as 300.0.
    ttl: f64,
    proxied: Option<bool>,
    comment: Option<String>,
}

impl From<WireRecord> for Record {
    fn from(wire: WireRecord) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a TTL is at most 86,400")]
        let ttl = wire.ttl as u32;
        Self {
            id: wire.id.into(),
            name: canonical_name(&wire.name).into(),
            value: Value::from_wire(&wire.r#type.to_ascii_uppercase(), wire.content.as_deref().unwrap_or_default()),
            ttl,
            proxied: wire.proxied.unwrap_or(false),
            mark: wire.comment.as_deref().and_then(Mark::from_comment),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireBatch {
    #[serde(default)]
    pub patches: Option<Vec<WireRecord>>,
    #[serde(default)]
    pub posts: Option<Vec<WireRecord>>,
}

#[derive(Deserialize)]
pub(super) struct WireUsage {
    pub record_usage: u64,
    pub record_quota: Option<u64>,
}
