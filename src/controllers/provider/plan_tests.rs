#![allow(
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    clippy::struct_field_names,
    clippy::semicolon_if_nothing_returned,
    reason = "tables of cases read better so"
)]

use super::*;
use crate::api::node::{Node, NodeSpec};
use crate::api::provider::{Brake, ProviderSpec};
use crate::api::refs::{AllowedNamespaces, NamespacesFrom};
use crate::controllers::provider::Held;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const RECHECK: Duration = Duration::from_secs(60);
const RESYNC: Duration = Duration::from_secs(300);

pub(in crate::controllers::provider) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(in crate::controllers::provider) fn account(id: &str) -> Account {
    Account { id: id.into(), droplet_limit: Some(25) }
}

#[expect(clippy::unnecessary_wraps, reason = "reads as the field it is put into")]
fn attempt(version: &str, result: Result<Account, OutsideError>) -> Option<Attempt<Account>> {
    Some(Attempt::next(None, version, Some(1), at(0), result))
}

pub(in crate::controllers::provider) fn token(version: &str) -> Credential {
    Credential::Ok { version: version.into(), token: crate::controllers::credential::tests::text("t") }
}

fn unusable() -> Credential {
    Credential::Unusable { reason: "SecretMissing", message: "create it".into() }
}

fn observed(source: Source) -> Observed {
    let spec = ProviderSpec {
        digitalocean: None,
        static_: None,
        allowed_namespaces: AllowedNamespaces { from: NamespacesFrom::All, selector: None },
        brake: Brake::default(),
        allow_host_access: false,
        ssh_authorized_keys: Vec::new(),
    };
    let mut provider = Provider::new("do", spec);
    provider.metadata.generation = Some(1);
    Observed {
        provider: Arc::new(provider),
        status: ProviderStatus { account_id: Some("a1".into()), ..ProviderStatus::default() },
        source,
        brakes: State::default(),
        stale: false,
        users: Users::default(),
        orphans: None,
        recheck: RECHECK,
        resync: RESYNC,
    }
}

/// The parts of a source of VMs of which everything is in place.
pub(in crate::controllers::provider) struct Vms {
    pub credential: Credential,
    pub attempt: Option<Attempt<Account>>,
    pub running: Option<String>,
    pub listed: Option<Result<usize, OutsideError>>,
}

pub(in crate::controllers::provider) fn settled() -> Vms {
    Vms {
        credential: token("7"),
        attempt: attempt("7", Ok(account("a1"))),
        running: Some("7".into()),
        listed: Some(Ok(3)),
    }
}

pub(in crate::controllers::provider) fn with(vms: Vms) -> Observed {
    let Vms { credential, attempt, running, listed } = vms;
    observed(Source::Vms { credential, attempt, running, vms: listed })
}

pub(in crate::controllers::provider) fn hosts(wanted: &str, running: Option<&str>) -> Observed {
    let read = |list: &str| AllowedCidrs::parse(&[list]);
    observed(Source::Static { wanted: read(wanted), running: running.map(|list| read(list).unwrap()) })
}

fn deleted(seen: &mut Observed) {
    Arc::make_mut(&mut seen.provider).metadata.deletion_timestamp = Some(Time(at(0)));
}

pub(in crate::controllers::provider) fn used(seen: &mut Observed) {
    seen.users = Users::of([&Node::new("web-1", NodeSpec::default())], []);
}

pub(in crate::controllers::provider) fn held(seen: &mut Observed) {
    seen.brakes.held = Some(Held { reason: "DeletionHeld", message: "approve it".into() });
}

/// The step in a word: the action, or the reason.
fn word(step: &ProviderStep) -> String {
    match step {
        Step::Do(Action::StartStatic(_)) => "StartStatic".into(),
        Step::Do(action) => format!("{action:?}"),
        Step::Record(_) => "Record".into(),
        Step::Wait(wait) => format!("Wait {}{}", wait.reason, if wait.keep_ready { "" } else { " not ready" }),
        Step::Stop { reason, .. } => format!("Stop {reason}"),
        Step::Hold(_) => "Hold".into(),
        Step::Done => "Done".into(),
        Step::Gone => "Gone".into(),
    }
}

fn next(seen: &Observed) -> String {
    word(&plan(seen, at(1)))
}

/// A state, how it differs from one in which all is in place, and the step that follows.
type Case = (&'static str, fn(&mut Vms), &'static str);

#[test]
fn each_state_of_a_source_of_vms_has_one_next_step() {
    let cases: [Case; 14] = [
        ("all in place", |_| (), "Done"),
        ("no Secret", |v| v.credential = unusable(), "Wait SecretMissing"),
        ("never asked", |v| v.attempt = None, "Connect"),
        ("a new token", |v| v.credential = token("8"), "Connect"),
        ("the resync is due", |v| v.attempt.as_mut().unwrap().at = at(-300), "Connect"),
        (
            "a wrong token",
            |v| v.attempt = attempt("7", Err(OutsideError::Unauthorized("no".into()))),
            "Wait CredentialRefused",
        ),
        (
            "no permission",
            |v| v.attempt = attempt("7", Err(OutsideError::Forbidden("no".into()))),
            "Wait PermissionMissing",
        ),
        ("no answer", |v| v.attempt = attempt("7", Err(OutsideError::Unavailable("no".into()))), "Wait Unavailable"),
        ("another account", |v| v.attempt = attempt("7", Ok(account("a2"))), "Stop AccountChanged"),
        (
            "another account, says the client",
            |v| {
                let code = crate::cloud::code::ACCOUNT_CHANGED.into();
                v.attempt = attempt("7", Err(OutsideError::Refused { code, message: "no".into() }));
            },
            "Stop AccountChanged",
        ),
        ("pinned, nothing runs", |v| (v.running, v.listed) = (None, None), "StartFleet"),
        ("the fleet has an older token", |v| v.running = Some("6".into()), "InstallToken"),
        (
            "the listing is refused",
            |v| v.listed = Some(Err(OutsideError::Unauthorized("no".into()))),
            "Wait CredentialRefused",
        ),
        ("the listing fails", |v| v.listed = Some(Err(OutsideError::Unavailable("no".into()))), "Wait Unavailable"),
    ];
    for (what, change, expected) in cases {
        let mut vms = settled();
        change(&mut vms);
        assert_eq!(next(&with(vms)), expected, "{what}");
    }
}

#[test]
fn the_account_is_pinned_before_anything_can_be_created() {
    let mut vms = settled();
    (vms.running, vms.listed) = (None, None);
    let mut seen = with(vms);
    seen.status = ProviderStatus::default();
    let Step::Record(status) = plan(&seen, at(1)) else { panic!("{:?}", plan(&seen, at(1))) };
    assert_eq!(status.account_id.as_deref(), Some("a1"));
    seen.status = *status;
    assert_eq!(next(&seen), "StartFleet");
}

#[test]
fn a_list_of_networks_is_put_to_use_and_a_bad_one_named() {
    assert_eq!(next(&hosts("203.0.113.0/24", None)), "StartStatic");
    assert_eq!(next(&hosts("203.0.113.0/24", Some("203.0.113.0/24"))), "Done");
    assert_eq!(next(&hosts("203.0.113.0/24", Some("10.0.0.0/8"))), "StartStatic");
    let Step::Stop { reason: "InvalidCIDR", message } = plan(&hosts("203.0.113.0", None), at(1)) else {
        panic!("a bad network was accepted")
    };
    assert!(message.contains("spec.static.allowedCIDRs[0] `203.0.113.0`"), "{message}");
}

#[test]
fn a_source_of_a_later_version_is_named_as_unknown() {
    assert_eq!(next(&observed(Source::Unknown)), "Stop UnknownProvider");
}

#[test]
fn a_hold_is_shown_but_keeps_nothing_else_from_working() {
    let mut seen = with(settled());
    held(&mut seen);
    assert_eq!(next(&seen), "Wait DeletionHeld not ready");
    deleted(&mut seen);
    used(&mut seen);
    assert_eq!(next(&seen), "Wait DeletionHeld not ready", "what a person has to approve, not who waits for it");
    let mut vms = settled();
    vms.credential = token("8");
    let mut seen = with(vms);
    held(&mut seen);
    assert_eq!(next(&seen), "Connect");
    let mut seen = hosts("203.0.113.0/24", Some("203.0.113.0/24"));
    held(&mut seen);
    assert_eq!(next(&seen), "Wait DeletionHeld not ready");
}

#[test]
fn a_provider_in_use_goes_on_working_and_one_that_is_not_goes_without_any_secret() {
    let mut vms = settled();
    (vms.running, vms.listed, vms.attempt) = (None, None, None);
    let mut seen = with(vms);
    deleted(&mut seen);
    used(&mut seen);
    assert_eq!(next(&seen), "Connect");
    let mut seen = with(settled());
    deleted(&mut seen);
    used(&mut seen);
    assert_eq!(next(&seen), "Wait InUse not ready");
    seen.users = Users::default();
    assert_eq!(next(&seen), "Stop");
    let mut vms = settled();
    (vms.credential, vms.running, vms.listed) = (unusable(), None, None);
    let mut seen = with(vms);
    deleted(&mut seen);
    assert_eq!(next(&seen), "Gone");
}

#[test]
fn what_runs_for_an_earlier_object_of_this_name_is_stopped_first() {
    let mut seen = with(settled());
    seen.stale = true;
    assert_eq!(next(&seen), "Stop");
}

#[test]
fn a_window_that_is_no_duration_is_named() {
    let mut seen = with(settled());
    Arc::make_mut(&mut seen.provider).spec.brake.window = "soon".into();
    let Step::Stop { reason: "InvalidBrake", message } = plan(&seen, at(1)) else { panic!("accepted") };
    assert!(message.starts_with("spec.brake.window: `soon`"), "{message}");
}
