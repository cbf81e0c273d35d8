//! Who visits a site: by its name, over HTTPS, from outside.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use support::eventually;

use crate::rig::SOON;

/// How long a visitor has patience.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between a visitor's requests.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks the public resolver for each connection's address.
struct Resolver(SocketAddr);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0;
        Box::pin(async move {
            let answers = cloudsim::dns::server::query(resolver, name.as_str(), "A").await?;
            let addresses: Vec<SocketAddr> =
                answers.iter().filter_map(|answer| Some(SocketAddr::new(answer.parse::<IpAddr>().ok()?, 0))).collect();
            if addresses.is_empty() {
                return Err(format!("{} has no address: {answers:?}", name.as_str()).into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// What a site answered.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub body: String,
    pub headers: HeaderMap,
}

#[derive(Clone)]
pub struct Visitor {
    root: Vec<u8>,
    resolver: SocketAddr,
    client: Client,
}

impl Visitor {
    /// Trusts `root` (PEM) alone, and asks `resolver` for names.
    pub fn new(root: &[u8], resolver: SocketAddr) -> Self {
        // A connection of its own for each request.
        let client = client(root, resolver, None, 0);
        Self { root: root.to_owned(), resolver, client }
    }

    /// Asks once.
    pub async fn get(&self, url: &str) -> Result<Page, String> {
        get(&self.client, url).await
    }

    /// Asks one host for a page of a name, wherever the name leads.
    pub async fn get_at(&self, address: &str, name: &str, path: &str) -> Result<Page, String> {
        let address = SocketAddr::new(address.parse().unwrap(), 443);
        get(&client(&self.root, self.resolver, Some((name, address)), 0), &format!("https://{name}{path}")).await
    }

    /// Waits for a page with this status and body.
    pub async fn sees(&self, url: &str, status: u16, body: &str) -> Page {
        eventually(SOON, &format!("{status} {body:?} at {url}"), async || {
            let page = self.get(url).await?;
            let met = page.status == status && page.body.trim() == body;
            if met { Ok(page) } else { Err(format!("{} {:?}", page.status, page.body)) }
        })
        .await
    }

    /// Keeps asking until told to stop, by fresh connections and by ones that are kept.
    pub fn watch(&self, url: &str) -> Watch {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let clients = [client(&self.root, self.resolver, None, 0), client(&self.root, self.resolver, None, 1)];
        let tasks = clients.into_iter().map(|client| {
            let (stop, seen, url) = (stop.clone(), seen.clone(), url.to_owned());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let answer = get(&client, &url).await;
                    seen.lock().unwrap().add(&answer, begun);
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        Watch { tasks: tasks.collect(), stop, seen }
    }
}

fn client(root: &[u8], resolver: SocketAddr, fixed: Option<(&str, SocketAddr)>, idle: usize) -> Client {
    let mut builder = Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(root).unwrap()])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(idle)
        .timeout(PATIENCE)
        .dns_resolver(Resolver(resolver));
    if let Some((name, address)) = fixed {
        builder = builder.resolve(name, address);
    }
    builder.build().unwrap()
}

async fn get(client: &Client, url: &str) -> Result<Page, String> {
    let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Ok(Page { status, headers, body: answer.text().await.map_err(|error| format!("{error:?}"))? })
}

/// What was seen of a site until its watch ended.
#[derive(Debug, Default)]
pub struct Seen {
    pub answers: usize,
    /// Every page once, in the order in which they were first seen.
    pub pages: Vec<String>,
    /// What was answered with anything but 2xx, or not at all.
    pub failures: Vec<String>,
    slowest: Duration,
}

impl Seen {
    fn add(&mut self, answer: &Result<Page, String>, begun: Instant) {
        self.answers += 1;
        self.slowest = self.slowest.max(begun.elapsed());
        match answer {
            Ok(page) if (200..300).contains(&page.status) => {
                let body = page.body.trim();
                if !self.pages.iter().any(|page| page == body) {
                    self.pages.push(body.to_owned());
                }
            }
            Ok(page) => self.failures.push(format!("{} {}", page.status, page.body.trim())),
            Err(error) => self.failures.push(error.clone()),
        }
    }
}

/// A site that is being watched.
pub struct Watch {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Ends it.
    pub async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Ends it: every request was answered with 2xx. Gives the pages, in the order in which they were first seen.
    pub async fn unbroken(self, what: &str) -> Vec<String> {
        let seen = self.end().await;
        eprintln!("{what}: {} answers, the slowest after {:?}, {:?}", seen.answers, seen.slowest, seen.pages);
        assert!(seen.answers > 0, "{what}: nobody was asked");
        assert!(seen.failures.is_empty(), "{what}: {} of {} failed: {:?}", seen.failures.len(), seen.answers, {
            let shown = seen.failures.len().min(10);
            &seen.failures[..shown]
        });
        seen.pages
    }
}
