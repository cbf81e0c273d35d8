//! `AppDeployment`: a Compose app behind Caddy, on one host or on several.

pub mod material;
