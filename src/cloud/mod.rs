//! VMs: one trait over the providers, in plain domain types. Nothing here knows of Kubernetes.

pub mod brake;
pub mod digitalocean;
pub mod fleet;
pub mod orphans;
pub mod static_hosts;
pub mod user_data;

use std::net::{Ipv4Addr, Ipv6Addr};

use async_trait::async_trait;

use crate::api::names::{ClusterId, Mark};
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

pub use static_hosts::AllowedCidrs;

/// Where a Node's machine comes from.
#[derive(Clone)]
pub enum Source {
    /// Existing hosts: nothing is created or deleted, an address is only checked against the list.
    Static(AllowedCidrs),
    /// VMs of a provider, read through one snapshot.
    Vms(fleet::Fleet),
}

/// A VM as its provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The provider's id, as text.
    pub id: String,
    /// The name it was created with.
    pub name: String,
    /// Whether it runs.
    pub status: VmStatus,
    /// Public IPv4 address; appears some time after creation.
    pub public4: Option<Ipv4Addr>,
    /// Public IPv6 address.
    pub public6: Option<Ipv6Addr>,
    /// Address inside the provider's private network.
    pub private4: Option<Ipv4Addr>,
    /// The provider's slug.
    pub region: String,
    /// The provider's slug.
    pub size: String,
    /// The provider's slug, or its id where the image has none.
    pub image: String,
    /// Our mark, if it carries a whole one.
    pub mark: Option<Mark>,
    /// All tags, ours included.
    pub tags: Vec<String>,
    /// By the provider's clock.
    pub created_at: jiff::Timestamp,
}

/// The state of a VM, as far as it matters to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmStatus {
    /// Being built: addresses may be missing.
    New,
    /// Running.
    Active,
    /// Powered off; still paid for, and its address still its own.
    Off,
    /// Anything else the provider says.
    Other,
}

/// What to create. Mark and name travel in the call itself, so that whatever a crash leaves can be found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVm {
    /// The host name, from [`crate::api::names::vm_name`].
    pub name: String,
    /// The mark of the owner.
    pub mark: Mark,
    /// The provider's slug.
    pub region: String,
    /// The provider's slug.
    pub size: String,
    /// The provider's slug or id.
    pub image: String,
    /// What cloud-init gets, from [`user_data::compose`]; `None` for nothing.
    pub user_data: Option<String>,
    /// The private network; `None` for the region's default.
    pub vpc_uuid: Option<String>,
    /// Tags beside the mark's.
    pub tags: Vec<String>,
}

/// The account a credential belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Identity of what owns the VMs (the team, or the user without one): the same for every token of it, for ever.
    pub id: String,
    /// How many VMs the account may have, if the credential may know.
    pub droplet_limit: Option<u32>,
}

/// The VMs that a filter matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Each once.
    pub vms: Vec<Vm>,
    /// Whether absence from `vms` means anything: every page was read and nothing left the listing meanwhile. What
    /// *is* in `vms` is there either way.
    pub whole: bool,
}

/// What a provider offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// All regions.
    pub regions: Vec<Region>,
    /// All sizes.
    pub sizes: Vec<Size>,
    /// All images the account may use.
    pub images: Vec<Image>,
}

/// A region of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its slug.
    pub slug: String,
    /// Whether it takes new VMs.
    pub available: bool,
}

/// A size of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// Its slug.
    pub slug: String,
    /// Whether it is offered at all.
    pub available: bool,
    /// Slugs of the regions that offer it.
    pub regions: Vec<String>,
}

/// An image a VM can start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The provider's id, as text.
    pub id: String,
    /// Its slug; an account's own images have none.
    pub slug: Option<String>,
    /// Slugs of the regions that have it.
    pub regions: Vec<String>,
}

/// A provider of VMs. Every method makes at most a few calls, retries none of them, and never waits for its budget:
/// it answers [`OutsideError::RateLimited`] at once.
///
/// Every method answers `Refused` with code [`code::ACCOUNT_CHANGED`], having written nothing, when the credential
/// belongs to another account than the one pinned: neither presence nor absence may be concluded from it.
#[async_trait]
pub trait VmProvider: Send + Sync {
    /// Asks for the account of the credential.
    async fn account(&self) -> Result<Account, OutsideError>;

    /// Creates one VM. Success says that it was ordered; it may have no address yet. After `Unknown` look with
    /// [`VmProvider::find_by_owner`], and again when the settle time has passed, before creating another.
    ///
    /// Codes of `Refused`: see [`code`].
    async fn create(&self, vm: &CreateVm) -> Result<Vm, OutsideError>;

    /// One VM; `None` if the provider says that there is none (404).
    async fn get(&self, id: &str, priority: Priority) -> Result<Option<Vm>, OutsideError>;

    /// All VMs of the owner of `mark`.
    async fn find_by_owner(&self, mark: &Mark, priority: Priority) -> Result<Listing, OutsideError>;

    /// All VMs made for the same kind, namespace and name, whoever owned them.
    async fn find_by_key(&self, mark: &Mark) -> Result<Listing, OutsideError>;

    /// All VMs of the cluster: one call per 200. An error if any page fails, never a part.
    async fn list_owned(&self, cluster: &ClusterId) -> Result<Listing, OutsideError>;

    /// Deletes a VM; done also if there is none. Uses the reserve of the budget. Code of `Refused`:
    /// [`code::PENDING_EVENT`], to be retried.
    async fn delete(&self, id: &str) -> Result<(), OutsideError>;

    /// Makes the VM `mark`'s: adds its tags, and removes those of `former`. Several writes, safe to repeat.
    async fn mark(&self, id: &str, former: Option<&Mark>, mark: &Mark) -> Result<(), OutsideError>;

    /// Removes the tags of `mark` from the VM (`deletionPolicy: Orphan`). Several writes, safe to repeat; done also if
    /// VM or tags do not exist.
    async fn unmark(&self, id: &str, mark: &Mark) -> Result<(), OutsideError>;

    /// Deletes the owner's tag itself, once its VMs are confirmed gone: providers keep empty tags for ever. Done also
    /// if there is none.
    async fn delete_owner_tags(&self, mark: &Mark) -> Result<(), OutsideError>;

    /// What can be created, and where; at most ten minutes old.
    async fn catalogue(&self) -> Result<Catalogue, OutsideError>;
}

/// The codes by which [`OutsideError::Refused`] tells refusals apart that need different answers.
pub mod code {
    /// No such size: ask for another.
    pub const UNKNOWN_SIZE: &str = "unknown_size";
    /// No such region: ask for another.
    pub const UNKNOWN_REGION: &str = "unknown_region";
    /// No such image: ask for another.
    pub const UNKNOWN_IMAGE: &str = "unknown_image";
    /// The size, region or image exists, but not in this combination or not at present.
    pub const NOT_OFFERED: &str = "not_offered";
    /// The account may have no more VMs: heals when the limit rises or a VM goes.
    pub const DROPLET_LIMIT: &str = "droplet_limit";
    /// Another action of the VM is still running: retry.
    pub const PENDING_EVENT: &str = "pending_event";
    /// The credential belongs to another account than before.
    pub const ACCOUNT_CHANGED: &str = "account_changed";
    /// An id that no provider gave out.
    pub const INVALID_ID: &str = "invalid_id";
    /// What the call works on does not exist.
    pub const NOT_FOUND: &str = "not_found";
}
