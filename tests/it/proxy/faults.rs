//! Applications that misbehave: what the client is told, and what the record says.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::daybook::{Daybook, Setup};
use crate::support::origin::{Origin, Visit, nobody};

/// What the application does with a request, and what comes of it: status, `end`.
type Case = (&'static str, fn(&mut Visit) -> bool, u16, &'static str);

const FAULTS: &[Case] = &[
    ("closes", |_| true, 502, "upstream_reset"),
    ("resets", |visit| visit.reset(), 502, "upstream_reset"),
    ("garbage", |visit| visit.send("SSH-2.0-OpenSSH_9\r\n\r\n"), 502, "upstream_reset"),
    ("half a head", |visit| visit.send("HTTP/1.1 200 OK\r\nContent-Le"), 502, "upstream_reset"),
    ("bad length", |visit| visit.send("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), 502, "upstream_reset"),
    (
        "101 unasked",
        |visit| visit.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        502,
        "upstream_reset",
    ),
    ("silent", |visit| visit.idle(Duration::from_secs(4)), 504, "timeout"),
];

#[test]
fn an_application_that_does_not_answer_properly_becomes_an_answer_with_the_request_id() {
    for (name, fault, status, end) in FAULTS {
        let origin = Origin::new(move |visit| {
            if visit.request().is_some() {
                fault(visit);
            }
        });
        let daybook = Setup::new(&origin.url).listener("forward.response_timeout = \"1s\"").start();
        let mut client = daybook.connect();
        for (path, headers, id) in [("/made", "", None), ("/given", "X-Request-Id: mine-7\r\n", Some("mine-7"))] {
            let response = client.get(path, headers);
            assert_eq!(response.status(), *status, "{name}: {}", response.head);
            let record = daybook.outcome(path);
            assert_eq!(
                (record["end"].as_str(), record["status"].as_u64()),
                (Some(*end), Some((*status).into())),
                "{name}: {record}"
            );
            assert!(record["reason"].is_string() && record["result"] == "failure", "{name}: {record}");
            let expected = id.or(record["request_id"].as_str()).expect("an id in the record");
            assert_eq!(response.header("x-request-id"), Some(expected), "{name}");
            assert!(response.text().contains(expected), "{name}: a person can quote the id: {}", response.text());
        }
        assert_eq!(origin.connections(), 2, "{name}: each request was sent once, on a connection of its own");
        assert_eq!(origin.requests().len(), 2, "{name}: each request was sent once");
    }
}

#[test]
fn an_application_that_is_not_there_is_502() {
    let daybook = Daybook::before(&format!("http://{}", nobody()));
    let mut client = daybook.connect();
    let response = client.get("/gone", "");
    assert_eq!(response.status(), 502);
    let record = daybook.outcome("/gone");
    assert_eq!(record["end"], "upstream_unreachable", "{record}");
    assert_eq!(response.header("x-request-id"), record["request_id"].as_str());
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().status(), 502);
    assert_eq!(daybook.end("/body"), "upstream_unreachable");
    let daybook = Daybook::before("http://no-such-host.invalid");
    assert_eq!(daybook.connect().get("/name", "").status(), 502, "a name that does not resolve");
    let daybook = Daybook::before("unix:/no/such/socket");
    assert_eq!(daybook.connect().get("/unix", "").status(), 502, "a socket that does not exist");
}

#[test]
fn an_application_that_accepts_no_connection_is_504() {
    // A full backlog: the kernel then drops the handshake, as a firewall would.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    full.listen(0).expect("listening");
    let address = full.local_addr().ok().and_then(|a| a.as_socket()).expect("bound");
    let fill: Vec<_> =
        (0..2).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300))).collect();
    let daybook = Setup::new(&format!("http://{address}")).listener("forward.connect_timeout = \"500ms\"").start();
    assert_eq!(daybook.connect().get("/full", "").status(), 504);
    assert_eq!(daybook.end("/full"), "timeout");
    drop(fill);
}

/// A response that breaks off, as the client must see it.
const TRUNCATED: &[(&str, &str, &str)] = &[
    ("length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "only this"),
    ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\nonly this\r\n"),
    ("in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "40\r\nonly this"),
    ("bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\nonly this\r\nzz\r\n"),
];

#[test]
fn a_truncated_response_reaches_the_client_as_truncated() {
    for mode in ["batch", "blocking"] {
        for (name, head, body) in TRUNCATED {
            let origin = Origin::new(move |visit| {
                visit.request();
                visit.send(head);
                std::thread::sleep(Duration::from_millis(50));
                visit.send(body);
                std::thread::sleep(Duration::from_millis(50));
            });
            let daybook = Setup::new(&origin.url).rest(&format!("[defaults]\nmode = \"{mode}\"")).start();
            let response = daybook.connect().get("/cut", "");
            assert!(!response.whole, "{mode} {name}: the client must see that something is missing");
            assert_eq!(response.text(), "only this", "{mode} {name}: what came is passed on");
            let record = daybook.outcome("/cut");
            assert_eq!(
                (record["end"].as_str(), record["status"].as_u64()),
                (Some("upstream_reset"), Some(200)),
                "{record}"
            );
            assert_eq!((record["response_bytes"].as_u64(), record["result"].as_str()), (Some(9), Some("failure")));
        }
    }
}

#[test]
fn an_application_that_falls_silent_within_its_response_is_cut_off_where_that_is_asked_for() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
        visit.reader.rest();
    });
    let daybook = Setup::new(&origin.url).listener("forward.read_idle_timeout = \"500ms\"").start();
    let response = daybook.connect().get("/mute", "");
    assert!(!response.whole && response.text() == "only this");
    assert_eq!(daybook.end("/mute"), "timeout");
}

#[test]
fn an_http_1_0_client_can_tell_a_broken_response_from_a_whole_one() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        visit.chunk(b"only this");
        std::thread::sleep(Duration::from_millis(50));
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("GET /cut HTTP/1.0\r\n\r\n");
    let mut seen = Vec::new();
    let ended = client.reader.get_mut().read_to_end(&mut seen).expect_err("its end is no end of the connection");
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(daybook.end("/cut"), "upstream_reset");
}

#[test]
fn an_application_that_stops_taking_an_upload_is_504() {
    let origin = Origin::new(|_| std::thread::sleep(Duration::from_secs(8)));
    let daybook = Setup::new(&origin.url).listener("forward.response_timeout = \"1s\"").start();
    let mut client = daybook.connect();
    client.send("POST /stuck HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut sending = client.reader.get_mut().try_clone().expect("a socket");
    let sender = std::thread::spawn(move || while sending.write_all(&[b'x'; 65536]).is_ok() {});
    assert_eq!(client.response().status(), 504);
    assert_eq!(daybook.end("/stuck"), "timeout");
    client.close();
    sender.join().expect("it ends when the connection does");
}
