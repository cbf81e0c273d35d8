//! The host's sockets, and HTTP to what listens on them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use http::Request;
use roadstead::host::ssh::{Error, HttpLimits, Via};
use support::{eventually, free_port};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use crate::rig::{LONG, Sshd, command};

const LIMITS: HttpLimits = HttpLimits { time: LONG, body: 1 << 20 };

/// Sends everything back, and ends when its client does.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut bytes = vec![0; 10_000];
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        stream.write_all(&bytes[..read]).await.unwrap();
    }
    let _ = stream.shutdown().await;
}

async fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    address
}

fn unix_echo(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
}

/// A site that says what it was asked.
fn site() -> Router {
    let asked = |headers: HeaderMap, body: Bytes| async move {
        let host = headers.get("host").unwrap().to_str().unwrap().to_owned();
        (StatusCode::CREATED, [("x-host", host)], body)
    };
    Router::new()
        .route("/echo", post(asked))
        .route("/large", get(|| async { vec![b'x'; 2_000_000] }))
        .route("/moved", get(|| async { (StatusCode::FOUND, [("location", "/large")]) }))
        .route("/never", get(std::future::pending::<()>))
}

async fn tcp_site() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, site()).await });
    address
}

fn unix_site(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move { axum::serve(listener, site()).await });
}

fn asking(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

/// Sends 3 MB while reading them back, ends its own half, and reads to the end.
async fn there_and_back(stream: impl AsyncRead + AsyncWrite) {
    let sent: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let write = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let ((), came_whole) = tokio::join!(write, read.read_to_end(&mut came));
    came_whole.unwrap();
    assert!(came == sent);
}

#[tokio::test]
async fn bytes_go_there_and_back_through_a_tcp_channel() {
    let (sshd, address) = (Sshd::start().await, tcp_echo().await);
    let session = sshd.connect().await;
    there_and_back(session.tcp("127.0.0.1", address.port(), LONG).await.unwrap()).await;
}

#[tokio::test]
async fn bytes_go_there_and_back_through_a_unix_socket() {
    let sshd = Sshd::start().await;
    let path = sshd.path("a socket's path");
    unix_echo(&path);
    let session = sshd.connect().await;
    there_and_back(session.unix(path.to_str().unwrap(), LONG).await.unwrap()).await;
}

#[tokio::test]
async fn where_nobody_listens_the_channel_is_refused() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let port = free_port();
    let error = session.tcp("127.0.0.1", port, LONG).await.unwrap_err();
    let words = format!("127.0.0.1:{} refused a channel to 127.0.0.1:{port}: nothing answers there", sshd.port);
    assert_eq!(error.to_string(), words);
    let error = session.unix("/nowhere/admin.sock", LONG).await.unwrap_err();
    assert!(matches!(error, Error::ChannelRefused { .. }), "{error:?}");
    assert!(error.to_string().contains("there is no such socket"), "{error}");
    assert!(!session.is_closed());
}

#[tokio::test]
async fn a_host_that_forbids_forwarding_says_which_setting() {
    let sshd = Sshd::with("AllowTcpForwarding no\nAllowStreamLocalForwarding no").await;
    let session = sshd.connect().await;
    let error = session.tcp("127.0.0.1", 80, LONG).await.unwrap_err();
    assert!(error.to_string().contains("`AllowTcpForwarding local`"), "{error}");
    let error = session.unix("/run/x.sock", LONG).await.unwrap_err();
    assert!(error.to_string().contains("`AllowStreamLocalForwarding local`"), "{error}");
}

#[tokio::test]
async fn a_dropped_stream_closes_the_connection_at_the_host() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let stream = session.tcp("127.0.0.1", listener.local_addr().unwrap().port(), LONG).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    drop(stream);
    // The server sees the end, even one that would send for ever.
    let mut rest = Vec::new();
    tokio::time::timeout(LONG, accepted.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_cut_connection_is_not_taken_for_the_end_of_the_stream() {
    let (sshd, address) = (Sshd::start().await, tcp_echo().await);
    let session = sshd.connect().await;
    let mut stream = session.tcp("127.0.0.1", address.port(), LONG).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut came = [0; 5];
    stream.read_exact(&mut came).await.unwrap();
    sshd.cut();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_reader_that_stands_still_loses_its_stream_and_the_others_go_on() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut lazy = session.tcp("127.0.0.1", listener.local_addr().unwrap().port(), LONG).await.unwrap();
    let (mut source, _) = listener.accept().await.unwrap();
    // More than everything between can hold: it returns when the stream is gone.
    let flood = tokio::spawn(async move { while source.write_all(&[0; 16_000]).await.is_ok() {} });
    assert!(session.exec(command("true")).await.unwrap().success());
    flood.await.unwrap();
    let error = lazy.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn http_goes_through_both_kinds_of_channel() {
    let sshd = Sshd::start().await;
    let (address, path) = (tcp_site().await, sshd.path("site.sock"));
    unix_site(&path);
    let session = sshd.connect().await;
    let tcp = Via::Tcp("127.0.0.1".to_owned(), address.port());
    let unix = Via::Unix(path.to_str().unwrap().to_owned());
    for (via, host) in [(tcp, address.to_string()), (unix, "localhost".to_owned())] {
        let request = Request::post("/echo").body(Bytes::from_static(b"question")).unwrap();
        let answer = session.http(&via, request, LIMITS).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert_eq!(answer.headers()["x-host"], host);
        assert_eq!(answer.body().as_ref(), b"question");
        let request = Request::post("/echo").header("host", "shop.example.com").body(Bytes::new()).unwrap();
        let answer = session.http(&via, request, LIMITS).await.unwrap();
        assert_eq!(answer.headers()["x-host"], "shop.example.com");
        // Nothing is followed.
        assert_eq!(session.http(&via, asking("/moved"), LIMITS).await.unwrap().status(), StatusCode::FOUND);
    }
    assert_eq!(sshd.connections(), 1);
}

#[tokio::test]
async fn an_answer_may_be_as_large_as_its_cap_and_no_larger() {
    let (sshd, address) = (Sshd::start().await, tcp_site().await);
    let session = sshd.connect().await;
    let via = Via::Tcp("127.0.0.1".to_owned(), address.port());
    let limits = |body| HttpLimits { time: LONG, body };
    let answer = session.http(&via, asking("/large"), limits(2_000_000)).await.unwrap();
    assert_eq!(answer.body().len(), 2_000_000);
    let error = session.http(&via, asking("/large"), limits(1_999_999)).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { cap: 1_999_999, .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_never_comes_runs_into_the_time_limit_and_frees_its_channel() {
    let (sshd, address) = (Sshd::start().await, tcp_site().await);
    let session = sshd.connect().await;
    let via = Via::Tcp("127.0.0.1".to_owned(), address.port());
    let limits = HttpLimits { time: Duration::from_millis(200), body: 100 };
    // Twice as many as there may be channels.
    let all = (0..16).map(|_| session.http(&via, asking("/never"), limits));
    for answer in futures::future::join_all(all).await {
        assert!(matches!(answer.unwrap_err(), Error::TimedOut { .. }));
    }
    let error = eventually(LONG, "a channel", async || match session.http(&via, asking("/"), LIMITS).await {
        Ok(answer) => Ok(answer),
        Err(Error::TimedOut { .. }) => Err("none free"),
        Err(error) => panic!("{error}"),
    })
    .await;
    assert_eq!(error.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_http_or_no_whole_answer_is_an_error() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    for answer in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let via = Via::Tcp("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let error = session.http(&via, asking("/"), LIMITS).await.unwrap_err();
        assert!(matches!(error, Error::Http { .. }), "{answer}: {error:?}");
        assert!(error.to_string().contains("`GET /`"), "{error}");
        server.await.unwrap();
    }
    let via = Via::Tcp("127.0.0.1".to_owned(), 1);
    let whole = session.http(&via, asking("http://other.example.com/"), LIMITS).await.unwrap_err();
    assert!(matches!(whole, Error::Invalid(_)), "{whole:?}");
}
