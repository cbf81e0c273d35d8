use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::rr::Record as DnsRecord;
use hickory_proto::rr::rdata::{A, TXT};
use tokio::net::TcpListener;

use super::*;

/// How a server behaves.
#[derive(Clone)]
enum Server {
    Says(Vec<RData>),
    NoSuchName,
    Fails,
    /// Cut over UDP, whole over TCP.
    Long(Vec<RData>),
    /// First an answer with a wrong id, then the right one.
    Spoofed(Vec<RData>),
}

fn reply(question: &[u8], server: &Server, tcp: bool) -> Vec<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_queries(question.queries.clone());
    let name = question.queries[0].name().clone();
    let fill = |answer: &mut Message, data: &[RData]| {
        for data in data.iter().filter(|data| data.record_type() == question.queries[0].query_type()) {
            answer.add_answer(DnsRecord::from_rdata(name.clone(), 300, data.clone()));
        }
    };
    match server {
        Server::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Server::Fails => answer.metadata.response_code = ResponseCode::ServFail,
        Server::Long(_) if !tcp => answer.metadata.truncation = true,
        Server::Says(data) | Server::Long(data) => fill(&mut answer, data),
        Server::Spoofed(data) => {
            let mut forged = answer.clone();
            forged.metadata.id = question.metadata.id.wrapping_add(1);
            fill(&mut forged, &[RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))]);
            fill(&mut answer, data);
            return vec![forged.to_vec().unwrap(), answer.to_vec().unwrap()];
        }
    }
    vec![answer.to_vec().unwrap()]
}

/// Serves on loopback until the test's runtime ends.
async fn serve(server: Server) -> SocketAddr {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (Arc::new(udp), tcp);
        }
    };
    let address = tcp.local_addr().unwrap();
    let over_tcp = server.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            for bytes in reply(&buffer[..length], &server, false) {
                udp.send_to(&bytes, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            for bytes in reply(&question, &over_tcp, true) {
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    address
}

/// A loopback port nobody listens on.
async fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn web() -> Fqdn {
    Fqdn::parse("web.example.com").unwrap()
}

fn rdata(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(203, 0, 113, last)))
}

fn a(last: u8) -> Content {
    Content::A(Ipv4Addr::new(203, 0, 113, last))
}

#[tokio::test]
async fn a_server_has_the_name_does_not_have_it_or_cannot_be_asked() {
    let has = serve(Server::Says(vec![rdata(2), rdata(1)])).await;
    assert_eq!(ask(has, &web(), Kind::A).await, Answer::Records(vec![a(1), a(2)]));
    assert_eq!(ask(has, &web(), Kind::Aaaa).await, Answer::Negative, "the name exists, the type does not");
    assert_eq!(ask(serve(Server::NoSuchName).await, &web(), Kind::A).await, Answer::Negative);
    assert!(matches!(ask(serve(Server::Fails).await, &web(), Kind::A).await, Answer::Unreachable(_)));
    assert!(matches!(ask(nobody().await, &web(), Kind::A).await, Answer::Unreachable(_)));
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp_and_its_strings_are_joined() {
    let text = "203.0.113.1,".repeat(60);
    let strings = text.as_bytes().chunks(255).map(|chunk| String::from_utf8(chunk.to_vec()).unwrap()).collect();
    let server = serve(Server::Long(vec![RData::TXT(TXT::new(strings))])).await;
    assert_eq!(ask(server, &web(), Kind::Txt).await, Answer::Records(vec![Content::Txt(text)]));
}

#[tokio::test]
async fn an_answer_with_a_wrong_id_is_not_believed() {
    let server = serve(Server::Spoofed(vec![rdata(1)])).await;
    assert_eq!(ask(server, &web(), Kind::A).await, Answer::Records(vec![a(1)]));
}

#[tokio::test]
async fn every_server_that_answers_must_agree_and_one_must_answer() {
    let new = serve(Server::Says(vec![rdata(1)])).await;
    let old = serve(Server::Says(vec![rdata(9)])).await;
    let none = serve(Server::NoSuchName).await;
    let gone = nobody().await;
    let expected = [a(1)];
    assert_eq!(confirm(&[new, gone], &web(), &expected, false).await, Confirmation::Confirmed);
    assert!(matches!(confirm(&[new, old], &web(), &expected, false).await, Confirmation::Differs(_)));
    assert!(matches!(confirm(&[new, none], &web(), &expected, false).await, Confirmation::Differs(_)));
    assert!(matches!(confirm(&[gone], &web(), &expected, false).await, Confirmation::Unreachable(_)));
    assert!(matches!(confirm(&[], &web(), &expected, false).await, Confirmation::Unreachable(_)));
    assert_eq!(confirm(&[old], &web(), &expected, true).await, Confirmation::Confirmed, "the proxy's address");

    assert_eq!(withdrawn(&[none, gone], &web(), &a(9)).await, Confirmation::Confirmed);
    assert!(matches!(withdrawn(&[none, old], &web(), &a(9)).await, Confirmation::Differs(_)));
    assert!(matches!(withdrawn(&[gone], &web(), &a(9)).await, Confirmation::Unreachable(_)));
    assert_eq!(withdrawn(&[old], &web(), &a(1)).await, Confirmation::Confirmed, "a stranger's record is no matter");
}

#[tokio::test]
async fn the_authority_is_found_through_the_first_resolver_that_knows_it() {
    let knows = serve(Server::Says(vec![rdata(53)])).await;
    let not = serve(Server::NoSuchName).await;
    let hosts = ["ns1.example.net".to_owned(), "NS2.example.net.".to_owned()];
    assert_eq!(authority(&hosts, &[not, knows]).await, ["203.0.113.53:53".parse().unwrap()]);
    assert_eq!(authority(&hosts, &[not]).await, []);
}
