//! Roadstead: nodes, environments and their names, from Kubernetes objects.
//!
//! Each kind has a controller that goes the same way: **observe** (caches and snapshots), **validate** and **plan**
//! (pure: every decision, back-off included), **apply** (one external call), **report** (one status write, or none).
//! [`runtime`] drives them and owns the finalizers; [`app`] wires everything under one lease.
//!
//! Dependencies point one way:
//! `main -> app -> controllers -> {dns, cloud, host, probe, slb} -> outside -> plain types`. Nothing below the
//! controllers knows of Kubernetes:
//!
//! * [`api`]: the kinds, and validated names and ownership marks;
//! * [`controllers`]: one folder a kind; a reader learns the product from the `plan` modules;
//! * [`dns`]: one writer a zone, the Cloudflare client, and asking name servers;
//! * [`cloud`]: providers of VMs, their one snapshot, the deletion brake, orphans;
//! * [`host`]: what is done on a host: SSH to it, bootstrapping, how an app's Compose file is judged and completed and the
//!   app deployed, the routing table and Caddy's configuration;
//! * [`probe`]: health probes, from declared targets to verdicts;
//! * [`gateway`]: the REST API with its keys, over ports that [`app`] fills; [`store`]: the history, on disk;
//! * [`router`]: `roadstead router`, which tells that Caddy where each request goes;
//! * [`slb`]: the Worker at Cloudflare's edge that spreads requests over a group's origins, its plan and its client;
//! * [`outside`]: the outcomes of an external call, and request budgets;
//! * [`runtime`]: driver, error classes, status writer, claims, caches, events;
//! * [`cli`], [`health`], [`metrics`], [`telemetry`]: settings in, observations out.

pub mod api;
pub mod app;
pub mod cli;
pub mod cloud;
pub mod controllers;
pub mod dns;
pub mod gateway;
pub mod health;
pub mod host;
pub mod metrics;
pub mod outside;
pub mod probe;
pub mod router;
pub mod runtime;
pub mod slb;
pub mod store;
pub mod telemetry;
