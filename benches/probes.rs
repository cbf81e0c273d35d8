//! How late, how busy and how large the probe engine is: `cargo bench --bench probes [-- TARGETS SECONDS SCHEME]`,
//! 10,000 HTTP targets for 30 s by default, each probed every 10 s. SCHEME is `http`, `https`, `tcp` or `hang` (a server
//! that accepts and never answers).
//!
//! The server is this program again as a child process, so that processor and memory are the engine's alone. Every
//! target has an address of its own in 127.0.0.0/8. The child ends with its standard input, and so with its parent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement says bluntly what it expects")]

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use roadstead::probe::{CONCURRENCY, Check, Engine, HttpCheck, Meter, Probed, Scheme, SelfCheck, Settings, Target};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// How often each target is probed.
const INTERVAL: Duration = Duration::from_secs(10);
/// Ticks of the processor times in `/proc`, a constant of Linux' interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// Targets of one owner, as in a server group.
const GROUP: usize = 10;

fn main() {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(&arguments[1], Path::new(&arguments[2])),
        _ => measure(&arguments),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(scheme: &str, certificates: &Path) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    let listener: TcpListener = socket.listen(8_192).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let hang = scheme == "hang";
    let tls = (scheme == "https").then(|| acceptor(certificates));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => answer(stream, hang).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, hang).await;
                    }
                }
            }
        });
    }
}

fn acceptor(certificates: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(certificates.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.join("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, hang: bool) {
    let mut request = [0; 1024];
    while let Ok(1..) = stream.read(&mut request).await {
        if !hang {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let _ = stream.flush().await;
        }
    }
}

/// What the probes say of themselves.
#[derive(Default)]
struct Samples(Mutex<Vec<Probed>>);

impl Samples {
    fn take(&self) -> Vec<Probed> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Meter for Samples {
    fn probed(&self, probed: &Probed) {
        self.0.lock().unwrap().push(probed.clone());
    }

    fn targets(&self, _: usize) {}

    fn isolated(&self, isolated: bool) {
        assert!(!isolated, "the self-check always passes");
    }
}

struct Up;

#[async_trait]
impl SelfCheck for Up {
    async fn reachable(&self) -> bool {
        true
    }
}

struct Server(Child, u16);

impl Server {
    fn start(scheme: &str, certificates: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", scheme])
            .arg(certificates)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::<ChildStdout>::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn measure(arguments: &[String]) {
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let (targets, seconds) = (usize::try_from(number(0, 10_000)).unwrap(), number(1, 30));
    let scheme = arguments.get(2).map_or("http", String::as_str);
    let certificates = tempfile::tempdir().unwrap();
    let ca = (scheme == "https").then(|| certificate(certificates.path()));
    let server = Server::start(scheme, certificates.path());

    let before = resident();
    let samples = Arc::new(Samples::default());
    let settings = Settings {
        allow_cidrs: vec!["127.0.0.0/8".parse().unwrap()],
        extra_ca: ca,
        concurrency: CONCURRENCY,
        self_check: Arc::new(Up),
        meter: samples.clone(),
    };
    let (sender, mut transitions) = mpsc::channel(1024);
    let engine = Engine::start(settings, sender).unwrap();
    tokio::spawn(async move { while transitions.recv().await.is_some() {} });
    let started = resident();
    for group in 0..targets.div_ceil(GROUP) {
        let owner = format!("group/bench/group-{group}");
        let members = group * GROUP..targets.min((group + 1) * GROUP);
        engine.declare(&owner, members.map(|n| target(&owner, n, server.1, scheme)).collect());
    }
    let declared = resident();

    // The first round spreads the targets; buffers and connections reach their usual number.
    tokio::time::sleep(INTERVAL * 2).await;
    drop(samples.take());
    let (clock, processor) = (std::time::Instant::now(), processor());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (clock, processor) = (clock.elapsed().as_secs_f64(), self::processor() - processor);
    // Before the samples are sorted, which are the measurement's own memory.
    let (running, peak) = (resident(), memory("VmHWM"));
    let samples = samples.take();
    report(&samples, targets, clock);
    let own = samples.len() * size_of::<Probed>();
    row("processor, seconds a second", format!("{:.3}", processor / clock));
    row("resident, MB: at start", megabytes(before));
    row("  with an engine", megabytes(started));
    row("  with all targets declared", megabytes(declared));
    row("  while probing", megabytes(running));
    row("  at its peak", megabytes(peak));
    row("  of this, the samples", megabytes(own));
    row("bytes a target, declared", (declared.saturating_sub(started) / targets.max(1)).to_string());
    drop(engine);
    drop(server);
}

/// A certificate of the server, which trusts itself.
fn certificate(dir: &Path) -> Vec<u8> {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.pem \
                     -subj /CN=bench -days 2 -addext subjectAltName=DNS:shop.example.com \
                     -addext basicConstraints=CA:FALSE";
    let output = Command::new("openssl").current_dir(dir).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(dir.join("server.pem")).unwrap()
}

fn target(owner: &str, n: usize, port: u16, scheme: &str) -> Target {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + u32::try_from(n).unwrap()).to_string();
    let check = if scheme == "tcp" {
        Check::Tcp { address, port }
    } else {
        Check::Http(HttpCheck {
            scheme: if scheme == "https" { Scheme::Https } else { Scheme::Http },
            address,
            port,
            method: Method::GET,
            path: "/healthz".to_owned(),
            host: Some("shop.example.com".to_owned()),
            server_name: None,
            expected: 200..=399,
        })
    };
    let timeout = Duration::from_secs(2);
    Target { key: format!("{owner}/{n}").into(), check, interval: INTERVAL, timeout, fall: 3, rise: 2 }
}

fn report(samples: &[Probed], targets: usize, clock: f64) {
    println!();
    row("targets, every 10 s", targets.to_string());
    #[expect(clippy::cast_precision_loss, reason = "a count of samples")]
    row("probes a second", format!("{:.0}", samples.len() as f64 / clock));
    let mut late: Vec<_> = samples.iter().map(|probed| probed.late).collect();
    let mut took: Vec<_> = samples.iter().map(|probed| probed.took).collect();
    late.sort_unstable();
    took.sort_unstable();
    for (what, sorted) in [("scheduling lateness, ms", &late), ("duration of a probe, ms", &took)] {
        let at = |percent: usize| {
            let value = sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
            value.map_or(0.0, |value| value.as_secs_f64() * 1000.0)
        };
        row(what, format!("p50 {:.2}  p99 {:.2}  max {:.2}", at(50), at(99), at(100)));
    }
    let mut results: Vec<_> = samples.iter().map(|probed| probed.result).collect();
    results.sort_unstable();
    for chunk in results.chunk_by(|one, other| one == other) {
        row("results", format!("{} {}", chunk.len(), chunk[0]));
    }
}

fn row(what: &str, value: impl AsRef<str>) {
    println!("{what:<32} {}", value.as_ref());
}

fn megabytes(bytes: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "megabytes with one digit")]
    let megabytes = bytes as f64 / 1_048_576.0;
    format!("{megabytes:.1}")
}

fn resident() -> usize {
    memory("VmRSS")
}

/// A line of `/proc/self/status`, in bytes.
fn memory(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Processor seconds of this process so far, user and system.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The fields after the program's name, which may hold anything but ends with the last parenthesis.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / TICKS_PER_SECOND
}
