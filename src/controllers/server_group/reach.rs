//! Whether the operator itself can reach anything: what tells "my network is down" from "they are down".
//!
//! The control plane may be next door while the way to everybody else is broken, and what it cannot be told nobody would
//! ever read in a status. So the Zones' own servers decide, which lie outside like what is probed. Where they never
//! answered, because DNS is kept from leaving the cluster say, the control plane stands in for them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use kube::{Client, ResourceExt};

use crate::api::names::Fqdn;
use crate::api::zone::Zone;
use crate::controllers::registry::Registry;
use crate::dns::Kind;
use crate::dns::propagation::{self, Answer};
use crate::probe::SelfCheck;
use crate::runtime::cache::Cache;

/// How long the control plane may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many servers are asked at once.
const AT_ONCE: usize = 16;
/// How often servers are asked of which none has answered yet, and how often afterwards.
const LISTENING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Asks the Zones' own servers until one of them answers, and the control plane where none ever did.
pub struct Reach {
    client: Client,
    registry: Arc<Registry>,
    zones: Cache<Zone>,
    /// Servers that answered before.
    heard: Mutex<HashSet<SocketAddr>>,
}

impl Reach {
    /// Over the control plane, running Zones with their servers, and all Zones.
    #[must_use]
    pub fn new(client: Client, registry: Arc<Registry>, zones: Cache<Zone>) -> Self {
        Self { client, registry, zones, heard: Mutex::default() }
    }

    /// Learns which servers answer while all is well, until `end`.
    pub async fn listen(&self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let round = async {
                let servers = self.servers();
                self.outside(&servers).await;
                let pause = if self.knows_any(&servers) { LISTENING.1 } else { LISTENING.0 };
                tokio::time::sleep(pause).await;
            };
            // Nobody who has to stop waits for servers that do not answer.
            tokio::select! {
                () = &mut end => return,
                () = round => {}
            }
        }
    }

    fn heard(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows_any(&self, servers: &[(SocketAddr, Fqdn)]) -> bool {
        let heard = self.heard();
        servers.iter().any(|(server, _)| heard.contains(server))
    }

    /// The servers of the Zones that run, each with a name it knows; those that answered before come first.
    fn servers(&self) -> Vec<(SocketAddr, Fqdn)> {
        let of_zone = |zone: Arc<Zone>| {
            let live = self.registry.zone(&zone.name_any());
            let named = live.zip(Fqdn::parse(&zone.spec.domain).ok());
            named.into_iter().flat_map(|(live, domain)| live.authority.into_iter().map(move |at| (at, domain.clone())))
        };
        let mut servers: Vec<_> = self.zones.all().into_iter().flat_map(of_zone).collect();
        let heard = self.heard();
        servers.sort_by_key(|(server, _)| !heard.contains(server));
        servers
    }

    /// Whether one of these answers.
    async fn outside(&self, servers: &[(SocketAddr, Fqdn)]) -> bool {
        let asked = servers.iter().cloned().map(|(server, domain)| async move {
            let answers = !matches!(propagation::ask(server, &domain, Kind::Txt).await, Answer::Unreachable(_));
            answers.then_some(server)
        });
        let mut answers = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            if let Some(server) = answer {
                self.heard().insert(server);
                return true;
            }
        }
        false
    }

    async fn control_plane(&self) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.client.apiserver_version()).await, Ok(Ok(_)))
    }
}

#[async_trait]
impl SelfCheck for Reach {
    async fn reachable(&self) -> bool {
        let servers = self.servers();
        if self.knows_any(&servers) {
            return self.outside(&servers).await;
        }
        let (outside, inside) = tokio::join!(self.outside(&servers), self.control_plane());
        outside || inside
    }
}
