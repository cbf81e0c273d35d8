//! A name that goes from one app to another under load: visitors get answers all the time, and its record is changed once.

use std::time::Duration;

use serde_json::{Value, json};
use support::{OperatorOptions, condition, eventually};

use crate::apps::{APP, app};
use crate::rig::{BOOT, Rig, SOON};
use crate::world::{CLAIM, field};

const NAME: &str = "shop.example.com";
const SITE: &str = "https://shop.example.com/";

/// For how long who had the name serves it on: longer than visitors with a connection that is kept are watched.
const TTL: Duration = Duration::from_secs(40);

fn named(name: &str, namespace: &str, node: &str, image: &str, domains: &Value) -> String {
    let target = json!({"nodeRef": {"name": node}});
    let mut app: Value = serde_json::from_str(&app(namespace, target, image, json!({"domains": domains}))).unwrap();
    app["metadata"]["name"] = json!(name);
    app.to_string()
}

/// What was written to the name's record since then, by kind of write; a patch with what it says.
fn writes(rig: &Rig, seq: u64) -> Vec<(&'static str, String, String)> {
    let entries = rig.world.sim.gate.journal.since(seq);
    let batches = entries.into_iter().filter(|entry| entry.cloud == "cloudflare" && entry.method != "GET");
    let text = |op: &Value, field: &str| op[field].as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for body in batches.map(|entry| entry.body.unwrap_or_else(|| panic!("{} {}", entry.method, entry.path))) {
        for kind in ["deletes", "patches", "puts", "posts"] {
            let ops = body[kind].as_array().into_iter().flatten();
            all.extend(ops.map(|op| (kind, text(op, "content"), text(op, "comment"))));
        }
    }
    all
}

impl Rig {
    async fn ready(&self, namespace: &str, name: &str) {
        for kind in ["Ready", "Available"] {
            self.world.cluster.wait_condition(APP, Some(namespace), name, kind, "True", BOOT).await;
        }
    }

    async fn address(&self, namespace: &str, node: &str) -> String {
        let node = self.world.node(namespace, node).await;
        field(&node, "/status/addresses/public4").as_str().unwrap().to_owned()
    }

    /// Waits until an app says that it gave the name to another.
    async fn handed(&self, namespace: &str, name: &str, to: &str) {
        eventually(SOON, &format!("{name} to say that it gave the name to {to}"), async || {
            let app = self.world.cluster.get(APP, Some(namespace), name).await.unwrap();
            let ready = condition(&app, "Ready").cloned().unwrap_or_default();
            let said = ready["message"].as_str().unwrap_or_default();
            let met = ready["reason"] == "HandedOver" && said.contains(&format!("AppDeployment {to}"));
            if met { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    }

    async fn holder(&self) -> Value {
        let claim = self.world.cluster.get(CLAIM, None, NAME).await.unwrap();
        assert_eq!(field(&claim, "/spec/holders/dns"), field(&claim, "/spec/holders/http"));
        field(&claim, "/spec/holders/http/name").clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_name_goes_to_an_app_on_another_node_and_on_to_one_beside_it_and_no_visitor_is_failed() {
    let rig = Rig::with(|options| OperatorOptions { ttl_wait_cap: TTL, ..options }).await;
    let cluster = &rig.world.cluster;
    let shop = cluster.namespace("shop").await;
    for node in ["web-1", "web-2"] {
        rig.apply_node(&shop, node, json!({})).await;
    }
    let images = [rig.web("v1").await, rig.web("v2").await, rig.web("v3").await];
    cluster.apply(&named("shop", &shop, "web-1", &images[0], &json!([{"name": NAME}]))).await;
    rig.ready(&shop, "shop").await;
    rig.bootstrapped(&shop, "web-2").await;
    let (first, second) = (rig.address(&shop, "web-1").await, rig.address(&shop, "web-2").await);
    let visitor = rig.visitor();
    visitor.sees(SITE, 200, "v1").await;

    // To another Node, while who had it still lists it.
    let before = rig.world.record(NAME).unwrap();
    assert_eq!(before.content, first);
    let seq = rig.world.sim.gate.journal.last();
    let watch = visitor.watch(SITE);
    let taking = json!([{"name": NAME, "takeFrom": {"name": "shop"}}]);
    cluster.apply(&named("next", &shop, "web-2", &images[1], &taking)).await;
    rig.ready(&shop, "next").await;
    visitor.sees(SITE, 200, "v2").await;
    // By the address that caches hold it is served on.
    assert_eq!(visitor.get_at(&first, NAME, "/").await.unwrap().body.trim(), "v1");
    assert_eq!(watch.unbroken("handed over to another Node").await, ["v1", "v2"]);
    let watch = visitor.watch(SITE);
    rig.handed(&shop, "shop", "next").await;
    eventually(SOON, "the end of the route on the Node that had it", async || {
        let page = visitor.get_at(&first, NAME, "/").await;
        let over = page.as_ref().is_ok_and(|page| page.status == 404) || page.is_err();
        if over { Ok(()) } else { Err(format!("{page:?}")) }
    })
    .await;
    assert_eq!(watch.unbroken("given up where it was").await, ["v2"]);
    assert_eq!(rig.holder().await, "next");
    let after = rig.world.record(NAME).unwrap();
    assert_eq!((&after.id, &after.content), (&before.id, &second));
    let written = writes(&rig, seq);
    let patch = |content: &str, record: &str| [("patches", content.to_owned(), record.to_owned())];
    assert_eq!(written, patch(&second, after.comment.as_deref().unwrap_or_default()), "and nothing else of any name");
    assert_ne!(after.comment, before.comment);

    // To an app on the same Node, the name moving from one spec to the other.
    let seq = rig.world.sim.gate.journal.last();
    let watch = visitor.watch(SITE);
    cluster.apply(&named("next", &shop, "web-2", &images[1], &json!([]))).await;
    let taking = json!([{"name": NAME, "takeFrom": {"name": "next"}}]);
    cluster.apply(&named("last", &shop, "web-2", &images[2], &taking)).await;
    rig.ready(&shop, "last").await;
    visitor.sees(SITE, 200, "v3").await;
    rig.ready(&shop, "next").await;
    visitor.sees("https://web-2.example.com/", 200, "v2").await;
    eventually(SOON, "the name to leave the status of who had it", async || {
        let next = cluster.get(APP, Some(&shop), "next").await.unwrap();
        let domains = field(&next, "/status/domains").to_string();
        if domains.contains(NAME) { Err(domains) } else { Ok(()) }
    })
    .await;
    assert_eq!(watch.unbroken("handed over on one Node").await, ["v2", "v3"]);
    assert_eq!(rig.holder().await, "last");
    let last = rig.world.record(NAME).unwrap();
    assert_eq!((&last.id, &last.content), (&before.id, &second));
    assert_eq!(writes(&rig, seq), patch(&second, last.comment.as_deref().unwrap_or_default()));
}
