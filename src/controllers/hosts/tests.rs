//! Where a Node's host is and whom we believe there, without a connection.

use kube::Client;

use super::*;
use crate::api::condition::{Desired, set};
use crate::api::node::{Addresses, NodeSpec, NodeStatus};
use crate::runtime::fake_api::FakeApi;

fn hosts(cluster: &str, client: Client) -> Hosts {
    let keys = Keys::new(client, "roadstead-system", Duration::from_mins(1));
    Hosts::new(ClusterId::parse(cluster).unwrap(), keys, Duration::from_mins(5))
}

fn rack(ssh: Ssh) -> Node {
    let spec = NodeSpec { address: Some("203.0.113.7".to_owned()), ssh: Some(ssh), ..NodeSpec::default() };
    named(spec)
}

fn vm(id: Option<&str>) -> Node {
    let addresses = Addresses { public4: Some("203.0.113.8".to_owned()), ..Addresses::default() };
    let mut node = named(NodeSpec::default());
    let vm_id = id.map(str::to_owned);
    node.status = Some(NodeStatus { vm_id, addresses: Some(addresses), ..NodeStatus::default() });
    node
}

fn named(spec: NodeSpec) -> Node {
    let mut node = Node::new("web-1", spec);
    (node.metadata.namespace, node.metadata.uid) = (Some("shop".to_owned()), Some("u1".to_owned()));
    node
}

fn host_key() -> String {
    crate::host::ssh::KeyPair::generate("host").unwrap().public_line()
}

fn why<T>(result: Result<T, Fault>) -> &'static str {
    match result {
        Err(Fault::Terminal { reason, .. } | Fault::Waiting { reason, .. }) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("nothing was refused"),
    }
}

#[tokio::test]
async fn a_host_is_where_its_node_says_and_root_comes_unless_another_is_asked_for() {
    let hosts = hosts("test1", FakeApi::default().client());
    let (host, first) = hosts.host(&vm(Some("7"))).await.unwrap();
    assert_eq!(host.target, Target { address: "203.0.113.8".to_owned(), port: 22, user: "root".to_owned() });
    assert_eq!((host.host_keys, first.as_deref()), (HostKeys::TrustOnFirstUse, Some("vm/7")));
    let ssh = Ssh { user: Some("deploy".to_owned()), port: 2222, trust_on_first_use: true, ..Ssh::default() };
    let (host, first) = hosts.host(&rack(ssh)).await.unwrap();
    assert_eq!(host.target, Target { address: "203.0.113.7".to_owned(), port: 2222, user: "deploy".to_owned() });
    assert_eq!(first.as_deref(), Some("host"));
    let mut nowhere = vm(None);
    nowhere.status = None;
    assert_eq!(why(hosts.host(&nowhere).await), reason::NO_ADDRESS);
}

#[tokio::test]
async fn given_keys_are_believed_and_no_others() {
    let hosts = hosts("test1", FakeApi::default().client());
    let key = host_key();
    let (host, first) = hosts.host(&rack(Ssh { host_keys: vec![key.clone()], ..Ssh::default() })).await.unwrap();
    assert_eq!((host.host_keys, first), (HostKeys::pinned([key.as_str()]).unwrap(), None));
    let ssh = Ssh { host_keys: vec!["ssh-ed25519 AAAA".to_owned()], ..Ssh::default() };
    assert_eq!(why(hosts.host(&rack(ssh)).await), "InvalidSSH");
    assert_eq!(why(hosts.host(&rack(Ssh { port: 70_000, ..Ssh::default() })).await), "InvalidSSH");
    assert_eq!(why(hosts.host(&rack(Ssh::default())).await), "HostKeyUnknown");
}

#[tokio::test]
async fn a_pinned_machine_is_believed_with_its_key_alone_and_its_successor_is_met_anew() {
    let api = FakeApi::default();
    let (key, node) = (host_key(), vm(Some("7")));
    let pin = Pinned { machine: "vm/7".to_owned(), key: key.clone() };
    hosts("test1", api.client()).keys.pin(&node, &pin).await.unwrap();
    let hosts = hosts("test1", api.client());
    let (host, first) = hosts.host(&node).await.unwrap();
    assert_eq!((host.host_keys, first), (HostKeys::pinned([key.as_str()]).unwrap(), None));
    let (host, first) = hosts.host(&vm(Some("8"))).await.unwrap();
    assert_eq!((host.host_keys, first.as_deref()), (HostKeys::TrustOnFirstUse, Some("vm/8")));
}

#[tokio::test]
async fn a_vm_that_was_in_use_is_not_believed_anew_because_its_pin_was_lost() {
    let hosts = hosts("test1", FakeApi::default().client());
    let mut node = vm(Some("7"));
    let conditions = &mut node.status.as_mut().unwrap().conditions;
    set(conditions, Desired::yes("Bootstrapped", "Serving", ""), Some(1), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(why(hosts.host(&node).await), "HostKeyUnknown");
}

#[tokio::test]
async fn every_node_of_every_cluster_has_its_own_nonce_which_stays() {
    let of = |cluster: &str, uid: &str| {
        let mut node = vm(None);
        node.metadata.uid = Some(uid.to_owned());
        hosts(cluster, FakeApi::default().client()).nonce(&node)
    };
    assert_eq!(of("test1", "u1"), of("test1", "u1"));
    assert_ne!(of("test1", "u1"), of("test1", "u2"));
    assert_ne!(of("test1", "u1"), of("test2", "u1"));
    assert!(of("test1", "u1").len() == 32 && of("test1", "u1").bytes().all(|b| b.is_ascii_hexdigit()));
}

#[tokio::test]
async fn one_at_a_time_changes_a_host() {
    let hosts = Arc::new(hosts("test1", FakeApi::default().client()));
    let held = hosts.exclusive("u1").await;
    drop(hosts.exclusive("u2").await);
    let other = hosts.clone();
    let waiting = tokio::spawn(async move { drop(other.exclusive("u1").await) });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(held);
    waiting.await.unwrap();
}
