//! Which objects are rendered, and that what is checked in is what they are rendered to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use roadstead::metrics::Metrics;

use crate::rig::{ROOT, find, helm_program, rendered};

#[test]
fn optional_objects_appear_when_asked_for_and_only_then() {
    let kinds = |settings: &[&str]| -> BTreeSet<String> {
        let objects = rendered(settings).unwrap();
        objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    };
    let plain = kinds(&[]);
    let expected = [
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(plain, expected.map(String::from).into());
    for (setting, kind) in [
        ("metrics.serviceMonitor.enabled=true", "ServiceMonitor"),
        ("metrics.prometheusRule.enabled=true", "PrometheusRule"),
        ("podDisruptionBudget.enabled=true", "PodDisruptionBudget"),
        ("gateway.enabled=true", "Namespace"),
    ] {
        let more = kinds(&[setting, "replicas=2", "gateway.signup.mode=closed"]);
        assert_eq!(more.difference(&plain).collect::<Vec<_>>(), [kind], "{setting}");
    }
    for (setting, kind) in [
        ("crds.install=false", "CustomResourceDefinition"),
        ("metrics.service.create=false", "Service"),
        ("rbac.create=false", "ClusterRole"),
    ] {
        assert!(!kinds(&[setting]).contains(kind), "{setting}");
    }
}

#[test]
fn alerts_speak_of_series_the_operator_exports() {
    let objects = rendered(&["metrics.prometheusRule.enabled=true"]).unwrap();
    let rules = &find(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"];
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    metrics.api_remaining("cloudflare", "zone/example-com", 1);
    metrics.orphans("vm", 1);
    metrics.objects("Node", "Error", 1);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let mut seen = 0;
    for rule in rules.as_array().unwrap() {
        let expression = rule["expr"].as_str().unwrap();
        for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("roadstead_") {
                seen += 1;
                let exported = text.lines().any(|line| line.starts_with(&format!("{word}{{")));
                assert!(exported, "{}: no series {word}", rule["alert"]);
            }
        }
    }
    assert!(seen >= 4, "only {seen} series are named");
}

#[test]
fn the_plain_manifests_and_the_charts_definitions_are_up_to_date() {
    let fresh = tempfile::tempdir().unwrap();
    let status =
        Command::new(format!("{ROOT}/charts/render.sh")).arg(fresh.path()).env("HELM", helm_program()).status();
    assert!(status.unwrap().success());
    same_files(&fresh.path().to_path_buf(), &format!("{ROOT}/deploy/kubernetes").into());
    same_files(&format!("{ROOT}/crds").into(), &format!("{ROOT}/charts/roadstead/files/crds").into());
}

fn same_files(right: &PathBuf, checked_in: &PathBuf) {
    let read = |dir: &PathBuf| -> BTreeMap<_, _> {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
    };
    let (right, found) = (read(right), read(checked_in));
    let names = |files: &BTreeMap<_, String>| files.keys().cloned().collect::<Vec<std::ffi::OsString>>();
    assert_eq!(names(&right), names(&found), "{} is out of date: run charts/render.sh", checked_in.display());
    for (name, text) in right {
        assert!(
            found[&name] == text,
            "{}/{} is out of date: run charts/render.sh",
            checked_in.display(),
            name.display()
        );
    }
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain() {
    let toolchain = std::fs::read_to_string(format!("{ROOT}/rust-toolchain.toml")).unwrap();
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    let dockerfile = std::fs::read_to_string(format!("{ROOT}/deploy/Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{version}")), "deploy/Dockerfile is not built with Rust {version}");
}
