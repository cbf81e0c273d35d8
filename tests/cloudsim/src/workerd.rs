//! workerd, the runtime of Cloudflare Workers, as a child process that serves one script.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// How long workerd has to listen. It takes a tenth of a second on an idle machine.
const START: Duration = Duration::from_secs(30);

/// Ends workerd, and removes its directory, when our end of standard input closes: with the process, however that ends.
const SUPERVISE: &str = r#"directory=$1; shift
"$@" </dev/null & child=$!
exec >&- 2>&-
read -r _; kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; rm -rf "$directory""#;

/// A module of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, by which others import it.
    pub name: String,
    /// Its text.
    pub text: Vec<u8>,
}

/// A script with all that it sees.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its modules, the main one first.
    pub modules: Vec<Module>,
    /// Its compatibility date.
    pub compatibility_date: String,
    /// Its compatibility flags.
    pub compatibility_flags: Vec<String>,
    /// Its bindings as the API writes them; of the types, `plain_text`, `secret_text` and `json`. Others are left out.
    pub bindings: Vec<Value>,
}

/// Where a script's own requests go.
#[derive(Debug, Clone, Copy)]
pub enum Outbound {
    /// Straight to the address that the system finds for a name.
    Network,
    /// All to this server, as to an HTTP proxy.
    Proxy(SocketAddr),
}

/// A running workerd. Dropping it ends it.
#[derive(Debug)]
pub struct Workerd {
    address: SocketAddr,
    _supervisor: Child,
    _stdin: ChildStdin,
}

impl Workerd {
    /// Runs `script` in the program `binary` on a free port of the loopback interface.
    ///
    /// # Errors
    /// With workerd's own words, when it does not take the script.
    pub async fn start(binary: &Path, script: &Script, outbound: Outbound) -> anyhow::Result<Self> {
        let directory = directory()?;
        let config = directory.join("config.capnp");
        for (number, module) in script.modules.iter().enumerate() {
            std::fs::write(directory.join(format!("module-{number}")), &module.text)?;
        }
        std::fs::write(&config, configuration(script, outbound)?)?;
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISE, "workerd"])
            .arg(&directory)
            .arg(binary)
            .args(["serve", "--control-fd=1"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("sh cannot be run")?;
        let (stdin, stdout) = (supervisor.stdin.take(), supervisor.stdout.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, supervisor.stderr.take()) else {
            anyhow::bail!("workerd was started without its pipes");
        };
        let mut complaints = BufReader::new(stderr).lines();
        let port = tokio::time::timeout(START, listening(BufReader::new(stdout).lines(), &mut complaints)).await;
        let port = port.with_context(|| format!("{} did not listen within {START:?}", binary.display()))??;
        // What a script prints later is nobody's business, but a full pipe would stop it.
        tokio::spawn(async move {
            while let Ok(Some(line)) = complaints.next_line().await {
                tracing::debug!(line, "workerd");
            }
        });
        Ok(Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), _supervisor: supervisor, _stdin: stdin })
    }

    /// Where it serves the script over HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The port that workerd says it listens on, or its complaint.
async fn listening(
    mut events: Lines<BufReader<ChildStdout>>,
    complaints: &mut Lines<BufReader<ChildStderr>>,
) -> anyhow::Result<u16> {
    while let Some(line) = events.next_line().await? {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(port) = event["port"].as_u64().and_then(|port| u16::try_from(port).ok()) {
            return Ok(port);
        }
    }
    let mut said = Vec::new();
    while let Some(line) = complaints.next_line().await? {
        said.push(line.trim_start_matches("service script: ").to_owned());
    }
    anyhow::bail!("{}", said.join("\n"))
}

/// A new directory, which whoever runs workerd removes.
fn directory() -> anyhow::Result<PathBuf> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cloudsim-workerd-{}-{number}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be made", path.display())),
        }
    }
}

/// The configuration in workerd's language, Cap'n Proto text.
fn configuration(script: &Script, outbound: Outbound) -> anyhow::Result<String> {
    let mut modules = String::new();
    for (number, module) in script.modules.iter().enumerate() {
        write!(modules, "(name = {}, esModule = embed \"module-{number}\"), ", quoted(&module.name))?;
    }
    let mut bindings = String::new();
    for binding in &script.bindings {
        let Some(name) = binding["name"].as_str() else { continue };
        let value = match (binding["type"].as_str(), binding["text"].as_str()) {
            (Some("plain_text" | "secret_text"), Some(text)) => format!("text = {}", quoted(text)),
            (Some("json"), _) => format!("json = {}", quoted(&binding["json"].to_string())),
            _ => continue,
        };
        write!(bindings, "(name = {}, {value}), ", quoted(name))?;
    }
    let flags: Vec<String> = script.compatibility_flags.iter().map(|flag| quoted(flag)).collect();
    let outside = match outbound {
        Outbound::Network => "network = (allow = [\"public\", \"private\", \"local\"])".to_owned(),
        Outbound::Proxy(address) => format!("external = (address = \"{address}\", http = (style = proxy))"),
    };
    Ok(format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n  \
           services = [\n    \
             (name = \"script\", worker = (\n      \
               modules = [{modules}],\n      \
               compatibilityDate = {date}, compatibilityFlags = [{flags}],\n      \
               bindings = [{bindings}],\n      \
               globalOutbound = \"outside\")),\n    \
             (name = \"outside\", {outside}),\n  \
           ],\n  \
           sockets = [(name = \"http\", address = \"127.0.0.1:0\", http = (), service = \"script\")],\n\
         );\n",
        date = quoted(&script.compatibility_date),
        flags = flags.join(", "),
    ))
}

/// A text literal of Cap'n Proto's language.
fn quoted(text: &str) -> String {
    let mut literal = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => literal.extend(['\\', byte as char]),
            b' '..=b'~' => literal.push(byte as char),
            _ => {
                let _ = write!(literal, "\\x{byte:02x}");
            }
        }
    }
    literal.push('"');
    literal
}
