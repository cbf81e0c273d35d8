//! A real sshd for one test, and what the tests ask of the machine it runs on.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use roadstead::host::ssh::{self, Error, Host, HostKeys, KeyPair, Options, Session, Target};
use support::{Supervised, eventually, free_port, repository};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// More than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(20);

/// An sshd with a fresh host key, which lets this user in with `key`. It ends with this value.
pub struct Sshd {
    pub directory: TempDir,
    pub port: u16,
    /// What is let in.
    pub key: KeyPair,
    /// The host's key.
    pub host_key: KeyPair,
    process: Option<Supervised>,
    pid: u32,
    settings: String,
}

impl Sshd {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With further lines of `sshd_config`.
    pub async fn with(settings: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let key = KeyPair::generate("tests").unwrap();
        let host_key = KeyPair::generate("host").unwrap();
        fs::write(directory.path().join("authorized_keys"), format!("{}\n", key.public_line())).unwrap();
        let mut sshd =
            Self { directory, port: free_port(), key, host_key, process: None, pid: 0, settings: settings.to_owned() };
        sshd.restart().await;
        sshd
    }

    /// Starts it, anew if it runs, at the same port with the host key of now.
    pub async fn restart(&mut self) {
        self.stop().await;
        let path = |name: &str| self.directory.path().join(name);
        let mut file = fs::OpenOptions::new();
        let mut file = file.create(true).write(true).truncate(true).mode(0o600).open(path("host_key")).unwrap();
        std::io::Write::write_all(&mut file, self.host_key.to_openssh().unwrap().as_bytes()).unwrap();
        let mut config = String::new();
        writeln!(config, "Port {}\nListenAddress 127.0.0.1", self.port).unwrap();
        writeln!(config, "HostKey {}\nPidFile none", path("host_key").display()).unwrap();
        writeln!(config, "AuthorizedKeysFile {}", path("authorized_keys").display()).unwrap();
        writeln!(config, "StrictModes no\nUsePAM no\nPasswordAuthentication no").unwrap();
        writeln!(config, "PermitRootLogin prohibit-password\nLogLevel VERBOSE\n{}", self.settings).unwrap();
        fs::write(path("sshd_config"), config).unwrap();
        let script = repository().join("tests/support/supervise.sh");
        let mut command = Command::new(&script);
        command.arg(path("log")).arg(sshd()).args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        let (process, pid) = Supervised::start(&script, &mut command, LONG);
        self.process = Some(process);
        self.pid = pid.parse().unwrap();
        eventually(LONG, "sshd to listen", async || {
            TcpStream::connect(("127.0.0.1", self.port))
                .await
                .map(drop)
                .map_err(|error| format!("{error}\n{}", self.log()))
        })
        .await;
    }

    /// Ends the listener and every connection.
    pub async fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        self.cut();
        process.signal("KILL");
        process.wait(LONG).await;
    }

    /// Kills the processes that serve the connections there are, and nothing that those run.
    pub fn cut(&self) {
        self.signal("KILL");
    }

    /// Sends the processes that serve the connections there are a signal.
    pub fn signal(&self, name: &str) {
        for pid in self.serving() {
            signal(pid, name);
        }
    }

    /// Whether there is any connection.
    pub fn serves(&self) -> bool {
        !self.serving().is_empty()
    }

    fn serving(&self) -> Vec<u32> {
        descendants(self.pid)
            .into_iter()
            .filter(|pid| name(*pid).is_some_and(|name| name.starts_with("sshd")))
            .collect()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// How many connections have been let in.
    pub fn connections(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    pub fn target(&self) -> Target {
        Target { address: "127.0.0.1".to_owned(), port: self.port, user: user().to_owned() }
    }

    pub fn host_keys(&self) -> HostKeys {
        HostKeys::pinned([self.host_key.public_line().as_str()]).unwrap()
    }

    pub fn host(&self) -> Host {
        let (target, key, host_keys) = (self.target(), self.key.clone(), self.host_keys());
        Host { id: "host".to_owned(), target, key, host_keys }
    }

    pub async fn connect(&self) -> Session {
        self.try_connect(&self.target(), &self.key, &self.host_keys()).await.unwrap()
    }

    pub async fn try_connect(&self, target: &Target, key: &KeyPair, host_keys: &HostKeys) -> Result<Session, Error> {
        Session::connect(target, key, host_keys, &Options::default(), LONG).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A command that has long enough.
pub fn command(text: &str) -> ssh::Command {
    ssh::Command::new(text, LONG)
}

/// The user who runs the tests.
pub fn user() -> &'static str {
    static USER: OnceLock<String> = OnceLock::new();
    USER.get_or_init(|| {
        let output = Command::new("id").arg("-un").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// OpenSSH's server, installed on first use where that may be done.
fn sshd() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        let installed = Command::new(repository().join("tests/tools/sshd/install.sh")).status().unwrap();
        assert!(installed.success(), "tests/tools/sshd/install.sh failed: {installed}");
        // sshd starts itself again for each connection, which takes its absolute path.
        std::env::var_os("ROADSTEAD_SSHD").map_or_else(|| PathBuf::from("/usr/sbin/sshd"), PathBuf::from)
    });
    binary.clone()
}

/// Awaits the file in which a command wrote a process id.
pub async fn pid_in(path: &Path) -> u32 {
    eventually(LONG, "a process id", async || {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text.ends_with('\n') { text.trim().parse::<u32>().map_err(|error| error.to_string()) } else { Err(text) }
    })
    .await
}

/// Awaits the end of a process. A zombie has ended.
pub async fn gone(pid: u32) {
    eventually(LONG, "the process to end", async || match state(pid) {
        None | Some('Z') => Ok(()),
        Some(state) => Err(format!("{pid} is in state {state}")),
    })
    .await;
}

/// Awaits that no process has `mark` in its command line.
pub async fn none_with(mark: &str) {
    eventually(LONG, "no process to be left", async || {
        let left: Vec<String> = processes()
            .filter_map(|pid| Some((pid, fs::read(format!("/proc/{pid}/cmdline")).ok()?)))
            .map(|(pid, line)| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
            .filter(|(pid, line)| line.contains(mark) && state(*pid) != Some('Z'))
            .map(|(pid, line)| format!("{pid}: {line}"))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    })
    .await;
}

pub fn signal(pid: u32, name: &str) {
    let _ =
        Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// What follows the name in a process's status line.
fn status(pid: u32) -> Option<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, rest) = text.rsplit_once(") ")?;
    Some((start.split_once('(')?.1.to_owned(), rest.to_owned()))
}

fn name(pid: u32) -> Option<String> {
    status(pid).map(|(name, _)| name)
}

fn state(pid: u32) -> Option<char> {
    status(pid)?.1.chars().next()
}

fn descendants(of: u32) -> Vec<u32> {
    let parent = |pid: u32| status(pid).and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
    let children: Vec<u32> = processes().filter(|pid| parent(*pid) == Some(of)).collect();
    children.into_iter().flat_map(|child| std::iter::once(child).chain(descendants(child))).collect()
}
