//! A whole Roadstead on the rig: a control plane, simulated clouds whose droplets are container VMs, certificates from
//! pebble, and the operator with the images that it puts on hosts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cloudsim::Options;
use cloudsim::vms::VmsOptions;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{ApiProxy, Operator, OperatorOptions, condition, eventually};
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::visitor::Visitor;
use crate::world::{NODE, World, addresses, field};

/// A VM boots and is brought up in a quarter of a minute, but on a machine that builds something else it takes its time.
pub const BOOT: Duration = Duration::from_secs(300);
/// How long anything else may take there.
pub const SOON: Duration = Duration::from_secs(120);
/// How often the operator compares hosts with what they should be.
pub const RESYNC: Duration = Duration::from_secs(10);

/// The rig has one network, and one address where VMs ask for names.
static ALONE: Mutex<()> = Mutex::const_new(());
/// What the operator puts on hosts, pushed to the rig's registry once for all tests of the process.
static IMAGES: OnceCell<BTreeMap<String, String>> = OnceCell::const_new();

pub struct Rig {
    /// First, so that it goes first.
    pub world: World,
    pub env: BTreeMap<String, String>,
    directory: PathBuf,
    /// What the operator was started with.
    options: OperatorOptions,
    _alone: MutexGuard<'static, ()>,
}

/// A VM, seen by whoever owns the machine it runs on.
pub struct Vm<'a> {
    rig: &'a Rig,
    pub id: String,
    container: String,
}

fn directory() -> PathBuf {
    let directory = std::env::var_os("ROADSTEAD_VM_RIG");
    directory.unwrap_or_else(|| panic!("ROADSTEAD_VM_RIG names no running rig: `make test-hosts` starts one")).into()
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What a program printed, or complained of.
async fn run(command: &mut Command) -> Result<String, String> {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{said}\n{}", String::from_utf8_lossy(&output.stderr))) }
}

async fn script(name: &str, arguments: &[&str]) -> String {
    let path = support::repository().join("tests/vm").join(name);
    run(Command::new(path).arg(directory()).args(arguments)).await.unwrap()
}

impl Rig {
    /// Everything started; no VM is there yet.
    pub async fn start() -> Self {
        Self::with(|options| options).await
    }

    /// As [`Rig::start`], with other settings of the operator.
    pub async fn with(change: impl FnOnce(OperatorOptions) -> OperatorOptions) -> Self {
        let alone = ALONE.lock().await;
        // Only the first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = directory();
        let env = pairs(&std::fs::read_to_string(directory.join("env")).unwrap());
        let images =
            IMAGES.get_or_init(async || pairs(&script("images.sh", &[env!("CARGO_BIN_EXE_roadstead")]).await)).await;
        // The last test's simulator, and its VMs, go a moment after it.
        let engine = format!("unix://{}", env["VM_ENGINE"]);
        eventually(SOON, "the end of the last test's VMs", async || {
            let left = run(docker(&env["VM_CLIENT"], &engine).args(["ps", "--all", "--quiet"])).await?;
            let resolver = tokio::net::UdpSocket::bind(&env["VM_RESOLVER"]).await.map_err(|error| error.to_string());
            let tcp = tokio::net::TcpListener::bind(&env["VM_RESOLVER"]).await.map_err(|error| error.to_string());
            resolver.and(tcp.map(|_| ())).and(if left.is_empty() { Ok(()) } else { Err(left) })
        })
        .await;
        let clouds = Options {
            resolver: env["VM_RESOLVER"].parse().unwrap(),
            vms: Some(VmsOptions::of_rig(&directory).unwrap()),
            ..Options::default()
        };
        let settings = [
            ("--caddy-image", &images["caddy"]),
            ("--router-image", &images["router"]),
            ("--acme-directory", &env["VM_ACME"]),
            ("--acme-ca-file", &env["VM_AUTHORITY"]),
            ("--probe-ca-file", &env["VM_ACME_ROOT"]),
            ("--probe-allow-cidr", &env["VM_SUBNET"]),
        ];
        let mut started = None;
        let world = World::over(clouds, json!({"name": "example.com"}), |options| {
            let arguments = settings.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.clone()]).collect();
            let options = change(OperatorOptions { resync: RESYNC, arguments, ..options });
            started = Some(options.clone());
            options
        })
        .await;
        let options = started.unwrap();
        let yard = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "yard"},
            "spec": {"static": {"allowedCIDRs": [env["VM_SUBNET"]]}, "allowedNamespaces": {"from": "All"}}});
        world.cluster.apply(&yard.to_string()).await;
        Self { world, env, directory, options, _alone: alone }
    }

    /// Has another operator take over, with the same settings, which speaks to the API server through a proxy.
    pub async fn through_a_proxy(&mut self) -> ApiProxy {
        let proxy = ApiProxy::start(&self.world.control_plane).await;
        self.world.operator.terminate().await;
        let options = OperatorOptions { kubeconfig: Some(proxy.kubeconfig()), ..self.options.clone() };
        let addresses = addresses(&self.world.sim);
        self.world.operator = Operator::start(&self.world.control_plane, &addresses, options).await;
        proxy
    }

    /// The site that does what its variables say (`tests/vm/site`), in the rig's registry, by digest.
    pub fn site() -> &'static str {
        &IMAGES.get().unwrap_or_else(|| panic!("there is a rig"))["site"]
    }

    /// A file of the running rig.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What is in the rig's registry under this name: `caddy`, `router`, or `site`, which does what its variables say.
    #[allow(dead_code, reason = "for benchmarks")]
    pub fn image(name: &str) -> String {
        IMAGES.get().unwrap()[name].clone()
    }

    /// The rig's web server of this version, in its registry.
    pub async fn web(&self, version: &str) -> String {
        script("web.sh", &[version]).await
    }

    /// A version that complains with this line, and ends.
    pub async fn broken(&self, version: &str, line: &str) -> String {
        script("web.sh", &[version, line]).await
    }

    /// Asks for a Node whose host is managed; what `spec` says goes into its spec.
    pub async fn apply_node(&self, namespace: &str, name: &str, spec: Value) {
        let mut whole = json!({"providerRef": {"name": "do"}, "zoneRef": {"name": "example-com"}, "ttl": 60,
            "host": {"manage": "Caddy"}});
        if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
            whole.extend(spec);
        }
        let node = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Node", "spec": whole,
            "metadata": {"name": name, "namespace": namespace, "labels": {"tier": "web"}}});
        self.world.cluster.apply(&node.to_string()).await;
    }

    /// Waits until the Node is Ready and its host serves.
    pub async fn bootstrapped(&self, namespace: &str, name: &str) -> DynamicObject {
        for kind in ["Bootstrapped", "Ready"] {
            self.world.cluster.wait_condition(NODE, Some(namespace), name, kind, "True", BOOT).await;
        }
        self.world.node(namespace, name).await
    }

    /// Waits until a condition of the Node has this status and reason; gives its message.
    pub async fn says(&self, namespace: &str, name: &str, kind: &str, status: &str, reason: &str) -> String {
        eventually(BOOT, &format!("{kind}={status} ({reason}) of {name}"), async || {
            let node = self.world.node(namespace, name).await;
            let said = condition(&node, kind).cloned().unwrap_or_default();
            let met = said["status"] == status && said["reason"] == reason;
            if met { Ok(said["message"].as_str().unwrap_or_default().to_owned()) } else { Err(node.data.to_string()) }
        })
        .await
    }

    /// How often events about an object were given this reason, and their messages.
    pub async fn said(&self, kind: &str, namespace: &str, name: &str, reason: &str) -> (u64, String) {
        let events = self.world.cluster.events(kind, Some(namespace), name).await;
        let of_reason: Vec<_> = events.iter().filter(|event| event["reason"] == reason).collect();
        let times = of_reason.iter().map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum();
        (times, of_reason.iter().filter_map(|event| event["note"].as_str()).collect::<Vec<_>>().join("\n"))
    }

    /// The VM of a Node.
    pub async fn vm(&self, namespace: &str, name: &str) -> Vm<'_> {
        let node = self.world.node(namespace, name).await;
        self.vm_by_id(field(&node, "/status/vmID").as_str().unwrap_or_else(|| panic!("{name} has no VM"))).await
    }

    /// The VM of a droplet.
    pub async fn vm_by_id(&self, id: &str) -> Vm<'_> {
        let label = format!("label=roadstead.droplet={id}");
        // A droplet has its id before its container is made.
        let container = eventually(SOON, &format!("the container of VM {id}"), async || {
            let found = self.engine(&["ps", "--all", "--quiet", "--filter", &label]).await.unwrap();
            if found.lines().count() == 1 { Ok(found) } else { Err(format!("{found:?}")) }
        })
        .await;
        Vm { rig: self, id: id.to_owned(), container }
    }

    /// Somebody who knows nothing but names, and trusts the rig's ACME server.
    pub fn visitor(&self) -> Visitor {
        let root = std::fs::read(&self.env["VM_ACME_ROOT"]).unwrap();
        Visitor::new(&root, self.world.sim.resolver())
    }

    /// The rig's engine.
    pub async fn engine(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = format!("unix://{}", self.directory.join("docker.sock").display());
        run(docker(&self.env["VM_CLIENT"], &socket).args(arguments)).await
    }

    /// How many VMs run.
    pub fn vms(&self) -> usize {
        self.world.droplets().len()
    }
}

fn docker(client: &str, engine: &str) -> Command {
    let mut docker = Command::new("docker");
    docker.args(["--config", client, "--host", engine]).env_remove("DOCKER_CONTEXT").env_remove("DOCKER_HOST");
    docker
}

impl Vm<'_> {
    /// Runs a script there as root; what it printed, or complained of. It needs neither network nor keys.
    pub async fn run(&self, script: &str) -> Result<String, String> {
        self.rig.engine(&["exec", &self.container, "bash", "-c", script]).await
    }

    /// Restarts it, as a person would at the cloud's panel, and waits until it is up again.
    pub async fn reboot(&self) {
        self.run("touch /run/of-this-boot").await.unwrap();
        self.rig.engine(&["restart", "--time", "20", &self.container]).await.unwrap();
        eventually(BOOT, "the next boot", async || self.run("test ! -e /run/of-this-boot").await).await;
    }

    /// The containers that run there, by name.
    pub async fn containers(&self) -> Vec<String> {
        let listed = self.run("docker ps --format '{{.Names}}'").await.unwrap();
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}
