//! From a real journal to a real Apache Kafka and to files. What the journal holds is read by a tail of the test's
//! own, and a plain consumer must find exactly that.

mod files;
mod kafka;
mod outage;
mod refused;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook::config::{JournalSettings, KafkaSettings, Sinks};
use daybook::deliver::{Delivery, SinkStatus, sink_names};
use daybook::journal::{Journal, Position, Tail};
use daybook::record::{Attributes, Record, Value};

use crate::support::eventually;
use crate::support::kafka::{assert_complete, consume};

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
        let delivery = Delivery::start(&journal, sinks, INSTANCE, dir, None).expect("delivery starts");
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

/// Waits for a status.
fn await_status(setup: &Setup, what: &str, is: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
    eventually(what, PATIENCE, || Some(setup.status()).filter(&is))
}
