//! Who is probed when, and what a result means: everything the engine knows, as a plain value.
//!
//! Time and randomness come in from outside, and no lock is held across a wait. While our own network is in doubt
//! (`pulse`), falls are held back until a self-check that began after them has passed. If it fails, everything is
//! frozen: results count for nothing until one passes, and anew from then on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::pulse::Pulse;
use super::verdict::Standing;
use super::{Outcome, Target, Transition, Verdict};

/// No target is probed more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// So many new targets in any second are probed at once. What is beyond that is spread over the interval, so that
/// neither a start nor a large group is a burst every interval.
const AT_ONCE: u32 = 16;
/// See [`AT_ONCE`].
const NEWCOMERS_WINDOW: Duration = Duration::from_secs(1);

/// A probe that is to be made now.
#[derive(Debug)]
pub(super) struct Launch {
    pub target: Arc<Target>,
    pub due: Instant,
    generation: u64,
    era: u64,
}

struct Entry {
    target: Arc<Target>,
    /// When it is probed next; `None` while it is being probed.
    due: Option<Instant>,
    standing: Standing,
    /// Tells it from another that had the same key: a result of that one is void.
    generation: u64,
}

pub(super) struct State {
    entries: HashMap<Arc<str>, Entry>,
    owners: HashMap<String, Vec<Arc<str>>>,
    queue: BTreeSet<(Instant, Arc<str>)>,
    /// Verdicts from an earlier life whose targets are not declared yet.
    restored: HashMap<String, Verdict>,
    newcomers: (Instant, u32),
    rng: fastrand::Rng,
    generation: u64,
    pulse: Pulse,
    /// Whether a self-check is wanted.
    doubt: bool,
    /// Falls that are held back until the next self-check, and those the one under way is for.
    held: HashSet<Arc<str>>,
    in_question: HashSet<Arc<str>>,
    isolated: bool,
    /// Ends with every isolation: a probe that began in an earlier one is void.
    era: u64,
}

impl State {
    pub fn new(now: Instant, rng: fastrand::Rng) -> Self {
        Self {
            entries: HashMap::new(),
            owners: HashMap::new(),
            queue: BTreeSet::new(),
            restored: HashMap::new(),
            newcomers: (now, 0),
            rng,
            generation: 0,
            pulse: Pulse::default(),
            doubt: false,
            held: HashSet::new(),
            in_question: HashSet::new(),
            isolated: false,
            era: 0,
        }
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    pub fn verdict(&self, key: &str) -> Option<Verdict> {
        let live = self.entries.get(key).map(|entry| entry.standing.verdict());
        live.unwrap_or_else(|| self.restored.get(key)).cloned()
    }

    pub fn restore(&mut self, key: &str, verdict: Verdict) {
        match self.entries.get_mut(key) {
            Some(entry) if entry.standing.verdict().is_none() => entry.standing = Standing::known(verdict),
            Some(_) => {}
            None => drop(self.restored.insert(key.to_owned(), verdict)),
        }
    }

    pub fn declare(&mut self, owner: &str, targets: Vec<Target>, now: Instant) {
        let keys: HashSet<Arc<str>> = targets.iter().map(|target| Arc::clone(&target.key)).collect();
        for key in self.owners.remove(owner).unwrap_or_default() {
            if !keys.contains(&key) {
                self.end(&key);
            }
        }
        if !keys.is_empty() {
            self.owners.insert(owner.to_owned(), keys.into_iter().collect());
        }
        for target in targets {
            self.set(target, now);
        }
        // A left-over would be believed of whoever gets the key years later.
        self.restored
            .retain(|key, _| key.strip_prefix(owner).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/')));
    }

    fn end(&mut self, key: &Arc<str>) {
        if let Some(due) = self.entries.remove(key).and_then(|entry| entry.due) {
            self.queue.remove(&(due, Arc::clone(key)));
        }
    }

    fn set(&mut self, target: Target, now: Instant) {
        let key = Arc::clone(&target.key);
        let before = self.entries.get_mut(&key);
        if before.as_ref().is_some_and(|entry| *entry.target == target) {
            return;
        }
        let (standing, due) = match before {
            Some(entry) if entry.target.check == target.check => {
                let mut standing = std::mem::take(&mut entry.standing);
                standing.forget_results();
                let next = now + interval(&target);
                (standing, entry.due.map_or(next, |due| due.min(next)))
            }
            Some(_) => (Standing::default(), self.first_probe(&target, now)),
            None => match self.restored.remove(&*key) {
                // Nobody waits for what is known: only a change of it would be news.
                Some(verdict) => (Standing::known(verdict), now + interval(&target).mul_f64(self.rng.f64())),
                None => (Standing::default(), self.first_probe(&target, now)),
            },
        };
        self.end(&key);
        self.generation += 1;
        let entry = Entry { target: Arc::new(target), due: Some(due), standing, generation: self.generation };
        self.queue.insert((due, Arc::clone(&key)));
        self.entries.insert(key, entry);
    }

    fn first_probe(&mut self, target: &Target, now: Instant) -> Instant {
        let (since, count) = &mut self.newcomers;
        if now.duration_since(*since) >= NEWCOMERS_WINDOW {
            (*since, *count) = (now, 0);
        }
        if *count < AT_ONCE {
            *count += 1;
            return now;
        }
        now + interval(target).mul_f64(self.rng.f64())
    }

    /// When the next probe is due; `None` if there is none.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The next probe that is due, longest waiting first.
    pub fn take_due(&mut self, now: Instant) -> Option<Launch> {
        let (due, key) = self.queue.first().filter(|(due, _)| *due <= now).cloned()?;
        self.queue.remove(&(due, Arc::clone(&key)));
        let entry = self.entries.get_mut(&key)?;
        entry.due = None;
        Some(Launch { target: Arc::clone(&entry.target), due, generation: entry.generation, era: self.era })
    }

    /// Takes in the result of a probe and puts its target back into the queue. The verdict, if it turned.
    pub fn finish(&mut self, launch: &Launch, outcome: Outcome, now: Instant, wall: Timestamp) -> Option<Transition> {
        let target = &launch.target;
        let entry = self.entries.get_mut(&target.key).filter(|entry| entry.generation == launch.generation)?;
        let jittered = interval(target).mul_f64(0.9 + 0.2 * self.rng.f64());
        let due = (launch.due + jittered).max(now);
        entry.due = Some(due);
        self.queue.insert((due, Arc::clone(&target.key)));
        if self.isolated || launch.era != self.era {
            return None;
        }
        let (fall, rise) = (target.fall.max(1), target.rise.max(1));
        let turned = match outcome {
            Outcome::Inconclusive(_) => None,
            Outcome::Success => {
                self.pulse.success(now);
                entry.standing.succeeded(rise, wall)
            }
            Outcome::Failure(failure) => {
                let was_unhealthy = entry.standing.is_unhealthy();
                entry.standing.failed(failure, fall, now);
                if was_unhealthy {
                    return None;
                }
                self.pulse.failure(now);
                self.doubt |= self.pulse.doubts_now(now);
                if !entry.standing.may_fall(fall) {
                    None
                } else if self.pulse.doubts_row(entry.standing.failing_since().unwrap_or(now)) {
                    self.doubt = true;
                    self.held.insert(Arc::clone(&target.key));
                    None
                } else {
                    entry.standing.fall(wall)
                }
            }
        };
        turned.cloned().map(|verdict| Transition { key: Arc::clone(&target.key), verdict })
    }

    /// Whether a self-check should be made.
    pub fn wants_self_check(&self) -> bool {
        self.doubt || self.isolated
    }

    /// A self-check begins: it decides over the falls that are held back now, not over later ones.
    pub fn begin_self_check(&mut self) {
        self.doubt = false;
        self.in_question = std::mem::take(&mut self.held);
    }

    /// The self-check that was begun has passed, or not. The falls that it confirms.
    pub fn end_self_check(&mut self, passed: bool, wall: Timestamp) -> Vec<Transition> {
        let in_question = std::mem::take(&mut self.in_question);
        match (passed, self.isolated) {
            (false, _) => {
                self.isolated = true;
                self.held.clear();
                self.doubt = false;
                Vec::new()
            }
            (true, true) => {
                self.isolated = false;
                self.era += 1;
                self.pulse = Pulse::default();
                for entry in self.entries.values_mut() {
                    entry.standing.forget_results();
                }
                Vec::new()
            }
            (true, false) => in_question.into_iter().filter_map(|key| self.confirm(key, wall)).collect(),
        }
    }

    /// A held fall happens, unless the target was replaced or answered meanwhile.
    fn confirm(&mut self, key: Arc<str>, wall: Timestamp) -> Option<Transition> {
        let entry = self.entries.get_mut(&key)?;
        let standing = &mut entry.standing;
        let verdict = standing.may_fall(entry.target.fall.max(1)).then(|| standing.fall(wall)).flatten().cloned()?;
        Some(Transition { key, verdict })
    }
}

fn interval(target: &Target) -> Duration {
    target.interval.max(SHORTEST_INTERVAL)
}
