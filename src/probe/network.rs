//! The prober that goes out: resolve once, check every address, connect to exactly one of those.
//!
//! Nothing is asked of the resolver again between the check and the connection, so a name that changes its mind in
//! between (DNS rebinding) gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::{Check, Failure, HttpCheck, Outcome, Prober, Scheme, SettingsError, Target, address, http, reason, tls};

/// So many lookups run at once. Each holds a thread that nobody can take back from the system's resolver.
const LOOKUPS: usize = 64;
/// Of the addresses of a name, so many are tried.
const TRIED: usize = 4;
/// Too many open files, of this process and of the system: `EMFILE`, `ENFILE`.
const NO_DESCRIPTOR: [i32; 2] = [24, 23];

/// Turns names into addresses.
#[async_trait]
pub(super) trait Resolve: Send + Sync {
    /// The addresses of a name, none if it has none.
    ///
    /// # Errors
    /// What the resolver says.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver, with its hosts file.
pub(super) struct SystemResolver(Arc<Semaphore>);

impl SystemResolver {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS)))
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        // Inside a cluster a name is first tried under several search domains: many useless questions a probe, and
        // somebody else's answer if a Service happens to be called alike.
        let complete = if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_owned() };
        let lookup = move || {
            let found =
                (complete.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
            drop(permit);
            found
        };
        tokio::task::spawn_blocking(lookup).await.map_err(io::Error::other)?
    }
}

/// Probes over the real network.
pub(super) struct Network {
    resolver: Arc<dyn Resolve>,
    allowed: Vec<IpNet>,
    tls: TlsConnector,
}

impl Network {
    pub fn new(allowed: Vec<IpNet>, extra_ca: Option<&[u8]>) -> Result<Self, SettingsError> {
        Self::with_resolver(Arc::new(SystemResolver::new()), allowed, extra_ca)
    }

    pub fn with_resolver(
        resolver: Arc<dyn Resolve>,
        allowed: Vec<IpNet>,
        extra_ca: Option<&[u8]>,
    ) -> Result<Self, SettingsError> {
        Ok(Self { resolver, allowed, tls: tls::connector(extra_ca)? })
    }

    async fn http(&self, check: &HttpCheck, deadline: Instant) -> Result<(), Outcome> {
        let request = http::request(check)?;
        let stream = self.connect(&check.address, check.port, deadline).await?;
        let server = http::server_name(check);
        let exchange = async {
            match check.scheme {
                Scheme::Http => http::exchange(stream, request).await,
                Scheme::Https => {
                    let stream = self.handshake(stream, server, deadline).await?;
                    http::exchange(stream, request).await
                }
            }
            .map_err(|error| http::failure(&error, server))
        };
        let late = |_| {
            let message = format!("`{server}` accepted the connection and did not answer in time: look into its load");
            failure(reason::TIMEOUT, message)
        };
        let status = timeout_at(deadline, exchange).await.map_err(late)??;
        Ok(http::judge(check, status)?)
    }

    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        server: &str,
        deadline: Instant,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let name = ServerName::try_from(server.to_owned()).map_err(|_| {
            let message =
                format!("`{}` is not a name a certificate can have: set the server name", server.escape_default());
            Failure { reason: reason::INVALID_CHECK, message }
        })?;
        match timeout_at(deadline, self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(tls::objection(&error).map_or_else(
                || {
                    let message =
                        format!("`{server}` ended the connection in the TLS handshake: check that the port speaks TLS");
                    Failure { reason: reason::TLS_ERROR, message }
                },
                |objection| tls::failure(objection, server),
            )),
            Err(_) => {
                let message = format!("`{server}` did not finish the TLS handshake in time: look into its load");
                Err(Failure { reason: reason::TIMEOUT, message })
            }
        }
    }

    /// Connects to the first address of `host` that accepts. The failure is that of the first address.
    pub(super) async fn connect(&self, host: &str, port: u16, deadline: Instant) -> Result<TcpStream, Outcome> {
        let addresses = self.addresses(host, deadline).await?;
        let mut first = None;
        for (tried, address) in addresses.iter().enumerate() {
            let peer = SocketAddr::new(*address, port);
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            match dial(peer, share).await {
                Ok(stream) => return Ok(stream),
                Err(Outcome::Failure(failure)) => {
                    first.get_or_insert(failure);
                }
                Err(ours) => return Err(ours),
            }
        }
        Err(first.map_or_else(|| unresolved(host, "it has no address"), Outcome::Failure))
    }

    /// The addresses of `host` in a stable order, every one of them checked.
    async fn addresses(&self, host: &str, deadline: Instant) -> Result<Vec<IpAddr>, Outcome> {
        let host = http::bare(host);
        let mut addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => match timeout_at(deadline, self.resolver.addresses(host)).await {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(error)) if is_ours(&error) => return Err(Outcome::Inconclusive(error.to_string())),
                Ok(Err(error)) => return Err(unresolved(host, &resolver_text(&error))),
                Err(_) => return Err(unresolved(host, "the resolver did not answer in time")),
            },
        };
        for address in &mut addresses {
            *address = address.to_canonical();
        }
        addresses.sort_unstable();
        addresses.dedup();
        for address in &addresses {
            address::check(*address, &self.allowed).map_err(|what| {
                let which = if host.parse::<IpAddr>().is_ok() {
                    format!("{address} is {what}")
                } else {
                    format!("`{}` has the address {address}, which is {what}", host.escape_default())
                };
                failure(reason::ADDRESS_REFUSED, format!("{which}: only --probe-allow-cidr lets it be probed"))
            })?;
        }
        addresses.truncate(TRIED);
        Ok(addresses)
    }
}

#[async_trait]
impl Prober for Network {
    async fn probe(&self, target: &Target) -> Outcome {
        let deadline = Instant::now() + target.timeout;
        let done = match &target.check {
            Check::Http(check) => self.http(check, deadline).await,
            Check::Tcp { address, port } => self.connect(address, *port, deadline).await.map(drop),
            Check::Site(site) => self.site(site, deadline).await,
        };
        done.err().unwrap_or(Outcome::Success)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

async fn dial(peer: SocketAddr, within: Duration) -> Result<TcpStream, Outcome> {
    let stream = match timeout(within, TcpStream::connect(peer)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refused(peer, &error)),
        Err(_) => {
            let message = format!(
                "{peer} accepts no connection in time: check that it runs, and that no firewall drops the probes"
            );
            return Err(failure(reason::TIMEOUT, message));
        }
    };
    // Closing with a reset leaves nothing behind in the kernel or in a NAT's table: at 1,000 probes a second the
    // connections of the last minute would otherwise be 60,000 entries. Failing to say so costs only that.
    let _ = stream.set_zero_linger();
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// What a failed connection means.
fn refused(peer: SocketAddr, error: &io::Error) -> Outcome {
    if is_ours(error) || (error.kind() == io::ErrorKind::AddrNotAvailable && peer.is_ipv4()) {
        return Outcome::Inconclusive(error.to_string());
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => failure(
            reason::CONNECTION_REFUSED,
            format!("{peer} refuses connections: check that the server runs and listens on this port"),
        ),
        io::ErrorKind::ConnectionReset => {
            failure(reason::CONNECTION_RESET, format!("{peer} resets connections: look into the server's log"))
        }
        // The last is what IPv6 gives where it is switched off.
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
            failure(
                reason::UNREACHABLE,
                format!(
                    "there is no way from here to {peer}: check the address, and whether this cluster has IPv6 if it is one"
                ),
            )
        }
        io::ErrorKind::TimedOut => {
            failure(reason::TIMEOUT, format!("{peer} accepts no connection in time: check that it runs"))
        }
        kind => failure(reason::CONNECTION_FAILED, format!("no connection to {peer} can be made: {kind}")),
    }
}

/// Whether an error says that this process or machine is short of something.
fn is_ours(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error().is_some_and(|code| NO_DESCRIPTOR.contains(&code))
}

/// The resolver's words without the library's preface.
fn resolver_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

fn unresolved(host: &str, why: &str) -> Outcome {
    let message = format!("`{}` cannot be resolved ({why}): check the name and its zone", host.escape_default());
    failure(reason::DNS_FAILURE, message)
}

fn failure(reason: &'static str, message: String) -> Outcome {
    Outcome::Failure(Failure { reason, message })
}
