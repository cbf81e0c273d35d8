//! What to do next on a host, and why: pure.
//!
//! What is refused is refused before anything is touched. After that the steps go from the ground up, each taken only if
//! what it is for is missing or not as wanted, so that it does not matter how far an earlier run came, or who undid what.

use std::fmt;

use super::facts::{Container, Directory, Facts};
use super::wanted::{EDGE, FINISHED, File, OWNER, PROJECT, Service, TABLE, Wanted};
use crate::api::names::{Kinship, Mark};
use crate::host::caddy;

/// The systems on which this is known to work.
const SYSTEMS: [(&str, &str); 4] = [("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")];
/// What holds published ports for containers: these listen in their name.
const DOCKER: [&str; 2] = ["docker-proxy", "dockerd"];

/// What was seen of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What the script printed.
    pub reading: Reading,
    /// The configuration that Caddy says it has; `None` if it does not answer at its socket.
    pub config: Option<Served>,
    /// The hash of the table that each router says it serves; none for one that does not answer or has no table.
    pub tables: [Option<String>; 2],
}

/// What became of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// What is there.
    Facts(Box<Facts>),
    /// The SSH user may not become root; what the host said to that.
    Unprivileged(String),
}

/// Caddy's answer to `GET /config/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The body.
    pub body: Vec<u8>,
    /// The `Etag`.
    pub etag: Option<String>,
}

impl Observed {
    /// Notes what a step that was taken has done, where that can only be one thing: looking takes longer than many steps.
    /// Whether it could be noted; if not, the host is to be looked at.
    pub(super) fn note(&mut self, step: &Step) -> bool {
        let Reading::Facts(facts) = &mut self.reading else { return false };
        match step {
            Step::Directories(file) => {
                for (path, mode, group) in Wanted::directories(&facts.group) {
                    facts.directories.insert(path.to_owned(), Directory { mode, owner: format!("root:{group}") });
                }
                facts.keep(file);
                true
            }
            // Routers that run are to read it.
            Step::Write(file) if file.path == TABLE && self.tables != [None, None] => false,
            Step::Write(file) => {
                facts.keep(file);
                true
            }
            Step::Pull(image) => {
                facts.images.insert(image.clone());
                true
            }
            _ => false,
        }
    }
}

/// What follows from what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This is to be done, and then to be looked again.
    Act(Act),
    /// The host is as wanted.
    Done,
    /// Nothing may be done.
    Refuse(Refusal),
}

/// A step, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// What is to be done.
    pub step: Step,
    /// On what occasion.
    pub cause: Cause,
    /// What was found instead of what is wanted.
    pub found: String,
}

/// On what occasion something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The host never had everything in place.
    Setup,
    /// It had, in another form than is wanted now.
    Change,
    /// It had, in the form that is wanted now, and somebody or something undid a part.
    Repair,
}

/// What can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write the owner file: a new one, or over that of a namesake.
    Claim {
        /// Over another.
        over: bool,
    },
    /// Install the Compose plugin, and with it Docker Engine if that is missing too.
    Install {
        /// The engine too.
        engine: bool,
    },
    /// Start the engine, now and at every boot.
    StartDocker,
    /// Write the file that has the directories made, and have them made.
    Directories(File),
    /// Write a file.
    Write(File),
    /// Pull an image.
    Pull(String),
    /// Make the network.
    Network,
    /// Start a container, and wait a little until it answers.
    Start {
        /// Whose.
        service: Service,
        /// A new one even if the old one could be started again.
        anew: bool,
    },
    /// Wait until a container that runs also answers as it should, and else restart it.
    Settle {
        /// Whose.
        service: Service,
    },
    /// Give Caddy its configuration.
    Configure(caddy::Step),
    /// Note on the host that everything is in place.
    Finish,
}

/// Why nothing may be done. Nothing was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The SSH user is no administrator.
    #[error(
        "the SSH user may not become root ({said}): log in as root, or allow the user sudo without a password \
         (`NOPASSWD: ALL`)"
    )]
    NoSudo {
        /// What the host said.
        said: String,
    },
    /// The system is none that this is known to work on.
    #[error("the host runs {found}, and Caddy is managed on Debian 12 and 13 and Ubuntu 22.04 and 24.04 with systemd")]
    UnsupportedSystem {
        /// What it runs.
        found: String,
    },
    /// The host belongs to another Node.
    #[error(
        "the host belongs to another Node ({OWNER} says `{found}`): remove that Node first, or that file if it is gone"
    )]
    OtherOwner {
        /// What the owner file says.
        found: String,
    },
    /// The host belongs to an earlier Node of this name.
    #[error(
        "the host belongs to an earlier Node of this name (cluster {cluster}): annotate this one with \
         `roadstead.dev/adopt: {owner}` to take it over"
    )]
    AdoptionRequired {
        /// The `o` to put into the annotation.
        owner: String,
        /// The cluster that wrote the mark.
        cluster: String,
    },
    /// Somebody else serves there.
    #[error("port {port} is in use by {by}: stop it, or see that it listens elsewhere")]
    PortInUse {
        /// The port.
        port: u16,
        /// The process, or the container.
        by: String,
    },
}

/// The next step for a host.
#[must_use]
pub fn plan(wanted: &Wanted, observed: &Observed) -> Next {
    let facts = match &observed.reading {
        Reading::Facts(facts) => facts,
        Reading::Unprivileged(said) => return Next::Refuse(Refusal::NoSudo { said: said.clone() }),
    };
    if let Some(refusal) = unsupported(facts).or_else(|| owned(wanted, facts)).or_else(|| taken(facts)) {
        return Next::Refuse(refusal);
    }
    let step = ground(wanted, facts)
        .or_else(|| docker(wanted, facts))
        .or_else(|| containers(wanted, facts, observed))
        .or_else(|| configuration(wanted, facts, observed));
    match step {
        Some((step, found)) => Next::Act(Act { step, cause: cause(wanted, facts), found }),
        None => Next::Done,
    }
}

fn cause(wanted: &Wanted, facts: &Facts) -> Cause {
    match &facts.finished {
        None => Cause::Setup,
        Some(digest) if *digest == wanted.digest() => Cause::Repair,
        Some(_) => Cause::Change,
    }
}

fn unsupported(facts: &Facts) -> Option<Refusal> {
    let (id, version) = &facts.system;
    let known = SYSTEMS.contains(&(id, version));
    let without = if facts.systemd { "" } else { " without systemd" };
    let name = if id.is_empty() { "an unknown system" } else { id };
    let found = format!("{name} {version}").trim().to_owned() + without;
    (!known || !facts.systemd).then_some(Refusal::UnsupportedSystem { found })
}

fn owned(wanted: &Wanted, facts: &Facts) -> Option<Refusal> {
    let found = facts.owner.as_ref()?;
    let Some(mark) = Mark::from_comment(found) else { return Some(Refusal::OtherOwner { found: found.clone() }) };
    match wanted.mark.kinship(&mark) {
        Kinship::Own => None,
        Kinship::Namesake if wanted.adopt.as_ref() == Some(&mark.owner) => None,
        Kinship::Namesake => {
            Some(Refusal::AdoptionRequired { owner: mark.owner, cluster: mark.cluster.as_str().to_owned() })
        }
        Kinship::Stranger => Some(Refusal::OtherOwner { found: found.clone() }),
    }
}

/// Who holds a port that Caddy needs, if it is not Caddy.
fn taken(facts: &Facts) -> Option<Refusal> {
    if let Some(other) = facts.published.iter().find(|published| published.project != PROJECT) {
        return Some(Refusal::PortInUse { port: other.port, by: format!("the container {}", other.name) });
    }
    let ours = |port| facts.published.iter().any(|published| published.port == port);
    let other = facts.listeners.iter().find(|listener| {
        // As long as the engine is silent nobody can say in whose name it listens.
        let docker = DOCKER.contains(&listener.process.as_str());
        !(docker && (ours(listener.port) || facts.answers.is_none()))
    })?;
    let by = match other.pid {
        Some(pid) => format!("the process {} ({pid})", other.process),
        None => "a process that cannot be seen".to_owned(),
    };
    Some(Refusal::PortInUse { port: other.port, by })
}

/// A step, and what was found.
type Found = Option<(Step, String)>;

/// Whose host it is, Docker, directories and files.
fn ground(wanted: &Wanted, facts: &Facts) -> Found {
    match &facts.owner {
        None => return Some((Step::Claim { over: false }, format!("{OWNER} is missing"))),
        // Refused unless it is to be taken over.
        Some(owner) if !Mark::from_comment(owner).is_some_and(|mark| wanted.mark.kinship(&mark) == Kinship::Own) => {
            return Some((Step::Claim { over: true }, format!("{OWNER} has the mark of an earlier Node of this name")));
        }
        Some(_) => {}
    }
    if !facts.engine {
        return Some((Step::Install { engine: true }, "Docker Engine is missing".to_owned()));
    }
    if facts.compose.is_none() {
        return Some((Step::Install { engine: false }, "the Compose plugin is missing".to_owned()));
    }
    if facts.answers.is_none() || !facts.enabled {
        let found = if facts.answers.is_none() { "Docker does not run" } else { "Docker is not started at boot" };
        return Some((Step::StartDocker, found.to_owned()));
    }
    let tmpfiles = Wanted::tmpfiles(&facts.group);
    let missing = differs(&tmpfiles, facts).or_else(|| {
        let mut directories = Wanted::directories(&facts.group).into_iter();
        directories.find_map(|(path, mode, group)| {
            let owner = format!("root:{group}");
            match facts.directories.get(path) {
                None => Some(format!("{path} is missing")),
                Some(is) if is.mode == mode && is.owner == owner => None,
                Some(is) => Some(format!("{path} is of {} with mode {:o}", is.owner, is.mode)),
            }
        })
    });
    if let Some(found) = missing {
        return Some((Step::Directories(tmpfiles), found));
    }
    let mut files = wanted.files().into_iter();
    files.find_map(|file| differs(&file, facts).map(|found| (Step::Write(file), found)))
}

/// How a file is not as wanted.
fn differs(file: &File, facts: &Facts) -> Option<String> {
    let path = &file.path;
    match facts.files.get(path) {
        None => Some(format!("{path} is missing")),
        Some(kept) if kept.sha256 != file.sha256() => Some(format!("{path} has another content")),
        Some(kept) if kept.mode != file.mode => Some(format!("{path} has mode {:o}", kept.mode)),
        Some(_) => None,
    }
}

/// Images and network.
fn docker(wanted: &Wanted, facts: &Facts) -> Found {
    let images = [&wanted.images.caddy, &wanted.images.router];
    if let Some(image) = images.into_iter().find(|image| !facts.images.contains(*image)) {
        return Some((Step::Pull(image.clone()), format!("the image {image} is missing")));
    }
    facts.edge.is_none().then(|| (Step::Network, format!("the network {EDGE} is missing")))
}

/// The containers, one after the other: the next is looked at only when this one answers. So of two routers that are
/// made anew one is always there.
fn containers(wanted: &Wanted, facts: &Facts, observed: &Observed) -> Found {
    let table = wanted.table.hash();
    Service::ALL.into_iter().find_map(|service| {
        let name = service.name();
        let (anew, found) = match facts.containers.get(&service) {
            None => (false, format!("{name} has no container")),
            Some(container) if container.definition != wanted.definition(service).1 => {
                (true, format!("the container of {name} was made of another definition"))
            }
            Some(container) if service == Service::Caddy && !attached(container, facts) => {
                (true, format!("the container of {name} is not in the network {EDGE}"))
            }
            Some(Container { state, said, .. }) if state != "running" => (
                !["exited", "created"].contains(&state.as_str()),
                format!("the container of {name} is {state}: {said}"),
            ),
            Some(_) => {
                let silent = match service {
                    Service::Caddy => observed.config.is_none().then(|| "does not answer".to_owned()),
                    Service::Router1 => stale(observed.tables[0].as_deref(), &table),
                    Service::Router2 => stale(observed.tables[1].as_deref(), &table),
                };
                return silent.map(|how| (Step::Settle { service }, format!("{name} {how}")));
            }
        };
        Some((Step::Start { service, anew }, found))
    })
}

fn attached(container: &Container, facts: &Facts) -> bool {
    facts.edge.as_ref().is_some_and(|edge| container.networks.contains(edge))
}

fn stale(serves: Option<&str>, table: &str) -> Option<String> {
    match serves {
        None => Some(format!("does not answer, or has not read {TABLE}")),
        Some(hash) if hash != table => Some(format!("serves another table than {TABLE}")),
        Some(_) => None,
    }
}

/// What Caddy has, and the note that everything is in place.
fn configuration(wanted: &Wanted, facts: &Facts, observed: &Observed) -> Found {
    let served = observed.config.as_ref()?;
    match wanted.config().next(&served.body, served.etag.as_deref()) {
        caddy::Step::Done => {}
        step => {
            let found = match step {
                caddy::Step::Replace { .. } => "Caddy has another configuration",
                _ => "Caddy has no configuration",
            };
            return Some((Step::Configure(step), found.to_owned()));
        }
    }
    let noted = facts.finished.as_ref() == Some(&wanted.digest());
    (!noted).then(|| (Step::Finish, format!("{FINISHED} does not say so yet")))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { over: false } => f.write_str("claim the host"),
            Self::Claim { over: true } => f.write_str("take the host over"),
            Self::Install { engine: true } => f.write_str("install Docker Engine and the Compose plugin"),
            Self::Install { engine: false } => f.write_str("install the Compose plugin"),
            Self::StartDocker => f.write_str("start Docker"),
            Self::Directories(_) => f.write_str("make the directories"),
            Self::Write(file) => write!(f, "write {}", file.path),
            Self::Pull(image) => write!(f, "pull {image}"),
            Self::Network => write!(f, "make the network {EDGE}"),
            Self::Start { service, anew: false } => write!(f, "start {}", service.name()),
            Self::Start { service, anew: true } => write!(f, "make the container of {} anew", service.name()),
            Self::Settle { service } => write!(f, "see that {} answers", service.name()),
            Self::Configure(_) => f.write_str("give Caddy its configuration"),
            Self::Finish => f.write_str("note that everything is in place"),
        }
    }
}

impl fmt::Display for Act {
    /// `repair: start caddy (the container of caddy is exited)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self.cause {
            Cause::Setup => "setup",
            Cause::Change => "change",
            Cause::Repair => "repair",
        };
        write!(f, "{cause}: {} ({})", self.step, self.found)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
