//! The DNS servers when they run behind, refuse, or are asked by UDP with and without EDNS.

#![allow(clippy::unwrap_used, reason = "helpers of tests may say bluntly what they expect")]

use std::net::SocketAddr;
use std::time::Duration;

use cloudsim::cloudflare::{Draft, RecordEdit, ZoneSpec};
use cloudsim::dns::{Weather, server};
use cloudsim::{Options, Sim};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use jiff::SignedDuration;
use serde_json::json;
use tokio::net::UdpSocket;

const WEB: &str = "web.example.com";

async fn start(weather: Weather) -> Sim {
    let sim = Sim::start(Options::default()).await.unwrap();
    let spec: ZoneSpec = serde_json::from_value(json!({"name": "example.com"})).unwrap();
    sim.cloudflare.add_zone(spec);
    sim.dns.set_weather(weather);
    sim
}

fn add(sim: &Sim, kind: &str, name: &str, content: &str) -> String {
    let draft = json!({"type": kind, "name": name, "content": content, "ttl": 60});
    let draft: Draft = serde_json::from_value(draft).unwrap();
    sim.cloudflare.add_record("example.com", &draft).unwrap()
}

fn point(sim: &Sim, id: &str, content: &str) {
    assert!(sim.cloudflare.edit_record(id, &RecordEdit { content: Some(content.to_owned()), ..RecordEdit::default() }));
}

fn pass(sim: &Sim, seconds: i64) {
    sim.clock.advance(SignedDuration::from_secs(seconds));
}

async fn ask(server: SocketAddr, name: &str, kind: &str) -> Vec<String> {
    server::query(server, name, kind).await.unwrap()
}

async fn ask_by_udp(server: SocketAddr, name: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        question.set_edns(edns);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap()
}

#[tokio::test]
async fn an_authority_that_is_behind_learns_of_new_changed_and_removed_records_later() {
    let sim = start(Weather { authority_delay_ms: 30_000, ..Weather::default() }).await;
    let id = add(&sim, "A", WEB, "203.0.113.1");
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["Non-Existent Domain"]);
    pass(&sim, 31);
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["203.0.113.1"]);
    point(&sim, &id, "203.0.113.2");
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["203.0.113.1"]);
    pass(&sim, 31);
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["203.0.113.2"]);
    sim.cloudflare.remove_record(&id);
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["203.0.113.2"]);
    pass(&sim, 31);
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["Non-Existent Domain"]);
}

#[tokio::test]
async fn a_lagging_resolver_shows_the_old_address_for_a_while_and_does_not_remember_it() {
    let sim = start(Weather { resolver_lag_ms: 20_000, ..Weather::default() }).await;
    let id = add(&sim, "A", WEB, "203.0.113.1");
    pass(&sim, 100);
    point(&sim, &id, "203.0.113.2");
    assert_eq!(ask(sim.resolver(), WEB, "A").await, ["203.0.113.1"]);
    pass(&sim, 21);
    assert_eq!(ask(sim.resolver(), WEB, "A").await, ["203.0.113.2"]);
}

#[tokio::test]
async fn an_authority_may_refuse_while_the_resolver_answers() {
    let sim = start(Weather { authority_refuses: true, ..Weather::default() }).await;
    add(&sim, "A", WEB, "203.0.113.1");
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["Query Refused"]);
    assert_eq!(ask(sim.resolver(), WEB, "A").await, ["203.0.113.1"]);
}

#[tokio::test]
async fn a_silent_server_says_nothing_by_udp_nor_by_tcp() {
    let sim = start(Weather { authority_silent: true, resolver_silent: true, ..Weather::default() }).await;
    let question = Message::new(7, MessageType::Query, OpCode::Query).to_vec().unwrap();
    for server in [sim.dns(), sim.resolver()] {
        assert!(server::query(server, WEB, "A").await.is_err());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&question, server).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut [0; 512])).await;
        assert!(heard.is_err());
    }
}

#[tokio::test]
async fn cached_answers_count_their_ttl_down_and_absence_carries_its_soa() {
    let sim = start(Weather::default()).await;
    add(&sim, "A", WEB, "203.0.113.1");
    let ttl = async || ask_by_udp(sim.resolver(), "web.example.com.", RecordType::A, None).await.answers[0].ttl;
    assert_eq!(ttl().await, 60);
    pass(&sim, 40);
    assert!((15..=20).contains(&ttl().await));
    for server in [sim.dns(), sim.resolver()] {
        let absent = ask_by_udp(server, "nothing.example.com.", RecordType::A, None).await;
        assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(absent.metadata.authoritative, server == sim.dns());
        assert_eq!(absent.authorities[0].record_type(), RecordType::SOA);
    }
}

#[tokio::test]
async fn an_answer_of_up_to_1232_bytes_fits_udp_with_edns_only() {
    let sim = start(Weather::default()).await;
    let name = "_wrap.example.com.";
    add(&sim, "TXT", "_wrap.example.com", &"x".repeat(800));
    let plain = ask_by_udp(sim.dns(), name, RecordType::TXT, None).await;
    assert!(plain.metadata.truncation && plain.answers.is_empty());
    let small = ask_by_udp(sim.dns(), name, RecordType::TXT, Some(600)).await;
    assert!(small.metadata.truncation);
    let whole = ask_by_udp(sim.dns(), name, RecordType::TXT, Some(4_096)).await;
    assert!(!whole.metadata.truncation && whole.answers.len() == 1);
    add(&sim, "TXT", "_wrap.example.com", &"y".repeat(800));
    assert!(ask_by_udp(sim.dns(), name, RecordType::TXT, Some(4_096)).await.metadata.truncation);
}

#[tokio::test]
async fn a_proxied_record_shows_cloudflare_s_address_and_the_zone_its_soa_and_servers() {
    let sim = start(Weather::default()).await;
    let draft = json!({"type": "A", "name": WEB, "content": "203.0.113.1", "proxied": true});
    let draft: Draft = serde_json::from_value(draft).unwrap();
    sim.cloudflare.add_record("example.com", &draft).unwrap();
    add(&sim, "AAAA", "six.example.com", "2001:db8::1");
    add(&sim, "CNAME", "www.example.com", "web.example.net");
    assert_eq!(ask(sim.dns(), WEB, "A").await, ["104.16.0.1"]);
    assert_eq!(ask(sim.dns(), "six.example.com", "AAAA").await, ["2001:db8::1"]);
    assert_eq!(ask(sim.dns(), "www.example.com", "A").await, ["web.example.net."]);
    assert_eq!(ask(sim.dns(), "example.com", "NS").await.len(), 2);
    let soa = ask(sim.dns(), "example.com", "SOA").await;
    assert!(soa[0].ends_with(" 1800"), "{soa:?}");
}
