//! What Roadstead does on a host, knowing nothing of Kubernetes: plain values in, typed outcomes out.
//!
//! * [`ssh`]: the one way onto a host: commands, files, and channels to its sockets, over one pinned connection.

pub mod ssh;
