//! The Worker of a group: what must hold of it whenever the group is as it should be, and when it is gone.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::world::{ACCOUNT, DOMAIN, World};

/// What the names of groups with a Worker begin with.
pub const PREFIX: &str = "w";

/// Whether the group of this name has a Worker.
pub fn has_one(group: &str) -> bool {
    group.starts_with(PREFIX)
}

fn script(group: &str) -> String {
    format!("lb-{group}")
}

fn route(group: &str) -> String {
    format!("{}.{DOMAIN}/*", script(group))
}

/// `spec.slb`.
pub fn wanted(group: &str) -> Value {
    json!({"workerName": script(group), "route": route(group)})
}

/// The name that a server's address has under the group's slug, which is its name.
fn host(group: &str, server: SocketAddr) -> String {
    format!("{}.{group}.{DOMAIN}", server.ip().to_string().replace('.', "-"))
}

fn origins(group: &str, servers: &[SocketAddr]) -> Vec<String> {
    let url = |server: &SocketAddr| format!("https://{}:{}", host(group, *server), server.port());
    let mut origins: Vec<_> = servers.iter().map(url).collect();
    origins.sort();
    origins
}

/// The claims of a group's Worker with these servers.
pub fn claims(world: &World, group: &str, servers: &[SocketAddr]) -> Vec<String> {
    if !has_one(group) {
        return Vec::new();
    }
    let worker = format!("rs--worker.{}.{}", world.sim.cloudflare.add_account(ACCOUNT), script(group));
    servers.iter().map(|server| host(group, *server)).chain([worker]).collect()
}

/// The status must name the Worker and its origins.
pub fn told(group: &str, status: &Value, servers: &[SocketAddr]) -> Option<String> {
    let (slb, origins) = (&status["slb"], origins(group, servers));
    let right = !has_one(group) || slb["workerName"] == script(group) && slb["origins"] == json!(origins);
    (!right).then(|| format!("the status says {slb} instead of {origins:?}"))
}

/// What is not as it should be at Cloudflare of the Worker of a group with these servers; of one that is gone nothing may
/// be left.
pub fn complaints(world: &World, group: &str, servers: Option<&Vec<SocketAddr>>) -> Vec<String> {
    let servers = servers.filter(|_| has_one(group));
    let cloudflare = &world.sim.cloudflare;
    let mut complaints = Vec::new();
    let of_group = |name: &String| name.ends_with(&script(group));
    let scripts: Vec<_> = cloudflare.scripts(ACCOUNT).into_iter().filter(of_group).collect();
    let expected: Vec<_> = servers.iter().map(|_| script(group)).collect();
    if scripts != expected {
        complaints.push(format!("Workers {scripts:?} instead of {expected:?}"));
    }
    if let (Some(servers), Some(script)) = (servers, cloudflare.script(ACCOUNT, &script(group))) {
        let origins = origins(group, servers).join(",");
        let ours = script.text_of("ROADSTEAD_OWNER").is_some_and(|owner| owner.starts_with("roadstead/1 c=test1 "));
        if !ours || script.text_of("ORIGINS") != Some(&origins) {
            complaints.push(format!("the Worker's bindings are {:?} instead of {origins}", script.bindings));
        }
    }
    let at = |(pattern, script): &(String, Option<String>)| {
        *pattern == route(group) || script.as_ref().is_some_and(of_group)
    };
    let routes: Vec<_> = cloudflare.worker_routes(DOMAIN).into_iter().filter(at).collect();
    let expected: Vec<_> = servers.iter().map(|_| (route(group), Some(script(group)))).collect();
    if routes != expected {
        complaints.push(format!("routes {routes:?} instead of {expected:?}"));
    }
    let names = servers.into_iter().flatten().map(|server| (host(group, *server), server.ip().to_string()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    let records = cloudflare.records(DOMAIN).into_iter().filter(|record| is_of_origin(&record.name, group));
    let mut found: Vec<_> = records.map(|record| (record.name, record.content)).collect();
    found.sort();
    if found != names {
        complaints.push(format!("records {found:?} of origins instead of {names:?}"));
    }
    complaints
}

/// Whether a name is that of a server of the group, not the list's.
fn is_of_origin(name: &str, group: &str) -> bool {
    name.strip_suffix(&format!(".{group}.{DOMAIN}")).is_some_and(|label| label.starts_with("127-"))
}
