//! Why something over SSH did not work, each in words that say what to do about it.

use std::time::Duration;

use super::exec::Exit;

/// What went wrong. Cheap to clone, since all who wait for one connection get the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No TCP connection came about.
    #[error(
        "cannot reach {server}: {reason}: see that the host is up, that sshd listens there and that no firewall objects"
    )]
    Unreachable {
        /// Address and port.
        server: String,
        /// What the system said.
        reason: String,
    },
    /// Something took longer than it may. Nothing of it goes on.
    #[error("{what} took longer than {}", words(*limit))]
    TimedOut {
        /// What was being done, with the server's name.
        what: String,
        /// How long it might take.
        limit: Duration,
    },
    /// What listens there is no SSH server that we have a language in common with.
    #[error("{server} does not speak SSH with us: {reason}: see that the port is sshd's")]
    NotSsh {
        /// Address and port.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// The host's key is not a pinned one. The host may have been installed anew, or may be another.
    #[error(
        "{server} offers the host key {offered}, but pinned is {pinned}: if the host was installed anew on purpose, pin its \
         new key, else somebody else answers at its address"
    )]
    HostKeyRefused {
        /// Address and port.
        server: String,
        /// Type and SHA-256 fingerprint of the key that was offered.
        offered: String,
        /// Types and SHA-256 fingerprints of the pinned keys.
        pinned: String,
    },
    /// The host does not let this user in with this key.
    #[error(
        "{server} does not let the user `{user}` in with the key {key} ({why}): add it to the user's authorized_keys, or \
         correct the user"
    )]
    KeyRefused {
        /// Address and port.
        server: String,
        /// Who wanted in.
        user: String,
        /// SHA-256 fingerprint of our key.
        key: String,
        /// What the server would take instead.
        why: String,
    },
    /// The connection ended while it was needed.
    #[error("the connection to {server} was cut: {reason}")]
    Cut {
        /// Address and port.
        server: String,
        /// Who ended it and why, as far as that is known.
        reason: String,
    },
    /// The connection stands, but the host refused one channel in it.
    #[error("{server} refused {what}: {reason}")]
    ChannelRefused {
        /// Address and port.
        server: String,
        /// What was asked for.
        what: String,
        /// What the server said, and where to look.
        reason: String,
    },
    /// More came than is taken. What sent it was ended.
    #[error("{what} sent more than {cap} bytes")]
    TooLarge {
        /// Who sent it.
        what: String,
        /// The most that is taken.
        cap: usize,
    },
    /// Something on the host ran, and failed.
    #[error("{what} failed ({exit}): {stderr}")]
    Failed {
        /// What was being done.
        what: String,
        /// How it ended.
        exit: Exit,
        /// The end of what it said.
        stderr: String,
    },
    /// What was reached through a channel did not answer with HTTP/1.1.
    #[error("{what} gave no whole HTTP answer: {reason}")]
    Http {
        /// The request.
        what: String,
        /// What was wrong.
        reason: String,
    },
    /// A value that cannot be used, whatever the host says.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// Whether the connection itself is of no more use.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }
}

/// A duration as a person writes it.
fn words(limit: Duration) -> String {
    if limit.as_millis().is_multiple_of(1000) {
        format!("{} s", limit.as_secs())
    } else {
        format!("{} ms", limit.as_millis())
    }
}
