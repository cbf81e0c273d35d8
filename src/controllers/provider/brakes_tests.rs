use super::*;
use crate::api::environment::{EnvironmentSpec, EnvironmentStatus};
use crate::api::node::{NodeSpec, NodeStatus, RecordStatus};
use crate::api::provider::{ProviderSpec, ProviderStatus};
use crate::api::refs::{AllowedNamespaces, ClusterRef, NamespacesFrom};
use crate::api::status::Journal;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

const SETTLE: Duration = Duration::from_secs(90);

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
}

fn node(n: usize) -> Node {
    let spec = NodeSpec { provider_ref: ClusterRef { name: "do".into() }, ..NodeSpec::default() };
    let mut node = Node::new(&format!("web-{n}"), spec);
    (node.metadata.namespace, node.metadata.uid) = (Some("shop".into()), Some(format!("uid-{n}")));
    let record = RecordStatus { id: "r".into(), content: "203.0.113.7".into(), ttl: 300 };
    node.status = Some(NodeStatus { record: Some(record), ..NodeStatus::default() });
    node
}

fn deleted(n: usize) -> Node {
    let mut node = node(n);
    node.metadata.deletion_timestamp = Some(Time(at(0)));
    node
}

fn journal(mut node: Node, journal: Journal) -> Node {
    node.status.get_or_insert_default().journal = Some(journal);
    node
}

fn lost(n: usize) -> Node {
    journal(node(n), Journal { missing_since: Some(Time(at(-5))), ..Journal::default() })
}

fn child_of(mut node: Node, environment: &str) -> Node {
    let owner = OwnerReference {
        kind: "Environment".into(),
        name: environment.into(),
        uid: format!("uid-{environment}"),
        ..OwnerReference::default()
    };
    node.metadata.owner_references = Some(vec![owner]);
    node
}

fn environment(name: &str) -> Environment {
    let mut environment = Environment::new(name, EnvironmentSpec::default());
    (environment.metadata.namespace, environment.metadata.uid) = (Some("shop".into()), Some(format!("uid-{name}")));
    environment
}

fn provider() -> Provider {
    let allowed_namespaces = AllowedNamespaces { from: NamespacesFrom::All, selector: None };
    let spec = ProviderSpec {
        digitalocean: None,
        static_: None,
        allowed_namespaces,
        brake: provider::Brake::default(),
        allow_host_access: false,
        ssh_authorized_keys: Vec::new(),
    };
    let mut provider = Provider::new("do", spec);
    provider.metadata.uid = Some("uid-do".into());
    provider
}

/// The Provider as its own controller would write it.
async fn with_hold(brakes: &Brakes, minute: i64) -> Provider {
    let mut provider = provider();
    provider.status =
        Some(ProviderStatus { hold: brakes.state(&provider, at(minute)).await.hold, ..Default::default() });
    provider
}

fn approve(provider: &mut Provider) {
    let id = provider.status.as_ref().unwrap().hold.as_ref().unwrap().id.clone();
    provider.metadata.annotations = Some([(APPROVE.to_owned(), id)].into());
}

fn brakes(nodes: impl IntoIterator<Item = Node>) -> Brakes {
    Brakes::new(Cache::of(nodes), Cache::of([]), Arc::default(), SETTLE)
}

/// How many of `nodes` get through when each asks once.
async fn let_through(brakes: &Brakes, provider: &Provider, nodes: &[Node], minute: i64) -> usize {
    let mut through = 0;
    for node in nodes {
        through += usize::from(brakes.held(provider, node, at(minute)).await.is_none());
    }
    through
}

#[tokio::test]
async fn a_node_that_stays_is_never_held() {
    let nodes: Vec<_> = (0..20).map(node).collect();
    let brakes = brakes((0..20).map(deleted));
    assert_eq!(let_through(&brakes, &provider(), &nodes, 0).await, 20);
}

#[tokio::test]
async fn few_deletions_go_and_a_mass_deletion_is_held_wholly() {
    for (deleting, through) in [(5, 5), (6, 0), (100, 0)] {
        let gone: Vec<_> = (0..deleting).map(deleted).collect();
        let brakes = brakes(gone.iter().cloned());
        assert_eq!(let_through(&brakes, &provider(), &gone, 0).await, through, "{deleting} deleted");
    }
}

#[tokio::test]
async fn however_far_the_cache_lags_no_more_than_allowed_get_through() {
    // The cache knows of no deletion yet: each Node that asks is the first it hears of.
    let brakes = brakes((0..100).map(node));
    let gone: Vec<_> = (0..100).map(deleted).collect();
    assert_eq!(let_through(&brakes, &provider(), &gone, 0).await, 10, "a tenth of a hundred");
    assert_eq!(
        let_through(&brakes, &provider(), &gone, 1).await,
        10,
        "those that were let through stay so, nobody follows"
    );
}

#[tokio::test]
async fn an_approved_mass_deletion_proceeds_wholly_and_its_approval_lapses() {
    let gone: Vec<_> = (0..100).map(deleted).collect();
    let brakes = brakes(gone.iter().cloned());
    let mut provider = with_hold(&brakes, 0).await;
    let state = brakes.state(&provider, at(0)).await;
    assert_eq!(state.hold.as_ref().map(|hold| (hold.reason.as_str(), hold.nodes)), Some(("DeletionHeld", 100)));
    assert!(state.held.unwrap().message.contains("roadstead.dev/approve-deletions=deletion-"));
    assert_eq!(let_through(&brakes, &provider, &gone, 0).await, 0);

    approve(&mut provider);
    let state = brakes.state(&provider, at(1)).await;
    assert!(state.hold.is_some() && state.held.is_none(), "approved, and remembered until it is over");
    assert_eq!(let_through(&brakes, &provider, &gone, 1).await, 100);

    let over = brakes.state(&provider, at(30)).await;
    assert_eq!(over, State::default(), "nobody waits, and the window has passed");
    provider.status = None;
    let next: Vec<_> = (200..250).map(deleted).collect();
    let brakes = Brakes::new(Cache::of(next.iter().cloned()), Cache::of([]), Arc::default(), SETTLE);
    assert_eq!(let_through(&brakes, &provider, &next, 31).await, 0, "the old approval approves nothing new");
}

#[tokio::test]
async fn a_hold_keeps_its_id_while_more_join_it() {
    let brakes = brakes((0..20).map(deleted));
    let provider = with_hold(&brakes, 0).await;
    brakes.nodes.put(deleted(20));
    let hold = brakes.state(&provider, at(5)).await.hold.unwrap();
    assert_eq!(Some(hold.id), provider.status.as_ref().unwrap().hold.as_ref().map(|hold| hold.id.clone()));
    assert_eq!(hold.nodes, 21);
}

#[tokio::test]
async fn nodes_that_are_gone_count_until_the_window_has_passed() {
    let first: Vec<_> = (0..5).map(deleted).collect();
    let brakes = brakes(first.iter().cloned());
    assert_eq!(let_through(&brakes, &provider(), &first, 0).await, 5);
    // They go; five others are deleted within the window, and again after it.
    let brakes = Brakes { nodes: Cache::of((5..10).map(deleted)), ..brakes };
    let second: Vec<_> = (5..10).map(deleted).collect();
    let _ = brakes.state(&provider(), at(9)).await;
    assert_eq!(let_through(&brakes, &provider(), &second, 9).await, 0);
    let _ = brakes.state(&provider(), at(11)).await;
    assert_eq!(let_through(&brakes, &provider(), &second, 11).await, 5);
}

#[tokio::test]
async fn after_a_restart_the_journals_say_who_was_let_through() {
    let withdrawn = |n| journal(deleted(n), Journal { withdrawn_at: Some(Time(at(0))), ..Journal::default() });
    let brakes = brakes((0..5).map(withdrawn).chain([deleted(5)]));
    assert_eq!(let_through(&brakes, &provider(), &[withdrawn(0), deleted(5)], 1).await, 1, "the sixth waits");
    assert_eq!(let_through(&brakes, &provider(), &[deleted(5)], 11).await, 1);
}

#[tokio::test]
async fn other_providers_and_the_policy_orphan_do_not_count() {
    let mut elsewhere: Vec<_> = (0..50).map(deleted).collect();
    for (n, node) in elsewhere.iter_mut().enumerate() {
        if n % 2 == 0 {
            node.spec.provider_ref.name = "other".into();
        } else {
            node.spec.deletion_policy = DeletionPolicy::Orphan;
        }
    }
    let brakes = brakes(elsewhere.iter().cloned().chain([deleted(50)]));
    assert_eq!(let_through(&brakes, &provider(), &[deleted(50), elsewhere[1].clone()], 0).await, 2);
}

#[tokio::test]
async fn children_of_environments_that_end_do_not_count_but_those_of_a_living_one_do() {
    let mut expired = environment("expired");
    expired.status = Some(EnvironmentStatus { phase: Some("Expired".into()), ..Default::default() });
    let mut over = environment("over");
    over.status = Some(EnvironmentStatus { expires_at: Some(Time(at(-1))), ..Default::default() });
    let mut going = environment("going");
    going.metadata.deletion_timestamp = Some(Time(at(0)));
    let mut again = environment("again");
    again.metadata.uid = Some("another".into());
    let environments = [expired, over, going, again, environment("alive")];
    for (owner, through) in [("expired", 30), ("over", 30), ("going", 30), ("again", 30), ("gone", 30), ("alive", 0)] {
        let gone: Vec<_> = (0..30).map(|n| child_of(deleted(n), owner)).collect();
        let brakes =
            Brakes::new(Cache::of(gone.iter().cloned()), Cache::of(environments.clone()), Arc::default(), SETTLE);
        assert_eq!(let_through(&brakes, &provider(), &gone, 0).await, through, "{owner}");
        assert_eq!(brakes.state(&provider(), at(0)).await.hold.is_none(), through > 0, "{owner}");
    }
}

/// An Environment that lives, under the slug `brave-tiger`, and has rolled back the child with this UID.
fn rolling_back(name: &str, child: Option<&str>) -> Environment {
    let mut environment = environment(name);
    let rollback = child.map(|uid| {
        let entry = serde_json::json!({
            "node": uid, "reason": "ForeignRecord", "message": "m", "generation": 1, "attempts": 1,
            "notBefore": "2027-01-15T08:00:00Z",
        });
        ("rollback".to_owned(), entry)
    });
    environment.status = Some(EnvironmentStatus {
        slug: Some("brave-tiger".into()),
        journal: Some(Journal { other: rollback.into_iter().collect(), ..Journal::default() }),
        ..Default::default()
    });
    environment
}

#[tokio::test]
async fn children_that_a_living_environment_takes_away_itself_do_not_count() {
    let child = |n: usize, hostname: &str, vm: Option<&str>| {
        let mut node = child_of(deleted(n), &format!("review-{n}"));
        node.spec.hostname = Some(hostname.into());
        node.status.get_or_insert_default().vm_id = vm.map(String::from);
        node
    };
    // Each with the beginning of the UID of the child its Environment remembers to have rolled back.
    let cases = [
        ("rolled back", Some("uid"), "brave-tiger", Some("7"), 30),
        ("deleted by a person", None, "brave-tiger", Some("7"), 0),
        ("deleted by a person after an earlier one was rolled back", Some("other"), "brave-tiger", None, 0),
        ("under a slug that was taken", None, "calm-otter", None, 30),
        ("under another slug, but with a VM", None, "calm-otter", Some("7"), 0),
    ];
    for (what, remembered, hostname, vm, through) in cases {
        let gone: Vec<_> = (0..30).map(|n| child(n, hostname, vm)).collect();
        let environments = (0..30).map(|n| {
            let remembered = remembered.map(|uid| format!("{uid}-{n}"));
            rolling_back(&format!("review-{n}"), remembered.as_deref())
        });
        let brakes = Brakes::new(Cache::of(gone.iter().cloned()), Cache::of(environments), Arc::default(), SETTLE);
        assert_eq!(let_through(&brakes, &provider(), &gone, 0).await, through, "{what}");
        assert_eq!(brakes.state(&provider(), at(0)).await.hold.is_none(), through > 0, "{what}");
    }
}

#[tokio::test]
async fn a_fleet_that_vanishes_keeps_its_records_until_a_person_approves() {
    let nodes: Vec<_> = (0..20).map(lost).collect();
    let brakes = brakes(nodes.iter().cloned());
    let mut provider = with_hold(&brakes, 0).await;
    assert_eq!(provider.status.as_ref().unwrap().hold.as_ref().unwrap().reason, "MassAbsence");
    assert_eq!(brakes.held(&provider, &nodes[0], at(0)).await.unwrap().reason, "MassAbsence");
    approve(&mut provider);
    assert_eq!(let_through(&brakes, &provider, &nodes, 1).await, 20);
}

#[tokio::test]
async fn a_node_whose_record_is_withdrawn_already_is_not_held_by_the_others() {
    let mut bare = lost(0);
    bare.status.as_mut().unwrap().record = None;
    let brakes = brakes((1..20).map(lost).chain([bare.clone()]));
    assert_eq!(brakes.held(&provider(), &bare, at(0)).await, None);
}

#[tokio::test]
async fn a_suspicion_takes_no_place_before_it_has_settled() {
    let fresh = |n| journal(node(n), Journal { missing_since: Some(Time(at(0))), ..Journal::default() });
    let suspected: Vec<_> = (0..5).map(fresh).collect();
    let brakes = brakes(suspected.iter().cloned());
    assert_eq!(let_through(&brakes, &provider(), &suspected, 0).await, 5);
    // They were only late: five others may act.
    let brakes = Brakes { nodes: Cache::of((10..15).map(lost)), ..brakes };
    let lost: Vec<_> = (10..15).map(lost).collect();
    assert_eq!(let_through(&brakes, &provider(), &lost, 2).await, 5);
}

#[tokio::test]
async fn one_hold_is_shown_and_makes_room_when_nobody_waits_for_it() {
    let gone: Vec<_> = (0..10).map(deleted).collect();
    let missing: Vec<_> = (10..20).map(lost).collect();
    let brakes = brakes(gone.iter().chain(&missing).cloned());
    let mut provider = with_hold(&brakes, 0).await;
    let shown = |provider: &Provider| provider.status.as_ref().unwrap().hold.as_ref().unwrap().reason.clone();
    assert_eq!(shown(&provider), "DeletionHeld");
    approve(&mut provider);
    assert_eq!(let_through(&brakes, &provider, &missing, 1).await, 0, "the approval is of the deletions");
    assert_eq!(let_through(&brakes, &provider, &gone, 1).await, 10);
    let hold = brakes.state(&provider, at(1)).await.hold;
    provider.status = Some(ProviderStatus { hold, ..Default::default() });
    assert_eq!(shown(&provider), "MassAbsence");
    approve(&mut provider);
    assert_eq!(let_through(&brakes, &provider, &missing, 2).await, 10);
    let state = brakes.state(&provider, at(2)).await;
    assert_eq!(state.hold, provider.status.as_ref().unwrap().hold, "no new hold for what was approved before");
}

#[test]
fn what_a_listing_lacks_counts_before_the_nodes_have_looked() {
    let nodes: Vec<_> = (0..20).map(|n| Arc::new(node(n))).collect();
    let counted = count(&nodes, "do", |_| true, |_| false, &Released::new());
    assert_eq!((counted.total, counted.missing.len()), (20, 20));
    assert!(!counted.decide(Kind::MassAbsence, &provider(), at(0)).go);
    let counted = count(&nodes, "do", |node| node.name_any() == "web-1", |_| false, &Released::new());
    assert!(counted.decide(Kind::MassAbsence, &provider(), at(0)).go);
}
