//! Visitors who come all the time: some keep their connection, some make a new one for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Connection, Trust};

/// How long a visitor waits between two requests: the machine is shared, and a test is no benchmark.
const PAUSE: Duration = Duration::from_millis(4);

/// An answered request.
#[derive(Debug, Clone)]
pub struct Hit {
    pub sent: Instant,
    pub answered: Instant,
    /// What the app said.
    pub body: String,
}

/// What the visitors saw.
#[derive(Debug, Default)]
pub struct Tally {
    pub hits: Vec<Hit>,
    /// What went wrong, a line each.
    pub failed: Vec<String>,
    /// Kept connections that were closed.
    pub closed: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.hits.extend(other.hits);
        self.failed.extend(other.failed);
        self.closed += other.closed;
    }
}

/// Whom to visit.
#[derive(Clone)]
pub struct Site {
    pub address: SocketAddr,
    pub name: &'static str,
    pub trust: Trust,
}

impl Site {
    async fn connect(&self) -> Result<Connection, String> {
        Connection::tls(self.address, self.name, &self.trust).await
    }
}

/// Running visitors.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    visitors: JoinSet<Tally>,
}

impl Load {
    /// `kept` visitors keep their connection, `fresh` ones do not. Every third request is a POST with a body.
    pub fn start(site: &Site, kept: usize, fresh: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut visitors = JoinSet::new();
        for n in 0..kept + fresh {
            visitors.spawn(visit(site.clone(), n < kept, stop.clone(), answered.clone()));
        }
        Self { stop, answered, visitors }
    }

    /// Waits until this many more requests were answered.
    pub async fn served(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        support::eventually(Duration::from_mins(1), "requests to be answered", async || {
            let answered = self.answered.load(Ordering::Relaxed);
            (answered >= wanted).then_some(()).ok_or(format!("{answered} of {wanted}"))
        })
        .await;
    }

    /// Ends the visits, and says what was seen.
    pub async fn end(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        while let Some(visitor) = self.visitors.join_next().await {
            tally.add(visitor.unwrap());
        }
        tally
    }
}

async fn visit(site: Site, keep: bool, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if connection.as_ref().is_some_and(Connection::is_closed) {
            tally.closed += 1;
            connection = None;
        }
        let sent = Instant::now();
        let answer = match connection.take() {
            Some(open) => Ok(open),
            None => site.connect().await,
        };
        let answer = match answer {
            Ok(mut open) => {
                let answer = if n % 3 == 0 { open.post("/", "+").await } else { open.get("/").await };
                connection = keep.then_some(open);
                answer
            }
            Err(error) => Err(error),
        };
        // An app that says its name, and after it what it was sent.
        let expected = |body: &str| body.starts_with('v') && body.ends_with('+') == (n % 3 == 0);
        match answer {
            Ok(answer) if answer.status == 200 && expected(&answer.body) => {
                tally.hits.push(Hit { sent, answered: Instant::now(), body: answer.body });
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => tally.failed.push(format!("{} {:?} for request {n}", answer.status, answer.body)),
            Err(error) => {
                tally.failed.push(format!("{error} for request {n}"));
                connection = None;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    tally
}
