//! What the gateway needs of the rest: groups, users, and the reviews of Kubernetes tokens. Only these traits stand
//! between the routes and the cluster, so the routes know nothing of objects, caches or leases.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keys::StoredKey;
use crate::api::address::ServerAddress;
use crate::store::Store;

/// All that the gateway is given, by the process that leads.
#[derive(Clone)]
pub struct Ports {
    /// The groups.
    pub groups: Arc<dyn Groups>,
    /// The users.
    pub users: Arc<dyn Users>,
    /// The reviews.
    pub reviews: Arc<dyn Reviews>,
    /// The history, if one is kept.
    pub history: Option<Store>,
}

/// A user of the API: a random UUID, which is also a valid label value. Says nothing of the person.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserId(String);

impl UserId {
    /// Takes an id as stored. Nothing but a UUID's letters is accepted, because the id becomes a label value.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let ok = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        ok.then(|| Self(id.to_owned()))
    }

    /// The UUID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who sent a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A user with an API key, who may report to the groups they created and to those that name them.
    User(UserId),
    /// A Kubernetes ServiceAccount. The gateway has already asked the API server whether it may `report` on this very
    /// `ServerGroup`.
    ServiceAccount(Account),
}

/// Whom a Kubernetes token belongs to, as its review says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// The user name, e.g. `system:serviceaccount:shop:reporter`.
    pub name: String,
    /// Its uid; empty if the API server gave none.
    pub uid: String,
    /// The groups it is in.
    pub groups: Vec<String>,
}

/// How clients are to spread over the healthy servers, spelled as the API spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any.
    Random,
    /// The first that is healthy.
    Failover,
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// It is listed.
    Healthy,
    /// It is not listed.
    Unhealthy,
    /// Nothing is known of it yet.
    Pending,
}

/// A group as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// UID of the `ServerGroup`.
    pub id: String,
    /// Whose it is.
    pub user: UserId,
    /// The name its owner gave it.
    pub name: String,
    /// The name it is published under.
    pub slug: String,
    /// How clients are to spread.
    pub strategy: Strategy,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its servers, in canonical order.
    pub servers: Vec<Server>,
}

/// A server of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Unique, and lasting as long as the server is in the group.
    pub id: String,
    /// Its address.
    pub address: String,
    /// How it is.
    pub status: ServerStatus,
    /// When it last reported. After a restart, when it last said something new, until it reports again.
    pub last_heartbeat_at: Option<Timestamp>,
    /// When it was first heard of.
    pub created_at: Timestamp,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The group's slug.
    pub slug: String,
    /// The server's address, in canonical form. Applies to every member with this address.
    pub address: ServerAddress,
    /// Whether it is healthy.
    pub healthy: bool,
    /// Free text: at most 1024 characters, none of them a control character.
    pub details: Option<String>,
}

/// What anybody may know of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// How clients are to spread.
    pub strategy: Strategy,
    /// The healthy addresses in canonical order (by priority for [`Strategy::Failover`]).
    pub servers: Vec<String>,
}

/// Which object a slug stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What had to be done could not be done now: the API server does not answer, or the lease is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unavailable {
    /// What is in the way, for the caller. Says nothing of the cluster's inside.
    pub message: String,
    /// When to ask again.
    pub retry_after: Duration,
}

impl Unavailable {
    /// For a fault that commonly passes within seconds.
    #[must_use]
    pub fn shortly(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: Duration::from_secs(5) }
    }
}

/// Why a group was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The user has as many as one user may have.
    #[error("this user already has {0} groups, which is the most one user may have")]
    TooMany(usize),
    /// It would not be admitted now or later, and why: a quota, an admission policy, a Zone that does not allow the
    /// gateway's namespace.
    #[error("{0}")]
    Refused(String),
    /// Cannot be done now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why something was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// The user has no group of this slug. Another's is unknown, too.
    #[error("no such group")]
    UnknownGroup,
    /// The group has no such server.
    #[error("no such server")]
    UnknownServer,
    /// It is there because somebody declared it in Kubernetes, and has to be removed there.
    #[error("declared in Kubernetes")]
    Declared,
    /// Too many changes at once.
    #[error("too many changes")]
    Busy(Duration),
    /// Cannot be done now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a report was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// No group has this slug.
    #[error("no such group")]
    UnknownGroup,
    /// The group is another's, or does not let this caller report.
    #[error("not allowed")]
    NotAllowed,
    /// The group takes no reports.
    #[error("reporting is off")]
    ReportingDisabled,
    /// The group has as many servers as it may have, and this one is not among them.
    #[error("the group is full")]
    Full,
    /// Too many changes at once.
    #[error("too many changes")]
    Busy(Duration),
    /// Cannot be done now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The `ServerGroup`s behind the API.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Creates a group of this user; returns once it exists with its slug. `name` has 1 to 100 characters, none a
    /// control character.
    async fn create(&self, user: &UserId, name: &str, strategy: Strategy) -> Result<Group, CreateError>;

    /// All groups of this user, oldest first. From memory.
    fn list(&self, user: &UserId) -> Vec<Group>;

    /// Deletes a group of this user; returns once its deletion has begun for good.
    async fn delete(&self, user: &UserId, slug: &str) -> Result<(), DeleteError>;

    /// Removes a reported server from a group of this user; returns once that is durable.
    async fn remove_server(&self, user: &UserId, slug: &str, address: &ServerAddress) -> Result<(), DeleteError>;

    /// Takes a report. One that changes nothing returns at once and writes nothing; one that changes a state returns
    /// once the status write is durable. The gateway writes it to the history afterwards.
    async fn report(&self, caller: &Caller, report: Report) -> Result<(), ReportError>;

    /// What anybody may know of the group. From memory.
    fn lookup(&self, slug: &str) -> Option<Public>;

    /// The object behind a slug, whoever it belongs to. From memory.
    fn object(&self, slug: &str) -> Option<GroupRef>;

    /// The object behind a slug, if it is this user's. From memory.
    fn owned(&self, user: &UserId, slug: &str) -> Option<GroupRef>;

    /// The object behind a slug, if this user may report to it: it is theirs, or its spec names them. From memory.
    fn reports_to(&self, user: &UserId, slug: &str) -> Option<GroupRef>;
}

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Which record it is: made of the e-mail address alone, so that one address has one user.
    pub handle: String,
    /// The user's id, random.
    pub id: UserId,
    /// The e-mail address as given.
    pub email: String,
    /// When the user signed up.
    pub created_at: Timestamp,
    /// The keys that may open, newest first.
    pub keys: Vec<StoredKey>,
    /// The version that was read, for a change that overwrites nobody else's; empty for a new user.
    pub version: String,
}

/// Why a user was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignupError {
    /// Somebody has this e-mail address.
    #[error("the e-mail address is taken")]
    Taken,
    /// Cannot be done now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a user's keys were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Somebody changed the user meanwhile: read it again.
    #[error("the user changed meanwhile")]
    Conflict,
    /// The user is gone.
    #[error("the user is gone")]
    Gone,
    /// Cannot be done now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The users of the API. Keys are at rest as hashes only.
#[async_trait]
pub trait Users: Send + Sync {
    /// Creates a user. Of two with one handle, one is created and the other is [`SignupError::Taken`].
    async fn create(&self, user: &User) -> Result<(), SignupError>;

    /// The user of this handle. A record that cannot be read as a user is none.
    async fn find(&self, handle: &str) -> Result<Option<User>, Unavailable>;

    /// Stores `user.keys`, if the user is still at `user.version`.
    async fn change_keys(&self, user: &User) -> Result<(), ChangeError>;
}

/// Kubernetes' own word on tokens and rights.
#[async_trait]
pub trait Reviews: Send + Sync {
    /// Whom a token belongs to; `None` if the API server does not accept it.
    async fn account(&self, token: &str) -> Result<Option<Account>, Unavailable>;

    /// Whether the account may `report` on this `ServerGroup`.
    async fn may_report(&self, account: &Account, group: &GroupRef) -> Result<bool, Unavailable>;
}
