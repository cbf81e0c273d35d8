//! What the app's names lead to: a function of what is wanted and recorded.

use std::collections::BTreeMap;

use super::app::{Domain, Wanted};
use super::journal::Journal;
use crate::host::compose::overlay::alias;
use crate::host::table::Route;

/// The app's entries of the routing table, whole.
#[must_use]
pub fn routes(app: &str, wanted: &Wanted, journal: &Journal) -> BTreeMap<String, Route> {
    let serve = |peer| match journal.serving() {
        _ if wanted.maintenance => Route::Maintenance,
        Some(target) => Route::Upstream { alias: alias(app, &target.revision).into(), port: target.port, peer },
        None => Route::Placeholder,
    };
    let route = |domain: &Domain| match domain {
        Domain::Serve { peer, .. } => serve(*peer),
        Domain::Redirect { to, code, peer } => Route::Redirect { to: to.as_str().into(), code: *code, peer: *peer },
    };
    wanted.domains.iter().map(|(name, domain)| (name.clone(), route(domain))).collect()
}
