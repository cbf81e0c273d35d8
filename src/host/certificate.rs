//! The first handshake for a name: Caddy gets a certificate when somebody asks for one, and we are to be the first.
//!
//! Asked through SSH, so that nothing between us and the host matters. Whether the world trusts the certificate is not
//! the question here: probes ask that.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ssh::{self, Session};

/// What connecting to Caddy may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The host could not be asked.
    #[error(transparent)]
    Ssh(#[from] ssh::Error),
    /// Caddy has none, and could not get one.
    #[error(
        "Caddy has no certificate for {name} yet ({reason}): see that port 80 of the host is reachable for the certificate \
         authority, and `docker logs roadstead-caddy-caddy-1`"
    )]
    Missing {
        /// The name.
        name: String,
        /// What became of the handshake.
        reason: String,
    },
}

/// Sees that Caddy on the host has a certificate for `name`, which takes it seconds if it has to get one.
///
/// # Errors
/// That there is none, or that the host cannot be asked.
pub async fn ensure(session: &Session, name: &str, limit: Duration) -> Result<(), Error> {
    let missing = |reason: String| Error::Missing { name: name.to_owned(), reason };
    let server = ServerName::try_from(name.to_owned()).map_err(|error| missing(error.to_string()))?;
    let stream = session.tcp("127.0.0.1", 443, CONNECT).await?;
    let connector = connector().map_err(|error| missing(error.to_string()))?;
    match timeout(limit, connector.connect(server, stream)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(missing(error.to_string())),
        Err(_) => Err(missing(format!("nothing after {} s", limit.as_secs()))),
    }
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Named(provider)))
        .with_no_client_auth();
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate of the right name, whoever signed it.
#[derive(Debug)]
struct Named(Arc<CryptoProvider>);

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
