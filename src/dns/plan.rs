//! The decision what to write: one owner's desired records against what the zone holds. Pure.
//!
//! Only records that carry the owner's own mark are ever changed or deleted. What a person made, or took over by
//! removing the mark, is named in a refusal and left alone.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::api::names::{Fqdn, Kinship, Mark};
use crate::dns::record::{Content, Desired, Published, Record, TXT_MAX, Value};
use crate::dns::snapshot::Snapshot;

/// Why an owner's records cannot be published as declared. Heals by itself when the cause goes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else's record is at the name.
    Foreign {
        /// The name.
        name: Fqdn,
        /// The type of the record in the way.
        kind: String,
        /// What it says.
        content: String,
        /// Its id at the API.
        record_id: String,
    },
    /// A record of an object of the same kind, namespace and name, but of another UID or cluster.
    AdoptionRequired {
        /// Where that record is.
        name: String,
        /// The `o` to put into the annotation `adopt`.
        owner: String,
        /// The cluster that wrote it.
        cluster: String,
        /// Its id at the API.
        record_id: String,
        /// What it says.
        content: String,
    },
    /// The zone has no room.
    Quota {
        /// Records in the zone.
        used: u64,
        /// Records the zone may have.
        quota: u64,
    },
    /// The API refuses this record, or it can be seen to be impossible.
    Rejected {
        /// The name.
        name: String,
        /// The API's code, or a word of ours (`not-in-zone`, `txt-too-long`).
        code: String,
        /// The API's text, or what would be right.
        message: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { name, kind, content, record_id } => write!(
                f,
                "{name} already has the {kind} record `{content}` (id {record_id}), which Roadstead did not make: \
                 delete it or choose another name"
            ),
            Self::AdoptionRequired { name, owner, cluster, record_id, content } => write!(
                f,
                "{name} has the record `{content}` (id {record_id}) of an earlier object of this name \
                 (cluster {cluster}): annotate this one with `roadstead.dev/adopt: {owner}` to take it over"
            ),
            Self::Quota { used, quota } => write!(
                f,
                "the zone holds {used} of the {quota} records its Cloudflare plan allows: delete records or raise the plan"
            ),
            Self::Rejected { name, code, message } => write!(f, "the record {name} was refused ({code}): {message}"),
        }
    }
}

/// One record operation of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Remove a record of ours.
    Delete(Arc<Record>),
    /// Change a record of ours, keeping its id.
    Patch {
        /// The record as it was seen.
        from: Arc<Record>,
        /// What it becomes.
        to: Desired,
    },
    /// Create a record.
    Post(Desired),
}

impl Op {
    /// The name the operation touches, canonical.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Delete(record) => &record.name,
            Self::Patch { to, .. } | Self::Post(to) => to.name.as_str(),
        }
    }

    /// What distinguishes this operation from any other of its owner, so that a refused one is recognised.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Delete(record) => format!("delete {}", record.id),
            Self::Patch { from, to } => format!("patch {} {}", from.id, fingerprint(to)),
            Self::Post(to) => format!("post {}", fingerprint(to)),
        }
    }
}

fn fingerprint(record: &Desired) -> String {
    let (kind, ttl, proxied) = (record.content.kind(), record.effective_ttl(), record.is_proxied());
    format!("{} {kind} {} {ttl} {proxied}", record.name, record.content)
}

/// What one owner needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OwnerPlan {
    /// The operations that lead from what is to what is wanted.
    pub ops: Vec<Op>,
    /// Why some of what is wanted cannot be.
    pub refusals: Vec<Refusal>,
    /// The wanted records that are in place already.
    pub settled: Vec<Published>,
}

/// A name that goes from one owner to another of the same cluster: its records are the new one's to change, and the old
/// one neither removes them nor makes others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// The `k` of the mark of who had it.
    pub from: String,
    /// The mark of who gets it.
    pub to: Mark,
}

/// The names that are handed over, canonical.
pub type HandOvers = HashMap<Box<str>, HandOver>;

/// Whose records may be touched, and by what authority.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    /// The owner's mark.
    pub mark: &'a Mark,
    /// The `o` of the namesake a person allowed it to take over.
    pub adopt: Option<&'a str>,
    /// The names that are handed over, to it or by it.
    pub handed: &'a HandOvers,
}

impl Claimant<'_> {
    /// Whether this claimant may change a record: its own, its namesake's when that was authorised, or another owner's
    /// at a name that this one gets.
    fn may_touch(&self, record: &Record) -> bool {
        record.mark.as_ref().is_some_and(|other| match self.mark.kinship(other) {
            Kinship::Own => !self.gives(&record.name),
            Kinship::Namesake => self.adopt == Some(other.owner.as_str()),
            Kinship::Stranger => self.gets(record),
        })
    }

    /// Whether it gives this name to another.
    fn gives(&self, name: &str) -> bool {
        self.handed.get(name).is_some_and(|handed| handed.from == self.mark.key && handed.to != *self.mark)
    }

    /// Whether the record is of who gives its name to this claimant.
    fn gets(&self, record: &Record) -> bool {
        let of = |from: &str| {
            let mark = record.mark.as_ref();
            mark.is_some_and(|mark| mark.cluster == self.mark.cluster && mark.key == from)
        };
        self.handed.get(&record.name).is_some_and(|handed| handed.to == *self.mark && of(&handed.from))
    }

    /// The records this claimant holds.
    fn held(&self, snapshot: &Snapshot) -> Vec<Arc<Record>> {
        let mut held = snapshot.own(self.mark);
        held.retain(|record| self.may_touch(record));
        if self.adopt.is_some() {
            held.extend(snapshot.namesakes(self.mark).into_iter().filter(|record| self.may_touch(record)));
        }
        let got = self.handed.iter().filter(|(_, handed)| handed.to == *self.mark);
        let mut got: Vec<_> = got.flat_map(|(name, _)| snapshot.at(name)).filter(|record| self.gets(record)).collect();
        got.sort_by(|a, b| a.id.cmp(&b.id));
        held.extend(got.into_iter().cloned());
        held
    }
}

/// Plans one owner's records in the zone `domain`.
///
/// Guarantees: only records the claimant may touch are patched or deleted; nothing is created at a name where somebody
/// else's record is in the way, nor while a namesake's record waits for adoption; a changed content is one patch that
/// keeps the id, also where the record was another's who hands the name over; a name that this claimant hands over is
/// the other's business; planning again after the operations were applied yields none.
#[must_use]
pub fn plan(claimant: Claimant<'_>, domain: &Fqdn, desired: &[Desired], snapshot: &Snapshot) -> OwnerPlan {
    let mut plan = OwnerPlan::default();
    let mut free = claimant.held(snapshot);
    let mut open = Vec::new();

    let mut wanted: Vec<&Desired> = Vec::with_capacity(desired.len());
    let desired: Vec<&Desired> = desired.iter().filter(|record| !claimant.gives(record.name.as_str())).collect();
    for record in desired.iter().copied() {
        if let Some(refusal) = impossible(record, domain) {
            plan.refusals.push(refusal);
        } else if !wanted.iter().any(|other| other.name == record.name && other.content == record.content) {
            wanted.push(record);
        }
    }

    // Records that already say the right thing keep doing so; only then are the others reused for new content.
    for record in wanted {
        match take(&mut free, |held| same_place(held, record) && held.value.known() == Some(&record.content)) {
            Some(held) => keep_or_patch(claimant.mark, held, record, &mut plan),
            None => open.push(record),
        }
    }
    let waiting = if desired.is_empty() { None } else { adoption(claimant, snapshot) };
    for record in open {
        if let Some(held) = take(&mut free, |held| same_place(held, record)) {
            keep_or_patch(claimant.mark, held, record, &mut plan);
        } else if waiting.is_none() && in_the_way(claimant, record, snapshot).is_none() {
            plan.ops.push(Op::Post(record.clone()));
        }
    }
    plan.ops.extend(free.into_iter().map(Op::Delete));

    plan.refusals.extend(waiting);
    let mut seen: Vec<&str> = Vec::new();
    for record in desired {
        if let Some(refusal) = in_the_way(claimant, record, snapshot) {
            let id = refusal.id.as_ref();
            if !seen.contains(&id) {
                seen.push(id);
                plan.refusals.push(foreign(&record.name, refusal));
            }
        }
    }
    plan
}

/// What is at a name, from one owner's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that would be in the way of an address.
    Free,
    /// The owner's own records.
    Own(Vec<Published>),
    /// Something that is in the way: [`Refusal::Foreign`] or [`Refusal::AdoptionRequired`].
    Taken(Refusal),
}

/// Says what publishing addresses at `name` would meet.
#[must_use]
pub fn standing(claimant: Claimant<'_>, name: &Fqdn, snapshot: &Snapshot) -> Standing {
    if let Some(refusal) = adoption(claimant, snapshot) {
        return Standing::Taken(refusal);
    }
    let here = snapshot.at(name.as_str());
    if let Some(record) = here.iter().find(|record| !claimant.may_touch(record) && blocks_address(&record.value)) {
        return Standing::Taken(foreign(name, record));
    }
    let own: Vec<_> =
        here.iter().filter(|record| claimant.may_touch(record)).filter_map(|record| published(name, record)).collect();
    if own.is_empty() { Standing::Free } else { Standing::Own(own) }
}

/// A record that could never be published, whatever the zone holds.
fn impossible(record: &Desired, domain: &Fqdn) -> Option<Refusal> {
    let reject = |code: &str, message: String| {
        Some(Refusal::Rejected { name: record.name.to_string(), code: code.to_owned(), message })
    };
    if !record.name.is_within(domain) {
        return reject("not-in-zone", format!("it is not within {domain}"));
    }
    match &record.content {
        Content::Txt(text) if text.len() > TXT_MAX => {
            reject("txt-too-long", format!("its text has {} bytes, {TXT_MAX} are allowed", text.len()))
        }
        _ => None,
    }
}

/// A namesake's record nobody authorised us to take over.
fn adoption(claimant: Claimant<'_>, snapshot: &Snapshot) -> Option<Refusal> {
    let namesakes = snapshot.namesakes(claimant.mark);
    let record = namesakes.iter().find(|record| !claimant.may_touch(record))?;
    let mark = record.mark.as_ref()?;
    Some(Refusal::AdoptionRequired {
        name: record.name.to_string(),
        owner: mark.owner.clone(),
        cluster: mark.cluster.as_str().to_owned(),
        record_id: record.id.to_string(),
        content: record.value.text(),
    })
}

/// Somebody else's record that `record` cannot live beside.
fn in_the_way<'s>(claimant: Claimant<'_>, record: &Desired, snapshot: &'s Snapshot) -> Option<&'s Arc<Record>> {
    let blocks = |value: &Value| match record.content {
        Content::Txt(_) => matches!(value.kind(), "TXT" | "CNAME" | "NS"),
        Content::A(_) | Content::Aaaa(_) => blocks_address(value),
    };
    // A namesake's record has its own refusal, which says what to do about it.
    let foreign = |other: &Record| {
        let stranger = other.mark.as_ref().is_none_or(|mark| claimant.mark.kinship(mark) == Kinship::Stranger);
        stranger && !claimant.may_touch(other)
    };
    snapshot
        .at(record.name.as_str())
        .iter()
        .filter(|other| foreign(other) && blocks(&other.value))
        .min_by_key(|r| &r.id)
}

/// Clients prefer AAAA over A, a CNAME excludes every other type, and an NS takes the name out of the zone.
fn blocks_address(value: &Value) -> bool {
    matches!(value.kind(), "A" | "AAAA" | "CNAME" | "NS")
}

fn foreign(name: &Fqdn, record: &Record) -> Refusal {
    Refusal::Foreign {
        name: name.clone(),
        kind: record.value.kind().to_owned(),
        content: record.value.text(),
        record_id: record.id.to_string(),
    }
}

fn same_place(held: &Record, wanted: &Desired) -> bool {
    *held.name == *wanted.name.as_str() && held.value.kind() == wanted.content.kind().as_str()
}

/// Takes the first match, in the order of the list.
fn take(records: &mut Vec<Arc<Record>>, mut matches: impl FnMut(&Record) -> bool) -> Option<Arc<Record>> {
    let found = records.iter().position(|record| matches(record))?;
    Some(records.remove(found))
}

fn keep_or_patch(mark: &Mark, held: Arc<Record>, wanted: &Desired, plan: &mut OwnerPlan) {
    let as_wanted = held.value.known() == Some(&wanted.content)
        && held.ttl == wanted.effective_ttl()
        && held.proxied == wanted.is_proxied()
        && held.mark.as_ref() == Some(mark);
    if as_wanted {
        plan.settled.extend(published(&wanted.name, &held));
    } else {
        plan.ops.push(Op::Patch { from: held, to: wanted.clone() });
    }
}

fn published(name: &Fqdn, record: &Record) -> Option<Published> {
    let content = record.value.known()?.clone();
    Some(Published { id: record.id.to_string(), name: name.clone(), content, ttl: record.ttl, proxied: record.proxied })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
