//! What the API server makes of the chart, and what the operator's service account may and may not do.

use serde_json::{Value, json};
use support::ControlPlane;

use crate::kubectl::Kubectl;
use crate::rig::{NAMESPACE, ROOT, chart, find, helm, rendered};

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
