//! The cluster as a test speaks to it: manifests in; objects, conditions and events out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, ApiResource, Scope, oneshot};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control_plane::kubectl;
use crate::process::{tool, unique};
use crate::{WriteCounter, eventually};

/// The namespace the operator and its credentials live in.
pub const OPERATOR_NAMESPACE: &str = "roadstead-system";

/// A client with the helpers tests need. Kinds are given as `apiVersion/Kind`, for example `roadstead.dev/v1alpha1/Node`
/// or `v1/Secret`; a namespace is `None` for cluster-scoped objects.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
}

impl Cluster {
    pub(crate) fn new(client: Client, kubeconfig: PathBuf) -> Self {
        Self { client, kubeconfig }
    }

    /// The client itself, for typed access.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Applies every document of `yaml` (server-side, field manager `test`, forced), waiting up to 10 s for a kind whose
    /// CRD was only just created. A CRD is awaited until it is established and its objects can be
    /// watched.
    ///
    /// # Errors
    /// The API server's refusal of the first document that it refuses, with its name.
    pub async fn try_apply(&self, yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for object in documents(yaml) {
            let kind = full_kind(&object);
            let api = self.api(&kind, object.metadata.namespace.as_deref()).await;
            let name = object.name_any();
            let parameters = PatchParams::apply("test").force();
            let object = api
                .patch(&name, &parameters, &Patch::Apply(&object))
                .await
                .map_err(|error| anyhow::anyhow!("{kind} {name}: {error}"))?;
            if kind.ends_with("/CustomResourceDefinition") {
                self.wait_condition(&kind, None, &name, "Established", "True", Duration::from_secs(20)).await;
                self.wait_watchable(&object).await;
            }
            applied.push(object);
        }
        Ok(applied)
    }

    /// Waits until objects of a definition can be watched: for a moment after it is established the API server refuses
    /// that, and an operator that starts then hears late of what others wrote.
    async fn wait_watchable(&self, definition: &DynamicObject) {
        let field = |path: &str| definition.data.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = (field("/spec/group"), field("/spec/versions/0/name"));
        let kind = format!("{group}/{version}/{}", field("/spec/names/kind"));
        let (resource, _) = self.resolve(&kind).await;
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        eventually(Duration::from_secs(20), &format!("a watch of {kind}"), async || {
            api.watch(&WatchParams::default(), "0").await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// [`Cluster::try_apply`] for manifests that must be accepted.
    pub async fn apply(&self, yaml: &str) -> Vec<DynamicObject> {
        self.try_apply(yaml).await.unwrap_or_else(|error| panic!("not applied: {error}\n{yaml}"))
    }

    /// Applies every `.yaml` file of a directory, in the order of their names.
    pub async fn apply_directory(&self, directory: &Path) {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.expect("a directory entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{} holds no .yaml file", directory.display());
        for file in files {
            self.apply(&std::fs::read_to_string(&file).expect("a readable manifest")).await;
        }
    }

    /// Asks for the deletion of every object in `yaml`, without waiting for it; absent objects are fine.
    pub async fn delete(&self, yaml: &str) {
        for object in documents(yaml) {
            self.delete_object(&full_kind(&object), object.metadata.namespace.as_deref(), &object.name_any()).await;
        }
    }

    /// Asks for the deletion of one object, without waiting for it; an absent object is fine.
    pub async fn delete_object(&self, kind: &str, namespace: Option<&str>, name: &str) {
        match self.api(kind, namespace).await.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{kind} {name} is not deleted: {error}"),
        }
    }

    /// The object, or `None` if there is none.
    pub async fn get(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<DynamicObject> {
        self.api(kind, namespace)
            .await
            .get_opt(name)
            .await
            .unwrap_or_else(|error| panic!("{kind} {name} cannot be read: {error}"))
    }

    /// All objects of a kind, in one namespace or in all.
    pub async fn list(&self, kind: &str, namespace: Option<&str>) -> Vec<DynamicObject> {
        let (resource, _) = self.resolve(kind).await;
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, &resource),
            None => Api::all_with(self.client(), &resource),
        };
        api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("{kind} cannot be listed: {error}")).items
    }

    /// Merge-patches an object, as a person with `kubectl patch --type merge` would.
    pub async fn patch(&self, kind: &str, namespace: Option<&str>, name: &str, change: &Value) -> DynamicObject {
        let api = self.api(kind, namespace).await;
        api.patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap_or_else(|error| panic!("{kind} {name} is not patched: {error}"))
    }

    /// Merge-patches an object's status: what a second actor would see or break.
    pub async fn patch_status(&self, kind: &str, namespace: Option<&str>, name: &str, change: &Value) -> DynamicObject {
        let api = self.api(kind, namespace).await;
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap_or_else(|error| panic!("status of {kind} {name} is not patched: {error}"))
    }

    /// Waits until the object has condition `type_` with `status`, for the object's present generation where the
    /// condition names one; answers the object. A failure shows the conditions seen last.
    pub async fn wait_condition(
        &self,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        type_: &str,
        status: &str,
        deadline: Duration,
    ) -> DynamicObject {
        let what = format!("{kind} {name} to have {type_}={status}");
        eventually(deadline, &what, async || {
            let object = self.get(kind, namespace, name).await.ok_or("no such object")?;
            let current = condition(&object, type_).is_some_and(|condition| {
                condition["status"] == status
                    && condition["observedGeneration"]
                        .as_i64()
                        .is_none_or(|observed| Some(observed) == object.metadata.generation)
            });
            if current { Ok(object) } else { Err(object.data["status"].to_string()) }
        })
        .await
    }

    /// Waits until the object is gone. A failure shows the finalizers and the status that are left.
    pub async fn wait_gone(&self, kind: &str, namespace: Option<&str>, name: &str, deadline: Duration) {
        eventually(deadline, &format!("{kind} {name} to be gone"), async || {
            match self.get(kind, namespace, name).await {
                None => Ok(()),
                Some(object) => Err(format!("finalizers {:?}, {}", object.finalizers(), object.data["status"])),
            }
        })
        .await;
    }

    /// The events about an object, oldest first, from `events.k8s.io/v1`. Events about cluster-scoped objects lie in
    /// namespace `default`, so all namespaces are read.
    pub async fn events(&self, kind: &str, namespace: Option<&str>, name: &str) -> Vec<Value> {
        let short = kind.rsplit('/').next().unwrap_or(kind);
        let mut events: Vec<Value> = self
            .list("events.k8s.io/v1/Event", None)
            .await
            .into_iter()
            .map(|event| event.data)
            .filter(|event| {
                let about = &event["regarding"];
                about["kind"] == short && about["name"] == name && about["namespace"].as_str() == namespace
            })
            .collect();
        events.sort_by_key(|event| event["eventTime"].as_str().unwrap_or_default().to_owned());
        events
    }

    /// Creates a namespace of the test's own and answers its name, which begins with `prefix`.
    pub async fn namespace(&self, prefix: &str) -> String {
        let name = unique(prefix);
        self.ensure_namespace(&name).await;
        name
    }

    async fn ensure_namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client());
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Namespace");
        match api.create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("namespace {name} is not created: {error}"),
        }
    }

    /// Makes the operator's namespace if needed and, in it, a credential Secret as the operator accepts it: labelled
    /// `roadstead.dev/credential: <service>`, with key `token`. An existing one is replaced.
    pub async fn credential(&self, name: &str, service: &str, token: &str) {
        self.ensure_namespace(OPERATOR_NAMESPACE).await;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": name, "namespace": OPERATOR_NAMESPACE, "labels": {"roadstead.dev/credential": service},
            },
            "stringData": {"token": token},
        });
        self.apply(&secret.to_string()).await;
    }

    /// Counts the writes to every object of a kind from now on.
    pub async fn count_writes(&self, kind: &str) -> WriteCounter {
        let (resource, _) = self.resolve(kind).await;
        WriteCounter::start(Api::all_with(self.client(), &resource)).await
    }

    /// Runs `kubectl` as administrator; standard output, or standard error as the error.
    ///
    /// # Errors
    /// What kubectl printed when it failed.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(&kubectl(), arguments).await
    }

    /// Runs `helm` (of `target/tools`, else of `PATH`) as administrator; standard output, or standard error as the error.
    ///
    /// # Errors
    /// What helm printed when it failed, or that there is none (`tests/tools/helm/build.sh` builds it).
    pub async fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(&tool("helm"), arguments).await
    }

    async fn run(&self, program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| anyhow::anyhow!("{}: {error}", program.display()))?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            anyhow::bail!("{} {}: {}", program.display(), arguments.join(" "), String::from_utf8_lossy(&output.stderr))
        }
    }

    async fn api(&self, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (resource, capabilities) = self.resolve(kind).await;
        match (capabilities.scope, namespace) {
            (Scope::Cluster, _) => Api::all_with(self.client(), &resource),
            (Scope::Namespaced, namespace) => {
                Api::namespaced_with(self.client(), namespace.unwrap_or("default"), &resource)
            }
        }
    }

    async fn resolve(&self, kind: &str) -> (ApiResource, ApiCapabilities) {
        let (api_version, kind) = kind.rsplit_once('/').unwrap_or_else(|| panic!("`{kind}` is no apiVersion/Kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        eventually(Duration::from_secs(10), &format!("the API server to know {api_version}/{kind}"), async || {
            oneshot::pinned_kind(&self.client, &gvk).await
        })
        .await
    }
}

/// The condition of that type, as the API server has it.
#[must_use]
pub fn condition<'a>(object: &'a DynamicObject, type_: &str) -> Option<&'a Value> {
    object.data.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == type_)
}

fn documents(yaml: &str) -> Vec<DynamicObject> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("invalid YAML: {error}\n{yaml}")))
        .filter(|document| !document.is_null())
        .map(|document| serde_json::from_value(document).unwrap_or_else(|error| panic!("no object: {error}\n{yaml}")))
        .collect()
}

fn full_kind(object: &DynamicObject) -> String {
    let types = object.types.as_ref().expect("a manifest has apiVersion and kind");
    format!("{}/{}", types.api_version, types.kind)
}
