//! What one request sees of the world: its account, its scopes and the time; and what it may do with droplets.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::account::Account;
use super::addresses::Pool;
use super::catalog::Catalog;
use super::create::check_droplet_name;
use super::droplet::{Action, Droplet, Effect, Pending, Power, Removal, WHEN_DONE};
use super::error::ApiError;
use super::fleet::Filter;
use super::settings::{Settings, after};
use super::tokens::Scopes;
use crate::vms::{Job, Vms};

/// Hands out ids, which are unique over all accounts.
#[derive(Debug)]
pub(super) struct Ids {
    droplet: u64,
    action: u64,
}

impl Default for Ids {
    fn default() -> Self {
        Self { droplet: 400_000_000, action: 2_000_000_000 }
    }
}

impl Ids {
    pub(super) fn next_droplet(&mut self) -> u64 {
        self.droplet += 1;
        self.droplet
    }

    pub(super) fn next_action(&mut self) -> u64 {
        self.action += 1;
        self.action
    }
}

/// One account as a request with one of its tokens sees it.
pub(super) struct Tenant<'a> {
    pub(super) now: Timestamp,
    pub(super) settings: &'a Settings,
    pub(super) catalog: &'a Catalog,
    pub(super) scopes: Scopes<'a>,
    pub(super) account: &'a mut Account,
    pub(super) public: &'a mut Pool,
    pub(super) private: &'a mut Pool,
    pub(super) ids: &'a mut Ids,
    /// What the droplets run as, if they run.
    pub(super) vms: Option<&'a Vms>,
}

/// Body of `POST /v2/droplets/{id}/actions`.
#[derive(Debug, Deserialize)]
pub(super) struct ActionBody {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
}

impl Tenant<'_> {
    /// What `GET /v2/droplets` lists.
    pub(super) fn list(
        &self,
        tag: Option<&str>,
        name: Option<&str>,
        kind: Option<&str>,
    ) -> Result<Vec<&Droplet>, ApiError> {
        self.scopes.require("droplet:read")?;
        if tag.is_some() {
            self.scopes.require("tag:read")?;
        }
        let filter = match (tag, name, kind) {
            (Some(_), Some(_), _) => {
                return Err(ApiError::unprocessable("tag_name and name can not be combined"));
            }
            (Some(_), _, Some(_)) => {
                return Err(ApiError::unprocessable("tag_name and type can not be combined"));
            }
            (_, _, Some("gpus")) => return Ok(Vec::new()),
            (Some(tag), None, None) => Filter::Tag(tag),
            (None, Some(name), _) => Filter::Name(name),
            (None, None, _) => Filter::All,
        };
        Ok(self.account.fleet.listed(filter, self.now))
    }

    /// `DELETE /v2/droplets/{id}`.
    pub(super) fn delete(&mut self, id: u64) -> Result<(), ApiError> {
        self.scopes.require("droplet:delete")?;
        self.check_deletable(id)?;
        self.begin_removal(id);
        Ok(())
    }

    /// `DELETE /v2/droplets?tag_name=`: all that carry the tag, listed or not, or none.
    pub(super) fn delete_by_tag(&mut self, tag: &str) -> Result<(), ApiError> {
        self.scopes.require("droplet:delete")?;
        self.scopes.require("tag:read")?;
        let now = self.now;
        let fleet = &self.account.fleet;
        let tagged = fleet.tag(tag)?.droplets.iter().copied();
        let ids: Vec<u64> = tagged.filter(|id| fleet.get(*id, now).is_ok_and(|found| found.tagged_at <= now)).collect();
        for id in &ids {
            self.check_deletable(*id)?;
        }
        for id in ids {
            self.begin_removal(id);
        }
        Ok(())
    }

    fn check_deletable(&self, id: u64) -> Result<(), ApiError> {
        let droplet = self.account.fleet.get(id, self.now)?;
        if self.settings.pending_event_blocks_delete && droplet.is_busy(self.now) {
            return Err(ApiError::pending_event());
        }
        Ok(())
    }

    fn begin_removal(&mut self, id: u64) {
        let Ok(droplet) = self.account.fleet.get(id, self.now) else {
            return;
        };
        if droplet.removal.is_some() {
            return;
        }
        let region = Arc::clone(&droplet.region);
        let gone_at = match self.vms {
            Some(vms) => {
                vms.order(id, Job::Destroy);
                WHEN_DONE
            }
            None => after(self.now, self.settings.delete_takes_ms),
        };
        let unlisted_at = after(gone_at, self.settings.linger_ms);
        self.account.fleet.add_action(Action {
            id: self.ids.next_action(),
            kind: "destroy".to_owned(),
            droplet: id,
            region,
            started_at: self.now,
            completes_at: gone_at,
            errored: false,
        });
        self.account.fleet.remove(id, Removal { gone_at, unlisted_at });
    }

    /// `POST /v2/droplets/{id}/actions`: gives the id of the action.
    pub(super) fn act(&mut self, id: u64, body: &ActionBody) -> Result<u64, ApiError> {
        self.scopes.require("droplet:update")?;
        let now = self.now;
        let droplet = self.account.fleet.get_mut(id, now)?;
        if droplet.is_busy(now) {
            return Err(ApiError::pending_event());
        }
        let effect = effect(droplet, body)?;
        let until = match (self.vms, job(body)) {
            (Some(vms), Some(job)) => {
                vms.order(id, job);
                WHEN_DONE
            }
            _ => after(now, self.settings.action_takes_ms),
        };
        droplet.pending = Some(Pending { until, effect });
        let region = Arc::clone(&droplet.region);
        let action = self.ids.next_action();
        self.account.fleet.expect_effect(id, until);
        self.account.fleet.add_action(Action {
            id: action,
            kind: body.kind.clone(),
            droplet: id,
            region,
            started_at: now,
            completes_at: until,
            errored: false,
        });
        Ok(action)
    }
}

/// What an action does to the VM of a droplet.
fn job(body: &ActionBody) -> Option<Job> {
    match body.kind.as_str() {
        "power_on" => Some(Job::PowerOn),
        "power_off" => Some(Job::PowerOff),
        "shutdown" => Some(Job::ShutDown),
        "reboot" => Some(Job::Reboot),
        "power_cycle" => Some(Job::PowerCycle),
        _ => None,
    }
}

fn effect(droplet: &Droplet, body: &ActionBody) -> Result<Effect, ApiError> {
    let running = droplet.power == Power::On;
    match body.kind.as_str() {
        "power_on" if running => {
            Err(ApiError::unprocessable("Droplet is currently on. Please power it off to run this event."))
        }
        "power_on" | "power_cycle" => Ok(Effect::Power(Power::On)),
        "power_off" | "shutdown" if !running => Err(ApiError::unprocessable("Droplet is already powered off.")),
        "power_off" | "shutdown" => Ok(Effect::Power(Power::Off)),
        "reboot" if !running => Err(ApiError::unprocessable("Droplet is currently off. Please power it on first.")),
        "reboot" | "password_reset" => Ok(Effect::None),
        "enable_ipv6" if droplet.public6.is_some() => Err(ApiError::unprocessable("IPv6 is already enabled.")),
        "enable_ipv6" => Ok(Effect::EnableIpv6),
        "rename" => {
            let name = body.name.as_deref().unwrap_or_default();
            check_droplet_name(name)?;
            Ok(Effect::Rename(name.to_owned()))
        }
        other => Err(ApiError::unprocessable(format!("action type {other} is not simulated"))),
    }
}
