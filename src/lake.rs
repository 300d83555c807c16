//! The lake: one table of all records, in an open format, with a hot tail in memory.
//!
//! ```text
//! journal ═ Writer ─ hot tail ─ seal → data files (Parquet) → commit (Delta log)
//!                        └──────────── query ───────────────┘
//! ```
//!
//! - **Each record is in the table exactly once.** A commit says with its data files how far the journal has come (a
//!   Delta `txn`); a restart goes on from there.
//! - **Nothing is invisible.** A record is answered from memory from the moment it was read from the journal until the
//!   commit that holds it is seen; both change places under one lock.
//! - **The table is anybody's.** Delta readers see it without Daybook; the columns stand in [`schema`].
//! - Querying never waits for writing: a query works on a snapshot, files are never changed in place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt as _};

mod compact;
mod data_file;
mod delta;
mod json;
mod keeper;
mod order;
mod query;
mod row;
pub mod schema;
mod writer;

pub use json::{Cell, Records, time};
pub use keeper::Keeper;
pub use query::{By, Cancel, Condition, Count, Cursor, Field, Filter, Page, Query, Test};
pub use row::NotARecord;
pub use writer::Writer;

use delta::{Action, Add, Log, Snapshot, Txn};

/// A table, open for queries and, by one [`Writer`], for more records.
pub struct Lake {
    folder: PathBuf,
    store: Arc<dyn ObjectStore>,
    log: Log,
    state: Mutex<State>,
    /// Held while a commit is made and shown, so that of two of ours the later one is shown last.
    committing: Mutex<()>,
    /// Data files that could not be merged, since the start.
    not_merged: Mutex<BTreeSet<String>>,
}

/// What a query sees: both at one moment.
#[derive(Clone, Default)]
struct State {
    snapshot: Arc<Snapshot>,
    /// Records that no commit holds yet, oldest batch first.
    hot: Vec<RecordBatch>,
}

/// What can go wrong with the lake. Capture goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The store said no.
    #[error("the lake: {path}")]
    Store {
        /// Which object.
        path: String,
        /// Why.
        source: object_store::Error,
    },
    /// A file is not what it should be.
    #[error("the lake: {path} is damaged")]
    Corrupt {
        /// Which file.
        path: String,
        /// How.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another engine did something to the table that we do not understand.
    #[error("the lake: this table is not one that daybook writes: {0}")]
    Foreign(String),
    /// Other writers committed first, again and again.
    #[error("the lake: other writers always came first; it is tried again later")]
    Contended,
    /// Parquet.
    #[error("the lake: a data file can't be made")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow.
    #[error("the lake: rows can't be put together")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A query makes no sense.
    #[error("{0}")]
    Query(String),
    /// Nobody waits for the answer any more.
    #[error("the query was cancelled")]
    Cancelled,
}

impl LakeError {
    fn store(path: &StorePath, source: object_store::Error) -> Self {
        Self::Store { path: path.to_string(), source }
    }

    fn corrupt(path: impl ToString, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Corrupt { path: path.to_string(), source: source.into() }
    }

    /// Whatever is wrong with a file, it has a name.
    fn of_file(self, path: &str) -> Self {
        match self {
            Self::Parquet(error) => Self::corrupt(path, error),
            Self::Arrow(error) => Self::corrupt(path, error),
            other => other,
        }
    }
}

// === impl Lake ===

impl Lake {
    /// Opens the table in `folder`, or what will be one. The folder is made; the table is made by the first commit.
    ///
    /// # Errors
    /// The folder can't be made or read, or holds a table that is not ours.
    pub fn open(folder: &Path) -> Result<Arc<Self>, LakeError> {
        std::fs::create_dir_all(folder).map_err(|e| LakeError::corrupt(folder.display(), e))?;
        Self::read(folder)
    }

    /// Opens the table in `folder` only to ask it: nothing is made. Where there is no folder, it is empty.
    ///
    /// # Errors
    /// The folder can't be read, or holds a table that is not ours.
    pub fn read(folder: &Path) -> Result<Arc<Self>, LakeError> {
        let (folder, store): (PathBuf, Arc<dyn ObjectStore>) = match folder.canonicalize() {
            Ok(folder) => {
                let store = LocalFileSystem::new_with_prefix(&folder)
                    .map_err(|e| LakeError::store(&StorePath::default(), e))?
                    // A commit that was reported is found again after a power cut.
                    .with_fsync(true);
                (folder, Arc::new(store))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (folder.to_owned(), Arc::new(InMemory::new()))
            }
            Err(error) => return Err(LakeError::corrupt(folder.display(), error)),
        };
        let log = Log::new(Arc::clone(&store), StorePath::default());
        let snapshot = Arc::new(wait(log.snapshot())?);
        let state = Mutex::new(State { snapshot, hot: Vec::new() });
        Ok(Arc::new(Self { folder, store, log, state, committing: Mutex::default(), not_merged: Mutex::default() }))
    }

    /// How far a journal has come: the last epoch and sequence number of `instance` in the table.
    pub fn reached(&self, instance: &str) -> Option<(u64, u64)> {
        let snapshot = Arc::clone(&self.state().snapshot);
        let reached = snapshot.txns.values().filter_map(|txn| {
            let (name, epoch) = split_app_id(&txn.app_id)?;
            (name == instance).then_some((epoch, u64::try_from(txn.version).ok()?))
        });
        reached.max()
    }

    /// How far the only journal in the table has come; `None` where it holds several, or none.
    pub fn reached_by_the_only_journal(&self) -> Option<(u64, u64)> {
        let snapshot = Arc::clone(&self.state().snapshot);
        let mut instances: Vec<&str> = snapshot.txns.keys().filter_map(|id| Some(split_app_id(id)?.0)).collect();
        instances.dedup();
        match instances[..] {
            [instance] => self.reached(instance),
            _ => None,
        }
    }

    /// Records in data files, and in memory.
    pub fn len(&self) -> (u64, u64) {
        let state = self.view();
        let in_file = |add: &Arc<Add>| query::bounds(add).map_or(0, |bounds| bounds.rows);
        (state.snapshot.files.values().map(in_file).sum(), state.hot.iter().map(|batch| batch.num_rows() as u64).sum())
    }

    /// Whether there is no record at all.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Sees what other processes have committed; whether there was anything.
    ///
    /// # Errors
    /// The log can't be read, or another engine did what we do not understand.
    pub fn refresh(&self) -> Result<bool, LakeError> {
        let _alone = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.view().snapshot);
        let changed = wait(self.log.update(&mut snapshot))?;
        if changed {
            self.state().snapshot = Arc::new(snapshot);
        }
        Ok(changed)
    }

    /// Commits `actions`, where they are `still_right` on top of what others committed, and shows them to queries
    /// together with what `change` does to the hot tail.
    fn commit(
        &self,
        actions: Vec<Action>,
        operation: &str,
        still_right: impl Fn(&Snapshot) -> bool,
        change: impl FnOnce(&mut Vec<RecordBatch>),
    ) -> Result<(), LakeError> {
        let _alone = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.view().snapshot);
        let before = snapshot.version;
        let outcome = wait(self.log.commit(&mut snapshot, actions, operation, still_right));
        let mut state = self.state();
        if snapshot.version > before {
            // Also where it failed: then others came first, and what they did is seen.
            state.snapshot = Arc::new(snapshot);
        }
        if outcome.is_ok() {
            change(&mut state.hot);
        }
        outcome
    }

    /// Stores a data file; no commit knows of it yet.
    fn put(&self, file: data_file::DataFile<Vec<u8>>) -> Result<Add, LakeError> {
        let path = new_path(&file.date);
        let at = StorePath::parse(&path).map_err(|e| LakeError::corrupt(&path, e))?;
        let size = file.written.len() as u64;
        wait(self.store.put(&at, file.written.into())).map_err(|e| LakeError::store(&at, e))?;
        Ok(added(path, &file.date, size, file.stats))
    }

    fn not_merged(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.not_merged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is at this moment.
    fn view(&self) -> State {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked elsewhere, both of its parts are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new data file's path in the table.
fn new_path(date: &str) -> String {
    format!("{}={date}/part-{}.zstd.parquet", schema::DATE, uuid::Uuid::now_v7())
}

/// What the log says of a new data file of `size` bytes.
fn added(path: String, date: &str, size: u64, stats: String) -> Add {
    Add {
        path,
        partition_values: [(schema::DATE.to_owned(), Some(date.to_owned()))].into(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        modification_time: delta::now_ms(),
        data_change: true,
        stats: Some(stats),
    }
}

/// The name of a journal in the log: an epoch is a sequence of its own.
fn app_id(instance: &str, epoch: u64) -> String {
    format!("daybook/{instance}/{epoch}")
}

fn split_app_id(app_id: &str) -> Option<(&str, u64)> {
    let (instance, epoch) = app_id.strip_prefix("daybook/")?.rsplit_once('/')?;
    Some((instance, epoch.parse().ok()?))
}

/// Waits for the store. A local one works in the calling thread.
fn wait<T>(work: impl Future<Output = T>) -> T {
    futures_executor::block_on(work)
}

#[cfg(test)]
mod tests;
