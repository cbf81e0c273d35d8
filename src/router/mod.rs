//! `roadstead router`: tells a host's Caddy where each request goes, from the routing table in a file.
//!
//! It is a process of its own, twice on each host, and knows nothing but its table: whatever the operator is doing, and
//! wherever it is, sites are served. From outside it is an HTTP server on a unix socket:
//!
//! * `GET /lookup`: 204 with `X-Upstream: <alias>:<port>`, or the answer for the visitor. The visitor's host is in `Host`,
//!   path and query are in `X-Forwarded-Uri`. What a certificate authority asks goes to another host that shares the name,
//!   with its address in `X-Upstream`; `X-Roadstead-Asked` says who was asked;
//! * `GET /ask?domain=<name>`: 200 if the name may have a certificate, else 404;
//! * `GET /healthz`: that it runs, the hash of the table it serves, and why it does not serve the file's;
//! * `GET /metrics`.
//!
//! Inside: [`mod@answer`] is pure, from a table and a request to an answer; [`source`] follows the file; [`listen`] opens
//! sockets; [`serve`] is the HTTP.

pub mod answer;
pub mod listen;
pub mod metrics;
pub mod serve;
pub mod source;

use std::path::PathBuf;

pub use listen::Listen;
pub use serve::run;

/// Settings of a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file of the routing table.
    pub table: PathBuf,
    /// Where it is asked: all of it everywhere.
    pub listen: Vec<Listen>,
    /// The mode of its unix sockets.
    pub socket_mode: u32,
}
