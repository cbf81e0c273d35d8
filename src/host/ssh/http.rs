//! One HTTP/1.1 request to something on the host, through a channel of its own.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::{Error, Session, Stream};

/// The largest head of an answer that is read.
const MAX_HEAD: usize = 16 * 1024;

/// How a request gets to its server on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// To a host and port, as the host sees them.
    Tcp(String, u16),
    /// To a socket in the host's file system.
    Unix(String),
}

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The time from now to the last byte of the answer.
    pub time: Duration,
    /// The most bytes of the answer's body.
    pub body: usize,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{path}"),
        }
    }
}

impl Via {
    /// What to name in `Host` where the request names nothing.
    fn authority(&self) -> String {
        match self {
            Self::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp(host, port) => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl Session {
    /// Sends `request`, whose URI is a path, and gives its whole answer. Nothing is followed or repeated.
    ///
    /// # Errors
    /// If there is no channel, no whole answer within the time, or more of it than is taken.
    pub async fn http(
        &self,
        via: &Via,
        mut request: Request<Bytes>,
        limits: HttpLimits,
    ) -> Result<Response<Bytes>, Error> {
        let what = format!("`{} {}` to {via} at {}", request.method(), request.uri(), self.link.server);
        if !request.uri().path().starts_with('/') || request.uri().authority().is_some() {
            return Err(Error::Invalid(format!("{what}: the URI of a request through SSH is a path")));
        }
        let headers = request.headers_mut();
        if !headers.contains_key(HOST) {
            let host = HeaderValue::try_from(via.authority());
            headers.insert(HOST, host.map_err(|_| Error::Invalid(format!("{what}: no such host can be named")))?);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let deadline = Instant::now() + limits.time;
        let stream = match via {
            Via::Tcp(host, port) => self.tcp(host, *port, limits.time).await?,
            Via::Unix(path) => self.unix(path, limits.time).await?,
        };
        match timeout_at(deadline, exchange(stream, request, limits.body, &what)).await {
            // The channel ended early because the connection did.
            Ok(Err(Error::Http { .. })) if self.is_closed() => Err(self.link.cut()),
            Ok(answer) => answer,
            Err(_) => Err(Error::TimedOut { what, limit: limits.time }),
        }
    }
}

async fn exchange(stream: Stream, request: Request<Bytes>, cap: usize, what: &str) -> Result<Response<Bytes>, Error> {
    let failed = |error: &dyn std::error::Error| {
        let reason = error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        Error::Http { what: what.to_owned(), reason }
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let answer = async {
        let response = sender.send_request(request.map(Full::new)).await.map_err(|error| failed(&error))?;
        let (head, body) = response.into_parts();
        match Limited::new(body, cap).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(Error::TooLarge { what: what.to_owned(), cap }),
            Err(error) => Err(failed(&*error)),
        }
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        answer = &mut answer => answer,
        // Ended, it has handed over all there is.
        ended = &mut connection => match (answer.await, ended) {
            (Err(Error::Http { .. }), Err(error)) => Err(failed(&error)),
            (answer, _) => answer,
        },
    }
}
