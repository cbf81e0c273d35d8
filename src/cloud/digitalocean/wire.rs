//! The API's JSON, as far as we read and write it. What we do not need we do not read, so that it may change.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::api::names::Mark;
use crate::cloud::{self, CreateVm, Vm, VmStatus};

/// A page of any listing.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    #[serde(alias = "droplets", alias = "regions", alias = "sizes", alias = "images")]
    pub(super) items: Vec<T>,
    #[serde(default)]
    links: Links,
    pub(super) meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
struct Links {
    pages: Option<Pages>,
}

#[derive(Debug, Deserialize)]
struct Pages {
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) total: usize,
}

impl<T> Page<T> {
    /// Whether another page follows. Its URL is not used: the token goes only where the settings say.
    pub(super) fn has_next(&self) -> bool {
        self.links.pages.as_ref().is_some_and(|pages| pages.next.is_some())
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct AccountReply {
    pub(super) account: Account,
}

#[derive(Debug, Deserialize)]
pub(super) struct Account {
    uuid: String,
    team: Option<Team>,
    /// Shown only to a token that may read droplets.
    droplet_limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Team {
    uuid: String,
}

impl From<Account> for cloud::Account {
    fn from(account: Account) -> Self {
        // Droplets belong to the team; the user may change with the token.
        let id = account.team.map_or(account.uuid, |team| team.uuid);
        Self { id, droplet_limit: account.droplet_limit }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct DropletReply {
    pub(super) droplet: Droplet,
}

#[derive(Debug, Deserialize)]
pub(super) struct Droplet {
    id: u64,
    name: String,
    status: String,
    created_at: jiff::Timestamp,
    #[serde(default)]
    networks: Networks,
    region: Slug,
    size_slug: String,
    image: ImageRef,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Networks {
    v4: Vec<Network>,
    v6: Vec<Network>,
}

#[derive(Debug, Deserialize)]
struct Network {
    ip_address: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Slug {
    slug: String,
}

#[derive(Debug, Deserialize)]
struct ImageRef {
    id: u64,
    slug: Option<String>,
}

impl From<Droplet> for Vm {
    fn from(droplet: Droplet) -> Self {
        let v4 = |kind| address::<Ipv4Addr>(&droplet.networks.v4, kind);
        Self {
            public4: v4("public"),
            private4: v4("private"),
            public6: address::<Ipv6Addr>(&droplet.networks.v6, "public"),
            id: droplet.id.to_string(),
            status: match droplet.status.as_str() {
                "new" => VmStatus::New,
                "active" => VmStatus::Active,
                "off" => VmStatus::Off,
                _ => VmStatus::Other,
            },
            region: droplet.region.slug,
            size: droplet.size_slug,
            image: droplet.image.slug.unwrap_or_else(|| droplet.image.id.to_string()),
            mark: Mark::from_tags(droplet.tags.iter().map(String::as_str)),
            name: droplet.name,
            tags: droplet.tags,
            created_at: droplet.created_at,
        }
    }
}

fn address<A: std::str::FromStr>(networks: &[Network], kind: &str) -> Option<A> {
    networks.iter().find(|network| network.kind == kind)?.ip_address.parse().ok()
}

#[derive(Debug, Deserialize)]
pub(super) struct Region {
    slug: String,
    available: bool,
}

impl From<Region> for cloud::Region {
    fn from(region: Region) -> Self {
        Self { slug: region.slug, available: region.available }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Size {
    slug: String,
    available: bool,
    regions: Vec<String>,
}

impl From<Size> for cloud::Size {
    fn from(size: Size) -> Self {
        Self { slug: size.slug, available: size.available, regions: size.regions }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Image {
    id: u64,
    slug: Option<String>,
    #[serde(default)]
    regions: Vec<String>,
}

impl From<Image> for cloud::Image {
    fn from(image: Image) -> Self {
        Self { id: image.id.to_string(), slug: image.slug, regions: image.regions }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct CreateBody<'a> {
    name: &'a str,
    region: &'a str,
    size: &'a str,
    image: ImageId<'a>,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_uuid: Option<&'a str>,
}

/// A slug is sent as text, an id as a number.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ImageId<'a> {
    Id(u64),
    Slug(&'a str),
}

impl<'a> CreateBody<'a> {
    pub(super) fn of(vm: &'a CreateVm) -> Self {
        Self {
            name: &vm.name,
            region: &vm.region,
            size: &vm.size,
            image: vm.image.parse().map_or(ImageId::Slug(&vm.image), ImageId::Id),
            tags: vm.mark.tags().into_iter().chain(vm.tags.iter().cloned()).collect(),
            user_data: vm.user_data.as_deref(),
            vpc_uuid: vm.vpc_uuid.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct TagBody<'a> {
    pub(super) name: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct ResourcesBody {
    resources: [Resource; 1],
}

#[derive(Debug, Serialize)]
struct Resource {
    resource_id: String,
    resource_type: &'static str,
}

impl ResourcesBody {
    pub(super) fn droplet(id: u64) -> Self {
        Self { resources: [Resource { resource_id: id.to_string(), resource_type: "droplet" }] }
    }
}
