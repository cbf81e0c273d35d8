//! The REST API on top of the whole system: what is said to it by HTTP is what the cluster holds and the zone's own server
//! answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod world;

use std::net::SocketAddr;

use kube::api::DynamicObject;
use roadstead::api::names::Fqdn;
use roadstead::dns::Kind;
use roadstead::dns::propagation::{self, Answer};
use serde_json::{Value, json};
use support::{Operator, OperatorOptions, eventually, free_port};
use world::{DEADLINE, World, addresses, field};

const GROUP: &str = "roadstead.dev/v1alpha1/ServerGroup";
const NOBODY: &str = "no-healthy-servers";
/// Where the API's groups are made.
const GROUPS: &str = "roadstead-groups";

struct Gateway {
    world: World,
    url: String,
    http: reqwest::Client,
    /// Holds the history.
    directory: tempfile::TempDir,
}

impl Gateway {
    async fn start() -> Self {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("history.sqlite");
        let world = World::with(|options| with_gateway(options, at, &file)).await;
        world.cluster.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {GROUPS}}}")).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let gateway = Self { world, url: format!("http://{at}"), http, directory };
        gateway.leads().await;
        gateway
    }

    /// Waits until the process leads, and the zone is known to it.
    async fn leads(&self) {
        eventually(DEADLINE, "the gateway to serve", async || {
            let response = self.http.get(format!("{}/dns/nobody", self.url)).send().await.map_err(|e| e.to_string())?;
            if response.status().as_u16() == 404 { Ok(()) } else { Err(response.status().to_string()) }
        })
        .await;
        let ready = self.world.cluster.wait_condition(world::ZONE, None, "example-com", "Ready", "True", DEADLINE);
        ready.await;
    }

    async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let request = body.iter().fold(request, |request, body| request.body(body.to_string()));
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        self.send("POST", path, token, Some(body)).await
    }

    async fn key(&self, email: &str) -> String {
        let (status, body) = self.post("/api/users/create", None, json!({ "email": email })).await;
        assert_eq!(status, 201, "{body}");
        body["user"]["apiKey"].as_str().unwrap().to_owned()
    }

    async fn group(&self, key: &str, name: &str) -> String {
        let (status, body) = self.post("/api/groups", Some(key), json!({ "name": name })).await;
        assert_eq!(status, 201, "{body}");
        body["groupSlug"].as_str().unwrap().to_owned()
    }

    async fn report(&self, token: &str, slug: &str, address: &str, status: &str) -> (u16, Value) {
        let body = json!({"groupSlug": slug, "address": address, "status": status});
        self.post("/api/report", Some(token), body).await
    }

    /// Reports, and expects that to be taken; a process that has just begun to lead may ask for patience.
    async fn reported(&self, token: &str, slug: &str, address: &str, status: &str) {
        let (code, body) = eventually(DEADLINE, "the report to be looked at", async || {
            let (code, body) = self.report(token, slug, address, status).await;
            if code == 503 { Err(body.to_string()) } else { Ok((code, body)) }
        })
        .await;
        let said = format!("Status for {address} reported as {status}. DNS record sync initiated.");
        assert_eq!((code, &body), (200, &json!({ "message": said })));
    }

    /// What anybody is told of a group.
    async fn servers(&self, slug: &str) -> Value {
        let (status, body) = self.send("GET", &format!("/dns/{slug}"), None, None).await;
        assert_eq!(status, 200, "{body}");
        body["servers"].clone()
    }

    /// Waits until the zone's own server lists exactly this.
    async fn lists(&self, slug: &str, expected: &str) {
        let name = Fqdn::parse(&format!("_wrap.{slug}.example.com")).unwrap();
        eventually(DEADLINE, &format!("{slug} to list `{expected}`"), async || {
            let said = match propagation::ask(self.world.sim.dns(), &name, Kind::Txt).await {
                Answer::Records(records) => records.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"),
                Answer::Negative => String::new(),
                Answer::Unreachable(why) => panic!("{why}"),
            };
            if said == expected { Ok(()) } else { Err(said) }
        })
        .await;
    }

    async fn object(&self, slug: &str) -> DynamicObject {
        self.world.cluster.get(GROUP, Some(GROUPS), slug).await.unwrap()
    }

    /// The entry of a server in the group's status.
    async fn member(&self, slug: &str, id: &str) -> Value {
        let group = self.object(slug).await;
        let members = field(&group, "/status/members").as_array().cloned().unwrap_or_default();
        members.into_iter().find(|member| member["id"] == id).unwrap_or_default()
    }
}

fn with_gateway(mut options: OperatorOptions, at: SocketAddr, history: &std::path::Path) -> OperatorOptions {
    for (flag, value) in [
        ("--gateway-addr", at.to_string()),
        ("--gateway-namespace", GROUPS.to_owned()),
        ("--gateway-zone", "example-com".to_owned()),
        ("--signup", "open".to_owned()),
        ("--signup-rate", "1000".to_owned()),
        ("--history-file", history.to_str().unwrap().to_owned()),
    ] {
        options.arguments.extend([flag.to_owned(), value]);
    }
    options
}

#[tokio::test]
async fn a_user_signs_up_makes_a_group_and_its_reports_become_the_record() {
    let mut gateway = Gateway::start().await;
    assert_eq!(gateway.send("GET", "/setup", None, None).await, (200, json!("Tables created successfully!")));
    let key = gateway.key("user@example.com").await;
    let twice = gateway.post("/api/users/create", None, json!({"email": "USER@example.com"})).await;
    assert_eq!((twice.0, &twice.1["code"]), (409, &json!("EmailTaken")));

    let body = json!({"name": "My Web Servers", "strategy": "round-robin"});
    let (status, group) = gateway.post("/api/groups", Some(&key), body).await;
    assert_eq!(
        (status, &group["name"], &group["strategy"]),
        (201, &json!("My Web Servers"), &json!("round-robin")),
        "{group}"
    );
    let slug = group["groupSlug"].as_str().unwrap().to_owned();
    let suffix = slug.strip_prefix("my-web-servers-").unwrap();
    assert!(suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{slug}");
    gateway.lists(&slug, NOBODY).await;
    assert_eq!(gateway.servers(&slug).await, json!([]));
    let object = gateway.object(&slug).await;
    assert_eq!(object.metadata.uid.as_deref(), group["id"].as_str());
    assert_eq!(object.metadata.labels.as_ref().unwrap()["roadstead.dev/api-user"], group["userId"].as_str().unwrap());
    assert_eq!(field(&object, "/spec/displayName"), "My Web Servers");

    gateway.reported(&key, &slug, "server1.example.com", "healthy").await;
    // The answer came after the status was written, and this process reads what it wrote.
    assert_eq!(gateway.member(&slug, "server1.example.com").await["health"], "Healthy");
    assert_eq!(gateway.servers(&slug).await, json!(["server1.example.com"]));
    gateway.lists(&slug, "server1.example.com").await;
    // A private address is listed, and never probed.
    gateway.reported(&key, &slug, "192.168.1.100", "healthy").await;
    gateway.lists(&slug, "192.168.1.100,server1.example.com").await;
    // Who reads the history waits until it is on disk; a process that is killed before loses its last moment.
    let (status, history) = gateway.send("GET", &format!("/api/groups/{slug}/history"), Some(&key), None).await;
    assert_eq!((status, history["entries"].as_array().unwrap().len()), (200, 2));

    gateway.world.operator.restart().await;
    gateway.leads().await;
    assert_eq!(gateway.servers(&slug).await, json!(["192.168.1.100", "server1.example.com"]));
    gateway.reported(&key, &slug, "server1.example.com", "unhealthy").await;
    assert_eq!(gateway.servers(&slug).await, json!(["192.168.1.100"]));
    gateway.lists(&slug, "192.168.1.100").await;

    let (status, groups) = gateway.send("GET", "/api/groups", Some(&key), None).await;
    assert_eq!((status, groups.as_array().unwrap().len()), (200, 1));
    let servers = groups[0]["servers"].as_array().unwrap();
    let shown: Vec<_> = servers.iter().map(|s| (s["address"].clone(), s["status"].clone())).collect();
    assert_eq!(shown, [(json!("192.168.1.100"), json!("healthy")), (json!("server1.example.com"), json!("unhealthy"))]);
    assert!(servers.iter().all(|server| server["lastHeartbeatAt"].is_string() && server["groupId"] == group["id"]));

    let (status, history) = gateway.send("GET", &format!("/api/groups/{slug}/history"), Some(&key), None).await;
    let told: Vec<_> = history["entries"].as_array().unwrap().iter().map(|e| (&e["address"], &e["status"])).collect();
    let (one, two) = (json!("server1.example.com"), json!("192.168.1.100"));
    let (healthy, unhealthy) = (json!("healthy"), json!("unhealthy"));
    assert_eq!((status, told), (200, vec![(&one, &unhealthy), (&two, &healthy), (&one, &healthy)]));

    let server = format!("/api/groups/{slug}/servers/192.168.1.100");
    assert_eq!(gateway.send("DELETE", &server, Some(&key), None).await.0, 204);
    assert_eq!(gateway.servers(&slug).await, json!([]));
    assert_eq!(gateway.send("DELETE", &server, Some(&key), None).await.0, 404);
    gateway.lists(&slug, NOBODY).await;
    assert_eq!(gateway.send("DELETE", &format!("/api/groups/{slug}"), Some(&key), None).await.0, 204);
    assert_eq!(gateway.send("GET", "/api/groups", Some(&key), None).await.1, json!([]));
    assert_eq!(gateway.report(&key, &slug, "10.0.0.1", "healthy").await.0, 404);
    gateway.world.cluster.wait_gone(GROUP, Some(GROUPS), &slug, DEADLINE).await;
    assert_eq!(gateway.world.records(), []);
}

#[tokio::test]
async fn what_changes_nothing_is_not_written_and_silence_is() {
    let gateway = Gateway::start().await;
    let key = gateway.key("user@example.com").await;
    let slug = gateway.group(&key, "quiet").await;
    gateway.reported(&key, &slug, "10.0.0.1", "healthy").await;
    gateway.lists(&slug, "10.0.0.1").await;
    gateway.world.cluster.wait_condition(GROUP, Some(GROUPS), &slug, "Ready", "True", DEADLINE).await;
    eventually(DEADLINE, "the status names what is published", async || {
        let group = gateway.object(&slug).await;
        let content = field(&group, "/status/txt/content").clone();
        if content == "10.0.0.1" { Ok(()) } else { Err(content.to_string()) }
    })
    .await;

    let writes = gateway.world.cluster.count_writes(GROUP).await;
    let since = gateway.world.sim.gate.journal.last();
    for _ in 0..200 {
        gateway.reported(&key, &slug, "10.0.0.1", "healthy").await;
    }
    assert_eq!(writes.count(GROUPS, &slug).await.writes, 0, "of 200 reports that changed nothing");
    assert_eq!(gateway.world.writes_since(since), [] as [&str; 0]);
    // A counter that sees nothing would pass the above.
    gateway.reported(&key, &slug, "10.0.0.2", "healthy").await;
    eventually(DEADLINE, "a change to be counted", async || writes.count(GROUPS, &slug).await.writes > 0).await;
    gateway.lists(&slug, "10.0.0.1,10.0.0.2").await;

    let brief = json!({"spec": {"reporting": {"heartbeatTTL": "3s"}}});
    gateway.world.cluster.patch(GROUP, Some(GROUPS), &slug, &brief).await;
    // One goes on reporting, and the other falls silent.
    eventually(DEADLINE, "the silent server to be taken for dead", async || {
        gateway.reported(&key, &slug, "10.0.0.1", "healthy").await;
        let silent = gateway.member(&slug, "10.0.0.2").await;
        if silent["reason"] == "HeartbeatExpired" { Ok(()) } else { Err(silent.to_string()) }
    })
    .await;
    eventually(DEADLINE, "the list to follow", async || {
        gateway.reported(&key, &slug, "10.0.0.1", "healthy").await;
        let record = gateway.world.record(&format!("_wrap.{slug}.example.com"));
        let content = record.map(|record| record.content.replace('"', "")).unwrap_or_default();
        if content == "10.0.0.1" { Ok(()) } else { Err(content) }
    })
    .await;
    let (_, history) = gateway.send("GET", &format!("/api/groups/{slug}/history"), Some(&key), None).await;
    let silence = history["entries"].as_array().unwrap().iter().find(|entry| entry["source"] == "silence");
    assert_eq!(silence.unwrap()["address"], "10.0.0.2", "{history}");
}

#[tokio::test]
async fn a_restart_lets_nobody_expire_before_one_heartbeat_ttl_has_passed() {
    let mut gateway = Gateway::start().await;
    let key = gateway.key("user@example.com").await;
    let slug = gateway.group(&key, "lasting").await;
    gateway.reported(&key, &slug, "10.0.0.1", "healthy").await;
    gateway.lists(&slug, "10.0.0.1").await;
    gateway.world.operator.terminate().await;
    // All of the TTL passes while nobody listens.
    let brief = json!({"spec": {"reporting": {"heartbeatTTL": "4s"}}});
    gateway.world.cluster.patch(GROUP, Some(GROUPS), &slug, &brief).await;
    let before = jiff::Timestamp::now();
    eventually(DEADLINE, "the TTL to pass", async || before.duration_until(jiff::Timestamp::now()).as_secs() >= 5)
        .await;
    let restarted = jiff::Timestamp::now();
    gateway.world.operator.restart().await;
    gateway.leads().await;
    let expired = eventually(DEADLINE, "the silent server to expire", async || {
        let member = gateway.member(&slug, "10.0.0.1").await;
        if member["reason"] == "HeartbeatExpired" { Ok(member["since"].clone()) } else { Err(member.to_string()) }
    })
    .await;
    let expired: jiff::Timestamp = expired.as_str().unwrap().parse().unwrap();
    // Written in whole seconds.
    let after = restarted.duration_until(expired).as_secs();
    assert!(after >= 3, "it expired {after} s after the restart");
    gateway.lists(&slug, NOBODY).await;
}

#[tokio::test]
async fn two_users_cannot_reach_each_other_and_a_spec_may_let_another_report() {
    let gateway = Gateway::start().await;
    let (mine, theirs) = (gateway.key("me@example.com").await, gateway.key("them@example.com").await);
    let slug = gateway.group(&mine, "mine").await;
    gateway.reported(&mine, &slug, "10.0.0.1", "healthy").await;
    for (method, path) in [
        ("DELETE", format!("/api/groups/{slug}")),
        ("DELETE", format!("/api/groups/{slug}/servers/10.0.0.1")),
        ("GET", format!("/api/groups/{slug}/history")),
    ] {
        let (status, body) = gateway.send(method, &path, Some(&theirs), None).await;
        assert_eq!((status, &body["code"]), (404, &json!("GroupNotFound")), "{method} {path}");
    }
    let (status, body) = gateway.report(&theirs, &slug, "10.0.0.1", "unhealthy").await;
    assert_eq!((status, &body["code"]), (404, &json!("GroupNotFound")));
    assert_eq!(gateway.send("GET", "/api/groups", Some(&theirs), None).await.1, json!([]));
    assert_eq!(gateway.servers(&slug).await, json!(["10.0.0.1"]));

    // Who makes a group with kubectl decides who reports to it, and a label gives nobody more than that.
    let other = gateway.group(&theirs, "theirs").await;
    let them = gateway.object(&other).await.metadata.labels.unwrap()["roadstead.dev/api-user"].clone();
    let shop = gateway.world.cluster.namespace("shop").await;
    gateway
        .world
        .cluster
        .apply(&format!(
            "apiVersion: roadstead.dev/v1alpha1\nkind: ServerGroup\nmetadata: {{name: web, namespace: {shop}, labels: \
             {{roadstead.dev/api-user: {them}}}}}\nspec: {{zoneRef: {{name: example-com}}, slug: shop-web, probe: \
             {{type: None}}, reporting: {{enabled: true, users: [{them}]}}}}"
        ))
        .await;
    gateway.world.cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", DEADLINE).await;
    gateway.reported(&theirs, "shop-web", "10.0.0.9", "healthy").await;
    assert_eq!(gateway.servers("shop-web").await, json!(["10.0.0.9"]));
    assert_eq!(gateway.report(&mine, "shop-web", "10.0.0.9", "unhealthy").await.0, 404);
    assert_eq!(gateway.send("DELETE", "/api/groups/shop-web", Some(&theirs), None).await.0, 404);
    let closed = json!({"spec": {"reporting": {"enabled": false}}});
    gateway.world.cluster.patch(GROUP, Some(&shop), "web", &closed).await;
    eventually(DEADLINE, "reports to be refused", async || {
        let (status, body) = gateway.report(&theirs, "shop-web", "10.0.0.9", "healthy").await;
        if (status, &body["code"]) == (403, &json!("ReportingDisabled")) { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn an_account_of_kubernetes_reports_where_a_role_lets_it_and_nowhere_else() {
    let gateway = Gateway::start().await;
    let key = gateway.key("user@example.com").await;
    let (open, closed) = (gateway.group(&key, "open").await, gateway.group(&key, "closed").await);
    gateway
        .world
        .cluster
        .apply(&format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: reporter, namespace: {GROUPS}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reporter, namespace: {GROUPS}}}
rules: [{{apiGroups: [roadstead.dev], resources: [servergroups], resourceNames: [{open}], verbs: [report]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reporter, namespace: {GROUPS}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reporter}}
subjects: [{{kind: ServiceAccount, name: reporter, namespace: {GROUPS}}}]
"
        ))
        .await;
    let token = gateway.world.cluster.kubectl(&["create", "token", "reporter", "-n", GROUPS]).await.unwrap();
    let token = token.trim();
    eventually(DEADLINE, "the Role to count", async || {
        let (status, body) = gateway.report(token, &open, "10.0.0.7", "healthy").await;
        if status == 200 { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    gateway.lists(&open, "10.0.0.7").await;
    let (status, body) = gateway.report(token, &closed, "10.0.0.7", "healthy").await;
    assert_eq!((status, &body["code"]), (403, &json!("NotAllowed")));
    assert_eq!(gateway.servers(&closed).await, json!([]));
}

#[tokio::test]
async fn only_who_leads_serves_and_a_broken_disk_stops_nothing() {
    let mut gateway = Gateway::start().await;
    let key = gateway.key("user@example.com").await;
    let slug = gateway.group(&key, "lasting").await;

    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // A directory where the file should be: the disk of the second one does not work.
    let broken = gateway.directory.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    let options = with_gateway(OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead")), at, &broken);
    let sim = addresses(&gateway.world.sim);
    let second = Operator::start(&gateway.world.control_plane, &sim, options).await;
    let response = gateway.http.get(format!("http://{at}/dns/{slug}")).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 503);
    assert!(response.headers().contains_key("retry-after"));

    gateway.world.operator.terminate().await;
    gateway.url = format!("http://{at}");
    gateway.leads().await;
    gateway.reported(&key, &slug, "10.0.0.1", "healthy").await;
    gateway.lists(&slug, "10.0.0.1").await;
    eventually(DEADLINE, "the metric to say that the history is broken", async || {
        let metrics = second.metrics().await;
        if metrics.contains("roadstead_history_broken 1") { Ok(()) } else { Err(metrics) }
    })
    .await;
    eventually(DEADLINE, "an event to say so", async || {
        let events = gateway.world.cluster.events("Lease", Some("roadstead-system"), "roadstead").await;
        let said = events.iter().any(|event| event["reason"] == "HistoryBroken");
        if said { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    let (status, body) = gateway.send("GET", &format!("/api/groups/{slug}/history"), Some(&key), None).await;
    assert_eq!((status, &body["code"]), (503, &json!("HistoryUnavailable")));
}
