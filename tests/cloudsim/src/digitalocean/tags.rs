//! Tags: their names, and putting them on droplets and taking them off.

use serde::Deserialize;

use super::create::Reference;
use super::error::ApiError;
use super::tenant::Tenant;

const MAX_TAG: usize = 255;

/// Body of `POST /v2/tags`.
#[derive(Debug, Deserialize)]
pub(super) struct TagBody {
    pub(super) name: Option<String>,
}

/// Body of the calls below `/v2/tags/{name}/resources`.
#[derive(Debug, Deserialize)]
pub(super) struct ResourcesBody {
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    resource_id: Reference,
    resource_type: String,
}

/// Letters, digits, `:`, `-` and `_`, 1 to 255 of them.
pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
    let valid = |found: char| found.is_ascii_alphanumeric() || matches!(found, ':' | '-' | '_');
    if !name.is_empty() && name.len() <= MAX_TAG && name.chars().all(valid) {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "tag names may contain letters, numbers, colons, dashes, and underscores, and at most 255 characters",
    ))
}

impl Tenant<'_> {
    /// Creates a tag, or finds the one of that name; gives its canonical spelling.
    pub(super) fn create_tag(&mut self, body: &TagBody) -> Result<String, ApiError> {
        self.scopes.require("tag:create")?;
        let name = body.name.as_deref().unwrap_or_default();
        check_name(name)?;
        Ok(self.account.fleet.ensure_tag(name))
    }

    /// Deletes a tag; whatever carried it is untagged.
    pub(super) fn delete_tag(&mut self, name: &str) -> Result<(), ApiError> {
        self.scopes.require("tag:delete")?;
        self.account.fleet.delete_tag(name)
    }

    /// Tags all the droplets named, or none.
    pub(super) fn tag_resources(&mut self, tag: &str, body: &ResourcesBody) -> Result<(), ApiError> {
        self.scopes.require("tag:create")?;
        for id in self.tagged_droplets(tag, body)? {
            self.account.fleet.put_on(tag, id);
        }
        Ok(())
    }

    /// Untags all the droplets named, or none.
    pub(super) fn untag_resources(&mut self, tag: &str, body: &ResourcesBody) -> Result<(), ApiError> {
        self.scopes.require("tag:delete")?;
        for id in self.tagged_droplets(tag, body)? {
            self.account.fleet.take_off(tag, id);
        }
        Ok(())
    }

    fn tagged_droplets(&self, tag: &str, body: &ResourcesBody) -> Result<Vec<u64>, ApiError> {
        self.scopes.require("droplet:update")?;
        self.account.fleet.tag(tag)?;
        let droplet = |resource: &Resource| {
            if resource.resource_type != "droplet" {
                let kind = &resource.resource_type;
                return Err(ApiError::unprocessable(format!("resource_type {kind} is not simulated")));
            }
            let id = resource.resource_id.text().parse().map_err(|_| ApiError::not_found())?;
            self.account.fleet.get(id, self.now).map(|droplet| droplet.id)
        };
        body.resources.iter().map(droplet).collect()
    }
}
