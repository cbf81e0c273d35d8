//! A revision's files on a host, and what Compose makes of them there.
//!
//! Three commands for a revision that is new to the host: its files and what Compose says of the user's; the overlay and
//! the hashes of what comes of both; the overlay with the hashes in its labels. One for a revision that is there. Its
//! directory comes whole, by a rename, and its overlay last, by another: where that is, nothing is written again, so that
//! neither a new version of this program nor a changed Secret changes what a revision is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use ipnet::Ipv4Net;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Spec;
use super::handed::{HAND, Handed};
use super::subnets::{self, Assigned};
use crate::host::compose::mounts::Files;
use crate::host::compose::overlay::{self, CONFIG, Ingress, Overlay, Request};
use crate::host::compose::project::Unreadable;
use crate::host::compose::refuse::{self, Rules};
use crate::host::compose::strategy::{self, Strategy};
use crate::host::compose::{Entry, Project, Refusal, changes, complaint, refusal, variables};
use crate::host::deploy::Wanted;
use crate::host::deploy::commands::Place;
use crate::host::ssh::{self, Command, Session, Upload, quote};

/// What each of the commands may take: Compose's client, and an upload.
const LIMIT: Duration = Duration::from_secs(120);
/// The most that the host may say: a canonical form with the values of all variables.
const MOST: usize = 16 << 20;
const PLACE: &str = include_str!("place.sh");
const OVERLAY: &str = include_str!("overlay.sh");

/// A revision on a host whose file was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What is wanted there, but for its domains, which are the caller's to say.
    pub wanted: Wanted,
    /// What the user's file says of the entry.
    pub entry: Entry,
    /// How it is replaced, and why so.
    pub strategy: Strategy,
    /// Variables that the file asks for and nobody gives: Compose takes them for empty.
    pub empty_variables: BTreeSet<String>,
    /// The image of each service, as it will run.
    pub images: BTreeMap<String, String>,
}

/// Why a revision was not prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPrepared {
    /// Its file may not run.
    #[error("{}", refusal::message(.0))]
    Refused(Vec<Refusal>),
    /// The host was not reached, or something failed there.
    #[error(transparent)]
    Ssh(#[from] ssh::Error),
    /// The host has no room for it. It says what to do.
    #[error("{0}")]
    Full(String),
}

impl From<Refusal> for NotPrepared {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}

/// Puts a revision on the host, has Compose read it, and judges it. Nothing runs yet. May be repeated, also at the same
/// revision: what is whole stays.
///
/// # Errors
/// Why it is not prepared: what is wrong with the file, with the host, or with the way there.
pub async fn prepare(session: &Session, place: &Place, spec: &Spec, pool: Ipv4Net) -> Result<Prepared, NotPrepared> {
    let directory = place.revision(&spec.revision);
    let files = place.files(&spec.revision);
    let theirs = place.compose_of(&spec.revision, &[], &files, &["compose.yaml"]);
    let said = run(session, PLACE, place, spec, &theirs, bundle(spec)?).await?;
    let said_of = |said: &Handed| said.get("complaint").unwrap_or_default().to_owned();
    let Some(config) = said.get("config") else {
        return Err(complaint::refusal(&said_of(&said), &directory).into());
    };
    let judged = judge(spec, &files, config).map_err(NotPrepared::Refused)?;
    let project = &judged.project;
    let ingress = ingress(place, spec);
    let before = said.get("overlay").map(parse_overlay).transpose()?;
    let had = before.as_ref().map(subnets_of).unwrap_or_default();
    let networks: Vec<subnets::Network> = said.json("networks")?;
    let routes = subnets::routes(said.get("routes").unwrap_or_default());
    let Some(assigned) = subnets::assign(place, project, ingress.network(), (&networks, &routes), &had, pool) else {
        return Err(NotPrepared::Full(full(pool)));
    };
    let hashes = if let Some(mut overlay) = before {
        let hashes = hashes_of(&overlay);
        if move_networks(&mut overlay, &assigned.compose) {
            write(session, &directory, overlay.to_string()).await?;
        }
        hashes
    } else {
        let mut overlay = put_over(place, spec, &judged, &ingress, &assigned, &files)?;
        let neutral = place.compose_of(&spec.revision, &[], &place.neutral(), &["compose.yaml", "overlay.new"]);
        let merged = run(session, OVERLAY, place, spec, &neutral, text(&overlay)?).await?;
        let Some(hashes) = merged.get("hashes").map(changes::hashes) else {
            return Err(complaint::refusal(&said_of(&merged), &directory).into());
        };
        overlay.label(&hashes);
        write(session, &directory, text(&overlay)?).await?;
        hashes
    };
    Ok(Prepared {
        empty_variables: complaint::empty_variables(&said_of(&said)),
        images: images(project, spec),
        wanted: wanted(spec, &judged, hashes, ingress, assigned.ingress),
        entry: judged.entry,
        strategy: judged.strategy,
    })
}

/// A user's file, read and judged.
struct Judged {
    project: Project,
    entry: Entry,
    strategy: Strategy,
}

fn judge(spec: &Spec, files: &str, config: &str) -> Result<Judged, Vec<Refusal>> {
    let project = Project::read(config).map_err(|unreadable| vec![unreadable_file(&unreadable)])?;
    let rules = Rules {
        entry: spec.entry.clone(),
        files: Files { directory: files.to_owned(), paths: spec.files.keys().cloned().collect() },
        host_access: spec.host_access,
    };
    let entry = refuse::check(&project, &rules)?;
    let strategy = strategy::choose(&project, &entry.service, spec.strategy);
    Ok(Judged { project, entry, strategy })
}

fn unreadable_file(unreadable: &Unreadable) -> Refusal {
    Refusal::Unparsable { place: refusal::Place::at(unreadable.place.as_str()), said: unreadable.to_string() }
}

fn ingress(place: &Place, spec: &Spec) -> Ingress {
    if spec.edge { Ingress::Edge } else { Ingress::App(overlay::network(&place.app)) }
}

fn full(pool: Ipv4Net) -> String {
    format!(
        "the pool {pool} of subnets for apps is used up on this host by its networks and routes: set a larger one \
         (`--app-subnets`), or remove networks that nobody uses"
    )
}

/// The files of a revision, as [`PLACE`] reads them. The directory is root's alone; what a container mounts is readable
/// there by whoever the container runs as.
fn bundle(spec: &Spec) -> Result<Vec<u8>, ssh::Error> {
    let own = |name: &str, text: &str| (0o600, name.to_owned(), Bytes::copy_from_slice(text.as_bytes()));
    let mut files = vec![own("compose.yaml", &spec.compose), own("variables.env", &variables::file(&spec.values))];
    for (path, bytes) in &spec.files {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        let step = |step: &str| !step.is_empty() && step != "." && step != "..";
        if !path.bytes().all(plain) || !path.split('/').all(step) {
            return Err(ssh::Error::Invalid(format!("`{}` is no path of an app's file", path.escape_debug())));
        }
        let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        files.push((mode, format!("files/{path}"), bytes.clone()));
    }
    let mut bundle = Vec::new();
    for (mode, path, bytes) in files {
        bundle.extend_from_slice(format!("{mode:o} {} {path}\n", bytes.len()).as_bytes());
        bundle.extend_from_slice(&bytes);
    }
    Ok(bundle)
}

/// Runs one of the scripts.
async fn run(
    session: &Session,
    script: &str,
    place: &Place,
    spec: &Spec,
    compose: &[String],
    stdin: impl Into<Bytes>,
) -> Result<Handed, NotPrepared> {
    let compose = compose.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
    let arguments = [place.directory.as_str(), &spec.revision, &compose].map(quote).join(" ");
    let text = format!("sh -c {} sh {arguments}", quote(&format!("{HAND}{script}")));
    let command = Command::new(text, LIMIT).stdin(stdin).stdout_cap(MOST).as_root();
    let what = format!("preparing the revision {} of {}", spec.revision, place.project);
    let output = session.exec(command).await?.checked(&what)?;
    Ok(Handed::read(&output.stdout)?)
}

async fn write(session: &Session, directory: &str, overlay: String) -> Result<(), ssh::Error> {
    session.upload(Upload::new(format!("{directory}/overlay.yaml"), overlay, 0o600, LIMIT).as_root()).await
}

fn text(overlay: &Overlay) -> Result<String, ssh::Error> {
    overlay.to_file().map_err(|error| ssh::Error::Invalid(error.to_string()))
}

fn put_over(
    place: &Place,
    spec: &Spec,
    judged: &Judged,
    ingress: &Ingress,
    assigned: &Assigned,
    files: &str,
) -> Result<Overlay, NotPrepared> {
    let files = Files { directory: files.to_owned(), paths: spec.files.keys().cloned().collect() };
    let hash = |bytes: &Bytes| HEXLOWER.encode(&Sha256::digest(bytes));
    let request = Request {
        project: &judged.project,
        entry: &judged.entry.service,
        app: &place.app,
        revision: &spec.revision,
        images: &spec.images,
        variables: variables_of(spec, &judged.entry.service),
        ingress: ingress.clone(),
        subnets: assigned.compose.clone(),
        files: &files,
        file_hashes: spec.files.iter().map(|(path, bytes)| (path.clone(), hash(bytes))).collect(),
    };
    overlay::overlay(&request).map_err(NotPrepared::Refused)
}

/// The names of the variables of each service.
fn variables_of(spec: &Spec, entry: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in spec.values.keys() {
        let of_entry = BTreeSet::from([entry.to_owned()]);
        for service in spec.only.get(name).unwrap_or(&of_entry) {
            all.entry(service.clone()).or_default().insert(name.clone());
        }
    }
    all
}

/// The image of each service: that of the object, else that of the file.
fn images(project: &Project, spec: &Spec) -> BTreeMap<String, String> {
    let theirs = project.services.iter().filter_map(|(name, service)| Some((name.clone(), service.image.clone()?)));
    let mut images: BTreeMap<String, String> = theirs.collect();
    images.extend(spec.images.iter().cloned());
    images
}

fn wanted(spec: &Spec, judged: &Judged, hashes: BTreeMap<String, String>, ingress: Ingress, subnet: Ipv4Net) -> Wanted {
    let health_path = spec.health_path.clone().or_else(|| judged.entry.health_path.clone());
    Wanted {
        revision: spec.revision.clone(),
        cause: spec.cause.clone(),
        project: judged.project.clone(),
        service: judged.entry.service.clone(),
        port: judged.entry.port,
        kind: judged.strategy.kind,
        hashes,
        updates: spec.updates.clone(),
        ingress,
        subnet,
        domains: BTreeMap::new(),
        health_path: health_path.unwrap_or_else(|| spec.default_health_path.clone()),
        start_period: spec.start_period,
        health_timeout: spec.health_timeout,
        external_timeout: spec.external_timeout,
        drain: spec.drain,
        pre_deploy: spec.pre_deploy.clone().map(|pre_deploy| {
            let of_entry = pre_deploy.service.is_empty();
            let service = if of_entry { judged.entry.service.clone() } else { pre_deploy.service.clone() };
            crate::host::deploy::app::PreDeploy { service, ..pre_deploy }
        }),
        history: spec.history,
        suspend: spec.suspend,
        maintenance: spec.maintenance,
    }
}

/// The overlay of a revision that is there.
fn parse_overlay(text: &str) -> Result<Value, ssh::Error> {
    let of = |error| ssh::Error::Invalid(format!("the overlay that is on the host cannot be read: {error}"));
    serde_json::from_str(text).map_err(of)
}

/// The hashes in its labels.
fn hashes_of(overlay: &Value) -> BTreeMap<String, String> {
    let services = overlay["services"].as_object().into_iter().flatten();
    services.filter_map(|(name, service)| Some((name.clone(), service["labels"][CONFIG].as_str()?.into()))).collect()
}

/// The subnets that it gives.
fn subnets_of(overlay: &Value) -> BTreeMap<String, Ipv4Net> {
    let networks = overlay["networks"].as_object().into_iter().flatten();
    let subnet = |network: &Value| network["ipam"]["config"][0]["subnet"].as_str()?.parse().ok();
    networks.filter_map(|(key, network)| Some((key.clone(), subnet(network)?))).collect()
}

/// Gives its networks these subnets; whether they had others. Compose would make a network anew that has another than its
/// file says, and cut off its containers; and one that somebody else has by now it cannot make.
fn move_networks(overlay: &mut Value, subnets: &BTreeMap<String, Ipv4Net>) -> bool {
    let had = subnets_of(overlay);
    let mut moved = false;
    for (key, subnet) in subnets.iter().filter(|(key, subnet)| had.get(*key).is_some_and(|had| had != *subnet)) {
        overlay["networks"][key]["ipam"]["config"][0]["subnet"] = subnet.to_string().into();
        moved = true;
    }
    moved
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
