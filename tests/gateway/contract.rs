//! `/openapi.json` lists every route, and whatever it says is true: schemathesis tries to prove the contrary.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use crate::world::World;

const REQUIREMENTS: &str = include_str!("requirements.txt");

#[tokio::test]
async fn the_document_lists_every_route_with_what_it_asks_for_and_how_it_refuses() {
    let world = World::new().await;
    let served = world.get("/openapi.json", None).await;
    assert_eq!((served.status, served.headers["content-type"].to_str().unwrap()), (200, "application/json"));
    let document = served.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let security = match operation["security"].as_array() {
                None => "nobody",
                Some(schemes) if schemes.iter().any(|scheme| scheme.get("key").is_some()) => "key",
                Some(_) => "token or nobody",
            };
            assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                let refusal = status.starts_with(['4', '5']);
                assert_eq!(refusal, *schema == json!("#/components/schemas/ErrorBody"), "{method} {path} {status}");
            }
            routes.push(format!("{} {path} {security}", method.to_uppercase()));
        }
    }
    routes.sort();
    assert_eq!(
        routes,
        [
            "DELETE /api/groups/{slug} key",
            "DELETE /api/groups/{slug}/servers/{address} key",
            "GET /api/groups key",
            "GET /api/groups/{slug}/history key",
            "GET /dns/{slug} nobody",
            "GET /setup nobody",
            "POST /api/groups key",
            "POST /api/keys/rotate key",
            "POST /api/report key",
            "POST /api/users/create token or nobody",
        ]
    );
    // Fields that nobody knows are refused, and the document says so.
    for body in ["NewUser", "NewGroup", "NewReport", "Rotation"] {
        assert_eq!(document["components"]["schemas"][body]["additionalProperties"], json!(false), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let tool = schemathesis().await;
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    assert_eq!(world.report(&key, &slug, "192.168.1.100", "healthy").await.status, 200);
    // An exchange may end the key that everything else is tried with, so it is tried by itself. Which texts are addresses
    // no pattern says exactly, so where one is asked for, not all that fits the document is accepted.
    let all_but_exchanges = "--exclude-path /api/keys/rotate --checks all --exclude-checks positive_data_acceptance";
    let accepted = "--exclude-path-regex rotate|report|servers --checks positive_data_acceptance";
    let exchanges = "--include-path /api/keys/rotate --checks all";
    for only in [all_but_exchanges, accepted, exchanges] {
        let run = Command::new(&tool)
            .args(["run", &format!("{}/openapi.json", world.url), "--header", &format!("Authorization: Bearer {key}")])
            .args(only.split(' '))
            .args(["--max-examples", "40", "--generation-deterministic"])
            .args(["--no-color", "--suppress-health-check", "all", "--warnings", "off"])
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .env_remove("PYTHONPATH")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_mins(4), run).await;
        let output = output.unwrap_or_else(|_| panic!("schemathesis did not end within four minutes")).unwrap();
        assert!(output.status.success(), "schemathesis found something:\n{}", text(&output));
        let summary: Vec<String> = text(&output)
            .lines()
            .filter(|line| line.contains("passed") || line.contains("generated"))
            .map(str::to_owned)
            .collect();
        say(&summary.join("; "));
    }
}

/// The tool, in a virtual environment below `target/python` that is made once for each content of `requirements.txt`. A
/// file lock keeps parallel test processes from making it twice.
async fn schemathesis() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python");
    let version: String = REQUIREMENTS.lines().filter(|line| !line.starts_with('#')).collect();
    let environment = home.join(version.replace("==", "-"));
    let (python, complete) = (environment.join("bin/python"), environment.join("complete"));
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join("lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    if !complete.exists() {
        say(&format!("installing it once, about a minute, into {}", environment.display()));
        if environment.exists() {
            fs::remove_dir_all(&environment).unwrap();
        }
        let base = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        step(
            Command::new(base).args(["-m", "venv"]).arg(&environment),
            "make a virtual environment (python3 with its venv module is needed; the variable PYTHON may name it)",
        )
        .await;
        let requirements = environment.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS).unwrap();
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        step(Command::new(&python).args(pip).arg(&requirements), "install schemathesis").await;
        File::create(&complete).unwrap();
    }
    drop(lock);
    environment.join("bin/schemathesis")
}

async fn step(command: &mut Command, what: &str) {
    let output = command.output().await.unwrap_or_else(|error| panic!("could not {what}: {error}"));
    assert!(output.status.success(), "could not {what}:\n{}", text(&output));
}

fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

/// To the real stderr: what goes through `eprintln!` shows only after a failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "schemathesis: {text}");
}
