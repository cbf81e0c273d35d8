//! The chart: what its values admit, what it renders, what the API server makes of it, and what the operator's
//! service account may and may not do.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod installed;
#[path = "../kubectl/mod.rs"]
mod kubectl;
mod objects;
mod rig;
mod settings;
mod values;
