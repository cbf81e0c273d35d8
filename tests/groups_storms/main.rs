//! Groups of servers through bad weather: an operator that is killed again and again, or cut off from everything; ten
//! thousand servers at a restart; and a client that goes by what DNS tells it meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod follower;
mod ground;
mod isolation;
mod kills;
mod restart;
#[path = "../world/mod.rs"]
mod world;
