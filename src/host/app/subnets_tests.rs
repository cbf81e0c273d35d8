use super::*;

const OWN: &str = "rs--0123456789";

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn place(app: &str) -> Place {
    Place {
        app: app.into(),
        project: "shop".into(),
        directory: "/opt/roadstead/apps/shop".into(),
        proxy: "caddy".into(),
        registries: Vec::new(),
    }
}

fn project(web: &str) -> Project {
    let text =
        format!(r#"{{"services":{{"web":{{{web}}}}},"networks":{{"default":{{"name":"shop_default","ipam":{{}}}}}}}}"#);
    Project::read(&text).unwrap()
}

/// Networks as `docker network inspect` printed them by the script's template, of Docker 20.10.
fn networks(lines: &str) -> Vec<Network> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const HOST: &str = r#"{"name":"bridge","labels":{},"subnets":["172.17.0.0/16"]}
{"name":"edge","labels":{},"subnets":["10.89.0.0/24"]}
{"name":"host","labels":{},"subnets":[]}
{"name":"none","labels":null,"subnets":[]}"#;

fn assigned(networks: &[Network], before: &[(&str, &str)], pool: &str) -> Option<Assigned> {
    let before = before.iter().map(|(key, subnet)| ((*key).to_owned(), net(subnet))).collect();
    assign(&place("c1-shop"), &project(""), OWN, (networks, &[]), &before, net(pool))
}

#[test]
fn the_kernels_routes_are_read_but_for_the_default_one() {
    let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                 eth0\t00000000\t010012C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                 br-1\t0000590A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                 eth0\t000012C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    assert_eq!(routes(table), [net("10.89.0.0/24"), net("198.18.0.0/24")]);
    assert_eq!(routes(""), []);
}

#[test]
fn networks_that_are_there_keep_their_subnets_and_others_get_free_ones() {
    let fresh = assigned(&networks(HOST), &[], "10.89.0.0/23").unwrap();
    let (default, ingress) = (fresh.compose["default"], fresh.ingress);
    for subnet in [default, ingress] {
        assert!(net("10.89.1.0/24").contains(&subnet) && subnet.prefix_len() == LONGEST, "{fresh:?}");
    }
    assert_ne!(default, ingress);
    let there = format!(
        "{HOST}\n{}\n{}",
        r#"{"name":"shop_default","labels":{"com.docker.compose.project":"shop"},"subnets":["10.1.0.0/27"]}"#,
        r#"{"name":"rs--0123456789","labels":{"roadstead.app":"c1-shop"},"subnets":["10.2.0.0/27","fd00::/64"]}"#
    );
    let kept = assigned(&networks(&there), &[("default", "10.3.0.0/27")], "10.89.0.0/23").unwrap();
    assert_eq!((kept.compose["default"], kept.ingress), (net("10.1.0.0/27"), net("10.2.0.0/27")));
}

#[test]
fn what_was_assigned_before_holds_until_somebody_else_has_it() {
    let before = [("default", "10.89.1.64/27"), ("gone", "10.89.1.96/27")];
    let held = assigned(&networks(HOST), &before, "10.89.0.0/23").unwrap();
    assert_eq!(held.compose["default"], net("10.89.1.64/27"));
    let other = format!("{HOST}\n{}", r#"{"name":"other_default","labels":{},"subnets":["10.89.1.64/27"]}"#);
    let moved = assigned(&networks(&other), &before, "10.89.0.0/23").unwrap();
    assert_ne!(moved.compose["default"], net("10.89.1.64/27"));
    // A network of another app is no network of this one's.
    let theirs =
        format!("{HOST}\n{}", r#"{"name":"rs--0123456789","labels":{"roadstead.app":"x"},"subnets":["10.2.0.0/27"]}"#);
    assert_ne!(assigned(&networks(&theirs), &[], "10.89.0.0/23").unwrap().ingress, net("10.2.0.0/27"));
}

#[test]
fn a_pool_that_is_used_up_gives_nothing() {
    assert_eq!(assigned(&networks(HOST), &[], "10.89.0.0/24"), None);
    assert!(assigned(&networks(HOST), &[], "10.90.0.0/26").is_some());
    assert_eq!(assigned(&networks(HOST), &[], "10.90.0.0/27"), None);
}

#[test]
fn an_app_of_many_containers_gets_larger_networks() {
    for (replicas, expected) in [(1, 27), (12, 27), (13, 26), (100, 24), (5000, 22)] {
        assert_eq!(prefix(&project(&format!(r#""scale":{replicas}"#))), expected, "{replicas}");
    }
}

#[test]
fn apps_that_are_prepared_at_the_same_time_look_at_different_subnets_first() {
    let first = |app: &str| {
        let none = BTreeMap::new();
        assign(&place(app), &project(""), OWN, (&[], &[]), &none, net("10.90.0.0/16")).unwrap().ingress
    };
    let all: std::collections::BTreeSet<Ipv4Net> = (0..50).map(|n| first(&format!("c1-app-{n}"))).collect();
    assert!(all.len() > 45, "{}", all.len());
}
