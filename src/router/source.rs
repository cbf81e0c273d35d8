//! Follows the file of the routing table: a new one is checked before it is taken, and the last good one is kept.
//!
//! The file is looked at every 20 ms, from a thread of its own: one `stat`, where each visit costs more. Being told by the
//! kernel instead (inotify) would cost a library and three more cases: a directory that is replaced, a file that is not
//! there yet, a lost event.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use crate::host::table::Table;

/// How often the file is looked at.
pub const INTERVAL: Duration = Duration::from_millis(20);
/// The largest file that is read: over a hundred thousand names.
const MAX_BYTES: u64 = 32 << 20;

/// The table that is served, with its hash.
#[derive(Debug)]
pub struct Served {
    /// The table.
    pub table: Table,
    /// [`Table::hash`].
    pub hash: String,
}

/// What a router knows of its table. Cheap to clone: clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    state: Arc<RwLock<State>>,
}

/// What is served, and what is wrong with the file.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The last good table; `None` if there was none yet.
    pub served: Option<Arc<Served>>,
    /// Why the file as it is now is not what is served.
    pub refused: Option<String>,
}

impl Tables {
    /// What is served now.
    #[must_use]
    pub fn served(&self) -> Option<Arc<Served>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).served.clone()
    }

    /// What is served now, and what is wrong with the file.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// One file, as no other: a file that took its place by a rename differs, even if it is as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Follows one file.
#[derive(Debug)]
pub struct Source {
    file: PathBuf,
    tables: Tables,
    metrics: Metrics,
    /// The file that was last read, taken or not; or the words in which it could not be.
    last: Option<Result<Stamp, String>>,
}

impl Source {
    /// Of this file, which was not looked at yet.
    #[must_use]
    pub fn new(file: PathBuf, tables: Tables, metrics: Metrics) -> Self {
        Self { file, tables, metrics, last: None }
    }

    /// Looks at the file now, and from then on for ever, in a thread of its own.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn follow(mut self) -> io::Result<()> {
        self.look();
        let follow = move || {
            loop {
                thread::sleep(INTERVAL);
                self.look();
            }
        };
        thread::Builder::new().name("table".to_owned()).spawn(follow).map(drop)
    }

    /// Looks at the file, and takes it if it is another than before and good.
    pub fn look(&mut self) {
        let found = std::fs::metadata(&self.file).map(|metadata| Stamp::of(&metadata)).map_err(|e| e.to_string());
        if self.last.as_ref() == Some(&found) {
            return;
        }
        let started = Instant::now();
        let (seen, table) = self.read();
        match table {
            Ok(table) => {
                let served = Served { hash: table.hash(), table };
                let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(hash = served.hash, hosts = served.table.len(), milliseconds, "a table was taken");
                self.metrics.taken(served.table.len());
                self.tables.set(|state| *state = State { served: Some(Arc::new(served)), refused: None });
            }
            Err(problem) => {
                let problem = format!("{}: {problem}", self.file.display());
                let keeps = self.tables.served().map(|served| served.hash.clone());
                tracing::error!(problem, keeps, "the table was not taken, the last good one is kept");
                self.metrics.refused();
                self.tables.set(|state| state.refused = Some(problem));
            }
        }
        self.last = Some(seen);
    }

    /// What the file is, taken before its content: if it changes while it is read, it is read again.
    fn read(&self) -> (Result<Stamp, String>, Result<Table, String>) {
        let opened = File::open(&self.file).and_then(|file| Ok((Stamp::of(&file.metadata()?), file)));
        let (stamp, file) = match opened {
            Ok(opened) => opened,
            Err(error) => return (Err(error.to_string()), Err(error.to_string())),
        };
        let mut bytes = Vec::new();
        let table = match file.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
            Err(error) => Err(error.to_string()),
            Ok(_) if bytes.len() as u64 > MAX_BYTES => Err(format!("it is larger than {} MiB", MAX_BYTES >> 20)),
            Ok(_) => Table::parse(&bytes).map_err(|error| error.to_string()),
        };
        (Ok(stamp), table)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::host::table::{Node, Route};

    fn table(host: &str) -> Table {
        let node = Node { nonce: "0123456789abcdef".into(), health_path: "/".into() };
        Table::new(node, [(host, Route::Maintenance)]).unwrap()
    }

    fn replace(file: &Path, text: &str) {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    #[test]
    fn the_last_good_table_is_kept_until_there_is_a_better_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("table.json");
        let tables = Tables::default();
        let mut source = Source::new(file.clone(), tables.clone(), Metrics::register(&mut Registry::default()));
        let hash = || tables.served().map(|served| served.hash.clone());
        let refused = || tables.state().refused.unwrap_or_default();

        source.look();
        assert_eq!(hash(), None);
        assert!(refused().contains("table.json: No such file"), "{}", refused());

        replace(&file, &table("a.example").json());
        source.look();
        assert_eq!((hash(), refused()), (Some(table("a.example").hash()), String::new()));

        replace(&file, "{\"version\":1,");
        source.look();
        assert_eq!(hash(), Some(table("a.example").hash()));
        assert!(refused().contains("the table is no JSON"), "{}", refused());

        std::fs::remove_file(&file).unwrap();
        source.look();
        assert_eq!(hash(), Some(table("a.example").hash()));
        assert!(refused().contains("No such file"), "{}", refused());

        // As long as the first one: only the file is another.
        replace(&file, &table("b.example").json());
        source.look();
        assert_eq!((hash(), refused()), (Some(table("b.example").hash()), String::new()));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("table.json");
        File::create(&file).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let tables = Tables::default();
        Source::new(file, tables.clone(), Metrics::register(&mut Registry::default())).look();
        assert!(tables.state().refused.unwrap().contains("larger than 32 MiB"));
    }
}
