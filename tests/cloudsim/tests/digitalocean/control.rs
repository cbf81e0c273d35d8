//! What tests do to the simulator, directly and through its control routes.

use axum::http::Method;
use cloudsim::digitalocean::{DropletEdit, NewDroplet, Settings};
use serde_json::json;

use crate::bench::Bench;

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
    let many = json!([
        {"name": "y", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"},
        {"name": "z", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"},
    ]);
    let all = bench.control(Method::POST, "/droplets", Some(many)).await;
    assert_eq!(all.body.as_array().unwrap().len(), 2);
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
        3
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
