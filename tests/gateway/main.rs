//! The REST API: what it promises its callers word by word, and everything it refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod cluster;
mod contract;
mod keys;
mod limits;
mod refusals;
mod reporters;
mod walkthrough;
mod world;
