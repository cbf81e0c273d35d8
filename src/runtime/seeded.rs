//! Deliberate bugs that show whether the crash sweep would notice them. A release build has none of them.

use std::sync::LazyLock;

/// A deliberate bug, ordered by the environment variable `ROADSTEAD_SEEDED_FAULT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeded {
    /// `no-intent`: a VM is ordered before that is written down.
    NoIntent,
    /// `finalizer-on-success`: the finalizer goes after any pass over a deleted object that did not fail.
    FinalizerOnSuccess,
    /// `no-second-look`: a create of unknown outcome is repeated at once.
    NoSecondLook,
}

/// Whether this bug was ordered: never in a release build.
#[must_use]
pub fn is(fault: Seeded) -> bool {
    static ORDERED: LazyLock<Option<Seeded>> = LazyLock::new(|| {
        let ordered = match std::env::var("ROADSTEAD_SEEDED_FAULT").ok()?.as_str() {
            "no-intent" => Seeded::NoIntent,
            "finalizer-on-success" => Seeded::FinalizerOnSuccess,
            "no-second-look" => Seeded::NoSecondLook,
            _ => return None,
        };
        tracing::warn!(?ordered, "running with a deliberate bug");
        Some(ordered)
    });
    cfg!(debug_assertions) && *ORDERED == Some(fault)
}
