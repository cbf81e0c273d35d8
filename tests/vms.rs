//! Droplets as containers, on the rig that `make test-hosts` starts: made, restarted and deleted through the simulated
//! `DigitalOcean`, and looked at as hosts, by OpenSSH from outside and from within.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say bluntly what they expect")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloudsim::cloudflare::{Draft, ZoneSpec};
use cloudsim::digitalocean::TokenSpec;
use cloudsim::vms::VmsOptions;
use cloudsim::{Options, Sim};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::eventually;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};

const TOKEN: &str = "dop_v1_canary";
/// A VM boots in seconds, but two of them on a machine that builds something else take their time.
const BOOT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);

/// The rig has one network, and one address where VMs ask for names.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A simulated cloud whose droplets run, and the keys by which they are known.
struct Cloud {
    sim: Sim,
    rig: BTreeMap<String, String>,
    http: reqwest::Client,
    keys: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// A droplet that runs.
#[derive(Debug)]
struct Vm {
    id: u64,
    address: Ipv4Addr,
}

fn rig_directory() -> PathBuf {
    let directory = std::env::var_os("ROADSTEAD_VM_RIG");
    directory.unwrap_or_else(|| panic!("ROADSTEAD_VM_RIG names no running rig: `make test-hosts` starts one")).into()
}

/// What a program printed, or complained of.
async fn run(command: &mut Command) -> Result<String, String> {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{said}\n{}", String::from_utf8_lossy(&output.stderr))) }
}

impl Cloud {
    async fn start() -> Self {
        Self::with_vms(|_| {}).await
    }

    async fn with_vms(change: impl FnOnce(&mut VmsOptions)) -> Self {
        let alone = ALONE.lock().await;
        // Only the first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = rig_directory();
        let env = std::fs::read_to_string(directory.join("env")).unwrap();
        let pairs = env.lines().filter_map(|line| line.split_once('='));
        let rig: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut vms = VmsOptions::of_rig(&directory).unwrap();
        change(&mut vms);
        let options = Options { resolver: rig["VM_RESOLVER"].parse().unwrap(), vms: Some(vms), ..Options::default() };
        // The last test's simulator lets go of the address for names a moment after its test.
        let sim = eventually(SOON, "a simulator", async || {
            Sim::start(options.clone()).await.map_err(|error| error.to_string())
        });
        let sim = sim.await;
        sim.digitalocean.put_token(TokenSpec::new(TOKEN));
        let keys = TempDir::new().unwrap();
        for name in ["person", "host"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(keys.path().join(name))
                .status()
                .await;
            assert!(made.unwrap().success());
        }
        let http = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
        Self { sim, rig, http, keys, _alone: alone }
    }

    fn key(&self, file: &str) -> String {
        std::fs::read_to_string(self.keys.path().join(file)).unwrap()
    }

    /// User data that lets the person in as root, gives the host its key, and counts how often it is run.
    fn user_data(&self) -> String {
        let config = json!({
            "disable_root": false,
            "ssh_authorized_keys": [self.key("person.pub").trim()],
            "ssh_keys": {"ed25519_private": self.key("host"), "ed25519_public": self.key("host.pub").trim()},
            "runcmd": [["sh", "-c", "echo once >>/var/lib/user-data-ran"]],
        });
        format!("#cloud-config\n{config}\n")
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let url = format!("{}/v2/{path}", self.sim.digitalocean_api());
        let mut request = self.http.request(method, url).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Orders a droplet; gives its id and that of its create action.
    async fn order(&self, name: &str) -> (u64, u64) {
        let order = json!({"name": name, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
            "user_data": self.user_data()});
        let (status, made) = self.call(Method::POST, "droplets", Some(order)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{made}");
        (made["droplet"]["id"].as_u64().unwrap(), made["links"]["actions"][0]["id"].as_u64().unwrap())
    }

    /// A droplet that the API calls active and gives an address.
    async fn boot(&self, name: &str) -> Vm {
        let (id, action) = self.order(name).await;
        assert_eq!(self.outcome(action).await, "completed", "the rig's logs are in target/vm/logs");
        let address = eventually(BOOT, "an active droplet with an address", async || {
            let (_, found) = self.call(Method::GET, &format!("droplets/{id}"), None).await;
            let networks = found["droplet"]["networks"]["v4"].as_array().cloned().unwrap_or_default();
            let public = networks.iter().find(|network| network["type"] == "public");
            let address = public.and_then(|network| network["ip_address"].as_str()?.parse().ok());
            address.filter(|_| found["droplet"]["status"] == "active").ok_or_else(|| found.to_string())
        });
        Vm { id, address: address.await }
    }

    /// Waits for the end of an action.
    async fn outcome(&self, action: u64) -> String {
        eventually(BOOT, "the end of an action", async || {
            let (_, found) = self.call(Method::GET, &format!("actions/{action}"), None).await;
            let status = found["action"]["status"].as_str().map(str::to_owned);
            status.filter(|status| status != "in-progress").ok_or_else(|| found.to_string())
        })
        .await
    }

    async fn act(&self, vm: &Vm, kind: &str) {
        let path = format!("droplets/{}/actions", vm.id);
        let (status, action) = self.call(Method::POST, &path, Some(json!({"type": kind}))).await;
        assert_eq!(status, StatusCode::CREATED, "{action}");
        assert_eq!(self.outcome(action["action"]["id"].as_u64().unwrap()).await, "completed", "{kind}");
    }

    /// Deletes a droplet and waits until the API knows it no more.
    async fn delete(&self, id: u64) {
        let path = format!("droplets/{id}");
        assert_eq!(self.call(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
        eventually(SOON, "the droplet to be gone", async || {
            let (status, found) = self.call(Method::GET, &path, None).await;
            if status == StatusCode::NOT_FOUND { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
    }

    /// Runs a command on a VM as root. The VM must prove to be the one that was given the host key.
    async fn ssh(&self, vm: &Vm, command: &str) -> Result<String, String> {
        let known = self.keys.path().join("known_hosts");
        std::fs::write(&known, format!("* {}", self.key("host.pub"))).unwrap();
        run(Command::new("ssh")
            .args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5"])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null", "-o"])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .arg("-i")
            .arg(self.keys.path().join("person"))
            .arg(format!("root@{}", vm.address))
            .arg(command))
        .await
    }

    /// Waits until a VM lets the person in.
    async fn reachable(&self, vm: &Vm) {
        eventually(BOOT, "an answer by SSH", async || self.ssh(vm, "true").await).await;
    }

    /// The rig's engine.
    async fn engine(&self, arguments: &[&str]) -> Result<String, String> {
        engine(&self.rig, arguments).await
    }

    /// The container and the volumes of a VM.
    async fn remains(&self, vm: &Vm) -> (String, Vec<String>) {
        let label = format!("label=roadstead.droplet={}", vm.id);
        let container = self.engine(&["ps", "--all", "--quiet", "--filter", &label]).await.unwrap();
        let names = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{println .Name}}{{end}}{{end}}";
        let volumes = self.engine(&["inspect", "--format", names, &container]).await.unwrap();
        (container, volumes.lines().map(str::to_owned).collect())
    }
}

async fn engine(rig: &BTreeMap<String, String>, arguments: &[&str]) -> Result<String, String> {
    let at = format!("unix://{}", rig["VM_ENGINE"]);
    let client = ["--config", &rig["VM_CLIENT"], "--host", &at];
    run(Command::new("docker").args(client).args(arguments).env_remove("DOCKER_CONTEXT")).await
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_droplet_runs_its_user_data_answers_ssh_and_runs_containers_of_the_registry() {
    let cloud = Cloud::start().await;
    let vm = cloud.boot("web-1").await;
    cloud.reachable(&vm).await;
    assert_eq!(cloud.ssh(&vm, "hostname").await.unwrap(), "web-1");

    let cloud_init = cloud.ssh(&vm, "cloud-init status --wait").await.unwrap();
    assert!(cloud_init.ends_with("status: done"), "{cloud_init}");
    assert_eq!(cloud.ssh(&vm, "cat /var/lib/user-data-ran").await.unwrap(), "once");

    let acme = cloud.ssh(&vm, &format!("curl -fsS {}", cloud.rig["VM_ACME"])).await.unwrap();
    assert!(acme.contains("newOrder"), "{acme}");

    cloud.ssh(&vm, &format!("docker run --detach --publish 80:8080 {}", cloud.rig["VM_APP"])).await.unwrap();
    let page = eventually(SOON, "the page of a container", async || {
        let answer = cloud.http.get(format!("http://{}/", vm.address)).send().await.ok()?;
        answer.text().await.ok()
    });
    assert_eq!(page.await.trim(), "v1");
    assert!(cloud.ssh(&vm, "docker compose version").await.unwrap().contains("v2."));
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_droplet_comes_back_from_a_reboot_and_leaves_nothing_when_it_is_deleted() {
    let cloud = Cloud::start().await;
    let vm = cloud.boot("web-1").await;
    cloud.reachable(&vm).await;
    cloud.ssh(&vm, "cloud-init status --wait && touch /run/of-this-boot").await.unwrap();

    cloud.act(&vm, "reboot").await;
    cloud.reachable(&vm).await;
    assert!(cloud.ssh(&vm, "test -e /run/of-this-boot").await.is_err(), "it was not restarted");
    assert!(cloud.ssh(&vm, "cloud-init status --wait").await.unwrap().ends_with("status: done"));
    assert_eq!(cloud.ssh(&vm, "cat /var/lib/user-data-ran").await.unwrap(), "once", "user data runs at the first boot");
    assert!(!cloud.ssh(&vm, "docker info --format {{.ServerVersion}}").await.unwrap().is_empty());

    cloud.act(&vm, "power_off").await;
    assert!(cloud.ssh(&vm, "true").await.is_err(), "it is off");
    cloud.act(&vm, "power_on").await;
    cloud.reachable(&vm).await;

    let (container, volumes) = cloud.remains(&vm).await;
    assert_eq!((container.lines().count(), volumes.len()), (1, 1));
    cloud.delete(vm.id).await;
    assert!(cloud.engine(&["container", "inspect", &container]).await.is_err(), "the container is left");
    assert!(cloud.engine(&["volume", "inspect", &volumes[0]]).await.is_err(), "the volume is left");
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn droplets_reach_each_other_by_name_and_not_the_outside_and_end_with_the_simulator() {
    let cloud = Cloud::start().await;
    let (one, other) = (cloud.boot("web-1").await, cloud.boot("web-2").await);
    assert_ne!(one.address, other.address);
    let spec: ZoneSpec = serde_json::from_value(json!({"name": "example.com"})).unwrap();
    cloud.sim.cloudflare.add_zone(spec);
    let record = json!({"type": "A", "name": "web-2.example.com", "content": other.address, "ttl": 60});
    let record: Draft = serde_json::from_value(record).unwrap();
    cloud.sim.cloudflare.add_record("example.com", &record).unwrap();
    cloud.reachable(&one).await;
    cloud.reachable(&other).await;

    let greeting = "exec bash -c 'read -r greeting </dev/tcp/web-2.example.com/22; echo $greeting'";
    let greeting = cloud.ssh(&one, greeting).await.unwrap();
    assert!(greeting.starts_with("SSH-2.0-OpenSSH"), "{greeting}");
    assert_eq!(cloud.ssh(&one, "ip route show default").await.unwrap(), "", "a way out");
    let outside = cloud.ssh(&one, "exec bash -c 'exec 3<>/dev/tcp/203.0.113.1/80'").await.unwrap_err();
    assert!(outside.contains("Network is unreachable"), "{outside}");

    let (_, volumes) = cloud.remains(&one).await;
    let Cloud { sim, rig, _alone, .. } = cloud;
    drop(sim);
    eventually(SOON, "no container and no volume", async || {
        let containers = engine(&rig, &["ps", "--all", "--quiet"]).await?;
        let left = engine(&rig, &["volume", "ls", "--quiet"]).await?;
        let seeds = std::fs::read_dir(rig_directory().join("seeds")).map_err(|error| error.to_string())?.count();
        let gone = containers.is_empty() && !left.contains(&volumes[0]) && seeds == 0;
        if gone { Ok(()) } else { Err(format!("{containers}\n{left}\n{seeds}")) }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs the rig for container VMs: `make test-hosts`"]
async fn a_droplet_whose_vm_cannot_be_made_is_errored_and_can_be_deleted() {
    let cloud = Cloud::with_vms(|vms| vms.image = "roadstead-vm:of-nobody".to_owned()).await;
    let (id, action) = cloud.order("web-1").await;
    assert_eq!(cloud.outcome(action).await, "errored");
    let (_, found) = cloud.call(Method::GET, &format!("droplets/{id}"), None).await;
    assert_eq!((&found["droplet"]["status"], &found["droplet"]["networks"]["v4"]), (&json!("new"), &json!([])));
    cloud.delete(id).await;
}

#[tokio::test]
#[ignore = "needs the rig for container VMs: `make test-hosts`"]
async fn a_simulator_without_its_engine_does_not_start() {
    let mut vms = VmsOptions::of_rig(&rig_directory()).unwrap();
    vms.engine = Path::new("/nowhere/docker.sock").to_owned();
    let refused = Sim::start(Options { vms: Some(vms), ..Options::default() }).await.unwrap_err().to_string();
    assert!(refused.contains("the engine of the rig does not answer"), "{refused}");
}
