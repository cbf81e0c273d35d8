//! `ServerGroup`: the servers of one service, their health, and where the healthy ones are published.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::app_deployment::LocalRef;
use super::probe::{Probe, Scheme};
use super::refs::{ClusterRef, DURATION};
use super::slb::{Slb, SlbStatus};
use super::status::Journal;

/// The rule for a server's address. No IP address that a single server cannot have; the last label of a name starts with a
/// letter, so that a broken IP address is none.
const ADDRESS: (&str, &str) = (
    "self != 'no-healthy-servers' && (isIP(self) ? (ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isLinkLocalUnicast()) : self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$'))",
    "write an IP address, e.g. `203.0.113.7`, or a hostname in lower case, e.g. `origin-7.example.net`, without a port: \
     that is the field `port`",
);

/// What is no duration is refused where it stands.
const HEARD_BEFORE_FORGOTTEN: (&str, &str) = (
    "[self.heartbeatTTL, self.forgetAfter].exists(d, !d.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,8}s)?$')) || \
     duration(self.heartbeatTTL) <= duration(self.forgetAfter)",
    "forgetAfter may not be shorter than heartbeatTTL: a server is called unhealthy before it is forgotten",
);

/// What the group should be.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "ServerGroup",
    plural = "servergroups",
    shortname = "rgroup",
    category = "roadstead",
    namespaced,
    status = "ServerGroupStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Servers of one service: listed, selected by label, or reporting themselves. Those that are healthy are published as the TXT record `_wrap.<slug>.<domain>`, and on request as addresses of a name and as origins of a Cloudflare Worker.",
    validation = ("self.metadata.name.size() <= 48", "metadata.name may have at most 48 characters, because the slug is made of it"),
    validation = ("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')", "metadata.name must be a DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"),
    validation = ("!self.metadata.name.startsWith('rs--')", "names starting with `rs--` are reserved: choose another"),
    printcolumn(name = "Slug", type_ = "string", json_path = ".status.slug"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.strategy"),
    printcolumn(name = "Healthy", type_ = "string", json_path = ".status.healthy"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "TXT", type_ = "string", priority = 1, json_path = ".status.txt.content"),
    printcolumn(name = "Worker", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"WorkerReady\")].reason"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = ("!has(self.nodeSelector) || !has(self.appRef)",
        "set nodeSelector or appRef, not both: each says which Nodes belong to the group, and how they are probed"),
    validation = ("has(self.slug) == has(oldSelf.slug) && (!has(self.slug) || self.slug == oldSelf.slug)",
        "a ServerGroup's slug cannot be added, changed or removed: create another ServerGroup")
)]
#[serde(rename_all = "camelCase")]
pub struct ServerGroupSpec {
    /// The Zone the group is published in. It cannot be changed.
    #[x_kube(validation = ("self == oldSelf", "a ServerGroup's zoneRef cannot change: create another ServerGroup"))]
    pub zone_ref: ClusterRef,
    /// What people call the group; free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub display_name: Option<String>,
    /// By what name clients find the group: one DNS label, unique in the cluster. Without it `<name>-<six characters>`,
    /// derived from namespace, name and zone, so that a rebuilt cluster gives the same one. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = ("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
            "a slug is one DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"),
        validation = ("!self.startsWith('rs--')", "slugs starting with `rs--` are reserved: choose another")
    )]
    pub slug: Option<String>,
    /// How clients should choose among the healthy servers. `RoundRobin` and `Random` are carried out by the clients;
    /// with `Failover` the servers are published in the order of their priority, and the first one is to be used.
    #[serde(default)]
    pub strategy: Strategy,
    /// Servers listed one by one. One that is listed twice counts once, as first written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub members: Vec<Member>,
    /// Labels of the Nodes (`rnode`) of this namespace that belong to the group, under their full names. An empty
    /// selector picks every Node of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// An AppDeployment (`rapp`) of this namespace: the Nodes it serves on belong to the group, in place of
    /// `nodeSelector`. Each is probed at its address for the app's name, over HTTPS with a certificate of that name, at the
    /// app's health path. The name is the first domain with `publish: Group`, else the first domain, else the Node's own.
    /// Let `dns.a` be the domain with `publish: Group`, and the group publishes it; a Worker reaches the app by the
    /// Nodes' own names alone. While a new revision rolls from Node to Node, those that still serve the one before stay.
    /// While there is no such app, the servers it had stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_ref: Option<LocalRef>,
    /// Whether servers report their own health.
    #[serde(default)]
    pub reporting: Reporting,
    /// How servers are probed. Servers that do nothing but report are not probed: list them for that.
    #[serde(default)]
    pub probe: Probe,
    /// What is published.
    #[serde(default)]
    pub dns: Publication,
    /// A Cloudflare Worker that spreads requests over the healthy servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slb: Option<Slb>,
}

/// How clients choose among the healthy servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By chance.
    Random,
    /// The first by priority that is healthy.
    Failover,
}

/// A listed server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Member {
    /// IP address or hostname, without a port.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ADDRESS)]
    pub address: String,
    /// The server's port. It is published with the address where it is given; without it, that of the scheme is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// What the server speaks: `https` or `http`.
    #[serde(default)]
    pub scheme: Scheme,
    /// With `Failover`, which servers come first: the lowest number. Servers that are not listed have 100.
    #[serde(default = "default_priority")]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: i32,
    /// How much of the traffic the server should get, compared with the others, where that can be chosen.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: i32,
    /// Takes the server out: it is neither probed nor published, nor counted.
    #[serde(default)]
    pub disabled: bool,
}

/// The priority of a server that names none.
#[must_use]
pub fn default_priority() -> i32 {
    100
}

/// The weight of a server that names none.
#[must_use]
pub fn default_weight() -> i32 {
    1
}

/// Whether servers report their own health, and what silence means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = HEARD_BEFORE_FORGOTTEN)]
#[serde(rename_all = "camelCase")]
pub struct Reporting {
    /// Whether reports are taken. A report is about every server with its address; for an address that is neither listed
    /// nor selected it adds one.
    #[serde(default)]
    pub enabled: bool,
    /// How long a report counts, e.g. `90s`: a server that is silent for longer is unhealthy (`HeartbeatExpired`).
    #[serde(default = "heartbeat_ttl", rename = "heartbeatTTL")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub heartbeat_ttl: String,
    /// How long a server that only reports is remembered after its last report, e.g. `24h`.
    #[serde(default = "forget_after")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub forget_after: String,
    /// Ids of API users who may report, beside the one who made the group through the API. A ServiceAccount is not
    /// named here: it needs the verb `report` on this ServerGroup, by a Role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub users: Vec<String>,
}

impl Default for Reporting {
    fn default() -> Self {
        Self { enabled: false, heartbeat_ttl: heartbeat_ttl(), forget_after: forget_after(), users: Vec::new() }
    }
}

fn heartbeat_ttl() -> String {
    "90s".to_owned()
}

fn forget_after() -> String {
    "24h".to_owned()
}

/// What is published of the healthy servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Publication {
    /// Publishes `_wrap.<slug>.<domain>`: a comma list of the healthy servers, or `no-healthy-servers`.
    #[serde(default = "yes")]
    pub txt: bool,
    /// Publishes the healthy servers' IP addresses at a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<AddressName>,
    /// Seconds a resolver may cache the records, and so about the longest a client knows a dead server.
    #[serde(default = "publication_ttl")]
    #[schemars(range(min = 60, max = 86400))]
    pub ttl: i64,
}

impl Default for Publication {
    fn default() -> Self {
        Self { txt: yes(), a: None, ttl: publication_ttl() }
    }
}

fn yes() -> bool {
    true
}

fn publication_ttl() -> i64 {
    60
}

/// A name with the addresses of the healthy servers: IPv4 as A, IPv6 as AAAA. Servers known by a hostname have none
/// here. With `Failover` only the best healthy priority is published, since DNS has no order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct AddressName {
    /// One or more DNS labels before the zone's domain. `@` is the domain itself, where the Zone allows its apex.
    #[schemars(length(min = 1, max = 190))]
    #[x_kube(
        validation = ("self.matches('^(@|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*)$')",
            "write what stands before the zone's domain: DNS labels of a-z, 0-9 and `-` joined by dots, without a dot at the end, or `@` for the domain itself"),
        validation = ("!self.split('.').exists(label, label.startsWith('rs--'))",
            "labels starting with `rs--` are reserved: choose another")
    )]
    pub hostname: String,
}

/// What is known of the group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerGroupStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Provisioning`, `Active`, `Deleting` or `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// The slug in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub slug: Option<String>,
    /// How many servers are healthy, of how many that are not disabled, e.g. `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub healthy: Option<String>,
    /// How many servers there are, by health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// Every server of the group and its health.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["id".to_owned()]))]
    pub members: Vec<MemberStatus>,
    /// The published list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txt: Option<TxtStatus>,
    /// The published addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<AddressesStatus>,
    /// The Worker, and the origins it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slb: Option<SlbStatus>,
    /// Stored back-off, and the collision counter of a derived slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// `Ready`, `WorkerReady` with `slb`, `Frozen`, `ProberIsolated`, `Truncated`, `Paused`, and `Reconciling` or `Stalled` while they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// Servers by health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Counts {
    /// Servers that are healthy.
    pub healthy: i64,
    /// Servers that are not.
    pub unhealthy: i64,
    /// Servers of which nothing is known yet.
    pub pending: i64,
    /// Servers that are taken out.
    pub disabled: i64,
    /// All but the disabled ones.
    pub total: i64,
}

/// A server and its health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// What is published of it: its address, or `address:port`.
    #[schemars(length(min = 1, max = 300))]
    pub id: String,
    /// How it came into the group.
    #[serde(default)]
    pub origin: Origin,
    /// The Node it is, if it was selected, or serves the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub node: Option<String>,
    /// What of the app it is asked for, if it serves one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Its health: `Healthy` if every source it has says so.
    #[serde(default)]
    pub health: MemberHealth,
    /// The source that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Why, as a word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, as a sentence, where it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// Since when it belongs to the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Time>,
    /// Since when its health is what it is.
    pub since: Time,
    /// Until when it was healthy, if it was and is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_until: Option<Time>,
    /// What its probe says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<SourceStatus>,
    /// What it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<SourceStatus>,
}

/// What a server of an app is asked for. It is kept, so that it can be asked for when the app is not to be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Asked {
    /// The name.
    #[schemars(length(max = 253))]
    pub host: String,
    /// The path.
    #[schemars(length(max = 512))]
    pub path: String,
}

/// What one source says of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct SourceStatus {
    /// Whether the server is healthy.
    pub healthy: bool,
    /// Why, as a word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Since when.
    pub since: Time,
}

/// How a server came into its group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Origin {
    /// It is listed in the spec.
    #[default]
    Listed,
    /// It is a Node the selector picks.
    Node,
    /// It is a Node that the app serves on.
    App,
    /// It reported.
    Reported,
}

/// Whether a server is healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum MemberHealth {
    /// Every source says so.
    Healthy,
    /// A source says otherwise.
    Unhealthy,
    /// Nothing is known yet, or it is disabled.
    #[default]
    Pending,
}

/// Who knows of a server's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Source {
    /// Its probe.
    Probe,
    /// The server itself.
    Report,
}

/// The published list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct TxtStatus {
    /// The record's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What it says.
    #[schemars(length(max = 2048))]
    pub content: String,
    /// Seconds a resolver may cache it.
    #[serde(default)]
    pub ttl: i64,
}

/// The published addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct AddressesStatus {
    /// The full name.
    #[schemars(length(max = 253))]
    pub hostname: String,
    /// The addresses, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 45)))]
    pub addresses: Vec<String>,
    /// Seconds a resolver may cache them.
    #[serde(default)]
    pub ttl: i64,
}
