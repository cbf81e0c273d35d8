//! What an object comes to, from objects that are given.

use bytes::Bytes;
use serde_json::{Value, json};

use super::objects::Object;
use super::*;
use crate::host::app::Spec;

fn app(spec: &Value) -> AppDeployment {
    let mut whole = json!({
        "target": {"nodeRef": {"name": "web-1"}},
        "compose": {"inline": "services: {web: {image: shop}}"},
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "AppDeployment",
        "metadata": {"name": "shop", "namespace": "shop", "uid": "u1"}, "spec": whole,
    }))
    .unwrap()
}

fn with_annotation(mut app: AppDeployment, name: &str, value: &str) -> AppDeployment {
    app.annotations_mut().insert(name.into(), value.into());
    app
}

fn objects(version: &str) -> Objects {
    let object = |type_: Option<&str>, data: &[(&str, &str)]| Object {
        version: version.into(),
        type_: type_.map(String::from),
        data: data.iter().map(|(key, value)| ((*key).to_owned(), Bytes::from((*value).to_owned()))).collect(),
    };
    let config = r#"{"auths": {"r.example": {"username": "ci", "password": "hunter4"}}}"#;
    Objects::of(
        "shop",
        [
            (Kind::Secret, "db", object(None, &[("password", "hunter2"), ("pem", "hunter3\nline")])),
            (Kind::Secret, "pull", object(Some("kubernetes.io/dockerconfigjson"), &[(".dockerconfigjson", config)])),
            (Kind::ConfigMap, "files", object(None, &[("compose", "services: {}"), ("long", &"x".repeat(262_145))])),
        ],
    )
}

/// What `read` does with what it has read.
fn material(app: &AppDeployment, objects: &Objects) -> Result<Material, Fault> {
    let mut recipe = Recipe::of(&app.spec, String::new(), restart(app));
    recipe.compose = compose_text(&app.spec.compose, objects)?;
    let name = recipe.name(&objects.versions(), app.spec.roll_on_secret_change)?;
    assemble(app, name, recipe, objects)
}

fn whole() -> Value {
    json!({
        "images": [{"service": "web", "image": "shop:2"}],
        "env": [
            {"name": "PASSWORD", "secretKeyRef": {"name": "db", "key": "password"}, "services": ["web", "db"]},
            {"name": "GREETING", "value": "hello"},
        ],
        "compose": {
            "inline": "services: {web: {image: shop}}",
            "files": [{"path": "key.pem", "secretKeyRef": {"name": "db", "key": "pem"}}],
        },
        "imagePullSecrets": [{"name": "pull"}],
        "entry": {"service": "web", "port": 8080},
        "healthPath": "/healthz",
        "healthTimeout": "1m30s",
        "startPeriod": "0s",
        "strategy": {"type": "Recreate", "drainTimeout": "45s", "sharedVolumes": true},
        "services": [{"name": "db", "update": "Never"}, {"name": "job", "update": "AfterSwap"}],
        "preDeploy": {"command": ["migrate"], "timeout": "2m"},
        "revisionHistoryLimit": 7,
        "network": "Edge",
        "hostAccess": true,
    })
}

fn around() -> Around {
    Around { health_path: "/".into(), host_access: true, external_timeout: std::time::Duration::from_mins(3) }
}

fn spec(app: &AppDeployment) -> Spec {
    material(app, &objects("1")).unwrap().spec(app, &around())
}

#[test]
fn an_object_comes_to_what_it_says_with_the_values_of_what_it_names() {
    let app = app(&whole());
    let spec = spec(&app);
    assert_eq!(spec.images, [("web".to_owned(), "shop:2".to_owned())]);
    let values = [("GREETING", "hello"), ("PASSWORD", "hunter2")];
    assert_eq!(spec.values, values.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_eq!(spec.only, [("PASSWORD".to_owned(), ["db", "web"].map(String::from).into())].into());
    assert_eq!(spec.files, [("key.pem".to_owned(), Bytes::from("hunter3\nline"))].into());
    assert_eq!((spec.entry.service.as_deref(), spec.entry.port), (Some("web"), Some(8080)));
    assert!(spec.host_access.missing().is_none() && spec.edge && spec.strategy.shared_volumes);
    assert_eq!(spec.strategy.kind, Some(crate::host::compose::strategy::Kind::Recreate));
    let times = (spec.start_period, spec.health_timeout, spec.external_timeout, spec.drain, spec.history);
    assert_eq!(times, (0, 90, 180, 45, 7));
    let update = |name: &str| spec.updates[name];
    use crate::host::compose::changes::Update;
    assert_eq!((update("db"), update("job")), (Update::Never, Update::AfterSwap));
    let pre = spec.pre_deploy.unwrap();
    assert_eq!((pre.service.as_str(), pre.command, pre.timeout), ("", vec!["migrate".to_owned()], 120));
    assert_eq!((spec.health_path.as_deref(), spec.default_health_path.as_str()), (Some("/healthz"), "/"));
}

#[test]
fn no_value_of_a_secret_is_printed_and_every_one_is_known_for_masking() {
    let app = app(&whole());
    let material = material(&app, &objects("1")).unwrap();
    for text in [format!("{material:?}"), format!("{:?}", material.registries()), format!("{:?}", spec(&app))] {
        assert!(!text.contains("hunter"), "{text}");
    }
    assert_eq!(material.secrets(), ["hunter2", "hunter3\nline", "hunter4"]);
}

#[test]
fn the_revision_is_another_one_exactly_when_something_else_runs_or_a_restart_is_asked_for() {
    let name =
        |app: &AppDeployment, version: &str| material(app, &objects(version)).unwrap().revision_name().to_owned();
    let app = app(&whole());
    let first = name(&app, "1");
    assert_eq!((first.len(), &name(&app, "1")), (10, &first));
    let changed = |change: &dyn Fn(&mut AppDeployment)| {
        let mut app = app.clone();
        change(&mut app);
        name(&app, "1")
    };
    let others = [
        name(&app, "2"),
        changed(&|app| app.spec.compose.inline = Some("services: {}".into())),
        changed(&|app| app.spec.images[0].image = "shop:3".into()),
        changed(&|app| app.spec.env[1].value = Some("bye".into())),
        changed(&|app| app.spec.env[0].services = vec!["web".into()]),
        changed(&|app| app.spec.compose.files[0].path = "other.pem".into()),
        changed(&|app| app.spec.entry.port = Some(80)),
        changed(&|app| app.spec.network = crate::api::app_deployment::Network::App),
        changed(&|app| *app = with_annotation(app.clone(), RESTART, "1")),
        changed(&|app| *app = with_annotation(app.clone(), RESTART, "2")),
    ];
    let different: BTreeSet<&String> = others.iter().chain([&first]).collect();
    assert_eq!(different.len(), others.len() + 1, "{others:?}");
    let same = [
        changed(&|app| app.spec.suspend = true),
        changed(&|app| app.spec.maintenance = true),
        changed(&|app| app.spec.health_timeout = "5m".into()),
        changed(&|app| app.spec.revision_history_limit = 1),
        changed(&|app| *app = with_annotation(app.clone(), RESTART, " ")),
        changed(&|app| *app = with_annotation(app.clone(), ROLLBACK, "0123456789")),
    ];
    assert!(same.iter().all(|name| *name == first), "{same:?}");
}

#[test]
fn a_changed_secret_is_no_new_revision_where_that_is_not_wanted_but_a_cause_to_try_again() {
    let mut app = app(&whole());
    app.spec.roll_on_secret_change = false;
    let of = |version: &str| material(&app, &objects(version)).unwrap();
    assert_eq!(of("1").revision_name(), of("2").revision_name());
    assert_ne!(of("1").spec(&app, &around()).cause, of("2").spec(&app, &around()).cause);
}

#[test]
fn a_revision_that_failed_is_tried_again_for_what_may_mend_it_and_for_nothing_else() {
    let app = app(&whole());
    let cause = spec(&app).cause;
    let changed = |change: &dyn Fn(&mut AppDeployment)| {
        let mut app = app.clone();
        change(&mut app);
        spec(&app).cause
    };
    for cause_again in [
        changed(&|app| app.spec.suspend = true),
        changed(&|app| app.spec.maintenance = true),
        changed(&|app| app.spec.revision_history_limit = 1),
        changed(&|app| app.metadata.generation = Some(7)),
        changed(&|app| app.metadata.resource_version = Some("7".into())),
        changed(&|app| *app = with_annotation(app.clone(), "example.com/other", "x")),
    ] {
        assert_eq!(cause_again, cause);
    }
    for other in [
        changed(&|app| app.spec.health_timeout = "5m".into()),
        changed(&|app| app.spec.pre_deploy = None),
        changed(&|app| *app = with_annotation(app.clone(), RESTART, "x")),
        changed(&|app| *app = with_annotation(app.clone(), ROLLBACK, "x")),
        material(&app, &objects("2")).unwrap().spec(&app, &around()).cause,
    ] {
        assert_ne!(other, cause);
    }
}

#[test]
fn images_that_are_known_by_digest_are_in_place_of_those_that_were_asked_for() {
    let app = app(&json!({"images": [{"service": "web", "image": "shop:2"}, {"service": "job", "image": "job:1"}]}));
    let material = material(&app, &objects("1")).unwrap();
    let name = material.revision_name().to_owned();
    let pinned = [("web", "shop@sha256:11"), ("db", "postgres@sha256:22")];
    let pinned = pinned.map(|(service, image)| (service.to_owned(), image.to_owned())).into();
    let spec = material.with_images(&pinned).spec(&app, &around());
    let mut images = spec.images;
    images.sort();
    let expected = [("db", "postgres@sha256:22"), ("job", "job:1"), ("web", "shop@sha256:11")];
    assert_eq!(images, expected.map(|(service, image)| (service.to_owned(), image.to_owned())));
    assert_eq!(spec.revision, name);
}

#[test]
fn the_compose_file_of_a_config_map_is_its_text_within_the_limit() {
    let of = |key: &str| {
        material(&app(&json!({"compose": {"configMapKeyRef": {"name": "files", "key": key}}})), &objects("1"))
    };
    let hash = revision::compose_hash("services: {}");
    assert_eq!(of("compose").unwrap().compose_hash(), hash);
    let Err(Fault::Waiting { reason: "ConfigMapKeyMissing", message, .. }) = of("other") else { panic!("found") };
    assert!(message.starts_with("spec.compose.configMapKeyRef: ConfigMap shop/files has no key `other`"), "{message}");
    let Err(Fault::Terminal { reason: "ComposeTooLong", message }) = of("long") else { panic!("admitted") };
    assert!(message.contains("key `long` of ConfigMap shop/files has more than 256 KiB"), "{message}");
}

#[test]
fn what_a_newer_definition_may_admit_is_no_guess() {
    for spec in [
        json!({"compose": {}}),
        json!({"env": [{"name": "A"}]}),
        json!({"envFrom": [{}]}),
        json!({"compose": {"inline": "services: {}", "files": [{"path": "a"}]}}),
    ] {
        let app = app(&spec);
        let Err(Fault::Terminal { reason: "UnknownValue", .. }) = material(&app, &objects("1")) else {
            panic!("{spec} is understood")
        };
    }
}
