//! An app's directory as it lies on a host, and docker-compose at work in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use roadstead::host::compose::mounts::Files;
use roadstead::host::compose::overlay::Overlay;
use roadstead::host::compose::{Project, complaint, variables};
use serde_json::Value;
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/compose");

/// The pinned docker-compose, installed if it is not there.
fn docker_compose() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = Command::new(root.join("tests/tools/compose/build.sh")).status().unwrap();
        assert!(installed.success(), "tests/tools/compose/build.sh failed: {installed}");
        root.join("target/tools/docker-compose")
    })
}

/// The names of the fixtures of a kind.
pub fn fixtures(kind: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(FIXTURES).join(kind)).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap().trim_end_matches(".yaml").to_owned()).collect()
}

/// An app's directory: `compose.yaml`, `override.yaml`, `env`, and `files` with what the app brings.
pub struct App {
    directory: TempDir,
    user: Vec<u8>,
    /// The values of its variables.
    pub values: BTreeMap<String, String>,
}

impl App {
    /// A fixture of `shapes`, with its files and variables.
    pub fn shape(name: &str) -> Self {
        let source = Path::new(FIXTURES).join("shapes").join(name);
        let app = Self::of(&fs::read(source.join("compose.yaml")).unwrap());
        if source.join("files").exists() {
            copy(&source.join("files"), &app.path("files"));
        }
        let values = fs::read_to_string(source.join("env")).unwrap_or_default();
        let values = values.lines().map(|line| line.split_once('=').unwrap());
        Self { values: values.map(|(name, value)| (name.into(), value.into())).collect(), ..app }
    }

    /// A fixture of `refused`, which is a Compose file alone.
    pub fn refused(name: &str) -> Self {
        Self::of(&fs::read(Path::new(FIXTURES).join("refused").join(format!("{name}.yaml"))).unwrap())
    }

    /// An app of this Compose file.
    pub fn of(user: &[u8]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("files")).unwrap();
        fs::write(directory.path().join("compose.yaml"), user).unwrap();
        Self { directory, user: user.to_owned(), values: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The absolute path of its directory.
    pub fn directory(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// The files it brings.
    pub fn files(&self) -> Files {
        let root = self.path("files");
        let mut paths = BTreeSet::new();
        walk(&root, &mut |file: &Path| {
            paths.insert(file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        });
        Files { directory: root.to_str().unwrap().to_owned(), paths }
    }

    /// `docker compose config` with these arguments, as it is called on a host; the overlay, if there is one, merged.
    pub fn config(&self, overlay: Option<&Overlay>, arguments: &[&str]) -> Output {
        fs::write(self.path("env"), variables::file(&self.values)).unwrap();
        let mut command = Command::new(docker_compose());
        // Nothing of this machine's environment may decide anything.
        command.env_clear().env("HOME", self.directory.path());
        command.args(["--project-name", "shop", "--project-directory"]).arg(self.path("files"));
        command.arg("--env-file").arg(self.path("env")).arg("-f").arg(self.path("compose.yaml"));
        if let Some(overlay) = overlay {
            fs::write(self.path("override.yaml"), overlay.to_file().unwrap()).unwrap();
            command.arg("-f").arg(self.path("override.yaml"));
        }
        let output = command.arg("config").args(arguments).output().unwrap();
        assert_eq!(fs::read(self.path("compose.yaml")).unwrap(), self.user, "the user's file was changed");
        output
    }

    /// The canonical form as JSON.
    pub fn json(&self, overlay: Option<&Overlay>) -> Value {
        serde_json::from_slice(&self.printed(overlay, &["--format", "json"])).unwrap()
    }

    /// The canonical form.
    pub fn project(&self, overlay: Option<&Overlay>) -> Project {
        let printed = self.printed(overlay, &["--format", "json"]);
        Project::read(std::str::from_utf8(&printed).unwrap()).unwrap()
    }

    /// The hash of each service's configuration, as Compose prints them.
    pub fn hashes(&self, overlay: &Overlay) -> String {
        String::from_utf8(self.printed(Some(overlay), &["--hash", "*"])).unwrap()
    }

    fn printed(&self, overlay: Option<&Overlay>, arguments: &[&str]) -> Vec<u8> {
        let output = self.config(overlay, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}", complaint::refusal(&said, self.directory()));
        output.stdout
    }
}

fn copy(from: &Path, to: &Path) {
    walk(from, &mut |file: &Path| {
        let copy = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    });
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}
