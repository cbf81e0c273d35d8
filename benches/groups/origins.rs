//! Servers, each with an address of its own in 127.0.0.0/8, that answer or refuse as they are told.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Servers that fail, and when each said so.
type Failing = Arc<Mutex<HashMap<IpAddr, Vec<Instant>>>>;

/// All of them, on one port.
pub struct Origins {
    /// Their port.
    pub port: u16,
    failing: Failing,
}

impl Origins {
    pub fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let listener: TcpListener = socket.listen(8_192).unwrap();
        let port = listener.local_addr().unwrap().port();
        let failing = Failing::default();
        let told = failing.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(answer(stream, told.clone()));
            }
        });
        Self { port, failing }
    }

    /// The address of the server of this number.
    pub fn address(index: usize) -> IpAddr {
        (u32::from(Ipv4Addr::new(127, 1, 0, 0)) + u32::try_from(index).unwrap()).to_be_bytes().into()
    }

    /// It answers 503 from now on.
    pub fn fail(&self, server: IpAddr) {
        self.failing.lock().unwrap().insert(server, Vec::new());
    }

    /// When it answered so for the `nth` time.
    pub fn failed(&self, server: IpAddr, nth: usize) -> Option<Instant> {
        self.failing.lock().unwrap().get(&server)?.get(nth - 1).copied()
    }
}

async fn answer(mut stream: TcpStream, failing: Failing) {
    let Ok(server) = stream.local_addr() else { return };
    let mut request = [0; 1024];
    while let Ok(1..) = stream.read(&mut request).await {
        let fails = {
            let mut failing = failing.lock().unwrap();
            failing.get_mut(&server.ip()).map(|said| said.push(Instant::now())).is_some()
        };
        let (status, body) = if fails { ("503 Service Unavailable", "no") } else { ("200 OK", "ok") };
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{body}").as_bytes()).await;
    }
}
