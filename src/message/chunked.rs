//! Chunked bodies (RFC 9112 section 7.1), both ways.

use bytes::{Bytes, BytesMut};

use super::fields::{Builder, Fields};
use super::{HeadLimits, Refusal, syntax, take_of};

/// Longest chunk-size line, extensions included. Extensions are next to unused; nginx bounds them likewise.
const CHUNK_LINE: usize = 4096;

/// A part of a body.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Some of its bytes.
    Data(Bytes),
    /// Its trailers, where it had any: nothing comes after them.
    Trailers(Fields),
}

/// Takes the chunks of one body apart.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Up to where the present line was searched for its end.
    searched: usize,
    trailers: Builder,
    trailer_lines: usize,
    limits: HeadLimits,
    /// White space behind a size is taken: of applications, some of which pad it.
    padded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    End,
}

impl Chunked {
    /// At the beginning of a client's body: strict.
    pub fn strict(limits: HeadLimits) -> Self {
        Self { state: State::Size, searched: 0, trailers: Builder::default(), trailer_lines: 0, limits, padded: false }
    }

    /// At the beginning of an application's body.
    pub fn lenient(limits: HeadLimits) -> Self {
        Self { padded: true, ..Self::strict(limits) }
    }

    /// The body has ended.
    pub fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Takes the next part out of `input`. `None`: more bytes are needed, or it [ended](Self::is_end).
    ///
    /// # Errors
    /// What is wrong with the framing; nothing may be read of this connection any more.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Refusal> {
        loop {
            match self.state {
                State::End => return Ok(None),
                State::Data(mut left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let data = take_of(&mut left, input);
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Some(Piece::Data(data)));
                }
                State::Size | State::DataEnd | State::Trailers => {
                    let Some(line) = self.line(input)? else { return Ok(None) };
                    if let Some(trailers) = self.take_line(syntax::strip_crlf(&line)?)? {
                        return Ok(Some(Piece::Trailers(trailers)));
                    }
                }
            }
        }
    }

    /// One whole line out of `input`.
    fn line(&mut self, input: &mut BytesMut) -> Result<Option<BytesMut>, Refusal> {
        let end = memchr::memchr(b'\n', &input[self.searched..]).map(|at| self.searched + at + 1);
        let length = end.unwrap_or(input.len());
        let limit = if self.state == State::Trailers { self.limits.size } else { CHUNK_LINE };
        if length > limit {
            return Err(Refusal::bad("chunk-size line too long"));
        }
        self.searched = if end.is_some() { 0 } else { length };
        Ok(end.map(|end| input.split_to(end)))
    }

    /// Trailers, when the line ends them and there were any.
    fn take_line(&mut self, line: &[u8]) -> Result<Option<Fields>, Refusal> {
        match self.state {
            State::Size => {
                let line = if self.padded { line.trim_ascii_end() } else { line };
                self.state = match chunk_size(line)? {
                    0 => State::Trailers,
                    size => State::Data(size),
                };
            }
            State::DataEnd if line.is_empty() => self.state = State::Size,
            State::DataEnd => return Err(Refusal::bad("chunk longer than its size")),
            _ if line.is_empty() => {
                self.state = State::End;
                let trailers = std::mem::take(&mut self.trailers).finish();
                return Ok((!trailers.is_empty()).then_some(trailers));
            }
            _ => {
                let wrong = Refusal::bad("malformed trailer");
                let (colon, value) = syntax::header_line(line).map_err(|_| wrong)?;
                self.trailer_lines += 1;
                if self.trailer_lines > self.limits.lines || self.trailers.block.len() + line.len() > self.limits.size {
                    return Err(Refusal { status: 431, reason: "trailers too large" });
                }
                self.trailers.add(&line[..colon], &line[value]);
            }
        }
        Ok(None)
    }
}

/// `1*HEXDIG` and, after `;`, extensions that are skipped. At most 16 digits: no overflow, no `0x`, no sign.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let wrong = Refusal::bad("malformed chunk size");
    let digits = memchr::memchr(b';', line).map_or(line, |semicolon| &line[..semicolon]);
    // BWS before `;` is allowed by the grammar and used by nobody; refused, as others read it differently.
    if digits.is_empty() || digits.len() > 16 {
        return Err(wrong);
    }
    digits.iter().try_fold(0u64, |sum, b| {
        let digit = (*b as char).to_digit(16).ok_or(wrong)?;
        Ok(sum << 4 | u64::from(digit))
    })
}

/// Writes the line before a chunk of `length` bytes.
pub fn chunk_line(out: &mut Vec<u8>, length: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|digit| HEX[length >> (4 * digit) & 15]));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { size: 1024, lines: 10 };

    fn decode(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<String>, bool), Refusal> {
        let (mut chunked, mut input) = (Chunked::strict(LIMITS), BytesMut::new());
        let (mut data, mut trailers, mut rest) = (Vec::new(), Vec::new(), bytes);
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().copied().unwrap_or(usize::MAX).min(rest.len());
            input.extend_from_slice(&rest[..cut]);
            rest = &rest[cut..];
            while let Some(piece) = chunked.read(&mut input)? {
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::Trailers(fields) => {
                        trailers.extend(fields.iter().map(|f| String::from_utf8_lossy(f.name).into_owned()));
                    }
                }
            }
        }
        Ok((data, trailers, chunked.is_end()))
    }

    #[test]
    fn chunks_are_read_strictly() {
        for body in [
            "0x3\r\nabc\r\n",
            "+3\r\nabc\r\n",
            "3 \r\nabc\r\n",
            "\r\n",
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "fffffffffffffffff\r\n",
            "3;a\rb\r\nabc\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
        ] {
            assert!(decode(body.as_bytes(), &[usize::MAX]).is_err(), "{body:?}");
        }
        let long = format!("3;{}\r\nabc\r\n", "x".repeat(CHUNK_LINE));
        assert!(decode(long.as_bytes(), &[usize::MAX]).is_err());
    }

    #[test]
    fn trailers_come_last_and_what_follows_stays() {
        let mut input = BytesMut::from(&b"3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\nGET"[..]);
        let mut chunked = Chunked::strict(LIMITS);
        assert!(matches!(chunked.read(&mut input), Ok(Some(Piece::Data(data))) if data == "abc"));
        assert!(matches!(chunked.read(&mut input), Ok(Some(Piece::Trailers(t))) if t.len() == 1));
        assert!(chunked.is_end() && input == "GET");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            cuts in proptest::collection::vec(1usize..40, 1..10),
        ) {
            let mut out = Vec::new();
            for chunk in &chunks {
                chunk_line(&mut out, chunk.len());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\nA: b\r\n\r\n");
            let (data, trailers, end) = decode(&out, &cuts).expect("our own chunks");
            prop_assert_eq!((data, trailers, end), (chunks.concat(), vec!["A".to_owned()], true));
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes: Vec<u8>, cuts in proptest::collection::vec(1usize..9, 1..9)) {
            let _ = decode(&bytes, &cuts);
        }
    }
}
