//! What an Environment's plan looks at, and the terms it is decided in.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Resource, ResourceExt};

use super::memory::Memory;
use super::{EnvironmentReconciler, annotation, child_name, slug};
use crate::api::condition;
use crate::api::environment::{Environment, EnvironmentStatus};
use crate::api::names::Fqdn;
use crate::api::node::Node;
use crate::cli;
use crate::runtime::bounded;
use crate::runtime::cache::{Key, version};
use crate::runtime::claims::{Claimant, Reservation, Role, Standing};
use crate::runtime::fault::Fault;

/// What was read at the start of a step.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The Environment.
    pub environment: Arc<Environment>,
    /// The Node that has the child's name, whoever owns it.
    pub node: Option<Arc<Node>>,
    /// The domain of its Zone, if there is such a Zone.
    pub domain: Option<Fqdn>,
    /// How the claim on its name stands, seen by its child.
    pub standing: Standing,
    /// How often everything is looked at again.
    pub resync: Duration,
}

/// What was learned in this pass, while the caches lag behind.
#[derive(Debug, Default)]
pub struct Facts {
    /// The child as the API server just answered.
    pub node: Option<Arc<Node>>,
    /// UID of a child the API server says is gone.
    pub gone: Option<String>,
}

/// The Node that has the child's name.
#[derive(Debug, Clone)]
pub enum Child {
    /// There is none.
    Absent,
    /// This Environment's.
    Own(Arc<Node>),
    /// That of an Environment of the same name, which is gone: garbage collection removes it.
    Earlier,
    /// Somebody else's.
    Foreign,
}

/// When an Environment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its end.
    pub end: Timestamp,
    /// When people are warned: an hour before, or a tenth of its life if that is shorter.
    pub warning: Timestamp,
}

/// Everything a decision is made from, in the terms decisions are made in.
#[derive(Debug, Clone)]
pub struct View {
    /// The Environment.
    pub environment: Arc<Environment>,
    /// Its status.
    pub status: EnvironmentStatus,
    /// What it remembers.
    pub memory: Memory,
    /// Its child.
    pub child: Child,
    /// The domain of its Zone, if there is such a Zone.
    pub domain: Option<Fqdn>,
    /// How the claim on its name stands.
    pub standing: Standing,
    /// How often everything is looked at again.
    pub resync: Duration,
    /// The time of the decision.
    pub now: Timestamp,
}

impl EnvironmentReconciler {
    /// Reads caches. A child that should be there, or whose absence ends a deletion, but is not in the cache is asked
    /// for: the cache may not have seen it yet.
    pub(super) async fn look(&self, environment: &Arc<Environment>) -> Result<Observed, Fault> {
        let namespace = environment.namespace().unwrap_or_default();
        let key = Key::namespaced(&namespace, child_name(&environment.name_any()));
        let status = environment.status.clone().unwrap_or_default();
        let expected = environment.meta().deletion_timestamp.is_some()
            || status.node_ref.is_some()
            || status.journal.as_ref().is_some_and(|j| j.intent.is_some());
        let node = match self.deps.nodes.get(&key) {
            None if expected => {
                let api: Api<Node> = Api::namespaced(self.deps.client.clone(), &namespace);
                bounded(api.get_opt(&key.name)).await?.map(Arc::new)
            }
            cached => cached,
        };
        let zone = self.deps.zones.get(&Key::cluster(&environment.spec.node.zone_ref.name));
        let domain = zone.and_then(|zone| Fqdn::parse(&zone.spec.domain).ok());
        let slug = slug_of(environment, &status, &Memory::of(&status), node.as_deref());
        let name = domain.as_ref().and_then(|domain| Fqdn::under(&slug, domain).ok());
        let standing = name.map_or(Standing::Free, |name| {
            let holder = crate::api::claim::Holder {
                kind: Node::kind(&()).into_owned(),
                name: key.name.clone(),
                uid: node.as_ref().and_then(|n| n.uid()).unwrap_or_default(),
            };
            let claimant = Claimant { namespace: namespace.clone(), holder };
            self.deps.claims.look(&Reservation::of_name(&name), Role::Dns, &claimant)
        });
        Ok(Observed { environment: environment.clone(), node, domain, standing, resync: self.deps.resync })
    }
}

impl View {
    /// The newest that is known.
    #[must_use]
    pub fn new(observed: &Observed, facts: &Facts, now: Timestamp) -> Self {
        let environment = observed.environment.clone();
        let status = environment.status.clone().unwrap_or_default();
        let newest = [&observed.node, &facts.node].into_iter().flatten().max_by_key(|n| version(&***n));
        let child = match newest {
            Some(node) if facts.gone.is_some() && facts.gone == node.uid() => Child::Absent,
            Some(node) => child(&environment, node),
            None => Child::Absent,
        };
        Self {
            memory: Memory::of(&status),
            environment,
            status,
            child,
            domain: observed.domain.clone(),
            standing: observed.standing.clone(),
            resync: observed.resync,
            now,
        }
    }

    /// The Environment's own child, if there is one.
    #[must_use]
    pub fn own(&self) -> Option<&Arc<Node>> {
        if let Child::Own(node) = &self.child { Some(node) } else { None }
    }

    /// Whether the Environment is being deleted.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.environment.meta().deletion_timestamp.is_some()
    }

    /// Whether it is being deleted with `--cascade=orphan`, which the garbage collector has yet to honour.
    #[must_use]
    pub fn orphaning(&self) -> bool {
        self.environment.finalizers().iter().any(|f| f == "orphan")
    }

    /// Whether a person asked for nothing to be done.
    #[must_use]
    pub fn paused(&self) -> bool {
        annotation(&*self.environment, "paused") == Some("true")
    }

    /// The slug in use, or to be used.
    #[must_use]
    pub fn slug(&self) -> String {
        slug_of(&self.environment, &self.status, &self.memory, self.own().map(|n| &**n))
    }

    /// The slug that comes after one more collision.
    #[must_use]
    pub fn next_slug(&self) -> String {
        derived(&self.environment, self.memory.collisions + 1)
    }

    /// The full name, where the zone is known.
    #[must_use]
    pub fn fqdn(&self) -> Option<Fqdn> {
        Fqdn::under(&self.slug(), self.domain.as_ref()?).ok()
    }

    /// When the Environment ends; `None` if it never does.
    ///
    /// # Errors
    /// A sentence naming the field, its value and what would be right.
    pub fn life(&self) -> Result<Option<Life>, String> {
        let spec = &self.environment.spec;
        let born = self.environment.creation_timestamp().map_or(self.now, |t| t.0);
        let end = match (&spec.lifetime, &spec.expires_at) {
            (Some(lifetime), _) => {
                let length = cli::duration(lifetime).map_err(|error| format!("spec.lifetime: {error}"))?;
                let end = SignedDuration::try_from(length).ok().and_then(|length| born.checked_add(length).ok());
                end.ok_or_else(|| {
                    format!("spec.lifetime: `{lifetime}` ends after the year 9999: leave it out for no end")
                })?
            }
            (None, Some(end)) => {
                let end = end.parse().map_err(|_| {
                    format!(
                        "spec.expiresAt: `{end}` cannot be used: write a date and time like `2030-01-31T12:00:00Z`, or \
                         leave it out for no end"
                    )
                })?;
                condition::whole_seconds(end).0
            }
            (None, None) => return Ok(None),
        };
        // Rounded up: times are kept in whole seconds, and a short life has a warning, too.
        let tenth = SignedDuration::from_secs((end.duration_since(born).as_secs().max(0) + 9) / 10);
        let warning = end - tenth.min(SignedDuration::from_hours(1));
        Ok(Some(Life { end, warning }))
    }

    /// Whether its time is over.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.life(), Ok(Some(life)) if life.end <= self.now)
    }
}

/// Whose `node` is.
fn child(environment: &Environment, node: &Arc<Node>) -> Child {
    let Some(owner) = controller(node) else { return Child::Foreign };
    if Some(&owner.uid) == environment.uid().as_ref() {
        Child::Own(node.clone())
    } else if owner.kind == Environment::kind(&()) && owner.name == environment.name_any() {
        Child::Earlier
    } else {
        Child::Foreign
    }
}

/// The owner that controls `node`.
pub(super) fn controller(node: &Node) -> Option<&OwnerReference> {
    node.owner_references().iter().find(|owner| owner.controller == Some(true))
}

/// Whether there is a VM behind `node`.
pub(super) fn has_vm(node: &Node) -> bool {
    node.status.as_ref().is_some_and(|s| s.vm_id.is_some() || condition::is_true(&s.conditions, "Provisioned"))
}

/// The slug: the given one; that of a child with a VM, which is a fact that outlives a lost status; the recorded one;
/// else that of any child, else a derived one.
fn slug_of(environment: &Environment, status: &EnvironmentStatus, memory: &Memory, node: Option<&Node>) -> String {
    let own = node.filter(|n| controller(n).is_some_and(|o| Some(&o.uid) == environment.uid().as_ref()));
    let in_use = own.filter(|n| has_vm(n)).and_then(|n| n.spec.hostname.clone());
    let given = environment.spec.slug.clone().or(in_use).or_else(|| status.slug.clone());
    given.or_else(|| own?.spec.hostname.clone()).unwrap_or_else(|| derived(environment, memory.collisions))
}

fn derived(environment: &Environment, collisions: u32) -> String {
    let namespace = environment.namespace().unwrap_or_default();
    slug::derive(&namespace, &environment.name_any(), &environment.spec.node.zone_ref.name, collisions)
}
