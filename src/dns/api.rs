//! The narrow view of a DNS API that the zone writer needs, so that it can be tested without one.

use async_trait::async_trait;

use crate::api::names::Mark;
use crate::dns::cloudflare::Token;
use crate::dns::plan::Op;
use crate::dns::record::Record;
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

/// How full a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Records in the zone.
    pub used: u64,
    /// Records it may have; `None` where the limit is the account's.
    pub quota: Option<u64>,
}

/// One operation of a batch, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The owner, whose mark the record gets.
    pub mark: Mark,
    /// What to do.
    pub op: Op,
}

/// The records of one zone.
///
/// No method retries. Every call counts against the credential's budget.
#[async_trait]
pub trait RecordsApi: Send + Sync {
    /// Every record of the zone.
    ///
    /// # Errors
    /// Anything but a complete listing is an error.
    async fn list(&self, priority: Priority) -> Result<Vec<Record>, OutsideError>;

    /// Every record at one name (canonical).
    ///
    /// # Errors
    /// Anything but a complete answer is an error.
    async fn at(&self, name: &str, priority: Priority) -> Result<Vec<Record>, OutsideError>;

    /// Applies all the writes, or none. Returns the records that were created or changed, as the zone now shows them.
    ///
    /// # Errors
    /// [`OutsideError::Refused`] says that nothing was changed and why, for the first culprit only;
    /// [`OutsideError::Unknown`] that nobody knows.
    async fn batch(&self, writes: &[Write], priority: Priority) -> Result<Vec<Record>, OutsideError>;

    /// How full the zone is.
    ///
    /// # Errors
    /// As any read.
    async fn usage(&self) -> Result<Usage, OutsideError>;

    /// Installs another token for all later calls.
    fn set_token(&self, token: Token);
}
