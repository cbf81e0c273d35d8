//! The simulated Workers: scripts with their versions and bindings, where their requests come from, and the requests
//! themselves, which real workerd answers.
//!
//! * [`script`], [`upload`], [`placement`]: what there is, and what the API accepts;
//! * [`routes`], [`view`]: the API's routes and its JSON;
//! * [`edge`]: requests from outside, to the script that is deployed; [`egress`]: a script's own requests, to origins.
//!
//! What differs from the real thing: a version is chosen anew for each request of a split deployment; bindings to other
//! products (KV, D1, …) are kept and shown, but a running script does not have them; nothing is cached.

mod edge;
mod egress;
mod forward;
mod placement;
mod routes;
mod script;
mod upload;
mod view;

pub(crate) use edge::Edge;
pub use edge::WorkersOptions;
pub(super) use routes::router;
pub use script::ScriptInfo;
pub(super) use script::Workers;
