//! What Roadstead does on a host, knowing nothing of Kubernetes: plain values in, typed outcomes out.
//!
//! * [`ssh`]: the one way onto a host: commands, files, and channels to its sockets, over one pinned connection;
//! * [`bootstrap`]: from a fresh image to a host that serves sites, and back there after drift;
//! * [`compose`]: how an app's Compose file is read, judged and completed;
//! * [`deploy`]: what is done next to bring an app to a host, or back; [`app`]: doing it there;
//! * [`table`]: where each request of the host goes, [`routes`]: that table on the host; [`caddy`]: the constant
//!   configuration that asks for it; [`certificate`]: the first handshake for a name.

pub mod app;
pub mod bootstrap;
pub mod caddy;
pub mod certificate;
pub mod compose;
pub mod deploy;
pub mod routes;
pub mod ssh;
pub mod table;
