//! How servers are probed, as people write it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::refs::DURATION;

/// The rule for a name that is asked for.
const HOSTNAME: (&str, &str) = (
    "self.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$')",
    "write a hostname in lower case, e.g. `shop.example.com`",
);

/// What is no duration is refused where it stands.
const ONE_PROBE_AT_A_TIME: (&str, &str) = (
    "[self.interval, self.timeout].exists(d, !d.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,8}s)?$')) || \
     duration(self.timeout) <= duration(self.interval)",
    "timeout may not be longer than interval: one probe ends before the next begins",
);

/// How servers are probed. A field that is left out is taken from the server: a listed one's scheme, port and address; a
/// Node is probed at `https://<its name><its healthPath>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ONE_PROBE_AT_A_TIME)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// `HTTP` (with TLS where the scheme says so), `TCP` (a connection is enough), or `None`: then a server is healthy
    /// unless it reports otherwise.
    #[serde(default, rename = "type")]
    pub type_: ProbeType,
    /// The scheme to probe with, in place of the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The port to probe, in place of the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The path to ask for; `/`, or a Node's healthPath, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = ("self.matches('^/[!-~]*$')", "a path starts with `/` and has no blanks; write others percent-encoded"))]
    pub path: Option<String>,
    /// The method to ask with: `GET` or `HEAD`.
    #[serde(default)]
    pub method: Method,
    /// The host to ask for; the server's address without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = HOSTNAME)]
    pub host: Option<String>,
    /// How often each server is probed, give or take a tenth, e.g. `10s`.
    #[serde(default = "interval")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub interval: String,
    /// How long one probe may take, e.g. `2s`.
    #[serde(default = "timeout")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = DURATION)]
    pub timeout: String,
    /// After how many failures in a row a server is unhealthy.
    #[serde(default = "fall")]
    #[schemars(range(min = 1, max = 20))]
    pub fall: i32,
    /// After how many successes in a row it is healthy again.
    #[serde(default = "rise")]
    #[schemars(range(min = 1, max = 20))]
    pub rise: i32,
    /// The HTTP status that counts as a success: one, or a range like `200-399`. Redirects are not followed.
    #[serde(default = "expected_status")]
    #[schemars(length(min = 3, max = 7))]
    #[x_kube(validation = ("self.matches('^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$') && (self.size() == 3 || self.substring(0, 3) <= self.substring(4, 7))",
        "write a status like `204`, or a range from the lower to the higher like `200-399`"))]
    pub expected_status: String,
    /// What is expected of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ProbeTls>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            type_: ProbeType::default(),
            scheme: None,
            port: None,
            path: None,
            method: Method::default(),
            host: None,
            interval: interval(),
            timeout: timeout(),
            fall: fall(),
            rise: rise(),
            expected_status: expected_status(),
            tls: None,
        }
    }
}

fn interval() -> String {
    "10s".to_owned()
}

fn timeout() -> String {
    "2s".to_owned()
}

fn fall() -> i32 {
    3
}

fn rise() -> i32 {
    2
}

fn expected_status() -> String {
    "200-399".to_owned()
}

/// How a server is probed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ProbeType {
    /// A request.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// A connection.
    #[serde(rename = "TCP")]
    Tcp,
    /// Not at all.
    None,
}

/// The method of a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Asks for the page.
    #[default]
    Get,
    /// Asks for its head.
    Head,
}

/// What a probe expects of the certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeTls {
    /// The name the certificate must be for; `probe.host`, else the server's address, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = HOSTNAME)]
    pub server_name: Option<String>,
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP in the clear, port 80.
    Http,
    /// HTTP over TLS with a verified certificate, port 443.
    #[default]
    Https,
}
