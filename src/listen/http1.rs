//! One client's HTTP/1 connection: requests read strictly, answered in order, timed.
//!
//! The connection is one task. While an exchange is under way its body is read when the application takes
//! it; otherwise the socket is only watched: a FIN may be a half-close, so it ends nothing yet, while a
//! reset means that nobody is there any more.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Version;
use tokio::io::AsyncWrite;

use crate::config::Limits;
use crate::forward::{
    Answer, BodyError, ClientBody, Link, Output, ResponseBody, Source, Stream, Terms, Tunnel, poll_read,
    write_response, write_trailers,
};
use crate::message::{
    Chunked, Framing, HeadLimits, Known, Piece, Refusal, RequestHead, RequestReader, ResponseHead, take_of,
};
use crate::record::End;

use super::Worker;

/// How much a client may send ahead of its answers.
const AHEAD: usize = 16 * 1024;

/// A connection, shared by its task, the body of the request under way, and the watch.
pub(super) struct Client {
    pub(super) link: Rc<Link>,
    pub(super) limits: Rc<Limits>,
    /// `None` once the connection's task has taken it back.
    stream: RefCell<Option<Stream>>,
    /// Read and not yet used.
    input: RefCell<BytesMut>,
    body: RefCell<Body>,
    /// Wakes whoever waits for more of the body: the task of an HTTP/2 connection to the application, maybe.
    body_waker: RefCell<Option<Waker>>,
    /// `100 Continue` is to be written before the body is waited for.
    continues: Cell<bool>,
    /// What the client keeps us waiting for, and since which tick of the watch.
    waiting: Cell<(Waiting, u64)>,
    now: Rc<Cell<u64>>,
}

/// What is left of the body of the request under way.
enum Body {
    End,
    Length(u64),
    Chunked(Box<Chunked>),
    /// It broke a rule: nothing more may be read.
    Broken,
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

/// How a connection ended; what is still to be done with its socket.
pub(super) enum Ended {
    /// Nothing more.
    Closed,
    /// The client may still be sending what nobody will read.
    Unread,
    /// The response broke off, and this client takes the connection's end for the response's: a reset says otherwise.
    Aborted,
    /// The client had sent FIN: whether it took this response is still to be seen.
    HalfClosed(Box<ResponseBody>),
    /// It is not HTTP any more.
    Tunnel(Tunnel),
    /// A request could not be read.
    Refused { refusal: Refusal, request_line: Bytes },
}

/// What a request was read to be.
enum Read {
    Request(Rc<RequestHead>, Framing),
    Refused(Refusal, Bytes),
    Closed,
}

// === impl Client ===

impl Client {
    pub(super) fn new(stream: Stream, link: Rc<Link>, worker: &Worker) -> Rc<Self> {
        let now = Rc::clone(&worker.watch.now);
        let client = Rc::new(Self {
            link,
            limits: Rc::clone(&worker.limits),
            stream: RefCell::new(Some(stream)),
            input: RefCell::default(),
            body: RefCell::new(Body::End),
            body_waker: RefCell::default(),
            continues: Cell::new(false),
            waiting: Cell::new((Waiting::Request, now.get())),
            now,
        });
        worker.watch.add_link(&client.link);
        worker.watch.add_client(&client);
        client
    }

    /// The socket, when all is over.
    pub(super) fn take_stream(&self) -> Option<Stream> {
        let stream = self.stream.borrow_mut().take();
        self.wake_body();
        stream
    }

    /// Answers requests until the connection ends.
    pub(super) async fn serve(self: &Rc<Self>, worker: &Worker) -> Ended {
        poll_fn(|cx| {
            self.link.remember(cx.waker());
            Poll::Ready(())
        })
        .await;
        let mut output = Output::default();
        loop {
            let (head, framing) = match self.read_request(worker).await {
                Read::Request(head, framing) => (head, framing),
                Read::Refused(refusal, request_line) => return Ended::Refused { refusal, request_line },
                Read::Closed => return Ended::Closed,
            };
            let source = self.begin_body(&head, framing);
            // From here on a silent client waits for us, until its body is asked for.
            self.waiting.set((Waiting::Nothing, 0));
            let Some(answer) = self.answer(worker, Rc::clone(&head), framing, source).await else {
                return Ended::Closed;
            };
            // Too late for a `100 Continue`.
            self.continues.set(false);
            let (response, framing, mut body, close) = match answer {
                Answer::Response { head, framing, body, close } => (head, framing, body, close),
                Answer::Tunnel(response, tunnel) => {
                    let terms = Terms { http_1_0: false, close: false };
                    write_response(output.text(), &response, Framing::Empty, terms);
                    return match poll_fn(|cx| self.poll_output(&mut output, cx)).await {
                        Ok(()) => Ended::Tunnel(tunnel),
                        Err(_) => Ended::Closed,
                    };
                }
            };
            let terms = self.terms(worker, &head, framing, close);
            let responded = self.respond(&mut output, &response, framing, &mut body, terms).await;
            if responded.is_err() {
                if terms.to_the_end(framing) {
                    return Ended::Aborted;
                }
                return if self.is_body_unread() { Ended::Unread } else { Ended::Closed };
            }
            // Requests that came before the FIN are still to be answered.
            if self.link.fin.get() && (terms.close || self.input.borrow().is_empty()) {
                return Ended::HalfClosed(Box::new(body));
            }
            body.delivered(End::Complete, None);
            if self.is_body_unread() {
                return Ended::Unread;
            }
            if terms.close {
                return Ended::Closed;
            }
        }
    }

    /// Reads the next request's head.
    async fn read_request(&self, worker: &Worker) -> Read {
        let mut reader = RequestReader::default();
        let limits = self.head_limits();
        poll_fn(|cx| {
            loop {
                let mut input = self.input.borrow_mut();
                match reader.read(&input, limits) {
                    Ok(Some((head, framing, taken))) => {
                        input.advance(taken);
                        if input.is_empty() {
                            // It would keep a chunk that others read into.
                            *input = BytesMut::new();
                        }
                        drop(input);
                        return Poll::Ready(self.accept(head, framing));
                    }
                    Ok(None) => {}
                    Err(refusal) => return Poll::Ready(Read::Refused(refusal, line(&reader, &input))),
                }
                if let Some(refusal) = self.link.refusal.get() {
                    return Poll::Ready(Read::Refused(refusal, line(&reader, &input)));
                }
                let at_start = reader.is_at_start(&input);
                if self.link.fin.get() || at_start && worker.watch.is_draining() {
                    return Poll::Ready(Read::Closed);
                }
                self.wait(if at_start { Waiting::Request } else { Waiting::Head });
                match ready!(self.poll_more(&mut input, cx)) {
                    Ok(0) => self.link.fin.set(true),
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Read::Closed),
                }
            }
        })
        .await
    }

    /// A head has been read. Nothing may follow a request to upgrade before its answer.
    fn accept(&self, head: RequestHead, framing: Framing) -> Read {
        if framing == Framing::Empty && head.asks_to_upgrade() && !self.input.borrow().is_empty() {
            let refusal = Refusal { status: 400, reason: "data before the upgrade was answered" };
            let line = [head.method.as_str().as_bytes(), b" ", head.origin_form(), b" HTTP/1.1"].concat();
            return Read::Refused(refusal, line.into());
        }
        Read::Request(Rc::new(head), framing)
    }

    fn head_limits(&self) -> HeadLimits {
        HeadLimits { size: self.limits.head_size.as_usize(), lines: self.limits.headers }
    }

    fn begin_body(self: &Rc<Self>, head: &RequestHead, framing: Framing) -> Source {
        let body = match framing {
            Framing::Empty | Framing::Close => return Source::Empty,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::new(Chunked::strict(self.head_limits()))),
        };
        *self.body.borrow_mut() = body;
        self.continues.set(head.version == Version::HTTP_11 && head.expects_continue());
        Source::Http1(Rc::clone(self) as Rc<dyn ClientBody>)
    }

    /// Waits for the answer; `None` when the client is gone.
    async fn answer(&self, worker: &Worker, head: Rc<RequestHead>, framing: Framing, source: Source) -> Option<Answer> {
        // While the answer to an upgrade is awaited, what the client sends is not for us to read.
        let watched = framing != Framing::Empty || !head.asks_to_upgrade();
        let mut answer = pin!(worker.forwarder.handle(head, framing, source, &self.link));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            if matches!(self.poll_informational(cx), Poll::Ready(Err(_))) || watched && self.is_gone(cx) {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }

    fn terms(&self, worker: &Worker, head: &RequestHead, framing: Framing, close: bool) -> Terms {
        let http_1_0 = head.version == Version::HTTP_10;
        let asked = |token| head.fields.has_token(Known::Connection, token);
        let keeps = if http_1_0 { asked(b"keep-alive") } else { !asked(b"close") };
        let mut terms = Terms { http_1_0, close: close || !keeps || worker.watch.is_draining() };
        terms.close |= terms.to_the_end(framing);
        terms
    }

    /// Writes the response; when it returns well, the kernel has all of it.
    async fn respond(
        &self,
        output: &mut Output,
        head: &ResponseHead,
        framing: Framing,
        body: &mut ResponseBody,
        terms: Terms,
    ) -> io::Result<()> {
        poll_fn(|cx| self.poll_informational(cx)).await?;
        write_response(output.text(), head, framing, terms);
        let chunked = framing.is_of_unknown_length() && !terms.http_1_0;
        let mut ended = framing == Framing::Empty;
        poll_fn(|cx| {
            loop {
                let mut stuck = false;
                while !ended && output.takes_more() {
                    match body.poll_piece(cx) {
                        Poll::Pending => {
                            stuck = true;
                            break;
                        }
                        Poll::Ready(Some(Ok(piece))) => ended = add(output, piece, chunked, body.is_end()),
                        Poll::Ready(None) => {
                            if chunked {
                                output.push_chunk(Bytes::new(), true);
                            }
                            ended = true;
                        }
                        // What came goes out, without the end that would make it whole.
                        Poll::Ready(Some(Err(_))) => {
                            let _ = self.poll_output(output, cx);
                            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                        }
                    }
                }
                // Even when nothing is left: TLS may have taken bytes that the socket has not.
                ready!(self.poll_output(output, cx))?;
                if ended {
                    return Poll::Ready(Ok(()));
                }
                if stuck {
                    return match self.is_gone(cx) {
                        true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                        false => Poll::Pending,
                    };
                }
            }
        })
        .await
    }

    /// Writes what waits to be written.
    fn poll_output(&self, output: &mut Output, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.write_stalled.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let before = output.len();
        let written = output.poll_write(stream, cx);
        match &written {
            // It reads, if slowly.
            Poll::Pending if output.len() < before => self.waiting.set((Waiting::Read, self.now.get())),
            Poll::Pending => self.wait(Waiting::Read),
            Poll::Ready(_) if self.waiting.get().0 == Waiting::Read => self.waiting.set((Waiting::Nothing, 0)),
            Poll::Ready(_) => {}
        }
        written
    }

    /// Writes queued informational responses.
    fn poll_informational(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queued = self.link.informational.borrow_mut();
        if self.link.write_stalled.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        while !queued.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &queued)? {
                Poll::Ready(written) => drop(queued.drain(..written)),
                Poll::Pending => {
                    self.wait(Waiting::Read);
                    return Poll::Pending;
                }
            }
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Whether the client reset the connection. What it sends ahead is kept, up to a bound; a FIN is noted.
    fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        loop {
            let mut input = self.input.borrow_mut();
            if self.link.fin.get() || input.len() >= AHEAD || self.is_body_unread() {
                return false;
            }
            match self.poll_more(&mut input, cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => self.link.fin.set(true),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return true,
            }
        }
    }

    fn poll_more(&self, input: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.stream.borrow_mut().as_mut() {
            Some(stream) => poll_read(stream, cx, input),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn is_body_unread(&self) -> bool {
        !self.is_end()
    }

    // --- time

    /// What the client keeps us waiting for, and since which tick.
    pub(super) fn waiting(&self) -> (Waiting, u64) {
        self.waiting.get()
    }

    /// Begins to wait, unless it waits for that already.
    fn wait(&self, what: Waiting) {
        if self.waiting.get().0 != what {
            self.waiting.set((what, self.now.get()));
        }
    }

    /// The client was too slow: what happens next.
    pub(super) fn too_slow(&self, waiting: Waiting) {
        let slow = |reason| self.link.refusal.set(Some(Refusal { status: 408, reason }));
        match waiting {
            Waiting::Nothing => return,
            Waiting::Request => self.link.fin.set(true),
            Waiting::Head => slow("the request head took too long"),
            Waiting::Body => slow("the request body stopped coming"),
            Waiting::Read => self.link.write_stalled.set(true),
        }
        self.waiting.set((Waiting::Nothing, self.now.get()));
        self.link.wake();
        self.wake_body();
    }

    fn wake_body(&self) {
        if let Some(waker) = self.body_waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The body of the request under way.
impl ClientBody for Client {
    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let mut input = self.input.borrow_mut();
        if self.continues.replace(false) && input.is_empty() {
            self.link.informational.borrow_mut().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            if let Poll::Ready(Err(_)) = self.poll_informational(cx) {
                return Poll::Ready(Some(Err(BodyError::Source)));
            }
        }
        loop {
            match self.body.borrow_mut().read(&mut input) {
                Ok(Some(piece)) => {
                    self.waiting.set((Waiting::Nothing, 0));
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(None) => {}
                Err(refusal) => self.link.refusal.set(Some(refusal)),
            }
            if self.link.refusal.get().is_some() {
                *self.body.borrow_mut() = Body::Broken;
                return Poll::Ready(Some(Err(BodyError::Source)));
            }
            if self.is_end() {
                self.waiting.set((Waiting::Nothing, 0));
                return Poll::Ready(None);
            }
            let more = self.poll_more(&mut input, cx);
            if more.is_pending() {
                self.wait(Waiting::Body);
                *self.body_waker.borrow_mut() = Some(cx.waker().clone());
            }
            match ready!(more) {
                Ok(0) => {
                    self.link.fin.set(true);
                    return Poll::Ready(Some(Err(BodyError::Source)));
                }
                Ok(_) => self.waiting.set((Waiting::Nothing, 0)),
                Err(_) => return Poll::Ready(Some(Err(BodyError::Source))),
            }
        }
    }

    fn is_end(&self) -> bool {
        matches!(*self.body.borrow(), Body::End)
    }
}

impl Body {
    /// A piece of what has been read.
    fn read(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Refusal> {
        match self {
            Self::End | Self::Broken => Ok(None),
            Self::Length(_) if input.is_empty() => Ok(None),
            Self::Length(left) => {
                let data = take_of(left, input);
                if *left == 0 {
                    *self = Self::End;
                }
                Ok(Some(Piece::Data(data)))
            }
            Self::Chunked(chunked) => {
                let piece = chunked.read(input)?;
                if chunked.is_end() {
                    *self = Self::End;
                }
                Ok(piece)
            }
        }
    }
}

/// Adds a piece of the response; whether it was the last.
fn add(output: &mut Output, piece: Piece, chunked: bool, last: bool) -> bool {
    match piece {
        Piece::Data(data) if chunked => output.push_chunk(data, last),
        Piece::Data(data) => output.push(data),
        Piece::Trailers(trailers) => {
            if chunked {
                write_trailers(output.text(), &trailers);
            }
            return true;
        }
    }
    last
}

fn line(reader: &RequestReader, input: &[u8]) -> Bytes {
    Bytes::copy_from_slice(reader.request_line(input))
}
