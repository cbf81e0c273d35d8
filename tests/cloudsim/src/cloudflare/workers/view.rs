//! The JSON of scripts, versions and deployments.

use serde_json::{Value, json};

use super::script::{Deployment, Script, Version};

pub(super) fn script(name: &str, script: &Script) -> Value {
    let newest = script.versions.last();
    json!({
        "id": name, "tag": script.tag, "tags": script.tags, "created_on": script.created_on,
        "modified_on": script.modified_on, "etag": newest.map(|v| &v.code.etag), "has_modules": true,
        "has_assets": false, "handlers": ["fetch"], "last_deployed_from": "api", "usage_model": "standard",
        "compatibility_date": newest.map(|v| &v.compatibility_date), "logpush": false,
        "compatibility_flags": newest.map(|v| &v.compatibility_flags),
    })
}

/// Bindings as anybody may see them: secrets by name alone.
pub(super) fn bindings(version: &Version) -> Vec<Value> {
    let shown = version.bindings.iter().map(|binding| {
        let mut binding = binding.clone();
        if let Some(fields) = binding.as_object_mut().filter(|fields| fields["type"] == "secret_text") {
            fields.remove("text");
        }
        binding
    });
    shown.collect()
}

pub(super) fn settings(script: &Script, version: &Version) -> Value {
    json!({
        "bindings": bindings(version), "compatibility_date": version.compatibility_date,
        "compatibility_flags": version.compatibility_flags, "tags": script.tags, "usage_model": "standard",
        "logpush": false, "annotations": version.annotations, "placement": {}, "tail_consumers": null,
    })
}

/// A version, in a listing or `whole`.
pub(super) fn version(version: &Version, whole: bool) -> Value {
    let mut shown = json!({
        "id": version.id, "number": version.number, "annotations": version.annotations,
        "metadata": {"created_on": version.created_on, "modified_on": version.created_on, "source": "api",
            "author_email": "someone@example.com", "author_id": "0", "hasPreview": false},
    });
    if whole {
        shown["resources"] = json!({
            "bindings": bindings(version), "script": {"etag": version.code.etag, "handlers": ["fetch"],
                "last_deployed_from": "api"},
            "script_runtime": {"compatibility_date": version.compatibility_date, "usage_model": "standard",
                "compatibility_flags": version.compatibility_flags, "limits": {}},
        });
    }
    shown
}

pub(super) fn deployment(deployment: &Deployment) -> Value {
    let versions = deployment.versions.iter();
    let versions: Vec<_> = versions.map(|(v, share)| json!({"version_id": v.id, "percentage": share})).collect();
    json!({
        "id": deployment.id, "created_on": deployment.created_on, "source": "api", "strategy": "percentage",
        "author_email": "someone@example.com", "annotations": deployment.annotations, "versions": versions,
    })
}
