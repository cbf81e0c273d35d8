//! Who gets a name, in any order of takes, releases and failures.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;
use crate::api::claim::HostnameClaimStatus;
use crate::api::kstatus::{Verdict, verdict};
use crate::api::schema;
use crate::runtime::fake_api::FakeApi;

fn claimant(namespace: &str, name: &str, uid: &str) -> Claimant {
    let holder = Holder { kind: "Node".into(), name: name.into(), uid: uid.into() };
    Claimant { namespace: namespace.into(), holder }
}

fn held_by(who: &Claimant) -> HostnameClaim {
    let holders = Holders { dns: Some(who.holder.clone()), http: None };
    let spec = HostnameClaimSpec { fqdn: "a.example.com".into(), namespace: who.namespace.clone(), holders };
    HostnameClaim::new("a.example.com", spec)
}

#[test]
fn a_claim_is_its_holders_and_taken_for_everybody_else() {
    let (now, us) = (Timestamp::now(), claimant("shop", "a", "1"));
    let claim = held_by(&us);
    assert_eq!(standing(Some(&claim), Role::Dns, &us, now), Standing::Ours);
    for other in [claimant("shop", "b", "2"), claimant("blog", "a", "2")] {
        let taken = Standing::Taken { namespace: "shop".into(), holder: us.holder.clone() };
        assert_eq!(standing(Some(&claim), Role::Dns, &other, now), taken);
    }
}

#[test]
fn an_object_created_again_inherits_the_claim_of_its_earlier_life() {
    let claim = held_by(&claimant("shop", "a", "1"));
    assert_eq!(standing(Some(&claim), Role::Dns, &claimant("shop", "a", "2"), Timestamp::now()), Standing::Free);
}

#[test]
fn a_tombstone_keeps_only_other_namespaces_out_and_only_until_its_time() {
    let now = Timestamp::from_second(1_000).unwrap();
    let later = Timestamp::from_second(1_300).unwrap();
    let mut claim = held_by(&claimant("shop", "a", "1"));
    claim.spec.holders.dns = None;
    let status = HostnameClaimStatus { state: ClaimState::Tombstone, free_at: Some(Time(later)), ..Default::default() };
    claim.status = Some(status);
    let (own, other) = (claimant("shop", "b", "2"), claimant("blog", "c", "3"));
    assert_eq!(standing(Some(&claim), Role::Dns, &own, now), Standing::Free);
    let reserved = Standing::Reserved { namespace: "shop".into(), until: later };
    assert_eq!(standing(Some(&claim), Role::Dns, &other, now), reserved);
    assert_eq!(standing(Some(&claim), Role::Dns, &other, later), Standing::Free);
}

/// The claim as it stands, and what kstatus makes of it; nobody ever says more of one.
fn stands(api: &FakeApi) -> (String, Verdict) {
    let claim = api.get("hostnameclaims/a.example.com").unwrap();
    assert_eq!(schema::faults(schema::of("HostnameClaim"), &claim), Vec::<String>::new());
    assert!(claim["status"]["conditions"].is_null());
    (claim["status"]["state"].as_str().unwrap().to_owned(), verdict(&claim))
}

#[tokio::test]
async fn a_claim_is_current_in_every_state_though_any_write_on_its_way_there_failed() {
    let name = Reservation::of_name(&Fqdn::parse("a.example.com").unwrap());
    let claimants = ["1", "2", "3"].map(|uid| claimant("shop", "a", uid));
    let until = |seconds| Some(Timestamp::now() + jiff::SignedDuration::from_secs(seconds));
    // Which of the writes fails, in the order they come.
    for broken in 0..10 {
        let api = FakeApi::default();
        let claims = Claims::new(api.client(), Cache::of([]));
        let (count, met) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let refused = met.clone();
        api.refuse(move |method, _| {
            let fails = method != "GET" && count.fetch_add(1, Relaxed) == broken;
            refused.fetch_or(fails, Relaxed);
            fails.then_some(500)
        });
        // A pass that failed is made again, as the driver does.
        let take = async |claimant: &Claimant| match claims.take(&name, Role::Dns, claimant).await {
            Err(Fault::Transient { .. }) => claims.take(&name, Role::Dns, claimant).await,
            result => result,
        };
        assert_eq!(take(&claimants[0]).await, Ok(Standing::Ours));
        assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current), "made, {broken}");
        assert_eq!(take(&claimants[1]).await, Ok(Standing::Ours), "made anew");
        assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current), "inherited, {broken}");
        if claims.release(&name, Role::Dns, "2", until(300)).await.is_err() {
            claims.release(&name, Role::Dns, "2", until(300)).await.unwrap();
        }
        assert_eq!(stands(&api), ("Tombstone".to_owned(), Verdict::Current), "released, {broken}");
        let other = claimant("blog", "b", "4");
        assert!(matches!(take(&other).await, Ok(Standing::Reserved { .. })), "{broken}");
        assert_eq!(take(&claimants[2]).await, Ok(Standing::Ours));
        assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current), "taken again, {broken}");
        assert!(matches!(take(&other).await, Ok(Standing::Taken { .. })), "{broken}");
        assert!(met.load(Relaxed), "there is no write {broken}");
    }
}

#[tokio::test]
async fn a_tombstone_whose_taker_was_cut_off_still_keeps_other_namespaces_out() {
    let name = Reservation::of_name(&Fqdn::parse("a.example.com").unwrap());
    let (api, us) = (FakeApi::default(), claimant("shop", "a", "1"));
    let claims = Claims::new(api.client(), Cache::of([]));
    claims.take(&name, Role::Dns, &us).await.unwrap();
    claims.release(&name, Role::Dns, "1", Some(Timestamp::now() + jiff::SignedDuration::from_secs(300))).await.unwrap();
    api.refuse(|method, _| (method == "PUT").then_some(500));
    assert!(claims.take(&name, Role::Dns, &us).await.is_err());
    let standing = claims.take(&name, Role::Dns, &claimant("blog", "b", "2")).await;
    assert!(matches!(standing, Ok(Standing::Reserved { .. })), "{standing:?}");
}

#[test]
fn an_ipv6_address_has_one_claim_name_however_it_is_written() {
    let names = ["2001:db8::7", "2001:0db8:0:0:0:0:0:7"].map(|a| Reservation::of_address(a.parse().unwrap()).name);
    assert_eq!(names, ["rs--ip.2001-0db8-0000-0000-0000-0000-0000-0007"; 2].map(String::from));
}

const ROLES: [Role; 2] = [Role::Dns, Role::Http];
const PATH: &str = "hostnameclaims/a.example.com";

fn name() -> Reservation {
    Reservation::of_name(&Fqdn::parse("a.example.com").unwrap())
}

fn later() -> Timestamp {
    Timestamp::now() + jiff::SignedDuration::from_secs(300)
}

/// The claim as the API server has it.
fn stored(api: &FakeApi) -> Option<HostnameClaim> {
    Some(serde_json::from_value(api.get(PATH)?).unwrap())
}

#[test]
fn one_object_may_publish_a_name_that_another_of_its_namespace_serves_and_nobody_else_either() {
    let now = Timestamp::now();
    let (us, beside) = (claimant("shop", "a", "1"), claimant("shop", "b", "2"));
    for role in ROLES {
        let mut claim = held_by(&us);
        claim.spec.holders = role.held_by(&Holders::default(), Some(us.holder.clone()));
        let claim = Some(claim);
        let taken = Standing::Taken { namespace: "shop".into(), holder: us.holder.clone() };
        assert_eq!(standing(claim.as_ref(), role, &us, now), Standing::Ours);
        assert_eq!(standing(claim.as_ref(), role, &beside, now), taken);
        for who in [&us, &beside] {
            assert_eq!(standing(claim.as_ref(), role.other(), who, now), Standing::Free);
        }
        for role in ROLES {
            assert_eq!(standing(claim.as_ref(), role, &claimant("blog", "a", "3"), now), taken);
        }
    }
}

#[tokio::test]
async fn a_name_that_was_published_is_a_tombstone_only_once_nobody_serves_it_either() {
    let (api, name) = (FakeApi::default(), name());
    let claims = Claims::new(api.client(), Cache::of([]));
    let (us, other) = (claimant("shop", "a", "1"), claimant("blog", "b", "2"));
    for role in ROLES {
        assert_eq!(claims.take(&name, role, &us).await, Ok(Standing::Ours));
    }
    claims.release(&name, Role::Dns, "1", Some(later())).await.unwrap();
    assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current));
    // Somebody has not heard yet that it is published no more.
    Claims::new(api.client(), Cache::of(stored(&api))).set_record(&name, "A 203.0.113.7").await.unwrap();
    assert!(matches!(claims.take(&name, Role::Dns, &other).await, Ok(Standing::Taken { .. })));
    claims.release(&name, Role::Http, "1", None).await.unwrap();
    assert_eq!(stands(&api), ("Tombstone".to_owned(), Verdict::Current));
    for role in ROLES {
        assert!(matches!(claims.take(&name, role, &other).await, Ok(Standing::Reserved { .. })), "{role:?}");
    }
    // Its own namespace may serve it meanwhile, which does not end the time.
    assert_eq!(claims.take(&name, Role::Http, &us).await, Ok(Standing::Ours));
    claims.release(&name, Role::Http, "1", None).await.unwrap();
    assert!(matches!(claims.take(&name, Role::Http, &other).await, Ok(Standing::Reserved { .. })));
}

#[tokio::test]
async fn a_name_that_was_only_served_leaves_nothing_behind() {
    let (api, name) = (FakeApi::default(), name());
    let claims = Claims::new(api.client(), Cache::of([]));
    claims.take(&name, Role::Http, &claimant("shop", "a", "1")).await.unwrap();
    claims.release(&name, Role::Http, "1", Some(later())).await.unwrap();
    assert_eq!(api.get(PATH), None);
}

#[tokio::test]
async fn a_role_is_handed_over_at_once_and_only_by_its_holder_within_its_namespace() {
    let (api, name) = (FakeApi::default(), name());
    let claims = Claims::new(api.client(), Cache::of([]));
    let [old, new, beside] = [("a", "1"), ("b", "2"), ("c", "3")].map(|(name, uid)| claimant("shop", name, uid));
    let hand = async |role, from: &str, to: &Claimant| claims.hand_over(&name, &[role], from, to).await.unwrap();
    assert_eq!(hand(Role::Http, "1", &new).await, Standing::Free, "there is nothing to hand over");
    for role in ROLES {
        claims.take(&name, role, &old).await.unwrap();
    }
    let before = stored(&api).unwrap();
    assert!(matches!(hand(Role::Http, "3", &new).await, Standing::Taken { .. }), "not by a third");
    assert!(matches!(hand(Role::Http, "1", &claimant("blog", "b", "4")).await, Standing::Taken { .. }));
    assert_eq!(stored(&api).unwrap(), before);
    assert_eq!(hand(Role::Http, "1", &new).await, Standing::Ours);
    let holders = stored(&api).unwrap().spec.holders;
    assert_eq!((holders.dns.as_ref(), holders.http.as_ref()), (Some(&old.holder), Some(&new.holder)));
    assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current));
    let after = stored(&api).unwrap();
    assert_eq!(hand(Role::Http, "1", &new).await, Standing::Ours, "a pass that is made again changes nothing");
    assert!(matches!(hand(Role::Http, "1", &beside).await, Standing::Taken { .. }), "nor is it handed over twice");
    assert_eq!(stored(&api).unwrap(), after);
    // Who had it lets go of what is no longer its own: nothing happens.
    claims.release(&name, Role::Http, "1", None).await.unwrap();
    assert_eq!(stored(&api).unwrap(), after);
}

#[tokio::test]
async fn both_roles_of_a_name_are_handed_over_in_one_write_or_neither_is() {
    let (api, name) = (FakeApi::default(), name());
    let claims = Claims::new(api.client(), Cache::of([]));
    let [old, new, beside] = [("a", "1"), ("b", "2"), ("c", "3")].map(|(name, uid)| claimant("shop", name, uid));
    for role in ROLES {
        claims.take(&name, role, &old).await.unwrap();
    }
    let puts = Arc::new(AtomicUsize::new(0));
    let counted = puts.clone();
    api.refuse(move |method, _| {
        counted.fetch_add(usize::from(method == "PUT"), Relaxed);
        None
    });
    assert_eq!(claims.hand_over(&name, &ROLES, "1", &new).await, Ok(Standing::Ours));
    let holders = stored(&api).unwrap().spec.holders;
    assert_eq!((holders.dns.as_ref(), holders.http.as_ref()), (Some(&new.holder), Some(&new.holder)));
    assert_eq!(puts.load(Relaxed), 1);
    assert_eq!(
        claims.hand_over(&name, &ROLES, "1", &new).await,
        Ok(Standing::Ours),
        "and a repetition changes nothing"
    );
    assert_eq!(puts.load(Relaxed), 1);

    // Who publishes it is a third: nobody gets half of it.
    claims.hand_over(&name, &[Role::Dns], "2", &beside).await.unwrap();
    let before = stored(&api);
    let refused = claims.hand_over(&name, &ROLES, "2", &old).await;
    assert_eq!(refused, Ok(Standing::Taken { namespace: "shop".into(), holder: beside.holder }));
    assert_eq!(stored(&api), before);

    // What nobody has goes along.
    claims.release(&name, Role::Dns, "3", None).await.unwrap();
    assert_eq!(claims.hand_over(&name, &ROLES, "2", &old).await, Ok(Standing::Ours));
    let holders = stored(&api).unwrap().spec.holders;
    assert_eq!((holders.dns, holders.http), (Some(old.holder.clone()), Some(old.holder)));
}

#[tokio::test]
async fn a_hand_over_loses_against_whoever_changed_the_claim_meanwhile() {
    let (api, name) = (FakeApi::default(), name());
    let claims = Claims::new(api.client(), Cache::of([]));
    let [old, new] = [("a", "1"), ("b", "2")].map(|(name, uid)| claimant("shop", name, uid));
    claims.take(&name, Role::Http, &old).await.unwrap();
    api.refuse(|method, _| (method == "PUT").then_some(409));
    assert!(claims.hand_over(&name, &[Role::Http], "1", &new).await.is_err());
    api.refuse(|_, _| None);
    assert_eq!(stored(&api).unwrap().spec.holders.http, Some(old.holder));
}

#[tokio::test]
async fn a_dead_holder_is_swept_out_of_its_role_and_a_living_one_keeps_the_claim() {
    let name = name();
    for dead in ROLES {
        let api = FakeApi::default();
        let claims = Claims::new(api.client(), Cache::of([]));
        for (role, uid) in [(dead, "1"), (dead.other(), "2")] {
            claims.take(&name, role, &claimant("shop", uid, uid)).await.unwrap();
        }
        let sweep = async |dead: &[&str]| {
            let claims = Claims::new(api.client(), Cache::of(stored(&api)));
            claims.sweep(|_, holder| !dead.contains(&&*holder.uid)).await.unwrap()
        };
        assert_eq!(sweep(&[]).await, 0);
        assert_eq!(sweep(&["1"]).await, 1);
        let holders = stored(&api).unwrap().spec.holders;
        assert!(dead.holder(&holders).is_none() && dead.other().holder(&holders).is_some(), "{holders:?}");
        assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current));
        assert_eq!(sweep(&["1"]).await, 0);
        assert_eq!(sweep(&["2"]).await, 1);
        assert_eq!(api.get(PATH), None);
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Take,
    Release { with_ttl: bool },
    HandOver { to: usize },
    Dies,
}

/// Three objects: two of one namespace, one of another.
fn everybody() -> [Claimant; 3] {
    [claimant("shop", "a", "1"), claimant("shop", "b", "2"), claimant("blog", "c", "3")]
}

fn ops() -> impl Strategy<Value = Vec<(usize, Role, Op, u8)>> {
    let op = prop_oneof![
        4 => Just(Op::Take),
        3 => any::<bool>().prop_map(|with_ttl| Op::Release { with_ttl }),
        1 => (0..3usize).prop_map(|to| Op::HandOver { to }),
        1 => Just(Op::Dies),
    ];
    // The last is which of its writes fails, if it comes so far.
    proptest::collection::vec((0..3usize, proptest::sample::select(&ROLES), op, 0..6u8), 1..24)
}

/// What should be so after some operations.
#[derive(Default)]
struct Model {
    holders: [Option<usize>; 2],
    /// The namespace that a time keeps others out for.
    kept_for: Option<String>,
}

impl Model {
    fn has(&self, role: Role) -> Option<usize> {
        self.holders[role as usize]
    }

    fn owner(&self, all: &[Claimant]) -> Option<String> {
        let holder = self.holders.into_iter().flatten().next();
        holder.map(|who| all[who].namespace.clone()).or_else(|| self.kept_for.clone())
    }

    /// Whether a take succeeds.
    fn is_free(&self, role: Role, who: usize, all: &[Claimant]) -> bool {
        let fits = self.owner(all).is_none_or(|namespace| namespace == all[who].namespace);
        fits && self.has(role).is_none_or(|holder| holder == who)
    }
}

async fn in_any_order(ops: Vec<(usize, Role, Op, u8)>) -> Result<(), TestCaseError> {
    let (all, name, api, mut model) = (everybody(), name(), FakeApi::default(), Model::default());
    let claims = || Claims::new(api.client(), Cache::of(stored(&api)));
    for (who, role, op, broken) in ops {
        let count = AtomicUsize::new(0);
        api.refuse(move |method, _| {
            (method != "GET" && count.fetch_add(1, Relaxed) == usize::from(broken)).then_some(500)
        });
        let uid = all[who].holder.uid.clone();
        let mut done = Ok(None);
        // Once more after a failure, as the driver does.
        for _ in 0..2 {
            done = match op {
                Op::Take => claims().take(&name, role, &all[who]).await.map(Some),
                Op::Release { with_ttl } => {
                    claims().release(&name, role, &uid, with_ttl.then(later)).await.map(|()| None)
                }
                Op::HandOver { to } => claims().hand_over(&name, &[role], &uid, &all[to]).await.map(Some),
                Op::Dies => claims().sweep(|_, holder| holder.uid != uid).await.map(|_| None),
            };
            if done.is_ok() {
                break;
            }
        }
        api.refuse(|_, _| None);
        let answer = done.unwrap();
        match op {
            Op::Take => {
                let free = model.is_free(role, who, &all);
                prop_assert_eq!(answer == Some(Standing::Ours), free, "{:?}", answer);
                if free {
                    model.holders[role as usize] = Some(who);
                }
            }
            Op::Release { with_ttl } if model.has(role) == Some(who) => {
                model.holders[role as usize] = None;
                if with_ttl && role == Role::Dns {
                    model.kept_for = Some(all[who].namespace.clone());
                }
            }
            Op::HandOver { to } if model.has(role) == Some(who) && all[who].namespace == all[to].namespace => {
                prop_assert_eq!(answer, Some(Standing::Ours));
                model.holders[role as usize] = Some(to);
            }
            Op::Dies => model.holders = model.holders.map(|holder| holder.filter(|holder| *holder != who)),
            Op::Release { .. } | Op::HandOver { .. } => {}
        }
        let claim = stored(&api);
        prop_assert_eq!(claim.is_some(), model.owner(&all).is_some(), "{:?}", claim);
        let Some(claim) = claim else { continue };
        prop_assert_eq!(Some(claim.spec.namespace.clone()), model.owner(&all));
        for role in ROLES {
            let holder = role.holder(&claim.spec.holders).map(|holder| holder.uid.clone());
            prop_assert_eq!(holder, model.has(role).map(|who| all[who].holder.uid.clone()), "{:?}", role);
        }
        let state = if claim.spec.holders == Holders::default() { "Tombstone" } else { "Held" };
        prop_assert_eq!(stands(&api), (state.to_owned(), Verdict::Current));
    }
    for (who, role) in [0, 1, 2].into_iter().flat_map(|who| ROLES.map(|role| (who, role))) {
        claims().release(&name, role, &all[who].holder.uid, None).await.unwrap();
    }
    let end = Timestamp::now() + jiff::SignedDuration::from_secs(301);
    for (who, role) in all.iter().flat_map(|who| ROLES.map(|role| (who, role))) {
        prop_assert_eq!(
            standing(stored(&api).as_ref(), role, who, end),
            Standing::Free,
            "in the end it is everybody's"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_order_of_takes_releases_and_deaths_gives_a_name_to_two_namespaces_or_to_nobody_for_ever(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(in_any_order(ops))?;
    }
}
