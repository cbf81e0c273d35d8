use super::*;
use crate::host::compose::refuse::HostAccess;
use crate::host::deploy::app::PreDeploy;

const FILES: &str = "/opt/roadstead/apps/shop/revisions/r1/files";

fn spec() -> Spec {
    Spec {
        revision: "r1".into(),
        cause: "1".into(),
        compose: "services: {}".into(),
        files: [("conf/app".to_owned(), Bytes::from("x")), ("run".to_owned(), Bytes::from("#!/bin/sh\n"))].into(),
        images: vec![("web".into(), "shop:2".into())],
        values: [("A", "1"), ("B", "2"), ("C", "3")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        only: [("B".to_owned(), ["db".to_owned()].into()), ("C".to_owned(), BTreeSet::new())].into(),
        entry: crate::host::compose::entry::Asked::default(),
        host_access: HostAccess::default(),
        strategy: strategy::Asked::default(),
        updates: BTreeMap::new(),
        pre_deploy: Some(PreDeploy { service: String::new(), command: vec!["./migrate".into()], timeout: 9 }),
        edge: false,
        health_path: None,
        default_health_path: "/node".into(),
        start_period: 1,
        health_timeout: 2,
        external_timeout: 3,
        drain: 4,
        history: 5,
        suspend: false,
        maintenance: false,
    }
}

/// What `docker compose config` made of a file of one service with a config and a mount, on a VM.
const CONFIG: &str = r#"{"name":"shop","networks":{"default":{"name":"shop_default","ipam":{}}},"services":{
    "db":{"command":null,"entrypoint":null,"image":"db:1","networks":{"default":null}},
    "web":{"command":null,"entrypoint":null,"environment":{"A":"b"},"expose":["8080"],"image":"shop:1",
        "networks":{"default":null},"volumes":[{"type":"bind","source":"/opt/roadstead/apps/shop/revisions/r1/files/conf",
        "target":"/conf","read_only":true,"bind":{"create_host_path":true}}]}}}"#;

#[test]
fn what_the_object_says_comes_before_the_label_and_that_before_the_node() {
    let labelled = CONFIG.replace(r#""expose""#, r#""labels":{"roadstead.health":"/label"},"expose""#);
    let path = |spec: &Spec, config: &str| {
        let judged = judge(spec, FILES, config).unwrap();
        let wanted = wanted(spec, &judged, BTreeMap::new(), Ingress::Edge, "10.0.0.0/27".parse().unwrap());
        assert_eq!(wanted.pre_deploy.unwrap().service, "web");
        wanted.health_path
    };
    let own = Spec { health_path: Some("/own".into()), ..spec() };
    assert_eq!(path(&own, &labelled), "/own");
    assert_eq!(path(&spec(), &labelled), "/label");
    assert_eq!(path(&spec(), CONFIG), "/node");
}

#[test]
fn what_may_not_run_is_refused_with_what_is_wrong() {
    let refused = |config: &str| refusal::message(&judge(&spec(), FILES, config).map(drop).unwrap_err());
    assert!(refused(&CONFIG.replace("revisions/r1", "revisions/r2")).contains("is a path of the host"));
    assert!(refused(r#"{"services":{"web":{"labels":7}}}"#).contains("key `services.web.labels`"));
}

#[test]
fn a_variable_goes_to_the_entry_unless_it_is_for_others() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let expected = [("web".to_owned(), names(&["A"])), ("db".to_owned(), names(&["B"]))].into();
    assert_eq!(variables_of(&spec(), "web"), expected);
}

#[test]
fn the_images_of_the_object_take_the_place_of_the_files() {
    let images = images(&judge(&spec(), FILES, CONFIG).unwrap().project, &spec());
    assert_eq!(images, [("db", "db:1"), ("web", "shop:2")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[test]
fn files_with_values_are_roots_alone_and_what_is_mounted_is_for_whoever_runs_there() {
    let bundle = String::from_utf8(bundle(&spec()).unwrap()).unwrap();
    assert!(bundle.starts_with("600 12 compose.yaml\nservices: {}600 "), "{bundle}");
    assert!(bundle.contains(" variables.env\nA=\"1\"\n") && bundle.contains("644 1 files/conf/app\nx"), "{bundle}");
    assert!(bundle.ends_with("755 10 files/run\n#!/bin/sh\n"), "{bundle}");
    for path in ["../x", "/x", "a//b", "a/./b", "a b", "", "a/", "a\nb"] {
        let spec = Spec { files: [(path.to_owned(), Bytes::new())].into(), ..spec() };
        assert!(super::bundle(&spec).is_err(), "{path:?}");
    }
}

#[test]
fn an_overlay_that_is_there_tells_its_hashes_and_its_networks_move_only_where_they_must() {
    let judged = judge(&spec(), FILES, CONFIG).unwrap();
    let place = Place {
        app: "c1-shop".into(),
        project: "shop".into(),
        directory: "/opt/roadstead/apps/shop".into(),
        proxy: "caddy".into(),
        registries: Vec::new(),
    };
    let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
    let subnets = |subnet: &str| BTreeMap::from([("default".to_owned(), net(subnet))]);
    let assigned = Assigned { compose: subnets("10.90.0.0/27"), ingress: net("10.90.1.0/27") };
    let mut overlay = put_over(&place, &spec(), &judged, &ingress(&place, &spec()), &assigned, FILES).unwrap();
    let hashes: BTreeMap<_, _> = [("web", "1"), ("db", "2")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    overlay.label(&hashes);
    let mut there = parse_overlay(&text(&overlay).unwrap()).unwrap();
    assert_eq!((hashes_of(&there), subnets_of(&there)), (hashes, subnets("10.90.0.0/27")));
    assert!(!move_networks(&mut there, &subnets("10.90.0.0/27")));
    assert!(move_networks(&mut there, &subnets("10.91.0.0/27")));
    assert_eq!(subnets_of(&there), subnets("10.91.0.0/27"));
    assert!(parse_overlay("{").is_err());
}
