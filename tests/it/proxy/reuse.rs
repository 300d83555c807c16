//! Connections are kept on both sides, and no request is ever sent twice.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::daybook::{Daybook, Setup};
use crate::support::origin::Origin;

#[test]
fn connections_are_kept_on_both_sides() {
    let origin = Origin::answering("ok");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for round in 0..20 {
        assert_eq!(client.get(&format!("/{round}"), "").text(), "ok");
    }
    for round in 20..25 {
        assert_eq!(daybook.connect().get(&format!("/{round}"), "").text(), "ok");
    }
    assert_eq!(origin.connections(), 1, "25 requests of 6 clients, one after another");
    let first = daybook.outcome("/0");
    let last = daybook.outcome("/24");
    assert!(first["timing"]["connect_us"].as_u64().is_some_and(|us| us > 0), "{first}");
    assert_eq!(last["timing"]["connect_us"], 0, "a kept connection: {last}");
}

#[test]
fn a_request_that_was_read_is_not_sent_again() {
    let origin = Origin::new(|visit| {
        // Answers /good, and closes after it has read anything else.
        while let Some(request) = visit.request() {
            if !request.line().contains("/good") {
                return;
            }
            visit.ok("ok");
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for (path, warm) in [("/fresh", false), ("/kept", true)] {
        for method in ["GET", "POST"] {
            if warm {
                assert_eq!(client.get(&format!("/good/{method}"), "").text(), "ok");
            }
            let path = format!("{path}/{method}");
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
            assert_eq!(client.response().status(), 502, "{path}");
            assert_eq!(daybook.end(&path), "upstream_reset", "{path}");
            let arrivals = origin.requests().iter().filter(|r| r.line().contains(&path)).count();
            assert_eq!(arrivals, 1, "{path} arrived once");
        }
    }
}

#[test]
fn a_kept_connection_that_the_application_closed_is_not_used() {
    let origin = Origin::new(|visit| {
        // Says nothing of closing, and closes.
        visit.request();
        visit.ok("ok");
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for round in 0..10 {
        let response = client.get(&format!("/{round}"), "");
        assert_eq!(response.status(), 200, "round {round}: {}", response.text());
        std::thread::sleep(Duration::from_millis(if round < 5 { 50 } else { 600 }));
    }
    assert_eq!((origin.connections(), origin.requests().len()), (10, 10));
}

#[test]
fn a_connection_that_the_application_announced_to_close_is_not_used() {
    let origin = Origin::new(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        visit.reader.rest();
    });
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    for round in 0..20 {
        assert_eq!(client.get(&format!("/{round}"), "").status(), 200, "round {round}");
    }
    assert_eq!(origin.connections(), 20);
}

#[test]
fn an_idle_connection_is_given_up_after_its_time() {
    let origin = Origin::answering("ok");
    let daybook = Setup::new(&origin.url).listener("forward.idle_timeout = \"1s\"").start();
    let mut client = daybook.connect();
    client.get("/first", "");
    std::thread::sleep(Duration::from_millis(1500));
    client.get("/second", "");
    assert_eq!(origin.connections(), 2, "the first connection was idle for too long");
}

#[test]
fn a_client_that_asks_to_close_is_closed() {
    let origin = Origin::answering("ok");
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    let response = client.get("/last", "Connection: close\r\n");
    assert_eq!((response.text().as_str(), response.header("connection")), ("ok", Some("close")));
    client.assert_closed("it asked for it");
    assert_eq!(daybook.connect().get("/next", "").text(), "ok");
    assert_eq!(origin.connections(), 1, "the application's connection is not the client's");
}

#[test]
fn unix_sockets_serve_on_both_sides_and_a_stale_one_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let (app, front) = (folder.path().join("app.sock"), folder.path().join("front.sock"));
    // What a process that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&front).expect("a socket"));
    let origin = Origin::unix(&app, |visit| visit.answer_all("through sockets"));
    let daybook = Setup::new(&origin.url).listener(&format!("bind = \"unix:{}\"", front.display())).start();
    let output = std::process::Command::new("curl")
        .args(["-sS", "--max-time", "10", "--unix-socket"])
        .arg(&front)
        .args(["-d", "hello", "http://app.test/a", "http://app.test/b"])
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "through socketsthrough sockets", "{output:?}");
    let record = daybook.outcome("/b");
    assert_eq!(record["end"], "complete");
    assert!(record["client"]["ip"].is_null(), "a Unix socket has no address: {record}");
    assert_eq!(origin.requests()[0].text(), "hello");
    assert_eq!(origin.requests()[0].header("x-forwarded-for"), None);

    let second = Setup::new(&origin.url).listener(&format!("bind = \"unix:{}\"", front.display()));
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| second.start()));
    assert!(refused.is_err(), "a socket that answers is not taken from its owner");
}

#[test]
fn clients_at_once_do_not_share_a_connection_to_the_application() {
    let origin = Origin::new(|visit| {
        while visit.request().is_some() {
            std::thread::sleep(Duration::from_millis(100));
            visit.ok("ok");
        }
    });
    let daybook = Daybook::before(&origin.url);
    let mut clients: Vec<Client> = (0..8).map(|_| daybook.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(origin.connections(), 8);
}
