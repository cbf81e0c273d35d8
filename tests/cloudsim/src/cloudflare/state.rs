//! Everything behind the simulated Cloudflare, and what a person with its dashboard does: at once, without token, limit
//! or journal.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::history::History;
use super::limits::{Limits, Used};
use super::rules::{self, Draft, Refusal};
use super::workers::Workers;
use crate::clock::Clock;

/// A plan, as far as records are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Free, made since September 2024: 200 records.
    Free,
    /// Free, made before: 1,000 records.
    FreeOld,
    /// Pro: 3,500 records.
    Pro,
}

impl Plan {
    pub(super) fn legacy_id(self) -> &'static str {
        if self == Self::Pro { "pro" } else { "free" }
    }

    pub(super) fn quota(self) -> usize {
        match self {
            Self::Free => 200,
            Self::FreeOld => 1_000,
            Self::Pro => 3_500,
        }
    }

    pub(super) fn batch(self) -> usize {
        if self == Self::Pro { 3_500 } else { 200 }
    }

    pub(super) fn comment(self) -> usize {
        if self == Self::Pro { 500 } else { 100 }
    }
}

/// A zone to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSpec {
    /// Its domain.
    pub name: String,
    /// Its plan.
    #[serde(default = "pro")]
    pub plan: Plan,
    /// Name of its account.
    #[serde(default = "main")]
    pub account: String,
    /// Another limit of records than the plan's.
    #[serde(default)]
    pub quota: Option<usize>,
    /// Names it refuses, on grounds that no client can see beforehand.
    #[serde(default)]
    pub refused: Vec<String>,
}

fn pro() -> Plan {
    Plan::Pro
}

fn main() -> String {
    "main".to_owned()
}

/// A token to make, or to put in the place of the one of this value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The token.
    pub value: String,
    /// Name of the account it belongs to.
    #[serde(default = "main")]
    pub account: String,
    /// The user whose request limit it uses; the account's own user without it.
    #[serde(default)]
    pub user: Option<String>,
    /// Of `zone:read`, and `:read` or `:write` of `dns`, `workers` and `workers_routes`; writing includes reading.
    #[serde(default = "all")]
    pub permissions: Vec<String>,
    /// `active`, `disabled` or `revoked`.
    #[serde(default = "active")]
    pub status: String,
    /// When it expires.
    #[serde(default)]
    pub expires_on: Option<Timestamp>,
    /// Whether the account owns it: then the user's way of verifying it fails.
    #[serde(default)]
    pub account_owned: bool,
}

fn all() -> Vec<String> {
    ["zone:read", "dns:write"].map(str::to_owned).to_vec()
}

fn active() -> String {
    "active".to_owned()
}

/// A record as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordInfo {
    /// Its id.
    pub id: String,
    /// Its full name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its content; TXT quoted.
    pub content: String,
    /// Its TTL; 1 for automatic.
    pub ttl: u32,
    /// Whether it is proxied.
    pub proxied: bool,
    /// Its comment.
    pub comment: Option<String>,
    /// When it was made.
    pub created_on: Timestamp,
    /// When it last changed.
    pub modified_on: Timestamp,
}

/// What a person changes on a record. What is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordEdit {
    /// The new content.
    pub content: Option<String>,
    /// The new TTL.
    pub ttl: Option<u32>,
    /// The new comment; empty for none.
    pub comment: Option<String>,
}

/// A zone with its records, indexed by id and by name.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) id: String,
    pub(super) spec: ZoneSpec,
    pub(super) records: BTreeMap<String, RecordInfo>,
    pub(super) by_name: HashMap<String, Vec<String>>,
    pub(super) serial: u32,
    clock: Clock,
    history: History,
}

impl Zone {
    pub(super) fn quota(&self) -> usize {
        self.spec.quota.unwrap_or_else(|| self.spec.plan.quota())
    }

    /// The records of a name.
    pub(super) fn named<'z>(&'z self, name: &str) -> impl Iterator<Item = &'z RecordInfo> {
        self.by_name.get(name).into_iter().flatten().filter_map(|id| self.records.get(id))
    }

    pub(super) fn put(&mut self, record: RecordInfo) {
        self.take(&record.id.clone());
        self.by_name.entry(record.name.clone()).or_default().push(record.id.clone());
        let name = record.name.clone();
        self.records.insert(record.id.clone(), record);
        self.changed(&name);
    }

    pub(super) fn take(&mut self, id: &str) -> Option<RecordInfo> {
        let record = self.records.remove(id)?;
        if let Some(ids) = self.by_name.get_mut(&record.name) {
            ids.retain(|other| other != id);
            if ids.is_empty() {
                self.by_name.remove(&record.name);
            }
        }
        self.changed(&record.name);
        Some(record)
    }

    fn changed(&mut self, name: &str) {
        self.serial += 1;
        let records = self.named(name).cloned().collect();
        self.history.note(name, self.clock.now(), records);
    }
}

#[derive(Debug, Default)]
pub(super) struct World {
    /// Account id by name.
    pub(super) accounts: BTreeMap<String, String>,
    pub(super) zones: BTreeMap<String, Zone>,
    pub(super) tokens: HashMap<String, TokenSpec>,
    /// Tokens, by value, that see only the zones of these names.
    pub(super) confined: HashMap<String, Vec<String>>,
    pub(super) used: HashMap<String, Used>,
    pub(super) limits: Limits,
    pub(super) workers: Workers,
    pub(super) ids: u64,
}

impl World {
    /// 32 hex digits, never the same twice.
    pub(super) fn id(&mut self) -> String {
        self.ids += 1;
        id_of(&format!("record/{}", self.ids))
    }

    /// Whether a token may know of a zone.
    pub(super) fn sees(&self, token: &TokenSpec, zone: &Zone) -> bool {
        zone.spec.account == token.account
            && self.confined.get(&token.value).is_none_or(|zones| zones.contains(&zone.spec.name))
    }

    pub(super) fn zone_named(&self, name: &str) -> Option<&Zone> {
        self.zones.values().find(|zone| zone.spec.name == name)
    }
}

/// A stable 32-digit id.
pub(super) fn id_of(text: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(1), half(2))
}

/// The simulated Cloudflare.
#[derive(Debug)]
pub struct State {
    clock: Clock,
    world: Mutex<World>,
    workerd: OnceLock<PathBuf>,
}

impl State {
    /// One account `main`, without zones or tokens.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let state = Self { clock, world: Mutex::default(), workerd: OnceLock::new() };
        state.add_account("main");
        state
    }

    pub(super) fn world(&self) -> (MutexGuard<'_, World>, Timestamp) {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        (world, now)
    }

    /// The program that tells whether a script can be run; none if scripts are only kept.
    pub(super) fn workerd(&self) -> Option<PathBuf> {
        self.workerd.get().cloned()
    }

    /// Names that program; the first name stays.
    pub(super) fn set_workerd(&self, binary: PathBuf) {
        let _ = self.workerd.set(binary);
    }

    /// Makes an account, or finds the one of this name; gives its id.
    pub fn add_account(&self, name: &str) -> String {
        let id = id_of(&format!("account/{name}"));
        self.world().0.accounts.entry(name.to_owned()).or_insert(id).clone()
    }

    /// Makes a zone; gives its id.
    pub fn add_zone(&self, spec: ZoneSpec) -> String {
        self.add_account(&spec.account);
        let id = id_of(&format!("zone/{}/{}", spec.account, spec.name));
        let zone = Zone {
            id: id.clone(),
            spec,
            records: BTreeMap::new(),
            by_name: HashMap::new(),
            serial: 1,
            clock: self.clock.clone(),
            history: History::default(),
        };
        self.world().0.zones.entry(id.clone()).or_insert(zone);
        id
    }

    /// Takes a zone away.
    pub fn remove_zone(&self, name: &str) {
        self.world().0.zones.retain(|_, zone| zone.spec.name != name);
    }

    /// Makes a token, or replaces the one of this value.
    pub fn put_token(&self, spec: TokenSpec) {
        self.add_account(&spec.account);
        self.world().0.tokens.insert(spec.value.clone(), spec);
    }

    /// Lets a token see only the zones of these names; `None` for all of its account.
    pub fn confine_token(&self, value: &str, zones: Option<Vec<String>>) {
        let (mut world, _) = self.world();
        match zones {
            Some(zones) => world.confined.insert(value.to_owned(), zones),
            None => world.confined.remove(value),
        };
    }

    /// Revokes a token.
    pub fn revoke_token(&self, value: &str) {
        self.world().0.tokens.remove(value);
    }

    /// Changes the request limit of every user.
    pub fn set_limits(&self, limits: Limits) {
        let (mut world, _) = self.world();
        world.limits = limits;
        world.used.clear();
    }

    /// Changes a zone's limit of records.
    pub fn set_quota(&self, zone: &str, quota: Option<usize>) {
        let (mut world, _) = self.world();
        if let Some(zone) = world.zones.values_mut().find(|z| z.spec.name == zone) {
            zone.spec.quota = quota;
        }
    }

    /// All records of a zone, by name.
    #[must_use]
    pub fn records(&self, zone: &str) -> Vec<RecordInfo> {
        let (world, _) = self.world();
        let mut records: Vec<_> =
            world.zone_named(zone).map(|zone| zone.records.values().cloned().collect()).unwrap_or_default();
        records.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
        records
    }

    /// Makes a record by hand; gives its id.
    ///
    /// # Errors
    /// What the API itself would refuse, in its words.
    pub fn add_record(&self, zone: &str, draft: &Draft) -> Result<String, String> {
        let (mut world, now) = self.world();
        let id = world.id();
        let zone = world.zones.values_mut().find(|z| z.spec.name == zone).ok_or("no such zone")?;
        let record = rules::make(zone, draft, id.clone(), now).map_err(|refusal: Refusal| refusal.message)?;
        zone.put(record);
        Ok(id)
    }

    /// Edits a record by hand; false if there is none.
    pub fn edit_record(&self, id: &str, edit: &RecordEdit) -> bool {
        let (mut world, now) = self.world();
        let zone = world.zones.values_mut().find(|zone| zone.records.contains_key(id));
        let Some(zone) = zone else { return false };
        let Some(mut record) = zone.records.get(id).cloned() else { return false };
        if let Some(content) = &edit.content {
            record.content.clone_from(content);
        }
        if let Some(ttl) = edit.ttl {
            record.ttl = ttl;
        }
        if let Some(comment) = &edit.comment {
            record.comment = Some(comment.clone()).filter(|comment| !comment.is_empty());
        }
        record.modified_on = now;
        zone.put(record);
        true
    }

    /// Deletes a record by hand; false if there is none.
    pub fn remove_record(&self, id: &str) -> bool {
        let (mut world, _) = self.world();
        world.zones.values_mut().any(|zone| zone.take(id).is_some())
    }

    /// What a server that is `behind` knows: the zone a name is in with its serial, the name's records, and whether the
    /// name exists.
    pub(crate) fn published(&self, name: &str, behind: SignedDuration) -> Option<(String, u32, Vec<RecordInfo>, bool)> {
        let (world, now) = self.world();
        let zone = world
            .zones
            .values()
            .filter(|zone| name == zone.spec.name || name.ends_with(&format!(".{}", zone.spec.name)))
            .max_by_key(|zone| zone.spec.name.len())?;
        let below = format!(".{name}");
        // An empty name with something below it exists (RFC 8020).
        let records = if behind.is_zero() {
            zone.named(name).cloned().collect()
        } else {
            zone.history.at(name, now.saturating_sub(behind).unwrap_or(now))
        };
        let exists =
            name == zone.spec.name || !records.is_empty() || zone.by_name.keys().any(|other| other.ends_with(&below));
        Some((zone.spec.name.clone(), zone.serial, records, exists))
    }
}
