//! HTTP/1.1 to the application: one exchange at a time on a connection, in the task of whoever waits for it.
//!
//! There is no task and no queue between an exchange and its connection: the request goes out, and the
//! response comes in, when the exchange is polled. An application that answers before it has read the
//! request, and closes, has its answer read all the same: a write that fails is not its last word.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use http::Version;

use crate::message::{Chunked, Framing, HeadLimits, Known, Piece, Refusal, ResponseHead, ResponseReader, take_of};

use super::body::RequestBody;
use super::io::{Output, poll_read};
use super::stream::Stream;

/// What an application's head may be: more than any has in earnest, less than would hurt.
const LIMITS: HeadLimits = HeadLimits { size: 128 * 1024, lines: 1000 };

/// A connection to the application that no exchange uses. Boxed, since it is handed around for every one.
pub(super) struct Http1 {
    pub(super) stream: Stream,
    pub(super) input: BytesMut,
    output: Output,
    /// Since when it is kept.
    pub(super) since: Instant,
    /// It has carried an exchange before.
    reused: bool,
}

/// One exchange on a connection.
pub(super) struct Call {
    connection: Box<Http1>,
    request: RequestBody,
    sending: Sending,
    /// Bytes of the request have gone out, or some of the client's body was taken: it can't be sent again.
    begun: bool,
    reader: ResponseReader,
    body: Body,
    /// Read ahead, to know which piece is the last.
    next: Option<Result<Piece, Refusal>>,
    to_head: bool,
    /// The application keeps the connection open after this response.
    keeps: bool,
}

/// How far the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Its body goes out in chunks, or as it is.
    Body {
        chunked: bool,
    },
    /// Its last byte is to be written.
    Rest,
    Done,
    /// Writing failed: what is left of it goes nowhere.
    Deaf,
    /// The client's side failed: the application must not take what came for whole.
    Broken,
}

/// What is left of the response's body.
enum Body {
    /// The head has not come.
    Awaited,
    Length(u64),
    Chunked(Box<Chunked>),
    Close,
    End,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Lost {
    /// Not a byte of the request was sent.
    Unsent,
    /// The connection ended or failed.
    Closed,
    /// It was not HTTP.
    Garbage(Refusal),
}

// === impl Http1 ===

impl Http1 {
    pub(super) fn new(stream: Stream) -> Box<Self> {
        let now = Instant::now();
        Box::new(Self { stream, input: BytesMut::new(), output: Output::default(), since: now, reused: false })
    }

    /// Whether the application has closed it, or said something that nobody asked for. No system call
    /// unless the socket has news.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        !self.input.is_empty() || poll_read(&mut self.stream, cx, &mut self.input).is_ready()
    }

    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Begins an exchange: `write_head` writes the request's head.
    pub(super) fn call(
        mut self: Box<Self>,
        request: RequestBody,
        framing: Framing,
        to_head: bool,
        write_head: impl FnOnce(&mut Vec<u8>),
    ) -> Call {
        write_head(self.output.text());
        let sending = match framing {
            Framing::Empty => Sending::Rest,
            framing => Sending::Body { chunked: framing == Framing::Chunked },
        };
        Call {
            connection: self,
            request,
            sending,
            begun: false,
            reader: ResponseReader::default(),
            body: Body::Awaited,
            next: None,
            to_head,
            keeps: false,
        }
    }
}

// === impl Call ===

impl Call {
    /// The request's body, for an exchange that was not sent at all and goes to another connection.
    pub(super) fn into_request(self) -> RequestBody {
        self.request
    }

    /// What is left after a 101: the socket, and what was read beyond the head.
    pub(super) fn into_tunnel(self) -> (Stream, BytesMut) {
        (self.connection.stream, self.connection.input)
    }

    /// The connection, where it may carry another exchange.
    pub(super) fn into_kept(self) -> Option<Box<Http1>> {
        let mut connection = self.connection;
        let clean = self.keeps && self.sending == Sending::Done && connection.input.is_empty();
        connection.reused = true;
        connection.input = BytesMut::new();
        connection.since = Instant::now();
        (clean && matches!(self.body, Body::End) && self.next.is_none()).then_some(connection)
    }

    /// Waits for the response's head, and how its body is framed, sending the request meanwhile. Informational responses go to `inform`.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        mut inform: impl FnMut(&ResponseHead),
    ) -> Poll<Result<(ResponseHead, Framing), Lost>> {
        loop {
            // First what is there: the end of a connection that answered may have been read with the answer.
            match self.reader.read(&self.connection.input, LIMITS).map_err(Lost::Garbage) {
                Err(lost) => return Poll::Ready(Err(lost)),
                Ok(Some((head, taken))) => {
                    self.connection.input.advance(taken);
                    let switching = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
                    if head.status.is_informational() && !switching {
                        inform(&head);
                        self.reader = ResponseReader::default();
                        continue;
                    }
                    return Poll::Ready(self.begin_body(&head).map(|framing| (head, framing)).map_err(Lost::Garbage));
                }
                Ok(None) => {}
            }
            self.poll_send(cx);
            match self.sending {
                Sending::Deaf if !self.begun => return Poll::Ready(Err(Lost::Unsent)),
                Sending::Broken => return Poll::Ready(Err(Lost::Closed)),
                _ => {}
            }
            match ready!(poll_read(&mut self.connection.stream, cx, &mut self.connection.input)) {
                Ok(0) | Err(_) if self.reader.is_at_start(&self.connection.input) => {
                    return Poll::Ready(Err(Lost::Closed));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(Lost::Garbage(Refusal { status: 502, reason: "cut head" }))),
                Ok(_) => {}
            }
        }
    }

    /// The next piece of the response's body, sending what is left of the request meanwhile.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        if matches!(self.sending, Sending::Body { .. } | Sending::Rest) {
            self.poll_send(cx);
        }
        loop {
            match self.take_piece() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if self.is_end() => return Poll::Ready(None),
                Ok(None) => {}
                Err(refusal) => {
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::InvalidData, refusal.reason))));
                }
            }
            if self.sending == Sending::Broken {
                // The application waits for the rest of a body that never comes.
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            }
            let read = ready!(poll_read(&mut self.connection.stream, cx, &mut self.connection.input));
            match (read, &self.body) {
                (Ok(0), Body::Close) => self.body = Body::End,
                (Ok(0), _) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                (Ok(_), _) => {}
                // Without a close_notify, as many applications end a TLS connection: whether that was
                // meant can't be told, so a body that lasts to the end is not taken for whole.
                (Err(error), _) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// No piece follows.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.body, Body::End) && self.next.is_none()
    }

    fn begin_body(&mut self, head: &ResponseHead) -> Result<Framing, Refusal> {
        let framing = head.framing(self.to_head)?;
        self.keeps = framing != Framing::Close
            && !head.fields.has_token(Known::Connection, b"close")
            && (head.version == Version::HTTP_11 || head.fields.has_token(Known::Connection, b"keep-alive"));
        self.body = match framing {
            Framing::Empty => Body::End,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::new(Chunked::lenient(LIMITS))),
            Framing::Close => Body::Close,
        };
        Ok(framing)
    }

    /// A piece of what has been read.
    fn take_piece(&mut self) -> Result<Option<Piece>, Refusal> {
        let input = &mut self.connection.input;
        match &mut self.body {
            Body::Awaited | Body::End => self.next.take().transpose(),
            Body::Chunked(chunked) => {
                let piece = match self.next.take() {
                    Some(piece) => Some(piece?),
                    None => chunked.read(input)?,
                };
                if matches!(piece, Some(Piece::Data(_))) {
                    // What came before bad framing still goes on.
                    self.next = chunked.read(input).transpose();
                }
                if chunked.is_end() {
                    self.body = Body::End;
                }
                Ok(piece)
            }
            Body::Length(_) | Body::Close if input.is_empty() => Ok(None),
            Body::Length(left) => {
                let data = take_of(left, input);
                if *left == 0 {
                    self.body = Body::End;
                }
                Ok(Some(Piece::Data(data)))
            }
            Body::Close => Ok(Some(Piece::Data(input.split().freeze()))),
        }
    }

    /// Sends as much of the request as goes out now.
    fn poll_send(&mut self, cx: &mut Context<'_>) {
        loop {
            let stuck = self.fill(cx).is_pending();
            if !matches!(self.sending, Sending::Body { .. } | Sending::Rest) {
                return;
            }
            let before = self.connection.output.len();
            let written = self.connection.output.poll_write(&mut self.connection.stream, cx);
            let moved = self.connection.output.len() < before;
            self.begun |= moved;
            if moved || written.is_pending() {
                self.request.moves(moved);
            }
            match written {
                Poll::Ready(Ok(())) if self.sending == Sending::Rest => {
                    self.sending = Sending::Done;
                    self.request.sent();
                    return;
                }
                Poll::Ready(Ok(())) if stuck => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.sending = Sending::Deaf,
                Poll::Pending => return,
            }
        }
    }

    /// Takes from the client's body what the output has room for.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let output = &mut self.connection.output;
        while let Sending::Body { chunked } = self.sending
            && output.takes_more()
        {
            let piece = ready!(self.request.poll_piece(cx));
            self.begun |= piece.is_some();
            match piece {
                Some(Ok(Piece::Data(data))) if chunked => output.push_chunk(data, false),
                Some(Ok(Piece::Data(data))) => output.push(data),
                Some(Ok(Piece::Trailers(trailers))) if chunked => {
                    super::headers::write_trailers(output.text(), &trailers);
                    self.sending = Sending::Rest;
                }
                Some(Ok(Piece::Trailers(_))) => {}
                Some(Err(_)) => self.sending = Sending::Broken,
                None => {
                    if chunked {
                        output.push_chunk(bytes::Bytes::new(), true);
                    }
                    self.sending = Sending::Rest;
                }
            }
        }
        Poll::Ready(())
    }
}
