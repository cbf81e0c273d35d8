//! The DNS that the simulated Cloudflare feeds: its authoritative server, and a public resolver that caches and lags.

pub mod server;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::cloudflare::{RecordInfo, State, unquoted};

/// How long "no such name" is remembered: Cloudflare's default.
const NEGATIVE_TTL: u32 = 1_800;
/// The TTL of automatic records.
const AUTOMATIC: u32 = 300;

/// How the DNS servers behave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weather {
    /// The authoritative server does not answer.
    pub authority_silent: bool,
    /// The resolver does not answer.
    pub resolver_silent: bool,
    /// The resolver learns of changes this many milliseconds after it first heard of a name.
    pub resolver_lag_ms: u64,
}

/// An answer kept by the resolver: until when, the code, and the records.
type Kept = (Timestamp, ResponseCode, Vec<Record>);

/// The two servers' minds.
#[derive(Debug)]
pub struct Dns {
    clock: Clock,
    cloudflare: Arc<State>,
    weather: Mutex<Weather>,
    cache: Mutex<HashMap<(Name, RecordType), Kept>>,
    /// Since when the resolver knows that something is at a name.
    heard: Mutex<HashMap<(Name, RecordType), Timestamp>>,
}

impl Dns {
    pub(crate) fn new(clock: Clock, cloudflare: Arc<State>) -> Self {
        Self { clock, cloudflare, weather: Mutex::default(), cache: Mutex::default(), heard: Mutex::default() }
    }

    /// How the servers behave.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes how they behave.
    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Empties the resolver's cache.
    pub fn flush(&self) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The authoritative server's answer; `None` for silence.
    pub(crate) fn authority(&self, question: &Message) -> Option<Message> {
        if self.weather().authority_silent {
            return None;
        }
        Some(self.authoritative(question))
    }

    fn authoritative(&self, question: &Message) -> Message {
        let mut answer = reply(question);
        let Some(query) = question.queries.first() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        };
        let name = query.name().to_ascii();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let Some((zone, serial, records, exists)) = self.cloudflare.published(&name) else {
            answer.metadata.response_code = ResponseCode::Refused;
            return answer;
        };
        answer.metadata.authoritative = true;
        let kind = query.query_type();
        let soa = soa(&zone, serial);
        if name == zone && kind == RecordType::SOA {
            answer.answers.extend(soa);
            return answer;
        }
        if name == zone && kind == RecordType::NS {
            for host in ["ada.ns.example.", "bob.ns.example."] {
                if let Ok(host) = Name::from_ascii(host) {
                    answer.answers.push(Record::from_rdata(query.name().clone(), 86_400, RData::NS(NS(host))));
                }
            }
            return answer;
        }
        for record in &records {
            if let Some(data) = data(record).filter(|d| d.record_type() == kind || d.record_type() == RecordType::CNAME)
            {
                let ttl = if record.ttl == 1 { AUTOMATIC } else { record.ttl };
                answer.answers.push(Record::from_rdata(query.name().clone(), ttl, data));
            }
        }
        if answer.answers.is_empty() {
            if !exists {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.authorities.extend(soa);
        }
        answer
    }

    /// The public resolver's answer; `None` for silence.
    pub(crate) fn resolver(&self, question: &Message) -> Option<Message> {
        let weather = self.weather();
        if weather.resolver_silent {
            return None;
        }
        let mut answer = reply(question);
        answer.metadata.recursion_available = true;
        let query = question.queries.first()?;
        let key = (query.name().to_lowercase(), query.query_type());
        let now = self.clock.now();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, code, records)) = cache.get(&key).filter(|(until, ..)| *until > now) {
            let _ = until;
            answer.metadata.response_code = *code;
            answer.answers.clone_from(records);
            return Some(answer);
        }
        let fresh = self.authoritative(question);
        if weather.resolver_lag_ms > 0 && !fresh.answers.is_empty() {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let since = *heard.entry(key.clone()).or_insert(now);
            let lag = SignedDuration::from_millis(i64::try_from(weather.resolver_lag_ms).unwrap_or(i64::MAX));
            if now.duration_since(since) < lag {
                // Not there yet, but not remembered as absent either.
                answer.metadata.response_code = ResponseCode::NXDomain;
                return Some(answer);
            }
        }
        let ttl = fresh.answers.iter().map(|r| r.ttl).min().unwrap_or(NEGATIVE_TTL);
        let code = match fresh.metadata.response_code {
            ResponseCode::Refused => ResponseCode::NXDomain,
            code => code,
        };
        let until = now + SignedDuration::from_secs(i64::from(ttl));
        cache.insert(key, (until, code, fresh.answers.clone()));
        answer.metadata.response_code = code;
        answer.answers = fresh.answers;
        Some(answer)
    }
}

fn reply(question: &Message) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.queries.clone_from(&question.queries);
    answer
}

fn soa(zone: &str, serial: u32) -> Option<Record> {
    let name = |text: String| Name::from_ascii(text).ok();
    let zone = name(format!("{zone}."))?;
    let (host, mailbox) = (name("ada.ns.example.".into())?, name("dns.example.".into())?);
    let soa = SOA::new(host, mailbox, serial, 10_000, 2_400, 604_800, NEGATIVE_TTL);
    Some(Record::from_rdata(zone, NEGATIVE_TTL, RData::SOA(soa)))
}

/// What the world sees of a record: of a proxied one, Cloudflare's own addresses.
fn data(record: &RecordInfo) -> Option<RData> {
    if record.proxied {
        return Some(RData::A(A(Ipv4Addr::new(104, 16, 0, 1))));
    }
    match record.kind.as_str() {
        "A" => Some(RData::A(A(record.content.parse().ok()?))),
        "AAAA" => Some(RData::AAAA(AAAA(record.content.parse::<Ipv6Addr>().ok()?))),
        "CNAME" => Some(RData::CNAME(CNAME(Name::from_ascii(format!("{}.", record.content)).ok()?))),
        "TXT" => {
            let text = unquoted(&record.content);
            let strings = text.as_bytes().chunks(255).map(|chunk| String::from_utf8_lossy(chunk).into_owned());
            Some(RData::TXT(TXT::new(strings.collect())))
        }
        _ => None,
    }
}
