//! What a Zone's plan looks at: its Secret, its claim, the writer's health, and who uses it. No call to Cloudflare.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::ZoneReconciler;
use super::plan::{Observed, Records, Writer};
use crate::api::claim::Holder;
use crate::api::names::Fqdn;
use crate::api::zone::Zone;
use crate::controllers::access::Attempt;
use crate::controllers::app_deployment;
use crate::controllers::credential::Purpose;
use crate::controllers::orphans::Kind;
use crate::controllers::users::Users;
use crate::dns;
use crate::outside::OutsideError;
use crate::runtime::claims::{Claimant, Reservation, Role};
use crate::runtime::driver::Reconciler;
use crate::runtime::fault::Fault;

impl ZoneReconciler {
    pub(super) async fn look(&self, zone: &Arc<Zone>) -> Result<Observed, Fault> {
        let deps = &self.deps;
        let (name, uid) = (zone.name_any(), zone.uid().unwrap_or_default());
        let claimant = claimant(zone);
        let writer = deps.registry.zone(&name).map(|live| {
            let health = live.writer.health();
            Writer {
                token_version: health.token_version,
                listed: health.listed_ago.is_some(),
                // A freeze is no fault of the token.
                blocked: health.blocked.filter(|e| !(deps.read_only && matches!(e, OutsideError::Forbidden(_)))),
                records: self.counted(&name, &uid, &live.writer),
                has_authority: !live.authority.is_empty(),
            }
        });
        let (attempt, stale) = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let own = memory.get(&name).filter(|memory| memory.uid == uid);
            (own.and_then(|memory| memory.attempt.clone()), writer.is_some() && own.is_none())
        };
        let reference = &zone.spec.cloudflare.token_secret_ref;
        if let Some(Attempt { version, result: Err(OutsideError::Unauthorized(_)), .. }) = &attempt {
            deps.credentials.refused(&reference.name, version);
        }
        if let Some(Writer { token_version: Some(version), blocked: Some(OutsideError::Unauthorized(_)), .. }) = &writer
        {
            deps.credentials.refused(&reference.name, version);
        }
        let credential = deps.credentials.read(reference, Purpose::Cloudflare).await?;
        let users = if zone.metadata.deletion_timestamp.is_some() { self.users(zone) } else { Users::default() };
        Ok(Observed {
            zone: zone.clone(),
            status: <Self as Reconciler>::status(zone),
            domain: Fqdn::parse(&zone.spec.domain),
            claim: deps.claims.look(&Reservation::of_zone(&zone.spec.domain), Role::Dns, &claimant),
            credential,
            attempt,
            writer,
            stale,
            users,
            orphans: deps.orphans.get(Kind::Record, &name),
            orphan_workers: deps.orphans.get(Kind::Worker, &name),
            recheck: deps.credentials.max_age(),
            resync: deps.resync,
        })
    }

    /// How many records in the zone are ours; `None` before it was listed.
    fn counted(&self, name: &str, uid: &str, writer: &dns::Zone) -> Option<Records> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memory.get_mut(name).filter(|memory| memory.uid == uid)?;
        let fresh = memory.counted.filter(|(at, _)| at.elapsed() < self.deps.credentials.max_age());
        if fresh.is_none() {
            let records = writer.owned_records()?.records;
            let ours = records.iter().filter(|(mark, _)| mark.cluster == self.deps.cluster).count();
            memory.counted = Some((Instant::now(), ours));
        }
        memory.counted.map(|(_, ours)| Records { ours })
    }

    fn users(&self, zone: &Zone) -> Users {
        let name = zone.name_any();
        let (nodes, environments) = (self.deps.nodes.all(), self.deps.environments.all());
        let nodes = nodes.iter().map(|node| &**node).filter(|node| node.spec.zone_ref.name == name);
        let of = environments.iter().map(|e| &**e).filter(|e| e.spec.node.zone_ref.name == name);
        let groups = self.deps.groups.all();
        let groups = groups.iter().map(|group| &**group).filter(|group| group.spec.zone_ref.name == name);
        let apps = self.deps.apps.all();
        let apps = apps.iter().map(|app| &**app).filter(|app| app_deployment::zones_of(app).contains(name.as_str()));
        Users::of(nodes, of).and(groups).and_apps(apps)
    }

    pub(super) fn remember(&self, zone: &Zone, change: impl FnOnce(&mut super::Memory)) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = zone.uid().unwrap_or_default();
        let entry = memory.entry(zone.name_any()).or_insert_with(|| super::Memory {
            uid: uid.clone(),
            attempt: None,
            counted: None,
        });
        if entry.uid != uid {
            *entry = super::Memory { uid, attempt: None, counted: None };
        }
        change(entry);
    }
}

/// Who the Zone is to the claims.
pub(super) fn claimant(zone: &Zone) -> Claimant {
    let holder = Holder { kind: "Zone".into(), name: zone.name_any(), uid: zone.uid().unwrap_or_default() };
    Claimant { namespace: String::new(), holder }
}

/// RFC 3339 as Cloudflare writes it; `None` if it is anything else.
pub(super) fn expiry(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok())
}
