//! The prober against real servers on loopback that behave in every way that servers do.

mod addresses;
mod certificates;
mod exchanges;
mod sites;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::network::Resolve;
use super::*;

/// How long probes may take that are not meant to run into it.
const PATIENT: Duration = Duration::from_secs(20);
/// How long those may take that are.
const BRIEF: Duration = Duration::from_millis(300);

/// Answers with one list of addresses after the other, and then for ever with the last.
struct Names(Mutex<VecDeque<io::Result<Vec<IpAddr>>>>, AtomicUsize);

#[async_trait]
impl Resolve for Names {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.0.lock().unwrap();
        if answers.len() > 1 {
            return answers.pop_front().unwrap();
        }
        match &answers[0] {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

fn names(answers: impl IntoIterator<Item = io::Result<Vec<IpAddr>>>) -> Arc<Names> {
    Arc::new(Names(Mutex::new(answers.into_iter().collect()), AtomicUsize::new(0)))
}

fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn loopback() -> Vec<IpNet> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

fn network() -> Network {
    Network::with_resolver(names([Ok(vec![local(1)])]), loopback(), None).unwrap()
}

fn http_check(port: u16) -> HttpCheck {
    HttpCheck {
        scheme: Scheme::Http,
        address: "127.0.0.1".to_owned(),
        port,
        method: Method::GET,
        path: "/healthz".to_owned(),
        host: None,
        server_name: None,
        expected: 200..=399,
    }
}

async fn probe(network: &Network, check: Check, timeout: Duration) -> Outcome {
    let target = Target { key: "t".into(), check, interval: Duration::from_secs(10), timeout, fall: 3, rise: 2 };
    let began = std::time::Instant::now();
    let outcome = network.probe(&target).await;
    assert!(began.elapsed() < timeout + PATIENT, "no probe may outlive its timeout for long");
    outcome
}

/// The reason and the message of a failure.
async fn failure(network: &Network, check: Check, timeout: Duration) -> (&'static str, String) {
    match probe(network, check, timeout).await {
        Outcome::Failure(failure) => (failure.reason, failure.message),
        other => panic!("it should have failed: {other:?}"),
    }
}

/// Serves every connection with `serve`. The port.
async fn server<F: Future<Output = ()> + Send>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> u16 {
    server_at(local(1), 0, serve).await
}

async fn server_at<F: Future<Output = ()> + Send>(
    address: IpAddr,
    port: u16,
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind((address, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test's runtime.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    port
}

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A server that answers every request with the same bytes, and then waits until the client is gone.
async fn answering(answer: impl Into<Vec<u8>>) -> u16 {
    let answer: Arc<[u8]> = answer.into().into();
    server(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            gone(&mut stream).await;
        }
    })
    .await
}

async fn gone(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} Whatever\r\nContent-Length: 0\r\n\r\n")
}

/// Nothing is asked of our own network here.
struct Up;

#[async_trait]
impl SelfCheck for Up {
    async fn reachable(&self) -> bool {
        true
    }
}

impl Meter for Up {
    fn probed(&self, _: &Probed) {}
    fn targets(&self, _: usize) {}
    fn isolated(&self, _: bool) {}
}

#[tokio::test]
async fn the_whole_engine_sees_a_server_come_go_and_return() {
    let (sender, mut transitions) = mpsc::channel(8);
    let settings = Settings {
        allow_cidrs: loopback(),
        extra_ca: None,
        concurrency: CONCURRENCY,
        self_check: Arc::new(Up),
        meter: Arc::new(Up),
    };
    let engine = Engine::start(settings, sender).unwrap();
    let listener = TcpListener::bind((local(1), 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let serve = |listener: TcpListener| {
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                head(&mut stream).await;
                let _ = stream.write_all(status(200).as_bytes()).await;
            }
        })
    };
    let task = serve(listener);
    let check = Check::Http(http_check(address.port()));
    let interval = Duration::from_millis(100);
    let target = Target { key: "node/shop/web".into(), check, interval, timeout: PATIENT, fall: 3, rise: 2 };
    engine.declare("node/shop/web", vec![target]);
    let mut next = async || tokio::time::timeout(PATIENT, transitions.recv()).await.unwrap().unwrap().verdict;
    assert_eq!(next().await.health, Health::Healthy);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let verdict = next().await;
    assert_eq!((verdict.health, verdict.reason), (Health::Unhealthy, reason::CONNECTION_REFUSED));
    let task = serve(TcpListener::bind(address).await.unwrap());
    assert_eq!(next().await.health, Health::Healthy);
    task.abort();
}
