//! DNS records as plain values: what we want, what a zone holds, and when the two are the same.
//!
//! Comparison is canonical: names in lower-case punycode, TXT content unquoted and joined, the TTL of a proxied record
//! always 1 ("automatic"). Comparing what an API returned byte for byte with what was sent to it makes a writer that
//! never comes to rest.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::api::names::{Fqdn, Mark};

/// The TTL Cloudflare shows for a record whose TTL it chooses, which is every proxied record.
pub const TTL_AUTO: u32 = 1;

/// The longest TXT content we publish in one record, in bytes: the stricter of Cloudflare's two documented limits.
pub const TXT_MAX: usize = 2048;

/// What a record we publish says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Text, unquoted and joined.
    Txt(String),
}

/// The record types the planner tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Text.
    Txt,
}

impl Kind {
    /// The name used in DNS and by the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Txt => "TXT",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Content {
    /// The record type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::Aaaa,
            Self::Txt(_) => Kind::Txt,
        }
    }

    /// The content as the API wants it: an address, or quoted strings of at most 255 bytes (RFC 1035 §5.1).
    #[must_use]
    pub fn to_wire(&self) -> String {
        match self {
            Self::A(address) => address.to_string(),
            Self::Aaaa(address) => address.to_string(),
            Self::Txt(text) => quote(text),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => address.fmt(f),
            Self::Aaaa(address) => address.fmt(f),
            Self::Txt(text) => text.fmt(f),
        }
    }
}

/// One record an owner wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Desired {
    /// Where.
    pub name: Fqdn,
    /// What.
    pub content: Content,
    /// Seconds. Ignored while `proxied`, which has no TTL of its own.
    pub ttl: u32,
    /// Whether Cloudflare's proxy answers in its place. Only for addresses; ignored for TXT.
    pub proxied: bool,
}

impl Desired {
    /// Whether the record will be proxied: never for TXT.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.proxied && self.content.kind() != Kind::Txt
    }

    /// The TTL the zone will show: 1 when proxied.
    #[must_use]
    pub fn effective_ttl(&self) -> u32 {
        if self.is_proxied() { TTL_AUTO } else { self.ttl }
    }
}

/// A record of ours as the zone holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The API's id.
    pub id: String,
    /// Where.
    pub name: Fqdn,
    /// What.
    pub content: Content,
    /// Seconds; 1 when proxied.
    pub ttl: u32,
    /// Whether the proxy answers in its place.
    pub proxied: bool,
}

/// What some record in the zone says, in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A type we publish ourselves.
    Known(Content),
    /// Any other type, or content we cannot read.
    Other {
        /// The type, upper case.
        kind: Box<str>,
        /// The content as the API shows it.
        content: Box<str>,
    },
}

impl Value {
    /// Reads the type and content of a record as an API shows them.
    #[must_use]
    pub fn from_wire(kind: &str, content: &str) -> Self {
        let known = match kind {
            "A" => content.parse().ok().map(Content::A),
            "AAAA" => content.parse().ok().map(Content::Aaaa),
            "TXT" => Some(Content::Txt(unquote(content))),
            _ => None,
        };
        known.map_or_else(|| Self::Other { kind: kind.into(), content: content.into() }, Self::Known)
    }

    /// The record type, upper case.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Known(content) => content.kind().as_str(),
            Self::Other { kind, .. } => kind,
        }
    }

    /// The content for a person to read.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Known(content) => content.to_string(),
            Self::Other { content, .. } => content.to_string(),
        }
    }

    /// The content, if it is of a type we publish.
    #[must_use]
    pub fn known(&self) -> Option<&Content> {
        match self {
            Self::Known(content) => Some(content),
            Self::Other { .. } => None,
        }
    }
}

/// Any record of the zone, ours or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The API's id.
    pub id: Box<str>,
    /// Lower-case punycode. Not an [`Fqdn`]: other people's records may have any name.
    pub name: Box<str>,
    /// What it says.
    pub value: Value,
    /// Seconds; 1 when automatic.
    pub ttl: u32,
    /// Whether the proxy answers in its place.
    pub proxied: bool,
    /// The mark in its comment, if that is exactly a mark of ours.
    pub mark: Option<Mark>,
}

/// A name in the one spelling we compare: lower-case punycode without a root dot. A name that is no valid IDN is only
/// lowered, since it is somebody else's.
#[must_use]
pub fn canonical_name(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_lowercase())
}

/// `text` as quoted strings of at most 255 bytes, with `"`, `\` and everything that is not printable ASCII escaped.
#[must_use]
pub fn quote(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let mut wire = String::with_capacity(text.len() + 2);
    for (n, string) in text.as_bytes().chunks(255).enumerate() {
        wire.push_str(if n == 0 { "\"" } else { " \"" });
        for &byte in string {
            match byte {
                b'"' | b'\\' => {
                    wire.push('\\');
                    wire.push(char::from(byte));
                }
                b' '..=b'~' => wire.push(char::from(byte)),
                _ => {
                    let _ = write!(wire, "\\{byte:03}"); // writing to a String cannot fail
                }
            }
        }
        wire.push('"');
    }
    wire
}

/// TXT content as an API shows it, unquoted and joined. Content that does not start with a quote is taken as it is.
#[must_use]
pub fn unquote(wire: &str) -> String {
    let trimmed = wire.trim();
    if !trimmed.starts_with('"') {
        return wire.to_owned();
    }
    let mut text = Vec::with_capacity(trimmed.len());
    let mut inside = false;
    let mut rest = trimmed.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => inside = !inside,
            b'\\' if inside => {
                let code = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u8>().ok());
                if let Some(code) = code {
                    text.push(code);
                    rest = &rest[3..];
                } else if let Some((&escaped, tail)) = rest.split_first() {
                    text.push(escaped);
                    rest = tail;
                }
            }
            _ if inside => text.push(byte),
            _ => {} // the blank between two strings
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn txt_is_the_same_however_it_is_quoted_or_split() {
        for (wire, text) in [
            (r#""10.0.0.1,10.0.0.2""#, "10.0.0.1,10.0.0.2"),
            ("10.0.0.1,10.0.0.2", "10.0.0.1,10.0.0.2"),
            (r#""10.0.0.1," "10.0.0.2""#, "10.0.0.1,10.0.0.2"),
            (r#""say \"hi\"""#, r#"say "hi""#),
            (r#""\195\164""#, "ä"),
            (r#""""#, ""),
            ("", ""),
        ] {
            assert_eq!(Value::from_wire("TXT", wire), Value::Known(Content::Txt(text.into())), "{wire}");
        }
    }

    #[test]
    fn an_ipv6_address_is_the_same_however_it_is_abbreviated() {
        assert_eq!(Value::from_wire("AAAA", "2001:DB8:0:0::1"), Value::from_wire("AAAA", "2001:db8::1"));
    }

    #[test]
    fn names_are_compared_in_lower_case_punycode() {
        for (name, canonical) in [
            ("WEB.Example.com.", "web.example.com"),
            ("bücher.example.com", "xn--bcher-kva.example.com"),
            ("_wrap.Web.example.com", "_wrap.web.example.com"),
        ] {
            assert_eq!(canonical_name(name), canonical);
        }
    }

    #[test]
    fn a_proxied_address_has_ttl_one_and_text_is_never_proxied() {
        let name = Fqdn::parse("web.example.com").unwrap();
        let content = Content::A(Ipv4Addr::LOCALHOST);
        let address = Desired { name, content, ttl: 300, proxied: true };
        assert_eq!(address.effective_ttl(), TTL_AUTO);
        let text = Desired { content: Content::Txt("x".into()), ..address };
        assert!(!text.is_proxied());
        assert_eq!(text.effective_ttl(), 300);
    }

    proptest! {
        #[test]
        fn any_text_survives_quoting(text in "\\PC{0,600}|[ -~]{0,600}") {
            prop_assert_eq!(unquote(&quote(&text)), text);
        }

        #[test]
        fn no_quoted_string_is_longer_than_255_bytes(text in "[a-z0-9.,]{0,1200}") {
            for string in quote(&text).split(' ') {
                prop_assert!(string.len() <= 257, "{}", string.len());
            }
        }
    }
}
