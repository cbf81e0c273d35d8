//! What can be ordered: regions, sizes and images, with a small extract of `DigitalOcean`'s real lists as default.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A data centre.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Display name, such as `Frankfurt 1`.
    pub name: String,
    /// Identifier, such as `fra1`.
    pub slug: String,
    /// Features the region offers.
    #[serde(default)]
    pub features: Vec<String>,
    /// False while no droplet can be created here.
    #[serde(default = "yes")]
    pub available: bool,
    /// Slugs of the sizes offered here; derived from the sizes, never set directly.
    #[serde(default)]
    pub sizes: Vec<String>,
}

/// A kind of droplet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Identifier, such as `s-1vcpu-1gb`.
    pub slug: String,
    /// Memory in MiB.
    pub memory: u32,
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Disk in GiB.
    pub disk: u32,
    /// Monthly transfer in TiB.
    pub transfer: f64,
    /// US dollars per month.
    pub price_monthly: f64,
    /// US dollars per hour.
    pub price_hourly: f64,
    /// Slugs of the regions that offer it.
    pub regions: Vec<String>,
    /// False while no droplet of this size can be created.
    #[serde(default = "yes")]
    pub available: bool,
    /// Class of the size, such as `Basic`.
    pub description: String,
}

/// A base image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Numeric identifier.
    pub id: u64,
    /// Display name within the distribution, such as `12 x64`.
    pub name: String,
    /// Distribution, such as `Debian`.
    pub distribution: String,
    /// Identifier, such as `debian-12-x64`.
    pub slug: String,
    /// Whether every account may use it.
    pub public: bool,
    /// Slugs of the regions that have it.
    pub regions: Vec<String>,
    /// When it was made, as the API writes it.
    pub created_at: String,
    /// `base` for distributions.
    #[serde(rename = "type")]
    pub kind: String,
    /// Smallest disk it fits on, in GiB.
    pub min_disk_size: u32,
    /// Its own size in GiB.
    pub size_gigabytes: f64,
    /// Free text.
    pub description: String,
    /// Tags of the image.
    pub tags: Vec<String>,
    /// `available`.
    pub status: String,
    /// Empty.
    pub error_message: String,
}

fn yes() -> bool {
    true
}

/// Regions, sizes and images by slug. Droplets keep their own copy, so withdrawing one leaves them intact.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) regions: BTreeMap<String, Arc<Region>>,
    pub(super) sizes: BTreeMap<String, Arc<Size>>,
    pub(super) images: BTreeMap<String, Arc<Image>>,
}

const REGIONS: &[(&str, &str)] = &[
    ("ams3", "Amsterdam 3"),
    ("blr1", "Bangalore 1"),
    ("fra1", "Frankfurt 1"),
    ("lon1", "London 1"),
    ("nyc1", "New York 1"),
    ("nyc3", "New York 3"),
    ("sfo3", "San Francisco 3"),
    ("sgp1", "Singapore 1"),
    ("syd1", "Sydney 1"),
    ("tor1", "Toronto 1"),
];
const FEATURES: &[&str] = &["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"];
/// Slug, MiB of memory, processors, GiB of disk, TiB of transfer, dollars a month, class.
const SIZES: &[(&str, u32, u32, u32, f64, f64, &str)] = &[
    ("s-1vcpu-512mb-10gb", 512, 1, 10, 0.5, 4.0, "Basic"),
    ("s-1vcpu-1gb", 1_024, 1, 25, 1.0, 6.0, "Basic"),
    ("s-1vcpu-2gb", 2_048, 1, 50, 2.0, 12.0, "Basic"),
    ("s-2vcpu-2gb", 2_048, 2, 60, 3.0, 18.0, "Basic"),
    ("s-2vcpu-4gb", 4_096, 2, 80, 4.0, 24.0, "Basic"),
    ("s-4vcpu-8gb", 8_192, 4, 160, 5.0, 48.0, "Basic"),
    ("c-2", 4_096, 2, 25, 4.0, 42.0, "CPU-Optimized"),
];
const IMAGES: &[(u64, &str, &str, &str)] = &[
    (159_651_797, "debian-12-x64", "Debian", "12 x64"),
    (195_932_980, "debian-13-x64", "Debian", "13 x64"),
    (156_374_152, "ubuntu-22-04-x64", "Ubuntu", "22.04 (LTS) x64"),
    (155_133_621, "ubuntu-24-04-x64", "Ubuntu", "24.04 (LTS) x64"),
    (152_640_006, "rockylinux-9-x64", "Rocky Linux", "9 x64"),
];
const HOURS_PER_MONTH: f64 = 672.0;

impl Default for Catalog {
    fn default() -> Self {
        let region_slugs: Vec<String> = REGIONS.iter().map(|(slug, _)| (*slug).to_owned()).collect();
        let mut catalog = Self { regions: BTreeMap::new(), sizes: BTreeMap::new(), images: BTreeMap::new() };
        for &(slug, memory, vcpus, disk, transfer, price, class) in SIZES {
            catalog.put_size(Size {
                slug: slug.to_owned(),
                memory,
                vcpus,
                disk,
                transfer,
                price_monthly: price,
                price_hourly: price / HOURS_PER_MONTH,
                regions: region_slugs.clone(),
                available: true,
                description: class.to_owned(),
            });
        }
        for &(slug, name) in REGIONS {
            catalog.put_region(Region {
                name: name.to_owned(),
                slug: slug.to_owned(),
                features: FEATURES.iter().map(|&feature| feature.to_owned()).collect(),
                available: true,
                sizes: Vec::new(),
            });
        }
        for &(id, slug, distribution, name) in IMAGES {
            catalog.put_image(Image {
                id,
                name: name.to_owned(),
                distribution: distribution.to_owned(),
                slug: slug.to_owned(),
                public: true,
                regions: region_slugs.clone(),
                created_at: "2025-06-16T00:00:00Z".to_owned(),
                kind: "base".to_owned(),
                min_disk_size: 7,
                size_gigabytes: 2.36,
                description: format!("{distribution} {name}"),
                tags: Vec::new(),
                status: "available".to_owned(),
                error_message: String::new(),
            });
        }
        catalog
    }
}

impl Catalog {
    pub(super) fn put_region(&mut self, mut region: Region) {
        region.sizes = self.sizes_of(&region.slug);
        self.regions.insert(region.slug.clone(), Arc::new(region));
    }

    pub(super) fn put_size(&mut self, size: Size) {
        self.sizes.insert(size.slug.clone(), Arc::new(size));
        self.relink();
    }

    pub(super) fn put_image(&mut self, image: Image) {
        self.images.insert(image.slug.clone(), Arc::new(image));
    }

    /// False if there was no such size.
    pub(super) fn withdraw_size(&mut self, slug: &str) -> bool {
        let known = self.sizes.remove(slug).is_some();
        self.relink();
        known
    }

    /// By slug or numeric id, as the API accepts both.
    pub(super) fn image(&self, reference: &str) -> Option<&Arc<Image>> {
        let by_id = || {
            let id: u64 = reference.parse().ok()?;
            self.images.values().find(|image| image.id == id)
        };
        self.images.get(reference).or_else(by_id)
    }

    fn sizes_of(&self, region: &str) -> Vec<String> {
        let offered = self.sizes.values().filter(|size| size.regions.iter().any(|slug| slug == region));
        offered.map(|size| size.slug.clone()).collect()
    }

    fn relink(&mut self) {
        let slugs: Vec<String> = self.regions.keys().cloned().collect();
        for slug in slugs {
            let sizes = self.sizes_of(&slug);
            if let Some(region) = self.regions.get_mut(&slug) {
                Arc::make_mut(region).sizes = sizes;
            }
        }
    }
}
