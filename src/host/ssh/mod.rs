//! SSH to a host: one authenticated connection to a host whose key is pinned, and what goes through it.
//!
//! * [`KeyPair`], [`HostKeys`]: who we are, and whom we believe;
//! * [`Session`]: a connection; [`Session::exec`] runs commands, [`Session::upload`] writes files, [`Session::tcp`] and
//!   [`Session::unix`] reach the host's sockets, [`Session::http`] makes one request through those;
//! * [`Pool`]: one connection a host, shared, made anew when it is cut or no longer what is asked for.
//!
//! Everything has a time limit. Whatever is given up, by its limit or because its future was dropped, is ended on the host
//! too: `wrap` says how. Secrets go through a command's standard input only, since a command line is seen by everybody on
//! the host.
//!
//! The library behind it gives a connection one reader, which stands still while one channel's messages are not taken.
//! So every channel here has a task that takes them, whether or not the caller's future is polled.

mod error;
mod exec;
mod http;
mod keys;
mod pool;
mod session;
mod stream;
mod upload;
mod wrap;

pub use error::Error;
pub use exec::{Command, Exit, Output};
pub use http::{HttpLimits, Via};
pub use keys::{HostKey, HostKeys, KeyPair};
pub use pool::{Host, Pool, PoolOptions};
pub use session::{Options, Session, Target};
pub use stream::Stream;
pub use upload::Upload;
pub use wrap::quote;
