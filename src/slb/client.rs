//! The Workers of one Cloudflare account: observes one, and makes exactly one call.

use std::collections::BTreeSet;

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::plan::{Observed, Places, Step, confirms};
use super::wire::{self, Domain, Listed, Route, Settings};
use super::{COMPATIBILITY_DATE, Place, WORKER};
use crate::dns::Cloudflare;
use crate::dns::cloudflare::{Body, Call};
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

const READ: &str = "Account > Workers Scripts > Read";
const EDIT: &str = "Account > Workers Scripts > Edit";
const READ_ROUTES: &str = "Zone > Workers Routes > Read";
const EDIT_ROUTES: &str = "Zone > Workers Routes > Edit";

/// The API's code for a script that does not exist.
const NO_SCRIPT: &str = "10007";
/// Codes for what a deletion no longer found: a route, a custom domain.
const ABSENT: [&str; 3] = [NO_SCRIPT, "10009", "100114"];

/// The Workers of one account. Clones share token, budget and connections.
#[derive(Clone)]
pub struct Workers {
    client: Cloudflare,
    account: String,
}

impl Workers {
    /// The Workers of the account with this id, as the client's token sees them.
    #[must_use]
    pub fn new(client: Cloudflare, account: &str) -> Self {
        Self { client, account: account.to_owned() }
    }

    /// The account's id.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Every script of the account: one call.
    ///
    /// # Errors
    /// As any read.
    pub async fn list(&self, priority: Priority) -> Result<Vec<Listed>, OutsideError> {
        self.read(&format!("/accounts/{}/workers/scripts", self.account), READ, priority).await
    }

    /// The settings of a script: one call. Nothing is said of its places.
    ///
    /// # Errors
    /// As any read. That the script does not exist is an answer.
    pub async fn observe(&self, name: &str, priority: Priority) -> Result<Observed, OutsideError> {
        let path = format!("{}/settings", self.script(name));
        match self.read::<Settings>(&path, READ, priority).await {
            Ok(settings) => Ok(Observed { settings: Some(settings), places: None }),
            Err(OutsideError::Refused { code, .. }) if code == NO_SCRIPT => Ok(Observed::default()),
            Err(error) => Err(error),
        }
    }

    /// The routes of these zones and the custom domains of these hosts: a call for each.
    ///
    /// # Errors
    /// As any read.
    pub async fn places(
        &self,
        zones: &BTreeSet<String>,
        hosts: &BTreeSet<String>,
        priority: Priority,
    ) -> Result<Places, OutsideError> {
        let mut places = Places::default();
        for zone_id in zones {
            let path = format!("/zones/{zone_id}/workers/routes");
            let routes: Vec<Route> = self.read(&path, READ_ROUTES, priority).await?;
            places.routes.extend(routes.into_iter().map(|route| (zone_id.clone(), route)));
        }
        for host in hosts {
            let path = format!("/accounts/{}/workers/domains", self.account);
            let call = Call::read(&path, READ).priority(priority).query("hostname", host.as_str());
            let domains: Vec<Domain> = self.client.call(call).await?;
            places.domains.extend(domains.into_iter().filter(|domain| domain.hostname == *host));
        }
        Ok(places)
    }

    /// Makes the call of one step for the script `name`, and gives the settings where the answer has them. A step
    /// without a call does nothing.
    ///
    /// # Errors
    /// As any write. [`OutsideError::Unknown`] also if the answer to a patch does not show what was sent: look again.
    pub async fn apply(&self, name: &str, step: &Step, priority: Priority) -> Result<Option<Settings>, OutsideError> {
        let script = self.script(name);
        match step {
            Step::Upload(bindings) => {
                let form = wire::upload(WORKER, COMPATIBILITY_DATE, bindings);
                let call = write(Method::PUT, &script, EDIT, priority).query("bindings_inherit", "strict");
                self.client.call::<Value>(Call { body: Some(form.into()), ..call }).await.map(|_| None)
            }
            Step::Patch(bindings) => {
                let path = format!("{script}/settings");
                let body = Some(wire::settings(bindings).into());
                let call = Call { body, ..write(Method::PATCH, &path, EDIT, priority) };
                let settings: Settings = self.client.call(call).await?;
                if confirms(bindings, &settings) { Ok(Some(settings)) } else { Err(unconfirmed(name)) }
            }
            Step::Place(Place::Route { zone_id, pattern }) => {
                let path = format!("/zones/{zone_id}/workers/routes");
                let body = Some(Body::Json(wire::route(pattern, name)));
                let call = Call { body, ..write(Method::POST, &path, EDIT_ROUTES, priority) };
                self.client.call::<Value>(call).await.map(|_| None)
            }
            Step::Place(Place::Domain { zone_id, hostname }) => {
                let path = format!("/accounts/{}/workers/domains", self.account);
                let body = Some(Body::Json(wire::domain(zone_id, hostname, name)));
                let call = Call { body, ..write(Method::PUT, &path, EDIT, priority) };
                self.client.call::<Value>(call).await.map(|_| None)
            }
            Step::DeleteRoute { zone_id, id } => {
                self.delete(&format!("/zones/{zone_id}/workers/routes/{id}"), EDIT_ROUTES, priority).await
            }
            Step::DeleteDomain { id } => {
                self.delete(&format!("/accounts/{}/workers/domains/{id}", self.account), EDIT, priority).await
            }
            Step::DeleteScript => self.delete(&script, EDIT, priority).await,
            Step::Look { .. } | Step::Refuse(_) | Step::Done(_) | Step::Gone => Ok(None),
        }
    }

    fn script(&self, name: &str) -> String {
        format!("/accounts/{}/workers/scripts/{name}", self.account)
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        permission: &'static str,
        priority: Priority,
    ) -> Result<T, OutsideError> {
        self.client.call(Call::read(path, permission).priority(priority)).await
    }

    async fn delete(
        &self,
        path: &str,
        permission: &'static str,
        priority: Priority,
    ) -> Result<Option<Settings>, OutsideError> {
        match self.client.call::<Value>(write(Method::DELETE, path, permission, priority)).await {
            Err(OutsideError::Refused { code, .. }) if ABSENT.contains(&code.as_str()) => Ok(None),
            deleted => deleted.map(|_| None),
        }
    }
}

fn write<'a>(method: Method, path: &'a str, permission: &'static str, priority: Priority) -> Call<'a> {
    Call { method, ..Call::read(path, permission).priority(priority) }
}

fn unconfirmed(name: &str) -> OutsideError {
    OutsideError::Unknown(format!("Cloudflare took a change of Worker {name}, but does not show it"))
}

impl From<wire::Form> for Body {
    fn from(form: wire::Form) -> Self {
        Self::Form { content_type: form.content_type, bytes: form.bytes }
    }
}
