//! One action on a host, and what became of it.

use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

use crate::host::deploy::commands::{self, Place};
use crate::host::deploy::conclude::Outcome;
use crate::host::deploy::failure::{Fault, Phase};
use crate::host::deploy::log::{cut, mask, printable, tail};
use crate::host::deploy::{Action, Wanted};
use crate::host::ssh::{Command, Error, Exit, Output, Session, quote};

/// How much of each container's last lines is read.
const LINES: usize = 64 << 10;
/// The longest line of progress.
const WIDTH: usize = 200;
/// How many of the last lines of a failed command are said.
const SAID: usize = 4;
/// What `kill -9` leaves as the status of a shell's command.
const KILLED: u32 = 137;

/// Takes one action: all but [`Action::Route`], which is the caller's, under its lock on the host's table. Of a pull the
/// lines of its progress are handed on as they come. `secrets` are masked in whatever is said.
pub async fn act(
    session: &Session,
    place: &Place,
    wanted: Option<&Wanted>,
    action: &Action,
    secrets: &[String],
    on_progress: impl Fn(String) + Send + Sync,
) -> Outcome {
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    if let Action::Logs(ids) = action {
        return logs(session, ids, &secrets).await;
    }
    for command in commands::of(action, place, wanted) {
        let progress = matches!(action, Action::Pull(_)).then_some(&on_progress);
        let done = match progress {
            Some(on_progress) => aloud(session, &command, |line| on_progress(mask(line, &secrets))).await,
            None => quietly(session, &command).await,
        };
        match done {
            Ok(output) if output.success() || is_gone(action, &said(&output)) => {}
            Ok(output) => match failed(action, &output, &secrets) {
                Some(fault) => return Outcome::Failed(fault),
                None => return Outcome::Unknown("the command on the host was killed".to_owned()),
            },
            Err(error) => return Outcome::Unknown(mask(&error.to_string(), &secrets)),
        }
    }
    Outcome::Done
}

fn ssh(text: String, command: &commands::Command) -> Command {
    Command::new(text, command.limit).stdin(command.stdin.clone()).as_root()
}

fn text(command: &commands::Command) -> String {
    command.words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

async fn quietly(session: &Session, command: &commands::Command) -> Result<Output, Error> {
    session.exec(ssh(text(command), command)).await
}

/// Runs a command whose both outputs are handed on line by line, and kept as the end of standard error.
async fn aloud(
    session: &Session,
    command: &commands::Command,
    on_line: impl Fn(&str) + Send + Sync,
) -> Result<Output, Error> {
    let (sender, mut lines) = unbounded_channel();
    let run = session.exec_lines(ssh(format!("{} 2>&1", text(command)), command), move |line| {
        let _ = sender.send(line);
    });
    let mut last: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let mut take = |line: String| {
        let line = printable(&line);
        if !line.trim().is_empty() {
            on_line(&cut(line.trim(), WIDTH));
        }
        last.push_back(line);
        if last.len() > 100 {
            last.pop_front();
        }
    };
    let mut run = std::pin::pin!(run);
    let output = loop {
        tokio::select! {
            Some(line) = lines.recv() => take(line),
            output = &mut run => break output?,
        }
    };
    while let Ok(line) = lines.try_recv() {
        take(line);
    }
    let stderr = last.into_iter().collect::<Vec<_>>().join("\n").into_bytes();
    Ok(Output { stderr, ..output })
}

/// The last lines of containers. Of one that is gone there are none.
async fn logs(session: &Session, ids: &[String], secrets: &[&str]) -> Outcome {
    let of = |id: &String| format!("docker logs --tail 40 {} 2>&1 | tail -c {LINES}", quote(id));
    let text = ids.iter().map(of).collect::<Vec<_>>().join("; ");
    let cap = LINES * ids.len().max(1) + 1024;
    let command = Command::new(text, Duration::from_secs(60)).stdout_cap(cap).as_root();
    match session.exec(command).await {
        Ok(output) => Outcome::Lines(tail(&String::from_utf8_lossy(&output.stdout), secrets)),
        Err(error) => Outcome::Unknown(mask(&error.to_string(), secrets)),
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether an action that takes something away failed only because it is gone.
fn is_gone(action: &Action, said: &str) -> bool {
    let takes = matches!(
        action,
        Action::Stop { .. } | Action::Remove(_) | Action::RemoveNetwork(_) | Action::DisconnectProxy(_)
    );
    let gone = |line: &str| {
        let line = line.to_ascii_lowercase();
        ["no such container", "no such network", "is already in progress", "is not connected to"]
            .iter()
            .any(|words| line.contains(words))
            || (line.contains("network ") && line.contains(" not found"))
    };
    let mut lines = said.lines().filter(|line| !line.trim().is_empty()).peekable();
    takes && lines.peek().is_some() && lines.all(gone)
}

/// What a failed command means; `None` if somebody killed it, so that nobody knows what it did.
fn failed(action: &Action, output: &Output, secrets: &[&str]) -> Option<Fault> {
    if matches!(output.exit, Exit::Signal(_)) || output.exit == Exit::Status(KILLED) {
        return None;
    }
    let phase = match action {
        Action::Pull(_) => Phase::Pull,
        Action::CreateNetwork(_) | Action::ConnectProxy(_) | Action::DisconnectProxy(_) | Action::RemoveNetwork(_) => {
            Phase::Networks
        }
        Action::Service { .. } => Phase::BeforeSwap,
        Action::PreDeploy { .. } => Phase::PreDeploy,
        Action::Route(_) => Phase::Swap,
        _ => Phase::Start,
    };
    let said = mask(&essence(&said(output)), secrets);
    let said = if said.is_empty() { format!("the command ended with {}", output.exit) } else { said };
    Some(Fault::of_docker(phase, &said))
}

/// What a failed command complained of: its last lines, without those that tell of its progress.
fn essence(said: &str) -> String {
    let said = printable(said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty() && !is_progress(line)).collect();
    lines[lines.len().saturating_sub(SAID)..].join("\n")
}

/// Whether a line is Compose's progress, such as ` Container shop-web-1  Creating` or `web Pulling`, or a warning.
fn is_progress(line: &str) -> bool {
    const DOING: [&str; 24] = [
        "Pulling",
        "Pulled",
        "Waiting",
        "Downloading",
        "Verifying",
        "Extracting",
        "Creating",
        "Created",
        "Starting",
        "Started",
        "Recreate",
        "Recreated",
        "Recreating",
        "Running",
        "Stopping",
        "Stopped",
        "Removing",
        "Removed",
        "Healthy",
        "Exited",
        "Interrupted",
        "Skipped",
        "Building",
        "Built",
    ];
    let words: Vec<&str> = line.split_whitespace().collect();
    let doing = |word: &&str| DOING.contains(word);
    let layer = |word: &&str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    line.contains("level=warning")
        || words.first().is_some_and(layer)
        || words.get(1).is_some_and(doing)
        || (words.first().is_some_and(|word| ["Container", "Network", "Volume", "Image"].contains(word))
            && words.get(2).is_some_and(doing))
}

#[cfg(test)]
#[path = "act_tests.rs"]
mod tests;
