//! Apps: Compose projects behind Caddy, on one host or on several.

pub mod available;
