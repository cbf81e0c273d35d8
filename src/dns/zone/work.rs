//! The steps of one pass, as far as they need no call: what to read, what follows from it, and how it ends.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::state::{Blocked, Entry, FRESH, Rejection, State, steady};
use crate::api::names::{Fqdn, Mark};
use crate::dns::api::{Usage, Write};
use crate::dns::plan::{Op, Refusal};
use crate::dns::record::Record;
use crate::dns::snapshot::Snapshot;
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

/// How long after an unknown outcome a request may still take effect.
const LATE_COMMIT: Duration = Duration::from_secs(30);
/// The shortest time between two looks at the quota.
const QUOTA_EVERY: Duration = Duration::from_mins(1);
/// How long a refused operation is not sent again, however often the zone is listed.
const REJECTED_FOR: Duration = Duration::from_mins(1);

/// Where a pass failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Something could not be read.
    Read,
    /// Something could not be written.
    Write,
}

/// What one pass reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// The whole zone.
    Listing,
    /// These names.
    Names(Vec<Box<str>>),
}

/// What one pass is about.
pub(super) struct Work {
    pub scope: Scope,
    pub priority: Priority,
    /// Whose records may be written, at which generation of the declaration.
    pub owners: HashMap<Mark, u64>,
    /// Not restricted by a block, so that its success lifts one.
    pub full: bool,
}

impl State {
    /// When there is next something to do.
    pub fn next(&self, now: Instant) -> Instant {
        let dirty = self.entries.values().any(|entry| entry.dirty);
        let waiting = dirty || !self.checks.is_empty();
        let flush = |wanted: bool| wanted.then(|| self.pace.flush_at(now));
        let Some(blocked) = self.blocked.as_ref().filter(|blocked| blocked.until > now) else {
            return [Some(self.listing_due), flush(waiting), self.quota_look()]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(now);
        };
        let withdrawing = blocked.cleanup && self.entries.values().any(|entry| entry.dirty && entry.desired.is_empty());
        let mut steps = vec![flush(withdrawing)];
        if blocked.reads {
            steps.extend([Some(self.listing_due), flush(!self.checks.is_empty()), dirty.then_some(blocked.until)]);
        } else {
            steps.push(Some(blocked.until));
        }
        steps.into_iter().flatten().min().unwrap_or(blocked.until)
    }

    /// When the quota is worth another look: while somebody waits for room.
    fn quota_look(&self) -> Option<Instant> {
        let for_room = |rejection: &Rejection| !rejection.retry && matches!(rejection.refusal, Refusal::Quota { .. });
        let (_, at) = self.quota?;
        self.entries.values().any(|entry| entry.rejected.iter().any(for_room)).then(|| at + QUOTA_EVERY)
    }

    /// Whether the next step is to look at the quota.
    pub fn wants_quota(&self, now: Instant) -> bool {
        self.blocked.is_none() && self.quota_look().is_some_and(|at| at <= now)
    }

    /// Takes what is to be done now, if anything is.
    pub fn begin(&mut self, now: Instant) -> Option<Work> {
        let (mut reads, mut writes, mut cleanup_only) = (true, true, false);
        if let Some(blocked) = self.blocked.as_ref().filter(|blocked| blocked.until > now) {
            (reads, writes, cleanup_only) = (blocked.reads, blocked.cleanup, blocked.cleanup);
        }
        let taken = |entry: &Entry| writes && entry.dirty && (!cleanup_only || entry.desired.is_empty());
        let owners: HashMap<Mark, u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| taken(entry))
            .map(|(mark, entry)| (mark.clone(), entry.generation))
            .collect();
        let withdrawing = !owners.is_empty() && owners.keys().all(|mark| self.entries[mark].desired.is_empty());
        let priority = if withdrawing { Priority::Cleanup } else { Priority::Normal };
        let checks = reads && !self.checks.is_empty();

        let unseen = |mark: &Mark| {
            let entry = &self.entries[mark];
            let unknown = self.snapshot.as_ref().is_none_or(|snapshot| snapshot.own(mark).is_empty());
            entry.desired.is_empty() && unknown && self.listed_at.is_none_or(|at| at < entry.declared_at)
        };
        let listing = (reads && self.listing_due <= now)
            || (self.snapshot.is_none() && (!owners.is_empty() || checks))
            || (self.suspect && !owners.is_empty())
            || owners.keys().any(unseen);
        if !listing && owners.is_empty() && !checks {
            return None;
        }
        let scope = if listing {
            Scope::Listing
        } else {
            let mut names = self.names_of(owners.keys());
            if checks {
                names.extend(self.checks.keys().map(|name| Box::from(name.as_str())));
            }
            self.scope(names, now)
        };
        self.pace.began(now);
        Some(Work { scope, priority, owners, full: writes && !cleanup_only })
    }

    /// Whether names are read one by one or the zone is listed.
    pub fn scope(&mut self, mut names: Vec<Box<str>>, now: Instant) -> Scope {
        names.sort_unstable();
        names.dedup();
        let zone = self.snapshot.as_ref().map_or(0, Snapshot::len);
        if self.pace.by_name(names.len(), zone, now) { Scope::Names(names) } else { Scope::Listing }
    }

    /// Every name these owners have or want something at.
    fn names_of<'m>(&self, owners: impl Iterator<Item = &'m Mark>) -> Vec<Box<str>> {
        let mut names = Vec::new();
        for mark in owners {
            let Some(entry) = self.entries.get(mark) else { continue };
            names.extend(entry.desired.iter().map(|record| Box::from(record.name.as_str())));
            if let Some(snapshot) = &self.snapshot {
                let held = snapshot.own(mark).into_iter().chain(snapshot.namesakes(mark));
                names.extend(held.map(|record| record.name.clone()));
            }
        }
        names
    }

    /// The whole zone was read. A listing shows every owner: edits from outside become work of this pass, and what
    /// was refused a while ago gets another chance.
    pub fn listed(&mut self, records: Vec<Record>, work: &mut Work, now: Instant) {
        self.snapshot = Some(Snapshot::of(records));
        self.listed_at = Some(now);
        self.late = self.late.filter(|late| *late > now);
        let resync = now + self.config.resync.mul_f64(0.9 + fastrand::f64() * 0.1);
        self.listing_due = self.late.map_or(resync, |late| late.min(resync));
        self.read_at.clear();
        self.suspect = false;
        let mut entries = std::mem::take(&mut self.entries);
        for (mark, entry) in &mut entries {
            for rejection in entry.rejected.iter_mut().filter(|rejection| now - rejection.at >= REJECTED_FOR) {
                rejection.retry = true;
            }
            if self.plan(mark, entry).is_some_and(|plan| !plan.ops.is_empty()) {
                self.set_dirty(entry, true);
            }
            if work.full {
                work.owners.insert(mark.clone(), entry.generation);
            }
        }
        self.entries = entries;
        self.answer_checks(|_| true);
    }

    /// One name was read.
    pub fn read(&mut self, name: &str, records: Vec<Record>, now: Instant) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.put_name(name, records);
            self.read_at.retain(|_, at| now.duration_since(*at) <= FRESH);
            self.read_at.insert(name.into(), now);
        }
        self.answer_checks(|checked| checked.as_str() == name);
    }

    fn answer_checks(&mut self, answered: impl Fn(&Fqdn) -> bool) {
        let wakes = &self.config.wakes;
        self.checks.retain(|name, waiting| {
            let answered = answered(name);
            if answered {
                for wake in waiting.keys() {
                    drop(wakes.send(wake.clone()));
                }
            }
            !answered
        });
    }

    /// The writes the owners of a pass need, in the order of declaration: those that were never sent, and those that
    /// were refused and get another chance.
    pub fn writes(&mut self, work: &Work) -> (Vec<Write>, Vec<Write>) {
        let current = |(mark, generation): (&Mark, &u64)| {
            let (mark, entry) = self.entries.get_key_value(mark)?;
            (entry.dirty && entry.generation == *generation).then_some((mark, entry))
        };
        let mut owners: Vec<_> = work.owners.iter().filter_map(current).collect();
        owners.sort_by_key(|(_, entry)| entry.sequence);
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for (mark, entry) in owners {
            for op in self.plan(mark, entry).unwrap_or_default().ops {
                let retry = entry.rejection(&op.fingerprint()).map(|rejection| rejection.retry);
                let write = Write { mark: mark.clone(), op };
                match retry {
                    None => fresh.push(write),
                    Some(true) => again.push(write),
                    Some(false) => {}
                }
            }
        }
        self.writing = !fresh.is_empty() || !again.is_empty();
        (fresh, again)
    }

    /// A batch went through.
    pub fn wrote(&mut self, writes: &[Write], changed: Vec<Record>) {
        let Some(snapshot) = &mut self.snapshot else { return };
        let (mut deleted, mut created) = (0, 0);
        for write in writes {
            match &write.op {
                Op::Delete(record) => {
                    snapshot.remove(&record.id);
                    deleted += 1;
                }
                Op::Post(_) => created += 1,
                Op::Patch { .. } => {}
            }
        }
        for record in changed {
            snapshot.put(record);
        }
        if let Some((usage, _)) = &mut self.quota {
            usage.used = (usage.used + created).saturating_sub(deleted);
        }
        if deleted > created {
            self.retry_quota();
        }
    }

    /// An operation was refused by itself, or does not fit.
    pub fn reject(&mut self, write: &Write, refusal: Refusal, now: Instant) {
        let Some(entry) = self.entries.get_mut(&write.mark) else { return };
        let fingerprint = write.op.fingerprint();
        entry.rejected.retain(|rejection| rejection.fingerprint != fingerprint);
        entry.rejected.push(Rejection { fingerprint, refusal, retry: false, at: now });
    }

    /// The quota, if it was looked at within the last minute.
    pub fn quota(&self, now: Instant) -> Option<Usage> {
        self.quota.filter(|(_, at)| now.duration_since(*at) < QUOTA_EVERY).map(|(usage, _)| usage)
    }

    /// The quota was looked at. Where there is room, those that wait for it get another chance.
    pub fn set_quota(&mut self, usage: Usage, now: Instant) {
        self.quota = Some((usage, now));
        if usage.quota.is_none_or(|quota| usage.used < quota) {
            self.retry_quota();
        }
    }

    fn retry_quota(&mut self) {
        for entry in self.entries.values_mut() {
            for rejection in &mut entry.rejected {
                if matches!(rejection.refusal, Refusal::Quota { .. }) && !rejection.retry {
                    rejection.retry = true;
                    if !entry.dirty {
                        entry.dirty = true;
                        self.config.metrics.dns_queue_changed(1);
                    }
                }
            }
        }
    }

    /// Ends a pass that got through: answers its owners.
    pub fn settle(&mut self, work: &Work, now: Instant) {
        self.writing = false;
        let mut open = false;
        let mut entries = std::mem::take(&mut self.entries);
        for (mark, entry) in &mut entries {
            if work.owners.get(mark) == Some(&entry.generation) {
                let plan = self.plan(mark, entry).unwrap_or_default();
                let ops: Vec<_> = plan.ops.iter().map(Op::fingerprint).collect();
                entry.rejected.retain(|rejection| ops.contains(&rejection.fingerprint));
                let left = ops.iter().any(|op| entry.rejection(op).is_none_or(|rejection| rejection.retry));
                self.set_dirty(entry, left);
                open |= left;
            }
        }
        self.pace.ended(open, now);
        if work.full {
            self.set_blocked(None);
        }
        for (mark, entry) in &mut entries {
            if work.scope == Scope::Listing || work.owners.contains_key(mark) {
                self.tell(mark, entry);
            }
        }
        self.entries = entries;
    }

    /// Ends a pass that failed. What was declared stays, and is tried again after a while.
    pub fn fail(&mut self, error: OutsideError, stage: Stage, work: &Work, now: Instant) {
        self.writing = false;
        if matches!(error, OutsideError::Unknown(_)) {
            // Look again before anything else, and once more when nothing can come any more.
            self.suspect = true;
            self.late = Some(now + LATE_COMMIT);
        }
        let frozen = self.config.read_only && stage == Stage::Write;
        let wait = if frozen { self.config.resync } else { self.pace.failed(&error) };
        let cleanup = matches!(error, OutsideError::RateLimited { .. }) && work.priority == Priority::Normal;
        self.set_blocked(Some(Blocked { error, until: now + wait, reads: stage == Stage::Write, cleanup }));
        self.pace.ended(false, now);

        let mut entries = std::mem::take(&mut self.entries);
        for (mark, entry) in entries.iter_mut().filter(|(_, entry)| entry.dirty) {
            self.tell(mark, entry);
        }
        self.entries = entries;
        if stage == Stage::Read {
            for (wake, told) in self.checks.values_mut().flatten().filter(|(_, told)| !**told) {
                *told = true;
                drop(self.config.wakes.send(wake.clone()));
            }
        }
    }

    fn set_blocked(&mut self, blocked: Option<Blocked>) {
        let class = |blocked: &Option<Blocked>| blocked.as_ref().map(|blocked| steady(&blocked.error));
        let changed = class(&self.blocked) != class(&blocked);
        if blocked.is_none() {
            self.pace.succeeded();
        }
        self.blocked = blocked;
        if let Some(wake) = self.config.health_wake.as_ref().filter(|_| changed) {
            drop(self.config.wakes.send(wake.clone()));
        }
    }
}
