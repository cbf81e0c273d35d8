//! Fixtures, and a small world in which the plan is carried out as the driver would.

mod decisions;
mod kstatus;
mod lives;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};

use super::memory::Memory;
use super::observe::{Facts, Observed};
use super::plan::{self, Action, EnvironmentStep};
use super::report;
use crate::api::claim::Holder;
use crate::api::condition::{self, Desired};
use crate::api::environment::{Environment, EnvironmentNode, EnvironmentSpec, EnvironmentStatus};
use crate::api::names::Fqdn;
use crate::api::node::{Addresses, Node, NodeStatus, RecordStatus};
use crate::api::refs::ClusterRef;
use crate::runtime::claims::Standing;
use crate::runtime::driver::{Outcome, Step};
use crate::runtime::events::Note;
use crate::runtime::fake_api::merge;

const RESYNC: Duration = Duration::from_mins(5);
const SLUG: &str = "brave-tiger";

/// A moment `seconds` after the fixtures' Environment was created.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn time(seconds: i64) -> Time {
    Time(at(seconds))
}

/// The Environment `shop/review-42` with a given slug, as the API server shows a new one.
fn environment() -> Environment {
    let to = |name: &str| ClusterRef { name: name.to_owned() };
    let node = EnvironmentNode {
        provider_ref: to("do"),
        zone_ref: to("example-com"),
        health_path: "/".to_owned(),
        ..EnvironmentNode::default()
    };
    let spec = EnvironmentSpec { slug: Some(SLUG.to_owned()), node, ..EnvironmentSpec::default() };
    let mut environment = Environment::new("review-42", spec);
    environment.metadata.namespace = Some("shop".to_owned());
    environment.metadata.uid = Some("env-uid".to_owned());
    environment.metadata.generation = Some(1);
    environment.metadata.resource_version = Some("10".to_owned());
    environment.metadata.creation_timestamp = Some(time(0));
    environment.status = Some(EnvironmentStatus { observed_generation: Some(-1), ..EnvironmentStatus::default() });
    environment
}

fn annotate<K: Resource>(object: &mut K, name: &str, value: &str) {
    let annotations = object.meta_mut().annotations.get_or_insert_default();
    annotations.insert(format!("roadstead.dev/{name}"), value.to_owned());
}

/// Conditions of a child, as `(type, status, reason)`; the message is `<reason>!`.
fn say(node: &mut Node, conditions: &[(&'static str, bool, &'static str)]) {
    let generation = node.metadata.generation;
    let status = node.status.get_or_insert_with(NodeStatus::default);
    status.observed_generation = generation;
    status.conditions.clear();
    for (type_, holds, reason) in conditions {
        let desired = Desired { type_, status: Some(*holds), reason, message: format!("{reason}!") };
        condition::set(&mut status.conditions, desired, generation, at(5));
    }
}

/// Makes `node` one with a VM.
fn with_vm(node: &mut Node) {
    let status = node.status.get_or_insert_with(NodeStatus::default);
    status.vm_id = Some("4711".to_owned());
    status.addresses = Some(Addresses { public4: Some("203.0.113.7".to_owned()), ..Addresses::default() });
}

/// Makes `node` what a Node is in the end.
fn make_ready(node: &mut Node) {
    with_vm(node);
    say(
        node,
        &[
            ("Provisioned", true, "VMReady"),
            ("Published", true, "RecordPublished"),
            ("Resolvable", true, "Resolvable"),
            ("Ready", true, "Ready"),
        ],
    );
    let record = RecordStatus { id: "rec-1".to_owned(), content: "203.0.113.7".to_owned(), ttl: 300 };
    node.status.as_mut().unwrap().record = Some(record);
}

/// Makes `node` one that a person has to look after.
fn make_stalled(node: &mut Node, reason: &'static str) {
    let provisioned = node.status.as_ref().is_some_and(|s| s.vm_id.is_some());
    say(
        node,
        &[
            ("Provisioned", provisioned, reason),
            ("Published", false, reason),
            ("Ready", false, reason),
            ("Stalled", true, reason),
        ],
    );
}

fn holder() -> Standing {
    let holder = Holder { kind: "Node".to_owned(), name: "web-1".to_owned(), uid: "other".to_owned() };
    Standing::Taken { namespace: "blog".to_owned(), holder }
}

/// The API server, as far as one Environment sees it, and the driver.
struct World {
    environment: Option<Environment>,
    node: Option<Node>,
    domain: Option<Fqdn>,
    /// Slugs other objects hold.
    taken: Vec<String>,
    now: Timestamp,
    /// Every write in order: `status`, `create`, `patch`, `delete`, `delete-self`.
    writes: Vec<&'static str>,
    notes: Vec<Note>,
    nodes_made: usize,
    gone: bool,
}

impl World {
    fn new(environment: Environment) -> Self {
        Self {
            environment: Some(environment),
            node: None,
            domain: Some(Fqdn::parse("example.com").unwrap()),
            taken: Vec::new(),
            now: at(1),
            writes: Vec::new(),
            notes: Vec::new(),
            nodes_made: 0,
            gone: false,
        }
    }

    fn environment(&mut self) -> &mut Environment {
        self.environment.as_mut().unwrap()
    }

    fn status(&self) -> EnvironmentStatus {
        self.environment.as_ref().unwrap().status.clone().unwrap_or_default()
    }

    fn node(&mut self) -> &mut Node {
        self.node.as_mut().unwrap()
    }

    fn condition(&self, type_: &str) -> Option<Condition> {
        condition::get(&self.status().conditions, type_).cloned()
    }

    fn phase(&self) -> String {
        self.status().phase.unwrap_or_default()
    }

    fn memory(&self) -> Memory {
        Memory::of(&self.status())
    }

    fn reasons(&self) -> Vec<&str> {
        self.notes.iter().map(|n| n.reason.as_str()).collect()
    }

    fn observed(&self) -> Observed {
        let environment = Arc::new(self.environment.clone().unwrap());
        let mut observed = Observed {
            environment,
            node: self.node.clone().map(Arc::new),
            domain: self.domain.clone(),
            standing: Standing::Free,
            resync: RESYNC,
        };
        let slug = super::observe::View::new(&observed, &Facts::default(), self.now).slug();
        if self.taken.contains(&slug) {
            observed.standing = holder();
        }
        observed
    }

    fn plan(&self) -> EnvironmentStep {
        plan::plan(&self.observed(), &Facts::default(), self.now)
    }

    /// The child's controller has done its work: what was being deleted is gone.
    fn node_goes(&mut self) {
        assert!(self.node.as_ref().is_some_and(|n| n.metadata.deletion_timestamp.is_some()));
        self.node = None;
    }

    fn change_spec(&mut self, change: impl FnOnce(&mut EnvironmentSpec)) {
        let environment = self.environment();
        change(&mut environment.spec);
        *environment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn delete(&mut self) {
        let now = Time(self.now);
        let environment = self.environment();
        environment.metadata.deletion_timestamp = Some(now);
        *environment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn later(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    fn write_status(&mut self, new: &EnvironmentStatus) {
        let old = self.status();
        if old != *new {
            self.writes.push("status");
            self.notes.extend(report::notes(&old, new));
            // Through JSON, as the API server keeps it.
            let kept = serde_json::from_value(serde_json::to_value(new).unwrap()).unwrap();
            self.environment().status = Some(kept);
        }
    }

    /// One pass of the driver.
    fn pass(&mut self) -> &mut Self {
        for _ in 0..32 {
            let observed = self.observed();
            let outcome = match plan::plan(&observed, &Facts::default(), self.now) {
                Step::Do(action) => {
                    self.act(action);
                    if self.environment.is_none() {
                        return self;
                    }
                    continue;
                }
                Step::Record(status) => {
                    self.write_status(&status);
                    continue;
                }
                Step::Hold(_) => return self,
                Step::Gone => {
                    self.gone = true;
                    return self;
                }
                Step::Wait(wait) => Outcome::Waiting(wait),
                Step::Stop { reason, message } => Outcome::Stopped { reason, message },
                Step::Done => Outcome::Done,
            };
            let status = report::report(&observed, &Facts::default(), &outcome, self.now);
            self.write_status(&status);
            return self;
        }
        panic!("the plan did not come to an end: {:?}", self.writes);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::CreateNode(node) => {
                self.writes.push("create");
                self.nodes_made += 1;
                let mut node = *node;
                node.metadata.uid = Some(format!("node-{}", self.nodes_made));
                node.metadata.generation = Some(1);
                assert!(self.node.replace(node).is_none(), "created twice");
            }
            Action::PatchNode { uid, patch } => {
                self.writes.push("patch");
                let node = self.node.as_mut().unwrap();
                assert_eq!(node.uid(), Some(uid));
                let mut value = serde_json::to_value(&*node).unwrap();
                merge(&mut value, &patch);
                *node = serde_json::from_value(value).unwrap();
                if patch.get("spec").is_some() {
                    *node.metadata.generation.as_mut().unwrap() += 1;
                }
            }
            Action::DeleteNode { uid } => {
                self.writes.push("delete");
                let now = Time(self.now);
                let node = self.node.as_mut().unwrap();
                assert_eq!(node.uid(), Some(uid));
                node.metadata.deletion_timestamp = Some(now);
                *node.metadata.generation.as_mut().unwrap() += 1;
            }
            Action::DeleteSelf => {
                self.writes.push("delete-self");
                self.delete();
            }
        }
    }
}

/// A world whose Environment is up and running.
fn running(environment: Environment) -> World {
    let mut world = World::new(environment);
    world.pass();
    make_ready(world.node());
    world.later(10).pass();
    assert_eq!(world.phase(), "Active");
    world.writes.clear();
    world.notes.clear();
    world
}
