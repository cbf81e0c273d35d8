//! Commands that end by themselves.

use std::sync::{Arc, Mutex};

use roadstead::host::ssh::{Command, Error, Exit};

use crate::rig::{LONG, Sshd, command, none_with};

#[tokio::test]
async fn a_command_gives_its_status_and_its_two_outputs_apart() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let output = session.exec(command("echo out; echo err >&2; exit 42")).await.unwrap();
    assert_eq!(output.exit, Exit::Status(42));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert!(!output.success() && !output.stderr_cut);
    let error = output.checked("counting").unwrap_err();
    assert_eq!(error.to_string(), "counting failed (status 42): err");
    assert!(session.exec(command("true")).await.unwrap().success());
    assert_eq!(session.exec(command("no-such-program")).await.unwrap().exit, Exit::Status(127));
}

#[tokio::test]
async fn a_signal_that_ends_a_command_shows_as_a_shell_shows_it() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let output = session.exec(command("sh -c 'kill -TERM $$'")).await.unwrap();
    assert_eq!(output.exit, Exit::Status(128 + 15));
    let output = session.exec(command("kill -KILL 0")).await.unwrap();
    assert_eq!(output.exit, Exit::Signal("KILL".to_owned()));
}

#[tokio::test]
async fn standard_input_arrives_byte_by_byte_and_ends() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let every: Vec<u8> = (0..=255).cycle().take(5_000_000).collect();
    for input in [Vec::new(), b".".to_vec(), b"no line end".to_vec(), vec![0, 255, 10, 13, 4, 3], every] {
        let length = input.len();
        let echo = command("cat").stdin(input.clone()).stdout_cap(length);
        assert!(session.exec(echo).await.unwrap().stdout == input, "{length} bytes did not come back");
    }
}

#[tokio::test]
async fn a_command_may_leave_its_input_unread() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let output = session.exec(command("head -c 3").stdin(vec![b'x'; 5_000_000])).await.unwrap();
    assert_eq!((output.exit, output.stdout), (Exit::Status(0), b"xxx".to_vec()));
    assert_eq!(session.exec(command("exit 7").stdin(vec![b'x'; 5_000_000])).await.unwrap().exit, Exit::Status(7));
}

#[tokio::test]
async fn ten_megabytes_come_whole() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let text = "head -c 10000000 /dev/zero | tr '\\0' x; echo end >&2";
    let output = session.exec(command(text).stdout_cap(10_000_000)).await.unwrap();
    assert!(output.success());
    assert_eq!(output.stdout.len(), 10_000_000);
    assert!(output.stdout.iter().all(|byte| *byte == b'x'));
    assert_eq!(output.stderr, b"end\n");
}

#[tokio::test]
async fn a_command_that_writes_more_than_its_cap_is_killed() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    // What it waits for never comes; `yes` goes on for ever.
    let error = session.exec(command("yes cap-7391; sleep 7391").stdout_cap(1_000_000)).await.unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "a command".to_owned(), cap: 1_000_000 });
    none_with("cap-7391").await;
    assert!(session.exec(command("true")).await.unwrap().success());
}

#[tokio::test]
async fn of_too_much_standard_error_the_end_is_kept() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let text = "{ head -c 3000000 /dev/zero | tr '\\0' x; echo the end; } >&2";
    let output = session.exec(command(text).stderr_cap(1000)).await.unwrap();
    assert!(output.success() && output.stderr_cut);
    assert_eq!(output.stderr.len(), 1000);
    assert!(output.stderr.ends_with(b"xthe end\n"));
}

#[tokio::test]
async fn lines_come_while_the_command_runs() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let go = sshd.path("go");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let text = format!("echo one; until [ -e {} ]; do sleep 0.05; done; echo two; printf three", go.display());
    // The command goes on only when its first line has been seen.
    let on_line = {
        let lines = Arc::clone(&lines);
        move |line: String| {
            if line == "one" {
                std::fs::write(&go, "").unwrap();
            }
            lines.lock().unwrap().push(line);
        }
    };
    let output = session.exec_lines(command(&text), on_line).await.unwrap();
    assert!(output.success() && output.stdout.is_empty());
    assert_eq!(*lines.lock().unwrap(), ["one", "two", "three"]);
}

#[tokio::test]
async fn words_stay_words_and_the_shell_is_the_users() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let words = ["printf", "%s|", "a b", "it's", "\"", "$HOME", "`id`", "\\", "new\nline", "*", ""];
    let output = session.exec(Command::of(words, LONG)).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b|it's|\"|$HOME|`id`|\\|new\nline|*||");
    // sshd would end the whole connection.
    assert!(matches!(session.exec(command("echo \0")).await.unwrap_err(), Error::Invalid(_)));
    assert!(matches!(session.unix("/a\0b", LONG).await.unwrap_err(), Error::Invalid(_)));
    let output = session.exec(command("id -un")).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), crate::rig::user());
}

#[tokio::test]
async fn many_commands_run_at_once_and_more_than_the_host_permits_wait() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let all = (0..20).map(|number| session.exec(command(&format!("sleep 0.1; echo {number}"))));
    for (number, output) in futures::future::join_all(all).await.into_iter().enumerate() {
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), format!("{number}\n"));
    }
    assert!(!sshd.log().contains("no more sessions"), "{}", sshd.log());
}

#[tokio::test]
async fn a_host_that_permits_fewer_sessions_is_named() {
    let sshd = Sshd::with("MaxSessions 1").await;
    let session = sshd.connect().await;
    let path = sshd.path("pid");
    let held = session.exec(command(&format!("echo $$ > {}; sleep 7392", path.display())));
    let mut held = Box::pin(held);
    let pid = tokio::select! {
        pid = crate::rig::pid_in(&path) => pid,
        output = &mut held => panic!("ended: {output:?}"),
    };
    let error = session.exec(command("true")).await.unwrap_err();
    assert!(matches!(error, Error::ChannelRefused { .. }), "{error:?}");
    assert!(error.to_string().contains("`MaxSessions`"), "{error}");
    drop(held);
    crate::rig::gone(pid).await;
    // The place is free again as soon as sshd has seen the end of it.
    support::eventually(LONG, "a place", async || session.exec(command("true")).await).await;
}
