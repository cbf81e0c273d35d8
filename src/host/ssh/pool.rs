//! One connection a host, shared by all who need it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Error, HostKey, HostKeys, KeyPair, Options, Session, Target};

/// A host as its users see it now.
#[derive(Clone, Debug)]
pub struct Host {
    /// What stays the same as long as it is this host: one connection is kept for each.
    pub id: String,
    /// Where it is, and as whom.
    pub target: Target,
    /// Our key.
    pub key: KeyPair,
    /// Whom we believe there.
    pub host_keys: HostKeys,
}

/// How the connections of a pool behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Each connection.
    pub session: Options,
    /// How long one may take to come about.
    pub connect: Duration,
    /// How long an unused one is kept.
    pub idle: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        let (connect, idle) = (Duration::from_secs(15), Duration::from_secs(300));
        Self { session: Options::default(), connect, idle }
    }
}

/// Connections by host. Dropping it closes those that nobody holds.
#[derive(Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    options: PoolOptions,
    hosts: Mutex<HashMap<String, Entry>>,
}

/// A connection that is there or being made; whoever comes meanwhile awaits the same one, or the same failure.
type Connecting = Shared<BoxFuture<'static, Result<Arc<Session>, Error>>>;

struct Entry {
    target: Target,
    key: KeyPair,
    /// Whom the one being made believes.
    host_keys: HostKeys,
    /// The first key that a host without pinned ones showed to this pool: it may not show another.
    first: Arc<Mutex<Option<HostKey>>>,
    connecting: Option<Connecting>,
    used: Instant,
}

impl Pool {
    /// A pool without connections.
    #[must_use]
    pub fn new(options: PoolOptions) -> Self {
        Self { inner: Arc::new(Inner { options, hosts: Mutex::default() }) }
    }

    /// The connection to a host, made if there is none that is alive and as `host` now wants it. Hold it no longer than
    /// it is used: while somebody does, it is not idle.
    ///
    /// # Errors
    /// Why there is none, to all who waited for it; or that it did not come about within `limit`.
    pub async fn session(&self, host: &Host, limit: Duration) -> Result<Arc<Session>, Error> {
        let connecting = self.connecting(host);
        let late = || {
            let what = format!("waiting for the connection to {}", host.target.server());
            Err(Error::TimedOut { what, limit })
        };
        timeout(limit, connecting).await.unwrap_or_else(|_| late())
    }

    /// Forgets a host: its connection, once unused, and the key it showed at first contact.
    pub fn forget(&self, id: &str) {
        self.inner.lock().remove(id);
    }

    fn connecting(&self, host: &Host) -> Connecting {
        let mut hosts = self.inner.lock();
        let entry = hosts.entry(host.id.clone()).or_insert_with(|| Entry::new(host));
        entry.used = Instant::now();
        if let Some(connecting) = entry.usable(host) {
            return connecting;
        }
        if entry.target.address != host.target.address || entry.target.port != host.target.port {
            // At another address a first contact is another.
            entry.first = Arc::default();
        }
        entry.target = host.target.clone();
        entry.key = host.key.clone();
        entry.host_keys = host.host_keys.clone();
        let connecting = self.connect(host, Arc::clone(&entry.first));
        entry.connecting = Some(connecting.clone());
        connecting
    }

    /// Makes a connection in a task of its own: it comes about even if the first who wanted it goes away.
    fn connect(&self, host: &Host, first: Arc<Mutex<Option<HostKey>>>) -> Connecting {
        let (host, options, pool) = (host.clone(), self.inner.options.clone(), Arc::downgrade(&self.inner));
        let server = host.target.server();
        let made = tokio::spawn(async move {
            let seen = lock(&first).clone();
            let host_keys = match (&host.host_keys, seen) {
                (HostKeys::TrustOnFirstUse, Some(seen)) => HostKeys::Pinned(vec![seen]),
                (host_keys, _) => host_keys.clone(),
            };
            let session =
                Session::connect(&host.target, &host.key, &host_keys, &options.session, options.connect).await?;
            if host_keys == HostKeys::TrustOnFirstUse {
                *lock(&first) = Some(session.host_key().clone());
            }
            let session = Arc::new(session);
            tokio::spawn(close_when_idle(pool, host.id, Arc::downgrade(&session), options.idle));
            Ok(session)
        });
        let ended = move |_| Err(Error::Cut { server, reason: "it was given up".to_owned() });
        made.map(|made| made.unwrap_or_else(ended)).boxed().shared()
    }
}

impl Entry {
    fn new(host: &Host) -> Self {
        Self {
            target: host.target.clone(),
            key: host.key.clone(),
            host_keys: host.host_keys.clone(),
            first: Arc::default(),
            connecting: None,
            used: Instant::now(),
        }
    }

    /// The connection, if it is still as the host now wants it and is not known to be of no use.
    fn usable(&self, host: &Host) -> Option<Connecting> {
        if self.target != host.target || self.key != host.key {
            return None;
        }
        let connecting = self.connecting.as_ref()?;
        let good = match connecting.peek() {
            None => self.host_keys == host.host_keys,
            Some(Ok(session)) => !session.is_closed() && host.host_keys.accept(session.host_key()),
            Some(Err(_)) => false,
        };
        good.then(|| connecting.clone())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        lock(&self.hosts)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Lets go of a connection that nobody has used for `idle`.
async fn close_when_idle(pool: Weak<Inner>, id: String, session: Weak<Session>, idle: Duration) {
    let mut due = Instant::now() + idle;
    loop {
        sleep_until(due).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut hosts = pool.lock();
        let Some(entry) = hosts.get_mut(&id) else { return };
        // One that was replaced lives as long as its users.
        let Some(session) = session.upgrade() else { return };
        let kept = entry.connecting.as_ref().and_then(Shared::peek);
        if !kept.is_some_and(|kept| kept.as_ref().is_ok_and(|kept| Arc::ptr_eq(kept, &session))) {
            return;
        }
        // The pool's own and this one.
        if Arc::strong_count(&session) > 2 {
            entry.used = Instant::now();
        }
        due = entry.used + idle;
        if due <= Instant::now() || session.is_closed() {
            entry.connecting = None;
            return;
        }
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
