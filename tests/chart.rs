//! The chart: what its values admit, what it renders, what the API server makes of it, and what the operator's
//! service account may and may not do.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use roadstead::cli::{Cli, Gateway, Settings};
use roadstead::gateway::{Rates, Signup};
use roadstead::host::bootstrap::{Certificates, Images, Packages};
use roadstead::metrics::Metrics;
use roadstead::store::Limits;
use serde_json::{Value, json};
use support::ControlPlane;

mod kubectl;
use kubectl::Kubectl;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NAMESPACE: &str = "roadstead-system";

fn helm_program() -> String {
    let built = format!("{ROOT}/target/tools/helm");
    let built = if std::path::Path::new(&built).exists() { built } else { "helm".to_owned() };
    std::env::var("HELM").unwrap_or(built)
}

/// Runs helm. `Err` is what it printed for a person.
fn helm(args: &[&str]) -> Result<String, String> {
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

fn chart() -> String {
    format!("{ROOT}/charts/roadstead")
}

/// The chart's objects with these `--set` settings.
fn rendered(settings: &[&str]) -> Result<Vec<Value>, String> {
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

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind} was rendered"))
}

fn container(objects: &[Value]) -> &Value {
    &find(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
}

fn environment(container: &Value) -> BTreeMap<&str, &Value> {
    container["env"].as_array().unwrap().iter().map(|var| (var["name"].as_str().unwrap(), &var["value"])).collect()
}

#[test]
fn the_chart_passes_helms_own_checks() {
    helm(&["lint", "--strict", &chart()]).unwrap();
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    let pinned = format!("hosts.caddyImage=caddy@sha256:{}", "a".repeat(64));
    for (setting, field) in [
        ("replica=2", "'replica' not allowed"),
        ("replicas=two", "/replicas"),
        ("settings.clusterId=My-Cluster", "/settings/clusterId"),
        ("settings.clusterId=abcdefghijklmnopq", "/settings/clusterId"),
        ("settings.resync=5", "/settings/resync"),
        ("settings.resyncInterval=5m", "'resyncInterval' not allowed"),
        ("settings.concurrency=0", "/settings/concurrency"),
        ("settings.resolvers={dns.example.com}", "/settings/resolvers/0"),
        ("settings.cloudflareApi=api.cloudflare.com", "/settings/cloudflareApi"),
        ("settings.probeAllowCidrs={10.0.0.1}", "/settings/probeAllowCidrs/0"),
        ("settings.readOnly=maybe", "/settings/readOnly"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.digest=latest", "/image/digest"),
        ("gateway.signup.mode=everybody", "/gateway/signup/mode"),
        ("hosts.caddyImage=caddy:2", "/hosts/caddyImage"),
        ("hosts.edgeSubnet=10.0.0.1", "/hosts/edgeSubnet"),
        ("hosts.jobs=0", "/hosts/jobs"),
        ("hosts.acme.directory=http://ca.example.com", "/hosts/acme/directory"),
        (pinned.as_str(), "hosts.routerImage is needed"),
        ("appNamespaces={My_Apps}", "/appNamespaces/0"),
        ("appNamespaces={roadstead-system}", "an app there could read the operator's credentials"),
        ("gateway.namespace=My_Groups", "/gateway/namespace"),
        ("gateway.history.size=256M", "/gateway/history/size"),
        ("gateway.trustedProxies={10.0.0.1}", "/gateway/trustedProxies/0"),
        ("gateway.enabled=true", "gateway.signup.tokenSecret is needed"),
        ("terminationGracePeriodSeconds=5", "/terminationGracePeriodSeconds"),
        ("podDisruptionBudget.enabled=true", "needs replicas of 2 or more"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
    ] {
        let refusal = rendered(&[setting]).expect_err(setting);
        assert!(refusal.contains(field), "{setting}: {refusal}");
    }
}

#[test]
fn every_value_has_a_schema_and_every_schema_a_value() {
    let read = |file: &str| std::fs::read_to_string(format!("{}/{file}", chart())).unwrap();
    let values: Value = serde_yaml::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    compare(&values, &schema, "values");
}

fn compare(values: &Value, schema: &Value, path: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} admits unknown fields");
    let keys = |object: &Value| -> BTreeSet<String> { object.as_object().unwrap().keys().cloned().collect() };
    // Helm hands `global` to every chart; `claims` is a rare part of resources.
    let known: BTreeSet<String> =
        properties.keys().filter(|key| !["global", "claims"].contains(&key.as_str())).cloned().collect();
    assert_eq!(keys(values), known, "{path}");
    for key in known {
        if values[&key].is_object() {
            compare(&values[&key], &properties[&key], &format!("{path}.{key}"));
        }
    }
}

#[test]
fn every_setting_reaches_the_operator_as_the_argument_it_stands_for() {
    let objects = rendered(&[
        "settings.clusterId=prod1",
        "settings.resolvers={9.9.9.9,127.0.0.1:5353}",
        "settings.resync=7m",
        "settings.orphanInterval=11m",
        "settings.settleTime=13s",
        "settings.concurrency=17",
        "settings.readOnly=true",
        "settings.probeAllowCidrs={10.0.0.0/8,192.168.0.0/16}",
        "settings.cloudflareApi=http://127.0.0.1:1/client/v4",
        "settings.digitaloceanApi=http://127.0.0.1:2",
        "settings.log=debug",
        "extraArgs={--ttl-wait-cap=19s}",
    ])
    .unwrap();
    let container = container(&objects);
    let settings = parsed(container);
    assert_eq!(settings.cluster_id.map(|id| id.as_str().to_owned()).as_deref(), Some("prod1"));
    assert_eq!(settings.resolvers, ["9.9.9.9:53".parse().unwrap(), "127.0.0.1:5353".parse().unwrap()]);
    assert_eq!(settings.resync, Duration::from_mins(7));
    assert_eq!(settings.orphan_interval, Duration::from_mins(11));
    assert_eq!(settings.settle_time, Duration::from_secs(13));
    assert_eq!(settings.concurrency, 17);
    assert!(settings.read_only);
    assert_eq!(settings.probe_allow_cidr, ["10.0.0.0/8".parse().unwrap(), "192.168.0.0/16".parse().unwrap()]);
    assert_eq!(settings.cloudflare_api, "http://127.0.0.1:1/client/v4");
    assert_eq!(settings.digitalocean_api, "http://127.0.0.1:2");
    assert_eq!(settings.ttl_wait_cap, Some(Duration::from_secs(19)));
    assert_eq!(environment(container)["RUST_LOG"], "debug");
}

#[test]
fn every_setting_of_hosts_reaches_the_operator_and_mounts_what_it_names() {
    let (caddy, router) = (format!("caddy@sha256:{}", "a".repeat(64)), format!("r/us@sha256:{}", "b".repeat(64)));
    let (key, roots) = ("c".repeat(64), "-----BEGIN CERTIFICATE-----".to_owned());
    let objects = rendered(&[
        &format!("hosts.caddyImage={caddy}"),
        &format!("hosts.routerImage={router}"),
        "hosts.acme.directory=https://ca.example.com/dir",
        "hosts.acme.email=ops@example.com",
        "hosts.acme.caConfigMap=acme-ca",
        "hosts.dockerPackages.repository=https://mirror.example.com/linux",
        &format!("hosts.dockerPackages.key={key}"),
        "hosts.edgeSubnet=10.1.0.0/24",
        "hosts.appSubnets=10.2.0.0/16",
        "hosts.jobs=5",
    ])
    .unwrap();
    let container = container(&objects);
    let hosts = parsed(container).hosts;
    assert_eq!(hosts.acme_ca_file.as_deref(), Some(std::path::Path::new("/etc/roadstead/acme-ca/ca.crt")));
    assert_eq!(hosts.app_subnets, "10.2.0.0/16".parse().unwrap());
    let settings = hosts.settings(Some(roots.clone()));
    assert_eq!(settings.images, Some(Images { caddy: caddy.clone(), router }));
    let directory = "https://ca.example.com/dir".to_owned();
    let email = Some("ops@example.com".to_owned());
    assert_eq!(settings.certificates, Certificates::Acme { directory, email, roots: Some(roots) });
    assert_eq!(settings.packages, Packages { repository: "https://mirror.example.com/linux".to_owned(), key });
    assert_eq!((settings.edge, settings.jobs), ("10.1.0.0/24".parse().unwrap(), 5));
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/etc/roadstead/acme-ca");
    let volume = &find(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!((&volume["name"], &volume["configMap"]["name"]), (&mount["name"], &json!("acme-ca")));

    // Hosts run the operator's own image where that is pinned.
    let digest = format!("sha256:{}", "d".repeat(64));
    let objects = rendered(&[
        "image.repository=registry.example.com/roadstead",
        &format!("image.digest={digest}"),
        &format!("hosts.caddyImage={caddy}"),
    ]);
    let hosts = parsed(self::container(&objects.unwrap())).hosts;
    assert_eq!(hosts.router_image, Some(format!("registry.example.com/roadstead@{digest}")));
}

#[test]
fn every_setting_of_the_gateway_reaches_the_operator_and_mounts_what_it_names() {
    let objects = rendered(&[
        "gateway.enabled=true",
        "gateway.namespace=groups",
        "gateway.zone=example-com",
        "gateway.signup.tokenSecret=signup",
        "gateway.signup.rate=3",
        "gateway.tlsSecret=certificate",
        "gateway.ratePerAddress=11",
        "gateway.ratePerKey=12",
        "gateway.trustedProxies={10.0.0.0/8,fd00::/8}",
        "gateway.history.existingClaim=disk",
        "gateway.history.age=24h",
        "gateway.history.size=1Gi",
        "gateway.service.port=443",
    ])
    .unwrap();
    let container = container(&objects);
    let gateway = parsed(container).gateway;
    let settings = gateway.settings().unwrap();
    assert_eq!(settings.address.port(), 8081);
    assert_eq!(settings.rates, Rates { per_address: at_most(11), per_key: at_most(12), signups: at_most(3) });
    assert_eq!(settings.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    assert_eq!((gateway.gateway_namespace.as_str(), gateway.gateway_zone.as_deref()), ("groups", Some("example-com")));
    assert_eq!(gateway.history_limits(), Limits { age: Duration::from_hours(24), bytes: 1 << 30 });
    let mounted = |path: &std::path::Path| {
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        let mount = mounts.clone().find(|mount| path.starts_with(mount["mountPath"].as_str().unwrap())).unwrap();
        let volumes = find(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap().clone()
    };
    let tls = settings.tls.unwrap();
    for (file, name) in [(&tls.certificate, "tls.crt"), (&tls.key, "tls.key")] {
        assert!(file.ends_with(name));
        assert_eq!(mounted(file)["secret"]["secretName"], "certificate");
    }
    let Signup::Token(Some(token)) = settings.signup else { panic!("{:?}", settings.signup) };
    assert_eq!(mounted(&token)["secret"]["secretName"], "signup");
    let history = gateway.history_file.unwrap();
    assert_eq!(mounted(&history)["persistentVolumeClaim"]["claimName"], "disk");
    let named = |name: &str| objects.iter().find(|o| o["kind"] == "Service" && o["metadata"]["name"] == name).unwrap();
    let service = &named("roadstead-gateway")["spec"];
    assert_eq!(service["selector"]["roadstead.dev/leader"], "true");
    assert_eq!(service["ports"][0], json!({"name": "https", "port": 443, "targetPort": "gateway"}));
    let pod = container["env"].as_array().unwrap().iter().find(|var| var["name"] == "POD_NAME").unwrap();
    assert_eq!(pod["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");

    // Values that are not named are the operator's own.
    let plain = rendered(&["gateway.enabled=true", "gateway.signup.mode=open"]).unwrap();
    let (chart, own) = (parsed(self::container(&plain)).gateway, parsed(&json!({"args": ["run"], "env": []})).gateway);
    let (chart, own) =
        (chart.settings().unwrap(), Gateway { gateway_addr: chart.gateway_addr, ..own }.settings().unwrap());
    assert_eq!((chart.rates, chart.trusted_proxies, chart.tls), (own.rates, own.trusted_proxies, own.tls));
}

fn at_most(rate: u32) -> std::num::NonZeroU32 {
    rate.try_into().unwrap()
}

#[test]
fn the_charts_defaults_are_the_operators_own() {
    let objects = rendered(&[]).unwrap();
    let (chart, mut own) = (parsed(container(&objects)), parsed(&json!({"args": ["run"], "env": []})));
    // Different in each process.
    own.identity.clone_from(&chart.identity);
    assert_eq!(format!("{chart:?}"), format!("{own:?}"));
}

/// What the operator would read from the container's arguments and environment.
fn parsed(container: &Value) -> Settings {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let flags: BTreeMap<&str, &str> =
        run.get_arguments().filter_map(|arg| Some((arg.get_env()?.to_str()?, arg.get_long()?))).collect();
    let mut line = vec!["roadstead".to_owned()];
    line.extend(container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned()));
    for var in container["env"].as_array().unwrap() {
        let name = var["name"].as_str().unwrap();
        if name.starts_with("ROADSTEAD_") {
            let flag = flags.get(name).unwrap_or_else(|| panic!("the operator knows no {name}"));
            // What Kubernetes fills in when the pod starts has no value yet.
            line.extend(var["value"].as_str().map(|value| format!("--{flag}={value}")));
        }
    }
    match Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}")).command {
        roadstead::cli::Command::Run(settings) => *settings,
        other => panic!("the chart starts {other:?}"),
    }
}

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

#[tokio::test]
async fn the_chart_installs_is_least_privileged_and_leaves_the_objects_when_it_goes() {
    let control_plane = ControlPlane::start().await;
    let kubectl = Kubectl::of(&control_plane);
    let chart = chart();
    let kubeconfig = control_plane.kubeconfig().to_string_lossy().into_owned();
    let release = |command: &str, rest: &[&str]| {
        let mut args = vec![command, "roadstead"];
        args.extend(rest);
        args.extend(["--namespace", NAMESPACE, "--kubeconfig", &kubeconfig]);
        helm(&args).unwrap_or_else(|error| panic!("helm {command}: {error}"))
    };
    let namespace = format!("{ROOT}/deploy/kubernetes/namespace.yaml");
    kubectl.run(&["apply", "-f", &namespace]).unwrap();
    let notes = release("install", &[&chart]);
    for said in ["BACK UP", "UNINSTALL", "roadstead.dev/credential=cloudflare", "kube-system"] {
        assert!(notes.contains(said), "the notes do not say {said}: {notes}");
    }
    kubectl.await_definitions();

    the_pod_is_admitted_where_only_restricted_pods_are(&kubectl);
    the_service_account_can_do_what_is_needed_and_no_more(&kubectl);
    release("upgrade", &[&chart, "--set", "gateway.enabled=true,gateway.signup.mode=open"]);
    the_gateway_adds_its_own_rights_and_no_more(&kubectl);
    kubectl.run(&["create", "namespace", "shop"]).unwrap();
    release("upgrade", &[&chart, "--set", "appNamespaces={shop,shop}"]);
    the_secrets_of_apps_are_read_where_the_values_say_and_nowhere_else(&kubectl);

    let zone = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "Zone", "metadata": {"name": "example-com"},
        "spec": {"domain": "example.com", "cloudflare": {"tokenSecretRef": {"name": "cloudflare"}},
            "allowedNamespaces": {"from": "All"}},
    });
    kubectl.feed(&["create", "-f", "-"], &zone.to_string()).unwrap();
    release("upgrade", &[&chart, "--set", "replicas=2"]);
    release("uninstall", &[]);
    assert_eq!(kubectl.run(&["get", "zones", "-o", "name"]).unwrap().trim(), "zone.roadstead.dev/example-com");
    assert_eq!(kubectl.run(&["get", "deployments", "-A", "-o", "name"]).unwrap(), "");
    let left = kubectl.run(&["get", "clusterroles", "-o", "name"]).unwrap();
    assert!(!left.contains("roadstead"), "{left}");
    // What was left does not stand in the way of the next installation.
    release("install", &[&chart]);
    release("uninstall", &[]);

    let manifests = format!("{ROOT}/deploy/kubernetes");
    kubectl.run(&["apply", "-k", &manifests]).unwrap();
    let again = kubectl.run(&["apply", "-k", &manifests]).unwrap();
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
}

fn the_pod_is_admitted_where_only_restricted_pods_are(kubectl: &Kubectl) {
    let objects = rendered(&[]).unwrap();
    let template = &find(&objects, "Deployment")["spec"]["template"];
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("operator");
    let admit =
        |pod: &Value| kubectl.feed(&["create", "--dry-run=server", "-n", NAMESPACE, "-f", "-"], &pod.to_string());
    admit(&pod).unwrap();
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refusal = admit(&pod).expect_err("the namespace admits anything");
    assert!(refusal.contains("violates PodSecurity \"restricted:latest\""), "{refusal}");
}

/// Whether the operator may, in a namespace or in all.
fn may(kubectl: &Kubectl, verb: &str, what: &str, namespace: &str) -> bool {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:roadstead");
    let mut args = vec!["auth", "can-i", verb];
    let (what, subresource) = what.split_once('#').unwrap_or((what, ""));
    let subresource = format!("--subresource={subresource}");
    args.extend([what, &subresource, &account]);
    if namespace.is_empty() {
        args.push("-A");
    } else {
        args.extend(["-n", namespace]);
    }
    // `no` is an exit status of 1, with nothing but warnings on the other stream.
    kubectl.run(&args).is_ok_and(|answer| answer.trim() == "yes")
}

fn the_gateway_adds_its_own_rights_and_no_more(kubectl: &Kubectl) {
    for (verb, what, namespace) in [
        ("create", "servergroups.roadstead.dev", "roadstead-groups"),
        ("delete", "servergroups.roadstead.dev", "roadstead-groups"),
        ("create", "tokenreviews.authentication.k8s.io", ""),
        ("create", "subjectaccessreviews.authorization.k8s.io", ""),
        ("create", "secrets", NAMESPACE),
        ("patch", "secrets", NAMESPACE),
        ("patch", "pods", NAMESPACE),
    ] {
        assert!(may(kubectl, verb, what, namespace), "may not {verb} {what}");
    }
    for (verb, what, namespace) in [
        ("create", "servergroups.roadstead.dev", ""),
        ("delete", "servergroups.roadstead.dev", "default"),
        ("list", "secrets", NAMESPACE),
        ("delete", "secrets", NAMESPACE),
        ("create", "secrets", "roadstead-groups"),
        ("get", "pods", NAMESPACE),
        ("delete", "pods", NAMESPACE),
        ("patch", "pods", "roadstead-groups"),
    ] {
        assert!(!may(kubectl, verb, what, namespace), "may {verb} {what} in `{namespace}`");
    }
}

fn the_secrets_of_apps_are_read_where_the_values_say_and_nowhere_else(kubectl: &Kubectl) {
    for what in ["secrets", "configmaps"] {
        assert!(may(kubectl, "get", what, "shop"), "may not get {what}");
        assert!(!may(kubectl, "get", what, "default"), "may get {what} of another namespace");
        for verb in ["list", "watch", "create", "patch", "update", "delete"] {
            assert!(!may(kubectl, verb, what, "shop"), "may {verb} {what}");
        }
    }
    assert!(!may(kubectl, "get", "configmaps", NAMESPACE), "may get ConfigMaps of its own namespace");
}

fn the_service_account_can_do_what_is_needed_and_no_more(kubectl: &Kubectl) {
    let may = |verb: &str, what: &str, namespace: &str| may(kubectl, verb, what, namespace);
    let own = ["zones", "providers", "nodes", "environments", "servergroups", "appdeployments", "hostnameclaims"]
        .map(|kind| format!("{kind}.roadstead.dev"));
    for kind in &own {
        for verb in ["get", "list", "watch", "patch"] {
            assert!(may(verb, kind, ""), "may not {verb} {kind}");
        }
        assert!(may("patch", &format!("{kind}#status"), ""), "may not write the status of {kind}");
    }
    let needed = [
        ("create", "nodes.roadstead.dev", ""),
        ("delete", "nodes.roadstead.dev", ""),
        ("delete", "environments.roadstead.dev", ""),
        ("create", "hostnameclaims.roadstead.dev", ""),
        ("delete", "hostnameclaims.roadstead.dev", ""),
        ("update", "appdeployments.roadstead.dev#finalizers", ""),
        ("get", "controllerrevisions.apps", ""),
        ("list", "controllerrevisions.apps", ""),
        ("create", "controllerrevisions.apps", ""),
        ("patch", "controllerrevisions.apps", ""),
        ("delete", "controllerrevisions.apps", ""),
        ("watch", "namespaces", ""),
        ("create", "events.events.k8s.io", ""),
        ("patch", "events.events.k8s.io", ""),
        ("get", "secrets", NAMESPACE),
        ("create", "secrets", NAMESPACE),
        ("patch", "secrets", NAMESPACE),
        ("create", "leases.coordination.k8s.io", NAMESPACE),
        ("update", "leases.coordination.k8s.io/roadstead", NAMESPACE),
    ];
    for (verb, what, namespace) in needed {
        assert!(may(verb, what, namespace), "may not {verb} {what}");
    }
    let too_much = [
        ("list", "secrets", NAMESPACE),
        ("watch", "secrets", NAMESPACE),
        ("update", "secrets", NAMESPACE),
        ("delete", "secrets", NAMESPACE),
        ("create", "secrets", "default"),
        ("patch", "secrets", "default"),
        ("get", "secrets", "default"),
        ("get", "secrets", "kube-system"),
        ("update", "leases.coordination.k8s.io/another", NAMESPACE),
        ("get", "leases.coordination.k8s.io/roadstead", "kube-system"),
        ("delete", "zones.roadstead.dev", ""),
        ("delete", "providers.roadstead.dev", ""),
        ("create", "environments.roadstead.dev", ""),
        ("create", "servergroups.roadstead.dev", ""),
        ("delete", "servergroups.roadstead.dev", ""),
        ("create", "appdeployments.roadstead.dev", ""),
        ("delete", "appdeployments.roadstead.dev", ""),
        ("get", "secrets", "shop"),
        ("get", "configmaps", "shop"),
        ("get", "deployments.apps", ""),
        ("patch", "namespaces", ""),
        ("get", "configmaps", NAMESPACE),
        ("create", "pods", NAMESPACE),
        ("get", "nodes", ""),
        ("create", "serviceaccounts#token", NAMESPACE),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io", ""),
        ("escalate", "clusterroles.rbac.authorization.k8s.io", ""),
    ];
    for (verb, what, namespace) in too_much {
        assert!(!may(verb, what, namespace), "may {verb} {what} in `{namespace}`");
    }
}
