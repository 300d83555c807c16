//! A request's head: read strictly, line by line as it comes. A head that two servers could read
//! differently is refused, before the application sees a byte of it.

use bytes::Bytes;
use http::{Method, Version};

use super::fields::{Builder, Fields, Known, Line};
use super::{Framing, HeadLimits, Refusal, syntax};
use crate::record::lossless;

/// A request's head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method, as it was sent.
    pub method: Method,
    /// The version that was spoken.
    pub version: Version,
    /// The header lines.
    pub fields: Fields,
    target: Target,
}

/// Where the parts of a target stand in the fields' block.
#[derive(Clone, Debug, Default)]
struct Target {
    authority: Option<Span>,
    path: Span,
    query: Option<Span>,
    /// Path and query as text, where their bytes are not UTF-8.
    escaped: Option<Box<(String, String)>>,
}

type Span = (u32, u32);

/// Reads one head from bytes that come in pieces.
#[derive(Debug, Default)]
pub struct RequestReader {
    /// Where the line begins that is not whole yet, and up to where it was searched for its end.
    line: usize,
    searched: usize,
    /// Where the request line stands, once it has come.
    request_line: Option<(usize, usize)>,
    /// What it says: the target as a place in the buffer.
    request: Option<(Method, std::ops::Range<usize>, Version)>,
    lines: Vec<Line>,
    content_length: Option<u64>,
    chunked: bool,
    host: bool,
}

// === impl RequestHead ===

impl RequestHead {
    /// The head that HTTP/2's library hands over.
    pub fn from_parts(parts: &http::request::Parts) -> Self {
        let mut builder = Builder::default();
        let mut put = |text: &str| {
            let at = builder.block.len() as u32;
            builder.block.extend_from_slice(text.as_bytes());
            (at, at + text.len() as u32)
        };
        let target = Target {
            authority: parts.uri.authority().map(|authority| put(authority.as_str())),
            path: put(parts.uri.path()),
            query: parts.uri.query().map(|query| {
                put("?");
                put(query)
            }),
            escaped: None,
        };
        for (name, value) in &parts.headers {
            builder.add(name.as_str().as_bytes(), value.as_bytes());
        }
        Self { method: parts.method.clone(), version: parts.version, fields: builder.finish(), target }
    }

    /// The path as text. Bytes that are not UTF-8 are escaped ([`RequestHead::is_escaped`]).
    pub fn path(&self) -> &str {
        self.target.escaped.as_ref().map_or_else(|| self.text(self.target.path), |escaped| &escaped.0)
    }

    /// The query as text, without its `?`.
    pub fn query(&self) -> Option<&str> {
        let query = self.target.query?;
        Some(self.target.escaped.as_ref().map_or_else(|| self.text(query), |escaped| &escaped.1))
    }

    /// The authority of an absolute target or of HTTP/2's `:authority`.
    pub fn authority(&self) -> Option<&str> {
        self.target.authority.map(|authority| self.text(authority))
    }

    /// Path and query held bytes that are not UTF-8, which the text shows as `\xNN`.
    pub fn is_escaped(&self) -> bool {
        self.target.escaped.is_some()
    }

    /// Path and query as they were sent, `*` included.
    pub fn origin_form(&self) -> &[u8] {
        let (start, path_end) = self.target.path;
        let end = self.target.query.map_or(path_end, |(_, end)| end);
        &self.fields.block[start as usize..end as usize]
    }

    /// The host the request asks for: its target's authority, or `Host`.
    pub fn host(&self) -> Option<&str> {
        let named = || std::str::from_utf8(self.fields.known(Known::Host)?).ok();
        self.authority().or_else(named).filter(|host| !host.is_empty())
    }

    /// The client asks to leave HTTP behind (RFC 9110 section 7.8).
    pub fn asks_to_upgrade(&self) -> bool {
        self.version == Version::HTTP_11
            && self.fields.known(Known::Upgrade).is_some()
            && self.fields.has_token(Known::Connection, b"upgrade")
    }

    /// The client waits to be asked for its body (RFC 9110 section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.fields.known(Known::Expect).is_some_and(|e| e.eq_ignore_ascii_case(b"100-continue"))
    }

    fn bytes(&self, (start, end): Span) -> &[u8] {
        &self.fields.block[start as usize..end as usize]
    }

    fn text(&self, span: Span) -> &str {
        // Where it is not UTF-8 there is an escaped text instead.
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// Takes a target apart (RFC 9112 section 3.2) that stands at `start..end` of the block.
    fn set_target(&mut self, start: usize, end: usize) -> Result<(), Refusal> {
        let wrong = Refusal::bad("malformed request target");
        let block = self.fields.block.clone();
        let target = &block[start..end];
        let mut path = start;
        if !(target.starts_with(b"/") || target == b"*" && self.method == Method::OPTIONS) {
            let scheme = [&b"http://"[..], b"https://"]
                .into_iter()
                .find(|scheme| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme));
            let authority = start + scheme.ok_or(wrong)?.len();
            path = block[authority..end].iter().position(|b| b"/?".contains(b)).map_or(end, |len| authority + len);
            if path == authority || std::str::from_utf8(&block[authority..path]).is_err() {
                return Err(wrong);
            }
            self.target.authority = Some((authority as u32, path as u32));
        }
        let question = memchr::memchr(b'?', &block[path..end]).map(|at| path + at);
        self.target.path = (path as u32, question.unwrap_or(end) as u32);
        self.target.query = question.map(|at| (at as u32 + 1, end as u32));
        if std::str::from_utf8(&block[path..end]).is_err() {
            let text = |span: Span| lossless(self.bytes(span)).0.into_owned().0.into_owned();
            self.target.escaped =
                Some(Box::new((text(self.target.path), self.target.query.map(text).unwrap_or_default())));
        }
        Ok(())
    }
}

// === impl RequestReader ===

impl RequestReader {
    /// Nothing of a head has come, empty lines apart.
    pub fn is_at_start(&self, buffer: &[u8]) -> bool {
        self.request_line.is_none() && buffer.len() == self.line
    }

    /// Reads on in `buffer`, which holds everything since the head's first byte. Once the head is whole:
    /// the head, how its body is framed, and how many bytes of the buffer it took.
    ///
    /// # Errors
    /// What is wrong with it; the reader is of no use any more.
    pub fn read(
        &mut self,
        buffer: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<(RequestHead, Framing, usize)>, Refusal> {
        loop {
            let end = memchr::memchr(b'\n', &buffer[self.searched..]).map(|at| self.searched + at + 1);
            self.searched = end.unwrap_or(buffer.len());
            if self.searched > limits.size {
                return Err(Refusal { status: 431, reason: "request head too large" });
            }
            let Some(end) = end else { return Ok(None) };
            let start = std::mem::replace(&mut self.line, end);
            let line = syntax::strip_crlf(&buffer[start..end])?;
            match (self.request_line, line.is_empty()) {
                // RFC 9112 section 2.2: empty lines before a request line are ignored.
                (None, true) => {}
                (None, false) => {
                    // First, so that the record of a refusal can tell of it.
                    self.request_line = Some((start, start + line.len()));
                    let (method, target, version) = request_line(line)?;
                    self.request = Some((method, start + target.start..start + target.end, version));
                    self.lines.reserve(16);
                }
                (Some(_), true) => return self.finish(buffer, end).map(Some),
                (Some(_), false) => self.header(buffer, start, line, limits.lines)?,
            }
        }
    }

    /// The request line, where it came as a whole: for the record of a refusal. What else stands in a head
    /// may be a secret.
    pub fn request_line<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        self.request_line.map_or(&[], |(start, end)| &buffer[start..end])
    }

    fn header(&mut self, buffer: &[u8], start: usize, line: &[u8], max_lines: usize) -> Result<(), Refusal> {
        if self.lines.len() >= max_lines {
            return Err(Refusal { status: 431, reason: "too many header lines" });
        }
        let (colon, value) = syntax::header_line(line)?;
        let at = Line::at(buffer, start..start + colon, start + value.start..start + value.end)
            .ok_or(Refusal { status: 431, reason: "request head too large" })?;
        self.look(at.known(), &line[value])?;
        self.lines.push(at);
        Ok(())
    }

    /// What a header says of the message's framing.
    fn look(&mut self, known: Known, value: &[u8]) -> Result<(), Refusal> {
        match known {
            Known::Host if std::mem::replace(&mut self.host, true) => Err(Refusal::bad("more than one Host header")),
            // A list or a repetition is refused even where the values agree: the next server may not look so closely.
            Known::ContentLength if self.content_length.is_some() => Err(Refusal::bad("more than one Content-Length")),
            Known::ContentLength => {
                self.content_length = Some(syntax::decimal(value).ok_or(Refusal::bad("malformed Content-Length"))?);
                Ok(())
            }
            Known::TransferEncoding if self.chunked => Err(Refusal::bad("more than one Transfer-Encoding")),
            Known::TransferEncoding if !value.eq_ignore_ascii_case(b"chunked") => {
                Err(Refusal { status: 501, reason: "Transfer-Encoding other than chunked" })
            }
            Known::TransferEncoding => {
                self.chunked = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, buffer: &[u8], end: usize) -> Result<(RequestHead, Framing, usize), Refusal> {
        let reader = std::mem::take(self);
        let (method, target, version) = reader.request.ok_or(Refusal::bad("malformed request line"))?;
        let http_1_0 = version == Version::HTTP_10;
        if !reader.host && !http_1_0 {
            return Err(Refusal::bad("no Host header"));
        }
        // RFC 9112 section 6.1: both is the mark of request smuggling.
        if reader.chunked && reader.content_length.is_some() {
            return Err(Refusal::bad("both Content-Length and Transfer-Encoding"));
        }
        if reader.chunked && http_1_0 {
            return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
        }
        let framing = match reader.content_length {
            _ if reader.chunked => Framing::Chunked,
            Some(0) | None => Framing::Empty,
            Some(length) => Framing::Length(length),
        };
        // Copied: the buffer it came in is shared by many messages, and this one may live long.
        let fields = Fields { block: Bytes::copy_from_slice(&buffer[..end]), lines: reader.lines };
        let mut head = RequestHead { method, version, fields, target: Target::default() };
        head.set_target(target.start, target.end)?;
        Ok((head, framing, end))
    }
}

/// Method, place of the target in the line, version (RFC 9112 section 3).
fn request_line(line: &[u8]) -> Result<(Method, std::ops::Range<usize>, Version), Refusal> {
    let malformed = Refusal::bad("malformed request line");
    let first = memchr::memchr(b' ', line).ok_or(malformed)?;
    let last = memchr::memrchr(b' ', line).filter(|last| *last > first).ok_or(malformed)?;
    let (method, target, version) = (&line[..first], &line[first + 1..last], &line[last + 1..]);
    if !syntax::is_token(method) {
        return Err(Refusal::bad("malformed method"));
    }
    if target.is_empty() || target.iter().any(|b| *b <= 0x20 || matches!(b, 0x7f | b'#' | b'<' | b'>')) {
        return Err(Refusal::bad("malformed request target"));
    }
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', d, b'.', e] if d.is_ascii_digit() && e.is_ascii_digit() => {
            return Err(Refusal { status: 505, reason: "HTTP version not supported" });
        }
        _ => return Err(Refusal::bad("malformed HTTP version")),
    };
    // A reverse proxy is no tunnel to anywhere (RFC 9110 section 9.3.6).
    if method == b"CONNECT" {
        return Err(Refusal { status: 405, reason: "CONNECT is not offered" });
    }
    let method = Method::from_bytes(method).map_err(|_| Refusal::bad("malformed method"))?;
    Ok((method, first + 1..last, version))
}

#[cfg(test)]
mod tests;
