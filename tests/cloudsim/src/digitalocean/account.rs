//! An account: its identity, its limits, and the fleet it owns.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::fleet::Fleet;

/// Identity and limits of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSpec {
    /// How the simulator's callers name it; also its display name.
    pub name: String,
    /// Identity of the user, derived from the name unless given.
    #[serde(default)]
    pub uuid: String,
    /// Address of the user, derived from the name unless given.
    #[serde(default)]
    pub email: String,
    /// Identity of the team, derived from the name unless given.
    #[serde(default)]
    pub team_uuid: String,
    /// How many droplets may exist at one time.
    #[serde(default = "default_droplet_limit")]
    pub droplet_limit: usize,
    /// `active`, `warning` or `locked`; shown, not enforced.
    #[serde(default = "default_status")]
    pub status: String,
    /// Ids or fingerprints that a create call may name in `ssh_keys`.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// VPCs beside the default one of each region.
    #[serde(default)]
    pub vpcs: Vec<String>,
}

fn default_droplet_limit() -> usize {
    10_000
}

fn default_status() -> String {
    "active".to_owned()
}

impl AccountSpec {
    /// An active account that may have 10,000 droplets.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            uuid: String::new(),
            email: String::new(),
            team_uuid: String::new(),
            droplet_limit: default_droplet_limit(),
            status: default_status(),
            ssh_keys: Vec::new(),
            vpcs: Vec::new(),
        }
    }

    /// Fills what was left empty; the same name always gives the same identity.
    pub(super) fn completed(mut self) -> Self {
        if self.uuid.is_empty() {
            self.uuid = uuid_from(&format!("user/{}", self.name));
        }
        if self.team_uuid.is_empty() {
            self.team_uuid = uuid_from(&format!("team/{}", self.name));
        }
        if self.email.is_empty() {
            self.email = format!("{}@example.com", self.name);
        }
        self
    }

    /// The VPC a droplet gets that names none.
    pub(super) fn default_vpc(&self, region: &str) -> String {
        uuid_from(&format!("vpc/{}/{region}", self.name))
    }
}

/// An account with what it owns.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) spec: AccountSpec,
    pub(super) fleet: Fleet,
}

/// A UUID that follows from `seed`.
pub(super) fn uuid_from(seed: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, seed).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(0), half(1));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
