//! The configuration of a host's Caddy, as a pure function of a few settings, and how it gets there.
//!
//! It is constant: names, apps and certificates are no part of it. Caddy takes a changed configuration by starting its
//! servers anew, which loses fresh connections of every site; so each request is looked up at the routers instead
//! ([`crate::router`]), certificates are made on demand for the names that the routers know, and this changes only with
//! listeners, issuers or error pages.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::router::answer::UNAVAILABLE;

/// Body of the page that visitors get while nothing answers behind Caddy.
pub const BAD_GATEWAY: &str = "Bad Gateway";

/// What the configuration depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where HTTPS is served, as Caddy writes addresses: `:443`.
    pub https: Vec<String>,
    /// Where plain HTTP is served, for ACME's HTTP-01 and to send visitors to HTTPS: `:80`.
    pub http: Vec<String>,
    /// The loopback address at which Caddy asks itself whether a name may have a certificate: `127.0.0.1:9099`.
    pub ask: String,
    /// The sockets of the routers. The first that answers is asked.
    pub routers: Vec<String>,
    /// The socket of the admin API.
    pub admin: AdminSocket,
    /// Where certificates come from.
    pub issuer: Issuer,
    /// The log of requests; none is kept without it.
    pub access_log: Option<AccessLog>,
}

/// The socket of the admin API: never a port, which any container could reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSocket {
    /// Its absolute path.
    pub path: String,
    /// Its mode.
    pub mode: u32,
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// An ACME server, by HTTP-01.
    Acme {
        /// The URL of its directory.
        directory: String,
        /// Whom the authority may write to.
        email: Option<String>,
        /// A file with the roots that vouch for the directory itself, if it is no public one.
        ca_file: Option<String>,
    },
    /// An authority of Caddy's own, which nobody trusts.
    Internal,
}

/// The log of requests, in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Its file.
    pub file: String,
    /// How large the file gets before another is begun.
    pub megabytes: u32,
    /// How many full files are kept.
    pub keep: u32,
    /// For how long.
    pub keep_days: u32,
}

/// A configuration of Caddy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config(Value);

impl Config {
    /// The whole configuration of a host.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut config = json!({
            "admin": admin(settings),
            "apps": {
                "tls": {"automation": {
                    "on_demand": {"permission": {"module": "http", "endpoint": format!("http://{}/ask", settings.ask)}},
                    "policies": [{"on_demand": true, "issuers": [issuer(settings)]}],
                }},
                "http": {
                    "grace_period": "10s",
                    "servers": {
                        "ask": {
                            "listen": [settings.ask],
                            "automatic_https": {"disable": true},
                            "routes": [{"match": [{"path": ["/ask"]}], "handle": [routers(settings)]}],
                        },
                        "http": {
                            "listen": settings.http,
                            "protocols": ["h1"],
                            "automatic_https": {"disable": true},
                            "routes": [{"handle": [of_authority(lookup(settings, &to_peer_or_https()))]}],
                            "errors": errors(),
                        },
                        "https": {
                            "listen": settings.https,
                            // Not h3: its UDP port is not open everywhere, and clients would try it first.
                            "protocols": ["h1", "h2"],
                            "automatic_https": {"disable_redirects": true},
                            "tls_connection_policies": [{}],
                            "routes": [{"handle": [lookup(settings, &to_app())]}],
                            "errors": errors(),
                        },
                    },
                },
            },
        });
        for (field, addresses) in [("http_port", &settings.http), ("https_port", &settings.https)] {
            // What Caddy takes for the port of HTTP-01 and of redirects.
            if let Some(port) = addresses.first().and_then(|address| port(address)) {
                config["apps"]["http"][field] = json!(port);
            }
        }
        if settings.issuer == Issuer::Internal {
            // Else Caddy puts its root into the system's trust store, at every change of its configuration.
            config["apps"]["pki"] = json!({"certificate_authorities": {"local": {"install_trust": false}}});
        }
        if let Some(log) = &settings.access_log {
            config["logging"] = logging(log);
            for server in ["http", "https"] {
                config["apps"]["http"]["servers"][server]["logs"] = json!({"default_logger_name": "sites"});
            }
        }
        Self(config)
    }

    /// What Caddy is started with when it has no configuration: the admin API, where it is told the whole one.
    #[must_use]
    pub fn bootstrap(settings: &Settings) -> Self {
        Self(json!({"admin": admin(settings)}))
    }

    /// The configuration as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        self.0.to_string()
    }

    /// 16 hex digits of its SHA-256: another value, another configuration. The order of its fields does not matter.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut digest = Sha256::new();
        feed(&self.0, &mut digest);
        data_encoding::HEXLOWER.encode(&digest.finalize()[..8])
    }

    /// What is to be done about what Caddy said it has: the body of `GET /config/`, and its `Etag`.
    #[must_use]
    pub fn next(&self, body: &[u8], etag: Option<&str>) -> Step {
        let served: Value = serde_json::from_slice(body).unwrap_or_default();
        if served == self.0 {
            return Step::Done;
        }
        match etag {
            Some(etag) if served.get("apps").is_some() => Step::Replace { if_match: etag.to_owned() },
            _ => Step::Load,
        }
    }
}

/// The next call of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Caddy has the configuration.
    Done,
    /// `POST /config/` with this `If-Match`: whoever changed it since then is not overwritten unseen.
    Replace {
        /// The `Etag` of what is there.
        if_match: String,
    },
    /// `POST /load`: nothing is served, so there is nothing to be lost.
    Load,
}

impl Step {
    /// Path and headers of the request whose body is the configuration; `None` if there is nothing to do.
    #[must_use]
    pub fn request(&self) -> Option<(&'static str, Vec<(&'static str, &str)>)> {
        let json = ("content-type", "application/json");
        match self {
            Self::Done => None,
            Self::Replace { if_match } => Some(("/config/", vec![json, ("if-match", if_match)])),
            Self::Load => Some(("/load", vec![json, ("cache-control", "must-revalidate")])),
        }
    }
}

/// Why Caddy did not take a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Somebody changed what is there: look again.
    #[error("the configuration of Caddy was changed meanwhile")]
    Changed,
    /// Caddy refuses it, and goes on with what it has.
    #[error("Caddy refuses the configuration and keeps the last good one: {0}")]
    Refused(String),
}

/// What Caddy's answer to a [`Step`] says.
///
/// # Errors
/// Why it did not take the configuration.
pub fn judge(status: u16, body: &[u8]) -> Result<(), NotTaken> {
    match status {
        200 => Ok(()),
        412 => Err(NotTaken::Changed),
        _ => {
            let json: Value = serde_json::from_slice(body).unwrap_or_default();
            let said = match json.get("error").and_then(Value::as_str) {
                Some(error) => error.to_owned(),
                None => format!("status {status}"),
            };
            Err(NotTaken::Refused(said.chars().take(1_000).collect()))
        }
    }
}

fn feed(value: &Value, digest: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            digest.update("{");
            for (name, value) in sorted {
                digest.update(Value::from(name.as_str()).to_string());
                digest.update(":");
                feed(value, digest);
                digest.update(",");
            }
            digest.update("}");
        }
        Value::Array(values) => {
            digest.update("[");
            for value in values {
                feed(value, digest);
                digest.update(",");
            }
            digest.update("]");
        }
        _ => digest.update(value.to_string()),
    }
}

/// The port of `host:port`.
fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

fn admin(settings: &Settings) -> Value {
    json!({"listen": format!("unix/{}|{:04o}", settings.admin.path, settings.admin.mode)})
}

fn issuer(settings: &Settings) -> Value {
    match &settings.issuer {
        Issuer::Internal => json!({"module": "internal"}),
        Issuer::Acme { directory, email, ca_file } => {
            let mut issuer = json!({
                "module": "acme",
                "ca": directory,
                // A name may be proxied later on, and then only HTTP-01 gets through.
                "challenges": {"tls-alpn": {"disabled": true}},
            });
            if let Some(email) = email {
                issuer["email"] = json!(email);
            }
            if let Some(file) = ca_file {
                issuer["trusted_roots_pem_files"] = json!([file]);
            }
            issuer
        }
    }
}

/// A question to the first router that answers. One that is gone or silent is left out for two seconds, so that not
/// every request has to find out.
fn routers(settings: &Settings) -> Value {
    let upstreams: Vec<_> = settings.routers.iter().map(|path| json!({"dial": format!("unix/{path}")})).collect();
    json!({
        "handler": "reverse_proxy",
        "upstreams": upstreams,
        "health_checks": {"passive": {"fail_duration": "2s", "max_fails": 1}},
        "load_balancing": {
            "selection_policy": {"policy": "first"},
            "try_duration": "3s",
            "try_interval": "20ms",
        },
        "transport": {
            "protocol": "http",
            "dial_timeout": "1s",
            "response_header_timeout": "300ms",
            "compression": false,
            "keep_alive": {"max_idle_conns_per_host": 256},
        },
    })
}

/// Asks a router for each request. Its 204 is handled by `found`; any other answer of it is the visitor's.
fn lookup(settings: &Settings, found: &Value) -> Value {
    let mut lookup = routers(settings);
    lookup["rewrite"] = json!({"method": "GET", "uri": "/lookup?"});
    lookup["headers"] = json!({"request": {
        // The routers need these two; what visitors send besides, secrets among it, is none of their business.
        "delete": ["*"],
        "set": {"Host": ["{http.request.hostport}"], "X-Forwarded-Uri": ["{http.request.orig_uri}"]},
    }});
    lookup["handle_response"] = json!([{"match": {"status_code": [204]}, "routes": [{"handle": found}]}]);
    lookup
}

/// To the app. What the router says of the Node's identity, which is only at the health path, goes along with the app's
/// answer: a check then knows whose app it was that answered.
fn to_app() -> Value {
    let identity = "{http.reverse_proxy.header.X-Roadstead-Identity}";
    json!([{"handler": "subroute", "routes": [
        // Kept aside: by the time the app has answered, the router's answer is forgotten.
        {"handle": [{"handler": "vars", "roadstead_upstream": "{http.reverse_proxy.header.X-Upstream}",
            "roadstead_identity": identity}]},
        {
            "match": [{"not": [{"vars": {"roadstead_identity": [""]}}]}],
            "handle": [{"handler": "headers", "response": {
                "deferred": true,
                "set": {"X-Roadstead-Identity": ["{http.vars.roadstead_identity}"]},
            }}],
        },
        {"handle": [{
            "handler": "reverse_proxy",
            "upstreams": [{"dial": "{http.vars.roadstead_upstream}"}],
            "transport": {"protocol": "http", "dial_timeout": "2s"},
            // Open WebSockets outlive a changed configuration this long.
            "stream_close_delay": "5m",
        }]},
    ]}])
}

/// Of plain requests the routers also learn who was asked already for what a certificate authority wants to know.
fn of_authority(mut lookup: Value) -> Value {
    lookup["headers"]["request"]["set"]["X-Roadstead-Asked"] = json!(["{http.request.header.X-Roadstead-Asked}"]);
    lookup
}

/// To the next host that shares the name, if the router says so; else the visitor is sent to HTTPS.
fn to_peer_or_https() -> Value {
    json!([{"handler": "subroute", "routes": [
        {"handle": [{"handler": "vars", "roadstead_peer": "{http.reverse_proxy.header.X-Upstream}",
            "roadstead_asked": "{http.reverse_proxy.header.X-Roadstead-Asked}"}]},
        {
            "match": [{"not": [{"vars": {"roadstead_asked": [""]}}]}],
            "handle": [{
                "handler": "reverse_proxy",
                "upstreams": [{"dial": "{http.vars.roadstead_peer}"}],
                "headers": {"request": {"set": {"X-Roadstead-Asked": ["{http.vars.roadstead_asked}"]}}},
                "transport": {"protocol": "http", "dial_timeout": "2s", "response_header_timeout": "5s"},
            }],
            "terminal": true,
        },
        {"handle": [to_https()]},
    ]}])
}

fn to_https() -> Value {
    json!({
        "handler": "static_response",
        "status_code": 308,
        "headers": {"Location": ["https://{http.request.host}{http.request.uri}"]},
    })
}

/// What visitors read when Caddy itself fails. An app's own answers pass as they are.
fn errors() -> Value {
    let page = |statuses: &str, status: u16, body: &str| {
        json!({
            "match": [{"expression": format!("{{http.error.status_code}} in [{statuses}]")}],
            "handle": [{"handler": "static_response", "status_code": status, "body": body}],
        })
    };
    json!({"routes": [
        page("502, 504", 502, BAD_GATEWAY),
        page("503", 503, UNAVAILABLE),
        page("500", 500, "Internal Server Error"),
        {"handle": [{
            "handler": "static_response",
            "status_code": "{http.error.status_code}",
            "body": "{http.error.status_text}",
        }]},
    ]})
}

fn logging(log: &AccessLog) -> Value {
    json!({"logs": {
        // Else each request is in Caddy's own log too.
        "default": {"exclude": ["http.log.access.sites"]},
        "sites": {
            "include": ["http.log.access.sites"],
            "encoder": {"format": "json"},
            "writer": {
                "output": "file",
                "filename": log.file,
                "roll_size_mb": log.megabytes,
                "roll_keep": log.keep,
                "roll_keep_days": log.keep_days,
            },
        },
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            https: vec![":443".to_owned()],
            http: vec![":80".to_owned()],
            ask: "127.0.0.1:9099".to_owned(),
            routers: vec!["/run/router/1.sock".to_owned(), "/run/router/2.sock".to_owned()],
            admin: AdminSocket { path: "/run/caddy/admin.sock".to_owned(), mode: 0o660 },
            issuer: Issuer::Acme {
                directory: "https://acme.example/directory".to_owned(),
                email: Some("ops@example.com".to_owned()),
                ca_file: Some("/etc/caddy/acme-root.pem".to_owned()),
            },
            access_log: Some(AccessLog {
                file: "/var/log/caddy/access.log".to_owned(),
                megabytes: 50,
                keep: 5,
                keep_days: 14,
            }),
        }
    }

    #[test]
    fn every_setting_is_where_caddy_looks_for_it() {
        let config = Config::new(&settings()).0;
        let at = |pointer: &str| config.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {config:#}"));
        let issuer = "/apps/tls/automation/policies/0/issuers/0";
        for (pointer, value) in [
            ("/admin/listen", json!("unix//run/caddy/admin.sock|0660")),
            ("/apps/http/http_port", json!(80)),
            ("/apps/http/servers/http/listen", json!([":80"])),
            ("/apps/http/servers/https/listen", json!([":443"])),
            ("/apps/http/servers/https/logs/default_logger_name", json!("sites")),
            ("/apps/tls/automation/on_demand/permission/endpoint", json!("http://127.0.0.1:9099/ask")),
            (&format!("{issuer}/ca"), json!("https://acme.example/directory")),
            (&format!("{issuer}/email"), json!("ops@example.com")),
            (&format!("{issuer}/trusted_roots_pem_files/0"), json!("/etc/caddy/acme-root.pem")),
            ("/logging/logs/sites/writer/filename", json!("/var/log/caddy/access.log")),
            ("/logging/logs/sites/writer/roll_size_mb", json!(50)),
        ] {
            assert_eq!(*at(pointer), value, "{pointer}");
        }
        let routers = json!([{"dial": "unix//run/router/1.sock"}, {"dial": "unix//run/router/2.sock"}]);
        for server in ["ask", "http", "https"] {
            assert_eq!(*at(&format!("/apps/http/servers/{server}/routes/0/handle/0/upstreams")), routers, "{server}");
        }
        assert_eq!(config.pointer("/apps/pki"), None);
    }

    #[test]
    fn caddy_s_own_root_stays_out_of_the_system_s_trust_store() {
        let config = Config::new(&Settings { issuer: Issuer::Internal, access_log: None, ..settings() }).0;
        assert_eq!(config["apps"]["pki"]["certificate_authorities"]["local"]["install_trust"], json!(false));
        assert_eq!(config.get("logging"), None);
    }

    #[test]
    fn the_hash_changes_with_a_setting_and_not_with_the_order_of_fields() {
        let config = Config::new(&settings());
        assert_eq!(config.hash(), Config::new(&settings()).hash());
        assert_ne!(config.hash(), Config::new(&Settings { ask: "127.0.0.1:9098".to_owned(), ..settings() }).hash());
        let (one, other) = (Config(json!({"a": 1, "b": [2]})), Config(json!({"b": [2], "a": 1})));
        assert_eq!(one.hash(), other.hash());
        assert_ne!(one.hash(), Config(json!({"a": 1, "b": [2, 2]})).hash());
    }

    #[test]
    fn an_empty_caddy_is_loaded_a_foreign_one_replaced_and_ours_left_alone() {
        let config = Config::new(&settings());
        let etag = Some("\"/config/ 1f\"");
        assert_eq!(config.next(config.json().as_bytes(), etag), Step::Done);
        assert_eq!(config.next(b"null\n", etag), Step::Load);
        assert_eq!(config.next(Config::bootstrap(&settings()).json().as_bytes(), etag), Step::Load);
        let foreign = config.next(br#"{"apps": {"http": {}}}"#, etag);
        assert_eq!(foreign, Step::Replace { if_match: "\"/config/ 1f\"".to_owned() });
        assert_eq!(foreign.request().unwrap().1[1], ("if-match", "\"/config/ 1f\""));
        assert_eq!((Step::Load.request().unwrap().0, Step::Done.request()), ("/load", None));
    }

    #[test]
    fn a_refusal_says_what_caddy_said() {
        assert_eq!(judge(200, b""), Ok(()));
        assert_eq!(judge(412, b"{}"), Err(NotTaken::Changed));
        let refused = judge(400, br#"{"error": "loading config: unknown module"}"#).unwrap_err();
        assert!(refused.to_string().ends_with("keeps the last good one: loading config: unknown module"));
        assert_eq!(judge(500, b"oops"), Err(NotTaken::Refused("status 500".to_owned())));
    }
}
