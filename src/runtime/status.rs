//! The one status writer: a merge patch with the resourceVersion it was computed from, or nothing at all.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use crate::api::status::Journal;

/// What every kind's status has.
pub trait Status: Clone + Default + PartialEq + Serialize + Send + Sync + 'static {
    /// `status.conditions`.
    fn conditions(&mut self) -> &mut Vec<Condition>;
    /// `status.observedGeneration`.
    fn observed_generation(&mut self) -> &mut Option<i64>;
    /// `status.journal`, for kinds that have one.
    fn journal(&mut self) -> Option<&mut Option<Journal>>;
}

macro_rules! status {
    ($type:ty, $journal:expr) => {
        impl Status for $type {
            fn conditions(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }
            fn observed_generation(&mut self) -> &mut Option<i64> {
                &mut self.observed_generation
            }
            fn journal(&mut self) -> Option<&mut Option<Journal>> {
                ($journal)(self)
            }
        }
    };
}

status!(crate::api::zone::ZoneStatus, |_: &mut Self| None);
status!(crate::api::provider::ProviderStatus, |_: &mut Self| None);
status!(crate::api::node::NodeStatus, |s| Some(journal_of_node(s)));
status!(crate::api::environment::EnvironmentStatus, |s| Some(journal_of_environment(s)));
status!(crate::api::server_group::ServerGroupStatus, |s| Some(journal_of_group(s)));
status!(crate::api::app_deployment::AppDeploymentStatus, |s| Some(journal_of_app(s)));

fn journal_of_node(status: &mut crate::api::node::NodeStatus) -> &mut Option<Journal> {
    &mut status.journal
}

fn journal_of_environment(status: &mut crate::api::environment::EnvironmentStatus) -> &mut Option<Journal> {
    &mut status.journal
}

fn journal_of_app(status: &mut crate::api::app_deployment::AppDeploymentStatus) -> &mut Option<Journal> {
    &mut status.journal
}

fn journal_of_group(status: &mut crate::api::server_group::ServerGroupStatus) -> &mut Option<Journal> {
    &mut status.journal
}

/// Writes the difference between the `old` status of `object` and the `new` one; `None` if there is none.
///
/// # Errors
/// [`Fault::Conflict`] if anybody else wrote the object since it was read.
pub async fn write<K, S>(api: &Api<K>, object: &K, old: &S, new: &S) -> Result<Option<K>, Fault>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
    S: Status,
{
    if old == new {
        return Ok(None);
    }
    let Some(status) = difference(&to_value(old)?, &to_value(new)?) else { return Ok(None) };
    let patch = json!({"metadata": {"resourceVersion": object.resource_version()}, "status": status});
    let (name, params, patch) = (object.name_any(), PatchParams::default(), Patch::Merge(patch));
    super::bounded(api.patch_status(&name, &params, &patch)).await.map(Some)
}

fn to_value<S: Serialize>(status: &S) -> Result<Value, Fault> {
    serde_json::to_value(status).map_err(|e| Fault::terminal("Internal", format!("a status does not serialise: {e}")))
}

/// The merge patch (RFC 7386) that turns `old` into `new`; `None` if they are equal.
#[must_use]
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        _ if old == new => None,
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = new.iter().filter_map(|(key, value)| {
                let before = old.get(key).unwrap_or(&Value::Null);
                Some((key.clone(), difference(before, value)?))
            });
            Some(Value::Object(gone.chain(changed).collect::<Map<_, _>>()))
        }
        _ => Some(new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_names_what_changed_and_nulls_what_went() {
        let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]});
        let new = json!({"a": 1, "b": {"c": 4}, "e": [1, 2], "f": {"g": 5}});
        assert_eq!(difference(&old, &new), Some(json!({"b": {"c": 4, "d": null}, "e": [1, 2], "f": {"g": 5}})));
        assert_eq!(difference(&old, &old), None);
    }
}
