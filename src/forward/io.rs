//! Bytes from and to a socket of HTTP/1: read into memory that all connections of a worker share, and
//! written with as few system calls as there can be.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use crate::message::chunk_line;

use super::stream::Stream;

/// Memory that reads go to. Pieces of it live as long as somebody holds them; idle connections hold none. With
/// 64 KiB, 64 busy connections held 4 MiB more, and bodies of 64 KiB cost a third less CPU.
const CHUNK: usize = 12 * 1024;
/// With less room left than this, a read gets a fresh chunk.
const LEAST: usize = 3 * 1024;
/// Data up to this size is copied behind the head, to go out by one send(2): that costs the kernel less
/// than writev(2).
const JOINED: usize = 4096;
/// Memory an empty output keeps.
const KEEP: usize = 4096;

thread_local! {
    static READ: RefCell<BytesMut> = RefCell::default();
}

/// Reads what has come behind `input`; 0 at the end.
pub fn poll_read(stream: &mut Stream, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
    READ.with_borrow_mut(|chunk| {
        if chunk.capacity() < LEAST {
            chunk.reserve(CHUNK);
        }
        let read = ready!(poll_read_buf(Pin::new(stream), cx, chunk))?;
        let piece = chunk.split_to(read);
        if input.is_empty() {
            *input = piece;
        } else {
            input.extend_from_slice(&piece);
        }
        Poll::Ready(Ok(read))
    })
}

/// What waits to be written: text (a head, the line before a chunk), then data, then a tail.
#[derive(Debug, Default)]
pub struct Output {
    text: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Output {
    /// For heads and the like. Only while there is no data.
    pub fn text(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.data.is_empty() && self.tail.is_empty(), "text goes before data");
        &mut self.text
    }

    /// Whether more may be added without a write in between.
    pub fn takes_more(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.text.len() < JOINED
    }

    /// Everything is written.
    pub fn is_empty(&self) -> bool {
        self.written == self.text.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.text.len() - self.written + self.data.len() + self.tail.len()
    }

    /// Adds data as it is.
    pub fn push(&mut self, data: Bytes) {
        if self.text.len() + data.len() <= JOINED {
            self.text.extend_from_slice(&data);
        } else {
            self.data = data;
        }
    }

    /// Adds data as a chunk; the `last` one with the end of the body.
    pub fn push_chunk(&mut self, data: Bytes, last: bool) {
        if !data.is_empty() {
            chunk_line(&mut self.text, data.len());
            self.push(data);
            self.push_tail(if last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
        } else if last {
            self.push_tail(b"0\r\n\r\n");
        }
    }

    fn push_tail(&mut self, tail: &'static [u8]) {
        if self.data.is_empty() {
            self.text.extend_from_slice(tail);
        } else {
            self.tail = tail;
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let text = &self.text[self.written..];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, text))?
            } else {
                let parts = [IoSlice::new(text), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        self.text.clear();
        self.text.shrink_to(KEEP);
        self.written = 0;
        Pin::new(stream).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        let of_text = written.min(self.text.len() - self.written);
        self.written += of_text;
        written -= of_text;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        self.tail = &self.tail[written - of_data..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was added, as one piece.
    fn all(output: &Output) -> Vec<u8> {
        [&output.text[output.written..], &output.data, output.tail].concat()
    }

    #[test]
    fn small_data_joins_the_text_and_large_data_is_not_copied() {
        let mut output = Output::default();
        output.text().extend_from_slice(b"head");
        output.push_chunk(Bytes::from_static(b"abc"), true);
        assert_eq!(output.text, b"head3\r\nabc\r\n0\r\n\r\n");
        let mut output = Output::default();
        let large = Bytes::from(vec![b'x'; JOINED + 1]);
        output.push_chunk(large.clone(), false);
        assert!(!output.takes_more() && output.data.as_ptr() == large.as_ptr());
        assert_eq!(all(&output), [b"1001\r\n", &large[..], b"\r\n"].concat());
    }

    #[test]
    fn what_is_written_in_parts_comes_out_whole() {
        let mut output = Output::default();
        output.push_chunk(Bytes::from(vec![b'x'; 5000]), true);
        let (whole, mut seen) = (all(&output), Vec::new());
        while !output.is_empty() {
            let step = 777.min(all(&output).len());
            seen.extend_from_slice(&all(&output)[..step]);
            output.advance(step);
        }
        assert_eq!(seen, whole);
    }
}
