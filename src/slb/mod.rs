//! The load balancer at Cloudflare's edge: a Worker of ours, its bindings, and where its requests come from.
//!
//! Nothing here knows of Kubernetes:
//!
//! * `worker.js`: the code that runs at the edge, with its bindings explained at its top;
//! * [`mod@plan`]: pure: from what is wanted and what was observed to the next call;
//! * [`origins`]: the text of the binding `ORIGINS`;
//! * [`client`]: observes, and makes exactly one call;
//! * [`wire`]: the JSON and the multipart bodies of the API.
//!
//! A script is ours if its plain-text binding `ROADSTEAD_OWNER` holds our mark; any other is never written, but for the
//! one binding `ORIGINS` of a script that allows it by name in `ROADSTEAD_ALLOW`.

pub mod client;
pub mod origins;
pub mod plan;
pub mod wire;

use std::sync::LazyLock;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::api::names::Mark;

pub use client::Workers;
pub use origins::Origin;
pub use plan::{Refusal, Step, plan};

/// The code of the Worker.
pub const WORKER: &str = include_str!("worker.js");

/// The compatibility date it is uploaded with. From 2024-09-02 on, Workers honour the ports of origins.
pub const COMPATIBILITY_DATE: &str = "2025-09-01";

/// 16 hex digits of the SHA-256 of [`WORKER`] and its [`COMPATIBILITY_DATE`]: another value, another upload.
#[must_use]
pub fn code() -> &'static str {
    static CODE: LazyLock<String> = LazyLock::new(|| {
        let digest = Sha256::digest(format!("{COMPATIBILITY_DATE}\n{WORKER}"));
        data_encoding::HEXLOWER.encode(&digest[..8])
    });
    &CODE
}

/// A Worker as a group wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The script's name.
    pub name: String,
    /// The group's mark.
    pub mark: Mark,
    /// The owner in the mark of a script that a person allows the group to take over.
    pub adopt: Option<String>,
    /// `namespace/name` of the group, as a script's `ROADSTEAD_ALLOW` names it.
    pub group: String,
    /// How much of the script is ours.
    pub mode: Mode,
    /// Every member that could serve, healthy or not.
    pub origins: Vec<Origin>,
    /// How requests are spread.
    pub strategy: Strategy,
    /// What the Worker does when origins fail.
    pub policy: Policy,
    /// Where its requests come from, if that is ours to arrange.
    pub place: Option<Place>,
}

/// How much of a script is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of it: code, bindings, place.
    Managed,
    /// The binding `ORIGINS` of somebody else's script, which allows it.
    OriginsOnly,
}

/// How requests are spread over origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// In turn, as often as each weighs.
    RoundRobin,
    /// At random, as often as each weighs.
    Random,
    /// The first priority that answers.
    Failover,
}

/// Whether a client comes back to the same origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sticky {
    /// It need not.
    None,
    /// By a cookie.
    Cookie,
    /// By its address.
    ClientIp,
}

/// What is published while fewer origins than [`Policy::min_healthy`] are healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllDown {
    /// What was published last, as far as it is still a member, and what is healthy.
    KeepLast,
    /// What is healthy, be it nothing.
    Publish,
}

/// What happens when origins fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Further origins a request may try: 0 to 5.
    pub retries: u8,
    /// How long an origin may take to begin its answer.
    pub origin_timeout: Duration,
    /// Statuses after which the next origin is tried; the Worker's own list if empty.
    pub fail_statuses: Vec<u16>,
    /// Whether a client comes back to the same origin.
    pub sticky: Sticky,
    /// What an origin is asked before a request that must not be repeated.
    pub probe_path: String,
    /// From so many healthy origins on, exactly these are published.
    pub min_healthy: usize,
    /// What is published below that.
    pub when_all_down: WhenAllDown,
}

/// Where requests to a Worker come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A route pattern of a zone.
    Route {
        /// The zone's id.
        zone_id: String,
        /// E.g. `shop.example.com/*`.
        pattern: String,
    },
    /// A host that the Worker serves alone.
    Domain {
        /// The zone's id.
        zone_id: String,
        /// The host.
        hostname: String,
    },
}

impl Place {
    /// As the binding `ROADSTEAD_PLACES` notes it.
    #[must_use]
    pub fn note(&self) -> String {
        match self {
            Self::Route { zone_id, pattern } => format!("route {zone_id} {pattern}"),
            Self::Domain { zone_id, hostname } => format!("domain {zone_id} {hostname}"),
        }
    }

    /// Reads what [`Place::note`] wrote.
    #[must_use]
    pub fn from_note(note: &str) -> Option<Self> {
        let mut words = note.split(' ');
        let place = match (words.next()?, words.next()?.to_owned(), words.next()?.to_owned()) {
            ("route", zone_id, pattern) => Self::Route { zone_id, pattern },
            ("domain", zone_id, hostname) => Self::Domain { zone_id, hostname },
            _ => return None,
        };
        words.next().is_none().then_some(place)
    }

    /// The zone it is in.
    #[must_use]
    pub fn zone_id(&self) -> &str {
        match self {
            Self::Route { zone_id, .. } | Self::Domain { zone_id, .. } => zone_id,
        }
    }
}
