//! Bookkeeping: what the journal knows besides records, and how records tell of lost ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Hole, LossReason, Position};
use crate::config::Sync;
use crate::record::{Attributes, Record, Value, timestamp};

/// A snapshot at the head of each segment and at each start, so that older segments can be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    /// Who writes.
    pub(super) instance: String,
    /// Which boot of the machine; absent where the system does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<String>,
    /// What was promised while this was written.
    pub(super) sync: Sync,
    /// Everything before was looked through at a start, and its damage told of.
    pub(super) checked: Position,
    /// Where each sink reads next.
    pub(super) cursors: Cursors,
}

/// The next position of each sink.
pub(super) type Cursors = BTreeMap<String, Position>;

/// Names the boot of this machine: random, new with each (proc(5)).
pub(super) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The cursor of the slowest of `sinks`; one without a cursor stands before everything. `None` without sinks.
pub(super) fn slowest(cursors: &Cursors, sinks: &[String]) -> Option<Position> {
    sinks.iter().map(|sink| cursors.get(sink).copied().unwrap_or_default()).min()
}

/// Records lost by reason: in all, and not yet told of by a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    all: BTreeMap<LossReason, u64>,
    untold: BTreeMap<LossReason, Untold>,
    holes: Vec<Hole>,
}

/// Losses that go into one record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Untold {
    count: u64,
    since: std::time::SystemTime,
}

// === impl Losses ===

impl Losses {
    pub(super) fn add(&mut self, reason: LossReason, count: u64) {
        if count == 0 {
            return;
        }
        *self.all.entry(reason).or_default() += count;
        let now = std::time::SystemTime::now();
        self.untold.entry(reason).or_insert(Untold { count: 0, since: now }).count += count;
    }

    /// Damage found at the start.
    pub(super) fn add_holes(&mut self, holes: &[Hole]) {
        self.holes.extend_from_slice(holes);
        for hole in holes {
            *self.all.entry(LossReason::Damage).or_default() += hole.records;
        }
    }

    /// Everything lost since the start.
    pub(super) fn all(&self) -> Vec<(LossReason, u64)> {
        self.all.iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// There is something to tell.
    pub(super) fn any_untold(&self) -> bool {
        !self.untold.is_empty() || !self.holes.is_empty()
    }

    /// The records that tell of it, encoded. [`Losses::told`] is to be called when they are safe.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        let counted = self.untold.iter().map(|(reason, untold)| {
            let mut facts = vec![("count", number(untold.count))];
            facts.push(("since", Value::Text(timestamp(untold.since).into())));
            loss(*reason, facts)
        });
        let damaged = self.holes.iter().map(|hole| {
            let mut facts = vec![("count", number(hole.records))];
            facts.push(("first", Value::Text(hole.first.to_string().into())));
            facts.push(("segment", Value::Text(hole.segment.as_str().into())));
            facts.push(("offset", number(hole.offset)));
            facts.push(("bytes", number(hole.bytes)));
            loss(LossReason::Damage, facts)
        });
        counted.chain(damaged).collect()
    }

    /// The last [`Losses::records`] are in the journal.
    pub(super) fn told(&mut self) {
        self.untold.clear();
        self.holes.clear();
    }
}

fn loss(reason: LossReason, facts: Vec<(&str, Value<'_>)>) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.push("reason", Value::Text(reason.to_string().into()));
    for (name, value) in facts {
        attributes.push(name, value);
    }
    let mut json = Vec::with_capacity(256);
    Record::own("loss", attributes).encode(&mut json);
    json
}

fn number(n: u64) -> Value<'static> {
    Value::Number(n.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_records_are_told_of_once_by_reason_and_count() {
        let mut losses = Losses::default();
        losses.add(LossReason::Overrun, 2);
        losses.add(LossReason::Overrun, 3);
        losses.add(LossReason::DiskFull, 1);
        losses.add(LossReason::Poisoned, 0);
        let records: Vec<String> =
            losses.records().into_iter().map(|json| String::from_utf8(json).expect("UTF-8")).collect();
        assert_eq!(records.len(), 2, "one for each reason: {records:?}");
        assert!(records[0].contains(r#""kind":"loss""#), "{}", records[0]);
        assert!(records[0].contains(r#""attributes":{"reason":"overrun","count":5,"since":""#), "{}", records[0]);
        losses.told();
        assert!(!losses.any_untold(), "told once is enough");
        assert_eq!(losses.all(), [(LossReason::Overrun, 5), (LossReason::DiskFull, 1)], "metrics keep counting");
    }

    #[test]
    fn a_sink_without_a_cursor_is_the_slowest() {
        let mut cursors = Cursors::new();
        cursors.insert("a".into(), Position { epoch: 2, seq: 7 });
        assert_eq!(slowest(&cursors, &[]), None);
        assert_eq!(slowest(&cursors, &["a".into()]), Some(Position { epoch: 2, seq: 7 }));
        assert_eq!(slowest(&cursors, &["a".into(), "b".into()]), Some(Position::default()));
    }
}
