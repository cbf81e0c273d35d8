//! The routing table of a host: which name is answered how. A plain value, and its JSON form.
//!
//! The operator writes it, `roadstead router` reads it, and both by these functions. A table is checked as a whole when
//! it is made or parsed, so that whoever holds one can answer from it without another look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::api::names::Fqdn;

/// The form this program writes, and the only one it reads. Another form, another number.
pub const VERSION: u64 = 1;

/// Every site answers this path with its Node's nonce: so a probe can tell our host from a stranger at an address that
/// was ours before.
pub const IDENTITY_PATH: &str = "/.well-known/roadstead/identity";

/// What the aliases of apps begin with, as [`overlay::alias`](super::compose::overlay::alias) makes them.
const UPSTREAM: &str = super::compose::overlay::RESERVED;
/// The longest name there is, in bytes.
const MAX_NAME: usize = 253;
/// The longest health path.
const MAX_PATH: usize = 512;

/// Whose host this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// What the identity path answers: 16 to 64 of `A-Z`, `a-z`, `0-9`, `-` and `_`.
    pub nonce: Box<str>,
    /// The path that health checks ask for.
    pub health_path: Box<str>,
}

/// How a name is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Route {
    /// By an app.
    Upstream {
        /// Its alias in a network of the proxy, or an address.
        alias: Box<str>,
        /// Its port.
        port: u16,
        /// See [`Route::peer`].
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
    },
    /// By sending the visitor to the same path of another host.
    Redirect {
        /// The host.
        to: Box<str>,
        /// 301 or 308 for good, 302 or 307 for now. 307 and 308 keep method and body.
        code: u16,
        /// See [`Route::peer`].
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
    },
    /// By the maintenance page.
    Maintenance,
    /// By 503: the app was withdrawn.
    Unavailable,
    /// As a host does to which no app was deployed yet.
    Placeholder,
}

impl Route {
    /// The code of a redirect for good, which keeps method and body.
    pub const PERMANENT: u16 = 308;
    /// The code of a redirect for now, which keeps method and body.
    pub const TEMPORARY: u16 = 307;

    /// Where plain HTTP is served by the next of the hosts that share the name. A certificate authority asks one of them,
    /// not always the one that asked it (RFC 8555, 8.3): what that one does not know, another does.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Upstream { peer, .. } | Self::Redirect { peer, .. } => *peer,
            Self::Maintenance | Self::Unavailable | Self::Placeholder => None,
        }
    }
}

/// Why there is no table: a sentence that names the host and the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TableError(String);

impl TableError {
    fn host(host: &str, problem: impl fmt::Display) -> Self {
        Self(format!("host {host:?}: {problem}"))
    }

    fn field(host: &str, field: &str, problem: impl fmt::Display) -> Self {
        Self(format!("host {host:?}, field {field}: {problem}"))
    }

    fn node(field: &str, problem: impl fmt::Display) -> Self {
        Self(format!("field node.{field}: {problem}"))
    }
}

/// A checked routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    node: Node,
    hosts: HashMap<Box<str>, Route>,
}

impl Table {
    /// A table of these routes.
    ///
    /// # Errors
    /// What is wrong with the first field, or the first host, that is wrong.
    pub fn new<H: Into<Box<str>>>(
        node: Node,
        routes: impl IntoIterator<Item = (H, Route)>,
    ) -> Result<Self, TableError> {
        check_node(&node)?;
        let mut table = Self { node, hosts: HashMap::new() };
        for (host, route) in routes {
            table.add(host.into(), route)?;
        }
        Ok(table)
    }

    /// This table with what an app answers now: `routes`, and none of its other `names`. The Node's `own` name is never
    /// without an answer.
    ///
    /// # Errors
    /// What is wrong with the first of the routes that is wrong.
    pub fn with(
        &self,
        names: &BTreeSet<String>,
        routes: &BTreeMap<String, Route>,
        own: Option<&str>,
    ) -> Result<Self, TableError> {
        let others = self.iter().filter(|(name, _)| !names.contains(*name) && !routes.contains_key(*name));
        let of_app = routes.iter().map(|(name, route)| (name.as_str(), route));
        let mut all: BTreeMap<&str, Route> = others.chain(of_app).map(|(name, route)| (name, route.clone())).collect();
        if let Some(own) = own {
            all.entry(own).or_insert(Route::Placeholder);
        }
        Self::new(self.node.clone(), all)
    }

    fn add(&mut self, host: Box<str>, route: Route) -> Result<(), TableError> {
        Fqdn::parse(&host).map_err(|error| TableError::host(&host, error))?;
        check_route(&host, &route)?;
        if self.hosts.contains_key(&host) {
            return Err(TableError::host(&host, "is there twice"));
        }
        self.hosts.insert(host, route);
        Ok(())
    }

    /// The table that this JSON says.
    ///
    /// # Errors
    /// That it is no JSON, is of another version, or what is wrong with which field of which host.
    pub fn parse(json: &[u8]) -> Result<Self, TableError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: Option<Value>,
        }
        let said = |error: serde_json::Error| {
            let what = if error.is_data() { "" } else { "the table is no JSON: " };
            TableError(format!("{what}{error}"))
        };
        // By itself and first: of a table of another version nothing else means what it says here.
        match serde_json::from_slice::<Versioned>(json).map_err(said)?.version {
            Some(version) if version.as_u64() == Some(VERSION) => {}
            Some(version) => {
                let problem =
                    format!("field version: this is a table of version {version}, and {VERSION} is read here");
                return Err(TableError(problem));
            }
            None => return Err(TableError(format!("field version: is missing, and would be {VERSION}"))),
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let table = deserializer.deserialize_map(Document).map_err(said)?;
        deserializer.end().map_err(said)?;
        Ok(table)
    }

    /// The table as JSON. Equal tables give equal texts.
    #[must_use]
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Canonical<'a> {
            version: u64,
            node: &'a Node,
            hosts: BTreeMap<&'a str, &'a Route>,
        }
        let canonical = Canonical { version: VERSION, node: &self.node, hosts: self.iter().collect() };
        // Strings and numbers under string keys: there is nothing that could fail.
        serde_json::to_string(&canonical).unwrap_or_default()
    }

    /// 16 hex digits of the SHA-256 of [`Table::json`]: what a router says it serves.
    #[must_use]
    pub fn hash(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(self.json())[..8])
    }

    /// How a request for this host is answered: its `Host` header, in any case, with or without a port and a trailing
    /// dot. One look into a hash table, and no allocation.
    #[must_use]
    pub fn lookup(&self, host: &str) -> Option<&Route> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut buffer = [0; MAX_NAME];
        let lower = buffer.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        self.hosts.get(std::str::from_utf8(lower).ok()?)
    }

    /// Whose host this is.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Every name with its route, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Route)> {
        self.hosts.iter().map(|(host, route)| (&**host, route))
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

fn check_node(node: &Node) -> Result<(), TableError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !(16..=64).contains(&node.nonce.len()) || !node.nonce.bytes().all(plain) {
        return Err(TableError::node("nonce", "use 16 to 64 of A-Z, a-z, 0-9, `-` and `_`"));
    }
    let visible = node.health_path.bytes().all(|b| b.is_ascii_graphic());
    if !node.health_path.starts_with('/') || node.health_path.len() > MAX_PATH || !visible {
        let problem = format!(
            "{:?} is no path: begin with `/`, and use at most {MAX_PATH} visible ASCII characters",
            node.health_path
        );
        return Err(TableError::node("healthPath", problem));
    }
    Ok(())
}

fn check_route(host: &str, route: &Route) -> Result<(), TableError> {
    match route {
        Route::Upstream { alias, port, peer: _ } => {
            if alias.parse::<IpAddr>().is_err() {
                // What no name of a user's may begin with, the names of our upstreams do.
                let name = alias.strip_prefix(UPSTREAM).unwrap_or(alias);
                Fqdn::parse(name).map_err(|error| TableError::field(host, "upstream.alias", error))?;
            }
            if *port == 0 {
                return Err(TableError::field(host, "upstream.port", "0 is no port: use 1 to 65535"));
            }
        }
        Route::Redirect { to, code, peer: _ } => {
            Fqdn::parse(to).map_err(|error| TableError::field(host, "redirect.to", error))?;
            if **to == *host {
                return Err(TableError::field(host, "redirect.to", "leads to itself: name another host"));
            }
            if ![301, 302, 307, 308].contains(code) {
                let problem = format!("{code} is no redirect here: use 301, 302, 307 or 308");
                return Err(TableError::field(host, "redirect.code", problem));
            }
        }
        Route::Maintenance | Route::Unavailable | Route::Placeholder => {}
    }
    Ok(())
}

/// Reads a whole table. Host by host, because the values of ten thousand hosts at once would take more memory than the
/// router may.
struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Table;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a routing table, {version, node, hosts}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
        let (mut node, mut hosts) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "version" => map.next_value::<Value>().map(|_| false)?,
                "node" => node.replace(read_node(map.next_value()?).map_err(A::Error::custom)?).is_some(),
                "hosts" => hosts.replace(map.next_value_seed(Hosts)?).is_some(),
                _ => {
                    let problem = format!("field {key}: is unknown: use version, node and hosts");
                    return Err(A::Error::custom(problem));
                }
            };
            if twice {
                return Err(A::Error::custom(format!("field {key}: is there twice")));
            }
        }
        let missing = |field: &str| A::Error::custom(format!("field {field}: is missing"));
        let node = node.ok_or_else(|| missing("node"))?;
        check_node(&node).map_err(A::Error::custom)?;
        let hosts = hosts.ok_or_else(|| missing("hosts"))?;
        Ok(Table { node, hosts })
    }
}

/// Reads the hosts of a table.
struct Hosts;

impl<'de> DeserializeSeed<'de> for Hosts {
    type Value = HashMap<Box<str>, Route>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Hosts {
    type Value = HashMap<Box<str>, Route>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hosts of a routing table, {<name>: <route>}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // Its node is not looked at: only its hosts are kept.
        let node = Node { nonce: "".into(), health_path: "".into() };
        let mut table = Table { node, hosts: HashMap::new() };
        while let Some(host) = map.next_key::<Box<str>>()? {
            let value = map.next_value().map_err(|error| A::Error::custom(TableError::host(&host, error)))?;
            let route = read_route(&host, value).map_err(A::Error::custom)?;
            table.add(host, route).map_err(A::Error::custom)?;
        }
        table.hosts.shrink_to_fit();
        Ok(table.hosts)
    }
}

fn read_node(value: Value) -> Result<Node, TableError> {
    let Value::Object(mut fields) = value else {
        return Err(TableError("field node: is no object: use {nonce, healthPath}".to_owned()));
    };
    let mut text = |field: &str| match fields.remove(field) {
        Some(Value::String(text)) => Ok(text.into_boxed_str()),
        Some(_) => Err(TableError::node(field, "is no text")),
        None => Err(TableError::node(field, "is missing")),
    };
    let node = Node { nonce: text("nonce")?, health_path: text("healthPath")? };
    match fields.keys().next() {
        Some(field) => Err(TableError::node(field, "is unknown: use nonce and healthPath")),
        None => Ok(node),
    }
}

fn read_route(host: &str, value: Value) -> Result<Route, TableError> {
    let unknown = || {
        let kinds = "{\"upstream\": {alias, port, peer}}, {\"redirect\": {to, code, peer}}, \"maintenance\", \
                     \"unavailable\" or \"placeholder\"";
        TableError::host(host, format!("has no route: use {kinds}"))
    };
    match value {
        Value::String(kind) => match kind.as_str() {
            "maintenance" => Ok(Route::Maintenance),
            "unavailable" => Ok(Route::Unavailable),
            "placeholder" => Ok(Route::Placeholder),
            _ => Err(unknown()),
        },
        Value::Object(kinds) if kinds.len() == 1 => {
            let Some((kind, Value::Object(fields))) = kinds.into_iter().next() else { return Err(unknown()) };
            let mut fields = Fields { host, kind: &kind, left: fields };
            let route = match kind.as_str() {
                "upstream" => Route::Upstream {
                    alias: fields.text("alias")?,
                    port: fields.number("port", None)?,
                    peer: fields.address("peer")?,
                },
                "redirect" => Route::Redirect {
                    to: fields.text("to")?,
                    code: fields.number("code", Some(Route::PERMANENT))?,
                    peer: fields.address("peer")?,
                },
                _ => return Err(unknown()),
            };
            fields.end()?;
            Ok(route)
        }
        _ => Err(unknown()),
    }
}

/// The fields of a host's route, taken one by one.
struct Fields<'a> {
    host: &'a str,
    kind: &'a str,
    left: Map<String, Value>,
}

impl Fields<'_> {
    fn error(&self, field: &str, problem: impl fmt::Display) -> TableError {
        TableError::field(self.host, &format!("{}.{field}", self.kind), problem)
    }

    fn text(&mut self, field: &str) -> Result<Box<str>, TableError> {
        match self.left.remove(field) {
            Some(Value::String(text)) => Ok(text.into_boxed_str()),
            Some(_) => Err(self.error(field, "is no text")),
            None => Err(self.error(field, "is missing")),
        }
    }

    fn number(&mut self, field: &str, default: Option<u16>) -> Result<u16, TableError> {
        match self.left.remove(field) {
            Some(value) => {
                let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
                number.ok_or_else(|| self.error(field, format!("{value} is no number from 0 to 65535")))
            }
            None => default.ok_or_else(|| self.error(field, "is missing")),
        }
    }

    fn address(&mut self, field: &str) -> Result<Option<SocketAddr>, TableError> {
        let Some(value) = self.left.remove(field) else { return Ok(None) };
        let address = value.as_str().and_then(|text| text.parse().ok());
        address.map(Some).ok_or_else(|| self.error(field, format!("{value} is no address with a port: `192.0.2.1:80`")))
    }

    fn end(self) -> Result<(), TableError> {
        match self.left.keys().next() {
            Some(field) => Err(self.error(field, "is unknown")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
