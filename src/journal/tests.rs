//! The journal as its users see it: threads, folders, restarts.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Bytes, Span, Sync, WhenFull};
use crate::record::Record;

const SOON: Duration = Duration::from_secs(10);

fn settings() -> JournalSettings {
    JournalSettings { linger: Span::millis(2), ..JournalSettings::default() }
}

fn tiny(max_size: u64) -> JournalSettings {
    JournalSettings { max_size: Bytes(max_size), segment_size: Bytes(max_size / 4), ..settings() }
}

fn open(dir: &Path, settings: &JournalSettings, sinks: &[&str]) -> (Journal, Recovery) {
    Journal::open(dir, settings, "panel", sinks).expect("the journal opens")
}

fn record(n: usize) -> Vec<u8> {
    format!(r#"{{"schema":"daybook/1","n":{n}}}"#).into_bytes()
}

/// Everything the tail gives until it has been silent for a moment.
fn drain(tail: &mut Tail) -> Vec<(Position, String)> {
    let mut all = Vec::new();
    loop {
        let batch = tail.next(1 << 20, Duration::from_millis(100)).expect("the tail reads");
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.iter().map(|entry| (entry.position, text(entry.payload))));
    }
}

fn text(payload: &[u8]) -> String {
    String::from_utf8(payload.to_vec()).expect("records are UTF-8")
}

fn read_folder(dir: &Path) -> (Vec<(Position, String)>, Vec<Hole>) {
    let mut reader = Reader::open(dir).expect("the folder is readable");
    let (mut records, mut holes) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next().expect("the folder reads") {
        match item {
            Item::Record(entry) => records.push((entry.position, text(entry.payload))),
            Item::Hole(hole) => holes.push(hole),
        }
    }
    (records, holes)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

/// Copies a journal's folder as a crash of the process would leave it.
fn crashed_copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for path in segments(dir) {
        std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    copy
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn at(epoch: u32, seq: u64) -> Position {
    Position { epoch, seq }
}

#[test]
fn a_record_is_delivered_as_it_was_encoded_with_its_place_in_front() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, recovery) = open(dir.path(), &settings(), &["kafka"]);
    assert_eq!(recovery, Recovery { next: at(1, 1), ..Recovery::default() });
    journal.lane().append(&record(7)).expect("taken");
    let mut tail = journal.tail("kafka");
    let batch = tail.next(1 << 20, SOON).expect("the tail reads");
    let entry = batch.iter().next().expect("one record");
    let whole = r#"{"seq":1,"epoch":1,"instance":"panel","schema":"daybook/1","n":7}"#;
    assert_eq!(text(entry.payload), whole);
    assert_eq!((entry.position, entry.next(), batch.next()), (at(1, 1), at(1, 2), at(1, 2)));
    assert!(entry.written_ms > 1_700_000_000_000, "{} is no time of today", entry.written_ms);
}

#[test]
fn what_a_real_record_becomes_reads_back_as_a_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = Journal::open(dir.path(), &settings(), "a \"name\"\n", &[]).expect("opens");
    let mut json = Vec::new();
    Record::own("start", Default::default()).encode(&mut json);
    journal.lane().append(&json).expect("taken");
    journal.close().expect("closed");
    let (records, _) = read_folder(dir.path());
    let record: Record<'_> = serde_json::from_str(&records[0].1).expect("a record");
    assert_eq!((record.seq, record.epoch), (Some(1), Some(1)));
    assert_eq!(record.instance.as_deref(), Some("a \"name\"\n"));
    assert_eq!(&*record.kind, "start");
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &[]);
    let second = Journal::open(dir.path(), &settings(), "panel", &[]).err().expect("refused");
    assert!(second.to_string().ends_with("is in use by another process"), "{second}");
    drop(journal);
    // Threads of this test process hold no lock any more once the writer is gone.
    wait_until("the lock is free", || Journal::open(dir.path(), &settings(), "panel", &[]).is_ok());
}

#[test]
fn a_clean_restart_goes_on_in_the_same_epoch_and_from_the_cursor() {
    let dir = tempfile::tempdir().expect("a folder");
    {
        let (journal, _) = open(dir.path(), &settings(), &["kafka"]);
        let lane = journal.lane();
        (1..=5).for_each(|n| lane.append(&record(n)).expect("taken"));
        journal.save_cursor("kafka", at(1, 4));
        journal.close().expect("closed");
        assert_eq!(lane.append(&record(6)), Err(Refused::Closed));
    }
    wait_until("the lock is free", || disk::Folder::lock(dir.path()).is_ok_and(|lock| lock.is_some()));
    let (journal, recovery) = open(dir.path(), &settings(), &["kafka"]);
    assert_eq!(recovery, Recovery { next: at(1, 6), ..Recovery::default() });
    journal.lane().append(&record(6)).expect("taken");
    journal.flush().expect("flushed");
    let seqs: Vec<u64> = drain(&mut journal.tail("kafka")).iter().map(|(position, _)| position.seq).collect();
    assert_eq!(seqs, [4, 5, 6], "delivery goes on where it was");
    assert_eq!(segments(dir.path()).len(), 1, "a restart alone begins no segment");
}

#[test]
fn each_lane_keeps_its_order_when_many_threads_append() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &JournalSettings { segment_size: Bytes(64 << 10), ..settings() }, &["kafka"]);
    let (lanes, each) = (4, 2_000);
    thread::scope(|scope| {
        for lane_number in 0..lanes {
            let lane = journal.lane();
            scope.spawn(move || {
                for n in 0..each {
                    lane.append(&record(lane_number * each + n)).expect("taken");
                    if n % 500 == 0 {
                        thread::sleep(Duration::from_millis(3));
                    }
                }
            });
        }
    });
    journal.flush().expect("flushed");
    let all = drain(&mut journal.tail("kafka"));
    assert_eq!(all.len(), lanes * each, "every record arrives once");
    let mut last = vec![None; lanes];
    for (i, (position, json)) in all.iter().enumerate() {
        assert_eq!(*position, at(1, i as u64 + 1), "no gaps");
        let n: usize = json.rsplit(':').next().and_then(|n| n.trim_end_matches('}').parse().ok()).expect("a number");
        let lane = n / each;
        assert!(last[lane] < Some(n), "lane {lane}: {n} came after {:?}", last[lane]);
        last[lane] = Some(n);
    }
    assert!(segments(dir.path()).len() > 3, "so many bytes fill more than one segment");
    let (records, holes) = read_folder(dir.path());
    assert_eq!((records, holes), (all, vec![]), "from outside the same is read");
}

#[test]
fn commits_resolve_on_a_single_threaded_runtime() {
    for sync in [Sync::Os, Sync::Disk] {
        let dir = tempfile::tempdir().expect("a folder");
        let (journal, _) = open(dir.path(), &JournalSettings { sync, ..settings() }, &[]);
        let lane = std::rc::Rc::new(journal.lane());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            let mut waiting = Vec::new();
            for n in 0..200 {
                let lane = std::rc::Rc::clone(&lane);
                waiting.push(tokio::task::spawn_local(async move {
                    if n % 7 == 0 {
                        // Gives up at once; the others must not notice.
                        drop(tokio::time::timeout(Duration::ZERO, lane.append_committed(&record(n))).await);
                    } else if n % 2 == 0 {
                        lane.append_durable(&record(n)).await.expect("durable");
                    } else {
                        lane.append_committed(&record(n)).await.expect("committed");
                    }
                }));
            }
            for task in waiting {
                tokio::time::timeout(SOON, task).await.expect("no task is forgotten").expect("no task panics");
            }
        });
        let crashed = crashed_copy(dir.path());
        assert_eq!(read_folder(crashed.path()).0.len(), 200, "what was committed is in the files");
    }
}

#[test]
fn a_crash_of_the_process_keeps_the_epoch_and_every_committed_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &["kafka"]);
    let lane = journal.lane();
    (1..=3).for_each(|n| lane.append(&record(n)).expect("taken"));
    journal.flush().expect("flushed");
    let crashed = crashed_copy(dir.path());
    let (again, recovery) = open(crashed.path(), &settings(), &["kafka"]);
    assert_eq!(recovery, Recovery { next: at(1, 4), ..Recovery::default() });
    assert_eq!(drain(&mut again.tail("kafka")).len(), 3);
}

#[test]
fn another_instance_in_the_same_folder_raises_the_epoch_and_delivers_what_was_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &["kafka"]);
    journal.lane().append(&record(1)).expect("taken");
    journal.close().expect("closed");
    let moved = crashed_copy(dir.path());
    let (journal, recovery) = Journal::open(moved.path(), &settings(), "other", &["kafka"]).expect("opens");
    assert_eq!((recovery.next, recovery.raised), (at(2, 1), Some(Raised::Renamed)));
    journal.lane().append(&record(2)).expect("taken");
    journal.flush().expect("flushed");
    let all = drain(&mut journal.tail("kafka"));
    assert_eq!(all[0].1, r#"{"seq":1,"epoch":1,"instance":"panel","schema":"daybook/1","n":1}"#);
    assert_eq!(all[1].1, r#"{"seq":1,"epoch":2,"instance":"other","schema":"daybook/1","n":2}"#);
}

#[test]
fn a_tail_wakes_up_for_the_first_record_after_a_long_silence() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &["kafka"]);
    let mut tail = journal.tail("kafka");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let lane = journal.lane();
        let sink = scope.spawn(|| {
            let found = tail.next(1 << 20, SOON).expect("the tail reads").len();
            done.store(true, SeqCst);
            found
        });
        // Longer than both the writer and the tail stay half awake.
        thread::sleep(Duration::from_millis(1_300));
        assert!(!done.load(SeqCst), "there was nothing to read yet");
        lane.append(&record(1)).expect("taken");
        assert_eq!(sink.join().expect("no panic"), 1);
    });
}

#[test]
fn the_lag_is_the_age_of_the_oldest_undelivered_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &["kafka", "file"]);
    assert_eq!(journal.status().sinks[0].lag, None, "nothing to deliver yet");
    let lane = journal.lane();
    lane.append(&record(1)).expect("taken");
    lane.append(&record(2)).expect("taken");
    journal.flush().expect("flushed");
    thread::sleep(Duration::from_millis(60));
    journal.save_cursor("file", at(1, 3));
    let status = journal.status();
    let lag = status.sinks[0].lag.expect("kafka has delivered nothing");
    assert!((Duration::from_millis(50)..SOON).contains(&lag), "{lag:?}");
    assert_eq!(status.sinks[1], SinkStatus { name: "file".into(), next: at(1, 3), lag: None });
    assert_eq!((status.next, status.written), (at(1, 3), 2));
}

#[test]
fn without_sinks_the_oldest_records_make_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &tiny(16 << 10), &[]);
    let lane = journal.lane();
    for n in 1..=1_000 {
        lane.append(&record(n)).expect("taken");
        if n % 20 == 0 {
            journal.flush().expect("flushed");
        }
    }
    journal.close().expect("closed");
    let status = journal.status();
    assert!(status.bytes <= 16 << 10, "{} bytes are over the budget", status.bytes);
    assert_eq!((status.lost, status.full), (vec![], false));
    let (records, holes) = read_folder(dir.path());
    assert_eq!(records.last().map(|(position, _)| position.seq), Some(1_000));
    assert!(records.len() > 50 && records[0].0.seq > 1, "the oldest are gone: {}", records.len());
    assert_eq!(holes, [], "what is deleted is no hole");
}

#[test]
fn a_full_journal_sheds_counts_and_tells_when_there_is_room_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &tiny(16 << 10), &["kafka"]);
    let lane = journal.lane();
    for n in 1..=400 {
        lane.append(&record(n)).expect("shedding refuses nobody");
        if n % 20 == 0 {
            journal.flush().expect("flushed");
        }
    }
    assert_eq!(lane.accepts(), Ok(()), "traffic goes on");
    let status = journal.status();
    assert!(status.full && status.bytes <= 16 << 10, "{status:?}");
    let lost: u64 = status.lost.iter().map(|(_, count)| count).sum();
    assert_eq!(status.written + lost, 400, "each record was written or counted");
    assert_eq!(status.lost[0].0, LossReason::JournalFull);

    let mut tail = journal.tail("kafka");
    let seen = drain(&mut tail).len();
    tail.cursor().save(tail.position());
    wait_until("there is room again", || !journal.status().full);
    lane.append(&record(401)).expect("taken");
    journal.flush().expect("flushed");
    let more = drain(&mut tail);
    assert!(more[0].1.contains(r#""kind":"loss""#), "{}", more[0].1);
    assert!(more[0].1.contains(&format!(r#""attributes":{{"reason":"journal_full","count":{lost}"#)), "{}", more[0].1);
    assert_eq!(more[0].0.seq, seen as u64 + 1, "lost records leave no gap in seq");
    assert!(more.last().expect("the new one").1.ends_with(r#""n":401}"#));
}

#[test]
fn a_full_journal_that_refuses_says_so_and_recovers() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = JournalSettings { when_full: WhenFull::Refuse, ..tiny(16 << 10) };
    let (journal, _) = open(dir.path(), &settings, &["kafka"]);
    let lane = journal.lane();
    let mut taken = 0;
    while lane.accepts().is_ok() {
        taken += usize::from(lane.append(&record(taken)).is_ok());
        journal.flush().expect("flushed");
        assert!(taken < 1_000, "the budget is never reached");
    }
    assert_eq!(lane.accepts(), Err(Refused::Full));
    assert_eq!(lane.append(&record(0)), Err(Refused::Full));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(lane.append_durable(&record(0))), Err(Refused::Full));
    let mut tail = journal.tail("kafka");
    drain(&mut tail);
    tail.cursor().save(tail.position());
    wait_until("it takes records again", || lane.accepts().is_ok());
    assert_eq!(runtime.block_on(lane.append_durable(&record(0))), Ok(()));
}

#[test]
fn delivered_segments_go_when_they_are_old_enough() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = JournalSettings { segment_size: Bytes(1_000), keep: Span::millis(1), ..settings() };
    let (journal, _) = open(dir.path(), &settings, &["kafka"]);
    let lane = journal.lane();
    for n in 0..60 {
        lane.append(&record(n)).expect("taken");
        journal.flush().expect("flushed");
    }
    let before = segments(dir.path()).len();
    assert!(before > 4, "{before} segments");
    thread::sleep(Duration::from_millis(1_200));
    assert_eq!(segments(dir.path()).len(), before, "nothing is delivered, nothing goes");
    journal.save_cursor("kafka", at(1, 61));
    wait_until("only the last segment is left", || segments(dir.path()).len() == 1);
}

#[test]
fn a_record_too_large_is_refused_and_told_of() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &[]);
    let lane = journal.lane();
    let huge = format!(r#"{{"schema":"{}"}}"#, "x".repeat(4 << 20));
    assert_eq!(lane.append(huge.as_bytes()), Err(Refused::TooLarge));
    lane.append(&record(1)).expect("taken");
    journal.close().expect("closed");
    let (records, _) = read_folder(dir.path());
    assert!(records[0].1.contains(r#""reason":"too_large","count":1"#), "{}", records[0].1);
}

#[test]
fn a_torn_end_is_cut_off_wherever_the_crash_came() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &[]);
    let lane = journal.lane();
    lane.append(&record(1)).expect("taken");
    journal.flush().expect("flushed");
    let whole = std::fs::read(&segments(dir.path())[0]).expect("readable").len();
    lane.append(&record(2)).expect("taken");
    journal.flush().expect("flushed");
    let path = segments(dir.path()).remove(0);
    let bytes = std::fs::read(&path).expect("readable");
    for cut in whole..bytes.len() {
        let torn = tempfile::tempdir().expect("a folder");
        let copy = torn.path().join(path.file_name().expect("a name"));
        std::fs::write(&copy, &bytes[..cut]).expect("written");
        let (journal, recovery) = open(torn.path(), &settings(), &[]);
        let expected = Recovery { next: at(1, 2), torn_bytes: (cut - whole) as u64, ..Recovery::default() };
        assert_eq!(recovery, expected, "cut at {cut}");
        journal.lane().append(&record(3)).expect("taken");
        journal.close().expect("closed");
        let (records, holes) = read_folder(torn.path());
        assert_eq!((records.len(), holes), (2, vec![]), "cut at {cut}");
        assert!(records[1].1.starts_with(r#"{"seq":2,"#), "{}", records[1].1);
    }
}

#[test]
fn a_hole_is_kept_reported_once_and_told_of() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &settings(), &["kafka"]);
    let lane = journal.lane();
    (1..=5).for_each(|n| lane.append(&record(n)).expect("taken"));
    journal.flush().expect("flushed");
    let crashed = crashed_copy(dir.path());
    let path = segments(crashed.path()).remove(0);
    let mut bytes = std::fs::read(&path).expect("readable");
    let find = |needle: &str| bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
    let (second, third) = (find("{\"seq\":2").expect("there"), find("{\"seq\":3").expect("there"));
    bytes[second] ^= 1;
    bytes[third] ^= 1;
    std::fs::write(&path, &bytes).expect("written");

    let (journal, recovery) = open(crashed.path(), &settings(), &["kafka"]);
    assert_eq!((recovery.next, recovery.raised, recovery.torn_bytes), (at(1, 6), None, 0));
    let [hole] = &recovery.holes[..] else { panic!("one hole: {recovery:?}") };
    assert_eq!((hole.first, hole.records, hole.offset), (at(1, 2), 2, second as u64 - 32));
    journal.lane().append(&record(6)).expect("taken");
    journal.flush().expect("flushed");
    let mut tail = journal.tail("kafka");
    let all = drain(&mut tail);
    let seqs: Vec<u64> = all.iter().map(|(position, _)| position.seq).collect();
    assert_eq!(seqs, [1, 4, 5, 6, 7], "damage does not block the line");
    assert!(all[3].1.contains(r#""reason":"damage","count":2,"first":"1/2""#), "{}", all[3].1);
    assert_eq!(journal.status().damage_seen, 1);
    assert_eq!(read_folder(crashed.path()).1, recovery.holes, "from outside the same is seen");

    let again = crashed_copy(crashed.path());
    let (_, recovery) = open(again.path(), &settings(), &["kafka"]);
    assert_eq!(recovery.holes, [], "once told is enough");
}

#[test]
fn a_reader_follows_a_living_journal_from_outside() {
    let dir = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(dir.path(), &JournalSettings { segment_size: Bytes(2_000), ..settings() }, &[]);
    let lane = journal.lane();
    let mut reader = Reader::open(dir.path()).expect("readable");
    let mut seen = 0;
    for n in 1..=100 {
        lane.append(&record(n)).expect("taken");
        journal.flush().expect("flushed");
        while let Some(item) = reader.next().expect("reads") {
            let Item::Record(entry) = item else { panic!("no damage here: {item:?}") };
            seen += 1;
            assert_eq!(entry.position, at(1, seen));
        }
        assert_eq!((seen, reader.unfinished()), (n as u64, 0));
    }
    assert!(segments(dir.path()).len() > 3);
}

#[test]
fn positions_read_back_what_they_print() {
    assert_eq!(at(3, 1041).to_string(), "3/1041");
    assert_eq!("3/1041".parse(), Ok(at(3, 1041)));
    assert!("1041".parse::<Position>().is_err());
}

fn start(disk: &faulty::FaultyDisk, settings: &JournalSettings) -> Journal {
    Journal::start(Arc::new(disk.clone()), settings, "panel", &["kafka"]).expect("the journal starts").0
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

#[test]
fn after_a_failed_fdatasync_nothing_is_claimed_any_more() {
    let disk = faulty::FaultyDisk::default();
    let journal = start(&disk, &settings());
    let lane = journal.lane();
    assert_eq!(block_on(lane.append_durable(&record(1))), Ok(()));
    disk.set(|faults| faults.sync_error = true);
    assert_eq!(block_on(lane.append_durable(&record(2))), Err(Refused::Poisoned));
    disk.set(|faults| faults.sync_error = false);
    assert_eq!(lane.accepts(), Err(Refused::Poisoned));
    assert_eq!(lane.append(&record(3)), Err(Refused::Poisoned), "trying again would prove nothing");
    assert_eq!(block_on(lane.append_committed(&record(4))), Err(Refused::Poisoned));
    assert_eq!(drain(&mut journal.tail("kafka")).len(), 1, "what was claimed before is still delivered");
    assert!(journal.status().poisoned.is_some_and(|what| what.starts_with("fdatasync")));
    assert!(journal.close().is_err());

    disk.process_crash();
    let (again, recovery) = Journal::start(Arc::new(disk), &settings(), "panel", &["kafka"]).expect("starts");
    assert_eq!((recovery.next, recovery.raised), (at(2, 1), Some(Raised::Poisoned)));
    assert_eq!(block_on(again.lane().append_durable(&record(5))), Ok(()));
}

#[test]
fn a_full_disk_is_survived_without_a_restart() {
    let disk = faulty::FaultyDisk::default();
    let journal = start(&disk, &settings());
    let lane = journal.lane();
    assert_eq!(block_on(lane.append_committed(&record(1))), Ok(()));
    disk.set(|faults| faults.room = Some(50));
    assert_eq!(block_on(lane.append_committed(&record(2))), Err(Refused::Full), "there is room for half of it");
    assert_eq!(journal.status().lost, [(LossReason::DiskFull, 1)]);
    disk.set(|faults| faults.room = None);
    wait_until("the journal notices by itself", || !journal.status().full);
    assert_eq!(block_on(lane.append_committed(&record(3))), Ok(()));
    let all = drain(&mut journal.tail("kafka"));
    let seqs: Vec<u64> = all.iter().map(|(position, _)| position.seq).collect();
    assert_eq!(seqs, [1, 2, 3], "half a record is taken back, and its number used again");
    assert!(all[1].1.contains(r#""reason":"disk_full","count":1"#), "{}", all[1].1);
}

#[test]
fn a_batch_is_one_write_and_only_those_who_ask_pay_for_a_sync() {
    let disk = faulty::FaultyDisk::default();
    let journal = start(&disk, &JournalSettings { linger: Span::millis(200), ..settings() });
    let lane = journal.lane();
    // The writer has looked once and naps.
    thread::sleep(Duration::from_millis(50));
    let (writes, syncs) = disk.calls();
    (0..1_000).for_each(|n| lane.append(&record(n)).expect("taken"));
    journal.flush().expect("flushed");
    let (after, synced) = disk.calls();
    assert!(after - writes <= 2, "{} writes for a thousand records", after - writes);
    assert_eq!(synced, syncs, "sync = os asks for none");
    block_on(lane.append_durable(&record(0))).expect("durable");
    assert_eq!(disk.calls().1, syncs + 1);
}

#[test]
fn a_lane_that_fills_up_does_not_wait_for_the_nap_to_end() {
    let journal = start(&faulty::FaultyDisk::default(), &JournalSettings { linger: Span::secs(3600), ..settings() });
    let lane = journal.lane();
    let large = format!(r#"{{"n":"{}"}}"#, "x".repeat(lane::PLENTY / 4)).into_bytes();
    // More than a lane takes: none is lost, since each fourth wakes the writer.
    for n in 1..=40 {
        lane.append(&large).expect("taken");
        if n % 4 == 0 {
            wait_until("they are written", || journal.status().next == at(1, n + 1));
        }
    }
}

#[test]
fn with_sync_disk_a_sink_sees_only_what_a_power_cut_leaves() {
    let disk = faulty::FaultyDisk::default();
    let journal = start(&disk, &JournalSettings { sync: Sync::Disk, ..settings() });
    let lane = journal.lane();
    (1..=5).for_each(|n| lane.append(&record(n)).expect("taken"));
    wait_until("it is synced although nobody waits", || journal.status().next == at(1, 6));
    assert_eq!(drain(&mut journal.tail("kafka")).len(), 5);
    disk.power_cut(0, 0);
    let (_, recovery) = Journal::start(Arc::new(disk), &settings(), "panel", &["kafka"]).expect("starts");
    assert_eq!((recovery.next, recovery.raised), (at(1, 6), None));
}

#[test]
fn those_who_wait_learn_that_the_journal_was_closed() {
    let journal = start(&faulty::FaultyDisk::default(), &settings());
    let lane = journal.lane();
    let waiting = lane.append_committed(&record(1));
    journal.close().expect("closed");
    assert_eq!(block_on(waiting), Ok(()), "what was handed over before is written");
    assert_eq!(block_on(lane.append_committed(&record(2))), Err(Refused::Closed));
    assert_eq!(journal.close(), Ok(()), "closing twice is no error");
    assert_eq!(journal.flush(), Ok(()), "there is nothing left to wait for");
}
