//! What we put over a user's file, as docker-compose merges it.

use std::collections::{BTreeMap, BTreeSet};

use roadstead::host::compose::changes::{self, Change, Known};
use roadstead::host::compose::mounts::Files;
use roadstead::host::compose::overlay::{self, Ingress, Overlay, Request};
use roadstead::host::compose::{Project, subnets};
use serde_json::{Value, json};

use crate::rig::App;

/// What is put over an app whose entry is `web`.
fn over(app: &App, images: &[(String, String)], adjust: impl FnOnce(&mut Request<'_>)) -> Overlay {
    let (project, files) = (app.project(None), app.files());
    let mut request = Request { images, ..request(&project, &files) };
    adjust(&mut request);
    overlay::overlay(&request).unwrap()
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
        file_hashes: BTreeMap::new(),
    }
}

#[test]
fn an_image_takes_the_place_of_the_users_and_a_revision_has_its_own_upstream() {
    let app = App::shape("conditions");
    let images = [("web".to_owned(), "ghcr.io/acme/shop@sha256:$aa".to_owned())];
    let merged = app.json(Some(&over(&app, &images, |_| ())));
    let web = &merged["services"]["web"];
    // Compose escapes a dollar in what it prints.
    assert_eq!(web["image"], "ghcr.io/acme/shop@sha256:$$aa");
    assert_eq!(merged["services"]["migrate"]["image"], "ghcr.io/acme/shop:1.4.1");
    let alias = overlay::alias("shop/shop", "r1");
    assert_eq!(web["networks"], json!({"default": null, "roadstead": {"aliases": [alias]}}));
    assert_eq!(merged["networks"]["roadstead"], json!({"name": "roadstead-shop", "external": true, "ipam": {}}));
    assert_eq!((&web["labels"][overlay::APP], &web["labels"][overlay::REVISION]), (&json!("shop/shop"), &json!("r1")));
    assert_eq!(merged["services"]["db"]["labels"], json!({overlay::APP: "shop/shop"}));
    assert_eq!(web["logging"], json!({"driver": "json-file", "options": {"max-file": "3", "max-size": "10m"}}));
}

#[test]
fn an_alias_comes_to_those_the_user_has_on_the_same_network() {
    let app = App::shape("edge");
    let merged = app.json(Some(&over(&app, &[], |request| request.ingress = Ingress::Edge)));
    let services = &merged["services"];
    let alias = overlay::alias("shop/shop", "r1");
    assert_eq!(services["web"]["networks"], json!({"default": null, "edge": {"aliases": ["shop", alias]}}));
    assert_eq!(services["db"]["networks"], json!({"default": null, "edge": null}));
}

#[test]
fn networks_of_compose_get_the_subnets_assigned_and_keep_what_else_the_user_says() {
    let app = App::shape("networks");
    let project = app.project(None);
    let pool = "10.89.4.0/22".parse().unwrap();
    let assigned = subnets::assign(&subnets::wanting(&project), &BTreeMap::new(), &[], pool, 28).unwrap();
    let merged = app.json(Some(&over(&app, &[], |request| request.subnets = assigned)));
    let networks = &merged["networks"];
    assert_eq!(
        networks["back"],
        json!({"name": "shop_back", "internal": true, "ipam": {"config": [{"subnet": "10.89.4.0/28"}]}})
    );
    assert_eq!(networks["front"]["ipam"]["config"], json!([{"subnet": "10.89.4.16/28"}]));
    assert_eq!(networks["lan"]["ipam"]["config"], json!([{"subnet": "10.77.0.0/24"}]));
}

#[test]
fn values_of_variables_arrive_as_they_are_and_are_in_no_file_but_their_own() {
    let values = [
        ("PLAIN", "value"),
        ("EMPTY", ""),
        ("SPACES", "  two  words\t"),
        ("DOLLARS", "pa$word $HOME ${HOME} $$ $"),
        ("QUOTES", r#"it's "quoted" `here`"#),
        ("BACKSLASHES", r"C:\new\table \\ \$ \"),
        ("LINES", "one\ntwo\r\n\nthree\n"),
        ("HASH", "# not a comment"),
        ("JSON", r#"{"a": ["b=c", null]}"#),
        ("UNICODE", "grüße 🚢"),
        ("ASSIGNMENT", "A=B"),
        ("EXPORT", "export X"),
    ];
    let mut app = App::of(b"services: {web: {image: a, environment: {PLAIN: theirs, OTHER: '1'}}, db: {image: b}}");
    app.values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    app.values.insert("NOT_FOR_WEB".into(), "secret".into());
    let names: BTreeSet<String> = values.map(|(name, _)| name.to_owned()).into();
    let put_over = over(&app, &[], |request| request.variables = [("web".to_owned(), names)].into());
    let merged = app.json(Some(&put_over));
    let mut expected: BTreeMap<&str, Value> =
        values.iter().map(|(name, value)| (*name, value.replace('$', "$$").into())).collect();
    expected.insert("OTHER", "1".into());
    assert_eq!(merged["services"]["web"]["environment"], json!(expected));
    assert_eq!(merged["services"]["db"].get("environment"), None);
    let written = put_over.to_file().unwrap();
    assert!(!written.contains("secret") && !written.contains("word"), "{written}");
}

/// Every Compose file may ask for a variable of the app's, by any of its forms.
#[test]
fn values_of_variables_are_what_the_users_file_asks_for() {
    let mut app = App::of(b"services: {web: {image: 'shop:${TAG:?}', command: ['${A}', '$B', '${C:-none}']}}");
    app.values = [("TAG", "1"), ("A", "a$b"), ("B", "'")].map(|(name, value)| (name.into(), value.into())).into();
    let web = &app.json(None)["services"]["web"];
    assert_eq!((&web["image"], &web["command"]), (&json!("shop:1"), &json!(["a$$b", "'", "none"])));
}

fn known<'a>(wanted: &str, running: &str) -> Known<'a> {
    let (wanted, running) = (changes::hashes(wanted), changes::hashes(running));
    Known { entry: "web", previous_entry: Some("web"), wanted, running, updates: BTreeMap::new() }
}

#[test]
fn a_new_revision_of_the_entry_touches_no_other_service() {
    let app = App::shape("mounted_files");
    let project = app.project(None);
    let first = app.hashes(&over(&app, &[], |_| ()));
    assert_eq!(changes::hashes(&first).len(), 3, "{first}");
    let images = [("web".to_owned(), "nginx:next".to_owned())];
    let second = app.hashes(&over(&app, &images, |request| request.revision = "r2"));
    let (one, two) = (changes::hashes(&first), changes::hashes(&second));
    assert_ne!(one["web"], two["web"]);
    assert_eq!(changes::plan(&project, &known(&second, &first)), changes::Changes::default());
}

#[test]
fn a_service_is_made_anew_when_its_image_or_a_file_it_mounts_changes() {
    let app = App::shape("mounted_files");
    let project = app.project(None);
    let hashed = |content: &str, image: Option<&str>| {
        let images: Vec<_> = image.map(|image| ("plain".to_owned(), image.to_owned())).into_iter().collect();
        app.hashes(&over(&app, &images, |request| {
            request.file_hashes = [("db/init.sql".to_owned(), content.to_owned())].into();
        }))
    };
    let step = |name: &str| vec![(name.to_owned(), Change::Changed)];
    let before = hashed("1", None);
    assert_eq!(changes::plan(&project, &known(&hashed("2", None), &before)).before, step("db"));
    assert_eq!(changes::plan(&project, &known(&hashed("1", Some("plain:2")), &before)).before, step("plain"));
}

#[test]
fn what_a_first_deploy_starts_is_in_the_order_of_its_dependencies() {
    let app = App::shape("conditions");
    let project = app.project(None);
    let mut known = known(&app.hashes(&over(&app, &[], |_| ())), "");
    known.previous_entry = None;
    let before = changes::plan(&project, &known).before;
    let names: Vec<_> = before.iter().map(|(name, change)| (name.as_str(), *change)).collect();
    assert_eq!(names, [("cache", Change::New), ("db", Change::New), ("migrate", Change::New)]);
}
