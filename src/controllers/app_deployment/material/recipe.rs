//! What a revision is made of, without a value of any Secret or ConfigMap: what is stored of it, what names it, and where
//! its parts are read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::objects::{Kind, Reference};
use crate::api::app_deployment::{AppDeploymentSpec, Entry, EnvSource, EnvVar, File, Image, KeyRef, LocalRef, Network};
use crate::host::compose::revision::{self, Runs, Source};
use crate::runtime::fault::Fault;

/// Stands for every version of an object whose change is no new revision.
const ANY: &str = "any";

/// What a revision is made of: the text of the Compose file, and the parts of the object's spec that say what runs.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Recipe {
    pub compose: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvSource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    pub entry: Entry,
    pub network: Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// The token of the restart it came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
}

/// The file's text may hold anything.
impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe").field("compose", &revision::compose_hash(&self.compose)).finish_non_exhaustive()
    }
}

/// Where a value is: an object, and a key of it.
pub(super) struct At<'a> {
    pub reference: Reference<'a>,
    pub key: &'a str,
}

impl Recipe {
    /// What `spec` says, with the text of its Compose file.
    pub fn of(spec: &AppDeploymentSpec, compose: String, restart: Option<String>) -> Self {
        Self {
            compose,
            images: spec.images.clone(),
            env: spec.env.clone(),
            env_from: spec.env_from.clone(),
            files: spec.compose.files.clone(),
            entry: spec.entry.clone(),
            network: spec.network,
            health_path: spec.health_path.clone(),
            restart,
        }
    }

    /// The name of the revision, its objects being of these `versions`.
    ///
    /// # Errors
    /// If a part of it cannot be understood.
    pub fn name(&self, versions: &BTreeMap<String, String>, roll: bool) -> Result<String, Fault> {
        let version = |of: &Reference<'_>| match versions.get(&format!("{}/{}", of.kind, of.name)) {
            Some(version) if roll => version.as_str(),
            _ => ANY,
        };
        let keys: Vec<String> =
            self.env_from.iter().map(|from| format!("{}*", from.prefix.as_deref().unwrap_or_default())).collect();
        let mut runs = Runs {
            compose: &self.compose,
            images: self.images.iter().map(|image| (image.service.as_str(), image.image.as_str())).collect(),
            entry: self.entry.service.as_deref(),
            port: self.entry.port.and_then(|port| u16::try_from(port).ok()),
            edge: self.network == Network::Edge,
            restart: self.restart.as_deref(),
            ..Runs::default()
        };
        for var in &self.env {
            let source = match of_variable(var)? {
                Some(at) => source(&at.reference, at.key, version(&at.reference)),
                None => Source::Spec(var.value.as_deref().unwrap_or_default()),
            };
            runs.variables.insert(&var.name, source);
            if !var.services.is_empty() {
                runs.only.insert(&var.name, var.services.iter().map(String::as_str).collect());
            }
        }
        for (index, (from, key)) in self.env_from.iter().zip(&keys).enumerate() {
            let reference = of_source(index, from)?;
            runs.all_of.push(source(&reference, key, version(&reference)));
        }
        for file in &self.files {
            let at = of_file(file)?;
            runs.files.insert(&file.path, source(&at.reference, at.key, version(&at.reference)));
        }
        Ok(revision::name(&runs))
    }

    /// Everything it is read from.
    ///
    /// # Errors
    /// If a part of it cannot be understood.
    pub fn references(&self) -> Result<Vec<Reference<'_>>, Fault> {
        let mut references = Vec::new();
        for var in &self.env {
            references.extend(of_variable(var)?.map(|at| at.reference));
        }
        for (index, from) in self.env_from.iter().enumerate() {
            references.push(of_source(index, from)?);
        }
        for file in &self.files {
            references.push(of_file(file)?.reference);
        }
        Ok(references)
    }
}

fn source<'a>(reference: &Reference<'a>, key: &'a str, version: &'a str) -> Source<'a> {
    let name = reference.name;
    match reference.kind {
        Kind::Secret => Source::Secret { name, key, version },
        Kind::ConfigMap => Source::ConfigMap { name, key, version },
    }
}

/// Where a variable is read; `None` if the spec says its value.
pub(super) fn of_variable(var: &EnvVar) -> Result<Option<At<'_>>, Fault> {
    let field = |which: &str| format!("spec.env[{}].{which}", var.name);
    match (&var.value, &var.secret_key_ref, &var.config_map_key_ref) {
        (Some(_), None, None) => Ok(None),
        (None, Some(key), None) => Ok(Some(at(Kind::Secret, key, field("secretKeyRef")))),
        (None, None, Some(key)) => Ok(Some(at(Kind::ConfigMap, key, field("configMapKeyRef")))),
        _ => Err(unknown(
            &format!("spec.env[{}]", var.name),
            "set exactly one of value, secretKeyRef and configMapKeyRef",
        )),
    }
}

/// What `envFrom` names.
pub(super) fn of_source(index: usize, from: &EnvSource) -> Result<Reference<'_>, Fault> {
    let field = |which: &str| format!("spec.envFrom[{index}].{which}");
    match (&from.secret_ref, &from.config_map_ref) {
        (Some(LocalRef { name }), None) => Ok(Reference { kind: Kind::Secret, name, field: field("secretRef") }),
        (None, Some(LocalRef { name })) => Ok(Reference { kind: Kind::ConfigMap, name, field: field("configMapRef") }),
        _ => Err(unknown(&format!("spec.envFrom[{index}]"), "set `secretRef` or `configMapRef`, and not both")),
    }
}

/// Where a file is read.
pub(super) fn of_file(file: &File) -> Result<At<'_>, Fault> {
    let field = |which: &str| format!("spec.compose.files[{}].{which}", file.path);
    match (&file.config_map_key_ref, &file.secret_key_ref) {
        (Some(key), None) => Ok(at(Kind::ConfigMap, key, field("configMapKeyRef"))),
        (None, Some(key)) => Ok(at(Kind::Secret, key, field("secretKeyRef"))),
        _ => Err(unknown(
            &format!("spec.compose.files[{}]", file.path),
            "set `configMapKeyRef` or `secretKeyRef`, and not both",
        )),
    }
}

fn at(kind: Kind, key: &KeyRef, field: String) -> At<'_> {
    At { reference: Reference { kind, name: &key.name, field }, key: &key.key }
}

/// What the schema does not admit, or a newer one does.
pub(super) fn unknown(field: &str, remedy: &str) -> Fault {
    Fault::terminal("UnknownValue", format!("{field}: {remedy}: this version of the operator knows nothing else"))
}
