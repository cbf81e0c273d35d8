//! The rules of the simulated `DigitalOcean`, each through its HTTP API.

#![allow(clippy::unwrap_used, reason = "helpers of tests may say bluntly what they expect")]

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use cloudsim::clock::Clock;
use cloudsim::digitalocean::{
    AccountSpec, DropletEdit, NewDroplet, Settings, State, TokenSpec, control_router, router,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tower::ServiceExt;

const TOKEN: &str = "dop_v1_test";

/// A simulator with one full token and a clock that stands still.
struct Bench {
    clock: Clock,
    state: Arc<State>,
    app: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> i64 {
        self.headers[name].to_str().unwrap().parse().unwrap()
    }

    fn refused(&self, status: u16, id: &str, message: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["id"], id);
        assert_eq!(self.body["message"], message);
        assert!(self.body["request_id"].is_string());
    }
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let clock = Clock::fixed(jiff::Timestamp::from_second(1_800_000_000).unwrap());
        let state = Arc::new(State::new(clock.clone()));
        state.set_settings(settings);
        state.put_token(TokenSpec::new(TOKEN));
        let app = Router::new()
            .nest("/digitalocean", router(state.clone()))
            .nest("/sim/digitalocean", control_router(state.clone()));
        Self { clock, state, app }
    }

    fn immediate() -> Self {
        Self::new(Settings::immediate())
    }

    fn advance(&self, milliseconds: i64) {
        self.clock
            .advance(SignedDuration::from_millis(milliseconds));
    }

    async fn send(&self, token: &str, method: Method, uri: &str, body: Option<Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "127.0.0.1:8080")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap()
        };
        Answer {
            status,
            headers,
            body,
        }
    }

    async fn api(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send(TOKEN, method, &format!("/digitalocean{path}"), body)
            .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.api(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.api(Method::POST, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.api(Method::DELETE, path, None).await
    }

    async fn control(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send("", method, &format!("/sim/digitalocean{path}"), body)
            .await
    }

    async fn create(&self, name: &str, tags: &[&str]) -> u64 {
        let answer = self.post("/v2/droplets", order(name, tags)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["droplet"]["id"].as_u64().unwrap()
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let droplets = answer.body["droplets"].as_array().unwrap();
        droplets
            .iter()
            .map(|droplet| droplet["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn order(name: &str, tags: &[&str]) -> Value {
    json!({
        "name": name, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
        "tags": tags, "user_data": "#cloud-config\n", "monitoring": true,
    })
}

fn changed(field: &str, value: impl Into<Value>) -> Value {
    let mut order = order("web-1", &[]);
    order[field] = value.into();
    order
}

#[tokio::test]
async fn the_account_shows_its_identity_and_droplet_limit() {
    let bench = Bench::immediate();
    bench.state.put_account(AccountSpec {
        droplet_limit: 7,
        ..AccountSpec::new("main")
    });
    let account = bench.get("/v2/account").await.body["account"].clone();
    assert_eq!(account["droplet_limit"], 7);
    assert_eq!(account["status"], "active");
    assert_eq!(account["uuid"].as_str().unwrap().len(), 36);
    assert_eq!(account["team"]["uuid"].as_str().unwrap().len(), 36);
    assert_ne!(account["team"]["uuid"], account["uuid"]);
}

#[tokio::test]
async fn regions_sizes_and_images_are_listed_and_images_are_found_by_slug_and_by_id() {
    let bench = Bench::immediate();
    let regions = bench.get("/v2/regions?per_page=200").await.body;
    let fra1 = regions["regions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|region| region["slug"] == "fra1")
        .unwrap();
    assert!(
        fra1["sizes"]
            .as_array()
            .unwrap()
            .contains(&json!("s-1vcpu-1gb"))
    );
    let sizes = bench.get("/v2/sizes").await.body;
    assert_eq!(
        sizes["meta"]["total"],
        sizes["sizes"].as_array().unwrap().len()
    );
    let images = bench.get("/v2/images?type=distribution").await.body;
    assert_eq!(images["images"][0]["distribution"], "Debian");
    assert_eq!(
        bench.get("/v2/images?private=true").await.body["meta"]["total"],
        0
    );
    let by_slug = bench.get("/v2/images/debian-12-x64").await.body;
    let by_id = bench
        .get(&format!("/v2/images/{}", by_slug["image"]["id"]))
        .await
        .body;
    assert_eq!(by_slug, by_id);
    assert_eq!(bench.get("/v2/images/debian-1").await.status, 404);
}

#[tokio::test]
async fn a_new_droplet_is_accepted_then_active_and_shows_its_addresses_only_later() {
    let bench = Bench::new(Settings {
        active_after_ms: 2_000,
        address_after_ms: 1_000,
        ..Settings::immediate()
    });
    let answer = bench.post("/v2/droplets", order("web-1", &["a"])).await;
    assert_eq!(answer.status, 202);
    let droplet = &answer.body["droplet"];
    assert_eq!(droplet["status"], "new");
    assert_eq!(droplet["networks"]["v4"], json!([]));
    assert!(droplet.get("vpc_uuid").is_none());
    let (id, action) = (
        droplet["id"].clone(),
        answer.body["links"]["actions"][0].clone(),
    );
    assert_eq!(action["rel"], "create");
    assert_eq!(
        action["href"],
        format!(
            "http://127.0.0.1:8080/digitalocean/v2/actions/{}",
            action["id"]
        )
    );
    let droplet_path = format!("/v2/droplets/{id}");
    let action_path = format!("/v2/actions/{}", action["id"]);

    bench.advance(1_999);
    assert_eq!(
        bench.get(&droplet_path).await.body["droplet"]["status"],
        "new"
    );
    assert_eq!(
        bench.get(&action_path).await.body["action"]["status"],
        "in-progress"
    );
    bench.advance(1);
    let active = bench.get(&droplet_path).await.body["droplet"].clone();
    assert_eq!(active["status"], "active");
    assert_eq!(active["networks"]["v4"], json!([]));
    assert_eq!(
        bench.get(&action_path).await.body["action"]["status"],
        "completed"
    );
    bench.advance(1_000);
    let networks = bench.get(&droplet_path).await.body["droplet"]["networks"].clone();
    let kinds: Vec<_> = networks["v4"]
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["type"].clone())
        .collect();
    assert_eq!(kinds, ["private", "public"]);
    assert!(
        networks["v4"][0]["ip_address"]
            .as_str()
            .unwrap()
            .starts_with("10.")
    );
    assert_eq!(networks["v4"][1]["ip_address"], "203.0.113.1");
}

#[tokio::test]
async fn user_data_is_kept_for_the_test_to_see_but_never_shown_by_the_api() {
    let bench = Bench::immediate();
    let id = bench.create("web-1", &[]).await;
    let shown = bench.get(&format!("/v2/droplets/{id}")).await.body;
    assert!(!shown.to_string().contains("cloud-config"));
    assert_eq!(
        bench.state.droplet(id).unwrap().user_data.unwrap(),
        "#cloud-config\n"
    );
}

#[tokio::test]
async fn several_names_make_several_droplets_at_most_ten() {
    let bench = Bench::immediate();
    let mut body = order("", &[]);
    body.as_object_mut().unwrap().remove("name");
    body["names"] = json!(["a", "b"]);
    let answer = bench.post("/v2/droplets", body.clone()).await;
    assert_eq!(answer.body["droplets"].as_array().unwrap().len(), 2);
    assert_eq!(answer.body["links"]["actions"].as_array().unwrap().len(), 2);
    body["names"] = json!(
        (0..11)
            .map(|number| format!("n{number}"))
            .collect::<Vec<_>>()
    );
    assert_eq!(bench.post("/v2/droplets", body).await.status, 422);
    assert_eq!(bench.state.droplets().len(), 2);
}

#[tokio::test]
async fn an_order_for_something_unknown_is_refused_in_the_words_of_the_real_api() {
    let bench = Bench::immediate();
    let hostname = "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)";
    let cases = [
        (
            changed("region", "mars1"),
            "You specified an invalid region for Droplet creation.",
        ),
        (
            changed("size", "s-9vcpu"),
            "You specified an invalid size for Droplet creation.",
        ),
        (
            changed("image", "debian-1"),
            "You specified an invalid image for Droplet creation.",
        ),
        (
            changed("image", 1),
            "You specified an invalid image for Droplet creation.",
        ),
        (changed("name", "web_1"), hostname),
        (changed("name", "-web"), hostname),
        (changed("name", "web."), hostname),
        (changed("name", "w".repeat(256)), hostname),
        (
            changed("user_data", "x".repeat(65_537)),
            "user_data is too long (maximum is 64 KiB)",
        ),
        (
            changed("ssh_keys", json!([17])),
            "17 are invalid key identifiers for Droplet creation.",
        ),
        (
            changed("vpc_uuid", "nowhere"),
            "You specified invalid VPC parameters for Droplet creation.",
        ),
        (changed("tags", json!(["a b"])), TAG_RULE),
        (changed("tags", json!(["t".repeat(256)])), TAG_RULE),
    ];
    for (body, message) in cases {
        bench
            .post("/v2/droplets", body)
            .await
            .refused(422, "unprocessable_entity", message);
    }
    assert!(bench.state.droplets().is_empty());
    for accepted in [
        changed("user_data", "x".repeat(65_536)),
        changed("name", "Web.1-a"),
        changed("region", "fra"),
    ] {
        assert_eq!(bench.post("/v2/droplets", accepted).await.status, 202);
    }
}

const TAG_RULE: &str = "tag names may contain letters, numbers, colons, dashes, and underscores, and at most 255 characters";

#[tokio::test]
async fn a_body_that_is_no_json_is_400_and_one_of_the_wrong_shape_422() {
    let bench = Bench::immediate();
    let request = Request::post("/digitalocean/v2/droplets")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Body::from("{"))
        .unwrap();
    assert_eq!(
        bench.app.clone().oneshot(request).await.unwrap().status(),
        400
    );
    assert_eq!(
        bench
            .post("/v2/droplets", changed("tags", "a"))
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn a_withdrawn_size_can_not_be_ordered_and_leaves_existing_droplets_alone() {
    let bench = Bench::immediate();
    let id = bench.create("web-1", &[]).await;
    assert!(bench.state.withdraw_size("s-1vcpu-1gb"));
    let invalid = "You specified an invalid size for Droplet creation.";
    let refused = bench.post("/v2/droplets", order("web-2", &[])).await;
    refused.refused(422, "unprocessable_entity", invalid);
    let regions = bench.get("/v2/regions").await.body.to_string();
    assert!(!regions.contains("s-1vcpu-1gb\""));
    assert_eq!(
        bench.get(&format!("/v2/droplets/{id}")).await.body["droplet"]["size_slug"],
        "s-1vcpu-1gb"
    );
}

#[tokio::test]
async fn a_size_or_region_that_is_not_available_is_refused() {
    let bench = Bench::immediate();
    let (regions, sizes, _) = bench.state.offers();
    let mut size = sizes.into_iter().find(|size| size.slug == "c-2").unwrap();
    size.regions = vec!["nyc3".to_owned()];
    bench.state.put_size(size);
    let refused = bench.post("/v2/droplets", changed("size", "c-2")).await;
    refused.refused(
        422,
        "unprocessable_entity",
        "Size is not available in this region.",
    );
    let mut region = regions
        .into_iter()
        .find(|region| region.slug == "fra1")
        .unwrap();
    region.available = false;
    bench.state.put_region(region);
    let refused = bench.post("/v2/droplets", order("web-1", &[])).await;
    refused.refused(422, "unprocessable_entity", "Region is not available");
}

#[tokio::test]
async fn the_droplet_limit_refuses_and_a_raised_limit_accepts() {
    let bench = Bench::immediate();
    assert!(bench.state.set_droplet_limit("main", 1));
    bench.create("web-1", &[]).await;
    let refused = bench.post("/v2/droplets", order("web-2", &[])).await;
    let message = "creating this/these droplet(s) will exceed your droplet limit";
    refused.refused(422, "unprocessable_entity", message);
    assert!(bench.state.set_droplet_limit("main", 2));
    bench.create("web-2", &[]).await;
}

#[tokio::test]
async fn a_listing_is_paged_with_absolute_links_and_a_total() {
    let bench = Bench::immediate();
    for number in 0..5 {
        bench.create(&format!("web-{number}"), &["web"]).await;
    }
    let whole = bench.get("/v2/droplets").await.body;
    assert_eq!(whole["meta"]["total"], 5);
    assert_eq!(whole["links"], json!({}));

    let first = bench.get("/v2/droplets?tag_name=web&per_page=2").await.body;
    assert_eq!(first["meta"]["total"], 5);
    let base = "http://127.0.0.1:8080/digitalocean/v2/droplets";
    let url = |page: u32| json!(format!("{base}?page={page}&per_page=2&tag_name=web"));
    assert_eq!(
        first["links"]["pages"],
        json!({"next": url(2), "last": url(3)})
    );
    let second = bench
        .get("/v2/droplets?tag_name=web&per_page=2&page=2")
        .await
        .body;
    let middle = json!({"first": url(1), "prev": url(1), "next": url(3), "last": url(3)});
    assert_eq!(second["links"]["pages"], middle);
    assert_eq!(
        bench
            .names("/v2/droplets?tag_name=web&per_page=2&page=3")
            .await,
        ["web-4"]
    );
    let last = bench
        .get("/v2/droplets?tag_name=web&per_page=2&page=3")
        .await
        .body;
    assert_eq!(
        last["links"]["pages"],
        json!({"first": url(1), "prev": url(2)})
    );
    assert!(
        bench
            .names("/v2/droplets?per_page=2&page=4")
            .await
            .is_empty()
    );
    for bad in ["per_page=0", "per_page=201", "per_page=x", "page=0"] {
        assert_eq!(
            bench.get(&format!("/v2/droplets?{bad}")).await.status,
            422,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn droplets_are_found_by_tag_or_by_exact_name_in_any_case_but_not_by_both() {
    let bench = Bench::immediate();
    bench.create("Web-1", &["roadstead:o:abc"]).await;
    bench.create("web-10", &[]).await;
    assert_eq!(bench.names("/v2/droplets?name=wEB-1").await, ["Web-1"]);
    assert!(bench.names("/v2/droplets?name=web").await.is_empty());
    assert_eq!(
        bench
            .names("/v2/droplets?tag_name=roadstead%3Ao%3Aabc")
            .await,
        ["Web-1"]
    );
    assert!(bench.names("/v2/droplets?tag_name=other").await.is_empty());
    assert!(bench.names("/v2/droplets?type=gpus").await.is_empty());
    assert_eq!(
        bench.get("/v2/droplets?name=web-1&tag_name=a").await.status,
        422
    );
    assert_eq!(
        bench.get("/v2/droplets?type=gpus&tag_name=a").await.status,
        422
    );
}

#[tokio::test]
async fn listings_run_behind_creation_and_deletion_while_ids_do_not() {
    let bench = Bench::new(Settings {
        listing_lag_ms: 5_000,
        linger_ms: 3_000,
        ..Settings::immediate()
    });
    let id = bench.create("web-1", &["web"]).await;
    let path = format!("/v2/droplets/{id}");
    assert_eq!(bench.get(&path).await.status, 200);
    for listing in [
        "/v2/droplets",
        "/v2/droplets?tag_name=web",
        "/v2/droplets?name=web-1",
    ] {
        assert!(bench.names(listing).await.is_empty(), "{listing}");
    }
    bench.advance(5_000);
    for listing in [
        "/v2/droplets",
        "/v2/droplets?tag_name=web",
        "/v2/droplets?name=web-1",
    ] {
        assert_eq!(bench.names(listing).await, ["web-1"], "{listing}");
    }
    assert_eq!(bench.delete(&path).await.status, 204);
    assert_eq!(bench.get(&path).await.status, 404);
    assert_eq!(bench.names("/v2/droplets").await, ["web-1"]);
    bench.advance(3_000);
    assert!(bench.names("/v2/droplets").await.is_empty());
    assert!(bench.names("/v2/droplets?tag_name=web").await.is_empty());
    assert!(bench.names("/v2/droplets?name=web-1").await.is_empty());
}

#[tokio::test]
async fn tags_may_be_applied_later_than_the_droplet_is_created() {
    let bench = Bench::new(Settings {
        tag_lag_ms: 1_000,
        ..Settings::immediate()
    });
    let id = bench.create("web-1", &["web"]).await;
    assert_eq!(
        bench.get(&format!("/v2/droplets/{id}")).await.body["droplet"]["tags"],
        json!([])
    );
    assert_eq!(bench.names("/v2/droplets").await, ["web-1"]);
    assert!(bench.names("/v2/droplets?tag_name=web").await.is_empty());
    bench.advance(1_000);
    assert_eq!(bench.names("/v2/droplets?tag_name=web").await, ["web-1"]);
}

#[tokio::test]
async fn a_deleted_droplet_exists_and_counts_until_its_deletion_takes_effect() {
    let bench = Bench::new(Settings {
        delete_takes_ms: 1_000,
        ..Settings::immediate()
    });
    bench.state.set_droplet_limit("main", 1);
    let id = bench.create("web-1", &[]).await;
    let path = format!("/v2/droplets/{id}");
    assert_eq!(bench.delete(&path).await.status, 204);
    assert_eq!(bench.get(&path).await.body["droplet"]["locked"], true);
    assert_eq!(
        bench.post("/v2/droplets", order("web-2", &[])).await.status,
        422
    );
    assert_eq!(bench.delete(&path).await.status, 204);
    bench.advance(1_000);
    assert_eq!(bench.get(&path).await.status, 404);
    bench.delete(&path).await.refused(
        404,
        "not_found",
        "The resource you were accessing could not be found.",
    );
    let next = bench.create("web-2", &[]).await;
    assert_eq!(
        bench
            .state
            .droplet(next)
            .unwrap()
            .public4
            .unwrap()
            .to_string(),
        "203.0.113.1"
    );
}

#[tokio::test]
async fn a_pending_event_refuses_deletion_only_where_configured() {
    let bench = Bench::new(Settings {
        active_after_ms: 1_000,
        pending_event_blocks_delete: true,
        ..Settings::immediate()
    });
    let id = bench.create("web-1", &["web"]).await;
    let path = format!("/v2/droplets/{id}");
    let pending = "Droplet already has a pending event.";
    bench
        .delete(&path)
        .await
        .refused(422, "unprocessable_entity", pending);
    bench
        .delete("/v2/droplets?tag_name=web")
        .await
        .refused(422, "unprocessable_entity", pending);
    bench.advance(1_000);
    assert_eq!(bench.delete(&path).await.status, 204);

    bench.state.set_settings(Settings {
        active_after_ms: 1_000,
        ..Settings::immediate()
    });
    let id = bench.create("web-2", &[]).await;
    assert_eq!(
        bench.delete(&format!("/v2/droplets/{id}")).await.status,
        204
    );
}

#[tokio::test]
async fn deleting_by_tag_deletes_all_that_carry_it_and_never_without_a_tag() {
    let bench = Bench::immediate();
    bench.create("web-1", &["web"]).await;
    bench.create("web-2", &["web"]).await;
    bench.create("db-1", &["db"]).await;
    for path in ["/v2/droplets", "/v2/droplets?tag_name="] {
        assert_eq!(bench.delete(path).await.status, 422);
    }
    assert_eq!(
        bench.delete("/v2/droplets?tag_name=other").await.status,
        404
    );
    assert_eq!(bench.delete("/v2/droplets?tag_name=web").await.status, 204);
    assert_eq!(bench.names("/v2/droplets").await, ["db-1"]);
}

#[tokio::test]
async fn actions_run_one_at_a_time_and_change_the_droplet_when_they_complete() {
    let bench = Bench::new(Settings {
        action_takes_ms: 1_000,
        ..Settings::immediate()
    });
    let id = bench.create("web-1", &[]).await;
    let (path, actions) = (
        format!("/v2/droplets/{id}"),
        format!("/v2/droplets/{id}/actions"),
    );
    let on = "Droplet is currently on. Please power it off to run this event.";
    bench
        .post(&actions, json!({"type": "power_on"}))
        .await
        .refused(422, "unprocessable_entity", on);
    let action = bench.post(&actions, json!({"type": "power_off"})).await;
    assert_eq!(action.status, 201);
    assert_eq!(action.body["action"]["status"], "in-progress");
    let second = bench
        .post(&actions, json!({"type": "rename", "name": "web-2"}))
        .await;
    second.refused(
        422,
        "unprocessable_entity",
        "Droplet already has a pending event.",
    );
    assert_eq!(bench.get(&path).await.body["droplet"]["status"], "active");
    bench.advance(1_000);
    assert_eq!(bench.get(&path).await.body["droplet"]["status"], "off");
    let done = bench
        .get(&format!("/v2/actions/{}", action.body["action"]["id"]))
        .await
        .body["action"]
        .clone();
    assert_eq!(done["status"], "completed");
    assert_eq!(
        bench.get(&format!("{actions}/{}", done["id"])).await.body["action"],
        done
    );

    bench
        .post(&actions, json!({"type": "rename", "name": "web-2"}))
        .await;
    bench.advance(1_000);
    assert_eq!(bench.names("/v2/droplets?name=web-2").await, ["web-2"]);
    assert!(bench.names("/v2/droplets?name=web-1").await.is_empty());
    bench.post(&actions, json!({"type": "power_on"})).await;
    bench.advance(1_000);
    assert_eq!(bench.get(&path).await.body["droplet"]["status"], "active");
    let kinds: Vec<Value> = bench.get(&actions).await.body["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| action["type"].clone())
        .collect();
    assert_eq!(kinds, ["power_on", "rename", "power_off", "create"]);
    assert_eq!(
        bench.post(&actions, json!({"type": "dance"})).await.status,
        422
    );
}

#[tokio::test]
async fn tags_are_made_by_ordering_with_them_and_keep_their_first_spelling() {
    let bench = Bench::immediate();
    let id = bench.create("web-1", &["PROD"]).await;
    bench.create("web-2", &["prod"]).await;
    let tag = bench.get("/v2/tags/PROD").await.body["tag"].clone();
    assert_eq!(tag["resources"]["count"], 2);
    assert_eq!(tag["resources"]["droplets"]["count"], 2);
    assert_eq!(bench.get("/v2/tags/prod").await.status, 404);
    assert_eq!(bench.get("/v2/tags").await.body["meta"]["total"], 1);
    assert_eq!(bench.delete("/v2/tags/PROD").await.status, 204);
    assert_eq!(
        bench.get(&format!("/v2/droplets/{id}")).await.body["droplet"]["tags"],
        json!([])
    );
    assert_eq!(bench.delete("/v2/tags/PROD").await.status, 404);
}

#[tokio::test]
async fn tags_are_put_on_and_taken_off_droplets() {
    let bench = Bench::immediate();
    let id = bench.create("web-1", &[]).await;
    let resources = |id: u64| json!({"resources": [{"resource_id": id.to_string(), "resource_type": "droplet"}]});
    assert_eq!(
        bench
            .post("/v2/tags/web/resources", resources(id))
            .await
            .status,
        404
    );
    let made = bench.post("/v2/tags", json!({"name": "web"})).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.body["tag"]["resources"]["count"], 0);
    assert_eq!(
        bench.post("/v2/tags", json!({"name": "web"})).await.status,
        201
    );
    bench
        .post("/v2/tags", json!({"name": "a b"}))
        .await
        .refused(422, "unprocessable_entity", TAG_RULE);

    assert_eq!(
        bench
            .post("/v2/tags/web/resources", resources(1))
            .await
            .status,
        404
    );
    assert_eq!(
        bench
            .post("/v2/tags/web/resources", resources(id))
            .await
            .status,
        204
    );
    assert_eq!(bench.names("/v2/droplets?tag_name=web").await, ["web-1"]);
    let untag = bench
        .api(
            Method::DELETE,
            "/v2/tags/web/resources",
            Some(resources(id)),
        )
        .await;
    assert_eq!(untag.status, 204);
    assert!(bench.names("/v2/droplets?tag_name=web").await.is_empty());
    assert_eq!(bench.get("/v2/tags/web").await.status, 200);
}

#[tokio::test]
async fn an_unknown_a_revoked_and_an_expired_token_are_401() {
    let bench = Bench::immediate();
    let expires_at = Some(bench.clock.now() + SignedDuration::from_secs(60));
    bench.state.put_token(TokenSpec {
        expires_at,
        ..TokenSpec::new("short")
    });
    let as_token =
        |token: &'static str| bench.send(token, Method::GET, "/digitalocean/v2/account", None);
    let message = "Unable to authenticate you";
    as_token("").await.refused(401, "Unauthorized", message);
    as_token("wrong")
        .await
        .refused(401, "Unauthorized", message);
    assert_eq!(as_token("short").await.status, 200);
    bench.advance(60_000);
    as_token("short")
        .await
        .refused(401, "Unauthorized", message);
    assert_eq!(as_token(TOKEN).await.status, 200);
    assert!(bench.state.revoke_token(TOKEN));
    as_token(TOKEN).await.refused(401, "Unauthorized", message);
}

#[tokio::test]
async fn a_token_without_the_scope_is_403_and_single_scopes_suffice() {
    let bench = Bench::immediate();
    bench
        .state
        .put_token(TokenSpec::new("reader").with_scopes(&["read"]));
    let body = || Some(order("web-1", &["web"]));
    let create =
        |token: &'static str| bench.send(token, Method::POST, "/digitalocean/v2/droplets", body());
    let message = "You are not authorized to perform this operation";
    create("reader").await.refused(403, "Forbidden", message);
    assert_eq!(
        bench
            .send("reader", Method::GET, "/digitalocean/v2/droplets", None)
            .await
            .status,
        200
    );

    bench
        .state
        .put_token(TokenSpec::new("maker").with_scopes(&["droplet:create", "image:read"]));
    create("maker").await.refused(403, "Forbidden", message);
    bench.state.put_token(TokenSpec::new("maker").with_scopes(&[
        "droplet:create",
        "image:read",
        "tag:create",
    ]));
    assert_eq!(create("maker").await.status, 202);
    assert_eq!(
        bench
            .send("maker", Method::GET, "/digitalocean/v2/droplets", None)
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn a_token_sees_only_the_droplets_of_its_own_account() {
    let bench = Bench::immediate();
    bench.state.put_account(AccountSpec::new("other"));
    bench
        .state
        .put_token(TokenSpec::new("stranger").of_account("other"));
    let id = bench.create("web-1", &["web"]).await;
    let listing = bench
        .send("stranger", Method::GET, "/digitalocean/v2/droplets", None)
        .await;
    assert_eq!(listing.body["meta"]["total"], 0);
    let path = format!("/digitalocean/v2/droplets/{id}");
    assert_eq!(
        bench
            .send("stranger", Method::GET, &path, None)
            .await
            .status,
        404
    );
    assert_eq!(
        bench
            .send("stranger", Method::DELETE, &path, None)
            .await
            .status,
        404
    );
    assert_eq!(
        bench
            .send("stranger", Method::GET, "/digitalocean/v2/tags/web", None)
            .await
            .status,
        404
    );
    let account = bench
        .send("stranger", Method::GET, "/digitalocean/v2/account", None)
        .await
        .body;
    assert_ne!(
        account["account"]["team"]["uuid"],
        bench.get("/v2/account").await.body["account"]["team"]["uuid"]
    );
}

#[tokio::test]
async fn every_answer_tells_the_hourly_quota_and_each_request_expires_by_itself() {
    let bench = Bench::new(Settings {
        requests_per_hour: 3,
        ..Settings::immediate()
    });
    let start = bench.clock.now().as_second();
    let first = bench.get("/v2/account").await;
    assert_eq!(
        (
            first.header("ratelimit-limit"),
            first.header("ratelimit-remaining")
        ),
        (3, 2)
    );
    assert_eq!(first.header("ratelimit-reset"), start + 3_600);
    bench.advance(10_000);
    assert_eq!(
        bench
            .get("/v2/droplets/1")
            .await
            .header("ratelimit-remaining"),
        1
    );
    assert_eq!(
        bench.get("/v2/account").await.header("ratelimit-remaining"),
        0
    );
    let refused = bench.get("/v2/account").await;
    refused.refused(429, "too_many_requests", "API Rate limit exceeded.");
    assert_eq!(refused.header("ratelimit-reset"), start + 3_600);
    assert!(!refused.headers.contains_key("retry-after"));
    bench.advance(3_590_000);
    assert_eq!(bench.get("/v2/account").await.status, 200);
    assert_eq!(bench.get("/v2/account").await.status, 429);
}

#[tokio::test]
async fn the_limit_per_minute_says_when_to_come_back_and_is_counted_per_token() {
    let bench = Bench::new(Settings {
        requests_per_minute: 2,
        ..Settings::immediate()
    });
    bench.state.put_token(TokenSpec::new("second"));
    bench.get("/v2/account").await;
    bench.advance(20_000);
    bench.get("/v2/account").await;
    let refused = bench.get("/v2/account").await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        (
            refused.header("ratelimit-remaining"),
            refused.header("retry-after")
        ),
        (0, 40)
    );
    assert_eq!(
        bench
            .send("second", Method::GET, "/digitalocean/v2/account", None)
            .await
            .status,
        200
    );
    bench.advance(39_000);
    assert_eq!(bench.get("/v2/account").await.status, 429);
    bench.advance(1_000);
    assert_eq!(bench.get("/v2/account").await.status, 200);
}

#[tokio::test]
async fn a_person_makes_edits_and_destroys_droplets_at_once() {
    let bench = Bench::new(Settings {
        active_after_ms: 60_000,
        delete_takes_ms: 60_000,
        ..Settings::default()
    });
    let new = NewDroplet {
        account: "main".to_owned(),
        name: "by-hand".to_owned(),
        region: "fra1".to_owned(),
        size: "s-1vcpu-1gb".to_owned(),
        image: "debian-12-x64".to_owned(),
        tags: vec!["web".to_owned()],
    };
    let made = bench.state.add_droplet(&new).unwrap();
    assert_eq!(bench.names("/v2/droplets?tag_name=web").await, ["by-hand"]);
    let path = format!("/v2/droplets/{}", made.id);
    assert_eq!(
        bench.get(&path).await.body["droplet"]["networks"]["v4"][1]["ip_address"],
        "203.0.113.1"
    );

    let edit = DropletEdit {
        name: Some("renamed".to_owned()),
        tags: Some(Vec::new()),
        powered: Some(false),
        public4: Some("198.51.100.77".parse().unwrap()),
    };
    bench.state.edit_droplet(made.id, edit).unwrap();
    let droplet = bench.get(&path).await.body["droplet"].clone();
    assert_eq!(
        (&droplet["name"], &droplet["status"]),
        (&json!("renamed"), &json!("off"))
    );
    assert_eq!(droplet["networks"]["v4"][1]["ip_address"], "198.51.100.77");
    assert!(bench.names("/v2/droplets?tag_name=web").await.is_empty());
    assert!(bench.state.remove_droplet(made.id));
    assert_eq!(bench.get(&path).await.status, 404);
    assert!(bench.names("/v2/droplets").await.is_empty());
    assert!(!bench.state.remove_droplet(made.id));
}

#[tokio::test]
async fn the_control_routes_do_what_the_methods_do() {
    let bench = Bench::immediate();
    let settings = bench
        .control(Method::PATCH, "/settings", Some(json!({"linger_ms": 9})))
        .await;
    assert_eq!(
        (
            &settings.body["linger_ms"],
            &settings.body["requests_per_hour"]
        ),
        (&json!(9), &json!(5_000))
    );
    assert_eq!(
        bench
            .control(Method::PATCH, "/settings", Some(json!({"lingre_ms": 9})))
            .await
            .status,
        422
    );
    bench
        .control(
            Method::POST,
            "/accounts",
            Some(json!({"name": "second", "droplet_limit": 1})),
        )
        .await;
    bench
        .control(
            Method::POST,
            "/tokens",
            Some(json!({"value": "t2", "account": "second"})),
        )
        .await;
    let account = bench
        .send("t2", Method::GET, "/digitalocean/v2/account", None)
        .await;
    assert_eq!(account.body["account"]["droplet_limit"], 1);
    let raised = bench
        .control(
            Method::PUT,
            "/accounts/second/droplet-limit",
            Some(json!({"limit": 5})),
        )
        .await;
    assert_eq!(raised.status, 204);
    assert_eq!(
        bench
            .control(Method::DELETE, "/tokens/t2", None)
            .await
            .status,
        204
    );
    assert_eq!(
        bench
            .send("t2", Method::GET, "/digitalocean/v2/account", None)
            .await
            .status,
        401
    );

    let new =
        json!({"name": "x", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"});
    let made = bench.control(Method::POST, "/droplets", Some(new)).await;
    assert_eq!(made.status, 201);
    let path = format!("/droplets/{}", made.body["id"]);
    let edited = bench
        .control(Method::PATCH, &path, Some(json!({"tags": ["a"]})))
        .await;
    assert_eq!(edited.body["tags"], json!(["a"]));
    assert_eq!(
        bench
            .control(Method::GET, "/droplets", None)
            .await
            .body
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(bench.control(Method::DELETE, &path, None).await.status, 204);
    assert_eq!(bench.control(Method::GET, &path, None).await.status, 404);
    assert_eq!(
        bench
            .control(Method::DELETE, "/sizes/c-2", None)
            .await
            .status,
        204
    );
    assert_eq!(
        bench
            .control(Method::DELETE, "/sizes/c-2", None)
            .await
            .status,
        404
    );
    let state = bench.control(Method::GET, "/state", None).await.body;
    assert_eq!(state["accounts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn unknown_routes_answer_404_in_the_api_s_own_form() {
    let bench = Bench::immediate();
    let message = "The resource you were accessing could not be found.";
    bench
        .get("/v2/nothing")
        .await
        .refused(404, "not_found", message);
    bench
        .get("/v2/droplets/abc")
        .await
        .refused(404, "not_found", message);
}

#[tokio::test]
async fn five_thousand_droplets_are_created_listed_and_found_within_seconds() {
    let bench = Bench::new(Settings {
        requests_per_hour: usize::MAX,
        requests_per_minute: usize::MAX,
        ..Settings::immediate()
    });
    let started = std::time::Instant::now();
    for number in 0..5_000 {
        bench
            .create(
                &format!("web-{number}"),
                &["roadstead:c:1", &format!("roadstead:o:{number}")],
            )
            .await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for page in 1..=25 {
        let path = format!("/v2/droplets?tag_name=roadstead:c:1&per_page=200&page={page}");
        seen.extend(bench.names(&path).await);
    }
    assert_eq!(seen.len(), 5_000);
    assert_eq!(
        bench.names("/v2/droplets?name=web-4999").await,
        ["web-4999"]
    );
    assert_eq!(
        bench.names("/v2/droplets?tag_name=roadstead:o:4999").await,
        ["web-4999"]
    );
    let took = started.elapsed();
    assert!(took.as_secs() < 30, "took {took:?}");
}
