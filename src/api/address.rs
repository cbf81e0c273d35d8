//! Addresses of servers: an IP address or a hostname, with a port or without one, in the one spelling we publish.
//!
//! An address goes into a comma list that clients split, so nothing that could be taken for more than one address gets
//! past [`ServerAddress::parse`].

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::names::Fqdn;

/// What a list says when it names nobody. No server may be called so.
pub const NOBODY: &str = "no-healthy-servers";

/// Why an address was refused. The text names the value and what would be right. It quotes at most 80 characters of what
/// was written, and no control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an IP address nor a hostname, with a port or without one.
    #[error(
        "`{0}` is not a server's address: write an IP address or a hostname, and a port after a colon if it needs one, \
         e.g. `203.0.113.7`, `origin-7.example.net:8080` or `[2001:db8::7]:8080`"
    )]
    Malformed(String),
    /// Looks like an IPv4 address and is none.
    #[error("`{0}` is not an IPv4 address: write four numbers from 0 to 255 without leading zeros")]
    NotIpv4(String),
    /// An IP address that no single server can have.
    #[error("`{0}` is no server's address: it is unspecified, broadcast or multicast")]
    NotUnicast(String),
    /// The words that stand for an empty list.
    #[error("`no-healthy-servers` stands for an empty list: give the server another name")]
    Sentinel,
    /// A port where none belongs.
    #[error("`{0}` has a port: write the address alone, which stands for every server of the group at that address")]
    Port(String),
}

/// A text from outside, fit for a message.
fn quote(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

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
    /// Parses a host without a port, into its canonical form: an IP address as RFC 5952 writes it, IPv4 within IPv6 as
    /// IPv4, or a hostname in lower case.
    ///
    /// # Errors
    /// [`AddressError`] for anything but an IP address of one server or a hostname.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            if ip.is_unspecified() || ip.is_multicast() || broadcast {
                return Err(AddressError::NotUnicast(quote(text)));
            }
            return Ok(Self::Ip(ip));
        }
        let name = text.to_ascii_lowercase();
        // An underscore is no part of a host's name.
        let fqdn = Fqdn::parse(&name).ok().filter(|name| !name.as_str().contains('_'));
        let fqdn = fqdn.ok_or_else(|| AddressError::Malformed(quote(text)))?;
        let last = name.rsplit('.').next().unwrap_or_default();
        // What ends in a number, be it hexadecimal, is an IPv4 address to every client that resolves it, and not always
        // the same one.
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(AddressError::NotIpv4(quote(text)));
        }
        if name == NOBODY {
            return Err(AddressError::Sentinel);
        }
        Ok(Self::Name(fqdn.to_string()))
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
        let alone = match Host::parse(text) {
            Ok(host) => return Ok(Self { host, port: None }),
            Err(error) => error,
        };
        if text.parse::<IpAddr>().is_ok() {
            return Err(alone);
        }
        let bad = || AddressError::Malformed(quote(text));
        let (host, port) = text.rsplit_once(':').ok_or(alone)?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(bracketed) => {
                let v6 = bracketed.filter(|v6| v6.parse::<Ipv6Addr>().is_ok()).ok_or_else(bad)?;
                Host::parse(v6)?
            }
            None if host.contains(':') => return Err(bad()),
            None => Host::parse(host)?,
        };
        let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or_else(bad)?;
        Ok(Self { host, port: Some(port) })
    }

    /// As [`ServerAddress::parse`], for an address that is to stand for every server at it, whatever its port.
    ///
    /// # Errors
    /// As there, and [`AddressError::Port`].
    pub fn parse_portless(text: &str) -> Result<Self, AddressError> {
        let address = Self::parse(text)?;
        if address.port.is_some() { Err(AddressError::Port(quote(text))) } else { Ok(address) }
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
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
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
            "a\\b",
            "a\u{7f}",
            "a\u{3002}b",
            "10.0.0.1 ",
            "10.0.0.1,10.0.0.2",
            "fe80::1%eth0",
            "http://a",
            "user@a",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
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
        ] {
            let refused = ServerAddress::parse(text);
            assert!(matches!(refused, Err(AddressError::Malformed(_))), "{text:?}: {refused:?}");
        }
        for text in ["no-healthy-servers", "No-Healthy-Servers", "no-healthy-servers:80"] {
            assert_eq!(ServerAddress::parse(text), Err(AddressError::Sentinel));
        }
    }

    #[test]
    fn what_clients_might_take_for_another_ip_address_or_for_none_is_refused() {
        for text in ["256.1.1.1", "010.0.0.1", "10.0.1", "1", "0x7f.0x1", "1.2.3.0x4", "1.2.3.4.5", "1.2.3.999", "3com"]
        {
            assert_eq!(ServerAddress::parse(text), Err(AddressError::NotIpv4(text.to_owned())));
            assert_eq!(ServerAddress::parse(&format!("{text}:80")), Err(AddressError::NotIpv4(text.to_owned())));
        }
        for text in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:224.0.0.1"] {
            assert_eq!(ServerAddress::parse(text), Err(AddressError::NotUnicast(text.to_owned())));
        }
    }

    #[test]
    fn a_refusal_quotes_little_and_no_control_characters() {
        let message = ServerAddress::parse(&format!("\u{1b}[31m{}", "x ".repeat(5000))).unwrap_err().to_string();
        assert!(message.len() < 400 && !message.contains('\u{1b}'), "{message}");
    }

    #[test]
    fn an_address_that_stands_for_every_port_has_none() {
        assert_eq!(ServerAddress::parse_portless("A.example.com"), ServerAddress::parse("a.example.com"));
        for text in ["a:80", "10.0.0.1:80", "[::1]:80"] {
            assert_eq!(ServerAddress::parse_portless(text), Err(AddressError::Port(text.to_owned())));
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
        fn whatever_is_taken_reads_back_and_cannot_forge_a_list(
            text in prop_oneof![
                "\\PC{0,40}", ".{0,40}", "[a-z0-9.:\\[\\]-]{1,30}", "[a-zA-Z0-9.:,\"' _\\-\\\\;%\\[\\]]{0,24}",
                "([0-9]{1,3}[.,]){3}[0-9]{1,3}"
            ]
        ) {
            if let Ok(address) = ServerAddress::parse(&text) {
                let published = address.to_string();
                let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b);
                prop_assert!(published.bytes().all(safe), "{text:?} became {address}");
                prop_assert!((1..=260).contains(&published.len()));
                prop_assert_ne!(published.as_str(), NOBODY);
                prop_assert_eq!(ServerAddress::parse(&published), Ok(address));
            }
        }
    }
}
