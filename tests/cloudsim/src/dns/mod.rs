//! The DNS that the simulated Cloudflare feeds: its authoritative server, and a public resolver that caches and lags.

pub mod server;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::cloudflare::{RecordInfo, State, unquoted};

/// How long "no such name" is remembered: Cloudflare's default.
const NEGATIVE_TTL: u32 = 1_800;
/// The largest answer these servers send over UDP to a client that takes more than 512 bytes.
const UDP_EDNS: u16 = 1_232;
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
    /// The authoritative server refuses every question.
    pub authority_refuses: bool,
    /// The authoritative server learns of a change this many milliseconds later.
    pub authority_delay_ms: u64,
    /// The resolver sees what the authoritative server said this many milliseconds ago. What it sees too late it does
    /// not remember.
    pub resolver_lag_ms: u64,
}

/// An answer kept by the resolver: until when, the code, the records, and the SOA of an absence.
#[derive(Debug, Clone)]
struct Kept {
    until: Timestamp,
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
}

/// The two servers' minds.
#[derive(Debug)]
pub struct Dns {
    clock: Clock,
    cloudflare: Arc<State>,
    weather: Mutex<Weather>,
    cache: Mutex<HashMap<(Name, RecordType), Kept>>,
}

impl Dns {
    pub(crate) fn new(clock: Clock, cloudflare: Arc<State>) -> Self {
        Self { clock, cloudflare, weather: Mutex::default(), cache: Mutex::default() }
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
        let weather = self.weather();
        if weather.authority_silent {
            return None;
        }
        if weather.authority_refuses {
            let mut answer = reply(question);
            answer.metadata.response_code = ResponseCode::Refused;
            return Some(answer);
        }
        Some(self.authoritative(question, weather.authority_delay_ms))
    }

    /// What the authoritative server says that is so many milliseconds behind.
    fn authoritative(&self, question: &Message, behind_ms: u64) -> Message {
        let behind = SignedDuration::from_millis(i64::try_from(behind_ms).unwrap_or(i64::MAX));
        let mut answer = reply(question);
        let Some(query) = question.queries.first() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        };
        let name = query.name().to_ascii();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let Some((zone, serial, records, exists)) = self.cloudflare.published(&name, behind) else {
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
        if let Some(kept) = cache.get(&key).filter(|kept| kept.until > now) {
            return Some(kept.answer(answer, now));
        }
        let delay = weather.authority_delay_ms;
        let fresh = self.authoritative(question, delay);
        let seen = match weather.resolver_lag_ms {
            0 => fresh.clone(),
            lag => self.authoritative(question, delay.saturating_add(lag)),
        };
        let stale = (seen.metadata.response_code, &seen.answers) != (fresh.metadata.response_code, &fresh.answers);
        let ttl = seen.answers.iter().map(|record| record.ttl).min().unwrap_or(NEGATIVE_TTL);
        let code = match seen.metadata.response_code {
            ResponseCode::Refused => ResponseCode::NXDomain,
            code => code,
        };
        let until = now + SignedDuration::from_secs(i64::from(ttl));
        let kept = Kept { until, code, answers: seen.answers, authorities: seen.authorities };
        answer = kept.answer(answer, now);
        if !stale {
            cache.insert(key, kept);
        }
        Some(answer)
    }
}

impl Kept {
    /// Fills `reply`, with the TTLs that are left.
    fn answer(&self, mut reply: Message, now: Timestamp) -> Message {
        let left = u32::try_from(self.until.duration_since(now).as_secs()).unwrap_or(0);
        reply.metadata.response_code = self.code;
        reply.answers.clone_from(&self.answers);
        reply.authorities.clone_from(&self.authorities);
        for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
            record.ttl = record.ttl.min(left);
        }
        reply
    }
}

fn reply(question: &Message) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.queries.clone_from(&question.queries);
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_EDNS);
        answer.set_edns(edns);
    }
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
