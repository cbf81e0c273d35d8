//! A host that does what Docker, Compose and the router do with an app, as far as a deploy can tell, and a runner that
//! crashes where it is told to. What must hold at every moment is checked after every write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::app::{Domain, PreDeploy, Wanted};
use super::conclude::{Outcome, conclude};
use super::failure::Fault;
use super::journal::{Journal, after};
use super::plan::{Action, Await, Step, plan};
use super::seen::{Answer, Container, Health, Host, Network, Observed, State};
use crate::host::compose::Project;
use crate::host::compose::changes::Update;
use crate::host::compose::overlay::{Ingress, alias};
use crate::host::compose::strategy::Kind;
use crate::host::table::Route;

pub const APP: &str = "c1-shop";
pub const NAME: &str = "shop.example.com";
const NETWORK: &str = "rs-shop";

/// What a revision does when it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Well,
    ImageMissing,
    /// The registry is busy this many times.
    RegistryBusy(u32),
    CreateFails,
    StartFails,
    Exits,
    CrashLoops,
    NeverHealthy,
    SlowStart,
    ExternalFails,
    PreDeployFails,
    PreDeployHangs,
    BeforeFails,
    AfterFails,
    SwapRefused,
    /// It ends once the names lead to it.
    DiesOnceRouted,
}

pub const BEHAVIOURS: [Behaviour; 16] = [
    Behaviour::Well,
    Behaviour::ImageMissing,
    Behaviour::RegistryBusy(2),
    Behaviour::CreateFails,
    Behaviour::StartFails,
    Behaviour::Exits,
    Behaviour::CrashLoops,
    Behaviour::NeverHealthy,
    Behaviour::SlowStart,
    Behaviour::ExternalFails,
    Behaviour::PreDeployFails,
    Behaviour::PreDeployHangs,
    Behaviour::BeforeFails,
    Behaviour::AfterFails,
    Behaviour::SwapRefused,
    Behaviour::DiesOnceRouted,
];

impl Behaviour {
    /// Whether it goes live in the end.
    pub fn arrives(self) -> bool {
        matches!(self, Self::Well | Self::RegistryBusy(_) | Self::SlowStart | Self::AfterFails)
    }
}

/// Where a run ends before its time, or does not learn what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Killed before the write.
    Lost,
    /// Killed after it.
    Committed,
    /// The connection is lost before the write arrives.
    Dropped,
    /// The connection is lost after it arrived.
    ReplyLost,
}

pub const CRASHES: [Crash; 4] = [Crash::Lost, Crash::Committed, Crash::Dropped, Crash::ReplyLost];

/// A wanted revision of an app with an entry, a database it needs, and a worker that comes after the swap.
pub fn wanted(revision: &str) -> Wanted {
    let text = r#"{"name":"shop","services":{
        "web":{"image":"shop","depends_on":{"db":{"condition":"service_healthy"}}},
        "db":{"image":"db"},"worker":{"image":"shop"}}}"#;
    let hashes = [("web", revision), ("db", revision), ("worker", revision)];
    Wanted {
        revision: revision.into(),
        cause: "1".into(),
        project: Project::read(text).unwrap(),
        service: "web".into(),
        port: 8080,
        kind: Kind::BlueGreen,
        hashes: hashes.map(|(service, hash)| (service.to_owned(), hash.to_owned())).into(),
        updates: [("worker".to_owned(), Update::AfterSwap)].into(),
        ingress: Ingress::App(NETWORK.into()),
        subnet: "10.89.0.0/29".parse().unwrap(),
        domains: [
            (NAME.to_owned(), Domain::Serve { verify: true }),
            ("www.example.com".to_owned(), Domain::Redirect { to: NAME.into(), code: 308 }),
        ]
        .into(),
        health_path: "/healthz".into(),
        start_period: 10,
        health_timeout: 20,
        external_timeout: 15,
        drain: 30,
        pre_deploy: Some(PreDeploy {
            service: "web".into(),
            command: vec!["./migrate".into(), "--all".into()],
            timeout: 60,
        }),
        history: 1,
        suspend: false,
        maintenance: false,
    }
}

/// The host, what is stored, and what the runner remembers.
#[expect(clippy::struct_excessive_bools, reason = "each switches one thing")]
#[derive(Debug, Clone)]
pub struct World {
    pub now: Timestamp,
    pub wanted: Option<Wanted>,
    pub journal: Journal,
    pub behaviours: BTreeMap<String, Behaviour>,
    /// Two containers of the entry cannot run at a time.
    pub exclusive: bool,
    /// Two containers of the entry cannot be there at a time.
    pub named: bool,
    pub containers: Vec<Container>,
    pub networks: BTreeMap<String, Network>,
    pub routes: BTreeMap<String, Route>,
    pub images: BTreeSet<String>,
    pub directory: bool,
    /// Which write fails how.
    pub crashes: BTreeMap<usize, Crash>,
    /// How many writes there were, to the host and to the journal.
    pub writes: usize,
    /// What is not as it must be.
    pub broken: Vec<String>,
    /// What happened, if it is `loud`.
    pub trace: Vec<String>,
    pub loud: bool,
    started: BTreeMap<String, Timestamp>,
    was_healthy: BTreeSet<String>,
    ran: BTreeMap<String, usize>,
    internal: BTreeMap<String, Answer>,
    external: BTreeMap<String, Answer>,
    busy: u32,
    made: usize,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            wanted: None,
            journal: Journal::default(),
            behaviours: BTreeMap::new(),
            exclusive: false,
            named: false,
            containers: Vec::new(),
            networks: BTreeMap::new(),
            routes: BTreeMap::new(),
            images: BTreeSet::new(),
            directory: true,
            crashes: BTreeMap::new(),
            writes: 0,
            broken: Vec::new(),
            trace: Vec::new(),
            loud: false,
            started: BTreeMap::new(),
            was_healthy: BTreeSet::new(),
            ran: BTreeMap::new(),
            internal: BTreeMap::new(),
            external: BTreeMap::new(),
            busy: 0,
            made: 0,
        }
    }

    /// Wants a revision that does this.
    pub fn want(&mut self, revision: &str, behaviour: Behaviour) {
        let mut wanted = wanted(revision);
        if self.exclusive {
            wanted.kind = Kind::Recreate;
        }
        if self.named {
            wanted.project.services.get_mut("web").unwrap().container_name = Some("shop".into());
        }
        self.behaviours.insert(revision.into(), behaviour);
        self.busy = 0;
        self.wanted = Some(wanted);
    }

    /// A world with `r1` live.
    pub fn with_live(exclusive: bool, named: bool) -> Self {
        let mut world = Self { exclusive, named, ..Self::new() };
        world.want("r1", Behaviour::Well);
        assert_eq!(world.run(), Step::Done, "{:#?}", world.trace);
        world.writes = 0;
        world.trace.clear();
        world
    }

    pub fn look(&self) -> Observed {
        let mut containers = self.containers.clone();
        for container in containers.iter_mut().filter(|c| c.service == "db" && c.state == State::Running) {
            let well = self.now >= after(self.started[&container.id], Duration::from_secs(2));
            container.health = Some(if well { Health::Healthy } else { Health::Starting });
        }
        for container in containers.iter_mut().filter(|c| c.one_off && c.state == State::Running) {
            let behaviour = self.behaviour(container.revision.as_deref());
            let over = self.now >= after(self.started[&container.id], Duration::from_secs(5));
            if over && behaviour != Behaviour::PreDeployHangs {
                container.state = State::Exited;
                container.exit_code = i64::from(behaviour == Behaviour::PreDeployFails);
            }
        }
        let used = |image: &String| (image.clone(), self.containers.iter().any(|c| c.image == *image));
        let host = Host {
            containers,
            networks: self.networks.clone(),
            routes: self.routes.clone(),
            images: self.images.iter().map(used).collect(),
            directory: self.directory,
        };
        Observed {
            app: APP.into(),
            wanted: self.wanted.clone(),
            journal: self.journal.clone(),
            host,
            internal: self.internal.clone(),
            external: self.external.clone(),
        }
    }

    fn behaviour(&self, revision: Option<&str>) -> Behaviour {
        revision.and_then(|revision| self.behaviours.get(revision)).copied().unwrap_or(Behaviour::Well)
    }

    /// Takes steps until there is nothing more to do.
    pub fn run(&mut self) -> Step {
        self.steps(usize::MAX).unwrap_or_else(|| panic!("no end: {:#?}", self.journal))
    }

    /// Takes up to `most` steps; the last one if nothing is left to do.
    pub fn steps(&mut self, most: usize) -> Option<Step> {
        for _ in 0..most.min(600) {
            let seen = self.look();
            let step = plan(&seen, self.now);
            match &step {
                Step::Done | Step::Stop(_) | Step::Gone | Step::Foreign(_) | Step::Wait(Await::Resumed, _) => {
                    return Some(step);
                }
                Step::Record(journal) => {
                    self.note(|| format!("record {:?}", journal.coming.as_ref().map(|c| (c.stage, c.undo.is_some()))));
                    self.store(journal);
                }
                Step::Do(action) => {
                    self.note(|| format!("{action:?}"));
                    self.act(&seen, action);
                }
                Step::Wait(what, until) => {
                    self.now = self.now.max(*until);
                    self.probe(what);
                }
                Step::Hold(back_off) => self.now = self.now.max(back_off.not_before),
            }
            self.check();
        }
        None
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.loud {
            self.trace.push(format!("{} #{} {}", self.now, self.writes, text()));
        }
    }

    /// The fate of the next write.
    fn fate(&mut self) -> Option<Crash> {
        self.writes += 1;
        let fate = self.crashes.get(&(self.writes - 1)).copied();
        if let Some(crash) = fate {
            self.note(|| format!("{crash:?}"));
        }
        fate
    }

    fn crash(&mut self) {
        self.internal.clear();
        self.external.clear();
        self.now = after(self.now, Duration::from_secs(7));
    }

    fn store(&mut self, journal: &Journal) {
        // It survives as text.
        let journal = serde_json::from_str(&serde_json::to_string(journal).unwrap()).unwrap();
        let fate = self.fate();
        if matches!(fate, None | Some(Crash::Committed | Crash::ReplyLost)) {
            self.journal = journal;
        }
        if fate.is_some() {
            self.crash();
        }
    }

    fn act(&mut self, seen: &Observed, action: &Action) {
        let fate = self.fate();
        let done = if matches!(fate, Some(Crash::Lost | Crash::Dropped)) { None } else { Some(self.perform(action)) };
        self.check();
        self.now = after(self.now, Duration::from_secs(1));
        let outcome = match (fate, done) {
            (Some(Crash::Lost | Crash::Committed), _) => return self.crash(),
            (Some(_), _) => Outcome::Unknown("cut".into()),
            (None, done) => done.unwrap_or(Outcome::Done),
        };
        let journal = conclude(seen, action, &outcome, self.now);
        if journal != self.journal {
            self.note(|| format!("conclude {outcome:?}"));
            self.store(&journal);
        }
    }

    fn container(&mut self, service: &str, revision: Option<&str>, one_off: bool, hash: &str) -> String {
        self.made += 1;
        let id = format!("id-{}", self.made);
        let image = format!("sha256:{}", if service == "db" { "db" } else { hash });
        self.images.insert(image.clone());
        self.containers.push(Container {
            id: id.clone(),
            service: service.into(),
            app: Some(APP.into()),
            revision: revision.map(str::to_owned),
            one_off,
            hash: Some(hash.into()),
            image,
            state: State::Created,
            health: None,
            exit_code: 0,
            oom_killed: false,
            restarts: 0,
        });
        id
    }

    /// Starts a container; an error if it does not start.
    fn start(&mut self, id: &str) -> Result<(), Fault> {
        let (now, exclusive) = (self.now, self.exclusive);
        let busy = |c: &Container| c.id != id && c.service == "web" && !c.one_off && c.is_up();
        let taken = exclusive && self.containers.iter().any(busy);
        let behaviours = self.behaviours.clone();
        let Some(container) = self.containers.iter_mut().find(|c| c.id == id) else {
            return Err(Fault::terminal("StartFailed", "no such container"));
        };
        if container.is_up() {
            return Ok(());
        }
        let revision = container.revision.clone().unwrap_or_default();
        let behaviour = behaviours.get(&revision).copied().unwrap_or(Behaviour::Well);
        let entry = container.service == "web" && !container.one_off;
        if entry && (taken || behaviour == Behaviour::StartFails) {
            return Err(Fault::terminal("PortInUse", "port is already allocated"));
        }
        container.state = State::Running;
        match behaviour {
            Behaviour::Exits if entry => (container.state, container.exit_code) = (State::Exited, 3),
            Behaviour::CrashLoops if entry => {
                (container.state, container.exit_code, container.restarts) = (State::Restarting, 1, 9);
            }
            _ => {}
        }
        self.started.insert(id.to_owned(), now);
        Ok(())
    }

    fn perform(&mut self, action: &Action) -> Outcome {
        let result = match action {
            Action::Pull(revision) => self.pull(revision),
            Action::CreateNetwork(name) => {
                self.networks.insert(name.clone(), Network { ours: true, proxied: false });
                Ok(())
            }
            Action::ConnectProxy(name) | Action::DisconnectProxy(name) => {
                let network = self.networks.get_mut(name).unwrap();
                network.proxied = matches!(action, Action::ConnectProxy(_));
                Ok(())
            }
            Action::RemoveNetwork(name) => {
                let network = self.networks.remove(name);
                assert!(network.is_none_or(|network| network.ours && !network.proxied), "{name}");
                Ok(())
            }
            Action::Service { revision, service } => self.service(revision, service),
            Action::PreDeploy { revision, .. } => {
                let id = self.container("web", Some(revision), true, revision);
                *self.ran.entry(revision.clone()).or_default() += 1;
                self.start(&id)
            }
            Action::Up { revision, service, scale, start } => self.up(revision, service, *scale, *start),
            Action::Start(ids) => ids.iter().try_for_each(|id| self.start(id)),
            Action::Stop { ids, .. } => {
                for container in self.containers.iter_mut().filter(|c| ids.contains(&c.id) && c.is_up()) {
                    container.state = State::Exited;
                }
                Ok(())
            }
            Action::Remove(ids) => {
                self.containers.retain(|c| !ids.contains(&c.id));
                Ok(())
            }
            Action::Route(routes) => self.route(routes),
            Action::Logs(ids) => {
                assert!(ids.iter().all(|id| self.containers.iter().any(|c| c.id == *id)));
                return Outcome::Lines(vec!["it fell".into()]);
            }
            Action::Prune { images, .. } => {
                assert!(!self.containers.iter().any(|c| images.contains(&c.image)));
                self.images.retain(|image| !images.contains(image));
                Ok(())
            }
            Action::RemoveDirectory => {
                self.directory = false;
                Ok(())
            }
        };
        result.map_or_else(Outcome::Failed, |()| Outcome::Done)
    }

    fn pull(&mut self, revision: &str) -> Result<(), Fault> {
        match self.behaviour(Some(revision)) {
            Behaviour::ImageMissing => Err(Fault::terminal("ImageNotFound", "manifest unknown")),
            Behaviour::RegistryBusy(times) if self.busy < times => {
                self.busy += 1;
                Err(Fault::transient("RegistryBusy", "toomanyrequests"))
            }
            _ => Ok(()),
        }
    }

    fn service(&mut self, revision: &str, service: &str) -> Result<(), Fault> {
        let fails = match self.behaviour(Some(revision)) {
            Behaviour::BeforeFails => service == "db",
            Behaviour::AfterFails => service == "worker",
            _ => false,
        };
        if fails {
            return Err(Fault::terminal("ServiceFailed", "no"));
        }
        assert_ne!(service, "web", "the entry is no service beside itself");
        self.containers.retain(|c| c.service != service);
        let id = self.container(service, None, false, revision);
        self.start(&id)
    }

    /// As Compose does it: up to `scale` containers of the service, and those that are stopped are started too.
    fn up(&mut self, revision: &str, service: &str, scale: usize, start: bool) -> Result<(), Fault> {
        let of = |c: &&Container| c.service == service && !c.one_off;
        let there = self.containers.iter().filter(of).count();
        if self.named && (scale > 1 || (there > 0 && scale > there)) {
            return Err(Fault::terminal("StartFailed", "container_name cannot be scaled"));
        }
        if scale < there {
            self.broken.push(format!("{service} is scaled from {there} down to {scale}"));
        }
        if self.behaviour(Some(revision)) == Behaviour::CreateFails {
            return Err(Fault::terminal("StartFailed", "no such device"));
        }
        for _ in there..scale {
            self.container(service, Some(revision), false, revision);
        }
        let ids: Vec<String> = self.containers.iter().filter(of).filter(|c| !c.is_up()).map(|c| c.id.clone()).collect();
        if start { ids.iter().try_for_each(|id| self.start(id)) } else { Ok(()) }
    }

    fn route(&mut self, routes: &BTreeMap<String, Route>) -> Result<(), Fault> {
        let leads = |revision: &String| routes.values().any(|route| leads_to(route, revision));
        let of = |behaviour| self.behaviours.iter().find(|(r, b)| **b == behaviour && leads(r)).map(|(r, _)| r.clone());
        if of(Behaviour::SwapRefused).is_some() {
            return Err(Fault::terminal("SwapRefused", "the table was refused"));
        }
        if let Some(revision) = of(Behaviour::DiesOnceRouted) {
            let mine = |c: &&mut Container| c.revision.as_ref() == Some(&revision) && !c.one_off;
            self.containers.iter_mut().filter(mine).for_each(|c| (c.state, c.exit_code) = (State::Exited, 139));
        }
        self.routes.clone_from(routes);
        Ok(())
    }

    fn probe(&mut self, what: &Await) {
        match what {
            Await::Internal { ids, .. } => {
                for id in ids {
                    let Some(container) = self.containers.iter().find(|c| c.id == *id) else { continue };
                    let behaviour = self.behaviour(container.revision.as_deref());
                    let slow = if behaviour == Behaviour::SlowStart { 20 } else { 1 };
                    let warm = self.started.get(id).is_some_and(|at| self.now >= after(*at, Duration::from_secs(slow)));
                    let well = container.state == State::Running && warm && behaviour != Behaviour::NeverHealthy;
                    if well {
                        self.was_healthy.insert(id.clone());
                    }
                    let verdict = if well { Ok(()) } else { Err("it answered 500".to_owned()) };
                    self.internal.insert(id.clone(), Answer { at: self.now, verdict });
                }
            }
            Await::External(names) => {
                for name in names {
                    let well = self.behaviours.iter().any(|(revision, behaviour)| {
                        let there = self
                            .containers
                            .iter()
                            .any(|c| c.revision.as_ref() == Some(revision) && !c.one_off && c.state == State::Running);
                        let leads = self.routes.get(name).is_some_and(|route| leads_to(route, revision));
                        leads && there && *behaviour != Behaviour::ExternalFails
                    });
                    let verdict = if well { Ok(()) } else { Err("it answered 502".to_owned()) };
                    self.external.insert(name.clone(), Answer { at: self.now, verdict });
                }
            }
            _ => {}
        }
    }

    /// The containers of a revision of the entry.
    pub fn of(&self, revision: &str) -> Vec<&Container> {
        self.containers.iter().filter(|c| !c.one_off && c.revision.as_deref() == Some(revision)).collect()
    }

    /// The revision that the name leads to.
    pub fn routed(&self) -> Option<String> {
        let route = self.routes.get(NAME)?;
        self.behaviours.keys().find(|revision| leads_to(route, revision)).cloned()
    }

    /// What must hold at every moment.
    pub fn check(&mut self) {
        let mut broken = Vec::new();
        for (revision, times) in &self.ran {
            if *times > 1 {
                broken.push(format!("preDeploy of {revision} ran {times} times"));
            }
        }
        let routed = self.routed();
        if let Some(revision) = &routed
            && !self.exclusive
            && self.behaviour(Some(revision)) != Behaviour::DiesOnceRouted
        {
            let mine = self.of(revision);
            let serves = |c: &&&Container| c.state == State::Running && self.was_healthy.contains(&c.id);
            if !mine.iter().any(|c| serves(&c)) {
                broken.push(format!("the name leads to {revision}, which does not run or was never well: {mine:?}"));
            }
        }
        let page = self.wanted.as_ref().is_none_or(|wanted| wanted.maintenance);
        if self.journal.live.is_some()
            && routed.is_none()
            && !page
            && self.routes.get(NAME) != Some(&Route::Maintenance)
        {
            broken.push("a revision is live, and the name leads to none".into());
        }
        let stopped = !self.containers.is_empty() && !self.containers.iter().any(Container::is_up);
        if self.wanted.is_none() && !self.routes.is_empty() && stopped {
            broken.push("an app that goes was stopped before its names were withdrawn".into());
        }
        for text in broken {
            if !self.broken.contains(&text) {
                self.note(|| text.clone());
                self.broken.push(text);
            }
        }
    }
}

fn leads_to(route: &Route, revision: &str) -> bool {
    matches!(route, Route::Upstream { alias: at, port: 8080 } if **at == *alias(APP, revision))
}
