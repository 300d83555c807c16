//! What two servers could read differently is refused, recorded, and not seen by the application.

use crate::support::daybook::Daybook;
use crate::support::origin::Origin;

/// Requests after `GET /bad HTTP/1.1\r\nHost: a\r\n`, each the rest of a head.
const HEADS: &[(&str, u16)] = &[
    ("Host: b", 400),
    ("X : y", 400),
    (": y", 400),
    ("X\r\n y", 400),
    (" X: y", 400),
    ("X: a\rb", 400),
    ("X: a\0b", 400),
    ("X: a\x01b", 400),
    ("no colon", 400),
    ("Content-Length: 1\r\nContent-Length: 1", 400),
    ("Content-Length: 1, 1", 400),
    ("Content-Length: +1", 400),
    ("Content-Length: 0x1", 400),
    ("Content-Length: -1", 400),
    ("Content-Length: 1_0", 400),
    ("Content-Length:", 400),
    ("Content-Length: 18446744073709551616", 400),
    ("Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: gzip, chunked", 501),
    ("Transfer-Encoding: ,chunked", 501),
    ("Transfer-Encoding: identity", 501),
    ("Transfer-Encoding: xchunked", 501),
    ("Transfer-Encoding: chunked\x0b", 400),
    ("Transfer-Encoding\t: chunked", 400),
];

/// Whole requests.
const REQUESTS: &[(&str, u16)] = &[
    ("GET /bad HTTP/1.1\nHost: a\n\n", 400),
    ("GET /bad HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("GET  /bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /bad HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("GET /bad HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("GET /bad HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("GET /bad\r\n\r\n", 400),
    ("GET /bad#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("G@T /bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ("GET /bad HTTP/1.1\r\n\r\n", 400),
    ("GET /bad HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
    ("GET /<bad> HTTP/1.1\r\nHost: a\r\n\r\n", 400),
];

/// What follows `Transfer-Encoding: chunked`.
const CHUNKS: &[&str] = &[
    "0x3\r\nabc\r\n",
    "+3\r\nabc\r\n",
    "3 \r\nabc\r\n",
    "\r\n",
    "3\nabc\r\n",
    "3\r\nabcd\r\n",
    "3\r\nabc\n0\r\n\r\n",
    "fffffffffffffffff\r\n",
    "3;a\rb\r\nabc\r\n",
    "0\r\nX\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "3_\r\nabc\r\n0\r\n\r\n",
];

fn heads() -> Vec<(String, u16)> {
    let mut all: Vec<(String, u16)> = REQUESTS.iter().map(|(text, status)| ((*text).to_owned(), *status)).collect();
    let head = |rest: &str| format!("GET /bad HTTP/1.1\r\nHost: a\r\n{rest}\r\n\r\n");
    all.extend(HEADS.iter().map(|(rest, status)| (head(rest), *status)));
    all.push((head(&format!("X: {}", "x".repeat(40_000))), 431));
    all.push((head(&"X: y\r\n".repeat(150)), 431));
    all.push((format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000)), 431));
    all
}

#[test]
fn heads_that_could_be_read_differently_are_refused_and_recorded() {
    let origin = Origin::answering("seen");
    let daybook = Daybook::before(&origin.url);
    let heads = heads();
    for (number, (text, status)) in heads.iter().enumerate() {
        let short: String = text.chars().take(80).collect();
        let mut client = daybook.connect();
        // What is smuggled must not be answered either.
        client.send(format!("{text}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status(), *status, "{short:?}: {}", response.head);
        assert_eq!(response.header("connection"), Some("close"), "{short:?}");
        client.assert_closed(&short);
        let is = |r: &serde_json::Value| r["end"] == "refused";
        let records = daybook.records(&format!("refusals up to {short:?}"), number + 1, is);
        let record = &records[number];
        assert_eq!(record["status"], *status, "{short:?}: {record}");
        assert!(record["reason"].is_string() && record["client"]["ip"] == "127.0.0.1", "{short:?}: {record}");
    }
    assert_eq!(origin.connections(), 0, "the application saw nothing");
    assert_eq!(daybook.connect().get("/good", "").text(), "seen", "and the next client is served");
}

#[test]
fn chunks_that_could_be_read_differently_are_refused_and_recorded() {
    let origin = Origin::answering("seen");
    let daybook = Daybook::before(&origin.url);
    for (number, chunks) in CHUNKS.iter().enumerate() {
        for (cut, wait) in [("at once", 0), ("later", 50)] {
            let path = format!("/{number}/{wait}");
            let mut client = daybook.connect();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"));
            std::thread::sleep(std::time::Duration::from_millis(wait));
            client.send(format!("{chunks}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.response();
            assert_eq!(response.status(), 400, "{chunks:?} {cut}");
            assert_eq!(response.header("connection"), Some("close"), "{chunks:?} {cut}");
            client.assert_closed(chunks);
            let record = daybook.outcome(&path);
            assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("refused"), Some(400)), "{record}");
        }
    }
    let seen = origin.requests();
    assert!(seen.iter().all(|r| !r.whole), "the application saw no whole request: {seen:?}");
    assert!(seen.iter().all(|r| !r.line().contains("smuggled")), "{seen:?}");
}

#[test]
fn a_good_request_before_a_bad_one_is_answered_first() {
    let origin = Origin::answering("good");
    let daybook = Daybook::before(&origin.url);
    for (round, bad) in ["GET /bad HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "\0\0\n"].into_iter().enumerate() {
        let path = format!("/{round}");
        let mut client = daybook.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n{bad}"));
        assert_eq!(client.response().text(), "good", "{bad:?}");
        let response = client.response();
        assert_eq!((response.status(), response.header("connection")), (400, Some("close")), "{bad:?}");
        client.assert_closed(bad);
        assert_eq!(daybook.end(&path), "complete");
    }
    daybook.records("refusals", 2, |r| r["end"] == "refused");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn a_refusal_says_as_much_of_the_request_as_could_be_read() {
    let origin = Origin::answering("good");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("POST /a/b?c=d HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    let record = daybook.outcome("/a/b");
    assert_eq!((record["method"].as_str(), record["http_version"].as_str()), (Some("POST"), Some("1.1")), "{record}");
    assert_eq!((record["listener"].as_str(), record["kind"].as_str()), (Some("app"), Some("panel")), "{record}");
}

#[test]
fn leniency_where_the_standard_asks_for_it() {
    let origin = Origin::answering("good");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for request in [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a\r\nX-Empty:\r\nX-Tabs:\ta\tb\t\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc",
        "GET /a{b}|c\"d HTTP/1.1\r\nHost: a\r\n\r\n",
        "X-METHOD! / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        client.send(request);
        assert_eq!(client.response().text(), "good", "{request:?}");
    }
}
