//! Which header lines go on, and which end here. Pure.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use crate::config::{ForwardingHeaders, HostHeader};
use crate::message::{Field, Fields, Framing, Known, RequestHead, ResponseHead};

/// Takes header lines one after the other.
pub(super) trait Lines {
    fn line(&mut self, name: &[u8], value: &[u8]);
    /// A line that goes on as it came.
    fn field(&mut self, field: &Field<'_>) {
        self.line(field.name, field.value);
    }
}

/// HTTP/1, of lines that mostly go on as they came: neighbours are copied together.
struct Copied<'a> {
    out: &'a mut Vec<u8>,
    block: &'a [u8],
    /// Part of the block that is to be copied.
    run: std::ops::Range<usize>,
}

impl<'a> Copied<'a> {
    fn new(out: &'a mut Vec<u8>, fields: &'a Fields) -> Self {
        Self { out, block: fields.block(), run: 0..0 }
    }

    fn flush(&mut self) {
        self.out.extend_from_slice(&self.block[std::mem::take(&mut self.run)]);
    }
}

impl Lines for Copied<'_> {
    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.flush();
        self.out.line(name, value);
    }

    fn field(&mut self, field: &Field<'_>) {
        if field.raw.is_empty() {
            return self.line(field.name, field.value);
        }
        let start = field.raw.as_ptr() as usize - self.block.as_ptr() as usize;
        if start != self.run.end {
            self.flush();
            self.run.start = start;
        }
        self.run.end = start + field.raw.len();
    }
}

/// HTTP/1: as text.
impl Lines for Vec<u8> {
    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.reserve(name.len() + value.len() + 4);
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }
}

/// HTTP/2: for its library. What can't stand in a header there was refused when it came.
impl Lines for HeaderMap {
    fn line(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            self.append(name, value);
        }
    }
}

/// What the application is told of the client.
pub(super) struct Onward<'a> {
    pub(super) settings: ForwardingHeaders,
    pub(super) host: HostHeader,
    /// The upstream's `host[:port]`.
    pub(super) authority: &'a str,
    /// The peer's address as a header value, and as it is.
    pub(super) peer_text: Option<&'a str>,
    pub(super) peer: Option<IpAddr>,
    /// The peer is a trusted proxy: what it says of its own client is kept.
    pub(super) peer_trusted: bool,
    pub(super) client_tls: bool,
    /// The header that carries a request's id, and the id for a request without.
    pub(super) request_id: (&'a HeaderName, &'a str),
    /// The protocol that the client asks to switch to and may.
    pub(super) upgrade: Option<&'a [u8]>,
    pub(super) framing: Framing,
}

/// The protocol a client asks to switch to, where it asks properly (RFC 9110 section 7.8).
pub(super) fn upgrade_of(head: &RequestHead) -> Option<&[u8]> {
    let protocol = head.fields.known(Known::Upgrade).filter(|_| head.asks_to_upgrade())?;
    // An h2c upgrade would carry requests past this proxy's eyes; RFC 9113 dropped it.
    (!protocol.eq_ignore_ascii_case(b"h2c")).then_some(protocol)
}

/// The host that the application is told.
pub(super) fn host_for<'a>(head: &'a RequestHead, to: &'a Onward<'_>) -> &'a [u8] {
    match to.host {
        HostHeader::Preserve => sent_host(head).unwrap_or(to.authority.as_bytes()),
        HostHeader::Upstream => to.authority.as_bytes(),
    }
}

/// The target's authority, which wins over `Host` (RFC 9112 section 3.2.2), or `Host`.
fn sent_host(head: &RequestHead) -> Option<&[u8]> {
    head.authority().map(str::as_bytes).or_else(|| head.fields.known(Known::Host))
}

/// The request that the application gets, as HTTP/1.1 text up to the empty line.
pub(super) fn write_request(out: &mut Vec<u8>, head: &RequestHead, to: &Onward<'_>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.origin_form();
    if !target.starts_with(b"/") && target != b"*" {
        out.push(b'/');
    }
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let as_sent = to.host == HostHeader::Preserve && head.authority().is_none() && sent_host(head).is_some();
    if !as_sent {
        out.line(b"Host", host_for(head, to));
    }
    let mut lines = Copied::new(out, &head.fields);
    onward(&mut lines, head, to, as_sent);
    lines.flush();
    if to.framing == Framing::Chunked && head.fields.known(Known::TransferEncoding).is_none() {
        out.line(b"Transfer-Encoding", b"chunked");
    }
    if head.version == Version::HTTP_2 && expects_length(head, to.framing) {
        out.line(b"Content-Length", b"0");
    }
    out.extend_from_slice(b"\r\n");
}

/// HTTP/2 says by a flag that there is no body; HTTP/1 by a length, where the method makes one likely
/// (RFC 9110 section 8.6).
fn expects_length(head: &RequestHead, framing: Framing) -> bool {
    framing == Framing::Empty
        && matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
        && head.fields.known(Known::ContentLength).is_none()
}

/// The request's header lines that go on, `Host` only where it goes on `as_sent`.
pub(super) fn onward(out: &mut impl Lines, head: &RequestHead, to: &Onward<'_>, as_sent: bool) {
    let fields = &head.fields;
    let named = named_by_connection(fields);
    let (mut te, mut cookies, mut has_id) = (false, false, false);
    for field in fields.iter() {
        let goes_on = match field.known {
            Known::Host => as_sent,
            Known::Te => {
                // The one member that says something about the message's end: gRPC needs it.
                te = te || fields.has_token(Known::Te, b"trailers");
                false
            }
            Known::Cookie if head.version == Version::HTTP_2 => {
                cookies = true;
                false
            }
            known if known.is_forwarding() => keeps_forwarding(known, to),
            known => !known.is_hop_by_hop(),
        };
        has_id |= field.name.eq_ignore_ascii_case(to.request_id.0.as_str().as_bytes());
        if goes_on && !named.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            out.field(&field);
        }
    }
    if te {
        out.line(b"TE", b"trailers");
    }
    if cookies {
        // HTTP/2 may split cookies; HTTP/1 may not (RFC 9113 section 8.2.3).
        out.line(b"cookie", &fields.all_known(Known::Cookie).collect::<Vec<_>>().join(&b"; "[..]));
    }
    if let Some(protocol) = to.upgrade {
        out.line(b"Connection", b"upgrade");
        out.line(b"Upgrade", protocol);
    }
    tell_of_client(out, head, to);
    if !has_id {
        out.line(to.request_id.0.as_str().as_bytes(), to.request_id.1.as_bytes());
    }
}

/// Whether a forwarding header that came goes on as it is. What is added to it is written anew.
fn keeps_forwarding(known: Known, to: &Onward<'_>) -> bool {
    match (to.settings, known) {
        (ForwardingHeaders::Off, _) => true,
        (ForwardingHeaders::XForwarded, Known::Forwarded) => true,
        (ForwardingHeaders::Forwarded, known) => known != Known::Forwarded,
        (ForwardingHeaders::XForwarded, Known::XForwardedFor) => to.peer_text.is_none(),
        (ForwardingHeaders::XForwarded, _) => to.peer_trusted,
    }
}

fn tell_of_client(out: &mut impl Lines, head: &RequestHead, to: &Onward<'_>) {
    let scheme: &[u8] = if to.client_tls { b"https" } else { b"http" };
    let trusted = |known| to.peer_trusted.then(|| head.fields.all_known(known)).into_iter().flatten();
    match to.settings {
        ForwardingHeaders::Off => {}
        ForwardingHeaders::XForwarded => {
            if let Some(peer) = to.peer_text {
                write_joined(out, b"X-Forwarded-For", trusted(Known::XForwardedFor), peer.as_bytes());
            }
            if trusted(Known::XForwardedProto).next().is_none() {
                out.line(b"X-Forwarded-Proto", scheme);
            }
            if let (None, Some(host)) = (trusted(Known::XForwardedHost).next(), sent_host(head)) {
                out.line(b"X-Forwarded-Host", host);
            }
        }
        ForwardingHeaders::Forwarded => {
            let node = match to.peer {
                Some(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
                Some(ip) => ip.to_string(),
                None => "unknown".to_owned(),
            };
            let mut element = format!("for={node};proto={}", if to.client_tls { "https" } else { "http" });
            let host = sent_host(head).and_then(|host| std::str::from_utf8(host).ok());
            if let Some(host) = host.filter(|host| !host.contains(['"', '\\'])) {
                element.push_str(&format!(";host=\"{host}\""));
            }
            write_joined(out, b"Forwarded", trusted(Known::Forwarded), element.as_bytes());
        }
    }
}

/// All values so far and `last`, joined by commas.
fn write_joined<'f>(out: &mut impl Lines, name: &[u8], before: impl Iterator<Item = &'f [u8]>, last: &'f [u8]) {
    let mut before = before.peekable();
    if before.peek().is_none() {
        return out.line(name, last);
    }
    let all: Vec<&[u8]> = before.chain(std::iter::once(last)).collect();
    out.line(name, &all.join(&b", "[..]));
}

/// How an HTTP/1 client is answered.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The client speaks HTTP/1.0.
    pub http_1_0: bool,
    /// The connection is closed after this response.
    pub close: bool,
}

impl Terms {
    /// The response lasts until the connection ends: it has no length, and the client knows no chunks.
    pub fn to_the_end(self, framing: Framing) -> bool {
        self.http_1_0 && framing.is_of_unknown_length()
    }
}

/// The response that an HTTP/1 client gets, as text up to and with the empty line. `framing` is that of the
/// application's body; it comes to the client in chunks unless it has a length, or lasts to the
/// connection's end where the client knows no chunks.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead, framing: Framing, terms: Terms) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    let chunks = framing.is_of_unknown_length();
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    // RFC 9110 section 8.6: neither has a length.
    let no_length = chunks || head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    let named = named_by_connection(&head.fields);
    let mut lines = Copied::new(out, &head.fields);
    for field in head.fields.iter() {
        let goes_on = match field.known {
            Known::ContentLength => !no_length,
            Known::TransferEncoding => framing == Framing::Chunked && !terms.http_1_0,
            // Named by `Connection`, as it should be.
            Known::Upgrade if switching => {
                lines.field(&field);
                false
            }
            known => !known.is_hop_by_hop() && known != Known::Te,
        };
        if goes_on && !named.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            lines.field(&field);
        }
    }
    lines.flush();
    if chunks
        && !terms.http_1_0
        && !(framing == Framing::Chunked && head.fields.known(Known::TransferEncoding).is_some())
    {
        out.line(b"Transfer-Encoding", b"chunked");
    }
    if framing == Framing::Length(0) && head.fields.known(Known::ContentLength).is_none() {
        // HTTP/2 said by a flag that there is no body.
        out.line(b"Content-Length", b"0");
    }
    match terms {
        _ if switching => out.line(b"Connection", b"upgrade"),
        Terms { close: true, .. } => out.line(b"Connection", b"close"),
        Terms { http_1_0: true, .. } => out.line(b"Connection", b"keep-alive"),
        Terms { .. } => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// The response's header lines that an HTTP/2 client gets.
pub(super) fn back(head: &ResponseHead) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(head.fields.len());
    let named = named_by_connection(&head.fields);
    let chunked = head.fields.known(Known::TransferEncoding).is_some();
    for field in head.fields.iter() {
        let ends = field.known.is_hop_by_hop()
            || matches!(field.known, Known::TransferEncoding | Known::Te)
            || field.known == Known::ContentLength && chunked;
        if !ends && !named.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            out.line(field.name, field.value);
        }
    }
    out
}

/// Trailers that may go on: not those that would say how the message is framed or where it goes
/// (RFC 9110 section 6.5.1).
pub(super) fn trailers(out: &mut impl Lines, trailers: &Fields) {
    for field in trailers.iter() {
        let framing =
            matches!(field.known, Known::TransferEncoding | Known::ContentLength | Known::Host | Known::Trailer);
        if !framing && !field.known.is_hop_by_hop() {
            out.field(&field);
        }
    }
}

/// The end of a chunked body with trailers, as text.
pub fn write_trailers(out: &mut Vec<u8>, fields: &Fields) {
    out.extend_from_slice(b"0\r\n");
    trailers(out, fields);
    out.extend_from_slice(b"\r\n");
}

/// Headers that `Connection` names: they end here too (RFC 9110 section 7.6.1). Hardly ever any.
fn named_by_connection(fields: &Fields) -> Vec<&[u8]> {
    // These say how the message is framed and where it goes; naming them would smuggle.
    const NEVER: [&[u8]; 6] = [b"close", b"keep-alive", b"transfer-encoding", b"content-length", b"host", b"te"];
    fields
        .all_known(Known::Connection)
        .flat_map(|value| value.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never)))
        .collect()
}

#[cfg(test)]
mod tests;
