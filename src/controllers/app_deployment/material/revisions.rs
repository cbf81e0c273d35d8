//! The revisions of an app, as objects `ControllerRevision` (`apps/v1`) that go with it.
//!
//! Each holds what its revision is made of: the text of the Compose file, the images, the variables and files by where
//! they come from, with the versions these had. Of a Secret or ConfigMap it has names and versions and no value; a
//! revision that is gone back to takes their present values. What the object's spec says itself (`env[].value`) is there
//! as the spec said it, or going back would not lead back.
//!
//! The data of a `ControllerRevision` cannot be changed, so what the images turned out to be is in an annotation.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::objects::{Objects, Reference};
use super::recipe::Recipe;
use super::{Material, ROLLBACK, assemble, registries};
use crate::api::app_deployment::{AppDeployment, Image, Revision};
use crate::host::compose::revision::compose_hash;
use crate::runtime::bounded;
use crate::runtime::fault::Fault;

/// The label with the app's name.
pub const LABEL: &str = "roadstead.dev/app";
/// The annotation with the images by digest.
const IMAGES: &str = "roadstead.dev/images";
/// How many images a status has room for.
const SHOWN: usize = 64;

/// A revision that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its name, as [`Material::revision_name`] says it.
    pub name: String,
    /// Higher than that of every revision that was wanted before it.
    pub number: i64,
    /// The images by digest, as far as they are known, by service.
    pub images: BTreeMap<String, String>,
    /// None if a newer version of the operator wrote something else.
    recipe: Option<Recipe>,
    resource_version: Option<String>,
}

/// What a `ControllerRevision` holds.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Data {
    #[serde(flatten)]
    recipe: Recipe,
    /// The resourceVersion of each Secret and ConfigMap when it was made.
    versions: BTreeMap<String, String>,
}

impl Stored {
    /// One of which only the name matters.
    #[cfg(test)]
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), number: 1, images: BTreeMap::new(), recipe: None, resource_version: None }
    }

    /// What is shown of it.
    #[must_use]
    pub fn status(&self) -> Revision {
        let images = self.images.iter().take(SHOWN);
        Revision {
            name: self.name.clone(),
            compose_hash: self.recipe.as_ref().map(|recipe| compose_hash(&recipe.compose)),
            images: images.map(|(service, image)| Image { service: service.clone(), image: image.clone() }).collect(),
        }
    }

    fn of(app: &AppDeployment, object: &ControllerRevision) -> Option<Self> {
        let name = object.metadata.name.as_deref()?.strip_prefix(&format!("{}-", app.name_any()))?.to_owned();
        let images = object.annotations().get(IMAGES).and_then(|text| serde_json::from_str(text).ok());
        let data =
            object.data.as_ref().and_then(|RawExtension(data)| serde_json::from_value::<Data>(data.clone()).ok());
        Some(Self {
            name,
            number: object.revision,
            images: images.unwrap_or_default(),
            recipe: data.map(|data| data.recipe).filter(|recipe| !recipe.compose.is_empty()),
            resource_version: object.resource_version(),
        })
    }
}

/// The revisions of `app` that are kept, newest first.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn list(client: &Client, app: &AppDeployment) -> Result<Vec<Stored>, Fault> {
    let params = ListParams::default().labels(&format!("{LABEL}={}", app.name_any()));
    let objects = bounded(api(client, app).list(&params)).await?;
    let ours = objects.items.iter().filter(|object| is_owned(object, app));
    let mut stored: Vec<Stored> = ours.filter_map(|object| Stored::of(app, object)).collect();
    stored.sort_by(|a, b| b.number.cmp(&a.number).then_with(|| a.name.cmp(&b.name)));
    Ok(stored)
}

/// Makes `material` the newest revision, with one write at most. `stored` is what [`list`] answered.
///
/// # Errors
/// When it cannot be written. While one of an app that is gone has its name, it is waited for.
pub async fn ensure(
    client: &Client,
    app: &AppDeployment,
    stored: &[Stored],
    material: &Material,
) -> Result<Stored, Fault> {
    let api = api(client, app);
    let newest = stored.iter().map(|stored| stored.number).max().unwrap_or(0);
    let found = stored.iter().find(|stored| stored.name == material.name);
    if let Some(found) = found.filter(|found| found.number == newest) {
        return Ok(found.clone());
    }
    let name = object_name(app, &material.name);
    if let Some(found) = found {
        let patch = json!({"metadata": {"resourceVersion": found.resource_version}, "revision": newest + 1});
        let patched = bounded(api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await?;
        return Stored::of(app, &patched).ok_or_else(|| foreign(app, &name));
    }
    let object = object(app, material, newest + 1)?;
    let created = bounded(async {
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
            other => other.map(Some),
        }
    });
    let there = match created.await? {
        Some(created) => created,
        // By a pass that did not hear of its success, or of another app that had the name.
        None => bounded(api.get(&name)).await?,
    };
    if !is_owned(&there, app) {
        return Err(foreign(app, &name));
    }
    Stored::of(app, &there).ok_or_else(|| foreign(app, &name))
}

/// Notes what the images of a revision turned out to be. `images` are those it runs, by service, and `digests` what the
/// host says of them. What is noted stays: a tag means for a revision what it meant first. One write at most.
///
/// # Errors
/// When it cannot be written.
pub async fn set_digests(
    client: &Client,
    app: &AppDeployment,
    stored: &Stored,
    images: &BTreeMap<String, String>,
    digests: &BTreeMap<String, String>,
) -> Result<Stored, Fault> {
    let found = digests.iter().filter_map(|(service, digest)| {
        let image = by_digest(images.get(service)?, digest)?;
        Some((service.clone(), image))
    });
    let mut all: BTreeMap<String, String> = found.collect();
    all.extend(stored.images.clone());
    if all == stored.images {
        return Ok(stored.clone());
    }
    let patch = json!({"metadata": {
        "resourceVersion": stored.resource_version, "annotations": {IMAGES: json!(all).to_string()},
    }});
    let name = object_name(app, &stored.name);
    let patched = bounded(api(client, app).patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    Stored::of(app, &patched).ok_or_else(|| foreign(app, &name))
}

/// Removes the oldest revisions until, besides the current one, no more than `limit` are left. Those in `keep` stay in any
/// case: the one that serves, the one before it, and the one that is coming. Answers the names of those that went.
///
/// # Errors
/// When one cannot be removed.
pub async fn prune(
    client: &Client,
    app: &AppDeployment,
    stored: &[Stored],
    keep: &BTreeSet<String>,
    limit: usize,
) -> Result<Vec<String>, Fault> {
    let api = api(client, app);
    let mut gone = Vec::new();
    for name in surplus(stored, keep, limit) {
        let deleted = bounded(api.delete(&object_name(app, name), &DeleteParams::default())).await;
        match deleted {
            Ok(_) | Err(Fault::Gone) => gone.push(name.to_owned()),
            Err(fault) => return Err(fault),
        }
    }
    Ok(gone)
}

/// The names of those that are too many, oldest first.
fn surplus<'a>(stored: &'a [Stored], keep: &BTreeSet<String>, limit: usize) -> Vec<&'a str> {
    let (kept, mut others): (Vec<&Stored>, Vec<&Stored>) =
        stored.iter().partition(|stored| keep.contains(&stored.name));
    let room = limit.saturating_sub(kept.len().saturating_sub(1));
    others.sort_by_key(|stored| std::cmp::Reverse(stored.number));
    others.iter().skip(room).rev().map(|stored| stored.name.as_str()).collect()
}

/// The revision that the annotation [`ROLLBACK`] names.
///
/// # Errors
/// If it is not kept: it is said which are.
pub fn named<'a>(stored: &'a [Stored], name: &str) -> Result<&'a Stored, Fault> {
    stored.iter().find(|stored| stored.name == name).ok_or_else(|| {
        let names: Vec<&str> = stored.iter().map(|stored| stored.name.as_str()).collect();
        let kept =
            if names.is_empty() { "none is kept".to_owned() } else { format!("name one of {}", names.join(", ")) };
        Fault::terminal("RevisionMissing", format!("annotation {ROLLBACK}: there is no revision `{name}`: {kept}"))
    })
}

/// A revision again: what it was made of, its images by digest, and the present values of the Secrets and ConfigMaps it
/// names. What no revision has (strategy, domains, time limits, credentials for pulling) is the object's of now.
///
/// # Errors
/// As [`super::read`], the message saying of which revision.
pub async fn material(client: &Client, own: &str, app: &AppDeployment, stored: &Stored) -> Result<Material, Fault> {
    let Some(recipe) = &stored.recipe else {
        let message = format!(
            "annotation {ROLLBACK}: revision {} cannot be read, perhaps because a newer version of the operator wrote it: \
             name another",
            stored.name
        );
        return Err(Fault::terminal("RevisionUnreadable", message));
    };
    let read = async {
        let mut references: Vec<Reference<'_>> = recipe.references()?;
        references.extend(registries::references(&app.spec.image_pull_secrets));
        let objects = Objects::read(client, own, &app.namespace().unwrap_or_default(), references).await?;
        assemble(app, stored.name.clone(), recipe.clone(), &objects)
    };
    let material = read.await.map_err(|fault| of_revision(fault, &stored.name))?;
    Ok(Material { is_rollback: true, ..material.with_images(&stored.images) })
}

/// The fault, said of a revision.
fn of_revision(fault: Fault, name: &str) -> Fault {
    let said = |message: String| format!("revision {name}: {message}");
    match fault {
        Fault::Terminal { reason, message } => Fault::Terminal { reason, message: said(message) },
        Fault::Waiting { reason, message, after } => Fault::Waiting { reason, message: said(message), after },
        other => other,
    }
}

fn api(client: &Client, app: &AppDeployment) -> Api<ControllerRevision> {
    Api::namespaced(client.clone(), &app.namespace().unwrap_or_default())
}

fn object_name(app: &AppDeployment, revision: &str) -> String {
    format!("{}-{revision}", app.name_any())
}

fn is_owned(object: &ControllerRevision, app: &AppDeployment) -> bool {
    object
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == app.meta().uid.as_ref())
}

fn foreign(app: &AppDeployment, name: &str) -> Fault {
    let namespace = app.namespace().unwrap_or_default();
    Fault::Waiting {
        reason: "RevisionTaken",
        message: format!(
            "ControllerRevision {namespace}/{name} is of another object: if that is gone, it goes by itself; else remove it"
        ),
        after: std::time::Duration::from_secs(5),
    }
}

fn object(app: &AppDeployment, material: &Material, number: i64) -> Result<ControllerRevision, Fault> {
    let data = Data { recipe: material.recipe.clone(), versions: material.versions.clone() };
    let data: Value = serde_json::to_value(data)
        .map_err(|error| Fault::terminal("Internal", format!("a revision does not serialise: {error}")))?;
    Ok(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(object_name(app, &material.name)),
            namespace: app.namespace(),
            labels: Some([(LABEL.to_owned(), app.name_any())].into()),
            owner_references: app.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    })
}

/// An image by digest: its name without tag, and the digest. `None` where there is no digest.
fn by_digest(image: &str, digest: &str) -> Option<String> {
    let hex = digest.strip_prefix("sha256:")?;
    if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let name = image.split('@').next().unwrap_or_default();
    let tag = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
    Some(format!("{}@{digest}", &name[..tag.unwrap_or(name.len())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, number: i64) -> Stored {
        Stored { name: name.into(), number, images: BTreeMap::new(), recipe: None, resource_version: None }
    }

    #[test]
    fn the_oldest_go_first_and_what_runs_or_is_coming_or_was_before_stays() {
        let all: Vec<Stored> = [("e", 5), ("d", 4), ("c", 3), ("b", 2), ("a", 1)].map(|(n, i)| stored(n, i)).into();
        let surplus =
            |keep: &[&str], limit| surplus(&all, &keep.iter().map(|name| (*name).to_owned()).collect(), limit);
        assert_eq!(surplus(&["e"], 4), Vec::<&str>::new());
        assert_eq!(surplus(&["e"], 3), ["a"]);
        assert_eq!(surplus(&["e"], 0), ["a", "b", "c", "d"]);
        // Gone back to an old one, with a new one coming.
        assert_eq!(surplus(&["a", "d", "e"], 2), ["b", "c"]);
        assert_eq!(surplus(&["a", "d", "e"], 3), ["b"]);
        assert_eq!(surplus(&["a", "d", "e"], 0), ["b", "c"]);
        assert_eq!(surplus(&[], 5), Vec::<&str>::new());
    }

    #[test]
    fn an_image_by_digest_is_its_repository_and_the_digest() {
        for (image, expected) in [
            ("nginx", "nginx@sha256:00ff"),
            ("nginx:1.29", "nginx@sha256:00ff"),
            ("r.example:5000/a/b", "r.example:5000/a/b@sha256:00ff"),
            ("r.example:5000/a/b:1", "r.example:5000/a/b@sha256:00ff"),
            ("a/b:1@sha256:11", "a/b@sha256:00ff"),
        ] {
            assert_eq!(by_digest(image, "sha256:00ff").as_deref(), Some(expected), "{image}");
        }
        for none in ["", "sha256:", "sha256:xyz", "00ff"] {
            assert_eq!(by_digest("nginx", none), None, "{none}");
        }
    }

    #[test]
    fn a_revision_that_is_not_kept_is_answered_with_those_that_are() {
        let all = [stored("bb", 2), stored("aa", 1)];
        assert_eq!(named(&all, "aa").unwrap().number, 1);
        for (all, said) in [(&all[..], "there is no revision `cc`: name one of bb, aa"), (&[], "none is kept")] {
            let Err(Fault::Terminal { reason: "RevisionMissing", message }) = named(all, "cc") else { panic!("found") };
            assert!(message.ends_with(said), "{message}");
        }
    }
}
