//! The droplets, tags and actions of one account, with the indexes that keep 5,000 of them quick.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::addresses::Pool;
use super::droplet::{Action, Droplet, Effect, Removal, WHEN_DONE};
use super::error::ApiError;
use super::settings::{Settings, after};
use crate::vms::Report;

/// A tag and what carries it. The first spelling is canonical.
#[derive(Debug)]
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) droplets: BTreeSet<u64>,
}

/// Which droplets a listing shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Filter<'a> {
    All,
    Tag(&'a str),
    Name(&'a str),
}

/// Droplets by id, with their names, tags and actions.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    droplets: BTreeMap<u64, Droplet>,
    /// By lower-case name, for the exact but case-insensitive filter.
    names: HashMap<String, BTreeSet<u64>>,
    /// By lower-case name; the URL of a tag needs its canonical spelling.
    tags: BTreeMap<String, Tag>,
    actions: BTreeMap<u64, Action>,
    actions_of: HashMap<u64, Vec<u64>>,
    /// Droplets on their way out, by the time something about them ends.
    departures: BTreeSet<(Timestamp, u64)>,
    /// Droplets whose action has yet to take effect.
    arrivals: BTreeSet<(Timestamp, u64)>,
    /// How many entries are gone and only still listed.
    lingering: usize,
}

impl Fleet {
    /// Brings everything that is due by `now` about: effects of actions, freed addresses, dropped list entries.
    pub(super) fn settle(&mut self, now: Timestamp, public: &mut Pool, private: &mut Pool) {
        while self.arrivals.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, id)) = self.arrivals.pop_first() else {
                break;
            };
            self.finish(id);
        }
        while self.departures.first().is_some_and(|(due, _)| *due <= now) {
            let Some((due, id)) = self.departures.pop_first() else {
                break;
            };
            let Some(droplet) = self.droplets.get(&id) else {
                continue;
            };
            let Some(removal) = droplet.removal else {
                continue;
            };
            if removal.gone_at == due {
                // Only given back, not taken off the entry: a listing that runs behind still shows it.
                public.give_back(droplet.public4);
                private.give_back(droplet.private4);
                self.lingering += 1;
            }
            if removal.unlisted_at <= due {
                self.drop_entry(id);
                self.lingering -= 1;
            }
        }
    }

    fn finish(&mut self, id: u64) {
        let Some(droplet) = self.droplets.get_mut(&id) else {
            return;
        };
        match droplet.pending.take().map(|pending| pending.effect) {
            Some(Effect::Power(power)) => droplet.power = power,
            Some(Effect::Rename(name)) => self.rename(id, &name),
            Some(Effect::EnableIpv6) => {
                droplet.public6 = Some(Droplet::ipv6(id));
                droplet.features.push("ipv6");
            }
            Some(Effect::None) | None => {}
        }
    }

    fn drop_entry(&mut self, id: u64) {
        let Some(droplet) = self.droplets.remove(&id) else {
            return;
        };
        self.unindex_name(&droplet.name, id);
        for tag in &droplet.tags {
            if let Some(entry) = self.tags.get_mut(&tag.to_lowercase()) {
                entry.droplets.remove(&id);
            }
        }
    }

    fn unindex_name(&mut self, name: &str, id: u64) {
        let key = name.to_lowercase();
        if let Some(ids) = self.names.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.names.remove(&key);
            }
        }
    }

    /// Adds a droplet whose tags are already canonical (see [`Fleet::ensure_tag`]).
    pub(super) fn insert(&mut self, droplet: Droplet) {
        let id = droplet.id;
        self.names.entry(droplet.name.to_lowercase()).or_default().insert(id);
        for tag in &droplet.tags {
            if let Some(entry) = self.tags.get_mut(&tag.to_lowercase()) {
                entry.droplets.insert(id);
            }
        }
        if let Some(pending) = &droplet.pending {
            self.arrivals.insert((pending.until, id));
        }
        self.droplets.insert(id, droplet);
    }

    /// The droplet with this id, unless it is gone.
    pub(super) fn get(&self, id: u64, now: Timestamp) -> Result<&Droplet, ApiError> {
        self.droplets.get(&id).filter(|droplet| droplet.exists(now)).ok_or_else(ApiError::not_found)
    }

    pub(super) fn get_mut(&mut self, id: u64, now: Timestamp) -> Result<&mut Droplet, ApiError> {
        self.droplets.get_mut(&id).filter(|droplet| droplet.exists(now)).ok_or_else(ApiError::not_found)
    }

    /// Every droplet that is not gone, by id, listed or not.
    pub(super) fn existing(&self, now: Timestamp) -> impl Iterator<Item = &Droplet> {
        self.droplets.values().filter(move |droplet| droplet.exists(now))
    }

    /// How many droplets are not gone, as of the last [`Fleet::settle`].
    pub(super) fn count(&self) -> usize {
        self.droplets.len() - self.lingering
    }

    /// What a listing shows, by id.
    pub(super) fn listed(&self, filter: Filter<'_>, now: Timestamp) -> Vec<&Droplet> {
        let by_ids = |ids: Option<&BTreeSet<u64>>| -> Vec<&Droplet> {
            let found = ids.into_iter().flatten().filter_map(|id| self.droplets.get(id));
            found.filter(|droplet| droplet.is_listed(now)).collect()
        };
        match filter {
            Filter::All => self.droplets.values().filter(|droplet| droplet.is_listed(now)).collect(),
            Filter::Name(name) => by_ids(self.names.get(&name.to_lowercase())),
            Filter::Tag(tag) => {
                let entry = self.tags.get(&tag.to_lowercase()).filter(|entry| entry.name == tag);
                let mut found = by_ids(entry.map(|entry| &entry.droplets));
                found.retain(|droplet| droplet.tagged_at <= now);
                found
            }
        }
    }

    /// Changes the name at once.
    pub(super) fn rename(&mut self, id: u64, name: &str) {
        let Some(droplet) = self.droplets.get_mut(&id) else {
            return;
        };
        let former = std::mem::replace(&mut droplet.name, name.to_owned());
        self.unindex_name(&former, id);
        self.names.entry(name.to_lowercase()).or_default().insert(id);
    }

    /// Starts the way out of a droplet.
    pub(super) fn remove(&mut self, id: u64, removal: Removal) {
        if let Some(droplet) = self.droplets.get_mut(&id) {
            droplet.removal = Some(removal);
            self.departures.insert((removal.gone_at, id));
            self.departures.insert((removal.unlisted_at, id));
        }
    }

    /// Schedules the effect of the droplet's pending action.
    pub(super) fn expect_effect(&mut self, id: u64, due: Timestamp) {
        self.arrivals.insert((due, id));
    }

    /// Ends, at `now`, what waited for the job that a VM reports as over. One that failed leaves a droplet as it was:
    /// `new` for ever, if it is the job that should have started it.
    pub(super) fn conclude(&mut self, report: &Report, now: Timestamp, settings: &Settings) {
        let id = report.vm;
        let Some(droplet) = self.droplets.get_mut(&id) else {
            return;
        };
        for action in self.actions_of.get(&id).into_iter().flatten() {
            if let Some(action) = self.actions.get_mut(action)
                && action.completes_at == WHEN_DONE
                && (action.kind == "destroy") == report.destroyed
            {
                action.completes_at = now;
                action.errored = !report.done;
            }
        }
        if report.destroyed {
            if !self.departures.remove(&(WHEN_DONE, id)) {
                return;
            }
            droplet.removal = None;
            if report.done {
                self.remove(id, Removal { gone_at: now, unlisted_at: after(now, settings.linger_ms) });
            }
        } else if self.arrivals.remove(&(WHEN_DONE, id)) {
            if !report.done {
                droplet.pending = None;
                return;
            }
            if let Some(pending) = &mut droplet.pending {
                pending.until = now;
            }
            if droplet.active_at == WHEN_DONE {
                droplet.active_at = now;
                droplet.addressed_at = after(now, settings.address_after_ms);
            }
            self.arrivals.insert((now, id));
        }
    }

    /// The canonical spelling of a tag, which is created if there is none of that name in any capitalization.
    pub(super) fn ensure_tag(&mut self, name: &str) -> String {
        let entry = self
            .tags
            .entry(name.to_lowercase())
            .or_insert_with(|| Tag { name: name.to_owned(), droplets: BTreeSet::new() });
        entry.name.clone()
    }

    /// The tag of exactly this spelling.
    pub(super) fn tag(&self, name: &str) -> Result<&Tag, ApiError> {
        self.tags.get(&name.to_lowercase()).filter(|tag| tag.name == name).ok_or_else(ApiError::not_found)
    }

    /// All tags by name.
    pub(super) fn all_tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.values()
    }

    /// Deletes a tag and takes it off everything that carries it.
    pub(super) fn delete_tag(&mut self, name: &str) -> Result<(), ApiError> {
        self.tag(name)?;
        if let Some(tag) = self.tags.remove(&name.to_lowercase()) {
            for id in tag.droplets {
                if let Some(droplet) = self.droplets.get_mut(&id) {
                    droplet.tags.retain(|held| *held != tag.name);
                }
            }
        }
        Ok(())
    }

    /// Puts an existing tag on a droplet.
    pub(super) fn put_on(&mut self, tag: &str, id: u64) {
        if let Some(entry) = self.tags.get_mut(&tag.to_lowercase())
            && let Some(droplet) = self.droplets.get_mut(&id)
        {
            entry.droplets.insert(id);
            if !droplet.tags.contains(&entry.name) {
                droplet.tags.push(entry.name.clone());
            }
        }
    }

    /// Takes a tag off a droplet.
    pub(super) fn take_off(&mut self, tag: &str, id: u64) {
        if let Some(entry) = self.tags.get_mut(&tag.to_lowercase()) {
            entry.droplets.remove(&id);
            if let Some(droplet) = self.droplets.get_mut(&id) {
                droplet.tags.retain(|held| *held != entry.name);
            }
        }
    }

    pub(super) fn add_action(&mut self, action: Action) {
        self.actions_of.entry(action.droplet).or_default().push(action.id);
        self.actions.insert(action.id, action);
    }

    pub(super) fn action(&self, id: u64) -> Result<&Action, ApiError> {
        self.actions.get(&id).ok_or_else(ApiError::not_found)
    }

    /// The actions of one droplet, newest first.
    pub(super) fn actions_of(&self, droplet: u64) -> Vec<&Action> {
        let ids = self.actions_of.get(&droplet).into_iter().flatten().rev();
        ids.filter_map(|id| self.actions.get(id)).collect()
    }

    /// All actions of the account, newest first.
    pub(super) fn all_actions(&self) -> Vec<&Action> {
        self.actions.values().rev().collect()
    }
}
