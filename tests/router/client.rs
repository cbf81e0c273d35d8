//! One HTTP/1.1 connection, which knows whether it was closed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and body.
    pub fn said(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}

/// An open connection to one host.
pub struct Connection {
    sender: SendRequest<String>,
    host: String,
}

impl Connection {
    /// Over plain TCP.
    pub async fn tcp(address: SocketAddr, host: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
        Self::over(stream, host).await
    }

    /// Over TLS, to the name `host` and with its certificate verified.
    pub async fn tls(address: SocketAddr, host: &str, trust: &Trust) -> Result<Self, String> {
        Self::over(trust.connect(address, host).await?, host).await
    }

    /// Over a unix socket.
    pub async fn unix(path: &Path, host: &str) -> Result<Self, String> {
        let stream = UnixStream::connect(path).await.map_err(|error| format!("connecting: {error}"))?;
        Self::over(stream, host).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: &str) -> Result<Self, String> {
        let handshake = http1::handshake::<_, String>(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| format!("handshake: {error}"))?;
        tokio::spawn(connection);
        Ok(Self { sender, host: host.to_owned() })
    }

    /// Whether the other side has closed it.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request to the connection's host, or to the one in its `Host`.
    pub async fn send(&mut self, mut request: Request<String>) -> Result<Answer, String> {
        let host = self.host.parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        self.sender.ready().await.map_err(|error| format!("closed: {error}"))?;
        let response = self.sender.send_request(request).await.map_err(|error| format!("sending: {error}"))?;
        let (parts, body) = response.into_parts();
        let body = to_bytes(Body::new(body), 1 << 24).await.map_err(|error| format!("reading: {error}"))?;
        let body = String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.send(Request::get(path).body(String::new()).unwrap()).await
    }

    pub async fn post(&mut self, path: &str, body: &str) -> Result<Answer, String> {
        self.send(Request::post(path).body(body.to_owned()).unwrap()).await
    }
}

/// Whose certificates are believed.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl Trust {
    /// Those of the authorities in a PEM file.
    pub fn of(file: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Self(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }

    /// A connection on which the server has proved to be `host`.
    pub async fn connect(&self, address: SocketAddr, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        self.0.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
    }
}
