//! A group's Worker: what is wanted of it ([`target`]), the next step towards that ([`plan`]), what the status says of it
//! ([`report`]), and its calls ([`desk`]). All but the last are pure.
//!
//! A pass never waits for a call: it begins one, and the answer wakes the group, as the zone's writer does. So a Worker
//! about which Cloudflare is slow, or silent, holds up no record.

pub mod desk;
#[cfg(test)]
pub(super) mod fake;
pub mod plan;
pub mod report;
pub mod target;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::api::slb::Slb;
use crate::controllers::credential::Credential;
use crate::outside::OutsideError;
use crate::runtime::driver::Outcome;
use crate::slb;
use crate::slb::plan::{Observed, Places};
use crate::slb::wire::Settings;

pub use desk::Desk;

/// A script of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Cloudflare's id of the account.
    pub account: String,
    /// Its name.
    pub name: String,
}

/// What a Zone says of Workers, as a group sees it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Whether the group's namespace may have any.
    pub allowed: bool,
    /// The account they are in, once it is known.
    pub account: Option<String>,
    /// The zone's id, once it is known.
    pub zone_id: Option<String>,
    /// What their names begin with.
    pub prefix: Option<String>,
    /// The Secret with the token for them.
    pub secret: String,
    /// The token.
    pub credential: Credential,
}

impl Terms {
    /// The version of the Secret, if it holds a token.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.credential {
            Credential::Ok { version, .. } => Some(version),
            Credential::Unusable { .. } => None,
        }
    }
}

/// A call for a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Reads its settings.
    Look,
    /// Reads the routes of these zones and the custom domains of these hosts.
    LookAround {
        /// Ids of zones.
        zones: BTreeSet<String>,
        /// Hosts.
        hosts: BTreeSet<String>,
    },
    /// One write.
    Write(slb::Step),
}

/// What a call answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Call::Look`].
    Settings(Option<Settings>),
    /// To [`Call::LookAround`].
    Places(Places),
    /// To [`Call::Write`]; with the settings as they are now, where the answer has them.
    Written(Option<Settings>),
}

/// What is known of a script between passes. Lost with the process, and then looked at again.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// The script.
    pub script: Script,
    /// Whether a call is under way.
    pub in_hand: bool,
    /// What was seen last.
    pub seen: Option<Seen>,
    /// How the last call failed, if it did.
    pub failure: Option<Failure>,
    /// What was written last, and when: what is not to be seen afterwards is not written again at once.
    pub wrote: Option<(slb::Step, Timestamp)>,
}

/// What was seen of a script.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// This.
    pub observed: Observed,
    /// When its settings were read.
    pub at: Timestamp,
    /// When its places were read, if they were.
    pub places_at: Option<Timestamp>,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// How.
    pub error: OutsideError,
    /// When.
    pub at: Timestamp,
    /// The group's generation then: another one is tried at once.
    pub generation: Option<i64>,
    /// The version of the Secret then: another one is tried at once.
    pub version: Option<String>,
    /// What spreads the next tries of those that failed together, in `0.0..1.0`.
    pub jitter: f64,
}

impl Sight {
    /// A script of which nothing is known yet.
    #[must_use]
    pub fn of(script: Script) -> Self {
        Self { script, in_hand: false, seen: None, failure: None, wrote: None }
    }

    /// Takes in how a call failed: what it did is not known, so nothing is.
    pub fn failed(&mut self, failure: Failure) {
        (self.in_hand, self.seen, self.failure) = (false, None, Some(failure));
    }

    /// Takes in what a call answered at `now`.
    pub fn answered(&mut self, call: &Call, answer: Answer, now: Timestamp) {
        (self.in_hand, self.failure) = (false, None);
        if let Call::Write(step) = call {
            self.wrote = Some((step.clone(), now));
        }
        let before = self.seen.take();
        let settled = |settings, before: Option<Seen>| {
            let (places, places_at) = before.map_or((None, None), |seen| (seen.observed.places, seen.places_at));
            Some(Seen { observed: Observed { settings, places }, at: now, places_at })
        };
        let around = |before: Option<Seen>, places: Option<Places>| {
            let places_at = places.as_ref().map(|_| now);
            before.map(|seen| Seen { observed: Observed { places, ..seen.observed }, places_at, ..seen })
        };
        self.seen = match (call, answer) {
            (_, Answer::Settings(settings)) => settled(settings, before),
            (_, Answer::Places(places)) => around(before, Some(places)),
            (Call::Write(slb::Step::Patch(_)), Answer::Written(Some(settings))) => settled(Some(settings), before),
            (Call::Write(slb::Step::DeleteScript), _) => settled(None, None),
            (Call::Write(step), _) if is_of_places(step) => around(before, None),
            // What else was written is looked at again.
            _ => None,
        };
    }
}

fn is_of_places(step: &slb::Step) -> bool {
    matches!(step, slb::Step::Place(_) | slb::Step::DeleteRoute { .. } | slb::Step::DeleteDomain { .. })
}

/// How a pass ended for the Worker.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// The origins it has, where that is known.
    pub origins: Option<Vec<String>>,
    /// How.
    pub outcome: Outcome,
}

/// Whether a Worker wants what the claim of this name holds.
#[must_use]
pub fn wants(slb: &Slb, claim: &str) -> bool {
    let worker = claim.strip_prefix("rs--worker.").and_then(|rest| rest.split_once('.'));
    let host = slb.route.as_ref().and_then(|route| route.split('/').next()).or(slb.custom_domain.as_deref());
    worker.is_some_and(|(_, name)| name == slb.worker_name) || host == Some(claim)
}

#[cfg(test)]
mod tests;
