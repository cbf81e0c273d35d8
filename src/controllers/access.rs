//! Access: what Zones and Providers have in common. When they ask the API behind them who the credential is, what they
//! say about it, and how that becomes conditions. Pure.
//!
//! `CredentialReady` says whether the Secret's token may be used; `Reachable` whether the API answers. Where nothing is
//! learned a condition keeps what it said. Ready turns False only when something is known to be wrong, or was never
//! right for this generation: an API that fails to answer says nothing about what is in place.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::credential::Credential;
use crate::api::condition::{self, Desired, READY, RECONCILING, STALLED};
use crate::api::status::CredentialStatus;
use crate::outside::OutsideError;
use crate::runtime::backoff;
use crate::runtime::driver::{Outcome, Wait};
use crate::runtime::events::Note;
use crate::runtime::status::Status;

/// Whether the credential of a Zone or Provider may be used.
pub const CREDENTIAL_READY: &str = "CredentialReady";
/// Whether the API behind a Zone or Provider answers.
pub const REACHABLE: &str = "Reachable";

/// The last time an API was asked who a credential is.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt<F> {
    /// Version of the Secret whose token was used.
    pub version: String,
    /// Generation of the object then.
    pub generation: Option<i64>,
    /// When it was asked.
    pub at: Timestamp,
    /// Failures in a row, this one included.
    pub failures: i64,
    /// What it answered.
    pub result: Result<F, OutsideError>,
}

impl<F> Attempt<F> {
    /// When to ask again, should version and generation stay as they are: at the resync, sooner where the API failed
    /// to answer.
    #[must_use]
    pub fn due(&self, resync: Duration) -> Timestamp {
        let wait = match &self.result {
            Err(OutsideError::RateLimited { after }) => *after,
            Err(OutsideError::Unavailable(_) | OutsideError::Unknown(_)) => {
                backoff::after(self.failures, 0.0).min(resync)
            }
            _ => resync,
        };
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        self.at.checked_add(wait).unwrap_or(Timestamp::MAX)
    }

    /// The attempt that follows `before`.
    #[must_use]
    pub fn next(
        before: Option<&Self>,
        version: &str,
        generation: Option<i64>,
        at: Timestamp,
        result: Result<F, OutsideError>,
    ) -> Self {
        let failures = if result.is_ok() { 0 } else { before.map_or(0, |attempt| attempt.failures) + 1 };
        Self { version: version.to_owned(), generation, at, failures, result }
    }
}

/// Whether an API is to be asked now about the token of `version`.
#[must_use]
pub fn is_due<F>(
    last: Option<&Attempt<F>>,
    version: &str,
    generation: Option<i64>,
    now: Timestamp,
    resync: Duration,
) -> bool {
    last.is_none_or(|last| last.version != version || last.generation != generation || last.due(resync) <= now)
}

/// Why something cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: String,
    /// Which condition it is about.
    pub about: About,
    /// Whether a person has to act before anything changes.
    pub terminal: bool,
}

/// Which condition an obstacle shows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// [`CREDENTIAL_READY`].
    Credential,
    /// [`REACHABLE`].
    Reach,
    /// None: the API only asked to wait.
    Neither,
}

impl Obstacle {
    /// What stands in the way with a credential that could not be read.
    #[must_use]
    pub fn of_credential(credential: &Credential) -> Option<Self> {
        match credential {
            Credential::Ok { .. } => None,
            Credential::Unusable { reason, message } => {
                Some(Self { reason, message: message.clone(), about: About::Credential, terminal: false })
            }
        }
    }

    /// What stands in the way when a call failed.
    #[must_use]
    pub fn of_call(error: &OutsideError) -> Self {
        let credential = |reason, message: &String, terminal| Self {
            reason,
            message: message.clone(),
            about: About::Credential,
            terminal,
        };
        match error {
            OutsideError::RateLimited { .. } => Self {
                reason: "RateLimited",
                message: "waiting for the API's rate limit".to_owned(),
                about: About::Neither,
                terminal: false,
            },
            OutsideError::Unauthorized(message) => credential("CredentialRefused", message, false),
            OutsideError::Forbidden(message) => credential("PermissionMissing", message, false),
            OutsideError::Refused { code, message } => {
                let reason = match code.as_str() {
                    "zone-not-found" => "ZoneNotFound",
                    "zone-ambiguous" => "ZoneAmbiguous",
                    crate::cloud::code::ACCOUNT_CHANGED => "AccountChanged",
                    _ => "Refused",
                };
                credential(reason, message, true)
            }
            OutsideError::Unavailable(message) | OutsideError::Unknown(message) => {
                Self { reason: "Unavailable", message: message.clone(), about: About::Reach, terminal: false }
            }
        }
    }

    /// A valid credential that belongs to something else than what was pinned.
    #[must_use]
    pub fn changed(reason: &'static str, message: String) -> Self {
        Self { reason, message, about: About::Credential, terminal: true }
    }

    /// The wait it makes; looked at again after `after`.
    #[must_use]
    pub fn wait(&self, after: Duration) -> Wait {
        Wait { reason: self.reason, message: self.message.clone(), after, keep_ready: true }
    }
}

/// Sets conditions, `observedGeneration` and nothing else.
///
/// `asked` says whether the API has been asked with the present token at all; `in_place` is the message of Ready.
pub fn report<S: Status>(
    status: &mut S,
    obstacle: Option<&Obstacle>,
    asked: bool,
    outcome: &Outcome,
    in_place: String,
    generation: Option<i64>,
    now: Timestamp,
) {
    *status.observed_generation() = generation;
    let conditions = status.conditions();
    let about = obstacle.map(|obstacle| (obstacle.about, obstacle));
    match about {
        Some((About::Credential, obstacle)) => {
            let refused = Desired::no(CREDENTIAL_READY, obstacle.reason, &obstacle.message);
            condition::set(conditions, refused, generation, now);
        }
        None if asked => {
            let good = Desired::yes(CREDENTIAL_READY, "Accepted", "the token in the Secret is in use");
            condition::set(conditions, good, generation, now);
            condition::set(conditions, Desired::yes(REACHABLE, "Reachable", "the API answers"), generation, now);
        }
        Some((About::Reach, obstacle)) => {
            condition::set(conditions, Desired::no(REACHABLE, obstacle.reason, &obstacle.message), generation, now);
        }
        Some((About::Neither, _)) | None => {}
    }
    ready(conditions, outcome, in_place, generation, now);
}

/// Ready with its companions, as the driver's outcomes define them.
fn ready(
    conditions: &mut Vec<Condition>,
    outcome: &Outcome,
    in_place: String,
    generation: Option<i64>,
    now: Timestamp,
) {
    let was_ready =
        condition::get(conditions, READY).is_some_and(|c| c.status == "True" && c.observed_generation == generation);
    let (companion, ready) = match outcome {
        _ if was_ready && outcome.is_a_failed_look() => (None, None),
        Outcome::Done => (None, Some(Desired::yes(READY, "Ready", in_place))),
        Outcome::Stopped { reason, message } => (Some(STALLED), Some(Desired::no(READY, reason, message))),
        Outcome::Waiting(Wait { reason, message, .. }) | Outcome::Failed { reason, message } => {
            (Some(RECONCILING), Some(Desired::no(READY, reason, message)))
        }
    };
    if let Some(ready) = ready.clone() {
        condition::set(conditions, ready, generation, now);
    }
    // One that stays is left in place, or it would begin anew with each pass.
    for type_ in [RECONCILING, STALLED] {
        match ready.clone().filter(|_| companion == Some(type_)) {
            Some(why) => condition::set(conditions, Desired { type_, status: Some(true), ..why }, generation, now),
            None => condition::remove(conditions, type_),
        }
    }
}

/// `status.credential` once the token of `version` is in use.
#[must_use]
pub fn in_use(
    before: Option<&CredentialStatus>,
    version: &str,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> CredentialStatus {
    let since = match before {
        Some(before) if before.secret_version == version => before.since.clone(),
        _ => condition::whole_seconds(now),
    };
    CredentialStatus { secret_version: version.to_owned(), since, expires_at: expires_at.map(Time) }
}

/// Tells people what changed: a credential or an API that stopped or began to work, a stop that needs them, and what
/// belongs to nobody. Each once.
#[must_use]
pub fn notes(old: &Seen<'_>, new: &Seen<'_>) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for type_ in [CREDENTIAL_READY, REACHABLE, STALLED, READY] {
        let (before, after) = (condition::get(old.conditions, type_), condition::get(new.conditions, type_));
        let Some(after) = after else { continue };
        let changed = before.is_none_or(|before| (&before.status, &before.reason) != (&after.status, &after.reason));
        let told = notes.iter().any(|note| note.reason == after.reason);
        let first = before.is_none() && after.status == "True" && type_ != STALLED && type_ != READY;
        if !changed || told || first {
            continue;
        }
        let warning = match type_ {
            STALLED => true,
            // A wait is no event; what it waits for has its own.
            READY if after.status == "False" => continue,
            _ => after.status == "False",
        };
        notes.push(Note { warning, reason: after.reason.clone(), message: after.message.clone() });
    }
    if let (Some(before), Some(after)) = (old.credential, new.credential)
        && before.secret_version != after.secret_version
    {
        notes.push(Note::normal("TokenInstalled", "the token of the changed Secret is in use"));
    }
    for (before, now) in old.orphans.iter().zip(new.orphans) {
        if *before != now && !now.is_empty() {
            let message = format!("with this cluster's mark, but no live owner: {}", now.join("; "));
            notes.push(Note::warning("OrphansFound", message));
        }
    }
    notes
}

/// The parts of a status that [`notes`] compares.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// `status.conditions`.
    pub conditions: &'a [Condition],
    /// `status.credential`.
    pub credential: Option<&'a CredentialStatus>,
    /// `status.orphans`, and `status.orphanWorkers` of what has these.
    pub orphans: [&'a [String]; 2],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::zone::ZoneStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn reported(status: &mut ZoneStatus, obstacle: Option<&Obstacle>, outcome: &Outcome, generation: i64) {
        report(status, obstacle, true, outcome, "in place".into(), Some(generation), at(0));
    }

    fn waiting(obstacle: &Obstacle) -> Outcome {
        Outcome::Waiting(obstacle.wait(Duration::from_secs(60)))
    }

    fn line(status: &ZoneStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn a_failed_call_is_repeated_with_back_off_and_a_verdict_at_the_resync() {
        let resync = Duration::from_secs(300);
        let attempt =
            |failures, result| Attempt { version: "1".into(), generation: Some(1), at: at(0), failures, result };
        for (failures, result, due) in [
            (0, Ok(()), 300),
            (1, Err(OutsideError::Unavailable(String::new())), 2),
            (4, Err(OutsideError::Unknown(String::new())), 16),
            (40, Err(OutsideError::Unavailable(String::new())), 300),
            (1, Err(OutsideError::RateLimited { after: Duration::from_secs(77) }), 77),
            (1, Err(OutsideError::Unauthorized(String::new())), 300),
            (1, Err(OutsideError::Refused { code: "zone-not-found".into(), message: String::new() }), 300),
        ] {
            let last = attempt(failures, result);
            assert!(!is_due(Some(&last), "1", Some(1), at(due - 1), resync), "{last:?}");
            assert!(is_due(Some(&last), "1", Some(1), at(due), resync), "{last:?}");
            assert!(is_due(Some(&last), "2", Some(1), at(0), resync), "a new version is tried at once");
            assert!(is_due(Some(&last), "1", Some(2), at(0), resync), "a new generation is tried at once");
        }
        assert!(is_due::<()>(None, "1", None, at(0), resync));
    }

    #[test]
    fn failures_count_up_and_a_success_clears_them() {
        let failed = || Err::<(), _>(OutsideError::Unavailable(String::new()));
        let one = Attempt::next(None, "1", None, at(0), failed());
        let two = Attempt::next(Some(&one), "1", None, at(2), failed());
        let done = Attempt::next(Some(&two), "1", None, at(6), Ok(()));
        assert_eq!([one.failures, two.failures, done.failures], [1, 2, 0]);
    }

    #[test]
    fn an_api_that_fails_to_answer_changes_only_reachable() {
        let mut status = ZoneStatus::default();
        reported(&mut status, None, &Outcome::Done, 1);
        let obstacle = Obstacle::of_call(&OutsideError::Unavailable("no answer".into()));
        reported(&mut status, Some(&obstacle), &waiting(&obstacle), 1);
        assert_eq!(line(&status), ["CredentialReady=True Accepted", "Reachable=False Unavailable", "Ready=True Ready"]);
    }

    #[test]
    fn a_refused_token_changes_only_credential_ready_where_ready_was_reached() {
        let mut status = ZoneStatus::default();
        reported(&mut status, None, &Outcome::Done, 1);
        let obstacle = Obstacle::of_call(&OutsideError::Unauthorized("no".into()));
        reported(&mut status, Some(&obstacle), &waiting(&obstacle), 1);
        let expected = ["CredentialReady=False CredentialRefused", "Reachable=True Reachable", "Ready=True Ready"];
        assert_eq!(line(&status), expected);
        // For the next generation Ready was never reached.
        reported(&mut status, Some(&obstacle), &waiting(&obstacle), 2);
        assert_eq!(line(&status)[2..], ["Ready=False CredentialRefused", "Reconciling=True CredentialRefused"]);
    }

    #[test]
    fn a_terminal_obstacle_is_ready_false_and_stalled() {
        let mut status = ZoneStatus::default();
        reported(&mut status, None, &Outcome::Done, 1);
        let obstacle = Obstacle::changed("AccountChanged", "another account".into());
        let outcome = Outcome::Stopped { reason: obstacle.reason, message: obstacle.message.clone() };
        reported(&mut status, Some(&obstacle), &outcome, 1);
        let expected = [
            "CredentialReady=False AccountChanged",
            "Reachable=True Reachable",
            "Ready=False AccountChanged",
            "Stalled=True AccountChanged",
        ];
        assert_eq!(line(&status), expected);
    }

    #[test]
    fn a_rate_limit_changes_no_condition_and_tells_nobody() {
        let mut status = ZoneStatus::default();
        reported(&mut status, None, &Outcome::Done, 1);
        let before = status.clone();
        let obstacle = Obstacle::of_call(&OutsideError::RateLimited { after: Duration::from_secs(5) });
        reported(&mut status, Some(&obstacle), &waiting(&obstacle), 1);
        assert_eq!(status, before);
    }

    #[test]
    fn each_change_is_told_once() {
        let told = |old: &ZoneStatus, new: &ZoneStatus| -> Vec<(bool, String)> {
            let [old, new] = [old, new].map(|status| {
                let orphans: [&[String]; 2] = [&status.orphans, &status.orphan_workers];
                Seen { conditions: &status.conditions, credential: None, orphans }
            });
            notes(&old, &new).into_iter().map(|note| (note.warning, note.reason)).collect()
        };
        let mut status = ZoneStatus::default();
        let empty = status.clone();
        reported(&mut status, None, &Outcome::Done, 1);
        assert_eq!(told(&empty, &status), [(false, "Ready".to_owned())]);
        let good = status.clone();
        let obstacle = Obstacle::changed("AccountChanged", "another account".into());
        let outcome = Outcome::Stopped { reason: obstacle.reason, message: obstacle.message.clone() };
        reported(&mut status, Some(&obstacle), &outcome, 1);
        assert_eq!(
            told(&good, &status),
            [(true, "AccountChanged".to_owned())],
            "the condition and Stalled say the same"
        );
        assert_eq!(told(&status, &status), []);
        let mut found = good.clone();
        found.orphans = vec!["A web-1.example.com".into()];
        assert_eq!(told(&good, &found), [(true, "OrphansFound".to_owned())]);
        assert_eq!(told(&found, &good), [], "orphans that went are no event");
        let both = ZoneStatus { orphan_workers: vec!["Worker lb".into()], ..found.clone() };
        assert_eq!(told(&found, &both), [(true, "OrphansFound".to_owned())]);
        assert_eq!(told(&both, &found), []);
    }

    #[test]
    fn since_stays_while_the_version_does() {
        let first = in_use(None, "1", None, at(0));
        assert_eq!(in_use(Some(&first), "1", None, at(100)), first);
        assert_eq!(in_use(Some(&first), "2", None, at(100)).since.0, at(100));
    }
}
