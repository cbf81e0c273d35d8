//! What a managed host has, and what the operator's own commands do to it: enough of Debian, Docker, Caddy and its routers
//! that bootstrapping goes from nothing to a host that serves, and finds everything in place from then on. Commands that
//! a host does not know are remembered, and fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, atomic::Ordering};

use data_encoding::HEXLOWER;
use roadstead::host::bootstrap::{EDGE, TABLE};
use roadstead::host::table::Table;
use serde_json::Value;
use sha2::{Digest, Sha256};

const ADMIN: &str = "/run/roadstead/caddy/admin.sock";
const COMPOSE: &str = "/opt/roadstead/caddy/compose.yaml";
const BOOTSTRAP: &str = "/opt/roadstead/caddy/etc/bootstrap.json";
const CADDY: &str = "caddy";
const ROUTERS: [(&str, &str); 2] =
    [("/run/roadstead/router/1.sock", "router-1"), ("/run/roadstead/router/2.sock", "router-2")];

/// A host.
pub struct Host {
    pub address: Ipv4Addr,
    /// Connections that were made, and those that are open.
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    /// Commands, requests and handshakes.
    pub trips: AtomicUsize,
    /// Commands and requests that changed something.
    pub writes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, (Vec<u8>, u32)>,
    directories: BTreeMap<String, (u32, String)>,
    images: BTreeSet<String>,
    networks: BTreeSet<String>,
    /// The definition of each container that runs, by service.
    containers: BTreeMap<String, String>,
    /// What Caddy was given.
    config: String,
    unknown: Vec<String>,
}

/// What became of a command.
#[derive(Default)]
pub struct Said {
    pub status: u32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Said {
    fn so(text: impl Into<Vec<u8>>) -> Self {
        Self { stdout: text.into(), ..Self::default() }
    }

    fn failed(status: u32, why: impl Into<Vec<u8>>) -> Self {
        Self { status, stderr: why.into(), ..Self::default() }
    }
}

impl Host {
    /// With Docker installed and nothing else.
    pub fn new(address: Ipv4Addr) -> Self {
        let counts = || AtomicUsize::new(0);
        let (connections, open, trips, writes) = (counts(), counts(), counts(), counts());
        Self { address, connections, open, trips, writes, state: Mutex::default() }
    }

    /// Whether Caddy runs.
    pub fn serves(&self) -> bool {
        self.state().containers.contains_key(CADDY)
    }

    /// Whether anybody listens at a socket.
    pub fn listens(&self, path: &str) -> bool {
        service(path).is_some_and(|service| self.state().containers.contains_key(service))
    }

    /// Takes Caddy's container away, as a person might.
    pub fn lose_caddy(&self) {
        let mut state = self.state();
        assert!(state.containers.remove(CADDY).is_some(), "{} has Caddy", self.address);
    }

    /// What it was asked to do that it does not know.
    pub fn unknown(&self) -> Vec<String> {
        self.state().unknown.clone()
    }

    /// Runs a command, given by its words.
    pub fn run(&self, words: &[String], input: &[u8]) -> Said {
        let mut state = self.state();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (changes, said) = match &words[..] {
            ["cat", path] => (false, state.read(path)),
            ["sh", "-c", script, "sh", arguments @ ..] if script.contains("say system") => {
                (false, Said::so(state.facts(arguments)))
            }
            ["sh", "-c", script, "sh", path, mode, _] if script.contains("mv -fT \"$new\" \"$1\"") => {
                (true, state.write(path, input, u32::from_str_radix(mode, 8).unwrap()))
            }
            ["sh", "-c", script, "sh", root, owner] if script.contains("ln -T \"$new\" \"$2\"") => {
                state.directories.entry((*root).to_owned()).or_insert((0o755, "root:root".to_owned()));
                let new = !state.files.contains_key(*owner);
                (true, if new { state.write(owner, input, 0o644) } else { Said::default() })
            }
            ["systemd-tmpfiles", "--create", path] => (true, state.make_directories(path)),
            ["docker", "pull", "--quiet", image] => {
                state.images.insert((*image).to_owned());
                (true, Said::default())
            }
            ["docker", "network", "create", .., name] => {
                state.networks.insert((*name).to_owned());
                (true, Said::default())
            }
            ["docker", "compose", rest @ .., service] if rest.contains(&"up") => (true, state.start(service)),
            other => {
                state.unknown.push(other.join(" "));
                (true, Said::failed(127, "command not found"))
            }
        };
        drop(state);
        self.writes.fetch_add(usize::from(changes), Ordering::Relaxed);
        said
    }

    /// Answers a request at a socket: status with headers, and body.
    pub fn answer(&self, path: &str, line: &str, body: &str) -> (String, String) {
        let mut state = self.state();
        let target: Vec<_> = line.split(' ').take(2).collect();
        match (path == ADMIN, &target[..]) {
            (true, ["GET", "/config/"]) => {
                let hash = HEXLOWER.encode(&Sha256::digest(&state.config)[..8]);
                (format!("200 OK\r\netag: \"/config/ {hash}\""), state.config.clone() + "\n")
            }
            (true, ["POST", "/config/" | "/load"]) => {
                body.clone_into(&mut state.config);
                self.writes.fetch_add(1, Ordering::Relaxed);
                ("200 OK".to_owned(), String::new())
            }
            (false, ["GET", "/healthz"]) => {
                let table = state.files.get(TABLE).and_then(|(bytes, _)| Table::parse(bytes).ok());
                let health = serde_json::json!({"table": table.map(|table| table.hash())});
                ("200 OK".to_owned(), health.to_string())
            }
            _ => {
                state.unknown.push(format!("{line} at {path}"));
                ("404 Not Found".to_owned(), String::new())
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// The service that listens at a socket.
fn service(path: &str) -> Option<&'static str> {
    let router = ROUTERS.iter().find(|(socket, _)| *socket == path);
    if path == ADMIN { Some(CADDY) } else { router.map(|(_, service)| *service) }
}

impl State {
    fn read(&self, path: &str) -> Said {
        match self.files.get(path) {
            Some((bytes, _)) => Said::so(bytes.clone()),
            None => Said::failed(1, "No such file or directory"),
        }
    }

    fn write(&mut self, path: &str, bytes: &[u8], mode: u32) -> Said {
        let directory = path.rsplit_once('/').unwrap_or_default().0;
        if directory != "/etc/tmpfiles.d" && !self.directories.contains_key(directory) {
            return Said::failed(1, format!("{directory}: No such file or directory"));
        }
        self.files.insert(path.to_owned(), (bytes.to_owned(), mode));
        Said::default()
    }

    /// Those of the lines `d PATH MODE USER GROUP -` of a file.
    fn make_directories(&mut self, path: &str) -> Said {
        let text = self.files.get(path).map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned());
        let text = text.unwrap_or_default();
        for line in text.lines().filter_map(|line| line.strip_prefix("d ")) {
            let fields: Vec<_> = line.split(' ').collect();
            let [directory, mode, user, group, _] = fields[..] else { panic!("{line}") };
            let mode = u32::from_str_radix(mode, 8).unwrap();
            self.directories.insert(directory.to_owned(), (mode, format!("{user}:{group}")));
        }
        Said::default()
    }

    /// A container as the Compose file has it.
    fn start(&mut self, service: &str) -> Said {
        let text = self.files.get(COMPOSE).map(|(bytes, _)| bytes.clone()).unwrap_or_default();
        let compose: Value = serde_yaml::from_slice(&text).unwrap();
        let definition = &compose["services"][service];
        if !definition["image"].as_str().is_some_and(|image| self.images.contains(image)) {
            return Said::failed(1, "no such image");
        }
        let label = definition["labels"]["roadstead.dev/definition"].as_str().unwrap().to_owned();
        if service == CADDY {
            // It resumes what it was given before.
            if self.config.is_empty() {
                self.config = String::from_utf8(self.files[BOOTSTRAP].0.clone()).unwrap();
            }
        }
        self.containers.insert(service.to_owned(), label);
        Said::default()
    }

    /// As the script that looks at a host prints them.
    fn facts(&self, arguments: &[&str]) -> String {
        let mut said = "system\tdebian\t12\nsystemd\ngroup\troot\n".to_owned();
        for (fact, path) in [("owner", "/opt/roadstead/owner"), ("finished", "/opt/roadstead/bootstrapped")] {
            if let Some((bytes, _)) = self.files.get(path) {
                writeln!(said, "{fact}\t{}", String::from_utf8_lossy(bytes)).unwrap();
            }
        }
        for (kind, name) in arguments.iter().filter_map(|argument| argument.split_once(':')) {
            if let (Some((bytes, mode)), "file") = (self.files.get(name), kind) {
                writeln!(said, "file\t{name}\t{}\t{mode:o}", HEXLOWER.encode(&Sha256::digest(bytes))).unwrap();
            }
            if let (Some((mode, owner)), "directory") = (self.directories.get(name), kind) {
                writeln!(said, "directory\t{name}\t{mode:o}\t{owner}").unwrap();
            }
        }
        let serves = self.containers.contains_key(CADDY);
        if serves {
            said.push_str("listener\t80\t801\tdocker-proxy\nlistener\t443\t802\tdocker-proxy\n");
        }
        said.push_str("compose\t2.40.3\nengine\nenabled\nanswers\t28.5.2\n");
        if self.networks.contains(EDGE) {
            said.push_str("edge\tf00d\n");
        }
        for image in arguments.iter().filter_map(|argument| argument.strip_prefix("image:")) {
            if self.images.contains(image) {
                writeln!(said, "image\t{image}").unwrap();
            }
        }
        if serves {
            let ports = "0.0.0.0:80->80/tcp, 0.0.0.0:443->443/tcp";
            writeln!(said, "ports\t{ports}\troadstead-caddy-caddy-1\troadstead-caddy").unwrap();
        }
        for (service, definition) in &self.containers {
            writeln!(said, "container\t{service}\trunning\t{definition}\tf00d \t").unwrap();
        }
        said + "end\n"
    }
}
