pub mod cloud;
mod commons;
mod handover;

use std::time::Duration;

use self::cloud::{Cloud, host};
use super::*;
use crate::api::app_deployment::{Domain, Publish};
use crate::api::claim::Holder;
use crate::api::condition;
use crate::controllers::app_deployment::available::{Reading as Probes, Seen};
use crate::controllers::app_deployment::followers::Follower;
use crate::host::deploy::model::{Behaviour, NAME, World};
use crate::probe::{Failure, Health, Verdict};
#[test]
fn a_first_deploy_claims_then_publishes_then_starts_and_swaps() {
    let mut cloud = Cloud::of(&["a"]);
    assert_eq!(cloud.run(), Step::Done);
    let order = [
        "claim shop.example.com Dns",
        "claim shop.example.com Http",
        "declare shop.example.com=203.0.113.1",
        "a: Pull",
        "a: Up",
        "a: Route",
    ];
    let places: Vec<_> = order.iter().map(|said| cloud.at(said)).collect();
    assert!(places[..4].is_sorted() && places[3] < places[4], "{:#?}", cloud.log);
    assert_eq!(cloud.revision("a").as_deref(), Some("r1"));
    let status = &cloud.seen.status;
    assert_eq!((status.phase.as_deref(), status.status.as_deref()), (Some("Active"), Some("active")));
    assert_eq!((status.entry_service.as_deref(), status.entry_port), (Some("web"), Some(8080)));
    assert_eq!(status.domain.as_deref(), Some(NAME));
    assert_eq!(status.domains[0].phase.as_deref(), Some("Serving"));
    assert!(status.updated_at.is_some());
    assert_eq!(cloud.ready().0, "Deployed");
}

#[test]
fn an_app_in_place_is_left_alone_until_the_next_resync() {
    let mut cloud = Cloud::live(&["a"]);
    let before = cloud.seen.status.clone();
    assert_eq!(cloud.pass(), Step::Done);
    assert_eq!((cloud.log.len(), cloud.facts.looked.len()), (0, 0), "nobody looks at the host");
    assert_eq!(cloud.seen.status, before);
    cloud.later(Duration::from_secs(300));
    assert_eq!(cloud.pass(), Step::Done);
    assert_eq!(cloud.seen.status, before);
    assert_eq!(cloud.seen.hosts["a"].settled.as_ref().unwrap().at, cloud.now, "the host was looked at");
}

#[test]
fn a_host_is_looked_at_when_visitors_are_failed_there_or_it_was_put_in_order_again() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.seen.hosts.get_mut("a").unwrap().restored = 1;
    assert_eq!((cloud.pass(), cloud.facts.looked.len()), (Step::Done, 1));
    let now = cloud.now;
    let reason = crate::probe::reason::UPSTREAM_502;
    let verdict = Verdict { health: Health::Unhealthy, reason, message: "502".into(), since: now };
    let seen = Seen { domain: NAME.into(), node: "a".into(), verdict: Some(verdict) };
    cloud.seen.available = Probes { sites: Some(vec![seen]), isolated: false };
    assert_eq!((cloud.pass(), cloud.facts.looked.len()), (Step::Done, 1), "what the host says may explain it");
    assert_eq!((cloud.pass(), cloud.facts.looked.len()), (Step::Done, 0));
    cloud.later(ILL);
    assert_eq!((cloud.pass(), cloud.facts.looked.len()), (Step::Done, 1), "as long as it lasts");
    cloud.seen.hosts.get_mut("a").unwrap().ill = Some(Failure { reason: "OOMKilled", message: "memory".into() });
    assert_eq!((cloud.pass(), cloud.condition("Available").0.as_str()), (Step::Done, "OOMKilled"));
}

#[test]
fn visitors_who_are_sent_elsewhere_are_noticed_at_a_resync_and_until_the_next() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    let reason = crate::probe::reason::SUCCEEDED;
    let verdict = Verdict { health: Health::Healthy, reason, message: "well".into(), since: now };
    let seen = Seen { domain: NAME.into(), node: "a".into(), verdict: Some(verdict) };
    cloud.seen.available = Probes { sites: Some(vec![seen]), isolated: false };
    cloud.authority = Confirmation::Differs("192.0.2.53:53 answers 198.51.100.9".into());
    for (after, answer, expected) in [
        (0, None, "Serving"),
        (300, None, "DNSMismatch"),
        (0, Some(Confirmation::Confirmed), "DNSMismatch"),
        (300, None, "Serving"),
    ] {
        cloud.now = cloud.now.checked_add(Duration::from_secs(after)).unwrap();
        cloud.authority = answer.unwrap_or(cloud.authority);
        assert_eq!((cloud.pass(), cloud.condition("Available").0.as_str()), (Step::Done, expected));
    }
}

#[test]
fn hosts_that_share_a_name_send_what_an_authority_asks_round_in_a_ring_which_a_new_one_joins() {
    let mut cloud = Cloud::live(&["a", "b"]);
    let peers = |cloud: &Cloud| {
        let peer = |world: &World| world.routes[NAME].peer().map(|peer| peer.to_string());
        cloud.worlds.values().map(peer).map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    assert_eq!(peers(&cloud), ["203.0.113.2:80", "203.0.113.1:80"]);
    cloud.seen.hosts.insert("c".into(), host("c", 3));
    cloud.worlds.insert("c".into(), World::new());
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(peers(&cloud), ["203.0.113.2:80", "203.0.113.3:80", "203.0.113.1:80"]);
    assert_eq!(peers(&Cloud::live(&["a"])), [""]);
}

#[test]
fn a_revision_that_fails_leaves_the_one_before_serving_and_says_which_step_failed() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.want("r2", Behaviour::NeverHealthy);
    let Step::Stop { reason, message } = cloud.run() else { panic!("{:?}", cloud.ready()) };
    assert_eq!(reason, "Unhealthy");
    assert!(message.contains("its health check inside") && message.contains("serves on"), "{message}");
    assert_eq!(cloud.revision("a").as_deref(), Some("r1"));
    assert_eq!(cloud.worlds["a"].routed().as_deref(), Some("r1"));
    assert_eq!(cloud.seen.status.phase.as_deref(), Some("Error"));
    // It is not tried again.
    cloud.log.clear();
    cloud.later(Duration::from_secs(600));
    assert!(matches!(cloud.pass(), Step::Stop { .. }));
    assert_eq!(cloud.log, ["declare shop.example.com=203.0.113.1"]);
    cloud.want("r3", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.revision("a").as_deref(), Some("r3"));
}

#[test]
fn nodes_are_deployed_to_one_after_the_other_and_the_first_failure_stops_the_rest() {
    let mut cloud = Cloud::live(&["a", "b", "c"]);
    cloud.want("r2", Behaviour::Well);
    cloud.worlds.get_mut("b").unwrap().want("r2", Behaviour::CrashLoops);
    assert!(matches!(cloud.run(), Step::Stop { reason: "CrashLooping", .. }), "{:?}", cloud.ready());
    let revisions = ["a", "b", "c"].map(|node| cloud.revision(node).unwrap());
    assert_eq!(revisions, ["r2", "r1", "r1"]);
    assert!(!cloud.log.iter().any(|said| said.starts_with("c: Pull")), "{:#?}", cloud.log);
    assert!(cloud.ready().1.starts_with("Node b: revision r2 failed at"), "{:?}", cloud.ready());
}

#[test]
fn every_name_leads_to_all_nodes_that_serve_and_the_first_deploy_to_one() {
    let mut cloud = Cloud::of(&["a", "b"]);
    assert_eq!(cloud.run(), Step::Done);
    let declared: Vec<_> = cloud.log.iter().filter(|said| said.starts_with("declare")).collect();
    assert_eq!(declared[0], "declare shop.example.com=203.0.113.1");
    assert_eq!(*declared.last().unwrap(), "declare shop.example.com=203.0.113.1 shop.example.com=203.0.113.2");
}

#[test]
fn a_name_that_somebody_else_holds_stops_the_deploy_before_anything_is_published() {
    let mut cloud = Cloud::of(&["a"]);
    let holder = Holder { kind: "Node".into(), name: "web".into(), uid: "n".into() };
    let taken = claims::Standing::Taken { namespace: "other".into(), holder };
    cloud.seen.standings.insert((NAME.into(), Role::Dns), taken);
    let Step::Stop { reason, message } = cloud.run() else { panic!() };
    assert_eq!(reason, "HostnameTaken");
    assert!(message.contains("spec.domains[0]") && message.contains("Node other/web"), "{message}");
    assert_eq!(cloud.log, Vec::<String>::new());
}

#[test]
fn a_node_that_is_not_managed_or_not_there_is_waited_for_by_name() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.seen.hosts.get_mut("a").unwrap().blocked = Some(("NodeNotReady", "Node a is not ready for apps".into()));
    let Step::Wait(wait) = cloud.run() else { panic!() };
    assert_eq!((wait.reason, wait.message.as_str()), ("NodeNotReady", "Node a is not ready for apps"));
    let mut cloud = Cloud::live(&["a"]);
    cloud.seen.no_target = Some(("NodeNotFound", "there is no Node a".into()));
    assert!(matches!(cloud.run(), Step::Wait(Wait { reason: "NodeNotFound", .. })));
    assert_eq!(cloud.log, Vec::<String>::new(), "nothing is taken away for that");
}

#[test]
fn an_app_that_moves_serves_on_its_old_node_until_no_cache_leads_there() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.seen.hosts.insert("b".into(), host("b", 2));
    cloud.worlds.insert("b".into(), World::new());
    cloud.worlds.get_mut("b").unwrap().want("r1", Behaviour::Well);
    cloud.seen.hosts.get_mut("a").unwrap().target = false;
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    let repointed = cloud.at("declare shop.example.com=203.0.113.2");
    assert!(cloud.at("b: Up") < repointed && repointed < cloud.at("a: Route"), "{:#?}", cloud.log);
    assert!(cloud.at("a: Route") < cloud.at("a: Stop"), "{:#?}", cloud.log);
    assert_eq!(cloud.seen.status.nodes.len(), 1);
    assert_eq!(cloud.worlds["a"].containers.len(), 0);
}

#[test]
fn an_app_that_moves_or_goes_waits_for_the_groups_that_send_visitors_to_it() {
    let group = |nodes: &[&str]| Follower {
        group: "web".into(),
        nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
        ttl: 60,
    };
    let mut cloud = Cloud::of(&["a"]);
    cloud.app().spec.domains[0].publish = Publish::Group;
    assert_eq!(cloud.run(), Step::Done);
    cloud.seen.followers = vec![group(&["a"])];
    cloud.seen.hosts.insert("b".into(), host("b", 2));
    cloud.worlds.insert("b".into(), World::new());
    cloud.worlds.get_mut("b").unwrap().want("r1", Behaviour::Well);
    cloud.seen.hosts.get_mut("a").unwrap().target = false;
    cloud.want("r1", Behaviour::Well);
    while !matches!(cloud.pass(), Step::Wait(Wait { reason: "Moving", .. })) {
        cloud.later(Duration::from_secs(2));
    }
    assert!(cloud.ready().1.contains("until ServerGroup web has left them"), "{:?}", cloud.ready());
    cloud.later(Duration::from_secs(3600));
    assert!(matches!(cloud.pass(), Step::Wait(Wait { reason: "Moving", .. })), "however long that takes");
    cloud.seen.followers = vec![group(&["b"])];
    let now = cloud.now;
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.now.duration_since(now).as_secs() >= 60, "a cache may hold what the group published");
    assert!(!cloud.log.iter().any(|said| said.contains("203.0.113")), "the name is the group's: {:#?}", cloud.log);
    assert_eq!(cloud.worlds["a"].containers.len(), 0);

    cloud.log.clear();
    let now = cloud.now;
    cloud.app().metadata.deletion_timestamp = Some(whole_seconds(now));
    assert_eq!(cloud.run(), Step::Gone);
    assert!(cloud.now.duration_since(now).as_secs() >= 60, "nobody is sent to what is taken away");
    assert_eq!(cloud.log.iter().filter(|said| said.starts_with("release")).count(), 1, "{:#?}", cloud.log);
    cloud.at("release shop.example.com Http");
}

#[test]
fn a_deleted_app_withdraws_its_names_waits_out_the_ttl_and_leaves_nothing() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    cloud.app().metadata.deletion_timestamp = Some(whole_seconds(now));
    assert_eq!(cloud.run(), Step::Gone);
    assert_eq!(cloud.log[0], "declare ");
    assert!(cloud.now.duration_since(now).as_secs() >= 300, "a cache may hold the name for so long");
    assert!(cloud.at("a: Route") < cloud.at("a: Remove"));
    let released = [cloud.at("release shop.example.com Http"), cloud.at("release shop.example.com Dns")];
    assert!(released.iter().all(|at| *at > cloud.at("a: Remove")), "{:#?}", cloud.log);
    assert_eq!(cloud.worlds["a"].containers.len(), 0);
}

#[test]
fn a_deleted_app_does_not_wait_for_a_host_that_is_gone() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    cloud.app().metadata.deletion_timestamp = Some(whole_seconds(now));
    cloud.seen.hosts.get_mut("a").unwrap().node = None;
    assert_eq!(cloud.run(), Step::Gone);
    assert!(!cloud.log.iter().any(|said| said.starts_with("a: ")), "{:#?}", cloud.log);
}

#[test]
fn a_deleted_app_waits_for_a_host_that_does_not_answer_but_not_for_ever() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    cloud.app().metadata.deletion_timestamp = Some(whole_seconds(now));
    cloud.unreachable = Some("connection timed out".into());
    while !matches!(cloud.pass(), Step::Wait(Wait { reason: "HostUnreachable", .. })) {
        cloud.later(Duration::from_secs(30));
        assert!(cloud.now.duration_since(now).as_secs() < 600, "{:?}", cloud.ready());
    }
    let (_, message) = cloud.ready();
    assert!(message.contains("connection timed out") && message.contains("abandon=host"), "{message}");
    assert_eq!(cloud.run(), Step::Gone);
    assert!(cloud.now.duration_since(now).as_secs() > 600);
}

#[test]
fn an_app_whose_lifetime_is_over_is_taken_away_and_its_object_stays() {
    let mut cloud = Cloud::live(&["a"]);
    let now = cloud.now;
    cloud.app().metadata.creation_timestamp = Some(whole_seconds(now));
    cloud.app().spec.lifetime = Some("1h".into());
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.seen.status.phase.as_deref(), Some("Active"));
    cloud.later(Duration::from_secs(3600));
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!((cloud.seen.status.phase.as_deref(), cloud.ready().0.as_str()), (Some("Expired"), "Expired"));
    assert_eq!((cloud.worlds["a"].containers.len(), cloud.seen.status.domains.len()), (0, 0));
}

#[test]
fn a_rollback_is_in_force_until_the_spec_changes() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.want("r2", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(Rollback::of(&cloud.seen), None);
    cloud.annotate("rollback", "r1");
    cloud.revision = "r1".into();
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(Rollback::of(&cloud.seen).unwrap().revision, "r1");
    assert_eq!((cloud.revision("a").unwrap(), cloud.ready().0), ("r1".into(), "RolledBack".into()));
    cloud.want("r3", Behaviour::Well);
    assert_eq!(Rollback::of(&cloud.seen), None);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.ready().0, "Deployed");
    cloud.app().metadata.annotations = None;
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.seen.status.journal.as_ref().is_none_or(|journal| !journal.other.contains_key("rollback")));
}

#[test]
fn a_name_in_no_zone_is_served_once_it_is_proven_and_holds_no_other_up() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.app().spec.domains.push(Domain { name: "shop.example.org".into(), ..Domain::default() });
    let end = (0..60).find_map(|_| match cloud.pass() {
        Step::Wait(wait) if wait.reason == "DomainNotVerified" => Some(wait.message),
        Step::Wait(wait) => {
            cloud.later(wait.after);
            None
        }
        step => panic!("{step:?}"),
    });
    let message = end.unwrap();
    assert!(message.contains("_roadstead.shop.example.org") && message.contains("`roadstead=c1-"), "{message}");
    assert_eq!(cloud.revision("a").as_deref(), Some("r1"), "the other name is served");
    assert!(!cloud.worlds["a"].routes.contains_key("shop.example.org"));
    let known = cloud.seen.status.domains.iter_mut().find(|domain| domain.name == "shop.example.org");
    known.unwrap().verification.as_mut().unwrap().seen = true;
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.worlds["a"].routes.contains_key("shop.example.org"));
    cloud.at("claim shop.example.org Http");
}

#[test]
fn a_name_that_is_asked_for_no_more_is_given_back_after_it_left_zone_and_table() {
    let mut cloud = Cloud::of(&["a"]);
    let other = Domain { name: "www.example.com".into(), ..Domain::default() };
    cloud.app().spec.domains.push(other);
    assert_eq!(cloud.run(), Step::Done);
    cloud.log.clear();
    cloud.app().spec.domains.pop();
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    let released = cloud.at("release www.example.com Dns");
    assert!(cloud.at("declare shop.example.com=203.0.113.1") < released && cloud.at("a: Route") < released);
    let names: Vec<_> = cloud.seen.status.domains.iter().map(|domain| domain.name.clone()).collect();
    assert_eq!(names, [NAME]);
    assert!(!cloud.worlds["a"].routes.contains_key("www.example.com"));
}

#[test]
fn without_names_of_its_own_an_app_is_reached_by_its_nodes_name_which_that_publishes() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.app().spec.domains.clear();
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.worlds["a"].routes.contains_key("a.example.com"));
    assert_eq!(
        cloud.log.iter().filter(|said| said.starts_with("claim")).collect::<Vec<_>>(),
        ["claim a.example.com Http"]
    );
    assert!(!cloud.log.iter().any(|said| said.starts_with("declare")), "{:#?}", cloud.log);
}

#[test]
fn a_nodes_own_name_is_given_back_to_its_placeholder_once() {
    let mut named = Cloud::of(&["a"]);
    named.app().spec.domains.clear();
    assert_eq!(named.run(), Step::Done);
    named.app().spec.domains = vec![Domain { name: NAME.into(), ..Domain::default() }];
    named.log.clear();
    named.want("r1", Behaviour::Well);
    assert_eq!(named.run(), Step::Done);
    // With the name beside the one before, and without that.
    assert_eq!(named.log.iter().filter(|said| *said == "a: Route").count(), 2, "{:#?}", named.log);

    let mut deleted = Cloud::of(&["a"]);
    deleted.app().spec.domains.clear();
    assert_eq!(deleted.run(), Step::Done);
    let now = deleted.now;
    deleted.log.clear();
    deleted.app().metadata.deletion_timestamp = Some(whole_seconds(now));
    assert_eq!(deleted.run(), Step::Gone);
    assert_eq!(deleted.log.iter().filter(|said| *said == "a: Route").count(), 1, "{:#?}", deleted.log);
}

#[test]
fn a_paused_app_and_a_read_only_operator_do_nothing() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.seen.read_only = true;
    assert!(matches!(cloud.pass(), Step::Wait(Wait { reason: "ReadOnly", .. })));
    cloud.seen.read_only = false;
    cloud.annotate("paused", "true");
    assert!(matches!(cloud.run(), Step::Wait(Wait { reason: "Paused", .. })));
    assert_eq!(cloud.log, Vec::<String>::new());
    assert_eq!(condition::get(&cloud.seen.status.conditions, "Paused").unwrap().status, "True");
}

#[test]
fn every_way_to_fail_has_its_own_reason_and_leaves_the_revision_before_serving() {
    for (behaviour, reason) in [
        (Behaviour::ImageMissing, "ImageNotFound"),
        (Behaviour::CreateFails, "StartFailed"),
        (Behaviour::Exits, "ContainerExited"),
        (Behaviour::CrashLoops, "CrashLooping"),
        (Behaviour::NeverHealthy, "Unhealthy"),
        (Behaviour::ExternalFails, "ExternalHealthFailed"),
        (Behaviour::PreDeployFails, "PreDeployFailed"),
        (Behaviour::PreDeployHangs, "PreDeployTimedOut"),
        (Behaviour::BeforeFails, "ServiceFailed"),
        (Behaviour::SwapRefused, "SwapRefused"),
    ] {
        let mut cloud = Cloud::live(&["a"]);
        cloud.want("r2", behaviour);
        let Step::Stop { reason: said, message } = cloud.run() else { panic!("{behaviour:?}: {:?}", cloud.ready()) };
        assert_eq!(said, reason, "{behaviour:?}: {message}");
        assert_eq!(cloud.worlds["a"].routed().as_deref(), Some("r1"), "{behaviour:?}");
        assert!(message.contains("the revision before serves on"), "{message}");
    }
}

#[test]
fn a_reason_comes_back_from_the_journal_as_it_was_and_that_of_another_version_as_one_for_all() {
    for reason in ["ContainerMissing", "DependencyFailed", "DependencyNotReady", "NetworkFailed", "OOMKilled"] {
        assert_eq!(host::known(reason), reason);
    }
    assert_eq!(host::known("SomethingNew"), "DeployFailed");
}

#[test]
fn a_file_that_may_not_run_stops_the_deploy_before_anything_is_published_or_run() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.refused = Some(("ComposeRefused", "service `web`: no port".into()));
    cloud.want("r2", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Stop { reason: "ComposeRefused", message: "service `web`: no port".into() });
    assert_eq!(cloud.log, Vec::<String>::new());
    assert_eq!(cloud.worlds["a"].routed().as_deref(), Some("r1"));
}

#[test]
fn volumes_stay_behind_only_where_that_is_accepted() {
    let mut cloud = Cloud::live(&["a"]);
    cloud.seen.hosts.insert("b".into(), host("b", 2));
    cloud.worlds.insert("b".into(), World::new());
    cloud.seen.hosts.get_mut("a").unwrap().target = false;
    cloud.volumes = ["data".to_owned()].into();
    cloud.want("r1", Behaviour::Well);
    let Step::Stop { reason: "VolumesStayBehind", message } = cloud.run() else { panic!("{:?}", cloud.ready()) };
    assert!(message.contains("Node a") && message.contains("data") && message.contains("acceptDataLoss"), "{message}");
    assert_eq!(cloud.log, Vec::<String>::new());
    cloud.app().spec.accept_data_loss = Some("a".into());
    cloud.want("r1", Behaviour::Well);
    assert_eq!(cloud.run(), Step::Done);
    assert_eq!(cloud.seen.status.nodes.len(), 1);
}

#[test]
fn containers_that_are_not_the_apps_are_named_and_not_touched() {
    let mut cloud = Cloud::live(&["a"]);
    let world = cloud.worlds.get_mut("a").unwrap();
    world.containers[0].app = None;
    cloud.later(Duration::from_secs(300));
    let Step::Stop { reason: "ForeignContainers", message } = cloud.run() else { panic!("{:?}", cloud.ready()) };
    assert!(message.contains("the Compose project shop-c1-shop"), "{message}");
}
