//! What a Provider's plan looks at: its Secret, the newest listing, its Nodes and who uses it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::plan::{Observed, Source};
use super::{Memory, ProviderReconciler};
use crate::api::provider::{DigitalOcean, Provider};
use crate::api::refs::SecretKeyRef;
use crate::cloud::{self, AllowedCidrs};
use crate::controllers::access::Attempt;
use crate::controllers::credential::Purpose;
use crate::controllers::orphans::Kind;
use crate::controllers::users::Users;
use crate::outside::OutsideError;
use crate::runtime::driver::Reconciler;
use crate::runtime::fault::Fault;

impl ProviderReconciler {
    pub(super) async fn look(&self, provider: &Arc<Provider>) -> Result<Observed, Fault> {
        let deps = &self.deps;
        let name = provider.name_any();
        let running = deps.registry.provider(&name);
        let source = match (&provider.spec.static_, &provider.spec.digitalocean) {
            (Some(hosts), _) => Source::Static {
                wanted: AllowedCidrs::parse(&hosts.allowed_cidrs),
                running: match running {
                    Some(cloud::Source::Static(cidrs)) => Some(cidrs),
                    _ => None,
                },
            },
            (None, Some(digitalocean)) => self.vms(provider, digitalocean, running).await?,
            (None, None) => Source::Unknown,
        };
        let stale = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let uid = provider.uid().unwrap_or_default();
            memory.get(&name).is_some_and(|memory| memory.uid != uid)
        };
        let deleting = provider.metadata.deletion_timestamp.is_some();
        Ok(Observed {
            provider: provider.clone(),
            status: <Self as Reconciler>::status(provider),
            source,
            brakes: deps.brakes.state(provider, Timestamp::now()).await,
            stale,
            users: if deleting { self.users(&name) } else { Users::default() },
            orphans: deps.orphans.get(Kind::Vm, &name),
            recheck: deps.credentials.max_age(),
            resync: deps.resync,
        })
    }

    async fn vms(
        &self,
        provider: &Provider,
        digitalocean: &DigitalOcean,
        running: Option<cloud::Source>,
    ) -> Result<Source, Fault> {
        let deps = &self.deps;
        let name = provider.name_any();
        let (attempt, installed) = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let uid = provider.uid().unwrap_or_default();
            let memory = memory.get(&name).filter(|memory| memory.uid == uid);
            let client = memory.and_then(|memory| memory.client.as_ref());
            (memory.and_then(|memory| memory.attempt.clone()), client.map(|(_, version)| version.clone()))
        };
        let reference = &digitalocean.token_secret_ref;
        if let Some(Attempt { version, result: Err(OutsideError::Unauthorized(_)), .. }) = &attempt {
            deps.credentials.refused(&reference.name, version);
        }
        let vms = match running {
            Some(cloud::Source::Vms(fleet)) => {
                // A Node met a refusal: a new listing tells whether it is so.
                let max_age = if deps.registry.take_doubt(&name) { Duration::ZERO } else { deps.resync };
                Some(fleet.snapshot(max_age).await.map(|snapshot| snapshot.vms().len()))
            }
            _ => None,
        };
        if let (Some(Err(OutsideError::Unauthorized(_))), Some(version)) = (&vms, &installed) {
            deps.credentials.refused(&reference.name, version);
        }
        let credential = self.credential(reference).await?;
        Ok(Source::Vms { credential, attempt, running: vms.as_ref().and(installed), vms })
    }

    async fn credential(&self, reference: &SecretKeyRef) -> Result<super::super::credential::Credential, Fault> {
        self.deps.credentials.read(reference, Purpose::DigitalOcean).await
    }

    fn users(&self, name: &str) -> Users {
        let (nodes, environments) = (self.deps.nodes.all(), self.deps.environments.all());
        let nodes = nodes.iter().map(|node| &**node).filter(|node| node.spec.provider_ref.name == name);
        let of = environments.iter().map(|e| &**e).filter(|e| e.spec.node.provider_ref.name == name);
        Users::of(nodes, of)
    }

    pub(super) fn remember(&self, provider: &Provider, change: impl FnOnce(&mut Memory)) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = provider.uid().unwrap_or_default();
        let fresh = || Memory { uid: uid.clone(), attempt: None, client: None };
        let entry = memory.entry(provider.name_any()).or_insert_with(fresh);
        if entry.uid != uid {
            *entry = fresh();
        }
        change(entry);
    }
}
