//! Whether a name is served at one address, by the host that is meant: a verified certificate, our host's own answer at
//! the identity path, and the app's at the path of its health check.
//!
//! The identity is asked for first. Its answer is short and ours, so that the app's can come over the same connection;
//! and what a stranger's host answers at any other path is of no interest.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::client::conn::http1::SendRequest;
use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};

use super::network::Network;
use super::{Failure, HttpCheck, Outcome, Scheme, SettingsError, http as exchange, reason};
use crate::host::caddy::BAD_GATEWAY;
use crate::host::table::IDENTITY_PATH;
use crate::router::answer::{MAINTENANCE_PAGE, NOT_FOUND, PLACEHOLDER, UNAVAILABLE};

/// A longer body is none of ours, and not read.
const LONGEST_BODY: u64 = 1024;

/// A name at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The name, in lower case and punycode: in the handshake, in the certificate and in the `Host` header.
    pub name: String,
    /// Whom to ask. Nothing is resolved.
    pub address: IpAddr,
    /// Port of HTTPS there.
    pub port: u16,
    /// Path and query of the health check, starting with `/`.
    pub path: String,
    /// What the host that is meant answers at the identity path.
    pub nonce: String,
}

/// Asks for sites, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Asker(Arc<Network>);

impl Asker {
    /// With the system's trusted authorities and those of `extra_ca` (PEM). Of what is not the public Internet, only
    /// what `allow_cidrs` holds is asked.
    ///
    /// # Errors
    /// [`SettingsError`] when the extra authorities cannot be used.
    pub fn new(allow_cidrs: Vec<IpNet>, extra_ca: Option<&[u8]>) -> Result<Self, SettingsError> {
        Ok(Self(Arc::new(Network::new(allow_cidrs, extra_ca)?)))
    }

    /// Asks once, within `limit`: `Ok` if the host that is meant serves the app with a status from 200 to 399 and a
    /// verified certificate.
    ///
    /// # Errors
    /// What is wrong. [`reason::NOT_MADE`] says nothing of the site.
    pub async fn ask(&self, site: &Site, limit: Duration) -> Result<(), Failure> {
        self.0.site(site, Instant::now() + limit).await.map_err(|outcome| match outcome {
            Outcome::Failure(failure) => failure,
            Outcome::Inconclusive(why) => {
                let message = format!("`{}` could not be asked for: {why}", site.name);
                Failure { reason: reason::NOT_MADE, message }
            }
            Outcome::Success => Failure { reason: reason::NOT_MADE, message: String::new() },
        })
    }
}

impl Network {
    /// Asks for a site once.
    pub(super) async fn site(&self, site: &Site, deadline: Instant) -> Result<(), Outcome> {
        let mut identity = exchange::request(&site.check(IDENTITY_PATH))?;
        identity.headers_mut().remove(CONNECTION);
        let page = exchange::request(&site.check(&site.path))?;
        let again = page.clone();
        let both = |mut sender: SendRequest<String>| async move {
            let host = answer(&mut sender, identity).await?;
            if let Err(failure) = site.is_meant(&host) {
                return Ok(Err(failure));
            }
            if sender.ready().await.is_err() {
                return Ok(Ok(None));
            }
            answer(&mut sender, page).await.map(|app| Ok(Some(app)))
        };
        let app = match self.converse(site, deadline, both).await?? {
            Some(app) => app,
            // The host closes its connections, as Caddy does while it takes a new configuration.
            None => self.converse(site, deadline, |mut sender| async move { answer(&mut sender, again).await }).await?,
        };
        Ok(site.is_served(&app)?)
    }

    /// Talks over a new connection to the site.
    async fn converse<T, F>(
        &self,
        site: &Site,
        deadline: Instant,
        talk: impl FnOnce(SendRequest<String>) -> F,
    ) -> Result<T, Outcome>
    where
        F: Future<Output = hyper::Result<T>>,
    {
        let stream = self.connect(&site.address.to_string(), site.port, deadline).await?;
        let stream = self.handshake(stream, &site.name, deadline).await.map_err(|failure| site.worded(failure))?;
        let said = timeout_at(deadline, exchange::converse(stream, talk)).await.map_err(|_| {
            let message = format!("`{}` at {} did not answer in time: look into its load", site.name, site.address);
            Failure { reason: reason::TIMEOUT, message }
        })?;
        Ok(said.map_err(|error| site.worded(exchange::failure(&error, &site.name)))?)
    }
}

async fn answer(sender: &mut SendRequest<String>, request: Request<String>) -> hyper::Result<Answer> {
    let (head, mut body) = sender.send_request(request).await?.into_parts();
    let mut text = Vec::new();
    if body.size_hint().exact().is_some_and(|length| length <= LONGEST_BODY) {
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                text.extend_from_slice(&data);
            }
        }
    }
    Ok(Answer { status: head.status, placeholder: head.headers.contains_key(PLACEHOLDER), text })
}

/// What is looked at of an answer.
#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    placeholder: bool,
    /// The body, if it is short.
    text: Vec<u8>,
}

impl Answer {
    fn is(&self, status: u16, text: &str) -> bool {
        self.status.as_u16() == status && self.text == text.as_bytes()
    }
}

impl Site {
    fn check(&self, path: &str) -> HttpCheck {
        let host = if self.port == 443 { self.name.clone() } else { format!("{}:{}", self.name, self.port) };
        HttpCheck {
            scheme: Scheme::Https,
            address: self.address.to_string(),
            port: self.port,
            method: Method::GET,
            path: path.to_owned(),
            host: Some(host),
            server_name: Some(self.name.clone()),
            expected: 200..=399,
        }
    }

    /// Whether the answer at the identity path is that of the host that is meant.
    fn is_meant(&self, answer: &Answer) -> Result<(), Failure> {
        let Self { name, address, .. } = self;
        if answer.is(200, &self.nonce) {
            return Ok(());
        }
        let (reason, message) = if answer.is(404, NOT_FOUND) {
            let message = format!(
                "the host at {address} has no `{name}` in its routing table: check that this is the Node's address; a \
                 table that somebody changed is written again by itself"
            );
            (reason::NOT_ROUTED, message)
        } else if answer.is(502, BAD_GATEWAY) {
            let message = format!(
                "Caddy at {address} reaches none of its routers: look at their containers with `docker ps -a` there"
            );
            (reason::UPSTREAM_502, message)
        } else if answer.is(503, UNAVAILABLE) {
            let message = format!(
                "the routers at {address} have no routing table, or do not answer: look into the logs of their \
                 containers there"
            );
            (reason::UPSTREAM_503, message)
        } else {
            let message = format!(
                "`{name}` is answered at {address} by another host than the Node's: check whose address it is now"
            );
            (reason::WRONG_HOST, message)
        };
        Err(Failure { reason, message })
    }

    /// Whether the answer at the path of the health check is one of a healthy app.
    fn is_served(&self, answer: &Answer) -> Result<(), Failure> {
        let Self { name, address, path, .. } = self;
        let (reason, message) = if answer.placeholder {
            let message = format!(
                "`{name}` is answered at {address} by the placeholder, since no app is deployed there: look at why the \
                 deploy did not come to its end"
            );
            (reason::PLACEHOLDER_ANSWERS, message)
        } else if (200..=399).contains(&answer.status.as_u16()) {
            return Ok(());
        } else if answer.is(503, MAINTENANCE_PAGE) {
            let message =
                format!("`{name}` is answered at {address} with the maintenance page: set maintenance to false");
            (reason::MAINTENANCE_PAGE, message)
        } else if answer.is(502, BAD_GATEWAY) {
            let message = format!(
                "the app behind `{name}` at {address} accepts no connections: look at its containers with \
                 `docker ps -a` there"
            );
            (reason::UPSTREAM_502, message)
        } else if answer.is(503, UNAVAILABLE) {
            let message = format!(
                "the app behind `{name}` was withdrawn at {address}: look at why the deploy did not come to its end"
            );
            (reason::UPSTREAM_503, message)
        } else {
            let status = answer.status.as_u16();
            let message = format!(
                "the app answered `GET https://{name}{path}` at {address} with status {status}, where 200 to 399 are \
                 expected: look into its log"
            );
            (reason::UNEXPECTED_STATUS, message)
        };
        Err(Failure { reason, message })
    }

    /// The words of the TLS library's user suit whoever chooses the names to ask for. Here they are given.
    fn worded(&self, failure: Failure) -> Failure {
        if failure.reason != reason::CERTIFICATE_NAME_MISMATCH {
            return failure;
        }
        let message = format!(
            "the certificate shown at {} is not for `{}`: check that the Node's Caddy is what serves this port, and what \
             its log says of obtaining one",
            self.address, self.name
        );
        Failure { message, ..failure }
    }
}
