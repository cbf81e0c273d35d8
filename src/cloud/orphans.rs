//! Orphans: VMs that carry our cluster's tag and belong to nobody. Pure.
//!
//! They are reported. Only one sort may be deleted without a person: a second VM of the same owner and incarnation,
//! left by a create whose outcome was unknown, aged, and never published.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Vm;
use crate::api::names::ClusterId;

/// What is alive in the cluster. To be gathered *after* the VMs were listed, or a Node made meanwhile would look dead.
#[derive(Debug, Clone, Default)]
pub struct Live<S: BuildHasher = std::hash::RandomState> {
    /// By owner (`o` of the mark): the ids of VMs that its status or journal names.
    pub owners: HashMap<String, HashSet<String, S>, S>,
    /// Keys (`k` of the mark) of all objects.
    pub keys: HashSet<String, S>,
    /// Addresses that a name points at, or did within the TTL of its record.
    pub published: HashSet<IpAddr, S>,
}

/// Why a VM is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No object has its owner's UID, and none its kind, namespace and name.
    OwnerGone,
    /// It carries the cluster's tag, but not one whole mark: nobody can be asked about it.
    MarkBroken,
    /// Its owner lives, but names another VM as its own.
    Surplus,
}

/// A VM that belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The VM.
    pub vm: Arc<Vm>,
    /// Why it is one.
    pub reason: Reason,
    /// Whether it may be deleted without asking: see the module's head.
    pub deletable: bool,
}

/// Finds the orphans among `vms`, the listing of `cluster`'s tag. Younger VMs than `min_age` are left out: they may be
/// in the middle of being created, tagged or recorded.
///
/// An owner that names no VM in its status is still looking for its own, so nothing of it is surplus.
#[must_use]
pub fn sweep<S: BuildHasher>(
    vms: &[Arc<Vm>],
    cluster: &ClusterId,
    live: &Live<S>,
    now: Timestamp,
    min_age: Duration,
) -> Vec<Orphan> {
    let min_age = SignedDuration::try_from(min_age).unwrap_or(SignedDuration::MAX);
    let by_id: HashMap<&str, &Vm> = vms.iter().map(|vm| (vm.id.as_str(), &**vm)).collect();
    let aged = vms.iter().filter(|vm| now.duration_since(vm.created_at) >= min_age);
    aged.filter_map(|vm| {
        let (reason, deletable) = judge(vm, cluster, live, &by_id)?;
        Some(Orphan { vm: Arc::clone(vm), reason, deletable })
    })
    .collect()
}

fn judge<S: BuildHasher>(
    vm: &Vm,
    cluster: &ClusterId,
    live: &Live<S>,
    by_id: &HashMap<&str, &Vm>,
) -> Option<(Reason, bool)> {
    let Some(mark) = &vm.mark else { return Some((Reason::MarkBroken, false)) };
    if mark.cluster != *cluster {
        return None;
    }
    let Some(own) = live.owners.get(&mark.owner) else {
        return (!live.keys.contains(&mark.key)).then_some((Reason::OwnerGone, false));
    };
    if own.is_empty() || own.contains(&vm.id) {
        return None;
    }
    // Only the VM its owner names is ever published, and a name says the incarnation: a former incarnation, which was
    // published once, has another one.
    let twin = own.iter().filter_map(|id| by_id.get(id.as_str())).any(|kept| kept.name == vm.name);
    let addresses = [vm.public4.map(IpAddr::V4), vm.public6.map(IpAddr::V6), vm.private4.map(IpAddr::V4)];
    let published = addresses.into_iter().flatten().any(|address| live.published.contains(&address));
    Some((Reason::Surplus, twin && !published))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::names::Mark;
    use crate::cloud::VmStatus;

    const DAY: Duration = Duration::from_hours(24);

    fn cluster() -> ClusterId {
        ClusterId::parse("c1").unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn mark(name: &str) -> Mark {
        Mark::new(cluster(), "Node", "shop", name, "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c").unwrap()
    }

    fn vm(id: u8, name: &str, mark: Option<Mark>) -> Arc<Vm> {
        Arc::new(Vm {
            id: id.to_string(),
            name: name.to_owned(),
            status: VmStatus::Active,
            public4: Some([203, 0, 113, id].into()),
            public6: None,
            private4: None,
            region: "fra1".to_owned(),
            size: "s-1vcpu-1gb".to_owned(),
            image: "debian-12-x64".to_owned(),
            mark,
            tags: Vec::new(),
            created_at: now() - SignedDuration::from_hours(48),
        })
    }

    fn live(owner: &Mark, ids: &[&str]) -> Live {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Live { owners: [(owner.owner.clone(), ids)].into(), keys: [owner.key.clone()].into(), ..Live::default() }
    }

    fn reasons(vms: &[Arc<Vm>], live: &Live) -> Vec<(String, Reason, bool)> {
        let found = sweep(vms, &cluster(), live, now(), DAY);
        found.into_iter().map(|orphan| (orphan.vm.id.clone(), orphan.reason, orphan.deletable)).collect()
    }

    #[test]
    fn a_vm_whose_owner_and_name_are_gone_is_reported_and_never_deletable() {
        let dead = vm(1, "web-1-x-1", Some(mark("web-1")));
        assert_eq!(reasons(&[dead], &Live::default()), [("1".to_owned(), Reason::OwnerGone, false)]);
    }

    #[test]
    fn a_vm_of_a_recreated_object_or_of_another_cluster_is_no_orphan() {
        let namesake = vm(1, "web-1-x-1", Some(mark("web-1")));
        let recreated = Live { keys: [mark("web-1").key].into(), ..Live::default() };
        assert_eq!(reasons(&[namesake], &recreated), []);
        let foreign = Mark { cluster: ClusterId::parse("c2").unwrap(), ..mark("web-1") };
        assert_eq!(reasons(&[vm(1, "web-1-x-1", Some(foreign))], &Live::default()), []);
    }

    #[test]
    fn a_broken_mark_is_reported_and_never_deletable() {
        assert_eq!(reasons(&[vm(1, "a", None)], &Live::default()), [("1".to_owned(), Reason::MarkBroken, false)]);
    }

    #[test]
    fn a_second_vm_of_the_same_incarnation_is_deletable_and_the_named_one_untouched() {
        let owner = mark("web-1");
        let vms = [vm(1, "web-1-x-1", Some(owner.clone())), vm(2, "web-1-x-1", Some(owner.clone()))];
        assert_eq!(reasons(&vms, &live(&owner, &["1"])), [("2".to_owned(), Reason::Surplus, true)]);
    }

    #[test]
    fn a_duplicate_is_kept_when_it_may_have_been_published_or_the_named_vm_is_not_there() {
        let owner = mark("web-1");
        let vms = [vm(1, "web-1-x-2", Some(owner.clone())), vm(2, "web-1-x-1", Some(owner.clone()))];
        let expected = [("2".to_owned(), Reason::Surplus, false)];
        assert_eq!(reasons(&vms, &live(&owner, &["1"])), expected, "a former incarnation");
        let vms = [vm(1, "web-1-x-1", Some(owner.clone())), vm(2, "web-1-x-1", Some(owner.clone()))];
        let published = Live { published: ["203.0.113.2".parse().unwrap()].into(), ..live(&owner, &["1"]) };
        assert_eq!(reasons(&vms, &published), expected, "a name points at it");
        assert_eq!(reasons(&vms[1..], &live(&owner, &["1"])), expected, "it may be all there is");
    }

    #[test]
    fn an_owner_that_names_no_vm_yet_has_no_surplus() {
        let owner = mark("web-1");
        let vms = [vm(1, "web-1-x-1", Some(owner.clone())), vm(2, "web-1-x-1", Some(owner.clone()))];
        assert_eq!(reasons(&vms, &live(&owner, &[])), []);
    }

    #[test]
    fn a_young_vm_is_left_alone_whatever_its_mark() {
        let found = sweep(
            &[vm(1, "a", None), vm(2, "web-1-x-1", Some(mark("web-1")))],
            &cluster(),
            &Live::<std::hash::RandomState>::default(),
            now(),
            Duration::from_hours(49),
        );
        assert_eq!(found, []);
    }
}
