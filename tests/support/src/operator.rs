//! The operator under test: the real program as a process that can be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::cluster::OPERATOR_NAMESPACE;
use crate::process::{Supervised, free_port, repository, unique};
use crate::{ControlPlane, eventually};

/// How much of a log is shown when a test fails.
const SHOWN_LINES: usize = 300;

/// Where the outside listens: the simulated one, but in `make test-live`.
#[derive(Debug, Clone)]
pub struct SimAddresses {
    /// Base URL of the Cloudflare API.
    pub cloudflare: String,
    /// Base URL of the `DigitalOcean` API.
    pub digitalocean: String,
    /// The public resolver.
    pub resolver: SocketAddr,
    /// The authoritative DNS server; each zone's own without it.
    pub authority: Option<SocketAddr>,
}

/// The operator's settings in a test. Durations are short enough that a test need not wait for them.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The program: `env!("CARGO_BIN_EXE_roadstead")`, which only the test itself can name.
    pub binary: PathBuf,
    /// Cluster id in the marks of everything created outside.
    pub cluster_id: String,
    /// Repair of outside edits (default 60 s: tests that mean the resync shorten it).
    pub resync: Duration,
    /// Search for orphans (default 60 s).
    pub orphan_interval: Duration,
    /// How long an unknown outcome is left to settle (default 1 s).
    pub settle_time: Duration,
    /// Upper bound on waiting out a record's TTL (default 1 s).
    pub ttl_wait_cap: Duration,
    /// Global freeze.
    pub read_only: bool,
    /// The kubeconfig to run with (a proxy's, a `ServiceAccount`'s); the administrator's by default.
    pub kubeconfig: Option<PathBuf>,
    /// Further arguments, after all others.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
}

impl OperatorOptions {
    /// The defaults for that program.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            cluster_id: "test1".to_owned(),
            resync: Duration::from_mins(1),
            orphan_interval: Duration::from_mins(1),
            settle_time: Duration::from_secs(1),
            ttl_wait_cap: Duration::from_secs(1),
            read_only: false,
            kubeconfig: None,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// A running operator. It ends with the test process, however that ends; its log is printed if the test panics.
#[derive(Debug)]
pub struct Operator {
    process: Option<Supervised>,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    metrics: SocketAddr,
    pid: u32,
}

impl Operator {
    /// Starts the operator against the control plane and the simulated outside, and waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready within 60 s; its log is printed.
    pub async fn start(control_plane: &ControlPlane, sim: &SimAddresses, options: OperatorOptions) -> Self {
        let mut operator = Self::start_unready(control_plane, sim, options);
        operator.wait_ready().await;
        operator
    }

    /// Starts the operator without waiting: for a second replica, which is ready without leading, or a run meant to fail.
    #[must_use]
    pub fn start_unready(control_plane: &ControlPlane, sim: &SimAddresses, options: OperatorOptions) -> Self {
        let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut arguments: Vec<String> = vec!["run".to_owned()];
        for (flag, value) in [
            ("--cloudflare-api", sim.cloudflare.clone()),
            ("--digitalocean-api", sim.digitalocean.clone()),
            ("--namespace", OPERATOR_NAMESPACE.to_owned()),
            ("--cluster-id", options.cluster_id),
            ("--metrics-addr", metrics.to_string()),
            ("--resolvers", sim.resolver.to_string()),
            ("--resync", milliseconds(options.resync)),
            ("--orphan-interval", milliseconds(options.orphan_interval)),
            ("--settle-time", milliseconds(options.settle_time)),
            ("--ttl-wait-cap", milliseconds(options.ttl_wait_cap)),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        arguments.extend(sim.authority.iter().flat_map(|authority| ["--authority".to_owned(), authority.to_string()]));
        arguments.extend(options.read_only.then(|| "--read-only".to_owned()));
        arguments.extend(options.arguments);

        let kubeconfig = options.kubeconfig.unwrap_or_else(|| control_plane.kubeconfig().to_owned());
        let mut environment = vec![("KUBECONFIG".to_owned(), kubeconfig.to_str().expect("UTF-8").to_owned())];
        environment.extend(options.environment);
        let mut operator = Self {
            process: None,
            binary: options.binary,
            arguments,
            environment,
            log: control_plane.directory().join(unique("operator")).with_extension("log"),
            metrics,
            pid: 0,
        };
        operator.spawn();
        operator
    }

    fn spawn(&mut self) {
        let supervise = repository().join("tests/support/supervise.sh");
        let mut command = Command::new(&supervise);
        command.arg(&self.log).arg(&self.binary).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let (process, pid) = Supervised::start(&supervise, &mut command, Duration::from_secs(10));
        self.pid = pid.parse().expect("the supervisor prints a process id");
        self.process = Some(process);
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_ready(&mut self) {
        let url = format!("http://{}/readyz", self.metrics);
        eventually(Duration::from_mins(1), "the operator to be ready", async || {
            let ended = self.process.as_mut().and_then(Supervised::ended);
            assert!(ended.is_none(), "the operator ended: {ended:?}");
            let status = reqwest::get(&url).await.map_err(|error| error.to_string())?.status();
            if status == http::StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// Kills the operator as a crash would, and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.end("KILL", Duration::from_secs(10)).await;
    }

    /// Asks the operator to shut down (SIGTERM) and waits up to 30 s for it to end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.end("TERM", Duration::from_secs(30)).await
    }

    /// Sends the operator a signal by name, such as `STOP` and `CONT`; nothing happens if it has ended.
    pub fn signal(&mut self, name: &str) {
        if let Some(process) = &mut self.process {
            process.signal(name);
        }
    }

    async fn end(&mut self, signal: &str, deadline: Duration) -> ExitStatus {
        let mut process = self.process.take().expect("the operator runs");
        process.signal(signal);
        process.wait(deadline).await
    }

    /// Waits until the operator ends by itself, for example because it lost its lease.
    pub async fn wait_ended(&mut self, deadline: Duration) -> ExitStatus {
        let status = self.process.as_mut().expect("the operator runs").wait(deadline).await;
        self.process = None;
        status
    }

    /// Starts the operator again with the same settings, killing it first if it still runs; waits until it is ready.
    pub async fn restart(&mut self) {
        if self.process.is_some() {
            self.kill9().await;
        }
        self.spawn();
        self.wait_ready().await;
    }

    /// The operator's process id, for reading its memory and threads.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The present value of every metric, in Prometheus text form.
    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.metrics);
        reqwest::get(url).await.expect("the metrics port answers").text().await.expect("metrics are text")
    }

    /// Everything the operator has logged, over all its restarts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The log file.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Prints the end of the log to standard error: for an operator several tests share, which is never dropped.
    pub fn dump_log(&self) {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(SHOWN_LINES);
        eprintln!("--- operator log ({} of {} lines) ---", SHOWN_LINES.min(log.lines().count()), log.lines().count());
        for line in log.lines().skip(skip) {
            eprintln!("{line}");
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dump_log();
        }
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
