//! Whom we believe, who believes us, and what is said where nobody answers.

use std::time::{Duration, Instant};

use roadstead::host::ssh::{Error, HostKeys, KeyPair, Options, Session, Target};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::rig::{LONG, Sshd, command};

#[tokio::test]
async fn a_host_with_one_of_the_pinned_keys_is_believed() {
    let sshd = Sshd::start().await;
    let other = KeyPair::generate("other").unwrap().public_line();
    let text = format!("# keys\n{other}\n{}\n", sshd.host_key.public_line());
    let session = sshd.try_connect(&sshd.target(), &sshd.key, &HostKeys::pinned(text.lines()).unwrap()).await.unwrap();
    assert!(session.exec(command("true")).await.unwrap().success());
    assert!(sshd.host_key.public_line().starts_with(&session.host_key().line()));
}

#[tokio::test]
async fn a_changed_host_key_is_refused_naming_both() {
    let mut sshd = Sshd::start().await;
    let (pinned, before) = (sshd.host_keys(), sshd.host_key.fingerprint());
    sshd.try_connect(&sshd.target(), &sshd.key, &pinned).await.unwrap();
    sshd.host_key = KeyPair::generate("reinstalled").unwrap();
    sshd.restart().await;
    let error = sshd.try_connect(&sshd.target(), &sshd.key, &pinned).await.unwrap_err();
    let Error::HostKeyRefused { server, offered, pinned } = &error else { panic!("{error:?}") };
    assert_eq!(*server, format!("127.0.0.1:{}", sshd.port));
    assert_eq!(*offered, format!("ssh-ed25519 {}", sshd.host_key.fingerprint()));
    assert_eq!(*pinned, format!("ssh-ed25519 {before}"));
    assert!(error.to_string().contains(offered) && error.to_string().contains(pinned), "{error}");
    // Nobody was let in, or tried to get in: a stranger learns nothing of us.
    assert!(!sshd.log().contains("for invalid user") && sshd.connections() == 1, "{}", sshd.log());
}

#[tokio::test]
async fn the_key_of_a_first_contact_can_be_pinned() {
    let sshd = Sshd::start().await;
    let session = sshd.try_connect(&sshd.target(), &sshd.key, &HostKeys::TrustOnFirstUse).await.unwrap();
    let line = session.host_key().line();
    let pinned = HostKeys::pinned([line.as_str()]).unwrap();
    assert_eq!(pinned, sshd.host_keys());
    sshd.try_connect(&sshd.target(), &sshd.key, &pinned).await.unwrap();
}

#[tokio::test]
async fn a_host_shows_the_key_of_the_type_that_is_pinned() {
    // Of an Ed25519 and an ECDSA key, clients are shown the first unless they ask for the other.
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("ecdsa");
    let made = std::process::Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    let sshd = Sshd::with(&format!("HostKey {}", path.display())).await;
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    let pinned = HostKeys::pinned(public.lines()).unwrap();
    let session = sshd.try_connect(&sshd.target(), &sshd.key, &pinned).await.unwrap();
    assert!(public.starts_with(&session.host_key().line()) && public.starts_with("ecdsa-sha2-nistp256 "));
    let session = sshd.try_connect(&sshd.target(), &sshd.key, &HostKeys::TrustOnFirstUse).await.unwrap();
    assert!(sshd.host_keys().accept(session.host_key()));
}

#[tokio::test]
async fn a_key_that_is_not_let_in_is_named() {
    let sshd = Sshd::start().await;
    let stranger = KeyPair::generate("stranger").unwrap();
    let error = sshd.try_connect(&sshd.target(), &stranger, &sshd.host_keys()).await.unwrap_err();
    let Error::KeyRefused { user, key, why, .. } = &error else { panic!("{error:?}") };
    assert_eq!((user.as_str(), key), (crate::rig::user(), &stranger.fingerprint()));
    assert!(why.contains("publickey"), "{why}");
    assert!(error.to_string().contains("authorized_keys"), "{error}");
}

#[tokio::test]
async fn a_user_who_is_not_let_in_is_named() {
    let sshd = Sshd::start().await;
    let target = Target { user: "nobody-here".to_owned(), ..sshd.target() };
    let error = sshd.try_connect(&target, &sshd.key, &sshd.host_keys()).await.unwrap_err();
    assert!(matches!(&error, Error::KeyRefused { user, .. } if user == "nobody-here"), "{error:?}");
    assert!(sshd.log().contains("Invalid user nobody-here"));
}

#[tokio::test]
async fn a_key_survives_being_kept_as_text() {
    let sshd = Sshd::start().await;
    let key = KeyPair::from_openssh(&sshd.key.to_openssh().unwrap()).unwrap();
    sshd.try_connect(&sshd.target(), &key, &sshd.host_keys()).await.unwrap();
}

#[tokio::test]
async fn a_closed_port_is_unreachable_at_once() {
    let target = Target { address: "127.0.0.1".to_owned(), port: support::free_port(), user: "root".to_owned() };
    let started = Instant::now();
    let error = connect(&target, LONG).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("cannot reach 127.0.0.1:{}: Connection refused", target.port)));
    assert!(started.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_listener_that_never_answers_runs_into_the_time_limit() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let target = at(&listener);
    let limit = Duration::from_millis(300);
    let error = connect(&target, limit).await.unwrap_err();
    assert!(matches!(&error, Error::TimedOut { limit: of, .. } if *of == limit), "{error:?}");
    assert!(error.to_string().starts_with("awaiting the greeting and the host key of 127.0.0.1:"), "{error}");
    // The connection is not left behind.
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut greeting);
    tokio::time::timeout(LONG, read).await.unwrap().unwrap();
    assert!(greeting.starts_with(b"SSH-2.0-roadstead_"), "{}", String::from_utf8_lossy(&greeting));
}

#[tokio::test]
async fn a_listener_that_hangs_up_or_speaks_something_else_is_told_from_a_host() {
    let garbage = &b"SSH-2.0-old\r\nHTTP/1.1 400 Bad Request\r\n\r\n"[..];
    for (answer, is_cut) in [(&b""[..], true), (b"HTTP/1.1 400 Bad Request\r\n\r\n", true), (garbage, false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = at(&listener);
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            // Until the client hangs up, so that nothing of the answer is lost.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        });
        let error = connect(&target, LONG).await.unwrap_err();
        assert_eq!(error.is_cut(), is_cut, "{error:?}");
        assert!(is_cut || matches!(error, Error::NotSsh { .. }), "{error:?}");
        assert!(error.to_string().contains("see that the port is sshd's"), "{error}");
        server.await.unwrap();
    }
}

fn at(listener: &TcpListener) -> Target {
    Target { address: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port(), user: "root".to_owned() }
}

async fn connect(target: &Target, limit: Duration) -> Result<Session, Error> {
    let key = KeyPair::generate("tests").unwrap();
    Session::connect(target, &key, &HostKeys::TrustOnFirstUse, &Options::default(), limit).await
}
