//! Files that may run: what is told of each, and that what is put over them changes what it should and nothing else.

use std::collections::BTreeSet;

use roadstead::api::names::Fqdn;
use roadstead::host::compose::overlay::{self, Ingress, Request};
use roadstead::host::compose::refuse::{self, Rules};
use roadstead::host::compose::strategy::{self, Kind};
use roadstead::host::compose::{Entry, Project, subnets};
use serde_json::{Value, json};

use crate::rig::{App, fixtures};

/// A shape and what is told of it.
struct Row {
    shape: &'static str,
    /// Service, port, domain and health path; empty if the labels name none.
    entry: (&'static str, u16, &'static str, &'static str),
    strategy: Kind,
    services: &'static str,
    /// The networks that want a subnet.
    wanting: &'static [&'static str],
}

const ROWS: &[Row] = &[
    row("anchors", ("web", 8080, "", ""), Kind::BlueGreen, "base web worker", &["default"]),
    row("conditions", ("web", 8080, "", ""), Kind::BlueGreen, "cache db migrate web", &["default"]),
    row("edge", ("web", 8080, "", ""), Kind::BlueGreen, "db web", &["default"]),
    row("env_files", ("web", 8080, "", ""), Kind::BlueGreen, "web worker", &["default"]),
    row("interpolation", ("web", 8088, "", ""), Kind::BlueGreen, "web", &["default"]),
    row("labels_list", ("frontend", 4000, "shop.example.com", ""), Kind::BlueGreen, "backend frontend", &["default"]),
    row("labels_map", ("app", 5000, "app.example.com", ""), Kind::BlueGreen, "app web", &["default"]),
    row("modern", ("web", 8080, "", ""), Kind::BlueGreen, "web", &["default"]),
    row("mounted_files", ("web", 80, "", ""), Kind::BlueGreen, "db plain web", &["default"]),
    row("networks", ("web", 8080, "", ""), Kind::BlueGreen, "batch db report sidecar web", &["back", "front"]),
    row("plain", ("web", 8080, "", ""), Kind::BlueGreen, "web", &["default"]),
    row("profiles", ("web", 8080, "", ""), Kind::BlueGreen, "web", &["default"]),
    row("ranges", ("web", 7000, "", ""), Kind::BlueGreen, "media web", &["default"]),
    row("secrets", ("web", 8080, "", ""), Kind::BlueGreen, "mailer web", &["default"]),
    row("stateful", ("web", 3000, "", ""), Kind::Recreate, "web", &["default"]),
    row("two_ports", ("api", 8080, "", "/livez"), Kind::Recreate, "api web", &["default"]),
];

const fn row(
    shape: &'static str,
    entry: (&'static str, u16, &'static str, &'static str),
    strategy: Kind,
    services: &'static str,
    wanting: &'static [&'static str],
) -> Row {
    Row { shape, entry, strategy, services, wanting }
}

fn judged(app: &App, project: &Project) -> Entry {
    let rules = Rules { files: app.files(), ..Rules::default() };
    refuse::check(project, &rules).unwrap_or_else(|refusals| panic!("{}", refuse::message(&refusals)))
}

#[test]
fn every_shape_is_read_from_what_compose_prints() {
    let listed: BTreeSet<String> = ROWS.iter().map(|row| row.shape.to_owned()).collect();
    assert_eq!(fixtures("shapes"), listed, "each shape has a row");
    for row in ROWS {
        let app = App::shape(row.shape);
        let project = app.project(None);
        let entry = judged(&app, &project);
        let domain = entry.domain.as_ref().map_or("", Fqdn::as_str);
        let told = (entry.service.as_str(), entry.port, domain, entry.health_path.as_deref().unwrap_or_default());
        assert_eq!(told, row.entry, "{}", row.shape);
        let strategy = strategy::choose(&project, &entry.service, strategy::Asked::default());
        assert_eq!(strategy.kind, row.strategy, "{}: {}", row.shape, strategy.message);
        let names: Vec<&str> = project.services.keys().map(String::as_str).collect();
        assert_eq!(names.join(" "), row.services, "{}", row.shape);
        assert_eq!(subnets::wanting(&project), row.wanting, "{}", row.shape);
    }
}

#[test]
fn what_is_put_over_a_shape_changes_what_it_should_and_nothing_else() {
    for row in ROWS {
        for ingress in [Ingress::App("roadstead-shop".into()), Ingress::Edge] {
            let app = App::shape(row.shape);
            let project = app.project(None);
            let pool = "10.89.0.0/16".parse().unwrap();
            let wanting = subnets::wanting(&project);
            let assigned = subnets::assign(&wanting, &[].into(), &[], pool, 28).unwrap();
            let files = app.files();
            let request = Request {
                project: &project,
                entry: row.entry.0,
                app: "shop/shop",
                revision: "r1",
                images: &[],
                variables: [].into(),
                ingress: ingress.clone(),
                subnets: assigned.clone(),
                files: &files,
                file_hashes: [].into(),
            };
            let put_over = overlay::overlay(&request).unwrap();
            let (before, mut after) = (app.json(None), app.json(Some(&put_over)));
            let context = format!("{} with {ingress:?}", row.shape);

            for (key, subnet) in &assigned {
                assert_eq!(after["networks"][key]["ipam"]["config"][0]["subnet"], subnet.to_string(), "{context}");
            }
            let key = ingress_key(&after, ingress.network());
            for (name, service) in after["services"].as_object_mut().unwrap() {
                let theirs = &before["services"][name];
                take_ours(service, theirs, &context);
                let expected =
                    name == row.entry.0 || (ingress == Ingress::Edge && theirs.get("network_mode").is_none());
                take_ingress(service, theirs, &key, expected, name == row.entry.0, &context);
                assert_eq!(service, theirs, "{context}: service {name}");
            }
            // Compose makes of it what it made of the user's file alone, so our own rules still take it, save that the
            // alias is of a kind no user may have.
            let merged = app.project(Some(&put_over));
            assert_eq!(merged.services.len(), project.services.len(), "{context}");
            assert_eq!(merged.volumes, project.volumes, "{context}");
            assert_eq!(merged.secrets, project.secrets, "{context}");
        }
    }
}

/// The key of the external network of this name.
fn ingress_key(json: &Value, name: &str) -> String {
    let networks = json["networks"].as_object().unwrap().iter();
    let mut named = networks.filter(|(_, network)| network["name"] == name && network["external"] == true);
    let key = named.next().unwrap().0.clone();
    assert!(named.next().is_none(), "the network {name} is there twice: {json}");
    key
}

/// Checks our labels, log rotation and restart policy, and takes them out.
fn take_ours(service: &mut Value, theirs: &Value, context: &str) {
    let labels = service["labels"].as_object_mut().unwrap();
    assert_eq!(labels.remove(overlay::APP), Some(json!("shop/shop")), "{context}");
    labels.remove(overlay::REVISION);
    labels.remove(overlay::FILES);
    let none_left = labels.is_empty();
    let service = service.as_object_mut().unwrap();
    if none_left {
        service.remove("labels");
    }
    assert_ne!(service["logging"]["options"].get("max-size"), None, "{context}: logs are bounded");
    if theirs.get("logging").is_none() {
        service.remove("logging");
    }
    if theirs.get("restart").is_none() && service.remove("restart").is_some() {
        assert!(theirs["deploy"].get("restart_policy").is_none(), "{context}");
    }
}

/// Checks that the service is on the ingress network if it should be, by its alias if it is the entry, and takes that
/// out.
fn take_ingress(service: &mut Value, theirs: &Value, key: &str, expected: bool, is_entry: bool, context: &str) {
    let Some(networks) = service.get_mut("networks").and_then(Value::as_object_mut) else {
        return assert!(!expected, "{context}: it has no networks");
    };
    let was_theirs = theirs["networks"].get(key).is_some();
    assert_eq!(networks.contains_key(key), expected || was_theirs, "{context}");
    if is_entry {
        let aliases = networks[key]["aliases"].as_array_mut().unwrap();
        assert_eq!(aliases.pop(), Some(json!(overlay::alias("shop/shop", "r1"))), "{context}");
    }
    if !was_theirs {
        networks.remove(key);
    }
}

#[test]
fn a_profile_that_is_chosen_brings_its_services_and_their_labels() {
    let mut app = App::shape("profiles");
    app.values.insert("COMPOSE_PROFILES".into(), "preview,debug".into());
    let project = app.project(None);
    assert_eq!(project.names(), "`preview`, `shell`, `web`");
    let refusals = refuse::check(&project, &Rules::default()).unwrap_err();
    assert_eq!(refusals.iter().map(refuse::Refusal::reason).collect::<Vec<_>>(), ["EntryAmbiguous"]);
}
