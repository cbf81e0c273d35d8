//! Two apps, one name, and visitors who never notice whose it is.

use std::time::Duration;

use super::cloud::Cloud;
use super::commons::{Shared, TTL};
use super::*;
use crate::api::app_deployment::{AppDeployment, Domain, LocalRef};
use crate::controllers::app_deployment::peers::Peer;
use crate::host::deploy::model::{Behaviour, NAME};
use crate::runtime::claims::Reservation;

const OTHER: &str = "other.example.com";

/// `shop`, which has the name, and `next`, which takes it over.
struct Two {
    apps: [Cloud; 2],
    commons: Shared,
    now: Timestamp,
    gone: [bool; 2],
    /// The pass that is cut off, by its number, and after how many steps.
    cut: Option<(usize, usize)>,
    passes: usize,
}

const SHOP: usize = 0;
const NEXT: usize = 1;

fn named(name: &str, from: Option<&str>) -> Domain {
    let take_from = from.map(|from| LocalRef { name: from.into() });
    Domain { name: name.into(), take_from, ..Domain::default() }
}

fn cloud(name: &str, node: &str, revision: &str, commons: &Shared) -> Cloud {
    let mut cloud = Cloud::of(&[node]);
    let app = cloud.app();
    app.metadata.name = Some(name.into());
    app.metadata.uid = Some(name.into());
    (cloud.seen.claimant.holder.name, cloud.seen.claimant.holder.uid) = (name.into(), name.into());
    let last = node.as_bytes()[0] - b'a' + 1;
    let address = Some(IpAddr::from([203, 0, 113, last]));
    cloud.seen.hosts.get_mut(node).unwrap().address = address;
    commons.borrow_mut().addresses.extend(address.map(|address| (node.to_owned(), address)));
    cloud.commons = Some(commons.clone());
    cloud.want(revision, Behaviour::Well);
    cloud
}

impl Two {
    /// One has the name, and the other has just been told to take it.
    fn on(one: &str, other: &str) -> Self {
        let commons = Shared::default();
        let shop = cloud("shop", one, "r1", &commons);
        let mut next = cloud("next", other, "n1", &commons);
        next.app().spec.domains = vec![named(NAME, Some("shop"))];
        let now = shop.now;
        let mut two = Self { apps: [shop, next], commons, now, gone: [false, true], cut: None, passes: 0 };
        two.settle(SHOP);
        assert_eq!(two.commons.borrow().answer(one, NAME).as_deref(), Some("r1"));
        {
            let mut commons = two.commons.borrow_mut();
            (commons.writes, commons.failed) = (Vec::new(), Vec::new());
        }
        two.gone[NEXT] = false;
        two
    }

    fn object(&self, who: usize) -> AppDeployment {
        let cloud = &self.apps[who];
        let mut app = AppDeployment::clone(&cloud.seen.app);
        app.status = Some(cloud.seen.status.clone());
        app
    }

    /// What the caches say to one of them.
    fn sync(&mut self, who: usize) {
        let other = 1 - who;
        let us = self.apps[who].seen.claimant.holder.clone();
        let peer = Peer::of(&self.object(other), &us.name, self.now);
        let there = (!self.gone[other]).then(|| (self.apps[other].seen.claimant.holder.name.clone(), peer));
        let commons = self.commons.borrow();
        let cloud = &mut self.apps[who];
        cloud.now = self.now;
        cloud.seen.peers = there.into_iter().collect();
        cloud.seen.standings.clear();
        for name in cloud.seen.names() {
            let claim = Reservation::of_name(&name).name;
            for role in [Role::Dns, Role::Http] {
                let standing = commons.standing(&claim, role, &us);
                cloud.seen.standings.insert((claim.clone(), role), standing);
            }
        }
    }

    fn pass(&mut self, who: usize) -> Option<AppStep> {
        self.sync(who);
        self.passes += 1;
        let most = self.cut.filter(|(pass, _)| *pass == self.passes).map_or(400, |(_, steps)| steps);
        let step = self.apps[who].pass_of(most);
        self.gone[who] |= step == Some(Step::Gone);
        step
    }

    fn later(&mut self, after: Duration) {
        self.now = self.now.checked_add(after.max(Duration::from_millis(100))).unwrap();
        self.commons.borrow_mut().later(self.now);
    }

    /// Passes of both in turn until neither has anything to do or to wait for; how each ended.
    fn settle(&mut self, first: usize) -> [AppStep; 2] {
        let mut ends = [Step::Done, Step::Done];
        let mut quiet = 0;
        for _ in 0..400 {
            let mut after: Option<Duration> = None;
            for who in [first, 1 - first] {
                if self.gone[who] {
                    continue;
                }
                let step = self.pass(who);
                let left = match &step {
                    Some(Step::Wait(wait)) => Some(wait.after),
                    Some(Step::Hold(left)) => Some(*left),
                    None => Some(Duration::ZERO),
                    _ => None,
                };
                after = [after, left].into_iter().flatten().min();
                if let Some(step) = step {
                    ends[who] = step;
                }
            }
            quiet = if after.is_some() { 0 } else { quiet + 1 };
            if quiet == 2 {
                return ends;
            }
            self.later(after.unwrap_or_default());
        }
        panic!("no end: {ends:?}\n{:#?}\n{:#?}", self.apps[SHOP].log, self.apps[NEXT].log);
    }

    /// Everybody was given an answer at any time, and the record was changed so.
    fn unnoticed(&self, writes: &[&str]) {
        let commons = self.commons.borrow();
        assert_eq!(commons.failed, Vec::<String>::new(), "{:#?}\n{:#?}", self.apps[SHOP].log, self.apps[NEXT].log);
        assert_eq!(commons.writes, writes, "{:#?}\n{:#?}", self.apps[SHOP].log, self.apps[NEXT].log);
    }

    /// Who holds the name in both roles.
    fn holder(&self) -> String {
        let commons = self.commons.borrow();
        let of = |role| commons.claims.get(&(NAME.to_owned(), role)).map(|holder| holder.name.clone());
        assert_eq!(of(Role::Dns), of(Role::Http));
        of(Role::Http).unwrap_or_default()
    }

    fn answer(&self, host: &str) -> Option<String> {
        self.commons.borrow().answer(host, NAME)
    }

    fn list(&mut self, who: usize, domains: Vec<Domain>) {
        self.apps[who].app().spec.domains = domains;
        let revision = self.apps[who].revision.clone();
        self.apps[who].want(&revision, Behaviour::Well);
    }

    fn handed(&self, who: usize) -> Option<String> {
        let domains = &self.apps[who].seen.status.domains;
        domains.iter().find(|domain| domain.name == NAME)?.handed.as_ref().map(|handed| handed.to.clone())
    }
}

fn is_handed_over(step: &AppStep) -> bool {
    matches!(step, Step::Stop { reason: "HandedOver", .. })
}

#[test]
fn a_name_goes_to_another_node_by_one_patch_and_who_had_it_serves_until_no_cache_leads_there() {
    for first in [SHOP, NEXT] {
        let mut two = Two::on("a", "b");
        let begun = two.now;
        let ends = two.settle(first);
        assert_eq!(ends[NEXT], Step::Done, "{:?}", two.apps[NEXT].ready());
        let Step::Stop { reason: "HandedOver", message } = &ends[SHOP] else { panic!("{:?}", ends[SHOP]) };
        assert!(message.contains(NAME) && message.contains("AppDeployment next"), "{message}");
        assert_eq!(two.apps[SHOP].condition("Stalled").0, "HandedOver");
        two.unnoticed(&["patch shop.example.com 203.0.113.2"]);
        assert_eq!((two.holder().as_str(), two.handed(SHOP).as_deref()), ("next", Some("next")));
        assert_eq!((two.answer("a"), two.answer("b").as_deref()), (None, Some("n1")));
        assert!(Duration::try_from(two.now.duration_since(begun)).unwrap() >= TTL);
        let next = &two.apps[NEXT];
        assert_eq!(next.seen.status.domains[0].phase.as_deref(), Some("Serving"));
        let routed = next.log.iter().position(|said| said == "b: Route").unwrap();
        assert!(next.at("b: Up") < routed && routed < next.at("take over"), "{:#?}", next.log);
    }
}

#[test]
fn on_one_node_the_entry_of_the_table_changes_and_of_the_record_only_its_mark() {
    for first in [SHOP, NEXT] {
        let mut two = Two::on("a", "a");
        let ends = two.settle(first);
        assert_eq!(ends[NEXT], Step::Done, "{:?}", two.apps[NEXT].ready());
        assert!(is_handed_over(&ends[SHOP]), "{ends:?}");
        two.unnoticed(&["patch shop.example.com 203.0.113.1"]);
        assert_eq!((two.holder().as_str(), two.answer("a").as_deref()), ("next", Some("n1")));
        let next = &two.apps[NEXT];
        assert!(next.at("take over") < next.at("a: Route"), "{:#?}", next.log);
        // Nor does who had it touch the entry later, whatever becomes of it.
        two.apps[SHOP].want("r2", Behaviour::Well);
        two.settle(SHOP);
        assert_eq!(two.answer("a").as_deref(), Some("n1"));
        assert_eq!(two.apps[SHOP].revision("a").as_deref(), Some("r2"), "its own deploys go on");
    }
}

#[test]
fn a_name_that_moves_from_one_spec_to_the_other_in_one_commit_is_never_withdrawn() {
    for (other, address) in [("b", "203.0.113.2"), ("a", "203.0.113.1")] {
        for (first, late) in [(SHOP, 0), (NEXT, 0), (SHOP, 5)] {
            let mut two = Two::on("a", other);
            two.list(SHOP, vec![named(OTHER, None)]);
            // The one who is to take it comes later.
            two.gone[NEXT] = late > 0;
            for _ in 0..late {
                two.pass(SHOP);
                two.later(Duration::from_secs(1));
            }
            two.gone[NEXT] = false;
            let ends = two.settle(first);
            assert_eq!(ends, [Step::Done, Step::Done], "{:?}", two.apps.each_ref().map(Cloud::ready));
            assert_eq!((two.holder().as_str(), two.answer(other).as_deref()), ("next", Some("n1")));
            let patch = format!("patch {NAME} {address}");
            two.unnoticed(&["post other.example.com 203.0.113.1", &patch]);
            let left: Vec<_> = two.apps[SHOP].seen.status.domains.iter().map(|domain| domain.name.clone()).collect();
            assert_eq!(left, [OTHER]);
        }
    }
}

#[test]
fn a_name_that_nobody_takes_is_given_back_a_moment_later() {
    let mut two = Two::on("a", "b");
    two.gone[NEXT] = true;
    let begun = two.now;
    two.list(SHOP, vec![named(OTHER, None)]);
    let Some(Step::Wait(Wait { reason: "Releasing", message, .. })) = two.pass(SHOP) else { panic!() };
    assert!(message.contains(NAME), "{message}");
    assert_eq!(two.settle(SHOP)[SHOP], Step::Done);
    assert_eq!(two.commons.borrow().writes.last().unwrap(), "delete shop.example.com");
    assert_eq!(two.holder(), "");
    let took = two.now.duration_since(begun).as_secs();
    assert!((10..60).contains(&took), "{took}");
}

#[test]
fn whatever_fails_before_the_hand_over_leaves_who_has_the_name_whole() {
    for behaviour in [Behaviour::ImageMissing, Behaviour::Exits, Behaviour::NeverHealthy, Behaviour::PreDeployFails] {
        let mut two = Two::on("a", "b");
        two.apps[NEXT].want("n1", behaviour);
        let ends = two.settle(NEXT);
        assert!(matches!(ends[NEXT], Step::Stop { .. }), "{behaviour:?}: {ends:?}");
        assert_eq!(ends[SHOP], Step::Done, "{behaviour:?}");
        two.unnoticed(&[]);
        assert_eq!((two.holder().as_str(), two.answer("a").as_deref()), ("shop", Some("r1")), "{behaviour:?}");
        // Put right, it gets the name.
        two.apps[NEXT].want("n2", Behaviour::Well);
        assert_eq!(two.settle(NEXT)[NEXT], Step::Done);
        two.unnoticed(&["patch shop.example.com 203.0.113.2"]);
    }
}

#[test]
fn an_app_that_ran_but_does_not_answer_now_takes_no_name() {
    let mut two = Two::on("a", "b");
    two.list(NEXT, vec![named(OTHER, None)]);
    two.settle(NEXT);
    two.apps[NEXT].worlds.get_mut("b").unwrap().behaviours.insert("n1".into(), Behaviour::NeverHealthy);
    two.list(NEXT, vec![named(OTHER, None), named(NAME, Some("shop"))]);
    two.apps[NEXT].worlds.get_mut("b").unwrap().behaviours.insert("n1".into(), Behaviour::NeverHealthy);
    let waits = (0..20).find_map(|_| {
        two.later(Duration::from_secs(5));
        match two.pass(NEXT) {
            Some(Step::Wait(Wait { reason: "TakingOver", message, .. })) => Some(message),
            _ => None,
        }
    });
    assert!(waits.unwrap().contains("answers inside on Node b"));
    assert_eq!((two.holder().as_str(), two.answer("a").as_deref()), ("shop", Some("r1")));
}

#[test]
fn a_name_that_somebody_else_has_than_the_app_it_is_taken_from_is_refused_with_its_holder() {
    let mut two = Two::on("a", "b");
    two.list(NEXT, vec![named(NAME, Some("blog"))]);
    let ends = two.settle(NEXT);
    let Step::Stop { reason: "HostnameTaken", message } = &ends[NEXT] else { panic!("{ends:?}") };
    for part in ["spec.domains[0].takeFrom", "AppDeployment shop/shop", "not by AppDeployment blog", "delete that"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(ends[SHOP], Step::Done);
    two.unnoticed(&[]);
}

#[test]
fn a_name_that_nobody_has_is_simply_taken_and_take_from_may_stay() {
    let mut cloud = Cloud::of(&["a"]);
    cloud.app().spec.domains = vec![named(NAME, Some("whoever"))];
    assert_eq!(cloud.run(), Step::Done);
    assert!(cloud.at("claim shop.example.com Dns") < cloud.at("a: Up"), "{:#?}", cloud.log);
    let before = cloud.seen.status.clone();
    cloud.later(Duration::from_secs(300));
    assert_eq!((cloud.run(), cloud.seen.status == before), (Step::Done, true));
}

#[test]
fn two_apps_that_name_each_other_do_not_fight_and_a_new_take_from_takes_the_name_back() {
    for (other, there, back) in [("b", "203.0.113.2", "203.0.113.1"), ("a", "203.0.113.1", "203.0.113.1")] {
        let mut two = Two::on("a", other);
        two.list(SHOP, vec![named(NAME, Some("next"))]);
        let ends = two.settle(SHOP);
        assert!(is_handed_over(&ends[SHOP]) && ends[NEXT] == Step::Done, "{ends:?}");
        let first = format!("patch {NAME} {there}");
        two.unnoticed(&[&first]);
        // A new image is no reason to take it back.
        two.apps[SHOP].want("r2", Behaviour::Well);
        assert!(is_handed_over(&two.settle(SHOP)[SHOP]));
        assert_eq!(two.holder(), "next");
        for from in [None, Some("next")] {
            two.list(SHOP, vec![named(NAME, from)]);
            two.settle(SHOP);
        }
        assert_eq!(
            (two.holder().as_str(), two.handed(SHOP), two.handed(NEXT).as_deref()),
            ("shop", None, Some("shop"))
        );
        two.unnoticed(&[&first, &format!("patch {NAME} {back}")]);
        assert_eq!(two.answer("a").as_deref(), Some("r2"));
    }
}

#[test]
fn an_app_that_is_deleted_goes_once_who_asks_for_its_name_has_it() {
    for (other, address) in [("b", "203.0.113.2"), ("a", "203.0.113.1")] {
        let mut two = Two::on("a", other);
        let now = two.now;
        two.apps[SHOP].app().metadata.deletion_timestamp = Some(whole_seconds(now));
        let Some(Step::Wait(Wait { reason: "HandingOver", message, .. })) = two.pass(SHOP) else { panic!() };
        assert!(message.contains("AppDeployment next"), "{message}");
        let ends = two.settle(NEXT);
        assert_eq!(ends, [Step::Gone, Step::Done], "{:?}", two.apps.each_ref().map(Cloud::ready));
        two.unnoticed(&[&format!("patch {NAME} {address}")]);
        assert_eq!((two.holder().as_str(), two.answer(other).as_deref()), ("next", Some("n1")));
        assert_eq!(two.apps[SHOP].worlds["a"].containers.len(), 0);
    }
}

#[test]
fn an_app_that_is_deleted_does_not_wait_for_one_that_asks_no_more() {
    let mut two = Two::on("a", "b");
    let now = two.now;
    two.apps[SHOP].app().metadata.deletion_timestamp = Some(whole_seconds(now));
    assert!(matches!(two.pass(SHOP), Some(Step::Wait(Wait { reason: "HandingOver", .. }))));
    two.apps[NEXT].app().metadata.deletion_timestamp = Some(whole_seconds(now));
    assert_eq!(two.settle(SHOP), [Step::Gone, Step::Gone]);
    assert_eq!(two.commons.borrow().writes, ["delete shop.example.com"]);
    assert_eq!(two.holder(), "");
}

#[test]
fn a_pass_that_is_cut_anywhere_costs_no_visitor_an_answer() {
    for (other, address) in [("b", "203.0.113.2"), ("a", "203.0.113.1")] {
        let writes = [format!("patch {NAME} {address}")];
        for pass in 1..14 {
            for steps in (1 + pass % 3..46).step_by(3) {
                let mut two = Two::on("a", other);
                two.cut = Some((two.passes + pass, steps));
                let ends = two.settle(NEXT);
                assert!(is_handed_over(&ends[SHOP]) && ends[NEXT] == Step::Done, "{pass}, {steps}: {ends:?}");
                two.unnoticed(&writes.each_ref().map(String::as_str));
                assert_eq!(two.holder(), "next");
            }
        }
    }
}
