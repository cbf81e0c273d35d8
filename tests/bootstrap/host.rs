//! A container VM of the rig as a host: booted through the simulated `DigitalOcean`, reached by our own SSH client.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use cloudsim::digitalocean::TokenSpec;
use cloudsim::vms::VmsOptions;
use cloudsim::{Options, Sim};
use reqwest::Method;
use roadstead::api::names::{ClusterId, Mark};
use roadstead::host::bootstrap::{Act, Certificates, Error, Images, Packages, Wanted, run};
use roadstead::host::ssh::{self, Command, HostKeys, KeyPair, Session, Target, Upload};
use roadstead::host::table::{IDENTITY_PATH, Node, Route, Table};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::eventually;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

const TOKEN: &str = "dop_v1_canary";
/// A VM boots in seconds, but on a machine that builds something else it takes its time.
const BOOT: Duration = Duration::from_secs(180);
pub const SOON: Duration = Duration::from_secs(60);
/// What the identity path answers.
pub const NONCE: &str = "nonce-of-this-host";
/// The name that is served.
pub const NAME: &str = "web-1.example.com";

/// The rig has one network, and one address where VMs ask for names.
static ALONE: Mutex<()> = Mutex::const_new(());
/// What was pushed to the rig's registry, once for all tests of the process.
static IMAGES: OnceCell<(Images, String)> = OnceCell::const_new();

/// A VM that runs.
pub struct Host {
    sim: Sim,
    http: reqwest::Client,
    key: KeyPair,
    droplet: u64,
    pub address: Ipv4Addr,
    pub wanted: Wanted,
    /// The image of a small web server.
    pub app: String,
    /// The image of a site that does what its variables say.
    #[allow(dead_code, reason = "for the apps of other tests")]
    pub site: String,
    _alone: MutexGuard<'static, ()>,
}

/// Users of a VM.
pub const ROOT: &str = "root";
/// May become root.
pub const ADMIN: &str = "deploy";
/// May not.
pub const VISITOR: &str = "visitor";

/// The mark of the Node `web-<number>`.
pub fn mark(number: u8) -> Mark {
    let uid = format!("6f1f64a5-5d1c-4c35-9d6e-1f0c9b1e2a{number:02x}");
    Mark::new(ClusterId::parse("test1").unwrap(), "Node", "shop", &format!("web-{number}"), &uid).unwrap()
}

fn rig() -> (PathBuf, BTreeMap<String, String>) {
    let directory = std::env::var_os("ROADSTEAD_VM_RIG");
    let directory: PathBuf = directory
        .unwrap_or_else(|| panic!("ROADSTEAD_VM_RIG names no running rig: `make test-hosts` starts one"))
        .into();
    let env = std::fs::read_to_string(directory.join("env")).unwrap();
    (directory, pairs(&env))
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn images() -> (Images, String) {
    let push = async || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/images.sh");
        let pushed =
            tokio::process::Command::new(script).arg(rig().0).arg(env!("CARGO_BIN_EXE_roadstead")).output().await;
        let pushed = pushed.unwrap();
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
        let pushed = pairs(&String::from_utf8(pushed.stdout).unwrap());
        (Images { caddy: pushed["caddy"].clone(), router: pushed["router"].clone() }, pushed["site"].clone())
    };
    IMAGES.get_or_init(push).await.clone()
}

impl Host {
    /// Boots a VM that nobody has done anything to.
    pub async fn boot() -> Self {
        let alone = ALONE.lock().await;
        // Only the first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (images, site) = images().await;
        let (directory, rig) = rig();
        let vms = VmsOptions::of_rig(&directory).unwrap();
        // They go a moment after their test, and their address with them.
        eventually(SOON, "the end of the last test's VMs", async || {
            let engine = format!("unix://{}", rig["VM_ENGINE"]);
            let arguments = ["--config", &rig["VM_CLIENT"], "--host", &engine, "ps", "--all", "--quiet"];
            let listed =
                tokio::process::Command::new("docker").args(arguments).env_remove("DOCKER_CONTEXT").output().await;
            let listed = listed.map_err(|error| error.to_string())?;
            let left = String::from_utf8_lossy(&listed.stdout).into_owned() + &String::from_utf8_lossy(&listed.stderr);
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
        let options = Options { resolver: rig["VM_RESOLVER"].parse().unwrap(), vms: Some(vms), ..Options::default() };
        // The last test's simulator lets go of the address for names a moment after its test.
        let sim = eventually(SOON, "a simulator", async || {
            Sim::start(options.clone()).await.map_err(|error| error.to_string())
        });
        let sim = sim.await;
        sim.digitalocean.put_token(TokenSpec::new(TOKEN));
        let node = Node { nonce: NONCE.into(), health_path: "/healthz".into() };
        let wanted = Wanted {
            mark: mark(1),
            adopt: None,
            images,
            table: Table::new(node, [(NAME, Route::Placeholder)]).unwrap(),
            certificates: Certificates::Internal,
            edge: "10.89.0.0/24".parse().unwrap(),
            packages: Packages::default(),
        };
        let mut host = Self {
            sim,
            // A connection of its own for each request: one to a container that is gone would say nothing.
            http: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(0)
                .timeout(Duration::from_secs(10))
                .build()
                .unwrap(),
            key: KeyPair::generate("tests").unwrap(),
            droplet: 0,
            address: Ipv4Addr::UNSPECIFIED,
            wanted,
            app: rig["VM_APP"].clone(),
            site,
            _alone: alone,
        };
        host.order().await;
        host.settled().await;
        host
    }

    async fn order(&mut self) {
        let key = self.key.public_line();
        let user = |name: &str| json!({"name": name, "shell": "/bin/bash", "ssh_authorized_keys": [key]});
        let mut admin = user(ADMIN);
        admin["sudo"] = json!("ALL=(ALL) NOPASSWD:ALL");
        let config = json!({"disable_root": false, "ssh_authorized_keys": [key], "users": [admin, user(VISITOR)]});
        let order = json!({"name": "web-1", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
            "user_data": format!("#cloud-config\n{config}\n")});
        let made = self.call(Method::POST, "droplets", Some(order)).await;
        self.droplet = made["droplet"]["id"].as_u64().unwrap_or_else(|| panic!("{made}"));
        let path = format!("droplets/{}", self.droplet);
        self.address = eventually(BOOT, "an active droplet with an address", async || {
            let found = self.call(Method::GET, &path, None).await;
            let networks = found["droplet"]["networks"]["v4"].as_array().cloned().unwrap_or_default();
            let public = networks.iter().find(|network| network["type"] == "public");
            let address = public.and_then(|network| network["ip_address"].as_str()?.parse().ok());
            address.filter(|_| found["droplet"]["status"] == "active").ok_or_else(|| found.to_string())
        })
        .await;
    }

    /// Waits until its first boot is over.
    async fn settled(&self) {
        let said = eventually(BOOT, "the end of cloud-init", async || {
            let session = self.session(ROOT).await.map_err(|error| error.to_string())?;
            let wait = Command::new("cloud-init status --wait", BOOT);
            let output = session.exec(wait).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(String::from_utf8(output.stdout).unwrap())
        });
        assert!(said.await.contains("status: done"));
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/v2/{path}", self.sim.digitalocean_api());
        let mut request = self.http.request(method, url).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Restarts it, and waits until it lets us in again.
    pub async fn reboot(&self) {
        self.root("touch /run/of-this-boot").await;
        let path = format!("droplets/{}/actions", self.droplet);
        let action = self.call(Method::POST, &path, Some(json!({"type": "reboot"}))).await;
        let path = format!("actions/{}", action["action"]["id"]);
        eventually(BOOT, "the end of the reboot", async || {
            let found = self.call(Method::GET, &path, None).await;
            if found["action"]["status"] == "completed" { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        eventually(BOOT, "the next boot", async || {
            let session = self.session(ROOT).await.map_err(|error| error.to_string())?;
            let command = Command::new("test ! -e /run/of-this-boot", SOON);
            session.exec(command).await.and_then(|output| output.checked("looking")).map_err(|error| error.to_string())
        })
        .await;
    }

    /// A new connection.
    pub async fn session(&self, user: &str) -> Result<Session, ssh::Error> {
        let target = Target { address: self.address.to_string(), port: 22, user: user.to_owned() };
        let options = ssh::Options::default();
        Session::connect(&target, &self.key, &HostKeys::TrustOnFirstUse, &options, Duration::from_secs(10)).await
    }

    /// What a command of root prints, which has to succeed.
    pub async fn root(&self, command: &str) -> String {
        let session = self.session(ROOT).await.unwrap();
        let output = session.exec(Command::new(command, SOON)).await.unwrap().checked(command).unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Removes Docker, and gives it a repository that has it, signed by a new key; gives the SHA-256 of that.
    pub async fn take_docker(&self) -> String {
        let release = self.root(include_str!("take-docker.sh")).await;
        let home = tempfile::tempdir().unwrap();
        let gpg = async |arguments: &[&str]| {
            let mut gpg = tokio::process::Command::new("gpg");
            gpg.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir"]);
            let output = gpg.arg(home.path()).args(arguments).output().await.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let file = home.path().join("Release");
        std::fs::write(&file, format!("{release}\n")).unwrap();
        gpg(&["--quick-generate-key", "rig@example.com", "default", "sign", "1d"]).await;
        let signed = gpg(&["--output", "-", "--clearsign", file.to_str().unwrap()]).await;
        let key = gpg(&["--armor", "--export"]).await;
        // The agent that it started goes with its directory, but not at once.
        let killed =
            tokio::process::Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]).status();
        assert!(killed.await.unwrap().success());

        let session = self.session(ROOT).await.unwrap();
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&key));
        let codename = release.lines().find_map(|line| line.strip_prefix("Codename: ")).unwrap();
        for (path, bytes) in [(format!("dists/{codename}/InRelease"), signed), ("gpg".to_owned(), key)] {
            let upload = Upload::new(format!("/var/tmp/docker/debian/{path}"), bytes, 0o644, SOON);
            session.upload(upload).await.unwrap();
        }
        hash
    }

    /// Bootstraps it as this user; gives what was done.
    pub async fn bootstrap(&self, user: &str) -> Result<Vec<Act>, Error> {
        let session = self.session(user).await?;
        run(&session, &self.wanted, |act| eprintln!("{act}")).await
    }

    /// What was done, in words.
    pub async fn repaired(&self) -> Vec<String> {
        self.bootstrap(ROOT).await.unwrap().iter().map(ToString::to_string).collect()
    }

    /// Status, body and headers of a page.
    pub async fn page(&self, path: &str) -> Result<(u16, String, reqwest::header::HeaderMap), reqwest::Error> {
        let request = self.http.get(format!("http://{}{path}", self.address)).header("host", NAME);
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok((status, answer.text().await?, headers))
    }

    /// The host says whose it is, and has the placeholder for everything else.
    pub async fn serves(&self) {
        let (status, body, headers) = self.page(IDENTITY_PATH).await.unwrap();
        assert_eq!((status, body.as_str()), (200, NONCE), "{headers:?}");
        for (path, expected) in [("/healthz", 200), ("/", 503)] {
            let (status, body, headers) = self.page(path).await.unwrap();
            assert_eq!((status, body.trim()), (expected, "No application deployed yet"), "{path}");
            assert_eq!(headers["x-roadstead-placeholder"], "true", "{path}");
        }
    }

    /// The containers, with the time at which each was started.
    pub async fn containers(&self) -> String {
        self.root("docker inspect --format '{{.Name}} {{.Id}} {{.State.StartedAt}}' $(docker ps --all --quiet)").await
    }
}
