//! The engine under a paused clock, with probes and a self-check that do as they are told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::state_tests::{down, target, verdict};
use super::*;

/// What a probe does: how long it takes, and what comes of it.
type Script = dyn Fn(&str, Duration) -> (Duration, Outcome) + Send + Sync;

struct Fake {
    start: Instant,
    script: Box<Script>,
    begun: Mutex<Vec<(Arc<str>, Duration)>>,
    running: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// Counts a probe as running until it ends or is dropped.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Prober for Fake {
    async fn probe(&self, target: &Target) -> Outcome {
        let at = self.start.elapsed();
        self.begun.lock().unwrap().push((Arc::clone(&target.key), at));
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(running, Ordering::SeqCst);
        let _running = Running(&self.running);
        let (takes, outcome) = (self.script)(&target.key, at);
        sleep(takes).await;
        outcome
    }
}

/// Our own network, up or down.
struct Uplink {
    up: AtomicBool,
    asked: AtomicUsize,
    /// Each answer needs one of these.
    answers: Semaphore,
}

#[async_trait]
impl SelfCheck for Uplink {
    async fn reachable(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Ok(_answer) = self.answers.acquire().await else { return false };
        self.up.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
struct Counts {
    results: Mutex<Vec<Probed>>,
    targets: AtomicUsize,
    isolations: AtomicUsize,
}

impl Meter for Counts {
    fn probed(&self, probed: &Probed) {
        self.results.lock().unwrap().push(probed.clone());
    }

    fn targets(&self, count: usize) {
        self.targets.store(count, Ordering::SeqCst);
    }

    fn isolated(&self, isolated: bool) {
        self.isolations.fetch_add(usize::from(isolated), Ordering::SeqCst);
    }
}

struct Rig {
    engine: Engine,
    fake: Arc<Fake>,
    uplink: Arc<Uplink>,
    counts: Arc<Counts>,
    transitions: mpsc::Receiver<Transition>,
}

impl Rig {
    fn new(script: impl Fn(&str, Duration) -> (Duration, Outcome) + Send + Sync + 'static) -> Self {
        Self::with(CONCURRENCY, 64, script)
    }

    fn with(
        concurrency: usize,
        channel: usize,
        script: impl Fn(&str, Duration) -> (Duration, Outcome) + Send + Sync + 'static,
    ) -> Self {
        let (sender, transitions) = mpsc::channel(channel);
        let fake = Arc::new(Fake {
            start: Instant::now(),
            script: Box::new(script),
            begun: Mutex::default(),
            running: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let answers = Semaphore::new(1);
        let uplink = Arc::new(Uplink { up: AtomicBool::new(true), asked: AtomicUsize::new(0), answers });
        let counts = Arc::new(Counts::default());
        let settings = Settings {
            allow_cidrs: Vec::new(),
            extra_ca: None,
            concurrency,
            self_check: uplink.clone(),
            meter: counts.clone(),
        };
        let engine = Engine::with_prober(settings, fake.clone(), fastrand::Rng::with_seed(7), sender);
        Self { engine, fake, uplink, counts, transitions }
    }

    /// Declares `count` targets that were Healthy in an earlier life.
    fn declare_known(&self, owner: &str, count: usize) {
        let targets: Vec<_> = (0..count).map(|n| target(&format!("{owner}/{n}"))).collect();
        for target in &targets {
            self.engine.restore(&target.key, verdict(Health::Healthy));
        }
        self.engine.declare(owner, targets);
    }

    /// What turned so far, in order.
    fn turns(&mut self) -> Vec<(String, Health)> {
        std::iter::from_fn(|| self.transitions.try_recv().ok())
            .map(|turn| (turn.key.to_string(), turn.verdict.health))
            .collect()
    }

    fn begun(&self, key: &str) -> Vec<Duration> {
        let begun = self.fake.begun.lock().unwrap();
        begun.iter().filter(|(one, _)| **one == *key).map(|(_, at)| *at).collect()
    }
}

const AN_INSTANT: Duration = Duration::from_millis(5);

/// What must happen within a minute of the paused clock: without an end, probes would go on for ever.
async fn soon<T>(wait: impl Future<Output = T>) -> T {
    timeout(seconds(60), wait).await.expect("it should have happened by now")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_new_target_is_healthy_with_its_first_success_and_counted() {
    let mut rig = Rig::new(|_, _| (AN_INSTANT, Outcome::Success));
    rig.engine.declare("node/shop/web", vec![target("node/shop/web")]);
    let turn = soon(rig.transitions.recv()).await.unwrap();
    assert_eq!((&*turn.key, turn.verdict.health), ("node/shop/web", Health::Healthy));
    assert_eq!(turn.verdict.reason, reason::SUCCEEDED);
    assert_eq!(rig.engine.verdict("node/shop/web"), Some(turn.verdict));
    assert_eq!(rig.fake.start.elapsed(), AN_INSTANT);
    assert_eq!(rig.counts.targets.load(Ordering::SeqCst), 1);
    let probed = Probed { check: "tcp", result: "Success", late: Duration::ZERO, took: AN_INSTANT };
    assert_eq!(*rig.counts.results.lock().unwrap(), [probed]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_target_delays_nobody() {
    let rig = Rig::new(|key, _| match key {
        "g/0" => (seconds(2), down()),
        _ => (AN_INSTANT, Outcome::Success),
    });
    rig.engine.declare("g", (0..200).map(|n| target(&format!("g/{n}"))).collect());
    sleep(seconds(300)).await;
    let results = rig.counts.results.lock().unwrap();
    assert!(results.len() > 200 * 27, "{}", results.len());
    let latest = results.iter().map(|probed| probed.late).max().unwrap();
    assert!(latest <= Duration::from_millis(2), "{latest:?}");
    assert_eq!(rig.engine.verdict("g/0").unwrap().health, Health::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_run_at_once_than_allowed_and_the_longest_waiting_goes_first() {
    let rig = Rig::with(3, 64, |_, _| (seconds(2), Outcome::Success));
    rig.engine.declare("g", (0..12).map(|n| target(&format!("g/{n}"))).collect());
    sleep(seconds(100)).await;
    assert_eq!(rig.fake.most_at_once.load(Ordering::SeqCst), 3);
    let counts: Vec<_> = (0..12).map(|n| rig.begun(&format!("g/{n}")).len()).collect();
    assert!(counts.iter().all(|count| *count >= 9), "nobody starves: {counts:?}");
    let late = rig.counts.results.lock().unwrap().iter().map(|probed| probed.late).max().unwrap();
    assert!(late >= seconds(6), "the wait for a place shows as lateness: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_our_own_changes_nothing_and_afterwards_the_one_dead_target_falls_once() {
    let outage = seconds(100)..seconds(400);
    let during = outage.clone();
    let mut rig = Rig::new(move |key, at| {
        let dead = key == "group/shop/web/3" && at >= seconds(200);
        (AN_INSTANT, if dead || during.contains(&at) { down() } else { Outcome::Success })
    });
    rig.declare_known("group/shop/web", 20);
    let mut isolated = rig.engine.isolated();
    sleep(outage.start).await;
    assert!(!*isolated.borrow_and_update());
    rig.uplink.up.store(false, Ordering::SeqCst);
    soon(isolated.changed()).await.unwrap();
    assert!(*isolated.borrow_and_update());
    assert!(rig.fake.start.elapsed() < outage.start + seconds(12), "before any target could have failed three times");

    sleep(outage.end.saturating_sub(rig.fake.start.elapsed())).await;
    assert_eq!(rig.turns(), []);
    assert!(!isolated.has_changed().unwrap());
    for n in 0..20 {
        assert_eq!(rig.engine.verdict(&format!("group/shop/web/{n}")), Some(verdict(Health::Healthy)));
    }
    rig.uplink.up.store(true, Ordering::SeqCst);
    soon(isolated.changed()).await.unwrap();
    assert!(!*isolated.borrow_and_update());
    let back = rig.fake.start.elapsed();
    assert!(back < outage.end + seconds(2));

    let turn = soon(rig.transitions.recv()).await.unwrap();
    assert_eq!((&*turn.key, turn.verdict.health), ("group/shop/web/3", Health::Unhealthy));
    let failures = rig.begun("group/shop/web/3").into_iter().filter(|at| *at >= back).collect::<Vec<_>>();
    assert_eq!(rig.fake.start.elapsed(), failures[2] + AN_INSTANT, "three failures after the outage, none before");
    sleep(seconds(300)).await;
    assert_eq!(rig.turns(), []);
    assert_eq!(rig.counts.isolations.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_self_check_that_does_not_answer_has_failed() {
    let mut rig = Rig::new(|_, at| (AN_INSTANT, if at < seconds(60) { Outcome::Success } else { down() }));
    rig.declare_known("g", 5);
    sleep(seconds(60)).await;
    let uplink = rig.uplink.clone();
    let answer = uplink.answers.try_acquire().unwrap();
    soon(rig.engine.isolated().wait_for(|isolated| *isolated)).await.unwrap();
    sleep(seconds(200)).await;
    assert_eq!(rig.turns(), []);
    drop(answer);
    soon(rig.engine.isolated().wait_for(|isolated| !*isolated)).await.unwrap();
    sleep(seconds(60)).await;
    assert_eq!(rig.turns().len(), 5, "they really are down");
}

#[tokio::test(start_paused = true)]
async fn in_doubt_the_self_check_is_asked_at_most_four_times_a_second() {
    let mut rig = Rig::new(|_, at| (AN_INSTANT, if at < seconds(60) { Outcome::Success } else { down() }));
    rig.declare_known("g", 2_000);
    sleep(seconds(60)).await;
    let before = rig.uplink.asked.load(Ordering::SeqCst);
    assert_eq!(before, 0, "there was nothing to doubt");
    let listen = async {
        let mut fallen = 0;
        while fallen < 2_000 {
            fallen += usize::from(rig.transitions.recv().await.unwrap().verdict.health == Health::Unhealthy);
        }
    };
    timeout(seconds(40), listen).await.unwrap();
    let asked = rig.uplink.asked.load(Ordering::SeqCst);
    let at_most = 4 * usize::try_from(rig.fake.start.elapsed().as_secs() - 59).unwrap();
    assert!((1..=at_most).contains(&asked), "{asked} of {at_most}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_flaps_every_five_seconds_turns_seldom() {
    let up = |at: Duration| (at.as_secs() / 5).is_multiple_of(2);
    let mut rig =
        Rig::new(move |key, at| (AN_INSTANT, if key == "g/0" && !up(at) { down() } else { Outcome::Success }));
    rig.declare_known("g", 20);
    sleep(seconds(300)).await;
    let probes = rig.begun("g/0");
    let downs = probes.iter().filter(|at| !up(**at)).count();
    assert!(downs >= 5 && downs <= probes.len() - 5, "it was seen up and down: {downs} of {}", probes.len());
    let turns = rig.turns();
    // A fall takes three results of about ten seconds, a rise two: two turns in 45 s.
    assert!(turns.len() <= 2 + 2 * probes.len() / 5, "{turns:?} in {} probes", probes.len());
    assert!(turns.iter().all(|(key, _)| key == "g/0"), "{turns:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_declaration_keeps_the_verdicts_of_unchanged_targets_and_their_schedule() {
    let mut rig = Rig::new(|_, _| (AN_INSTANT, Outcome::Success));
    rig.engine.declare("g", vec![target("g/0"), target("g/1")]);
    sleep(seconds(35)).await;
    assert_eq!(rig.turns().len(), 2);
    let (known, last) = (rig.engine.verdict("g/0"), *rig.begun("g/0").last().unwrap());
    for _ in 0..50 {
        rig.engine.declare("g", vec![target("g/0"), target("g/2")]);
        sleep(seconds(1)).await;
    }
    assert_eq!(rig.engine.verdict("g/0"), known);
    assert_eq!(rig.engine.verdict("g/1"), None);
    assert_eq!(rig.turns(), [("g/2".to_owned(), Health::Healthy)]);
    let next = rig.begun("g/0").into_iter().find(|at| *at > last).unwrap();
    assert!(
        (seconds(9)..=seconds(11)).contains(&next.saturating_sub(last)),
        "declaring again and again defers nothing"
    );
    assert_eq!(rig.begun("g/1").iter().filter(|at| **at > seconds(35)).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_holds_up_no_probe_and_misses_no_turn() {
    let mut rig = Rig::with(CONCURRENCY, 1, |_, at| {
        let up = (at.as_secs() / 60).is_multiple_of(2);
        (AN_INSTANT, if up { Outcome::Success } else { down() })
    });
    rig.engine.declare("g", (0..10).map(|n| target(&format!("g/{n}"))).collect());
    sleep(seconds(360)).await;
    assert!(rig.begun("g/0").len() >= 32);
    let mut seen = Vec::new();
    while let Ok(turn) = timeout(Duration::from_millis(1), rig.transitions.recv()).await {
        seen.push(turn.unwrap());
    }
    for n in 0..10 {
        let key = format!("g/{n}");
        let healths: Vec<_> = seen.iter().filter(|turn| *turn.key == *key).map(|turn| turn.verdict.health).collect();
        let alternating = [Health::Healthy, Health::Unhealthy].repeat(3);
        assert_eq!(healths, alternating, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_receiver_verdicts_can_still_be_asked_for() {
    let Rig { engine, transitions, .. } = Rig::new(|_, _| (AN_INSTANT, Outcome::Success));
    drop(transitions);
    engine.declare("g", vec![target("g/0"), target("g/1")]);
    sleep(seconds(1)).await;
    assert_eq!(engine.verdict("g/1").map(|verdict| verdict.health), Some(Health::Healthy));
}

#[tokio::test(start_paused = true)]
async fn a_prober_that_panics_loses_neither_its_target_nor_its_verdict() {
    let mut rig = Rig::new(|key, at| {
        assert!(key != "g/0" || at < seconds(30) || at > seconds(60), "seeded");
        (AN_INSTANT, Outcome::Success)
    });
    rig.engine.declare("g", vec![target("g/0"), target("g/1")]);
    sleep(seconds(120)).await;
    assert_eq!(rig.turns().len(), 2);
    assert_eq!(rig.engine.verdict("g/0").unwrap().health, Health::Healthy);
    assert!(rig.begun("g/0").len() >= 10);
    let results = rig.counts.results.lock().unwrap();
    assert!(results.iter().any(|probed| probed.result == "Inconclusive"));
}

#[tokio::test(start_paused = true)]
async fn with_the_last_handle_everything_ends() {
    let rig = Rig::new(|_, _| (seconds(2), Outcome::Success));
    let another = rig.engine.clone();
    rig.engine.declare("g", vec![target("g/0")]);
    sleep(seconds(1)).await;
    assert_eq!(rig.fake.running.load(Ordering::SeqCst), 1);
    let Rig { engine, fake, mut transitions, .. } = rig;
    drop(engine);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(fake.running.load(Ordering::SeqCst), 1, "one handle is left");
    drop(another);
    assert_eq!(soon(transitions.recv()).await, None);
    assert_eq!(fake.running.load(Ordering::SeqCst), 0);
    assert_eq!(fake.begun.lock().unwrap().len(), 1);
}
