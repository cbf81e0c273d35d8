//! What the writer of a zone knows and what is wanted of it. No I/O: every answer is a pure function of this value.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use super::{Checked, Declared, OwnedRecords, Owner, ZoneConfig, ZoneHealth};
use crate::api::names::{Fqdn, Mark};
use crate::dns::api::Usage;
use crate::dns::plan::{self, Claimant, HandOver, HandOvers, OwnerPlan, Refusal, Standing};
use crate::dns::record::{Desired, Record};
use crate::dns::snapshot::Snapshot;
use crate::outside::OutsideError;

/// How old a reading may be to answer a check, or to say that nothing of an owner is there.
pub(super) const FRESH: Duration = Duration::from_mins(1);

/// One owner's declaration.
pub(super) struct Entry {
    wake: String,
    pub desired: Vec<Desired>,
    /// Unique to this declaration, so that what was learned for an older one is not taken for this one.
    pub generation: u64,
    /// The order of first declaration: who came first gets the last free record of the quota.
    pub sequence: u64,
    pub declared_at: Instant,
    /// Something must be read or written before there is an answer.
    pub dirty: bool,
    pub rejected: Vec<Rejection>,
    /// What the owner was last told.
    told: Declared,
}

/// An operation the API refused by itself.
pub(super) struct Rejection {
    pub fingerprint: String,
    pub refusal: Refusal,
    /// Whether it may be sent once more.
    pub retry: bool,
    pub at: Instant,
}

/// Why nothing goes on.
pub(super) struct Blocked {
    pub error: OutsideError,
    pub until: Instant,
    /// Reading works: checks and listings go on.
    pub reads: bool,
    /// Withdrawals may still use the reserve of the budget.
    pub cleanup: bool,
}

/// Everything the writer knows and is asked for.
pub(super) struct State {
    pub(super) config: ZoneConfig,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) listed_at: Option<Instant>,
    pub(super) listing_due: Instant,
    /// When single names were last read.
    pub(super) read_at: HashMap<Box<str>, Instant>,
    pub(super) entries: HashMap<Mark, Entry>,
    pub(super) adoptions: HashMap<Mark, String>,
    /// Names that go from one owner to another, for as long as the other declares them.
    pub(super) handed: HandOvers,
    /// Names to be looked at, for whom, and whether they were told that it does not work now.
    pub(super) checks: HashMap<Fqdn, HashMap<String, bool>>,
    pub(super) blocked: Option<Blocked>,
    pub(super) pace: Pace,
    /// A pass is writing: the snapshot settles nothing.
    pub(super) writing: bool,
    /// The outcome of a write is unknown and the zone was not listed since: the snapshot settles nothing.
    pub(super) suspect: bool,
    /// Until when a write of unknown outcome may still take effect.
    pub(super) late: Option<Instant>,
    pub(super) quota: Option<(Usage, Instant)>,
    pub(super) token_version: Option<String>,
    pub(super) sequence: u64,
}

impl State {
    pub fn new(config: &ZoneConfig) -> Self {
        Self {
            config: config.clone(),
            snapshot: None,
            listed_at: None,
            listing_due: Instant::now(),
            read_at: HashMap::new(),
            entries: HashMap::new(),
            adoptions: HashMap::new(),
            handed: HandOvers::new(),
            checks: HashMap::new(),
            blocked: None,
            pace: Pace::default(),
            writing: false,
            suspect: false,
            late: None,
            quota: None,
            token_version: None,
            sequence: 0,
        }
    }

    // What the handle asks.

    pub fn declare(&mut self, owner: &Owner, desired: Vec<Desired>, now: Instant) -> Declared {
        self.sequence += 1;
        let sequence = self.sequence;
        let mut entry = self.entries.remove(&owner.mark).unwrap_or_else(|| Entry {
            wake: owner.wake.clone(),
            desired: Vec::new(),
            generation: 0,
            sequence,
            declared_at: now,
            dirty: false,
            rejected: Vec::new(),
            told: Declared::Pending,
        });
        entry.wake.clone_from(&owner.wake);
        let declared = |name: &str| desired.iter().any(|record| record.name.as_str() == name);
        self.handed.retain(|name, handed| handed.to != owner.mark || declared(name));
        let same = entry.generation > 0 && entry.desired == desired;
        if !same {
            entry.generation = self.sequence;
            entry.desired = desired;
            entry.declared_at = now;
            if !entry.dirty {
                let in_place = |plan: OwnerPlan| plan.ops.is_empty() && plan.refusals.is_empty();
                let settled = self.plan(&owner.mark, &entry).is_some_and(in_place)
                    && (!entry.desired.is_empty() || self.saw_nothing_of(&entry));
                self.set_dirty(&mut entry, self.writing || self.suspect || !settled);
            }
            if entry.dirty {
                self.pace.change(now);
            }
        }
        if !entry.dirty {
            self.config.metrics.dns_noop();
        }
        let answer = self.answer(&owner.mark, &entry);
        entry.told = answer.clone();
        self.entries.insert(owner.mark.clone(), entry);
        answer
    }

    pub fn check(&mut self, owner: &Owner, name: &Fqdn, now: Instant) -> Checked {
        let read = self.listed_at.max(self.read_at.get(name.as_str()).copied());
        if let Some(snapshot) = &self.snapshot
            && read.is_some_and(|at| now.duration_since(at) <= FRESH)
        {
            return match plan::standing(self.claimant(&owner.mark), name, snapshot) {
                Standing::Free => Checked::Free,
                Standing::Own(records) => Checked::Own(records),
                Standing::Taken(refusal) => Checked::Taken(refusal),
            };
        }
        let blocked = self.blocked.as_ref().filter(|blocked| !blocked.reads).map(|blocked| blocked.error.clone());
        let waiting = self.checks.entry(name.clone()).or_default();
        if waiting.insert(owner.wake.clone(), blocked.is_some()).is_none() {
            self.pace.change(now);
        }
        blocked.map_or(Checked::Pending, Checked::Blocked)
    }

    pub fn adopt(&mut self, mark: &Mark, from: &str, now: Instant) {
        if self.adoptions.insert(mark.clone(), from.to_owned()).as_deref() == Some(from) {
            return;
        }
        if let Some(mut entry) = self.entries.remove(mark) {
            self.set_dirty(&mut entry, true);
            self.entries.insert(mark.clone(), entry);
            self.pace.change(now);
        }
    }

    /// `to` gets a name with its next declaration, if that has it.
    pub fn hand_over(&mut self, name: &Fqdn, from: &str, to: &Mark, now: Instant) {
        let handed = HandOver { from: from.to_owned(), to: to.clone() };
        if self.handed.get(name.as_str()) == Some(&handed) {
            return;
        }
        self.handed.insert(name.as_str().into(), handed);
        // What it declared already may not have been possible without.
        if let Some(mut entry) = self.entries.remove(to) {
            if entry.desired.iter().any(|record| record.name == *name) {
                self.set_dirty(&mut entry, true);
                self.pace.change(now);
            }
            self.entries.insert(to.clone(), entry);
        }
    }

    pub fn forget(&mut self, mark: &Mark) {
        self.adoptions.remove(mark);
        self.handed.retain(|_, handed| handed.to != *mark);
        if let Some(mut entry) = self.entries.remove(mark) {
            self.set_dirty(&mut entry, false);
        }
    }

    pub fn refresh(&mut self) {
        self.listing_due = Instant::now();
    }

    /// Whether the version is a new one. If so, whatever was blocked is tried at once.
    pub fn new_token(&mut self, version: &str) -> bool {
        let new = self.token_version.as_deref() != Some(version);
        if new {
            self.token_version = Some(version.to_owned());
            if let Some(blocked) = &mut self.blocked {
                blocked.until = Instant::now();
            }
        }
        new
    }

    pub fn owned_records(&self, now: Instant) -> Option<OwnedRecords> {
        let marked = |record: &std::sync::Arc<Record>| Some((record.mark.clone()?, Record::clone(record)));
        let records = self.snapshot.as_ref()?.marked().filter_map(marked).collect();
        Some(OwnedRecords { listed_ago: now.duration_since(self.listed_at?), records })
    }

    pub fn health(&self, now: Instant) -> ZoneHealth {
        ZoneHealth {
            token_version: self.token_version.clone(),
            listed_ago: self.listed_at.map(|at| now.duration_since(at)),
            records: self.snapshot.as_ref().map_or(0, Snapshot::len),
            blocked: self.blocked.as_ref().map(|blocked| blocked.error.clone()),
        }
    }

    // How an owner stands.

    pub(super) fn claimant<'a>(&'a self, mark: &'a Mark) -> Claimant<'a> {
        Claimant { mark, adopt: self.adoptions.get(mark).map(String::as_str), handed: &self.handed }
    }

    /// What an owner needs; `None` before the zone was first read.
    pub(super) fn plan(&self, mark: &Mark, entry: &Entry) -> Option<OwnerPlan> {
        let snapshot = self.snapshot.as_ref()?;
        Some(plan::plan(self.claimant(mark), &self.config.domain, &entry.desired, snapshot))
    }

    fn answer(&self, mark: &Mark, entry: &Entry) -> Declared {
        let waiting = || self.blocked.as_ref().map_or(Declared::Pending, |b| Declared::Blocked(b.error.clone()));
        let Some(mut plan) = self.plan(mark, entry) else { return waiting() };
        let mut rejections = plan.ops.iter().map(|op| entry.rejection(&op.fingerprint()));
        let rejected = rejections.next().flatten().filter(|_| rejections.all(|rejection| rejection.is_some()));
        if entry.dirty && rejected.is_none() {
            return waiting();
        }
        let rejected = plan.ops.iter().find_map(|op| entry.rejection(&op.fingerprint()));
        if !plan.refusals.is_empty() {
            Declared::Refused(plan.refusals.swap_remove(0))
        } else if let Some(rejection) = rejected {
            Declared::Refused(rejection.refusal.clone())
        } else {
            Declared::Applied(plan.settled)
        }
    }

    /// Wakes an owner whose answer is another than it was told.
    pub(super) fn tell(&self, mark: &Mark, entry: &mut Entry) {
        let answer = self.answer(mark, entry);
        let same = match (&answer, &entry.told) {
            (Declared::Blocked(now), Declared::Blocked(then)) => steady(now) == steady(then),
            (now, then) => now == then,
        };
        if !same {
            entry.told = answer;
            drop(self.config.wakes.send(entry.wake.clone()));
        }
    }

    pub(super) fn set_dirty(&self, entry: &mut Entry, dirty: bool) {
        if entry.dirty != dirty {
            self.config.metrics.dns_queue_changed(if dirty { 1 } else { -1 });
            entry.dirty = dirty;
        }
    }

    /// Whether a complete listing that is fresh for this declaration stands behind "nothing of it is there".
    pub(super) fn saw_nothing_of(&self, entry: &Entry) -> bool {
        !self.suspect && self.listed_at.is_some_and(|at| at + FRESH >= entry.declared_at)
    }
}

impl Entry {
    pub(super) fn rejection(&self, fingerprint: &str) -> Option<&Rejection> {
        self.rejected.iter().find(|rejection| rejection.fingerprint == fingerprint)
    }
}

/// An error without what changes from call to call, so that an unchanged state wakes nobody.
pub(super) fn steady(error: &OutsideError) -> OutsideError {
    match error {
        OutsideError::RateLimited { .. } => OutsideError::RateLimited { after: Duration::ZERO },
        other => other.clone(),
    }
}
