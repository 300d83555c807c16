//! The order of records in the lake: newest first, and total, since no two records have the same key.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{PrimitiveArray, RecordBatch, StringArray};

use super::schema::{self, COLUMNS};

/// A record's place: time (µs since 1970), instance, epoch, seq. Newer ones are greater.
pub(super) type Key<'r> = (i64, &'r str, i64, i64);

/// The keys of a batch's rows.
#[derive(Clone)]
pub(super) struct Keys {
    times: PrimitiveArray<TimestampMicrosecondType>,
    instances: StringArray,
    epochs: PrimitiveArray<Int64Type>,
    seqs: PrimitiveArray<Int64Type>,
}

impl Keys {
    /// `None` where a column is missing or of another type: no rows of ours.
    pub(super) fn new(rows: &RecordBatch) -> Option<Self> {
        let column = |at: usize| rows.column_by_name(COLUMNS[at].name);
        Some(Self {
            times: column(schema::TIME)?.as_primitive_opt().cloned()?,
            instances: column(schema::INSTANCE)?.as_string_opt().cloned()?,
            epochs: column(schema::EPOCH)?.as_primitive_opt().cloned()?,
            seqs: column(schema::SEQ)?.as_primitive_opt().cloned()?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.seqs.values().len()
    }

    pub(super) fn key(&self, row: usize) -> Key<'_> {
        (self.times.value(row), self.instances.value(row), self.epochs.value(row), self.seqs.value(row))
    }
}
