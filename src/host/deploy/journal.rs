//! What is recorded between two steps: a plain value that survives a crash, with the app's status.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::app::Wanted;
use super::failure::Failure;

/// How many revisions' `preDeploy` are remembered.
const RAN: usize = 32;

/// What was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Journal {
    /// The revision that was seen to serve, inside and outside.
    pub live: Option<Target>,
    /// The revision that is on its way, or on its way back.
    pub coming: Option<Coming>,
    /// Since when what the live revision replaced gets no new requests; `None` once it is gone.
    pub draining: Option<Timestamp>,
    /// Why the revision that was tried last is not live.
    pub failed: Option<Failure>,
    /// The revisions whose `preDeploy` was begun, newest last.
    pub ran: Vec<Ran>,
    /// Every name that this app may have in the routing table.
    pub names: BTreeSet<String>,
    /// The services that were made anew for the revision tried last, with the hash they were made for: what Compose
    /// then makes of it is not tried twice.
    pub updated: BTreeMap<String, String>,
    /// The revisions whose images and files are on the host, newest first.
    pub kept: Vec<Kept>,
    /// When containers of the live revision that had ended were last started.
    pub revived: Option<Timestamp>,
    /// Until when an app that is taken away, and gets no requests any more, may end what it has begun.
    pub leaving: Option<Timestamp>,
    /// A failure that time may heal.
    pub back_off: Option<BackOff>,
}

/// A revision, as far as it takes to run it, route to it and remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its name.
    pub revision: String,
    /// Its entry service.
    pub service: String,
    /// The port that answers.
    pub port: u16,
    /// How many containers the entry service has.
    pub replicas: u32,
    /// Whether the old revision stops before it starts.
    pub recreate: bool,
    /// Whether its containers cannot be made while stopped ones of the service are there.
    pub alone: bool,
    /// Where health is asked for.
    pub health_path: String,
    /// For how many seconds after its start it need not answer.
    pub start_period: u32,
    /// How many seconds it has then.
    pub health_timeout: u32,
    /// For how many seconds it ends what it has begun, once replaced.
    pub drain: u32,
}

impl Target {
    /// How long it may take from its start until it answers.
    #[must_use]
    pub fn limit(&self) -> Duration {
        seconds(self.start_period) + seconds(self.health_timeout)
    }
}

/// How far a revision on its way has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Images, networks, other services, `preDeploy`. Nothing of the old revision is touched.
    Preparing,
    /// Its containers are made and started; for Recreate the old ones are stopped first.
    Starting,
    /// It has to answer inside.
    Proving,
    /// The route leads to it.
    Swapping,
    /// It has to answer outside.
    Verifying,
}

/// A revision on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coming {
    /// The revision.
    pub target: Target,
    /// What it is tried for.
    pub cause: String,
    /// How far it has come.
    pub stage: Stage,
    /// Since when it is there.
    pub since: Timestamp,
    /// Whether its images are on the host.
    #[serde(default)]
    pub pulled: bool,
    /// Since when it waits for a service that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_since: Option<Timestamp>,
    /// That it goes back, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
}

/// The way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// Since when.
    pub since: Timestamp,
    /// Why; `None` if something else is wanted by now.
    pub failure: Option<Failure>,
    /// Whether the old revision's containers were started again.
    #[serde(default)]
    pub revived: bool,
}

/// A revision whose `preDeploy` was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ran {
    /// The revision.
    pub revision: String,
    /// When it was about to be begun.
    pub at: Timestamp,
    /// Whether it ended well; `None` until its end was seen.
    pub ok: Option<bool>,
}

/// A revision whose images and files are on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The revision.
    pub revision: String,
    /// The ids of the images its containers had.
    pub images: BTreeSet<String>,
}

/// A failure that time may heal, and when the next try comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// How many tries in a row failed.
    pub attempts: u32,
    /// Before this nothing is done.
    pub not_before: Timestamp,
    /// The reason of the condition.
    pub reason: String,
    /// What happened.
    pub message: String,
}

impl Journal {
    /// The revision that the names lead to; `None` is the placeholder.
    #[must_use]
    pub fn serving(&self) -> Option<&Target> {
        match &self.coming {
            Some(coming) if coming.undo.is_none() && coming.stage >= Stage::Swapping => Some(&coming.target),
            _ => self.live.as_ref(),
        }
    }

    /// Begins to bring in what is wanted.
    #[must_use]
    pub(super) fn begin(&self, wanted: &Wanted, now: Timestamp) -> Self {
        let coming = Coming {
            target: wanted.target(),
            cause: wanted.cause.clone(),
            stage: Stage::Preparing,
            since: now,
            pulled: false,
            needs_since: None,
            undo: None,
        };
        Self { coming: Some(coming), failed: None, updated: BTreeMap::new(), ..self.clone() }
    }

    /// The coming revision has come to `stage`.
    #[must_use]
    pub(super) fn reached(&self, stage: Stage, now: Timestamp) -> Self {
        self.with_coming(|coming| {
            coming.stage = stage;
            coming.since = now;
        })
    }

    /// The coming revision goes back.
    #[must_use]
    pub(super) fn undoing(&self, failure: Option<Failure>, now: Timestamp) -> Self {
        self.with_coming(|coming| coming.undo = Some(Undo { since: now, failure, revived: false }))
    }

    pub(super) fn with_coming(&self, change: impl FnOnce(&mut Coming)) -> Self {
        let mut journal = self.clone();
        if let Some(coming) = &mut journal.coming {
            change(coming);
        }
        journal
    }

    /// What is known of a revision's `preDeploy`.
    #[must_use]
    pub fn ran(&self, revision: &str) -> Option<&Ran> {
        self.ran.iter().find(|ran| ran.revision == revision)
    }

    /// A revision's `preDeploy` is about to run (`ok` is `None`), or has.
    #[must_use]
    pub(super) fn with_ran(&self, revision: &str, at: Timestamp, ok: Option<bool>) -> Self {
        let mut journal = self.without_ran(revision);
        journal.ran.push(Ran { revision: revision.to_owned(), at, ok });
        let surplus = journal.ran.len().saturating_sub(RAN);
        journal.ran.drain(..surplus);
        journal
    }

    /// A revision's `preDeploy` did not begin after all.
    #[must_use]
    pub(super) fn without_ran(&self, revision: &str) -> Self {
        let mut journal = self.clone();
        journal.ran.retain(|ran| ran.revision != revision);
        journal
    }

    /// A revision has these images on the host.
    #[must_use]
    pub(super) fn keeping(&self, revision: &str, images: BTreeSet<String>) -> Self {
        let mut journal = self.clone();
        journal.kept.retain(|kept| kept.revision != revision);
        journal.kept.insert(0, Kept { revision: revision.to_owned(), images });
        journal
    }
}

/// Whole seconds.
#[must_use]
pub(super) fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}

/// A moment later.
#[must_use]
pub(super) fn after(then: Timestamp, wait: Duration) -> Timestamp {
    then.checked_add(wait).unwrap_or(Timestamp::MAX)
}
