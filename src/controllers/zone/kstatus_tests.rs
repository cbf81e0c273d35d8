//! What Flux and `kubectl wait` rely on holds through every life of a Zone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::plan::tests::{at, change, facts, settled, taken, token, used};
use super::plan::{self, Action, Facts, Observed, Records, Writer};
use super::report;
use crate::api::kstatus::{Verdict, follows, mostly, verdict_on};
use crate::api::zone::{Propagation, Zone, ZoneStatus};
use crate::controllers::access::Attempt;
use crate::controllers::credential::Credential;
use crate::controllers::users::Users;
use crate::dns::ZoneFacts;
use crate::outside::OutsideError;
use crate::runtime::claims::Standing;
use crate::runtime::driver::{Outcome, Step};
use crate::runtime::fault::Fault;
use crate::runtime::outcome::Ended;

/// What somebody does to the Zone, or to the operator.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    ChangeTtl,
    Resolvers(&'static str),
    Restart,
    MakeAnew,
    WipeStatus,
    Delete,
}

/// A deed, and the circumstances of the pass that follows.
#[derive(Debug, Clone)]
struct Turn {
    deed: Deed,
    later: i64,
    credential: Credential,
    /// What Cloudflare says of the token and the zone.
    answer: Result<ZoneFacts, OutsideError>,
    claim: Result<Standing, Fault>,
    listed: bool,
    blocked: Option<OutsideError>,
    used: bool,
    orphans: Option<Vec<String>>,
}

fn turns() -> impl Strategy<Value = Turn> {
    let broken = Deed::Resolvers("dns.example.com");
    let deeds = vec![
        Deed::ChangeTtl,
        broken,
        Deed::Resolvers("1.1.1.1"),
        Deed::Restart,
        Deed::MakeAnew,
        Deed::WipeStatus,
        Deed::Delete,
    ];
    let missing = Credential::Unusable { reason: "SecretMissing", message: "create it".into() };
    let found = [
        ZoneFacts { account_id: "a2".into(), ..facts() },
        ZoneFacts { zone_id: "z2".into(), ..facts() },
        ZoneFacts { status: "pending".into(), ..facts() },
        ZoneFacts { plan: String::new(), name_servers: vec!["ns3.example.net".into()], ..facts() },
    ];
    let answers = found.into_iter().map(Ok).chain(OutsideError::each("zone-not-found").into_iter().map(Err)).collect();
    let until = at(5);
    let claims = vec![
        Ok(taken()),
        Ok(Standing::Reserved { namespace: String::new(), until }),
        Err(Fault::Conflict),
        Err(Fault::transient("KubernetesAPI", "no")),
        Err(Fault::RateLimited(Duration::from_secs(1))),
        Err(Fault::terminal("Internal", "no")),
    ];
    (
        (mostly(Deed::Nothing, deeds), prop::sample::select(vec![0, 1, 61, 301])),
        mostly(token("7"), vec![token("8"), missing]),
        mostly(Ok(facts()), answers),
        mostly(Ok(Standing::Ours), claims),
        (mostly(true, vec![false]), mostly(None, OutsideError::each("zone-not-found").into_iter().map(Some).collect())),
        (mostly(false, vec![true]), mostly(None, vec![Some(vec![]), Some(vec!["A a.example.com".to_owned()])])),
    )
        .prop_map(|((deed, later), credential, answer, claim, (listed, blocked), (used, orphans))| Turn {
            deed,
            later,
            credential,
            answer,
            claim,
            listed,
            blocked,
            used,
            orphans,
        })
}

/// One Zone, and the time.
struct World {
    seen: Observed,
    now: Timestamp,
}

impl World {
    /// A Zone that was just made.
    fn new() -> Self {
        let status = ZoneStatus { observed_generation: Some(-1), ..ZoneStatus::default() };
        let seen = Observed { status, claim: Standing::Free, attempt: None, writer: None, ..settled() };
        Self { seen, now: at(0) }
    }

    fn object(&self) -> Zone {
        Zone { status: Some(self.seen.status.clone()), ..(*self.seen.zone).clone() }
    }

    fn respec(&mut self, edit: impl FnOnce(&mut Zone)) {
        change(&mut self.seen, |zone| {
            edit(zone);
            *zone.metadata.generation.as_mut().unwrap() += 1;
        });
    }

    fn arrange(&mut self, turn: &Turn) {
        self.now += SignedDuration::from_secs(turn.later);
        match turn.deed {
            Deed::Nothing => {}
            Deed::ChangeTtl => self.respec(|zone| zone.spec.ttl = 600),
            Deed::Resolvers(resolver) => self.respec(|zone| {
                let resolvers = Some(vec![resolver.to_owned()]);
                zone.spec.propagation = Some(Propagation { resolvers, timeout: "120s".into() });
            }),
            Deed::Restart => (self.seen.attempt, self.seen.writer) = (None, None),
            Deed::MakeAnew => self.seen.stale = self.seen.writer.is_some(),
            Deed::WipeStatus => self.seen.status = ZoneStatus::default(),
            Deed::Delete if self.seen.zone.metadata.deletion_timestamp.is_some() => {}
            Deed::Delete => self.respec(|zone| zone.metadata.deletion_timestamp = Some(Time(at(0)))),
        }
        self.seen.credential = turn.credential.clone();
        self.seen.orphans.clone_from(&turn.orphans);
        self.seen.orphan_workers.clone_from(&turn.orphans);
        self.seen.users = Users::default();
        if turn.used && self.seen.zone.metadata.deletion_timestamp.is_some() {
            used(&mut self.seen);
        }
    }

    /// One pass, as the driver makes it; how it ended, if with a report.
    fn pass(&mut self, turn: &Turn) -> Option<Outcome> {
        let mut facts = Facts::default();
        for _ in 0..32 {
            if let Some(writer) = &mut self.seen.writer {
                (writer.listed, writer.blocked) = (turn.listed, turn.blocked.clone());
            }
            let outcome = match plan::plan(&self.seen, &facts, self.now) {
                Step::Gone | Step::Hold(_) => return None,
                Step::Record(status) => {
                    self.seen.status = *status;
                    continue;
                }
                Step::Do(action) => match self.act(&mut facts, &action, turn) {
                    Ok(()) => continue,
                    Err(fault) => Ended::of(fault, self.seen.resync).ok()?.outcome,
                },
                Step::Wait(wait) => Outcome::Waiting(wait),
                Step::Stop { reason, message } => Outcome::Stopped { reason, message },
                Step::Done => Outcome::Done,
            };
            let status = report::status(&self.seen, &outcome, self.now);
            self.seen.status = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
            assert_eq!(self.seen.status, status, "what is read back is what was written");
            return Some(outcome);
        }
        panic!("the plan did not come to an end");
    }

    /// As `apply` does, with this turn's answers.
    fn act(&mut self, facts: &mut Facts, action: &Action, turn: &Turn) -> Result<(), Fault> {
        let Credential::Ok { version, .. } = &self.seen.credential else {
            assert!(matches!(action, Action::TakeClaim | Action::ReleaseClaim | Action::StopWriter), "{action:?}");
            return self.act_without_token(facts, action, turn);
        };
        match action {
            Action::Connect => {
                let (before, generation) = (self.seen.attempt.as_ref(), self.seen.zone.metadata.generation);
                self.seen.attempt = Some(Attempt::next(before, version, generation, self.now, turn.answer.clone()));
            }
            Action::StartWriter => {
                let records = Some(Records { ours: 3 });
                let token_version = Some(version.clone());
                self.seen.writer =
                    Some(Writer { token_version, listed: false, blocked: None, records, has_authority: true });
            }
            Action::InstallToken => self.seen.writer.as_mut().unwrap().token_version = Some(version.clone()),
            _ => return self.act_without_token(facts, action, turn),
        }
        Ok(())
    }

    fn act_without_token(&mut self, facts: &mut Facts, action: &Action, turn: &Turn) -> Result<(), Fault> {
        match action {
            Action::TakeClaim => {
                self.seen.claim = turn.claim.clone()?;
                facts.claim = Some(self.seen.claim.clone());
            }
            Action::ReleaseClaim => facts.released = true,
            _ => (self.seen.writer, self.seen.attempt, self.seen.stale) = (None, None, false),
        }
        Ok(())
    }

    /// Whether names may be published: domain and token are the Zone's, and the writer gets on with it.
    fn is_in_place(&self) -> bool {
        let Observed { credential, attempt, writer, status, claim, .. } = &self.seen;
        let Credential::Ok { version, .. } = credential else { return false };
        let (Some(attempt), Some(writer)) = (attempt, writer) else { return false };
        let Ok(found) = &attempt.result else { return false };
        let pinned =
            status.zone_id.as_ref() == Some(&found.zone_id) && status.account_id.as_ref() == Some(&found.account_id);
        let proven = attempt.version == *version && pinned && found.status == "active";
        let writing = writer.token_version.as_ref() == Some(version) && writer.listed && writer.blocked.is_none();
        proven && writing && *claim == Standing::Ours && plan::valid(&self.seen.zone).is_ok()
    }
}

fn check(before: &Zone, world: &World, outcome: &Outcome) -> TestCaseResult {
    let stood =
        Zone { spec: world.seen.zone.spec.clone(), metadata: world.seen.zone.metadata.clone(), ..before.clone() };
    follows(&stood, &world.object(), outcome.is_a_failed_look(), world.is_in_place())?;
    // The same again, later and after more failures, changes nothing.
    let mut seen = world.seen.clone();
    let later = world.now + SignedDuration::from_hours(1);
    prop_assert_eq!(&report::status(&seen, outcome, later), &world.seen.status);
    if let Some(attempt) = &mut seen.attempt {
        (attempt.failures, attempt.at) = (attempt.failures + 41, later);
    }
    prop_assert_eq!(&report::status(&seen, outcome, later), &world.seen.status);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_report_of_every_life_obeys_the_rules(turns in prop::collection::vec(turns(), 1..12)) {
        let mut world = World::new();
        for turn in turns {
            world.arrange(&turn);
            let before = world.object();
            let Some(outcome) = world.pass(&turn) else { continue };
            check(&before, &world, &outcome)?;
        }
    }
}

#[test]
fn a_new_zone_is_on_its_way_until_it_is_current() {
    let mut world = World::new();
    assert_eq!(verdict_on(&world.object()), Verdict::InProgress);
    let turn = Turn {
        deed: Deed::Nothing,
        later: 0,
        credential: token("7"),
        answer: Ok(facts()),
        claim: Ok(Standing::Ours),
        listed: true,
        blocked: None,
        used: false,
        orphans: None,
    };
    world.pass(&turn);
    assert_eq!(verdict_on(&world.object()), Verdict::Current, "{:?}", world.seen.status);
    assert!(world.is_in_place());
}
