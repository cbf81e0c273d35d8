//! A gateway that listens, over groups, users and reviews in memory, and a client that speaks to it.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::HeaderMap;
use roadstead::api::address::ServerAddress;
use roadstead::gateway::ports::{
    Account, Caller, ChangeError, CreateError, DeleteError, Group, GroupRef, Groups, Ports, Public, Report,
    ReportError, Reviews, Server, ServerStatus, SignupError, Strategy, Unavailable, User, UserId, Users,
};
use roadstead::gateway::{Rates, Settings, Signup, serve};
use roadstead::store::{Limits, Store};
use serde_json::Value;
use tokio::sync::watch;

/// Groups in memory. Refuses what a test tells it to refuse.
#[derive(Default)]
pub struct MemoryGroups {
    groups: Mutex<Vec<Group>>,
    made: AtomicU64,
    pub refuse_create: Mutex<Option<CreateError>>,
    pub refuse_delete: Mutex<Option<DeleteError>>,
    pub refuse_report: Mutex<Option<ReportError>>,
    pub callers: Mutex<Vec<Caller>>,
}

fn told<T: Clone>(refusal: &Mutex<Option<T>>) -> Result<(), T> {
    refusal.lock().unwrap().clone().map_or(Ok(()), Err)
}

impl MemoryGroups {
    fn of(group: &Group) -> GroupRef {
        let slug = &group.slug;
        GroupRef { namespace: "groups".to_owned(), name: slug.clone(), uid: group.id.clone() }
    }
}

#[async_trait]
impl Groups for MemoryGroups {
    async fn create(&self, user: &UserId, name: &str, strategy: Strategy) -> Result<Group, CreateError> {
        told(&self.refuse_create)?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let words: String =
            name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let group = Group {
            id: format!("00000000-0000-4000-8000-{number:012}"),
            user: user.clone(),
            name: name.to_owned(),
            slug: format!("{words}-{number:06}"),
            strategy,
            created_at: Timestamp::now(),
            servers: Vec::new(),
        };
        self.groups.lock().unwrap().push(group.clone());
        Ok(group)
    }

    fn list(&self, user: &UserId) -> Vec<Group> {
        self.groups.lock().unwrap().iter().filter(|group| group.user == *user).cloned().collect()
    }

    async fn delete(&self, user: &UserId, slug: &str) -> Result<(), DeleteError> {
        told(&self.refuse_delete)?;
        let mut groups = self.groups.lock().unwrap();
        let before = groups.len();
        groups.retain(|group| group.user != *user || group.slug != slug);
        if groups.len() < before { Ok(()) } else { Err(DeleteError::UnknownGroup) }
    }

    async fn remove_server(&self, user: &UserId, slug: &str, address: &ServerAddress) -> Result<(), DeleteError> {
        told(&self.refuse_delete)?;
        let mut groups = self.groups.lock().unwrap();
        let group = groups.iter_mut().find(|group| group.user == *user && group.slug == slug);
        let group = group.ok_or(DeleteError::UnknownGroup)?;
        let before = group.servers.len();
        group.servers.retain(|server| server.address != address.to_string());
        if group.servers.len() < before { Ok(()) } else { Err(DeleteError::UnknownServer) }
    }

    async fn report(&self, caller: &Caller, report: Report) -> Result<(), ReportError> {
        told(&self.refuse_report)?;
        self.callers.lock().unwrap().push(caller.clone());
        let mut groups = self.groups.lock().unwrap();
        let group = groups.iter_mut().find(|group| group.slug == report.slug).ok_or(ReportError::UnknownGroup)?;
        let status = if report.healthy { ServerStatus::Healthy } else { ServerStatus::Unhealthy };
        let (now, address) = (Timestamp::now(), report.address.to_string());
        if let Some(server) = group.servers.iter_mut().find(|server| server.address == address) {
            (server.status, server.last_heartbeat_at) = (status, Some(now));
        } else {
            group.servers.push(Server {
                id: format!("{}-{address}", group.id),
                address,
                status,
                last_heartbeat_at: Some(now),
                created_at: now,
            });
        }
        Ok(())
    }

    fn lookup(&self, slug: &str) -> Option<Public> {
        let groups = self.groups.lock().unwrap();
        let group = groups.iter().find(|group| group.slug == slug)?;
        let healthy = group.servers.iter().filter(|server| server.status == ServerStatus::Healthy);
        let servers = healthy.map(|server| server.address.clone()).collect();
        Some(Public { strategy: group.strategy, servers })
    }

    fn object(&self, slug: &str) -> Option<GroupRef> {
        self.groups.lock().unwrap().iter().find(|group| group.slug == slug).map(Self::of)
    }

    fn owned(&self, user: &UserId, slug: &str) -> Option<GroupRef> {
        let groups = self.groups.lock().unwrap();
        groups.iter().find(|group| group.slug == slug && group.user == *user).map(Self::of)
    }

    fn reports_to(&self, user: &UserId, slug: &str) -> Option<GroupRef> {
        self.owned(user, slug)
    }
}

/// Users in memory.
#[derive(Default)]
pub struct MemoryUsers {
    pub users: Mutex<HashMap<String, User>>,
    /// Changes that are to meet another one first.
    pub conflicts: AtomicU64,
    pub looked_up: AtomicU64,
    pub down: AtomicBool,
}

impl MemoryUsers {
    fn up(&self) -> Result<(), Unavailable> {
        if self.down.load(Ordering::Relaxed) { Err(Unavailable::shortly("the cluster is down")) } else { Ok(()) }
    }
}

#[async_trait]
impl Users for MemoryUsers {
    async fn create(&self, user: &User) -> Result<(), SignupError> {
        self.up()?;
        let mut users = self.users.lock().unwrap();
        if users.contains_key(&user.handle) {
            return Err(SignupError::Taken);
        }
        users.insert(user.handle.clone(), User { version: "1".to_owned(), ..user.clone() });
        Ok(())
    }

    async fn find(&self, handle: &str) -> Result<Option<User>, Unavailable> {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        self.up()?;
        Ok(self.users.lock().unwrap().get(handle).cloned())
    }

    async fn change_keys(&self, user: &User) -> Result<(), ChangeError> {
        self.up()?;
        if self.conflicts.load(Ordering::Relaxed) > 0 {
            self.conflicts.fetch_sub(1, Ordering::Relaxed);
            return Err(ChangeError::Conflict);
        }
        let mut users = self.users.lock().unwrap();
        let kept = users.get_mut(&user.handle).ok_or(ChangeError::Gone)?;
        if kept.version != user.version {
            return Err(ChangeError::Conflict);
        }
        kept.keys.clone_from(&user.keys);
        kept.version.push('1');
        Ok(())
    }
}

/// Reviews in memory.
#[derive(Default)]
pub struct MemoryReviews {
    pub accounts: Mutex<HashMap<String, Account>>,
    pub allowed: Mutex<HashSet<(String, String)>>,
}

#[async_trait]
impl Reviews for MemoryReviews {
    async fn account(&self, token: &str) -> Result<Option<Account>, Unavailable> {
        Ok(self.accounts.lock().unwrap().get(token).cloned())
    }

    async fn may_report(&self, account: &Account, group: &GroupRef) -> Result<bool, Unavailable> {
        Ok(self.allowed.lock().unwrap().contains(&(account.name.clone(), group.name.clone())))
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

/// A gateway that listens.
pub struct World {
    pub url: String,
    pub client: reqwest::Client,
    pub groups: Arc<MemoryGroups>,
    pub users: Arc<MemoryUsers>,
    pub reviews: Arc<MemoryReviews>,
    /// Whether the process leads.
    pub leading: watch::Sender<Option<Ports>>,
    pub ports: Ports,
    pub stop: watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

/// So many that no test meets the limit by accident.
pub fn plenty() -> NonZeroU32 {
    NonZeroU32::new(100_000).unwrap()
}

pub fn settings() -> Settings {
    Settings {
        address: ([127, 0, 0, 1], 0).into(),
        tls: None,
        signup: Signup::Open,
        rates: Rates { per_address: plenty(), per_key: plenty(), signups: plenty() },
        trusted_proxies: Vec::new(),
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(settings()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { age: std::time::Duration::from_secs(3600), bytes: 16 << 20 };
        let history = Store::open(&directory.path().join("history.sqlite"), limits).unwrap();
        let (groups, users, reviews) = <(Arc<MemoryGroups>, Arc<MemoryUsers>, Arc<MemoryReviews>)>::default();
        let ports =
            Ports { groups: groups.clone(), users: users.clone(), reviews: reviews.clone(), history: Some(history) };
        let (leading, receiver) = watch::channel(Some(ports.clone()));
        let (stop, stopped) = watch::channel(false);
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let serving = serve(settings, receiver, stopped).await.unwrap();
        let url = format!("{scheme}://{}", serving.address);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, client, groups, users, reviews, leading, ports, stop, _directory: directory }
    }

    /// Sends a body as it is.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.client.request(method, format!("{}{path}", self.url)).body(body);
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        Self::answer(request).await
    }

    pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.send(Method::GET, path, token, "").await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.send(Method::DELETE, path, Some(token), "").await
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.send(Method::POST, path, token, body.to_string()).await
    }

    /// Signs somebody up and gives the key.
    pub async fn key(&self, email: &str) -> String {
        let answer = self.post("/api/users/create", None, &serde_json::json!({"email": email})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["user"]["apiKey"].as_str().unwrap().to_owned()
    }

    /// Creates a group and gives its slug.
    pub async fn group(&self, key: &str) -> String {
        let answer = self.post("/api/groups", Some(key), &serde_json::json!({"name": "My Web Servers"})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["groupSlug"].as_str().unwrap().to_owned()
    }

    /// Reports, and gives the answer.
    pub async fn report(&self, token: &str, slug: &str, address: &str, status: &str) -> Answer {
        let body = serde_json::json!({"groupSlug": slug, "address": address, "status": status});
        self.post("/api/report", Some(token), &body).await
    }
}
