//! Bodies in passing: each frame is shown to the exchange and goes on as it is, at once.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::capture::Exchange;
use crate::config::Mode;
use crate::journal::Committed;
use crate::record::End;

use super::fault::Fault;
use super::link::Link;
use super::upstream::Lease;

/// Why a body broke off; hyper closes the connection, which is how HTTP says so.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side's bytes ended or failed.
    #[error("the body broke off")]
    Source(#[source] hyper::Error),
    /// Nothing came for `read_idle_timeout` (response) or `body_idle_timeout` (request).
    #[error("nothing more came for too long")]
    Silent,
    /// The record could not be made durable, and the rule says nothing is released without.
    #[error("the audit journal did not take the record")]
    Unrecorded,
}

/// What a request's body tells the task that waits for the response.
#[derive(Default)]
pub(super) struct Upload {
    /// When the last byte went to the application; `None` while there are more.
    pub(super) ended: Cell<Option<Instant>>,
    /// The client's side failed.
    pub(super) fault: Cell<Option<Fault>>,
    /// `Expect: 100-continue`: the body is not asked for until the application says so.
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Upload {
    /// Holds the body back until [`Upload::open`].
    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    /// The application (or patience) says: go on.
    pub(super) fn open(&self) {
        if self.closed.replace(false)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

/// The client's body on its way to the application.
pub(super) struct RequestBody {
    inner: Incoming,
    exchange: Exchange,
    link: Rc<Link>,
    upload: Rc<Upload>,
    /// HTTP/2 only: an HTTP/1 connection's silence is seen by the watch.
    idle: Option<IdleTimer>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, exchange: Exchange, link: Rc<Link>, upload: Rc<Upload>) -> Self {
        if inner.is_end_stream() {
            upload.ended.set(Some(Instant::now()));
        }
        let timed = link.multiplexed && !inner.is_end_stream();
        let idle = timed.then(|| IdleTimer::new(link.body_idle_timeout));
        Self { inner, exchange, link, upload, idle }
    }

    fn ended(&self) {
        if self.upload.ended.get().is_none() {
            self.upload.ended.set(Some(Instant::now()));
            self.exchange.request_end();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.upload.closed.get() {
            *self.upload.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if self.idle.as_mut().is_some_and(|timer| timer.poll_silent(cx)) {
                let reason = "the request body stopped coming";
                self.upload.fault.set(Some(Fault::ClientRefused { status: 408, reason }));
                return Poll::Ready(Some(Err(BodyError::Silent)));
            }
            return Poll::Pending;
        };
        if let Some(timer) = &mut self.idle {
            timer.heard();
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.request_data(data);
                }
                if self.inner.is_end_stream() {
                    self.ended();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let fault = match self.link.refusal.get() {
                    Some(refusal) => Fault::ClientRefused { status: refusal.status, reason: refusal.reason },
                    None => Fault::ClientClosed,
                };
                self.upload.fault.set(Some(fault));
                Some(Err(BodyError::Source(error)))
            }
            None => {
                self.ended();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body on its way to the client: the application's, or a short one of our own.
pub struct ResponseBody {
    source: Source,
    exchange: Exchange,
    link: Rc<Link>,
    /// The last frame, held until its record is in the journal.
    held: Option<Held>,
    done: bool,
}

/// What is held (`None`: only the end), and what it waits for.
type Held = (Option<Frame<Bytes>>, Pin<Box<Committed>>);

enum Source {
    Upstream {
        inner: Incoming,
        lease: Lease,
        idle: Option<IdleTimer>,
    },
    Own(Option<Bytes>),
    /// A 101: the tunnel makes the record.
    Tunnel,
}

/// Measures a silence. It begins when something is waited for, not when something last came: the
/// other side of the proxy may be the one that took its time.
struct IdleTimer {
    limit: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
    silent: bool,
}

impl IdleTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: Box::pin(tokio::time::sleep(limit)), silent: false }
    }

    /// Nothing came: whether that is so for too long.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> bool {
        if !std::mem::replace(&mut self.silent, true) {
            self.sleep.as_mut().reset(tokio::time::Instant::now() + self.limit);
        }
        self.sleep.as_mut().poll(cx).is_ready()
    }

    fn heard(&mut self) {
        self.silent = false;
    }
}

impl ResponseBody {
    pub(super) fn upstream(inner: Incoming, lease: Lease, idle: Duration, exchange: Exchange, link: Rc<Link>) -> Self {
        let idle = (!idle.is_zero()).then(|| IdleTimer::new(idle));
        Self { source: Source::Upstream { inner, lease, idle }, exchange, link, held: None, done: false }
    }

    pub(super) fn own(text: String, exchange: Exchange, link: Rc<Link>) -> Self {
        let source = Source::Own((!text.is_empty()).then(|| Bytes::from(text)));
        Self { source, exchange, link, held: None, done: false }
    }

    /// The empty body of a 101; the tunnel that follows ends the exchange.
    pub(super) fn tunnel(exchange: Exchange, link: Rc<Link>) -> Self {
        Self { source: Source::Tunnel, exchange, link, held: None, done: true }
    }

    /// The record of an exchange whose response has no body is made before the head goes out, where
    /// the rule wants it so. `false`: the journal refused.
    pub(super) async fn finish_empty(&mut self) -> bool {
        match self.complete() {
            Some(committed) => {
                let goes = committed.await.is_ok() || self.may_go_unrecorded();
                self.link.last_byte_given(None);
                goes
            }
            None => true,
        }
    }

    /// The response is whole. `Some` when its last byte must wait for the journal.
    fn complete(&mut self) -> Option<Committed> {
        if std::mem::replace(&mut self.done, true) {
            return None;
        }
        if let Source::Upstream { lease, .. } = &self.source {
            lease.give_back();
        }
        if self.exchange.mode() == Mode::Batch {
            self.link.last_byte_given(Some(&self.exchange));
            return None;
        }
        let committed = self.exchange.finish(End::Complete, None);
        if committed.is_none() {
            self.link.last_byte_given(None);
        }
        committed
    }

    /// The application has done what it was asked: in mode `blocking`, under `when_full = "shed"`, the
    /// loss is counted and the answer goes out. So does an answer of our own, which shows nothing that the
    /// application did: mostly it says just this, that the journal takes nothing.
    fn may_go_unrecorded(&self) -> bool {
        let shed = self.exchange.mode() == Mode::Blocking && self.exchange.admits().is_ok();
        shed || matches!(self.source, Source::Own(_))
    }

    fn broke(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.done = true;
        let (end, reason) = match &error {
            BodyError::Source(_) => (End::UpstreamReset, "the application broke off within its response"),
            BodyError::Silent => (End::Timeout, "the application fell silent within its response"),
            BodyError::Unrecorded => (End::Refused, "the audit journal did not take the record"),
        };
        let _ = self.exchange.finish(end, Some(reason));
        Poll::Ready(Some(Err(error)))
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((frame, committed)) = &mut self.held else { return Poll::Ready(None) };
        let committed = std::task::ready!(committed.as_mut().poll(cx));
        let frame = frame.take();
        self.held = None;
        if committed.is_ok() || self.may_go_unrecorded() {
            self.link.last_byte_given(None);
            Poll::Ready(frame.map(Ok))
        } else {
            self.broke(BodyError::Unrecorded)
        }
    }

    /// The response ended with `last` (`None`: after its last frame).
    fn poll_last(
        &mut self,
        last: Option<Frame<Bytes>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.complete() {
            None => Poll::Ready(last.map(Ok)),
            Some(committed) => {
                self.held = Some((last, Box::pin(committed)));
                self.poll_held(cx)
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.held.is_some() {
            return this.poll_held(cx);
        }
        if this.done {
            return Poll::Ready(None);
        }
        let (inner, idle) = match &mut this.source {
            Source::Tunnel => return Poll::Ready(None),
            Source::Own(bytes) => {
                let bytes = bytes.take();
                if let Some(bytes) = &bytes {
                    this.exchange.response_data(bytes);
                }
                return this.poll_last(bytes.map(Frame::data), cx);
            }
            Source::Upstream { inner, idle, .. } => (inner, idle),
        };
        match Pin::new(&mut *inner).poll_frame(cx) {
            Poll::Pending => {
                let silent = idle.as_mut().is_some_and(|timer| timer.poll_silent(cx));
                if silent { this.broke(BodyError::Silent) } else { Poll::Pending }
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(timer) = idle {
                    timer.heard();
                }
                let last = inner.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    this.exchange.response_data(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.exchange.response_trailers(trailers);
                }
                if last || frame.is_trailers() {
                    return this.poll_last(Some(frame), cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.broke(BodyError::Source(error)),
            Poll::Ready(None) => this.poll_last(None, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
            && match &self.source {
                Source::Tunnel => true,
                Source::Own(bytes) => bytes.is_none(),
                Source::Upstream { inner, .. } => inner.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.held, &self.source) {
            (Some((Some(frame), _)), _) => SizeHint::with_exact(frame.data_ref().map_or(0, |data| data.len() as u64)),
            (_, Source::Tunnel) => SizeHint::with_exact(0),
            (_, Source::Own(bytes)) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            (_, Source::Upstream { inner, .. }) => inner.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if !self.done {
            let reason = if self.link.write_stalled.get() {
                (End::Timeout, "the client stopped reading")
            } else {
                (End::ClientClosed, "the client went away within the response")
            };
            let _ = self.exchange.finish(reason.0, Some(reason.1));
        }
    }
}
