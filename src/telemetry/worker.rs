//! Counters that cost a worker a plain addition.
//!
//! Each worker has a block of numbers of its own, alone on its cache lines. Only the worker writes
//! there, so an addition is a load and a store (no locked instruction), and a scrape reads all blocks
//! without disturbing anybody: a number may be one request old, never torn.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::record::End;

/// Counts what one thread does.
#[derive(Debug)]
pub struct Worker {
    block: Arc<Block>,
    /// Not `Sync`: a second writer would lose counts.
    single: PhantomData<Cell<()>>,
}

/// A kind of record, as an index. See [`Metrics::kind`](super::Metrics::kind).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub(super) u8);

/// Kinds counted apart; further ones are counted together.
pub(super) const KINDS: usize = 64;

/// Request methods counted apart; the last stands for all others.
pub(super) const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// Classes of status; the first is for exchanges that were sent none.
pub(super) const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// How exchanges end, in the order of [`end_index`].
pub(super) const ENDS: [&str; End::ALL.len()] = {
    let mut words = [""; End::ALL.len()];
    let mut index = 0;
    while index < words.len() {
        words[index] = End::ALL[index].as_str();
        index += 1;
    }
    words
};
/// Upper bounds of the duration histogram, µs; the last bucket has none. From a fast local answer to a slow report.
pub(super) const BOUNDS_US: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

const REQUESTS: usize = METHODS.len() * STATUSES.len() * ENDS.len();
/// Requests by class, histogram buckets, the histogram's sum, connections opened and closed.
const PER_LISTENER: usize = REQUESTS + BOUNDS_US.len() + 1 + 3;

/// Two cache lines: x86 fetches them in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Line([AtomicU64; 16]);

/// One worker's numbers.
#[derive(Debug)]
pub(super) struct Block {
    listeners: usize,
    lines: Box<[Line]>,
}

/// One listener's numbers, added up.
pub(super) struct Sum {
    /// By method, status and end.
    pub(super) requests: Vec<u64>,
    /// One for each of [`BOUNDS_US`], and one more.
    pub(super) buckets: Vec<u64>,
    /// All durations, µs.
    pub(super) duration_us: u64,
    /// Connections open now.
    pub(super) open: u64,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(block: Arc<Block>) -> Self {
        Self { block, single: PhantomData }
    }

    /// An exchange has ended. `listener` is its place in the list that [`Metrics::new`](super::Metrics::new) was given.
    pub fn exchange(&self, listener: usize, method: &http::Method, status: Option<u16>, end: End, took: Duration) {
        if listener >= self.block.listeners {
            return;
        }
        let at = listener * PER_LISTENER;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.block.add(at + request_index(method, status, end), 1);
        self.block.add(at + REQUESTS + BOUNDS_US.partition_point(|bound| *bound < us), 1);
        self.block.add(at + REQUESTS + BOUNDS_US.len() + 1, us);
    }

    /// A client has connected.
    pub fn connected(&self, listener: usize) {
        if listener < self.block.listeners {
            self.block.add((listener + 1) * PER_LISTENER - 2, 1);
        }
    }

    /// A client's connection is closed.
    pub fn disconnected(&self, listener: usize) {
        if listener < self.block.listeners {
            self.block.add((listener + 1) * PER_LISTENER - 1, 1);
        }
    }

    /// A record was handed to the journal.
    pub fn record(&self, kind: Kind) {
        self.block.add(self.block.listeners * PER_LISTENER + usize::from(kind.0), 1);
    }
}

/// The place of an exchange among the [`REQUESTS`].
fn request_index(method: &http::Method, status: Option<u16>, end: End) -> usize {
    let status = status.map_or(0, |status| usize::from((status / 100).clamp(1, 5)));
    (method_index(method) * STATUSES.len() + status) * ENDS.len() + end_index(end)
}

/// The place in [`METHODS`].
fn method_index(method: &http::Method) -> usize {
    match *method {
        http::Method::GET => 0,
        http::Method::HEAD => 1,
        http::Method::POST => 2,
        http::Method::PUT => 3,
        http::Method::PATCH => 4,
        http::Method::DELETE => 5,
        http::Method::OPTIONS => 6,
        _ => METHODS.len() - 1,
    }
}

/// The place in [`ENDS`], which is that of its declaration.
fn end_index(end: End) -> usize {
    end as usize
}

// === impl Block ===

impl Block {
    pub(super) fn new(listeners: usize) -> Self {
        let lines = (listeners * PER_LISTENER + KINDS).div_ceil(16);
        Self { listeners, lines: (0..lines).map(|_| Line::default()).collect() }
    }

    fn number(&self, index: usize) -> &AtomicU64 {
        &self.lines[index / 16].0[index % 16]
    }

    /// For the one thread that writes here.
    fn add(&self, index: usize, more: u64) {
        let number = self.number(index);
        number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
    }

    fn read(&self, index: usize) -> u64 {
        self.number(index).load(Relaxed)
    }
}

/// One listener's numbers over all workers.
pub(super) fn sum(blocks: &[Arc<Block>], listener: usize) -> Sum {
    let total = |offset: usize| {
        blocks.iter().map(|block| block.read(listener * PER_LISTENER + offset)).fold(0_u64, u64::wrapping_add)
    };
    Sum {
        requests: (0..REQUESTS).map(total).collect(),
        buckets: (REQUESTS..=REQUESTS + BOUNDS_US.len()).map(total).collect(),
        duration_us: total(REQUESTS + BOUNDS_US.len() + 1),
        // A connection may be closed between the two readings.
        open: total(PER_LISTENER - 2).saturating_sub(total(PER_LISTENER - 1)),
    }
}

/// One kind's records over all workers.
pub(super) fn records(blocks: &[Arc<Block>], kind: usize) -> u64 {
    blocks.iter().map(|block| block.read(block.listeners * PER_LISTENER + kind)).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_their_indexes_say() {
        for (index, name) in METHODS.iter().enumerate() {
            let method = http::Method::from_bytes(name.as_bytes()).expect("a token");
            assert_eq!(method_index(&method), index, "{name}");
        }
        for end in End::ALL {
            let name = serde_json::to_string(&end).expect("a word");
            assert_eq!(format!("\"{}\"", ENDS[end_index(end)]), name, "metrics and records use the same words");
        }
    }
}
