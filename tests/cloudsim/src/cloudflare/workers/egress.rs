//! A script's own requests: names are found in the simulated zones, and what cannot be reached is answered as Cloudflare
//! answers it to a Worker.
//!
//! | | |
//! |---|---|
//! | an address in place of a name | 403, `error code: 1003` |
//! | a name that does not exist | 530, `error code: 1016` |
//! | connection refused, not made in time, no way there | 521, 522, 523 |
//! | TLS not agreed on, certificate not valid | 525, 526 |
//! | connection broken before the answer | 520 |

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{PathAndQuery, Scheme};
use axum::http::{HeaderValue, Request, Response, Uri, header};
use jiff::SignedDuration;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::forward::{self, error};
use crate::cloudflare::state::State;

/// How long a connection may take (`developers.cloudflare.com`, error 522).
const CONNECT: Duration = Duration::from_secs(19);
/// The longest chain of CNAMEs that is followed.
const LONGEST_CHAIN: usize = 8;

/// Begins to serve as an HTTP proxy on a free port; gives its address.
pub(super) async fn start(
    state: Arc<State>,
    authorities: Option<&[u8]>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<SocketAddr> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.unwrap_or_default()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = TlsConnector::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tasks.spawn(forward::serve(listener, move |request| answer(state.clone(), tls.clone(), request)));
    Ok(address)
}

async fn answer(state: Arc<State>, tls: TlsConnector, mut request: Request<Body>) -> Response<Body> {
    let uri = request.uri().clone();
    let (Some(host), secure) = (uri.host(), uri.scheme() == Some(&Scheme::HTTPS)) else {
        return error(400, 1000);
    };
    if host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() {
        return error(403, 1003);
    }
    let Some(address) = state.address_of(host) else { return error(530, 1016) };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(refused)) if refused.kind() == std::io::ErrorKind::ConnectionRefused => return error(521, 521),
        Ok(Err(_)) => return error(523, 523),
        Err(_) => return error(522, 522),
    };
    let _ = stream.set_nodelay(true);
    direct(&mut request, &uri);
    let answer = if secure {
        let Ok(name) = ServerName::try_from(host.to_owned()) else { return error(525, 525) };
        match tls.connect(name, stream).await {
            Ok(stream) => forward::send(request, stream).await,
            Err(failure) => {
                let invalid = failure.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
                let invalid = matches!(invalid, Some(rustls::Error::InvalidCertificate(_)));
                return if invalid { error(526, 526) } else { error(525, 525) };
            }
        }
    } else {
        forward::send(request, stream).await
    };
    answer.unwrap_or_else(|_| error(520, 520))
}

/// Makes a proxy's request one to the origin itself.
fn direct(request: &mut Request<Body>, uri: &Uri) {
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    if let Some(host) = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
}

impl State {
    /// The address of a name, as the zones hold it now.
    fn address_of(&self, host: &str) -> Option<IpAddr> {
        let mut name = host.to_ascii_lowercase();
        for _ in 0..LONGEST_CHAIN {
            if let Some(address) = self.world().0.workers.hosts.get(&name) {
                return Some(*address);
            }
            if name == "localhost" {
                return Some(Ipv4Addr::LOCALHOST.into());
            }
            let (_, _, records, _) = self.published(&name, SignedDuration::ZERO)?;
            let mut addresses = records.iter().filter(|record| matches!(record.kind.as_str(), "A" | "AAAA"));
            if let Some(address) = addresses.find_map(|record| record.content.parse().ok()) {
                return Some(address);
            }
            name = records.into_iter().find(|record| record.kind == "CNAME")?.content;
        }
        None
    }
}
