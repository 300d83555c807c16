//! Header lines of one message, spelt and ordered as they came.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};

use super::syntax;

/// Header lines, or trailers.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// All lines' bytes, and whatever else of the message stands between them.
    pub(super) block: Bytes,
    pub(super) lines: Vec<Line>,
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'f> {
    /// The name as it was spelt.
    pub name: &'f [u8],
    /// The value, without white space around.
    pub value: &'f [u8],
    /// The whole line with its CRLF, where it is in plain form: `name: value`. Empty otherwise.
    pub raw: &'f [u8],
    /// Which of those that this program knows.
    pub known: Known,
}

/// Where a line stands in the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    name: u32,
    value: u32,
    value_len: u32,
    name_len: u16,
    known: Known,
}

macro_rules! known {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Headers that forwarding or capture look at, told by one comparison when they are read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Known {
            /// Any other.
            Other,
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Known {
            /// The header of this name, in any case.
            #[allow(non_upper_case_globals)] // the constants are named like the variants
            fn of(name: &[u8]) -> Self {
                $(const $variant: &[u8] = $name.as_bytes();)*
                match name.len() {
                    $(len if len == $variant.len() && name.eq_ignore_ascii_case($variant) => Self::$variant,)*
                    _ => Self::Other,
                }
            }

            /// The name in lower case; empty for [`Known::Other`].
            pub fn name(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

known! {
    Te = "te",
    Host = "host",
    Cookie = "cookie",
    Expect = "expect",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Forwarded = "forwarded",
    Connection = "connection",
    KeepAlive = "keep-alive",
    SetCookie = "set-cookie",
    UserAgent = "user-agent",
    GrpcStatus = "grpc-status",
    TraceParent = "traceparent",
    ContentType = "content-type",
    Authorization = "authorization",
    ContentLength = "content-length",
    Http2Settings = "http2-settings",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    ContentEncoding = "content-encoding",
    ProxyConnection = "proxy-connection",
    XForwardedProto = "x-forwarded-proto",
    TransferEncoding = "transfer-encoding",
}

impl Known {
    /// Meant for one connection only (RFC 9110 section 7.6.1), whether `Connection` names it or not.
    /// `TE` and `Transfer-Encoding`, which say something about the message too, are not among them.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(self, Self::Connection | Self::KeepAlive | Self::ProxyConnection | Self::Http2Settings | Self::Upgrade)
    }

    /// Says who the client of a proxy is.
    pub fn is_forwarding(self) -> bool {
        matches!(self, Self::Forwarded | Self::XForwardedFor | Self::XForwardedHost | Self::XForwardedProto)
    }
}

impl Fields {
    /// The headers that HTTP/2's library hands over.
    pub fn from_map(map: &HeaderMap) -> Self {
        let mut fields = Builder::default();
        for (name, value) in map {
            fields.add(name.as_str().as_bytes(), value.as_bytes());
        }
        fields.finish()
    }

    /// All lines, in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'_>> + ExactSizeIterator {
        self.lines.iter().map(|line| self.field(line))
    }

    /// The first value of a header.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.lines.iter().find(|line| line.known == known).map(|line| self.field(line).value)
    }

    /// All values of a header.
    pub fn all_known(&self, known: Known) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.lines.iter().filter(move |line| line.known == known).map(|line| self.field(line).value)
    }

    /// The first value of a header by its name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        self.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// All values of a header by its name.
    pub fn all<'f, 'n>(&'f self, name: &'n HeaderName) -> impl DoubleEndedIterator<Item = &'f [u8]> + use<'f, 'n> {
        let name = name.as_str().as_bytes();
        self.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Whether a list header (`Connection`, `TE`) has this member, in any case.
    pub fn has_token(&self, known: Known, token: &[u8]) -> bool {
        self.all_known(known).flat_map(syntax::list).any(|member| member.eq_ignore_ascii_case(token))
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn field(&self, line: &Line) -> Field<'_> {
        let (name, value) = (line.name as usize, line.value as usize);
        let (name_end, value_end) = (name + usize::from(line.name_len), value + line.value_len as usize);
        let plain = value == name_end + 2
            && self.block[name_end..value] == *b": "
            && self.block.get(value_end..value_end + 2) == Some(b"\r\n");
        Field {
            name: &self.block[name..name_end],
            value: &self.block[value..value_end],
            raw: if plain { &self.block[name..value_end + 2] } else { &[] },
            known: line.known,
        }
    }

    /// The bytes that [`Field::raw`] are parts of.
    pub fn block(&self) -> &[u8] {
        &self.block
    }
}

impl Line {
    /// A line of which the parts stand at these places of the block. `None` where it is too large to tell.
    pub(super) fn at(block: &[u8], name: std::ops::Range<usize>, value: std::ops::Range<usize>) -> Option<Self> {
        Some(Self {
            name: u32::try_from(name.start).ok()?,
            name_len: u16::try_from(name.len()).ok()?,
            value: u32::try_from(value.start).ok()?,
            value_len: u32::try_from(value.len()).ok()?,
            known: Known::of(&block[name]),
        })
    }

    pub(super) fn known(&self) -> Known {
        self.known
    }
}

/// Makes fields line by line.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) block: BytesMut,
    lines: Vec<Line>,
}

impl Builder {
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        let at = self.block.len();
        self.block.put_slice(name);
        self.block.put_slice(value);
        self.lines.extend(Line::at(&self.block, at..at + name.len(), at + name.len()..self.block.len()));
    }

    pub(super) fn finish(self) -> Fields {
        Fields { block: self.block.freeze(), lines: self.lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_case_and_keep_their_order_and_spelling() {
        let mut builder = Builder::default();
        for (name, value) in [("X-A", "1"), ("Host", "h"), ("x-a", "2"), ("CONNECTION", "close, TE")] {
            builder.add(name.as_bytes(), value.as_bytes());
        }
        let fields = builder.finish();
        let name = HeaderName::from_static("x-a");
        assert_eq!(fields.all(&name).collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(fields.iter().map(|f| f.name).collect::<Vec<_>>(), [&b"X-A"[..], b"Host", b"x-a", b"CONNECTION"]);
        assert_eq!(fields.known(Known::Host), Some(&b"h"[..]));
        assert!(fields.has_token(Known::Connection, b"te") && !fields.has_token(Known::Connection, b"t"));
        let mut map = HeaderMap::new();
        map.append(&name, http::HeaderValue::from_static("1"));
        map.append(&name, http::HeaderValue::from_static("2"));
        assert_eq!(Fields::from_map(&map).all(&name).collect::<Vec<_>>(), [b"1", b"2"]);
    }
}
