//! The names of an app: where each lies, who publishes it, and with which addresses (pure).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::observe::{HostView, Observed};
use super::plan::handover::{self, Serving};
use super::plan::{AppStep, Facts, stop};
use crate::api::app_deployment::{Publish, Verification};
use crate::api::names::{Fqdn, Mark};
use crate::dns::{Content, Desired};
use crate::host::deploy::app::Domain;
use crate::runtime::claims::{Reservation, Role};

/// A redirect that a browser remembers, and that keeps method and body.
const PERMANENT: u16 = crate::host::table::Route::PERMANENT;

/// Where authorities ask for what proves a name to them (RFC 8555, 8.3).
const HTTP: u16 = 80;

/// A name that the app is to be reached by.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// The name.
    pub name: Fqdn,
    /// The field that asks for it.
    pub field: String,
    /// The Zone it is published in by us; `None` if somebody else does, or its Node.
    pub zone: Option<String>,
    /// The Node whose own name it is.
    pub node: Option<String>,
    /// Whether it lies in no Zone, so that its owner has to prove it.
    pub foreign: bool,
    /// Whether Cloudflare is to proxy it.
    pub proxied: bool,
    /// Where visitors are sent instead.
    pub redirect: Option<Fqdn>,
    /// The app that it is taken from, if that one has it.
    pub take_from: Option<String>,
    /// Whether nothing asks for it any more, and it is kept until another app has taken it over, or none does.
    pub kept: bool,
}

/// The names, once the entry service's label is known: those that are asked for, then those that are kept although they
/// are not.
///
/// # Errors
/// The step to end with: a stop that names the field and what would be right.
pub fn names(seen: &Observed, label: Option<&Fqdn>, now: Timestamp) -> Result<Vec<Name>, Box<AppStep>> {
    let mut names = listed(seen, label)?;
    let kept = seen.status.domains.iter().filter(|known| names.iter().all(|name| name.name.as_str() != known.name));
    let kept = kept.filter(|known| handover::keeps(seen, known, now)).filter_map(|known| {
        let name = Fqdn::parse(&known.name).ok()?;
        let node = seen.hosts.iter().find(|(_, host)| host.fqdn.as_ref() == Some(&name)).map(|(node, _)| node.clone());
        let redirect = known.redirect_to.as_deref().and_then(|to| Fqdn::parse(to).ok());
        let (zone, proxied) = (known.zone.clone(), known.proxied);
        Some(Name { zone, node, proxied, redirect, kept: true, ..plain(name, "status.domains".to_owned()) })
    });
    let kept: Vec<Name> = kept.collect();
    names.extend(kept);
    Ok(names)
}

/// The names that are asked for.
fn listed(seen: &Observed, label: Option<&Fqdn>) -> Result<Vec<Name>, Box<AppStep>> {
    let spec = &seen.app.spec;
    if !spec.domains.is_empty() {
        let of = |(index, domain): (usize, &crate::api::app_deployment::Domain)| {
            let field = format!("spec.domains[{index}]");
            let parse = |name: &str, key: &str| {
                Fqdn::parse(name).map_err(|error| {
                    let message = format!("{field}.{key}: `{name}` is no DNS name: {error}");
                    Box::new(stop("InvalidDomain", message))
                })
            };
            let redirect = domain.redirect_to.as_deref().map(|to| parse(to, "redirectTo")).transpose()?;
            let take_from = domain.take_from.as_ref().map(|app| app.name.clone());
            let plain = plain(parse(&domain.name, "name")?, field.clone());
            let name = Name { proxied: domain.proxied, redirect, take_from, ..plain };
            governed(seen, name, domain.publish)
        };
        return spec.domains.iter().enumerate().map(of).collect();
    }
    if let Some(label) = label {
        let name = plain(label.clone(), "the label roadstead.domain of the entry service".to_owned());
        return Ok(vec![governed(seen, name, Publish::Node)?]);
    }
    let own = |(name, host): (&String, &HostView)| {
        let fqdn = host.fqdn.clone().filter(|_| host.target)?;
        Some(Name { node: Some(name.clone()), ..plain(fqdn, "spec.domains".to_owned()) })
    };
    Ok(seen.hosts.iter().filter_map(own).collect())
}

fn plain(name: Fqdn, field: String) -> Name {
    Name {
        name,
        field,
        zone: None,
        node: None,
        foreign: false,
        proxied: false,
        redirect: None,
        take_from: None,
        kept: false,
    }
}

/// The names that may be claimed and served: those in no Zone only once they are proven.
#[must_use]
pub fn proven(seen: &Observed, names: Vec<Name>) -> Vec<Name> {
    names.into_iter().filter(|name| !name.foreign || is_proven(seen, &name.name)).collect()
}

/// Whether the TXT record that proves a name was seen.
#[must_use]
pub fn is_proven(seen: &Observed, name: &Fqdn) -> bool {
    let known = seen.status.domains.iter().find(|domain| domain.name == name.as_str());
    known.and_then(|domain| domain.verification.as_ref()).is_some_and(|verification| verification.seen)
}

/// The TXT record that proves that a name is the app's owner's.
#[must_use]
pub fn proof(seen: &Observed, name: &Fqdn) -> Verification {
    let Mark { cluster, key, .. } = &seen.mark;
    let content = format!("roadstead={}-{key}", cluster.as_str());
    Verification { name: format!("_roadstead.{name}"), content, seen: false }
}

/// Where a name lies, and whether it may be published there.
fn governed(seen: &Observed, name: Name, publish: Publish) -> Result<Name, Box<AppStep>> {
    let err = |reason, message| Err(Box::new(stop(reason, message)));
    let field = &name.field;
    let own = seen.hosts.iter().find(|(_, host)| host.target && host.fqdn.as_ref() == Some(&name.name));
    if let Some((node, _)) = own {
        // It is published by its Node already.
        return Ok(Name { node: Some(node.clone()), ..name });
    }
    match (publish, seen.zone_of(&name.name)) {
        (Publish::Unknown, _) => err(
            "UnknownValue",
            format!(
                "{field}.publish: this version of the operator does not know its value: upgrade the operator, or \
                 correct the spec"
            ),
        ),
        (_, Some(zone)) if !zone.allowed => err(
            "NamespaceNotAllowed",
            format!(
                "{field}: {} lies in Zone {}, which namespace {} may not use: have its spec.allowedNamespaces include \
                 the namespace, or choose another name",
                name.name, zone.name, seen.claimant.namespace
            ),
        ),
        (_, Some(zone)) if name.name == zone.domain && !zone.allow_apex => err(
            "ApexNotAllowed",
            format!(
                "{field}: {} is the domain of Zone {} itself, which that does not allow: set its spec.allowApex, or \
                 name a host",
                name.name, zone.name
            ),
        ),
        (Publish::Node, Some(zone)) => Ok(Name { zone: Some(zone.name.clone()), ..name }),
        (Publish::Node, None) => Ok(Name { foreign: true, ..name }),
        (Publish::Group | Publish::None, _) => Ok(name),
    }
}

impl Name {
    /// What has to be ours before the name is published and served.
    pub fn reservations(&self) -> impl Iterator<Item = (Reservation, Role)> {
        let dns = self.zone.is_some().then_some(Role::Dns);
        let reservation = Reservation::of_name(&self.name);
        dns.into_iter().chain([Role::Http]).map(move |role| (reservation.clone(), role))
    }

    /// Whether it leads to this host and to no other place of the app.
    fn is_of(&self, host: &str) -> bool {
        self.node.as_ref().is_none_or(|node| node == host)
    }
}

/// Where the names lead: the hosts that serve the app and should; else those that do still; else the first that will.
#[must_use]
pub fn lead(seen: &Observed) -> Vec<&HostView> {
    let serves = |host: &&HostView| host.journal.live.is_some() && host.address.is_some() && !host.lost();
    let of = |target: bool| {
        let hosts = seen.hosts.values().filter(|host| host.target == target);
        hosts.filter(serves).collect::<Vec<_>>()
    };
    let (targets, others) = (of(true), of(false));
    if !targets.is_empty() {
        return targets;
    }
    if !others.is_empty() {
        return others;
    }
    seen.hosts.values().find(|host| host.target && host.address.is_some()).into_iter().collect()
}

/// The records of each Zone; those without any are there too, so that what was published is withdrawn.
#[must_use]
pub fn records(seen: &Observed, names: &[Name]) -> BTreeMap<String, Vec<Desired>> {
    let mut all: BTreeMap<String, Vec<Desired>> = former_zones(seen);
    let addresses: Vec<IpAddr> = lead(seen).iter().filter_map(|host| host.address).collect();
    for name in names {
        let Some(zone) = name.zone.as_ref().and_then(|zone| seen.zones.iter().find(|z| z.name == *zone)) else {
            continue;
        };
        let record = |address: &IpAddr| Desired {
            name: name.name.clone(),
            content: match address {
                IpAddr::V4(v4) => Content::A(*v4),
                IpAddr::V6(v6) => Content::Aaaa(*v6),
            },
            ttl: zone.ttl,
            // A proxy in front would keep the certificate from being issued.
            proxied: name.proxied && serves(seen, &name.name),
        };
        all.entry(zone.name.clone()).or_default().extend(addresses.iter().map(record));
    }
    all
}

/// The Zones that something was published in.
#[must_use]
pub fn former_zones(seen: &Observed) -> BTreeMap<String, Vec<Desired>> {
    let published = seen.status.domains.iter().filter(|domain| !domain.addresses.is_empty());
    let names = published.filter_map(|domain| Fqdn::parse(&domain.name).ok());
    names.filter_map(|name| Some((seen.zone_of(&name)?.name.clone(), Vec::new()))).collect()
}

/// Whether a name was seen to be answered by the app, with its certificate.
#[must_use]
pub fn serves(seen: &Observed, name: &Fqdn) -> bool {
    let known = seen.status.domains.iter().find(|domain| domain.name == name.as_str());
    known.and_then(|domain| domain.phase.as_deref()) == Some("Serving")
}

/// Where plain HTTP is served by the host that comes after this one, of all that the app should be on: they stand in a
/// ring, by name.
fn next_host(seen: &Observed, host: &str) -> Option<SocketAddr> {
    let ring =
        || seen.hosts.iter().filter(|(_, view)| view.target).filter_map(|(name, view)| Some((name, view.address?)));
    let others = || ring().filter(|(name, _)| *name != host);
    let (_, address) = others().find(|(name, _)| name.as_str() > host).or_else(|| others().next())?;
    Some(SocketAddr::new(address, HTTP))
}

/// What the deploy on a host has to know of the names.
#[must_use]
pub fn domains(seen: &Observed, facts: &Facts, names: &[Name], host: &str, now: Timestamp) -> BTreeMap<String, Domain> {
    let led = lead(seen).iter().any(|view| seen.hosts.get(host).is_some_and(|host| host.uid() == view.uid()));
    let next = next_host(seen, host);
    let here = names.iter().filter(|name| name.is_of(host));
    let of = |name: &Name| {
        let ours = match handover::answers(seen, facts, name, host, now) {
            Serving::No => return None,
            Serving::Ours => true,
            Serving::Anyhow => false,
        };
        let peer = next.filter(|_| name.node.is_none());
        // What leads elsewhere has no certificate here that could be verified.
        let verify = ours && (name.node.is_some() || (name.zone.is_some() && led));
        Some(match &name.redirect {
            Some(to) => Domain::Redirect { to: to.to_string(), code: PERMANENT, peer },
            None => Domain::Serve { verify, peer },
        })
    };
    here.filter_map(|name| Some((name.name.to_string(), of(name)?))).collect()
}
