//! What is put over a file, key by key; `tests/compose` has Compose itself merge it.

use serde_json::{Value, json};

use super::*;

const SHOP: &str = r#"{
    "name": "shop",
    "services": {
        "web": {"image": "shop", "networks": {"default": null, "back": null}},
        "db": {
            "networks": {"back": null},
            "logging": {"driver": "local"},
            "volumes": [{"type": "bind", "source": "/opt/app/files/db.conf", "target": "/etc/db.conf"}]
        },
        "agent": {"network_mode": "host", "restart": "no"}
    },
    "networks": {"default": {"name": "shop_default", "ipam": {}}, "back": {"name": "shop_back", "ipam": {}}}
}"#;

fn files() -> Files {
    Files { directory: "/opt/app/files".into(), paths: ["db.conf".to_owned(), "web.conf".to_owned()].into() }
}

fn request<'a>(project: &'a Project, files: &'a Files) -> Request<'a> {
    Request {
        project,
        entry: "web",
        app: "shop/shop",
        revision: "r1",
        images: &[],
        variables: BTreeMap::new(),
        ingress: Ingress::App("roadstead-shop".into()),
        subnets: BTreeMap::new(),
        files,
        file_hashes: [("db.conf".to_owned(), "1".to_owned())].into(),
    }
}

fn printed(request: &Request<'_>) -> Value {
    serde_json::from_str(&overlay(request).unwrap().to_file().unwrap()).unwrap()
}

#[test]
fn the_entry_keeps_its_networks_and_joins_the_apps_own_under_an_alias() {
    let (project, files) = (Project::read(SHOP).unwrap(), files());
    let printed = printed(&request(&project, &files));
    let alias = alias("shop/shop", "r1");
    assert_eq!(
        printed["services"]["web"]["networks"],
        json!({"back": null, "default": null, "roadstead": {"aliases": [alias]}})
    );
    assert_eq!(printed["networks"], json!({"roadstead": {"external": true, "name": "roadstead-shop"}}));
    assert_eq!(printed["services"]["db"]["networks"], Value::Null);
}

#[test]
fn with_edge_every_service_that_has_networks_joins_it() {
    let (project, files) = (Project::read(SHOP).unwrap(), files());
    let printed = printed(&Request { ingress: Ingress::Edge, ..request(&project, &files) });
    assert_eq!(printed["services"]["db"]["networks"], json!({"back": null, "roadstead": null}));
    assert_eq!(printed["services"]["agent"]["networks"], Value::Null);
    assert_eq!(printed["networks"]["roadstead"]["name"], "edge");
}

#[test]
fn a_network_the_user_has_already_is_not_joined_twice_and_no_key_of_theirs_is_taken() {
    let text = r#"{"services": {"web": {"networks": {"proxy": null, "roadstead": null}}},
        "networks": {"proxy": {"external": true, "name": "edge"}, "roadstead": {"name": "shop_roadstead"}}}"#;
    let (project, files) = (Project::read(text).unwrap(), files());
    let edge = printed(&Request { ingress: Ingress::Edge, ..request(&project, &files) });
    let alias = json!({"aliases": [alias("shop/shop", "r1")]});
    assert_eq!(edge["services"]["web"]["networks"], json!({"proxy": alias, "roadstead": null}));
    let own = printed(&request(&project, &files));
    assert_eq!(own["services"]["web"]["networks"], json!({"proxy": null, "roadstead": null, "roadstead_": alias}));
}

#[test]
fn a_new_revision_changes_nothing_but_the_entry() {
    let (project, files) = (Project::read(SHOP).unwrap(), files());
    let request = request(&project, &files);
    let (mut one, mut two) = (printed(&request), printed(&Request { revision: "r2", ..request }));
    assert_ne!(one["services"]["web"], two["services"]["web"]);
    for printed in [&mut one, &mut two] {
        printed["services"].as_object_mut().unwrap().remove("web");
    }
    assert_eq!(one, two);
}

#[test]
fn what_is_in_a_mounted_file_changes_the_services_that_mount_it_and_no_other() {
    let (project, files) = (Project::read(SHOP).unwrap(), files());
    let one = request(&project, &files);
    let other = ["db.conf", "web.conf"].map(|path| (path.to_owned(), "2".to_owned()));
    let two = Request { file_hashes: other.into(), ..one.clone() };
    let (one, two) = (printed(&one), printed(&two));
    assert_ne!(one["services"]["db"]["labels"][FILES], two["services"]["db"]["labels"][FILES]);
    assert_eq!(one["services"]["agent"], two["services"]["agent"]);
    assert_eq!(one["services"]["agent"]["labels"].get(FILES), None);
}

#[test]
fn logs_are_rotated_unless_the_file_says_how() {
    let rotated = |logging: &str| {
        let text = format!(r#"{{"services":{{"web":{{"networks":{{}}{logging}}}}}}}"#);
        let (project, files) = (Project::read(&text).unwrap(), files());
        printed(&request(&project, &files))["services"]["web"]["logging"]["options"].clone()
    };
    let ours = json!({"max-size": "10m", "max-file": "3"});
    assert_eq!(rotated(""), ours);
    assert_eq!(rotated(r#","logging":{"driver":"json-file","options":{"tag":"x"}}"#), ours);
    assert_eq!(rotated(r#","logging":{"options":{"max-file":"9"}}"#), json!({"max-size": "10m"}));
    assert_eq!(rotated(r#","logging":{"driver":"json-file","options":{"max-size":"1g"}}"#), Value::Null);
    assert_eq!(rotated(r#","logging":{"driver":"journald"}"#), Value::Null);
}

#[test]
fn only_an_entry_that_says_nothing_of_it_is_restarted() {
    let restart = |web: &str| {
        let text = format!(r#"{{"services":{{"web":{{{web}}},"job":{{}}}}}}"#);
        let (project, files) = (Project::read(&text).unwrap(), files());
        let printed = printed(&request(&project, &files));
        assert_eq!(printed["services"]["job"].get("restart"), None);
        printed["services"]["web"].get("restart").cloned()
    };
    assert_eq!(restart(""), Some(json!("unless-stopped")));
    assert_eq!(restart(r#""restart":"no""#), None);
    assert_eq!(restart(r#""deploy":{"restart_policy":{"condition":"none"}}"#), None);
    assert_eq!(restart(r#""deploy":{"replicas":2}"#), Some(json!("unless-stopped")));
}

#[test]
fn nothing_we_write_is_expanded_by_compose() {
    let (project, files) = (Project::read(SHOP).unwrap(), files());
    let images = [("web".to_owned(), "shop:$TAG".to_owned())];
    let printed = printed(&Request { images: &images, ..request(&project, &files) });
    assert_eq!(printed["services"]["web"]["image"], "shop:$$TAG");
}

#[test]
fn images_and_variables_of_services_that_are_not_there_are_refused_together() {
    let (project, files) = (Project::read(SHOP).unwrap(), files());
    let images = [("web".to_owned(), "a".to_owned()), ("wbe".to_owned(), "b".to_owned())];
    let variables = [
        ("web".to_owned(), ["A".to_owned(), "COMPOSE_FILE".to_owned()].into()),
        ("cache".to_owned(), ["A-B".to_owned()].into()),
    ];
    let request = Request { images: &images, variables: variables.into(), ..request(&project, &files) };
    let refusals: Vec<String> = overlay(&request).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        refusals[0],
        "key `spec.images[1].service`: there is no service `wbe`, the file has `agent`, `db`, `web`: name one of them"
    );
    let starts: Vec<_> = refusals[1..].iter().map(|refusal| refusal.split(", ").next().unwrap()).collect();
    assert!(starts[0].contains("no service `cache`"), "{starts:?}");
    assert!(starts[1].contains("`A-B` cannot be set") && starts[2].contains("`COMPOSE_FILE` cannot"), "{starts:?}");
    assert_eq!(starts.len(), 3);
}

#[test]
fn an_alias_is_a_dns_label_of_one_app_and_revision() {
    let one = alias("shop/shop", &"r".repeat(47));
    assert_eq!(one.len(), 62);
    assert!(one.starts_with(RESERVED));
    assert_ne!(alias("shop/a", "r1"), alias("shop/b", "r1"));
    assert_ne!(alias("shop/a", "r1"), alias("shop/a", "r2"));
}

#[test]
fn an_apps_own_network_is_made_internal_and_with_the_subnet_given() {
    let arguments = create("roadstead-shop", "10.89.0.0/28".parse().unwrap(), "shop/shop").join(" ");
    assert_eq!(
        arguments,
        "network create --driver bridge --internal --subnet 10.89.0.0/28 --label roadstead.app=shop/shop roadstead-shop"
    );
}
