use std::fmt::Write;

use super::*;
use crate::host::compose::overlay::{alias, network};

/// What the script printed of an app of one service on a VM with Docker 20.10 and Compose 2.40.
const RUNNING: &[u8] = include_bytes!("recorded/running.txt");
const IMAGE: &str = "sha256:d6776d5d84bb0fa7ea0e396ee44cfb4e65e08eeb3f738185cfb1821f45111228";

fn place() -> Place {
    Place {
        app: "c1-shop".into(),
        project: "shop-shop".into(),
        directory: "/opt/roadstead/apps/shop-shop".into(),
        proxy: "roadstead-caddy-caddy-1".into(),
        registries: Vec::new(),
    }
}

fn seen(said: &[u8], names: &[&str]) -> Host {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    read(&Handed::read(said).unwrap(), &place(), &names.iter().collect()).unwrap()
}

/// What the script printed, changed in one section such that its size says so.
fn with(section: &str, from: &str, to: &str) -> Vec<u8> {
    let mut said = String::new();
    let handed = Handed::read(RUNNING).unwrap();
    for name in ["directory", "table", "containers", "networks", "proxy", "images", "used"] {
        let body = handed.get(name).unwrap();
        let body = if name == section { body.replace(from, to) } else { body.to_owned() };
        assert!(name != section || handed.get(name) != Some(&body), "nothing to change");
        let _ = write!(said, "{name} {}\n{body}", body.len());
    }
    (said + "end 0\n").into_bytes()
}

#[test]
fn what_a_host_says_of_a_running_app_is_read() {
    let host = seen(RUNNING, &["shop.example.com", "www.example.com"]);
    let expected = Container {
        id: "86c1c9937911161e19490f9f96e83f69a7da55fd044154708641dd75fbedba7a".into(),
        service: "web".into(),
        app: Some("c1-shop".into()),
        revision: Some("v1".into()),
        one_off: false,
        // Ours, not Compose's.
        hash: Some("5409d32b1a1316be4cd1c756545c88fa72d6f36491517ef1a909695929ebe19f".into()),
        image: IMAGE.into(),
        state: State::Running,
        health: None,
        exit_code: 0,
        oom_killed: false,
        restarts: 0,
    };
    assert_eq!(host.containers, [expected]);
    let networks = [
        ("shop-shop_default".to_owned(), Network { ours: true, proxied: false }),
        (network("c1-shop"), Network { ours: true, proxied: true }),
        ("edge".to_owned(), Network { ours: false, proxied: true }),
    ];
    assert_eq!(host.networks, networks.into());
    // Of the table what was asked for, and of that what is there.
    let route = Route::Upstream { alias: alias("c1-shop", "v1").into(), port: 8080, peer: None };
    assert_eq!(host.routes, [("shop.example.com".to_owned(), route)].into());
    assert_eq!(host.images, [(IMAGE.to_owned(), true)].into());
    assert!(host.directory);
}

#[test]
fn every_state_that_docker_has_is_one_of_the_plans() {
    let state = |status: &str| {
        let said = with("containers", r#""Status":"running""#, &format!(r#""Status":"{status}""#));
        seen(&said, &[]).containers[0].state
    };
    for (status, expected) in [
        ("created", State::Created),
        ("paused", State::Running),
        ("restarting", State::Restarting),
        ("exited", State::Exited),
        ("dead", State::Exited),
        ("removing", State::Exited),
    ] {
        assert_eq!(state(status), expected, "{status}");
    }
    let checked = with("containers", r#""ExitCode":0"#, r#""Health":{"Status":"unhealthy","Log":[]},"ExitCode":137"#);
    let checked = &seen(&checked, &[]).containers[0];
    assert_eq!((checked.health, checked.exit_code), (Some(Health::Unhealthy), 137));
    let once = with("containers", r#""com.docker.compose.oneoff":"False""#, r#""com.docker.compose.oneoff":"True""#);
    assert!(seen(&once, &[]).containers[0].one_off);
}

#[test]
fn a_network_made_anew_is_not_the_one_that_caddy_is_on() {
    let said = with("networks", r#""id":"6a13"#, r#""id":"7b24"#);
    assert_eq!(seen(&said, &[]).networks[&network("c1-shop")], Network { ours: true, proxied: false });
}

#[test]
fn a_table_that_cannot_be_read_leads_nowhere() {
    let said = with("table", r#""version":1"#, r#""version":2"#);
    assert_eq!(seen(&said, &["shop.example.com"]).routes, BTreeMap::new());
}

#[test]
fn what_cannot_be_read_is_no_empty_host() {
    let said = with("containers", r#""restarts":0"#, r#""restarts":"#);
    assert!(read(&Handed::read(&said).unwrap(), &place(), &BTreeSet::new()).is_err());
}
