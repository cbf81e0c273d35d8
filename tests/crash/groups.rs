//! What is done to a group of servers, when that has converged, and what must hold then.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use kube::api::DynamicObject;
use serde_json::{Value, json};
use support::{condition, unique, within};

use crate::workers;
use crate::world::{CLAIM, CONVERGED, DOMAIN, NAMESPACE, World};

pub const GROUP: &str = "roadstead.dev/v1alpha1/ServerGroup";

/// One change of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    Create,
    /// A third server is listed.
    AddMember,
    /// One of two servers dies.
    LoseMember,
    /// The addresses are published at another name.
    MoveAddresses,
    Delete,
}

/// A server on loopback that takes connections until it is dropped. It has a thread, because it outlives the runtime of
/// the test that first needs it.
struct Origin {
    at: SocketAddr,
    dead: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Origin {
    fn at(address: [u8; 4]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::from(address), 0)).unwrap();
        let (at, dead) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let dies = dead.clone();
        let serving = std::thread::spawn(move || while listener.accept().is_ok() && !dies.load(Ordering::SeqCst) {});
        Self { at, dead, serving: Some(serving) }
    }
}

impl Drop for Origin {
    /// Whoever connects is refused from now on.
    fn drop(&mut self) {
        self.dead.store(true, Ordering::SeqCst);
        // One more connection, so that the thread looks.
        drop(TcpStream::connect(self.at));
        self.serving.take().unwrap().join().unwrap();
    }
}

/// These never die: two that every group lists, and one that is added to some.
static LASTING: LazyLock<[Origin; 3]> = LazyLock::new(|| [1, 2, 3].map(|n| Origin::at([127, 0, 0, n])));
/// Those that die in their group's case, by the group's name, in place of the second.
static MORTAL: Mutex<BTreeMap<String, Origin>> = Mutex::new(BTreeMap::new());

fn mortal() -> MutexGuard<'static, BTreeMap<String, Origin>> {
    MORTAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The servers that a group lists at first.
fn listed(name: &str) -> Vec<SocketAddr> {
    let second = mortal().get(name).map_or(LASTING[1].at, |origin| origin.at);
    vec![LASTING[0].at, second]
}

/// Where a group's addresses are published.
fn host(prefix: &str, name: &str) -> String {
    format!("{prefix}-{name}.{DOMAIN}")
}

fn list_name(name: &str) -> String {
    format!("_wrap.{name}.{DOMAIN}")
}

fn members(servers: &[SocketAddr]) -> Value {
    servers.iter().map(|at| json!({"address": at.ip(), "port": at.port()})).collect()
}

/// A group whose slug is its name.
fn manifest(name: &str, servers: &[SocketAddr]) -> String {
    let mut group = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "ServerGroup",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "zoneRef": {"name": "zone"}, "slug": name, "members": members(servers),
            "probe": {"type": "TCP", "interval": "1s", "timeout": "1s", "fall": 2, "rise": 1},
            "dns": {"a": {"hostname": format!("a-{name}")}, "ttl": 60},
        },
    });
    if workers::has_one(name) {
        group["spec"]["slb"] = workers::wanted(name);
    }
    group.to_string()
}

/// Groups that earlier cases left.
#[derive(Debug)]
pub struct Groups {
    /// What their names begin with.
    prefix: &'static str,
    /// As they were made.
    fresh: Vec<String>,
    /// Changed since: good for deletion alone.
    worn: Vec<String>,
}

impl Groups {
    /// None yet; `prefix` says whether they have Workers.
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, fresh: Vec::new(), worn: Vec::new() }
    }
}

impl Change {
    /// The name of the group of a new case, which is Ready already unless it is to be made.
    pub async fn prepare(self, world: &World, pool: &mut Groups) -> Result<String, String> {
        let left = match self {
            Self::Create => return Ok(unique(pool.prefix)),
            Self::Delete => pool.worn.pop().or_else(|| pool.fresh.pop()),
            Self::AddMember | Self::MoveAddresses => pool.fresh.pop(),
            Self::LoseMember => None,
        };
        // Each is probed every second for as long as it is there.
        while let Some(worn) = pool.worn.pop() {
            world.cluster.delete_object(GROUP, Some(NAMESPACE), &worn).await;
            world.gone(GROUP, &worn).await?;
        }
        if let Some(name) = left {
            return Ok(name);
        }
        let name = unique(pool.prefix);
        if self == Self::LoseMember {
            mortal().insert(name.clone(), Origin::at([127, 0, 0, 4]));
        }
        world.cluster.apply(&manifest(&name, &listed(&name))).await;
        let published = async || Self::Create.look(world, &name).await;
        within(CONVERGED, &format!("{name} to be published"), published).await?;
        Ok(name)
    }

    /// Leaves the group of a case that went well to later ones.
    pub fn keep(self, name: &str, pool: &mut Groups) {
        match self {
            Self::Create => pool.fresh.push(name.to_owned()),
            Self::AddMember | Self::LoseMember | Self::MoveAddresses => pool.worn.push(name.to_owned()),
            Self::Delete => {}
        }
    }

    /// Asks for the change, or makes it happen.
    pub async fn trigger(self, world: &World, name: &str) {
        let (cluster, at) = (&world.cluster, Some(NAMESPACE));
        match self {
            Self::Create => drop(cluster.apply(&manifest(name, &listed(name))).await),
            Self::AddMember => {
                let spec = json!({"spec": {"members": members(&self.alive(name))}});
                cluster.patch(GROUP, at, name, &spec).await;
            }
            Self::LoseMember => {
                let origin = mortal().remove(name);
                drop(origin);
            }
            Self::MoveAddresses => {
                let spec = json!({"spec": {"dns": {"a": {"hostname": format!("b-{name}")}}}});
                cluster.patch(GROUP, at, name, &spec).await;
            }
            Self::Delete => cluster.delete_object(GROUP, at, name).await,
        }
    }

    /// The servers that are to be published in the end, in order.
    fn alive(self, name: &str) -> Vec<SocketAddr> {
        match self {
            Self::AddMember => LASTING.iter().map(|origin| origin.at).collect(),
            Self::LoseMember => vec![LASTING[0].at],
            Self::Create | Self::MoveAddresses | Self::Delete => listed(name),
        }
    }

    /// Where the addresses are to be published in the end, and where they must not be.
    fn hosts(self, name: &str) -> (String, String) {
        let (a, b) = (host("a", name), host("b", name));
        if self == Self::MoveAddresses { (b, a) } else { (a, b) }
    }

    /// The name that shows that the operator is alive: a record edited there has to be repaired.
    pub fn repaired(self, name: &str) -> Option<String> {
        (self != Self::Delete).then(|| self.hosts(name).0)
    }

    /// Whether the group says that the change is done; otherwise what it says instead.
    pub async fn look(self, world: &World, name: &str) -> Result<(), String> {
        let Some(group) = world.cluster.get(GROUP, Some(NAMESPACE), name).await else {
            return if self == Self::Delete { Ok(()) } else { Err("no such object".to_owned()) };
        };
        let status = &group.data["status"];
        let ready = condition(&group, "Ready").is_some_and(|ready| ready["status"] == "True");
        let current = status["observedGeneration"].as_i64() == group.metadata.generation;
        let done = self != Self::Delete && ready && current && self.told(name, &group).is_none();
        let held = world.cluster.get(CLAIM, None, &self.hosts(name).1).await;
        let held = held.is_some_and(|claim| !claim.data["spec"]["holders"]["dns"].is_null());
        if done && !held { Ok(()) } else { Err(format!("{:?} {status}", group.metadata.finalizers)) }
    }

    /// The status must name what is published.
    fn told(self, name: &str, group: &DynamicObject) -> Option<String> {
        let alive = self.alive(name);
        let status = &group.data["status"];
        let listed = group.data["spec"]["members"].as_array().map_or(0, Vec::len);
        let expected = json!({
            "txt": {"name": list_name(name), "content": list(&alive), "ttl": 60},
            "a": {"hostname": self.hosts(name).0, "addresses": addresses(&alive), "ttl": 60},
            "healthy": format!("{}/{listed}", alive.len()),
        });
        let told = json!({"txt": status["txt"], "a": status["a"], "healthy": status["healthy"]});
        let wrong = (told != expected).then(|| format!("the status says {told} instead of {expected}"));
        wrong.or_else(|| workers::told(name, status, &alive))
    }

    /// Everything that must hold once the change is done, but for what must hold of every object.
    pub async fn complaints(self, world: &World, name: &str) -> Vec<String> {
        let (here, elsewhere) = self.hosts(name);
        let exists = self != Self::Delete;
        let alive = if exists { self.alive(name) } else { Vec::new() };
        let mut complaints = Vec::new();
        let texts = if exists { vec![list(&alive)] } else { Vec::new() };
        for (fqdn, expected) in
            [(list_name(name), texts), (here.clone(), addresses(&alive)), (elsewhere.clone(), Vec::new())]
        {
            let records = world.records_at(&fqdn);
            let mut contents: Vec<_> = records.iter().map(|record| record.content.replace('"', "")).collect();
            contents.sort();
            let ours =
                |comment: &Option<String>| comment.as_deref().is_some_and(|c| c.starts_with("roadstead/1 c=test1 "));
            if contents != expected || !records.iter().all(|record| ours(&record.comment)) {
                complaints.push(format!("{records:?} at {fqdn} instead of {expected:?}"));
            }
        }
        if exists {
            let group = world.cluster.get(GROUP, Some(NAMESPACE), name).await;
            complaints.extend(match &group {
                Some(group) => self.told(name, group),
                None => Some("the group is gone".to_owned()),
            });
        }
        let mut claims = vec![
            (format!("rs--slug.{name}"), exists),
            (format!("rs--u-wrap.{name}.{DOMAIN}"), exists),
            (here, exists),
            (elsewhere, false),
        ];
        claims.extend(workers::claims(world, name, &self.alive(name)).into_iter().map(|claim| (claim, exists)));
        for (claim, held) in claims {
            let found = world.cluster.get(CLAIM, None, &claim).await;
            let holder = found.as_ref().map(|claim| &claim.data["spec"]["holders"]["dns"]).filter(|dns| !dns.is_null());
            let right = match holder {
                Some(holder) => held && holder["name"] == name,
                None => !held && found.as_ref().is_none_or(|claim| claim.data["status"]["state"] == "Tombstone"),
            };
            if !right {
                complaints.push(format!("claim {claim}: {:?}", found.map(|claim| claim.data)));
            }
        }
        complaints.extend(workers::complaints(world, name, exists.then_some(&alive)));
        complaints
    }
}

/// As the list names them.
fn list(servers: &[SocketAddr]) -> String {
    let mut servers = servers.to_vec();
    servers.sort();
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// As A records name them.
fn addresses(servers: &[SocketAddr]) -> Vec<String> {
    let mut addresses: Vec<_> = servers.iter().map(|at| at.ip().to_string()).collect();
    addresses.sort();
    addresses
}
