//! What happens to the services beside the entry: which are new, changed or removed, and whether before the swap or
//! after it.
//!
//! A service has changed if its configuration's hash, as `docker compose config --hash '*'` prints it for the user's file
//! with our overlay, is not the one its container bears as the label [`HASH_LABEL`]. That label is ours: Compose's own
//! hash knows where the app's files lie, and each revision has its files in a directory of its own, so to Compose every
//! service that mounts one would have changed with every revision. Ours is taken with the files at one place.

use std::collections::{BTreeMap, BTreeSet};

use super::project::Project;

/// The label of a container with the hash of its service's configuration.
pub const HASH_LABEL: &str = "roadstead.config";

/// When a service that has changed is updated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Update {
    /// Never: its container stays as it is, and is made only if there is none.
    Never,
    /// Before traffic goes to the new revision, so that it finds what it needs.
    #[default]
    BeforeSwap,
    /// Once the new revision serves.
    AfterSwap,
}

/// What is known of a deploy.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// The service traffic goes to.
    pub entry: &'a str,
    /// The service traffic goes to until the swap; `None` at a first deploy.
    pub previous_entry: Option<&'a str>,
    /// The hash of each service's configuration now, as [`hashes`] reads them.
    pub wanted: BTreeMap<String, String>,
    /// The hashes that the app's containers on the host bear, by service.
    pub running: BTreeMap<String, String>,
    /// `services[]`: when each is updated; [`Update::BeforeSwap`] if it is not named.
    pub updates: BTreeMap<String, Update>,
}

/// What happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has no container yet.
    New,
    /// Its container is made anew.
    Changed,
}

/// A service and what happens to it.
pub type Step = (String, Change);

/// What happens to the services beside the entry, each list in the order it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Before the new revision of the entry starts.
    pub before: Vec<Step>,
    /// After the swap.
    pub after: Vec<Step>,
    /// Removed at the end: the file has them no more.
    pub removed: Vec<String>,
    /// Changed, but never updated.
    pub held: Vec<String>,
}

/// Reads what `docker compose config --hash '*'` prints: a service and its hash on each line.
#[must_use]
pub fn hashes(printed: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().filter_map(|line| line.trim().split_once(' '));
    lines.map(|(service, hash)| (service.to_owned(), hash.trim().to_owned())).collect()
}

/// What happens to the services beside the entry.
///
/// Within a list, what others depend on comes first. A new service that something started before the swap depends on is
/// started before the swap too, whatever its policy. The service that traffic still goes to is touched only after it.
#[must_use]
pub fn plan(project: &Project, known: &Known<'_>) -> Changes {
    let mut changes = Changes::default();
    let change_of = |service: &str| match (known.running.get(service), known.wanted.get(service)) {
        (None, _) => Some(Change::New),
        (Some(running), wanted) => (wanted != Some(running)).then_some(Change::Changed),
    };
    let update = |service: &str| {
        let asked = known.updates.get(service).copied().unwrap_or_default();
        let serves = known.previous_entry == Some(service) && known.running.contains_key(service);
        if serves && asked == Update::BeforeSwap { Update::AfterSwap } else { asked }
    };
    let order = order(project);
    let early = order.iter().filter(|service| **service == known.entry || before(update(service), change_of(service)));
    let needed = needed(project, early.copied());
    for service in order.into_iter().filter(|service| *service != known.entry) {
        let Some(change) = change_of(service) else { continue };
        let policy = update(service);
        let step = (service.to_owned(), change);
        if before(policy, Some(change)) || (change == Change::New && needed.contains(service)) {
            changes.before.push(step);
        } else if policy == Update::Never && change == Change::Changed {
            changes.held.push(step.0);
        } else {
            changes.after.push(step);
        }
    }
    let stays = |service: &&String| project.services.contains_key(*service);
    changes.removed = known.running.keys().filter(|service| !stays(service)).cloned().collect();
    changes
}

/// Whether the policy alone puts a change before the swap. One that is never updated is still made if there is none.
fn before(policy: Update, change: Option<Change>) -> bool {
    match policy {
        Update::BeforeSwap => change.is_some(),
        Update::Never => change == Some(Change::New),
        Update::AfterSwap => false,
    }
}

/// All services, each after those it depends on.
fn order(project: &Project) -> Vec<&str> {
    fn visit<'a>(project: &'a Project, name: &'a str, seen: &mut BTreeSet<&'a str>, order: &mut Vec<&'a str>) {
        // Compose refuses a circle; were there one, it would be cut here.
        if !seen.insert(name) {
            return;
        }
        let Some(service) = project.services.get(name) else { return };
        for other in service.depends_on.keys() {
            visit(project, other, seen, order);
        }
        order.push(name);
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in project.services.keys() {
        visit(project, name, &mut seen, &mut order);
    }
    order
}

/// What these services depend on, and what that depends on.
fn needed<'a>(project: &'a Project, of: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<&str> = of.collect();
    while let Some(service) = open.pop().and_then(|name| project.services.get(name)) {
        open.extend(service.depends_on.keys().map(String::as_str).filter(|other| needed.insert(*other)));
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::super::project::{Dependency, Service};
    use super::*;

    /// Services as `name: what it depends on`, separated by spaces: `web:db,cache db cache`.
    fn project(services: &str) -> Project {
        let mut project = Project::default();
        for service in services.split_whitespace() {
            let (name, needs) = service.split_once(':').unwrap_or((service, ""));
            let needs =
                needs.split(',').filter(|need| !need.is_empty()).map(|need| (need.to_owned(), Dependency::default()));
            let service = Service { depends_on: needs.collect(), ..Default::default() };
            project.services.insert(name.to_owned(), service);
        }
        project
    }

    /// Hashes as `name=hash`, separated by spaces.
    fn map(text: &str) -> BTreeMap<String, String> {
        hashes(&text.replace(' ', "\n").replace('=', " "))
    }

    fn known<'a>(wanted: &str, running: &str, updates: &[(&str, Update)]) -> Known<'a> {
        let updates = updates.iter().map(|(name, update)| ((*name).to_owned(), *update)).collect();
        let previous_entry = (!running.is_empty()).then_some("web");
        Known { entry: "web", previous_entry, wanted: map(wanted), running: map(running), updates }
    }

    fn steps(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|(name, change)| format!("{name} {change:?}")).collect()
    }

    #[test]
    fn a_first_deploy_starts_everything_the_entry_needs_before_it() {
        let project = project("web:db,cache cache:net db:net net worker:db");
        let late = [("worker", Update::AfterSwap), ("cache", Update::AfterSwap), ("net", Update::Never)];
        let changes = plan(&project, &known("web=1 cache=1 db=1 net=1 worker=1", "", &late));
        assert_eq!(steps(&changes.before), ["net New", "cache New", "db New"]);
        assert_eq!(steps(&changes.after), ["worker New"]);
        assert_eq!((changes.removed, changes.held), (vec![], vec![]));
    }

    #[test]
    fn only_what_has_another_hash_is_touched_and_when_its_policy_says() {
        let project = project("web:db a b c d db");
        let updates = [("a", Update::AfterSwap), ("b", Update::Never), ("d", Update::Never)];
        let running = "web=1 a=1 b=1 c=1 db=1 gone=1 also-gone=1";
        let changes = plan(&project, &known("web=2 a=2 b=2 c=1 d=1 db=2", running, &updates));
        assert_eq!(steps(&changes.before), ["d New", "db Changed"]);
        assert_eq!(steps(&changes.after), ["a Changed"]);
        assert_eq!(changes.held, ["b"]);
        assert_eq!(changes.removed, ["also-gone", "gone"]);
    }

    #[test]
    fn a_new_service_that_something_before_the_swap_needs_is_not_left_for_later() {
        let project = project("web:db db:seed seed late");
        let updates = [("seed", Update::AfterSwap), ("late", Update::AfterSwap)];
        let changes = plan(&project, &known("web=1 db=1 seed=1 late=1", "web=1 db=1", &updates));
        assert_eq!(steps(&changes.before), ["seed New"]);
        assert_eq!(steps(&changes.after), ["late New"]);
        // Already there, it can wait.
        let changes = plan(&project, &known("web=1 db=2 seed=2 late=1", "web=1 db=1 seed=1 late=1", &updates));
        assert_eq!(
            (steps(&changes.before), steps(&changes.after)),
            (vec!["db Changed".into()], vec!["seed Changed".into()])
        );
    }

    #[test]
    fn a_service_that_was_the_entry_serves_on_until_the_swap() {
        let project = project("api web");
        let mut known = known("api=1 web=2", "web=1", &[]);
        known.entry = "api";
        let changes = plan(&project, &known);
        assert_eq!((steps(&changes.before), steps(&changes.after)), (vec![], vec!["web Changed".into()]));
    }

    #[test]
    fn an_app_of_one_service_has_nothing_beside_the_entry() {
        assert_eq!(plan(&project("web"), &known("web=2", "web=1", &[])), Changes::default());
    }
}
