//! The calls of all groups' Workers: one at a time for each group, beside its passes. What they answer is kept for the
//! next pass, which they wake.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Answer, Call, Failure, Script, Sight};
use crate::api::server_group::ServerGroup;
use crate::api::zone::Zone;
use crate::controllers::credential::{Credential, Credentials, Purpose, SecretText};
use crate::controllers::server_group::observe::Observed;
use crate::dns::{Cloudflare, Token};
use crate::metrics::Metrics;
use crate::outside::OutsideError;
use crate::outside::budget::{Budgets, Priority};
use crate::runtime::cache::{Cache, Key};
use crate::runtime::fault::Fault;
use crate::slb::Workers;

/// What the calls need.
pub struct DeskParts {
    /// Base URL of Cloudflare's API.
    pub api: String,
    /// Reads Secrets.
    pub credentials: Arc<Credentials>,
    /// All ServerGroups.
    pub groups: Cache<ServerGroup>,
    /// The request budgets of the process.
    pub budgets: Budgets,
    /// Metrics.
    pub metrics: Metrics,
    /// Where `ServerGroup/<namespace>/<name>` is sent when a call has been answered.
    pub wakes: mpsc::UnboundedSender<String>,
}

/// Begins calls, and keeps what they answer. Clones share it.
#[derive(Clone)]
pub struct Desk {
    shared: Arc<Shared>,
    calls: TaskTracker,
}

struct Shared {
    parts: DeskParts,
    /// By the group's UID.
    sights: Mutex<HashMap<String, Sight>>,
    /// By Zone and account, with the version of the Secret.
    clients: Mutex<HashMap<(String, String), (String, Workers)>>,
}

impl Desk {
    /// A desk over these.
    #[must_use]
    pub fn new(parts: DeskParts) -> Self {
        let (sights, clients) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { parts, sights, clients }), calls: TaskTracker::new() }
    }

    /// Reads the Secrets of Workers.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.shared.parts.credentials
    }

    /// The Workers of a Zone's account, and the version of the Secret with the token for them; `None` while the Zone
    /// names no token, or has no account yet, or the token cannot be used.
    ///
    /// # Errors
    /// When the Secret cannot be read; when no client can be made.
    pub async fn workers(&self, zone: &Zone) -> Result<Option<(Workers, String)>, Fault> {
        let Some(terms) = &zone.spec.cloudflare.workers else { return Ok(None) };
        let pinned = || zone.status.as_ref().and_then(|status| status.account_id.clone());
        let Some(account) = terms.account_id.clone().or_else(pinned) else { return Ok(None) };
        match self.credentials().read(&terms.token_secret_ref, Purpose::Cloudflare).await? {
            Credential::Ok { version, token } => {
                let workers = self.shared.client(&zone.name_any(), &account, &version, &token)?;
                Ok(Some((workers, version)))
            }
            Credential::Unusable { .. } => Ok(None),
        }
    }

    /// What is known of the Worker of the group with this UID.
    #[must_use]
    pub fn sight(&self, uid: &str) -> Option<Sight> {
        self.shared.sights().get(uid).cloned()
    }

    /// Begins a call.
    ///
    /// # Errors
    /// Without a token; when no client can be made.
    pub fn begin(&self, seen: &Observed, script: Script, call: Call) -> Result<(), Fault> {
        let zone = &seen.group.spec.zone_ref.name;
        let terms = seen.zone.as_ref().and_then(|zone| zone.workers.as_ref());
        let Some(Credential::Ok { version, token }) = terms.map(|terms| &terms.credential) else {
            // The plan asks for no call then.
            return Err(Fault::transient("Unavailable", "there is no token for Workers"));
        };
        let client = self.shared.client(zone, &script.account, version, token)?;
        let uid = seen.claimant.holder.uid.clone();
        if seen.deleting() {
            self.shared.forget_gone();
        }
        let mut begun = self.shared.sights().remove(&uid).filter(|sight| sight.script == script);
        let sight = begun.get_or_insert_with(|| Sight::of(script.clone()));
        (sight.in_hand, sight.failure) = (true, None);
        self.shared.sights().extend(begun.map(|sight| (uid.clone(), sight)));
        let (secret, version) = (terms.map(|terms| terms.secret.clone()), Some(version.clone()));
        let generation = seen.group.metadata.generation;
        let priority = if seen.deleting() { Priority::Cleanup } else { Priority::Normal };
        let wake = format!("ServerGroup/{}", Key::of(&*seen.group));
        let shared = self.shared.clone();
        self.calls.spawn(async move {
            let answer = carry_out(&client, &script.name, &call, priority).await;
            let now = Timestamp::now();
            if let (Err(OutsideError::Unauthorized(_)), Some(secret), Some(version)) = (&answer, secret, &version) {
                shared.parts.credentials.refused(&secret, version);
            }
            if let Some(sight) = shared.sights().get_mut(&uid).filter(|sight| sight.script == script) {
                match answer {
                    Ok(answer) => sight.answered(&call, answer, now),
                    Err(error) => {
                        tracing::debug!(worker = script.name, %error, "a call for a Worker failed");
                        sight.failed(Failure { error, at: now, generation, version, jitter: fastrand::f64() });
                    }
                }
            }
            // A receiver that is gone belongs to a process that ends.
            let _ = shared.parts.wakes.send(wake);
        });
        Ok(())
    }

    /// Waits until no call is under way. None may begin any more.
    pub async fn close(&self) {
        self.calls.close();
        self.calls.wait().await;
    }
}

async fn carry_out(client: &Workers, name: &str, call: &Call, priority: Priority) -> Result<Answer, OutsideError> {
    match call {
        Call::Look => client.observe(name, priority).await.map(|observed| Answer::Settings(observed.settings)),
        Call::LookAround { zones, hosts } => client.places(zones, hosts, priority).await.map(Answer::Places),
        Call::Write(step) => client.apply(name, step, priority).await.map(Answer::Written),
    }
}

impl Shared {
    fn sights(&self) -> MutexGuard<'_, HashMap<String, Sight>> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the Workers of groups that are no more.
    fn forget_gone(&self) {
        let live: HashSet<String> = self.parts.groups.all().iter().filter_map(|group| group.uid()).collect();
        self.sights().retain(|uid, _| live.contains(uid));
    }

    /// The client of a Zone's Workers, a new one with each new token.
    fn client(&self, zone: &str, account: &str, version: &str, token: &SecretText) -> Result<Workers, Fault> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (zone.to_owned(), account.to_owned());
        if let Some((_, client)) = clients.get(&key).filter(|(known, _)| known == version) {
            return Ok(client.clone());
        }
        let (budgets, metrics) = (self.parts.budgets.clone(), self.parts.metrics.clone());
        let credential = format!("workers/{zone}");
        let client = Cloudflare::new(&self.parts.api, Token::new(token.expose()), &credential, budgets, metrics);
        let client = client.map_err(|error| Fault::outside("Cloudflare", &error))?;
        let workers = Workers::new(client, account);
        clients.insert(key, (version.to_owned(), workers.clone()));
        Ok(workers)
    }
}
