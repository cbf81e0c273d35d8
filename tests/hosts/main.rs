//! Nodes whose hosts are managed, and apps on them, as a person sees them: manifests go in, and container VMs with real
//! OpenSSH, Docker and Caddy answer over HTTPS with certificates of a real ACME server. `make test-hosts` starts the rig.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say bluntly what they expect")]

#[path = "../world/mod.rs"]
mod world;

mod apps;
mod crashes;
mod failures;
mod groups;
mod handover;
mod nodes;
mod previews;
mod registry;
mod rig;
#[path = "../sweep/mod.rs"]
#[allow(dead_code, reason = "shared with the sweep of simulated clouds, which needs more of it")]
mod sweep;
mod visitor;
mod workflow;
