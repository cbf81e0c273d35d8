//! What a failure is called, what is said of it, and whether time may heal it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::BackOff;
use super::log::cut;

/// The longest message.
const LONGEST: usize = 512;
/// The wait after the first failure.
const FIRST: Duration = Duration::from_secs(2);
/// The longest wait.
const LAST: Duration = Duration::from_secs(300);

/// The part of a deploy that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Getting the images.
    Pull,
    /// Making networks.
    Networks,
    /// Updating the services that go before the swap.
    BeforeSwap,
    /// The one command before the swap.
    PreDeploy,
    /// Making and starting the new revision.
    Start,
    /// Its health inside.
    InternalHealth,
    /// Leading the names to it.
    Swap,
    /// Its health outside.
    ExternalHealth,
    /// Updating the services that go after the swap.
    AfterSwap,
}

/// What serves after a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fallback {
    /// The previous revision.
    #[default]
    Previous,
    /// The previous revision, which was started again and did not answer within its time.
    PreviousSilent,
    /// The placeholder: there was nothing before.
    Placeholder,
    /// The new revision: what failed came after it went live.
    New,
}

/// Why a revision is not live, or not whole. It is not tried again until something else is wanted, or the cause changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The revision.
    pub revision: String,
    /// What it was tried for.
    pub cause: String,
    /// What failed.
    pub phase: Phase,
    /// The reason of the condition.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// The app's last lines, masked and cut; `None` until they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<String>>,
    /// What serves now.
    #[serde(default)]
    pub fallback: Fallback,
}

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whether time may heal it.
    pub transient: bool,
    /// The reason of the condition.
    pub reason: &'static str,
    /// What the host said, cut; secrets are the caller's to mask.
    pub message: String,
}

impl Fault {
    /// What another try would not change.
    #[must_use]
    pub fn terminal(reason: &'static str, message: &str) -> Self {
        Self { transient: false, reason, message: cut(message.trim(), LONGEST) }
    }

    /// What another try may change.
    #[must_use]
    pub fn transient(reason: &'static str, message: &str) -> Self {
        Self { transient: true, reason, message: cut(message.trim(), LONGEST) }
    }

    /// What a failed `docker` or `docker compose` said on standard error, by what it means. A registry that is busy, out
    /// of order or out of reach heals by itself; an image that is not there, or a disk that is full, does not.
    #[must_use]
    pub fn of_docker(phase: Phase, stderr: &str) -> Self {
        let said = stderr.to_ascii_lowercase();
        let has = |needles: &[&str]| needles.iter().any(|needle| said.contains(needle));
        if is_full(stderr) {
            return Self::terminal("DiskFull", stderr);
        }
        if has(&["cannot connect to the docker daemon", "error during connect"]) {
            return Self::transient("DockerUnavailable", stderr);
        }
        // Another app got there first: the next look finds it there, and another subnet is chosen.
        if has(&["pool overlaps with other one"]) {
            return Self::transient("SubnetTaken", stderr);
        }
        match phase {
            Phase::Pull => of_registry(stderr, has),
            Phase::Start | Phase::BeforeSwap | Phase::AfterSwap
                if has(&["port is already allocated", "address already in use"]) =>
            {
                Self::terminal("PortInUse", stderr)
            }
            Phase::Networks => Self::terminal("NetworkFailed", stderr),
            Phase::PreDeploy => Self::terminal("PreDeployFailed", stderr),
            Phase::Swap => Self::terminal("SwapRefused", stderr),
            Phase::Start | Phase::InternalHealth | Phase::ExternalHealth => Self::terminal("StartFailed", stderr),
            Phase::BeforeSwap | Phase::AfterSwap => Self::terminal("ServiceFailed", stderr),
        }
    }
}

/// Whether what a host said is that it has no room on its disk.
#[must_use]
pub fn is_full(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded"].iter().any(|words| said.contains(words))
}

fn of_registry(stderr: &str, has: impl Fn(&[&str]) -> bool) -> Fault {
    if has(&["toomanyrequests", "429 too many", "status: 429", "rate limit"]) {
        return Fault::transient("RegistryBusy", stderr);
    }
    // Before what follows: a registry says 401 and 404 of one that is merely out of order, too.
    let broken = [
        "500 internal",
        "502 bad gateway",
        "503 service",
        "504 gateway",
        "status: 500",
        "status: 502",
        "status: 503",
        "status: 504",
        "unexpected eof",
        ": eof",
        "i/o timeout",
        "tls handshake timeout",
        "context deadline exceeded",
        "client.timeout exceeded",
        "connection reset",
        "connection refused",
        "no route to host",
        "network is unreachable",
        "no such host",
        "temporary failure in name resolution",
        "server misbehaving",
    ];
    if has(&broken) {
        return Fault::transient("RegistryUnavailable", stderr);
    }
    if has(&["no matching manifest"]) {
        return Fault::terminal("WrongArchitecture", stderr);
    }
    if has(&["unauthorized", "denied", "no basic auth credentials", "authentication required"]) {
        return Fault::terminal("PullDenied", stderr);
    }
    if has(&["manifest unknown", "not found", "name unknown"]) {
        return Fault::terminal("ImageNotFound", stderr);
    }
    Fault::terminal("PullFailed", stderr)
}

/// The back-off after one more failure: 2 s doubling to 5 min, and up to a quarter more, which differs between apps so
/// that those that failed together do not try together.
#[must_use]
pub fn back_off(before: Option<&BackOff>, app: &str, fault: &Fault, now: Timestamp) -> BackOff {
    let attempts = before.map_or(0, |before| before.attempts).saturating_add(1);
    let base = FIRST.saturating_mul(2_u32.saturating_pow((attempts - 1).min(16))).min(LAST);
    let salt = app.bytes().fold(attempts, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let not_before = super::journal::after(now, base + base.mul_f64(f64::from(salt % 256) / 1024.0));
    BackOff { attempts, not_before, reason: fault.reason.to_owned(), message: fault.message.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_said_tells_whether_another_try_is_worth_it() {
        for (said, transient, reason) in [
            ("web Error toomanyrequests: You have reached your pull rate limit", true, "RegistryBusy"),
            ("received unexpected HTTP status: 503 Service Unavailable", true, "RegistryUnavailable"),
            ("Get \"https://r.example/v2/\": dial tcp 192.0.2.1:443: connect: connection refused", true, ""),
            ("net/http: TLS handshake timeout", true, "RegistryUnavailable"),
            ("manifest for shop:9 not found: manifest unknown: manifest unknown", false, "ImageNotFound"),
            ("pull access denied for shop, repository does not exist", false, "PullDenied"),
            ("no matching manifest for linux/arm64/v8 in the manifest list entries", false, "WrongArchitecture"),
            ("write /var/lib/docker/tmp/x: no space left on device", false, "DiskFull"),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", true, "DockerUnavailable"),
            ("something new", false, "PullFailed"),
        ] {
            let fault = Fault::of_docker(Phase::Pull, said);
            assert_eq!(fault.transient, transient, "{said}");
            assert!(reason.is_empty() || fault.reason == reason, "{said}: {}", fault.reason);
        }
        let port = Fault::of_docker(Phase::Start, "Bind for 0.0.0.0:8080 failed: port is already allocated");
        assert_eq!((port.transient, port.reason), (false, "PortInUse"));
        let overlap = Fault::of_docker(
            Phase::Networks,
            "Error response from daemon: Pool overlaps with other one on this address space",
        );
        assert_eq!((overlap.transient, overlap.reason), (true, "SubnetTaken"));
        // Only of a registry: an app that cannot reach another is not the host's trouble.
        assert!(!Fault::of_docker(Phase::Start, "connection refused").transient);
    }

    #[test]
    fn the_back_off_doubles_to_five_minutes_and_differs_between_apps() {
        let now = Timestamp::UNIX_EPOCH;
        let fault = Fault::transient("RegistryBusy", "busy");
        let (mut before, mut waits) = (None, Vec::new());
        for _ in 0..12 {
            let next = back_off(before.as_ref(), "a", &fault, now);
            waits.push(next.not_before.as_second());
            before = Some(next);
        }
        assert!(waits[0] == 2 && waits[1] >= 4 && waits[7] >= 256 && waits[11] >= 300 && waits[11] <= 375, "{waits:?}");
        let of = |app| back_off(before.as_ref(), app, &fault, now).not_before;
        assert_ne!(of("one"), of("another"));
    }
}
