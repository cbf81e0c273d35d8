//! The task that writes: it takes the groups that are due, computes what their status should say, and writes that.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, ResourceExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::chronicle;
use super::merge::count;
use super::{AT_ONCE, Members, Shared};
use crate::api::server_group::{MemberHealth, MemberStatus, ServerGroup, ServerGroupStatus};
use crate::probe::Transition;
use crate::runtime::backoff;
use crate::runtime::cache::Key;
use crate::runtime::fault::Fault;
use crate::runtime::{bounded, status};
use crate::store::Entry;

/// How many transitions are taken in before the next look at what is due.
const TOGETHER: usize = 1024;

/// A write that is to be sent.
struct Write {
    key: Key,
    object: Arc<ServerGroup>,
    new: ServerGroupStatus,
    /// When it was decided.
    at: Timestamp,
    /// Its place among those that were due.
    turn: Instant,
    waiting: Vec<oneshot::Sender<bool>>,
}

/// A write that has ended.
struct Written {
    key: Key,
    uid: Option<String>,
    turn: Instant,
    result: Result<Option<ServerGroup>, Fault>,
    changed: Vec<(MemberHealth, u64)>,
    /// How long it was in flight.
    took: Duration,
    /// Servers whose reports until `at` count no more.
    forgotten: Vec<String>,
    at: Timestamp,
    entries: Vec<Entry>,
    waiting: Vec<oneshot::Sender<bool>>,
}

impl Members {
    /// Writes until `shutdown`; writes in flight are finished first.
    pub async fn run(&self, mut transitions: mpsc::Receiver<Transition>, shutdown: impl Future<Output = ()>) {
        let shared = &self.shared;
        let mut shutdown = std::pin::pin!(shutdown);
        let mut writes = JoinSet::new();
        let mut batch = Vec::with_capacity(TOGETHER);
        loop {
            while writes.len() < usize::from(AT_ONCE) {
                let Some(write) = shared.due() else { break };
                writes.spawn(shared.clone().send(write));
            }
            let next = shared.desks().next(Instant::now()).filter(|_| writes.len() < usize::from(AT_ONCE));
            tokio::select! {
                () = &mut shutdown => break,
                taken = transitions.recv_many(&mut batch, TOGETHER) => {
                    if taken == 0 {
                        break;
                    }
                    for transition in batch.drain(..) {
                        shared.noticed(&transition);
                    }
                }
                () = shared.changed.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                Some(written) = writes.join_next() => {
                    if let Ok(written) = written {
                        shared.ended(written);
                    }
                }
            }
        }
        while let Some(written) = writes.join_next().await {
            if let Ok(written) = written {
                shared.ended(written);
            }
        }
    }
}

impl Shared {
    /// The prober changed its mind about a server.
    fn noticed(&self, transition: &Transition) {
        let Some(["group", namespace, name, _]) =
            transition.key.splitn(4, '/').collect::<Vec<_>>().first_chunk().copied()
        else {
            return;
        };
        self.desks().schedule(&Key::namespaced(namespace, name), Instant::now());
    }

    /// The next write that is due. Groups with nothing to write are settled on the way.
    fn due(&self) -> Option<Write> {
        let mut desks = self.desks();
        let desks = &mut *desks;
        loop {
            let now = Instant::now();
            if desks.next(now)? > now {
                return None;
            }
            let (turn, key) = desks.due.pop_first()?;
            let Some(desk) = desks.open.get_mut(&key) else { continue };
            desk.due = None;
            if desk.writing {
                // Looked at again when that has ended.
                continue;
            }
            desks.expected.remove(&key);
            if let Some(cached) = self.groups.get(&key) {
                desk.take(cached);
            }
            let time = Timestamp::now();
            let merged = desk.merged(&self.engine, self.listening_since, time);
            let old = desk.object.status.clone().unwrap_or_default();
            let (counts, healthy) = count(&merged.members);
            let new = ServerGroupStatus {
                members: merged.members,
                counts: Some(counts),
                healthy: Some(healthy),
                ..old.clone()
            };
            if new == old {
                for waiting in desk.waiting.drain(..) {
                    let _ = waiting.send(true);
                }
                if let Some(next) = merged.next {
                    let left = Duration::try_from(next.duration_since(time)).unwrap_or_default();
                    desks.schedule(&key, now + left);
                }
                continue;
            }
            desks.bucket.take();
            desk.writing = true;
            let waiting = std::mem::take(&mut desk.waiting);
            return Some(Write { key, object: desk.object.clone(), new, at: time, turn, waiting });
        }
    }

    async fn send(self: Arc<Self>, write: Write) -> Written {
        let Write { key, object, new, at, turn, waiting } = write;
        let api: Api<ServerGroup> = Api::namespaced(self.client.clone(), &key.namespace);
        let old = object.status.clone().unwrap_or_default();
        let sent = Instant::now();
        let mut result = status::write(&api, &*object, &old, &new).await;
        if matches!(result, Err(Fault::Conflict)) {
            result = Err(self.look_again(&api, &object).await);
        }
        let took = sent.elapsed();
        let changed = changes(&old.members, &new.members);
        let forgotten = forgotten(&old.members, &new.members);
        let entries = chronicle::entries(&object.uid().unwrap_or_default(), &old.members, &new.members);
        Written { key, uid: object.uid(), turn, result, changed, took, forgotten, at, entries, waiting }
    }

    /// Somebody else wrote the object: what they wrote is known before the next try.
    async fn look_again(&self, api: &Api<ServerGroup>, object: &ServerGroup) -> Fault {
        match bounded(api.get(&object.name_any())).await {
            Ok(fresh) if fresh.uid() == object.uid() => {
                if let Some(desk) = self.desks().open.get_mut(&Key::of(object)) {
                    desk.take(Arc::new(fresh));
                }
                Fault::Conflict
            }
            Ok(_) => Fault::Gone,
            Err(fault) => fault,
        }
    }

    fn ended(&self, written: Written) {
        let mut desks = self.desks();
        let wrote = matches!(written.result, Ok(Some(_)) | Err(Fault::Conflict));
        desks.speed.took(written.took, wrote);
        let now = Instant::now();
        let answer = |waiting: Vec<oneshot::Sender<bool>>, done: bool| {
            for waiting in waiting {
                let _ = waiting.send(done);
            }
        };
        let Some(desk) = desks.open.get_mut(&written.key).filter(|desk| Some(&desk.uid) == written.uid.as_ref()) else {
            return answer(written.waiting, false);
        };
        desk.writing = false;
        match written.result {
            Ok(object) => {
                if let Some(object) = object {
                    desk.take(Arc::new(object));
                }
                (desk.failures, desk.written) = (0, Some(now));
                for id in written.forgotten {
                    if desk.heard.get(&id).is_some_and(|heard| heard.at <= written.at) {
                        desk.heard.remove(&id);
                    }
                }
                if let Some(history) = &self.history {
                    written.entries.into_iter().for_each(|entry| history.append(entry));
                }
                answer(written.waiting, true);
                for (health, count) in written.changed {
                    self.metrics.group_member_transitions(super::merge::label(health), count);
                }
                // What came meanwhile, and when the next one is due by itself.
                desks.schedule(&written.key, now);
            }
            Err(Fault::Conflict) => {
                desk.waiting.extend(written.waiting);
                // In its old place: those who wait were promised it.
                if desk.waiting.is_empty() {
                    desks.schedule(&written.key, written.turn);
                } else {
                    desks.expect(&written.key, written.turn);
                }
            }
            Err(Fault::Gone) => {
                answer(written.waiting, false);
                desks.remove(&written.key);
            }
            Err(fault) => {
                desk.failures += 1;
                let after = backoff::after(desk.failures, fastrand::f64());
                tracing::warn!(group = %written.key, %fault, ?after, "the members' health is not written yet");
                answer(written.waiting, false);
                desks.schedule(&written.key, now + after);
            }
        }
    }
}

/// How many servers changed to each health.
fn changes(old: &[MemberStatus], new: &[MemberStatus]) -> Vec<(MemberHealth, u64)> {
    let before = |id: &str| old.iter().find(|member| member.id == id).map(|member| member.health);
    [MemberHealth::Healthy, MemberHealth::Unhealthy, MemberHealth::Pending]
        .into_iter()
        .map(|health| {
            let now = new.iter().filter(|member| member.health == health && before(&member.id) != Some(health)).count();
            (health, u64::try_from(now).unwrap_or(u64::MAX))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The servers that had a report and have none any more.
fn forgotten(old: &[MemberStatus], new: &[MemberStatus]) -> Vec<String> {
    let reports = |members: &[MemberStatus], id: &str| members.iter().any(|m| m.id == id && m.report.is_some());
    let had = old.iter().filter(|member| member.report.is_some());
    had.filter(|member| !reports(new, &member.id)).map(|member| member.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::roster::Roster;
    use super::super::tests::{group, writer};
    use super::*;
    use crate::api::address::ServerAddress;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_somebody_else_was_quicker_than_keeps_its_place() {
        let (members, _transitions) = writer("http://127.0.0.1:9");
        let keys = ["a", "b"].map(|name| Key::namespaced("shop", name));
        for key in &keys {
            members.enroll(&Arc::new(group(&key.name, |_| {})), Roster::default());
        }
        let address = ServerAddress::parse("10.0.0.1").unwrap();
        let mut reports = Vec::new();
        for key in &keys {
            let mut report = Box::pin(members.report(key, &address, true));
            assert!(futures::poll!(&mut report).is_pending());
            reports.push(report);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let Write { key, object, at, turn, waiting, .. } = members.shared.due().expect("a report is to be written");
        assert_eq!(key, keys[0]);
        members.shared.ended(Written {
            key,
            uid: object.uid(),
            turn,
            result: Err(Fault::Conflict),
            changed: Vec::new(),
            took: Duration::ZERO,
            forgotten: Vec::new(),
            at,
            entries: Vec::new(),
            waiting,
        });
        assert_eq!(members.shared.due().expect("it is to be written again").key, keys[0]);
    }
}
