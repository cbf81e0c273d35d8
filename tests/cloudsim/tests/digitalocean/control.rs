//! What tests do to the simulator, directly and through its control routes.

use axum::http::Method;
use cloudsim::digitalocean::{DropletEdit, NewDroplet, Settings};
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn a_person_makes_edits_and_destroys_droplets_at_once() {
    let bench = Bench::new(Settings { active_after_ms: 60_000, delete_takes_ms: 60_000, ..Settings::default() });
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
    assert_eq!(bench.get(&path).await.body["droplet"]["networks"]["v4"][1]["ip_address"], "203.0.113.1");

    let edit = DropletEdit {
        name: Some("renamed".to_owned()),
        tags: Some(Vec::new()),
        powered: Some(false),
        public4: Some("198.51.100.77".parse().unwrap()),
    };
    bench.state.edit_droplet(made.id, edit).unwrap();
    let droplet = bench.get(&path).await.body["droplet"].clone();
    assert_eq!((&droplet["name"], &droplet["status"]), (&json!("renamed"), &json!("off")));
    assert_eq!(droplet["networks"]["v4"][1]["ip_address"], "198.51.100.77");
    assert!(bench.names("/v2/droplets?tag_name=web").await.is_empty());
    assert!(bench.state.remove_droplet(made.id));
    assert_eq!(bench.get(&path).await.status, 404);
    assert!(bench.names("/v2/droplets").await.is_empty());
    assert!(!bench.state.remove_droplet(made.id));
}

#[tokio::test]
async fn the_control_routes_change_settings_accounts_and_tokens() {
    let bench = Bench::immediate();
    let control = async |method, path, body| bench.control(method, path, Some(body)).await;
    let account = async || bench.send("t2", Method::GET, "/digitalocean/v2/account", None).await;

    let settings = control(Method::PATCH, "/settings", json!({"linger_ms": 9})).await.body;
    assert_eq!(settings["linger_ms"], 9);
    assert_eq!(settings["requests_per_hour"], 5_000);
    let misspelt = control(Method::PATCH, "/settings", json!({"lingre_ms": 9})).await;
    assert_eq!(misspelt.status, 422);

    let second = json!({"name": "second", "droplet_limit": 1});
    assert_eq!(control(Method::POST, "/accounts", second).await.status, 200);
    let token = json!({"value": "t2", "account": "second"});
    assert_eq!(control(Method::POST, "/tokens", token).await.status, 204);
    assert_eq!(account().await.body["account"]["droplet_limit"], 1);
    let path = "/accounts/second/droplet-limit";
    assert_eq!(control(Method::PUT, path, json!({"limit": 5})).await.status, 204);
    assert_eq!(account().await.body["account"]["droplet_limit"], 5);
    let revoked = bench.control(Method::DELETE, "/tokens/t2", None).await;
    assert_eq!(revoked.status, 204);
    assert_eq!(account().await.status, 401);
    let state = bench.control(Method::GET, "/state", None).await.body;
    assert_eq!(state["accounts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_control_routes_make_edit_destroy_and_withdraw() {
    let bench = Bench::immediate();
    let control = async |method, path: &str| bench.control(method, path, None).await;
    let new = |name: &str| {
        let (region, size, image) = ("fra1", "s-1vcpu-1gb", "debian-12-x64");
        json!({"name": name, "region": region, "size": size, "image": image})
    };
    let made = bench.control(Method::POST, "/droplets", Some(new("x"))).await;
    assert_eq!(made.status, 201);
    let many = json!([new("y"), new("z")]);
    let many = bench.control(Method::POST, "/droplets", Some(many)).await;
    assert_eq!(many.body.as_array().unwrap().len(), 2);
    let all = control(Method::GET, "/droplets").await.body;
    assert_eq!(all.as_array().unwrap().len(), 3);

    let path = format!("/droplets/{}", made.body["id"]);
    let tags = json!({"tags": ["a"]});
    let edited = bench.control(Method::PATCH, &path, Some(tags)).await;
    assert_eq!(edited.body["tags"], json!(["a"]));
    assert_eq!(control(Method::DELETE, &path).await.status, 204);
    assert_eq!(control(Method::GET, &path).await.status, 404);
    assert_eq!(control(Method::DELETE, "/sizes/c-2").await.status, 204);
    assert_eq!(control(Method::DELETE, "/sizes/c-2").await.status, 404);
}
