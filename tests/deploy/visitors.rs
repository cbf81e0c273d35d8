//! Visitors of a site, who ask all the time and remember every answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::host::Host;

/// How long a visitor rests after an answer.
const REST: Duration = Duration::from_millis(15);

/// Two visitors: one with a new connection for each request, over HTTP, and one that keeps its own, over HTTPS.
pub struct Visitors {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    answers: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Seen {
    fn take(&mut self, answer: Result<String, String>, when: &str) {
        match answer {
            Ok(body) => *self.answers.entry(body).or_default() += 1,
            Err(why) => self.failures.push(format!("{when}: {why}")),
        }
    }
}

impl Host {
    /// Somebody who finds this name here.
    pub fn client(&self, name: &str) -> Client {
        let client = Client::builder().no_proxy().resolve(name, (self.address, 0).into());
        client.pool_max_idle_per_host(0).timeout(Duration::from_secs(10)).build().unwrap()
    }
}

impl Visitors {
    /// They come.
    pub fn of(host: &Host, name: &str) -> Self {
        let keeping = Client::builder().no_proxy().resolve(name, (host.address, 0).into());
        let keeping = keeping.danger_accept_invalid_certs(true).timeout(Duration::from_secs(10)).build().unwrap();
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let visit = |client: Client, url: String| {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            tokio::spawn(async move {
                let begun = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    let answer = ask(&client, &url).await;
                    seen.lock().unwrap().take(answer, &format!("{url} after {:?}", begun.elapsed()));
                    sleep(REST).await;
                }
            })
        };
        let tasks =
            vec![visit(host.client(name), format!("http://{name}/")), visit(keeping, format!("https://{name}/"))];
        Self { seen, over, tasks }
    }

    /// They go; how often they got which page. Everything else they got is a failure.
    pub async fn leave(self) -> BTreeMap<String, usize> {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        assert_eq!(seen.failures, Vec::<String>::new(), "visitors were let down; they also got {:?}", seen.answers);
        seen.answers
    }
}

async fn ask(client: &Client, url: &str) -> Result<String, String> {
    let words = |error: reqwest::Error| format!("{error:?}");
    let answer = client.get(url).send().await.map_err(words)?;
    let status = answer.status();
    let body = answer.text().await.map_err(words)?;
    if status.is_success() { Ok(body) } else { Err(format!("{status} {body}")) }
}
