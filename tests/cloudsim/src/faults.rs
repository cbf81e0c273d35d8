//! Scripted faults: which request fails, and how.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

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
    /// Held until it is released, whether or not its client waits that long.
    Hold,
    /// Taken up, but answered with this status, in the cloud's own envelope.
    StatusAfter {
        /// HTTP status.
        status: u16,
    },
    /// Refused in the cloud's own envelope, with this code.
    Refusal {
        /// HTTP status.
        status: u16,
        /// A number at Cloudflare, an id at `DigitalOcean`.
        code: Value,
        /// The error's message.
        message: String,
    },
    /// Listings leave out what was made in the last so many milliseconds. Cloudflare only; `DigitalOcean` has a setting
    /// of its own.
    ListingLag {
        /// Milliseconds of simulated time.
        ms: u64,
    },
    /// This page of a listing answers 500; other pages do not match.
    PartialPage {
        /// Its number, from 1.
        page: u64,
    },
    /// Refused as if the token had been revoked.
    TokenRevoked,
    /// Refused as if no further record, or droplet, were allowed.
    Quota,
}

/// Marks a request whose listing leaves out what is younger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListingLag(pub(crate) SignedDuration);

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
    /// Its number in the journal.
    pub seq: u64,
    /// Its cloud.
    pub cloud: &'static str,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
}

/// What came of a release. A late commit has not happened yet when its release is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Whether the cloud took the request up, and it succeeded there.
    pub committed: bool,
    /// The status the cloud answered, if it took the request up.
    pub status: Option<u16>,
}

/// What was decided about a held request, and whom to tell what came of it.
pub(crate) type Decision = (Release, oneshot::Sender<Released>);

#[derive(Debug, Default)]
struct Inner {
    faults: Vec<(Fault, u64)>,
    holds: BTreeMap<u64, (Held, oneshot::Sender<Decision>)>,
    next: u64,
}

/// All faults in force, and all requests that are held.
#[derive(Debug, Default)]
pub struct Faults {
    inner: Mutex<Inner>,
    /// How many requests are held.
    held: watch::Sender<usize>,
}

impl Faults {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Waits until at least `number` requests are held.
    pub async fn holding(&self, number: usize) {
        // It fails only without a sender, and `self` is one.
        let _ = self.held.subscribe().wait_for(|held| *held >= number).await;
    }

    /// Releases a held request; false if there is none of this id. Does not wait until the cloud has taken it up.
    pub fn release(&self, id: u64, release: Release) -> bool {
        self.decide(id, release).is_some()
    }

    /// Releases a held request and waits until the cloud has taken it up, or it is dropped; `None` if there is none of
    /// this id.
    pub async fn settle(&self, id: u64, release: Release) -> Option<Released> {
        let reported = self.decide(id, release)?;
        Some(reported.await.unwrap_or_default())
    }

    fn decide(&self, id: u64, release: Release) -> Option<oneshot::Receiver<Released>> {
        let mut inner = self.inner();
        let (_, decide) = inner.holds.remove(&id)?;
        self.held.send_replace(inner.holds.len());
        let (report, reported) = oneshot::channel();
        decide.send((release, report)).ok()?;
        Some(reported)
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

    pub(crate) fn hold(&self, seq: u64, cloud: &'static str, method: &str, path: &str) -> oneshot::Receiver<Decision> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner();
        inner.next += 1;
        let held = Held { id: inner.next, seq, cloud, method: method.to_owned(), path: path.to_owned() };
        let id = inner.next;
        inner.holds.insert(id, (held, sender));
        self.held.send_replace(inner.holds.len());
        receiver
    }
}

/// Whether a request of this method changes anything.
pub(crate) fn is_write(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD")
}

fn matches(fault: &Fault, cloud: &str, method: &str, path: &str) -> bool {
    let method_fits = match fault.method.as_deref() {
        None => true,
        Some("WRITE") => is_write(method),
        Some(wanted) => wanted == method,
    };
    let page_fits = match fault.action {
        Action::PartialPage { page } => {
            path.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| pair == format!("page={page}")))
        }
        _ => true,
    };
    method_fits
        && page_fits
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
