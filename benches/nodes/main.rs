//! What a thousand Nodes cost: seconds, calls, writes and memory, in one run against a real control plane and simulated
//! clouds that take 50 ms a call. `make bench` prints the table; `make bench-large` that of five thousand VMs.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that fails has nothing to return to"
)]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

mod fleet;
mod large;
mod thousand;

#[path = "../table/mod.rs"]
#[allow(dead_code, reason = "shared by benchmarks that each use a part of it")]
mod table;

#[path = "../../tests/world/mod.rs"]
#[allow(dead_code, reason = "shared with the tests, which need more of it")]
mod world;

use std::time::Duration;

use cloudsim::journal::Entry;

/// What each call to a cloud takes.
const CALL: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // cargo passes `--bench`; what is named besides chooses what is measured.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match chosen.first().map(String::as_str) {
        None => thousand::measure().await,
        Some("large") => large::measure().await,
        Some(other) => panic!("`{other}` is no measurement: give none, or `large`"),
    }
}

/// The calls that were made to one cloud.
#[derive(Debug, Default)]
struct Calls {
    batches: usize,
    operations: usize,
    other_writes: usize,
    reads: usize,
}

impl Calls {
    fn count<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut calls = Self::default();
        for entry in entries {
            if entry.path.ends_with("/dns_records/batch") {
                calls.batches += 1;
                let body = entry.body.iter().flat_map(|body| body.as_object().into_iter().flatten());
                calls.operations += body.map(|(_, list)| list.as_array().map_or(0, Vec::len)).sum::<usize>();
            } else if entry.method == "GET" {
                calls.reads += 1;
            } else {
                calls.other_writes += 1;
            }
        }
        calls
    }

    fn all(&self) -> usize {
        self.batches + self.other_writes + self.reads
    }
}
