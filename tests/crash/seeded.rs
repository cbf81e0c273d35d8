//! The sweep proves its worth: an operator with one of three deliberate bugs does not pass it.

use std::time::Duration;

use support::within;

use crate::scenario::{Pool, Scenario};
use crate::sweep::{self, Fate, Scenario as _, Site, run};
use crate::world::{CONVERGED, Weather, World, operator};

type Case = sweep::Case<Scenario>;

/// Listings that run behind a create by less than the settle time: what the intent and the second look are for.
fn weather(seeded: Option<&'static str>) -> Weather {
    Weather { settle: Duration::from_secs(6), lag: Duration::from_secs(4), seeded }
}

/// The VM is ordered, the order is carried out, and the operator dies before it hears of that.
const ORDERED: Case = Case { scenario: Scenario::CreateNode, site: Site::Cloud, write: 1, fate: Fate::Committed };
/// The record is withdrawn, and the operator dies before it hears of that.
const WITHDRAWN: Case = Case { scenario: Scenario::DeleteNode, site: Site::Cloud, write: 1, fate: Fate::Committed };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_three_seeded_faults_is_found() {
    let mut world = World::start(&weather(None)).await;
    let mut pool = Pool::default();
    for case in [ORDERED, WITHDRAWN] {
        let verdict = run(&mut world, case, &mut pool).await;
        assert!(verdict.struck.is_some() && verdict.complaints.is_empty(), "without a fault: {case}: {verdict:?}");
    }
    for (fault, case, found) in [
        ("no-intent", ORDERED, "2 VMs instead of 1"),
        ("no-second-look", ORDERED, "2 VMs instead of 1"),
        ("finalizer-on-success", WITHDRAWN, "1 VMs instead of 0"),
    ] {
        // What the fault needs to do harm must be there before it is.
        let name = case.scenario.prepare(&world, &mut pool).await.unwrap();
        if case.scenario == Scenario::DeleteNode {
            Scenario::CreateNode.keep(&name, &mut pool);
        }
        world.operator.kill9().await;
        let since = world.sim.gate.journal.last();
        world.operator = operator(&world.control_plane, &world.sim, &world.proxy, &weather(Some(fault))).await;
        // A deletion waits for a zone that is not read yet, and the write to be struck would never come.
        within(CONVERGED, "the zone to be read", async || {
            let entries = world.sim.gate.journal.since(since);
            let is_read = entries.iter().any(|entry| entry.committed && entry.path.contains("/dns_records?"));
            is_read.then_some(()).ok_or_else(|| "no listing".to_owned())
        })
        .await
        .unwrap();
        let verdict = run(&mut world, case, &mut pool).await;
        println!("{fault}: {case} ({:?}): {:?}", verdict.struck, verdict.complaints);
        assert!(verdict.struck.is_some(), "{fault}: the write was never reached");
        assert!(verdict.complaints.iter().any(|complaint| complaint.contains(found)), "{fault}: {verdict:?}");
    }
}
