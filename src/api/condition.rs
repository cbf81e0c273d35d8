//! Conditions: their types, the reasons users meet, and how one is set.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What the spec asks for is in place.
pub const READY: &str = "Ready";
/// Present, and True, only while something is under way.
pub const RECONCILING: &str = "Reconciling";
/// Present, and True, only while a person has to act.
pub const STALLED: &str = "Stalled";

/// One condition as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Its type, e.g. `Ready`.
    pub type_: &'static str,
    /// `Some(true)`, `Some(false)`, or `None` for Unknown.
    pub status: Option<bool>,
    /// A word for machines.
    pub reason: &'static str,
    /// A sentence for people, the same as long as the state is.
    pub message: String,
}

impl Desired {
    /// A condition that holds.
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(true), reason, message: message.into() }
    }

    /// A condition that does not hold.
    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(false), reason, message: message.into() }
    }
}

/// Sets `desired` among `conditions`. The transition time changes only with the status, so an unchanged state compares
/// equal and costs no write.
pub fn set(conditions: &mut Vec<Condition>, desired: Desired, generation: Option<i64>, now: Timestamp) {
    let status = match desired.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let old = conditions.iter_mut().find(|c| c.type_ == desired.type_);
    let since = match &old {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => whole_seconds(now),
    };
    let new = Condition {
        type_: desired.type_.to_owned(),
        status: status.to_owned(),
        reason: desired.reason.to_owned(),
        message: truncate(desired.message),
        observed_generation: generation,
        last_transition_time: since,
    };
    match old {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// Removes the condition `type_`.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|c| c.type_ != type_);
}

/// The condition `type_`, if it is there.
#[must_use]
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition `type_` is True.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|c| c.status == "True")
}

/// `now` as the API server stores it: without fractions of a second.
#[must_use]
pub fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The API server refuses messages over 32,768 characters; nobody reads more than a thousand.
fn truncate(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(1000) {
        message.truncate(end);
    }
    message
}
