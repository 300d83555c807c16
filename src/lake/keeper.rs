//! Keeps the table in order, in a thread of its own: compaction, retention, vacuum.
//!
//! It works beside the writer and beside queries: files are written and deleted outside of any lock, and its commits
//! give way to others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path as StorePath;

use super::delta::{Action, now_ms};
use super::{Lake, LakeError, compact, json, wait};
use crate::config::LakeSettings;

/// How often there may be something to compact.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often old days and old files are looked for.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

/// So much longer than data files the log's own are kept once a checkpoint sums them up, ms.
const LOG_KEPT: i64 = 7 * 86_400_000;

/// The thread. Dropped, it ends after what it is doing.
pub struct Keeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(lake: Arc<Lake>, settings: &LakeSettings) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let settings = settings.clone();
        let thread = std::thread::Builder::new()
            .name("lake-keeper".to_owned())
            .spawn(move || keep(&lake, &settings, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the lake's keeper had panicked");
        }
    }
}

fn keep(lake: &Lake, settings: &LakeSettings, stopped: &mpsc::Receiver<()>) {
    let mut cleaned: Option<Instant> = None;
    while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        // One merge at a time, so that a stop is not waited for long.
        report("compaction", lake.compact());
        if cleaned.is_none_or(|at| at.elapsed() >= CLEAN_EVERY) {
            cleaned = Some(Instant::now());
            report("retention", lake.retain(settings.keep.0));
            report("vacuum", lake.vacuum(settings.vacuum_after.0));
        }
    }
}

fn report<T: std::fmt::Debug>(what: &str, outcome: Result<T, LakeError>) {
    match outcome {
        Ok(done) => tracing::debug!(what, ?done, "the lake was looked after"),
        // Somebody was quicker: it is looked at again.
        Err(LakeError::Contended) => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(what, %error, cause, "the lake could not be looked after; it is tried again");
        }
    }
}

impl Lake {
    /// Makes one file of several small ones, if there are enough; how many there were.
    ///
    /// # Errors
    /// A file is missing or damaged, or the store refused; the table is as before.
    pub fn compact(&self) -> Result<usize, LakeError> {
        let today = json::time(now_ms().saturating_mul(1000));
        let Some(inputs) = compact::choose(&self.view().snapshot, &today[..10], &self.not_merged()) else {
            return Ok(0);
        };
        let output = compact::merge(&self.folder, &inputs).inspect_err(|_| {
            // One of them is damaged, or the disk is full: the others of the day and other days are not held up.
            self.not_merged().extend(inputs.iter().map(|add| add.path.clone()));
        })?;
        let written = output.path.clone();
        let still_right = |snapshot: &super::Snapshot| compact::still_there(snapshot, &inputs);
        let outcome = self.commit(compact::actions(&inputs, output), "OPTIMIZE", still_right, |_| {});
        if let Err(LakeError::Contended) = outcome {
            // Surely not committed. After any other error it may be: a commit that landed can be reported as failed.
            _ = self.delete(&written);
        }
        outcome.map(|()| inputs.len())
    }

    /// Takes days out of the table that ended longer than `keep` ago (zero: none); how many files they had.
    ///
    /// # Errors
    /// The store refused.
    pub fn retain(&self, keep: Duration) -> Result<usize, LakeError> {
        if keep.is_zero() {
            return Ok(0);
        }
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let first = json::time(now_ms().saturating_mul(1000).saturating_sub(keep));
        let snapshot = self.view().snapshot;
        let old = snapshot.files.values().filter(|add| add.day().is_some_and(|day| day < &first[..10]));
        let actions: Vec<Action> = old.map(|add| add.removal(true)).collect();
        let files = actions.len();
        if files > 0 {
            self.commit(actions, "DELETE", |_| true, |_| {})?;
            tracing::info!(files, before = &first[..10], "days were taken out of the lake: they are older than `keep`");
        }
        Ok(files)
    }

    /// Deletes data files that left the table longer than `after` ago, and those that a crash left behind; how many.
    /// Until then older versions of the table can still be read.
    ///
    /// # Errors
    /// The store refused.
    pub fn vacuum(&self, after: Duration) -> Result<usize, LakeError> {
        let before = now_ms().saturating_sub(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let listed: Vec<_> = {
            let all = self.store.list(None).map_ok(|meta| (meta.location, meta.last_modified.timestamp_millis()));
            wait(all.try_collect()).map_err(|e| LakeError::store(&StorePath::default(), e))?
        };
        // Looked at after the listing: what was committed meanwhile, by others too, is known.
        self.refresh()?;
        let snapshot = self.view().snapshot;
        let known: BTreeSet<String> = snapshot.files.values().map(|add| add.file_name()).collect();
        let removed: BTreeMap<String, i64> =
            snapshot.removed.iter().map(|(path, at)| (super::delta::file_name(path), *at)).collect();
        let mut deleted = 0;
        for (path, modified) in listed {
            let name = path.to_string();
            let since = match name.strip_prefix("_delta_log/") {
                Some(name) if snapshot.is_superseded(name) => modified.saturating_add(LOG_KEPT),
                None if name.ends_with(".parquet") && !known.contains(&name) => {
                    *removed.get(&name).unwrap_or(&modified)
                }
                _ => continue,
            };
            if since < before {
                self.delete(&name)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    fn delete(&self, name: &str) -> Result<(), LakeError> {
        let path = StorePath::parse(name).map_err(|e| LakeError::corrupt(name, e))?;
        wait(self.store.delete(&path)).map_err(|e| LakeError::store(&path, e))
    }
}
