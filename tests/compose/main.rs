//! Compose files of many shapes, read, judged and merged by the real docker-compose: what `src/host/compose` decides by
//! is what Compose prints, and what we put over a file is what Compose makes of it. It needs no Docker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

mod merging;
mod refusals;
mod rig;
mod shapes;
