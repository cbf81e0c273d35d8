//! The one writer of `status.members`: transitions of the prober and reports of the servers come in, one status write a
//! second and group goes out, and with it an entry in the history for every verdict that changed (`chronicle`).
//!
//! What is known of a group is kept at its `Desk`; what follows from it is decided in [`merge`], how often it may be
//! written in `pace`, and the task that writes is in `task`. The first change is written at once. A write carries the
//! resourceVersion it was computed from and touches members and their counts alone; when somebody else wrote the object
//! meanwhile, everything is computed anew.
//!
//! A process that takes over knows what the status says, and nothing of the last heartbeats: nobody is called silent
//! before one `heartbeatTTL` has passed.

mod chronicle;
mod index;
pub mod merge;
mod pace;
mod task;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::index::{Index, is_about};
use self::merge::{EXPIRED, Heard, Merged, Reports};
use self::pace::{BETWEEN, Bucket, Speed};
use super::roster::{MOST, Roster, duration, owner};
use crate::api::address::ServerAddress;
use crate::api::server_group::{MemberStatus, Origin, ServerGroup, SourceStatus};
use crate::metrics::Metrics;
use crate::probe::{Engine, Health, Verdict};
use crate::runtime::cache::{Cache, Key, version};
use crate::store::Store;

/// How many groups are written at once: more large statuses keep a small API server busy for longer than a request may
/// take.
pub const AT_ONCE: u16 = 8;
/// How long a reporter waits for its change to be written. Twice as long as a promised write may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a report was not taken, or a server not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such group here, or not yet.
    #[error("there is no such group")]
    Unknown,
    /// Its spec does not allow reports.
    #[error("the group takes no reports: set spec.reporting.enabled")]
    Disabled,
    /// The group has as many servers as it may have.
    #[error("the group has 500 servers, and more are not kept: remove some, or make another group")]
    Full,
    /// Too much changes at once.
    #[error("too many changes at once: report again in {0:?}")]
    Busy(Duration),
    /// The group has no such server.
    #[error("the group has no such server")]
    NoServer,
    /// The server is listed or selected by the spec.
    #[error("the server is declared in the group's spec: remove it there")]
    Declared,
    /// It could not be written down, or whether it was is not known.
    #[error("the change could not be stored: repeat it")]
    Unavailable,
}

/// A handle to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    engine: Engine,
    groups: Cache<ServerGroup>,
    metrics: Metrics,
    history: Option<Store>,
    listening_since: Timestamp,
    desks: Mutex<Desks>,
    changed: Notify,
}

struct Desks {
    open: HashMap<Key, Desk>,
    /// When each is looked at next: every desk's `due`, in order.
    due: BTreeSet<(Instant, Key)>,
    /// Those whose next write somebody waits for: each will take a permission, which no other report may count on.
    expected: HashSet<Key>,
    bucket: Bucket,
    speed: Speed,
}

/// What is known of one group.
struct Desk {
    uid: String,
    owner: String,
    roster: Roster,
    reports: Reports,
    /// The newest version we know of.
    object: Arc<ServerGroup>,
    /// Of the roster and the object's status; made when it is needed.
    index: Option<Index>,
    heard: HashMap<String, Heard>,
    /// When it was last written.
    written: Option<Instant>,
    due: Option<Instant>,
    /// A write is in flight; what comes meanwhile waits for its end.
    writing: bool,
    /// Failed writes in a row.
    failures: i64,
    /// Who waits for the next write.
    waiting: Vec<oneshot::Sender<bool>>,
}

impl Members {
    /// A writer over these; it writes as long as [`Members::run`] is polled.
    #[must_use]
    pub fn new(
        client: Client,
        engine: Engine,
        groups: Cache<ServerGroup>,
        metrics: Metrics,
        history: Option<Store>,
    ) -> Self {
        let desks = Desks {
            open: HashMap::new(),
            due: BTreeSet::new(),
            expected: HashSet::new(),
            bucket: Bucket::full(Instant::now()),
            speed: Speed::unknown(AT_ONCE),
        };
        let shared = Shared {
            client,
            engine,
            groups,
            metrics,
            history,
            listening_since: Timestamp::now(),
            desks: Mutex::new(desks),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says who belongs to `group` now, and has them probed. Costs no write if nothing has changed.
    pub fn enroll(&self, group: &Arc<ServerGroup>, roster: Roster) {
        let targets = roster.targets(group);
        let reports = Reports {
            enabled: group.spec.reporting.enabled,
            ttl: duration(&group.spec.reporting.heartbeat_ttl, 90),
            forget_after: duration(&group.spec.reporting.forget_after, 24 * 3600),
        };
        let owner = owner(group);
        let key = Key::of(&**group);
        let known = {
            let mut desks = self.shared.desks();
            let uid = group.uid().unwrap_or_default();
            let known = desks.open.get(&key).is_some_and(|desk| desk.uid == uid);
            if !known {
                desks.remove(&key);
                desks.open.insert(key.clone(), Desk::new(uid, owner.clone(), group.clone()));
            }
            let Some(desk) = desks.open.get_mut(&key) else { return };
            desk.take(group.clone());
            (desk.roster, desk.reports, desk.index) = (roster, reports, None);
            known
        };
        // A verdict of an earlier process stands until the probes have earned another.
        let members = group.status.as_ref().map(|s| s.members.as_slice()).unwrap_or_default();
        for member in members.iter().filter(|_| !known) {
            if let Some(probe) = &member.probe {
                let key = format!("{owner}/{}", member.id);
                self.shared.engine.restore(&key, restored(member, probe));
            }
        }
        self.shared.engine.declare(&owner, targets);
        // Looked at in any case: somebody may have edited the status.
        self.shared.desks().schedule(&key, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Ends the probes of a group that goes, and writes nothing more to it.
    pub fn dismiss(&self, group: &ServerGroup) {
        self.shared.engine.declare(&owner(group), Vec::new());
        self.shared.desks().remove(&Key::of(group));
    }

    /// A server said how it is. Returns once that is written down, or at once if it is what it said before.
    ///
    /// # Errors
    /// [`Refused`], and then nothing was changed, or whether it was is not known (`Unavailable`).
    pub async fn report(&self, group: &Key, address: &ServerAddress, healthy: bool) -> Result<(), Refused> {
        let written = {
            let mut desks = self.shared.desks();
            let now = Instant::now();
            let wait = desks.wait(group, now);
            let desk = desks.open.get_mut(group).ok_or(Refused::Unknown)?;
            if !desk.reports.enabled {
                return Err(Refused::Disabled);
            }
            let servers = desk.servers(address);
            let changes = servers.iter().any(|(id, place)| desk.would_change(id, *place, healthy));
            if changes && desk.is_full_for(&servers) {
                return Err(Refused::Full);
            }
            if changes && !wait.is_zero() {
                return Err(Refused::Busy(wait));
            }
            let heard = Heard { healthy, at: Timestamp::now() };
            desk.heard.extend(servers.into_iter().map(|(id, _)| (id, heard)));
            if !changes {
                return Ok(());
            }
            let written = desk.next_write();
            desks.expect(group, now);
            written
        };
        self.written(written).await
    }

    async fn written(&self, written: oneshot::Receiver<bool>) -> Result<(), Refused> {
        self.shared.changed.notify_one();
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) | Err(_) => Err(Refused::Unavailable),
        }
    }

    /// Removes the servers with this address that belong to the group by their reports alone. Returns once that is written
    /// down. One that reports again comes back.
    ///
    /// # Errors
    /// [`Refused`], and then nothing was changed, or whether it was is not known (`Unavailable`).
    pub async fn forget(&self, group: &Key, address: &ServerAddress) -> Result<(), Refused> {
        let written = {
            let mut desks = self.shared.desks();
            let now = Instant::now();
            let wait = desks.wait(group, now);
            let desk = desks.open.get_mut(group).ok_or(Refused::Unknown)?;
            let is_meant =
                |member: &&MemberStatus| ServerAddress::parse(&member.id).is_ok_and(|other| is_about(address, &other));
            let meant: Vec<_> = desk.members().iter().filter(is_meant).map(|m| (m.id.clone(), m.origin)).collect();
            if meant.is_empty() {
                return Err(Refused::NoServer);
            }
            let ids: Vec<_> =
                meant.into_iter().filter(|(_, origin)| *origin == Origin::Reported).map(|(id, _)| id).collect();
            if ids.is_empty() {
                return Err(Refused::Declared);
            }
            if !wait.is_zero() {
                return Err(Refused::Busy(wait));
            }
            let never = Heard { healthy: false, at: Timestamp::MIN };
            desk.heard.extend(ids.into_iter().map(|id| (id, never)));
            let written = desk.next_write();
            desks.expect(group, now);
            written
        };
        self.written(written).await
    }

    /// The newest version of `group` that is known here: what this writer has written can be read at once, and not only
    /// when the watch has told of it.
    #[must_use]
    pub fn newest(&self, group: &Key) -> Option<Arc<ServerGroup>> {
        let cached = self.shared.groups.get(group)?;
        let desks = self.shared.desks();
        let written = desks.open.get(group).map(|desk| &desk.object);
        let newer = written.filter(|object| {
            object.metadata.uid == cached.metadata.uid && version::<ServerGroup>(object) > version(&*cached)
        });
        Some(newer.cloned().unwrap_or(cached))
    }

    /// Whether reports to this group can be taken: it was enrolled, as the object with this UID.
    #[must_use]
    pub fn is_enrolled(&self, group: &Key, uid: &str) -> bool {
        self.shared.desks().open.get(group).is_some_and(|desk| desk.uid == uid)
    }

    /// When each server of `group` was last heard of by this process, by id.
    #[must_use]
    pub fn heard(&self, group: &Key) -> HashMap<String, Heard> {
        self.shared.desks().open.get(group).map(|desk| desk.heard.clone()).unwrap_or_default()
    }
}

fn restored(member: &MemberStatus, probe: &SourceStatus) -> Verdict {
    Verdict {
        health: if probe.healthy { Health::Healthy } else { Health::Unhealthy },
        reason: "Restored",
        message: member.message.clone().unwrap_or_default(),
        since: probe.since.0,
    }
}

impl Shared {
    fn desks(&self) -> MutexGuard<'_, Desks> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desks {
    /// Has the desk looked at, at `at` or earlier, but not within a second of its last write.
    fn schedule(&mut self, key: &Key, at: Instant) {
        let Some(desk) = self.open.get_mut(key) else { return };
        let at = desk.written.map_or(at, |written| at.max(written + BETWEEN));
        if desk.due.is_none_or(|due| at < due) {
            if let Some(due) = desk.due.replace(at) {
                self.due.remove(&(due, key.clone()));
            }
            self.due.insert((at, key.clone()));
        }
    }

    /// As [`Desks::schedule`], for somebody who waits for the write.
    fn expect(&mut self, key: &Key, at: Instant) {
        self.expected.insert(key.clone());
        self.schedule(key, at);
    }

    /// How long until a change of the group may be promised to be written; nothing if it may be now.
    fn wait(&mut self, key: &Key, now: Instant) -> Duration {
        if self.expected.contains(key) {
            return Duration::ZERO;
        }
        let writes = self.expected.len() + 1;
        self.bucket.wait(writes, now).max(self.speed.wait(writes))
    }

    /// When there is next something to do: not before a write is permitted.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        let permitted = now + self.bucket.wait(1, now);
        self.due.first().map(|(at, _)| (*at).max(permitted))
    }

    fn remove(&mut self, key: &Key) {
        self.expected.remove(key);
        if let Some(Desk { due: Some(due), .. }) = self.open.remove(key) {
            self.due.remove(&(due, key.clone()));
        }
    }
}

impl Desk {
    fn new(uid: String, owner: String, object: Arc<ServerGroup>) -> Self {
        Self {
            uid,
            owner,
            roster: Roster::default(),
            reports: Reports { enabled: false, ttl: Duration::ZERO, forget_after: Duration::ZERO },
            object,
            index: None,
            heard: HashMap::new(),
            written: None,
            due: None,
            writing: false,
            failures: 0,
            waiting: Vec::new(),
        }
    }

    /// Takes a version of the object, unless the one we know is newer.
    fn take(&mut self, object: Arc<ServerGroup>) {
        let same = object.uid().as_deref() == Some(&self.uid);
        if same && version(&*object) > version(&*self.object) {
            (self.object, self.index) = (object, None);
        }
    }

    fn members(&self) -> &[MemberStatus] {
        members(&self.object)
    }

    /// The servers a report for `address` is about, by id and place in the status: every one with that address, else a
    /// new one.
    fn servers(&mut self, address: &ServerAddress) -> Vec<(String, Option<usize>)> {
        let index = self.index.get_or_insert_with(|| Index::of(&self.roster, members(&self.object)));
        let mut servers: Vec<_> = index.about(address).map(|(server, place)| (server.to_string(), place)).collect();
        if servers.is_empty() {
            servers.push((address.to_string(), None));
        }
        servers
    }

    /// Hears of the end of the next write.
    fn next_write(&mut self) -> oneshot::Receiver<bool> {
        let (sender, written) = oneshot::channel();
        self.waiting.push(sender);
        written
    }

    /// Whether the status says something else of the server than this report does, or is about to.
    fn would_change(&self, id: &str, place: Option<usize>, healthy: bool) -> bool {
        if self.heard.get(id).is_some_and(|heard| heard.healthy != healthy) {
            return true;
        }
        let report = place.and_then(|place| self.members().get(place)?.report.as_ref());
        report.is_none_or(|report| report.healthy != healthy || report.reason == EXPIRED)
    }

    fn is_full_for(&self, servers: &[(String, Option<usize>)]) -> bool {
        let known: HashSet<_> = self.members().iter().map(|member| member.id.as_str()).collect();
        let coming = self.heard.keys().filter(|id| !known.contains(id.as_str())).count();
        servers.iter().any(|(id, _)| !known.contains(id.as_str()) && !self.heard.contains_key(id))
            && known.len() + coming >= MOST
    }

    fn merged(&self, engine: &Engine, listening_since: Timestamp, now: Timestamp) -> Merged {
        merge::merge(&merge::Known {
            roster: &self.roster,
            reports: &self.reports,
            before: self.members(),
            verdict: &|id| engine.verdict(&format!("{}/{id}", self.owner)),
            heard: &self.heard,
            listening_since,
            now,
        })
    }
}

fn members(group: &ServerGroup) -> &[MemberStatus] {
    group.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
