//! What the Zone and Provider controllers have running, for the controllers that use it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError, RwLock};

use crate::cloud::Source;
use crate::dns;

/// A Zone whose writer runs.
#[derive(Clone)]
pub struct LiveZone {
    /// The zone's writer.
    pub writer: dns::Zone,
    /// Addresses of the zone's authoritative servers; empty when none could be found.
    pub authority: Vec<SocketAddr>,
}

/// Zones and Providers by name, as far as they run.
#[derive(Default)]
pub struct Registry {
    zones: RwLock<HashMap<String, LiveZone>>,
    providers: RwLock<HashMap<String, Source>>,
    doubted: Mutex<HashSet<String>>,
}

impl Registry {
    /// The running Zone of this name.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<LiveZone> {
        self.zones.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Puts, or with `None` removes, a Zone; returns what was there.
    pub fn set_zone(&self, name: &str, zone: Option<LiveZone>) -> Option<LiveZone> {
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        match zone {
            Some(zone) => zones.insert(name.to_owned(), zone),
            None => zones.remove(name),
        }
    }

    /// The running Provider of this name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<Source> {
        self.providers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Puts, or with `None` removes, a Provider; returns what was there.
    pub fn set_provider(&self, name: &str, source: Option<Source>) -> Option<Source> {
        let mut providers = self.providers.write().unwrap_or_else(PoisonError::into_inner);
        match source {
            Some(source) => providers.insert(name.to_owned(), source),
            None => providers.remove(name),
        }
    }

    /// Says that a Provider's API refused its credential, so that its next pass asks anew instead of trusting what it
    /// heard last.
    pub fn doubt_provider(&self, name: &str) {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Whether a Provider was doubted since this was last asked.
    #[must_use]
    pub fn take_doubt(&self, name: &str) -> bool {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// Every running Zone's writer, for an orderly end.
    #[must_use]
    pub fn writers(&self) -> Vec<dns::Zone> {
        self.zones.read().unwrap_or_else(PoisonError::into_inner).values().map(|z| z.writer.clone()).collect()
    }
}
