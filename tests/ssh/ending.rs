//! Commands that are given up or cut off: none goes on at the host.

use std::time::{Duration, Instant};

use roadstead::host::ssh::{Command, Error, Options, Session};
use support::eventually;

use crate::rig::{LONG, Sshd, command, gone, none_with, pid_in};

/// A command that says its process and one more it started, and would go on for hours.
fn endless(sshd: &Sshd, seconds: u32) -> String {
    let path = sshd.path("pid");
    format!("sleep {seconds} & echo $! > {0}.child; echo $$ > {0}; sleep {seconds}; echo never", path.display())
}

async fn both(sshd: &Sshd) -> [u32; 2] {
    [pid_in(&sshd.path("pid")).await, pid_in(&sshd.path("pid.child")).await]
}

#[tokio::test]
async fn a_time_limit_ends_the_command_and_what_it_started() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let limit = Duration::from_millis(1500);
    let error = session.exec(Command::new(endless(&sshd, 7401), limit)).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { limit: of, .. } if of == limit), "{error:?}");
    assert!(error.to_string().ends_with("took longer than 1500 ms"), "{error}");
    for pid in both(&sshd).await {
        gone(pid).await;
    }
    none_with("sleep 7401").await;
    assert!(session.exec(command("true")).await.unwrap().success());
}

#[tokio::test]
async fn a_dropped_future_ends_the_command_and_what_it_started() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let running = tokio::spawn({
        let text = endless(&sshd, 7402);
        async move { session.exec(command(&text)).await }
    });
    let pids = both(&sshd).await;
    running.abort();
    for pid in pids {
        gone(pid).await;
    }
    none_with("sleep 7402").await;
}

#[tokio::test]
async fn what_ignores_signals_and_leaves_its_input_unread_ends_too() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let text = format!("trap '' TERM HUP INT PIPE; {}", endless(&sshd, 7403));
    let running = tokio::spawn(async move { session.exec(command(&text).stdin(vec![b'x'; 60_000])).await });
    let pids = both(&sshd).await;
    running.abort();
    for pid in pids {
        gone(pid).await;
    }
    none_with("sleep 7403").await;
}

#[tokio::test]
async fn what_leaves_a_large_input_unread_ends_by_the_hosts_own_clock_at_the_latest() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let command = Command::new(endless(&sshd, 7409), Duration::from_secs(1)).stdin(vec![b'x'; 1_000_000]);
    let running = tokio::spawn(async move { session.exec(command).await });
    let pids = both(&sshd).await;
    sshd.cut();
    assert!(running.await.unwrap().is_err());
    for pid in pids {
        gone(pid).await;
    }
    none_with("sleep 7409").await;
}

#[tokio::test]
async fn a_connection_that_is_cut_ends_the_command_and_says_so() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let text = endless(&sshd, 7404);
    let running = tokio::spawn(async move { (session.exec(command(&text)).await, session) });
    let pids = both(&sshd).await;
    sshd.cut();
    let (outcome, session) = running.await.unwrap();
    let error = outcome.unwrap_err();
    assert!(error.is_cut(), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{} was cut: ", sshd.port)), "{error}");
    for pid in pids {
        gone(pid).await;
    }
    none_with("sleep 7404").await;
    eventually(LONG, "the session to know", async || session.is_closed()).await;
    assert!(session.exec(command("true")).await.unwrap_err().is_cut());
}

#[tokio::test]
async fn a_host_that_knows_no_signals_still_ends_the_command() {
    // sshd refuses signals to forced commands.
    let sshd = Sshd::with("ForceCommand eval \"$SSH_ORIGINAL_COMMAND\"").await;
    let session = sshd.connect().await;
    let running = tokio::spawn({
        let text = endless(&sshd, 7405);
        async move { session.exec(command(&text)).await }
    });
    let pids = both(&sshd).await;
    running.abort();
    for pid in pids {
        gone(pid).await;
    }
    none_with("sleep 7405").await;
}

#[tokio::test]
async fn what_a_command_leaves_in_its_group_ends_with_it() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let started = Instant::now();
    let output = session.exec(command("sleep 7406 & echo done")).await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(started.elapsed() < LONG);
    none_with("sleep 7406").await;
}

#[tokio::test]
async fn a_daemon_that_holds_the_output_open_keeps_nobody() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let text = format!("setsid sh -c 'echo $$ > {}; exec sleep 7407' & sleep 0.5; echo up", sshd.path("pid").display());
    let output = session.exec(command(&text)).await.unwrap();
    assert!(output.success());
    assert_eq!(output.stdout, b"up\n");
    let pid = pid_in(&sshd.path("pid")).await;
    crate::rig::signal(pid, "KILL");
    gone(pid).await;
}

#[tokio::test]
async fn a_silent_host_is_given_up_after_its_keep_alives() {
    let sshd = Sshd::start().await;
    let options = Options { keep_alive: Duration::from_millis(200), unanswered: 2, channels: 8 };
    let session = Session::connect(&sshd.target(), &sshd.key, &sshd.host_keys(), &options, LONG).await.unwrap();
    let text = endless(&sshd, 7408);
    let running = tokio::spawn(async move { (session.exec(command(&text)).await, session) });
    let pids = both(&sshd).await;
    sshd.signal("STOP");
    let (outcome, session) = running.await.unwrap();
    let error = outcome.unwrap_err();
    assert!(error.to_string().ends_with("the host no longer answers"), "{error}");
    assert!(session.is_closed());
    sshd.signal("CONT");
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn keep_alives_keep_an_idle_connection() {
    let sshd = Sshd::start().await;
    let options = Options { keep_alive: Duration::from_millis(50), unanswered: 2, channels: 8 };
    let session = Session::connect(&sshd.target(), &sshd.key, &sshd.host_keys(), &options, LONG).await.unwrap();
    // Many times the keep-alives that may go unanswered.
    assert!(session.exec(command("sleep 1")).await.unwrap().success());
    assert!(!session.is_closed());
}
