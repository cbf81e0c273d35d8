//! Hosts from a fresh image to one that serves, on the container VMs of the rig that `make test-hosts` starts: with the
//! real OpenSSH, Docker, Compose and Caddy there, and our own binary as the routers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say bluntly what they expect")]

mod host;

use std::time::Duration;

use host::{ADMIN, Host, NAME, NONCE, ROOT, SOON, VISITOR, mark};
use roadstead::host::bootstrap::{Act, Cause, Error, Packages, Refusal, Step, run};
use roadstead::host::table::IDENTITY_PATH;
use support::eventually;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_fresh_host_serves_the_placeholder_stays_as_it_is_and_comes_back_from_a_reboot() {
    let host = Host::boot().await;
    let acts = host.bootstrap(ADMIN).await.unwrap();
    assert!(acts.iter().all(|act| act.cause == Cause::Setup), "{acts:?}");
    host.serves().await;

    // Over TLS too, with a certificate made at this handshake.
    let to = format!("{NAME}:443:{}", host.address);
    let url = format!("https://{NAME}{IDENTITY_PATH}");
    let arguments = ["-sSk", "--noproxy", "*", "--max-time", "30", "--resolve", &to, &url];
    let curl = tokio::process::Command::new("curl").args(arguments).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&curl.stdout), NONCE, "{}", String::from_utf8_lossy(&curl.stderr));

    // The admin API is on its socket alone, which is the SSH user's; 2019 is Caddy's port for it.
    assert_eq!(host.root("stat -c '%A %U %G' /run/roadstead/caddy/admin.sock").await, "srw-rw---- root deploy");
    let listening = "cat /proc/$(docker inspect --format {{.State.Pid}} roadstead-caddy-caddy-1)/net/tcp*";
    let listening = host.root(listening).await;
    assert!(listening.contains(":01BB ") && !listening.contains(":07E3 "), "{listening}");

    let before = host.containers().await;
    assert_eq!(before.lines().count(), 3, "{before}");
    assert_eq!(host.bootstrap(ADMIN).await, Ok(Vec::new()));
    assert_eq!(host.containers().await, before);

    host.reboot().await;
    eventually(SOON, "the identity after the reboot", async || {
        let (status, body, _) = host.page(IDENTITY_PATH).await.map_err(|error| error.to_string())?;
        if status == 200 { Ok(()) } else { Err(format!("{status} {body}")) }
    })
    .await;
    host.serves().await;
    assert_eq!(host.bootstrap(ADMIN).await, Ok(Vec::new()), "nothing was left to be repaired");
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_host_without_docker_gets_it_from_a_repository_with_the_pinned_key_and_no_other() {
    let mut host = Host::boot().await;
    let key = host.take_docker().await;
    assert_eq!(host.root("command -v docker dockerd || echo gone").await, "gone");

    host.wanted.packages = Packages { repository: "https://localhost:8443".to_owned(), key: "0".repeat(64) };
    let error = host.bootstrap(ADMIN).await.unwrap_err().to_string();
    assert!(error.contains("the key at https://localhost:8443/debian/gpg is not the pinned one"), "{error}");
    assert_eq!(host.root("command -v docker dockerd || echo gone").await, "gone");

    host.wanted.packages.key = key;
    let acts = host.bootstrap(ADMIN).await.unwrap();
    assert_eq!(acts[0].step, Step::Install { engine: true });
    host.serves().await;
    assert_eq!(host.bootstrap(ADMIN).await, Ok(Vec::new()));

    host.root("dpkg --remove docker-compose-plugin").await;
    let acts: Vec<_> = host.bootstrap(ADMIN).await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(acts, ["repair: install the Compose plugin (the Compose plugin is missing)"]);
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn what_somebody_undid_is_repaired_and_said() {
    let host = Host::boot().await;
    host.bootstrap(ROOT).await.unwrap();
    let stop = "docker stop roadstead-caddy-caddy-1";
    let network = "docker rm --force roadstead-caddy-caddy-1 && docker network rm edge";
    let disconnected = "docker network disconnect --force edge roadstead-caddy-caddy-1 && docker network rm edge";
    let compose = "/opt/roadstead/caddy/compose.yaml";
    let empty = r#"curl -fsS --unix-socket /run/roadstead/caddy/admin.sock -H 'content-type: application/json' \
        -d '{"admin": {"listen": "unix//run/roadstead/caddy/admin.sock|0660"}}' http://localhost/load"#;
    let edit = format!("echo '# mine' >>{compose}");
    let started = "repair: start caddy (caddy has no container)";
    let made = "repair: make the network edge (the network edge is missing)";
    let edited = format!("repair: write {compose} ({compose} has another content)");
    let drifts: [(&str, &[&str]); 6] = [
        (stop, &["repair: start caddy (the container of caddy is exited: "]),
        (&edit, &[&edited]),
        (network, &[made, started]),
        (
            disconnected,
            &[made, "repair: make the container of caddy anew (the container of caddy is not in the network"],
        ),
        (empty, &["repair: give Caddy its configuration (Caddy has no configuration)"]),
        (
            "rm -r /run/roadstead/caddy",
            &[
                "repair: make the directories (/run/roadstead/caddy is missing)",
                "repair: see that caddy answers (caddy does",
            ],
        ),
    ];
    for (drift, expected) in drifts {
        host.root(drift).await;
        let acts = host.repaired().await;
        assert_eq!(acts.len(), expected.len(), "{drift}: {acts:?}");
        for (act, expected) in acts.iter().zip(expected) {
            assert!(act.starts_with(expected), "{drift}: {act}, not {expected}");
        }
        host.serves().await;
        assert_eq!(host.repaired().await, [""; 0], "{drift}");
    }
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_host_that_is_in_use_somebody_else_s_or_not_ours_to_change_is_refused_and_not_touched() {
    let mut host = Host::boot().await;
    let refused = async |host: &Host, user: &str| match host.bootstrap(user).await {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };

    host.root("setsid -f busybox httpd -p 80 -h /srv").await;
    let refusal = refused(&host, ADMIN).await;
    let Refusal::PortInUse { port: 80, by } = &refusal else { panic!("{refusal}") };
    assert!(by.starts_with("the process busybox ("), "{by}");
    host.root("kill $(pidof busybox)").await;

    host.root(&format!("docker run --detach --name shop --publish 443:8080 {}", host.app)).await;
    let expected = Refusal::PortInUse { port: 443, by: "the container shop".to_owned() };
    assert_eq!(refused(&host, ADMIN).await, expected);
    host.root("docker rm --force shop").await;

    let refusal = refused(&host, VISITOR).await;
    assert!(matches!(refusal, Refusal::NoSudo { .. }), "{refusal}");
    assert_eq!(host.root("ls -d /opt/roadstead /run/roadstead /etc/tmpfiles.d/roadstead.conf || true").await, "");

    host.bootstrap(ADMIN).await.unwrap();
    let before = host.containers().await;
    let owner = std::mem::replace(&mut host.wanted.mark, mark(2)).comment();
    assert_eq!(refused(&host, ADMIN).await, Refusal::OtherOwner { found: owner });
    assert_eq!(host.containers().await, before);
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_run_that_is_cut_at_every_step_is_followed_by_one_that_goes_on() {
    let host = Host::boot().await;
    let mut patience = Duration::from_millis(20);
    let mut cut = 0;
    loop {
        // As an operator that was killed and restarted: with a connection of its own, and knowing nothing.
        let session = host.session(ADMIN).await.unwrap();
        let (say, mut steps) = unbounded_channel();
        let mut running = Box::pin(run(&session, &host.wanted, move |act: &Act| {
            eprintln!("{act}");
            let _ = say.send(());
        }));
        let first = tokio::select! {
            done = &mut running => Some(done),
            _ = steps.recv() => timeout(patience, &mut running).await.ok(),
        };
        if let Some(done) = first {
            done.unwrap();
            break;
        }
        cut += 1;
        patience = patience.mul_f64(1.15);
        assert!(cut < 80, "it does not come to an end");
    }
    assert!(cut > 15, "it was cut {cut} times only");
    host.serves().await;
    assert_eq!(host.bootstrap(ADMIN).await, Ok(Vec::new()));
}
