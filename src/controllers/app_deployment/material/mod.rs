//! What an AppDeployment comes to: the text of its Compose file, its files, its variables and who it is at registries,
//! read from the Secrets and ConfigMaps it refers to.
//!
//! Each is read by name, with `get`, in the app's own namespace, once for each reading. Their resourceVersions tell one
//! value from another: nothing that is stored, logged or said has a value in it.
//!
//! * [`read`], [`Material`]: what the object comes to now.
//! * [`revisions`]: what it came to before.

mod content;
mod objects;
mod recipe;
mod registries;
pub mod revisions;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use kube::{Client, ResourceExt};

use crate::api::app_deployment::{AppDeployment, Compose};
use crate::host::compose::revision;
use crate::host::deploy::commands::Registry;
use crate::runtime::fault::Fault;
use objects::{Kind, Objects, Reference};
use recipe::{Recipe, unknown};

pub use spec::Around;

/// The annotation whose new value is a new revision that runs the same.
pub const RESTART: &str = "roadstead.dev/restart";
/// The annotation that names the revision to go back to.
pub const ROLLBACK: &str = "roadstead.dev/rollback";

/// How long the text of a Compose file may be, in bytes.
const COMPOSE: usize = 256 * 1024;
/// How much of a token is looked at, in characters.
const TOKEN: usize = 253;

/// What an app comes to, as read. Holds secrets.
#[derive(Clone, PartialEq)]
pub struct Material {
    name: String,
    recipe: Recipe,
    /// The images in place of the recipe's, by digest, where they are known.
    pinned: BTreeMap<String, String>,
    /// The resourceVersion of every object that was read, e.g. of `Secret/db`.
    versions: BTreeMap<String, String>,
    files: BTreeMap<String, Bytes>,
    values: BTreeMap<String, String>,
    only: BTreeMap<String, BTreeSet<String>>,
    registries: Vec<Registry>,
    secrets: Vec<String>,
    is_rollback: bool,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("name", &self.name).field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// What `app` refers to, read now. `own` is the operator's namespace.
///
/// # Errors
/// What is missing is waited for; what is wrong, and what may not be read, is for a person to mend. Each names the field,
/// the object and the key, and never a value.
pub async fn read(client: &Client, own: &str, app: &AppDeployment) -> Result<Material, Fault> {
    let mut recipe = Recipe::of(&app.spec, String::new(), restart(app));
    let objects = {
        let compose = compose_reference(&app.spec.compose).map(|(reference, _)| reference);
        let mut references: Vec<Reference<'_>> = compose.into_iter().collect();
        references.extend(recipe.references()?);
        references.extend(registries::references(&app.spec.image_pull_secrets));
        Objects::read(client, own, &app.namespace().unwrap_or_default(), references).await?
    };
    recipe.compose = compose_text(&app.spec.compose, &objects)?;
    let name = recipe.name(&objects.versions(), app.spec.roll_on_secret_change)?;
    assemble(app, name, recipe, &objects)
}

/// Puts together what was read.
fn assemble(app: &AppDeployment, name: String, recipe: Recipe, objects: &Objects) -> Result<Material, Fault> {
    let variables = content::variables(&recipe, objects)?;
    let files = content::files(&recipe, objects)?;
    let registries = registries::of(&app.spec.image_pull_secrets, objects)?;
    let mut secrets: BTreeSet<String> =
        variables.secret.iter().filter_map(|name| variables.values.get(name).cloned()).collect();
    secrets.extend(registries.iter().map(|registry| registry.password.clone()));
    for file in recipe.files.iter().filter(|file| file.secret_key_ref.is_some()) {
        let text = files.get(&file.path).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        secrets.extend(text);
    }
    secrets.remove("");
    Ok(Material {
        name,
        recipe,
        pinned: BTreeMap::new(),
        versions: objects.versions(),
        files,
        values: variables.values,
        only: variables.only,
        registries,
        secrets: secrets.into_iter().collect(),
        is_rollback: false,
    })
}

impl Material {
    /// The name of the revision: the same as long as everything that makes it run as it does is.
    #[must_use]
    pub fn revision_name(&self) -> &str {
        &self.name
    }

    /// The hash of the Compose file's text: `sha256:` and 64 hex digits.
    #[must_use]
    pub fn compose_hash(&self) -> String {
        revision::compose_hash(&self.recipe.compose)
    }

    /// Every value of a Secret in it, for what is shown of an app's lines to be without them.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        self.secrets.clone()
    }

    /// Who it is at registries.
    #[must_use]
    pub fn registries(&self) -> Vec<Registry> {
        self.registries.clone()
    }

    /// The same with these images in place of those that were asked for: service and image by digest. What a tag meant
    /// when the revision was first pulled is what it runs ever after. The name stays.
    #[must_use]
    pub fn with_images(self, pinned: &BTreeMap<String, String>) -> Self {
        Self { pinned: pinned.clone(), ..self }
    }
}

/// The token of the restart that is asked for.
fn restart(app: &AppDeployment) -> Option<String> {
    let token = app.annotations().get(RESTART)?.trim();
    (!token.is_empty()).then(|| token.chars().take(TOKEN).collect())
}

fn compose_reference(compose: &Compose) -> Option<(Reference<'_>, &str)> {
    let key = compose.config_map_key_ref.as_ref()?;
    let field = "spec.compose.configMapKeyRef".to_owned();
    Some((Reference { kind: Kind::ConfigMap, name: &key.name, field }, &key.key))
}

fn compose_text(compose: &Compose, objects: &Objects) -> Result<String, Fault> {
    match (&compose.inline, compose_reference(compose)) {
        (Some(text), None) => Ok(text.clone()),
        (None, Some((reference, key))) => {
            let text = content::text(&reference, objects, key, objects.key(&reference, key)?)?;
            if text.len() > COMPOSE {
                let Reference { name, field, .. } = &reference;
                let message = format!(
                    "{field}: key `{key}` of ConfigMap {}/{name} has more than 256 KiB, the most a Compose file may have: \
                     put what it mounts into spec.compose.files",
                    objects.namespace()
                );
                return Err(Fault::terminal("ComposeTooLong", message));
            }
            Ok(text)
        }
        _ => Err(unknown("spec.compose", "set `inline` or `configMapKeyRef`, and not both")),
    }
}
