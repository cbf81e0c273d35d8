//! What the integration tests share: a real Kubernetes control plane, the operator as a process, a proxy in front of the
//! API server that records, holds and loses writes, and a way to await a condition that says what it last saw.
//!
//! Everything here fails by panicking with a message for the person reading the test's output: a test that cannot be
//! set up has nothing to return to, and a panic is what makes [`Operator`] print its log.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "used by tests alone; see above"
)]

mod cluster;
mod control_plane;
mod eventually;
mod operator;
mod process;
mod proxy;
mod write_counter;

pub use cluster::{Cluster, condition};
pub use control_plane::ControlPlane;
pub use eventually::{Look, eventually, quiet, within};
pub use operator::{Operator, OperatorOptions, SimAddresses};
pub use process::{Supervised, caddy, free_port, repository, unique, workerd};
pub use proxy::{ApiProxy, Fate, Held, Release, Write};
pub use write_counter::{WriteCount, WriteCounter};
