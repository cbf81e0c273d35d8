//! workerd with the Worker, and a client in front of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cloudsim::workerd::{Module, Outbound, Script, Workerd};
use reqwest::{Client, RequestBuilder};
use serde_json::json;
use support::workerd;

use crate::origin::Origin;

/// The Worker, and a client of it. Dropping it ends workerd.
pub struct Bench {
    workerd: Workerd,
    client: Client,
}

impl Bench {
    /// Starts the Worker with these bindings.
    pub async fn start(bindings: &[(&str, &str)]) -> Self {
        // Only the first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let script = Script {
            modules: vec![Module { name: "worker.js".to_owned(), text: roadstead::slb::WORKER.into() }],
            compatibility_date: roadstead::slb::COMPATIBILITY_DATE.to_owned(),
            compatibility_flags: Vec::new(),
            bindings: bindings
                .iter()
                .map(|(name, text)| json!({"type": "plain_text", "name": name, "text": text}))
                .collect(),
        };
        let binary = tokio::task::spawn_blocking(workerd).await.unwrap();
        let workerd = Workerd::start(&binary, &script, Outbound::Network).await.unwrap();
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { workerd, client }
    }

    /// Starts it over these origins.
    pub async fn over(origins: &[&Origin], bindings: &[(&str, &str)]) -> Self {
        let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
        Self::start(&[&[("ORIGINS", urls.join(",").as_str())], bindings].concat()).await
    }

    pub fn address(&self) -> SocketAddr {
        self.workerd.address()
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    pub fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(self.url(path))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.workerd.address())
    }

    /// How often each origin answered `count` GETs, one after the other.
    pub async fn shares(&self, count: usize) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..count {
            *shares.entry(answer(self.get("/")).await.1).or_default() += 1;
        }
        shares
    }
}

/// Status and body.
pub async fn answer(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// What an origin named so answers.
pub fn from(name: &str) -> (u16, String) {
    (200, name.to_owned())
}
