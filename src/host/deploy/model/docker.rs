//! What Docker, Compose and the router do when they are told to, and what a probe then finds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::conclude::Outcome;
use super::super::failure::Fault;
use super::super::journal::after;
use super::super::plan::{Action, Await};
use super::super::seen::{Answer, Container, Network, State};
use super::{APP, Behaviour, World, leads_to};
use crate::host::table::Route;

impl World {
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

    pub fn perform(&mut self, action: &Action) -> Outcome {
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
        self.withdrawn = self.wanted.is_none();
        self.routes.clone_from(routes);
        Ok(())
    }

    pub fn probe(&mut self, what: &Await) {
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
}
