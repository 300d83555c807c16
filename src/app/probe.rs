//! What the admin address tells of the rooms that were wired.

use std::sync::Arc;

use crate::deliver::{Delivery, SinkState};
use crate::journal::{Journal, LossReason};
use crate::telemetry::admin::Probe;
use crate::telemetry::{Figures, JournalFigures, Metrics, SinkFigures};

/// The rooms that are asked.
pub(super) struct Rooms {
    pub(super) journal: Arc<Journal>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) metrics: Arc<Metrics>,
}

impl Probe for Rooms {
    fn ready(&self) -> Result<(), String> {
        let status = self.journal.status();
        if let Some(poisoned) = status.poisoned {
            return Err(format!("the journal's disk failed: {poisoned}"));
        }
        if status.full {
            return Err("the journal is full".to_owned());
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        self.metrics.render(Figures { journal: self.journal_figures(), sinks: self.sink_figures() })
    }
}

impl Rooms {
    fn journal_figures(&self) -> JournalFigures {
        let status = self.journal.status();
        JournalFigures {
            bytes: status.bytes,
            max_bytes: status.max_bytes,
            epoch: u64::from(status.next.epoch),
            seq: status.next.seq.saturating_sub(1),
            written: status.written,
            oldest: status.oldest,
            lost: status.lost.iter().map(|(reason, count)| (loss(*reason), *count)).collect(),
            accepting: status.poisoned.is_none() && !status.full,
        }
    }

    /// The journal knows how old the oldest undelivered record is, delivery knows the rest.
    fn sink_figures(&self) -> Vec<SinkFigures> {
        let in_journal = self.journal.status().sinks;
        let figures = |sink: crate::deliver::SinkStatus| SinkFigures {
            lag: in_journal.iter().find(|s| s.name == sink.name).and_then(|s| s.lag).unwrap_or_default(),
            name: sink.name,
            delivered: sink.delivered,
            retries: sink.retries,
            rejected: sink.rejected,
            in_flight: sink.in_flight as u64,
            up: sink.state == SinkState::Running,
        };
        self.delivery.status().into_iter().map(figures).collect()
    }
}

fn loss(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Overrun => "overrun",
        LossReason::JournalFull => "journal_full",
        LossReason::DiskFull => "disk_full",
        LossReason::Poisoned => "poisoned",
        LossReason::Damage => "damage",
        LossReason::TooLarge => "too_large",
    }
}
