//! Every value reaches the operator as the argument it stands for.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use roadstead::cli::{Cli, Gateway, Settings};
use roadstead::gateway::{Rates, Signup};
use roadstead::host::bootstrap::{Certificates, Images, Packages};
use roadstead::store::Limits;
use serde_json::{Value, json};

use crate::rig::{container, environment, find, rendered};

#[test]
fn every_setting_reaches_the_operator_as_the_argument_it_stands_for() {
    let objects = rendered(&[
        "settings.clusterId=prod1",
        "settings.resolvers={9.9.9.9,127.0.0.1:5353}",
        "settings.resync=7m",
        "settings.orphanInterval=11m",
        "settings.settleTime=13s",
        "settings.concurrency=17",
        "settings.readOnly=true",
        "settings.probeAllowCidrs={10.0.0.0/8,192.168.0.0/16}",
        "settings.cloudflareApi=http://127.0.0.1:1/client/v4",
        "settings.digitaloceanApi=http://127.0.0.1:2",
        "settings.log=debug",
        "extraArgs={--ttl-wait-cap=19s}",
    ])
    .unwrap();
    let container = container(&objects);
    let settings = parsed(container);
    assert_eq!(settings.cluster_id.map(|id| id.as_str().to_owned()).as_deref(), Some("prod1"));
    assert_eq!(settings.resolvers, ["9.9.9.9:53".parse().unwrap(), "127.0.0.1:5353".parse().unwrap()]);
    assert_eq!(settings.resync, Duration::from_mins(7));
    assert_eq!(settings.orphan_interval, Duration::from_mins(11));
    assert_eq!(settings.settle_time, Duration::from_secs(13));
    assert_eq!(settings.concurrency, 17);
    assert!(settings.read_only);
    assert_eq!(settings.probe_allow_cidr, ["10.0.0.0/8".parse().unwrap(), "192.168.0.0/16".parse().unwrap()]);
    assert_eq!(settings.cloudflare_api, "http://127.0.0.1:1/client/v4");
    assert_eq!(settings.digitalocean_api, "http://127.0.0.1:2");
    assert_eq!(settings.ttl_wait_cap, Some(Duration::from_secs(19)));
    assert_eq!(environment(container)["RUST_LOG"], "debug");
}

#[test]
fn every_setting_of_hosts_reaches_the_operator_and_mounts_what_it_names() {
    let (caddy, router) = (format!("caddy@sha256:{}", "a".repeat(64)), format!("r/us@sha256:{}", "b".repeat(64)));
    let (key, roots) = ("c".repeat(64), "-----BEGIN CERTIFICATE-----".to_owned());
    let objects = rendered(&[
        &format!("hosts.caddyImage={caddy}"),
        &format!("hosts.routerImage={router}"),
        "hosts.acme.directory=https://ca.example.com/dir",
        "hosts.acme.email=ops@example.com",
        "hosts.acme.caConfigMap=acme-ca",
        "hosts.dockerPackages.repository=https://mirror.example.com/linux",
        &format!("hosts.dockerPackages.key={key}"),
        "hosts.edgeSubnet=10.1.0.0/24",
        "hosts.appSubnets=10.2.0.0/16",
        "hosts.jobs=5",
    ])
    .unwrap();
    let container = container(&objects);
    let hosts = parsed(container).hosts;
    assert_eq!(hosts.acme_ca_file.as_deref(), Some(std::path::Path::new("/etc/roadstead/acme-ca/ca.crt")));
    assert_eq!(hosts.app_subnets, "10.2.0.0/16".parse().unwrap());
    let settings = hosts.settings(Some(roots.clone()));
    assert_eq!(settings.images, Some(Images { caddy: caddy.clone(), router }));
    let directory = "https://ca.example.com/dir".to_owned();
    let email = Some("ops@example.com".to_owned());
    assert_eq!(settings.certificates, Certificates::Acme { directory, email, roots: Some(roots) });
    assert_eq!(settings.packages, Packages { repository: "https://mirror.example.com/linux".to_owned(), key });
    assert_eq!((settings.edge, settings.jobs), ("10.1.0.0/24".parse().unwrap(), 5));
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/etc/roadstead/acme-ca");
    let volume = &find(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!((&volume["name"], &volume["configMap"]["name"]), (&mount["name"], &json!("acme-ca")));

    // Hosts run the operator's own image where that is pinned.
    let digest = format!("sha256:{}", "d".repeat(64));
    let objects = rendered(&[
        "image.repository=registry.example.com/roadstead",
        &format!("image.digest={digest}"),
        &format!("hosts.caddyImage={caddy}"),
    ]);
    let hosts = parsed(crate::rig::container(&objects.unwrap())).hosts;
    assert_eq!(hosts.router_image, Some(format!("registry.example.com/roadstead@{digest}")));
}

#[test]
fn every_setting_of_the_gateway_reaches_the_operator_and_mounts_what_it_names() {
    let objects = rendered(&[
        "gateway.enabled=true",
        "gateway.namespace=groups",
        "gateway.zone=example-com",
        "gateway.signup.tokenSecret=signup",
        "gateway.signup.rate=3",
        "gateway.tlsSecret=certificate",
        "gateway.ratePerAddress=11",
        "gateway.ratePerKey=12",
        "gateway.trustedProxies={10.0.0.0/8,fd00::/8}",
        "gateway.history.existingClaim=disk",
        "gateway.history.age=24h",
        "gateway.history.size=1Gi",
        "gateway.service.port=443",
    ])
    .unwrap();
    let container = container(&objects);
    let gateway = parsed(container).gateway;
    let settings = gateway.settings().unwrap();
    assert_eq!(settings.address.port(), 8081);
    assert_eq!(settings.rates, Rates { per_address: at_most(11), per_key: at_most(12), signups: at_most(3) });
    assert_eq!(settings.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    assert_eq!((gateway.gateway_namespace.as_str(), gateway.gateway_zone.as_deref()), ("groups", Some("example-com")));
    assert_eq!(gateway.history_limits(), Limits { age: Duration::from_hours(24), bytes: 1 << 30 });
    let mounted = |path: &std::path::Path| {
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        let mount = mounts.clone().find(|mount| path.starts_with(mount["mountPath"].as_str().unwrap())).unwrap();
        let volumes = find(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap().clone()
    };
    let tls = settings.tls.unwrap();
    for (file, name) in [(&tls.certificate, "tls.crt"), (&tls.key, "tls.key")] {
        assert!(file.ends_with(name));
        assert_eq!(mounted(file)["secret"]["secretName"], "certificate");
    }
    let Signup::Token(Some(token)) = settings.signup else { panic!("{:?}", settings.signup) };
    assert_eq!(mounted(&token)["secret"]["secretName"], "signup");
    let history = gateway.history_file.unwrap();
    assert_eq!(mounted(&history)["persistentVolumeClaim"]["claimName"], "disk");
    let named = |name: &str| objects.iter().find(|o| o["kind"] == "Service" && o["metadata"]["name"] == name).unwrap();
    let service = &named("roadstead-gateway")["spec"];
    assert_eq!(service["selector"]["roadstead.dev/leader"], "true");
    assert_eq!(service["ports"][0], json!({"name": "https", "port": 443, "targetPort": "gateway"}));
    let pod = container["env"].as_array().unwrap().iter().find(|var| var["name"] == "POD_NAME").unwrap();
    assert_eq!(pod["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");

    // Values that are not named are the operator's own.
    let plain = rendered(&["gateway.enabled=true", "gateway.signup.mode=open"]).unwrap();
    let (chart, own) =
        (parsed(crate::rig::container(&plain)).gateway, parsed(&json!({"args": ["run"], "env": []})).gateway);
    let (chart, own) =
        (chart.settings().unwrap(), Gateway { gateway_addr: chart.gateway_addr, ..own }.settings().unwrap());
    assert_eq!((chart.rates, chart.trusted_proxies, chart.tls), (own.rates, own.trusted_proxies, own.tls));
}

fn at_most(rate: u32) -> std::num::NonZeroU32 {
    rate.try_into().unwrap()
}

#[test]
fn the_charts_defaults_are_the_operators_own() {
    let objects = rendered(&[]).unwrap();
    let (chart, mut own) = (parsed(container(&objects)), parsed(&json!({"args": ["run"], "env": []})));
    // Different in each process.
    own.identity.clone_from(&chart.identity);
    assert_eq!(format!("{chart:?}"), format!("{own:?}"));
}

/// What the operator would read from the container's arguments and environment.
fn parsed(container: &Value) -> Settings {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let flags: BTreeMap<&str, &str> =
        run.get_arguments().filter_map(|arg| Some((arg.get_env()?.to_str()?, arg.get_long()?))).collect();
    let mut line = vec!["roadstead".to_owned()];
    line.extend(container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned()));
    for var in container["env"].as_array().unwrap() {
        let name = var["name"].as_str().unwrap();
        if name.starts_with("ROADSTEAD_") {
            let flag = flags.get(name).unwrap_or_else(|| panic!("the operator knows no {name}"));
            // What Kubernetes fills in when the pod starts has no value yet.
            line.extend(var["value"].as_str().map(|value| format!("--{flag}={value}")));
        }
    }
    match Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}")).command {
        roadstead::cli::Command::Run(settings) => *settings,
        other => panic!("the chart starts {other:?}"),
    }
}
