//! Which headers go on, and which end here. Pure.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Uri, Version};

use crate::config::{ForwardingHeaders, HostHeader, UpstreamProtocol};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the application is told of the client.
pub(super) struct Onward<'a> {
    pub(super) settings: ForwardingHeaders,
    pub(super) host: HostHeader,
    pub(super) protocol: UpstreamProtocol,
    /// The upstream's `host[:port]`, and whether it is spoken to in TLS.
    pub(super) authority: &'a HeaderValue,
    pub(super) upstream_tls: bool,
    /// The peer's address as a header value, and as it is.
    pub(super) peer_text: Option<&'a HeaderValue>,
    pub(super) peer: Option<IpAddr>,
    /// The peer is a trusted proxy: what it says of its own client is kept.
    pub(super) peer_trusted: bool,
    pub(super) client_tls: bool,
}

/// The protocol a client asks to switch to, where it asks properly (RFC 9110 section 7.8).
pub(super) fn upgrade_of(parts: &Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 || !has_token(&parts.headers, "upgrade") {
        return None;
    }
    let protocol = parts.headers.get(header::UPGRADE)?;
    // An h2c upgrade would carry requests past this proxy's eyes; RFC 9113 dropped it.
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// Turns the request the client sent into the one the application gets.
pub(super) fn onward(parts: &mut Parts, upgrade: Option<HeaderValue>, to: &Onward<'_>) {
    let sent_host = match parts.uri.authority() {
        // HTTP/2's `:authority`, or an absolute-form target, which wins over Host (RFC 9112 section 3.2.2).
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => parts.headers.get(header::HOST).cloned(),
    };
    strip_hop_by_hop(&mut parts.headers);
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    match to.settings {
        ForwardingHeaders::Off => {}
        ForwardingHeaders::XForwarded => x_forwarded(&mut parts.headers, sent_host.as_ref(), to),
        ForwardingHeaders::Forwarded => forwarded(&mut parts.headers, sent_host.as_ref(), to),
    }
    let host = match to.host {
        HostHeader::Preserve => sent_host.as_ref().unwrap_or(to.authority),
        HostHeader::Upstream => to.authority,
    };
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    match to.protocol {
        UpstreamProtocol::Http1 => {
            let as_sent = to.host == HostHeader::Preserve && sent_host.is_some();
            if !as_sent || parts.uri.authority().is_some() {
                parts.headers.insert(header::HOST, host.clone());
            }
            if parts.uri.authority().is_some() {
                parts.uri = origin_form(&parts.uri);
            }
            parts.version = Version::HTTP_11;
        }
        UpstreamProtocol::Http2 => {
            parts.headers.remove(header::HOST);
            parts.headers.remove(header::TRANSFER_ENCODING);
            parts.uri = absolute_form(&parts.uri, host, to.upstream_tls);
            parts.version = Version::HTTP_2;
        }
    }
}

/// Turns the response the application sent into the one the client gets.
pub(super) fn back(parts: &mut http::response::Parts, client_version: Version) {
    let upgrade = (parts.status == http::StatusCode::SWITCHING_PROTOCOLS)
        .then(|| parts.headers.get(header::UPGRADE).cloned())
        .flatten();
    strip_hop_by_hop(&mut parts.headers);
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    if client_version == Version::HTTP_2 {
        parts.headers.remove(header::TRANSFER_ENCODING);
    }
    parts.version = if client_version == Version::HTTP_2 { Version::HTTP_2 } else { Version::HTTP_11 };
}

/// Which of the headers that end here are there: one pass over the names costs less than looking up
/// each of a dozen that are hardly ever there.
#[derive(Default)]
struct Present {
    connection: bool,
    upgrade: bool,
    te: bool,
    other: bool,
}

impl Present {
    fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => present.connection = true,
                "upgrade" => present.upgrade = true,
                "te" => present.te = true,
                "keep-alive" | "proxy-connection" | "http2-settings" => present.other = true,
                _ => {}
            }
        }
        present
    }
}

/// Removes what is meant for one connection only (RFC 9110 section 7.6.1). `Transfer-Encoding` stays:
/// hyper writes it anew from it.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let present = Present::of(headers);
    if present.connection {
        strip_named_by_connection(headers);
    }
    if present.other {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS] {
            headers.remove(name);
        }
    }
    if present.upgrade {
        headers.remove(header::UPGRADE);
    }
    if present.te {
        // The one member that says something about the message's end: gRPC needs it.
        let trailers = headers
            .get_all(header::TE)
            .iter()
            .flat_map(|te| te.as_bytes().split(|b| *b == b','))
            .any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

fn strip_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        // These say how the message is framed and where it goes; naming them would smuggle.
        .filter(|name| ![header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::HOST, header::TE].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// HTTP/2 may split cookies; HTTP/1 may not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let joined: Vec<u8> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

fn x_forwarded(headers: &mut HeaderMap, host: Option<&HeaderValue>, to: &Onward<'_>) {
    if let Some(peer) = to.peer_text {
        let before = headers.get(&X_FORWARDED_FOR).filter(|_| to.peer_trusted);
        let value = match before {
            None => peer.clone(),
            Some(_) => appended(headers, &X_FORWARDED_FOR, peer).unwrap_or_else(|| peer.clone()),
        };
        headers.insert(X_FORWARDED_FOR, value);
    }
    if !(to.peer_trusted && headers.contains_key(&X_FORWARDED_PROTO)) {
        let scheme = HeaderValue::from_static(if to.client_tls { "https" } else { "http" });
        headers.insert(X_FORWARDED_PROTO, scheme);
    }
    if !(to.peer_trusted && headers.contains_key(&X_FORWARDED_HOST)) {
        match host {
            Some(host) => drop(headers.insert(X_FORWARDED_HOST, host.clone())),
            None => drop(headers.remove(X_FORWARDED_HOST)),
        }
    }
}

fn forwarded(headers: &mut HeaderMap, host: Option<&HeaderValue>, to: &Onward<'_>) {
    let node = match to.peer {
        Some(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
        Some(ip) => ip.to_string(),
        None => "unknown".to_owned(),
    };
    let mut element = format!("for={node};proto={}", if to.client_tls { "https" } else { "http" });
    if let Some(host) = host.and_then(|h| h.to_str().ok()).filter(|h| !h.contains(['"', '\\'])) {
        element.push_str(&format!(";host=\"{host}\""));
    }
    let Ok(element) = HeaderValue::from_str(&element) else { return };
    let all = match to.peer_trusted {
        true => appended(headers, &header::FORWARDED, &element).unwrap_or(element),
        false => element,
    };
    headers.insert(header::FORWARDED, all);
}

/// All values of `name` and `last`, joined by commas.
fn appended(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> Option<HeaderValue> {
    let all: Vec<&[u8]> =
        headers.get_all(name).iter().map(HeaderValue::as_bytes).chain(std::iter::once(last.as_bytes())).collect();
    HeaderValue::from_bytes(&all.join(&b", "[..])).ok()
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
}

fn absolute_form(uri: &Uri, host: &HeaderValue, tls: bool) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    parts.authority = http::uri::Authority::try_from(host.as_bytes()).ok();
    parts.path_and_query =
        Some(uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().uri("/a?b");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a valid request").into_parts().0
    }

    fn to(peer_trusted: bool, peer: &'static HeaderValue, authority: &'static HeaderValue) -> Onward<'static> {
        Onward {
            settings: ForwardingHeaders::XForwarded,
            host: HostHeader::Preserve,
            protocol: UpstreamProtocol::Http1,
            authority,
            upstream_tls: false,
            peer_text: Some(peer),
            peer: Some(IpAddr::from([10, 0, 0, 7])),
            peer_trusted,
            client_tls: true,
        }
    }

    static PEER: HeaderValue = HeaderValue::from_static("10.0.0.7");
    static APP: HeaderValue = HeaderValue::from_static("app:80");

    #[test]
    fn headers_named_by_connection_end_here_but_framing_and_host_do_not() {
        let mut parts = request(&[
            ("host", "panel"),
            ("connection", "close, X-Hop, content-length, host"),
            ("x-hop", "1"),
            ("content-length", "3"),
            ("te", "gzip, trailers"),
            ("keep-alive", "5"),
        ]);
        onward(&mut parts, None, &to(false, &PEER, &APP));
        assert_eq!(parts.headers.get("x-hop"), None);
        assert_eq!(parts.headers.get("connection"), None);
        assert_eq!(parts.headers.get("keep-alive"), None);
        assert_eq!(parts.headers["content-length"], "3");
        assert_eq!(parts.headers["host"], "panel");
        assert_eq!(parts.headers["te"], "trailers");
    }

    #[test]
    fn what_a_stranger_says_about_its_client_is_replaced() {
        let mut parts = request(&[("host", "panel"), ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http")]);
        onward(&mut parts, None, &to(false, &PEER, &APP));
        assert_eq!(parts.headers["x-forwarded-for"], "10.0.0.7");
        assert_eq!(parts.headers["x-forwarded-proto"], "https");
        assert_eq!(parts.headers["x-forwarded-host"], "panel");
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_continued() {
        let mut parts = request(&[("host", "panel"), ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http")]);
        onward(&mut parts, None, &to(true, &PEER, &APP));
        assert_eq!(parts.headers["x-forwarded-for"], "1.2.3.4, 10.0.0.7");
        assert_eq!(parts.headers["x-forwarded-proto"], "http");
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let mut parts = request(&[("host", "other")]);
        parts.uri = Uri::from_static("http://panel:81/x?y");
        onward(&mut parts, None, &to(false, &PEER, &APP));
        assert_eq!(parts.headers["host"], "panel:81");
        assert_eq!(parts.uri, "/x?y");
    }

    #[test]
    fn split_cookies_are_joined() {
        let mut parts = request(&[("host", "panel"), ("cookie", "a=1"), ("cookie", "b=2")]);
        parts.version = Version::HTTP_2;
        onward(&mut parts, None, &to(false, &PEER, &APP));
        assert_eq!(parts.headers["cookie"], "a=1; b=2");
    }

    #[test]
    fn an_h2c_upgrade_is_not_offered() {
        let parts = request(&[("host", "a"), ("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]);
        assert_eq!(upgrade_of(&parts), None);
        let parts = request(&[("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade_of(&parts), Some(HeaderValue::from_static("websocket")));
    }
}
