//! What runs on a host, and how it is told: nothing here knows of Kubernetes.

pub mod caddy;
pub mod table;
