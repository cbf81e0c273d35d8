//! Where requests to a script come from: route patterns of a zone, custom domains, and names below `workers.dev`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::script::Workers;
use crate::cloudflare::records::no_zone;
use crate::cloudflare::rules::Refusal;
use crate::cloudflare::state::{State, World, Zone};

/// A pattern of a zone, and the script that serves it; none exempts the pattern.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) id: String,
    pub(super) pattern: String,
    pub(super) script: Option<String>,
}

/// A host that is served by a script alone.
#[derive(Debug, Clone)]
pub(super) struct Domain {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) zone_id: String,
    pub(super) zone_name: String,
    pub(super) hostname: String,
    pub(super) service: String,
    pub(super) created_on: Timestamp,
}

/// A route as a request describes it.
#[derive(Debug, Deserialize)]
pub(super) struct RouteDraft {
    pattern: String,
    #[serde(default)]
    script: Option<String>,
}

/// A custom domain as a request describes it.
#[derive(Debug, Deserialize)]
pub(super) struct DomainDraft {
    hostname: String,
    service: String,
    #[serde(default)]
    zone_id: Option<String>,
    #[serde(default)]
    zone_name: Option<String>,
    #[serde(default)]
    override_existing_dns_record: bool,
}

impl Route {
    pub(super) fn shown(&self) -> Value {
        json!({"id": self.id, "pattern": self.pattern, "script": self.script})
    }

    /// How closely the pattern fits, if it does: a whole host before one with a star, then by length.
    fn fits(&self, host: &str, path: &str) -> Option<(bool, usize, usize)> {
        let pattern = self.pattern.rsplit_once("://").map_or(self.pattern.as_str(), |(_, rest)| rest);
        let (wanted, below) = pattern.split_at(pattern.find('/').unwrap_or(pattern.len()));
        let below = if below.is_empty() { "/" } else { below };
        let host_fits = match wanted.strip_prefix('*') {
            Some(end) => host.ends_with(end) || end.strip_prefix('.') == Some(host) && !wanted.starts_with("*."),
            None => host == wanted,
        };
        let path_fits = match below.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == below,
        };
        (host_fits && path_fits).then_some((!wanted.starts_with('*'), wanted.len(), below.len()))
    }
}

impl Domain {
    pub(super) fn shown(&self) -> Value {
        json!({
            "id": self.id, "hostname": self.hostname, "service": self.service, "environment": "production",
            "zone_id": self.zone_id, "zone_name": self.zone_name, "cert_id": self.id, "created_on": self.created_on,
        })
    }
}

/// Makes a route, or changes the one of this id.
pub(super) fn put_route(world: &mut World, zone: &str, id: Option<&str>, draft: RouteDraft) -> Result<Value, Refusal> {
    let (domain, account) = {
        let zone = world.zones.get(zone).ok_or_else(no_zone)?;
        (zone.spec.name.clone(), world.accounts.get(&zone.spec.account).cloned().unwrap_or_default())
    };
    check_pattern(&draft.pattern, &domain)?;
    if let Some(script) = &draft.script
        && world.workers.script(&account, script).is_err()
    {
        let message = "Cannot configure a route for a Worker which does not exist. Please ensure this Worker exists \
                       and try again.";
        return Err(Refusal::new(400, 10_019, message));
    }
    let fresh = world.workers.id();
    let routes = world.workers.routes.entry(zone.to_owned()).or_default();
    if routes.iter().any(|route| route.pattern == draft.pattern && Some(route.id.as_str()) != id) {
        return Err(Refusal::new(409, 10_020, "A route with the same pattern already exists."));
    }
    if let Some(id) = id {
        let route = routes.iter_mut().find(|route| route.id == id).ok_or_else(no_route)?;
        (route.pattern, route.script) = (draft.pattern, draft.script);
        return Ok(route.shown());
    }
    let route = Route { id: fresh, pattern: draft.pattern, script: draft.script };
    let shown = route.shown();
    routes.push(route);
    Ok(shown)
}

pub(super) fn no_route() -> Refusal {
    Refusal::new(404, 10_009, "Worker route not found.")
}

/// A pattern names a host of the zone; `*` may stand at the beginning of the host and at the end of the path only.
fn check_pattern(pattern: &str, domain: &str) -> Result<(), Refusal> {
    let rest = pattern.rsplit_once("://").map_or(pattern, |(_, rest)| rest);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let name = host.trim_start_matches('*').trim_start_matches('.');
    let inside = name == domain || name.ends_with(&format!(".{domain}")) || host.ends_with(&format!("*{domain}"));
    let stars = host.rfind('*').is_none_or(|at| at == 0) && path.find('*').is_none_or(|at| at + 1 == path.len());
    if inside && stars && !path.contains('?') {
        return Ok(());
    }
    Err(Refusal::new(400, 10_022, format!("Invalid route pattern \"{pattern}\" for zone {domain}.")))
}

/// Gives a host to a script, whoever had it.
pub(super) fn put_domain(
    world: &mut World,
    account: &str,
    draft: &DomainDraft,
    now: Timestamp,
) -> Result<Value, Refusal> {
    let fits = |zone: &&Zone| match (&draft.zone_id, &draft.zone_name) {
        (Some(id), _) => zone.id == *id,
        (None, Some(name)) => zone.spec.name == *name,
        (None, None) => true,
    };
    let inside = |zone: &&Zone| {
        let host = &draft.hostname;
        *host == zone.spec.name || host.ends_with(&format!(".{}", zone.spec.name))
    };
    let owned = |zone: &&Zone| world.accounts.get(&zone.spec.account).is_some_and(|id| id == account);
    let zone = world.zones.values().filter(fits).filter(inside).filter(owned).max_by_key(|zone| zone.spec.name.len());
    let Some(zone) = zone else {
        return Err(Refusal::new(400, 100_116, "The hostname is in no zone of the account."));
    };
    let (zone_id, zone_name) = (zone.id.clone(), zone.spec.name.clone());
    let pointing = |kind: &str| matches!(kind, "A" | "AAAA" | "CNAME");
    if zone.named(&draft.hostname).any(|record| pointing(&record.kind)) && !draft.override_existing_dns_record {
        let message = "Hostname already has externally managed DNS records (A, CNAME, etc). Either delete them, try a \
                       different hostname, or use the option 'override_existing_dns_record' to override.";
        return Err(Refusal::new(409, 100_117, message));
    }
    world.workers.script(account, &draft.service)?;
    let id = world.workers.id();
    let domains = &mut world.workers.domains;
    if let Some(domain) = domains.iter_mut().find(|domain| domain.hostname == draft.hostname) {
        domain.service.clone_from(&draft.service);
        return Ok(domain.shown());
    }
    let domain = Domain {
        id,
        account: account.to_owned(),
        zone_id,
        zone_name,
        hostname: draft.hostname.clone(),
        service: draft.service.clone(),
        created_on: now,
    };
    let shown = domain.shown();
    domains.push(domain);
    Ok(shown)
}

impl Workers {
    /// The account id and the name of the script that serves a request, if one does.
    pub(super) fn serves(&self, world: &World, host: &str, path: &str) -> Option<(String, String)> {
        let routes = world.zones.values().flat_map(|zone| {
            let account = world.accounts.get(&zone.spec.account);
            self.routes.get(&zone.id).into_iter().flatten().map(move |route| (account, route))
        });
        let best = routes.filter_map(|(account, route)| Some((route.fits(host, path)?, account?, route)));
        if let Some((_, account, route)) = best.max_by_key(|(closeness, ..)| *closeness) {
            return route.script.clone().map(|script| (account.clone(), script));
        }
        if let Some(domain) = self.domains.iter().find(|domain| domain.hostname == host) {
            return Some((domain.account.clone(), domain.service.clone()));
        }
        let (script, account) = host.strip_suffix(".workers.dev")?.split_once('.')?;
        let key = (world.accounts.get(account)?.clone(), script.to_owned());
        self.scripts.get(&key).filter(|script| script.subdomain).map(|_| key)
    }
}

/// The refusal of a domain that is not there.
pub(super) fn no_domain() -> Refusal {
    Refusal::new(404, 100_114, "Custom domain not found.")
}

impl State {
    /// The routes of the zones of this name: the pattern, and the script it leads to.
    #[must_use]
    pub fn worker_routes(&self, domain: &str) -> Vec<(String, Option<String>)> {
        let (world, _) = self.world();
        let zones = world.zones.values().filter(|zone| zone.spec.name == domain);
        let routes = zones.filter_map(|zone| world.workers.routes.get(&zone.id)).flatten();
        routes.map(|route| (route.pattern.clone(), route.script.clone())).collect()
    }

    /// Makes a route by hand.
    ///
    /// # Errors
    /// What the API itself would refuse, in its words.
    pub fn add_worker_route(&self, domain: &str, pattern: &str, script: &str) -> Result<(), String> {
        let (mut world, _) = self.world();
        let zone = world.zones.values().find(|zone| zone.spec.name == domain).map(|zone| zone.id.clone());
        let draft = RouteDraft { pattern: pattern.to_owned(), script: Some(script.to_owned()) };
        let made = put_route(&mut world, &zone.unwrap_or_default(), None, draft);
        made.map(drop).map_err(|refusal| refusal.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(pattern: &str) -> Route {
        Route { id: String::new(), pattern: pattern.to_owned(), script: None }
    }

    #[test]
    fn a_pattern_fits_hosts_and_paths_as_its_stars_say() {
        for (pattern, host, path, fits) in [
            ("example.com/*", "example.com", "/x", true),
            ("example.com/*", "www.example.com", "/x", false),
            ("*.example.com/*", "www.example.com", "/", true),
            ("*.example.com/*", "example.com", "/", false),
            ("*example.com/*", "example.com", "/", true),
            ("https://example.com/images*", "example.com", "/images123", true),
            ("example.com/images/*", "example.com", "/images", false),
            ("example.com/one", "example.com", "/one/two", false),
        ] {
            assert_eq!(route(pattern).fits(host, path).is_some(), fits, "{pattern} {host}{path}");
        }
        let closeness = |pattern| route(pattern).fits("a.example.com", "/x/y");
        assert!(closeness("a.example.com/*") > closeness("*.example.com/x/*"));
        assert!(closeness("a.example.com/x/*") > closeness("a.example.com/*"));
    }
}
