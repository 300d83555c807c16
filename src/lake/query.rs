//! Questions to the lake, typed: which records, newest first, a page at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arrow_array::RecordBatch;

use super::delta::Add;
use super::{Lake, LakeError};

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
        page::page(&self.folder, &self.view(), query, cancel)
    }

    /// How many records fit, by time and by what fields say, in that order. `limit` and `after` do not matter.
    ///
    /// # Errors
    /// A data file is missing or damaged, or the query was cancelled.
    pub fn count(&self, query: &Query, by: &By, cancel: &Cancel) -> Result<Vec<Count>, LakeError> {
        if by.every.is_some_and(|every| every <= 0) {
            return Err(LakeError::Query("a span of time is longer than nothing".to_owned()));
        }
        let query = Query { after: None, ..query.clone() };
        count::count(&self.folder, &self.view(), &query, by, cancel)
    }
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
