//! Hosts on loopback that speak SSH: each at an address of its own, with a key of its own. What they are asked to do they
//! do to their [`model`](super::model), and count.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Config, Handle, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelMsg, ChannelOpenFailure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use roadstead::host::ssh::KeyPair;

use super::model::{Host, Said};

/// SSH calls the data of standard error so.
const STDERR: u32 = 1;

/// Hosts that listen until this is dropped.
pub struct Hosts {
    pub all: Vec<Arc<Host>>,
    /// The same for all: only their addresses differ.
    pub port: u16,
    _listeners: JoinSet<()>,
}

impl Hosts {
    /// Starts as many hosts, whose names are below `domain`.
    pub async fn start(number: usize, domain: &str) -> Self {
        let tls = acceptor(domain);
        let port = support::free_port();
        let mut listeners = JoinSet::new();
        let mut hosts = Vec::new();
        for n in 0..number {
            let host = Arc::new(Host::new(address(n)));
            let key = KeyPair::generate("host").unwrap().to_openssh().unwrap();
            let config = Arc::new(Config {
                keys: vec![PrivateKey::from_openssh(key).unwrap()],
                inactivity_timeout: None,
                nodelay: true,
                ..Config::default()
            });
            let listener = TcpListener::bind((host.address, port)).await.unwrap();
            listeners.spawn(listen(listener, config, Door { host: Arc::clone(&host), tls: tls.clone() }));
            hosts.push(host);
        }
        Self { all: hosts, port, _listeners: listeners }
    }

    /// The sum of a count over all hosts.
    pub fn sum(&self, count: impl Fn(&Host) -> usize) -> usize {
        self.all.iter().map(|host| count(host)).sum()
    }
}

/// All of 127.0.0.0/8 is this machine.
fn address(n: usize) -> Ipv4Addr {
    let n = u32::try_from(n).unwrap();
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + n)
}

/// A certificate for every name below `domain`, of its own authority.
fn acceptor(domain: &str) -> TlsAcceptor {
    let directory = tempfile::tempdir().unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.path().join(name));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=hosts", "-addext", &format!("subjectAltName=DNS:*.{domain}")])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

async fn listen(listener: TcpListener, config: Arc<Config>, door: Door) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (config, door) = (Arc::clone(&config), door.clone());
        connections.spawn(async move {
            let host = Arc::clone(&door.host);
            if let Ok(session) = server::run_stream(config, stream, door).await {
                host.connections.fetch_add(1, Ordering::Relaxed);
                host.open.fetch_add(1, Ordering::Relaxed);
                let _ = session.await;
                host.open.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }
}

/// Where connections of a host come in.
#[derive(Clone)]
struct Door {
    host: Arc<Host>,
    tls: TlsAcceptor,
}

impl server::Handler for Door {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(command(Arc::clone(&self.host), channel, session.handle()));
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if (host, port) != ("127.0.0.1", 443) || !self.host.serves() {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        reply.accept().await;
        self.host.trips.fetch_add(1, Ordering::Relaxed);
        let (tls, id, handle) = (self.tls.clone(), channel.id(), session.handle());
        tokio::spawn(async move {
            if let Ok(mut stream) = tls.accept(channel.into_stream()).await {
                // Nobody asks for more than the handshake.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
            let _ = handle.close(id).await;
        });
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if !self.host.listens(path) {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        reply.accept().await;
        self.host.trips.fetch_add(1, Ordering::Relaxed);
        let (host, path, id, handle) = (Arc::clone(&self.host), path.to_owned(), channel.id(), session.handle());
        tokio::spawn(async move {
            let mut stream = channel.into_stream();
            if let Some((line, body)) = request(&mut stream).await {
                let (head, body) = host.answer(&path, &line, &body);
                let length = body.len();
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            let _ = stream.shutdown().await;
            let _ = handle.close(id).await;
        });
        Ok(())
    }
}

/// Runs the command that comes through a channel, once its whole input is there.
async fn command(host: Arc<Host>, mut channel: Channel<Msg>, handle: Handle) {
    let id = channel.id();
    let (mut asked, mut input) = (None, Vec::new());
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Exec { command, .. }) => {
                host.trips.fetch_add(1, Ordering::Relaxed);
                let _ = handle.channel_success(id).await;
                asked = Some(unwrap(&String::from_utf8_lossy(&command)));
            }
            Some(ChannelMsg::Data { data }) => input.extend_from_slice(&data),
            Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
        // The input is followed by a dot.
        if asked.as_ref().is_some_and(|(_, promised)| input.len() > *promised) {
            break;
        }
    }
    let Some((words, promised)) = asked else { return };
    let Said { status, stdout, stderr } = host.run(&words, &input[..promised]);
    let _ = handle.data(id, stdout).await;
    let _ = handle.extended_data(id, STDERR, stderr).await;
    let _ = handle.exit_status_request(id, status).await;
    let _ = handle.eof(id).await;
    let _ = handle.close(id).await;
}

/// The command within the shell text around it, word by word, and the number of bytes of its input.
fn unwrap(text: &str) -> (Vec<String>, usize) {
    let around = words(text);
    let [.., promised, command] = &around[..] else { panic!("this is no command of ours: {text}") };
    (words(command), promised.parse().unwrap())
}

/// The words of a command line, whose quotes are single ones.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            '\'' => word.get_or_insert_default().extend(characters.by_ref().take_while(|c| *c != '\'')),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// The first line of a request, and its body.
async fn request(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.lines().next()?.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
