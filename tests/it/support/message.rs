//! HTTP/1 messages as bytes, read independently of what is tested, by client and origin alike.

use std::io::{self, Read};

/// A message as it came: the head's exact text, the body without its framing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// From the first byte to the empty line, that included.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// `name: value` lines after the last chunk.
    pub(crate) trailers: Vec<String>,
    /// Whether the message ended as its framing says.
    pub(crate) whole: bool,
}

/// How a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(usize),
    Chunked,
    Close,
}

/// A socket read with a buffer that can be looked at.
pub(crate) struct Reader<R> {
    io: R,
    buffer: Vec<u8>,
}

// === impl Message ===

impl Message {
    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("a status: {:?}", self.head))
    }

    /// The first line.
    pub(crate) fn line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }

    /// The header lines, as they stand.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.head.split("\r\n").skip(1).filter(|line| !line.is_empty()).collect()
    }

    /// All values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let split = self.lines().into_iter().filter_map(|line| line.split_once(':'));
        split.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The only value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands once at most: {:?}", self.head);
        all.first().copied()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// How a request's body ends.
    pub(crate) fn request_body(&self) -> Body {
        self.framing().unwrap_or(Body::None)
    }

    /// How a response's body ends, where it may have one.
    pub(crate) fn response_body(&self) -> Body {
        match self.status() {
            100..200 | 204 | 304 => Body::None,
            _ => self.framing().unwrap_or(Body::Close),
        }
    }

    fn framing(&self) -> Option<Body> {
        match (self.header("transfer-encoding"), self.header("content-length")) {
            (Some(_), Some(_)) => panic!("both framings: {:?}", self.head),
            (Some(coding), None) => {
                assert!(coding.eq_ignore_ascii_case("chunked"), "only chunked: {:?}", self.head);
                Some(Body::Chunked)
            }
            (None, Some(length)) => Some(Body::Length(length.parse().expect("a length"))),
            (None, None) => None,
        }
    }
}

// === impl Reader ===

impl<R: Read> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self { io, buffer: Vec::new() }
    }

    pub(crate) fn get_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// A head, or `None` when the other side closed instead.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8(head).expect("heads of tests are UTF-8");
        Some(Message { head, ..Message::default() })
    }

    /// The body that belongs to a head.
    pub(crate) fn body(&mut self, message: &mut Message, body: Body) {
        message.whole = match body {
            Body::None => true,
            Body::Length(length) => {
                message.body = self.take(length);
                message.body.len() == length
            }
            Body::Chunked => self.chunks(message),
            Body::Close => {
                message.body = self.rest();
                true
            }
        };
    }

    /// One chunk: `Some` and empty for the last, `None` when the other side closed.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.until(b"\r\n")?;
        let line = String::from_utf8(line).expect("a chunk's size");
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("a chunk's size: {line:?}"));
        if size == 0 {
            return Some(Vec::new());
        }
        let mut data = self.take(size + 2);
        if data.len() < size + 2 {
            return None;
        }
        data.truncate(size);
        Some(data)
    }

    fn chunks(&mut self, message: &mut Message) -> bool {
        loop {
            match self.chunk() {
                None => return false,
                Some(last) if last.is_empty() => break,
                Some(data) => message.body.extend(data),
            }
        }
        loop {
            match self.until(b"\r\n") {
                None => return false,
                Some(line) if line == b"\r\n" => return true,
                Some(line) => message.trailers.push(String::from_utf8_lossy(&line).trim_end().to_owned()),
            }
        }
    }

    /// So many bytes, or fewer when the other side closed.
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.fill() > 0 {}
        let length = length.min(self.buffer.len());
        self.buffer.drain(..length).collect()
    }

    /// Moves what was read ahead to the front of `into`; the socket itself can be read from then on.
    pub(crate) fn take_buffered(&mut self, into: &mut [u8]) -> usize {
        let length = self.buffer.len();
        into[..length].copy_from_slice(&self.buffer);
        self.buffer.clear();
        length
    }

    /// Everything until the other side closes (or resets).
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|w| w == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Zero when the other side closed or reset; a read that times out is the test's failure.
    fn fill(&mut self) -> usize {
        let mut bytes = [0; 64 * 1024];
        match self.io.read(&mut bytes) {
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                read
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("nothing came in time; read so far: {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => 0,
        }
    }
}
