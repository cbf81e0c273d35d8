//! An app's Compose file: whether it may run, where its traffic enters, and what we put over it. Pure.
//!
//! No parser of ours reads a user's file. `docker compose config --format json` on the host merges, interpolates and
//! checks it, and what that prints, the canonical form, is what everything here decides by:
//!
//! 1. [`complaint`]: what Compose itself refused;
//! 2. [`project`]: the canonical form, as far as anything is decided by it;
//! 3. [`refuse`]: every reason not to run it, all at once, and [`entry`]: the service and port that Caddy leads to;
//! 4. [`strategy`]: whether the new revision may run beside the old one;
//! 5. [`overlay`]: the file that is merged over the user's, with the networks' [`subnets`] and the file of
//!    [`variables`];
//! 6. [`changes`]: what is updated before the swap, and what after it;
//! 7. [`revision`]: what a revision is called.

pub mod changes;
pub mod complaint;
pub mod entry;
pub mod mounts;
pub mod overlay;
pub mod project;
pub mod refusal;
pub mod refuse;
pub mod revision;
pub mod strategy;
pub mod subnets;
pub mod variables;

pub use entry::Entry;
pub use project::Project;
pub use refusal::Refusal;
