//! The crash sweep: whatever write the operator dies at, and whatever becomes of that write, its successor brings
//! everything to one VM and one record for each object, or to none, touches nothing of other people's, and then rests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod groups;
mod scenario;
mod seeded;
#[path = "../sweep/mod.rs"]
mod sweep;
mod workers;
#[allow(dead_code, reason = "shared with the tests of survival, which need more of it")]
mod world;

use groups::Change;
use scenario::{Pool, Scenario};
use sweep::{Fate, LATE_SETTLE, Site};
use world::{Weather, World};

type Plan<'a> = sweep::Plan<'a, Scenario>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_write_of_a_nodes_or_groups_creation_or_deletion_leaves_no_trace() {
    let (all, workers) = (&Site::ALL, &[Site::Workers]);
    let scenarios: [Plan<'_>; 7] = [
        (Scenario::CreateNode, all, &Fate::PLAIN),
        (Scenario::DeleteNode, all, &Fate::PLAIN),
        (Scenario::Group(Change::Create), all, &[Fate::Committed]),
        (Scenario::Group(Change::Delete), all, &[Fate::Committed]),
        (Scenario::Worker(Change::Create), workers, &[Fate::Committed]),
        (Scenario::Worker(Change::AddMember), workers, &[Fate::Committed]),
        (Scenario::Worker(Change::Delete), workers, &[Fate::Committed]),
    ];
    every_case(&scenarios, &Weather::default()).await;
}

/// `make test-crash`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full matrix has some 300 cases and takes about twenty minutes: make test-crash"]
async fn a_crash_or_a_lost_reply_at_any_write_of_a_nodes_or_environments_life_leaves_no_trace() {
    let scenarios = [
        Scenario::CreateNode,
        Scenario::ReplaceNode,
        Scenario::DeleteNode,
        Scenario::CreateEnvironment,
        Scenario::ExpireEnvironment,
    ];
    full(&scenarios, &Site::ALL).await;
}

/// `make test-crash`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full matrix of groups has some 160 cases and takes about ten minutes: make test-crash"]
async fn a_crash_or_a_lost_reply_at_any_write_of_a_groups_life_leaves_no_trace() {
    let changes = [Change::Create, Change::AddMember, Change::LoseMember, Change::MoveAddresses, Change::Delete];
    full(&changes.map(Scenario::Group), &Site::ALL).await;
}

/// `make test-crash`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full matrix of groups with a Worker has some 220 cases and takes about twelve minutes: make test-crash"]
async fn a_crash_or_a_lost_reply_at_any_write_of_a_workers_life_leaves_no_trace() {
    let changes = [Change::Create, Change::AddMember, Change::Delete];
    // Its records are those of any group.
    full(&changes.map(Scenario::Worker), &[Site::Workers, Site::Api]).await;
}

async fn full(scenarios: &[Scenario], sites: &'static [Site]) {
    let weather = Weather { settle: LATE_SETTLE, ..Weather::default() };
    let whole = |&scenario| -> Plan<'static> { (scenario, sites, &Fate::ALL) };
    let scenarios: Vec<_> = scenarios.iter().map(whole).collect();
    every_case(&scenarios, &weather).await;
}

/// Runs every case of these on two worlds.
async fn every_case(scenarios: &[Plan<'_>], weather: &Weather) {
    let worlds = futures::future::join_all([World::start(weather), World::start(weather)]).await;
    let mut worlds: Vec<_> = worlds.into_iter().map(|world| (world, Pool::default())).collect();
    sweep::sweep(scenarios, &mut worlds, |cases| cases).await;
}
