//! Bodies in passing: each piece is shown to the exchange and goes on as it is, at once.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::capture::Exchange;
use crate::config::Mode;
use crate::journal::Committed;
use crate::message::{Fields, Piece};
use crate::record::End;

use super::fault::Fault;
use super::headers;
use super::http1::Call;
use super::link::Link;
use super::upstream::Pool;

/// Why a body broke off; the connection is closed, which is how HTTP says so.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side's bytes ended or failed.
    #[error("the body broke off")]
    Source,
    /// Nothing came for `read_idle_timeout` (response) or `body_idle_timeout` (request).
    #[error("nothing more came for too long")]
    Silent,
    /// The record could not be made durable, and the rule says nothing is released without.
    #[error("the audit journal did not take the record")]
    Unrecorded,
}

/// A client's body on an HTTP/1 connection.
pub trait ClientBody {
    /// The next piece. An error has been told to the [`Link`] (`refusal`), or the client is gone.
    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>>;
    /// No piece follows.
    fn is_end(&self) -> bool;
}

/// Where a client's body comes from.
pub enum Source {
    /// There is none.
    Empty,
    /// HTTP/1.
    Http1(Rc<dyn ClientBody>),
    /// HTTP/2.
    Http2(Incoming),
}

/// What a request's body tells the task that waits for the response.
#[derive(Default)]
pub(super) struct Upload {
    /// When the last byte went to the application; `None` while there are more.
    pub(super) ended: Cell<Option<Instant>>,
    /// Since when the application takes nothing of it.
    pub(super) stuck: Cell<Option<Instant>>,
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
    source: Source,
    exchange: Exchange,
    link: Rc<Link>,
    upload: Rc<Upload>,
    /// HTTP/2 only: an HTTP/1 connection's silence is seen by the watch.
    idle: Option<IdleTimer>,
}

impl RequestBody {
    pub(super) fn new(source: Source, exchange: Exchange, link: Rc<Link>, upload: Rc<Upload>) -> Self {
        let idle = matches!(source, Source::Http2(_)).then(|| IdleTimer::new(link.body_idle_timeout));
        Self { source, exchange, link, upload, idle }
    }

    /// All of the request is with the application.
    pub(super) fn sent(&self) {
        if self.upload.ended.get().is_none() {
            self.upload.ended.set(Some(Instant::now()));
        }
    }

    /// Whether the application takes what is written, or has stopped.
    pub(super) fn moves(&self, moves: bool) {
        match moves {
            true => self.upload.stuck.set(None),
            false if self.upload.stuck.get().is_none() => self.upload.stuck.set(Some(Instant::now())),
            false => {}
        }
    }

    /// The next piece, shown to the exchange.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        if self.upload.closed.get() {
            *self.upload.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let polled = match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Http1(body) => body.poll_piece(cx),
            Source::Http2(incoming) => poll_incoming(incoming, cx),
        };
        // A reset that calls itself no error looks like an end; the body was not whole.
        let polled = match polled {
            Poll::Ready(None) if !self.is_end() => Poll::Ready(Some(Err(BodyError::Source))),
            polled => polled,
        };
        let Poll::Ready(piece) = polled else {
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
        match &piece {
            Some(Ok(Piece::Data(data))) => self.exchange.request_data(data),
            Some(Ok(Piece::Trailers(_))) => {}
            Some(Err(_)) => {
                let refused = |r: crate::message::Refusal| Fault::ClientRefused { status: r.status, reason: r.reason };
                self.upload.fault.set(Some(self.link.refusal.get().map_or(Fault::ClientClosed, refused)));
            }
            None => {}
        }
        if self.is_end() {
            self.exchange.request_end();
        }
        Poll::Ready(piece)
    }

    fn is_end(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Http1(body) => body.is_end(),
            Source::Http2(incoming) => incoming.is_end_stream(),
        }
    }
}

/// To an HTTP/2 application.
impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = ready!(self.poll_piece(cx));
        if self.is_end() {
            self.sent();
        }
        Poll::Ready(piece.map(|piece| piece.map(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }
}

fn poll_incoming(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
    Pin::new(incoming).poll_frame(cx).map(|frame| {
        frame.map(|frame| match frame.map_err(|_| BodyError::Source)?.into_data() {
            Ok(data) => Ok(Piece::Data(data)),
            Err(frame) => Ok(Piece::Trailers(frame.trailers_ref().map(Fields::from_map).unwrap_or_default())),
        })
    })
}

fn frame(piece: Piece) -> Frame<Bytes> {
    match piece {
        Piece::Data(data) => Frame::data(data),
        Piece::Trailers(trailers) => {
            let mut map = HeaderMap::with_capacity(trailers.len());
            headers::trailers(&mut map, &trailers);
            Frame::trailers(map)
        }
    }
}

/// A body on its way to the client: the application's, or a short one of our own.
pub struct ResponseBody {
    source: Answer,
    exchange: Exchange,
    link: Rc<Link>,
    /// The last piece, held until its record is in the journal.
    held: Option<Held>,
    done: bool,
}

/// What is held (`None`: only the end), and what it waits for.
type Held = (Option<Piece>, Pin<Box<Committed>>);

enum Answer {
    /// `None` once the connection has gone back to its pool.
    Http1 {
        call: Option<Box<Call>>,
        pool: Rc<Pool>,
        idle: Option<IdleTimer>,
    },
    Http2 {
        incoming: Incoming,
        idle: Option<IdleTimer>,
    },
    Own(Option<Bytes>),
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
    pub(super) fn http1(call: Box<Call>, pool: Rc<Pool>, idle: Duration, exchange: Exchange, link: Rc<Link>) -> Self {
        let idle = (!idle.is_zero()).then(|| IdleTimer::new(idle));
        Self::new(Answer::Http1 { call: Some(call), pool, idle }, exchange, link)
    }

    pub(super) fn http2(incoming: Incoming, idle: Duration, exchange: Exchange, link: Rc<Link>) -> Self {
        let idle = (!idle.is_zero()).then(|| IdleTimer::new(idle));
        Self::new(Answer::Http2 { incoming, idle }, exchange, link)
    }

    pub(super) fn own(text: String, exchange: Exchange, link: Rc<Link>) -> Self {
        Self::new(Answer::Own((!text.is_empty()).then(|| Bytes::from(text))), exchange, link)
    }

    fn new(source: Answer, exchange: Exchange, link: Rc<Link>) -> Self {
        Self { source, exchange, link, held: None, done: false }
    }

    /// The record of an exchange whose response has no body is made before the head goes out, where
    /// the rule wants it so. `false`: the journal refused.
    pub(super) async fn finish_empty(&mut self) -> bool {
        match self.complete() {
            Some(committed) => committed.await.is_ok() || self.may_go_unrecorded(),
            None => true,
        }
    }

    /// The kernel has the response's last byte (HTTP/1).
    pub fn delivered(&self, end: End, reason: Option<&str>) {
        let _ = self.exchange.finish(end, reason);
    }

    /// The response is whole. `Some` when its last byte must wait for the journal.
    fn complete(&mut self) -> Option<Committed> {
        if std::mem::replace(&mut self.done, true) {
            return None;
        }
        if let Answer::Http1 { call, pool, .. } = &mut self.source
            && let Some(connection) = call.take().and_then(|call| call.into_kept())
        {
            pool.keep(connection);
        }
        match self.exchange.mode() {
            // Over HTTP/1 the record is made once the kernel has the last byte.
            Mode::Batch if !self.link.multiplexed => None,
            _ => self.exchange.finish(End::Complete, None),
        }
    }

    /// The application has done what it was asked: in mode `blocking`, under `when_full = "shed"`, the
    /// loss is counted and the answer goes out. So does an answer of our own, which shows nothing that the
    /// application did: mostly it says just this, that the journal takes nothing.
    fn may_go_unrecorded(&self) -> bool {
        let shed = self.exchange.mode() == Mode::Blocking && self.exchange.admits().is_ok();
        shed || matches!(self.source, Answer::Own(_))
    }

    fn broke(&mut self, error: BodyError) -> Poll<Option<Result<Piece, BodyError>>> {
        self.done = true;
        let (end, reason) = match &error {
            BodyError::Source => (End::UpstreamReset, "the application broke off within its response"),
            BodyError::Silent => (End::Timeout, "the application fell silent within its response"),
            BodyError::Unrecorded => (End::Refused, "the audit journal did not take the record"),
        };
        let _ = self.exchange.finish(end, Some(reason));
        Poll::Ready(Some(Err(error)))
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let Some((piece, committed)) = &mut self.held else { return Poll::Ready(None) };
        let committed = ready!(committed.as_mut().poll(cx));
        let piece = piece.take();
        self.held = None;
        if committed.is_ok() || self.may_go_unrecorded() {
            Poll::Ready(piece.map(Ok))
        } else {
            self.broke(BodyError::Unrecorded)
        }
    }

    /// The response ended with `last` (`None`: after its last piece).
    fn poll_last(&mut self, last: Option<Piece>, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        match self.complete() {
            None => Poll::Ready(last.map(Ok)),
            Some(committed) => {
                self.held = Some((last, Box::pin(committed)));
                self.poll_held(cx)
            }
        }
    }

    /// The next piece.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        if self.held.is_some() {
            return self.poll_held(cx);
        }
        if self.done {
            return Poll::Ready(None);
        }
        let (polled, idle) = match &mut self.source {
            Answer::Own(bytes) => (Poll::Ready(bytes.take().map(|bytes| Ok(Piece::Data(bytes)))), &mut None),
            Answer::Http1 { call: Some(call), idle, .. } => {
                (call.poll_piece(cx).map(|piece| piece.map(|piece| piece.map_err(|_| BodyError::Source))), idle)
            }
            Answer::Http1 { idle, .. } => (Poll::Ready(None), idle),
            Answer::Http2 { incoming, idle } => match poll_incoming(incoming, cx) {
                Poll::Ready(None) if !incoming.is_end_stream() => (Poll::Ready(Some(Err(BodyError::Source))), idle),
                polled => (polled, idle),
            },
        };
        match polled {
            Poll::Pending => {
                let silent = idle.as_mut().is_some_and(|timer| timer.poll_silent(cx));
                if silent { self.broke(BodyError::Silent) } else { Poll::Pending }
            }
            Poll::Ready(Some(Ok(piece))) => {
                if let Some(timer) = idle {
                    timer.heard();
                }
                match &piece {
                    Piece::Data(data) => self.exchange.response_data(data),
                    Piece::Trailers(trailers) => self.exchange.response_trailers(trailers),
                }
                if self.source_is_end() || matches!(piece, Piece::Trailers(_)) {
                    return self.poll_last(Some(piece), cx);
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => self.broke(error),
            Poll::Ready(None) => self.poll_last(None, cx),
        }
    }

    /// No piece follows.
    pub fn is_end(&self) -> bool {
        self.held.is_none() && (self.done || self.source_is_end())
    }

    fn source_is_end(&self) -> bool {
        match &self.source {
            Answer::Own(bytes) => bytes.is_none(),
            Answer::Http1 { call, .. } => call.as_ref().is_none_or(|call| call.is_end()),
            Answer::Http2 { incoming, .. } => incoming.is_end_stream(),
        }
    }
}

/// To an HTTP/2 client.
impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Answer::Own(bytes) if !self.done => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            _ if self.is_end() => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let (end, reason) = if self.link.write_stalled.get() {
            (End::Timeout, "the client stopped reading")
        } else {
            (End::ClientClosed, "the client went away within the response")
        };
        // Where the exchange has ended already, its first word counts.
        let _ = self.exchange.finish(end, Some(reason));
    }
}
