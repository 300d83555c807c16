//! One worker's counters: every exchange, recorded or not, and every record by kind.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::{self, Kind, Metrics};

use super::exchange::State;
use crate::record::End;

/// Counts without a lock and without sharing a cache line with another worker.
pub(super) struct Counters {
    metrics: Arc<Metrics>,
    worker: telemetry::Worker,
    /// Kinds this worker has met: a handful, so a list is searched faster than a map.
    kinds: RefCell<Vec<(Box<str>, Kind)>>,
}

impl Counters {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), worker: metrics.worker(), kinds: RefCell::default() }
    }

    /// An exchange has ended; one that its rule leaves out of the journal counts too.
    pub(super) fn exchange(&self, state: &State, status: Option<u16>, end: End, duration: Duration) {
        self.worker.exchange(state.connection.listener_index, &state.head.method, status, end, duration);
    }

    /// A request was refused before it became an exchange.
    pub(super) fn refused(&self, listener: usize, method: Option<&http::Method>, status: u16) {
        // Counted among the other methods.
        let unknown = http::Method::CONNECT;
        self.worker.exchange(listener, method.unwrap_or(&unknown), Some(status), End::Refused, Duration::ZERO);
    }

    /// A record was handed to the journal.
    pub(super) fn record(&self, kind: &str) {
        let mut kinds = self.kinds.borrow_mut();
        let known = kinds.iter().find(|(name, _)| **name == *kind).map(|(_, kind)| *kind);
        let kind = known.unwrap_or_else(|| {
            let index = self.metrics.kind(kind);
            kinds.push((kind.into(), index));
            index
        });
        self.worker.record(kind);
    }

    /// A client has connected to this listener.
    pub(super) fn connected(&self, listener: usize) {
        self.worker.connected(listener);
    }

    /// Its connection is closed.
    pub(super) fn disconnected(&self, listener: usize) {
        self.worker.disconnected(listener);
    }
}
