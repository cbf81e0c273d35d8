//! Keys and pins, over Secrets of an API server in memory.

use super::*;
use crate::api::node::{NodeSpec, Ssh, SshKeyRef};
use crate::runtime::fake_api::FakeApi;

const PLACE: &str = "/api/v1/namespaces/roadstead-system/secrets";

fn keys(api: &FakeApi) -> Keys {
    Keys::new(api.client(), "roadstead-system", Duration::from_mins(1))
}

fn node(namespace: &str, name: &str) -> Node {
    let mut node = Node::new(name, NodeSpec::default());
    node.metadata.namespace = Some(namespace.to_owned());
    node.metadata.uid = Some(format!("uid-of-{name}"));
    node
}

fn with_key(namespace: &str, secret: &str) -> Node {
    let mut node = node(namespace, "web-1");
    let named = SshKeyRef { name: secret.to_owned(), key: PRIVATE.to_owned() };
    node.spec.ssh = Some(Ssh { key_secret_ref: Some(named), ..Ssh::default() });
    node
}

fn pin(machine: &str) -> Pinned {
    let key = KeyPair::generate("host").unwrap().public_line();
    Pinned { machine: machine.to_owned(), key }
}

/// Puts a Secret with a key there; returns the key's public line.
fn put(api: &FakeApi, name: &str, label: Option<&str>, namespace: Option<&str>) -> String {
    let pair = KeyPair::generate("theirs").unwrap();
    let data = BTreeMap::from([(PRIVATE, ByteString(pair.to_openssh().unwrap().into_bytes()))]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": "roadstead-system",
            "labels": label.map(|label| BTreeMap::from([(LABEL, label)])),
            "annotations": namespace.map(|namespace| BTreeMap::from([(NAMESPACE, namespace)]))},
        "data": data,
    });
    api.put(&format!("{PLACE}/{name}"), &secret);
    pair.public_line()
}

fn said(fault: Result<KeyPair, Fault>) -> String {
    match fault {
        Err(Fault::Terminal { reason: "SSHKeyUnusable", message }) => message,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("the key was taken"),
    }
}

#[tokio::test]
async fn the_nodes_of_a_namespace_share_one_key_pair_that_is_made_once() {
    let api = FakeApi::default();
    let (one, two) = (keys(&api), keys(&api));
    let first = one.pair(&node("shop", "a")).await.unwrap();
    assert_eq!(one.pair(&node("shop", "b")).await.unwrap(), first);
    assert_eq!(two.pair(&node("shop", "b")).await.unwrap(), first, "another process finds it");
    assert_ne!(one.pair(&node("blog", "a")).await.unwrap(), first);
    assert_eq!(one.known(&node("shop", "a")), Some(first.public_line()));
    let secret = api.get(&format!("{PLACE}/roadstead-ssh-shop")).unwrap();
    assert_eq!(secret["metadata"]["labels"][LABEL], "ssh");
    assert_eq!(secret["metadata"]["annotations"][NAMESPACE], "shop");
}

#[tokio::test]
async fn who_comes_second_in_making_the_key_takes_the_first_ones() {
    let api = FakeApi::default();
    let (one, two) = (keys(&api), keys(&api));
    let (a, b) = (node("shop", "a"), node("shop", "b"));
    let (first, second) = tokio::join!(one.pair(&a), two.pair(&b));
    assert_eq!(first.unwrap(), second.unwrap());
}

#[tokio::test]
async fn pins_are_kept_by_node_and_survive_the_process() {
    let api = FakeApi::default();
    let (a, b) = (node("shop", "a"), node("shop", "b"));
    let (pin_a, pin_b) = (pin("vm/1"), pin("vm/2"));
    let first = keys(&api);
    assert_eq!(first.pinned(&a, true).await, Ok(None));
    first.pin(&a, &pin_a).await.unwrap();
    first.pin(&b, &pin_b).await.unwrap();
    let other = keys(&api);
    assert_eq!(other.pinned(&a, false).await, Ok(Some(pin_a.clone())));
    assert_eq!(other.pinned(&b, false).await, Ok(Some(pin_b.clone())));

    // Another key of the same machine is not taken over the first; that of its successor is.
    assert!(other.pin(&a, &pin("vm/1")).await.is_err());
    assert_eq!(other.pinned(&a, true).await, Ok(Some(pin_a)));
    let successor = pin("vm/7");
    other.pin(&a, &successor).await.unwrap();
    assert_eq!(first.pinned(&a, true).await, Ok(Some(successor)));

    other.unpin(&a).await.unwrap();
    other.unpin(&a).await.unwrap();
    assert_eq!(first.pinned(&a, true).await, Ok(None));
    assert_eq!(first.pinned(&b, true).await, Ok(Some(pin_b)));
}

#[tokio::test]
async fn a_pin_that_another_process_writes_meanwhile_is_not_overwritten() {
    let api = FakeApi::default();
    let (one, two, node) = (keys(&api), keys(&api), node("shop", "a"));
    one.pair(&node).await.unwrap();
    let theirs = pin("vm/1");
    two.pin(&node, &theirs).await.unwrap();
    // What the first one has read is older than that.
    let refused = one.pin(&node, &pin("vm/1")).await;
    assert!(matches!(refused, Err(Fault::Transient { reason: "HostKeyChanged", .. })), "{refused:?}");
    assert_eq!(one.pinned(&node, false).await, Ok(Some(theirs)));
}

#[tokio::test]
async fn hosts_of_one_namespace_that_are_met_at_once_are_all_pinned() {
    let api = FakeApi::default();
    let (one, two) = (keys(&api), keys(&api));
    let nodes: Vec<_> = (0..20).map(|n| (node("shop", &format!("web-{n}")), pin("host"))).collect();
    one.pair(&nodes[0].0).await.unwrap();
    // Another process has pinned one since.
    let (last, pin) = nodes.last().unwrap();
    two.pin(last, pin).await.unwrap();
    let pinned = futures::future::join_all(nodes.iter().map(|(node, pin)| one.pin(node, pin))).await;
    assert_eq!(pinned, vec![Ok(()); nodes.len()]);
    for (node, pin) in &nodes {
        assert_eq!(two.pinned(node, true).await.as_ref(), Ok(&Some(pin.clone())));
    }
}

#[tokio::test]
async fn a_named_secret_is_used_only_where_it_is_meant_to_be() {
    let api = FakeApi::default();
    let keys = keys(&api);
    let line = put(&api, "racks", Some("ssh"), None);
    assert_eq!(keys.pair(&with_key("shop", "racks")).await.unwrap().public_line(), line);
    put(&api, "token", Some("cloudflare"), None);
    let message = said(keys.pair(&with_key("shop", "token")).await);
    assert!(message.contains("label secret token roadstead.dev/credential=ssh"), "{message}");
    put(&api, "theirs", Some("ssh"), Some("blog"));
    let message = said(keys.pair(&with_key("shop", "theirs")).await);
    assert!(message.contains("for Nodes of the namespace blog"), "{message}");
    let message = said(keys.pair(&with_key("shop", "nowhere")).await);
    assert!(message.contains("roadstead-system/nowhere does not exist"), "{message}");
    // The key that was made for another namespace is nobody else's.
    keys.pair(&node("blog", "a")).await.unwrap();
    let message = said(keys.pair(&with_key("shop", "roadstead-ssh-blog")).await);
    assert!(message.contains("for Nodes of the namespace blog"), "{message}");
}

#[tokio::test]
async fn a_secret_of_somebody_else_under_our_name_is_left_alone() {
    let api = FakeApi::default();
    put(&api, "roadstead-ssh-shop", Some("ssh"), None);
    let before = api.get(&format!("{PLACE}/roadstead-ssh-shop"));
    let message = said(keys(&api).pair(&node("shop", "a")).await);
    assert!(message.contains("rename it"), "{message}");
    assert!(keys(&api).pin(&node("shop", "a"), &pin("vm/1")).await.is_err());
    assert_eq!(api.get(&format!("{PLACE}/roadstead-ssh-shop")), before);
}

#[tokio::test]
async fn what_is_no_private_key_is_named_and_not_shown() {
    let api = FakeApi::default();
    put(&api, "racks", Some("ssh"), None);
    let data = json!({"data": {PRIVATE: ByteString(b"hunter2".to_vec())}});
    api.change(&format!("{PLACE}/racks"), &data);
    let message = said(keys(&api).pair(&with_key("shop", "racks")).await);
    assert!(message.contains("key `ssh-privatekey` of Secret roadstead-system/racks"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}
