//! The plan and the client against the simulated API: what is written, what is left, and what an outcome means.

use std::time::Duration;

use cloudsim::cloudflare::{ScriptInfo, TokenSpec, ZoneSpec};
use cloudsim::faults::{Action, Fault};
use cloudsim::{Options, Sim};
use prometheus_client::registry::Registry;
use roadstead::api::names::{ClusterId, Mark};
use roadstead::dns::{Cloudflare, Token};
use roadstead::metrics::Metrics;
use roadstead::outside::OutsideError;
use roadstead::outside::budget::{Budgets, Priority};
use roadstead::slb::plan::{self, Observed, Step};
use roadstead::slb::{Mode, Origin, Place, Policy, Sticky, Strategy, WhenAllDown, Worker, Workers};
use serde_json::{Value, json};

pub const ACCOUNT: &str = "main";
pub const DOMAIN: &str = "example.com";
pub const NAME: &str = "shop-lb";
const TOKEN: &str = "workers-canary";

/// A simulated account with a zone, and a client whose token may do all that is needed.
pub struct Cloud {
    pub sim: Sim,
    pub zone_id: String,
    pub workers: Workers,
}

impl Cloud {
    pub async fn start(options: Options) -> Self {
        // Only the first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sim = Sim::start(options).await.unwrap();
        let zone: ZoneSpec = serde_json::from_value(json!({"name": DOMAIN})).unwrap();
        let zone_id = sim.cloudflare.add_zone(zone);
        permit(&sim, &["workers:write", "workers_routes:write"]);
        let metrics = Metrics::register(&mut Registry::default());
        let token = Token::new(TOKEN);
        let client = Cloudflare::new(&sim.cloudflare_api(), token, "workers/example-com", Budgets::default(), metrics);
        let workers = Workers::new(client.unwrap(), &sim.cloudflare.add_account(ACCOUNT));
        Self { sim, zone_id, workers }
    }

    pub fn route(&self, pattern: &str) -> Place {
        Place::Route { zone_id: self.zone_id.clone(), pattern: pattern.to_owned() }
    }

    /// Follows the plan to its end.
    pub async fn settle(&self, worker: &Worker) -> Result<Step, OutsideError> {
        self.follow(worker, plan::plan).await
    }

    /// Follows the plan backwards to its end.
    pub async fn withdraw(&self, worker: &Worker) -> Result<Step, OutsideError> {
        self.follow(worker, plan::unplan).await
    }

    async fn follow(&self, worker: &Worker, plan: fn(&Worker, &Observed) -> Step) -> Result<Step, OutsideError> {
        let mut places = None;
        for _ in 0..12 {
            let mut seen = self.workers.observe(&worker.name, Priority::Normal).await?;
            seen.places = places.take();
            let step = plan(worker, &seen);
            match &step {
                Step::Refuse(_) | Step::Done(_) | Step::Gone => return Ok(step),
                Step::Look { zones, hosts } => {
                    places = Some(self.workers.places(zones, hosts, Priority::Normal).await?);
                }
                _ => drop(self.workers.apply(&worker.name, &step, Priority::Normal).await?),
            }
        }
        panic!("the plan comes to no end");
    }

    pub fn script(&self) -> Option<ScriptInfo> {
        self.sim.cloudflare.script(ACCOUNT, NAME)
    }

    fn text_of(&self, binding: &str) -> Option<String> {
        self.script().unwrap().text_of(binding).map(str::to_owned)
    }

    /// The writes so far, as `METHOD path`.
    fn writes(&self) -> Vec<String> {
        let account = self.sim.cloudflare.add_account(ACCOUNT);
        let entries = self.sim.gate.journal.since(0).into_iter().filter(|entry| entry.method != "GET");
        let path = |path: String| path.replace(&account, "A").replace(&self.zone_id, "Z");
        entries.map(|entry| format!("{} {}", entry.method, path(entry.path))).collect()
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.sim.cloudflare_api());
        let response = reqwest::Client::new().get(url).bearer_auth(TOKEN).send().await.unwrap();
        response.json::<Value>().await.unwrap()["result"].take()
    }
}

fn permit(sim: &Sim, permissions: &[&str]) {
    let spec = json!({"value": TOKEN, "account": ACCOUNT, "permissions": permissions});
    sim.cloudflare.put_token(serde_json::from_value::<TokenSpec>(spec).unwrap());
}

pub fn origin(url: &str) -> Origin {
    Origin { url: url.to_owned(), weight: 1, priority: 0, healthy: true }
}

pub fn worker(origins: &[Origin]) -> Worker {
    let cluster = ClusterId::parse("c1").unwrap();
    let uid = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
    Worker {
        name: NAME.to_owned(),
        mark: Mark::new(cluster, "ServerGroup", "shop", "web", uid).unwrap(),
        adopt: None,
        group: "shop/web".to_owned(),
        mode: Mode::Managed,
        origins: origins.to_vec(),
        strategy: Strategy::Failover,
        policy: Policy {
            retries: 2,
            origin_timeout: Duration::from_secs(5),
            fail_statuses: Vec::new(),
            sticky: Sticky::None,
            probe_path: "/".to_owned(),
            min_healthy: 1,
            when_all_down: WhenAllDown::KeepLast,
        },
        place: None,
    }
}

fn fault(method: &str, path: &str, action: Action) -> Fault {
    let fault = json!({"cloud": "cloudflare", "method": method, "path": path, "count": 1, "action": "hang"});
    Fault { action, ..serde_json::from_value(fault).unwrap() }
}

fn secret() -> Value {
    json!({"type": "secret_text", "name": "API_KEY", "text": "s3cret"})
}

#[tokio::test]
async fn a_worker_is_uploaded_once_then_patched_once_a_change_and_deleted_with_its_route() {
    let cloud = Cloud::start(Options::default()).await;
    let mut wanted = worker(&[origin("https://a.example.com"), origin("https://b.example.com")]);
    wanted.place = Some(cloud.route("shop.example.com/*"));
    let both = "https://a.example.com,https://b.example.com".to_owned();
    assert_eq!(cloud.settle(&wanted).await, Ok(Step::Done(both.clone())));
    let upload = "PUT /accounts/A/workers/scripts/shop-lb?bindings_inherit=strict".to_owned();
    let route = "POST /zones/Z/workers/routes".to_owned();
    assert_eq!(cloud.writes(), [upload.clone(), route.clone()]);
    let script = cloud.script().unwrap();
    assert_eq!((script.text.as_str(), script.text_of("ORIGINS")), (roadstead::slb::WORKER, Some(both.as_str())));

    assert_eq!(cloud.settle(&wanted).await, Ok(Step::Done(both)));
    assert_eq!(cloud.writes().len(), 2, "nothing changed, so nothing is written");
    wanted.origins[0].healthy = false;
    let one = "https://b.example.com".to_owned();
    assert_eq!(cloud.settle(&wanted).await, Ok(Step::Done(one.clone())));
    let patch = "PATCH /accounts/A/workers/scripts/shop-lb/settings".to_owned();
    assert_eq!(cloud.writes(), [upload, route, patch]);
    assert_eq!(cloud.text_of("ORIGINS"), Some(one));

    assert_eq!(cloud.withdraw(&wanted).await, Ok(Step::Gone));
    assert_eq!(cloud.script(), None);
    assert_eq!(cloud.get(&format!("/zones/{}/workers/routes", cloud.zone_id)).await, json!([]));
}

#[tokio::test]
async fn a_route_moves_to_another_pattern_and_then_to_a_custom_domain_and_routes_by_hand_stay() {
    let cloud = Cloud::start(Options::default()).await;
    let mut wanted = worker(&[origin("https://a.example.com")]);
    wanted.place = Some(cloud.route("old.example.com/*"));
    cloud.settle(&wanted).await.unwrap();
    let by_hand = Step::Place(cloud.route("by-hand.example.com/*"));
    cloud.workers.apply(NAME, &by_hand, Priority::Normal).await.unwrap();
    wanted.place = Some(cloud.route("new.example.com/*"));
    cloud.settle(&wanted).await.unwrap();
    let path = format!("/zones/{}/workers/routes", cloud.zone_id);
    let patterns = |routes: Value| -> Vec<String> {
        routes.as_array().unwrap().iter().map(|route| route["pattern"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(patterns(cloud.get(&path).await), ["by-hand.example.com/*", "new.example.com/*"]);

    let hostname = "lb.example.com".to_owned();
    wanted.place = Some(Place::Domain { zone_id: cloud.zone_id.clone(), hostname });
    cloud.settle(&wanted).await.unwrap();
    assert_eq!(patterns(cloud.get(&path).await), ["by-hand.example.com/*"]);
    let account = cloud.sim.cloudflare.add_account(ACCOUNT);
    let domains = cloud.get(&format!("/accounts/{account}/workers/domains")).await;
    assert_eq!((&domains[0]["hostname"], &domains[0]["service"]), (&json!("lb.example.com"), &json!(NAME)));
    assert_eq!(cloud.text_of("ROADSTEAD_PLACES"), wanted.place.as_ref().map(Place::note));
    assert_eq!(cloud.withdraw(&wanted).await, Ok(Step::Gone));
    assert_eq!(cloud.get(&format!("/accounts/{account}/workers/domains")).await, json!([]));
}

#[tokio::test]
async fn somebody_elses_script_of_that_name_is_neither_written_nor_deleted() {
    let cloud = Cloud::start(Options::default()).await;
    let theirs = ScriptInfo {
        text: "export default {}".to_owned(),
        bindings: vec![json!({"type": "plain_text", "name": "ORIGINS", "text": "https://theirs.example"})],
        versions: 1,
    };
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &theirs).unwrap();
    let wanted = worker(&[origin("https://a.example.com")]);
    let Ok(Step::Refuse(refusal)) = cloud.settle(&wanted).await else { panic!() };
    assert_eq!(refusal.reason(), "ForeignWorker");
    assert_eq!(cloud.withdraw(&wanted).await, Ok(Step::Gone));
    assert_eq!((cloud.writes(), cloud.script()), (Vec::new(), Some(theirs)));
}

#[tokio::test]
async fn bindings_that_are_not_ours_survive_a_patch_and_an_upload() {
    let cloud = Cloud::start(Options::default()).await;
    let mut wanted = worker(&[origin("https://a.example.com")]);
    cloud.settle(&wanted).await.unwrap();
    let mut script = cloud.script().unwrap();
    script.bindings.push(secret());
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &script).unwrap();
    wanted.strategy = Strategy::Random;
    cloud.settle(&wanted).await.unwrap();
    let script = cloud.script().unwrap();
    assert_eq!((script.text_of("STRATEGY"), script.text_of("API_KEY")), (Some("random"), Some("s3cret")));

    let mut old = ScriptInfo { text: "export default {}".to_owned(), ..script };
    old.bindings.retain(|binding| binding["name"] != "ROADSTEAD_CODE");
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &old).unwrap();
    cloud.settle(&wanted).await.unwrap();
    let script = cloud.script().unwrap();
    assert_eq!((script.text.as_str(), script.text_of("API_KEY")), (roadstead::slb::WORKER, Some("s3cret")));
}

#[tokio::test]
async fn with_origins_only_nothing_but_origins_changes() {
    let cloud = Cloud::start(Options::default()).await;
    let wanted = Worker { mode: Mode::OriginsOnly, ..worker(&[origin("https://a.example.com")]) };
    let Ok(Step::Refuse(missing)) = cloud.settle(&wanted).await else { panic!() };
    assert_eq!(missing.reason(), "WorkerMissing");
    let text = |name: &str, text: &str| json!({"type": "plain_text", "name": name, "text": text});
    let mut theirs = ScriptInfo {
        text: "export default {}".to_owned(),
        bindings: vec![text("ORIGINS", "https://old.example"), text("RETRIES", "3"), secret()],
        versions: 1,
    };
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &theirs).unwrap();
    let Ok(Step::Refuse(refused)) = cloud.settle(&wanted).await else { panic!() };
    assert_eq!((refused.reason(), cloud.writes().len()), ("NotAllowed", 0));

    theirs.bindings.push(text("ROADSTEAD_ALLOW", "shop/web"));
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &theirs).unwrap();
    assert_eq!(cloud.settle(&wanted).await, Ok(Step::Done("https://a.example.com".to_owned())));
    assert_eq!(cloud.withdraw(&wanted).await, Ok(Step::Gone));
    let mut now = cloud.script().unwrap();
    now.bindings.sort_by_key(|binding| binding["name"].to_string());
    theirs.bindings[0] = text("ORIGINS", "https://a.example.com");
    theirs.bindings.sort_by_key(|binding| binding["name"].to_string());
    assert_eq!((now.text, now.bindings), (theirs.text, theirs.bindings));
    assert_eq!(cloud.writes(), ["PATCH /accounts/A/workers/scripts/shop-lb/settings"]);
}

#[tokio::test]
async fn a_token_that_may_not_is_told_which_permission_it_needs() {
    let cloud = Cloud::start(Options::default()).await;
    let mut wanted = worker(&[origin("https://a.example.com")]);
    wanted.place = Some(cloud.route("shop.example.com/*"));
    for (permissions, needed) in [
        (&["dns:write"][..], "Account > Workers Scripts > Read"),
        (&["workers:read"], "Account > Workers Scripts > Edit"),
        (&["workers:write"], "Zone > Workers Routes > Read"),
        (&["workers:write", "workers_routes:read"], "Zone > Workers Routes > Edit"),
    ] {
        permit(&cloud.sim, permissions);
        let Err(OutsideError::Forbidden(message)) = cloud.settle(&wanted).await else { panic!("{needed}") };
        assert!(message.contains(needed) && !message.contains(TOKEN), "{message}");
    }
    cloud.sim.cloudflare.revoke_token(TOKEN);
    let Err(OutsideError::Unauthorized(_)) = cloud.settle(&wanted).await else { panic!() };
}

#[tokio::test]
async fn a_write_of_unknown_outcome_says_so_and_the_next_look_finds_what_it_did() {
    let scripts = "/accounts/*/workers/scripts/*";
    let routes = "/zones/*/workers/routes*";
    for (method, path) in
        [("PUT", scripts), ("PATCH", scripts), ("POST", routes), ("DELETE", routes), ("DELETE", scripts)]
    {
        for action in [Action::CutBefore, Action::CutAfter, Action::StatusAfter { status: 502 }] {
            let cloud = Cloud::start(Options::default()).await;
            let mut wanted = worker(&[origin("https://a.example.com"), origin("https://b.example.com")]);
            wanted.place = Some(cloud.route("shop.example.com/*"));
            cloud.sim.gate.faults.add(fault(method, path, action.clone()));
            let mut unknown = 0;
            let mut count = |outcome: Result<Step, OutsideError>| match outcome {
                Ok(step) => Some(step),
                Err(OutsideError::Unknown(_)) => {
                    unknown += 1;
                    None
                }
                Err(other) => panic!("{method} {path} {action:?}: {other:?}"),
            };
            count(cloud.settle(&wanted).await);
            assert!(matches!(count(cloud.settle(&wanted).await), Some(Step::Done(_))), "{method} {path} {action:?}");
            wanted.origins[0].healthy = false;
            count(cloud.settle(&wanted).await);
            assert_eq!(count(cloud.settle(&wanted).await), Some(Step::Done("https://b.example.com".to_owned())));
            count(cloud.withdraw(&wanted).await);
            assert_eq!(count(cloud.withdraw(&wanted).await), Some(Step::Gone));
            assert_eq!(unknown, 1, "{method} {path} {action:?}");
            assert_eq!(cloud.script(), None);
            assert_eq!(cloud.get(&format!("/zones/{}/workers/routes", cloud.zone_id)).await, json!([]));
        }
    }
}

#[tokio::test]
async fn a_failed_look_proves_no_absence() {
    let cloud = Cloud::start(Options::default()).await;
    let wanted = worker(&[origin("https://a.example.com")]);
    let refusal = |status, code, message: &str| Action::Refusal { status, code, message: message.to_owned() };
    for action in [
        Action::Status { status: 500, body: None, retry_after: None },
        Action::Status { status: 404, body: None, retry_after: None },
        refusal(404, json!(10_013), "An unknown error has occurred."),
        refusal(404, json!(7003), "Could not route to the path requested."),
    ] {
        cloud.sim.gate.faults.add(fault("GET", "/accounts/*/settings", action.clone()));
        cloud.settle(&wanted).await.unwrap_err();
        assert_eq!(cloud.writes(), Vec::<String>::new(), "{action:?}");
    }
}

#[tokio::test]
async fn an_inherited_binding_that_went_meanwhile_is_noticed() {
    let cloud = Cloud::start(Options::default()).await;
    let wanted = worker(&[origin("https://a.example.com")]);
    cloud.settle(&wanted).await.unwrap();
    let without = cloud.script().unwrap();
    let mut with = without.clone();
    with.bindings.push(secret());
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &with).unwrap();
    let seen = cloud.workers.observe(NAME, Priority::Normal).await.unwrap();
    cloud.sim.cloudflare.put_script(ACCOUNT, NAME, &without).unwrap();
    let changed = Worker { strategy: Strategy::Random, ..wanted };
    let step = plan::plan(&changed, &seen);
    assert!(matches!(step, Step::Patch(_)));
    let Err(OutsideError::Unknown(message)) = cloud.workers.apply(NAME, &step, Priority::Normal).await else {
        panic!()
    };
    assert!(message.contains(NAME), "{message}");
    let Step::Patch(bindings) = step else { panic!() };
    let upload = Step::Upload(bindings);
    let Err(OutsideError::Refused { code, .. }) = cloud.workers.apply(NAME, &upload, Priority::Normal).await else {
        panic!()
    };
    assert_eq!(code, "10021");
    assert!(matches!(cloud.settle(&changed).await, Ok(Step::Done(_))));
}
