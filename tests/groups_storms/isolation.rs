//! The operator is cut off: every probe fails, and so does everything else it asks. That is no news about the servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloudsim::dns::Weather;
use support::{Operator, OperatorOptions, eventually};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ground::{GROUP, NOBODY, Origin, PROBE, apply, holds, lists, members, probing, record, sorted, statuses};
use crate::world::{DEADLINE, World, addresses};

/// The operator's way to the API server, which can be pulled out.
struct Cable {
    at: SocketAddr,
    plugged: watch::Sender<bool>,
    refused: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Cable {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (plugged, state) = watch::channel(true);
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = refused.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if !*state.borrow() {
                    counted.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let (server, mut state) = (server.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|plugged| !plugged) => {}
                    }
                });
            }
        });
        Self { at, plugged, refused, accepting }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.accepting.abort();
        self.plugged.send_replace(false);
    }
}

/// A world whose operator speaks to the API server through a cable.
async fn wired() -> (World, Cable) {
    let mut world = World::with(probing).await;
    world.operator.kill9().await;
    let server = world.control_plane.config().await.cluster_url.authority().unwrap().to_string();
    let cable = Cable::to(server.clone()).await;
    let kubeconfig = std::fs::read_to_string(world.control_plane.kubeconfig()).unwrap();
    assert!(kubeconfig.contains(&server), "{kubeconfig}");
    let file = world.control_plane.directory().join("cable.kubeconfig");
    std::fs::write(&file, kubeconfig.replace(&server, &cable.at.to_string())).unwrap();
    let mut options = probing(OperatorOptions::new(env!("CARGO_BIN_EXE_roadstead")));
    options.kubeconfig = Some(file);
    world.operator = Operator::start(&world.control_plane, &addresses(&world.sim), options).await;
    (world, cable)
}

#[tokio::test]
async fn an_operator_that_is_cut_off_withdraws_nobody_and_afterwards_the_one_who_really_died() {
    let (world, cable) = wired().await;
    let shop = world.cluster.namespace("shop").await;
    let mut origins = [Origin::start().await, Origin::start().await, Origin::start().await];
    let all = sorted(&origins);
    apply(&world, &shop, "web", &format!("{}, {PROBE}", members(&origins))).await;
    lists(&world, "web", &all).await;
    // A server that was never there: who doubts its failure asks the zone's servers, and hears them.
    let mut never = Origin::start().await;
    never.die().await;
    apply(&world, &shop, "never", &format!("{}, {PROBE}", members([&never]))).await;
    eventually(DEADLINE, "a verdict on a dead server", async || {
        let members = statuses(&world, &shop, "never").await;
        if members.first().is_some_and(|member| member["health"] == "Unhealthy") {
            Ok(())
        } else {
            Err(format!("{members:?}"))
        }
    })
    .await;
    lists(&world, "never", NOBODY).await;
    for group in ["web", "never"] {
        world.cluster.wait_condition(GROUP, Some(&shop), group, "Ready", "True", DEADLINE).await;
    }
    let before = statuses(&world, &shop, "web").await;
    let since = world.sim.gate.journal.last();

    // Everything beyond the cluster is out of reach, and only the control plane, next door, still answers.
    world.sim.dns.set_weather(Weather { authority_silent: true, resolver_silent: true, ..Weather::default() });
    for origin in &mut origins {
        origin.die().await;
    }
    holds(&world, &shop, "web", "ProberIsolated", true).await;
    assert_eq!(statuses(&world, &shop, "web").await, before);

    // Then that is gone, too, for less than the lease lasts.
    cable.plugged.send_replace(false);
    eventually(DEADLINE, "the operator to miss the control plane", async || {
        let refused = cable.refused.load(Ordering::SeqCst);
        if refused >= 3 { Ok(()) } else { Err(format!("{refused} attempts")) }
    })
    .await;
    let metrics = world.operator.metrics().await;
    assert!(metrics.contains("roadstead_probe_isolated 1"), "{metrics}");
    cable.plugged.send_replace(true);

    // The control plane comes back first. A change of the spec shows that the operator is at work again.
    apply(&world, &shop, "never", &format!("{}, {PROBE}, displayName: again", members([&never]))).await;
    eventually(DEADLINE, "the operator to look at a change", async || {
        let group = world.cluster.get(GROUP, Some(&shop), "never").await.ok_or("no such group".to_owned())?;
        let current = group.data["status"]["observedGeneration"].as_i64() == group.metadata.generation;
        if current { Ok(()) } else { Err(group.data["status"].to_string()) }
    })
    .await;
    holds(&world, &shop, "web", "ProberIsolated", true).await;
    assert_eq!(statuses(&world, &shop, "web").await, before);
    assert_eq!((record(&world, "web"), world.writes_since(since)), (all, Vec::new()));

    let [a, b, c] = &mut origins;
    a.revive().await;
    b.revive().await;
    world.sim.dns.set_weather(Weather::default());
    lists(&world, "web", &sorted([&*a, &*b])).await;
    holds(&world, &shop, "web", "ProberIsolated", false).await;
    let writes = world.writes_since(since);
    assert_eq!(writes.len(), 1, "the one withdrawal and nothing else: {writes:?}");
    let after = statuses(&world, &shop, "web").await;
    let dead = |member: &serde_json::Value| member["id"] == c.at.to_string();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before["id"], after["id"]);
        assert_eq!(dead(after), before != after, "{before} became {after}");
    }
    assert!(after.iter().any(|member| dead(member) && member["reason"] == "ConnectionRefused"), "{after:?}");
}
