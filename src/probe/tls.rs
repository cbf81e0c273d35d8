//! TLS of probes: whom to trust, and what a failed handshake means in words.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::{Failure, SettingsError, reason};

/// Trusts the system's authorities and those of `extra_ca` (PEM).
pub(super) fn connector(extra_ca: Option<&[u8]>) -> Result<TlsConnector, SettingsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(pem) = extra_ca {
        let bad = |error: String| SettingsError::ExtraCa(error);
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?;
        if certificates.is_empty() {
            return Err(bad("there is no certificate in it".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
    }
    if roots.is_empty() {
        tracing::warn!("no certificate authority is trusted: every probe with https will fail");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A resumed session shows no certificate: one that expires would go unnoticed.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What the TLS library objected to, if this error is its.
pub(super) fn objection(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why the handshake with `server` failed. Holds none of the times that the library's texts hold.
pub(super) fn failure(error: &rustls::Error, server: &str) -> Failure {
    // What servers that obtain their certificates by themselves say while they have none.
    if let rustls::Error::AlertReceived(AlertDescription::InternalError | AlertDescription::UnrecognisedName) = error {
        let message = format!(
            "there is no certificate for `{server}` where it is served: check that its records lead there, and what \
             the server's log says of obtaining one"
        );
        return Failure { reason: reason::CERTIFICATE_MISSING, message };
    }
    let rustls::Error::InvalidCertificate(invalid) = error else {
        let message =
            format!("TLS with `{server}` failed: {error}; check its TLS settings, and that the port speaks TLS");
        return Failure { reason: reason::TLS_ERROR, message };
    };
    let (reason, message) = match invalid {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (reason::CERTIFICATE_EXPIRED, format!("the certificate of `{server}` has expired: renew it"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            reason::CERTIFICATE_NOT_YET_VALID,
            format!("the certificate of `{server}` is not valid yet: check the clocks of both sides"),
        ),
        CertificateError::NotValidForName => (
            reason::CERTIFICATE_NAME_MISMATCH,
            format!("the certificate is not valid for `{server}`: serve one that names it, or set the server name"),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let message = format!(
                "the certificate is not valid for `{server}`, only for {}: serve one that names it, or set the server \
                 name",
                names(presented)
            );
            (reason::CERTIFICATE_NAME_MISMATCH, message)
        }
        CertificateError::UnknownIssuer => (
            reason::CERTIFICATE_NOT_TRUSTED,
            format!(
                "the certificate of `{server}` is signed by nobody who is trusted: serve the whole chain, or have the \
                 authority added to the trusted ones"
            ),
        ),
        // So the library calls what `openssl req -x509` makes by default.
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => (
            reason::CERTIFICATE_NOT_TRUSTED,
            format!(
                "the certificate of `{server}` is itself an authority's, as self-signed ones are: serve one that an \
                 authority signed"
            ),
        ),
        other => {
            let message = format!("the certificate of `{server}` cannot be used ({other}): replace it");
            (reason::CERTIFICATE_INVALID, message)
        }
    };
    Failure { reason, message }
}

/// The first few names, since a certificate may hold hundreds. The library writes them as `DnsName("web.example.com")`.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 3;
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    let plain = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        format!("`{}`", inner.trim_matches('"').escape_default())
    };
    let more = if presented.len() > SHOWN { " and more" } else { "" };
    format!("{}{more}", presented.iter().take(SHOWN).map(plain).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_authorities_that_are_none_are_refused_with_what_would_be_right() {
        let refused = |pem: &str| connector(Some(pem.as_bytes())).map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            refused("hello"),
            "the extra certificate authorities cannot be used: there is no certificate in it; give a PEM file of CA \
             certificates"
        );
        assert!(refused("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").contains("cannot be used: "));
        let nonsense = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(refused(nonsense).contains("cannot be used: "));
        assert!(connector(None).is_ok());
    }

    #[test]
    fn a_certificate_of_many_names_is_described_by_a_few() {
        let mut presented: Vec<_> = (1..=5).map(|n| format!("DnsName(\"web-{n}.example.com\")")).collect();
        presented[1] = "IpAddress(203.0.113.7)".to_owned();
        assert_eq!(names(&presented[..1]), "`web-1.example.com`");
        assert_eq!(names(&presented), "`web-1.example.com`, `203.0.113.7`, `web-3.example.com` and more");
        assert_eq!(names(&[]), "no name at all");
    }
}
