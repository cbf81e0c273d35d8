//! What errors of the work mean. The work itself is done on real hosts: `tests/hosts_ssh.rs`, `tests/bootstrap`.

use super::*;
use crate::host::bootstrap::Unusable;

#[test]
fn every_refusal_is_a_persons_to_mend_and_has_its_own_reason() {
    let said = String::new;
    let refusals = [
        (Refusal::NoSudo { said: said() }, "NoSudo"),
        (Refusal::UnsupportedSystem { found: said() }, "UnsupportedSystem"),
        (Refusal::OtherOwner { found: said() }, "OtherOwner"),
        (Refusal::AdoptionRequired { owner: said(), cluster: said() }, "AdoptionRequired"),
        (Refusal::PortInUse { port: 80, by: "the process busybox (7)".to_owned() }, "PortInUse"),
    ];
    for (refusal, expected) in refusals {
        let text = refusal.to_string();
        let verdict = judge(refusal.into());
        assert_eq!(verdict, Verdict::Refused { reason: expected, message: text });
    }
    let verdict = judge(Unusable::Image("caddy:2".to_owned()).into());
    assert!(matches!(verdict, Verdict::Refused { reason: "InvalidHostSettings", .. }), "{verdict:?}");
    let verdict = judge(NotTaken::Refused("no".to_owned()).into());
    assert!(matches!(verdict, Verdict::Refused { reason: "CaddyConfigRefused", .. }), "{verdict:?}");
}

#[test]
fn a_cut_connection_says_nothing_of_the_host_and_a_failed_command_does() {
    let cut = ssh::Error::Cut { server: "192.0.2.1:22".to_owned(), reason: "the host closed it".to_owned() };
    assert!(matches!(judge(cut.into()), Verdict::Unseen { reason: "HostUnreachable", .. }));
    let failed = ssh::Error::Failed {
        what: "`pull caddy`".to_owned(),
        exit: ssh::Exit::Status(1),
        stderr: "no space left on device".to_owned(),
    };
    let verdict = judge(failed.into());
    let Verdict::Broken { reason: "BootstrapFailed", message } = verdict else { panic!("{verdict:?}") };
    assert!(message.contains("no space left on device"), "{message}");
}

#[test]
fn a_health_path_that_no_router_takes_is_a_persons_to_mend() {
    let node = table::Node { nonce: "0123456789abcdef".into(), health_path: "/h\u{e4}lth".into() };
    let error = apps::table(None, &std::collections::BTreeSet::new(), "web-1.example.com", node).unwrap_err();
    let Verdict::Refused { reason: "InvalidHealthPath", message } = unroutable(&error) else { panic!("{error}") };
    assert!(message.contains("spec.healthPath") && message.contains("visible ASCII"), "{message}");
}
