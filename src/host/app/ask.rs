//! What an app's containers answer inside, asked through the tunnel.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

use super::handed::{HAND, Handed};
use crate::host::bootstrap::EDGE;
use crate::host::compose::overlay;
use crate::host::deploy::commands::Place;
use crate::host::deploy::log::cut;
use crate::host::deploy::seen::Answer;
use crate::host::ssh::{Command, Error, HttpLimits, Session, Via, quote};

/// What finding the containers' addresses may take.
const LOOK: Duration = Duration::from_secs(30);
/// What an answer may take.
const ANSWER: HttpLimits = HttpLimits { time: Duration::from_secs(5), body: 1 << 20 };
/// How much of an answer's text is said.
const WIDTH: usize = 120;

const ASK: &str = r#"printf '%s\n' "$@" | inspect container inspect --format '{"id":{{json .ID}},"service":{{json
  (index .Config.Labels "com.docker.compose.service")}},"networks":{{json .NetworkSettings.Networks}}}' >"$scratch/all"
hand containers "$scratch/all"
hand end /dev/null"#;

/// A container, as the script says it.
#[derive(Deserialize)]
struct Found {
    id: String,
    service: Option<String>,
    networks: Option<BTreeMap<String, Attached>>,
}

#[derive(Deserialize)]
struct Attached {
    #[serde(default, rename = "IPAddress")]
    address: String,
}

/// What each of these containers answers to a GET of `path` at `port`, all asked at once: 2xx and 3xx are well. One that
/// could not be asked, because the host was not reached or the container is gone, is not among them.
pub async fn ask(session: &Session, place: &Place, ids: &[String], port: u16, path: &str) -> BTreeMap<String, Answer> {
    let arguments = ids.iter().map(|id| quote(id)).collect::<Vec<_>>().join(" ");
    let text = format!("sh -c {} sh {arguments}", quote(&format!("{HAND}{ASK}")));
    let found = async {
        let output = session.exec(Command::new(text, LOOK).as_root()).await?.checked("finding the containers")?;
        Handed::read(&output.stdout)?.json::<Found>("containers")
    };
    let found = found.await.unwrap_or_default();
    let asked = found.iter().map(|container| async {
        let verdict = match address(place, container) {
            Some(address) => one(session, &address, container, port, path).await?,
            None => Err("it has no address in the network by which Caddy reaches it".to_owned()),
        };
        Some((container.id.clone(), Answer { at: Timestamp::now(), verdict }))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Where Caddy finds it: in the app's own network, else in `edge`.
fn address(place: &Place, container: &Found) -> Option<String> {
    let networks = container.networks.as_ref()?;
    let own = overlay::network(&place.app);
    let address = networks.get(&own).or_else(|| networks.get(EDGE))?.address.clone();
    (!address.is_empty()).then_some(address)
}

/// What one answers; `None` if it could not be asked.
async fn one(session: &Session, address: &str, container: &Found, port: u16, path: &str) -> Option<Result<(), String>> {
    let host = container.service.as_ref().map(|service| format!("{service}:{port}"));
    let mut request = Request::builder().uri(path).header(USER_AGENT, "roadstead");
    if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
        request = request.header(HOST, host);
    }
    let Ok(request) = request.body(Bytes::new()) else { return Some(Err(format!("`{path}` is no path"))) };
    match session.http(&Via::Tcp(address.to_owned(), port), request, ANSWER).await {
        Ok(answer) => Some(verdict(answer.status(), answer.body())),
        Err(Error::TooLarge { .. }) => Some(Err("it answered with more than a health check has to say".to_owned())),
        Err(Error::TimedOut { limit, .. }) => Some(Err(format!("it did not answer within {} s", limit.as_secs()))),
        Err(Error::Http { reason, .. }) => Some(Err(format!("it gave no whole HTTP answer: {reason}"))),
        Err(Error::ChannelRefused { reason, .. }) => Some(Err(format!("no connection: {reason}"))),
        // That says something of the way there, and nothing of the app.
        Err(_) => None,
    }
}

fn verdict(status: StatusCode, body: &[u8]) -> Result<(), String> {
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    let text: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).collect();
    let text = cut(text.trim(), WIDTH);
    Err(if text.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {text}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundreds_and_three_hundreds_are_well_and_others_are_told_with_what_they_say() {
        for status in [200, 204, 301, 304, 399] {
            assert_eq!(verdict(StatusCode::from_u16(status).unwrap(), b"whatever"), Ok(()));
        }
        let failed = verdict(StatusCode::SERVICE_UNAVAILABLE, b"no\r\n database\x1b[0m").unwrap_err();
        assert_eq!(failed, "it answered 503 Service Unavailable: no database[0m");
        assert_eq!(verdict(StatusCode::NOT_FOUND, b" ").unwrap_err(), "it answered 404 Not Found");
    }

    #[test]
    fn a_container_is_found_in_the_apps_own_network_or_in_edge() {
        let place = Place {
            app: "mark".into(),
            project: "shop".into(),
            directory: "/opt/roadstead/apps/shop".into(),
            proxy: "caddy".into(),
            registries: Vec::new(),
        };
        let found = |networks: &str| -> Found {
            serde_json::from_str(&format!(r#"{{"id":"a","service":"web","networks":{networks}}}"#)).unwrap()
        };
        let own = overlay::network("mark");
        let both = format!(r#"{{"edge":{{"IPAddress":"10.0.0.2"}},"{own}":{{"IPAddress":"10.1.0.2"}}}}"#);
        assert_eq!(address(&place, &found(&both)).as_deref(), Some("10.1.0.2"));
        assert_eq!(address(&place, &found(r#"{"edge":{"IPAddress":"10.0.0.2"}}"#)).as_deref(), Some("10.0.0.2"));
        for none in [r#"{"edge":{"IPAddress":""}}"#, r#"{"shop_default":{"IPAddress":"10.2.0.2"}}"#, "null"] {
            assert_eq!(address(&place, &found(none)), None);
        }
    }
}
