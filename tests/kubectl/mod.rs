//! kubectl as a person uses it: manifests on standard input, and what the terminal shows.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::{ControlPlane, repository};

/// kubectl as the administrator of one control plane.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// For that control plane, with the kubectl that was built for it.
    pub fn of(control_plane: &ControlPlane) -> Self {
        let built = repository().join("target/controlplane/bin/kubectl");
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| PathBuf::from(dir).join("kubectl"));
        let program = assets.filter(|path| path.exists()).unwrap_or(built);
        Self { program, kubeconfig: control_plane.kubeconfig().to_owned() }
    }

    /// What kubectl prints, or as the error what it says when it fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        self.feed(arguments, "")
    }

    /// [`Kubectl::run`] with something to read.
    pub fn feed(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        // A kubectl that refuses its arguments does not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Waits until the API server serves every definition.
    pub fn await_definitions(&self) {
        for crd in roadstead::api::definitions() {
            let name = crd.metadata.name.unwrap();
            self.run(&["wait", "--timeout=30s", "--for=condition=Established", "crd", &name]).unwrap();
        }
    }
}
