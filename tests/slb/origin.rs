//! Origins on loopback that keep a list of what reached them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{SinkExt, StreamExt};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What reached an origin.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    /// Bytes of the body so far.
    pub length: usize,
    /// SHA-256 of the whole body, once it is there.
    pub digest: Option<Vec<u8>>,
}

/// What an origin does with a request once it has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Answers with its name.
    Well,
    /// Answers with this status.
    Status(u16),
    /// Answers HEAD, and nothing else ever.
    Silent,
    /// Answers HEAD; breaks the connection of everything else once it has read the body.
    Breaks,
}

/// A running origin. Dropping it ends it and closes its port.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    name: String,
    seen: Mutex<Vec<Seen>>,
    mood: Mutex<Mood>,
    arrived: Notify,
}

impl Origin {
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            seen: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            arrived: Notify::new(),
        });
        let app = Router::new().fallback(answer).with_state(shared.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, _tasks: tasks }
    }

    /// As `ORIGINS` names it. A name and no address, as in production.
    pub fn url(&self) -> String {
        url(self.address.port())
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Everything that reached it, but for the Worker's question whether it is there.
    pub fn seen(&self) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| seen.method != "HEAD").collect()
    }

    /// Everything that reached it.
    pub fn all(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until what reached it fits.
    pub async fn until(&self, fits: impl Fn(&[Seen]) -> bool) {
        let found = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if fits(&self.all()) {
                    return;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("saw {:?}", self.all()));
    }
}

/// The URL of an origin at this port.
pub fn url(port: u16) -> String {
    format!("http://localhost:{port}")
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let index = {
        let mut seen = shared.seen.lock().unwrap();
        seen.push(Seen {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers: parts.headers.clone(),
            length: 0,
            digest: None,
        });
        seen.len() - 1
    };
    shared.arrived.notify_waiters();
    let mut hasher = Sha256::new();
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else { return StatusCode::BAD_REQUEST.into_response() };
        hasher.update(&piece);
        shared.seen.lock().unwrap()[index].length += piece.len();
        shared.arrived.notify_waiters();
    }
    shared.seen.lock().unwrap()[index].digest = Some(hasher.finalize().to_vec());
    shared.arrived.notify_waiters();
    let mood = *shared.mood.lock().unwrap();
    match mood {
        Mood::Silent if parts.method != "HEAD" => std::future::pending().await,
        Mood::Status(status) => (StatusCode::from_u16(status).unwrap(), shared.name.clone()).into_response(),
        // The connection ends with the body's error, before the answer's head has gone out.
        Mood::Breaks if parts.method != "HEAD" => panic!("this origin breaks the connection, as the test wants"),
        Mood::Well | Mood::Breaks | Mood::Silent => {
            ([("x-origin", shared.name.clone())], Body::from(shared.name.clone())).into_response()
        }
    }
}

/// An origin that speaks WebSocket and sends every message back.
pub async fn echo() -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, tasks)
}
