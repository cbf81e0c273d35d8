//! `AppDeployment`: a Compose app behind Caddy, on one Node, on several, or on an Environment's.
#![allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own that people write, also in what derives make"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::refs::DURATION;

mod content;
mod status;

pub use content::{Compose, EnvSource, EnvVar, File, Image, KeyRef, LocalRef};
pub use status::{AppDeploymentStatus, DomainStatus, Handed, NodeState, Notes, Revision, Verification};

/// The rule for a time that may be none at all, and is waited out while a person looks on.
const UP_TO_AN_HOUR: (&str, &str) = (
    "self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,8}s)?$') && duration(self) <= duration('1h')",
    "write a duration of at most an hour in hours, minutes and seconds, e.g. `10s` or `1m30s`",
);

/// The rule for a time in which something has to be over.
const FROM_A_SECOND_TO_A_DAY: (&str, &str) = (
    "self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,8}s)?$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",
    "write a duration from a second to a day in hours, minutes and seconds, e.g. `90s` or `1h30m`",
);

/// The rule for a name that visitors use.
const FULL_NAME: (&str, &str) = (
    "self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')",
    "write a full name in lower case without a dot at the end, e.g. `shop.example.com`",
);

/// What the app should be.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "AppDeployment",
    plural = "appdeployments",
    shortname = "rapp",
    category = "roadstead",
    namespaced,
    status = "AppDeploymentStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A Docker Compose app behind Caddy, on a Node, several Nodes or an Environment. A new revision starts beside the old one, is checked inside and outside, and takes over; whatever fails leaves the old one serving.",
    validation = ("self.metadata.name.size() <= 48", "metadata.name may have at most 48 characters, because the Compose project's name is made of it"),
    validation = ("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')", "metadata.name must be a DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"),
    validation = ("!self.metadata.name.startsWith('rs--')", "names starting with `rs--` are reserved: choose another"),
    validation = ("!has(self.spec.domains) || !self.spec.domains.exists(d, has(d.takeFrom) && d.takeFrom.name == self.metadata.name)",
        "takeFrom names this app itself: name the app that has the domain now, or leave takeFrom out"),
    printcolumn(name = "Domain", type_ = "string", json_path = ".status.domain"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.currentRevision.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.conditions[?(@.type==\"Available\")].status"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = ("!has(self.domains) || self.domains.size() == 0 || self.domains.exists(d, !has(d.redirectTo))",
        "every one of the domains redirects: at least one has to serve the app"),
    validation = ("!has(self.domains) || !self.domains.exists(d, has(d.redirectTo) && self.domains.exists(e, e.name == d.redirectTo && e.name != d.name && has(e.redirectTo)))",
        "a domain redirects to one that redirects itself: let redirectTo name the one that serves"),
    validation = ("!has(self.services) || !has(self.entry.service) || !self.services.exists(s, s.name == self.entry.service)",
        "services is for those beside the entry, which is updated by the swap itself: leave the entry service out")
)]
#[serde(rename_all = "camelCase")]
pub struct AppDeploymentSpec {
    /// Where it runs. A changed target is deployed to first; then the names move, and the old one is cleaned up.
    pub target: Target,
    /// The Compose file, and what it mounts.
    pub compose: Compose,
    /// Images in place of those in the file: what a CI job or an image updater edits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["service".to_owned()]))]
    pub images: Vec<Image>,
    /// Variables: of the entry service, or of the services named, and for `${NAME}` in the file. Together with those of
    /// `envFrom` they may have 512 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub env: Vec<EnvVar>,
    /// Whole Secrets and ConfigMaps whose keys are variables of the entry service. A name that `env` has too is `env`'s;
    /// of two sources the later one counts. A key that cannot be a variable's name is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env_from: Vec<EnvSource>,
    /// Whether a changed Secret or ConfigMap is a new revision. Otherwise what it holds is used from the next one on.
    /// It is looked at whenever the app is, which without other causes is every few minutes (the chart's
    /// `settings.resync`).
    #[serde(default = "yes")]
    pub roll_on_secret_change: bool,
    /// Secrets of type `kubernetes.io/dockerconfigjson` in this namespace, for registries that ask who pulls. A registry
    /// that is in two of them is the later one's. The credentials are on the host for as long as a pull takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub image_pull_secrets: Vec<LocalRef>,
    /// The names it is reached by, over HTTPS. Without any: what the label `roadstead.domain` of the entry service says,
    /// else the Node's own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub domains: Vec<Domain>,
    /// Where traffic enters. Without it: the service labelled `roadstead.entry=true`, else `web`, and the port of its label
    /// `roadstead.port`, else its first one.
    #[serde(default)]
    pub entry: Entry,
    /// Path of the health check, which has to answer 200 to 399; the label `roadstead.health`, else the Node's
    /// `healthPath`, without it. A new revision is asked inside its container, then by each of its names, and does not
    /// take over before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = ("self.matches('^/[!-~]*$')", "a path starts with `/` and has no blanks; write others percent-encoded"))]
    pub health_path: Option<String>,
    /// How long a new revision has to answer its health check, after `startPeriod`. Then it is given up, and the old one
    /// serves on.
    #[serde(default = "minute")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = FROM_A_SECOND_TO_A_DAY)]
    pub health_timeout: String,
    /// For how long after its start a new revision need not answer. It takes over at once when it does.
    #[serde(default = "start_period")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = UP_TO_AN_HOUR)]
    pub start_period: String,
    /// How a new revision replaces the old one.
    #[serde(default)]
    pub strategy: Strategy,
    /// When services beside the entry are updated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub services: Vec<Service>,
    /// A command that is run once for each revision, before it takes over: a migration, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_deploy: Option<PreDeploy>,
    /// How many revisions besides the current one are kept, for the annotation `roadstead.dev/rollback: <revision>`.
    /// `status.revisions` lists them. Those that run, or are about to, are kept in any case.
    #[serde(default = "history")]
    #[schemars(range(min = 0, max = 50))]
    pub revision_history_limit: i64,
    /// Begin nothing new. What has begun comes to its end.
    #[serde(default)]
    pub suspend: bool,
    /// Answer every request with the maintenance page. The app runs on, and is deployed as ever.
    #[serde(default)]
    pub maintenance: bool,
    /// The network on which Caddy reaches the app: `App`, one for this app alone, or `Edge`, which it shares with every
    /// other such app of the host, whose services find each other by their names.
    #[serde(default)]
    pub network: Network,
    /// How long it lives from its creation, e.g. `72h`; for ever without it. Then the app is taken away and this object
    /// stays, with phase `Expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub lifetime: Option<String>,
    /// Ask for what gives the whole host away: the Docker socket, its disk, its devices or its namespaces. The Node's
    /// Provider has to agree by `allowHostAccess`.
    #[serde(default)]
    pub host_access: bool,
    /// A Node whose volumes of this app may stay behind when the app moves away from it. Without it an app that has
    /// volumes does not leave a Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub accept_data_loss: Option<String>,
}

fn yes() -> bool {
    true
}

fn minute() -> String {
    "60s".to_owned()
}

fn start_period() -> String {
    "10s".to_owned()
}

fn history() -> i64 {
    5
}

/// Where an app runs: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.nodeRef), has(self.nodeSelector), has(self.environmentRef)].filter(set, set).size() == 1",
        "set exactly one of nodeRef, nodeSelector and environmentRef")
)]
pub struct Target {
    /// A Node (`rnode`) of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ref: Option<LocalRef>,
    /// Labels of Nodes of this namespace. They are deployed to one at a time, in the order of their names, and the first
    /// failure stops the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// An Environment of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_ref: Option<LocalRef>,
}

/// A name the app is reached by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.redirectTo) || self.redirectTo != self.name", "a name cannot redirect to itself"),
    validation = ("!self.proxied || self.publish == 'Node'",
        "`proxied` is for records that Roadstead publishes for the app: set it with `publish: Node` only")
)]
pub struct Domain {
    /// The full name, e.g. `shop.example.com`.
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(
        validation = FULL_NAME,
        validation = ("!self.startsWith('rs--') && !self.contains('.rs--')",
            "labels starting with `rs--` are reserved: choose another")
    )]
    pub name: String,
    /// Who publishes its address: `Node`, Roadstead, as records of the Nodes that serve the app, in the Zone that the name
    /// lies in; `Group`, a ServerGroup of this namespace whose `dns.a` is the name; or `None`, somebody else. A name in no Zone is somebody else's,
    /// and is served once a TXT record proves that it is yours: `status.domains[].verification` says which.
    #[serde(default)]
    pub publish: Publish,
    /// Whether Cloudflare proxies it. It does so as soon as the host has a certificate for the name.
    #[serde(default)]
    pub proxied: bool,
    /// Send visitors to this name instead of the app, path and query kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(validation = FULL_NAME)]
    pub redirect_to: Option<String>,
    /// The app of this namespace that the name is taken from, if that one has it. It serves on until this app's revision
    /// answers on every Node; then the name is this app's, its record leads here by one change, and the other app answers
    /// those that still come by the old address until the record's TTL is over. A name that nobody has is simply taken, so
    /// this may stay. Moving a name from one spec to the other in one commit works: it is not withdrawn in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_from: Option<LocalRef>,
}

/// Who publishes the address of a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Publish {
    /// Roadstead: records that lead to the Nodes that serve the app. The name lies in a Zone.
    #[default]
    Node,
    /// A ServerGroup of this namespace whose `dns.a` is this name.
    Group,
    /// Somebody else: a load balancer in front, or the owner of a domain that is in no Zone.
    None,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Where traffic enters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Entry {
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub service: Option<String>,
    /// The container's port that answers HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i64>,
}

/// How a new revision replaces the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// `BlueGreen` starts it beside the old one; `Recreate` stops the old one first. `Recreate` is chosen, and said, where
    /// the entry service has a fixed port of the host, a `container_name` or a volume that it writes to.
    #[serde(default, rename = "type")]
    pub type_: StrategyType,
    /// How long the old revision may end what it has begun, once the new one serves.
    #[serde(default = "half_minute")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = UP_TO_AN_HOUR)]
    pub drain_timeout: String,
    /// Two revisions may write to the entry service's volumes at a time, so that it need not be `Recreate` for their sake.
    #[serde(default)]
    pub shared_volumes: bool,
}

fn half_minute() -> String {
    "30s".to_owned()
}

impl Default for Strategy {
    fn default() -> Self {
        Self { type_: StrategyType::default(), drain_timeout: half_minute(), shared_volumes: false }
    }
}

/// Whether two revisions run side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum StrategyType {
    /// Side by side.
    #[default]
    BlueGreen,
    /// One after the other.
    Recreate,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A service beside the entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Service {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// When it is updated, if a revision changes it: `BeforeSwap`, before the new revision of the entry starts;
    /// `AfterSwap`, once that serves; `Never`, once it runs at all, which suits a database.
    #[serde(default)]
    pub update: Update,
}

/// When a service beside the entry is updated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Update {
    /// Never, once it runs.
    Never,
    /// Before the new revision starts.
    #[default]
    BeforeSwap,
    /// Once the new revision serves.
    AfterSwap,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A command before a revision takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct PreDeploy {
    /// The service whose image, variables, networks and volumes it gets; the entry service without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub service: Option<String>,
    /// The command, in words, e.g. `["./manage.py", "migrate"]`. No shell reads it. If it fails, the old revision serves on;
    /// what it did is not undone.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    #[x_kube(validation = ("self[0] != ''", "the first word is the program: it cannot be empty"))]
    pub command: Vec<String>,
    /// How long it may take.
    #[serde(default = "five_minutes")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = FROM_A_SECOND_TO_A_DAY)]
    pub timeout: String,
}

fn five_minutes() -> String {
    "5m".to_owned()
}

/// The network on which Caddy reaches an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Network {
    /// One for this app alone, which only its entry service and Caddy are on.
    #[default]
    App,
    /// The network `edge`, which every service of every such app is on, and finds the others by their names.
    Edge,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
