//! `daybook query` beside a running Daybook, and after it.

use std::time::Duration;

use rustix::process::Signal;

use super::{all, data, log_files, query, setup, sorted, table};
use crate::support::daybook::Daybook;
use crate::support::eventually;
use crate::support::origin::Origin;

const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `count` times on one connection, under this name.
fn traffic(daybook: &Daybook, name: &str, count: usize) {
    let mut client = daybook.connect();
    for number in 0..count {
        let headers = format!("User-Agent: test \"{number}\" ż\r\nX-Request-Id: {name}-{number}\r\n");
        let response = client.get(&format!("/{name}/{number}?n={number}"), &headers);
        assert_eq!(response.status(), 200, "the application answers");
    }
}

/// Waits until the query shows as many records under this name.
fn shown(daybook: &Daybook, name: &str, count: usize) {
    let condition = format!("path^=/{name}/");
    let mut seen = 0;
    let what = format!("the query shows {count} records of /{name}/");
    eventually(&what, PATIENCE, || {
        seen = query(&data(daybook), &["-f", "ndjson", "-n", "0", "-w", &condition]).lines().count();
        assert!(seen <= count, "no record of /{name}/ is shown twice: {seen} of {count}");
        (seen == count).then_some(())
    });
}

/// After a stop in order, the journal, the query and the table say the same.
fn check_after_stop(daybook: &mut Daybook) {
    daybook.signal(Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(0), "it stops in order");
    let journal = sorted(daybook.tail(&[]));
    assert_eq!(all(&data(daybook)), journal, "the query's lines are the journal's, byte for byte");
    assert_eq!(table(&data(daybook).join("lake")), journal, "after a stop the table alone has them all");
}

#[test]
fn records_are_answered_before_any_commit() {
    let origin = Origin::answering("ok");
    let mut daybook = setup(&origin.url, "commit_interval = \"1h\"").start();
    traffic(&daybook, "early", 20);
    shown(&daybook, "early", 20);
    let commits = log_files(&data(&daybook).join("lake"), ".json");
    assert!(commits.is_empty(), "they were shown without a commit, which is an hour away: {commits:?}");
    check_after_stop(&mut daybook);
    daybook.restart();
    traffic(&daybook, "second-life", 3);
    shown(&daybook, "second-life", 3);
    shown(&daybook, "early", 20);
    check_after_stop(&mut daybook);
}

#[test]
fn records_are_answered_once_while_commits_go_on() {
    let origin = Origin::answering("ok");
    let mut daybook = setup(&origin.url, "commit_interval = \"200ms\"\ncommit_records = 7").start();
    for round in 0..6 {
        let name = format!("round-{round}");
        traffic(&daybook, &name, 10);
        shown(&daybook, &name, 10);
    }
    let lake = data(&daybook).join("lake");
    eventually("commits are made", PATIENCE, || (log_files(&lake, ".json").len() > 3).then_some(()));
    check_after_stop(&mut daybook);
}

#[test]
fn what_a_client_sends_is_no_formula_in_csv_and_steers_no_terminal() {
    let origin = Origin::answering("ok");
    let daybook = setup(&origin.url, "commit_interval = \"200ms\"").start();
    let agents = ["=HYPERLINK(\"http://evil.test\")", "+1", "@SUM(1)", "-2", "a\tb\u{9b}31mc\u{202e}d", "plain"];
    for (number, agent) in agents.iter().enumerate() {
        daybook.connect().get(&format!("/agent/{number}"), &format!("User-Agent: {agent}\r\n"));
    }
    shown(&daybook, "agent", agents.len());
    let of_agents = ["-w", "path^=/agent/", "--columns", "path,client.user_agent", "-f"];
    let csv = query(&data(&daybook), &[&of_agents[..], &["csv"]].concat());
    for line in [
        "path,client.user_agent",
        "/agent/0,\"'=HYPERLINK(\"\"http://evil.test\"\")\"",
        "/agent/1,\"'+1\"",
        "/agent/2,\"'@SUM(1)\"",
        "/agent/3,\"'-2\"",
        "/agent/5,plain",
    ] {
        assert!(csv.contains(&format!("{line}\r\n")), "`{line}` was expected in\n{csv}");
    }
    let text = query(&data(&daybook), &[&of_agents[..], &["table"]].concat());
    let odd = text.lines().find(|line| line.starts_with("/agent/4")).expect("every record is a line");
    assert!(odd.ends_with("a\u{fffd}b\u{fffd}31mc\u{fffd}d"), "no control character is left in {odd:?}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "nor in the whole: {text:?}");
}
