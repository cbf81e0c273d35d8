//! What runs on a host: how an app's Compose file is read, judged and completed.
//!
//! Nothing here knows of Kubernetes.

pub mod compose;
