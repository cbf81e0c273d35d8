//! `spec.slb`: the Cloudflare Worker in front of a `ServerGroup`, as people write it, and what is known of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The rule for a route. A host with a wildcard would take the requests for other people's names.
const ROUTE: (&str, &str) = (
    "self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]([a-z0-9-]{0,61}[a-z0-9])?/[!$-)+->@-~]*[*]?$')",
    "write a host in full and a path, which may end in `*`, e.g. `shop.example.com/*`: no scheme, and no wildcard in the host",
);

/// The rule for a custom domain.
const HOST: (&str, &str) = (
    "self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$')",
    "write a host in full and in lower case, e.g. `shop.example.com`",
);

/// The Worker's timer counts milliseconds in six digits.
const TIMEOUT: (&str, &str) = (
    "self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,8}s)?$') && duration(self) > duration('0s') && \
     duration(self) <= duration('10m')",
    "write a duration from `1s` to `10m`, e.g. `8s`",
);

/// A Cloudflare Worker that spreads requests over the healthy servers. The group's Zone has to allow it, in its
/// `cloudflare.workers`. Workers cannot fetch IP addresses: a server known by one gets a name of its own under the slug,
/// `203-0-113-7.<slug>.<domain>`. A Node is reached at `https://<its name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("!(has(self.route) && has(self.customDomain))",
        "set route or customDomain, not both: one Worker answers at one place"),
    validation = ("self.mode != 'OriginsOnly' || !(has(self.route) || has(self.customDomain) || has(self.failStatuses) || self.sticky != 'None')",
        "with mode OriginsOnly the Worker's own code decides where it answers and how it spreads: leave out route, customDomain, sticky and failStatuses")
)]
#[serde(rename_all = "camelCase")]
pub struct Slb {
    /// The Worker's name in its Cloudflare account. One Worker has one group. With another name the old Worker goes
    /// before the new one comes.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
        "a Worker's name is made of a-z, 0-9 and `-`, not starting or ending with `-`"))]
    pub worker_name: String,
    /// `Managed`: the Worker is made, kept and removed with the group. `OriginsOnly`: a Worker of your own is left as it
    /// is but for its plain-text binding `ORIGINS`; its binding `ROADSTEAD_ALLOW` must name this group as
    /// `namespace/name`.
    #[serde(default)]
    pub mode: WorkerMode,
    /// Requests that the Worker answers, as a Cloudflare route, e.g. `shop.example.com/*`. The host needs a proxied record,
    /// such as that of a Node with `proxied: true`. Neither route nor customDomain: you arrange that yourself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 512))]
    #[x_kube(validation = ROUTE)]
    pub route: Option<String>,
    /// A host that the Worker answers alone, e.g. `shop.example.com`: Cloudflare makes its record and its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(validation = HOST)]
    pub custom_domain: Option<String>,
    /// From so many healthy servers on exactly these are published; with fewer, `whenAllDown` decides.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 500))]
    pub min_healthy: i32,
    /// What happens while fewer than `minHealthy` servers are healthy: `KeepLast` leaves the origins that were published
    /// last, and adds who is healthy; `Publish` publishes who is healthy, and if nobody is the Worker answers 503.
    #[serde(default)]
    pub when_all_down: WhenAllDown,
    /// Whether a client comes back to the same server: `None`, by a `Cookie`, or by its address (`ClientIP`).
    #[serde(default)]
    pub sticky: Sticky,
    /// How many further servers a request may try. One that is not idempotent is never sent twice. Not used with
    /// `OriginsOnly`.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 5))]
    pub retries: i32,
    /// How long a server may take to begin its answer, e.g. `8s`. Not used with `OriginsOnly`.
    #[serde(default = "origin_timeout")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = TIMEOUT)]
    pub origin_timeout: String,
    /// Statuses after which the next server is tried; 500, 502 to 504, 520 to 527 and 530 without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 400, max = 599)))]
    pub fail_statuses: Vec<i32>,
}

fn one() -> i32 {
    1
}

fn origin_timeout() -> String {
    "8s".to_owned()
}

/// How much of a Worker belongs to the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum WorkerMode {
    /// All of it.
    #[default]
    Managed,
    /// The binding `ORIGINS`.
    OriginsOnly,
}

/// What is published while too few servers are healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum WhenAllDown {
    /// What was published last.
    #[default]
    KeepLast,
    /// Who is healthy, be it nobody.
    Publish,
}

/// How a client comes back to the same server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Sticky {
    /// It need not.
    #[default]
    None,
    /// By a cookie.
    Cookie,
    /// By its address.
    #[serde(rename = "ClientIP")]
    ClientIp,
}

/// What is known of a group's Worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlbStatus {
    /// The Worker's name. Written down before anything is written at Cloudflare.
    #[schemars(length(max = 63))]
    pub worker_name: String,
    /// The account it is in.
    #[serde(rename = "accountID")]
    #[schemars(length(max = 64))]
    pub account_id: String,
    /// How much of it belongs to the group.
    #[serde(default)]
    pub mode: WorkerMode,
    /// The origins it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 300)))]
    pub origins: Vec<String>,
    /// The names that are claimed for it: of servers known by an IP address, and its custom domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 253)))]
    pub hostnames: Vec<String>,
    /// How often Cloudflare failed to answer in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
    /// Not before this time is it asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
}
