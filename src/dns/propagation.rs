//! Asking DNS servers what they answer, one by one and without any cache.
//!
//! The caller asks the zone's own servers first, and a public resolver only about a name the zone's servers already
//! have: a resolver that is asked too early remembers the "no such name" for as long as the zone's SOA says, which at
//! Cloudflare is half an hour.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::api::names::Fqdn;
use crate::dns::record::{Content, Kind, canonical_name};

/// How long one question may take, over UDP and again over TCP.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest UDP answer we take.
const UDP_MAX: usize = 4_096;

/// What one server says of one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The records, sorted. A CNAME that leads to them is followed as far as the server did.
    Records(Vec<Content>),
    /// The name or the type does not exist there.
    Negative,
    /// The server gave no usable answer, and why.
    Unreachable(String),
}

/// What a set of servers says of what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// At least one server answered, and all that answered say what was expected.
    Confirmed,
    /// A server says something else: which, and what.
    Differs(String),
    /// No server gave an answer, and why.
    Unreachable(String),
}

/// Asks `server` for the records of `name` of type `kind`, over UDP and, if the answer is cut, over TCP.
pub async fn ask(server: SocketAddr, name: &Fqdn, kind: Kind) -> Answer {
    let wanted = match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Txt => RecordType::TXT,
    };
    match query(server, name.as_str(), wanted).await {
        Ok(answer) => judge(&answer, kind),
        Err(why) => Answer::Unreachable(why),
    }
}

/// Whether the servers answer exactly `expected` (content only) for every type among it. For a proxied name the
/// answer is the proxy's address, so any address will do.
///
/// Nothing expected confirms nothing: use [`withdrawn`].
pub async fn confirm(servers: &[SocketAddr], name: &Fqdn, expected: &[Content], proxied: bool) -> Confirmation {
    let kinds: BTreeSet<Kind> = expected.iter().map(Content::kind).collect();
    let mut outcome = Confirmation::Unreachable("no record was expected".to_owned());
    for kind in kinds {
        let mut wanted: Vec<_> = expected.iter().filter(|content| content.kind() == kind).cloned().collect();
        wanted.sort();
        wanted.dedup();
        let as_expected = |answer: &Answer| match answer {
            Answer::Records(records) => (proxied && kind != Kind::Txt && !records.is_empty()) || *records == wanted,
            Answer::Negative | Answer::Unreachable(_) => false,
        };
        outcome = all(servers, name, kind, as_expected).await;
        if outcome != Confirmation::Confirmed {
            return outcome;
        }
    }
    outcome
}

/// Whether the servers no longer answer `name` with `content`. Other records at the name are somebody else's, and may
/// stay.
pub async fn withdrawn(servers: &[SocketAddr], name: &Fqdn, content: &Content) -> Confirmation {
    let gone = |answer: &Answer| match answer {
        Answer::Negative => true,
        Answer::Records(records) => !records.contains(content),
        Answer::Unreachable(_) => false,
    };
    all(servers, name, content.kind(), gone).await
}

/// The addresses of a zone's authoritative servers, asked of the resolvers in turn until one knows: IPv4 first, port
/// 53, sorted. Empty if no resolver answered.
pub async fn authority(name_servers: &[String], resolvers: &[SocketAddr]) -> Vec<SocketAddr> {
    let addresses_of = async |host: &String| {
        let Ok(host) = Fqdn::parse(&canonical_name(host)) else { return Vec::new() };
        for resolver in resolvers {
            let mut addresses = Vec::new();
            for kind in [Kind::A, Kind::Aaaa] {
                if let Answer::Records(records) = ask(*resolver, &host, kind).await {
                    addresses.extend(records.into_iter().filter_map(|content| match content {
                        Content::A(address) => Some(SocketAddr::from((address, 53))),
                        Content::Aaaa(address) => Some(SocketAddr::from((address, 53))),
                        Content::Txt(_) => None,
                    }));
                }
            }
            if !addresses.is_empty() {
                return addresses;
            }
        }
        Vec::new()
    };
    let found = join_all(name_servers.iter().map(addresses_of)).await;
    found.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect()
}

async fn all(servers: &[SocketAddr], name: &Fqdn, kind: Kind, as_expected: impl Fn(&Answer) -> bool) -> Confirmation {
    let answers = join_all(servers.iter().map(async |server| (*server, ask(*server, name, kind).await))).await;
    let mut unreachable = "there is no server to ask".to_owned();
    let mut confirmed = false;
    for (server, answer) in answers {
        match answer {
            Answer::Unreachable(why) => unreachable = why,
            answer if as_expected(&answer) => confirmed = true,
            Answer::Negative => return Confirmation::Differs(format!("{server} has no {kind} record of {name}")),
            Answer::Records(records) => {
                let seen: Vec<_> = records.iter().map(ToString::to_string).collect();
                return Confirmation::Differs(format!("{server} answers {name} {kind} with {}", seen.join(", ")));
            }
        }
    }
    if confirmed { Confirmation::Confirmed } else { Confirmation::Unreachable(unreachable) }
}

fn judge(answer: &Message, kind: Kind) -> Answer {
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Answer::Negative,
        other => return Answer::Unreachable(format!("the server answered {other}")),
    }
    let mut records: Vec<_> = answer.answers.iter().filter_map(|record| content(&record.data)).collect();
    records.retain(|content| content.kind() == kind);
    records.sort();
    records.dedup();
    if records.is_empty() { Answer::Negative } else { Answer::Records(records) }
}

fn content(data: &RData) -> Option<Content> {
    match data {
        RData::A(address) => Some(Content::A(address.0)),
        RData::AAAA(address) => Some(Content::Aaaa(address.0)),
        RData::TXT(text) => {
            let bytes: Vec<u8> = text.txt_data.iter().flat_map(|string| string.iter().copied()).collect();
            Some(Content::Txt(String::from_utf8_lossy(&bytes).into_owned()))
        }
        _ => None,
    }
}

async fn query(server: SocketAddr, name: &str, kind: RecordType) -> Result<Message, String> {
    let name = Name::from_ascii(format!("{name}.")).map_err(|_| format!("`{name}` cannot be asked for"))?;
    let mut question = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, kind));
    let bytes = question.to_vec().map_err(|error| format!("the question cannot be written: {error}"))?;

    let silent = |_| format!("{server} did not answer in time");
    let failed = |error: std::io::Error| format!("{server} cannot be asked: {}", error.kind());
    let answer = timeout(QUERY_TIMEOUT, over_udp(server, &bytes, &question)).await.map_err(silent)?.map_err(failed)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    timeout(QUERY_TIMEOUT, over_tcp(server, &bytes, &question)).await.map_err(silent)?.map_err(failed)
}

async fn over_udp(server: SocketAddr, bytes: &[u8], question: &Message) -> std::io::Result<Message> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?; // answers from elsewhere are dropped by the kernel
    socket.send(bytes).await?;
    let mut buffer = vec![0; UDP_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Something that does not belong to the question is somebody guessing: keep waiting for the real answer.
        if let Some(answer) = belonging(&buffer[..length], question) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], question: &Message) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    belonging(&buffer, question).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// The message, if it answers exactly this question.
fn belonging(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let belongs = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && (answer.queries == question.queries || (answer.metadata.truncation && answer.queries.is_empty()));
    belongs.then_some(answer)
}

#[cfg(test)]
#[path = "propagation_tests.rs"]
mod tests;
