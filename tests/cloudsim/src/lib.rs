//! Simulated clouds on loopback: Cloudflare and `DigitalOcean` as their official clients expect them, the DNS they
//! feed, faults to order, and a journal of every request.

pub mod clock;
pub mod cloudflare;
mod control;
pub mod digitalocean;
pub mod dns;
pub mod faults;
pub mod gate;
pub mod journal;
mod refusal;
pub mod vms;
pub mod workerd;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use clock::Clock;
use dns::Dns;
use gate::Gate;

/// Where a simulator listens. Port 0 takes any free one.
#[derive(Debug, Clone)]
pub struct Options {
    /// The APIs and the control API.
    pub http: SocketAddr,
    /// The authoritative DNS server.
    pub dns: SocketAddr,
    /// The public resolver.
    pub resolver: SocketAddr,
    /// How uploaded Workers are run; without it they are only kept.
    pub workers: Option<cloudflare::WorkersOptions>,
    /// What runs droplets as containers; without it they are only kept.
    pub vms: Option<vms::VmsOptions>,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { http: any, dns: any, resolver: any, workers: None, vms: None }
    }
}

/// Where everything was bound.
#[derive(Debug)]
struct Addresses {
    http: SocketAddr,
    dns: SocketAddr,
    resolver: SocketAddr,
}

/// A running simulator. Dropping it ends it.
#[derive(Debug)]
pub struct Sim {
    /// Simulated time.
    pub clock: Clock,
    /// Journal, faults and latency.
    pub gate: Arc<Gate>,
    /// Cloudflare.
    pub cloudflare: Arc<cloudflare::State>,
    /// `DigitalOcean`.
    pub digitalocean: Arc<digitalocean::State>,
    /// The DNS servers' weather.
    pub dns: Arc<Dns>,
    addresses: Addresses,
    edge: Option<Arc<cloudflare::Edge>>,
    _tasks: JoinSet<()>,
}

impl Sim {
    /// Starts one.
    ///
    /// # Errors
    /// When an address cannot be bound, or the engine for VMs does not answer.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let clock = Clock::default();
        let gate = Arc::new(Gate::new(clock.clone()));
        let cloudflare = Arc::new(cloudflare::State::new(clock.clone()));
        let weather = Arc::new(Dns::new(clock.clone(), cloudflare.clone()));
        let mut tasks = JoinSet::new();
        let authority = dns::server::bind(options.dns).await?;
        let resolver = dns::server::bind(options.resolver).await?;
        let listener = TcpListener::bind(options.http).await?;
        let edge = match options.workers {
            Some(workers) => Some(cloudflare::Edge::start(workers, cloudflare.clone(), &mut tasks).await?),
            None => None,
        };
        let droplets = match options.vms {
            Some(vms) => digitalocean::State::with_vms(clock.clone(), vms, &mut tasks).await?,
            None => digitalocean::State::new(clock.clone()),
        };
        let digitalocean = Arc::new(droplets);
        let addresses = Addresses { http: listener.local_addr()?, dns: authority.address, resolver: resolver.address };
        let (at_authority, at_resolver) = (weather.clone(), weather.clone());
        authority.serve(&mut tasks, Arc::new(move |question: &_| at_authority.authority(question)));
        resolver.serve(&mut tasks, Arc::new(move |question: &_| at_resolver.resolver(question)));
        let clouds = behind(&gate, "cloudflare", "/cloudflare/client/v4", cloudflare::router(cloudflare.clone()))
            .merge(behind(&gate, "digitalocean", "/digitalocean", digitalocean::router(digitalocean.clone())));
        let control = control::router(clock.clone(), gate.clone(), cloudflare.clone(), weather.clone())
            .nest("/sim/digitalocean", digitalocean::control_router(digitalocean.clone()));
        tasks.spawn(gate::serve(listener, clouds.merge(control)));
        Ok(Self { clock, gate, cloudflare, digitalocean, dns: weather, addresses, edge, _tasks: tasks })
    }

    /// Where the APIs are.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Where the authoritative DNS server is.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        self.addresses.dns
    }

    /// Where the public resolver is.
    #[must_use]
    pub fn resolver(&self) -> SocketAddr {
        self.addresses.resolver
    }

    /// Where requests to Workers come in, if they are run.
    #[must_use]
    pub fn workers(&self) -> Option<SocketAddr> {
        self.edge.as_ref().map(|edge| edge.address())
    }

    /// How many versions of Workers are being run.
    #[must_use]
    pub fn workers_running(&self) -> usize {
        self.edge.as_ref().map_or(0, |edge| edge.running())
    }

    /// Base URL of the Cloudflare API.
    #[must_use]
    pub fn cloudflare_api(&self) -> String {
        format!("http://{}/cloudflare/client/v4", self.http())
    }

    /// Base URL of the `DigitalOcean` API.
    #[must_use]
    pub fn digitalocean_api(&self) -> String {
        format!("http://{}/digitalocean", self.http())
    }
}

/// A cloud's routes below `base`, behind the gate.
fn behind(gate: &Arc<Gate>, cloud: &'static str, base: &'static str, routes: Router) -> Router {
    let gate = gate.clone();
    let through = move |request: Request| {
        let (gate, routes) = (gate.clone(), routes.clone());
        async move {
            // A task of its own: a request that is held or delayed outlives a client that is killed meanwhile, as it
            // would at the real cloud.
            let passed = tokio::spawn(gate.pass(cloud, routes, request)).await;
            passed.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    };
    Router::new().nest(base, Router::new().fallback(through))
}
