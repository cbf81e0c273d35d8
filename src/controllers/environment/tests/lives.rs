//! Whole lives, pass by pass.

use super::*;
use crate::api::environment::OnExpiry;
use crate::api::refs::{Host, HostManagement};

#[test]
fn a_new_environment_records_slug_and_intent_before_its_node_is_created() {
    let mut world = World::new(environment());
    let Step::Record(recorded) = world.plan() else { panic!("{:?}", world.plan()) };
    assert_eq!(recorded.slug.as_deref(), Some(SLUG));
    assert_eq!(recorded.journal.unwrap().intent.as_deref(), Some("CreateNode"));
    assert_eq!(recorded.url.as_deref(), Some("https://brave-tiger.example.com"));
    world.pass();
    assert_eq!(world.writes, ["status", "create", "status"]);
    let node = world.node().clone();
    assert_eq!(node.name_any(), "review-42-vm");
    assert_eq!(node.spec.hostname.as_deref(), Some(SLUG));
    let owner = &node.owner_references()[0];
    assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Environment", "env-uid"));
    assert_eq!(world.status().journal, None, "the intent is fulfilled");
    assert_eq!(world.phase(), "Provisioning");
}

#[test]
fn a_ready_node_makes_the_environment_active_and_then_nothing_is_written_any_more() {
    let mut world = World::new(environment());
    world.pass();
    make_ready(world.node());
    world.later(60).pass();
    let status = world.status();
    assert_eq!(world.phase(), "Active");
    assert_eq!(status.ip_address.as_deref(), Some("203.0.113.7"));
    assert_eq!((status.vm_id.as_deref(), status.dns_record_id.as_deref()), (Some("4711"), Some("rec-1")));
    assert_eq!(status.node_ref, Some(ClusterRef { name: "review-42-vm".into() }));
    assert_eq!((status.created_at, status.updated_at), (Some(time(0)), Some(time(61))));
    for type_ in ["Ready", "Provisioned", "Published", "Resolvable"] {
        let condition = world.condition(type_).unwrap();
        assert_eq!((condition.status.as_str(), condition.observed_generation), ("True", Some(1)), "{type_}");
    }
    assert_eq!(world.reasons(), ["Ready"]);
    world.writes.clear();
    for _ in 0..3 {
        world.later(300).pass();
    }
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn updated_at_moves_only_with_something_of_substance() {
    let mut world = running(environment());
    let before = world.status().updated_at;
    let ready = world.node().status.as_mut().unwrap().conditions.iter_mut().find(|c| c.type_ == "Ready").unwrap();
    ready.message = "said otherwise".into();
    world.later(60).pass();
    assert_eq!((world.writes.len(), world.status().updated_at), (1, before));
    world.node().status.as_mut().unwrap().vm_id = Some("4712".into());
    world.later(60).pass();
    assert_eq!(world.status().updated_at, Some(Time(world.now)));
}

#[test]
fn a_changed_spec_reaches_the_node_and_ready_waits_for_it() {
    let mut world = running(environment());
    world.change_spec(|spec| {
        spec.node.size = Some("s-2vcpu-2gb".into());
        spec.node.user_data = Some("#!/bin/sh".into());
        spec.node.ttl = Some(60);
        spec.node.health_path = "/up".into();
        spec.node.host = Host { manage: HostManagement::Caddy };
    });
    world.pass();
    let spec = world.node().spec.clone();
    assert_eq!((spec.size.as_deref(), spec.ttl, spec.health_path.as_str()), (Some("s-2vcpu-2gb"), Some(60), "/up"));
    assert_eq!((spec.user_data.as_deref(), spec.host.manage), (Some("#!/bin/sh"), HostManagement::Caddy));
    assert_eq!(world.condition("Ready").unwrap().status, "False");
    assert_eq!(world.status().observed_generation, Some(2));
    make_ready(world.node());
    world.pass();
    assert_eq!(world.condition("Ready").unwrap().status, "True");
    world.change_spec(|spec| spec.node.ttl = None);
    world.pass();
    assert_eq!(world.node().spec.ttl, None, "a field that is taken away goes from the Node, too");
}

#[test]
fn what_a_person_changed_on_the_node_is_put_back() {
    let mut world = running(environment());
    world.node().spec.proxied = true;
    world.pass();
    assert!(!world.node().spec.proxied);
}

#[test]
fn a_node_that_a_person_deleted_is_made_again_under_the_same_slug_once_it_is_gone() {
    let mut world = running(environment());
    world.node().metadata.deletion_timestamp = Some(time(20));
    world.later(10).pass();
    assert_eq!(world.condition("Reconciling").unwrap().reason, "NodeDeleted");
    assert_eq!(world.phase(), "Provisioning");
    world.node_goes();
    world.pass();
    assert_eq!((world.nodes_made, world.node().spec.hostname.clone()), (2, Some(SLUG.into())));
}

#[test]
fn a_name_that_cannot_be_published_costs_the_vm_and_keeps_its_reason() {
    let mut world = World::new(environment());
    world.pass();
    with_vm(world.node());
    make_stalled(world.node(), "ForeignRecord");
    world.later(10).pass();
    assert!(world.node().metadata.deletion_timestamp.is_some());
    world.node_goes();
    world.later(10).pass();
    assert_eq!(world.phase(), "Error");
    let ready = world.condition("Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ForeignRecord"));
    assert!(ready.message.contains("ForeignRecord!"), "{}", ready.message);
    assert!(world.condition("Stalled").is_some() && world.condition("Reconciling").is_none());
    assert_eq!(world.reasons(), ["RolledBack"]);
    assert_eq!((world.nodes_made, &world.status().vm_id), (1, &None));
}

#[test]
fn a_rollback_that_does_not_get_on_says_what_it_waits_for_beside_its_cause() {
    let mut world = World::new(environment());
    world.pass();
    with_vm(world.node());
    make_stalled(world.node(), "ForeignRecord");
    world.pass();
    say(world.node(), &[("Ready", false, "DeletionHeld"), ("Reconciling", true, "DeletionHeld")]);
    world.pass();
    let stalled = world.condition("Stalled").unwrap();
    assert_eq!(stalled.reason, "ForeignRecord");
    assert!(stalled.message.contains("ForeignRecord!") && stalled.message.contains("DeletionHeld!"));
    assert!(world.condition("Reconciling").is_none());
}

#[test]
fn a_rollback_is_tried_again_after_the_resync_then_twice_that_and_so_on() {
    let mut world = World::new(environment());
    world.pass();
    let mut waits = Vec::new();
    for _ in 0..12 {
        with_vm(world.node());
        make_stalled(world.node(), "RecordRefused");
        world.pass();
        world.node_goes();
        let made = world.nodes_made;
        let mut waited = 0;
        while world.nodes_made == made {
            waited += 100;
            world.later(100).pass();
        }
        waits.push(waited);
    }
    assert_eq!(waits[..6], [300, 600, 1200, 2400, 4800, 9600]);
    assert_eq!(waits[9..], [86_400, 86_400, 86_400]);
}

#[test]
fn a_rollback_is_tried_again_at_once_when_the_spec_changes_and_is_forgotten_once_published() {
    let mut world = World::new(environment());
    world.pass();
    with_vm(world.node());
    make_stalled(world.node(), "RecordRefused");
    world.pass();
    world.node_goes();
    world.later(1).pass();
    assert_eq!(world.nodes_made, 1);
    world.change_spec(|spec| spec.node.ttl = Some(600));
    world.later(1).pass();
    assert_eq!((world.nodes_made, world.phase().as_str()), (2, "Provisioning"));
    make_ready(world.node());
    world.pass();
    assert_eq!((world.phase().as_str(), world.memory().rollback), ("Active", None));
}

#[test]
fn a_name_that_is_refused_before_there_is_a_vm_costs_nothing_and_heals_with_the_node() {
    let mut world = World::new(environment());
    world.pass();
    make_stalled(world.node(), "ForeignRecord");
    world.later(10).pass();
    assert_eq!(
        (world.phase().as_str(), world.condition("Stalled").unwrap().reason.as_str()),
        ("Error", "ForeignRecord")
    );
    assert!(world.node().metadata.deletion_timestamp.is_none());
    make_ready(world.node());
    world.later(10).pass();
    assert_eq!((world.phase().as_str(), world.nodes_made), ("Active", 1));
}

#[test]
fn a_vm_whose_name_was_once_published_is_never_rolled_back() {
    let mut world = running(environment());
    world.node().status.as_mut().unwrap().record = None;
    make_stalled(world.node(), "ForeignRecord");
    world.pass();
    assert!(world.node().metadata.deletion_timestamp.is_none());
    assert_eq!(world.condition("Ready").unwrap().reason, "ForeignRecord");
}

#[test]
fn a_vm_that_waits_for_a_persons_decision_is_not_rolled_back() {
    for reason in ["AdoptionRequired", "AccountChanged", "VMLost", "ReplacementRequired"] {
        let mut world = World::new(environment());
        world.pass();
        with_vm(world.node());
        make_stalled(world.node(), reason);
        world.pass();
        assert!(world.node().metadata.deletion_timestamp.is_none(), "{reason}");
        assert_eq!(world.condition("Stalled").unwrap().reason, reason);
    }
}

#[test]
fn at_the_end_of_its_life_the_node_goes_and_the_environment_stays() {
    let mut world = running(with_lifetime("2h"));
    world.later(6000).pass();
    assert!(world.notes.is_empty(), "{:?}", world.notes);
    world.now = at(7200 - 720);
    world.pass();
    assert_eq!(world.reasons(), ["ExpiringSoon"]);
    world.later(10).pass();
    assert_eq!(world.reasons(), ["ExpiringSoon"], "warned once");
    world.now = at(7200);
    world.writes.clear();
    world.pass();
    assert_eq!(world.writes, ["patch", "delete", "status"], "the mark comes before the deletion");
    assert_eq!(annotation(world.node(), "expired"), Some("true".into()));
    assert_eq!((world.phase().as_str(), world.condition("Ready").unwrap().status.as_str()), ("Deleting", "False"));
    world.node_goes();
    world.later(400).pass();
    let ready = world.condition("Ready").unwrap();
    assert_eq!((world.phase().as_str(), ready.status.as_str(), ready.reason.as_str()), ("Expired", "True", "Expired"));
    assert_eq!(world.reasons(), ["ExpiringSoon", "Expired"]);
    let status = world.status();
    assert_eq!((status.vm_id, status.ip_address, status.dns_record_id, status.node_ref), (None, None, None, None));
    assert_eq!((status.slug.as_deref(), status.expires_at), (Some(SLUG), Some(time(7200))));
    world.writes.clear();
    world.later(300).pass();
    assert!(world.writes.is_empty());
}

#[test]
fn an_extended_lifetime_brings_it_back_under_the_same_slug() {
    let mut environment = with_lifetime("1h");
    environment.spec.slug = None;
    let mut world = running(environment);
    let slug = world.status().slug.unwrap();
    world.now = at(3600);
    world.pass();
    world.node_goes();
    world.pass();
    assert_eq!(world.phase(), "Expired");
    world.notes.clear();
    world.change_spec(|spec| spec.lifetime = Some("3h".into()));
    world.later(10).pass();
    assert_eq!(world.reasons(), ["Revived"]);
    assert_eq!((world.nodes_made, world.node().spec.hostname.clone()), (2, Some(slug)));
    assert_eq!(annotation(world.node(), "expired"), None);
    make_ready(world.node());
    world.pass();
    assert_eq!((world.phase().as_str(), world.status().expires_at), ("Active", Some(time(10_800))));
    world.now = at(10_800 - 1080);
    world.pass();
    assert_eq!(world.reasons().last(), Some(&"ExpiringSoon"), "the new end is warned of, too");
}

#[test]
fn extending_the_life_while_the_node_is_going_makes_it_again_afterwards() {
    let mut world = running(with_lifetime("1h"));
    world.now = at(3600);
    world.pass();
    world.change_spec(|spec| spec.lifetime = None);
    world.pass();
    assert_eq!(world.condition("Reconciling").unwrap().reason, "NodeDeleted");
    world.node_goes();
    world.pass();
    assert_eq!((world.nodes_made, world.status().expires_at), (2, None));
}

#[test]
fn on_expiry_delete_removes_the_environment_after_marking_its_node() {
    let mut environment = with_lifetime("1h");
    environment.spec.on_expiry = OnExpiry::Delete;
    let mut world = running(environment);
    world.now = at(3600);
    world.pass();
    assert_eq!(world.writes, ["status", "patch", "delete-self", "delete", "status"][1..]);
    assert_eq!(annotation(world.node(), "expired"), Some("true".into()));
    assert!(!world.gone);
    world.node_goes();
    world.pass();
    assert!(world.gone);
}

#[test]
fn a_life_that_was_over_before_it_began_never_buys_a_vm() {
    let mut environment = environment();
    environment.spec.expires_at = Some(at(-10).to_string());
    let mut world = World::new(environment);
    world.pass();
    assert_eq!((world.nodes_made, world.phase().as_str()), (0, "Expired"));
}

#[test]
fn a_deleted_environment_goes_only_after_its_node() {
    let mut world = running(environment());
    world.delete();
    world.pass();
    assert_eq!(world.writes, ["delete", "status"]);
    assert_eq!((world.phase().as_str(), world.gone), ("Deleting", false));
    say(world.node(), &[("Ready", false, "Withdrawing"), ("Reconciling", true, "Withdrawing")]);
    world.pass();
    assert_eq!(world.condition("Reconciling").unwrap().reason, "Withdrawing");
    say(world.node(), &[("Ready", false, "DeletingVM"), ("Reconciling", true, "DeletingVM")]);
    world.pass();
    assert_eq!(world.condition("Ready").unwrap().message, "DeletingVM!");
    assert!(!world.gone);
    world.node_goes();
    world.pass();
    assert!(world.gone);
}

#[test]
fn a_deletion_that_is_stuck_shows_why_and_the_way_out_and_passes_it_down() {
    let mut world = running(environment());
    world.delete();
    world.pass();
    say(world.node(), &[("Ready", false, "DeleteRefused"), ("Stalled", true, "DeleteRefused")]);
    world.pass();
    let stalled = world.condition("Stalled").unwrap();
    assert_eq!(stalled.reason, "DeleteRefused");
    assert!(stalled.message.contains("kubectl annotate environment review-42 roadstead.dev/abandon=dns"));
    annotate(world.environment(), "abandon", "vm");
    world.pass();
    assert_eq!(annotation(world.node(), "abandon"), Some("vm".into()));
}

#[test]
fn an_abandon_annotation_waits_for_the_end() {
    let mut environment = environment();
    annotate(&mut environment, "abandon", "vm");
    let mut world = running(environment);
    assert_eq!(annotation(world.node(), "abandon"), None);
    world.delete();
    world.pass();
    assert_eq!(annotation(world.node(), "abandon"), Some("vm".into()));
    assert_eq!(world.writes, ["patch", "delete", "status"]);
}

#[test]
fn a_paused_environment_pauses_its_node_keeps_ready_and_takes_its_own_pause_back() {
    let mut world = running(with_lifetime("1h"));
    annotate(world.environment(), "paused", "true");
    world.change_spec(|spec| spec.node.ttl = Some(600));
    world.now = at(9999);
    world.pass();
    assert_eq!((annotation(world.node(), "paused"), world.node().spec.ttl), (Some("true".into()), None));
    assert_eq!((world.condition("Ready").unwrap().status.as_str(), world.phase().as_str()), ("True", "Active"));
    assert_eq!(world.condition("Paused").unwrap().status, "True");
    assert_eq!(world.status().observed_generation, Some(1), "nobody looked at the new spec");
    world.delete();
    world.pass();
    assert!(!world.gone && world.node().metadata.deletion_timestamp.is_none());
    world.environment().metadata.annotations = None;
    world.pass();
    assert_eq!(annotation(world.node(), "paused"), None);
    assert!(world.condition("Paused").is_none() && world.node().metadata.deletion_timestamp.is_some());
}

#[test]
fn a_node_that_a_person_paused_by_itself_stays_paused() {
    let mut world = running(environment());
    annotate(world.node(), "paused", "true");
    world.pass();
    assert_eq!(annotation(world.node(), "paused"), Some("true".into()));
}

#[test]
fn a_wiped_status_finds_slug_and_node_again_and_creates_nothing() {
    let mut environment = environment();
    environment.spec.slug = None;
    let mut world = World::new(environment);
    world.taken = vec![super::super::slug::derive("shop", "review-42", "example-com", 0)];
    world.pass();
    make_ready(world.node());
    world.pass();
    let before = world.status().slug;
    world.environment().status = None;
    world.taken.clear();
    world.pass();
    assert_eq!((world.status().slug, world.nodes_made), (before, 1));
    assert_eq!(world.phase(), "Active");
}

#[test]
fn a_taken_derived_slug_is_passed_over_before_a_node_is_made() {
    let mut environment = environment();
    environment.spec.slug = None;
    let mut world = World::new(environment);
    let derive = |n| super::super::slug::derive("shop", "review-42", "example-com", n);
    world.taken = vec![derive(0), derive(1)];
    world.pass();
    assert_eq!((world.status().slug, world.memory().collisions), (Some(derive(2)), 2));
    assert_eq!((world.nodes_made, world.node().spec.hostname.clone()), (1, Some(derive(2))));
}

#[test]
fn a_node_that_meets_a_taken_name_is_replaced_under_the_next_derived_slug() {
    let mut environment = environment();
    environment.spec.slug = None;
    let mut world = World::new(environment);
    let derive = |n| super::super::slug::derive("shop", "review-42", "example-com", n);
    world.pass();
    make_stalled(world.node(), "HostnameTaken");
    world.taken = vec![derive(0)];
    world.later(5).pass();
    assert_eq!(world.status().slug, Some(derive(1)));
    assert_eq!(world.reasons(), ["SlugChanged"]);
    world.node_goes();
    world.pass();
    assert_eq!((world.nodes_made, world.node().spec.hostname.clone()), (2, Some(derive(1))));
}

#[test]
fn a_failed_create_is_tried_again_at_the_stored_time_and_at_once_for_a_new_spec() {
    let mut world = World::new(environment());
    let Step::Record(intent) = world.plan() else { panic!() };
    world.write_status(&intent);
    let failed = Outcome::Failed { reason: "KubernetesAPI", message: "no".into() };
    let mut status = report::report(&world.observed(), &Facts::default(), &failed, world.now);
    let journal = status.journal.get_or_insert_default();
    assert_eq!(journal.intent.as_deref(), Some("CreateNode"));
    (journal.attempts, journal.not_before) = (Some(1), Some(Time(world.now + SignedDuration::from_secs(30))));
    world.write_status(&status);
    assert_eq!(world.reasons(), ["KubernetesAPI"]);
    assert_eq!(world.condition("Reconciling").unwrap().reason, "KubernetesAPI");
    assert_eq!(world.plan(), Step::Hold(Duration::from_secs(30)));
    world.change_spec(|spec| spec.node.ttl = Some(600));
    assert!(matches!(world.plan(), Step::Do(Action::CreateNode(_))));
    world.later(30);
    assert!(matches!(world.plan(), Step::Do(Action::CreateNode(_))));
}

fn with_lifetime(lifetime: &str) -> Environment {
    let mut environment = environment();
    environment.spec.lifetime = Some(lifetime.to_owned());
    environment
}

fn annotation<K: Resource>(object: &mut K, name: &str) -> Option<String> {
    super::super::annotation(&*object, name).map(str::to_owned)
}
