//! What Flux and `kubectl wait` rely on holds through every life of a Provider.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::brakes::{Held, State};
use super::plan::tests::{Vms, account, at, hosts, settled, token, used, with};
use super::plan::{self, Action, Observed, Source};
use super::report;
use crate::api::kstatus::{Verdict, follows, mostly, verdict_on};
use crate::api::provider::{DigitalOcean, Hold, Provider, ProviderStatus, StaticHosts};
use crate::api::refs::SecretKeyRef;
use crate::cli;
use crate::cloud::{Account, AllowedCidrs};
use crate::controllers::access::Attempt;
use crate::controllers::credential::Credential;
use crate::controllers::users::Users;
use crate::outside::OutsideError;
use crate::runtime::driver::{Outcome, Step};

/// What somebody does to the Provider, or to the operator.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Window(&'static str),
    Networks(&'static str),
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
    /// What the API says of the token.
    answer: Result<Account, OutsideError>,
    listing: Result<usize, OutsideError>,
    held: bool,
    used: bool,
    orphans: Option<Vec<String>>,
}

fn turns() -> impl Strategy<Value = Turn> {
    let deeds = vec![
        Deed::Window("soon"),
        Deed::Window("20m"),
        Deed::Networks("203.0.113.0"),
        Deed::Networks("10.0.0.0/8"),
        Deed::Restart,
        Deed::MakeAnew,
        Deed::WipeStatus,
        Deed::Delete,
    ];
    let missing = Credential::Unusable { reason: "SecretMissing", message: "create it".into() };
    let answers = std::iter::once(Ok(account("a2")))
        .chain(OutsideError::each(crate::cloud::code::ACCOUNT_CHANGED).into_iter().map(Err))
        .collect();
    (
        (mostly(Deed::Nothing, deeds), prop::sample::select(vec![0, 1, 61, 301])),
        mostly(token("7"), vec![token("8"), missing]),
        mostly(Ok(account("a1")), answers),
        mostly(Ok(3), OutsideError::each(crate::cloud::code::ACCOUNT_CHANGED).into_iter().map(Err).collect()),
        (mostly(false, vec![true]), mostly(false, vec![true])),
        mostly(None, vec![Some(vec![]), Some(vec!["VM 9".to_owned()])]),
    )
        .prop_map(|((deed, later), credential, answer, listing, (held, used), orphans)| Turn {
            deed,
            later,
            credential,
            answer,
            listing,
            held,
            used,
            orphans,
        })
}

/// One Provider, and the time.
struct World {
    seen: Observed,
    now: Timestamp,
}

impl World {
    /// A Provider that was just made, of existing hosts or of VMs.
    fn new(is_static: bool) -> Self {
        let mut seen = if is_static {
            hosts("203.0.113.0/24", None)
        } else {
            with(Vms { attempt: None, running: None, listed: None, ..settled() })
        };
        seen.status = ProviderStatus { observed_generation: Some(-1), ..ProviderStatus::default() };
        let spec = &mut Arc::make_mut(&mut seen.provider).spec;
        if is_static {
            spec.static_ = Some(StaticHosts { allowed_cidrs: vec!["203.0.113.0/24".into()] });
        } else {
            spec.digitalocean = Some(DigitalOcean {
                token_secret_ref: SecretKeyRef { name: "digitalocean".into(), key: "token".into() },
                region: "fra1".into(),
                size: "small".into(),
                image: "debian".into(),
                vpc_uuid: None,
                tags: Vec::new(),
            });
        }
        Self { seen, now: at(0) }
    }

    fn object(&self) -> Provider {
        Provider { status: Some(self.seen.status.clone()), ..(*self.seen.provider).clone() }
    }

    fn respec(&mut self, edit: impl FnOnce(&mut Provider)) {
        let provider = Arc::make_mut(&mut self.seen.provider);
        edit(provider);
        *provider.metadata.generation.as_mut().unwrap() += 1;
    }

    fn stop(&mut self) {
        match &mut self.seen.source {
            Source::Vms { attempt, running, vms, .. } => (*attempt, *running, *vms) = (None, None, None),
            Source::Static { running, .. } => *running = None,
            Source::Unknown => {}
        }
    }

    fn arrange(&mut self, turn: &Turn) {
        self.now += SignedDuration::from_secs(turn.later);
        match turn.deed {
            Deed::Window(window) => self.respec(|provider| provider.spec.brake.window = window.into()),
            Deed::Networks(network) => {
                if let Source::Static { wanted, .. } = &mut self.seen.source {
                    *wanted = AllowedCidrs::parse(&[network]);
                    self.respec(|provider| {
                        provider.spec.static_ = Some(StaticHosts { allowed_cidrs: vec![network.into()] });
                    });
                }
            }
            Deed::Restart => self.stop(),
            Deed::MakeAnew => self.seen.stale = true,
            Deed::WipeStatus => self.seen.status = ProviderStatus::default(),
            Deed::Delete if self.seen.provider.metadata.deletion_timestamp.is_none() => {
                self.respec(|provider| provider.metadata.deletion_timestamp = Some(Time(at(0))));
            }
            Deed::Nothing | Deed::Delete => {}
        }
        if let Source::Vms { credential, .. } = &mut self.seen.source {
            credential.clone_from(&turn.credential);
        }
        self.seen.orphans.clone_from(&turn.orphans);
        let hold = Hold { id: "h1".into(), reason: "DeletionHeld".into(), nodes: 9 };
        let why = Held { reason: "DeletionHeld", message: "approve it".into() };
        self.seen.brakes = if turn.held { State { hold: Some(hold), held: Some(why) } } else { State::default() };
        self.seen.users = Users::default();
        if turn.used && self.seen.provider.metadata.deletion_timestamp.is_some() {
            used(&mut self.seen);
        }
    }

    /// One pass, as the driver makes it; how it ended, if with a report.
    fn pass(&mut self, turn: &Turn) -> Option<Outcome> {
        for _ in 0..32 {
            if let Source::Vms { running: Some(_), vms, .. } = &mut self.seen.source {
                *vms = Some(turn.listing.clone());
            }
            let outcome = match plan::plan(&self.seen, self.now) {
                Step::Gone | Step::Hold(_) => return None,
                Step::Record(status) => {
                    self.seen.status = *status;
                    continue;
                }
                Step::Do(action) => {
                    self.act(action, turn);
                    continue;
                }
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
    fn act(&mut self, action: Action, turn: &Turn) {
        match (&mut self.seen.source, action) {
            (_, Action::Stop) => {
                self.stop();
                self.seen.stale = false;
            }
            (Source::Static { running, .. }, Action::StartStatic(wanted)) => *running = Some(wanted),
            (Source::Vms { credential: Credential::Ok { version, .. }, attempt, running, .. }, action) => {
                match action {
                    Action::Connect => {
                        let generation = self.seen.provider.metadata.generation;
                        let next = Attempt::next(attempt.as_ref(), version, generation, self.now, turn.answer.clone());
                        *attempt = Some(next);
                    }
                    _ => *running = Some(version.clone()),
                }
            }
            (source, action) => panic!("{action:?} with {source:?}"),
        }
    }

    /// Whether hosts can be had: of VMs, the token is proven, in use and good for a listing.
    fn is_in_place(&self) -> bool {
        let runs = match &self.seen.source {
            Source::Static { wanted, running } => wanted.as_ref().ok() == running.as_ref() && running.is_some(),
            Source::Vms { credential: Credential::Ok { version, .. }, attempt: Some(attempt), running, vms } => {
                let pin = self.seen.status.account_id.as_ref();
                let proven = attempt.result.as_ref().is_ok_and(|account| Some(&account.id) == pin);
                let listed = matches!(vms, Some(Ok(_)));
                proven && listed && attempt.version == *version && running.as_ref() == Some(version)
            }
            _ => false,
        };
        runs && cli::duration(&self.seen.provider.spec.brake.window).is_ok() && self.seen.brakes.held.is_none()
    }
}

fn check(before: &Provider, world: &World, outcome: &Outcome) -> TestCaseResult {
    follows(before, &world.object(), outcome.is_a_failed_look(), world.is_in_place())?;
    // The same again, later and after more failures, changes nothing.
    let mut seen = world.seen.clone();
    let later = world.now + SignedDuration::from_hours(1);
    prop_assert_eq!(&report::status(&seen, outcome, later), &world.seen.status);
    if let Source::Vms { attempt: Some(attempt), .. } = &mut seen.source {
        (attempt.failures, attempt.at) = (attempt.failures + 41, later);
    }
    prop_assert_eq!(&report::status(&seen, outcome, later), &world.seen.status);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_report_of_every_life_obeys_the_rules(
        is_static in any::<bool>(),
        turns in prop::collection::vec(turns(), 1..12),
    ) {
        let mut world = World::new(is_static);
        for turn in turns {
            world.arrange(&turn);
            let before = world.object();
            let Some(outcome) = world.pass(&turn) else { continue };
            check(&before, &world, &outcome)?;
        }
    }
}

#[test]
fn a_new_provider_is_on_its_way_until_it_is_current() {
    for is_static in [false, true] {
        let mut world = World::new(is_static);
        assert_eq!(verdict_on(&world.object()), Verdict::InProgress);
        let turn = Turn {
            deed: Deed::Nothing,
            later: 0,
            credential: token("7"),
            answer: Ok(account("a1")),
            listing: Ok(3),
            held: false,
            used: false,
            orphans: None,
        };
        world.pass(&turn);
        assert_eq!(verdict_on(&world.object()), Verdict::Current, "{:?}", world.seen.status);
        assert!(world.is_in_place());
    }
}
