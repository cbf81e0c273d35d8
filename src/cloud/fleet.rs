//! The fleet of one Provider: one listing that answers for every Node, and what may be concluded from it.
//!
//! A listing runs behind: it may miss a VM created a moment ago. So a fleet remembers what this process created and
//! deleted itself, and a VM counts as missing only where a whole listing began after its creation had settled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Vm, VmProvider};
use crate::api::names::{ClusterId, Mark};
use crate::outside::OutsideError;

/// For how long a failed listing answers for those who ask next, so that a thousand Nodes do not each try again.
const ERROR_AGE: Duration = Duration::from_secs(5);

/// A handle on the VMs of one cluster at one provider. Clones share the snapshot.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

struct Shared {
    provider: Arc<dyn VmProvider>,
    cluster: ClusterId,
    settle: Duration,
    /// Held while listing, so that there is one at a time and the others wait for its result.
    last: tokio::sync::Mutex<Option<Attempt>>,
    own: Mutex<Arc<OwnWrites>>,
}

/// The last listing: when it began and what it gave.
struct Attempt {
    began: Instant,
    result: Result<Arc<Listed>, OutsideError>,
}

#[derive(Debug)]
struct Listed {
    began: Instant,
    whole: bool,
    vms: HashMap<String, Arc<Vm>>,
    /// Ids by `o`, and by `k`, of the mark.
    owners: HashMap<String, Vec<String>>,
    keys: HashMap<String, Vec<String>>,
}

/// By VM id: what this process did, as long as a listing may not show it yet.
type OwnWrites = HashMap<String, OwnWrite>;

#[derive(Debug, Clone)]
struct OwnWrite {
    at: Instant,
    /// The VM as created; `None` if deleted.
    created: Option<Arc<Vm>>,
}

/// What a look at one VM told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It is there.
    Present,
    /// The provider says that it is not there.
    Missing,
    /// The look says nothing either way.
    Unknown,
}

impl Fleet {
    /// The VMs that carry `cluster`'s tag at `provider`. `settle` is how long a listing may run behind a write.
    #[must_use]
    pub fn new(provider: Arc<dyn VmProvider>, cluster: ClusterId, settle: Duration) -> Self {
        let (last, own) = Default::default();
        Self(Arc::new(Shared { provider, cluster, settle, last, own }))
    }

    /// The provider itself, for writes and for looks at one VM.
    #[must_use]
    pub fn provider(&self) -> &Arc<dyn VmProvider> {
        &self.0.provider
    }

    /// A snapshot whose listing began at most `max_age` before this call. Callers that need a new one share one
    /// listing, and its error.
    ///
    /// # Errors
    /// Those of [`VmProvider::list_owned`]: nothing may be concluded about any VM.
    pub async fn snapshot(&self, max_age: Duration) -> Result<Snapshot, OutsideError> {
        let asked = Instant::now();
        let mut last = self.0.last.lock().await;
        if let Some(attempt) = &*last {
            let enough = if attempt.result.is_ok() { max_age } else { max_age.min(ERROR_AGE) };
            if attempt.began + enough >= asked {
                return self.with_own_writes(attempt.result.clone()?);
            }
        }
        let began = Instant::now();
        let listing = self.0.provider.list_owned(&self.0.cluster).await;
        let result = listing.map(|listing| Arc::new(Listed::new(began, listing)));
        *last = Some(Attempt { began, result: result.clone() });
        drop(last);
        self.with_own_writes(result?)
    }

    /// Remembers a VM this process created.
    pub fn created(&self, vm: &Vm) {
        self.remember(&vm.id, Some(Arc::new(vm.clone())));
    }

    /// Remembers that this process deleted a VM.
    pub fn deleted(&self, id: &str) {
        self.remember(id, None);
    }

    fn remember(&self, id: &str, created: Option<Arc<Vm>>) {
        let write = OwnWrite { at: Instant::now(), created };
        Arc::make_mut(&mut *self.own()).insert(id.to_owned(), write);
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads as the last step of `snapshot`")]
    fn with_own_writes(&self, listed: Arc<Listed>) -> Result<Snapshot, OutsideError> {
        let mut own = self.own();
        let settled = |write: &OwnWrite| write.at + self.0.settle <= listed.began;
        if listed.whole && own.values().any(settled) {
            Arc::make_mut(&mut *own).retain(|_, write| !settled(write));
        }
        Ok(Snapshot { own: Arc::clone(&own), listed })
    }

    fn own(&self) -> MutexGuard<'_, Arc<OwnWrites>> {
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn new(began: Instant, listing: super::Listing) -> Self {
        let mut listed =
            Self { began, whole: listing.whole, vms: HashMap::new(), owners: HashMap::new(), keys: HashMap::new() };
        for vm in listing.vms {
            if let Some(mark) = &vm.mark {
                listed.owners.entry(mark.owner.clone()).or_default().push(vm.id.clone());
                listed.keys.entry(mark.key.clone()).or_default().push(vm.id.clone());
            }
            listed.vms.insert(vm.id.clone(), Arc::new(vm));
        }
        listed
    }
}

/// The VMs of one cluster at one time, with what this process did since. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    listed: Arc<Listed>,
    own: Arc<OwnWrites>,
}

#[cfg(test)]
impl Snapshot {
    /// What a whole listing of these VMs, taken now, gives.
    pub(crate) fn of(vms: Vec<Vm>) -> Self {
        Self::from(crate::cloud::Listing { vms, whole: true })
    }

    /// What this listing, taken now, gives.
    pub(crate) fn from(listing: crate::cloud::Listing) -> Self {
        Self { own: Arc::default(), listed: Arc::new(Listed::new(Instant::now(), listing)) }
    }
}

impl Snapshot {
    /// The VM of this id, listed or created by us since.
    #[must_use]
    pub fn vm(&self, id: &str) -> Option<Arc<Vm>> {
        let created = || self.own.get(id)?.created.clone();
        self.listed.vms.get(id).cloned().or_else(created)
    }

    /// What this snapshot says about the VM of this id. [`Sight::Missing`] only from a whole listing, and never from
    /// one that began before we deleted the VM; a VM that we created is present until a listing that began after the
    /// settle time does not show it.
    #[must_use]
    pub fn sight(&self, id: &str) -> Sight {
        let deleted_since = self.own.get(id).is_some_and(|write| write.at > self.listed.began);
        if self.vm(id).is_some() {
            Sight::Present
        } else if self.listed.whole && !deleted_since {
            Sight::Missing
        } else {
            Sight::Unknown
        }
    }

    /// Whether this process deleted the VM so recently that a listing may still show it.
    #[must_use]
    pub fn is_leaving(&self, id: &str) -> bool {
        self.own.get(id).is_some_and(|write| write.created.is_none())
    }

    /// The VMs of the owner of `mark`, by id.
    #[must_use]
    pub fn by_owner(&self, mark: &Mark) -> Vec<Arc<Vm>> {
        self.found(self.listed.owners.get(&mark.owner), |other| other.owner == mark.owner)
    }

    /// The VMs made for the same kind, namespace and name, by id; those of this cluster only, since others are not
    /// in the listing.
    #[must_use]
    pub fn by_key(&self, mark: &Mark) -> Vec<Arc<Vm>> {
        self.found(self.listed.keys.get(&mark.key), |other| other.key == mark.key)
    }

    /// All VMs, by id, but for those we just deleted.
    #[must_use]
    pub fn vms(&self) -> Vec<Arc<Vm>> {
        let created = self.own.iter().filter_map(|(id, write)| Some((id, write.created.as_ref()?)));
        let all: HashMap<&String, &Arc<Vm>> = created.chain(&self.listed.vms).collect();
        let mut all: Vec<_> = all.into_values().filter(|vm| !self.is_leaving(&vm.id)).cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// How long ago the listing began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.listed.began.elapsed()
    }

    /// When the listing began, by the clock that says `now`.
    #[must_use]
    pub fn taken_at(&self, now: Timestamp) -> Timestamp {
        let age = SignedDuration::try_from(self.age()).unwrap_or(SignedDuration::MAX);
        now.checked_sub(age).unwrap_or(Timestamp::MIN)
    }

    fn found(&self, listed: Option<&Vec<String>>, matches: impl Fn(&Mark) -> bool) -> Vec<Arc<Vm>> {
        let listed = listed.into_iter().flatten().filter_map(|id| self.listed.vms.get(id));
        let unlisted = |vm: &&Arc<Vm>| !self.listed.vms.contains_key(&vm.id) && vm.mark.as_ref().is_some_and(&matches);
        let created = self.own.values().filter_map(|write| write.created.as_ref()).filter(unlisted);
        let mut found: Vec<_> = listed.chain(created).cloned().collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }
}

/// What two looks at one VM, a settle time apart, allow to conclude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It is there: forget any suspicion.
    Present,
    /// This look says nothing: keep what was known before.
    DontKnow,
    /// It was missing at `since`; only a second look at or after `confirm_at` may confirm it.
    Suspected {
        /// When it was first seen missing: to be remembered.
        since: Timestamp,
        /// When to look again.
        confirm_at: Timestamp,
    },
    /// It was missing twice, the settle time apart: it is gone.
    Confirmed {
        /// When it was first seen missing.
        since: Timestamp,
    },
}

/// Judges one look. `missing_since` is what [`Absence::Suspected`] said before, if it did; `looked_at` is when this
/// look *began* ([`Snapshot::taken_at`], or the time before a call of [`VmProvider::get`], where `None` is
/// [`Sight::Missing`] and an error [`Sight::Unknown`]).
#[must_use]
pub fn absence(missing_since: Option<Timestamp>, sight: Sight, looked_at: Timestamp, settle: Duration) -> Absence {
    let settle = SignedDuration::try_from(settle).unwrap_or(SignedDuration::MAX);
    // A clock set back must not turn one look into two.
    let since = missing_since.map_or(looked_at, |since| since.min(looked_at));
    let confirm_at = since.checked_add(settle).unwrap_or(Timestamp::MAX);
    match sight {
        Sight::Present => Absence::Present,
        Sight::Unknown => Absence::DontKnow,
        Sight::Missing if missing_since.is_some() && looked_at >= confirm_at => Absence::Confirmed { since },
        Sight::Missing => Absence::Suspected { since, confirm_at },
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
