//! What a zone held when it was last read, indexed by name, by owner and by object.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::names::{Kinship, Mark};
use crate::dns::record::Record;

type Index = HashMap<Box<str>, Vec<Arc<Record>>>;

/// The records of one zone. Lookups are by hash; nothing scans the zone.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By id; the other three are indexes of it.
    records: HashMap<Box<str>, Arc<Record>>,
    names: Index,
    owners: Index,
    keys: Index,
}

impl Snapshot {
    /// A snapshot of a complete listing.
    #[must_use]
    pub fn of(records: Vec<Record>) -> Self {
        let mut snapshot = Self::default();
        for record in records {
            snapshot.put(record);
        }
        snapshot
    }

    /// Adds a record, or replaces the one of that id.
    pub fn put(&mut self, record: Record) {
        self.remove(&record.id.clone());
        let record = Arc::new(record);
        self.names.entry(record.name.clone()).or_default().push(Arc::clone(&record));
        if let Some(mark) = &record.mark {
            self.owners.entry(mark.owner.as_str().into()).or_default().push(Arc::clone(&record));
            self.keys.entry(mark.key.as_str().into()).or_default().push(Arc::clone(&record));
        }
        self.records.insert(record.id.clone(), record);
    }

    /// Drops the record `id`, if it is there.
    pub fn remove(&mut self, id: &str) {
        let Some(record) = self.records.remove(id) else { return };
        drop_from(&mut self.names, &record.name, id);
        if let Some(mark) = &record.mark {
            drop_from(&mut self.owners, &mark.owner, id);
            drop_from(&mut self.keys, &mark.key, id);
        }
    }

    /// Replaces everything known of `name` with a complete reading of that name.
    pub fn put_name(&mut self, name: &str, records: Vec<Record>) {
        let known: Vec<_> = self.at(name).iter().map(|record| record.id.clone()).collect();
        for id in known {
            self.remove(&id);
        }
        for record in records {
            self.put(record);
        }
    }

    /// The record `id`.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Record>> {
        self.records.get(id)
    }

    /// Everything at `name` (canonical), ours or not.
    #[must_use]
    pub fn at(&self, name: &str) -> &[Arc<Record>] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// The records `mark` owns, in the order of their ids.
    #[must_use]
    pub fn own(&self, mark: &Mark) -> Vec<Arc<Record>> {
        related(&self.owners, &mark.owner, mark, Kinship::Own)
    }

    /// The records of another incarnation of the object `mark` stands for, in the order of their ids.
    #[must_use]
    pub fn namesakes(&self, mark: &Mark) -> Vec<Arc<Record>> {
        related(&self.keys, &mark.key, mark, Kinship::Namesake)
    }

    /// Every record that carries a mark, of any cluster.
    pub fn marked(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values().filter(|record| record.mark.is_some())
    }

    /// How many records the zone holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the zone holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

fn related(index: &Index, key: &str, mark: &Mark, kinship: Kinship) -> Vec<Arc<Record>> {
    let of_kin = |record: &&Arc<Record>| record.mark.as_ref().is_some_and(|other| mark.kinship(other) == kinship);
    let mut found: Vec<_> = index.get(key).into_iter().flatten().filter(of_kin).cloned().collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

fn drop_from(index: &mut Index, key: &str, id: &str) {
    if let Some(records) = index.get_mut(key) {
        records.retain(|record| &*record.id != id);
        if records.is_empty() {
            index.remove(key);
        }
    }
}
