//! Health probes: one scheduler for all targets, from declared sets to verdicts. Nothing here knows of Kubernetes.
//!
//! [`Engine`] is a cheap handle whose methods never wait. Owners [`declare`](Engine::declare) their targets; what
//! changes for good is sent as a [`Transition`].
//!
//! * `verdict` (when results become a verdict), `pulse` (when our own network is doubted), `address` (what may be
//!   probed) and `state` (who is due, and what a result means) are pure: time and randomness come in from outside;
//! * `scheduler` is the one task: it starts what is due, and asks the [`SelfCheck`] where there is doubt;
//! * `network` is the [`Prober`] that resolves, checks and connects; `http` and `tls` say what went wrong then;
//! * [`site`] asks for a name at one address, and whether the host there is the one that is meant.

mod address;
#[cfg(test)]
mod engine_tests;
mod http;
mod network;
#[cfg(test)]
mod network_tests;
mod pulse;
pub mod reason;
mod scheduler;
pub mod site;
mod state;
#[cfg(test)]
mod state_tests;
mod tls;
mod verdict;

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::Method;
use async_trait::async_trait;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use network::Network;
use site::Site;
use state::State;

/// How many probes may run at once by default: 10,000 targets every 10 s that all hang for 2 s need 2,000.
pub const CONCURRENCY: usize = 2_048;

/// One thing to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Unique over all owners: the owner itself, or `<owner>/<anything>`.
    pub key: Arc<str>,
    /// What is done.
    pub check: Check,
    /// From the start of one probe to the start of the next, give or take a tenth. At least 100 ms.
    pub interval: Duration,
    /// How long a probe may take in all, resolving included.
    pub timeout: Duration,
    /// Failures in a row that make a target Unhealthy; at least 1.
    pub fall: u32,
    /// Successes in a row that make an Unhealthy target Healthy; at least 1.
    pub rise: u32,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// One HTTP request; the status of the answer decides.
    Http(HttpCheck),
    /// A connection that is made and closed.
    Tcp {
        /// IP address or hostname.
        address: String,
        /// Port.
        port: u16,
    },
    /// A name at one address, served by one host and no other.
    Site(Site),
}

/// One HTTP/1.1 request. Redirects are not followed, and no body is awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// With or without TLS.
    pub scheme: Scheme,
    /// IP address or hostname to connect to. A hostname with a dot in it is taken as complete: no search domain is
    /// tried.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Method; the request has no body.
    pub method: Method,
    /// Path and query, starting with `/`.
    pub path: String,
    /// The `Host` header, as sent; without it the address, with the port if that is not the scheme's own.
    pub host: Option<String>,
    /// Whom the certificate must name; without it the host, without it the address.
    pub server_name: Option<String>,
    /// The statuses that are a success.
    pub expected: RangeInclusive<u16>,
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS 1.2 or 1.3 with a verified certificate.
    Https,
}

/// Whether a target serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers as it should.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// What is known of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it serves.
    pub health: Health,
    /// One of [`reason`], `CamelCase`.
    pub reason: &'static str,
    /// What was seen and what to do about it. Holds no times and no counts.
    pub message: String,
    /// Since when `health` is what it is.
    pub since: Timestamp,
}

/// A verdict that was reached, or turned. Sent in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The target's key. It may have ended meanwhile.
    pub key: Arc<str>,
    /// What is known now.
    pub verdict: Verdict,
}

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target answered as it should.
    Success,
    /// It did not.
    Failure(Failure),
    /// The probe could not be made for a reason of our own, such as too many open files: it says nothing about the
    /// target.
    Inconclusive(String),
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of [`reason`].
    pub reason: &'static str,
    /// As [`Verdict::message`].
    pub message: String,
}

/// Makes single probes.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Probes once. Ends within the target's timeout.
    async fn probe(&self, target: &Target) -> Outcome;
}

/// Tells a failure of our own network from a failure of the targets.
#[async_trait]
pub trait SelfCheck: Send + Sync {
    /// Whether anything outside that does not depend on the targets can be reached: the control plane, a zone's
    /// authority. No answer within 5 s counts as no. Asked at most four times a second, and only in doubt.
    async fn reachable(&self) -> bool;
}

/// Where probes are counted. Called from the probes' own tasks: must not block.
pub trait Meter: Send + Sync {
    /// A probe ended.
    fn probed(&self, probed: &Probed);
    /// So many targets are declared now.
    fn targets(&self, count: usize);
    /// Verdicts froze, or thawed.
    fn isolated(&self, isolated: bool);
}

/// How one probe went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// `http`, `https`, `tcp` or `site`.
    pub check: &'static str,
    /// `Success`, `Inconclusive`, or the reason of the failure.
    pub result: &'static str,
    /// How long after it was due its work began.
    pub late: Duration,
    /// How long it took from there.
    pub took: Duration,
}

/// How the engine runs.
#[derive(Clone)]
pub struct Settings {
    /// Networks that are probed although they are private or otherwise special. Metadata services are reached only
    /// where an entry is exactly their address.
    pub allow_cidrs: Vec<IpNet>,
    /// PEM certificates of authorities trusted beside the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// How many probes may run at once, see [`CONCURRENCY`]. Each needs a file descriptor.
    pub concurrency: usize,
    /// Asked when our own network is in doubt.
    pub self_check: Arc<dyn SelfCheck>,
    /// Where probes are counted.
    pub meter: Arc<dyn Meter>,
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The extra authorities are no certificates.
    #[error("the extra certificate authorities cannot be used: {0}; give a PEM file of CA certificates")]
    ExtraCa(String),
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// What handle and task share.
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    stop: CancellationToken,
    prober: Arc<dyn Prober>,
    self_check: Arc<dyn SelfCheck>,
    meter: Arc<dyn Meter>,
    concurrency: usize,
    isolated: watch::Sender<bool>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to the one scheduler. Its task, and every probe in flight, ends with the last handle.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    _guard: Arc<DropGuard>,
}

impl Engine {
    /// Starts the scheduler with the system's resolver and trusted authorities. Nothing is probed until it is
    /// declared.
    ///
    /// # Errors
    /// [`SettingsError`] when the extra authorities cannot be used.
    pub fn start(settings: Settings, transitions: mpsc::Sender<Transition>) -> Result<Self, SettingsError> {
        let network = Arc::new(Network::new(settings.allow_cidrs.clone(), settings.extra_ca.as_deref())?);
        Ok(Self::with_prober(settings, network, fastrand::Rng::new(), transitions))
    }

    /// As [`Engine::start`], with another way to probe.
    pub(crate) fn with_prober(
        settings: Settings,
        prober: Arc<dyn Prober>,
        rng: fastrand::Rng,
        transitions: mpsc::Sender<Transition>,
    ) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(Instant::now(), rng)),
            changed: Notify::new(),
            stop: stop.clone(),
            prober,
            self_check: settings.self_check,
            meter: settings.meter,
            concurrency: settings.concurrency.max(1),
            isolated: watch::Sender::new(false),
        });
        tokio::spawn(scheduler::run(Arc::clone(&shared), transitions));
        Self { shared, _guard: Arc::new(stop.drop_guard()) }
    }

    /// Declares the whole set of an owner; nothing ends them all.
    ///
    /// Unchanged targets keep verdict and schedule. Where only interval, timeout, `fall` or `rise` changed, the
    /// verdict stays and results count anew. Others start anew, without a verdict: a few at once, many spread over
    /// their interval.
    pub fn declare(&self, owner: &str, targets: Vec<Target>) {
        let count = {
            let mut state = self.shared.state();
            state.declare(owner, targets, Instant::now());
            state.len()
        };
        self.shared.meter.targets(count);
        self.shared.changed.notify_one();
    }

    /// What is known of a target; `None` before its first verdict.
    #[must_use]
    pub fn verdict(&self, key: &str) -> Option<Verdict> {
        self.shared.state().verdict(key)
    }

    /// Takes over a verdict from an earlier life, so that a restart neither forgets nor flaps: a change of it must be
    /// earned in full. Before or after the declaration; one that the owner's next declaration does not take up is
    /// dropped, and what was probed meanwhile is believed instead.
    pub fn restore(&self, key: &str, verdict: Verdict) {
        self.shared.state().restore(key, verdict);
    }

    /// Whether our own network is down, so that verdicts are frozen.
    #[must_use]
    pub fn isolated(&self) -> watch::Receiver<bool> {
        self.shared.isolated.subscribe()
    }
}
