//! Commands: their input, their two outputs apart, how they ended, and that they end with us.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::session::{Link, Opened, Session, Wanted};
use super::wrap::{DOT, wrap};
use super::{Error, quote};

/// The most standard output that is taken unless the command says otherwise.
const STDOUT: usize = 1 << 20;
/// How much of standard error's end is kept unless the command says otherwise.
const STDERR: usize = 64 << 10;
/// The longest line that is handed on; the rest of it is left out.
const LINE: usize = 64 << 10;
/// How long after the command's end its output may stay silent without ending: a daemon it started may hold it open.
const LINGERING: Duration = Duration::from_secs(2);
/// How long a killed command may take to be gone before its channel is closed without knowing.
const DYING: Duration = Duration::from_secs(5);
/// What SSH calls the data of standard error.
const EXTENDED_STDERR: u32 = 1;

/// A command for the host's shell. What it leaves running in its process group ends with it; a daemon needs `setsid`.
#[derive(Clone)]
pub struct Command {
    text: String,
    stdin: Bytes,
    limit: Duration,
    stdout_cap: usize,
    stderr_cap: usize,
    as_root: bool,
}

impl Command {
    /// `text` as the shell takes it, to be over after `limit`. It is visible to every user of the host.
    #[must_use]
    pub fn new(text: impl Into<String>, limit: Duration) -> Self {
        Self { text: text.into(), stdin: Bytes::new(), limit, stdout_cap: STDOUT, stderr_cap: STDERR, as_root: false }
    }

    /// The program and its arguments, each one word whatever it holds.
    #[must_use]
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>, limit: Duration) -> Self {
        Self::new(words.into_iter().map(quote).collect::<Vec<_>>().join(" "), limit)
    }

    /// The whole standard input: the place for secrets. The command gets all of it, or is killed.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Bytes>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// The most bytes of standard output that are taken: a command that writes more is killed.
    #[must_use]
    pub fn stdout_cap(mut self, bytes: usize) -> Self {
        self.stdout_cap = bytes;
        self
    }

    /// How many bytes of the end of standard error are kept.
    #[must_use]
    pub fn stderr_cap(mut self, bytes: usize) -> Self {
        self.stderr_cap = bytes;
        self
    }

    /// Runs as root: through `sudo` without a password where the user is another.
    #[must_use]
    pub fn as_root(mut self) -> Self {
        self.as_root = true;
        self
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({:?}, {} bytes of input, {:?})", self.text, self.stdin.len(), self.limit)
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status. A shell gives 128 and its number for what a signal ended.
    Status(u32),
    /// By this signal, which ended the shell around it too.
    Signal(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// What a command that ended by itself left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its whole standard output, unless that was handed on line by line.
    pub stdout: Vec<u8>,
    /// Its standard error, or the end of it.
    pub stderr: Vec<u8>,
    /// Whether the beginning of standard error was left out.
    pub stderr_cut: bool,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit == Exit::Status(0)
    }

    /// Itself if it ended with status 0, else an error that says `what` failed, how, and the end of standard error.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn checked(self, what: &str) -> Result<Self, Error> {
        if self.success() {
            return Ok(self);
        }
        let stderr = String::from_utf8_lossy(&self.stderr);
        let tail = stderr.trim_end().char_indices().rev().nth(1999).map_or(0, |(at, _)| at);
        let stderr = stderr.trim_end()[tail..].to_owned();
        Err(Error::Failed { what: what.to_owned(), exit: self.exit, stderr })
    }
}

/// Who gets the lines of standard output.
type OnLine = Box<dyn FnMut(String) + Send>;

impl Session {
    /// Runs a command to its end. A failing one is no error here: see [`Output::checked`].
    ///
    /// Dropping this future, or its time limit, kills the command on the host.
    ///
    /// # Errors
    /// If the command could not be started or did not end by itself.
    pub async fn exec(&self, command: Command) -> Result<Output, Error> {
        self.run(command, Sink::default()).await
    }

    /// As [`Session::exec`], handing on each line of standard output as it comes, without its end. Nothing of it is
    /// kept, and no cap holds but that of a line (64 KiB, the rest is left out). `on_line` must not block.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub async fn exec_lines(
        &self,
        command: Command,
        on_line: impl FnMut(String) + Send + 'static,
    ) -> Result<Output, Error> {
        self.run(command, Sink { on_line: Some(Box::new(on_line)), ..Sink::default() }).await
    }

    async fn run(&self, command: Command, sink: Sink) -> Result<Output, Error> {
        if command.text.contains('\0') {
            return Err(Error::Invalid(format!("{command:?} cannot be run: it holds a NUL")));
        }
        let (reply, output) = oneshot::channel();
        tokio::spawn(attend(Arc::clone(&self.link), command, sink, reply));
        output.await.unwrap_or_else(|_| Err(self.link.cut()))
    }
}

/// Runs the command for as long as somebody awaits the reply, then sees to its end.
async fn attend(link: Arc<Link>, command: Command, sink: Sink, mut reply: oneshot::Sender<Result<Output, Error>>) {
    let deadline = Instant::now() + command.limit;
    let late = || Error::TimedOut { what: format!("a command at {}", link.server), limit: command.limit };
    let opened = tokio::select! {
        () = reply.closed() => return,
        opened = timeout_at(deadline, link.open(Wanted::Command)) => opened.unwrap_or_else(|_| Err(late())),
    };
    let Opened { channel, permit } = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = reply.send(Err(error));
            return;
        }
    };
    let (mut read, write) = channel.split();
    let outcome = tokio::select! {
        () = reply.closed() => None,
        outcome = timeout_at(deadline, talk(&link, &command, sink, &mut read, &write)) => {
            Some(outcome.unwrap_or_else(|_| Err(late())))
        }
    };
    let ended = matches!(outcome, Some(Ok(_)));
    if let Some(outcome) = outcome {
        let _ = reply.send(outcome);
    }
    if !ended {
        kill(&mut read, &write).await;
    }
    // Only now may another take its place: until its process is gone the command counts for sshd's `MaxSessions`.
    drop(permit);
}

/// Sends the command and its input and takes its output, until it has ended.
async fn talk(
    link: &Link,
    command: &Command,
    mut sink: Sink,
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
) -> Result<Output, Error> {
    let sudo = command.as_root && link.is_unprivileged();
    let text = wrap(&command.text, command.stdin.len(), command.limit, sudo);
    write.exec(true, text).await.map_err(|_| link.cut())?;
    let feed = async {
        // What fails here shows as the end of the output. The input stays open: its end would kill the command.
        if write.data_bytes(command.stdin.clone()).await.is_ok() {
            let _ = write.data_bytes(DOT).await;
        }
        std::future::pending::<()>().await;
    };
    let mut feed = std::pin::pin!(feed);
    let mut exit = None;
    loop {
        let next = async {
            match exit {
                None => read.wait().await,
                Some(_) => timeout(LINGERING, read.wait()).await.unwrap_or(None),
            }
        };
        let message = tokio::select! {
            () = &mut feed => None,
            message = next => message,
        };
        match message {
            Some(ChannelMsg::Data { data }) => sink.stdout(command, &data)?,
            Some(ChannelMsg::ExtendedData { data, ext: EXTENDED_STDERR }) => sink.stderr(command, &data),
            Some(ChannelMsg::ExitStatus { exit_status }) => exit = Some(Exit::Status(exit_status)),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => exit = Some(Exit::Signal(name(signal_name))),
            Some(ChannelMsg::Failure) => {
                let reason = "it runs no commands for this user and key".to_owned();
                return Err(Error::ChannelRefused {
                    server: link.server.clone(),
                    what: "a command".to_owned(),
                    reason,
                });
            }
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    let Some(exit) = exit else { return Err(link.cut()) };
    // Answers a close of the host's, and is the close where a daemon held the output open.
    let _ = write.close().await;
    sink.finish();
    Ok(Output { exit, stdout: sink.stdout, stderr: sink.stderr.into(), stderr_cut: sink.stderr_cut })
}

/// Ends the command on the host: by a signal to its process group, and by the end of its input for where a host refuses
/// signals or they are not enough.
async fn kill(read: &mut ChannelReadHalf, write: &ChannelWriteHalf<Msg>) {
    let dying = async {
        let _ = write.signal(Sig::KILL).await;
        let _ = write.eof().await;
        while let Some(message) = read.wait().await {
            if matches!(message, ChannelMsg::Close) {
                return;
            }
        }
    };
    if timeout(DYING, dying).await.is_err() {
        let _ = timeout(DYING, write.close()).await;
    }
}

fn name(signal: Sig) -> String {
    match signal {
        Sig::Custom(name) => name,
        signal => format!("{signal:?}"),
    }
}

/// Where output goes.
#[derive(Default)]
struct Sink {
    stdout: Vec<u8>,
    stderr: std::collections::VecDeque<u8>,
    stderr_cut: bool,
    on_line: Option<OnLine>,
}

impl Sink {
    fn stdout(&mut self, command: &Command, data: &[u8]) -> Result<(), Error> {
        let Some(on_line) = &mut self.on_line else {
            if self.stdout.len() + data.len() > command.stdout_cap {
                return Err(Error::TooLarge { what: "a command".to_owned(), cap: command.stdout_cap });
            }
            self.stdout.extend_from_slice(data);
            return Ok(());
        };
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = LINE.saturating_sub(self.stdout.len());
            self.stdout.extend_from_slice(&text[..text.len().min(room)]);
            if whole {
                on_line(String::from_utf8_lossy(&std::mem::take(&mut self.stdout)).into_owned());
            }
        }
        Ok(())
    }

    fn stderr(&mut self, command: &Command, data: &[u8]) {
        self.stderr.extend(data);
        let excess = self.stderr.len().saturating_sub(command.stderr_cap);
        self.stderr_cut |= excess > 0;
        self.stderr.drain(..excess);
    }

    /// Hands on a last line without an end.
    fn finish(&mut self) {
        if let Some(on_line) = &mut self.on_line
            && !self.stdout.is_empty()
        {
            on_line(String::from_utf8_lossy(&std::mem::take(&mut self.stdout)).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_a_command_is_fed_is_never_shown() {
        let command = Command::of(["docker", "login", "it's"], Duration::from_secs(1)).stdin("hunter2");
        let shown = format!("{command:?}");
        assert!(!shown.contains("hunter2") && shown.contains("7 bytes"), "{shown}");
        assert_eq!(command.text, r"'docker' 'login' 'it'\''s'");
    }

    #[test]
    fn lines_are_whole_however_they_arrive_and_a_long_one_is_cut() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let on_line = {
            let seen = Arc::clone(&seen);
            move |line| seen.lock().unwrap().push(line)
        };
        let mut sink = Sink { on_line: Some(Box::new(on_line)), ..Sink::default() };
        let command = Command::new("x", Duration::from_secs(1)).stdout_cap(3);
        let long = "x".repeat(LINE + 5);
        for data in ["on", "e\n\ntw", "o\n", &long, "\nend"] {
            sink.stdout(&command, data.as_bytes()).unwrap();
        }
        sink.finish();
        assert_eq!(*seen.lock().unwrap(), ["one", "", "two", &"x".repeat(LINE), "end"]);
    }

    #[test]
    fn the_end_of_standard_error_is_what_is_kept() {
        let mut sink = Sink::default();
        let command = Command::new("x", Duration::from_secs(1)).stderr_cap(4);
        sink.stderr(&command, b"ab");
        assert!(!sink.stderr_cut);
        sink.stderr(&command, b"cdefg");
        assert_eq!(Vec::from(sink.stderr), b"defg");
        assert!(sink.stderr_cut);
    }

    #[test]
    fn a_failure_says_what_failed_how_and_the_end_of_standard_error() {
        let output = |exit, stderr: &str| Output { exit, stdout: vec![], stderr: stderr.into(), stderr_cut: false };
        assert!(output(Exit::Status(0), "warning").checked("x").is_ok());
        let error = output(Exit::Status(3), &format!("{}ü no space left\n", "é".repeat(3000))).checked("writing /a");
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("writing /a failed (status 3): é"), "{error}");
        assert!(error.ends_with("éü no space left") && error.chars().count() < 2100, "{error}");
        assert!(
            output(Exit::Signal("KILL".to_owned()), "").checked("x").unwrap_err().to_string().contains("signal KILL")
        );
    }
}
