//! Small types several kinds share: references, and who may use a cluster-wide object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The API group of every kind.
pub const GROUP: &str = "roadstead.dev";

/// The rule for a duration, and what it tells the author. The digits are bounded so that none overflows.
pub(super) const DURATION: (&str, &str) = (
    "self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,8}s)?$') && duration(self) > duration('0s')",
    "write a duration above zero in hours, minutes and seconds, e.g. `72h`, `1h30m` or `90s`",
);

/// The rule for user data. `maxLength` counts characters, clouds count bytes. It stands on the struct, because a refusal
/// of the field would quote all of it.
pub(super) const USER_DATA: (&str, &str) = (
    "!has(self.userData) || bytes(self.userData).size() <= 16384",
    "userData may have at most 16384 bytes (16 KiB): let it fetch the rest",
);

/// A cluster-wide object, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ClusterRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A key of a Secret in the operator's own namespace.
///
/// The Secret must carry the label `roadstead.dev/credential: <cloudflare|digitalocean>`, so that a Zone or Provider
/// cannot be pointed at somebody else's Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret, in the namespace the operator runs in.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret that holds the token. White space around the token is ignored.
    #[serde(default = "token")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn token() -> String {
    "token".to_owned()
}

/// Which namespaces may refer to a cluster-wide object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("self.from == 'Selector' ? has(self.selector) : !has(self.selector)",
        "set `selector` with `from: Selector`, and only then")
)]
pub struct AllowedNamespaces {
    /// `All` namespaces, those a `Selector` picks, or `None`.
    pub from: NamespacesFrom,
    /// Labels of the namespaces that are allowed; only with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Where the list of allowed namespaces comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum NamespacesFrom {
    /// Every namespace.
    All,
    /// Namespaces whose labels match `selector`.
    Selector,
    /// No namespace.
    None,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Who runs on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Host {
    /// `Caddy` lets Roadstead bootstrap Docker and Caddy on the host; `None` leaves the host alone.
    #[serde(default)]
    pub manage: HostManagement,
}

/// What Roadstead runs on a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum HostManagement {
    /// Docker, Caddy and its routers, under `/opt/roadstead`.
    Caddy,
    /// Nothing.
    #[default]
    None,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What happens to the VM when its object is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// The VM is deleted, after its record is withdrawn and the TTL has passed.
    #[default]
    Delete,
    /// The VM stays and loses Roadstead's mark.
    Orphan,
    /// A value of a newer version of the definitions.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
