//! After a 101: bytes both ways, each direction closed on its own.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::capture::Exchange;
use crate::record::End;

use super::stream::Stream;

/// An upgraded connection to the application, what was read of it already, and the exchange it belongs to.
pub struct Tunnel {
    pub(super) upstream: Stream,
    pub(super) early: BytesMut,
    pub(super) exchange: Exchange,
}

impl Tunnel {
    /// Copies until both directions have ended, or one failed, and records what it was.
    pub async fn run<C: AsyncRead + AsyncWrite + Unpin>(self, client: C) {
        self.exchange.response_started();
        let (mut up, mut down) = (0, 0);
        let ended = copy_both(client, self.upstream, self.early, &mut up, &mut down).await;
        self.exchange.tunnel_bytes(up, down);
        let _ = match ended {
            Ok(()) => self.exchange.finish(End::Complete, None),
            Err(Broken::Client) => self.exchange.finish(End::ClientClosed, Some("the client broke off the tunnel")),
            Err(Broken::Upstream) => {
                self.exchange.finish(End::UpstreamReset, Some("the application broke off the tunnel"))
            }
        };
    }
}

/// Which side failed.
enum Broken {
    Client,
    Upstream,
}

async fn copy_both<C: AsyncRead + AsyncWrite + Unpin>(
    client: C,
    upstream: Stream,
    early: BytesMut,
    up: &mut u64,
    down: &mut u64,
) -> Result<(), Broken> {
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut upstream_read, mut upstream_write) = tokio::io::split(upstream);
    let upward = async { copy(&mut client_read, &mut upstream_write, up, Broken::Client, Broken::Upstream).await };
    let downward = async {
        if !early.is_empty() {
            client_write.write_all(&early).await.map_err(|_| Broken::Client)?;
            client_write.flush().await.map_err(|_| Broken::Client)?;
            *down += early.len() as u64;
        }
        copy(&mut upstream_read, &mut client_write, down, Broken::Upstream, Broken::Client).await
    };
    tokio::try_join!(upward, downward).map(drop)
}

/// Copies one direction; its end is passed on as a half-close.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &mut u64,
    source: Broken,
    target: Broken,
) -> Result<(), Broken> {
    // Two pages a direction: an idle WebSocket should not cost more.
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(read) => read,
            // TLS without a close_notify: the other side went away, as many do.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(_) => return Err(source),
        };
        let written = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        if written.await.is_err() {
            return Err(target);
        }
        *count += read as u64;
    }
    // The other side may be gone already; its own direction says so.
    let _ = to.shutdown().await;
    Ok(())
}
