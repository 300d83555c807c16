//! Messages: the heads of requests and responses as they came, and where their bodies end.
//!
//! Pure, and on the floor: every room may speak of a head. A head keeps its bytes in one block and
//! knows where each line stands in it, so that spelling and order survive, looking at a header costs no
//! hash, and passing it on is a copy. HTTP/1 is read here strictly, as RFC 9112 asks a server and a
//! gateway to; heads of HTTP/2 are made from what its library hands over.

use bytes::{Bytes, BytesMut};

mod chunked;
mod fields;
mod request;
mod response;
mod syntax;

pub use chunked::{Chunked, Piece, chunk_line};
pub use fields::{Field, Fields, Known};
pub use request::{RequestHead, RequestReader};
pub use response::{ResponseHead, ResponseReader};

/// A message that may not go on, and what its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status sent to the client.
    pub status: u16,
    /// Why, in a few words.
    pub reason: &'static str,
}

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks (RFC 9112 section 7.1).
    Chunked,
    /// Until the connection ends (responses only).
    Close,
}

impl Framing {
    /// The sender did not say how long it is.
    pub fn is_of_unknown_length(self) -> bool {
        matches!(self, Self::Chunked | Self::Close)
    }
}

/// Takes what has come of `left` bytes out of `input`.
pub fn take_of(left: &mut u64, input: &mut BytesMut) -> Bytes {
    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= take as u64;
    input.split_to(take).freeze()
}

/// What is read of a head at most.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of all lines together.
    pub size: usize,
    /// Header lines.
    pub lines: usize,
}

impl Refusal {
    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }
}
