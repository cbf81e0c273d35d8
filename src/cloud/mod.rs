//! VMs: one trait over the providers, in plain domain types.
