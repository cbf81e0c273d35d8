//! One external call per action, and what it taught.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::json;

use super::AppDeploymentReconciler;
use super::available::ill;
use super::material::{self, Around, revisions};
use super::observe::{HostView, Observed};
use super::plan::{self, Action, Facts, Rollback};
use super::{names, report};
use crate::api::app_deployment::AppDeploymentStatus;
use crate::api::names::Fqdn;
use crate::api::node::{Leftover, Node};
use crate::controllers::registry::LiveZone;
use crate::dns::{Content, Desired, Kind, Owner, propagation};
use crate::host::app::{self, NotPrepared};
use crate::host::compose::refusal;
use crate::host::deploy::commands::Place;
use crate::host::deploy::conclude::{Outcome, conclude};
use crate::host::deploy::failure::Fault as HostFault;
use crate::host::deploy::plan::Await;
use crate::host::deploy::seen::Answer;
use crate::host::deploy::{self};
use crate::host::routes;
use crate::host::ssh::{self, Session};
use crate::host::table::Route;
use crate::probe::site::Site;
use crate::runtime::bounded;
use crate::runtime::cache::Key;
use crate::runtime::events::Note;
use crate::runtime::fault::Fault;

/// How long one question from outside may take: the first of a name waits for its certificate.
const OUTSIDE: Duration = Duration::from_secs(15);

/// What the object refers to, as it was just read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The name of the revision.
    pub revision: String,
    /// Changes with anything for which a revision that failed is tried again.
    pub cause: String,
    /// The SHA-256 of the Compose file.
    pub compose_hash: String,
}

/// Work that outlived a pass.
pub struct Finished {
    view: deploy::Observed,
    action: deploy::Action,
    outcome: Outcome,
}

impl AppDeploymentReconciler {
    pub(super) async fn act(
        &self,
        seen: &Observed,
        facts: &mut Facts,
        action: Action,
    ) -> Result<Option<AppDeploymentStatus>, Fault> {
        match action {
            Action::Read => self.read(seen, facts).await?,
            Action::Store => self.store(seen, facts).await?,
            Action::Claim(reservation, role) => {
                let standing = self.deps.claims.take(&reservation, role, &seen.claimant).await?;
                facts.claimed.insert((reservation.name, role), standing);
            }
            Action::Release(reservation, role, until) => {
                self.deps.claims.release(&reservation, role, &seen.claimant.holder.uid, until).await?;
                facts.released.insert((reservation.name, role));
            }
            Action::Declare(zone, records) => {
                let answer = self.zone(&zone)?.writer.declare(&owner(seen), records.clone());
                facts.declared.insert(zone, (records, answer));
            }
            Action::AdoptRecords(zone, former) => {
                self.zone(&zone)?.writer.adopt(&owner(seen), &former);
                facts.declared.remove(&zone);
                facts.adopted.insert(zone);
            }
            Action::AskAuthority(name, records) => {
                let contents: Vec<Content> = records.iter().map(|record| record.content.clone()).collect();
                let proxied = records.iter().any(Desired::is_proxied);
                let servers = seen.zone_of(&name).map(|zone| zone.authority.clone()).unwrap_or_default();
                let answer = propagation::confirm(&servers, &name, &contents, proxied).await;
                facts.authority.insert(name, answer);
            }
            Action::AskProof(name) => {
                let seen = self.is_proven(seen, &name).await;
                facts.proofs.insert(name, seen);
            }
            Action::AskForgotten(name, addresses) => {
                let servers = seen.zone_of(&name).map(|zone| zone.authority.clone()).unwrap_or_default();
                let answer = forgotten(&servers, &name, &addresses).await;
                facts.authority.insert(name, answer);
            }
            Action::Prepare(name) => self.prepare(seen, facts, &name).await?,
            Action::Look(name) => self.look_at(seen, facts, &name).await?,
            Action::Act(name, action) => return self.on_host(seen, facts, &name, action).await,
            Action::Ask(name, what) => self.ask(seen, facts, &name, what).await?,
            Action::Collect(name) => {
                let finished = self.memory.of(&seen.app, &host(seen, &name)?.uid()).take();
                let Some(Finished { view, action, outcome }) = finished else { return Ok(None) };
                return Ok(concluded(seen, &name, &view, &action, &outcome));
            }
            Action::Volumes(name) => {
                let session = self.session(host(seen, &name)?).await?;
                let volumes = app::volumes(&session, &seen.place(Vec::new())).await.map_err(unreachable)?;
                facts.volumes.insert(name, volumes);
            }
            Action::Settle(name, what) => self.settle(seen, facts, &name, what).await?,
            Action::Leave(name) => self.leave(seen, facts, &name).await?,
            Action::Forget => {
                self.memory.forget(&seen.app);
                self.deps.available.forget(&seen.app);
                facts.forgotten = true;
            }
            Action::SayAbandoned(half) => {
                let left = if half == "dns" { "its records" } else { "what it has on its hosts" };
                let note = Note::warning("Abandoned", format!("given up by annotation: {left} are left behind"));
                self.deps.events.publish(seen.app.object_ref(&()), note);
                facts.said.insert(half);
            }
        }
        Ok(None)
    }

    /// Reads what the object refers to, or what the revision did that it is rolled back to.
    async fn read(&self, seen: &Observed, facts: &mut Facts) -> Result<(), Fault> {
        let (client, own) = (&self.deps.client, &self.deps.namespace);
        let stored = revisions::list(client, &seen.app).await?;
        let material = match Rollback::of(seen) {
            Some(back) => {
                revisions::material(client, own, &seen.app, revisions::named(&stored, &back.revision)?).await?
            }
            None => material::read(client, own, &seen.app).await?,
        };
        // A tag means for a revision what it meant first. Not for services beside the entry: another word for the same
        // image would have a database made anew.
        let known = stored.iter().find(|stored| stored.name == material.revision_name());
        let entry = seen.status.entry_service.as_ref();
        let images = known.map(|known| known.images.clone()).unwrap_or_default();
        let pinned = images.into_iter().filter(|(service, _)| Some(service) == entry).collect();
        let material = material.with_images(&pinned);
        facts.reading = Some(Reading {
            revision: material.revision_name().to_owned(),
            cause: material.spec(&seen.app, &around(seen, None, false)).cause,
            compose_hash: material.compose_hash(),
        });
        (facts.material, facts.known) = (Some(material), stored);
        Ok(())
    }

    /// Stores the revision, unless it is one that was gone back to.
    async fn store(&self, seen: &Observed, facts: &mut Facts) -> Result<(), Fault> {
        let material = facts.material.as_ref().ok_or(Fault::Conflict)?;
        let client = &self.deps.client;
        let stored = match Rollback::of(seen) {
            Some(back) => revisions::named(&facts.known, &back.revision)?.clone(),
            None => revisions::ensure(client, &seen.app, &facts.known, material).await?,
        };
        if facts.known.iter().all(|known| known.name != stored.name) {
            facts.known.insert(0, stored.clone());
        }
        facts.stored = Some(stored);
        Ok(())
    }

    /// Writes down what the images of the revision that serves turned out to be, and forgets revisions that are too many.
    async fn settle(&self, seen: &Observed, facts: &mut Facts, name: &str, what: String) -> Result<(), Fault> {
        let (client, host) = (&self.deps.client, host(seen, name)?);
        let stored = facts.stored.clone().ok_or(Fault::Conflict)?;
        if let Some(prepared) = facts.prepared.get(name).filter(|_| stored.images.is_empty()) {
            let session = self.session(host).await?;
            let place = seen.place(Vec::new());
            let digests = app::digests(&session, &place, &stored.name).await.map_err(unreachable)?;
            let stored = revisions::set_digests(client, &seen.app, &stored, &prepared.images, &digests).await?;
            facts.stored = Some(stored);
        }
        let journals = seen.hosts.values().map(|host| &host.journal);
        let running = journals.flat_map(|j| {
            let coming = j.coming.as_ref().map(|coming| &coming.target);
            j.live.iter().chain(coming).map(|target| target.revision.clone()).collect::<Vec<_>>()
        });
        let before = seen.status.previous_revision.iter().map(|revision| revision.name.clone());
        let keep = running.chain([stored.name]).chain(before).collect();
        let limit = usize::try_from(seen.app.spec.revision_history_limit).unwrap_or(0);
        let gone = revisions::prune(client, &seen.app, &facts.known, &keep, limit).await?;
        facts.known.retain(|known| !gone.contains(&known.name));
        let settled = super::memory::Settled { at: Timestamp::now(), what };
        self.memory.of(&seen.app, &host.uid()).set_settled(settled);
        Ok(())
    }

    /// Whether a resolver answers with the TXT record that proves a name.
    async fn is_proven(&self, seen: &Observed, name: &Fqdn) -> bool {
        let proof = names::proof(seen, name);
        let Ok(at) = Fqdn::parse(&proof.name) else { return false };
        for resolver in &self.deps.resolvers {
            if let propagation::Answer::Records(records) = propagation::ask(*resolver, &at, Kind::Txt).await
                && records.contains(&Content::Txt(proof.content.clone()))
            {
                return true;
            }
        }
        false
    }

    async fn prepare(&self, seen: &Observed, facts: &mut Facts, name: &str) -> Result<(), Fault> {
        let host = host(seen, name)?;
        let material = facts.material.as_ref().ok_or(Fault::Conflict)?;
        let node = host.node.as_ref().ok_or(Fault::Conflict)?;
        let around = around(seen, Some(node), self.permits_host_access(node));
        let spec = material.spec(&seen.app, &around);
        let word = format!("{} {} {around:?} {:?}", spec.revision, spec.cause, spec.images);
        let word = format!("{word} {} {} {}", spec.suspend, spec.maintenance, spec.history);
        let memory = self.memory.of(&seen.app, &host.uid());
        if let Some(prepared) = memory.prepared(&word) {
            facts.prepared.insert(name.to_owned(), prepared);
            return Ok(());
        }
        let session = self.session(host).await?;
        let place = seen.place(material.registries());
        match app::prepare(&session, &place, &spec, seen.pool).await {
            Ok(prepared) => {
                let prepared = Arc::new(prepared);
                memory.set_prepared(word, Arc::clone(&prepared));
                facts.prepared.insert(name.to_owned(), prepared);
            }
            Err(NotPrepared::Refused(refusals)) => {
                facts.refused.insert(name.to_owned(), ("ComposeRefused", refusal::message(&refusals)));
            }
            Err(NotPrepared::Full(message)) => {
                facts.refused.insert(name.to_owned(), ("NoSubnetLeft", format!("Node {name}: {message}")));
            }
            Err(NotPrepared::Ssh(error)) => return Err(unreachable(error)),
        }
        Ok(())
    }

    async fn look_at(&self, seen: &Observed, facts: &mut Facts, name: &str) -> Result<(), Fault> {
        let host = host(seen, name)?;
        let wanted = plan::wanted(seen, facts, name, Timestamp::now());
        let looked = async {
            let session = self.session(host).await?;
            app::observe(&session, &seen.place(Vec::new()), wanted.as_ref(), &host.journal).await.map_err(unreachable)
        };
        let looked = match looked.await {
            Ok(looked) => looked,
            // How long a host that is only left is waited for is not decided here.
            Err(fault) if wanted.is_none() => {
                facts.unreached.insert(name.to_owned(), fault.to_string());
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let memory = self.memory.of(&seen.app, &host.uid());
        memory.set_ill(host.journal.live.as_ref().and_then(|live| ill(&looked, &live.revision, name)));
        facts.answers.insert(name.to_owned(), memory.answers());
        facts.looked.insert(name.to_owned(), looked);
        facts.asked.remove(name);
        Ok(())
    }

    /// Says, on the app and on the Node, that the app stays on a host that is out of reach.
    async fn leave(&self, seen: &Observed, facts: &mut Facts, name: &str) -> Result<(), Fault> {
        let node = host(seen, name)?.node.clone().ok_or(Fault::Conflict)?;
        let app = seen.claimant.holder.name.clone();
        let reason = "the host was out of reach when the app was taken away".to_owned();
        let mut leftovers = node.status.as_ref().map(|status| status.leftovers.clone()).unwrap_or_default();
        if leftovers.iter().all(|left| left.app != app) {
            leftovers.push(Leftover { app, reason });
            let version = json!({"resourceVersion": node.metadata.resource_version});
            let patch = Patch::Merge(json!({"metadata": version, "status": {"leftovers": leftovers}}));
            let nodes: Api<Node> = Api::namespaced(self.deps.client.clone(), &seen.claimant.namespace);
            bounded(nodes.patch_status(name, &PatchParams::default(), &patch)).await?;
        }
        let message = format!("Node {name} is out of reach: what the app has there is left behind");
        self.deps.events.publish(seen.app.object_ref(&()), Note::warning("LeftBehind", message));
        facts.given_up.insert(name.to_owned());
        Ok(())
    }

    async fn on_host(
        &self,
        seen: &Observed,
        facts: &mut Facts,
        name: &str,
        action: deploy::Action,
    ) -> Result<Option<AppDeploymentStatus>, Fault> {
        let view = plan::view(seen, facts, name, Timestamp::now()).ok_or(Fault::Conflict)?;
        let host = host(seen, name)?;
        let session = self.session(host).await?;
        // Whatever becomes of it, the host is another one then.
        facts.looked.remove(name);
        let material = facts.material.as_ref();
        let (registries, secrets) = material.map(|m| (m.registries(), m.secrets())).unwrap_or_default();
        let place = seen.place(registries);
        if let deploy::Action::Route(routes) = &action {
            let outcome = self.route(&session, host, &view.journal.names, routes).await;
            return Ok(concluded(seen, name, &view, &action, &outcome));
        }
        let takes_long =
            matches!(action, deploy::Action::Pull(_) | deploy::Action::Up { .. } | deploy::Action::Service { .. });
        if takes_long {
            let work = async move {
                let outcome = run(&session, &place, &view, &action, &secrets).await;
                Finished { view, action, outcome }
            };
            self.jobs.start(Key::of(&*seen.app), name, work);
            return Ok(None);
        }
        let outcome = run(&session, &place, &view, &action, &secrets).await;
        Ok(concluded(seen, name, &view, &action, &outcome))
    }

    /// Replaces the app's entries of a host's routing table.
    async fn route(
        &self,
        session: &Session,
        host: &HostView,
        names: &BTreeSet<String>,
        routes: &BTreeMap<String, Route>,
    ) -> Outcome {
        let _alone = self.deps.hosts.exclusive(&host.uid()).await;
        let lost = |error: ssh::Error| Outcome::Unknown(error.to_string());
        let table = match routes::read(session).await {
            Ok(Some(table)) => table,
            Ok(None) => {
                let message = "the host has no routing table: its Node puts one in place";
                return Outcome::Failed(HostFault::transient("RoutingTableMissing", message));
            }
            Err(error) => return lost(error),
        };
        match table.with(names, routes, host.fqdn.as_ref().map(Fqdn::as_str)) {
            Ok(table) => routes::write(session, &table).await.map_or_else(lost, |()| Outcome::Done),
            Err(error) => Outcome::Failed(HostFault::terminal("SwapRefused", &error.to_string())),
        }
    }

    async fn ask(&self, seen: &Observed, facts: &mut Facts, name: &str, what: Await) -> Result<(), Fault> {
        let host = host(seen, name)?;
        let memory = self.memory.of(&seen.app, &host.uid());
        match what {
            Await::Internal { ids, port, path } => {
                let session = self.session(host).await?;
                memory.answered_inside(app::ask(&session, &seen.place(Vec::new()), &ids, port, &path).await);
            }
            Await::External(names) => {
                let path = host.journal.serving().map(|target| target.health_path.clone()).unwrap_or_default();
                let answers = join_all(names.iter().map(|name| self.answer_outside(host, name, &path))).await;
                memory.answered_outside(names.iter().cloned().zip(answers).collect());
            }
            _ => {}
        }
        facts.answers.insert(name.to_owned(), memory.answers());
        facts.asked.insert(name.to_owned());
        Ok(())
    }

    /// What a name answers at this host, with its certificate verified and its identity.
    async fn answer_outside(&self, host: &HostView, name: &str, path: &str) -> Answer {
        let at = Timestamp::now();
        let (Some(address), Some(node)) = (host.address, &host.node) else {
            return Answer { at, verdict: Err("its Node has no address".to_owned()) };
        };
        let nonce = self.deps.hosts.nonce(node);
        let site = Site { name: name.to_owned(), address, port: 443, path: path.to_owned(), nonce };
        let verdict = self.deps.asker.ask(&site, OUTSIDE).await.map_err(|failure| failure.message);
        Answer { at, verdict }
    }

    async fn session(&self, host: &HostView) -> Result<Arc<Session>, Fault> {
        let node = host.node.as_ref().ok_or(Fault::Conflict)?;
        self.deps.hosts.session(node).await
    }

    fn permits_host_access(&self, node: &Node) -> bool {
        let provider = self.deps.providers.get(&Key::cluster(&node.spec.provider_ref.name));
        provider.is_some_and(|provider| provider.spec.allow_host_access)
    }

    fn zone(&self, name: &str) -> Result<LiveZone, Fault> {
        self.deps.registry.zone(name).ok_or_else(|| Fault::Waiting {
            reason: "ZoneNotReady",
            message: format!("Zone {name} is not connected"),
            after: Duration::from_secs(15),
        })
    }
}

async fn run(
    session: &Session,
    place: &Place,
    view: &deploy::Observed,
    action: &deploy::Action,
    secrets: &[String],
) -> Outcome {
    let progress = |line: String| tracing::debug!(line, "progress");
    app::act(session, place, view.wanted.as_ref(), action, secrets, progress).await
}

/// The status after an action on a host, where that changes anything.
fn concluded(
    seen: &Observed,
    name: &str,
    view: &deploy::Observed,
    action: &deploy::Action,
    outcome: &Outcome,
) -> Option<AppDeploymentStatus> {
    let journal = conclude(view, action, outcome, Timestamp::now());
    (view.journal != journal).then(|| report::noted(seen, name, &journal))
}

/// Whether no server answers with any of the addresses.
async fn forgotten(
    servers: &[std::net::SocketAddr],
    name: &Fqdn,
    addresses: &[std::net::IpAddr],
) -> propagation::Confirmation {
    let mut last = propagation::Confirmation::Confirmed;
    for address in addresses {
        let content = match address {
            std::net::IpAddr::V4(v4) => Content::A(*v4),
            std::net::IpAddr::V6(v6) => Content::Aaaa(*v6),
        };
        last = propagation::withdrawn(servers, name, &content).await;
        if matches!(last, propagation::Confirmation::Differs(_)) {
            return last;
        }
    }
    last
}

/// What the Node says, and how long a revision has to answer from outside.
fn around(seen: &Observed, node: Option<&Node>, host_access: bool) -> Around {
    Around {
        health_path: node.map_or_else(|| "/".to_owned(), |node| node.spec.health_path.clone()),
        host_access,
        external_timeout: plan::patience(seen),
    }
}

fn host<'a>(seen: &'a Observed, name: &str) -> Result<&'a HostView, Fault> {
    seen.hosts.get(name).ok_or(Fault::Conflict)
}

/// A host that cannot be talked to now.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn unreachable(error: ssh::Error) -> Fault {
    Fault::transient("HostUnreachable", error.to_string())
}

/// Who declares records for this app, and whom to wake.
fn owner(seen: &Observed) -> Owner {
    Owner { mark: seen.mark.clone(), wake: format!("AppDeployment/{}", Key::of(&*seen.app)) }
}
