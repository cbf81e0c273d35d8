#![allow(
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    clippy::struct_field_names,
    clippy::semicolon_if_nothing_returned,
    reason = "tables of cases read better so"
)]

use super::*;
use crate::api::claim::Holder;
use crate::api::node::{Node, NodeSpec};
use crate::api::refs::{AllowedNamespaces, NamespacesFrom, SecretKeyRef};
use crate::api::zone::{Cloudflare, Propagation, ZoneSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const RECHECK: Duration = Duration::from_secs(60);
const RESYNC: Duration = Duration::from_secs(300);

pub(in crate::controllers::zone) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(in crate::controllers::zone) fn facts() -> ZoneFacts {
    ZoneFacts {
        zone_id: "z1".into(),
        account_id: "a1".into(),
        plan: "free".into(),
        batch_limit: 200,
        name_servers: vec!["ns1.example.net".into(), "ns2.example.net".into()],
        status: "active".into(),
        token_expires: None,
    }
}

fn attempt(result: Result<ZoneFacts, OutsideError>) -> Attempt<ZoneFacts> {
    Attempt::next(None, "7", Some(1), at(0), result)
}

pub(in crate::controllers::zone) fn token(version: &str) -> Credential {
    Credential::Ok { version: version.into(), token: crate::controllers::credential::tests::text("t") }
}

/// A Zone of which everything is in place.
pub(in crate::controllers::zone) fn settled() -> Observed {
    let spec = ZoneSpec {
        domain: "example.com".into(),
        cloudflare: Cloudflare {
            token_secret_ref: SecretKeyRef { name: "cloudflare".into(), key: "token".into() },
            workers: None,
        },
        allowed_namespaces: AllowedNamespaces { from: NamespacesFrom::All, selector: None },
        ttl: 300,
        propagation: None,
        allow_apex: false,
    };
    let mut zone = Zone::new("example-com", spec);
    zone.metadata.generation = Some(1);
    let status = ZoneStatus { zone_id: Some("z1".into()), account_id: Some("a1".into()), ..ZoneStatus::default() };
    Observed {
        domain: Fqdn::parse("example.com"),
        zone: Arc::new(zone),
        status,
        claim: Standing::Ours,
        credential: token("7"),
        attempt: Some(attempt(Ok(facts()))),
        writer: Some(Writer {
            token_version: Some("7".into()),
            listed: true,
            blocked: None,
            records: None,
            has_authority: true,
        }),
        stale: false,
        users: Users::default(),
        orphans: None,
        orphan_workers: None,
        recheck: RECHECK,
        resync: RESYNC,
    }
}

pub(in crate::controllers::zone) fn change(seen: &mut Observed, change: impl FnOnce(&mut Zone)) {
    change(Arc::make_mut(&mut seen.zone));
}

fn deleted(seen: &mut Observed) {
    change(seen, |zone| zone.metadata.deletion_timestamp = Some(Time(at(0))));
}

pub(in crate::controllers::zone) fn used(seen: &mut Observed) {
    let node = Node::new("web-1", NodeSpec::default());
    seen.users = Users::of([&node], []);
}

fn next(seen: &Observed) -> ZoneStep {
    plan(seen, &Facts::default(), at(1))
}

/// The step in a word: the action, or the reason.
fn word(step: &ZoneStep) -> String {
    match step {
        Step::Do(action) => format!("{action:?}"),
        Step::Record(_) => "Record".into(),
        Step::Wait(wait) => format!("Wait {}{}", wait.reason, if wait.keep_ready { "" } else { " not ready" }),
        Step::Stop { reason, .. } => format!("Stop {reason}"),
        Step::Hold(_) => "Hold".into(),
        Step::Done => "Done".into(),
        Step::Gone => "Gone".into(),
    }
}

pub(in crate::controllers::zone) fn taken() -> Standing {
    let holder = Holder { kind: "Zone".into(), name: "other".into(), uid: "u".into() };
    Standing::Taken { namespace: String::new(), holder }
}

fn refused(code: &str) -> OutsideError {
    OutsideError::Refused { code: code.into(), message: "no".into() }
}

fn unusable() -> Credential {
    Credential::Unusable { reason: "SecretMissing", message: "create it".into() }
}

/// A state, how it differs from one in which all is in place, and the step that follows.
type Case = (&'static str, fn(&mut Observed), &'static str);

#[test]
fn each_state_has_one_next_step() {
    let cases: [Case; 31] = [
        ("all in place", |_| (), "Done"),
        ("a domain that is none", |s| s.domain = Fqdn::parse("example.com."), "Stop InvalidDomain"),
        ("the domain is free", |s| s.claim = Standing::Free, "TakeClaim"),
        ("another has it while we write", |s| s.claim = taken(), "StopWriter"),
        ("another has it", |s| (s.claim, s.writer) = (taken(), None), "Stop DomainTaken"),
        ("no Secret", |s| s.credential = unusable(), "Wait SecretMissing"),
        (
            "no Secret, nothing runs",
            |s| (s.credential, s.writer, s.attempt) = (unusable(), None, None),
            "Wait SecretMissing",
        ),
        ("never asked", |s| s.attempt = None, "Connect"),
        ("a new token", |s| s.credential = token("8"), "Connect"),
        ("a new generation", |s| change(s, |z| z.metadata.generation = Some(2)), "Connect"),
        ("the resync is due", |s| s.attempt.as_mut().unwrap().at = at(-300), "Connect"),
        (
            "a wrong token",
            |s| s.attempt = Some(attempt(Err(OutsideError::Unauthorized("no".into())))),
            "Wait CredentialRefused",
        ),
        (
            "no permission",
            |s| s.attempt = Some(attempt(Err(OutsideError::Forbidden("no".into())))),
            "Wait PermissionMissing",
        ),
        ("no such zone", |s| s.attempt = Some(attempt(Err(refused("zone-not-found")))), "Stop ZoneNotFound"),
        ("two such zones", |s| s.attempt = Some(attempt(Err(refused("zone-ambiguous")))), "Stop ZoneAmbiguous"),
        ("no answer", |s| s.attempt = Some(attempt(Err(OutsideError::Unavailable("no".into())))), "Wait Unavailable"),
        ("the first answer", |s| s.status = ZoneStatus::default(), "Record"),
        ("the first answer, before the writer", |s| (s.status, s.writer) = (ZoneStatus::default(), None), "Record"),
        ("another account", |s| s.status.account_id = Some("a0".into()), "Stop AccountChanged"),
        (
            "another account, nothing runs",
            |s| (s.status.account_id, s.writer) = (Some("a0".into()), None),
            "Stop AccountChanged",
        ),
        ("the zone was made anew", |s| s.status.zone_id = Some("z0".into()), "Stop ZoneChanged"),
        ("pinned, nothing runs", |s| s.writer = None, "StartWriter"),
        (
            "the writer has an older token",
            |s| s.writer.as_mut().unwrap().token_version = Some("6".into()),
            "InstallToken",
        ),
        (
            "the writer is refused",
            |s| s.writer.as_mut().unwrap().blocked = Some(OutsideError::Unauthorized("no".into())),
            "Wait CredentialRefused",
        ),
        (
            "the writer may not write",
            |s| s.writer.as_mut().unwrap().blocked = Some(OutsideError::Forbidden("no".into())),
            "Wait PermissionMissing",
        ),
        (
            "the writer gets no answer",
            |s| s.writer.as_mut().unwrap().blocked = Some(OutsideError::Unknown("no".into())),
            "Wait Unavailable",
        ),
        ("the writer has not read yet", |s| s.writer.as_mut().unwrap().listed = false, "Wait ReadingZone"),
        (
            "not delegated",
            |s| {
                let found = ZoneFacts { status: "pending".into(), ..facts() };
                s.attempt = Some(attempt(Ok(found)));
            },
            "Wait ZoneNotActive not ready",
        ),
        (
            "a resolver that is none",
            |s| {
                change(s, |z| {
                    let resolvers = Some(vec!["1.1.1.1".into(), "dns.example.net".into()]);
                    z.spec.propagation = Some(Propagation { resolvers, timeout: "120s".into() });
                });
            },
            "Stop InvalidPropagation",
        ),
        (
            "a timeout that is none",
            |s| {
                change(s, |z| {
                    z.spec.propagation = Some(Propagation { resolvers: None, timeout: "soon".into() });
                });
            },
            "Stop InvalidPropagation",
        ),
        ("the writer of an earlier Zone of this name", |s| (s.stale, s.attempt) = (true, None), "StopWriter"),
    ];
    for (what, change, expected) in cases {
        let mut seen = settled();
        change(&mut seen);
        assert_eq!(word(&next(&seen)), expected, "{what}");
    }
}

#[test]
fn a_token_of_another_account_is_never_installed_and_the_writer_keeps_the_old_one() {
    let mut seen = settled();
    seen.credential = token("8");
    let found = ZoneFacts { account_id: "a2".into(), zone_id: "z2".into(), ..facts() };
    seen.attempt = Some(Attempt::next(None, "8", Some(1), at(0), Ok(found)));
    let Step::Stop { reason: "AccountChanged", message } = next(&seen) else { panic!("{:?}", next(&seen)) };
    assert!(message.contains("account a2") && message.contains("account a1"), "{message}");
    assert_eq!(proven(&seen), None);
    // Nor is one that sees no such zone, or that is refused.
    for error in [refused("zone-not-found"), OutsideError::Unauthorized("no".into())] {
        seen.attempt = Some(Attempt::next(None, "8", Some(1), at(0), Err(error)));
        assert!(!matches!(next(&seen), Step::Do(_)), "{:?}", next(&seen));
    }
    seen.attempt = Some(Attempt::next(None, "8", Some(1), at(0), Ok(facts())));
    assert_eq!(next(&seen), Step::Do(Action::InstallToken));
}

#[test]
fn a_new_token_takes_over_step_by_step_without_a_stop_of_the_writer() {
    let mut seen = settled();
    seen.writer.as_mut().unwrap().blocked = Some(OutsideError::Unauthorized("revoked".into()));
    seen.credential = token("8");
    assert_eq!(next(&seen), Step::Do(Action::Connect));
    seen.attempt = Some(Attempt::next(seen.attempt.as_ref(), "8", Some(1), at(1), Ok(facts())));
    assert_eq!(next(&seen), Step::Do(Action::InstallToken));
    seen.writer.as_mut().unwrap().token_version = Some("8".into());
    seen.writer.as_mut().unwrap().blocked = None;
    assert_eq!(next(&seen), Step::Done);
}

#[test]
fn zone_and_account_are_pinned_before_anything_can_be_written() {
    let mut seen = settled();
    (seen.status, seen.writer) = (ZoneStatus::default(), None);
    let Step::Record(status) = next(&seen) else { panic!("{:?}", next(&seen)) };
    assert_eq!((status.zone_id.as_deref(), status.account_id.as_deref()), (Some("z1"), Some("a1")));
    seen.status = *status;
    assert_eq!(next(&seen), Step::Do(Action::StartWriter));
}

#[test]
fn a_zone_in_use_goes_on_working_and_says_who_uses_it() {
    for (what, change, expected) in [
        ("all in place", (|_| ()) as fn(&mut Observed), "Wait InUse not ready"),
        ("no Secret", |s| s.credential = unusable(), "Wait InUse not ready"),
        ("after a restart", |s| (s.writer, s.attempt) = (None, None), "Connect"),
        ("after a restart, connected", |s| s.writer = None, "StartWriter"),
        ("another account", |s| s.status.account_id = Some("a0".into()), "Wait InUse not ready"),
    ] {
        let mut seen = settled();
        change(&mut seen);
        deleted(&mut seen);
        used(&mut seen);
        assert_eq!(word(&next(&seen)), expected, "{what}");
    }
}

#[test]
fn a_zone_nobody_uses_stops_its_writer_gives_back_its_domain_and_goes_without_any_secret() {
    let mut seen = settled();
    deleted(&mut seen);
    (seen.credential, seen.attempt) = (unusable(), None);
    assert_eq!(next(&seen), Step::Do(Action::StopWriter));
    seen.writer = None;
    assert_eq!(next(&seen), Step::Do(Action::ReleaseClaim));
    let facts = Facts { released: true, ..Facts::default() };
    assert_eq!(plan(&seen, &facts, at(1)), Step::Gone);
}

#[test]
fn what_was_just_claimed_counts_before_the_cache_knows() {
    let mut seen = settled();
    seen.claim = Standing::Free;
    let facts = |claim| Facts { claim: Some(claim), ..Facts::default() };
    assert_eq!(plan(&seen, &facts(Standing::Ours), at(1)), Step::Done);
    seen.writer = None;
    assert_eq!(word(&plan(&seen, &facts(taken()), at(1))), "Stop DomainTaken");
}

#[test]
fn a_failed_look_is_repeated_after_its_back_off_and_no_sooner() {
    let mut seen = settled();
    seen.attempt = Some(attempt(Err(OutsideError::Unavailable("no".into()))));
    assert_eq!(word(&next(&seen)), "Wait Unavailable");
    let Step::Wait(wait) = next(&seen) else { unreachable!() };
    assert_eq!(wait.after, Duration::from_secs(2));
    assert_eq!(plan(&seen, &Facts::default(), at(2)), Step::Do(Action::Connect));
}
