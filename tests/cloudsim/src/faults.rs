//! Scripted faults: which request fails, and how.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

/// One fault: the requests it is about and what happens to them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `cloudflare` or `digitalocean`; both without it.
    #[serde(default)]
    pub cloud: Option<String>,
    /// An HTTP method, or `WRITE` for everything but GET; any without it.
    #[serde(default)]
    pub method: Option<String>,
    /// Path and query below the cloud's base, with `*` for anything; any without it.
    #[serde(default)]
    pub path: Option<String>,
    /// The first match it applies to, counted from 1.
    #[serde(default = "one")]
    pub from: u64,
    /// To how many matches it applies; to all further ones without it.
    #[serde(default)]
    pub count: Option<u64>,
    /// What happens.
    pub action: Action,
}

fn one() -> u64 {
    1
}

/// What happens to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Answered with this status and body; not taken up.
    Status {
        /// HTTP status.
        status: u16,
        /// JSON body; the cloud's own envelope with a general message without it.
        #[serde(default)]
        body: Option<Value>,
        /// `Retry-After` in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Answered later.
    Latency {
        /// By so many milliseconds.
        ms: u64,
    },
    /// The connection is cut and the request never taken up.
    CutBefore,
    /// The request is taken up, then the connection cut.
    CutAfter,
    /// Taken up after the connection was cut, so much later.
    CommitLate {
        /// In milliseconds.
        ms: u64,
    },
    /// Taken up, and of the list in the answer only the first entries are sent; counts and links stay.
    Partial {
        /// So many.
        keep: usize,
    },
    /// Never answered, never taken up.
    Hang,
    /// Held until it is released.
    Hold,
}

/// What becomes of a held request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// Taken up and answered.
    Commit,
    /// Taken up; the connection is cut.
    CommitAndCut,
    /// Never taken up; the connection is cut.
    Drop,
    /// Cut now, taken up so many milliseconds later.
    CommitLate(u64),
}

/// A request that waits to be released.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// For the release.
    pub id: u64,
    /// Its cloud.
    pub cloud: &'static str,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
}

#[derive(Debug, Default)]
struct Inner {
    faults: Vec<(Fault, u64)>,
    holds: BTreeMap<u64, (Held, oneshot::Sender<Release>)>,
    next: u64,
}

/// All faults in force, and all requests that are held.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Inner>);

impl Faults {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a fault; matches are counted from now on.
    pub fn add(&self, fault: Fault) {
        self.inner().faults.push((fault, 0));
    }

    /// The faults in force, with how often each has matched.
    #[must_use]
    pub fn list(&self) -> Vec<(Fault, u64)> {
        self.inner().faults.clone()
    }

    /// Removes all faults. What is held stays held.
    pub fn clear(&self) {
        self.inner().faults.clear();
    }

    /// The requests that are held.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        self.inner().holds.values().map(|(held, _)| held.clone()).collect()
    }

    /// Releases a held request; false if there is none of this id.
    pub fn release(&self, id: u64, release: Release) -> bool {
        let found = self.inner().holds.remove(&id);
        found.is_some_and(|(_, sender)| sender.send(release).is_ok())
    }

    /// What happens to this request: the first fault that applies. Every fault that matches counts it.
    pub(crate) fn strike(&self, cloud: &str, method: &str, path: &str) -> Option<Action> {
        let mut struck = None;
        for (fault, seen) in &mut self.inner().faults {
            if !matches(fault, cloud, method, path) {
                continue;
            }
            *seen += 1;
            let in_range = *seen >= fault.from && fault.count.is_none_or(|count| *seen < fault.from + count);
            if in_range && struck.is_none() {
                struck = Some(fault.action.clone());
            }
        }
        struck
    }

    pub(crate) fn hold(&self, cloud: &'static str, method: &str, path: &str) -> oneshot::Receiver<Release> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner();
        inner.next += 1;
        let held = Held { id: inner.next, cloud, method: method.to_owned(), path: path.to_owned() };
        let id = inner.next;
        inner.holds.insert(id, (held, sender));
        receiver
    }
}

fn matches(fault: &Fault, cloud: &str, method: &str, path: &str) -> bool {
    let method_fits = match fault.method.as_deref() {
        None => true,
        Some("WRITE") => method != "GET",
        Some(wanted) => wanted == method,
    };
    method_fits
        && fault.cloud.as_deref().is_none_or(|wanted| wanted == cloud)
        && fault.path.as_deref().is_none_or(|glob| fits(glob, path))
}

/// Whether `text` fits `glob`, in which `*` stands for anything.
fn fits(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (glob, text, fit) in [
            ("/zones/*/dns_records/batch", "/zones/abc/dns_records/batch", true),
            ("/v2/droplets", "/v2/droplets?page=2", false),
            ("/v2/droplets*page=2*", "/v2/droplets?per_page=200&page=2", true),
            ("*", "", true),
            ("*usage", "/zones/a/dns_records/usage?x", false),
        ] {
            assert_eq!(fits(glob, text), fit, "{glob} {text}");
        }
    }

    #[test]
    fn a_fault_strikes_from_the_nth_match_for_so_many() {
        let faults = Faults::default();
        let action = Action::CutBefore;
        faults.add(Fault { cloud: None, method: Some("WRITE".into()), path: None, from: 2, count: Some(1), action });
        let struck = |method| faults.strike("cloudflare", method, "/x").is_some();
        assert_eq!([struck("POST"), struck("GET"), struck("PATCH"), struck("POST")], [false, false, true, false]);
    }
}
