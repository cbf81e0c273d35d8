//! Answers, and what is no answer: statuses, hangs, resets, bodies without end.

use super::*;
use crate::probe::http::MAX_HEAD;

#[tokio::test]
async fn the_status_decides_and_its_bounds_are_inclusive() {
    for (code, expected, good) in [
        (200, 200..=399, true),
        (204, 200..=399, true),
        (301, 200..=399, true),
        (399, 200..=399, true),
        (199, 200..=399, false),
        (400, 200..=399, false),
        (503, 200..=399, false),
        (301, 200..=299, false),
        (404, 404..=404, true),
    ] {
        // 199 would be an interim answer: the final one never comes.
        let timeout = if code < 200 { BRIEF } else { PATIENT };
        let check = HttpCheck { expected, ..http_check(answering(status(code)).await) };
        let outcome = probe(&network(), Check::Http(check), timeout).await;
        assert_eq!(outcome == Outcome::Success, good, "{code}: {outcome:?}");
    }
    let check = Check::Http(http_check(answering(status(503)).await));
    let expected = "`GET /healthz` was answered with status 503, where 200 to 399 are expected";
    assert_eq!(failure(&network(), check, PATIENT).await, (reason::UNEXPECTED_STATUS, expected.to_owned()));
}

#[tokio::test]
async fn the_request_is_what_the_check_says_and_names_who_asks() {
    let (sender, mut requests) = mpsc::channel(8);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(head(&mut stream).await).await.unwrap();
            let _ = stream.write_all(status(200).as_bytes()).await;
        }
    })
    .await;
    let check = HttpCheck {
        method: Method::HEAD,
        path: "/deep?x=1".to_owned(),
        host: Some("shop.example.com".to_owned()),
        ..http_check(port)
    };
    assert_eq!(probe(&network(), Check::Http(check), PATIENT).await, Outcome::Success);
    let request = requests.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("head /deep?x=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: shop.example.com\r\n"), "{request}");
    let agent = format!("\r\nuser-agent: roadstead-probe/{}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(request.contains(&agent), "{request}");
    assert!(request.contains("\r\nconnection: close\r\n"), "{request}");

    assert_eq!(probe(&network(), Check::Http(http_check(port)), PATIENT).await, Outcome::Success);
    let request = requests.recv().await.unwrap();
    assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
}

#[tokio::test]
async fn a_redirect_is_a_status_and_is_not_followed() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    let elsewhere = server(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let port = answering(redirect).await;
    assert_eq!(probe(&network(), Check::Http(http_check(port)), PATIENT).await, Outcome::Success);
    let strict = HttpCheck { expected: 200..=299, ..http_check(port) };
    assert_eq!(failure(&network(), Check::Http(strict), PATIENT).await.0, reason::UNEXPECTED_STATUS);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_that_hangs_at_any_point_is_out_of_time() {
    let silent = server(|mut stream| async move { gone(&mut stream).await }).await;
    let half = answering("HTTP/1.1 200 OK\r\nContent-Le").await;
    let trickling = server(|mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"X-More: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut checks: Vec<_> = [silent, half, trickling].map(|port| Check::Http(http_check(port))).into();
    // The handshake hangs, too.
    checks.push(Check::Http(HttpCheck { scheme: Scheme::Https, ..http_check(silent) }));
    for check in checks {
        let (reason, message) = failure(&network(), check.clone(), BRIEF).await;
        assert_eq!(reason, reason::TIMEOUT, "{check:?} {message}");
        assert_eq!(failure(&network(), check, BRIEF).await.1, message, "a message that stays the same");
    }
}

#[tokio::test]
async fn an_endless_body_is_not_read() {
    let (sender, mut written) = mpsc::channel(1);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
            let mut total = 0;
            while stream.write_all(&chunk).await.is_ok() {
                total += chunk.len();
            }
            sender.send(total).await.unwrap();
        }
    })
    .await;
    assert_eq!(probe(&network(), Check::Http(http_check(port)), PATIENT).await, Outcome::Success);
    // The server can fill the kernel's buffers at most, and then sees that nobody is there.
    let written = tokio::time::timeout(PATIENT, written.recv()).await.unwrap().unwrap();
    assert!(written < 32 * 1024 * 1024, "{written}");
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_from_a_large_one_and_from_none_at_all() {
    let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    let endless = format!("HTTP/1.1 200 OK\r\nX-Large: {}", "x".repeat(4 * MAX_HEAD));
    let just_fits = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n\r\n", "x".repeat(MAX_HEAD - 200));
    for (answer, reason, part) in [
        (large.as_str(), reason::INVALID_RESPONSE, "exceed 16384 bytes"),
        (&endless, reason::INVALID_RESPONSE, "exceed 16384 bytes"),
        ("SSH-2.0-OpenSSH_9.2\r\n", reason::INVALID_RESPONSE, "does not answer with HTTP/1.1"),
        ("\x15\x03\x01\x00\x02\x02\x28", reason::INVALID_RESPONSE, "does not answer with HTTP/1.1"),
    ] {
        let check = Check::Http(http_check(answering(answer).await));
        let (seen, message) = failure(&network(), check, PATIENT).await;
        assert_eq!(seen, reason, "{message}");
        assert!(message.contains(part), "{message}");
    }
    let check = Check::Http(http_check(answering(just_fits).await));
    assert_eq!(probe(&network(), check, PATIENT).await, Outcome::Success);

    for partial in ["", "HTTP/1.1 200 OK\r\n"] {
        let port = server(move |mut stream| async move {
            head(&mut stream).await;
            let _ = stream.write_all(partial.as_bytes()).await;
        })
        .await;
        let (reason, message) = failure(&network(), Check::Http(http_check(port)), PATIENT).await;
        assert_eq!(reason, reason::CONNECTION_CLOSED, "{message}");
    }
}

#[tokio::test]
async fn refused_reset_and_gone_are_told_apart() {
    let free = TcpListener::bind((local(1), 0)).await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let expected = format!("127.0.0.1:{port} refuses connections: check that the server runs and listens on this port");
    for check in [Check::Tcp { address: "127.0.0.1".to_owned(), port }, Check::Http(http_check(port))] {
        assert_eq!(failure(&network(), check, PATIENT).await, (reason::CONNECTION_REFUSED, expected.clone()));
    }
    let port = server(|mut stream| async move {
        head(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let (reason, message) = failure(&network(), Check::Http(http_check(port)), PATIENT).await;
    assert_eq!(reason, reason::CONNECTION_RESET, "{message}");
}

#[tokio::test]
async fn a_tcp_check_is_a_connection_and_nothing_more() {
    let (sender, mut received) = mpsc::channel(1);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            sender.send(bytes).await.unwrap();
        }
    })
    .await;
    let check = Check::Tcp { address: "origin.example.com".to_owned(), port };
    assert_eq!(probe(&network(), check, PATIENT).await, Outcome::Success);
    assert!(received.recv().await.unwrap().is_empty());
}
