//! The REST API: sign-up and keys, groups, reports and discovery over HTTP.

pub mod keys;
pub mod ports;
