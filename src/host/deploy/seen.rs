//! What the host and the probes say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::app::Wanted;
use super::journal::{Journal, Target};
use crate::host::table::Route;

/// Everything that is known when a step is chosen.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The mark of the app, as its containers bear it.
    pub app: String,
    /// What is wanted; `None` if the app is to be taken away.
    pub wanted: Option<Wanted>,
    /// What was recorded.
    pub journal: Journal,
    /// What the host says.
    pub host: Host,
    /// What each container of the entry service answered last, by its id, asked through the tunnel.
    pub internal: BTreeMap<String, Answer>,
    /// What each name answered last, asked from outside with certificate and identity verified.
    pub external: BTreeMap<String, Answer>,
}

/// What the host says of an app.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Every container of the app's project, also stopped and one-off ones.
    pub containers: Vec<Container>,
    /// The project's networks and the app's own, by name.
    pub networks: BTreeMap<String, Network>,
    /// What the routing table says of the wanted names and of those in the journal.
    pub routes: BTreeMap<String, Route>,
    /// Of the images in the journal those that are on the host, by id, and whether any container uses them.
    pub images: BTreeMap<String, bool>,
    /// Whether the app's directory is there.
    pub directory: bool,
    /// Whether a disk that the app is on has less than 64 MiB left.
    pub full: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The service it is of.
    pub service: String,
    /// The app in its label.
    pub app: Option<String>,
    /// The revision in its label.
    pub revision: Option<String>,
    /// Whether it was made to run one command.
    pub one_off: bool,
    /// The hash of the configuration it was made by.
    pub hash: Option<String>,
    /// The id of its image.
    pub image: String,
    /// Its state.
    pub state: State,
    /// What its health check says; `None` if it has none.
    pub health: Option<Health>,
    /// How its process ended last.
    pub exit_code: i64,
    /// Whether it ended for want of memory.
    pub oom_killed: bool,
    /// How often Docker has started it again.
    pub restarts: u32,
}

/// The state of a container, as Docker calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Running, or paused by somebody.
    Running,
    /// Ended, and to be started again by Docker.
    Restarting,
    /// Ended.
    Exited,
}

/// What a container's own health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    Starting,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// A network of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Whether it is the app's: made by Compose for the project, or by us for the app.
    pub ours: bool,
    /// Whether Caddy is on it.
    pub proxied: bool,
}

/// What a probe was answered. A probe that did not get off, because the host could not be reached, is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// When it was asked.
    pub at: Timestamp,
    /// That it is well, or why not.
    pub verdict: Result<(), String>,
}

impl Answer {
    /// Whether it says at `since` or later that all is well.
    #[must_use]
    pub fn well_since(&self, since: Timestamp) -> bool {
        self.at >= since && self.verdict.is_ok()
    }
}

impl Container {
    /// Whether it does something, or will without anybody's help.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Restarting)
    }
}

impl Observed {
    /// The containers of a revision of the entry service.
    #[must_use]
    pub fn of(&self, target: &Target) -> Vec<&Container> {
        let mine = |c: &&Container| !c.one_off && c.revision.as_deref() == Some(&target.revision);
        self.host.containers.iter().filter(mine).collect()
    }

    /// The containers of `target`'s service that are of another revision or none.
    #[must_use]
    pub fn others(&self, target: &Target) -> Vec<&Container> {
        let other =
            |c: &&Container| !c.one_off && c.service == target.service && c.revision.as_ref() != Some(&target.revision);
        self.host.containers.iter().filter(other).collect()
    }

    /// The containers that bear a revision other than these.
    #[must_use]
    pub fn surplus(&self, keep: &[&Target]) -> Vec<&Container> {
        let kept = |revision: &String| keep.iter().any(|target| target.revision == *revision);
        let surplus = |c: &&Container| !c.one_off && c.revision.as_ref().is_some_and(|revision| !kept(revision));
        self.host.containers.iter().filter(surplus).collect()
    }

    /// The container of a revision's `preDeploy`.
    #[must_use]
    pub fn one_off(&self, revision: &str) -> Option<&Container> {
        self.host.containers.iter().find(|c| c.one_off && c.revision.as_deref() == Some(revision))
    }

    /// The hashes that the containers of the project's services bear.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, String> {
        let services = self.host.containers.iter().filter(|c| !c.one_off);
        services.map(|c| (c.service.clone(), c.hash.clone().unwrap_or_default())).collect()
    }

    /// The images of the app's containers.
    #[must_use]
    pub fn images(&self) -> BTreeSet<String> {
        self.host.containers.iter().map(|c| c.image.clone()).collect()
    }
}

/// The ids of containers.
#[must_use]
pub fn ids<'a>(containers: impl IntoIterator<Item = &'a Container>) -> Vec<String> {
    containers.into_iter().map(|c| c.id.clone()).collect()
}
