//! What goes wrong on real hosts: each is said with its cause, heals as its class says, and nobody sees it from outside.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{condition, eventually};

use crate::apps::APP;
use crate::registry::{Mood, Registry};
use crate::rig::{BOOT, Rig, SOON, Vm};
use crate::visitor::Visitor;
use crate::world::field;

const SITE: &str = "https://shop.example.com/";
const GREEDY: &str = "https://greedy.example.com/";
const SECRET: &str = "v1/Secret";
/// What a proxy in front of a registry says while that is out of order.
const BROKEN: Mood =
    Mood::Says(503, "text/html", "<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>");
/// What a registry says to who pulls too much.
const BUSY: Mood = Mood::Says(
    429,
    "application/json",
    r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#,
);

/// A host with an app, and a registry that fails on demand.
struct Shop<'a> {
    rig: &'a Rig,
    namespace: &'a str,
    registry: Registry,
    /// The app's image, which comes from there.
    image: String,
    visitor: Visitor,
}

/// An app of one service; what `spec` says goes into its spec.
fn app(namespace: &str, name: &str, page: &str, web: &Value, spec: Value) -> String {
    let mut whole = json!({
        "target": {"nodeRef": {"name": "web-1"}},
        "compose": {"inline": json!({"services": {"web": web}}).to_string()},
        "domains": [{"name": format!("{name}.example.com")}], "env": [{"name": "ANSWER", "value": page}],
        "healthPath": "/cgi-bin/health", "startPeriod": "1s", "healthTimeout": "20s",
        "strategy": {"drainTimeout": "1s"},
    });
    if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
        whole.extend(spec);
    }
    json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment", "spec": whole,
        "metadata": {"name": name, "namespace": namespace}})
    .to_string()
}

impl Shop<'_> {
    /// Wants the revision with this page, of this image.
    async fn want(&self, page: &str, image: &str, spec: Value) {
        let web = json!({"image": image, "expose": ["8080"]});
        self.rig.world.cluster.apply(&app(self.namespace, "shop", page, &web, spec)).await;
    }

    async fn get(&self, name: &str) -> DynamicObject {
        self.rig.world.cluster.get(APP, Some(self.namespace), name).await.unwrap()
    }

    /// Waits until a condition has this status and reason for the present spec; gives its message.
    async fn says(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        eventually(BOOT, &format!("{kind}={status} ({reason}) of {name}"), async || {
            let app = self.get(name).await;
            let said = condition(&app, kind).cloned().unwrap_or_default();
            let current = said["observedGeneration"].as_i64() == app.metadata.generation;
            let met = current && said["status"] == status && said["reason"] == reason;
            if met { Ok(said["message"].as_str().unwrap().to_owned()) } else { Err(app.data["status"].to_string()) }
        })
        .await
    }

    /// Waits until the revision with this page serves and all is well.
    async fn serves(&self, page: &str) {
        // First this: who asks for a name that is not there yet is told so for a long time.
        self.says("shop", "Ready", "True", "Deployed").await;
        self.visitor.sees(SITE, 200, page).await;
    }

    /// The failure is one that no time heals: nothing is tried until something changes.
    async fn is_stalled(&self, reason: &str) -> String {
        let message = self.says("shop", "Ready", "False", reason).await;
        self.says("shop", "Stalled", "True", reason).await;
        assert!(message.contains("the revision before serves on"), "{message}");
        message
    }

    async fn host(&self) -> Vm<'_> {
        self.rig.vm(self.namespace, "web-1").await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn what_fails_on_a_host_is_said_and_heals_as_it_can_while_the_old_revision_serves() {
    let rig = Rig::start().await;
    let namespace = &rig.world.cluster.namespace("shop").await;
    rig.apply_node(namespace, "web-1", json!({})).await;
    let registry = Registry::start(&rig).await;
    let image = format!("{}/roadstead/site:rig", registry.host);
    let shop = &Shop { rig: &rig, namespace, image, registry, visitor: rig.visitor() };
    let greedy = json!({"image": Rig::site(), "expose": ["8080"], "mem_limit": "32m", "restart": "no"});
    rig.world.cluster.apply(&app(namespace, "greedy", "greedy", &greedy, json!({}))).await;
    shop.want("v1", &shop.image, json!({})).await;
    shop.serves("v1").await;
    shop.says("greedy", "Ready", "True", "Deployed").await;
    shop.visitor.sees(GREEDY, 200, "greedy").await;

    let watch = shop.visitor.watch(SITE);
    let of_shop = async {
        a_registry_that_is_busy_or_out_of_order_is_asked_again(shop).await;
        a_private_registry_is_let_in_by_the_secret_alone(shop).await;
        an_image_that_nobody_has_is_named(shop).await;
        a_full_disk_is_named(shop).await;
        apps_on_edge_find_each_other(shop).await;
    };
    tokio::join!(of_shop, memory_that_is_used_up_is_the_reason(shop));
    let pages = watch.unbroken("whatever failed").await;
    assert_eq!(pages, ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"]);
}

/// Time heals it: tries go on by themselves, and the first that succeeds is the end of it.
async fn a_registry_that_is_busy_or_out_of_order_is_asked_again(shop: &Shop<'_>) {
    for (page, mood, reason, said) in
        [("v2", BROKEN, "RegistryUnavailable", "503"), ("v3", BUSY, "RegistryBusy", "pull rate limit")]
    {
        shop.registry.set(mood);
        shop.want(page, &shop.image, json!({})).await;
        let message = shop.says("shop", "Ready", "False", reason).await;
        assert!(message.contains(said) && message.contains("web-1"), "{message}");
        shop.says("shop", "Reconciling", "True", reason).await;
        let before = shop.registry.refused();
        eventually(SOON, "another try", async || shop.registry.refused() > before).await;
        let app = shop.get("shop").await;
        assert!(condition(&app, "Stalled").is_none(), "{}", app.data["status"]);
        shop.registry.set(Mood::Well);
        shop.serves(page).await;
    }
}

/// No time heals it, but the right Secret does, also where the app itself does not change.
async fn a_private_registry_is_let_in_by_the_secret_alone(shop: &Shop<'_>) {
    let cluster = &shop.rig.world.cluster;
    let host = shop.host().await;
    shop.registry.set(Mood::Asks("ci", "the-right-one"));
    shop.want("v4", &shop.image, json!({})).await;
    let message = shop.is_stalled("PullDenied").await;
    assert!(message.contains(&shop.registry.host), "which registry: {message}");

    let credentials = |password: &str| {
        let auths = json!({"auths": {&shop.registry.host: {"username": "ci", "password": password}}});
        json!({"stringData": {".dockerconfigjson": auths.to_string()}})
    };
    let mut secret = credentials("no-such-password");
    let more = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "registry", "namespace": shop.namespace}});
    secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cluster.apply(&secret.to_string()).await;
    let refused = shop.registry.refused();
    shop.want("v4", &shop.image, json!({"imagePullSecrets": [{"name": "registry"}]})).await;
    let message = shop.is_stalled("PullDenied").await;
    assert!(message.contains(&shop.registry.host) && message.contains("401"), "{message}");
    assert!(shop.registry.refused() > refused, "it was tried with them");
    let status = shop.get("shop").await.data["status"].to_string();
    assert!(!status.contains("no-such-password"), "{status}");

    cluster.patch(SECRET, Some(shop.namespace), "registry", &credentials("the-right-one")).await;
    shop.serves("v4").await;
    assert_eq!(host.run("ls -d /opt/roadstead/apps/*/credentials 2>/dev/null | wc -l").await.unwrap(), "0");
    let found = "grep -rlF the-right-one /opt/roadstead /root /home 2>/dev/null | wc -l";
    assert_eq!(host.run(found).await.unwrap(), "0");
    shop.registry.set(Mood::Well);
}

async fn an_image_that_nobody_has_is_named(shop: &Shop<'_>) {
    let missing = format!("{}/roadstead/site:never-pushed", shop.registry.host);
    shop.want("never", &missing, json!({})).await;
    let message = shop.is_stalled("ImageNotFound").await;
    assert!(message.contains("site:never-pushed") || message.contains(&missing), "{message}");
    shop.want("v5", &shop.image, json!({})).await;
    shop.serves("v5").await;
}

/// A disk that is full while images come is a person's to empty, and then to say so. One that is full before anything
/// began is looked at again.
async fn a_full_disk_is_named(shop: &Shop<'_>) {
    let host = shop.host().await;
    let large = shop.rig.web("v6").await;
    // Where the engine puts what it downloads.
    host.run("mount -t tmpfs -o size=64k tmpfs /var/lib/docker/tmp").await.unwrap();
    shop.want("unseen", &large, json!({"healthPath": "/"})).await;
    let message = shop.is_stalled("DiskFull").await;
    assert!(message.contains("no space left on device") && message.contains("web-1"), "{message}");
    host.run("umount -l /var/lib/docker/tmp").await.unwrap();
    let restart = json!({"metadata": {"annotations": {"roadstead.dev/restart": "there is room again"}}});
    shop.rig.world.cluster.patch(APP, Some(shop.namespace), "shop", &restart).await;
    shop.serves("v6").await;

    // Where the operator puts the files of revisions.
    let fill =
        "cd /opt/roadstead/apps/shop-*/revisions && cp -a . /run/revisions && mount -t tmpfs -o size=1m tmpfs $PWD &&
        cd $PWD && cp -a /run/revisions/. . && (cat /dev/zero >filler || true) 2>/dev/null";
    host.run(fill).await.unwrap();
    shop.want("v7", &shop.image, json!({})).await;
    let message = shop.says("shop", "Ready", "False", "DiskFull").await;
    assert!(message.to_lowercase().contains("no space left on device"), "{message}");
    host.run("rm /opt/roadstead/apps/shop-*/revisions/filler").await.unwrap();
    shop.serves("v7").await;
}

/// `network: Edge`: Caddy reaches the app there, and so does every other app that is there, by the names of services.
async fn apps_on_edge_find_each_other(shop: &Shop<'_>) {
    let cluster = &shop.rig.world.cluster;
    let store = json!({"services": {
        "store": {"image": Rig::site(), "expose": ["8080"], "environment": {"ANSWER": "from the store"}},
    }});
    let spec = json!({"network": "Edge", "entry": {"service": "store"}, "compose": {"inline": store.to_string()}});
    cluster.apply(&app(shop.namespace, "depot", "from the store", &json!({}), spec)).await;
    shop.says("depot", "Ready", "True", "Deployed").await;
    shop.visitor.sees("https://depot.example.com/", 200, "from the store").await;
    let peer = "https://shop.example.com/cgi-bin/peer?store";
    shop.visitor.sees(peer, 200, "nobody has the name store").await;
    shop.want("v8", &shop.image, json!({"network": "Edge"})).await;
    shop.serves("v8").await;
    shop.visitor.sees(peer, 200, "from the store").await;
    let host = shop.host().await;
    let networks = "docker inspect $(docker ps -qf name=^shop-.*-web-) --format '{{json .NetworkSettings.Networks}}'";
    let networks: Value = serde_json::from_str(&host.run(networks).await.unwrap()).unwrap();
    let networks: Vec<_> = networks.as_object().unwrap().keys().cloned().collect();
    assert_eq!((networks.len(), networks.iter().any(|name| name == "edge")), (2, true), "{networks:?}");
    // The network that was its own is gone, and the other apps' are not.
    let left = "docker network ls --quiet --filter name=^rs-- | wc -l";
    assert_eq!(host.run(left).await.unwrap(), "1", "that of greedy");
}

/// The kernel ends an app that has no memory left: `Available` says so, for as long as it is so.
async fn memory_that_is_used_up_is_the_reason(shop: &Shop<'_>) {
    let host = shop.host().await;
    let entry = r"docker ps --all --quiet --filter name=^greedy-.*-web-";
    let state = format!("docker inspect $({entry}) --format '{{{{.State.Status}}}} {{{{.State.OOMKilled}}}}'");
    shop.says("greedy", "Available", "True", "Serving").await;
    // Once it is started again by the operator, for its file has Docker leave it alone; not the second time.
    for _ in 0..2 {
        let hungry = format!("docker kill --signal USR1 $({entry})");
        eventually(SOON, "it to run", async || match host.run(&state).await? {
            running if running.starts_with("running ") => Ok(()),
            other => Err(other),
        })
        .await;
        eventually(SOON, "the kernel to end it", async || match host.run(&state).await? {
            ended if ended == "exited true" => Ok(()),
            // One that has just begun does not hear it yet.
            other => Err(format!("{other}, {:?}", host.run(&hungry).await)),
        })
        .await;
    }
    let message = shop.says("greedy", "Available", "False", "OOMKilled").await;
    assert!(message.contains("greedy.example.com at Node web-1") && message.contains("service `web`"), "{message}");
    let said = async |reason: &str| shop.rig.said(APP, shop.namespace, "greedy", reason).await.0;
    host.run(&format!("docker start $({entry})")).await.unwrap();
    shop.says("greedy", "Available", "True", "Serving").await;
    assert_eq!(said("OOMKilled").await, 1, "as often as it happened");
    let app = shop.get("greedy").await;
    assert_eq!(field(&app, "/status/phase"), "Active", "{}", app.data["status"]);
}
