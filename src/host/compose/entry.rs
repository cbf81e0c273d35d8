//! Where an app's traffic enters: the service, its port, and what its labels say of domain and health.

use super::project::{Project, Service, range};
use super::refusal::{Place, Refusal};
use crate::api::names::Fqdn;

/// The name that makes a service the entry if nothing else does.
const USUAL: &str = "web";
/// The prefixes of our labels, the first being preferred.
const PREFIXES: [&str; 2] = ["roadstead", "dynia"];

/// What the AppDeployment says of the entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `spec.entry.service`.
    pub service: Option<String>,
    /// `spec.entry.port`.
    pub port: Option<u16>,
}

/// Where an app's traffic enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The service.
    pub service: String,
    /// The container's TCP port that answers HTTP.
    pub port: u16,
    /// The domain its label names.
    pub domain: Option<Fqdn>,
    /// The health path its label names.
    pub health_path: Option<String>,
}

/// The name of the entry service: the one asked for, else the one that is labelled, else `web`.
///
/// # Errors
/// Everything that keeps it from being told.
pub fn service<'a>(project: &'a Project, asked: &'a Asked) -> Result<&'a str, Vec<Refusal>> {
    if let Some(name) = &asked.service {
        return if project.services.contains_key(name) {
            Ok(name)
        } else {
            let place = Place::at("spec.entry.service");
            Err(vec![Refusal::UnknownService { place, name: name.clone(), services: project.names() }])
        };
    }
    let mut refusals = Vec::new();
    let mut labelled = Vec::new();
    let mut excluded = false;
    for (name, service) in &project.services {
        match label(service, "entry") {
            Some((_, "true")) => labelled.push(name.as_str()),
            Some((_, "false")) => excluded |= name == USUAL,
            Some((key, value)) => refusals.push(bad(name, &key, value, "`true`, or remove it")),
            None => {}
        }
    }
    if labelled.len() > 1 {
        let services = labelled.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        refusals.push(Refusal::TwoEntries { services });
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    match labelled.first() {
        Some(name) => Ok(name),
        None if !excluded && project.services.contains_key(USUAL) => Ok(USUAL),
        None if project.services.is_empty() => Err(vec![Refusal::NoServices]),
        None => Err(vec![Refusal::NoEntry { services: project.names() }]),
    }
}

/// The entry: [`service`], its port (the one asked for, else its label's, else the first TCP port of `expose`, else the
/// first of `ports`), and its labels for domain and health.
///
/// # Errors
/// Everything that keeps it from being told.
pub fn find(project: &Project, asked: &Asked) -> Result<Entry, Vec<Refusal>> {
    let name = service(project, asked)?;
    let service = &project.services[name];
    let mut refusals = Vec::new();
    let port = port(name, service, asked.port).map_err(|refusal| refusals.push(refusal)).unwrap_or_default();
    let domain = label(service, "domain").and_then(|(key, value)| match Fqdn::parse(value) {
        Ok(domain) => Some(domain),
        Err(error) => {
            refusals.push(bad(name, &key, value, &format!("a domain such as `shop.example.com` ({error})")));
            None
        }
    });
    let health_path = label(service, "health").and_then(|(key, value)| {
        let right = value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic());
        if right {
            return Some(value.to_owned());
        }
        refusals.push(bad(name, &key, value, "a path such as `/healthz`"));
        None
    });
    if refusals.is_empty() { Ok(Entry { service: name.to_owned(), port, domain, health_path }) } else { Err(refusals) }
}

fn port(name: &str, service: &Service, asked: Option<u16>) -> Result<u16, Refusal> {
    if let Some(port) = asked {
        return Ok(port);
    }
    if let Some((key, value)) = label(service, "port") {
        let port = value.parse().ok().filter(|port| *port != 0);
        return port.ok_or_else(|| bad(name, &key, value, "a port from 1 to 65535"));
    }
    let exposed = service.expose.iter().filter_map(|exposed| {
        let (ports, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        (protocol == "tcp").then(|| range(ports)).flatten()
    });
    let published = service.ports.iter().filter(|port| port.protocol == "tcp");
    let mut ports = exposed.map(|(first, _)| first).chain(published.map(|port| port.target));
    ports.next().ok_or_else(|| Refusal::NoPort { service: name.to_owned() })
}

/// A label of ours and its value.
fn label<'a>(service: &'a Service, name: &str) -> Option<(String, &'a str)> {
    PREFIXES.iter().find_map(|prefix| {
        let key = format!("{prefix}.{name}");
        let value = service.labels.get(&key)?;
        Some((key, value.trim()))
    })
}

fn bad(service: &str, key: &str, value: &str, right: &str) -> Refusal {
    let place = Place::of(service, format!("labels.{key}"));
    Refusal::BadLabel { place, value: value.to_owned(), right: right.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project of services given as `(name, JSON of the service)`.
    fn project(services: &[(&str, &str)]) -> Project {
        let services: Vec<String> = services.iter().map(|(name, text)| format!(r#""{name}":{text}"#)).collect();
        Project::read(&format!(r#"{{"name":"shop","services":{{{}}}}}"#, services.join(","))).unwrap()
    }

    fn found(services: &[(&str, &str)], asked: &Asked) -> Result<(String, u16), Vec<&'static str>> {
        match find(&project(services), asked) {
            Ok(entry) => Ok((entry.service, entry.port)),
            Err(refusals) => Err(refusals.iter().map(Refusal::reason).collect()),
        }
    }

    const PLAIN: &str = r#"{"expose":["8080"]}"#;
    const LABELLED: &str = r#"{"expose":["9000"],"labels":{"roadstead.entry":"true"}}"#;
    const SEED: &str = r#"{"labels":{"dynia.entry":"true","dynia.port":"7000","dynia.domain":"a.example.com"}}"#;

    #[test]
    fn the_entry_is_the_one_asked_for_then_the_labelled_one_then_web() {
        let nothing = Asked::default();
        let all = [("api", LABELLED), ("db", PLAIN), ("web", PLAIN)];
        let db = Asked { service: Some("db".into()), port: None };
        assert_eq!(found(&all, &db), Ok(("db".into(), 8080)));
        assert_eq!(found(&all, &nothing), Ok(("api".into(), 9000)));
        assert_eq!(found(&[("api", SEED), ("web", PLAIN)], &nothing), Ok(("api".into(), 7000)));
        assert_eq!(found(&all[1..], &nothing), Ok(("web".into(), 8080)));
        assert_eq!(found(&all[1..2], &nothing), Err(vec!["EntryMissing"]));
        assert_eq!(found(&[], &nothing), Err(vec!["EntryMissing"]));
        assert_eq!(found(&[("api", LABELLED), ("web", SEED)], &nothing), Err(vec!["EntryAmbiguous"]));
        // Who asks decides between two.
        let web = Asked { service: Some("web".into()), port: None };
        assert_eq!(found(&[("api", LABELLED), ("web", SEED)], &web), Ok(("web".into(), 7000)));
        let none = Asked { service: Some("nowhere".into()), port: None };
        assert_eq!(found(&all, &none), Err(vec!["UnknownService"]));
    }

    #[test]
    fn a_web_that_says_it_is_not_the_entry_is_none() {
        let not = r#"{"expose":["80"],"labels":{"roadstead.entry":"false"}}"#;
        assert_eq!(found(&[("web", not)], &Asked::default()), Err(vec!["EntryMissing"]));
        // Our own label is preferred to the seed's.
        let both = r#"{"expose":["80"],"labels":{"roadstead.entry":"true","dynia.entry":"false"}}"#;
        assert_eq!(found(&[("api", both), ("web", PLAIN)], &Asked::default()), Ok(("api".into(), 80)));
    }

    #[test]
    fn the_port_is_the_one_asked_for_then_the_labels_then_the_first_exposed() {
        for (service, expected) in [
            (r#"{"expose":["8080"],"labels":{"roadstead.port":"81","dynia.port":"82"}}"#, Ok(81)),
            (r#"{"expose":["8080"],"labels":{"dynia.port":"82"}}"#, Ok(82)),
            (r#"{"expose":["53/udp","9000-9002","8080"],"ports":[{"target":70}]}"#, Ok(9000)),
            (r#"{"ports":[{"target":53,"protocol":"udp"},{"target":70},{"target":71}]}"#, Ok(70)),
            (r#"{"expose":["53/udp"],"ports":[{"target":53,"protocol":"udp"}]}"#, Err(vec!["PortMissing"])),
            ("{}", Err(vec!["PortMissing"])),
            (r#"{"expose":["8080"],"labels":{"roadstead.port":"http"}}"#, Err(vec!["LabelInvalid"])),
            (r#"{"expose":["8080"],"labels":{"roadstead.port":"0"}}"#, Err(vec!["LabelInvalid"])),
        ] {
            let seen = found(&[("web", service)], &Asked::default());
            assert_eq!(seen.map(|(_, port)| port), expected, "{service}");
            let asked = Asked { service: None, port: Some(1234) };
            assert_eq!(found(&[("web", service)], &asked), Ok(("web".into(), 1234)), "{service}");
        }
    }

    #[test]
    fn labels_name_domain_and_health_or_are_refused_all_at_once() {
        let right = r#"{"expose":["80"],"labels":{"roadstead.domain":"a.example.com","roadstead.health":"/up"}}"#;
        let entry = find(&project(&[("web", right)]), &Asked::default()).unwrap();
        assert_eq!((entry.domain.unwrap().as_str(), entry.health_path.as_deref()), ("a.example.com", Some("/up")));
        let wrong = r#"{"labels":{"roadstead.domain":"*.example.com","roadstead.health":"up"}}"#;
        let refusals = find(&project(&[("web", wrong)]), &Asked::default()).unwrap_err();
        let reasons: Vec<_> = refusals.iter().map(Refusal::reason).collect();
        assert_eq!(reasons, ["PortMissing", "LabelInvalid", "LabelInvalid"]);
        assert!(refusals[1].to_string().starts_with("service `web`, key `labels.roadstead.domain`: the label is `*."));
    }
}
