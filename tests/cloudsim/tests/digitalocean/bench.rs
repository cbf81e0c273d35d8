//! A simulator with one token and a clock that stands still, and the requests tests send to it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use cloudsim::clock::Clock;
use cloudsim::digitalocean::{Settings, State, TokenSpec, control_router, router};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tower::ServiceExt;

pub const TOKEN: &str = "dop_v1_test";

/// A simulator with one full token and a clock that stands still.
pub struct Bench {
    pub clock: Clock,
    pub state: Arc<State>,
    pub app: Router,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> i64 {
        self.headers[name].to_str().unwrap().parse().unwrap()
    }

    pub fn refused(&self, status: u16, id: &str, message: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["id"], id);
        assert_eq!(self.body["message"], message);
        assert!(self.body["request_id"].is_string());
    }
}

impl Bench {
    pub fn new(settings: Settings) -> Self {
        let clock = Clock::fixed(jiff::Timestamp::from_second(1_800_000_000).unwrap());
        let state = Arc::new(State::new(clock.clone()));
        state.set_settings(settings);
        state.put_token(TokenSpec::new(TOKEN));
        let app = Router::new()
            .nest("/digitalocean", router(state.clone()))
            .nest("/sim/digitalocean", control_router(state.clone()));
        Self { clock, state, app }
    }

    pub fn immediate() -> Self {
        Self::new(Settings::immediate())
    }

    pub fn advance(&self, milliseconds: i64) {
        self.clock.advance(SignedDuration::from_millis(milliseconds));
    }

    pub async fn send(&self, token: &str, method: Method, uri: &str, body: Option<Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "127.0.0.1:8080")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status, headers, body }
    }

    pub async fn api(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send(TOKEN, method, &format!("/digitalocean{path}"), body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.api(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.api(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.api(Method::DELETE, path, None).await
    }

    pub async fn control(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send("", method, &format!("/sim/digitalocean{path}"), body).await
    }

    pub async fn create(&self, name: &str, tags: &[&str]) -> u64 {
        let answer = self.post("/v2/droplets", order(name, tags)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["droplet"]["id"].as_u64().unwrap()
    }

    pub async fn names(&self, path: &str) -> Vec<String> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let droplets = answer.body["droplets"].as_array().unwrap();
        droplets.iter().map(|droplet| droplet["name"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn order(name: &str, tags: &[&str]) -> Value {
    json!({
        "name": name, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
        "tags": tags, "user_data": "#cloud-config\n", "monitoring": true,
    })
}

pub fn changed(field: &str, value: impl Into<Value>) -> Value {
    let mut order = order("web-1", &[]);
    order[field] = value.into();
    order
}

/// How a bad tag name is refused.
pub const TAG_RULE: &str =
    "tag names may contain letters, numbers, colons, dashes, and underscores, and at most 255 characters";
