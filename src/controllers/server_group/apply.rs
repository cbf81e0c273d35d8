//! One external call per action, and what it taught.

use std::time::Duration;

use kube::Resource;

use super::ServerGroupReconciler;
use super::observe::Observed;
use super::plan::{Action, Facts};
use crate::controllers::registry::LiveZone;
use crate::dns::{Declared, Owner};
use crate::runtime::cache::Key;
use crate::runtime::claims::Role;
use crate::runtime::events::Note;
use crate::runtime::fault::Fault;

impl ServerGroupReconciler {
    pub(super) async fn act(&self, seen: &Observed, facts: &mut Facts, action: Action) -> Result<(), Fault> {
        match action {
            Action::Claim(reservation) => {
                let standing = self.deps.claims.take(&reservation, Role::Dns, &seen.claimant).await?;
                facts.claimed.insert(reservation.name, standing);
            }
            Action::Release(reservation, until) => {
                self.deps.claims.release(&reservation, Role::Dns, &seen.claimant.holder.uid, until).await?;
                facts.released.push(reservation.name);
            }
            Action::Enroll => {
                self.deps.members.enroll(&seen.group, seen.roster.clone());
                facts.enrolled = true;
            }
            Action::Dismiss => {
                self.deps.members.dismiss(&seen.group);
                facts.enrolled = true;
            }
            Action::CheckName(name) => facts.checked = Some(self.zone(seen)?.writer.check(&owner(seen), &name)),
            Action::Declare(records) => {
                let answer = self.zone(seen)?.writer.declare(&owner(seen), records.clone());
                if let Declared::Blocked(error) = &answer {
                    tracing::debug!(%error, "the zone cannot be written now");
                }
                facts.declared = Some((records, answer));
            }
            Action::AdoptRecords(former) => {
                self.zone(seen)?.writer.adopt(&owner(seen), &former);
                facts.adopted = true;
                facts.declared = None;
            }
            Action::SayAbandoned(half) => {
                let left = match half {
                    "worker" => format!("Worker {}", seen.status.slb.as_ref().map_or("", |slb| &slb.worker_name)),
                    _ => format!("the records of {}", seen.status.slug.as_deref().unwrap_or("this group")),
                };
                let message = format!("given up by annotation: left behind: {left}");
                self.deps.events.publish(seen.group.object_ref(&()), Note::warning("Abandoned", message));
                facts.said.insert(half);
            }
            Action::Worker(script, call) => self.deps.workers.begin(seen, script, call)?,
        }
        Ok(())
    }

    fn zone(&self, seen: &Observed) -> Result<LiveZone, Fault> {
        let name = &seen.group.spec.zone_ref.name;
        self.deps.registry.zone(name).ok_or_else(|| Fault::Waiting {
            reason: "ZoneNotReady",
            message: format!("Zone {name} is not connected"),
            after: Duration::from_secs(15),
        })
    }
}

/// Who declares records for this group, and whom to wake.
fn owner(seen: &Observed) -> Owner {
    Owner { mark: seen.mark.clone(), wake: format!("ServerGroup/{}", Key::of(&*seen.group)) }
}
