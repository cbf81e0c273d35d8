//! The driver against an API server in memory: what becomes of the finalizer, of a back-off, and of an object's siblings,
//! however a pass ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::registry::Registry;
use serde_json::Value;

use super::super::fake_api::FakeApi;
use super::*;
use crate::api::condition::{Desired, READY, set};
use crate::api::node::{Node, NodeSpec, NodeStatus};
use crate::api::refs::ClusterRef;

const PATH: &str = "namespaces/shop/nodes/web-1";
const OURS: &str = "roadstead.dev/node";
const THEIRS: &str = "example.com/theirs";

type Planned = Step<&'static str, NodeStatus>;
type Look = Box<dyn Fn() -> Result<(), Fault> + Send + Sync>;
type Plan = Box<dyn Fn(usize) -> Planned + Send + Sync>;
type Act = Box<dyn Fn() -> Result<Option<NodeStatus>, Fault> + Send + Sync>;

/// A Reconciler that does what it is told.
struct Told {
    look: Look,
    /// By the number of the step.
    plan: Plan,
    act: Act,
    steps: AtomicUsize,
}

/// One that looks, plans and acts so.
fn told(plan: impl Fn(usize) -> Planned + Send + Sync + 'static) -> Told {
    Told { look: Box::new(|| Ok(())), plan: Box::new(plan), act: Box::new(|| Ok(None)), steps: AtomicUsize::default() }
}

/// One whose looks end in this fault.
fn blind(fault: Fault) -> Told {
    Told { look: Box::new(move || Err(fault.clone())), ..told(|_| Step::Gone) }
}

/// One whose every step ends so, and that is through after the first.
fn acting(act: impl Fn() -> Result<Option<NodeStatus>, Fault> + Send + Sync + 'static) -> Told {
    let plan = |step| if step == 0 { Step::Do("try") } else { Step::Done };
    Told { act: Box::new(act), ..told(plan) }
}

#[async_trait]
impl Reconciler for Told {
    type Object = Node;
    type Status = NodeStatus;
    type Observed = Arc<Node>;
    type Facts = ();
    type Action = &'static str;

    const NAME: &'static str = "told";
    const FINALIZER: &'static str = OURS;

    fn api(client: Client, namespace: &str) -> Api<Node> {
        Api::namespaced(client, namespace)
    }

    fn status(node: &Node) -> NodeStatus {
        node.status.clone().unwrap_or_default()
    }

    async fn observe(&self, node: &Arc<Node>) -> Result<Arc<Node>, Fault> {
        (self.look)().map(|()| node.clone())
    }

    fn plan(&self, _: &Arc<Node>, (): &(), _: Timestamp) -> Planned {
        (self.plan)(self.steps.fetch_add(1, Ordering::Relaxed))
    }

    async fn apply(&self, _: &Arc<Node>, (): &mut (), _: &'static str) -> Result<Option<NodeStatus>, Fault> {
        (self.act)()
    }

    fn report(&self, node: &Arc<Node>, (): &(), outcome: &Outcome, now: Timestamp) -> NodeStatus {
        let mut status = Self::status(node);
        status.observed_generation = node.metadata.generation;
        let ready =
            Desired { type_: READY, status: Some(*outcome == Outcome::Done), reason: "Told", message: "m".into() };
        set(&mut status.conditions, ready, node.metadata.generation, now);
        status
    }

    fn notes(&self, _: &NodeStatus, _: &NodeStatus) -> Vec<Note> {
        Vec::new()
    }
}

fn parts(api: &FakeApi) -> Parts {
    Parts {
        client: api.client(),
        events: Events::start(api.client(), "test".into()),
        metrics: Metrics::register(&mut Registry::default()),
        resync: Duration::from_secs(300),
        concurrency: 1,
    }
}

fn node(name: &str, finalizers: &[&str]) -> Node {
    let to = |name: &str| ClusterRef { name: name.into() };
    let mut node = Node::new(name, NodeSpec { provider_ref: to("do"), zone_ref: to("z"), ..NodeSpec::default() });
    node.metadata.namespace = Some("shop".into());
    node.metadata.uid = Some(format!("uid-{name}"));
    node.metadata.generation = Some(1);
    node.metadata.finalizers = Some(finalizers.iter().map(|&f| f.into()).collect());
    node
}

/// A Node that is being deleted, with these finalizers.
fn doomed(finalizers: &[&str]) -> Node {
    let mut node = node("web-1", finalizers);
    node.metadata.deletion_timestamp = Some(crate::api::condition::whole_seconds(Timestamp::now()));
    node
}

/// One pass over the Node as it is now.
async fn pass(api: &FakeApi, driver: &Driver<Told>) -> Action {
    let node: Node = serde_json::from_value(api.get(PATH).unwrap()).unwrap();
    driver.reconcile(Arc::new(DeserializeGuard(Ok(node)))).await
}

fn finalizers(api: &FakeApi) -> Option<Vec<Value>> {
    Some(api.get(PATH)?["metadata"]["finalizers"].as_array().cloned().unwrap_or_default())
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::transient("Unavailable", "no"),
        Fault::RateLimited(Duration::from_secs(7)),
        Fault::Waiting { reason: "ZoneNotReady", message: "no".into(), after: Duration::from_secs(7) },
        Fault::terminal("Refused", "no"),
        Fault::Gone,
        Fault::Conflict,
    ]
}

fn status(phase: &str) -> NodeStatus {
    NodeStatus { phase: Some(phase.into()), ..NodeStatus::default() }
}

/// Every way a pass can end but [`Step::Gone`].
fn ends() -> Vec<(String, Told)> {
    let wait = |keep_ready| Wait { reason: "Later", message: "no".into(), after: Duration::from_secs(7), keep_ready };
    let mut ends = vec![
        ("done".to_owned(), told(|_| Step::Done)),
        ("waits".to_owned(), told(move |_| Step::Wait(wait(false)))),
        ("waits, as a look failed".to_owned(), told(move |_| Step::Wait(wait(true)))),
        ("holds".to_owned(), told(|_| Step::Hold(Duration::from_secs(7)))),
        ("stops".to_owned(), told(|_| Step::Stop { reason: "No", message: "no".into() })),
        ("records for ever".to_owned(), told(|step| Step::Record(Box::new(status(&step.to_string()))))),
        ("does for ever".to_owned(), told(|_| Step::Do("again"))),
        ("does and is done".to_owned(), acting(|| Ok(None))),
        ("does, writes and is done".to_owned(), acting(|| Ok(Some(status("Deleting"))))),
    ];
    ends.extend(faults().into_iter().map(|fault| (format!("looking ends in {fault:?}"), blind(fault))));
    ends.extend(faults().into_iter().map(|fault| {
        let text = format!("doing ends in {fault:?}");
        (text, acting(move || Err(fault.clone())))
    }));
    ends
}

#[tokio::test]
async fn no_end_of_a_pass_but_gone_lets_the_finalizer_of_a_deleted_object_go() {
    // The API server lets every write through, or answers those to the status so.
    for answer in [None, Some(409), Some(429), Some(500)] {
        for (end, told) in ends() {
            let api = FakeApi::default();
            api.put(PATH, &doomed(&[THEIRS, OURS]));
            api.refuse(move |_, path| answer.filter(|_| path.ends_with("/status")));
            let driver = Driver::new(Arc::new(told), parts(&api));
            for _ in 0..2 {
                pass(&api, &driver).await;
                assert_eq!(finalizers(&api), Some(vec![THEIRS.into(), OURS.into()]), "{end}, {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn gone_takes_our_finalizer_and_no_other_and_only_from_the_object_that_was_seen() {
    let api = FakeApi::default();
    let gone = || Driver::new(Arc::new(told(|_| Step::Gone)), parts(&api));
    for answer in [409, 429, 500] {
        api.put(PATH, &doomed(&[THEIRS, OURS]));
        api.refuse(move |method, _| Some(answer).filter(|_| method == "PATCH"));
        pass(&api, &gone()).await;
        assert_eq!(finalizers(&api), Some(vec![THEIRS.into(), OURS.into()]), "{answer}");
    }
    api.refuse(|_, _| None);
    let stale: Node = serde_json::from_value(api.get(PATH).unwrap()).unwrap();
    api.change(PATH, &json!({"metadata": {"labels": {"a": "b"}}}));
    gone().reconcile(Arc::new(DeserializeGuard(Ok(stale)))).await;
    assert_eq!(finalizers(&api), Some(vec![THEIRS.into(), OURS.into()]), "somebody wrote it since");

    let driver = gone();
    pass(&api, &driver).await;
    assert_eq!(finalizers(&api), Some(vec![THEIRS.into()]));
    api.writes();
    pass(&api, &driver).await;
    assert_eq!(api.writes(), Vec::<String>::new(), "what was released is left alone");
    api.put(PATH, &doomed(&[OURS]));
    pass(&api, &gone()).await;
    assert_eq!(finalizers(&api), None);
}

fn journal(api: &FakeApi) -> (Option<i64>, Option<Timestamp>) {
    let journal = &api.get(PATH).unwrap()["status"]["journal"];
    (journal["attempts"].as_i64(), journal["notBefore"].as_str().map(|time| time.parse().unwrap()))
}

#[tokio::test]
async fn a_back_off_is_stored_though_somebody_writes_the_objects_metadata_with_every_try() {
    let api = FakeApi::default();
    api.put(PATH, &node("web-1", &[OURS]));
    for attempts in 1..=5 {
        let (busy, before) = (api.clone(), Timestamp::now());
        let act = move || {
            busy.change(PATH, &json!({"metadata": {"labels": {"look": attempts.to_string()}}}));
            Err(Fault::transient("OutcomeUnknown", "500"))
        };
        // A new process each time: nothing but the stored count is known.
        pass(&api, &Driver::new(Arc::new(acting(act)), parts(&api))).await;
        let (stored, not_before) = journal(&api);
        assert_eq!(stored, Some(attempts));
        let shortest = backoff::after(attempts, 0.0);
        assert!(not_before.unwrap() >= before + shortest, "attempt {attempts}: {not_before:?}");
        let (labels, status) = (&api.get(PATH).unwrap()["metadata"]["labels"], &api.get(PATH).unwrap()["status"]);
        assert_eq!((&labels["look"], &status["observedGeneration"]), (&json!(attempts.to_string()), &json!(1)));
    }
}

#[tokio::test]
async fn a_status_somebody_else_wrote_meanwhile_is_not_written_over() {
    let api = FakeApi::default();
    api.put(PATH, &node("web-1", &[OURS]));
    let other = api.clone();
    let act = move || {
        let mut node = other.get(PATH).unwrap();
        node["status"]["fqdn"] = json!("theirs.example.com");
        other.put(PATH, &node);
        Err(Fault::transient("OutcomeUnknown", "500"))
    };
    pass(&api, &Driver::new(Arc::new(acting(act)), parts(&api))).await;
    assert_eq!(api.get(PATH).unwrap()["status"], json!({"fqdn": "theirs.example.com"}));
}

#[tokio::test]
async fn an_object_that_cannot_be_read_does_not_stop_its_siblings() {
    let api = FakeApi::default();
    let mut broken = serde_json::to_value(node("broken", &[])).unwrap();
    broken["spec"]["ttl"] = json!("an hour");
    api.put("namespaces/shop/nodes/broken", &broken);
    for name in ["a", "z"] {
        api.put(&format!("namespaces/shop/nodes/{name}"), &node(name, &[]));
    }
    let driver = tokio::spawn(run(
        Arc::new(told(|_| Step::Done)),
        parts(&api),
        futures::stream::pending(),
        std::future::pending(),
    ));
    for name in ["a", "z"] {
        support::eventually(Duration::from_secs(30), name, async || {
            let node = api.get(&format!("namespaces/shop/nodes/{name}")).unwrap();
            node["status"]["conditions"][0]["status"] == "True"
        })
        .await;
    }
    let left = api.get("namespaces/shop/nodes/broken").unwrap();
    assert_eq!((&left["spec"], &left["metadata"]["finalizers"]), (&broken["spec"], &json!([])), "and is left alone");
    driver.abort();
}
