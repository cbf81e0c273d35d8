//! A preview: an Environment and an app on it, born and ended together.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use support::eventually;

use crate::apps::{APP, app};
use crate::rig::{BOOT, Rig, SOON};
use crate::world::field;

const ENVIRONMENT: &str = "roadstead.dev/v1alpha1/Environment";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_preview_is_born_with_its_app_and_ends_with_its_environment() {
    let rig = Rig::start().await;
    let cluster = &rig.world.cluster;
    let shop = cluster.namespace("shop").await;
    let image = rig.web("pr-42").await;
    let environment = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "Environment",
        "metadata": {"name": "pr-42", "namespace": shop}, "spec": {"slug": "brave-tiger", "lifetime": "72h", "node": {
            "providerRef": {"name": "do"}, "zoneRef": {"name": "example-com"}, "ttl": 60, "host": {"manage": "Caddy"}}}});
    let target = json!({"environmentRef": {"name": "pr-42"}});
    // Without domains it is reached by the Environment's own name.
    cluster.apply(&app(&shop, target, &image, json!({"domains": []}))).await;
    cluster.apply(&environment.to_string()).await;
    rig.live(&shop).await;
    let born = cluster.wait_condition(ENVIRONMENT, Some(&shop), "pr-42", "Ready", "True", BOOT).await;
    let url = field(&born, "/status/url").as_str().unwrap().to_owned();
    assert_eq!(url, "https://brave-tiger.example.com");
    rig.visitor().sees(&format!("{url}/"), 200, "pr-42").await;

    let end = Timestamp::from_second((Timestamp::now() + SignedDuration::from_secs(5)).as_second()).unwrap();
    let change = json!({"spec": {"lifetime": null, "expiresAt": end.to_string()}});
    cluster.patch(ENVIRONMENT, Some(&shop), "pr-42", &change).await;
    eventually(BOOT, "the end of the preview", async || {
        let environment = cluster.get(ENVIRONMENT, Some(&shop), "pr-42").await.unwrap();
        let over = field(&environment, "/status/phase") == "Expired" && rig.vms() == 0;
        if over { Ok(()) } else { Err(environment.data["status"].to_string()) }
    })
    .await;
    assert_eq!(rig.world.records().len(), 0);
    let app = rig.app(&shop).await;
    assert_eq!(support::condition(&app, "Available").unwrap()["status"], "False", "{:?}", app.data["status"]);

    cluster.delete_object(APP, Some(&shop), "shop").await;
    cluster.wait_gone(APP, Some(&shop), "shop", SOON).await;
    cluster.delete_object(ENVIRONMENT, Some(&shop), "pr-42").await;
    cluster.wait_gone(ENVIRONMENT, Some(&shop), "pr-42", SOON).await;
}
