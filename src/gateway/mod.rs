//! The REST API: sign-up and keys, groups, reports and discovery over HTTP.
//!
//! A request passes the `gate` (id, limits, time-out), says who it is (`auth`), is read strictly (`body`) and reaches one
//! of the `routes`, which speak to the rest through [`ports`]. Only the process that leads has ports; the others answer
//! 503. Two of the ports are filled here: [`SecretUsers`] and [`KubeReviews`].

mod auth;
mod body;
mod error;
mod gate;
pub mod keys;
mod limits;
pub mod ports;
mod readings;
mod reviews;
mod routes;
mod server;
mod users;

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use ipnet::IpNet;
use tokio::sync::{Semaphore, watch};

pub use self::error::ErrorBody;
pub use self::limits::Rates;
pub use self::reviews::KubeReviews;
pub use self::server::{ServeError, Serving, serve};
pub use self::users::SecretUsers;

use self::ports::{Account, GroupRef, Ports, User};
use self::readings::Readings;

/// Requests served at once; more are told to come back.
const PLACES: usize = 4096;
/// Callers whose identity is remembered.
const CALLERS: usize = 100_000;

/// What an administrator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub address: SocketAddr,
    /// Certificate and key; without them, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Who may sign up.
    pub signup: Signup,
    /// How often requests may come.
    pub rates: Rates,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Files of a certificate, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Who may sign up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signup {
    /// Anybody.
    Open,
    /// Nobody.
    Closed,
    /// Who sends the token in this file; nobody without one. It is read at every sign-up, so it can be changed.
    Token(Option<PathBuf>),
}

/// What all routes share.
#[derive(Clone)]
struct Gateway(Arc<Shared>);

struct Shared {
    settings: Settings,
    /// The ports, while this process leads.
    leading: watch::Receiver<Option<Ports>>,
    limits: limits::Limits,
    places: Semaphore,
    /// Users by handle.
    users: Readings<String, Option<Arc<User>>>,
    /// Accounts by the SHA-256 of their token.
    accounts: Readings<[u8; 32], Option<Arc<Account>>>,
    /// Who may report where.
    rights: Readings<(Arc<Account>, GroupRef), bool>,
}

impl Deref for Gateway {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Gateway {
    fn new(settings: Settings, leading: watch::Receiver<Option<Ports>>) -> Self {
        Self(Arc::new(Shared {
            limits: limits::Limits::new(settings.rates),
            settings,
            leading,
            places: Semaphore::new(PLACES),
            users: Readings::new(CALLERS),
            accounts: Readings::new(CALLERS),
            rights: Readings::new(CALLERS),
        }))
    }

    fn router(self) -> Router {
        routes::all()
            .layer(DefaultBodyLimit::max(body::MOST))
            .layer(from_fn_with_state(self.clone(), gate::pass))
            .with_state(self)
    }
}
