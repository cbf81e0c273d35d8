//! The crash sweep: whatever write the operator dies at, and whatever becomes of that write, its successor brings
//! everything to one VM and one record for each object, or to none, touches nothing of other people's, and then rests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod scenario;
mod seeded;
mod sweep;
#[allow(dead_code, reason = "shared with the tests of survival, which need more of it")]
mod world;

use scenario::Scenario;
use sweep::{Fate, LATE_SETTLE, sweep};
use world::Weather;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_write_of_a_nodes_creation_or_deletion_leaves_no_trace() {
    sweep(&[Scenario::CreateNode, Scenario::DeleteNode], &Fate::PLAIN, &Weather::default(), 2).await;
}

/// `make test-crash`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full matrix takes half an hour: make test-crash"]
async fn a_crash_or_a_lost_reply_at_any_write_of_a_nodes_or_environments_life_leaves_no_trace() {
    let scenarios = [
        Scenario::CreateNode,
        Scenario::ReplaceNode,
        Scenario::DeleteNode,
        Scenario::CreateEnvironment,
        Scenario::ExpireEnvironment,
    ];
    let weather = Weather { settle: LATE_SETTLE, ..Weather::default() };
    sweep(&scenarios, &Fate::ALL, &weather, 2).await;
}
