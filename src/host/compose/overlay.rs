//! The file that is merged over the user's: images, variables, the network that Caddy reaches the entry by, labels, log
//! rotation. The user's own file is never changed, and what it says otherwise is left to it.
//!
//! Only the entry service bears the revision, in its label and its alias: any difference makes Compose create a
//! container anew, and a database is not to be stopped because the app has a new version.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use ipnet::Ipv4Net;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::mounts::{Files, Leads};
use super::project::{Project, Service};
use super::refusal::{Place, Refusal};
use super::variables;

/// What the names of upstreams begin with, and nothing of a user's may.
pub const RESERVED: &str = "rs--";
/// The label with the app.
pub const APP: &str = "roadstead.app";
/// The label with the revision, on the entry service.
pub const REVISION: &str = "roadstead.revision";
/// The label with the hash of a service's configuration, wherever the revision's files lie.
pub const CONFIG: &str = super::changes::HASH_LABEL;
/// The label with the hash of the app's files that a service mounts, on services beside the entry: Compose's own hash
/// knows the path of a mounted file and not what is in it.
pub const FILES: &str = "roadstead.files";

/// The network by which Caddy reaches the entry service. It is made before the app, because Caddy is on it too, and
/// what Caddy is on Compose could not remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingress {
    /// A network of this name for this app alone, which only the entry service joins; [`create`] makes it.
    App(String),
    /// The network `edge`, which every service of every app joins and finds the others by their bare names.
    Edge,
}

impl Ingress {
    /// The network's name at Docker.
    #[must_use]
    pub fn network(&self) -> &str {
        match self {
            Self::App(name) => name,
            Self::Edge => "edge",
        }
    }
}

/// What is put over a user's file.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The user's file in canonical form.
    pub project: &'a Project,
    /// The entry service.
    pub entry: &'a str,
    /// The mark of the app.
    pub app: &'a str,
    /// The revision's name.
    pub revision: &'a str,
    /// `images[]`: service and image.
    pub images: &'a [(String, String)],
    /// The names of the variables each service gets; their values are in the file of [`variables`].
    pub variables: BTreeMap<String, BTreeSet<String>>,
    /// The network by which Caddy reaches the entry.
    pub ingress: Ingress,
    /// The subnets of the networks that Compose makes, by key, as [`super::subnets`] assigns them.
    pub subnets: BTreeMap<String, Ipv4Net>,
    /// The app's files.
    pub files: &'a Files,
    /// The hash of each of the app's files, by path.
    pub file_hashes: BTreeMap<String, String>,
}

/// The file that is merged over the user's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overlay {
    services: BTreeMap<String, Over>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: BTreeMap<String, OverNetwork>,
}

/// What is put over a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Over {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Literal>,
    /// Names without a value: Compose takes it from the file of variables, also where the user's file has another.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, Option<Literal>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: BTreeMap<String, Option<Aliases>>,
    labels: BTreeMap<&'static str, Literal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logging: Option<OverLogging>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Aliases {
    aliases: Vec<Literal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OverLogging {
    driver: &'static str,
    options: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct OverNetwork {
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Literal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipam: Option<OverIpam>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OverIpam {
    config: Vec<OverSubnet>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OverSubnet {
    subnet: String,
}

/// A text in which Compose expands nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Literal(String);

impl Serialize for Literal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.replace('$', "$$"))
    }
}

impl Overlay {
    /// Puts on each service the hash of its configuration, as [`super::changes`] compares it. The hashes are of the file
    /// without them.
    pub fn label(&mut self, hashes: &BTreeMap<String, String>) {
        for (service, hash) in hashes {
            if let Some(over) = self.services.get_mut(service) {
                over.labels.insert(CONFIG, Literal(hash.clone()));
            }
        }
    }

    /// The file: JSON, which is YAML too, so that no text of a user's can be read as anything else.
    ///
    /// # Errors
    /// None that can happen: every key is a string.
    pub fn to_file(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// The name of a revision's upstream: no other app and no other revision has it. At most 63 characters for a revision
/// of up to 48.
#[must_use]
pub fn alias(app: &str, revision: &str) -> String {
    format!("{}-{revision}", network(app))
}

/// The name of an app's own network: no other app has it.
#[must_use]
pub fn network(app: &str) -> String {
    format!("{RESERVED}{}", HEXLOWER.encode(&Sha256::digest(app.as_bytes())[..5]))
}

/// The arguments of `docker` that make an app's own network. It is internal: it leads to Caddy and nowhere else, so it
/// gives an app no way out that its file denies it.
#[must_use]
pub fn create(network: &str, subnet: Ipv4Net, app: &str) -> Vec<String> {
    let words = ["network", "create", "--driver", "bridge", "--internal", "--subnet"];
    let label = format!("{APP}={app}");
    words.into_iter().map(String::from).chain([subnet.to_string(), "--label".into(), label, network.into()]).collect()
}

/// What is put over a user's file.
///
/// # Errors
/// The images and variables for services that the file does not have, and names that no variable can have.
pub fn overlay(request: &Request<'_>) -> Result<Overlay, Vec<Refusal>> {
    let refusals = refusals(request);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let project = request.project;
    let ingress = ingress_key(project, request.ingress.network());
    let services = project.services.iter();
    let services: BTreeMap<_, _> =
        services.map(|(name, service)| (name.clone(), over(request, name, service, &ingress))).collect();
    let mut networks: BTreeMap<String, OverNetwork> = BTreeMap::new();
    for (key, subnet) in &request.subnets {
        let ipam = OverIpam { config: vec![OverSubnet { subnet: subnet.to_string() }] };
        networks.insert(key.clone(), OverNetwork { ipam: Some(ipam), ..OverNetwork::default() });
    }
    let name = Some(Literal(request.ingress.network().to_owned()));
    networks.insert(ingress, OverNetwork { external: Some(true), name, ipam: None });
    Ok(Overlay { services, networks })
}

fn over(request: &Request<'_>, name: &str, service: &Service, ingress: &str) -> Over {
    let is_entry = name == request.entry;
    let image = request.images.iter().rev().find(|(of, _)| of == name).map(|(_, image)| Literal(image.clone()));
    let variables = request.variables.get(name).into_iter().flatten();
    let mut labels = BTreeMap::from([(APP, Literal(request.app.to_owned()))]);
    if is_entry {
        labels.insert(REVISION, Literal(request.revision.to_owned()));
    } else if let Some(hash) = files_hash(request, service) {
        labels.insert(FILES, Literal(hash));
    }
    let joins = service.network_mode.is_none() && (is_entry || request.ingress == Ingress::Edge);
    let mut networks = BTreeMap::new();
    if joins {
        // A service that names a network is no more on `default` by itself.
        networks.extend(service.networks.keys().map(|key| (key.clone(), None)));
        let alias = is_entry.then(|| Aliases { aliases: vec![Literal(alias(request.app, request.revision))] });
        networks.insert(ingress.to_owned(), alias);
    }
    // An entry that a reboot of its host would end is no server. Of others it cannot be told: some are jobs.
    let restart = (is_entry && service.restart.is_none() && !service.deploy.restarts).then_some("unless-stopped");
    Over {
        image,
        environment: variables.map(|variable| (variable.clone(), None)).collect(),
        networks,
        labels,
        logging: rotation(service),
        restart,
    }
}

/// Logs that end on a full disk are rotated, unless the file says how.
fn rotation(service: &Service) -> Option<OverLogging> {
    const DRIVER: &str = "json-file";
    let bounded = service.logging.as_ref().is_some_and(|logging| {
        logging.driver.as_deref().is_some_and(|driver| driver != DRIVER) || logging.options.contains_key("max-size")
    });
    let options = [("max-size", "10m"), ("max-file", "3")].into_iter();
    let theirs = service.logging.as_ref().map(|logging| &logging.options);
    let options = options.filter(|(key, _)| theirs.is_none_or(|theirs| !theirs.contains_key(*key)));
    (!bounded).then(|| OverLogging { driver: DRIVER, options: options.collect() })
}

/// The hash of the app's files that a service mounts, by itself or as configs and secrets; `None` if it mounts none.
fn files_hash(request: &Request<'_>, service: &Service) -> Option<String> {
    let project = request.project;
    let binds = service.volumes.iter().filter(|mount| mount.kind == "bind").map(|mount| mount.source.as_str());
    let configs = service.configs.iter().filter_map(|used| project.configs.get(&used.source)?.file.as_deref());
    let secrets = service.secrets.iter().filter_map(|used| project.secrets.get(&used.source)?.file.as_deref());
    let mut files = BTreeSet::new();
    for path in binds.chain(configs).chain(secrets) {
        if let Leads::Files(paths) = request.files.lead(path) {
            files.extend(paths);
        }
    }
    let mut hash = Sha256::new();
    for file in &files {
        for part in [file.as_str(), request.file_hashes.get(file).map_or("", String::as_str)] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    (!files.is_empty()).then(|| HEXLOWER.encode(&hash.finalize()[..8]))
}

/// The key of the ingress network: the user's own if the file has that network too, for a container can join a network
/// only once; else one the file has not.
fn ingress_key(project: &Project, network: &str) -> String {
    let theirs = project.networks.iter().find(|(_, theirs)| theirs.external && theirs.name == network);
    if let Some((key, _)) = theirs {
        return key.clone();
    }
    let mut key = "roadstead".to_owned();
    while project.networks.contains_key(&key) {
        key.push('_');
    }
    key
}

fn refusals(request: &Request<'_>) -> Vec<Refusal> {
    let project = request.project;
    let unknown = |key: String, name: &str| {
        let known = project.services.contains_key(name);
        let place = Place::at(key);
        (!known).then(|| Refusal::UnknownService { place, name: name.to_owned(), services: project.names() })
    };
    let images = request.images.iter().enumerate();
    let images = images.filter_map(|(index, (name, _))| unknown(format!("spec.images[{index}].service"), name));
    let services = request.variables.keys().filter_map(|name| unknown("spec.env".into(), name));
    let variables = request.variables.values().flatten().collect::<BTreeSet<_>>().into_iter().filter_map(|name| {
        let right = variables::objection(name)?;
        Some(Refusal::BadVariable { place: Place::at("spec.env"), name: name.clone(), right })
    });
    images.chain(services).chain(variables).collect()
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
