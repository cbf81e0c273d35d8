//! Container VMs that become hosts, and an app that is replaced on one: by the whole operator, with real OpenSSH, Docker
//! and Caddy, and certificates of a real ACME server. The rig is started by `tests/vm/with.sh`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::StatusCode;
use roadstead::host::table::IDENTITY_PATH;
use serde_json::json;
use support::{OperatorOptions, eventually};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::rig::{BOOT, Rig, SOON, Vm};
use super::table::{row, title};

const APP: &str = "roadstead.dev/v1alpha1/AppDeployment";
const SITE: &str = "https://shop.example.com/";
/// How many VMs are bootstrapped, one after the other.
const BOOTS: usize = 3;
/// How many revisions are deployed, after the first.
const DEPLOYS: usize = 7;
/// Between two looks from outside.
const GLANCE: Duration = Duration::from_millis(10);

pub async fn measure() {
    println!("Container VMs on this machine, whose cores they share; p50 of {BOOTS} bootstraps and {DEPLOYS} deploys.");
    // As shipped, so that nothing but the work itself reaches a host.
    let rig = Rig::with(|options| OperatorOptions { resync: Duration::from_mins(5), ..options }).await;
    let shop = rig.world.cluster.namespace("shop").await;
    bootstraps(&rig, &shop).await;
    deploys(&rig, &shop).await;
}

/// The middle of some times, in seconds.
fn middle(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    format!("{:.2} s", sorted[sorted.len() / 2].as_secs_f64())
}

fn most(times: &[Duration]) -> String {
    format!("{:.2} s", times.iter().max().unwrap().as_secs_f64())
}

async fn bootstraps(rig: &Rig, namespace: &str) {
    let (mut serving, mut certified, mut pulled, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 1..=BOOTS {
        let name = format!("fresh-{n}");
        rig.apply_node(namespace, &name, json!({})).await;
        let address = address(rig, &name).await;
        let reachable = reachable(address).await;
        serving.push(identified(address, &name).await - reachable);
        rig.bootstrapped(namespace, &name).await;
        certified.push(reachable.elapsed());
        let pull = pull(&rig.vm(namespace, &name).await).await;
        own.push(serving[n - 1].saturating_sub(pull));
        pulled.push(pull);
    }
    title("bootstrap of a VM that has Docker");
    row("SSH answers to Caddy serves", middle(&serving), "");
    row("  at most", most(&serving), "");
    row("both images pulled by hand, on the same VM", middle(&pulled), "");
    row("SSH answers to Caddy serves, less that", middle(&own), "");
    row("SSH answers to Node Ready, with its certificate", middle(&certified), "");
}

/// The address of a Node's VM, as soon as it has one.
async fn address(rig: &Rig, node: &str) -> IpAddr {
    let prefix = format!("{node}-");
    eventually(BOOT, "an address", async || {
        let droplets = rig.world.droplets();
        let droplet = droplets.iter().find(|droplet| droplet.name.starts_with(&prefix)).ok_or("no droplet")?;
        droplet.public4.map(IpAddr::V4).ok_or("no address")
    })
    .await
}

/// Asks until there is an answer, and gives the time of it.
async fn once<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> (Instant, T) {
    let end = Instant::now() + BOOT;
    loop {
        if let Some(answer) = ask().await {
            return (Instant::now(), answer);
        }
        assert!(Instant::now() < end, "{what}: not within {} s", BOOT.as_secs());
        sleep(GLANCE).await;
    }
}

/// When its sshd was first there for us.
async fn reachable(address: IpAddr) -> Instant {
    let connect = async || timeout(Duration::from_millis(200), TcpStream::connect((address, 22))).await.ok()?.ok();
    once("SSH", connect).await.0
}

/// When its Caddy first answered whose host it is.
async fn identified(address: IpAddr, name: &str) -> Instant {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build().unwrap();
    let (url, name) = (format!("http://{address}{IDENTITY_PATH}"), format!("{name}.example.com"));
    let ask = async || {
        let answer = client.get(&url).header("host", &name).send().await.ok()?;
        (answer.status() == StatusCode::OK).then_some(())
    };
    once("Caddy", ask).await.0
}

/// How long a VM takes to pull what bootstrapping pulls. It has nothing of it afterwards but that.
async fn pull(vm: &Vm<'_>) -> Duration {
    let (caddy, router) = (Rig::image("caddy"), Rig::image("router"));
    let script = format!(
        "exec 3>&1 >/dev/null; docker rm -f $(docker ps -aq); docker image prune -af; start=$(date +%s%N); \
         docker pull -q {caddy} && docker pull -q {router} && echo $(($(date +%s%N) - start)) >&3"
    );
    Duration::from_nanos(vm.run(&script).await.unwrap().parse().unwrap())
}

fn app(namespace: &str, image: &str, answer: &str) -> String {
    let compose = json!({"services": {"web": {"image": image, "expose": ["8080"]}}});
    let spec = json!({
        "target": {"nodeRef": {"name": "web-1"}}, "compose": {"inline": compose.to_string()},
        "env": [{"name": "ANSWER", "value": answer}], "domains": [{"name": "shop.example.com"}],
        // Only what follows the first response takes as long.
        "strategy": {"drainTimeout": "1s"},
    });
    json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment", "spec": spec,
        "metadata": {"name": "shop", "namespace": namespace}})
    .to_string()
}

async fn deploys(rig: &Rig, namespace: &str) {
    rig.apply_node(namespace, "web-1", json!({})).await;
    rig.bootstrapped(namespace, "web-1").await;
    let (vm, image, visitor) = (rig.vm(namespace, "web-1").await, Rig::image("site"), rig.visitor());
    rig.world.cluster.apply(&app(namespace, &image, "r0")).await;
    settled(rig, namespace, &vm).await;
    visitor.sees(SITE, 200, "r0").await;
    count_channels(&vm).await;

    let (mut first, mut made, mut docker, mut trips) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 1..=DEPLOYS {
        let (answer, before) = (format!("r{n}"), channels(&vm).await);
        let (began, clock) = (Instant::now(), Timestamp::now());
        rig.world.cluster.apply(&app(namespace, &image, &answer)).await;
        let seen = async || visitor.get(SITE).await.ok().filter(|page| page.body.trim() == answer);
        first.push(once(&answer, seen).await.0 - began);
        settled(rig, namespace, &vm).await;
        trips.push(channels(&vm).await - before);
        let [created, started] = container(&vm).await;
        made.push(created.duration_since(clock).unsigned_abs());
        docker.push(started.duration_since(created).unsigned_abs());
    }
    let mut starts = Vec::new();
    for _ in 0..DEPLOYS {
        starts.push(start(&vm, &image).await);
    }
    trips.sort_unstable();
    title("an app is replaced, its image at hand, seen from outside");
    row("apply to first response of the new revision", middle(&first), "");
    row("  at most", most(&first), "");
    row("  of it until its container is made", middle(&made), "");
    row("  and until Docker has started that", middle(&docker), "");
    row("the app's own start, on the same VM", middle(&starts), "");
    let own: Vec<_> = first.iter().map(|first| first.saturating_sub(sorted(&starts)[DEPLOYS / 2])).collect();
    row("apply to first response, less that", middle(&own), "");
    row("SSH round trips of a deploy, to its very end", trips[DEPLOYS / 2], "under 25");
    row("  at most", trips[DEPLOYS - 1], "under 25");
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

/// Waits until the app is as its spec says, and what was there before it is gone.
async fn settled(rig: &Rig, namespace: &str, vm: &Vm<'_>) {
    for kind in ["Ready", "Available"] {
        rig.world.cluster.wait_condition(APP, Some(namespace), "shop", kind, "True", BOOT).await;
    }
    eventually(SOON, "the end of the revision before", async || {
        let count = vm.run("docker ps --all --quiet --filter label=com.docker.compose.service=web | wc -l").await?;
        let status = rig.world.cluster.get(APP, Some(namespace), "shop").await.unwrap().data["status"].clone();
        let active = status["phase"] == "Active";
        if count == "1" && active { Ok(()) } else { Err(format!("{count} containers, {status}")) }
    })
    .await;
}

/// Has sshd write down each channel that is opened, on the connections that come from now on.
async fn count_channels(vm: &Vm<'_>) {
    // Those who hold one come again.
    let script = "echo 'LogLevel DEBUG1' >/etc/ssh/sshd_config.d/00-count.conf && systemctl reload ssh && \
                  pkill -f '^sshd: root' && journalctl --rotate";
    vm.run(script).await.unwrap();
}

/// How many commands, requests and other channels were opened through SSH so far.
async fn channels(vm: &Vm<'_>) -> usize {
    let script = "journalctl --sync; journalctl --output cat --grep 'server_input_channel_open: ctype' | wc -l";
    vm.run(script).await.unwrap().parse().unwrap()
}

/// When the app's container was made, and started.
async fn container(vm: &Vm<'_>) -> [Timestamp; 2] {
    let script = "docker inspect --format '{{.Created}} {{.State.StartedAt}}' \
                  $(docker ps --quiet --filter label=com.docker.compose.service=web)";
    let said = vm.run(script).await.unwrap();
    let times: Vec<Timestamp> = said.split_whitespace().map(|time| time.parse().unwrap()).collect();
    times.try_into().unwrap()
}

/// How long the app takes from the start of its container to its first answer, with nothing of ours around it.
async fn start(vm: &Vm<'_>, image: &str) -> Duration {
    let script = format!(
        "(until curl -fs -o /dev/null http://127.0.0.1:8080/; do sleep 0.002; done; date +%s%N >/run/answered) & \
         id=$(docker run --detach --network host --env ANSWER=x {image}); wait; \
         started=$(date --date \"$(docker inspect --format '{{{{.State.StartedAt}}}}' $id)\" +%s%N); \
         docker rm --force $id >/dev/null; echo $(($(cat /run/answered) - started))"
    );
    Duration::from_nanos(vm.run(&script).await.unwrap().parse().unwrap())
}
