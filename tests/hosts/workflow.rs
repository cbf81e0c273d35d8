//! What the README says under "Hosts and apps", as it stands there.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::rig::Rig;
use crate::world::ZONE;

/// The commands of the section, one after the other.
fn commands() -> String {
    let readme = std::fs::read_to_string(support::repository().join("README.md")).unwrap();
    let section = readme.split("\n## Hosts and apps\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("")
}

/// A shell in which names lead where they would for the world, and the rig's ACME server is one that browsers trust.
const PRELUDE: &str = r#"set -euo pipefail
kubectl() { "$KUBECTL" "$@"; }
curl() {
  local address
  address=$(kubectl -n shop get rnode web-1 -o 'jsonpath={.status.addresses.public4}')
  command curl -sS --noproxy '*' --cacert "$ROOT" --resolve "web-1.example.com:443:$address" "$@"
}
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_node_an_app_and_a_load_balancer_come_of_the_readme_s_own_words() {
    let rig = Rig::start().await;
    let cluster = &rig.world.cluster;
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").await;
    let permissions = ["zone:read", "dns:write", "workers:write", "workers_routes:write"];
    let token = json!({"value": "cloudflare-token", "permissions": permissions});
    rig.world.sim.cloudflare.put_token(serde_json::from_value(token).unwrap());
    let workers = json!({"tokenSecretRef": {"name": "cloudflare"}, "allowedNamespaces": {"from": "All"}});
    let change = json!({"spec": {"cloudflare": {"workers": workers}}});
    cluster.patch(ZONE, None, "example-com", &change).await;

    let script = commands();
    for part in ["kind: Node", "kind: AppDeployment", "kind: ServerGroup", "ghcr.io/acme/shop:1.4.1", "curl https://"] {
        assert!(script.contains(part), "the README's commands have no {part}: {script}");
    }
    let script = script.replace("ghcr.io/acme/shop:1.4.1", &rig.web("v1").await);
    let here = tempfile::tempdir().unwrap();
    let mut shell = tokio::process::Command::new("timeout")
        .args(["900", "bash"])
        .current_dir(here.path())
        .env("KUBECONFIG", rig.world.control_plane.kubeconfig())
        .env("KUBECTL", support::repository().join("target/controlplane/bin/kubectl"))
        .env("ROOT", &rig.env["VM_ACME_ROOT"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    // In braces it is read to its end before anything of it is run: no command eats the rest as its input.
    stdin.write_all(format!("{PRELUDE}{{\n{script}\n}} </dev/null\n").as_bytes()).await.unwrap();
    drop(stdin);
    let output = shell.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let mut rest = said.as_str();
    for expected in ["No application deployed yet", "v1\n", "[\"https://web-1.example.com\"]"] {
        let (_, after) = rest.split_once(expected).unwrap_or_else(|| panic!("no {expected:?} after this: {said}"));
        rest = after;
    }
}
