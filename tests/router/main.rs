//! Two real routers behind a real Caddy with the configuration that hosts get: what visitors are answered, and what
//! they notice of swaps, deaths and mistakes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod answers;
mod chat;
mod client;
mod config;
mod deaths;
mod load;
mod process;
mod rig;
mod sites;
mod swaps;
