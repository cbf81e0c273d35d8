//! `POST /v2/droplets`: what a request may ask for, and the droplets that come of it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::catalog::{Catalog, Image, Region, Size};
use super::droplet::{Action, Droplet, Effect, Pending, Power, WHEN_DONE};
use super::error::ApiError;
use super::settings::after;
use super::tags::check_name;
use super::tenant::Tenant;
use crate::vms::{Job, Machine};

const MAX_NAMES: usize = 10;
const MAX_NAME: usize = 255;
const MAX_USER_DATA: usize = 64 * 1024;

/// A number or a string, as the API takes ids.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Reference {
    Number(u64),
    Text(String),
}

impl Reference {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The body of the create call. Fields that change nothing here are ignored, as unknown ones are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct CreateBody {
    pub(super) name: Option<String>,
    pub(super) names: Option<Vec<String>>,
    pub(super) region: Option<String>,
    pub(super) size: Option<String>,
    pub(super) image: Option<Reference>,
    pub(super) ssh_keys: Option<Vec<Reference>>,
    pub(super) backups: Option<bool>,
    pub(super) ipv6: Option<bool>,
    pub(super) monitoring: Option<bool>,
    pub(super) public_networking: Option<bool>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) user_data: Option<String>,
    pub(super) vpc_uuid: Option<String>,
}

/// A checked order, the same for each of its names.
struct Order {
    region: Arc<Region>,
    size: Arc<Size>,
    image: Arc<Image>,
    vpc_uuid: String,
    ssh_keys: Vec<String>,
}

impl Tenant<'_> {
    /// Creates a droplet per name, or none. Gives the ids of the droplets and of their create actions.
    pub(super) fn create(&mut self, body: &CreateBody) -> Result<Vec<(u64, u64)>, ApiError> {
        self.check_create_scopes(body)?;
        let names = names(body)?;
        let order = self.order(body)?;
        if body.user_data.as_ref().is_some_and(|data| data.len() > MAX_USER_DATA) {
            return Err(ApiError::unprocessable("user_data is too long (maximum is 64 KiB)"));
        }
        for tag in body.tags.iter().flatten() {
            check_name(tag)?;
        }
        let existing = self.account.fleet.count();
        if existing + names.len() > self.account.spec.droplet_limit {
            return Err(ApiError::unprocessable("creating this/these droplet(s) will exceed your droplet limit"));
        }
        Ok(names.iter().map(|name| self.create_one(name, body, &order)).collect())
    }

    fn check_create_scopes(&self, body: &CreateBody) -> Result<(), ApiError> {
        self.scopes.require("droplet:create")?;
        self.scopes.require("image:read")?;
        if body.tags.as_ref().is_some_and(|tags| !tags.is_empty()) {
            self.scopes.require("tag:create")?;
        }
        if body.ssh_keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
            self.scopes.require("ssh_key:read")?;
        }
        if body.vpc_uuid.is_some() {
            self.scopes.require("vpc:read")?;
        }
        Ok(())
    }

    fn order(&self, body: &CreateBody) -> Result<Order, ApiError> {
        let size = body.size.as_deref().and_then(|slug| self.catalog.sizes.get(slug));
        let size =
            size.ok_or_else(|| ApiError::unprocessable("You specified an invalid size for Droplet creation."))?;
        let region = region(self.catalog, body.region.as_deref(), size)?;
        let image = body.image.as_ref().and_then(|image| self.catalog.image(&image.text()));
        let image = image.filter(|image| image.regions.contains(&region.slug));
        let image =
            image.ok_or_else(|| ApiError::unprocessable("You specified an invalid image for Droplet creation."))?;
        if !region.available {
            return Err(ApiError::unprocessable("Region is not available"));
        }
        if !size.available || !size.regions.contains(&region.slug) {
            return Err(ApiError::unprocessable("Size is not available in this region."));
        }
        let ssh_keys: Vec<String> = body.ssh_keys.iter().flatten().map(Reference::text).collect();
        let known = &self.account.spec.ssh_keys;
        let unknown: Vec<&str> = ssh_keys.iter().filter(|key| !known.contains(key)).map(String::as_str).collect();
        if !unknown.is_empty() {
            let list = unknown.join(", ");
            return Err(ApiError::unprocessable(format!("{list} are invalid key identifiers for Droplet creation.")));
        }
        let default_vpc = self.account.spec.default_vpc(&region.slug);
        let vpc_uuid = body.vpc_uuid.clone().unwrap_or_else(|| default_vpc.clone());
        if vpc_uuid != default_vpc && !self.account.spec.vpcs.contains(&vpc_uuid) {
            return Err(ApiError::unprocessable("You specified invalid VPC parameters for Droplet creation."));
        }
        Ok(Order { region: Arc::clone(region), size: Arc::clone(size), image: Arc::clone(image), vpc_uuid, ssh_keys })
    }

    fn create_one(&mut self, name: &str, body: &CreateBody, order: &Order) -> (u64, u64) {
        let (now, settings) = (self.now, self.settings);
        let active_at = if self.vms.is_some() { WHEN_DONE } else { after(now, settings.active_after_ms) };
        let (id, action) = (self.ids.next_droplet(), self.ids.next_action());
        let fleet = &mut self.account.fleet;
        let mut tags: Vec<String> = Vec::new();
        for tag in body.tags.iter().flatten() {
            let tag = fleet.ensure_tag(tag);
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let wants_ipv6 = body.ipv6 == Some(true);
        let public = body.public_networking != Some(false);
        let public4 = if public { self.public.take() } else { None };
        if let Some(vms) = self.vms {
            let (memory, user_data) = (order.size.memory, body.user_data.clone());
            vms.order(id, Job::Boot(Machine { name: name.to_owned(), address: public4, memory, user_data }));
        }
        fleet.insert(Droplet {
            id,
            name: name.to_owned(),
            region: Arc::clone(&order.region),
            size: Arc::clone(&order.size),
            image: Arc::clone(&order.image),
            features: features(body),
            user_data: body.user_data.clone(),
            ssh_keys: order.ssh_keys.clone(),
            vpc_uuid: order.vpc_uuid.clone(),
            tags,
            public4,
            private4: self.private.take(),
            public6: wants_ipv6.then(|| Droplet::ipv6(id)),
            power: Power::On,
            pending: Some(Pending { until: active_at, effect: Effect::None }),
            created_at: now,
            active_at,
            addressed_at: after(active_at, settings.address_after_ms),
            listed_at: after(now, settings.listing_lag_ms),
            tagged_at: after(now, settings.tag_lag_ms),
            removal: None,
        });
        fleet.add_action(create_action(action, id, &order.region, now, active_at));
        (id, action)
    }
}

fn create_action(id: u64, droplet: u64, region: &Arc<Region>, now: Timestamp, active_at: Timestamp) -> Action {
    Action {
        id,
        kind: "create".to_owned(),
        droplet,
        region: Arc::clone(region),
        started_at: now,
        completes_at: active_at,
        errored: false,
    }
}

fn features(body: &CreateBody) -> Vec<&'static str> {
    let mut features = vec!["droplet_agent", "private_networking"];
    let wanted = [(body.backups, "backups"), (body.ipv6, "ipv6"), (body.monitoring, "monitoring")];
    features.extend(wanted.iter().filter(|(on, _)| *on == Some(true)).map(|(_, name)| *name));
    features
}

fn names(body: &CreateBody) -> Result<Vec<String>, ApiError> {
    let names = match (&body.name, &body.names) {
        (Some(name), None) => vec![name.clone()],
        (None, Some(names)) if !names.is_empty() => names.clone(),
        (Some(_), Some(_)) => {
            return Err(ApiError::unprocessable("specify either name or names, not both"));
        }
        (None, _) => return Err(ApiError::unprocessable("Name can't be blank")),
    };
    if names.len() > MAX_NAMES {
        return Err(ApiError::unprocessable("only 10 Droplets may be created at a time"));
    }
    for name in &names {
        check_droplet_name(name)?;
    }
    Ok(names)
}

/// Letters, digits, `.` and `-`, at most 255, ending in a letter or digit and not starting with `.` or `-`.
pub(super) fn check_droplet_name(name: &str) -> Result<(), ApiError> {
    let edge = |found: Option<char>| found.is_some_and(|found| found.is_ascii_alphanumeric());
    let inner = name.chars().all(|found| found.is_ascii_alphanumeric() || found == '.' || found == '-');
    if name.len() <= MAX_NAME && inner && edge(name.chars().next()) && edge(name.chars().last()) {
        return Ok(());
    }
    Err(ApiError::unprocessable("Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"))
}

/// A slug, a prefix of slugs (`nyc`), or none at all: then any region that offers the size will do.
fn region<'a>(catalog: &'a Catalog, wanted: Option<&str>, size: &Size) -> Result<&'a Arc<Region>, ApiError> {
    let wanted = wanted.unwrap_or_default();
    if let Some(region) = catalog.regions.get(wanted) {
        return Ok(region);
    }
    let is_prefix = wanted.chars().all(|found| found.is_ascii_alphabetic());
    let mut matching = catalog.regions.values().filter(|region| is_prefix && region.slug.starts_with(wanted));
    let offered = |region: &&Arc<Region>| region.available && size.regions.contains(&region.slug);
    matching
        .find(offered)
        .ok_or_else(|| ApiError::unprocessable("You specified an invalid region for Droplet creation."))
}
