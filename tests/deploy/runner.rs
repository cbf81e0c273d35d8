//! An app on a VM, deployed as the operator does it: look, decide, act, write down what became of it, look again. The
//! journal is all that outlives a runner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use roadstead::host::app::{self, NotPrepared, Prepared, Spec};
use roadstead::host::bootstrap::TABLE;
use roadstead::host::compose::refuse::HostAccess;
use roadstead::host::compose::{entry, strategy};
use roadstead::host::deploy::app::Domain;
use roadstead::host::deploy::commands::Place;
use roadstead::host::deploy::conclude::{Outcome, conclude};
use roadstead::host::deploy::plan::{Await, plan};
use roadstead::host::deploy::seen::Answer;
use roadstead::host::deploy::{Action, Journal, Observed, Step, Wanted};
use roadstead::host::ssh::{Command, Session, Upload};
use roadstead::host::table::{Route, Table};
use tokio::time::{sleep, timeout};

use crate::host::{Host, ROOT, SOON};

/// How long a whole deploy may take here.
const DEPLOY: Duration = Duration::from_secs(180);
/// How often a runner looks again at what it waits for.
const AGAIN: Duration = Duration::from_millis(200);
pub const POOL: &str = "10.90.0.0/16";

/// What becomes of a runner at an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// It is dropped while the action is under way.
    During,
    /// It is dropped after the action, before that is written down.
    After,
    /// The connection is cut while the action is under way.
    Cut,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// What is wanted runs.
    Done,
    /// It cannot be had: reason, phase and message.
    Stopped(String),
    /// The app is gone.
    Gone,
    /// The runner was dropped.
    Crashed,
    /// It waits for time to heal something: the reason.
    Held(String),
}

/// An app on a VM.
pub struct App<'a> {
    pub host: &'a Host,
    pub place: Place,
    pub domain: String,
    pub prepared: Option<Prepared>,
    /// As it is stored: nothing survives a runner but this.
    pub journal: String,
    /// What was done, in words.
    pub trace: Vec<String>,
    pub secrets: Vec<String>,
    pub progress: Vec<String>,
}

/// A revision of an app whose entry is the rig's site.
pub fn spec(revision: &str, compose: &str, values: &[(&str, &str)]) -> Spec {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Spec {
        revision: revision.into(),
        cause: "1".into(),
        compose: compose.into(),
        files: BTreeMap::new(),
        images: Vec::new(),
        values: values.collect(),
        only: BTreeMap::new(),
        entry: entry::Asked::default(),
        host_access: HostAccess::default(),
        strategy: strategy::Asked::default(),
        updates: BTreeMap::new(),
        pre_deploy: None,
        edge: false,
        health_path: Some("/cgi-bin/health".into()),
        default_health_path: "/".into(),
        start_period: 3,
        health_timeout: 8,
        external_timeout: 20,
        drain: 1,
        history: 2,
        suspend: false,
        maintenance: false,
    }
}

/// A Compose file of one service.
pub fn alone(site: &str) -> String {
    format!("services: {{web: {{image: '{site}', expose: ['8080']}}}}\n")
}

pub fn file(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl<'a> App<'a> {
    pub fn new(host: &'a Host, name: &str) -> Self {
        let place = Place {
            app: format!("c1-{name}"),
            project: format!("shop-{name}"),
            directory: format!("/opt/roadstead/apps/shop-{name}"),
            proxy: "roadstead-caddy-caddy-1".into(),
            registries: Vec::new(),
        };
        Self {
            host,
            place,
            domain: format!("{name}.example.com"),
            prepared: None,
            journal: "{}".into(),
            trace: Vec::new(),
            secrets: Vec::new(),
            progress: Vec::new(),
        }
    }

    /// What is written down.
    pub fn written(&self) -> Journal {
        serde_json::from_str(&self.journal).unwrap()
    }

    /// Wants a revision from now on.
    pub async fn want(&mut self, session: &Session, spec: &Spec) -> Result<(), NotPrepared> {
        let mut prepared = app::prepare(session, &self.place, spec, POOL.parse().unwrap()).await?;
        prepared.wanted.domains = [(self.domain.clone(), Domain::Serve { verify: true, peer: None })].into();
        self.prepared = Some(prepared);
        Ok(())
    }

    /// Deploys a revision with a connection of its own, to its end.
    pub async fn deploy(&mut self, spec: &Spec) -> End {
        let session = self.host.session(ROOT).await.unwrap();
        self.want(&session, spec).await.unwrap_or_else(|error| panic!("{error}"));
        self.run(&session, None).await
    }

    /// Takes the app away.
    pub async fn remove(&mut self) -> End {
        let session = self.host.session(ROOT).await.unwrap();
        self.prepared = None;
        self.run(&session, None).await
    }

    /// Takes steps until the end, or until it crashes at the action of that number.
    pub async fn run(&mut self, session: &Session, crash: Option<(usize, Crash)>) -> End {
        let before = self.trace.len();
        let end = timeout(DEPLOY, self.steps(session, crash)).await;
        end.unwrap_or_else(|_| panic!("it does not end:\n{}", self.trace[before..].join("\n")))
    }

    async fn steps(&mut self, session: &Session, crash: Option<(usize, Crash)>) -> End {
        let (mut internal, mut external) = (BTreeMap::new(), BTreeMap::new());
        let mut host = None;
        let mut actions = 0;
        loop {
            let journal = self.written();
            let wanted = self.prepared.as_ref().map(|prepared| prepared.wanted.clone());
            let now_there = match host.take() {
                Some(host) => host,
                None => app::observe(session, &self.place, wanted.as_ref(), &journal).await.unwrap(),
            };
            let seen = Observed {
                app: self.place.app.clone(),
                wanted: wanted.clone(),
                journal,
                host: now_there,
                internal: internal.clone(),
                external: external.clone(),
            };
            let step = plan(&seen, Timestamp::now());
            self.trace.push(words(&step));
            match step {
                Step::Record(journal) => {
                    self.write(&journal);
                    host = Some(seen.host);
                }
                Step::Do(action) => {
                    let crash = crash.filter(|(at, _)| *at == actions).map(|(_, crash)| crash);
                    actions += 1;
                    let Some(outcome) = self.act(session, wanted.as_ref(), &action, crash).await else {
                        return End::Crashed;
                    };
                    if !matches!(outcome, Outcome::Done) {
                        self.trace.push(format!("  {outcome:?}"));
                    }
                    self.write(&conclude(&seen, &action, &outcome, Timestamp::now()));
                    if crash == Some(Crash::Cut) {
                        return End::Crashed;
                    }
                }
                Step::Wait(Await::Internal { ids, port, path }, _) => {
                    internal = app::ask(session, &self.place, &ids, port, &path).await;
                    if internal.values().any(|answer| answer.verdict.is_err()) {
                        sleep(AGAIN).await;
                    }
                }
                Step::Wait(Await::External(names), _) => {
                    for name in names {
                        let path = &wanted.as_ref().unwrap().health_path;
                        let verdict = match self.page(path).await {
                            Ok((200..400, _)) => Ok(()),
                            Ok((status, body)) => Err(format!("{status} {body}")),
                            Err(error) => Err(format!("{error:?}")),
                        };
                        external.insert(name, Answer { at: Timestamp::now(), verdict });
                    }
                    // The host cannot have changed but by itself.
                    host = Some(seen.host);
                    sleep(Duration::from_millis(20)).await;
                }
                Step::Wait(_, until) => {
                    let left = until.duration_since(Timestamp::now()).unsigned_abs();
                    sleep(left.min(Duration::from_secs(1)).max(Duration::from_millis(10))).await;
                }
                Step::Hold(back_off) => return End::Held(back_off.reason),
                Step::Stop(failure) => {
                    return End::Stopped(format!("{}/{:?}: {}", failure.reason, failure.phase, failure.message));
                }
                Step::Foreign(ids) => panic!("foreign containers: {ids:?}"),
                Step::Done => return End::Done,
                Step::Gone => return End::Gone,
            }
        }
    }

    fn write(&mut self, journal: &Journal) {
        self.journal = serde_json::to_string(journal).unwrap();
    }

    /// Takes an action, unless it crashes there.
    async fn act(
        &mut self,
        session: &Session,
        wanted: Option<&Wanted>,
        action: &Action,
        crash: Option<Crash>,
    ) -> Option<Outcome> {
        let names: BTreeSet<String> = self.written().names;
        let progress = std::sync::Mutex::new(Vec::new());
        let act = async {
            match action {
                Action::Route(routes) => route(session, &names, routes).await,
                action => {
                    let on = |line| progress.lock().unwrap().push(line);
                    app::act(session, &self.place, wanted, action, &self.secrets, on).await
                }
            }
        };
        let outcome = match crash {
            Some(Crash::During) => {
                let _ = timeout(Duration::from_millis(60), act).await;
                None
            }
            Some(Crash::Cut) => {
                let connection =
                    session.exec(Command::new("cut -d' ' -f4 /proc/$PPID/stat", SOON)).await.unwrap().stdout;
                let connection = String::from_utf8(connection).unwrap();
                let cut = async {
                    sleep(Duration::from_millis(60)).await;
                    // The process that holds the connection: its child runs what we are asked to run.
                    self.host.root(&format!("kill -9 {}", connection.trim())).await;
                };
                Some(futures::future::join(act, cut).await.0)
            }
            _ => Some(act.await),
        };
        self.progress.extend(progress.into_inner().unwrap());
        outcome.filter(|_| crash != Some(Crash::After))
    }

    /// Status and body of a page of the site, asked from outside.
    pub async fn page(&self, path: &str) -> Result<(u16, String), reqwest::Error> {
        let client = self.host.client(&self.domain);
        let answer = client.get(format!("https://{}{path}", self.domain)).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await?))
    }

    /// The body of a page that answers.
    pub async fn text(&self, path: &str) -> String {
        let (status, body) = self.page(path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body.trim().to_owned()
    }

    /// The app's containers, one on a line: service, revision, state.
    pub async fn containers(&self) -> Vec<String> {
        let format = r#"{{.Label "com.docker.compose.service"}} {{.Label "roadstead.revision"}} {{.State}}"#;
        let filter = format!("--filter label=com.docker.compose.project={}", self.place.project);
        let mut lines: Vec<String> = self
            .host
            .root(&format!("docker ps --all {filter} --format '{format}'"))
            .await
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }
}

/// Puts the app's entries of the routing table in the place of those it had.
async fn route(session: &Session, names: &BTreeSet<String>, routes: &BTreeMap<String, Route>) -> Outcome {
    let text = match session.exec(Command::new(format!("cat {TABLE}"), SOON).as_root()).await {
        Ok(output) => output.stdout,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let Ok(table) = Table::parse(&text) else { return Outcome::Unknown("the table was cut".into()) };
    let others = table.iter().filter(|(name, _)| !names.contains(*name) && !routes.contains_key(*name));
    let others = others.map(|(name, route)| (name.to_owned(), route.clone()));
    let all = others.chain(routes.iter().map(|(name, route)| (name.clone(), route.clone())));
    let table = Table::new(table.node().clone(), all).unwrap();
    match session.upload(Upload::new(TABLE, table.json(), 0o644, SOON).as_root()).await {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

fn words(step: &Step) -> String {
    match step {
        Step::Record(journal) => {
            let coming = journal.coming.as_ref();
            format!(
                "record {:?} {:?}",
                coming.map(|coming| coming.stage),
                coming.and_then(|coming| coming.undo.clone())
            )
        }
        step => format!("{step:?}"),
    }
}
