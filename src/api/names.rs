//! Validated names and ownership marks: the plain types every other module builds on.
//!
//! Parsing happens once, at the edge; what holds one of these types needs no further check. Nothing here knows of
//! Kubernetes beyond the shape of its names.

use std::fmt;

use sha2::{Digest, Sha256};

/// Why a name was refused. The text names the value and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a DNS label (RFC 1035 §2.3.1, digits first allowed by RFC 1123 §2.1).
    #[error("`{0}` is not a DNS label: use 1 to 63 of a-z, 0-9 and `-`, not starting or ending with `-`")]
    Label(String),
    /// A whole name over 253 characters.
    #[error("`{0}` is longer than the 253 characters a DNS name may have")]
    TooLong(String),
    /// A name given with its root dot.
    #[error("`{0}` ends with a dot: write the name without it")]
    TrailingDot(String),
    /// `*` anywhere in a name.
    #[error("`{0}` is a wildcard: name one host")]
    Wildcard(String),
    /// A label kept for Roadstead's own claims.
    #[error("`{0}` starts with `rs--`, which is reserved: choose another label")]
    Reserved(String),
    /// A cluster id outside `[a-z0-9]{1,16}`.
    #[error("`{0}` is not a cluster id: use 1 to 16 of a-z and 0-9")]
    ClusterId(String),
    /// A UID that is no UUID.
    #[error("`{0}` is not a UUID")]
    Uid(String),
}

/// A fully qualified DNS name: lower case, punycode, no trailing dot, every label valid. A leading `_` is allowed in
/// a label, because service names have one (RFC 8552).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fqdn(String);

impl Fqdn {
    /// Parses a name a person wrote.
    ///
    /// # Errors
    /// [`NameError`] saying which label is wrong.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.ends_with('.') {
            return Err(NameError::TrailingDot(name.to_owned()));
        }
        if name.contains('*') {
            return Err(NameError::Wildcard(name.to_owned()));
        }
        if name.len() > 253 {
            return Err(NameError::TooLong(name.to_owned()));
        }
        for label in name.split('.') {
            check_label(label.strip_prefix('_').unwrap_or(label)).map_err(|()| NameError::Label(label.to_owned()))?;
            if label.starts_with("rs--") {
                return Err(NameError::Reserved(label.to_owned()));
            }
        }
        Ok(Self(name.to_owned()))
    }

    /// `labels` under `domain`.
    ///
    /// # Errors
    /// As [`Fqdn::parse`], for the whole name.
    pub fn under(labels: &str, domain: &Fqdn) -> Result<Self, NameError> {
        Self::parse(&format!("{labels}.{domain}"))
    }

    /// The name as written in DNS.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `domain` itself or below it.
    #[must_use]
    pub fn is_within(&self, domain: &Fqdn) -> bool {
        self == domain || self.0.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }

    /// The object name of the claim that holds this name: the name itself, except that a label beginning with `_`,
    /// which Kubernetes does not admit, becomes `rs--u-<label>`.
    #[must_use]
    pub fn claim_name(&self) -> String {
        let labels = self.0.split('.');
        labels
            .map(|label| label.strip_prefix('_').map_or_else(|| label.to_owned(), |rest| format!("rs--u-{rest}")))
            .collect::<Vec<_>>()
            .join(".")
    }
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `label` is a lower-case DNS label.
fn check_label(label: &str) -> Result<(), ()> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ok =
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    ok.then_some(()).ok_or(())
}

/// Which cluster made something outside: `[a-z0-9]{1,16}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterId(String);

impl ClusterId {
    /// Parses a setting.
    ///
    /// # Errors
    /// [`NameError::ClusterId`] when the value is not `[a-z0-9]{1,16}`.
    pub fn parse(id: &str) -> Result<Self, NameError> {
        let ok = (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if ok { Ok(Self(id.to_owned())) } else { Err(NameError::ClusterId(id.to_owned())) }
    }

    /// The id as written in marks.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The mark everything we create outside carries: who made it, for which object, and for which name.
///
/// `owner` finds what a crash left behind; `key` finds what belongs to an object that was lost and restored under
/// another UID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The cluster that wrote the mark.
    pub cluster: ClusterId,
    /// The owner's UID: 26 lower-case base32 characters.
    pub owner: String,
    /// 16 hex digits of SHA-256(`kind/namespace/name`).
    pub key: String,
}

/// How somebody's mark relates to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// Same cluster and owner: ours.
    Own,
    /// The same kind, namespace and name, but another UID or cluster: to be adopted by a person's word, never deleted
    /// and never a reason to create a second one.
    Namesake,
    /// A mark of another object.
    Stranger,
}

impl Mark {
    /// The mark of the object `kind/namespace/name` with UID `uid`.
    ///
    /// # Errors
    /// [`NameError::Uid`] if `uid` is no UUID.
    pub fn new(cluster: ClusterId, kind: &str, namespace: &str, name: &str, uid: &str) -> Result<Self, NameError> {
        Ok(Self { cluster, owner: encode_uid(uid)?, key: key(kind, namespace, name) })
    }

    /// The comment of a DNS record, e.g. `roadstead/1 c=0a1b2c3d o=… k=…`: 70 characters with an 8-character cluster
    /// id, 78 at most, so that it fits Cloudflare's 100 on any plan.
    #[must_use]
    pub fn comment(&self) -> String {
        format!("roadstead/1 c={} o={} k={}", self.cluster.as_str(), self.owner, self.key)
    }

    /// Reads a comment written by [`Mark::comment`]; `None` for anything else, with or without our prefix.
    #[must_use]
    pub fn from_comment(comment: &str) -> Option<Self> {
        let mut parts = comment.strip_prefix("roadstead/1 ")?.split(' ');
        let mark = Self::from_parts(
            parts.next()?.strip_prefix("c=")?,
            parts.next()?.strip_prefix("o=")?,
            parts.next()?.strip_prefix("k=")?,
        );
        if parts.next().is_some() { None } else { mark }
    }

    /// The three tags of a VM, in the order cluster, owner, key.
    #[must_use]
    pub fn tags(&self) -> [String; 3] {
        [Self::cluster_tag(&self.cluster), format!("roadstead:o:{}", self.owner), format!("roadstead:k:{}", self.key)]
    }

    /// The tag that everything of one cluster carries.
    #[must_use]
    pub fn cluster_tag(cluster: &ClusterId) -> String {
        format!("roadstead:c:{}", cluster.as_str())
    }

    /// Reads the tags of a VM; `None` unless all three are there, each once.
    #[must_use]
    pub fn from_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (mut cluster, mut owner, mut key) = (None, None, None);
        for tag in tags {
            let slot = match tag.split_at_checked("roadstead:c:".len()) {
                Some(("roadstead:c:", value)) => (&mut cluster, value),
                Some(("roadstead:o:", value)) => (&mut owner, value),
                Some(("roadstead:k:", value)) => (&mut key, value),
                _ => continue,
            };
            if slot.0.replace(slot.1).is_some() {
                return None;
            }
        }
        Self::from_parts(cluster?, owner?, key?)
    }

    /// The `k` of every mark of an object, whatever its UID.
    #[must_use]
    pub fn key_of(kind: &str, namespace: &str, name: &str) -> String {
        key(kind, namespace, name)
    }

    /// How `other` relates to this mark.
    #[must_use]
    pub fn kinship(&self, other: &Mark) -> Kinship {
        if self.cluster == other.cluster && self.owner == other.owner {
            Kinship::Own
        } else if self.key == other.key {
            Kinship::Namesake
        } else {
            Kinship::Stranger
        }
    }

    fn from_parts(cluster: &str, owner: &str, key: &str) -> Option<Self> {
        let base32 = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
        let ok = owner.len() == 26
            && owner.bytes().all(base32)
            && key.len() == 16
            && key.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let cluster = ClusterId::parse(cluster).ok()?;
        ok.then(|| Self { cluster, owner: owner.to_owned(), key: key.to_owned() })
    }
}

/// 16 hex digits of SHA-256(`kind/namespace/name`).
fn key(kind: &str, namespace: &str, name: &str) -> String {
    let hash = Sha256::digest(format!("{kind}/{namespace}/{name}"));
    data_encoding::HEXLOWER.encode(&hash[..8])
}

/// A UUID as 26 lower-case base32 characters (RFC 4648 without padding).
fn encode_uid(uid: &str) -> Result<String, NameError> {
    let bad = || NameError::Uid(uid.to_owned());
    let hex: String = uid.chars().filter(|c| *c != '-').collect();
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| bad())?;
    if bytes.len() == 16 { Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()) } else { Err(bad()) }
}

/// The name of a VM: `<name>-<first 8 of the uid>-<incarnation>`, unique per object and incarnation. `name` is cut to
/// 48 characters, so the result is a DNS label for any incarnation up to 9999.
#[must_use]
pub fn vm_name(name: &str, uid: &str, incarnation: i64) -> String {
    let short: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let name: String = name.chars().take(48).collect();
    format!("{name}-{short}-{incarnation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";

    fn mark() -> Mark {
        Mark::new(ClusterId::parse("0a1b2c3d").unwrap(), "Node", "shop", "web-1", UID).unwrap()
    }

    #[test]
    fn a_comment_has_seventy_characters_and_reads_back() {
        let comment = mark().comment();
        assert_eq!(comment.len(), 70, "{comment}");
        assert_eq!(Mark::from_comment(&comment), Some(mark()));
    }

    #[test]
    fn tags_read_back_in_any_order_and_a_doubled_one_is_refused() {
        let tags = mark().tags();
        assert_eq!(Mark::from_tags(tags.iter().rev().map(String::as_str)), Some(mark()));
        let doubled = tags.iter().map(String::as_str).chain(["roadstead:o:aaaaaaaaaaaaaaaaaaaaaaaaaa"]);
        assert_eq!(Mark::from_tags(doubled), None);
    }

    #[test]
    fn a_persons_comment_is_never_read_as_a_mark() {
        for comment in ["", "roadstead/1", "roadstead/1 c=a o=b k=c", &format!("{} extra", mark().comment())] {
            assert_eq!(Mark::from_comment(comment), None, "{comment}");
        }
    }

    #[test]
    fn another_uid_of_the_same_name_is_a_namesake_and_another_name_a_stranger() {
        let mut other = mark();
        assert_eq!(mark().kinship(&other), Kinship::Own);
        other.owner = "a".repeat(26);
        assert_eq!(mark().kinship(&other), Kinship::Namesake);
        other.key = "0".repeat(16);
        assert_eq!(mark().kinship(&other), Kinship::Stranger);
    }

    #[test]
    fn names_are_refused_with_what_would_be_right() {
        for (name, error) in [
            ("example.com.", NameError::TrailingDot("example.com.".into())),
            ("*.example.com", NameError::Wildcard("*.example.com".into())),
            ("Web.example.com", NameError::Label("Web".into())),
            ("-a.example.com", NameError::Label("-a".into())),
            ("a..example.com", NameError::Label(String::new())),
            ("rs--zone.example.com", NameError::Reserved("rs--zone".into())),
        ] {
            assert_eq!(Fqdn::parse(name), Err(error), "{name}");
        }
        assert!(Fqdn::parse("_wrap.web-a1.example.com").is_ok());
    }

    #[test]
    fn a_name_is_within_its_own_domain_but_not_within_a_look_alike() {
        let domain = Fqdn::parse("example.com").unwrap();
        assert!(Fqdn::parse("a.b.example.com").unwrap().is_within(&domain));
        assert!(!Fqdn::parse("badexample.com").unwrap().is_within(&domain));
    }

    #[test]
    fn an_underscore_label_gets_a_claim_name_that_kubernetes_admits() {
        assert_eq!(Fqdn::parse("_wrap.web.example.com").unwrap().claim_name(), "rs--u-wrap.web.example.com");
    }
}
