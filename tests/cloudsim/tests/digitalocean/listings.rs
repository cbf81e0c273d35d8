//! Listings: paging, filters, and how far they run behind.

use cloudsim::digitalocean::Settings;
use serde_json::json;

use crate::bench::Bench;

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
    assert_eq!(first["links"]["pages"], json!({"next": url(2), "last": url(3)}));
    let second = bench.get("/v2/droplets?tag_name=web&per_page=2&page=2").await.body;
    let middle = json!({"first": url(1), "prev": url(1), "next": url(3), "last": url(3)});
    assert_eq!(second["links"]["pages"], middle);
    assert_eq!(bench.names("/v2/droplets?tag_name=web&per_page=2&page=3").await, ["web-4"]);
    let last = bench.get("/v2/droplets?tag_name=web&per_page=2&page=3").await.body;
    assert_eq!(last["links"]["pages"], json!({"first": url(1), "prev": url(2)}));
    assert!(bench.names("/v2/droplets?per_page=2&page=4").await.is_empty());
    for bad in ["per_page=0", "per_page=201", "per_page=x", "page=0"] {
        assert_eq!(bench.get(&format!("/v2/droplets?{bad}")).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn droplets_are_found_by_tag_or_by_exact_name_in_any_case_but_not_by_both() {
    let bench = Bench::immediate();
    bench.create("Web-1", &["roadstead:o:abc"]).await;
    bench.create("web-10", &[]).await;
    assert_eq!(bench.names("/v2/droplets?name=wEB-1").await, ["Web-1"]);
    assert!(bench.names("/v2/droplets?name=web").await.is_empty());
    assert_eq!(bench.names("/v2/droplets?tag_name=roadstead%3Ao%3Aabc").await, ["Web-1"]);
    assert!(bench.names("/v2/droplets?tag_name=other").await.is_empty());
    assert!(bench.names("/v2/droplets?type=gpus").await.is_empty());
    assert_eq!(bench.get("/v2/droplets?name=web-1&tag_name=a").await.status, 422);
    assert_eq!(bench.get("/v2/droplets?type=gpus&tag_name=a").await.status, 422);
}

#[tokio::test]
async fn listings_run_behind_creation_and_deletion_while_ids_do_not() {
    let bench = Bench::new(Settings { listing_lag_ms: 5_000, linger_ms: 3_000, ..Settings::immediate() });
    let id = bench.create("web-1", &["web"]).await;
    let path = format!("/v2/droplets/{id}");
    assert_eq!(bench.get(&path).await.status, 200);
    for listing in ["/v2/droplets", "/v2/droplets?tag_name=web", "/v2/droplets?name=web-1"] {
        assert!(bench.names(listing).await.is_empty(), "{listing}");
    }
    bench.advance(5_000);
    for listing in ["/v2/droplets", "/v2/droplets?tag_name=web", "/v2/droplets?name=web-1"] {
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
    let bench = Bench::new(Settings { tag_lag_ms: 1_000, ..Settings::immediate() });
    let id = bench.create("web-1", &["web"]).await;
    assert_eq!(bench.get(&format!("/v2/droplets/{id}")).await.body["droplet"]["tags"], json!([]));
    assert_eq!(bench.names("/v2/droplets").await, ["web-1"]);
    assert!(bench.names("/v2/droplets?tag_name=web").await.is_empty());
    bench.advance(1_000);
    assert_eq!(bench.names("/v2/droplets?tag_name=web").await, ["web-1"]);
}

#[tokio::test]
async fn unknown_routes_answer_404_in_the_api_s_own_form() {
    let bench = Bench::immediate();
    let message = "The resource you were accessing could not be found.";
    bench.get("/v2/nothing").await.refused(404, "not_found", message);
    bench.get("/v2/droplets/abc").await.refused(404, "not_found", message);
}

#[tokio::test]
async fn five_thousand_droplets_are_created_listed_and_found_within_a_minute() {
    let bench = Bench::new(Settings {
        requests_per_hour: usize::MAX,
        requests_per_minute: usize::MAX,
        ..Settings::immediate()
    });
    let started = std::time::Instant::now();
    for number in 0..5_000 {
        bench.create(&format!("web-{number}"), &["roadstead:c:1", &format!("roadstead:o:{number}")]).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for page in 1..=25 {
        let path = format!("/v2/droplets?tag_name=roadstead:c:1&per_page=200&page={page}");
        seen.extend(bench.names(&path).await);
    }
    assert_eq!(seen.len(), 5_000);
    assert_eq!(bench.names("/v2/droplets?name=web-4999").await, ["web-4999"]);
    assert_eq!(bench.names("/v2/droplets?tag_name=roadstead:o:4999").await, ["web-4999"]);
    let took = started.elapsed();
    assert!(took.as_secs() < 60, "took {took:?}");
}
