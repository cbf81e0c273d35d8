//! The crash sweep over a deploy: at whatever write to the API server or a cloud the operator dies, and whatever becomes of
//! that write, the site answers every request and ends whole in the new revision, and nothing else on the host changes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cloudsim::Sim;
use cloudsim::cloudflare::{Draft, RecordEdit, RecordInfo};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{ApiProxy, Operator, OperatorOptions, condition, within};

use crate::apps::APP;
use crate::rig::{Rig, SOON, Vm};
use crate::sweep::{Case, Fate, Ground, LATE_SETTLE, Scenario, Site, sweep};
use crate::visitor::{Visitor, Watch};
use crate::world::{CLAIM, field};

/// How often the operator compares everything with the outside.
const RESYNC: Duration = Duration::from_secs(1);
/// How many revisions are kept besides the current one: few, so that each deploy forgets one.
const HISTORY: usize = 1;
/// Revisions before the first case, so that there is something to forget.
const BEFORE: usize = 3;
/// How many cases of each change `make test-hosts` has.
const SAMPLE: usize = 3;
const SITE: &str = "https://shop.example.com/";
const OTHER: &str = "https://other.example.com/";
/// A name that is no app's, by which the operator shows that it is alive.
const KEEPER: &str = "keeper.example.com";
/// Every container of the host: project, service, revision, state and id.
const CONTAINERS: &str = concat!(
    r#"docker ps --all --no-trunc --format '{{.Label "com.docker.compose.project"}} "#,
    r#"{{.Label "com.docker.compose.service"}} {{.Label "roadstead.revision"}} {{.State}} {{.ID}}'"#
);

/// What is changed of an app that serves.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// A new revision, beside the one that serves.
    Revision,
    /// One of its names: another takes its place.
    Name,
}

/// What is wanted of the app: the page of its revision, and its second name in the zone. The name of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    page: String,
    second: String,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.page, self.second)
    }
}

impl Wanted {
    fn of(case: &str) -> Self {
        let (page, second) = case.split_once(' ').unwrap();
        Self { page: page.to_owned(), second: second.to_owned() }
    }

    fn app(&self, namespace: &str) -> String {
        app(namespace, "shop", &self.page, &["shop", &self.second])
    }
}

/// Whether a name is one that was the app's second.
fn is_second(name: &str) -> bool {
    name.strip_prefix("second-").is_some_and(|rest| rest.ends_with(".example.com"))
}

/// A host with two apps, and a container and a record of somebody else's.
struct Yard {
    rig: Rig,
    proxy: ApiProxy,
    namespace: String,
    vm: String,
    visitor: Visitor,
    before: Option<Before>,
}

/// What must not change.
struct Before {
    /// Of all containers but those of the app's entry service.
    containers: Vec<String>,
    networks: String,
    volumes: String,
    /// The entries of the routing table but the app's.
    routes: BTreeMap<String, Value>,
    /// All records but the keeper's, and those of the app's second names.
    records: Vec<RecordInfo>,
}

/// What earlier cases left.
struct Past {
    /// How many cases there were.
    cases: usize,
    /// What was wanted last.
    wanted: Wanted,
    /// The page of the revision that served when the case began, and who watches it, and the other app.
    serving: String,
    watches: Option<(Watch, Watch)>,
    /// How many requests were answered.
    answers: usize,
}

/// The app in the revision of this page. Its `preDeploy` writes down in the volume that it ran.
fn app(namespace: &str, name: &str, page: &str, names: &[&str]) -> String {
    let domains: Vec<_> = names.iter().map(|name| json!({"name": format!("{name}.example.com")})).collect();
    let compose = json!({
        "services": {
            "web": {"image": Rig::site(), "expose": ["8080"], "volumes": ["data:/data"]},
            "store": {"image": Rig::site(), "command": ["/bin/sleep", "1000000"], "volumes": ["data:/data"]},
        },
        "volumes": {"data": {}},
    });
    let spec = json!({
        "target": {"nodeRef": {"name": "web-1"}}, "compose": {"inline": compose.to_string()},
        "domains": domains, "env": [{"name": "ANSWER", "value": page}],
        "healthPath": "/cgi-bin/health", "startPeriod": "1s", "healthTimeout": "20s",
        "strategy": {"drainTimeout": "1s", "sharedVolumes": true}, "revisionHistoryLimit": HISTORY,
        "preDeploy": {"command": ["/bin/sh", "-c", "echo $ANSWER >>/data/deployed"], "timeout": "20s"},
    });
    json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment", "spec": spec,
        "metadata": {"name": name, "namespace": namespace}})
    .to_string()
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

impl Yard {
    async fn start() -> Self {
        let change = |mut options: OperatorOptions| {
            // After a crash it leads again at once.
            options.arguments.extend(["--identity", "crash"].map(str::to_owned));
            OperatorOptions { resync: RESYNC, settle_time: LATE_SETTLE, ..options }
        };
        let mut rig = Rig::with(change).await;
        let proxy = rig.through_a_proxy().await;
        let cluster = &rig.world.cluster;
        let namespace = cluster.namespace("shop").await;
        rig.apply_node(&namespace, "web-1", json!({})).await;
        rig.world.apply_node(&namespace, "keeper", "providerRef: {name: racks}, address: 203.0.113.7").await;
        let draft = json!({"name": "somebodys.example.com", "type": "A", "content": "192.0.2.1", "ttl": 300,
            "comment": "mine"});
        let draft: Draft = serde_json::from_value(draft).unwrap();
        rig.world.sim.cloudflare.add_record("example.com", &draft).unwrap();
        rig.bootstrapped(&namespace, "web-1").await;
        let vm = rig.vm(&namespace, "web-1").await;
        vm.run(&format!("docker run --detach --name somebodys {} /bin/sleep 1000000", Rig::site())).await.unwrap();
        let (vm, visitor) = (vm.id, rig.visitor());
        let mut yard = Self { rig, proxy, namespace, vm, visitor, before: None };
        yard.rig.world.cluster.apply(&app(&yard.namespace, "other", "another", &["other"])).await;
        yard.serves("other", OTHER, "another").await.unwrap();
        for number in 1..=BEFORE {
            let wanted = Wanted { page: format!("v{number}"), ..Past::default().wanted };
            yard.rig.world.cluster.apply(&wanted.app(&yard.namespace)).await;
            yard.serves("shop", SITE, &wanted.page).await.unwrap();
        }
        yard.before = Some(yard.now().await);
        yard
    }

    async fn host(&self) -> Vm<'_> {
        self.rig.vm_by_id(&self.vm).await
    }

    async fn get(&self, name: &str) -> DynamicObject {
        self.rig.world.cluster.get(APP, Some(&self.namespace), name).await.unwrap()
    }

    /// Waits until the app is as its spec says, and its page is this one.
    async fn serves(&self, name: &str, url: &str, page: &str) -> Result<(), String> {
        within(SOON, &format!("{page} at {url}"), async || {
            let app = self.get(name).await;
            is_ready(&app)?;
            match self.visitor.get(url).await? {
                answer if answer.body.trim() == page => Ok(()),
                answer => Err(format!("{answer:?} {}", app.data["status"])),
            }
        })
        .await
    }

    /// What there is now besides the app's entry service.
    async fn now(&self) -> Before {
        let host = self.host().await;
        let run = async |script: &str| host.run(script).await.unwrap();
        let mut containers = lines(&run(CONTAINERS).await);
        containers.retain(|line| !(line.starts_with("shop-") && line.contains(" web ")));
        let table = run("cat /opt/roadstead/router/table.json").await;
        let table: Value = serde_json::from_str(&table).unwrap();
        let routes = table["hosts"].as_object().unwrap().clone().into_iter();
        let mut records = self.rig.world.records();
        records.retain(|record| record.name != KEEPER && !is_second(&record.name));
        Before {
            containers,
            networks: run("docker network ls --no-trunc | sort").await,
            volumes: run("docker volume ls | sort").await,
            routes: routes.filter(|(name, _)| name != "shop.example.com" && !is_second(name)).collect(),
            records,
        }
    }

    /// What of the host, or of other people's, is not as it was.
    async fn touched(&self) -> Vec<String> {
        let (before, now) = (self.before.as_ref().unwrap(), self.now().await);
        let mut complaints = Vec::new();
        let mut compare = |what: &str, before: &dyn std::fmt::Debug, now: &dyn std::fmt::Debug| {
            let (before, now) = (format!("{before:#?}"), format!("{now:#?}"));
            if before != now {
                complaints.push(format!("{what} were {before} and are {now}"));
            }
        };
        compare("other containers", &before.containers, &now.containers);
        compare("networks", &before.networks, &now.networks);
        compare("volumes", &before.volumes, &now.volumes);
        compare("other routes", &before.routes, &now.routes);
        compare("records", &before.records, &now.records);
        complaints
    }

    /// What is not as it should be of the app.
    async fn unwhole(&self, wanted: &Wanted) -> Vec<String> {
        let page = wanted.page.as_str();
        let mut complaints = self.misnamed(&wanted.second).await;
        let (app, host) = (self.get("shop").await, self.host().await);
        let revision = field(&app, "/status/currentRevision/name").as_str().unwrap_or_default().to_owned();
        let live = field(&app, "/status/nodes/0/revision");
        if revision.is_empty() || live != revision.as_str() {
            complaints.push(format!("current is {revision:?}, and live {live}"));
        }
        let run = async |script: &str| host.run(script).await.unwrap_or_else(|error| error);
        let mut entry = lines(&run(CONTAINERS).await);
        entry.retain(|line| line.starts_with("shop-") && line.contains(" web "));
        if entry.len() != 1 || !entry[0].contains(&format!(" web {revision} running ")) {
            complaints.push(format!("containers of the entry service of {revision}: {entry:?}"));
        }
        let ran = lines(&run("docker exec $(docker ps -qf name=^shop-.*-store-) /bin/cat /data/deployed").await);
        if ran.iter().filter(|of| *of == page).count() != 1 || ran.windows(2).any(|pair| pair[0] == pair[1]) {
            complaints.push(format!("preDeploy ran for {ran:?}"));
        }
        let kept = run("ls -A /opt/roadstead/apps/shop-*/revisions").await;
        let mut stored = self.rig.world.cluster.list("apps/v1/ControllerRevision", Some(&self.namespace)).await;
        stored.retain(|stored| stored.metadata.owner_references.iter().flatten().any(|owner| owner.name == "shop"));
        if kept.lines().count() > HISTORY + 1 || stored.len() > HISTORY + 1 {
            complaints.push(format!("{kept:?} on the host and {} revisions are kept", stored.len()));
        }
        match self.visitor.get(SITE).await {
            Ok(answer) if answer.body.trim() == page => {}
            other => complaints.push(format!("visitors see {other:?} instead of {page}")),
        }
        complaints
    }

    /// What is not as it should be of the app's second names, of which this one is wanted.
    async fn misnamed(&self, second: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        let name = format!("{second}.example.com");
        let mut records = self.rig.world.records();
        let first =
            records.iter().find(|record| record.name == "shop.example.com").map(|record| record.content.clone());
        records.retain(|record| is_second(&record.name));
        let leads = |record: &RecordInfo| record.name == name && Some(&record.content) == first.as_ref();
        if records.len() != 1 || !leads(&records[0]) {
            complaints.push(format!("records {records:?} instead of one of {name} that leads to {first:?}"));
        }
        let held = |claim: &DynamicObject| {
            let holders = field(claim, "/spec/holders").as_object();
            holders.is_some_and(|roles| roles.values().any(|holder| !holder.is_null()))
        };
        let claims = self.rig.world.cluster.list(CLAIM, None).await;
        let claims = claims.iter().filter(|claim| held(claim)).filter_map(|claim| claim.metadata.name.clone());
        let claims: Vec<_> = claims.filter(|claim| is_second(claim)).collect();
        if claims != [name.clone()] {
            complaints.push(format!("claims {claims:?} are held instead of {name}"));
        }
        let table = self.host().await.run("cat /opt/roadstead/router/table.json").await.unwrap_or_default();
        let table: Value = serde_json::from_str(&table).unwrap_or_default();
        let routed = table["hosts"].as_object().into_iter().flatten().filter(|(name, _)| is_second(name));
        let routed: Vec<_> = routed.collect();
        if routed.len() != 1 || *routed[0].0 != name || *routed[0].1 != table["hosts"]["shop.example.com"] {
            complaints.push(format!("routes {routed:?} instead of one of {name}"));
        }
        match self.visitor.get(&format!("https://{name}/")).await {
            Ok(answer) if answer.status == 200 => {}
            other => complaints.push(format!("visitors of {name} see {other:?}")),
        }
        complaints
    }

    /// Nothing more is written outside, and soon nothing inside over two resyncs; and the operator is alive, because it
    /// repairs a record edited after that.
    async fn rests(&self) -> Result<(), String> {
        let done = self.sim().gate.journal.last();
        self.quiet(RESYNC * 2 + RESYNC / 4).await?;
        let outside = self.cloud_writes(done);
        if !outside.is_empty() {
            return Err(format!("written outside after everything was done: {outside:?}"));
        }
        let record = || self.rig.world.record(KEEPER).ok_or_else(|| "the record is gone".to_owned());
        let right = record()?;
        let wrong = RecordEdit { content: Some("198.51.100.9".to_owned()), ..RecordEdit::default() };
        self.sim().cloudflare.edit_record(&right.id, &wrong);
        within(Duration::from_secs(15), "an edited record to be repaired", async || {
            let now = record()?.content;
            if now == right.content { Ok(()) } else { Err(now) }
        })
        .await
    }
}

/// Whether the app is as its present spec says; otherwise what it says instead.
fn is_ready(app: &DynamicObject) -> Result<(), String> {
    let ready = condition(app, "Ready").is_some_and(|ready| ready["status"] == "True");
    let current = field(app, "/status/observedGeneration").as_i64() == app.metadata.generation;
    let active = field(app, "/status/status") == "active";
    if ready && current && active { Ok(()) } else { Err(app.data["status"].to_string()) }
}

impl Ground for Yard {
    const CONVERGED: Duration = SOON;

    fn sim(&self) -> &Sim {
        &self.rig.world.sim
    }

    fn proxy(&self) -> &ApiProxy {
        &self.proxy
    }

    fn operator(&mut self) -> &mut Operator {
        &mut self.rig.world.operator
    }

    fn cloud_writes(&self, since: u64) -> Vec<String> {
        self.rig.world.writes_since(since)
    }

    async fn quiet(&self, duration: Duration) -> Result<(), String> {
        let journal = self.sim().gate.journal.last();
        let writes = || {
            let inside = self.proxy.writes().into_iter().map(|write| write.to_string());
            // Names given back by earlier cases are swept when their time is over.
            let inside = inside.filter(|write| !write.contains("DELETE /apis/roadstead.dev/v1alpha1/hostnameclaims/"));
            self.cloud_writes(journal).into_iter().chain(inside).collect()
        };
        support::quiet(duration, writes).await
    }
}

impl Default for Past {
    fn default() -> Self {
        let wanted = Wanted { page: format!("v{BEFORE}"), second: "second-0".to_owned() };
        Self { cases: 0, wanted, serving: String::new(), watches: None, answers: 0 }
    }
}

impl Scenario for Change {
    type World = Yard;
    type Pool = Past;

    async fn prepare(self, yard: &Yard, past: &mut Past) -> Result<String, String> {
        // Of a case that failed something may be left to be done.
        within(SOON, "what was wanted before", async || is_ready(&yard.get("shop").await)).await?;
        if let Some((site, other)) = past.watches.take() {
            tokio::join!(site.end(), other.end());
        }
        yard.visitor.get(SITE).await?.body.trim().clone_into(&mut past.serving);
        past.cases += 1;
        match self {
            Self::Revision => past.wanted.page = format!("v{}", BEFORE + past.cases),
            Self::Name => past.wanted.second = format!("second-{}", past.cases),
        }
        past.watches = Some((yard.visitor.watch(SITE), yard.visitor.watch(OTHER)));
        Ok(past.wanted.to_string())
    }

    async fn trigger(self, yard: &Yard, case: &str) {
        yard.rig.world.cluster.apply(&Wanted::of(case).app(&yard.namespace)).await;
    }

    async fn look(self, yard: &Yard, _: &str) -> Result<(), String> {
        is_ready(&yard.get("shop").await)
    }

    async fn oracles(self, yard: &Yard, past: &mut Past, case: &str) -> Vec<String> {
        let wanted = Wanted::of(case);
        let mut complaints = yard.unwhole(&wanted).await;
        complaints.extend(yard.touched().await);
        if complaints.is_empty() {
            complaints.extend(yard.rests().await.err());
        }
        let (site, other) = past.watches.take().unwrap();
        let mut pages = vec![past.serving.as_str(), wanted.page.as_str()];
        pages.dedup();
        for (what, watch, pages) in [("the site", site, pages), ("the other app", other, vec!["another"])] {
            let seen = watch.end().await;
            past.answers += seen.answers;
            if !seen.failures.is_empty() || seen.pages != pages {
                complaints.push(format!("visitors of {what} saw {:?}, and {:?}", seen.pages, seen.failures));
            }
        }
        complaints
    }

    fn keep(self, _: &str, _: &mut Past) {}
}

/// Sweeps changes of an app on a host of its own.
async fn sweep_an_app(changes: &[Change], fates: &[Fate], choose: impl Fn(Vec<Case<Change>>) -> Vec<Case<Change>>) {
    let mut worlds = [(Yard::start().await, Past::default())];
    let plans: Vec<_> = changes.iter().map(|&change| (change, &Site::ALL[..], fates)).collect();
    sweep(&plans, &mut worlds, choose).await;
    println!("{} answers, and none of them failed", worlds[0].1.answers);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_crash_at_a_write_of_a_deploy_or_of_another_name_is_not_seen_outside() {
    // Spread over its writes, which are dropped and committed in turn.
    let some = |cases: Vec<Case<Change>>| {
        let step = cases.len() / SAMPLE;
        (0..SAMPLE).map(|n| cases[usize::midpoint(n * step, step / 2) * 2 + n % 2]).collect()
    };
    sweep_an_app(&[Change::Revision, Change::Name], &Fate::PLAIN, some).await;
}

/// `make test-crash-hosts`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full matrix: `make test-crash-hosts`"]
async fn full_matrix_of_crashes_and_lost_replies_at_every_write_of_a_deploy() {
    sweep_an_app(&[Change::Revision], &Fate::ALL, |cases| cases).await;
}

/// `make test-crash-hosts`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full matrix: `make test-crash-hosts`"]
async fn full_matrix_of_crashes_and_lost_replies_at_every_write_of_another_name() {
    sweep_an_app(&[Change::Name], &Fate::ALL, |cases| cases).await;
}
