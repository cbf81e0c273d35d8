//! Listening: plain or with TLS, with time limits on slow clients, until the process is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ports::Ports;
use super::{Gateway, Settings, Signup, TlsFiles};

/// How long a client may take over the head of a request, and over a new one on the same connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in hand may take once the process was told to stop.
const GRACE: Duration = Duration::from_secs(15);
/// How often the files of the certificate are looked at.
const RELOAD: Duration = Duration::from_secs(60);

/// Why the gateway did not start. Names the setting.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened at.
    #[error("--gateway-addr: listening at {0}: {1}")]
    Address(SocketAddr, std::io::Error),
    /// A file of the certificate cannot be used.
    #[error("--gateway-tls-cert, --gateway-tls-key: {0}: {1}")]
    Tls(PathBuf, std::io::Error),
}

/// A gateway that listens.
pub struct Serving {
    /// Where.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Serving {
    /// Waits until it has ended: every request in hand was answered, or took too long.
    pub async fn ended(self) {
        let _ = self.task.await;
    }
}

/// Starts the gateway. It listens once this returns, answers 503 while `leading` holds nothing, and ends when `stop` turns
/// true.
///
/// # Errors
/// [`ServeError`], when it cannot listen or the certificate cannot be used.
pub async fn serve(
    settings: Settings,
    leading: watch::Receiver<Option<Ports>>,
    stop: watch::Receiver<bool>,
) -> Result<Serving, ServeError> {
    let asked = settings.address;
    let not_there = |error| ServeError::Address(asked, error);
    let listener = tokio::net::TcpListener::bind(asked).await.map_err(not_there)?;
    let address = listener.local_addr().map_err(not_there)?;
    let tls = match &settings.tls {
        Some(files) => Some((load(files).await?, files.clone())),
        None => None,
    };
    tracing::info!(%address, tls = tls.is_some(), "the REST API");
    if settings.signup == Signup::Token(None) {
        tracing::warn!("nobody can sign up to the REST API: set --signup-token-file, or --signup=open");
    }

    let gateway = Gateway::new(settings, leading);
    let routes = gateway.clone().router().into_make_service_with_connect_info::<SocketAddr>();
    let handle = Handle::new();
    let mut server =
        axum_server::from_tcp(listener.into_std().map_err(not_there)?).map_err(not_there)?.handle(handle.clone());
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(128).keep_alive_interval(HEAD_TIMEOUT);

    let task = tokio::spawn(async move {
        let sweeping = gateway.limits.sweep();
        let serving = async {
            match tls {
                None => server.serve(routes).await,
                Some((config, files)) => {
                    let reloading = reload(&config, &files);
                    let acceptor = RustlsAcceptor::new(config.clone());
                    tokio::select! {
                        ended = server.acceptor(acceptor).serve(routes) => ended,
                        () = reloading => Ok(()),
                    }
                }
            }
        };
        let stopping = async {
            stopped(stop).await;
            handle.graceful_shutdown(Some(GRACE));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = serving => if let Err(error) = ended {
                tracing::error!(%error, "the REST API stopped");
            },
            () = stopping => {}
            () = sweeping => {}
        }
    });
    Ok(Serving { address, task })
}

/// Waits until `stop` turns true. A sender that is gone says nothing.
async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn load(files: &TlsFiles) -> Result<RustlsConfig, ServeError> {
    let (certificate, key) = read(files).await?;
    let config = RustlsConfig::from_pem(certificate, key).await;
    config.map_err(|error| ServeError::Tls(files.certificate.clone(), error))
}

async fn read(files: &TlsFiles) -> Result<(Vec<u8>, Vec<u8>), ServeError> {
    let read = async |path: &PathBuf| tokio::fs::read(path).await.map_err(|error| ServeError::Tls(path.clone(), error));
    Ok((read(&files.certificate).await?, read(&files.key).await?))
}

/// Takes up a renewed certificate, for ever. One that cannot be used leaves the old one in place.
async fn reload(config: &RustlsConfig, files: &TlsFiles) {
    let mut in_use = read(files).await.ok();
    loop {
        tokio::time::sleep(RELOAD).await;
        let found = match read(files).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the certificate cannot be read again: the old one stays");
                continue;
            }
        };
        if in_use.as_ref() == Some(&found) {
            continue;
        }
        let (certificate, key) = found.clone();
        match config.reload_from_pem(certificate, key).await {
            Ok(()) => {
                tracing::info!("the REST API has a renewed certificate");
                in_use = Some(found);
            }
            Err(error) => tracing::warn!(%error, "the renewed certificate cannot be used: the old one stays"),
        }
    }
}
