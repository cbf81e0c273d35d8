//! What is wanted of an app on a host.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::Ipv4Net;

use super::journal::Target;
use crate::host::compose::Project;
use crate::host::compose::changes::Update;
use crate::host::compose::overlay::Ingress;
use crate::host::compose::strategy::Kind;

/// What is wanted: a revision whose Compose file was judged and lies on the host with its overlay and variables.
///
/// Its images are named by digest wherever a digest is known: a revision that has to be made again must be what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The revision's name.
    pub revision: String,
    /// Changes with anything for which a revision that failed is tried again: the spec, a Secret, the host.
    pub cause: String,
    /// The file in canonical form.
    pub project: Project,
    /// The entry service.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// How it is replaced.
    pub kind: Kind,
    /// The hash of each service's configuration, as Compose prints it for file and overlay.
    pub hashes: BTreeMap<String, String>,
    /// When each service beside the entry is updated.
    pub updates: BTreeMap<String, Update>,
    /// The network by which Caddy reaches the entry.
    pub ingress: Ingress,
    /// The subnet of that network if it is the app's own.
    pub subnet: Ipv4Net,
    /// The names it is reached by.
    pub domains: BTreeMap<String, Domain>,
    /// Where health is asked for.
    pub health_path: String,
    /// For how many seconds after its start the app need not answer.
    pub start_period: u32,
    /// How many seconds it has then.
    pub health_timeout: u32,
    /// How many seconds it has to answer from outside.
    pub external_timeout: u32,
    /// For how many seconds the old revision ends what it has begun.
    pub drain: u32,
    /// What is run once before the swap.
    pub pre_deploy: Option<PreDeploy>,
    /// How many revisions besides the live one keep their images and files.
    pub history: usize,
    /// Nothing new is begun. What has begun comes to its end.
    pub suspend: bool,
    /// The names answer with the maintenance page.
    pub maintenance: bool,
}

/// How a name is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// By the app. `verify`: it must answer from outside before the old revision goes.
    Serve {
        /// Whether it is probed from outside.
        verify: bool,
        /// See [`Route::peer`](crate::host::table::Route::peer).
        peer: Option<SocketAddr>,
    },
    /// By a redirect.
    Redirect {
        /// The host.
        to: String,
        /// 301, 302, 307 or 308.
        code: u16,
        /// See [`Route::peer`](crate::host::table::Route::peer).
        peer: Option<SocketAddr>,
    },
}

/// What is run once before the swap, in a container of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreDeploy {
    /// The service whose image, variables, networks and volumes it gets.
    pub service: String,
    /// The command, in words.
    pub command: Vec<String>,
    /// How many seconds it has.
    pub timeout: u32,
}

impl Wanted {
    /// What the journal keeps of it, so that it can be finished or undone when something else is wanted.
    #[must_use]
    pub fn target(&self) -> Target {
        let entry = self.project.services.get(&self.service);
        // Compose puts content into a container when it starts it: what it did not start lacks that.
        let content = |all: &BTreeMap<String, crate::host::compose::project::Content>, key: &str| {
            all.get(key).is_some_and(|content| content.file.is_none())
        };
        let alone = entry.is_some_and(|entry| {
            entry.container_name.is_some()
                || entry.configs.iter().any(|used| content(&self.project.configs, &used.source))
                || entry.secrets.iter().any(|used| content(&self.project.secrets, &used.source))
        });
        Target {
            revision: self.revision.clone(),
            service: self.service.clone(),
            port: self.port,
            replicas: entry.map_or(1, crate::host::compose::project::Service::replicas).max(1),
            recreate: self.kind == Kind::Recreate,
            alone,
            health_path: self.health_path.clone(),
            start_period: self.start_period,
            health_timeout: self.health_timeout,
            drain: self.drain,
        }
    }
}
