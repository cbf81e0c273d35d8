//! What a host says of an app, in one command.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::handed::{HAND, Handed};
use super::subnets::PROJECT;
use crate::host::bootstrap::TABLE;
use crate::host::compose::changes::HASH_LABEL;
use crate::host::compose::overlay::{APP, REVISION};
use crate::host::deploy::commands::Place;
use crate::host::deploy::seen::{Container, Health, Host, Network, State};
use crate::host::deploy::{Journal, Wanted};
use crate::host::ssh::{Command, Error, Session, quote};
use crate::host::table::{Route, Table};

/// What looking may take: Docker's client, which is run a dozen times.
const LIMIT: Duration = Duration::from_secs(60);
/// The most that the host may say, most of it the routing table.
const MOST: usize = 16 << 20;
const OBSERVE: &str = include_str!("observe.sh");
const SERVICE: &str = "com.docker.compose.service";
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// Everything that [`deploy::plan`](crate::host::deploy::plan::plan) asks of the host, seen now.
///
/// # Errors
/// If the host cannot be reached, Docker does not answer there, or what they say cannot be read: never a part of it.
pub async fn observe(
    session: &Session,
    place: &Place,
    wanted: Option<&Wanted>,
    journal: &Journal,
) -> Result<Host, Error> {
    let images: BTreeSet<&str> =
        journal.kept.iter().flat_map(|kept| &kept.images).map(String::as_str).filter(|id| !id.is_empty()).collect();
    let arguments = [&place.project, &place.app, &place.directory, &place.proxy].map(String::as_str);
    let arguments = arguments.into_iter().chain([TABLE]).chain(images);
    let arguments = arguments.map(quote).collect::<Vec<_>>().join(" ");
    let text = format!("sh -c {} sh {arguments}", quote(&format!("{HAND}{OBSERVE}")));
    let command = Command::new(text, LIMIT).stdout_cap(MOST).as_root();
    let output = session.exec(command).await?.checked(&format!("looking at {}", place.project))?;
    let names = wanted.iter().flat_map(|wanted| wanted.domains.keys()).chain(&journal.names).collect();
    read(&Handed::read(&output.stdout)?, place, &names)
}

/// A container, as the script says it.
#[derive(Deserialize)]
struct Inspected {
    id: String,
    image: String,
    labels: Option<BTreeMap<String, String>>,
    state: Reached,
    restarts: u32,
}

/// Its state, as Docker says it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reached {
    #[serde(rename = "Status")]
    name: String,
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    health: Option<Checked>,
}

/// What its health check says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    status: String,
}

/// A network, as the script says it.
#[derive(Deserialize)]
struct Known {
    id: String,
    name: String,
    labels: Option<BTreeMap<String, String>>,
}

/// How Caddy's container is attached to a network.
#[derive(Deserialize)]
struct Attached {
    #[serde(default, rename = "NetworkID")]
    network: String,
}

fn read(said: &Handed, place: &Place, names: &BTreeSet<&String>) -> Result<Host, Error> {
    let containers = said.json::<Inspected>("containers")?.into_iter().map(container).collect();
    let proxy: Vec<BTreeMap<String, Attached>> = said.json("proxy")?;
    let network = |known: Known| {
        let label = |key| known.labels.as_ref().and_then(|labels| labels.get(key));
        let ours = label(PROJECT) == Some(&place.project) || label(APP) == Some(&place.app);
        // A network that was made anew under the name of one that Caddy is on is another.
        let on = |attached: &Attached| attached.network.is_empty() || attached.network == known.id;
        let proxied = proxy.iter().any(|networks| networks.get(&known.name).is_some_and(on));
        (known.name, Network { ours, proxied })
    };
    let networks = said.json::<Known>("networks")?.into_iter().map(network).collect();
    let used: BTreeSet<&str> = said.lines("used").collect();
    let images = said.lines("images").map(|id| (id.to_owned(), used.contains(id))).collect();
    let routes = said.get("table").map(|table| routes(table, names)).unwrap_or_default();
    let is = |name| said.get(name).is_some();
    Ok(Host { containers, networks, routes, images, directory: is("directory"), full: is("full") })
}

fn container(inspected: Inspected) -> Container {
    let mut labels = inspected.labels.unwrap_or_default();
    Container {
        service: labels.remove(SERVICE).unwrap_or_default(),
        app: labels.remove(APP),
        revision: labels.remove(REVISION),
        one_off: labels.get(ONE_OFF).is_some_and(|one_off| one_off.eq_ignore_ascii_case("true")),
        hash: labels.remove(HASH_LABEL),
        state: match inspected.state.name.as_str() {
            "created" => State::Created,
            "running" | "paused" => State::Running,
            "restarting" => State::Restarting,
            _ => State::Exited,
        },
        health: match inspected.state.health.as_ref().map(|health| health.status.as_str()) {
            Some("starting") => Some(Health::Starting),
            Some("healthy") => Some(Health::Healthy),
            Some("unhealthy") => Some(Health::Unhealthy),
            _ => None,
        },
        id: inspected.id,
        image: inspected.image,
        exit_code: inspected.state.exit_code,
        oom_killed: inspected.state.oom_killed,
        restarts: inspected.restarts,
    }
}

/// What the table says of these names. One that cannot be read says nothing: it is written anew.
fn routes(table: &str, names: &BTreeSet<&String>) -> BTreeMap<String, Route> {
    let Ok(table) = Table::parse(table.as_bytes()) else { return BTreeMap::new() };
    let route = |name: &String| Some((name.clone(), table.lookup(name)?.clone()));
    names.iter().filter_map(|name| route(name)).collect()
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
