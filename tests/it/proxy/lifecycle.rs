//! Drain and reload: what a running service must survive.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::daybook::{Daybook, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;

/// Answers after so long.
fn after(millis: u64) -> Origin {
    Origin::new(move |visit| {
        while visit.request().is_some() {
            std::thread::sleep(Duration::from_millis(millis));
            visit.ok("done");
        }
    })
}

#[test]
fn sigterm_lets_exchanges_end_and_takes_no_new_ones() {
    let origin = after(1500);
    let mut daybook = Daybook::before(&origin.url);
    let (mut busy, mut idle, silent) = (daybook.connect(), daybook.connect(), daybook.connect());
    assert_eq!(idle.get("/before", "").text(), "done");
    busy.send("GET /during HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is with the application", Duration::from_secs(5), || {
        (origin.requests().len() == 2).then_some(())
    });
    let begin = Instant::now();
    daybook.signal(Signal::TERM);
    idle.assert_closed("an idle connection is closed");
    let refused = || TcpStream::connect(daybook.address()).is_err().then_some(());
    eventually("new connections are refused", Duration::from_secs(5), refused);
    let response = busy.response();
    assert_eq!(response.text(), "done");
    assert_eq!(response.header("connection"), Some("close"), "{}", response.head);
    busy.assert_closed("after its last response");
    assert_eq!(daybook.ended().code(), Some(0), "{}", daybook.log());
    assert!(begin.elapsed() < Duration::from_secs(8), "a silent connection holds nothing up: {:?}", begin.elapsed());
    assert_eq!((daybook.end("/before"), daybook.end("/during")), ("complete".to_owned(), "complete".to_owned()));
    daybook.records("the stop", 1, |r| r["kind"] == "stop");
    silent.close();
}

#[test]
fn what_does_not_end_in_time_is_recorded_as_interrupted() {
    let origin = after(60_000);
    let mut daybook = Setup::new(&origin.url).top("drain_timeout = \"1s\"").start();
    let mut client = daybook.connect();
    client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is with the application", Duration::from_secs(5), || origin.requests().pop());
    daybook.signal(Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(0), "{}", daybook.log());
    assert_eq!(daybook.end("/long"), "interrupted");
    client.assert_closed("without an answer");
}

#[test]
fn a_second_signal_aborts() {
    let origin = after(60_000);
    let mut daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is with the application", Duration::from_secs(5), || origin.requests().pop());
    daybook.signal(Signal::TERM);
    eventually("it drains", Duration::from_secs(5), || daybook.log().contains("draining").then_some(()));
    daybook.signal(Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(1), "{}", daybook.log());
}

const RULE: &str = "\n[[rule]]\nname = \"all\"\nkind = \"api\"\n";

#[test]
fn reload_changes_rules_for_new_requests_and_keeps_connections() {
    let origin = after(0);
    let daybook = Daybook::before(&origin.url);
    let mut client = daybook.connect();
    client.get("/before", "");
    let good = std::fs::read_to_string(daybook.file()).expect("readable");

    std::fs::write(daybook.file(), format!("{good}\n[[rule]]\nnam = \"typo\"\n")).expect("written");
    daybook.signal(Signal::HUP);
    let is = |outcome: &'static str| {
        move |r: &serde_json::Value| r["kind"] == "reload" && r["attributes"]["outcome"] == outcome
    };
    daybook.records("a failed reload", 1, is("failure"));
    assert!(daybook.log().contains("nam"), "the log says what is wrong:\n{}", daybook.log());
    client.get("/between", "");
    assert_eq!(daybook.outcome("/between")["kind"], "panel", "the old rules stay in force");

    // No signal: a changed file is noticed.
    std::fs::write(daybook.file(), format!("{good}{RULE}")).expect("written");
    daybook.records("a reload", 1, is("success"));
    client.get("/after", "");
    let record = daybook.outcome("/after");
    assert_eq!((record["kind"].as_str(), record["rule"].as_str()), (Some("api"), Some("all")), "{record}");
    assert_eq!(daybook.outcome("/before")["kind"], "panel");
    assert_eq!(origin.connections(), 1, "no connection was dropped");
}
