//! A disk in memory that fails as told, and forgets what was not synced when its power is cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Access, Disk, DiskFile};

/// The disk; clones share it.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

/// How it fails from now on.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Bytes until the disk is full.
    pub(super) room: Option<u64>,
    /// Most bytes a write takes at once.
    pub(super) short_writes: Option<usize>,
    /// Writes fail after so many bytes, and everything after that: the process is gone.
    pub(super) dies_after: Option<usize>,
    /// Writes fail.
    pub(super) write_error: bool,
    /// Syncs fail; what they should have written is forgotten, as Linux does.
    pub(super) sync_error: bool,
}

#[derive(Default)]
struct State {
    faults: Faults,
    dead: bool,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    syncs: u64,
    writes: u64,
}

#[derive(Default)]
struct Inode {
    data: Vec<u8>,
    synced: Vec<u8>,
    /// Pages that a failed sync gave up on: clean in memory, never written.
    forgotten: Vec<std::ops::Range<usize>>,
}

struct File {
    disk: FaultyDisk,
    inode: usize,
}

// === impl FaultyDisk ===

impl FaultyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// Calls so far of `write_at` and `sync`.
    pub(super) fn calls(&self) -> (u64, u64) {
        let state = self.state();
        (state.writes, state.syncs)
    }

    /// All bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.state();
        state.names.values().map(|inode| state.inodes[*inode].data.len() as u64).sum()
    }

    /// The process ended; the machine goes on and the disk is repaired.
    pub(super) fn process_crash(&self) {
        let mut state = self.state();
        state.faults = Faults::default();
        state.dead = false;
    }

    /// The power is cut: of what was not synced, each file keeps at most `keep` bytes, the last `torn` of them zeroed.
    pub(super) fn power_cut(&self, keep: usize, torn: usize) {
        self.process_crash();
        let mut state = self.state();
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            let mut data = inode.synced.clone();
            let more = inode.data.get(data.len()..).unwrap_or_default();
            data.extend_from_slice(&more[..more.len().min(keep)]);
            let zeroed = data.len().saturating_sub(torn).max(inode.synced.len());
            data[zeroed..].fill(0);
            *inode = Inode { synced: data.clone(), data, forgotten: Vec::new() };
        }
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the process is gone")) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.alive()?;
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.names.insert(name.to_owned(), inode);
        Ok(Arc::new(File { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inode = *self.state().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(File { disk: self.clone(), inode }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.names.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let state = &mut *self.disk.state();
        state.alive()?;
        state.writes += 1;
        if state.faults.write_error {
            return Err(io::Error::other("an I/O error"));
        }
        let mut n = bytes.len().min(state.faults.short_writes.unwrap_or(usize::MAX).max(1));
        if let Some(room) = &mut state.faults.room {
            n = n.min(*room as usize);
            *room -= n as u64;
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        if let Some(left) = &mut state.faults.dies_after {
            n = n.min(*left);
            *left -= n;
            state.dead = *left == 0;
        }
        let data = &mut state.inodes[self.inode].data;
        let end = offset as usize + n;
        data.resize(data.len().max(end), 0);
        data[offset as usize..end].copy_from_slice(&bytes[..n]);
        state.alive().map(|()| n)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let data = state.inodes[self.inode].data.get(offset as usize..).unwrap_or_default();
        let n = data.len().min(bytes.len());
        bytes[..n].copy_from_slice(&data[..n]);
        Ok(n)
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.alive()?;
        state.syncs += 1;
        let failing = state.faults.sync_error;
        let inode = &mut state.inodes[self.inode];
        if failing {
            inode.forgotten.push(inode.synced.len()..inode.data.len());
            return Err(io::Error::other("an I/O error"));
        }
        inode.synced = inode.data.clone();
        for pages in &inode.forgotten {
            inode.synced[pages.clone()].fill(0);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.alive()?;
        let inode = &mut state.inodes[self.inode];
        let cut = inode.data.len() as u64 - len;
        inode.data.truncate(len as usize);
        inode.synced.truncate(len as usize);
        if let Some(room) = &mut state.faults.room {
            *room += cut;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].data.len() as u64)
    }
}
