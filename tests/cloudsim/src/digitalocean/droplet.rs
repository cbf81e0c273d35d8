//! One droplet and its life. Nothing runs in the background: what a droplet is follows from the clock.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use jiff::Timestamp;

use super::catalog::{Image, Region, Size};

/// The time of what ends when its VM says so: a time that never comes.
pub(super) const WHEN_DONE: Timestamp = Timestamp::MAX;

/// Whether the machine runs, once it is past `new`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    Off,
}

/// What an action changes when it completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Power(Power),
    Rename(String),
    EnableIpv6,
}

/// The running action of a droplet; there is never more than one.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) until: Timestamp,
    pub(super) effect: Effect,
}

/// When a deleted droplet stops to exist, and when listings drop it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removal {
    pub(super) gone_at: Timestamp,
    pub(super) unlisted_at: Timestamp,
}

/// A droplet as the simulator keeps it.
#[derive(Debug)]
pub(super) struct Droplet {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) region: Arc<Region>,
    pub(super) size: Arc<Size>,
    pub(super) image: Arc<Image>,
    pub(super) features: Vec<&'static str>,
    pub(super) user_data: Option<String>,
    pub(super) ssh_keys: Vec<String>,
    pub(super) vpc_uuid: String,
    pub(super) tags: Vec<String>,
    pub(super) public4: Option<Ipv4Addr>,
    pub(super) private4: Option<Ipv4Addr>,
    pub(super) public6: Option<Ipv6Addr>,
    pub(super) power: Power,
    pub(super) pending: Option<Pending>,
    pub(super) created_at: Timestamp,
    pub(super) active_at: Timestamp,
    pub(super) addressed_at: Timestamp,
    pub(super) listed_at: Timestamp,
    pub(super) tagged_at: Timestamp,
    pub(super) removal: Option<Removal>,
}

impl Droplet {
    /// Found by id.
    pub(super) fn exists(&self, now: Timestamp) -> bool {
        self.removal.is_none_or(|removal| now < removal.gone_at)
    }

    /// Contained in listings, which may run behind in both directions.
    pub(super) fn is_listed(&self, now: Timestamp) -> bool {
        self.listed_at <= now && self.removal.is_none_or(|removal| now < removal.unlisted_at)
    }

    /// An action is running.
    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        self.removal.is_some() || self.pending.as_ref().is_some_and(|pending| now < pending.until)
    }

    pub(super) fn status(&self, now: Timestamp) -> &'static str {
        match self.power {
            _ if now < self.active_at => "new",
            Power::On => "active",
            Power::Off => "off",
        }
    }

    pub(super) fn has_addresses(&self, now: Timestamp) -> bool {
        self.addressed_at <= now
    }

    /// The tags it carries; none until they are applied.
    pub(super) fn tags(&self, now: Timestamp) -> &[String] {
        if self.tagged_at <= now { &self.tags } else { &[] }
    }

    /// The documentation network's address of this droplet.
    pub(super) fn ipv6(id: u64) -> Ipv6Addr {
        Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0000_u128 + u128::from(id))
    }
}

/// An action as `/v2/actions` shows it. It outlives its droplet.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) id: u64,
    pub(super) kind: String,
    pub(super) droplet: u64,
    pub(super) region: Arc<Region>,
    pub(super) started_at: Timestamp,
    pub(super) completes_at: Timestamp,
    /// It ended, then, without having done anything.
    pub(super) errored: bool,
}

impl Action {
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.completes_at <= now
    }

    pub(super) fn status(&self, now: Timestamp) -> &'static str {
        match self.errored {
            _ if !self.is_over(now) => "in-progress",
            true => "errored",
            false => "completed",
        }
    }
}
