//! What a request head may look like, line by line: RFC 9112, and nothing else.
//!
//! Pure. Each line comes without its CRLF; [`super::framing::Scanner`] has seen to line ends. A head
//! that two servers could read differently is refused here, before the application sees a byte.

use crate::forward::Refusal;

use super::framing::Framing;

/// The lines of one head, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Head {
    lines: usize,
    http_1_0: bool,
    content_length: Option<u64>,
    chunked: bool,
    host: bool,
    connection_upgrade: bool,
    upgrade: bool,
}

/// What a whole head says about what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Follows {
    pub(super) framing: Framing,
    /// The client asks to leave HTTP behind; nothing may follow before the answer.
    pub(super) upgrade: bool,
}

macro_rules! refuse {
    ($status:expr, $reason:expr) => {
        return Err(Refusal { status: $status, reason: $reason })
    };
}

impl Head {
    /// Nothing of the head has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Takes one line, not the empty one that ends the head.
    pub(super) fn line(&mut self, line: &[u8], max_lines: usize) -> Result<(), Refusal> {
        self.lines += 1;
        if self.lines == 1 {
            return self.request_line(line);
        }
        if self.lines - 1 > max_lines {
            refuse!(431, "too many header lines");
        }
        // RFC 9112 section 5.2: a server rejects obsolete line folding.
        if matches!(line[0], b' ' | b'\t') {
            refuse!(400, "obsolete line folding");
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            refuse!(400, "header line without a colon");
        };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if name.is_empty() || !is_name(name) {
            // White space before the colon lands here too (RFC 9112 section 5.1).
            refuse!(400, "malformed header name");
        }
        // No early exit, so that the compiler takes many bytes at a time.
        if value.iter().fold(false, |bad, b| bad | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f)) {
            refuse!(400, "control character in a header value");
        }
        self.header(name, value)
    }

    /// The head is whole.
    pub(super) fn finish(self) -> Result<Follows, Refusal> {
        if !self.host && !self.http_1_0 {
            refuse!(400, "no Host header");
        }
        // RFC 9112 section 6.1: both is the mark of request smuggling.
        if self.chunked && self.content_length.is_some() {
            refuse!(400, "both Content-Length and Transfer-Encoding");
        }
        if self.chunked && self.http_1_0 {
            refuse!(400, "Transfer-Encoding in HTTP/1.0");
        }
        let framing = match self.content_length {
            _ if self.chunked => Framing::Chunked,
            Some(0) | None => Framing::None,
            Some(length) => Framing::Length(length),
        };
        Ok(Follows { framing, upgrade: self.upgrade && self.connection_upgrade && !self.http_1_0 })
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            refuse!(400, "malformed request line");
        };
        if method.is_empty() || !is_name(method) {
            refuse!(400, "malformed method");
        }
        if target.is_empty() || target.iter().any(|b| *b <= 0x20 || *b == 0x7f || *b == b'#') {
            refuse!(400, "malformed request target");
        }
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.http_1_0 = true,
            [b'H', b'T', b'T', b'P', b'/', d, b'.', e] if d.is_ascii_digit() && e.is_ascii_digit() => {
                refuse!(505, "HTTP version not supported")
            }
            _ => refuse!(400, "malformed HTTP version"),
        }
        // A reverse proxy is no tunnel to anywhere (RFC 9110 section 9.3.6).
        if method == b"CONNECT" {
            refuse!(405, "CONNECT is not offered");
        }
        Ok(())
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let twice = std::mem::replace(&mut self.host, true);
                if twice {
                    refuse!(400, "more than one Host header");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                // A list or a repetition is refused even where the values agree: the next server may
                // not look so closely.
                if self.content_length.is_some() {
                    refuse!(400, "more than one Content-Length");
                }
                let Some(length) = decimal(value) else {
                    refuse!(400, "malformed Content-Length");
                };
                self.content_length = Some(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    refuse!(400, "more than one Transfer-Encoding");
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    refuse!(501, "Transfer-Encoding other than chunked");
                }
                self.chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |=
                    value.split(|b| *b == b',').any(|token| trim(token).eq_ignore_ascii_case(b"upgrade"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether these bytes are a token (RFC 9110 section 5.6.2), as names of headers and methods are.
pub(super) fn is_name(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |good, b| good & TOKEN[usize::from(*b)])
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"!#$%&'*+-.^_`|~";
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let start = value.iter().position(|b| !is_space(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// `1*DIGIT`, nothing else: no sign, no space, no overflow.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}
