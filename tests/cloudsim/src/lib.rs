//! Simulated clouds for tests and the demo, on loopback, as the real ones' official clients expect them.

pub mod clock;
pub mod digitalocean;
