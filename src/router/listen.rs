//! Opens the sockets of a router.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Where a router is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a unix socket.
    Unix(PathBuf),
    /// On a TCP port, for who collects metrics.
    Tcp(SocketAddr),
}

impl Listen {
    /// Parses `unix:PATH` or `tcp:ADDRESS:PORT`.
    ///
    /// # Errors
    /// A sentence saying what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no place to listen at: write unix:/PATH or tcp:ADDRESS:PORT");
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

/// Parses the mode of a socket, e.g. `0660`.
///
/// # Errors
/// A sentence saying what would be right.
pub fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("`{text}` is no mode: write it in octal, e.g. `0660`"))
}

/// An open socket.
#[derive(Debug)]
pub enum Listener {
    /// On a unix socket.
    Unix(UnixListener),
    /// On a TCP port.
    Tcp(TcpListener),
}

impl Listener {
    /// Opens a socket. What a router that is gone has left at its path is replaced.
    ///
    /// # Errors
    /// When it cannot be opened, or another process serves it.
    pub async fn open(listen: &Listen, mode: u32) -> anyhow::Result<Self> {
        match listen {
            Listen::Unix(path) => {
                let listener =
                    unix(path, mode).await.with_context(|| format!("listening at unix:{}", path.display()))?;
                Ok(Self::Unix(listener))
            }
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                Ok(Self::Tcp(listener.with_context(|| format!("listening at tcp:{address}"))?))
            }
        }
    }
}

async fn unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
    }
    // Made aside and then moved: at its path there is never a socket of another mode, and never none.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(mode))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_socket_or_a_port() {
        assert_eq!(Listen::parse("unix:/run/router/1.sock"), Ok(Listen::Unix("/run/router/1.sock".into())));
        assert_eq!(Listen::parse("tcp:127.0.0.1:9100"), Ok(Listen::Tcp(([127, 0, 0, 1], 9100).into())));
        for bad in ["", "/run/1.sock", "unix:1.sock", "unix:", "tcp:9100", "tcp:localhost:9100", "udp:127.0.0.1:1"] {
            assert!(Listen::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(mode("0660"), Ok(0o660));
        assert_eq!(mode("600"), Ok(0o600));
        for bad in ["", "rw", "0888", "1777"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
