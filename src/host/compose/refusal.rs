//! Why an app's Compose file may not run, in words: what is wrong, at which service and key, and what would be right.

use std::fmt;

/// Where in an app something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The service, if it is a service's key.
    pub service: Option<String>,
    /// The key, e.g. `ports[0]`; without a service a key of the file, e.g. `volumes.data`, or a field of the
    /// AppDeployment, e.g. `spec.entry.service`.
    pub key: String,
}

impl Place {
    /// A key of a service.
    #[must_use]
    pub fn of(service: &str, key: impl Into<String>) -> Self {
        Self { service: Some(service.to_owned()), key: key.into() }
    }

    /// A key of no service.
    #[must_use]
    pub fn at(key: impl Into<String>) -> Self {
        Self { service: None, key: key.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "service `{service}`, key `{}`", self.key),
            None => write!(f, "key `{}`", self.key),
        }
    }
}

/// What of host access is missing: both the app's ask and the provider's permission are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The app does not ask.
    Ask,
    /// The Provider does not permit it.
    Permission,
    /// Neither.
    Both,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ask => "set `spec.hostAccess: true` on the AppDeployment",
            Self::Permission => "have `spec.allowHostAccess: true` set on the Node's Provider",
            Self::Both => {
                "set `spec.hostAccess: true` on the AppDeployment and have `spec.allowHostAccess: true` set on the \
                 Node's Provider"
            }
        })
    }
}

/// Why a Compose file may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Compose does not take the file.
    #[error("{place}: Compose refuses the file: {said}: mend it there")]
    Unparsable {
        /// Where, as far as Compose says; else `compose`.
        place: Place,
        /// What Compose says.
        said: String,
    },
    /// A variable that the file demands has no value.
    #[error("{place}: the required variable `{name}` is missing{said}: give it in `spec.env`")]
    MissingVariable {
        /// Where it is demanded.
        place: Place,
        /// Its name.
        name: String,
        /// What the file says of it, in brackets; else nothing.
        said: String,
    },
    /// No service is the entry.
    #[error(
        "key `services`: no service is the entry, for none of {services} is called `web` or has the label \
         `roadstead.entry=true`: add the label to the service that answers HTTP, or name it in `spec.entry.service`"
    )]
    NoEntry {
        /// The services there are.
        services: String,
    },
    /// There is no service.
    #[error("key `services`: the file has no service: add the one that answers HTTP")]
    NoServices,
    /// The named service is not there.
    #[error("{place}: there is no service `{name}`, the file has {services}: name one of them")]
    UnknownService {
        /// The field that names it.
        place: Place,
        /// The name.
        name: String,
        /// The services there are.
        services: String,
    },
    /// More than one service says that it is the entry.
    #[error(
        "services {services}, key `labels`: each has the label `roadstead.entry=true` or `dynia.entry=true`: leave it \
         on one, or name the entry in `spec.entry.service`"
    )]
    TwoEntries {
        /// Which.
        services: String,
    },
    /// The entry's port cannot be told.
    #[error(
        "service `{service}`, key `expose`: the entry service exposes no TCP port: add `expose: [\"8080\"]` with the \
         port it answers HTTP at, the label `roadstead.port`, or `spec.entry.port`"
    )]
    NoPort {
        /// The entry service.
        service: String,
    },
    /// A label of ours has a value that means nothing.
    #[error("{place}: the label is `{value}`: write {right}")]
    BadLabel {
        /// The label.
        place: Place,
        /// Its value.
        value: String,
        /// What would be right.
        right: String,
    },
    /// The entry service is not on a network where Caddy could reach it.
    #[error(
        "{place}: with `{mode}` Caddy cannot reach the entry service by its network: remove the key, and name the \
         port in `expose`"
    )]
    NetworkMode {
        /// Where.
        place: Place,
        /// The mode.
        mode: String,
    },
    /// A service wants a port of Caddy's.
    #[error(
        "{place}: {published} would take port {port} of the host, which Caddy serves every app on: remove it, and \
         name the container's port in `expose`"
    )]
    PortReserved {
        /// Where.
        place: Place,
        /// What is published.
        published: String,
        /// 80 or 443.
        port: u16,
    },
    /// A path of the host that is not the app's.
    #[error(
        "{place}: `{path}` is a path of the host and not in `spec.compose.files`: bring the file in \
         `spec.compose.files`, or keep data in a named volume"
    )]
    HostPath {
        /// Where.
        place: Place,
        /// The path.
        path: String,
    },
    /// Something that gives the host away.
    #[error("{place}: {what} gives the app the whole host: remove it, or {missing}")]
    HostAccess {
        /// Where.
        place: Place,
        /// What, e.g. "the Docker socket".
        what: String,
        /// What would permit it.
        missing: Missing,
    },
    /// A name that might be taken for the upstream of another app.
    #[error("{place}: `{name}` starts with `rs--`, which is reserved: choose another name")]
    ReservedName {
        /// Where.
        place: Place,
        /// The name.
        name: String,
    },
    /// The name of a variable that cannot be one, or that would steer Compose itself.
    #[error("{place}: `{name}` cannot be set: {right}")]
    BadVariable {
        /// Where.
        place: Place,
        /// The name.
        name: String,
        /// What would be right.
        right: &'static str,
    },
}

impl Refusal {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unparsable { .. } => "ComposeInvalid",
            Self::MissingVariable { .. } => "VariableMissing",
            Self::NoEntry { .. } | Self::NoServices => "EntryMissing",
            Self::UnknownService { .. } => "UnknownService",
            Self::TwoEntries { .. } => "EntryAmbiguous",
            Self::NoPort { .. } => "PortMissing",
            Self::BadLabel { .. } => "LabelInvalid",
            Self::NetworkMode { .. } => "HostNetwork",
            Self::PortReserved { .. } => "PortReserved",
            Self::HostPath { .. } => "HostPathRefused",
            Self::HostAccess { .. } => "HostAccessRefused",
            Self::ReservedName { .. } => "NameReserved",
            Self::BadVariable { .. } => "VariableInvalid",
        }
    }
}

/// All refusals as one message, each on a line of its own if there are several.
#[must_use]
pub fn message(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
