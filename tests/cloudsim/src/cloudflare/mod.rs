//! A simulated Cloudflare: tokens, accounts, zones, DNS records and Workers of API v4, as its official client expects
//! them.
//!
//! Shapes follow Cloudflare's published API description; limits and codes its documentation of DNS records.

mod batch;
mod control;
mod history;
mod limits;
mod records;
mod routes;
mod rules;
mod state;
mod view;
mod workers;

pub use control::control_router;
pub use limits::Limits;
pub use routes::router;
pub use rules::Draft;
pub(crate) use rules::unquoted;
pub use state::{Plan, RecordEdit, RecordInfo, State, TokenSpec, ZoneSpec};
pub(crate) use workers::Edge;
pub use workers::{ScriptInfo, WorkersOptions};
