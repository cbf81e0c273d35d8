//! What can be ordered, and the words in which the rest is refused.

use axum::body::Body;
use axum::http::Request;
use cloudsim::digitalocean::AccountSpec;
use serde_json::json;
use tower::ServiceExt;

use crate::bench::{Bench, TAG_RULE, TOKEN, changed, order};

#[tokio::test]
async fn the_account_shows_its_identity_and_droplet_limit() {
    let bench = Bench::immediate();
    bench.state.put_account(AccountSpec { droplet_limit: 7, ..AccountSpec::new("main") });
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
    let fra1 = regions["regions"].as_array().unwrap().iter().find(|region| region["slug"] == "fra1").unwrap();
    assert!(fra1["sizes"].as_array().unwrap().contains(&json!("s-1vcpu-1gb")));
    let sizes = bench.get("/v2/sizes").await.body;
    assert_eq!(sizes["meta"]["total"], sizes["sizes"].as_array().unwrap().len());
    let images = bench.get("/v2/images?type=distribution").await.body;
    assert_eq!(images["images"][0]["distribution"], "Debian");
    assert_eq!(bench.get("/v2/images?private=true").await.body["meta"]["total"], 0);
    let by_slug = bench.get("/v2/images/debian-12-x64").await.body;
    let by_id = bench.get(&format!("/v2/images/{}", by_slug["image"]["id"])).await.body;
    assert_eq!(by_slug, by_id);
    assert_eq!(bench.get("/v2/images/debian-1").await.status, 404);
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
    body["names"] = json!((0..11).map(|number| format!("n{number}")).collect::<Vec<_>>());
    assert_eq!(bench.post("/v2/droplets", body).await.status, 422);
    assert_eq!(bench.state.droplets().len(), 2);
}

#[tokio::test]
async fn an_order_for_something_unknown_is_refused_in_the_words_of_the_real_api() {
    let bench = Bench::immediate();
    let hostname = "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)";
    let cases = [
        (changed("region", "mars1"), "You specified an invalid region for Droplet creation."),
        (changed("size", "s-9vcpu"), "You specified an invalid size for Droplet creation."),
        (changed("image", "debian-1"), "You specified an invalid image for Droplet creation."),
        (changed("image", 1), "You specified an invalid image for Droplet creation."),
        (changed("name", "web_1"), hostname),
        (changed("name", "-web"), hostname),
        (changed("name", "web."), hostname),
        (changed("name", "w".repeat(256)), hostname),
        (changed("user_data", "x".repeat(65_537)), "user_data is too long (maximum is 64 KiB)"),
        (changed("ssh_keys", json!([17])), "17 are invalid key identifiers for Droplet creation."),
        (changed("vpc_uuid", "nowhere"), "You specified invalid VPC parameters for Droplet creation."),
        (changed("tags", json!(["a b"])), TAG_RULE),
        (changed("tags", json!(["t".repeat(256)])), TAG_RULE),
    ];
    for (body, message) in cases {
        bench.post("/v2/droplets", body).await.refused(422, "unprocessable_entity", message);
    }
    assert!(bench.state.droplets().is_empty());
    for accepted in [changed("user_data", "x".repeat(65_536)), changed("name", "Web.1-a"), changed("region", "fra")] {
        assert_eq!(bench.post("/v2/droplets", accepted).await.status, 202);
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_is_400_and_one_of_the_wrong_shape_422() {
    let bench = Bench::immediate();
    let request = Request::post("/digitalocean/v2/droplets")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Body::from("{"))
        .unwrap();
    assert_eq!(bench.app.clone().oneshot(request).await.unwrap().status(), 400);
    assert_eq!(bench.post("/v2/droplets", changed("tags", "a")).await.status, 422);
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
    assert_eq!(bench.get(&format!("/v2/droplets/{id}")).await.body["droplet"]["size_slug"], "s-1vcpu-1gb");
}

#[tokio::test]
async fn a_size_or_region_that_is_not_available_is_refused() {
    let bench = Bench::immediate();
    let (regions, sizes, _) = bench.state.offers();
    let mut size = sizes.into_iter().find(|size| size.slug == "c-2").unwrap();
    size.regions = vec!["nyc3".to_owned()];
    bench.state.put_size(size);
    let refused = bench.post("/v2/droplets", changed("size", "c-2")).await;
    refused.refused(422, "unprocessable_entity", "Size is not available in this region.");
    let mut region = regions.into_iter().find(|region| region.slug == "fra1").unwrap();
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
