//! The plan of a managed host by example.

use super::super::super::report;
use super::super::tests::{ago, annotate, applied, delete, droplets, now, rack, settled, spec, word};
use super::super::{Facts, HostView, Verdict, plan};
use super::*;
use crate::api::condition::{Desired, set};
use crate::api::node::{CaddyStatus, Ssh};
use crate::api::refs::HostManagement;
use crate::api::status::Journal;
use crate::dns::propagation::Confirmation;
use crate::runtime::claims::Standing;
use crate::runtime::driver::{Outcome, Wait};

fn view() -> HostView {
    let again = Duration::from_secs(100);
    HostView { unset: None, verdict: None, fresh: false, again, work: None, target: None }
}

/// A Node whose name is published and answers everywhere, and which manages its host.
fn managed(mut seen: Observed, host: HostView) -> Observed {
    spec(&mut seen, |node| node.spec.host.manage = HostManagement::Caddy);
    seen.public_key = Some("ssh-ed25519 AAAA".to_owned());
    seen.host = Some(host);
    seen
}

fn published() -> Facts {
    Facts {
        authority: Some(Confirmation::Confirmed),
        resolvers: Some(Confirmation::Confirmed),
        ..applied("203.0.113.7")
    }
}

fn known(verdict: Verdict) -> HostView {
    HostView { verdict: Some(verdict), fresh: true, ..view() }
}

fn serves() -> Verdict {
    Verdict::Serves { certificate: Ok(()) }
}

fn bootstrapped(mut seen: Observed, generation: i64) -> Observed {
    let condition = Desired::yes(BOOTSTRAPPED, "Serving", "");
    set(&mut seen.status.conditions, condition, Some(generation), now());
    seen
}

#[test]
fn the_key_is_there_before_the_vm_that_is_to_have_it() {
    let mut seen = managed(droplets(vec![]), view());
    seen.public_key = None;
    assert_eq!(word(&seen, &Facts::default()), "EnsureKey");
    seen.public_key = Some("ssh-ed25519 AAAA".to_owned());
    assert_eq!(word(&seen, &Facts::default()), "LookByKey");
    // Whoever only logs in there has it, too; others have none.
    let mut seen = droplets(vec![]);
    spec(&mut seen, |node| node.spec.ssh = Some(Ssh::default()));
    assert_eq!(word(&seen, &Facts::default()), "EnsureKey");
    spec(&mut seen, |node| node.spec.ssh = None);
    assert_eq!(word(&seen, &Facts::default()), "LookByKey");
}

#[test]
fn a_host_is_worked_on_once_its_name_resolves_and_not_before() {
    let seen = managed(settled(rack()), view());
    let mut facts = Facts { authority: None, resolvers: None, ..published() };
    assert_eq!(word(&seen, &facts), "AskAuthority");
    facts.authority = Some(Confirmation::Confirmed);
    assert_eq!(word(&seen, &facts), "AskResolvers");
    facts.resolvers = Some(Confirmation::Confirmed);
    assert_eq!(word(&seen, &facts), "WorkOnHost");
}

#[test]
fn resolvers_that_are_late_do_not_keep_those_who_have_the_name_from_finding_something_there() {
    let mut seen = managed(settled(rack()), view());
    let late = Facts { resolvers: Some(Confirmation::Differs("nothing".into())), ..published() };
    assert_eq!(word(&seen, &late), "wait Propagating");
    seen.status.journal = Some(Journal { propagating_since: ago(121), ..Journal::default() });
    assert_eq!(word(&seen, &late), "WorkOnHost");
    seen.host = Some(HostView { work: Some("looking at it".to_owned()), ..view() });
    assert_eq!(word(&seen, &late), "wait Bootstrapping");
    // The time for which the name is late goes on.
    let step = plan(&seen, &late, now());
    let Step::Wait(wait) = step else { panic!("{step:?}") };
    let status = report::status(&seen, &late, &Outcome::Waiting(wait), now());
    assert_eq!(status.journal.unwrap().propagating_since, ago(121));
    seen.host = Some(known(serves()));
    assert_eq!(word(&seen, &late), "wait PropagationTimeout");
}

#[test]
fn each_end_of_the_work_has_its_own_step() {
    let words = |host: HostView| word(&managed(settled(rack()), host), &published());
    let message = || "what to do".to_owned();
    assert_eq!(words(HostView { work: Some("pulling images".to_owned()), ..view() }), "wait Bootstrapping");
    assert_eq!(words(known(serves())), "done");
    assert_eq!(words(known(Verdict::Serves { certificate: Err(message()) })), "wait CertificatePending");
    assert_eq!(words(known(Verdict::Refused { reason: "PortInUse", message: message() })), "stop PortInUse");
    assert_eq!(words(known(Verdict::Broken { reason: "BootstrapFailed", message: message() })), "wait BootstrapFailed");
    assert_eq!(words(known(Verdict::Unseen { reason: "HostUnreachable", message: message() })), "wait HostUnreachable");
    let unset = HostView { unset: Some("set hosts.caddyImage".to_owned()), ..view() };
    assert_eq!(words(unset), "stop HostImagesMissing");
}

#[test]
fn what_is_old_or_of_another_wish_is_looked_at_again_while_its_verdict_stands() {
    let words = |host: HostView| word(&managed(settled(rack()), host), &published());
    for verdict in [serves(), Verdict::Refused { reason: "NoSudo", message: "m".to_owned() }] {
        assert_eq!(words(HostView { fresh: false, ..known(verdict) }), "WorkOnHost");
    }
    let again = |verdict| HostView { fresh: false, work: Some("looking at it".to_owned()), ..known(verdict) };
    assert_eq!(words(again(serves())), "done");
    assert_eq!(words(again(Verdict::Refused { reason: "NoSudo", message: "m".to_owned() })), "stop NoSudo");
}

#[test]
fn a_new_process_believes_what_was_so_until_it_has_looked() {
    let looking = || HostView { work: Some("looking at it".to_owned()), ..view() };
    let seen = |generation| bootstrapped(managed(settled(rack()), looking()), generation);
    assert_eq!(word(&seen(1), &published()), "done");
    assert_eq!(word(&seen(0), &published()), "wait Bootstrapping", "the spec has changed since");
    let mut proxied = seen(1);
    spec(&mut proxied, |node| node.spec.proxied = true);
    assert_eq!(word(&proxied, &published()), "wait Bootstrapping", "and the record is not proxied yet");
}

#[test]
fn a_look_that_fails_leaves_ready_alone_and_one_that_finds_it_broken_does_not() {
    let keeps = |verdict| match plan(&managed(settled(rack()), known(verdict)), &published(), now()) {
        Step::Wait(Wait { keep_ready, .. }) => keep_ready,
        other => panic!("{other:?}"),
    };
    assert!(keeps(Verdict::Unseen { reason: "HostUnreachable", message: "m".to_owned() }));
    assert!(!keeps(Verdict::Broken { reason: "BootstrapFailed", message: "m".to_owned() }));
}

#[test]
fn a_name_is_proxied_only_once_caddy_has_its_certificate_and_then_stays_so() {
    let declared = |seen: &Observed| match plan(seen, &Facts::default(), now()) {
        Step::Do(Action::Declare(records)) => records[0].proxied,
        other => panic!("{other:?}"),
    };
    let with = |host: HostView| {
        let mut seen = managed(settled(rack()), host);
        spec(&mut seen, |node| node.spec.proxied = true);
        seen
    };
    assert!(!declared(&with(view())));
    assert!(!declared(&with(known(Verdict::Serves { certificate: Err("not yet".to_owned()) }))));
    assert!(declared(&with(known(serves()))));
    assert!(declared(&with(HostView { fresh: false, ..known(serves()) })));
    let mut seen = with(view());
    seen.status.record.as_mut().unwrap().ttl = 1;
    assert!(declared(&seen), "a new process takes nothing back");
    // Nobody waits for the certificate of a host that is not ours.
    let mut seen = settled(rack());
    spec(&mut seen, |node| node.spec.proxied = true);
    assert!(declared(&seen));
}

#[test]
fn the_status_says_what_is_known_of_the_host_and_where_the_node_s_name_leads() {
    let said = |seen: &Observed| {
        let status = report::status(seen, &published(), &Outcome::Done, now());
        let condition = condition::get(&status.conditions, BOOTSTRAPPED).cloned();
        (condition.map(|c| (c.status, c.reason)), status.caddy, status.ssh_public_key)
    };
    let held = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    let caddy = |service: &str, port| {
        let target = CaddyTarget { service: service.to_owned(), port };
        Some(CaddyStatus { domain: "web-1.example.com".to_owned(), target })
    };
    let mut seen = managed(settled(rack()), known(serves()));
    let key = Some("ssh-ed25519 AAAA".to_owned());
    assert_eq!(said(&seen), (held("True", "Serving"), caddy("placeholder", 8080), key.clone()));
    seen.host.as_mut().unwrap().target = Some(CaddyTarget { service: "web".to_owned(), port: 3000 });
    assert_eq!(said(&seen).1, caddy("web", 3000));

    let unseen = Verdict::Unseen { reason: "HostUnreachable", message: "m".to_owned() };
    seen.host = Some(known(unseen));
    assert_eq!(said(&seen), (held("False", "HostUnreachable"), None, key.clone()));
    let seen = bootstrapped(seen, 1);
    assert_eq!(said(&seen), (held("True", "Serving"), caddy("placeholder", 8080), key));
    let mut seen = managed(seen, known(Verdict::Refused { reason: "PortInUse", message: "m".to_owned() }));
    assert_eq!(said(&seen).0, held("False", "PortInUse"));

    // A Node that lets its host go says nothing of it any more.
    spec(&mut seen, |node| node.spec.host.manage = HostManagement::None);
    (seen.host, seen.public_key) = (None, None);
    assert_eq!(said(&seen), (None, None, None));
}

#[test]
fn another_vm_is_another_host() {
    let mut seen = bootstrapped(managed(settled(droplets(vec![])), view()), 1);
    seen.status.vm_id = None;
    let waiting = Wait { reason: "CreatingVM", message: "m".to_owned(), after: WORKING, keep_ready: false };
    let status = report::status(&seen, &Facts::default(), &Outcome::Waiting(waiting), now());
    assert!(!condition::is_true(&status.conditions, BOOTSTRAPPED) && status.caddy.is_none());
}

#[test]
fn an_existing_host_is_left_as_it_is_which_is_said_once_and_a_vm_simply_goes() {
    let gone = |seen: Observed| {
        let mut seen = delete(seen);
        (seen.status.fqdn, seen.status.record, seen.name, seen.address) =
            (None, None, Some(Standing::Free), Some(Standing::Free));
        annotate(&mut seen, "abandon", "dns");
        seen
    };
    let said = || Facts { said: vec!["dns"], ..Facts::default() };
    let rack_of = |manage| gone(managed(rack(), manage));
    assert_eq!(word(&rack_of(view()), &said()), "SayLeft");
    let told = Facts { said: vec!["dns", "host"], ..Facts::default() };
    assert_eq!(word(&rack_of(view()), &told), "ForgetHost");
    let mut given_up = rack_of(view());
    annotate(&mut given_up, "abandon", "dns,host");
    assert_eq!(word(&given_up, &said()), "ForgetHost");
    assert_eq!(word(&given_up, &Facts { forgot_host: true, ..said() }), "gone");
    let mut plain = rack_of(view());
    spec(&mut plain, |node| node.spec.host.manage = HostManagement::None);
    assert_eq!(word(&plain, &said()), "gone");
}

#[test]
fn a_frozen_operator_touches_no_host() {
    let mut seen = managed(settled(rack()), view());
    seen.read_only = true;
    assert_eq!(word(&seen, &published()), "wait ReadOnly");
}
