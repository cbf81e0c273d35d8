//! The address of a server in a group: an IP address or a host name that can stand in a published list.

use std::fmt;
use std::net::IpAddr;

use super::names::Fqdn;

/// What is published when no server is healthy. No server may be called so.
pub const NO_HEALTHY_SERVERS: &str = "no-healthy-servers";

/// Why an address was refused. The text names the value and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an IP address nor a host name.
    #[error(
        "`{0}` is not an address: write an IP address, or a host name of a-z, 0-9, `-` and `.`, with neither scheme nor port"
    )]
    Malformed(String),
    /// Looks like an IPv4 address and is none.
    #[error("`{0}` is not an IPv4 address: write four numbers from 0 to 255 without leading zeros")]
    NotIpv4(String),
    /// An IP address that no single server can have.
    #[error("`{0}` is no server's address: it is unspecified, broadcast or multicast")]
    NotUnicast(String),
    /// The word that stands for an empty list.
    #[error("`no-healthy-servers` stands for an empty list: give the server another name")]
    Sentinel,
}

/// The address of a server, in canonical form: an IP address as RFC 5952 writes it, or a host name in lower case without
/// trailing dot. Holds nothing that could be taken for two entries of a list, for a quote, or for an empty list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberAddress(String);

impl MemberAddress {
    /// Parses what a person or a server wrote.
    ///
    /// # Errors
    /// [`AddressError`], which quotes no more than 80 characters of the text, and none of its control characters.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            if ip.is_unspecified() || ip.is_multicast() || broadcast {
                return Err(AddressError::NotUnicast(quote(text)));
            }
            return Ok(Self(ip.to_string()));
        }
        let name = text.to_ascii_lowercase();
        Fqdn::parse(&name).map_err(|_| AddressError::Malformed(quote(text)))?;
        // What ends in a number is an IPv4 address to every client that resolves it, and not always the same one.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || is_hex_number(last) {
            return Err(AddressError::NotIpv4(quote(text)));
        }
        if name == NO_HEALTHY_SERVERS {
            return Err(AddressError::Sentinel);
        }
        Ok(Self(name))
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The IP address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_hex_number(label: &str) -> bool {
    label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A text from outside, fit for a message.
fn quote(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<String, AddressError> {
        MemberAddress::parse(text).map(|address| address.as_str().to_owned())
    }

    #[test]
    fn an_address_has_one_form_however_it_is_written() {
        for (text, canonical) in [
            ("192.168.1.100", "192.168.1.100"),
            ("10.0.0.1", "10.0.0.1"),
            ("2001:0DB8:0:0:0:0:0:7", "2001:db8::7"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("Server1.Example.COM", "server1.example.com"),
            ("web-1", "web-1"),
            ("3com.example", "3com.example"),
            ("_node.example.com", "_node.example.com"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn what_could_forge_a_list_is_refused() {
        let long = format!("{}.example.com", "a.".repeat(130));
        for text in [
            "",
            " ",
            "a b",
            "a,b",
            "10.0.0.1,10.0.0.2",
            "10.0.0.1 ",
            "\"a\"",
            "a'b",
            "a\\b",
            "a;b",
            "a\nb",
            "a\u{0}b",
            "a\u{7f}",
            "ä.example.com",
            "a\u{3002}b",
            "*.example.com",
            "example.com.",
            "-a.example.com",
            "a..b",
            "http://a.example.com",
            "a.example.com:8080",
            "10.0.0.1:80",
            "[::1]",
            "fe80::1%eth0",
            "a/b",
            &long,
        ] {
            assert!(matches!(parsed(text), Err(AddressError::Malformed(_))), "{text:?}: {:?}", parsed(text));
        }
        assert_eq!(parsed("no-healthy-servers"), Err(AddressError::Sentinel));
        assert_eq!(parsed("No-Healthy-Servers"), Err(AddressError::Sentinel));
    }

    #[test]
    fn what_clients_might_take_for_another_ip_address_is_refused() {
        for text in ["256.1.1.1", "010.0.0.1", "10.0.1", "1", "0x7f.0x1", "1.2.3.0x4", "1.2.3.4.5"] {
            assert_eq!(parsed(text), Err(AddressError::NotIpv4(text.to_owned())));
        }
        for text in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
            assert_eq!(parsed(text), Err(AddressError::NotUnicast(text.to_owned())));
        }
    }

    #[test]
    fn a_refusal_quotes_little_and_no_control_characters() {
        let message = MemberAddress::parse(&format!("\u{1b}[31m{}", "x ".repeat(5000))).unwrap_err().to_string();
        assert!(message.len() < 300 && !message.contains('\u{1b}'), "{message}");
    }

    proptest! {
        #[test]
        fn no_accepted_address_holds_a_character_that_could_forge_a_list(
            text in prop_oneof![".{0,40}", "[a-zA-Z0-9.:,\"' _\\-\\\\;%\\[\\]]{0,24}", "([0-9]{1,3}[.,]){3}[0-9]{1,3}"]
        ) {
            if let Ok(address) = MemberAddress::parse(&text) {
                let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_:".contains(&b);
                prop_assert!(address.as_str().bytes().all(safe), "{text:?} became {address}");
                prop_assert!((1..=253).contains(&address.as_str().len()));
                prop_assert_ne!(address.as_str(), NO_HEALTHY_SERVERS);
                // The canonical form is its own.
                prop_assert_eq!(MemberAddress::parse(address.as_str()), Ok(address.clone()));
                // As the only entry of a list it reads back as itself.
                prop_assert_eq!(address.as_str().split(',').collect::<Vec<_>>(), vec![address.as_str()]);
            }
        }
    }
}
