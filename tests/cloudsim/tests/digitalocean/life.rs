//! The life of a droplet: addresses, actions, tags, deletion.

use axum::http::Method;
use cloudsim::digitalocean::Settings;
use serde_json::{Value, json};

use crate::bench::{Bench, TAG_RULE, order};

#[tokio::test]
async fn a_new_droplet_is_accepted_then_active_and_shows_its_addresses_only_later() {
    let bench = Bench::new(Settings { active_after_ms: 2_000, address_after_ms: 1_000, ..Settings::immediate() });
    let answer = bench.post("/v2/droplets", order("web-1", &["a"])).await;
    assert_eq!(answer.status, 202);
    let droplet = &answer.body["droplet"];
    assert_eq!(droplet["status"], "new");
    assert_eq!(droplet["networks"]["v4"], json!([]));
    assert!(droplet.get("vpc_uuid").is_none());
    let (id, action) = (droplet["id"].clone(), answer.body["links"]["actions"][0].clone());
    assert_eq!(action["rel"], "create");
    assert_eq!(action["href"], format!("http://127.0.0.1:8080/digitalocean/v2/actions/{}", action["id"]));
    let droplet_path = format!("/v2/droplets/{id}");
    let action_path = format!("/v2/actions/{}", action["id"]);

    bench.advance(1_999);
    assert_eq!(bench.get(&droplet_path).await.body["droplet"]["status"], "new");
    assert_eq!(bench.get(&action_path).await.body["action"]["status"], "in-progress");
    bench.advance(1);
    let active = bench.get(&droplet_path).await.body["droplet"].clone();
    assert_eq!(active["status"], "active");
    assert_eq!(active["networks"]["v4"], json!([]));
    assert_eq!(bench.get(&action_path).await.body["action"]["status"], "completed");
    bench.advance(1_000);
    let networks = bench.get(&droplet_path).await.body["droplet"]["networks"].clone();
    let kinds: Vec<_> = networks["v4"].as_array().unwrap().iter().map(|network| network["type"].clone()).collect();
    assert_eq!(kinds, ["private", "public"]);
    assert!(networks["v4"][0]["ip_address"].as_str().unwrap().starts_with("10."));
    assert_eq!(networks["v4"][1]["ip_address"], "203.0.113.1");
}

#[tokio::test]
async fn user_data_is_kept_for_the_test_to_see_but_never_shown_by_the_api() {
    let bench = Bench::immediate();
    let id = bench.create("web-1", &[]).await;
    let shown = bench.get(&format!("/v2/droplets/{id}")).await.body;
    assert!(!shown.to_string().contains("cloud-config"));
    assert_eq!(bench.state.droplet(id).unwrap().user_data.unwrap(), "#cloud-config\n");
}

#[tokio::test]
async fn a_deleted_droplet_exists_and_counts_until_its_deletion_takes_effect() {
    let bench = Bench::new(Settings { delete_takes_ms: 1_000, ..Settings::immediate() });
    bench.state.set_droplet_limit("main", 1);
    let id = bench.create("web-1", &[]).await;
    let path = format!("/v2/droplets/{id}");
    assert_eq!(bench.delete(&path).await.status, 204);
    assert_eq!(bench.get(&path).await.body["droplet"]["locked"], true);
    assert_eq!(bench.post("/v2/droplets", order("web-2", &[])).await.status, 422);
    assert_eq!(bench.delete(&path).await.status, 204);
    bench.advance(1_000);
    assert_eq!(bench.get(&path).await.status, 404);
    bench.delete(&path).await.refused(404, "not_found", "The resource you were accessing could not be found.");
    let next = bench.create("web-2", &[]).await;
    assert_eq!(bench.state.droplet(next).unwrap().public4.unwrap().to_string(), "203.0.113.1");
}

#[tokio::test]
async fn a_pending_event_refuses_deletion_only_where_configured() {
    let bench =
        Bench::new(Settings { active_after_ms: 1_000, pending_event_blocks_delete: true, ..Settings::immediate() });
    let id = bench.create("web-1", &["web"]).await;
    let path = format!("/v2/droplets/{id}");
    let pending = "Droplet already has a pending event.";
    bench.delete(&path).await.refused(422, "unprocessable_entity", pending);
    bench.delete("/v2/droplets?tag_name=web").await.refused(422, "unprocessable_entity", pending);
    bench.advance(1_000);
    assert_eq!(bench.delete(&path).await.status, 204);

    bench.state.set_settings(Settings { active_after_ms: 1_000, ..Settings::immediate() });
    let id = bench.create("web-2", &[]).await;
    assert_eq!(bench.delete(&format!("/v2/droplets/{id}")).await.status, 204);
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
    assert_eq!(bench.delete("/v2/droplets?tag_name=other").await.status, 404);
    assert_eq!(bench.delete("/v2/droplets?tag_name=web").await.status, 204);
    assert_eq!(bench.names("/v2/droplets").await, ["db-1"]);
}

#[tokio::test]
async fn actions_run_one_at_a_time_and_change_the_droplet_when_they_complete() {
    let bench = Bench::new(Settings { action_takes_ms: 1_000, ..Settings::immediate() });
    let id = bench.create("web-1", &[]).await;
    let (path, actions) = (format!("/v2/droplets/{id}"), format!("/v2/droplets/{id}/actions"));
    let on = "Droplet is currently on. Please power it off to run this event.";
    bench.post(&actions, json!({"type": "power_on"})).await.refused(422, "unprocessable_entity", on);
    let action = bench.post(&actions, json!({"type": "power_off"})).await;
    assert_eq!(action.status, 201);
    assert_eq!(action.body["action"]["status"], "in-progress");
    let second = bench.post(&actions, json!({"type": "rename", "name": "web-2"})).await;
    second.refused(422, "unprocessable_entity", "Droplet already has a pending event.");
    assert_eq!(bench.get(&path).await.body["droplet"]["status"], "active");
    bench.advance(1_000);
    assert_eq!(bench.get(&path).await.body["droplet"]["status"], "off");
    let done = bench.get(&format!("/v2/actions/{}", action.body["action"]["id"])).await.body["action"].clone();
    assert_eq!(done["status"], "completed");
    assert_eq!(bench.get(&format!("{actions}/{}", done["id"])).await.body["action"], done);

    bench.post(&actions, json!({"type": "rename", "name": "web-2"})).await;
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
    assert_eq!(bench.post(&actions, json!({"type": "dance"})).await.status, 422);
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
    assert_eq!(bench.get(&format!("/v2/droplets/{id}")).await.body["droplet"]["tags"], json!([]));
    assert_eq!(bench.delete("/v2/tags/PROD").await.status, 404);
}

#[tokio::test]
async fn tags_are_put_on_and_taken_off_droplets() {
    let bench = Bench::immediate();
    let id = bench.create("web-1", &[]).await;
    let resources = |id: u64| json!({"resources": [{"resource_id": id.to_string(), "resource_type": "droplet"}]});
    assert_eq!(bench.post("/v2/tags/web/resources", resources(id)).await.status, 404);
    let made = bench.post("/v2/tags", json!({"name": "web"})).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.body["tag"]["resources"]["count"], 0);
    assert_eq!(bench.post("/v2/tags", json!({"name": "web"})).await.status, 201);
    bench.post("/v2/tags", json!({"name": "a b"})).await.refused(422, "unprocessable_entity", TAG_RULE);

    assert_eq!(bench.post("/v2/tags/web/resources", resources(1)).await.status, 404);
    assert_eq!(bench.post("/v2/tags/web/resources", resources(id)).await.status, 204);
    assert_eq!(bench.names("/v2/droplets?tag_name=web").await, ["web-1"]);
    let untag = bench.api(Method::DELETE, "/v2/tags/web/resources", Some(resources(id))).await;
    assert_eq!(untag.status, 204);
    assert!(bench.names("/v2/droplets?tag_name=web").await.is_empty());
    assert_eq!(bench.get("/v2/tags/web").await.status, 200);
}
