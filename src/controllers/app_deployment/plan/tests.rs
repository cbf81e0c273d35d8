use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kube::core::ObjectMeta;

use super::*;
use crate::api::app_deployment::{AppDeployment, Domain, LocalRef, NodeState, Target};
use crate::api::claim::Holder;
use crate::api::condition;
use crate::api::names::{ClusterId, Mark};
use crate::api::node::Node;
use crate::controllers::app_deployment::available;
use crate::controllers::app_deployment::memory::Settled;
use crate::controllers::app_deployment::observe::ZoneView;
use crate::controllers::app_deployment::{observe, report};
use crate::host::compose::Entry;
use crate::host::compose::strategy::{Kind, Strategy};
use crate::host::deploy::conclude::conclude;
use crate::host::deploy::model::{APP, Behaviour, NAME, World, wanted};
use crate::runtime::claims::Claimant;

/// An app, and model hosts on which what it plans is done.
struct Cloud {
    seen: Observed,
    facts: Facts,
    worlds: BTreeMap<String, World>,
    now: Timestamp,
    /// The revision that the spec comes to.
    revision: String,
    /// What was done outside, in order.
    log: Vec<String>,
    /// Why no host takes the Compose file.
    refused: Option<(&'static str, String)>,
    /// The volumes of the app on every host.
    volumes: BTreeSet<String>,
}

fn node(name: &str) -> Arc<Node> {
    let metadata = ObjectMeta { name: Some(name.into()), uid: Some(format!("uid-{name}")), ..ObjectMeta::default() };
    Arc::new(Node { metadata, ..Node::default() })
}

fn host(name: &str, last: u8) -> observe::HostView {
    observe::HostView {
        node: Some(node(name)),
        target: true,
        blocked: None,
        address: Some(IpAddr::from([203, 0, 113, last])),
        fqdn: Fqdn::parse(&format!("{name}.example.com")).ok(),
        published: true,
        journal: deploy::Journal::default(),
        busy: false,
        finished: false,
        settled: None,
    }
}

fn zone() -> ZoneView {
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

fn reading(revision: &str) -> Reading {
    Reading { revision: revision.into(), cause: "1".into(), compose_hash: "sha256:1".into() }
}

impl Cloud {
    /// An app with one name, to be on these Nodes.
    fn of(nodes: &[&str]) -> Self {
        let domains = vec![Domain { name: NAME.into(), ..Domain::default() }];
        let target = Target { node_ref: Some(LocalRef { name: nodes[0].into() }), ..Target::default() };
        let spec = crate::api::app_deployment::AppDeploymentSpec { target, domains, ..Default::default() };
        let mut app = AppDeployment::new("shop", spec);
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
            standings: BTreeMap::new(),
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
        };
        cloud.want("r1", Behaviour::Well);
        cloud
    }

    /// An app that is in place.
    fn live(nodes: &[&str]) -> Self {
        let mut cloud = Self::of(nodes);
        assert_eq!(cloud.run(), Step::Done);
        cloud.log.clear();
        cloud
    }

    /// The spec comes to this revision from now on, which does this on every host.
    fn want(&mut self, revision: &str, behaviour: Behaviour) {
        self.worlds.values_mut().for_each(|world| world.want(revision, behaviour));
        self.revision = revision.into();
        let app = Arc::make_mut(&mut self.seen.app);
        app.metadata.generation = app.metadata.generation.map(|generation| generation + 1);
    }

    fn app(&mut self) -> &mut AppDeployment {
        Arc::make_mut(&mut self.seen.app)
    }

    fn annotate(&mut self, name: &str, value: &str) {
        let annotations = self.app().metadata.annotations.get_or_insert_default();
        annotations.insert(format!("roadstead.dev/{name}"), value.into());
    }

    /// What the caches would say after a status was written.
    fn sync(&mut self) {
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

    fn set(&mut self, status: AppDeploymentStatus) {
        assert_ne!(status, self.seen.status, "a write that changes nothing would go on for ever: {:?}", self.log);
        self.seen.status = status;
        self.sync();
    }

    /// One pass, and its end.
    fn pass(&mut self) -> AppStep {
        self.facts = Facts::default();
        for _ in 0..300 {
            let step = plan(&self.seen, &self.facts, self.now);
            let outcome = match step.clone() {
                Step::Record(status) => {
                    self.set(*status);
                    continue;
                }
                Step::Do(action) => {
                    self.act(action);
                    continue;
                }
                Step::Wait(wait) => Outcome::Waiting(wait),
                Step::Stop { reason, message } => Outcome::Stopped { reason, message },
                Step::Done => Outcome::Done,
                Step::Hold(_) | Step::Gone => return step,
            };
            self.seen.status = report::status(&self.seen, &self.facts, &outcome, self.now);
            self.sync();
            return step;
        }
        panic!("no end: {:#?}", self.log);
    }

    /// Passes until there is nothing more to wait for that ends by itself soon.
    fn run(&mut self) -> AppStep {
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

    fn later(&mut self, after: Duration) {
        self.now = self.now.checked_add(after.max(Duration::from_millis(100))).unwrap();
    }

    fn standing(&mut self, key: (String, Role), standing: claims::Standing) {
        self.seen.standings.insert(key.clone(), standing.clone());
        self.facts.claimed.insert(key, standing);
    }

    fn wanted(&self, name: &str) -> Option<deploy::Wanted> {
        let stays = self.seen.hosts[name].target && !self.seen.deleting() && !expired(&self.seen, self.now);
        super::wanted(&self.seen, &self.facts, name).filter(|_| stays)
    }

    fn act(&mut self, action: Action) {
        match action {
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
                self.facts.declared.insert(zone, (records, Declared::Applied(Vec::new())));
            }
            Action::AskAuthority(name, _) | Action::AskForgotten(name, _) => {
                self.facts.authority.insert(name, Confirmation::Confirmed);
            }
            Action::AskProof(name) => drop(self.facts.proofs.insert(name, false)),
            Action::AdoptRecords(zone, _) => drop(self.facts.adopted.insert(zone)),
            Action::Prepare(name) if self.refused.is_some() => {
                self.facts.refused.extend(self.refused.clone().map(|refused| (name, refused)));
            }
            Action::Prepare(name) => {
                let wanted = deploy::Wanted { domains: BTreeMap::new(), ..wanted(&self.revision) };
                let entry = Entry { service: "web".into(), port: 8080, domain: None, health_path: None };
                let strategy = Strategy { kind: Kind::BlueGreen, obstacles: Vec::new(), message: String::new() };
                let (empty_variables, images) = (BTreeSet::new(), BTreeMap::new());
                let prepared = Prepared { wanted, entry, strategy, empty_variables, images };
                self.facts.prepared.insert(name, Arc::new(prepared));
            }
            Action::Look(name) => {
                let wanted = self.wanted(&name);
                let world = self.worlds.get_mut(&name).unwrap();
                (world.now, world.wanted) = (self.now, wanted);
                world.journal = self.seen.hosts[&name].journal.clone();
                let seen = world.look();
                let answers = Answers { internal: seen.internal, external: seen.external };
                self.facts.looked.insert(name.clone(), seen.host);
                self.facts.answers.insert(name.clone(), answers);
                self.facts.asked.remove(&name);
            }
            Action::Act(name, action) => {
                let view = view(&self.seen, &self.facts, &name, self.wanted(&name)).unwrap();
                let said = format!("{action:?}");
                self.log.push(format!("{name}: {}", said.split(['(', ' ']).next().unwrap()));
                let world = self.worlds.get_mut(&name).unwrap();
                let outcome = world.perform(&action);
                world.check();
                assert_eq!(world.broken, Vec::<String>::new(), "{:#?}", self.log);
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
    fn at(&self, beginning: &str) -> usize {
        let at = self.log.iter().position(|said| said.starts_with(beginning));
        at.unwrap_or_else(|| panic!("no `{beginning}` in {:#?}", self.log))
    }

    fn ready(&self) -> (String, String) {
        let ready = condition::get(&self.seen.status.conditions, "Ready").unwrap();
        (ready.reason.clone(), ready.message.clone())
    }

    fn revision(&self, node: &str) -> Option<String> {
        self.seen.status.nodes.iter().find(|state| state.name == node)?.revision.clone()
    }
}

#[test]
fn a_first_deploy_claims_then_publishes_then_starts_and_swaps() {
    let mut cloud = Cloud::of(&["a"]);
    assert_eq!(cloud.run(), Step::Done);
    let order = [
        "claim shop.example.com Dns",
        "claim shop.example.com Http",
        "declare shop.example.com=203.0.113.1",
        "a: Pull",
        "a: Up",
        "a: Route",
    ];
    let places: Vec<_> = order.iter().map(|said| cloud.at(said)).collect();
    assert!(places[..4].is_sorted() && places[3] < places[4], "{:#?}", cloud.log);
    assert_eq!(cloud.revision("a").as_deref(), Some("r1"));
    let status = &cloud.seen.status;
    assert_eq!((status.phase.as_deref(), status.status.as_deref()), (Some("Active"), Some("active")));
    assert_eq!((status.entry_service.as_deref(), status.entry_port), (Some("web"), Some(8080)));
    assert_eq!(status.domain.as_deref(), Some(NAME));
    assert_eq!(status.domains[0].phase.as_deref(), Some("Serving"));
    assert!(status.updated_at.is_some());
    assert_eq!(cloud.ready().0, "Deployed");
}

#[test]
fn an_app_in_place_is_left_alone_until_the_next_resync() {
    let mut cloud = Cloud::live(&["a"]);
    let before = cloud.seen.status.clone();
    assert_eq!(cloud.pass(), Step::Done);
    assert_eq!((cloud.log.len(), cloud.facts.looked.len()), (0, 0), "nobody looks at the host");
    assert_eq!(cloud.seen.status, before);
    cloud.later(Duration::from_secs(300));
    assert_eq!(cloud.pass(), Step::Done);
    assert_eq!(cloud.seen.status, before);
    assert_eq!(cloud.seen.hosts["a"].settled.as_ref().unwrap().at, cloud.now, "the host was looked at");
}

#[test]
fn a_revision_that_fails_leaves_the_one_before_serving_and_says_which_step_failed() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.want("r2", Behaviour::NeverHealthy);
    let Step::Stop { reason, message } = cloud.run() else { panic!("{:?}", cloud.ready()) };
    assert_eq!(reason, "Unhealthy");
    assert!(message.contains("its health check inside") && message.contains("serves on"), "{message}");
    assert_eq!(cloud.revision("a").as_deref(), Some("r1"));
    assert_eq!(cloud.worlds["a"].routed().as_deref(), Some("r1"));
    assert_eq!(cloud.seen.status.phase.as_deref(), Some("Error"));
    // It is not tried again.
    cloud.log.clear();
    cloud.later(Duration::from_secs(600));
    assert!(matches!(cloud.pass(), Step::Stop { .. }));
    assert_eq!(cloud.log, ["declare shop.example.com=203.0.113.1"]);
    cloud.want("r3", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.revision("a").as_deref(), Some("r3"));
}

#[test]
fn nodes_are_deployed_to_one_after_the_other_and_the_first_failure_stops_the_rest() {
    let mut cloud = Cloud::live(&["a", "b", "c"]);
    cloud.want("r2", Behaviour::Well);
    cloud.worlds.get_mut("b").unwrap().want("r2", Behaviour::CrashLoops);
    assert!(matches!(cloud.run(), Step::Stop { reason: "CrashLooping", .. }), "{:?}", cloud.ready());
    let revisions = ["a", "b", "c"].map(|node| cloud.revision(node).unwrap());
    assert_eq!(revisions, ["r2", "r1", "r1"]);
    assert!(!cloud.log.iter().any(|said| said.starts_with("c: Pull")), "{:#?}", cloud.log);
    assert!(cloud.ready().1.starts_with("Node b: revision r2 failed at"), "{:?}", cloud.ready());
}

#[test]
fn every_name_leads_to_all_nodes_that_serve_and_the_first_deploy_to_one() {
    let mut cloud = Cloud::of(&["a", "b"]);
    assert_eq!(cloud.run(), Step::Done);
    let declared: Vec<_> = cloud.log.iter().filter(|said| said.starts_with("declare")).collect();
    assert_eq!(declared[0], "declare shop.example.com=203.0.113.1");
    assert_eq!(*declared.last().unwrap(), "declare shop.example.com=203.0.113.1 shop.example.com=203.0.113.2");
}

#[test]
fn a_name_that_somebody_else_holds_stops_the_deploy_before_anything_is_published() {
    let mut cloud = Cloud::of(&["a"]);
    let holder = Holder { kind: "Node".into(), name: "web".into(), uid: "n".into() };
    let taken = claims::Standing::Taken { namespace: "other".into(), holder };
    cloud.seen.standings.insert((NAME.into(), Role::Dns), taken);
    let Step::Stop { reason, message } = cloud.run() else { panic!() };
    assert_eq!(reason, "HostnameTaken");
    assert!(message.contains("spec.domains[0]") && message.contains("Node other/web"), "{message}");
    assert_eq!(cloud.log, Vec::<String>::new());
}

#[test]
fn a_node_that_is_not_managed_or_not_there_is_waited_for_by_name() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.seen.hosts.get_mut("a").unwrap().blocked = Some(("NodeNotReady", "Node a is not ready for apps".into()));
    let Step::Wait(wait) = cloud.run() else { panic!() };
    assert_eq!((wait.reason, wait.message.as_str()), ("NodeNotReady", "Node a is not ready for apps"));
    let mut cloud = Cloud::live(&["a"]);
    cloud.seen.no_target = Some(("NodeNotFound", "there is no Node a".into()));
    assert!(matches!(cloud.run(), Step::Wait(Wait { reason: "NodeNotFound", .. })));
    assert_eq!(cloud.log, Vec::<String>::new(), "nothing is taken away for that");
}

#[test]
fn an_app_that_moves_serves_on_its_old_node_until_no_cache_leads_there() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.seen.hosts.insert("b".into(), host("b", 2));
    cloud.worlds.insert("b".into(), World::new());
    cloud.worlds.get_mut("b").unwrap().want("r1", Behaviour::Well);
    cloud.seen.hosts.get_mut("a").unwrap().target = false;
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    let repointed = cloud.at("declare shop.example.com=203.0.113.2");
    assert!(cloud.at("b: Up") < repointed && repointed < cloud.at("a: Route"), "{:#?}", cloud.log);
    assert!(cloud.at("a: Route") < cloud.at("a: Stop"), "{:#?}", cloud.log);
    assert_eq!(cloud.seen.status.nodes.len(), 1);
    assert_eq!(cloud.worlds["a"].containers.len(), 0);
}

#[test]
fn a_deleted_app_withdraws_its_names_waits_out_the_ttl_and_leaves_nothing() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    cloud.app().metadata.deletion_timestamp = Some(whole_seconds(now));
    assert_eq!(cloud.run(), Step::Gone);
    assert_eq!(cloud.log[0], "declare ");
    assert!(cloud.now.duration_since(now).as_secs() >= 300, "a cache may hold the name for so long");
    assert!(cloud.at("a: Route") < cloud.at("a: Remove"));
    let released = [cloud.at("release shop.example.com Http"), cloud.at("release shop.example.com Dns")];
    assert!(released.iter().all(|at| *at > cloud.at("a: Remove")), "{:#?}", cloud.log);
    assert_eq!(cloud.worlds["a"].containers.len(), 0);
}

#[test]
fn a_deleted_app_does_not_wait_for_a_host_that_is_gone() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    cloud.app().metadata.deletion_timestamp = Some(whole_seconds(now));
    cloud.seen.hosts.get_mut("a").unwrap().node = None;
    assert_eq!(cloud.run(), Step::Gone);
    assert!(!cloud.log.iter().any(|said| said.starts_with("a: ")), "{:#?}", cloud.log);
}

#[test]
fn an_app_whose_lifetime_is_over_is_taken_away_and_its_object_stays() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    cloud.app().metadata.creation_timestamp = Some(whole_seconds(now));
    cloud.app().spec.lifetime = Some("1h".into());
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.seen.status.phase.as_deref(), Some("Active"));
    cloud.later(Duration::from_secs(3600));
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!((cloud.seen.status.phase.as_deref(), cloud.ready().0.as_str()), (Some("Expired"), "Expired"));
    assert_eq!((cloud.worlds["a"].containers.len(), cloud.seen.status.domains.len()), (0, 0));
}

#[test]
fn a_rollback_is_in_force_until_the_spec_changes() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.want("r2", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(Rollback::of(&cloud.seen), None);
    cloud.annotate("rollback", "r1");
    cloud.revision = "r1".into();
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(Rollback::of(&cloud.seen).unwrap().revision, "r1");
    assert_eq!((cloud.revision("a").unwrap(), cloud.ready().0), ("r1".into(), "RolledBack".into()));
    cloud.want("r3", Behaviour::Well);
    assert_eq!(Rollback::of(&cloud.seen), None);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.ready().0, "Deployed");
    cloud.app().metadata.annotations = None;
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.seen.status.journal.as_ref().is_none_or(|journal| !journal.other.contains_key("rollback")));
}

#[test]
fn a_name_in_no_zone_is_served_once_it_is_proven_and_holds_no_other_up() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.app().spec.domains.push(Domain { name: "shop.example.org".into(), ..Domain::default() });
    let end = (0..60).find_map(|_| match cloud.pass() {
        Step::Wait(wait) if wait.reason == "DomainNotVerified" => Some(wait.message),
        Step::Wait(wait) => {
            cloud.later(wait.after);
            None
        }
        step => panic!("{step:?}"),
    });
    let message = end.unwrap();
    assert!(message.contains("_roadstead.shop.example.org") && message.contains("`roadstead=c1-"), "{message}");
    assert_eq!(cloud.revision("a").as_deref(), Some("r1"), "the other name is served");
    assert!(!cloud.worlds["a"].routes.contains_key("shop.example.org"));
    let known = cloud.seen.status.domains.iter_mut().find(|domain| domain.name == "shop.example.org");
    known.unwrap().verification.as_mut().unwrap().seen = true;
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.worlds["a"].routes.contains_key("shop.example.org"));
    cloud.at("claim shop.example.org Http");
}

#[test]
fn a_name_that_is_asked_for_no_more_is_given_back_after_it_left_zone_and_table() {
    let mut cloud = Cloud::of(&["a"]);
    let other = Domain { name: "www.example.com".into(), ..Domain::default() };
    cloud.app().spec.domains.push(other);
    assert_eq!(cloud.run(), Step::Done);
    cloud.log.clear();
    cloud.app().spec.domains.pop();
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    let released = cloud.at("release www.example.com Dns");
    assert!(cloud.at("declare shop.example.com=203.0.113.1") < released && cloud.at("a: Route") < released);
    let names: Vec<_> = cloud.seen.status.domains.iter().map(|domain| domain.name.clone()).collect();
    assert_eq!(names, [NAME]);
    assert!(!cloud.worlds["a"].routes.contains_key("www.example.com"));
}

#[test]
fn without_names_of_its_own_an_app_is_reached_by_its_nodes_name_which_that_publishes() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.app().spec.domains.clear();
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.worlds["a"].routes.contains_key("a.example.com"));
    assert_eq!(
        cloud.log.iter().filter(|said| said.starts_with("claim")).collect::<Vec<_>>(),
        ["claim a.example.com Http"]
    );
    assert!(!cloud.log.iter().any(|said| said.starts_with("declare")), "{:#?}", cloud.log);
}

#[test]
fn a_paused_app_and_a_read_only_operator_do_nothing() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.seen.read_only = true;
    assert!(matches!(cloud.pass(), Step::Wait(Wait { reason: "ReadOnly", .. })));
    cloud.seen.read_only = false;
    cloud.annotate("paused", "true");
    assert!(matches!(cloud.run(), Step::Wait(Wait { reason: "Paused", .. })));
    assert_eq!(cloud.log, Vec::<String>::new());
    assert_eq!(condition::get(&cloud.seen.status.conditions, "Paused").unwrap().status, "True");
}

#[test]
fn every_way_to_fail_has_its_own_reason_and_leaves_the_revision_before_serving() {
    for (behaviour, reason) in [
        (Behaviour::ImageMissing, "ImageNotFound"),
        (Behaviour::CreateFails, "StartFailed"),
        (Behaviour::Exits, "ContainerExited"),
        (Behaviour::CrashLoops, "CrashLooping"),
        (Behaviour::NeverHealthy, "Unhealthy"),
        (Behaviour::ExternalFails, "ExternalHealthFailed"),
        (Behaviour::PreDeployFails, "PreDeployFailed"),
        (Behaviour::PreDeployHangs, "PreDeployTimedOut"),
        (Behaviour::BeforeFails, "ServiceFailed"),
        (Behaviour::SwapRefused, "SwapRefused"),
    ] {
        let mut cloud = Cloud::live(&["a"]);
        cloud.want("r2", behaviour);
        let Step::Stop { reason: said, message } = cloud.run() else { panic!("{behaviour:?}: {:?}", cloud.ready()) };
        assert_eq!(said, reason, "{behaviour:?}: {message}");
        assert_eq!(cloud.worlds["a"].routed().as_deref(), Some("r1"), "{behaviour:?}");
        assert!(message.contains("the revision before serves on"), "{message}");
    }
}

#[test]
fn a_reason_comes_back_from_the_journal_as_it_was_and_that_of_another_version_as_one_for_all() {
    for reason in ["ContainerMissing", "DependencyFailed", "DependencyNotReady", "NetworkFailed", "OOMKilled"] {
        assert_eq!(host::known(reason), reason);
    }
    assert_eq!(host::known("SomethingNew"), "DeployFailed");
}

#[test]
fn a_file_that_may_not_run_stops_the_deploy_before_anything_is_published_or_run() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.refused = Some(("ComposeRefused", "service `web`: no port".into()));
    cloud.want("r2", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Stop { reason: "ComposeRefused", message: "service `web`: no port".into() });
    assert_eq!(cloud.log, Vec::<String>::new());
    assert_eq!(cloud.worlds["a"].routed().as_deref(), Some("r1"));
}

#[test]
fn volumes_stay_behind_only_where_that_is_accepted() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.seen.hosts.insert("b".into(), host("b", 2));
    cloud.worlds.insert("b".into(), World::new());
    cloud.seen.hosts.get_mut("a").unwrap().target = false;
    cloud.volumes = ["data".to_owned()].into();
    cloud.want("r1", Behaviour::Well);
    let Step::Stop { reason: "VolumesStayBehind", message } = cloud.run() else { panic!("{:?}", cloud.ready()) };
    assert!(message.contains("Node a") && message.contains("data") && message.contains("acceptDataLoss"), "{message}");
    assert_eq!(cloud.log, Vec::<String>::new());
    cloud.app().spec.accept_data_loss = Some("a".into());
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.seen.status.nodes.len(), 1);
}

#[test]
fn containers_that_are_not_the_apps_are_named_and_not_touched() {
    let mut cloud = Cloud::live(&["a"]);
    let world = cloud.worlds.get_mut("a").unwrap();
    world.containers[0].app = None;
    cloud.later(Duration::from_secs(300));
    let Step::Stop { reason: "ForeignContainers", message } = cloud.run() else { panic!("{:?}", cloud.ready()) };
    assert!(message.contains("the Compose project shop-c1-shop"), "{message}");
}
