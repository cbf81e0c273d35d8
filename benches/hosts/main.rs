//! What managed hosts cost: `make bench`. Two hundred of them that speak SSH on loopback, and with `vms` as argument
//! container VMs with real OpenSSH, Docker and Caddy, which are bootstrapped and deployed to (`tests/vm/with.sh`).
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that fails has nothing to return to"
)]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

mod fleet;
mod model;
mod server;
mod vms;

#[path = "../nodes/fleet.rs"]
#[allow(dead_code, reason = "shared by benchmarks that each use a part of it")]
mod nodes;

#[path = "../table/mod.rs"]
#[allow(dead_code, reason = "shared by benchmarks that each use a part of it")]
mod table;

#[path = "../../tests/hosts/rig.rs"]
#[allow(dead_code, reason = "shared with the tests, which need more of it")]
mod rig;

#[path = "../../tests/hosts/visitor.rs"]
#[allow(dead_code, reason = "shared with the tests, which need more of it")]
mod visitor;

#[path = "../../tests/world/mod.rs"]
#[allow(dead_code, reason = "shared with the tests, which need more of it")]
mod world;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // cargo passes `--bench`; what is named besides chooses what is measured.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match chosen.first().map(String::as_str) {
        None => fleet::measure().await,
        Some("vms") => vms::measure().await,
        Some(other) => panic!("`{other}` is no measurement: give none, or `vms`"),
    }
}
