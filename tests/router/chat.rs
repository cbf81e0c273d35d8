//! An app that speaks WebSocket, and its visitors.

use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::rig::Host;

/// An app that answers each message with its name. Dropping it closes its port and its connections.
pub struct Chat {
    pub port: u16,
    _tasks: JoinSet<()>,
}

impl Chat {
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                    while let Some(Ok(Message::Text(_))) = socket.next().await {
                        socket.send(Message::text(name)).await.unwrap();
                    }
                });
            }
        });
        Self { port, _tasks: tasks }
    }
}

/// A WebSocket through Caddy to whichever app has the name at the moment.
pub struct Talk(WebSocketStream<TlsStream<TcpStream>>);

impl Talk {
    pub async fn open(host: &Host, name: &str) -> Self {
        let stream = host.trust().connect(host.https, name).await.unwrap();
        Self(tokio_tungstenite::client_async(format!("ws://{name}/"), stream).await.unwrap().0)
    }

    /// What the app at its other end is called, if that is still there.
    pub async fn ask(&mut self) -> Result<String, String> {
        self.0.send(Message::text("who?")).await.map_err(|error| error.to_string())?;
        match self.0.next().await {
            Some(Ok(Message::Text(name))) => Ok(name.to_string()),
            other => Err(format!("{other:?}")),
        }
    }
}
