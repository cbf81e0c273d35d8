//! How droplets, actions, tags and the account look in JSON. Views borrow: a page of 200 droplets copies nothing.

use serde::Serialize;
use serde_json::{Value, json};

use jiff::Timestamp;

use super::catalog::{Image, Region, Size};
use super::droplet::{Action, Droplet};
use super::fleet::{Fleet, Tag};
use super::page::Target;
use super::settings::api_time;

/// A droplet as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct DropletView<'a> {
    id: u64,
    name: &'a str,
    memory: u32,
    vcpus: u32,
    disk: u32,
    disk_info: Value,
    locked: bool,
    status: &'static str,
    kernel: Option<()>,
    created_at: String,
    features: &'a [&'static str],
    backup_ids: [u64; 0],
    next_backup_window: Option<()>,
    snapshot_ids: [u64; 0],
    image: &'a Image,
    volume_ids: [String; 0],
    size: &'a Size,
    size_slug: &'a str,
    networks: Networks,
    region: &'a Region,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_uuid: Option<&'a str>,
}

#[derive(Debug, Default, Serialize)]
struct Networks {
    v4: Vec<Value>,
    v6: Vec<Value>,
}

impl<'a> DropletView<'a> {
    pub(super) fn of(droplet: &'a Droplet, now: Timestamp) -> Self {
        let networks = if droplet.has_addresses(now) { networks(droplet) } else { Networks::default() };
        Self {
            id: droplet.id,
            name: &droplet.name,
            memory: droplet.size.memory,
            vcpus: droplet.size.vcpus,
            disk: droplet.size.disk,
            disk_info: json!([{"type": "local", "size": {"amount": droplet.size.disk, "unit": "gib"}}]),
            locked: droplet.removal.is_some(),
            status: droplet.status(now),
            kernel: None,
            created_at: api_time(droplet.created_at),
            features: &droplet.features,
            backup_ids: [],
            next_backup_window: None,
            snapshot_ids: [],
            image: &droplet.image,
            volume_ids: [],
            size: &droplet.size,
            size_slug: &droplet.size.slug,
            networks,
            region: &droplet.region,
            tags: droplet.tags(now),
            vpc_uuid: Some(&droplet.vpc_uuid),
        }
    }

    /// As the create call answers: always `new`, without addresses and (digitalocean/openapi#457) without VPC.
    pub(super) fn just_created(droplet: &'a Droplet) -> Self {
        Self {
            status: "new",
            networks: Networks::default(),
            tags: &droplet.tags,
            vpc_uuid: None,
            ..Self::of(droplet, droplet.created_at)
        }
    }
}

fn networks(droplet: &Droplet) -> Networks {
    let mut networks = Networks::default();
    // The private one first, as the API often has it: a client must look at the type.
    if let Some(address) = droplet.private4 {
        networks.v4.push(json!({
            "ip_address": address, "netmask": "255.255.240.0", "gateway": null, "type": "private",
        }));
    }
    if let Some(address) = droplet.public4 {
        let [a, b, c, _] = address.octets();
        networks.v4.push(json!({
            "ip_address": address, "netmask": "255.255.255.0", "gateway": format!("{a}.{b}.{c}.1"), "type": "public",
        }));
    }
    if let Some(address) = droplet.public6 {
        networks.v6.push(json!({
            "ip_address": address, "netmask": 64, "gateway": "2001:db8::1", "type": "public",
        }));
    }
    networks
}

/// An action as the API shows it.
pub(super) fn action(action: &Action, now: Timestamp) -> Value {
    let over = action.is_over(now);
    json!({
        "id": action.id,
        "status": action.status(now),
        "type": action.kind,
        "started_at": api_time(action.started_at),
        "completed_at": over.then(|| api_time(action.completes_at)),
        "resource_id": action.droplet,
        "resource_type": "droplet",
        "region": *action.region,
        "region_slug": action.region.slug,
    })
}

/// The link by which a create call points at its action.
pub(super) fn action_link(id: u64, rel: &str, target: &Target) -> Value {
    json!({"id": id, "rel": rel, "href": format!("{}/v2/actions/{id}", target.base)})
}

/// A tag with the count of its resources, those that listings show.
pub(super) fn tag(tag: &Tag, fleet: &Fleet, target: &Target, now: Timestamp) -> Value {
    let droplets = fleet.listed(super::fleet::Filter::Tag(&tag.name), now);
    let last = droplets.last().map(|droplet| format!("{}/v2/droplets/{}", target.base, droplet.id));
    let mut of_droplets = json!({"count": droplets.len()});
    let mut resources = json!({
        "count": droplets.len(),
        "images": {"count": 0},
        "volumes": {"count": 0},
        "volume_snapshots": {"count": 0},
        "databases": {"count": 0},
    });
    if let Some(uri) = last {
        of_droplets["last_tagged_uri"] = json!(uri);
        resources["last_tagged_uri"] = json!(uri);
    }
    resources["droplets"] = of_droplets;
    json!({"name": tag.name, "resources": resources})
}
