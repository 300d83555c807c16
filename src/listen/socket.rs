//! Listening sockets, one a worker on the same address.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Address;
use crate::forward::Stream;

/// Connections that may wait in the kernel for us: what nginx asks for on Linux, twice.
const BACKLOG: i32 = 1024;

/// A bound socket that is not yet listened on by any runtime.
#[derive(Debug)]
pub enum Bound {
    /// TCP, each worker its own socket (`SO_REUSEPORT`: the kernel spreads connections without a lock).
    Tcp(std::net::TcpListener),
    /// One Unix socket, shared by all workers.
    Unix(StdUnixListener),
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The same, in a runtime.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    /// Binds one socket for each of `workers`.
    pub fn bind(address: &Address, workers: usize) -> Result<Vec<Self>, BindError> {
        let failed = |source| BindError { address: address.to_string(), source };
        match address {
            Address::Tcp(address) => {
                // Port 0 is for tests: the first bind chooses, the others join it.
                let mut address = *address;
                let mut all = Vec::with_capacity(workers);
                // A first socket without SO_REUSEPORT finds out whether somebody else is there.
                probe(address).map_err(failed)?;
                for _ in 0..workers {
                    let socket = tcp(address).map_err(failed)?;
                    address = socket.local_addr().map_err(failed)?;
                    all.push(Self::Tcp(socket));
                }
                Ok(all)
            }
            Address::Unix(path) => {
                let socket = unix(path).map_err(failed)?;
                (0..workers).map(|_| socket.try_clone().map(Self::Unix).map_err(failed)).collect()
            }
        }
    }

    /// The TCP address, with the port the kernel chose.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(super) fn listen(self) -> io::Result<Acceptor> {
        match self {
            Self::Tcp(socket) => TcpListener::from_std(socket).map(Acceptor::Tcp),
            Self::Unix(socket) => UnixListener::from_std(socket).map(Acceptor::Unix),
        }
    }
}

fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by accepted sockets: one system call a connection saved.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A stale socket file of a process that is gone is replaced; one that answers is not.
fn unix(path: &Path) -> io::Result<StdUnixListener> {
    let socket = match StdUnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            StdUnixListener::bind(path)?
        }
        bound => bound?,
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Acceptor {
    /// The next connection. Never fails: what can't be accepted is logged, and it waits a little where
    /// trying again at once would only spin (no descriptors left).
    pub(super) async fn accept(&self) -> (Stream, Option<SocketAddr>) {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(s, peer)| (Stream::Tcp(s), Some(peer))),
                Self::Unix(listener) => listener.accept().await.map(|(s, _)| (Stream::Unix(s), None)),
            };
            match accepted {
                Ok(accepted) => return accepted,
                // The client gave up while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted; trying again in a second");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}
