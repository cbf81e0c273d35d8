//! What a host has, as one script prints it, read here and nowhere else: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::wanted::{File, Service, Wanted};
use crate::host::ssh::quote;

/// Prints the facts. It changes nothing, and needs nothing that a fresh host lacks.
const SCRIPT: &str = include_str!("facts.sh");

/// What a host has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The system and its version, as `/etc/os-release` has them: `debian`, `12`.
    pub system: (String, String),
    /// Whether systemd runs it.
    pub systemd: bool,
    /// The SSH user's group.
    pub group: String,
    /// What the owner file says, if there is one.
    pub owner: Option<String>,
    /// The digest that was noted when everything was in place.
    pub finished: Option<String>,
    /// Files that are there, by path.
    pub files: BTreeMap<String, Kept>,
    /// Directories that are there, by path.
    pub directories: BTreeMap<String, Directory>,
    /// Whether Docker Engine is installed.
    pub engine: bool,
    /// The version of the Compose plugin.
    pub compose: Option<String>,
    /// Whether the engine is started at boot.
    pub enabled: bool,
    /// The engine's version, if it runs.
    pub answers: Option<String>,
    /// The id of the network `edge`.
    pub edge: Option<String>,
    /// Images that are there, by reference.
    pub images: BTreeSet<String>,
    /// Our containers, running or not.
    pub containers: BTreeMap<Service, Container>,
    /// Ports 80 and 443 that containers publish.
    pub published: BTreeSet<Published>,
    /// Who listens on ports 80 and 443.
    pub listeners: BTreeSet<Listener>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The SHA-256 of its content, in hex.
    pub sha256: String,
    /// Its mode.
    pub mode: u32,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its mode.
    pub mode: u32,
    /// `user:group`.
    pub owner: String,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// As Docker calls it: `running`, `exited`.
    pub state: String,
    /// The hash of what it was made of.
    pub definition: String,
    /// The ids of its networks.
    pub networks: BTreeSet<String>,
    /// The last line it wrote.
    pub said: String,
}

/// A port that a container publishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// The port.
    pub port: u16,
    /// The container's name.
    pub name: String,
    /// Its Compose project.
    pub project: String,
}

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Its id; unknown for what runs where we cannot see it.
    pub pid: Option<u32>,
    /// Its name, the first 15 characters of it.
    pub process: String,
}

/// The script said something else than it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the host's facts cannot be read: {0}")]
pub struct Garbled(String);

impl Facts {
    /// The command that prints the facts, for root.
    #[must_use]
    pub fn command(wanted: &Wanted) -> String {
        // The SSH user's group is not known yet, and makes no difference to the paths.
        let tmpfiles = Wanted::tmpfiles("root").path;
        let files = wanted.files().into_iter().map(|file| file.path).chain([tmpfiles]);
        let directories = Wanted::directories("root").map(|(path, ..)| format!("directory:{path}"));
        let images = [&wanted.images.caddy, &wanted.images.router].map(|image| format!("image:{image}"));
        let arguments = files.map(|path| format!("file:{path}")).chain(directories).chain(images);
        let arguments: Vec<_> = arguments.map(|argument| quote(&argument)).collect();
        format!("sh -c {} sh {}", quote(SCRIPT), arguments.join(" "))
    }

    /// The facts that this output of the script says.
    ///
    /// # Errors
    /// The line that it would not say, or that the end is missing.
    pub fn parse(output: &str) -> Result<Self, Garbled> {
        let mut facts = Self::default();
        let mut lines = output.lines();
        for line in lines.by_ref() {
            if line == "end" {
                return match lines.next() {
                    None => Ok(facts),
                    Some(_) => Err(Garbled("there is more after its end".to_owned())),
                };
            }
            let mut fields = line.split('\t');
            let kind = fields.next().unwrap_or_default();
            let fields: Vec<_> = fields.collect();
            facts.take(kind, &fields).ok_or_else(|| Garbled(format!("the line {:?}", short(line))))?;
        }
        Err(Garbled("its end is missing".to_owned()))
    }

    /// A file that was written.
    pub(super) fn keep(&mut self, file: &File) {
        self.files.insert(file.path.clone(), Kept { sha256: file.sha256(), mode: file.mode });
    }

    /// One line. `None` if it is not as the script writes it.
    fn take(&mut self, kind: &str, fields: &[&str]) -> Option<()> {
        let text = |text: &str| text.to_owned();
        match (kind, fields) {
            ("system", [id, version]) => self.system = (text(id), text(version)),
            ("systemd", []) => self.systemd = true,
            ("group", [group]) => self.group = text(group),
            ("owner", [owner]) => self.owner = Some(text(owner.trim())),
            ("finished", [digest]) => self.finished = Some(text(digest.trim())),
            ("file", [path, sha256, mode]) => {
                self.files.insert(text(path), Kept { sha256: text(sha256), mode: octal(mode)? });
            }
            ("directory", [path, mode, owner]) => {
                self.directories.insert(text(path), Directory { mode: octal(mode)?, owner: text(owner) });
            }
            ("listener", [port, pid, process]) => {
                let pid = if pid.is_empty() { None } else { Some(pid.parse().ok()?) };
                self.listeners.insert(Listener { port: port.parse().ok()?, pid, process: text(process) });
            }
            ("engine", []) => self.engine = true,
            ("compose", [version]) => self.compose = Some(text(version)),
            ("enabled", []) => self.enabled = true,
            ("answers", [version]) => self.answers = Some(text(version)),
            ("edge", [id]) => self.edge = Some(text(id)),
            ("image", [reference]) => drop(self.images.insert(text(reference))),
            ("ports", [ports, name, project]) => {
                for port in [80, 443] {
                    if publishes(ports, port) {
                        self.published.insert(Published { port, name: text(name), project: text(project) });
                    }
                }
            }
            ("container", [name, state, definition, networks, said]) => {
                // Another one in the project is none of ours: somebody's addition, or what an older form had.
                if let Some(service) = Service::ALL.into_iter().find(|service| service.name() == *name) {
                    let networks = networks.split_whitespace().map(text).collect();
                    let container =
                        Container { state: text(state), definition: text(definition), networks, said: text(said) };
                    self.containers.insert(service, container);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Whether `0.0.0.0:80->8080/tcp, [::]:80->8080/tcp` publishes the port, for TCP.
fn publishes(ports: &str, port: u16) -> bool {
    ports.split(", ").any(|one| {
        let Some((host, container)) = one.split_once("->") else { return false };
        let Some((_, range)) = host.rsplit_once(':') else { return false };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let within =
            first.parse().is_ok_and(|first: u16| first <= port) && last.parse().is_ok_and(|last: u16| port <= last);
        within && container.ends_with("/tcp")
    })
}

fn octal(mode: &str) -> Option<u32> {
    u32::from_str_radix(mode, 8).ok()
}

fn short(line: &str) -> String {
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_script_is_read() {
        let output = "system\tdebian\t12\nsystemd\ngroup\tdeploy\nowner\troadstead/1 c=a o=b k=c \nfinished\t0a\n\
            file\t/etc/x\tabc\t644\ndirectory\t/run/x\t2770\troot:deploy\nlistener\t80\t17\tnginx\nlistener\t443\t\t\n\
            compose\tv2.40.3\nengine\nenabled\nanswers\t20.10.24\nedge\tf00\nimage\tcaddy@sha256:1\n\
            ports\t0.0.0.0:80->80/tcp, :::80->80/tcp\tshop-web-1\tshop\nports\t\tquiet\t\n\
            container\tcaddy\trunning\t12ab\tf00 f01 \tserving\ncontainer\tstranger\texited\t\t\t\nend\n";
        let facts = Facts::parse(output).unwrap();
        let listener = |port, pid, process: &str| Listener { port, pid, process: process.to_owned() };
        let expected = Facts {
            system: ("debian".to_owned(), "12".to_owned()),
            systemd: true,
            group: "deploy".to_owned(),
            owner: Some("roadstead/1 c=a o=b k=c".to_owned()),
            finished: Some("0a".to_owned()),
            files: [("/etc/x".to_owned(), Kept { sha256: "abc".to_owned(), mode: 0o644 })].into(),
            directories: [("/run/x".to_owned(), Directory { mode: 0o2770, owner: "root:deploy".to_owned() })].into(),
            engine: true,
            compose: Some("v2.40.3".to_owned()),
            enabled: true,
            answers: Some("20.10.24".to_owned()),
            edge: Some("f00".to_owned()),
            images: ["caddy@sha256:1".to_owned()].into(),
            containers: [(
                Service::Caddy,
                Container {
                    state: "running".to_owned(),
                    definition: "12ab".to_owned(),
                    networks: ["f00".to_owned(), "f01".to_owned()].into(),
                    said: "serving".to_owned(),
                },
            )]
            .into(),
            published: [Published { port: 80, name: "shop-web-1".to_owned(), project: "shop".to_owned() }].into(),
            listeners: [listener(80, Some(17), "nginx"), listener(443, None, "")].into(),
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn what_is_not_the_script_s_output_is_not_taken_for_facts() {
        for (output, complaint) in [
            ("", "its end is missing"),
            ("engine\n", "its end is missing"),
            ("engine\nend\nengine\n", "more after its end"),
            ("Welcome!\nend\n", "Welcome!"),
            ("file\t/etc/x\tabc\trw\nend\n", "/etc/x"),
            ("engine\tyes\nend\n", "engine"),
        ] {
            let error = Facts::parse(output).unwrap_err().to_string();
            assert!(error.contains(complaint), "{output:?}: {error}");
        }
    }

    #[test]
    fn a_published_port_is_the_host_s_and_of_tcp() {
        for (ports, expected) in [
            ("0.0.0.0:80->8080/tcp", true),
            (":::80->80/tcp", true),
            ("[::]:80->80/tcp", true),
            ("9000/tcp, 127.0.0.1:79-81->79-81/tcp", true),
            ("0.0.0.0:8080->80/tcp", false),
            ("0.0.0.0:80->80/udp", false),
            ("80/tcp", false),
            ("", false),
        ] {
            assert_eq!(publishes(ports, 80), expected, "{ports}");
        }
    }
}
