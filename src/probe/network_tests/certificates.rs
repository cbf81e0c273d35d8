//! TLS with an authority of our own, and every flaw a certificate can have.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use rustls::SupportedProtocolVersion;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority, and what it signed.
pub(super) struct Authority {
    pub(super) ca: Vec<u8>,
    dir: TempDir,
    /// Its servers are one fleet: a session begun with one may be resumed with another.
    sessions: Arc<dyn StoresServerSessions>,
}

pub(super) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let config = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n\
                  default_md = sha256\npolicy = any\ncopy_extensions = copy\nunique_subject = no\n\
                  certificate = ca.pem\nprivate_key = ca.key\n[any]\ncommonName = supplied\n";
    std::fs::write(dir.path().join("ca.cnf"), config).unwrap();
    std::fs::write(dir.path().join("index.txt"), "").unwrap();
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(dir.path(), &format!("req -x509 {ec} -keyout ca.key -out ca.pem -subj /CN=tests -days 2"));
    for (name, kind) in [("selfsigned", "TRUE"), ("stranger", "FALSE")] {
        let extensions = format!("-addext subjectAltName=DNS:web.example.com -addext basicConstraints=CA:{kind}");
        let files = format!("-keyout {name}.key -out {name}.pem -subj /CN={name}");
        openssl(dir.path(), &format!("req -x509 {ec} {files} -days 2 {extensions}"));
    }
    for (name, from, to) in [
        ("good", "20200101000000Z", "20991231000000Z"),
        ("expired", "20200101000000Z", "20200201000000Z"),
        ("early", "20980101000000Z", "20991231000000Z"),
    ] {
        let names = "subjectAltName=DNS:web.example.com,IP:127.0.0.1";
        openssl(dir.path(), &format!("req {ec} -keyout {name}.key -out {name}.csr -subj /CN={name} -addext {names}"));
        let dates = format!("-startdate {from} -enddate {to}");
        openssl(dir.path(), &format!("ca -batch -notext -config ca.cnf {dates} -in {name}.csr -out {name}.pem"));
    }
    let sessions = ServerSessionMemoryCache::new(100);
    Authority { ca: std::fs::read(dir.path().join("ca.pem")).unwrap(), dir, sessions }
});

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(dir).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Authority {
    pub(super) fn acceptor(&self, name: &str, protocols: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
        let file = |suffix| self.dir.path().join(format!("{name}.{suffix}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(protocols)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(file("pem")).unwrap()],
                PrivateKeyDer::from_pem_file(file("key")).unwrap(),
            )
            .unwrap();
        config.session_storage = Arc::clone(&self.sessions);
        TlsAcceptor::from(Arc::new(config))
    }

    /// An HTTPS server with one of its certificates.
    async fn server(&self, name: &str) -> u16 {
        self.server_with(name, &[&rustls::version::TLS13, &rustls::version::TLS12]).await
    }

    async fn server_with(&self, name: &str, protocols: &[&'static SupportedProtocolVersion]) -> u16 {
        let acceptor = self.acceptor(name, protocols);
        server(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                head(&mut stream).await;
                let _ = stream.write_all(status(200).as_bytes()).await;
                let _ = stream.flush().await;
                gone(&mut stream).await;
            }
        })
        .await
    }
}

/// As the other tests have it, and it trusts the authority.
pub(super) fn network() -> Network {
    Network::with_resolver(names([Ok(vec![local(1)])]), loopback(), Some(&AUTHORITY.ca)).unwrap()
}

fn https_check(port: u16, host: Option<&str>) -> HttpCheck {
    HttpCheck { scheme: Scheme::Https, host: host.map(str::to_owned), ..http_check(port) }
}

#[tokio::test]
async fn a_verified_certificate_is_good_under_every_name_it_has() {
    let port = AUTHORITY.server("good").await;
    let named =
        HttpCheck { server_name: Some("web.example.com".to_owned()), ..https_check(port, Some("x.example.com")) };
    let by_name = HttpCheck { address: "web.example.com".to_owned(), ..https_check(port, None) };
    for check in [https_check(port, None), https_check(port, Some("web.example.com")), named, by_name] {
        let outcome = probe(&network(), Check::Http(check.clone()), PATIENT).await;
        assert_eq!(outcome, Outcome::Success, "{check:?}");
    }
    for protocol in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let port = AUTHORITY.server_with("good", &[protocol]).await;
        let outcome = probe(&network(), Check::Http(https_check(port, None)), PATIENT).await;
        assert_eq!(outcome, Outcome::Success, "{protocol:?}");
    }
}

#[tokio::test]
async fn every_flaw_of_a_certificate_has_its_own_reason() {
    let network = network();
    for (certificate, host, reason, message) in [
        (
            "expired",
            "web.example.com",
            reason::CERTIFICATE_EXPIRED,
            "the certificate of `web.example.com` has expired: renew it",
        ),
        (
            "early",
            "web.example.com",
            reason::CERTIFICATE_NOT_YET_VALID,
            "the certificate of `web.example.com` is not valid yet: check the clocks of both sides",
        ),
        (
            "good",
            "shop.example.com",
            reason::CERTIFICATE_NAME_MISMATCH,
            "the certificate is not valid for `shop.example.com`, only for `web.example.com`, \
             `127.0.0.1`: serve one that names it, or set the server name",
        ),
        (
            "selfsigned",
            "web.example.com",
            reason::CERTIFICATE_NOT_TRUSTED,
            "the certificate of `web.example.com` is itself an authority's, as self-signed ones are: serve one that an \
             authority signed",
        ),
        (
            "stranger",
            "web.example.com",
            reason::CERTIFICATE_NOT_TRUSTED,
            "the certificate of `web.example.com` is signed by nobody who is trusted: serve the whole chain, or have \
             the authority added to the trusted ones",
        ),
    ] {
        let check = Check::Http(https_check(AUTHORITY.server(certificate).await, Some(host)));
        assert_eq!(failure(&network, check, PATIENT).await, (reason, message.to_owned()));
    }
}

#[tokio::test]
async fn an_authority_is_trusted_by_setting_alone() {
    let check = Check::Http(https_check(AUTHORITY.server("good").await, None));
    let without = super::network();
    assert_eq!(failure(&without, check.clone(), PATIENT).await.0, reason::CERTIFICATE_NOT_TRUSTED);
    assert_eq!(probe(&network(), check, PATIENT).await, Outcome::Success);
}

#[tokio::test]
async fn a_certificate_that_expires_between_two_probes_is_noticed_in_spite_of_session_tickets() {
    let (good, expired) =
        (AUTHORITY.acceptor("good", rustls::ALL_VERSIONS), AUTHORITY.acceptor("expired", rustls::ALL_VERSIONS));
    let served = Arc::new(AtomicUsize::new(0));
    let port = server(move |stream| {
        let acceptor = if served.fetch_add(1, Ordering::SeqCst) < 2 { good.clone() } else { expired.clone() };
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            head(&mut stream).await;
            let _ = stream.write_all(status(200).as_bytes()).await;
            gone(&mut stream).await;
        }
    })
    .await;
    let (network, check) = (network(), Check::Http(https_check(port, None)));
    for _ in 0..2 {
        assert_eq!(probe(&network, check.clone(), PATIENT).await, Outcome::Success);
    }
    assert_eq!(failure(&network, check, PATIENT).await.0, reason::CERTIFICATE_EXPIRED);
}

#[tokio::test]
async fn what_does_not_speak_tls_is_a_failure_of_tls() {
    let plain = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
        gone(&mut stream).await;
    })
    .await;
    let closing = server(|_| async {}).await;
    for port in [plain, closing] {
        let (reason, message) = failure(&network(), Check::Http(https_check(port, None)), PATIENT).await;
        assert_eq!(reason, reason::TLS_ERROR, "{message}");
        assert!(message.contains("that the port speaks TLS"), "{message}");
    }
    let check = HttpCheck { server_name: Some("no name".to_owned()), ..https_check(closing, None) };
    assert_eq!(failure(&network(), Check::Http(check), PATIENT).await.0, reason::INVALID_CHECK);
}
