//! What an AppDeployment refers to, read from a real API server with the rights the chart gives; and its revisions there.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use roadstead::api::app_deployment::AppDeployment;
use roadstead::controllers::app_deployment::material::{self, Around, Material, revisions};
use roadstead::runtime::fault::Fault;
use serde_json::{Value, json};
use support::{Cluster, ControlPlane, eventually};
use tower::util::MapRequestLayer;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const OPERATOR: &str = "roadstead-system";
const APP: &str = "roadstead.dev/v1alpha1/AppDeployment";
const REVISION: &str = "apps/v1/ControllerRevision";
const SECONDS: Duration = Duration::from_secs(20);

/// A cluster with the chart in it, whose `appNamespaces` names one namespace of two.
struct World {
    cluster: Cluster,
    /// With the rights of the operator's service account.
    client: Client,
    /// The path of every request of that client.
    asked: Arc<Mutex<Vec<String>>>,
    /// A namespace that the operator may read.
    shop: String,
    /// One that it may not.
    other: String,
}

impl World {
    async fn start(control_plane: &ControlPlane) -> Self {
        let cluster = control_plane.cluster().await;
        cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {OPERATOR}}}}}")).await;
        let (shop, other) = (cluster.namespace("shop").await, cluster.namespace("other").await);
        let (chart, named) = (format!("{ROOT}/charts/roadstead"), format!("appNamespaces={{{shop}}}"));
        cluster.helm(&["install", "roadstead", &chart, "--namespace", OPERATOR, "--set", &named]).await.unwrap();
        let kubeconfig = control_plane.service_account_kubeconfig(OPERATOR, "roadstead").await;
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let record = {
            let asked = asked.clone();
            move |request: Request<Body>| {
                asked.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
                request
            }
        };
        let client = ClientBuilder::try_from(config).unwrap().with_layer(&MapRequestLayer::new(record)).build();
        Self { cluster, client, asked, shop, other }
    }

    /// Applies an app and reads it back, as the controller would have it.
    async fn app(&self, namespace: &str, name: &str, spec: Value) -> AppDeployment {
        let mut whole = json!({"target": {"nodeRef": {"name": "web-1"}}, "compose": {"inline": "services: {}"}});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let object = json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment",
            "metadata": {"name": name, "namespace": namespace}, "spec": whole,
        });
        self.cluster.apply(&object.to_string()).await;
        self.again(namespace, name).await
    }

    async fn again(&self, namespace: &str, name: &str) -> AppDeployment {
        Api::namespaced(self.cluster.client(), namespace).get(name).await.unwrap()
    }

    async fn annotate(&self, app: &AppDeployment, key: &str, value: &str) -> AppDeployment {
        let (namespace, name) = (app.namespace().unwrap(), app.name_any());
        let change = json!({"metadata": {"annotations": {key: value}}});
        self.cluster.patch(APP, Some(&namespace), &name, &change).await;
        self.again(&namespace, &name).await
    }

    /// A Secret with one key.
    async fn secret(&self, namespace: &str, name: &str, key: &str, value: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "stringData": {key: value},
        });
        self.cluster.apply(&object.to_string()).await;
    }

    async fn read(&self, app: &AppDeployment) -> Result<Material, Fault> {
        material::read(&self.client, OPERATOR, app).await
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn around() -> Around {
    Around { health_path: "/".into(), host_access: false, external_timeout: Duration::from_mins(1) }
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

#[track_caller]
fn terminal(read: Result<Material, Fault>) -> (&'static str, String) {
    match read {
        Err(Fault::Terminal { reason, message }) => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn waiting(read: Result<Material, Fault>) -> (&'static str, String) {
    match read {
        Err(Fault::Waiting { reason, message, .. }) => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_read_with_the_charts_rights_and_its_revisions_lead_back() {
    let control_plane = ControlPlane::start().await;
    let world = World::start(&control_plane).await;
    what_is_missing_is_waited_for_by_name(&world).await;
    each_object_is_read_once_and_by_its_name(&world).await;
    what_may_not_be_read_says_what_would_let_it(&world).await;
    a_changed_secret_is_another_revision_where_that_is_wanted(&world).await;
    revisions_are_kept_in_their_order_and_lead_back(&world).await;
    a_revision_goes_with_its_app_and_one_of_another_app_is_left_alone(&world).await;
}

async fn what_is_missing_is_waited_for_by_name(world: &World) {
    let shop = &world.shop;
    let key = json!({"name": "missing", "key": "password"});
    let app = world.app(shop, "waiting", json!({"env": [{"name": "PASSWORD", "secretKeyRef": key}]})).await;
    let field = "spec.env[PASSWORD].secretKeyRef";
    let expected = format!("{field}: Secret {shop}/missing does not exist: create it, or name another");
    assert_eq!(waiting(world.read(&app).await), ("SecretMissing", expected));
    world.secret(shop, "missing", "user", "hunter2").await;
    let expected = format!("{field}: Secret {shop}/missing has no key `password`: add it, or name another");
    assert_eq!(waiting(world.read(&app).await), ("SecretKeyMissing", expected));
    world.secret(shop, "missing", "password", "hunter2").await;
    let spec = world.read(&app).await.unwrap().spec(&app, &around());
    assert_eq!(spec.values, texts([("PASSWORD", "hunter2")]));

    let compose = json!({"configMapKeyRef": {"name": "missing", "key": "compose.yaml"}});
    let app = world.app(shop, "waiting-for-map", json!({"compose": compose})).await;
    let (reason, message) = waiting(world.read(&app).await);
    let expected = format!("spec.compose.configMapKeyRef: ConfigMap {shop}/missing does not exist");
    assert!(reason == "ConfigMapMissing" && message.starts_with(&expected), "{message}");
}

async fn each_object_is_read_once_and_by_its_name(world: &World) {
    let shop = &world.shop;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files", "namespace": shop},
        "data": {"compose.yaml": "services: {web: {image: shop}}", "site.conf": "listen 80"},
        "binaryData": {"logo": "/w8="},
    });
    world.cluster.apply(&map.to_string()).await;
    world.secret(shop, "db", "PASSWORD", "hunter2").await;
    let pull = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": shop},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": r#"{"auths":{"r.example":{"username":"ci","password":"hunter3"}}}"#},
    });
    world.cluster.apply(&pull.to_string()).await;
    let file = |path: &str, key: &str| json!({"path": path, "configMapKeyRef": {"name": "files", "key": key}});
    let spec = json!({
        "compose": {
            "configMapKeyRef": {"name": "files", "key": "compose.yaml"},
            "files": [file("nginx/site.conf", "site.conf"), file("logo.png", "logo")],
        },
        "env": [{"name": "A", "secretKeyRef": {"name": "db", "key": "PASSWORD"}}],
        "envFrom": [{"secretRef": {"name": "db"}}, {"prefix": "DB_", "secretRef": {"name": "db"}}],
        "imagePullSecrets": [{"name": "pull"}],
    });
    let app = world.app(shop, "whole", spec).await;
    world.requests();
    let material = world.read(&app).await.unwrap();
    let path = |rest: &str| format!("GET /api/v1/namespaces/{shop}/{rest}");
    let expected: BTreeSet<String> = ["configmaps/files", "secrets/db", "secrets/pull"].map(path).into();
    let asked = world.requests();
    assert_eq!((asked.len(), asked.into_iter().collect()), (3, expected));

    let spec = material.spec(&app, &around());
    assert_eq!(spec.compose, "services: {web: {image: shop}}");
    assert_eq!(spec.values, texts([("A", "hunter2"), ("DB_PASSWORD", "hunter2"), ("PASSWORD", "hunter2")]));
    assert_eq!(
        (&spec.files["nginx/site.conf"][..], &spec.files["logo.png"][..]),
        (&b"listen 80"[..], &b"\xff\x0f"[..])
    );
    let registries = material.registries();
    assert_eq!((registries[0].host.as_str(), registries[0].password.as_str()), ("r.example", "hunter3"));
    assert_eq!(material.secrets(), ["hunter2", "hunter3"]);
}

async fn what_may_not_be_read_says_what_would_let_it(world: &World) {
    let env = json!({"env": [{"name": "A", "secretKeyRef": {"name": "db", "key": "password"}}]});
    let other = &world.other;
    world.secret(other, "db", "password", "hunter2").await;
    let app = world.app(other, "stranger", env.clone()).await;
    let expected = format!(
        "spec.env[A].secretKeyRef: the operator may not read Secret {other}/db: add `{other}` to the chart's value \
         `appNamespaces`, which makes the RoleBinding for it"
    );
    assert_eq!(terminal(world.read(&app).await), ("NamespaceNotReadable", expected));
    let map = json!({"envFrom": [{"configMapRef": {"name": "settings"}}]});
    let app = world.app(other, "stranger-too", map).await;
    let (reason, message) = terminal(world.read(&app).await);
    assert!(reason == "NamespaceNotReadable" && message.contains("may not read ConfigMap"), "{message}");
    // An app that refers to nothing needs no right.
    let app = world.app(other, "plain", json!({"env": [{"name": "A", "value": "1"}]})).await;
    world.requests();
    assert!(world.read(&app).await.is_ok());
    assert_eq!(world.requests(), Vec::<String>::new());

    // The operator may read its own Secrets, and no app may have them.
    world.secret(OPERATOR, "db", "password", "hunter2").await;
    let app = world.app(OPERATOR, "inside", env).await;
    world.requests();
    assert_eq!(terminal(world.read(&app).await).0, "OperatorNamespace");
    assert_eq!(world.requests(), Vec::<String>::new());

    // A name that leads out of the namespace is none, also where no definition refused it.
    let mut app = world.app(&world.shop, "climber", json!({})).await;
    let name = format!("../../{other}/secrets/db");
    let env = json!([{"name": "A", "secretKeyRef": {"name": name, "key": "password"}}]);
    app.spec.env = serde_json::from_value(env).unwrap();
    world.requests();
    assert_eq!(terminal(world.read(&app).await).0, "InvalidName");
    assert_eq!(world.requests(), Vec::<String>::new());
}

async fn a_changed_secret_is_another_revision_where_that_is_wanted(world: &World) {
    let env = json!([{"name": "A", "secretKeyRef": {"name": "changing", "key": "password"}}]);
    world.secret(&world.shop, "changing", "password", "hunter2").await;
    let rolled = world.app(&world.shop, "rolled", json!({ "env": env })).await;
    let fixed = world.app(&world.shop, "fixed", json!({"env": env, "rollOnSecretChange": false})).await;
    let read = async |app: &AppDeployment| world.read(app).await.unwrap();
    let before = [read(&rolled).await, read(&fixed).await];
    assert_eq!(before[0].revision_name(), read(&rolled).await.revision_name());
    world.secret(&world.shop, "changing", "password", "hunter3").await;
    let after = [read(&rolled).await, read(&fixed).await];
    assert_ne!(before[0].revision_name(), after[0].revision_name());
    assert_eq!(before[1].revision_name(), after[1].revision_name());
    assert_eq!(after[1].spec(&fixed, &around()).values, texts([("A", "hunter3")]));
    // What failed for want of the right password is tried again with another.
    assert_ne!(before[1].spec(&fixed, &around()).cause, after[1].spec(&fixed, &around()).cause);
}

/// The `ControllerRevision` of a revision.
async fn stored_object(world: &World, app: &AppDeployment, revision: &str) -> Value {
    let name = format!("{}-{revision}", app.name_any());
    let object = world.cluster.get(REVISION, Some(&world.shop), &name).await.unwrap();
    serde_json::to_value(object).unwrap()
}

#[expect(clippy::too_many_lines, reason = "one life of an app's revisions")]
async fn revisions_are_kept_in_their_order_and_lead_back(world: &World) {
    let (shop, client) = (&world.shop, &world.client);
    world.secret(shop, "keys", "password", "hunter2").await;
    let spec = |tag: &str| {
        json!({
            "images": [{"service": "web", "image": format!("r.example:5000/shop:{tag}")}],
            "compose": {
                "inline": format!("services: {{web: {{image: x, labels: {{tag: '{tag}'}}}}, db: {{image: postgres}}}}"),
                "files": [{"path": "key", "secretKeyRef": {"name": "keys", "key": "password"}}],
            },
            "env": [
                {"name": "PASSWORD", "secretKeyRef": {"name": "keys", "key": "password"}, "services": ["web", "db"]},
                {"name": "TAG", "value": tag},
            ],
            "envFrom": [{"prefix": "KEYS_", "secretRef": {"name": "keys"}}],
            "entry": {"service": "web", "port": 8080},
            "healthPath": format!("/{tag}"),
            "network": if tag == "1" { "Edge" } else { "App" },
            "preDeploy": {"command": ["migrate", tag]},
        })
    };
    let app = world.app(shop, "shop", spec("1")).await;
    let first = world.read(&app).await.unwrap();
    assert_eq!(revisions::list(client, &app).await.unwrap(), []);
    let made = revisions::ensure(client, &app, &[], &first).await.unwrap();
    let name = first.revision_name().to_owned();
    assert_eq!((made.name.as_str(), made.number), (name.as_str(), 1));

    // A pass that did not hear of it finds it; one that did writes nothing.
    assert_eq!(revisions::ensure(client, &app, &[], &first).await.unwrap(), made);
    let stored = revisions::list(client, &app).await.unwrap();
    assert_eq!(stored, [made.clone()]);
    world.requests();
    assert_eq!(revisions::ensure(client, &app, &stored, &first).await.unwrap(), made);
    assert_eq!(world.requests(), Vec::<String>::new());

    // It has no value of a Secret, and is the app's.
    let object = stored_object(world, &app, &name).await;
    assert!(!object.to_string().contains("hunter2") && object.to_string().contains("\"keys\""), "{object}");
    assert!(object["data"]["versions"]["Secret/keys"].is_string(), "{object}");
    assert_eq!(object["metadata"]["labels"]["roadstead.dev/app"], "shop");
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], json!(app.uid().unwrap()));

    // What its images are is noted once, whatever a tag means later.
    let images = texts([("web", "r.example:5000/shop:1"), ("db", "postgres"), ("built", "shop-built")]);
    let digests = texts([("web", "sha256:11aa"), ("db", "sha256:22bb")]);
    let noted = revisions::set_digests(client, &app, &made, &images, &digests).await.unwrap();
    let expected = texts([("web", "r.example:5000/shop@sha256:11aa"), ("db", "postgres@sha256:22bb")]);
    assert_eq!(noted.images, expected);
    world.requests();
    let later = texts([("web", "sha256:33cc")]);
    assert_eq!(revisions::set_digests(client, &app, &noted, &images, &later).await.unwrap(), noted);
    assert_eq!(world.requests(), Vec::<String>::new());
    assert_eq!(revisions::list(client, &app).await.unwrap(), [noted.clone()]);
    let status = noted.status();
    assert_eq!((status.compose_hash, status.images.len()), (Some(first.compose_hash()), 2));

    // Two more, one of them a restart.
    let app = world.app(shop, "shop", spec("2")).await;
    let second = world.read(&app).await.unwrap();
    let stored = revisions::list(client, &app).await.unwrap();
    assert_eq!(revisions::ensure(client, &app, &stored, &second).await.unwrap().number, 2);
    let app = world.annotate(&app, material::RESTART, "once").await;
    let third = world.read(&app).await.unwrap();
    assert_ne!(third.revision_name(), second.revision_name());
    let without = |material: &Material| {
        let spec = material.spec(&app, &around());
        (spec.compose, spec.images, spec.values, spec.files)
    };
    assert!(without(&third) == without(&second), "a restart runs the same");
    let stored = revisions::list(client, &app).await.unwrap();
    revisions::ensure(client, &app, &stored, &third).await.unwrap();
    let stored = revisions::list(client, &app).await.unwrap();
    let names: Vec<&str> = stored.iter().map(|stored| stored.name.as_str()).collect();
    assert_eq!(names, [third.revision_name(), second.revision_name(), &name]);

    // Back to the first: all of it is as it was, with the Secret's present value, and images by digest.
    world.secret(shop, "keys", "password", "hunter3").await;
    let app = world.annotate(&app, material::ROLLBACK, &name).await;
    let chosen = revisions::named(&stored, &name).unwrap();
    let back = revisions::material(client, OPERATOR, &app, chosen).await.unwrap();
    assert_eq!((back.revision_name(), back.compose_hash()), (name.as_str(), first.compose_hash()));
    let (was, is) = (first.spec(&app, &around()), back.spec(&app, &around()));
    assert!(was.compose == is.compose && was.only == is.only && was.entry == is.entry && was.edge && is.edge);
    assert_eq!((was.health_path.as_deref(), is.health_path.as_deref()), (Some("/1"), Some("/1")));
    let mut images = is.images.clone();
    images.sort();
    assert_eq!(images.into_iter().collect::<BTreeMap<_, _>>(), expected);
    let values = texts([("KEYS_password", "hunter3"), ("PASSWORD", "hunter3"), ("TAG", "1")]);
    assert_eq!((is.values, &is.files["key"][..]), (values, &b"hunter3"[..]));
    assert!(is.pre_deploy.is_none() && third.spec(&app, &around()).pre_deploy.is_some());
    let again = revisions::ensure(client, &app, &stored, &back).await.unwrap();
    assert_eq!((again.number, &again.images), (4, &expected));
    let (reason, message) = match revisions::named(&stored, "0000000000") {
        Err(Fault::Terminal { reason, message }) => (reason, message),
        other => panic!("{other:?}"),
    };
    assert!(reason == "RevisionMissing" && message.contains(&name), "{message}");

    // What a revision needs and is gone by now is named, and of which revision.
    world.cluster.delete_object("v1/Secret", Some(shop), "keys").await;
    let (reason, message) = waiting(revisions::material(client, OPERATOR, &app, chosen).await);
    let expected = format!("revision {name}: spec.env[PASSWORD].secretKeyRef: Secret {shop}/keys does not exist");
    assert!(reason == "SecretMissing" && message.starts_with(&expected), "{message}");

    // One that nobody here can read is no guess, and is there all the same.
    let newer = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 5, "data": {"parcels": []},
        "metadata": {
            "name": "shop-newer", "namespace": shop, "labels": {"roadstead.dev/app": "shop"},
            "ownerReferences": stored_object(world, &app, &name).await["metadata"]["ownerReferences"],
        },
    });
    world.cluster.apply(&newer.to_string()).await;
    let stored = revisions::list(client, &app).await.unwrap();
    assert_eq!((stored[0].name.as_str(), stored[0].number), ("newer", 5));
    let (reason, message) = terminal(revisions::material(client, OPERATOR, &app, &stored[0]).await);
    assert!(reason == "RevisionUnreadable" && message.contains("revision newer"), "{message}");
    world.cluster.delete_object(REVISION, Some(shop), "shop-newer").await;

    // Pruned: never what is kept, and the oldest first.
    let stored = revisions::list(client, &app).await.unwrap();
    let keep = BTreeSet::from([name.clone(), third.revision_name().to_owned()]);
    assert_eq!(revisions::prune(client, &app, &stored, &keep, 5).await.unwrap(), Vec::<String>::new());
    let gone = revisions::prune(client, &app, &stored, &keep, 0).await.unwrap();
    assert_eq!(gone, [second.revision_name()]);
    // One that is gone already is no error.
    assert_eq!(revisions::prune(client, &app, &stored, &keep, 0).await.unwrap(), gone);
    let left = revisions::list(client, &app).await.unwrap();
    assert_eq!(left.iter().map(|stored| &stored.name).collect::<Vec<_>>(), [&name, third.revision_name()]);
}

async fn a_revision_goes_with_its_app_and_one_of_another_app_is_left_alone(world: &World) {
    let (shop, client) = (&world.shop, &world.client);
    let app = world.app(shop, "brief", json!({})).await;
    let material = world.read(&app).await.unwrap();
    let name = format!("brief-{}", material.revision_name());
    let foreign = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {"compose": "services: {}"},
        "metadata": {"name": name, "namespace": shop, "labels": {"roadstead.dev/app": "brief"}},
    });
    world.cluster.apply(&foreign.to_string()).await;
    assert_eq!(revisions::list(client, &app).await.unwrap(), []);
    let Err(Fault::Waiting { reason: "RevisionTaken", message, .. }) =
        revisions::ensure(client, &app, &[], &material).await
    else {
        panic!("another's revision was taken")
    };
    assert!(message.contains(&name), "{message}");
    world.cluster.delete_object(REVISION, Some(shop), &name).await;
    revisions::ensure(client, &app, &[], &material).await.unwrap();
    world.cluster.delete_object(APP, Some(shop), "brief").await;
    eventually(SECONDS, "the revision to go with its app", async || {
        world.cluster.get(REVISION, Some(shop), &name).await.is_none()
    })
    .await;
}
