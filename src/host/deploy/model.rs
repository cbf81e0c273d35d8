//! A host that does what Docker, Compose and the router do with an app, as far as a deploy can tell ([`docker`]), and a
//! runner that crashes where it is told to. What must hold at every moment is checked after every write.

mod docker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::app::{Domain, PreDeploy, Wanted};
use super::conclude::{Outcome, conclude};
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
            (NAME.to_owned(), Domain::Serve { verify: true, peer: None }),
            ("www.example.com".to_owned(), Domain::Redirect { to: NAME.into(), code: 308, peer: None }),
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
    /// The names were withdrawn because the app was to go, and nobody has led them anywhere since.
    withdrawn: bool,
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
            withdrawn: false,
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
            full: false,
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
        let page = self.wanted.as_ref().is_none_or(|wanted| wanted.maintenance || !wanted.domains.contains_key(NAME));
        if self.journal.live.is_some()
            && routed.is_none()
            && !page
            && !self.withdrawn
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
    matches!(route, Route::Upstream { alias: at, port: 8080, .. } if **at == *alias(APP, revision))
}
