//! Claims: who holds a name. A [`HostnameClaim`] is named after what it reserves, so the API server makes the
//! reservation atomic; everything else here only reads and compares.
//!
//! A claim belongs to one namespace and has at most one holder a [`Role`]: what publishes a name and what serves it may
//! be two objects of that namespace. It goes when both roles are free. Whoever published the name leaves a time behind
//! until which other namespaces are kept out, and a claim that nobody holds before that time is a tombstone.

use std::net::IpAddr;

use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::bounded;
use super::cache::{Cache, Key};
use super::fault::Fault;
use crate::api::claim::{ClaimState, Holder, Holders, HostnameClaim, HostnameClaimSpec};
use crate::api::condition::whole_seconds;
use crate::api::names::Fqdn;

/// A name to reserve: the claim's object name, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Name of the claim.
    pub name: String,
    /// What is reserved.
    pub fqdn: String,
}

impl Reservation {
    /// A host name.
    #[must_use]
    pub fn of_name(fqdn: &Fqdn) -> Self {
        Self { name: fqdn.claim_name(), fqdn: fqdn.to_string() }
    }

    /// A zone's domain: one domain has one writer.
    #[must_use]
    pub fn of_zone(domain: &str) -> Self {
        Self { name: format!("rs--zone.{domain}"), fqdn: domain.to_owned() }
    }

    /// A group's slug: one in the whole cluster.
    #[must_use]
    pub fn of_slug(slug: &str) -> Self {
        Self { name: format!("rs--slug.{slug}"), fqdn: slug.to_owned() }
    }

    /// A Worker of an account: it belongs to one group.
    #[must_use]
    pub fn of_worker(account: &str, name: &str) -> Self {
        Self { name: format!("rs--worker.{account}.{name}"), fqdn: name.to_owned() }
    }

    /// A static host's address: it belongs to one Node. IPv6 is written with dashes.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        let dashed = match address {
            IpAddr::V4(v4) => v4.to_string(),
            // Written out in full, so that one address has one name and no label is empty.
            IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:04x}")).join("-"),
        };
        Self { name: format!("rs--ip.{dashed}"), fqdn: address.to_string() }
    }
}

/// Who asks: an object, in a namespace (empty for a cluster-wide one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// Its namespace.
    pub namespace: String,
    /// The object.
    pub holder: Holder,
}

/// How a name stands, seen by one claimant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody holds it, or nobody who still exists.
    Free,
    /// The claimant holds it.
    Ours,
    /// Another object holds it.
    Taken {
        /// That object's namespace.
        namespace: String,
        /// That object.
        holder: Holder,
    },
    /// It was released by another namespace and is kept free until its record has left every cache.
    Reserved {
        /// The namespace that held it.
        namespace: String,
        /// When it is free.
        until: Timestamp,
    },
}

/// What an object does with a name that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It publishes the name, or reserves what is no host name.
    Dns,
    /// It serves the name.
    Http,
}

impl Role {
    /// The other one.
    fn other(self) -> Self {
        match self {
            Self::Dns => Self::Http,
            Self::Http => Self::Dns,
        }
    }

    fn holder(self, holders: &Holders) -> Option<&Holder> {
        match self {
            Self::Dns => holders.dns.as_ref(),
            Self::Http => holders.http.as_ref(),
        }
    }

    /// `holders`, but with this one in this role.
    fn held_by(self, holders: &Holders, holder: Option<Holder>) -> Holders {
        match self {
            Self::Dns => Holders { dns: holder, http: holders.http.clone() },
            Self::Http => Holders { dns: holders.dns.clone(), http: holder },
        }
    }
}

/// How `claim` stands for `claimant` in a role (pure). A holder of the same namespace, kind and name but another UID is
/// the same object in an earlier life, whose claim its successor inherits. Whoever holds the name in any role keeps
/// other namespaces out of both.
#[must_use]
pub fn standing(claim: Option<&HostnameClaim>, role: Role, claimant: &Claimant, now: Timestamp) -> Standing {
    let Some(claim) = claim else { return Standing::Free };
    let (namespace, holders) = (&claim.spec.namespace, &claim.spec.holders);
    let taken = |holder: &Holder| Standing::Taken { namespace: namespace.clone(), holder: holder.clone() };
    let (own, other) = (role.holder(holders), role.other().holder(holders));
    if own.is_some_and(|holder| holder.uid == claimant.holder.uid) {
        return Standing::Ours;
    }
    if *namespace == claimant.namespace {
        let is_heir = |holder: &Holder| holder.kind == claimant.holder.kind && holder.name == claimant.holder.name;
        return own.filter(|holder| !is_heir(holder)).map_or(Standing::Free, taken);
    }
    match (own.or(other), free_at(claim, now)) {
        (Some(holder), _) => taken(holder),
        (None, Some(until)) => Standing::Reserved { namespace: namespace.clone(), until },
        (None, None) => Standing::Free,
    }
}

/// Until when a claim that nobody holds keeps other namespaces out, if that is still to come.
fn free_at(claim: &HostnameClaim, now: Timestamp) -> Option<Timestamp> {
    let until = claim.status.as_ref()?.free_at.as_ref()?.0;
    (until > now).then_some(until)
}

/// Reads and writes claims.
#[derive(Clone)]
pub struct Claims {
    api: Api<HostnameClaim>,
    cache: Cache<HostnameClaim>,
}

impl Claims {
    /// Over the API and a cache of all claims.
    #[must_use]
    pub fn new(client: Client, cache: Cache<HostnameClaim>) -> Self {
        Self { api: Api::all(client), cache }
    }

    /// How a name stands, from the cache: may lag, so nothing is published on its word but `Ours`.
    #[must_use]
    pub fn look(&self, reservation: &Reservation, role: Role, claimant: &Claimant) -> Standing {
        let claim = self.cache.get(&Key::cluster(&reservation.name));
        standing(claim.as_deref(), role, claimant, Timestamp::now())
    }

    /// Takes a role of a name if it is free: one create, or one compare-and-swap of a claim whose role is free.
    ///
    /// # Errors
    /// Those of the API server; [`Fault::Conflict`] when somebody else was quicker.
    pub async fn take(&self, reservation: &Reservation, role: Role, claimant: &Claimant) -> Result<Standing, Fault> {
        let fresh = HostnameClaimSpec {
            fqdn: reservation.fqdn.clone(),
            namespace: claimant.namespace.clone(),
            holders: role.held_by(&Holders::default(), Some(claimant.holder.clone())),
        };
        let metadata = ObjectMeta { name: Some(reservation.name.clone()), ..ObjectMeta::default() };
        let claim = HostnameClaim { metadata, spec: fresh.clone(), status: None };
        match tokio::time::timeout(super::REQUEST_TIMEOUT, self.api.create(&PostParams::default(), &claim)).await {
            Ok(Ok(_)) => return Ok(Standing::Ours),
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time")),
        }
        let Some(found) = bounded(self.api.get_opt(&reservation.name)).await? else { return Err(Fault::Conflict) };
        let standing = standing(Some(&found), role, claimant, Timestamp::now());
        if standing != Standing::Free {
            return Ok(standing);
        }
        // Who has the other role stays; a claim of another namespace is free only if nobody has.
        let spec = if found.spec.namespace == claimant.namespace {
            let holders = role.held_by(&found.spec.holders, Some(claimant.holder.clone()));
            HostnameClaimSpec { holders, ..fresh }
        } else {
            fresh
        };
        // The time of a tombstone goes with the next record, since until the claim is taken it keeps others out.
        self.put(&found, spec, json!({"state": "Held"})).await?;
        Ok(Standing::Ours)
    }

    /// Hands these roles of a name from the object with the UID `from` to another of its namespace, in one write, so that
    /// nobody else gets it in between; of these roles one that nobody has goes along. Where that object has none of them,
    /// or a third has one, nothing changes, and the answer is how the name stands.
    ///
    /// # Errors
    /// Those of the API server; [`Fault::Conflict`] when the claim was changed meanwhile.
    pub async fn hand_over(
        &self,
        reservation: &Reservation,
        roles: &[Role],
        from: &str,
        to: &Claimant,
    ) -> Result<Standing, Fault> {
        let found = bounded(self.api.get_opt(&reservation.name)).await?;
        let now = Timestamp::now();
        let is_from = |role: Role| {
            let claim = found.as_ref().filter(|claim| claim.spec.namespace == to.namespace);
            claim.and_then(|claim| role.holder(&claim.spec.holders)).is_some_and(|holder| holder.uid == from)
        };
        let open = roles.iter().map(|role| (*role, standing(found.as_ref(), *role, to, now)));
        let open: Vec<(Role, Standing)> = open.filter(|(_, standing)| *standing != Standing::Ours).collect();
        let third = open.iter().find(|(role, standing)| *standing != Standing::Free && !is_from(*role));
        let nothing = open.first().filter(|_| !open.iter().any(|(role, _)| is_from(*role)));
        if let Some((_, standing)) = third.or(nothing) {
            return Ok(standing.clone());
        }
        if let Some(claim) = found.as_ref().filter(|_| !open.is_empty()) {
            let handed = |holders, (role, _): &(Role, Standing)| role.held_by(&holders, Some(to.holder.clone()));
            let holders = open.iter().fold(claim.spec.holders.clone(), handed);
            self.put(claim, HostnameClaimSpec { holders, ..claim.spec.clone() }, json!({"state": "Held"})).await?;
        }
        Ok(Standing::Ours)
    }

    /// Releases a role of a name held by `uid`. With `until` in the future, who published it keeps other namespaces out
    /// until then: by a tombstone, which the sweep removes, as soon as nobody holds the name in the other role either. A
    /// claim that is gone, or another's, is left alone.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn release(
        &self,
        reservation: &Reservation,
        role: Role,
        uid: &str,
        until: Option<Timestamp>,
    ) -> Result<(), Fault> {
        let Some(claim) = bounded(self.api.get_opt(&reservation.name)).await? else { return Ok(()) };
        if role.holder(&claim.spec.holders).is_none_or(|holder| holder.uid != uid) {
            return Ok(());
        }
        let holders = role.held_by(&claim.spec.holders, None);
        self.leave(&claim, holders, until.filter(|_| role == Role::Dns)).await
    }

    /// Removes tombstones that are over, and holders that `lives` denies, with their claims if nobody else holds those.
    /// Returns how many claims that concerned.
    ///
    /// # Errors
    /// Those of the API server; what was removed before stays removed.
    pub async fn sweep(&self, lives: impl Fn(&str, &Holder) -> bool) -> Result<usize, Fault> {
        let now = Timestamp::now();
        let mut swept = 0;
        for claim in self.cache.all() {
            let mut holders = claim.spec.holders.clone();
            for holder in [&mut holders.dns, &mut holders.http] {
                holder.take_if(|holder| !lives(&claim.spec.namespace, holder));
            }
            let is_over = holders == Holders::default() && free_at(&claim, now).is_none();
            if is_over || holders != claim.spec.holders {
                self.leave(&claim, holders, None).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Leaves a claim to these of its holders. To none: it goes, or stays as a tombstone until the later of `until` and
    /// of what an earlier holder left behind.
    async fn leave(&self, claim: &HostnameClaim, holders: Holders, until: Option<Timestamp>) -> Result<(), Fault> {
        let now = Timestamp::now();
        let until = until.filter(|until| *until > now).max(free_at(claim, now));
        let is_held = holders != Holders::default();
        if !is_held && until.is_none() {
            return self.delete(claim).await;
        }
        let mut status = json!({"state": if is_held { "Held" } else { "Tombstone" }});
        if holders.dns.is_none() {
            status["record"] = json!(null);
            status["freeAt"] = json!(until.map(whole_seconds));
        }
        self.put(claim, HostnameClaimSpec { holders, ..claim.spec.clone() }, status).await
    }

    /// Says in the claim's status what is published at the name.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn set_record(&self, reservation: &Reservation, record: &str) -> Result<(), Fault> {
        let Some(claim) = self.cache.get(&Key::cluster(&reservation.name)) else { return Ok(()) };
        let known = claim.status.as_ref().and_then(|s| s.record.as_deref());
        let is_tombstone = claim.status.as_ref().is_some_and(|s| s.state == ClaimState::Tombstone);
        // What nobody publishes any more is said too late, and would take the time away that keeps others out.
        if known == Some(record) || is_tombstone || claim.spec.holders.dns.is_none() {
            return Ok(());
        }
        self.set_status(&claim, json!({"record": record, "freeAt": null})).await.map(drop)
    }

    /// Writes a spec that differs from the claim's, in one write, and before it the status that goes with it: a claim
    /// without a holder and without a time would be free for everybody, and one that was taken is not looked at again.
    async fn put(
        &self,
        claim: &HostnameClaim,
        spec: HostnameClaimSpec,
        mut status: serde_json::Value,
    ) -> Result<(), Fault> {
        status["observedGeneration"] = json!(claim.metadata.generation.unwrap_or(1) + 1);
        let claim = HostnameClaim { spec, ..self.set_status(claim, status).await? };
        bounded(self.api.replace(&claim.name_any(), &PostParams::default(), &claim)).await.map(drop)
    }

    async fn set_status(&self, claim: &HostnameClaim, status: serde_json::Value) -> Result<HostnameClaim, Fault> {
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": claim.resource_version()}, "status": status}));
        bounded(self.api.patch_status(&claim.name_any(), &PatchParams::default(), &patch)).await
    }

    /// Deletes exactly this version of a claim: one that was taken meanwhile stays.
    async fn delete(&self, claim: &HostnameClaim) -> Result<(), Fault> {
        let preconditions = Preconditions { uid: claim.uid(), resource_version: claim.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match tokio::time::timeout(super::REQUEST_TIMEOUT, self.api.delete(&claim.name_any(), &params)).await {
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(result) => result.map(drop).map_err(Fault::from),
            Err(_) => Err(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time")),
        }
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
