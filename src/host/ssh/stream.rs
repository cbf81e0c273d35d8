//! Channels to the host's sockets, as streams of bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Error;
use super::session::{Opened, Session, Wanted};

/// How much may wait on the way, each way.
const BUFFER: usize = 64 << 10;
/// How long data may wait for its reader before the stream is cut, so that the others of the connection go on.
const UNREAD: Duration = Duration::from_secs(5);
/// How long the host may take to close a channel that we no longer want.
const CLOSING: Duration = Duration::from_secs(5);

/// A connection from the host to one of its sockets. Dropping it closes it.
///
/// Its end is the peer's: a cut of the SSH connection is an error. Whoever leaves data unread for 5 s loses the stream,
/// because meanwhile nobody else hears from the host.
#[derive(Debug)]
pub struct Stream {
    bytes: DuplexStream,
    cut: Arc<AtomicBool>,
    /// Dropped with the stream, which the task between hears.
    _wanted: oneshot::Sender<()>,
}

impl Session {
    /// A connection that the host makes to `host` and `port`, as it sees them.
    ///
    /// # Errors
    /// If it comes about not at all or not within `limit`.
    pub async fn tcp(&self, host: &str, port: u16, limit: Duration) -> Result<Stream, Error> {
        self.stream(Wanted::Tcp(host.to_owned(), port), limit).await
    }

    /// A connection that the host makes to the socket at `path` in its file system.
    ///
    /// # Errors
    /// If it comes about not at all or not within `limit`.
    pub async fn unix(&self, path: &str, limit: Duration) -> Result<Stream, Error> {
        self.stream(Wanted::Unix(path.to_owned()), limit).await
    }

    async fn stream(&self, wanted: Wanted, limit: Duration) -> Result<Stream, Error> {
        let what = format!("{} at {}", wanted.describe(), self.link.server);
        let opened = timeout(limit, self.link.open(wanted)).await;
        let Opened { channel, permit } = opened.unwrap_or(Err(Error::TimedOut { what, limit }))?;
        let (bytes, ours) = tokio::io::duplex(BUFFER);
        let (wanted, dropped) = oneshot::channel();
        let cut = Arc::new(AtomicBool::new(false));
        let stream = Stream { bytes, cut: Arc::clone(&cut), _wanted: wanted };
        tokio::spawn(async move {
            let (mut read, write) = channel.split();
            let (from, to) = tokio::io::split(ours);
            let whole = tokio::select! {
                whole = pass(&mut read, &write, from, to, &cut) => whole,
                _ = dropped => false,
            };
            if !whole {
                close(&mut read, &write).await;
            }
            drop(permit);
        });
        Ok(stream)
    }
}

/// Passes bytes on in both directions until both have ended or the host closes. Whether the host has closed the channel.
async fn pass(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    cut: &AtomicBool,
) -> bool {
    let outward = async {
        let mut buffer = BytesMut::with_capacity(BUFFER);
        while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            let data: Bytes = buffer.split().freeze();
            if write.data_bytes(data).await.is_err() {
                break;
            }
            buffer.reserve(BUFFER);
        }
        let _ = write.eof().await;
        // The other direction decides how it ends.
        std::future::pending::<bool>().await
    };
    let inward = async {
        loop {
            match read.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    if !matches!(timeout(UNREAD, to.write_all(&data)).await, Ok(Ok(()))) {
                        cut.store(true, Ordering::Release);
                        return false;
                    }
                }
                Some(ChannelMsg::Eof) => {
                    let _ = to.shutdown().await;
                }
                Some(ChannelMsg::Close) => return true,
                Some(_) => {}
                None => {
                    cut.store(true, Ordering::Release);
                    return true;
                }
            }
        }
    };
    tokio::select! {
        whole = outward => whole,
        whole = inward => whole,
    }
}

/// Ends what we write and awaits the host's close. Closing first would leave the library a remnant of the channel for as
/// long as the connection lives.
async fn close(read: &mut ChannelReadHalf, write: &ChannelWriteHalf<Msg>) {
    let closing = async {
        let _ = write.eof().await;
        while !matches!(read.wait().await, Some(ChannelMsg::Close) | None) {}
    };
    if timeout(CLOSING, closing).await.is_err() {
        let _ = timeout(CLOSING, write.close()).await;
    }
}

impl Stream {
    fn cut() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the SSH connection was cut, or its data left unread")
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.bytes).poll_read(cx, buffer))?;
        let ended = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(if ended && self.cut.load(Ordering::Acquire) { Err(Self::cut()) } else { Ok(()) })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}
