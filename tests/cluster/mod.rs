//! TEMPORARY
use std::io::Write;
use std::process::{Command, Stdio};

pub struct Cluster;
impl Cluster {
    pub fn start() -> Self {
        Self
    }
    pub fn install_definitions(&self) {
        self.kubectl(&["apply", "--server-side", "-f", &format!("{}/crds", env!("CARGO_MANIFEST_DIR"))]).unwrap();
        for crd in roadstead::api::definitions() {
            self.kubectl(&["wait", "--for=condition=Established", "crd", crd.metadata.name.as_deref().unwrap()])
                .unwrap();
        }
    }
    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        self.kubectl_with(args, "")
    }
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(format!("{}/target/controlplane/bin/kubectl", env!("CARGO_MANIFEST_DIR")))
            .arg("--kubeconfig")
            .arg(std::env::var("CP").unwrap())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        if out.status.success() { Ok(text(out.stdout)) } else { Err(text(out.stderr)) }
    }
}
impl Cluster {
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        std::env::var("CP").unwrap().into()
    }
}
