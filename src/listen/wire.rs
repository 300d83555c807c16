//! One HTTP/1 connection's bytes: read strictly, written in order, timed.
//!
//! [`Guard`] stands between hyper and the socket. It shows every byte read to the [`Scanner`] before
//! hyper sees it, and turns a violation into an end of input, so that hyper never parses what is not
//! strictly in form; the connection's task then answers. It hides a FIN while an exchange is in
//! flight, since it may be a half-close; and it notices when the kernel has taken the last byte.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Limits;
use crate::forward::{Link, Refusal, Stream, Upgrade};

use super::framing::{Place, Scanner};

/// What one connection's task, hyper's IO and the watch share.
pub(super) struct Wire {
    /// `None` once the connection's task has taken it back.
    pub(super) stream: RefCell<Option<Stream>>,
    pub(super) scanner: RefCell<Scanner>,
    pub(super) link: Rc<Link>,
    /// What the client keeps us waiting for, and since which tick of the watch.
    pub(super) waiting: Cell<(Waiting, u64)>,
    /// The refusal came within a body: the exchange answers it, not the connection.
    pub(super) refused_in_body: Cell<bool>,
    pub(super) now: Rc<Cell<u64>>,
}

/// What the client keeps us waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nothing.
    Nothing,
    /// Its next request.
    Request,
    /// The rest of a head: counted from the head's first byte.
    Head,
    /// More of a body: counted from the last byte.
    Body,
    /// To read what we write.
    Read,
}

/// hyper's end of the connection.
pub(super) struct Guard(pub(super) Rc<Wire>);

// === impl Wire ===

impl Wire {
    pub(super) fn new(stream: Stream, link: Rc<Link>, limits: &Limits, now: Rc<Cell<u64>>) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(Some(stream)),
            scanner: RefCell::new(Scanner::new(limits)),
            link,
            waiting: Cell::new((Waiting::Request, now.get())),
            refused_in_body: Cell::new(false),
            now,
        })
    }

    /// Begins to wait, unless it waits for that already.
    fn wait(&self, what: Waiting) {
        if self.waiting.get().0 != what {
            self.waiting.set((what, self.now.get()));
        }
    }

    /// What silence means at this place.
    fn wait_at(&self, place: Place) {
        match place {
            // A client that does not read is not forgiven because we look whether it has sent more.
            Place::Between if self.link.in_flight.get() && self.waiting.get().0 == Waiting::Read => {}
            Place::Between if self.link.in_flight.get() => self.wait(Waiting::Nothing),
            Place::Between => self.wait(Waiting::Request),
            Place::Head => self.wait(Waiting::Head),
            Place::Body => self.wait(Waiting::Body),
        }
    }

    /// The client was too slow: what happens next.
    pub(super) fn too_slow(&self, waiting: Waiting) {
        match waiting {
            Waiting::Nothing => return,
            // A pipelined request came before the wait for it was over.
            Waiting::Request if self.link.in_flight.get() => return,
            Waiting::Request => self.link.fin.set(true),
            Waiting::Head => {
                self.refuse(Refusal { status: 408, reason: "the request head took too long" }, Place::Head)
            }
            Waiting::Body => {
                self.refuse(Refusal { status: 408, reason: "the request body stopped coming" }, Place::Body)
            }
            Waiting::Read => self.link.write_stalled.set(true),
        }
        self.waiting.set((Waiting::Nothing, self.now.get()));
        self.link.wake();
    }

    fn refuse(&self, refusal: Refusal, place: Place) {
        self.refused_in_body.set(place == Place::Body);
        self.link.refusal.set(Some(refusal));
    }

    /// Shows freshly read bytes to the scanner; those that may not go on are cut off.
    fn inspect(&self, buf: &mut ReadBuf<'_>, before: usize) {
        let mut scanner = self.scanner.borrow_mut();
        let place_before = scanner.place();
        match scanner.feed(&buf.filled()[before..]) {
            Ok(()) => match scanner.place() {
                Place::Head => self.wait(Waiting::Head),
                _ => self.waiting.set((Waiting::Nothing, 0)),
            },
            Err(refused) => {
                buf.set_filled(before + refused.keep);
                // In a body when the bytes kept before it end in one.
                let place =
                    if place_before == Place::Body && refused.keep == 0 { Place::Body } else { scanner.place() };
                self.refuse(refused.refusal, place);
            }
        }
    }

    fn poll_informational(&self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queued = self.link.informational.borrow_mut();
        while !queued.is_empty() {
            let written = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, &queued))?;
            queued.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_output(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.link.write_stalled.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        std::task::ready!(self.poll_informational(stream, cx))?;
        self.link.flushed.set(false);
        let written = write(Pin::new(stream), cx);
        match &written {
            Poll::Pending => self.wait(Waiting::Read),
            Poll::Ready(_) => self.read_on(),
        }
        written
    }

    /// The client reads.
    fn read_on(&self) {
        if self.waiting.get().0 == Waiting::Read {
            self.waiting.set((Waiting::Nothing, 0));
        }
    }
}

// === impl Guard ===

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        let link = &wire.link;
        if let Some(answer) = link.upgrade.take() {
            wire.scanner.borrow_mut().upgrade_answered(answer == Upgrade::Accepted);
        }
        let (place, upgrading) = {
            let scanner = wire.scanner.borrow();
            (scanner.place(), scanner.is_upgrading())
        };
        let answering = link.in_flight.get() && place != Place::Body && !wire.refused_in_body.get();
        if upgrading || (answering && (link.fin.get() || link.refusal.get().is_some())) {
            link.held_back.set(true);
            return Poll::Pending;
        }
        if link.fin.get() || link.refusal.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = match wire.stream.borrow_mut().as_mut() {
            Some(stream) => Pin::new(stream).poll_read(cx, buf),
            None => return Poll::Ready(Ok(())),
        };
        match read {
            Poll::Pending => {
                wire.wait_at(place);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                if buf.filled().len() == before {
                    link.fin.set(true);
                } else {
                    wire.inspect(buf, before);
                }
                if buf.filled().len() == before && answering {
                    link.held_back.set(true);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_output(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_output(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.stream.borrow().as_ref().is_some_and(Stream::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        if wire.link.write_stalled.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let flushed = match wire.stream.borrow_mut().as_mut() {
            None => return Poll::Ready(Ok(())),
            Some(stream) => match wire.poll_informational(stream, cx) {
                Poll::Ready(Ok(())) => Pin::new(stream).poll_flush(cx),
                other => other,
            },
        };
        match &flushed {
            Poll::Ready(Ok(())) => {
                wire.read_on();
                if wire.link.all_written() {
                    // hyper waits for the socket already and does not ask again.
                    wire.wait_at(wire.scanner.borrow().place());
                }
            }
            // TLS has taken the bytes and can't pass them on.
            Poll::Pending => wire.wait(Waiting::Read),
            Poll::Ready(Err(_)) => {}
        }
        flushed
    }

    /// hyper is done; the connection's task closes the socket in its own way.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
