//! Claims: who holds a name. A [`HostnameClaim`] is named after what it reserves, so the API server makes the
//! reservation atomic; everything else here only reads and compares.

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

/// How `claim` stands for `claimant` (pure). A holder of the same namespace, kind and name but another UID is the same
/// object in an earlier life, whose claim its successor inherits.
#[must_use]
pub fn standing(claim: Option<&HostnameClaim>, claimant: &Claimant, now: Timestamp) -> Standing {
    let Some(claim) = claim else { return Standing::Free };
    let same_namespace = claim.spec.namespace == claimant.namespace;
    match &claim.spec.holders.dns {
        Some(holder) if holder.uid == claimant.holder.uid => Standing::Ours,
        Some(holder)
            if same_namespace && holder.kind == claimant.holder.kind && holder.name == claimant.holder.name =>
        {
            Standing::Free
        }
        Some(holder) => Standing::Taken { namespace: claim.spec.namespace.clone(), holder: holder.clone() },
        None => match claim.status.as_ref().and_then(|s| s.free_at.as_ref()) {
            Some(until) if until.0 > now && !same_namespace => {
                Standing::Reserved { namespace: claim.spec.namespace.clone(), until: until.0 }
            }
            _ => Standing::Free,
        },
    }
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
    pub fn look(&self, reservation: &Reservation, claimant: &Claimant) -> Standing {
        let claim = self.cache.get(&Key::cluster(&reservation.name));
        standing(claim.as_deref(), claimant, Timestamp::now())
    }

    /// Takes a name if it is free: one create, or one compare-and-swap of a released claim.
    ///
    /// # Errors
    /// Those of the API server; [`Fault::Conflict`] when somebody else was quicker.
    pub async fn take(&self, reservation: &Reservation, claimant: &Claimant) -> Result<Standing, Fault> {
        let claim = HostnameClaim {
            metadata: ObjectMeta { name: Some(reservation.name.clone()), ..ObjectMeta::default() },
            spec: HostnameClaimSpec {
                fqdn: reservation.fqdn.clone(),
                namespace: claimant.namespace.clone(),
                holders: Holders { dns: Some(claimant.holder.clone()), http: None },
            },
            status: None,
        };
        match tokio::time::timeout(super::REQUEST_TIMEOUT, self.api.create(&PostParams::default(), &claim)).await {
            Ok(Ok(_)) => return Ok(Standing::Ours),
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time")),
        }
        let Some(found) = bounded(self.api.get_opt(&reservation.name)).await? else { return Err(Fault::Conflict) };
        let standing = standing(Some(&found), claimant, Timestamp::now());
        if standing == Standing::Free {
            // The status first: a taken claim is not looked at again. Its time goes with the next record, since until it is
            // taken it keeps others out.
            let generation = found.metadata.generation.unwrap_or(1) + 1;
            let status = json!({"observedGeneration": generation, "state": "Held"});
            let found = HostnameClaim { spec: claim.spec, ..self.set_status(&found, status).await? };
            bounded(self.api.replace(&reservation.name, &PostParams::default(), &found)).await?;
            return Ok(Standing::Ours);
        }
        Ok(standing)
    }

    /// Releases a name held by `uid`. With `until` in the future a tombstone keeps other namespaces out until then; the
    /// sweep removes it. A claim that is gone, or another's, is left alone.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn release(&self, reservation: &Reservation, uid: &str, until: Option<Timestamp>) -> Result<(), Fault> {
        let Some(claim) = bounded(self.api.get_opt(&reservation.name)).await? else { return Ok(()) };
        if claim.spec.holders.dns.as_ref().is_none_or(|holder| holder.uid != uid) {
            return Ok(());
        }
        let keep = until.filter(|until| *until > Timestamp::now());
        match keep {
            None => self.delete(&claim).await,
            Some(until) => {
                // The status first: a claim without a holder and without a time would be free for everybody.
                let generation = claim.metadata.generation.unwrap_or(1) + 1;
                let status = json!({
                    "observedGeneration": generation, "state": "Tombstone", "record": null, "freeAt": whole_seconds(until),
                });
                let claim = self.set_status(&claim, status).await?;
                let patch = Patch::Merge(json!({
                    "metadata": {"resourceVersion": claim.resource_version()},
                    "spec": {"holders": {"dns": null}},
                }));
                bounded(self.api.patch(&reservation.name, &PatchParams::default(), &patch)).await.map(drop)
            }
        }
    }

    /// Removes tombstones that are over, and claims whose holder `lives` denies. Returns how many.
    ///
    /// # Errors
    /// Those of the API server; what was removed before stays removed.
    pub async fn sweep(&self, lives: impl Fn(&str, &Holder) -> bool) -> Result<usize, Fault> {
        let now = Timestamp::now();
        let mut swept = 0;
        for claim in self.cache.all() {
            let over = match &claim.spec.holders.dns {
                Some(holder) => !lives(&claim.spec.namespace, holder),
                None => claim.status.as_ref().and_then(|s| s.free_at.as_ref()).is_none_or(|until| until.0 <= now),
            };
            if over && claim.spec.holders.http.is_none() {
                self.delete(&claim).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Says in the claim's status what is published at the name.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn set_record(&self, reservation: &Reservation, record: &str) -> Result<(), Fault> {
        let Some(claim) = self.cache.get(&Key::cluster(&reservation.name)) else { return Ok(()) };
        let known = claim.status.as_ref().and_then(|s| s.record.as_deref());
        if known == Some(record) || claim.status.as_ref().is_some_and(|s| s.state == ClaimState::Tombstone) {
            return Ok(());
        }
        self.set_status(&claim, json!({"record": record, "freeAt": null})).await.map(drop)
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
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::super::fake_api::FakeApi;
    use super::*;
    use crate::api::claim::HostnameClaimStatus;
    use crate::api::kstatus::{Verdict, verdict};
    use crate::api::schema;

    fn claimant(namespace: &str, name: &str, uid: &str) -> Claimant {
        let holder = Holder { kind: "Node".into(), name: name.into(), uid: uid.into() };
        Claimant { namespace: namespace.into(), holder }
    }

    fn held_by(who: &Claimant) -> HostnameClaim {
        let holders = Holders { dns: Some(who.holder.clone()), http: None };
        let spec = HostnameClaimSpec { fqdn: "a.example.com".into(), namespace: who.namespace.clone(), holders };
        HostnameClaim::new("a.example.com", spec)
    }

    #[test]
    fn a_claim_is_its_holders_and_taken_for_everybody_else() {
        let (now, us) = (Timestamp::now(), claimant("shop", "a", "1"));
        let claim = held_by(&us);
        assert_eq!(standing(Some(&claim), &us, now), Standing::Ours);
        for other in [claimant("shop", "b", "2"), claimant("blog", "a", "2")] {
            let taken = Standing::Taken { namespace: "shop".into(), holder: us.holder.clone() };
            assert_eq!(standing(Some(&claim), &other, now), taken);
        }
    }

    #[test]
    fn an_object_created_again_inherits_the_claim_of_its_earlier_life() {
        let claim = held_by(&claimant("shop", "a", "1"));
        assert_eq!(standing(Some(&claim), &claimant("shop", "a", "2"), Timestamp::now()), Standing::Free);
    }

    #[test]
    fn a_tombstone_keeps_only_other_namespaces_out_and_only_until_its_time() {
        let now = Timestamp::from_second(1_000).unwrap();
        let later = Timestamp::from_second(1_300).unwrap();
        let mut claim = held_by(&claimant("shop", "a", "1"));
        claim.spec.holders.dns = None;
        let status =
            HostnameClaimStatus { state: ClaimState::Tombstone, free_at: Some(Time(later)), ..Default::default() };
        claim.status = Some(status);
        let (own, other) = (claimant("shop", "b", "2"), claimant("blog", "c", "3"));
        assert_eq!(standing(Some(&claim), &own, now), Standing::Free);
        let reserved = Standing::Reserved { namespace: "shop".into(), until: later };
        assert_eq!(standing(Some(&claim), &other, now), reserved);
        assert_eq!(standing(Some(&claim), &other, later), Standing::Free);
    }

    /// The claim as it stands, and what kstatus makes of it; nobody ever says more of one.
    fn stands(api: &FakeApi) -> (String, Verdict) {
        let claim = api.get("hostnameclaims/a.example.com").unwrap();
        assert_eq!(schema::faults(schema::of("HostnameClaim"), &claim), Vec::<String>::new());
        assert!(claim["status"]["conditions"].is_null());
        (claim["status"]["state"].as_str().unwrap().to_owned(), verdict(&claim))
    }

    #[tokio::test]
    async fn a_claim_is_current_in_every_state_though_any_write_on_its_way_there_failed() {
        let name = Reservation::of_name(&Fqdn::parse("a.example.com").unwrap());
        let claimants = ["1", "2", "3"].map(|uid| claimant("shop", "a", uid));
        let until = |seconds| Some(Timestamp::now() + jiff::SignedDuration::from_secs(seconds));
        // Which of the writes fails, in the order they come.
        for broken in 0..10 {
            let api = FakeApi::default();
            let claims = Claims::new(api.client(), Cache::of([]));
            let (count, met) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
            let refused = met.clone();
            api.refuse(move |method, _| {
                let fails = method != "GET" && count.fetch_add(1, Relaxed) == broken;
                refused.fetch_or(fails, Relaxed);
                fails.then_some(500)
            });
            // A pass that failed is made again, as the driver does.
            let take = async |claimant: &Claimant| match claims.take(&name, claimant).await {
                Err(Fault::Transient { .. }) => claims.take(&name, claimant).await,
                result => result,
            };
            assert_eq!(take(&claimants[0]).await, Ok(Standing::Ours));
            assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current), "made, {broken}");
            assert_eq!(take(&claimants[1]).await, Ok(Standing::Ours), "made anew");
            assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current), "inherited, {broken}");
            if claims.release(&name, "2", until(300)).await.is_err() {
                claims.release(&name, "2", until(300)).await.unwrap();
            }
            assert_eq!(stands(&api), ("Tombstone".to_owned(), Verdict::Current), "released, {broken}");
            let other = claimant("blog", "b", "4");
            assert!(matches!(take(&other).await, Ok(Standing::Reserved { .. })), "{broken}");
            assert_eq!(take(&claimants[2]).await, Ok(Standing::Ours));
            assert_eq!(stands(&api), ("Held".to_owned(), Verdict::Current), "taken again, {broken}");
            assert!(matches!(take(&other).await, Ok(Standing::Taken { .. })), "{broken}");
            assert!(met.load(Relaxed), "there is no write {broken}");
        }
    }

    #[tokio::test]
    async fn a_tombstone_whose_taker_was_cut_off_still_keeps_other_namespaces_out() {
        let name = Reservation::of_name(&Fqdn::parse("a.example.com").unwrap());
        let (api, us) = (FakeApi::default(), claimant("shop", "a", "1"));
        let claims = Claims::new(api.client(), Cache::of([]));
        claims.take(&name, &us).await.unwrap();
        claims.release(&name, "1", Some(Timestamp::now() + jiff::SignedDuration::from_secs(300))).await.unwrap();
        api.refuse(|method, _| (method == "PUT").then_some(500));
        assert!(claims.take(&name, &us).await.is_err());
        let standing = claims.take(&name, &claimant("blog", "b", "2")).await;
        assert!(matches!(standing, Ok(Standing::Reserved { .. })), "{standing:?}");
    }

    #[test]
    fn an_ipv6_address_has_one_claim_name_however_it_is_written() {
        let names = ["2001:db8::7", "2001:0db8:0:0:0:0:0:7"].map(|a| Reservation::of_address(a.parse().unwrap()).name);
        assert_eq!(names, ["rs--ip.2001-0db8-0000-0000-0000-0000-0000-0007"; 2].map(String::from));
    }
}
