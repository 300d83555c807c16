//! Responses that have no body, and clients that speak HTTP/1.0.

use crate::support::daybook::{Daybook, Setup};
use crate::support::origin::{Origin, nobody};

/// What the application answers, and the header lines that must arrive.
const BODILESS: &[(&str, &str, u16, &[&str])] = &[
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: \"a\"\r\n\r\n",
        200,
        &["Content-Length: 12345", "ETag: \"a\""],
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, &[]),
    ("HEAD", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", 404, &["Content-Length: 9"]),
    ("GET", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204, &["X-A: b"]),
    ("DELETE", "HTTP/1.1 204 No Content\r\n\r\n", 204, &[]),
    ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304, &["ETag: \"a\""]),
    ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"a\"\r\n\r\n", 304, &["ETag: \"a\""]),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, &["Content-Length: 0"]),
    ("GET", "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, &["Location: /x"]),
];

#[test]
fn responses_without_a_body_keep_their_headers_and_the_connection() {
    for mode in ["batch", "blocking", "blocking-strict"] {
        let origin = Origin::new(|visit| {
            while let Some(request) = visit.request() {
                let case: usize = request.line().split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).expect("a case");
                visit.send(BODILESS[case].1);
            }
        });
        let daybook = Setup::new(&origin.url).rest(&format!("[defaults]\nmode = \"{mode}\"")).start();
        let mut client = daybook.connect();
        for (case, (method, _, status, lines)) in BODILESS.iter().enumerate() {
            client.send(format!("{method} /{case} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.headless();
            assert_eq!(response.status(), *status, "{mode}, case {case}");
            for line in *lines {
                assert!(response.lines().contains(line), "{mode}, case {case}: {line:?} in {:?}", response.head);
            }
            let record = daybook.outcome(&format!("/{case}"));
            assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("complete"), Some((*status).into())));
        }
        assert_eq!(origin.connections(), 1, "{mode}: the connection to the application was kept");
    }
}

#[test]
fn our_own_answer_to_head_has_no_body_and_is_recorded_as_what_it_is() {
    let daybook = Daybook::before(&format!("http://{}", nobody()));
    let mut client = daybook.connect();
    for path in ["/one", "/two"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.headless().status(), 502);
        assert_eq!(daybook.end(path), "upstream_unreachable");
    }
}

#[test]
fn an_http_1_0_client_is_spoken_to_in_its_own_terms() {
    let origin = Origin::new(|visit| {
        while let Some(request) = visit.request() {
            if request.line().contains("/chunked") {
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                visit.chunk(b"in ");
                visit.chunk(b"chunks");
                visit.send("0\r\n\r\n");
            } else {
                visit.ok("with a length");
            }
        }
    });
    let daybook = Daybook::before(&origin.url);

    let mut client = daybook.connect();
    client.send("GET /plain HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "with a length");
    client.assert_closed("HTTP/1.0 without keep-alive");
    let host = origin.url.trim_start_matches("http://");
    assert_eq!(origin.requests()[0].header("host"), Some(host), "a Host is made where there is none");
    assert_eq!(origin.requests()[0].line(), "GET /plain HTTP/1.1");
    assert_eq!(daybook.outcome("/plain")["http_version"], "1.0");

    let mut client = daybook.connect();
    client.send("GET /kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "with a length");
    assert!(response.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("keep-alive")), "{}", response.head);
    client.send("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!(response.header("transfer-encoding"), None, "HTTP/1.0 knows no chunks: {}", response.head);
    assert_eq!(response.text(), "in chunks", "delimited by the connection's end");
    for path in ["/plain", "/kept", "/chunked"] {
        assert_eq!(daybook.end(path), "complete", "{path}");
    }
}

#[test]
fn a_response_that_ends_with_its_connection_is_passed_on_as_chunks() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold style");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    let response = client.get("/old", "");
    assert!(response.whole, "the client can tell that it is whole: {}", response.head);
    assert_eq!(response.text(), "old style");
    assert_eq!(client.get("/again", "").text(), "old style", "the client's connection goes on");
}
