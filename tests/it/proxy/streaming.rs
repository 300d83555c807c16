//! Nothing is held back: chunks, uploads, informational responses, `Expect`.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::daybook::Daybook;
use crate::support::origin::Origin;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn each_chunk_of_a_response_arrives_before_the_next_is_made() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |visit| {
        let wait = wait.lock().expect("one connection");
        visit.request();
        visit.send(CHUNKED);
        for number in 0..5 {
            visit.chunk(format!("data: {number}\n\n").as_bytes());
            if wait.recv().is_err() {
                return;
            }
        }
        visit.send("0\r\n\r\n");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    for number in 0..5 {
        assert_eq!(client.reader.chunk(), Some(format!("data: {number}\n\n").into_bytes()), "chunk {number} at once");
        go.send(()).expect("the origin waits");
    }
    assert_eq!(client.reader.chunk(), Some(Vec::new()), "the end");
    let record = daybook.outcome("/events");
    assert_eq!((record["end"].as_str(), record["response_bytes"].as_u64()), (Some("complete"), Some(45)));
}

#[test]
fn a_head_arrives_before_the_first_byte_of_its_body() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        let _ = wait.lock().expect("one connection").recv();
        visit.send("ok");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("GET /poll HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    go.send(()).expect("the origin waits");
    assert_eq!(client.rest_of(head).text(), "ok");
}

#[test]
fn each_chunk_of_an_upload_arrives_before_the_next_is_made() {
    let (arrived, arrivals) = mpsc::channel::<Vec<u8>>();
    let arrived = Mutex::new(arrived);
    let origin = Origin::new(move |visit| {
        let head = visit.head().expect("a request");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"), "it stays chunked: {}", head.head);
        while let Some(chunk) = visit.reader.chunk() {
            let last = chunk.is_empty();
            arrived.lock().expect("one connection").send(chunk).expect("the test listens");
            if last {
                break;
            }
        }
        visit.reader.take(2);
        visit.ok("taken");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        let got = arrivals.recv_timeout(Duration::from_secs(10)).expect("each chunk before the next is sent");
        assert_eq!(String::from_utf8_lossy(&got), piece);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().text(), "taken");
    assert_eq!(daybook.outcome("/upload")["request_bytes"], 11);
}

#[test]
fn informational_responses_are_passed_on_but_not_to_http_1_0() {
    let origin = Origin::new(|visit| {
        while visit.request().is_some() {
            visit.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
            std::thread::sleep(Duration::from_millis(100));
            visit.ok("page");
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for round in 0..2 {
        client.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n");
        let early = client.head();
        assert_eq!((early.status(), early.header("link")), (103, Some("</style.css>; rel=preload")), "round {round}");
        let response = client.response();
        assert_eq!((response.status(), response.text().as_str()), (200, "page"));
        assert_eq!(response.header("link"), None, "hints are no part of the response");
    }
    let mut old = daybook.connect();
    old.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().status(), 200, "HTTP/1.0 knows no 1xx (RFC 9110 section 15.2)");
    assert_eq!(daybook.outcome("/old")["status"], 200);
}

#[test]
fn a_body_is_asked_for_only_when_the_application_asks_for_it() {
    let asked = Arc::new(Mutex::new(None::<Instant>));
    let when = Arc::clone(&asked);
    let origin = Origin::new(move |visit| {
        let head = visit.head().expect("a request");
        assert_eq!(head.header("expect").map(str::to_ascii_lowercase).as_deref(), Some("100-continue"));
        std::thread::sleep(Duration::from_millis(300));
        *when.lock().expect("no panic") = Some(Instant::now());
        visit.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(visit.reader.take(4), b"body");
        visit.ok("thanks");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("PUT /asked HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let go = client.head();
    assert_eq!(go.status(), 100);
    assert!(asked.lock().expect("no panic").is_some(), "100 came from the application, not before it");
    client.send("body");
    assert_eq!(client.response().text(), "thanks");
    assert_eq!(daybook.outcome("/asked")["request_bytes"], 4);
}

#[test]
fn a_body_that_the_application_refuses_is_never_asked_for() {
    let origin = Origin::new(|visit| {
        visit.head().expect("a request");
        visit.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        let rest = visit.reader.rest();
        assert_eq!(rest, b"", "not a byte of the body was sent");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("PUT /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.text().as_str()), (417, "no"), "the first head is the final one");
    let record = daybook.outcome("/refused");
    assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("complete"), Some(417)));
    assert_eq!(record["request_bytes"].as_u64().unwrap_or(0), 0);
}

#[test]
fn an_application_that_ignores_expect_gets_the_body_all_the_same() {
    let origin = Origin::answering("got it");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("PUT /ignored HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status(), 100, "after a second of patience");
    client.send("body");
    assert_eq!(client.response().text(), "got it");
    assert_eq!(origin.requests()[0].text(), "body");
}

#[test]
fn a_client_that_does_not_wait_for_100_is_served() {
    let origin = Origin::new(|visit| {
        visit.head().expect("a request");
        visit.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(visit.reader.take(4), b"body");
        visit.ok("thanks");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("PUT /eager HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
    let mut head = client.head();
    if head.status() == 100 {
        head = client.head();
    }
    assert_eq!(client.rest_of(head).text(), "thanks");
}
