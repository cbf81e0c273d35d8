//! One server that flaps for five minutes, under a paused clock: the real prober's engine, merge and selection, and every
//! write that follows from them. Writes are paced as `pace` does it for one group.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::super::publish::{Names, records, select};
use super::super::super::roster::owner;
use super::super::pace::BETWEEN;
use super::*;
use crate::api::names::Fqdn;
use crate::api::server_group::ServerGroup;
use crate::metrics::Metrics;
use crate::probe::{Engine, Failure, Outcome, Prober, SelfCheck, Settings, Target, reason};

const FLAPPING: &str = "10.0.0.1";
/// It is up for so long, and then down for as long.
const HALF: Duration = Duration::from_secs(5);
const STORM: Duration = Duration::from_secs(300);

struct Square {
    start: Instant,
}

#[async_trait]
impl Prober for Square {
    async fn probe(&self, target: &Target) -> Outcome {
        let down = (self.start.elapsed().as_secs() / HALF.as_secs()) % 2 == 1;
        if down && target.key.ends_with(FLAPPING) {
            return Outcome::Failure(Failure { reason: reason::CONNECTION_REFUSED, message: "nobody listens".into() });
        }
        Outcome::Success
    }
}

struct Online;

#[async_trait]
impl SelfCheck for Online {
    async fn reachable(&self) -> bool {
        true
    }
}

/// What one storm cost.
#[derive(Debug, Default, PartialEq, Eq)]
struct Writes {
    status: usize,
    dns: usize,
}

/// A storm over a group with these servers and this probe.
async fn storm(servers: &[&str], probe: Value, seed: u64) -> Writes {
    let members: Vec<_> = servers.iter().map(|address| json!({ "address": address })).collect();
    let mut group: ServerGroup = serde_json::from_value(json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "ServerGroup",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"zoneRef": {"name": "zone"}, "slug": "web", "members": members, "probe": probe},
    }))
    .unwrap();
    let name = Fqdn::parse("_wrap.web.example.com").unwrap();
    let names = Names { slug: "web".into(), txt: Some(name), a: None, ttl: 60 };
    let roster = Roster::of(&group, [], None);
    let reports =
        Reports { enabled: false, ttl: Duration::from_secs(90), forget_after: Duration::from_secs(24 * 3600) };
    let (sender, mut transitions) = mpsc::channel(64);
    let settings = Settings {
        allow_cidrs: Vec::new(),
        extra_ca: None,
        concurrency: 16,
        self_check: Arc::new(Online),
        meter: Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default())),
    };
    let start = Instant::now();
    let engine = Engine::with_prober(settings, Arc::new(Square { start }), fastrand::Rng::with_seed(seed), sender);
    let owner = owner(&group);
    engine.declare(&owner, roster.targets(&group));

    let epoch = Timestamp::from_second(1_800_000_000).unwrap();
    let (mut writes, mut published, mut written) = (Writes::default(), Vec::new(), None::<Instant>);
    while start.elapsed() < STORM {
        let now = plus(epoch, signed(start.elapsed()));
        let status = group.status.get_or_insert_default();
        let merged = merge(&Known {
            roster: &roster,
            reports: &reports,
            before: &status.members,
            verdict: &|id| engine.verdict(&format!("{owner}/{id}")),
            heard: &HashMap::new(),
            listening_since: epoch,
            now,
        });
        let may = written.map(|written| written + BETWEEN);
        let changed = merged.members != status.members;
        if changed && may.is_none_or(|may| may <= Instant::now()) {
            (status.members, written) = (merged.members, Some(Instant::now()));
            writes.status += 1;
            let wanted = records(&names, group.spec.strategy, &select(&group.spec, &roster, &status.members));
            if wanted != published {
                published = wanted;
                writes.dns += 1;
            }
            continue;
        }
        let due = merged.next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
        let next = if changed { may } else { due.map(|due| Instant::now() + due) };
        tokio::select! {
            turned = transitions.recv() => assert!(turned.is_some(), "the prober goes on"),
            () = tokio::time::sleep_until(next.unwrap_or(start + STORM).min(start + STORM)) => {}
        }
    }
    writes
}

/// The status is written when the servers become known, at most once for each of them, and then twice for every time the
/// flapping one goes: when it goes and when it is back. The same goes for DNS.
fn at_most(servers: usize, falls: u64) -> usize {
    servers + 1 + 2 * usize::try_from(falls).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_flaps_every_five_seconds_costs_a_write_each_time_it_is_held_out_and_no_more() {
    let hasty = json!({"interval": "1s", "timeout": "1s", "fall": 1, "rise": 1});
    // Who goes stays out for the hold, which is counted from a whole second, and has to be seen to fail again after that.
    let falls = STORM.as_secs() / (HOLD.unsigned_abs().as_secs() - 1) + 1;
    for seed in 0..8 {
        let writes = storm(&[FLAPPING, "10.0.0.2", "10.0.0.3"], hasty.clone(), seed).await;
        // Without the hold it would be seen to go in each of the thirty times it does.
        assert!((10..=at_most(3, falls)).contains(&writes.status), "seed {seed}: {writes:?}, {falls} falls");
        assert!((10..=at_most(3, falls)).contains(&writes.dns), "seed {seed}: {writes:?}, {falls} falls");
        assert!(writes.status < 2 * 30, "seed {seed}: {writes:?}: the hold does nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_usual_probe_a_flapping_server_is_taken_out_seldom() {
    // Three failures and two successes in a row, each at least nine seconds after the one before.
    let falls = STORM.as_secs() / (5 * 9) + 1;
    let mut most = Writes::default();
    for seed in 0..32 {
        let writes = storm(&[FLAPPING, "10.0.0.2", "10.0.0.3"], json!({}), seed).await;
        assert!(writes.status <= at_most(3, falls) && writes.dns <= at_most(3, falls), "seed {seed}: {writes:?}");
        most = Writes { status: most.status.max(writes.status), dns: most.dns.max(writes.dns) };
    }
    assert!(most.dns > 4, "it never went in any of the storms: {most:?}");
}

#[tokio::test(start_paused = true)]
async fn the_only_server_may_flap_without_a_single_change_of_the_record() {
    let hasty = json!({"interval": "1s", "timeout": "1s", "fall": 1, "rise": 1});
    let writes = storm(&[FLAPPING], hasty, 1).await;
    assert!(writes.status >= 10, "{writes:?}");
    // That nobody is known yet, and then it.
    assert!(writes.dns <= 2, "{writes:?}");
}
