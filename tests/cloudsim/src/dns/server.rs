//! DNS over UDP and TCP on one port, and a small client for the command line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// What a server says; `None` for silence.
pub(crate) type Mind = Arc<dyn Fn(&Message) -> Option<Message> + Send + Sync>;

/// The largest answer over UDP without EDNS (RFC 1035 §4.2.1).
const UDP_MAX: usize = 512;

/// Sockets bound to one port.
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Binds UDP and TCP to the same port.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<Bound> {
    // With port 0 the port that TCP got may be taken for UDP: then another is tried.
    for _ in 0..16 {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("binding TCP {address}"))?;
        let bound = tcp.local_addr()?;
        match UdpSocket::bind(bound).await {
            Ok(udp) => return Ok(Bound { address: bound, udp, tcp }),
            Err(error) if address.port() != 0 => return Err(error).with_context(|| format!("binding UDP {address}")),
            Err(_) => {}
        }
    }
    anyhow::bail!("no port is free for both UDP and TCP")
}

impl Bound {
    pub(crate) fn serve(self, tasks: &mut JoinSet<()>, mind: Mind) {
        let (udp, tcp, at_tcp) = (self.udp, self.tcp, mind.clone());
        tasks.spawn(async move {
            let mut buffer = [0_u8; 4096];
            loop {
                let Ok((length, peer)) = udp.recv_from(&mut buffer).await else { continue };
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                let Some(mut answer) = mind(&question) else { continue };
                let Ok(mut bytes) = answer.to_vec() else { continue };
                let most =
                    answer.edns.as_ref().map_or(UDP_MAX, |ours| ours.max_payload().min(question.max_payload()).into());
                if bytes.len() > most {
                    answer.metadata.truncation = true;
                    answer.answers.clear();
                    answer.authorities.clear();
                    bytes = answer.to_vec().unwrap_or_default();
                }
                let _ = udp.send_to(&bytes, peer).await;
            }
        });
        tasks.spawn(async move {
            loop {
                let Ok((stream, _)) = tcp.accept().await else { continue };
                let mind = at_tcp.clone();
                tokio::spawn(async move {
                    // A client that goes in the middle is no concern of the server's.
                    let _ = conversation(stream, &mind).await;
                });
            }
        });
    }
}

fn think(mind: &Mind, bytes: &[u8]) -> Option<Message> {
    mind(&Message::from_vec(bytes).ok()?)
}

async fn conversation(mut stream: TcpStream, mind: &Mind) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await?;
        let Some(bytes) = think(mind, &question).and_then(|answer| answer.to_vec().ok()) else { return Ok(()) };
        stream.write_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).await?;
        stream.write_all(&bytes).await?;
    }
}

/// Asks `server` over TCP and gives one line per record, or `NXDOMAIN` and the like.
///
/// # Errors
/// When the server does not answer.
pub async fn query(server: SocketAddr, name: &str, kind: &str) -> anyhow::Result<Vec<String>> {
    let kind: RecordType = kind.to_ascii_uppercase().parse().map_err(|_| anyhow::anyhow!("unknown type {kind}"))?;
    let mut question = Message::new(1, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(format!("{}.", name.trim_end_matches('.')))?, kind));
    let asked = async {
        let mut stream = TcpStream::connect(server).await?;
        let bytes = question.to_vec().map_err(std::io::Error::other)?;
        stream.write_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).await?;
        stream.write_all(&bytes).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Message::from_vec(&answer).map_err(std::io::Error::other)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await.context("no answer in 5 s")??;
    if answer.answers.is_empty() {
        return Ok(vec![answer.metadata.response_code.to_string()]);
    }
    Ok(answer.answers.iter().map(|record| record.data.to_string()).collect())
}
