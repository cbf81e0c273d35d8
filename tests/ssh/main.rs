//! SSH against a real OpenSSH server on loopback, with keys, settings and log of its own, as the user who runs the tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod channels;
mod commands;
mod ending;
mod identity;
mod pool;
mod rig;
mod upload;
