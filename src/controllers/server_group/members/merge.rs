//! What is known of each server, made into one health (pure). A server is healthy if every source it has says so: its
//! probe, and what it reports within `heartbeatTTL`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::roster::{Entry, MOST, Probing, Roster};
use crate::api::address::ServerAddress;
use crate::api::condition::whole_seconds;
use crate::api::server_group::{Asked, Counts, MemberHealth, MemberStatus, Origin, Source, SourceStatus};
use crate::probe::{Health, Verdict};

/// A server that reported nothing for too long.
pub const EXPIRED: &str = "HeartbeatExpired";
/// A server that is taken out.
pub const DISABLED: &str = "Disabled";
/// How long a server that failed its probes is kept out, however soon they succeed again: what bounds the writes that one
/// flapping server can cause.
const HOLD: SignedDuration = SignedDuration::from_secs(10);
/// The longest message a status holds.
const LONGEST: usize = 512;

/// The last report of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// What it said.
    pub healthy: bool,
    /// When.
    pub at: Timestamp,
}

/// How reports count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reports {
    /// Whether they are taken at all.
    pub enabled: bool,
    /// For how long.
    pub ttl: Duration,
    /// How long after its last report a server that only reports is remembered.
    pub forget_after: Duration,
}

/// Everything that is known of a group's servers.
pub struct Known<'a> {
    /// Who belongs to the group by its spec.
    pub roster: &'a Roster,
    /// How reports count.
    pub reports: &'a Reports,
    /// What the status says.
    pub before: &'a [MemberStatus],
    /// What the prober says, by id; `None` where it has no verdict yet.
    pub verdict: &'a dyn Fn(&str) -> Option<Verdict>,
    /// What was reported since this process began to listen, by id.
    pub heard: &'a HashMap<String, Heard>,
    /// When this process began to listen: nobody is called silent before one `heartbeatTTL` has passed since.
    pub listening_since: Timestamp,
    /// The time of the decision.
    pub now: Timestamp,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The servers as the status should show them, by address.
    pub members: Vec<MemberStatus>,
    /// When something changes without anybody saying so.
    pub next: Option<Timestamp>,
}

/// Says how each server is. The same input gives the same output, and what has not changed keeps its times.
#[must_use]
pub fn merge(known: &Known<'_>) -> Merged {
    let mut next = Next(None);
    let before: BTreeMap<&str, &MemberStatus> = known.before.iter().map(|m| (m.id.as_str(), m)).collect();
    let mut members: BTreeMap<ServerAddress, MemberStatus> = BTreeMap::new();
    for entry in &known.roster.members {
        let id = entry.address.to_string();
        let old = before.get(id.as_str()).copied();
        let report = reported(known, &id, old, &mut next);
        let member = of_entry(known, entry, id, old, report, &mut next);
        members.insert(entry.address.clone(), member);
    }
    let reporting = known.heard.keys().map(String::as_str).chain(before.keys().copied());
    for id in reporting {
        let Ok(address) = ServerAddress::parse(id) else { continue };
        if members.contains_key(&address) || members.len() >= MOST {
            continue;
        }
        let old = before.get(id).copied();
        if let Some(report) = reported(known, id, old, &mut next) {
            members.insert(address, of_reporter(known, id.to_owned(), old, report));
        }
    }
    Merged { members: members.into_values().collect(), next: next.0 }
}

/// The earliest of several times.
struct Next(Option<Timestamp>);

impl Next {
    fn at(&mut self, time: Timestamp, now: Timestamp) {
        if time > now {
            self.0 = Some(self.0.map_or(time, |next| next.min(time)));
        }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn plus(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// What a server says itself; `None` if it never did, or so long ago that it is forgotten.
fn reported(known: &Known<'_>, id: &str, old: Option<&MemberStatus>, next: &mut Next) -> Option<SourceStatus> {
    if !known.reports.enabled {
        return None;
    }
    let (ttl, forget_after) = (signed(known.reports.ttl), signed(known.reports.forget_after));
    let old = old.and_then(|member| member.report.as_ref());
    let expired_before = old.is_some_and(|report| report.reason == EXPIRED);
    let (healthy, last) = match (known.heard.get(id), old) {
        (Some(heard), _) => (heard.healthy, heard.at),
        // Its silence began before this process did.
        (None, Some(old)) if expired_before => (false, old.since.0.checked_sub(ttl).unwrap_or(old.since.0)),
        (None, Some(old)) => (old.healthy, known.listening_since),
        (None, None) => return None,
    };
    let (expires, forgotten) = (plus(last, ttl), plus(last, forget_after));
    if forgotten <= known.now {
        return None;
    }
    next.at(expires, known.now);
    next.at(forgotten, known.now);
    let (healthy, reason) = match (expires <= known.now, healthy) {
        (true, _) => (false, EXPIRED),
        (false, true) => (true, "ReportedHealthy"),
        (false, false) => (false, "ReportedUnhealthy"),
    };
    let since =
        old.filter(|old| old.reason == reason).map_or_else(|| whole_seconds(known.now), |old| old.since.clone());
    Some(SourceStatus { healthy, reason: reason.to_owned(), since })
}

/// What the probe says of a server, and the sentence that goes with it.
fn probed(known: &Known<'_>, id: &str, old: Option<&MemberStatus>, next: &mut Next) -> Option<(SourceStatus, String)> {
    let before = old.and_then(|member| member.probe.clone());
    let said = old.filter(|member| member.source == Some(Source::Probe)).and_then(|member| member.message.clone());
    let Some(verdict) = (known.verdict)(id) else {
        // A changed probe has to earn its verdict; until then the old one stands.
        return before.map(|before| (before, said.unwrap_or_default()));
    };
    let healthy = verdict.health == Health::Healthy;
    if let Some(before) = before {
        let held = plus(before.since.0, HOLD);
        let too_soon = healthy && !before.healthy && held > known.now;
        if too_soon {
            next.at(held, known.now);
        }
        // A server that stays down may do so for ever new reasons: the first one is told.
        if too_soon || before.healthy == healthy {
            return Some((before, said.unwrap_or(verdict.message)));
        }
    }
    let since = whole_seconds(known.now);
    Some((SourceStatus { healthy, reason: verdict.reason.to_owned(), since }, verdict.message))
}

fn of_entry(
    known: &Known<'_>,
    entry: &Entry,
    id: String,
    old: Option<&MemberStatus>,
    report: Option<SourceStatus>,
    next: &mut Next,
) -> MemberStatus {
    let probed = match (&entry.probing, entry.disabled) {
        (Probing::Check(_), false) => probed(known, &id, old, next),
        _ => None,
    };
    let (probe, message) = probed.map_or((None, String::new()), |(probe, message)| (Some(probe), message));
    let pending =
        |reason: &str| Judged { health: MemberHealth::Pending, source: None, reason: reason.to_owned(), message: None };
    let judged = match (&entry.probing, &probe, &report) {
        _ if entry.disabled => pending(DISABLED),
        (_, Some(probe), _) if !probe.healthy => Judged::by(Source::Probe, probe, Some(message)),
        (_, _, Some(report)) if !report.healthy => Judged::by(Source::Report, report, silence(report)),
        (Probing::NotYet, _, _) => pending("NodeNotPublished"),
        (Probing::Check(_), None, _) => pending("Probing"),
        (_, Some(probe), _) => Judged::by(Source::Probe, probe, None),
        (_, None, Some(report)) => Judged::by(Source::Report, report, None),
        (Probing::Off, None, None) => {
            Judged { health: MemberHealth::Healthy, source: None, reason: "NotProbed".to_owned(), message: None }
        }
    };
    let node = entry.node.clone();
    let member = Sources {
        id,
        origin: entry.origin,
        node,
        asked: entry.app.as_ref().map(|part| part.asked.clone()),
        probe,
        report,
    };
    settle(known, member, old, judged)
}

fn of_reporter(known: &Known<'_>, id: String, old: Option<&MemberStatus>, report: SourceStatus) -> MemberStatus {
    let judged = Judged::by(Source::Report, &report, silence(&report));
    let origin = Origin::Reported;
    settle(known, Sources { id, origin, node: None, asked: None, probe: None, report: Some(report) }, old, judged)
}

fn silence(report: &SourceStatus) -> Option<String> {
    let silent = "it has not reported within spec.reporting.heartbeatTTL";
    (report.reason == EXPIRED).then(|| silent.to_owned())
}

struct Sources {
    id: String,
    origin: Origin,
    node: Option<String>,
    asked: Option<Asked>,
    probe: Option<SourceStatus>,
    report: Option<SourceStatus>,
}

struct Judged {
    health: MemberHealth,
    source: Option<Source>,
    reason: String,
    message: Option<String>,
}

impl Judged {
    fn by(source: Source, status: &SourceStatus, message: Option<String>) -> Self {
        let health = if status.healthy { MemberHealth::Healthy } else { MemberHealth::Unhealthy };
        Self { health, source: Some(source), reason: status.reason.clone(), message }
    }
}

/// The entry of the status: what has not changed keeps its times.
fn settle(known: &Known<'_>, sources: Sources, old: Option<&MemberStatus>, judged: Judged) -> MemberStatus {
    let now = whole_seconds(known.now);
    let same = old.filter(|old| old.health == judged.health);
    let since: Time = same.map_or_else(|| now.clone(), |old| old.since.clone());
    let healthy_until = match (judged.health, old) {
        (MemberHealth::Healthy, _) | (_, None) => None,
        _ if judged.reason == DISABLED => None,
        (_, Some(old)) if old.health == MemberHealth::Healthy => Some(now),
        (_, Some(old)) => old.healthy_until.clone(),
    };
    let message = judged.message.filter(|message| !message.is_empty()).map(|mut message| {
        message.truncate(message.floor_char_boundary(LONGEST));
        message
    });
    let added = old.map_or_else(|| Some(whole_seconds(known.now)), |old| old.added.clone());
    let Sources { id, origin, node, asked, probe, report } = sources;
    let Judged { health, source, reason, .. } = judged;
    MemberStatus {
        id,
        origin,
        node,
        asked,
        health,
        source,
        reason,
        message,
        added,
        since,
        healthy_until,
        probe,
        report,
    }
}

/// How many servers there are, by health, and the same in short: `healthy/total`.
#[must_use]
pub fn count(members: &[MemberStatus]) -> (Counts, String) {
    let mut counts = Counts::default();
    for member in members {
        match member.health {
            _ if member.reason == DISABLED => counts.disabled += 1,
            MemberHealth::Healthy => counts.healthy += 1,
            MemberHealth::Unhealthy => counts.unhealthy += 1,
            MemberHealth::Pending => counts.pending += 1,
        }
    }
    counts.total = counts.healthy + counts.unhealthy + counts.pending;
    (counts, format!("{}/{}", counts.healthy, counts.total))
}

/// The health as a metric's label.
#[must_use]
pub fn label(health: MemberHealth) -> &'static str {
    match health {
        MemberHealth::Healthy => "healthy",
        MemberHealth::Unhealthy => "unhealthy",
        MemberHealth::Pending => "pending",
    }
}

#[cfg(test)]
#[path = "flapping_tests.rs"]
mod flapping_tests;
#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
