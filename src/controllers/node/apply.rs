//! One external call per action, and what it taught.

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;

use super::NodeReconciler;
use super::observe::Observed;
use super::plan::{Action, Facts, Machine};
use super::report;
use crate::api::node::NodeStatus;
use crate::cloud::fleet::Fleet;
use crate::cloud::{CreateVm, Source, code, user_data};
use crate::controllers::hosts;
use crate::controllers::registry::LiveZone;
use crate::dns::propagation;
use crate::dns::{Declared, Desired, Owner};
use crate::outside::OutsideError;
use crate::outside::budget::Priority;
use crate::runtime::cache::Key;
use crate::runtime::claims::Role;
use crate::runtime::events::Note;
use crate::runtime::fault::Fault;

impl NodeReconciler {
    #[expect(clippy::too_many_lines, reason = "one arm an action, each a call and what it taught")]
    pub(super) async fn act(
        &self,
        seen: &Observed,
        facts: &mut Facts,
        action: Action,
    ) -> Result<Option<NodeStatus>, Fault> {
        match action {
            Action::Claim(reservation) => {
                let standing = self.deps.claims.take(&reservation, Role::Dns, &seen.claimant).await?;
                facts.claimed.insert(reservation.name, standing);
            }
            Action::Release(reservation, seconds) => {
                let withdrawn = seen.status.journal.as_ref().and_then(|j| j.withdrawn_at.as_ref());
                let until = seconds.zip(withdrawn).and_then(|(seconds, withdrawn)| {
                    withdrawn.0.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
                });
                self.deps.claims.release(&reservation, Role::Dns, &seen.claimant.holder.uid, until).await?;
                facts.released.push(reservation.name);
            }
            Action::CheckName => {
                let zone = self.zone(seen)?;
                let name = seen.zone.as_ref().and_then(|z| super::observe::fqdn(&seen.node, z.domain.as_ref()?));
                let name = name.ok_or_else(|| Fault::terminal("InvalidHostname", "the Node has no valid name"))?;
                facts.checked = Some(zone.writer.check(&owner(seen), &name));
            }
            Action::IntendCreate(machine) => {
                facts.intended = true;
                return Ok(Some(report::creating(seen, facts, &machine, Timestamp::now())));
            }
            Action::CreateVm(machine) => return self.create(seen, facts, &machine).await,
            Action::LookByMark => {
                let found = self.fleet(seen)?.provider().find_by_owner(&seen.mark, priority(seen)).await;
                facts.looked = Some(found.map_err(|e| self.failed(seen, &e))?);
            }
            Action::LookByKey => {
                let found = self.fleet(seen)?.provider().find_by_key(&seen.mark).await;
                facts.namesakes = Some(found.map_err(|e| self.failed(seen, &e))?);
            }
            Action::GetVm(id) => {
                let vm = self.fleet(seen)?.provider().get(&id, priority(seen)).await;
                facts.got.insert(id, vm.map_err(|e| self.failed(seen, &e))?);
            }
            Action::IntendDelete => {
                facts.intended = true;
                return Ok(Some(report::deleting(seen, Timestamp::now())));
            }
            Action::DeleteVm(id) => {
                let fleet = self.fleet(seen)?;
                fleet.provider().delete(&id).await.map_err(|e| {
                    self.hear(seen, &e);
                    deleting(&id, &e)
                })?;
                fleet.deleted(&id);
                facts.deleted.push(id.clone());
                facts.got.remove(&id);
            }
            Action::UnmarkVm(id) => {
                let done = self.fleet(seen)?.provider().unmark(&id, &seen.mark).await;
                done.map_err(|e| self.failed(seen, &e))?;
                facts.unmarked.push(id);
            }
            Action::DropOwnerTag => {
                let done = self.fleet(seen)?.provider().delete_owner_tags(&seen.mark).await;
                done.map_err(|e| self.failed(seen, &e))?;
                facts.untagged = true;
            }
            Action::AdoptVm(id) => {
                let fleet = self.fleet(seen)?;
                let vm = fleet.provider().get(&id, Priority::Normal).await;
                let vm = vm.map_err(|e| self.failed(seen, &e))?;
                let former = vm.and_then(|vm| vm.mark);
                let done = fleet.provider().mark(&id, former.as_ref(), &seen.mark).await;
                done.map_err(|e| self.failed(seen, &e))?;
                facts.adopted = true;
                let looked = fleet.provider().find_by_owner(&seen.mark, Priority::Normal).await;
                facts.looked = Some(looked.map_err(|e| self.failed(seen, &e))?);
            }
            Action::AdoptRecords(former) => {
                self.zone(seen)?.writer.adopt(&owner(seen), &former);
                facts.adopted = true;
                (facts.declared, facts.checked) = (None, None);
            }
            Action::Declare(records) => {
                let answer = self.zone(seen)?.writer.declare(&owner(seen), records.clone());
                if let Declared::Blocked(error) = &answer {
                    tracing::debug!(%error, "the zone cannot be written now");
                }
                facts.declared = Some((records, answer));
            }
            Action::AskAuthority(records) => {
                let servers = seen.zone.as_ref().map(|z| z.authority.clone()).unwrap_or_default();
                facts.authority = Some(ask(&servers, &records, seen.deleting()).await);
            }
            Action::AskResolvers(records) => {
                let servers = seen.zone.as_ref().map(|z| z.resolvers.clone()).unwrap_or_default();
                facts.resolvers = Some(ask(&servers, &records, false).await);
            }
            Action::SayAbandoned(half) => {
                let left = match half {
                    "dns" => format!("the record of {}", seen.status.fqdn.as_deref().unwrap_or("this Node")),
                    _ => format!("VM {}", seen.status.vm_id.as_deref().unwrap_or("of this Node, if there is one,")),
                };
                let note = Note::warning("Abandoned", format!("given up by annotation: {left} is left behind"));
                self.deps.events.publish(seen.node.object_ref(&()), note);
                facts.said.push(half);
            }
            Action::EnsureKey => drop(self.deps.hosts.public_key(&seen.node).await?),
            Action::WorkOnHost => {
                if let Some(wish) = seen.wish() {
                    self.bootstraps.start(&wish);
                }
            }
            Action::SayLeft => {
                let address = seen.node.spec.address.as_deref().unwrap_or_default();
                let message = format!(
                    "the host {address} stays as it is, with what was set up there (Docker, Caddy, /opt/roadstead): remove the file \
                     /opt/roadstead/owner there before another Node may have it"
                );
                self.deps.events.publish(seen.node.object_ref(&()), Note::normal("HostLeft", message));
                facts.said.push("host");
            }
            Action::ForgetHost => {
                self.bootstraps.forget(&seen.node);
                self.deps.hosts.forget(&seen.node).await?;
                facts.forgot_host = true;
            }
        }
        Ok(None)
    }

    async fn create(&self, seen: &Observed, facts: &mut Facts, machine: &Machine) -> Result<Option<NodeStatus>, Fault> {
        let provider = self.deps.providers.get(&Key::cluster(&seen.node.spec.provider_ref.name));
        let spec = provider.as_ref().and_then(|p| p.spec.digitalocean.as_ref());
        let mut keys = provider.as_ref().map(|p| p.spec.ssh_authorized_keys.clone()).unwrap_or_default();
        if hosts::is_ours(&seen.node) {
            // After people's: messages count theirs.
            keys.push(self.deps.hosts.public_key(&seen.node).await?);
        }
        let user_data =
            match user_data::compose(&keys, seen.node.spec.user_data.as_deref(), user_data::Limit::DIGITALOCEAN) {
                Ok(user_data) => user_data,
                Err(error) => {
                    facts.create_refused = true;
                    // Keys are the Provider's, all else is this Node's.
                    let message = match &error {
                        user_data::UserDataError::Key { .. } => {
                            format!("Provider {}: {error}", seen.node.spec.provider_ref.name)
                        }
                        _ => error.to_string(),
                    };
                    return Err(Fault::terminal("InvalidUserData", message));
                }
            };
        let order = CreateVm {
            name: machine.name.clone(),
            mark: seen.mark.clone(),
            region: machine.region.clone(),
            size: machine.size.clone(),
            image: machine.image.clone(),
            user_data,
            vpc_uuid: spec.and_then(|s| s.vpc_uuid.clone()),
            tags: spec.map(|s| s.tags.clone()).unwrap_or_default(),
        };
        let fleet = self.fleet(seen)?;
        match fleet.provider().create(&order).await {
            Ok(vm) => {
                fleet.created(&vm);
                Ok(Some(report::starting(seen, facts, &vm, machine.incarnation, Timestamp::now())))
            }
            Err(error) => {
                facts.create_refused = !matches!(error, OutsideError::Unknown(_));
                self.hear(seen, &error);
                Err(creating(seen, &error))
            }
        }
    }

    /// What a call to the provider that failed means.
    fn failed(&self, seen: &Observed, error: &OutsideError) -> Fault {
        self.hear(seen, error);
        Fault::outside("the provider", error)
    }

    /// A token that is refused concerns the whole Provider.
    fn hear(&self, seen: &Observed, error: &OutsideError) {
        let is_believed = seen.provider.as_ref().is_some_and(|provider| provider.unusable.is_none());
        if is_believed && matches!(error, OutsideError::Unauthorized(_)) {
            self.doubt(&seen.node.spec.provider_ref.name);
        }
    }

    fn zone(&self, seen: &Observed) -> Result<LiveZone, Fault> {
        let name = &seen.node.spec.zone_ref.name;
        self.deps.registry.zone(name).ok_or_else(|| Fault::Waiting {
            reason: "ZoneNotReady",
            message: format!("Zone {name} is not connected"),
            after: Duration::from_secs(15),
        })
    }

    fn fleet(&self, seen: &Observed) -> Result<Fleet, Fault> {
        let name = &seen.node.spec.provider_ref.name;
        match self.deps.registry.provider(name) {
            Some(Source::Vms(fleet)) => Ok(fleet),
            _ => Err(Fault::Waiting {
                reason: "ProviderNotReady",
                message: format!("Provider {name} is not connected"),
                after: Duration::from_secs(15),
            }),
        }
    }
}

/// What a failed create means: some heal by themselves, others need a person to change what was asked for.
pub(super) fn creating(seen: &Observed, error: &OutsideError) -> Fault {
    let OutsideError::Refused { code, message } = error else { return repeated(Fault::outside("the provider", error)) };
    let spec = &seen.node.spec;
    let provider = &spec.provider_ref.name;
    // Where the Node says nothing, the Provider's own word was sent.
    let of = |asked: &Option<String>, field: &str| match asked {
        Some(_) => format!("spec.{field}: {message}"),
        None => format!("spec.digitalocean.{field} of Provider {provider}: {message}"),
    };
    let (reason, message) = match code.as_str() {
        code::DROPLET_LIMIT => {
            let message = format!("{message}; a VM is ordered as soon as the account may have one more");
            return Fault::transient("DropletLimit", message);
        }
        code::UNKNOWN_SIZE => ("UnknownSize", of(&spec.size, "size")),
        code::UNKNOWN_REGION => ("UnknownRegion", of(&spec.region, "region")),
        code::UNKNOWN_IMAGE => ("UnknownImage", of(&spec.image, "image")),
        code::NOT_OFFERED => ("NotOffered", message.clone()),
        code::ACCOUNT_CHANGED => ("AccountChanged", message.clone()),
        _ => {
            let words = message.trim_end_matches('.');
            let remedy = format!("correct this spec or that of Provider {provider}; it is tried again by itself");
            ("CreateRefused", format!("the VM is refused ({words}): {remedy}"))
        }
    };
    Fault::terminal(reason, message)
}

/// A VM with an action still running is deleted later.
pub(super) fn deleting(id: &str, error: &OutsideError) -> Fault {
    match error {
        OutsideError::Refused { code, .. } if code == code::PENDING_EVENT => {
            Fault::transient("PendingEvent", format!("VM {id} is busy with another action; deleting it again later"))
        }
        OutsideError::Refused { message, .. } => {
            Fault::transient("DeleteRefused", format!("deleting VM {id}: {message}"))
        }
        other => repeated(Fault::outside("the provider", other)),
    }
}

/// A fault that is waited for, as one that is tried again with stored back-off: before each try an intent is written, and
/// what is written wakes the Node at once.
fn repeated(fault: Fault) -> Fault {
    match fault {
        Fault::Waiting { reason, message, .. } => Fault::Transient { reason, message },
        other => other,
    }
}

/// Who declares records for this Node, and whom to wake.
fn owner(seen: &Observed) -> Owner {
    let key = Key::of(&*seen.node);
    Owner { mark: seen.mark.clone(), wake: format!("Node/{key}") }
}

fn priority(seen: &Observed) -> Priority {
    if seen.deleting() { Priority::Cleanup } else { Priority::Normal }
}

async fn ask(servers: &[std::net::SocketAddr], records: &[Desired], absent: bool) -> propagation::Confirmation {
    let Some(first) = records.first() else { return propagation::Confirmation::Confirmed };
    if absent {
        propagation::withdrawn(servers, &first.name, &first.content).await
    } else {
        let expected: Vec<_> = records.iter().map(|r| r.content.clone()).collect();
        propagation::confirm(servers, &first.name, &expected, first.proxied).await
    }
}
