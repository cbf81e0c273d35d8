//! A simulated `DigitalOcean`: droplets, actions, tags, account, regions, sizes and images of API v2, as its official
//! client expects them, with the delays, inconsistencies and limits that hurt real clients.
//!
//! Shapes, scopes and limits follow `DigitalOcean`'s published API description; error messages follow what users
//! of the real API report.

mod account;
mod addresses;
mod call;
mod catalog;
mod control;
mod create;
mod droplet;
mod error;
mod fleet;
mod limits;
mod page;
mod panel;
mod routes;
mod settings;
mod state;
mod tags;
mod tenant;
mod tokens;
mod view;

pub use account::AccountSpec;
pub use catalog::{Image, Region, Size};
pub use control::control_router;
pub use panel::{DropletEdit, DropletInfo, NewDroplet};
pub use routes::router;
pub use settings::Settings;
pub use state::{DEFAULT_ACCOUNT, State};
pub use tokens::TokenSpec;
