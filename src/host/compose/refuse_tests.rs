//! Every refusal beside what is right and nearly the same.

use super::*;

/// A project whose service `web` has these further members; `rest` goes beside `services`.
fn project(web: &str, rest: &str) -> Project {
    let comma = |text: &str| if text.is_empty() { String::new() } else { format!(",{text}") };
    let text = format!(r#"{{"services":{{"web":{{"expose":["80"]{}}}}}{}}}"#, comma(web), comma(rest));
    Project::read(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn rules(asked: bool, permitted: bool) -> Rules {
    let files = Files { directory: "/opt/app/files".into(), paths: ["app.conf".to_owned()].into() };
    Rules { files, host_access: HostAccess { asked, permitted }, ..Rules::default() }
}

/// Reason and place of each refusal.
fn refused(project: &Project, rules: &Rules) -> Vec<(&'static str, String)> {
    let place = |refusal: &Refusal| refusal.to_string().split(": ").next().unwrap_or_default().to_owned();
    let refusals = check(project, rules).err().unwrap_or_default();
    refusals.iter().map(|refusal| (refusal.reason(), place(refusal))).collect()
}

#[test]
fn each_thing_that_may_not_run_is_named_with_service_and_key() {
    let bind = |source: &str| format!(r#""volumes":[{{"type":"bind","source":"{source}","target":"/x"}}]"#);
    let published = |text: &str| format!(r#""ports":[{{"target":80,"published":"{text}"}}]"#);
    let refusals: &[(String, &str, &str)] = &[
        (r#""network_mode":"host""#.into(), "HostNetwork", "network_mode"),
        (r#""network_mode":"service:db""#.into(), "HostNetwork", "network_mode"),
        (published("80"), "PortReserved", "ports[0]"),
        (published("443"), "PortReserved", "ports[0]"),
        (published("440-450"), "PortReserved", "ports[0]"),
        (bind("/etc"), "HostPathRefused", "volumes[0]"),
        (bind("/opt/app/files/data"), "HostPathRefused", "volumes[0]"),
        (bind("/"), "HostAccessRefused", "volumes[0]"),
        (bind("/var/run/docker.sock"), "HostAccessRefused", "volumes[0]"),
        (r#""build":{"context":"/root","dockerfile":"Dockerfile"}"#.into(), "HostPathRefused", "build.context"),
        (
            r#""build":{"context":"https://example.com/a.git","additional_contexts":{"b":"/etc"}}"#.into(),
            "HostPathRefused",
            "build.additional_contexts.b",
        ),
        (r#""privileged":true"#.into(), "HostAccessRefused", "privileged"),
        (r#""pid":"host""#.into(), "HostAccessRefused", "pid"),
        (r#""cap_add":["NET_ADMIN","cap_sys_admin"]"#.into(), "HostAccessRefused", "cap_add[1]"),
        (r#""devices":[{"source":"/dev/vda"}]"#.into(), "HostAccessRefused", "devices[0]"),
        (r#""container_name":"rs--a-b""#.into(), "NameReserved", "container_name"),
        (r#""networks":{"default":{"aliases":["a","rs--a-b"]}}"#.into(), "NameReserved", "networks.default.aliases[1]"),
    ];
    for (web, reason, key) in refusals {
        let expected = vec![(*reason, format!("service `web`, key `{key}`"))];
        assert_eq!(refused(&project(web, ""), &rules(false, false)), expected, "{web}");
    }
    for (rest, key) in [
        (
            r#""volumes":{"d":{"driver_opts":{"type":"none","o":"bind","device":"/etc"}}}"#,
            "volumes.d.driver_opts.device",
        ),
        (r#""secrets":{"s":{"file":"/etc/shadow"}}"#, "secrets.s.file"),
        (r#""configs":{"c":{"file":"/root/.ssh/id"}}"#, "configs.c.file"),
    ] {
        let expected = vec![("HostPathRefused", format!("key `{key}`"))];
        assert_eq!(refused(&project("", rest), &rules(false, false)), expected, "{rest}");
    }
}

#[test]
fn what_is_nearly_the_same_and_right_may_run() {
    for (web, rest) in [
        (r#""ports":[{"target":80},{"target":443,"published":"8443"},{"target":1,"published":"81-442"}]"#, ""),
        (r#""volumes":[{"type":"bind","source":"/opt/app/files/app.conf","target":"/x"}]"#, ""),
        (r#""volumes":[{"type":"volume","source":"etc","target":"/etc"},{"type":"tmpfs","target":"/tmp"}]"#, ""),
        (r#""build":{"context":"https://example.com/a.git","dockerfile":"Dockerfile"}"#, ""),
        (r#""cap_add":["NET_ADMIN"],"devices":[{"source":"/dev/net/tun"},{"source":"nvidia.com/gpu=all"}]"#, ""),
        (r#""pid":"service:db","ipc":"private""#, ""),
        ("", r#""volumes":{"d":{"driver_opts":{"type":"nfs","o":"addr=10.0.0.1","device":":/data"}}}"#),
        ("", r#""secrets":{"s":{"file":"/opt/app/files/app.conf"}},"configs":{"c":{"content":"x"}}"#),
    ] {
        let refused = refused(&project(web, rest), &rules(false, false));
        assert!(refused.is_empty(), "{web} {rest}: {refused:?}");
    }
}

#[test]
fn the_socket_and_the_whole_disk_need_both_the_apps_ask_and_the_providers_permission() {
    for source in ["/", "/run/docker.sock"] {
        let bind = format!(r#""volumes":[{{"type":"bind","source":"{source}","target":"/x"}}]"#);
        let remedy = |asked, permitted| {
            let refusals = check(&project(&bind, ""), &rules(asked, permitted)).err();
            refusals.map(|refusals| refusals[0].to_string().rsplit_once(", or ").unwrap().1.to_owned())
        };
        assert_eq!(remedy(true, true), None);
        assert!(remedy(false, true).unwrap().ends_with("`spec.hostAccess: true` on the AppDeployment"));
        assert!(remedy(true, false).unwrap().ends_with("`spec.allowHostAccess: true` set on the Node's Provider"));
        let both = remedy(false, false).unwrap();
        assert!(both.contains("spec.hostAccess") && both.contains("spec.allowHostAccess"), "{both}");
    }
    // Nothing else of the host is had by it.
    let other = r#""volumes":[{"type":"bind","source":"/etc","target":"/x"}]"#;
    assert_eq!(refused(&project(other, ""), &rules(true, true)).len(), 1);
}

#[test]
fn a_service_beside_the_entry_may_use_the_hosts_network() {
    let text = r#"{"services":{"agent":{"network_mode":"host"},"web":{"expose":["80"]}}}"#;
    let refused = refused(&Project::read(text).unwrap(), &rules(false, false));
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn all_refusals_come_at_once_and_always_in_the_same_order() {
    let text = r#"{
        "services": {
            "b": {"labels": {"roadstead.entry": "true"}, "ports": [{"target": 1, "published": "1-500"}]},
            "a": {"privileged": true, "volumes": [{"type": "bind", "source": "/srv"}], "network_mode": "host"},
            "c": {"labels": {"dynia.entry": "true"}}
        },
        "secrets": {"s": {"file": "/etc/shadow"}}
    }"#;
    let refusals = check(&Project::read(text).unwrap(), &rules(false, false)).unwrap_err();
    let lines = message(&refusals);
    let starts: Vec<_> = lines.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        starts,
        [
            "services `b` and `c`, key `labels`",
            "service `a`, key `volumes[0]`",
            "service `a`, key `privileged`",
            "service `b`, key `ports[0]`",
            "service `b`, key `ports[0]`",
            "key `secrets.s.file`",
        ]
    );
    assert_eq!(
        refusals[3].to_string(),
        "service `b`, key `ports[0]`: publishing 1-500 would take port 80 of the host, which Caddy serves every app \
         on: remove it, and name the container's port in `expose`"
    );
}
