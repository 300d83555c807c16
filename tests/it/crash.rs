//! What Daybook promises when it is killed, when its disk is full, and when it is started twice.

pub(crate) mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::daybook::{Daybook, Setup};
use crate::support::eventually;
use crate::support::message::Reader;
use crate::support::origin::{Origin, Visit, patient};

/// Lives that end by `kill -9`, for each setting of `sync`.
const LIVES: usize = 6;
/// Clients at once.
const CLIENTS: usize = 6;

const RULES: &str = "\
[[rule]]\nname = \"blocking\"\nmode = \"blocking\"\nmatch = { path = \"/blocking/**\" }\n\
[[rule]]\nname = \"strict\"\nmode = \"blocking-strict\"\nmatch = { path = \"/strict/**\" }\n";

/// Numbers that look random and come again with the same seed (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// From `DAYBOOK_TEST_SEED`, else from the clock; printed, so that a failure can be had again.
    pub(crate) fn new(what: &str) -> Self {
        let clock = || SystemTime::UNIX_EPOCH.elapsed().expect("a clock").subsec_nanos().into();
        let seed = std::env::var("DAYBOOK_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock);
        eprintln!("{what}: DAYBOOK_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// An application whose answers end in every way there is: by length, by chunks, without a body.
pub(crate) fn answer(visit: &mut Visit) {
    while let Some(request) = visit.request() {
        let path = request.line().split(' ').nth(1).unwrap_or_default().to_owned();
        let sent = match path.bytes().last().unwrap_or_default() % 3 {
            0 => visit.ok(&"x".repeat(3000)),
            1 => visit.send("HTTP/1.1 204 No Content\r\n\r\n"),
            _ => visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        };
        if !sent {
            return;
        }
    }
}

/// Asks until the connection breaks; returns the paths whose responses came as a whole.
fn ask(address: SocketAddr, client: usize, life: usize) -> Vec<String> {
    let mut answered = Vec::new();
    let Ok(stream) = TcpStream::connect(address) else { return answered };
    let mut connection = Client { reader: Reader::new(patient(stream)) };
    for number in 0.. {
        let mode = ["blocking", "strict", "batch"][number % 3];
        let path = format!("/{mode}/{life}-{client}-{number}");
        let body = if number % 2 == 0 { "" } else { "a=1" };
        let method = if body.is_empty() { "GET" } else { "POST" };
        let length = body.len();
        connection.send(format!("{method} {path} HTTP/1.1\r\nHost: app\r\nContent-Length: {length}\r\n\r\n{body}"));
        match connection.maybe() {
            Some(response) if response.whole => {
                assert!(matches!(response.status(), 200 | 204), "{path} was answered with {}", response.line());
                answered.push(path);
            }
            _ => break,
        }
    }
    answered
}

/// One life under load; returns what was answered in it.
pub(crate) fn live_and_die(daybook: &mut Daybook, life: usize, dice: &mut Dice) -> Vec<String> {
    let address = daybook.address();
    let answered = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let answered = &answered;
            scope.spawn(move || {
                let mine = ask(address, client, life);
                answered.lock().expect("no panic").extend(mine);
            });
        }
        std::thread::sleep(Duration::from_millis(100 + dice.below(700)));
        daybook.kill();
    });
    answered.into_inner().expect("no panic")
}

fn kill_under_load(sync: &str, sinks: &str) -> Daybook {
    let mut dice = Dice::new(&format!("kill -9, sync = {sync}"));
    let origin = Origin::new(answer);
    // Small segments, so that kills also meet the change from one to the next.
    let mut daybook = Setup::new(&origin.url)
        .top("drain_timeout = \"5s\"")
        .rest(&format!("{RULES}\n[journal]\nsync = \"{sync}\"\nsegment_size = \"256KiB\"\n{sinks}"))
        .start();
    let mut answered = Vec::new();
    for life in 0..LIVES {
        if life > 0 {
            daybook.restart();
        }
        answered.extend(live_and_die(&mut daybook, life, &mut dice));
    }
    daybook.restart();
    daybook.signal(Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(0), "the last life ends in order");
    let journal = daybook.journal();
    check_promises(&journal, &answered, &origin);
    check_sequence(&journal);
    check_delivered(&journal, &daybook);
    eprintln!("{} answers in {LIVES} lives, {} records", answered.len(), journal.len());
    daybook
}

/// What was answered is there exactly once; what the application saw in the strict mode has its intent.
fn check_promises(journal: &[Value], answered: &[String], origin: &Origin) {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut intents: BTreeMap<&str, usize> = BTreeMap::new();
    for record in journal {
        let Some(path) = record["path"].as_str() else { continue };
        let count = if record["stage"] == "request_received" { &mut intents } else { &mut outcomes };
        *count.entry(path).or_default() += 1;
    }
    let in_mode = |mode: &str| answered.iter().filter(|path| path.starts_with(mode)).count();
    assert!(in_mode("/blocking") >= LIVES && in_mode("/strict") >= LIVES, "there was a load: {}", answered.len());
    for path in answered.iter().filter(|path| !path.starts_with("/batch")) {
        assert_eq!(outcomes.get(&**path), Some(&1), "{path} was answered, so it is in the journal exactly once");
    }
    for (path, count) in outcomes.iter().chain(&intents) {
        assert_eq!(*count, 1, "{path} is told of once");
    }
    let seen = origin.requests().into_iter().map(|request| request.line().to_owned());
    for line in seen.filter(|line| line.contains(" /strict/")) {
        let path = line.split(' ').nth(1).expect("a path");
        assert!(intents.contains_key(path), "the application saw {path}, so its intent is in the journal");
    }
}

/// From 1, without a gap, in the order of the file; the process alone crashed, so it is one epoch.
fn check_sequence(journal: &[Value]) {
    for (expected, record) in (1..).zip(journal) {
        assert_eq!((record["epoch"].as_u64(), record["seq"].as_u64()), (Some(1), Some(expected)), "gap-free");
    }
    let starts = journal.iter().filter(|record| record["kind"] == "start").count();
    let losses: Vec<_> = journal.iter().filter(|record| record["kind"] == "loss").collect();
    assert_eq!((starts, losses.len()), (LIVES + 1, 0), "every life began, nothing was lost: {losses:?}");
}

/// The file sink has all of it, in order, after duplicates are dropped.
fn check_delivered(journal: &[Value], daybook: &Daybook) {
    let mut seen = BTreeSet::new();
    let mut delivered = daybook.all_records();
    let all = delivered.len();
    delivered.retain(|record| seen.insert((record["epoch"].as_u64(), record["seq"].as_u64())));
    eprintln!("{} of {all} delivered records were duplicates", all - delivered.len());
    assert_eq!(delivered.len(), journal.len(), "as many records are delivered as the journal holds");
    for (delivered, record) in delivered.iter().zip(journal) {
        assert_eq!(delivered, record, "delivered in the journal's order");
    }
}

#[test]
fn kill_9_under_load_breaks_no_promise_in_the_page_cache() {
    kill_under_load("os", "");
}

#[test]
fn kill_9_under_load_breaks_no_promise_on_the_disk() {
    kill_under_load("disk", "");
}

#[cfg(feature = "kafka")]
#[test]
fn kill_9_under_load_leaves_in_kafka_what_is_in_the_journal() {
    use crate::support::kafka::{assert_complete, consume, create_topic, shared};

    let topic = format!("killed.{}", std::process::id());
    create_topic(shared(), &topic, 2, &[]);
    let sink = format!("[sink.kafka]\nbrokers = \"{}\"\ntopic = \"{topic}\"", shared());
    let journaled = kill_under_load("os", &sink).journal_by_place();
    assert_complete(&consume(shared(), &topic, journaled.len()), &journaled);
}

#[test]
fn a_second_process_on_the_same_data_says_so_and_exits_69() {
    let origin = Origin::answering("ok");
    let daybook = Daybook::before(&origin.url);
    let begun = Instant::now();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["run", "--config"])
        .arg(daybook.file())
        .output()
        .expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "EX_UNAVAILABLE (sysexits.h): {told}");
    let journal = daybook.dir().join("data/journal");
    let expected = format!("the journal {} is in use by another process", journal.display());
    assert!(told.contains(&expected), "it names what is in use: {told}");
    assert!(begun.elapsed() < Duration::from_secs(10), "at once");
    assert_eq!(daybook.connect().get("/still-there", "").status(), 200, "the first is not disturbed");
    eventually("the first goes on writing", Duration::from_secs(10), || {
        daybook.journal().iter().any(|record| record["path"] == "/still-there").then_some(())
    });
}
