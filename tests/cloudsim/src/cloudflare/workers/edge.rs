//! Requests from outside: each finds its script by host and path, and real workerd runs the version that is deployed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, header};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::script::Version;
use super::{egress, forward};
use crate::cloudflare::state::State;
use crate::workerd::{Outbound, Script, Workerd};

/// How uploaded scripts are run.
#[derive(Debug, Clone)]
pub struct WorkersOptions {
    /// Where requests to scripts come in, over HTTP.
    pub listen: SocketAddr,
    /// The program workerd.
    pub workerd: PathBuf,
    /// Authorities, as PEM, whose certificates of `https` origins are good; none without it.
    pub authorities: Option<Vec<u8>>,
}

/// What runs the scripts of a simulator.
#[derive(Debug)]
pub(crate) struct Edge {
    address: SocketAddr,
    state: Arc<State>,
    binary: PathBuf,
    egress: SocketAddr,
    running: Mutex<HashMap<String, Runtime>>,
}

/// workerd with one version, started by its first request.
type Runtime = Arc<OnceCell<Workerd>>;

impl Edge {
    /// Begins to serve.
    ///
    /// # Errors
    /// When an address cannot be bound, or the authorities are no PEM.
    pub(crate) async fn start(
        options: WorkersOptions,
        state: Arc<State>,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Arc<Self>> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let egress = egress::start(state.clone(), options.authorities.as_deref(), tasks).await?;
        state.set_workerd(options.workerd.clone());
        let edge = Arc::new(Self { address, state, binary: options.workerd, egress, running: Mutex::default() });
        let serving = edge.clone();
        tasks.spawn(forward::serve(listener, move |request| serving.clone().answer(request)));
        Ok(edge)
    }

    /// Where requests come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many versions are being run.
    pub(crate) fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    async fn answer(self: Arc<Self>, mut request: Request<Body>) -> Response<Body> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
        let Some(version) = self.state.serving(&host, request.uri().path()) else {
            // As for a name without an origin.
            return forward::error(530, 1016);
        };
        let runtime = self.runtime(&version);
        let address = match runtime.get_or_try_init(|| self.run(&version)).await {
            Ok(workerd) => workerd.address(),
            Err(error) => {
                tracing::warn!("version {} does not start: {error:#}", version.id);
                return forward::error(500, 1101);
            }
        };
        mark(&mut request);
        let answer = match TcpStream::connect(address).await {
            Ok(stream) => forward::send(request, stream).await.ok(),
            Err(_) => None,
        };
        answer.unwrap_or_else(|| forward::error(500, 1101))
    }

    /// The runtime of a version. Those that serve nothing any more end with their last request.
    fn runtime(&self, version: &Version) -> Runtime {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.contains_key(&version.id) {
            let deployed = self.state.deployed();
            running.retain(|id, _| deployed.contains(id));
        }
        running.entry(version.id.clone()).or_default().clone()
    }

    async fn run(&self, version: &Version) -> anyhow::Result<Workerd> {
        let script = Script {
            modules: version.code.modules.clone(),
            compatibility_date: version.compatibility_date.clone(),
            compatibility_flags: version.compatibility_flags.clone(),
            bindings: version.bindings.clone(),
        };
        Workerd::start(&self.binary, &script, Outbound::Proxy(self.egress)).await
    }
}

/// What Cloudflare says of the client, whatever the client said.
fn mark(request: &mut Request<Body>) {
    let peer = request.extensions().get::<SocketAddr>().map(|peer| peer.ip().to_string()).unwrap_or_default();
    let headers = request.headers_mut();
    for (name, value) in
        [("cf-connecting-ip", peer.as_str()), ("x-forwarded-for", &peer), ("x-forwarded-proto", "http")]
    {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

impl State {
    /// The version that serves a request now.
    fn serving(&self, host: &str, path: &str) -> Option<Arc<Version>> {
        let (mut world, _) = self.world();
        let (account, script) = world.workers.serves(&world, host, path)?;
        world.ids += 1;
        // Ids are spread well enough to choose by.
        let drawn = u8::from_str_radix(&crate::cloudflare::state::id_of(&format!("draw/{}", world.ids))[..2], 16);
        world.workers.script(&account, &script).ok()?.serving(f64::from(drawn.ok()?) / 2.56)
    }

    /// The ids of all versions that serve.
    fn deployed(&self) -> Vec<String> {
        let (world, _) = self.world();
        let newest = world.workers.scripts.values().filter_map(|script| script.deployments.last());
        newest.flat_map(|deployment| &deployment.versions).map(|(version, _)| version.id.clone()).collect()
    }
}
