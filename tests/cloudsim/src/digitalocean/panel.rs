//! What a person with the control panel does to droplets: look, make, edit and destroy, at once and outside the API.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::create::{CreateBody, Reference};
use super::droplet::{Droplet, Power, Removal, WHEN_DONE};
use super::settings::{Settings, after};
use super::state::{DEFAULT_ACCOUNT, State, World};
use super::tenant::Tenant;
use super::tokens::Scopes;
use crate::vms::Job;

/// A droplet as the simulator knows it, including what the API never shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropletInfo {
    /// Its id.
    pub id: u64,
    /// Name of its account.
    pub account: String,
    /// Its name.
    pub name: String,
    /// Slug of its region.
    pub region: String,
    /// Slug of its size.
    pub size: String,
    /// Slug of its image.
    pub image: String,
    /// `new`, `active` or `off`.
    pub status: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its VPC.
    pub vpc_uuid: String,
    /// What the create call sent as `user_data`.
    pub user_data: Option<String>,
    /// What the create call sent as `ssh_keys`.
    pub ssh_keys: Vec<String>,
    /// Its public address, whether or not the API shows it yet.
    pub public4: Option<Ipv4Addr>,
    /// Its private address, whether or not the API shows it yet.
    pub private4: Option<Ipv4Addr>,
    /// When the create call came.
    pub created_at: Timestamp,
    /// The delete call came, but the droplet still exists.
    pub deleting: bool,
    /// Listings show it.
    pub listed: bool,
}

/// A droplet made by a person: active and listed at once, or once its VM runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDroplet {
    /// Name of the account.
    #[serde(default = "default_account")]
    pub account: String,
    /// Its name; checked as in the API.
    pub name: String,
    /// Slug of its region.
    pub region: String,
    /// Slug of its size.
    pub size: String,
    /// Slug of its image.
    pub image: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

fn default_account() -> String {
    DEFAULT_ACCOUNT.to_owned()
}

/// What a person changes on a droplet. What is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropletEdit {
    /// The new name.
    pub name: Option<String>,
    /// The new and complete list of tags.
    pub tags: Option<Vec<String>>,
    /// On or off.
    pub powered: Option<bool>,
    /// The new public address.
    pub public4: Option<Ipv4Addr>,
}

impl State {
    /// Every droplet that exists, whether or not listings show it, by id.
    #[must_use]
    pub fn droplets(&self) -> Vec<DropletInfo> {
        let (world, now) = self.world();
        let of = |account: &Account| -> Vec<DropletInfo> {
            account.fleet.existing(now).map(|droplet| info(droplet, account, now)).collect()
        };
        let mut found: Vec<DropletInfo> = world.accounts.values().flat_map(of).collect();
        found.sort_by_key(|droplet| droplet.id);
        found
    }

    /// The droplet with this id, if it exists.
    #[must_use]
    pub fn droplet(&self, id: u64) -> Option<DropletInfo> {
        let (world, now) = self.world();
        let found = |account: &Account| account.fleet.get(id, now).ok().map(|droplet| info(droplet, account, now));
        world.accounts.values().find_map(found)
    }

    /// Makes a droplet as a person would, active and listed at once, or once its VM runs.
    ///
    /// # Errors
    /// An unknown account, or what the API itself would refuse, in its words.
    pub fn add_droplet(&self, new: &NewDroplet) -> Result<DropletInfo, String> {
        let (mut world, now) = self.world();
        let World { catalog, accounts, public, private, ids, vms, .. } = &mut *world;
        let account = accounts.get_mut(&new.account).ok_or_else(|| format!("no account {}", new.account))?;
        let everything = ["read".to_owned(), "write".to_owned()];
        let mut tenant = Tenant {
            now,
            settings: &Settings::immediate(),
            catalog,
            scopes: Scopes(&everything),
            account,
            public,
            private,
            ids,
            vms: vms.as_ref(),
        };
        let body = CreateBody {
            name: Some(new.name.clone()),
            region: Some(new.region.clone()),
            size: Some(new.size.clone()),
            image: Some(Reference::Text(new.image.clone())),
            tags: Some(new.tags.clone()),
            ..CreateBody::default()
        };
        let made = tenant.create(&body).map_err(|error| error.message)?;
        let id = made.first().map(|(id, _)| *id).unwrap_or_default();
        let droplet = account.fleet.get(id, now).map_err(|error| error.message)?;
        Ok(info(droplet, account, now))
    }

    /// Changes a droplet as a person would, at once. `None` if it does not exist.
    pub fn edit_droplet(&self, id: u64, edit: DropletEdit) -> Option<DropletInfo> {
        let (mut world, now) = self.world();
        let World { accounts, vms, .. } = &mut *world;
        let account = accounts.values_mut().find(|account| account.fleet.get(id, now).is_ok())?;
        let fleet = &mut account.fleet;
        if let Some(name) = edit.name {
            fleet.rename(id, &name);
        }
        if let Some(tags) = edit.tags {
            let former = fleet.get(id, now).map(|droplet| droplet.tags.clone()).unwrap_or_default();
            for tag in &former {
                fleet.take_off(tag, id);
            }
            for tag in tags {
                let tag = fleet.ensure_tag(&tag);
                fleet.put_on(&tag, id);
            }
        }
        let droplet = fleet.get_mut(id, now).ok()?;
        if let Some(powered) = edit.powered {
            let power = if powered { Power::On } else { Power::Off };
            if let Some(vms) = vms
                && power != droplet.power
            {
                vms.order(id, if powered { Job::PowerOn } else { Job::PowerOff });
            }
            droplet.power = power;
        }
        if edit.public4.is_some() {
            droplet.public4 = edit.public4;
        }
        let droplet = account.fleet.get(id, now).ok()?;
        Some(info(droplet, account, now))
    }

    /// Destroys a droplet as a person would: gone at once, or with its VM, though listings may still show it for
    /// `linger_ms`. False if it does not exist.
    pub fn remove_droplet(&self, id: u64) -> bool {
        let (mut world, now) = self.world();
        let gone_at = if world.vms.is_some() { WHEN_DONE } else { now };
        let unlisted_at = after(gone_at, world.settings.linger_ms);
        let found = world.accounts.values_mut().find(|account| account.fleet.get(id, now).is_ok());
        let Some(account) = found else { return false };
        account.fleet.remove(id, Removal { gone_at, unlisted_at });
        if let Some(vms) = &world.vms {
            vms.order(id, Job::Destroy);
        }
        world.settle(now);
        true
    }
}

fn info(droplet: &Droplet, account: &Account, now: Timestamp) -> DropletInfo {
    DropletInfo {
        id: droplet.id,
        account: account.spec.name.clone(),
        name: droplet.name.clone(),
        region: droplet.region.slug.clone(),
        size: droplet.size.slug.clone(),
        image: droplet.image.slug.clone(),
        status: droplet.status(now).to_owned(),
        tags: droplet.tags.clone(),
        vpc_uuid: droplet.vpc_uuid.clone(),
        user_data: droplet.user_data.clone(),
        ssh_keys: droplet.ssh_keys.clone(),
        public4: droplet.public4,
        private4: droplet.private4,
        created_at: droplet.created_at,
        deleting: droplet.removal.is_some(),
        listed: droplet.is_listed(now),
    }
}
