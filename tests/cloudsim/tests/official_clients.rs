//! The official Python clients of Cloudflare and `DigitalOcean`, unmodified, take the simulator for the real thing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may say bluntly what they expect")]

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cloudsim::digitalocean::Settings;
use cloudsim::{Options, Sim};

const REQUIREMENTS: &str = include_str!("../checks/requirements.txt");

/// The interpreter of a virtual environment with the pinned clients below `target/python`.
///
/// Made once for each content of `requirements.txt`; a file lock keeps parallel test processes from making it twice.
fn python() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    REQUIREMENTS.hash(&mut hasher);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python");
    let environment = home.join(format!("{:016x}", hasher.finish()));
    let (interpreter, complete) = (environment.join("bin/python"), environment.join("complete"));
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join("lock")).unwrap();
    lock.lock().unwrap();
    if !complete.exists() {
        say(&format!("installing the official clients once, about a minute, into {}", environment.display()));
        if environment.exists() {
            fs::remove_dir_all(&environment).unwrap();
        }
        let base = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        step(
            Command::new(base).args(["-m", "venv"]).arg(&environment),
            "make a virtual environment (python3 with its venv module is needed; the variable PYTHON may name it)",
        );
        let requirements = environment.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS).unwrap();
        step(
            Command::new(&interpreter)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&requirements),
            "install the official clients",
        );
        File::create(&complete).unwrap();
    }
    interpreter
}

/// To the real stderr: what goes through `eprintln!` shows only after a failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "official clients: {text}");
}

fn step(command: &mut Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("could not {what}: {error}"));
    assert!(output.status.success(), "could not {what}:\n{}", text(&output));
}

fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

/// Runs one script against the simulator and fails with its output.
async fn check(name: &str, sim: &Sim) {
    let started = Instant::now();
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let run = tokio::process::Command::new(python)
        .arg("-B")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("checks").join(name))
        .arg(format!("http://{}", sim.http()))
        .env_remove("PYTHONPATH")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(3), run).await;
    let output = output.unwrap_or_else(|_| panic!("{name} did not end within three minutes")).unwrap();
    assert!(output.status.success(), "{name} failed:\n{}", text(&output));
    let last = text(&output).lines().last().unwrap_or_default().to_owned();
    say(&format!("{name}: {last} after {:.1} s", started.elapsed().as_secs_f64()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloudflare_client_works_against_the_simulator() {
    let sim = Sim::start(Options::default()).await.unwrap();
    check("check_cloudflare.py", &sim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloudflare_client_works_with_workers_against_the_simulator() {
    let sim = Sim::start(Options::default()).await.unwrap();
    check("check_workers.py", &sim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digitalocean_client_works_against_the_simulator() {
    let sim = Sim::start(Options::default()).await.unwrap();
    sim.digitalocean.set_settings(Settings {
        active_after_ms: 50,
        address_after_ms: 50,
        action_takes_ms: 50,
        delete_takes_ms: 50,
        ..Settings::default()
    });
    check("check_digitalocean.py", &sim).await;
}
