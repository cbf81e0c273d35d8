//! Whether the operator itself can reach anything: what tells "my network is down" from "they are down".

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
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

/// Asks the control plane, and then each Zone's own servers, until one of them answers.
pub struct Reach {
    /// The control plane.
    pub client: Client,
    /// Running Zones, with their servers.
    pub registry: Arc<Registry>,
    /// All Zones.
    pub zones: Cache<Zone>,
}

#[async_trait]
impl SelfCheck for Reach {
    async fn reachable(&self) -> bool {
        if matches!(tokio::time::timeout(PATIENCE, self.client.apiserver_version()).await, Ok(Ok(_))) {
            return true;
        }
        for zone in self.zones.all() {
            let (Some(live), Ok(domain)) = (self.registry.zone(&zone.name_any()), Fqdn::parse(&zone.spec.domain))
            else {
                continue;
            };
            for server in live.authority {
                if !matches!(propagation::ask(server, &domain, Kind::Txt).await, Answer::Unreachable(_)) {
                    return true;
                }
            }
        }
        false
    }
}
