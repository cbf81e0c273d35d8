//! Helm, and what it makes of the chart.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
pub const NAMESPACE: &str = "roadstead-system";

pub fn helm_program() -> String {
    let built = format!("{ROOT}/target/tools/helm");
    let built = if std::path::Path::new(&built).exists() { built } else { "helm".to_owned() };
    std::env::var("HELM").unwrap_or(built)
}

/// Runs helm. `Err` is what it printed for a person.
pub fn helm(args: &[&str]) -> Result<String, String> {
    let program = helm_program();
    // Its caches and settings are the caller's own otherwise.
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(&program)
        .args(args)
        .env("HELM_CACHE_HOME", home.path().join("cache"))
        .env("HELM_CONFIG_HOME", home.path().join("config"))
        .env("HELM_DATA_HOME", home.path().join("data"))
        .output()
        .unwrap_or_else(|error| panic!("{program} does not run ({error}): build it, or name one by HELM"));
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

pub fn chart() -> String {
    format!("{ROOT}/charts/roadstead")
}

/// The chart's objects with these `--set` settings.
pub fn rendered(settings: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let mut args = vec!["template", "roadstead", &chart, "--namespace", NAMESPACE];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    Ok(documents(&helm(&args)?))
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

pub fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind} was rendered"))
}

pub fn container(objects: &[Value]) -> &Value {
    &find(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
}

pub fn environment(container: &Value) -> BTreeMap<&str, &Value> {
    container["env"].as_array().unwrap().iter().map(|var| (var["name"].as_str().unwrap(), &var["value"])).collect()
}
