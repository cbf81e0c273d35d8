//! From a manifest to a host that serves, whatever becomes of the host or of the operator.

use std::time::Duration;

use kube::api::DynamicObject;
use reqwest::Method;
use roadstead::host::table::IDENTITY_PATH;
use serde_json::{Value, json};
use support::{condition, eventually};

use crate::rig::{BOOT, Rig, SOON};
use crate::world::{NODE, PROVIDER, field};

const PLACEHOLDER: &str = "No application deployed yet";
/// Makes a host another one to whoever knows its key, and ends the connections that were let in with the old one.
const OTHER_KEY: &str =
    "rm /etc/ssh/ssh_host_* && ssh-keygen -A && systemctl restart ssh && pkill -f '^sshd: [^/]' || true";

/// Status, reason and message of a condition.
fn said(node: &DynamicObject, kind: &str) -> (String, String, String) {
    let found = condition(node, kind).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_node_becomes_a_host_that_serves_over_https_is_repaired_and_survives_a_reboot() {
    let rig = Rig::start().await;
    let shop = rig.world.cluster.namespace("shop").await;
    rig.apply_node(&shop, "web-1", json!({"healthPath": "/healthz"})).await;
    let node = rig.bootstrapped(&shop, "web-1").await;
    let key = field(&node, "/status/sshPublicKey").as_str().unwrap_or_default().to_owned();
    assert!(key.starts_with("ssh-ed25519 "), "{key}");
    let vm = rig.vm(&shop, "web-1").await;

    let visitor = rig.visitor();
    let identity = visitor.get(&format!("https://web-1.example.com{IDENTITY_PATH}")).await.unwrap();
    let nonce = identity.body.clone();
    assert!(identity.status == 200 && nonce.len() == 32, "{identity:?}");
    assert!(nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nonce}");
    for (path, status) in [("/healthz", 200), ("/", 503)] {
        let page = visitor.sees(&format!("https://web-1.example.com{path}"), status, PLACEHOLDER).await;
        assert_eq!(page.headers["x-roadstead-placeholder"], "true", "{path}");
    }
    let address = field(&node, "/status/addresses/public4").as_str().unwrap().to_owned();
    let other = visitor.get_at(&address, "other.example.com", "/").await.unwrap_err();
    assert!(other.contains("AlertReceived"), "a certificate for a name of nobody: {other}");

    // What somebody undoes is done again within the resync, and said.
    for (drift, part) in [
        ("docker stop roadstead-caddy-caddy-1", "start caddy"),
        ("echo '# mine' >>/opt/roadstead/caddy/compose.yaml", "/opt/roadstead/caddy/compose.yaml"),
        ("docker rm --force roadstead-caddy-caddy-1 && docker network rm edge", "the network edge"),
    ] {
        let before = rig.said(NODE, &shop, "web-1", "HostRepaired").await;
        vm.run(drift).await.unwrap();
        eventually(SOON, &format!("an event about {drift}"), async || {
            let (times, notes) = rig.said(NODE, &shop, "web-1", "HostRepaired").await;
            if times > before.0 && notes.contains(part) { Ok(()) } else { Err(format!("{times} times: {notes}")) }
        })
        .await;
        visitor.sees("https://web-1.example.com/healthz", 200, PLACEHOLDER).await;
        rig.bootstrapped(&shop, "web-1").await;
    }

    let certificate = "sha256sum $(find /opt/roadstead -name web-1.example.com.crt | head -1)";
    let certificate = vm.run(certificate).await.unwrap();
    vm.reboot().await;
    visitor.sees("https://web-1.example.com/healthz", 200, PLACEHOLDER).await;
    let again = visitor.sees(&format!("https://web-1.example.com{IDENTITY_PATH}"), 200, &nonce).await;
    assert_eq!(again.status, 200);
    rig.bootstrapped(&shop, "web-1").await;
    let (hash, path) = certificate.split_once(' ').unwrap();
    assert!(vm.run(&format!("sha256sum {path}")).await.unwrap().starts_with(hash), "it was not asked for once more");
    assert_eq!(rig.vms(), 1);

    rig.world.cluster.delete_object(NODE, Some(&shop), "web-1").await;
    rig.world.cluster.wait_gone(NODE, Some(&shop), "web-1", SOON).await;
    assert_eq!((rig.vms(), rig.world.records().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_port_that_somebody_holds_is_named_and_the_host_is_brought_up_once_it_is_free() {
    let rig = Rig::start().await;
    let shop = rig.world.cluster.namespace("shop").await;
    // It is there before anybody can log in.
    let squatter = "#cloud-boothook\n#!/bin/sh\nsetsid -f busybox httpd -p 80 -h /srv\n";
    rig.apply_node(&shop, "web-1", json!({"userData": squatter})).await;
    let message = rig.says(&shop, "web-1", "Bootstrapped", "False", "PortInUse").await;
    assert!(message.contains("port 80 is in use by the process busybox ("), "{message}");
    let node = rig.world.node(&shop, "web-1").await;
    assert_eq!(said(&node, "Ready").1, "PortInUse", "{:?}", node.data);
    let vm = rig.vm(&shop, "web-1").await;
    assert_eq!(vm.run("ls -d /opt/roadstead 2>/dev/null || echo untouched").await.unwrap(), "untouched");
    vm.run("kill $(pidof busybox)").await.unwrap();
    rig.bootstrapped(&shop, "web-1").await;
    rig.visitor().sees("https://web-1.example.com/", 200, PLACEHOLDER).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn an_operator_that_is_killed_while_it_brings_a_host_up_goes_on_with_the_same_host() {
    let mut rig = Rig::start().await;
    let shop = rig.world.cluster.namespace("shop").await;
    rig.apply_node(&shop, "web-1", json!({})).await;
    // Each a little further on than the one before it.
    let milestones = [
        ("the owner's file", "test -e /opt/roadstead/owner"),
        ("the files", "test -e /opt/roadstead/caddy/compose.yaml"),
        ("the images", "test -n \"$(docker images --quiet)\""),
        ("the first container", "test -n \"$(docker ps --all --quiet)\""),
        ("Caddy", "docker inspect roadstead-caddy-caddy-1"),
    ];
    eventually(BOOT, "a VM", async || rig.vms() == 1).await;
    for (what, milestone) in milestones {
        let id = rig.world.droplets()[0].id.to_string();
        eventually(BOOT, what, async || {
            let vm = rig.vm_by_id(&id).await;
            vm.run(milestone).await
        })
        .await;
        rig.world.operator.kill9().await;
        rig.world.operator.restart().await;
    }
    let node = rig.bootstrapped(&shop, "web-1").await;
    rig.visitor().sees("https://web-1.example.com/", 200, PLACEHOLDER).await;
    assert_eq!((rig.vms(), field(&node, "/status/incarnation")), (1, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_host_with_another_key_is_refused_also_by_an_operator_that_forgot_everything() {
    let mut rig = Rig::start().await;
    let shop = rig.world.cluster.namespace("shop").await;
    rig.apply_node(&shop, "web-1", json!({})).await;
    let node = rig.bootstrapped(&shop, "web-1").await;
    let vm = field(&node, "/status/vmID").clone();

    // A status that was wiped, and an operator that knows nothing: the pins and the key are found again.
    rig.world.operator.kill9().await;
    rig.world.cluster.patch_status(NODE, Some(&shop), "web-1", &json!({"status": null})).await;
    rig.world.operator.restart().await;
    let again = rig.bootstrapped(&shop, "web-1").await;
    assert_eq!((rig.vms(), field(&again, "/status/vmID")), (1, &vm));
    assert_eq!(field(&again, "/status/sshPublicKey"), field(&node, "/status/sshPublicKey"));

    let host = rig.vm(&shop, "web-1").await;
    host.run(OTHER_KEY).await.unwrap();
    let message = rig.says(&shop, "web-1", "Bootstrapped", "False", "HostKeyChanged").await;
    assert!(message.contains("SHA256:"), "both keys are named: {message}");
    rig.visitor().sees("https://web-1.example.com/", 200, PLACEHOLDER).await;
    let container = host.id.clone();
    rig.world.operator.kill9().await;
    rig.world.cluster.patch_status(NODE, Some(&shop), "web-1", &json!({"status": null})).await;
    rig.world.operator.restart().await;
    rig.says(&shop, "web-1", "Bootstrapped", "False", "HostKeyChanged").await;

    // It can go all the same.
    rig.world.cluster.delete_object(NODE, Some(&shop), "web-1").await;
    rig.world.cluster.wait_gone(NODE, Some(&shop), "web-1", SOON).await;
    let label = format!("label=roadstead.droplet={container}");
    assert_eq!(rig.engine(&["ps", "--all", "--quiet", "--filter", &label]).await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn an_existing_host_is_entered_once_its_key_is_vouched_for_and_ours_is_let_in() {
    let rig = Rig::start().await;
    let shop = rig.world.cluster.namespace("shop").await;
    let (id, address) = existing_host(&rig).await;
    let vm = rig.vm_by_id(&id).await;
    eventually(BOOT, "the end of cloud-init", async || vm.run("cloud-init status --wait").await).await;
    rig.apply_node(&shop, "rack-1", json!({"providerRef": {"name": "yard"}, "address": address})).await;
    let message = rig.says(&shop, "rack-1", "Bootstrapped", "False", "HostKeyUnknown").await;
    assert!(message.contains("trustOnFirstUse") && message.contains("hostKeys"), "{message}");

    let key = vm.run("cat /etc/ssh/ssh_host_ed25519_key.pub").await.unwrap();
    rig.world.cluster.patch(NODE, Some(&shop), "rack-1", &json!({"spec": {"ssh": {"hostKeys": [key]}}})).await;
    let message = rig.says(&shop, "rack-1", "Bootstrapped", "False", "SSHKeyRefused").await;
    let ours = rig.world.node(&shop, "rack-1").await;
    let ours = field(&ours, "/status/sshPublicKey").as_str().unwrap().to_owned();
    assert!(message.contains("authorized_keys") && message.contains(&ours), "{message}");
    vm.run(&format!("install -d -m 700 /root/.ssh && echo '{ours}' >>/root/.ssh/authorized_keys")).await.unwrap();
    rig.bootstrapped(&shop, "rack-1").await;
    rig.visitor().sees("https://rack-1.example.com/", 200, PLACEHOLDER).await;

    // It is no VM of ours: what is left is the host as it is.
    rig.world.cluster.delete_object(NODE, Some(&shop), "rack-1").await;
    rig.world.cluster.wait_gone(NODE, Some(&shop), "rack-1", SOON).await;
    assert_eq!(vm.run("true").await.unwrap(), "");
    assert_eq!(rig.world.cluster.list(PROVIDER, None).await.len(), 3);
}

/// A VM that nobody ordered through Kubernetes, and its address.
async fn existing_host(rig: &Rig) -> (String, String) {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let call = async |method: Method, path: &str, body: Value| -> Value {
        let url = format!("{}/v2/{path}", rig.world.sim.digitalocean_api());
        let request = http.request(method, url).bearer_auth("digitalocean-token").json(&body);
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    };
    let order = json!({"name": "rack", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
        "user_data": "#cloud-config\ndisable_root: false\n"});
    let made = call(Method::POST, "droplets", order).await;
    let id = made["droplet"]["id"].to_string();
    let address = eventually(BOOT, "a droplet with an address", async || {
        let found = call(Method::GET, &format!("droplets/{id}"), Value::Null).await;
        let networks = found["droplet"]["networks"]["v4"].as_array().cloned().unwrap_or_default();
        let public = networks.iter().find(|network| network["type"] == "public");
        let address = public.and_then(|network| network["ip_address"].as_str()).map(str::to_owned);
        address.filter(|_| found["droplet"]["status"] == "active").ok_or_else(|| found.to_string())
    })
    .await;
    (id, address)
}
