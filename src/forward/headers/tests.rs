//! What goes on and what ends here, line by line.

use super::*;
use crate::message::{HeadLimits, RequestReader, ResponseReader};

const LIMITS: HeadLimits = HeadLimits { size: 4096, lines: 100 };
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn request(target: &str, lines: &[&str]) -> (RequestHead, Framing) {
    let text = format!("GET {target} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
    let (head, framing, _) = RequestReader::default().read(text.as_bytes(), LIMITS).expect("legible").expect("whole");
    (head, framing)
}

fn sent(target: &str, lines: &[&str], peer_trusted: bool) -> Vec<String> {
    let (head, framing) = request(target, lines);
    let to = Onward {
        settings: ForwardingHeaders::XForwarded,
        host: HostHeader::Preserve,
        authority: "app:80",
        peer_text: Some("10.0.0.7"),
        peer: Some(IpAddr::from([10, 0, 0, 7])),
        peer_trusted,
        client_tls: true,
        request_id: (&REQUEST_ID, "id"),
        upgrade: upgrade_of(&head),
        framing,
    };
    let mut out = Vec::new();
    write_request(&mut out, &head, &to);
    String::from_utf8(out).expect("text").trim_end().split("\r\n").map(str::to_owned).collect()
}

fn answered(text: &str, http_1_0: bool, close: bool) -> String {
    let (head, _) = ResponseReader::default().read(text.as_bytes(), LIMITS).expect("legible").expect("whole");
    let mut out = Vec::new();
    write_response(&mut out, &head, head.framing(false).expect("framed"), Terms { http_1_0, close });
    String::from_utf8(out).expect("text").trim_end().to_owned()
}

#[test]
fn headers_named_by_connection_end_here_but_framing_and_host_do_not() {
    let lines = [
        "Host: panel",
        "Connection: close, X-Hop, content-length, host",
        "x-hop: 1",
        "Content-Length: 3",
        "TE: gzip, trailers",
        "Keep-Alive: 5",
        "X-B: 2",
    ];
    let sent = sent("/a?b", &lines, false);
    assert_eq!(sent[..5], ["GET /a?b HTTP/1.1", "Host: panel", "Content-Length: 3", "X-B: 2", "TE: trailers"]);
    assert_eq!(sent.len(), 9, "{sent:?}");
}

#[test]
fn what_a_stranger_says_about_its_client_is_replaced() {
    let sent =
        sent("/", &["Host: panel", "X-Forwarded-For: 1.2.3.4", "x-forwarded-proto: http", "X-Request-ID: mine"], false);
    assert_eq!(
        sent[2..],
        ["X-Request-ID: mine", "X-Forwarded-For: 10.0.0.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: panel",]
    );
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_continued() {
    let sent = sent("/", &["Host: panel", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: http"], true);
    assert_eq!(
        sent[2..5],
        ["X-Forwarded-Proto: http", "X-Forwarded-For: 1.2.3.4, 10.0.0.7", "X-Forwarded-Host: panel",]
    );
}

#[test]
fn an_absolute_target_names_the_host() {
    let sent = sent("http://panel:81/x?y", &["Host: other"], false);
    assert_eq!(sent[..2], ["GET /x?y HTTP/1.1", "Host: panel:81"]);
    assert!(!sent.iter().any(|line| line.contains("other")), "{sent:?}");
}

#[test]
fn an_h2c_upgrade_is_not_offered() {
    let (head, _) =
        request("/", &["Host: a", "Connection: upgrade, http2-settings", "Upgrade: h2c", "HTTP2-Settings: x"]);
    assert_eq!(upgrade_of(&head), None);
    let (head, _) = request("/", &["Host: a", "Connection: Upgrade", "Upgrade: websocket"]);
    assert_eq!(upgrade_of(&head), Some(&b"websocket"[..]));
}

#[test]
fn a_response_is_framed_in_terms_the_client_knows() {
    let length = "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nKeep-Alive: 5\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(answered(length, false, false), "HTTP/1.1 200 Fine\r\nContent-Length: 3");
    assert_eq!(answered(length, true, false), "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nConnection: keep-alive");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(answered(chunked, false, false), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked");
    assert_eq!(answered(chunked, true, true), "HTTP/1.1 200 OK\r\nConnection: close");
    let close = "HTTP/1.0 200 OK\r\nA: b\r\n\r\n";
    assert_eq!(answered(close, false, false), "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked");
    assert_eq!(
        answered("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false, true),
        "HTTP/1.1 204 No Content\r\nConnection: close"
    );
}
