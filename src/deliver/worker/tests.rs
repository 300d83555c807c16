//! A worker over a real journal with a sink that follows a script.

use std::collections::VecDeque;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::JournalSettings;
use crate::deliver::watermark::Watermark;
use crate::record::{Attributes, Record};

/// What the sink does with the next record offered; takes it when the script is over.
#[derive(Clone, Copy, Debug)]
enum Step {
    Take,
    Full,
    Retry,
    Again,
    /// Takes it, and then acknowledges the newest record first.
    Newest,
}

#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<u64>>>);

struct Scripted {
    script: VecDeque<Step>,
    watermark: Watermark,
    waiting: Vec<(u64, u64)>,
    arrivals: Arrivals,
    delivered: u64,
    backwards: bool,
}

impl Sink for Scripted {
    fn send(&mut self, entry: &Entry<'_>) -> Result<Sent, Trouble> {
        let step = self.script.pop_front().unwrap_or(Step::Take);
        match step {
            Step::Full if !self.waiting.is_empty() => return Ok(Sent::Full),
            Step::Retry => return Err(Trouble::Retry("as the script says".to_owned())),
            Step::Again => return Err(Trouble::Again),
            Step::Newest => self.backwards = true,
            Step::Take | Step::Full => {}
        }
        self.waiting.push((self.watermark.sent(entry), entry.position.seq));
        Ok(Sent::Taken)
    }

    /// One acknowledgement at a time.
    fn serve(&mut self, _: Duration) -> Result<Option<String>, Trouble> {
        if !self.waiting.is_empty() {
            let newest = if self.backwards { self.waiting.len() - 1 } else { 0 };
            let (ticket, seq) = self.waiting.remove(newest);
            self.arrivals.0.lock().expect("no panic").push(seq);
            self.delivered += self.watermark.arrived(ticket);
        }
        Ok(None)
    }

    fn reached(&self) -> Option<Position> {
        self.watermark.reached()
    }

    fn in_flight(&self) -> usize {
        self.watermark.in_flight()
    }

    fn delivered(&self) -> u64 {
        self.delivered
    }

    fn rewind(&mut self) {
        self.watermark.rewind();
        self.waiting.clear();
    }
}

fn journal(dir: &Path) -> Arc<Journal> {
    let (journal, _) = Journal::open(dir, &JournalSettings::default(), "i", &["scripted"]).expect("a journal");
    Arc::new(journal)
}

/// Runs a worker with this script until everything is delivered or `patience` is over.
fn run(journal: &Arc<Journal>, script: Vec<Step>, patience: Duration) -> (Vec<u64>, SinkStatus) {
    let arrivals = Arrivals::default();
    let sink = Scripted {
        script: script.into(),
        watermark: Watermark::default(),
        waiting: Vec::new(),
        arrivals: arrivals.clone(),
        delivered: 0,
        backwards: false,
    };
    let board = Arc::new(Board::new("scripted"));
    let stop = Arc::new(Stop::default());
    // Asked before it runs: it goes on until nothing is left.
    stop.ask(Instant::now() + patience);
    let worker = Worker {
        name: "scripted",
        journal: Arc::clone(journal),
        sink,
        board: Arc::clone(&board),
        stop,
        course: Course::new(),
    };
    worker.run();
    (std::mem::take(&mut *arrivals.0.lock().expect("no panic")), board.read())
}

fn fill(journal: &Journal, records: usize) {
    let lane = journal.lane();
    let mut payload = Vec::new();
    Record::own("panel", Attributes::default()).encode(&mut payload);
    (0..records).for_each(|_| lane.append(&payload).expect("the journal takes it"));
    journal.flush().expect("flushed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_a_sink_does_every_record_arrives_and_the_cursor_passes_none_that_has_not(
        script in prop::collection::vec(
            prop_oneof![
                12 => Just(Step::Take),
                4 => Just(Step::Full),
                4 => Just(Step::Newest),
                1 => Just(Step::Again),
            ],
            0..80,
        ),
        retry_at in prop::option::of(0usize..40),
        records in 1usize..40,
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let journal = journal(dir.path());
        fill(&journal, records);
        let mut script = script;
        if let Some(at) = retry_at {
            script.insert(at.min(script.len()), Step::Retry);
        }
        let (arrived, status) = run(&journal, script, Duration::from_secs(20));
        let mut seqs = arrived.clone();
        seqs.sort_unstable();
        seqs.dedup();
        prop_assert_eq!(&seqs, &(1..=records as u64).collect::<Vec<_>>(), "all arrive: {:?}", arrived);
        prop_assert!(status.drained);
        prop_assert_eq!(status.lag, None);
        let cursor = journal.tail("scripted").position();
        prop_assert_eq!(cursor.seq, records as u64 + 1, "the cursor stands behind the last");
    }
}

#[test]
fn a_sink_rests_until_enough_has_come_together_but_never_long() {
    let rests = |bytes_a_second: usize| {
        let mut course = Course::new();
        let mut rests = Vec::new();
        for _ in 0..5 {
            let mut waiting = bytes_a_second * course.nap.as_millis() as usize / 1000;
            while waiting >= READ {
                assert_eq!(course.rest(READ), Duration::ZERO, "there is more to read");
                waiting -= READ;
            }
            let mut rest = course.rest(waiting);
            if rest.is_zero() {
                // A read that looked full and was the last.
                rest = course.rest(0);
            }
            rests.push(rest.as_millis());
        }
        rests
    };
    assert_eq!(rests(0), [200; 5], "it looks by itself");
    assert_eq!(rests(1 << 10), [200; 5]);
    assert_eq!(rests(1 << 20), [125; 5], "128 KiB");
    assert_eq!(rests(20 << 20), [50; 5], "at full load it stays with small batches");
}

#[test]
fn a_deadline_ends_a_sink_that_never_gets_on_and_the_cursor_stays_before_what_it_owes() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = journal(dir.path());
    fill(&journal, 5);
    let begun = Instant::now();
    let mut script = vec![Step::Take, Step::Take, Step::Full, Step::Full];
    script.extend([Step::Retry; 1000]);
    let (arrived, status) = run(&journal, script, Duration::from_millis(700));
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert_eq!(arrived, [1, 2]);
    assert!(!status.drained && status.retries > 0, "{status:?}");
    assert!(status.lag.is_some(), "the lag of what it owes is told");
    assert_eq!(journal.tail("scripted").position().seq, 3, "the rest is sent by the next process");
}
