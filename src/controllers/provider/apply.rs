//! Does one thing to a Provider.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;

use super::ProviderReconciler;
use super::plan::{Action, Observed, Source};
use crate::api::provider::ProviderStatus;
use crate::cloud::digitalocean::{DigitalOcean, Settings};
use crate::cloud::fleet::Fleet;
use crate::cloud::{self, Account, VmProvider};
use crate::controllers::access::Attempt;
use crate::controllers::credential::{Credential, SecretText};
use crate::outside::OutsideError;
use crate::runtime::fault::Fault;

impl ProviderReconciler {
    pub(super) async fn act(&self, seen: &Observed, action: Action) -> Result<Option<ProviderStatus>, Fault> {
        let provider = &*seen.provider;
        let name = provider.name_any();
        match action {
            Action::StartStatic(cidrs) => {
                self.remember(provider, |_| ());
                self.deps.registry.set_provider(&name, Some(cloud::Source::Static(cidrs)));
                (self.deps.started)(&name);
            }
            Action::Connect => {
                let (version, token) = usable(&seen.source)?;
                let Source::Vms { attempt, .. } = &seen.source else { return Ok(None) };
                let result = self.connect(&name, seen.status.account_id.clone(), token).await;
                let (generation, now) = (provider.metadata.generation, Timestamp::now());
                let attempt = Attempt::next(attempt.as_ref(), version, generation, now, result);
                self.remember(provider, |memory| memory.attempt = Some(attempt));
            }
            Action::StartFleet => {
                let (version, token) = usable(&seen.source)?;
                let client = self.client(&name, seen.status.account_id.clone(), token);
                let client = Arc::new(client.map_err(|error| Fault::outside("DigitalOcean", &error))?);
                let vms: Arc<dyn VmProvider> = client.clone();
                let fleet = Fleet::new(vms, self.deps.cluster.clone(), self.deps.settle);
                self.remember(provider, |memory| memory.client = Some((client, version.to_owned())));
                self.deps.registry.set_provider(&name, Some(cloud::Source::Vms(fleet)));
                tracing::info!("the provider's fleet runs");
                (self.deps.started)(&name);
            }
            Action::InstallToken => {
                let (version, token) = usable(&seen.source)?;
                let mut result = Ok(());
                self.remember(provider, |memory| {
                    if let Some((client, installed)) = &mut memory.client {
                        result = client.set_token(token.expose());
                        version.clone_into(installed);
                    }
                });
                result.map_err(|error| Fault::outside("DigitalOcean", &error))?;
            }
            Action::Stop => {
                self.deps.registry.set_provider(&name, None);
                self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            }
        }
        Ok(None)
    }

    /// Asks who the token is, with a client of its own: the fleet's token stays as it is until this one is proven.
    async fn connect(&self, name: &str, pin: Option<String>, token: &SecretText) -> Result<Account, OutsideError> {
        self.client(name, pin, token)?.account().await
    }

    fn client(&self, name: &str, account: Option<String>, token: &SecretText) -> Result<DigitalOcean, OutsideError> {
        let settings =
            Settings { base: self.deps.digitalocean_api.clone(), credential: format!("provider/{name}"), account };
        DigitalOcean::new(settings, token.expose(), self.deps.budgets.clone(), self.deps.metrics.clone())
    }
}

fn usable(source: &Source) -> Result<(&str, &SecretText), Fault> {
    match source {
        Source::Vms { credential: Credential::Ok { version, token }, .. } => Ok((version, token)),
        _ => Err(Fault::transient("Internal", "there is no credential to use")),
    }
}
