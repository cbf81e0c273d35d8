//! The groups behind the REST API: its users' groups are ServerGroups in one namespace, labelled with the user's id.
//!
//! A slug is looked up through its claim, whose name is made of the slug and which names the holder: two steps in memory,
//! however many groups there are. Who asks sees what this process has written at once, not only when the watch tells of
//! it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::members::merge::Heard;
use super::members::{Members, Refused};
use super::publish::select;
use super::roster::Roster;
use super::{app_nodes, slug};
use crate::api::address::ServerAddress;
use crate::api::app_deployment::AppDeployment;
use crate::api::claim::HostnameClaim;
use crate::api::node::Node;
use crate::api::probe::{Probe, ProbeType};
use crate::api::refs::ClusterRef;
use crate::api::server_group::{
    MemberHealth, MemberStatus, Reporting, ServerGroup, ServerGroupSpec, Strategy as SpecStrategy,
};
use crate::api::zone::Zone;
use crate::controllers::is_allowed;
use crate::gateway::keys::uuid;
use crate::gateway::ports::{
    Caller, CreateError, DeleteError, Group, GroupRef, Groups, Public, Report, ReportError, Server, ServerStatus,
    Strategy, Unavailable, UserId,
};
use crate::runtime::cache::{Cache, Key};
use crate::runtime::claims::Reservation;
use crate::runtime::fault::Fault;
use crate::runtime::{REQUEST_TIMEOUT, bounded};

/// The label with the id of the user who made a group over the API. It counts in the gateway's namespace only: elsewhere
/// anybody who may write a ServerGroup could give it away, or to somebody who does not want it.
pub const API_USER: &str = "roadstead.dev/api-user";
/// How many groups one user may have.
const MOST_GROUPS: usize = 100;
/// How long a new group may take to get its slug before it is answered without.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);
/// How often a slug that turns out to be taken is exchanged for another.
const TRIES: usize = 5;

/// What the API's groups need. All caches must be filled before the first call.
pub struct ApiGroupsDeps {
    /// The API server.
    pub client: Client,
    /// Where the API's groups are made.
    pub namespace: String,
    /// The Zone they are made in; without it, none is.
    pub zone: Option<String>,
    /// All groups.
    pub groups: Cache<ServerGroup>,
    /// All Nodes.
    pub nodes: Cache<Node>,
    /// All apps.
    pub apps: Cache<AppDeployment>,
    /// All Zones.
    pub zones: Cache<Zone>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// All claims.
    pub claims: Cache<HostnameClaim>,
    /// The writer of the servers' health.
    pub members: Members,
}

/// The groups behind the REST API.
pub struct ApiGroups {
    deps: ApiGroupsDeps,
    /// One creation at a time, so that nobody gets past the limit by asking often enough at once.
    creating: Mutex<()>,
}

impl ApiGroups {
    /// Over these.
    #[must_use]
    pub fn new(deps: ApiGroupsDeps) -> Self {
        Self { deps, creating: Mutex::new(()) }
    }

    fn api(&self) -> Api<ServerGroup> {
        Api::namespaced(self.deps.client.clone(), &self.deps.namespace)
    }

    /// The group that holds this slug; while nobody does, the one of the API that was made with it. None that is being
    /// deleted.
    fn find(&self, slug: &str) -> Option<Arc<ServerGroup>> {
        let claim = self.deps.claims.get(&Key::cluster(Reservation::of_slug(slug).name));
        let holder = claim.as_ref().and_then(|claim| Some((&claim.spec.namespace, claim.spec.holders.dns.as_ref()?)));
        let key = match holder {
            Some((namespace, holder)) => Key::namespaced(namespace, &holder.name),
            None => Key::namespaced(&self.deps.namespace, slug),
        };
        let group = self.deps.members.newest(&key)?;
        (slug_of(&group) == Some(slug) && group.metadata.deletion_timestamp.is_none()).then_some(group)
    }

    /// The group of this slug, if this user made it.
    fn of_user(&self, user: &UserId, slug: &str) -> Option<Arc<ServerGroup>> {
        self.find(slug).filter(|group| self.is_of(group, user))
    }

    fn is_of(&self, group: &ServerGroup, user: &UserId) -> bool {
        let namespace = group.metadata.namespace.as_ref() == Some(&self.deps.namespace);
        namespace && group.labels().get(API_USER).is_some_and(|id| id == user.as_str())
    }

    fn may_report(&self, group: &ServerGroup, user: &UserId) -> bool {
        self.is_of(group, user) || group.spec.reporting.users.iter().any(|named| named == user.as_str())
    }

    fn all_of(&self, user: &UserId) -> Vec<Arc<ServerGroup>> {
        let all = self.deps.groups.all().into_iter();
        all.filter(|group| self.is_of(group, user) && group.metadata.deletion_timestamp.is_none()).collect()
    }

    /// The Zone new groups are made in.
    fn zone(&self) -> Result<String, CreateError> {
        let refused = |why: &str| {
            tracing::warn!(namespace = self.deps.namespace, zone = self.deps.zone, why, "no group can be made");
            CreateError::Refused(format!("no group can be made here: {why}; ask the administrator"))
        };
        let name = self.deps.zone.clone().ok_or_else(|| refused("no zone is set for the groups of the API"))?;
        let zone = self.deps.zones.get(&Key::cluster(&name)).ok_or_else(|| refused("their zone does not exist"))?;
        let home = self.deps.namespaces.get(&Key::cluster(&self.deps.namespace));
        // Whether the namespace exists, the API server knows better than a cache that may lag.
        if is_allowed(&zone.spec.allowed_namespaces, home.as_deref()) {
            Ok(name)
        } else {
            Err(refused("their zone does not admit them"))
        }
    }

    /// A slug nobody has, as far as is known.
    fn free_slug(&self, name: &str) -> String {
        let taken = |slug: &str| self.deps.claims.get(&Key::cluster(Reservation::of_slug(slug).name)).is_some();
        let mut slug = slug::of_display_name(name, fastrand::u64(..));
        for _ in 0..TRIES {
            if !taken(&slug) {
                break;
            }
            slug = slug::of_display_name(name, fastrand::u64(..));
        }
        slug
    }

    /// Creates the object, once: after an answer that was lost it is looked for by its name, which nobody else chooses.
    async fn make(&self, group: &ServerGroup) -> Result<ServerGroup, Making> {
        let (api, params) = (self.api(), PostParams::default());
        let fault = match tokio::time::timeout(REQUEST_TIMEOUT, api.create(&params, group)).await {
            Ok(Ok(made)) => return Ok(made),
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => return Err(Making::Taken),
            Ok(Err(kube::Error::Api(status))) if [400, 403, 404, 422].contains(&status.code) => {
                tracing::warn!(namespace = self.deps.namespace, why = status.message, "a group was not admitted");
                return Err(Making::Refused);
            }
            Ok(Err(error)) => Fault::from(error),
            Err(_) => Fault::transient("KubernetesAPI", "the Kubernetes API did not answer in time"),
        };
        match bounded(api.get_opt(&group.name_any())).await {
            Ok(Some(made)) => Ok(made),
            Ok(None) | Err(_) => Err(Making::Unavailable(unavailable(&fault))),
        }
    }

    /// Waits until `done`, or until it takes too long.
    async fn wait(&self, done: impl Fn() -> bool + Send) {
        let end = Instant::now() + PATIENCE;
        while !done() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The group as its owner sees it.
    fn shown(&self, group: &ServerGroup, user: &UserId) -> Group {
        let uid = group.uid().unwrap_or_default();
        let heard = self.deps.members.heard(&Key::of(group));
        let members = group.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
        let created_at = group.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let slug = slug_of(group).unwrap_or_default().to_owned();
        Group {
            user: user.clone(),
            name: group.spec.display_name.clone().unwrap_or_else(|| group.name_any()),
            slug,
            strategy: shown_strategy(group.spec.strategy),
            created_at,
            servers: members.iter().map(|member| server(&uid, member, heard.get(&member.id), created_at)).collect(),
            id: uid,
        }
    }
}

/// Why an object was not made.
enum Making {
    Taken,
    Refused,
    Unavailable(Unavailable),
}

#[async_trait]
impl Groups for ApiGroups {
    async fn create(&self, user: &UserId, name: &str, strategy: Strategy) -> Result<Group, CreateError> {
        let zone = self.zone()?;
        let one_at_a_time = self.creating.lock().await;
        if self.all_of(user).len() >= MOST_GROUPS {
            return Err(CreateError::TooMany(MOST_GROUPS));
        }
        let mut tries = 0;
        let group = loop {
            tries += 1;
            let group = object(&self.deps.namespace, &zone, user, name, &self.free_slug(name), strategy);
            match self.make(&group).await {
                Ok(made) => break made,
                Err(Making::Taken) if tries < TRIES => {}
                Err(Making::Taken) => {
                    return Err(Unavailable::shortly("no free slug was found: repeat the request").into());
                }
                Err(Making::Refused) => {
                    let why = "the cluster does not admit another group: ask the administrator, who finds the cause in \
                               the operator's log";
                    return Err(CreateError::Refused(why.to_owned()));
                }
                Err(Making::Unavailable(error)) => return Err(error.into()),
            }
        };
        let (key, uid) = (Key::of(&group), group.uid().unwrap_or_default());
        // Counted from now on.
        self.wait(|| self.deps.groups.get(&key).is_some()).await;
        drop(one_at_a_time);
        // What follows is done by the controller. It goes on if nobody waits any more.
        self.wait(|| self.deps.members.is_enrolled(&key, &uid)).await;
        tracing::info!(%user, group = %key, "a group was made over the REST API");
        Ok(self.shown(&group, user))
    }

    fn list(&self, user: &UserId) -> Vec<Group> {
        let newest = |group: Arc<ServerGroup>| self.deps.members.newest(&Key::of(&*group)).unwrap_or(group);
        let mut groups: Vec<Group> =
            self.all_of(user).into_iter().map(|group| self.shown(&newest(group), user)).collect();
        groups.sort_by(|a, b| (a.created_at, &a.slug).cmp(&(b.created_at, &b.slug)));
        groups
    }

    async fn delete(&self, user: &UserId, slug: &str) -> Result<(), DeleteError> {
        let group = self.of_user(user, slug).ok_or(DeleteError::UnknownGroup)?;
        let preconditions = Preconditions { uid: group.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match bounded(self.api().delete(&group.name_any(), &params)).await {
            Ok(_) | Err(Fault::Gone | Fault::Conflict) => {}
            Err(fault) => return Err(unavailable(&fault).into()),
        }
        tracing::info!(%user, group = %Key::of(&*group), "a group was deleted over the REST API");
        self.wait(|| self.of_user(user, slug).is_none_or(|found| found.uid() != group.uid())).await;
        Ok(())
    }

    async fn remove_server(&self, user: &UserId, slug: &str, address: &ServerAddress) -> Result<(), DeleteError> {
        let group = self.of_user(user, slug).ok_or(DeleteError::UnknownGroup)?;
        self.deps.members.forget(&Key::of(&*group), address).await.map_err(|refused| match refused {
            Refused::NoServer => DeleteError::UnknownServer,
            Refused::Declared => DeleteError::Declared,
            Refused::Busy(after) => DeleteError::Busy(after),
            Refused::Unknown | Refused::Disabled | Refused::Full | Refused::Unavailable => starting().into(),
        })
    }

    async fn report(&self, caller: &Caller, report: Report) -> Result<(), ReportError> {
        let group = self.find(&report.slug).ok_or(ReportError::UnknownGroup)?;
        if let Caller::User(user) = caller
            && !self.may_report(&group, user)
        {
            return Err(ReportError::NotAllowed);
        }
        let reported = self.deps.members.report(&Key::of(&*group), &report.address, report.healthy).await;
        reported.map_err(|refused| match refused {
            Refused::Disabled => ReportError::ReportingDisabled,
            Refused::Full => ReportError::Full,
            Refused::Busy(after) => ReportError::Busy(after),
            Refused::Unknown if !group.spec.reporting.enabled => ReportError::ReportingDisabled,
            // The object is there, and the controller has not come to it yet.
            Refused::Unknown | Refused::NoServer | Refused::Declared | Refused::Unavailable => starting().into(),
        })
    }

    fn lookup(&self, slug: &str) -> Option<Public> {
        let group = self.find(slug)?;
        let members = group.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
        // Only Nodes that the status knows of can be healthy: no other is looked at.
        let named: HashSet<&str> = members.iter().filter_map(|member| member.node.as_deref()).collect();
        let namespace = group.namespace().unwrap_or_default();
        let node = |name: &str| self.deps.nodes.get(&Key::namespaced(&namespace, name));
        let nodes: Vec<Arc<Node>> = named.into_iter().filter_map(node).collect();
        let serving = app_nodes::serving(&group, &self.deps.apps, Timestamp::now());
        let roster = Roster::of(&group, nodes.iter().map(|node| &**node), serving.as_ref());
        let strategy = group.spec.strategy;
        let servers = select(&group.spec, &roster, members).in_order(strategy);
        let servers = servers.iter().map(ToString::to_string).collect();
        Some(Public { strategy: shown_strategy(strategy), servers })
    }

    fn object(&self, slug: &str) -> Option<GroupRef> {
        self.find(slug).map(|group| reference(&group))
    }

    fn owned(&self, user: &UserId, slug: &str) -> Option<GroupRef> {
        self.of_user(user, slug).map(|group| reference(&group))
    }

    fn reports_to(&self, user: &UserId, slug: &str) -> Option<GroupRef> {
        self.find(slug).filter(|group| self.may_report(group, user)).map(|group| reference(&group))
    }
}

/// The ServerGroup a user asks for.
fn object(namespace: &str, zone: &str, user: &UserId, name: &str, slug: &str, strategy: Strategy) -> ServerGroup {
    ServerGroup {
        metadata: ObjectMeta {
            name: Some(slug.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some([(API_USER.to_owned(), user.as_str().to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: ServerGroupSpec {
            zone_ref: ClusterRef { name: zone.to_owned() },
            display_name: Some(name.to_owned()),
            slug: Some(slug.to_owned()),
            strategy: match strategy {
                Strategy::RoundRobin => SpecStrategy::RoundRobin,
                Strategy::Random => SpecStrategy::Random,
                Strategy::Failover => SpecStrategy::Failover,
            },
            probe: Probe { type_: ProbeType::None, ..Probe::default() },
            reporting: Reporting { enabled: true, ..Reporting::default() },
            ..ServerGroupSpec::default()
        },
        status: None,
    }
}

fn shown_strategy(strategy: SpecStrategy) -> Strategy {
    match strategy {
        SpecStrategy::RoundRobin => Strategy::RoundRobin,
        SpecStrategy::Random => Strategy::Random,
        SpecStrategy::Failover => Strategy::Failover,
    }
}

/// A server as the group's owner sees it. Its id is made of the group's and its own, so it lasts without being stored.
fn server(group: &str, member: &MemberStatus, heard: Option<&Heard>, group_since: Timestamp) -> Server {
    let mut id = [0; 16];
    id.copy_from_slice(&Sha256::digest(format!("{group}/{}", member.id))[..16]);
    let before = member.report.as_ref().map(|report| report.since.0);
    Server {
        id: uuid(id),
        address: member.id.clone(),
        status: match member.health {
            MemberHealth::Healthy => ServerStatus::Healthy,
            MemberHealth::Unhealthy => ServerStatus::Unhealthy,
            MemberHealth::Pending => ServerStatus::Pending,
        },
        last_heartbeat_at: heard.map(|heard| heard.at).filter(|at| *at > Timestamp::UNIX_EPOCH).or(before),
        created_at: member.added.as_ref().map_or(group_since, |time| time.0),
    }
}

fn slug_of(group: &ServerGroup) -> Option<&str> {
    let recorded = group.status.as_ref().and_then(|status| status.slug.as_deref());
    group.spec.slug.as_deref().or(recorded)
}

fn reference(group: &ServerGroup) -> GroupRef {
    GroupRef {
        namespace: group.namespace().unwrap_or_default(),
        name: group.name_any(),
        uid: group.uid().unwrap_or_default(),
    }
}

fn starting() -> Unavailable {
    Unavailable {
        message: "the change could not be stored now: repeat the request".to_owned(),
        retry_after: Duration::from_secs(1),
    }
}

/// A fault of the API server, for a caller who is not to learn of the cluster's inside. The log has it.
fn unavailable(fault: &Fault) -> Unavailable {
    tracing::warn!(%fault, "the gateway cannot reach the Kubernetes API");
    Unavailable::shortly("the cluster cannot be asked now: repeat the request")
}
