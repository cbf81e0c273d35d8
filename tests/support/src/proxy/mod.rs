//! A reverse proxy before the API server that records every write, and holds, drops or commits a chosen one.
//!
//! Clients speak plain HTTP to it on loopback; it passes their credentials on. Watches pass through as they come.

mod record;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ControlPlane;
pub use record::{Fate, Release, Write};
use record::{Journal, Plan};

/// The proxy. It ends when dropped, and with the test's runtime.
pub struct ApiProxy {
    journal: Arc<Journal>,
    address: SocketAddr,
    kubeconfig: PathBuf,
    accepting: JoinHandle<()>,
}

impl ApiProxy {
    /// Starts a proxy before the control plane's API server, with a kubeconfig of administrator's rights.
    pub async fn start(control_plane: &ControlPlane) -> Self {
        let (_, token) = control_plane.server_and_token();
        Self::start_as(control_plane, &token).await
    }

    /// Starts a proxy whose kubeconfig bears `token`, for example a `ServiceAccount`'s.
    pub async fn start_as(control_plane: &ControlPlane, token: &str) -> Self {
        let mut upstream = control_plane.config().await;
        // Callers bring their own credentials; the proxy must not lend them its own.
        upstream.auth_info = kube::config::AuthInfo::default();
        let upstream = kube::Client::try_from(upstream).expect("a client can be made");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let journal = Arc::new(Journal::default());
        let accepting = tokio::spawn(serve::accept(listener, upstream, journal.clone()));
        let kubeconfig = control_plane.write_kubeconfig(&format!("http://{address}"), token);
        Self { journal, address, kubeconfig, accepting }
    }

    /// A kubeconfig that leads through the proxy. It serves kube's clients; those in Go, such as kubectl, send no token
    /// over plain HTTP and are refused.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// The address the proxy listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every write so far, in the order of arrival. Leases, Events, access reviews, token requests and dry runs do not
    /// count: they change nothing that a crash could leave half done.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.journal.writes()
    }

    /// Forgets all writes and plans; the next write is number 1 again. A write held at that moment is dropped.
    pub fn reset(&self) {
        self.journal.reset();
    }

    /// Holds the write with that number (the first is 1) when it arrives, until the test releases it.
    #[must_use]
    pub fn hold(&self, number: usize) -> Held {
        let (arrived, arrival) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.journal.plan(number, Plan::Hold { arrived, released });
        Held { number, arrival: Some(arrival), release: Some(release), journal: self.journal.clone() }
    }

    /// Commits the write with that number, then closes its connection without an answer.
    pub fn lose_reply(&self, number: usize) {
        self.journal.plan(number, Plan::At(Release::Commit));
    }

    /// Closes the connection of the write with that number without forwarding it.
    pub fn drop_write(&self, number: usize) {
        self.journal.plan(number, Plan::At(Release::Drop));
    }

    /// Closes the connection of the write with that number at once, and commits it after `delay`.
    pub fn commit_late(&self, number: usize, delay: Duration) {
        self.journal.plan(number, Plan::At(Release::CommitLate(delay)));
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A write that is to be held. Dropping this drops the write.
pub struct Held {
    number: usize,
    arrival: Option<oneshot::Receiver<()>>,
    release: Option<oneshot::Sender<Release>>,
    journal: Arc<Journal>,
}

impl Held {
    /// Waits until the write has arrived, and answers it. The API server has not seen it yet.
    ///
    /// # Panics
    /// If it does not arrive by the deadline; the writes that did are listed.
    pub async fn arrived(&mut self, deadline: Duration) -> Write {
        if let Some(arrival) = self.arrival.take() {
            let arrived = tokio::time::timeout(deadline, arrival).await.is_ok_and(|sent| sent.is_ok());
            assert!(
                arrived,
                "write {} did not arrive within {deadline:?}; these did:\n{}",
                self.number,
                self.journal.writes().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            );
        }
        self.journal.writes().swap_remove(self.number - 1)
    }

    /// Lets the write go on as `how` says, and waits until that is done (for [`Release::CommitLate`]: until it has been
    /// committed). Answers what became of it.
    ///
    /// # Panics
    /// If the write has not arrived.
    pub async fn release(mut self, how: Release) -> Fate {
        assert!(self.arrival.is_none(), "await the arrival of write {} before releasing it", self.number);
        let release = self.release.take().expect("released once");
        assert!(release.send(how).is_ok(), "write {} is no longer held", self.number);
        crate::eventually(Duration::from_mins(1), &format!("write {} to be settled", self.number), async || match self
            .journal
            .writes()
            .swap_remove(self.number - 1)
            .fate
        {
            Fate::Pending => None,
            fate => Some(fate),
        })
        .await
    }
}
