//! Connections to the application: opened, kept for the next request, given up.
//!
//! One pool a worker: a request never crosses threads, so nothing here is locked.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::{ForwardSettings, Upstream, UpstreamProtocol};

use super::body::RequestBody;
use super::fault::Fault;
use super::http1::Http1;
use super::stream::Stream;

/// One application, as one worker knows it.
pub(super) struct Pool {
    target: Upstream,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    settings: Rc<ForwardSettings>,
    #[allow(clippy::vec_box)] // a connection is handed around for every request: as a pointer
    idle: RefCell<Vec<Box<Http1>>>,
    shared: RefCell<Option<http2::SendRequest<RequestBody>>>,
}

/// A connection that may carry one request now.
pub(super) enum Sender {
    Http1(Box<Http1>),
    Http2(http2::SendRequest<RequestBody>),
}

/// Runs hyper's HTTP/2 tasks on this thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(
        target: Upstream,
        settings: Rc<ForwardSettings>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, String> {
        let tls = match (&target, tls) {
            (Upstream::Tcp { tls: true, host, .. }, Some(config)) => {
                let name = settings.tls.server_name.as_ref().unwrap_or(host);
                let name = ServerName::try_from(name.clone())
                    .map_err(|_| format!("`{name}` can't be the name of a TLS server"))?;
                Some((TlsConnector::from(config), name))
            }
            _ => None,
        };
        Ok(Self { target, tls, settings, idle: RefCell::default(), shared: RefCell::new(None) })
    }

    /// The upstream as a `Host`.
    pub(super) fn authority(target: &Upstream) -> String {
        match target {
            Upstream::Tcp { tls, host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                if *port == if *tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
            }
            Upstream::Unix(_) => "localhost".to_owned(),
        }
    }

    /// A connection for one request: a kept one where there is one, otherwise a new one. The time is
    /// what opening took; zero for a kept one. `now`: when the request came, to save a look at the clock.
    pub(super) async fn checkout(&self, now: Instant) -> Result<(Sender, Duration), Fault> {
        match self.settings.protocol {
            UpstreamProtocol::Http1 => {
                if let Some(kept) = self.kept(now).await {
                    return Ok((Sender::Http1(kept), Duration::ZERO));
                }
            }
            UpstreamProtocol::Http2 => {
                let kept = self.shared.borrow().clone();
                if let Some(mut kept) = kept {
                    if kept.ready().await.is_ok() {
                        return Ok((Sender::Http2(kept), Duration::ZERO));
                    }
                    self.shared.borrow_mut().take();
                }
            }
        }
        let begin = Instant::now();
        let opened = tokio::time::timeout(self.settings.connect_timeout.0, self.open()).await;
        match opened {
            Ok(Ok(sender)) => Ok((sender, begin.elapsed())),
            Ok(Err(error)) => {
                tracing::warn!(upstream = %self.target, %error, "the application can't be reached");
                Err(Fault::Unreachable)
            }
            Err(_) => Err(Fault::ConnectTimeout),
        }
    }

    /// Keeps a connection whose response was read to its end.
    pub(super) fn keep(&self, connection: Box<Http1>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.settings.idle_connections {
            idle.push(connection);
        }
    }

    /// Closes connections that were idle for too long, or that the application has closed. Called now and then.
    pub(super) fn reap(&self) {
        let limit = self.settings.idle_timeout.0;
        let mut nobody = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain_mut(|c| c.since.elapsed() < limit && !c.is_over(&mut nobody));
    }

    async fn kept(&self, now: Instant) -> Option<Box<Http1>> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            let idle = now.saturating_duration_since(connection.since);
            if idle >= self.settings.idle_timeout.0 {
                continue;
            }
            // A FIN may have come with the very event that brought this request: let the runtime see it first.
            if idle > Duration::from_millis(500) {
                tokio::task::yield_now().await;
            }
            if !connection.is_over(&mut Context::from_waker(Waker::noop())) {
                return Some(connection);
            }
        }
    }

    async fn open(&self) -> io::Result<Sender> {
        let stream = match &self.target {
            Upstream::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            Upstream::Tcp { host, port, .. } => {
                let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                tcp.set_nodelay(true)?;
                match &self.tls {
                    None => Stream::Tcp(tcp),
                    Some((connector, name)) => {
                        let tls = connector.connect(name.clone(), tcp).await?;
                        Stream::Tls(Box::new(tls.into()))
                    }
                }
            }
        };
        match self.settings.protocol {
            UpstreamProtocol::Http1 => Ok(Sender::Http1(Http1::new(stream))),
            UpstreamProtocol::Http2 => {
                let sender = open_http2(stream).await.map_err(io::Error::other)?;
                *self.shared.borrow_mut() = Some(sender.clone());
                Ok(Sender::Http2(sender))
            }
        }
    }
}

async fn open_http2(stream: Stream) -> hyper::Result<http2::SendRequest<RequestBody>> {
    let (sender, connection) = http2::Builder::new(LocalExecutor).handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection to the application ended");
        }
    });
    Ok(sender)
}
