//! The rig's registry behind a door of the test's own, which opens, or says what registries say.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_server::tls_rustls::RustlsConfig;
use data_encoding::BASE64;
use reqwest::Client;
use tokio::task::JoinHandle;

use crate::rig::Rig;

/// What happens to who asks.
#[derive(Debug, Clone)]
pub enum Mood {
    /// The registry answers.
    Well,
    /// This is answered: status, content type and body.
    Says(u16, &'static str, &'static str),
    /// The registry answers this user with this password alone.
    Asks(&'static str, &'static str),
}

struct Door {
    behind: String,
    client: Client,
    mood: Mutex<(Mood, usize)>,
}

pub struct Registry {
    /// Host and port, as in the names of images.
    pub host: String,
    door: Arc<Door>,
    serving: JoinHandle<()>,
}

impl Registry {
    /// In front of the rig's own, and as well as that.
    pub async fn start(rig: &Rig) -> Self {
        let config = RustlsConfig::from_pem_file(rig.file("server.pem"), rig.file("server.key")).await.unwrap();
        let address = SocketAddr::new(rig.env["VM_GATEWAY"].parse().unwrap(), 0);
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let authority = std::fs::read(&rig.env["VM_AUTHORITY"]).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let client = Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let behind = format!("https://{}", rig.env["VM_REGISTRY"]);
        let door = Arc::new(Door { behind, client, mood: Mutex::new((Mood::Well, 0)) });
        let router = axum::Router::new().fallback(answer).with_state(door.clone());
        let server = axum_server::from_tcp_rustls(listener, config).unwrap();
        let serving = tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        Self { host, door, serving }
    }

    pub fn set(&self, mood: Mood) {
        *self.door.mood.lock().unwrap() = (mood, 0);
    }

    /// How many requests were turned away since the mood was set.
    pub fn refused(&self) -> usize {
        self.door.mood.lock().unwrap().1
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Door {
    /// Why a request is turned away, if it is.
    fn refuses(&self, request: &Request) -> Option<Response> {
        let mut mood = self.mood.lock().unwrap();
        let refusal = match &mood.0 {
            Mood::Well => return None,
            Mood::Says(status, kind, body) => {
                (StatusCode::from_u16(*status).unwrap(), [(header::CONTENT_TYPE, *kind)], *body).into_response()
            }
            Mood::Asks(user, password) => {
                let expected = format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()));
                if request.headers().get(header::AUTHORIZATION).is_some_and(|given| given == expected.as_str()) {
                    return None;
                }
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                let headers =
                    [(header::WWW_AUTHENTICATE, "Basic realm=\"rig\""), (header::CONTENT_TYPE, "application/json")];
                (StatusCode::UNAUTHORIZED, headers, body).into_response()
            }
        };
        mood.1 += 1;
        Some(refusal)
    }
}

async fn answer(State(door): State<Arc<Door>>, request: Request) -> Response {
    if let Some(refusal) = door.refuses(&request) {
        return refusal;
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut asked = door.client.request(request.method().clone(), format!("{}{path}", door.behind));
    // One header for each kind of manifest that the engine knows.
    for kind in request.headers().get_all(header::ACCEPT) {
        asked = asked.header(header::ACCEPT, kind);
    }
    match asked.send().await {
        Ok(answer) => {
            let mut response = Response::builder().status(answer.status());
            let connection = [header::CONNECTION, header::TRANSFER_ENCODING];
            for (name, value) in answer.headers().iter().filter(|(name, _)| !connection.contains(name)) {
                response = response.header(name, value);
            }
            response.body(Body::from_stream(answer.bytes_stream())).unwrap()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:?}")).into_response(),
    }
}
