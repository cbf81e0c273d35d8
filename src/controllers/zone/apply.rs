//! Does one thing to a Zone.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;

use super::ZoneReconciler;
use super::observe::claimant;
use super::plan::{self, Action, Facts, Observed};
use crate::api::names::Fqdn;
use crate::api::zone::{Zone, ZoneStatus};
use crate::cli;
use crate::controllers::access::Attempt;
use crate::controllers::credential::{Credential, SecretText};
use crate::controllers::registry::LiveZone;
use crate::dns::{self, Cloudflare, Token, ZoneConfig, ZoneFacts, propagation};
use crate::outside::OutsideError;
use crate::runtime::claims::{Reservation, Role};
use crate::runtime::fault::Fault;

impl ZoneReconciler {
    pub(super) async fn act(
        &self,
        seen: &Observed,
        facts: &mut Facts,
        action: Action,
    ) -> Result<Option<ZoneStatus>, Fault> {
        let zone = &*seen.zone;
        let name = zone.name_any();
        let claim = Reservation::of_zone(&zone.spec.domain);
        match action {
            Action::TakeClaim => facts.claim = Some(self.deps.claims.take(&claim, Role::Dns, &claimant(zone)).await?),
            Action::ReleaseClaim => {
                self.deps.claims.release(&claim, Role::Dns, &zone.uid().unwrap_or_default(), None).await?;
                facts.released = true;
            }
            Action::Connect => {
                let (version, token) = usable(&seen.credential)?;
                let result = self.connect(&name, parsed(seen)?, token).await;
                let (generation, now) = (zone.metadata.generation, Timestamp::now());
                let attempt = Attempt::next(seen.attempt.as_ref(), version, generation, now, result);
                self.remember(zone, |memory| memory.attempt = Some(attempt));
            }
            Action::StartWriter => {
                let (version, token) = usable(&seen.credential)?;
                let found = plan::proven(seen).ok_or_else(unproven)?;
                self.start(zone, parsed(seen)?, found, version, token).await?;
            }
            Action::InstallToken => {
                let (version, token) = usable(&seen.credential)?;
                let found = plan::proven(seen).ok_or_else(unproven)?;
                if let Some(mut live) = self.deps.registry.zone(&name) {
                    live.writer.set_token(version, Token::new(token.expose()));
                    if live.authority.is_empty() {
                        live.authority = self.authority(zone, found).await;
                        self.deps.registry.set_zone(&name, Some(live));
                    }
                }
            }
            Action::StopWriter => {
                if let Some(live) = self.deps.registry.set_zone(&name, None) {
                    live.writer.stop().await;
                }
                self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            }
        }
        Ok(None)
    }

    async fn connect(&self, name: &str, domain: &Fqdn, token: &SecretText) -> Result<ZoneFacts, OutsideError> {
        // A client of its own: the writer's token stays as it is until this one is proven.
        self.client(name, token)?.connect(domain).await
    }

    fn client(&self, name: &str, token: &SecretText) -> Result<Cloudflare, OutsideError> {
        let (budgets, metrics) = (self.deps.budgets.clone(), self.deps.metrics.clone());
        Cloudflare::new(&self.deps.api, Token::new(token.expose()), &format!("zone/{name}"), budgets, metrics)
    }

    async fn start(
        &self,
        zone: &Zone,
        domain: &Fqdn,
        found: &ZoneFacts,
        version: &str,
        token: &SecretText,
    ) -> Result<(), Fault> {
        let name = zone.name_any();
        let client = self.client(&name, token).map_err(|error| Fault::outside("Cloudflare", &error))?;
        let config = ZoneConfig {
            domain: domain.clone(),
            batch_limit: found.batch_limit,
            resync: self.deps.resync,
            read_only: self.deps.read_only,
            metrics: self.deps.metrics.clone(),
            wakes: self.deps.wakes.clone(),
            health_wake: Some(super::wake(&name)),
        };
        let authority = self.authority(zone, found).await;
        let writer = dns::Zone::start(config, Arc::new(client.records(&found.zone_id)));
        writer.set_token(version, Token::new(token.expose()));
        self.deps.registry.set_zone(&name, Some(LiveZone { writer, authority }));
        tracing::info!(domain = %domain, "the zone's writer runs");
        (self.deps.started)(&name);
        Ok(())
    }

    async fn authority(&self, zone: &Zone, found: &ZoneFacts) -> Vec<SocketAddr> {
        if let Some(server) = self.deps.authority {
            return vec![server];
        }
        let named = zone.spec.propagation.as_ref().and_then(|propagation| propagation.resolvers.as_ref());
        let resolvers = match named {
            Some(named) => named.iter().filter_map(|resolver| cli::server(resolver).ok()).collect(),
            None => self.deps.resolvers.clone(),
        };
        propagation::authority(&found.name_servers, &resolvers).await
    }
}

fn usable(credential: &Credential) -> Result<(&str, &SecretText), Fault> {
    match credential {
        Credential::Ok { version, token } => Ok((version, token)),
        Credential::Unusable { reason, message } => Err(Fault::transient(reason, message.clone())),
    }
}

fn parsed(seen: &Observed) -> Result<&Fqdn, Fault> {
    seen.domain.as_ref().map_err(|error| Fault::terminal("InvalidDomain", format!("spec.domain: {error}")))
}

fn unproven() -> Fault {
    Fault::transient("Internal", "the token is not proven")
}
