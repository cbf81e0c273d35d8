//! What a host is to have, and the files that say so: pure.
//!
//! Everything is under [`ROOT`], but for the sockets, whose directories [`TMPFILES`] makes anew at every boot.

use data_encoding::HEXLOWER;
use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::names::Mark;
use crate::host::caddy::{AccessLog, AdminSocket, Config, Issuer, Settings};
use crate::host::table::Table;

/// Where everything of ours is on a host.
pub const ROOT: &str = "/opt/roadstead";
/// The file with the mark of the Node whose host it is.
pub const OWNER: &str = "/opt/roadstead/owner";
/// The file that says that everything was in place, and in which form.
pub const FINISHED: &str = "/opt/roadstead/bootstrapped";
/// The routing table.
pub const TABLE: &str = "/opt/roadstead/router/table.json";
/// The file that has the directories made.
pub const TMPFILES: &str = "/etc/tmpfiles.d/roadstead.conf";
/// The socket of Caddy's admin API.
pub const ADMIN: &str = "/run/roadstead/caddy/admin.sock";
/// The network that apps and Caddy share.
pub const EDGE: &str = "edge";
/// The Compose project of Caddy and its routers.
pub const PROJECT: &str = "roadstead-caddy";
/// The label with the hash of what a container was made of.
pub const DEFINITION: &str = "roadstead.dev/definition";

/// The file of the Compose project.
pub(super) const COMPOSE: &str = "/opt/roadstead/caddy/compose.yaml";
const CADDY: &str = "/opt/roadstead/caddy";
const ROUTER: &str = "/opt/roadstead/router";
/// What `/opt/roadstead/caddy/etc` is within Caddy's container.
const ETC: &str = "/etc/caddy";
const ROUTER_SOCKETS: &str = "/run/roadstead/router";
const CADDY_SOCKETS: &str = "/run/roadstead/caddy";

/// What a host is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The mark of the Node whose host it is.
    pub mark: Mark,
    /// The owner (`o`) whose host this Node takes over, by a person's word; only from a namesake.
    pub adopt: Option<String>,
    /// What the containers run.
    pub images: Images,
    /// Where each request goes. Whoever changes a host's table has to say the new one here from then on: what a host has
    /// instead is taken for an edit by somebody, and overwritten.
    pub table: Table,
    /// Where certificates come from.
    pub certificates: Certificates,
    /// The addresses of the network `edge`, if it is still to be made.
    pub edge: Ipv4Net,
    /// Where Docker comes from, if the host has none.
    pub packages: Packages,
}

/// What the containers run: references with a digest, since a tag can be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Caddy, as `caddy` in the path.
    pub caddy: String,
    /// Our own binary, as `/roadstead`.
    pub router: String,
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// An ACME server.
    Acme {
        /// The URL of its directory.
        directory: String,
        /// Whom the authority may write to.
        email: Option<String>,
        /// The roots that vouch for the directory itself, in PEM, if it is no public one.
        roots: Option<String>,
    },
    /// Caddy's own authority, which nobody trusts.
    Internal,
}

/// Where packages of Docker come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// The URL above `/debian` and `/ubuntu`.
    pub repository: String,
    /// The SHA-256, in hex, of the key that signs what is there.
    pub key: String,
}

impl Default for Packages {
    fn default() -> Self {
        Self {
            repository: "https://download.docker.com/linux".to_owned(),
            key: "1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570".to_owned(),
        }
    }
}

/// A container of ours, in the order in which they are started: Caddy has somebody to ask from its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// The router that is asked first.
    Router1,
    /// The router that is asked when the first does not answer.
    Router2,
    /// Caddy.
    Caddy,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Router1, Self::Router2, Self::Caddy];

    /// Its name in the Compose file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Router1 => "router-1",
            Self::Router2 => "router-2",
            Self::Caddy => "caddy",
        }
    }

    /// The socket at which it answers HTTP; the same on the host and in every container.
    #[must_use]
    pub fn socket(self) -> &'static str {
        match self {
            Self::Router1 => "/run/roadstead/router/1.sock",
            Self::Router2 => "/run/roadstead/router/2.sock",
            Self::Caddy => ADMIN,
        }
    }
}

/// A file of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: String,
    /// Its content.
    pub content: String,
    /// Its mode.
    pub mode: u32,
}

impl File {
    fn new(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self { path: path.into(), content: content.into(), mode: 0o644 }
    }

    /// The SHA-256 of its content, in hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(&self.content))
    }
}

/// Settings with which no host can be brought up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// An image could change under our feet, or is no image.
    #[error("the image `{0}` is not pinned: write it as NAME@sha256:DIGEST")]
    Image(String),
    /// What `packages` says cannot be used.
    #[error("{0}")]
    Packages(String),
}

impl Wanted {
    /// Whether this can be used at all.
    ///
    /// # Errors
    /// What cannot.
    pub fn check(&self) -> Result<(), Unusable> {
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        // No `$` in particular, which Compose would take for a variable.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"./:_-[]".contains(&b);
        for image in [&self.images.caddy, &self.images.router] {
            let pinned = image.split_once("@sha256:").is_some_and(|(name, digest)| {
                name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'[')
                    && name.bytes().all(plain)
                    && hex(digest)
            });
            if !pinned {
                return Err(Unusable::Image(image.clone()));
            }
        }
        let Packages { repository, key } = &self.packages;
        if !repository.starts_with("https://") || !repository.bytes().all(plain) {
            return Err(Unusable::Packages(format!("the package repository `{repository}` is no plain https:// URL")));
        }
        if !hex(key) {
            let problem = format!("`{key}` is not the SHA-256 of the package repository's key: write 64 hex digits");
            return Err(Unusable::Packages(problem));
        }
        Ok(())
    }

    /// Caddy's whole configuration.
    #[must_use]
    pub fn config(&self) -> Config {
        Config::new(&self.settings())
    }

    /// The definition of a container, and its hash.
    pub(super) fn definition(&self, service: Service) -> (Value, String) {
        let mut definition = match service {
            Service::Caddy => caddy(&self.images.caddy),
            Service::Router1 | Service::Router2 => router(&self.images.router, service),
        };
        definition["restart"] = json!("always");
        definition["logging"] = json!({"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}});
        let hash = HEXLOWER.encode(&Sha256::digest(definition.to_string())[..8]);
        definition["labels"] = json!({DEFINITION: hash});
        (definition, hash)
    }

    /// The files that containers read, and the one that says which containers there are.
    #[must_use]
    pub fn files(&self) -> Vec<File> {
        let services: Map<_, _> =
            Service::ALL.iter().map(|service| (service.name().to_owned(), self.definition(*service).0)).collect();
        let compose = json!({
            "name": PROJECT,
            "services": services,
            "networks": {EDGE: {"external": true, "name": EDGE}},
        });
        // Maps with string keys: there is nothing that could fail.
        let compose = format!("# Written by Roadstead.\n{}", serde_yaml::to_string(&compose).unwrap_or_default());
        let bootstrap = Config::bootstrap(&self.settings()).json();
        let mut files = vec![File::new(COMPOSE, compose), File::new(format!("{CADDY}/etc/bootstrap.json"), bootstrap)];
        files.extend(self.roots());
        files.push(File::new(TABLE, self.table.json()));
        files
    }

    /// The file with the directories, for a host whose SSH user's group is this one.
    #[must_use]
    pub fn tmpfiles(group: &str) -> File {
        let lines: Vec<_> =
            Self::directories(group).map(|(path, mode, group)| format!("d {path} {mode:04o} root {group} -\n")).into();
        File::new(TMPFILES, format!("# Written by Roadstead.\n{}", lines.concat()))
    }

    /// The directories, each with its mode and group.
    pub(super) fn directories(group: &str) -> [(&'static str, u32, &str); 10] {
        [
            (ROOT, 0o755, "root"),
            (CADDY, 0o755, "root"),
            ("/opt/roadstead/caddy/etc", 0o755, "root"),
            ("/opt/roadstead/caddy/data", 0o700, "root"),
            ("/opt/roadstead/caddy/config", 0o700, "root"),
            ("/opt/roadstead/caddy/log", 0o750, "root"),
            (ROUTER, 0o755, "root"),
            ("/run/roadstead", 0o755, "root"),
            // What is made in these belongs to the same group: so the sockets are the SSH user's too.
            (CADDY_SOCKETS, 0o2770, group),
            (ROUTER_SOCKETS, 0o2770, group),
        ]
    }

    /// 16 hex digits of all that bootstrapping itself decides: what is noted when everything was in place. The table is
    /// no part of it, since deploys change that.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for file in self.files().iter().filter(|file| file.path != TABLE) {
            digest.update(format!("{}\n{}\n", file.path, file.sha256()));
        }
        digest.update(self.config().hash());
        HEXLOWER.encode(&digest.finalize()[..8])
    }

    /// The roots of the ACME server. Others have another name, so that Caddy's configuration changes with them.
    fn roots(&self) -> Option<File> {
        let Certificates::Acme { roots: Some(roots), .. } = &self.certificates else { return None };
        let hash = HEXLOWER.encode(&Sha256::digest(roots)[..4]);
        Some(File::new(format!("{CADDY}/etc/acme-roots-{hash}.pem"), roots))
    }

    fn settings(&self) -> Settings {
        let roots = self.roots().map(|file| file.path.replace(&format!("{CADDY}/etc"), ETC));
        let issuer = match &self.certificates {
            Certificates::Internal => Issuer::Internal,
            Certificates::Acme { directory, email, .. } => {
                Issuer::Acme { directory: directory.clone(), email: email.clone(), ca_file: roots }
            }
        };
        Settings {
            https: vec![":443".to_owned()],
            http: vec![":80".to_owned()],
            ask: "127.0.0.1:9099".to_owned(),
            routers: [Service::Router1, Service::Router2].map(|router| router.socket().to_owned()).to_vec(),
            admin: AdminSocket { path: ADMIN.to_owned(), mode: 0o660 },
            issuer,
            access_log: Some(AccessLog {
                file: "/var/log/caddy/access.log".to_owned(),
                megabytes: 20,
                keep: 5,
                keep_days: 14,
            }),
        }
    }
}

fn caddy(image: &str) -> Value {
    json!({
        "image": image,
        // What it was given last wins over the file, which only opens the admin API.
        "command": ["caddy", "run", "--resume", "--config", format!("{ETC}/bootstrap.json")],
        "environment": {
            // A configuration that says nothing of the admin API would else open it on a port.
            "CADDY_ADMIN": format!("unix/{ADMIN}|0660"),
            "XDG_CONFIG_HOME": "/config",
            "XDG_DATA_HOME": "/data",
        },
        // Connections that wait while servers are started anew are handed on to the new ones.
        "sysctls": {"net.ipv4.tcp_migrate_req": "1"},
        "ports": ["80:80", "443:443"],
        "volumes": [
            format!("{CADDY}/etc:{ETC}:ro"),
            format!("{CADDY}/data:/data"),
            format!("{CADDY}/config:/config"),
            format!("{CADDY}/log:/var/log/caddy"),
            format!("{CADDY_SOCKETS}:{CADDY_SOCKETS}"),
            format!("{ROUTER_SOCKETS}:{ROUTER_SOCKETS}"),
        ],
        "networks": [EDGE],
        // Longer than the grace period that it gives open requests.
        "stop_grace_period": "15s",
    })
}

fn router(image: &str, service: Service) -> Value {
    json!({
        "image": image,
        "entrypoint": ["/roadstead"],
        "command": ["router", "--table", TABLE, "--listen", format!("unix:{}", service.socket())],
        // It reads one file and answers on one socket: it needs no network, no file system and nobody's rights.
        "user": "0:0",
        "network_mode": "none",
        "read_only": true,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "volumes": [
            // The directory, not the file: a new table takes the old one's place by a rename.
            format!("{ROUTER}:{ROUTER}:ro"),
            format!("{ROUTER_SOCKETS}:{ROUTER_SOCKETS}"),
        ],
    })
}
