//! Arguments and environment, and the validated settings they become.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::{IpNet, Ipv4Net};

use crate::api::names::ClusterId;
use crate::controllers::node::bootstrap::HostSettings;
use crate::host::bootstrap::{Certificates, Images, Packages};
use crate::router::{self, Listen};
use crate::{gateway, store};

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
    /// Tell a host's Caddy where each request goes, from the routing table in a file.
    Router(Router),
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
    /// How many objects of a kind are reconciled at once; of ServerGroups 8 at most.
    #[arg(long, env = "ROADSTEAD_CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// What is done on Nodes' hosts.
    #[command(flatten)]
    pub hosts: Hosts,
    /// The REST API and its history.
    #[command(flatten)]
    pub gateway: Gateway,
}

/// Settings of Nodes' hosts.
#[derive(Debug, Clone, Args)]
pub struct Hosts {
    /// The image of Caddy on hosts, `NAME@sha256:DIGEST`. Needed for `host.manage: Caddy`.
    #[arg(long, env = "ROADSTEAD_CADDY_IMAGE", requires = "router_image")]
    pub caddy_image: Option<String>,
    /// The image of this program on hosts, where it is their router, `NAME@sha256:DIGEST`. Needed for `host.manage: Caddy`.
    #[arg(long, env = "ROADSTEAD_ROUTER_IMAGE", requires = "caddy_image")]
    pub router_image: Option<String>,
    /// The directory of the ACME server that hosts get certificates from.
    #[arg(long, env = "ROADSTEAD_ACME_DIRECTORY", default_value = "https://acme-v02.api.letsencrypt.org/directory")]
    pub acme_directory: String,
    /// Whom that authority may write to.
    #[arg(long, env = "ROADSTEAD_ACME_EMAIL")]
    pub acme_email: Option<String>,
    /// A file of PEM certificates that vouch for that directory itself, if it is no public one.
    #[arg(long, env = "ROADSTEAD_ACME_CA_FILE", value_name = "FILE")]
    pub acme_ca_file: Option<PathBuf>,
    /// Where hosts without Docker get it: the URL above `/debian` and `/ubuntu`.
    #[arg(long, env = "ROADSTEAD_DOCKER_PACKAGES", default_value_t = Packages::default().repository)]
    pub docker_packages: String,
    /// The SHA-256, in hex, of the key that signs what is there.
    #[arg(long, env = "ROADSTEAD_DOCKER_PACKAGES_KEY", default_value_t = Packages::default().key)]
    pub docker_packages_key: String,
    /// The addresses of the network `edge` on a host.
    #[arg(long, env = "ROADSTEAD_EDGE_SUBNET", default_value = "10.212.0.0/24", value_name = "CIDR")]
    pub edge_subnet: Ipv4Net,
    /// Where apps' networks on a host get their addresses from.
    #[arg(long, env = "ROADSTEAD_APP_SUBNETS", default_value = "10.213.0.0/16", value_name = "CIDR")]
    pub app_subnets: Ipv4Net,
    /// How many hosts are worked on at once.
    #[arg(long, env = "ROADSTEAD_HOST_JOBS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub host_jobs: u16,
}

impl Hosts {
    /// What hosts get; `roots` is what the file of [`Hosts::acme_ca_file`] says.
    #[must_use]
    pub fn settings(&self, roots: Option<String>) -> HostSettings {
        let images = self.caddy_image.clone().zip(self.router_image.clone());
        HostSettings {
            images: images.map(|(caddy, router)| Images { caddy, router }),
            certificates: Certificates::Acme {
                directory: self.acme_directory.clone(),
                email: self.acme_email.clone(),
                roots,
            },
            edge: self.edge_subnet,
            packages: Packages { repository: self.docker_packages.clone(), key: self.docker_packages_key.clone() },
            jobs: usize::from(self.host_jobs),
        }
    }
}

/// Settings of the REST API.
#[derive(Debug, Clone, Args)]
pub struct Gateway {
    /// Where the REST API is served; it is off without this.
    #[arg(long, env = "ROADSTEAD_GATEWAY_ADDR")]
    pub gateway_addr: Option<SocketAddr>,
    /// Certificate chain (PEM) of the REST API; plain HTTP without it. Read again when it changes.
    #[arg(long, env = "ROADSTEAD_GATEWAY_TLS_CERT", requires = "gateway_tls_key")]
    pub gateway_tls_cert: Option<PathBuf>,
    /// Key (PEM) of that certificate.
    #[arg(long, env = "ROADSTEAD_GATEWAY_TLS_KEY", requires = "gateway_tls_cert")]
    pub gateway_tls_key: Option<PathBuf>,
    /// The namespace of the `ServerGroup`s made over the REST API.
    #[arg(long, env = "ROADSTEAD_GATEWAY_NAMESPACE", default_value = "roadstead-groups")]
    pub gateway_namespace: String,
    /// The Zone of the `ServerGroup`s made over the REST API; none can be made without it.
    #[arg(long, env = "ROADSTEAD_GATEWAY_ZONE")]
    pub gateway_zone: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed, CIDRs, comma separated. Without them a proxy is one client.
    #[arg(long, env = "ROADSTEAD_GATEWAY_TRUSTED_PROXIES", value_delimiter = ',')]
    pub gateway_trusted_proxies: Vec<IpNet>,
    /// Requests a second of one client address; twice as many at once.
    #[arg(long, env = "ROADSTEAD_GATEWAY_RATE_PER_ADDRESS", default_value = "100")]
    pub gateway_rate_per_address: NonZeroU32,
    /// Requests a second with one API key or Kubernetes account; twice as many at once.
    #[arg(long, env = "ROADSTEAD_GATEWAY_RATE_PER_KEY", default_value = "1000")]
    pub gateway_rate_per_key: NonZeroU32,
    /// Who may sign up to the REST API.
    #[arg(long, env = "ROADSTEAD_SIGNUP", value_enum, default_value = "token")]
    pub signup: Signup,
    /// File with the token that signing up needs, with `--signup=token`. Read anew at every sign-up.
    #[arg(long, env = "ROADSTEAD_SIGNUP_TOKEN_FILE")]
    pub signup_token_file: Option<PathBuf>,
    /// Sign-ups a minute of one client address.
    #[arg(long, env = "ROADSTEAD_SIGNUP_RATE", default_value = "10")]
    pub signup_rate: NonZeroU32,
    /// The pod this process runs in, which is labelled `roadstead.dev/leader=true` while it leads; outside a cluster there
    /// is none.
    #[arg(long, env = "POD_NAME", hide = true)]
    pub pod_name: Option<String>,
    /// Database file of the history; no history is kept without it.
    #[arg(long, env = "ROADSTEAD_HISTORY_FILE")]
    pub history_file: Option<PathBuf>,
    /// How old the history gets, e.g. `168h`.
    #[arg(long, env = "ROADSTEAD_HISTORY_AGE", default_value = "168h", value_parser = duration)]
    pub history_age: Duration,
    /// How large its file gets, e.g. `256Mi`. The log beside it takes up to 16 MiB more.
    #[arg(long, env = "ROADSTEAD_HISTORY_SIZE", default_value = "256Mi", value_parser = size)]
    pub history_size: u64,
}

/// Who may sign up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Signup {
    /// Who sends the administrator's token.
    Token,
    /// Anybody.
    Open,
    /// Nobody.
    Closed,
}

impl Gateway {
    /// The settings of the REST API, if it is to be served.
    #[must_use]
    pub fn settings(&self) -> Option<gateway::Settings> {
        let files = self.gateway_tls_cert.clone().zip(self.gateway_tls_key.clone());
        Some(gateway::Settings {
            address: self.gateway_addr?,
            tls: files.map(|(certificate, key)| gateway::TlsFiles { certificate, key }),
            signup: match self.signup {
                Signup::Token => gateway::Signup::Token(self.signup_token_file.clone()),
                Signup::Open => gateway::Signup::Open,
                Signup::Closed => gateway::Signup::Closed,
            },
            rates: gateway::Rates {
                per_address: self.gateway_rate_per_address,
                per_key: self.gateway_rate_per_key,
                signups: self.signup_rate,
            },
            trusted_proxies: self.gateway_trusted_proxies.clone(),
        })
    }

    /// How much history is kept.
    #[must_use]
    pub fn history_limits(&self) -> store::Limits {
        store::Limits { age: self.history_age, bytes: self.history_size }
    }
}

/// Settings of a router on a host.
#[derive(Debug, Clone, Args)]
pub struct Router {
    /// The file of the routing table. It is read again when another takes its place.
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// Where it is asked: `unix:/PATH` for Caddy, and `tcp:ADDRESS:PORT` for metrics. May be given more than once.
    #[arg(long, required = true, value_name = "PLACE", value_parser = Listen::parse)]
    pub listen: Vec<Listen>,
    /// The mode of its unix sockets.
    #[arg(long, default_value = "0660", value_name = "OCTAL", value_parser = router::listen::mode)]
    pub socket_mode: u32,
}

impl Router {
    /// The settings of the router.
    #[must_use]
    pub fn settings(self) -> router::Settings {
        router::Settings { table: self.table, listen: self.listen, socket_mode: self.socket_mode }
    }
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

/// A size in Ki, Mi or Gi, at least 1 MiB, e.g. `256Mi`.
///
/// # Errors
/// A sentence saying what would be right.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let parsed = units.into_iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    });
    let parsed = parsed.filter(|bytes| *bytes >= 1 << 20);
    parsed.ok_or_else(|| format!("`{text}` is not a size: write at least `1Mi`, in Ki, Mi or Gi, e.g. `256Mi`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_binary_units_and_not_too_small_to_hold_anything() {
        assert_eq!(size("1Mi"), Ok(1 << 20));
        assert_eq!(size("2Gi"), Ok(2 << 30));
        for bad in ["", "1", "1M", "1Ki", "0Mi", "-1Mi", "99999999999Gi", "Mi"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rest_api_is_off_without_an_address_and_its_certificate_needs_its_key() {
        let parse = |arguments: &[&str]| {
            let cli = Cli::try_parse_from(["roadstead", "run"].iter().chain(arguments));
            cli.map(|cli| match cli.command {
                Command::Run(settings) => settings.gateway.settings(),
                _ => None,
            })
        };
        assert_eq!(parse(&[]).unwrap(), None);
        let on = parse(&["--gateway-addr", "127.0.0.1:0", "--signup-token-file", "/token"]).unwrap().unwrap();
        assert_eq!((on.signup, on.tls), (gateway::Signup::Token(Some("/token".into())), None));
        assert!(parse(&["--gateway-addr", "127.0.0.1:0", "--gateway-tls-cert", "/cert"]).is_err());
    }

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
