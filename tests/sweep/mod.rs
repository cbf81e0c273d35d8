//! The crash sweep: every write of a scenario, held; the operator killed; the write's fate decided; the operator started
//! again. What world that is in, what is done there, and what must hold then, is [`Ground`]'s and [`Scenario`]'s to say.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloudsim::Sim;
use cloudsim::faults::{Action, Fault, Release as CloudRelease};
use futures::future::LocalBoxFuture;
use support::{ApiProxy, Held, Operator, Release, within};

/// A world to sweep: an operator between a proxy before its API server and simulated clouds.
pub trait Ground {
    /// How long a case may take to converge.
    const CONVERGED: Duration;

    fn sim(&self) -> &Sim;
    fn proxy(&self) -> &ApiProxy;
    fn operator(&mut self) -> &mut Operator;

    /// The writes to the clouds since journal entry `since`.
    fn cloud_writes(&self, since: u64) -> Vec<String>;

    /// Waits until nothing has been written anywhere for so long.
    async fn quiet(&self, duration: Duration) -> Result<(), String>;

    /// Waits until nothing has been written anywhere for a moment, so that the next write belongs to what comes next.
    async fn calm(&self) -> Result<(), String> {
        self.quiet(Duration::from_millis(300)).await
    }
}

/// One change of one object.
pub trait Scenario: fmt::Debug + Copy {
    type World: Ground;
    /// What earlier cases left, for cases that begin with it.
    type Pool;

    /// The name of the object of a new case, which is Ready already where the scenario begins so.
    async fn prepare(self, world: &Self::World, pool: &mut Self::Pool) -> Result<String, String>;
    /// Asks for the change.
    async fn trigger(self, world: &Self::World, name: &str);
    /// Whether the object says that the change is done; otherwise what it says instead.
    async fn look(self, world: &Self::World, name: &str) -> Result<(), String>;
    /// Everything that must hold once the change is done, as complaints about what does not.
    async fn oracles(self, world: &Self::World, pool: &mut Self::Pool, name: &str) -> Vec<String>;
    /// Leaves the object of a case that went well to later ones.
    fn keep(self, name: &str, pool: &mut Self::Pool);
}

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    Cloud,
    /// Of those to the clouds, what goes to Workers: how many batches of records come before it varies.
    Workers,
    Api,
}

impl Site {
    /// Everywhere.
    pub const ALL: [Self; 2] = [Self::Cloud, Self::Api];

    /// The path of these writes, with `*` for anything; any without it.
    fn path(self) -> Option<String> {
        (self == Self::Workers).then(|| "*/workers/*".to_owned())
    }

    /// Those of these writes that go here.
    fn of(self, cloud: &[String]) -> Vec<String> {
        let goes = |write: &&String| self != Self::Workers || write.contains("/workers/");
        cloud.iter().filter(goes).cloned().collect()
    }
}

/// What becomes of a write, and of the operator that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The operator dies; the write is never carried out.
    Dropped,
    /// The operator dies; the write is carried out.
    Committed,
    /// The operator dies; the write is carried out while its successor is at work already.
    Late,
    /// The operator lives; the write is carried out, and its reply lost.
    ReplyLost,
}

impl Fate {
    /// Those of `make test`.
    pub const PLAIN: [Self; 2] = [Self::Dropped, Self::Committed];
    /// Those of the full matrix.
    pub const ALL: [Self; 4] = [Self::Dropped, Self::Committed, Self::Late, Self::ReplyLost];
    /// How late is late: longer than a restart takes, shorter than [`LATE_SETTLE`] by more than a second, because
    /// stored times have no fractions.
    pub const LATENESS: Duration = Duration::from_secs(2);
}

/// The settle time of worlds with late commits.
pub const LATE_SETTLE: Duration = Duration::from_secs(5);

/// One run of a scenario with one thing going wrong.
#[derive(Debug, Clone, Copy)]
pub struct Case<S> {
    pub scenario: S,
    pub site: Site,
    /// Which write, from 1.
    pub write: usize,
    pub fate: Fate,
}

impl<S: Scenario> fmt::Display for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?} write {}, {:?}", self.scenario, self.site, self.write, self.fate)
    }
}

/// How a case went.
#[derive(Debug)]
pub struct Verdict {
    /// The write that was struck; `None` if the scenario was through before there was one of that number.
    pub struck: Option<String>,
    /// What does not hold.
    pub complaints: Vec<String>,
}

/// The writes of one fault-free run.
#[derive(Debug, Default)]
pub struct Trace {
    pub cloud: Vec<String>,
    pub api: Vec<String>,
}

impl Trace {
    /// One case for each write to these sites and each fate.
    pub fn cases<S: Scenario>(&self, scenario: S, sites: &[Site], fates: &[Fate]) -> Vec<Case<S>> {
        let count = |site: Site| if site == Site::Api { self.api.len() } else { site.of(&self.cloud).len() };
        let writes = sites.iter().flat_map(|&site| (1..=count(site)).map(move |write| (site, write)));
        writes.flat_map(|(site, write)| fates.iter().map(move |&fate| Case { scenario, site, write, fate })).collect()
    }
}

/// Runs the scenario without any fault and answers its writes.
///
/// # Errors
/// What does not hold even so.
pub async fn trace<S: Scenario>(world: &S::World, scenario: S, pool: &mut S::Pool) -> Result<Trace, String> {
    let name = scenario.prepare(world, pool).await?;
    world.calm().await?;
    let since = world.sim().gate.journal.last();
    world.proxy().reset();
    scenario.trigger(world, &name).await;
    within(S::World::CONVERGED, &format!("{scenario:?} of {name}"), || scenario.look(world, &name)).await?;
    world.calm().await?;
    let cloud = world.cloud_writes(since);
    let api = world.proxy().writes().iter().map(ToString::to_string).collect();
    let complaints = scenario.oracles(world, pool, &name).await;
    if !complaints.is_empty() {
        return Err(format!("{scenario:?} of {name} without any fault: {}", complaints.join("; ")));
    }
    scenario.keep(&name, pool);
    Ok(Trace { cloud, api })
}

/// Runs one case.
pub async fn run<S: Scenario>(world: &mut S::World, case: Case<S>, pool: &mut S::Pool) -> Verdict {
    let mut struck = None;
    let result = strike(world, case, pool, &mut struck).await;
    world.sim().gate.faults.clear();
    Verdict { struck, complaints: result.err().unwrap_or_default() }
}

/// A write that waits for its fate.
enum Waiting {
    Cloud(u64),
    Api(Held),
}

async fn strike<S: Scenario>(
    world: &mut S::World,
    case: Case<S>,
    pool: &mut S::Pool,
    struck: &mut Option<String>,
) -> Result<(), Vec<String>> {
    let one = |complaint: String| vec![complaint];
    let scenario = case.scenario;
    let name = scenario.prepare(world, pool).await.map_err(one)?;
    world.calm().await.map_err(one)?;
    world.proxy().reset();
    let since = world.sim().gate.journal.last();
    let held = arm(world, case);
    scenario.trigger(world, &name).await;
    *struck = arrival(world, case, &name, since).await.map_err(one)?;
    if struck.is_none() {
        // What comes after the scenario is not to be struck instead.
        world.sim().gate.faults.clear();
        world.proxy().reset();
    }
    let mut late: LocalBoxFuture<()> = Box::pin(async {});
    if struck.is_some() && case.fate != Fate::ReplyLost {
        let waiting = match held {
            Some(mut held) => {
                held.arrived(Duration::from_secs(1)).await;
                Waiting::Api(held)
            }
            None => Waiting::Cloud(world.sim().gate.faults.held().first().map(|held| held.id).unwrap_or_default()),
        };
        world.operator().kill9().await;
        late = release(world, waiting, case.fate).await;
    }
    let goes_on = async {
        if struck.is_some() && case.fate != Fate::ReplyLost {
            world.operator().restart().await;
        }
        within(S::World::CONVERGED, &format!("{scenario:?} of {name}"), || scenario.look(world, &name)).await
    };
    tokio::join!(late, goes_on).1.map_err(one)?;
    let complaints = scenario.oracles(world, pool, &name).await;
    if !complaints.is_empty() {
        return Err(complaints);
    }
    scenario.keep(&name, pool);
    Ok(())
}

/// Orders the fault.
fn arm<S: Scenario>(world: &S::World, case: Case<S>) -> Option<Held> {
    let lost = case.fate == Fate::ReplyLost;
    match case.site {
        Site::Cloud | Site::Workers => {
            world.sim().gate.faults.add(Fault {
                cloud: None,
                method: Some("WRITE".to_owned()),
                path: case.site.path(),
                from: u64::try_from(case.write).unwrap(),
                count: Some(1),
                action: if lost { Action::CutAfter } else { Action::Hold },
            });
            None
        }
        Site::Api if lost => {
            world.proxy().lose_reply(case.write);
            None
        }
        Site::Api => Some(world.proxy().hold(case.write)),
    }
}

/// Waits until the write has arrived, or until the scenario is through without it.
async fn arrival<S: Scenario>(
    world: &S::World,
    case: Case<S>,
    name: &str,
    since: u64,
) -> Result<Option<String>, String> {
    let nth = || match case.site {
        Site::Cloud | Site::Workers => case.site.of(&world.cloud_writes(since)).into_iter().nth(case.write - 1),
        Site::Api => world.proxy().writes().get(case.write - 1).map(ToString::to_string),
    };
    let here = || match (case.site, case.fate) {
        (Site::Cloud | Site::Workers, Fate::Dropped | Fate::Committed | Fate::Late) => {
            nth().filter(|_| !world.sim().gate.faults.held().is_empty())
        }
        _ => nth(),
    };
    let mut through = 0;
    within(S::World::CONVERGED, &format!("{case} on {name}"), async || {
        if let Some(write) = here() {
            return Ok(Some(write));
        }
        match case.scenario.look(world, name).await {
            // Its last writes may follow what the object says of itself.
            Ok(()) if through >= 30 => Ok(None),
            Ok(()) => {
                through += 1;
                Err("through".to_owned())
            }
            Err(seen) => Err(seen),
        }
    })
    .await
}

/// Decides the fate of a write whose sender is dead; answers what is still to happen then.
async fn release(world: &impl Ground, waiting: Waiting, fate: Fate) -> LocalBoxFuture<'static, ()> {
    match waiting {
        Waiting::Cloud(id) => {
            let millis = u64::try_from(Fate::LATENESS.as_millis()).unwrap();
            let how = match fate {
                Fate::Dropped => CloudRelease::Drop,
                Fate::Late => CloudRelease::CommitLate(millis),
                Fate::Committed | Fate::ReplyLost => CloudRelease::CommitAndCut,
            };
            assert!(world.sim().gate.faults.release(id, how), "nothing was held");
            if fate == Fate::Late { Box::pin(tokio::time::sleep(Fate::LATENESS * 2)) } else { Box::pin(async {}) }
        }
        Waiting::Api(held) => {
            let how = match fate {
                Fate::Dropped => Release::Drop,
                Fate::Late => Release::CommitLate(Fate::LATENESS),
                Fate::Committed | Fate::ReplyLost => Release::Commit,
            };
            if fate == Fate::Late {
                return Box::pin(async move {
                    held.release(how).await;
                });
            }
            held.release(how).await;
            Box::pin(async {})
        }
    }
}

/// A scenario, and which of its writes meet which fates.
pub type Plan<'a, S> = (S, &'a [Site], &'a [Fate]);

/// Runs all cases of these scenarios, on these worlds at once; `choose` may leave some out. Each world brings a pool.
///
/// # Panics
/// With every complaint, if there is one; or if too many writes were never reached, which would prove nothing.
pub async fn sweep<S: Scenario>(
    scenarios: &[Plan<'_, S>],
    worlds: &mut [(S::World, S::Pool)],
    choose: impl Fn(Vec<Case<S>>) -> Vec<Case<S>>,
) {
    let started = Instant::now();
    let workers = worlds.len();
    let mut lists = Vec::new();
    for &(scenario, sites, fates) in scenarios {
        let (world, pool) = &mut worlds[0];
        let trace = trace(world, scenario, pool).await.unwrap();
        let cases = choose(trace.cases(scenario, sites, fates));
        println!(
            "{scenario:?}: {} writes to the clouds, {} to the API server, {} cases\n  {}\n  {}",
            trace.cloud.len(),
            trace.api.len(),
            cases.len(),
            trace.cloud.join("\n  "),
            trace.api.join("\n  ")
        );
        lists.push(VecDeque::from(cases));
    }
    // In turn, so that what one case leaves Ready is what the next begins with.
    let mut queue = VecDeque::new();
    while lists.iter().any(|list| !list.is_empty()) {
        queue.extend(lists.iter_mut().filter_map(VecDeque::pop_front));
    }
    let total = queue.len();
    println!("{total} cases on {workers} worlds, prepared in {:?}", started.elapsed());
    let (queue, done) = (Mutex::new(queue), Mutex::new(Vec::new()));
    futures::future::join_all(worlds.iter_mut().map(|(world, pool)| {
        let (queue, done) = (&queue, &done);
        async move {
            loop {
                let Some(case) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { break };
                let began = Instant::now();
                let verdict = run(world, case, pool).await;
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                let write = verdict.struck.as_deref().unwrap_or("not reached");
                let said = if verdict.complaints.is_empty() { "ok" } else { "FAILED" };
                println!("{}/{total} {case} ({write}): {said}, {:?}", done.len() + 1, began.elapsed());
                if !verdict.complaints.is_empty() {
                    println!("  {}", verdict.complaints.join("\n  "));
                    world.operator().dump_log();
                }
                done.push((case, verdict));
            }
        }
    }))
    .await;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let unreached = done.iter().filter(|(_, verdict)| verdict.struck.is_none()).count();
    let failed: Vec<String> = done
        .iter()
        .filter(|(_, verdict)| !verdict.complaints.is_empty())
        .map(|(case, verdict)| format!("{case} ({:?}): {}", verdict.struck, verdict.complaints.join("; ")))
        .collect();
    println!("{total} cases, {unreached} not reached, {} failed, {:?}", failed.len(), started.elapsed());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(unreached * 10 <= total, "{unreached} of {total} writes were never reached");
}
