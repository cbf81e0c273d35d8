//! Arguments and environment, and the validated settings they become.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::api::names::ClusterId;

/// Turns Kubernetes objects into VMs and names, and back into nothing when they are deleted.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, about, long_about = None)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<Settings>),
    /// Print the custom resource definitions as YAML, or write one file a kind.
    Crd {
        /// Write `<plural>.yaml` files into this directory instead of printing.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}

/// Settings of the process. API bases are here, never in an object: a field would let its author send a token
/// elsewhere.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Base URL of Cloudflare's API.
    #[arg(long, env = "ROADSTEAD_CLOUDFLARE_API", default_value = "https://api.cloudflare.com/client/v4")]
    pub cloudflare_api: String,
    /// Base URL of DigitalOcean's API.
    #[arg(long, env = "ROADSTEAD_DIGITALOCEAN_API", default_value = "https://api.digitalocean.com")]
    pub digitalocean_api: String,
    /// The operator's own namespace: its lease, and the Secrets with credentials.
    #[arg(long, env = "ROADSTEAD_NAMESPACE", default_value = "roadstead-system")]
    pub namespace: String,
    /// Which cluster marks everything made outside, `[a-z0-9]{1,16}`; the first 8 hex digits of the kube-system
    /// namespace's UID without it. Never change it while anything exists.
    #[arg(long, env = "ROADSTEAD_CLUSTER_ID", value_parser = ClusterId::parse)]
    pub cluster_id: Option<ClusterId>,
    /// Who this process is to the lease: unique among the replicas, and best the pod's name.
    #[arg(long, env = "ROADSTEAD_IDENTITY", default_value_t = identity())]
    pub identity: String,
    /// Where metrics and health are served.
    #[arg(long, env = "ROADSTEAD_METRICS_ADDR", default_value = "0.0.0.0:8080")]
    pub metrics_addr: SocketAddr,
    /// Public resolvers asked after the zone's own servers, for Zones that name none: `IP[:port]`, comma separated.
    #[arg(long, env = "ROADSTEAD_RESOLVERS", value_delimiter = ',', default_value = "1.1.1.1,8.8.8.8", value_parser = server)]
    pub resolvers: Vec<SocketAddr>,
    /// For tests: ask this server, `IP[:port]`, in place of each zone's own name servers.
    #[arg(long, env = "ROADSTEAD_AUTHORITY", value_parser = server)]
    pub authority: Option<SocketAddr>,
    /// How often everything is compared with the outside, e.g. `5m`.
    #[arg(long, env = "ROADSTEAD_RESYNC", default_value = "5m", value_parser = duration)]
    pub resync: Duration,
    /// How often things with our mark but no owner are looked for, e.g. `15m`.
    #[arg(long, env = "ROADSTEAD_ORPHAN_INTERVAL", default_value = "15m", value_parser = duration)]
    pub orphan_interval: Duration,
    /// How long after a create or delete a listing may still lag behind, e.g. `90s`. Must exceed the request time-out
    /// plus the providers' listing lag.
    #[arg(long, env = "ROADSTEAD_SETTLE_TIME", default_value = "90s", value_parser = duration)]
    pub settle_time: Duration,
    /// For tests: wait out at most this much of a record's TTL before its VM is deleted.
    #[arg(long, env = "ROADSTEAD_TTL_WAIT_CAP", value_parser = duration)]
    pub ttl_wait_cap: Option<Duration>,
    /// Freeze: look and report, but write nothing outside.
    #[arg(long, env = "ROADSTEAD_READ_ONLY")]
    pub read_only: bool,
    /// Ranges that may be probed although they are private, loopback or link-local, e.g. `10.0.0.0/8`: comma separated,
    /// or given more than once. Whoever may write a ServerGroup can have them asked.
    #[arg(long, env = "ROADSTEAD_PROBE_ALLOW_CIDR", value_delimiter = ',', value_name = "CIDR")]
    pub probe_allow_cidr: Vec<IpNet>,
    /// A file of PEM certificates that probes trust besides the public authorities.
    #[arg(long, env = "ROADSTEAD_PROBE_CA_FILE", value_name = "FILE")]
    pub probe_ca_file: Option<PathBuf>,
    /// How many objects of a kind are reconciled at once.
    #[arg(long, env = "ROADSTEAD_CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
}

/// The pod's name, or something that no other process has.
fn identity() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| format!("roadstead-{:016x}", fastrand::u64(..)))
}

/// `IP` or `IP:port`, port 53 without one.
///
/// # Errors
/// A sentence saying what would be right.
pub fn server(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
        .map_err(|_| format!("`{text}` is not a server: write an IP address, or IP:port ([IPv6]:port)"))
}

/// A duration in hours, minutes and seconds, e.g. `1h30m`.
///
/// # Errors
/// A sentence saying what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration: write hours, minutes and seconds, e.g. `1h30m` or `90s`");
    let span: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
    Duration::try_from(span).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_hours_minutes_and_seconds() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("72h"), Ok(Duration::from_secs(72 * 3600)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "12", "soon", "-5m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_without_a_port_is_asked_at_53() {
        assert_eq!(server("1.1.1.1"), Ok(SocketAddr::from(([1, 1, 1, 1], 53))));
        assert_eq!(server("127.0.0.1:5353"), Ok(SocketAddr::from(([127, 0, 0, 1], 5353))));
        assert!(server("dns.example.com").is_err());
    }
}
