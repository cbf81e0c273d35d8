//! Groups whose servers are the Nodes of an app: who is listed while revisions come and go, and a name that the group
//! publishes and the app answers.

use cloudsim::cloudflare::RecordInfo;
use serde_json::{Value, json};
use support::eventually;

use crate::apps::{APP, app};
use crate::rig::{BOOT, Rig, SOON};
use crate::world::{CLAIM, field};

const GROUP: &str = "roadstead.dev/v1alpha1/ServerGroup";
const BOTH: &str = "web-1.example.com,web-2.example.com";

/// The app as one service, and what else `spec` says.
fn web(namespace: &str, image: &str, spec: Value) -> String {
    let mut whole = json!({
        "compose": {"inline": json!({"services": {"web": {"image": image, "expose": ["8080"]}}}).to_string()},
        "images": [], "domains": [],
    });
    if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
        whole.extend(spec);
    }
    app(namespace, json!({"nodeSelector": {"matchLabels": {"tier": "web"}}}), image, whole)
}

impl Rig {
    fn list(&self) -> String {
        let content = |record: RecordInfo| record.content.trim_matches('"').to_owned();
        self.world.record("_wrap.web.example.com").map(content).unwrap_or_default()
    }

    async fn lists(&self, expected: &str) {
        eventually(SOON, &format!("the list {expected}"), async || {
            let said = self.list();
            if said == expected { Ok(()) } else { Err(said) }
        })
        .await;
    }

    /// Whether the list named both Nodes at every moment while something was done.
    async fn keeps_both<T>(&self, doing: impl Future<Output = T>) -> T {
        let mut doing = std::pin::pin!(doing);
        let mut look = tokio::time::interval(std::time::Duration::from_millis(100));
        loop {
            tokio::select! {
                done = &mut doing => return done,
                _ = look.tick() => assert_eq!(self.list(), BOTH),
            }
        }
    }

    async fn leads(&self, name: &str, address: &str) {
        eventually(SOON, &format!("{name} at {address}"), async || {
            let record = self.world.record(name).map(|record| record.content).unwrap_or_default();
            if record == address { Ok(()) } else { Err(record) }
        })
        .await;
    }

    async fn revisions(&self, namespace: &str) -> Vec<String> {
        let app = self.app(namespace).await;
        let nodes = field(&app, "/status/nodes").as_array().cloned().unwrap_or_default();
        nodes.iter().map(|node| node["revision"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_group_lists_the_nodes_of_an_app_through_a_roll_and_a_refusal_and_publishes_its_name() {
    let rig = Rig::start().await;
    let cluster = &rig.world.cluster;
    let shop = cluster.namespace("shop").await;
    let images = [rig.web("v1").await, rig.web("v2").await, rig.web("v3").await];
    let group = json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "ServerGroup",
        "metadata": {"name": "web", "namespace": shop},
        "spec": {"zoneRef": {"name": "example-com"}, "slug": "web", "appRef": {"name": "shop"},
            "dns": {"a": {"hostname": "shop"}}, "probe": {"interval": "1s", "timeout": "1s", "fall": 2, "rise": 1}}});
    // Before the app, as a person may well do it.
    cluster.apply(&group.to_string()).await;
    for node in ["web-1", "web-2"] {
        rig.apply_node(&shop, node, json!({})).await;
    }
    rig.lists("no-healthy-servers").await;
    cluster.apply(&web(&shop, &images[0], json!({}))).await;
    rig.live(&shop).await;
    rig.lists(BOTH).await;
    cluster.wait_condition(GROUP, Some(&shop), "web", "Ready", "True", SOON).await;

    let first = rig.revisions(&shop).await;
    assert!(first.len() == 2 && first[0] == first[1], "{first:?}");
    cluster.apply(&web(&shop, &images[1], json!({}))).await;
    rig.keeps_both(async {
        eventually(BOOT, "the second revision on the first Node", async || {
            let revisions = rig.revisions(&shop).await;
            if revisions[0] == first[0] { Err(revisions.join(",")) } else { Ok(()) }
        })
        .await;
        rig.live(&shop).await;
    })
    .await;
    let second = rig.revisions(&shop).await;
    assert!(second[0] == second[1] && second[0] != first[0], "{second:?}");

    // The second Node refuses the third revision: it serves the one before on, and stays in the list.
    rig.vm(&shop, "web-2").await.run("setsid -f busybox httpd -p 9000 -h /srv").await.unwrap();
    let services = json!({"web": {"image": images[2], "expose": ["8080"]},
        "metrics": {"image": images[2], "ports": ["9000:8080"]}});
    let with_port = json!({"compose": {"inline": json!({ "services": services }).to_string()}});
    cluster.apply(&web(&shop, &images[2], with_port)).await;
    let (_, message) = rig.keeps_both(rig.failed(&shop)).await;
    assert!(message.contains("web-2"), "{message}");
    let third = rig.revisions(&shop).await;
    assert!(third[0] != second[0] && third[1] == second[1], "{third:?}");
    let served = cluster.get(GROUP, Some(&shop), "web").await.unwrap();
    assert_eq!(field(&served, "/status/healthy"), "2/2");

    // From both to the second alone, by a name that the group publishes.
    let moved = json!({"target": {"nodeRef": {"name": "web-2"}},
        "domains": [{"name": "shop.example.com", "publish": "Group"}]});
    cluster.apply(&web(&shop, &images[2], moved)).await;
    rig.lists("web-2.example.com").await;
    let node = rig.world.node(&shop, "web-2").await;
    let address = field(&node, "/status/addresses/public4").as_str().unwrap().to_owned();
    rig.leads("shop.example.com", &address).await;
    rig.visitor().sees("https://shop.example.com/", 200, "v3").await;
    rig.live(&shop).await;
    let claim = cluster.get(CLAIM, None, "shop.example.com").await.unwrap();
    let holders = field(&claim, "/spec/holders");
    assert_eq!(
        (&holders["dns"]["kind"], &holders["http"]["kind"]),
        (&json!("ServerGroup"), &json!("AppDeployment")),
        "{holders}"
    );
    assert_eq!(field(&claim, "/spec/namespace"), &json!(shop));
    let group = cluster.get(GROUP, Some(&shop), "web").await.unwrap();
    let member = &group.data["status"]["members"][0];
    assert_eq!(member["asked"]["host"], "shop.example.com", "{member}");

    // And back to the first, which gets its certificate once the name leads there.
    let moved = json!({"target": {"nodeRef": {"name": "web-1"}},
        "domains": [{"name": "shop.example.com", "publish": "Group"}]});
    cluster.apply(&web(&shop, &images[2], moved)).await;
    rig.lists("web-1.example.com").await;
    let node = rig.world.node(&shop, "web-1").await;
    rig.leads("shop.example.com", field(&node, "/status/addresses/public4").as_str().unwrap()).await;
    rig.visitor().sees("https://shop.example.com/", 200, "v3").await;
    rig.live(&shop).await;
    let ours = ["roadstead-caddy-caddy-1", "roadstead-caddy-router-1-1", "roadstead-caddy-router-2-1"];
    assert_eq!(rig.vm(&shop, "web-2").await.containers().await, ours, "nothing of the app is left there");

    cluster.delete_object(APP, Some(&shop), "shop").await;
    rig.lists("no-healthy-servers").await;
    cluster.wait_gone(APP, Some(&shop), "shop", SOON).await;
    assert_eq!(rig.world.record("shop.example.com"), None);
    cluster.delete_object(GROUP, Some(&shop), "web").await;
    cluster.wait_gone(GROUP, Some(&shop), "web", SOON).await;
}
