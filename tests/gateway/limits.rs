//! How often one may ask, who leads, and how the gateway ends.

use std::num::NonZeroU32;
use std::time::Duration;

use roadstead::gateway::{Rates, Settings, TlsFiles, serve};
use serde_json::json;
use support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Answer, World, plenty, settings};

fn few(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// Asks until it is too much, and gives that answer.
async fn until_refused(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    for _ in 0..1000 {
        let answer = ask().await;
        if answer.status == 429 {
            return answer;
        }
        assert!(answer.status < 500, "{answer:?}");
    }
    panic!("a thousand requests were let through")
}

fn is_told_when_to_come_back(answer: &Answer) {
    assert_eq!(answer.body["code"], "TooManyRequests");
    let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
}

#[tokio::test]
async fn a_key_that_is_used_too_often_is_slowed_down_and_no_other() {
    let rates = Rates { per_key: few(2), ..settings().rates };
    let world = World::with(Settings { rates, ..settings() }).await;
    let (mine, other) = (world.key("a@example.com").await, world.key("b@example.com").await);
    let refused = until_refused(async || world.get("/api/groups", Some(&mine)).await).await;
    is_told_when_to_come_back(&refused);
    assert_eq!(world.get("/api/groups", Some(&other)).await.status, 200);
    // It comes back by itself.
    eventually(Duration::from_secs(20), "the key to be let through again", async || {
        world.get("/api/groups", Some(&mine)).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_slowed_down_behind_a_trusted_proxy_as_well() {
    let rates = Rates { per_address: few(2), ..settings().rates };
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let world = World::with(Settings { rates, trusted_proxies, ..settings() }).await;
    let ask = async |address: &str| {
        let request = world.client.get(format!("{}/setup", world.url)).header("x-forwarded-for", address);
        World::answer(request).await
    };
    is_told_when_to_come_back(&until_refused(async || ask("198.51.100.1").await).await);
    assert_eq!(ask("198.51.100.2").await.status, 200);
    // Who writes the header himself gains nothing: the proxy's own word stands last.
    is_told_when_to_come_back(&until_refused(async || ask("198.51.100.9, 198.51.100.3").await).await);
    is_told_when_to_come_back(&until_refused(async || ask("198.51.100.8, 198.51.100.3").await).await);
}

#[tokio::test]
async fn an_untrusted_client_cannot_choose_its_address() {
    let rates = Rates { per_address: few(2), ..settings().rates };
    let world = World::with(Settings { rates, ..settings() }).await;
    let mut number = 0;
    let refused = until_refused(async || {
        number += 1;
        let request = world.client.get(format!("{}/setup", world.url));
        World::answer(request.header("x-forwarded-for", format!("198.51.100.{}", number % 250))).await
    });
    is_told_when_to_come_back(&refused.await);
}

#[tokio::test]
async fn sign_ups_are_slowed_down_before_anything_else_is() {
    let rates = Rates { signups: few(3), per_address: plenty(), per_key: plenty() };
    let world = World::with(Settings { rates, ..settings() }).await;
    let mut number = 0;
    let refused = until_refused(async || {
        number += 1;
        world.post("/api/users/create", None, &json!({"email": format!("user{number}@example.com")})).await
    });
    is_told_when_to_come_back(&refused.await);
    assert_eq!(world.users.users.lock().unwrap().len(), 3);
    assert_eq!(world.get("/setup", None).await.status, 200);
}

#[tokio::test]
async fn a_replica_that_does_not_lead_says_so_until_it_does() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    world.leading.send_replace(None);
    for answer in [
        world.get("/api/groups", Some(&key)).await,
        world.report(&key, &slug, "10.0.0.1", "healthy").await,
        world.get(&format!("/dns/{slug}"), None).await,
        world.post("/api/users/create", None, &json!({"email": "b@example.com"})).await,
    ] {
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("NotLeader")), "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "2");
    }
    world.leading.send_replace(Some(world.ports.clone()));
    assert_eq!(world.get(&format!("/dns/{slug}"), None).await.status, 200);
}

#[tokio::test]
async fn told_to_stop_it_listens_no_longer() {
    let world = World::new().await;
    assert_eq!(world.get("/setup", None).await.status, 200);
    world.stop.send_replace(true);
    let address = world.url.trim_start_matches("http://").to_owned();
    eventually(Duration::from_secs(20), "nobody to listen", async || {
        tokio::net::TcpStream::connect(&address).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: directory.path().join("tls.crt"), key: directory.path().join("tls.key") };
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=gateway.example.com", "-addext", "subjectAltName=DNS:gateway.example.com"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&files.certificate)
        .arg("-keyout")
        .arg(&files.key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pem = std::fs::read(&files.certificate).unwrap();
    let world = World::with(Settings { tls: Some(files), ..settings() }).await;

    let address = world.url.trim_start_matches("https://").to_owned();
    let certificate = reqwest::Certificate::from_pem(&pem).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
        .resolve("gateway.example.com", address.parse().unwrap())
        .build()
        .unwrap();
    let port = address.rsplit(':').next().unwrap();
    let answer = World::answer(client.get(format!("https://gateway.example.com:{port}/setup"))).await;
    assert_eq!((answer.status, answer.body), (200, json!("Tables created successfully!")));

    let mut plain = tokio::net::TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"GET /setup HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains("Tables"));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_before_anything_is_served() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: directory.path().join("tls.crt"), key: directory.path().join("tls.key") };
    let channels = || (tokio::sync::watch::channel(None).1, tokio::sync::watch::channel(false).1);
    let broken = Settings { tls: Some(files.clone()), ..settings() };
    let (leading, stop) = channels();
    let error = serve(broken.clone(), leading, stop).await.err().unwrap().to_string();
    assert!(error.contains("tls.crt") && error.contains("--gateway-tls-cert"), "{error}");
    std::fs::write(&files.certificate, "nonsense").unwrap();
    std::fs::write(&files.key, "nonsense").unwrap();
    let (leading, stop) = channels();
    assert!(serve(broken, leading, stop).await.is_err());
}
