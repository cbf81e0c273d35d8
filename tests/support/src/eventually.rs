//! Awaiting a condition: polled until a deadline, and a failure that says what was awaited and what was seen last.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// The outcome of one look: found, or not yet, with what was seen instead.
pub trait Look {
    /// What is being awaited.
    type Found;

    /// The awaited value, or a description of what was there instead.
    ///
    /// # Errors
    /// What was seen instead, in words for the failure message.
    fn look(self) -> Result<Self::Found, String>;
}

impl<T> Look for Option<T> {
    type Found = T;

    fn look(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Found = T;

    fn look(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:#}"))
    }
}

impl Look for bool {
    type Found = ();

    fn look(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

/// Calls `probe` every 50 ms until it answers `Some`, `Ok` or `true`; panics after `deadline` with `what` and the last
/// answer. A single call that hangs counts as not yet.
pub async fn eventually<L: Look>(deadline: Duration, what: &str, mut probe: impl AsyncFnMut() -> L) -> L::Found {
    let end = Instant::now() + deadline;
    let mut last = "no answer".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now()).max(INTERVAL);
        match tokio::time::timeout(left, probe()).await.map(Look::look) {
            Ok(Ok(found)) => return found,
            Ok(Err(seen)) => last = seen,
            Err(_) => {}
        }
        assert!(Instant::now() < end, "waited {deadline:?} for {what}\nlast seen: {last}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// As [`eventually`] for a probe that says itself what it sees; after `deadline` an error says what was seen last.
///
/// # Errors
/// What was awaited, and what was seen last.
pub async fn within<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + deadline;
    loop {
        match probe().await {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() >= end => return Err(format!("waited {deadline:?} for {what}; last: {seen}")),
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// Waits until nothing has been added to `writes` for so long. Whoever always finds something to write never gets there.
///
/// # Errors
/// The writes seen last.
pub async fn quiet(duration: Duration, writes: impl Fn() -> Vec<String>) -> Result<(), String> {
    let (mut last, mut since) = (writes().len(), Instant::now());
    within(duration * 4 + Duration::from_secs(5), &format!("{duration:?} without a write"), async || {
        let now = writes();
        if now.len() != last {
            (last, since) = (now.len(), Instant::now());
        }
        if since.elapsed() >= duration {
            Ok(())
        } else {
            Err(format!("{:?}", now.iter().rev().take(4).collect::<Vec<_>>()))
        }
    })
    .await
}
