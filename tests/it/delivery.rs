//! From a real journal to a real Apache Kafka and to files. What the journal holds is read by a tail of the test's
//! own, and a plain consumer must find exactly that.

mod files;
mod kafka;
mod outage;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook::config::{JournalSettings, KafkaSettings, Sinks};
use daybook::deliver::{Delivery, SinkStatus, sink_names};
use daybook::journal::{Journal, Position, Tail};
use daybook::record::{Attributes, Record, Value};

use crate::support::eventually;
use crate::support::kafka::{Received, read};

const INSTANCE: &str = "panel-1";
const PATIENCE: Duration = Duration::from_secs(60);
/// A sink that nobody serves: keeps the records for the test to compare with.
const WITNESS: &str = "witness";

/// A journal and the delivery of it.
struct Setup {
    journal: Arc<Journal>,
    delivery: Delivery,
    witness: Tail,
    seen: Vec<(Position, Vec<u8>)>,
}

impl Setup {
    /// Opens the journal in `dir` and starts delivering it.
    fn start(dir: &Path, sinks: &Sinks) -> Self {
        let mut names = sink_names(sinks);
        names.push(WITNESS);
        let (journal, _) =
            Journal::open(&dir.join("journal"), &JournalSettings::default(), INSTANCE, &names).expect("a journal");
        let journal = Arc::new(journal);
        let delivery = Delivery::start(&journal, sinks, INSTANCE, dir).expect("delivery starts");
        Self { witness: journal.tail(WITNESS), journal, delivery, seen: Vec::new() }
    }

    /// Appends records of a kind, numbered in their attributes, each with `size` bytes of ballast.
    fn append(&self, kind: &str, numbers: std::ops::Range<u64>, size: usize) {
        let lane = self.journal.lane();
        for number in numbers {
            lane.append(&record(kind, number, size)).expect("the journal takes it");
        }
    }

    /// What the journal holds, from the oldest.
    fn journaled(&mut self) -> &[(Position, Vec<u8>)] {
        self.journal.flush().expect("flushed");
        loop {
            let batch = self.witness.next(1 << 20, Duration::ZERO).expect("readable");
            if batch.is_empty() {
                return &self.seen;
            }
            self.seen.extend(batch.iter().map(|entry| (entry.position, entry.payload.to_vec())));
        }
    }

    fn status(&self) -> SinkStatus {
        self.delivery.status().into_iter().next().expect("one sink")
    }

    /// Delivers what is left, then closes the journal.
    fn finish(self) -> bool {
        let drained = self.delivery.stop(Instant::now() + PATIENCE);
        self.journal.close().expect("closed");
        drained
    }

    /// Ends as abruptly as a process can without being killed: nothing is drained.
    fn abandon(self) {
        self.delivery.stop(Instant::now());
        self.journal.close().expect("closed");
    }
}

fn record(kind: &str, number: u64, size: usize) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.push("number", Value::Number(number.into()));
    attributes.push("ballast", Value::Text(noise(number, size).into()));
    let mut out = Vec::new();
    Record { listener: Some("panel".into()), ..Record::own(kind, attributes) }.encode(&mut out);
    out
}

/// Text that does not compress.
fn noise(seed: u64, size: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state >> 32) as u8 % 90)
    };
    (0..size).map(|_| step()).map(|c| if matches!(c, '"' | '\\') { '_' } else { c }).collect()
}

fn kafka(settings: KafkaSettings) -> Sinks {
    Sinks { kafka: Some(settings), ..Sinks::default() }
}

fn settings(brokers: &str, topic: &str) -> KafkaSettings {
    KafkaSettings { brokers: brokers.to_owned(), topic: topic.to_owned(), ..KafkaSettings::default() }
}

/// A topic name nobody else uses.
fn topic(of: &str) -> String {
    format!("{of}.{}", std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos())
}

/// Reads until as many different records are there as the journal holds, and a little longer for duplicates.
fn consume(brokers: &str, topic: &str, expected: usize) -> Vec<Received> {
    let (mut places, mut looked_at, mut complete_at) = (BTreeSet::new(), 0, None);
    read(brokers, topic, PATIENCE, |received| {
        places.extend(received[looked_at..].iter().map(Received::place));
        looked_at = received.len();
        if places.len() >= expected {
            complete_at.get_or_insert_with(Instant::now);
        }
        complete_at.is_some_and(|at: Instant| at.elapsed() > Duration::from_millis(500))
    })
}

/// The records by place, in the order of their first arrival: each exactly as in the journal, none missing, none out
/// of order. Later copies of a record must equal the first.
fn assert_complete(received: &[Received], journaled: &[(Position, Vec<u8>)]) {
    let mut first = BTreeMap::new();
    let mut order = Vec::new();
    for one in received {
        let (epoch, seq) = one.place();
        let place = Position { epoch, seq };
        let known = first.entry(place).or_insert_with(|| {
            order.push(place);
            one.payload.clone()
        });
        assert_eq!(known, &one.payload, "a copy of {place} differs from it");
    }
    let expected: Vec<_> = journaled.iter().map(|(place, _)| *place).collect();
    assert_eq!(order.len(), expected.len(), "as many records arrived as the journal holds");
    assert!(
        order == expected,
        "they arrived in the journal's order; the first that did not: {:?}",
        order.iter().zip(&expected).find(|(a, b)| a != b)
    );
    for (place, payload) in journaled {
        assert!(first[place] == *payload, "{place} arrived as it stands in the journal");
    }
}

/// Waits for a status.
fn await_status(setup: &Setup, what: &str, is: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
    eventually(what, PATIENCE, || Some(setup.status()).filter(&is))
}
