//! The rig itself: a test that trusts a control plane, a proxy or a kill needs these to be what they claim.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::api::{Api, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::json;
use support::{ApiProxy, Cluster, ControlPlane, Fate, Release, Supervised, eventually, repository, unique};

const SOON: Duration = Duration::from_secs(30);

fn named(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}})
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(named(name)).unwrap()
}

async fn through(proxy: &ApiProxy, namespace: &str) -> Api<ConfigMap> {
    let kubeconfig = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Api::namespaced(kube::Client::try_from(config).unwrap(), namespace)
}

async fn exists(cluster: &Cluster, namespace: &str, name: &str) -> bool {
    cluster.get("v1/ConfigMap", Some(namespace), name).await.is_some()
}

#[tokio::test]
async fn the_control_plane_collects_garbage_and_empties_namespaces() {
    let cluster = ControlPlane::shared().await.cluster().await;
    let namespace = cluster.namespace("rig").await;
    let at = Some(namespace.as_str());
    let owner = cluster
        .apply(&format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owner, namespace: {namespace}}}}}"))
        .await
        .remove(0);
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]);
    cluster
        .apply(
            &json!({"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": "owned", "namespace": namespace, "ownerReferences": reference}})
            .to_string(),
        )
        .await;
    cluster.delete_object("v1/ConfigMap", at, "owner").await;
    cluster.wait_gone("v1/ConfigMap", at, "owned", SOON).await;

    cluster.kubectl(&["create", "configmap", "left", "-n", &namespace]).await.unwrap();
    cluster.delete_object("v1/Namespace", None, &namespace).await;
    cluster.wait_gone("v1/Namespace", None, &namespace, SOON).await;
}

#[tokio::test]
async fn a_service_account_has_only_the_rights_it_was_given() {
    let control_plane = ControlPlane::shared().await;
    let cluster = control_plane.cluster().await;
    let namespace = cluster.namespace("rig").await;
    cluster.kubectl(&["create", "serviceaccount", "app", "-n", &namespace]).await.unwrap();
    let kubeconfig = control_plane.service_account_kubeconfig(&namespace, "app").await;
    let refused =
        cluster.kubectl(&["--kubeconfig", kubeconfig.to_str().unwrap(), "get", "secrets", "-n", &namespace]).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("Forbidden") && message.contains(&format!("{namespace}:app")), "{message}");
}

#[tokio::test]
async fn writes_to_an_object_are_counted_and_changes_of_its_spec_told_apart() {
    let cluster = ControlPlane::shared().await.cluster().await;
    let namespace = cluster.namespace("rig").await;
    let at = Some(namespace.as_str());
    let counter = cluster.count_writes("apps/v1/Deployment").await;
    let deployment = |replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": namespace},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": {
                "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}}})
        .to_string()
    };
    cluster.apply(&deployment(0)).await;
    cluster.apply(&deployment(0)).await;
    assert_eq!(counter.count(&namespace, "app").await.writes, 1, "a write that changes nothing is no revision");
    cluster.apply(&deployment(1)).await;
    cluster.patch_status("apps/v1/Deployment", at, "app", &json!({"status": {"replicas": 1}})).await;
    let count = counter.count(&namespace, "app").await;
    assert_eq!((count.writes, count.spec_changes, count.deleted), (3, 1, false));
    cluster.delete_object("apps/v1/Deployment", at, "app").await;
    cluster.wait_gone("apps/v1/Deployment", at, "app", SOON).await;
    assert!(counter.count(&namespace, "app").await.deleted);
}

#[tokio::test]
async fn the_proxy_records_writes_and_leaves_reads_leases_and_events_out() {
    let control_plane = ControlPlane::shared().await;
    let cluster = control_plane.cluster().await;
    let namespace = cluster.namespace("rig").await;
    let proxy = ApiProxy::start(control_plane).await;
    let api = through(&proxy, &namespace).await;
    api.create(&PostParams::default(), &config_map("a")).await.unwrap();
    api.get("a").await.unwrap();
    let client = api.into_client();
    let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
    leases.create(&PostParams::default(), &serde_json::from_value(named("l")).unwrap()).await.unwrap();
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": namespace}});
    events.create(&PostParams::default(), &serde_json::from_value(event).unwrap()).await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    api.delete("a", &kube::api::DeleteParams::default()).await.unwrap();

    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let writes: Vec<_> = proxy.writes().iter().map(|w| (w.number, w.method.to_string(), w.path.clone())).collect();
    assert_eq!(writes.len(), 2, "{writes:?}");
    assert!(writes[0].1 == "POST" && writes[0].2.starts_with(&path), "{writes:?}");
    assert!(writes[1].1 == "DELETE" && writes[1].2.starts_with(&format!("{path}/a")), "{writes:?}");
    assert!(proxy.writes()[0].body.starts_with(b"{"), "the body is kept");
    proxy.reset();
    assert!(proxy.writes().is_empty());
}

#[tokio::test]
async fn a_held_write_waits_and_is_then_dropped_or_committed_or_forwarded_even_if_its_client_is_gone() {
    let control_plane = ControlPlane::shared().await;
    let cluster = control_plane.cluster().await;
    let namespace = cluster.namespace("rig").await;
    let proxy = ApiProxy::start(control_plane).await;
    let late = Duration::from_millis(200);
    for (release, client_lives, told, fate) in [
        (Release::Forward, true, true, Fate::Answered(http::StatusCode::CREATED)),
        (Release::Drop, true, false, Fate::Dropped),
        (Release::Commit, true, false, Fate::ReplyLost(http::StatusCode::CREATED)),
        (Release::CommitLate(late), true, false, Fate::ReplyLost(http::StatusCode::CREATED)),
        (Release::Drop, false, false, Fate::Dropped),
        (Release::Commit, false, false, Fate::ReplyLost(http::StatusCode::CREATED)),
    ] {
        proxy.reset();
        let name = unique("held");
        let api = through(&proxy, &namespace).await;
        let mut held = proxy.hold(1);
        let map = config_map(&name);
        let client = tokio::spawn(async move { api.create(&PostParams::default(), &map).await });
        let write = held.arrived(SOON).await;
        assert_eq!((write.method.as_str(), write.fate), ("POST", Fate::Pending));
        assert!(!exists(&cluster, &namespace, &name).await, "{release:?}: held means not forwarded");
        if !client_lives {
            client.abort();
        }
        assert_eq!(held.release(release).await, fate, "{release:?}");
        assert_eq!(exists(&cluster, &namespace, &name).await, fate != Fate::Dropped, "{release:?}");
        match client.await {
            Ok(answer) => assert_eq!(answer.is_ok(), told, "{release:?}: {answer:?}"),
            Err(cancelled) => assert!(cancelled.is_cancelled() && !client_lives),
        }
    }
}

#[tokio::test]
async fn a_planned_fault_strikes_the_write_with_its_number_and_no_other() {
    let control_plane = ControlPlane::shared().await;
    let cluster = control_plane.cluster().await;
    let namespace = cluster.namespace("rig").await;
    let proxy = ApiProxy::start(control_plane).await;
    let api = through(&proxy, &namespace).await;
    proxy.drop_write(2);
    proxy.lose_reply(3);
    let mut told = Vec::new();
    for name in ["one", "two", "three", "four"] {
        told.push(api.create(&PostParams::default(), &config_map(name)).await.is_ok());
    }
    assert_eq!(told, [true, false, false, true]);
    for (name, there) in [("one", true), ("two", false), ("three", true), ("four", true)] {
        assert_eq!(exists(&cluster, &namespace, name).await, there, "{name}");
    }
}

#[tokio::test]
async fn a_watch_through_the_proxy_delivers_at_once() {
    use futures::{StreamExt, TryStreamExt};

    let control_plane = ControlPlane::shared().await;
    let cluster = control_plane.cluster().await;
    let namespace = cluster.namespace("rig").await;
    let proxy = ApiProxy::start(control_plane).await;
    let api = through(&proxy, &namespace).await;
    let mut events = api.watch(&kube::api::WatchParams::default().disable_bookmarks(), "0").await.unwrap().boxed();
    cluster.kubectl(&["create", "configmap", "seen", "-n", &namespace]).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(5), events.try_next()).await.expect("not buffered").unwrap();
    assert!(
        matches!(&event, Some(kube::api::WatchEvent::Added(map)) if map.metadata.name.as_deref() == Some("seen")),
        "{event:?}"
    );
}

#[tokio::test]
async fn a_program_ends_when_its_holder_lets_go_and_obeys_signals_before() {
    let directory = tempfile::tempdir().unwrap();
    let script = repository().join("tests/support/supervise.sh");
    let log = directory.path().join("log");
    let start = || {
        let mut command = Command::new(&script);
        command.arg(&log).args(["sleep", "600"]);
        let (process, pid) = Supervised::start(&script, &mut command, SOON);
        (process, std::path::Path::new("/proc").join(pid))
    };
    let (mut signalled, running) = start();
    assert!(running.exists());
    signalled.signal("KILL");
    assert_eq!(signalled.wait(SOON).await.code(), Some(128 + 9));
    assert!(!running.exists());

    let (held, running) = start();
    assert!(running.exists());
    drop(held);
    eventually(SOON, "the program to be gone", async || !running.exists()).await;
}

#[tokio::test]
async fn nothing_of_a_control_plane_is_left_when_its_owner_is_gone() {
    let control_plane = ControlPlane::start().await;
    let directory = control_plane.directory().to_owned();
    let programs = || -> usize {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("cwd")).ok())
            .filter(|cwd| cwd.starts_with(&directory))
            .count()
    };
    assert!(programs() >= 4, "etcd, the API server, the controllers and their script run in {}", directory.display());
    drop(control_plane);
    eventually(SOON, "every program to be gone", async || programs() == 0).await;
    assert!(!directory.exists());
}
