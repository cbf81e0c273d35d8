//! The Worker in real workerd, with live bindings, in front of origins on loopback: how it spreads, what it repeats and
//! what it never does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod bench;
mod bodies;
mod edge;
mod failing;
mod origin;
mod publishing;
mod spreading;
mod sticky;
