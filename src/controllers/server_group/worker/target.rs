//! What a group wants of its Worker (pure): its name, its origins, the names these need, and its place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Script, Terms};
use crate::api::address::Host;
use crate::api::names::Fqdn;
use crate::api::probe::Scheme;
use crate::api::server_group::{MemberHealth, ServerGroupSpec, Strategy};
use crate::api::slb::{Slb, SlbStatus, Sticky, WhenAllDown, WorkerMode};
use crate::controllers::server_group::observe::Observed;
use crate::controllers::server_group::publish::{Server, server};
use crate::controllers::server_group::roster::{Entry, duration};
use crate::dns::{Content, Desired};
use crate::runtime::claims::Standing;
use crate::runtime::driver::{Outcome, Wait};
use crate::slb::{self, Place};

/// What a group wants of its Worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The script.
    pub script: Script,
    /// How much of it is the group's.
    pub mode: WorkerMode,
    /// Every server that could serve.
    pub origins: Vec<Origin>,
    /// Where its requests come from.
    pub place: Option<Place>,
    /// The host of its place.
    pub host: Option<Fqdn>,
}

/// A server as the Worker reaches it.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// As `ORIGINS` has it.
    pub origin: slb::Origin,
    /// The name it needs, if it is known by an address.
    pub name: Option<Fqdn>,
}

impl Target {
    /// Whether a status is about this script, held in this way.
    #[must_use]
    pub fn is(&self, held: &SlbStatus) -> bool {
        Script::held(held) == self.script && held.mode == self.mode
    }

    /// The names the servers need, each once.
    #[must_use]
    pub fn names(&self) -> Vec<Fqdn> {
        let mut names: Vec<_> = self.origins.iter().filter_map(|origin| origin.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The host that Cloudflare publishes for it.
    #[must_use]
    pub fn domain(&self) -> Option<&Fqdn> {
        self.host.as_ref().filter(|_| matches!(self.place, Some(Place::Domain { .. })))
    }

    /// Every name that is to be claimed for it.
    #[must_use]
    pub fn hostnames(&self) -> Vec<String> {
        self.names().iter().chain(self.domain()).map(ToString::to_string).collect()
    }
}

impl Script {
    /// The script a status is about.
    #[must_use]
    pub fn held(status: &SlbStatus) -> Self {
        Self { account: status.account_id.clone(), name: status.worker_name.clone() }
    }
}

/// How long something that a watch announces is waited for.
const WATCHED: Duration = Duration::from_secs(60);

/// What the Zone says of Workers.
///
/// # Errors
/// What has to come first.
pub fn terms(seen: &Observed) -> Result<&Terms, Outcome> {
    let zone_name = &seen.group.spec.zone_ref.name;
    let message = format!(
        "spec.slb: Zone {zone_name} has no spec.cloudflare.workers, which names the token for Workers: add it there, or \
         leave out slb"
    );
    let missing = Outcome::Stopped { reason: "WorkersNotConfigured", message };
    seen.zone.as_ref().and_then(|zone| zone.workers.as_ref()).ok_or(missing)
}

/// What the group wants; `None` without `spec.slb`.
///
/// # Errors
/// What has to come first, or a stop that names field and remedy.
pub fn target(seen: &Observed) -> Result<Option<Target>, Outcome> {
    let Some(slb) = &seen.group.spec.slb else { return Ok(None) };
    let zone_name = &seen.group.spec.zone_ref.name;
    let terms = terms(seen)?;
    let stop = |reason, message| Err(Outcome::Stopped { reason, message });
    if !terms.allowed {
        let message = format!(
            "namespace {} may not have Workers in Zone {zone_name}: its spec.cloudflare.workers.allowedNamespaces does not \
             include it",
            seen.claimant.namespace
        );
        return stop("WorkersNotAllowed", message);
    }
    if let Some(prefix) = terms.prefix.as_ref().filter(|prefix| !slb.worker_name.starts_with(*prefix)) {
        let message = format!(
            "spec.slb.workerName: `{}` does not begin with `{prefix}`, as Zone {zone_name} demands of every Worker",
            slb.worker_name
        );
        return stop("InvalidWorkerName", message);
    }
    let unknown = |what: &str| Wait {
        reason: "ZoneNotReady",
        message: format!("Zone {zone_name} is not connected, so its {what} is not known"),
        after: WATCHED,
        keep_ready: true,
    };
    let Some(account) = terms.account.clone() else { return Err(Outcome::Waiting(unknown("account"))) };
    let host = host(seen, slb)?;
    let place = match (&slb.route, &slb.custom_domain) {
        (None, None) => None,
        (route, domain) => {
            let Some(zone_id) = terms.zone_id.clone() else { return Err(Outcome::Waiting(unknown("id"))) };
            let of_route = |pattern: &String| Place::Route { zone_id: zone_id.clone(), pattern: pattern.clone() };
            let of_domain = |hostname: &String| Place::Domain { zone_id: zone_id.clone(), hostname: hostname.clone() };
            route.as_ref().map(of_route).or(domain.as_ref().map(of_domain))
        }
    };
    let elsewhere = |entry: &&Entry| entry.app.as_ref().is_some_and(|part| !part.answers_own_name);
    if let Some(entry) = seen.roster.members.iter().find(elsewhere).filter(|_| slb.mode == WorkerMode::Managed) {
        let app = seen.group.spec.app_ref.as_ref().map_or("", |app| &app.name);
        let message = format!(
            "spec.slb: a Worker asks each server by its own name, and AppDeployment {app} does not answer {}: leave out its \
             spec.domains, or name there the names of its Nodes, too",
            entry.address
        );
        return stop("OriginNotServed", message);
    }
    let script = Script { account, name: slb.worker_name.clone() };
    Ok(Some(Target { script, mode: slb.mode, origins: origins(seen), place, host }))
}

/// The host of the route or the custom domain.
fn host(seen: &Observed, slb: &Slb) -> Result<Option<Fqdn>, Outcome> {
    let of_route = slb.route.as_ref().and_then(|route| route.split('/').next());
    let (field, host) = match (of_route, &slb.custom_domain) {
        (Some(host), _) => ("route", host),
        (None, Some(domain)) => ("customDomain", domain.as_str()),
        (None, None) => return Ok(None),
    };
    let domain = seen.zone.as_ref().and_then(|zone| zone.domain.as_ref());
    let within = |host: &Fqdn| domain.is_some_and(|domain| host.is_within(domain));
    let apex = seen.zone.as_ref().is_some_and(|zone| zone.allow_apex);
    match Fqdn::parse(host).ok().filter(within) {
        Some(host) if Some(&host) == domain && !apex => Err(Outcome::Stopped {
            reason: "ApexNotAllowed",
            message: format!(
                "spec.slb.{field}: {host} is the domain itself, which Zone {} does not allow: set its spec.allowApex, or \
                 name a host",
                seen.group.spec.zone_ref.name
            ),
        }),
        Some(host) => Ok(Some(host)),
        None => Err(Outcome::Stopped {
            reason: "InvalidHostname",
            message: format!(
                "spec.slb.{field}: {host} is no name in the domain {} of Zone {}: choose one that is",
                domain.map(ToString::to_string).unwrap_or_default(),
                seen.group.spec.zone_ref.name
            ),
        }),
    }
}

/// Every server that could serve, as the Worker reaches it.
fn origins(seen: &Observed) -> Vec<Origin> {
    let spec = &seen.group.spec;
    let Some(domain) = seen.zone.as_ref().and_then(|zone| zone.domain.as_ref()) else { return Vec::new() };
    let slug = seen.slug();
    let members = seen.status.members.iter();
    let servers: Vec<_> = members.filter_map(|member| Some((member, server(spec, &seen.roster, member)?))).collect();
    // Only the order matters, and without `Failover` not even that.
    let first = servers.iter().map(|(_, server)| server.priority).min().unwrap_or_default();
    let of = |(member, server): &(&crate::api::server_group::MemberStatus, Server)| {
        let name = match &server.address.host {
            Host::Ip(ip) => Some(Fqdn::under(&format!("{}.{slug}", label(*ip)), domain).ok()?),
            Host::Name(_) => None,
        };
        let host = name.as_ref().map_or_else(|| server.address.host.to_string(), ToString::to_string);
        let scheme = match scheme(spec, server) {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let port = server.address.port.map(|port| format!(":{port}")).unwrap_or_default();
        let weight = seen.roster.get(&server.address).map_or(1, |entry| entry.weight);
        let priority = if spec.strategy == Strategy::Failover { server.priority - first } else { 0 };
        let origin = slb::Origin {
            url: format!("{scheme}://{host}{port}"),
            weight: u32::try_from(weight).unwrap_or(1),
            priority: u32::try_from(priority).unwrap_or(0),
            healthy: member.health == MemberHealth::Healthy,
        };
        Some(Origin { origin, name })
    };
    servers.iter().filter_map(of).collect()
}

/// What the server speaks: as it is listed, else HTTPS.
fn scheme(spec: &ServerGroupSpec, server: &Server) -> Scheme {
    let port = server.address.port.map(i32::from);
    let mut listed = spec.members.iter().filter(|member| member.port == port);
    let listed = listed.find(|member| Host::parse(&member.address).is_ok_and(|host| host == server.address.host));
    listed.map_or(Scheme::Https, |member| member.scheme)
}

/// An address as a DNS label: IPv4 with dashes for dots, IPv6 written out in full with dashes for colons.
#[must_use]
pub fn label(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string().replace('.', "-"),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:04x}")).join("-"),
    }
}

/// The address a name made of [`label`] stands for.
#[must_use]
pub fn address(name: &str) -> Option<IpAddr> {
    let label = name.split('.').next()?;
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The records of names that are ours: of the servers that are wanted, and of those that the Worker still has.
#[must_use]
pub fn records(seen: &Observed, ours: impl Fn(&Fqdn) -> bool) -> Vec<Desired> {
    let wanted = target(seen).ok().flatten().map(|target| target.names()).unwrap_or_default();
    let held = seen.status.slb.as_ref();
    let in_use =
        |hostname: &&String| held.is_some_and(|held| held.origins.iter().any(|url| host_of(url) == **hostname));
    let kept = held.into_iter().flat_map(|held| held.hostnames.iter().filter(in_use));
    let mut names: Vec<Fqdn> = kept.filter_map(|name| Fqdn::parse(name).ok()).chain(wanted).collect();
    names.sort();
    names.dedup();
    let ttl = u32::try_from(seen.group.spec.dns.ttl).unwrap_or(60);
    let record = |name: Fqdn| {
        let content = match address(name.as_str())? {
            IpAddr::V4(v4) => Content::A(v4),
            IpAddr::V6(v6) => Content::Aaaa(v6),
        };
        Some(Desired { name, content, ttl, proxied: false })
    };
    names.into_iter().filter(ours).filter_map(record).collect()
}

/// The host of an origin.
#[must_use]
pub fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split([':', '/']).next().unwrap_or(rest)
}

/// The Worker as the plan of scripts takes it, with these origins and this place.
#[must_use]
pub fn worker(
    seen: &Observed,
    script: &Script,
    mode: WorkerMode,
    origins: Vec<slb::Origin>,
    place: Option<Place>,
) -> slb::Worker {
    let spec = &seen.group.spec;
    let slb = spec.slb.as_ref();
    let number = |n: Option<i32>| n.and_then(|n| u16::try_from(n).ok());
    slb::Worker {
        name: script.name.clone(),
        mark: seen.mark.clone(),
        adopt: seen.annotation("adopt").map(str::to_owned),
        group: format!("{}/{}", seen.claimant.namespace, seen.claimant.holder.name),
        mode: match mode {
            WorkerMode::Managed => slb::Mode::Managed,
            WorkerMode::OriginsOnly => slb::Mode::OriginsOnly,
        },
        origins,
        strategy: match spec.strategy {
            Strategy::RoundRobin => slb::Strategy::RoundRobin,
            Strategy::Random => slb::Strategy::Random,
            Strategy::Failover => slb::Strategy::Failover,
        },
        policy: slb::Policy {
            retries: number(slb.map(|slb| slb.retries)).and_then(|n| u8::try_from(n).ok()).unwrap_or(1),
            origin_timeout: duration(slb.map_or("8s", |slb| &slb.origin_timeout), 8),
            fail_statuses: slb
                .into_iter()
                .flat_map(|slb| &slb.fail_statuses)
                .filter_map(|n| number(Some(*n)))
                .collect(),
            sticky: match slb.map(|slb| slb.sticky).unwrap_or_default() {
                Sticky::None => slb::Sticky::None,
                Sticky::Cookie => slb::Sticky::Cookie,
                Sticky::ClientIp => slb::Sticky::ClientIp,
            },
            probe_path: spec.probe.path.clone().unwrap_or_else(|| "/".to_owned()),
            min_healthy: number(slb.map(|slb| slb.min_healthy)).map_or(1, usize::from),
            when_all_down: match slb.map(|slb| slb.when_all_down).unwrap_or_default() {
                WhenAllDown::KeepLast => slb::WhenAllDown::KeepLast,
                WhenAllDown::Publish => slb::WhenAllDown::Publish,
            },
        },
        place,
    }
}

/// Whether the host of a route may be served by this group: nobody of another namespace holds it.
#[must_use]
pub fn may_serve(seen: &Observed, standing: Option<&Standing>) -> bool {
    match standing {
        Some(Standing::Taken { namespace, .. } | Standing::Reserved { namespace, .. }) => {
            *namespace == seen.claimant.namespace
        }
        _ => true,
    }
}
