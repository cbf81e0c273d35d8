//! Brings a host from a fresh image of Debian or Ubuntu to one that serves sites, and back there whenever something of it
//! was undone: Docker, the network `edge`, Caddy with its two routers, their files, their configuration.
//!
//! Look, decide, do one thing, and look again:
//!
//! * [`Wanted`]: what a host is to have, and from it the files, a pure function;
//! * [`observe`]: what it has. Most of it is one script's output, the [`Facts`]; the rest is asked of Caddy and the
//!   routers, through the sockets by which they are used later on;
//! * [`plan()`]: the next [`Step`], its [`Cause`], or why nothing may be done: pure;
//! * [`apply`]: one step; [`run`]: all of them.
//!
//! Nothing remembers how far an earlier run came, so one that was cut at any point is simply followed by another. The host
//! itself notes when everything was in place: what is amiss after that is no setup but drift, and is called a repair.
//!
//! No container serves the placeholder: it is an answer of the routers ([`Route::Placeholder`](super::table::Route)), so
//! that it cannot fail apart from them, and costs a small host nothing.

mod apply;
mod facts;
mod plan;
mod wanted;

pub use apply::{Error, apply, observe, run};
pub use facts::{Container, Directory, Facts, Garbled, Kept, Listener, Published};
pub use plan::{Act, Cause, Next, Observed, Reading, Refusal, Served, Step, plan};
pub use wanted::{Certificates, EDGE, File, Images, Packages, Service, TABLE, Unusable, Wanted};
