//! Files on the host, whole or not at all, through the standard input of a shell: many hosts have no SFTP.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{Command, Error, Session, quote};

/// Writes standard input beside `$1`, gives it the mode `$2`, and renames it. `$3` begins the names of such files for this
/// target: what an upload that was killed left behind is removed an hour later.
const SCRIPT: &str = r#"set -e
umask 077
directory=${1%/*}/
find "$directory" -maxdepth 1 -type f -name "$3.*" -mmin +60 -delete
new=$(mktemp "$directory$3.XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
chmod "$2" "$new"
sync "$new"
mv -fT "$new" "$1"
trap - EXIT"#;

/// A file to write. A link in its place is replaced, not followed.
#[derive(Clone)]
pub struct Upload {
    path: String,
    bytes: Bytes,
    mode: u32,
    limit: Duration,
    as_root: bool,
}

impl Upload {
    /// `bytes` at the absolute `path` with the permissions `mode`, in a directory that exists, within `limit`.
    #[must_use]
    pub fn new(path: impl Into<String>, bytes: impl Into<Bytes>, mode: u32, limit: Duration) -> Self {
        Self { path: path.into(), bytes: bytes.into(), mode, limit, as_root: false }
    }

    /// Writes as root: through `sudo` without a password where the user is another.
    #[must_use]
    pub fn as_root(mut self) -> Self {
        self.as_root = true;
        self
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({:?}, {} bytes, mode {:o})", self.path, self.bytes.len(), self.mode)
    }
}

impl Session {
    /// Writes a file: whoever opens the path finds the old content or the new, never a part, whatever happens meanwhile.
    ///
    /// # Errors
    /// If it was not written; after [`Error::Cut`] and [`Error::TimedOut`] it may have been.
    pub async fn upload(&self, upload: Upload) -> Result<(), Error> {
        let Upload { path, bytes, mode, limit, as_root } = upload;
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err(Error::Invalid(format!("`{}` is not the absolute path of a file", path.escape_debug())));
        }
        // Its own name would do, but for names that are as long as names may be.
        let mark = format!(".roadstead-{}", &HEXLOWER.encode(&Sha256::digest(&path))[..12]);
        let text = format!("sh -c {} sh {} {:o} {mark}", quote(SCRIPT), quote(&path), mode & 0o7777);
        let command = Command::new(text, limit).stdin(bytes);
        let command = if as_root { command.as_root() } else { command };
        self.exec(command).await?.checked(&format!("writing {path} at {}", self.link.server)).map(drop)
    }
}
