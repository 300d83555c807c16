//! `kill -9` between and within commits: each record is in the table exactly once.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{all, data, log_files, setup, sorted, table};
use crate::crash::{Dice, answer, live_and_die};
use crate::support::daybook::Daybook;
use crate::support::eventually;
use crate::support::origin::Origin;

/// Lives that end by `kill -9`.
const LIVES: usize = 6;

/// The place of each record, once.
fn places(lines: &[String]) -> BTreeSet<(String, u64, u64)> {
    let mut places = BTreeSet::new();
    for line in lines {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let number = |name: &str| record[name].as_u64().expect("a number");
        let instance = record["instance"].as_str().expect("a name").to_owned();
        let place = (instance, number("epoch"), number("seq"));
        assert!(places.insert(place.clone()), "{place:?} is there twice");
    }
    places
}

/// Lives under load, each but the last ended by `kill -9`.
fn kill_under_load(what: &str, lake: &str) -> Daybook {
    let mut dice = Dice::new(what);
    let origin = Origin::new(answer);
    let rules = "[[rule]]\nname = \"strict\"\nmode = \"blocking-strict\"\nmatch = { path = \"/strict/**\" }\n\
                 [journal]\nsegment_size = \"256KiB\"";
    let mut daybook = setup(&origin.url, lake).rest(rules).top("drain_timeout = \"10s\"").start();
    for life in 0..LIVES {
        if life > 0 {
            daybook.restart();
        }
        let answered = live_and_die(&mut daybook, life, &mut dice);
        assert!(!answered.is_empty(), "there was a load");
        // Neither twice nor not at all, also while nobody runs.
        let journal = daybook.tail(&[]);
        assert_eq!(places(&all(&data(&daybook))), places(&journal), "life {life}: the query knows the journal");
    }
    daybook.restart();
    // A debug build on a busy machine takes its time to catch up: more than a drain may.
    let caught_up = || table(&data(&daybook).join("lake")).len() == daybook.tail(&[]).len();
    eventually("the table catches up", Duration::from_secs(60), || caught_up().then_some(()));
    daybook.signal(Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(0), "the last life ends in order");
    let journal = sorted(daybook.tail(&[]));
    let lake = data(&daybook).join("lake");
    let table = table(&lake);
    assert_eq!(places(&table), places(&journal), "every record of the journal is in the table once");
    assert!(table == journal, "and byte for byte as it is in the journal");
    eprintln!("{what}: {} records in {} commits", table.len(), log_files(&lake, ".json").len());
    daybook
}

#[test]
fn kill_9_leaves_each_record_once_with_commits_by_time() {
    kill_under_load("kill -9, a commit every 50 ms", "commit_interval = \"50ms\"");
}

#[test]
fn kill_9_leaves_each_record_once_with_commits_by_number() {
    let daybook =
        kill_under_load("kill -9, a commit every 100 records", "commit_interval = \"1s\"\ncommit_records = 100");
    let commits = log_files(&data(&daybook).join("lake"), ".json").len();
    assert!(commits > LIVES, "kills met commits: {commits}");
}
