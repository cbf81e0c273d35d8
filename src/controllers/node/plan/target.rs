//! What a valid Node asks for: parsed once, so that later steps cannot fail on input.

use std::net::IpAddr;
use std::time::Duration;

use super::super::observe::{Hosts, Observed, fqdn, static_address};
use super::{NodeStep, stop, wait};
use crate::api::names::{Fqdn, vm_name};
use crate::dns::{Content, Desired};

/// What a Node asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name.
    pub fqdn: Fqdn,
    /// Its record's TTL in seconds.
    pub ttl: u32,
    /// Whether Cloudflare proxies it.
    pub proxied: bool,
    /// The existing host's address; `None` for a VM.
    pub address: Option<IpAddr>,
}

/// What VM to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Which VM of its Node it is.
    pub incarnation: i64,
    /// Region slug.
    pub region: String,
    /// Size slug.
    pub size: String,
    /// Image slug.
    pub image: String,
}

impl Target {
    /// The record that points the name at `address`.
    #[must_use]
    pub fn record(&self, address: IpAddr) -> Desired {
        let content = match address {
            IpAddr::V4(v4) => Content::A(v4),
            IpAddr::V6(v6) => Content::Aaaa(v6),
        };
        Desired { name: self.fqdn.clone(), content, ttl: self.ttl, proxied: self.proxied }
    }
}

/// How long to wait for something that a watch will announce.
const WATCHED: Duration = Duration::from_secs(300);

/// Validates the Node against its Zone and Provider.
///
/// # Errors
/// The step to end with: a wait for what has to come first, or a stop that names the field and the remedy.
pub fn target(seen: &Observed) -> Result<Target, Box<NodeStep>> {
    let spec = &seen.node.spec;
    let err = |step| Err(Box::new(step));
    let (zone_name, provider_name) = (&spec.zone_ref.name, &spec.provider_ref.name);
    let Some(zone) = &seen.zone else {
        let message = format!("spec.zoneRef: there is no Zone {zone_name}: create it, and this goes on by itself");
        return err(wait("ZoneNotFound", message, WATCHED, false));
    };
    let Some(provider) = &seen.provider else {
        let message =
            format!("spec.providerRef: there is no Provider {provider_name}: create it, and this goes on by itself");
        return err(wait("ProviderNotFound", message, WATCHED, false));
    };
    let namespace = &seen.claimant.namespace;
    for (allowed, kind, name) in [(zone.allowed, "Zone", zone_name), (provider.allowed, "Provider", provider_name)] {
        if !allowed {
            let message = format!(
                "namespace {namespace} may not use {kind} {name}: have its spec.allowedNamespaces include the \
                 namespace, or create the object with another {kind}"
            );
            return err(stop("NamespaceNotAllowed", message));
        }
    }
    let Some(domain) = &zone.domain else {
        let message = format!("Zone {zone_name} has no valid domain: look at its own condition");
        return err(wait("ZoneNotReady", message, WATCHED, false));
    };
    let Some(fqdn) = fqdn(&seen.node, domain) else {
        let label = spec.hostname.as_deref().unwrap_or(&seen.claimant.holder.name);
        let message = format!(
            "spec.hostname: `{label}` does not make a DNS name under {domain}: use labels of at most 63 of a-z, 0-9 \
             and `-` that do not start with `rs--`, 253 characters in all"
        );
        return err(stop("InvalidHostname", message));
    };
    if fqdn == *domain && !zone.allow_apex {
        let message = format!(
            "spec.hostname: `@` is {domain} itself, which Zone {zone_name} does not allow: set its spec.allowApex, or \
             name a host"
        );
        return err(stop("ApexNotAllowed", message));
    }
    let is_static = match &provider.hosts {
        Hosts::Static(_) => true,
        Hosts::Vms { .. } => false,
        Hosts::Unknown { is_static } => *is_static,
    };
    let address = match (is_static, spec.address.as_deref(), static_address(&seen.node)) {
        (false, None, _) => None,
        (true, Some(_), Some(address)) => Some(address),
        (false, Some(_), _) => {
            let message = format!(
                "spec.address: only with a static Provider, and {provider_name} makes VMs: remove the address or name \
                 another Provider"
            );
            return err(stop("AddressNotAllowed", message));
        }
        (true, None, _) => {
            let message = format!(
                "spec.address: missing, and Provider {provider_name} has existing hosts only: name the IP address of \
                 one, or use a Provider that makes VMs"
            );
            return err(stop("AddressRequired", message));
        }
        (true, Some(text), None) => {
            let message = format!("spec.address: `{text}` is not an IP address: write one such as 203.0.113.7");
            return err(stop("InvalidAddress", message));
        }
    };
    if let Hosts::Static(Err(refusal)) = &provider.hosts {
        return err(stop("AddressNotAllowed", format!("Provider {provider_name}: {refusal}")));
    }
    // The schema keeps TTLs within 60..=86400.
    let ttl = u32::try_from(spec.ttl.unwrap_or(zone.ttl)).unwrap_or(300);
    Ok(Target { fqdn, ttl, proxied: spec.proxied, address })
}

/// The VM that the status, else the spec, else the Provider asks for. What the status says was settled when the first
/// VM was intended, so that a Provider's changed default never touches an existing Node; a new incarnation takes size
/// and image from the spec again.
pub(super) fn machine(seen: &Observed, defaults: &[String; 3], incarnation: i64, afresh: bool) -> Machine {
    let (spec, status) = (&seen.node.spec, &seen.status);
    let intended = status.journal.as_ref().is_some_and(|j| j.intent.as_deref() == Some("CreateVM"));
    // As long as nothing was made, nothing is settled either: a refused size is mended in spec or Provider.
    let made = status.vm_id.is_some() || intended || incarnation > 1;
    let pick = |settled: &Option<String>, asked: &Option<String>, default: &String| {
        let settled = settled.clone().filter(|_| made && (!afresh || asked.is_none()));
        settled.or_else(|| asked.clone()).unwrap_or_else(|| default.clone())
    };
    let holder = &seen.claimant.holder;
    Machine {
        name: vm_name(&holder.name, &holder.uid, incarnation),
        incarnation,
        region: pick(&status.region, &spec.region, &defaults[0]),
        size: pick(&status.size, &spec.size, &defaults[1]),
        image: pick(&status.image, &spec.image, &defaults[2]),
    }
}
