//! What is done to an object, when that has converged, and what must hold then.

use std::net::Ipv4Addr;
use std::time::Duration;

use cloudsim::Sim;
use cloudsim::cloudflare::RecordEdit;
use serde_json::{Value, json};
use support::{ApiProxy, Operator, condition, unique, within};

use crate::groups::{Change, GROUP, Groups};
use crate::sweep::{self, Ground};
use crate::workers;
use crate::world::{CLAIM, CONVERGED, DOMAIN, ENVIRONMENT, NAMESPACE, NODE, RESYNC, World, environment, node};

impl Ground for World {
    const CONVERGED: Duration = CONVERGED;

    fn sim(&self) -> &Sim {
        &self.sim
    }

    fn proxy(&self) -> &ApiProxy {
        &self.proxy
    }

    fn operator(&mut self) -> &mut Operator {
        &mut self.operator
    }

    fn cloud_writes(&self, since: u64) -> Vec<String> {
        self.cloud_writes(since)
    }

    async fn quiet(&self, duration: Duration) -> Result<(), String> {
        self.quiet(duration).await
    }
}

/// One change of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scenario {
    CreateNode,
    DeleteNode,
    ReplaceNode,
    CreateEnvironment,
    ExpireEnvironment,
    Group(Change),
    /// Of a group with a Worker.
    Worker(Change),
}

/// Objects that an earlier case left Ready, for cases that begin with one.
#[derive(Debug)]
pub struct Pool {
    nodes: Vec<String>,
    environments: Vec<String>,
    groups: Groups,
    workers: Groups,
}

impl Default for Pool {
    fn default() -> Self {
        let (groups, workers) = (Groups::new("g"), Groups::new(workers::PREFIX));
        Self { nodes: Vec::new(), environments: Vec::new(), groups, workers }
    }
}

impl sweep::Scenario for Scenario {
    type World = World;
    type Pool = Pool;

    async fn prepare(self, world: &World, pool: &mut Pool) -> Result<String, String> {
        let (kind, ready) = match self {
            Self::CreateNode => return Ok(unique("n")),
            Self::CreateEnvironment => return Ok(unique("e")),
            Self::DeleteNode | Self::ReplaceNode => (NODE, pool.nodes.pop()),
            Self::ExpireEnvironment => (ENVIRONMENT, pool.environments.pop()),
            Self::Group(change) => return change.prepare(world, &mut pool.groups).await,
            Self::Worker(change) => return change.prepare(world, &mut pool.workers).await,
        };
        if let Some(name) = ready {
            return Ok(name);
        }
        let name = unique(if kind == NODE { "n" } else { "e" });
        world.cluster.apply(&if kind == NODE { node(&name) } else { environment(&name) }).await;
        world.ready(kind, &name).await?;
        Ok(name)
    }

    fn keep(self, name: &str, pool: &mut Pool) {
        match self {
            Self::CreateNode | Self::ReplaceNode => pool.nodes.push(name.to_owned()),
            Self::CreateEnvironment => pool.environments.push(name.to_owned()),
            Self::Group(change) => change.keep(name, &mut pool.groups),
            Self::Worker(change) => change.keep(name, &mut pool.workers),
            Self::DeleteNode | Self::ExpireEnvironment => {}
        }
    }

    async fn trigger(self, world: &World, name: &str) {
        let (cluster, at) = (&world.cluster, Some(NAMESPACE));
        match self {
            Self::CreateNode => drop(cluster.apply(&node(name)).await),
            Self::CreateEnvironment => drop(cluster.apply(&environment(name)).await),
            Self::DeleteNode => cluster.delete_object(NODE, at, name).await,
            Self::ReplaceNode => {
                let token = json!({"metadata": {"annotations": {"roadstead.dev/replace": unique("order")}}});
                cluster.patch(NODE, at, name, &token).await;
            }
            Self::ExpireEnvironment => {
                let past = json!({"spec": {"expiresAt": "2020-01-01T00:00:00Z"}});
                cluster.patch(ENVIRONMENT, at, name, &past).await;
            }
            Self::Group(change) | Self::Worker(change) => change.trigger(world, name).await,
        }
    }

    async fn look(self, world: &World, name: &str) -> Result<(), String> {
        if let Self::Group(change) | Self::Worker(change) = self {
            return change.look(world, name).await;
        }
        let object = world.cluster.get(self.kind(), Some(NAMESPACE), name).await;
        let Some(object) = object else {
            return if self == Self::DeleteNode { Ok(()) } else { Err("no such object".to_owned()) };
        };
        let status = &object.data["status"];
        let ready = condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True");
        let current = status["observedGeneration"].as_i64() == object.metadata.generation;
        let done = match self {
            Self::DeleteNode | Self::Group(_) | Self::Worker(_) => false,
            Self::CreateNode | Self::CreateEnvironment => ready && current,
            Self::ReplaceNode => {
                let annotations = object.metadata.annotations.clone().unwrap_or_default();
                let ordered = annotations.get("roadstead.dev/replace").map(String::as_str);
                let journal = &status["journal"];
                // The resolver answers with the former address for a whole TTL; nothing here is about that wait.
                if condition(&object, "Ready").is_some_and(|ready| ready["reason"] == "Propagating") {
                    world.sim.clock.advance(jiff::SignedDuration::from_mins(2));
                }
                ready && current && journal["replaced"].as_str() == ordered && journal["retired"].is_null()
            }
            Self::ExpireEnvironment => {
                let child = world.cluster.get(NODE, Some(NAMESPACE), &format!("{name}-vm")).await;
                current && status["phase"] == "Expired" && child.is_none()
            }
        };
        if done { Ok(()) } else { Err(format!("{:?} {status}", object.metadata.finalizers)) }
    }

    async fn oracles(self, world: &World, _: &mut Pool, name: &str) -> Vec<String> {
        if let Self::Group(change) | Self::Worker(change) = self {
            let complaints = change.complaints(world, name).await;
            return self.at_rest(world, complaints, change.repaired(name)).await;
        }
        let mut complaints = Vec::new();
        let fqdn = format!("{name}.{DOMAIN}");
        let (droplets, records) = (world.droplets_of(name), world.records_at(&fqdn));
        let seen = || {
            let droplets: Vec<_> = droplets.iter().map(|d| (d.id, &d.name, d.public4, d.deleting)).collect();
            let records: Vec<_> = records.iter().map(|r| (&r.id, &r.content, &r.comment)).collect();
            format!("VMs {droplets:?}, records {records:?}")
        };
        let exists = !matches!(self, Self::DeleteNode | Self::ExpireEnvironment);
        let wanted = usize::from(exists);
        if droplets.len() != wanted {
            complaints.push(format!("{} VMs instead of {wanted}: {}", droplets.len(), seen()));
        }
        if records.len() != wanted {
            complaints.push(format!("{} records instead of {wanted}: {}", records.len(), seen()));
        }
        if let (true, Some(droplet), Some(record)) = (exists, droplets.first(), records.first()) {
            let ours = record.comment.as_deref().is_some_and(|comment| comment.starts_with("roadstead/1 c=test1 "));
            let points = droplet.public4.map(|ip| ip.to_string()).as_deref() == Some(&record.content);
            if !ours || !points || droplet.deleting {
                complaints.push(format!("the record is not ours, or not at the VM's address: {}", seen()));
            }
            complaints.extend(self.told(world, name, &droplet.id.to_string(), &record.id).await);
        }
        complaints.extend(self.claim(world, &fqdn, exists).await);
        self.at_rest(world, complaints, exists.then_some(fqdn)).await
    }
}

impl Scenario {
    fn kind(self) -> &'static str {
        match self {
            Self::CreateNode | Self::DeleteNode | Self::ReplaceNode => NODE,
            Self::CreateEnvironment | Self::ExpireEnvironment => ENVIRONMENT,
            Self::Group(_) | Self::Worker(_) => GROUP,
        }
    }

    /// What must hold of every object, after what was found of this one: others' things are as they were, and nothing more
    /// is written. A record at `repaired` shows that the operator is alive, or an existing host's.
    async fn at_rest(self, world: &World, mut complaints: Vec<String>, repaired: Option<String>) -> Vec<String> {
        complaints.extend(world.touched());
        complaints.extend(world.dangled());
        if complaints.is_empty() {
            complaints.extend(self.stays(world, repaired.as_deref().unwrap_or("keeper.example.com")).await.err());
        }
        complaints
    }

    /// The status must name the VM and the record that are there.
    async fn told(self, world: &World, name: &str, vm: &str, record: &str) -> Option<String> {
        let object = world.cluster.get(self.kind(), Some(NAMESPACE), name).await?;
        let status = &object.data["status"];
        let told = match self.kind() {
            NODE => (&status["vmID"], &status["record"]["id"]),
            _ => (&status["vmId"], &status["dnsRecordId"]),
        };
        let right = told == (&Value::from(vm), &Value::from(record));
        (!right).then(|| format!("the status names {told:?} instead of VM {vm} and record {record}"))
    }

    /// The name must be claimed while it is published, and free, or kept for its namespace, afterwards.
    async fn claim(self, world: &World, fqdn: &str, exists: bool) -> Option<String> {
        let claim = world.cluster.get(CLAIM, None, fqdn).await;
        let holder = claim.as_ref().map(|claim| &claim.data["spec"]["holders"]["dns"]).filter(|dns| !dns.is_null());
        let right = match (exists, holder) {
            (true, holder) => holder.is_some(),
            (false, None) => claim.as_ref().is_none_or(|claim| claim.data["status"]["state"] == "Tombstone"),
            // An expired Environment may keep its name for the day it is extended.
            (false, Some(holder)) => self == Self::ExpireEnvironment && holder["kind"] == "Environment",
        };
        (!right).then(|| format!("claim {fqdn}: {:?}", claim.map(|claim| claim.data)))
    }

    /// Nothing more is written outside, and soon nothing inside over two resyncs; and the operator is alive, because it
    /// repairs a record edited after that.
    async fn stays(self, world: &World, fqdn: &str) -> Result<(), String> {
        let done = world.sim.gate.journal.last();
        world.quiet(RESYNC * 2 + RESYNC / 4).await?;
        let outside = world.cloud_writes(done);
        if !outside.is_empty() {
            return Err(format!("written outside after everything was done: {outside:?}"));
        }
        let contents = || {
            let mut contents: Vec<_> = world.records_at(fqdn).into_iter().map(|record| record.content).collect();
            contents.sort();
            contents
        };
        let record = world.records_at(fqdn).into_iter().next().ok_or_else(|| format!("no record at {fqdn}"))?;
        let right = contents();
        let wrong = RecordEdit { content: Some(Ipv4Addr::new(198, 51, 100, 9).to_string()), ..RecordEdit::default() };
        world.sim.cloudflare.edit_record(&record.id, &wrong);
        within(Duration::from_secs(10), "an edited record to be repaired", async || {
            let contents = contents();
            if contents == right { Ok(()) } else { Err(format!("{contents:?}")) }
        })
        .await
    }
}
