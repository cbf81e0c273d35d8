//! What the storms stand on: servers that die and come back, groups of them, and what the zone's own server says.

use std::net::SocketAddr;

use axum::Router;
use roadstead::api::names::Fqdn;
use roadstead::dns::Kind;
use roadstead::dns::propagation::{self, Answer};
use serde_json::{Value, json};
use support::{OperatorOptions, condition, eventually};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::{DEADLINE, World};

pub const GROUP: &str = "roadstead.dev/v1alpha1/ServerGroup";
pub const NOBODY: &str = "no-healthy-servers";
/// One failure is enough to go, one success to come back.
pub const PROBE: &str = "probe: {scheme: http, path: /healthz, interval: 1s, timeout: 1s, fall: 1, rise: 1}";

/// A server on loopback that answers `/healthz`.
pub struct Origin {
    pub at: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut origin = Self { at: listener.local_addr().unwrap(), serving: None };
        origin.serve(listener);
        origin
    }

    fn serve(&mut self, listener: TcpListener) {
        let routes = Router::new().route("/healthz", axum::routing::get(|| async { "well" }));
        self.serving = Some(tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }));
    }

    /// Whoever connects is refused from now on.
    pub async fn die(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        // The listener is closed when the task has ended.
        assert!(serving.await.unwrap_err().is_cancelled());
    }

    pub async fn revive(&mut self) {
        let listener = TcpListener::bind(self.at).await.unwrap();
        self.serve(listener);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// The operator may probe loopback. Its identity to the lease is fixed, so that after a crash it leads again at once.
pub fn probing(mut options: OperatorOptions) -> OperatorOptions {
    options.arguments = ["--probe-allow-cidr", "127.0.0.0/8", "--identity", "storm"].map(str::to_owned).to_vec();
    options
}

pub fn members<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> String {
    let member = |origin: &Origin| json!({"address": origin.at.ip(), "port": origin.at.port()});
    format!("members: {}", Value::from(origins.into_iter().map(member).collect::<Vec<_>>()))
}

/// Applies the group `slug` with that slug.
pub async fn apply(world: &World, namespace: &str, slug: &str, spec: &str) {
    let yaml = format!(
        "apiVersion: roadstead.dev/v1alpha1\nkind: ServerGroup\nmetadata: {{name: {slug}, namespace: {namespace}}}\n\
         spec: {{zoneRef: {{name: example-com}}, slug: {slug}, {spec}}}"
    );
    world.cluster.apply(&yaml).await;
}

/// What this DNS server says of the slug, `None` if it does not answer; empty if there is no such list.
pub async fn told(server: SocketAddr, slug: &str) -> Option<String> {
    let name = Fqdn::parse(&format!("_wrap.{slug}.example.com")).unwrap();
    match propagation::ask(server, &name, Kind::Txt).await {
        Answer::Records(records) => Some(records.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")),
        Answer::Negative => Some(String::new()),
        Answer::Unreachable(_) => None,
    }
}

/// Waits until the zone's own server lists exactly this.
pub async fn lists(world: &World, slug: &str, expected: &str) {
    eventually(DEADLINE, &format!("{slug} to list `{expected}`"), async || {
        let said = told(world.sim.dns(), slug).await.ok_or("no answer")?;
        if said == expected { Ok(()) } else { Err(said) }
    })
    .await;
}

/// As a list names them.
pub fn sorted<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> String {
    let mut at: Vec<_> = origins.into_iter().map(|origin| origin.at).collect();
    at.sort();
    at.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What is published for the slug, as Cloudflare has it.
pub fn record(world: &World, slug: &str) -> String {
    let record = world.record(&format!("_wrap.{slug}.example.com"));
    record.map(|record| record.content.replace('"', "")).unwrap_or_default()
}

/// Waits until the group has the condition, or has it no more.
pub async fn holds(world: &World, namespace: &str, slug: &str, type_: &str, expected: bool) {
    eventually(DEADLINE, &format!("{slug} to have {type_}: {expected}"), async || {
        let group = world.cluster.get(GROUP, Some(namespace), slug).await.ok_or("no such group".to_owned())?;
        let found = condition(&group, type_).is_some_and(|condition| condition["status"] == "True");
        if found == expected { Ok(()) } else { Err(group.data["status"].to_string()) }
    })
    .await;
}

/// The servers in the group's status.
pub async fn statuses(world: &World, namespace: &str, slug: &str) -> Vec<Value> {
    let group = world.cluster.get(GROUP, Some(namespace), slug).await.unwrap();
    group.data["status"]["members"].as_array().cloned().unwrap_or_default()
}
