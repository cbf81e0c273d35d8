//! The text of the binding `ORIGINS`: which origins, with which weight and priority.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::plan::Refusal;
use super::{Policy, WhenAllDown};

/// The largest text of a binding, in bytes (`developers.cloudflare.com/workers/platform/limits`).
pub const LARGEST_TEXT: usize = 5 * 1024;

/// A member of a group as the Worker reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Scheme, host and port, e.g. `https://web-1.example.com`. A name: Workers cannot fetch addresses.
    pub url: String,
    /// How much of the traffic it gets, against the others.
    pub weight: u32,
    /// Lower ones come first with [`Failover`](super::Strategy::Failover).
    pub priority: u32,
    /// Whether it is healthy now.
    pub healthy: bool,
}

/// In which form the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `https://a.example.com,https://b.example.com;weight=2`.
    List,
    /// `["https://a.example.com",{"url":"https://b.example.com","weight":2}]`.
    Json,
}

impl Form {
    /// The form of a text that is there already.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.trim_start().starts_with('[') { Self::Json } else { Self::List }
    }
}

/// The URLs that a text names, in either form. What cannot be read names none.
#[must_use]
pub fn urls(text: &str) -> BTreeSet<String> {
    let url = |entry: &Value| entry.as_str().or_else(|| entry["url"].as_str()).map(str::to_owned);
    match Form::of(text) {
        Form::Json => serde_json::from_str::<Vec<Value>>(text).unwrap_or_default().iter().filter_map(url).collect(),
        Form::List => {
            let entries = text.split([',', ' ', '\n', '\t', '\r']).filter(|entry| !entry.is_empty());
            entries.map(|entry| entry.split(';').next().unwrap_or(entry).to_owned()).collect()
        }
    }
}

/// The text to publish, in canonical order; `last` is what is published now.
///
/// # Errors
/// [`Refusal::OriginIsAddress`] and [`Refusal::OriginsTooLong`].
pub fn text(origins: &[Origin], policy: &Policy, last: Option<&str>, form: Form) -> Result<String, Refusal> {
    let enough = origins.iter().filter(|origin| origin.healthy).count() >= policy.min_healthy.max(1);
    let kept = match (enough, policy.when_all_down) {
        (false, WhenAllDown::KeepLast) => last.map(urls).unwrap_or_default(),
        _ => BTreeSet::new(),
    };
    // What is no member any more is not kept: its name may soon be somebody else's.
    let mut chosen: Vec<_> = origins.iter().filter(|origin| origin.healthy || kept.contains(&origin.url)).collect();
    chosen.sort_by(|a, b| (a.priority, &a.url).cmp(&(b.priority, &b.url)));
    chosen.dedup_by(|a, b| a.url == b.url);
    if let Some(address) = chosen.iter().find(|origin| is_address(&origin.url)) {
        return Err(Refusal::OriginIsAddress { url: address.url.clone() });
    }
    let text = match form {
        Form::List => chosen.into_iter().map(entry).collect::<Vec<_>>().join(","),
        Form::Json => Value::from(chosen.into_iter().map(object).collect::<Vec<_>>()).to_string(),
    };
    if text.len() > LARGEST_TEXT { Err(Refusal::OriginsTooLong { bytes: text.len() }) } else { Ok(text) }
}

fn entry(origin: &Origin) -> String {
    let parameter = |name: &str, value: u32, usual: u32| {
        if value == usual { String::new() } else { format!(";{name}={value}") }
    };
    let (weight, priority) = (parameter("weight", origin.weight, 1), parameter("priority", origin.priority, 0));
    format!("{}{weight}{priority}", origin.url)
}

fn object(origin: &Origin) -> Value {
    if origin.weight == 1 && origin.priority == 0 {
        return json!(origin.url);
    }
    json!({"url": origin.url, "weight": origin.weight, "priority": origin.priority})
}

fn is_address(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    if authority.starts_with('[') {
        return true;
    }
    let host = authority.split([':', '/']).next().unwrap_or(authority);
    host.parse::<IpAddr>().is_ok()
}
