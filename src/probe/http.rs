//! One HTTP/1.1 exchange: the request, the head of its answer, and what went wrong in words.
//!
//! This is hyper's client for a single connection. A client with a pool (reqwest) would keep resolver, pool and TLS
//! settings for each target, or could not be told which checked address to connect to.

use std::error::Error;
use std::io;

use futures::future::{Either, select};
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Failure, HttpCheck, Scheme, reason, tls};

/// Who is asking.
const AGENT: &str = concat!("roadstead-probe/", env!("CARGO_PKG_VERSION"));
/// The largest head of an answer that is read. Nothing beyond it is.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// The request of a check.
pub(super) fn request(check: &HttpCheck) -> Result<Request<String>, Failure> {
    let built = if check.path.starts_with('/') {
        Request::builder()
            .method(check.method.clone())
            .uri(check.path.as_str())
            .header(HOST, host(check))
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "*/*")
            .header(CONNECTION, "close")
            .body(String::new())
            .ok()
    } else {
        None
    };
    built.ok_or_else(|| {
        let message = format!(
            "a request for the path `{}` of the host `{}` cannot be written: the path starts with `/`, and neither \
             holds spaces or control characters",
            check.path.escape_default(),
            host(check).escape_default()
        );
        Failure { reason: reason::INVALID_CHECK, message }
    })
}

/// The `Host` header.
fn host(check: &HttpCheck) -> String {
    if let Some(host) = &check.host {
        return host.clone();
    }
    let usual = match check.scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let address = if check.address.contains(':') && !check.address.starts_with('[') {
        format!("[{}]", check.address)
    } else {
        check.address.clone()
    };
    if check.port == usual { address } else { format!("{address}:{}", check.port) }
}

/// Whom the certificate must name.
pub(super) fn server_name(check: &HttpCheck) -> &str {
    if let Some(name) = &check.server_name {
        return name;
    }
    let Some(host) = &check.host else { return bare(&check.address) };
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !bare(name).contains(':') => bare(name),
        Some((name, _)) if name.starts_with('[') && name.ends_with(']') => bare(name),
        _ => bare(host),
    }
}

/// An address without the brackets that IPv6 may wear.
pub(super) fn bare(address: &str) -> &str {
    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address)
}

/// Sends the request and reads the head of the answer. Dropping the answer drops the connection.
pub(super) async fn exchange<S>(stream: S, request: Request<String>) -> hyper::Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ask = |mut sender: SendRequest<String>| async move { sender.send_request(request).await };
    converse(stream, ask).await.map(|answer| answer.status())
}

/// Drives a connection for as long as `talk` sends requests over it and reads their answers.
pub(super) async fn converse<S, T, F>(stream: S, talk: impl FnOnce(SendRequest<String>) -> F) -> hyper::Result<T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = hyper::Result<T>>,
{
    let (sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    // Boxed, so that it is dropped when it has ended: until then nobody is told that it takes no more requests.
    match select(std::pin::pin!(talk(sender)), Box::pin(connection)).await {
        Either::Left((said, _)) => said,
        // The connection may end with the answer already handed over, or know better why there is none.
        Either::Right((ended, talk)) => talk.await.map_err(|error| ended.err().unwrap_or(error)),
    }
}

/// Whether a status is a success.
pub(super) fn judge(check: &HttpCheck, status: StatusCode) -> Result<(), Failure> {
    if check.expected.contains(&status.as_u16()) {
        return Ok(());
    }
    let message = format!(
        "`{} {}` was answered with status {}, where {} to {} are expected",
        check.method,
        check.path,
        status.as_u16(),
        check.expected.start(),
        check.expected.end()
    );
    Err(Failure { reason: reason::UNEXPECTED_STATUS, message })
}

/// Why there was no answer.
pub(super) fn failure(error: &hyper::Error, server: &str) -> Failure {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if let Some(objection) = cause.and_then(tls::objection) {
        return tls::failure(objection, server);
    }
    let (reason, message) = if error.is_parse_too_large() {
        (
            reason::INVALID_RESPONSE,
            format!("the headers of the answer of `{server}` exceed {MAX_HEAD} bytes: shorten them"),
        )
    } else if error.is_parse() {
        let message = format!("`{server}` does not answer with HTTP/1.1: check scheme and port");
        (reason::INVALID_RESPONSE, message)
    } else if matches!(cause.map(io::Error::kind), Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)) {
        let message = format!("`{server}` reset the connection before it answered: look into its log");
        (reason::CONNECTION_RESET, message)
    } else {
        let message = format!("`{server}` closed the connection before it answered: look into its log");
        (reason::CONNECTION_CLOSED, message)
    };
    Failure { reason, message }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn check(scheme: Scheme, address: &str, port: u16) -> HttpCheck {
        HttpCheck {
            scheme,
            address: address.to_owned(),
            port,
            method: Method::GET,
            path: "/healthz?deep=1".to_owned(),
            host: None,
            server_name: None,
            expected: 200..=399,
        }
    }

    #[test]
    fn the_host_header_is_the_address_with_an_unusual_port() {
        for (scheme, address, port, host) in [
            (Scheme::Http, "web.example.com", 80, "web.example.com"),
            (Scheme::Http, "web.example.com", 443, "web.example.com:443"),
            (Scheme::Https, "web.example.com", 443, "web.example.com"),
            (Scheme::Https, "203.0.113.7", 8443, "203.0.113.7:8443"),
            (Scheme::Http, "2001:db8::7", 8080, "[2001:db8::7]:8080"),
            (Scheme::Http, "[2001:db8::7]", 80, "[2001:db8::7]"),
        ] {
            let request = request(&check(scheme, address, port)).unwrap();
            assert_eq!(request.headers()[HOST], host);
            assert_eq!(request.uri(), "/healthz?deep=1");
            assert_eq!(request.headers()[USER_AGENT], AGENT);
        }
        let named = HttpCheck { host: Some("shop.example.com".to_owned()), ..check(Scheme::Http, "203.0.113.7", 8080) };
        assert_eq!(request(&named).unwrap().headers()[HOST], "shop.example.com");
    }

    #[test]
    fn the_certificate_must_name_the_server_name_else_the_host_else_the_address() {
        for (host, server_name, name) in [
            (None, None, "2001:db8::7"),
            (Some("shop.example.com"), None, "shop.example.com"),
            (Some("shop.example.com:8443"), None, "shop.example.com"),
            (Some("[2001:db8::9]:8443"), None, "2001:db8::9"),
            (Some("[2001:db8::9]"), None, "2001:db8::9"),
            (Some("shop.example.com"), Some("tls.example.com"), "tls.example.com"),
        ] {
            let [host, server_name] = [host, server_name].map(|name: Option<&str>| name.map(str::to_owned));
            let check = HttpCheck { host, server_name, ..check(Scheme::Https, "2001:db8::7", 8443) };
            assert_eq!(super::server_name(&check), name);
        }
    }

    #[test]
    fn no_path_or_host_smuggles_in_another_request() {
        let good = check(Scheme::Http, "web.example.com", 80);
        for (path, host) in [
            ("", None),
            ("healthz", None),
            ("http://other.example.com/", None),
            ("/a b", None),
            ("/\r\nX-Evil: 1", None),
            ("/", Some("a\r\nX-Evil: 1")),
            ("/", Some("a\u{0}b")),
        ] {
            let host = host.map(str::to_owned);
            let failure = request(&HttpCheck { path: path.to_owned(), host, ..good.clone() }).unwrap_err();
            assert_eq!(failure.reason, reason::INVALID_CHECK);
            assert!(!failure.message.contains(['\r', '\n', '\0']), "{}", failure.message);
        }
    }
}
