//! The log against a model, over a disk that fails: whatever happens in whatever order,
//!
//! - what was committed is there after a crash of the process, what was synced after a power cut;
//! - what was refused for want of room never appears;
//! - nothing appears twice or out of order, and `seq` has no gaps;
//! - a position that a sink may have delivered never names another record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::disk::Disk;
use super::faulty::FaultyDisk;
use super::log::Log;
use super::reader::{Item, Reader};
use super::{Position, Raised, Recovery, Refused};
use crate::config::{Bytes, JournalSettings, Span, Sync};

#[derive(Clone, Debug)]
enum Op {
    /// Stage so many records of so many bytes.
    Stage(u8, u8),
    Commit,
    Sync,
    /// The sink delivers this part (of 255) of what it can see.
    Deliver(u8),
    House,
    CleanRestart {
        power_cut: bool,
    },
    ProcessCrash,
    /// In the middle of a write.
    ProcessCrashAfter(u16),
    PowerCut {
        keep: u16,
        torn: u8,
    },
    /// So many bytes are left on the disk; `None`: as many as wanted.
    Room(Option<u16>),
    ShortWrites(u8),
    WriteError,
    SyncError,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        12 => (1u8..6, 0u8..120).prop_map(|(count, len)| Op::Stage(count, len)),
        12 => Just(Op::Commit),
        4 => Just(Op::Sync),
        4 => any::<u8>().prop_map(Op::Deliver),
        2 => Just(Op::House),
        1 => any::<bool>().prop_map(|power_cut| Op::CleanRestart { power_cut }),
        1 => Just(Op::ProcessCrash),
        2 => (1u16..900).prop_map(Op::ProcessCrashAfter),
        2 => (0u16..900, 0u8..40).prop_map(|(keep, torn)| Op::PowerCut { keep, torn }),
        1 => proptest::option::of(0u16..900).prop_map(Op::Room),
        1 => (1u8..50).prop_map(Op::ShortWrites),
        1 => Just(Op::WriteError),
        1 => Just(Op::SyncError),
    ];
    proptest::collection::vec(op, 1..80)
}

struct Model {
    disk: FaultyDisk,
    log: Log,
    settings: JournalSettings,
    sinks: Vec<String>,
    boot: u32,
    now_ms: u64,
    next_id: u64,
    staged: Vec<u64>,
    /// Committed, and how many of these are synced.
    committed: Vec<u64>,
    synced: usize,
    /// Never to be seen: there was no room.
    refused: BTreeSet<u64>,
    /// Which record a sink may know by which position. Loss records have no id.
    known: BTreeMap<Position, Option<u64>>,
    delivered: Position,
    /// Records may be missing: power was cut under `sync = "os"`, or a sync failed.
    holes: bool,
}

impl Model {
    fn new(sync: Sync, ring: bool) -> Self {
        let settings = JournalSettings {
            sync,
            max_size: Bytes(6_000),
            segment_size: Bytes(700),
            keep: Span::secs(20),
            ..JournalSettings::default()
        };
        let sinks = if ring { vec![] } else { vec!["kafka".to_owned()] };
        let disk = FaultyDisk::default();
        let log = open(&disk, &settings, &sinks, 0, 0).0;
        Self {
            disk,
            log,
            settings,
            sinks,
            boot: 0,
            now_ms: 0,
            next_id: 1,
            staged: Vec::new(),
            committed: Vec::new(),
            synced: 0,
            refused: BTreeSet::new(),
            known: BTreeMap::new(),
            delivered: Position::default(),
            holes: false,
        }
    }

    fn apply(&mut self, op: &Op) {
        self.now_ms += 1_000;
        match *op {
            Op::Stage(count, len) => self.stage(count, len),
            Op::Commit => self.commit(),
            Op::Sync => {
                if self.log.sync().is_ok() {
                    self.synced = self.committed.len();
                }
            }
            Op::Deliver(part) => self.deliver(part),
            Op::House => {
                self.commit();
                self.log.keep_house(self.now_ms);
            }
            Op::CleanRestart { power_cut } => self.clean_restart(power_cut),
            Op::ProcessCrash => self.process_crash(),
            Op::ProcessCrashAfter(bytes) => {
                self.disk.set(|faults| faults.dies_after = Some(bytes.into()));
                self.commit();
                self.process_crash();
            }
            Op::PowerCut { keep, torn } => self.power_cut(keep.into(), torn.into()),
            Op::Room(room) => self.disk.set(|faults| faults.room = room.map(u64::from)),
            Op::ShortWrites(bytes) => self.disk.set(|faults| faults.short_writes = Some(bytes.into())),
            Op::WriteError => self.disk.set(|faults| faults.write_error = true),
            Op::SyncError => self.disk.set(|faults| faults.sync_error = true),
        }
        self.log.publish();
        self.check_published();
    }

    fn stage(&mut self, count: u8, len: u8) {
        if self.staged.is_empty() {
            self.log.begin(self.now_ms);
        }
        for _ in 0..count {
            let filler = "x".repeat(len.into());
            self.log.stage(format!(r#"{{"schema":"daybook/1","filler":"{filler}","n":{}}}"#, self.next_id).as_bytes());
            self.staged.push(self.next_id);
            self.next_id += 1;
        }
    }

    fn commit(&mut self) {
        let outcome = self.log.commit();
        match outcome {
            Ok(()) => self.committed.append(&mut self.staged),
            Err(Refused::Full) => self.refused.extend(self.staged.drain(..)),
            // It may or may not be on the disk: nothing was claimed.
            Err(_) => self.staged.clear(),
        }
    }

    fn deliver(&mut self, part: u8) {
        let visible: Vec<Position> = self.known.keys().copied().filter(|at| *at >= self.delivered).collect();
        let count = visible.len() * usize::from(part) / 255;
        if let Some(last) = count.checked_sub(1).map(|i| visible[i]) {
            self.delivered = Position { seq: last.seq + 1, ..last };
            self.log.view().save_cursor("kafka", self.delivered);
            let cursors = self.log.view().lock().cursors.clone();
            self.log.move_cursors(cursors);
        }
    }

    fn clean_restart(&mut self, power_cut: bool) {
        self.commit();
        let epoch = self.log.view().lock().next.epoch;
        if self.log.close(self.now_ms).is_err() {
            return self.process_crash();
        }
        self.synced = self.committed.len();
        if power_cut {
            self.boot += 1;
            self.disk.power_cut(0, 0);
        } else {
            self.disk.process_crash();
        }
        let recovery = self.reopen();
        assert_eq!((recovery.raised, recovery.next.epoch), (None, epoch), "a clean shutdown proves continuity");
        assert_eq!((recovery.torn_bytes, recovery.holes), (0, vec![]));
        self.check_present(self.committed.len());
    }

    fn process_crash(&mut self) {
        let poisoned = self.log.refuses() == Some(Refused::Poisoned);
        let died = self.disk.list().is_ok_and(|names| !names.contains(&"poisoned".to_owned()));
        self.disk.process_crash();
        let recovery = self.reopen();
        let raised = if poisoned && !died { Some(Raised::Poisoned) } else { None };
        assert_eq!(recovery.raised, raised, "a crash of the process alone keeps the epoch");
        self.check_present(self.committed.len());
        if raised.is_some() {
            // What a failed sync should have written is in memory only, and no later sync writes it.
            self.committed.truncate(self.synced);
            self.holes = true;
        }
    }

    fn power_cut(&mut self, keep: usize, torn: usize) {
        self.disk.power_cut(keep, torn);
        self.boot += 1;
        let recovery = self.reopen();
        if self.settings.sync == Sync::Os {
            self.holes = true;
            assert!(recovery.raised.is_some(), "what sync = os promised ends with the machine");
        }
        assert!(self.holes || recovery.holes.is_empty(), "what was synced has no holes: {recovery:?}");
        self.check_present(self.synced);
        let present: BTreeSet<u64> = self.read().into_iter().filter_map(|(_, id)| id).collect();
        self.committed.retain(|id| present.contains(id));
        self.synced = self.committed.len();
    }

    fn reopen(&mut self) -> Recovery {
        self.staged.clear();
        let (log, recovery) = open(&self.disk, &self.settings, &self.sinks, self.boot, self.now_ms);
        self.log = log;
        // A cursor that was not written to disk yet is forgotten, and then delivery is repeated.
        let cursor = self.log.view().lock().cursors.get("kafka").copied().unwrap_or_default();
        assert!(cursor <= self.delivered || cursor == recovery.next, "nobody had delivered up to {cursor}");
        self.delivered = self.delivered.max(cursor);
        recovery
    }

    /// Everything on the disk, as a reader from outside sees it.
    fn read(&self) -> Vec<(Position, Option<u64>)> {
        let mut reader = Reader::over(Arc::new(self.disk.clone()));
        let mut all: Vec<(Position, Option<u64>)> = Vec::new();
        while let Some(item) = reader.next().expect("reading does not fail") {
            match item {
                Item::Record(entry) => all.push((entry.position, id(entry.payload))),
                Item::Hole(hole) => assert!(self.holes, "an unexpected hole: {hole:?}"),
            }
        }
        all
    }

    /// The first `sure` committed records are on the disk, unless they were removed from its front; once, in order.
    fn check_present(&self, sure: usize) {
        let all = self.read();
        let ids: Vec<u64> = all.iter().filter_map(|(_, id)| *id).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice: {ids:?}");
        let refused = ids.iter().find(|id| self.refused.contains(id));
        assert_eq!(refused, None, "a refused record appeared");
        let oldest = ids.first().copied().unwrap_or(u64::MAX);
        for id in self.committed[..sure].iter().filter(|id| **id >= oldest) {
            assert!(ids.contains(id), "record {id} was promised and is gone");
        }
        let undelivered = self.known.iter().filter(|(at, _)| **at >= self.delivered).filter_map(|(_, id)| *id);
        if !self.sinks.is_empty() {
            for id in undelivered.filter(|id| self.committed[..sure].contains(id)) {
                assert!(ids.contains(&id), "record {id} was removed before it was delivered");
            }
        }
        for pair in all.windows(2).filter(|pair| !self.holes && pair[0].0.epoch == pair[1].0.epoch) {
            assert_eq!(pair[0].0.seq + 1, pair[1].0.seq, "seq has no gaps");
        }
    }

    /// Whatever may be read now keeps its name for ever.
    fn check_published(&mut self) {
        let next = self.log.view().lock().next;
        for (at, id) in self.read().into_iter().filter(|(at, _)| *at < next) {
            assert_eq!(*self.known.entry(at).or_insert(id), id, "{at} names another record now");
        }
        assert!(self.log.view().status(self.now_ms).bytes <= self.disk.bytes(), "bytes are counted that are not there");
    }
}

fn open(disk: &FaultyDisk, settings: &JournalSettings, sinks: &[String], boot: u32, now_ms: u64) -> (Log, Recovery) {
    let disk = Arc::new(disk.clone());
    Log::open_at_boot(disk, settings, "panel", sinks, now_ms, Some(boot.to_string())).expect("a working disk opens")
}

fn id(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).expect("records are UTF-8");
    text.rsplit_once(r#""n":"#).map(|(_, n)| n.trim_end_matches('}').parse().expect("a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_promised_holds_whatever_happens(ops in ops(), disk: bool, ring: bool) {
        let mut model = Model::new(if disk { Sync::Disk } else { Sync::Os }, ring);
        for op in &ops {
            model.apply(op);
        }
        model.process_crash();
    }
}
