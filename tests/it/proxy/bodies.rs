//! Bodies: byte for byte, of any size, in constant memory.

use std::io::{Read, Write};

use crate::support::daybook::Daybook;
use crate::support::message::Body;
use crate::support::origin::Origin;

/// Large enough that anything buffered would show; a debug build moves it in seconds.
const LARGE: usize = 1 << 30;
/// A debug build with its runtime, and nothing that grows with a body.
const MEMORY_KIB: u64 = 64 << 10;

/// Bytes that repeat nowhere near (a multiplicative generator), the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn bodies_pass_byte_for_byte_however_they_are_framed_and_cut() {
    let origin = Origin::new(|visit| {
        while let Some(request) = visit.request() {
            let chunked = request.head.contains("transfer-encoding") || request.head.contains("Transfer-Encoding");
            match chunked {
                false => {
                    visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
                    for piece in request.body.chunks(1777) {
                        visit.send(piece);
                    }
                }
                true => {
                    visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    for piece in request.body.chunks(977) {
                        visit.chunk(piece);
                    }
                    visit.send("0\r\n\r\n");
                }
            }
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for (round, length) in [0, 1, 2, 1023, 8192, 8193, 65_536, 300_007].into_iter().enumerate() {
        let body = noise(round as u64, length);
        client.send(format!("POST /length/{round} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        body.chunks(3001).for_each(|piece| assert!(client.send(piece)));
        let response = client.response();
        assert!(response.whole && response.body == body, "{length} bytes with a length come back as they are");

        client.send(format!("POST /chunked/{round} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        for piece in body.chunks(2048) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            assert!(client.send(chunk));
        }
        client.send("0\r\n\r\n");
        let response = client.response();
        assert!(response.whole && response.body == body, "{length} bytes in chunks come back as they are");
        for kind in ["length", "chunked"] {
            let record = daybook.outcome(&format!("/{kind}/{round}"));
            assert_eq!(record["request_bytes"].as_u64().unwrap_or(0), length as u64, "{record}");
            assert_eq!(record["response_bytes"].as_u64().unwrap_or(0), length as u64, "{record}");
        }
    }
    assert_eq!(origin.connections(), 1, "and all on one kept connection");
}

#[test]
fn a_large_body_down_needs_no_memory() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        let piece = noise(1, 1 << 20);
        for _ in 0..LARGE >> 20 {
            if !visit.send(&piece) {
                return;
            }
        }
        visit.reader.rest();
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().response_body(), Body::Length(LARGE));
    let (expected, mut seen) = (noise(1, 1 << 20), vec![0; 1 << 20]);
    for number in 0..LARGE >> 20 {
        let buffered = client.reader.take_buffered(&mut seen);
        client.reader.get_mut().read_exact(&mut seen[buffered..]).expect("the whole body");
        assert!(seen == expected, "MiB {number} is as it was sent");
    }
    assert_eq!(daybook.outcome("/large")["response_bytes"], LARGE);
    let peak = daybook.memory_kib("VmHWM:");
    assert!(peak < MEMORY_KIB, "it took {peak} KiB to pass {LARGE} bytes down");
}

#[test]
fn a_large_body_up_needs_no_memory() {
    let origin = Origin::new(|visit| {
        visit.head().expect("a request");
        let (mut left, mut buffer) = (LARGE, vec![0; 1 << 20]);
        left -= visit.reader.take_buffered(&mut buffer);
        while left > 0 {
            match visit.reader.get_mut().read(&mut buffer) {
                Ok(read) if read > 0 => left -= read,
                _ => return,
            }
        }
        visit.ok("all of it");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send(format!("PUT /large HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    let piece = noise(2, 1 << 20);
    for _ in 0..LARGE >> 20 {
        client.reader.get_mut().write_all(&piece).expect("Daybook reads on");
    }
    assert_eq!(client.response().text(), "all of it");
    assert_eq!(daybook.outcome("/large")["request_bytes"], LARGE);
    let peak = daybook.memory_kib("VmHWM:");
    assert!(peak < MEMORY_KIB, "it took {peak} KiB to pass {LARGE} bytes up");
}

#[test]
fn trailers_pass_both_ways() {
    let origin = Origin::new(|visit| {
        while visit.request().is_some() {
            visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Server-Timing\r\n\r\n");
            visit.chunk(b"body");
            visit.send("0\r\nX-Sum: 41\r\nServer-Timing: db;dur=3\r\n\r\n");
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send(
        "POST /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Up\r\n\
         Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Up: 17\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.trailers.len(), 2, "both trailers: {:?}", response.trailers);
    assert!(response.trailers.iter().any(|t| t.eq_ignore_ascii_case("x-sum: 41")), "{:?}", response.trailers);
    let request = &origin.requests()[0];
    assert_eq!(request.header("te"), Some("trailers"));
    assert_eq!(request.trailers.len(), 1, "the request's trailer: {request:?}");
    assert!(request.trailers[0].eq_ignore_ascii_case("x-up: 17"), "{request:?}");
    assert_eq!(daybook.end("/trailers"), "complete");
}
