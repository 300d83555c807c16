//! The way in: records become visible at once, and durable in the table a batch at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;

use super::row::{NotARecord, Rows};
use super::{Action, Lake, LakeError, Txn, app_id, data_file, delta, schema, split_app_id};

/// Adds records to a lake. One a lake.
pub struct Writer {
    lake: Arc<Lake>,
    rows: Rows,
    /// Records in the hot tail, those not yet shown included.
    records: usize,
    /// Bytes of JSON they came from: about what they take in memory.
    bytes: usize,
    /// How far the journals had come when this writer last began or committed: whatever the table says beyond that,
    /// somebody else has written, or we have and were not told.
    known: BTreeMap<String, Txn>,
}

impl Writer {
    /// Writes into `lake`.
    pub fn new(lake: Arc<Lake>) -> Self {
        let known = lake.view().snapshot.txns.clone();
        Self { lake, rows: Rows::default(), records: 0, bytes: 0, known }
    }

    /// Takes a record. It is visible after [`Writer::show`].
    ///
    /// # Errors
    /// It is not a record of schema `daybook/1`; nothing was added.
    pub fn push(&mut self, record: &[u8]) -> Result<(), NotARecord> {
        self.rows.push(record)?;
        self.records += 1;
        self.bytes += record.len();
        Ok(())
    }

    /// Lets queries see what was taken.
    pub fn show(&mut self) {
        if !self.rows.is_empty() {
            let batch = self.rows.finish();
            let mut state = self.lake.state();
            state.hot.push(batch);
            join_small(&mut state.hot);
        }
    }

    /// Bytes of JSON that were taken and are not yet shown.
    pub fn unshown_bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// Records that no commit holds.
    pub fn records(&self) -> usize {
        self.records
    }

    /// About the memory they take, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Commits all that was taken: as data files, with how far the journal of `instance` has come in each of its epochs.
    /// An error leaves everything as it was: visible, and to be committed.
    ///
    /// # Errors
    /// The store refused, or other writers came first too often, or ([`LakeError::Contended`] as well) one of them was
    /// the same journal's: then begin again behind what the table has.
    pub fn seal(&mut self, instance: &str, reached: &[(u64, u64)]) -> Result<(), LakeError> {
        self.show();
        let hot = self.lake.view().hot;
        let mut actions: Vec<Action> = Vec::new();
        if !hot.is_empty() {
            let rows = concat_batches(&schema::arrow(), &hot)?;
            for (date, rows) in data_file::by_day(&rows)? {
                let add = self.lake.put(data_file::write(date, &rows)?)?;
                actions.push(add.into());
            }
        }
        for (epoch, seq) in reached {
            let version = i64::try_from(*seq).unwrap_or(i64::MAX);
            let txn = Txn { app_id: app_id(instance, *epoch), version, last_updated: Some(delta::now_ms()) };
            actions.push(txn.into());
        }
        let committed: Vec<Txn> = actions.iter().filter_map(|action| action.txn.clone()).collect();
        // If not, some of what we hold is in the table already.
        let still_right = |now: &delta::Snapshot| of_journal(&now.txns, instance).eq(of_journal(&self.known, instance));
        self.lake.commit(actions, "WRITE", still_right, |shown| drop(shown.drain(..hot.len())))?;
        self.known.extend(committed.into_iter().map(|txn| (txn.app_id.clone(), txn)));
        self.records = 0;
        self.bytes = 0;
        Ok(())
    }

    /// Forgets what no commit holds.
    pub fn forget(&mut self) {
        self.rows = Rows::default();
        let mut state = self.lake.state();
        state.hot.clear();
        self.known = state.snapshot.txns.clone();
        drop(state);
        self.records = 0;
        self.bytes = 0;
    }
}

/// Rows of a batch that is joined with no other.
const LARGE: usize = 8192;

/// Joins the last batches where they are small: a batch has some kilobytes beside its rows. Each row is copied once for
/// each doubling.
fn join_small(hot: &mut Vec<RecordBatch>) {
    while let [.., before, last] = &hot[..]
        && before.num_rows() < LARGE
        && before.num_rows() <= 2 * last.num_rows()
        && let Ok(joined) = concat_batches(&schema::arrow(), [before, last])
    {
        hot.truncate(hot.len() - 2);
        hot.push(joined);
    }
}

/// How far a journal has come in each of its epochs.
fn of_journal<'t>(txns: &'t BTreeMap<String, Txn>, instance: &'t str) -> impl Iterator<Item = (&'t str, i64)> {
    let ours = move |id: &str| split_app_id(id).is_some_and(|(name, _)| name == instance);
    txns.iter().filter(move |(id, _)| ours(id)).map(|(id, txn)| (id.as_str(), txn.version))
}
