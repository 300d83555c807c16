//! Where one HTTP/1 message ends and the next begins, followed byte by byte as they are read.
//!
//! Pure. hyper parses leniently in places where RFC 9112 lets a recipient be lenient (a bare LF ends a
//! line, a Content-Length beside a Transfer-Encoding is dropped). In front of an application that reads
//! differently, leniency is request smuggling; so this scanner runs over the same bytes first and
//! refuses what is not strictly in form. It copies nothing but a line that is cut by a read.

use crate::config::Limits;
use crate::forward::Refusal;

use super::head::{Follows, Head};

/// How the end of a request body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112 section 7.1).
    Chunked,
}

/// Longest chunk-size line, extensions included. Extensions are next to unused; nginx and hyper bound them likewise.
const CHUNK_LINE: usize = 4096;

/// Where the scanner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// After an upgrade request: nothing may come before the answer.
    Upgrading,
    /// After a 101: the bytes are not HTTP any more.
    Tunnel,
}

/// Follows the requests on one connection.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    head: Head,
    /// The beginning of a line that is not whole yet.
    cut: Vec<u8>,
    /// Bytes of the head or trailers so far.
    size: usize,
    max_size: usize,
    max_lines: usize,
    /// The request line last seen, for the record of a refusal.
    request_line: Vec<u8>,
}

/// Where a client stands that is silent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Between two requests.
    Between,
    /// Within a head.
    Head,
    /// Within a body.
    Body,
}

/// Bytes that must not go on.
#[derive(Debug)]
pub(super) struct Refused {
    /// So many bytes of what was fed are in order and belong to earlier requests or body data.
    pub(super) keep: usize,
    pub(super) refusal: Refusal,
}

impl Scanner {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            state: State::Head,
            head: Head::default(),
            cut: Vec::new(),
            size: 0,
            max_size: limits.head_size.as_usize(),
            max_lines: limits.headers,
            request_line: Vec::new(),
        }
    }

    /// Takes the bytes just read.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        // Where the message began that `at` is in: what stands before it may go on.
        let mut keep = 0;
        while at < data.len() {
            let step = match self.state {
                State::Tunnel => return Ok(()),
                State::Upgrading => Err(Refusal { status: 400, reason: "data before the upgrade was answered" }),
                State::Length(left) | State::ChunkData(left) => Ok(self.skip(left, data.len() - at)),
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => self.scan_line(&data[at..]),
            };
            at += step.map_err(|refusal| Refused { keep, refusal })?;
            // An upgrade request that did not wait for its answer is refused as a whole.
            if self.state != State::Upgrading && (self.state != State::Head || self.at_start()) {
                keep = at;
            }
        }
        Ok(())
    }

    /// Where the client stands, should it fall silent.
    pub(super) fn place(&self) -> Place {
        match self.state {
            State::Head if self.at_start() => Place::Between,
            State::Head => Place::Head,
            State::Upgrading | State::Tunnel => Place::Between,
            _ => Place::Body,
        }
    }

    /// The upgrade was answered: with a 101 (`true`), or with an ordinary response.
    pub(super) fn upgrade_answered(&mut self, tunnel: bool) {
        if self.state == State::Upgrading {
            self.state = if tunnel { State::Tunnel } else { State::Head };
        }
    }

    /// Nothing is read while an upgrade waits for its answer.
    pub(super) fn is_upgrading(&self) -> bool {
        self.state == State::Upgrading
    }

    /// The request line seen last, bounded by the head's size.
    pub(super) fn request_line(&self) -> &[u8] {
        &self.request_line
    }

    fn at_start(&self) -> bool {
        self.head.is_empty() && self.cut.is_empty()
    }

    fn skip(&mut self, left: u64, have: usize) -> usize {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(have);
        let left = left - step as u64;
        self.state = match (self.state, left) {
            (State::Length(_), 0) => State::Head,
            (State::Length(_), left) => State::Length(left),
            (_, 0) => State::ChunkEnd,
            (_, left) => State::ChunkData(left),
        };
        step
    }

    /// Takes the rest of one line, or all of `data` when the line does not end in it.
    fn scan_line(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        if self.state == State::Head && self.at_start() {
            // A refusal must not be told of the request before it.
            self.request_line.clear();
        }
        let end = memchr::memchr(b'\n', data);
        let taken = end.map_or(data.len(), |lf| lf + 1);
        self.size += taken;
        let in_chunk = matches!(self.state, State::ChunkSize | State::ChunkEnd);
        if in_chunk && self.size > CHUNK_LINE {
            return Err(Refusal { status: 400, reason: "chunk-size line too long" });
        }
        if self.size > self.max_size {
            return Err(Refusal { status: 431, reason: "request head too large" });
        }
        if end.is_none() {
            self.cut.extend_from_slice(data);
            return Ok(taken);
        }
        if self.cut.is_empty() {
            self.whole_line(&data[..taken])?;
        } else {
            let mut line = std::mem::take(&mut self.cut);
            line.extend_from_slice(&data[..taken]);
            let seen = self.whole_line(&line);
            line.clear();
            self.cut = line;
            seen?;
        }
        Ok(taken)
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(Refusal { status: 400, reason: "bare LF" });
        };
        if memchr::memchr2(b'\r', 0, line).is_some() {
            return Err(Refusal { status: 400, reason: "bare CR or NUL" });
        }
        match self.state {
            State::Head => self.head_line(line),
            State::ChunkSize => {
                self.size = 0;
                self.state = match chunk_size(line)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                };
                Ok(())
            }
            State::ChunkEnd if line.is_empty() => {
                self.size = 0;
                self.state = State::ChunkSize;
                Ok(())
            }
            State::ChunkEnd => Err(Refusal { status: 400, reason: "chunk longer than its size" }),
            _ => self.trailer_line(line),
        }
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.head.is_empty() {
            // RFC 9112 section 2.2: empty lines before a request line are ignored.
            if line.is_empty() {
                self.size = 0;
                return Ok(());
            }
            self.request_line.clear();
            self.request_line.extend_from_slice(line);
        }
        if !line.is_empty() {
            return self.head.line(line, self.max_lines);
        }
        self.size = 0;
        let Follows { framing, upgrade } = std::mem::take(&mut self.head).finish()?;
        self.state = match framing {
            Framing::None if upgrade => State::Upgrading,
            Framing::None => State::Head,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
        };
        Ok(())
    }

    fn trailer_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line.is_empty() {
            self.size = 0;
            self.state = State::Head;
            return Ok(());
        }
        match memchr::memchr(b':', line) {
            Some(colon) if colon > 0 && super::head::is_name(&line[..colon]) => Ok(()),
            _ => Err(Refusal { status: 400, reason: "malformed trailer" }),
        }
    }
}

/// `1*HEXDIG` and, after `;`, extensions that are skipped. At most 16 digits: no overflow, no `0x`, no sign.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let wrong = Refusal { status: 400, reason: "malformed chunk size" };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scanner() -> Scanner {
        Scanner::new(&Limits::default())
    }

    fn refusal_of(text: &str) -> Option<(u16, &'static str)> {
        scanner().feed(text.as_bytes()).err().map(|r| (r.refusal.status, r.refusal.reason))
    }

    #[test]
    fn ordinary_requests_pass() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nhost:b\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\nX-Empty:\r\nX-Utf8: h\u{e9}\r\n\r\n",
        ] {
            let mut scanner = scanner();
            assert!(scanner.feed(text.as_bytes()).is_ok(), "{text:?} was refused: {:?}", refusal_of(text));
            assert_eq!(scanner.place(), Place::Between, "{text:?} is complete");
        }
    }

    #[test]
    fn what_two_servers_could_read_differently_is_refused() {
        let get = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n\r\n");
        for (text, status) in [
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
            ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            (get("Host: b"), 400),
            (get("X : y"), 400),
            (get(": y"), 400),
            (get("X\r\n y"), 400),
            (get(" X: y"), 400),
            (get("X: a\rb"), 400),
            (get("X: a\0b"), 400),
            (get("X: a\x01b"), 400),
            (get("no colon"), 400),
            (get("Content-Length: 1\r\nContent-Length: 1"), 400),
            (get("Content-Length: 1, 1"), 400),
            (get("Content-Length: +1"), 400),
            (get("Content-Length: 0x1"), 400),
            (get("Content-Length: -1"), 400),
            (get("Content-Length:"), 400),
            (get("Content-Length: 18446744073709551616"), 400),
            (get("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400),
            (get("Transfer-Encoding: chunked\r\nContent-Length: 3"), 400),
            (get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400),
            (get("Transfer-Encoding: gzip, chunked"), 501),
            (get("Transfer-Encoding: ,chunked"), 501),
            (get("Transfer-Encoding: identity"), 501),
            (get("Transfer-Encoding: xchunked"), 501),
            (get("Transfer-Encoding: chunked\x0b"), 400),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        ] {
            assert_eq!(refusal_of(&text).map(|r| r.0), Some(status), "{text:?} gave {:?}", refusal_of(&text));
        }
    }

    #[test]
    fn chunks_are_read_strictly() {
        let post = |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
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
            assert_eq!(refusal_of(&post(body)).map(|r| r.0), Some(400), "{body:?}");
        }
        assert_eq!(refusal_of(&post(&format!("3;{}\r\nabc\r\n", "x".repeat(CHUNK_LINE)))).map(|r| r.0), Some(400));
    }

    #[test]
    fn heads_are_bounded_in_size_and_lines() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(32 * 1024));
        assert_eq!(refusal_of(&long), Some((431, "request head too large")));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(128));
        assert_eq!(refusal_of(&many), Some((431, "too many header lines")));
    }

    #[test]
    fn what_came_before_a_refused_request_goes_on() {
        let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let bad = "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n";
        let refused = scanner().feed(format!("{good}{bad}").as_bytes()).expect_err("the second is malformed");
        assert_eq!(refused.keep, good.len());
    }

    #[test]
    fn nothing_may_follow_an_upgrade_before_its_answer() {
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let mut scanner = scanner();
        scanner.feed(upgrade.as_bytes()).expect("a good request");
        assert!(scanner.is_upgrading());
        assert!(scanner.feed(b"GET /admin HTTP/1.1\r\n").is_err());
        scanner.upgrade_answered(true);
        scanner.feed(b"\x81\x00\r\nanything").expect("a tunnel carries anything");
    }

    proptest! {
        /// However the bytes are cut by reads, the verdict is the same.
        #[test]
        fn cuts_do_not_change_the_verdict(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                    Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\r\nb"),
                    Just("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
                    Just("GET / HTTP/1.1\r\nHost: a\r\nX: \n\r\n"),
                    Just("\r\n"),
                    Just("\0"),
                ],
                1..5,
            ),
            cuts in proptest::collection::vec(1usize..40, 1..40),
        ) {
            let text = parts.concat();
            let whole = scanner().feed(text.as_bytes()).err().map(|r| r.refusal);
            let mut pieces = scanner();
            let (mut rest, mut seen, mut cuts) = (text.as_bytes(), None, cuts.into_iter().cycle());
            while !rest.is_empty() && seen.is_none() {
                let (now, later) = rest.split_at(cuts.next().expect("a cycle").min(rest.len()));
                seen = pieces.feed(now).err().map(|r| r.refusal);
                rest = later;
            }
            prop_assert_eq!(whole, seen);
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes: Vec<u8>) {
            let _ = scanner().feed(&bytes);
        }
    }
}
