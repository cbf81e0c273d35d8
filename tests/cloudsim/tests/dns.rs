//! What the simulated DNS servers say, and when they say it.

#![allow(clippy::unwrap_used, reason = "helpers of tests may say bluntly what they expect")]

use std::net::SocketAddr;
use std::time::Duration;

use cloudsim::cloudflare::{Draft, ZoneSpec};
use cloudsim::dns::{Weather, server};
use cloudsim::{Options, Sim};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use jiff::SignedDuration;
use serde_json::json;
use tokio::net::UdpSocket;

async fn start() -> Sim {
    let sim = Sim::start(Options::default()).await.unwrap();
    let spec: ZoneSpec = serde_json::from_value(json!({"name": "example.com"})).unwrap();
    sim.cloudflare.add_zone(spec);
    sim
}

fn add(sim: &Sim, kind: &str, name: &str, content: &str) -> String {
    let draft = json!({"type": kind, "name": name, "content": content, "ttl": 60});
    let draft: Draft = serde_json::from_value(draft).unwrap();
    sim.cloudflare.add_record("example.com", &draft).unwrap()
}

async fn ask(server: SocketAddr, name: &str, kind: &str) -> Vec<String> {
    server::query(server, name, kind).await.unwrap()
}

async fn ask_by_udp(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap()
}

#[tokio::test]
async fn the_authority_answers_at_once_and_tells_no_such_name_from_no_such_type() {
    let sim = start().await;
    let web = "web.example.com";
    assert_eq!(ask(sim.dns(), web, "A").await, ["Non-Existent Domain"]);
    let id = add(&sim, "A", web, "203.0.113.1");
    assert_eq!(ask(sim.dns(), web, "A").await, ["203.0.113.1"]);
    assert_eq!(ask(sim.dns(), "WEB.example.com", "A").await, ["203.0.113.1"]);
    assert_eq!(ask(sim.dns(), web, "AAAA").await, ["No Error"]);
    add(&sim, "A", "a.b.example.com", "203.0.113.2");
    assert_eq!(ask(sim.dns(), "b.example.com", "A").await, ["No Error"]);
    assert_eq!(ask(sim.dns(), "elsewhere.net", "A").await, ["Query Refused"]);
    sim.cloudflare.remove_record(&id);
    assert_eq!(ask(sim.dns(), web, "A").await, ["Non-Existent Domain"]);
}

#[tokio::test]
async fn a_resolver_remembers_absence_for_half_an_hour_and_an_address_for_its_ttl() {
    let sim = start().await;
    let web = "web.example.com";
    assert_eq!(ask(sim.resolver(), web, "A").await, ["Non-Existent Domain"]);
    let id = add(&sim, "A", web, "203.0.113.1");
    sim.clock.advance(SignedDuration::from_secs(1_790));
    assert_eq!(ask(sim.resolver(), web, "A").await, ["Non-Existent Domain"]);
    sim.clock.advance(SignedDuration::from_secs(11));
    assert_eq!(ask(sim.resolver(), web, "A").await, ["203.0.113.1"]);
    sim.cloudflare.remove_record(&id);
    sim.clock.advance(SignedDuration::from_secs(50));
    assert_eq!(ask(sim.resolver(), web, "A").await, ["203.0.113.1"]);
    sim.clock.advance(SignedDuration::from_secs(11));
    assert_eq!(ask(sim.resolver(), web, "A").await, ["Non-Existent Domain"]);
}

#[tokio::test]
async fn a_lagging_resolver_learns_of_a_name_later_than_the_authority() {
    let sim = start().await;
    sim.dns.set_weather(Weather { resolver_lag_ms: 30_000, ..Weather::default() });
    add(&sim, "A", "web.example.com", "203.0.113.1");
    assert_eq!(ask(sim.dns(), "web.example.com", "A").await, ["203.0.113.1"]);
    assert_eq!(ask(sim.resolver(), "web.example.com", "A").await, ["Non-Existent Domain"]);
    sim.clock.advance(SignedDuration::from_secs(31));
    assert_eq!(ask(sim.resolver(), "web.example.com", "A").await, ["203.0.113.1"]);
}

#[tokio::test]
async fn a_long_txt_record_comes_in_strings_of_255_and_over_udp_only_as_truncated() {
    let sim = start().await;
    add(&sim, "TXT", "_wrap.example.com", &"x".repeat(300));
    let short = ask_by_udp(sim.dns(), "_wrap.example.com.", RecordType::TXT).await;
    assert_eq!((short.metadata.id, short.metadata.truncation), (7, false));
    let text = ask(sim.dns(), "_wrap.example.com", "TXT").await.join("").replace(['"', ' '], "");
    assert_eq!(text, "x".repeat(300));
    add(&sim, "TXT", "_wrap.example.com", &"y".repeat(300));
    let cut = ask_by_udp(sim.dns(), "_wrap.example.com.", RecordType::TXT).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(ask(sim.dns(), "_wrap.example.com", "TXT").await.len(), 2);
}
