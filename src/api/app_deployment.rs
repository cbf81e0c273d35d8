//! `AppDeployment`: a Compose app behind Caddy, on one Node, on several, or on an Environment's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::refs::DURATION;
use super::status::Journal;

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
    printcolumn(name = "Domain", type_ = "string", json_path = ".status.domain"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.currentRevision.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.conditions[?(@.type==\"Available\")].status"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AppDeploymentSpec {
    /// Where it runs.
    pub target: Target,
    /// The Compose file, and what it mounts.
    pub compose: Compose,
    /// Images in place of those in the file: what a CI job or an image updater edits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["service".to_owned()]))]
    pub images: Vec<Image>,
    /// Variables: of the entry service, or of the services named, and for `${NAME}` in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub env: Vec<EnvVar>,
    /// Whole Secrets and ConfigMaps whose keys are variables of the entry service. A name that `env` has too is `env`'s;
    /// of two sources the later one counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env_from: Vec<EnvSource>,
    /// Whether a changed Secret or ConfigMap is a new revision. Otherwise it is used from the next one on.
    #[serde(default = "yes")]
    pub roll_on_secret_change: bool,
    /// Secrets of type `kubernetes.io/dockerconfigjson` in this namespace, for registries that ask who pulls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalRef>,
    /// The names it is reached by. Without any: what the label `roadstead.domain` of the entry service says, else the
    /// Node's own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub domains: Vec<Domain>,
    /// Where traffic enters. Without it: the service labelled `roadstead.entry=true`, else `web`, and its first port.
    #[serde(default)]
    pub entry: Entry,
    /// Path of the health check: the label `roadstead.health`, else the Node's `healthPath`, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = ("self.startsWith('/')", "a path starts with `/`"))]
    pub health_path: Option<String>,
    /// How long a new revision has to answer its health check, after `startPeriod`.
    #[serde(default = "minute")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub health_timeout: String,
    /// For how long after its start a new revision need not answer.
    #[serde(default = "start_period")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
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
    /// How many revisions besides the current one are kept, for `roadstead.dev/rollback`.
    #[serde(default = "history")]
    #[schemars(range(min = 0, max = 50))]
    pub revision_history_limit: i64,
    /// Begin nothing new. What has begun comes to its end.
    #[serde(default)]
    pub suspend: bool,
    /// Answer every request with the maintenance page. The app runs on, and is deployed as ever.
    #[serde(default)]
    pub maintenance: bool,
    /// The network on which Caddy reaches the app.
    #[serde(default)]
    pub network: Network,
    /// How long it lives from its creation, e.g. `72h`; for ever without it. Then the app is taken away and this object
    /// stays, with phase `Expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub lifetime: Option<String>,
    /// Ask for the Docker socket, the host's disk, its devices or its namespaces. The Provider has to agree by
    /// `allowHostAccess`.
    #[serde(default)]
    pub host_access: bool,
    /// A Node whose volumes of this app may stay behind when the app moves away from it.
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

/// An object of this namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A key of a Secret or ConfigMap of this namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// The Compose file: exactly one of `inline` and `configMapKeyRef`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.inline) != has(self.configMapKeyRef)", "set `inline` or `configMapKeyRef`, and not both")
)]
pub struct Compose {
    /// The text of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub inline: Option<String>,
    /// A key of a ConfigMap of this namespace that holds the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// Files beside it, for it to mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["path".to_owned()]))]
    pub files: Vec<File>,
}

/// A file beside the Compose file: exactly one of `configMapKeyRef` and `secretKeyRef`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.configMapKeyRef) != has(self.secretKeyRef)", "set `configMapKeyRef` or `secretKeyRef`, and not both")
)]
pub struct File {
    /// Its path beside the Compose file, e.g. `nginx/site.conf`, which the file mounts as `./nginx/site.conf`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = ("self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.split('/').exists(part, part == '.' || part == '..')",
            "write a relative path of letters, digits, `.`, `_` and `-`, without `.` and `..` as parts")
    )]
    pub path: String,
    /// A key of a ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// A key of a Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
}

/// The image of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Image {
    /// The service.
    #[schemars(length(min = 1, max = 128))]
    pub service: String,
    /// The image, with tag or digest.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
}

/// A variable: exactly one of `value`, `secretKeyRef` and `configMapKeyRef`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.value), has(self.secretKeyRef), has(self.configMapKeyRef)].filter(set, set).size() == 1",
        "set exactly one of value, secretKeyRef and configMapKeyRef")
)]
pub struct EnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = ("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", "a variable's name has letters, digits and `_`, and starts with no digit"),
        validation = ("!self.startsWith('COMPOSE_') || self == 'COMPOSE_PROFILES'", "of the variables that steer Compose only COMPOSE_PROFILES is for the app to choose")
    )]
    pub name: String,
    /// Its value, for everyone to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub value: Option<String>,
    /// A key of a Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A key of a ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// The services that get it; the entry service without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub services: Vec<String>,
}

/// A whole Secret or ConfigMap: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.secretRef) != has(self.configMapRef)", "set `secretRef` or `configMapRef`, and not both")
)]
pub struct EnvSource {
    /// What the name of each variable begins with, before the key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub prefix: String,
    /// A Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// A ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalRef>,
}

/// A name the app is reached by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.redirectTo) || self.redirectTo != self.name", "a name cannot redirect to itself")
)]
pub struct Domain {
    /// The full name, e.g. `shop.example.com`.
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(
        validation = ("self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')",
            "write a full name in lower case without a dot at the end, e.g. `shop.example.com`"),
        validation = ("!self.split('.').exists(label, label.startsWith('rs--'))",
            "labels starting with `rs--` are reserved: choose another")
    )]
    pub name: String,
    /// Who publishes its address.
    #[serde(default)]
    pub publish: Publish,
    /// Whether Cloudflare proxies it. It does so from when its certificate is there.
    #[serde(default)]
    pub proxied: bool,
    /// Send visitors to this name instead of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 253))]
    pub redirect_to: Option<String>,
    /// The AppDeployment of this namespace that has the name now and hands it over once this one can serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub take_from: Option<String>,
}

/// Who publishes the address of a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Publish {
    /// Roadstead: records that lead to the Nodes that serve the app. The name lies in a Zone.
    #[default]
    Node,
    /// A ServerGroup whose `dns.hostname` is this name.
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
    /// How long the old revision may end what it has begun.
    #[serde(default = "half_minute")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub drain_timeout: String,
    /// Two revisions may write to a volume at a time.
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
    /// When it is updated, if a revision changes it.
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
    /// The command, in words.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// How long it may take.
    #[serde(default = "five_minutes")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
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

/// What is known of the app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppDeploymentStatus {
    /// The generation these statements are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Provisioning`, `Active`, `Deleting`, `Error` or `Expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// The revision that is wanted and, once `Ready`, serves on every Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<Revision>,
    /// The revision before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<Revision>,
    /// Every revision that is kept, newest first: what `roadstead.dev/rollback` may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub revisions: Vec<String>,
    /// The SHA-256 of the Compose file's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub compose_hash: Option<String>,
    /// The service that traffic enters by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub entry_service: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_port: Option<i64>,
    /// The first of its names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub domain: Option<String>,
    /// `active`, `deploying` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub status: Option<String>,
    /// When the revision that serves went live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
    /// Its names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub domains: Vec<DomainStatus>,
    /// How it stands on each Node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".to_owned()]))]
    pub nodes: Vec<NodeState>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Intents and stored back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// `Ready`, `Available`, `Paused`, and `Reconciling` or `Stalled` while they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// A revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its name, by which its containers and its ControllerRevision are found.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The SHA-256 of its Compose file's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub compose_hash: Option<String>,
    /// The digest of each service's image, once it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub images: Vec<Image>,
}

/// How a name of the app stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainStatus {
    /// The name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// `Pending`, `Published`, `Serving` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What it waits for or suffers from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The addresses its records point at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 45)))]
    pub addresses: Vec<String>,
    /// For a name in no Zone: the TXT record that proves it is yours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// The TXT record that proves a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Verification {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its content.
    #[schemars(length(max = 255))]
    pub content: String,
    /// Whether it was seen.
    #[serde(default)]
    pub seen: bool,
}

/// How the app stands on a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// The Node.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The Node's UID: another Node of the same name is another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// The revision that serves there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// What is in hand there: `Pulling`, `Starting`, `Verifying`, `Active`, `Failed`, `Removing`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What it waits for or failed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// How far the deploy has come: the operator's own notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Notes>,
}

/// Notes of the operator, kept as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true, "type" = "object"))]
pub struct Notes(#[schemars(skip)] pub serde_json::Map<String, serde_json::Value>);
