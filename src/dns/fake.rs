//! A zone in memory that keeps Cloudflare's rules and can fail in every way the writer must survive.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::api::{RecordsApi, Usage, Write};
use super::cloudflare::Token;
use super::plan::Op;
use super::record::{Content, Desired, Record, Value};
use crate::api::names::Mark;
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

/// What the next matching call does instead of its work.
#[derive(Clone)]
pub enum Fault {
    /// Nothing happens, and the error is returned.
    Fail(OutsideError),
    /// The work is done, and the error is returned.
    FailAfter(OutsideError),
    /// The error is returned at once, and the work is done this much later.
    Late(Duration, OutsideError),
}

#[derive(Default)]
pub struct Inner {
    pub records: BTreeMap<String, Record>,
    pub journal: Vec<String>,
    pub batch_sizes: Vec<usize>,
    pub read_faults: VecDeque<Fault>,
    pub write_faults: VecDeque<Fault>,
    /// Every call fails until the token is this one.
    pub wants_token: Option<Token>,
    pub token: Option<Token>,
    /// Contents the API refuses, with a reason.
    pub poison: Vec<Content>,
    pub quota: Option<u64>,
    pub batch_limit: usize,
    /// What each call takes.
    pub latency: Duration,
    next_id: usize,
}

/// A handle to the zone in memory.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Inner>>);

impl Fake {
    pub fn new() -> Self {
        let fake = Self::default();
        fake.inner().batch_limit = 3_500;
        fake
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Puts a record there from outside.
    pub fn put(&self, name: &str, value: Value, mark: Option<&Mark>) -> String {
        let mut inner = self.inner();
        let id = inner.id();
        let record =
            Record { id: id.as_str().into(), name: name.into(), value, ttl: 300, proxied: false, mark: mark.cloned() };
        inner.records.insert(id.clone(), record);
        id
    }

    /// The calls since the last time, e.g. `list`, `at web.example.com`, `batch 0-0-3`.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().journal)
    }

    /// `name content` of every record, sorted.
    pub fn shown(&self) -> Vec<String> {
        let inner = self.inner();
        let mut shown: Vec<_> =
            inner.records.values().map(|record| format!("{} {}", record.name, record.value.text())).collect();
        shown.sort();
        shown
    }

    async fn call<T>(
        &self,
        label: String,
        write: bool,
        work: impl FnOnce(&mut Inner) -> Result<T, OutsideError> + Send + 'static,
    ) -> Result<T, OutsideError>
    where
        T: Send + 'static,
    {
        let latency = {
            let mut inner = self.inner();
            inner.journal.push(label);
            inner.latency
        };
        tokio::time::sleep(latency).await;
        let fault = {
            let mut inner = self.inner();
            if inner.wants_token != inner.token && inner.wants_token.is_some() {
                return Err(OutsideError::Unauthorized("the token is revoked".into()));
            }
            if write { inner.write_faults.pop_front() } else { inner.read_faults.pop_front() }
        };
        match fault {
            None => work(&mut self.inner()),
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::FailAfter(error)) => {
                let _ = work(&mut self.inner());
                Err(error)
            }
            Some(Fault::Late(after, error)) => {
                let fake = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    let _ = work(&mut fake.inner());
                });
                Err(error)
            }
        }
    }
}

impl Inner {
    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("r{:06}", self.next_id)
    }

    fn record(&self, id: &str, desired: &Desired, mark: &Mark) -> Result<Record, OutsideError> {
        let refuse = |code: &str, message: &str| {
            Err(OutsideError::Refused { code: code.to_owned(), message: message.to_owned() })
        };
        if self.poison.contains(&desired.content) {
            return refuse("9005", "content for the record is invalid");
        }
        let value = Value::Known(desired.content.clone());
        let here = || self.records.values().filter(|r| *r.name == *desired.name.as_str() && *r.id != *id);
        if here().any(|record| record.value == value) {
            return refuse("81058", "an identical record already exists");
        }
        if here().any(|record| record.value.kind() == "CNAME") {
            return refuse("81054", "a CNAME record with that host already exists");
        }
        Ok(Record {
            id: id.into(),
            name: desired.name.as_str().into(),
            value,
            ttl: desired.effective_ttl(),
            proxied: desired.is_proxied(),
            mark: Some(mark.clone()),
        })
    }

    /// All or nothing, in Cloudflare's order.
    fn apply(&mut self, writes: &[Write]) -> Result<Vec<Record>, OutsideError> {
        assert!(writes.len() <= self.batch_limit, "{} operations in one batch", writes.len());
        let before = self.records.clone();
        let result = self.try_apply(writes);
        if result.is_err() {
            self.records = before;
        }
        result
    }

    fn try_apply(&mut self, writes: &[Write]) -> Result<Vec<Record>, OutsideError> {
        let refuse = |code: &str| OutsideError::Refused { code: code.to_owned(), message: "refused".to_owned() };
        for write in writes {
            if let Op::Delete(record) = &write.op {
                self.records.remove(&*record.id).ok_or_else(|| refuse("81044"))?;
            }
        }
        let mut changed = Vec::new();
        for write in writes {
            if let Op::Patch { from, to } = &write.op {
                self.records.get(&*from.id).ok_or_else(|| refuse("81044"))?;
                changed.push(self.record(&from.id, to, &write.mark)?);
                self.records.insert(from.id.to_string(), changed[changed.len() - 1].clone());
            }
        }
        for write in writes {
            if let Op::Post(to) = &write.op {
                if self.quota.is_some_and(|quota| self.records.len() as u64 >= quota) {
                    return Err(refuse("81045"));
                }
                let id = self.id();
                changed.push(self.record(&id, to, &write.mark)?);
                self.records.insert(id, changed[changed.len() - 1].clone());
            }
        }
        Ok(changed)
    }
}

#[async_trait]
impl RecordsApi for Fake {
    async fn list(&self, _: Priority) -> Result<Vec<Record>, OutsideError> {
        self.call("list".into(), false, |inner| Ok(inner.records.values().cloned().collect())).await
    }

    async fn at(&self, name: &str, _: Priority) -> Result<Vec<Record>, OutsideError> {
        let wanted = name.to_owned();
        let here = move |inner: &mut Inner| {
            Ok(inner.records.values().filter(|record| *record.name == *wanted).cloned().collect())
        };
        self.call(format!("at {name}"), false, here).await
    }

    async fn batch(&self, writes: &[Write], _: Priority) -> Result<Vec<Record>, OutsideError> {
        let count = |kind: fn(&Op) -> bool| writes.iter().filter(|write| kind(&write.op)).count();
        let deletes = count(|op| matches!(op, Op::Delete(_)));
        let patches = count(|op| matches!(op, Op::Patch { .. }));
        let posts = count(|op| matches!(op, Op::Post(_)));
        self.inner().batch_sizes.push(writes.len());
        let writes = writes.to_vec();
        self.call(format!("batch {deletes}-{patches}-{posts}"), true, move |inner| inner.apply(&writes)).await
    }

    async fn usage(&self) -> Result<Usage, OutsideError> {
        let usage = |inner: &mut Inner| Ok(Usage { used: inner.records.len() as u64, quota: inner.quota });
        self.call("usage".into(), false, usage).await
    }

    fn set_token(&self, token: Token) {
        self.inner().token = Some(token);
    }
}
