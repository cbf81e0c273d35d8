//! The database: its one table, what is kept in it, and when a file is given up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use super::{Entry, Health, Limits, Recorded, Source};

/// What `user_version` says of a file with our table.
const VERSION: i64 = 1;
const PAGE: u64 = 4096;
/// Rows deleted in one transaction, so that neither the log nor the wait behind it grows.
const CHUNK: i64 = 500;
/// Transactions of deletion in one turn; the rest waits for the next.
const CHUNKS: usize = 40;
/// Entries are deleted until so many hundredths of the file's size are in use.
const FILL: u64 = 90;

const SCHEMA: &str = "
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        group_uid TEXT NOT NULL,
        member TEXT NOT NULL,
        source TEXT NOT NULL,
        health TEXT NOT NULL,
        details TEXT,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX entries_of_a_group ON entries (group_uid);
    PRAGMA user_version = 1;
";

/// An open database, for its one writer.
pub(super) struct Database {
    connection: Connection,
    limits: Limits,
}

impl Database {
    /// Opens or makes the file; checks all of it first, because damage is else found only where it lies.
    pub(super) fn open(path: &Path, limits: Limits) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.pragma_update(None, "page_size", PAGE.cast_signed())?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // A commit does not wait for the disk: after a power cut the last ones may be missing, and nothing is damaged.
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "journal_size_limit", 1 << 20)?;
        let pages = (limits.bytes / PAGE).clamp(1, u64::from(u32::MAX - 1));
        connection.pragma_update(None, "max_page_count", pages.cast_signed())?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 0 {
            // A file of somebody else's has tables already, which makes this fail.
            let schema = connection.transaction()?;
            let tables: i64 = schema.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables > 0 {
                return Err(not_ours());
            }
            schema.execute_batch(SCHEMA)?;
            schema.commit()?;
        } else if version != VERSION {
            return Err(not_ours());
        }
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict == "ok" { Ok(Self { connection, limits }) } else { Err(not_ours()) }
    }

    /// Writes all of them or none.
    pub(super) fn write(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO entries (group_uid, member, source, health, details, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for entry in entries {
                insert.execute(params![
                    entry.group_uid,
                    entry.member,
                    entry.source.as_str(),
                    entry.health.as_str(),
                    entry.details,
                    entry.at.as_millisecond()
                ])?;
            }
        }
        transaction.commit()
    }

    /// Deletes from the oldest on until the file is no fuller than it may be.
    pub(super) fn make_room(&mut self) -> rusqlite::Result<()> {
        let most = (self.limits.bytes / PAGE) * FILL / 100;
        for _ in 0..CHUNKS {
            if self.pages_in_use()? <= most {
                break;
            }
            let chunk = "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?1)";
            if self.connection.execute(chunk, [CHUNK])? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Deletes what is too old. Entries arrive nearly in order, so only the oldest need looking at.
    pub(super) fn forget(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        let age = jiff::SignedDuration::try_from(self.limits.age).unwrap_or(jiff::SignedDuration::MAX);
        let oldest = now.checked_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
        for _ in 0..CHUNKS {
            let chunk = "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?1) AND at < ?2";
            if self.connection.execute(chunk, [CHUNK, oldest])? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn pages_in_use(&self) -> rusqlite::Result<u64> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((pragma("page_count")? - pragma("freelist_count")?).unsigned_abs())
    }
}

/// The newest entries of a group before `before`, newest first. Reads over a connection of its own, which neither waits
/// for the writer nor outlives a file that was moved aside.
pub(super) fn recent(path: &Path, group: &str, limit: u32, before: Option<i64>) -> rusqlite::Result<Vec<Recorded>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let mut select = connection.prepare(
        "SELECT id, group_uid, member, source, health, details, at FROM entries
         WHERE group_uid = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    let rows = select.query_map(params![group, before.unwrap_or(i64::MAX), limit], read)?;
    rows.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let (source, health): (String, String) = (row.get(3)?, row.get(4)?);
    let entry = Entry {
        group_uid: row.get(1)?,
        member: row.get(2)?,
        source: Source::parse(&source).ok_or_else(not_ours)?,
        health: Health::parse(&health).ok_or_else(not_ours)?,
        details: row.get(5)?,
        at: Timestamp::from_millisecond(row.get(6)?).map_err(|_| not_ours())?,
    };
    Ok(Recorded { id: row.get(0)?, entry })
}

/// The error of a file that does not hold what we wrote.
fn not_ours() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB), None)
}

/// Whether the file will never be good again.
pub(super) fn is_lost(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether there is no room.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Moves a lost file out of the way, over the one that was moved before it: damage shall not fill the disk.
pub(super) fn move_aside(path: &Path) -> std::io::Result<PathBuf> {
    let aside = beside(path, ".corrupt");
    std::fs::rename(path, &aside)?;
    for log in ["-wal", "-shm"] {
        match std::fs::remove_file(beside(path, log)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
