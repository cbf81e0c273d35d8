//! A client that follows the TXT record through a caching resolver, as programs do, while servers die and come back. What
//! it met is judged by what it was told, and not by the clock on the wall.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use support::eventually;
use tokio::task::JoinHandle;

use crate::ground::{GROUP, Origin, PROBE, apply, lists, members, probing, sorted, told};
use crate::world::{DEADLINE, World};

const SLUG: &str = "web";
/// Between two requests of the client.
const PACE: Duration = Duration::from_millis(20);
const TTL: SignedDuration = SignedDuration::from_secs(60);

/// One connection that the client tried.
#[derive(Debug, Clone)]
struct Attempt {
    /// What part of the test it was when the client asked for the list.
    act: usize,
    /// The list it was told.
    told: String,
    server: String,
    served: bool,
}

/// A client that goes on and on: it asks where the servers are, and takes them in turn until one serves it.
struct Follower {
    act: Arc<AtomicUsize>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    /// Requests that nobody served, whomever the client asked.
    unserved: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    going: JoinHandle<()>,
}

impl Follower {
    fn start(world: &World) -> Self {
        let (act, attempts): (Arc<AtomicUsize>, Arc<Mutex<Vec<Attempt>>>) = Default::default();
        let (unserved, stop): (Arc<AtomicUsize>, Arc<AtomicBool>) = Default::default();
        let resolver = world.sim.resolver();
        let (now, tried, failed, end) = (act.clone(), attempts.clone(), unserved.clone(), stop.clone());
        let going = tokio::spawn(async move {
            let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
            let mut turn = 0;
            while !end.load(Ordering::SeqCst) {
                let act = now.load(Ordering::SeqCst);
                let told = told(resolver, SLUG).await.unwrap();
                let mut servers: Vec<_> = told.split(',').collect();
                let first = turn % servers.len();
                servers.rotate_left(first);
                turn += 1;
                let mut served = false;
                // Every one of them, so that each is tried as often as it is named.
                for server in servers {
                    let answer = http.get(format!("http://{server}/healthz")).send().await;
                    let well = answer.is_ok_and(|answer| answer.status().is_success());
                    served |= well;
                    let attempt = Attempt { act, told: told.clone(), server: server.to_owned(), served: well };
                    tried.lock().unwrap().push(attempt);
                }
                failed.fetch_add(usize::from(!served), Ordering::SeqCst);
                tokio::time::sleep(PACE).await;
            }
        });
        Self { act, attempts, unserved, stop, going }
    }

    /// Begins the next act, and waits until nothing is under way any more that was asked before.
    async fn next_act(&self) -> usize {
        let act = self.act.fetch_add(1, Ordering::SeqCst) + 1;
        eventually(DEADLINE, "the client to ask again", async || !self.attempts_in(act).is_empty()).await;
        act
    }

    fn attempts_in(&self, act: usize) -> Vec<Attempt> {
        self.attempts.lock().unwrap().iter().filter(|attempt| attempt.act == act).cloned().collect()
    }

    /// Waits until the client has tried so many servers in this act.
    async fn went_on(&self, act: usize) {
        eventually(DEADLINE, "the client to go on", async || self.attempts_in(act).len() >= 30).await;
    }
}

/// Detection is over when the zone's own server has it; a TTL later so has everybody who listens to a cache.
fn pass_ttl(world: &World) {
    world.sim.clock.advance(TTL + SignedDuration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_follows_the_list_fails_for_no_longer_than_detection_and_the_ttl() {
    let world = World::with(probing).await;
    let shop = world.cluster.namespace("shop").await;
    let mut origins = [Origin::start().await, Origin::start().await, Origin::start().await];
    apply(&world, &shop, SLUG, &format!("{}, {PROBE}", members(&origins))).await;
    lists(&world, SLUG, &sorted(&origins)).await;
    world.cluster.wait_condition(GROUP, Some(&shop), SLUG, "Ready", "True", DEADLINE).await;
    pass_ttl(&world);
    let client = Follower::start(&world);
    let peace = client.act.load(Ordering::SeqCst);
    client.went_on(peace).await;
    let mut calm = vec![(peace, sorted(&origins))];

    for victim in 0..2 {
        let storm = client.next_act().await;
        let dead = origins[victim].at.to_string();
        origins[victim].die().await;
        // The cache goes on naming it, so the client meets it: a client that never does would prove nothing.
        eventually(DEADLINE, "the client to meet the dead server", async || {
            client.attempts_in(storm).iter().any(|attempt| attempt.server == dead && !attempt.served)
        })
        .await;
        let left = sorted(origins.iter().filter(|origin| origin.at.to_string() != dead));
        lists(&world, SLUG, &left).await;
        pass_ttl(&world);
        let quiet = client.next_act().await;
        client.went_on(quiet).await;
        calm.push((quiet, left));

        // Nobody who is told of it again finds it gone.
        client.next_act().await;
        origins[victim].revive().await;
        lists(&world, SLUG, &sorted(&origins)).await;
        pass_ttl(&world);
        let back = client.next_act().await;
        client.went_on(back).await;
        calm.push((back, sorted(&origins)));
    }
    client.stop.store(true, Ordering::SeqCst);
    client.going.await.unwrap();
    for (act, list) in calm {
        let attempts: Vec<_> = client.attempts.lock().unwrap().iter().filter(|a| a.act == act).cloned().collect();
        let failed: Vec<_> = attempts.iter().filter(|attempt| !attempt.served || attempt.told != list).collect();
        assert!(failed.is_empty(), "act {act}: {failed:?} although {list} was published a TTL before");
    }
    assert_eq!(client.unserved.load(Ordering::SeqCst), 0, "with one server dead at a time somebody always served");
}
