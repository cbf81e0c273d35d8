//! What a request is answered with: pure, from a table and the request.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::host::table::{IDENTITY_PATH, Route, Table};

/// Where the request goes: `<alias>:<port>`.
pub const UPSTREAM: HeaderName = HeaderName::from_static("x-upstream");
/// The Node's nonce, at the identity path and the health path.
pub const IDENTITY: HeaderName = HeaderName::from_static("x-roadstead-identity");
/// On every answer of the placeholder, so that it never counts as a healthy app.
pub const PLACEHOLDER: HeaderName = HeaderName::from_static("x-roadstead-placeholder");

/// Which hosts have been asked for what a certificate authority wants to know, by their nonces.
pub const ASKED: HeaderName = HeaderName::from_static("x-roadstead-asked");
/// Where it asks (RFC 8555, 8.3).
pub const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Body of the 404 for a name that nobody here has.
pub const NOT_FOUND: &str = "Service Not Found";
/// Body of the 503 for an app that was withdrawn, and of Caddy's own 503.
pub const UNAVAILABLE: &str = "Service Unavailable - VM not responding";
/// Body of the 503 of an app that is being worked on.
pub const MAINTENANCE_PAGE: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Maintenance</title>\n\
    <h1>Down for maintenance</h1>\n<p>This site will be back soon.</p>\n</html>\n";

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'t> {
    /// It goes to an app.
    Upstream {
        /// `<alias>:<port>`.
        dial: String,
        /// The Node's nonce, if this is a health check.
        identity: Option<&'t str>,
    },
    /// Nobody here has that name.
    NotFound,
    /// The app was withdrawn.
    Unavailable,
    /// There is no table yet.
    NoTable,
    /// The app is being worked on.
    Maintenance,
    /// No app was deployed yet.
    Placeholder {
        /// The Node's nonce, if this is a health check: which is then passed.
        identity: Option<&'t str>,
    },
    /// The visitor is sent elsewhere.
    Redirect {
        /// The whole URL.
        to: String,
        /// The status.
        code: u16,
    },
    /// Who is asked is this Node.
    Identity(&'t str),
    /// Another host that shares the name is asked what a certificate authority wants to know.
    Peer {
        /// `<address>:<port>`.
        dial: String,
        /// The nonces of the hosts that were asked before, and of this one.
        asked: String,
    },
}

impl<'t> Answer<'t> {
    /// The answer to a request for this host, and this path with its query. `asked`: which hosts have been asked for what
    /// a certificate authority wants to know; `None` where it does not ask.
    #[must_use]
    pub fn of(table: Option<&'t Table>, host: &str, uri: &str, asked: Option<&str>) -> Self {
        let Some(table) = table else { return Self::NoTable };
        let Some(route) = table.lookup(host) else { return Self::NotFound };
        let node = table.node();
        let path = path(uri);
        if path == IDENTITY_PATH {
            return Self::Identity(&node.nonce);
        }
        if let (Some(peer), Some(asked)) = (route.peer(), asked)
            && path.starts_with(CHALLENGE)
            && !asked.split(',').any(|nonce| nonce == &*node.nonce)
        {
            let asked = if asked.is_empty() { node.nonce.to_string() } else { format!("{asked},{}", node.nonce) };
            return Self::Peer { dial: peer.to_string(), asked };
        }
        let identity = (path == self::path(&node.health_path)).then_some(&*node.nonce);
        match route {
            Route::Upstream { alias, port, peer: _ } => Self::Upstream { dial: dial(alias, *port), identity },
            Route::Redirect { to, code, peer: _ } => {
                let rest = if uri.starts_with('/') { uri } else { "/" };
                Self::Redirect { to: format!("https://{to}{rest}"), code: *code }
            }
            Route::Maintenance => Self::Maintenance,
            Route::Unavailable => Self::Unavailable,
            Route::Placeholder => Self::Placeholder { identity },
        }
    }

    /// One word, for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Upstream { .. } => "upstream",
            Self::NotFound => "not-found",
            Self::Unavailable => "unavailable",
            Self::NoTable => "no-table",
            Self::Maintenance => "maintenance",
            Self::Placeholder { .. } => "placeholder",
            Self::Redirect { .. } => "redirect",
            Self::Identity(_) => "identity",
            Self::Peer { .. } => "peer",
        }
    }

    /// The answer as HTTP: 204 for what goes to an app, and for the rest what the visitor gets.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let (status, body) = self.text();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // Tables are checked, and what a visitor sent came through a header: all of this can be one.
        let value = |text: &str| HeaderValue::from_str(text).ok();
        let mut put = |name: HeaderName, text: Option<HeaderValue>| text.map(|text| headers.insert(name, text));
        if !matches!(self, Self::Upstream { .. } | Self::Redirect { .. } | Self::Peer { .. }) {
            let html = matches!(self, Self::Maintenance);
            let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
            put(CONTENT_TYPE, value(kind));
            put(CACHE_CONTROL, value("no-store"));
        }
        match self {
            Self::Upstream { dial, identity } => {
                put(UPSTREAM, value(&dial));
                put(IDENTITY, identity.and_then(value));
            }
            Self::Peer { dial, asked } => {
                put(UPSTREAM, value(&dial));
                put(ASKED, value(&asked));
            }
            Self::Placeholder { identity } => {
                put(PLACEHOLDER, value("true"));
                put(IDENTITY, identity.and_then(value));
                put(RETRY_AFTER, value("30").filter(|_| identity.is_none()));
            }
            Self::Redirect { to, .. } => drop(put(LOCATION, value(&to))),
            Self::Identity(nonce) => drop(put(IDENTITY, value(nonce))),
            Self::Maintenance => drop(put(RETRY_AFTER, value("60"))),
            Self::Unavailable | Self::NoTable => drop(put(RETRY_AFTER, value("5"))),
            Self::NotFound => {}
        }
        response
    }

    fn text(&self) -> (StatusCode, Cow<'static, str>) {
        let (status, text) = match self {
            Self::Upstream { .. } | Self::Peer { .. } => (StatusCode::NO_CONTENT, ""),
            Self::NotFound => (StatusCode::NOT_FOUND, NOT_FOUND),
            Self::Unavailable | Self::NoTable => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE),
            Self::Maintenance => (StatusCode::SERVICE_UNAVAILABLE, MAINTENANCE_PAGE),
            Self::Placeholder { identity: Some(_) } => (StatusCode::OK, "No application deployed yet\n"),
            Self::Placeholder { identity: None } => (StatusCode::SERVICE_UNAVAILABLE, "No application deployed yet\n"),
            Self::Redirect { code, .. } => (StatusCode::from_u16(*code).unwrap_or(StatusCode::PERMANENT_REDIRECT), ""),
            Self::Identity(nonce) => return (StatusCode::OK, Cow::Owned((*nonce).to_owned())),
        };
        (status, Cow::Borrowed(text))
    }
}

/// A path without its query.
fn path(uri: &str) -> &str {
    uri.split_once('?').map_or(uri, |(path, _)| path)
}

/// As a dialler wants it: an IPv6 address in brackets.
fn dial(alias: &str, port: u16) -> String {
    if alias.parse::<Ipv6Addr>().is_ok() { format!("[{alias}]:{port}") } else { format!("{alias}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::table::Node;

    const NONCE: &str = "0123456789abcdef";

    fn table(health_path: &str) -> Table {
        let peer = Some("192.0.2.7:80".parse().unwrap());
        let upstream = |alias: &str| Route::Upstream { alias: alias.into(), port: 8080, peer: None };
        let routes = [
            ("app.example", upstream("shop-web-7")),
            ("six.example", upstream("2001:db8::7")),
            ("shared.example", Route::Upstream { alias: "shop-web-7".into(), port: 8080, peer }),
            ("old.example", Route::Redirect { to: "app.example".into(), code: 308, peer }),
            ("works.example", Route::Maintenance),
            ("gone.example", Route::Unavailable),
            ("new.example", Route::Placeholder),
        ];
        Table::new(Node { nonce: NONCE.into(), health_path: health_path.into() }, routes).unwrap()
    }

    fn upstream(dial: &str, identity: Option<&'static str>) -> Answer<'static> {
        Answer::Upstream { dial: dial.to_owned(), identity }
    }

    #[test]
    fn each_route_has_its_answer() {
        let table = table("/healthz");
        let redirect = |to: &str| Answer::Redirect { to: to.to_owned(), code: 308 };
        for (host, uri, expected) in [
            ("app.example", "/", upstream("shop-web-7:8080", None)),
            ("APP.example.:443", "/", upstream("shop-web-7:8080", None)),
            ("six.example", "/", upstream("[2001:db8::7]:8080", None)),
            ("old.example", "/a?b=c", redirect("https://app.example/a?b=c")),
            ("old.example", "//evil.example/", redirect("https://app.example//evil.example/")),
            ("old.example", "*", redirect("https://app.example/")),
            ("works.example", "/", Answer::Maintenance),
            ("gone.example", "/", Answer::Unavailable),
            ("new.example", "/", Answer::Placeholder { identity: None }),
            ("new.example", "/healthz", Answer::Placeholder { identity: Some(NONCE) }),
            ("other.example", "/", Answer::NotFound),
            ("", "", Answer::NotFound),
        ] {
            assert_eq!(Answer::of(Some(&table), host, uri, None), expected, "{host}{uri}");
        }
        assert_eq!(Answer::of(None, "app.example", "/", None), Answer::NoTable);
    }

    #[test]
    fn every_name_of_the_table_says_whose_host_this_is_and_no_other() {
        let table = table("/");
        for (host, _) in table.iter() {
            assert_eq!(Answer::of(Some(&table), host, IDENTITY_PATH, None), Answer::Identity(NONCE));
        }
        assert_eq!(Answer::of(Some(&table), "other.example", IDENTITY_PATH, None), Answer::NotFound);
    }

    #[test]
    fn what_an_authority_asks_goes_round_the_hosts_that_share_the_name_and_ends_where_it_began() {
        let table = table("/");
        let token = format!("{CHALLENGE}abc?x");
        let peer = |asked: &str| Answer::Peer { dial: "192.0.2.7:80".to_owned(), asked: asked.to_owned() };
        let of = |host: &str, uri: &str, asked| Answer::of(Some(&table), host, uri, asked);
        for host in ["shared.example", "old.example"] {
            assert_eq!(of(host, &token, Some("")), peer(NONCE), "{host}");
            assert_eq!(of(host, &token, Some("other,another")), peer(&format!("other,another,{NONCE}")));
            for asked in [None, Some(NONCE), Some("other,0123456789abcdef")] {
                assert!(!matches!(of(host, &token, asked), Answer::Peer { .. }), "{host} after {asked:?}");
            }
        }
        assert_eq!(of("shared.example", "/", Some("")), upstream("shop-web-7:8080", Some(NONCE)));
        assert_eq!(of("app.example", &token, Some("")), upstream("shop-web-7:8080", None));
        let response = peer("a,b").into_response();
        let header = |name| response.headers()[name].to_str().unwrap();
        assert_eq!((response.status().as_u16(), header(UPSTREAM), header(ASKED)), (204, "192.0.2.7:80", "a,b"));
    }

    #[test]
    fn a_health_check_of_an_app_is_told_the_identity_whatever_its_query() {
        let table = table("/up?deep=1");
        for (uri, identity) in [("/up", Some(NONCE)), ("/up?x", Some(NONCE)), ("/upper", None), ("/", None)] {
            assert_eq!(
                Answer::of(Some(&table), "app.example", uri, None),
                upstream("shop-web-7:8080", identity),
                "{uri}"
            );
        }
    }

    #[test]
    fn the_placeholder_is_marked_whether_it_passes_or_not() {
        for (identity, status) in [(Some(NONCE), 200), (None, 503)] {
            let response = Answer::Placeholder { identity }.into_response();
            assert_eq!(
                (response.status().as_u16(), &response.headers()[PLACEHOLDER]),
                (status, &"true".parse().unwrap())
            );
        }
    }

    #[test]
    fn a_path_that_is_no_header_is_not_sent_back() {
        let table = table("/");
        let response = Answer::of(Some(&table), "old.example", "/\r\nX-Evil: 1", None).into_response();
        assert_eq!(response.headers().get(LOCATION), None);
    }
}
