//! An app that is taken away: its route, what it has begun, its containers, its networks, its images and files. Its named
//! volumes stay.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::journal::{Journal, after, seconds};
use super::plan::{Action, Await, Step, record, take_away};
use super::seen::{Container, Observed};
use super::undo::interrupted;

/// The next step of an app that is not wanted any more.
pub(super) fn plan(seen: &Observed, now: Timestamp) -> Step {
    let journal = &seen.journal;
    if !seen.host.routes.is_empty() {
        return Step::Do(Action::Route(BTreeMap::new()));
    }
    let containers: Vec<&Container> = seen.host.containers.iter().collect();
    if !containers.is_empty() {
        let Some(until) = journal.leaving else {
            // What is wanted again after this begins anew: of what there is, anything may be gone by then.
            let drain = journal.serving().map_or(0, |target| target.drain);
            let leaving = Some(after(now, seconds(drain)));
            return record(Journal { live: None, coming: None, draining: None, leaving, ..journal.clone() });
        };
        if now < until {
            return Step::Wait(Await::Drain, until);
        }
        if let Some(journal) = interrupted(seen) {
            return record(journal);
        }
        if let Some(action) = take_away(&containers) {
            return Step::Do(action);
        }
    }
    let mut networks = seen.host.networks.iter().filter(|(_, network)| network.ours);
    if let Some((name, network)) = networks.next() {
        let name = name.clone();
        // Docker does not remove a network that somebody is on.
        return Step::Do(if network.proxied { Action::DisconnectProxy(name) } else { Action::RemoveNetwork(name) });
    }
    let ours = journal.kept.iter().flat_map(|kept| &kept.images);
    let images: BTreeSet<String> = ours.filter(|image| seen.host.images.get(*image) == Some(&false)).cloned().collect();
    if !journal.kept.is_empty() {
        let revisions = journal.kept.iter().map(|kept| kept.revision.clone()).collect();
        return Step::Do(Action::Prune { images, revisions });
    }
    if seen.host.directory { Step::Do(Action::RemoveDirectory) } else { Step::Gone }
}
