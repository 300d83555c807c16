//! The real binary, killed under load: what a client was answered is delivered, exactly once by place, without gaps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daybook::record::Record;

use crate::support::eventually;
use crate::support::kafka::{create_topic, read, shared};
use crate::support::panel::{Client, Daybook, application};

/// Paths that clients sent, and those whose answers they read whole.
#[derive(Default)]
struct Oracle {
    sent: BTreeSet<String>,
    answered: BTreeSet<String>,
}

/// Four clients that send as fast as they are answered, until the connection breaks or `stop`.
fn load(port: u16, round: u32, stop: &AtomicBool) -> Oracle {
    let client = |number: u32| {
        let mut oracle = Oracle::default();
        let Ok(mut client) = Client::connect(port) else { return oracle };
        for n in 0.. {
            let path = format!("/{round}/{number}/{n}");
            oracle.sent.insert(path.clone());
            if stop.load(Ordering::Relaxed) || client.get(&path).is_err() {
                break;
            }
            oracle.answered.insert(path);
        }
        oracle
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().fold(Oracle::default(), |mut all, client| {
            let one = client.join().expect("no panic");
            all.sent.extend(one.sent);
            all.answered.extend(one.answered);
            all
        })
    })
}

type Places = BTreeMap<(u64, u64), Vec<u8>>;

/// By place; copies of a record must be equal.
fn places(records: impl IntoIterator<Item = Vec<u8>>) -> Places {
    let mut places = Places::new();
    for payload in records {
        let record: Record<'_> = serde_json::from_slice(&payload).expect("a record");
        let place = (record.epoch.expect("an epoch"), record.seq.expect("a seq"));
        let known = places.entry(place).or_insert_with(|| payload.clone());
        assert!(*known == payload, "two different records at {place:?}");
    }
    places
}

/// answered ⊆ delivered ⊆ sent, each once, and no gap within an epoch.
fn judge(places: &Places, oracle: &Oracle, sink: &str) {
    let mut delivered = BTreeSet::new();
    for payload in places.values() {
        let record: Record<'_> = serde_json::from_slice(payload).expect("a record");
        if let Some(path) = record.path {
            let path = path.as_str().to_owned();
            assert!(oracle.sent.contains(&path), "{sink}: nobody sent {path}");
            assert!(delivered.insert(path.clone()), "{sink}: {path} has two places");
        }
    }
    let missing: Vec<_> = oracle.answered.difference(&delivered).collect();
    assert!(missing.is_empty(), "{sink}: {} answered requests are missing: {missing:?}", missing.len());
    let mut before = (0, 0);
    for place in places.keys() {
        let follows = place.0 == before.0 && place.1 == before.1 + 1 || place.0 > before.0 && place.1 == 1;
        assert!(follows, "{sink}: a gap between {before:?} and {place:?}");
        before = *place;
    }
}

#[test]
fn what_was_answered_before_a_kill_is_delivered_once_and_without_gaps() {
    let dir = tempfile::tempdir().expect("a folder");
    let topic = format!("killed.{}", std::process::id());
    create_topic(shared(), &topic, 2, &[]);
    let file = dir.path().join("records.ndjson");
    let rest = format!(
        "[defaults]\nmode = \"blocking\"\n\n[sink.kafka]\nbrokers = \"{}\"\ntopic = \"{topic}\"\n\n\
         [sink.file]\npath = \"{}\"\n",
        shared(),
        file.display()
    );
    let upstream = application();
    let mut oracle = Oracle::default();
    for round in 0..4 {
        let daybook = Daybook::run(dir.path(), upstream, &rest);
        let (port, stop) = (daybook.port, AtomicBool::new(false));
        let loaded = std::thread::scope(|scope| {
            let load = scope.spawn(|| load(port, round, &stop));
            // Less and more than the second in which a cursor is saved.
            std::thread::sleep(Duration::from_millis(400 + u64::from(round) * 700));
            daybook.kill();
            load.join().expect("no panic")
        });
        assert!(!loaded.answered.is_empty(), "round {round} was answered");
        oracle.sent.extend(loaded.sent);
        oracle.answered.extend(loaded.answered);
    }
    let daybook = Daybook::run(dir.path(), upstream, &rest);
    Client::connect(daybook.port).expect("connects").get("/fresh").expect("a fresh request passes");
    oracle.sent.insert("/fresh".to_owned());
    oracle.answered.insert("/fresh".to_owned());
    assert_eq!(daybook.terminate(), Some(0), "it drains");

    let text = fs::read(&file).expect("the file");
    assert!(text.ends_with(b"\n"), "no torn line");
    let lines = places(text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
    judge(&lines, &oracle, "file");

    let last = *lines.keys().last().expect("records");
    let mut complete_at = None;
    let received = read(shared(), &topic, Duration::from_secs(60), |received| {
        if received.last().is_some_and(|one| (u64::from(one.place().0), one.place().1) == last) {
            complete_at.get_or_insert_with(Instant::now);
        }
        complete_at.is_some_and(|at: Instant| at.elapsed() > Duration::from_secs(1))
    });
    let received = places(received.into_iter().map(|one| one.payload));
    judge(&received, &oracle, "kafka");
    assert!(received == lines, "both sinks hold the same records");
}

#[test]
fn a_reader_that_closes_stdout_ends_the_sink_and_not_the_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut daybook = Daybook::run(dir.path(), application(), "[sink.file]\npath = \"-\"\n");
    let mut client = Client::connect(daybook.port).expect("connects");
    let mut stdout = BufReader::new(daybook.child.stdout.take().expect("piped"));
    client.get("/read").expect("answered");
    let mut line = String::new();
    while !line.contains("\"/read\"") {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("readable") > 0, "the record comes on stdout");
        serde_json::from_str::<Record<'_>>(&line).expect("stdout is for records only");
    }
    drop(stdout);
    eventually("the sink says that it is over", Duration::from_secs(20), || {
        client.get("/unread").expect("traffic goes on");
        daybook.log().contains("stdout was closed").then_some(())
    });
    client.get("/after").expect("traffic goes on");
    assert_eq!(daybook.terminate(), Some(0));
}
