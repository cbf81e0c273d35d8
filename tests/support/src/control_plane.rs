//! A real control plane (etcd, kube-apiserver, kube-controller-manager) in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::process::{Supervised, free_port, repository};

/// A running control plane with RBAC; stopped when dropped, and when the test process ends by whatever means.
///
/// Starting one takes about 3 s and it holds 400 MB: tests that can share use [`ControlPlane::shared`].
#[derive(Debug)]
pub struct ControlPlane {
    // Order matters: the processes must be gone before their directory is.
    _processes: Supervised,
    directory: Arc<TempDir>,
    kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Starts a control plane of the caller's own, building its programs first where they are missing (minutes).
    ///
    /// # Panics
    /// If it is not ready within 180 s; what the programs said last is on standard error.
    pub async fn start() -> Self {
        tokio::task::spawn_blocking(Self::start_blocking).await.expect("the control plane starts")
    }

    /// The control plane that all tests of this binary share. Names of namespaces and of cluster-scoped objects must be
    /// unique to the test ([`Cluster::namespace`], [`crate::unique`]); at most one operator may run against it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    fn start_blocking() -> Self {
        let scripts = repository().join("tests/controlplane");
        let built = Command::new(scripts.join("build.sh")).status().expect("tests/controlplane/build.sh runs");
        assert!(built.success(), "tests/controlplane/build.sh failed: see above");
        let directory = tempfile::Builder::new().prefix("roadstead-test-").tempdir().expect("a temporary directory");
        let start = scripts.join("start.sh");
        let (processes, line) = Supervised::start(
            &start,
            Command::new(&start).arg(programs()).arg(directory.path()).arg(free_port().to_string()),
            Duration::from_mins(3),
        );
        let kubeconfig = line.strip_prefix("ready ").unwrap_or_else(|| panic!("unexpected: {line}")).into();
        Self { _processes: processes, directory: Arc::new(directory), kubeconfig }
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The control plane's directory, removed with it: its logs, and room for generated files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The administrator's client configuration, without kube's retries: a test wants to see the first failure.
    pub async fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("the kubeconfig is readable");
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("the kubeconfig is valid");
        config.default_retry = false;
        config
    }

    /// A new administrator's client. Each test needs its own: a client's connections belong to the runtime that made it.
    pub async fn client(&self) -> Client {
        Client::try_from(self.config().await).expect("a client can be made")
    }

    /// The control plane as tests speak to it: manifests in, objects, conditions and events out.
    pub async fn cluster(&self) -> Cluster {
        Cluster::new(self.client().await, self.kubeconfig.clone())
    }

    /// Writes a kubeconfig for `server` (an API server or a proxy before it) that bears `token`.
    #[must_use]
    pub fn write_kubeconfig(&self, server: &str, token: &str) -> PathBuf {
        let path = self.directory().join(crate::unique("kubeconfig"));
        let mut cluster = serde_json::json!({ "server": server });
        if server.starts_with("https://") {
            let ca = self.directory().join("ca.crt");
            cluster["certificate-authority"] = ca.to_str().expect("the path is UTF-8").into();
        }
        let content = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
            "current-context": "local",
        });
        std::fs::write(&path, content.to_string()).expect("the kubeconfig is writable");
        path
    }

    /// The API server's address and the administrator's token.
    pub(crate) fn server_and_token(&self) -> (String, String) {
        let kubeconfig: serde_json::Value =
            serde_yaml::from_slice(&std::fs::read(&self.kubeconfig).expect("the kubeconfig is readable"))
                .expect("the kubeconfig is YAML");
        let text = |pointer| kubeconfig.pointer(pointer).and_then(serde_json::Value::as_str).expect(pointer).to_owned();
        (text("/clusters/0/cluster/server"), text("/users/0/user/token"))
    }

    /// A kubeconfig with the rights of a `ServiceAccount`, as a pod would have them; valid for one hour.
    ///
    /// # Panics
    /// If the `ServiceAccount` does not exist.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self
            .cluster()
            .await
            .kubectl(&["create", "token", name, "-n", namespace, "--duration=1h"])
            .await
            .expect("a token");
        self.write_kubeconfig(&self.server_and_token().0, token.trim())
    }
}

/// Where the control plane's programs are.
pub(crate) fn programs() -> PathBuf {
    repository().join("target/controlplane/bin")
}

/// The path of `kubectl`, preferring `KUBEBUILDER_ASSETS` as the scripts do.
pub(crate) fn kubectl() -> PathBuf {
    std::env::var_os("KUBEBUILDER_ASSETS")
        .map(|directory| PathBuf::from(directory).join("kubectl"))
        .filter(|path| path.exists())
        .unwrap_or_else(|| programs().join("kubectl"))
}
