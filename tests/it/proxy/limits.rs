//! Clients that are slow, silent or too many.

use std::time::{Duration, Instant};

use crate::support::daybook::Setup;
use crate::support::message::Body;
use crate::support::origin::Origin;

#[test]
fn a_slow_head_is_refused_with_408() {
    let origin = Origin::answering("ok");
    let daybook = Setup::new(&origin.url).listener("limits.head_timeout = \"1s\"").start();
    let mut client = daybook.connect();
    // A byte now and then does not help: the head is timed as a whole.
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\nX: ");
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(300));
        client.send("x");
    }
    let response = client.response();
    assert_eq!((response.status(), response.header("connection")), (408, Some("close")));
    client.assert_closed("a slow head");
    let record = daybook.outcome("/slow");
    assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("refused"), Some(408)), "{record}");
    assert_eq!(origin.connections(), 0);
    // After a good request on the same connection it is the same.
    let mut client = daybook.connect();
    assert_eq!(client.get("/first", "").text(), "ok");
    client.send("GET /second HTTP/1.1\r\nHo");
    assert_eq!(client.response().status(), 408);
    daybook.outcome("/second");
}

#[test]
fn a_body_that_stops_coming_is_refused_with_408() {
    let origin = Origin::answering("ok");
    let daybook = Setup::new(&origin.url).listener("limits.body_idle_timeout = \"1s\"").start();
    for (path, head) in [
        ("/length", "Content-Length: 100\r\n\r\nsome"),
        ("/chunked", "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"),
    ] {
        let mut client = daybook.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{head}"));
        let response = client.response();
        assert_eq!((response.status(), response.header("connection")), (408, Some("close")), "{path}");
        client.assert_closed("a slow body");
        let record = daybook.outcome(path);
        assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("timeout"), Some(408)), "{record}");
        assert_eq!(record["request_bytes"], 4, "{record}");
    }
    // Slow is not silent.
    let mut client = daybook.connect();
    client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    for byte in ["a", "b", "c", "d", "e", "f"] {
        std::thread::sleep(Duration::from_millis(400));
        client.send(byte);
    }
    assert_eq!(client.response().text(), "ok");
    assert!(origin.requests().iter().filter(|r| r.whole).count() == 1, "broken bodies arrive as broken");
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while visit.send([b'x'; 100_000]) {}
    });
    let daybook = Setup::new(&origin.url).listener("limits.write_idle_timeout = \"1s\"").start();
    let mut client = daybook.connect();
    client.send("GET /stalled HTTP/1.1\r\nHost: a\r\n\r\n");
    let record = daybook.outcome("/stalled");
    assert_eq!(record["end"], "timeout", "{record}");
    assert_eq!(record["reason"], "the client stopped reading", "{record}");
    let mut head = client.head();
    client.reader.body(&mut head, Body::Length(100_000_000));
    assert!(!head.whole, "what it reads later ends too early");
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let origin = Origin::answering("ok");
    let daybook = Setup::new(&origin.url).listener("limits.keep_alive_timeout = \"1s\"").start();
    let mut client = daybook.connect();
    assert_eq!(client.get("/only", "").text(), "ok");
    let begin = Instant::now();
    client.assert_closed("idle");
    let waited = begin.elapsed();
    assert!(waited > Duration::from_millis(700), "closed after {waited:?}, too early");
    daybook.outcome("/only");
    assert_eq!(daybook.all_records().iter().filter(|r| r["status"].is_number()).count(), 1, "silence is no record");
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let origin = Origin::answering("ok");
    let daybook = Setup::new(&origin.url).listener("limits.connections = 2").start();
    let (mut first, mut second, mut third) = (daybook.connect(), daybook.connect(), daybook.connect());
    assert_eq!((first.get("/1", "").text(), second.get("/2", "").text()), ("ok".to_owned(), "ok".to_owned()));
    third.send("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!daybook.all_records().iter().any(|r| r["path"] == "/3"), "the third waits");
    first.close();
    assert_eq!(third.response().text(), "ok", "until another has gone");
}

#[test]
fn a_proxy_header_names_the_client() {
    let origin = Origin::answering("ok");
    let daybook = Setup::new(&origin.url).listener("proxy_protocol = \"required\"").start();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend_from_slice(&[203, 0, 113, 9, 10, 0, 0, 1, 0, 5, 0, 80]);
    let mut v6 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    v6.extend_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    v6.extend_from_slice(&[0; 20]);
    let v1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n".to_vec();
    for (path, header, ip) in [("/v1", v1, "203.0.113.9"), ("/v2", v2, "203.0.113.9"), ("/v6", v6, "2001:db8::9")] {
        let mut client = daybook.connect();
        client.send(header);
        assert_eq!(client.get(path, "").text(), "ok", "{path}");
        assert_eq!(client.get(&format!("{path}/again"), "").text(), "ok", "once a connection");
        assert_eq!(daybook.outcome(path)["client"]["ip"], ip, "{path}");
        let seen = origin.requests().into_iter().find(|r| r.line().contains(path)).expect("it arrived");
        assert_eq!(seen.header("x-forwarded-for"), Some(ip), "{path}");
    }
    let mut client = daybook.connect();
    client.send("GET /without HTTP/1.1\r\nHost: a\r\n\r\n");
    client.assert_closed("no PROXY header");
    assert_eq!(origin.requests().len(), 6);
}
