//! Apps from a manifest to a site, with the site watched from outside whatever is done to it.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{condition, eventually};

use crate::rig::{BOOT, Rig, SOON};
use crate::world::{CLAIM, field};

pub const APP: &str = "roadstead.dev/v1alpha1/AppDeployment";
const SITE: &str = "https://shop.example.com/";

/// A site, and a store beside it whose volume is to outlive everything.
fn compose(image: &str) -> String {
    json!({
        "services": {
            "web": {"image": image, "expose": ["8080"]},
            "store": {"image": image, "entrypoint": ["/bin/busybox", "sleep", "1000000"], "volumes": ["data:/data"]},
        },
        "volumes": {"data": {}},
    })
    .to_string()
}

#[allow(clippy::needless_pass_by_value, reason = "callers write it where they hand it over")]
pub fn app(namespace: &str, target: Value, image: &str, spec: Value) -> String {
    let mut whole = json!({
        "target": target, "compose": {"inline": compose("unknown")},
        "images": [{"service": "web", "image": image}, {"service": "store", "image": image}],
        "domains": [{"name": "shop.example.com"}],
        "startPeriod": "1s", "healthTimeout": "20s", "strategy": {"drainTimeout": "2s"},
    });
    if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
        whole.extend(spec);
    }
    json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment", "spec": whole,
        "metadata": {"name": "shop", "namespace": namespace}})
    .to_string()
}

fn on(node: &str) -> Value {
    json!({"nodeRef": {"name": node}})
}

impl Rig {
    pub async fn app(&self, namespace: &str) -> DynamicObject {
        self.world.cluster.get(APP, Some(namespace), "shop").await.unwrap()
    }

    /// Waits until the app is as its spec says.
    pub async fn live(&self, namespace: &str) -> DynamicObject {
        for kind in ["Ready", "Available"] {
            self.world.cluster.wait_condition(APP, Some(namespace), "shop", kind, "True", BOOT).await;
        }
        self.app(namespace).await
    }

    /// Waits until the app is known to have failed for its present generation; gives the reason and the message.
    pub async fn failed(&self, namespace: &str) -> (String, String) {
        self.world.cluster.wait_condition(APP, Some(namespace), "shop", "Stalled", "True", BOOT).await;
        let app = self.world.cluster.wait_condition(APP, Some(namespace), "shop", "Ready", "False", BOOT).await;
        let ready = condition(&app, "Ready").unwrap().clone();
        (ready["reason"].as_str().unwrap().to_owned(), ready["message"].as_str().unwrap().to_owned())
    }

    pub async fn annotate_app(&self, namespace: &str, key: &str, value: &str) {
        self.world.annotate(APP, Some(namespace), "shop", key, value).await;
    }
}

fn revision(app: &DynamicObject, which: &str) -> String {
    field(app, &format!("/status/{which}Revision/name")).as_str().unwrap_or_default().to_owned()
}

fn status<'a>(app: &'a DynamicObject, condition_: &str) -> &'a str {
    condition(app, condition_).and_then(|c| c["status"].as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn an_app_goes_live_is_replaced_refuses_a_broken_one_goes_back_and_leaves_only_its_volumes() {
    let rig = Rig::start().await;
    let cluster = &rig.world.cluster;
    let shop = cluster.namespace("shop").await;
    rig.apply_node(&shop, "web-1", json!({})).await;
    let (one, two) = (rig.web("v1").await, rig.web("v2").await);
    let broken = rig.broken("v3", "no database at db:5432").await;
    // In the order in which a person may well apply them: the app waits for its Node.
    cluster.apply(&app(&shop, on("web-1"), &one, json!({}))).await;
    let first = rig.live(&shop).await;
    let visitor = rig.visitor();
    visitor.sees(SITE, 200, "v1").await;
    let plain = visitor.get("http://shop.example.com/shelf?page=2").await.unwrap();
    let location = plain.headers["location"].to_str().unwrap();
    assert_eq!((plain.status, location), (308, "https://shop.example.com/shelf?page=2"));
    assert_eq!(field(&first, "/status/entryService"), "web");
    assert_eq!(
        (field(&first, "/status/entryPort"), field(&first, "/status/domain")),
        (&json!(8080), &json!("shop.example.com"))
    );
    assert_eq!((field(&first, "/status/phase"), field(&first, "/status/status")), (&json!("Active"), &json!("active")));
    assert!(
        field(&first, "/status/composeHash").as_str().unwrap().starts_with("sha256:"),
        "{:?}",
        first.data["status"]
    );
    assert!(field(&first, "/status/updatedAt").is_string());
    let address = rig.world.node(&shop, "web-1").await.data["status"]["addresses"]["public4"].clone();
    assert_eq!(rig.world.record("shop.example.com").unwrap().content, address.as_str().unwrap());
    let vm = rig.vm(&shop, "web-1").await;
    vm.run("docker exec $(docker ps -qf label=com.docker.compose.service=store) /bin/busybox touch /data/kept")
        .await
        .unwrap();

    let watch = visitor.watch(SITE);
    cluster.apply(&app(&shop, on("web-1"), &two, json!({}))).await;
    visitor.sees(SITE, 200, "v2").await;
    let second = rig.live(&shop).await;
    assert_eq!(watch.unbroken("the second revision").await, ["v1", "v2"]);
    assert_eq!(revision(&second, "previous"), revision(&first, "current"));
    assert_ne!(revision(&second, "current"), revision(&first, "current"));

    let watch = visitor.watch(SITE);
    cluster.apply(&app(&shop, on("web-1"), &broken, json!({}))).await;
    let (reason, message) = rig.failed(&shop).await;
    assert_eq!(reason, "CrashLooping");
    assert!(message.contains("no database at db:5432"), "the app's last lines: {message}");
    let third = rig.app(&shop).await;
    assert_eq!(status(&third, "Available"), "True", "{:?}", third.data["status"]);
    assert_eq!(watch.unbroken("a broken revision").await, ["v2"]);

    let watch = visitor.watch(SITE);
    rig.annotate_app(&shop, "rollback", &revision(&first, "current")).await;
    visitor.sees(SITE, 200, "v1").await;
    eventually(SOON, "the first revision as the current one", async || {
        let app = rig.app(&shop).await;
        let back = revision(&app, "current") == revision(&first, "current") && status(&app, "Available") == "True";
        if back { Ok(()) } else { Err(app.data["status"].to_string()) }
    })
    .await;
    let back = rig.live(&shop).await;
    assert_eq!(condition(&back, "Ready").unwrap()["reason"], "RolledBack");
    assert_eq!(watch.unbroken("going back").await, ["v2", "v1"]);

    let web = "docker ps --filter label=com.docker.compose.service=web --format {{.Image}}";
    assert_eq!(vm.run(web).await.unwrap().lines().count(), 1, "the revisions that are over have no container");
    cluster.delete_object(APP, Some(&shop), "shop").await;
    cluster.wait_gone(APP, Some(&shop), "shop", SOON).await;
    assert_eq!(rig.world.record("shop.example.com"), None);
    let ours = ["roadstead-caddy-caddy-1", "roadstead-caddy-router-1-1", "roadstead-caddy-router-2-1"];
    assert_eq!(vm.containers().await, ours);
    let networks = vm.run("docker network ls --format '{{.Name}}' | sort | xargs").await.unwrap();
    assert_eq!(networks, "bridge edge host none");
    let volumes = vm.run("for v in $(docker volume ls -q); do ls $(docker volume inspect -f {{.Mountpoint}} $v); done");
    assert!(volumes.await.unwrap().lines().any(|file| file == "kept"), "the volume is there as it was");
    assert!(visitor.get_at(address.as_str().unwrap(), "web-1.example.com", "/").await.is_ok());
    let claim = cluster.get(CLAIM, None, "shop.example.com").await;
    assert!(claim.is_none_or(|claim| field(&claim, "/status/state") == "Tombstone"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn an_operator_that_is_killed_in_the_middle_of_a_deploy_ends_it_while_the_site_answers() {
    let mut rig = Rig::start().await;
    let shop = rig.world.cluster.namespace("shop").await;
    rig.apply_node(&shop, "web-1", json!({})).await;
    let first = rig.web("v1").await;
    rig.world.cluster.apply(&app(&shop, on("web-1"), &first, json!({}))).await;
    rig.live(&shop).await;
    let visitor = rig.visitor();
    visitor.sees(SITE, 200, "v1").await;
    let vm = rig.vm(&shop, "web-1").await.id;
    let containers = "docker ps --all --quiet --filter label=com.docker.compose.service=web | wc -l";
    let images = "docker images --quiet --filter reference='*/*/web' | sort -u | wc -l";
    let (mut before, mut known) = ("v1".to_owned(), 1);
    // What is there on the host when the operator dies.
    for (number, (what, there)) in [
        ("pulled", format!("test $({images}) -gt KNOWN")),
        ("made", format!("test $({containers}) -gt 1")),
        ("started", "test $(docker ps --quiet --filter label=com.docker.compose.service=web | wc -l) -gt 1".to_owned()),
        ("swapped", "! cmp -s /opt/roadstead/router/table.json /run/table-before".to_owned()),
        (
            "begun to go",
            format!("! cmp -s /opt/roadstead/router/table.json /run/table-before && test $({containers}) -eq 1"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let version = format!("v{}", number + 2);
        let image = rig.web(&version).await;
        let there = there.replace("KNOWN", &known.to_string());
        rig.vm_by_id(&vm).await.run("cp /opt/roadstead/router/table.json /run/table-before").await.unwrap();
        let watch = visitor.watch(SITE);
        rig.world.cluster.apply(&app(&shop, on("web-1"), &image, json!({}))).await;
        eventually(SOON, what, async || rig.vm_by_id(&vm).await.run(&there).await).await;
        rig.world.operator.kill9().await;
        rig.world.operator.restart().await;
        rig.live(&shop).await;
        visitor.sees(SITE, 200, &version).await;
        let pages = watch.unbroken(&format!("killed once the new revision was {what}")).await;
        assert_eq!(pages, [before.as_str(), version.as_str()]);
        let host = rig.vm_by_id(&vm).await;
        assert_eq!(host.run(containers).await.unwrap(), "1", "{what}: one container, and it is the new one's");
        known = host.run(images).await.unwrap().parse().unwrap();
        before = version;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn two_nodes_are_rolled_one_at_a_time_and_the_second_s_failure_leaves_it_at_what_it_has() {
    let rig = Rig::start().await;
    let cluster = &rig.world.cluster;
    let shop = cluster.namespace("shop").await;
    let (one, two) = (rig.web("v1").await, rig.web("v2").await);
    for node in ["web-1", "web-2"] {
        rig.apply_node(&shop, node, json!({})).await;
    }
    let target = json!({"nodeSelector": {"matchLabels": {"tier": "web"}}});
    cluster.apply(&app(&shop, target.clone(), &one, json!({}))).await;
    rig.live(&shop).await;
    let visitor = rig.visitor();
    let mut addresses = Vec::new();
    for node in ["web-1", "web-2"] {
        let node = rig.world.node(&shop, node).await;
        addresses.push(field(&node, "/status/addresses/public4").as_str().unwrap().to_owned());
    }
    let serves = async |version: [&str; 2]| {
        for (address, version) in addresses.iter().zip(version) {
            // A certificate authority asks one of the two, and not always the one that asked it.
            let ask = async || visitor.get_at(address, "shop.example.com", "/").await;
            let page = eventually(SOON, &format!("{address} to serve the name"), ask).await;
            assert_eq!((page.status, page.body.trim()), (200, version), "{address}");
        }
    };
    serves(["v1", "v1"]).await;
    // The second has no room for what the next revision brings along.
    rig.vm(&shop, "web-2").await.run("setsid -f busybox httpd -p 9000 -h /srv").await.unwrap();
    let with_port = json!({"compose": {"inline": json!({"services": {
        "web": {"image": two, "expose": ["8080"]},
        "metrics": {"image": two, "ports": ["9000:8080"]},
    }}).to_string()}, "images": []});
    let watch = visitor.watch("https://shop.example.com/");
    cluster.apply(&app(&shop, target.clone(), &two, with_port)).await;
    let (reason, message) = rig.failed(&shop).await;
    assert!(message.contains("web-2") && message.contains("9000"), "{reason}: {message}");
    serves(["v2", "v1"]).await;
    let failed = rig.app(&shop).await;
    assert_eq!(status(&failed, "Available"), "True");
    let nodes = field(&failed, "/status/nodes").as_array().unwrap().clone();
    let phases: Vec<_> =
        nodes.iter().map(|node| (node["name"].as_str().unwrap(), node["phase"].as_str().unwrap())).collect();
    assert_eq!(phases, [("web-1", "Active"), ("web-2", "Failed")]);

    // Put right by a spec that fits both.
    cluster.apply(&app(&shop, target, &two, json!({"env": [{"name": "FITS", "value": "both"}]}))).await;
    rig.live(&shop).await;
    serves(["v2", "v2"]).await;
    watch.unbroken("rolled over two nodes").await;
}
