//! Questions to the lake, typed: which records, newest first, a page at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arrow_array::RecordBatch;

use super::delta::Add;
use super::{Lake, LakeError, schema};

mod count;
mod evaluate;
mod filter;
mod page;
mod prune;
mod scan;

pub use count::{By, Count};
pub use filter::{Condition, Field, Filter, Test};
pub use page::{Cursor, Page};

/// Which records, and how many of them.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Not before this moment, µs since 1970.
    pub from: Option<i64>,
    /// Before this moment, µs since 1970.
    pub to: Option<i64>,
    /// What must be true of them.
    pub filter: Filter,
    /// Only those that stand behind this one.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
}

/// Ends a query from elsewhere: its reader is gone.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// What the log says of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) rows: u64,
    /// The oldest and the newest record's time, µs.
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Cancel {
    /// Ends the query at its next row group.
    pub fn cancel(&self) {
        self.0.store(true, Relaxed);
    }

    fn check(&self) -> Result<(), LakeError> {
        if self.0.load(Relaxed) { Err(LakeError::Cancelled) } else { Ok(()) }
    }
}

impl Lake {
    /// The newest records that fit, newest first.
    ///
    /// # Errors
    /// A data file is missing or damaged, or the query was cancelled.
    pub fn page(&self, query: &Query, cancel: &Cancel) -> Result<Page, LakeError> {
        page::page(&self.folder, &self.view(), &query.narrowed(), cancel)
    }

    /// How many records fit, by time and by what fields say, in that order. `limit` and `after` do not matter.
    ///
    /// # Errors
    /// A data file is missing or damaged, or the query was cancelled.
    pub fn count(&self, query: &Query, by: &By, cancel: &Cancel) -> Result<Vec<Count>, LakeError> {
        if by.every.is_some_and(|every| every <= 0) {
            return Err(LakeError::Query("a span of time is longer than nothing".to_owned()));
        }
        let query = Query { after: None, ..query.narrowed() };
        count::count(&self.folder, &self.view(), &query, by, cancel)
    }
}

impl Query {
    /// The same query in less time: a record's id (UUIDv7) says when it was made, and that is its time.
    fn narrowed(&self) -> Self {
        let mut query = self.clone();
        if query.filter.any {
            return query;
        }
        for condition in &self.filter.conditions {
            let (Field::Column(schema::ID), Test::In(ids), false) =
                (&condition.field, &condition.test, condition.negated)
            else {
                continue;
            };
            let times: Option<Vec<i64>> = ids.iter().map(|id| time_of(id)).collect();
            let Some(times) = times else { continue };
            if let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) {
                query.from = query.from.max(Some(first - BEFORE_ID));
                let to = last + BEHIND_ID;
                query.to = Some(query.to.map_or(to, |given| given.min(to)));
            }
        }
        query
    }
}

/// A record may be of a time before that in its id: ids go on where the clock was set back. µs.
const BEFORE_ID: i64 = 86_400_000_000;
/// It is hardly of a later one: two looks at the clock, µs.
const BEHIND_ID: i64 = 5_000_000;

/// The time in a UUIDv7 (RFC 9562 section 5.7), µs; `None` for any other text.
fn time_of(id: &str) -> Option<i64> {
    let id: uuid::Uuid = id.parse().ok()?;
    let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1000))
}

/// What the log says of a file; where it says nothing (another engine wrote it), anything.
pub(super) fn bounds(add: &Add) -> Option<Bounds> {
    let stats: serde_json::Value = serde_json::from_str(add.stats.as_deref()?).ok()?;
    let time = |of: &str| super::row::parse_time(stats[of]["time"].as_str()?);
    Some(Bounds { rows: stats["numRecords"].as_u64()?, first: time("minValues")?, last: time("maxValues")? })
}

/// A batch without rows, with all columns.
pub(super) fn nothing() -> RecordBatch {
    RecordBatch::new_empty(super::schema::arrow())
}
