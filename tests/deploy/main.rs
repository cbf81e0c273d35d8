//! Apps on container VMs of the rig that `make test-hosts` starts: with the real Docker, Compose, Caddy and routers there,
//! a runner that does what the operator does, and visitors who ask all the time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say bluntly what they expect")]

#[path = "../bootstrap/host.rs"]
#[allow(dead_code, reason = "what bootstrapping alone needs of a VM")]
mod host;

mod crashes;
mod failing;
mod living;
mod runner;
mod visitors;

use host::{Host, ROOT};

/// A VM that serves.
async fn ready() -> Host {
    let host = Host::boot().await;
    host.bootstrap(ROOT).await.unwrap();
    host
}
