use std::sync::Arc;

use async_trait::async_trait;
use kube::Config;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;
use crate::api::server_group::{MemberHealth, ServerGroupSpec};
use crate::probe::{SelfCheck, Settings};

/// An API server that holds one group.
#[derive(Clone)]
struct Stored(Arc<Mutex<State>>);

struct State {
    object: Value,
    version: u64,
    writes: usize,
    /// How many writes are still refused because somebody else was quicker.
    conflicts: usize,
}

impl Stored {
    fn new(group: &ServerGroup) -> Self {
        let object = serde_json::to_value(group).unwrap();
        Self(Arc::new(Mutex::new(State { object, version: 1, writes: 0, conflicts: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn group(&self) -> Arc<ServerGroup> {
        Arc::new(serde_json::from_value(self.state().object.clone()).unwrap())
    }

    fn health(&self, id: &str) -> Option<MemberHealth> {
        let group = self.group();
        group.status.as_ref()?.members.iter().find(|member| member.id == id).map(|member| member.health)
    }
}

/// As the API server does it (RFC 7386).
fn merge_patch(target: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge_patch(&mut target[key], change);
        }
    }
}

impl State {
    fn changed(&mut self) {
        self.version += 1;
        self.object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }
}

impl Respond for Stored {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.state();
        if request.method.as_str() == "GET" {
            return ResponseTemplate::new(200).set_body_json(&state.object);
        }
        let patch: Value = request.body_json().unwrap();
        if state.conflicts > 0 {
            state.conflicts -= 1;
            state.changed();
        }
        if patch["metadata"]["resourceVersion"] != state.object["metadata"]["resourceVersion"] {
            let refusal = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                "reason": "Conflict", "message": "changed"});
            return ResponseTemplate::new(409).set_body_json(refusal);
        }
        merge_patch(&mut state.object["status"], &patch["status"]);
        state.writes += 1;
        state.changed();
        ResponseTemplate::new(200).set_body_json(&state.object)
    }
}

struct Online;

#[async_trait]
impl SelfCheck for Online {
    async fn reachable(&self) -> bool {
        true
    }
}

/// A group that takes reports and probes nobody.
pub(super) fn group(name: &str, change: impl FnOnce(&mut ServerGroupSpec)) -> ServerGroup {
    let mut spec = ServerGroupSpec::default();
    spec.reporting.enabled = true;
    change(&mut spec);
    let mut group = ServerGroup::new(name, spec);
    (group.metadata.namespace, group.metadata.uid) = (Some("shop".into()), Some("u".into()));
    group.metadata.resource_version = Some("1".into());
    group.status = Some(crate::api::server_group::ServerGroupStatus::default());
    group
}

/// A writer that does not run yet.
pub(super) fn writer(api_server: &str) -> (Members, mpsc::Receiver<crate::probe::Transition>) {
    let mut config = Config::new(api_server.parse().unwrap());
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let (sender, transitions) = mpsc::channel(16);
    let settings = Settings {
        allow_cidrs: Vec::new(),
        extra_ca: None,
        concurrency: 1,
        self_check: Arc::new(Online),
        meter: Arc::new(metrics.clone()),
    };
    let engine = Engine::start(settings, sender).unwrap();
    (Members::new(client, engine, Cache::of([]), metrics, None), transitions)
}

/// The writer at work for the group `shop/web`.
struct Rig {
    stored: Stored,
    members: Members,
    key: Key,
    _server: MockServer,
}

impl Rig {
    async fn start(change: impl FnOnce(&mut ServerGroupSpec)) -> Self {
        let group = group("web", change);
        let stored = Stored::new(&group);
        let server = MockServer::start().await;
        for verb in ["GET", "PATCH"] {
            Mock::given(method(verb)).respond_with(stored.clone()).mount(&server).await;
        }
        let (members, transitions) = writer(&server.uri());
        let roster = Roster::of(&group, [], None);
        members.enroll(&stored.group(), roster);
        let writer = members.clone();
        tokio::spawn(async move { writer.run(transitions, std::future::pending::<()>()).await });
        Self { stored, members, key: Key::namespaced("shop", "web"), _server: server }
    }

    async fn report(&self, address: &str, healthy: bool) -> Result<(), Refused> {
        self.members.report(&self.key, &ServerAddress::parse(address).unwrap(), healthy).await
    }
}

#[tokio::test]
async fn a_report_that_changes_a_state_is_written_before_it_is_answered_and_one_that_does_not_costs_nothing() {
    let rig = Rig::start(|_| {}).await;
    rig.report("10.0.0.1", true).await.unwrap();
    assert_eq!(rig.stored.health("10.0.0.1"), Some(MemberHealth::Healthy));
    let writes = rig.stored.state().writes;
    for _ in 0..100 {
        rig.report("10.0.0.1", true).await.unwrap();
    }
    assert_eq!(rig.stored.state().writes, writes);
    rig.report("10.0.0.1", false).await.unwrap();
    assert_eq!(rig.stored.health("10.0.0.1"), Some(MemberHealth::Unhealthy));
    assert_eq!(rig.stored.state().object["status"]["healthy"], "0/1");
}

#[tokio::test]
async fn many_changes_of_one_group_share_a_write() {
    let rig = Rig::start(|_| {}).await;
    let addresses: Vec<_> = (0..100).map(|n| format!("10.0.1.{n}")).collect();
    let reports = addresses.iter().map(|address| rig.report(address, true));
    assert!(futures::future::join_all(reports).await.iter().all(Result::is_ok));
    assert!(addresses.iter().all(|address| rig.stored.health(address) == Some(MemberHealth::Healthy)));
    let writes = rig.stored.state().writes;
    assert!(writes <= 4, "{writes} writes");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_others_leave_no_write_for_is_refused_at_once() {
    let (members, _transitions) = writer("http://127.0.0.1:9");
    for name in ["a", "b", "c"] {
        members.enroll(&Arc::new(group(name, |_| {})), Roster::default());
    }
    // Two writes are left, and nobody has begun one.
    (0..998).for_each(|_| members.shared.desks().bucket.take());
    let report = async |name: &str, address: &str| {
        members.report(&Key::namespaced("shop", name), &ServerAddress::parse(address).unwrap(), true).await
    };
    let mut promised = [("a", "10.0.0.1"), ("b", "10.0.0.1"), ("a", "10.0.0.2")].map(|(n, a)| Box::pin(report(n, a)));
    for report in &mut promised {
        assert!(futures::poll!(report).is_pending(), "it waits for the one write of its group");
    }
    assert_eq!(report("c", "10.0.0.1").await, Err(Refused::Busy(Duration::from_millis(20))));
    assert!(members.heard(&Key::namespaced("shop", "c")).is_empty());
}

#[tokio::test]
async fn a_report_is_about_every_server_with_its_address() {
    let member = |port| serde_json::from_value(json!({"address": "10.0.0.1", "port": port})).unwrap();
    let rig = Rig::start(|spec| {
        spec.members = vec![member(80), member(81)];
        spec.probe.type_ = crate::api::probe::ProbeType::None;
    })
    .await;
    rig.report("10.0.0.1", false).await.unwrap();
    assert_eq!(rig.stored.health("10.0.0.1:80"), Some(MemberHealth::Unhealthy));
    assert_eq!(rig.stored.health("10.0.0.1:81"), Some(MemberHealth::Unhealthy));
    rig.report("10.0.0.1:81", true).await.unwrap();
    assert_eq!(rig.stored.health("10.0.0.1:80"), Some(MemberHealth::Unhealthy));
    assert_eq!(rig.stored.health("10.0.0.1:81"), Some(MemberHealth::Healthy));
    assert_eq!(rig.stored.health("10.0.0.1"), None);
}

#[tokio::test]
async fn when_somebody_else_wrote_the_object_the_change_is_computed_anew() {
    let rig = Rig::start(|_| {}).await;
    rig.report("10.0.0.1", true).await.unwrap();
    rig.stored.state().conflicts = 2;
    rig.stored.state().object["status"]["slug"] = json!("kept");
    rig.report("10.0.0.2", true).await.unwrap();
    assert_eq!(rig.stored.health("10.0.0.2"), Some(MemberHealth::Healthy));
    assert_eq!(rig.stored.state().object["status"]["slug"], "kept", "another writer's entries stay");
}

#[tokio::test]
async fn reports_that_cannot_be_taken_say_why() {
    let rig = Rig::start(|spec| spec.reporting.enabled = false).await;
    assert_eq!(rig.report("10.0.0.1", true).await, Err(Refused::Disabled));
    let elsewhere = Key::namespaced("shop", "other");
    let address = ServerAddress::parse("10.0.0.1").unwrap();
    assert_eq!(rig.members.report(&elsewhere, &address, true).await, Err(Refused::Unknown));

    let rig = Rig::start(|_| {}).await;
    let addresses: Vec<_> = (0..500).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
    let reports = addresses.iter().map(|address| rig.report(address, true));
    assert!(futures::future::join_all(reports).await.iter().all(Result::is_ok));
    assert_eq!(rig.report("10.9.9.9", true).await, Err(Refused::Full));
    assert_eq!(rig.report("10.0.0.0", false).await, Ok(()), "one that is known may still change");
}

#[tokio::test]
async fn a_server_that_is_forgotten_leaves_the_group_before_that_is_answered_and_a_declared_one_does_not() {
    let member = serde_json::from_value(json!({"address": "10.0.0.9", "port": 80})).unwrap();
    let rig = Rig::start(|spec| {
        spec.members = vec![member];
        spec.probe.type_ = crate::api::probe::ProbeType::None;
    })
    .await;
    let forget = async |address: &str| rig.members.forget(&rig.key, &ServerAddress::parse(address).unwrap()).await;
    rig.report("10.0.0.1", true).await.unwrap();
    rig.report("10.0.0.2", true).await.unwrap();
    forget("10.0.0.1").await.unwrap();
    assert_eq!(rig.stored.health("10.0.0.1"), None);
    assert_eq!(rig.stored.health("10.0.0.2"), Some(MemberHealth::Healthy));
    assert_eq!(forget("10.0.0.1").await, Err(Refused::NoServer));
    assert_eq!(forget("10.0.0.9").await, Err(Refused::Declared));
    rig.report("10.0.0.1", true).await.unwrap();
    assert_eq!(rig.stored.health("10.0.0.1"), Some(MemberHealth::Healthy), "one that reports again comes back");
}

#[tokio::test]
async fn a_report_that_takes_back_one_still_on_its_way_is_answered_when_the_status_says_so() {
    let rig = Rig::start(|_| {}).await;
    rig.report("10.0.0.1", true).await.unwrap();
    // The second of the two finds the status as it wants it, and the first one's write ahead of it.
    let (down, up) = tokio::join!(rig.report("10.0.0.1", false), rig.report("10.0.0.1", true));
    assert_eq!((down, up), (Ok(()), Ok(())));
    assert_eq!(rig.stored.health("10.0.0.1"), Some(MemberHealth::Healthy));
    assert!(rig.members.heard(&rig.key)["10.0.0.1"].healthy);
}
