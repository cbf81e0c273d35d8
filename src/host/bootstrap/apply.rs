//! Looks at a host and takes steps there, over an SSH session. What to do is decided in [`plan`](super::plan()) alone.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::facts::{Facts, Garbled};
use super::plan::{Act, Next, Observed, Reading, Refusal, Served, Step, plan};
use super::wanted::{ADMIN, COMPOSE, EDGE, FINISHED, File, OWNER, PROJECT, ROOT, Service, TMPFILES, Unusable, Wanted};
use crate::host::caddy::{self, NotTaken, judge};
use crate::host::ssh::{self, Command, HttpLimits, Session, Upload, Via, quote};

/// What looking may take: mostly Docker's client, which is run a dozen times.
const LOOK: Duration = Duration::from_secs(90);
/// What an ordinary step may take.
const SHORT: Duration = Duration::from_secs(60);
/// What starting a container may take, or stopping the one before it.
const START: Duration = Duration::from_secs(180);
/// What a download may take.
const DOWNLOAD: Duration = Duration::from_secs(900);
/// What one answer may take: Caddy answers a new configuration only when it serves it.
const ANSWER: HttpLimits = HttpLimits { time: Duration::from_secs(5), body: 4 << 20 };
const CONFIGURE: HttpLimits = HttpLimits { time: Duration::from_secs(60), body: 64 << 10 };
/// How long a container that was started is awaited.
const SETTLE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(200);
/// How often a step may be taken in one run: once more than it should have to.
const ATTEMPTS: usize = 2;

const INSTALL: &str = include_str!("install.sh");
/// Writes standard input as the owner file, unless there is one by now.
const CLAIM: &str = r#"set -e
mkdir -p -m 755 "$1"
new=$(mktemp "$1/.owner.XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
chmod 644 "$new"
sync "$new"
ln -T "$new" "$2" 2>/dev/null || [ -e "$2" ]"#;

/// Why a host is not as wanted, and does not become so by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What is wanted cannot be.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Nothing may be done there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A command or a connection failed.
    #[error(transparent)]
    Ssh(#[from] ssh::Error),
    /// The host says what cannot be read.
    #[error(transparent)]
    Garbled(#[from] Garbled),
    /// Caddy does not take its configuration.
    #[error(transparent)]
    Caddy(#[from] NotTaken),
    /// A container runs, and does not answer, restarted or not.
    #[error("{service} runs and does not answer at {socket} as it should: see `docker logs` of its container")]
    Silent {
        /// Its name.
        service: &'static str,
        /// Its socket.
        socket: &'static str,
    },
    /// A step was not to be taken.
    #[error("`{step}` has to wait")]
    Held {
        /// The step.
        step: String,
    },
    /// A step was taken, and did not help.
    #[error("`{step}` was done {ATTEMPTS} times, and still {found}")]
    Stuck {
        /// The step.
        step: String,
        /// What was found after it.
        found: String,
    },
}

/// Takes steps until the host is as wanted, and gives them; none if it was. `on` hears of each before it is taken.
///
/// May be dropped at any point: the next run goes on from there.
///
/// # Errors
/// Why the host is not as wanted.
pub async fn run(session: &Session, wanted: &Wanted, mut on: impl FnMut(&Act) + Send) -> Result<Vec<Act>, Error> {
    let may = |act: &Act| {
        on(act);
        true
    };
    run_if(session, wanted, may).await
}

/// As [`run`], but a step is taken only if `may` says so.
///
/// # Errors
/// Why the host is not as wanted, among them [`Error::Held`].
pub async fn run_if(
    session: &Session,
    wanted: &Wanted,
    mut may: impl FnMut(&Act) -> bool + Send,
) -> Result<Vec<Act>, Error> {
    wanted.check()?;
    let mut taken: Vec<Act> = Vec::new();
    let mut observed = observe(session, wanted).await?;
    // Whether all of that was seen there.
    let mut seen = true;
    loop {
        let act = match plan(wanted, &observed) {
            Next::Done if seen => return Ok(taken),
            Next::Done => {
                (observed, seen) = (observe(session, wanted).await?, true);
                continue;
            }
            Next::Refuse(refusal) => return Err(refusal.into()),
            Next::Act(act) => act,
        };
        let step = act.step.to_string();
        if taken.iter().filter(|earlier| earlier.step.to_string() == step).count() >= ATTEMPTS {
            return Err(Error::Stuck { step, found: act.found });
        }
        if !may(&act) {
            return Err(Error::Held { step });
        }
        apply(session, wanted, &act.step).await?;
        if observed.note(&act.step) {
            seen = false;
        } else {
            (observed, seen) = (observe(session, wanted).await?, true);
        }
        taken.push(act);
    }
}

/// What a host has.
///
/// # Errors
/// If it cannot be looked at.
pub async fn observe(session: &Session, wanted: &Wanted) -> Result<Observed, Error> {
    let output = session.exec(Command::new(Facts::command(wanted), LOOK).as_root()).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.success() && output.stdout.is_empty() && said.contains("sudo") {
        let reading = Reading::Unprivileged(said.trim().chars().take(300).collect());
        return Ok(Observed { reading, config: None, tables: [None, None] });
    }
    let output = output.checked("looking at the host")?;
    let facts = Facts::parse(&String::from_utf8_lossy(&output.stdout))?;

    let runs = |service| facts.containers.get(&service).is_some_and(|container| container.state == "running");
    let config = if runs(Service::Caddy) { config(session).await? } else { None };
    let mut tables = [None, None];
    for (table, service) in tables.iter_mut().zip([Service::Router1, Service::Router2]) {
        if runs(service) {
            *table = self::table(session, service).await?;
        }
    }
    Ok(Observed { reading: Reading::Facts(Box::new(facts)), config, tables })
}

/// Takes one step.
///
/// # Errors
/// If it was not taken, or it is not known whether it was.
pub async fn apply(session: &Session, wanted: &Wanted, step: &Step) -> Result<(), Error> {
    match step {
        Step::Claim { over: false } => {
            let text = format!("sh -c {} sh {ROOT} {OWNER}", quote(CLAIM));
            root(session, Command::new(text, SHORT).stdin(wanted.mark.comment()), step).await
        }
        Step::Claim { over: true } => write(session, OWNER, wanted.mark.comment(), 0o644).await,
        Step::Install { engine } => {
            let mut packages = vec!["docker-compose-plugin"];
            if *engine {
                packages.extend(["docker-ce", "docker-ce-cli", "containerd.io"]);
            }
            let from = &wanted.packages;
            let text = format!("sh -c {} sh {} {}", quote(INSTALL), quote(&from.repository), quote(&from.key));
            // What apt complains of is on both outputs; of this one the end is kept.
            root(session, Command::new(format!("{text} {} >&2", packages.join(" ")), DOWNLOAD), step).await
        }
        Step::StartDocker => {
            root(session, Command::new("systemctl enable --quiet --now docker.service", START), step).await
        }
        Step::Directories(file) => {
            put(session, file).await?;
            root(session, Command::new(format!("systemd-tmpfiles --create {TMPFILES}"), SHORT), step).await
        }
        Step::Write(file) => put(session, file).await,
        Step::Pull(image) => root(session, Command::of(["docker", "pull", "--quiet", image], DOWNLOAD), step).await,
        Step::Network => {
            let subnet = wanted.edge.to_string();
            let words = ["docker", "network", "create", "--driver", "bridge", "--subnet", &subnet, EDGE];
            root(session, Command::of(words, SHORT), step).await
        }
        Step::Start { service, anew } => {
            let anew = if *anew { " --force-recreate" } else { "" };
            let up = format!("up --detach --no-deps --no-build --pull never{anew} {}", service.name());
            root(session, compose(&up), step).await?;
            // Whether it does is seen at the next look.
            answers(session, wanted, *service).await.map(drop)
        }
        Step::Settle { service } => {
            if answers(session, wanted, *service).await? {
                return Ok(());
            }
            // With new mounts: a directory that was removed and made again is another one.
            root(session, compose(&format!("restart --no-deps {}", service.name())), step).await?;
            let silent = Error::Silent { service: service.name(), socket: service.socket() };
            if answers(session, wanted, *service).await? { Ok(()) } else { Err(silent) }
        }
        Step::Configure(step) => match configure(session, wanted, step).await {
            // The next look says what it was changed to.
            Err(Error::Caddy(NotTaken::Changed)) => Ok(()),
            other => other,
        },
        Step::Finish => write(session, FINISHED, wanted.digest(), 0o644).await,
    }
}

/// Runs a command of root, which has to succeed.
async fn root(session: &Session, command: Command, step: &Step) -> Result<(), Error> {
    session.exec(command.as_root()).await?.checked(&format!("`{step}`"))?;
    Ok(())
}

async fn put(session: &Session, file: &File) -> Result<(), Error> {
    write(session, &file.path, file.content.clone(), file.mode).await
}

async fn write(session: &Session, path: &str, content: String, mode: u32) -> Result<(), Error> {
    Ok(session.upload(Upload::new(path, content, mode, SHORT).as_root()).await?)
}

/// A command to our Compose project, which no file but ours has a say in.
fn compose(text: &str) -> Command {
    let text = format!("docker compose --project-name {PROJECT} --file {COMPOSE} --env-file /dev/null {text}");
    Command::new(text, START)
}

/// Whether a container comes to answer as it should, within the time for that.
async fn answers(session: &Session, wanted: &Wanted, service: Service) -> Result<bool, Error> {
    let end = Instant::now() + SETTLE;
    loop {
        let answers = match service {
            Service::Caddy => config(session).await?.is_some(),
            Service::Router1 | Service::Router2 => table(session, service).await? == Some(wanted.table.hash()),
        };
        if answers || Instant::now() >= end {
            return Ok(answers);
        }
        sleep(INTERVAL).await;
    }
}

/// What Caddy serves, if it answers.
async fn config(session: &Session) -> Result<Option<Served>, Error> {
    let Some(answer) = get(session, Service::Caddy, "/config/").await? else { return Ok(None) };
    let etag = answer.headers().get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Some(Served { body: answer.into_body().into(), etag }))
}

/// The hash of the table that a router serves, if it answers and has one.
async fn table(session: &Session, router: Service) -> Result<Option<String>, Error> {
    let Some(answer) = get(session, router, "/healthz").await? else { return Ok(None) };
    let health: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    Ok(health["table"].as_str().map(str::to_owned))
}

async fn get(session: &Session, service: Service, path: &str) -> Result<Option<Response<Bytes>>, Error> {
    let request = request(Method::GET, path, &[], Bytes::new())?;
    match session.http(&Via::Unix(service.socket().to_owned()), request, ANSWER).await {
        Ok(answer) => Ok((answer.status() == StatusCode::OK).then_some(answer)),
        Err(error) if error.is_cut() => Err(error.into()),
        // Whatever else it is, nobody answers there.
        Err(_) => Ok(None),
    }
}

async fn configure(session: &Session, wanted: &Wanted, step: &caddy::Step) -> Result<(), Error> {
    let Some((path, headers)) = step.request() else { return Ok(()) };
    let request = request(Method::POST, path, &headers, wanted.config().json().into())?;
    let answer = session.http(&Via::Unix(ADMIN.to_owned()), request, CONFIGURE).await?;
    Ok(judge(answer.status().as_u16(), answer.body())?)
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Request<Bytes>, Error> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    // An `Etag` is what Caddy said it is.
    request.body(body).map_err(|error| ssh::Error::Invalid(format!("no request can be made of {path}: {error}")).into())
}
