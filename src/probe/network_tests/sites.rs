//! Sites: who answers for a name at one address, over TLS. What a real Caddy with real routers answers is asked in
//! `tests/router/sites.rs`; here are servers that behave as no Caddy does.

use super::certificates::{AUTHORITY, network};
use super::*;
use crate::host::table::IDENTITY_PATH;

const NONCE: &str = "0123456789abcdef0123456789abcdef";

fn site(port: u16) -> Site {
    Site {
        name: "web.example.com".to_owned(),
        address: local(1),
        port,
        path: "/up?deep=1".to_owned(),
        nonce: NONCE.to_owned(),
    }
}

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Serves this certificate, and answers each head of a request as `respond` says; a connection on which it says nothing
/// is closed. The port, and how many connections there were.
async fn host(certificate: &str, respond: impl Fn(&str) -> String + Send + Sync + 'static) -> (u16, Arc<AtomicUsize>) {
    let acceptor = AUTHORITY.acceptor(certificate, rustls::ALL_VERSIONS);
    let respond = Arc::new(respond);
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let port = server(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        let (acceptor, respond) = (acceptor.clone(), Arc::clone(&respond));
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            loop {
                let head = head(&mut stream).await;
                let answer = if head.is_empty() { String::new() } else { respond(&head) };
                if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                let _ = stream.flush().await;
                if answer.contains("Connection: close") {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        }
    })
    .await;
    (port, connections)
}

fn is_identity(head: &str) -> bool {
    head.starts_with(&format!("GET {IDENTITY_PATH} HTTP/1.1\r\n"))
}

/// The identity, and this for everything else.
fn ours(app: impl Into<String>) -> impl Fn(&str) -> String + Send + Sync + 'static {
    let app = app.into();
    move |head| if is_identity(head) { answer(200, NONCE) } else { app.clone() }
}

#[tokio::test]
async fn a_site_is_asked_for_identity_and_health_over_one_connection() {
    let (sender, mut heads) = mpsc::unbounded_channel();
    let (port, connections) = host("good", move |head| {
        sender.send(head.to_lowercase()).unwrap();
        answer(200, if is_identity(head) { NONCE } else { "hello" })
    })
    .await;
    assert_eq!(probe(&network(), Check::Site(site(port)), PATIENT).await, Outcome::Success);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let [identity, page] = [heads.recv().await.unwrap(), heads.recv().await.unwrap()];
    assert!(identity.starts_with(&format!("get {IDENTITY_PATH} http/1.1\r\n")), "{identity}");
    assert!(page.starts_with("get /up?deep=1 http/1.1\r\n"), "{page}");
    for head in [identity, page] {
        assert!(head.contains(&format!("\r\nhost: web.example.com:{port}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_host_that_closes_after_each_answer_is_asked_over_two_connections() {
    let closing =
        |body: &str| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (identity, app) = (closing(NONCE), closing("hello"));
    let respond = move |head: &str| if is_identity(head) { identity.clone() } else { app.clone() };
    let (port, connections) = host("good", respond).await;
    assert_eq!(probe(&network(), Check::Site(site(port)), PATIENT).await, Outcome::Success);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stranger_at_the_address_is_no_success_whatever_it_answers() {
    let other = "f".repeat(32);
    let long = format!("{NONCE}{}", "x".repeat(100_000));
    for identity in [
        answer(200, &other),
        answer(200, ""),
        answer(200, &format!("{NONCE}\n")),
        answer(404, NONCE),
        answer(200, &long),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{NONCE}\r\n0\r\n\r\n"),
        answer(404, "no such page"),
        answer(500, ""),
    ] {
        let (sender, mut asked) = mpsc::unbounded_channel();
        let said = identity.clone();
        let respond = move |head: &str| {
            let is_identity = is_identity(head);
            sender.send(is_identity).unwrap();
            if is_identity { said.clone() } else { answer(200, "welcome") }
        };
        let (port, _) = host("good", respond).await;
        let (reason, message) = failure(&network(), Check::Site(site(port)), PATIENT).await;
        let expected = "`web.example.com` is answered at 127.0.0.1 by another host than the Node's: check whose address it \
                        is now";
        assert_eq!((reason, &*message), (reason::WRONG_HOST, expected), "{identity:.80}");
        asked.close();
        assert_eq!((asked.recv().await, asked.recv().await), (Some(true), None), "it gets no request of the app's");
    }
}

#[tokio::test]
async fn what_the_app_answers_is_told_from_what_caddy_answers_in_its_place() {
    use crate::router::answer::Answer;
    let placeholder =
        |status: u16| format!("HTTP/1.1 {status} X\r\nX-Roadstead-Placeholder: true\r\nContent-Length: 2\r\n\r\nNo");
    let page = |answer: Answer<'_>| axum::body::to_bytes(answer.into_response().into_body(), 4096);
    let maintenance = String::from_utf8(page(Answer::Maintenance).await.unwrap().to_vec()).unwrap();
    let unavailable = String::from_utf8(page(Answer::Unavailable).await.unwrap().to_vec()).unwrap();
    for (app, reason) in [
        (placeholder(200), reason::PLACEHOLDER_ANSWERS),
        (placeholder(503), reason::PLACEHOLDER_ANSWERS),
        (answer(502, "Bad Gateway"), reason::UPSTREAM_502),
        (answer(502, "the backend of my own proxy is down"), reason::UNEXPECTED_STATUS),
        (answer(503, &unavailable), reason::UPSTREAM_503),
        (answer(503, "busy"), reason::UNEXPECTED_STATUS),
        (answer(503, &maintenance), reason::MAINTENANCE_PAGE),
        (answer(404, "Service Not Found"), reason::UNEXPECTED_STATUS),
        (answer(400, ""), reason::UNEXPECTED_STATUS),
        (answer(500, &"x".repeat(100_000)), reason::UNEXPECTED_STATUS),
    ] {
        let (port, _) = host("good", ours(&*app)).await;
        let (seen, message) = failure(&network(), Check::Site(site(port)), PATIENT).await;
        assert_eq!(seen, reason, "{app:.80} {message}");
        assert!(message.contains("web.example.com") && message.contains(": "), "{message}");
    }
    for app in [answer(200, ""), answer(399, ""), "HTTP/1.1 204 No\r\n\r\n".to_owned(), answer(308, "moved")] {
        let (port, _) = host("good", ours(&*app)).await;
        assert_eq!(probe(&network(), Check::Site(site(port)), PATIENT).await, Outcome::Success, "{app}");
    }
}

#[tokio::test]
async fn a_site_needs_a_certificate_for_its_name_even_if_the_host_is_the_right_one() {
    for (certificate, name, reason) in [
        ("expired", "web.example.com", reason::CERTIFICATE_EXPIRED),
        ("early", "web.example.com", reason::CERTIFICATE_NOT_YET_VALID),
        ("good", "shop.example.com", reason::CERTIFICATE_NAME_MISMATCH),
        ("stranger", "web.example.com", reason::CERTIFICATE_NOT_TRUSTED),
    ] {
        let (port, _) = host(certificate, ours(answer(200, ""))).await;
        let site = Site { name: name.to_owned(), ..site(port) };
        let (seen, message) = failure(&network(), Check::Site(site), PATIENT).await;
        assert_eq!(seen, reason, "{message}");
        assert!(message.contains(name) && !message.contains("set the server name"), "{message}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_there_yet_is_missing_and_not_wrong() {
    // Go's TLS, and so Caddy's, sends `internal_error` (80) then, other servers `unrecognized_name` (112).
    for alert in [80, 112] {
        let port = server(move |mut stream| async move {
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
            gone(&mut stream).await;
        })
        .await;
        let (reason, message) = failure(&network(), Check::Site(site(port)), PATIENT).await;
        assert_eq!(reason, reason::CERTIFICATE_MISSING, "{alert} {message}");
    }
}

#[tokio::test]
async fn a_host_that_is_gone_silent_or_private_has_its_own_reason() {
    let free = TcpListener::bind((local(1), 0)).await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    assert_eq!(failure(&network(), Check::Site(site(port)), PATIENT).await.0, reason::CONNECTION_REFUSED);

    let silent = server(|mut stream| async move { gone(&mut stream).await }).await;
    let (slow, _) =
        host("good", |head| if is_identity(head) { answer(200, NONCE) } else { "HTTP/1.1 200".to_owned() }).await;
    for port in [silent, slow] {
        let (reason, message) = failure(&network(), Check::Site(site(port)), BRIEF).await;
        assert_eq!(reason, reason::TIMEOUT, "{message}");
        assert_eq!(failure(&network(), Check::Site(site(port)), BRIEF).await.1, message);
    }

    let (port, connections) = host("good", ours(answer(200, ""))).await;
    let strict = Network::new(Vec::new(), Some(&AUTHORITY.ca)).unwrap();
    assert_eq!(failure(&strict, Check::Site(site(port)), PATIENT).await.0, reason::ADDRESS_REFUSED);
    assert_eq!(connections.load(Ordering::SeqCst), 0);

    for broken in [Site { path: "up".to_owned(), ..site(port) }, Site { name: "no name".to_owned(), ..site(port) }] {
        assert_eq!(failure(&network(), Check::Site(broken), PATIENT).await.0, reason::INVALID_CHECK);
    }
}

#[tokio::test]
async fn an_asker_says_at_once_what_the_engine_says_for_ever() {
    let asker = site::Asker::new(loopback(), Some(&AUTHORITY.ca)).unwrap();
    let (port, _) = host("good", ours(answer(200, ""))).await;
    assert_eq!(asker.ask(&site(port), PATIENT).await, Ok(()));
    let other = Site { nonce: "another".to_owned(), ..site(port) };
    let failure = asker.ask(&other, PATIENT).await.unwrap_err();
    assert_eq!(probe(&network(), Check::Site(other), PATIENT).await, Outcome::Failure(failure));
}
