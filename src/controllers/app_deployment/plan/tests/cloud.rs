//! An app and model hosts: what the plan asks for is done there, pass by pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use serde_json::json;

use super::super::*;
use super::commons::Shared;
use crate::api::app_deployment::{AppDeployment, NodeState};
use crate::api::claim::Holder;
use crate::api::condition;
use crate::api::names::{ClusterId, Mark};
use crate::api::node::Node;
use crate::controllers::app_deployment::available;
use crate::controllers::app_deployment::memory::Settled;
use crate::controllers::app_deployment::observe::ZoneView;
use crate::controllers::app_deployment::{observe, plan, report};
use crate::host::compose::Entry;
use crate::host::compose::strategy::{Kind, Strategy};
use crate::host::deploy::conclude::conclude;
use crate::host::deploy::model::{APP, Behaviour, NAME, World, wanted};
use crate::host::deploy::seen::State;
use crate::host::table::Route;
use crate::runtime::claims::Claimant;

/// An app, and model hosts on which what it plans is done.
pub struct Cloud {
    pub seen: Observed,
    pub facts: Facts,
    pub worlds: BTreeMap<String, World>,
    pub now: Timestamp,
    /// The revision that the spec comes to.
    pub revision: String,
    /// What was done outside, in order.
    pub log: Vec<String>,
    /// Why no host takes the Compose file.
    pub refused: Option<(&'static str, String)>,
    /// The volumes of the app on every host.
    pub volumes: BTreeSet<String>,
    /// What the zone's writer answers.
    pub answer: Declared,
    /// What the zone's own servers answer.
    pub authority: Confirmation,
    /// Why no host answers.
    pub unreachable: Option<String>,
    /// What it shares with another app, if it does.
    pub commons: Option<Shared>,
    /// The statuses that were written on the way.
    pub told: Vec<AppDeploymentStatus>,
    /// Whether what must hold of a deploy at every moment is checked.
    pub strict: bool,
    /// How the last pass ended, if with a report.
    pub ended: Option<Outcome>,
    /// Why a look failed, which ends the pass.
    fault: Option<String>,
    /// Whether nothing is left to do for it, ever.
    pub gone: bool,
}

pub fn node(name: &str) -> Arc<Node> {
    let metadata = ObjectMeta { name: Some(name.into()), uid: Some(format!("uid-{name}")), ..ObjectMeta::default() };
    Arc::new(Node { metadata, ..Node::default() })
}

pub fn host(name: &str, last: u8) -> observe::HostView {
    observe::HostView {
        node: Some(node(name)),
        target: true,
        blocked: None,
        address: Some(IpAddr::from([203, 0, 113, last])),
        fqdn: Fqdn::parse(&format!("{name}.example.com")).ok(),
        restored: 0,
        journal: deploy::Journal::default(),
        busy: false,
        finished: false,
        settled: None,
        ill: None,
    }
}

pub fn zone() -> ZoneView {
    ZoneView {
        name: "example-com".into(),
        domain: Fqdn::parse("example.com").unwrap(),
        allowed: true,
        allow_apex: false,
        ttl: 300,
        running: true,
        unusable: None,
        authority: vec!["192.0.2.53:53".parse().unwrap()],
    }
}

pub fn reading(revision: &str) -> Reading {
    Reading { revision: revision.into(), cause: "1".into(), compose_hash: "sha256:1".into() }
}

impl Cloud {
    /// An app with one name, to be on these Nodes.
    pub fn of(nodes: &[&str]) -> Self {
        // With every default that the API server fills in.
        let spec = json!({"target": {"nodeRef": {"name": nodes[0]}}, "domains": [{"name": NAME}],
            "compose": {"inline": "services: {}"}});
        let mut app = AppDeployment::new("shop", serde_json::from_value(spec).unwrap());
        app.metadata.uid = Some("a".into());
        app.metadata.generation = Some(1);
        let mark = Mark { cluster: ClusterId::parse("c1").unwrap(), owner: "o".into(), key: APP.into() };
        let holder = Holder { kind: "AppDeployment".into(), name: "shop".into(), uid: "a".into() };
        let hosts = (1..).zip(nodes).map(|(last, name)| ((*name).to_owned(), host(name, last))).collect();
        let seen = Observed {
            app: Arc::new(app),
            status: AppDeploymentStatus::default(),
            mark,
            claimant: Claimant { namespace: "shop".into(), holder },
            no_target: None,
            hosts,
            zones: vec![zone()],
            followers: Vec::new(),
            standings: BTreeMap::new(),
            peers: BTreeMap::new(),
            available: available::Reading::default(),
            pool: "10.89.0.0/16".parse().unwrap(),
            resync: Duration::from_secs(300),
            ttl_cap: None,
            read_only: false,
        };
        let worlds: BTreeMap<_, _> = nodes.iter().map(|name| ((*name).to_owned(), World::new())).collect();
        let now = World::new().now;
        let mut cloud = Self {
            seen,
            facts: Facts::default(),
            worlds,
            now,
            revision: String::new(),
            log: Vec::new(),
            refused: None,
            volumes: BTreeSet::new(),
            answer: Declared::Applied(Vec::new()),
            authority: Confirmation::Confirmed,
            unreachable: None,
            commons: None,
            told: Vec::new(),
            strict: true,
            ended: None,
            fault: None,
            gone: false,
        };
        cloud.want("r1", Behaviour::Well);
        cloud
    }

    /// An app that is in place.
    pub fn live(nodes: &[&str]) -> Self {
        let mut cloud = Self::of(nodes);
        assert_eq!(cloud.run(), Step::Done);
        cloud.log.clear();
        cloud
    }

    /// The spec comes to this revision from now on, which does this on every host.
    pub fn want(&mut self, revision: &str, behaviour: Behaviour) {
        self.worlds.values_mut().for_each(|world| world.want(revision, behaviour));
        self.revision = revision.into();
        let app = Arc::make_mut(&mut self.seen.app);
        app.metadata.generation = app.metadata.generation.map(|generation| generation + 1);
    }

    pub fn app(&mut self) -> &mut AppDeployment {
        Arc::make_mut(&mut self.seen.app)
    }

    pub fn annotate(&mut self, name: &str, value: &str) {
        let annotations = self.app().metadata.annotations.get_or_insert_default();
        annotations.insert(format!("roadstead.dev/{name}"), value.into());
    }

    /// What the caches would say after a status was written.
    pub fn sync(&mut self) {
        let nodes = self.seen.status.nodes.clone();
        let journal = |state: &NodeState| {
            let recorded = state.journal.clone().unwrap_or_default();
            serde_json::from_value(recorded.0.into()).unwrap()
        };
        for (name, host) in &mut self.seen.hosts {
            host.journal = nodes.iter().find(|state| state.name == *name).map(journal).unwrap_or_default();
        }
        self.seen.hosts.retain(|name, host| host.target || nodes.iter().any(|state| state.name == *name));
    }

    pub fn set(&mut self, status: AppDeploymentStatus) {
        assert_ne!(status, self.seen.status, "a write that changes nothing would go on for ever: {:?}", self.log);
        self.told.push(status.clone());
        self.seen.status = status;
        self.sync();
    }

    /// One pass, and its end.
    pub fn pass(&mut self) -> AppStep {
        self.pass_of(300).unwrap_or_else(|| panic!("no end: {:#?}", self.log))
    }

    /// A pass of so many steps at most; `None` if it was cut off there, as by a crash.
    pub fn pass_of(&mut self, most: usize) -> Option<AppStep> {
        self.facts = Facts::default();
        for _ in 0..most {
            let step = plan(&self.seen, &self.facts, self.now);
            let outcome = match step.clone() {
                Step::Record(status) => {
                    self.set(*status);
                    continue;
                }
                Step::Do(action) => {
                    self.act(action);
                    if let Some(why) = self.fault.take() {
                        let failed = Outcome::Failed { reason: "HostUnreachable", message: why };
                        self.end(failed);
                        return Some(Step::Hold(Duration::ZERO));
                    }
                    continue;
                }
                end => end.outcome(),
            };
            self.gone |= step == Step::Gone;
            self.ended = None;
            if let Some(outcome) = outcome {
                self.end(outcome);
            }
            return Some(step);
        }
        None
    }

    /// The end of a pass that reports.
    pub fn end(&mut self, outcome: Outcome) {
        self.seen.status = report::status(&self.seen, &self.facts, &outcome, self.now);
        self.sync();
        self.ended = Some(outcome);
    }

    /// Passes until there is nothing more to wait for that ends by itself soon.
    pub fn run(&mut self) -> AppStep {
        for _ in 0..200 {
            match self.pass() {
                Step::Wait(wait) if !["Suspended", "Paused", "NodeNotReady", "NodeNotFound"].contains(&wait.reason) => {
                    self.later(wait.after);
                }
                Step::Hold(after) => self.later(after),
                step => return step,
            }
        }
        panic!("no end: {:#?}", self.log);
    }

    pub fn later(&mut self, after: Duration) {
        self.now = self.now.checked_add(after.max(Duration::from_millis(100))).unwrap();
    }

    pub fn standing(&mut self, key: (String, Role), standing: claims::Standing) {
        self.seen.standings.insert(key.clone(), standing.clone());
        self.facts.claimed.insert(key, standing);
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each action")]
    fn act(&mut self, action: Action) {
        let commons = self.commons.clone();
        match action {
            Action::Claim(reservation, role) if commons.is_some() => {
                let standing = commons.unwrap().borrow_mut().claim(&reservation.name, role, &self.seen.claimant.holder);
                self.standing((reservation.name, role), standing);
            }
            Action::TakeOver(reservation, roles, from) => {
                let commons = commons.expect("there is somebody to take it from");
                for role in roles {
                    let to = &self.seen.claimant.holder;
                    commons.borrow_mut().take_over(&reservation.name, role, &from, to);
                    self.standing((reservation.name.clone(), role), claims::Standing::Ours);
                }
                self.log.push(format!("take over {}", reservation.name));
            }
            Action::Release(reservation, role, _) if commons.is_some() => {
                self.log.push(format!("release {} {role:?}", reservation.name));
                commons.unwrap().borrow_mut().release(&reservation.name, role, &self.seen.claimant.holder);
                self.facts.released.insert((reservation.name.clone(), role));
                self.standing((reservation.name, role), claims::Standing::Free);
            }
            Action::Declare(zone, records) if commons.is_some() => {
                let taken = plan::handover::taken(&self.seen, &self.facts, &records);
                let answer = commons.unwrap().borrow_mut().declare(&self.seen.claimant.holder, &records, taken);
                self.facts.declared.insert(zone, (records, answer));
            }
            Action::AskForgotten(name, addresses) if commons.is_some() => {
                let answer = commons.unwrap().borrow().forgotten(name.as_str(), &addresses);
                self.facts.authority.insert(name, answer);
            }
            Action::Read => self.facts.reading = Some(reading(&self.revision)),
            Action::Store => self.facts.stored = Some(Stored::named(&self.revision)),
            Action::Claim(reservation, role) => {
                self.log.push(format!("claim {} {role:?}", reservation.name));
                self.standing((reservation.name, role), claims::Standing::Ours);
            }
            Action::Release(reservation, role, _) => {
                self.log.push(format!("release {} {role:?}", reservation.name));
                self.facts.released.insert((reservation.name.clone(), role));
                self.standing((reservation.name, role), claims::Standing::Free);
            }
            Action::Declare(zone, records) => {
                let said: Vec<_> = records.iter().map(|r| format!("{}={}", r.name, r.content)).collect();
                self.log.push(format!("declare {}", said.join(" ")));
                self.facts.declared.insert(zone, (records, self.answer.clone()));
            }
            Action::AskAuthority(name, _) | Action::AskForgotten(name, _) => {
                self.facts.authority.insert(name, self.authority.clone());
            }
            Action::AskProof(name) => drop(self.facts.proofs.insert(name, false)),
            Action::AdoptRecords(zone, _) => drop(self.facts.adopted.insert(zone)),
            Action::Prepare(name) if self.refused.is_some() => {
                self.facts.refused.extend(self.refused.clone().map(|refused| (name, refused)));
            }
            Action::Prepare(name) => {
                let spec = &self.seen.app.spec;
                let (suspend, maintenance) = (spec.suspend, spec.maintenance);
                let wanted =
                    deploy::Wanted { domains: BTreeMap::new(), suspend, maintenance, ..wanted(&self.revision) };
                let entry = Entry { service: "web".into(), port: 8080, domain: None, health_path: None };
                let strategy = Strategy { kind: Kind::BlueGreen, obstacles: Vec::new(), message: String::new() };
                let (empty_variables, images) = (BTreeSet::new(), BTreeMap::new());
                let prepared = Prepared { wanted, entry, strategy, empty_variables, images };
                self.facts.prepared.insert(name, Arc::new(prepared));
            }
            Action::Look(name) => {
                let wanted = plan::wanted(&self.seen, &self.facts, &name, self.now);
                if let Some(why) = self.unreachable.clone() {
                    match wanted {
                        None => drop(self.facts.unreached.insert(name, why)),
                        Some(_) => self.fault = Some(why),
                    }
                    return;
                }
                let world = self.worlds.get_mut(&name).unwrap();
                (world.now, world.wanted) = (self.now, wanted);
                world.journal = self.seen.hosts[&name].journal.clone();
                if let Some(commons) = commons {
                    let wanted = world.wanted.iter().flat_map(|wanted| wanted.domains.keys());
                    let names: BTreeSet<String> = wanted.chain(&world.journal.names).cloned().collect();
                    world.routes = commons.borrow().routes(&name, &names);
                }
                let mut seen = world.look();
                // The Node answers its own name where no app does.
                let own = self.seen.hosts[&name].fqdn.clone().map(|own| own.to_string());
                if let Some(own) = own.filter(|own| world.journal.names.contains(own)) {
                    seen.host.routes.entry(own).or_insert(Route::Placeholder);
                }
                let answers = Answers { internal: seen.internal, external: seen.external };
                self.facts.looked.insert(name.clone(), seen.host);
                self.facts.answers.insert(name.clone(), answers);
                self.facts.asked.remove(&name);
            }
            Action::Act(name, action) => {
                let view = view(&self.seen, &self.facts, &name, self.now).unwrap();
                let said = format!("{action:?}");
                self.log.push(format!("{name}: {}", said.split(['(', ' ']).next().unwrap()));
                let world = self.worlds.get_mut(&name).unwrap();
                let outcome = world.perform(&action);
                if let Some(commons) = commons {
                    if let deploy::Action::Route(routes) = &action {
                        commons.borrow_mut().route(&name, &view.journal.names, routes);
                    }
                    let up = world.containers.iter().filter(|c| c.state == State::Running && !c.one_off);
                    let up = up.filter_map(|c| c.revision.clone()).collect();
                    commons.borrow_mut().runs(&name, &self.seen.claimant.holder.name, up);
                }
                world.check();
                assert!(!self.strict || world.broken.is_empty(), "{:?} {:#?}", world.broken, self.log);
                self.facts.looked.remove(&name);
                let journal = conclude(&view, &action, &outcome, self.now);
                if journal != view.journal {
                    self.set(report::noted(&self.seen, &name, &journal));
                }
            }
            Action::Ask(name, what) => {
                let world = self.worlds.get_mut(&name).unwrap();
                world.now = self.now;
                world.probe(&what);
                let seen = world.look();
                let answers = Answers { internal: seen.internal, external: seen.external };
                self.facts.answers.insert(name.clone(), answers);
                self.facts.asked.insert(name);
            }
            Action::Volumes(name) => drop(self.facts.volumes.insert(name, self.volumes.clone())),
            Action::Settle(name, what) => {
                let host = self.seen.hosts.get_mut(&name).unwrap();
                host.settled = Some(Settled { at: self.now, what });
            }
            Action::Leave(name) => drop(self.facts.given_up.insert(name)),
            Action::Forget => self.facts.forgotten = true,
            Action::SayAbandoned(half) => drop(self.facts.said.insert(half)),
            Action::Collect(name) => panic!("nothing runs on {name}"),
        }
    }

    /// Where in the log something stands that begins so.
    pub fn at(&self, beginning: &str) -> usize {
        let at = self.log.iter().position(|said| said.starts_with(beginning));
        at.unwrap_or_else(|| panic!("no `{beginning}` in {:#?}", self.log))
    }

    /// Reason and message of a condition.
    pub fn condition(&self, type_: &str) -> (String, String) {
        let condition = condition::get(&self.seen.status.conditions, type_).unwrap();
        (condition.reason.clone(), condition.message.clone())
    }

    pub fn ready(&self) -> (String, String) {
        self.condition("Ready")
    }

    pub fn revision(&self, node: &str) -> Option<String> {
        self.seen.status.nodes.iter().find(|state| state.name == node)?.revision.clone()
    }
}
