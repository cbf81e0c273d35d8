//! The status that follows from what was seen, and what people are told about its changes (pure). The servers and their
//! counts are not touched here: they have a writer of their own.

use jiff::Timestamp;

use super::observe::Observed;
use super::plan::{Facts, is_of_worker, names};
use super::publish::Names;
use super::worker::{self, report::WORKER_READY};
use crate::api::condition::{self, Desired, READY, STALLED};
use crate::api::names::Fqdn;
use crate::api::probe::ProbeType;
use crate::api::server_group::{AddressesStatus, ServerGroupStatus, TxtStatus};
use crate::controllers::{phase, set_paused, set_ready};
use crate::dns::{self, Content, Declared, Refusal};
use crate::runtime::claims::Reservation;
use crate::runtime::driver::Outcome;
use crate::runtime::events::Note;

/// Every probe failed, and the last good servers stay published.
pub const FROZEN: &str = "Frozen";
/// The prober cannot reach anything.
pub const ISOLATED: &str = "ProberIsolated";
/// Not all healthy servers are published.
pub const TRUNCATED: &str = "Truncated";

/// The message of the condition `Paused`.
pub const PAUSED: &str = "paused by the annotation roadstead.dev/paused: what is published stays as it is";

/// The group's status after a pass that ended so.
#[must_use]
pub fn status(seen: &Observed, facts: &Facts, outcome: &Outcome, now: Timestamp) -> ServerGroupStatus {
    let mut status = seen.status.clone();
    let generation = seen.group.metadata.generation;
    let was_current = status.observed_generation == generation;
    if matches!(outcome, Outcome::Waiting(w) if w.reason == "Paused") {
        // A paused group keeps everything it said, its generation included: nobody looked at the new spec.
        set_paused(&mut status.conditions, PAUSED, generation, now);
        return status;
    }
    condition::remove(&mut status.conditions, "Paused");
    status.observed_generation = generation;
    let names = names(seen).ok();
    published(seen, facts, names.as_ref(), &mut status);
    if let Some(names) = names {
        status.slug = Some(names.slug);
    }
    worker::report::status(seen, facts, &mut status, now);
    for (type_, said) in [(FROZEN, frozen(seen)), (ISOLATED, isolated(seen)), (TRUNCATED, truncated(seen))] {
        match said.filter(|_| !seen.deleting()) {
            Some((reason, message)) => {
                condition::set(&mut status.conditions, Desired::yes(type_, reason, message), generation, now);
            }
            None => condition::remove(&mut status.conditions, type_),
        }
    }
    if let Some(journal) = status.journal.as_mut()
        && (matches!(outcome, Outcome::Done) || !was_current)
    {
        (journal.attempts, journal.not_before) = (None, None);
    }
    status.journal.take_if(|journal| *journal == crate::api::status::Journal::default());
    let was_ready = was_current && !seen.deleting() && condition::is_true(&seen.status.conditions, READY);
    set_ready(&mut status.conditions, outcome, was_ready, || in_place(seen), generation, now);
    status.phase = Some(phase(seen.deleting(), &status.conditions).to_owned());
    status
}

/// What the zone's writer says is in place.
fn published(seen: &Observed, facts: &Facts, names: Option<&Names>, status: &mut ServerGroupStatus) {
    let in_place = |declared: &[dns::Desired], answer: &Declared| match answer {
        Declared::Applied(_) => true,
        Declared::Refused(refusal) => names.is_some_and(|names| is_of_worker(refusal, declared, names)),
        Declared::Pending | Declared::Blocked(_) => false,
    };
    match &facts.declared {
        // What is being withdrawn stays named: its claim is still to be given back.
        Some((wanted, answer)) if in_place(wanted, answer) && (!wanted.is_empty() || !seen.deleting()) => {
            let text = |record: &dns::Desired| match &record.content {
                Content::Txt(text) => {
                    Some(TxtStatus { name: record.name.to_string(), content: text.clone(), ttl: record.ttl.into() })
                }
                Content::A(_) | Content::Aaaa(_) => None,
            };
            let list = wanted.iter().find_map(text);
            let is_text = |record: &dns::Desired| matches!(record.content, Content::Txt(_));
            let at = |name: &Fqdn| {
                let name = name.clone();
                wanted.iter().filter(move |record| record.name == name && !is_text(record))
            };
            let addresses = seen.address_name().map(|name| AddressesStatus {
                hostname: name.to_string(),
                addresses: at(&name).map(|record| record.content.to_string()).collect(),
                ttl: seen.group.spec.dns.ttl,
            });
            // A name that is not asked for any more stays named as well, until its claim was given back: nothing else
            // knows of it.
            let is_held = |former: &str, name: Option<&str>| {
                let claim = Fqdn::parse(former).map(|former| Reservation::of_name(&former).name);
                name != Some(former) && claim.is_ok_and(|claim| !facts.released.contains(&claim))
            };
            let name = list.as_ref().map(|txt| txt.name.as_str());
            if !status.txt.as_ref().is_some_and(|txt| is_held(&txt.name, name)) {
                status.txt = list;
            }
            let name = addresses.as_ref().map(|a| a.hostname.as_str());
            if !status.a.as_ref().is_some_and(|a| is_held(&a.hostname, name)) {
                status.a = addresses;
            }
        }
        Some((_, Declared::Refused(Refusal::Foreign { name, .. }))) => {
            let name = name.as_str();
            status.txt.take_if(|txt| txt.name == name);
            status.a.take_if(|a| a.hostname == name);
        }
        _ => {}
    }
}

type Said = Option<(&'static str, String)>;

fn frozen(seen: &Observed) -> Said {
    let message = "the probes of all servers fail, so those that were healthy last stay published: an outage of all of \
                   them, or of the way to them. status.members says what the probes met";
    seen.selection.frozen.then(|| ("AllProbesFailed", message.to_owned()))
}

fn isolated(seen: &Observed) -> Said {
    let probes = seen.group.spec.probe.type_ != ProbeType::None;
    let message = "the operator's own network is down, so no verdict changes until it is back";
    (seen.isolated && probes).then(|| ("NetworkDown", message.to_owned()))
}

fn truncated(seen: &Observed) -> Said {
    let spec = &seen.group.spec;
    if seen.roster.cut {
        let message =
            "a group has at most 500 servers: those beyond are neither probed nor published; make a second one";
        return Some(("TooManyMembers", message.to_owned()));
    }
    let message = "not every healthy server fits into one TXT record of 2048 bytes: the list ends where the next would not \
                   fit; make a second group, or use spec.dns.a";
    let cut = spec.dns.txt && seen.selection.list(spec.strategy).cut;
    cut.then(|| ("ListTooLong", message.to_owned()))
}

/// What Ready says of a group that is published as computed.
fn in_place(seen: &Observed) -> Desired {
    let at = match (seen.group.spec.dns.txt, seen.address_name()) {
        (true, _) => seen.list_name(&seen.slug()).map(|name| name.to_string()).unwrap_or_default(),
        (false, Some(name)) => name.to_string(),
        (false, None) if seen.group.spec.slb.is_some() => {
            return Desired::yes(READY, "Ready", "the Worker spreads requests over the healthy servers");
        }
        (false, None) => return Desired::yes(READY, "NotPublished", "the spec asks for nothing to be published"),
    };
    if seen.selection.frozen {
        return Desired::yes(READY, FROZEN, format!("{at} keeps the servers that were healthy last"));
    }
    if seen.selection.servers.is_empty() {
        return Desired::yes(READY, "NoHealthyServers", format!("no server is healthy, and {at} says so"));
    }
    Desired::yes(READY, "Ready", format!("{at} names the healthy servers"))
}

/// What to tell people about the way from the `old` status to the `new` one.
#[must_use]
pub fn notes(old: &ServerGroupStatus, new: &ServerGroupStatus) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    if let (Some(from), Some(to)) = (&old.slug, &new.slug)
        && from != to
    {
        notes.push(Note::normal("SlugChanged", format!("`{from}` is taken by another group; this is now `{to}`")));
    }
    for (type_, warning) in
        [(READY, false), (WORKER_READY, false), (STALLED, true), (FROZEN, true), (ISOLATED, true), (TRUNCATED, true)]
    {
        let is = |status: &ServerGroupStatus| {
            condition::get(&status.conditions, type_).filter(|c| c.status == "True").cloned()
        };
        let (before, Some(now)) = (is(old), is(new)) else { continue };
        if before.is_none_or(|before| before.reason != now.reason) {
            notes.push(Note { warning, reason: now.reason, message: now.message });
        }
    }
    if condition::is_true(&old.conditions, FROZEN) && !condition::is_true(&new.conditions, FROZEN) {
        notes.push(Note::normal("Thawed", "the healthy servers alone are published again"));
    }
    notes
}
