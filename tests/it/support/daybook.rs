//! The real binary in a folder of its own, its log and its records.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(feature = "kafka")]
use daybook::journal::Position;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::eventually;

/// A debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration in the making: one listener `app`, one worker, records to a file.
pub(crate) struct Setup {
    dir: TempDir,
    top: String,
    listener: String,
    rest: String,
    log: &'static str,
}

/// A running Daybook; killed when dropped. Whatever a test does, it must not panic.
pub(crate) struct Daybook {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    addresses: BTreeMap<String, SocketAddr>,
    unix: bool,
    filter: &'static str,
    dir: TempDir,
}

// === impl Setup ===

impl Setup {
    pub(crate) fn new(upstream: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self {
            dir,
            top: "workers = 1\n".to_owned(),
            listener: format!("upstream = \"{upstream}\"\n"),
            rest: String::new(),
            log: "info",
        }
    }

    /// What is logged, as in `DAYBOOK_LOG`.
    pub(crate) fn log(mut self, filter: &'static str) -> Self {
        self.log = filter;
        self
    }

    /// The test's folder, for certificates and sockets.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A line above all tables.
    pub(crate) fn top(mut self, line: &str) -> Self {
        self.top.push_str(line);
        self.top.push('\n');
        self
    }

    /// A line within `[listener.app]`; dotted keys are welcome.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.listener.push_str(line);
        self.listener.push('\n');
        self
    }

    /// More tables.
    pub(crate) fn rest(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self.rest.push('\n');
        self
    }

    fn text(&self) -> String {
        let (dir, Self { top, listener, rest, .. }) = (self.dir.path().display(), self);
        let bind = if listener.contains("bind = ") { "" } else { "bind = \"127.0.0.1:0\"\n" };
        format!(
            "data = \"{dir}/data\"\n{top}\n[sink.file]\npath = \"{dir}/records.ndjson\"\n\n\
             [listener.app]\n{bind}{listener}\n{rest}"
        )
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(self) -> Daybook {
        std::fs::write(self.dir.path().join("daybook.toml"), self.text()).expect("written");
        let log = Arc::<Mutex<String>>::default();
        let (child, reader) = spawn(self.dir.path(), self.log, &log);
        let unix = self.listener.contains("bind = \"unix:");
        let addresses = BTreeMap::new();
        let mut daybook = Daybook { child, log, reader, addresses, unix, filter: self.log, dir: self.dir };
        daybook.await_listeners();
        daybook
    }
}

/// Runs the binary in `dir`; its log is read as it comes.
fn spawn(dir: &Path, filter: &str, log: &Arc<Mutex<String>>) -> (Child, Option<JoinHandle<()>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["run", "--config"])
        .arg(dir.join("daybook.toml"))
        .env("DAYBOOK_LOG", filter)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let (stderr, shared) = (child.stderr.take().expect("piped"), Arc::clone(log));
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = shared.lock().expect("no panic");
            log.push_str(&line);
            log.push('\n');
        }
    });
    (child, Some(reader))
}

// === impl Daybook ===

impl Daybook {
    /// With the defaults for everything.
    pub(crate) fn before(upstream: &str) -> Self {
        Setup::new(upstream).start()
    }

    /// Runs it once more on the same folder, after it has ended. The log begins anew.
    pub(crate) fn restart(&mut self) {
        self.log.lock().expect("no panic").clear();
        self.addresses.clear();
        (self.child, self.reader) = spawn(self.dir.path(), self.filter, &self.log);
        self.await_listeners();
    }

    /// Ends it as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended();
    }

    fn await_listeners(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            for line in log.lines().filter(|line| line.contains(": listening ")) {
                let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
                let (Some(name), Some(address)) = (field("listener="), field("address=")) else { continue };
                if self.unix {
                    return;
                }
                self.addresses.insert(name, address.parse().expect("an address"));
            }
            if !self.addresses.is_empty() {
                return;
            }
            let ended = self.child.try_wait().expect("our child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "Daybook does not listen ({ended:?}); its log:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where the listener `app` is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses["app"]
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("daybook.toml")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// How it ended, after a signal.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let status = eventually("it ends", PATIENCE, || self.child.try_wait().expect("our child"));
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        status
    }

    /// A line of `/proc/…/status` in KiB.
    pub(crate) fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("such a field");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Every record so far.
    pub(crate) fn all_records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("records.ndjson")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("records are JSON")).collect()
    }

    /// The records for which `is` holds, once there are `count`.
    pub(crate) fn records(&self, what: &str, count: usize, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.all_records();
            let found: Vec<Value> = all.iter().filter(|record| is(record)).cloned().collect();
            if found.len() >= count {
                assert!(found.len() == count, "{count} records of {what} were expected, there are more: {found:#?}");
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{count} records of {what} were expected, {} came; all records:\n{}",
                found.len(),
                all.iter().map(|r| format!("{r}\n")).collect::<String>()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What `daybook tail` prints, with these arguments more: each line whole and as it stands.
    pub(crate) fn tail(&self, arguments: &[&str]) -> Vec<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_daybook"))
            .args(["tail", "--data"])
            .arg(self.dir.path().join("data"))
            .args(arguments)
            .output()
            .expect("the binary runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the journal can be read as a whole: {told}");
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    /// Every record of the journal.
    pub(crate) fn journal(&self) -> Vec<Value> {
        self.tail(&[]).iter().map(|line| serde_json::from_str(line).expect("records are JSON")).collect()
    }

    /// The journal's records as they stand, by place.
    #[cfg(feature = "kafka")]
    pub(crate) fn journal_by_place(&self) -> Vec<(Position, Vec<u8>)> {
        let place = |line: String| {
            let record: Value = serde_json::from_str(&line).expect("records are JSON");
            let epoch = record["epoch"].as_u64().and_then(|n| u32::try_from(n).ok()).expect("an epoch");
            (Position { epoch, seq: record["seq"].as_u64().expect("a number") }, line.into_bytes())
        };
        self.tail(&[]).into_iter().map(place).collect()
    }

    /// The outcome of the one exchange with this path.
    pub(crate) fn outcome(&self, path: &str) -> Value {
        let is = |r: &Value| r["path"] == path && r["stage"] == "response_complete";
        self.records(&format!("the outcome of {path}"), 1, is).remove(0)
    }

    /// The outcome's `end`.
    pub(crate) fn end(&self, path: &str) -> String {
        self.outcome(path)["end"].as_str().unwrap_or_default().to_owned()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Daybook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- Daybook's log ---\n{log}---");
        } else {
            assert!(!log.contains("panicked"), "Daybook panicked:\n{log}");
        }
    }
}
