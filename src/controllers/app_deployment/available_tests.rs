//! The condition by table, and the way from a probe to the app that it concerns.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;
use crate::api::app_deployment::AppDeploymentSpec;
use crate::api::condition;
use crate::probe::{CONCURRENCY, Meter, Outcome, Probed, Prober, SelfCheck, Settings};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn site(domain: &str, node: &str, verdict: Option<Result<(), &'static str>>) -> Seen {
    let verdict = verdict.map(|verdict| match verdict {
        Ok(()) => {
            Verdict { health: Health::Healthy, reason: reason::SUCCEEDED, message: "it answers".into(), since: NOW }
        }
        Err(reason) => Verdict { health: Health::Unhealthy, reason, message: format!("it is {reason}"), since: NOW },
    });
    Seen { domain: domain.into(), node: node.into(), verdict }
}

fn said(status: &str, reason: &str) -> Condition {
    let mut conditions = Vec::new();
    condition::set(&mut conditions, Desired::yes(AVAILABLE, "X", "as before"), Some(1), NOW);
    Condition { status: status.into(), reason: reason.into(), ..conditions.remove(0) }
}

/// Status, reason and message; `None` where the condition stays as it is.
type Says = Option<(Option<bool>, &'static str, String)>;

#[derive(Default)]
struct World {
    sites: Option<Vec<Seen>>,
    isolated: bool,
    maintenance: bool,
    mismatches: Option<Vec<Failure>>,
    causes: BTreeMap<&'static str, Failure>,
    before: Option<Condition>,
}

impl World {
    fn of(sites: impl IntoIterator<Item = Seen>) -> Self {
        Self { sites: Some(sites.into_iter().collect()), ..Self::default() }
    }

    fn says(&self) -> Says {
        let reading = Reading { sites: self.sites.clone(), isolated: self.isolated };
        let view = View {
            reading: &reading,
            maintenance: self.maintenance,
            mismatches: self.mismatches.as_deref(),
            causes: &self.causes,
            before: self.before.as_ref(),
        };
        available(&view).map(|desired| {
            assert_eq!(desired.type_, AVAILABLE);
            (desired.status, desired.reason, desired.message)
        })
    }

    fn reason(&self) -> Option<(Option<bool>, &'static str)> {
        self.says().map(|(status, reason, _)| (status, reason))
    }
}

const GOOD: Option<Result<(), &'static str>> = Some(Ok(()));

#[test]
fn an_app_is_available_if_every_name_is_well_at_every_node() {
    let sites = [site("a.test", "n1", GOOD), site("a.test", "n2", GOOD), site("b.test", "n1", GOOD)];
    assert_eq!(World::of(sites.clone()).reason(), Some((Some(true), "Serving")));
    for broken in 0..3 {
        let mut sites = sites.clone();
        sites[broken] = site(&sites[broken].domain, &sites[broken].node, Some(Err(reason::UPSTREAM_502)));
        let at = format!("{} at Node {}: it is Upstream502", sites[broken].domain, sites[broken].node);
        assert_eq!(World::of(sites).says(), Some((Some(false), "Upstream502", at)));
    }
}

#[test]
fn the_worst_reason_is_the_one_farthest_from_the_app_and_the_others_are_named() {
    let world = World::of([
        site("a.test", "n1", Some(Err(reason::UNEXPECTED_STATUS))),
        site("b.test", "n1", Some(Err(reason::CERTIFICATE_EXPIRED))),
        site("c.test", "n1", GOOD),
        site("d.test", "n2", Some(Err(reason::CONNECTION_REFUSED))),
    ]);
    let message = "d.test at Node n2: it is ConnectionRefused; failing too: a.test at Node n1, b.test at Node n1";
    assert_eq!(world.says(), Some((Some(false), "ConnectionRefused", message.to_owned())));
    let many = ["a", "b", "c", "d", "e"].map(|name| site(name, "n1", Some(Err(reason::TIMEOUT))));
    let message = "a at Node n1: it is Timeout; failing too: b at Node n1, c at Node n1, d at Node n1 and more";
    assert_eq!(World::of(many).says(), Some((Some(false), "Timeout", message.to_owned())));
}

#[test]
fn nothing_is_known_before_the_first_verdict_and_a_missing_one_takes_back_nothing() {
    let sites = || [site("a.test", "n1", GOOD), site("a.test", "n2", None)];
    let unknown = Some((None, "NotProbedYet"));
    for (before, expected) in [
        (None, unknown),
        (Some(said("Unknown", "NotProbedYet")), unknown),
        (Some(said("False", "NothingServes")), unknown),
        (Some(said("False", "Maintenance")), unknown),
        (Some(said("True", "Serving")), None),
        (Some(said("False", "Timeout")), None),
    ] {
        for sites in [Some(sites().to_vec()), None] {
            let world = World { sites, before: before.clone(), ..World::default() };
            assert_eq!(world.reason(), expected, "{before:?}");
        }
    }
    let mut failing = sites().to_vec();
    failing.push(site("b.test", "n1", Some(Err(reason::TIMEOUT))));
    let world = World { before: Some(said("True", "Serving")), ..World::of(failing) };
    assert_eq!(world.reason(), Some((Some(false), "Timeout")), "a failure needs no other verdict");
}

#[test]
fn where_nothing_is_live_nothing_serves_and_maintenance_comes_before_everything() {
    for before in [None, Some(said("True", "Serving"))] {
        let mut world = World { before, ..World::of([]) };
        for isolated in [false, true] {
            world.isolated = isolated;
            assert_eq!(world.reason(), Some((Some(false), "NothingServes")));
        }
        world.maintenance = true;
        assert_eq!(world.reason(), Some((Some(false), "Maintenance")));
        world.sites = Some(vec![site("a.test", "n1", Some(Err(reason::MAINTENANCE_PAGE)))]);
        assert_eq!(world.reason(), Some((Some(false), "Maintenance")));
    }
}

#[test]
fn while_our_own_network_is_down_the_condition_stays_as_it_is() {
    for verdict in [None, GOOD, Some(Err(reason::TIMEOUT))] {
        let mut world = World { isolated: true, ..World::of([site("a.test", "n1", verdict)]) };
        world.mismatches = Some(vec![Failure { reason: DNS_MISMATCH, message: "elsewhere".into() }]);
        assert_eq!(world.reason(), Some((None, "NotProbedYet")));
        for before in [said("True", "Serving"), said("False", "Upstream502")] {
            world.before = Some(before);
            assert_eq!(world.reason(), None);
        }
    }
}

#[test]
fn what_ails_the_containers_explains_what_the_app_answers_but_not_a_dead_host() {
    let exited = Failure { reason: "ContainerExited", message: "web exited with status 1".into() };
    let causes = BTreeMap::from([("n1", exited)]);
    for (reason, node, expected) in [
        (reason::UPSTREAM_502, "n1", "ContainerExited"),
        (reason::UNEXPECTED_STATUS, "n1", "ContainerExited"),
        (reason::UPSTREAM_502, "n2", "Upstream502"),
        (reason::CONNECTION_REFUSED, "n1", "ConnectionRefused"),
        (reason::CERTIFICATE_EXPIRED, "n1", "CertificateExpired"),
    ] {
        let world = World { causes: causes.clone(), ..World::of([site("a.test", node, Some(Err(reason)))]) };
        assert_eq!(world.reason(), Some((Some(false), expected)), "{reason} at {node}");
    }
    let world = World { causes, ..World::of([site("a.test", "n1", GOOD)]) };
    assert_eq!(world.reason(), Some((Some(true), "Serving")), "a name that is served has nothing to explain");
}

#[test]
fn the_nearest_explanation_is_a_full_disk_then_the_entry_service_then_what_is_beside_it() {
    let container = |service: &str, revision: Option<&str>, state, exit_code, oom_killed| Container {
        id: "c".into(),
        service: service.into(),
        app: None,
        revision: revision.map(str::to_owned),
        one_off: false,
        hash: None,
        image: "i".into(),
        state,
        health: None,
        exit_code,
        oom_killed,
        restarts: 3,
    };
    let of = |containers: &[Container], full| {
        let host = seen::Host { containers: containers.to_vec(), full, ..seen::Host::default() };
        ill(&host, "r2", "n1").map(|failure| (failure.reason, failure.message))
    };
    let well = container("web", Some("r2"), State::Running, 0, false);
    let migrated = container("migrate", None, State::Exited, 0, false);
    let old = container("web", Some("r1"), State::Exited, 137, true);
    assert_eq!(of(&[well.clone(), migrated.clone(), old], false), None);
    let db = container("db", None, State::Exited, 1, false);
    assert!(of(&[well, db.clone()], false).unwrap().1.contains("`db` ended with code 1"));
    for (state, code, oom, reason) in [
        (State::Exited, 0, false, "ContainerExited"),
        (State::Restarting, 2, false, "ContainerRestarting"),
        (State::Running, 0, true, "OOMKilled"),
    ] {
        let web = container("web", Some("r2"), state, code, oom);
        let (said, message) = of(&[db.clone(), migrated.clone(), web.clone()], false).unwrap();
        assert!(said == reason && message.contains("`web`") && message.contains("Node n1"), "{said}: {message}");
        assert_eq!(of(&[web], true).unwrap().0, "DiskFull");
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_not_available_however_well_its_node_answers() {
    let differs = Confirmation::Differs("192.0.2.53:53 answers a.test A with 198.51.100.9".into());
    for (confirmation, expected) in [
        (differs, Some((Some(false), "DNSMismatch"))),
        (Confirmation::Confirmed, Some((Some(true), "Serving"))),
        (Confirmation::Unreachable("no answer".into()), Some((Some(true), "Serving"))),
    ] {
        let mut world = World::of([site("a.test", "n1", GOOD)]);
        world.mismatches = Some(dns_mismatch("a.test", &confirmation).into_iter().collect());
        let says = world.says().unwrap();
        assert_eq!(Some((says.0, says.1)), expected, "{confirmation:?}");
        assert_eq!(says.1 == DNS_MISMATCH, says.2.contains("198.51.100.9"), "{}", says.2);
        world.sites = Some(vec![site("a.test", "n1", Some(Err(reason::TIMEOUT)))]);
        assert_eq!(world.reason(), Some((Some(false), "Timeout")), "a dead host is worse");
    }
}

fn app(namespace: &str, name: &str) -> AppDeployment {
    let mut app = AppDeployment::new(name, AppDeploymentSpec::default());
    app.metadata.namespace = Some(namespace.into());
    app
}

fn live(domain: &str, node: &str, nonce: &str) -> Live {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let site = Site { name: domain.into(), address, port: 443, path: "/".into(), nonce: nonce.into() };
    Live { node: node.into(), site }
}

/// Answers well or not at all; our own network is up.
#[derive(Default)]
struct Switch(AtomicBool);

#[async_trait]
impl Prober for Switch {
    async fn probe(&self, _: &Target) -> Outcome {
        if self.0.load(Ordering::SeqCst) {
            return Outcome::Success;
        }
        Outcome::Failure(Failure { reason: reason::UPSTREAM_502, message: "nobody is there".into() })
    }
}

#[async_trait]
impl SelfCheck for Switch {
    async fn reachable(&self) -> bool {
        true
    }
}

impl Meter for Switch {
    fn probed(&self, _: &Probed) {}
    fn targets(&self, _: usize) {}
    fn isolated(&self, _: bool) {}
}

#[tokio::test(start_paused = true)]
async fn a_site_that_goes_down_wakes_its_app_and_what_is_not_an_app_s_goes_on_in_its_order() {
    let switch = Arc::new(Switch::default());
    switch.0.store(true, Ordering::SeqCst);
    let settings = Settings {
        allow_cidrs: Vec::new(),
        extra_ca: None,
        concurrency: CONCURRENCY,
        self_check: switch.clone(),
        meter: switch.clone(),
    };
    let (sender, all) = mpsc::channel(1);
    let engine = Engine::with_prober(settings, switch.clone(), fastrand::Rng::with_seed(1), sender);
    let (woken, mut wakes) = mpsc::unbounded_channel();
    let mut others = split(all, 1, move |key| woken.send(key.clone()).unwrap());
    let availability = Availability::new(engine.clone());
    let shop = app("shop", "web");
    assert_eq!(availability.reading(&shop).sites, None);

    availability.declare(&shop, vec![live("b.test", "n1", "1"), live("a.test", "n1", "1"), live("a.test", "n1", "1")]);
    let unknown = vec![site("a.test", "n1", None), site("b.test", "n1", None)];
    assert_eq!(availability.reading(&shop).sites, Some(unknown));
    let group = Target { key: "group/shop/g/a".into(), ..target("group/shop/g", &live("g.test", "n1", "1")) };
    engine.declare("group/shop/g", vec![group]);
    for _ in 0..2 {
        assert_eq!(wakes.recv().await, Some(Key::namespaced("shop", "web")));
    }
    assert_eq!(&*others.recv().await.unwrap().key, "group/shop/g/a");
    let well = |reading: Reading| reading.sites.unwrap().iter().all(|site| is(site, Health::Healthy));
    assert!(well(availability.reading(&shop)));

    // The same again takes nothing back; another nonce is another host, of which nothing is known.
    availability.declare(&shop, vec![live("a.test", "n1", "1"), live("b.test", "n1", "2")]);
    let sites = availability.reading(&shop).sites.unwrap();
    assert!(is(&sites[0], Health::Healthy) && sites[1].verdict.is_none(), "{sites:?}");
    assert_eq!(wakes.recv().await, Some(Key::namespaced("shop", "web")));

    let began = tokio::time::Instant::now();
    switch.0.store(false, Ordering::SeqCst);
    assert_eq!(wakes.recv().await, Some(Key::namespaced("shop", "web")));
    let took = began.elapsed();
    assert!((Duration::from_secs(15)..Duration::from_secs(45)).contains(&took), "after three probes: {took:?}");
    assert!(availability.reading(&shop).sites.unwrap().iter().any(|site| is(site, Health::Unhealthy)));

    availability.forget(&shop);
    assert_eq!(availability.reading(&shop), Reading::default());
    assert_eq!(engine.verdict("AppDeployment/shop/web/a.test/n1"), None);
}

fn is(site: &Seen, health: Health) -> bool {
    site.verdict.as_ref().is_some_and(|verdict| verdict.health == health)
}

#[test]
fn a_transition_names_its_app_and_nobody_else_s_does() {
    let of = |key: &str| {
        let verdict = site("a.test", "n1", GOOD).verdict.unwrap();
        app_of(&Transition { key: key.into(), verdict })
    };
    assert_eq!(of("AppDeployment/shop/web/a.test/n1"), Some(Key::namespaced("shop", "web")));
    for other in ["group/shop/web/a.test", "AppDeploymentX/shop/web/a", "AppDeployment/shop", ""] {
        assert_eq!(of(other), None, "{other}");
    }
}
