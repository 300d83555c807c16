//! A response's head. An application is believed more than a client: a bare LF and white space before a
//! colon are taken, since what goes on is written anew.

use bytes::Bytes;
use http::{StatusCode, Version};

use super::fields::{Builder, Fields, Known, Line};
use super::{Framing, HeadLimits, Refusal, syntax};

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The version that was spoken.
    pub version: Version,
    /// The header lines.
    pub fields: Fields,
    /// Where the reason phrase stands in the fields' block.
    reason: (usize, usize),
}

/// Reads one head from bytes that come in pieces.
#[derive(Debug, Default)]
pub struct ResponseReader {
    line: usize,
    searched: usize,
    status: Option<Status>,
    lines: Vec<Line>,
}

/// A status line: version, status, and where the reason phrase stands.
type Status = (Version, StatusCode, (usize, usize));

// === impl ResponseHead ===

impl ResponseHead {
    /// A head of our own.
    pub fn new(status: StatusCode, lines: &[(&[u8], &[u8])]) -> Self {
        let mut fields = Builder::default();
        lines.iter().for_each(|(name, value)| fields.add(name, value));
        Self { status, version: Version::HTTP_11, fields: fields.finish(), reason: (0, 0) }
    }

    /// The head that HTTP/2's library hands over.
    pub fn from_parts(parts: &http::response::Parts) -> Self {
        let fields = Fields::from_map(&parts.headers);
        Self { status: parts.status, version: parts.version, fields, reason: (0, 0) }
    }

    /// The reason phrase as it was sent; the usual one where there was none.
    pub fn reason(&self) -> &[u8] {
        let (start, end) = self.reason;
        match &self.fields.block[start..end] {
            b"" => self.status.canonical_reason().unwrap_or_default().as_bytes(),
            reason => reason,
        }
    }

    /// How the body is framed (RFC 9112 section 6.3). `to_head`: the request was a HEAD.
    ///
    /// # Errors
    /// The lengths contradict each other.
    pub fn framing(&self, to_head: bool) -> Result<Framing, Refusal> {
        if to_head || self.status.is_informational() || matches!(self.status.as_u16(), 204 | 304) {
            return Ok(Framing::Empty);
        }
        if let Some(last) = self.fields.all_known(Known::TransferEncoding).flat_map(syntax::list).last() {
            // Anything else than chunks at the end lasts until the connection ends.
            return Ok(if last.eq_ignore_ascii_case(b"chunked") { Framing::Chunked } else { Framing::Close });
        }
        let mut length = None;
        for value in self.fields.all_known(Known::ContentLength).flat_map(syntax::list) {
            let value = syntax::decimal(value).ok_or(Refusal::bad("malformed Content-Length"))?;
            if length.is_some_and(|length| length != value) {
                return Err(Refusal::bad("Content-Lengths that contradict each other"));
            }
            length = Some(value);
        }
        Ok(match length {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        })
    }
}

// === impl ResponseReader ===

impl ResponseReader {
    /// Reads on in `buffer`, which holds everything since the head's first byte. Once the head is whole:
    /// the head, and how many bytes of the buffer it took.
    ///
    /// # Errors
    /// It is not HTTP.
    pub fn read(&mut self, buffer: &[u8], limits: HeadLimits) -> Result<Option<(ResponseHead, usize)>, Refusal> {
        loop {
            let end = memchr::memchr(b'\n', &buffer[self.searched..]).map(|at| self.searched + at + 1);
            self.searched = end.unwrap_or(buffer.len());
            if self.searched > limits.size || self.lines.len() > limits.lines {
                return Err(Refusal::bad("response head too large"));
            }
            let Some(end) = end else { return Ok(None) };
            let start = std::mem::replace(&mut self.line, end);
            let line = &buffer[start..end - 1];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if memchr::memchr2(b'\r', 0, line).is_some() {
                return Err(Refusal::bad("bare CR or NUL"));
            }
            match (self.status, line.is_empty()) {
                (None, true) => {}
                (None, false) => {
                    self.status = Some(status_line(line, start)?);
                    self.lines.reserve(16);
                }
                (Some(status), true) => return Ok(Some((self.finish(buffer, end, status), end))),
                (Some(_), false) => self.header(buffer, start, line)?,
            }
        }
    }

    /// Not a byte of a head has come.
    pub fn is_at_start(&self, buffer: &[u8]) -> bool {
        self.status.is_none() && buffer.len() == self.line
    }

    fn header(&mut self, buffer: &[u8], start: usize, line: &[u8]) -> Result<(), Refusal> {
        let colon = memchr::memchr(b':', line).ok_or(Refusal::bad("header line without a colon"))?;
        // RFC 9112 section 5.1: a proxy removes white space before a colon.
        let name = line[..colon].trim_ascii_end().len();
        let value = if name == colon {
            syntax::header_line(line)?.1
        } else {
            syntax::header_line(&[&line[..name], &line[colon..]].concat())?;
            let value = line[colon + 1..].trim_ascii();
            let from = value.as_ptr() as usize - line.as_ptr() as usize;
            from..from + value.len()
        };
        let at = Line::at(buffer, start..start + name, start + value.start..start + value.end);
        self.lines.push(at.ok_or(Refusal::bad("header line too large"))?);
        Ok(())
    }

    fn finish(&mut self, buffer: &[u8], end: usize, (version, status, reason): Status) -> ResponseHead {
        let lines = std::mem::take(self).lines;
        // Copied: the buffer it came in is shared by many messages, and this one may live long.
        let fields = Fields { block: Bytes::copy_from_slice(&buffer[..end]), lines };
        ResponseHead { status, version, fields, reason }
    }
}

/// `HTTP/1.1 200 OK`, the phrase and the space before it at will (RFC 9112 section 4).
fn status_line(line: &[u8], start: usize) -> Result<Status, Refusal> {
    let wrong = Refusal::bad("malformed status line");
    let version = match line.get(..9) {
        Some(b"HTTP/1.1 ") => Version::HTTP_11,
        Some(b"HTTP/1.0 ") => Version::HTTP_10,
        _ => return Err(wrong),
    };
    let status = StatusCode::from_bytes(line.get(9..12).ok_or(wrong)?).map_err(|_| wrong)?;
    let reason = match line.get(12) {
        None => (0, 0),
        Some(b' ') if !line[13..].iter().any(|b| *b < 0x20 && *b != b'\t') => (start + 13, start + line.len()),
        Some(_) => return Err(wrong),
    };
    Ok((version, status, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 4096, lines: 100 };

    fn read(text: &str) -> Result<ResponseHead, Refusal> {
        let (head, taken) = ResponseReader::default().read(text.as_bytes(), LIMITS)?.expect("a whole head");
        assert_eq!(taken, text.len(), "{text:?}");
        Ok(head)
    }

    #[test]
    fn heads_are_read_with_their_phrase_and_spelling() {
        let head = read("HTTP/1.1 404 Nicht da\r\nX-A:  b \r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n").expect("fine");
        assert_eq!((head.status.as_u16(), head.reason()), (404, &b"Nicht da"[..]));
        assert_eq!(head.fields.all_known(Known::SetCookie).count(), 2);
        assert_eq!(head.fields.iter().next().map(|f| (f.name, f.value)), Some((&b"X-A"[..], &b"b"[..])));
        let head = read("HTTP/1.0 200\nA : b\n\n").expect("old style");
        assert_eq!((head.version, head.reason()), (Version::HTTP_10, &b"OK"[..]));
        assert_eq!(head.fields.iter().next().map(|f| (f.name, f.value)), Some((&b"A"[..], &b"b"[..])));
    }

    #[test]
    fn what_is_not_http_is_no_head() {
        for text in [
            "ICY 200 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 200x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        ] {
            assert!(ResponseReader::default().read(text.as_bytes(), LIMITS).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bodies_are_framed_as_rfc_9112_section_6_3_says() {
        for (rest, to_head, framing) in [
            ("200 OK\r\nContent-Length: 3\r\n", false, Some(Framing::Length(3))),
            ("200 OK\r\nContent-Length: 3\r\n", true, Some(Framing::Empty)),
            ("304 Not Modified\r\nContent-Length: 3\r\n", false, Some(Framing::Empty)),
            ("204 No Content\r\n", false, Some(Framing::Empty)),
            ("200 OK\r\n", false, Some(Framing::Close)),
            ("200 OK\r\nContent-Length: 3, 3\r\n", false, Some(Framing::Length(3))),
            ("200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n", false, None),
            ("200 OK\r\nContent-Length: x\r\n", false, None),
            ("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, Chunked\r\n", false, Some(Framing::Chunked)),
            ("200 OK\r\nTransfer-Encoding: gzip\r\n", false, Some(Framing::Close)),
        ] {
            let head = read(&format!("HTTP/1.1 {rest}\r\n")).expect("a head");
            assert_eq!(head.framing(to_head).ok(), framing, "{rest:?}");
        }
    }
}
