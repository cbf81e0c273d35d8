//! The deploy of one app on one host: every decision, none of the I/O.
//!
//! Whoever runs it looks at the host, asks [`plan::plan`] for the next step, takes it, and stores what
//! [`conclude::conclude`] makes of the journal before asking again. Each step is one write or one wait, and everything
//! that must survive a crash is in the journal or on the host, so it does not matter where the last run ended.
//!
//! Forwards: pull, networks, services that go before the swap, `preDeploy`, the new revision beside the old one (or in
//! its place), health inside, the route, health outside, drain, the old one by its containers' ids, services that go
//! after the swap, services that are gone, old images. Backwards: the route, then the new one's containers by id, then
//! the old one started again if it had to be stopped. With nothing to go back to, the placeholder.
//!
//! One rule carries the rest: **the route is a function of the journal** ([`route`]). A swap is a journal that says so,
//! then the table; going back is the same the other way round. A run that finds the two apart writes the table first.
//!
//! * [`app`]: what is wanted; [`journal`]: what was recorded; [`seen`]: what host and probes say;
//! * [`plan`], with [`coming`], [`undo`], [`settled`] and [`removal`]: what is done next;
//! * [`conclude`]: what is recorded after it; [`failure`]: what a failure is called, and whether time heals it;
//! * [`commands`]: the words of each step; [`log`]: an app's last lines, fit to be shown;
//! * [`rollout`]: several hosts, one at a time.

pub mod app;
pub mod coming;
pub mod commands;
pub mod conclude;
pub mod failure;
pub mod journal;
pub mod log;
pub mod plan;
pub mod removal;
pub mod rollout;
pub mod route;
pub mod seen;
pub mod settled;
pub mod undo;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod seeded;

pub use app::Wanted;
pub use journal::Journal;
pub use plan::{Action, Step};
pub use seen::Observed;
