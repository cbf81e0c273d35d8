//! The rules of the simulated `DigitalOcean`, each through its HTTP API.

#![allow(clippy::unwrap_used, missing_docs, reason = "helpers of tests may say bluntly what they expect")]

mod bench;
mod control;
mod life;
mod listings;
mod orders;
mod tokens;
