//! DNS: what should be published, what is, and the one writer per zone that makes them equal.
//!
//! Controllers [`declare`](Zone::declare) each owner's full record set and are woken when the answer changes. Nothing
//! here knows of Kubernetes.
//!
//! * [`record`], [`snapshot`], [`plan`]: plain values and the pure decision what to write;
//! * [`zone`]: the writer task, which reads, batches and answers;
//! * [`cloudflare`]: the API client behind the narrow trait [`RecordsApi`];
//! * [`propagation`]: asking DNS servers what they answer.

pub mod api;
pub mod cloudflare;
pub mod plan;
pub mod propagation;
pub mod record;
pub mod snapshot;
pub mod zone;

#[cfg(test)]
pub(crate) mod fake;

pub use api::{RecordsApi, Usage};
pub use cloudflare::{Cloudflare, Token, ZoneFacts, ZoneRecords};
pub use plan::Refusal;
pub use record::{Content, Desired, Kind, Published, Record};
pub use zone::{Checked, Declared, OwnedRecords, Owner, Zone, ZoneConfig, ZoneHealth};
