//! Where clients connect: sockets, TLS, limits, and the strict reading of what they send.
//!
//! Constraints:
//! - Each worker thread has its own listening socket, its own connections, its own everything: the
//!   kernel spreads connections, and nothing on a request's path is shared.
//! - What is not strictly HTTP is answered here and recorded; the application does not see it.
//! - Accepting never fails; a limit reached means that clients wait in the kernel's backlog.
//!
//! HTTP/1 is served by `http1` itself, HTTP/2 by hyper.

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderName;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::sync::Notify;

use crate::capture::Capture;
use crate::config::{Limits, ListenerSettings, ProxyProtocol};
use crate::forward::Forwarder;

mod connection;
mod hangup;
mod http1;
mod proxy_protocol;
mod socket;
mod tls;
mod watch;

pub use socket::{BindError, Bound};
pub use tls::server_config;
pub use watch::Watch;

/// One listener on one worker thread.
pub struct Worker {
    name: Arc<str>,
    /// Its place among all listeners.
    index: usize,
    limits: Rc<Limits>,
    /// Connections this worker may have open.
    share: usize,
    proxy_protocol: ProxyProtocol,
    trusted_proxies: Rc<[IpNet]>,
    request_id_header: Option<HeaderName>,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    capture: Rc<Capture>,
    forwarder: Rc<Forwarder>,
    watch: Rc<Watch>,
    open: std::cell::Cell<usize>,
    closed: Notify,
}

impl Worker {
    /// A listener's part on one of `workers` threads.
    pub fn new(
        (index, name): (usize, &str),
        settings: &ListenerSettings,
        workers: usize,
        tls: Option<Arc<ArcSwap<ServerConfig>>>,
        capture: Rc<Capture>,
        forwarder: Rc<Forwarder>,
        watch: Rc<Watch>,
    ) -> Rc<Self> {
        Rc::new(Self {
            name: name.into(),
            index,
            share: settings.limits.connections.div_ceil(workers).max(1),
            limits: Rc::new(settings.limits.clone()),
            proxy_protocol: settings.proxy_protocol,
            trusted_proxies: settings.trusted_proxies.as_slice().into(),
            request_id_header: settings.forward.request_id_header.to_ascii_lowercase().parse().ok(),
            tls,
            capture,
            forwarder,
            watch,
            open: std::cell::Cell::new(0),
            closed: Notify::new(),
        })
    }

    /// Accepts and serves until draining begins. The socket is then closed; open connections go on.
    pub async fn accept(self: Rc<Self>, bound: Bound) -> std::io::Result<()> {
        let acceptor = bound.listen()?;
        loop {
            while self.open.get() >= self.share && !self.watch.is_draining() {
                tokio::select! {
                    () = self.closed.notified() => {}
                    () = self.watch.draining() => {}
                }
            }
            let (stream, peer) = tokio::select! {
                accepted = acceptor.accept() => accepted,
                () = self.watch.draining() => return Ok(()),
            };
            let open = Count::one(&self);
            tokio::task::spawn_local(async move {
                connection::serve(open.worker.clone(), stream, peer).await;
                drop(open);
            });
        }
    }
}

/// Counts one connection while it is open.
struct Count {
    worker: Rc<Worker>,
    _open: watch::Open,
}

impl Count {
    fn one(worker: &Rc<Worker>) -> Self {
        worker.open.set(worker.open.get() + 1);
        Self { worker: Rc::clone(worker), _open: worker.watch.opened() }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.worker.open.set(self.worker.open.get() - 1);
        self.worker.closed.notify_waiters();
    }
}
