//! Single decisions, by table.

use super::super::observe::View;
use super::super::verdict::{State, verdict};
use super::super::wakes;
use super::*;
use crate::api::environment::OnExpiry;
use crate::api::node::NodeSpec;
use crate::runtime::cache::Key;
use crate::runtime::driver::Wait;

fn owned_by(kind: &str, name: &str, uid: &str) -> Node {
    let mut world = World::new(environment());
    world.pass();
    let mut node = world.node.unwrap();
    let owner = &mut node.metadata.owner_references.as_mut().unwrap()[0];
    (owner.kind, owner.name, owner.uid) = (kind.into(), name.into(), uid.into());
    node
}

fn view(world: &World) -> View {
    View::new(&world.observed(), &Facts::default(), world.now)
}

#[test]
fn a_node_of_the_childs_name_that_is_not_ours_is_never_touched() {
    for (node, state, reason) in [
        (owned_by("Environment", "other", "1"), State::Stalled, "NodeNameTaken"),
        (owned_by("AppDeployment", "review-42", "1"), State::Stalled, "NodeNameTaken"),
        (owned_by("Environment", "review-42", "earlier"), State::Progressing, "WaitingForEarlierNode"),
        (Node::new("review-42-vm", NodeSpec::default()), State::Stalled, "NodeNameTaken"),
    ] {
        let mut world = World::new(environment());
        world.node = Some(node.clone());
        world.pass();
        assert_eq!(world.node, Some(node), "{reason}");
        let verdict = verdict(&view(&world));
        assert_eq!((verdict.state, verdict.reason.as_str()), (state, reason));
        world.delete();
        assert_eq!(world.plan(), Step::Gone, "nothing of ours is left");
    }
}

#[test]
fn a_given_slug_that_is_taken_names_its_holder_and_makes_no_node() {
    let mut world = World::new(environment());
    world.taken = vec![SLUG.into()];
    world.pass();
    let stalled = world.condition("Stalled").unwrap();
    assert_eq!(stalled.reason, "HostnameTaken");
    assert!(stalled.message.contains("brave-tiger.example.com is held by Node blog/web-1"), "{}", stalled.message);
    assert_eq!((world.nodes_made, world.phase().as_str()), (0, "Error"));
    world.taken.clear();
    world.later(300).pass();
    assert_eq!(world.nodes_made, 1, "looked at again at the resync");
}

#[test]
fn an_environment_without_its_zone_still_gets_a_node_which_waits_for_it() {
    let mut world = World::new(environment());
    world.domain = None;
    world.pass();
    assert_eq!((world.nodes_made, world.status().domain), (1, None));
    world.domain = Some(Fqdn::parse("example.com").unwrap());
    world.pass();
    assert_eq!(world.status().domain.as_deref(), Some("brave-tiger.example.com"));
}

#[test]
fn a_lifetime_that_makes_no_sense_stalls_and_leaves_the_vm_alone() {
    for lifetime in ["99999999999999999999h", "999999999h"] {
        let mut world = running(environment());
        world.change_spec(|spec| spec.lifetime = Some(lifetime.into()));
        world.pass();
        let stalled = world.condition("Stalled").unwrap();
        assert_eq!(stalled.reason, "InvalidLifetime");
        assert!(stalled.message.starts_with("spec.lifetime: ") && stalled.message.contains(lifetime));
        assert!(world.node().metadata.deletion_timestamp.is_none());
    }
}

#[test]
fn an_end_that_no_clock_reaches_stalls_and_leaves_the_vm_alone() {
    for end in ["9999-12-31T23:59:59Z", "2030-01-31T12:00:00+99:99"] {
        let mut world = running(environment());
        world.change_spec(|spec| spec.expires_at = Some(end.into()));
        world.pass();
        let stalled = world.condition("Stalled").unwrap();
        assert_eq!(stalled.reason, "InvalidLifetime");
        assert!(stalled.message.starts_with(&format!("spec.expiresAt: `{end}` cannot be used")), "{}", stalled.message);
        assert_eq!(world.writes, ["status"]);
    }
}

#[test]
fn an_end_of_a_kind_that_is_not_known_takes_nothing_away() {
    let mut environment = environment();
    environment.spec.on_expiry = OnExpiry::Unknown;
    let mut world = running(environment);
    world.change_spec(|spec| spec.lifetime = Some("1h".into()));
    world.later(4000).pass();
    assert_eq!(world.condition("Stalled").unwrap().reason, "UnknownValue");
    assert!(!world.writes.contains(&"delete") && !world.writes.contains(&"delete-self"), "{:?}", world.writes);
}

#[test]
fn people_are_warned_an_hour_before_the_end_or_a_tenth_of_a_shorter_life() {
    for (lifetime, end, warning) in [
        ("72h", 259_200, 255_600),
        ("10h", 36_000, 32_400),
        ("2h", 7200, 6480),
        ("10s", 10, 9),
        ("25s", 25, 22),
        ("0s", 0, 0),
    ] {
        let mut environment = environment();
        environment.spec.lifetime = Some(lifetime.into());
        let life = view(&World::new(environment)).life().unwrap().unwrap();
        assert_eq!((life.end, life.warning), (at(end), at(warning)), "{lifetime}");
    }
}

#[test]
fn the_next_look_is_at_the_next_deadline() {
    let mut environment = environment();
    environment.spec.lifetime = Some("1h".into());
    let mut world = running(environment);
    let wait = |world: &World| match world.plan() {
        Step::Wait(Wait { after, .. }) => Some(after.as_secs()),
        Step::Done => None,
        other => panic!("{other:?}"),
    };
    world.now = at(100);
    assert_eq!(wait(&world), None);
    world.now = at(3000);
    assert_eq!(wait(&world), Some(240), "until the warning");
    world.now = at(3400);
    assert_eq!(wait(&world), Some(200), "until the end");
}

#[test]
fn an_orphaning_deletion_waits_for_the_garbage_collector_and_leaves_the_node() {
    let mut world = running(environment());
    world.delete();
    world.environment().metadata.finalizers = Some(vec!["orphan".into()]);
    world.pass();
    assert!(world.writes.iter().all(|w| *w == "status"), "{:?}", world.writes);
    world.environment().metadata.finalizers = None;
    world.node().metadata.owner_references = None;
    world.pass();
    assert!(world.gone && world.node.unwrap().metadata.deletion_timestamp.is_none());
}

#[test]
fn the_newer_of_cache_and_answer_is_believed_and_an_answered_absence_most_of_all() {
    let world = running(environment());
    let mut observed = world.observed();
    let mut stale = world.node.clone().unwrap();
    stale.metadata.resource_version = Some("5".into());
    let mut fresh = stale.clone();
    fresh.metadata.resource_version = Some("12".into());
    fresh.metadata.deletion_timestamp = Some(time(20));
    observed.node = Some(Arc::new(stale));
    let facts = Facts { node: Some(Arc::new(fresh)), gone: None };
    let view = View::new(&observed, &facts, world.now);
    assert!(view.own().unwrap().metadata.deletion_timestamp.is_some());
    let facts = Facts { node: None, gone: world.node.as_ref().unwrap().uid() };
    assert!(View::new(&observed, &facts, world.now).own().is_none());
}

#[test]
fn a_node_wakes_the_environment_that_owns_it_and_the_one_whose_childs_name_it_has() {
    let key = |name: &str| Key::namespaced("shop", name);
    assert_eq!(wakes(&owned_by("Environment", "review-42", "1")), [key("review-42")]);
    assert_eq!(wakes(&owned_by("Environment", "other", "1")), [key("other"), key("review-42")]);
    assert_eq!(wakes(&owned_by("AppDeployment", "app", "1")), [key("review-42")]);
    let mut node = Node::new("web-1", NodeSpec::default());
    node.metadata.namespace = Some("shop".into());
    assert_eq!(wakes(&node), []);
}

#[test]
fn a_status_that_names_another_slug_than_a_node_with_a_vm_gives_way_to_the_node() {
    let mut environment = environment();
    environment.spec.slug = None;
    let mut world = running(environment);
    let slug = world.node().spec.hostname.clone();
    world.environment().status.as_mut().unwrap().slug = Some("edited-by-hand".into());
    world.pass();
    assert_eq!(world.status().slug, slug);
    assert!(world.node().metadata.deletion_timestamp.is_none());
}
