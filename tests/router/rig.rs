//! A host: two routers and a Caddy as processes, with sockets and files in a directory of their own, and apps on
//! loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse;
use http::{Request as Wire, StatusCode};
use roadstead::host::caddy::{AccessLog, AdminSocket, Config, Issuer, NotTaken, Settings, judge};
use roadstead::host::table::{Node, Route, Table};
use serde_json::Value;
use support::{Supervised, eventually, free_port, repository};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::{Answer, Connection, Trust};

/// How long anything may take that takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);
/// The nonce of the tables here.
pub const NONCE: &str = "nonce-of-this-node";
/// The health path of the tables here.
pub const HEALTH: &str = "/healthz";

/// A table of these routes.
pub fn table<'a>(routes: impl IntoIterator<Item = (&'a str, Route)>) -> Table {
    Table::new(Node { nonce: NONCE.into(), health_path: HEALTH.into() }, routes).unwrap()
}

/// To an app at this port.
pub fn upstream(port: u16) -> Route {
    Route::Upstream { alias: "127.0.0.1".into(), port, peer: None }
}

/// A program with its log.
pub struct Program {
    process: Supervised,
    pub pid: u32,
    log: PathBuf,
}

impl Program {
    pub fn start(log: &Path, program: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let script = repository().join("tests/support/supervise.sh");
        let mut command = Command::new(&script);
        command.arg(log).arg(program).args(arguments).envs(environment.iter().copied());
        let (process, pid) = Supervised::start(&script, &mut command, SOON);
        Self { process, pid: pid.parse().unwrap(), log: log.to_owned() }
    }

    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    /// Sends a signal, waits for the end, and says with which status it came.
    pub async fn end(&mut self, signal: &str) -> Option<i32> {
        self.process.signal(signal);
        self.process.wait(SOON).await.code()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Puts a file in the place of another, as the operator does.
pub fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// A router as a process.
pub struct Router {
    pub program: Program,
    pub socket: PathBuf,
}

impl Router {
    /// Starts it, and waits for its socket to answer.
    pub async fn start(directory: &Path, name: &str, more: &[&str]) -> Self {
        let socket = directory.join(format!("{name}.sock"));
        let log = directory.join(format!("{name}.log"));
        let (table, listen) = (directory.join("table.json"), format!("unix:{}", socket.display()));
        let arguments = [&["router", "--table", table.to_str().unwrap(), "--listen", &listen], more].concat();
        let program = Program::start(&log, Path::new(env!("CARGO_BIN_EXE_roadstead")), &arguments, &[]);
        let router = Self { program, socket };
        eventually(SOON, "the router to answer", async || router.ask("/healthz").await.map(drop)).await;
        router
    }

    /// Asks it without Caddy.
    pub async fn ask(&self, path: &str) -> Result<Answer, String> {
        Connection::unix(&self.socket, "router").await?.get(path).await
    }

    /// Looks a host up without Caddy.
    pub async fn lookup(&self, host: &str) -> Answer {
        Connection::unix(&self.socket, host).await.unwrap().get("/lookup").await.unwrap()
    }

    /// What it says of its table.
    pub async fn health(&self) -> Value {
        serde_json::from_str(&self.ask("/healthz").await.unwrap().body).unwrap()
    }

    /// The value of a series.
    pub async fn series(&self, name: &str) -> u64 {
        let text = self.ask("/metrics").await.unwrap().body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Waits until it serves this table.
    pub async fn serves(&self, table: &Table) {
        let hash = table.hash();
        eventually(SOON, "the router to serve the table", async || {
            let health = self.health().await;
            if health["table"] == *hash { Ok(()) } else { Err(health) }
        })
        .await;
    }
}

/// A whole host.
pub struct Host {
    pub routers: Vec<Router>,
    pub caddy: Program,
    pub settings: Settings,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub directory: TempDir,
}

impl Host {
    /// Starts it with this table and the configuration that hosts get.
    pub async fn start(table: &Table) -> Self {
        let directory = tempfile::tempdir().unwrap();
        replace(&directory.path().join("table.json"), &table.json());
        let mut routers = Vec::new();
        for name in ["one", "two"] {
            routers.push(Router::start(directory.path(), name, &[]).await);
        }
        let [http, https, ask] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let settings = Settings {
            http: vec![http.clone()],
            https: vec![https.clone()],
            ask,
            routers: routers.iter().map(|router| router.socket.to_str().unwrap().to_owned()).collect(),
            admin: AdminSocket { path: path("admin.sock"), mode: 0o660 },
            issuer: Issuer::Internal,
            access_log: Some(AccessLog { file: path("access.log"), megabytes: 1, keep: 1, keep_days: 1 }),
        };
        let (http, https) = (http.parse().unwrap(), https.parse().unwrap());
        let caddy = start_caddy(directory.path(), &settings).await;
        let host = Self { routers, caddy, settings, http, https, directory };
        host.push(&host.config()).await.unwrap();
        host
    }

    /// The configuration that hosts get.
    pub fn config(&self) -> Config {
        Config::new(&self.settings)
    }

    /// Starts Caddy again after it has ended.
    pub async fn restart_caddy(&mut self) {
        self.caddy = start_caddy(self.directory.path(), &self.settings).await;
    }

    /// Gives Caddy this configuration, as the operator does: nothing is sent if it has it.
    pub async fn push(&self, config: &Config) -> Result<(), NotTaken> {
        let served = self.admin(Wire::get("/config/").body(String::new()).unwrap()).await;
        let step = config.next(served.body.as_bytes(), served.headers.get("etag").map(|etag| etag.to_str().unwrap()));
        let Some((path, headers)) = step.request() else { return Ok(()) };
        let mut request = Wire::post(path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = self.admin(request.body(config.json()).unwrap()).await;
        judge(answer.status, answer.body.as_bytes())
    }

    /// Asks Caddy's admin API.
    pub async fn admin(&self, request: Wire<String>) -> Answer {
        admin(Path::new(&self.settings.admin.path), request).await.unwrap()
    }

    /// The file of the routing table.
    pub fn table_file(&self) -> PathBuf {
        self.directory.path().join("table.json")
    }

    /// Writes a table, and waits until both routers serve it.
    pub async fn set(&self, table: &Table) {
        replace(&self.table_file(), &table.json());
        for router in &self.routers {
            router.serves(table).await;
        }
    }

    /// Whose certificates this host's visitors believe.
    pub fn trust(&self) -> Trust {
        Trust::of(&self.directory.path().join("data/caddy/pki/authorities/local/root.crt"))
    }

    /// A new connection over TLS.
    pub async fn visit(&self, name: &str) -> Connection {
        Connection::tls(self.https, name, &self.trust()).await.unwrap()
    }

    /// One request on a new connection over TLS.
    pub async fn get(&self, name: &str, path: &str) -> Answer {
        self.visit(name).await.get(path).await.unwrap()
    }

    /// One request on a new connection without TLS.
    pub async fn plain(&self, name: &str, path: &str) -> Answer {
        Connection::tcp(self.http, name).await.unwrap().get(path).await.unwrap()
    }
}

async fn admin(socket: &Path, request: Wire<String>) -> Result<Answer, String> {
    Connection::unix(socket, "caddy").await?.send(request).await
}

/// Starts Caddy as hosts do: with what it had last, or else with its admin API alone.
async fn start_caddy(directory: &Path, settings: &Settings) -> Program {
    let bootstrap = directory.join("bootstrap.json");
    std::fs::write(&bootstrap, Config::bootstrap(settings).json()).unwrap();
    let arguments = ["run", "--resume", "--config", bootstrap.to_str().unwrap()];
    let (data, config) = (directory.join("data"), directory.join("config"));
    let environment = [("HOME", directory), ("XDG_DATA_HOME", &*data), ("XDG_CONFIG_HOME", &*config)];
    let caddy = Program::start(&directory.join("caddy.log"), &support::caddy(), &arguments, &environment);
    let socket = Path::new(&settings.admin.path);
    eventually(SOON, "Caddy's admin API to answer", async || {
        admin(socket, Wire::get("/config/").body(String::new()).unwrap()).await.map(drop)
    })
    .await;
    caddy
}

/// An app that answers every request with its name, or with what reached it. Dropping it closes its port.
pub struct App {
    pub port: u16,
    _tasks: JoinSet<()>,
}

impl App {
    /// `/seen` is answered with the request's head, `/own` with a 503, everything else with the name and the body it was
    /// sent.
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = async move |request: Request| {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
            if parts.uri.path() == "/seen" {
                return format!("{} {}\n{:#?}", parts.method, parts.uri, parts.headers).into_response();
            }
            if parts.uri.path() == "/own" {
                return (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response();
            }
            format!("{name}{}", String::from_utf8_lossy(&body)).into_response()
        };
        let app = axum::Router::new().fallback(answer);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, _tasks: tasks }
    }
}
