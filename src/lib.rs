//! Roadstead: nodes, environments and their names, from Kubernetes objects.
pub mod api;
pub mod app;
pub mod cli;
pub mod cloud;
pub mod controllers;
pub mod dns;
pub mod health;
pub mod metrics;
pub mod outside;
pub mod runtime;
pub mod telemetry;
