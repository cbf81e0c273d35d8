//! One connection: made, authenticated, watched, and the channels that are opened in it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, DisconnectReason, Msg};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure, Preferred, SshId};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::{Error, HostKey, HostKeys, KeyPair};

/// Who we are on the wire.
const AGENT: &str = concat!("SSH-2.0-roadstead_", env!("CARGO_PKG_VERSION"));
/// How long a channel that nobody waits for any more may take to open before the connection is given up.
const UNWANTED: Duration = Duration::from_secs(60);

/// Where to connect, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// An IP address, or a name.
    pub address: String,
    /// sshd's port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
}

impl Target {
    /// Address and port for messages.
    pub(super) fn server(&self) -> String {
        let Self { address, port, .. } = self;
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }
}

/// How a connection behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// After how long a silence the host is asked whether it is still there.
    pub keep_alive: Duration,
    /// How many such questions may go unanswered before the connection counts as cut.
    pub unanswered: usize,
    /// How many channels may be open at once; more wait. sshd's `MaxSessions` is 10 unless configured otherwise.
    pub channels: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_alive: Duration::from_secs(15), unanswered: 3, channels: 8 }
    }
}

/// An authenticated connection to a host. Dropping it closes it, once the channels that are in use have ended.
pub struct Session {
    pub(super) link: Arc<Link>,
    host_key: HostKey,
}

/// What the channels of a connection share.
pub(super) struct Link {
    handle: client::Handle<Client>,
    notes: Arc<Notes>,
    channels: Arc<Semaphore>,
    /// How many were opened so far.
    opened: AtomicU64,
    /// The host left the opening of a channel unanswered.
    stuck: AtomicBool,
    pub(super) server: String,
    user: String,
}

/// What is known of a connection from inside the library's task.
#[derive(Default)]
struct Notes {
    /// What connecting has come to.
    step: Mutex<&'static str>,
    /// The key that the host offered.
    offered: Mutex<Option<HostKey>>,
    /// Why the connection ended.
    ended: Mutex<Option<String>>,
}

/// The library's view of us.
struct Client {
    notes: Arc<Notes>,
    host_keys: HostKeys,
}

/// A channel to open.
pub(super) enum Wanted {
    /// For one command.
    Command,
    /// To a host and port as the host sees them.
    Tcp(String, u16),
    /// To a socket in the host's file system.
    Unix(String),
}

/// A channel, and its place among those that may be open.
pub(super) struct Opened {
    pub(super) channel: Channel<Msg>,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Session {
    /// Connects, checks the host's key and authenticates, all within `limit`.
    ///
    /// # Errors
    /// What kept it from working.
    pub async fn connect(
        target: &Target,
        key: &KeyPair,
        host_keys: &HostKeys,
        options: &Options,
        limit: Duration,
    ) -> Result<Self, Error> {
        let notes = Arc::new(Notes::default());
        let made = timeout(limit, establish(target, key, host_keys, options, &notes)).await;
        made.unwrap_or_else(|_| {
            let what = format!("{} {}", *lock(&notes.step), target.server());
            Err(Error::TimedOut { what, limit })
        })
    }

    /// The key that the host proved to have: what to pin after the first contact.
    #[must_use]
    pub fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    /// How many commands were run, files written and connections made through it so far: what its work cost in round
    /// trips, each of these being one.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.link.opened.load(Ordering::Relaxed)
    }

    /// Whether the connection is of no more use. A silent host is known to be gone only after its keep-alives.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.link.handle.is_closed() || self.link.stuck.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}@{}, {:?})", self.link.user, self.link.server, self.host_key)
    }
}

/// Makes the connection, noting how far it came.
async fn establish(
    target: &Target,
    key: &KeyPair,
    host_keys: &HostKeys,
    options: &Options,
    notes: &Arc<Notes>,
) -> Result<Session, Error> {
    let server = target.server();
    notes.step("connecting to");
    let unreachable = |error: std::io::Error| Error::Unreachable { server: server.clone(), reason: error.to_string() };
    let stream = TcpStream::connect((target.address.as_str(), target.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;

    notes.step("awaiting the greeting and the host key of");
    let client = Client { notes: Arc::clone(notes), host_keys: host_keys.clone() };
    let mut handle = client::connect_stream(Arc::new(config(host_keys, options)), stream, client)
        .await
        .map_err(|error| greeting_failed(&error, &server, host_keys, notes))?;
    let host_key = lock(&notes.offered).clone();
    let host_key = host_key.ok_or_else(|| not_ssh(&server, "it offered no host key"))?;

    notes.step("authenticating at");
    let answer = handle
        .authenticate_publickey(target.user.as_str(), PrivateKeyWithHashAlg::new(key.private(), None))
        .await
        .map_err(|error| notes.cut(&server, &error))?;
    if let AuthResult::Failure { remaining_methods, partial_success } = answer {
        if handle.is_closed() {
            return Err(notes.cut(&server, &russh::Error::Disconnect));
        }
        let others: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
        let why = if partial_success { "it wants more than a key: " } else { "it takes: " };
        let (user, key) = (target.user.clone(), key.fingerprint());
        return Err(Error::KeyRefused { server, user, key, why: format!("{why}{}", others.join(", ")) });
    }
    let link = Link {
        handle,
        notes: Arc::clone(notes),
        channels: Arc::new(Semaphore::new(options.channels)),
        opened: AtomicU64::new(0),
        stuck: AtomicBool::new(false),
        server,
        user: target.user.clone(),
    };
    Ok(Session { link: Arc::new(link), host_key })
}

/// The library's settings.
fn config(host_keys: &HostKeys, options: &Options) -> client::Config {
    let questions = u32::try_from(options.unanswered).unwrap_or(u32::MAX);
    client::Config {
        client_id: SshId::Standard(AGENT.into()),
        preferred: Preferred { key: host_keys.algorithms().into(), ..Preferred::DEFAULT },
        keepalive_interval: Some(options.keep_alive),
        keepalive_max: options.unanswered,
        // Also ends a connection whose host no longer takes what we send, where no keep-alive gets out either, and one that
        // was given up while keys were exchanged.
        inactivity_timeout: Some(options.keep_alive.saturating_mul(questions.saturating_add(1))),
        nodelay: true,
        ..client::Config::default()
    }
}

/// Why there is no encrypted connection.
fn greeting_failed(error: &russh::Error, server: &str, host_keys: &HostKeys, notes: &Notes) -> Error {
    use russh::Error as E;
    match (error, &*lock(&notes.offered)) {
        (E::UnknownKey, Some(offered)) => Error::HostKeyRefused {
            server: server.to_owned(),
            offered: offered.fingerprint(),
            pinned: host_keys.describe(),
        },
        (E::IO(_) | E::HUP | E::Disconnect, None) => {
            let reason = "it was closed before a greeting: see that the port is sshd's, and that sshd takes more connections \
                          (`MaxStartups`)";
            Error::Cut { server: server.to_owned(), reason: reason.to_owned() }
        }
        (E::IO(_) | E::HUP | E::Disconnect | E::InactivityTimeout | E::KeepaliveTimeout, _) => notes.cut(server, error),
        _ => not_ssh(server, &error.to_string()),
    }
}

fn not_ssh(server: &str, reason: &str) -> Error {
    Error::NotSsh { server: server.to_owned(), reason: reason.to_owned() }
}

impl Link {
    /// Opens a channel, after waiting for a place. The caller sets the time limit by dropping this: a channel that opens
    /// afterwards is closed.
    pub(super) async fn open(self: &Arc<Self>, wanted: Wanted) -> Result<Opened, Error> {
        let words = wanted.describe();
        if words.contains('\0') {
            return Err(Error::Invalid(format!("`{}` cannot be asked for: it holds a NUL", words.escape_debug())));
        }
        let permit = Arc::clone(&self.channels).acquire_owned().await.map_err(|_| self.cut())?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let (hand, opened) = oneshot::channel();
        let link = Arc::clone(self);
        tokio::spawn(async move {
            match timeout(UNWANTED, link.request(&wanted)).await {
                Ok(Ok(channel)) => {
                    if let Err(Ok(unwanted)) = hand.send(Ok(Opened { channel, permit })) {
                        // The connection may have ended meanwhile, and the channel with it.
                        let _ = unwanted.channel.close().await;
                    }
                }
                Ok(Err(error)) => {
                    let _ = hand.send(Err(link.refused(&wanted, error)));
                }
                Err(_) => link.stuck.store(true, Ordering::Relaxed),
            }
        });
        opened.await.unwrap_or_else(|_| Err(self.cut()))
    }

    async fn request(&self, wanted: &Wanted) -> Result<Channel<Msg>, russh::Error> {
        match wanted {
            Wanted::Command => self.handle.channel_open_session().await,
            Wanted::Tcp(host, port) => {
                self.handle.channel_open_direct_tcpip(host.as_str(), u32::from(*port), "127.0.0.1", 0).await
            }
            Wanted::Unix(path) => self.handle.channel_open_direct_streamlocal(path.as_str()).await,
        }
    }

    fn refused(&self, wanted: &Wanted, error: russh::Error) -> Error {
        let russh::Error::ChannelOpenFailure(failure) = error else { return self.notes.cut(&self.server, &error) };
        let reason = match (failure, wanted) {
            (ChannelOpenFailure::AdministrativelyProhibited, Wanted::Tcp(..)) => {
                "it forbids that: allow `AllowTcpForwarding local` in sshd_config, and `port-forwarding` for the key"
                    .to_owned()
            }
            (ChannelOpenFailure::ConnectFailed, Wanted::Tcp(..)) => "nothing answers there".to_owned(),
            // sshd does not tell these apart.
            (_, Wanted::Unix(_)) => {
                "there is no such socket, nothing listens on it, the user may not write to it, or its \
                                     sshd_config lacks `AllowStreamLocalForwarding local`"
                    .to_owned()
            }
            (_, Wanted::Command) => "more commands run than `MaxSessions` in its sshd_config allows".to_owned(),
            (other, _) => format!("{other:?}"),
        };
        Error::ChannelRefused { server: self.server.clone(), what: wanted.describe(), reason }
    }

    /// The error of a connection that ended.
    pub(super) fn cut(&self) -> Error {
        self.notes.cut(&self.server, &russh::Error::Disconnect)
    }

    /// Whether commands of root need sudo.
    pub(super) fn is_unprivileged(&self) -> bool {
        self.user != "root"
    }
}

impl Wanted {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Command => "a channel for a command".to_owned(),
            Self::Tcp(host, port) => format!("a channel to {host}:{port}"),
            Self::Unix(path) => format!("a channel to the socket {path}"),
        }
    }
}

impl Notes {
    fn step(&self, step: &'static str) {
        *lock(&self.step) = step;
    }

    /// The error of a connection that ended, for the best reason known.
    fn cut(&self, server: &str, error: &russh::Error) -> Error {
        let reason = lock(&self.ended).clone().unwrap_or_else(|| words(error));
        Error::Cut { server: server.to_owned(), reason }
    }
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        let key = HostKey::new(key.clone());
        let mut seen = lock(&self.notes.offered);
        // Keys are exchanged again from time to time; the host stays the one it was.
        let same = seen.as_ref().is_none_or(|seen| *seen == key);
        let accepted = same && self.host_keys.accept(&key);
        *seen = Some(key);
        Ok(accepted)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let reason = match reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("the host ended it: {}", info.message),
            DisconnectReason::Error(error) => words(&error),
        };
        *lock(&self.notes.ended) = Some(reason);
        Ok(())
    }
}

/// Why a connection ended, in words.
fn words(error: &russh::Error) -> String {
    match error {
        russh::Error::HUP | russh::Error::Disconnect | russh::Error::SendError => "the host closed it".to_owned(),
        russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => "the host no longer answers".to_owned(),
        error => error.to_string(),
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
