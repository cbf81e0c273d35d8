//! The shell text around a command, which sees to it that the command ends when we do.
//!
//! OpenSSH does not end a command whose channel or connection is gone; it closes the command's standard input, which
//! most commands never notice. So each runs beside two watchers, in the process group that sshd gave it:
//!
//! * a clock, which kills the group a little after our own time limit;
//! * the feeder, which passes on the promised number of bytes of standard input and then goes on reading. We never close
//!   that input while the command is wanted: its end means that nobody waits any more, and the feeder kills the group.
//!   (sshd closes it too when the command has ended, so whatever the command left running in its group ends then.)
//!
//! The promised bytes are followed by a dot. Where it is missing the input was cut, and the group is killed before the
//! command could take a part for the whole.
//!
//! A command that leaves more of its input unread than a pipe holds (64 KiB) blocks the feeder. Giving it up kills the
//! group at once where sshd passes on signals, which it does not for root; else the clock does.

use std::time::Duration;

/// What follows the promised bytes.
pub(super) const DOT: &[u8] = b".";
/// How much later than ours the host's own time limit is. Ours tells the caller; this one is for when we are gone.
const GRACE: Duration = Duration::from_secs(2);

/// `$1` seconds, `$2` bytes of input, `$3` the command. Only what is in Debian's essential packages is used.
const SCRIPT: &str = r#"{ sleep "$1"; kill -KILL 0; } </dev/null >/dev/null 2>&1 &
{ { head -c "$2" <&3 && { [ "$(head -c 1 <&3)" = . ] || kill -KILL 0; }; exec >/dev/null; cat <&3; kill -KILL 0; } \
  2>/dev/null & } 3<&0 | sh -c "$3""#;

/// The text that sshd is asked to run for `command`, as root through sudo if `sudo`.
pub(super) fn wrap(command: &str, input: usize, limit: Duration, sudo: bool) -> String {
    let clock = limit.saturating_add(GRACE).as_millis().div_ceil(1000);
    // The whole of it: an unprivileged watcher could not kill what sudo runs.
    let sudo = if sudo { "sudo -n -- " } else { "" };
    format!("exec {sudo}sh -c {} sh {clock} {input} {}", quote(SCRIPT), quote(command))
}

/// `text` as one word of a shell's command line, whatever it holds.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Output, Stdio};
    use std::time::Instant;

    use super::*;

    /// Runs the text as sshd would: leading a process group, with `input` as its standard input, which ends after it.
    fn run(command: &str, promised: usize, input: &[u8]) -> Output {
        let text = wrap(command, promised, Duration::from_secs(20), false);
        let mut child = Command::new("setsid")
            .args(["-w", "sh", "-c", &text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    #[test]
    fn a_word_stays_one_word() {
        for text in ["", "a b", "it's", "$(reboot)", "`x`", "\"", "\\", "a\nb", "*", "-n", "ü"] {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", quote(text))]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn sudo_runs_the_watchers_too() {
        let text = wrap("id", 0, Duration::from_millis(1500), true);
        assert!(text.starts_with("exec sudo -n -- sh -c '{ sleep "), "{text}");
        assert!(text.ends_with(" sh 4 0 'id'"), "{text}");
    }

    #[test]
    fn the_end_of_standard_input_ends_the_command() {
        let started = Instant::now();
        let output = run("sleep 19", 0, b".");
        assert!(!output.status.success());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_cut_input_is_never_taken_for_a_whole_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let command = format!("cat >/dev/null; echo whole > {}", quote(file.path().to_str().unwrap()));
        for input in [&b""[..], b"hel", b"hello"] {
            assert!(!run(&command, 5, input).status.success());
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "");
        }
    }
}
