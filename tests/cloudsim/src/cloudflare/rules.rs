//! What Cloudflare accepts as a record, and in which words it refuses.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{RecordInfo, Zone};

/// A refusal: status, code, message, and the chain below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: u32,
    pub(super) message: String,
    pub(super) chain: Option<(u32, String)>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), chain: None }
    }

    /// An `Authorization` header that holds no bearer token.
    pub(super) fn malformed_header() -> Self {
        let chain = Some((6111, "Invalid format for Authorization header".to_owned()));
        Self { chain, ..Self::new(400, 6003, "Invalid request headers") }
    }

    fn bad(code: u32, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// A general refusal with its cause below it.
    fn invalid(code: u32, cause: impl Into<String>) -> Self {
        let message = "DNS Validation Error".to_owned();
        Self { status: 400, code: 1004, message, chain: Some((code, cause.into())) }
    }
}

/// A record as a request describes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Draft {
    /// Its name, whole or below the zone; `@` for the zone itself.
    pub name: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its content.
    pub content: Option<String>,
    /// Its TTL: 60 to 86,400, or 1.
    pub ttl: Option<f64>,
    /// Whether it is proxied.
    pub proxied: Option<bool>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its tags.
    pub tags: Option<Vec<Value>>,
}

/// A whole new record.
pub(super) fn make(zone: &Zone, draft: &Draft, id: String, now: Timestamp) -> Result<RecordInfo, Refusal> {
    let (Some(name), Some(kind), Some(content)) = (&draft.name, &draft.kind, &draft.content) else {
        return Err(Refusal::invalid(9000, "name, type and content are required"));
    };
    let record = RecordInfo {
        id,
        name: full_name(zone, name)?,
        kind: kind.to_ascii_uppercase(),
        content: content.clone(),
        ttl: ttl(draft)?.unwrap_or(1),
        proxied: draft.proxied.unwrap_or(false),
        comment: draft.comment.clone().filter(|c| !c.is_empty()),
        created_on: now,
        modified_on: now,
    };
    check(zone, record, draft)
}

/// The record after a PATCH: what the draft leaves out stays.
pub(super) fn patched(zone: &Zone, old: &RecordInfo, draft: &Draft, now: Timestamp) -> Result<RecordInfo, Refusal> {
    let mut record = old.clone();
    if let Some(name) = &draft.name {
        record.name = full_name(zone, name)?;
    }
    if draft.kind.as_ref().is_some_and(|kind| !kind.eq_ignore_ascii_case(&old.kind)) {
        return Err(Refusal::bad(9062, "DNS record type cannot be changed"));
    }
    if let Some(content) = &draft.content {
        record.content.clone_from(content);
    }
    if let Some(ttl) = ttl(draft)? {
        record.ttl = ttl;
    }
    record.proxied = draft.proxied.unwrap_or(record.proxied);
    if let Some(comment) = &draft.comment {
        record.comment = Some(comment.clone()).filter(|c| !c.is_empty());
    }
    record.modified_on = now;
    check(zone, record, draft)
}

fn ttl(draft: &Draft) -> Result<Option<u32>, Refusal> {
    let Some(ttl) = draft.ttl else { return Ok(None) };
    let whole = (ttl.fract() == 0.0 && (1.0..=86_400.0).contains(&ttl)).then_some(ttl);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right above")]
    let whole = whole.map(|ttl| ttl as u32);
    if let Some(whole) = whole.filter(|&ttl| ttl == 1 || ttl >= 60) {
        return Ok(Some(whole));
    }
    Err(Refusal::invalid(9021, "TTL must be between 60 and 86400 seconds, or 1 for Automatic."))
}

fn full_name(zone: &Zone, name: &str) -> Result<String, Refusal> {
    let domain = &zone.spec.name;
    let ascii = idna::domain_to_ascii(name.trim_end_matches('.')).unwrap_or_else(|_| name.to_ascii_lowercase());
    let full = match ascii.as_str() {
        "@" => domain.clone(),
        inside if inside == domain || inside.ends_with(&format!(".{domain}")) => inside.to_owned(),
        label => format!("{label}.{domain}"),
    };
    let fits = |label: &str| (1..=63).contains(&label.len()) && !label.contains(char::is_whitespace);
    if full.len() > 253 || !full.split('.').all(fits) || zone.spec.refused.contains(&full) {
        return Err(Refusal::invalid(9000, "DNS name is invalid."));
    }
    Ok(full)
}

fn check(zone: &Zone, mut record: RecordInfo, draft: &Draft) -> Result<RecordInfo, Refusal> {
    match record.kind.as_str() {
        "A" => {
            let address = record.content.parse::<Ipv4Addr>();
            let address =
                address.map_err(|_| Refusal::bad(9005, "Content for A record must be a valid IPv4 address."))?;
            record.content = address.to_string();
        }
        "AAAA" => {
            let address = record.content.parse::<Ipv6Addr>();
            let address =
                address.map_err(|_| Refusal::bad(9006, "Content for AAAA record must be a valid IPv6 address."))?;
            record.content = address.to_string();
        }
        "CNAME" | "NS" => record.content = record.content.trim_end_matches('.').to_ascii_lowercase(),
        "TXT" => {
            record.content = quoted(&record.content);
            if record.content.len() > 2_048 {
                return Err(Refusal::invalid(9207, "TXT content is longer than 2048 characters."));
            }
        }
        _ => return Err(Refusal::invalid(9200, "this type is not simulated")),
    }
    if record.proxied {
        if !matches!(record.kind.as_str(), "A" | "AAAA" | "CNAME") {
            return Err(Refusal::bad(9004, "This record type cannot be proxied."));
        }
        record.ttl = 1;
    }
    if let Some(comment) = &record.comment {
        if comment.chars().count() > zone.spec.plan.comment() {
            let most = zone.spec.plan.comment();
            return Err(Refusal::invalid(9301, format!("DNS record comment exceeds the maximum length of {most}.")));
        }
        if comment.contains(['\n', '\r']) {
            return Err(Refusal::invalid(9302, "DNS record comment must not contain line breaks."));
        }
    }
    let tags = draft.tags.as_ref().map_or(0, Vec::len);
    if tags > 0 && zone.spec.plan.legacy_id() == "free" {
        return Err(Refusal::invalid(9300, "DNS record has 1 tags, exceeding the quota of 0."));
    }
    for other in zone.named(&record.name).filter(|other| other.id != record.id) {
        if other.kind == record.kind && other.content == record.content {
            return Err(Refusal::bad(81_058, "An identical record already exists."));
        }
        let exclusive = |kind: &str| kind == "CNAME";
        let pointing = |kind: &str| matches!(kind, "A" | "AAAA" | "CNAME");
        if exclusive(&other.kind) && pointing(&record.kind) || exclusive(&record.kind) && pointing(&other.kind) {
            return Err(Refusal::bad(81_053, "An A, AAAA, or CNAME record with that host already exists."));
        }
    }
    Ok(record)
}

/// TXT content as quoted strings of at most 255 bytes (RFC 1035 §3.3.14).
fn quoted(content: &str) -> String {
    let text = if content.starts_with('"') { unquoted(content) } else { content.to_owned() };
    let mut strings = Vec::new();
    let mut rest = text.as_str();
    while rest.len() > 255 {
        let (head, tail) = rest.split_at(rest.floor_char_boundary(255));
        strings.push(head);
        rest = tail;
    }
    strings.push(rest);
    let escape = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
    strings.iter().map(|s| format!("\"{}\"", escape(s))).collect::<Vec<_>>().join(" ")
}

/// The text of quoted strings, joined.
pub(crate) fn unquoted(content: &str) -> String {
    let (mut text, mut inside) = (String::new(), false);
    let mut chars = content.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => inside = !inside,
            '\\' if inside => text.extend(chars.next()),
            c if inside => text.push(c),
            _ => {}
        }
    }
    text
}
