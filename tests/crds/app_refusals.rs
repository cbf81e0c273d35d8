//! What the API server refuses of an AppDeployment, and the exact words a person reads; and how large one may be.

use serde_json::{Value, json};

use super::kubectl::Kubectl;
use super::samples::{app, spec, with};

const NAME: &str =
    "write the name of an object of this namespace: a-z, 0-9, `-` and `.`, not starting or ending with `-` or `.`";
const VARIABLE: &str = "a variable's name has letters, digits and `_`, and starts with no digit";

/// A sample, what is changed in it, and what kubectl prints, one entry a cause.
pub fn rows() -> Vec<(Value, Value, Vec<String>)> {
    let mut rows = place_and_content();
    rows.extend(names_and_deploy());
    let rows = rows.into_iter();
    rows.map(|(patch, causes)| (app(), patch, causes.into_iter().collect())).collect()
}

type Row = (Value, [String; 1]);

fn at(field: &str, text: &str) -> [String; 1] {
    [format!("{field}: Invalid value: {text}")]
}

fn value(field: &str, value: &str, text: &str) -> [String; 1] {
    [format!("{field}: Invalid value: \"{value}\": {text}")]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn place_and_content() -> Vec<Row> {
    let long = |n: usize| "a".repeat(n);
    let target = "set exactly one of nodeRef, nodeSelector and environmentRef";
    let compose = "set `inline` or `configMapKeyRef`, and not both";
    let file = "set `configMapKeyRef` or `secretKeyRef`, and not both";
    let variable = "set exactly one of value, secretKeyRef and configMapKeyRef";
    let source = "set `secretRef` or `configMapRef`, and not both";
    let path = |bad: &str| {
        let text = "write a relative path of letters, digits, `.`, `_` and `-`, without `.` and `..` as parts, e.g. `nginx/site.conf`";
        (spec(json!({"compose": {"files": [one_file(bad)]}})), value("spec.compose.files[0].path", bad, text))
    };
    let image = |bad: &str| {
        let text = "write an image with its tag or digest, e.g. `ghcr.io/acme/shop:1.4.1`";
        (spec(json!({"images": [{"service": "web", "image": bad}]})), value("spec.images[0].image", bad, text))
    };
    let named = |bad: &str| {
        let row = json!({"env": [{"name": "A", "secretKeyRef": {"name": bad, "key": "k"}}]});
        (spec(row), value("spec.env[0].secretKeyRef.name", bad, NAME))
    };
    let env = |row: Value| spec(json!({"env": [row]}));
    vec![
        (
            json!({"metadata": {"name": long(49)}}),
            at(
                "<nil>",
                "metadata.name may have at most 48 characters, because the Compose project's name is made of it",
            ),
        ),
        (
            json!({"metadata": {"name": "my.app"}}),
            at("<nil>", "metadata.name must be a DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"),
        ),
        (
            json!({"metadata": {"name": "rs--app"}}),
            at("<nil>", "names starting with `rs--` are reserved: choose another"),
        ),
        (spec(json!({"target": null})), ["spec.target: Required value".into()]),
        (spec(json!({"target": {"nodeRef": null}})), at("spec.target", target)),
        (spec(json!({"target": {"environmentRef": {"name": "e"}}})), at("spec.target", target)),
        (spec(json!({"target": {"nodeSelector": {}}})), at("spec.target", target)),
        (spec(json!({"target": {"nodeRef": {"name": "Web_1"}}})), value("spec.target.nodeRef.name", "Web_1", NAME)),
        (spec(json!({"compose": null})), ["spec.compose: Required value".into()]),
        (spec(json!({"compose": {"inline": null}})), at("spec.compose", compose)),
        (spec(json!({"compose": {"configMapKeyRef": {"name": "c", "key": "k"}}})), at("spec.compose", compose)),
        path("/etc/passwd"),
        path("../up"),
        path("a/../../b"),
        path("./a"),
        path("a//b"),
        path("a/"),
        path("a b"),
        (spec(json!({"compose": {"files": [{"path": "a"}]}})), at("spec.compose.files[0]", file)),
        (
            spec(
                json!({"compose": {"files": [with(one_file("a"), &json!({"secretKeyRef": {"name": "s", "key": "k"}}))]}}),
            ),
            at("spec.compose.files[0]", file),
        ),
        (
            spec(json!({"compose": {"files": [one_file("a/b"), one_file("a")]}})),
            at(
                "spec.compose",
                "one of the files would have to be a directory, because another one's path leads through it: rename one of them",
            ),
        ),
        (
            spec(json!({"compose": {"files": [one_file("a"), one_file("a")]}})),
            [r#"spec.compose.files[1]: Duplicate value: {"path":"a"}"#.into()],
        ),
        (
            spec(json!({"compose": {"files": [with(one_file("a"), &json!({"configMapKeyRef": {"key": "a/b"}}))]}})),
            value("spec.compose.files[0].configMapKeyRef.key", "a/b", "a key has letters, digits, `.`, `_` and `-`"),
        ),
        image("a b"),
        image("-v"),
        image("https://ghcr.io/acme/shop"),
        image("ghcr.io/acme/"),
        named("../../shop/secrets/x"),
        named("A"),
        named("a/b"),
        named(".."),
        (env(json!({"name": "A"})), at("spec.env[0]", variable)),
        (
            env(json!({"name": "A", "value": "", "secretKeyRef": {"name": "s", "key": "k"}})),
            at("spec.env[0]", variable),
        ),
        (env(json!({"name": "1A", "value": ""})), value("spec.env[0].name", "1A", VARIABLE)),
        (env(json!({"name": "A-B", "value": ""})), value("spec.env[0].name", "A-B", VARIABLE)),
        (
            env(json!({"name": "COMPOSE_FILE", "value": ""})),
            value(
                "spec.env[0].name",
                "COMPOSE_FILE",
                "of the variables that steer Compose only COMPOSE_PROFILES is for the app to choose",
            ),
        ),
        (
            spec(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]})),
            [r#"spec.env[1]: Duplicate value: {"name":"A"}"#.into()],
        ),
        (spec(json!({"envFrom": [{}]})), at("spec.envFrom[0]", source)),
        (
            spec(json!({"envFrom": [{"secretRef": {"name": "s"}, "configMapRef": {"name": "c"}}]})),
            at("spec.envFrom[0]", source),
        ),
        (
            spec(json!({"envFrom": [{"prefix": "9", "secretRef": {"name": "s"}}]})),
            value("spec.envFrom[0].prefix", "9", VARIABLE),
        ),
        (
            spec(json!({"imagePullSecrets": (0..9).map(|n| json!({"name": format!("r{n}")})).collect::<Vec<_>>()})),
            ["spec.imagePullSecrets: Too many: 9: must have at most 8 items".into()],
        ),
    ]
}

fn one_file(path: &str) -> Value {
    json!({"path": path, "configMapKeyRef": {"name": "c", "key": "k"}})
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn names_and_deploy() -> Vec<Row> {
    let full = "write a full name in lower case without a dot at the end, e.g. `shop.example.com`";
    let domain = |bad: &str| {
        let patch = spec(json!({"domains": [{"name": bad}]}));
        (patch, value("spec.domains[0].name", bad, full))
    };
    let serving = |domain: Value| spec(json!({"domains": [{"name": "a.example.com"}, domain]}));
    let hour = "write a duration of at most an hour in hours, minutes and seconds, e.g. `10s` or `1m30s`";
    let day = "write a duration from a second to a day in hours, minutes and seconds, e.g. `90s` or `1h30m`";
    vec![
        domain("shop"),
        domain("Shop.example.com"),
        domain("shop.example.com."),
        domain("*.example.com"),
        domain("https://a.b"),
        (
            spec(json!({"domains": [{"name": "a.rs--b.example.com"}]})),
            value("spec.domains[0].name", "a.rs--b.example.com", "labels starting with `rs--` are reserved: choose another"),
        ),
        (
            serving(json!({"name": "b.example.com", "redirectTo": "b.example.com"})),
            at("spec.domains[1]", "a name cannot redirect to itself"),
        ),
        (
            spec(json!({"domains": [
                {"name": "a.example.com"}, {"name": "b.example.com", "redirectTo": "c.example.com"},
                {"name": "c.example.com", "redirectTo": "a.example.com"},
            ]})),
            at("spec", "a domain redirects to one that redirects itself: let redirectTo name the one that serves"),
        ),
        (
            serving(json!({"name": "b.example.com", "takeFrom": {"name": "x"}})),
            at(
                "<nil>",
                "takeFrom names this app itself: name the app that has the domain now, or leave takeFrom out",
            ),
        ),
        (
            serving(json!({"name": "b.example.com", "takeFrom": {"name": "blog/shop"}})),
            value("spec.domains[1].takeFrom.name", "blog/shop", NAME),
        ),
        (
            serving(json!({"name": "b.example.com", "redirectTo": "https://a.example.com"})),
            value("spec.domains[1].redirectTo", "https://a.example.com", full),
        ),
        (
            spec(json!({"domains": [{"name": "b.example.com", "redirectTo": "c.example.com"}]})),
            at("spec", "every one of the domains redirects: at least one has to serve the app"),
        ),
        (
            serving(json!({"name": "b.example.com", "publish": "Group", "proxied": true})),
            at(
                "spec.domains[1]",
                "`proxied` is for records that Roadstead publishes for the app: set it with `publish: Node` only",
            ),
        ),
        (
            serving(json!({"name": "b.example.com", "publish": "Everybody"})),
            [
                r#"spec.domains[1].publish: Unsupported value: "Everybody": supported values: "Node", "Group", "None""#
                    .into(),
            ],
        ),
        (
            spec(json!({"entry": {"port": 65_536}})),
            at("spec.entry.port", "65536: spec.entry.port in body should be less than or equal to 65535"),
        ),
        (
            spec(json!({"healthPath": "healthz"})),
            value(
                "spec.healthPath",
                "healthz",
                "a path starts with `/` and has no blanks; write others percent-encoded",
            ),
        ),
        (spec(json!({"healthTimeout": "0s"})), value("spec.healthTimeout", "0s", day)),
        (spec(json!({"healthTimeout": "25h"})), value("spec.healthTimeout", "25h", day)),
        (spec(json!({"startPeriod": "a while"})), value("spec.startPeriod", "a while", hour)),
        (spec(json!({"startPeriod": "2h"})), value("spec.startPeriod", "2h", hour)),
        (spec(json!({"strategy": {"drainTimeout": "61m"}})), value("spec.strategy.drainTimeout", "61m", hour)),
        (
            spec(json!({"strategy": {"type": "Canary"}})),
            [r#"spec.strategy.type: Unsupported value: "Canary": supported values: "BlueGreen", "Recreate""#.into()],
        ),
        (
            spec(json!({"entry": {"service": "web"}, "services": [{"name": "web", "update": "Never"}]})),
            at(
                "spec",
                "services is for those beside the entry, which is updated by the swap itself: leave the entry service out",
            ),
        ),
        (
            spec(json!({"services": [{"name": "db", "update": "Always"}]})),
            [
                r#"spec.services[0].update: Unsupported value: "Always": supported values: "Never", "BeforeSwap", "AfterSwap""#
                    .into(),
            ],
        ),
        (spec(json!({"preDeploy": {"service": "web"}})), ["spec.preDeploy.command: Required value".into()]),
        (
            spec(json!({"preDeploy": {"command": [""]}})),
            at("spec.preDeploy.command", "the first word is the program: it cannot be empty"),
        ),
        (
            spec(json!({"preDeploy": {"command": ["true"], "timeout": "48h"}})),
            value("spec.preDeploy.timeout", "48h", day),
        ),
        (
            spec(json!({"revisionHistoryLimit": 51})),
            at(
                "spec.revisionHistoryLimit",
                "51: spec.revisionHistoryLimit in body should be less than or equal to 50",
            ),
        ),
        (
            spec(json!({"network": "Host"})),
            [r#"spec.network: Unsupported value: "Host": supported values: "App", "Edge""#.into()],
        ),
        (
            spec(json!({"lifetime": "0s"})),
            value(
                "spec.lifetime",
                "0s",
                "write a duration above zero in hours, minutes and seconds, e.g. `72h`, `1h30m` or `90s`",
            ),
        ),
    ]
}

/// What is right, at the edges of each rule.
pub fn valid() -> Vec<(Value, Value)> {
    let patches = [
        json!({"metadata": {"name": "a".repeat(48)}}),
        spec(json!({"target": {"nodeRef": null, "nodeSelector": {"matchLabels": {"tier": "web"}}}})),
        spec(json!({"target": {"nodeRef": null, "environmentRef": {"name": "review-42"}}})),
        spec(json!({"compose": {"inline": null, "configMapKeyRef": {"name": "shop.files", "key": "compose.yaml"}}})),
        spec(json!({"compose": {"files": [one_file("a-b/.c"), one_file("..a/b..c"), one_file("a")]}})),
        spec(
            json!({"images": [{"service": "web", "image": "localhost:5000/a/b_c:1@sha256:00ff"}, {"service": "db", "image": "postgres"}]}),
        ),
        spec(json!({"env": [
            {"name": "COMPOSE_PROFILES", "value": "debug"}, {"name": "_a1", "value": ""},
            {"name": "B", "secretKeyRef": {"name": "s", "key": ".dockerconfigjson"}, "services": ["web", "job"]},
            {"name": "C", "configMapKeyRef": {"name": "s", "key": "K_e-y"}},
        ]})),
        spec(json!({"envFrom": [{"secretRef": {"name": "s"}}, {"prefix": "SMTP_", "configMapRef": {"name": "c"}}]})),
        spec(json!({"imagePullSecrets": [{"name": "registry"}], "rollOnSecretChange": false})),
        spec(json!({"domains": [
            {"name": "shop.example.com", "proxied": true},
            {"name": "www.example.com", "redirectTo": "shop.example.com"},
            {"name": "old.example.com", "redirectTo": "elsewhere.example.net", "publish": "None"},
            {"name": "xn--bcher-kva.example", "publish": "Group"},
            {"name": "taken.example.com", "takeFrom": {"name": "shop-2025"}},
        ]})),
        spec(json!({"entry": {"service": "api", "port": 65_535}, "services": [{"name": "db", "update": "Never"}]})),
        spec(json!({"healthPath": "/health?full=1", "healthTimeout": "1h30m", "startPeriod": "0s"})),
        spec(json!({"strategy": {"type": "Recreate", "drainTimeout": "1h", "sharedVolumes": true}, "network": "Edge"})),
        spec(json!({"preDeploy": {"service": "web", "command": ["./manage.py", "migrate", ""], "timeout": "24h"}})),
        spec(json!({"revisionHistoryLimit": 0, "suspend": true, "maintenance": true, "lifetime": "72h"})),
        spec(json!({"hostAccess": true, "acceptDataLoss": "web-1"})),
    ];
    patches.into_iter().map(|patch| (app(), patch)).collect()
}

/// Every list and every text is as long as it may be: the rules cost no more than the API server grants.
pub fn the_largest_app_is_admitted(kubectl: &Kubectl) {
    let text = |n: usize, length: usize| format!("{}{n:04}", "a".repeat(length - 4));
    // Labels of 63, so that the text as a whole is as long as a name may be.
    let name = |n: usize| format!("{}.{}", vec![text(n, 63); 3].join("."), "a".repeat(61));
    let key = json!({"name": text(0, 253), "key": text(0, 253)});
    let list = |n: usize, make: &dyn Fn(usize) -> Value| (0..n).map(make).collect::<Vec<Value>>();
    let patch = spec(json!({
        "compose": {
            "inline": "x".repeat(262_144),
            "files": list(64, &|n| json!({"path": text(n, 255), "secretKeyRef": key})),
        },
        "images": list(64, &|n| json!({"service": text(n, 128), "image": text(n, 512)})),
        "env": list(256, &|n| json!({"name": text(n, 128), "secretKeyRef": key, "services": list(4, &|n| json!(text(n, 128)))})),
        "envFrom": list(32, &|n| json!({"prefix": text(n, 64), "secretRef": {"name": text(n, 253)}})),
        "imagePullSecrets": list(8, &|n| json!({"name": text(n, 253)})),
        "domains": list(32, &|n| match n {
            31 => json!({"name": name(n), "takeFrom": {"name": text(n, 253)}}),
            n => json!({"name": name(n), "redirectTo": name(31), "takeFrom": {"name": text(n, 253)}}),
        }),
        "entry": {"service": "b".repeat(128)},
        "services": list(64, &|n| json!({"name": text(n, 128)})),
        "preDeploy": {"command": list(64, &|n| json!(text(n, 4096)))},
    }));
    let largest = with(app(), &patch);
    let create = |app: &Value| kubectl.feed(&["create", "--dry-run=server", "-f", "-"], &app.to_string());
    create(&largest).unwrap();
    let larger = with(app(), &spec(json!({"compose": {"inline": "x".repeat(262_145)}})));
    let refusal = create(&larger).expect_err("a text of more than 256 KiB is admitted");
    assert!(refusal.contains("spec.compose.inline: Too long: may not be more than 262144 bytes"), "{refusal}");
}
