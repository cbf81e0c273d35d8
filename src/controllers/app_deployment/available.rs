//! The condition `Available`: whether the names of an app are served now, as somebody outside sees it.
//!
//! Every name that is live is probed for ever at each Node that serves it, by the one probe engine. [`Availability`]
//! declares these targets and reads their verdicts; [`available`] makes the condition of them and is pure. [`split`] has
//! an app looked at when a verdict turns, so what the condition says is never older than that.
//!
//! A verdict that is not there yet takes back nothing: after a restart, and on a Node that has just begun to serve, the
//! condition stays as it is until the probes have earned another. It also stays while our own network is down.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use tokio::sync::mpsc;

use crate::api::app_deployment::AppDeployment;
use crate::api::condition::Desired;
use crate::dns::propagation::Confirmation;
use crate::host::deploy::seen::{self, Container, State};
use crate::probe::site::Site;
use crate::probe::{Check, Engine, Failure, Health, Target, Transition, Verdict, reason};
use crate::runtime::cache::Key;

/// The condition.
pub const AVAILABLE: &str = "Available";
/// The zone's own servers send visitors elsewhere.
pub const DNS_MISMATCH: &str = "DNSMismatch";
/// The reason while nothing is known.
const NOT_PROBED_YET: &str = "NotProbedYet";
/// The reason while nothing is live.
const NOTHING_SERVES: &str = "NothingServes";
/// The reason while visitors get the maintenance page.
const MAINTENANCE: &str = "Maintenance";

/// What the engine's keys of apps begin with.
const OWNER: &str = "AppDeployment";
/// From the start of one probe of a name at a Node to the start of the next.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a probe may take: two answers, one of them the app's.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Failures in a row that make a site fail.
const FALL: u32 = 3;
/// Successes in a row that make it good again.
const RISE: u32 = 2;
/// Of several sites that fail, so many are named besides the worst.
const NAMED: usize = 3;

/// A name that a Node serves now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The Node.
    pub node: String,
    /// What is asked there.
    pub site: Site,
}

/// What the prober says of a name at a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The name.
    pub domain: String,
    /// The Node.
    pub node: String,
    /// `None` until the first verdict.
    pub verdict: Option<Verdict>,
}

/// What the prober says of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// By name and Node; `None` if nobody in this process has said yet what is live.
    pub sites: Option<Vec<Seen>>,
    /// Whether our own network is down, so that verdicts are frozen.
    pub isolated: bool,
}

/// The targets of all apps.
pub struct Availability {
    engine: Engine,
    live: Mutex<HashMap<String, Vec<Live>>>,
}

impl Availability {
    /// Over the engine, with nothing declared.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, live: Mutex::default() }
    }

    /// Has exactly these sites of an app probed. Costs nothing where nothing has changed; a site that stays keeps its
    /// verdict.
    pub fn declare(&self, app: &AppDeployment, mut live: Vec<Live>) {
        live.sort_by(|a, b| (&a.site.name, &a.node).cmp(&(&b.site.name, &b.node)));
        live.dedup_by(|a, b| (&a.site.name, &a.node) == (&b.site.name, &b.node));
        let owner = owner(app);
        let mut known = self.live();
        if known.get(&owner) == Some(&live) {
            return;
        }
        let targets = live.iter().map(|live| target(&owner, live)).collect();
        self.engine.declare(&owner, targets);
        known.insert(owner, live);
    }

    /// Ends the probes of an app that goes.
    pub fn forget(&self, app: &AppDeployment) {
        let owner = owner(app);
        let mut known = self.live();
        self.engine.declare(&owner, Vec::new());
        known.remove(&owner);
    }

    /// What is known of the sites of an app.
    #[must_use]
    pub fn reading(&self, app: &AppDeployment) -> Reading {
        let owner = owner(app);
        let seen = |live: &Live| Seen {
            domain: live.site.name.clone(),
            node: live.node.clone(),
            verdict: self.engine.verdict(&key(&owner, live)),
        };
        let sites = self.live().get(&owner).map(|live| live.iter().map(seen).collect());
        Reading { sites, isolated: *self.engine.isolated().borrow() }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Vec<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owner(app: &AppDeployment) -> String {
    format!("{OWNER}/{}/{}", app.namespace().unwrap_or_default(), app.name_any())
}

fn key(owner: &str, live: &Live) -> String {
    format!("{owner}/{}/{}", live.site.name, live.node)
}

fn target(owner: &str, live: &Live) -> Target {
    Target {
        key: key(owner, live).into(),
        check: Check::Site(live.site.clone()),
        interval: INTERVAL,
        timeout: TIMEOUT,
        fall: FALL,
        rise: RISE,
    }
}

/// The app that a transition is about, if it is about one.
#[must_use]
pub fn app_of(transition: &Transition) -> Option<Key> {
    let mut parts = transition.key.splitn(4, '/');
    if parts.next()? != OWNER {
        return None;
    }
    Some(Key::namespaced(parts.next()?, parts.next()?))
}

/// Tells the transitions of apps from all others: `wake` is called with the app that one concerns, and the others come
/// out in their order, `ahead` of them at most before the prober waits. Ends with the prober.
pub fn split(
    mut all: mpsc::Receiver<Transition>,
    ahead: usize,
    wake: impl Fn(&Key) + Send + 'static,
) -> mpsc::Receiver<Transition> {
    let (sender, others) = mpsc::channel(ahead);
    tokio::spawn(async move {
        while let Some(transition) = all.recv().await {
            match app_of(&transition) {
                Some(app) => wake(&app),
                // Nobody is there to take it when the process ends.
                None => drop(sender.send(transition).await),
            }
        }
    });
    others
}

impl Reading {
    /// Whether visitors of any name are failed at a Node.
    #[must_use]
    pub fn fails_at(&self, node: &str) -> bool {
        let fails = |site: &Seen| site.verdict.as_ref().is_some_and(|verdict| verdict.health == Health::Unhealthy);
        self.sites.iter().flatten().any(|site| site.node == node && fails(site))
    }
}

/// What follows for a name from what the zone's own servers answer: they send visitors elsewhere than to the Nodes that
/// serve it. From silence nothing follows.
#[must_use]
pub fn dns_mismatch(domain: &str, confirmation: &Confirmation) -> Option<Failure> {
    let Confirmation::Differs(what) = confirmation else { return None };
    let message = format!(
        "visitors of {domain} are sent elsewhere than to the Node that serves it: {what}; look for records of that name \
         which somebody else has written"
    );
    Some(Failure { reason: DNS_MISMATCH, message })
}

/// What the host says is the matter with the app whose revision `live` serves: the nearest explanation of what visitors
/// get. The message stays the same for as long as that does.
#[must_use]
pub fn ill(host: &seen::Host, live: &str, node: &str) -> Option<Failure> {
    if host.full {
        let message =
            format!("the disk of Node {node} is full: make room there, for example with `docker system prune`");
        return Some(Failure { reason: "DiskFull", message });
    }
    let what = |container: &Container| {
        let entry = container.revision.as_deref() == Some(live);
        let (reason, what) = match (container.state, container.oom_killed) {
            (State::Created | State::Running, false) => return None,
            // A service beside the entry may have done all it had to do.
            (State::Exited, false) if !entry && container.exit_code == 0 => return None,
            (_, true) => ("OOMKilled", "was ended for want of memory".to_owned()),
            (State::Exited, _) => ("ContainerExited", format!("ended with code {}", container.exit_code)),
            (_, _) => ("ContainerRestarting", format!("ends again and again, with code {}", container.exit_code)),
        };
        let service = &container.service;
        let message = format!("the container of service `{service}` {what}: see `docker logs` on Node {node}");
        Some((!entry, Failure { reason, message }))
    };
    let lasting = |container: &&Container| {
        !container.one_off && container.revision.as_ref().is_none_or(|revision| revision == live)
    };
    let found = host.containers.iter().filter(lasting).filter_map(what);
    found.min_by_key(|(beside, _)| *beside).map(|(_, failure)| failure)
}

/// What the condition is made of.
pub struct View<'a> {
    /// What the prober says.
    pub reading: &'a Reading,
    /// Whether visitors get the maintenance page because the spec says so.
    pub maintenance: bool,
    /// Names that the zone's servers answer wrongly, by [`dns_mismatch`]; `None` if they were not asked.
    pub mismatches: Option<&'a [Failure]>,
    /// What the host itself says is the matter with the app, by Node: see [`ill`].
    pub causes: &'a BTreeMap<&'a str, Failure>,
    /// The condition as it is.
    pub before: Option<&'a Condition>,
}

/// The condition `Available`; `None` if it stays as it is.
#[must_use]
pub fn available(view: &View<'_>) -> Option<Desired> {
    if view.maintenance {
        let message =
            "every name answers with the maintenance page: set spec.maintenance to false to have the app back";
        return Some(Desired::no(AVAILABLE, MAINTENANCE, message));
    }
    // Whatever was said for another reason than what was probed is over.
    let is_probed = |before: &&Condition| {
        before.status != "Unknown" && ![MAINTENANCE, NOTHING_SERVES].contains(&before.reason.as_str())
    };
    let keep = || {
        let message = "the names of the app are not probed yet: this takes a moment".to_owned();
        let unknown = Desired { type_: AVAILABLE, status: None, reason: NOT_PROBED_YET, message };
        view.before.is_none_or(|before| !is_probed(&before)).then_some(unknown)
    };
    let Some(sites) = &view.reading.sites else { return keep() };
    if sites.is_empty() {
        let message = "no revision of the app serves any name: the condition Ready says what the deploy waits for";
        return Some(Desired::no(AVAILABLE, NOTHING_SERVES, message));
    }
    if view.reading.isolated {
        return keep();
    }
    let mut failing: Vec<_> = sites.iter().filter_map(|site| failing(site, view.causes)).collect();
    let mismatches = view.mismatches.unwrap_or_default();
    failing.extend(mismatches.iter().map(|failure| Failing { at: None, failure: failure.clone() }));
    failing.sort_by_key(|failing| rank(failing.failure.reason));
    if let Some((worst, others)) = failing.split_first() {
        return Some(Desired::no(AVAILABLE, worst.failure.reason, words(worst, others)));
    }
    if sites.iter().any(|site| site.verdict.is_none()) {
        return keep();
    }
    if view.mismatches.is_none() && view.before.is_some_and(|before| before.reason == DNS_MISMATCH) {
        return None;
    }
    Some(Desired::yes(AVAILABLE, "Serving", "every name of the app is served by every Node that it leads to"))
}

/// A site that fails, or a name that leads elsewhere.
struct Failing {
    at: Option<String>,
    failure: Failure,
}

fn failing(site: &Seen, causes: &BTreeMap<&str, Failure>) -> Option<Failing> {
    let verdict = site.verdict.as_ref().filter(|verdict| verdict.health == Health::Unhealthy)?;
    let seen = Failure { reason: verdict.reason, message: verdict.message.clone() };
    // What ails its containers explains what an app answers, but not that nobody gets as far as the app.
    let cause = causes.get(site.node.as_str()).filter(|_| rank(seen.reason) >= BEHIND);
    Some(Failing {
        at: Some(format!("{} at Node {}", site.domain, site.node)),
        failure: cause.cloned().unwrap_or(seen),
    })
}

/// Failures from here on are of what is behind Caddy.
const BEHIND: u8 = 3;

/// How far from the app a failure is: the farther, the worse, since everything nearer is cut off by it.
fn rank(reason: &str) -> u8 {
    match reason {
        reason::CONNECTION_REFUSED
        | reason::CONNECTION_RESET
        | reason::CONNECTION_CLOSED
        | reason::CONNECTION_FAILED
        | reason::UNREACHABLE
        | reason::ADDRESS_REFUSED
        | reason::TIMEOUT
        | reason::WRONG_HOST => 0,
        DNS_MISMATCH => 1,
        reason::TLS_ERROR
        | reason::CERTIFICATE_EXPIRED
        | reason::CERTIFICATE_NOT_YET_VALID
        | reason::CERTIFICATE_NAME_MISMATCH
        | reason::CERTIFICATE_NOT_TRUSTED
        | reason::CERTIFICATE_MISSING
        | reason::CERTIFICATE_INVALID => 2,
        _ => BEHIND,
    }
}

fn words(worst: &Failing, others: &[Failing]) -> String {
    let mut words = match &worst.at {
        Some(at) => format!("{at}: {}", worst.failure.message),
        None => worst.failure.message.clone(),
    };
    let mut also: Vec<_> = others.iter().filter_map(|other| other.at.as_deref()).collect();
    also.sort_unstable();
    let more = if also.len() > NAMED { " and more" } else { "" };
    also.truncate(NAMED);
    if !also.is_empty() {
        words.push_str("; failing too: ");
        words.push_str(&also.join(", "));
        words.push_str(more);
    }
    words
}

#[cfg(test)]
#[path = "available_tests.rs"]
mod tests;
