//! Bodies that are too long to keep, and connections that stay open.

use futures::{SinkExt, StreamExt};
use sha2::{Digest, Sha256};
use support::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::bench::{Bench, answer, from};
use crate::origin::{self, Mood, Origin, url};

const MEBIBYTE: usize = 1 << 20;

/// Ten mebibytes without a pattern that a lost or repeated piece would fit into.
fn ten_mebibytes() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(10 * MEBIBYTE).collect()
}

/// An upload whose end is sent only once the origin has its beginning.
async fn upload(bench: &Bench, origin: &Origin, method: &str, chunked: bool) -> String {
    let body = ten_mebibytes();
    let mut stream = TcpStream::connect(bench.address()).await.unwrap();
    let framing =
        if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {}", body.len()) };
    let head = format!("{method} /upload HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (first, rest) = body.split_at(MEBIBYTE);
    for piece in [first, rest] {
        if chunked {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        }
        stream.write_all(piece).await.unwrap();
        if chunked {
            stream.write_all(b"\r\n").await.unwrap();
        }
        origin.until(|seen| seen.iter().any(|seen| seen.length > 0)).await;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn a_long_upload_streams_through_past_a_dead_origin_and_arrives_whole_and_once() {
    for (method, chunked) in [("POST", true), ("POST", false), ("PUT", true), ("PUT", false)] {
        let b = Origin::start("b").await;
        let origins = format!("{},{}", url(free_port()), b.url());
        let bench = Bench::start(&[("ORIGINS", &origins), ("STRATEGY", "failover")]).await;
        let response = upload(&bench, &b, method, chunked).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{method} {chunked}: {response}");
        let seen = b.seen();
        assert_eq!(seen.len(), 1, "{method} {chunked}");
        assert_eq!((seen[0].method.as_str(), seen[0].length), (method, 10 * MEBIBYTE));
        assert_eq!(seen[0].digest, Some(Sha256::digest(ten_mebibytes()).to_vec()));
        assert_eq!(seen[0].headers.contains_key("content-length"), !chunked, "the framing is kept");
    }
}

#[tokio::test]
async fn an_upload_may_take_longer_than_an_origin_may_take_to_answer() {
    let a = Origin::start("a").await;
    let bench = Bench::over(&[&a], &[("ORIGIN_TIMEOUT_MS", "300")]).await;
    let mut stream = TcpStream::connect(bench.address()).await.unwrap();
    stream
        .write_all(b"POST /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\n\r\nab")
        .await
        .unwrap();
    a.until(|seen| seen.iter().any(|seen| seen.length == 2)).await;
    // Another request runs into the same limit meanwhile: so the time has passed.
    a.set_mood(Mood::Silent);
    assert_eq!(answer(bench.get("/silent")).await.0, 503);
    a.set_mood(Mood::Well);
    stream.write_all(b"cd").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(a.seen().iter().filter(|seen| seen.method == "POST").map(|seen| seen.length).collect::<Vec<_>>(), [4]);
}

#[tokio::test]
async fn a_get_with_a_body_is_refused_and_says_nothing_against_the_origins() {
    let a = Origin::start("a").await;
    let bench = Bench::over(&[&a], &[]).await;
    let (status, body) = answer(bench.get("/search").body("{}")).await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(answer(bench.get("/")).await, from("a"));
    assert_eq!(a.all().len(), 1);
}

#[tokio::test]
async fn a_websocket_goes_through_past_a_dead_origin_and_echoes() {
    let (port, _tasks) = origin::echo().await;
    let origins = format!("{},{}", url(free_port()), url(port));
    for sticky in ["none", "cookie"] {
        let bench = Bench::start(&[("ORIGINS", &origins), ("STRATEGY", "failover"), ("STICKY", sticky)]).await;
        let stream = TcpStream::connect(bench.address()).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async("ws://shop.example.com/chat", stream).await.unwrap();
        for message in [Message::text("hello"), Message::binary(vec![7_u8; 100_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
    }
}
