//! How exchanges end, and that the record says so: half-closed clients, clients that went away, early responses.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::daybook::{Daybook, Setup};
use crate::support::origin::Origin;

/// Waits a little, then answers: time for a FIN to arrive first.
fn slow(body: &'static str) -> Origin {
    Origin::new(move |visit| {
        while visit.request().is_some() {
            std::thread::sleep(Duration::from_millis(200));
            if !visit.ok(body) {
                return;
            }
        }
    })
}

#[test]
fn a_client_that_half_closes_gets_its_whole_response() {
    for mode in ["batch", "blocking", "blocking-strict"] {
        let origin = slow("the answer");
        let daybook = Setup::new(&origin.url).rest(&format!("[defaults]\nmode = \"{mode}\"")).start();
        for (path, request) in [
            ("/get", "GET /get HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("/post", "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"),
            ("/chunked", "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
            ("/old", "GET /old HTTP/1.0\r\n\r\n"),
        ] {
            let mut client = daybook.connect();
            client.send(request);
            client.half_close();
            assert_eq!(client.response().text(), "the answer", "{mode} {path}");
            client.assert_closed("after a half-close there is nothing to wait for");
            assert_eq!(daybook.end(path), "complete", "{mode} {path}");
        }
    }
}

#[test]
fn a_half_closed_client_gets_a_long_stream_to_its_end() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(30));
            visit.chunk(&[b'x'; 10_000]);
        }
        visit.send("0\r\n\r\n");
    });
    for mode in ["batch", "blocking"] {
        let daybook = Setup::new(&origin.url).rest(&format!("[defaults]\nmode = \"{mode}\"")).start();
        let mut client = daybook.connect();
        client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
        client.half_close();
        let response = client.response();
        assert!(response.whole && response.body.len() == 100_000, "{mode}: {} bytes", response.body.len());
        assert_eq!(daybook.end("/stream"), "complete", "{mode}");
    }
}

#[test]
fn a_client_that_went_away_before_the_response_is_not_recorded_as_served() {
    let origin = slow("nobody reads this");
    let daybook = Daybook::before(&origin.url);
    for (path, reset) in [("/fin", false), ("/rst", true)] {
        let mut client = daybook.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        std::thread::sleep(Duration::from_millis(50));
        if reset {
            client.reset()
        } else {
            client.close()
        }
        let record = daybook.outcome(path);
        assert_eq!(record["end"], "client_closed", "{path}: {record}");
        assert_eq!(record["result"], "failure", "{path}: {record}");
    }
}

#[test]
fn a_client_that_went_away_within_the_response_is_not_recorded_as_served() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while visit.chunk(&[b'x'; 4000]) {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let daybook = Daybook::before(&origin.url);
    for (path, reset) in [("/fin", false), ("/rst", true)] {
        let mut client = daybook.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.head();
        client.reader.chunk();
        if reset {
            client.reset()
        } else {
            client.close()
        }
        let record = daybook.outcome(path);
        assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("client_closed"), Some(200)), "{record}");
        assert!(record["response_bytes"].as_u64().is_some_and(|n| n >= 4000), "bytes so far: {record}");
    }
}

#[test]
fn a_client_that_went_away_within_its_request_is_not_recorded_as_served() {
    let origin = Origin::answering("never");
    let daybook = Daybook::before(&origin.url);
    for (path, reset) in [("/fin", false), ("/rst", true)] {
        let mut client = daybook.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"));
        std::thread::sleep(Duration::from_millis(50));
        if reset {
            client.reset()
        } else {
            client.close()
        }
        assert_eq!(daybook.end(path), "client_closed", "{path}");
    }
    assert!(origin.requests().iter().all(|r| !r.whole), "the application saw broken uploads as broken");
}

#[test]
fn an_early_response_reaches_a_client_that_is_still_sending() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |visit| {
        let head = visit.head().expect("a request");
        if head.line().contains("/next") {
            visit.ok("next");
            return;
        }
        visit.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large");
        let _ = wait.lock().expect("one upload").recv();
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nthe first bytes");
    let response = client.response();
    assert_eq!((response.status(), response.text().as_str()), (413, "too large"), "while the upload goes on");
    assert_eq!(daybook.outcome("/early")["status"], 413);
    // The connection to the application is still taken by that upload: nobody else may wait for it.
    assert_eq!(daybook.connect().get("/next", "").text(), "next");
    drop(go);
}

#[test]
fn an_early_response_survives_that_the_application_closes_at_once() {
    let origin = Origin::new(|visit| {
        visit.head();
        visit.send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large");
    });
    let daybook = Daybook::before(&origin.url);
    for round in 0..10 {
        let path = format!("/{round}");
        let mut client = daybook.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n"));
        for _ in 0..40 {
            if !client.send([b'x'; 100_000]) {
                break;
            }
        }
        let response = client.response();
        assert_eq!((response.status(), response.text().as_str()), (413, "too large"), "round {round}");
        let record = daybook.outcome(&path);
        assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("complete"), Some(413)), "{record}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = slow("one of three");
    let daybook = Daybook::before(&origin.url);
    for (round, half_close) in [("a", false), ("b", true)] {
        let mut client = daybook.connect();
        let get = |n: u32| format!("GET /{round}{n} HTTP/1.1\r\nHost: a\r\n\r\n");
        let post = format!("POST /{round}2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        client.send(format!("{}{post}{}", get(1), get(3)));
        if half_close {
            client.half_close();
        }
        for _ in 0..3 {
            assert_eq!(client.response().text(), "one of three", "{round}");
        }
        for n in 1..=3 {
            assert_eq!(daybook.end(&format!("/{round}{n}")), "complete", "{round}{n}");
        }
    }
    let lines: Vec<String> = origin.requests().iter().map(|r| r.line().to_owned()).collect();
    assert!(lines[0].starts_with("GET /a1") && lines[1].starts_with("POST /a2") && lines[2].starts_with("GET /a3"));
}
