//! The way in: records become visible at once, and durable in the table a batch at a time.

use std::sync::Arc;

use arrow_select::concat::concat_batches;

use super::row::{NotARecord, Rows};
use super::{Action, Lake, LakeError, State, Txn, app_id, data_file, delta, schema};

/// Adds records to a lake. One a lake.
pub struct Writer {
    lake: Arc<Lake>,
    rows: Rows,
    /// Records in the hot tail, those not yet shown included.
    records: usize,
    /// Bytes of JSON they came from: about what they take in memory.
    bytes: usize,
}

impl Writer {
    /// Writes into `lake`.
    pub fn new(lake: Arc<Lake>) -> Self {
        Self { lake, rows: Rows::default(), records: 0, bytes: 0 }
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
            self.lake.state().hot.push(batch);
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
        let State { hot, snapshot: before } = self.lake.view();
        let mut actions = Vec::new();
        if !hot.is_empty() {
            let rows = concat_batches(&schema::arrow(), &hot)?;
            for (date, rows) in data_file::by_day(&rows)? {
                let add = self.lake.put(data_file::write(date, &rows)?)?;
                actions.push(Action { add: Some(add), ..Action::default() });
            }
        }
        for (epoch, seq) in reached {
            let version = i64::try_from(*seq).unwrap_or(i64::MAX);
            let txn = Txn { app_id: app_id(instance, *epoch), version, last_updated: Some(delta::now_ms()) };
            actions.push(Action { txn: Some(txn), ..Action::default() });
        }
        // Somebody with our name has committed, or we have and were not told: some of what we hold is in the table.
        let still_right = |now: &delta::Snapshot| {
            let mut ids = reached.iter().map(|(epoch, _)| app_id(instance, *epoch));
            ids.all(|id| now.txns.get(&id) == before.txns.get(&id))
        };
        self.lake.commit(actions, "WRITE", still_right, |shown| drop(shown.drain(..hot.len())))?;
        self.records = 0;
        self.bytes = 0;
        Ok(())
    }

    /// Forgets what no commit holds.
    pub fn forget(&mut self) {
        self.rows = Rows::default();
        self.lake.state().hot.clear();
        self.records = 0;
        self.bytes = 0;
    }
}
