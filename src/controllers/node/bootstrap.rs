//! Work on managed hosts, beside the reconcile loop: begun by a pass, remembered in memory, and begun anew when it is old
//! or another thing is wanted. What it means for the Node is decided in [`plan`](super::plan).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ipnet::Ipv4Net;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::time::{Instant, sleep};

use super::apps;
use super::plan::{HostView, Verdict};
use super::roll::{NotNow, Roll};
use crate::api::app_deployment::AppDeployment;
use crate::api::condition;
use crate::api::names::Mark;
use crate::api::node::{Addresses, Node};
use crate::controllers::hosts::{self, Hosts};
use crate::host::bootstrap::{self, Act, Cause, Certificates, Images, Packages, Refusal, Step, Wanted};
use crate::host::caddy::NotTaken;
use crate::host::ssh::{self, Session};
use crate::host::{certificate, routes, table};
use crate::runtime::bounded;
use crate::runtime::cache::{Cache, Key};
use crate::runtime::events::{Events, Note};
use crate::runtime::fault::Fault;
use crate::runtime::jobs::Jobs;

/// The work's name.
const WORK: &str = "bootstrap";
/// The reason of a host that serves and is to be changed after others.
const WAITING: &str = "WaitingForOtherHosts";
/// The reason of what does not work on a host.
const BROKEN: &str = "BootstrapFailed";
/// How long a new VM may take until it lets us in, and how often it is asked.
const BOOT: Duration = Duration::from_secs(180);
const KNOCK: Duration = Duration::from_secs(2);
/// How long Caddy may take to get a certificate.
const CERTIFICATE: Duration = Duration::from_secs(60);
/// How long after the first failure the next try comes; it doubles from there.
const RETRY: Duration = Duration::from_secs(15);
const DOUBLINGS: u32 = 4;

/// What this operator puts on hosts.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// What runs there; no host is managed without it.
    pub images: Option<Images>,
    /// Where certificates come from.
    pub certificates: Certificates,
    /// The network that apps and Caddy share.
    pub edge: Ipv4Net,
    /// Where Docker comes from.
    pub packages: Packages,
    /// How many hosts are worked on at once.
    pub jobs: usize,
}

/// What work on hosts needs.
pub struct BootstrapDeps {
    /// The API server.
    pub client: Client,
    /// Connections.
    pub hosts: Arc<Hosts>,
    /// All apps.
    pub apps: Cache<AppDeployment>,
    /// What hosts get.
    pub settings: HostSettings,
    /// Where repairs are told.
    pub events: Events,
    /// Called with a Node about whose host there is something new.
    pub wake: Arc<dyn Fn(&Key) + Send + Sync>,
    /// Called with an app on a host that was put in order again.
    pub wake_app: Arc<dyn Fn(&Key) + Send + Sync>,
    /// How often a host is looked at.
    pub resync: Duration,
}

/// Work on the hosts of all Nodes.
pub struct Bootstraps {
    deps: Arc<BootstrapDeps>,
    jobs: Jobs<Verdict>,
    roll: Roll,
    looks: Arc<Mutex<HashMap<String, Look>>>,
}

/// What is remembered of a host, by Node UID.
#[derive(Default)]
struct Look {
    /// Which machine it is: what is known of another says nothing.
    machine: String,
    /// What was wanted there.
    wanted: String,
    verdict: Option<Verdict>,
    at: Option<Instant>,
    failures: u32,
    /// What is being done there.
    work: Option<&'static str>,
}

/// What a Node wants of its host.
pub struct Wish<'a> {
    /// The Node.
    pub node: &'a Arc<Node>,
    /// Its name.
    pub fqdn: String,
    /// Its mark.
    pub mark: &'a Mark,
    /// The owner whose host it takes over.
    pub adopt: Option<&'a str>,
}

impl Wish<'_> {
    fn uid(&self) -> String {
        self.node.uid().unwrap_or_default()
    }

    fn machine(&self) -> String {
        if let Some(address) = &self.node.spec.address {
            return format!("the host {address}");
        }
        let status = self.node.status.clone().unwrap_or_default();
        let address = status.addresses.as_ref().and_then(Addresses::publishable);
        format!("VM {:?} at {address:?}", status.vm_id)
    }

    /// Everything that has the host looked at again when it changes.
    fn wanted(&self, holder: bool) -> String {
        let spec = &self.node.spec;
        format!("{} {} {:?} {:?} {holder}", self.fqdn, spec.health_path, spec.ssh, self.adopt)
    }
}

impl Bootstraps {
    /// Without work.
    #[must_use]
    pub fn new(deps: BootstrapDeps) -> Self {
        let wake = Arc::clone(&deps.wake);
        let jobs = Jobs::new(deps.settings.jobs, move |key| wake(key));
        Self { deps: Arc::new(deps), jobs, roll: Roll::default(), looks: Arc::default() }
    }

    /// What is known of a Node's host.
    #[must_use]
    pub fn view(&self, wish: &Wish<'_>) -> HostView {
        let unset = self.deps.settings.images.is_none().then(|| {
            "host.manage: this operator was not told what to run on hosts: set the chart's values hosts.caddyImage and \
             hosts.routerImage (--caddy-image, --router-image), or host.manage: None"
                .to_owned()
        });
        let apps = self.deps.apps.all();
        let target = apps::target_of(&wish.fqdn, wish.node, apps.iter().map(|app| &**app));
        let (machine, wanted) = (wish.machine(), wish.wanted(target.is_some()));
        let mut looks = lock(&self.looks);
        let look = looks.entry(wish.uid()).or_default();
        let key = Key::of(&**wish.node);
        if look.machine != machine {
            // What runs is about another machine.
            self.jobs.forget(&key);
            *look = Look { machine, ..Look::default() };
        }
        match self.jobs.poll(&key, WORK) {
            Some(Poll::Ready(verdict)) => {
                let failed = matches!(verdict, Verdict::Broken { .. } | Verdict::Unseen { .. })
                    || matches!(verdict, Verdict::Serves { certificate: Err(_) });
                look.failures = if failed { look.failures.saturating_add(1) } else { 0 };
                (look.verdict, look.at, look.work) = (Some(verdict), Some(Instant::now()), None);
            }
            Some(Poll::Pending) => {}
            None => look.work = None,
        }
        let age = look.at.map_or(Duration::MAX, |at| at.elapsed());
        let lasting = match look.failures {
            // A little less than the resync, at which it is to be old.
            0 => self.deps.resync.mul_f64(0.8),
            failures => RETRY.saturating_mul(1 << (failures - 1).min(DOUBLINGS)).min(self.deps.resync),
        };
        let again = lasting.saturating_sub(age);
        HostView {
            unset,
            verdict: look.verdict.clone(),
            fresh: look.wanted == wanted && !again.is_zero(),
            again,
            work: look.work.map(str::to_owned),
            target,
        }
    }

    /// Begins to work on a Node's host, unless that is so already.
    pub fn start(&self, wish: &Wish<'_>) {
        let Some(images) = self.deps.settings.images.clone() else { return };
        let apps = self.deps.apps.all();
        let target = apps::target_of(&wish.fqdn, wish.node, apps.iter().map(|app| &**app));
        let uid = wish.uid();
        {
            let mut looks = lock(&self.looks);
            let look = looks.entry(uid.clone()).or_default();
            (look.machine, look.wanted) = (wish.machine(), wish.wanted(target.is_some()));
            look.work = Some("waiting for its turn");
        }
        let key = Key::of(&**wish.node);
        let job = Job {
            deps: Arc::clone(&self.deps),
            roll: self.roll.clone(),
            images,
            progress: Progress { key: key.clone(), uid, looks: Arc::clone(&self.looks), wake: self.deps.wake.clone() },
            node: Arc::clone(wish.node),
            fqdn: wish.fqdn.clone(),
            mark: wish.mark.clone(),
            adopt: wish.adopt.map(str::to_owned),
        };
        self.jobs.start(key, WORK, job.work());
    }

    /// A Node is gone: what runs for it ends, and nothing of it is remembered.
    pub fn forget(&self, node: &Node) {
        self.jobs.forget(&Key::of(node));
        self.roll.clear(&Key::of(node));
        lock(&self.looks).remove(&node.uid().unwrap_or_default());
    }

    /// Ends what runs: the next leader looks at those hosts again.
    pub async fn close(&self) {
        self.jobs.close().await;
    }
}

/// Tells what is being done on a host.
struct Progress {
    key: Key,
    uid: String,
    looks: Arc<Mutex<HashMap<String, Look>>>,
    wake: Arc<dyn Fn(&Key) + Send + Sync>,
}

impl Progress {
    fn say(&self, work: &'static str) {
        {
            let mut looks = lock(&self.looks);
            let Some(look) = looks.get_mut(&self.uid).filter(|look| look.work.is_some_and(|before| before != work))
            else {
                return;
            };
            look.work = Some(work);
        }
        (self.wake)(&self.key);
    }
}

/// One look at a host, and what has to be done there.
struct Job {
    deps: Arc<BootstrapDeps>,
    roll: Roll,
    images: Images,
    progress: Progress,
    node: Arc<Node>,
    fqdn: String,
    mark: Mark,
    adopt: Option<String>,
}

impl Job {
    async fn work(self) -> Verdict {
        let verdict = match self.bootstrap().await {
            Ok(certificate) => Verdict::Serves { certificate },
            Err(verdict) => verdict,
        };
        if let Verdict::Broken { reason, message } | Verdict::Unseen { reason, message } = &verdict
            && *reason != WAITING
        {
            self.note(Note::warning(*reason, message.clone()));
        }
        verdict
    }

    /// Says why there is no certificate, where Caddy serves.
    async fn bootstrap(&self) -> Result<Result<(), String>, Verdict> {
        self.progress.say("waiting until it lets Roadstead in over SSH");
        let session = self.session().await?;
        self.progress.say("looking at it");
        {
            // Nobody else changes the table while we do.
            let _alone = self.deps.hosts.exclusive(&self.node.uid().unwrap_or_default()).await;
            let wanted = self.wanted(&session).await?;
            let acts = self.act(&session, &wanted).await?;
            self.tell(&acts);
        }
        self.progress.say("getting a certificate for its name");
        match certificate::ensure(&session, &self.fqdn, CERTIFICATE).await {
            Ok(()) => Ok(Ok(())),
            Err(certificate::Error::Ssh(error)) if error.is_cut() => Err(unseen(&error)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Brings the host to what is wanted. One that serves, and is to be changed, waits for its turn.
    async fn act(&self, session: &Session, wanted: &Wanted) -> Result<Vec<Act>, Verdict> {
        let (mut turn, mut not_now) = (None, None);
        let may = |act: &Act| {
            if act.cause == Cause::Change && turn.is_none() {
                match self.roll.enter(&self.progress.key) {
                    Ok(mine) => turn = Some(mine),
                    Err(reason) => {
                        not_now = Some(reason);
                        return false;
                    }
                }
            }
            self.progress.say(words(&act.step));
            true
        };
        let acts = bootstrap::run_if(session, wanted, may).await;
        match (turn, &acts) {
            (Some(turn), Ok(_)) => turn.end(Ok(())),
            (Some(turn), Err(error)) => turn.end(Err(error.to_string())),
            (None, Ok(_)) => self.roll.clear(&self.progress.key),
            (None, Err(_)) => {}
        }
        acts.map_err(|error| not_now.map_or_else(|| judge(error), held))
    }

    /// A VM that was just made takes a while to start sshd, and some more to let our key in.
    async fn session(&self) -> Result<Arc<Session>, Verdict> {
        let conditions = self.node.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
        let is_new = self.node.spec.address.is_none() && !condition::is_true(conditions, super::plan::BOOTSTRAPPED);
        let begun = Instant::now();
        loop {
            let fault = match self.deps.hosts.session(&self.node).await {
                Ok(session) => return Ok(session),
                Err(fault) => fault,
            };
            let passes = match &fault {
                Fault::Terminal { reason, .. } => *reason == hosts::reason::REFUSED,
                Fault::Transient { .. } | Fault::RateLimited(_) | Fault::Conflict => true,
                Fault::Waiting { .. } | Fault::Gone => false,
            };
            if !(is_new && passes && begun.elapsed() < BOOT) {
                return Err(match fault {
                    Fault::Terminal { reason, message } => Verdict::Refused { reason, message },
                    Fault::Transient { reason, message } | Fault::Waiting { reason, message, .. } => {
                        Verdict::Unseen { reason, message }
                    }
                    other @ (Fault::RateLimited(_) | Fault::Gone | Fault::Conflict) => {
                        Verdict::Unseen { reason: "KubernetesAPI", message: other.to_string() }
                    }
                });
            }
            sleep(KNOCK).await;
        }
    }

    async fn wanted(&self, session: &Session) -> Result<Wanted, Verdict> {
        let settings = &self.deps.settings;
        let is = routes::read(session).await.map_err(|error| unseen(&error))?;
        let known = self.known(is.as_ref()).await?;
        let node = table::Node {
            nonce: self.deps.hosts.nonce(&self.node).into(),
            health_path: self.node.spec.health_path.as_str().into(),
        };
        Ok(Wanted {
            mark: self.mark.clone(),
            adopt: self.adopt.clone(),
            images: self.images.clone(),
            table: apps::table(is.as_ref(), &known, &self.fqdn, node).map_err(|error| unroutable(&error))?,
            certificates: settings.certificates.clone(),
            edge: settings.edge,
            packages: settings.packages.clone(),
        })
    }

    /// The names that apps have noted. An app notes a name before it routes it, but what we have seen of apps may be
    /// older than the host's table: before a name is taken away the API server is asked.
    async fn known(&self, is: Option<&table::Table>) -> Result<std::collections::BTreeSet<String>, Verdict> {
        let seen = self.deps.apps.all();
        let known = apps::names_on(&self.node, seen.iter().map(|app| &**app));
        let Some(is) = is.filter(|is| apps::has_strays(is, &known, &self.fqdn)) else { return Ok(known) };
        let namespace = self.node.namespace().unwrap_or_default();
        let api: Api<DeserializeGuard<AppDeployment>> = Api::namespaced(self.deps.client.clone(), &namespace);
        let listed = match bounded(api.list(&ListParams::default())).await {
            Ok(listed) => listed.items,
            // There is no such kind.
            Err(Fault::Gone) => Vec::new(),
            Err(fault) => return Err(Verdict::Unseen { reason: "KubernetesAPI", message: fault.to_string() }),
        };
        let mut known = apps::names_on(&self.node, listed.iter().filter_map(|app| app.0.as_ref().ok()));
        if listed.iter().any(|app| app.0.is_err()) {
            // Whose names nobody can read.
            known.extend(is.iter().map(|(name, _)| name.to_owned()));
        }
        Ok(known)
    }

    /// What was changed on a host that had everything in place.
    fn tell(&self, acts: &[Act]) {
        for (cause, reason) in [(Cause::Repair, "HostRepaired"), (Cause::Change, "HostChanged")] {
            let done: Vec<_> = acts.iter().filter(|act| act.cause == cause).map(ToString::to_string).collect();
            if !done.is_empty() {
                self.note(Note::normal(reason, done.join("; ")));
            }
        }
        if acts.iter().any(|act| act.cause == Cause::Repair) {
            self.deps.hosts.count_restored(&self.node.uid().unwrap_or_default());
            let all = self.deps.apps.all();
            all.iter()
                .filter(|app| apps::is_on(app, &self.node))
                .for_each(|app| (self.deps.wake_app)(&Key::of(&**app)));
        }
    }

    fn note(&self, note: Note) {
        self.deps.events.publish(self.node.object_ref(&()), note);
    }
}

fn unseen(error: &ssh::Error) -> Verdict {
    Verdict::Unseen { reason: hosts::reason::UNREACHABLE, message: error.to_string() }
}

/// A host that serves as it did before, until it is its turn.
fn held(not_now: NotNow) -> Verdict {
    match not_now {
        NotNow::Busy => {
            let message = "the host is to be changed, and waits until others have been".to_owned();
            Verdict::Unseen { reason: WAITING, message }
        }
        NotNow::Failed { of, message } => {
            let message = format!(
                "the host is to be changed, and is not, because the change of the host of Node {of} failed: {message}"
            );
            Verdict::Unseen { reason: "HostChangesHeld", message }
        }
    }
}

/// Of the table only the Node's own part comes from people.
fn unroutable(error: &table::TableError) -> Verdict {
    let message = format!("spec.healthPath: the host's routers do not take it: {error}");
    Verdict::Refused { reason: "InvalidHealthPath", message }
}

/// What an error of the work means.
fn judge(error: bootstrap::Error) -> Verdict {
    let message = error.to_string();
    match error {
        bootstrap::Error::Refused(refusal) => Verdict::Refused { reason: reason(&refusal), message },
        bootstrap::Error::Unusable(_) => Verdict::Refused { reason: "InvalidHostSettings", message },
        bootstrap::Error::Caddy(NotTaken::Refused(_)) => Verdict::Refused { reason: "CaddyConfigRefused", message },
        bootstrap::Error::Ssh(error) if error.is_cut() => unseen(&error),
        bootstrap::Error::Ssh(_)
        | bootstrap::Error::Held { .. }
        | bootstrap::Error::Garbled(_)
        | bootstrap::Error::Caddy(NotTaken::Changed)
        | bootstrap::Error::Silent { .. }
        | bootstrap::Error::Stuck { .. } => Verdict::Broken { reason: BROKEN, message },
    }
}

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoSudo { .. } => "NoSudo",
        Refusal::UnsupportedSystem { .. } => "UnsupportedSystem",
        Refusal::OtherOwner { .. } => "OtherOwner",
        Refusal::AdoptionRequired { .. } => "AdoptionRequired",
        Refusal::PortInUse { .. } => "PortInUse",
    }
}

/// What a step is to people who wait for it: a few words that stay for a while.
fn words(step: &Step) -> &'static str {
    match step {
        Step::Claim { .. } | Step::Directories(_) | Step::Write(_) => "writing its files",
        Step::Install { .. } => "installing Docker",
        Step::StartDocker | Step::Network => "setting up Docker",
        Step::Pull(_) => "pulling images",
        Step::Start { .. } | Step::Settle { .. } => "starting Caddy and its routers",
        Step::Configure(_) | Step::Finish => "configuring Caddy",
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
