use super::*;

fn output(status: u32, stderr: &str) -> Output {
    Output { exit: Exit::Status(status), stdout: Vec::new(), stderr: stderr.into(), stderr_cut: false }
}

/// What `docker compose up` said on a VM when the port was another's.
const PORT: &str = " Container shop-web-2  Creating\n Container shop-web-2  Created\n Container shop-web-2  Starting\n\
    Error response from daemon: driver failed programming external connectivity on endpoint shop-web-2 (f00): Bind for \
    0.0.0.0:8080 failed: port is already allocated\n";
/// What `docker compose pull` said on a VM of an image that is not there.
const MISSING: &str = " web Pulling \n web Error manifest for 198.18.0.1:5000/roadstead/none:1 not found: manifest unknown: \
    manifest unknown\nError response from daemon: manifest for 198.18.0.1:5000/roadstead/none:1 not found: manifest \
    unknown: manifest unknown\n";

#[test]
fn a_failure_says_what_was_complained_of_and_not_what_went_well_before() {
    let up = Action::Up { revision: "r2".into(), service: "web".into(), scale: 2, start: true };
    let fault = failed(&up, &output(1, PORT), &[]).unwrap();
    assert_eq!((fault.transient, fault.reason), (false, "PortInUse"));
    assert!(fault.message.starts_with("Error response from daemon: driver failed"), "{fault:?}");
    let fault = failed(&Action::Pull("r2".into()), &output(18, MISSING), &[]).unwrap();
    assert_eq!((fault.transient, fault.reason), (false, "ImageNotFound"));
    assert!(fault.message.starts_with("web Error manifest for"), "{fault:?}");
    let silent = failed(&up, &output(7, ""), &[]).unwrap();
    assert_eq!(silent.message, "the command ended with status 7");
}

#[test]
fn no_secret_is_in_what_a_failure_says() {
    let up = Action::Service { revision: "r2".into(), service: "db".into() };
    let fault = failed(&up, &output(1, "invalid value hunter2 for \u{1b}[1mTOKEN\u{1b}[0m"), &["hunter2"]).unwrap();
    assert_eq!((fault.reason, fault.message.as_str()), ("ServiceFailed", "invalid value *** for TOKEN"));
}

#[test]
fn of_a_command_that_was_killed_nobody_knows_what_it_did() {
    let up = Action::Start(vec!["a".into()]);
    assert_eq!(failed(&up, &output(137, ""), &[]), None);
    assert_eq!(failed(&up, &Output { exit: Exit::Signal("KILL".into()), ..output(0, "") }, &[]), None);
}

#[test]
fn what_is_gone_already_was_taken_away_and_nothing_else_is_excused() {
    let remove = Action::Remove(vec!["aa".into(), "bb".into()]);
    let gone = "Error: No such container: aa\nError: No such container: bb\n";
    assert!(is_gone(&remove, gone));
    assert!(is_gone(&remove, "Error response from daemon: removal of container aa is already in progress\n"));
    assert!(is_gone(&Action::RemoveNetwork("n".into()), "Error: No such network: n"));
    assert!(is_gone(&Action::RemoveNetwork("n".into()), "Error response from daemon: network n not found"));
    assert!(!is_gone(&remove, &format!("{gone}Error response from daemon: device is busy\n")));
    assert!(!is_gone(&remove, ""));
    assert!(!is_gone(&Action::Start(vec!["aa".into()]), gone));
}

#[test]
fn what_the_operator_runs_beside_its_loop_can_go_from_thread_to_thread() {
    fn goes<T: Send>(_: impl Fn(&'static Session, &'static Place, &'static Action) -> T) {}
    goes(|session, place, action| act(session, place, None, action, &[], |_| ()));
}
