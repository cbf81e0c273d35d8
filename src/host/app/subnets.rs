//! Subnets for an app's networks on a host: pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use crate::host::compose::{Project, subnets};
use crate::host::deploy::commands::Place;

/// The label by which Compose knows its own.
pub(super) const PROJECT: &str = "com.docker.compose.project";
/// The key under which the network by which Caddy reaches the app is among the others: no user's file can have it.
const INGRESS: &str = "";
/// The longest prefix that a network gets: room for 29 containers.
const LONGEST: u8 = 27;
/// The shortest one.
const SHORTEST: u8 = 22;

/// A network of the host, as the script says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Network {
    name: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    subnets: Vec<String>,
}

/// The subnets of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assigned {
    /// Of the networks that Compose makes, by key.
    pub(super) compose: BTreeMap<String, Ipv4Net>,
    /// Of the network by which Caddy reaches it.
    pub(super) ingress: Ipv4Net,
}

impl Network {
    fn is_of(&self, place: &Place) -> bool {
        let label = |key| self.labels.as_ref().and_then(|labels| labels.get(key));
        label(PROJECT) == Some(&place.project) || label(crate::host::compose::overlay::APP) == Some(&place.app)
    }

    fn subnets(&self) -> impl Iterator<Item = Ipv4Net> {
        self.subnets.iter().filter_map(|subnet| subnet.parse().ok())
    }
}

/// What the host's routes lead to, from `/proc/net/route`: but for the default route, which leads everywhere.
pub(super) fn routes(table: &str) -> Vec<Ipv4Net> {
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(|number| Ipv4Addr::from(number.swap_bytes()));
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        Ipv4Net::with_netmask(address(fields.get(1)?)?, address(fields.get(7)?)?).ok()
    };
    table.lines().skip(1).filter_map(route).filter(|net| net.prefix_len() > 0).collect()
}

/// Subnets of `pool` for an app's networks. Those that are there keep theirs; `before` is what an earlier look assigned,
/// which holds as long as nobody else has it. `None` if the pool is used up.
pub(super) fn assign(
    place: &Place,
    project: &Project,
    ingress: &str,
    (networks, routes): (&[Network], &[Ipv4Net]),
    before: &BTreeMap<String, Ipv4Net>,
    pool: Ipv4Net,
) -> Option<Assigned> {
    let name = |key: &str| match key {
        INGRESS => Some(ingress.to_owned()),
        key => project.networks.get(key).map(|network| network.name.clone()),
    };
    let ours: Vec<&Network> = networks.iter().filter(|network| network.is_of(place)).collect();
    let has = |name: String| ours.iter().find(|network| network.name == name)?.subnets().next();
    let mut wanting = subnets::wanting(project);
    wanting.push(INGRESS);
    let mut kept: BTreeMap<String, Ipv4Net> =
        wanting.iter().filter_map(|key| Some(((*key).to_owned(), has(name(key)?)?))).collect();
    // A network of ours has a route too, which is no reason to take another subnet.
    let mut taken: Vec<Ipv4Net> = networks.iter().flat_map(Network::subnets).collect();
    taken.extend(routes);
    let apart = |one: &Ipv4Net, other: &Ipv4Net| !one.contains(other) && !other.contains(one);
    for (key, net) in before {
        if wanting.contains(&key.as_str()) && !kept.contains_key(key) && taken.iter().all(|taken| apart(net, taken)) {
            kept.insert(key.clone(), *net);
        }
    }
    let prefix = prefix(project).max(pool.prefix_len());
    let mut compose = subnets::assign_from(start(&place.app), &wanting, &kept, &taken, pool, prefix)?;
    let ingress = compose.remove(INGRESS)?;
    Some(Assigned { compose, ingress })
}

/// Where an app begins to look.
fn start(app: &str) -> u64 {
    app.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Room for twice as many containers as the app has: two revisions, and what else comes.
fn prefix(project: &Project) -> u8 {
    let containers: u32 = project.services.values().map(|service| service.replicas().min(1024)).sum();
    let wanted = containers.saturating_mul(2).saturating_add(8);
    (SHORTEST..=LONGEST).rev().find(|prefix| 1_u32 << (32 - prefix) >= wanted).unwrap_or(SHORTEST)
}

#[cfg(test)]
#[path = "subnets_tests.rs"]
mod tests;
