//! Who belongs to a group, and how each is probed (pure): the listed servers, then the Nodes: those selected, or those
//! an app serves on. Servers that only report are not here: they are known from their reports alone, and not probed.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kube::core::{Selector, SelectorExt};
use kube::{Resource, ResourceExt};

use super::app_nodes::{self, Part};
use crate::api::address::{Host, ServerAddress};
use crate::api::node::{Addresses, Node};
use crate::api::probe::{Method, Probe, ProbeType, Scheme};
use crate::api::server_group::{Member, Origin, ServerGroup, default_priority, default_weight};
use crate::cli;
use crate::controllers::app_deployment::serving::Serving;
use crate::probe::{self, Check, HttpCheck, Target};

/// How many servers a group may have.
pub const MOST: usize = 500;

/// Who belongs to a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Roster {
    /// The servers, each id once.
    pub members: Vec<Entry>,
    /// Whether there were more than [`MOST`], and the last were left out.
    pub cut: bool,
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where clients find it; as text, its id.
    pub address: ServerAddress,
    /// How it came into the group.
    pub origin: Origin,
    /// The Node it is, if it is one.
    pub node: Option<String>,
    /// What it answers of the app, if it serves one.
    pub app: Option<Part>,
    /// With `Failover`: the lowest comes first.
    pub priority: i32,
    /// Its share of the traffic, compared with the others'.
    pub weight: i32,
    /// Whether it is taken out.
    pub disabled: bool,
    /// Its IP address, where that is known: what an A or AAAA record says of it.
    pub ip: Option<IpAddr>,
    /// How it is probed.
    pub probing: Probing,
}

/// How a server is probed.
#[derive(Debug, Clone, PartialEq)]
pub enum Probing {
    /// So.
    Check(Check),
    /// Not at all, as the spec says.
    Off,
    /// Not yet: it is a Node without an address.
    NotYet,
}

impl Roster {
    /// The roster of `group`, with those of `nodes` (of any namespace) that it selects now, or that `app` serves on: what
    /// its `appRef` names, `None` if there is no such app.
    #[must_use]
    pub fn of<'a>(group: &ServerGroup, nodes: impl IntoIterator<Item = &'a Node>, app: Option<&Serving>) -> Self {
        let probe = &group.spec.probe;
        let ours = |node: &&Node| node.namespace() == group.namespace() && is_there(node);
        let mut nodes: Vec<&Node> = nodes.into_iter().filter(ours).collect();
        nodes.sort_by_key(|node| node.name_any());
        let listed = group.spec.members.iter().filter_map(|member| listed(member, probe));
        let selected = nodes.iter().filter(|node| selects(group, node)).filter_map(|node| of_node(node, None, probe));
        let serving = app_nodes::chosen(group, &nodes, app).into_iter();
        let serving = serving.filter_map(|(node, asked)| of_node(node, Some(asked), probe));
        let mut roster = Self::default();
        for entry in listed.chain(selected).chain(serving) {
            if roster.get(&entry.address).is_some() {
                continue;
            }
            if roster.members.len() == MOST {
                roster.cut = true;
                break;
            }
            roster.members.push(entry);
        }
        roster
    }

    /// The server at `address`.
    #[must_use]
    pub fn get(&self, address: &ServerAddress) -> Option<&Entry> {
        self.members.iter().find(|entry| entry.address == *address)
    }

    /// What the prober has to do for `group`.
    #[must_use]
    pub fn targets(&self, group: &ServerGroup) -> Vec<Target> {
        let probe = &group.spec.probe;
        let owner = owner(group);
        let count = |n: i32| u32::try_from(n).unwrap_or(1).max(1);
        let target = |entry: &Entry| {
            let Probing::Check(check) = &entry.probing else { return None };
            let key: Arc<str> = format!("{owner}/{}", entry.address).into();
            Some(Target {
                key,
                check: check.clone(),
                interval: duration(&probe.interval, 10),
                timeout: duration(&probe.timeout, 2),
                fall: count(probe.fall),
                rise: count(probe.rise),
            })
        };
        self.members.iter().filter(|entry| !entry.disabled).filter_map(target).collect()
    }
}

/// Who `group` is to the prober; a target's key is this, a slash and the server's id.
#[must_use]
pub fn owner(group: &ServerGroup) -> String {
    format!("group/{}/{}", group.namespace().unwrap_or_default(), group.name_any())
}

/// Whether `group` selects `node` now.
#[must_use]
pub fn selects(group: &ServerGroup, node: &Node) -> bool {
    let Some(selector) = group.spec.node_selector.clone() else { return false };
    // A selector that cannot be read selects nobody.
    let matches = Selector::try_from(selector).is_ok_and(|selector| selector.matches(node.labels()));
    matches && node.namespace() == group.namespace()
}

/// A Node that is being deleted is taken out before its record goes.
fn is_there(node: &Node) -> bool {
    node.meta().deletion_timestamp.is_none()
}

/// The duration a field says, in which the schema admits nothing else; `seconds` otherwise.
#[must_use]
pub fn duration(text: &str, seconds: u64) -> Duration {
    cli::duration(text).unwrap_or(Duration::from_secs(seconds))
}

fn listed(member: &Member, probe: &Probe) -> Option<Entry> {
    // The schema admits nothing that does not parse.
    let host = Host::parse(&member.address).ok()?;
    let port = member.port.and_then(|port| u16::try_from(port).ok());
    let asked = Question { connect: host.to_string(), name: None, port, scheme: member.scheme, path: "/" };
    let address = ServerAddress { host, port };
    Some(Entry {
        ip: address.ip(),
        address,
        origin: Origin::Listed,
        node: None,
        app: None,
        priority: member.priority,
        weight: member.weight,
        disabled: member.disabled,
        probing: probing(probe, &asked),
    })
}

fn of_node(node: &Node, app: Option<Part>, probe: &Probe) -> Option<Entry> {
    let status = node.status.as_ref()?;
    let address = ServerAddress { host: Host::parse(status.fqdn.as_deref()?).ok()?, port: None };
    let asked = app.as_ref().map(|part| &part.asked);
    let ip = status.addresses.as_ref().and_then(Addresses::publishable);
    let published = ip.filter(|_| status.record.is_some());
    let probing = match published {
        // Asked for by its name, but at the address itself: what a cache says of the name is not the Node's health.
        Some(ip) => probing(
            probe,
            &Question {
                connect: ip.to_string(),
                name: Some(asked.map_or_else(|| address.to_string(), |asked| asked.host.clone())),
                port: None,
                scheme: Scheme::Https,
                path: asked.map_or(&node.spec.health_path, |asked| &asked.path),
            },
        ),
        None => Probing::NotYet,
    };
    Some(Entry {
        address,
        origin: if app.is_some() { Origin::App } else { Origin::Node },
        node: Some(node.name_any()),
        app,
        priority: default_priority(),
        weight: default_weight(),
        disabled: false,
        ip: published,
        probing,
    })
}

/// What a server is asked where the group's probe says nothing else.
struct Question<'a> {
    connect: String,
    name: Option<String>,
    port: Option<u16>,
    scheme: Scheme,
    path: &'a str,
}

fn probing(probe: &Probe, asked: &Question<'_>) -> Probing {
    let scheme = probe.scheme.unwrap_or(asked.scheme);
    let by_scheme = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let port = probe.port.and_then(|port| u16::try_from(port).ok()).or(asked.port).unwrap_or(by_scheme);
    match probe.type_ {
        ProbeType::None => Probing::Off,
        ProbeType::Tcp => Probing::Check(Check::Tcp { address: asked.connect.clone(), port }),
        ProbeType::Http => Probing::Check(Check::Http(HttpCheck {
            scheme: match scheme {
                Scheme::Http => probe::Scheme::Http,
                Scheme::Https => probe::Scheme::Https,
            },
            address: asked.connect.clone(),
            port,
            method: match probe.method {
                Method::Get => http::Method::GET,
                Method::Head => http::Method::HEAD,
            },
            path: probe.path.clone().unwrap_or_else(|| asked.path.to_owned()),
            host: probe.host.clone().or_else(|| asked.name.clone()),
            server_name: probe.tls.as_ref().and_then(|tls| tls.server_name.clone()),
            expected: expected(&probe.expected_status),
        })),
    }
}

/// `204` or `200-399`, in which the schema admits nothing else.
fn expected(text: &str) -> RangeInclusive<u16> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) => from..=to,
        _ => 200..=399,
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
