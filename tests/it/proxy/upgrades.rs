//! WebSocket and other upgrades: a tunnel after the application's 101, and not a moment before.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::daybook::Daybook;
use crate::support::origin::{Origin, Visit};

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

fn ask(client: &mut Client, path: &str) {
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
    ));
}

fn echo(visit: &mut Visit) {
    loop {
        let bytes = visit.reader.take(1);
        if bytes.is_empty() || !visit.send(bytes) {
            return;
        }
    }
}

#[test]
fn an_upgrade_becomes_a_tunnel_with_a_record_at_each_end() {
    let origin = Origin::new(|visit| {
        let head = visit.head().expect("a request");
        assert!(head.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")), "{}", head.head);
        assert_eq!((head.header("upgrade"), head.header("sec-websocket-key")), (Some("websocket"), Some("k")));
        // The first words of the new protocol right behind the head.
        visit.send(format!("{SWITCH}hello"));
        echo(visit);
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    ask(&mut client, "/ws");
    let head = client.head();
    assert_eq!(head.status(), 101);
    assert!(head.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")), "{}", head.head);
    assert_eq!((head.header("upgrade"), head.header("sec-websocket-accept")), (Some("websocket"), Some("x")));
    assert_eq!(client.reader.take(5), b"hello", "early bytes arrive");
    let started = daybook.records("the start", 1, |r| r["path"] == "/ws" && r["stage"] == "response_started").remove(0);
    assert_eq!(started["status"], 101, "{started}");
    for message in [&b"\x81\x05abcde"[..], b"\r\n\r\nGET / HTTP/1.1\n\n", b"\0\xff"] {
        client.send(message);
        assert_eq!(client.reader.take(message.len()), message, "anything goes through");
    }
    client.half_close();
    client.assert_closed("both ends have ended");
    let record = daybook.outcome("/ws");
    assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("complete"), Some(101)), "{record}");
    assert_eq!((record["request_bytes"].as_u64(), record["response_bytes"].as_u64()), (Some(29), Some(34)), "{record}");
    assert_eq!(record["id"], started["id"]);
}

#[test]
fn each_direction_of_a_tunnel_ends_on_its_own() {
    let origin = Origin::new(|visit| {
        let head = visit.head().expect("a request");
        visit.send(SWITCH);
        if head.line().contains("/client-first") {
            let said = visit.reader.rest();
            std::thread::sleep(Duration::from_millis(100));
            visit.send(format!("you said {}", String::from_utf8_lossy(&said)));
        } else {
            visit.send("that is all from me");
            visit.half_close();
            assert_eq!(visit.reader.rest(), b"and now me", "what comes after the origin's end");
            visit.mark("read to the end");
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    ask(&mut client, "/client-first");
    assert_eq!(client.head().status(), 101);
    client.send("abc");
    client.half_close();
    assert_eq!(client.rest(), "you said abc");
    assert_eq!(daybook.end("/client-first"), "complete");

    let mut client = daybook.connect();
    ask(&mut client, "/server-first");
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.rest(), "that is all from me");
    client.send("and now me");
    client.close();
    assert_eq!(daybook.end("/server-first"), "complete");
    assert!(origin.requests().iter().any(|r| r.head == "read to the end"), "the origin read to the client's end");
}

#[test]
fn a_broken_tunnel_says_who_broke_it() {
    let origin = Origin::new(|visit| {
        let head = visit.head().expect("a request");
        visit.send(SWITCH);
        if head.line().contains("/origin") {
            visit.reader.take(1);
            visit.reset();
        } else {
            visit.reader.rest();
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    ask(&mut client, "/client");
    assert_eq!(client.head().status(), 101);
    client.send("x");
    client.reset();
    assert_eq!(daybook.end("/client"), "client_closed");
    let mut client = daybook.connect();
    ask(&mut client, "/origin");
    assert_eq!(client.head().status(), 101);
    client.send("x");
    client.rest();
    assert_eq!(daybook.end("/origin"), "upstream_reset");
}

#[test]
fn a_refused_upgrade_stays_http() {
    let origin = Origin::new(|visit| {
        while let Some(request) = visit.request() {
            let upgrade = request.header("upgrade").is_some();
            visit.send(if upgrade {
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
            });
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for round in 0..3 {
        ask(&mut client, &format!("/ws/{round}"));
        let response = client.response();
        assert_eq!((response.status(), response.text().as_str()), (426, "no"));
        assert_eq!(client.get(&format!("/http/{round}"), "").text(), "yes", "the connection goes on");
        assert_eq!(daybook.end(&format!("/ws/{round}")), "complete");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_upgrade_to_h2c_is_not_offered_and_the_connection_goes_on() {
    let origin = Origin::answering("plain");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for round in 0..2 {
        let headers = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
        assert_eq!(client.get(&format!("/h2c/{round}"), headers).text(), "plain");
        assert_eq!(client.get(&format!("/then/{round}"), "").text(), "plain", "round {round}");
    }
    for request in origin.requests() {
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(request.all(gone), Vec::<&str>::new(), "{}", request.head);
        }
    }
}

#[test]
fn the_application_sees_nothing_of_an_upgrade_that_did_not_wait() {
    let origin = Origin::new(|visit| {
        visit.head();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
        visit.reader.rest();
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send(
        "GET /eager HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status(), response.header("connection")), (400, Some("close")), "{}", response.head);
    client.assert_closed("bytes before the answer");
    assert_eq!(daybook.end("/eager"), "refused");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn bytes_that_come_while_the_answer_is_awaited_are_not_passed_on_before_it() {
    let origin = Origin::new(|visit| {
        visit.head();
        std::thread::sleep(Duration::from_millis(300));
        visit.send(SWITCH);
        let bytes = visit.reader.take(5);
        visit.send(bytes);
        visit.reader.rest();
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    ask(&mut client, "/late");
    std::thread::sleep(Duration::from_millis(100));
    client.send("later");
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.reader.take(5), b"later", "they belong to the tunnel");
}

#[test]
fn an_upgrade_with_a_body_is_an_ordinary_request() {
    let origin = Origin::answering("plain");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response().text(), "plain");
    assert_eq!(client.get("/then", "").text(), "plain");
    assert_eq!(origin.requests()[0].header("upgrade"), None, "a tunnel would begin where the body ends");
}

#[test]
fn an_unreachable_application_leaves_an_upgrade_http() {
    let daybook = Daybook::before("unix:/no/such/socket");
    let mut client = daybook.connect();
    for path in ["/one", "/two"] {
        ask(&mut client, path);
        assert_eq!(client.response().status(), 502);
        assert_eq!(daybook.end(path), "upstream_unreachable");
    }
}
