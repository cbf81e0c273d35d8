//! The plan by example: one Node in one situation, and the step that follows.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;

use super::super::observe::{Hosts, ProviderView, ZoneView};
use super::*;
use crate::api::claim::Holder;
use crate::api::names::{ClusterId, Fqdn, Mark};
use crate::api::node::{Addresses, Node, NodeSpec, RecordStatus};
use crate::api::refs::{ClusterRef, DeletionPolicy, HostManagement};
use crate::api::status::Journal;
use crate::cloud::VmStatus;
use crate::cloud::fleet::Snapshot;
use crate::controllers::provider::Held;
use crate::dns::{Content, Published, Refusal};
use crate::outside::OutsideError;
use crate::runtime::claims::Claimant;

const UID: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
const SETTLE: Duration = Duration::from_secs(90);

pub(in crate::controllers::node) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "every field it fills is an Option")]
pub(in crate::controllers::node) fn ago(seconds: i64) -> Option<Time> {
    Some(Time(now() - SignedDuration::from_secs(seconds)))
}

pub(in crate::controllers::node) fn mark() -> Mark {
    Mark::new(ClusterId::parse("test1").unwrap(), "Node", "shop", "web-1", UID).unwrap()
}

pub(in crate::controllers::node) fn zone() -> ZoneView {
    ZoneView {
        domain: Some(Fqdn::parse("example.com").unwrap()),
        allowed: true,
        allow_apex: false,
        ttl: 300,
        resolvers: vec![([1, 1, 1, 1], 53).into()],
        authority: vec![([192, 0, 2, 53], 53).into()],
        timeout: Duration::from_secs(120),
        running: true,
        unusable: None,
    }
}

pub(in crate::controllers::node) fn vm(id: &str, incarnation: i64) -> Vm {
    Vm {
        id: id.into(),
        name: crate::api::names::vm_name("web-1", UID, incarnation),
        status: VmStatus::Active,
        public4: Some([203, 0, 113, 7].into()),
        public6: None,
        private4: None,
        region: "fra1".into(),
        size: "small".into(),
        image: "debian".into(),
        mark: Some(mark()),
        tags: Vec::new(),
        created_at: now(),
    }
}

fn seen(hosts: Hosts) -> Observed {
    let spec = NodeSpec {
        provider_ref: ClusterRef { name: "do".into() },
        zone_ref: ClusterRef { name: "example-com".into() },
        ..NodeSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some("web-1".into()),
        namespace: Some("shop".into()),
        uid: Some(UID.into()),
        generation: Some(1),
        ..ObjectMeta::default()
    };
    Observed {
        node: Arc::new(Node { metadata, spec, status: None }),
        status: NodeStatus {
            observed_generation: Some(1),
            fqdn: Some("web-1.example.com".into()),
            ..Default::default()
        },
        mark: mark(),
        claimant: Claimant {
            namespace: "shop".into(),
            holder: Holder { kind: "Node".into(), name: "web-1".into(), uid: UID.into() },
        },
        zone: Some(zone()),
        provider: Some(ProviderView { allowed: true, unusable: None, hosts }),
        name: Some(Standing::Ours),
        address: Some(Standing::Ours),
        held: None,
        settle: SETTLE,
        resync: Duration::from_secs(300),
        ttl_cap: None,
        read_only: false,
        public_key: None,
        host: None,
    }
}

pub(in crate::controllers::node) fn droplets(vms: Vec<Vm>) -> Observed {
    let defaults = ["fra1", "small", "debian"].map(String::from);
    seen(Hosts::Vms { defaults, snapshot: Ok(Snapshot::of(vms)) })
}

pub(in crate::controllers::node) fn rack() -> Observed {
    let mut seen = seen(Hosts::Static(Ok(())));
    spec(&mut seen, |node| node.spec.address = Some("203.0.113.7".into()));
    seen
}

pub(in crate::controllers::node) fn spec(seen: &mut Observed, change: impl FnOnce(&mut Node)) {
    change(Arc::make_mut(&mut seen.node));
}

pub(in crate::controllers::node) fn annotate(seen: &mut Observed, name: &str, value: &str) {
    spec(seen, |node| {
        node.metadata.annotations.get_or_insert_default().insert(format!("roadstead.dev/{name}"), value.into());
    });
}

pub(in crate::controllers::node) fn delete(mut seen: Observed) -> Observed {
    spec(&mut seen, |node| node.metadata.deletion_timestamp = ago(1));
    seen
}

/// The Node as it is when its VM runs and its name is published.
pub(in crate::controllers::node) fn settled(mut seen: Observed) -> Observed {
    seen.status.vm_id = seen.node.spec.address.is_none().then(|| "7".into());
    seen.status.incarnation = Some(1);
    seen.status.size = Some("small".into());
    seen.status.image = Some("debian".into());
    seen.status.addresses = Some(Addresses { public4: Some("203.0.113.7".into()), ..Addresses::default() });
    seen.status.record = Some(RecordStatus { id: "r".into(), content: "203.0.113.7".into(), ttl: 300 });
    seen
}

fn record(address: &str) -> Desired {
    let content = match address.parse().unwrap() {
        IpAddr::V4(v4) => Content::A(v4),
        IpAddr::V6(v6) => Content::Aaaa(v6),
    };
    Desired { name: Fqdn::parse("web-1.example.com").unwrap(), content, ttl: 300, proxied: false }
}

pub(super) fn applied(address: &str) -> Facts {
    let wanted = record(address);
    let Desired { name, content, ttl, proxied } = wanted.clone();
    let published = Published { id: "r".into(), name, content, ttl, proxied };
    Facts { declared: Some((vec![wanted], Declared::Applied(vec![published]))), ..Facts::default() }
}

fn withdrawn() -> Facts {
    Facts { declared: Some((Vec::new(), Declared::Applied(Vec::new()))), ..Facts::default() }
}

/// The step in a word: the action, or the reason.
pub(super) fn word(seen: &Observed, facts: &Facts) -> String {
    match plan(seen, facts, now()) {
        Step::Do(action) => format!("{action:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        Step::Record(status) => format!("Record {:?}", status.journal.and_then(|j| j.intent).unwrap_or_default()),
        Step::Wait(wait) => format!("wait {}", wait.reason),
        Step::Stop { reason, .. } => format!("stop {reason}"),
        Step::Hold(_) => "hold".into(),
        Step::Done => "done".into(),
        Step::Gone => "gone".into(),
    }
}

#[test]
fn names_are_claimed_before_anything_else_and_another_holder_stops_the_node() {
    let mut free = droplets(vec![]);
    free.name = Some(Standing::Free);
    assert_eq!(word(&free, &Facts::default()), "Claim");
    let holder = Holder { kind: "Node".into(), name: "other".into(), uid: "2".into() };
    free.name = Some(Standing::Taken { namespace: "blog".into(), holder });
    assert_eq!(word(&free, &Facts::default()), "stop HostnameTaken");
    let mut host = rack();
    host.address = Some(Standing::Free);
    assert_eq!(word(&host, &Facts::default()), "Claim");
}

#[test]
fn a_vm_is_bought_only_for_a_name_nobody_else_uses_and_after_the_intent() {
    let seen = droplets(vec![]);
    let mut facts = Facts::default();
    assert_eq!(word(&seen, &facts), "LookByKey");
    facts.namesakes = Some(Listing { vms: Vec::new(), whole: true });
    assert_eq!(word(&seen, &facts), "CheckName");
    let name = Fqdn::parse("web-1.example.com").unwrap();
    let foreign = Refusal::Foreign { name, kind: "CNAME".into(), content: "x.example".into(), record_id: "f".into() };
    facts.checked = Some(Checked::Taken(foreign));
    assert_eq!(word(&seen, &facts), "stop ForeignRecord");
    facts.checked = Some(Checked::Free);
    assert_eq!(word(&seen, &facts), "IntendCreate");
    facts.intended = true;
    assert_eq!(word(&seen, &facts), "CreateVm");
}

#[test]
fn an_intent_found_later_is_an_unknown_outcome_looked_into_twice_before_a_second_vm() {
    let mut seen = droplets(vec![]);
    let intent = |started| Journal { intent: Some("CreateVM".into()), started_at: ago(started), ..Journal::default() };
    let nothing = || Some(Listing { vms: Vec::new(), whole: true });
    let mut facts = Facts { namesakes: nothing(), checked: Some(Checked::Free), ..Facts::default() };
    seen.status.journal = Some(intent(10));
    assert_eq!(word(&seen, &facts), "LookByMark");
    facts.looked = nothing();
    assert_eq!(word(&seen, &facts), "wait OutcomeUnknown");
    seen.status.journal = Some(intent(91));
    assert_eq!(word(&seen, &facts), "IntendCreate");
    facts.looked = Some(Listing { vms: Vec::new(), whole: false });
    assert_eq!(word(&seen, &facts), "wait OutcomeUnknown");
    facts.looked = Some(Listing { vms: vec![vm("7", 1)], whole: true });
    let Step::Record(status) = plan(&seen, &facts, now()) else { panic!("a VM of ours is taken into the status") };
    assert_eq!((status.vm_id.as_deref(), status.journal), (Some("7"), None));
}

#[test]
fn a_vm_of_an_earlier_life_is_never_a_reason_for_a_second_one() {
    let mut old = vm("7", 1);
    old.mark.as_mut().unwrap().owner = "a".repeat(26);
    let mut seen = droplets(vec![old]);
    assert_eq!(word(&seen, &Facts::default()), "stop AdoptionRequired");
    annotate(&mut seen, "adopt", &"b".repeat(26));
    assert_eq!(word(&seen, &Facts::default()), "stop AdoptionRequired");
    annotate(&mut seen, "adopt", &"a".repeat(26));
    assert_eq!(word(&seen, &Facts::default()), "AdoptVm");
}

#[test]
fn a_name_is_asked_for_at_its_own_servers_before_any_resolver() {
    let (seen, mut facts) = (settled(rack()), applied("203.0.113.7"));
    assert_eq!(word(&seen, &Facts::default()), "Declare");
    assert_eq!(word(&seen, &facts), "AskAuthority");
    facts.authority = Some(Confirmation::Differs("nothing".into()));
    assert_eq!(word(&seen, &facts), "wait Propagating");
    facts.authority = Some(Confirmation::Confirmed);
    assert_eq!(word(&seen, &facts), "AskResolvers");
    facts.resolvers = Some(Confirmation::Confirmed);
    assert_eq!(word(&seen, &facts), "done");
    facts.resolvers = Some(Confirmation::Differs("nothing".into()));
    assert_eq!(word(&seen, &facts), "wait Propagating");
    let mut late = seen;
    late.status.journal = Some(Journal { propagating_since: ago(121), ..Journal::default() });
    assert_eq!(word(&late, &facts), "wait PropagationTimeout");
}

#[test]
fn ready_outlasts_a_writer_that_has_not_looked_yet_but_not_a_record_that_has_to_change() {
    let keeps = |seen: &Observed| {
        let facts = Facts { declared: Some((vec![record("203.0.113.7")], Declared::Pending)), ..Facts::default() };
        let Step::Wait(wait) = plan(seen, &facts, now()) else { panic!("the writer is waited for") };
        assert_eq!(wait.reason, "Publishing");
        wait.keep_ready
    };
    assert!(keeps(&settled(rack())));
    for known in [
        None,
        Some(RecordStatus { id: "r".into(), content: "203.0.113.6".into(), ttl: 300 }),
        Some(RecordStatus { id: "r".into(), content: "203.0.113.7".into(), ttl: 60 }),
    ] {
        let mut seen = settled(rack());
        seen.status.record = known;
        assert!(!keeps(&seen), "{:?}", seen.status.record);
    }
}

#[test]
fn what_the_schema_lets_through_by_mistake_is_still_refused_by_name() {
    let mut seen = rack();
    spec(&mut seen, |node| node.spec.address = Some("203.0.113".into()));
    assert_eq!(word(&seen, &Facts::default()), "stop InvalidAddress");
}

#[test]
fn a_changed_size_asks_for_a_replacement_which_only_a_new_token_orders() {
    let mut seen = settled(droplets(vec![vm("7", 1)]));
    let mut facts = applied("203.0.113.7");
    (facts.authority, facts.resolvers) = (Some(Confirmation::Confirmed), Some(Confirmation::Confirmed));
    assert_eq!(word(&seen, &facts), "done");
    spec(&mut seen, |node| node.spec.size = Some("large".into()));
    assert_eq!(word(&seen, &facts), "stop ReplacementRequired");
    annotate(&mut seen, "replace", "1");
    let Step::Record(status) = plan(&seen, &facts, now()) else { panic!("a replacement begins with its intent") };
    assert_eq!((status.incarnation, status.size.as_deref(), status.vm_id), (Some(2), Some("large"), None));
    let journal = status.journal.unwrap();
    assert_eq!((journal.replaced.as_deref(), journal.retired), (Some("1"), vec!["7".to_owned()]));
}

#[test]
fn a_replaced_vm_goes_only_when_the_name_has_pointed_elsewhere_for_a_ttl() {
    let mut seen = settled(droplets(vec![vm("7", 1), vm("8", 2)]));
    (seen.status.vm_id, seen.status.incarnation) = (Some("8".into()), Some(2));
    annotate(&mut seen, "replace", "1");
    let moved =
        |moved_at| Journal { replaced: Some("1".into()), retired: vec!["7".into()], moved_at, ..Journal::default() };
    let mut facts = applied("203.0.113.7");
    (facts.authority, facts.resolvers) = (Some(Confirmation::Confirmed), Some(Confirmation::Confirmed));
    seen.status.journal = Some(moved(None));
    assert_eq!(word(&seen, &facts), "Record \"\"");
    seen.status.journal = Some(moved(ago(299)));
    assert_eq!(word(&seen, &facts), "wait Replacing");
    seen.status.journal = Some(moved(ago(301)));
    assert_eq!(word(&seen, &facts), "GetVm");
    facts.got.insert("7".into(), Some(vm("7", 1)));
    assert_eq!(word(&seen, &facts), "DeleteVm");
}

#[test]
fn a_vm_that_is_gone_twice_loses_its_name_and_is_made_again_only_where_asked() {
    let mut seen = settled(droplets(vec![]));
    let mut facts = Facts::default();
    assert_eq!(word(&seen, &facts), "GetVm");
    facts.got.insert("7".into(), None);
    assert_eq!(word(&seen, &facts), "Record \"\"");
    seen.status.journal = Some(Journal { missing_since: ago(10), ..Journal::default() });
    assert_eq!(word(&seen, &facts), "wait VMMissing");
    seen.status.journal = Some(Journal { missing_since: ago(91), ..Journal::default() });
    seen.held = Some(Held { reason: "MassAbsence", message: "held".into() });
    assert_eq!(word(&seen, &facts), "wait MassAbsence");
    seen.held = None;
    assert_eq!(word(&seen, &facts), "Declare");
    facts.declared = withdrawn().declared;
    assert_eq!(word(&seen, &facts), "stop VMLost");
    spec(&mut seen, |node| node.spec.replace_lost = true);
    let Step::Record(status) = plan(&seen, &facts, now()) else { panic!("another VM takes its place") };
    assert_eq!((status.vm_id, status.incarnation), (None, Some(2)));
}

#[test]
fn a_listing_that_fails_says_nothing_about_a_vm_that_is_there() {
    let defaults = ["fra1", "small", "debian"].map(String::from);
    let failed = Err(OutsideError::Unavailable("502".into()));
    let seen = settled(seen(Hosts::Vms { defaults, snapshot: failed }));
    let mut facts = applied("203.0.113.7");
    (facts.authority, facts.resolvers) = (Some(Confirmation::Confirmed), Some(Confirmation::Confirmed));
    assert_eq!(word(&seen, &facts), "done");
}

#[test]
fn backwards_the_name_goes_first_then_its_ttl_then_the_vm_then_the_claims() {
    let mut seen = delete(settled(droplets(vec![vm("7", 1)])));
    assert_eq!(word(&seen, &Facts::default()), "Declare");
    let mut facts = withdrawn();
    assert_eq!(word(&seen, &facts), "AskAuthority");
    facts.authority = Some(Confirmation::Differs("203.0.113.7".into()));
    assert_eq!(word(&seen, &facts), "wait Withdrawing");
    facts.authority = Some(Confirmation::Confirmed);
    assert_eq!(word(&seen, &facts), "Record \"\"");
    seen.status.journal = Some(Journal { withdrawn_at: ago(299), ..Journal::default() });
    assert_eq!(word(&seen, &facts), "wait WaitingForTTL");
    seen.status.journal = Some(Journal { withdrawn_at: ago(301), ..Journal::default() });
    assert_eq!(word(&seen, &facts), "LookByMark");
    facts.looked = Some(Listing { vms: vec![vm("7", 1)], whole: true });
    assert_eq!(word(&seen, &facts), "GetVm");
    facts.got.insert("7".into(), Some(vm("7", 1)));
    assert_eq!(word(&seen, &facts), "IntendDelete");
    facts.intended = true;
    assert_eq!(word(&seen, &facts), "DeleteVm");
    facts.got.insert("7".into(), None);
    assert_eq!(word(&seen, &facts), "DropOwnerTag");
    facts.untagged = true;
    assert_eq!(word(&seen, &facts), "Release");
    facts.released.push("web-1.example.com".into());
    assert_eq!(word(&seen, &facts), "gone");
}

#[test]
fn a_silent_authority_is_stood_in_for_only_after_six_minutes() {
    let mut seen = delete(settled(droplets(vec![vm("7", 1)])));
    let mut facts = withdrawn();
    facts.authority = Some(Confirmation::Unreachable("time-out".into()));
    for (since, step) in [(None, "wait Withdrawing"), (ago(359), "wait Withdrawing"), (ago(360), "Record \"\"")] {
        seen.status.journal = Some(Journal { propagating_since: since, ..Journal::default() });
        assert_eq!(word(&seen, &facts), step);
    }
}

#[test]
fn an_unknown_create_keeps_a_deleted_node_until_no_vm_can_surface_any_more() {
    let mut seen = delete(droplets(vec![]));
    let mut facts = withdrawn();
    facts.looked = Some(Listing { vms: Vec::new(), whole: true });
    let intent = |started| Journal {
        intent: Some("CreateVM".into()),
        started_at: ago(started),
        withdrawn_at: ago(1),
        ..Journal::default()
    };
    seen.status.journal = Some(intent(10));
    assert_eq!(word(&seen, &facts), "wait OutcomeUnknown");
    seen.status.journal = Some(intent(91));
    assert_eq!(word(&seen, &facts), "DropOwnerTag");
}

#[test]
fn the_ways_out_of_a_deletion() {
    let mut orphan = delete(settled(droplets(vec![vm("7", 1)])));
    orphan.status.journal = Some(Journal { withdrawn_at: ago(301), ..Journal::default() });
    spec(&mut orphan, |node| node.spec.deletion_policy = DeletionPolicy::Orphan);
    let mut facts = withdrawn();
    facts.looked = Some(Listing { vms: vec![vm("7", 1)], whole: true });
    assert_eq!(word(&orphan, &facts), "UnmarkVm");

    let mut stuck = delete(settled(droplets(vec![vm("7", 1)])));
    stuck.zone = None;
    assert_eq!(word(&stuck, &Facts::default()), "wait ZoneNotReady");
    annotate(&mut stuck, "abandon", "dns,vm");
    assert_eq!(word(&stuck, &Facts::default()), "SayAbandoned");
    let said = Facts { said: vec!["dns", "vm"], ..Facts::default() };
    assert_eq!(word(&stuck, &said), "Release");

    let mut refused = withdrawn();
    let refusal = Refusal::Rejected { name: "web-1.example.com".into(), code: "9999".into(), message: "no".into() };
    refused.declared = Some((Vec::new(), Declared::Refused(refusal)));
    assert_eq!(word(&delete(settled(rack())), &refused), "wait WithdrawalRefused");

    let mut held = delete(settled(rack()));
    held.held = Some(Held { reason: "DeletionHeld", message: "held".into() });
    assert_eq!(word(&held, &Facts::default()), "wait DeletionHeld");
}

#[test]
fn what_a_newer_definition_admits_stops_a_node_before_anything_is_made_or_deleted_for_it() {
    let mut seen = settled(droplets(vec![vm("7", 1)]));
    spec(&mut seen, |node| node.spec.host.manage = HostManagement::Unknown);
    assert_eq!(word(&seen, &Facts::default()), "stop UnknownValue");
    spec(&mut seen, |node| {
        node.spec.host.manage = HostManagement::None;
        node.spec.deletion_policy = DeletionPolicy::Unknown;
    });
    assert_eq!(word(&seen, &Facts::default()), "stop UnknownValue");
    let mut seen = delete(seen);
    seen.status.journal = Some(Journal { withdrawn_at: ago(301), ..Journal::default() });
    assert_eq!(word(&seen, &withdrawn()), "stop UnknownValue");
}

#[test]
fn a_vm_that_was_missing_is_not_published_again_because_a_listing_fails() {
    let mut lost = settled(droplets(vec![]));
    lost.status.journal = Some(Journal { missing_since: ago(400), ..Journal::default() });
    let Some(ProviderView { hosts: Hosts::Vms { snapshot, .. }, .. }) = &mut lost.provider else { panic!("no VMs") };
    *snapshot = Err(OutsideError::Unavailable("502".into()));
    assert_eq!(word(&lost, &Facts::default()), "wait Unavailable");
    let Some(ProviderView { hosts: Hosts::Vms { snapshot, .. }, .. }) = &mut lost.provider else { panic!("no VMs") };
    *snapshot = Ok(Snapshot::from(Listing { vms: Vec::new(), whole: false }));
    assert_eq!(word(&lost, &Facts::default()), "wait WaitingForAddress");
}

#[test]
fn a_name_that_is_late_does_not_hide_that_the_vm_is_not_what_the_spec_asks_for() {
    let (mut seen, mut facts) = (settled(droplets(vec![vm("7", 1)])), applied("203.0.113.7"));
    spec(&mut seen, |node| node.spec.size = Some("large".into()));
    seen.status.journal = Some(Journal { propagating_since: ago(121), ..Journal::default() });
    facts.authority = Some(Confirmation::Confirmed);
    facts.resolvers = Some(Confirmation::Differs("nothing".into()));
    assert_eq!(word(&seen, &facts), "stop ReplacementRequired");
}

#[test]
fn a_stored_back_off_is_kept_until_the_spec_changes() {
    let mut seen = droplets(vec![]);
    seen.status.journal = Some(Journal { attempts: Some(1), not_before: ago(-30), ..Journal::default() });
    assert_eq!(plan(&seen, &Facts::default(), now()), Step::Hold(Duration::from_secs(30)));
    spec(&mut seen, |node| node.metadata.generation = Some(2));
    assert_eq!(word(&seen, &Facts::default()), "LookByKey");
}

#[test]
fn a_paused_or_frozen_node_writes_nothing_outside() {
    let mut frozen = droplets(vec![]);
    frozen.read_only = true;
    let nothing = Some(Listing { vms: Vec::new(), whole: true });
    let facts = Facts { namesakes: nothing, checked: Some(Checked::Free), ..Facts::default() };
    assert_eq!(word(&frozen, &facts), "wait ReadOnly");
    annotate(&mut frozen, "paused", "true");
    assert_eq!(word(&frozen, &facts), "wait Paused");
    assert_eq!(word(&delete(frozen), &facts), "wait Paused");
}
