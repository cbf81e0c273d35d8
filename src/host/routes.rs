//! The routing table on a host: read whole, written whole.
//!
//! Whoever changes it reads it, changes its own names, and writes it back, alone on that host meanwhile.

use std::time::Duration;

use super::bootstrap::TABLE;
use super::ssh::{self, Command, Session, Upload};
use super::table::Table;

/// What reading or writing may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The largest table that is read: some hundred thousand names.
const LARGEST: usize = 32 << 20;
/// The table's mode: routers run as nobody.
const MODE: u32 = 0o644;

/// The routing table on a host; `None` where there is none, or none that can be read: a router does not take such a one
/// either.
///
/// # Errors
/// If the host cannot be asked: nothing is known of its table then.
pub async fn read(session: &Session) -> Result<Option<Table>, ssh::Error> {
    // As root, so that a mode that somebody changed hides nothing.
    let command = Command::of(["cat", TABLE], LIMIT).stdout_cap(LARGEST).as_root();
    let output = session.exec(command).await?;
    if !output.success() {
        return Ok(None);
    }
    match Table::parse(&output.stdout) {
        Ok(table) => Ok(Some(table)),
        Err(error) => {
            tracing::warn!(%error, ?session, "the routing table of a host cannot be read");
            Ok(None)
        }
    }
}

/// Puts a table in its place, atomically; the routers take it within a moment.
///
/// # Errors
/// If it was not written; after [`ssh::Error::Cut`] and [`ssh::Error::TimedOut`] it may have been.
pub async fn write(session: &Session, table: &Table) -> Result<(), ssh::Error> {
    session.upload(Upload::new(TABLE, table.json(), MODE, LIMIT).as_root()).await
}
