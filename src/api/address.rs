//! Addresses of servers: an IP address or a hostname, with a port or without one, in the one spelling we publish.
//!
//! An address goes into a comma list that clients split, so nothing that could be taken for more than one address gets
//! past [`ServerAddress::parse`].

use std::fmt;
use std::net::IpAddr;

use super::names::Fqdn;

/// What a list says when it names nobody. No server may be called so.
pub const NOBODY: &str = "no-healthy-servers";

/// Why an address was refused. The text names the value and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a server's address: write an IP address or a hostname, and a port after a colon if it needs one, e.g. \
     `203.0.113.7`, `origin-7.example.net:8080` or `[2001:db8::7]:8080`"
)]
pub struct AddressError(String);

/// Where a server is. Ordered as it is published: IPv4, IPv6, then names; each by its value and then its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddress {
    /// The host.
    pub host: Host,
    /// Its port, where one is named.
    pub port: Option<u16>,
}

/// An IP address or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A hostname, in lower case.
    Name(String),
}

impl Host {
    /// Parses a host without a port. Names are lowered.
    ///
    /// # Errors
    /// [`AddressError`] for anything but an IP address or a hostname.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let name = text.to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        // A last label of digits is a broken IP address, and an underscore no part of a host's name.
        let host = last.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('_');
        match Fqdn::parse(&name) {
            Ok(name) if host && name.as_str() != NOBODY => Ok(Self::Name(name.to_string())),
            _ => Err(AddressError(text.to_owned())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl ServerAddress {
    /// Parses what a person or a server wrote: `host`, `host:port` or `[IPv6]:port`.
    ///
    /// # Errors
    /// [`AddressError`] for anything else: white space, commas, quotes and control characters above all.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Ok(host) = Host::parse(text) {
            return Ok(Self { host, port: None });
        }
        let bad = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(bracketed) => Host::Ip(IpAddr::V6(bracketed.and_then(|v6| v6.parse().ok()).ok_or_else(bad)?)),
            None => Host::parse(host).ok().filter(|host| !matches!(host, Host::Ip(IpAddr::V6(_)))).ok_or_else(bad)?,
        };
        let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or_else(bad)?;
        Ok(Self { host, port: Some(port) })
    }

    /// The address, if it is an IP address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        if let Host::Ip(ip) = self.host { Some(ip) } else { None }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (host, None) => host.fmt(f),
            (Host::Ip(IpAddr::V6(v6)), Some(port)) => write!(f, "[{v6}]:{port}"),
            (host, Some(port)) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (text, canonical) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:80", "203.0.113.7:80"),
            ("203.0.113.7:00080", "203.0.113.7:80"),
            ("Server1.Example.com", "server1.example.com"),
            ("server1.example.com:8080", "server1.example.com:8080"),
            ("2001:DB8:0::7", "2001:db8::7"),
            ("[2001:db8::7]:443", "[2001:db8::7]:443"),
            ("web", "web"),
        ] {
            assert_eq!(ServerAddress::parse(text).map(|a| a.to_string()), Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn whatever_could_forge_a_list_or_is_no_address_is_refused() {
        for text in [
            "",
            " ",
            "a b",
            "a,b",
            "\"a\"",
            "'a'",
            "a\n",
            "a\u{0}",
            "a;b",
            "a/b",
            "http://a",
            "user@a",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "1.2.3",
            "1.2.3.999",
            "1.2.3.4.5",
            "[1.2.3.4]:80",
            "[2001:db8::7]",
            "::1:x",
            "[::1]80",
            "-a.example.com",
            "a..b",
            "a.",
            "*.example.com",
            "_a.example.com",
            "ünser.example.com",
            "203.0.113.7:80:90",
            "no-healthy-servers",
            "no-healthy-servers:80",
        ] {
            assert_eq!(ServerAddress::parse(text), Err(AddressError(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn addresses_sort_by_value_and_names_come_last() {
        let mut all: Vec<_> = ["b.example.com", "10.0.0.10", "a.example.com:80", "10.0.0.9:90", "::1", "10.0.0.9"]
            .map(|text| ServerAddress::parse(text).unwrap())
            .into();
        all.sort();
        let texts: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.9", "10.0.0.9:90", "10.0.0.10", "::1", "a.example.com:80", "b.example.com"]);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_reads_back_and_cannot_forge_a_list(text in "\\PC{0,40}|[a-z0-9.:\\[\\]-]{1,30}") {
            if let Ok(address) = ServerAddress::parse(&text) {
                let published = address.to_string();
                prop_assert_eq!(ServerAddress::parse(&published), Ok(address));
                prop_assert!(!published.contains(|c: char| c == ',' || c == '"' || c.is_whitespace() || c.is_control()));
            }
        }
    }
}
