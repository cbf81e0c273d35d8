//! Child processes that end with the test process, however that ends, and small things tests need to keep apart.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// The repository's root directory.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The pinned workerd, installed on first use.
#[must_use]
pub fn workerd() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        let installed = Command::new(repository().join("tests/tools/workerd/build.sh")).status().unwrap();
        assert!(installed.success(), "tests/tools/workerd/build.sh failed: {installed}");
        repository().join("target/tools/workerd")
    });
    binary.clone()
}

/// The pinned Caddy, installed on first use.
#[must_use]
pub fn caddy() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        let installed = Command::new(repository().join("tests/tools/caddy/build.sh")).status().unwrap();
        assert!(installed.success(), "tests/tools/caddy/build.sh failed: {installed}");
        repository().join("target/tools/caddy")
    });
    binary.clone()
}

/// A port on loopback that nobody listens on and no other call returns while this process lives, in any test program:
/// between the choice and the listening, another test would sooner or later take it. Outside the range the kernel hands
/// out to others.
#[must_use]
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let directory = repository().join("target/tmp/ports");
    std::fs::create_dir_all(&directory).expect("target/tmp/ports can be made");
    loop {
        let port = fastrand::u16(20_000..32_000);
        let lock = File::create(directory.join(port.to_string())).expect("a file in target/tmp/ports");
        // The lock ends with the process. It comes first: who holds it may listen at any time.
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            TAKEN.lock().expect("no holder panics").push(lock);
            return port;
        }
    }
}

/// `prefix` and a random suffix: a name no other test uses, valid as a DNS label.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", std::iter::repeat_with(fastrand::lowercase).take(6).collect::<String>())
}

/// A program under a small shell supervisor: the kernel closes the supervisor's stdin when this process ends, by
/// whatever means, and the supervisor then kills the program. Dropping it does the same.
#[derive(Debug)]
pub struct Supervised {
    supervisor: Child,
}

impl Supervised {
    /// Runs `script` (which must end at the end of its stdin) with `arguments`, and waits up to `deadline` for its first
    /// line of output.
    ///
    /// # Panics
    /// If the script prints no line in time; its standard error is this process's own.
    #[must_use]
    pub fn start(script: &Path, command: &mut Command, deadline: Duration) -> (Self, String) {
        let mut supervisor = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        let stdout = supervisor.stdout.take().expect("stdout is piped");
        let mut supervised = Self { supervisor };
        let Some(line) = first_line(stdout, deadline) else {
            let ended = supervised.supervisor.try_wait().ok().flatten();
            panic!("{} printed nothing within {deadline:?} ({ended:?})", script.display());
        };
        (supervised, line)
    }

    /// Sends the program a signal by name, for example `KILL` or `TERM`. Nothing happens if it has ended.
    pub fn signal(&mut self, name: &str) {
        if let Some(stdin) = &mut self.supervisor.stdin {
            // A broken pipe means that the program, and with it the supervisor, has ended.
            let _ = writeln!(stdin, "{name}");
        }
    }

    /// The program's exit status once it has ended (128 + signal for a killed one, as shells count), else `None`.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().expect("a child can be waited for")
    }

    /// Waits for the program to end.
    ///
    /// # Panics
    /// If it has not ended by the deadline.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        crate::eventually(deadline, "the process to end", async || self.ended()).await
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && !matches!(self.supervisor.try_wait(), Ok(Some(_)) | Err(_)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn first_line(stdout: ChildStdout, deadline: Duration) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    // Reading cannot be cancelled; the thread ends with the child's output.
    std::thread::spawn(move || {
        let mut line = String::new();
        if BufReader::new(stdout).read_line(&mut line).is_ok_and(|length| length > 0) {
            let _ = sender.send(line.trim_end().to_owned());
        }
    });
    receiver.recv_timeout(deadline).ok()
}

/// The path of a program of the repository's own tool directory or, failing that, of `PATH`.
pub(crate) fn tool(name: &str) -> PathBuf {
    let own = repository().join("target/tools").join(name);
    if own.exists() { own } else { PathBuf::from(name) }
}
