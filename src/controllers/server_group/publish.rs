//! Which servers are published, and as what records (pure).
//!
//! A routing set is never emptied because probes fail: if none is healthy, those that went down together, by their
//! probes alone, stay published (`Frozen`). Servers that report to be unhealthy, or fall silent, are taken out, down to
//! the last. The name of an app whose servers were never healthy yet leads to them all the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::roster::{Entry, Roster, duration};
use super::txt::{self, Listed};
use crate::api::address::ServerAddress;
use crate::api::names::Fqdn;
use crate::api::server_group::{MemberHealth, MemberStatus, ServerGroupSpec, Strategy, default_priority};
use crate::dns::{Content, Desired};

/// A server that is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where clients find it.
    pub address: ServerAddress,
    /// With `Failover`: the lowest comes first.
    pub priority: i32,
    /// Its IP address, where that is known.
    pub ip: Option<IpAddr>,
}

/// The servers that are published.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// These.
    pub servers: Vec<Server>,
    /// Whether none of them is healthy any more.
    pub frozen: bool,
    /// While no server that stays was ever healthy: names that an app answers, and addresses it does so at.
    pub opening: Vec<(String, IpAddr)>,
}

/// Chooses the servers to publish among `members`, as the status has them. What is no longer in the roster, or disabled,
/// is not published, whatever the status still says.
#[must_use]
pub fn select(spec: &ServerGroupSpec, roster: &Roster, members: &[MemberStatus]) -> Selection {
    let wanted: Vec<_> = members.iter().filter_map(|m| Some((m, server(spec, roster, m)?))).collect();
    let of = |chosen: &dyn Fn(&MemberStatus) -> bool| {
        wanted.iter().filter(|(member, _)| chosen(member)).map(|(_, server)| server.clone()).collect::<Vec<_>>()
    };
    let opening = opening(roster, members);
    let healthy = of(&|member| member.health == MemberHealth::Healthy);
    if !healthy.is_empty() {
        return Selection { servers: healthy, frozen: false, opening };
    }
    let down_by_probe = |member: &MemberStatus| {
        let probe = member.probe.as_ref().is_some_and(|probe| !probe.healthy);
        let report = member.report.as_ref().is_none_or(|report| report.healthy);
        member.health == MemberHealth::Unhealthy && probe && report
    };
    let until = |member: &MemberStatus| member.healthy_until.as_ref().map(|time| time.0);
    let candidates = wanted.iter().map(|(member, _)| *member).filter(|member| down_by_probe(member));
    let Some(last) = candidates.filter_map(until).max() else { return Selection { opening, ..Selection::default() } };
    let together = last.checked_sub(at_once(spec)).unwrap_or(last);
    let servers = of(&|member| down_by_probe(member) && until(member).is_some_and(|time| time >= together));
    Selection { frozen: !servers.is_empty(), servers, opening }
}

/// Where an app is live by names that no probe has found well yet, while no other server is: to have a certificate for its
/// name, and so to be found well, a host needs the name to lead to it first. The deploy has asked the app itself. A host
/// that the app is about to leave is no other server.
fn opening(roster: &Roster, members: &[MemberStatus]) -> Vec<(String, IpAddr)> {
    let leaving = |id: &str| {
        let mut entries = roster.members.iter().filter(|entry| entry.app.as_ref().is_some_and(|part| part.leaving));
        entries.any(|entry| entry.address.to_string() == id)
    };
    let is_healthy = |member: &MemberStatus| member.health == MemberHealth::Healthy;
    let held = members.iter().any(|member| is_healthy(member) && leaving(&member.id));
    let mut others = members.iter().filter(|member| !leaving(&member.id));
    // While those that are left still serve, what the others were under other names does not count.
    if others.any(|member| is_healthy(member) || (!held && member.healthy_until.is_some())) {
        return Vec::new();
    }
    let reports_ill = |entry: &Entry| {
        let id = entry.address.to_string();
        members.iter().any(|member| member.id == id && member.report.as_ref().is_some_and(|report| !report.healthy))
    };
    let of = |entry: &Entry| {
        let part = entry.app.as_ref().filter(|part| !part.leaving)?;
        Some((part.asked.host.clone(), entry.ip?))
    };
    roster.members.iter().filter(|entry| !reports_ill(entry)).filter_map(of).collect()
}

/// How far apart the verdicts on servers that die in one moment may be: each is probed at its own time within an
/// interval, the last probe may run into its time-out, and statuses are written a second apart.
fn at_once(spec: &ServerGroupSpec) -> SignedDuration {
    let apart = duration(&spec.probe.interval, 10) * 2 + duration(&spec.probe.timeout, 2);
    SignedDuration::try_from(apart).unwrap_or(SignedDuration::ZERO) + SignedDuration::from_secs(3)
}

/// The server an entry of the status is about, if it may be published at all.
pub(super) fn server(spec: &ServerGroupSpec, roster: &Roster, member: &MemberStatus) -> Option<Server> {
    let address = ServerAddress::parse(&member.id).ok()?;
    match roster.get(&address) {
        Some(entry) if entry.disabled => None,
        Some(entry) => Some(Server { address, priority: entry.priority, ip: entry.ip }),
        None if spec.reporting.enabled && member.report.is_some() => {
            Some(Server { ip: address.ip(), address, priority: default_priority() })
        }
        None => None,
    }
}

impl Selection {
    /// The servers as a TXT record lists them.
    #[must_use]
    pub fn list(&self, strategy: Strategy) -> txt::List {
        txt::compose(&self.in_order(strategy))
    }

    /// The servers in the order they are published.
    #[must_use]
    pub fn in_order(&self, strategy: Strategy) -> Vec<ServerAddress> {
        let listed = |server: &Server| Listed { address: server.address.clone(), priority: server.priority };
        txt::in_order(strategy, self.servers.iter().map(listed))
    }

    /// The IP addresses to publish, in order, each once. DNS has no order of preference: with `Failover` only the best
    /// priority among those with an address.
    #[must_use]
    pub fn addresses(&self, strategy: Strategy) -> BTreeSet<IpAddr> {
        let with_ip = self.servers.iter().filter_map(|server| Some((server.priority, server.ip?)));
        let best = with_ip.clone().map(|(priority, _)| priority).min();
        let chosen = with_ip.filter(|(priority, _)| strategy != Strategy::Failover || Some(*priority) == best);
        chosen.map(|(_, ip)| ip).collect()
    }

    /// The IP addresses to publish at `name` in place of healthy ones: where it has to lead first.
    #[must_use]
    pub fn opened(&self, name: &Fqdn) -> BTreeSet<IpAddr> {
        self.opening.iter().filter(|(host, _)| host == name.as_str()).map(|(_, ip)| *ip).collect()
    }
}

/// The names a group publishes.
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    /// Its slug.
    pub slug: String,
    /// The name of the list, where one is published.
    pub txt: Option<Fqdn>,
    /// The name with addresses, where one is published.
    pub a: Option<Fqdn>,
    /// Seconds a resolver may cache either.
    pub ttl: u32,
}

/// The records that publish `selection` under `names`.
#[must_use]
pub fn records(names: &Names, strategy: Strategy, selection: &Selection) -> Vec<Desired> {
    let record = |name: &Fqdn, content| Desired { name: name.clone(), content, ttl: names.ttl, proxied: false };
    let list = names.txt.as_ref().map(|name| record(name, Content::Txt(selection.list(strategy).content)));
    let addresses = names.a.iter().flat_map(|name| {
        let opened = selection.opened(name);
        let addresses = if opened.is_empty() { selection.addresses(strategy) } else { opened };
        addresses.into_iter().map(move |ip| match ip {
            IpAddr::V4(v4) => record(name, Content::A(v4)),
            IpAddr::V6(v6) => record(name, Content::Aaaa(v6)),
        })
    });
    list.into_iter().chain(addresses).collect()
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
